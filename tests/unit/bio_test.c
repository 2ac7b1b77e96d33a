/* SPDX-License-Identifier: Apache-2.0 */
/* weir/bio.h against a plain OpenSSL peer over loopback, in user space and on kernel TLS. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <linux/net_tstamp.h>
#include <linux/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <weir/bio.h>
#include <weir/error.h>

#include "support/memory_fail.h"

#define MIB          (1 << 20)
#define PATIENCE_MS  10000
#define STAMPS_MAX   256
#define FILE_BYTES   300000
#define MEMLOCK_TINY (64 << 10)

/* How a session is made. */
struct setting {
    int version;        /* TLS1_2_VERSION or TLS1_3_VERSION */
    const char *cipher; /* NULL: what they like */
    bool ktls;          /* SSL_OP_ENABLE_KTLS on the side of the BIO */
    int buffer_bytes;   /* SO_SNDBUF and SO_RCVBUF; 0: the kernel's */
    const struct weir_bio_options *options;
};

/* A TLS connection whose server writes through a weir_bio. */
struct session {
    int server_socket, client_socket;
    SSL_CTX *server_context, *client_context;
    SSL *server, *client;
    BIO *bio;
    uint8_t *sent, *received;
};

static uint8_t *pattern; /* MIB bytes that do not repeat soon */

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void wait_ms(int ms)
{
    poll(NULL, 0, ms);
}

static void wait_readable(int descriptor)
{
    struct pollfd poller = {.fd = descriptor, .events = POLLIN};
    assert_int_equal(poll(&poller, 1, PATIENCE_MS), 1);
}

/* ---- sockets */

static void set_buffers(int descriptor, int bytes)
{
    if (bytes == 0)
        return;
    setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
}

/* Two ends of a TCP connection, both non-blocking; small writes leave at once. */
static void connect_pair(int *server, int *client, int buffer_bytes)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(listener >= 0);
    set_buffers(listener, buffer_bytes);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    *client = socket(AF_INET, SOCK_STREAM, 0);
    set_buffers(*client, buffer_bytes);
    assert_int_equal(connect(*client, (struct sockaddr *)&address, length), 0);
    *server = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    assert_true(*server >= 0);
    close(listener);
    assert_int_equal(BIO_socket_nbio(*client, 1), 1);
    assert_int_equal(BIO_set_tcp_ndelay(*server, 1), 1);
    assert_int_equal(BIO_set_tcp_ndelay(*client, 1), 1);
}

/* What the peer's kernel has received: the truth about bytes on the wire. */
static uint64_t bytes_received(int descriptor)
{
    struct tcp_info info = {0};
    socklen_t length = sizeof(info);
    assert_int_equal(getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
    return info.tcpi_bytes_received;
}

static bool kernel_has_tls(void)
{
    int server, client;
    connect_pair(&server, &client, 0);
    bool has = setsockopt(server, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) == 0;
    close(server);
    close(client);
    return has;
}

static void need_ktls(const char *name)
{
    if (kernel_has_tls())
        return;
    printf("SKIP: %s: this kernel has no TLS\n", name);
    skip();
}

static void need_stamps(BIO *bio, const char *name)
{
    struct weir_bio_info info;
    weir_bio_get_info(bio, &info);
    if (info.stamps)
        return;
    printf("SKIP: %s: this kernel gives no transmit stamps\n", name);
    skip();
}

/* ---- TLS sessions */

static EVP_PKEY *key;
static X509 *certificate;

static void make_certificate(void)
{
    key = EVP_EC_gen("P-256");
    certificate = X509_new();
    assert_non_null(key);
    assert_non_null(certificate);
    X509_NAME *name = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1, 0);
    X509_set_issuer_name(certificate, name);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
}

