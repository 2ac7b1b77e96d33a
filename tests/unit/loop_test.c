/* SPDX-License-Identifier: Apache-2.0 */
#include <weir/loop.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include <linux/seccomp.h>

#include <cmocka.h>

#include <weir/error.h>
#include <weir/timer.h>

#include "engine/engine.h"
#include "engine/sim.h"
#include "support/memory_fail.h"
#include "support/seccomp.h"

#define POSTS        20000
#define POST_THREADS 2

static struct weir_loop *sim_loop(void)
{
    struct weir__sim_options sim_options;
    struct weir_loop_options options;
    struct weir__engine *engine;
    struct weir_loop *loop;

    weir__sim_options_init(&sim_options, 1);
    weir_loop_options_init(&options);
    assert_int_equal(weir__sim_new(&sim_options, &engine), 0);
    assert_int_equal(weir__loop_new_on(&loop, engine, &options), 0);
    return loop;
}

/* ---- timers, in virtual time */

struct alarm {
    struct weir_timer timer;
    uint64_t expired_ns;
    unsigned count;
    struct alarm *stops;
    bool again;
};

static void on_alarm(struct weir_timer *timer)
{
    struct alarm *alarm = timer->context;

    alarm->expired_ns = weir_loop_now_ns(timer->loop);
    alarm->count++;
    if (alarm->stops)
        weir_timer_stop(&alarm->stops->timer);
    if (alarm->again && alarm->count < 3)
        weir_timer_start(timer, 5);
}

static void test_timers_are_never_early(void **state)
{
    static const uint64_t delays_ms[] = {0, 1, 7, 63, 64, 1000, 70000, 3600000};
    struct alarm alarms[8] = {{.count = 0}};
    struct weir_loop *loop = sim_loop();
    uint64_t start_ns = weir_loop_now_ns(loop);

    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        weir_timer_init(&alarms[i].timer, loop, on_alarm, &alarms[i]);
        assert_false(weir_timer_is_started(&alarms[i].timer));
        weir_timer_start(&alarms[i].timer, delays_ms[i]);
        assert_true(weir_timer_is_started(&alarms[i].timer));
    }
    while (alarms[7].count == 0)
        assert_int_equal(weir_loop_run_once(loop, -1), 0);
    for (unsigned i = 0; i < 8; i++) {
        uint64_t after_ns = alarms[i].expired_ns - start_ns;
        assert_int_equal(alarms[i].count, 1);
        assert_true(after_ns >= delays_ms[i] * 1000000u);
        assert_true(after_ns <= (delays_ms[i] + 2) * 1000000u);
    }
    weir_loop_free(loop);
}

static void test_timers_start_and_stop_in_callbacks(void **state)
{
    struct alarm first = {.again = true}, second = {.count = 0}, moved = {.count = 0};
    struct weir_loop *loop = sim_loop();

    (void)state;
    weir_timer_init(&first.timer, loop, on_alarm, &first);
    weir_timer_init(&second.timer, loop, on_alarm, &second);
    weir_timer_init(&moved.timer, loop, on_alarm, &moved);
    first.stops = &second;
    weir_timer_start(&first.timer, 10);
    weir_timer_start(&second.timer, 11);
    weir_timer_start(&moved.timer, 1);
    weir_timer_start(&moved.timer, 30);
    uint64_t start_ns = weir_loop_now_ns(loop);
    while (moved.count == 0)
        assert_int_equal(weir_loop_run_once(loop, -1), 0);
    assert_int_equal(first.count, 3);
    assert_int_equal(second.count, 0);
    assert_int_equal(moved.count, 1);
    assert_true(moved.expired_ns - start_ns >= 30 * 1000000u);
    weir_loop_free(loop);
}

static void test_time_passes_between_rounds(void **state)
{
    const struct timespec pause = {.tv_nsec = 30 * 1000000};
    struct alarm alarm = {.count = 0};
    struct weir_loop *loop;

    (void)state;
    assert_int_equal(weir_loop_new(&loop, NULL), 0);
    weir_timer_init(&alarm.timer, loop, on_alarm, &alarm);
    uint64_t before_ns = weir_loop_now_ns(loop);
    assert_int_equal(weir_loop_run_once(loop, 0), 0);
    nanosleep(&pause, NULL);
    assert_true(weir_loop_now_ns(loop) - before_ns >= 30 * 1000000u);
    uint64_t start_ns = weir_loop_now_ns(loop);
    weir_timer_start(&alarm.timer, 20);
    while (alarm.count == 0)
        assert_int_equal(weir_loop_run_once(loop, -1), 0);
    assert_true(alarm.expired_ns - start_ns >= 20 * 1000000u);
    weir_loop_free(loop);
}

