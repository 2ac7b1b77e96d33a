/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <weir/error.h>

#include "core/memory.h"
#include "support/memory_fail.h"
#include "support/tls_session_end.h"
#include "support/tls_toy.h"

/* What the session's messages look like in an end's log. */
#define ALERT(description) "control:21:2:" description " "
#define UNEXPECTED         ALERT("10")
#define DECODE_ERROR       ALERT("50")

static struct session_end client, server;

static void open_both(uint16_t version, bool tickets)
{
    const struct session_options options = {
        .version = version,
        .cipher = WEIR__TLS_AES_128_GCM,
        .tickets = tickets,
    };

    tls_toy_seed(1);
    assert_int_equal(session_end_init(&client, false, &options), 0);
    assert_int_equal(session_end_init(&server, true, &options), 0);
}

static void connect_both(uint16_t version)
{
    open_both(version, false);
    assert_int_equal(session_ends_connect(&client, &server), 0);
    assert_true(client.session.open && server.session.open);
    assert_string_equal(session_end_log(&client),
                        version == WEIR__TLS_1_3 ? "opened:304 " : "opened:303 ");
    session_end_log(&server);
}

static int close_both(void **state)
{
    (void)state;
    session_end_dispose(&client);
    session_end_dispose(&server);
    return memory_fail_live() == 0 ? 0 : -1;
}

/* An authentic record of one end's, given to the other. */
static int give_to(struct session_end *to, struct session_end *from, uint8_t type,
                   const void *content, size_t length)
{
    uint8_t *record = from->wire + from->wire_length;

    assert_true(from->wire_length + WEIR__TLS_RECORD_MAX <= sizeof(from->wire));
    from->wire_length += session_end_craft(from, type, content, length, record);
    return session_end_feed(to, from);
}

static int give(uint8_t type, const void *content, size_t length)
{
    return give_to(&server, &client, type, content, length);
}

static void assert_failed(int result, const char *log, const char *failure)
{
    assert_int_equal(result, WEIR_ETLS);
    assert_string_equal(session_end_log(&server), log);
    assert_string_equal(server.session.failure, failure);
    /* Nothing is heard of it any more. */
    assert_int_equal(session_end_feed(&server, &client), WEIR_ETLS);
    assert_int_equal(weir__tls_session_content(&server.session, WEIR__TLS_APPLICATION_DATA,
                                               (const uint8_t *)"x", 1),
                     WEIR_ETLS);
    assert_int_equal(weir__tls_session_fail(&server.session, WEIR__TLS_INTERNAL_ERROR, "again"),
                     WEIR_ETLS);
    assert_string_equal(session_end_log(&server), "");
    assert_string_equal(server.session.failure, failure);
}

/* ---- data, alerts, the end ---- */

static void data_goes_both_ways(void **state)
{
    static const uint16_t versions[] = {WEIR__TLS_1_2, WEIR__TLS_1_3};

    for (unsigned i = 0; i < 2; i++) {
        connect_both(versions[i]);
        assert_int_equal(give(23, "abc", 3), 0);
        assert_string_equal(session_end_log(&server), "data:3 ");
        assert_int_equal(give_to(&client, &server, 23, "defg", 4), 0);
        assert_string_equal(session_end_log(&client), "data:4 ");
        /* The library is let go with the first data at the latest. */
        assert_null(client.session.user->handshake);
        assert_null(server.session.user->handshake);
        if (i == 0)
            close_both(state);
    }
}

static void behind_close_notify_nothing_is_heard(void **state)
{
    static const uint8_t close_notify[] = {1, 0}, odd[] = {2, 99};

    (void)state;
    connect_both(WEIR__TLS_1_3);
    assert_int_equal(give(21, close_notify, 2), 0);
    assert_string_equal(session_end_log(&server), "closed ");
    assert_int_equal(give(23, "abc", 3), 0);
    assert_int_equal(give(21, odd, 2), 0);
    assert_int_equal(weir__tls_session_content(&server.session, WEIR__TLS_APPLICATION_DATA,
                                               (const uint8_t *)"x", 1),
                     0);
    assert_string_equal(session_end_log(&server), "");
    assert_false(server.session.failed);
}