static SSL_CTX *context_new(const SSL_METHOD *method, const struct setting *setting)
{
    SSL_CTX *context = SSL_CTX_new(method);

    assert_non_null(context);
    SSL_CTX_set_min_proto_version(context, setting->version);
    SSL_CTX_set_max_proto_version(context, setting->version);
    SSL_CTX_set_mode(context, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (setting->cipher && setting->version == TLS1_3_VERSION)
        assert_int_equal(SSL_CTX_set_ciphersuites(context, setting->cipher), 1);
    else if (setting->cipher)
        assert_int_equal(SSL_CTX_set_cipher_list(context, setting->cipher), 1);
    return context;
}

static void shake_hands(struct session *s)
{
    uint64_t deadline_ns = now_ns() + PATIENCE_MS * UINT64_C(1000000);
    int server = 0, client = 0;

    while (server != 1 || client != 1) {
        client = SSL_do_handshake(s->client);
        server = SSL_do_handshake(s->server);
        assert_true(now_ns() < deadline_ns);
    }
}

static void session_open(struct session *s, const struct setting *setting)
{
    memset(s, 0, sizeof(*s));
    connect_pair(&s->server_socket, &s->client_socket, setting->buffer_bytes);
    s->server_context = context_new(TLS_server_method(), setting);
    s->client_context = context_new(TLS_client_method(), setting);
    assert_int_equal(SSL_CTX_use_certificate(s->server_context, certificate), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(s->server_context, key), 1);
    if (setting->ktls)
        SSL_CTX_set_options(s->server_context, SSL_OP_ENABLE_KTLS);
    s->server = SSL_new(s->server_context);
    s->client = SSL_new(s->client_context);
    s->bio = weir_bio_new(s->server_socket, setting->options);
    assert_non_null(s->bio);
    SSL_set_bio(s->server, s->bio, s->bio);
    SSL_set_fd(s->client, s->client_socket);
    SSL_set_accept_state(s->server);
    SSL_set_connect_state(s->client);
    shake_hands(s);
    s->received = malloc(MIB);
    assert_non_null(s->received);
}

static void session_close(struct session *s)
{
    SSL_free(s->server);
    SSL_free(s->client);
    SSL_CTX_free(s->server_context);
    SSL_CTX_free(s->client_context);
    close(s->server_socket);
    close(s->client_socket);
    free(s->received);
    ERR_clear_error();
}

/* Writes with one SSL and reads with the other until `length` bytes, at most MIB, have passed. */
static void pass(struct session *s, SSL *from, SSL *to, size_t length)
{
    uint64_t deadline_ns = now_ns() + PATIENCE_MS * UINT64_C(1000000);
    size_t got = 0;
    int written = 0;

    memset(s->received, 0, length);
    while (got < length || written <= 0) {
        if (written <= 0) {
            written = SSL_write(from, pattern, (int)length);
            if (written <= 0)
                assert_int_equal(SSL_get_error(from, written), SSL_ERROR_WANT_WRITE);
        }
        int n = SSL_read(to, s->received + got, (int)(length - got));
        if (n <= 0)
            assert_int_equal(SSL_get_error(to, n), SSL_ERROR_WANT_READ);
        else
            got += (size_t)n;
        assert_true(now_ns() < deadline_ns);
    }
    assert_int_equal(written, length);
    assert_memory_equal(s->received, pattern, length);
}

/* The same from the BIO's side, stamped. Returns the wire offset of the end. */
static uint64_t pass_stamped(struct session *s, size_t length, size_t announced)
{
    assert_int_equal(weir_bio_stamp_start(SSL_get_wbio(s->server), announced), 0);
    pass(s, s->server, s->client, length);
    return weir_bio_stamp_stop(s->bio);
}

/* Reads stamps until one says that `end` was reached; returns how many there were, all in `stamps`. */
static unsigned wait_for_stamp(BIO *bio, enum weir_stage stage, uint64_t end,
                               struct weir_bio_stamp *stamps)
{
    uint64_t deadline_ns = now_ns() + PATIENCE_MS * UINT64_C(1000000);
    struct pollfd poller = {.fd = (int)BIO_get_fd(bio, NULL)};
    unsigned count = 0;

    for (;;) {
        unsigned got = weir_bio_read_stamps(bio, &stamps[count], 1);
        if (got == 0) {
            poll(&poller, 1, 100);
            assert_true(now_ns() < deadline_ns);
            continue;
        }
        assert_true(stamps[count].offset <= weir_bio_wire_bytes(bio));
        if (stamps[count].stage == stage && stamps[count].offset >= end)
            return count + 1;
        if (count < STAMPS_MAX - 1)
            count++;
    }
}

static const struct setting setting_1_3 = {.version = TLS1_3_VERSION};
static const struct setting setting_1_2 = {.version = TLS1_2_VERSION};

/* ---- as a BIO */

static void bytes_pass_both_ways(void **state)
{
    static const size_t lengths[] = {1, 100, 16384, 16385, 100000, MIB};
    const struct setting small = {.version = TLS1_3_VERSION, .buffer_bytes = 8192};
    const struct setting *settings[] = {&setting_1_3, &setting_1_2, &small};

    (void)state;
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        struct session s;
        session_open(&s, settings[i]);
        for (size_t l = 0; l < sizeof(lengths) / sizeof(lengths[0]); l++) {
            pass(&s, s.server, s.client, lengths[l]);
            pass(&s, s.client, s.server, lengths[l]);
        }
        assert_int_equal(weir_bio_wire_bytes(s.bio), bytes_received(s.client_socket));
        session_close(&s);
    }
}

