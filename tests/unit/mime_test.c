/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs those before it */
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "http/mime.h"
/* The table itself, to see that it is sorted and bounded. */
#include "http/mime.c"

static void test_table_is_sorted_and_bounded(void **state)
{
    (void)state;
    size_t count = sizeof(entries) / sizeof(entries[0]);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            assert_true(strcmp(entries[i - 1].extension, entries[i].extension) < 0);
        assert_in_range(strlen(entries[i].extension), 1, EXTENSION_MAX);
        assert_in_range(strlen(entries[i].type), 1, WEIR__MIME_TYPE_MAX);
        bool text = strncmp(entries[i].type, "text/", 5) == 0;
        assert_int_equal(text, strstr(entries[i].type, "; charset=utf-8") != NULL);
    }
}

static void test_types(void **state)
{
    (void)state;
    static const struct {
        const char *path, *type;
    } cases[] = {
        {"index.html", "text/html; charset=utf-8"},
        {"a/b/STYLE.CSS", "text/css; charset=utf-8"},
        {"app.min.js", "text/javascript; charset=utf-8"},
        {"a.webmanifest", "application/manifest+json"},
        {"a.7z", "application/x-7z-compressed"},
        {"a.zst", "application/zstd"},
        {"a.svg", "image/svg+xml"},
        {"", "application/octet-stream"},
        {"README", "application/octet-stream"},
        {"html", "application/octet-stream"},
        {"a.html/b", "application/octet-stream"},
        {"a.", "application/octet-stream"},
        {".", "application/octet-stream"},
        {"a.unknown", "application/octet-stream"},
        {"a.webmanifestx", "application/octet-stream"},
        {"a.htm\xc3", "application/octet-stream"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct weir__text type =
            weir__mime_type((struct weir__text){cases[i].path, strlen(cases[i].path)});
        assert_int_equal(type.length, strlen(cases[i].type));
        assert_memory_equal(type.data, cases[i].type, type.length);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_is_sorted_and_bounded),
        cmocka_unit_test(test_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
