/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What Linux's kernel TLS does and does not do, where Weir builds on it. A kernel that changes one
 * of these fails here, by the fact's name, and not somewhere in the middle of a transfer.
 *
 * No TLS library takes part: both ends get the same keys. Needs a kernel with TLS: tests/vm/vm.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <linux/tls.h>

#include "engine/io_uring.h"

#ifndef TCP_ULP
#define TCP_ULP 31
#endif
#ifndef SOL_TLS
#define SOL_TLS 282
#endif

#define ARRAY_COUNT(a)   (sizeof(a) / sizeof((a)[0]))
#define TYPE_ALERT       21
#define TYPE_HANDSHAKE   22
#define TYPE_DATA        23
#define RECORD_BYTES_MAX 16384
/* Of a TLS 1.3 record: its header, the inner type and the tag. */
#define RECORD_OVERHEAD 22
#define PATIENCE_MS     5000
#define QUIET_MS        200
#define STAMPS_MAX      256
#define SENDS_MAX       10000
#define FIRST_SEQUENCE  5
#define OPT_ID_TCP      (1u << 16)

struct suite {
    const char *name;
    uint16_t version, cipher;
};

static const struct suite aes_128_13 = {"TLS 1.3 AES-128-GCM", TLS_1_3_VERSION,
                                        TLS_CIPHER_AES_GCM_128};
static const struct suite aes_128_12 = {"TLS 1.2 AES-128-GCM", TLS_1_2_VERSION,
                                        TLS_CIPHER_AES_GCM_128};

union keys {
    struct tls_crypto_info info;
    struct tls12_crypto_info_aes_gcm_128 aes_128;
    struct tls12_crypto_info_aes_gcm_256 aes_256;
    struct tls12_crypto_info_chacha20_poly1305 chacha20;
};

/* A connection: what `client` sends, `server` receives. */
struct link {
    int client, server;
};

static bool kernel_is_at_least(unsigned wanted_major, unsigned wanted_minor)
{
    struct utsname name;
    unsigned major, minor;

    assert_int_equal(uname(&name), 0);
    assert_int_equal(sscanf(name.release, "%u.%u", &major, &minor), 2);
    return major > wanted_major || (major == wanted_major && minor >= wanted_minor);
}

static void link_open(struct link *link)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(listener >= 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    link->client = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(link->client, (struct sockaddr *)&address, length), 0);
    link->server = accept(listener, NULL, NULL);
    assert_true(link->server >= 0);
    close(listener);
    /* A test that waits for what does not come fails instead. */
    struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
    for (int i = 0; i < 2; i++) {
        int end = i ? link->server : link->client;
        assert_int_equal(setsockopt(end, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
        assert_int_equal(setsockopt(end, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)), 0);
    }
}

static void link_close(struct link *link)
{
    if (link->client >= 0)
        close(link->client);
    close(link->server);
}

/* Returns the size of the keys. Another generation gives other keys; the sequence starts at 5. */
static socklen_t keys_make(union keys *keys, const struct suite *suite, uint8_t generation)
{
    memset(keys, 0x40 + generation, sizeof(*keys));
    keys->info.version = suite->version;
    keys->info.cipher_type = suite->cipher;
    switch (suite->cipher) {
    case TLS_CIPHER_AES_GCM_128:
        memset(keys->aes_128.rec_seq, 0, sizeof(keys->aes_128.rec_seq));
        keys->aes_128.rec_seq[7] = FIRST_SEQUENCE;
        return sizeof(keys->aes_128);
    case TLS_CIPHER_AES_GCM_256:
        return sizeof(keys->aes_256);
    default:
        return sizeof(keys->chacha20);
    }
}

/* 0 or errno. */
static int keys_set(int socket, int direction, const struct suite *suite, uint8_t generation)
{
    union keys keys;
    socklen_t size = keys_make(&keys, suite, generation);

    return setsockopt(socket, SOL_TLS, direction, &keys, size) ? errno : 0;
}

