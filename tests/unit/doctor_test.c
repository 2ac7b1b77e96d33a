/* SPDX-License-Identifier: Apache-2.0 */
#include "server/doctor.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include <weir/tls.h>

#include "engine/probe.h"
#include "support/seccomp.h"

#define ANY         (-1)
#define REPORT_SIZE 16384

static bool as_json;

static void report_into(void *result)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (out == NULL || weir__doctor_run(as_json, out) != 0 || fclose(out) != 0 ||
        length >= REPORT_SIZE)
        abort();
    memcpy(result, text, length + 1);
    free(text);
}

static const char *report_without(const struct test_forbidden *forbidden, bool json)
{
    static char report[REPORT_SIZE];
    as_json = json;
    if (!test_run_without(forbidden, report_into, report, sizeof(report))) {
        printf("SKIP: no seccomp filter may be set up here\n");
        skip();
    }
    return report;
}

static unsigned occurrences(const char *text, const char *part)
{
    unsigned count = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at += strlen(part))
        count++;
    return count;
}

static const struct test_forbidden no_ring = {SYS_io_uring_setup, ANY, ANY,
                                              SECCOMP_RET_ERRNO | ENOSYS};
static const struct test_forbidden no_stamps = {SYS_setsockopt, SOL_SOCKET, SO_TIMESTAMPING,
                                                SECCOMP_RET_ERRNO | EINVAL};

static void the_table_has_a_line_for_each_probe_and_library(void **state)
{
    static char report[REPORT_SIZE];
    unsigned libraries = 0;
    (void)state;
    while (weir_tls_vendor_name(libraries))
        libraries++;
    as_json = false;
    report_into(report);
    /* All but the engine that was chosen, of which the verdict tells. No library has a line, too. */
    assert_int_equal(occurrences(report, "  yes  ") + occurrences(report, "  NO   "),
                     WEIR__PROBE_COUNT - 1 + (libraries > 0 ? libraries : 1) + 1 /* the cipher */);
    assert_int_equal(occurrences(report, "\nIn short\n"), 1);
}

static void the_table_says_why_not(void **state)
{
    (void)state;
    const char *report = report_without(&no_ring, false);
    assert_non_null(strstr(report,
                           "  a ring                            NO   no program here may use "
                           "io_uring: io_uring_setup: Function not implemented; a seccomp "
                           "filter is in force here\n"));
    assert_non_null(strstr(report, "\nIn short\n  --engine auto chooses epoll, since "));
    assert_non_null(strstr(report, "  epoll                             yes  --engine epoll can be "
                                   "used\n"));
}

static void without_stamps_the_verdict_is_tcp_info(void **state)
{
    (void)state;
    assert_non_null(
        strstr(report_without(&no_stamps, false), "the count of acknowledged bytes (tcp_info)"));
    assert_non_null(strstr(report_without(&no_stamps, true), "\"delivery_by\":\"tcp_info\""));
}

static void json_names_the_engine_and_every_probe(void **state)
{
    (void)state;
    const char *report = report_without(&no_ring, true);
    assert_memory_equal(report, "{\"version\":\"", 12);
    assert_non_null(strstr(report, ",\"engine_auto\":\"epoll\",\"delivery_by\":\""));
    assert_non_null(strstr(report,
                           "{\"id\":\"io_uring_setup\",\"works\":false,\"title\":\"a ring\","
                           "\"detail\":\"io_uring_setup: Function not implemented; "));
    assert_non_null(strstr(report, "{\"id\":\"engine_epoll\",\"works\":true,\"title\":\"epoll\","
                                   "\"detail\":\"\"}"));
    assert_int_equal(occurrences(report, "{\"id\":\""), WEIR__PROBE_COUNT);
    for (int id = 0; id < WEIR__PROBE_COUNT; id++)
        assert_non_null(strstr(report, weir__probe_name((enum weir__probe_id)id)));
}

static void an_output_that_fails_is_told(void **state)
{
    FILE *full = fopen("/dev/full", "w");
    (void)state;
    assert_non_null(full);
    assert_int_equal(weir__doctor_run(false, full), -1);
    fclose(full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_has_a_line_for_each_probe_and_library),
        cmocka_unit_test(the_table_says_why_not),
        cmocka_unit_test(without_stamps_the_verdict_is_tcp_info),
        cmocka_unit_test(json_names_the_engine_and_every_probe),
        cmocka_unit_test(an_output_that_fails_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
