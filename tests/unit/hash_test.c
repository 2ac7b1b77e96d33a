/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>

#include "server/hash.h"

/* The reference vectors: key 00 01 ... 0f, input 00 01 ..., from the paper's appendix and its code.
 */
static void test_vectors(void **state)
{
    (void)state;
    static const uint64_t seed[2] = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};
    unsigned char input[15];
    for (unsigned i = 0; i < sizeof(input); i++)
        input[i] = (unsigned char)i;
    assert_true(weir__hash(seed, input, 0) == UINT64_C(0x726fdb47dd0e0e31));
    assert_true(weir__hash(seed, input, 15) == UINT64_C(0xa129ca6149be45e5));
}

static void test_seed_matters(void **state)
{
    (void)state;
    static const uint64_t a[2] = {1, 2}, b[2] = {1, 3}, c[2] = {2, 2};
    assert_true(weir__hash(a, "index.html", 10) != weir__hash(b, "index.html", 10));
    assert_true(weir__hash(a, "index.html", 10) != weir__hash(c, "index.html", 10));
    assert_true(weir__hash(a, "index.html", 10) == weir__hash(a, "index.html", 10));
    /* a zero byte more is another key */
    assert_true(weir__hash(a, "a\0", 2) != weir__hash(a, "a", 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_seed_matters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
