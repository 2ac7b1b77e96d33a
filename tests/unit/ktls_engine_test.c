/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel TLS as engine.h has it, on every engine: fixed keys, no handshake. What a bad peer sends:
 * ktls_peer_test.c. Where the kernel has no TLS, all but the refusal is skipped.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/socket.h"
#include "support/ktls_fixture.h"

#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Whatever was refused, what is sent and received stays as it is. */
static void refused_leaves_the_socket(struct engine_fixture *f)
{
    struct weir__tls_keys keys = ktls_keys(WEIR__TLS_1_3, WEIR__TLS_AES_128_GCM, 1);
    struct record send, receive;
    struct pair pair;
    uint64_t sequence;
    uint8_t got[16];

    pair_open(&pair, f, true);
    if (ktls_here(f))
        keys.cipher = WEIR__TLS_CIPHER_NONE;
    assert_int_equal(f->ops->socket_tls_attach(f->engine, &pair.client, WEIR__TLS_TX, &keys),
                     WEIR_ENOTSUP);
    assert_int_equal(f->ops->socket_tls_attach(f->engine, &pair.server, WEIR__TLS_RX, &keys),
                     WEIR_ENOTSUP);
    assert_false(pair.client.tls_tx);
    assert_false(pair.server.tls_rx);
    assert_int_equal(f->ops->socket_tls_sequence(f->engine, &pair.client, &sequence), WEIR_ENOTSUP);
    ktls_receive_init(&receive, f, &pair.server, got, sizeof(got));
    record_init(&send, f, WEIR__OP_SEND, &pair.client);
    record_submit(&receive);
    record_send_all(&send, "still here", 10, 0);
    wait_until_length(f, &receive.length, 10);
    assert_memory_equal(got, "still here", 10);
    record_cancel_and_finish(&receive);
    pair_close(&pair);
}

static void refused_without_a_connection(struct engine_fixture *f)
{
    const struct weir__tls_keys keys = ktls_keys(WEIR__TLS_1_3, WEIR__TLS_AES_128_GCM, 1);
    struct weir__socket socket = {.handle = -1};

    ktls_needed(f);
    assert_int_equal(f->ops->socket_open(f->engine, &socket, AF_INET), 0);
    assert_int_equal(f->ops->socket_tls_attach(f->engine, &socket, WEIR__TLS_TX, &keys),
                     WEIR_ERESET);
    assert_false(socket.tls_tx);
    f->ops->socket_close(f->engine, &socket);
}

static void send_both_ways(struct ktls_pair *k, size_t size)
{
    struct engine_fixture *f = k->pair.f;
    struct record send, receive;
    uint8_t *bytes = malloc(size), *got = malloc(size);

    assert_non_null(bytes);
    assert_non_null(got);
    pattern_fill(bytes, size, size);
    for (int i = 0; i < 2; i++) {
        struct weir__socket *from = i ? &k->pair.server : &k->pair.client;
        memset(got, 0, size);
        ktls_receive_init(&receive, f, i ? &k->pair.client : &k->pair.server, got, size);
        record_submit(&receive);
        record_init(&send, f, WEIR__OP_SEND, from);
        record_send_all(&send, bytes, size, 0);
        wait_until_length(f, &receive.length, size);
        assert_memory_equal(got, bytes, size);
        record_cancel_and_finish(&receive);
    }
    free(bytes);
    free(got);
}

static const struct {
    uint16_t version;
    enum weir__tls_cipher cipher;
    unsigned overhead;
} suites[] = {
    {WEIR__TLS_1_3, WEIR__TLS_AES_128_GCM, 22},
    {WEIR__TLS_1_3, WEIR__TLS_AES_256_GCM, 22},
    {WEIR__TLS_1_3, WEIR__TLS_CHACHA20_POLY1305, 22},
    {WEIR__TLS_1_2, WEIR__TLS_AES_128_GCM, 29},
    {WEIR__TLS_1_2, WEIR__TLS_AES_256_GCM, 29},
    {WEIR__TLS_1_2, WEIR__TLS_CHACHA20_POLY1305, 21},
};

