/* SPDX-License-Identifier: Apache-2.0 */
#include "server/access_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define TEXT(literal) ((struct weir__text){(literal), sizeof(literal) - 1})

/* 2026-11-23T05:00:00.123456Z */
#define WALL_NS 1795410000123456789u

/* The access log contract's own example, without TLS. */
static struct weir__log_entry example(void)
{
    return (struct weir__log_entry){
        .wall_ns = WALL_NS,
        .arrived_ns = 5000000000,
        .first_byte_ns = 5000130000,
        .accepted_ns = 5000900999,
        .sent_ns = 5966000000,
        .delivered_ns = 6288000000,
        .delivered_by = WEIR_DELIVERY_TX_ACK,
        .client = "10.0.0.1:5000",
        .protocol = "HTTP/1.1",
        .method = TEXT("GET"),
        .host = TEXT("a.example"),
        .target = TEXT("/128kb"),
        .referer = TEXT("http://b.example/"),
        .user_agent = TEXT("curl/8.0"),
        .status = 200,
        .body_bytes = 131072,
        .wire_bytes = 131250,
        .delivered_bytes = 131072,
        .engine = "io_uring",
        .send = WEIR__LOG_SEND_COPY,
        .outcome = WEIR__LOG_DELIVERED,
        .info_known = true,
        .rtt_us = 322000,
        .retransmits = 0,
    };
}

static const char *format(const struct weir__log_entry *entry, enum weir__log_format kind)
{
    static char line[WEIR__LOG_LINE_MAX + 1];
    struct weir__log_clock clock;
    weir__log_clock_init(&clock);
    memset(line, '#', sizeof(line));
    size_t length = weir__log_entry_format(entry, kind, &clock, line, WEIR__LOG_LINE_MAX);
    assert_int_equal(line[length - 1], '\n');
    assert_int_equal(line[length], '#');
    line[length - 1] = '\0';
    assert_null(strchr(line, '\n'));
    return line;
}

static void json_line_is_the_contract(void **state)
{
    (void)state;
    struct weir__log_entry entry = example();
    assert_string_equal(
        format(&entry, WEIR__LOG_JSON),
        "{\"time\":\"2026-11-23T05:00:00.123456Z\",\"client\":\"10.0.0.1:5000\","
        "\"protocol\":\"HTTP/1.1\",\"method\":\"GET\",\"host\":\"a.example\",\"target\":\"/128kb\","
        "\"status\":200,\"body_bytes\":131072,\"wire_bytes\":131250,\"tls\":null,\"cipher\":null,"
        "\"tls_vendor\":null,\"ktls\":\"none\",\"engine\":\"io_uring\",\"send\":\"copy\","
        "\"first_byte_us\":130,\"accepted_us\":900,\"sent_us\":966000,\"delivered_us\":1288000,"
        "\"delivered_by\":\"tx_ack\",\"delivered_bytes\":131072,\"outcome\":\"delivered\","
        "\"rtt_us\":322000,\"retransmits\":0,\"cache\":\"none\",\"upstream_us\":null}");
}

static const char *tls_part(struct weir__log_entry *entry)
{
    static char part[160];
    const char *from = strstr(format(entry, WEIR__LOG_JSON), "\"tls\":");
    size_t length = (size_t)(strstr(from, ",\"engine\"") - from);

    assert_true(length < sizeof(part));
    memcpy(part, from, length);
    part[length] = '\0';
    return part;
}

static void json_says_how_a_connection_is_protected(void **state)
{
    (void)state;
    struct weir__log_entry entry = example();
    entry.tls = "TLSv1.3";
    entry.cipher = "TLS_AES_128_GCM_SHA256";
    entry.tls_vendor = "openssl";
    assert_string_equal(tls_part(&entry),
                        "\"tls\":\"TLSv1.3\",\"cipher\":\"TLS_AES_128_GCM_SHA256\","
                        "\"tls_vendor\":\"openssl\",\"ktls\":\"none\"");
    entry.kernel_tx = true;
    assert_string_equal(strstr(tls_part(&entry), "\"ktls\""), "\"ktls\":\"tx\"");
    entry.kernel_rx = true;
    assert_string_equal(strstr(tls_part(&entry), "\"ktls\""), "\"ktls\":\"tx+rx\"");
}

