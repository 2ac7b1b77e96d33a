/* SPDX-License-Identifier: Apache-2.0 */
#include "net/stream.h"

#include <assert.h>
#include <string.h>

#include <weir/error.h>

#include "core/list.h"
#include "core/pool.h"

/* A send that met ENOBUFS or ENOMEM is tried again after this; nothing would wake it otherwise. */
#define SEND_RETRY_MS 10

#define NS_PER_MS 1000000u

/*
 * A stamp is a packet of its own in the error queue, made by the kernel, waking the loop, and read by a
 * call: two for each write would cost a fifth of the CPU time of a 1 KB response. A peer that answers at
 * once makes them needless: its next request carries the ACK, and asking then how much is unacknowledged
 * costs a tenth of that. So a stream whose peer answered so often in a row within QUICK_ANSWER_MS sends
 * without stamps; the time that it reports is late by less than that. The first answer that stays away
 * ends it: the kernel is asked then, and the writes that follow are stamped again.
 */
#define QUICK_ANSWERS_MIN 4
#define QUICK_ANSWER_MS   10u

static uint64_t now_ns(struct weir_stream *stream)
{
    return stream->engine->ops->now_ns(stream->engine);
}

static struct weir__pool *write_pool(struct weir_stream *stream)
{
    return weir__loop_pool(stream->loop, WEIR__LOOP_POOL_WRITES, sizeof(struct weir__write));
}

static struct weir__pool *batch_pool(struct weir_stream *stream)
{
    return weir__loop_pool(stream->loop, WEIR__LOOP_POOL_BATCHES,
                           sizeof(struct iovec) * WEIR__SEND_PARTS_MAX);
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
             .accepted_bytes = write->taken,
         });
}

static void tell_failed(struct weir_stream *stream, struct weir__write *write, int error)
{
    uint64_t delivered = 0;

    if (write->taken > 0 && stream->ledger.acked > write->start)
        delivered = stream->ledger.acked - write->start;
    tell(stream, write,
         &(struct weir_write_event){
             .stage = WEIR_STAGE_FAILED,
             .at_ns = now_ns(stream),
             .first_byte_ns = write->first_byte_ns,
             .source = stream->ledger.acked_by,
             .bytes = delivered < write->taken ? delivered : write->taken,
             .accepted_bytes = write->taken,
             .error = error,
         });
}

static void free_write(struct weir_stream *stream, struct weir__write *write)
{
    assert(stream->write_count > 0);
    stream->write_count--;
    weir__pool_give(write_pool(stream), write);
    if (stream->write_count == 0 && stream->closing)
        weir__stream_defer(stream);
}

static void tell_progress(struct weir_stream *stream)
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
        free_write(stream, write);
    }
}

/* ---- what is known of delivery ---- */

static void on_watch(struct weir__op *op, const struct weir__completion *completion)
{
    struct weir_stream *stream = WEIR__CONTAINER(op, struct weir_stream, watch_op);

    if (completion->more) {
        weir__ledger_stamp(&stream->ledger, &completion->stamp);
        tell_progress(stream);
        return;
    }
    if (completion->result < 0)
        weir__stream_end(stream, (int)completion->result, false);
    weir__stream_defer(stream);
}

bool weir__stream_count(struct weir_stream *stream)
{
    struct weir__socket_info info;

    if (stream->source == WEIR_DELIVERY_NONE)
        return false;
    if (stream->engine->ops->socket_info(stream->engine, &stream->socket, &info) != 0)
        return false;
    stream->rtt_us = info.rtt_us;
    weir__ledger_count(&stream->ledger, info.bytes_acked, info.notsent_bytes, now_ns(stream));
    tell_progress(stream);
    return true;
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

    if (stream->engine->ops->socket_unacked(stream->engine, &stream->socket, &unacked) != 0)
        return false;
    /* What the kernel has taken and we have not heard of yet counts as unacknowledged: that is safe. */
    *acked = unacked < accepted ? accepted - unacked : 0;
    return true;
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

void weir__stream_answered(struct weir_stream *stream, uint64_t arrived_ns)
{
    uint64_t acked;

    if (stream->answer_due_ns != 0)
        note_answer(stream, arrived_ns);
    if (!awaits_answer(stream) || !stream->ledger.first || !acked_now(stream, &acked))
        return;
    weir__ledger_reach(&stream->ledger, acked, now_ns(stream));
    tell_progress(stream);
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
        return QUICK_ANSWER_MS;
    if (stream->ledger.first == stream->ledger.last)
        return weir__ledger_check_delay_ms(true, stream->rtt_us, stream->checks);
    return stream->rtt_us / 1000u;
}

/* How long from one question to the next. */
static uint64_t check_interval_ms(const struct weir_stream *stream)
{
    bool stamp_to_come = stream->source == WEIR_DELIVERY_TX_ACK && !awaits_answer(stream) &&
                         stream->ledger.first == stream->ledger.last;

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
        if (awaits_answer(stream))
            stream->quick_answers = 0;
        weir__stream_count(stream);
    }
    if (stream->ledger.first && !stream->dying)
        start_check(stream);
}