static int ulp_attach(int socket)
{
    return setsockopt(socket, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) ? errno : 0;
}

/* Skips the test where the kernel has no TLS, unless WEIR_KTLS says that it must. */
static void link_open_ulp(struct link *link)
{
    link_open(link);
    int error = ulp_attach(link->client);
    if (error == ENOENT && !getenv("WEIR_KTLS")) {
        link_close(link);
        printf("SKIP: ktls: this kernel has no TLS\n");
        skip();
    }
    assert_int_equal(error, 0);
    assert_int_equal(ulp_attach(link->server), 0);
}

static void link_open_tls(struct link *link, const struct suite *suite)
{
    link_open_ulp(link);
    assert_int_equal(keys_set(link->client, TLS_TX, suite, 0), 0);
    assert_int_equal(keys_set(link->server, TLS_RX, suite, 0), 0);
}

static void pattern_fill(uint8_t *bytes, size_t length, size_t offset)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)((offset + i) * 31 >> 3);
}

static void send_pattern(int socket, size_t length, size_t offset)
{
    uint8_t bytes[4 * RECORD_BYTES_MAX];

    assert_true(length <= sizeof(bytes));
    pattern_fill(bytes, length, offset);
    assert_int_equal(send(socket, bytes, length, 0), length);
}

static void expect_pattern(int socket, size_t length, size_t offset)
{
    uint8_t bytes[4 * RECORD_BYTES_MAX], wanted[4 * RECORD_BYTES_MAX];

    assert_true(length <= sizeof(bytes));
    pattern_fill(wanted, length, offset);
    for (size_t done = 0; done < length;) {
        ssize_t count = recv(socket, bytes + done, length - done, 0);
        assert_true(count > 0);
        done += (size_t)count;
    }
    assert_memory_equal(bytes, wanted, length);
}

static ssize_t send_record(int socket, uint8_t type, const void *bytes, size_t length)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(1)];
    } control = {.header = {CMSG_LEN(1), SOL_TLS, TLS_SET_RECORD_TYPE}};
    struct iovec part = {(void *)bytes, length};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control.room)};

    *CMSG_DATA(&control.header) = type;
    return sendmsg(socket, &message, 0);
}

/* Returns the record's type, 0 if none is told. */
static uint8_t receive_record(int socket, void *bytes, size_t room, ssize_t *length)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(1)];
    } control;
    struct iovec part = {bytes, room};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};

    *length = recvmsg(socket, &message, 0);
    struct cmsghdr *header = *length < 0 ? NULL : CMSG_FIRSTHDR(&message);
    return header && header->cmsg_level == SOL_TLS && header->cmsg_type == TLS_GET_RECORD_TYPE
               ? *CMSG_DATA(header)
               : 0;
}

static uint64_t sequence_of(int socket)
{
    struct tls12_crypto_info_aes_gcm_128 keys;
    socklen_t length = sizeof(keys);
    uint64_t sequence = 0;

    assert_int_equal(getsockopt(socket, SOL_TLS, TLS_TX, &keys, &length), 0);
    for (size_t i = 0; i < sizeof(keys.rec_seq); i++)
        sequence = sequence << 8 | keys.rec_seq[i];
    return sequence;
}

static void expect_nothing_for_a_while(int socket)
{
    struct pollfd entry = {.fd = socket, .events = POLLIN};

    assert_int_equal(poll(&entry, 1, QUIET_MS), 0);
}

/* ---- attaching */

static void ulp_wants_a_connection_and_comes_once(void **state)
{
    (void)state;
    struct link link;

    link_open_ulp(&link);
    int alone = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(ulp_attach(alone), ENOTCONN);
    assert_int_equal(ulp_attach(link.client), EEXIST);
    close(alone);
    link_close(&link);
}

static void ulp_without_keys_passes_plaintext(void **state)
{
    (void)state;
    struct link link;

    link_open_ulp(&link);
    send_pattern(link.client, 1000, 0);
    expect_pattern(link.server, 1000, 0);
    link_close(&link);
}

