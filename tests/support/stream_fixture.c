/* SPDX-License-Identifier: Apache-2.0 */
#include "support/stream_fixture.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/engine.h"
#include "engine/sim.h"
#include "support/memory_fail.h"

/* In rounds of at most ROUND_MS: long enough for a retransmission on a busy machine. */
#define ROUNDS_MAX 4000
#define ROUND_MS   5

struct engine_choice {
    const char *name;
    enum weir_engine_kind kind;
    bool sim;
};

static const struct engine_choice engines[] = {
    {"io_uring", WEIR_ENGINE_IO_URING, false},
    {"epoll", WEIR_ENGINE_EPOLL, false},
    {"poll", WEIR_ENGINE_POLL, false},
    {"sim", WEIR_ENGINE_AUTO, true},
};
#define ENGINES (sizeof(engines) / sizeof(engines[0]))

struct run {
    const struct engine_choice *engine;
    const struct stream_test *test;
    const struct stream_tls *tls;
};

/* ---- an end */

static void check_outside_calls(const struct stream_fixture *f)
{
    assert_false(f->in_call);
}

static void end_on_open(struct weir_stream *stream)
{
    struct end *end = weir_stream_context(stream);

    check_outside_calls(end->f);
    assert_int_equal(end->closes, 0);
    end->opens++;
}

static void end_on_data(struct weir_stream *stream, const uint8_t *data, size_t length,
                        uint64_t arrived_ns)
{
    struct end *end = weir_stream_context(stream);

    check_outside_calls(end->f);
    assert_int_equal(end->closes + end->ends, 0);
    assert_true(length > 0);
    assert_true(end->length + length <= END_BYTES_MAX);
    assert_true(arrived_ns != 0);
    memcpy(end->bytes + end->length, data, length);
    end->length += length;
    if (end->stop_after)
        weir_stream_read_stop(stream);
    if (end->echo) {
        /* The answer's bytes must outlive this callback: they are in `bytes`. */
        fixture_write(end, NULL, end->bytes + end->length - length, length);
    }
}

static void end_on_end(struct weir_stream *stream)
{
    struct end *end = weir_stream_context(stream);

    check_outside_calls(end->f);
    assert_int_equal(end->closes, 0);
    end->ends++;
    assert_int_equal(end->ends, 1);
}

static void end_on_close(struct weir_stream *stream, int reason)
{
    struct end *end = weir_stream_context(stream);

    check_outside_calls(end->f);
    end->closes++;
    assert_int_equal(end->closes, 1);
    end->reason = reason;
    snprintf(end->failure, sizeof(end->failure), "%s", weir_tls_failure(stream));
    end->stream = NULL;
}

static const struct weir_stream_handler end_handler = {
    .on_open = end_on_open,
    .on_data = end_on_data,
    .on_end = end_on_end,
    .on_close = end_on_close,
};

static void on_accept(struct weir_listener *listener, struct weir_stream *stream, int error)
{
    struct stream_fixture *f = weir_listener_context(listener);

    check_outside_calls(f);
    if (!stream) {
        assert_true(error < 0);
        f->accept_errors++;
        return;
    }
    f->accepts++;
    if (f->server.stream || f->server.opens > 0) {
        /* A second connection is not what this test is about. */
        weir_stream_abort(stream, 0);
        return;
    }
    f->server.stream = stream;
    weir_stream_set_handler(stream, &end_handler, &f->server);
    if (!f->tls) {
        f->server.opens = 1;
    } else if (weir_tls_accept(stream, f->server_context) != 0) {
        assert_true(memory_fail_happened());
        weir_stream_abort(stream, WEIR_ENOMEM);
        return;
    }
    weir_stream_read_start(stream);
}

/* ---- a write */

void send_init(struct send *send, struct stream_fixture *f, unsigned stages)
{
    *send = (struct send){.f = f, .asked = stages};
}

