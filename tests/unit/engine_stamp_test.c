/* SPDX-License-Identifier: Apache-2.0 */
/* What the engines say of files, transmit stamps and counts. The rest: engine_test.c. */

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/socket.h"
#include "support/engine_fixture.h"

#define MS             UINT64_C(1000000)
#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* A connection with stamps, its client watched, its server reading. */
struct stamped {
    struct pair pair;
    struct record watch, receive, send;
    uint64_t opened_ns;
};

static void stamped_open(struct stamped *s, struct engine_fixture *f)
{
    s->opened_ns = f->ops->now_ns(f->engine);
    pair_open(&s->pair, f, true);
    if (!s->pair.client.stamps) {
        pair_close(&s->pair);
        f->passed = true;
        engine_skip(f, "no transmit stamps (SO_TIMESTAMPING)");
    }
    record_init(&s->watch, f, WEIR__OP_WATCH, &s->pair.client);
    record_init(&s->receive, f, WEIR__OP_RECEIVE, &s->pair.server);
    record_init(&s->send, f, WEIR__OP_SEND, &s->pair.client);
    record_submit(&s->watch);
    record_submit(&s->receive);
}

static void stamped_close(struct stamped *s)
{
    if (s->watch.op.in_flight)
        record_cancel_and_finish(&s->watch);
    if (s->receive.op.in_flight)
        record_cancel_and_finish(&s->receive);
    pair_close(&s->pair);
}

static void wait_until_both(struct stamped *s, uint32_t key)
{
    wait_until_stamp(&s->watch, WEIR__STAMP_SENT, key);
    wait_until_stamp(&s->watch, WEIR__STAMP_ACKED, key);
}

static void no_stamp_without_asking(struct engine_fixture *f)
{
    struct stamped s;

    stamped_open(&s, f);
    record_send_all(&s.send, "quiet", 5, 0);
    wait_until_length(f, &s.receive.length, 5);
    wait_for(f, 60 * MS);
    assert_int_equal(s.watch.stamp_count, 0);
    stamped_close(&s);
}

static void stamp_not_enabled_is_ignored(struct engine_fixture *f)
{
    struct pair pair;
    struct record watch, send, receive;

    pair_open(&pair, f, false);
    assert_false(pair.client.stamps);
    record_init(&watch, f, WEIR__OP_WATCH, &pair.client);
    record_init(&send, f, WEIR__OP_SEND, &pair.client);
    record_init(&receive, f, WEIR__OP_RECEIVE, &pair.server);
    record_submit(&watch);
    record_submit(&receive);
    record_send_all(&send, "x", 1, WEIR__SEND_STAMP);
    wait_until_length(f, &receive.length, 1);
    wait_for(f, 60 * MS);
    assert_int_equal(watch.stamp_count, 0);
    assert_int_equal(watch.final_count, 0);
    record_cancel_and_finish(&watch);
    record_cancel_and_finish(&receive);
    pair_close(&pair);
}

/* The key is the offset of the last byte, counted from when stamps were enabled, whatever was not
 * stamped before; the times are those of the loop's clock. */
static void stamps_of_sends(struct engine_fixture *f)
{
    struct stamped s;
    uint8_t bytes[1000] = {0};

    stamped_open(&s, f);
    record_send_all(&s.send, bytes, 100, WEIR__SEND_STAMP);
    wait_until_both(&s, 99);
    record_send_all(&s.send, bytes, 300, 0);
    record_send_all(&s.send, bytes, 1000, WEIR__SEND_STAMP);
    wait_until_both(&s, 1399);
    assert_int_equal(s.watch.stamp_count, 4);
    uint64_t now = f->ops->now_ns(f->engine);
    for (unsigned i = 0; i < s.watch.stamp_count; i++)
        assert_in_range(s.watch.stamps[i].at_ns, s.opened_ns, now);
    assert_int_equal(s.watch.stamps[0].kind, WEIR__STAMP_SENT);
    assert_int_equal(s.watch.stamps[1].kind, WEIR__STAMP_ACKED);
    assert_true(s.watch.stamps[0].at_ns <= s.watch.stamps[1].at_ns);
    stamped_close(&s);
}

