/* SPDX-License-Identifier: Apache-2.0 */
/* Rule 7 of engine/engine.h: sends that bring pins. What an ordinary user may pin: engine_pin_user_test.c. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/engine_fixture.h"

#define MS             UINT64_C(1000000)
#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define SEND_BYTES     65536
#define PINS_MAX       512

/* A connection whose client sends with pins. */
struct pinned {
    struct engine_fixture *f;
    struct pair pair;
    struct record send, receive, watch;
    struct pin pins[PINS_MAX];
    unsigned count, released;
    uint8_t *bytes; /* of all sends, one behind the other */
    size_t taken, room;
};

static void pinned_open(struct pinned *p, struct engine_fixture *f, bool delivery, size_t room)
{
    if (!f->ops->can_zerocopy || !f->ops->can_zerocopy(f->engine)) {
        f->passed = true;
        engine_skip(f, "no zero copy here");
    }
    memset(p, 0, sizeof(*p));
    p->f = f;
    pair_open(&p->pair, f, delivery);
    p->bytes = malloc(room);
    assert_non_null(p->bytes);
    p->room = room;
    pattern_fill(p->bytes, room, 0);
    record_init(&p->send, f, WEIR__OP_SEND, &p->pair.client);
    record_init(&p->watch, f, WEIR__OP_WATCH, &p->pair.client);
    record_init(&p->receive, f, WEIR__OP_RECEIVE, &p->pair.server);
    p->receive.bytes = malloc(room);
    assert_non_null(p->receive.bytes);
    p->receive.room = room;
}

static void cancel_if_in_flight(struct record *record)
{
    if (record->op.in_flight)
        record_cancel_and_finish(record);
}

static void pinned_close(struct pinned *p)
{
    cancel_if_in_flight(&p->send);
    cancel_if_in_flight(&p->receive);
    cancel_if_in_flight(&p->watch);
    wait_until(p->f, &p->released, p->count);
    assert_int_equal(p->pair.client.pins, 0);
    for (unsigned i = 0; i < p->count; i++)
        assert_int_equal(p->pins[i].released, 1);
    pair_close(&p->pair);
    free(p->bytes);
    free(p->receive.bytes);
}

/* Submits the next `length` bytes with a pin of their own. */
static struct pin *submit(struct pinned *p, size_t length, unsigned flags)
{
    assert_in_range(p->count, 0, PINS_MAX - 1);
    assert_true(p->taken + length <= p->room);
    struct pin *pin = &p->pins[p->count++];
    pin_init(pin);
    pin->released_count = &p->released;
    record_send_pinned(&p->send, p->bytes + p->taken, length, flags, pin);
    assert_true(p->pair.client.pins > 0);
    return pin;
}

/* Submits and waits; returns the pin. */
static struct pin *send_some(struct pinned *p, size_t length, unsigned flags)
{
    struct pin *pin = submit(p, length, flags);
    int64_t result = record_finish(&p->send);

    assert_in_range(result, 1, length);
    p->taken += (size_t)result;
    return pin;
}

/* Waits for the SEND's completion, which may not come. */
static bool completes(struct pinned *p)
{
    for (int i = 0; i < 10 && p->send.final_count == 0; i++)
        wait_for(p->f, 2 * MS);
    return p->send.final_count > 0;
}

/* Sends until the peer, which does not read, lets no more in: the last SEND stays in flight. */
static void send_until_blocked(struct pinned *p)
{
    for (;;) {
        submit(p, SEND_BYTES, 0);
        if (!completes(p))
            return;
        assert_in_range(p->send.result, 1, SEND_BYTES);
        p->taken += (size_t)p->send.result;
    }
}

static void received_all(struct pinned *p)
{
    if (!p->receive.op.in_flight && p->receive.final_count == 0)
        record_submit(&p->receive);
    wait_until_length(p->f, &p->receive.length, p->taken);
    assert_memory_equal(p->receive.bytes, p->bytes, p->taken);
}

static unsigned held(const struct pinned *p)
{
    return p->count - p->released;
}