static void each_suite_carries_bytes(void **state)
{
    (void)state;
    static const struct suite suites[] = {
        {"TLS 1.2 AES-128-GCM", TLS_1_2_VERSION, TLS_CIPHER_AES_GCM_128},
        {"TLS 1.2 AES-256-GCM", TLS_1_2_VERSION, TLS_CIPHER_AES_GCM_256},
        {"TLS 1.2 CHACHA20-POLY1305", TLS_1_2_VERSION, TLS_CIPHER_CHACHA20_POLY1305},
        {"TLS 1.3 AES-128-GCM", TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_128},
        {"TLS 1.3 AES-256-GCM", TLS_1_3_VERSION, TLS_CIPHER_AES_GCM_256},
        {"TLS 1.3 CHACHA20-POLY1305", TLS_1_3_VERSION, TLS_CIPHER_CHACHA20_POLY1305},
    };

    for (size_t i = 0; i < ARRAY_COUNT(suites); i++) {
        struct link link;

        print_message("%s\n", suites[i].name);
        link_open_tls(&link, &suites[i]);
        assert_int_equal(keys_set(link.server, TLS_TX, &suites[i], 1), 0);
        assert_int_equal(keys_set(link.client, TLS_RX, &suites[i], 1), 0);
        send_pattern(link.client, 40000, 0);
        expect_pattern(link.server, 40000, 0);
        send_pattern(link.server, 100, 7);
        expect_pattern(link.client, 100, 7);
        link_close(&link);
    }
}

/* Keys may come while plaintext is still on its way out. */
static void attach_with_plaintext_in_flight(void **state)
{
    (void)state;
    struct link link;

    link_open_ulp(&link);
    send_pattern(link.client, 5000, 0);
    assert_int_equal(keys_set(link.client, TLS_TX, &aes_128_13, 0), 0);
    send_pattern(link.client, 5000, 5000);
    expect_pattern(link.server, 5000, 0);
    assert_int_equal(keys_set(link.server, TLS_RX, &aes_128_13, 0), 0);
    expect_pattern(link.server, 5000, 5000);
    link_close(&link);
}

/* ---- sending */

static void sequence_counts_records(void **state)
{
    (void)state;
    struct link link;

    link_open_tls(&link, &aes_128_13);
    assert_int_equal(sequence_of(link.client), FIRST_SEQUENCE);
    for (size_t i = 0; i < 40; i++)
        send_pattern(link.client, 100, i * 100);
    assert_int_equal(sequence_of(link.client), FIRST_SEQUENCE + 40);
    send_pattern(link.client, 2 * RECORD_BYTES_MAX + 1, 4000);
    assert_int_equal(sequence_of(link.client), FIRST_SEQUENCE + 43);
    expect_pattern(link.server, 4000 + 2 * RECORD_BYTES_MAX + 1, 0);
    link_close(&link);
}

static void sendfile_encrypts(void **state)
{
    (void)state;
    enum { FILE_BYTES = 50000 };
    uint8_t bytes[FILE_BYTES];
    struct link link;
    off_t offset = 0;

    link_open_tls(&link, &aes_128_13);
    int file = memfd_create("file", MFD_CLOEXEC);
    pattern_fill(bytes, sizeof(bytes), 0);
    assert_int_equal(write(file, bytes, sizeof(bytes)), FILE_BYTES);
    assert_int_equal(sendfile(link.client, file, &offset, FILE_BYTES), FILE_BYTES);
    assert_int_equal(sequence_of(link.client), FIRST_SEQUENCE + 4);
    expect_pattern(link.server, FILE_BYTES, 0);
    close(file);
    link_close(&link);
}

