/* SPDX-License-Identifier: Apache-2.0 */

/* What holds for every stream, whatever its transport: stream_test.c and tls_stream_test.c run it. */
#include <weir/stream.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/stream.h"
#include "support/memory_fail.h"
#include "support/stream_fixture.h"

/* The limit in the test of a shortage. */
#define DESCRIPTORS 64

static void stages_come_once_and_in_order(struct stream_fixture *f)
{
    struct send send;

    fixture_connect(f);
    assert_int_equal(fixture_write(&f->server, &send, stream_pattern, 1000), 0);
    fixture_await_stage(f, &send, WEIR_STAGE_DELIVERED);
    assert_int_equal(send.told, ALL_STAGES);
    assert_int_equal(send.bytes, 1000);
    assert_true(send.first_byte_ns != 0);
    assert_true(send.first_byte_ns <= send.at_ns[WEIR_STAGE_ACCEPTED]);
    assert_true(send.at_ns[WEIR_STAGE_SENT] <= send.at_ns[WEIR_STAGE_DELIVERED]);
    assert_int_equal(send.source, WEIR_DELIVERY_TX_ACK);
    fixture_await_bytes(f, &f->client, 1000);
    assert_pattern(f->client.bytes, 0, 1000);
}

static void a_large_write_arrives_whole(struct stream_fixture *f)
{
    struct send send;

    fixture_connect(f);
    assert_int_equal(fixture_write(&f->server, &send, stream_pattern, sizeof(stream_pattern)), 0);
    assert_int_equal(weir_stream_queued_bytes(f->server.stream), sizeof(stream_pattern));
    fixture_await_stage(f, &send, WEIR_STAGE_DELIVERED);
    fixture_await_bytes(f, &f->client, sizeof(stream_pattern));
    assert_pattern(f->client.bytes, 0, sizeof(stream_pattern));
    assert_int_equal(weir_stream_queued_bytes(f->server.stream), 0);
}

static void a_file_follows_its_header(struct stream_fixture *f)
{
    const struct iovec header = {.iov_base = stream_pattern, .iov_len = 100};
    struct send send;
    int file = stream_file(500000);

    fixture_connect(f);
    send_init(&send, f, ALL_STAGES);
    const struct weir_write write = {
        .parts = &header,
        .part_count = 1,
        .file = file,
        .file_offset = 100,
        .file_length = 499900,
        .stages = ALL_STAGES,
        .on_stage = send_on_stage,
        .context = &send,
    };
    assert_int_equal(weir_stream_write(f->server.stream, &write), 0);
    fixture_await_stage(f, &send, WEIR_STAGE_DELIVERED);
    fixture_await_bytes(f, &f->client, 500000);
    assert_pattern(f->client.bytes, 0, 500000);
    close(file);
}

static void a_short_file_is_no_clean_end(struct stream_fixture *f)
{
    struct send send;
    int file = stream_file(3000);

    fixture_connect(f);
    send_init(&send, f, ALL_STAGES);
    const struct weir_write write = {
        .file = file,
        .file_length = 5000,
        .stages = ALL_STAGES,
        .on_stage = send_on_stage,
        .context = &send,
    };
    assert_int_equal(weir_stream_write(f->server.stream, &write), 0);
    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(f->server.reason, WEIR_ETRUNCATED);
    assert_int_equal(send.told, WEIR_STAGE_FAILED);
    assert_int_equal(send.error, WEIR_ETRUNCATED);
    assert_int_equal(send.accepted_bytes, 3000);
    fixture_await(f, &f->client.closes, 1);
    assert_int_equal(f->client.ends, 0);
    assert_int_equal(f->client.reason, WEIR_ERESET);
    close(file);
}

