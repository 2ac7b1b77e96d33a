/* SPDX-License-Identifier: Apache-2.0 */
#include "support/engine_fixture.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef WEIR_PORTABLE
#include "engine/sim.h"
#endif
#include "support/memory_fail.h"

#define WAIT_MAX_NS   (10 * UINT64_C(1000000000))
#define RECEIVE_BYTES 4096
#define SUITE_MAX     256

static const struct engine_entry entries[] = {
#ifndef WEIR_PORTABLE
    /* All its sockets receive from one pool of buffers, which a busy one can keep empty. */
    {.name = "io_uring", .ops = &weir__io_uring_engine, .kernel = true, .waits_behind_busy = 500},
    {.name = "epoll", .ops = &weir__epoll_engine, .kernel = true},
    {.name = "sim", .ops = &weir__sim_engine},
#endif
    {.name = "poll", .ops = &weir__poll_engine, .kernel = true},
};
#define ENTRY_COUNT (sizeof(entries) / sizeof(entries[0]))

struct engine_case {
    const struct engine_entry *entry;
    const struct engine_test *test;
    char name[96];
    struct engine_fixture fixture;
};

static int case_setup(void **state)
{
    static const struct weir__engine_options options = {
        .delivery = true, .receive_bytes = RECEIVE_BYTES, .receive_buffers = 16};
    struct engine_case *c = *state;
    struct engine_fixture *f = &c->fixture;

    memset(f, 0, sizeof(*f));
    f->entry = c->entry;
    f->ops = c->entry->ops;
    memory_fail_at(0);
    f->open_result = (c->entry->open ? c->entry->open : f->ops->open)(&f->engine, &options);
    return f->open_result == 0 || f->open_result == WEIR_ENOTSUP ? 0 : -1;
}

static void case_run(void **state)
{
    struct engine_case *c = *state;

    if (c->fixture.open_result != 0)
        engine_skip(&c->fixture, weir_error_text(c->fixture.open_result));
    c->test->run(&c->fixture);
    c->fixture.passed = true;
}

static int case_teardown(void **state)
{
    struct engine_case *c = *state;

    /* A test that failed has left operations in flight, and with them a closed engine is no use. */
    if (c->fixture.passed)
        c->fixture.ops->close(c->fixture.engine);
    return 0;
}

int engine_suite_run(const char *suite, const struct engine_test *tests, size_t count)
{
    static struct engine_case cases[SUITE_MAX];
    static struct CMUnitTest units[SUITE_MAX];
    size_t total = 0;

    assert(count * ENTRY_COUNT <= SUITE_MAX);
    memory_fail_install();
    for (size_t e = 0; e < ENTRY_COUNT; e++) {
        for (size_t t = 0; t < count; t++) {
            struct engine_case *c = &cases[total];
            if (tests[t].kernel && !entries[e].kernel)
                continue;
            c->entry = &entries[e];
            c->test = &tests[t];
            (void)snprintf(c->name, sizeof(c->name), "%s: %s", c->entry->name, c->test->name);
            units[total++] = (struct CMUnitTest){.name = c->name,
                                                 .test_func = case_run,
                                                 .setup_func = case_setup,
                                                 .teardown_func = case_teardown,
                                                 .initial_state = c};
        }
    }
    return _cmocka_run_group_tests(suite, units, total, NULL, NULL);
}

void engine_skip(const struct engine_fixture *f, const char *reason)
{
    printf("SKIP: %s: %s\n", f->entry->name, reason);
    skip();
}

static void record_keep(struct record *record, const struct weir__completion *completion)
{
    switch (record->op.kind) {
    case WEIR__OP_ACCEPT:
        assert_true(completion->result >= 0);
        assert_in_range(record->handle_count, 0, RECORD_HANDLES_MAX - 1);
        record->handles[record->handle_count++] = (int)completion->result;
        break;
    case WEIR__OP_RECEIVE:
        assert_in_range(completion->result, 1, RECEIVE_BYTES);
        if (record->bytes) {
            assert_true(record->length + (size_t)completion->result <= record->room);
            memcpy(record->bytes + record->length, completion->data, (size_t)completion->result);
        }
        record->length += (size_t)completion->result;
        if (record->received_at_ns == 0)
            record->received_at_ns = completion->at_ns;
        break;
    case WEIR__OP_WATCH:
        assert_in_range(record->stamp_count, 0, RECORD_STAMPS_MAX - 1);
        record->stamps[record->stamp_count++] = completion->stamp;
        break;
    default:
        fail_msg("an operation of kind %d goes on", record->op.kind);
    }
}