static void says_when_to_try_again(void **state)
{
    int server, client;
    char byte;

    (void)state;
    connect_pair(&server, &client, 8192);
    BIO *bio = weir_bio_new(server, NULL);
    assert_non_null(bio);
    assert_int_equal(BIO_read(bio, &byte, 1), -1);
    assert_true(BIO_should_retry(bio) && BIO_should_read(bio) && !BIO_should_write(bio));
    uint64_t taken = 0;
    int n;
    while ((n = BIO_write(bio, pattern, MIB)) > 0) {
        assert_false(BIO_should_retry(bio));
        taken += (uint64_t)n;
    }
    assert_int_equal(n, -1);
    assert_true(BIO_should_retry(bio) && BIO_should_write(bio) && !BIO_should_read(bio));
    assert_int_equal(weir_bio_wire_bytes(bio), taken);
    assert_int_equal(shutdown(client, SHUT_WR), 0);
    wait_ms(20);
    assert_int_equal(BIO_eof(bio), 0);
    assert_int_equal(BIO_read(bio, &byte, 1), 0);
    assert_false(BIO_should_retry(bio));
    assert_int_equal(BIO_eof(bio), 1);
    close(client); /* with unread data: a reset */
    wait_ms(20);
    assert_int_equal(BIO_write(bio, "x", 1), -1);
    assert_false(BIO_should_retry(bio));
    BIO_free(bio);
    close(server);
}

static void unknown_controls_return_0(void **state)
{
    static const int known[] = {BIO_CTRL_EOF, BIO_CTRL_GET_CLOSE, BIO_CTRL_SET_CLOSE,
                                BIO_CTRL_FLUSH, BIO_C_GET_FD};
    int server, client;

    (void)state;
    connect_pair(&server, &client, 0);
    BIO *bio = weir_bio_new(server, NULL);
    for (int control = 0; control < 300; control++) {
        bool is_known = false;
        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
            is_known = is_known || known[i] == control;
        if (!is_known)
            assert_int_equal(BIO_ctrl(bio, control, 0, NULL), 0);
    }
    assert_int_equal(BIO_get_ktls_send(bio), 0);
    assert_int_equal(BIO_get_ktls_recv(bio), 0);
    assert_int_equal(BIO_pending(bio), 0);
    assert_int_equal(BIO_wpending(bio), 0);
    BIO_free(bio);
    close(server);
    close(client);
}

static void known_controls(void **state)
{
    struct weir_bio_options options;
    int server, client, descriptor = -1;

    (void)state;
    connect_pair(&server, &client, 0);
    weir_bio_options_init(&options);
    options.close_descriptor = true;
    BIO *bio = weir_bio_new(server, &options);
    assert_int_equal(BIO_get_fd(bio, &descriptor), server);
    assert_int_equal(descriptor, server);
    assert_ptr_equal(BIO_find_type(bio, BIO_TYPE_DESCRIPTOR), bio);
    assert_int_equal(BIO_flush(bio), 1);
    assert_int_equal(BIO_get_close(bio), BIO_CLOSE);
    assert_int_equal(BIO_set_close(bio, BIO_NOCLOSE), 1);
    assert_int_equal(BIO_get_close(bio), BIO_NOCLOSE);
    assert_null(BIO_dup_chain(bio));
    BIO_set_close(bio, BIO_CLOSE);
    BIO_free(bio);
    assert_int_equal(close(server), -1);
    assert_int_equal(errno, EBADF);
    close(client);
}