static void many_writes_keep_their_order(struct stream_fixture *f)
{
    static struct send sends[64];
    uint64_t last_ns = 0;

    fixture_connect(f);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(fixture_write(&f->server, &sends[i], stream_pattern + i * 1000, 1000), 0);
    assert_int_equal(weir_stream_queue_room(f->server.stream), 0);
    fixture_await_stage(f, &sends[63], WEIR_STAGE_DELIVERED);
    for (unsigned i = 0; i < 64; i++) {
        assert_int_equal(sends[i].told, ALL_STAGES);
        assert_true(sends[i].at_ns[WEIR_STAGE_DELIVERED] >= last_ns);
        last_ns = sends[i].at_ns[WEIR_STAGE_DELIVERED];
    }
    assert_int_equal(weir_stream_queue_room(f->server.stream), 64);
    fixture_await_bytes(f, &f->client, 64000);
    assert_pattern(f->client.bytes, 0, 64000);
}

static void the_queue_is_bounded(struct stream_fixture *f)
{
    struct send send;

    f->options.queue_bytes_max = 5000;
    f->options.queue_writes_max = 3;
    fixture_connect(f);
    assert_int_equal(fixture_write(&f->server, NULL, stream_pattern, 5001), WEIR_EQUEUEFULL);
    assert_int_equal(fixture_write(&f->server, NULL, stream_pattern, 2000), 0);
    assert_int_equal(fixture_write(&f->server, NULL, stream_pattern, 3001), WEIR_EQUEUEFULL);
    assert_int_equal(fixture_write(&f->server, NULL, stream_pattern + 2000, 10), 0);
    assert_int_equal(fixture_write(&f->server, &send, stream_pattern + 2010, 10), 0);
    assert_int_equal(fixture_write(&f->server, NULL, stream_pattern, 10), WEIR_EQUEUEFULL);
    fixture_await_stage(f, &send, WEIR_STAGE_DELIVERED);
    fixture_await_bytes(f, &f->client, 2020);
    assert_pattern(f->client.bytes, 0, 2020);
    assert_int_equal(fixture_write(&f->server, NULL, stream_pattern, 5000), 0);
}

static void nonsense_is_refused(struct stream_fixture *f)
{
    struct iovec parts[WEIR_WRITE_PARTS_MAX + 1];
    struct weir_write write = {.parts = parts, .part_count = 1, .file = -1};

    fixture_connect(f);
    for (unsigned i = 0; i <= WEIR_WRITE_PARTS_MAX; i++)
        parts[i] = (struct iovec){stream_pattern, 1};
    write.part_count = WEIR_WRITE_PARTS_MAX + 1;
    assert_int_equal(weir_stream_write(f->server.stream, &write), WEIR_EINVAL);
    write.part_count = 0;
    assert_int_equal(weir_stream_write(f->server.stream, &write), WEIR_EINVAL);
    write.file_length = 1;
    assert_int_equal(weir_stream_write(f->server.stream, &write), WEIR_EINVAL);
    write = (struct weir_write){.parts = parts, .part_count = 1, .stages = 1u << 7};
    assert_int_equal(weir_stream_write(f->server.stream, &write), WEIR_EINVAL);
    write.stages = WEIR_STAGE_ACCEPTED;
    assert_int_equal(weir_stream_write(f->server.stream, &write), WEIR_EINVAL);
}

static void reading_stops_and_goes_on(struct stream_fixture *f)
{
    fixture_connect(f);
    f->client.stop_after = true;
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(fixture_write(&f->server, NULL, stream_pattern + i * 20000, 20000), 0);
    fixture_pass(f, 50);
    size_t stopped_at = f->client.length;
    assert_true(stopped_at > 0);
    fixture_pass(f, 50);
    assert_int_equal(f->client.length, stopped_at);
    for (unsigned i = 0; i < 1000 && f->client.length < 200000; i++) {
        weir_stream_read_start(f->client.stream);
        weir_stream_read_stop(f->client.stream);
        weir_stream_read_start(f->client.stream);
        fixture_pass(f, 1);
    }
    assert_int_equal(f->client.length, 200000);
    assert_pattern(f->client.bytes, 0, 200000);
}