static void bytes_both_ways(struct engine_fixture *f)
{
    static const size_t sizes[] = {1, 2, 16383, 16384, 16385, 32768, 300000};
    struct ktls_pair k;

    for (size_t s = 0; s < ARRAY_COUNT(suites); s++) {
        ktls_pair_open(&k, f, suites[s].version, suites[s].cipher);
        for (size_t i = 0; i < ARRAY_COUNT(sizes); i++)
            send_both_ways(&k, sizes[i]);
        pair_close(&k.pair);
    }
}

/* The sequence number, and with it the length of all records, which TCP's count confirms. */
static void sequence_counts_records(struct engine_fixture *f)
{
    struct weir__socket_info info;
    struct ktls_pair k;
    uint64_t sequence = 0, bytes = 0;

    for (size_t s = 0; s < ARRAY_COUNT(suites); s++) {
        ktls_pair_open(&k, f, suites[s].version, suites[s].cipher);
        assert_int_equal(f->ops->socket_tls_sequence(f->engine, &k.pair.client, &sequence), 0);
        assert_int_equal(sequence, KTLS_SEQUENCE);
        send_both_ways(&k, 40000);
        assert_int_equal(f->ops->socket_tls_sequence(f->engine, &k.pair.client, &sequence), 0);
        assert_in_range(sequence, KTLS_SEQUENCE + 3, KTLS_SEQUENCE + 40);
        uint64_t wire = 40000 + suites[s].overhead * (sequence - KTLS_SEQUENCE);
        for (int i = 0; i < 500 && bytes < wire; i++) {
            assert_int_equal(f->ops->socket_info(f->engine, &k.pair.client, &info), 0);
            bytes = info.bytes_acked;
            wait_for(f, KTLS_MS);
        }
        assert_int_equal(bytes, wire);
        assert_int_equal(f->ops->socket_unacked(f->engine, &k.pair.client, &bytes), WEIR_ENOTSUP);
        bytes = 0;
        pair_close(&k.pair);
    }
}

static void files(struct engine_fixture *f)
{
    enum { FILE_BYTES = 3000000 };
    int file = pattern_file(FILE_BYTES);
    static uint8_t expected[FILE_BYTES], got[FILE_BYTES];
    struct record send, receive;
    struct ktls_pair k;

    pattern_fill(expected, FILE_BYTES, 0);
    ktls_pair_open(&k, f, WEIR__TLS_1_3, WEIR__TLS_AES_256_GCM);
    ktls_receive_init(&receive, f, &k.pair.server, got, FILE_BYTES);
    record_submit(&receive);
    record_init(&send, f, WEIR__OP_SEND, &k.pair.client);
    record_send_all(&send, expected, 100, WEIR__SEND_MORE);
    record_send_file_all(&send, file, 100, FILE_BYTES - 100, 0);
    wait_until_length(f, &receive.length, FILE_BYTES);
    assert_memory_equal(got, expected, FILE_BYTES);
    record_cancel_and_finish(&receive);
    pair_close(&k.pair);
    close(file);
}