void weir__stream_send_init(struct weir_stream *stream, const struct weir_stream_options *options)
{
    weir__ledger_init(&stream->ledger);
    weir_timer_init(&stream->check_timer, stream->loop, on_check, stream);
    stream->queue_bytes_max = options->queue_bytes_max;
    stream->queue_writes_max = options->queue_writes_max;
}

void weir__stream_send_open(struct weir_stream *stream)
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

/* ---- sending ---- */

/* The kernel has all of a write. */
static void finish_accepted(struct weir_stream *stream, struct weir__write *write,
                            uint64_t accepted_ns)
{
    bool waits = (write->stages & (WEIR_STAGE_SENT | WEIR_STAGE_DELIVERED)) != 0;

    tell_stage(stream, write, WEIR_STAGE_ACCEPTED, accepted_ns, WEIR_DELIVERY_NONE);
    tell_stage(stream, write, WEIR_STAGE_RELEASED, accepted_ns, WEIR_DELIVERY_NONE);
    if (!waits) {
        free_write(stream, write);
    } else if (stream->source == WEIR_DELIVERY_NONE) {
        tell_failed(stream, write, WEIR_ENOTSUP);
        free_write(stream, write);
    } else {
        write->entry.end = write->start + write->length;
        write->entry.accepted_ns = accepted_ns;
        weir__ledger_add(&stream->ledger, &write->entry);
        stream->answer_due_ns = accepted_ns;
        start_check(stream);
    }
}

static void take_sent_bytes(struct weir_stream *stream, uint64_t bytes)
{
    uint64_t taken_ns = now_ns(stream);
    uint64_t left = bytes;
    struct weir__write *write;

    weir__ledger_accept(&stream->ledger, bytes);
    while ((write = weir__send_queue_advance(&stream->queue, &left, stream->ledger.accepted - left,
                                             taken_ns)))
        finish_accepted(stream, write, taken_ns);
    tell_progress(stream);
}

static void retry_later(struct weir_stream *stream)
{
    stream->send_short = true;
    weir_timer_start(&stream->check_timer, SEND_RETRY_MS);
}

static void on_send(struct weir__op *op, const struct weir__completion *completion)
{
    struct weir_stream *stream = WEIR__CONTAINER(op, struct weir_stream, send_op);
    int error = completion->result < 0 ? (int)completion->result : 0;

    if (stream->send_batch) {
        weir__pool_give(batch_pool(stream), stream->send_batch);
        stream->send_batch = NULL;
    }
    if (completion->result > 0)
        take_sent_bytes(stream, (uint64_t)completion->result);

    if (stream->dying)
        weir__stream_defer(stream);
    else if (error == WEIR_ENOBUFS || error == WEIR_ENOMEM)
        retry_later(stream);
    else if (error)
        weir__stream_end(stream, error, error == WEIR_ETRUNCATED);
    else
        weir__stream_flush(stream);
    if (stream->shut_wanted)
        weir__stream_defer(stream);
}

/* Where the parts of the next send go. NULL when memory is out. */
static struct iovec *parts_room(struct weir_stream *stream, unsigned *parts_max)
{
    if (stream->queue.first == stream->queue.last) {
        *parts_max = WEIR_WRITE_PARTS_MAX;
        return stream->send_parts;
    }
    *parts_max = WEIR__SEND_PARTS_MAX;
    stream->send_batch = weir__pool_take(batch_pool(stream));
    return stream->send_batch;
}

void weir__stream_flush(struct weir_stream *stream)
{
    struct weir__send_plan plan;
    struct weir__op *op = &stream->send_op;
    unsigned parts_max, flags = 0;

    if (op->in_flight || stream->opening || stream->dying || stream->send_short ||
        !stream->queue.first)
        return;
    struct iovec *parts = parts_room(stream, &parts_max);
    if (!parts) {
        retry_later(stream);
        return;
    }
    weir__send_queue_plan(&stream->queue, &plan, parts, parts_max);
    if (plan.stamp && stream->source == WEIR_DELIVERY_TX_ACK) {
        if (stream->quick_answers < QUICK_ANSWERS_MIN)
            flags |= WEIR__SEND_STAMP;
        else
            stream->unstamped_end = stream->ledger.accepted + plan.length;
    }
    if (plan.more)
        flags |= WEIR__SEND_MORE;

    op->complete = on_send;
    op->socket = &stream->socket;
    if (plan.part_count > 0) {
        op->kind = WEIR__OP_SEND;
        op->send.parts = parts;
        op->send.part_count = plan.part_count;
        op->send.flags = flags;
        op->send.record_type = 0;
    } else {
        op->kind = WEIR__OP_SEND_FILE;
        op->send_file.file = plan.file;
        op->send_file.offset = plan.file_offset;
        op->send_file.length = plan.length;
        op->send_file.flags = flags;
    }
    stream->engine->ops->submit(stream->engine, op);
}

