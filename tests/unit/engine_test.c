/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of engine/engine.h, on every engine. How connections begin: engine_connect_test.c. Files, stamps and counts:
 * engine_stamp_test.c.
 */

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "support/engine_fixture.h"
#include "support/memory_fail.h"

#define MS             UINT64_C(1000000)
#define LARGE_BYTES    (8u << 20)
#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))

static uint8_t *pattern_new(size_t length)
{
    uint8_t *bytes = malloc(length);
    assert_non_null(bytes);
    pattern_fill(bytes, length, 0);
    return bytes;
}

static void receive_init(struct record *record, struct engine_fixture *f,
                         struct weir__socket *socket, size_t room)
{
    record_init(record, f, WEIR__OP_RECEIVE, socket);
    record->room = room;
    record->bytes = malloc(room);
    assert_non_null(record->bytes);
}

/* Submits a SEND that stays in flight, since the peer does not read. Returns what was taken before.
 */
static size_t send_until_blocked(struct record *record, const uint8_t *bytes, size_t length)
{
    size_t taken = 0;

    for (;;) {
        assert_true(taken < length);
        record_send(record, bytes + taken, length - taken, 0);
        wait_for(record->f, 20 * MS);
        if (record->final_count == 0)
            return taken;
        assert_in_range(record->result, 1, length - taken);
        taken += (size_t)record->result;
    }
}

static void bytes_arrive_in_order(struct engine_fixture *f)
{
    enum { LENGTH = 300000 };
    struct pair pair;
    struct record send, receive;
    uint8_t *bytes = pattern_new(LENGTH);

    pair_open(&pair, f, true);
    receive_init(&receive, f, &pair.server, LENGTH);
    record_init(&send, f, WEIR__OP_SEND, &pair.client);
    record_submit(&receive);
    record_send_all(&send, bytes, LENGTH, 0);
    wait_until_length(f, &receive.length, LENGTH);
    assert_memory_equal(receive.bytes, bytes, LENGTH);
    assert_true(receive.more_count > 1);
    record_cancel_and_finish(&receive);
    pair_close(&pair);
    free(receive.bytes);
    free(bytes);
}

static void send_is_short_and_waits(struct engine_fixture *f)
{
    struct pair pair;
    struct record send, receive;
    uint8_t *bytes = pattern_new(LARGE_BYTES);

    pair_open(&pair, f, false);
    receive_init(&receive, f, &pair.server, LARGE_BYTES);
    record_init(&send, f, WEIR__OP_SEND, &pair.client);
    size_t taken = send_until_blocked(&send, bytes, LARGE_BYTES);
    assert_in_range(taken, 1, LARGE_BYTES - 1);
    record_submit(&receive);
    int64_t result = record_finish(&send);
    assert_in_range(result, 1, LARGE_BYTES - taken);
    taken += (size_t)result;
    record_send_all(&send, bytes + taken, LARGE_BYTES - taken, 0);
    wait_until_length(f, &receive.length, LARGE_BYTES);
    assert_memory_equal(receive.bytes, bytes, LARGE_BYTES);
    record_cancel_and_finish(&receive);
    pair_close(&pair);
    free(receive.bytes);
    free(bytes);
}

static void send_many_parts(struct engine_fixture *f)
{
    enum { PART = 37, LENGTH = PART * WEIR__SEND_PARTS_MAX };
    struct pair pair;
    struct record send, receive;
    struct iovec parts[WEIR__SEND_PARTS_MAX];
    uint8_t *bytes = pattern_new(LENGTH);

    pair_open(&pair, f, true);
    receive_init(&receive, f, &pair.server, LENGTH);
    for (size_t i = 0; i < WEIR__SEND_PARTS_MAX; i++)
        parts[i] = (struct iovec){.iov_base = bytes + i * PART, .iov_len = PART};
    record_init(&send, f, WEIR__OP_SEND, &pair.client);
    send.op.send.parts = parts;
    send.op.send.part_count = WEIR__SEND_PARTS_MAX;
    send.op.send.flags = WEIR__SEND_STAMP;
    record_submit(&receive);
    record_submit(&send);
    assert_int_equal(record_finish(&send), LENGTH);
    wait_until_length(f, &receive.length, LENGTH);
    assert_memory_equal(receive.bytes, bytes, LENGTH);
    record_cancel_and_finish(&receive);
    pair_close(&pair);
    free(receive.bytes);
    free(bytes);
}

