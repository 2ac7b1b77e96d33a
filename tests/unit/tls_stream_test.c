/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Streams over TLS: all that holds for every stream, for each version and direction that the kernel takes
 * over, and then what TLS adds, for each library too.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "net/stream.h"
#include "support/stream_fixture.h"
#include "tls/stream.h"

#define VARIANTS_MAX 32

static struct weir__tls_stream *tls_of(const struct end *end)
{
    return weir__tls_stream_of(end->stream->transport);
}

/* Bytes of the wire's that are no record of the client's session. */
static void inject(struct stream_fixture *f, const uint8_t *bytes, size_t length)
{
    struct weir__tls_stream *tls = tls_of(&f->client);

    assert_int_equal(
        weir__tls_output_append(&tls->made.output, &tls->context->buffers, bytes, length), 0);
    weir__stream_defer(f->client.stream);
}

/* A record of the client's with any type and content. */
static void inject_record(struct stream_fixture *f, uint8_t type, const void *content,
                          size_t length)
{
    struct weir__tls_stream *tls = tls_of(&f->client);
    const struct iovec part = {.iov_base = (void *)content, .iov_len = length};
    uint8_t record[WEIR__TLS_RECORD_MAX];
    int64_t size = weir__tls_seal(weir__tls_session_sealer(&tls->session),
                                  (enum weir__tls_content)type, &part, 1, record);

    assert_true(size > 0);
    inject(f, record, (size_t)size);
}

/* Data both ways, so that all that is to be taken over by the kernel has been. */
static void settle(struct stream_fixture *f)
{
    f->server.length = f->client.length = 0;
    assert_int_equal(fixture_write(&f->client, NULL, stream_pattern, 5000), 0);
    fixture_await_bytes(f, &f->server, 5000);
    assert_int_equal(fixture_write(&f->server, NULL, stream_pattern, 5000), 0);
    fixture_await_bytes(f, &f->client, 5000);
    assert_pattern(f->client.bytes, 0, 5000);
    f->server.length = f->client.length = 0;
}

/* Nothing was lost: whatever happened before, data goes both ways. */
static void assert_alive(struct stream_fixture *f)
{
    settle(f);
    assert_int_equal(f->server.closes + f->client.closes, 0);
}

/* The kernel of the client must not take over: the test makes its records. */
static void connect_with_user_client(struct stream_fixture *f)
{
    f->tls_client.kernel = WEIR_TLS_KERNEL_OFF;
    fixture_connect(f);
    settle(f);
}

static void assert_server_fails(struct stream_fixture *f, unsigned alert)
{
    char words[64];

    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(f->server.reason, WEIR_ETLS);
    fixture_await(f, &f->client.closes, 1);
    assert_int_equal(f->client.reason, WEIR_ETLS);
    snprintf(words, sizeof(words), "the peer sent alert %u", alert);
    assert_string_equal(f->client.failure, words);
    assert_int_equal(f->server.ends, 0);
}

static bool is_1_3(const struct stream_fixture *f)
{
    return f->tls->version == WEIR_TLS_1_3;
}

static bool kernel_cannot_rekey(struct stream_fixture *f)
{
    struct weir__engine *engine = weir__loop_engine(f->loop);

    return f->tls->kernel != WEIR_TLS_KERNEL_OFF && !engine->ops->tls_can_rekey(engine);
}

/* Who encrypts what an end sends. */
static const char *cipher_by(struct stream_fixture *f, const char *vendor,
                             enum weir_tls_cipher_source source)
{
    const char *text, *fast = weir_tls_fast_cipher(&text);

    if (f->tls->kernel != WEIR_TLS_KERNEL_OFF)
        return "kernel";
    return source == WEIR_TLS_CIPHER_AUTO && fast ? fast : vendor;
}

