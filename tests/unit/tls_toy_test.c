/* SPDX-License-Identifier: Apache-2.0 */
#include "support/tls_toy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <weir/error.h>

#include "support/memory_fail.h"
#include "tls/record.h"

#define WIRE_MAX 8192

/* One side, and the records that it has sent. */
struct side {
    struct weir__tls_vendor_context *context;
    struct weir__tls_handshake *handshake;
    uint8_t sent[WIRE_MAX];
    size_t sent_length;
    int outcome; /* of its last step */
};

/* What becomes of the records on their way: `flip_at` counts bytes of both directions. */
struct wire {
    size_t carried;
    size_t flip_at;
    uint8_t flip;
    bool version_byte; /* that is what was hit */
};

static const struct weir__tls_vendor *const toy = &weir__tls_toy;
static struct weir__tls_ticket_keys tickets = {.keys = {{.name = "key of the toys"}}, .count = 1};
static const char *const alpn[] = {"h2", "http/1.1"};

static int side_emit(void *context, const uint8_t *bytes, size_t length)
{
    struct side *side = context;

    assert_true(length <= WIRE_MAX - side->sent_length);
    assert_int_equal(weir__tls_frame(bytes, length, 0), length);
    memcpy(side->sent + side->sent_length, bytes, length);
    side->sent_length += length;
    return 0;
}

static int side_start(struct side *side, const struct weir__tls_config *config,
                      struct weir__tls_handshake_options options)
{
    struct weir__tls_complaint complaint;

    *side = (struct side){.outcome = WEIR__TLS_MORE};
    options.emit = side_emit;
    options.emit_context = side;
    int error = toy->context_new(&side->context, config, &complaint);
    return error ? error : toy->handshake_new(&side->handshake, side->context, &options);
}

static void side_stop(struct side *side)
{
    toy->handshake_free(side->handshake);
    toy->context_free(side->context);
}

static struct weir__tls_config config_of(bool server, uint16_t version)
{
    static const struct weir__tls_certificate certificate = {"none.pem", "none.pem"};

    return (struct weir__tls_config){
        .server = server,
        .version_min = WEIR__TLS_1_2,
        .version_max = version,
        .certificates = &certificate,
        .certificate_count = server,
        .peer = server ? WEIR__TLS_PEER_UNASKED : WEIR__TLS_PEER_REQUIRED,
        .alpn = alpn,
        .alpn_count = 2,
        .tickets = &tickets,
    };
}

static void wire_carry(struct wire *wire, uint8_t *record, size_t length)
{
    if (wire->flip && wire->flip_at >= wire->carried && wire->flip_at < wire->carried + length) {
        size_t at = wire->flip_at - wire->carried;
        wire->version_byte = at == 2;
        record[at] ^= wire->flip;
    }
    wire->carried += length;
}

/* Gives what `from` has sent to `to`, until that is done or has failed. */
static void deliver(struct side *from, struct side *to, struct wire *wire)
{
    size_t at = 0;

    while (at < from->sent_length && to->outcome == WEIR__TLS_MORE) {
        size_t length = (size_t)weir__tls_frame(from->sent + at, from->sent_length - at, 0);
        wire_carry(wire, from->sent + at, length);
        to->outcome = toy->advance(to->handshake, from->sent + at, length);
        at += length;
    }
    from->sent_length -= at;
    memmove(from->sent, from->sent + at, from->sent_length);
}

static void run(struct side *client, struct side *server, struct wire *wire)
{
    client->outcome = toy->advance(client->handshake, NULL, 0);
    for (unsigned i = 0; i < 6; i++) {
        deliver(client, server, wire);
        deliver(server, client, wire);
    }
}