/* io_uring may have read all of it before it hears of the stop; the others read a piece at a time. */
static void what_is_held_is_bounded(struct stream_fixture *f)
{
    fixture_connect(f);
    weir_stream_read_stop(f->client.stream);
    f->client.stop_after = true;
    assert_int_equal(fixture_write(&f->server, NULL, stream_pattern, 200000), 0);
    fixture_pass(f, 50);
    weir_stream_read_start(f->client.stream);
    fixture_pass(f, 50);
    if (strcmp(f->engine, "io_uring") == 0)
        assert_int_equal(f->client.closes, 1);
    if (f->client.closes == 0)
        return;
    assert_int_equal(f->client.reason, WEIR_ENOBUFS);
    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(f->server.reason, WEIR_ERESET);
}

static void the_end_waits_for_a_reader(struct stream_fixture *f)
{
    fixture_connect(f);
    weir_stream_read_stop(f->client.stream);
    assert_int_equal(fixture_write(&f->server, NULL, stream_pattern, 100), 0);
    weir_stream_shutdown(f->server.stream);
    fixture_pass(f, 50);
    assert_int_equal(f->client.length + f->client.ends, 0);
    weir_stream_read_start(f->client.stream);
    fixture_await(f, &f->client.ends, 1);
    assert_int_equal(f->client.length, 100);
}

static void half_closed_streams_still_receive(struct stream_fixture *f)
{
    fixture_connect(f);
    f->server.echo = true;
    assert_int_equal(fixture_write(&f->client, NULL, stream_pattern, 5000), 0);
    weir_stream_shutdown(f->client.stream);
    assert_int_equal(fixture_write(&f->client, NULL, stream_pattern, 1), WEIR_ESHUT);
    assert_int_equal(weir_stream_queue_room(f->client.stream), 0);
    fixture_await(f, &f->server.ends, 1);
    fixture_await_bytes(f, &f->client, 5000);
    assert_pattern(f->client.bytes, 0, 5000);
    weir_stream_close(f->server.stream, 0);
    fixture_await(f, &f->client.ends, 1);
    weir_stream_close(f->client.stream, 0);
    fixture_await(f, &f->server.closes, 1);
    fixture_await(f, &f->client.closes, 1);
    assert_int_equal(f->server.reason, 0);
    assert_int_equal(f->client.reason, 0);
}

static void close_sends_what_is_queued_and_waits(struct stream_fixture *f)
{
    struct send send;

    fixture_connect(f);
    assert_int_equal(fixture_write(&f->server, &send, stream_pattern, sizeof(stream_pattern)), 0);
    weir_stream_close(f->server.stream, 0);
    weir_stream_close(f->server.stream, 0);
    assert_true(weir_stream_is_closing(f->server.stream));
    assert_int_equal(fixture_write(&f->server, NULL, stream_pattern, 1), WEIR_ESHUT);
    assert_int_equal(weir_stream_read_start(f->server.stream), WEIR_ESHUT);
    fixture_await(f, &f->client.ends, 1);
    assert_int_equal(f->client.length, sizeof(stream_pattern));
    assert_int_equal(f->server.closes, 0); /* the client has not closed yet */
    fixture_await_stage(f, &send, WEIR_STAGE_DELIVERED);
    weir_stream_close(f->client.stream, 0);
    fixture_await(f, &f->server.closes, 1);
    fixture_await(f, &f->client.closes, 1);
    assert_int_equal(f->server.reason, 0);
    assert_int_equal(f->client.reason, 0);
}

static void close_does_not_wait_for_ever_for_the_peer(struct stream_fixture *f)
{
    struct send send;

    fixture_connect(f);
    assert_int_equal(fixture_write(&f->server, &send, stream_pattern, 100), 0);
    weir_stream_close(f->server.stream, 60);
    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(f->server.reason, 0);
    assert_int_equal(send.told, ALL_STAGES);
    fixture_await(f, &f->client.ends, 1);
    assert_int_equal(f->client.closes, 0);
}

