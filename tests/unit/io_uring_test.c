/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What is the io_uring engine's own; that it keeps every engine's promises is in engine_test.c, and whether it opens in
 * io_uring_open_test.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <weir/error.h>

#include "engine/io_uring.h"

#define SECOND_NS  UINT64_C(1000000000)
#define ROUNDS_MAX 20000
#define PAIRS      300

struct record {
    struct weir__op op;
    unsigned finals, mores;
    int64_t last;  /* the final result */
    int64_t bytes; /* of RECEIVE, or the last accepted handle */
    uint8_t next_byte;
    bool in_order;
    uint64_t at_ns;
    struct weir__stamp stamps[8]; /* the first of them */
    bool again;                   /* WATCH, RECEIVE: cancel at the first completion */
};

static struct weir__engine *engine;
static const struct weir__engine_ops *ops = &weir__io_uring_engine;

static void on_complete(struct weir__op *op, const struct weir__completion *completion)
{
    struct record *record = (struct record *)op;

    assert_int_equal(record->finals, 0);
    if (!completion->more) {
        assert_false(op->in_flight);
        record->finals++;
        record->last = completion->result;
        return;
    }
    if (op->kind == WEIR__OP_RECEIVE) {
        for (int64_t i = 0; i < completion->result; i++)
            if (completion->data[i] != record->next_byte++)
                record->in_order = false;
        record->bytes += completion->result;
        record->at_ns = completion->at_ns;
    } else if (op->kind == WEIR__OP_ACCEPT) {
        record->bytes = completion->result;
    } else if (record->mores < 8) {
        record->stamps[record->mores] = completion->stamp;
    }
    record->mores++;
}

static void start(struct record *record, struct weir__socket *socket, enum weir__op_kind kind)
{
    record->op.kind = kind;
    record->op.socket = socket;
    record->op.complete = on_complete;
    record->finals = record->mores = 0;
    record->bytes = 0;
    record->next_byte = 0;
    record->in_order = true;
    ops->submit(engine, &record->op);
}

static void turn(void)
{
    assert_int_equal(ops->wait(engine, SECOND_NS / 50), 0);
}

static void until_final(struct record *record)
{
    for (int i = 0; i < ROUNDS_MAX && !record->finals; i++)
        turn();
    assert_int_equal(record->finals, 1);
}

static void until_more(struct record *record, unsigned count)
{
    for (int i = 0; i < ROUNDS_MAX && record->mores < count && !record->finals; i++)
        turn();
    assert_true(record->mores >= count);
}

static void stop(struct record *record)
{
    ops->cancel(engine, &record->op);
    assert_int_equal(record->finals, 0);
    until_final(record);
    assert_int_equal(record->last, WEIR_ECANCELLED);
}

static void engine_make(bool delivery, bool by_command, uint32_t bytes, uint32_t buffers)
{
    struct weir__engine_options options = {
        .delivery = delivery, .receive_bytes = bytes, .receive_buffers = buffers};
    struct weir__io_uring_features features;
    const char *reason;

    if (weir__io_uring_probe(&features, &reason)) {
        printf("SKIP: io_uring: %s\n", reason);
        skip();
    }
    if (by_command && !features.stamp_command) {
        printf("SKIP: io_uring: no TX_TIMESTAMP command before Linux 6.17\n");
        skip();
    }
    features.stamp_command = by_command;
    assert_int_equal(weir__io_uring_open_with(&engine, &options, &features), 0);
}

/* A connection: `ours` on the engine, `peer` a plain blocking descriptor. */
static void pair_make(struct weir__socket *ours, int *peer)
{
    struct weir__listen_options options = {.backlog = 8};
    struct weir__socket listener = {.handle = -1};
    struct weir_address address;
    struct record record = {.finals = 0};

    assert_int_equal(weir_address_parse(&address, "127.0.0.1:0"), 0);
    assert_int_equal(ops->socket_listen(engine, &listener, &address, &options), 0);
    assert_int_equal(ops->socket_local(engine, &listener, &address), 0);
    start(&record, &listener, WEIR__OP_ACCEPT);
    *peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(*peer, &address.socket.any, address.length), 0);
    until_more(&record, 1);
    ops->socket_adopt(engine, ours, (int)record.bytes);
    ops->socket_prepare(engine, ours, true, true);
    stop(&record);
    ops->socket_close(engine, &listener);
}

