/* SPDX-License-Identifier: Apache-2.0 */
#include "net/send_policy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/engine.h"

#define MAX         (8u << 20)
#define BIG         (64u << 10)
#define SHARE       (MAX / WEIR__ZEROCOPY_STREAM_SHARE)
#define NOW         UINT64_C(5000000000)
#define COUNT(a)    (sizeof(a) / sizeof((a)[0]))
#define AUTO        WEIR_ZEROCOPY_AUTO
#define ON          WEIR_ZEROCOPY_ON
#define OFF         WEIR_ZEROCOPY_OFF
#define BECAUSE(it) WEIR_SEND_BECAUSE_##it

static struct weir_address address(const char *text)
{
    struct weir_address result;

    assert_int_equal(weir_address_parse(&result, text), 0);
    return result;
}

static struct weir__route *route_of(struct weir__send_policy *policy, const char *local,
                                    const char *peer)
{
    struct weir_address from = address(local), to = address(peer);

    return weir__send_policy_route(policy, &from, &to);
}

static struct weir__route *any_route(struct weir__send_policy *policy)
{
    return route_of(policy, "192.0.2.1:80", "198.51.100.7:5000");
}

static enum weir_send_reason ask(const struct weir__send_policy *policy, struct weir__route *route,
                                 uint64_t now_ns)
{
    const struct weir__send_question question = {.bytes = BIG, .route = route, .now_ns = now_ns};

    return weir__send_policy_ask(policy, &question).reason;
}

/* A send with a pin, and its end. */
static void notice(struct weir__send_policy *policy, struct weir__route *route, int result,
                   uint64_t now_ns)
{
    weir__send_policy_tried(policy, route);
    weir__send_policy_released(policy, route, BIG, result, true, now_ns);
}

static void test_each_reason_has_a_name_and_a_way(void **state)
{
    static const struct {
        const char *name;
        enum weir_send_way way;
    } expected[WEIR_SEND_REASONS] = {
        [BECAUSE(OFF)] = {"off", WEIR_SEND_COPY},
        [BECAUSE(SMALL)] = {"small", WEIR_SEND_COPY},
        [BECAUSE(HEAD)] = {"head", WEIR_SEND_COPY},
        [BECAUSE(ROUTE)] = {"route", WEIR_SEND_COPY},
        [BECAUSE(MEMORY)] = {"memory", WEIR_SEND_COPY},
        [BECAUSE(SLOW)] = {"slow", WEIR_SEND_COPY},
        [BECAUSE(REFUSED)] = {"refused", WEIR_SEND_COPY},
        [BECAUSE(TRIED)] = {"tried", WEIR_SEND_ZEROCOPY},
        [BECAUSE(PAYS)] = {"pays", WEIR_SEND_ZEROCOPY},
        [BECAUSE(ON)] = {"on", WEIR_SEND_ZEROCOPY},
        [BECAUSE(FILE)] = {"file", WEIR_SEND_FILE},
        [BECAUSE(KERNEL_TLS)] = {"ktls", WEIR_SEND_KERNEL_TLS},
    };

    (void)state;
    for (unsigned i = 0; i < WEIR_SEND_REASONS; i++) {
        enum weir_send_reason reason = (enum weir_send_reason)i;
        assert_string_equal(weir_send_reason_name(reason), expected[i].name);
        assert_int_equal(weir_send_reason_way(reason), expected[i].way);
        assert_true(strlen(weir_send_reason_text(reason)) > 0);
    }
    assert_string_equal(weir_send_way_name(WEIR_SEND_COPY), "copy");
    assert_string_equal(weir_send_way_name(WEIR_SEND_ZEROCOPY), "zerocopy");
    assert_string_equal(weir_send_way_name(WEIR_SEND_COPIED), "copied");
    assert_string_equal(weir_send_way_name(WEIR_SEND_FILE), "file");
    assert_string_equal(weir_send_way_name(WEIR_SEND_KERNEL_TLS), "ktls");
}

