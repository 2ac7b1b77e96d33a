/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
/* cmocka.h needs those before it */
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include <weir/error.h>

#include "tls/vendor/shared.h"

/* ---- a ClientHello's extensions ---- */

/* Two bytes of session id, two suites, one compression; extensions 35 (empty), 16 (5 bytes), 99. */
static const uint8_t hello[] = {
    22, 3,  1,    0,  70, /* record */
    1,  0,  0,    66,     /* ClientHello */
    3,  3,  'r',  1,  2,    3,    4,  5,   6,   7,  8,  9,  10, 11, 12,
    13, 14, 15,   16,                                                   /* version, random */
    17, 18, 19,   20, 21,   22,   23, 24,  25,  26, 27, 28, 29, 30, 31, /* random */
    2,  1,  2,                                                          /* session id */
    0,  4,  0x13, 1,  0xc0, 0x2b,                                       /* suites */
    1,  0,                                                              /* compression */
    0,  19,                                                             /* extensions */
    0,  35, 0,    0,                                                    /* a ticket, empty */
    0,  16, 0,    5,  0,    3,    2,  'h', '2',                         /* ALPN */
    0,  99, 0,    2,  1,    2,
};

/* In memory of its own, so that AddressSanitizer sees a read past its end. */
static const uint8_t *find(const uint8_t *bytes, size_t length, uint16_t type, size_t *found_length,
                           uint8_t **copy)
{
    *copy = malloc(length ? length : 1);
    assert_non_null(*copy);
    memcpy(*copy, bytes, length);
    return weir__tls_hello_extension(*copy, length, type, found_length);
}

static void test_extensions_are_found(void **state)
{
    static const uint8_t alpn[] = {0, 3, 2, 'h', '2'};
    uint8_t *copy;
    size_t length = 77;

    (void)state;
    const uint8_t *found = find(hello, sizeof(hello), 16, &length, &copy);
    assert_non_null(found);
    assert_int_equal(length, sizeof(alpn));
    assert_memory_equal(found, alpn, sizeof(alpn));
    free(copy);
    assert_non_null(find(hello, sizeof(hello), 35, &length, &copy));
    assert_int_equal(length, 0);
    free(copy);
    found = find(hello, sizeof(hello), 99, &length, &copy);
    assert_non_null(found);
    assert_int_equal(length, 2);
    assert_ptr_equal(found + 2, copy + sizeof(hello));
    free(copy);
    assert_null(find(hello, sizeof(hello), 0, &length, &copy));
    free(copy);
}

/* Whatever is cut off, or whatever a byte is, nothing is read outside. */
static void test_hellos_that_are_none(void **state)
{
    uint8_t spoilt[sizeof(hello)], *copy;
    size_t length;

    (void)state;
    for (size_t cut = 0; cut < sizeof(hello); cut++) {
        assert_null(find(hello, cut, 99, &length, &copy));
        free(copy);
    }
    for (size_t at = 0; at < sizeof(hello); at++) {
        for (unsigned value = 0; value < 256; value++) {
            memcpy(spoilt, hello, sizeof(hello));
            spoilt[at] = (uint8_t)value;
            const uint8_t *found = find(spoilt, sizeof(spoilt), 16, &length, &copy);
            assert_true(!found || length <= (size_t)(copy + sizeof(hello) - found));
            free(copy);
        }
    }
    memcpy(spoilt, hello, sizeof(hello));
    spoilt[0] = 23;
    assert_null(weir__tls_hello_extension(spoilt, sizeof(spoilt), 16, &length));
    spoilt[0] = 22;
    spoilt[5] = 2;
    assert_null(weir__tls_hello_extension(spoilt, sizeof(spoilt), 16, &length));
}

static void test_change_cipher_spec(void **state)
{
    static const uint8_t good[] = {20, 3, 3, 0, 1, 1}, wrong[] = {20, 3, 3, 0, 1, 2},
                         long_one[] = {20, 3, 3, 0, 2, 1, 1}, other[] = {22, 3, 3, 0, 1, 2};

    (void)state;
    assert_true(weir__tls_record_changes_well(good, sizeof(good)));
    assert_true(weir__tls_record_changes_well(other, sizeof(other)));
    assert_false(weir__tls_record_changes_well(wrong, sizeof(wrong)));
    assert_false(weir__tls_record_changes_well(long_one, sizeof(long_one)));
    assert_false(weir__tls_record_changes_well(good, 5));
}

/* ---- saved sessions ---- */

static const uint8_t session[] = "a library's session";
static const struct weir__tls_saved saved = {.verified = true, .server_name = "a.example"};

static const struct weir__tls_vendor *vendor_or_skip(const char *test)
{
    if (!weir__tls_vendors[0]) {
        printf("SKIP: %s: this build has no TLS library\n", test);
        skip();
    }
    return weir__tls_vendors[0];
}

static void test_a_session_comes_back(void **state)
{
    const struct weir__tls_vendor *vendor = vendor_or_skip("a_session_comes_back");
    static const struct weir__tls_saved other = {.verified = true, .server_name = "b.example"},
                                        careless = {.verified = false, .server_name = "a.example"};
    uint8_t data[128];
    size_t length;

    (void)state;
    int written = weir__tls_saved_put(vendor, &saved, session, sizeof(session), data, sizeof(data));
    assert_int_equal(written, 2 + 9 + 32 + sizeof(session));
    const uint8_t *got = weir__tls_saved_get(vendor, &saved, data, (size_t)written, &length);
    assert_non_null(got);
    assert_int_equal(length, sizeof(session));
    assert_memory_equal(got, session, sizeof(session));
    assert_non_null(weir__tls_saved_get(vendor, &careless, data, (size_t)written, &length));
    assert_null(weir__tls_saved_get(vendor, &other, data, (size_t)written, &length));
    for (size_t room = 0; room < (size_t)written; room++)
        assert_int_equal(weir__tls_saved_put(vendor, &saved, session, sizeof(session), data, room),
                         WEIR_ENOBUFS);
}

static void test_a_session_that_was_changed(void **state)
{
    const struct weir__tls_vendor *vendor = vendor_or_skip("a_session_that_was_changed");
    uint8_t data[128];
    size_t length;
    int written = weir__tls_saved_put(vendor, &saved, session, sizeof(session), data, sizeof(data));

    (void)state;
    for (size_t at = 0; at < (size_t)written; at++) {
        data[at] ^= 0x20;
        assert_null(weir__tls_saved_get(vendor, &saved, data, (size_t)written, &length));
        data[at] ^= 0x20;
        assert_null(weir__tls_saved_get(vendor, &saved, data, at, &length));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_extensions_are_found),
        cmocka_unit_test(test_hellos_that_are_none),
        cmocka_unit_test(test_change_cipher_spec),
        cmocka_unit_test(test_a_session_comes_back),
        cmocka_unit_test(test_a_session_that_was_changed),
    };

    return cmocka_run_group_tests_name("tls_vendor_shared", tests, NULL, NULL);
}
