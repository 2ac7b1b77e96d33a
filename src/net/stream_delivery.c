/* SPDX-License-Identifier: Apache-2.0 */
#include "net/stream.h"

#include <assert.h>

#include <weir/error.h>

#include "core/list.h"
#include "core/pool.h"

#define NS_PER_MS 1000000u

/*
 * A stamp is a packet of its own in the error queue, made by the kernel, waking the loop, and read by a
 * call: two for each write would cost a fifth of the CPU time of a 1 KB response. A peer that answers soon
 * makes them needless: its next request carries the ACK, and asking then how much is unacknowledged
 * costs a tenth of that. So a stream whose peer answered so often in a row within QUICK_ANSWER_MS sends
 * without stamps. While an answer stays away the kernel is asked every ANSWER_CHECK_MS, and the time that is
 * reported is late by less than that. Once it has stayed away for too long, the writes that follow are stamped
 * again.
 */
#define QUICK_ANSWERS_MIN 4
#define QUICK_ANSWER_MS   40u
#define ANSWER_CHECK_MS   10u

static uint64_t now_ns(struct weir_stream *stream)
{
    return stream->engine->ops->now_ns(stream->engine);
}

struct weir__pool *weir__stream_write_pool(struct weir_stream *stream)
{
    return weir__loop_pool(stream->loop, WEIR__LOOP_POOL_WRITES, sizeof(struct weir__write));
}

/* ---- telling a write's owner ---- */

static void tell(struct weir_stream *stream, struct weir__write *write,
                 const struct weir_write_event *event)
{
    if (event->stage == WEIR_STAGE_FAILED)
        write->stages = 0;
    else if (!(write->stages & event->stage))
        return;
    else
        write->stages &= (uint8_t)~event->stage;
    if (write->on_stage)
        write->on_stage(stream, write->context, event);
}

/* What the kernel has of a write, in bytes of the wire. */
static uint64_t wire_bytes(const struct weir_stream *stream, const struct weir__write *write)
{
    uint64_t accepted = stream->ledger.accepted;
    uint64_t end =
        write->taken < write->length || write->wire_end > accepted ? accepted : write->wire_end;

    return write->taken > 0 && end > write->wire_start ? end - write->wire_start : 0;
}

static unsigned ways_of(const struct weir__write *write)
{
    return write->ways | (write->pins > 0 ? WEIR_SEND_ZEROCOPY : 0);
}

static void tell_stage(struct weir_stream *stream, struct weir__write *write, enum weir_stage stage,
                       uint64_t at_ns, enum weir_delivery_source source)
{
    tell(stream, write,
         &(struct weir_write_event){
             .stage = stage,
             .at_ns = at_ns,
             .first_byte_ns = write->first_byte_ns,
             .source = source,
             .bytes = write->length,
             .accepted_bytes = write->length,
             .wire_bytes = wire_bytes(stream, write),
             .ways = ways_of(write),
         });
}

/* How much of a write lies before `offset` of the owner's bytes. */
static uint64_t bytes_before(const struct weir__write *write, uint64_t offset)
{
    uint64_t bytes;

    if (write->taken == 0 || offset <= write->start)
        return 0;
    bytes = offset - write->start;
    return bytes < write->taken ? bytes : write->taken;
}

static uint64_t plain_at(const struct weir_stream *stream, uint64_t wire)
{
    return stream->transport ? stream->transport->ops->plain_at(stream->transport, wire) : wire;
}

void weir__stream_tell_failed(struct weir_stream *stream, struct weir__write *write, int error)
{
    tell(stream, write,
         &(struct weir_write_event){
             .stage = WEIR_STAGE_FAILED,
             .at_ns = now_ns(stream),
             .first_byte_ns = write->first_byte_ns,
             .source = stream->ledger.acked_by,
             .bytes = bytes_before(write, plain_at(stream, stream->ledger.acked)),
             .accepted_bytes = bytes_before(write, stream->plain_accepted),
             .wire_bytes = wire_bytes(stream, write),
             .ways = ways_of(write),
             .error = error,
         });
}

