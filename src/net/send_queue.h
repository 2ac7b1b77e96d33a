/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_NET_SEND_QUEUE_H
#define WEIR_NET_SEND_QUEUE_H

/*
 * The writes of one stream that the kernel has not wholly taken. Pure: it plans what the next send
 * carries and is told how much of it was taken.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include <weir/stream.h>

#include "net/ledger.h"

/*
 * How far a send may go on behind the end of a write that waits for SENT or DELIVERED. A stamp is for
 * the last byte of a send, so what follows in the same send delays the answer. Within 8 KiB, less than
 * the initial window of 10 segments (RFC 6928), the ACK of the one is as good as that of the other,
 * and pipelined small responses still leave in one call.
 */
#define WEIR__COALESCE_BYTES_MAX 8192u

/* A write, queued: first in the send queue, then, if it waits for SENT or DELIVERED, in the ledger. */
struct weir__write {
    struct weir__write *next;
    struct weir__ledger_entry entry;
    struct iovec parts[WEIR_WRITE_PARTS_MAX];
    unsigned part_count;
    int file;
    bool more;
    uint8_t stages; /* asked for and not told yet */
    uint8_t
        ways; /* enum weir_send_way, of what is known; what is pinned now comes to it when it is released */
    bool accepted; /* the kernel has all of it */
    bool let_go;   /* it is on no list any more: it ends when nothing of it is pinned */
    unsigned pins; /* sends that have pinned memory with its bytes */
    uint64_t memory_length;
    uint64_t file_offset;
    uint64_t length; /* memory and file */
    uint64_t taken;  /* by the kernel, or by a transport that makes the wire's bytes of them */
    /* Once its first byte was taken: the offsets of that among the owner's bytes and on the wire. */
    uint64_t start, wire_start;
    uint64_t wire_end; /* just past its last byte, once that was taken */
    uint64_t first_byte_ns;
    weir_write_fn on_stage;
    void *context;
};

struct weir__send_queue {
    struct weir__write *first, *last;
    uint64_t bytes; /* not taken yet, of all writes */
};

/* One send to make. */
struct weir__send_plan {
    uint64_t length;     /* 0 = the queue is empty */
    unsigned part_count; /* 0 = a piece of a file */
    int file;
    uint64_t file_offset;
    bool
        stamp; /* with it ends a write that waits for SENT or DELIVERED: its last byte needs a stamp */
    bool more; /* more is queued behind it, or promised */
};

/* Whether it waits for SENT or DELIVERED. */
bool weir__write_waits(const struct weir__write *write);

void weir__send_queue_append(struct weir__send_queue *queue, struct weir__write *write);

/* The next send: as many memory parts as fit and belong together, or a piece of a file. */
void weir__send_queue_plan(const struct weir__send_queue *queue, struct weir__send_plan *plan,
                           struct iovec *parts, unsigned parts_max);

/* Where the first of the bytes that were taken lies, and when the kernel took it; 0 = it has not yet. */
struct weir__send_position {
    uint64_t plain, wire;
    uint64_t now_ns;
    unsigned ways;
};

/*
 * `*bytes` were taken, from position `at` on; both are moved on past what the first write had of them. Returns that
 * write, taken off the queue, if nothing of it is left, else NULL. Call it until it returns NULL.
 */
struct weir__write *weir__send_queue_advance(struct weir__send_queue *queue, uint64_t *bytes,
                                             struct weir__send_position *at);

/* The first write, taken off as it is, or NULL. */
struct weir__write *weir__send_queue_take(struct weir__send_queue *queue);

#endif