static void assert_agree(struct side *client, struct side *server, struct weir__tls_result *results)
{
    assert_int_equal(client->outcome, WEIR__TLS_DONE);
    assert_int_equal(server->outcome, WEIR__TLS_DONE);
    assert_int_equal(toy->result(client->handshake, &results[0]), 0);
    assert_int_equal(toy->result(server->handshake, &results[1]), 0);
    assert_memory_equal(results[0].tx.keys.key, results[1].rx.keys.key, WEIR__TLS_KEY_MAX);
    assert_memory_equal(results[0].rx.keys.key, results[1].tx.keys.key, WEIR__TLS_KEY_MAX);
    assert_memory_equal(results[0].tx.keys.iv, results[1].rx.keys.iv, WEIR__TLS_NONCE);
    assert_memory_equal(results[0].rx.keys.iv, results[1].tx.keys.iv, WEIR__TLS_NONCE);
    assert_memory_not_equal(results[0].tx.keys.key, results[0].rx.keys.key, 16);
    assert_memory_equal(results[0].tx.secret, results[1].rx.secret, WEIR__TLS_HASH_MAX);
    assert_int_equal(results[0].version, results[1].version);
    assert_string_equal(results[0].cipher_name, results[1].cipher_name);
    assert_string_equal(results[0].alpn, results[1].alpn);
    assert_int_equal(results[0].resumed, results[1].resumed);
}

static void check_handshake(uint16_t version, enum weir__tls_cipher cipher, const char *name)
{
    struct weir__tls_config client_config = config_of(false, version);
    struct weir__tls_config server_config = config_of(true, WEIR__TLS_1_3);
    struct weir__tls_handshake_options options = {.server_name = "toys.example"};
    static struct side client, server;
    struct weir__tls_result results[2];
    struct wire wire = {.flip = 0};

    client_config.ciphers = 1u << cipher;
    assert_int_equal(side_start(&client, &client_config, options), 0);
    assert_int_equal(side_start(&server, &server_config, options), 0);
    run(&client, &server, &wire);
    assert_agree(&client, &server, results);
    assert_int_equal(results[0].version, version);
    assert_int_equal(results[0].tx.keys.cipher, cipher);
    assert_string_equal(results[0].cipher_name, name);
    assert_string_equal(results[0].alpn, "h2");
    assert_string_equal(results[1].server_name, "toys.example");
    assert_true(results[0].peer_certificate);
    assert_false(results[0].resumed);
    if (version == WEIR__TLS_1_3) {
        assert_int_equal(results[1].tx.keys.sequence, 2);
        assert_int_equal(results[0].rx.keys.sequence, 0);
        assert_int_equal(results[0].tx.keys.sequence, 0);
    } else {
        assert_int_equal(results[1].tx.keys.sequence, 1);
        assert_int_equal(results[0].rx.keys.sequence, 1);
    }
    side_stop(&client);
    side_stop(&server);
}