static void wants_a_connected_tcp_socket(void **state)
{
    int pair[2];
    int lone = socket(AF_INET, SOCK_STREAM, 0);

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_null(weir_bio_new(pair[0], NULL));
    assert_null(weir_bio_new(lone, NULL));
    assert_null(weir_bio_new(-1, NULL));
    close(pair[0]);
    close(pair[1]);
    close(lone);
}

static void out_of_memory(void **state)
{
    struct weir_bio_options options;
    int server, client;

    (void)state;
    connect_pair(&server, &client, 0);
    weir_bio_options_init(&options);
    options.zerocopy_bytes_max = MIB;
    size_t live = memory_fail_live();
    for (unsigned nth = 1;; nth++) {
        memory_fail_at(nth);
        BIO *bio = weir_bio_new(server, &options);
        memory_fail_at(0);
        if (bio) {
            BIO_free(bio);
            assert_int_equal(nth, 3);
            break;
        }
    }
    assert_int_equal(memory_fail_live(), live);
    close(server);
    close(client);
}

/* ---- delivery */

/* The last byte of each SSL_write is stamped, and nothing long before it. */
static void stamps_the_end_of_a_write(void **state)
{
    static const size_t lengths[] = {1, 5000, 16384, 20000, 131072, 131072 + 5000, MIB};
    const struct setting *settings[] = {&setting_1_3, &setting_1_2};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct weir_bio_stamp stamps[STAMPS_MAX];
        struct session s;
        session_open(&s, settings[i]);
        need_stamps(s.bio, "stamps_the_end_of_a_write");
        pass(&s, s.server, s.client, 1000);
        wait_ms(20);
        assert_int_equal(weir_bio_read_stamps(s.bio, stamps, STAMPS_MAX), 0);
        for (size_t l = 0; l < sizeof(lengths) / sizeof(lengths[0]); l++) {
            uint64_t begin = weir_bio_wire_bytes(s.bio), began_ns = now_ns();
            uint64_t end = pass_stamped(&s, lengths[l], lengths[l]);
            assert_int_equal(end, bytes_received(s.client_socket));
            unsigned count = wait_for_stamp(s.bio, WEIR_STAGE_DELIVERED, end, stamps);
            for (unsigned n = 0; n < count; n++) {
                assert_in_range(stamps[n].at_ns, began_ns, now_ns());
                assert_in_range(stamps[n].offset, begin + lengths[l], end);
            }
        }
        session_close(&s);
    }
}

/* Without a length each record is stamped. */
static void stamps_every_send(void **state)
{
    struct weir_bio_stamp stamps[STAMPS_MAX];
    struct session s;

    (void)state;
    session_open(&s, &setting_1_3);
    need_stamps(s.bio, "stamps_every_send");
    uint64_t begin = weir_bio_wire_bytes(s.bio);
    uint64_t end = pass_stamped(&s, 4 * 16384, 0);
    unsigned count = wait_for_stamp(s.bio, WEIR_STAGE_DELIVERED, end, stamps);
    bool early = false;
    for (unsigned n = 0; n < count; n++)
        early = early || stamps[n].offset <= begin + 3 * (16384 + 22);
    assert_true(early);
    session_close(&s);
}

/* The kernel's keys have 32 bits. Counting 12 GiB that were never sent changes the rest alone. */
static void offsets_have_64_bits(void **state)
{
    const uint64_t before = UINT64_C(3) << 32;
    struct weir_bio_stamp stamps[STAMPS_MAX];
    int server, client;

    (void)state;
    connect_pair(&server, &client, 0);
    BIO *bio = weir_bio_new(server, NULL);
    need_stamps(bio, "offsets_have_64_bits");
    weir_bio_count_file(bio, before);
    assert_int_equal(weir_bio_stamp_start(bio, 100), 0);
    assert_int_equal(BIO_write(bio, pattern, 100), 100);
    assert_int_equal(weir_bio_stamp_stop(bio), before + 100);
    unsigned last = wait_for_stamp(bio, WEIR_STAGE_DELIVERED, before + 100, stamps) - 1;
    assert_int_equal(stamps[last].offset, before + 100);
    BIO_free(bio);
    close(server);
    close(client);
}