static void zerocopy_is_refused(void **state)
{
    (void)state;
    struct link link;
    int on = 1;

    link_open_tls(&link, &aes_128_13);
    assert_int_equal(setsockopt(link.client, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)), 0);
    assert_int_equal(send(link.client, "x", 1, MSG_ZEROCOPY), -1);
    assert_int_equal(errno, EOPNOTSUPP);
    assert_int_equal(send(link.client, "x", 1, MSG_WAITALL), -1);
    assert_int_equal(errno, EOPNOTSUPP);
    link_close(&link);
}

static uint64_t acknowledged_bytes(int socket)
{
    struct tcp_info info;
    socklen_t length = sizeof(info);

    assert_int_equal(getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
    return info.tcpi_bytes_acked;
}

static uint64_t queued_bytes(int socket)
{
    int queued;

    assert_int_equal(ioctl(socket, SIOCOUTQ, &queued), 0);
    return (uint64_t)queued;
}

/* With a reader that does not read. A last record that fits in part is with TLS for the rest. */
static void siocoutq_counts_the_wire_bytes_that_tcp_has(void **state)
{
    (void)state;
    enum { WRITE_BYTES = 1000 };
    static const uint8_t bytes[WRITE_BYTES];
    struct link link;
    uint64_t taken = 0;
    ssize_t count = 0;

    link_open_tls(&link, &aes_128_13);
    uint64_t before = acknowledged_bytes(link.client); /* the SYN counts */
    for (int i = 0; i < SENDS_MAX && count >= 0; i++) {
        count = send(link.client, bytes, sizeof(bytes), MSG_DONTWAIT);
        taken += count < 0 ? 0 : (uint64_t)count;
    }
    assert_int_equal(count, -1);
    assert_int_equal(errno, EAGAIN);
    usleep(QUIET_MS * 1000);
    uint64_t wire = taken + RECORD_OVERHEAD * (sequence_of(link.client) - FIRST_SEQUENCE);
    uint64_t told = acknowledged_bytes(link.client) - before + queued_bytes(link.client);
    assert_in_range(told, wire - WRITE_BYTES - RECORD_OVERHEAD, wire);
    assert_true(told > taken);
    link_close(&link);
}

/* What waits for the rest of its record is nowhere: not in the count, not in the sequence. */
static void siocoutq_lacks_what_waits_for_more(void **state)
{
    (void)state;
    uint8_t bytes[100];
    struct link link;

    link_open_tls(&link, &aes_128_13);
    uint64_t before = acknowledged_bytes(link.client);
    pattern_fill(bytes, sizeof(bytes), 0);
    assert_int_equal(send(link.client, bytes, sizeof(bytes), MSG_MORE), sizeof(bytes));
    expect_nothing_for_a_while(link.server);
    assert_int_equal(queued_bytes(link.client), 0);
    assert_int_equal(acknowledged_bytes(link.client), before);
    assert_int_equal(sequence_of(link.client), FIRST_SEQUENCE);
    send_pattern(link.client, 1, 100);
    expect_pattern(link.server, 101, 0);
    assert_int_equal(sequence_of(link.client), FIRST_SEQUENCE + 1);
    link_close(&link);
}

/* ---- stamps */

static int stamps_set(int socket, unsigned flags)
{
    flags |= SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_TSONLY;
    if (kernel_is_at_least(6, 2))
        flags |= OPT_ID_TCP;
    return setsockopt(socket, SOL_SOCKET, SO_TIMESTAMPING, &flags, sizeof(flags)) ? errno : 0;
}

static void stamp_by_message_is_refused(void **state)
{
    (void)state;
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(uint32_t))];
    } control = {.header = {CMSG_LEN(sizeof(uint32_t)), SOL_SOCKET, SO_TIMESTAMPING}};
    uint32_t wanted = SOF_TIMESTAMPING_TX_ACK;
    struct iovec part = {"x", 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control.room)};
    struct link link;

    link_open_tls(&link, &aes_128_13);
    assert_int_equal(stamps_set(link.client, 0), 0);
    memcpy(CMSG_DATA(&control.header), &wanted, sizeof(wanted));
    assert_int_equal(sendmsg(link.client, &message, 0), -1);
    assert_int_equal(errno, EINVAL);
    link_close(&link);
}

