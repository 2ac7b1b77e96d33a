/* SPDX-License-Identifier: Apache-2.0 */
#include "server/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <weir/tls.h>

static struct weir__metrics metrics;
static char text[WEIR__METRICS_TEXT_MAX + 1];

static int clear(void **state)
{
    (void)state;
    memset(&metrics, 0, sizeof(metrics));
    return 0;
}

static const char *format(void)
{
    text[weir__metrics_format(&metrics, text)] = '\0';
    return text;
}

#define assert_has(line)      assert_non_null(strstr(format(), "\n" line "\n"))
#define assert_lacks(snippet) assert_null(strstr(format(), snippet))

static void a_bucket_has_what_is_not_above_its_bound(void **state)
{
    (void)state;
    weir__histogram_add(&metrics.accepted, 0);
    weir__histogram_add(&metrics.accepted, 100000);
    weir__histogram_add(&metrics.accepted, 100001);
    weir__histogram_add(&metrics.accepted, UINT64_C(100000000000));
    weir__histogram_add(&metrics.accepted, UINT64_C(100000000001));
    assert_int_equal(metrics.accepted.counts[0], 2);
    assert_int_equal(metrics.accepted.counts[1], 1);
    assert_int_equal(metrics.accepted.counts[18], 1);
    assert_int_equal(metrics.accepted.counts[19], 1);
    assert_has("weir_request_accepted_seconds_bucket{le=\"0.0001\"} 2");
    assert_has("weir_request_accepted_seconds_bucket{le=\"0.00025\"} 3");
    assert_has("weir_request_accepted_seconds_bucket{le=\"50.0\"} 3");
    assert_has("weir_request_accepted_seconds_bucket{le=\"100.0\"} 4");
    assert_has("weir_request_accepted_seconds_bucket{le=\"+Inf\"} 5");
    assert_has("weir_request_accepted_seconds_count 5");
    assert_has("weir_request_accepted_seconds_sum 200.000200002");
    assert_has("weir_request_delivered_seconds_count 0");
    assert_has("weir_request_delivered_seconds_sum 0.000000000");
}

static void requests_are_counted_by_status_and_protocol(void **state)
{
    (void)state;
    weir__metrics_count_request(&metrics, WEIR__METRICS_HTTP_1_1, 200);
    weir__metrics_count_request(&metrics, WEIR__METRICS_HTTP_1_1, 200);
    weir__metrics_count_request(&metrics, WEIR__METRICS_HTTP_1_0, 404);
    weir__metrics_count_request(&metrics, WEIR__METRICS_NO_PROTOCOL, 599);
    weir__metrics_count_request(&metrics, WEIR__METRICS_HTTP_1_1, 100);
    assert_has("weir_requests_total{status=\"599\",protocol=\"none\"} 1\n"
               "weir_requests_total{status=\"404\",protocol=\"HTTP/1.0\"} 1\n"
               "weir_requests_total{status=\"100\",protocol=\"HTTP/1.1\"} 1\n"
               "weir_requests_total{status=\"200\",protocol=\"HTTP/1.1\"} 2\n"
               "# TYPE weir_delivery_unknown counter");
}

static void connections_are_counted_by_library_and_kernel(void **state)
{
    (void)state;
    struct weir_tls_info tls = {.vendor = "gnutls"};
    weir__metrics_count_connection(&metrics, NULL);
    weir__metrics_count_connection(&metrics, &tls);
    tls.kernel_tx = true;
    weir__metrics_count_connection(&metrics, &tls);
    weir__metrics_count_connection(&metrics, &tls);
    tls.kernel_rx = true;
    tls.vendor = "mbedtls";
    weir__metrics_count_connection(&metrics, &tls);
    metrics.connections_open = 3;
    assert_has("weir_connections_open 3");
    assert_has("weir_connections_total{tls_vendor=\"none\",ktls=\"none\"} 1\n"
               "weir_connections_total{tls_vendor=\"gnutls\",ktls=\"none\"} 1\n"
               "weir_connections_total{tls_vendor=\"gnutls\",ktls=\"tx\"} 2\n"
               "weir_connections_total{tls_vendor=\"mbedtls\",ktls=\"tx+rx\"} 1\n"
               "# TYPE weir_tx_bytes counter");
}