static void counts_what_is_acknowledged(void **state)
{
    int server, client;
    uint64_t acked = 1;

    (void)state;
    /* The client's end, whose SYN is counted by the kernel, and with something sent before. */
    connect_pair(&client, &server, 0);
    assert_int_equal(send(server, "before", 6, 0), 6);
    BIO *bio = weir_bio_new(server, NULL);
    assert_int_equal(weir_bio_acked_bytes(bio, &acked), 0);
    assert_int_equal(acked, 0);
    assert_int_equal(BIO_write(bio, pattern, 1000), 1000);
    for (int i = 0; i < 100 && acked < 1000; i++) {
        wait_ms(10);
        assert_int_equal(weir_bio_acked_bytes(bio, &acked), 0);
    }
    assert_int_equal(acked, 1000);
    assert_int_equal(shutdown(server, SHUT_WR), 0);
    wait_ms(60);
    assert_int_equal(weir_bio_acked_bytes(bio, &acked), 0);
    assert_int_equal(acked, 1000);
    BIO_free(bio);
    close(server);
    close(client);
}

/* ---- the owner's own flags and control messages */

struct owner {
    int flags;
    bool stamp;
    unsigned calls;
    uint64_t next_offset;
    uint8_t record_type;
};

static void owner_on_send(void *context, struct weir_bio_send *send)
{
    struct owner *owner = context;

    owner->calls++;
    owner->next_offset = send->offset + send->length;
    owner->record_type = send->record_type;
    send->flags |= owner->flags;
    if (!owner->stamp)
        return;
    const uint32_t bits = SOF_TIMESTAMPING_TX_ACK;
    struct cmsghdr *header = send->control;
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SO_TIMESTAMPING;
    header->cmsg_len = CMSG_LEN(sizeof(bits));
    memcpy(CMSG_DATA(header), &bits, sizeof(bits));
    send->control_length = CMSG_SPACE(sizeof(bits));
}

static void owner_adds_flags_and_control(void **state)
{
    struct owner owner = {.stamp = true};
    struct weir_bio_options options;
    struct weir_bio_stamp stamps[STAMPS_MAX];
    int server, client;
    char bytes[16];

    (void)state;
    connect_pair(&server, &client, 0);
    weir_bio_options_init(&options);
    options.on_send = owner_on_send;
    options.context = &owner;
    BIO *bio = weir_bio_new(server, &options);
    need_stamps(bio, "owner_adds_flags_and_control");
    assert_int_equal(BIO_write(bio, "12345", 5), 5);
    assert_int_equal(owner.calls, 1);
    assert_int_equal(owner.next_offset, 5);
    assert_int_equal(owner.record_type, 0);
    assert_int_equal(wait_for_stamp(bio, WEIR_STAGE_DELIVERED, 5, stamps), 1);
    assert_int_equal(recv(client, bytes, sizeof(bytes), 0), 5);
    owner = (struct owner){.flags = MSG_MORE};
    assert_int_equal(BIO_write(bio, "678", 3), 3);
    wait_ms(20);
    assert_int_equal(recv(client, bytes, sizeof(bytes), 0), -1); /* the kernel waits for more */
    owner = (struct owner){.flags = MSG_ZEROCOPY}; /* has no effect: no memory for it */
    assert_int_equal(BIO_write(bio, "9", 1), 1);
    wait_ms(20);
    assert_int_equal(recv(client, bytes, sizeof(bytes), 0), 4);
    assert_int_equal(owner.next_offset, 9);
    BIO_free(bio);
    close(server);
    close(client);
}

/* ---- zero copy */

static struct weir_bio_options zerocopy_options(size_t bytes_max)
{
    struct weir_bio_options options;
    weir_bio_options_init(&options);
    options.zerocopy_bytes_max = bytes_max;
    return options;
}