static void record_complete(struct weir__op *op, const struct weir__completion *completion)
{
    struct record *record = (struct record *)op;

    assert_true(record->f->in_wait);
    assert_false(record->f->in_call);
    assert_int_equal(record->final_count, 0);
    assert_int_equal(op->in_flight, completion->more);
    if (completion->more) {
        record->more_count++;
        record_keep(record, completion);
    } else {
        record->final_count++;
        record->finals++;
        record->result = completion->result;
    }
    if (record->hook)
        record->hook(record, completion);
}

void record_init(struct record *record, struct engine_fixture *f, enum weir__op_kind kind,
                 struct weir__socket *socket)
{
    memset(record, 0, sizeof(*record));
    record->f = f;
    record->op.kind = kind;
    record->op.socket = socket;
    record->op.complete = record_complete;
}

void record_submit(struct record *record)
{
    struct engine_fixture *f = record->f;

    record->final_count = 0;
    assert_false(f->in_call);
    f->in_call = true;
    f->ops->submit(f->engine, &record->op);
    f->in_call = false;
    assert_true(record->op.in_flight);
}

void record_cancel(struct record *record)
{
    struct engine_fixture *f = record->f;

    assert_false(f->in_call);
    f->in_call = true;
    f->ops->cancel(f->engine, &record->op);
    f->in_call = false;
    assert_true(record->op.in_flight);
}

void record_send(struct record *record, const void *bytes, size_t length, unsigned flags)
{
    record->part = (struct iovec){.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
    record->op.kind = WEIR__OP_SEND;
    record->op.send.parts = &record->part;
    record->op.send.part_count = 1;
    record->op.send.flags = flags;
    record->op.send.record_type = 0;
    record->op.send.pin = NULL;
    record_submit(record);
}

static void pin_on_released(struct weir__pin *base, enum weir__pin_result result)
{
    struct pin *pin = (struct pin *)base;
    const struct record *send = pin->send;

    assert_true(send->f->in_wait);
    assert_false(send->f->in_call);
    assert_int_equal(pin->released, 0);
    assert_true(send->finals >= pin->send_finals);
    pin->released++;
    pin->result = result;
    if (pin->released_count)
        (*pin->released_count)++;
    if (pin->scribble)
        memset(pin->memory, 0xEE, pin->bytes);
}

void pin_init(struct pin *pin)
{
    memset(pin, 0, sizeof(*pin));
    pin->pin.released = pin_on_released;
}

static void pin_bind(struct pin *pin, struct record *record, void *memory, size_t length)
{
    assert_int_equal(pin->released, 0);
    pin->send = record;
    pin->send_finals = record->finals + 1;
    pin->memory = memory;
    pin->bytes = length;
    record->op.send.pin = &pin->pin;
}

void record_send_pinned(struct record *record, void *bytes, size_t length, unsigned flags,
                        struct pin *pin)
{
    record->part = (struct iovec){.iov_base = bytes, .iov_len = length};
    record_send_parts_pinned(record, &record->part, 1, flags, pin);
}

void record_send_parts_pinned(struct record *record, struct iovec *parts, unsigned part_count,
                              unsigned flags, struct pin *pin)
{
    record->op.kind = WEIR__OP_SEND;
    record->op.send.parts = parts;
    record->op.send.part_count = part_count;
    record->op.send.flags = flags;
    record->op.send.record_type = 0;
    pin_bind(pin, record, parts->iov_base, part_count == 1 ? parts->iov_len : 0);
    record_submit(record);
}

void record_send_file(struct record *record, int file, uint64_t offset, uint64_t length,
                      unsigned flags)
{
    record->op.kind = WEIR__OP_SEND_FILE;
    record->op.send_file.file = file;
    record->op.send_file.offset = offset;
    record->op.send_file.length = length;
    record->op.send_file.piece = 64u << 10;
    record->op.send_file.flags = flags;
    record_submit(record);
}

void record_send_all(struct record *record, const void *bytes, size_t length, unsigned flags)
{
    size_t taken = 0;

    while (taken < length) {
        record_send(record, (const uint8_t *)bytes + taken, length - taken, flags);
        int64_t result = record_finish(record);
        assert_in_range(result, 1, length - taken);
        taken += (size_t)result;
    }
}

void record_send_file_all(struct record *record, int file, uint64_t offset, uint64_t length,
                          unsigned flags)
{
    uint64_t taken = 0;

    while (taken < length) {
        record_send_file(record, file, offset + taken, length - taken, flags);
        int64_t result = record_finish(record);
        assert_in_range(result, 1, length - taken);
        taken += (uint64_t)result;
    }
}

static void wait_once(struct engine_fixture *f, uint64_t timeout_ns)
{
    f->in_wait = true;
    assert_int_equal(f->ops->wait(f->engine, timeout_ns), 0);
    f->in_wait = false;
}

void wait_until(struct engine_fixture *f, const unsigned *counter, unsigned wanted)
{
    uint64_t until = f->ops->now_ns(f->engine) + WAIT_MAX_NS;

    while (*counter < wanted) {
        assert_true(f->ops->now_ns(f->engine) < until);
        wait_once(f, WAIT_MAX_NS);
    }
}

void wait_until_length(struct engine_fixture *f, const size_t *length, size_t wanted)
{
    uint64_t until = f->ops->now_ns(f->engine) + WAIT_MAX_NS;

    while (*length < wanted) {
        assert_true(f->ops->now_ns(f->engine) < until);
        wait_once(f, WAIT_MAX_NS);
    }
}

void wait_for(struct engine_fixture *f, uint64_t ns)
{
    uint64_t until = f->ops->now_ns(f->engine) + ns;
    uint64_t now;

    while ((now = f->ops->now_ns(f->engine)) < until)
        wait_once(f, until - now);
}

uint64_t thread_time_ns(void)
{
    struct timespec now;

    assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now), 0);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