/* Records of another type come in order with data, and never together with it. */
static void control_records_in_order(struct engine_fixture *f)
{
    static const struct {
        uint8_t type;
        size_t length;
    } sent[] = {{0, 5000}, {21, 2}, {0, 1}, {22, 300}, {22, 5}, {0, 20000}, {21, 2}},
      runs[] = {{0, 5000}, {21, 2}, {0, 1}, {22, 305}, {0, 20000}, {21, 2}};
    struct ktls_events events = {.count = 0};
    struct record send, receive;
    struct ktls_pair k;
    uint8_t bytes[20000], got[26000];
    size_t total = 0;

    pattern_fill(bytes, sizeof(bytes), 7);
    ktls_pair_open(&k, f, WEIR__TLS_1_3, WEIR__TLS_AES_128_GCM);
    ktls_receive_init(&receive, f, &k.pair.server, got, sizeof(got));
    ktls_events_keep(&events, &receive);
    record_submit(&receive);
    record_init(&send, f, WEIR__OP_SEND, &k.pair.client);
    for (size_t i = 0; i < ARRAY_COUNT(sent); i++) {
        ktls_send_all(&send, bytes, sent[i].length, sent[i].type);
        total += sent[i].length;
    }
    wait_until_length(f, &receive.length, total);
    assert_int_equal(events.count, ARRAY_COUNT(runs));
    for (size_t i = 0; i < ARRAY_COUNT(runs); i++) {
        assert_int_equal(events.runs[i].type, runs[i].type);
        assert_int_equal(events.runs[i].length, runs[i].length);
    }
    for (size_t i = 0, at = 0; i < ARRAY_COUNT(sent); at += sent[i].length, i++)
        assert_memory_equal(got + at, bytes, sent[i].length);
    record_cancel_and_finish(&receive);
    pair_close(&k.pair);
}

/* The loop does without stamps: io_uring's receive is another one then. */
static void without_delivery(struct engine_fixture *f)
{
    static const struct weir__engine_options options = {
        .delivery = false, .receive_bytes = 4096 - 128, .receive_buffers = 16};
    struct weir__engine *with = f->engine;

    ktls_needed(f);
    assert_int_equal(f->ops->open(&f->engine, &options), 0);
    control_records_in_order(f);
    f->ops->close(f->engine);
    f->engine = with;
}

static uint64_t wire_end(struct engine_fixture *f, struct weir__socket *socket, uint64_t plaintext)
{
    uint64_t sequence = 0;

    assert_int_equal(f->ops->socket_tls_sequence(f->engine, socket, &sequence), 0);
    return plaintext + 22 * (sequence - KTLS_SEQUENCE);
}

/* Keys count wire bytes from when stamps were enabled, those before the attach included. */
static void stamps_name_the_last_byte(struct engine_fixture *f)
{
    static const size_t sizes[] = {1, 100, 16384, 16385, 70000};
    uint8_t bytes[70000] = {0};
    struct record send, receive, watch;
    struct ktls_pair k;
    uint64_t plaintext = 33;

    ktls_plain_open(&k, f);
    record_init(&send, f, WEIR__OP_SEND, &k.pair.client);
    record_send_all(&send, bytes, 33, 0);
    ktls_receive_init(&receive, f, &k.pair.server, NULL, 0);
    record_submit(&receive);
    wait_until_length(f, &receive.length, 33);
    record_cancel_and_finish(&receive);
    ktls_attach(&k, WEIR__TLS_1_3, WEIR__TLS_AES_128_GCM);
    record_init(&watch, f, WEIR__OP_WATCH, &k.pair.client);
    record_submit(&watch);
    record_submit(&receive);
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        record_send_all(&send, bytes, 50, 0);
        record_send_all(&send, bytes, sizes[i], WEIR__SEND_STAMP);
        plaintext += 50 + sizes[i];
        uint32_t key = (uint32_t)wire_end(f, &k.pair.client, plaintext) - 1;
        wait_until_stamp(&watch, WEIR__STAMP_SENT, key);
        wait_until_stamp(&watch, WEIR__STAMP_ACKED, key);
    }
    unsigned count = watch.stamp_count;
    record_send_all(&send, bytes, 1000, 0);
    wait_for(f, 60 * KTLS_MS);
    assert_int_equal(watch.stamp_count, count);
    record_cancel_and_finish(&watch);
    record_cancel_and_finish(&receive);
    pair_close(&k.pair);
}