static void zerocopy_passes_and_releases(void **state)
{
    const struct weir_bio_options options = zerocopy_options(8 * 20480);
    const struct setting setting = {.version = TLS1_3_VERSION, .options = &options};
    struct weir_bio_stamp stamps[STAMPS_MAX];
    struct weir_bio_info info;
    struct session s;

    (void)state;
    session_open(&s, &setting);
    for (int i = 0; i < 4; i++)
        pass(&s, s.server, s.client, MIB);
    uint64_t end = pass_stamped(&s, MIB, MIB);
    if (weir_bio_get_info(s.bio, &info), info.stamps)
        wait_for_stamp(s.bio, WEIR_STAGE_DELIVERED, end, stamps);
    assert_int_equal(end, bytes_received(s.client_socket));
    for (int i = 0; i < 200; i++) {
        (void)weir_bio_read_stamps(s.bio, stamps, STAMPS_MAX);
        weir_bio_get_info(s.bio, &info);
        if (info.zerocopy_in_flight == 0)
            break;
        wait_ms(10);
    }
    assert_int_equal(info.zerocopy_in_flight, 0);
    assert_true(info.zerocopy_sends >= 8);
    assert_int_equal(info.zerocopy_copied, info.zerocopy_sends); /* as ever on loopback */
    pass(&s, s.server, s.client, 100);                           /* too short for it */
    struct weir_bio_info after;
    weir_bio_get_info(s.bio, &after);
    assert_int_equal(after.zerocopy_sends, info.zerocopy_sends);
    session_close(&s);
}

/* The kernel sends from the BIO's memory after the BIO is gone, and whoever gets memory then cannot
 * spoil it. */