bool record_has_stamp(const struct record *record, enum weir__stamp_kind kind, uint32_t key)
{
    for (unsigned i = 0; i < record->stamp_count; i++) {
        if (record->stamps[i].kind == kind && record->stamps[i].key == key)
            return true;
    }
    return false;
}

void wait_until_stamp(const struct record *record, enum weir__stamp_kind kind, uint32_t key)
{
    struct engine_fixture *f = record->f;
    uint64_t until = f->ops->now_ns(f->engine) + WAIT_MAX_NS;

    while (!record_has_stamp(record, kind, key)) {
        assert_true(f->ops->now_ns(f->engine) < until);
        wait_once(f, WAIT_MAX_NS);
    }
}

int64_t record_finish(struct record *record)
{
    wait_until(record->f, &record->final_count, 1);
    return record->result;
}

void record_cancel_and_finish(struct record *record)
{
    record_cancel(record);
    assert_int_equal(record_finish(record), WEIR_ECANCELLED);
}

void listener_open(struct engine_fixture *f, struct weir__socket *listener,
                   struct weir_address *address)
{
    static const struct weir__listen_options options = {.backlog = 64};

    *listener = (struct weir__socket){.handle = -1};
    memset(address, 0, sizeof(*address));
    address->socket.ipv4.sin_family = AF_INET;
    address->socket.ipv4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address->length = sizeof(address->socket.ipv4);
    assert_int_equal(f->ops->socket_listen(f->engine, listener, address, &options), 0);
    assert_int_equal(f->ops->socket_local(f->engine, listener, address), 0);
}

void pair_open(struct pair *pair, struct engine_fixture *f, bool delivery)
{
    struct record accept, connect;

    memset(pair, 0, sizeof(*pair));
    pair->f = f;
    pair->listener.handle = pair->client.handle = pair->server.handle = -1;
    listener_open(f, &pair->listener, &pair->address);
    assert_int_equal(f->ops->socket_open(f->engine, &pair->client, AF_INET), 0);
    record_init(&accept, f, WEIR__OP_ACCEPT, &pair->listener);
    record_init(&connect, f, WEIR__OP_CONNECT, &pair->client);
    connect.op.connect.address = &pair->address;
    record_submit(&accept);
    record_submit(&connect);
    assert_int_equal(record_finish(&connect), 0);
    wait_until(f, &accept.handle_count, 1);
    record_cancel_and_finish(&accept);
    assert_int_equal(accept.handle_count, 1);
    f->ops->socket_adopt(f->engine, &pair->server, accept.handles[0]);
    f->ops->socket_prepare(f->engine, &pair->client, true, delivery);
    f->ops->socket_prepare(f->engine, &pair->server, true, delivery);
}

void socket_close_if_open(struct engine_fixture *f, struct weir__socket *socket)
{
    if (socket->handle >= 0)
        f->ops->socket_close(f->engine, socket);
}

void pair_close(struct pair *pair)
{
    socket_close_if_open(pair->f, &pair->client);
    socket_close_if_open(pair->f, &pair->server);
    socket_close_if_open(pair->f, &pair->listener);
}

int descriptor_next(void)
{
    int next = dup(STDERR_FILENO);
    assert_true(next >= 0);
    close(next);
    return next;
}

void pattern_fill(uint8_t *bytes, size_t length, size_t offset)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)((offset + i) * 2654435761u >> 13);
}

int pattern_file(size_t length)
{
    char path[] = "/tmp/weir-test-XXXXXX";
    uint8_t *bytes = malloc(length);
    int file = mkstemp(path);

    assert_non_null(bytes);
    assert_true(file >= 0);
    assert_int_equal(unlink(path), 0);
    pattern_fill(bytes, length, 0);
    assert_int_equal(write(file, bytes, length), length);
    free(bytes);
    return file;
}
