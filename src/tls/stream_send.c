/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/stream.h"

#include <assert.h>
#include <string.h>

#include <weir/error.h>

#include "net/stream.h"

/*
 * Bytes of the wire that are made at a time: five full records. What the kernel does not take waits here, so a
 * peer that is slow gets little: the kernel's own buffer keeps its connection busy. Chosen by measuring: a
 * response of 128 KB with its head takes the server 58 us of CPU in sends of 5 and 4 records, the same in 6 and
 * 3, 60 in three of 3, 65 where its last 250 bytes are a third send (4, 4 and 1), and in a single one 72 with
 * BBR, which paces, and 55 with Reno.
 */
#define MADE_BYTES (80u << 10)

/*
 * The first records of a connection, and those after a pause, each fit into one segment of 1,460 bytes with
 * its 40 bytes of TCP options and overhead, so that the peer can make use of each as it arrives. 14 KiB is
 * the initial window (RFC 6928): after that segments follow so fast that full records cost nothing.
 */
#define SMALL_RECORD_BYTES 1390u
#define SMALL_BYTES        (14u << 10)
#define PAUSE_NS           UINT64_C(1000000000)

#define PARTS_MAX (WEIR__TLS_SEAL_PARTS_MAX - 1)

/* ---- how the two kinds of offsets go together ---- */

void weir__tls_acked(struct weir__transport *transport, uint64_t wire)
{
    struct weir__tls_stream *tls = weir__tls_stream_of(transport);

    weir__offset_map_pass(&tls->map, wire);
}

/* Where on the wire the next made byte will lie. */
static uint64_t made_end(const struct weir__tls_stream *tls)
{
    return tls->base.stream->ledger.accepted + tls->made.output.bytes;
}

uint64_t weir__tls_plain_at(const struct weir__transport *transport, uint64_t wire)
{
    const struct weir__tls_stream *tls = (const struct weir__tls_stream *)transport;

    /* Of all that was made here no mark is needed. */
    if (!transport->stream->socket.tls_tx && wire >= made_end(tls))
        return transport->stream->plain_taken;
    return weir__offset_map_plain(&tls->map, wire);
}

/* ---- records made here ---- */

int weir__tls_emit(void *context, const uint8_t *bytes, size_t length)
{
    struct weir__tls_stream *tls = context;

    int error = weir__tls_output_append(&tls->made.output, &tls->context->buffers, bytes, length);
    weir__stream_defer(tls->base.stream);
    return error;
}

static int seal_control(struct weir__tls_stream *tls, enum weir__tls_content type,
                        const uint8_t *content, size_t length)
{
    struct weir__tls_protector *sealer = weir__tls_session_sealer(&tls->session);
    const struct iovec part = {.iov_base = (uint8_t *)content, .iov_len = length};
    uint8_t *record = weir__tls_output_reserve(&tls->made.output, &tls->context->buffers,
                                               length + weir__tls_overhead(&sealer->keys));

    if (!record)
        return WEIR_ENOMEM;
    int64_t size = weir__tls_seal(sealer, type, &part, 1, record);
    if (size < 0)
        return WEIR_ETLS;
    weir__tls_output_commit(&tls->made.output, (size_t)size);
    return 0;
}

int weir__tls_control(void *context, enum weir__tls_content type, const uint8_t *content,
                      size_t length, bool then_new_keys)
{
    struct weir__tls_stream *tls = context;

    /* Nothing comes behind close_notify, an alert, or the FIN: the peer's wishes are void. */
    if (tls->close_said || tls->base.stream->shut_done)
        return 0;
    weir__stream_defer(tls->base.stream);
    if (type == WEIR__TLS_ALERT && content[0] == 2)
        tls->close_said = true;
    if (weir__tls_session_sealer(&tls->session)) {
        struct weir__tls_keys keys;
        int error = seal_control(tls, type, content, length);
        if (error || !then_new_keys)
            return error;
        /* The peer is told of the new keys: without them nothing can follow. */
        error = weir__tls_session_next_tx(&tls->session, &keys);
        weir__tls_wipe(&keys, sizeof(keys));
        if (error)
            weir__stream_end(tls->base.stream, error, true);
        return error;
    }
    if (then_new_keys && !tls->base.stream->engine->ops->tls_can_rekey(tls->base.stream->engine))
        return WEIR_ENOTSUP;
    assert(length <= sizeof(tls->kernel_tx.controls[0].content));
    if (tls->control_count == WEIR__TLS_CONTROLS_MAX) {
        /* The peer asks faster than it takes the answers: one answer is good for all (RFC 8446 4.6.3). */
        return type == WEIR__TLS_HANDSHAKE ? 0 : WEIR_ENOMEM;
    }
    struct weir__tls_control *control = &tls->kernel_tx.controls[tls->control_count++];
    control->type = (uint8_t)type;
    control->length = (uint8_t)length;
    control->then_new_keys = then_new_keys;
    memcpy(control->content, content, length);
    return 0;
}

