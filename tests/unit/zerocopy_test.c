/* SPDX-License-Identifier: Apache-2.0 */

/* Streams that send with zero copy: plain, and records that TLS made. */
#include <weir/stream.h>

#include <stdlib.h>
#include <string.h>

#include "support/stream_fixture.h"

#define BODY_BYTES (256u << 10)
#define MANY       6

static struct weir_send_info info_of(struct stream_fixture *f)
{
    struct weir_send_info info;

    weir_loop_send_info(f->loop, &info);
    return info;
}

static void assert_nothing_pinned(struct stream_fixture *f)
{
    assert_int_equal(info_of(f).pinned_bytes, 0);
}

/* Zero copy was asked for: by what the engine can, the device read in place, or the kernel copied. */
static void assert_pinned(const struct send *send)
{
    assert_true(send->ways & (WEIR_SEND_ZEROCOPY | WEIR_SEND_COPIED));
    assert_false(send->ways & WEIR_SEND_FILE);
}

static void memory_is_the_callers_again_when_released(struct stream_fixture *f)
{
    struct send send;
    uint8_t *body = malloc(BODY_BYTES);

    assert_non_null(body);
    memcpy(body, stream_pattern, BODY_BYTES);
    fixture_connect(f);
    assert_int_equal(fixture_write(&f->server, &send, body, BODY_BYTES), 0);
    fixture_await_stage(f, &send, WEIR_STAGE_RELEASED);
    memset(body, 0, BODY_BYTES);
    free(body);
    fixture_await_stage(f, &send, WEIR_STAGE_DELIVERED);
    assert_int_equal(send.told, ALL_STAGES);
    assert_pinned(&send);
    fixture_await_bytes(f, &f->client, BODY_BYTES);
    assert_pattern(f->client.bytes, 0, BODY_BYTES);
    assert_nothing_pinned(f);
}

static void a_head_is_copied_and_its_body_pinned(struct stream_fixture *f)
{
    const struct iovec parts[] = {
        {.iov_base = stream_pattern, .iov_len = 200},
        {.iov_base = stream_pattern + 200, .iov_len = BODY_BYTES - 200},
    };
    struct send send;

    fixture_connect(f);
    send_init(&send, f, ALL_STAGES);
    const struct weir_write write = {
        .parts = parts,
        .part_count = 2,
        .stages = ALL_STAGES,
        .on_stage = send_on_stage,
        .context = &send,
    };
    assert_int_equal(weir_stream_write(f->server.stream, &write), 0);
    fixture_await_stage(f, &send, WEIR_STAGE_DELIVERED);
    fixture_await_stage(f, &send, WEIR_STAGE_RELEASED);
    fixture_await_bytes(f, &f->client, BODY_BYTES);
    assert_pattern(f->client.bytes, 0, BODY_BYTES);
    assert_true(send.ways & WEIR_SEND_COPY);
    assert_pinned(&send);
    assert_int_equal(info_of(f).sends[WEIR_SEND_BECAUSE_HEAD], 1);
    assert_int_equal(info_of(f).bytes[WEIR_SEND_BECAUSE_HEAD], 200);
    assert_true(info_of(f).sends[WEIR_SEND_BECAUSE_ON] > 0);
}

static void what_is_small_is_copied(struct stream_fixture *f)
{
    struct send send;

    fixture_connect(f);
    assert_int_equal(fixture_write(&f->server, &send, stream_pattern, 10000), 0);
    fixture_await_stage(f, &send, WEIR_STAGE_DELIVERED);
    assert_int_equal(send.told, ALL_STAGES);
    assert_int_equal(send.ways, WEIR_SEND_COPY);
    assert_true(info_of(f).sends[WEIR_SEND_BECAUSE_SMALL] > 0);
    assert_int_equal(info_of(f).sends[WEIR_SEND_BECAUSE_ON], 0);
}

static void what_is_off_pins_nothing(struct stream_fixture *f)
{
    struct send send;

    fixture_connect(f);
    assert_int_equal(fixture_write(&f->server, &send, stream_pattern, BODY_BYTES), 0);
    fixture_await_stage(f, &send, WEIR_STAGE_DELIVERED);
    assert_int_equal(send.ways, WEIR_SEND_COPY);
    assert_true(info_of(f).sends[WEIR_SEND_BECAUSE_OFF] > 0);
    assert_int_equal(info_of(f).zerocopy_used + info_of(f).zerocopy_copied, 0);
}

