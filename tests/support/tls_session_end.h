/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TESTS_TLS_SESSION_END_H
#define WEIR_TESTS_TLS_SESSION_END_H

/* One end of a TLS connection without a stream: a session of the toy library that writes down its events. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tls/session.h"

#define SESSION_WIRE_MAX (256 * 1024)
#define SESSION_LOG_MAX  4096

struct session_end {
    struct weir__tls_session session;
    struct weir__tls_vendor_context *context;
    uint8_t wire[SESSION_WIRE_MAX]; /* what it has sent; the peer has read `wire_read` of it */
    size_t wire_length, wire_read;
    char log[SESSION_LOG_MAX]; /* events with a space behind each; what is too long is cut off */
    size_t log_length;
    uint64_t data_bytes, data_hash;
    unsigned events;    /* all there were */
    bool refuses_data;  /* `plain` says that no more is wanted */
    bool control_fails; /* for lack of memory */
    bool opened_fails;  /* the same */
};

struct session_options {
    uint16_t version;
    enum weir__tls_cipher cipher;
    bool tickets;
};

/* Makes a context and a session. Returns what weir__tls_session_init does. */
int session_end_init(struct session_end *end, bool server, const struct session_options *options);
void session_end_dispose(struct session_end *end);
/* Hands `end` what its peer has sent and it has not read, in one piece. Returns the session's answer. */
int session_end_feed(struct session_end *end, struct session_end *peer);
/* The whole handshake of two ends. Returns 0 or the first error. */
int session_ends_connect(struct session_end *client, struct session_end *server);
/* The log since the last call. Valid until the next event. */
const char *session_end_log(struct session_end *end);

/* An authentic record of the peer's, by `from`'s keys: its content as given. Returns the length. */
size_t session_end_craft(struct session_end *from, uint8_t type, const void *content, size_t length,
                         uint8_t *record);

#endif
