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
    const char *trace; /* of h1_trace.h */
};

#define EXAMPLE(stream, trace)                                                                     \
    {                                                                                              \
        stream, sizeof(stream) - 1, trace                                                          \
    }
#define HOST "Host: a\r\n"
#define END  "\r\n"

static void trace_expect(const struct example *example, const size_t *ends, size_t end_count)
{
    struct h1_trace trace;

    h1_trace_init(&trace);
    h1_trace_stream(&trace, example->stream, ends, end_count);
    assert_string_equal(trace.text, example->trace);
    h1_trace_dispose(&trace);
}

/* At once, in two pieces cut at every byte, and byte by byte. */
static void examples_check(const struct example *examples, size_t count)
{
    size_t every[4096];

    for (size_t i = 0; i < count; i++) {
        size_t length = examples[i].length;
        assert_true(length < sizeof(every) / sizeof(every[0]));
        trace_expect(&examples[i], &length, 1);
        for (size_t cut = 0; cut < length; cut++) {
            size_t ends[2] = {cut, length};
            trace_expect(&examples[i], ends, 2);
            every[cut] = cut + 1;
        }
        trace_expect(&examples[i], every, length);
    }
}

#define CHECK(examples) examples_check(examples, sizeof(examples) / sizeof((examples)[0]))

