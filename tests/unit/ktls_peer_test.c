/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel TLS on the receiving side: records that are spoilt, cut in pieces or none at all, keys that come in
 * the middle, and change. The peer is a plain socket that sends what a real sender's record layer made.
 */

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support/ktls_fixture.h"

#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Of each record that `capture` makes: a multiple fills a receive buffer. */
#define RECORD_WIRE  1024
#define RECORD_PLAIN (RECORD_WIRE - 22)

/* Not by the engine, which would look at the other socket meanwhile. */
static int send_at_once(int descriptor, const void *bytes, size_t length)
{
    return send(descriptor, bytes, length, MSG_NOSIGNAL) == (ssize_t)length ? 0 : -1;
}

/* Makes the ciphertext of `count` records with the client's keys. */
static uint8_t *capture(struct engine_fixture *f, size_t count)
{
    const struct weir__tls_keys keys = ktls_keys(WEIR__TLS_1_3, WEIR__TLS_AES_128_GCM, 1);
    uint8_t *wire, plain[RECORD_PLAIN];
    struct record send, receive;
    struct ktls_pair k;

    ktls_plain_open(&k, f);
    ktls_attach_one(f, &k.pair.client, WEIR__TLS_TX, &keys);
    wire = malloc(count * RECORD_WIRE);
    assert_non_null(wire);
    ktls_receive_init(&receive, f, &k.pair.server, wire, count * RECORD_WIRE);
    record_submit(&receive);
    record_init(&send, f, WEIR__OP_SEND, &k.pair.client);
    for (size_t i = 0; i < count; i++) {
        pattern_fill(plain, RECORD_PLAIN, i * RECORD_PLAIN);
        ktls_send_all(&send, plain, RECORD_PLAIN, 0);
    }
    wait_until_length(f, &receive.length, count * RECORD_WIRE);
    record_cancel_and_finish(&receive);
    pair_close(&k.pair);
    return wire;
}

/* The server with kernel TLS, the client without. */
static void half_open(struct ktls_pair *k, struct engine_fixture *f, uint16_t version)
{
    const struct weir__tls_keys tx = ktls_keys(version, WEIR__TLS_AES_128_GCM, 2);
    const struct weir__tls_keys rx = ktls_keys(version, WEIR__TLS_AES_128_GCM, 1);

    ktls_plain_open(k, f);
    ktls_attach_one(f, &k->pair.server, WEIR__TLS_TX, &tx);
    ktls_attach_one(f, &k->pair.server, WEIR__TLS_RX, &rx);
}

/* The server says why, and its peer gets all of it: a record of 2 bytes. */
static void alert_gets_through(struct ktls_pair *k, size_t before)
{
    struct engine_fixture *f = k->pair.f;
    struct record send, receive;

    ktls_receive_init(&receive, f, &k->pair.client, NULL, 0);
    record_submit(&receive);
    record_init(&send, f, WEIR__OP_SEND, &k->pair.server);
    ktls_send(&send, "\2\24", 2, WEIR__TLS_ALERT);
    assert_int_equal(record_finish(&send), 2);
    assert_int_equal(f->ops->socket_shutdown(f->engine, &k->pair.server), 0);
    assert_int_equal(record_finish(&receive), 0);
    assert_int_equal(receive.length, before);
}

enum when { WAITING, COMING, WATCHED };

/* What comes of bytes that a peer sends, and that nothing else comes of it. */
static void expect(struct engine_fixture *f, uint16_t version, const void *wire, size_t length,
                   size_t plaintext, int64_t result, enum when when)
{
    struct record send, receive, watch;
    struct ktls_pair k;

    half_open(&k, f, version);
    record_init(&send, f, WEIR__OP_SEND, &k.pair.client);
    ktls_receive_init(&receive, f, &k.pair.server, NULL, 0);
    record_init(&watch, f, WEIR__OP_WATCH, &k.pair.server);
    if (when == WATCHED)
        record_submit(&watch);
    if (when != COMING)
        record_submit(&receive);
    record_send_all(&send, wire, length, 0);
    wait_for(f, 20 * KTLS_MS);
    if (when == COMING)
        record_submit(&receive);
    assert_int_equal(record_finish(&receive), result);
    assert_int_equal(receive.length, plaintext);
    alert_gets_through(&k, version == WEIR__TLS_1_3 ? 24 : 31);
    if (when == WATCHED) {
        assert_int_equal(watch.finals, 0);
        record_cancel_and_finish(&watch);
    }
    pair_close(&k.pair);
}