static void bytes_are_counted_by_what_became_of_them(void **state)
{
    (void)state;
    metrics.send = (struct weir_send_info){
        .bytes =
            {
                [WEIR_SEND_BECAUSE_SMALL] = 1,
                [WEIR_SEND_BECAUSE_ROUTE] = 20,
                [WEIR_SEND_BECAUSE_PAYS] = 600000,
                [WEIR_SEND_BECAUSE_FILE] = 7,
                [WEIR_SEND_BECAUSE_KERNEL_TLS] = 8,
            },
        .sends = {[WEIR_SEND_BECAUSE_PAYS] = 6, [WEIR_SEND_BECAUSE_FILE] = 1},
        .pinned_bytes = 500,
        .zerocopy_used = 3,
        .zerocopy_copied = 2,
        .zerocopy_refused = 1,
        .used_bytes = 300000,
        .copied_bytes = 200000,
        .refused_bytes = 99500,
    };
    assert_has("weir_tx_bytes_total{send=\"copy\"} 99521\n"
               "weir_tx_bytes_total{send=\"zerocopy\"} 300000\n"
               "weir_tx_bytes_total{send=\"copied\"} 200000\n"
               "weir_tx_bytes_total{send=\"file\"} 7\n"
               "weir_tx_bytes_total{send=\"ktls\"} 8");
    assert_has("weir_send_decisions_total{send=\"zerocopy\",reason=\"pays\"} 6");
    assert_has("weir_send_decisions_total{send=\"file\",reason=\"file\"} 1");
    assert_has("weir_send_decisions_total{send=\"copy\",reason=\"small\"} 0");
    assert_has("weir_zerocopy_pinned_bytes 500");
    assert_has("weir_zerocopy_copied_total 2");
    assert_has("weir_zerocopy_refused_total 1");
}

static void the_text_begins_with_a_family_and_says_its_end(void **state)
{
    (void)state;
    static const char begin[] = "# TYPE weir_request_accepted_seconds histogram\n"
                                "# UNIT weir_request_accepted_seconds seconds\n"
                                "# HELP weir_request_accepted_seconds ";
    assert_memory_equal(format(), begin, sizeof(begin) - 1);
    size_t length = strlen(text);
    assert_string_equal(text + length - 6, "# EOF\n");
    /* No request yet, but the plain connections are there to begin with. */
    assert_lacks("weir_requests_total{");
    assert_has("weir_connections_total{tls_vendor=\"none\",ktls=\"none\"} 0");
    assert_has("weir_delivery_unknown_total 0");
}

static void adding_adds_each_number(void **state)
{
    (void)state;
    static struct weir__metrics sum;
    uint64_t *number = (uint64_t *)(void *)&metrics;
    size_t count = sizeof(metrics) / sizeof(*number);
    for (size_t i = 0; i < count; i++)
        number[i] = i + 1;
    memset(&sum, 0, sizeof(sum));
    weir__metrics_add(&sum, &metrics);
    weir__metrics_add(&sum, &metrics);
    const uint64_t *added = (const uint64_t *)(const void *)&sum;
    for (size_t i = 0; i < count; i++)
        assert_int_equal(added[i], 2 * (i + 1));
}

static void the_longest_text_fits(void **state)
{
    (void)state;
    memset(&metrics, 0xff, sizeof(metrics));
    size_t length = weir__metrics_format(&metrics, text);
    assert_in_range(length, 100000, WEIR__METRICS_TEXT_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_bucket_has_what_is_not_above_its_bound, clear),
        cmocka_unit_test_setup(requests_are_counted_by_status_and_protocol, clear),
        cmocka_unit_test_setup(connections_are_counted_by_library_and_kernel, clear),
        cmocka_unit_test_setup(bytes_are_counted_by_what_became_of_them, clear),
        cmocka_unit_test_setup(the_text_begins_with_a_family_and_says_its_end, clear),
        cmocka_unit_test_setup(adding_adds_each_number, clear),
        cmocka_unit_test_setup(the_longest_text_fits, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