static bool awaits_stamp(const struct weir__tls_stream *tls)
{
    return tls->made.stamp_end > tls->base.stream->ledger.accepted;
}

/* How many more bytes may go behind the first made end that is to be stamped: see WEIR__COALESCE_BYTES_MAX. */
static uint64_t coalesce_room(const struct weir__tls_stream *tls)
{
    uint64_t behind = made_end(tls) - tls->made.stamp_first;

    if (!awaits_stamp(tls))
        return UINT64_MAX;
    return behind < WEIR__COALESCE_BYTES_MAX ? WEIR__COALESCE_BYTES_MAX - behind : 0;
}

/* How much data the next record has. */
static size_t record_limit(struct weir__tls_stream *tls)
{
    struct weir_stream *stream = tls->base.stream;
    uint64_t now_ns = weir_loop_now_ns(stream->loop);
    uint64_t room = coalesce_room(tls);
    size_t limit;

    if (tls->made.made_ns == 0 || now_ns - tls->made.made_ns > PAUSE_NS)
        tls->made.small_end = stream->plain_taken + SMALL_BYTES;
    tls->made.made_ns = now_ns;
    limit = stream->plain_taken < tls->made.small_end ? SMALL_RECORD_BYTES : WEIR__TLS_PLAIN_MAX;
    return room < limit ? (size_t)room : limit;
}

struct gathering {
    struct iovec parts[PARTS_MAX];
    unsigned part_count;
    size_t bytes, limit;
    uint8_t *content; /* where the record's content will lie */
};

static void gather_part(struct gathering *all, const uint8_t *data, uint64_t length)
{
    size_t room = all->limit - all->bytes;
    size_t size = length < room ? (size_t)length : room;

    all->parts[all->part_count++] = (struct iovec){.iov_base = (uint8_t *)data, .iov_len = size};
    all->bytes += size;
}

static bool is_full(const struct gathering *all)
{
    return all->bytes == all->limit || all->part_count == PARTS_MAX;
}

/* What is left of a write's memory. */
static void gather_memory(struct gathering *all, const struct weir__write *write)
{
    uint64_t skip = write->taken;

    for (unsigned i = 0; i < write->part_count && !is_full(all); i++) {
        const struct iovec *part = &write->parts[i];
        if (skip >= part->iov_len) {
            skip -= part->iov_len;
            continue;
        }
        gather_part(all, (const uint8_t *)part->iov_base + skip, part->iov_len - skip);
        skip = 0;
    }
}

/* What is left of a write's file, read to where it will be encrypted. Returns 0 or an error. */
static int gather_file(struct weir__tls_stream *tls, struct gathering *all,
                       const struct weir__write *write)
{
    struct weir__engine *engine = tls->base.stream->engine;
    uint64_t done = write->taken > write->memory_length ? write->taken - write->memory_length : 0;
    uint64_t left = write->length - write->memory_length - done;
    size_t room = all->limit - all->bytes;
    size_t size = left < room ? (size_t)left : room;
    uint8_t *target = all->content + all->bytes;

    int64_t got =
        engine->ops->file_read(engine, write->file, write->file_offset + done, target, size);
    if (got < 0)
        return (int)got;
    if (got == 0)
        return WEIR_ETRUNCATED;
    gather_part(all, target, (uint64_t)got);
    /* What there is of a short file still goes out: its end is told by the next read. */
    if ((uint64_t)got < size)
        all->limit = all->bytes;
    return 0;
}

