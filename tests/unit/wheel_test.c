/* SPDX-License-Identifier: Apache-2.0 */
#include "core/wheel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TIMERS 400

static void test_expires_in_order_and_on_time(void **state)
{
    static const uint64_t delays[] = {5, 1, 64, 63, 65, 4096, 4095, 4097, 262144, 1000000, 5};
    struct weir_timer timers[sizeof(delays) / sizeof(delays[0])];
    struct weir__wheel wheel;
    uint64_t start = 1234567, last = 0;
    size_t expired = 0;

    (void)state;
    memset(timers, 0, sizeof(timers));
    weir__wheel_init(&wheel, start);
    for (size_t i = 0; i < sizeof(delays) / sizeof(delays[0]); i++)
        weir__wheel_add(&wheel, &timers[i], start + delays[i]);
    while (weir__wheel_next_ms(&wheel) != UINT64_MAX) {
        uint64_t now = weir__wheel_next_ms(&wheel);
        struct weir_timer *timer;
        while ((timer = weir__wheel_expire(&wheel, now))) {
            assert_int_equal(timer->expires_ms, now);
            assert_true(timer->expires_ms >= last);
            last = timer->expires_ms;
            expired++;
        }
        assert_int_equal(wheel.now_ms, now);
    }
    assert_int_equal(expired, sizeof(delays) / sizeof(delays[0]));
    assert_int_equal(last, start + 1000000);
}

static void test_past_expiry_is_a_millisecond_away(void **state)
{
    struct weir_timer timer = {0};
    struct weir__wheel wheel;

    (void)state;
    weir__wheel_init(&wheel, 100);
    weir__wheel_add(&wheel, &timer, 7);
    assert_null(weir__wheel_expire(&wheel, 100));
    assert_ptr_equal(weir__wheel_expire(&wheel, 101), &timer);
}

static void test_removed_timer_never_expires(void **state)
{
    struct weir_timer kept = {0}, removed = {0};
    struct weir__wheel wheel;

    (void)state;
    weir__wheel_init(&wheel, 0);
    weir__wheel_add(&wheel, &kept, 10);
    weir__wheel_add(&wheel, &removed, 10);
    weir__wheel_remove(&removed);
    weir__wheel_remove(&removed);
    assert_ptr_equal(weir__wheel_expire(&wheel, 20), &kept);
    assert_null(weir__wheel_expire(&wheel, 20));
    assert_null(removed.previous_next);
}

static void test_one_expired_timer_stops_another(void **state)
{
    struct weir_timer first = {0}, second = {0};
    struct weir__wheel wheel;

    (void)state;
    weir__wheel_init(&wheel, 0);
    weir__wheel_add(&wheel, &first, 10);
    weir__wheel_add(&wheel, &second, 10);
    struct weir_timer *expired = weir__wheel_expire(&wheel, 10);
    weir__wheel_remove(expired == &first ? &second : &first);
    assert_null(weir__wheel_expire(&wheel, 10));
}

static void test_far_expiry_is_cut_to_the_end_of_time(void **state)
{
    struct weir_timer timer = {0};
    struct weir__wheel wheel;

    (void)state;
    weir__wheel_init(&wheel, 5);
    weir__wheel_add(&wheel, &timer, UINT64_MAX);
    assert_int_equal(timer.expires_ms, WEIR__WHEEL_END_MS);
    assert_ptr_equal(weir__wheel_expire(&wheel, WEIR__WHEEL_END_MS), &timer);
}

/* Against a plain array, with steps of all sizes and timers that come and go. */
static void test_agrees_with_a_model(void **state)
{
    static struct weir_timer timers[TIMERS];
    struct weir__wheel wheel;
    uint64_t now = 999;
    unsigned expired = 0;

    (void)state;
    memset(timers, 0, sizeof(timers));
    srand(7);
    weir__wheel_init(&wheel, now);
    for (unsigned round = 0; round < 20000; round++) {
        struct weir_timer *timer = &timers[rand() % TIMERS];
        struct weir_timer *due;

        if (timer->previous_next)
            weir__wheel_remove(timer);
        else
            weir__wheel_add(&wheel, timer, now + 1 + ((uint64_t)rand() >> (rand() % 31)));
        now += (uint64_t)(rand() % 4 == 0 ? rand() % 100000 : rand() % 3);
        while ((due = weir__wheel_expire(&wheel, now))) {
            assert_true(due->expires_ms <= now);
            assert_null(due->previous_next);
            expired++;
        }
        for (unsigned i = 0; i < TIMERS; i++)
            assert_true(!timers[i].previous_next || timers[i].expires_ms > now);
    }
    assert_true(expired > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expires_in_order_and_on_time),
        cmocka_unit_test(test_past_expiry_is_a_millisecond_away),
        cmocka_unit_test(test_removed_timer_never_expires),
        cmocka_unit_test(test_one_expired_timer_stops_another),
        cmocka_unit_test(test_far_expiry_is_cut_to_the_end_of_time),
        cmocka_unit_test(test_agrees_with_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