/* What decides before the route does; `pinned` by all connections. */
static const struct {
    const char *name;
    enum weir_zerocopy mode;
    struct weir__send_question question;
    uint64_t pinned, refused_until_ns;
    enum weir_send_reason reason;
} answers[] = {
    {"a file", ON, {.bytes = BIG, .file = true}, 0, 0, BECAUSE(FILE)},
    {"a file of one byte", OFF, {.bytes = 1, .file = true}, 0, 0, BECAUSE(FILE)},
    {"kernel TLS", ON, {.bytes = BIG, .kernel_tls = true}, 0, 0, BECAUSE(KERNEL_TLS)},
    {"a head", ON, {.bytes = BIG, .head = true}, 0, 0, BECAUSE(HEAD)},
    {"off", OFF, {.bytes = BIG}, 0, 0, BECAUSE(OFF)},
    {"small", ON, {.bytes = WEIR__ZEROCOPY_BYTES_MIN - 1}, 0, 0, BECAUSE(SMALL)},
    {"small and off", OFF, {.bytes = WEIR__ZEROCOPY_BYTES_MIN - 1}, 0, 0, BECAUSE(SMALL)},
    {"not small", ON, {.bytes = WEIR__ZEROCOPY_BYTES_MIN}, 0, 0, BECAUSE(ON)},
    {"on needs no route", ON, {.bytes = BIG}, 0, 0, BECAUSE(ON)},
    {"all memory", ON, {.bytes = MAX}, 0, 0, BECAUSE(ON)},
    {"more than all memory", ON, {.bytes = MAX + 1}, 0, 0, BECAUSE(MEMORY)},
    {"what is left", ON, {.bytes = BIG}, MAX - BIG, 0, BECAUSE(ON)},
    {"more than is left", ON, {.bytes = BIG}, MAX - BIG + 1, 0, BECAUSE(MEMORY)},
    {"nothing is left", ON, {.bytes = BIG}, MAX + 1, 0, BECAUSE(MEMORY)},
    {"a sum beyond 64 bits", ON, {.bytes = UINT64_MAX}, BIG, 0, BECAUSE(MEMORY)},
    {"on knows no share", ON, {.bytes = BIG, .pinned_bytes = SHARE}, SHARE, 0, BECAUSE(ON)},
    {"its share", AUTO, {.bytes = BIG, .pinned_bytes = SHARE - BIG}, 0, 0, BECAUSE(TRIED)},
    {"more than its share",
     AUTO,
     {.bytes = BIG, .pinned_bytes = SHARE - BIG + 1},
     0,
     0,
     BECAUSE(MEMORY)},
    {"refused", ON, {.bytes = BIG, .now_ns = NOW - 1}, 0, NOW, BECAUSE(REFUSED)},
    {"refused long ago", ON, {.bytes = BIG, .now_ns = NOW}, 0, NOW, BECAUSE(ON)},
    {"refused, by itself", AUTO, {.bytes = BIG, .now_ns = NOW - 1}, 0, NOW, BECAUSE(REFUSED)},
    {"far", AUTO, {.bytes = BIG, .rtt_us = WEIR__ZEROCOPY_RTT_MAX_US}, 0, 0, BECAUSE(TRIED)},
    {"too far", AUTO, {.bytes = BIG, .rtt_us = WEIR__ZEROCOPY_RTT_MAX_US + 1}, 0, 0, BECAUSE(SLOW)},
    {"on knows no far", ON, {.bytes = BIG, .rtt_us = UINT32_MAX}, 0, 0, BECAUSE(ON)},
    {"near, half pinned",
     AUTO,
     {.bytes = BIG, .rtt_us = WEIR__ZEROCOPY_RTT_BUSY_MAX_US},
     MAX / 2 + 1,
     0,
     BECAUSE(TRIED)},
    {"not so near, half pinned",
     AUTO,
     {.bytes = BIG, .rtt_us = WEIR__ZEROCOPY_RTT_BUSY_MAX_US + 1},
     MAX / 2 + 1,
     0,
     BECAUSE(SLOW)},
    {"not so near, less pinned",
     AUTO,
     {.bytes = BIG, .rtt_us = WEIR__ZEROCOPY_RTT_BUSY_MAX_US + 1},
     MAX / 2,
     0,
     BECAUSE(TRIED)},
};