static void the_handshake_says_what_it_came_to(struct stream_fixture *f)
{
    static const char *const offered[] = {"h2", "http/1.1"}, *const served[] = {"http/1.1"};
    struct weir_tls_info info;

    f->tls_client.alpn = offered;
    f->tls_client.alpn_count = 2;
    f->tls_server.alpn = served;
    f->tls_server.alpn_count = 1;
    fixture_connect(f);
    settle(f);
    assert_int_equal(weir_tls_info(f->server.stream, &info), 0);
    assert_int_equal(info.version, f->tls->version);
    assert_string_equal(info.vendor, weir_tls_context_vendor(f->server_context));
    assert_string_equal(info.cipher_by, cipher_by(f, info.vendor, f->tls->cipher_source));
    assert_string_equal(info.alpn, "http/1.1");
    assert_string_equal(info.server_name, "localhost");
    assert_false(info.resumed);
    assert_false(info.peer_certificate);
    assert_int_equal(info.kernel_tx, f->tls->kernel != WEIR_TLS_KERNEL_OFF);
    assert_int_equal(info.kernel_rx, f->tls->kernel == WEIR_TLS_KERNEL_TX_RX);
    assert_int_equal(weir_tls_info(f->client.stream, &info), 0);
    assert_string_equal(info.alpn, "http/1.1");
    assert_string_equal(info.cipher_by, cipher_by(f, info.vendor, WEIR_TLS_CIPHER_AUTO));
    assert_true(info.peer_certificate);
    assert_non_null(strstr(info.cipher, "AES_128_GCM"));
}

static void a_write_is_more_on_the_wire(struct stream_fixture *f)
{
    struct weir_delivery_info before, after;
    struct send send;

    fixture_connect(f);
    assert_int_equal(fixture_write(&f->server, &send, stream_pattern, 5000), 0);
    fixture_await_stage(f, &send, WEIR_STAGE_DELIVERED);
    weir_stream_delivery_info(f->server.stream, &before);
    assert_int_equal(fixture_write(&f->server, &send, stream_pattern, 100000), 0);
    fixture_await_stage(f, &send, WEIR_STAGE_DELIVERED);
    weir_stream_delivery_info(f->server.stream, &after);
    assert_int_equal(send.bytes, 100000);
    assert_int_equal(after.bytes_accepted - before.bytes_accepted, 100000);
    assert_int_equal(after.bytes_acked - before.bytes_acked, 100000);
    assert_int_equal(send.wire_bytes, after.wire_bytes_accepted - before.wire_bytes_accepted);
    /* At least one record for each 16 KiB, and far fewer than one for each segment. */
    assert_true(send.wire_bytes >= 100000 + 7 * 21);
    assert_true(send.wire_bytes <= 100000 + 40 * 29);
}

/* How many records a write of 100,000 bytes came to. */
static uint64_t records_of_a_write(struct stream_fixture *f, size_t overhead)
{
    struct send send;

    assert_int_equal(fixture_write(&f->server, &send, stream_pattern, 100000), 0);
    fixture_await_stage(f, &send, WEIR_STAGE_DELIVERED);
    assert_int_equal((send.wire_bytes - 100000) % overhead, 0);
    return (send.wire_bytes - 100000) / overhead;
}

static void records_are_small_at_first(struct stream_fixture *f)
{
    fixture_connect(f);
    if (f->tls->kernel != WEIR_TLS_KERNEL_OFF)
        return; /* the kernel makes its own */
    size_t overhead = weir__tls_session_overhead(&tls_of(&f->server)->session);
    /* 14 KiB in 11 segments, the rest in full records. */
    assert_int_equal(records_of_a_write(f, overhead), 11 + 6);
    assert_int_equal(records_of_a_write(f, overhead), 7);
    if (strcmp(f->engine, "sim") != 0 && strcmp(f->engine, "io_uring") != 0)
        return; /* what follows takes its time: by the simulated clock and once by the real one */
    fixture_pass(f, 1100); /* a pause, after which the window is small again */
    assert_int_equal(records_of_a_write(f, overhead), 11 + 6);
}

