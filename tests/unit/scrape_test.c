/* SPDX-License-Identifier: Apache-2.0 */
#include "server/scrape.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "core/memory.h"

/* The collector's loop, and that of a worker which runs only when a test says so. */
static struct weir_loop *loop, *other;
static struct weir__scrape_group *group;
static struct weir__scrape scrape;
static unsigned done_count;
static uint64_t counts[2];

static void read_counts(void *context, struct weir__metrics *metrics)
{
    memset(metrics, 0, sizeof(*metrics));
    metrics->delivery_unknown = *(uint64_t *)context;
}

static void on_done(struct weir__scrape *done)
{
    assert_ptr_equal(done, &scrape);
    done_count++;
}

static int set_up(void **state)
{
    (void)state;
    counts[0] = 1;
    counts[1] = 20;
    done_count = 0;
    assert_int_equal(weir_loop_new(&loop, NULL), 0);
    assert_int_equal(weir_loop_new(&other, NULL), 0);
    group = weir__scrape_group_new(2);
    assert_non_null(group);
    weir__scrape_group_add(group, loop, read_counts, &counts[0]);
    weir__scrape_group_add(group, other, read_counts, &counts[1]);
    weir__scrape_init(&scrape, group, loop, on_done, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    weir__scrape_stop(&scrape);
    weir_loop_free(loop);
    weir_loop_free(other);
    weir__release(group);
    return 0;
}

/* Until it is done; how long that took. */
static uint64_t scrape_ms(bool other_runs)
{
    unsigned before = done_count;
    uint64_t began_ns = weir_loop_now_ns(loop);

    weir__scrape_want(&scrape);
    assert_int_equal(done_count, before);
    while (done_count == before) {
        assert_int_equal(weir_loop_run_once(loop, 10), 0);
        if (other_runs)
            assert_int_equal(weir_loop_run_once(other, 0), 0);
    }
    return (weir_loop_now_ns(loop) - began_ns) / 1000000;
}

static void all_workers_are_added_up(void **state)
{
    (void)state;
    scrape_ms(true);
    assert_int_equal(scrape.sum.delivery_unknown, 21);
    counts[0] = 3;
    counts[1] = 50;
    scrape_ms(true);
    assert_int_equal(scrape.sum.delivery_unknown, 53);
}

static void a_worker_that_does_not_answer_counts_as_it_did(void **state)
{
    (void)state;
    scrape_ms(true);
    counts[0] = 2;
    counts[1] = 70;
    assert_in_range(scrape_ms(false), WEIR__SCRAPE_WAIT_MS - 2, 5000);
    assert_int_equal(scrape.sum.delivery_unknown, 22);
    /* It answers late: what it says then is taken with the next one, and it is asked once for both. */
    counts[1] = 80;
    scrape_ms(true);
    assert_int_equal(scrape.sum.delivery_unknown, 82);
}

static void wishes_in_quick_succession_are_one(void **state)
{
    (void)state;
    uint64_t began_ns = weir_loop_now_ns(loop);
    weir__scrape_want(&scrape);
    weir__scrape_want(&scrape);
    scrape_ms(true);
    assert_int_equal(done_count, 1);
    scrape_ms(true);
    assert_int_equal(done_count, 2);
    assert_in_range((weir_loop_now_ns(loop) - began_ns) / 1000000, WEIR__SCRAPE_PAUSE_MS, 5000);
}

static void one_that_is_stopped_is_never_done(void **state)
{
    (void)state;
    weir__scrape_want(&scrape);
    weir__scrape_stop(&scrape);
    for (int i = 0; i < 3; i++)
        assert_int_equal(weir_loop_run_once(loop, 10), 0);
    assert_int_equal(done_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_workers_are_added_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_worker_that_does_not_answer_counts_as_it_did, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(wishes_in_quick_succession_are_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_is_stopped_is_never_done, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
