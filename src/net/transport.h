/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_NET_TRANSPORT_H
#define WEIR_NET_TRANSPORT_H

/*
 * What may stand between the bytes of a stream's owner and those of the wire: TLS. A stream without one
 * sends and receives the owner's bytes as they are. The calls below are the stream's; what a transport
 * may call is at the end. A transport is one allocation that begins with struct weir__transport.
 *
 * A transport sends in one of two ways, and may change from the first to the second between two sends:
 *  - it *makes* the bytes of the wire in memory of its own, from writes at the head of the queue, which
 *    it takes by weir__stream_sealed (TLS in user space);
 *  - it *passes* the owner's bytes, and the kernel turns them into those of the wire (kernel TLS).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "engine/engine.h"

struct weir_stream;
struct weir__transport;
struct weir__write;

/* No record of the kernel's has more of the owner's bytes. */
#define WEIR__TRANSPORT_RECORD_MAX 16384u

enum weir__transport_plan {
    WEIR__TRANSPORT_NOTHING, /* to send now */
    WEIR__TRANSPORT_MADE,    /* `plan` has the next send */
    WEIR__TRANSPORT_PASS,    /* the queue is the stream's to send */
};

/* Parts of one: 9 full records are 128 KB and its head, one more for what did not fit behind the last. */
#define WEIR__TRANSPORT_PARTS_MAX 10

/* One send of bytes that the transport made. */
struct weir__transport_send {
    struct iovec *parts; /* room for WEIR__TRANSPORT_PARTS_MAX */
    unsigned part_count;
    uint64_t length;
    bool stamp;          /* with it ends a write that waits for SENT or DELIVERED */
    uint8_t record_type; /* kernel TLS: a control record, else 0 */
    /*
     * What the parts lie in, one for each, which may be pinned: see made_held.
     */
    void *held[WEIR__TRANSPORT_PARTS_MAX];
    bool may_pin;
};

struct weir__transport_ops {
    /* The connection is open (outgoing connections). */
    void (*connected)(struct weir__transport *transport);
    /* Bytes were received. The transport hands those of the owner to weir__stream_deliver. */
    void (*received)(struct weir__transport *transport, const struct weir__completion *completion,
                     uint64_t arrived_ns);
    /* The receive operation has ended with the error `result`. False: it is to be begun again. */
    bool (*receive_ended)(struct weir__transport *transport, int result);
    /* The peer's FIN was read, and the owner has everything that came before it. */
    void (*fin_received)(struct weir__transport *transport);
    /* Whether bytes must be received though the owner does not read. */
    bool (*wants_input)(const struct weir__transport *transport);
    /* Plans the next send; none is in flight. */
    enum weir__transport_plan (*plan)(struct weir__transport *transport,
                                      struct weir__transport_send *plan);
    /* The kernel took `bytes` of what was MADE; the stream has counted them. */
    void (*made_taken)(struct weir__transport *transport, uint64_t bytes);
    /*
     * For a send with `may_pin`: the kernel is to send from what `held` names, or has no more use for it. `made_held`
     * comes before the send is submitted, `made_released` after made_taken. One thing may be held by several sends.
     */
    void (*made_held)(struct weir__transport *transport, void *const *held, unsigned count);
    void (*made_released)(struct weir__transport *transport, void *const *held, unsigned count);
    /*
     * The kernel took `bytes` of what was to PASS; `closed`: all that the send asked for, and no more follows
     * in the same record. Counts in the ledger what that came to on the wire. Returns whether the record is
     * closed that was open before the call.
     */
    bool (*passed_taken)(struct weir__transport *transport, uint64_t bytes, bool closed);
    /* The peer has the wire's bytes up to `wire`. Perhaps no news. */
    void (*acked)(struct weir__transport *transport, uint64_t wire);
    /* Before the FIN: says the end in the transport's own way. True once the kernel has all of that. */
    bool (*finish)(struct weir__transport *transport);
    /* How many bytes of the owner's are whole when the peer has the wire's up to `wire`. */
    uint64_t (*plain_at)(const struct weir__transport *transport, uint64_t wire);
    void (*dispose)(struct weir__transport *transport);
};

struct weir__transport {
    const struct weir__transport_ops *ops;
    struct weir_stream *stream;
};

/* ---- for the transport; in stream.c and stream_send.c ---- */

/* The transport begins. The stream has none, and has sent and received nothing. */
void weir__stream_set_transport(struct weir_stream *stream, struct weir__transport *transport);
/* The stream is to be open by then, or it ends with WEIR_ETIMEDOUT. */
void weir__stream_set_deadline(struct weir_stream *stream, uint64_t delay_ms);
/* The owner may be told that the stream is open. */
void weir__stream_opened(struct weir_stream *stream);
/* Hands bytes to the owner, now or when it reads again. */
void weir__stream_deliver(struct weir_stream *stream, const uint8_t *data, size_t length,
                          uint64_t arrived_ns);
/* The peer's end in good order: on_end is due behind what was delivered. */
void weir__stream_input_done(struct weir_stream *stream);
/* Nothing more can be read, and the stream is closing: the peer's FIN is not awaited by reading. */
void weir__stream_input_lost(struct weir_stream *stream);
/*
 * The connection cannot go on as it should: no more is delivered, and on_close will have `reason`. Writes
 * still go out, unless `drop_writes`; then only what the transport makes does, for a short while.
 */
void weir__stream_fail(struct weir_stream *stream, int reason, bool drop_writes);

/* Memory was short: the next send is planned again in a moment. */
void weir__stream_retry_later(struct weir_stream *stream);
/*
 * The first write of the queue, for its bytes to be made into the wire's, or NULL. Those from `taken` on are
 * not made yet.
 */
struct weir__write *weir__stream_unsealed(struct weir_stream *stream);
/*
 * `bytes` more of the queue's writes have been made into a record that ends at offset `wire_end` of the wire and
 * has `overhead` bytes beside them. Returns whether one that waits for SENT or DELIVERED ended with them.
 */
bool weir__stream_sealed(struct weir_stream *stream, uint64_t bytes, uint64_t wire_end,
                         uint64_t overhead);

#endif
