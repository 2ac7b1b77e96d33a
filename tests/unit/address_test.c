/* SPDX-License-Identifier: Apache-2.0 */
#include <weir/address.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <weir/error.h>

static void test_what_is_parsed_comes_back(void **state)
{
    static const struct {
        const char *text, *back;
        unsigned port;
    } cases[] = {
        {"127.0.0.1:8080", "127.0.0.1:8080", 8080},
        {"[::1]:0", "[::1]:0", 0},
        {":65535", "0.0.0.0:65535", 65535},
        {"[2001:db8:0:0::7]:443", "[2001:db8::7]:443", 443},
        {"[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.1]:1", 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[WEIR_ADDRESS_TEXT_MAX];
        struct weir_address address;

        assert_int_equal(weir_address_parse(&address, cases[i].text), 0);
        assert_int_equal(weir_address_format(&address, text), strlen(cases[i].back));
        assert_string_equal(text, cases[i].back);
        assert_int_equal(weir_address_port(&address), cases[i].port);
    }
}

static void test_nonsense_is_no_address(void **state)
{
    static const char *const texts[] = {
        "",         "127.0.0.1",    "127.0.0.1:",     "127.0.0.1:65536", "127.0.0.1:-1",
        "a:80",     "::1:80",       "[::1]",          "[::1]x:80",       "[::1%nowhere]:80",
        "1.2.3:80", "256.1.1.1:1",  "127.0.0.1:80 ",  "127.0.0.1:0x50",  "[]:80",
        "[::1:80",  "127.0.0.1 :1", "localhost:8080", "[127.0.0.1]:80",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct weir_address address;

        assert_int_equal(weir_address_parse(&address, texts[i]), WEIR_EINVAL);
        assert_int_equal(address.length, 0);
        assert_int_equal(weir_address_port(&address), 0);
    }
}

static void test_a_long_text_is_refused(void **state)
{
    char text[4096];
    struct weir_address address;

    (void)state;
    memset(text, '1', sizeof(text));
    memcpy(text + sizeof(text) - 4, ":80", 4);
    assert_int_equal(weir_address_parse(&address, text), WEIR_EINVAL);
}

static void test_no_address_is_a_dash(void **state)
{
    const struct weir_address none = {.length = 0};
    char text[WEIR_ADDRESS_TEXT_MAX];

    (void)state;
    assert_int_equal(weir_address_format(&none, text), 1);
    assert_string_equal(text, "-");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_parsed_comes_back),
        cmocka_unit_test(test_nonsense_is_no_address),
        cmocka_unit_test(test_a_long_text_is_refused),
        cmocka_unit_test(test_no_address_is_a_dash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