static void leave_waits_for_deliveries_alone(struct stream_fixture *f)
{
    struct send send;

    fixture_connect(f);
    assert_int_equal(fixture_write(&f->server, &send, stream_pattern, sizeof(stream_pattern)), 0);
    weir_stream_leave(f->server.stream, 0);
    assert_true(weir_stream_is_closing(f->server.stream));
    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(f->server.reason, 0);
    assert_int_equal(send.told, ALL_STAGES);
    fixture_await(f, &f->client.ends, 1);
    assert_int_equal(f->client.length, sizeof(stream_pattern));
    assert_int_equal(f->client.closes, 0);
}

static void close_fails_what_nobody_takes_by_the_deadline(struct stream_fixture *f)
{
    static struct send sends[8];

    fixture_connect(f);
    weir_stream_read_stop(f->client.stream);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(
            fixture_write(&f->server, &sends[i], stream_pattern, sizeof(stream_pattern)), 0);
    weir_stream_close(f->server.stream, 100);
    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(f->server.reason, WEIR_ETIMEDOUT);
    assert_int_equal(sends[7].told, WEIR_STAGE_FAILED);
    assert_int_equal(sends[7].error, WEIR_ETIMEDOUT);
    assert_int_equal(sends[7].bytes, 0);
    for (unsigned i = 0; i < 8; i++) {
        assert_true(sends[i].failures == 1 || sends[i].told == ALL_STAGES);
        assert_true(sends[i].bytes <= sends[i].accepted_bytes);
    }
}

static void abort_tells_every_write(struct stream_fixture *f)
{
    static struct send sends[4];

    fixture_connect(f);
    weir_stream_read_stop(f->client.stream);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(
            fixture_write(&f->server, &sends[i], stream_pattern, sizeof(stream_pattern)), 0);
    fixture_pass(f, 30);
    f->in_call = true;
    weir_stream_abort(f->server.stream, 0);
    weir_stream_abort(f->server.stream, WEIR_EIO);
    f->in_call = false;
    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(f->server.reason, WEIR_EABORTED);
    for (unsigned i = 0; i < 4; i++) {
        assert_true(sends[i].failures == 1 || sends[i].told == ALL_STAGES);
        if (sends[i].failures)
            assert_int_equal(sends[i].error, WEIR_EABORTED);
    }
    assert_int_equal(sends[3].failures, 1);
    weir_stream_read_start(f->client.stream);
    fixture_await(f, &f->client.closes, 1);
    assert_int_equal(f->client.reason, WEIR_ERESET);
}

static void abort_before_anything_was_sent(struct stream_fixture *f)
{
    struct send send;

    fixture_connect(f);
    assert_int_equal(fixture_write(&f->server, &send, stream_pattern, 10), 0);
    weir_stream_abort(f->server.stream, WEIR_ETIMEDOUT);
    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(f->server.reason, WEIR_ETIMEDOUT);
    assert_int_equal(send.told, WEIR_STAGE_FAILED);
    assert_int_equal(send.error, WEIR_ETIMEDOUT);
    assert_int_equal(send.accepted_bytes, 0);
    assert_int_equal(send.bytes, 0);
}

static void a_reset_is_told_without_a_read(struct stream_fixture *f)
{
    struct send send;

    fixture_connect(f);
    weir_stream_read_stop(f->server.stream);
    weir_stream_read_stop(f->client.stream);
    assert_int_equal(fixture_write(&f->server, &send, stream_pattern, sizeof(stream_pattern)), 0);
    fixture_pass(f, 60); /* more than a delayed ACK */
    weir_stream_abort(f->client.stream, 0);
    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(f->server.reason, WEIR_ERESET);
    assert_int_equal(send.failures, 1);
    assert_int_equal(send.error, WEIR_ERESET);
    assert_true(send.bytes > 0);
    assert_true(send.bytes <= send.accepted_bytes);
}

static void nobody_listens(struct stream_fixture *f)
{
    fixture_connect(f);
    weir_listener_close(f->listener, NULL);
    f->listener = NULL;
    weir_stream_abort(f->client.stream, 0);
    fixture_await(f, &f->client.closes, 1);
    fixture_await(f, &f->server.closes, 1);
    fixture_reset(f);
    assert_int_equal(fixture_open_client(f), 0);
    fixture_await(f, &f->client.closes, 1);
    assert_int_equal(f->client.opens, 0);
    assert_int_equal(f->client.reason, WEIR_EREFUSED);
}