static void more_than_may_be_pinned_is_copied(struct stream_fixture *f)
{
    static struct send sends[MANY];

    fixture_connect(f);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(
            fixture_write(&f->server, &sends[i], stream_pattern + i * BODY_BYTES, BODY_BYTES), 0);
    for (unsigned i = 0; i < MANY; i++) {
        fixture_await_stage(f, &sends[i], WEIR_STAGE_DELIVERED);
        fixture_await_stage(f, &sends[i], WEIR_STAGE_RELEASED);
    }
    fixture_await_bytes(f, &f->client, MANY * BODY_BYTES);
    assert_pattern(f->client.bytes, 0, MANY * BODY_BYTES);
    assert_true(info_of(f).sends[WEIR_SEND_BECAUSE_MEMORY] > 0);
    assert_nothing_pinned(f);
}

/* Over loopback the kernel copies: one send finds that out. */
static void a_route_that_copies_is_left_alone(struct stream_fixture *f)
{
    struct send send;

    fixture_connect(f);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(fixture_write(&f->server, &send, stream_pattern, BODY_BYTES), 0);
        fixture_await_stage(f, &send, WEIR_STAGE_DELIVERED);
        fixture_await_stage(f, &send, WEIR_STAGE_RELEASED);
    }
    assert_int_equal(send.ways, WEIR_SEND_COPY);
    assert_int_equal(info_of(f).sends[WEIR_SEND_BECAUSE_TRIED], 1);
    assert_int_equal(info_of(f).zerocopy_copied, 1);
    assert_true(info_of(f).sends[WEIR_SEND_BECAUSE_ROUTE] >= MANY - 1);
}

static void pin_some(struct stream_fixture *f, struct send *sends)
{
    fixture_connect(f);
    weir_stream_read_stop(f->client.stream);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(
            fixture_write(&f->server, &sends[i], stream_pattern, sizeof(stream_pattern)), 0);
    fixture_pass(f, 30);
    assert_true(info_of(f).pinned_bytes > 0 || info_of(f).zerocopy_copied > 0);
}

static void assert_all_ended(const struct send *sends)
{
    for (unsigned i = 0; i < MANY; i++)
        assert_true(sends[i].failures == 1 || sends[i].told == ALL_STAGES);
}

static void a_deadline_lets_go_of_what_is_pinned(struct stream_fixture *f)
{
    static struct send sends[MANY];

    pin_some(f, sends);
    weir_stream_close(f->server.stream, 100);
    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(f->server.reason, WEIR_ETIMEDOUT);
    assert_all_ended(sends);
    assert_true(sends[0].bytes > 0);
    assert_nothing_pinned(f);
}

static void an_abort_lets_go_of_what_is_pinned(struct stream_fixture *f)
{
    static struct send sends[MANY];

    pin_some(f, sends);
    weir_stream_abort(f->server.stream, 0);
    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(f->server.reason, WEIR_EABORTED);
    assert_all_ended(sends);
    assert_nothing_pinned(f);
    weir_stream_read_start(f->client.stream);
    fixture_await(f, &f->client.closes, 1);
    assert_int_equal(f->client.reason, WEIR_ERESET);
}

static void a_peers_reset_lets_go_of_what_is_pinned(struct stream_fixture *f)
{
    static struct send sends[MANY];

    pin_some(f, sends);
    weir_stream_abort(f->client.stream, 0);
    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(f->server.reason, WEIR_ERESET);
    assert_all_ended(sends);
    assert_nothing_pinned(f);
}

static void open_again(struct stream_fixture *f)
{
    fixture_await(f, &f->client.closes, 1);
    fixture_reset(f);
    assert_int_equal(fixture_open_client(f), 0);
    fixture_await(f, &f->client.opens, 1);
    fixture_await(f, &f->server.opens, 1);
    weir_stream_read_start(f->client.stream);
}

/* Writes so little at a time that it is copied, until the peer's window is full. */
static void fill_window(struct stream_fixture *f)
{
    struct weir_delivery_info info = {.notsent_bytes = 0};

    for (unsigned i = 0; i < 10000 && info.notsent_bytes == 0; i++) {
        int error = fixture_write(&f->server, NULL, stream_pattern, 3000);
        assert_true(error == 0 || error == WEIR_EQUEUEFULL);
        weir_loop_run_once(f->loop, error ? 1 : 0);
        assert_int_equal(weir_stream_delivery_info(f->server.stream, &info), 0);
    }
    assert_true(info.notsent_bytes > 0);
}

/* What a reset discards before loopback could copy it is told of as used. */
static void a_reset_says_nothing_of_the_route(struct stream_fixture *f)
{
    static struct send discarded;
    struct send send;

    fixture_connect(f);
    weir_stream_read_stop(f->client.stream);
    fill_window(f);
    assert_int_equal(fixture_write(&f->server, &discarded, stream_pattern, BODY_BYTES), 0);
    fixture_pass(f, 10);
    assert_true(info_of(f).pinned_bytes > 0);
    weir_stream_abort(f->server.stream, 0);
    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(info_of(f).zerocopy_used, 1);
    weir_stream_read_start(f->client.stream);
    open_again(f);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(fixture_write(&f->server, &send, stream_pattern, BODY_BYTES), 0);
        fixture_await_stage(f, &send, WEIR_STAGE_DELIVERED);
        fixture_await_stage(f, &send, WEIR_STAGE_RELEASED);
    }
    assert_int_equal(info_of(f).sends[WEIR_SEND_BECAUSE_PAYS], 0);
}