static void test_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(answers); i++) {
        struct weir__send_policy policy, before;
        struct weir__send_question question = answers[i].question;
        weir__send_policy_init(&policy, answers[i].mode, MAX);
        weir__send_policy_pinned(&policy, 0, answers[i].pinned);
        policy.refused_until_ns = answers[i].refused_until_ns;
        question.route = any_route(&policy);
        memcpy(&before, &policy, sizeof(policy));
        struct weir__send_answer answer = weir__send_policy_ask(&policy, &question);
        if (answer.reason != answers[i].reason)
            fail_msg("%s: %s, not %s", answers[i].name, weir_send_reason_name(answer.reason),
                     weir_send_reason_name(answers[i].reason));
        assert_false(answer.needs_route);
        assert_memory_equal(&policy, &before, sizeof(policy));
    }
}

/* Addresses cost two calls: only who would send with zero copy looks them up. */
static void test_the_route_is_asked_for_only_where_it_decides(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(answers); i++) {
        struct weir__send_policy policy;
        weir__send_policy_init(&policy, answers[i].mode, MAX);
        weir__send_policy_pinned(&policy, 0, answers[i].pinned);
        policy.refused_until_ns = answers[i].refused_until_ns;
        struct weir__send_answer answer = weir__send_policy_ask(&policy, &answers[i].question);
        bool decides = answers[i].reason == BECAUSE(TRIED);
        assert_int_equal(answer.needs_route, decides);
        assert_int_equal(answer.reason, decides ? BECAUSE(ROUTE) : answers[i].reason);
    }
}

static void test_a_route_is_tried_once_at_a_time(void **state)
{
    struct weir__send_policy policy;

    (void)state;
    weir__send_policy_init(&policy, AUTO, MAX);
    struct weir__route *route = any_route(&policy);
    assert_int_equal(ask(&policy, route, NOW), BECAUSE(TRIED));
    weir__send_policy_tried(&policy, route);
    assert_int_equal(ask(&policy, route, NOW), BECAUSE(ROUTE));
    weir__send_policy_released(&policy, route, BIG, WEIR__PIN_UNSENT, true, NOW);
    assert_int_equal(ask(&policy, route, NOW), BECAUSE(TRIED));
}

/* A reset discards what was pinned, and the kernel tells of that as used. */
static void test_what_never_arrived_says_nothing_of_a_route(void **state)
{
    struct weir__send_policy policy;

    (void)state;
    weir__send_policy_init(&policy, AUTO, MAX);
    struct weir__route *route = any_route(&policy);
    weir__send_policy_tried(&policy, route);
    weir__send_policy_released(&policy, route, BIG, WEIR__PIN_USED, false, NOW);
    assert_int_equal(ask(&policy, route, NOW), BECAUSE(TRIED));
}

static void test_a_route_that_pays_is_used_at_once(void **state)
{
    struct weir__send_policy policy;

    (void)state;
    weir__send_policy_init(&policy, AUTO, MAX);
    struct weir__route *route = any_route(&policy);
    notice(&policy, route, WEIR__PIN_USED, NOW);
    weir__send_policy_tried(&policy, route);
    weir__send_policy_tried(&policy, route);
    assert_int_equal(ask(&policy, route, NOW), BECAUSE(PAYS));
}

static void test_a_route_that_copies_is_tried_ever_more_seldom(void **state)
{
    struct weir__send_policy policy;
    uint64_t now_ns = NOW, pause_ns = WEIR__ROUTE_RETRY_NS;

    (void)state;
    weir__send_policy_init(&policy, AUTO, MAX);
    struct weir__route *route = any_route(&policy);
    for (unsigned tries = 0; tries < 10; tries++) {
        assert_int_equal(ask(&policy, route, now_ns), BECAUSE(TRIED));
        notice(&policy, route, WEIR__PIN_COPIED, now_ns);
        assert_int_equal(ask(&policy, route, now_ns + pause_ns - 1), BECAUSE(ROUTE));
        now_ns += pause_ns;
        pause_ns =
            pause_ns * 2 < WEIR__ROUTE_RETRY_MAX_NS ? pause_ns * 2 : WEIR__ROUTE_RETRY_MAX_NS;
    }
    assert_int_equal(pause_ns, WEIR__ROUTE_RETRY_MAX_NS);
    /* One that has zero copy again is as good as one that always had. */
    notice(&policy, route, WEIR__PIN_USED, now_ns);
    assert_int_equal(ask(&policy, route, now_ns), BECAUSE(PAYS));
    assert_int_equal(route->retry_ns, WEIR__ROUTE_RETRY_NS);
}

