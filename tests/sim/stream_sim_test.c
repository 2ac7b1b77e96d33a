/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A random program over the public interface, on the sim engine, judged by a model that knows what
 * really happened on the wire. One seed is one run:
 *
 *   stream_sim_test [--seeds N] [--first S]    seeds S to S + N - 1
 *   stream_sim_test --seed S                   one seed, with a trace on stdout
 *
 * The environment's SEED, or SEEDS, or WEIR_SIM_SEEDS serve where no argument is given.
 */

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <weir/weir.h>

#include "engine/sim.h"

#define SEEDS_DEFAULT   5000
#define FAILURES_MAX    5
#define CONNECTIONS_MAX 4
#define ENDS_MAX        (2 * CONNECTIONS_MAX)
#define WRITES_MAX      96
#define WRITE_BYTES_MAX (1u << 20)
/* Bytes repeat with a prime period, so that no shift by a power of two goes unseen. */
#define PATTERN_PERIOD 65521u
#define PATTERN_BYTES  (PATTERN_PERIOD + WRITE_BYTES_MAX)
/* A write as small as that owns its memory, which is spoilt the moment that it is released. */
#define COPY_BYTES_MAX 4096u
/* A run is far below a million steps; ten million are a livelock. */
#define STEPS_MAX 10000000u
/* A clean run may take that long: 1 MB at 100 kB/s, with losses, several times. */
#define TIME_MAX_NS 100000000000000ull
#define NS_PER_MS   1000000u
#define VIRTUAL_MAP (1ull << 30)
#define SERVER_TEXT "127.0.0.1:8080"

/* How late a time may be, see check_delivered_in_time. */
#define SLACK_NS          (30u * NS_PER_MS)
#define COUNT_LATENESS_NS (40u * NS_PER_MS)
#define STAMP_LATENESS_NS (5000ull * NS_PER_MS)
#define COALESCE_BYTES    8192u
#define CLOSE_LATENESS_NS (200ull * NS_PER_MS)

struct end;

struct record {
    struct end *end;
    uint64_t from, to; /* of the bytes of its direction */
    unsigned asked, told;
    bool over, failed;
    int error;
    void *copy;
    uint64_t copy_bytes;
};

/* One side of a connection. */
struct end {
    unsigned number;
    bool is_client;
    struct weir_stream *stream; /* NULL before it began and after on_close */
    const struct weir__sim_flow *out, *in;
    uint32_t phase; /* of the pattern, the same on both ends */
    struct weir_timer act_timer;
    uint64_t act_due_ns;
    unsigned budget;
    bool begun, open, reading, input_ended;
    bool shut_called, close_called, abort_called;
    uint64_t close_by_ns;
    uint64_t queued, received;
    int reason;
    struct record records[WRITES_MAX];
    unsigned record_count;
};

static struct {
    uint64_t seed;
    uint64_t random_state;
    struct weir__sim_options options;
    struct weir__engine *engine;
    struct weir_loop *loop;
    struct weir_listener *listener;
    struct weir_timer connect_timer, listener_timer;
    bool listener_close_called, listener_closed, listener_paused;
    uint64_t began_ns;
    unsigned connections, connects_left;
    struct end *ends[ENDS_MAX];
    unsigned end_count;
    unsigned oom;   /* chance of an allocation's failure, in thousandths */
    unsigned abort; /* chance of an abort */
    bool clean;     /* nothing goes wrong: everything must be delivered */
    bool delivery;
    bool inside; /* a call of the library that must not call back */
    unsigned posts;
    bool failed;
} world;

/* What all seeds together have seen; a test that never saw a reset proves nothing about resets. */
static struct {
    uint64_t by_tx_ack, by_tcp_info, unknown, failed_reset, failed_timeout, failed_abort,
        failed_memory;
    uint64_t closed_well, ends_told, beyond_4gib, accept_failures, bytes;
} seen;

static uint8_t pattern[PATTERN_BYTES];
static int pattern_file;
static void *virtual_memory;
static int64_t live_allocations;
static bool quiet;

/* ---- small things ---- */