static void send_more_is_not_kept(struct engine_fixture *f)
{
    struct pair pair;
    struct record send, receive;

    pair_open(&pair, f, false);
    receive_init(&receive, f, &pair.server, 8);
    record_init(&send, f, WEIR__OP_SEND, &pair.client);
    record_submit(&receive);
    record_send_all(&send, "head", 4, WEIR__SEND_MORE);
    record_send_all(&send, "body", 4, 0);
    wait_until_length(f, &receive.length, 8);
    assert_memory_equal(receive.bytes, "headbody", 8);
    record_cancel_and_finish(&receive);
    pair_close(&pair);
    free(receive.bytes);
}

static void send_again(struct record *record, const struct weir__completion *completion)
{
    unsigned *left = record->context;

    assert_int_equal(completion->result, 1);
    if ((*left)-- > 1)
        record_send(record, "x", 1, 0);
}

static void submit_from_the_final_completion(struct engine_fixture *f)
{
    struct pair pair;
    struct record send, receive;
    unsigned left = 100;

    pair_open(&pair, f, false);
    receive_init(&receive, f, &pair.server, 100);
    record_init(&send, f, WEIR__OP_SEND, &pair.client);
    send.hook = send_again;
    send.context = &left;
    record_submit(&receive);
    record_send(&send, "x", 1, 0);
    wait_until_length(f, &receive.length, 100);
    wait_until(f, &send.finals, 100);
    assert_int_equal(left, 0);
    record_cancel_and_finish(&receive);
    pair_close(&pair);
    free(receive.bytes);
}

static void cancel_and_resubmit(struct record *record, const struct weir__completion *completion)
{
    if (completion->more)
        record_cancel(record);
    else
        record_submit(record);
}

/* No byte is lost between a cancelled RECEIVE and the next one. */
static void receive_again_after_cancel(struct engine_fixture *f)
{
    enum { LENGTH = 600000 };
    struct pair pair;
    struct record send, receive;
    uint8_t *bytes = pattern_new(LENGTH);

    pair_open(&pair, f, false);
    receive_init(&receive, f, &pair.server, LENGTH);
    record_init(&send, f, WEIR__OP_SEND, &pair.client);
    receive.hook = cancel_and_resubmit;
    record_submit(&receive);
    record_send_all(&send, bytes, LENGTH, 0);
    wait_until_length(f, &receive.length, LENGTH);
    assert_memory_equal(receive.bytes, bytes, LENGTH);
    assert_true(receive.finals > 2);
    assert_int_equal(receive.result, WEIR_ECANCELLED);
    receive.hook = NULL;
    record_cancel_and_finish(&receive);
    pair_close(&pair);
    free(receive.bytes);
    free(bytes);
}

static void cancel_idle_operations(struct engine_fixture *f)
{
    struct pair pair;
    struct record accept, receive, watch;

    pair_open(&pair, f, true);
    record_init(&accept, f, WEIR__OP_ACCEPT, &pair.listener);
    record_init(&receive, f, WEIR__OP_RECEIVE, &pair.server);
    record_init(&watch, f, WEIR__OP_WATCH, &pair.server);
    for (int waits = 0; waits < 2; waits++) {
        record_submit(&accept);
        record_submit(&receive);
        record_submit(&watch);
        if (waits)
            wait_for(f, 5 * MS);
        record_cancel(&accept);
        record_cancel(&receive);
        record_cancel(&receive);
        record_cancel(&watch);
        assert_int_equal(record_finish(&accept), WEIR_ECANCELLED);
        assert_int_equal(record_finish(&receive), WEIR_ECANCELLED);
        assert_int_equal(record_finish(&watch), WEIR_ECANCELLED);
    }
    wait_for(f, 5 * MS);
    assert_int_equal(accept.finals, 2);
    assert_int_equal(receive.finals, 2);
    assert_int_equal(watch.finals, 2);
    assert_int_equal(accept.more_count + receive.more_count + watch.more_count, 0);
    pair_close(&pair);
}