static void receive_stamp_is_the_kernels(struct engine_fixture *f)
{
    struct stamped s;

    stamped_open(&s, f);
    record_send_all(&s.send, "first", 5, 0);
    wait_until_length(f, &s.receive.length, 5);
    /* The kernel begins to stamp soon after the first socket that asks, not at once: 0 says so. */
    if (s.receive.received_at_ns != 0)
        assert_in_range(s.receive.received_at_ns, s.opened_ns, f->ops->now_ns(f->engine));
    wait_for(f, 50 * MS);
    s.receive.received_at_ns = 0;
    uint64_t before = f->ops->now_ns(f->engine);
    record_send_all(&s.send, "second", 6, 0);
    wait_until_length(f, &s.receive.length, 11);
    assert_in_range(s.receive.received_at_ns, before, f->ops->now_ns(f->engine));
    stamped_close(&s);
}

/* sendfile's stamp is switched on and off by a socket option: the keys go on counting from their
 * base. */
static void stamps_of_files(struct engine_fixture *f)
{
    enum { FILE_BYTES = 200000 };
    struct stamped s;
    int file = pattern_file(FILE_BYTES);

    stamped_open(&s, f);
    record_send_all(&s.send, "header", 6, WEIR__SEND_MORE);
    record_send_file_all(&s.send, file, 0, FILE_BYTES, WEIR__SEND_STAMP);
    wait_until_both(&s, 6 + FILE_BYTES - 1);
    unsigned count = s.watch.stamp_count;
    record_send_file_all(&s.send, file, 1000, 500, 0);
    record_send_all(&s.send, "quiet", 5, 0);
    wait_until_length(f, &s.receive.length, 6 + FILE_BYTES + 505);
    wait_for(f, 60 * MS);
    assert_int_equal(s.watch.stamp_count, count);
    record_send_all(&s.send, "last", 4, WEIR__SEND_STAMP);
    wait_until_both(&s, 6 + FILE_BYTES + 505 + 4 - 1);
    record_send_file_all(&s.send, file, 0, 1, WEIR__SEND_STAMP);
    wait_until_both(&s, 6 + FILE_BYTES + 505 + 4 + 1 - 1);
    stamped_close(&s);
    close(file);
}

static void stamps_before_the_end_of_the_watch(struct engine_fixture *f)
{
    struct stamped s;

    stamped_open(&s, f);
    assert_int_equal(f->ops->socket_shutdown(f->engine, &s.pair.server), 0);
    record_send(&s.send, "answer", 6, WEIR__SEND_STAMP);
    assert_int_equal(record_finish(&s.send), 6);
    assert_int_equal(f->ops->socket_shutdown(f->engine, &s.pair.client), 0);
    assert_int_equal(record_finish(&s.watch), 0);
    assert_true(record_has_stamp(&s.watch, WEIR__STAMP_SENT, 5));
    assert_true(record_has_stamp(&s.watch, WEIR__STAMP_ACKED, 5));
    assert_int_equal(record_finish(&s.receive), 0);
    stamped_close(&s);
}

/* The peer has acknowledged when its owner has the bytes and sent some back: the ACK rides on them.
 */
static void stamps_before_cancelled(struct engine_fixture *f)
{
    struct stamped s;

    stamped_open(&s, f);
    record_send(&s.send, "answer", 6, WEIR__SEND_STAMP);
    int64_t taken = record_finish(&s.send);
    assert_int_equal(taken, 6);
    wait_until_length(f, &s.receive.length, 6);
    wait_for(f, 100 * MS);
    record_cancel_and_finish(&s.watch);
    assert_true(record_has_stamp(&s.watch, WEIR__STAMP_SENT, 5));
    assert_true(record_has_stamp(&s.watch, WEIR__STAMP_ACKED, 5));
    stamped_close(&s);
}

static void stamps_before_a_reset(struct engine_fixture *f)
{
    struct stamped s;

    stamped_open(&s, f);
    record_send(&s.send, "answer", 6, WEIR__SEND_STAMP);
    assert_int_equal(record_finish(&s.send), 6);
    wait_until_length(f, &s.receive.length, 6);
    record_cancel_and_finish(&s.receive);
    f->ops->socket_reset(f->engine, &s.pair.server);
    assert_int_equal(record_finish(&s.watch), WEIR_ERESET);
    assert_true(record_has_stamp(&s.watch, WEIR__STAMP_SENT, 5));
    stamped_close(&s);
}