static uint64_t random_next(void)
{
    uint64_t value = world.random_state += 0x9e3779b97f4a7c15u;

    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

static uint64_t below(uint64_t limit)
{
    return random_next() % limit;
}

static bool chance(unsigned per_mille)
{
    return below(1000) < per_mille;
}

__attribute__((format(printf, 2, 3))) static void expect(bool condition, const char *format, ...)
{
    if (condition || world.failed)
        return;
    world.failed = true;
    if (quiet)
        return;
    printf("FAIL: seed %llu: ", (unsigned long long)world.seed);
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\nmake sim SEED=%llu\n", (unsigned long long)world.seed);
    fflush(stdout);
}

static void rerun_print(void)
{
    char line[64];
    int length =
        snprintf(line, sizeof(line), "make sim SEED=%llu\n", (unsigned long long)world.seed);

    if (write(STDOUT_FILENO, line, (size_t)length) != length)
        _exit(1);
}

/* AddressSanitizer calls it before its report; nobody does in other builds. */
void __asan_on_error(void);
void __asan_on_error(void)
{
    rerun_print();
}

static void on_crash(int signal_number)
{
    rerun_print();
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static uint64_t now(void)
{
    return world.engine->ops->now_ns(world.engine);
}

/* ---- memory: counted, and now and then there is none ---- */

static bool memory_is_out(void)
{
    return world.oom > 0 && chance(world.oom);
}

static void *counted(void *memory)
{
    live_allocations += memory != NULL;
    return memory;
}

static void *test_allocate(size_t size)
{
    return memory_is_out() ? NULL : counted(malloc(size));
}

static void *test_allocate_zeroed(size_t count, size_t size)
{
    return memory_is_out() ? NULL : counted(calloc(count, size));
}

static void *test_reallocate(void *memory, size_t size)
{
    if (memory_is_out())
        return NULL;
    return memory ? realloc(memory, size) : counted(malloc(size));
}

static void *test_allocate_aligned(size_t alignment, size_t size)
{
    return memory_is_out() ? NULL : counted(aligned_alloc(alignment, size));
}

static void test_release(void *memory)
{
    live_allocations -= memory != NULL;
    free(memory);
}

/* ---- the model: what each callback may say ---- */

static void flows_find(struct end *end)
{
    struct weir_address local, peer;

    if (end->out || !end->stream || weir_stream_local(end->stream, &local) != 0 ||
        weir_stream_peer(end->stream, &peer) != 0)
        return;
    end->out = weir__sim_flow_find(world.engine, &local, &peer);
    end->in = weir__sim_flow_find(world.engine, &peer, &local);
}

static struct end *check_stream(struct weir_stream *stream, const char *callback)
{
    struct end *end = weir_stream_context(stream);

    expect(!world.inside, "%s ran inside a call of the owner", callback);
    expect(end->stream == stream, "%s for a stream that is not there any more", callback);
    flows_find(end);
    return end;
}

/* How many of a record's bytes are below `offset`. */
static uint64_t covered(const struct record *record, uint64_t offset)
{
    if (offset <= record->from)
        return 0;
    return offset < record->to ? offset - record->from : record->to - record->from;
}

static bool stamps_are_exact(void)
{
    return world.options.stamps && world.options.stamp_loss == 0 &&
           world.options.stamp_coalesce == 0 && world.options.stamp_late == 0 &&
           world.options.stamp_queue_max >= 2 * WRITES_MAX;
}

/* However it is known, a delivery is reported as of no later than the means allow. */
static void check_delivered_in_time(const struct record *record, uint64_t at_ns)
{
    const struct end *end = record->end;
    uint64_t acked_ns = weir__sim_flow_acked_ns(end->out, record->to);
    uint64_t slack_ns = SLACK_NS + world.options.defer_ns_max;
    uint64_t last = record->to + COALESCE_BYTES;

    if (last > weir__sim_flow_accepted(end->out))
        last = weir__sim_flow_accepted(end->out);
    uint64_t last_ns = weir__sim_flow_acked_ns(end->out, last);
    if (stamps_are_exact() && last_ns != UINT64_MAX)
        expect(at_ns <= last_ns + slack_ns, "e%u: delivered %llu said %llu us late", end->number,
               (unsigned long long)record->to, (unsigned long long)(at_ns - acked_ns) / 1000);
    if (!world.options.stamps)
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
    uint64_t acked_ns = weir__sim_flow_acked_ns(end->out, record->to);
    uint64_t arrived_ns = weir__sim_flow_arrived_ns(end->out, record->to);
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
    seen.beyond_4gib += record->to > UINT32_MAX;
}

static void check_failed(struct record *record, const struct weir_write_event *event)
{
    const struct end *end = record->end;
    uint64_t accepted = end->out ? covered(record, weir__sim_flow_accepted(end->out)) : 0;
    uint64_t acked = end->out ? covered(record, weir__sim_flow_acked(end->out)) : 0;
    bool none = !world.delivery || (!world.options.stamps && !world.options.info);

    record->failed = true;
    record->error = event->error;
    expect(event->error < 0, "e%u: failed without a reason", end->number);
    expect(event->accepted_bytes == accepted, "e%u: failed with %llu bytes accepted, not %llu",
           end->number, (unsigned long long)event->accepted_bytes, (unsigned long long)accepted);
    expect(event->bytes <= acked, "e%u: failed with %llu bytes delivered, only %llu are",
           end->number, (unsigned long long)event->bytes, (unsigned long long)acked);
    expect(event->bytes == acked || none || !world.options.info,
           "e%u: failed with %llu bytes delivered, %llu are", end->number,
           (unsigned long long)event->bytes, (unsigned long long)acked);
    expect(event->error != WEIR_ENOTSUP || none, "e%u: delivery is supported here", end->number);
    seen.unknown += event->error == WEIR_ENOTSUP;
    seen.failed_reset += event->error == WEIR_ERESET;
    seen.failed_timeout += event->error == WEIR_ETIMEDOUT;
    seen.failed_abort += event->error == WEIR_EABORTED;
    seen.failed_memory += event->error == WEIR_ENOMEM;
}

static void spoil(struct record *record)
{
    if (!record->copy)
        return;
    memset(record->copy, 0xee, record->copy_bytes);
    free(record->copy);
    record->copy = NULL;
}

static void act(struct end *end);

static void on_stage(struct weir_stream *stream, void *context,
                     const struct weir_write_event *event)
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
    expect(record->told < stage, "e%u: stage %u after a later one", end->number, stage);
    expect(event->at_ns <= now(), "e%u: stage %u in the future", end->number, stage);
    expect(failed || event->bytes == record->to - record->from, "e%u: stage %u of %llu bytes",
           end->number, stage, (unsigned long long)event->bytes);
    expect(failed || end->out, "e%u: stage %u without a connection", end->number, stage);
    record->told |= stage;
    record->over = failed || record->told == record->asked;
    if (failed) {
        check_failed(record, event);
    } else if (end->out) {
        expect(weir__sim_flow_accepted(end->out) >= record->to,
               "e%u: stage %u before the bytes were accepted", end->number, stage);
        expect(stage < WEIR_STAGE_SENT || weir__sim_flow_sent(end->out) >= record->to,
               "e%u: stage %u before the bytes were sent", end->number, stage);
        if (stage == WEIR_STAGE_DELIVERED)
            check_delivered(record, event);
    }
    if (failed || stage == WEIR_STAGE_RELEASED)
        spoil(record);
    if (chance(100))
        act(end);
}

static void on_open(struct weir_stream *stream)
{
    struct end *end = check_stream(stream, "on_open");

    expect(end->is_client, "on_open for an accepted stream");
    expect(!end->open, "on_open twice");
    expect(end->out != NULL, "e%u: open without a connection", end->number);
    end->open = true;
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
    expect(end->received + length <= weir__sim_flow_arrived(end->in),
           "e%u: bytes that have not arrived", end->number);
    expect(arrived_ns >= weir__sim_flow_arrived_ns(end->in, end->received + length),
           "e%u: read before it arrived", end->number);
    expect(arrived_ns <= now(), "e%u: read in the future", end->number);
    /* One chunk is at most the pattern's tail, see receive_bytes. */
    expect(is_virtual || memcmp(data, pattern + index, length) == 0, "e%u: wrong bytes at %llu",
           end->number, (unsigned long long)end->received);
    end->received += length;
    seen.bytes += length;
    if (chance(30))
        act(end);
}

static void on_end(struct weir_stream *stream)
{
    struct end *end = check_stream(stream, "on_end");

    expect(end->reading, "e%u: the end while not reading", end->number);
    expect(!end->input_ended, "e%u: two ends", end->number);
    expect(!end->close_called && !end->abort_called, "e%u: the end while closing", end->number);
    expect(end->received == weir__sim_flow_accepted(end->in),
           "e%u: the end after %llu of %llu bytes", end->number, (unsigned long long)end->received,
           (unsigned long long)weir__sim_flow_accepted(end->in));
    end->input_ended = true;
    seen.ends_told++;
    if (chance(100))
        act(end);
}

static void check_reason(const struct end *end, int reason)
{
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
    case WEIR_ETIMEDOUT:
    case WEIR_ERESET:
    case WEIR_EREFUSED:
        break;
    default:
        expect(false, "e%u: closed with %s", end->number, weir_error_name(reason));
    }
    expect(!world.clean || reason == 0, "e%u: closed with %s, with nothing wrong", end->number,
           weir_error_name(reason));
}

