/* SPDX-License-Identifier: Apache-2.0 */
#include "support/bio_fixture.h"

#include <arpa/inet.h>
#include <linux/net_tstamp.h>
#include <linux/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/x509.h>

uint8_t *pattern;

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

void wait_ms(int ms)
{
    poll(NULL, 0, ms);
}

void wait_readable(int descriptor)
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
void connect_pair(int *server, int *client, int buffer_bytes)
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
uint64_t bytes_received(int descriptor)
{
    struct tcp_info info = {0};
    socklen_t length = sizeof(info);
    assert_int_equal(getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
    return info.tcpi_bytes_received;
}

bool kernel_has_tls(void)
{
    int server, client;
    connect_pair(&server, &client, 0);
    bool has = setsockopt(server, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) == 0;
    close(server);
    close(client);
    return has;
}

void need_stamps(BIO *bio, const char *name)
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

void session_open(struct session *s, const struct setting *setting)
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

void session_close(struct session *s)
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
void session_pass(struct session *s, SSL *from, SSL *to, size_t length)
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
uint64_t session_pass_stamped(struct session *s, size_t length, size_t announced)
{
    assert_int_equal(weir_bio_stamp_start(SSL_get_wbio(s->server), announced), 0);
    session_pass(s, s->server, s->client, length);
    return weir_bio_stamp_stop(s->bio);
}

/* Reads stamps until one says that `end` was reached; returns how many there were, all in `stamps`. */
unsigned wait_for_stamp(BIO *bio, enum weir_stage stage, uint64_t end,
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

/* ---- options */

void owner_on_send(void *context, struct weir_bio_send *send)
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

struct weir_bio_options zerocopy_options(size_t bytes_max)
{
    struct weir_bio_options options;
    weir_bio_options_init(&options);
    options.zerocopy_bytes_max = bytes_max;
    return options;
}

/* ---- around all tests */

void bio_fixture_open(void)
{
    make_certificate();
    pattern = malloc(MIB);
    assert_non_null(pattern);
    for (uint32_t i = 0, x = 1; i < MIB; i++) {
        x = x * 1664525u + 1013904223u;
        pattern[i] = (uint8_t)(x >> 24);
    }
}

void bio_fixture_close(void)
{
    free(pattern);
    X509_free(certificate);
    EVP_PKEY_free(key);
}