static void what_is_too_much_for_a_round_waits_for_the_next(struct stream_fixture *f)
{
    struct weir_tls_context *context;
    struct send send;

    fixture_connect(f);
    settle(f);
    if (f->tls->kernel != WEIR_TLS_KERNEL_OFF)
        return;
    context = f->server_context;
    assert_int_equal(fixture_write(&f->server, &send, stream_pattern, 100000), 0);
    context->round = weir__loop_waits(f->loop);
    context->round_bytes = WEIR__TLS_ROUND_BYTES_MAX;
    weir__stream_flush(f->server.stream);
    assert_false(f->server.stream->send_op.in_flight);
    assert_int_equal(tls_of(&f->server)->made.output.bytes, 0);
    fixture_await_stage(f, &send, WEIR_STAGE_DELIVERED);
    fixture_await_bytes(f, &f->client, 100000);
}

static void a_cut_is_no_end(struct stream_fixture *f)
{
    fixture_connect(f);
    settle(f);
    assert_int_equal(fixture_write(&f->client, NULL, stream_pattern, 1000), 0);
    tls_of(&f->client)->close_said = true;
    weir_stream_shutdown(f->client.stream);
    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(f->server.length, 1000);
    assert_int_equal(f->server.ends, 0);
    assert_int_equal(f->server.reason, WEIR_ECUTOFF);
}

static void a_cut_lets_writes_end(struct stream_fixture *f)
{
    struct send send;

    fixture_connect(f);
    settle(f);
    assert_int_equal(fixture_write(&f->server, &send, stream_pattern, sizeof(stream_pattern)), 0);
    tls_of(&f->client)->close_said = true;
    weir_stream_shutdown(f->client.stream);
    fixture_await_stage(f, &send, WEIR_STAGE_DELIVERED);
    fixture_await_bytes(f, &f->client, sizeof(stream_pattern));
    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(f->server.reason, WEIR_ECUTOFF);
    fixture_await(f, &f->client.ends, 1);
}

/* The peer went away in two steps: what fails is told to have been reset. */
static void a_reset_behind_a_cut_is_a_reset(struct stream_fixture *f)
{
    struct send send;

    fixture_connect(f);
    settle(f);
    weir_stream_read_stop(f->client.stream);
    assert_int_equal(fixture_write(&f->server, &send, stream_pattern, sizeof(stream_pattern)), 0);
    tls_of(&f->client)->close_said = true;
    weir_stream_shutdown(f->client.stream);
    fixture_pass(f, 20);
    assert_true(weir_stream_is_closing(f->server.stream));
    weir_stream_abort(f->client.stream, 0);
    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(send.error, WEIR_ERESET);
    assert_int_equal(f->server.reason, WEIR_ERESET);
}

/* The server has opened what came with the handshake's end, and seen the FIN, before its owner reads. */
static void a_cut_right_behind_the_handshake_loses_nothing(struct stream_fixture *f)
{
    fixture_listen(f);
    assert_int_equal(fixture_open_client(f), 0);
    tls_of(&f->client)->close_said = true;
    assert_int_equal(fixture_write(&f->client, NULL, stream_pattern, 1000), 0);
    weir_stream_shutdown(f->client.stream);
    fixture_await(f, &f->accepts, 1);
    weir_stream_read_stop(f->server.stream);
    fixture_await(f, &f->server.opens, 1);
    fixture_pass(f, 20);
    assert_int_equal(f->server.closes, 0);
    weir_stream_read_start(f->server.stream);
    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(f->server.reason, WEIR_ECUTOFF);
    assert_int_equal(f->server.length, 1000);
    assert_pattern(f->server.bytes, 0, 1000);
    assert_int_equal(f->server.ends, 0);
}