static void on_close(struct weir_stream *stream, int reason)
{
    struct end *end = check_stream(stream, "on_close");
    struct weir_delivery_info info;

    check_reason(end, reason);
    for (unsigned i = 0; i < end->record_count; i++) {
        struct record *record = &end->records[i];
        bool accepted = end->out && record->to <= weir__sim_flow_accepted(end->out);
        expect(record->over || (record->asked == 0 && accepted), "e%u: write %u is not over",
               end->number, i);
        expect(!record->failed || record->error == WEIR_ENOTSUP || record->error == reason,
               "e%u: write %u failed with %s, the stream with %s", end->number, i,
               weir_error_name(record->error), weir_error_name(reason));
        expect(!world.clean || !record->failed || record->error == WEIR_ENOTSUP,
               "e%u: write %u failed, with nothing wrong", end->number, i);
        spoil(record);
    }
    if (end->out && weir_stream_delivery_info(stream, &info) == 0) {
        expect(info.wire_bytes_accepted == weir__sim_flow_accepted(end->out),
               "e%u: accepted bytes miscounted", end->number);
        expect(info.wire_bytes_acked == weir__sim_flow_acked(end->out),
               "e%u: acknowledged bytes miscounted", end->number);
    }
    expect(!end->close_by_ns || now() <= end->close_by_ns + CLOSE_LATENESS_NS,
           "e%u: closed %llu ms after its deadline", end->number,
           (unsigned long long)(now() - end->close_by_ns) / NS_PER_MS);
    weir_timer_stop(&end->act_timer);
    end->reason = reason;
    end->stream = NULL;
}

