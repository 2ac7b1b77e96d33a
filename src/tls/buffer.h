/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TLS_BUFFER_H
#define WEIR_TLS_BUFFER_H

/* Memory for records that were made, shared by the streams of one context. */

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"
#include "tls/record.h"

/* Room for one full record of either version, or for several small ones. */
#define WEIR__TLS_BUFFER_BYTES (WEIR__TLS_PLAIN_MAX + 64)

/* Bytes of the wire that were made and that the kernel has not taken. */
struct weir__tls_buffer {
    struct weir__tls_buffer *next;
    uint32_t start, end;
    uint32_t pins; /* sends that have pinned it */
    bool taken;    /* the kernel has all of it: it is given back when nothing pins it */
    uint8_t data[WEIR__TLS_BUFFER_BYTES];
};

/* Buffers that are kept for the next record: what 64 responses at a time need. */
#define WEIR__TLS_BUFFERS_KEPT_MAX 256
/*
 * Buffers that the kernel maps once rather than for each send, where zero copy pays: 1 MiB, so that a user without
 * CAP_IPC_LOCK, who may lock 8 MiB, keeps most of that for sends.
 */
#define WEIR__TLS_BUFFERS_REGISTERED 63

struct weir__tls_buffers {
    struct weir__tls_buffer *free; /* from the heap */
    unsigned free_count;
    struct weir__tls_buffer *registered; /* an array, or NULL */
    struct weir__tls_buffer *registered_free;
    struct weir__engine *engine; /* with which it is registered */
    unsigned streams;            /* that use the engine */
    bool refused;                /* the engine will not have it */
};

/* NULL when memory is out. */
struct weir__tls_buffer *weir__tls_buffer_take(struct weir__tls_buffers *buffers);
void weir__tls_buffer_give(struct weir__tls_buffers *buffers, struct weir__tls_buffer *buffer);
/* All buffers have been given back, and no stream is left. */
void weir__tls_buffers_dispose(struct weir__tls_buffers *buffers);

/* A stream begins to use the buffers, and ends. With the last one what is registered ends, before its engine can. */
void weir__tls_buffers_join(struct weir__tls_buffers *buffers);
void weir__tls_buffers_leave(struct weir__tls_buffers *buffers);
/* Has the next buffers come from memory that is registered with the engine, if that can be had. Of one engine only. */
void weir__tls_buffers_register(struct weir__tls_buffers *buffers, struct weir__engine *engine);

#endif