static void cancel_a_blocked_send(struct engine_fixture *f)
{
    struct pair pair;
    struct record send, receive;
    uint8_t *bytes = pattern_new(LARGE_BYTES);

    pair_open(&pair, f, false);
    receive_init(&receive, f, &pair.server, LARGE_BYTES);
    record_init(&send, f, WEIR__OP_SEND, &pair.client);
    size_t taken = send_until_blocked(&send, bytes, LARGE_BYTES);
    record_cancel_and_finish(&send);
    assert_int_equal(f->ops->socket_shutdown(f->engine, &pair.client), 0);
    record_submit(&receive);
    assert_int_equal(record_finish(&receive), 0);
    assert_int_equal(receive.length, taken);
    assert_memory_equal(receive.bytes, bytes, taken);
    pair_close(&pair);
    free(receive.bytes);
    free(bytes);
}

/* What the completion says is what the peer gets, whether the cancel came in time or not. */
static void cancel_a_send_at_once(struct engine_fixture *f)
{
    enum { ROUNDS = 20, LENGTH = 100 };
    struct pair pair;
    struct record send, receive;
    uint8_t *bytes = pattern_new(LENGTH);
    size_t taken = 0;

    pair_open(&pair, f, true);
    receive_init(&receive, f, &pair.server, ROUNDS * LENGTH);
    record_init(&send, f, WEIR__OP_SEND, &pair.client);
    record_submit(&receive);
    for (int i = 0; i < ROUNDS; i++) {
        record_send(&send, bytes, LENGTH, 0);
        record_cancel(&send);
        int64_t result = record_finish(&send);
        assert_true(result == LENGTH || result == WEIR_ECANCELLED);
        taken += result > 0 ? (size_t)result : 0;
    }
    assert_int_equal(f->ops->socket_shutdown(f->engine, &pair.client), 0);
    assert_int_equal(record_finish(&receive), 0);
    assert_int_equal(receive.length, taken);
    assert_int_equal(send.finals, ROUNDS);
    pair_close(&pair);
    free(receive.bytes);
    free(bytes);
}

static void half_close_both_ways(struct engine_fixture *f)
{
    struct pair pair;
    struct record send, at_server, at_client, watch_server, watch_client;

    pair_open(&pair, f, true);
    receive_init(&at_server, f, &pair.server, 16);
    receive_init(&at_client, f, &pair.client, 16);
    record_init(&watch_server, f, WEIR__OP_WATCH, &pair.server);
    record_init(&watch_client, f, WEIR__OP_WATCH, &pair.client);
    record_submit(&at_server);
    record_submit(&at_client);
    record_submit(&watch_server);
    record_submit(&watch_client);
    record_init(&send, f, WEIR__OP_SEND, &pair.client);
    record_send_all(&send, "question", 8, 0);
    assert_int_equal(f->ops->socket_shutdown(f->engine, &pair.client), 0);
    assert_int_equal(record_finish(&at_server), 0);
    assert_int_equal(at_server.length, 8);
    wait_for(f, 5 * MS);
    assert_int_equal(at_client.final_count + watch_server.final_count + watch_client.final_count,
                     0);
    record_init(&send, f, WEIR__OP_SEND, &pair.server);
    record_send_all(&send, "answer", 6, 0);
    assert_int_equal(f->ops->socket_shutdown(f->engine, &pair.server), 0);
    assert_int_equal(record_finish(&at_client), 0);
    assert_memory_equal(at_client.bytes, "answer", 6);
    assert_int_equal(record_finish(&watch_server), 0);
    assert_int_equal(record_finish(&watch_client), 0);
    assert_int_equal(at_server.finals + at_client.finals, 2);
    pair_close(&pair);
    free(at_server.bytes);
    free(at_client.bytes);
}