/* Where delivery is not known, what waits for it hears so when all else is done. */
static void end_write(struct weir_stream *stream, struct weir__write *write)
{
    if (weir__write_waits(write))
        weir__stream_tell_failed(stream, write, WEIR_ENOTSUP);
    assert(stream->write_count > 0);
    stream->write_count--;
    weir__pool_give(weir__stream_write_pool(stream), write);
    if (stream->write_count == 0 && stream->closing)
        weir__stream_defer(stream);
}

void weir__stream_let_go(struct weir_stream *stream, struct weir__write *write)
{
    write->let_go = true;
    if (write->pins == 0)
        end_write(stream, write);
}

void weir__stream_unpinned(struct weir_stream *stream, struct weir__write *write, unsigned way)
{
    write->ways |= (uint8_t)way;
    assert(write->pins > 0);
    if (--write->pins > 0)
        return;
    if (write->accepted)
        tell_stage(stream, write, WEIR_STAGE_RELEASED, now_ns(stream), WEIR_DELIVERY_NONE);
    if (write->let_go)
        end_write(stream, write);
}

void weir__stream_tell_progress(struct weir_stream *stream)
{
    struct weir__ledger_entry *entry;

    while ((entry = weir__ledger_take_sent(&stream->ledger))) {
        struct weir__write *write = WEIR__CONTAINER(entry, struct weir__write, entry);
        tell_stage(stream, write, WEIR_STAGE_SENT, entry->sent_ns, entry->sent_by);
    }
    while ((entry = weir__ledger_take_delivered(&stream->ledger))) {
        struct weir__write *write = WEIR__CONTAINER(entry, struct weir__write, entry);
        stream->checks = 0;
        /* Its own stamp was lost: when it left is not known, but that it did is. */
        tell_stage(stream, write, WEIR_STAGE_SENT, entry->sent_ns, entry->sent_by);
        tell_stage(stream, write, WEIR_STAGE_DELIVERED, entry->delivered_ns, entry->delivered_by);
        weir__stream_let_go(stream, write);
    }
    if (stream->transport)
        stream->transport->ops->acked(stream->transport, stream->ledger.acked);
}

/* ---- what is known of delivery ---- */

static void on_watch(struct weir__op *op, const struct weir__completion *completion)
{
    struct weir_stream *stream = WEIR__CONTAINER(op, struct weir_stream, watch_op);

    if (completion->more) {
        weir__ledger_stamp(&stream->ledger, &completion->stamp);
        weir__stream_tell_progress(stream);
        return;
    }
    if (completion->result < 0)
        weir__stream_end(stream, (int)completion->result, false);
    else if (stream->input_lost)
        stream->input_ended = true;
    weir__stream_defer(stream);
}

/* The FIN is not among it. */
static uint64_t acked_of(const struct weir_stream *stream, const struct weir__socket_info *info)
{
    uint64_t acked = stream->ledger.base + info->bytes_acked;

    return acked < stream->ledger.accepted ? acked : stream->ledger.accepted;
}

bool weir__stream_count(struct weir_stream *stream)
{
    struct weir__socket_info info;

    if (stream->source == WEIR_DELIVERY_NONE || stream->aborted)
        return false;
    if (stream->engine->ops->socket_info(stream->engine, &stream->socket, &info) != 0)
        return false;
    stream->rtt_us = info.rtt_us;
    /* TCP does not count what the kernel's TLS keeps: only what is acknowledged has surely left. */
    if (stream->socket.tls_tx)
        weir__ledger_reach(&stream->ledger, acked_of(stream, &info), now_ns(stream));
    else
        weir__ledger_count(&stream->ledger, info.bytes_acked, info.notsent_bytes, now_ns(stream));
    weir__stream_tell_progress(stream);
    return true;
}

void weir__stream_keep_counts(struct weir_stream *stream)
{
    struct weir_delivery_info info;

    weir__stream_count(stream);
    stream->counts_kept = weir_stream_delivery_info(stream, &info) == 0;
    stream->rtt_us = info.rtt_us;
    stream->retransmits = info.retransmits;
    if (stream->counts_kept)
        weir__ledger_reach(&stream->ledger, info.wire_bytes_acked, now_ns(stream));
}

/* Whether something in the works has no stamp to come. */
static bool awaits_answer(const struct weir_stream *stream)
{
    return stream->ledger.acked < stream->unstamped_end;
}

