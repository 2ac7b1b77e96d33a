/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TESTS_KTLS_FIXTURE_H
#define WEIR_TESTS_KTLS_FIXTURE_H

/* Connections with kernel TLS and fixed keys, for the tests of engines. */

#include "support/engine_fixture.h"

#define KTLS_MS UINT64_C(1000000)
/* The first record's. */
#define KTLS_SEQUENCE 5

/* Keys of which those of another seed differ in everything. */
struct weir__tls_keys ktls_keys(uint16_t version, enum weir__tls_cipher cipher, unsigned seed);

/* Whether this kernel, and this engine, has it; skips the test if not. */
bool ktls_here(struct engine_fixture *f);
void ktls_needed(struct engine_fixture *f);
/* A number of /proc/net/tls_stat. */
unsigned long long ktls_stat(const char *name);

/* A connection with stamps; the client's seed is 1, the server's 2. */
struct ktls_pair {
    struct pair pair;
};
/* Without TLS yet; skips the test where there is none. */
void ktls_plain_open(struct ktls_pair *k, struct engine_fixture *f);
/* Both directions of both sides. */
void ktls_attach(struct ktls_pair *k, uint16_t version, enum weir__tls_cipher cipher);
void ktls_attach_one(struct engine_fixture *f, struct weir__socket *socket,
                     enum weir__tls_direction direction, const struct weir__tls_keys *keys);
void ktls_pair_open(struct ktls_pair *k, struct engine_fixture *f, uint16_t version,
                    enum weir__tls_cipher cipher);

/* A RECEIVE into `bytes`; NULL: only counted. */
void ktls_receive_init(struct record *record, struct engine_fixture *f, struct weir__socket *socket,
                       uint8_t *bytes, size_t room);
/* Submits a SEND of a record of that type, 0: application data. */
void ktls_send(struct record *record, const void *bytes, size_t length, uint8_t type);
void ktls_send_all(struct record *record, const void *bytes, size_t length, uint8_t type);
/* Submits sends until one stays in flight, since the peer does not read; returns what was taken. */
size_t ktls_send_until_blocked(struct record *record, const uint8_t *bytes, size_t length,
                               unsigned flags);

/* What came, as runs of one record type. */
struct ktls_events {
    struct {
        uint8_t type;
        size_t length;
    } runs[64];
    unsigned count;
};
void ktls_events_keep(struct ktls_events *events, struct record *receive);

#endif