static void a_cut_handshake_is_told(struct stream_fixture *f)
{
    f->tls_server.handshake_timeout_ms = 50;
    fixture_listen(f);
    assert_int_equal(weir_stream_connect(&f->client.stream, f->loop, &f->address, NULL,
                                         fixture_handler(), &f->client),
                     0);
    fixture_await(f, &f->accepts, 1);
    weir_stream_close(f->client.stream, 0);
    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(f->server.reason, WEIR_ECUTOFF);
    assert_int_equal(f->server.opens, 0);
}

static void a_half_close_waits_for_the_handshake(struct stream_fixture *f)
{
    fixture_listen(f);
    assert_int_equal(fixture_open_client(f), 0);
    weir_stream_shutdown(f->client.stream);
    weir_stream_read_start(f->client.stream);
    fixture_await(f, &f->server.ends, 1);
    assert_int_equal(fixture_write(&f->server, NULL, stream_pattern, 1000), 0);
    fixture_await_bytes(f, &f->client, 1000);
    assert_int_equal(f->server.closes + f->client.closes, 0);
}

static void to_close_in_the_handshake_is_to_give_up(struct stream_fixture *f)
{
    fixture_listen(f);
    assert_int_equal(fixture_open_client(f), 0);
    assert_int_equal(fixture_write(&f->client, NULL, stream_pattern, 1000), 0);
    fixture_await(f, &f->accepts, 1);
    weir_stream_close(f->client.stream, 0);
    fixture_await(f, &f->client.closes, 1);
    assert_int_equal(f->client.reason, WEIR_EABORTED);
    assert_int_equal(f->client.opens, 0);
    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(f->server.opens, 0);
}

/* The peer's wish for new keys comes behind our close_notify, and the FIN. */
static void nothing_is_answered_behind_the_end(struct stream_fixture *f)
{
    fixture_connect(f);
    settle(f);
    weir_stream_shutdown(f->server.stream);
    fixture_await(f, &f->client.ends, 1);
    if (!is_1_3(f) || kernel_cannot_rekey(f))
        return;
    assert_int_equal(weir_tls_update_keys(f->client.stream, true), 0);
    assert_int_equal(fixture_write(&f->client, NULL, stream_pattern, 1000), 0);
    fixture_await_bytes(f, &f->server, 1000);
    assert_int_equal(f->server.closes + f->client.closes, 0);
}

static void a_silent_handshake_times_out(struct stream_fixture *f)
{
    f->tls_server.handshake_timeout_ms = 30;
    fixture_listen(f);
    assert_int_equal(weir_stream_connect(&f->client.stream, f->loop, &f->address, NULL,
                                         fixture_handler(), &f->client),
                     0);
    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(f->server.reason, WEIR_ETIMEDOUT);
}

