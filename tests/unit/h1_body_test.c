/* SPDX-License-Identifier: Apache-2.0 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/h1_trace.h"

struct example {
    const char *stream;
    size_t length;
    const char *trace; /* of h1_trace.h; then how many bytes are left */
};

#define EXAMPLE(stream, trace)                                                                     \
    {                                                                                              \
        stream, sizeof(stream) - 1, trace                                                          \
    }

static void body_expect(const struct weir__request *request, const struct example *example,
                        const size_t *ends, size_t end_count)
{
    struct h1_feed feed = {.data = example->stream, .ends = ends, .end_count = end_count};
    struct h1_trace trace;
    struct weir__h1_body body;

    h1_trace_init(&trace);
    weir__h1_body_init(&body, request);
    if (h1_trace_body(&trace, &feed, &body))
        h1_trace_print(&trace, "left %zu", example->length - feed.start);
    assert_string_equal(trace.text, example->trace);
    h1_trace_dispose(&trace);
}

/* At once, in two pieces cut at every byte, and byte by byte. */
static void bodies_check(const struct weir__request *request, const struct example *examples,
                         size_t count)
{
    size_t every[1024];

    for (size_t i = 0; i < count; i++) {
        size_t length = examples[i].length;
        assert_true(length < sizeof(every) / sizeof(every[0]));
        body_expect(request, &examples[i], &length, 1);
        for (size_t cut = 0; cut < length; cut++) {
            size_t ends[2] = {cut, length};
            body_expect(request, &examples[i], ends, 2);
            every[cut] = cut + 1;
        }
        if (length > 0)
            body_expect(request, &examples[i], every, length);
    }
}

#define CHECK(request, examples)                                                                   \
    bodies_check(request, examples, sizeof(examples) / sizeof((examples)[0]))

static void test_none(void **state)
{
    static const struct example examples[] = {
        EXAMPLE("", "body 0 \nleft 0"),
        EXAMPLE("GET", "body 0 \nleft 3"),
    };
    struct weir__request request;

    (void)state;
    weir__request_init(&request);
    CHECK(&request, examples);
    request.framing = WEIR__FRAMING_LENGTH;
    CHECK(&request, examples);
}

static void test_length(void **state)
{
    static const struct example examples[] = {
        EXAMPLE("", "incomplete body 0 \n"),
        EXAMPLE("ab", "incomplete body 2 ab\n"),
        EXAMPLE("abc", "body 3 abc\nleft 0"),
        EXAMPLE("a\r\nGET", "body 3 a\r\n\nleft 3"),
    };
    struct weir__request request;

    (void)state;
    weir__request_init(&request);
    request.framing = WEIR__FRAMING_LENGTH;
    request.content_length = 3;
    CHECK(&request, examples);
}

static void test_chunked(void **state)
{
#define SIZE(why)      "body error 400 " why "\n"
#define MALFORMED_SIZE SIZE("malformed chunk size or extension")
#define MALFORMED      SIZE("malformed chunk extension")
    static const struct example examples[] = {
        EXAMPLE("0\r\n\r\n", "body 0 \nleft 0"),
        EXAMPLE("5\r\nhello\r\n0\r\n\r\nGET", "body 5 hello\nleft 3"),
        EXAMPLE("1\r\na\r\n02\r\n\r\n\r\n00A\r\n0123456789\r\n000\r\n\r\n",
                "body 13 a\r\n0123456789\nleft 0"),
        EXAMPLE("000000000000000b\r\nhello world\r\n0\r\n\r\n", "body 11 hello world\nleft 0"),
        EXAMPLE("1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n",
                "body 26 abcdefghijklmnopqrstuvwxyz\nleft 0"),
        EXAMPLE("5\r\nhel", "incomplete body 3 hel\n"),
        EXAMPLE("5\r\nhello\r\n0\r\n\r", "incomplete body 5 hello\n"),
        EXAMPLE("ffffffffffffffff\r\na", "incomplete body 1 a\n"),
        EXAMPLE("00000000000000001\r\na", SIZE("chunk size too long")),
        EXAMPLE("10000000000000000\r\na", SIZE("chunk size too long")),
        EXAMPLE("\r\n", SIZE("chunk without a size")),
        EXAMPLE(" 1\r\n", SIZE("chunk without a size")),
        EXAMPLE("-1\r\n", SIZE("chunk without a size")),
        EXAMPLE(";a\r\n", SIZE("chunk without a size")),
        EXAMPLE("g\r\n", SIZE("chunk without a size")),
        EXAMPLE("0x1\r\n", MALFORMED_SIZE),
        EXAMPLE("1g\r\n", MALFORMED_SIZE),
        EXAMPLE("1\n", MALFORMED_SIZE),
        EXAMPLE("1\r\r\n", SIZE("chunk line without CRLF")),
        EXAMPLE("1\ra", SIZE("chunk line without CRLF")),
        EXAMPLE("1\r\nab\r\n", SIZE("chunk line without CRLF")),
        EXAMPLE("1\r\na\n", SIZE("chunk line without CRLF")),
        EXAMPLE("1\r\na\r0", SIZE("chunk line without CRLF")),
        EXAMPLE("1\r\na\r\n\r\n", SIZE("chunk without a size")),
    };
    struct weir__request request;

    (void)state;
    weir__request_init(&request);
    request.framing = WEIR__FRAMING_CHUNKED;
    CHECK(&request, examples);
}