static void stamps_of_files(struct engine_fixture *f)
{
    enum { FILE_BYTES = 200000 };
    int file = pattern_file(FILE_BYTES);
    struct record send, receive, watch;
    struct ktls_pair k;

    ktls_pair_open(&k, f, WEIR__TLS_1_3, WEIR__TLS_AES_128_GCM);
    record_init(&watch, f, WEIR__OP_WATCH, &k.pair.client);
    record_submit(&watch);
    ktls_receive_init(&receive, f, &k.pair.server, NULL, 0);
    record_submit(&receive);
    record_init(&send, f, WEIR__OP_SEND, &k.pair.client);
    record_send_file_all(&send, file, 0, FILE_BYTES, WEIR__SEND_STAMP);
    uint32_t key = (uint32_t)wire_end(f, &k.pair.client, FILE_BYTES) - 1;
    wait_until_stamp(&watch, WEIR__STAMP_ACKED, key);
    record_cancel_and_finish(&watch);
    record_cancel_and_finish(&receive);
    pair_close(&k.pair);
    close(file);
}

/* The peer reads late: the TLS layer has the end of the last record when the send is over. */
static void stamp_behind_a_full_buffer(struct engine_fixture *f)
{
    enum { BYTES = 8 << 20 };
    static uint8_t bytes[BYTES];
    struct record send, receive, watch;
    struct ktls_pair k;
    size_t taken;

    ktls_pair_open(&k, f, WEIR__TLS_1_3, WEIR__TLS_AES_128_GCM);
    record_init(&watch, f, WEIR__OP_WATCH, &k.pair.client);
    record_submit(&watch);
    record_init(&send, f, WEIR__OP_SEND, &k.pair.client);
    taken = ktls_send_until_blocked(&send, bytes, BYTES, WEIR__SEND_STAMP);
    record_cancel_and_finish(&send);
    ktls_receive_init(&receive, f, &k.pair.server, NULL, 0);
    record_submit(&receive);
    wait_until_length(f, &receive.length, taken);
    uint32_t key = (uint32_t)wire_end(f, &k.pair.client, taken) - 1;
    wait_until_stamp(&watch, WEIR__STAMP_ACKED, key);
    record_cancel_and_finish(&watch);
    record_cancel_and_finish(&receive);
    pair_close(&k.pair);
}

/* Reads what is there, at most `most`; 0: nothing, or the end. */
static size_t read_raw(const struct weir__socket *socket, size_t most)
{
    static uint8_t bytes[65536];
    ssize_t length =
        recv(socket->handle, bytes, most < sizeof(bytes) ? most : sizeof(bytes), MSG_DONTWAIT);

    return length > 0 ? (size_t)length : 0;
}

/* A window so small from the first segment on that records go out, and into TCP, in small pieces. */
static void narrow_open(struct ktls_pair *k, struct engine_fixture *f, int send_room)
{
    const struct weir__tls_keys keys = ktls_keys(WEIR__TLS_1_3, WEIR__TLS_AES_128_GCM, 1);
    const int receive_room = 2304;
    struct pair *pair = &k->pair;
    struct record accept, connect;

    memset(pair, 0, sizeof(*pair));
    pair->f = f;
    pair->client.handle = pair->server.handle = -1;
    listener_open(f, &pair->listener, &pair->address);
    assert_int_equal(setsockopt(pair->listener.handle, SOL_SOCKET, SO_RCVBUF, &receive_room,
                                sizeof(receive_room)),
                     0);
    assert_int_equal(f->ops->socket_open(f->engine, &pair->client, AF_INET), 0);
    record_init(&connect, f, WEIR__OP_CONNECT, &pair->client);
    connect.op.connect.address = &pair->address;
    record_submit(&connect);
    assert_int_equal(record_finish(&connect), 0);
    record_init(&accept, f, WEIR__OP_ACCEPT, &pair->listener);
    record_submit(&accept);
    wait_until(f, &accept.handle_count, 1);
    record_cancel_and_finish(&accept);
    f->ops->socket_adopt(f->engine, &pair->server, accept.handles[0]);
    if (send_room)
        assert_int_equal(
            setsockopt(pair->client.handle, SOL_SOCKET, SO_SNDBUF, &send_room, sizeof(send_room)),
            0);
    ktls_attach_one(f, &pair->client, WEIR__TLS_TX, &keys);
}

/*
 * The fact that all this is for, and that weir__socket_holds knows: FIN at once loses the end of what was
 * taken, FIN when nothing is kept any more does not.
 */