static void abort_while_connecting(struct stream_fixture *f)
{
    fixture_connect(f);
    weir_stream_abort(f->client.stream, 0);
    fixture_await(f, &f->client.closes, 1);
    fixture_await(f, &f->server.closes, 1);
    fixture_reset(f);
    assert_int_equal(fixture_open_client(f), 0);
    weir_stream_abort(f->client.stream, 0);
    fixture_await(f, &f->client.closes, 1);
    assert_int_equal(f->client.opens, 0);
    assert_int_equal(f->client.reason, WEIR_EABORTED);
}

static void a_listener_rests_and_goes_on(struct stream_fixture *f)
{
    static const struct weir_stream_handler nobody = {.on_close = NULL};
    struct weir_stream *second;

    fixture_connect(f);
    assert_int_equal(f->accepts, 1);
    weir_listener_pause(f->listener);
    fixture_pass(f, 10);
    assert_int_equal(weir_stream_connect(&second, f->loop, &f->address, NULL, &nobody, NULL), 0);
    fixture_pass(f, 50);
    assert_int_equal(f->accepts, 1);
    weir_listener_resume(f->listener);
    fixture_await(f, &f->accepts, 2);
    weir_stream_abort(second, 0);
    fixture_pass(f, 10);
}

/*
 * io_uring looks at the limit
 * when it begins to accept, so the limit comes first and then the shortage.
 */