static void who_wants_no_more_data_gets_none(void **state)
{
    (void)state;
    connect_both(WEIR__TLS_1_3);
    server.refuses_data = true;
    assert_int_equal(give(23, "abc", 3), 0);
    assert_int_equal(give(23, "abc", 3), 0);
    assert_string_equal(session_end_log(&server), "data:3 ");
}

static void a_fatal_alert_is_not_answered(void **state)
{
    static const uint8_t alert[] = {2, 40};

    (void)state;
    connect_both(WEIR__TLS_1_2);
    assert_failed(give(21, alert, 2), "", "the peer sent alert 40");
}

static void in_tls_1_3_every_alert_is_the_end(void **state)
{
    static const uint8_t warning[] = {1, 40};

    (void)state;
    connect_both(WEIR__TLS_1_3);
    assert_failed(give(21, warning, 2), "", "the peer sent alert 40");
}

static void warnings_of_tls_1_2_are_counted(void **state)
{
    static const uint8_t warning[] = {1, 40};

    (void)state;
    connect_both(WEIR__TLS_1_2);
    for (unsigned i = 0; i < WEIR__TLS_QUIET_RECORDS_MAX; i++)
        assert_int_equal(give(21, warning, 2), 0);
    assert_failed(give(21, warning, 2), UNEXPECTED, "the peer sends records without data");
}

static void a_user_may_cancel(void **state)
{
    static const uint8_t cancelled[] = {1, 90}, close_notify[] = {1, 0};

    (void)state;
    connect_both(WEIR__TLS_1_3);
    assert_int_equal(give(21, cancelled, 2), 0);
    assert_int_equal(give(21, close_notify, 2), 0);
    assert_string_equal(session_end_log(&server), "closed ");
}

static void alerts_have_two_bytes(void **state)
{
    static const uint8_t alert[] = {1, 0, 0};

    (void)state;
    connect_both(WEIR__TLS_1_3);
    assert_failed(give(21, alert, 3), DECODE_ERROR, "an alert of odd length");
}

/* ---- records ---- */

static void empty_records_are_counted(void **state)
{
    (void)state;
    connect_both(WEIR__TLS_1_3);
    for (unsigned i = 0; i < WEIR__TLS_QUIET_RECORDS_MAX; i++)
        assert_int_equal(give(23, "", 0), 0);
    assert_int_equal(give(23, "x", 1), 0);
    for (unsigned i = 0; i < WEIR__TLS_QUIET_RECORDS_MAX; i++)
        assert_int_equal(give(23, "", 0), 0);
    assert_string_equal(session_end_log(&server), "data:1 ");
    assert_failed(give(23, "", 0), UNEXPECTED, "the peer sends records without data");
}

static void what_is_no_record_is_refused(void **state)
{
    (void)state;
    connect_both(WEIR__TLS_1_3);
    memcpy(client.wire + client.wire_length, "GET / HTTP/1.1", 14);
    client.wire_length += 14;
    assert_failed(session_end_feed(&server, &client), UNEXPECTED, "bytes that are no record");
}

static void a_changed_byte_is_found(void **state)
{
    (void)state;
    connect_both(WEIR__TLS_1_3);
    client.wire_length +=
        session_end_craft(&client, 23, "abc", 3, client.wire + client.wire_length);
    client.wire[client.wire_length - 1] ^= 1;
    assert_failed(session_end_feed(&server, &client), ALERT("20"),
                  "a record that cannot be opened");
}

static void change_cipher_spec_is_out_of_place(void **state)
{
    (void)state;
    connect_both(WEIR__TLS_1_2);
    assert_failed(give(20, "\1", 1), UNEXPECTED, "a record that cannot be opened");
    close_both(state);
    connect_both(WEIR__TLS_1_3);
    /* From a kernel, which leaves it to us. */
    assert_failed(weir__tls_session_content(&server.session, WEIR__TLS_CHANGE_CIPHER_SPEC,
                                            (const uint8_t *)"\1", 1),
                  UNEXPECTED, "a record out of place");
}

/* ---- handshake messages behind the handshake ---- */