/* Loopback has no zero copy: the kernel copies on the way, and says so. */
static void release_follows_the_completion(struct engine_fixture *f)
{
    struct pinned p;

    pinned_open(&p, f, true, SEND_BYTES);
    record_submit(&p.receive);
    record_submit(&p.watch);
    const struct pin *pin = send_some(&p, SEND_BYTES, 0);
    received_all(&p);
    wait_until(f, &p.released, 1);
    if (f->entry->kernel)
        assert_int_equal(pin->result, WEIR__PIN_COPIED);
    assert_int_equal(p.pair.client.pins, 0);
    pinned_close(&p);
}

/* Without stamps and watcher nobody else looks at the error queue. */
static void release_without_delivery_or_watch(struct engine_fixture *f)
{
    struct pinned p;

    pinned_open(&p, f, false, 4 * SEND_BYTES);
    record_submit(&p.receive);
    for (int i = 0; i < 4; i++) {
        send_some(&p, SEND_BYTES / 2, 0);
        wait_until(f, &p.released, p.count);
    }
    received_all(&p);
    pinned_close(&p);
}

/* The first operation of an accepted socket, so that no poller knows it yet. */
static void release_after_the_first_operation(struct engine_fixture *f)
{
    struct pinned p;
    struct record send;
    struct pin pin;

    pinned_open(&p, f, false, SEND_BYTES);
    record_init(&send, f, WEIR__OP_SEND, &p.pair.server);
    pin_init(&pin);
    record_send_pinned(&send, p.bytes, 5000, 0, &pin);
    assert_int_equal(record_finish(&send), 5000);
    wait_until(f, &pin.released, 1);
    pinned_close(&p);
}

static void release_with_a_watch_without_stamps(struct engine_fixture *f)
{
    struct pinned p;

    pinned_open(&p, f, false, SEND_BYTES);
    record_submit(&p.receive);
    record_submit(&p.watch);
    send_some(&p, SEND_BYTES / 2, 0);
    wait_until(f, &p.released, 1);
    wait_for(f, 50 * MS);
    assert_int_equal(p.watch.final_count, 0);
    assert_int_equal(f->ops->socket_shutdown(f->engine, &p.pair.client), 0);
    assert_int_equal(record_finish(&p.receive), 0);
    assert_int_equal(f->ops->socket_shutdown(f->engine, &p.pair.server), 0);
    assert_int_equal(record_finish(&p.watch), 0);
    pinned_close(&p);
}

/* The memory is written over the moment that it is released: the peer must have what was in it before. */
static void memory_is_sent_as_it_was_when_held(struct engine_fixture *f)
{
    enum { SENDS = 40 };
    struct pinned p;
    uint8_t *sent = malloc((size_t)SENDS * SEND_BYTES);

    pinned_open(&p, f, true, (size_t)SENDS * SEND_BYTES);
    assert_non_null(sent);
    memcpy(sent, p.bytes, p.room);
    record_submit(&p.receive);
    record_submit(&p.watch);
    while (p.taken + SEND_BYTES <= p.room) {
        struct pin *pin = submit(&p, SEND_BYTES, 0);
        pin->scribble = true;
        /* What a short send did not take belongs to the next. */
        int64_t result = record_finish(&p.send);
        if (result < SEND_BYTES && pin->released)
            pattern_fill(p.bytes + p.taken + result, (size_t)(SEND_BYTES - result),
                         p.taken + (size_t)result);
        pin->bytes = (size_t)result;
        p.taken += (size_t)result;
    }
    wait_until_length(f, &p.receive.length, p.taken);
    assert_memory_equal(p.receive.bytes, sent, p.taken);
    pinned_close(&p);
    free(sent);
}