static void test_run_once_waits_no_longer_than_told(void **state)
{
    struct weir_loop *loop = sim_loop();
    uint64_t start_ns = weir_loop_now_ns(loop);

    (void)state;
    assert_int_equal(weir_loop_run_once(loop, 25), 0);
    assert_int_equal(weir_loop_run_once(loop, 0), 0);
    assert_in_range(weir_loop_now_ns(loop) - start_ns, 25 * 1000000u, 26 * 1000000u);
    weir_loop_free(loop);
}

/* ---- posts, from other threads */

struct posts {
    struct weir_loop *loop;
    unsigned next[POST_THREADS]; /* the loop's thread alone touches these */
    unsigned left;
    bool in_order;
};

struct post {
    struct posts *posts;
    unsigned thread, number;
};

static struct post post_room[POST_THREADS][POSTS];

static void on_post(struct weir_loop *loop, void *context)
{
    struct post *post = context;
    struct posts *posts = post->posts;

    posts->in_order = posts->in_order && post->number == posts->next[post->thread];
    posts->next[post->thread]++;
    if (--posts->left == 0)
        weir_loop_stop(loop);
}

static void *post_all(void *context)
{
    struct post *post = context;

    for (unsigned i = 0; i < POSTS; i++) {
        while (weir_loop_post(post[i].posts->loop, on_post, &post[i]) == WEIR_EQUEUEFULL)
            sched_yield();
    }
    return NULL;
}