static void renegotiation_is_declined_and_counted(void **state)
{
    static const uint8_t client_hello[] = {1, 0, 0, 2, 3, 3}, hello_request[] = {0, 0, 0, 0};
    char expected[1024] = "";

    connect_both(WEIR__TLS_1_2);
    assert_int_equal(give_to(&client, &server, 22, hello_request, 4), 0);
    assert_string_equal(session_end_log(&client), "control:21:1:100 ");
    close_both(state);
    connect_both(WEIR__TLS_1_2);
    for (unsigned i = 0; i < WEIR__TLS_QUIET_RECORDS_MAX; i++) {
        assert_int_equal(give(22, client_hello, 6), 0);
        strcat(expected, "control:21:1:100 ");
    }
    assert_string_equal(session_end_log(&server), expected);
    assert_failed(give(22, client_hello, 6), UNEXPECTED, "the peer sends records without data");
}

static void messages_out_of_place_are_refused(void **state)
{
    /* Finished; a KeyUpdate in TLS 1.2; HelloRequest to a server, and in TLS 1.3; a ticket to a server. */
    static const struct {
        uint16_t version;
        uint8_t message[5];
        uint8_t length;
    } cases[] = {
        {WEIR__TLS_1_2, {20, 0, 0, 1, 0}, 5}, {WEIR__TLS_1_3, {20, 0, 0, 1, 0}, 5},
        {WEIR__TLS_1_2, {24, 0, 0, 1, 0}, 5}, {WEIR__TLS_1_2, {0, 0, 0, 0}, 4},
        {WEIR__TLS_1_3, {1, 0, 0, 0}, 4},     {WEIR__TLS_1_3, {4, 0, 0, 1, 0}, 5},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (i > 0)
            close_both(state);
        connect_both(cases[i].version);
        assert_failed(give(22, cases[i].message, cases[i].length), UNEXPECTED,
                      "a handshake message out of place");
    }
}

static void tickets_may_come_in_pieces(void **state)
{
    static const uint8_t ticket[] = {4, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8};
    uint8_t two[sizeof(ticket) + 5];

    (void)state;
    connect_both(WEIR__TLS_1_3);
    assert_int_equal(give_to(&client, &server, 22, ticket, 6), 0);
    assert_int_equal(client.session.skip_bytes, 6);
    memcpy(two, ticket + 6, 6);
    memcpy(two + 6, ticket, 10);
    assert_int_equal(give_to(&client, &server, 22, two, 16), 0);
    assert_int_equal(client.session.skip_bytes, 2);
    assert_int_equal(give_to(&client, &server, 22, ticket + 10, 2), 0);
    assert_int_equal(give_to(&client, &server, 23, "x", 1), 0);
    assert_string_equal(session_end_log(&client), "data:1 ");
}

static void a_message_is_not_broken_off(void **state)
{
    static const uint8_t ticket[] = {4, 0, 0, 8, 1};

    (void)state;
    connect_both(WEIR__TLS_1_3);
    assert_int_equal(give_to(&client, &server, 22, ticket, 5), 0);
    assert_int_equal(give_to(&client, &server, 23, "x", 1), WEIR_ETLS);
    assert_string_equal(session_end_log(&client), UNEXPECTED);
    assert_string_equal(client.session.failure, "a handshake message is broken off");
}

static void the_head_of_a_message_is_in_one_piece(void **state)
{
    static const uint8_t head[] = {24, 0, 0};

    (void)state;
    connect_both(WEIR__TLS_1_3);
    assert_failed(give(22, head, 3), DECODE_ERROR, "a handshake message in pieces");
}

static void a_message_has_a_bound(void **state)
{
    static const uint8_t head[] = {4, 2, 0, 0};

    (void)state;
    connect_both(WEIR__TLS_1_3);
    assert_failed(give(22, head, 4), DECODE_ERROR, "a handshake message that is too long");
}

/* ---- KeyUpdate ---- */

static const uint8_t key_update[] = {24, 0, 0, 1, 0};

static void odd_key_updates_are_refused(void **state)
{
    static const struct {
        uint8_t message[8];
        uint8_t length;
        const char *log, *failure;
    } cases[] = {
        {{24, 0, 0, 1, 2}, 5, ALERT("47"), "an odd KeyUpdate"},
        {{24, 0, 0, 2, 0, 0}, 6, DECODE_ERROR, "a KeyUpdate of odd length"},
        {{24, 0, 0, 0}, 4, DECODE_ERROR, "a KeyUpdate of odd length"},
        {{24, 0, 0, 1}, 4, DECODE_ERROR, "a KeyUpdate in pieces"},
        {{24, 0, 0, 1, 0, 24}, 6, UNEXPECTED, "bytes behind a KeyUpdate"},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (i > 0)
            close_both(state);
        connect_both(WEIR__TLS_1_3);
        assert_failed(give(22, cases[i].message, cases[i].length), cases[i].log, cases[i].failure);
    }
}