/* Data for one record, from as many writes as fit, and not far behind the first end that is to be stamped. */
static int gather(struct weir__tls_stream *tls, struct gathering *all)
{
    const struct weir__write *write = weir__stream_unsealed(tls->base.stream);
    bool stamped = false;
    int error = 0;

    for (; write && !is_full(all) && !error; write = write->next) {
        size_t end = all->bytes + (size_t)(write->length - write->taken);

        gather_memory(all, write);
        if (!is_full(all) && write->length > write->memory_length)
            error = gather_file(tls, all, write);
        if (!stamped && all->bytes == end && weir__write_waits(write)) {
            stamped = true;
            if (all->limit - end > WEIR__COALESCE_BYTES_MAX)
                all->limit = end + WEIR__COALESCE_BYTES_MAX;
        }
    }
    return error;
}

static void note_stamp(struct weir__tls_stream *tls)
{
    if (!awaits_stamp(tls))
        tls->made.stamp_first = made_end(tls);
    tls->made.stamp_end = made_end(tls);
}

static int seal_next(struct weir__tls_stream *tls)
{
    struct weir_stream *stream = tls->base.stream;
    struct weir__tls_protector *sealer = weir__tls_session_sealer(&tls->session);
    size_t overhead = weir__tls_overhead(&sealer->keys);
    struct gathering all = {.limit = record_limit(tls)};
    uint64_t left = stream->queue.bytes;
    size_t content_bytes = left < all.limit ? (size_t)left : all.limit;

    uint8_t *record = weir__tls_output_reserve(&tls->made.output, &tls->context->buffers,
                                               content_bytes + overhead);
    if (!record)
        return WEIR_ENOBUFS;
    all.limit = content_bytes;
    all.content = record + weir__tls_content_offset(&sealer->keys);
    int error = gather(tls, &all);
    if (all.bytes == 0)
        return error;
    int64_t size =
        weir__tls_seal(sealer, WEIR__TLS_APPLICATION_DATA, all.parts, all.part_count, record);
    if (size < 0)
        return WEIR_ETLS;
    weir__tls_output_commit(&tls->made.output, (size_t)size);
    if (weir__stream_sealed(stream, all.bytes, made_end(tls), (uint64_t)size - all.bytes))
        note_stamp(tls);
    weir__offset_map_add(&tls->map, made_end(tls), stream->plain_taken, WEIR__OFFSET_WHOLE);
    return 0;
}

/* ---- the bound of records under one key ---- */

/* The next record has number `sequence`. Returns 0, or an error: none may follow. */
static int check_records(struct weir__tls_stream *tls, uint64_t sequence)
{
    struct weir_stream *stream = tls->base.stream;
    struct weir__engine *engine = stream->engine;

    if (sequence < tls->context->records_max)
        return 0;
    bool can_rekey = tls->session.version == WEIR__TLS_1_3 && tls->session.secret_length > 0 &&
                     (!stream->socket.tls_tx || engine->ops->tls_can_rekey(engine));
    if (can_rekey)
        return tls->control_count > 0 ? 0 : weir__tls_session_update_keys(&tls->session, false);
    /* What is queued still goes out, within the margin that records_max leaves. */
    if (!stream->closing)
        weir__tls_stream_end(tls, WEIR_ENOTSUP);
    return sequence < WEIR__TLS_RECORDS_MAX ? 0 : WEIR_ETLS;
}

/* Makes records of what is queued. Returns 0 or an error. */
static int make_records(struct weir__tls_stream *tls)
{
    struct weir_stream *stream = tls->base.stream;
    int error = 0;

    while (!error && weir__stream_unsealed(stream) && tls->made.output.bytes < MADE_BYTES) {
        if (stream->queue.first->length > coalesce_room(tls))
            break;
        error = check_records(tls, weir__tls_session_sealer(&tls->session)->keys.sequence);
        if (!error)
            error = seal_next(tls);
    }
    return error;
}

/* Whether so much was made in this round that the rest waits for the next. */
static bool is_next_rounds(struct weir__tls_stream *tls)
{
    struct weir_tls_context *context = tls->context;
    uint64_t round = weir__loop_waits(tls->base.stream->loop);

    if (context->round != round) {
        context->round = round;
        context->round_bytes = 0;
    }
    return context->round_bytes >= WEIR__TLS_ROUND_BYTES_MAX;
}

/* ---- records made by the kernel ---- */

static int attach_tx(struct weir__tls_stream *tls, const struct weir__tls_keys *keys)
{
    struct weir_stream *stream = tls->base.stream;

    return stream->engine->ops->socket_tls_attach(stream->engine, &stream->socket, WEIR__TLS_TX,
                                                  keys);
}