/* What was sent before a route was left alone says nothing new. */
static void test_late_copies_do_not_lengthen_the_pause(void **state)
{
    struct weir__send_policy policy;

    (void)state;
    weir__send_policy_init(&policy, AUTO, MAX);
    struct weir__route *route = any_route(&policy);
    for (unsigned i = 0; i < 5; i++)
        notice(&policy, route, WEIR__PIN_COPIED, NOW + i);
    assert_int_equal(ask(&policy, route, NOW + WEIR__ROUTE_RETRY_NS), BECAUSE(TRIED));
}

static void test_a_route_that_paid_may_copy_now_and_then(void **state)
{
    struct weir__send_policy policy;

    (void)state;
    weir__send_policy_init(&policy, AUTO, MAX);
    struct weir__route *route = any_route(&policy);
    notice(&policy, route, WEIR__PIN_USED, NOW);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 1; i < WEIR__ROUTE_COPIES_MAX; i++)
            notice(&policy, route, WEIR__PIN_COPIED, NOW);
        assert_int_equal(ask(&policy, route, NOW), BECAUSE(PAYS));
        notice(&policy, route, WEIR__PIN_USED, NOW);
    }
    for (unsigned i = 0; i < WEIR__ROUTE_COPIES_MAX; i++)
        notice(&policy, route, WEIR__PIN_COPIED, NOW);
    assert_int_equal(ask(&policy, route, NOW), BECAUSE(ROUTE));
}

static void test_a_refusal_is_the_loops(void **state)
{
    struct weir__send_policy policy;

    (void)state;
    weir__send_policy_init(&policy, AUTO, MAX);
    struct weir__route *route = any_route(&policy);
    struct weir__route *other = route_of(&policy, "192.0.2.1:80", "203.0.113.1:5000");
    notice(&policy, route, WEIR__PIN_USED, NOW);
    notice(&policy, other, WEIR__PIN_USED, NOW);
    notice(&policy, route, WEIR__PIN_REFUSED, NOW);
    assert_int_equal(ask(&policy, other, NOW), BECAUSE(REFUSED));
    assert_int_equal(ask(&policy, other, NOW + WEIR__REFUSED_PAUSE_NS - 1), BECAUSE(REFUSED));
    assert_int_equal(ask(&policy, route, NOW + WEIR__REFUSED_PAUSE_NS), BECAUSE(PAYS));
}

static void test_routes_are_those_of_networks(void **state)
{
    static const struct {
        const char *local, *peer, *other_local, *other_peer;
        bool same;
    } cases[] = {
        {"192.0.2.1:80", "198.51.100.7:1", "192.0.2.1:443", "198.51.100.200:9", true},
        {"192.0.2.1:80", "198.51.100.7:1", "192.0.2.1:80", "198.51.101.7:1", false},
        {"192.0.2.1:80", "198.51.100.7:1", "192.0.2.2:80", "198.51.100.7:1", false},
        {"[2001:db8::1]:80", "[2001:db8:1:2::3]:1", "[2001:db8::1]:80", "[2001:db8:1:9::8]:1",
         true},
        {"[2001:db8::1]:80", "[2001:db8:1:2::3]:1", "[2001:db8::1]:80", "[2001:db8:2:2::3]:1",
         false},
        {"[2001:db8::1]:80", "[2001:db8:1:2::3]:1", "[2001:db8::2]:80", "[2001:db8:1:2::3]:1",
         false},
        {"[::ffff:192.0.2.1]:80", "[::ffff:198.51.100.7]:1", "[::ffff:192.0.2.1]:80",
         "[::ffff:198.51.100.8]:1", true},
        {"[::ffff:192.0.2.1]:80", "[::ffff:198.51.100.7]:1", "[::ffff:192.0.2.1]:80",
         "[::ffff:198.51.101.7]:1", false},
    };
    struct weir__send_policy policy;

    (void)state;
    weir__send_policy_init(&policy, AUTO, MAX);
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint64_t key = route_of(&policy, cases[i].local, cases[i].peer)->key;
        uint64_t other = route_of(&policy, cases[i].other_local, cases[i].other_peer)->key;
        assert_true(key != 0);
        assert_int_equal(key == other, cases[i].same);
    }
}

