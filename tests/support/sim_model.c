/* SPDX-License-Identifier: Apache-2.0 */
#include "support/sim_model.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/offset_map.h"
#include "net/send_policy.h"
#include "net/transport.h"
#include "support/sim_tls.h"

/* How late a time may be, see check_delivered_in_time. */
#define SLACK_NS            (30u * NS_PER_MS)
#define COUNT_LATENESS_NS   (40u * NS_PER_MS)
#define STAMP_LATENESS_NS   (5000ull * NS_PER_MS)
#define RECORD_OVERHEAD_MIN 21u
#define RECORD_OVERHEAD_MAX 29u
#define COALESCE_BYTES      (8192u + RECORD_OVERHEAD_MAX) /* with a record's overhead */
#define CLOSE_LATENESS_NS   (200ull * NS_PER_MS)

struct sim_world world;
struct sim_seen seen;
uint8_t pattern[PATTERN_BYTES];

static uint64_t random_next(void)
{
    uint64_t value = world.random_state += 0x9e3779b97f4a7c15u;

    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

uint64_t below(uint64_t limit)
{
    return random_next() % limit;
}

bool chance(unsigned per_mille)
{
    return below(1000) < per_mille;
}

void expect(bool condition, const char *format, ...)
{
    if (condition || world.failed)
        return;
    world.failed = true;
    printf("FAIL: seed %llu: ", (unsigned long long)world.seed);
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\nmake sim SEED=%llu\n", (unsigned long long)world.seed);
    fflush(stdout);
}

uint64_t now(void)
{
    return world.engine->ops->now_ns(world.engine);
}

void model_flows_find(struct end *end)
{
    struct weir_address local, peer;

    if (end->tls && end->stream)
        sim_tls_look(end);
    if (end->out || !end->stream || weir_stream_local(end->stream, &local) != 0 ||
        weir_stream_peer(end->stream, &peer) != 0)
        return;
    end->out = weir__sim_flow_find(world.engine, &local, &peer);
    end->in = weir__sim_flow_find(world.engine, &peer, &local);
    if (!end->out)
        return;
    end->wire_out = sim_tls_wire(end->out);
    end->wire_in = sim_tls_wire(end->in);
}

static struct end *check_stream(struct weir_stream *stream, const char *callback)
{
    struct end *end = weir_stream_context(stream);

    expect(!world.inside, "%s ran inside a call of the owner", callback);
    expect(end->stream == stream, "%s for a stream that is not there any more", callback);
    model_flows_find(end);
    return end;
}

/* How many of a record's bytes are below `offset`. */
static uint64_t covered(const struct record *record, uint64_t offset)
{
    if (offset <= record->from)
        return 0;
    return offset < record->to ? offset - record->from : record->to - record->from;
}

/* How many of the owner's bytes the end's kernel has, and of those the peer's. */
static uint64_t accepted_by(const struct end *end)
{
    uint64_t kept, open_bytes;

    if (!end->out)
        return 0;
    kept = weir__sim_flow_kept(end->out, &open_bytes);
    return wire_plain_at(end->wire_out, weir__sim_flow_accepted(end->out) + kept) + open_bytes;
}

/* What that is on the wire. The record that kernel TLS has not closed yet counts as if it were. */
static uint64_t wire_taken_by(const struct end *end)
{
    uint64_t kept, open_bytes;

    if (!end->out)
        return 0;
    kept = weir__sim_flow_kept(end->out, &open_bytes);
    return weir__sim_flow_accepted(end->out) + kept + open_bytes +
           (open_bytes > 0 ? RECORD_OVERHEAD_MIN : 0);
}

/* At most: whether a record is open is not known. */
static uint64_t wire_accepted_by(const struct end *end)
{
    return wire_taken_by(end) + (end->kernel_tx ? RECORD_OVERHEAD_MAX : 0);
}

static uint64_t acked_by(const struct end *end)
{
    return end->out ? wire_plain_at(end->wire_out, weir__sim_flow_acked(end->out)) : 0;
}

/* However it is known, a delivery is reported as of no later than the means allow. */
static void check_delivered_in_time(const struct record *record, uint64_t at_ns)
{
    const struct end *end = record->end;
    uint64_t wire_end = wire_end_of(end->wire_out, record->to);
    uint64_t acked_ns = weir__sim_flow_acked_ns(end->out, wire_end);
    uint64_t slack_ns = SLACK_NS + world.options.defer_ns_max;
    uint64_t last = wire_end + COALESCE_BYTES;

    if (last > weir__sim_flow_accepted(end->out))
        last = weir__sim_flow_accepted(end->out);
    uint64_t last_ns = weir__sim_flow_acked_ns(end->out, last);
    /* Behind a short send the kernel's record is closed late, and until then nobody asks. */
    if (world.exact && last_ns != UINT64_MAX && !end->kernel_tx)
        expect(at_ns <= last_ns + slack_ns, "e%u: delivered %llu said %llu us late", end->number,
               (unsigned long long)record->to, (unsigned long long)(at_ns - acked_ns) / 1000);
    expect(!world.exact || now() <= at_ns + slack_ns, "e%u: delivered %llu told late", end->number,
           (unsigned long long)record->to);
    /* Of a write in a record that the kernel has not closed nobody asks before it is. */
    if (!world.options.stamps && !end->kernel_tx)
        expect(at_ns <= acked_ns + COUNT_LATENESS_NS + slack_ns,
               "e%u: delivered %llu counted %llu us late", end->number,
               (unsigned long long)record->to, (unsigned long long)(at_ns - acked_ns) / 1000);
    if (world.options.info)
        expect(at_ns <= acked_ns + STAMP_LATENESS_NS + slack_ns,
               "e%u: delivered %llu found %llu us late", end->number,
               (unsigned long long)record->to, (unsigned long long)(at_ns - acked_ns) / 1000);
}

static void check_delivered(const struct record *record, const struct weir_write_event *event)
{
    const struct end *end = record->end;
    uint64_t wire_end = wire_end_of(end->wire_out, record->to);
    uint64_t acked_ns = weir__sim_flow_acked_ns(end->out, wire_end);
    uint64_t arrived_ns = weir__sim_flow_arrived_ns(end->out, wire_end);
    bool by_stamp = event->source == WEIR_DELIVERY_TX_ACK;

    expect(acked_ns != UINT64_MAX, "e%u: delivered %llu without an ACK", end->number,
           (unsigned long long)record->to);
    if (acked_ns == UINT64_MAX)
        return;
    expect(arrived_ns < event->at_ns, "e%u: delivered before it arrived", end->number);
    expect(acked_ns <= event->at_ns, "e%u: delivered before the ACK came", end->number);
    expect(by_stamp || event->source == WEIR_DELIVERY_TCP_INFO, "e%u: delivered by nothing",
           end->number);
    expect(!by_stamp || world.options.stamps, "e%u: a stamp out of nowhere", end->number);
    expect(by_stamp || world.options.info, "e%u: a count out of nowhere", end->number);
    check_delivered_in_time(record, event->at_ns);
    if (by_stamp)
        seen.by_tx_ack++;
    else
        seen.by_tcp_info++;
    seen.tls_delivered += end->tls;
    seen.beyond_4gib += record->to > UINT32_MAX;
}

static void check_sent(const struct record *record, const struct weir_write_event *event)
{
    const struct end *end = record->end;
    uint64_t wire_end = wire_end_of(end->wire_out, record->to);

    expect(weir__sim_flow_sent(end->out) >= wire_end, "e%u: sent, and has not left", end->number);
    /* That of a write whose stamp was lost is not known, only that it has left. */
    if (event->source == WEIR_DELIVERY_NONE)
        expect(event->at_ns == 0, "e%u: sent at a time that is not known", end->number);
    else
        expect(event->at_ns >= weir__sim_flow_sent_ns(end->out, wire_end),
               "e%u: sent before it left", end->number);
}

/*
 * With memory short, or very many records in flight, what is known of TLS's offsets is less than there is. Records that
 * are made and not on the wire yet have marks, too.
 */
static bool is_coarse(const struct end *end)
{
    return end->wire_out &&
           (world.oom > 0 ||
            end->wire_out->record_count + WEIR__TRANSPORT_PARTS_MAX > WEIR__OFFSET_MARKS_MAX);
}

/* A write is on the wire from its first byte to the end of the record with its last one. */
static void check_wire_bytes(const struct record *record, const struct weir_write_event *event)
{
    const struct end *end = record->end;
    uint64_t accepted = wire_accepted_by(end);
    bool whole = event->accepted_bytes == record->to - record->from;

    /* The kernel says how many records there are, and not where. */
    if (whole && !end->kernel_tx)
        expect(event->wire_bytes == wire_length_of(end->wire_out, record->from, record->to),
               "e%u: %llu bytes of the wire, not %llu", end->number,
               (unsigned long long)event->wire_bytes,
               (unsigned long long)wire_length_of(end->wire_out, record->from, record->to));
    expect(event->wire_bytes >= event->accepted_bytes && event->wire_bytes <= accepted,
           "e%u: %llu bytes of the wire for %llu", end->number,
           (unsigned long long)event->wire_bytes, (unsigned long long)event->accepted_bytes);
    expect(event->first_byte_ns <= now(), "e%u: the first byte in the future", end->number);
    expect((event->first_byte_ns > 0) == (event->wire_bytes > 0),
           "e%u: stage %u and its first byte", end->number, event->stage);
}

/*
 * The bits of a write's ways that pins decide, as they are once nothing of it is pinned; of one whose last bytes are in
 * no whole record on the wire, at most.
 */
static unsigned pinned_ways(const struct record *record, bool *exact)
{
    const struct end *end = record->end;
    const struct wire *wire = end->wire_out;
    uint64_t start = wire_start_of(wire, record->from);
    uint64_t stop = wire ? wire_end_of(wire, record->to) : record->to - record->file_bytes;

    *exact = !wire || stop != UINT64_MAX;
    if (wire && start > wire->record_start)
        start = wire->record_start;
    unsigned results = end->out ? weir__sim_flow_pinned(end->out, start, stop) : 0, ways = 0;

    if (results & 1u << WEIR__PIN_USED)
        ways |= WEIR_SEND_ZEROCOPY;
    if (results & 1u << WEIR__PIN_COPIED)
        ways |= WEIR_SEND_COPIED;
    if (results & 1u << WEIR__PIN_REFUSED)
        ways |= WEIR_SEND_COPY;
    return ways;
}

/* Before memory is released it counts as used in place: what became of it is not known. */
static void check_ways(const struct record *record, const struct weir_write_event *event)
{
    const struct end *end = record->end;
    struct weir_delivery_info info;
    unsigned pins = WEIR_SEND_COPY | WEIR_SEND_ZEROCOPY | WEIR_SEND_COPIED;
    bool released = event->stage >= WEIR_STAGE_FAILED || (record->told & WEIR_STAGE_RELEASED);
    uint64_t memory_bytes = record->to - record->from - record->file_bytes;
    bool file = event->accepted_bytes > memory_bytes && !end->tls;

    expect((event->wire_bytes > 0) == (event->ways != 0), "e%u: stage %u, %llu bytes by ways %u",
           end->number, event->stage, (unsigned long long)event->wire_bytes, event->ways);
    expect(world.zerocopy != WEIR_ZEROCOPY_OFF ||
               !(event->ways & (WEIR_SEND_ZEROCOPY | WEIR_SEND_COPIED)),
           "e%u: zero copy, which is off", end->number);
    if (world.zerocopy == WEIR_ZEROCOPY_AUTO && weir_stream_delivery_info(end->stream, &info) == 0)
        expect(info.rtt_us <= WEIR__ZEROCOPY_RTT_MAX_US ||
                   !(event->ways & (WEIR_SEND_ZEROCOPY | WEIR_SEND_COPIED)),
               "e%u: zero copy over %u us", end->number, info.rtt_us);
    if (end->kernel_tx)
        return;
    expect(!(event->ways & WEIR_SEND_KERNEL_TLS), "e%u: by the kernel's TLS", end->number);
    expect(!(event->ways & WEIR_SEND_FILE) == !file, "e%u: %llu bytes of %llu by ways %u",
           end->number, (unsigned long long)event->accepted_bytes, (unsigned long long)memory_bytes,
           event->ways);
    bool exact;
    unsigned actual = event->ways & pins, expected = pinned_ways(record, &exact);
    if (released)
        expect(exact ? actual == expected : !(actual & ~expected), "e%u: stage %u: ways %u, not %u",
               end->number, event->stage, actual, expected);
}

static void check_failed(struct record *record, const struct weir_write_event *event)
{
    const struct end *end = record->end;
    uint64_t accepted = covered(record, accepted_by(end));
    uint64_t acked = covered(record, acked_by(end));
    bool none = !world.delivery || (!world.options.stamps && !world.options.info);

    record->failed = true;
    record->error = event->error;
    expect(event->error < 0, "e%u: failed without a reason", end->number);
    expect(event->accepted_bytes == accepted ||
               (is_coarse(end) && event->accepted_bytes < accepted),
           "e%u: failed with %llu bytes accepted, not %llu", end->number,
           (unsigned long long)event->accepted_bytes, (unsigned long long)accepted);
    expect(event->bytes <= acked, "e%u: failed with %llu bytes delivered, only %llu are",
           end->number, (unsigned long long)event->bytes, (unsigned long long)acked);
    expect(event->bytes == acked || none || !world.options.info || is_coarse(end) || end->kernel_tx,
           "e%u: failed with %llu bytes delivered, %llu are", end->number,
           (unsigned long long)event->bytes, (unsigned long long)acked);
    expect(event->error != WEIR_ENOTSUP || none || end->tls, "e%u: delivery is supported here",
           end->number);
    seen.unknown += event->error == WEIR_ENOTSUP && none;
    seen.tls_failed_partly += end->tls && acked > 0 && acked < accepted;
    seen.failed_reset += event->error == WEIR_ERESET;
    seen.failed_timeout += event->error == WEIR_ETIMEDOUT;
    seen.failed_abort += event->error == WEIR_EABORTED;
    seen.failed_memory += event->error == WEIR_ENOMEM;
    seen.failed_pinned += (event->ways & (WEIR_SEND_ZEROCOPY | WEIR_SEND_COPIED)) != 0;
}

void model_spoil(struct record *record)
{
    if (!record->copy)
        return;
    memset(record->copy, 0xee, record->copy_bytes);
    free(record->copy);
    record->copy = NULL;
}

static void note_released(const struct record *record, const struct weir_write_event *event)
{
    bool pinned = event->ways & (WEIR_SEND_ZEROCOPY | WEIR_SEND_COPIED);

    seen.released_before_delivered +=
        pinned && (record->asked & ~record->told & WEIR_STAGE_DELIVERED);
    seen.released_after_delivered += (record->told & WEIR_STAGE_DELIVERED) != 0;
    seen.zerocopy_tls += pinned && record->end->tls;
}

void model_on_stage(struct weir_stream *stream, void *context, const struct weir_write_event *event)
{
    struct record *record = context;
    struct end *end = check_stream(stream, "on_stage");
    unsigned stage = event->stage;
    bool failed = stage == WEIR_STAGE_FAILED;

    expect(end == record->end, "a write's callback with another stream");
    expect(!record->over, "e%u: a stage after the write was over", end->number);
    expect(failed || (record->asked & stage), "e%u: stage %u was not asked for", end->number,
           stage);
    expect(!(record->told & stage), "e%u: stage %u told twice", end->number, stage);
    if (stage == WEIR_STAGE_RELEASED)
        expect(!(record->asked & ~record->told & WEIR_STAGE_ACCEPTED),
               "e%u: released before it was accepted", end->number);
    else
        expect((record->told & ~(unsigned)WEIR_STAGE_RELEASED) < stage,
               "e%u: stage %u after a later one", end->number, stage);
    if (stage == WEIR_STAGE_RELEASED)
        note_released(record, event);
    expect(event->at_ns <= now(), "e%u: stage %u in the future", end->number, stage);
    expect(failed || event->bytes == record->to - record->from, "e%u: stage %u of %llu bytes",
           end->number, stage, (unsigned long long)event->bytes);
    expect(failed || end->out, "e%u: stage %u without a connection", end->number, stage);
    record->told |= stage;
    record->over = failed || record->told == record->asked;
    if (failed) {
        check_failed(record, event);
    } else if (end->out) {
        expect(accepted_by(end) >= record->to, "e%u: stage %u before the bytes were accepted",
               end->number, stage);
        if (stage == WEIR_STAGE_SENT)
            check_sent(record, event);
        if (stage == WEIR_STAGE_DELIVERED)
            check_delivered(record, event);
    }
    check_wire_bytes(record, event);
    check_ways(record, event);
    if (failed || stage == WEIR_STAGE_RELEASED)
        model_spoil(record);
    if (chance(100))
        world.react(end);
}

static void on_open(struct weir_stream *stream)
{
    struct end *end = check_stream(stream, "on_open");

    expect(end->is_client || end->tls, "on_open for an accepted stream");
    expect(!end->open, "on_open twice");
    expect(end->out != NULL, "e%u: open without a connection", end->number);
    end->open = true;
    if (end->tls)
        sim_tls_check_open(end);
}

static void on_data(struct weir_stream *stream, const uint8_t *data, size_t length,
                    uint64_t arrived_ns)
{
    struct end *end = check_stream(stream, "on_data");
    bool is_virtual = end->received < world.options.virtual_bytes;
    uint64_t index = (end->received + end->phase + !end->is_client) % PATTERN_PERIOD;

    expect(end->reading, "e%u: data while not reading", end->number);
    expect(!end->input_ended, "e%u: data after the end", end->number);
    expect(!end->close_called && !end->abort_called, "e%u: data while closing", end->number);
    uint64_t wire_end = wire_end_of(end->wire_in, end->received + length);
    expect(wire_end <= weir__sim_flow_arrived(end->in), "e%u: bytes that have not arrived",
           end->number);
    expect(!end->wire_in || wire_end <= end->wire_in->tampered,
           "e%u: bytes up to %llu that were changed from %llu on", end->number,
           (unsigned long long)wire_end,
           (unsigned long long)(end->wire_in ? end->wire_in->tampered : 0));
    expect(arrived_ns >= weir__sim_flow_arrived_ns(end->in, wire_end),
           "e%u: read before it arrived", end->number);
    expect(arrived_ns <= now(), "e%u: read in the future", end->number);
    /* One chunk is at most the pattern's tail, see receive_bytes. */
    expect(is_virtual || memcmp(data, pattern + index, length) == 0, "e%u: wrong bytes at %llu",
           end->number, (unsigned long long)end->received);
    end->received += length;
    seen.bytes += length;
    if (chance(30))
        world.react(end);
}

static void on_end(struct weir_stream *stream)
{
    struct end *end = check_stream(stream, "on_end");

    expect(end->reading, "e%u: the end while not reading", end->number);
    expect(!end->input_ended, "e%u: two ends", end->number);
    expect(!end->close_called && !end->abort_called, "e%u: the end while closing", end->number);
    uint64_t all = wire_plain_at(end->wire_in, weir__sim_flow_accepted(end->in));
    expect(end->received == all, "e%u: the end after %llu of %llu bytes", end->number,
           (unsigned long long)end->received, (unsigned long long)all);
    expect(!end->wire_in || (end->wire_in->closed_end <= weir__sim_flow_arrived(end->in) &&
                             end->wire_in->closed_end <= end->wire_in->tampered),
           "e%u: the end without close_notify", end->number);
    end->input_ended = true;
    seen.ends_told++;
    if (chance(100))
        world.react(end);
}

static void check_reason(const struct end *end, int reason)
{
    /* A SYN that finds the backlog full for long enough is given up: the listener rests now and then. */
    bool unanswered = reason == WEIR_ETIMEDOUT && !end->out;

    if (unanswered)
        world.clean = false;
    expect(!world.clean || reason == 0, "e%u: closed with %s, with nothing wrong", end->number,
           weir_error_name(reason));
    if (sim_tls_check_reason(end, reason))
        return;
    switch (reason) {
    case 0:
        expect(end->close_called, "e%u: closed by itself", end->number);
        seen.closed_well++;
        break;
    case WEIR_EABORTED:
        expect(end->abort_called || (end->close_called && !end->open), "e%u: aborted by itself",
               end->number);
        break;
    case WEIR_ENOMEM:
        expect(world.oom > 0, "e%u: memory was not out", end->number);
        break;
    case WEIR_ETRUNCATED:
        expect(end->truncates, "e%u: no file was truncated", end->number);
        seen.truncated++;
        break;
    case WEIR_ETIMEDOUT:
        expect((end->close_called && now() >= end->close_by_ns) || world.silences || unanswered,
               "e%u: timed out with nobody silent", end->number);
        break;
    case WEIR_EREFUSED:
        expect(end->is_client && !end->open && world.listener_close_called,
               "e%u: refused by a listener", end->number);
        break;
    case WEIR_ERESET:
        break; /* see model_check_resets */
    default:
        expect(false, "e%u: closed with %s", end->number, weir_error_name(reason));
    }
}

void model_check_info(const struct end *end, const struct weir_delivery_info *info)
{
    expect(info->wire_bytes_accepted <= wire_accepted_by(end), "e%u: more accepted than there is",
           end->number);
    expect(info->wire_bytes_acked <= weir__sim_flow_acked(end->out) + end->kernel_tx,
           "e%u: more acknowledged than there is", end->number);
    expect(info->bytes_accepted <= accepted_by(end), "e%u: more of the owner's accepted",
           end->number);
    expect(info->bytes_acked <= acked_by(end), "e%u: more of the owner's acknowledged",
           end->number);
}

/* Who was reset must have had a peer that gave up, or closed when its deadline came. */
void model_check_resets(void)
{
    for (unsigned i = 0; i < world.end_count; i++) {
        const struct end *end = world.ends[i];
        for (unsigned k = 0; k < world.end_count; k++) {
            const struct end *peer = world.ends[k];
            if (end->reason == WEIR_ERESET && end->out && peer->in == end->out)
                expect(world.resets || peer->reason != 0 || peer->closed_ns >= peer->close_by_ns,
                       "e%u: reset by nobody", end->number);
        }
    }
}

void model_check_sends(void)
{
    struct weir_send_info info;
    uint64_t *all = seen.sends.sends;

    weir_loop_send_info(world.loop, &info);
    expect(info.pinned_bytes == 0, "%llu bytes are still pinned",
           (unsigned long long)info.pinned_bytes);
    for (unsigned i = 0; i < WEIR_SEND_REASONS; i++)
        all[i] += info.sends[i];
    seen.sends.zerocopy_used += info.zerocopy_used;
    seen.sends.zerocopy_copied += info.zerocopy_copied;
    seen.sends.zerocopy_refused += info.zerocopy_refused;
}

static void on_close(struct weir_stream *stream, int reason)
{
    struct end *end = check_stream(stream, "on_close");
    struct weir_delivery_info info;

    check_reason(end, reason);
    for (unsigned i = 0; i < end->record_count; i++) {
        struct record *record = &end->records[i];
        bool accepted = end->out && record->to <= accepted_by(end);
        expect(record->over || (record->asked == 0 && accepted), "e%u: write %u is not over",
               end->number, i);
        expect(!record->failed || record->error == WEIR_ENOTSUP || record->error == reason,
               "e%u: write %u failed with %s, the stream with %s", end->number, i,
               weir_error_name(record->error), weir_error_name(reason));
        expect(!world.clean || !record->failed || record->error == WEIR_ENOTSUP,
               "e%u: write %u failed, with nothing wrong", end->number, i);
        model_spoil(record);
    }
    if (end->out && weir_stream_delivery_info(stream, &info) == 0) {
        expect(end->kernel_tx ? info.wire_bytes_accepted >= wire_taken_by(end)
                              : info.wire_bytes_accepted == weir__sim_flow_accepted(end->out),
               "e%u: accepted bytes miscounted", end->number);
        /* The FIN may be counted where the kernel has cut off what it kept. */
        uint64_t acked = weir__sim_flow_acked(end->out);
        expect(info.wire_bytes_acked == acked ||
                   (end->kernel_tx && info.wire_bytes_acked == acked + 1),
               "e%u: acknowledged bytes miscounted", end->number);
        expect(info.bytes_accepted == accepted_by(end) || is_coarse(end),
               "e%u: the owner's bytes miscounted", end->number);
        model_check_info(end, &info);
    }
    sim_tls_note_closed(end, reason);
    uint64_t late_ns = CLOSE_LATENESS_NS + world.options.notice_late_ns_max;
    expect(!end->close_by_ns || now() <= end->close_by_ns + late_ns,
           "e%u: closed %llu ms after its deadline", end->number,
           (unsigned long long)(now() - end->close_by_ns) / NS_PER_MS);
    weir_timer_stop(&end->act_timer);
    end->reason = reason;
    end->closed_ns = now();
    end->stream = NULL;
}

const struct weir_stream_handler model_handler = {
    .on_open = on_open,
    .on_data = on_data,
    .on_end = on_end,
    .on_close = on_close,
};

bool model_check_seen(void)
{
    const struct {
        const char *name;
        uint64_t count;
    } counts[] = {
        {"delivered by tx_ack", seen.by_tx_ack},
        {"delivered by tcp_info", seen.by_tcp_info},
        {"delivered beyond 4 GiB", seen.beyond_4gib},
        {"delivery unknown", seen.unknown},
        {"failed by reset", seen.failed_reset},
        {"failed by timeout", seen.failed_timeout},
        {"failed by abort", seen.failed_abort},
        {"failed by memory", seen.failed_memory},
        {"streams closed well", seen.closed_well},
        {"ends of input", seen.ends_told},
        {"accepts failed", seen.accept_failures},
        {"queues full", seen.queue_full},
        {"files truncated", seen.truncated},
        {"bytes read", seen.bytes},
        {"TLS 1.2", seen.tls_1_2},
        {"TLS 1.3", seen.tls_1_3},
        {"TLS resumed", seen.tls_resumed},
        {"TLS with AES-128", seen.tls_ciphers[1]},
        {"TLS with AES-256", seen.tls_ciphers[2]},
        {"TLS with CHACHA20", seen.tls_ciphers[3]},
        {"delivered over TLS", seen.tls_delivered},
        {"failed in mid-write over TLS", seen.tls_failed_partly},
        {"KeyUpdates asked for", seen.updates_asked},
        {"KeyUpdates not asked for", seen.updates_unasked},
        {"storms of KeyUpdates", seen.storms},
        {"records ran out", seen.records_ran_out},
        {"TLS sent by the kernel", seen.kernel_tx},
        {"TLS received by the kernel", seen.kernel_rx},
        {"cut off", seen.cut_off},
        {"changed bytes", seen.tampered},
        {"changed handshakes", seen.tampered_handshakes},
        {"handshakes too late", seen.handshakes_late},
        {"pins used in place", seen.sends.zerocopy_used},
        {"pins copied on the way", seen.sends.zerocopy_copied},
        {"pins refused", seen.sends.zerocopy_refused},
        {"released before delivered", seen.released_before_delivered},
        {"released after delivered", seen.released_after_delivered},
        {"failed while pinned", seen.failed_pinned},
        {"records pinned", seen.zerocopy_tls},
    };
    bool complete = true;

    for (unsigned i = 0; i < WEIR_SEND_REASONS; i++) {
        const char *name = weir_send_reason_name((enum weir_send_reason)i);
        printf("  sent because: %-16s %llu\n", name, (unsigned long long)seen.sends.sends[i]);
        if (seen.sends.sends[i] > 0)
            continue;
        printf("FAIL: coverage: never sent because: %s\n", name);
        complete = false;
    }

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        printf("  %-30s %llu\n", counts[i].name, (unsigned long long)counts[i].count);
        if (counts[i].count > 0)
            continue;
        printf("FAIL: coverage: never seen: %s\n", counts[i].name);
        complete = false;
    }
    return complete;
}