static void test_request_lines(void **state)
{
    static const struct example examples[] = {
        EXAMPLE("GET / HTTP/1.1\r\n" HOST END,
                "head 27 GET #1 / origin path / query - host a 1.1 keep none 0\n"
                " Host: a #5\n"
                "body 0 \n"),
        EXAMPLE("HEAD /a/b?c=d?e HTTP/1.1\r\n" HOST END,
                "head 37 HEAD #2 /a/b?c=d?e origin path /a/b query c=d?e host a 1.1 keep none 0\n"
                " Host: a #5\n"
                "body 0 \n"),
        EXAMPLE("GET /? HTTP/1.0\r\n" END,
                "head 19 GET #1 /? origin path / query  host - 1.0 close none 0\nbody 0 \n"),
        EXAMPLE(
            "POST //x/../%2e HTTP/1.0\r\n" END,
            "head 28 POST #3 //x/../%2e origin path //x/../%2e query - host - 1.0 close none 0\n"
            "body 0 \n"),
        EXAMPLE("PUT /!\"$%&'()*+,-.;<=>@[\\]^_`{|}~ HTTP/1.0\r\n" END,
                "head 46 PUT #4 /!\"$%&'()*+,-.;<=>@[\\]^_`{|}~ origin path "
                "/!\"$%&'()*+,-.;<=>@[\\]^_`{|}~ query - host - 1.0 close none 0\n"
                "body 0 \n"),
        EXAMPLE("DELETE / HTTP/1.9\r\n" HOST END,
                "head 30 DELETE #5 / origin path / query - host a 1.9 keep none 0\n"
                " Host: a #5\n"
                "body 0 \n"),
        EXAMPLE("TRACE / HTTP/1.0\r\n" END,
                "head 20 TRACE #8 / origin path / query - host - 1.0 close none 0\nbody 0 \n"),
        EXAMPLE("PATCH / HTTP/1.0\r\n" END,
                "head 20 PATCH #9 / origin path / query - host - 1.0 close none 0\nbody 0 \n"),
        EXAMPLE("get / HTTP/1.0\r\n" END,
                "head 18 get #0 / origin path / query - host - 1.0 close none 0\nbody 0 \n"),
        EXAMPLE("\r\n\r\n\r\n\r\nM-SEARCH / HTTP/1.0\r\n" END,
                "head 31 M-SEARCH #0 / origin path / query - host - 1.0 close none 0\nbody 0 \n"),
        EXAMPLE("\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.0\r\n" END,
                "error 400 empty lines instead of a request | - -\n"),
        EXAMPLE("GET / HTTP/1.1", "incomplete head\n"),
        EXAMPLE("\n", "error 400 LF without CR | - -\n"),
        EXAMPLE("GET / HTTP/1.1\n" HOST END, "error 400 LF without CR | - -\n"),
        EXAMPLE("GET / HTTP/1.1\r" HOST END, "error 400 CR without LF | - -\n"),
        EXAMPLE("\r\r\n", "error 400 CR without LF | - -\n"),
        EXAMPLE("GET /\0 HTTP/1.1\r\n" HOST END, "error 400 control character | - -\n"),
        EXAMPLE("GET /\x7f HTTP/1.1\r\n" HOST END, "error 400 control character | - -\n"),
        EXAMPLE("GET /\t HTTP/1.1\r\n" END, "error 400 invalid character in the target | GET /\n"),
        EXAMPLE("GET\t/ HTTP/1.1\r\n" END, "error 400 malformed method | GET -\n"),
        EXAMPLE(" GET / HTTP/1.1\r\n" END, "error 400 malformed method |  -\n"),
        EXAMPLE("GET\r\n", "error 400 malformed method | GET -\n"),
        EXAMPLE("G(T / HTTP/1.1\r\n" END, "error 400 malformed method | G -\n"),
        EXAMPLE("GET  / HTTP/1.1\r\n" END, "error 400 no target behind the method | GET \n"),
        EXAMPLE("GET \r\n", "error 400 no target behind the method | GET \n"),
        EXAMPLE("GET /\r\n", "error 400 no HTTP version in the request line | GET /\n"),
        EXAMPLE("GET /\xc3\xa9 HTTP/1.1\r\n" END,
                "error 400 invalid character in the target | GET /\n"),
        EXAMPLE("GET /#a HTTP/1.1\r\n" END, "error 400 invalid character in the target | GET /\n"),
        EXAMPLE("GET / a HTTP/1.1\r\n" END, "error 400 malformed HTTP version | GET /\n"),
        EXAMPLE("GET /  HTTP/1.1\r\n" END, "error 400 malformed HTTP version | GET /\n"),
        EXAMPLE("GET / HTTP/1.1 \r\n" END, "error 400 malformed HTTP version | GET /\n"),
        EXAMPLE("GET / \r\n" END, "error 400 malformed HTTP version | GET /\n"),
        EXAMPLE("GET / http/1.1\r\n" END, "error 400 malformed HTTP version | GET /\n"),
        EXAMPLE("GET / HTTP/1.x\r\n" END, "error 400 malformed HTTP version | GET /\n"),
        EXAMPLE("GET / HTTP/x.1\r\n" END, "error 400 malformed HTTP version | GET /\n"),
        EXAMPLE("GET / HTTP/1,1\r\n" END, "error 400 malformed HTTP version | GET /\n"),
        EXAMPLE("GET / HTTP/1.10\r\n" END, "error 400 malformed HTTP version | GET /\n"),
        EXAMPLE("GET / HTTP/1\r\n" END, "error 400 malformed HTTP version | GET /\n"),
        EXAMPLE("GET / HTTP/0.9\r\n" END, "error 505 HTTP version not supported | GET /\n"),
        EXAMPLE("GET / HTTP/3.0\r\n" END, "error 505 HTTP version not supported | GET /\n"),
        EXAMPLE("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                "error 505 HTTP version not supported | PRI *\n"),
    };

    (void)state;
    CHECK(examples);
}

static void test_targets(void **state)
{
    static const struct example examples[] = {
        EXAMPLE(
            "GET http://b:81/c?d HTTP/1.1\r\n" HOST END,
            "head 41 GET #1 http://b:81/c?d absolute path /c query d host b:81 1.1 keep none 0\n"
            " Host: a #5\n"
            "body 0 \n"),
        EXAMPLE("GET HTTPS://[::1] HTTP/1.0\r\n" END,
                "head 30 GET #1 HTTPS://[::1] absolute path / query - host [::1] 1.0 close none 0\n"
                "body 0 \n"),
        EXAMPLE("GET http://b?d HTTP/1.0\r\n" END,
                "head 27 GET #1 http://b?d absolute path / query d host b 1.0 close none 0\n"
                "body 0 \n"),
        EXAMPLE("CONNECT b:443 HTTP/1.1\r\n" HOST END,
                "head 35 CONNECT #6 b:443 authority path - query - host b:443 1.1 keep none 0\n"
                " Host: a #5\n"
                "body 0 \n"),
        EXAMPLE("OPTIONS * HTTP/1.1\r\n" HOST END,
                "head 31 OPTIONS #7 * asterisk path - query - host a 1.1 keep none 0\n"
                " Host: a #5\n"
                "body 0 \n"),
        EXAMPLE("GET * HTTP/1.1\r\n", "error 400 the target * is for OPTIONS | GET *\n"),
        EXAMPLE("OPTIONS *a HTTP/1.1\r\n",
                "error 400 the target has none of the four forms | OPTIONS *a\n"),
        EXAMPLE("GET a HTTP/1.1\r\n", "error 400 the target has none of the four forms | GET a\n"),
        EXAMPLE("GET a:80 HTTP/1.1\r\n",
                "error 400 the target has none of the four forms | GET a:80\n"),
        EXAMPLE("GET http:/a HTTP/1.1\r\n",
                "error 400 the target has none of the four forms | GET http:/a\n"),
        EXAMPLE("GET ftp://a/ HTTP/1.1\r\n",
                "error 400 the target's scheme is not http or https | GET ftp://a/\n"),
        EXAMPLE("GET http:// HTTP/1.1\r\n",
                "error 400 the target's host is not valid | GET http://\n"),
        EXAMPLE("GET http:///a HTTP/1.1\r\n",
                "error 400 the target's host is not valid | GET http:///a\n"),
        EXAMPLE("GET http://:80/ HTTP/1.1\r\n",
                "error 400 the target's host is not valid | GET http://:80/\n"),
        EXAMPLE("GET http://u@a/ HTTP/1.1\r\n",
                "error 400 the target's host is not valid | GET http://u@a/\n"),
        EXAMPLE("GET http://a:65536/ HTTP/1.1\r\n",
                "error 400 the target's host is not valid | GET http://a:65536/\n"),
        EXAMPLE("CONNECT b HTTP/1.1\r\n",
                "error 400 CONNECT's target is not host:port | CONNECT b\n"),
        EXAMPLE("CONNECT b: HTTP/1.1\r\n",
                "error 400 CONNECT's target is not host:port | CONNECT b:\n"),
        EXAMPLE("CONNECT :1 HTTP/1.1\r\n",
                "error 400 CONNECT's target is not host:port | CONNECT :1\n"),
        EXAMPLE("CONNECT / HTTP/1.1\r\n",
                "error 400 CONNECT's target is not host:port | CONNECT /\n"),
    };

    (void)state;
    CHECK(examples);
}

#define GET_1_0  "GET / HTTP/1.0\r\n"
#define GET_1_1  "GET / HTTP/1.1\r\n"
#define GOT(n)   "head " n " GET #1 / origin path / query - host - 1.0 close none 0\n"
#define BAD(why) "error 400 " why " | GET /\n"

static void test_fields(void **state)
{
    static const struct example examples[] = {
        EXAMPLE(GET_1_0 "A:b\r\nC:\t d e \t\r\nF:\r\nG: \xe9:\"\r\n" END,
                GOT("46") " A: b #0\n C: d e #0\n F:  #0\n G: \xe9:\" #0\nbody 0 \n"),
        EXAMPLE(GET_1_0 "!#$%&'*+-.^_`|~09azAZ: 1\r\n" END,
                GOT("44") " !#$%&'*+-.^_`|~09azAZ: 1 #0\nbody 0 \n"),
        EXAMPLE(GET_1_0
                "accept-ENCODING: 1\r\nConnection: 2\r\nExpect: 3\r\nhost: 4\r\n"
                "If-Match: 5\r\nIf-Modified-Since: 6\r\nIf-None-Match: 7\r\nIf-Range: 8\r\n" END,
                "head 139 GET #1 / origin path / query - host 4 1.0 close none 0\n"
                " accept-ENCODING: 1 #1\n Connection: 2 #2\n Expect: 3 #4\n host: 4 #5\n"
                " If-Match: 5 #6\n If-Modified-Since: 6 #7\n If-None-Match: 7 #8\n If-Range: 8 #9\n"
                "body 0 \n"),
        EXAMPLE(GET_1_0 "If-Unmodified-Since: 9\r\nRange: 10\r\nReferer: 11\r\nUser-Agent: 12\r\n"
                        "User-Agent: 13\r\nUser_Agent: 14\r\nRangf: 15\r\n" END,
                GOT("125") " If-Unmodified-Since: 9 #10\n Range: 10 #11\n Referer: 11 #12\n"
                           " User-Agent: 12 #14\n User-Agent: 13 #14\n User_Agent: 14 #0\n"
                           " Rangf: 15 #0\nbody 0 \n"),
        EXAMPLE(GET_1_0 "A: b\r\n c\r\n" END, BAD("folded field line")),
        EXAMPLE(GET_1_0 "\tc: d\r\n" END, BAD("folded field line")),
        EXAMPLE(GET_1_0 " \r\n" END, BAD("folded field line")),
        EXAMPLE(GET_1_0 "A : b\r\n" END, BAD("white space in a field name")),
        EXAMPLE(GET_1_0 "A\t: b\r\n" END, BAD("white space in a field name")),
        EXAMPLE(GET_1_0 "A b: c\r\n" END, BAD("white space in a field name")),
        EXAMPLE(GET_1_0 ": b\r\n" END, BAD("empty field name")),
        EXAMPLE(GET_1_0 "A\r\n" END, BAD("field line without a colon")),
        EXAMPLE(GET_1_0 "A(: b\r\n" END, BAD("invalid character in a field name")),
        EXAMPLE(GET_1_0 "\xe9: b\r\n" END, BAD("invalid character in a field name")),
        EXAMPLE(GET_1_0 "A: b\0c\r\n" END, BAD("control character")),
        EXAMPLE(GET_1_0 "A: 0123456789abcdef\x01\r\n" END, BAD("control character")),
        EXAMPLE(GET_1_0 "A: 0123456789abcdef\x7f\r\n" END, BAD("control character")),
        EXAMPLE(GET_1_0 "A: b\n" END, BAD("LF without CR")),
        EXAMPLE(GET_1_0 "A: b\rc: d\r\n" END, BAD("CR without LF")),
        EXAMPLE(GET_1_0 "A: b\r\n\n", BAD("LF without CR")),
        EXAMPLE(GET_1_0 "A: b\r\n\r\r\n", BAD("CR without LF")),
        EXAMPLE(GET_1_0 "A: b\r\n", "incomplete head\n"),
    };

    (void)state;
    CHECK(examples);
}

static void test_hosts(void **state)
{
#define HOSTED(n, host)                                                                            \
    "head " n " GET #1 / origin path / query - host " host " 1.1 keep none 0\n Host: " host        \
    " #5\nbody 0 \n"
    static const struct example examples[] = {
        EXAMPLE(GET_1_1 "Host: a-._~!$&'()*+,;=%41:65535\r\n" END,
                HOSTED("51", "a-._~!$&'()*+,;=%41:65535")),
        EXAMPLE(GET_1_1 "Host: [fe80::1]:80\r\n" END, HOSTED("38", "[fe80::1]:80")),
        EXAMPLE(GET_1_1 "Host:\r\n" END, HOSTED("25", "")),
        EXAMPLE(GET_1_1 "Host: a:\r\n" END, HOSTED("28", "a:")),
        EXAMPLE(GET_1_1 END, BAD("no Host field")),
        EXAMPLE(GET_1_1 HOST HOST END, BAD("more than one Host field")),
        EXAMPLE(GET_1_0 HOST "hOST: a\r\n" END, BAD("more than one Host field")),
        EXAMPLE(GET_1_1 "Host: a b\r\n" END, BAD("invalid Host field")),
        EXAMPLE(GET_1_1 "Host: a/b\r\n" END, BAD("invalid Host field")),
        EXAMPLE(GET_1_1 "Host: a@b\r\n" END, BAD("invalid Host field")),
        EXAMPLE(GET_1_1 "Host: \xe9\r\n" END, BAD("invalid Host field")),
        EXAMPLE(GET_1_1 "Host: a:65536\r\n" END, BAD("invalid Host field")),
        EXAMPLE(GET_1_1 "Host: a:99999999999999999999\r\n" END, BAD("invalid Host field")),
        EXAMPLE(GET_1_1 "Host: a:b\r\n" END, BAD("invalid Host field")),
        EXAMPLE(GET_1_1 "Host: a:1:2\r\n" END, BAD("invalid Host field")),
        EXAMPLE(GET_1_1 "Host: []\r\n" END, BAD("invalid Host field")),
        EXAMPLE(GET_1_1 "Host: [::1\r\n" END, BAD("invalid Host field")),
        EXAMPLE(GET_1_1 "Host: [::1]a\r\n" END, BAD("invalid Host field")),
        EXAMPLE(GET_1_1 "Host: a]\r\n" END, BAD("invalid Host field")),
        EXAMPLE("GET http://b/ HTTP/1.1\r\nHost: a b\r\n" END,
                "error 400 invalid Host field | GET http://b/\n"),
    };

    (void)state;
    CHECK(examples);
}

static void test_framing(void **state)
{
#define POST_1_1  "POST / HTTP/1.1\r\n" HOST
#define POSTED(n) "head " n " POST #3 / origin path / query - host a 1.1 keep "
#define NO(why)   "error 400 " why " | POST /\n"
    static const struct example examples[] = {
        EXAMPLE(POST_1_1 "Content-Length: 3\r\n" END "abc",
                POSTED("47") "length 3\n Host: a #5\n Content-Length: 3 #3\nbody 3 abc\n"),
        EXAMPLE(POST_1_1 "Content-Length: 0000000000000000000000\r\n" END,
                POSTED("68") "length 0\n Host: a #5\n"
                             " Content-Length: 0000000000000000000000 #3\nbody 0 \n"),
        EXAMPLE(POST_1_1 "Content-Length: 9223372036854775807\r\n" END "a",
                POSTED("65") "length 9223372036854775807\n Host: a #5\n"
                             " Content-Length: 9223372036854775807 #3\nincomplete body 1 a\n"),
        EXAMPLE(POST_1_1 "Content-Length: 9223372036854775808\r\n" END,
                NO("Content-Length too large")),
        EXAMPLE(POST_1_1 "Content-Length: 18446744073709551617\r\n" END,
                NO("Content-Length too large")),
        EXAMPLE(POST_1_1 "Content-Length:\r\n" END, NO("invalid Content-Length")),
        EXAMPLE(POST_1_1 "Content-Length: +1\r\n" END, NO("invalid Content-Length")),
        EXAMPLE(POST_1_1 "Content-Length: -1\r\n" END, NO("invalid Content-Length")),
        EXAMPLE(POST_1_1 "Content-Length: 0x1\r\n" END, NO("invalid Content-Length")),
        EXAMPLE(POST_1_1 "Content-Length: 1 1\r\n" END, NO("invalid Content-Length")),
        EXAMPLE(POST_1_1 "Content-Length: 1, 1\r\n" END, NO("invalid Content-Length")),
        EXAMPLE(POST_1_1 "Content-Length: 1\r\nContent-Length: 1\r\n" END,
                NO("more than one Content-Length field")),
        EXAMPLE(POST_1_1 "Content-Length: 1\r\nContent-Length: 2\r\n" END,
                NO("more than one Content-Length field")),
        EXAMPLE(POST_1_1 "Transfer-Encoding: CHUNKED\r\n" END "1\r\na\r\n0\r\n\r\n",
                POSTED("56") "chunked 0\n Host: a #5\n Transfer-Encoding: CHUNKED #13\nbody 1 a\n"),
        EXAMPLE(POST_1_1 "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n" END,
                NO("Content-Length and Transfer-Encoding")),
        EXAMPLE("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n" END,
                NO("Transfer-Encoding in HTTP/1.0")),
        EXAMPLE(POST_1_1 "Content-Length:\t1\r\n" END,
                NO("tab in Content-Length or Transfer-Encoding")),
        EXAMPLE(POST_1_1 "Transfer-Encoding: chunked\t\r\n" END,
                NO("tab in Content-Length or Transfer-Encoding")),
        EXAMPLE(POST_1_1 "Transfer-Encoding:\r\n" END, NO("malformed Transfer-Encoding")),
        EXAMPLE(POST_1_1 "Transfer-Encoding: ,\r\n" END, NO("malformed Transfer-Encoding")),
        EXAMPLE(POST_1_1 "Transfer-Encoding: chunked,\r\n" END, NO("malformed Transfer-Encoding")),
        EXAMPLE(POST_1_1 "Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n" END,
                NO("malformed Transfer-Encoding")),
        EXAMPLE(POST_1_1 "Transfer-Encoding: chunked, chunked\r\n" END,
                NO("chunked is not the last transfer coding")),
        EXAMPLE(POST_1_1 "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" END,
                NO("chunked is not the last transfer coding")),
        EXAMPLE(POST_1_1 "Transfer-Encoding: chunked, gzip\r\n" END,
                NO("chunked is not the last transfer coding")),
        EXAMPLE(POST_1_1 "Transfer-Encoding: gzip, chunked\r\n" END,
                "error 501 unknown transfer coding | POST /\n"),
        EXAMPLE(POST_1_1 "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n" END,
                "error 501 unknown transfer coding | POST /\n"),
        EXAMPLE(POST_1_1 "Transfer-Encoding: identity\r\n" END,
                "error 501 unknown transfer coding | POST /\n"),
        EXAMPLE(POST_1_1 "Transfer-Encoding: xchunked\r\n" END,
                "error 501 unknown transfer coding | POST /\n"),
        EXAMPLE(POST_1_1 "Transfer-Encoding: \"chunked\"\r\n" END,
                "error 501 unknown transfer coding | POST /\n"),
    };

    (void)state;
    CHECK(examples);
}

static void test_connection_and_expect(void **state)
{
#define KEPT(n, version, keep) "head " n " GET #1 / origin path / query - host a " version keep
    static const struct example examples[] = {
        EXAMPLE(GET_1_1 HOST "Connection: close\r\n" END,
                KEPT("46", "1.1 ", "close none 0\n Host: a #5\n Connection: close #2\nbody 0 \n")),
        EXAMPLE(GET_1_1 HOST "Connection: TE ,\tClOsE\r\n" END,
                KEPT("51", "1.1 ",
                     "close none 0\n Host: a #5\n Connection: TE ,\tClOsE #2\nbody 0 \n")),
        EXAMPLE(GET_1_1 HOST "Connection: closed, \"close\"\r\n" END,
                KEPT("56", "1.1 ",
                     "keep none 0\n Host: a #5\n Connection: closed, \"close\" #2\nbody 0 \n")),
        EXAMPLE(GET_1_1 HOST "Connection: a\r\nConnection: close\r\n" END,
                KEPT("61", "1.1 ",
                     "close none 0\n Host: a #5\n Connection: a #2\n Connection: close #2\n"
                     "body 0 \n")),
        EXAMPLE(
            GET_1_0 HOST "Connection: Keep-Alive\r\n" END,
            KEPT("51", "1.0 ", "keep none 0\n Host: a #5\n Connection: Keep-Alive #2\nbody 0 \n")),
        EXAMPLE(GET_1_0 HOST "Connection: keep-alive, close\r\n" END,
                KEPT("58", "1.0 ",
                     "close none 0\n Host: a #5\n Connection: keep-alive, close #2\nbody 0 \n")),
        EXAMPLE(GET_1_1 HOST "Content-Length: 1\r\nExpect: 100-Continue\r\n" END "x",
                KEPT("68", "1.1 ",
                     "keep length 1 expect\n Host: a #5\n Content-Length: 1 #3\n"
                     " Expect: 100-Continue #4\nbody 1 x\n")),
        EXAMPLE(GET_1_1 HOST "Content-Length: 0\r\nExpect: 100-continue\r\n" END,
                KEPT("68", "1.1 ",
                     "keep length 0\n Host: a #5\n Content-Length: 0 #3\n"
                     " Expect: 100-continue #4\nbody 0 \n")),
        EXAMPLE(
            GET_1_1 HOST "Expect: 100-continue\r\n" END,
            KEPT("49", "1.1 ", "keep none 0\n Host: a #5\n Expect: 100-continue #4\nbody 0 \n")),
        EXAMPLE(GET_1_0 HOST "Content-Length: 1\r\nExpect: 100-continue\r\n" END "x",
                KEPT("68", "1.0 ",
                     "close length 1\n Host: a #5\n Content-Length: 1 #3\n"
                     " Expect: 100-continue #4\nbody 1 x\n")),
    };

    (void)state;
    CHECK(examples);
}

static void test_pipeline(void **state)
{
    static const struct example examples[] = {
        EXAMPLE(GET_1_0 END "POST /b HTTP/1.1\r\n" HOST "Content-Length: 2\r\n" END
                            "xy\r\n" GET_1_0 END,
                GOT("18") "body 0 \n"
                          "head 48 POST #3 /b origin path /b query - host a 1.1 keep length 2\n"
                          " Host: a #5\n Content-Length: 2 #3\nbody 2 xy\n" GOT("20") "body 0 \n"),
    };

    (void)state;
    CHECK(examples);
}

/* Parses `prefix`, `filler` bytes 'a' and `suffix`, at once and byte by byte. */
static int filled_parse(const char *prefix, size_t filler, const char *suffix)
{
    size_t prefix_length = strlen(prefix);
    size_t length = prefix_length + filler + strlen(suffix);
    char *data = (char *)malloc(length);
    struct weir__request request;
    struct weir__h1_parser parser;

    assert_non_null(data);
    memcpy(data, prefix, prefix_length);
    memset(data + prefix_length, 'a', filler);
    memcpy(data + prefix_length + filler, suffix, strlen(suffix));
    weir__h1_init(&parser);
    int whole = weir__h1_parse_head(&parser, data, length, &request);

    int split = WEIR__H1_INCOMPLETE;
    weir__h1_init(&parser);
    for (size_t end = 1; end <= length && split == WEIR__H1_INCOMPLETE; end++)
        split = weir__h1_parse_head(&parser, data, end, &request);
    assert_int_equal(split, whole);
    free(data);
    return whole;
}

static void test_limits(void **state)
{
    (void)state;
    /* "GET /" and " HTTP/1.0" are 14 bytes of the line's 8192. */
    assert_int_equal(filled_parse("GET /", 8178, " HTTP/1.0\r\n\r\n"), 8196);
    assert_int_equal(filled_parse("GET /", 8179, " HTTP/1.0\r\n\r\n"), -414);
    assert_int_equal(filled_parse("", 8192, ""), WEIR__H1_INCOMPLETE);
    assert_int_equal(filled_parse("", 8193, ""), -414);
    /* "A:" and two CRLF are 6 bytes of the block's 32768, behind a line of 16. */
    assert_int_equal(filled_parse(GET_1_0 "A:", 32762, "\r\n\r\n"), 32784);
    assert_int_equal(filled_parse(GET_1_0 "A:", 32763, "\r\n\r\n"), -431);
    assert_int_equal(filled_parse(GET_1_0 "A:", 32764, ""), WEIR__H1_INCOMPLETE);
    assert_int_equal(filled_parse(GET_1_0 "A:", 32765, ""), -431);
}

/* The longest head that there can be, in a buffer of WEIR__H1_HEAD_MAX. */
static void test_head_max(void **state)
{
    static char data[WEIR__H1_HEAD_MAX];
    char *at = data;
    struct weir__request request;
    struct weir__h1_parser parser;

    (void)state;
    memset(data, 'a', sizeof(data));
    for (unsigned i = 0; i < WEIR__H1_LEADING_LINES_MAX; i++, at += 2)
        memcpy(at, "\r\n", 2);
    memcpy(at, "GET /", 5);
    at += WEIR__H1_REQUEST_LINE_MAX;
    memcpy(at - 9, " HTTP/1.0\r\nA:", 13);
    memcpy(data + sizeof(data) - 4, "\r\n\r\n", 4);
    weir__h1_init(&parser);
    assert_int_equal(weir__h1_parse_head(&parser, data, sizeof(data) - 1, &request),
                     WEIR__H1_INCOMPLETE);
    assert_int_equal(weir__h1_parse_head(&parser, data, sizeof(data), &request), sizeof(data));
}

static int headers_parse(unsigned count, struct weir__request *request)
{
    char data[2048] = GET_1_0;
    struct weir__h1_parser parser;

    for (unsigned i = 0; i < count; i++)
        strcat(data, "Range: 1\r\n");
    strcat(data, "\r\n");
    weir__h1_init(&parser);
    return weir__h1_parse_head(&parser, data, strlen(data), request);
}

static void test_header_count(void **state)
{
    struct weir__request request;

    (void)state;
    assert_int_equal(headers_parse(WEIR__REQUEST_HEADERS_MAX, &request), 16 + 100 * 10 + 2);
    assert_int_equal(request.header_count, 100);
    assert_int_equal(headers_parse(WEIR__REQUEST_HEADERS_MAX + 1, &request), -431);
}

static void test_lookup(void **state)
{
    static const char data[] = GET_1_0 "Range: x\r\nA: b\r\nIf-Match: 1\r\nIf-Match: 2\r\n" END;
    struct weir__request request;
    struct weir__h1_parser parser;

    (void)state;
    weir__h1_init(&parser);
    assert_int_equal(weir__h1_parse_head(&parser, data, sizeof(data) - 1, &request),
                     sizeof(data) - 1);
    assert_null(weir__request_value(&request, WEIR__FIELD_EXPECT));
    assert_null(weir__request_next(&request, WEIR__FIELD_EXPECT, NULL));
    assert_true(weir__text_equals(*weir__request_value(&request, WEIR__FIELD_RANGE), "x"));
    assert_false(weir__request_repeated(&request, WEIR__FIELD_RANGE));
    assert_true(weir__text_equals(*weir__request_value(&request, WEIR__FIELD_IF_MATCH), "1"));
    assert_true(weir__request_repeated(&request, WEIR__FIELD_IF_MATCH));
    const struct weir__header *header = weir__request_next(&request, WEIR__FIELD_IF_MATCH, NULL);
    assert_ptr_equal(header, &request.headers[2]);
    header = weir__request_next(&request, WEIR__FIELD_IF_MATCH, header);
    assert_ptr_equal(header, &request.headers[3]);
    assert_null(weir__request_next(&request, WEIR__FIELD_IF_MATCH, header));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_lines), cmocka_unit_test(test_targets),
        cmocka_unit_test(test_fields),        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_framing),       cmocka_unit_test(test_connection_and_expect),
        cmocka_unit_test(test_pipeline),      cmocka_unit_test(test_limits),
        cmocka_unit_test(test_head_max),      cmocka_unit_test(test_header_count),
        cmocka_unit_test(test_lookup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
