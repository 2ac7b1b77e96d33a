/* SPDX-License-Identifier: Apache-2.0 */
#include "net/stream.h"

#include <assert.h>
#include <string.h>

#include <weir/error.h>

#include "core/list.h"
#include "core/pool.h"

/* A send that met ENOBUFS or ENOMEM is tried again after this; nothing would wake it otherwise. */
#define SEND_RETRY_MS 10

/* A peer that takes so much in so short a time is fast: see note_pace. */
#define FAST_BYTES (1u << 20)
#define FAST_NS    UINT64_C(1000000000)

_Static_assert(WEIR__TRANSPORT_PARTS_MAX >= WEIR_WRITE_PARTS_MAX, "one array for either");

static struct weir__pool *batch_pool(struct weir_stream *stream)
{
    return weir__loop_pool(stream->loop, WEIR__LOOP_POOL_BATCHES,
                           sizeof(struct iovec) * WEIR__SEND_PARTS_MAX);
}

void weir__stream_send_init(struct weir_stream *stream, const struct weir_stream_options *options)
{
    weir__stream_delivery_init(stream);
    stream->queue_bytes_max = options->queue_bytes_max;
    stream->queue_writes_max = options->queue_writes_max;
}

/* ---- what the kernel has taken ---- */

/* Before the writes are entered: when to look for them depends on it. */
static void note_unstamped(struct weir_stream *stream)
{
    if (stream->send_unstamped)
        stream->unstamped_end = stream->ledger.accepted;
}

/*
 * A record of the kernel's tells the peer nothing before it is closed, and where it will end is not known
 * sooner: at most a record's bytes past where it would have ended when the write did, or where the kernel's
 * bytes end once it is closed.
 */
static void await_open_record(struct weir_stream *stream, bool closed)
{
    struct weir__write *write;

    while (closed && (write = weir__send_queue_take(&stream->sealed))) {
        uint64_t end = write->entry.end + WEIR__TRANSPORT_RECORD_MAX;

        weir__stream_await(stream, write,
                           end < stream->ledger.accepted ? end : stream->ledger.accepted);
    }
}

/* Of the owner's bytes. With kernel TLS a record's header and tag are beside them; the last write has these. */
static void take_passed(struct weir_stream *stream, uint64_t bytes, uint64_t taken_ns)
{
    struct weir__send_position at = {
        .plain = stream->plain_taken,
        .wire = stream->ledger.accepted,
        .now_ns = taken_ns,
        .ways = stream->send_ways,
    };
    bool closed = bytes == stream->send_length && !stream->send_more;
    struct weir__write *write;
    uint64_t left = bytes;

    stream->plain_taken += bytes;
    stream->plain_accepted = stream->plain_taken;
    if (stream->transport) {
        bool before = stream->transport->ops->passed_taken(stream->transport, bytes, closed);
        note_unstamped(stream);
        await_open_record(stream, before);
    } else {
        closed = true;
        weir__ledger_accept(&stream->ledger, bytes);
        note_unstamped(stream);
    }
    while ((write = weir__send_queue_advance(&stream->queue, &left, &at))) {
        if (left == 0 && write->wire_end < stream->ledger.accepted)
            write->wire_end = stream->ledger.accepted;
        uint64_t end = stream->transport ? stream->ledger.accepted : write->wire_end;
        if (!weir__stream_accepted(stream, write, taken_ns))
            continue;
        write->entry.end = end;
        if (closed || stream->plain_taken - at.plain >= WEIR__TRANSPORT_RECORD_MAX)
            weir__stream_await(stream, write, end);
        else
            weir__send_queue_append(&stream->sealed, write);
    }
}

static void note_first_byte(struct weir_stream *stream, struct weir__write *write,
                            uint64_t taken_ns)
{
    if (write->taken > 0 && write->first_byte_ns == 0 &&
        write->wire_start < stream->ledger.accepted)
        write->first_byte_ns = taken_ns;
}

/*
 * The first byte of a write that is made may be with the kernel long before its last: those of several may. Which
 * way they went is known, too.
 */
static void note_sealed(struct weir_stream *stream, uint64_t taken_ns)
{
    struct weir__write *write = stream->sealed.first;

    for (; write && write->wire_start < stream->ledger.accepted; write = write->next) {
        note_first_byte(stream, write, taken_ns);
        write->ways |= (uint8_t)stream->send_ways;
    }
    write = write ? NULL : stream->queue.first;
    if (write && write->taken > 0 && write->wire_start < stream->ledger.accepted) {
        note_first_byte(stream, write, taken_ns);
        write->ways |= (uint8_t)stream->send_ways;
    }
}