static void zerocopy_outlives_the_bio(void **state)
{
    enum { BLOCK = 20480, POOL = 64 * BLOCK };
    const struct weir_bio_options options = zerocopy_options(POOL);
    struct weir_bio_info info;
    int server, client;
    size_t sent = 0, got = 0;

    (void)state;
    connect_pair(&server, &client, 0);
    int bytes = 16 << 10;
    setsockopt(client, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
    bytes = 4 * MIB;
    setsockopt(server, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    BIO *bio = weir_bio_new(server, &options);
    assert_non_null(bio);
    for (int i = 0; i < 32; i++) {
        int n = BIO_write(bio, pattern + sent, 16384);
        if (n <= 0)
            break;
        sent += (size_t)n;
    }
    weir_bio_get_info(bio, &info);
    assert_in_range(info.zerocopy_in_flight, 1, 64);
    BIO_free(bio);
    void *spoiler = mmap(NULL, POOL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(spoiler != MAP_FAILED);
    memset(spoiler, 0xee, POOL);
    uint8_t *received = malloc(MIB);
    for (int i = 0; i < 1000 && got < sent; i++) {
        ssize_t n = recv(client, received + got, MIB - got, 0);
        if (n > 0)
            got += (size_t)n;
        else
            wait_ms(5);
    }
    assert_int_equal(got, sent);
    assert_memory_equal(received, pattern, sent);
    free(received);
    munmap(spoiler, POOL);
    close(server);
    close(client);
}

/* Runs in a child that may lock next to no memory: ENOBUFS, and the kernel copies at once. */
static int pass_without_locked_memory(void)
{
    const struct weir_bio_options options = zerocopy_options(4 * MIB);
    const struct setting setting = {.version = TLS1_3_VERSION, .options = &options};
    const struct rlimit tiny = {MEMLOCK_TINY, MEMLOCK_TINY};
    struct weir_bio_info info;
    struct session s;

    if (setrlimit(RLIMIT_MEMLOCK, &tiny) != 0 || (getuid() == 0 && setuid(65534) != 0))
        return 77;
    session_open(&s, &setting);
    for (int i = 0; i < 4; i++)
        pass(&s, s.server, s.client, MIB);
    weir_bio_get_info(s.bio, &info);
    return info.zerocopy_refused > 0 && info.zerocopy_sends > 0 ? 0 : 1;
}

static void zerocopy_refused_is_copied_at_once(void **state)
{
    int status;
    pid_t child = fork();

    (void)state;
    assert_true(child >= 0);
    if (child == 0)
        _exit(pass_without_locked_memory());
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        printf("SKIP: zerocopy_refused_is_copied_at_once: cannot give up privileges here\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- kernel TLS */

/* OpenSSL 3.0 keeps AES-CCM with TLS 1.3 to itself. */
static const struct setting ktls_settings[] = {
    {TLS1_3_VERSION, "TLS_AES_128_GCM_SHA256", true, 0, NULL},
    {TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384", true, 0, NULL},
    {TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256", true, 0, NULL},
    {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256", true, 0, NULL},
    {TLS1_2_VERSION, "ECDHE-ECDSA-AES256-GCM-SHA384", true, 0, NULL},
    {TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305", true, 0, NULL},
    {TLS1_2_VERSION, "ECDHE-ECDSA-AES128-CCM", true, 0, NULL},
};

#define KTLS_SETTINGS (sizeof(ktls_settings) / sizeof(ktls_settings[0]))

/* Asked for on any kernel: where it is not to be had, all goes on in user space. */
static void ktls_or_not_bytes_pass(void **state)
{
    bool has = kernel_has_tls();

    (void)state;
    for (size_t i = 0; i < KTLS_SETTINGS; i++) {
        struct session s;
        session_open(&s, &ktls_settings[i]);
        struct weir_bio_info info;
        weir_bio_get_info(s.bio, &info);
        assert_int_equal(BIO_get_ktls_send(s.bio), info.ktls_send);
        if (!has)
            assert_false(info.ktls_send || info.ktls_receive);
        pass(&s, s.server, s.client, MIB);
        pass(&s, s.client, s.server, MIB);
        pass(&s, s.server, s.client, 1);
        assert_int_equal(weir_bio_wire_bytes(s.bio), bytes_received(s.client_socket));
        /* An alert, which is no application data. */
        assert_int_equal(SSL_shutdown(s.server), 0);
        wait_readable(s.client_socket);
        assert_int_equal(SSL_read(s.client, s.received, 1), 0);
        assert_int_equal(SSL_get_error(s.client, 0), SSL_ERROR_ZERO_RETURN);
        session_close(&s);
    }
}

/* Which directions OpenSSL hands over: sending always, receiving before 3.2 with TLS 1.2 alone. */
static void ktls_is_on(void **state)
{
    (void)state;
    need_ktls("ktls_is_on");
    for (size_t i = 0; i < KTLS_SETTINGS; i++) {
        struct session s;
        session_open(&s, &ktls_settings[i]);
        assert_int_equal(BIO_get_ktls_send(SSL_get_wbio(s.server)), 1);
        if (ktls_settings[i].version == TLS1_2_VERSION)
            assert_int_equal(BIO_get_ktls_recv(SSL_get_rbio(s.server)), 1);
        session_close(&s);
    }
}

static void ktls_small_buffers(void **state)
{
    struct setting setting = ktls_settings[0];

    (void)state;
    need_ktls("ktls_small_buffers");
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct session s;
        setting.version = version;
        setting.cipher = NULL;
        setting.buffer_bytes = 8192;
        session_open(&s, &setting);
        assert_int_equal(BIO_get_ktls_send(s.bio), 1);
        pass(&s, s.server, s.client, MIB);
        pass(&s, s.client, s.server, MIB);
        assert_int_equal(weir_bio_wire_bytes(s.bio), bytes_received(s.client_socket));
        session_close(&s);
    }
}

/* By the socket option, for the last record; the offset is the kernel's own count of records. */
static void ktls_stamps_the_end_of_a_write(void **state)
{
    static const size_t lengths[] = {1, 16384, 20000, 131072 + 5000, MIB};

    (void)state;
    need_ktls("ktls_stamps_the_end_of_a_write");
    for (size_t i = 0; i < KTLS_SETTINGS; i++) {
        struct weir_bio_stamp stamps[STAMPS_MAX];
        struct session s;
        session_open(&s, &ktls_settings[i]);
        assert_int_equal(BIO_get_ktls_send(s.bio), 1);
        pass(&s, s.server, s.client, 100000);
        wait_ms(10);
        assert_int_equal(weir_bio_read_stamps(s.bio, stamps, STAMPS_MAX), 0);
        for (size_t l = 0; l < sizeof(lengths) / sizeof(lengths[0]); l++) {
            uint64_t begin = weir_bio_wire_bytes(s.bio), began_ns = now_ns();
            uint64_t end = pass_stamped(&s, lengths[l], lengths[l]);
            assert_int_equal(end, bytes_received(s.client_socket));
            unsigned count = wait_for_stamp(s.bio, WEIR_STAGE_DELIVERED, end, stamps);
            for (unsigned n = 0; n < count; n++) {
                assert_in_range(stamps[n].at_ns, began_ns, now_ns());
                assert_in_range(stamps[n].offset, begin + 1, end);
            }
        }
        session_close(&s);
    }
}

static void ktls_sends_files(void **state)
{
    struct weir_bio_stamp stamps[STAMPS_MAX];
    struct session s;
    size_t sent = 0, got = 0;
    FILE *file = tmpfile();

    (void)state;
    need_ktls("ktls_sends_files");
    assert_int_equal(fwrite(pattern, 1, FILE_BYTES, file), FILE_BYTES);
    assert_int_equal(fflush(file), 0);
    session_open(&s, &ktls_settings[0]);
    assert_int_equal(weir_bio_stamp_start(s.bio, 0), 0);
    while (got < FILE_BYTES) {
        if (sent < FILE_BYTES) {
            ossl_ssize_t n =
                SSL_sendfile(s.server, fileno(file), (off_t)sent, FILE_BYTES - sent, 0);
            if (n > 0) {
                weir_bio_count_file(s.bio, (uint64_t)n);
                sent += (size_t)n;
            }
        }
        int n = SSL_read(s.client, s.received + got, (int)(FILE_BYTES - got));
        if (n > 0)
            got += (size_t)n;
    }
    uint64_t end = weir_bio_stamp_stop(s.bio);
    assert_memory_equal(s.received, pattern, FILE_BYTES);
    assert_int_equal(end, bytes_received(s.client_socket));
    wait_for_stamp(s.bio, WEIR_STAGE_DELIVERED, end, stamps);
    session_close(&s);
    fclose(file);
}

/* The owner's control messages would be EINVAL there, MSG_EOR and MSG_ZEROCOPY EOPNOTSUPP. */
static void ktls_leaves_out_what_the_kernel_refuses(void **state)
{
    struct owner owner = {.stamp = true, .flags = MSG_EOR | MSG_ZEROCOPY};
    struct weir_bio_options options = zerocopy_options(MIB);
    struct setting setting = ktls_settings[0];
    struct session s;

    (void)state;
    need_ktls("ktls_leaves_out_what_the_kernel_refuses");
    options.on_send = owner_on_send;
    options.context = &owner;
    setting.options = &options;
    session_open(&s, &setting);
    assert_int_equal(BIO_get_ktls_send(s.bio), 1);
    pass(&s, s.server, s.client, MIB);
    assert_int_equal(owner.record_type, SSL3_RT_APPLICATION_DATA);
    assert_int_equal(weir_bio_wire_bytes(s.bio), bytes_received(s.client_socket));
    assert_int_equal(SSL_shutdown(s.server), 0);
    assert_int_equal(owner.record_type, SSL3_RT_ALERT);
    session_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_pass_both_ways),
        cmocka_unit_test(says_when_to_try_again),
        cmocka_unit_test(unknown_controls_return_0),
        cmocka_unit_test(known_controls),
        cmocka_unit_test(wants_a_connected_tcp_socket),
        cmocka_unit_test(out_of_memory),
        cmocka_unit_test(stamps_the_end_of_a_write),
        cmocka_unit_test(stamps_every_send),
        cmocka_unit_test(offsets_have_64_bits),
        cmocka_unit_test(counts_what_is_acknowledged),
        cmocka_unit_test(owner_adds_flags_and_control),
        cmocka_unit_test(zerocopy_passes_and_releases),
        cmocka_unit_test(zerocopy_outlives_the_bio),
        cmocka_unit_test(zerocopy_refused_is_copied_at_once),
        cmocka_unit_test(ktls_or_not_bytes_pass),
        cmocka_unit_test(ktls_is_on),
        cmocka_unit_test(ktls_small_buffers),
        cmocka_unit_test(ktls_stamps_the_end_of_a_write),
        cmocka_unit_test(ktls_sends_files),
        cmocka_unit_test(ktls_leaves_out_what_the_kernel_refuses),
    };

    memory_fail_install();
    make_certificate();
    pattern = malloc(MIB);
    if (!pattern)
        return 1;
    for (uint32_t i = 0, x = 1; i < MIB; i++) {
        x = x * 1664525u + 1013904223u;
        pattern[i] = (uint8_t)(x >> 24);
    }
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    free(pattern);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return failures;
}