/* The id of the next ACK stamp in the error queue. */
static uint32_t next_ack_stamp(int socket)
{
    for (unsigned i = 0; i < STAMPS_MAX; i++) {
        char control[256];
        struct msghdr message = {.msg_control = control, .msg_controllen = sizeof(control)};
        struct pollfd entry = {.fd = socket};

        assert_int_equal(poll(&entry, 1, PATIENCE_MS), 1);
        assert_true(recvmsg(socket, &message, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0);
        for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header;
             header = CMSG_NXTHDR(&message, header)) {
            struct sock_extended_err error;

            if (header->cmsg_level != IPPROTO_IP || header->cmsg_type != IP_RECVERR)
                continue;
            memcpy(&error, CMSG_DATA(header), sizeof(error));
            assert_int_equal(error.ee_origin, SO_EE_ORIGIN_TIMESTAMPING);
            if (error.ee_info == SCM_TSTAMP_ACK)
                return error.ee_data;
        }
    }
    fail_msg("no ACK stamp");
    return 0;
}

/* There may be several, one or more for each record; the last is that of the last byte. */
static void expect_ack_of_byte(int socket, uint32_t wanted)
{
    uint32_t id = 0;

    for (unsigned i = 0; i < STAMPS_MAX && id != wanted; i++) {
        id = next_ack_stamp(socket);
        assert_true(id <= wanted);
    }
    assert_int_equal(id, wanted);
}

static void stamps_by_option_count_wire_bytes(void **state)
{
    (void)state;
    struct link link;
    uint32_t wire = 0;

    link_open_tls(&link, &aes_128_13);
    assert_int_equal(stamps_set(link.client, SOF_TIMESTAMPING_TX_ACK), 0);
    send_pattern(link.client, 1000, 0);
    expect_pattern(link.server, 1000, 0);
    wire += 1000 + RECORD_OVERHEAD;
    expect_ack_of_byte(link.client, wire - 1);
    send_pattern(link.client, 40000, 0);
    expect_pattern(link.server, 40000, 0);
    wire += 40000 + 3 * RECORD_OVERHEAD;
    expect_ack_of_byte(link.client, wire - 1);
    link_close(&link);
}

/* ---- control records, the end and new keys */

static void control_record_is_not_lost_on_recv(void **state)
{
    (void)state;
    static const uint8_t alert[] = {1, 0};
    uint8_t bytes[100];
    struct link link;
    ssize_t length;

    link_open_tls(&link, &aes_128_13);
    send_pattern(link.client, 50, 0);
    assert_int_equal(send_record(link.client, TYPE_ALERT, alert, sizeof(alert)), sizeof(alert));
    send_pattern(link.client, 50, 50);
    expect_pattern(link.server, 50, 0);
    assert_int_equal(recv(link.server, bytes, sizeof(bytes), 0), -1);
    assert_int_equal(errno, EIO);
    assert_int_equal(receive_record(link.server, bytes, sizeof(bytes), &length), TYPE_ALERT);
    assert_int_equal(length, sizeof(alert));
    assert_memory_equal(bytes, alert, sizeof(alert));
    assert_int_equal(receive_record(link.server, bytes, sizeof(bytes), &length), TYPE_DATA);
    assert_int_equal(length, 50);
    link_close(&link);
}

static void close_sends_no_alert(void **state)
{
    (void)state;
    uint8_t bytes[100];
    struct link link;
    ssize_t length;

    link_open_tls(&link, &aes_128_13);
    send_pattern(link.client, 10, 0);
    close(link.client);
    link.client = -1;
    expect_pattern(link.server, 10, 0);
    assert_int_equal(receive_record(link.server, bytes, sizeof(bytes), &length), 0);
    assert_int_equal(length, 0);
    link_close(&link);
}

