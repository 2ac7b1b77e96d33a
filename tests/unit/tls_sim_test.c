/* SPDX-License-Identifier: Apache-2.0 */
/* TLS where time is exact: what only shows when things happen at the same moment, or on a slow link. */
#include <weir/weir.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "engine/sim.h"
#include "support/tls_toy.h"
#include "tls/context.h"

#define SEEDS       200
#define BODY_BYTES  65536u
#define DEADLINE_MS 60000
#define WRITES      16
#define WRITE_BYTES 4000u
#define NS_PER_MS   1000000u

struct side {
    struct weir_tls_context *context;
    bool closed;
    int reason;
};

static struct side server, client;
static uint8_t body[BODY_BYTES];
static unsigned writes; /* of the client's, once it is open */
static size_t write_bytes;
static uint64_t delivered_ns[WRITES];

static void on_stage(struct weir_stream *stream, void *context,
                     const struct weir_write_event *event)
{
    (void)stream;
    assert_int_equal(event->stage, WEIR_STAGE_DELIVERED);
    *(uint64_t *)context = event->at_ns;
}

static void on_open(struct weir_stream *stream)
{
    const struct iovec part = {.iov_base = body, .iov_len = write_bytes};
    struct weir_write write = {
        .parts = &part,
        .part_count = 1,
        .file = -1,
        .stages = WEIR_STAGE_DELIVERED,
        .on_stage = on_stage,
    };

    for (unsigned i = 0; weir_stream_context(stream) == &client && i < writes; i++) {
        write.context = &delivered_ns[i];
        assert_int_equal(weir_stream_write(stream, &write), 0);
    }
    weir_stream_close(stream, DEADLINE_MS);
}

static void on_close(struct weir_stream *stream, int reason)
{
    struct side *side = weir_stream_context(stream);

    side->closed = true;
    side->reason = reason;
}

static const struct weir_stream_handler handler = {.on_open = on_open, .on_close = on_close};

static void on_accept(struct weir_listener *listener, struct weir_stream *stream, int error)
{
    (void)listener;
    assert_int_equal(error, 0);
    weir_stream_set_handler(stream, &handler, &server);
    assert_int_equal(weir_tls_accept(stream, server.context), 0);
}

static void on_listener_close(struct weir_listener *listener)
{
    (void)listener;
}

static struct weir_tls_context *context_new(bool is_server, enum weir_tls_kernel kernel)
{
    static const struct weir_tls_certificate certificate = {"toy", "toy"};
    char complaint[WEIR_TLS_COMPLAINT_MAX];
    struct weir_tls_context *context = NULL;
    struct weir_tls_options options;

    weir_tls_options_init(&options);
    options.server = is_server;
    options.certificates = &certificate;
    options.certificate_count = is_server;
    options.kernel = kernel;
    assert_int_equal(weir__tls_context_new_with(&context, &weir__tls_toy, &options, complaint), 0);
    return context;
}

static void options_init(struct weir__sim_options *options, uint64_t seed)
{
    weir__sim_options_init(options, seed);
    options->tls = &weir__tls_toy;
    options->tls_tx_ciphers = options->tls_rx_ciphers = ~0u;
}

static void run(const struct weir__sim_options *options)
{
    const struct weir_tls_connect connect = {.server_name = "localhost"};
    struct weir_loop_options loop_options;
    struct weir_listener_options listener_options;
    struct weir_stream_options stream_options;
    struct weir_listener *listener;
    struct weir_stream *stream;
    struct weir_address address;
    struct weir_loop *loop;
    struct weir__engine *engine;

    server = (struct side){.context = context_new(true, WEIR_TLS_KERNEL_TX_RX)};
    client = (struct side){.context = context_new(false, WEIR_TLS_KERNEL_OFF)};
    weir_loop_options_init(&loop_options);
    weir_listener_options_init(&listener_options);
    weir_stream_options_init(&stream_options);
    assert_int_equal(weir__sim_new(options, &engine), 0);
    assert_int_equal(weir__loop_new_on(&loop, engine, &loop_options), 0);
    assert_int_equal(weir_address_parse(&address, "127.0.0.1:8443"), 0);
    assert_int_equal(
        weir_listener_start(&listener, loop, &address, &listener_options, on_accept, NULL), 0);
    assert_int_equal(
        weir_stream_connect(&stream, loop, &address, &stream_options, &handler, &client), 0);
    assert_int_equal(weir_tls_connect(stream, client.context, &connect), 0);
    while (!server.closed || !client.closed)
        assert_int_equal(weir_loop_run_once(loop, -1), 0);
    weir_listener_close(listener, on_listener_close);
    while (weir__sim_open_handles(weir__loop_engine(loop)) > 0)
        assert_int_equal(weir_loop_run_once(loop, 10), 0);
    weir_loop_free(loop);
    weir_tls_context_free(server.context);
    weir_tls_context_free(client.context);
    if (server.reason || client.reason)
        fail_msg("seed %llu: the server closed with %s, the client with %s",
                 (unsigned long long)options->seed, weir_error_name(server.reason),
                 weir_error_name(client.reason));
}

/* A cancelled receive ends late: the bytes of the client come before the kernel has their key. */
static void test_a_server_closes_while_the_kernel_takes_over(void **state)
{
    (void)state;
    tls_toy_seed(1);
    writes = 1;
    write_bytes = BODY_BYTES;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct weir__sim_options options;
        options_init(&options, seed);
        options.defer = 500;
        options.defer_ns_max = 20 * NS_PER_MS;
        options.delay_ns_max = 10 * NS_PER_MS;
        run(&options);
    }
}

/* 100 bytes in a millisecond, so that what one stamp tells for all of them is off by more than half a second. */
static void test_each_write_has_its_own_delivery(void **state)
{
    struct weir__sim_options options;

    (void)state;
    tls_toy_seed(1);
    writes = WRITES;
    write_bytes = WRITE_BYTES;
    options_init(&options, 1);
    options.bandwidth_min = options.bandwidth_max = 100000;
    options.segment_bytes_min = options.segment_bytes_max = 1460;
    options.info = false; /* stamps alone tell */
    run(&options);
    for (unsigned i = 1; i < WRITES; i++)
        assert_in_range(delivered_ns[i] - delivered_ns[i - 1], 0, 250 * NS_PER_MS);
    assert_true(delivered_ns[WRITES - 1] - delivered_ns[0] > 400 * NS_PER_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_server_closes_while_the_kernel_takes_over),
        cmocka_unit_test(test_each_write_has_its_own_delivery),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