static const struct weir_stream_handler handler = {
    .on_open = on_open,
    .on_data = on_data,
    .on_end = on_end,
    .on_close = on_close,
};

/* ---- the random program ---- */

/* A share of `length` bytes at `offset` of the end's output as memory parts; returns how many. */
static unsigned parts_fill(struct end *end, struct record *record, struct iovec *parts,
                           uint64_t length)
{
    uint8_t *bytes = pattern + (record->from + end->phase + end->is_client) % PATTERN_PERIOD;
    unsigned count = 0;

    if (length > 0 && length <= COPY_BYTES_MAX && chance(500)) {
        record->copy = malloc(length);
        record->copy_bytes = length;
        if (!record->copy)
            abort();
        bytes = memcpy(record->copy, bytes, length);
    }
    while (length > 0) {
        uint64_t part =
            count + 1 < WEIR_WRITE_PARTS_MAX && chance(500) ? below(length + 1) : length;
        parts[count++] = (struct iovec){.iov_base = bytes, .iov_len = part};
        bytes += part;
        length -= part;
    }
    return count;
}

static uint64_t length_draw(void)
{
    uint64_t limit = 1ull << (1 + below(20));

    return 1 + below(limit);
}

static unsigned stages_draw(void)
{
    return chance(300) ? WEIR_STAGE_DELIVERED : (unsigned)below(WEIR_STAGE_FAILED);
}

static void write_submit(struct end *end, struct weir_write *write, struct record *record)
{
    uint64_t length = write->file_length;

    for (unsigned i = 0; i < write->part_count; i++)
        length += write->parts[i].iov_len;
    *record = (struct record){
        .end = end,
        .from = record->from,
        .to = record->from + length,
        .asked = write->stages,
        .copy = record->copy,
        .copy_bytes = record->copy_bytes,
    };
    write->on_stage = on_stage;
    write->context = record;
    world.inside = true;
    int error = weir_stream_write(end->stream, write);
    world.inside = false;
    bool shut = end->shut_called || end->close_called || end->abort_called;
    if (error == 0) {
        expect(!shut, "e%u: a write after the last one", end->number);
        end->record_count++;
        end->queued += length;
        return;
    }
    spoil(record);
    expect(error == WEIR_ESHUT || !shut, "e%u: a write after the last one: %s", end->number,
           weir_error_name(error));
    expect(error == WEIR_ESHUT || error == WEIR_EQUEUEFULL || (error == WEIR_ENOMEM && world.oom),
           "e%u: a write gave %s", end->number, weir_error_name(error));
}