static void expect_each(struct engine_fixture *f, const void *wire, size_t length, size_t plaintext,
                        int64_t result)
{
    for (enum when when = WAITING; when <= WATCHED; when++)
        expect(f, WEIR__TLS_1_3, wire, length, plaintext, result, when);
}

static void tampered(struct engine_fixture *f)
{
    uint8_t *wire = capture(f, 3);

    wire[5] ^= 1;
    expect_each(f, wire, RECORD_WIRE, 0, WEIR__RECEIVE_BAD_RECORD);
    wire[5] ^= 1;
    wire[RECORD_WIRE - 1] ^= 0x80;
    expect_each(f, wire, RECORD_WIRE, 0, WEIR__RECEIVE_BAD_RECORD);
    wire[RECORD_WIRE - 1] ^= 0x80;
    wire[RECORD_WIRE + 700] ^= 4;
    expect_each(f, wire, 3 * RECORD_WIRE, RECORD_PLAIN, WEIR__RECEIVE_BAD_RECORD);
    free(wire);
}

static void out_of_order(struct engine_fixture *f)
{
    uint8_t *wire = capture(f, 3);

    expect_each(f, wire + RECORD_WIRE, RECORD_WIRE, 0, WEIR__RECEIVE_BAD_RECORD);
    memcpy(wire + RECORD_WIRE, wire + (size_t)2 * RECORD_WIRE, RECORD_WIRE);
    expect_each(f, wire, (size_t)2 * RECORD_WIRE, RECORD_PLAIN, WEIR__RECEIVE_BAD_RECORD);
    memcpy(wire + RECORD_WIRE, wire, RECORD_WIRE);
    expect_each(f, wire, (size_t)2 * RECORD_WIRE, RECORD_PLAIN, WEIR__RECEIVE_BAD_RECORD);
    free(wire);
}

static void no_records(struct engine_fixture *f)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    static const uint8_t large[64] = {23, 3, 3, 0x50, 0};
    static const uint8_t version[64] = {23, 2, 3, 0, 0x30};
    static const uint8_t small[64] = {23, 3, 3, 0, 3};

    expect_each(f, request, sizeof(request), 0, WEIR__RECEIVE_MALFORMED);
    expect_each(f, large, sizeof(large), 0, WEIR__RECEIVE_OVERSIZED);
    expect_each(f, version, sizeof(version), 0, WEIR__RECEIVE_MALFORMED);
    expect_each(f, small, sizeof(small), 0, WEIR__RECEIVE_BAD_RECORD);
    for (enum when when = WAITING; when <= WATCHED; when++) {
        expect(f, WEIR__TLS_1_2, request, sizeof(request), 0, WEIR__RECEIVE_MALFORMED, when);
        expect(f, WEIR__TLS_1_2, large, sizeof(large), 0, WEIR__RECEIVE_OVERSIZED, when);
        expect(f, WEIR__TLS_1_2, small, sizeof(small), 0, WEIR__RECEIVE_BAD_RECORD, when);
    }
}

static void no_record_behind_a_record(struct engine_fixture *f)
{
    uint8_t *wire = capture(f, 2);

    memcpy(wire + RECORD_WIRE, "GET / HTTP/1.1", 14);
    expect_each(f, wire, (size_t)2 * RECORD_WIRE, RECORD_PLAIN, WEIR__RECEIVE_MALFORMED);
    free(wire);
}