void send_on_stage(struct weir_stream *stream, void *context, const struct weir_write_event *event)
{
    struct send *send = context;

    (void)stream;
    check_outside_calls(send->f);
    assert_int_equal(send->failures, 0);
    assert_int_equal(send->told & event->stage, 0);
    send->at_ns[event->stage] = event->at_ns;
    send->first_byte_ns = event->first_byte_ns;
    send->bytes = event->bytes;
    send->accepted_bytes = event->accepted_bytes;
    send->wire_bytes = event->wire_bytes;
    send->source = event->source;
    send->ways = event->ways;
    if (event->stage == WEIR_STAGE_FAILED) {
        assert_true(event->error < 0);
        send->error = event->error;
        send->failures++;
    } else {
        assert_int_equal(event->error, 0);
        assert_true(send->asked & event->stage);
        /* A stage never comes behind a later one, but memory may be in use for longer than the bytes take. */
        if (event->stage == WEIR_STAGE_RELEASED)
            assert_true(!(send->asked & WEIR_STAGE_ACCEPTED) || (send->told & WEIR_STAGE_ACCEPTED));
        else
            assert_true(event->stage > (send->told & ~(unsigned)WEIR_STAGE_RELEASED));
    }
    send->told |= event->stage;
}

int fixture_write(struct end *end, struct send *send, const void *bytes, size_t length)
{
    const struct iovec part = {.iov_base = (void *)bytes, .iov_len = length};
    struct weir_write write = {.parts = &part, .part_count = 1, .file = -1};
    bool was_in_call = end->f->in_call;

    if (send) {
        send_init(send, end->f, ALL_STAGES);
        write.stages = ALL_STAGES;
        write.on_stage = send_on_stage;
        write.context = send;
    }
    end->f->in_call = true;
    int error = weir_stream_write(end->stream, &write);
    end->f->in_call = was_in_call;
    return error;
}

/* ---- the loop */

static void run_round(struct stream_fixture *f)
{
    assert_int_equal(weir_loop_run_once(f->loop, ROUND_MS), 0);
}

void fixture_await(struct stream_fixture *f, const unsigned *value, unsigned wanted)
{
    for (unsigned i = 0; i < ROUNDS_MAX && *value < wanted; i++)
        run_round(f);
    assert_true(*value >= wanted);
}

void fixture_await_bytes(struct stream_fixture *f, const struct end *end, size_t length)
{
    for (unsigned i = 0; i < ROUNDS_MAX && end->length < length; i++)
        run_round(f);
    assert_int_equal(end->length, length);
}

void fixture_await_stage(struct stream_fixture *f, const struct send *send, enum weir_stage stage)
{
    for (unsigned i = 0; i < ROUNDS_MAX && !(send->told & stage); i++)
        run_round(f);
    assert_true(send->told & stage);
}

void fixture_pass(struct stream_fixture *f, unsigned ms)
{
    uint64_t end_ns = weir__loop_engine(f->loop)->ops->now_ns(weir__loop_engine(f->loop)) +
                      (uint64_t)ms * 1000000u;

    while (weir__loop_engine(f->loop)->ops->now_ns(weir__loop_engine(f->loop)) < end_ns)
        run_round(f);
}

static void end_reset(struct end *end)
{
    assert_null(end->stream);
    *end = (struct end){.f = end->f, .bytes = end->bytes};
}

void fixture_reset(struct stream_fixture *f)
{
    end_reset(&f->server);
    end_reset(&f->client);
}

int fixture_open_client(struct stream_fixture *f)
{
    const struct weir_tls_connect connect = {.server_name = f->server_name};
    int error = weir_stream_connect(&f->client.stream, f->loop, &f->address, &f->options,
                                    &end_handler, &f->client);

    if (error || !f->tls)
        return error;
    error = weir_tls_connect(f->client.stream, f->client_context, &connect);
    if (error)
        weir_stream_abort(f->client.stream, error);
    return error;
}

/* ---- TLS */

#define CERTIFICATES_MAX 4

struct made_certificate {
    char name[64], certificate_file[128], key_file[128];
};
static struct made_certificate made_certificates[CERTIFICATES_MAX];

static void remove_certificates(void)
{
    for (unsigned i = 0; i < CERTIFICATES_MAX; i++) {
        if (made_certificates[i].name[0]) {
            unlink(made_certificates[i].certificate_file);
            unlink(made_certificates[i].key_file);
        }
    }
}

static void write_text(char *path, size_t size, const char *kind, const char *text)
{
    snprintf(path, size, "/tmp/weir-test-%s-XXXXXX", kind);
    int file = mkstemp(path);
    assert_true(file >= 0);
    assert_int_equal(write(file, text, strlen(text)), strlen(text));
    close(file);
}

