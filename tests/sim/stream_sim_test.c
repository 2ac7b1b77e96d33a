/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A random program over the public interface, on the sim engine, judged by a model that knows what
 * really happened on the wire. One seed is one run:
 *
 *   stream_sim_test [--seeds N] [--first S]    seeds S to S + N - 1
 *   stream_sim_test --seed S                   one seed, with a trace on stdout
 *
 * The same seed gives the same trace with any compiler. Only where memory runs out, AddressSanitizer's
 * build, which allocates otherwise, runs another program.
 *
 * The environment's SEED, or SEEDS, or WEIR_SIM_SEEDS serve where no argument is given.
 */

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support/sim_model.h"
#include "support/sim_tls.h"

#define SEEDS_DEFAULT 5000
#define FAILURES_MAX  5
/* A run is far below a million steps; ten million are a livelock. */
#define STEPS_MAX 10000000u
/* A clean run may take that long: 1 MB at 100 kB/s, with losses, several times. */
#define TIME_MAX_NS 100000000000000ull
#define VIRTUAL_MAP (1ull << 30)

static int pattern_file;
static void *virtual_memory;
static int64_t live_allocations;

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

/* ---- the random program ---- */

/* A share of `length` bytes at `offset` of the end's output as memory parts; returns how many. */
static unsigned parts_fill(struct end *end, struct record *record, struct iovec *parts,
                           uint64_t length)
{
    uint8_t *bytes = pattern + (record->from + end->phase + end->is_client) % PATTERN_PERIOD;
    unsigned count = 0;

    /* Such a write owns its memory, which is spoilt the moment that it is released. */
    if (length > 0 && chance(500)) {
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
        .file_bytes = write->file_length,
    };
    write->on_stage = model_on_stage;
    write->context = record;
    bool fits =
        weir_stream_queue_room(end->stream) > 0 &&
        weir_stream_queued_bytes(end->stream) + length <= world.stream_options.queue_bytes_max;
    world.inside = true;
    int error = weir_stream_write(end->stream, write);
    world.inside = false;
    bool shut = end->shut_called || end->close_called || end->abort_called;
    if (error == 0) {
        expect(!shut, "e%u: a write after the last one", end->number);
        /* TLS counts what it has made and the kernel has not; the bound is for what is not made. */
        expect(fits || end->tls, "e%u: a write that does not fit", end->number);
        end->record_count++;
        end->queued += length;
        return;
    }
    model_spoil(record);
    expect(error != WEIR_EQUEUEFULL || !fits, "e%u: a write that would fit", end->number);
    seen.queue_full += error == WEIR_EQUEUEFULL;
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
    if (!world.clean && chance(5)) {
        index += (PATTERN_BYTES - 1 - index) / PATTERN_PERIOD * PATTERN_PERIOD;
        file_length = PATTERN_BYTES - index + 1 + below(1000);
        end->truncates = true;
    }
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
        end->read_began_ns = now();
    }
    world.inside = false;
}

