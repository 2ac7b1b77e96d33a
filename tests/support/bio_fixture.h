/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TESTS_BIO_FIXTURE_H
#define WEIR_TESTS_BIO_FIXTURE_H

/* What the tests of weir/bio.h share: a TLS connection to a plain OpenSSL peer over loopback. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/ssl.h>

#include <weir/bio.h>

#define MIB         (1 << 20)
#define PATIENCE_MS 10000
#define STAMPS_MAX  256

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
    uint8_t *received; /* MIB bytes */
};

/* The context of owner_on_send, which adds flags, asks for a stamp by a control message, and takes notes. */
struct owner {
    int flags;
    bool stamp;
    unsigned calls;
    uint64_t next_offset;
    uint8_t record_type;
};

extern uint8_t *pattern; /* MIB bytes that do not repeat soon */

/* Once, around all tests. */
void bio_fixture_open(void);
void bio_fixture_close(void);

/* CLOCK_MONOTONIC. */
uint64_t now_ns(void);
void wait_ms(int ms);
void wait_readable(int descriptor);

/* Two ends of a TCP connection, both non-blocking; small writes leave at once. `buffer_bytes`: SO_SNDBUF
 * and SO_RCVBUF, or 0. */
void connect_pair(int *server, int *client, int buffer_bytes);

/* What the peer's kernel has received: the truth about bytes on the wire. */
uint64_t bytes_received(int descriptor);
bool kernel_has_tls(void);

/* Skips the test where the kernel gives no stamps. */
void need_stamps(BIO *bio, const char *name);
void session_open(struct session *s, const struct setting *setting);
void session_close(struct session *s);

/* Writes with one SSL and reads with the other until `length` bytes, at most MIB, have passed. */
void session_pass(struct session *s, SSL *from, SSL *to, size_t length);

/* The same from the BIO's side, stamped. Returns the wire offset of the end. */
uint64_t session_pass_stamped(struct session *s, size_t length, size_t announced);

/* Reads stamps until one says that `end` was reached; returns how many there were, all in `stamps`, which
 * has room for STAMPS_MAX. */
unsigned wait_for_stamp(BIO *bio, enum weir_stage stage, uint64_t end,
                        struct weir_bio_stamp *stamps);
void owner_on_send(void *context, struct weir_bio_send *send);
struct weir_bio_options zerocopy_options(size_t bytes_max);

#endif