struct weir_tls_certificate fixture_certificate(const char *name)
{
    char certificate[WEIR_TLS_SELF_SIGNED_MAX], key[WEIR_TLS_SELF_SIGNED_MAX];
    struct made_certificate *made = made_certificates;

    while (made->name[0] && strcmp(made->name, name) != 0)
        assert_true(++made < made_certificates + CERTIFICATES_MAX);
    if (!made->name[0]) {
        if (made == made_certificates)
            atexit(remove_certificates);
        assert_int_equal(
            weir_tls_self_signed(NULL, &name, 1, 30, certificate, key, sizeof(certificate)), 0);
        write_text(made->certificate_file, sizeof(made->certificate_file), "certificate",
                   certificate);
        write_text(made->key_file, sizeof(made->key_file), "key", key);
        snprintf(made->name, sizeof(made->name), "%s", name);
    }
    return (struct weir_tls_certificate){made->certificate_file, made->key_file};
}

static void make_contexts(struct stream_fixture *f)
{
    char complaint[WEIR_TLS_COMPLAINT_MAX];

    if (!f->tls || f->server_context)
        return;
    int error = weir_tls_context_new(&f->server_context, &f->tls_server, complaint);
    if (!error)
        error = weir_tls_context_new(&f->client_context, &f->tls_client, complaint);
    if (error)
        print_message("%s\n", complaint);
    assert_int_equal(error, 0);
}

static void set_tls(struct stream_fixture *f, const struct stream_tls *tls,
                    struct weir_tls_certificate *certificate)
{
    if (!tls)
        return;
    f->tls = tls;
    f->server_name = "localhost";
    *certificate = fixture_certificate("localhost");
    weir_tls_options_init(&f->tls_server);
    f->tls_server.version_min = f->tls_server.version_max = tls->version;
    f->tls_server.kernel = tls->kernel;
    f->tls_client = f->tls_server;
    f->tls_server.vendor = tls->server;
    f->tls_server.cipher_source = tls->cipher_source;
    f->tls_server.server = true;
    f->tls_server.certificates = certificate;
    f->tls_server.certificate_count = 1;
    f->tls_client.vendor = tls->client;
    f->tls_client.trust_file = certificate->certificate_file;
}

const struct weir_stream_handler *fixture_handler(void)
{
    return &end_handler;
}