/* Bytes up to the result are acknowledged. False: the kernel does not say. */
static bool acked_now(struct weir_stream *stream, uint64_t *acked)
{
    uint64_t unacked, accepted = stream->ledger.accepted;
    struct weir__socket_info info;

    /* A kernel that makes the records does not count them among what is unacknowledged. */
    if (stream->socket.tls_tx) {
        if (stream->engine->ops->socket_info(stream->engine, &stream->socket, &info) != 0)
            return false;
        *acked = acked_of(stream, &info);
        return true;
    }
    if (stream->engine->ops->socket_unacked(stream->engine, &stream->socket, &unacked) != 0)
        return false;
    /* What the kernel has taken and we have not heard of yet counts as unacknowledged: that is safe. */
    *acked = unacked < accepted ? accepted - unacked : 0;
    return true;
}

bool weir__stream_wants_stamp(const struct weir_stream *stream)
{
    return stream->source == WEIR_DELIVERY_TX_ACK && stream->quick_answers < QUICK_ANSWERS_MIN;
}

/* Whether what has no stamp to come is the quick peer's, whose answer tells; else only the kernel can. */
static bool expects_answer(const struct weir_stream *stream)
{
    return awaits_answer(stream) && !weir__stream_wants_stamp(stream);
}

/* The first data since a write was accepted: how long did the peer take? */
static void note_answer(struct weir_stream *stream, uint64_t arrived_ns)
{
    uint64_t acked;

    if (arrived_ns >= stream->answer_due_ns + QUICK_ANSWER_MS * NS_PER_MS)
        stream->quick_answers = 0;
    else if (stream->quick_answers < QUICK_ANSWERS_MIN - 1)
        stream->quick_answers++;
    else if (stream->quick_answers < QUICK_ANSWERS_MIN && acked_now(stream, &acked))
        stream->quick_answers++;
    stream->answer_due_ns = 0;
}

static void count_unacked(struct weir_stream *stream)
{
    uint64_t acked;

    if (!acked_now(stream, &acked))
        return;
    weir__ledger_reach(&stream->ledger, acked, now_ns(stream));
    weir__stream_tell_progress(stream);
}

void weir__stream_answered(struct weir_stream *stream, uint64_t arrived_ns)
{
    if (stream->answer_due_ns != 0)
        note_answer(stream, arrived_ns);
    if (awaits_answer(stream) && stream->ledger.first)
        count_unacked(stream);
}

/*
 * How old the first write must be before the kernel is asked about it. With a stamp of its own to come,
 * asking is only for the case that it was lost. With other writes behind it, its stamp may have become
 * theirs: the kernel moves it along when it puts the next bytes into the same packet. Nothing is
 * acknowledged sooner than a round trip.
 */
static uint64_t check_age_ms(const struct weir_stream *stream)
{
    if (stream->source != WEIR_DELIVERY_TX_ACK)
        return 0;
    if (awaits_answer(stream))
        return ANSWER_CHECK_MS;
    if (stream->ledger.first == stream->ledger.last)
        return weir__ledger_check_delay_ms(true, stream->rtt_us, stream->checks);
    return stream->rtt_us / 1000u;
}

/* How long from one question to the next. */
static uint64_t check_interval_ms(const struct weir_stream *stream)
{
    bool stamp_to_come = stream->source == WEIR_DELIVERY_TX_ACK && !awaits_answer(stream) &&
                         stream->ledger.first == stream->ledger.last;

    if (expects_answer(stream))
        return ANSWER_CHECK_MS;
    return weir__ledger_check_delay_ms(stamp_to_come, stream->rtt_us, stream->checks);
}

/* By the round's time, which is read already: it may lie before what was accepted in this round. */
static uint64_t first_age_ms(const struct weir_stream *stream)
{
    uint64_t round_ns = weir_loop_now_ns(stream->loop);
    uint64_t accepted_ns = stream->ledger.first->accepted_ns;

    return round_ns > accepted_ns ? (round_ns - accepted_ns) / NS_PER_MS : 0;
}

/*
 * The timer is started with the first write that waits and then runs on by itself while any does, so
 * that a busy stream pays for it now and then and not for each write.
 */