static void act_write(struct end *end)
{
    struct record *record = &end->records[end->record_count];
    struct iovec parts[WEIR_WRITE_PARTS_MAX];
    uint64_t length = length_draw();
    uint64_t file_length = chance(700) ? 0 : below(length + 1);
    unsigned stages = stages_draw();
    bool more = chance(200);

    if (end->record_count == WRITES_MAX)
        return;
    *record = (struct record){.from = end->queued};
    uint64_t memory_length = length - file_length;
    uint64_t index = (end->queued + memory_length + end->phase + end->is_client) % PATTERN_PERIOD;
    struct weir_write write = {
        .parts = parts,
        .part_count = parts_fill(end, record, parts, memory_length),
        .file = pattern_file,
        .file_offset = index,
        .file_length = file_length,
        .stages = stages,
        .more = more,
    };
    write_submit(end, &write, record);
}

/* The bytes without content at the beginning of a connection that is to go beyond 4 GiB. */
static void write_virtual(struct end *end)
{
    struct record *record = &end->records[end->record_count];
    struct iovec parts[WEIR_WRITE_PARTS_MAX];
    uint64_t left = world.options.virtual_bytes;
    struct weir_write write = {.parts = parts, .stages = stages_draw()};

    while (left > 0) {
        uint64_t part = left < VIRTUAL_MAP ? left : VIRTUAL_MAP;
        parts[write.part_count++] = (struct iovec){.iov_base = virtual_memory, .iov_len = part};
        left -= part;
    }
    *record = (struct record){.from = 0};
    if (write.part_count > 0)
        write_submit(end, &write, record);
}

static void act_read(struct end *end)
{
    world.inside = true;
    if (end->reading) {
        weir_stream_read_stop(end->stream);
        end->reading = false;
    } else if (weir_stream_read_start(end->stream) == 0) {
        end->reading = true;
    }
    world.inside = false;
}

static void act_close(struct end *end)
{
    uint64_t deadline_ms = world.clean ? 100000000 : 1ull << below(16);

    world.inside = true;
    weir_stream_close(end->stream, deadline_ms);
    world.inside = false;
    if (!end->close_called)
        end->close_by_ns = now() + deadline_ms * NS_PER_MS;
    end->close_called = true;
}

static void act_abort(struct end *end)
{
    world.inside = true;
    weir_stream_abort(end->stream, 0);
    world.inside = false;
    end->abort_called = true;
}

static void act_info(struct end *end)
{
    struct weir_delivery_info info;

    if (weir_stream_delivery_info(end->stream, &info) != 0 || !end->out)
        return;
    expect(info.wire_bytes_accepted <= weir__sim_flow_accepted(end->out),
           "e%u: more accepted than there is", end->number);
    expect(info.wire_bytes_acked <= weir__sim_flow_acked(end->out),
           "e%u: more acknowledged than there is", end->number);
}

static void on_post(struct weir_loop *loop, void *context)
{
    expect(loop == world.loop, "a post on another loop");
    (void)context;
    world.posts--;
}

static void act_post(void)
{
    world.inside = true;
    int error = weir_loop_post(world.loop, on_post, NULL);
    world.inside = false;
    expect(error == 0 || (error == WEIR_ENOMEM && world.oom), "a post gave %s",
           weir_error_name(error));
    world.posts += error == 0;
}

static void act(struct end *end)
{
    uint64_t choice = below(100);

    if (choice < 60) {
        for (uint64_t count = chance(200) ? below(12) : 1; count > 0; count--)
            act_write(end);
    } else if (choice < 75) {
        act_read(end);
    } else if (choice < 78) {
        world.inside = true;
        weir_stream_shutdown(end->stream);
        world.inside = false;
        end->shut_called = true;
    } else if (choice < 82) {
        act_post();
    } else if (choice < 90) {
        act_info(end);
    } else if (chance(world.abort)) {
        act_abort(end);
    }
}