static void act_close(struct end *end)
{
    uint64_t deadline_ms = chance(700) ? 60000 : 1ull << below(16);

    if (world.clean)
        deadline_ms = 100000000;

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
    struct weir_send_info sends;

    weir_loop_send_info(world.loop, &sends);
    expect(sends.pinned_bytes <= world.pinned_bytes_max, "%llu bytes are pinned",
           (unsigned long long)sends.pinned_bytes);

    if (end->close_called || end->abort_called)
        expect(weir_stream_is_closing(end->stream), "e%u: closing and does not say so",
               end->number);
    if (weir_stream_delivery_info(end->stream, &info) != 0 || !end->out)
        return;
    model_check_info(end, &info);
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
    uint64_t choice;

    if (end->tls && chance(100)) {
        sim_tls_act(end);
        return;
    }
    choice = below(100);
    if (choice < 60) {
        for (uint64_t count = chance(200) ? below(12) : 1; count > 0; count--)
            act_write(end);
    } else if (choice < 75) {
        act_read(end);
    } else if (choice < 78 && (end->budget < 3 || chance(100))) {
        world.inside = true;
        weir_stream_shutdown(end->stream);
        world.inside = false;
        end->shut_called = true;
    } else if (choice < 82) {
        act_post();
    } else if (choice < 90) {
        act_info(end);
    } else if (end->close_called) {
        act_close(end); /* once more: harmless */
    } else if (chance(world.abort)) {
        act_abort(end);
    } else if (end->out && chance(world.abort)) {
        world.resets = true;
        weir__sim_flow_reset(world.engine, end->out);
    } else if (end->out && chance(world.abort)) {
        world.silences = true;
        weir__sim_flow_silence(world.engine, chance(500) ? end->out : end->in);
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
    model_flows_find(end);
    if (end->tls)
        sim_tls_check_end(end);
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
    end->budget = 1 + (unsigned)below(2ull << below(6));
    world.ends[world.end_count++] = end;
    end->began_ns = now();
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
    model_flows_find(end);
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
    weir_stream_set_handler(stream, &model_handler, end);
    end->open = !world.tls.on;
    if (!sim_tls_put(end, stream)) {
        end->stream = stream;
        act_abort(end);
        return;
    }
    end_begin(end, stream);
}

static void on_connect_timer(struct weir_timer *timer)
{
    struct weir_stream *stream;
    struct end *end = end_new(true);
    world.inside = true;
    int error = weir_stream_connect(&stream, world.loop, &world.server, &world.stream_options,
                                    &model_handler, end);
    world.inside = false;
    expect(error == 0 || (error == WEIR_ENOMEM && world.oom) ||
               (error == WEIR_EMFILE && world.descriptors_run_out),
           "connecting gave %s", weir_error_name(error));
    if (error == 0 && sim_tls_put(end, stream)) {
        end_begin(end, stream);
    } else if (error == 0) {
        end->stream = stream;
        act_abort(end);
    }
    if (--world.connects_left > 0)
        weir_timer_start(timer, world.burst ? below(2) : below(1ull << below(12)));
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

static void on_listener_timer(struct weir_timer *timer)
{
    /* In a clean run the listener stays until the last connection was closed. */
    bool may_close = ends_are_closed() || (!world.clean && chance(50));

    expect(now() < world.began_ns + TIME_MAX_NS, "no end is in sight");
    if (may_close) {
        world.listener_close_called = true;
        world.inside = true;
        weir_listener_close(world.listener, on_listener_close);
        world.inside = false;
        return;
    }
    if (world.listener_paused) {
        weir_listener_resume(world.listener);
        world.listener_paused = false;
    } else if (world.pauses && chance(300)) {
        weir_listener_pause(world.listener);
        world.listener_paused = true;
    }
    weir_timer_start(timer, 1 + below(world.burst ? 100 : 2000));
}

/* ---- one seed ---- */

static void faults_remove(struct weir__sim_options *options)
{
    options->open_emfile = 0;
    options->handles_max = UINT32_MAX;
    options->connect_silence = 0;
    options->connection_reset = 0;
    options->connection_silence = 0;
    options->info |= !world.exact;
}

static void zerocopy_draw(void)
{
    world.zerocopy = (enum weir_zerocopy)below(3);
    world.pinned_bytes_max = chance(500) ? 64u << 20 : 1ull << (14 + below(8));
    if (world.zerocopy == WEIR_ZEROCOPY_ON && !world.options.zerocopy)
        world.zerocopy = WEIR_ZEROCOPY_AUTO;
}

static void world_draw(uint64_t seed, FILE *trace)
{
    struct weir__sim_options *options = &world.options;

    memset(&world, 0, sizeof(world));
    world.seed = seed;
    world.react = act;
    world.random_state = seed ^ 0x6d6f64656cu;
    weir__sim_options_draw(options, seed);
    options->trace = trace;
    options->steps_max = STEPS_MAX;
    world.connections = chance(20) ? CONNECTIONS_MAX : 1 + (unsigned)below(4);
    world.clean = chance(250);
    world.delivery = !chance(50);
    if (chance(25)) {
        world.connections = 1;
        options->virtual_bytes = (1ull << 32) - below(1u << 21);
        options->receive_bytes = 1u << 20;
        /* A stamp that 2 GiB have overtaken cannot be told from one of the future. */
        options->stamp_late_ns_max = 1 + options->stamp_late_ns_max % (50 * NS_PER_MS);
    }
    world.exact = chance(options->virtual_bytes > 0 ? 500 : 150);
    if (world.exact) {
        options->stamps = true;
        options->stamp_loss = options->stamp_coalesce = options->stamp_late = 0;
        options->stamp_queue_max = UINT32_MAX;
    }
    world.pauses = chance(500);
    world.burst = chance(300);
    world.connects_left = world.connections;
    if (world.clean)
        faults_remove(options);
    else
        world.abort = chance(500) ? 0 : 100;
    world.descriptors_run_out = options->open_emfile > 0 || options->handles_max <= 2 * ENDS_MAX;
    world.resets = options->connection_reset > 0;
    world.silences = options->connection_silence > 0 || options->connect_silence > 0;
    zerocopy_draw();
    sim_tls_draw();
}

static bool world_begin(void)
{
    struct weir_loop_options loop_options;
    struct weir_listener_options listener_options;

    weir_loop_options_init(&loop_options);
    loop_options.delivery = world.delivery;
    loop_options.zerocopy = world.zerocopy;
    loop_options.pinned_bytes_max = world.pinned_bytes_max;
    weir_listener_options_init(&listener_options);
    weir_stream_options_init(&world.stream_options);
    if (chance(500))
        world.stream_options.queue_writes_max = 1 + (uint32_t)below(100);
    if (chance(200) && world.options.virtual_bytes == 0)
        world.stream_options.queue_bytes_max = 1 + length_draw();
    listener_options.stream = world.stream_options;
    if (chance(200))
        listener_options.backlog = 1 + (uint32_t)below(2);
    weir_address_parse(&world.server, chance(200) ? "[::1]:8080" : "127.0.0.1:8080");
    if (weir__sim_new(&world.options, &world.engine) != 0)
        return false;
    if (weir__loop_new_on(&world.loop, world.engine, &loop_options) != 0)
        return false;
    world.began_ns = now();
    weir__sim_set_faults(world.engine, false);
    int error = weir_listener_start(&world.listener, world.loop, &world.server, &listener_options,
                                    on_accept, NULL);
    weir__sim_set_faults(world.engine, true);
    expect(error == 0, "listening gave %s", weir_error_name(error));
    world.oom = world.clean || chance(700) ? 0 : 1 + (unsigned)below(100);
    sim_tls_begin();
    weir_timer_init(&world.connect_timer, world.loop, on_connect_timer, NULL);
    weir_timer_start(&world.connect_timer, below(100));
    weir_timer_init(&world.listener_timer, world.loop, on_listener_timer, NULL);
    weir_timer_start(&world.listener_timer, 1 + below(world.burst ? 100 : 2000));
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
    model_check_resets();
    model_check_sends();
    weir_loop_free(world.loop);
    sim_tls_end();
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
        pattern[i] = (uint8_t)below(256);
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

static int all_run(uint64_t first, uint64_t count)
{
    unsigned failures = 0;

    for (uint64_t seed = first; seed < first + count && failures < FAILURES_MAX; seed++)
        failures += !seed_run(seed, NULL);
    if (failures == 0)
        printf("PASS: %llu seeds\n", (unsigned long long)count);
    if (failures == 0 && traces_are_equal(first))
        printf("PASS: the same seed gives the same trace\n");
    else
        failures++;
    /* Rare things need some seeds to be seen. */
    if (failures == 0 && count >= 2000) {
        failures += !model_check_seen();
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
    /* Buffers of a megabyte come and go with each seed: let them be reused, not mapped again. */
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
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