/* The kernel counts from here on. */
static void begin_count(struct weir__tls_stream *tls, const struct weir__tls_keys *keys)
{
    tls->kernel_tx.wire_base = tls->base.stream->ledger.accepted;
    tls->kernel_tx.sequence_base = keys->sequence;
    tls->kernel_tx.sequence = keys->sequence;
    tls->kernel_tx.bytes = 0;
}

/* All that was made here has left; the kernel makes the rest. */
static void take_to_kernel(struct weir__tls_stream *tls)
{
    const struct weir__tls_keys *keys = &weir__tls_session_sealer(&tls->session)->keys;

    tls->wants_kernel_tx = false;
    if (attach_tx(tls, keys) != 0) {
        tls->wants_kernel_rx = false;
        return;
    }
    assert(!tls->made.output.first);
    memset(&tls->kernel_tx, 0, sizeof(tls->kernel_tx));
    begin_count(tls, keys);
    weir__tls_session_release(&tls->session, WEIR__TLS_TX);
    /* What is received comes behind. */
    if (tls->wants_kernel_rx && weir__tls_session_rx_is_free(&tls->session))
        weir__tls_switch_rx(tls);
}

/*
 * Where on the wire the kernel's records end, by their number. If the last one is open still, as where it
 * would close now: that is at or past each byte that it took. Returns the number of the next record.
 */
static uint64_t count_records(struct weir__tls_stream *tls, bool closed)
{
    struct weir_stream *stream = tls->base.stream;
    struct weir__tls_kernel_tx *kernel = &tls->kernel_tx;
    uint64_t sequence = kernel->sequence_base, wire;

    (void)stream->engine->ops->socket_tls_sequence(stream->engine, &stream->socket, &sequence);
    wire = kernel->wire_base + kernel->bytes +
           weir__tls_session_overhead(&tls->session) *
               (sequence - kernel->sequence_base + (closed ? 0 : 1));
    if (wire > stream->ledger.accepted)
        weir__ledger_accept(&stream->ledger, wire - stream->ledger.accepted);
    return sequence;
}

/*
 * Records of the kernel's: where they end is not known, and the last may be of no use yet. But how many bytes of the
 * wire are not the owner's is.
 */
bool weir__tls_passed_taken(struct weir__transport *transport, uint64_t bytes, bool closed)
{
    struct weir__tls_stream *tls = weir__tls_stream_of(transport);
    struct weir_stream *stream = transport->stream;
    struct weir__offset_mark last = weir__offset_map_last(&tls->map);
    uint64_t plain = stream->plain_taken;

    tls->kernel_tx.bytes += bytes;
    uint64_t sequence = count_records(tls, closed);
    bool closed_before = closed || sequence > tls->kernel_tx.sequence;
    tls->kernel_tx.sequence = sequence;
    if (!closed)
        plain = plain > WEIR__TLS_PLAIN_MAX ? plain - WEIR__TLS_PLAIN_MAX : 0;
    weir__offset_map_add(&tls->map, stream->ledger.accepted,
                         plain > last.plain ? plain : last.plain,
                         WEIR__TLS_PLAIN_MAX + (stream->ledger.accepted - last.wire - bytes));
    int error = check_records(tls, sequence);
    if (error)
        weir__stream_end(stream, error, true);
    return closed_before;
}

/* The kernel has made a control record. */
static void control_taken(struct weir__tls_stream *tls, uint64_t bytes)
{
    struct weir__tls_control control = tls->kernel_tx.controls[0];

    tls->control_in_flight = false;
    tls->kernel_tx.bytes += bytes;
    tls->kernel_tx.sequence = count_records(tls, true);
    /* It closes the record before it. */
    weir__offset_map_add(&tls->map, tls->base.stream->ledger.accepted,
                         tls->base.stream->plain_taken, WEIR__OFFSET_WHOLE);
    if (bytes < control.length) {
        weir__stream_end(tls->base.stream, WEIR_EIO, true);
        return;
    }
    tls->control_count--;
    memmove(tls->kernel_tx.controls, tls->kernel_tx.controls + 1,
            tls->control_count * sizeof(tls->kernel_tx.controls[0]));
    if (!control.then_new_keys)
        return;
    struct weir__tls_keys keys;
    int error = weir__tls_session_next_tx(&tls->session, &keys);
    if (!error)
        error = attach_tx(tls, &keys);
    if (!error)
        begin_count(tls, &keys);
    else
        weir__stream_end(tls->base.stream, error, true);
    weir__tls_wipe(&keys, sizeof(keys));
}