static void test_handshakes(void **state)
{
    (void)state;
    check_handshake(WEIR__TLS_1_3, WEIR__TLS_AES_128_GCM, "TLS_AES_128_GCM_SHA256");
    check_handshake(WEIR__TLS_1_3, WEIR__TLS_AES_256_GCM, "TLS_AES_256_GCM_SHA384");
    check_handshake(WEIR__TLS_1_3, WEIR__TLS_CHACHA20_POLY1305, "TLS_CHACHA20_POLY1305_SHA256");
    check_handshake(WEIR__TLS_1_2, WEIR__TLS_AES_128_GCM,
                    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
    check_handshake(WEIR__TLS_1_2, WEIR__TLS_AES_256_GCM,
                    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384");
    check_handshake(WEIR__TLS_1_2, WEIR__TLS_CHACHA20_POLY1305,
                    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256");
}

/* Takes the server's two tickets as Weir does: it opens them, and passes them on. */
static void tickets_take(struct side *client, struct side *server)
{
    struct weir__tls_result result;
    struct weir__tls_protector open;
    struct weir__tls_opened opened;
    static uint8_t room[WEIR__TLS_PLAIN_MAX + WEIR__TLS_EXPAND_MAX];
    size_t at = 0;

    assert_int_equal(toy->result(client->handshake, &result), 0);
    assert_int_equal(weir__tls_protector_init(&open, &toy->ciphers, &result.rx.keys, false), 0);
    for (unsigned i = 0; i < 2; i++) {
        size_t length = (size_t)weir__tls_frame(server->sent + at, server->sent_length - at, 0);
        assert_int_equal(server->sent[at], WEIR__TLS_APPLICATION_DATA);
        assert_int_equal(weir__tls_open(&open, server->sent + at, length, room, &opened), 0);
        assert_int_equal(opened.type, WEIR__TLS_HANDSHAKE);
        assert_int_equal(opened.data[0], 4);
        assert_int_equal(toy->post_record(client->handshake, server->sent + at, length), 0);
        at += length;
    }
    assert_int_equal(at, server->sent_length);
    weir__tls_protector_dispose(&open);
}

static void check_resumption(uint16_t version)
{
    struct weir__tls_config client_config = config_of(false, version);
    struct weir__tls_config server_config = config_of(true, version);
    struct weir__tls_handshake_options options = {.server_name = "toys.example"};
    static struct side client, server;
    struct weir__tls_result results[2];
    struct wire wire = {.flip = 0};
    uint8_t saved[300];

    assert_int_equal(side_start(&client, &client_config, options), 0);
    assert_int_equal(side_start(&server, &server_config, options), 0);
    run(&client, &server, &wire);
    if (version == WEIR__TLS_1_3) {
        assert_int_equal(toy->session_save(client.handshake, saved, sizeof(saved)), 0);
        tickets_take(&client, &server);
    }
    assert_int_equal(toy->session_save(client.handshake, saved, 20), WEIR_ENOBUFS);
    int length = toy->session_save(client.handshake, saved, sizeof(saved));
    assert_true(length > 0);
    side_stop(&client);
    side_stop(&server);

    options.resume = saved;
    options.resume_length = (size_t)length;
    assert_int_equal(side_start(&client, &client_config, options), 0);
    assert_int_equal(side_start(&server, &server_config, options), 0);
    run(&client, &server, &wire);
    assert_agree(&client, &server, results);
    assert_true(results[0].resumed);
    side_stop(&client);
    side_stop(&server);

    /* Other ticket keys, or none: a full handshake, and no tickets. */
    const struct weir__tls_ticket_keys none = {.count = 0};
    assert_int_equal(side_start(&client, &client_config, options), 0);
    assert_int_equal(side_start(&server, &server_config, options), 0);
    assert_int_equal(toy->context_set_tickets(server.context, &none), 0);
    run(&client, &server, &wire);
    assert_agree(&client, &server, results);
    assert_false(results[0].resumed);
    assert_int_equal(results[1].tx.keys.sequence, version == WEIR__TLS_1_3 ? 0 : 1);
    side_stop(&client);
    side_stop(&server);
}

static void test_resumption(void **state)
{
    (void)state;
    check_resumption(WEIR__TLS_1_3);
    check_resumption(WEIR__TLS_1_2);
}

static void test_nothing_in_common(void **state)
{
    struct weir__tls_config client_config = config_of(false, WEIR__TLS_1_2);
    struct weir__tls_config server_config = config_of(true, WEIR__TLS_1_3);
    struct weir__tls_handshake_options options = {.server_name = NULL};
    static struct side client, server;
    struct wire wire = {.flip = 0};

    (void)state;
    server_config.version_min = WEIR__TLS_1_3;
    assert_int_equal(side_start(&client, &client_config, options), 0);
    assert_int_equal(side_start(&server, &server_config, options), 0);
    client.outcome = toy->advance(client.handshake, NULL, 0);
    deliver(&client, &server, &wire);
    assert_int_equal(server.outcome, WEIR_ETLS);
    assert_string_equal(toy->failure(server.handshake), "nothing in common");
    const uint8_t alert[] = {21, 3, 3, 0, 2, 2, WEIR__TLS_PROTOCOL_VERSION};
    assert_int_equal(server.sent_length, sizeof(alert));
    assert_memory_equal(server.sent, alert, sizeof(alert));
    deliver(&server, &client, &wire);
    assert_int_equal(client.outcome, WEIR_ETLS);
    assert_int_equal(client.sent_length, 0);
    side_stop(&client);
    side_stop(&server);
}

/* Returns false when `flip_at` is beyond the last byte. */
static bool check_tampering(uint16_t version, size_t flip_at)
{
    struct weir__tls_config client_config = config_of(false, version);
    struct weir__tls_config server_config = config_of(true, version);
    struct weir__tls_handshake_options options = {.server_name = "toys.example"};
    static struct side client, server;
    struct wire wire = {.flip_at = flip_at, .flip = (uint8_t)(1 << flip_at % 8)};

    assert_int_equal(side_start(&client, &client_config, options), 0);
    assert_int_equal(side_start(&server, &server_config, options), 0);
    run(&client, &server, &wire);
    /* A version's last byte is to be ignored outside of what is sealed (RFC 8446 section 5.1). */
    if (flip_at < wire.carried && !wire.version_byte) {
        assert_false(client.outcome == WEIR__TLS_DONE && server.outcome == WEIR__TLS_DONE);
        assert_true(client.outcome == WEIR_ETLS || server.outcome == WEIR_ETLS);
    }
    side_stop(&client);
    side_stop(&server);
    return flip_at < wire.carried;
}

static void test_tampering(void **state)
{
    size_t at = 0;

    (void)state;
    while (check_tampering(WEIR__TLS_1_3, at))
        at++;
    assert_true(at > 1000);
    at = 0;
    while (check_tampering(WEIR__TLS_1_2, at))
        at++;
    assert_true(at > 1000);
}

static void test_one_seed_gives_one_conversation(void **state)
{
    struct weir__tls_config config = config_of(false, WEIR__TLS_1_3);
    struct weir__tls_handshake_options options = {.server_name = "toys.example"};
    static struct side sides[3];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        tls_toy_seed(i / 2);
        assert_int_equal(side_start(&sides[i], &config, options), 0);
        assert_int_equal(toy->advance(sides[i].handshake, NULL, 0), WEIR__TLS_MORE);
    }
    assert_memory_equal(sides[0].sent, sides[1].sent, sides[0].sent_length);
    assert_memory_not_equal(sides[0].sent, sides[2].sent, sides[0].sent_length);
    for (unsigned i = 0; i < 3; i++)
        side_stop(&sides[i]);
}

static void test_out_of_memory(void **state)
{
    struct weir__tls_config client_config = config_of(false, WEIR__TLS_1_3);
    struct weir__tls_config server_config = config_of(true, WEIR__TLS_1_3);
    struct weir__tls_handshake_options options = {.server_name = "toys.example"};
    static struct side client, server;
    size_t live = memory_fail_live();
    bool failed = true;

    (void)state;
    for (unsigned nth = 1; failed; nth++) {
        struct wire wire = {.flip = 0};
        memory_fail_at(nth);
        int first = side_start(&client, &client_config, options);
        int second = side_start(&server, &server_config, options);
        if (!first && !second)
            run(&client, &server, &wire);
        failed = memory_fail_happened();
        memory_fail_at(0);
        assert_int_equal(failed, first == WEIR_ENOMEM || second == WEIR_ENOMEM ||
                                     client.outcome == WEIR_ENOMEM ||
                                     server.outcome == WEIR_ENOMEM);
        side_stop(&client);
        side_stop(&server);
        assert_int_equal(memory_fail_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handshakes),
        cmocka_unit_test(test_resumption),
        cmocka_unit_test(test_nothing_in_common),
        cmocka_unit_test(test_tampering),
        cmocka_unit_test(test_one_seed_gives_one_conversation),
        cmocka_unit_test(test_out_of_memory),
    };

    memory_fail_install();
    return cmocka_run_group_tests_name("tls_toy", tests, NULL, NULL);
}
