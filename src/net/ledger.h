/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_NET_LEDGER_H
#define WEIR_NET_LEDGER_H

/*
 * The delivery ledger of one connection: which writes end at which wire offset, and how far the
 * peer's acknowledgements are. Pure: stamps and counts go in, entries that are done come out.
 * Offsets are 64 bit and count the bytes of this connection from 0.
 */

#include <stdbool.h>
#include <stdint.h>

#include <weir/delivery.h>

#include "engine/engine.h"

/* One write that waits for SENT, DELIVERED or both. Lives inside the write. */
struct weir__ledger_entry {
    struct weir__ledger_entry *next;
    uint64_t end; /* offset just past its last byte */
    uint64_t accepted_ns;
    uint64_t sent_ns;
    uint64_t delivered_ns;
    enum weir_delivery_source sent_by, delivered_by; /* NONE = not known (yet) */
};

struct weir__ledger {
    struct weir__ledger_entry *first, *last; /* not taken off yet, in order of `end` */
    struct weir__ledger_entry *unsent;       /* the first that take_sent has not given */
    uint64_t base;     /* wire offset at which the kernel's stamp keys and counts began */
    uint64_t accepted; /* bytes the kernel has taken */
    uint64_t sent;     /* bytes known to have left, since when, and how */
    uint64_t sent_ns;
    uint64_t acked; /* bytes known to be acknowledged, since when, and how */
    uint64_t acked_ns;
    enum weir_delivery_source sent_by, acked_by;
};

void weir__ledger_init(struct weir__ledger *ledger);

/* The kernel took `bytes` more. */
void weir__ledger_accept(struct weir__ledger *ledger, uint64_t bytes);

/* Waits for the bytes up to `entry->end`, which is at most `accepted` and not below the last
 * entry's. */
void weir__ledger_add(struct weir__ledger *ledger, struct weir__ledger_entry *entry);

/* A stamp came, perhaps before the completion of its send. Fills in the times of the entries that
 * it covers. */
void weir__ledger_stamp(struct weir__ledger *ledger, const struct weir__stamp *stamp);

/*
 * The kernel counts `bytes_acked` acknowledged bytes at `now_ns`, and `notsent_bytes` not yet sent.
 * The count may include the FIN: it is never believed past `accepted`.
 */
void weir__ledger_count(struct weir__ledger *ledger, uint64_t bytes_acked, uint32_t notsent_bytes,
                        uint64_t now_ns);

/* All bytes up to `offset`, at most `accepted`, are known to be acknowledged at `now_ns`, by a count. */
void weir__ledger_reach(struct weir__ledger *ledger, uint64_t offset, uint64_t now_ns);

/* The next entry that is known to be sent, once each; it stays on the ledger. NULL if there is
 * none. */
struct weir__ledger_entry *weir__ledger_take_sent(struct weir__ledger *ledger);

/* The next entry whose delivery is known, taken off the ledger; NULL if the first still waits. */
struct weir__ledger_entry *weir__ledger_take_delivered(struct weir__ledger *ledger);

/* The first entry, delivered or not, taken off the ledger; NULL if it is empty. */
struct weir__ledger_entry *weir__ledger_take_any(struct weir__ledger *ledger);

/*
 * When to ask for TCP_INFO next, should no stamp come: `checks` is how often that was done since
 * the last progress. With stamps it is only the way out for lost ones, without them it is the clock
 * itself.
 */
uint64_t weir__ledger_check_delay_ms(bool stamps, uint32_t rtt_us, unsigned checks);

#endif