/* More than the engine takes in one call, made while it does not look, cancelled at once: none is
 * lost. The queue is bounded by SO_RCVBUF, so that is made large enough to hold them. The peer
 * reads each at once, or the congestion window would be full and sends share a segment, and with it
 * their stamps. */
static void stamps_many_outstanding(struct engine_fixture *f)
{
    enum { SENDS = 150, LENGTH = 1000 };
    struct stamped s;
    uint8_t bytes[LENGTH] = {0};
    const struct iovec part = {.iov_base = bytes, .iov_len = LENGTH};
    struct weir__completion completion;
    int room = 1 << 20;

    stamped_open(&s, f);
    record_cancel_and_finish(&s.receive);
    assert_int_equal(setsockopt(s.pair.client.handle, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)),
                     0);
    for (int i = 0; i < SENDS; i++) {
        assert_int_equal(weir__socket_send(&s.pair.client, &part, 1, WEIR__SEND_STAMP, 0), LENGTH);
        assert_int_equal(
            weir__socket_receive(f->engine, &s.pair.server, bytes, LENGTH, &completion), LENGTH);
    }
    /* Its FIN carries the acknowledgement of all. */
    assert_int_equal(f->ops->socket_shutdown(f->engine, &s.pair.server), 0);
    record_cancel_and_finish(&s.watch);
    assert_int_equal(s.watch.stamp_count, 2 * SENDS);
    for (uint32_t key = LENGTH - 1; key < SENDS * LENGTH; key += LENGTH) {
        assert_true(record_has_stamp(&s.watch, WEIR__STAMP_SENT, key));
        assert_true(record_has_stamp(&s.watch, WEIR__STAMP_ACKED, key));
    }
    stamped_close(&s);
}

static void cancel_in_the_callback(struct record *record, const struct weir__completion *completion)
{
    if (completion->more && record->more_count == 1)
        record_cancel(record);
}

static void watch_cancelled_in_its_callback(struct engine_fixture *f)
{
    struct stamped s;

    stamped_open(&s, f);
    s.watch.hook = cancel_in_the_callback;
    record_send_all(&s.send, "x", 1, WEIR__SEND_STAMP);
    assert_int_equal(record_finish(&s.watch), WEIR_ECANCELLED);
    wait_until_length(f, &s.receive.length, 1);
    wait_for(f, 60 * MS);
    assert_int_equal(s.watch.finals, 1);
    stamped_close(&s);
}

/* Stamps that nobody watches for must not keep the engine awake. */
static void unwatched_stamps_do_not_spin(struct engine_fixture *f)
{
    struct stamped s;
    struct record at_client;

    stamped_open(&s, f);
    record_cancel_and_finish(&s.watch);
    record_init(&at_client, f, WEIR__OP_RECEIVE, &s.pair.client);
    record_submit(&at_client);
    record_send_all(&s.send, "unseen", 6, WEIR__SEND_STAMP);
    wait_until_length(f, &s.receive.length, 6);
    uint64_t before = thread_time_ns();
    wait_for(f, 200 * MS);
    assert_in_range(thread_time_ns() - before, 0, 50 * MS);
    record_cancel_and_finish(&at_client);
    stamped_close(&s);
}

static void file_send_expect(struct engine_fixture *f, uint64_t offset, size_t length)
{
    struct pair pair;
    struct record send, receive;
    int file = pattern_file((size_t)offset + length);
    uint8_t *expected = malloc(length);

    assert_non_null(expected);
    pattern_fill(expected, length, (size_t)offset);
    pair_open(&pair, f, true);
    record_init(&receive, f, WEIR__OP_RECEIVE, &pair.server);
    receive.room = length;
    receive.bytes = malloc(length);
    assert_non_null(receive.bytes);
    record_init(&send, f, WEIR__OP_SEND_FILE, &pair.client);
    record_submit(&receive);
    record_send_file_all(&send, file, offset, length, 0);
    wait_until_length(f, &receive.length, length);
    assert_memory_equal(receive.bytes, expected, length);
    /* The engine reads at offsets and leaves the file's own position alone. */
    assert_int_equal(lseek(file, 0, SEEK_CUR), offset + length);
    record_cancel_and_finish(&receive);
    pair_close(&pair);
    free(receive.bytes);
    free(expected);
    close(file);
}