bool fixture_kernel_has_tls(void)
{
    int socket_handle = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* Not connected: a kernel that has it says ENOTCONN, one that has not ENOENT. */
    int failed = setsockopt(socket_handle, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls"));
    bool has = failed == 0 || errno == ENOTCONN;

    close(socket_handle);
    return has;
}

void fixture_listen(struct stream_fixture *f)
{
    struct weir_listener_options options;

    weir_listener_options_init(&options);
    options.stream = f->options;
    assert_int_equal(weir_address_parse(&f->address, "127.0.0.1:0"), 0);
    assert_int_equal(
        weir_listener_start(&f->listener, f->loop, &f->address, &options, on_accept, f), 0);
    assert_int_equal(weir_listener_address(f->listener, &f->address), 0);
    make_contexts(f);
}

void fixture_connect(struct stream_fixture *f)
{
    fixture_listen(f);
    assert_int_equal(fixture_open_client(f), 0);
    fixture_await(f, &f->client.opens, 1);
    fixture_await(f, &f->server.opens, 1);
    weir_stream_read_start(f->client.stream);
}

/* ---- files */

uint8_t stream_pattern[2u << 20];

uint8_t pattern_byte(size_t offset)
{
    return (uint8_t)((offset * 2654435761u) >> 13);
}

int stream_file(size_t length)
{
    int file = memfd_create("pattern", MFD_CLOEXEC);
    uint8_t block[4096];

    assert_true(file >= 0);
    for (size_t done = 0; done < length; done += sizeof(block)) {
        size_t count = length - done < sizeof(block) ? length - done : sizeof(block);
        for (size_t i = 0; i < count; i++)
            block[i] = pattern_byte(done + i);
        assert_int_equal(write(file, block, count), count);
    }
    return file;
}

void assert_pattern(const uint8_t *bytes, size_t offset, size_t length)
{
    for (size_t i = 0; i < length; i++)
        assert_int_equal(bytes[i], pattern_byte(offset + i));
}

/* ---- running */

static int open_loop(struct stream_fixture *f, const struct run *run)
{
    struct weir_loop_options options;
    struct weir__sim_options sim_options;
    struct weir__engine *engine;

    weir_loop_options_init(&options);
    options.engine = run->engine->kind;
    options.delivery = !run->test->delivery_off;
    if (run->test->held_bytes_max)
        options.held_bytes_max = run->test->held_bytes_max;
    options.zerocopy = run->test->zerocopy;
    if (run->test->pinned_bytes_max)
        options.pinned_bytes_max = run->test->pinned_bytes_max;
    if (!run->engine->sim)
        return weir_loop_new(&f->loop, &options);
    weir__sim_options_init(&sim_options, 42);
    assert_int_equal(weir__sim_new(&sim_options, &engine), 0);
    return weir__loop_new_on(&f->loop, engine, &options);
}

static void end_init(struct end *end, struct stream_fixture *f)
{
    *end = (struct end){.f = f, .bytes = malloc(END_BYTES_MAX)};
    assert_non_null(end->bytes);
}

static void close_all(struct stream_fixture *f)
{
    if (f->client.stream)
        weir_stream_abort(f->client.stream, 0);
    if (f->server.stream)
        weir_stream_abort(f->server.stream, 0);
    if (f->listener)
        weir_listener_close(f->listener, NULL);
    for (unsigned i = 0; i < 20 && (f->client.stream || f->server.stream); i++)
        run_round(f);
    /* For the listener, and for what the engine was told of late. */
    run_round(f);
    run_round(f);
    assert_null(f->client.stream);
    assert_null(f->server.stream);
}

static void run_case(void **state)
{
    const struct run *run = *state;
    struct stream_fixture f = {.engine = run->engine->name};
    struct weir_tls_certificate certificate;
    size_t live = memory_fail_live();
    int error = open_loop(&f, run);

    if (error == WEIR_ENOTSUP) {
        printf("SKIP: %s: this engine cannot be had here\n", f.engine);
        fflush(stdout);
        skip();
    }
    assert_int_equal(error, 0);
    weir_stream_options_init(&f.options);
    end_init(&f.server, &f);
    end_init(&f.client, &f);
    set_tls(&f, run->tls, &certificate);
    run->test->run(&f);
    close_all(&f);
    weir_tls_context_free(f.server_context);
    weir_tls_context_free(f.client_context);
    weir_loop_free(f.loop);
    free(f.server.bytes);
    free(f.client.bytes);
    assert_int_equal(memory_fail_live(), live);
}

int stream_suite_run(const char *suite, const struct stream_test *tests, size_t count,
                     const struct stream_tls *tls, size_t tls_count)
{
    size_t most = count * ENGINES * (tls ? tls_count : 1);
    struct CMUnitTest *unit_tests = calloc(most, sizeof(*unit_tests));
    struct run *runs = calloc(most, sizeof(*runs));
    char(*names)[192] = calloc(most, sizeof(*names));
    size_t total = 0;

    memory_fail_install();
    if (getenv("ONLY")) /* for working on one: a pattern, * and ? being what they are to a shell */
        cmocka_set_test_filter(getenv("ONLY"));
    for (size_t i = 0; i < sizeof(stream_pattern); i++)
        stream_pattern[i] = pattern_byte(i);
    for (size_t i = 0; i < most; i++) {
        const struct engine_choice *engine = &engines[i / count % ENGINES];
        const struct stream_test *test = &tests[i % count];
        const struct stream_tls *with = tls ? &tls[i / count / ENGINES] : NULL;

        if ((test->kernel && engine->sim) || (test->plain && with) ||
            (with && with->engine && strcmp(with->engine, engine->name) != 0) ||
            (with && with->kernel != WEIR_TLS_KERNEL_OFF && engine->sim))
            continue;
        runs[total] = (struct run){engine, test, with};
        snprintf(names[total], sizeof(names[total]), "%s%s%s: %s", engine->name, with ? ", " : "",
                 with ? with->name : "", test->name);
        unit_tests[total] = (struct CMUnitTest){
            .name = names[total], .test_func = run_case, .initial_state = &runs[total]};
        total++;
    }
    int failed = _cmocka_run_group_tests(suite, unit_tests, total, NULL, NULL);
    free(names);
    free(runs);
    free(unit_tests);
    return failed;
}
