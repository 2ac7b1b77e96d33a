/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "http/range.h"

/* "ignored", "unsatisfiable", or "first+length first+length". */
static const char *parse(const char *value, uint64_t size)
{
    static char text[1024];
    struct weir__ranges ranges;
    switch (weir__range_parse((struct weir__text){value, strlen(value)}, size, &ranges)) {
    case WEIR__RANGE_IGNORED:
        return "ignored";
    case WEIR__RANGE_UNSATISFIABLE:
        return "unsatisfiable";
    case WEIR__RANGE_SATISFIABLE:
        break;
    }
    size_t at = 0;
    for (unsigned i = 0; i < ranges.count; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%" PRIu64 "+%" PRIu64,
                               i > 0 ? " " : "", ranges.ranges[i].first, ranges.ranges[i].length);
    return text;
}

static void test_table(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        uint64_t size;
        const char *expected;
    } cases[] = {
        {"bytes=0-499", 10000, "0+500"},
        {"bytes=500-999", 10000, "500+500"},
        {"bytes=-500", 10000, "9500+500"},
        {"bytes=9500-", 10000, "9500+500"},
        {"bytes=0-0", 1, "0+1"},
        {"bytes=0-0,-1", 10000, "0+1 9999+1"},
        {"BYTES=0-0", 10, "0+1"},
        /* past the end */
        {"bytes=5-100", 10, "5+5"},
        {"bytes=5-9", 10, "5+5"},
        {"bytes=9-9", 10, "9+1"},
        {"bytes=10-", 10, "unsatisfiable"},
        {"bytes=10-20,30-40", 10, "unsatisfiable"},
        {"bytes=10-20,0-1", 10, "0+2"},
        {"bytes=-0", 10, "unsatisfiable"},
        {"bytes=-11", 10, "0+10"},
        {"bytes=0-", 0, "unsatisfiable"},
        {"bytes=-1", 0, "ignored"},
        /* numbers beyond 64 bits */
        {"bytes=0-18446744073709551615", 10, "0+10"},
        {"bytes=0-99999999999999999999", 10, "0+10"},
        {"bytes=99999999999999999999-", 10, "unsatisfiable"},
        {"bytes=-99999999999999999999", 10, "0+10"},
        {"bytes=1-", UINT64_MAX, "1+18446744073709551614"},
        /* joined: overlapping, adjacent, contained; in the place of the first */
        {"bytes=0-4,3-6", 100, "0+7"},
        {"bytes=0-4,5-6", 100, "0+7"},
        {"bytes=5-6,0-4", 100, "0+7"},
        {"bytes=0-4,6-6", 100, "0+5 6+1"},
        {"bytes=6-8,0-4", 100, "6+3 0+5"},
        {"bytes=0-9,2-3", 100, "0+10"},
        {"bytes=20-29,0-9,9-20", 100, "0+30"},
        {"bytes=50-59,0-9,20-29,5-25", 100, "50+10 0+30"},
        {"bytes=0-,0-,0-,0-,0-", 100, "0+100"},
        /* lists */
        {"bytes= 0-1 ,\t5-6 ", 100, "0+2 5+2"},
        {"bytes=,,0-1,,5-6,", 100, "0+2 5+2"},
        {"bytes=", 100, "ignored"},
        {"bytes=,", 100, "ignored"},
        /* malformed */
        {"", 100, "ignored"},
        {"bytes", 100, "ignored"},
        {"bytes 0-1", 100, "ignored"},
        {"bytes =0-1", 100, "ignored"},
        {"items=0-1", 100, "ignored"},
        {"bytes=-", 100, "ignored"},
        {"bytes=1", 100, "ignored"},
        {"bytes=5-4", 100, "ignored"},
        {"bytes=0-1,5-4", 100, "ignored"},
        {"bytes=0 -1", 100, "ignored"},
        {"bytes=0-1x", 100, "ignored"},
        {"bytes=0-1 5-6", 100, "ignored"},
        {"bytes=--1", 100, "ignored"},
        {"bytes=+0-1", 100, "ignored"},
        {"bytes=0x0-1", 100, "ignored"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_string_equal(parse(cases[i].value, cases[i].size), cases[i].expected);
}

static void list_of(char *text, size_t size, unsigned count, unsigned step)
{
    size_t at = (size_t)snprintf(text, size, "bytes=");
    for (unsigned i = 0; i < count; i++)
        at +=
            (size_t)snprintf(text + at, size - at, "%s%u-%u", i > 0 ? "," : "", i * step, i * step);
}

static void test_bounds(void **state)
{
    (void)state;
    char text[2048];
    list_of(text, sizeof(text), WEIR__RANGES_MAX, 2);
    assert_string_equal(
        parse(text, 1000),
        "0+1 2+1 4+1 6+1 8+1 10+1 12+1 14+1 16+1 18+1 20+1 22+1 24+1 26+1 28+1 30+1");
    list_of(text, sizeof(text), WEIR__RANGES_MAX + 1, 2);
    assert_string_equal(parse(text, 1000), "ignored");
    /* those beyond the end do not count, those that are joined count once */
    assert_string_equal(
        parse(text, 32),
        "0+1 2+1 4+1 6+1 8+1 10+1 12+1 14+1 16+1 18+1 20+1 22+1 24+1 26+1 28+1 30+1");
    list_of(text, sizeof(text), WEIR__RANGE_SPECS_MAX, 1);
    assert_string_equal(parse(text, 1000), "0+64");
    list_of(text, sizeof(text), WEIR__RANGE_SPECS_MAX + 1, 1);
    assert_string_equal(parse(text, 1000), "ignored");
    list_of(text, sizeof(text), WEIR__RANGE_SPECS_MAX - 1, 2);
    strcat(text, ",0-");
    assert_string_equal(parse(text, 1000), "0+1000");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