/* The kernel tells the first who calls, which is the sender. It sends, and the reader is told. */
static void sender_meets_it_first(struct engine_fixture *f)
{
    static const char request[] = "GET / HTTP/1.1\r\n\r\n";
    struct record send, receive, peer;
    struct ktls_pair k;

    for (int waiting = 0; waiting < 2; waiting++) {
        half_open(&k, f, WEIR__TLS_1_3);
        ktls_receive_init(&receive, f, &k.pair.server, NULL, 0);
        ktls_receive_init(&peer, f, &k.pair.client, NULL, 0);
        record_submit(&peer);
        if (waiting)
            record_submit(&receive);
        assert_int_equal(send_at_once(k.pair.client.handle, request, sizeof(request)), 0);
        record_init(&send, f, WEIR__OP_SEND, &k.pair.server);
        record_send_all(&send, "answer", 6, 0);
        wait_until_length(f, &peer.length, 28);
        if (!waiting)
            record_submit(&receive);
        assert_int_equal(record_finish(&receive), WEIR__RECEIVE_MALFORMED);
        record_submit(&receive);
        assert_int_equal(record_finish(&receive), WEIR__RECEIVE_MALFORMED);
        record_send_all(&send, "more", 4, 0);
        wait_until_length(f, &peer.length, 28 + 26);
        record_cancel_and_finish(&peer);
        pair_close(&k.pair);
    }
}

static void expect_pattern(const struct record *receive, size_t offset)
{
    uint8_t *expected = malloc(receive->length);

    assert_non_null(expected);
    pattern_fill(expected, receive->length, offset);
    assert_memory_equal(receive->bytes, expected, receive->length);
    free(expected);
}

/* In pieces of any size; a part of a record is nothing yet, and costs no time while it waits. */
static void records_in_pieces(struct engine_fixture *f)
{
    enum { RECORDS = 8 };
    static const size_t pieces[] = {1, 7, 700, 1023, 1025, 3000};
    uint8_t *wire = capture(f, RECORDS), got[RECORDS * RECORD_PLAIN];
    struct record send, receive;
    struct ktls_pair k;

    for (size_t i = 0; i < ARRAY_COUNT(pieces); i++) {
        size_t length = pieces[i] < 100 ? RECORD_WIRE : RECORDS * RECORD_WIRE;
        half_open(&k, f, WEIR__TLS_1_3);
        ktls_receive_init(&receive, f, &k.pair.server, got, sizeof(got));
        record_submit(&receive);
        record_init(&send, f, WEIR__OP_SEND, &k.pair.client);
        for (size_t at = 0; at < length; at += pieces[i]) {
            size_t left = length - at;
            record_send_all(&send, wire + at, left < pieces[i] ? left : pieces[i], 0);
            wait_for(f, KTLS_MS / 4);
        }
        wait_until_length(f, &receive.length, length / RECORD_WIRE * RECORD_PLAIN);
        expect_pattern(&receive, 0);
        record_cancel_and_finish(&receive);
        pair_close(&k.pair);
    }
    free(wire);
}

static void part_of_a_record_does_not_spin(struct engine_fixture *f)
{
    uint8_t *wire = capture(f, 1), got[RECORD_PLAIN];
    struct record send, receive, watch;
    struct ktls_pair k;

    half_open(&k, f, WEIR__TLS_1_3);
    ktls_receive_init(&receive, f, &k.pair.server, got, sizeof(got));
    record_init(&watch, f, WEIR__OP_WATCH, &k.pair.server);
    record_submit(&receive);
    record_submit(&watch);
    record_init(&send, f, WEIR__OP_SEND, &k.pair.client);
    record_send_all(&send, wire, 1000, 0);
    wait_for(f, 10 * KTLS_MS);
    uint64_t before = thread_time_ns();
    wait_for(f, 400 * KTLS_MS);
    assert_in_range(thread_time_ns() - before, 0, 130 * KTLS_MS);
    assert_int_equal(receive.length, 0);
    record_send_all(&send, wire + 1000, RECORD_WIRE - 1000, 0);
    wait_until_length(f, &receive.length, RECORD_PLAIN);
    expect_pattern(&receive, 0);
    record_cancel_and_finish(&watch);
    record_cancel_and_finish(&receive);
    pair_close(&k.pair);
    free(wire);
}