/* The end is not forgotten though nobody was reading when it came. */
static void end_before_receive(struct engine_fixture *f)
{
    struct pair pair;
    struct record send, receive;

    pair_open(&pair, f, false);
    receive_init(&receive, f, &pair.server, 16);
    record_init(&send, f, WEIR__OP_SEND, &pair.client);
    record_send_all(&send, "last words", 10, 0);
    f->ops->socket_close(f->engine, &pair.client);
    wait_for(f, 5 * MS);
    record_submit(&receive);
    assert_int_equal(record_finish(&receive), 0);
    assert_int_equal(receive.length, 10);
    pair_close(&pair);
    free(receive.bytes);
}

static void reset_with_all_in_flight(struct engine_fixture *f)
{
    struct pair pair;
    struct record receive, watch;

    pair_open(&pair, f, true);
    record_init(&receive, f, WEIR__OP_RECEIVE, &pair.server);
    record_init(&watch, f, WEIR__OP_WATCH, &pair.server);
    record_submit(&receive);
    record_submit(&watch);
    wait_for(f, 5 * MS);
    f->ops->socket_reset(f->engine, &pair.client);
    assert_int_equal(record_finish(&receive), WEIR_ERESET);
    assert_int_equal(record_finish(&watch), WEIR_ERESET);
    pair_close(&pair);
}

/* Both come before the engine looks, or before it is asked to receive: the bytes must not hide the reset. */
static void reset_right_behind_bytes(struct engine_fixture *f)
{
    for (int receives_before = 0; receives_before < 2; receives_before++) {
        struct pair pair;
        struct record receive;

        pair_open(&pair, f, true);
        record_init(&receive, f, WEIR__OP_RECEIVE, &pair.server);
        if (receives_before)
            record_submit(&receive);
        wait_for(f, 5 * MS);
        assert_int_equal(send(pair.client.handle, "question", 8, 0), 8);
        f->ops->socket_reset(f->engine, &pair.client);
        if (!receives_before)
            record_submit(&receive);
        assert_int_equal(record_finish(&receive), WEIR_ERESET);
        assert_int_equal(receive.length, 8);
        pair_close(&pair);
    }
}

/* The kernel tells an error once; whoever asks later learns it all the same. */
static void reset_seen_by_watch_alone(struct engine_fixture *f)
{
    struct pair pair;
    struct record watch, receive, send;

    pair_open(&pair, f, true);
    record_init(&watch, f, WEIR__OP_WATCH, &pair.server);
    record_submit(&watch);
    wait_for(f, 5 * MS);
    f->ops->socket_reset(f->engine, &pair.client);
    assert_int_equal(record_finish(&watch), WEIR_ERESET);
    record_init(&receive, f, WEIR__OP_RECEIVE, &pair.server);
    record_submit(&receive);
    assert_int_equal(record_finish(&receive), WEIR_ERESET);
    record_init(&send, f, WEIR__OP_SEND, &pair.server);
    record_send(&send, "x", 1, 0);
    assert_int_equal(record_finish(&send), WEIR_ERESET);
    pair_close(&pair);
}

static void reset_after_the_end(struct engine_fixture *f)
{
    struct pair pair;
    struct record receive, watch;

    pair_open(&pair, f, true);
    record_init(&receive, f, WEIR__OP_RECEIVE, &pair.server);
    record_init(&watch, f, WEIR__OP_WATCH, &pair.server);
    record_submit(&receive);
    record_submit(&watch);
    assert_int_equal(f->ops->socket_shutdown(f->engine, &pair.client), 0);
    assert_int_equal(record_finish(&receive), 0);
    assert_int_equal(watch.final_count, 0);
    f->ops->socket_reset(f->engine, &pair.client);
    assert_int_equal(record_finish(&watch), WEIR_ERESET);
    pair_close(&pair);
}