static void reset(int peer)
{
    struct linger linger = {.l_onoff = 1};

    setsockopt(peer, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    close(peer);
}

static void send_start(struct record *record, struct weir__socket *socket, struct iovec *part,
                       unsigned flags)
{
    record->op.send.parts = part;
    record->op.send.part_count = 1;
    record->op.send.flags = flags;
    start(record, socket, WEIR__OP_SEND);
}

/* Receiving */

static void *write_much(void *context)
{
    uint8_t bytes[8192];
    int peer = *(int *)context;

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)i;
    for (int i = 0; i < 32; i++)
        if (write(peer, bytes, sizeof(bytes)) != sizeof(bytes))
            break;
    shutdown(peer, SHUT_WR);
    return NULL;
}

/* One small buffer: the request ends for want of it again and again, and nobody notices. */
static void receive_with_one_buffer(bool delivery)
{
    struct weir__socket ours;
    struct record record = {.finals = 0};
    pthread_t writer;
    int peer;

    engine_make(delivery, false, 512, 1);
    pair_make(&ours, &peer);
    pthread_create(&writer, NULL, write_much, &peer);
    start(&record, &ours, WEIR__OP_RECEIVE);
    until_final(&record);
    pthread_join(writer, NULL);
    assert_int_equal(record.last, 0);
    assert_int_equal(record.bytes, 32 * 8192);
    /* Without control messages there is room for bytes where those would stand. */
    assert_true(record.mores >= 32 * 8192 / (512 + 128));
    assert_true(record.in_order);
    ops->socket_close(engine, &ours);
    close(peer);
    ops->close(engine);
}

static void test_one_buffer(void **context)
{
    (void)context;
    receive_with_one_buffer(false);
}

static void test_one_buffer_with_stamps(void **context)
{
    (void)context;
    receive_with_one_buffer(true);
}

static void test_receive_stamp(void **context)
{
    struct weir__socket ours;
    struct record record = {.finals = 0};
    uint64_t before;
    int peer;

    (void)context;
    engine_make(true, false, 512, 4);
    pair_make(&ours, &peer);
    start(&record, &ours, WEIR__OP_RECEIVE);
    turn();
    before = ops->now_ns(engine);
    assert_int_equal(write(peer, "", 1), 1);
    usleep(20000);
    until_more(&record, 1);
    /* When it arrived, not when it was read. A millisecond for a clock that is being set. */
    assert_true(record.at_ns + SECOND_NS / 1000 > before);
    assert_true(record.at_ns < before + SECOND_NS / 100);
    stop(&record);
    ops->socket_close(engine, &ours);
    close(peer);
    ops->close(engine);
}

/* Stamps */

static void stamps_come(bool by_command, bool with_reader)
{
    struct weir__socket ours;
    struct record watch = {.finals = 0}, writer = {.finals = 0}, reader = {.finals = 0};
    struct iovec part = {.iov_base = "abcdefgh", .iov_len = 8};
    uint64_t before;
    int peer;

    engine_make(true, by_command, 512, 4);
    pair_make(&ours, &peer);
    assert_true(ours.stamps);
    start(&watch, &ours, WEIR__OP_WATCH);
    if (with_reader)
        start(&reader, &ours, WEIR__OP_RECEIVE);
    before = ops->now_ns(engine);
    send_start(&writer, &ours, &part, WEIR__SEND_STAMP);
    until_final(&writer);
    assert_int_equal(writer.last, 8);
    until_more(&watch, 2);
    assert_int_equal(watch.stamps[0].kind, WEIR__STAMP_SENT);
    assert_int_equal(watch.stamps[1].kind, WEIR__STAMP_ACKED);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(watch.stamps[i].key, 7);
        assert_true(watch.stamps[i].at_ns + SECOND_NS / 1000 > before);
        assert_true(watch.stamps[i].at_ns < ops->now_ns(engine) + SECOND_NS / 1000);
    }
    /* Stamps that are in the kernel's queue, or the ring's, come before the end. */
    send_start(&writer, &ours, &part, WEIR__SEND_STAMP);
    until_final(&writer);
    usleep(20000);
    ops->cancel(engine, &watch.op);
    until_final(&watch);
    assert_int_equal(watch.last, WEIR_ECANCELLED);
    assert_int_equal(watch.mores, 4);
    assert_int_equal(watch.stamps[3].kind, WEIR__STAMP_ACKED);
    assert_int_equal(watch.stamps[3].key, 15);
    if (with_reader)
        stop(&reader);
    ops->socket_close(engine, &ours);
    close(peer);
    ops->close(engine);
}