static void json_unknowns_are_null(void **state)
{
    (void)state;
    struct weir__log_entry entry = {
        .wall_ns = WALL_NS,
        .arrived_ns = 7000,
        .accepted_ns = 6999, /* a stamp just before the loop's clock read is no negative time */
        .client = "[::1]:5000",
        .status = 400,
        .body_bytes = UINT64_MAX,
        .engine = "poll",
        .send = WEIR__LOG_SEND_FILE,
        .outcome = WEIR__LOG_TIMEOUT,
    };
    assert_string_equal(
        format(&entry, WEIR__LOG_JSON),
        "{\"time\":\"2026-11-23T05:00:00.123456Z\",\"client\":\"[::1]:5000\",\"protocol\":null,"
        "\"method\":null,\"host\":null,\"target\":null,\"status\":400,"
        "\"body_bytes\":18446744073709551615,\"wire_bytes\":0,\"tls\":null,\"cipher\":null,"
        "\"tls_vendor\":null,\"ktls\":\"none\",\"engine\":\"poll\",\"send\":\"file\","
        "\"first_byte_us\":null,\"accepted_us\":0,\"sent_us\":null,\"delivered_us\":null,"
        "\"delivered_by\":\"none\",\"delivered_bytes\":0,\"outcome\":\"timeout\",\"rtt_us\":null,"
        "\"retransmits\":null,\"cache\":\"none\",\"upstream_us\":null}");
}

static void every_name_is_spelt_as_promised(void **state)
{
    (void)state;
    static const char *const sends[] = {"\"send\":\"copy\"", "\"send\":\"zerocopy\"",
                                        "\"send\":\"copied\"", "\"send\":\"file\""};
    static const char *const outcomes[] = {"\"outcome\":\"delivered\"", "\"outcome\":\"reset\"",
                                           "\"outcome\":\"timeout\"", "\"outcome\":\"aborted\"",
                                           "\"outcome\":null,"};
    struct weir__log_entry entry = example();
    for (unsigned i = 0; i < 4; i++) {
        entry.send = (enum weir__log_send)i;
        assert_non_null(strstr(format(&entry, WEIR__LOG_JSON), sends[i]));
    }
    for (unsigned i = 0; i < 5; i++) {
        entry.outcome = (enum weir__log_outcome)i;
        assert_non_null(strstr(format(&entry, WEIR__LOG_JSON), outcomes[i]));
    }
    entry.delivered_by = WEIR_DELIVERY_TCP_INFO;
    assert_non_null(strstr(format(&entry, WEIR__LOG_JSON), "\"delivered_by\":\"tcp_info\""));
}

/* The target's value in the JSON line, between its quotes. */
static const char *json_target(struct weir__text target)
{
    static char value[WEIR__LOG_LINE_MAX];
    struct weir__log_entry entry = example();
    entry.target = target;
    const char *start = strstr(format(&entry, WEIR__LOG_JSON), "\"target\":\"");
    assert_non_null(start);
    start += strlen("\"target\":\"");
    const char *end = strstr(start, "\",\"status\":");
    assert_non_null(end);
    memcpy(value, start, (size_t)(end - start));
    value[end - start] = '\0';
    return value;
}

