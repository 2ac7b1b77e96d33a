/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>

#include <string.h>
#include <time.h>

#include "http/date.h"

#define NOW_S INT64_C(1700000000) /* November 2023 */

static void test_format(void **state)
{
    (void)state;
    static const struct {
        int64_t unix_s;
        const char *text;
    } cases[] = {
        {0, "Thu, 01 Jan 1970 00:00:00 GMT"},
        {784111777, "Sun, 06 Nov 1994 08:49:37 GMT"},
        {951782399, "Mon, 28 Feb 2000 23:59:59 GMT"},
        {951782400, "Tue, 29 Feb 2000 00:00:00 GMT"},
        {951868800, "Wed, 01 Mar 2000 00:00:00 GMT"},
        {978307199, "Sun, 31 Dec 2000 23:59:59 GMT"},
        {4107542399, "Sun, 28 Feb 2100 23:59:59 GMT"},
        {4107542400, "Mon, 01 Mar 2100 00:00:00 GMT"},
        {WEIR__DATE_MAX_S, "Fri, 31 Dec 9999 23:59:59 GMT"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[WEIR__DATE_LENGTH + 1] = {0};
        weir__date_format(cases[i].unix_s, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void test_format_agrees_with_the_library(void **state)
{
    (void)state;
    /* 86,413 s times 12,345: a prime step over some 33 years, then a longer one to the end. */
    for (int64_t unix_s = 0; unix_s <= WEIR__DATE_MAX_S;
         unix_s += unix_s < INT64_C(1100000000) ? 86413 : INT64_C(9999991)) {
        char text[WEIR__DATE_LENGTH + 1] = {0}, expected[64];
        struct tm tm;
        time_t seconds = unix_s;
        gmtime_r(&seconds, &tm);
        strftime(expected, sizeof(expected), "%a, %d %b %Y %H:%M:%S GMT", &tm);
        weir__date_format(unix_s, text);
        assert_string_equal(text, expected);
        int64_t parsed;
        assert_true(weir__date_parse((struct weir__text){text, WEIR__DATE_LENGTH}, NOW_S, &parsed));
        assert_int_equal(parsed, unix_s);
    }
}

static void test_cache(void **state)
{
    (void)state;
    struct weir__date_cache cache;
    weir__date_cache_init(&cache);
    assert_memory_equal(weir__date_cache_get(&cache, 0), "Thu, 01 Jan 1970 00:00:00 GMT", 29);
    assert_memory_equal(weir__date_cache_get(&cache, 1), "Thu, 01 Jan 1970 00:00:01 GMT", 29);
    cache.text[0] = 'X';
    assert_memory_equal(weir__date_cache_get(&cache, 1), "Xhu, 01 Jan 1970 00:00:01 GMT", 29);
    assert_memory_equal(weir__date_cache_get(&cache, 0), "Thu, 01 Jan 1970 00:00:00 GMT", 29);
}

static void test_parse(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t unix_s;
    } cases[] = {
        {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
        {"Sunday, 06-Nov-94 08:49:37 GMT", 784111777},
        {"Sun Nov  6 08:49:37 1994", 784111777},
        {"Wed Nov 16 08:49:37 1994", 784975777},
        {"Wednesday, 01-Jan-70 00:00:00 GMT", 3155760000},
        {"Friday, 01-Jan-73 00:00:00 GMT", 3250454400}, /* 2073, 50 years ahead */
        {"Tuesday, 01-Jan-74 00:00:00 GMT", 126230400}, /* 1974, as 2074 is 51 ahead */
        {"Tue, 29 Feb 2000 00:00:00 GMT", 951782400},
        {"Sat, 31 Dec 2016 23:59:60 GMT", 1483228800}, /* a leap second */
        {"Wed, 31 Dec 1969 23:59:59 GMT", -1},
        {"Mon, 01 Jan 0001 00:00:00 GMT", -62135596800},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t unix_s = -7;
        struct weir__text text = {cases[i].text, strlen(cases[i].text)};
        assert_true(weir__date_parse(text, NOW_S, &unix_s));
        assert_int_equal(unix_s, cases[i].unix_s);
    }
}

static void test_parse_refuses(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "",
        "0",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        " Sun, 06 Nov 1994 08:49:37 GMT",
        "sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sun Nov 06 08:49:37 94",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 29 Feb 1900 08:49:37 GMT",
        "Sun, 06 Xxx 1994 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, +6 Nov 1994 08:49:37 GMT",
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t unix_s;
        struct weir__text text = {cases[i], strlen(cases[i])};
        if (weir__date_parse(text, NOW_S, &unix_s))
            fail_msg("taken for a date: %s", cases[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format),        cmocka_unit_test(test_format_agrees_with_the_library),
        cmocka_unit_test(test_cache),         cmocka_unit_test(test_parse),
        cmocka_unit_test(test_parse_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