static void accepting_survives_a_lack_of_descriptors(struct stream_fixture *f)
{
    int taken[DESCRIPTORS];
    unsigned count = 0;
    struct rlimit limit, few;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    few = limit;
    few.rlim_cur = DESCRIPTORS;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    fixture_connect(f);
    weir_stream_abort(f->client.stream, 0);
    fixture_await(f, &f->client.closes, 1);
    fixture_await(f, &f->server.closes, 1);
    fixture_reset(f);
    while (count < DESCRIPTORS && (taken[count] = dup(STDERR_FILENO)) >= 0)
        count++;
    assert_true(count > 0);
    close(taken[--count]);
    assert_int_equal(fixture_open_client(f), 0);
    for (unsigned i = 0; i < 10 && f->accept_errors == 0; i++)
        fixture_pass(f, 20);
    unsigned errors = f->accept_errors;
    while (count > 0)
        close(taken[--count]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_true(errors > 0);
    fixture_await(f, &f->server.opens, 1);
}

static void delivery_off_says_that_it_cannot_know(struct stream_fixture *f)
{
    struct send send;

    fixture_connect(f);
    assert_int_equal(fixture_write(&f->server, &send, stream_pattern, 1000), 0);
    fixture_await(f, &send.failures, 1);
    assert_int_equal(send.told, WEIR_STAGE_ACCEPTED | WEIR_STAGE_RELEASED | WEIR_STAGE_FAILED);
    assert_int_equal(send.error, WEIR_ENOTSUP);
    assert_int_equal(send.source, WEIR_DELIVERY_NONE);
    fixture_await_bytes(f, &f->client, 1000);
    assert_int_equal(f->server.closes, 0);
}

static void assert_bounded(struct stream_fixture *f, bool bounded)
{
    uint32_t value;
    socklen_t length = sizeof(value);

    assert_int_equal(f->server.stream->unsent_bounded, bounded);
    if (strcmp(f->engine, "sim") == 0)
        return;
    assert_int_equal(getsockopt(f->server.stream->socket.handle, IPPROTO_TCP, TCP_NOTSENT_LOWAT,
                                &value, &length),
                     0);
    assert_int_equal(value, bounded ? WEIR__UNSENT_BYTES_MAX : UINT32_MAX);
}

static void only_a_fast_peer_has_the_kernels_whole_buffer(struct stream_fixture *f)
{
    const size_t first = 3 << 19, piece = 128 << 10;

    fixture_connect(f);
    fixture_await(f, &f->server.opens, 1);
    assert_bounded(f, true);
    assert_int_equal(fixture_write(&f->server, NULL, stream_pattern, first), 0);
    fixture_await_bytes(f, &f->client, first);
    assert_bounded(f, false);
    if (strcmp(f->engine, "sim") != 0)
        return; /* what follows takes its time */
    /* At last 1 MiB in more than a second. */
    for (unsigned i = 1; i <= 17; i++) {
        assert_int_equal(fixture_write(&f->server, NULL, stream_pattern, piece), 0);
        fixture_await_bytes(f, &f->client, first + i * piece);
        fixture_pass(f, 160);
    }
    assert_bounded(f, true);
}

/* One write of the server's, which the client answers after so long. Returns how long that took the server. */
static uint64_t ask(struct stream_fixture *f, struct send *send, unsigned answer_ms)
{
    size_t at_client = f->client.length, at_server = f->server.length;

    assert_int_equal(fixture_write(&f->server, send, stream_pattern, 1000), 0);
    fixture_await_bytes(f, &f->client, at_client + 1000);
    fixture_pass(f, answer_ms);
    assert_int_equal(fixture_write(&f->client, NULL, "y", 1), 0);
    fixture_await_bytes(f, &f->server, at_server + 1);
    uint64_t answered_ns = weir_loop_now_ns(f->loop);
    fixture_await_stage(f, send, WEIR_STAGE_DELIVERED);
    assert_true(send->at_ns[WEIR_STAGE_DELIVERED] <= answered_ns + UINT64_C(20000000));
    return answered_ns - send->at_ns[WEIR_STAGE_ACCEPTED];
}

static void a_peer_that_answers_soon_gets_no_stamps(struct stream_fixture *f)
{
    struct send send;
    uint64_t slowest_ns = 0;

    fixture_connect(f);
    for (unsigned i = 0; i < 6; i++) {
        uint64_t took_ns = ask(f, &send, 20);
        slowest_ns = took_ns > slowest_ns ? took_ns : slowest_ns;
    }
    if (f->server.stream->source != WEIR_DELIVERY_TX_ACK)
        return; /* there are none */
    /* On a busy machine that may not have been soon. */
    if (slowest_ns < UINT64_C(40000000))
        assert_int_equal(send.source, WEIR_DELIVERY_TCP_INFO);
    /* While the next answer stays away somebody asks: here the ACK takes a few milliseconds, elsewhere up to 40. */
    ask(f, &send, 100);
    uint64_t delivered_ns = send.at_ns[WEIR_STAGE_DELIVERED] - send.at_ns[WEIR_STAGE_ACCEPTED];
    assert_true(delivered_ns < UINT64_C(25000000) || strcmp(f->engine, "sim") != 0);
    /* It stayed away for too long: the next write has a stamp. */
    ask(f, &send, 0);
    assert_int_equal(send.source, WEIR_DELIVERY_TX_ACK);
}

/* Ends a conversation that lacked memory: nobody may wait for ever. */
static void end_conversation(struct stream_fixture *f)
{
    for (unsigned i = 0; i < 20 && (f->client.stream || f->server.stream); i++) {
        if (i == 10 && f->client.stream)
            weir_stream_abort(f->client.stream, 0);
        if (i == 10 && f->server.stream)
            weir_stream_abort(f->server.stream, 0);
        fixture_pass(f, 5);
    }
    assert_null(f->client.stream);
    assert_null(f->server.stream);
}

/* With the nth allocation failing. Returns whether there was one. */
static bool converse(struct stream_fixture *f, unsigned nth)
{
    static struct send sends[3];

    fixture_reset(f);
    f->server.echo = true;
    memory_fail_at(nth);
    int error = fixture_open_client(f);
    assert_true(error == 0 || error == WEIR_ENOMEM);
    for (unsigned i = 0; !error && i < 10 && f->client.opens == 0; i++)
        fixture_pass(f, 5);
    if (f->client.stream && f->client.opens > 0) {
        weir_stream_read_start(f->client.stream);
        for (unsigned i = 0; i < 3; i++) {
            error = fixture_write(&f->client, &sends[i], stream_pattern, 100);
            assert_true(error == 0 || error == WEIR_ENOMEM);
        }
        fixture_pass(f, 5);
    }
    if (f->client.stream) {
        weir_stream_read_stop(f->client.stream);
        fixture_pass(f, 5);
    }
    if (f->client.stream) {
        weir_stream_read_start(f->client.stream);
        weir_stream_close(f->client.stream, 20);
    }
    if (f->server.stream)
        weir_stream_close(f->server.stream, 20);
    bool happened = memory_fail_happened();
    end_conversation(f);
    happened = happened || memory_fail_happened();
    memory_fail_at(0);
    return happened;
}

static void every_allocation_may_fail(struct stream_fixture *f)
{
    unsigned nth = 1;

    fixture_connect(f);
    weir_stream_abort(f->client.stream, 0);
    fixture_await(f, &f->client.closes, 1);
    fixture_await(f, &f->server.closes, 1);
    while (converse(f, nth))
        nth++;
    /* Pools are warm by now; without them each stream and write is an allocation. */
    assert_true(nth > 1);
    /* Nothing is broken: the next conversation is whole. */
    fixture_reset(f);
    assert_int_equal(fixture_open_client(f), 0);
    fixture_await(f, &f->client.opens, 1);
    fixture_await(f, &f->server.opens, 1);
}

const struct stream_test stream_tests[] = {
    {.name = "stages come once and in order", .run = stages_come_once_and_in_order},
    {.name = "a large write arrives whole", .run = a_large_write_arrives_whole},
    {.name = "a file follows its header", .run = a_file_follows_its_header},
    {.name = "a short file is no clean end", .run = a_short_file_is_no_clean_end},
    {.name = "many writes keep their order", .run = many_writes_keep_their_order},
    {.name = "the queue is bounded", .run = the_queue_is_bounded},
    {.name = "nonsense is refused", .run = nonsense_is_refused},
    {.name = "reading stops and goes on", .run = reading_stops_and_goes_on},
    {.name = "what is held is bounded", .run = what_is_held_is_bounded, .held_bytes_max = 1000},
    {.name = "the end waits for a reader", .run = the_end_waits_for_a_reader},
    {.name = "half-closed streams still receive", .run = half_closed_streams_still_receive},
    {.name = "close sends what is queued and waits", .run = close_sends_what_is_queued_and_waits},
    {.name = "close does not wait for ever for the peer",
     .run = close_does_not_wait_for_ever_for_the_peer},
    {.name = "leave waits for deliveries alone", .run = leave_waits_for_deliveries_alone},
    {.name = "close fails what nobody takes by the deadline",
     .run = close_fails_what_nobody_takes_by_the_deadline},
    {.name = "abort tells every write", .run = abort_tells_every_write},
    {.name = "abort before anything was sent", .run = abort_before_anything_was_sent},
    {.name = "a reset is told without a read", .run = a_reset_is_told_without_a_read},
    {.name = "nobody listens", .run = nobody_listens},
    {.name = "abort while connecting", .run = abort_while_connecting},
    {.name = "accepting survives a lack of descriptors",
     .run = accepting_survives_a_lack_of_descriptors,
     .plain = true,
     .kernel = true},
    {.name = "a listener rests and goes on", .run = a_listener_rests_and_goes_on},
    {.name = "delivery off says that it cannot know",
     .run = delivery_off_says_that_it_cannot_know,
     .delivery_off = true},
    {.name = "only a fast peer has the kernel's whole buffer",
     .run = only_a_fast_peer_has_the_kernels_whole_buffer},
    {.name = "a peer that answers soon gets no stamps",
     .run = a_peer_that_answers_soon_gets_no_stamps},
    {.name = "every allocation may fail", .run = every_allocation_may_fail},
};
const size_t stream_test_count = sizeof(stream_tests) / sizeof(stream_tests[0]);