static void test_stamps_by_command(void **context)
{
    (void)context;
    stamps_come(true, false);
    stamps_come(true, true);
}

static void test_stamps_by_poll(void **context)
{
    (void)context;
    stamps_come(false, false);
    stamps_come(false, true);
}

/*
 * The completion queue wraps again and again, with stamps at its end and others not taken yet: each
 * request still completes once.
 */
static void test_stamps_at_the_end_of_the_queue(void **context)
{
    enum { SOCKETS = 7, ROUNDS = 3000 };
    struct weir__socket ours[SOCKETS];
    struct record watches[SOCKETS] = {{.finals = 0}}, writers[SOCKETS] = {{.finals = 0}};
    struct iovec parts[SOCKETS];
    char byte = 'w';
    int peers[SOCKETS];

    (void)context;
    engine_make(true, true, 512, 4);
    for (int i = 0; i < SOCKETS; i++) {
        pair_make(&ours[i], &peers[i]);
        start(&watches[i], &ours[i], WEIR__OP_WATCH);
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < SOCKETS; i++) {
            parts[i] = (struct iovec){&byte, 1};
            send_start(&writers[i], &ours[i], &parts[i], WEIR__SEND_STAMP);
        }
        for (int i = 0; i < SOCKETS; i++) {
            until_final(&writers[i]);
            assert_int_equal(writers[i].last, 1);
            assert_int_equal(read(peers[i], &byte, 1), 1);
        }
    }
    for (int i = 0; i < SOCKETS; i++) {
        struct tcp_info info;
        socklen_t length = sizeof(info);

        /* What is sent again, because a busy machine acknowledged late, is stamped again. */
        assert_int_equal(getsockopt(ours[i].handle, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
        assert_in_range(watches[i].mores, ROUNDS, 2 * ROUNDS + info.tcpi_total_retrans);
        stop(&watches[i]);
        ops->socket_close(engine, &ours[i]);
        close(peers[i]);
    }
    ops->close(engine);
}

/* The end of a connection */

static void reset_is_seen(bool by_command, bool with_reader)
{
    struct weir__socket ours;
    struct record watch = {.finals = 0}, reader = {.finals = 0};
    int peer;

    engine_make(true, by_command, 512, 4);
    pair_make(&ours, &peer);
    start(&watch, &ours, WEIR__OP_WATCH);
    if (with_reader)
        start(&reader, &ours, WEIR__OP_RECEIVE);
    turn();
    reset(peer);
    until_final(&watch);
    assert_int_equal(watch.last, WEIR_ERESET);
    if (!with_reader)
        start(&reader, &ours, WEIR__OP_RECEIVE);
    until_final(&reader);
    assert_int_equal(reader.last, WEIR_ERESET);
    ops->socket_close(engine, &ours);
    ops->close(engine);
}

static void test_reset(void **context)
{
    (void)context;
    reset_is_seen(true, false);
    reset_is_seen(true, true);
}

static void test_reset_by_poll(void **context)
{
    (void)context;
    reset_is_seen(false, false);
    reset_is_seen(false, true);
}

/* The peer's end and ours are there, but our bytes are not: the watch goes on until they are. */
static void test_end_waits_for_the_bytes(void **context)
{
    static uint8_t bytes[1 << 20];
    struct weir__socket ours;
    struct record watch = {.finals = 0}, writer = {.finals = 0};
    struct iovec part = {.iov_base = bytes, .iov_len = sizeof(bytes)};
    int64_t taken = 0;
    ssize_t count;
    int peer;

    (void)context;
    engine_make(true, false, 512, 4);
    pair_make(&ours, &peer);
    start(&watch, &ours, WEIR__OP_WATCH);
    send_start(&writer, &ours, &part, WEIR__SEND_STAMP);
    until_final(&writer);
    assert_true(writer.last > 0);
    assert_int_equal(shutdown(peer, SHUT_WR), 0);
    assert_int_equal(ops->socket_shutdown(engine, &ours), 0);
    for (int i = 0; i < 5; i++)
        turn();
    assert_int_equal(watch.finals, 0);
    while ((count = read(peer, bytes, sizeof(bytes))) > 0)
        taken += count;
    assert_int_equal(taken, writer.last);
    until_final(&watch);
    assert_int_equal(watch.last, 0);
    assert_true(watch.mores >= 2);
    assert_true(watch.mores <= 8);
    assert_int_equal(watch.stamps[watch.mores - 1].kind, WEIR__STAMP_ACKED);
    assert_int_equal(watch.stamps[watch.mores - 1].key, taken - 1);
    ops->socket_close(engine, &ours);
    close(peer);
    ops->close(engine);
}

/* Cancelling */

/*
 * Sends until both kernels are full, and stay so: what is still under way would make room again when it
 * is acknowledged, and a window of less than a segment is filled only by the probe timer, 200 ms later.
 */
static void peer_fill(struct weir__socket *ours)
{
    static uint8_t bytes[65536];
    struct tcp_info info;
    socklen_t size = sizeof(info);
    bool settled = false, moved = true;

    for (int i = 0; i < 2000 && (moved || !settled); i++) {
        moved = false;
        while (send(ours->handle, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
            moved = true;
        assert_int_equal(getsockopt(ours->handle, IPPROTO_TCP, TCP_INFO, &info, &size), 0);
        settled = info.tcpi_unacked == 0 && info.tcpi_snd_wnd == 0;
        if (!settled)
            usleep(1000);
    }
}

static void test_cancel_each(void **context)
{
    static uint8_t bytes[65536];
    struct weir__socket ours;
    struct record reader = {.finals = 0}, writer = {.finals = 0}, watch = {.finals = 0};
    struct iovec part = {.iov_base = bytes, .iov_len = sizeof(bytes)};
    FILE *file = tmpfile();
    int peer;

    (void)context;
    assert_int_equal(fwrite(bytes, sizeof(bytes), 1, file), 1);
    fflush(file);
    engine_make(true, false, 512, 4);
    pair_make(&ours, &peer);
    peer_fill(&ours);
    /* In the round of the submission, and in a later one. */
    for (int later = 0; later < 2; later++) {
        start(&reader, &ours, WEIR__OP_RECEIVE);
        start(&watch, &ours, WEIR__OP_WATCH);
        send_start(&writer, &ours, &part, later ? WEIR__SEND_STAMP : 0);
        if (later)
            turn();
        ops->cancel(engine, &reader.op);
        ops->cancel(engine, &watch.op);
        ops->cancel(engine, &watch.op);
        stop(&writer);
        until_final(&reader);
        until_final(&watch);
        assert_int_equal(reader.last, WEIR_ECANCELLED);
        assert_int_equal(watch.last, WEIR_ECANCELLED);

        writer.op.send_file.file = fileno(file);
        writer.op.send_file.offset = 0;
        writer.op.send_file.length = sizeof(bytes);
        writer.op.send_file.flags = WEIR__SEND_STAMP;
        start(&writer, &ours, WEIR__OP_SEND_FILE);
        if (later)
            turn();
        stop(&writer);
    }
    ops->socket_reset(engine, &ours);
    close(peer);
    fclose(file);
    ops->close(engine);
}

/* A watch that was never handed to the kernel, and a connect that nobody answers. */
static void test_cancel_connect(void **context)
{
    struct weir__listen_options options = {.backlog = 0};
    struct weir__socket listener = {.handle = -1}, sockets[4];
    struct record records[4] = {{.finals = 0}};
    struct weir_address address;
    unsigned cancelled = 0;

    (void)context;
    engine_make(false, false, 512, 4);
    assert_int_equal(weir_address_parse(&address, "127.0.0.1:0"), 0);
    assert_int_equal(ops->socket_listen(engine, &listener, &address, &options), 0);
    assert_int_equal(ops->socket_local(engine, &listener, &address), 0);
    /* A full backlog drops the SYN. */
    for (int i = 0; i < 4; i++) {
        memset(&sockets[i], 0, sizeof(sockets[i]));
        assert_int_equal(ops->socket_open(engine, &sockets[i], AF_INET), 0);
        records[i].op.connect.address = &address;
        start(&records[i], &sockets[i], WEIR__OP_CONNECT);
    }
    for (int i = 0; i < 5; i++)
        turn();
    for (int i = 0; i < 4; i++) {
        if (!records[i].finals) {
            stop(&records[i]);
            cancelled++;
        } else {
            assert_int_equal(records[i].last, 0);
        }
        ops->socket_close(engine, &sockets[i]);
    }
    assert_true(cancelled >= 2);
    ops->socket_close(engine, &listener);
    ops->close(engine);
}

/* The ring */

/* More requests in one round than the submission queue holds. */
static void test_many_requests(void **context)
{
    static struct weir__socket sockets[PAIRS];
    static struct record readers[PAIRS], watchers[PAIRS];
    static int peers[PAIRS];

    (void)context;
    memset(readers, 0, sizeof(readers));
    memset(watchers, 0, sizeof(watchers));
    engine_make(true, false, 512, 4);
    for (int i = 0; i < PAIRS; i++)
        pair_make(&sockets[i], &peers[i]);
    for (int i = 0; i < PAIRS; i++) {
        start(&readers[i], &sockets[i], WEIR__OP_RECEIVE);
        start(&watchers[i], &sockets[i], WEIR__OP_WATCH);
        assert_int_equal(write(peers[i], "", 1), 1);
    }
    for (int i = 0; i < PAIRS; i++)
        until_more(&readers[i], 1);
    for (int i = 0; i < PAIRS; i++) {
        ops->cancel(engine, &readers[i].op);
        ops->cancel(engine, &watchers[i].op);
    }
    for (int i = 0; i < PAIRS; i++) {
        until_final(&readers[i]);
        until_final(&watchers[i]);
        assert_int_equal(readers[i].bytes, 1);
        ops->socket_close(engine, &sockets[i]);
        close(peers[i]);
    }
    ops->close(engine);
}

static void *wake_later(void *context)
{
    (void)context;
    usleep(20000);
    ops->wake(engine);
    return NULL;
}

static void *wait_once(void *context)
{
    *(int *)context = ops->wait(engine, 20 * SECOND_NS);
    return NULL;
}

/* The ring belongs to the thread that first waits, whichever made the engine. */
static void test_wake(void **context)
{
    pthread_t waiter, waker;
    uint64_t before;
    int result = 1;

    (void)context;
    engine_make(true, false, 512, 4);
    before = ops->now_ns(engine);
    pthread_create(&waiter, NULL, wait_once, &result);
    pthread_create(&waker, NULL, wake_later, NULL);
    pthread_join(waker, NULL);
    pthread_join(waiter, NULL);
    assert_int_equal(result, 0);
    assert_true(ops->now_ns(engine) - before < 10 * SECOND_NS);
    ops->close(engine);
}

static void *read_slowly(void *context)
{
    static uint8_t bytes[100000];
    int64_t total = 0;
    ssize_t count;

    while ((count = read(*(int *)context, bytes, sizeof(bytes))) > 0) {
        total += count;
        usleep(1000);
    }
    return (void *)(intptr_t)total;
}

/* Larger than what the socket takes: waits for room, and takes turns. */
static void test_send_file(void **context)
{
    static uint8_t bytes[65536];
    const int64_t length = 80 * (int64_t)sizeof(bytes);
    struct weir__socket ours;
    struct record writer = {.finals = 0}, watch = {.finals = 0};
    FILE *file = tmpfile();
    pthread_t reader;
    void *total;
    int64_t sent = 0;
    int peer;

    (void)context;
    for (int i = 0; i < 80; i++)
        assert_int_equal(fwrite(bytes, sizeof(bytes), 1, file), 1);
    fflush(file);
    engine_make(true, false, 512, 4);
    pair_make(&ours, &peer);
    start(&watch, &ours, WEIR__OP_WATCH);
    pthread_create(&reader, NULL, read_slowly, &peer);
    while (sent < length) {
        writer.op.send_file.file = fileno(file);
        writer.op.send_file.offset = (uint64_t)sent;
        writer.op.send_file.length = (uint64_t)(length - sent);
        writer.op.send_file.flags = WEIR__SEND_STAMP;
        start(&writer, &ours, WEIR__OP_SEND_FILE);
        until_final(&writer);
        assert_true(writer.last > 0);
        sent += writer.last;
    }
    writer.op.send_file.offset = (uint64_t)length;
    writer.op.send_file.length = 1;
    start(&writer, &ours, WEIR__OP_SEND_FILE);
    until_final(&writer);
    assert_int_equal(writer.last, WEIR_ETRUNCATED);
    assert_int_equal(ops->socket_shutdown(engine, &ours), 0);
    pthread_join(reader, &total);
    assert_int_equal((intptr_t)total, length);
    close(peer);
    until_final(&watch);
    assert_int_equal(watch.last, 0);
    ops->socket_close(engine, &ours);
    fclose(file);
    ops->close(engine);
}

static enum weir__pin_result pin_result;
static unsigned pins_released;

static void on_released(struct weir__pin *pin, enum weir__pin_result result)
{
    (void)pin;
    pin_result = result;
    pins_released++;
}

/* One send of two parts in registered memory, on an engine with fewer features than the kernel has. */
static void send_without(const struct weir__io_uring_features *features, int registered,
                         enum weir__pin_result expected)
{
    enum { PART = 3000 };
    const struct weir__engine_options options = {.receive_bytes = 4096, .receive_buffers = 16};
    static uint8_t bytes[2 * PART], got[2 * PART];
    struct weir__pin pin = {.released = on_released};
    struct weir__socket ours;
    struct record record = {.last = 0};
    uint8_t *memory = aligned_alloc(4096, 8192);
    struct iovec parts[] = {{memory, PART}, {memory + PART, PART}};
    int peer;

    assert_non_null(memory);
    for (unsigned i = 0; i < 2 * PART; i++)
        memory[i] = bytes[i] = (uint8_t)(i * 7);
    pins_released = 0;
    assert_int_equal(weir__io_uring_open_with(&engine, &options, features), 0);
    assert_int_equal(ops->can_zerocopy(engine), features->zerocopy);
    assert_int_equal(ops->memory_register(engine, memory, 8192), registered);
    pair_make(&ours, &peer);
    record.op.send.parts = parts;
    record.op.send.part_count = 2;
    record.op.send.pin = &pin;
    start(&record, &ours, WEIR__OP_SEND);
    until_final(&record);
    assert_int_equal(record.last, 2 * PART);
    assert_int_equal(recv(peer, got, sizeof(got), MSG_WAITALL), 2 * PART);
    assert_memory_equal(got, bytes, sizeof(got));
    for (int i = 0; i < ROUNDS_MAX && !pins_released; i++)
        turn();
    assert_int_equal(pins_released, 1);
    assert_int_equal(pin_result, expected);
    if (registered == 0)
        ops->memory_unregister(engine, memory);
    ops->socket_close(engine, &ours);
    close(peer);
    ops->close(engine);
    free(memory);
}

static void test_zero_copy_in_part(void **context)
{
    struct weir__io_uring_features features;
    const char *reason;

    (void)context;
    if (weir__io_uring_probe(&features, &reason) || !features.zerocopy_fixed) {
        printf("SKIP: io_uring: no zero copy from registered memory\n");
        skip();
    }
    features.zerocopy_fixed_message = false;
    send_without(&features, 0, WEIR__PIN_COPIED);
    features.zerocopy_fixed = false;
    send_without(&features, WEIR_ENOTSUP, WEIR__PIN_COPIED);
    features.zerocopy = false;
    send_without(&features, WEIR_ENOTSUP, WEIR__PIN_REFUSED);
}

static void *wait_and_leave(void *other)
{
    assert_int_equal(ops->wait(other, 0), 0);
    return NULL;
}

/* The thread that opens and closes an engine need not be its loop's, and may have an engine of its own. */
static void test_closed_by_another_thread(void **state)
{
    static const struct weir__engine_options options = {.receive_bytes = 4096,
                                                        .receive_buffers = 16};
    struct weir__engine *own, *other;
    pthread_t thread;

    (void)state;
    if (ops->open(&own, &options) != 0) {
        printf("SKIP: test_closed_by_another_thread: %s\n", weir__io_uring_refusal());
        skip();
    }
    assert_int_equal(ops->open(&other, &options), 0);
    assert_int_equal(ops->wait(own, 0), 0);
    assert_int_equal(pthread_create(&thread, NULL, wait_and_leave, other), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    ops->close(other);
    for (int i = 0; i < 3; i++) {
        ops->wake(own);
        assert_int_equal(ops->wait(own, SECOND_NS), 0);
    }
    ops->close(own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_buffer),
        cmocka_unit_test(test_one_buffer_with_stamps),
        cmocka_unit_test(test_receive_stamp),
        cmocka_unit_test(test_stamps_by_command),
        cmocka_unit_test(test_stamps_at_the_end_of_the_queue),
        cmocka_unit_test(test_stamps_by_poll),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_reset_by_poll),
        cmocka_unit_test(test_end_waits_for_the_bytes),
        cmocka_unit_test(test_cancel_each),
        cmocka_unit_test(test_cancel_connect),
        cmocka_unit_test(test_many_requests),
        cmocka_unit_test(test_wake),
        cmocka_unit_test(test_send_file),
        cmocka_unit_test(test_zero_copy_in_part),
        cmocka_unit_test(test_closed_by_another_thread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