static void rekey_is_refused_before_6_14(void **state)
{
    (void)state;
    struct link link;

    link_open_tls(&link, &aes_128_12);
    assert_int_equal(keys_set(link.client, TLS_TX, &aes_128_12, 1), EBUSY);
    link_close(&link);
    link_open_tls(&link, &aes_128_13);
    if (!kernel_is_at_least(6, 14)) {
        assert_int_equal(keys_set(link.client, TLS_TX, &aes_128_13, 1), EBUSY);
        assert_int_equal(keys_set(link.server, TLS_RX, &aes_128_13, 1), EBUSY);
    }
    link_close(&link);
}

/* Of the same socket: between the KeyUpdate and the new key there is an error, and silence in poll. */
static void rekey_after_a_key_update(void **state)
{
    (void)state;
    static const uint8_t key_update[] = {24, 0, 0, 1, 0};
    uint8_t bytes[100];
    struct link link;
    ssize_t length;

    link_open_tls(&link, &aes_128_13);
    if (!kernel_is_at_least(6, 14)) {
        link_close(&link);
        printf("SKIP: rekey_after_a_key_update: no new keys before Linux 6.14\n");
        skip();
    }
    send_pattern(link.client, 50, 0);
    assert_int_equal(send_record(link.client, TYPE_HANDSHAKE, key_update, sizeof(key_update)),
                     sizeof(key_update));
    assert_int_equal(keys_set(link.client, TLS_TX, &aes_128_13, 1), 0);
    assert_int_equal(sequence_of(link.client), FIRST_SEQUENCE);
    send_pattern(link.client, 50, 50);
    expect_pattern(link.server, 50, 0);
    assert_int_equal(receive_record(link.server, bytes, sizeof(bytes), &length), TYPE_HANDSHAKE);
    assert_int_equal(length, sizeof(key_update));
    assert_int_equal(recv(link.server, bytes, sizeof(bytes), 0), -1);
    assert_int_equal(errno, EKEYEXPIRED);
    expect_nothing_for_a_while(link.server);
    assert_int_equal(keys_set(link.server, TLS_RX, &aes_128_13, 1), 0);
    expect_pattern(link.server, 50, 50);
    link_close(&link);
}

/* ---- io_uring */

static void ring_open(struct io_uring *ring, unsigned flags)
{
    int error = io_uring_queue_init(8, ring, flags);

    if (error == -ENOSYS || error == -EPERM) {
        printf("SKIP: ktls: io_uring cannot be had here\n");
        skip();
    }
    assert_int_equal(error, 0);
}

static struct io_uring_cqe *next_completion(struct io_uring *ring)
{
    struct __kernel_timespec patience = {.tv_sec = PATIENCE_MS / 1000};
    struct io_uring_cqe *cqe = NULL;

    assert_int_equal(io_uring_wait_cqe_timeout(ring, &cqe, &patience), 0);
    return cqe;
}