static void what_is_no_handshake_is_refused(struct stream_fixture *f)
{
    static const char http[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

    fixture_listen(f);
    assert_int_equal(weir_stream_connect(&f->client.stream, f->loop, &f->address, NULL,
                                         fixture_handler(), &f->client),
                     0);
    assert_int_equal(fixture_write(&f->client, NULL, http, sizeof(http) - 1), 0);
    weir_stream_read_start(f->client.stream);
    fixture_await(f, &f->client.ends, 1);
    /* A fatal alert in the clear. */
    assert_int_equal(f->client.length, 7);
    assert_int_equal(f->client.bytes[0], 21);
    assert_int_equal(f->client.bytes[5], 2);
    weir_stream_close(f->client.stream, 0);
    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(f->server.reason, WEIR_ETLS);
}

static void a_forged_record_is_refused(struct stream_fixture *f)
{
    uint8_t record[5 + 100] = {23, 3, 3, 0, 100};

    connect_with_user_client(f);
    inject(f, record, sizeof(record));
    assert_server_fails(f, WEIR__TLS_BAD_RECORD_MAC);
}

static void an_oversized_record_is_refused(struct stream_fixture *f)
{
    static uint8_t record[5 + 17000] = {23, 3, 3, 17000 >> 8, 17000 & 255};

    connect_with_user_client(f);
    inject(f, record, sizeof(record));
    assert_server_fails(f, WEIR__TLS_RECORD_OVERFLOW);
}

static void a_record_again_is_refused(struct stream_fixture *f)
{
    struct weir__tls_stream *tls;

    connect_with_user_client(f);
    tls = tls_of(&f->client);
    inject_record(f, 23, "abc", 3);
    fixture_await_bytes(f, &f->server, 3);
    weir__tls_session_sealer(&tls->session)->keys.sequence--;
    inject_record(f, 23, "abc", 3);
    assert_server_fails(f, WEIR__TLS_BAD_RECORD_MAC);
    assert_int_equal(f->server.length, 3);
}

static void a_message_out_of_place_is_refused(struct stream_fixture *f)
{
    static const uint8_t finished[] = {20, 0, 0, 1, 0};

    connect_with_user_client(f);
    inject_record(f, 22, finished, sizeof(finished));
    assert_server_fails(f, WEIR__TLS_UNEXPECTED_MESSAGE);
}

static void a_flood_of_empty_records_is_cut_off(struct stream_fixture *f)
{
    connect_with_user_client(f);
    for (unsigned i = 0; i < WEIR__TLS_QUIET_RECORDS_MAX; i++)
        inject_record(f, 23, "", 0);
    assert_alive(f);
    for (unsigned i = 0; i < WEIR__TLS_QUIET_RECORDS_MAX + 1; i++)
        inject_record(f, 23, "", 0);
    /* Of an empty record the kernel says nothing, and it costs no more than a call. */
    if (f->tls->kernel != WEIR_TLS_KERNEL_TX_RX)
        assert_server_fails(f, WEIR__TLS_UNEXPECTED_MESSAGE);
}

static void a_fatal_alert_ends_the_connection(struct stream_fixture *f)
{
    static const uint8_t alert[] = {2, WEIR__TLS_INTERNAL_ERROR};

    connect_with_user_client(f);
    inject_record(f, 21, alert, sizeof(alert));
    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(f->server.reason, WEIR_ETLS);
    assert_string_equal(f->server.failure, "the peer sent alert 80");
}

static void keys_change_from_either_side(struct stream_fixture *f)
{
    int expected = 0;

    fixture_connect(f);
    settle(f);
    if (!is_1_3(f) || kernel_cannot_rekey(f))
        expected = WEIR_ENOTSUP;
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(weir_tls_update_keys(f->server.stream, i % 2), expected);
        assert_int_equal(fixture_write(&f->server, NULL, stream_pattern, 30000), 0);
        assert_int_equal(weir_tls_update_keys(f->client.stream, i % 2 == 0), expected);
        assert_int_equal(fixture_write(&f->client, NULL, stream_pattern, 30000), 0);
    }
    fixture_await_bytes(f, &f->server, 150000);
    fixture_await_bytes(f, &f->client, 150000);
    for (unsigned i = 0; i < 5; i++) {
        assert_pattern(f->server.bytes + i * 30000, 0, 30000);
        assert_pattern(f->client.bytes + i * 30000, 0, 30000);
    }
    assert_alive(f);
}

static void keys_change_at_the_limit_of_records(struct stream_fixture *f)
{
    fixture_connect(f);
    settle(f);
    if (!is_1_3(f) || kernel_cannot_rekey(f))
        return;
    f->server_context->records_max = 8;
    assert_int_equal(fixture_write(&f->server, NULL, stream_pattern, sizeof(stream_pattern)), 0);
    fixture_await_bytes(f, &f->client, sizeof(stream_pattern));
    assert_pattern(f->client.bytes, 0, sizeof(stream_pattern));
    assert_alive(f);
}