static void several_parts(struct engine_fixture *f)
{
    struct pinned p;
    struct iovec parts[5];
    struct pin pins[4];

    pinned_open(&p, f, true, SEND_BYTES);
    record_submit(&p.receive);
    for (unsigned round = 0; round < ARRAY_COUNT(pins); round++) {
        size_t length = 0;
        for (unsigned i = 0; i < ARRAY_COUNT(parts); i++) {
            parts[i] = (struct iovec){.iov_base = p.bytes + p.taken + length,
                                      .iov_len = 1 + i * 1000 + round};
            length += parts[i].iov_len;
        }
        pin_init(&pins[round]);
        record_send_parts_pinned(&p.send, parts, ARRAY_COUNT(parts),
                                 round % 2 ? WEIR__SEND_STAMP : 0, &pins[round]);
        assert_int_equal(record_finish(&p.send), length);
        p.taken += length;
    }
    received_all(&p);
    for (unsigned round = 0; round < ARRAY_COUNT(pins); round++)
        wait_until(f, &pins[round].released, 1);
    pinned_close(&p);
}

/* Copies between sends with pins have no number, and so do those that the peer did not let in. */
static void ordinary_sends_between(struct engine_fixture *f)
{
    struct pinned p;

    pinned_open(&p, f, true, 256 * SEND_BYTES);
    record_submit(&p.receive);
    for (int i = 0; i < 8; i++) {
        send_some(&p, 20000, 0);
        record_send_all(&p.send, p.bytes + p.taken, 100, 0);
        p.taken += 100;
    }
    received_all(&p);
    wait_until(f, &p.released, p.count);
    record_cancel_and_finish(&p.receive);
    send_until_blocked(&p);
    wait_for(f, 20 * MS);
    record_submit(&p.receive);
    p.taken += (size_t)record_finish(&p.send);
    send_some(&p, 1000, 0);
    received_all(&p);
    pinned_close(&p);
}

static void many_sends_outstanding(struct engine_fixture *f)
{
    enum { SENDS = 300, LENGTH = 1500 };
    struct pinned p;

    pinned_open(&p, f, true, (size_t)SENDS * LENGTH);
    record_submit(&p.watch);
    for (int i = 0; i < SENDS && !p.send.op.in_flight; i++) {
        submit(&p, LENGTH, 0);
        if (completes(&p))
            p.taken += (size_t)p.send.result;
    }
    record_submit(&p.receive);
    if (p.send.op.in_flight)
        p.taken += (size_t)record_finish(&p.send);
    received_all(&p);
    pinned_close(&p);
}

static void peer_that_does_not_read(struct engine_fixture *f)
{
    struct pinned p;

    pinned_open(&p, f, true, 256 * SEND_BYTES);
    send_until_blocked(&p);
    wait_for(f, 20 * MS);
    assert_true(held(&p) > 1);
    unsigned before = held(&p);
    uint64_t before_ns = thread_time_ns();
    wait_for(f, 200 * MS);
    assert_in_range(thread_time_ns() - before_ns, 0, 50 * MS);
    assert_int_equal(held(&p), before);
    record_cancel_and_finish(&p.send);
    /* None of its operations is in flight now. */
    received_all(&p);
    pinned_close(&p);
}

static void cancelled_send_is_unsent(struct engine_fixture *f)
{
    struct pinned p;

    pinned_open(&p, f, true, 256 * SEND_BYTES);
    send_until_blocked(&p);
    const struct pin *last = &p.pins[p.count - 1];
    record_cancel_and_finish(&p.send);
    wait_until(f, &last->released, 1);
    assert_int_equal(last->result, WEIR__PIN_UNSENT);
    received_all(&p);
    pinned_close(&p);
}

/* Whether the cancel comes in time or not, the peer gets what the completion says. */
static void cancelled_at_once(struct engine_fixture *f)
{
    struct pinned p;

    pinned_open(&p, f, true, 20 * SEND_BYTES);
    record_submit(&p.receive);
    for (int i = 0; i < 20; i++) {
        const struct pin *pin = submit(&p, 30000, 0);
        record_cancel(&p.send);
        int64_t result = record_finish(&p.send);
        if (result != WEIR_ECANCELLED) {
            assert_in_range(result, 1, 30000);
            p.taken += (size_t)result;
        }
        wait_until(f, &pin->released, 1);
        if (result == WEIR_ECANCELLED)
            assert_int_equal(pin->result, WEIR__PIN_UNSENT);
    }
    received_all(&p);
    pinned_close(&p);
}

