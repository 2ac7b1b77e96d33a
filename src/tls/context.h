/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TLS_CONTEXT_H
#define WEIR_TLS_CONTEXT_H

/* What the TLS streams of one thread share: settings, certificates, and memory for records. */

#include <stdbool.h>
#include <stdint.h>

#include <weir/tls.h>

#include "tls/buffer.h"
#include "tls/record.h"
#include "tls/vendor.h"

/*
 * Bytes of the wire that all streams make before the engine waits, and gives buffers back with its completions. More
 * would fall out of the processor's cache between being made and being sent: with 100 connections of 128 KB each
 * that took half as much time again.
 */
#define WEIR__TLS_ROUND_BYTES_MAX (512u << 10)

/* Names of ciphers seen; there are no more than 3 for TLS 1.3 and 9 for 1.2. */
#define WEIR__TLS_CIPHER_NAMES_MAX 16

struct weir_tls_context {
    const struct weir__tls_vendor *vendor;
    struct weir__tls_vendor_context *vendor_context;
    const struct weir__tls_ciphers *ciphers; /* before the library's; NULL: none */
    unsigned references;                     /* the owner's and one for each stream */
    bool server;
    enum weir_tls_kernel kernel;
    uint32_t handshake_timeout_ms;
    uint32_t records_max;
    struct weir_tls_tickets *tickets; /* NULL: none */
    uint64_t tickets_generation;      /* that the library has */
    int key_log;                      /* descriptor; -1 = none */
    struct weir__tls_buffers buffers;
    uint64_t round;       /* weir__loop_waits when the next was counted */
    uint64_t round_bytes; /* made since */
    /* Copies that streams point to for as long as they live. */
    char cipher_names[WEIR__TLS_CIPHER_NAMES_MAX][WEIR__TLS_CIPHER_NAME_MAX];
    char alpn[WEIR__TLS_ALPN_MAX][WEIR__TLS_ALPN_BYTES_MAX + 1];
    unsigned cipher_name_count, alpn_count;
    uint8_t
        room[WEIR__TLS_PLAIN_MAX + WEIR__TLS_EXPAND_MAX]; /* an opened record, for one callback */
};

/* weir_tls_context_new with a library that is none of those compiled in: the simulation's. */
int weir__tls_context_new_with(struct weir_tls_context **context,
                               const struct weir__tls_vendor *vendor,
                               const struct weir_tls_options *options,
                               char complaint[WEIR_TLS_COMPLAINT_MAX]);

void weir__tls_context_hold(struct weir_tls_context *context);
/* A handshake begins: gives the library new ticket keys if there are any. */
void weir__tls_context_refresh(struct weir_tls_context *context);
/* A copy of the name that lives as long as the context. */
const char *weir__tls_context_cipher_name(struct weir_tls_context *context, const char *name);
const char *weir__tls_context_alpn(const struct weir_tls_context *context, const char *name);

#endif