/* Records that came before the key, whole and in part, some of them received already, as ciphertext. */
static void key_comes_late(struct engine_fixture *f)
{
    enum { RECORDS = 12 };
    struct weir__tls_keys keys = ktls_keys(WEIR__TLS_1_3, WEIR__TLS_AES_128_GCM, 1);
    uint8_t *wire = capture(f, RECORDS), got[RECORDS * RECORD_PLAIN];
    struct record send, receive;
    struct ktls_pair k;

    for (size_t before = 0; before <= RECORDS * RECORD_WIRE; before += 700) {
        ktls_plain_open(&k, f);
        record_init(&send, f, WEIR__OP_SEND, &k.pair.client);
        if (before > 0)
            record_send_all(&send, wire, before, 0);
        wait_for(f, KTLS_MS);
        ktls_attach_one(f, &k.pair.server, WEIR__TLS_RX, &keys);
        ktls_receive_init(&receive, f, &k.pair.server, got, sizeof(got));
        record_submit(&receive);
        wait_until_length(f, &receive.length, before / RECORD_WIRE * RECORD_PLAIN);
        if (before < RECORDS * RECORD_WIRE)
            record_send_all(&send, wire + before, RECORDS * RECORD_WIRE - before, 0);
        wait_until_length(f, &receive.length, sizeof(got));
        expect_pattern(&receive, 0);
        record_cancel_and_finish(&receive);
        pair_close(&k.pair);
    }
    free(wire);
}

struct stream {
    const uint8_t *wire;
    size_t sent;
    struct record send;
};

static void send_next(struct stream *stream, size_t records)
{
    for (size_t i = 0; i < records; i++) {
        assert_int_equal(
            send_at_once(stream->send.op.socket->handle, stream->wire + stream->sent, RECORD_WIRE),
            0);
        stream->sent += RECORD_WIRE;
    }
}

/*
 * RECEIVE is cancelled to attach the key while the peer goes on sending: what its last completions brought
 * is ciphertext, what comes behind is plaintext, and no byte is lost or told twice.
 */
static void switched_under_load(struct engine_fixture *f)
{
    enum { RECORDS = 40 };
    struct weir__tls_keys keys = ktls_keys(WEIR__TLS_1_3, WEIR__TLS_AES_128_GCM, 1);
    uint8_t *wire = capture(f, RECORDS), got[RECORDS * RECORD_WIRE];
    struct stream stream = {.wire = wire};
    struct record receive;
    struct ktls_pair k;

    for (size_t before = 0; before < 24; before++) {
        ktls_plain_open(&k, f);
        stream.sent = 0;
        record_init(&stream.send, f, WEIR__OP_SEND, &k.pair.client);
        ktls_receive_init(&receive, f, &k.pair.server, got, sizeof(got));
        record_submit(&receive);
        for (size_t i = 0; i < before; i++) {
            send_next(&stream, 1);
            if (i % 3 == 0)
                wait_for(f, KTLS_MS / 10);
        }
        record_cancel(&receive);
        send_next(&stream, before % 5);
        assert_int_equal(record_finish(&receive), WEIR_ECANCELLED);
        send_next(&stream, before % 4);
        size_t raw = receive.length;
        assert_int_equal(raw % RECORD_WIRE, 0);
        assert_memory_equal(got, wire, raw);
        keys.sequence = KTLS_SEQUENCE + raw / RECORD_WIRE;
        ktls_attach_one(f, &k.pair.server, WEIR__TLS_RX, &keys);
        receive.length = 0;
        record_submit(&receive);
        send_next(&stream, RECORDS - stream.sent / RECORD_WIRE);
        wait_until_length(f, &receive.length, (RECORDS - raw / RECORD_WIRE) * RECORD_PLAIN);
        expect_pattern(&receive, raw / RECORD_WIRE * RECORD_PLAIN);
        record_cancel_and_finish(&receive);
        pair_close(&k.pair);
    }
    free(wire);
}

static const uint8_t key_update[] = {24, 0, 0, 1, 0};

/* One side changes its key and says so; the data behind it waits until the other has it, too. */
static void rekey_one_way(struct ktls_pair *k, struct record *receive, size_t round,
                          struct ktls_events *events)
{
    struct engine_fixture *f = k->pair.f;
    struct weir__tls_keys keys =
        ktls_keys(WEIR__TLS_1_3, WEIR__TLS_AES_128_GCM, (unsigned)round + 3);
    struct record send;