static void reset_ends_a_blocked_send(struct engine_fixture *f)
{
    struct pair pair;
    struct record send, watch;
    uint8_t *bytes = pattern_new(LARGE_BYTES);

    pair_open(&pair, f, true);
    record_init(&watch, f, WEIR__OP_WATCH, &pair.client);
    record_init(&send, f, WEIR__OP_SEND, &pair.client);
    record_submit(&watch);
    (void)send_until_blocked(&send, bytes, LARGE_BYTES);
    assert_int_equal(watch.final_count, 0);
    f->ops->socket_reset(f->engine, &pair.server);
    assert_int_equal(record_finish(&send), WEIR_ERESET);
    assert_int_equal(record_finish(&watch), WEIR_ERESET);
    pair_close(&pair);
    free(bytes);
}

/* The connection's bytes before its end: the last of them are stuck behind a closed window, and
 * until they are through, the watch goes on. */
static void watch_outlives_both_shutdowns(struct engine_fixture *f)
{
    struct pair pair;
    struct record send, receive, watch;
    struct weir__socket_info info;

    pair_open(&pair, f, true);
    if (f->ops->socket_info(f->engine, &pair.client, &info) == WEIR_ENOTSUP) {
        pair_close(&pair);
        f->passed = true;
        engine_skip(f, "cannot tell a closed connection from one that lingers (TCP_INFO)");
    }
    uint8_t *bytes = pattern_new(LARGE_BYTES);
    receive_init(&receive, f, &pair.server, LARGE_BYTES);
    record_init(&watch, f, WEIR__OP_WATCH, &pair.client);
    record_init(&send, f, WEIR__OP_SEND, &pair.client);
    record_submit(&watch);
    size_t taken = send_until_blocked(&send, bytes, LARGE_BYTES);
    record_cancel_and_finish(&send);
    assert_int_equal(f->ops->socket_shutdown(f->engine, &pair.server), 0);
    assert_int_equal(f->ops->socket_shutdown(f->engine, &pair.client), 0);
    uint64_t before_ns = thread_time_ns();
    wait_for(f, 200 * MS);
    assert_in_range(thread_time_ns() - before_ns, 0, 50 * MS);
    assert_int_equal(watch.final_count, 0);
    record_submit(&receive);
    assert_int_equal(record_finish(&receive), 0);
    assert_int_equal(receive.length, taken);
    assert_int_equal(record_finish(&watch), 0);
    pair_close(&pair);
    free(receive.bytes);
    free(bytes);
}

/* A busy socket does not keep another's byte waiting. */
static void busy_socket_starves_nobody(struct engine_fixture *f)
{
    struct pair busy, quiet;
    struct record send, at_busy, at_quiet;
    uint8_t *bytes = pattern_new(LARGE_BYTES);

    pair_open(&busy, f, false);
    pair_open(&quiet, f, false);
    record_init(&send, f, WEIR__OP_SEND, &busy.client);
    (void)send_until_blocked(&send, bytes, LARGE_BYTES);
    record_cancel_and_finish(&send);
    record_init(&at_busy, f, WEIR__OP_RECEIVE, &busy.server);
    record_init(&at_quiet, f, WEIR__OP_RECEIVE, &quiet.server);
    record_submit(&at_busy);
    wait_until(f, &at_busy.more_count, 1);
    record_init(&send, f, WEIR__OP_SEND, &quiet.client);
    record_submit(&at_quiet);
    record_send(&send, "x", 1, 0);
    unsigned waits_max = f->entry->waits_behind_busy ? f->entry->waits_behind_busy : 4;
    for (unsigned waits = 0; at_quiet.length == 0 && waits < waits_max; waits++) {
        f->in_wait = true;
        assert_int_equal(f->ops->wait(f->engine, 100 * MS), 0);
        f->in_wait = false;
    }
    assert_int_equal(at_quiet.length, 1);
    record_cancel_and_finish(&at_busy);
    record_cancel_and_finish(&at_quiet);
    pair_close(&busy);
    pair_close(&quiet);
    free(bytes);
}