/* Multishot recvmsg tells each record's type beside its bytes, in order. */
static void multishot_receive_tells_types_in_line(void **state)
{
    (void)state;
    enum { BUFFERS = 8, BUFFER_BYTES = 512 };
    static char buffers[BUFFERS][BUFFER_BYTES];
    static const struct {
        uint8_t type;
        const char *bytes;
    } records[] = {
        {TYPE_DATA, "data"}, {TYPE_ALERT, "\1"}, {TYPE_HANDSHAKE, "ticket"}, {TYPE_DATA, "end"}};
    struct msghdr message = {.msg_controllen = CMSG_SPACE(1)};
    struct io_uring ring;
    struct link link;

    ring_open(&ring, 0);
    link_open_tls(&link, &aes_128_13);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
    io_uring_prep_provide_buffers(sqe, buffers, BUFFER_BYTES, BUFFERS, 1, 0);
    sqe = io_uring_get_sqe(&ring);
    io_uring_prep_recvmsg_multishot(sqe, link.server, &message, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = 1;
    assert_int_equal(io_uring_submit(&ring), 2);
    assert_int_equal(next_completion(&ring)->res, 0);
    io_uring_cq_advance(&ring, 1);

    for (size_t i = 0; i < ARRAY_COUNT(records); i++) {
        size_t length = strlen(records[i].bytes);

        assert_int_equal(send_record(link.client, records[i].type, records[i].bytes, length),
                         length);
        struct io_uring_cqe *cqe = next_completion(&ring);
        assert_true(cqe->res > 0);
        assert_true(cqe->flags & IORING_CQE_F_MORE);
        char *buffer = buffers[cqe->flags >> IORING_CQE_BUFFER_SHIFT];
        struct io_uring_recvmsg_out *out = io_uring_recvmsg_validate(buffer, cqe->res, &message);
        assert_non_null(out);
        assert_int_equal(io_uring_recvmsg_payload_length(out, cqe->res, &message), length);
        assert_memory_equal(io_uring_recvmsg_payload(out, &message), records[i].bytes, length);
        struct cmsghdr *header = io_uring_recvmsg_cmsg_firsthdr(out, &message);
        assert_non_null(header);
        assert_int_equal(header->cmsg_type, TLS_GET_RECORD_TYPE);
        assert_int_equal(*CMSG_DATA(header), records[i].type);
        io_uring_cq_advance(&ring, 1);
    }
    io_uring_queue_exit(&ring);
    link_close(&link);
}

static void io_uring_command_brings_stamps(void **state)
{
    (void)state;
    struct io_uring ring;
    struct link link;
    bool acknowledged = false;

    if (!kernel_is_at_least(6, 18)) {
        printf(
            "SKIP: io_uring_command_brings_stamps: no TX_TIMESTAMP command in a mixed ring before "
            "Linux 6.18\n");
        skip();
    }
    ring_open(&ring, WEIR__SETUP_CQE_MIXED);
    link_open_tls(&link, &aes_128_13);
    assert_int_equal(stamps_set(link.client, SOF_TIMESTAMPING_TX_ACK), 0);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
    weir__io_uring_prepare_stamp_command(sqe, link.client);
    assert_int_equal(io_uring_submit(&ring), 1);
    send_pattern(link.client, 1000, 0);
    expect_pattern(link.server, 1000, 0);
    for (unsigned i = 0; i < STAMPS_MAX && !acknowledged; i++) {
        struct io_uring_cqe *cqe = next_completion(&ring);
        assert_true(cqe->flags & IORING_CQE_F_MORE);
        acknowledged = cqe->flags >> WEIR__STAMP_TYPE_SHIFT == SCM_TSTAMP_ACK &&
                       cqe->res == 1000 + RECORD_OVERHEAD - 1;
        io_uring_cq_advance(&ring, 2); /* it has 32 bytes */
    }
    assert_true(acknowledged);
    io_uring_queue_exit(&ring);
    link_close(&link);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ulp_wants_a_connection_and_comes_once),
        cmocka_unit_test(ulp_without_keys_passes_plaintext),
        cmocka_unit_test(each_suite_carries_bytes),
        cmocka_unit_test(attach_with_plaintext_in_flight),
        cmocka_unit_test(sequence_counts_records),
        cmocka_unit_test(sendfile_encrypts),
        cmocka_unit_test(zerocopy_is_refused),
        cmocka_unit_test(siocoutq_counts_the_wire_bytes_that_tcp_has),
        cmocka_unit_test(siocoutq_lacks_what_waits_for_more),
        cmocka_unit_test(stamp_by_message_is_refused),
        cmocka_unit_test(stamps_by_option_count_wire_bytes),
        cmocka_unit_test(control_record_is_not_lost_on_recv),
        cmocka_unit_test(close_sends_no_alert),
        cmocka_unit_test(rekey_is_refused_before_6_14),
        cmocka_unit_test(rekey_after_a_key_update),
        cmocka_unit_test(multishot_receive_tells_types_in_line),
        cmocka_unit_test(io_uring_command_brings_stamps),
    };

    return cmocka_run_group_tests_name("ktls_facts", tests, NULL, NULL);
}
