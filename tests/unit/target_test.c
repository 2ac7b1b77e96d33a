/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "http/target.h"

/* The decoded path, or the status as text. */
static const char *decode(const char *path, size_t path_length)
{
    static char decoded[WEIR__TARGET_PATH_MAX];
    size_t length = 12345;
    int status = weir__target_decode((struct weir__text){path, path_length}, decoded, &length);
    if (status != 0)
        snprintf(decoded, sizeof(decoded), "%d", status);
    else
        assert_int_equal(length, strlen(decoded));
    return decoded;
}

static void test_decode(void **state)
{
    (void)state;
    static const struct {
        const char *path, *decoded;
    } cases[] = {
        {"/", ""},
        {"/a", "a"},
        {"/a/", "a/"},
        {"/a/b.html", "a/b.html"},
        {"//", ""},
        {"//a///b//", "a/b/"},
        {"/a%20b", "a b"},
        {"/%61%2Dz", "a-z"},
        {"/%e2%82%AC", "\xe2\x82\xac"},
        {"/%2525", "%25"},
        {"/a+b", "a+b"},
        {"/a\\..\\b", "a\\..\\b"},
        /* RFC 3986 5.2.4 and 5.4 */
        {"/a/b/c/./../../g", "a/g"},
        {"/b/c/.", "b/c/"},
        {"/b/c/..", "b/"},
        {"/b/c/../", "b/"},
        {"/b/c/../..", ""},
        {"/b/c/../../../g", "g"},
        {"/..", ""},
        {"/../../etc/passwd", "etc/passwd"},
        {"/%2e%2e/%2E./a", "a"},
        {"/a/%2e/b", "a/b"},
        {"/.a/..b/c..", ".a/..b/c.."},
        {"/...", "..."},
        /* refused */
        {"/%", "-400"},
        {"/%4", "-400"},
        {"/%4/", "-400"},
        {"/%zz", "-400"},
        {"/%4g", "-400"},
        {"/a%00b", "-400"},
        {"/%00", "-400"},
        {"/a%2fb", "-404"},
        {"/..%2F..%2Fetc", "-404"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_string_equal(decode(cases[i].path, strlen(cases[i].path)), cases[i].decoded);
    assert_string_equal(decode("/a\0b", 4), "-400");
}

static void test_decode_bound(void **state)
{
    (void)state;
    static char path[3 * WEIR__TARGET_PATH_MAX];
    memset(path, 'a', sizeof(path));
    path[0] = '/';
    /* The longest: PATH_MAX without the NUL and the slash that a folder would have. */
    assert_int_equal(strlen(decode(path, WEIR__TARGET_PATH_MAX - 1)), WEIR__TARGET_PATH_MAX - 2);
    assert_string_equal(decode(path, WEIR__TARGET_PATH_MAX), "-414");
    path[WEIR__TARGET_PATH_MAX - 1] = '/';
    assert_int_equal(strlen(decode(path, WEIR__TARGET_PATH_MAX)), WEIR__TARGET_PATH_MAX - 1);
    assert_string_equal(decode(path, WEIR__TARGET_PATH_MAX + 1), "-414");
    memset(path, '/', sizeof(path));
    assert_string_equal(decode(path, sizeof(path)), "");
}

static void test_escape(void **state)
{
    (void)state;
    static const char path[] = "a/b c\"<\r\n%?#\\\xe2\x82\xac~-_.Z9";
    char escaped[3 * sizeof(path)] = {0};
    size_t length = weir__target_escape((struct weir__text){path, strlen(path)}, escaped);
    assert_string_equal(escaped, "a/b%20c%22%3C%0D%0A%25%3F%23%5C%E2%82%AC~-_.Z9");
    assert_int_equal(length, strlen(escaped));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_decode_bound),
        cmocka_unit_test(test_escape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
