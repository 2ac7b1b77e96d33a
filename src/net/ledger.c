/* SPDX-License-Identifier: Apache-2.0 */
#include "net/ledger.h"

#include <assert.h>
#include <stddef.h>

/* A lost stamp is looked for after this, then after twice that, and so on up to the maximum. */
#define STAMP_CHECK_MIN_MS 250u
#define STAMP_CHECK_MAX_MS 2000u
/*
 * Without stamps the time of a check is the time that is reported, late by half the interval on the
 * average. A 32nd of the round trip keeps that below the 2 % that the access log promises; 40 ms is
 * one delayed ACK.
 */
#define COUNT_CHECK_RTT_PART 32u
#define COUNT_CHECK_MIN_MS   2u
#define COUNT_CHECK_MAX_MS   40u

void weir__ledger_init(struct weir__ledger *ledger)
{
    *ledger = (struct weir__ledger){.first = NULL};
}

void weir__ledger_accept(struct weir__ledger *ledger, uint64_t bytes)
{
    ledger->accepted += bytes;
}

static void mark_sent(struct weir__ledger_entry *entry, uint64_t at_ns,
                      enum weir_delivery_source source)
{
    entry->sent_ns = at_ns;
    entry->sent_by = source;
}

static void mark_delivered(struct weir__ledger_entry *entry, uint64_t at_ns,
                           enum weir_delivery_source source)
{
    entry->delivered_ns = at_ns;
    entry->delivered_by = source;
}

void weir__ledger_add(struct weir__ledger *ledger, struct weir__ledger_entry *entry)
{
    assert(entry->end <= ledger->accepted);
    assert(!ledger->last || ledger->last->end <= entry->end);
    entry->next = NULL;
    if (ledger->last)
        ledger->last->next = entry;
    else
        ledger->first = entry;
    ledger->last = entry;
    if (!ledger->unsent)
        ledger->unsent = entry;

    /* A stamp may overtake the completion of its own send. */
    if (entry->end <= ledger->sent)
        mark_sent(entry, ledger->sent_ns, ledger->sent_by);
    if (entry->end <= ledger->acked)
        mark_delivered(entry, ledger->acked_ns, ledger->acked_by);
}

static void advance_sent(struct weir__ledger *ledger, uint64_t offset, uint64_t at_ns,
                         enum weir_delivery_source source)
{
    if (offset <= ledger->sent)
        return;
    ledger->sent = offset;
    ledger->sent_ns = at_ns;
    ledger->sent_by = source;
    for (struct weir__ledger_entry *entry = ledger->unsent; entry && entry->end <= offset;
         entry = entry->next) {
        if (entry->sent_by == WEIR_DELIVERY_NONE)
            mark_sent(entry, at_ns, source);
    }
}

static void advance_acked(struct weir__ledger *ledger, uint64_t offset, uint64_t at_ns,
                          enum weir_delivery_source source)
{
    if (offset <= ledger->acked)
        return;
    /* A stamp may come to hand behind a count that was taken later: what is sent later arrives no sooner. */
    if (at_ns < ledger->acked_ns)
        at_ns = ledger->acked_ns;
    ledger->acked = offset;
    ledger->acked_ns = at_ns;
    ledger->acked_by = source;
    for (struct weir__ledger_entry *entry = ledger->first; entry && entry->end <= offset;
         entry = entry->next) {
        if (entry->delivered_by == WEIR_DELIVERY_NONE)
            mark_delivered(entry, at_ns, source);
    }
}

/*
 * The kernel's key is 32 bit wide and wraps at 4 GiB. What is in flight is far less than 2 GiB, so
 * the signed distance from what was accepted gives the whole offset. (What is known to be acknowledged
 * would not do: as long as no write asks for its delivery, nobody looks.)
 */
static uint64_t stamp_offset(const struct weir__ledger *ledger, uint32_t key)
{
    uint64_t accepted = ledger->accepted - ledger->base;
    int32_t distance = (int32_t)(key + 1u - (uint32_t)accepted);

    if (distance < 0 && accepted < (uint64_t) - (int64_t)distance)
        return ledger->base;
    return ledger->base + accepted + (uint64_t)(int64_t)distance;
}

void weir__ledger_stamp(struct weir__ledger *ledger, const struct weir__stamp *stamp)
{
    uint64_t offset = stamp_offset(ledger, stamp->key);

    if (stamp->kind == WEIR__STAMP_SENT)
        advance_sent(ledger, offset, stamp->at_ns, WEIR_DELIVERY_TX_ACK);
    else
        advance_acked(ledger, offset, stamp->at_ns, WEIR_DELIVERY_TX_ACK);
}

void weir__ledger_count(struct weir__ledger *ledger, uint64_t bytes_acked, uint32_t notsent_bytes,
                        uint64_t now_ns)
{
    uint64_t acked = ledger->base + bytes_acked;

    if (acked > ledger->accepted)
        acked = ledger->accepted;
    if (notsent_bytes <= ledger->accepted)
        advance_sent(ledger, ledger->accepted - notsent_bytes, now_ns, WEIR_DELIVERY_TCP_INFO);
    advance_acked(ledger, acked, now_ns, WEIR_DELIVERY_TCP_INFO);
}

void weir__ledger_reach(struct weir__ledger *ledger, uint64_t offset, uint64_t now_ns)
{
    assert(offset <= ledger->accepted);
    advance_sent(ledger, offset, now_ns, WEIR_DELIVERY_TCP_INFO);
    advance_acked(ledger, offset, now_ns, WEIR_DELIVERY_TCP_INFO);
}

struct weir__ledger_entry *weir__ledger_take_sent(struct weir__ledger *ledger)
{
    struct weir__ledger_entry *entry = ledger->unsent;

    if (!entry || entry->sent_by == WEIR_DELIVERY_NONE)
        return NULL;
    ledger->unsent = entry->next;
    return entry;
}

struct weir__ledger_entry *weir__ledger_take_any(struct weir__ledger *ledger)
{
    struct weir__ledger_entry *entry = ledger->first;

    if (!entry)
        return NULL;
    ledger->first = entry->next;
    if (!ledger->first)
        ledger->last = NULL;
    if (ledger->unsent == entry)
        ledger->unsent = entry->next;
    return entry;
}

struct weir__ledger_entry *weir__ledger_take_delivered(struct weir__ledger *ledger)
{
    if (!ledger->first || ledger->first->delivered_by == WEIR_DELIVERY_NONE)
        return NULL;
    return weir__ledger_take_any(ledger);
}

uint64_t weir__ledger_check_delay_ms(bool stamps, uint32_t rtt_us, unsigned checks)
{
    uint64_t delay_ms;

    if (!stamps) {
        delay_ms = rtt_us / 1000u / COUNT_CHECK_RTT_PART;
        if (delay_ms < COUNT_CHECK_MIN_MS)
            return COUNT_CHECK_MIN_MS;
        return delay_ms < COUNT_CHECK_MAX_MS ? delay_ms : COUNT_CHECK_MAX_MS;
    }
    delay_ms = 2u * (uint64_t)rtt_us / 1000u;
    if (delay_ms < STAMP_CHECK_MIN_MS)
        delay_ms = STAMP_CHECK_MIN_MS;
    delay_ms <<= checks < 8 ? checks : 8;
    return delay_ms < STAMP_CHECK_MAX_MS ? delay_ms : STAMP_CHECK_MAX_MS;
}