    keys.sequence = 0;
    record_init(&send, f, WEIR__OP_SEND, &k->pair.client);
    record_send_all(&send, "old key", 7, 0);
    ktls_send_all(&send, key_update, sizeof(key_update), WEIR__TLS_HANDSHAKE);
    ktls_attach_one(f, &k->pair.client, WEIR__TLS_TX, &keys);
    record_send_all(&send, "new key", 7, 0);
    assert_int_equal(record_finish(receive), WEIR__RECEIVE_KEY_EXPIRED);
    assert_int_equal(events->runs[events->count - 1].type, WEIR__TLS_HANDSHAKE);
    assert_int_equal(receive->length, (round + 1) * 19 - 7);
    if (round % 2) {
        record_submit(receive);
        assert_int_equal(record_finish(receive), WEIR__RECEIVE_KEY_EXPIRED);
    }
    ktls_attach_one(f, &k->pair.server, WEIR__TLS_RX, &keys);
    record_submit(receive);
    wait_until_length(f, &receive->length, (round + 1) * 19);
    assert_int_equal(events->runs[events->count - 1].type, 0);
}

static void keys_change(struct engine_fixture *f)
{
    const struct weir__tls_keys keys = ktls_keys(WEIR__TLS_1_3, WEIR__TLS_AES_128_GCM, 3);
    struct ktls_events events = {.count = 0};
    struct record receive, send;
    struct ktls_pair k;
    uint64_t sequence;

    ktls_pair_open(&k, f, WEIR__TLS_1_3, WEIR__TLS_AES_128_GCM);
    ktls_receive_init(&receive, f, &k.pair.server, NULL, 0);
    ktls_events_keep(&events, &receive);
    record_submit(&receive);
    if (!f->ops->tls_can_rekey(f->engine)) {
        assert_int_equal(f->ops->socket_tls_attach(f->engine, &k.pair.client, WEIR__TLS_TX, &keys),
                         WEIR_ENOTSUP);
        record_init(&send, f, WEIR__OP_SEND, &k.pair.client);
        record_send_all(&send, "old key", 7, 0);
        wait_until_length(f, &receive.length, 7);
    } else {
        for (size_t round = 0; round < 6; round++)
            rekey_one_way(&k, &receive, round, &events);
        assert_int_equal(f->ops->socket_tls_sequence(f->engine, &k.pair.client, &sequence), 0);
        assert_int_equal(sequence, 1);
        /* Whether the kernel keeps something back is known under the new keys, too. */
        record_init(&send, f, WEIR__OP_SEND, &k.pair.client);
        ktls_send_all(&send, "\1", 2, WEIR__TLS_ALERT);
    }
    record_cancel_and_finish(&receive);
    pair_close(&k.pair);
}

/* TLS 1.2 has no way to change keys but a handshake, which Weir does not do twice. */
static void keys_of_1_2_do_not_change(struct engine_fixture *f)
{
    const struct weir__tls_keys keys = ktls_keys(WEIR__TLS_1_2, WEIR__TLS_AES_128_GCM, 3);
    struct record receive, send;
    struct ktls_pair k;

    ktls_pair_open(&k, f, WEIR__TLS_1_2, WEIR__TLS_AES_128_GCM);
    assert_int_equal(f->ops->socket_tls_attach(f->engine, &k.pair.client, WEIR__TLS_TX, &keys),
                     WEIR_ENOTSUP);
    ktls_receive_init(&receive, f, &k.pair.server, NULL, 0);
    record_submit(&receive);
    record_init(&send, f, WEIR__OP_SEND, &k.pair.client);
    record_send_all(&send, "as before", 9, 0);
    wait_until_length(f, &receive.length, 9);
    record_cancel_and_finish(&receive);
    pair_close(&k.pair);
}

static const struct engine_test tests[] = {
    {.name = "tampered records", .run = tampered, .kernel = true},
    {.name = "records out of order", .run = out_of_order, .kernel = true},
    {.name = "no records at all", .run = no_records, .kernel = true},
    {.name = "no record behind a record", .run = no_record_behind_a_record, .kernel = true},
    {.name = "sender meets it first", .run = sender_meets_it_first, .kernel = true},
    {.name = "records in pieces", .run = records_in_pieces, .kernel = true},
    {.name = "part of a record does not spin",
     .run = part_of_a_record_does_not_spin,
     .kernel = true},
    {.name = "key comes late", .run = key_comes_late, .kernel = true},
    {.name = "switched under load", .run = switched_under_load, .kernel = true},
    {.name = "keys change", .run = keys_change, .kernel = true},
    {.name = "keys of TLS 1.2 do not change", .run = keys_of_1_2_do_not_change, .kernel = true},
};

int main(void)
{
    return engine_suite_run("ktls_peer", tests, ARRAY_COUNT(tests));
}