static void file_whole(struct engine_fixture *f)
{
    file_send_expect(f, 0, 100000);
}

static void file_from_an_offset(struct engine_fixture *f)
{
    file_send_expect(f, 12345, 54321);
}

static void file_larger_than_all_buffers(struct engine_fixture *f)
{
    file_send_expect(f, 0, 9u << 20);
}

static void file_truncated(struct engine_fixture *f)
{
    struct pair pair;
    struct record send, receive;
    int file = pattern_file(1000);

    pair_open(&pair, f, true);
    record_init(&receive, f, WEIR__OP_RECEIVE, &pair.server);
    record_init(&send, f, WEIR__OP_SEND_FILE, &pair.client);
    record_submit(&receive);
    record_send_file(&send, file, 400, 5000, WEIR__SEND_STAMP);
    assert_int_equal(record_finish(&send), 600);
    record_send_file(&send, file, 1000, 4400, WEIR__SEND_STAMP);
    assert_int_equal(record_finish(&send), WEIR_ETRUNCATED);
    wait_until_length(f, &receive.length, 600);
    /* The connection is none the worse. */
    record_send_all(&send, "x", 1, 0);
    wait_until_length(f, &receive.length, 601);
    record_cancel_and_finish(&receive);
    pair_close(&pair);
    close(file);
}

/* sendfile would raise SIGPIPE. */
static void file_to_a_dead_connection(struct engine_fixture *f)
{
    struct pair pair;
    struct record send, receive;
    int file = pattern_file(1000);

    pair_open(&pair, f, true);
    f->ops->socket_reset(f->engine, &pair.server);
    record_init(&receive, f, WEIR__OP_RECEIVE, &pair.client);
    record_submit(&receive);
    assert_int_equal(record_finish(&receive), WEIR_ERESET);
    record_init(&send, f, WEIR__OP_SEND_FILE, &pair.client);
    record_send_file(&send, file, 0, 1000, 0);
    assert_int_equal(record_finish(&send), WEIR_ERESET);
    pair_close(&pair);
    close(file);
}

static void file_send_cancelled(struct engine_fixture *f)
{
    enum { FILE_BYTES = 9 << 20 };
    struct pair pair;
    struct record send, receive;
    int file = pattern_file(FILE_BYTES);
    uint64_t taken = 0;

    pair_open(&pair, f, false);
    record_init(&send, f, WEIR__OP_SEND_FILE, &pair.client);
    record_init(&receive, f, WEIR__OP_RECEIVE, &pair.server);
    for (;;) {
        record_send_file(&send, file, taken, FILE_BYTES - taken, 0);
        wait_for(f, 20 * MS);
        if (send.final_count == 0)
            break;
        assert_in_range(send.result, 1, FILE_BYTES - taken);
        taken += (uint64_t)send.result;
    }
    record_cancel_and_finish(&send);
    assert_int_equal(f->ops->socket_shutdown(f->engine, &pair.client), 0);
    record_submit(&receive);
    assert_int_equal(record_finish(&receive), 0);
    assert_int_equal(receive.length, taken);
    pair_close(&pair);
    close(file);
}

/* By offset, past the end, and what is no file: the same on every engine. */
static void file_read(struct engine_fixture *f)
{
    uint8_t got[200], expected[200];
    int file = pattern_file(100000);

    pattern_fill(expected, sizeof(expected), 777);
    assert_int_equal(f->ops->file_read(f->engine, file, 777, got, sizeof(got)), sizeof(got));
    assert_memory_equal(got, expected, sizeof(got));
    assert_int_equal(lseek(file, 0, SEEK_CUR), 100000);
    assert_int_equal(f->ops->file_read(f->engine, file, 99900, got, sizeof(got)), 100);
    assert_int_equal(f->ops->file_read(f->engine, file, 100000, got, sizeof(got)), 0);
    close(file);
    assert_int_equal(f->ops->file_read(f->engine, -1, 0, got, sizeof(got)), WEIR_EIO);
}

