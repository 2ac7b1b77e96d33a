/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_NET_STREAM_H
#define WEIR_NET_STREAM_H

/*
 * The inside of a stream. stream.c owns its life and its reading, stream_send.c what is sent, and
 * stream_delivery.c what is known of that and whom it is told.
 *
 * Whatever happens, a stream ends one way: `weir__stream_end` marks it dying and cancels its operations;
 * when the last of them has completed, the deferred run settles every write, tells on_close, and frees.
 */

#include <stdbool.h>
#include <stdint.h>

#include <weir/loop.h>
#include <weir/stream.h>
#include <weir/timer.h>

#include "engine/engine.h"
#include "net/ledger.h"
#include "net/send_policy.h"
#include "net/send_queue.h"
#include "net/transport.h"

/* Input that arrived after weir_stream_read_stop. */
struct weir__held_input {
    struct weir__held_input *next;
    uint64_t arrived_ns;
    size_t length;
    uint8_t data[];
};

/* Writes that one send with pinned memory may carry pieces of; one that would carry more is copied. */
#define WEIR__PINNED_WRITES_MAX 4

/* A send of which the kernel has the memory, not a copy. */
struct weir__pinned {
    struct weir__pin pin;
    struct weir_stream *stream;
    struct weir__route *route;
    uint64_t bytes;    /* of the policy's count */
    uint64_t wire_end; /* just past what the send took */
    uint8_t write_count, held_count;
    struct weir__write *writes[WEIR__PINNED_WRITES_MAX];
    void *held[WEIR__TRANSPORT_PARTS_MAX]; /* the transport's */
};

/*
 * What the kernel takes of an accepted stream beyond what it has sent, at first: a response of 128 KB goes in one
 * call, and a peer that reads nothing makes the kernel hold that much and not its buffer, of up to 4 MiB.
 */
#define WEIR__UNSENT_BYTES_MAX (128u << 10)

struct weir_stream {
    struct weir__socket socket;
    struct weir_loop *loop;
    struct weir__engine *engine;
    const struct weir_stream_handler *handler;
    void *context;

    struct weir__deferred deferred; /* does what the flags below call for, once a round */
    struct weir__op receive_op;
    struct weir__op send_op; /* CONNECT, SEND, SEND_FILE */
    struct weir__op watch_op;
    struct weir__transport *transport; /* NULL: the owner's bytes are the wire's */

    struct weir__send_policy *policy;
    struct weir__send_queue queue;
    /*
     * Writes that are made into bytes of the wire which the kernel has not all of; or, where the kernel makes
     * them, that end in a record which is not closed yet and wait for more than that.
     */
    struct weir__send_queue sealed;
    struct weir__ledger ledger; /* of the wire */
    uint64_t plain_taken;       /* bytes of the owner's that have left `queue` */
    uint64_t plain_accepted;    /* ... that the kernel has */
    uint64_t send_length;       /* of the send in flight */
    enum weir_send_reason send_reason;
    uint8_t
        send_ways; /* enum weir_send_way, of what it carries; 0 = told when the pin is released */
    struct weir__pinned *send_pinned; /* brought by it; NULL = copied */
    struct weir__route *route;        /* NULL: nobody has asked yet */
    uint64_t pinned_bytes;
    bool send_made;      /* it carries what the transport made */
    bool send_more;      /* more follows it in the same record or segment */
    bool send_unstamped; /* a write that waits ends with it, but it has no stamp */
    struct iovec send_parts
        [WEIR__TRANSPORT_PARTS_MAX]; /* of the send in flight, if it carries one write or what is made */
    struct iovec *send_batch;        /* of the send in flight, if it carries several */
    uint64_t queue_bytes_max;
    uint32_t queue_writes_max;
    uint32_t write_count; /* queued or in the ledger */

    struct weir_timer check_timer;    /* lost stamps, and a send that met a shortage */
    unsigned checks;                  /* TCP_INFO was asked so often since the last progress */
    uint32_t rtt_us, retransmits;     /* when last counted, and when aborted */
    enum weir_delivery_source source; /* the best that is to be had here */
    uint64_t answer_due_ns;           /* the last write that waits was accepted; 0 = answered */
    uint64_t unstamped_end;           /* wire offset: a send up to here had no stamp */
    uint8_t quick_answers;            /* in a row, up to a bound: see stream_delivery.c */

    bool paced;                    /* by its pace it has the kernel's whole buffer, or not */
    bool unsent_bounded;           /* not at present: WEIR__UNSENT_BYTES_MAX holds */
    uint64_t pace_ns, pace_offset; /* when how many of the wire's bytes were taken; 0 = not yet */