static void what_is_kept_is_known(struct engine_fixture *f)
{
    static const uint8_t bytes[100000];
    const struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = sizeof(bytes)};

    ktls_needed(f);
    for (int patient = 0; patient < 2; patient++) {
        uint64_t plaintext = 0;
        size_t got = 0, all;
        struct record receive;
        struct ktls_pair k;
        int64_t taken;

        narrow_open(&k, f, 4608);
        assert_int_equal(weir__socket_holds(&k.pair.client), 0);
        while ((taken = weir__socket_send(&k.pair.client, &part, 1, 0, 0)) > 0)
            plaintext += (uint64_t)taken;
        assert_int_equal(taken, WEIR__WOULD_BLOCK);
        assert_int_equal(weir__socket_holds(&k.pair.client), WEIR__WOULD_BLOCK);
        for (int i = 0; patient && i < 20000 && weir__socket_holds(&k.pair.client) != 0; i++) {
            got += read_raw(&k.pair.server, 1000);
            wait_for(f, KTLS_MS / 20);
        }
        all = wire_end(f, &k.pair.client, plaintext);
        assert_int_equal(f->ops->socket_shutdown(f->engine, &k.pair.client), 0);
        ktls_receive_init(&receive, f, &k.pair.server, NULL, 0);
        record_submit(&receive);
        assert_int_equal(record_finish(&receive), 0);
        got += receive.length;
        if (patient)
            assert_int_equal(got, all);
        else
            assert_in_range(got, 1, all - 1);
        pair_close(&k.pair);
    }
}

/* A record that TCP has no room for: taken at once, and kept for the most part. */
enum { KEPT_BYTES = 16000 };

static void send_what_is_kept(struct ktls_pair *k, struct engine_fixture *f, struct record *send)
{
    static const uint8_t bytes[KEPT_BYTES];

    ktls_needed(f);
    narrow_open(k, f, 4608);
    record_init(send, f, WEIR__OP_SEND, &k->pair.client);
    ktls_send(send, bytes, sizeof(bytes), WEIR__TLS_HANDSHAKE);
    wait_for(f, 20 * KTLS_MS);
    assert_int_equal(send->final_count, 0);
}

/* A SEND of a control record is over when FIN, or a new key, may follow. */
static void control_record_is_not_kept(struct engine_fixture *f)
{
    struct record send, receive;
    struct ktls_pair k;
    size_t got = 0;

    for (size_t step = 300; step < 20000; step *= 4) {
        send_what_is_kept(&k, f, &send);
        got = 0;
        for (int i = 0; i < 20000 && send.final_count == 0; i++) {
            got += read_raw(&k.pair.server, step);
            wait_for(f, KTLS_MS / 20);
        }
        assert_int_equal(record_finish(&send), KEPT_BYTES);
        assert_int_equal(f->ops->socket_shutdown(f->engine, &k.pair.client), 0);
        ktls_receive_init(&receive, f, &k.pair.server, NULL, 0);
        record_submit(&receive);
        assert_int_equal(record_finish(&receive), 0);
        assert_int_equal(got + receive.length, KEPT_BYTES + 22);
        pair_close(&k.pair);
    }
}

/* It was taken, and cancelling says so. */
static void control_record_is_cancelled(struct engine_fixture *f)
{
    struct record send;
    struct ktls_pair k;

    send_what_is_kept(&k, f, &send);
    record_cancel(&send);
    assert_int_equal(record_finish(&send), KEPT_BYTES);
    pair_close(&k.pair);
    send_what_is_kept(&k, f, &send);
    f->ops->socket_reset(f->engine, &k.pair.server);
    int64_t result = record_finish(&send);
    assert_true(result == KEPT_BYTES || result == WEIR_ERESET);
    pair_close(&k.pair);
}

