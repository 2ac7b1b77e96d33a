/* SPDX-License-Identifier: Apache-2.0 */
#include "net/offset_map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "support/memory_fail.h"

static struct weir__offset_map map;

static void map_init(void)
{
    weir__offset_map_dispose(&map);
    memset(&map, 0, sizeof(map));
}

static void an_empty_map_knows_nothing(void **state)
{
    (void)state;
    map_init();
    assert_int_equal(weir__offset_map_plain(&map, 0), 0);
    assert_int_equal(weir__offset_map_plain(&map, UINT64_MAX), 0);
    weir__offset_map_pass(&map, 1000);
    assert_int_equal(map.count, 0);
}

static void a_record_is_whole_with_its_last_byte(void **state)
{
    (void)state;
    map_init();
    weir__offset_map_add(&map, 122, 100, WEIR__OFFSET_WHOLE);
    weir__offset_map_add(&map, 244, 200, WEIR__OFFSET_WHOLE);
    assert_int_equal(weir__offset_map_plain(&map, 121), 0);
    assert_int_equal(weir__offset_map_plain(&map, 122), 100);
    assert_int_equal(weir__offset_map_plain(&map, 243), 100);
    assert_int_equal(weir__offset_map_plain(&map, 244), 200);
    assert_int_equal(weir__offset_map_plain(&map, UINT64_MAX), 200);
}

static void records_without_data_leave_no_mark(void **state)
{
    (void)state;
    map_init();
    weir__offset_map_add(&map, 50, 0, WEIR__OFFSET_WHOLE);
    assert_int_equal(map.count, 0);
    weir__offset_map_add(&map, 172, 100, WEIR__OFFSET_WHOLE);
    weir__offset_map_add(&map, 200, 100, WEIR__OFFSET_WHOLE);
    assert_int_equal(map.count, 1);
    assert_int_equal(weir__offset_map_plain(&map, 172), 100);
}

static void what_is_passed_is_still_known(void **state)
{
    (void)state;
    map_init();
    weir__offset_map_add(&map, 122, 100, WEIR__OFFSET_WHOLE);
    weir__offset_map_add(&map, 244, 200, WEIR__OFFSET_WHOLE);
    weir__offset_map_add(&map, 366, 300, WEIR__OFFSET_WHOLE);
    weir__offset_map_pass(&map, 121);
    assert_int_equal(map.count, 3);
    weir__offset_map_pass(&map, 300);
    assert_int_equal(map.count, 1);
    assert_int_equal(map.passed.wire, 244);
    assert_int_equal(weir__offset_map_plain(&map, 300), 200);
    assert_int_equal(weir__offset_map_plain(&map, 366), 300);
    weir__offset_map_pass(&map, 366);
    assert_int_equal(map.count, 0);
    assert_int_equal(weir__offset_map_plain(&map, 366), 300);
}

/* Record i ends at 122 * (i + 1) of the wire and 100 * (i + 1) of the owner's. */
static void too_many_marks_are_coarser_and_never_wrong(void **state)
{
    (void)state;
    map_init();
    for (unsigned i = 0; i < 1000; i++) {
        weir__offset_map_add(&map, 122 * (i + 1), 100 * (i + 1), WEIR__OFFSET_WHOLE);
        assert_in_range(map.count, 1, WEIR__OFFSET_MARKS_MAX);
        assert_int_equal(weir__offset_map_plain(&map, 122 * (i + 1)), 100 * (i + 1));
        for (unsigned wire = 0; wire <= 122 * (i + 1); wire += 61)
            assert_true(weir__offset_map_plain(&map, wire) <= wire / 122 * 100);
    }
}

static void between_marks_all_but_the_slack_counts(void **state)
{
    (void)state;
    map_init();
    weir__offset_map_add(&map, 1000, 900, WEIR__OFFSET_WHOLE);
    weir__offset_map_add(&map, 11000, 10000, 1500);
    assert_int_equal(weir__offset_map_plain(&map, 999), 0);
    assert_int_equal(weir__offset_map_plain(&map, 2500), 900);
    assert_int_equal(weir__offset_map_plain(&map, 2501), 901);
    assert_int_equal(weir__offset_map_plain(&map, 10999), 9399);
    assert_int_equal(weir__offset_map_plain(&map, 11000), 10000);
    assert_int_equal(weir__offset_map_plain(&map, 12000), 10000);
    weir__offset_map_pass(&map, 5000);
    assert_int_equal(weir__offset_map_plain(&map, 2501), 901);
    assert_int_equal(weir__offset_map_last(&map).wire, 11000);
}

static void every_second_mark_is_kept(void **state)
{
    (void)state;
    map_init();
    for (unsigned i = 0; i < WEIR__OFFSET_MARKS_MAX + 1; i++)
        weir__offset_map_add(&map, 122 * (i + 1), 100 * (i + 1), WEIR__OFFSET_WHOLE);
    assert_int_equal(map.count, WEIR__OFFSET_MARKS_MAX / 2 + 1);
    assert_int_equal(weir__offset_map_plain(&map, 122), 0);
    assert_int_equal(weir__offset_map_plain(&map, 244), 200);
    assert_int_equal(weir__offset_map_plain(&map, 366), 200);
    assert_int_equal(weir__offset_map_plain(&map, 488), 400);
}

static void without_memory_less_is_known(void **state)
{
    (void)state;
    map_init();
    memory_fail_at(1);
    weir__offset_map_add(&map, 122, 100, WEIR__OFFSET_WHOLE);
    assert_true(memory_fail_happened());
    assert_int_equal(weir__offset_map_plain(&map, 122), 0);
    memory_fail_at(0);
    for (unsigned i = 1; i < 9; i++)
        weir__offset_map_add(&map, 122 * (i + 1), 100 * (i + 1), WEIR__OFFSET_WHOLE);
    memory_fail_at(1);
    weir__offset_map_add(&map, 1220, 1000, WEIR__OFFSET_WHOLE);
    memory_fail_at(0);
    assert_int_equal(map.count, 5);
    assert_int_equal(weir__offset_map_plain(&map, 366), 300);
    assert_int_equal(weir__offset_map_plain(&map, 1219), 900);
    assert_int_equal(weir__offset_map_plain(&map, 1220), 1000);
    weir__offset_map_pass(&map, 1220);
    assert_null(map.marks);
    assert_int_equal(weir__offset_map_plain(&map, 1220), 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_map_knows_nothing),
        cmocka_unit_test(a_record_is_whole_with_its_last_byte),
        cmocka_unit_test(records_without_data_leave_no_mark),
        cmocka_unit_test(what_is_passed_is_still_known),
        cmocka_unit_test(too_many_marks_are_coarser_and_never_wrong),
        cmocka_unit_test(between_marks_all_but_the_slack_counts),
        cmocka_unit_test(every_second_mark_is_kept),
        cmocka_unit_test(without_memory_less_is_known),
    };

    memory_fail_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