static void reset_with_pins_held(struct engine_fixture *f)
{
    for (int watched = 0; watched < 2; watched++) {
        struct pinned p;

        pinned_open(&p, f, watched, 256 * SEND_BYTES);
        if (watched)
            record_submit(&p.watch);
        send_until_blocked(&p);
        f->ops->socket_reset(f->engine, &p.pair.server);
        assert_int_equal(record_finish(&p.send), WEIR_ERESET);
        wait_until(f, &p.released, p.count);
        assert_int_equal(p.pins[p.count - 1].result, WEIR__PIN_UNSENT);
        if (watched)
            assert_int_equal(record_finish(&p.watch), WEIR_ERESET);
        pinned_close(&p);
    }
}

/* The error queue outlives the connection: without that no notice would come any more. */
static void abort_releases(struct engine_fixture *f)
{
    for (int watched = 0; watched < 2; watched++) {
        struct pinned p;
        struct record answer;

        pinned_open(&p, f, watched, 256 * SEND_BYTES);
        if (watched)
            record_submit(&p.watch);
        send_until_blocked(&p);
        record_cancel_and_finish(&p.send);
        if (watched)
            record_cancel_and_finish(&p.watch);
        assert_true(held(&p) > 1);
        f->ops->socket_abort(f->engine, &p.pair.client);
        f->ops->socket_abort(f->engine, &p.pair.client);
        assert_true(held(&p) > 0);
        wait_until(f, &p.released, p.count);
        assert_int_equal(p.pair.client.pins, 0);
        f->ops->socket_close(f->engine, &p.pair.client);
        wait_for(f, 20 * MS);
        record_init(&answer, f, WEIR__OP_SEND, &p.pair.server);
        record_send(&answer, "x", 1, 0);
        assert_int_equal(record_finish(&answer), WEIR_ERESET);
        pinned_close(&p);
    }
}

/* Both sides are shut, but the peer has not read: a poller says hang-up all the time. */
static void both_shut_with_pins_held(struct engine_fixture *f)
{
    for (int watched = 0; watched < 2; watched++) {
        struct pinned p;

        pinned_open(&p, f, watched, 256 * SEND_BYTES);
        if (watched)
            record_submit(&p.watch);
        send_until_blocked(&p);
        record_cancel_and_finish(&p.send);
        assert_int_equal(f->ops->socket_shutdown(f->engine, &p.pair.server), 0);
        assert_int_equal(f->ops->socket_shutdown(f->engine, &p.pair.client), 0);
        wait_for(f, 20 * MS);
        uint64_t before_ns = thread_time_ns();
        wait_for(f, 200 * MS);
        assert_in_range(thread_time_ns() - before_ns, 0, 50 * MS);
        assert_true(held(&p) > 1);
        record_submit(&p.receive);
        assert_int_equal(record_finish(&p.receive), 0);
        assert_int_equal(p.receive.length, p.taken);
        if (watched)
            assert_int_equal(record_finish(&p.watch), 0);
        pinned_close(&p);
    }
}