static void keys_change_and_data_goes_on(void **state)
{
    (void)state;
    connect_both(WEIR__TLS_1_3);
    assert_int_equal(weir__tls_session_update_keys(&client.session, true), 0);
    assert_string_equal(session_end_log(&client), "control:22:24:1:keys ");
    assert_int_equal(give(23, "abc", 3), 0);
    /* The answer asks for none. */
    assert_string_equal(session_end_log(&server), "control:22:24:0:keys data:3 ");
    assert_int_equal(give_to(&client, &server, 23, "abc", 3), 0);
    assert_string_equal(session_end_log(&client), "data:3 ");
    assert_int_equal(weir__tls_session_sealer(&client.session)->keys.sequence, 1);
}

static void the_old_key_is_good_no_more(void **state)
{
    (void)state;
    connect_both(WEIR__TLS_1_3);
    assert_int_equal(give(22, key_update, 5), 0);
    assert_failed(give(23, "abc", 3), ALERT("20"), "a record that cannot be opened");
}

static void tls_1_2_has_no_new_keys(void **state)
{
    (void)state;
    connect_both(WEIR__TLS_1_2);
    assert_int_equal(weir__tls_session_update_keys(&client.session, true), WEIR_ENOTSUP);
    assert_string_equal(session_end_log(&client), "");
}

static int update_and_say_something(size_t length)
{
    static const uint8_t zeros[WEIR__TLS_PLAIN_MAX];
    int error = weir__tls_session_update_keys(&client.session, false);

    assert_int_equal(error, 0);
    if (client.wire_length > SESSION_WIRE_MAX / 2)
        client.wire_length = client.wire_read = 0;
    error = session_end_feed(&server, &client);
    return error ? error : give(23, zeros, length);
}

static void key_updates_have_a_credit(void **state)
{
    (void)state;
    connect_both(WEIR__TLS_1_3);
    for (unsigned i = 0; i < WEIR__TLS_KEY_UPDATES_MAX; i++)
        assert_int_equal(update_and_say_something(1), 0);
    assert_int_equal(server.session.key_updates, 0);
    session_end_log(&server);
    assert_failed(update_and_say_something(1), UNEXPECTED, "the peer changes its keys too often");
}

static void data_is_good_for_another_key_update(void **state)
{
    static const uint8_t zeros[WEIR__TLS_PLAIN_MAX];
    (void)state;
    connect_both(WEIR__TLS_1_3);
    for (unsigned i = 0; i < WEIR__TLS_KEY_UPDATES_MAX; i++)
        assert_int_equal(update_and_say_something(1), 0);
    for (size_t bytes = 0; bytes < WEIR__TLS_KEY_UPDATE_CREDIT; bytes += sizeof(zeros)) {
        client.wire_length = client.wire_read = 0;
        assert_int_equal(give(23, zeros, sizeof(zeros)), 0);
    }
    assert_int_equal(server.session.key_updates, 1);
    assert_int_equal(update_and_say_something(1), 0);
    assert_int_equal(update_and_say_something(1), WEIR_ETLS);
}

/* ---- with the kernel ---- */

static void a_kernel_is_told_of_the_peers_new_key(void **state)
{
    struct weir__tls_keys before, after;

    (void)state;
    connect_both(WEIR__TLS_1_3);
    weir__tls_session_release(&server.session, WEIR__TLS_RX);
    assert_non_null(weir__tls_session_sealer(&server.session));
    weir__tls_session_release(&server.session, WEIR__TLS_TX);
    assert_null(server.session.user);
    assert_int_equal(weir__tls_session_keys(&server.session, WEIR__TLS_RX, &before), 0);
    assert_int_equal(weir__tls_session_content(&server.session, WEIR__TLS_HANDSHAKE, key_update,
                                               sizeof(key_update)),
                     0);
    assert_string_equal(session_end_log(&server), "rx ");
    assert_int_equal(weir__tls_session_keys(&server.session, WEIR__TLS_RX, &after), 0);
    assert_memory_not_equal(before.key, after.key, 16);
    assert_int_equal(weir__tls_session_keys(&server.session, WEIR__TLS_TX, &before), 0);
    assert_int_equal(weir__tls_session_next_tx(&server.session, &after), 0);
    assert_memory_not_equal(before.key, after.key, 16);
    assert_null(weir__tls_session_sealer(&server.session));
}