    uint64_t arrived_ns;              /* of what is being received, for a transport */
    struct weir_timer deadline_timer; /* of closing, or of a transport's beginning */
    struct weir__held_input *held_first, **held_end;
    int reason;       /* of dying */
    int close_reason; /* what it will be if closing comes to its end */

    bool opening; /* CONNECT has not completed */
    bool no_delay;
    bool open_to_tell; /* on_open is due */
    bool reading;      /* the owner wants data */
    bool input_ended;  /* the peer's FIN was read */
    bool
        input_lost; /* nothing more can be read, the FIN neither: the watch says when it has come */
    bool fin_due;   /* the transport is to hear of the FIN behind what is held */
    bool end_due;   /* on_end is due behind what is held */
    bool end_told;
    bool shut_wanted; /* FIN once the queue is empty */
    bool shut_done;
    bool closing;     /* by the owner, in good order; or by the transport's failure */
    bool leaving;     /* ... without the peer's own end */
    bool lingering;   /* behind input that is lost */
    bool drop_writes; /* ... with what is queued left unsent */
    bool dying;       /* see above */
    bool reset;       /* end with RST */
    bool aborted; /* the kernel was told to let go of what is pinned, and counts nothing any more */
    bool counts_kept; /* ... but what it had counted by then is known */
    bool send_short;  /* of memory or kernel buffers: the check timer tries again */
};

/* For the listener: takes `handle` over. NULL when memory is out; `handle` is then still the caller's. */
struct weir_stream *weir__stream_adopt(struct weir_loop *loop, int handle,
                                       const struct weir_stream_options *options);

/* Begins the end, see above. Only the first call counts. */
void weir__stream_end(struct weir_stream *stream, int reason, bool reset);

/* Has the deferred run look at the stream before the loop waits again. */
void weir__stream_defer(struct weir_stream *stream);

/* ---- stream_send.c ---- */

void weir__stream_send_init(struct weir_stream *stream, const struct weir_stream_options *options);
/* Submits the next send, if there is something to send and none in flight. */
void weir__stream_flush(struct weir_stream *stream);
/* No operation is in flight any more: every write that is left is told how it ended. */
void weir__stream_settle(struct weir_stream *stream);

/* ---- stream_pin.c ---- */

/*
 * How to send `bytes` from memory, as far as their number and the stream decide; a WEIR_SEND_BECAUSE_* of copy or
 * of zero copy.
 */
enum weir_send_reason weir__stream_memory_reason(struct weir_stream *stream, uint64_t bytes);
/* Pins what is about to be sent, from the first writes that are not taken yet. NULL: copy it. */
struct weir__pinned *weir__stream_pin(struct weir_stream *stream, uint64_t bytes);
struct weir__pinned *weir__stream_pin_made(struct weir_stream *stream,
                                           const struct weir__transport_send *made);
/* The send that has ended took `bytes`, and the writes and the ledger know. */
void weir__stream_pin_taken(struct weir_stream *stream, uint64_t bytes);

/* ---- stream_delivery.c ---- */

void weir__stream_delivery_init(struct weir_stream *stream);
/* The connection is open: finds out what can be known of delivery here. */
void weir__stream_delivery_open(struct weir_stream *stream);
/* Whether the send that is being planned, with which a write ends that waits, is to be stamped. */
bool weir__stream_wants_stamp(const struct weir_stream *stream);
/* The kernel has all of a write: tells so. False: nobody waits for more, and the write is gone. */
bool weir__stream_accepted(struct weir_stream *stream, struct weir__write *write,
                           uint64_t accepted_ns);
/* Enters such a write in the ledger: it is whole with the wire's bytes up to `wire_end`. */
void weir__stream_await(struct weir_stream *stream, struct weir__write *write, uint64_t wire_end);
/* Tells what the ledger knows. */
void weir__stream_tell_progress(struct weir_stream *stream);
void weir__stream_tell_failed(struct weir_stream *stream, struct weir__write *write, int error);
/* Nobody waits for more of it, and it is on no list: ends it now, or once nothing of it is pinned. */
void weir__stream_let_go(struct weir_stream *stream, struct weir__write *write);
/* A send that had pinned memory with bytes of it, and whose way is known now, is done with that. */
void weir__stream_unpinned(struct weir_stream *stream, struct weir__write *write, unsigned way);
/* Data arrived: the peer's answer to what was written, perhaps, and its ACK with it. */
void weir__stream_answered(struct weir_stream *stream, uint64_t arrived_ns);
/* Takes what the kernel knows into the ledger and tells the writes. False: it does not know. */
bool weir__stream_count(struct weir_stream *stream);
/* The connection is about to be aborted, and the kernel's counts go with it: has the last ones kept. */
void weir__stream_keep_counts(struct weir_stream *stream);
struct weir__pool *weir__stream_write_pool(struct weir_stream *stream);

#endif