static bool dies(struct engine_fixture *f, struct weir__socket *socket,
                 void (*end)(struct weir__engine *, struct weir__socket *))
{
    int status;

    (void)fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int nowhere = open("/dev/null", O_WRONLY);
        (void)dup2(nowhere, STDERR_FILENO);
        (void)signal(SIGABRT, SIG_DFL);
        end(f->engine, socket);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void close_with_pins_held_is_a_mistake(struct engine_fixture *f)
{
    struct pinned p;

    pinned_open(&p, f, false, 256 * SEND_BYTES);
    send_until_blocked(&p);
    record_cancel_and_finish(&p.send);
    assert_true(held(&p) > 0);
    assert_true(dies(f, &p.pair.client, f->ops->socket_close));
    assert_true(dies(f, &p.pair.client, f->ops->socket_reset));
    received_all(&p);
    pinned_close(&p);
}

/* One queue has both; the notices stand among the stamps and merge with each other. */
static void stamps_and_notices(struct engine_fixture *f)
{
    enum { SENDS = 40, LENGTH = 5000 };
    struct pinned p;
    int room = 1 << 20;

    pinned_open(&p, f, true, (size_t)SENDS * LENGTH);
    if (!p.pair.client.stamps) {
        pinned_close(&p);
        f->passed = true;
        engine_skip(f, "no transmit stamps (SO_TIMESTAMPING)");
    }
    if (f->entry->kernel)
        assert_int_equal(
            setsockopt(p.pair.client.handle, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)), 0);
    record_submit(&p.watch);
    record_submit(&p.receive);
    for (unsigned i = 0; i < SENDS; i++) {
        assert_int_equal(send_some(&p, LENGTH, i % 2 ? WEIR__SEND_STAMP : 0)->send->result, LENGTH);
        if (i % 4 == 3)
            wait_until_length(f, &p.receive.length, p.taken);
    }
    wait_until_stamp(&p.watch, WEIR__STAMP_ACKED, SENDS * LENGTH - 1);
    wait_until(f, &p.released, p.count);
    for (unsigned i = 0; i < p.watch.stamp_count; i++)
        assert_int_equal((p.watch.stamps[i].key + 1) % LENGTH, 0);
    received_all(&p);
    pinned_close(&p);
}

static void submit_again(struct record *record, const struct weir__completion *completion)
{
    struct pinned *p = record->context;

    if (completion->result > 0)
        p->taken += (size_t)completion->result;
    if (p->count < 20)
        submit(p, 10000, 0);
}

/* The operation is in flight again, with another pin, when the notice of the one before comes. */
static void operation_in_flight_again(struct engine_fixture *f)
{
    struct pinned p;

    pinned_open(&p, f, true, 20 * SEND_BYTES);
    record_submit(&p.receive);
    record_submit(&p.watch);
    p.send.context = &p;
    p.send.hook = submit_again;
    submit(&p, 10000, 0);
    wait_until(f, &p.count, 20);
    wait_until(f, &p.released, 20);
    p.send.hook = NULL;
    received_all(&p);
    pinned_close(&p);
}

static void registered_memory(struct engine_fixture *f)
{
    enum { BYTES = 32 * SEND_BYTES, PAGE = 4096 };
    struct pinned p;
    uint8_t *memory = aligned_alloc(PAGE, BYTES);
    struct iovec parts[3];
    struct pin pin;

    assert_non_null(memory);
    pattern_fill(memory, BYTES, 0);
    pinned_open(&p, f, true, BYTES);
    free(p.bytes);
    p.bytes = memory;
    int rc = f->ops->memory_register(f->engine, memory, BYTES);
    assert_true(rc == 0 || rc == WEIR_ENOTSUP || rc == WEIR_ENOMEM || rc == WEIR_ENOBUFS);
    record_submit(&p.receive);
    record_submit(&p.watch);
    for (unsigned i = 0; i < 10; i++)
        send_some(&p, 10000, i % 3 == 2 ? WEIR__SEND_STAMP : 0);
    for (unsigned i = 0; i < 6; i++) {
        for (unsigned j = 0; j < 3; j++)
            parts[j] =
                (struct iovec){.iov_base = p.bytes + p.taken + (size_t)j * 3000, .iov_len = 3000};
        pin_init(&pin);
        record_send_parts_pinned(&p.send, parts, 3, i % 2 ? WEIR__SEND_STAMP : 0, &pin);
        assert_int_equal(record_finish(&p.send), 9000);
        p.taken += 9000;
        wait_until(f, &pin.released, 1);
    }
    received_all(&p);
    wait_until(f, &p.released, p.count);
    if (rc == 0)
        f->ops->memory_unregister(f->engine, memory);
    /* The same memory, registered no more, or once more. */
    send_some(&p, 10000, 0);
    wait_until(f, &p.released, p.count);
    if (rc == 0) {
        assert_int_equal(f->ops->memory_register(f->engine, memory, BYTES), 0);
        send_some(&p, 10000, 0);
        received_all(&p);
        wait_until(f, &p.released, p.count);
        f->ops->memory_unregister(f->engine, memory);
    }
    pinned_close(&p);
}