/* There are more routes than places: the latest has it, and knows nothing of the one before. */
static void test_a_place_is_taken_over(void **state)
{
    struct weir__send_policy policy;
    struct weir__route *other = NULL;
    char peer[32];

    (void)state;
    weir__send_policy_init(&policy, AUTO, MAX);
    struct weir__route *route = any_route(&policy);
    uint64_t key = route->key;
    notice(&policy, route, WEIR__PIN_USED, NOW);
    weir__send_policy_tried(&policy, route);
    for (unsigned i = 0; other != route; i++) {
        assert_in_range(i, 0, 65535);
        (void)snprintf(peer, sizeof(peer), "10.%u.%u.1:5000", i >> 8, i & 255);
        other = route_of(&policy, "192.0.2.1:80", peer);
    }
    assert_true(route->key != key);
    assert_int_equal(ask(&policy, route, NOW), BECAUSE(TRIED));
    /* The notice of the one before comes here, and does no harm. */
    weir__send_policy_released(&policy, route, BIG, WEIR__PIN_UNSENT, true, NOW);
    assert_int_equal(route->tries, 0);
    assert_ptr_equal(any_route(&policy), route);
    assert_int_equal(route->key, key);
    assert_false(route->pays);
}

static void test_counts(void **state)
{
    struct weir__send_policy policy;
    const struct weir_send_info *info = &policy.info;

    (void)state;
    weir__send_policy_init(&policy, AUTO, MAX);
    weir__send_policy_sent(&policy, BECAUSE(SMALL), 10);
    weir__send_policy_sent(&policy, BECAUSE(SMALL), 20);
    weir__send_policy_sent(&policy, BECAUSE(PAYS), 1000);
    weir__send_policy_pinned(&policy, 0, 5000);
    weir__send_policy_pinned(&policy, 5000, 1000); /* a short send */
    assert_int_equal(info->pinned_bytes, 1000);
    weir__send_policy_pinned(&policy, 1000, 0);
    assert_int_equal(info->pinned_bytes, 0);
    weir__send_policy_released(&policy, NULL, 1000, WEIR__PIN_USED, true, NOW);
    weir__send_policy_released(&policy, NULL, 300, WEIR__PIN_COPIED, true, NOW);
    weir__send_policy_released(&policy, NULL, 200, WEIR__PIN_COPIED, true, NOW);
    weir__send_policy_released(&policy, NULL, 7, WEIR__PIN_REFUSED, true, NOW);
    weir__send_policy_released(&policy, NULL, 9, WEIR__PIN_UNSENT, true, NOW);
    assert_int_equal(info->sends[BECAUSE(SMALL)], 2);
    assert_int_equal(info->bytes[BECAUSE(SMALL)], 30);
    assert_int_equal(info->sends[BECAUSE(PAYS)], 1);
    assert_int_equal(info->bytes[BECAUSE(PAYS)], 1000);
    assert_int_equal(info->zerocopy_used, 1);
    assert_int_equal(info->zerocopy_copied, 2);
    assert_int_equal(info->used_bytes, 1000);
    assert_int_equal(info->copied_bytes, 500);
    assert_int_equal(info->zerocopy_refused, 1);
    assert_int_equal(info->refused_bytes, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_reason_has_a_name_and_a_way),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_the_route_is_asked_for_only_where_it_decides),
        cmocka_unit_test(test_a_route_is_tried_once_at_a_time),
        cmocka_unit_test(test_a_route_that_pays_is_used_at_once),
        cmocka_unit_test(test_a_route_that_copies_is_tried_ever_more_seldom),
        cmocka_unit_test(test_late_copies_do_not_lengthen_the_pause),
        cmocka_unit_test(test_what_never_arrived_says_nothing_of_a_route),
        cmocka_unit_test(test_a_route_that_paid_may_copy_now_and_then),
        cmocka_unit_test(test_a_refusal_is_the_loops),
        cmocka_unit_test(test_routes_are_those_of_networks),
        cmocka_unit_test(test_a_place_is_taken_over),
        cmocka_unit_test(test_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
