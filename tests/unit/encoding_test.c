/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>

#include <stdio.h>

#include "http/encoding.h"

#include "../support/request.h"

#define IDENTITY (1u << WEIR__CODING_IDENTITY)
#define GZIP     (1u << WEIR__CODING_GZIP)
#define ZSTD     (1u << WEIR__CODING_ZSTD)
#define BR       (1u << WEIR__CODING_BR)
#define ALL      (IDENTITY | GZIP | ZSTD | BR)

static const char *choose(const char *fields, unsigned available)
{
    char head[1024];
    snprintf(head, sizeof(head), "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", fields);
    struct weir__request request = request_of(head);
    int coding = weir__coding_choose(&request, available);
    return coding == WEIR__CODING_NONE ? "none" : weir__coding_name((enum weir__coding)coding);
}

static void test_choice(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        unsigned available;
        const char *expected;
    } cases[] = {
        {"", ALL, "identity"},
        {"gzip, deflate, br, zstd", ALL, "br"},
        {"gzip, deflate, br, zstd", IDENTITY | GZIP | ZSTD, "zstd"},
        {"gzip, deflate, br, zstd", IDENTITY | GZIP, "gzip"},
        {"gzip, deflate, br, zstd", IDENTITY, "identity"},
        {"gzip;q=1.0, br;q=0.5", ALL, "gzip"},
        {"gzip;q=0.501, zstd;q=0.5", ALL, "gzip"},
        {"gzip;q=0.001", ALL, "gzip"},
        {"gzip;q=0", ALL, "identity"},
        {"gzip;q=0.000", ALL, "identity"},
        {"GZIP", ALL, "gzip"},
        {"x-gzip", ALL, "gzip"},
        {"gzip ; Q=0.5 , zstd ; q=0.4", ALL, "gzip"},
        {"identity;q=1, gzip;q=0.5", ALL, "identity"},
        {"identity;q=0.5, gzip;q=1", ALL, "gzip"},
        {"identity, gzip", ALL, "gzip"},
        {"*", ALL, "br"},
        {"*", IDENTITY, "identity"},
        {"*;q=0.1, gzip", ALL, "gzip"},
        {"br;q=0, *", ALL, "zstd"},
        {"*;q=0, gzip", ALL, "gzip"},
        {"*;q=0, gzip", IDENTITY, "none"},
        {"*;q=0", ALL, "none"},
        {"*;q=0, identity;q=0.1", ALL, "identity"},
        {"identity;q=0", ALL, "none"},
        {"identity;q=0, gzip;q=0.1", ALL, "gzip"},
        {"deflate", ALL, "identity"},
        {",, gzip ,,", ALL, "gzip"},
        /* malformed elements are passed over */
        {"gzip;q=2, zstd", ALL, "zstd"},
        {"gzip;q=1.001", ALL, "identity"},
        {"gzip;q=0.0001", ALL, "identity"},
        {"gzip;q=.5", ALL, "identity"},
        {"gzip;q=-1", ALL, "identity"},
        {"gzip;q=", ALL, "identity"},
        {"gzip;x=1", ALL, "identity"},
        {"gzip;q=1;x=2", ALL, "identity"},
        {"gz ip", ALL, "identity"},
        {"gzi", ALL, "identity"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char fields[256];
        snprintf(fields, sizeof(fields), "Accept-Encoding: %s\r\n", cases[i].value);
        assert_string_equal(choose(fields, cases[i].available), cases[i].expected);
    }
}

static void test_lines(void **state)
{
    (void)state;
    assert_string_equal(choose("", ALL), "identity");
    assert_string_equal(choose("Accept-Encoding: gzip\r\nAccept-Encoding: br\r\n", ALL), "br");
    assert_string_equal(
        choose("Accept-Encoding: gzip\r\nX: br\r\naccept-encoding: gzip;q=0\r\n", ALL), "identity");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