static void without_new_keys_the_limit_ends_the_connection(struct stream_fixture *f)
{
    fixture_connect(f);
    settle(f);
    if (is_1_3(f) && !kernel_cannot_rekey(f))
        return;
    f->server_context->records_max = 8;
    assert_int_equal(fixture_write(&f->server, NULL, stream_pattern, sizeof(stream_pattern)), 0);
    fixture_await_bytes(f, &f->client, sizeof(stream_pattern));
    fixture_await(f, &f->client.ends, 1);
    weir_stream_close(f->client.stream, 0);
    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(f->server.reason, WEIR_ENOTSUP);
}

static void an_update_that_a_kernel_cannot_take_ends_cleanly(struct stream_fixture *f)
{
    struct send send;

    connect_with_user_client(f);
    if (!is_1_3(f) || !kernel_cannot_rekey(f) || f->tls->kernel != WEIR_TLS_KERNEL_TX_RX)
        return;
    assert_int_equal(fixture_write(&f->server, &send, stream_pattern, 300000), 0);
    assert_int_equal(weir_tls_update_keys(f->client.stream, true), 0);
    fixture_await_bytes(f, &f->client, 300000);
    fixture_await(f, &f->client.ends, 1);
    fixture_await_stage(f, &send, WEIR_STAGE_DELIVERED);
    weir_stream_close(f->client.stream, 0);
    fixture_await(f, &f->server.closes, 1);
    assert_int_equal(f->server.reason, WEIR_ENOTSUP);
}

static void a_storm_of_key_updates_is_cut_off(struct stream_fixture *f)
{
    connect_with_user_client(f);
    if (!is_1_3(f) || kernel_cannot_rekey(f))
        return;
    for (unsigned i = 0; i <= WEIR__TLS_KEY_UPDATES_MAX; i++) {
        assert_int_equal(weir_tls_update_keys(f->client.stream, false), 0);
        inject_record(f, 23, "x", 1);
    }
    assert_server_fails(f, WEIR__TLS_UNEXPECTED_MESSAGE);
}

static void odd_key_updates_are_refused(struct stream_fixture *f)
{
    static const uint8_t odd[] = {24, 0, 0, 1, 2};

    connect_with_user_client(f);
    inject_record(f, 22, odd, sizeof(odd));
    assert_server_fails(f, is_1_3(f) ? WEIR__TLS_ILLEGAL_PARAMETER : WEIR__TLS_UNEXPECTED_MESSAGE);
}

static const struct stream_test tls_tests[] = {
    {.name = "the handshake says what it came to", .run = the_handshake_says_what_it_came_to},
    {.name = "a write is more on the wire", .run = a_write_is_more_on_the_wire},
    {.name = "records are small at first", .run = records_are_small_at_first},
    {.name = "what is too much for a round waits for the next",
     .run = what_is_too_much_for_a_round_waits_for_the_next},
    {.name = "a cut is no end", .run = a_cut_is_no_end},
    {.name = "a cut lets writes end", .run = a_cut_lets_writes_end},
    {.name = "a reset behind a cut is a reset", .run = a_reset_behind_a_cut_is_a_reset},
    {.name = "a cut right behind the handshake loses nothing",
     .run = a_cut_right_behind_the_handshake_loses_nothing},
    {.name = "a cut handshake is told", .run = a_cut_handshake_is_told},
    {.name = "a half-close waits for the handshake", .run = a_half_close_waits_for_the_handshake},
    {.name = "to close in the handshake is to give up",
     .run = to_close_in_the_handshake_is_to_give_up},
    {.name = "nothing is answered behind the end", .run = nothing_is_answered_behind_the_end},
    {.name = "a silent handshake times out", .run = a_silent_handshake_times_out},
    {.name = "what is no handshake is refused", .run = what_is_no_handshake_is_refused},
    {.name = "a forged record is refused", .run = a_forged_record_is_refused},
    {.name = "an oversized record is refused", .run = an_oversized_record_is_refused},
    {.name = "a record again is refused", .run = a_record_again_is_refused},
    {.name = "a message out of place is refused", .run = a_message_out_of_place_is_refused},
    {.name = "a flood of empty records is cut off", .run = a_flood_of_empty_records_is_cut_off},
    {.name = "a fatal alert ends the connection", .run = a_fatal_alert_ends_the_connection},
    {.name = "keys change from either side", .run = keys_change_from_either_side},
    {.name = "keys change at the limit of records", .run = keys_change_at_the_limit_of_records},
    {.name = "without new keys the limit ends the connection",
     .run = without_new_keys_the_limit_ends_the_connection},
    {.name = "an update that a kernel cannot take ends cleanly",
     .run = an_update_that_a_kernel_cannot_take_ends_cleanly},
    {.name = "a storm of key updates is cut off", .run = a_storm_of_key_updates_is_cut_off},
    {.name = "odd key updates are refused", .run = odd_key_updates_are_refused},
};