static void json_escapes_any_byte(void **state)
{
    (void)state;
    assert_string_equal(json_target(TEXT("")), "");
    assert_string_equal(json_target(TEXT("a\"b\\c/")), "a\\\"b\\\\c/");
    assert_string_equal(json_target(TEXT("\x00\x1f\r\n\t\x7f ~")),
                        "\\u0000\\u001f\\u000d\\u000a\\u0009\\u007f ~");
    /* Characters of two, three and four bytes pass; the first and the last of each length too. */
    assert_string_equal(json_target(TEXT("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80")),
                        "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
    assert_string_equal(
        json_target(TEXT("\xc2\xa0\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80")),
        "\xc2\xa0\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80");
    assert_string_equal(json_target(TEXT("\xf4\x8f\xbf\xbf\xed\x9f\xbf\xee\x80\x80")),
                        "\xf4\x8f\xbf\xbf\xed\x9f\xbf\xee\x80\x80");
    /* Valid, but it moves a terminal's cursor, or ends a line for some readers. */
    assert_string_equal(json_target(TEXT("\xc2\x80\xc2\x9b\xc2\x9f")), "\\u0080\\u009b\\u009f");
    assert_string_equal(json_target(TEXT("\xe2\x80\xa7\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xaa")),
                        "\xe2\x80\xa7\\u2028\\u2029\xe2\x80\xaa");
}

static void json_escapes_what_is_not_utf8(void **state)
{
    (void)state;
    assert_string_equal(json_target(TEXT("\x80x\xbf")), "\\u0080x\\u00bf"); /* no lead */
    assert_string_equal(json_target(TEXT("\xc0\x80\xc1\xbf")), "\\u00c0\\u0080\\u00c1\\u00bf");
    assert_string_equal(json_target(TEXT("\xe0\x9f\xbf")), "\\u00e0\\u009f\\u00bf"); /* overlong */
    assert_string_equal(json_target(TEXT("\xf0\x8f\xbf\xbf")), "\\u00f0\\u008f\\u00bf\\u00bf");
    assert_string_equal(json_target(TEXT("\xed\xa0\x80")), "\\u00ed\\u00a0\\u0080"); /* surrogate */
    assert_string_equal(json_target(TEXT("\xf4\x90\x80\x80")), "\\u00f4\\u0090\\u0080\\u0080");
    assert_string_equal(json_target(TEXT("\xf5\x80\x80\x80\xff")),
                        "\\u00f5\\u0080\\u0080\\u0080\\u00ff");
    assert_string_equal(json_target(TEXT("\xe2\x82")), "\\u00e2\\u0082"); /* cut short */
    assert_string_equal(json_target(TEXT("\xe2\x82y")), "\\u00e2\\u0082y");
    assert_string_equal(json_target(TEXT("\xf0\x9f\x98")), "\\u00f0\\u009f\\u0098");
    assert_string_equal(json_target(TEXT("\xc3")), "\\u00c3");
}

/* Whatever the peer sends, the line fits, and what is cut is cut between characters. */
static void long_text_is_cut_between_characters(void **state)
{
    (void)state;
    static char bytes[40000];
    struct weir__text text = {bytes, sizeof(bytes)};
    memset(bytes, 'a', sizeof(bytes));
    assert_int_equal(strlen(json_target(text)), 8192);
    memset(bytes, 1, sizeof(bytes));
    assert_int_equal(strlen(json_target(text)), 8192 / 6 * 6);
    memset(bytes, '"', sizeof(bytes));
    bytes[0] = 'a';
    assert_int_equal(strlen(json_target(text)), 8191);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = "\xe2\x82\xac"[i % 3];
    assert_int_equal(strlen(json_target(text)), 8192 / 3 * 3);

    struct weir__log_entry entry = example();
    memset(bytes, 1, sizeof(bytes));
    entry.method = entry.host = entry.target = entry.referer = entry.user_agent = text;
    assert_true(strlen(format(&entry, WEIR__LOG_JSON)) < WEIR__LOG_LINE_MAX - 1024);
    assert_true(strlen(format(&entry, WEIR__LOG_COMBINED)) < WEIR__LOG_LINE_MAX - 1024);
}

static void combined_line_ends_with_the_delivered_seconds(void **state)
{
    (void)state;
    struct weir__log_entry entry = example();
    assert_string_equal(
        format(&entry, WEIR__LOG_COMBINED),
        "10.0.0.1 - - [23/Nov/2026:05:00:00 +0000] \"GET /128kb HTTP/1.1\" 200 131072 "
        "\"http://b.example/\" \"curl/8.0\" 1.288000");
    entry.delivered_ns = entry.arrived_ns + 42999;
    assert_non_null(strstr(format(&entry, WEIR__LOG_COMBINED), "\"curl/8.0\" 0.000042"));
}

static void combined_line_has_dashes_for_unknowns(void **state)
{
    (void)state;
    struct weir__log_entry entry = example();
    entry.client = "[2001:db8::1]:443";
    entry.referer.data = entry.user_agent.data = NULL;
    entry.delivered_ns = 0;
    assert_string_equal(format(&entry, WEIR__LOG_COMBINED),
                        "2001:db8::1 - - [23/Nov/2026:05:00:00 +0000] \"GET /128kb HTTP/1.1\" 200 "
                        "131072 \"-\" \"-\" -");
    entry.method.data = NULL;
    assert_non_null(strstr(format(&entry, WEIR__LOG_COMBINED), "] \"-\" 200 "));
}

static void combined_line_escapes_any_byte(void **state)
{
    (void)state;
    struct weir__log_entry entry = example();
    entry.target = TEXT("/\"\\\n");
    entry.user_agent = TEXT("\xff\x7f ok\t");
    assert_string_equal(
        format(&entry, WEIR__LOG_COMBINED),
        "10.0.0.1 - - [23/Nov/2026:05:00:00 +0000] \"GET /\\x22\\x5c\\x0a HTTP/1.1\" "
        "200 131072 \"http://b.example/\" \"\\xff\\x7f ok\\x09\" 1.288000");
}

/* The clock keeps the text of a second; the next second, and an earlier one, must not get it. */
static void clock_follows_the_entries(void **state)
{
    (void)state;
    static const struct {
        uint64_t second;
        const char *text;
    } cases[] = {
        {1795410000, "2026-11-23T05:00:00."}, {1795410001, "2026-11-23T05:00:01."},
        {1795409999, "2026-11-23T04:59:59."}, {0, "1970-01-01T00:00:00."},
        {1709164799, "2024-02-28T23:59:59."}, {1709164800, "2024-02-29T00:00:00."},
        {4102444800, "2100-01-01T00:00:00."}, {4107542400, "2100-03-01T00:00:00."},
    };
    struct weir__log_clock clock;
    char line[WEIR__LOG_LINE_MAX];
    weir__log_clock_init(&clock);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct weir__log_entry entry = example();
        entry.wall_ns = cases[i].second * 1000000000u + 999999999u;
        for (unsigned again = 0; again < 2; again++) {
            weir__log_entry_format(&entry, WEIR__LOG_JSON, &clock, line, sizeof(line));
            assert_memory_equal(line + strlen("{\"time\":\""), cases[i].text, 20);
            assert_memory_equal(line + strlen("{\"time\":\"") + 20, "999999Z\"", 8);
        }
    }
}

static void numbers_of_each_length(void **state)
{
    (void)state;
    static const uint64_t numbers[] = {0, 9, 10, 99, 100, 101, 999, 1000, 65535, 10000000000u};
    struct weir__log_entry entry = example();
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        char wanted[64];
        snprintf(wanted, sizeof(wanted), "\"wire_bytes\":%llu,", (unsigned long long)numbers[i]);
        entry.wire_bytes = numbers[i];
        assert_non_null(strstr(format(&entry, WEIR__LOG_JSON), wanted));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_line_is_the_contract),
        cmocka_unit_test(json_says_how_a_connection_is_protected),
        cmocka_unit_test(json_unknowns_are_null),
        cmocka_unit_test(every_name_is_spelt_as_promised),
        cmocka_unit_test(json_escapes_any_byte),
        cmocka_unit_test(json_escapes_what_is_not_utf8),
        cmocka_unit_test(long_text_is_cut_between_characters),
        cmocka_unit_test(combined_line_ends_with_the_delivered_seconds),
        cmocka_unit_test(combined_line_has_dashes_for_unknowns),
        cmocka_unit_test(combined_line_escapes_any_byte),
        cmocka_unit_test(clock_follows_the_entries),
        cmocka_unit_test(numbers_of_each_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