/* Of the wire's bytes that the transport made. */
static void take_made(struct weir_stream *stream, uint64_t bytes, uint64_t taken_ns)
{
    struct weir__write *write;

    weir__ledger_accept(&stream->ledger, bytes);
    note_unstamped(stream);
    stream->transport->ops->made_taken(stream->transport, bytes);
    if (stream->socket.tls_tx)
        return;
    stream->plain_accepted =
        stream->transport->ops->plain_at(stream->transport, stream->ledger.accepted);
    note_sealed(stream, taken_ns);
    while ((write = stream->sealed.first) && write->entry.end <= stream->ledger.accepted) {
        weir__send_queue_take(&stream->sealed);
        if (weir__stream_accepted(stream, write, taken_ns))
            weir__stream_await(stream, write, write->entry.end);
    }
}

/*
 * Memory was taken before the engine came back with the word, so the round's time is later, and as near. A file is
 * perhaps taken piece by piece while the round goes on.
 */
static uint64_t taken_time(struct weir_stream *stream)
{
    return stream->send_op.kind == WEIR__OP_SEND_FILE ? stream->engine->ops->now_ns(stream->engine)
                                                      : weir_loop_now_ns(stream->loop);
}

/*
 * A peer that takes a lot at once gets the kernel's whole buffer: to fill it in small portions costs a wake-up for
 * each, twice the processor time over loopback. One that is slow never gets there, or loses it again.
 */
static void note_pace(struct weir_stream *stream, uint64_t taken_ns)
{
    uint64_t offset = stream->ledger.accepted;

    if (stream->pace_ns == 0)
        stream->pace_ns = taken_ns;
    if (offset - stream->pace_offset < FAST_BYTES)
        return;
    bool fast = taken_ns - stream->pace_ns < FAST_NS;
    if (fast == stream->unsent_bounded) {
        stream->unsent_bounded = !fast;
        stream->engine->ops->socket_unsent_max(stream->engine, &stream->socket,
                                               fast ? 0 : WEIR__UNSENT_BYTES_MAX);
    }
    stream->pace_ns = taken_ns;
    stream->pace_offset = offset;
}

static void take_sent_bytes(struct weir_stream *stream, uint64_t bytes)
{
    uint64_t taken_ns = taken_time(stream);

    weir__send_policy_sent(stream->policy, stream->send_reason, bytes);
    if (stream->send_made)
        take_made(stream, bytes, taken_ns);
    else
        take_passed(stream, bytes, taken_ns);
    if (stream->paced)
        note_pace(stream, taken_ns);
    weir__stream_tell_progress(stream);
}

/* ---- sending ---- */

void weir__stream_retry_later(struct weir_stream *stream)
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
    weir__stream_pin_taken(stream, completion->result > 0 ? (uint64_t)completion->result : 0);

    if (stream->dying)
        weir__stream_defer(stream);
    else if (error == WEIR_ENOBUFS || error == WEIR_ENOMEM)
        weir__stream_retry_later(stream);
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

static void submit(struct weir_stream *stream, uint64_t length)
{
    stream->send_length = length;
    stream->send_op.complete = on_send;
    stream->send_op.socket = &stream->socket;
    stream->engine->ops->submit(stream->engine, &stream->send_op);
}

/* `waits`: with the send ends a write that waits. A peer that answers at once gets no stamp all the same. */
static unsigned stamp_flag(struct weir_stream *stream, bool waits)
{
    bool stamped = waits && weir__stream_wants_stamp(stream);

    stream->send_unstamped = waits && !stamped && stream->source == WEIR_DELIVERY_TX_ACK;
    return stamped ? WEIR__SEND_STAMP : 0;
}

/* A send from memory, by this reason. `pinned` is NULL unless that stands for zero copy. */
static void set_reason(struct weir_stream *stream, enum weir_send_reason reason,
                       struct weir__pinned *pinned)
{
    bool kernel_tls = stream->socket.tls_tx;
    bool file = reason == WEIR_SEND_BECAUSE_FILE;

