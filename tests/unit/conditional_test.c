/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>

#include <stdio.h>

#include "http/conditional.h"

#include "../support/request.h"

#define NOW_S      INT64_C(1700000000)
#define MODIFIED_S INT64_C(784111777)
#define BEFORE     "Sun, 06 Nov 1994 08:49:36 GMT"
#define EXACTLY    "Sun, 06 Nov 1994 08:49:37 GMT"
#define AFTER      "Sun, 06 Nov 1994 08:49:38 GMT"

static struct weir__request request_with(char head[1024], const char *fields)
{
    snprintf(head, 1024, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", fields);
    return request_of(head);
}

static const char *evaluate(const char *fields, const char *etag, int64_t modified_s)
{
    char head[1024];
    struct weir__request request = request_with(head, fields);
    struct weir__validators validators = {text_of(etag), modified_s};
    switch (weir__condition_evaluate(&request, &validators, NOW_S)) {
    case WEIR__CONDITION_PROCEED:
        return "200";
    case WEIR__CONDITION_NOT_MODIFIED:
        return "304";
    case WEIR__CONDITION_FAILED:
        return "412";
    }
    return "?";
}

static void test_one_field(void **state)
{
    (void)state;
    static const struct {
        const char *fields, *expected;
    } cases[] = {
        {"", "200"},
        {"If-Match: *\r\n", "200"},
        {"If-Match: \"a\"\r\n", "200"},
        {"If-Match: \"b\"\r\n", "412"},
        {"If-Match: \"b\", \"a\"\r\n", "200"},
        {"If-Match: \"b\"\r\nIf-Match: \"a\"\r\n", "200"},
        {"If-Match: W/\"a\"\r\n", "412"},
        {"If-Match: a\r\n", "412"},
        {"If-Match: \r\n", "412"},
        {"If-None-Match: *\r\n", "304"},
        {"If-None-Match: \"a\"\r\n", "304"},
        {"If-None-Match: W/\"a\"\r\n", "304"},
        {"If-None-Match: \"b\"\r\n", "200"},
        {"If-None-Match: \"b\", W/\"c\" ,,\"a\"\r\n", "304"},
        {"If-None-Match: \"b\"\r\nIf-None-Match: \"a\"\r\n", "304"},
        {"If-None-Match: \"a,b\", \"c\"\r\n", "200"},
        {"If-None-Match: \"aa\"\r\n", "200"},
        {"If-None-Match: \"\"\r\n", "200"},
        {"If-None-Match: \"a\r\n", "200"},
        {"If-None-Match: a\r\n", "200"},
        {"If-None-Match: w/\"a\"\r\n", "200"},
        {"If-None-Match: \"b c\", \"a\"\r\n", "200"},
        {"If-Modified-Since: " BEFORE "\r\n", "200"},
        {"If-Modified-Since: " EXACTLY "\r\n", "304"},
        {"If-Modified-Since: " AFTER "\r\n", "304"},
        {"If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT\r\n", "304"},
        {"If-Modified-Since: yesterday\r\n", "200"},
        {"If-Modified-Since: " AFTER "\r\nIf-Modified-Since: " AFTER "\r\n", "200"},
        {"If-Unmodified-Since: " BEFORE "\r\n", "412"},
        {"If-Unmodified-Since: " EXACTLY "\r\n", "200"},
        {"If-Unmodified-Since: " AFTER "\r\n", "200"},
        {"If-Unmodified-Since: 0\r\n", "200"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_string_equal(evaluate(cases[i].fields, "\"a\"", MODIFIED_S), cases[i].expected);
}

/* RFC 9110 13.2.2: a tag has the say over a date, a precondition over a cache's question. */
static void test_precedence(void **state)
{
    (void)state;
    static const struct {
        const char *fields, *expected;
    } cases[] = {
        {"If-Match: \"a\"\r\nIf-Unmodified-Since: " BEFORE "\r\n", "200"},
        {"If-Match: \"b\"\r\nIf-Unmodified-Since: " AFTER "\r\n", "412"},
        {"If-None-Match: \"b\"\r\nIf-Modified-Since: " AFTER "\r\n", "200"},
        {"If-None-Match: \"a\"\r\nIf-Modified-Since: " BEFORE "\r\n", "304"},
        {"If-Match: \"b\"\r\nIf-None-Match: \"a\"\r\n", "412"},
        {"If-Match: \"a\"\r\nIf-None-Match: \"a\"\r\n", "304"},
        {"If-Unmodified-Since: " BEFORE "\r\nIf-None-Match: \"a\"\r\n", "412"},
        {"If-Unmodified-Since: " AFTER "\r\nIf-Modified-Since: " AFTER "\r\n", "304"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_string_equal(evaluate(cases[i].fields, "\"a\"", MODIFIED_S), cases[i].expected);
}

static void test_weak_and_undated(void **state)
{
    (void)state;
    assert_string_equal(evaluate("If-Match: \"a\"\r\n", "W/\"a\"", MODIFIED_S), "412");
    assert_string_equal(evaluate("If-Match: W/\"a\"\r\n", "W/\"a\"", MODIFIED_S), "412");
    assert_string_equal(evaluate("If-None-Match: \"a\"\r\n", "W/\"a\"", MODIFIED_S), "304");
    assert_string_equal(
        evaluate("If-Modified-Since: " AFTER "\r\n", "\"a\"", WEIR__MODIFIED_UNKNOWN), "200");
    assert_string_equal(
        evaluate("If-Unmodified-Since: " BEFORE "\r\n", "\"a\"", WEIR__MODIFIED_UNKNOWN), "200");
}

static void test_if_range(void **state)
{
    (void)state;
    static const struct {
        const char *fields, *etag;
        int allows;
    } cases[] = {
        {"", "\"a\"", 1},
        {"If-Range: \"a\"\r\n", "\"a\"", 1},
        {"If-Range: \"b\"\r\n", "\"a\"", 0},
        {"If-Range: W/\"a\"\r\n", "\"a\"", 0},
        {"If-Range: W/\"a\"\r\n", "W/\"a\"", 0},
        {"If-Range: \"a\"\r\n", "W/\"a\"", 0},
        {"If-Range: \"b\", \"a\"\r\n", "\"a\"", 0},
        {"If-Range: \"a\"\r\nIf-Range: \"a\"\r\n", "\"a\"", 0},
        {"If-Range: *\r\n", "\"a\"", 0},
        {"If-Range: \r\n", "\"a\"", 0},
        {"If-Range: " EXACTLY "\r\n", "\"a\"", 1},
        {"If-Range: " BEFORE "\r\n", "\"a\"", 0},
        {"If-Range: " AFTER "\r\n", "\"a\"", 0},
    };
    char head[1024];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct weir__request request = request_with(head, cases[i].fields);
        struct weir__validators validators = {text_of(cases[i].etag), MODIFIED_S};
        assert_int_equal(weir__condition_allows_range(&request, &validators, NOW_S),
                         cases[i].allows);
    }
    /* "Wed" begins like W/ */
    struct weir__request request =
        request_with(head, "If-Range: Wed, 01 Mar 2000 00:00:00 GMT\r\n");
    struct weir__validators validators = {text_of("\"a\""), 951868800};
    assert_true(weir__condition_allows_range(&request, &validators, NOW_S));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_field),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_weak_and_undated),
        cmocka_unit_test(test_if_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