static void without_secrets_a_key_update_is_not_supported(void **state)
{
    (void)state;
    connect_both(WEIR__TLS_1_3);
    server.session.secret_length = 0;
    assert_int_equal(give(22, key_update, 5), WEIR_ENOTSUP);
    assert_int_equal(weir__tls_session_update_keys(&server.session, false), WEIR_ENOTSUP);
    assert_string_equal(session_end_log(&server), "");
}

/* ---- the handshake ---- */

static void a_client_keeps_what_it_can_resume_with(void **state)
{
    (void)state;
    open_both(WEIR__TLS_1_3, true);
    assert_int_equal(session_ends_connect(&client, &server), 0);
    assert_non_null(client.session.user->handshake);
    assert_int_equal(client.session.resumption_length, 0);
    assert_int_equal(give_to(&client, &server, 23, "x", 1), 0);
    assert_null(client.session.user->handshake);
    assert_true(client.session.resumption_length > 0);
}

static void what_is_no_handshake_gets_an_alert_in_the_clear(void **state)
{
    static const uint8_t alert[] = {21, 3, 3, 0, 2, 2, 10};

    (void)state;
    open_both(WEIR__TLS_1_3, false);
    memcpy(client.wire, "GET / HTTP/1.1", 14);
    client.wire_length = 14;
    assert_int_equal(session_end_feed(&server, &client), WEIR_ETLS);
    assert_string_equal(session_end_log(&server), "");
    assert_int_equal(server.wire_length, sizeof(alert));
    assert_memory_equal(server.wire, alert, sizeof(alert));
}

/* A record of the largest size, again and again, of a library that always wants one more. */
static int advance_for_ever(struct weir__tls_handshake *handshake, const uint8_t *record,
                            size_t length)
{
    (void)handshake;
    (void)record;
    (void)length;
    return WEIR__TLS_MORE;
}

static void a_handshake_has_a_bound(void **state)
{
    static uint8_t record[WEIR__TLS_HEADER + WEIR__TLS_PLAIN_MAX] = {22, 3, 3, 64, 0};
    static uint8_t room[WEIR__TLS_PLAIN_MAX + WEIR__TLS_EXPAND_MAX];
    struct weir__tls_vendor vendor = weir__tls_toy;
    int error = 0;

    (void)state;
    open_both(WEIR__TLS_1_3, false);
    vendor.advance = advance_for_ever;
    server.session.vendor = &vendor;
    for (size_t bytes = 0; bytes + sizeof(record) <= WEIR__TLS_HANDSHAKE_BYTES_MAX;
         bytes += sizeof(record)) {
        error = weir__tls_session_receive(&server.session, record, sizeof(record), room);
        assert_int_equal(error, 0);
    }
    error = weir__tls_session_receive(&server.session, record, sizeof(record), room);
    assert_int_equal(error, WEIR_ETLS);
    assert_string_equal(server.session.failure, "the handshake is too long");
    assert_int_equal(server.wire_length, 7);
    assert_int_equal(server.wire[6], 40);
    server.session.vendor = &weir__tls_toy;
}

static int says_no_keys(struct weir__tls_handshake *handshake, struct weir__tls_result *result)
{
    (void)handshake;
    (void)result;
    return WEIR_ENOTSUP;
}

static void a_library_that_says_no_keys_is_of_no_use(void **state)
{
    struct weir__tls_vendor vendor = weir__tls_toy;

    (void)state;
    open_both(WEIR__TLS_1_3, false);
    vendor.result = says_no_keys;
    server.session.vendor = &vendor;
    assert_int_equal(session_ends_connect(&client, &server), WEIR_ETLS);
    assert_string_equal(server.session.failure, "the library does not say the keys");
    assert_false(server.session.open);
    server.session.vendor = &weir__tls_toy;
}