    /* What becomes of the pin says how pinned bytes went. */
    stream->send_ways = pinned ? 0 : file ? WEIR_SEND_FILE : WEIR_SEND_COPY;
    if (kernel_tls)
        stream->send_ways |= WEIR_SEND_KERNEL_TLS;
    stream->send_reason = kernel_tls ? WEIR_SEND_BECAUSE_KERNEL_TLS : reason;
    stream->send_op.send.pin = pinned ? &pinned->pin : NULL;
}

static bool is_zerocopy(enum weir_send_reason reason)
{
    return weir_send_reason_way(reason) == WEIR_SEND_ZEROCOPY;
}

static void submit_made(struct weir_stream *stream, const struct weir__transport_send *made)
{
    struct weir__op *op = &stream->send_op;
    enum weir_send_reason reason =
        made->may_pin ? weir__stream_memory_reason(stream, made->length) : WEIR_SEND_BECAUSE_SMALL;
    struct weir__pinned *pinned = is_zerocopy(reason) ? weir__stream_pin_made(stream, made) : NULL;

    if (is_zerocopy(reason) && !pinned)
        reason = WEIR_SEND_BECAUSE_MEMORY;
    stream->send_made = true;
    /* A control record closes the one before it, just where that ends at present. */
    await_open_record(stream, stream->socket.tls_tx);
    op->kind = WEIR__OP_SEND;
    op->send.parts = made->parts;
    op->send.part_count = made->part_count;
    op->send.flags = stamp_flag(stream, made->stamp);
    op->send.record_type = made->record_type;
    set_reason(stream, reason, pinned);
    submit(stream, made->length);
}

/* How many parts from the first on are as small, or as big, as that. */
static unsigned count_alike(const struct iovec *parts, unsigned part_count)
{
    bool small = parts[0].iov_len < WEIR__ZEROCOPY_PART_MIN;
    unsigned count = 1;

    while (count < part_count && (parts[count].iov_len < WEIR__ZEROCOPY_PART_MIN) == small)
        count++;
    return count;
}

/* Leaves no more than may be pinned by one send. */
static void cut(struct weir__send_plan *plan, struct iovec *parts)
{
    uint64_t length = 0;
    unsigned count = 0;

    if (plan->length <= WEIR__ZEROCOPY_BYTES_MAX)
        return;
    while (length + parts[count].iov_len < WEIR__ZEROCOPY_BYTES_MAX)
        length += parts[count++].iov_len;
    parts[count].iov_len = WEIR__ZEROCOPY_BYTES_MAX - (size_t)length;
    plan->part_count = count + 1;
    plan->length = WEIR__ZEROCOPY_BYTES_MAX;
    plan->more = true;
}

/*
 * Decides how to send what is planned. With zero copy small parts go by themselves: pinned, they would cost more than
 * their copy does.
 */
static enum weir_send_reason choose(struct weir_stream *stream, struct weir__send_plan *plan,
                                    struct iovec *parts, struct weir__pinned **pinned)
{
    uint64_t bytes =
        plan->length < WEIR__ZEROCOPY_BYTES_MAX ? plan->length : WEIR__ZEROCOPY_BYTES_MAX;
    enum weir_send_reason reason = weir__stream_memory_reason(stream, bytes);

    *pinned = NULL;
    if (!is_zerocopy(reason))
        return reason;
    unsigned alike = count_alike(parts, plan->part_count);
    bool small = parts[0].iov_len < WEIR__ZEROCOPY_PART_MIN, all = alike == plan->part_count;
    if (!all)
        weir__send_queue_plan(&stream->queue, plan, parts, alike);
    if (small)
        return all ? WEIR_SEND_BECAUSE_SMALL : WEIR_SEND_BECAUSE_HEAD;
    if (plan->length < WEIR__ZEROCOPY_BYTES_MIN)
        return WEIR_SEND_BECAUSE_SMALL;
    cut(plan, parts);
    *pinned = weir__stream_pin(stream, plan->length);
    return *pinned ? reason : WEIR_SEND_BECAUSE_MEMORY;
}

/* From memory. */
static void submit_parts(struct weir_stream *stream, struct weir__send_plan *plan,
                         struct iovec *parts)
{
    struct weir__op *op = &stream->send_op;
    struct weir__pinned *pinned = NULL;
    enum weir_send_reason reason = WEIR_SEND_BECAUSE_KERNEL_TLS;