static void act_later(struct end *end)
{
    uint64_t delay_ms = below(1ull << below(12));

    end->act_due_ns = weir_loop_now_ns(world.loop) + delay_ms * NS_PER_MS;
    weir_timer_start(&end->act_timer, delay_ms);
}

static void on_act(struct weir_timer *timer)
{
    struct end *end = timer->context;

    expect(!world.inside, "a timer ran inside a call of the owner");
    expect(now() >= end->act_due_ns, "e%u: a timer ran early", end->number);
    expect(end->stream != NULL, "e%u: a timer ran after it was stopped", end->number);
    if (!end->stream || world.failed)
        return;
    flows_find(end);
    /* To close a stream that is not open yet is to give it up. */
    if (end->budget == 0 && (end->open || !world.clean)) {
        act_close(end);
        return;
    }
    if (end->budget > 0) {
        end->budget--;
        act(end);
    }
    act_later(end);
}

static struct end *end_new(bool is_client)
{
    struct end *end = calloc(1, sizeof(*end));

    if (!end)
        abort();
    end->number = world.end_count;
    end->is_client = is_client;
    end->budget = 1 + (unsigned)below(16);
    world.ends[world.end_count++] = end;
    weir_timer_init(&end->act_timer, world.loop, on_act, end);
    return end;
}

static void end_begin(struct end *end, struct weir_stream *stream)
{
    struct weir_address client;

    end->stream = stream;
    if (end->is_client)
        weir_stream_local(stream, &client);
    else
        weir_stream_peer(stream, &client);
    end->phase = weir_address_port(&client) * 7919u % PATTERN_PERIOD;
    flows_find(end);
    if (world.options.virtual_bytes > 0)
        write_virtual(end);
    if (chance(900))
        act_read(end);
    act_later(end);
}

static void on_accept(struct weir_listener *listener, struct weir_stream *stream, int error)
{
    expect(listener == world.listener, "another listener");
    expect(!world.inside, "on_accept ran inside a call of the owner");
    expect(!world.listener_closed, "on_accept after on_close");
    if (!stream) {
        seen.accept_failures++;
        expect(error == WEIR_EMFILE || (error == WEIR_ENOMEM && world.oom), "accepting gave %s",
               weir_error_name(error));
        return;
    }
    expect(world.end_count < ENDS_MAX, "more connections than were made");
    if (!world.clean && chance(20)) {
        if (chance(500))
            weir_stream_abort(stream, 0);
        else
            weir_stream_close(stream, 0);
        return;
    }
    struct end *end = end_new(false);
    weir_stream_set_handler(stream, &handler, end);
    end->open = true;
    end_begin(end, stream);
}

static void on_connect_timer(struct weir_timer *timer)
{
    struct weir_address server;
    struct weir_stream *stream;

    weir_address_parse(&server, SERVER_TEXT);
    struct end *end = end_new(true);
    world.inside = true;
    int error = weir_stream_connect(&stream, world.loop, &server, NULL, &handler, end);
    world.inside = false;
    expect(error == 0 || (error == WEIR_ENOMEM && world.oom) ||
               (error == WEIR_EMFILE && world.options.open_emfile),
           "connecting gave %s", weir_error_name(error));
    if (error == 0)
        end_begin(end, stream);
    if (--world.connects_left > 0)
        weir_timer_start(timer, below(1ull << below(12)));
}

static void on_listener_close(struct weir_listener *listener)
{
    expect(listener == world.listener, "another listener");
    expect(!world.inside, "the listener's on_close ran inside a call of the owner");
    expect(!world.listener_closed, "the listener closed twice");
    world.listener_closed = true;
}

static bool ends_are_closed(void)
{
    for (unsigned i = 0; i < world.end_count; i++) {
        if (world.ends[i]->stream)
            return false;
    }
    return world.connects_left == 0;
}

/*
 * Runs to the very end: a round may end the last stream before it waits, and there must be something
 * to wait for.
 */
static void on_listener_timer(struct weir_timer *timer)
{
    /* In a clean run the listener stays until the last connection was closed. */
    bool may_close = ends_are_closed() || (!world.clean && chance(50) && world.connects_left == 0);

    weir_timer_start(timer, 1 + below(2000));
    expect(now() < world.began_ns + TIME_MAX_NS, "no end is in sight");
    if (world.listener_close_called)
        return;
    if (may_close) {
        world.listener_close_called = true;
        world.inside = true;
        weir_listener_close(world.listener, on_listener_close);
        world.inside = false;
    } else if (world.listener_paused) {
        weir_listener_resume(world.listener);
        world.listener_paused = false;
    } else if (chance(300)) {
        weir_listener_pause(world.listener);
        world.listener_paused = true;
    }
}

