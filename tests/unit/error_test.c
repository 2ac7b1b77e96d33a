/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <weir/weir.h>

static void each_error_has_its_name(void **state)
{
    (void)state;
    assert_string_equal(weir_error_name(0), "0");
    assert_string_equal(weir_error_name(WEIR_ENOMEM), "WEIR_ENOMEM");
    assert_string_equal(weir_error_name(WEIR_ERESET), "WEIR_ERESET");
    assert_string_equal(weir_error_name(WEIR_EIO), "WEIR_EIO");
    for (int error = WEIR_ECUTOFF; error < 0; error++) {
        assert_non_null(weir_error_name(error));
        assert_string_not_equal(weir_error_name(error), "unknown");
        assert_non_null(weir_error_text(error));
    }
}

static void other_numbers_are_unknown(void **state)
{
    (void)state;
    assert_string_equal(weir_error_name(1), "unknown");
    assert_string_equal(weir_error_name(WEIR_ECUTOFF - 1), "unknown");
    assert_string_equal(weir_error_text(INT32_MIN), "unknown error");
}

static void version_matches_the_headers(void **state)
{
    (void)state;
    assert_string_equal(weir_version(), "0.1.0");
    assert_string_equal(weir_version(), WEIR_VERSION_TEXT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_error_has_its_name),
        cmocka_unit_test(other_numbers_are_unknown),
        cmocka_unit_test(version_matches_the_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