static void test_extensions(void **state)
{
#define LAST       "0\r\n\r\n"
#define ACCEPTED   "body 1 x\nleft 0"
#define GOOD(text) EXAMPLE("1" text "\r\nx\r\n" LAST, ACCEPTED)
    static const struct example examples[] = {
        GOOD(";a"),
        GOOD(";a;b"),
        GOOD(";a=b"),
        GOOD(";a=b;c=d"),
        GOOD(";a=\"b\""),
        GOOD(";a=\"\";c"),
        GOOD(";a=\"b;\\\"\t\xe9\" ;c"),
        GOOD(" ;\ta =\t b ; c\t= \"d\" ; e ;f"),
        EXAMPLE("1 \r\n", SIZE("white space at the end of a chunk's size")),
        EXAMPLE("1;a=b \r\n", SIZE("white space at the end of a chunk's size")),
        EXAMPLE("1 1\r\n", MALFORMED_SIZE),
        EXAMPLE("1;\r\n", MALFORMED),
        EXAMPLE("1;;a\r\n", MALFORMED),
        EXAMPLE("1;=a\r\n", MALFORMED),
        EXAMPLE("1;\"a\"\r\n", MALFORMED),
        EXAMPLE("1;a=\r\n", MALFORMED),
        EXAMPLE("1;a=;\r\n", MALFORMED),
        EXAMPLE("1;a==b\r\n", MALFORMED),
        EXAMPLE("1;a \r\n", MALFORMED),
        EXAMPLE("1;a b\r\n", MALFORMED),
        EXAMPLE("1;a\n", MALFORMED_SIZE),
        EXAMPLE("1;a\rb", SIZE("chunk line without CRLF")),
        EXAMPLE("1;a=b\n", MALFORMED_SIZE),
        EXAMPLE("1;a=b=c\r\n", MALFORMED_SIZE),
        EXAMPLE("1;a=\"b\"c\r\n", MALFORMED_SIZE),
        EXAMPLE("1;a=\"b\r\n", SIZE("control character in a chunk extension")),
        EXAMPLE("1;a=\"\\\r\n", SIZE("control character in a chunk extension")),
    };
    struct weir__request request;

    (void)state;
    weir__request_init(&request);
    request.framing = WEIR__FRAMING_CHUNKED;
    CHECK(&request, examples);
}

static void test_trailers(void **state)
{
#define TRAILED(text, trace) EXAMPLE("1\r\nx\r\n0\r\n" text, trace)
    static const struct example examples[] = {
        TRAILED("A: b\r\n\r\n", ACCEPTED),
        TRAILED("A:\r\nContent-Length: \t\xe9\r\n\r\nG", "body 1 x\nleft 1"),
        TRAILED("A: b\r\n", "incomplete body 1 x\n"),
        TRAILED("A: b\r\n c\r\n\r\n", SIZE("malformed trailer")),
        TRAILED("A : b\r\n\r\n", SIZE("malformed trailer")),
        TRAILED(": b\r\n\r\n", SIZE("malformed trailer")),
        TRAILED("A\r\n\r\n", SIZE("malformed trailer")),
        TRAILED("\n", SIZE("malformed trailer")),
        TRAILED("A: b\n\n", SIZE("control character in a trailer")),
        TRAILED("A: \0\r\n\r\n", SIZE("control character in a trailer")),
        TRAILED("A: b\rc\r\n\r\n", SIZE("chunk line without CRLF")),
        TRAILED("A: b\r\n\rG", SIZE("chunk line without CRLF")),
    };
    struct weir__request request;

    (void)state;
    weir__request_init(&request);
    request.framing = WEIR__FRAMING_CHUNKED;
    CHECK(&request, examples);
}

/* What comes of `prefix` and then `filler` until the body says no; `*total` counts the bytes taken.
 */
static int filled_consume(const char *prefix, const char *filler, size_t *total)
{
    struct weir__request request;
    struct weir__h1_body body;
    struct weir__text content;
    size_t consumed;
    int result;

    weir__request_init(&request);
    request.framing = WEIR__FRAMING_CHUNKED;
    weir__h1_body_init(&body, &request);
    result = weir__h1_body_consume(&body, prefix, strlen(prefix), &consumed, &content);
    assert_int_equal(result, WEIR__H1_BODY_MORE);
    assert_int_equal(consumed, strlen(prefix));
    for (*total = 0; *total < 1000000; (*total)++) {
        result =
            weir__h1_body_consume(&body, filler + *total % strlen(filler), 1, &consumed, &content);
        if (result != WEIR__H1_BODY_MORE)
            break;
    }
    return result;
}

static void test_limits(void **state)
{
    size_t total;

    (void)state;
    assert_int_equal(filled_consume("1;", "a", &total), -400);
    assert_int_equal(total, 256);
    /* 4 bytes of each chunk of 10 count: "a=b" and its CR. 4096 chunks fill the 16384. */
    assert_int_equal(filled_consume("", "1;a=b\r\nx\r\n", &total), -400);
    assert_int_equal(total, 4096 * 10 + 2);
    assert_int_equal(filled_consume("0\r\nA:", "a", &total), -431);
    assert_int_equal(total, 8192 - 2);
    /* The LF of each is not counted: 5 bytes of 6. */
    assert_int_equal(filled_consume("0\r\n", "A: b\r\n", &total), -431);
    assert_int_equal(total, 8192 / 5 * 6 + 8192 % 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_none),     cmocka_unit_test(test_length),
        cmocka_unit_test(test_chunked),  cmocka_unit_test(test_extensions),
        cmocka_unit_test(test_trailers), cmocka_unit_test(test_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