static void wait_keeps_its_time(struct engine_fixture *f)
{
    uint64_t begin = f->ops->now_ns(f->engine);

    assert_int_equal(f->ops->wait(f->engine, 0), 0);
    assert_in_range(f->ops->now_ns(f->engine) - begin, 0, 1000 * MS);
    begin = f->ops->now_ns(f->engine);
    assert_int_equal(f->ops->wait(f->engine, 20 * MS), 0);
    assert_in_range(f->ops->now_ns(f->engine) - begin, 20 * MS, 5000 * MS);
    begin = f->ops->now_ns(f->engine);
    assert_int_equal(f->ops->wait(f->engine, MS / 2), 0);
    assert_in_range(f->ops->now_ns(f->engine) - begin, MS / 2, 5000 * MS);
}

static void wake_comes_before_wait(struct engine_fixture *f)
{
    uint64_t begin = f->ops->now_ns(f->engine);

    for (int i = 0; i < 3; i++)
        f->ops->wake(f->engine);
    assert_int_equal(f->ops->wait(f->engine, 60000 * MS), 0);
    assert_in_range(f->ops->now_ns(f->engine) - begin, 0, 30000 * MS);
}

static void *wake_soon(void *context)
{
    struct engine_fixture *f = context;
    const struct timespec delay = {.tv_nsec = 20 * (long)MS};

    nanosleep(&delay, NULL);
    f->ops->wake(f->engine);
    return NULL;
}

static void wake_from_another_thread(struct engine_fixture *f)
{
    pthread_t thread;

    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&thread, NULL, wake_soon, f), 0);
        assert_int_equal(f->ops->wait(f->engine, UINT64_MAX), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
}

static void open_without_memory(struct engine_fixture *f)
{
    const struct weir__engine_options options = {
        .delivery = true, .receive_bytes = 4096, .receive_buffers = 16};
    size_t live = memory_fail_live();
    int descriptor = descriptor_next();
    unsigned failures = 0;

    for (unsigned nth = 1; nth < 100; nth++) {
        struct weir__engine *engine = NULL;
        memory_fail_at(nth);
        int rc = (f->entry->open ? f->entry->open : f->ops->open)(&engine, &options);
        bool failed = memory_fail_happened();
        memory_fail_at(0);
        assert_int_equal(rc, failed ? WEIR_ENOMEM : 0);
        if (!failed) {
            f->ops->close(engine);
            break;
        }
        failures++;
        assert_int_equal(memory_fail_live(), live);
    }
    assert_in_range(failures, 1, 98);
    assert_int_equal(memory_fail_live(), live);
    assert_int_equal(descriptor_next(), descriptor);
}

static const struct engine_test tests[] = {
    {.name = "bytes arrive in order", .run = bytes_arrive_in_order},
    {.name = "send is short and waits", .run = send_is_short_and_waits},
    {.name = "send many parts", .run = send_many_parts},
    {.name = "send more is not kept", .run = send_more_is_not_kept},
    {.name = "submit from the final completion", .run = submit_from_the_final_completion},
    {.name = "receive again after cancel", .run = receive_again_after_cancel},
    {.name = "cancel idle operations", .run = cancel_idle_operations},
    {.name = "cancel a blocked send", .run = cancel_a_blocked_send},
    {.name = "cancel a send at once", .run = cancel_a_send_at_once},
    {.name = "half-close both ways", .run = half_close_both_ways},
    {.name = "end before receive", .run = end_before_receive},
    {.name = "reset with all in flight", .run = reset_with_all_in_flight},
    {.name = "reset right behind bytes", .run = reset_right_behind_bytes, .kernel = true},
    {.name = "reset seen by watch alone", .run = reset_seen_by_watch_alone},
    {.name = "reset after the end", .run = reset_after_the_end},
    {.name = "reset ends a blocked send", .run = reset_ends_a_blocked_send},
    {.name = "watch outlives both shutdowns", .run = watch_outlives_both_shutdowns},
    {.name = "busy socket starves nobody", .run = busy_socket_starves_nobody},
    {.name = "wait keeps its time", .run = wait_keeps_its_time},
    {.name = "wake comes before wait", .run = wake_comes_before_wait, .kernel = true},
    {.name = "wake from another thread", .run = wake_from_another_thread, .kernel = true},
    {.name = "open without memory", .run = open_without_memory},
};

int main(void)
{
    return engine_suite_run("engine", tests, ARRAY_COUNT(tests));
}