/* ---- one seed ---- */

static void faults_remove(struct weir__sim_options *options)
{
    options->open_emfile = 0;
    options->connect_silence = 0;
    options->connection_reset = 0;
    options->connection_silence = 0;
    options->info |= !options->stamps || options->stamp_loss || options->stamp_coalesce ||
                     options->stamp_queue_max < 2 * WRITES_MAX;
}

static void world_draw(uint64_t seed, FILE *trace)
{
    struct weir__sim_options *options = &world.options;

    memset(&world, 0, sizeof(world));
    world.seed = seed;
    world.random_state = seed ^ 0x6d6f64656cu;
    weir__sim_options_draw(options, seed);
    options->trace = trace;
    options->steps_max = STEPS_MAX;
    world.connections = 1 + (unsigned)below(CONNECTIONS_MAX);
    world.clean = chance(250);
    world.delivery = !chance(50);
    if (chance(15)) {
        world.connections = 1;
        options->virtual_bytes = (1ull << 32) - below(1u << 21);
        options->receive_bytes = 1u << 20;
    }
    world.connects_left = world.connections;
    if (world.clean)
        faults_remove(options);
    else
        world.abort = chance(500) ? 0 : 100;
}

static bool world_begin(void)
{
    struct weir_loop_options loop_options;
    struct weir_listener_options listener_options;
    struct weir_address server;

    weir_loop_options_init(&loop_options);
    loop_options.delivery = world.delivery;
    weir_listener_options_init(&listener_options);
    weir_address_parse(&server, SERVER_TEXT);
    if (weir__sim_new(&world.options, &world.engine) != 0)
        return false;
    if (weir__loop_new_on(&world.loop, world.engine, &loop_options) != 0)
        return false;
    world.began_ns = now();
    weir__sim_set_faults(world.engine, false);
    int error = weir_listener_start(&world.listener, world.loop, &server, &listener_options,
                                    on_accept, NULL);
    weir__sim_set_faults(world.engine, true);
    expect(error == 0, "listening gave %s", weir_error_name(error));
    world.oom = world.clean || chance(700) ? 0 : 1 + (unsigned)below(100);
    weir_timer_init(&world.connect_timer, world.loop, on_connect_timer, NULL);
    weir_timer_start(&world.connect_timer, below(100));
    weir_timer_init(&world.listener_timer, world.loop, on_listener_timer, NULL);
    weir_timer_start(&world.listener_timer, 1 + below(2000));
    return error == 0;
}

static bool seed_run(uint64_t seed, FILE *trace)
{
    world_draw(seed, trace);
    if (!world_begin()) {
        expect(false, "no loop");
        return false;
    }
    while (!world.failed && !(ends_are_closed() && world.listener_closed && world.posts == 0 &&
                              weir__sim_open_handles(world.engine) == 0)) {
        int error = weir_loop_run_once(world.loop, chance(800) ? -1 : (int64_t)below(100));
        expect(error == 0, "the engine gave up after %llu steps: a livelock or a deadlock",
               (unsigned long long)weir__sim_steps(world.engine));
    }
    /* What failed may be in any state: its memory is left alone. */
    if (world.failed) {
        live_allocations = 0;
        return false;
    }
    weir_timer_stop(&world.listener_timer);
    weir_loop_free(world.loop);
    expect(live_allocations == 0, "%lld allocations were not released",
           (long long)live_allocations);
    for (unsigned i = 0; i < world.end_count; i++)
        free(world.ends[i]);
    return !world.failed;
}

/* ---- all seeds ---- */