/* ---- variants */

static struct stream_tls variants[VARIANTS_MAX];
static char names[VARIANTS_MAX][64];
static size_t variant_count;

static void add_variant(const char *vendor, unsigned version, enum weir_tls_kernel kernel,
                        const char *engine)
{
    static const char *const kernel_names[] = {"", ", kernel tx", ", kernel tx+rx"};
    struct stream_tls *variant = &variants[variant_count];

    assert_true(variant_count < VARIANTS_MAX);
    snprintf(names[variant_count], sizeof(names[0]), "%s TLS 1.%u%s", vendor, version - 0x0301,
             kernel_names[kernel]);
    *variant = (struct stream_tls){
        .name = names[variant_count],
        .server = vendor,
        .client = vendor,
        .version = (enum weir_tls_version)version,
        .kernel = kernel,
        .engine = engine,
    };
    variant_count++;
}

/* The first library's newest version on each engine; what differs between the others does not depend on it. */
static void add_variants(enum weir_tls_kernel kernel)
{
    for (unsigned i = 0; weir_tls_vendor_name(i); i++) {
        unsigned newest = weir_tls_vendor_version_max(i);

        for (unsigned version = WEIR_TLS_1_2; version <= newest; version++)
            add_variant(weir_tls_vendor_name(i), version, kernel,
                        i == 0 && version == newest ? NULL : "epoll");
    }
}

/* The server's records are its library's, the client's are not. */
static void add_library_ciphers(void)
{
    for (unsigned i = 0; weir_tls_vendor_name(i); i++) {
        add_variant(weir_tls_vendor_name(i), weir_tls_vendor_version_max(i), WEIR_TLS_KERNEL_OFF,
                    "epoll");
        struct stream_tls *variant = &variants[variant_count - 1];
        variant->cipher_source = WEIR_TLS_CIPHER_LIBRARY;
        strcat(names[variant_count - 1], ", own cipher");
    }
}

int main(void)
{
    /* In the virtual machine only what the host cannot do. */
    if (!getenv("WEIR_KTLS"))
        add_variants(WEIR_TLS_KERNEL_OFF);
    if (fixture_kernel_has_tls()) {
        add_variant(weir_tls_vendor_name(0), WEIR_TLS_1_3, WEIR_TLS_KERNEL_TX, NULL);
        add_variants(WEIR_TLS_KERNEL_TX_RX);
    } else {
        assert_null(getenv("WEIR_KTLS"));
        printf("SKIP: kernel TLS: this kernel has none\n");
    }
    /* All that holds for every stream: for the first library, and whatever the kernel does. */
    size_t first = 0;
    while (first < variant_count && variants[first].server == variants[0].server)
        first++;
    if (!getenv("WEIR_KTLS"))
        add_library_ciphers();
    int failed =
        stream_suite_run("streams over TLS", stream_tests, stream_test_count, variants, first);
    return failed + stream_suite_run("TLS", tls_tests, sizeof(tls_tests) / sizeof(tls_tests[0]),
                                     variants, variant_count);
}