void weir__tls_made_taken(struct weir__transport *transport, uint64_t bytes)
{
    struct weir__tls_stream *tls = weir__tls_stream_of(transport);

    if (tls->control_in_flight)
        control_taken(tls, bytes);
    else
        weir__tls_output_taken(&tls->made.output, &tls->context->buffers, bytes);
}

void weir__tls_made_held(struct weir__transport *transport, void *const *held, unsigned count)
{
    struct weir_stream *stream = transport->stream;

    if (stream->route ? stream->route->pays : stream->policy->mode == WEIR_ZEROCOPY_ON)
        weir__tls_buffers_register(&weir__tls_stream_of(transport)->context->buffers,
                                   stream->engine);
    weir__tls_output_hold(held, count);
}

void weir__tls_made_released(struct weir__transport *transport, void *const *held, unsigned count)
{
    weir__tls_output_release(&weir__tls_stream_of(transport)->context->buffers, held, count);
}

/* ---- what is sent next ---- */

static enum weir__transport_plan plan_output(struct weir__tls_stream *tls,
                                             struct weir__transport_send *send)
{
    send->part_count = weir__tls_output_parts(&tls->made.output, send->parts, send->held,
                                              WEIR__TRANSPORT_PARTS_MAX, &send->length);
    send->may_pin = true;
    send->stamp = awaits_stamp(tls);
    return WEIR__TRANSPORT_MADE;
}

static enum weir__transport_plan plan_kernel(struct weir__tls_stream *tls,
                                             struct weir__transport_send *send)
{
    struct weir__tls_control *control = &tls->kernel_tx.controls[0];

    if (tls->control_count == 0)
        return tls->base.stream->drop_writes ? WEIR__TRANSPORT_NOTHING : WEIR__TRANSPORT_PASS;
    tls->control_in_flight = true;
    send->parts[0] = (struct iovec){.iov_base = control->content, .iov_len = control->length};
    send->part_count = 1;
    send->length = control->length;
    send->record_type = control->type;
    /* It closes a record in which a write ends that waits. */
    send->stamp = tls->base.stream->sealed.first != NULL;
    return WEIR__TRANSPORT_MADE;
}

enum weir__transport_plan weir__tls_plan(struct weir__transport *transport,
                                         struct weir__transport_send *send)
{
    struct weir__tls_stream *tls = weir__tls_stream_of(transport);
    struct weir_stream *stream = transport->stream;
    int error;

    if (stream->socket.tls_tx)
        return plan_kernel(tls, send);
    if (tls->made.output.bytes > 0)
        return plan_output(tls, send);
    if (!tls->session.open)
        return WEIR__TRANSPORT_NOTHING;
    if (tls->wants_kernel_tx && !tls->session.failed)
        take_to_kernel(tls);
    if (stream->socket.tls_tx)
        return plan_kernel(tls, send);
    if (stream->drop_writes || !weir__stream_unsealed(stream))
        return WEIR__TRANSPORT_NOTHING;
    if (is_next_rounds(tls)) {
        weir__stream_defer(stream);
        return WEIR__TRANSPORT_NOTHING;
    }
    error = make_records(tls);
    tls->context->round_bytes += tls->made.output.bytes;
    /* What was made before an error goes out first; the error comes again. */
    if (tls->made.output.bytes > 0 && error != WEIR_ETLS && error != WEIR_ENOMEM)
        return plan_output(tls, send);
    if (error == WEIR_ENOBUFS)
        weir__stream_retry_later(stream);
    else if (error)
        weir__stream_end(stream, error, true);
    return WEIR__TRANSPORT_NOTHING;
}

bool weir__tls_finish(struct weir__transport *transport)
{
    static const uint8_t close_notify[2] = {1, WEIR__TLS_CLOSE_NOTIFY};
    struct weir__tls_stream *tls = weir__tls_stream_of(transport);

    if (!tls->session.open && !transport->stream->closing)
        return false;
    if (tls->session.open && !tls->close_said) {
        int error =
            weir__tls_control(tls, WEIR__TLS_ALERT, close_notify, sizeof(close_notify), false);
        if (error == WEIR_ENOMEM) {
            weir__stream_retry_later(transport->stream);
            return false;
        }
        tls->close_said = true;
    }
    if (transport->stream->socket.tls_tx)
        return tls->control_count == 0;
    return tls->made.output.bytes == 0;
}