static void a_close_waits_for_what_is_pinned(struct stream_fixture *f)
{
    struct send send;

    fixture_connect(f);
    assert_int_equal(fixture_write(&f->server, &send, stream_pattern, BODY_BYTES), 0);
    weir_stream_close(f->server.stream, 0);
    fixture_await(f, &f->client.ends, 1);
    weir_stream_close(f->client.stream, 0);
    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(f->server.reason, 0);
    assert_int_equal(send.told, ALL_STAGES);
    assert_pinned(&send);
    assert_nothing_pinned(f);
}

static void it_works_without_delivery(struct stream_fixture *f)
{
    struct send send;

    fixture_connect(f);
    assert_int_equal(fixture_write(&f->server, &send, stream_pattern, BODY_BYTES), 0);
    fixture_await(f, &send.failures, 1);
    assert_int_equal(send.told, WEIR_STAGE_ACCEPTED | WEIR_STAGE_RELEASED | WEIR_STAGE_FAILED);
    assert_int_equal(send.error, WEIR_ENOTSUP);
    assert_pinned(&send);
    fixture_await_bytes(f, &f->client, BODY_BYTES);
    assert_pattern(f->client.bytes, 0, BODY_BYTES);
    assert_nothing_pinned(f);
}

#define ON .zerocopy = WEIR_ZEROCOPY_ON
static const struct stream_test tests[] = {
    {.name = "memory is the caller's again when released",
     .run = memory_is_the_callers_again_when_released,
     ON},
    {.name = "a head is copied and its body pinned",
     .run = a_head_is_copied_and_its_body_pinned,
     .plain = true,
     ON},
    {.name = "what is small is copied", .run = what_is_small_is_copied, ON},
    {.name = "what is off pins nothing",
     .run = what_is_off_pins_nothing,
     .zerocopy = WEIR_ZEROCOPY_OFF},
    {.name = "more than may be pinned is copied",
     .run = more_than_may_be_pinned_is_copied,
     .pinned_bytes_max = 100000,
     ON},
    {.name = "a route that copies is left alone",
     .run = a_route_that_copies_is_left_alone,
     .kernel = true,
     .zerocopy = WEIR_ZEROCOPY_AUTO},
    {.name = "a reset says nothing of the route",
     .run = a_reset_says_nothing_of_the_route,
     .kernel = true,
     .plain = true,
     .zerocopy = WEIR_ZEROCOPY_AUTO},
    {.name = "a deadline lets go of what is pinned",
     .run = a_deadline_lets_go_of_what_is_pinned,
     ON},
    {.name = "an abort lets go of what is pinned", .run = an_abort_lets_go_of_what_is_pinned, ON},
    {.name = "a peer's reset lets go of what is pinned",
     .run = a_peers_reset_lets_go_of_what_is_pinned,
     ON},
    {.name = "a close waits for what is pinned", .run = a_close_waits_for_what_is_pinned, ON},
    {.name = "it works without delivery",
     .run = it_works_without_delivery,
     .delivery_off = true,
     ON},
};
#define TESTS (sizeof(tests) / sizeof(tests[0]))

/* All that holds for every stream, pinned. */
static int run_all_pinned(void)
{
    struct stream_test *pinned = calloc(stream_test_count, sizeof(*pinned));

    assert_non_null(pinned);
    for (size_t i = 0; i < stream_test_count; i++) {
        pinned[i] = stream_tests[i];
        pinned[i].zerocopy = WEIR_ZEROCOPY_ON;
    }
    int failed = stream_suite_run("streams, pinned", pinned, stream_test_count, NULL, 0);
    free(pinned);
    return failed;
}

int main(void)
{
    int failed = stream_suite_run("zero copy", tests, TESTS, NULL, 0) + run_all_pinned();

    if (weir_tls_vendor_name(0)) {
        const struct stream_tls tls = {
            .name = weir_tls_vendor_name(0),
            .server = weir_tls_vendor_name(0),
            .client = weir_tls_vendor_name(0),
            .version = WEIR_TLS_1_3,
            .kernel = WEIR_TLS_KERNEL_OFF,
        };
        failed += stream_suite_run("zero copy under TLS", tests, TESTS, &tls, 1);
    }
    return failed;
}