static void test_posts_from_threads_run_once_in_order(void **state)
{
    const struct weir_loop_options *defaults = NULL;
    struct posts posts = {.left = POST_THREADS * POSTS, .in_order = true};
    pthread_t threads[POST_THREADS];

    (void)state;
    assert_int_equal(weir_loop_new(&posts.loop, defaults), 0);
    for (unsigned i = 0; i < POST_THREADS; i++) {
        for (unsigned j = 0; j < POSTS; j++)
            post_room[i][j] = (struct post){&posts, i, j};
        assert_int_equal(pthread_create(&threads[i], NULL, post_all, post_room[i]), 0);
    }
    assert_int_equal(weir_loop_run(posts.loop), 0);
    for (unsigned i = 0; i < POST_THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_true(posts.in_order);
    assert_int_equal(posts.left, 0);
    weir_loop_free(posts.loop);
}

static void test_posts_are_bounded_and_may_be_left(void **state)
{
    struct weir_loop *loop = sim_loop();
    struct posts posts = {.left = UINT32_MAX};
    struct post post = {&posts, 0, 0};
    size_t live = memory_fail_live();
    unsigned count = 0;

    (void)state;
    while (weir_loop_post(loop, on_post, &post) == 0)
        count++;
    assert_int_equal(count, 65536);
    assert_int_equal(weir_loop_post(loop, on_post, &post), WEIR_EQUEUEFULL);
    assert_int_equal(posts.next[0], 0);
    weir_loop_free(loop);
    assert_true(memory_fail_live() < live);
}

static void stop_at_once(struct weir_loop *loop, void *context)
{
    (void)context;
    weir_loop_stop(loop);
}

static void test_stop_before_run_is_remembered(void **state)
{
    struct weir_loop *loop;

    (void)state;
    assert_int_equal(weir_loop_new(&loop, NULL), 0);
    weir_loop_stop(loop);
    assert_int_equal(weir_loop_run(loop), 0);
    assert_int_equal(weir_loop_post(loop, stop_at_once, NULL), 0);
    assert_int_equal(weir_loop_run(loop), 0);
    weir_loop_free(loop);
}

/* ---- engines */

static void test_options_are_checked(void **state)
{
    struct weir_loop_options options;
    struct weir_loop *loop;

    (void)state;
    weir_loop_options_init(&options);
    options.receive_buffers = 100;
    assert_int_equal(weir_loop_new(&loop, &options), WEIR_EINVAL);
    weir_loop_options_init(&options);
    options.receive_buffers = 2 * WEIR_RECEIVE_BUFFERS_MAX;
    assert_int_equal(weir_loop_new(&loop, &options), WEIR_EINVAL);
    weir_loop_options_init(&options);
    options.receive_bytes = 0;
    assert_int_equal(weir_loop_new(&loop, &options), WEIR_EINVAL);
    options.receive_bytes = WEIR_RECEIVE_BYTES_MAX + 1;
    assert_int_equal(weir_loop_new(&loop, &options), WEIR_EINVAL);
    weir_loop_options_init(&options);
    options.engine = (enum weir_engine_kind)77;
    assert_int_equal(weir_loop_new(&loop, &options), WEIR_ENOTSUP);
}

struct fallback {
    int by_name, automatic;
    char engine[16], reason[128];
};

static void open_without_io_uring(void *result)
{
    struct fallback *fallback = result;
    struct weir_loop_options options;
    struct weir_loop *loop;

    weir_loop_options_init(&options);
    options.engine = WEIR_ENGINE_IO_URING;
    fallback->by_name = weir_loop_new(&loop, &options);
    fallback->automatic = weir_loop_new(&loop, NULL);
    if (fallback->automatic != 0)
        return;
    snprintf(fallback->engine, sizeof(fallback->engine), "%s", weir_loop_engine_name(loop));
    if (weir_loop_fallback_reason(loop))
        snprintf(fallback->reason, sizeof(fallback->reason), "%s", weir_loop_fallback_reason(loop));
    weir_loop_free(loop);
}

static void test_auto_does_without_io_uring_and_says_why(void **state)
{
    const struct test_forbidden forbidden = {
        .call = SYS_io_uring_setup, .second = -1, .third = -1, .action = SECCOMP_RET_ERRNO | 1};
    struct fallback fallback = {.by_name = 1};

    (void)state;
    if (!test_run_without(&forbidden, open_without_io_uring, &fallback, sizeof(fallback))) {
        printf("SKIP: %s: seccomp filters may not be set up here\n", __func__);
        fflush(stdout);
        skip();
    }
    assert_int_equal(fallback.by_name, WEIR_ENOTSUP);
    assert_int_equal(fallback.automatic, 0);
    assert_string_equal(fallback.engine, "epoll");
    assert_string_equal(
        fallback.reason,
        "io_uring is forbidden here, by kernel.io_uring_disabled or a seccomp filter");
}

static void test_every_allocation_may_fail(void **state)
{
    static const enum weir_engine_kind kinds[] = {WEIR_ENGINE_IO_URING, WEIR_ENGINE_EPOLL,
                                                  WEIR_ENGINE_POLL};

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        struct weir_loop_options options;
        struct weir_loop *loop = NULL;
        size_t live = memory_fail_live();
        int error = WEIR_ENOMEM;

        weir_loop_options_init(&options);
        options.engine = kinds[i];
        for (unsigned nth = 1; error == WEIR_ENOMEM; nth++) {
            memory_fail_at(nth);
            error = weir_loop_new(&loop, &options);
            memory_fail_at(0);
            if (error)
                assert_int_equal(memory_fail_live(), live);
        }
        if (error == 0)
            weir_loop_free(loop);
        else
            assert_int_equal(error, WEIR_ENOTSUP);
        assert_int_equal(memory_fail_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timers_are_never_early),
        cmocka_unit_test(test_timers_start_and_stop_in_callbacks),
        cmocka_unit_test(test_time_passes_between_rounds),
        cmocka_unit_test(test_run_once_waits_no_longer_than_told),
        cmocka_unit_test(test_posts_from_threads_run_once_in_order),
        cmocka_unit_test(test_posts_are_bounded_and_may_be_left),
        cmocka_unit_test(test_stop_before_run_is_remembered),
        cmocka_unit_test(test_options_are_checked),
        cmocka_unit_test(test_auto_does_without_io_uring_and_says_why),
        cmocka_unit_test(test_every_allocation_may_fail),
    };

    memory_fail_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