static void pattern_make(void)
{
    world.random_state = 1;
    for (unsigned i = 0; i < PATTERN_PERIOD; i++)
        pattern[i] = (uint8_t)random_next();
    memcpy(pattern + PATTERN_PERIOD, pattern, PATTERN_PERIOD);
    for (unsigned i = 2 * PATTERN_PERIOD; i < PATTERN_BYTES; i++)
        pattern[i] = pattern[i - PATTERN_PERIOD];
    pattern_file = memfd_create("pattern", MFD_CLOEXEC);
    if (pattern_file < 0 || write(pattern_file, pattern, PATTERN_BYTES) != (ssize_t)PATTERN_BYTES)
        abort();
    virtual_memory =
        mmap(NULL, VIRTUAL_MAP, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (virtual_memory == MAP_FAILED)
        abort();
}

static char *trace_of(uint64_t seed, size_t *length)
{
    char *text = NULL;
    FILE *trace = open_memstream(&text, length);

    if (!trace)
        abort();
    seed_run(seed, trace);
    fclose(trace);
    return text;
}

static bool traces_are_equal(uint64_t first)
{
    bool equal = true;

    for (uint64_t seed = first; equal && seed < first + 5; seed++) {
        size_t length, other_length;
        char *text = trace_of(seed, &length);
        char *other = trace_of(seed, &other_length);
        equal = length > 0 && length == other_length && memcmp(text, other, length) == 0;
        free(text);
        free(other);
        if (!equal)
            printf("FAIL: trace: seed %llu gives two traces\n", (unsigned long long)seed);
    }
    return equal;
}

static unsigned check_seen(void)
{
    const struct {
        const char *name;
        uint64_t count;
    } counts[] = {
        {"delivered by tx_ack", seen.by_tx_ack},      {"delivered by tcp_info", seen.by_tcp_info},
        {"delivered beyond 4 GiB", seen.beyond_4gib}, {"delivery unknown", seen.unknown},
        {"failed by reset", seen.failed_reset},       {"failed by timeout", seen.failed_timeout},
        {"failed by abort", seen.failed_abort},       {"failed by memory", seen.failed_memory},
        {"streams closed well", seen.closed_well},    {"ends of input", seen.ends_told},
        {"accepts failed", seen.accept_failures},     {"bytes read", seen.bytes},
    };
    unsigned missing = 0;

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        printf("  %-24s %llu\n", counts[i].name, (unsigned long long)counts[i].count);
        if (counts[i].count > 0)
            continue;
        printf("FAIL: coverage: never seen: %s\n", counts[i].name);
        missing++;
    }
    return missing;
}

static int all_run(uint64_t first, uint64_t count)
{
    unsigned failures = 0;

    for (uint64_t seed = first; seed < first + count && failures < FAILURES_MAX; seed++)
        failures += !seed_run(seed, NULL);
    if (failures == 0)
        printf("PASS: %llu seeds\n", (unsigned long long)count);
    quiet = true;
    if (failures == 0 && traces_are_equal(first))
        printf("PASS: the same seed gives the same trace\n");
    else
        failures++;
    /* Rare things need some seeds to be seen. */
    if (failures == 0 && count >= 2000) {
        failures += check_seen();
        if (failures == 0)
            printf("PASS: everything was seen\n");
    }
    return failures > 0;
}

static uint64_t number_of(const char *text)
{
    char *end;
    uint64_t number = strtoull(text, &end, 10);

    if (*text == '\0' || *end != '\0') {
        fprintf(stderr, "stream_sim_test: not a number: %s\n", text);
        exit(2);
    }
    return number;
}

int main(int argument_count, char **arguments)
{
    static const struct weir_memory memory = {test_allocate, test_allocate_zeroed, test_reallocate,
                                              test_allocate_aligned, test_release};
    const char *seed = getenv("SEED"), *first = "1", *count = getenv("SEEDS");

    if (!count)
        count = getenv("WEIR_SIM_SEEDS");
    for (int i = 1; i < argument_count; i += 2) {
        const char *value = i + 1 < argument_count ? arguments[i + 1] : "";
        if (strcmp(arguments[i], "--seed") == 0)
            seed = value;
        else if (strcmp(arguments[i], "--first") == 0)
            first = value;
        else if (strcmp(arguments[i], "--seeds") == 0)
            count = value;
        else
            number_of("");
    }
    weir_memory_replace(&memory);
    pattern_make();
    signal(SIGABRT, on_crash);
#ifndef __SANITIZE_ADDRESS__
    signal(SIGSEGV, on_crash);
#endif
    if (!seed)
        return all_run(number_of(first), count ? number_of(count) : SEEDS_DEFAULT);
    bool passed = seed_run(number_of(seed), stdout);
    if (passed)
        printf("PASS: seed %s\n", seed);
    return !passed;
}