/* Parts of which some are outside of the memory, or reach beyond its end, go out all the same. */
static void memory_registered_in_part(struct engine_fixture *f)
{
    enum { BYTES = 4 * SEND_BYTES };
    struct pinned p;
    struct iovec parts[2];
    struct pin pin;

    pinned_open(&p, f, true, BYTES);
    int rc = f->ops->memory_register(f->engine, p.bytes + 1000, 20000);
    record_submit(&p.receive);
    send_some(&p, 900, 0);
    send_some(&p, 500, 0);
    send_some(&p, 10000, 0);
    send_some(&p, 20000, 0);
    parts[0] = (struct iovec){.iov_base = p.bytes + 900, .iov_len = 500};
    parts[1] = (struct iovec){.iov_base = p.bytes + 20900, .iov_len = 500};
    pin_init(&pin);
    record_send_parts_pinned(&p.send, parts, 2, 0, &pin);
    assert_int_equal(record_finish(&p.send), 1000);
    wait_until_length(f, &p.receive.length, p.taken + 1000);
    assert_memory_equal(p.receive.bytes, p.bytes, p.taken);
    assert_memory_equal(p.receive.bytes + p.taken, p.bytes + 900, 500);
    assert_memory_equal(p.receive.bytes + p.taken + 500, p.bytes + 20900, 500);
    wait_until(f, &pin.released, 1);
    wait_until(f, &p.released, p.count);
    if (rc == 0)
        f->ops->memory_unregister(f->engine, p.bytes + 1000);
    pinned_close(&p);
}

static void memory_table_is_bounded(struct engine_fixture *f)
{
    enum { TRIES = 1000, BYTES = 4096 };
    uint8_t *memory = aligned_alloc(BYTES, (size_t)TRIES * BYTES);
    unsigned count = 0;
    int rc = 0;

    assert_non_null(memory);
    memset(memory, 0, (size_t)TRIES * BYTES);
    for (; count < TRIES; count++) {
        rc = f->ops->memory_register(f->engine, memory + (size_t)count * BYTES, BYTES);
        if (rc != 0)
            break;
    }
    assert_true(count < TRIES);
    assert_int_equal(rc, count == 0 ? WEIR_ENOTSUP : WEIR_ENOBUFS);
    for (unsigned i = 0; i < count; i++)
        f->ops->memory_unregister(f->engine, memory + (size_t)i * BYTES);
    free(memory);
}

static const struct engine_test tests[] = {
    {.name = "release follows the completion", .run = release_follows_the_completion},
    {.name = "release without delivery or watch", .run = release_without_delivery_or_watch},
    {.name = "release after the first operation", .run = release_after_the_first_operation},
    {.name = "release with a watch without stamps", .run = release_with_a_watch_without_stamps},
    {.name = "memory is sent as it was when held", .run = memory_is_sent_as_it_was_when_held},
    {.name = "several parts", .run = several_parts},
    {.name = "ordinary sends between", .run = ordinary_sends_between},
    {.name = "many sends outstanding", .run = many_sends_outstanding},
    {.name = "peer that does not read", .run = peer_that_does_not_read},
    {.name = "cancelled send is unsent", .run = cancelled_send_is_unsent},
    {.name = "cancelled at once", .run = cancelled_at_once},
    {.name = "reset with pins held", .run = reset_with_pins_held},
    {.name = "abort releases", .run = abort_releases},
    {.name = "both shut with pins held", .run = both_shut_with_pins_held},
    {.name = "close with pins held is a mistake", .run = close_with_pins_held_is_a_mistake},
    {.name = "stamps and notices", .run = stamps_and_notices},
    {.name = "operation in flight again", .run = operation_in_flight_again},
    {.name = "registered memory", .run = registered_memory},
    {.name = "memory registered in part", .run = memory_registered_in_part},
    {.name = "memory table is bounded", .run = memory_table_is_bounded, .kernel = true},
};

int main(void)
{
    return engine_suite_run("engine_pin", tests, ARRAY_COUNT(tests));
}