void weir__stream_settle(struct weir_stream *stream)
{
    struct weir__ledger_entry *entry;
    struct weir__write *write;
    int error = stream->reason ? stream->reason : WEIR_ETIMEDOUT;

    weir_timer_stop(&stream->check_timer);
    /* The kernel may know more than the stamps that reached us. */
    weir__stream_count(stream);
    while ((entry = weir__ledger_take_any(&stream->ledger))) {
        write = WEIR__CONTAINER(entry, struct weir__write, entry);
        if (write->stages)
            tell_failed(stream, write, error);
        free_write(stream, write);
    }
    while ((write = weir__send_queue_take(&stream->queue))) {
        tell_failed(stream, write, error);
        free_write(stream, write);
    }
    assert(stream->write_count == 0);
    assert(stream->queue.bytes == 0);
}

/* ---- the owner's calls ---- */

static bool is_valid(const struct weir_write *write)
{
    unsigned known = WEIR_STAGE_ACCEPTED | WEIR_STAGE_RELEASED | WEIR_STAGE_SENT |
                     WEIR_STAGE_DELIVERED | WEIR_STAGE_FAILED;

    if (write->part_count > WEIR_WRITE_PARTS_MAX || (write->stages & ~known) != 0)
        return false;
    if (write->stages != 0 && !write->on_stage)
        return false;
    return write->file_length == 0 || write->file >= 0;
}

static uint64_t memory_length(const struct weir_write *write)
{
    uint64_t length = 0;

    for (unsigned i = 0; i < write->part_count; i++)
        length += write->parts[i].iov_len;
    return length;
}

int weir_stream_write(struct weir_stream *stream, const struct weir_write *source)
{
    if (stream->dying || stream->closing || stream->shut_wanted)
        return WEIR_ESHUT;
    if (!is_valid(source))
        return WEIR_EINVAL;
    uint64_t memory_bytes = memory_length(source);
    uint64_t length = memory_bytes + source->file_length;
    if (length == 0 || length < memory_bytes)
        return WEIR_EINVAL;
    if (stream->write_count >= stream->queue_writes_max ||
        stream->queue.bytes > stream->queue_bytes_max ||
        length > stream->queue_bytes_max - stream->queue.bytes)
        return WEIR_EQUEUEFULL;
    struct weir__write *write = weir__pool_take(write_pool(stream));
    if (!write)
        return WEIR_ENOMEM;

    *write = (struct weir__write){
        .part_count = source->part_count,
        .file = source->file,
        .more = source->more,
        .stages = (uint8_t)(source->stages & ~(unsigned)WEIR_STAGE_FAILED),
        .memory_length = memory_bytes,
        .file_offset = source->file_offset,
        .length = length,
        .on_stage = source->on_stage,
        .context = source->context,
    };
    if (source->part_count > 0)
        memcpy(write->parts, source->parts, source->part_count * sizeof(write->parts[0]));
    weir__send_queue_append(&stream->queue, write);
    stream->write_count++;
    weir__stream_defer(stream);
    return 0;
}

uint32_t weir_stream_queue_room(const struct weir_stream *stream)
{
    if (stream->dying || stream->closing || stream->shut_wanted)
        return 0;
    return stream->queue_writes_max - stream->write_count;
}

uint64_t weir_stream_queued_bytes(const struct weir_stream *stream)
{
    return stream->queue.bytes;
}

int weir_stream_delivery_info(struct weir_stream *stream, struct weir_delivery_info *info)
{
    struct weir__socket_info socket_info;

    *info = (struct weir_delivery_info){.wire_bytes_accepted = stream->ledger.accepted};
    if (stream->opening ||
        stream->engine->ops->socket_info(stream->engine, &stream->socket, &socket_info) != 0)
        return WEIR_ENOTSUP;
    uint64_t acked = stream->ledger.base + socket_info.bytes_acked;
    info->wire_bytes_acked = acked < stream->ledger.accepted ? acked : stream->ledger.accepted;
    info->rtt_us = socket_info.rtt_us;
    info->retransmits = socket_info.retransmits;
    info->notsent_bytes = socket_info.notsent_bytes;
    return 0;
}
