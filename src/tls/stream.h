/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TLS_STREAM_H
#define WEIR_TLS_STREAM_H

/*
 * TLS as the transport of a stream. stream.c begins and ends it and takes what is received; stream_send.c
 * makes records, or has the kernel make them.
 */

#include <stdbool.h>
#include <stdint.h>

#include <weir/tls.h>

#include "net/offset_map.h"
#include "net/transport.h"
#include "tls/context.h"
#include "tls/output.h"
#include "tls/session.h"

/* Records that are no data and wait for the kernel's turn to make them: an alert, an answer, two KeyUpdates. */
#define WEIR__TLS_CONTROLS_MAX 4

struct weir__tls_control {
    uint8_t type, length;
    uint8_t content[5];
    bool then_new_keys;
};

/* While records are made here. */
struct weir__tls_made {
    struct weir__tls_output output;
    /* Of the wire: the first and the last record, of those not taken, with which a write ends that waits. */
    uint64_t stamp_first, stamp_end;
    uint64_t small_end; /* of the owner's bytes: records before it are small */
    uint64_t made_ns;   /* when the last record was made */
};

/* While the kernel makes them. */
struct weir__tls_kernel_tx {
    uint64_t wire_base;     /* of the wire when the kernel took over, or changed keys */
    uint64_t sequence_base; /* of its first record then */
    uint64_t bytes;         /* given to it since, control records' content too */
    uint64_t sequence;      /* of the next record, or of the open one, when it was last asked */
    struct weir__tls_control controls[WEIR__TLS_CONTROLS_MAX];
};

struct weir__tls_stream {
    struct weir__transport base;
    struct weir_tls_context *context;
    struct weir__tls_session session;
    union { /* by base.stream->socket.tls_tx */
        struct weir__tls_made made;
        struct weir__tls_kernel_tx kernel_tx;
    };
    struct weir__offset_map map;
    uint8_t control_count;
    bool control_in_flight; /* controls[0] */
    bool wants_kernel_tx, wants_kernel_rx;
    bool rx_switching; /* the receive operation is to end, so that the kernel gets a key */
    bool close_said;   /* our close_notify, or a fatal alert */
    bool resumed, peer_certificate;
    const char *cipher, *alpn;
    char *server_name; /* NULL = none */
};

struct weir__tls_stream *weir__tls_stream_of(struct weir__transport *transport);
/* NULL: this stream has no TLS. */
const struct weir__tls_stream *weir__tls_stream_get(const struct weir_stream *stream);

/* Has the receive operation ended so that the kernel can be given the key of what is received. */
void weir__tls_switch_rx(struct weir__tls_stream *tls);
/* A session's call came to `error`: ends the stream as that calls for. */
void weir__tls_stream_end(struct weir__tls_stream *tls, int error);

/* ---- stream_send.c ---- */

enum weir__transport_plan weir__tls_plan(struct weir__transport *transport,
                                         struct weir__transport_send *send);
void weir__tls_made_taken(struct weir__transport *transport, uint64_t bytes);
void weir__tls_made_held(struct weir__transport *transport, void *const *held, unsigned count);
void weir__tls_made_released(struct weir__transport *transport, void *const *held, unsigned count);
bool weir__tls_passed_taken(struct weir__transport *transport, uint64_t bytes, bool closed);
void weir__tls_acked(struct weir__transport *transport, uint64_t wire);
bool weir__tls_finish(struct weir__transport *transport);
uint64_t weir__tls_plain_at(const struct weir__transport *transport, uint64_t wire);
/* The session's events that send. */
int weir__tls_emit(void *context, const uint8_t *bytes, size_t length);
int weir__tls_control(void *context, enum weir__tls_content type, const uint8_t *content,
                      size_t length, bool then_new_keys);

#endif