static void info_until(struct engine_fixture *f, struct weir__socket *socket, uint64_t acked,
                       struct weir__socket_info *info)
{
    for (int tries = 0; tries < 500; tries++) {
        assert_int_equal(f->ops->socket_info(f->engine, socket, info), 0);
        assert_in_range(info->bytes_acked, 0, acked);
        if (info->bytes_acked == acked)
            return;
        wait_for(f, 2 * MS);
    }
    fail_msg("%llu of %llu bytes acknowledged", (unsigned long long)info->bytes_acked,
             (unsigned long long)acked);
}

/* Neither side's handshake counts: the one that connects has its SYN acknowledged, too. */
static void info_counts_both_sides(struct engine_fixture *f)
{
    struct pair pair;
    struct record send, at_client, at_server;
    struct weir__socket_info info;
    uint8_t bytes[1000] = {0};

    pair_open(&pair, f, false);
    if (f->ops->socket_info(f->engine, &pair.client, &info) == WEIR_ENOTSUP) {
        pair_close(&pair);
        f->passed = true;
        engine_skip(f, "does not count (TCP_INFO)");
    }
    assert_int_equal(info.bytes_acked, 0);
    assert_int_equal(f->ops->socket_info(f->engine, &pair.server, &info), 0);
    assert_int_equal(info.bytes_acked, 0);
    record_init(&at_client, f, WEIR__OP_RECEIVE, &pair.client);
    record_init(&at_server, f, WEIR__OP_RECEIVE, &pair.server);
    record_submit(&at_client);
    record_submit(&at_server);
    record_init(&send, f, WEIR__OP_SEND, &pair.client);
    record_send_all(&send, bytes, 1000, 0);
    record_init(&send, f, WEIR__OP_SEND, &pair.server);
    record_send_all(&send, bytes, 500, 0);
    wait_until_length(f, &at_client.length, 500);
    wait_until_length(f, &at_server.length, 1000);
    info_until(f, &pair.client, 1000, &info);
    assert_true(info.rtt_us > 0);
    assert_int_equal(info.notsent_bytes, 0);
    info_until(f, &pair.server, 500, &info);
    record_cancel_and_finish(&at_client);
    record_cancel_and_finish(&at_server);
    f->ops->socket_reset(f->engine, &pair.client);
    record_submit(&at_server);
    assert_int_equal(record_finish(&at_server), WEIR_ERESET);
    info_until(f, &pair.server, 500, &info);
    pair_close(&pair);
}

static const struct engine_test tests[] = {
    {.name = "no stamp without asking", .run = no_stamp_without_asking},
    {.name = "stamp not enabled is ignored", .run = stamp_not_enabled_is_ignored},
    {.name = "stamps of sends", .run = stamps_of_sends},
    {.name = "receive stamp is the kernel's", .run = receive_stamp_is_the_kernels},
    {.name = "stamps of files", .run = stamps_of_files},
    {.name = "stamps before the end of the watch", .run = stamps_before_the_end_of_the_watch},
    {.name = "stamps before cancelled", .run = stamps_before_cancelled},
    {.name = "stamps before a reset", .run = stamps_before_a_reset},
    {.name = "watch cancelled in its callback", .run = watch_cancelled_in_its_callback},
    {.name = "stamps, many outstanding", .run = stamps_many_outstanding, .kernel = true},
    {.name = "unwatched stamps do not spin", .run = unwatched_stamps_do_not_spin, .kernel = true},
    {.name = "file, whole", .run = file_whole},
    {.name = "file from an offset", .run = file_from_an_offset},
    {.name = "file larger than all buffers", .run = file_larger_than_all_buffers},
    {.name = "file, truncated", .run = file_truncated},
    {.name = "file to a dead connection", .run = file_to_a_dead_connection},
    {.name = "file send cancelled", .run = file_send_cancelled},
    {.name = "file read", .run = file_read},
    {.name = "info counts both sides", .run = info_counts_both_sides},
};

int main(void)
{
    return engine_suite_run("engine_stamp", tests, ARRAY_COUNT(tests));
}