static void connection_ends_in_good_order(struct engine_fixture *f)
{
    struct record client, server, watch;
    struct ktls_pair k;

    ktls_pair_open(&k, f, WEIR__TLS_1_3, WEIR__TLS_AES_128_GCM);
    ktls_receive_init(&client, f, &k.pair.client, NULL, 0);
    ktls_receive_init(&server, f, &k.pair.server, NULL, 0);
    record_init(&watch, f, WEIR__OP_WATCH, &k.pair.client);
    record_submit(&client);
    record_submit(&server);
    record_submit(&watch);
    assert_int_equal(f->ops->socket_shutdown(f->engine, &k.pair.client), 0);
    assert_int_equal(record_finish(&server), 0);
    assert_int_equal(f->ops->socket_shutdown(f->engine, &k.pair.server), 0);
    assert_int_equal(record_finish(&client), 0);
    assert_int_equal(record_finish(&watch), 0);
    pair_close(&k.pair);
}

static void connection_is_reset(struct engine_fixture *f)
{
    struct record receive, watch, send;
    struct ktls_pair k;

    for (int watched = 0; watched < 2; watched++) {
        ktls_pair_open(&k, f, WEIR__TLS_1_3, WEIR__TLS_AES_128_GCM);
        ktls_receive_init(&receive, f, &k.pair.client, NULL, 0);
        record_init(&watch, f, WEIR__OP_WATCH, &k.pair.client);
        record_init(&send, f, WEIR__OP_SEND, &k.pair.client);
        record_submit(&receive);
        if (watched)
            record_submit(&watch);
        f->ops->socket_reset(f->engine, &k.pair.server);
        assert_int_equal(record_finish(&receive), WEIR_ERESET);
        if (watched)
            assert_int_equal(record_finish(&watch), WEIR_ERESET);
        record_send(&send, "x", 1, 0);
        assert_int_equal(record_finish(&send), WEIR_ERESET);
        ktls_send(&send, "xx", 2, WEIR__TLS_ALERT);
        assert_int_equal(record_finish(&send), WEIR_ERESET);
        pair_close(&k.pair);
    }
}

/* Statistics of the namespace: the kernel really did it. */
static void kernel_counts_the_sockets(struct engine_fixture *f)
{
    struct ktls_pair k;

    ktls_plain_open(&k, f);
    unsigned long long tx = ktls_stat("TlsTxSw"), rx = ktls_stat("TlsRxSw");
    ktls_attach(&k, WEIR__TLS_1_3, WEIR__TLS_AES_128_GCM);
    assert_int_equal(ktls_stat("TlsTxSw"), tx + 2);
    assert_int_equal(ktls_stat("TlsRxSw"), rx + 2);
    pair_close(&k.pair);
}

static const struct engine_test tests[] = {
    {.name = "refused, and the socket as before", .run = refused_leaves_the_socket},
    {.name = "refused without a connection", .run = refused_without_a_connection, .kernel = true},
    {.name = "bytes both ways", .run = bytes_both_ways, .kernel = true},
    {.name = "sequence counts records", .run = sequence_counts_records, .kernel = true},
    {.name = "files", .run = files, .kernel = true},
    {.name = "control records in order", .run = control_records_in_order, .kernel = true},
    {.name = "without delivery", .run = without_delivery, .kernel = true},
    {.name = "stamps name the last byte", .run = stamps_name_the_last_byte, .kernel = true},
    {.name = "stamps of files", .run = stamps_of_files, .kernel = true},
    {.name = "stamp behind a full buffer", .run = stamp_behind_a_full_buffer, .kernel = true},
    {.name = "what is kept is known", .run = what_is_kept_is_known, .kernel = true},
    {.name = "control record is not kept", .run = control_record_is_not_kept, .kernel = true},
    {.name = "control record is cancelled", .run = control_record_is_cancelled, .kernel = true},
    {.name = "connection ends in good order", .run = connection_ends_in_good_order, .kernel = true},
    {.name = "connection is reset", .run = connection_is_reset, .kernel = true},
    {.name = "kernel counts the sockets", .run = kernel_counts_the_sockets, .kernel = true},
};

int main(void)
{
    return engine_suite_run("ktls_engine", tests, ARRAY_COUNT(tests));
}