static void start_check(struct weir_stream *stream)
{
    uint64_t now_ms = weir_loop_now_ns(stream->loop) / NS_PER_MS;
    uint64_t due_ms = check_age_ms(stream), age_ms = first_age_ms(stream);
    uint64_t delay_ms = age_ms < due_ms ? due_ms - age_ms : check_interval_ms(stream);

    if (!weir_timer_is_started(&stream->check_timer) ||
        stream->check_timer.expires_ms > now_ms + delay_ms + 1)
        weir_timer_start(&stream->check_timer, delay_ms);
}

static void on_check(struct weir_timer *timer)
{
    struct weir_stream *stream = timer->context;

    if (stream->send_short) {
        stream->send_short = false;
        weir__stream_defer(stream);
    }
    if (!stream->ledger.first)
        return;
    if (first_age_ms(stream) >= check_age_ms(stream)) {
        stream->checks++;
        if (awaits_answer(stream) && first_age_ms(stream) >= QUICK_ANSWER_MS)
            stream->quick_answers = 0;
        if (expects_answer(stream))
            count_unacked(stream);
        else
            weir__stream_count(stream);
    }
    if (stream->ledger.first && !stream->dying)
        start_check(stream);
}

void weir__stream_delivery_init(struct weir_stream *stream)
{
    weir__ledger_init(&stream->ledger);
    weir_timer_init(&stream->check_timer, stream->loop, on_check, stream);
}

void weir__stream_delivery_open(struct weir_stream *stream)
{
    struct weir__engine *engine = stream->engine;
    bool delivery = weir__loop_delivery(stream->loop);
    struct weir__socket_info info;

    engine->ops->socket_prepare(engine, &stream->socket, stream->no_delay, delivery);
    if (delivery && stream->socket.stamps)
        stream->source = WEIR_DELIVERY_TX_ACK;
    else if (delivery && engine->ops->socket_info(engine, &stream->socket, &info) == 0)
        stream->source = WEIR_DELIVERY_TCP_INFO;

    stream->watch_op = (struct weir__op){
        .kind = WEIR__OP_WATCH,
        .complete = on_watch,
        .socket = &stream->socket,
    };
    engine->ops->submit(engine, &stream->watch_op);
}

bool weir__stream_accepted(struct weir_stream *stream, struct weir__write *write,
                           uint64_t accepted_ns)
{
    write->entry.accepted_ns = accepted_ns;
    write->accepted = true;
    tell_stage(stream, write, WEIR_STAGE_ACCEPTED, accepted_ns, WEIR_DELIVERY_NONE);
    if (write->pins == 0)
        tell_stage(stream, write, WEIR_STAGE_RELEASED, accepted_ns, WEIR_DELIVERY_NONE);
    if (weir__write_waits(write) && stream->source != WEIR_DELIVERY_NONE)
        return true;
    weir__stream_let_go(stream, write);
    return false;
}

void weir__stream_await(struct weir_stream *stream, struct weir__write *write, uint64_t wire_end)
{
    write->entry.end = wire_end;
    weir__ledger_add(&stream->ledger, &write->entry);
    stream->answer_due_ns = write->entry.accepted_ns;
    start_check(stream);
}

int weir_stream_delivery_info(struct weir_stream *stream, struct weir_delivery_info *info)
{
    struct weir__socket_info socket_info;

    *info = (struct weir_delivery_info){
        .wire_bytes_accepted = stream->ledger.accepted,
        .bytes_accepted = stream->plain_accepted,
    };
    if (stream->aborted) {
        info->wire_bytes_acked = stream->ledger.acked;
        info->bytes_acked = plain_at(stream, stream->ledger.acked);
        info->rtt_us = stream->rtt_us;
        info->retransmits = stream->retransmits;
        return stream->counts_kept ? 0 : WEIR_ENOTSUP;
    }
    if (stream->opening ||
        stream->engine->ops->socket_info(stream->engine, &stream->socket, &socket_info) != 0)
        return WEIR_ENOTSUP;
    info->wire_bytes_acked = acked_of(stream, &socket_info);
    info->bytes_acked = plain_at(stream, info->wire_bytes_acked);
    info->rtt_us = socket_info.rtt_us;
    info->retransmits = socket_info.retransmits;
    info->notsent_bytes = socket_info.notsent_bytes;
    return 0;
}