    if (!stream->socket.tls_tx)
        reason = choose(stream, plan, parts, &pinned);
    op->kind = WEIR__OP_SEND;
    op->send.parts = parts;
    op->send.part_count = plan->part_count;
    op->send.record_type = 0;
    set_reason(stream, reason, pinned);
}

static void submit_file(struct weir_stream *stream, const struct weir__send_plan *plan)
{
    struct weir__op *op = &stream->send_op;

    op->kind = WEIR__OP_SEND_FILE;
    set_reason(stream, WEIR_SEND_BECAUSE_FILE, NULL);
    op->send_file.file = plan->file;
    op->send_file.offset = plan->file_offset;
    op->send_file.length = plan->length;
    op->send_file.piece = weir__send_policy_piece(stream->policy);
}

/* What is queued, as the kernel is to have it. */
static void submit_queued(struct weir_stream *stream)
{
    struct weir__send_plan plan;
    unsigned parts_max;

    struct iovec *parts = parts_room(stream, &parts_max);
    if (!parts) {
        weir__stream_retry_later(stream);
        return;
    }
    weir__send_queue_plan(&stream->queue, &plan, parts, parts_max);
    if (plan.part_count > 0)
        submit_parts(stream, &plan, parts);
    else
        submit_file(stream, &plan);
    bool waits = plan.stamp || stream->sealed.first;
    unsigned flags = stamp_flag(stream, waits);
    /* The kernel's TLS closes a record where no more follows: what is to be stamped ends with one. */
    stream->send_more = plan.more && !(stream->transport && waits);
    if (stream->send_more)
        flags |= WEIR__SEND_MORE;
    stream->send_made = false;
    if (plan.part_count > 0)
        stream->send_op.send.flags = flags;
    else
        stream->send_op.send_file.flags = flags;
    submit(stream, plan.length);
}

/* Submits what the transport makes. False: the queue is to be passed on as it is. */
static bool submit_transport(struct weir_stream *stream)
{
    struct weir__transport_send made = {.parts = stream->send_parts};

    switch (stream->transport->ops->plan(stream->transport, &made)) {
    case WEIR__TRANSPORT_PASS:
        return false;
    case WEIR__TRANSPORT_MADE:
        submit_made(stream, &made);
        break;
    case WEIR__TRANSPORT_NOTHING:
        break;
    }
    return true;
}

void weir__stream_flush(struct weir_stream *stream)
{
    if (stream->send_op.in_flight || stream->opening || stream->dying || stream->send_short)
        return;
    if (stream->transport && submit_transport(stream))
        return;
    if (stream->queue.first)
        submit_queued(stream);
}

/* ---- for a transport that makes the wire's bytes ---- */

struct weir__write *weir__stream_unsealed(struct weir_stream *stream)
{
    return stream->queue.first;
}

bool weir__stream_sealed(struct weir_stream *stream, uint64_t bytes, uint64_t wire_end,
                         uint64_t overhead)
{
    struct weir__send_position at = {
        .plain = stream->plain_taken,
        .wire = wire_end - overhead - bytes,
    };
    struct weir__write *write;
    bool waits = false;

    stream->plain_taken += bytes;
    while ((write = weir__send_queue_advance(&stream->queue, &bytes, &at))) {
        if (bytes == 0)
            write->wire_end = wire_end;
        write->entry.end = wire_end;
        waits = waits || weir__write_waits(write);
        weir__send_queue_append(&stream->sealed, write);
    }
    return waits;
}

void weir__stream_settle(struct weir_stream *stream)
{
    struct weir__ledger_entry *entry;
    struct weir__write *write;
    int error = stream->reason ? stream->reason : WEIR_ETIMEDOUT;

    weir_timer_stop(&stream->check_timer);
    /* The kernel may know more than the stamps that reached us. */
    if (stream->write_count > 0)
        weir__stream_count(stream);
    while ((entry = weir__ledger_take_any(&stream->ledger))) {
        write = WEIR__CONTAINER(entry, struct weir__write, entry);
        if (write->stages)
            weir__stream_tell_failed(stream, write, error);
        weir__stream_let_go(stream, write);
    }
    while ((write = weir__send_queue_take(&stream->sealed)) ||
           (write = weir__send_queue_take(&stream->queue))) {
        weir__stream_tell_failed(stream, write, error);
        weir__stream_let_go(stream, write);
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
    struct weir__write *write = weir__pool_take(weir__stream_write_pool(stream));
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
    return stream->queue.bytes + (stream->plain_taken - stream->plain_accepted);
}
