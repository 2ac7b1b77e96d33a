/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TESTS_TLS_TOY_INTERNAL_H
#define WEIR_TESTS_TLS_TOY_INTERNAL_H

/* What the toy's two halves share; see tls_toy.h. */

#include "tls/record.h"
#include "tls/vendor/shared.h"

#define TLS_TOY_RANDOM 32
#define TLS_TOY_TICKET 24 /* the key's name, and 8 random bytes */

enum tls_toy_state {
    TLS_TOY_START,
    TLS_TOY_WAIT_CLIENT_HELLO,
    TLS_TOY_WAIT_KEY_EXCHANGE,
    TLS_TOY_WAIT_CLIENT_FINISHED,
    TLS_TOY_WAIT_SERVER_HELLO,
    TLS_TOY_WAIT_CERTIFICATE,
    TLS_TOY_WAIT_HELLO_DONE,
    TLS_TOY_WAIT_SERVER_FINISHED,
    TLS_TOY_DONE,
    TLS_TOY_FAILED,
};

struct weir__tls_vendor_context {
    bool server;
    uint16_t version_min, version_max;
    unsigned ciphers; /* bits, never 0 */
    enum weir__tls_peer_certificate peer;
    bool certificate; /* clients: there is one to show */
    struct weir__tls_ticket_keys tickets;
    uint8_t alpn[WEIR__TLS_ALPN_WIRE_MAX];
    size_t alpn_length;
    unsigned handshakes; /* that were not freed */
};

struct weir__tls_handshake {
    struct weir__tls_vendor_context *context;
    weir__tls_emit_fn emit;
    void *emit_context;
    enum tls_toy_state state;
    const char *failure;

    uint8_t client_random[TLS_TOY_RANDOM], server_random[TLS_TOY_RANDOM];
    uint64_t transcript; /* of all messages up to now */
    uint16_t version;    /* 0 = not known yet */
    const struct weir__tls_suite *suite;
    uint8_t shared[WEIR__TLS_HASH_MAX];
    struct weir__tls_protector seal, open; /* of the handshake, and of tickets after it */
    bool sealing, opening;
    struct weir__tls_secret tx, rx; /* of what comes after it */

    bool resumed, peer_certificate;
    char alpn[WEIR__TLS_ALPN_BYTES_MAX + 1];
    char server_name[WEIR__TLS_NAME_MAX];
    bool offers, has_ticket;
    uint8_t offered[TLS_TOY_TICKET], ticket[TLS_TOY_TICKET];
};

/* As in struct weir__tls_vendor. */
int tls_toy_advance(struct weir__tls_handshake *handshake, const uint8_t *record, size_t length);
int tls_toy_post_record(struct weir__tls_handshake *handshake, const uint8_t *record,
                        size_t length);

#endif