static void whom_the_owner_has_no_memory_for_is_ended(void **state)
{
    (void)state;
    open_both(WEIR__TLS_1_3, false);
    server.opened_fails = true;
    assert_int_equal(session_ends_connect(&client, &server), WEIR_ENOMEM);
}

static void an_answer_without_memory_is_said(void **state)
{
    static const uint8_t asks[] = {24, 0, 0, 1, 1};

    (void)state;
    connect_both(WEIR__TLS_1_3);
    server.control_fails = true;
    assert_int_equal(give(22, asks, 5), WEIR_ENOMEM);
}

/* ---- each allocation fails once ---- */

/* Everything that allocates; stops at the first error. */
static int live_once(uint16_t version)
{
    const struct session_options options = {
        .version = version, .cipher = WEIR__TLS_CHACHA20_POLY1305, .tickets = true};
    int error;

    tls_toy_seed(1);
    error = session_end_init(&client, false, &options);
    if (!error)
        error = session_end_init(&server, true, &options);
    if (!error)
        error = session_ends_connect(&client, &server);
    if (!error)
        error = give(23, "abc", 3);
    if (!error)
        error = give_to(&client, &server, 23, "abc", 3);
    if (!error && version == WEIR__TLS_1_3)
        error = weir__tls_session_update_keys(&client.session, true);
    if (!error)
        error = give(23, "abc", 3);
    return error ? error : give_to(&client, &server, 23, "abc", 3);
}

static void memory_that_is_out_is_an_error_or_no_matter(void **state)
{
    static const uint16_t versions[] = {WEIR__TLS_1_2, WEIR__TLS_1_3};
    int error;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned nth = 1;; nth++) {
            assert_true(nth < 200);
            memset(&client, 0, sizeof(client));
            memset(&server, 0, sizeof(server));
            memory_fail_at(nth);
            error = live_once(versions[i]);
            bool failed = memory_fail_happened();
            memory_fail_at(0);
            session_end_dispose(&client);
            session_end_dispose(&server);
            assert_int_equal(memory_fail_live(), 0);
            if (!failed)
                break;
            assert_true(error == 0 || error == WEIR_ENOMEM);
        }
        assert_int_equal(error, 0);
    }
}

#define TEST(name) cmocka_unit_test_teardown(name, close_both)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(data_goes_both_ways),
        TEST(behind_close_notify_nothing_is_heard),
        TEST(who_wants_no_more_data_gets_none),
        TEST(a_fatal_alert_is_not_answered),
        TEST(in_tls_1_3_every_alert_is_the_end),
        TEST(warnings_of_tls_1_2_are_counted),
        TEST(a_user_may_cancel),
        TEST(alerts_have_two_bytes),
        TEST(empty_records_are_counted),
        TEST(what_is_no_record_is_refused),
        TEST(a_changed_byte_is_found),
        TEST(change_cipher_spec_is_out_of_place),
        TEST(renegotiation_is_declined_and_counted),
        TEST(messages_out_of_place_are_refused),
        TEST(tickets_may_come_in_pieces),
        TEST(a_message_is_not_broken_off),
        TEST(the_head_of_a_message_is_in_one_piece),
        TEST(a_message_has_a_bound),
        TEST(odd_key_updates_are_refused),
        TEST(keys_change_and_data_goes_on),
        TEST(the_old_key_is_good_no_more),
        TEST(tls_1_2_has_no_new_keys),
        TEST(key_updates_have_a_credit),
        TEST(data_is_good_for_another_key_update),
        TEST(a_kernel_is_told_of_the_peers_new_key),
        TEST(without_secrets_a_key_update_is_not_supported),
        TEST(a_client_keeps_what_it_can_resume_with),
        TEST(what_is_no_handshake_gets_an_alert_in_the_clear),
        TEST(a_handshake_has_a_bound),
        TEST(a_library_that_says_no_keys_is_of_no_use),
        TEST(whom_the_owner_has_no_memory_for_is_ended),
        TEST(an_answer_without_memory_is_said),
        cmocka_unit_test(memory_that_is_out_is_an_error_or_no_matter),
    };

    memory_fail_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
