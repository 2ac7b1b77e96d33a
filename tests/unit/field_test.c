/* SPDX-License-Identifier: Apache-2.0 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "http/field.h"

static struct weir__text text(const char *string)
{
    return (struct weir__text){string, strlen(string)};
}

/* All bytes of a class, in ascending order. */
static void class_expect(enum weir__character class, const char *expected)
{
    char found[257];
    size_t count = 0;

    for (unsigned i = 1; i < 256; i++)
        if (weir__character_is((char)i, class))
            found[count++] = (char)i;
    found[count] = '\0';
    assert_string_equal(found, expected);
    assert_false(weir__character_is('\0', class));
}

#define DIGITS "0123456789"
#define UPPER  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define LOWER  "abcdefghijklmnopqrstuvwxyz"

static void test_classes(void **state)
{
    char value[256] = "\t ";
    size_t count = 2;

    (void)state;
    class_expect(WEIR__CHARACTER_TOKEN, "!#$%&'*+-." DIGITS UPPER "^_`" LOWER "|~");
    class_expect(WEIR__CHARACTER_TARGET,
                 "!\"$%&'()*+,-./" DIGITS ":;<=>?@" UPPER "[\\]^_`" LOWER "{|}~");
    class_expect(WEIR__CHARACTER_HOST, "!$%&'()*+,-." DIGITS ":;=" UPPER "_" LOWER "~");
    class_expect(WEIR__CHARACTER_DIGIT, DIGITS);
    class_expect(WEIR__CHARACTER_LETTER, UPPER LOWER);
    class_expect(WEIR__CHARACTER_BLANK, "\t ");
    for (unsigned i = '!'; i < 256; i++)
        if (i != 0x7f)
            value[count++] = (char)i;
    value[count] = '\0';
    class_expect(WEIR__CHARACTER_VALUE, value);
}

static void test_equals(void **state)
{
    (void)state;
    assert_true(weir__text_equals(text("aB-1"), "aB-1"));
    assert_false(weir__text_equals(text("ab-1"), "aB-1"));
    assert_false(weir__text_equals(text("aB-"), "aB-1"));
    assert_true(weir__text_equals((struct weir__text){NULL, 0}, ""));
    assert_true(weir__text_equals_ignoring_case(text("aBZ-1"), "Abz-1"));
    assert_false(weir__text_equals_ignoring_case(text("a\r"), "a-"));
    assert_false(weir__text_equals_ignoring_case(text("@["), "`{"));
    assert_false(weir__text_equals_ignoring_case(text("\xc4"), "\xe4"));
    assert_false(weir__text_equals_ignoring_case(text("a"), "ab"));
    assert_true(weir__text_equals_ignoring_case((struct weir__text){NULL, 0}, ""));
}

static void test_trim(void **state)
{
    (void)state;
    assert_true(weir__text_equals(weir__text_trim(text(" \t a b\t ")), "a b"));
    assert_true(weir__text_equals(weir__text_trim(text(" \t ")), ""));
    assert_true(weir__text_equals(weir__text_trim(text("")), ""));
    assert_true(weir__text_equals(weir__text_trim(text("\xa0 a\r")), "\xa0 a\r"));
}

static void list_expect(const char *list, const char *expected)
{
    struct weir__text rest = text(list);
    struct weir__text element;
    char found[256] = "";

    while (weir__list_next(&rest, &element))
        snprintf(found + strlen(found), sizeof(found) - strlen(found), "<%.*s>",
                 (int)element.length, element.data);
    assert_string_equal(found, expected);
    assert_int_equal(rest.length, 0);
}

static void test_list(void **state)
{
    (void)state;
    list_expect("", "");
    list_expect(" ,\t,, ", "");
    list_expect("a", "<a>");
    list_expect("a,b", "<a><b>");
    list_expect(" a , ,b c\t,", "<a><b c>");
    list_expect("\"a,b\", W/\"c\"", "<\"a,b\"><W/\"c\">");
    list_expect("\"a\\\",b\",c", "<\"a\\\",b\"><c>");
    list_expect("\"a\\\\\",b", "<\"a\\\\\"><b>");
    list_expect("a\\,b", "<a\\><b>");
    list_expect("a, \"b, c", "<a><\"b, c>");
    list_expect("\"b\\", "<\"b\\>");
}

static void test_list_has(void **state)
{
    (void)state;
    assert_true(weir__list_has(text("TE, Close"), "close"));
    assert_true(weir__list_has(text("close"), "close"));
    assert_false(weir__list_has(text("closed, clos, c lose"), "close"));
    assert_false(weir__list_has(text("\"a, close, b\""), "close"));
    assert_false(weir__list_has(text(""), "close"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes),  cmocka_unit_test(test_equals),
        cmocka_unit_test(test_trim),     cmocka_unit_test(test_list),
        cmocka_unit_test(test_list_has),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
