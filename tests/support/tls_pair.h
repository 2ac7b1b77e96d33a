/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TESTS_TLS_PAIR_H
#define WEIR_TESTS_TLS_PAIR_H

/*
 * What the conformance tests of TLS libraries share: certificates, and a client of one library with a
 * server of another, which talk in memory, record by record.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tls/record.h"
#include "tls/vendor.h"

#define TLS_WIRE_MAX    (256 * 1024)
#define TLS_LINES_MAX   32
#define TLS_SESSION_MAX 16384

/* Those that a suite makes, self-signed but for CHAIN. The names are those in the certificates. */
enum tls_identity {
    TLS_A,       /* a.example, 127.0.0.1, ::1 */
    TLS_B,       /* b.example, *.wild.example */
    TLS_EXPIRED, /* a.example, until an hour ago */
    TLS_CLIENT,  /* client.example */
    TLS_OTHER,   /* other.example */
    TLS_RSA,     /* a.example, RSA; with the openssl command alone, as the next */
    TLS_CHAIN,   /* a.example, by an intermediate CA, which is in the file, by TLS_ROOT */
    TLS_ROOT,
    TLS_IDENTITIES,
};

/* NULL: it could not be made. */
const struct weir__tls_certificate *tls_certificate(enum tls_identity identity);
/* Prints SKIP and leaves the test where the openssl command is missing. */
void tls_require(enum tls_identity identity, const char *test);
/* A file in the suite's folder, with this text. Returns its path, valid until the next call. */
const char *tls_file(const char *name, const char *text);

struct tls_pair;

struct tls_end {
    struct tls_pair *pair;
    const struct weir__tls_vendor *vendor;
    struct weir__tls_config config;
    struct weir__tls_handshake_options options;
    struct weir__tls_vendor_context *context;
    struct weir__tls_handshake *handshake;
    int state;         /* what `advance` returned last */
    size_t last_bytes; /* that the last `advance` emitted */
    uint8_t *wire;     /* what was emitted; the peer has read `wire_read` of it */
    size_t wire_length, wire_read;
    unsigned emits, emit_fails_at; /* the emit with this number has no memory; 0 = none */
    unsigned records_in;
    struct weir__tls_result result;
    char *lines[TLS_LINES_MAX]; /* of the key log */
    unsigned line_count;
};

struct tls_pair {
    struct tls_end client, server;
    struct weir__tls_ticket_keys tickets;
    uint8_t session[TLS_SESSION_MAX];
    size_t session_length;
    /* May change a record on its way to `to`; returns its length, which is not more than before. */
    size_t (*on_record)(struct tls_pair *pair, struct tls_end *to, uint8_t *record, size_t length);
    unsigned record_to_spoil;
    struct tls_end *end_to_spoil;
    bool spoiled;
};

typedef void (*tls_test_fn)(struct tls_pair *pair);

struct tls_test {
    const char *name;
    tls_test_fn run;
    bool alone; /* about one library: each is only paired with itself */
};

/* Runs each test on each pair of libraries; returns main's exit code. */
int tls_suite_run(const char *suite, const struct tls_test *tests, size_t count);

/*
 * All versions and ciphers, the server is TLS_A with tickets, the client trusts it and asks for
 * "a.example". A test is given one; on another thread it makes its own.
 */
struct tls_pair *tls_pair_new(const struct weir__tls_vendor *client,
                              const struct weir__tls_vendor *server);
void tls_pair_free(struct tls_pair *pair);

/* Makes both contexts and handshakes, by `config` and `options` of both ends. */
void tls_pair_open(struct tls_pair *pair);
/* Goes on until nothing moves any more. */
void tls_pair_run(struct tls_pair *pair);
/* Frees handshakes and contexts and forgets what was sent; `config`, `options` and the session stay. */
void tls_pair_close(struct tls_pair *pair);
/* Open, run; then both are done, their results taken and found to be each other's. */
void tls_pair_connect(struct tls_pair *pair);
/* Open, run; then neither is done, and the one that found out has said so to the other. */
void tls_pair_refuse(struct tls_pair *pair);
/* Sets versions of both. */
void tls_pair_versions(struct tls_pair *pair, uint16_t min, uint16_t max);
/* The client takes the tickets and saves the session for the next handshake. Returns its length. */
size_t tls_pair_save(struct tls_pair *pair);
/* Seals with one's keys and opens with the other's, both ways, after what is still unread. */
void tls_pair_exchange(struct tls_pair *pair);
/* Whether both libraries have it. */
bool tls_pair_has_version(const struct tls_pair *pair, uint16_t version);
bool tls_pair_has_cipher(const struct tls_pair *pair, enum weir__tls_cipher cipher);

void tls_tickets_fill(struct weir__tls_ticket_keys *tickets, unsigned count, uint8_t first);

#endif
