/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
/* cmocka.h needs those before it */
#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <weir/error.h>

#include "server/file_cache.h"
#include "server/site.h"

#include "../support/request.h"
#include "../support/tree.h"

#define LARGE      (WEIR__FILE_CONTENT_MAX + 1000) /* 17384: sent from the file */
#define MODIFIED_S 1000000000                      /* Sun, 09 Sep 2001 01:46:40 GMT */

static struct weir__site *site;
static struct weir__moment moment = {
    .now_ns = UINT64_C(7000000000),
    .wall_ns = UINT64_C(1700000000999999999), /* Tue, 14 Nov 2023 22:13:20 GMT */
    .keep_alive = true,
};

#define HEAD(line) line "\r\nServer: weir\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\n"

static int make_site(void **state)
{
    struct weir__site_options options;
    if (tree_make(state) != 0)
        return -1;
    tree_write("page.html", "<p>weir</p>\n", 12, MODIFIED_S);
    tree_write("large.bin", "0123456789", LARGE, MODIFIED_S);
    tree_write("empty.txt", "x", 0, MODIFIED_S);
    tree_write("app.js", "plain script", 12, MODIFIED_S);
    tree_write("app.js.gz", "gzip", 4, MODIFIED_S);
    tree_write("app.js.br", "br", 2, MODIFIED_S);
    tree_write("unborn", "x", 1, 1800000000); /* modified after the moment of the tests */
    assert_int_equal(mkdir("docs", 0755), 0);
    tree_write("docs/index.html", "docs\n", 5, MODIFIED_S);
    assert_int_equal(mkdir("a b\"", 0755), 0);
    weir__site_options_init(&options);
    options.seed[0] = 1;
    moment.keep_alive = true;
    int error = weir__site_new(&site, ".", &options);
    return error == 0 ? 0 : -1;
}

static int drop_site(void **state)
{
    weir__site_free(site);
    return tree_remove(state);
}

static char *append(char *at, const char *data, size_t length)
{
    memcpy(at, data, length);
    at[length] = '\0';
    return at + length;
}

/*
 * A plan as text: the header, with each entity tag's three numbers as "E", then the segments:
 * memory as it is, a piece of a file as <offset+length>.
 */
static const char *render(const struct weir__response *response)
{
    static char text[16384];
    char *at = text;
    const char *from = response->header, *end = from + response->header_bytes;
    *at = '\0';
    while (from < end) {
        at = append(at, from, 1);
        if (at - text >= 7 && memcmp(at - 7, "ETag: \"", 7) == 0) {
            size_t length = 1 + strcspn(from + 1, "\"");
            at = append(at, "E", 1);
            if (memmem(from, length, "-gzip", 5))
                at = append(at, "-gzip", 5);
            if (memmem(from, length, "-br", 3))
                at = append(at, "-br", 3);
            from += length;
        } else {
            from++;
        }
    }
    uint64_t body_bytes = 0;
    for (unsigned i = 0; i < response->segment_count; i++) {
        const struct weir__segment *segment = &response->segments[i];
        assert_true(segment->length > 0);
        body_bytes += segment->length;
        if (segment->data) {
            assert_int_equal(segment->file, -1);
            at = append(at, segment->data, (size_t)segment->length);
        } else {
            assert_true(segment->file >= 0);
            at += sprintf(at, "<%" PRIu64 "+%" PRIu64 ">", segment->offset, segment->length);
        }
    }
    assert_int_equal(body_bytes, response->body_bytes);
    if (body_bytes > 0) {
        const char *promised = strstr(text, "Content-Length: ");
        assert_non_null(promised);
        assert_int_equal(strtoull(promised + 16, NULL, 10), body_bytes);
    }
    return text;
}

static const char *respond(const char *head)
{
    static struct weir__response response;
    struct weir__request request = request_of(head);
    memset(&response, 0xa5, sizeof(response));
    weir__site_respond(site, &request, &moment, &response);
    const char *text = render(&response);
    weir__response_dispose(&response);
    return text;
}

#define PAGE_FIELDS                                                                                \
    "Content-Type: text/html; charset=utf-8\r\nAccept-Ranges: bytes\r\n"                           \
    "Last-Modified: Sun, 09 Sep 2001 01:46:40 GMT\r\nETag: \"E\"\r\n"
#define LARGE_FIELDS                                                                               \
    "Content-Type: application/octet-stream\r\nAccept-Ranges: bytes\r\n"                           \
    "Last-Modified: Sun, 09 Sep 2001 01:46:40 GMT\r\nETag: \"E\"\r\n"
#define SCRIPT_TYPE "Content-Type: text/javascript; charset=utf-8\r\nAccept-Ranges: bytes\r\n"
#define SCRIPT_DATE "Last-Modified: Sun, 09 Sep 2001 01:46:40 GMT\r\n"
#define TEXT(bytes) "Content-Type: text/plain; charset=utf-8\r\nContent-Length: " bytes "\r\n"
#define NOT_FOUND                                                                                  \
    HEAD("HTTP/1.1 404 Not Found")                                                                 \
    TEXT("49") "\r\n404 Not Found: there is nothing at this address.\n"

struct exchange_case {
    const char *request, *response;
};

static void check(const struct exchange_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert_string_equal(respond(cases[i].request), cases[i].response);
}

#define CHECK(cases) check(cases, sizeof(cases) / sizeof((cases)[0]))

static void test_whole(void **state)
{
    (void)state;
    static const struct exchange_case cases[] = {
        {"GET /page.html HTTP/1.1\r\nHost: a\r\n\r\n",
         HEAD("HTTP/1.1 200 OK") "Content-Length: 12\r\n" PAGE_FIELDS "\r\n<p>weir</p>\n"},
        {"GET /docs/../page.html?x=1 HTTP/1.1\r\nHost: a\r\n\r\n",
         HEAD("HTTP/1.1 200 OK") "Content-Length: 12\r\n" PAGE_FIELDS "\r\n<p>weir</p>\n"},
        {"GET http://a/%70age.html HTTP/1.1\r\nHost: a\r\n\r\n",
         HEAD("HTTP/1.1 200 OK") "Content-Length: 12\r\n" PAGE_FIELDS "\r\n<p>weir</p>\n"},
        {"HEAD /page.html HTTP/1.1\r\nHost: a\r\n\r\n",
         HEAD("HTTP/1.1 200 OK") "Content-Length: 12\r\n" PAGE_FIELDS "\r\n"},
        {"GET /page.html HTTP/1.0\r\n\r\n",
         HEAD("HTTP/1.1 200 OK") "Content-Length: 12\r\n" PAGE_FIELDS
                                 "Connection: keep-alive\r\n\r\n<p>weir</p>\n"},
        {"GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n",
         HEAD("HTTP/1.1 200 OK") "Content-Length: 17384\r\n" LARGE_FIELDS "\r\n<0+17384>"},
        {"GET /empty.txt HTTP/1.1\r\nHost: a\r\nRange: bytes=-5\r\n\r\n",
         HEAD("HTTP/1.1 200 OK") "Content-Length: 0\r\nContent-Type: text/plain; charset=utf-8\r\n"
                                 "Accept-Ranges: bytes\r\n" SCRIPT_DATE "ETag: \"E\"\r\n\r\n"},
        {"GET /docs/ HTTP/1.1\r\nHost: a\r\n\r\n",
         HEAD("HTTP/1.1 200 OK") "Content-Length: 5\r\n" PAGE_FIELDS "\r\ndocs\n"},
        {"GET /unborn HTTP/1.1\r\nHost: a\r\nIf-Modified-Since: Tue, 14 Nov 2023 22:13:20 "
         "GMT\r\n\r\n",
         HEAD("HTTP/1.1 200 OK") "Content-Length: 1\r\nContent-Type: application/octet-stream\r\n"
                                 "Accept-Ranges: bytes\r\nETag: \"E\"\r\n\r\nx"},
    };
    CHECK(cases);
    moment.keep_alive = false;
    assert_string_equal(respond("GET /page.html HTTP/1.1\r\nHost: a\r\n\r\n"),
                        HEAD("HTTP/1.1 200 OK") "Content-Length: 12\r\n" PAGE_FIELDS
                                                "Connection: close\r\n\r\n<p>weir</p>\n");
}

static void test_methods(void **state)
{
    (void)state;
#define NOT_ALLOWED                                                                                \
    HEAD("HTTP/1.1 405 Method Not Allowed")                                                        \
    TEXT("61")                                                                                     \
    "Allow: GET, HEAD, OPTIONS\r\n\r\n"                                                            \
    "405 Method Not Allowed: files can be read with GET and HEAD.\n"
    static const struct exchange_case cases[] = {
        {"OPTIONS /page.html HTTP/1.1\r\nHost: a\r\n\r\n",
         HEAD("HTTP/1.1 204 No Content") "Allow: GET, HEAD, OPTIONS\r\n\r\n"},
        {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
         HEAD("HTTP/1.1 204 No Content") "Allow: GET, HEAD, OPTIONS\r\n\r\n"},
        {"POST /page.html HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", NOT_ALLOWED},
        {"TRACE /page.html HTTP/1.1\r\nHost: a\r\n\r\n", NOT_ALLOWED},
        {"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", NOT_ALLOWED},
        {"BREW /page.html HTTP/1.1\r\nHost: a\r\n\r\n",
         HEAD("HTTP/1.1 501 Not Implemented")
             TEXT("46") "\r\n501 Not Implemented: the method is not known.\n"},
    };
    CHECK(cases);
}

static void test_paths(void **state)
{
    (void)state;
    static const struct exchange_case cases[] = {
        {"GET /missing HTTP/1.1\r\nHost: a\r\n\r\n", NOT_FOUND},
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", NOT_FOUND}, /* no index, no listing */
        {"GET /page.html/ HTTP/1.1\r\nHost: a\r\n\r\n", NOT_FOUND},
        {"GET /docs%2Findex.html HTTP/1.1\r\nHost: a\r\n\r\n", NOT_FOUND},
        {"HEAD /missing HTTP/1.1\r\nHost: a\r\n\r\n",
         HEAD("HTTP/1.1 404 Not Found") TEXT("49") "\r\n"},
        {"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n",
         HEAD("HTTP/1.1 400 Bad Request")
             TEXT("54") "\r\n400 Bad Request: the request could not be understood.\n"},
        {"GET /docs HTTP/1.1\r\nHost: a\r\n\r\n",
         HEAD("HTTP/1.1 301 Moved Permanently") "Location: /docs/\r\nContent-Length: 0\r\n\r\n"},
        {"HEAD /docs?a=b&c HTTP/1.1\r\nHost: a\r\n\r\n",
         HEAD("HTTP/1.1 301 Moved Permanently") "Location: /docs/?a=b&c\r\nContent-Length: "
                                                "0\r\n\r\n"},
        {"GET //a%20b%22? HTTP/1.1\r\nHost: a\r\n\r\n",
         HEAD("HTTP/1.1 301 Moved Permanently") "Location: /a%20b%22/?\r\nContent-Length: "
                                                "0\r\n\r\n"},
        {"GET //evil.example/..//docs HTTP/1.1\r\nHost: a\r\n\r\n",
         HEAD("HTTP/1.1 301 Moved Permanently") "Location: /docs/\r\nContent-Length: 0\r\n\r\n"},
    };
    CHECK(cases);
}

static void test_long_redirect(void **state)
{
    (void)state;
    static char head[8192], expected[8192];
    char query[4000];
    memset(query, 'q', sizeof(query) - 1);
    query[sizeof(query) - 1] = '\0';
    snprintf(head, sizeof(head), "GET /docs?%s HTTP/1.1\r\nHost: a\r\n\r\n", query);
    snprintf(
        expected, sizeof(expected),
        HEAD("HTTP/1.1 301 Moved Permanently") "Location: /docs/?%s\r\nContent-Length: 0\r\n\r\n",
        query);
    assert_string_equal(respond(head), expected);

    respond("GET /docs HTTP/1.1\r\nHost: a\r\n\r\n");
    count_allocations();
    allocations = 0;
    allocation_to_fail = 1;
    assert_memory_equal(respond(head), "HTTP/1.1 503 ", 13);
    allocation_to_fail = 0;
}

static void test_conditions(void **state)
{
    (void)state;
    static const struct exchange_case cases[] = {
        {"GET /page.html HTTP/1.1\r\nHost: a\r\nIf-None-Match: *\r\n\r\n",
         HEAD("HTTP/1.1 304 Not Modified") SCRIPT_DATE "ETag: \"E\"\r\n\r\n"},
        {"HEAD /app.js HTTP/1.1\r\nHost: a\r\n"
         "If-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT\r\nAccept-Encoding: br\r\n\r\n",
         HEAD("HTTP/1.1 304 Not Modified") SCRIPT_DATE
         "ETag: \"E-br\"\r\nVary: Accept-Encoding\r\n\r\n"},
        {"GET /page.html HTTP/1.1\r\nHost: a\r\nIf-Match: \"x\"\r\n\r\n",
         HEAD("HTTP/1.1 412 Precondition Failed")
             TEXT("75") "\r\n412 Precondition Failed: the file is not the one that the request "
                        "expects.\n"},
        {"GET /missing HTTP/1.1\r\nHost: a\r\nIf-None-Match: *\r\n\r\n", NOT_FOUND},
    };
    CHECK(cases);

    /* The tag that a response has is the one that a request is compared with. */
    char head[256];
    struct weir__response response;
    struct weir__request request = request_of("GET /page.html HTTP/1.1\r\nHost: a\r\n\r\n");
    weir__site_respond(site, &request, &moment, &response);
    const char *etag = memmem(response.header, response.header_bytes, "ETag: ", 6);
    snprintf(head, sizeof(head),
             "GET /page.html HTTP/1.1\r\nHost: a\r\nIf-None-Match: %.*s\r\n\r\n",
             (int)strcspn(etag + 6, "\r"), etag + 6);
    weir__response_dispose(&response);
    assert_memory_equal(respond(head), "HTTP/1.1 304 ", 13);
}

static void test_codings(void **state)
{
    (void)state;
    static const struct exchange_case cases[] = {
        {"GET /app.js HTTP/1.1\r\nHost: a\r\n\r\n",
         HEAD("HTTP/1.1 200 OK") "Content-Length: 12\r\n" SCRIPT_TYPE SCRIPT_DATE
                                 "ETag: \"E\"\r\nVary: Accept-Encoding\r\n\r\nplain script"},
        {"GET /app.js HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip, br\r\n\r\n",
         HEAD("HTTP/1.1 200 OK") "Content-Length: 2\r\n" SCRIPT_TYPE
                                 "Content-Encoding: br\r\n" SCRIPT_DATE
                                 "ETag: \"E-br\"\r\nVary: Accept-Encoding\r\n\r\nbr"},
        {"GET /app.js HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nRange: bytes=1-2\r\n\r\n",
         HEAD(
             "HTTP/1.1 206 Partial Content") "Content-Length: 2\r\n"
                                             "Content-Range: bytes 1-2/4\r\n" SCRIPT_TYPE
                                             "Content-Encoding: gzip\r\n" SCRIPT_DATE
                                             "ETag: \"E-gzip\"\r\nVary: Accept-Encoding\r\n\r\nzi"},
        {"GET /app.js.gz HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n",
         HEAD("HTTP/1.1 200 OK") "Content-Length: 4\r\nContent-Type: application/gzip\r\n"
                                 "Accept-Ranges: bytes\r\n" SCRIPT_DATE "ETag: \"E\"\r\n\r\ngzip"},
        {"GET /page.html HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br, *;q=0\r\n\r\n",
         HEAD("HTTP/1.1 406 Not Acceptable")
             TEXT("81") "\r\n406 Not Acceptable: there is no version in an encoding that the "
                        "request accepts.\n"},
    };
    CHECK(cases);
}

static void test_ranges(void **state)
{
    (void)state;
#define WHOLE HEAD("HTTP/1.1 200 OK") "Content-Length: 17384\r\n" LARGE_FIELDS "\r\n<0+17384>"
    static const struct exchange_case cases[] = {
        {"GET /large.bin HTTP/1.1\r\nHost: a\r\nRange: bytes=100-199\r\n\r\n",
         HEAD("HTTP/1.1 206 Partial Content") "Content-Length: 100\r\n"
                                              "Content-Range: bytes 100-199/17384\r\n" LARGE_FIELDS
                                              "\r\n<100+100>"},
        {"GET /page.html HTTP/1.1\r\nHost: a\r\nRange: bytes=3-6\r\n\r\n",
         HEAD("HTTP/1.1 206 Partial Content") "Content-Length: 4\r\n"
                                              "Content-Range: bytes 3-6/12\r\n" PAGE_FIELDS
                                              "\r\nweir"},
        {"GET /large.bin HTTP/1.1\r\nHost: a\r\nRange: bytes=17384-\r\n\r\n",
         HEAD("HTTP/1.1 416 Range Not Satisfiable")
             TEXT("55") "Content-Range: bytes */17384\r\n\r\n"
                        "416 Range Not Satisfiable: the file has no such bytes.\n"},
        {"HEAD /large.bin HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\n\r\n",
         HEAD("HTTP/1.1 200 OK") "Content-Length: 17384\r\n" LARGE_FIELDS "\r\n"},
        {"GET /large.bin HTTP/1.1\r\nHost: a\r\nRange: pages=1\r\n\r\n", WHOLE},
        {"GET /large.bin HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\nRange: bytes=4-5\r\n\r\n",
         WHOLE},
        {"GET /large.bin HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\nIf-Range: \"x\"\r\n\r\n",
         WHOLE},
        {"GET /large.bin HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\n"
         "If-Range: Sun, 09 Sep 2001 01:46:40 GMT\r\n\r\n",
         HEAD("HTTP/1.1 206 Partial Content") "Content-Length: 2\r\n"
                                              "Content-Range: bytes 0-1/17384\r\n" LARGE_FIELDS
                                              "\r\n<0+2>"},
    };
    CHECK(cases);
}

/* A body that is encrypted here comes from memory, from the second time on; another one from the file. */
static void test_encrypted(void **state)
{
    (void)state;
    const char *whole = "GET /large.bin HTTP/1.1\r\nHost: a\r\n\r\n";
    const char *part = "GET /large.bin HTTP/1.1\r\nHost: a\r\nRange: bytes=12-15\r\n\r\n";
    struct weir__request request = request_of(whole);
    struct weir__response response;
    moment.encrypted = true;
    respond("HEAD /large.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_non_null(strstr(respond(whole), "\r\n\r\n<0+17384>"));
    assert_non_null(strstr(respond(part), "\r\n\r\n2345"));
    weir__site_respond(site, &request, &moment, &response);
    assert_int_equal(response.segment_count, 1);
    assert_int_equal(response.segments[0].length, LARGE);
    assert_memory_equal(response.segments[0].data, "0123456789", 10);
    assert_memory_equal(response.segments[0].data + LARGE - 4, "0123", 4);
    moment.encrypted = false;
    assert_non_null(strstr(respond(whole), "\r\n\r\n<0+17384>"));
    assert_non_null(strstr(respond(part), "\r\n\r\n<12+4>"));
    weir__response_dispose(&response);
}

static void test_multipart(void **state)
{
    (void)state;
    static const char head[] =
        "GET /large.bin HTTP/1.1\r\nHost: a\r\nRange: bytes=0-9,-5,20-29\r\n\r\n";
    char first[4096];
    strcpy(first, respond(head));
    const char *boundary = strstr(first, "boundary=");
    assert_non_null(boundary);
    char mark[17], expected[4096];
    memcpy(mark, boundary + 9, 16);
    mark[16] = '\0';
    assert_int_equal(strspn(mark, "0123456789abcdef"), 16);
    snprintf(
        expected, sizeof(expected),
        HEAD(
            "HTTP/1.1 206 Partial Content") "Content-Length: 345\r\n"
                                            "Content-Type: multipart/byteranges; "
                                            "boundary=%s\r\nAccept-Ranges: bytes\r\n" SCRIPT_DATE
                                            "ETag: \"E\"\r\n\r\n"
                                            "--%s\r\nContent-Type: application/octet-stream\r\n"
                                            "Content-Range: bytes 0-9/17384\r\n\r\n<0+10>"
                                            "\r\n--%s\r\nContent-Type: application/octet-stream\r\n"
                                            "Content-Range: bytes "
                                            "17379-17383/17384\r\n\r\n<17379+5>"
                                            "\r\n--%s\r\nContent-Type: application/octet-stream\r\n"
                                            "Content-Range: bytes 20-29/17384\r\n\r\n<20+10>"
                                            "\r\n--%s--\r\n",
        mark, mark, mark, mark, mark);
    assert_string_equal(first, expected);
    assert_string_not_equal(respond(head), expected); /* another boundary */

    static const char most[] =
        "GET /large.bin HTTP/1.1\r\nHost: a\r\nRange: bytes=0-0,2-2,4-4,6-6,8-8,"
        "10-10,12-12,14-14,16-16,18-18,20-20,22-22,24-24,26-26,28-28,30-30\r\n\r\n";
    struct weir__response response;
    struct weir__request request = request_of(most);
    weir__site_respond(site, &request, &moment, &response);
    assert_int_equal(response.segment_count, WEIR__RESPONSE_SEGMENTS_MAX);
    weir__response_dispose(&response);

    /* Without memory for the parts the whole is an answer, too. */
    count_allocations();
    allocations = 0;
    allocation_to_fail = 1;
    assert_memory_equal(respond(head), "HTTP/1.1 200 ", 13);
    allocation_to_fail = 0;
}

static void test_error(void **state)
{
    (void)state;
    static const unsigned statuses[] = {400, 403, 404, 405, 406, 408, 412, 413,
                                        414, 417, 431, 500, 501, 503, 505};
    struct weir__response response;
    moment.keep_alive = false;
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        char line[16];
        weir__site_error(site, statuses[i], NULL, &moment, &response);
        assert_int_equal(response.status, statuses[i]);
        assert_false(response.keep_alive);
        snprintf(line, sizeof(line), "HTTP/1.1 %u ", statuses[i]);
        assert_memory_equal(response.header, line, 13);
        assert_int_equal(response.segment_count, 1);
        assert_memory_equal(response.segments[0].data, line + 9, 4);
        weir__response_dispose(&response);
    }
    weir__site_error(site, 408, NULL, &moment, &response);
    assert_string_equal(render(&response),
                        HEAD("HTTP/1.1 408 Request Timeout")
                            TEXT("48") "Connection: close\r\n\r\n"
                                       "408 Request Timeout: the request took too long.\n");
    weir__response_dispose(&response);
    weir__site_error(site, 299, NULL, &moment, &response);
    assert_int_equal(response.status, 500);
    weir__response_dispose(&response);

    struct weir__request request = request_of("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    weir__site_error(site, 417, &request, &moment, &response);
    assert_int_equal(response.segment_count, 0);
    assert_int_equal(response.body_bytes, 0);
    weir__response_dispose(&response);
}

/* A response stays whole while it is in use, whatever becomes of its file. */
static void test_response_outlives_its_file(void **state)
{
    (void)state;
    struct weir__response response;
    struct weir__request request = request_of("GET /page.html HTTP/1.1\r\nHost: a\r\n\r\n");
    weir__site_respond(site, &request, &moment, &response);
    tree_write("page.html", "changed", 7, MODIFIED_S + 1);
    moment.now_ns += WEIR__FILE_BELIEVED_NS;
    const char *now = respond("GET /page.html HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_non_null(strstr(now, "\r\n\r\nchanged"));
    assert_string_equal(render(&response),
                        HEAD("HTTP/1.1 200 OK") "Content-Length: 12\r\n" PAGE_FIELDS
                                                "\r\n<p>weir</p>\n");
    weir__response_dispose(&response);
}

/* From now on this thread's every system call kills the process; only exit_group ends it in peace.
 * The strict mode would kill the thread alone, and ThreadSanitizer's own would live on. */
static bool forbid_system_calls(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* What is known already is answered with no system call and no memory. */
static void test_hit_is_free(void **state)
{
    (void)state;
    static const char *const heads[] = {
        "GET /page.html HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n",
        "GET /large.bin HTTP/1.1\r\nHost: a\r\nRange: bytes=5-6\r\n\r\n",
        "GET /missing HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /docs HTTP/1.1\r\nHost: a\r\n\r\n",
    };
    enum { COUNT = sizeof(heads) / sizeof(heads[0]) };
    struct weir__request requests[COUNT];
    for (int i = 0; i < COUNT; i++) {
        requests[i] = request_of(heads[i]);
        respond(heads[i]);
    }
    count_allocations();
    pid_t child = fork();
    if (child == 0) {
        struct weir__response response;
        allocations = 0;
        if (!forbid_system_calls())
            _exit(77);
        for (int i = 0; i < COUNT; i++) {
            weir__site_respond(site, &requests[i], &moment, &response);
            weir__response_dispose(&response);
        }
        syscall(SYS_exit_group, allocations == 0 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        printf("SKIP: no seccomp filter may be set up here\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_new_fails(void **state)
{
    (void)state;
    struct weir__site *other = NULL;
    struct weir__site_options options;
    weir__site_options_init(&options);
    unsigned descriptors = open_descriptors();
    assert_int_equal(weir__site_new(&other, "missing", &options), WEIR_EINVAL);
    options.files_max = 0;
    assert_int_equal(weir__site_new(&other, ".", &options), WEIR_EINVAL);
    weir__site_options_init(&options);
    count_allocations();
    for (unsigned nth = 1; nth <= 2; nth++) {
        allocations = 0;
        allocation_to_fail = nth;
        assert_int_equal(weir__site_new(&other, ".", &options), WEIR_ENOMEM);
    }
    allocation_to_fail = 0;
    assert_int_equal(open_descriptors(), descriptors);
    assert_null(other);
    weir__site_free(NULL);
}

#define site_test(function) cmocka_unit_test_setup_teardown(function, make_site, drop_site)

int main(void)
{
    const struct CMUnitTest tests[] = {
        site_test(test_whole),
        site_test(test_methods),
        site_test(test_paths),
        site_test(test_long_redirect),
        site_test(test_conditions),
        site_test(test_codings),
        site_test(test_ranges),
        site_test(test_encrypted),
        site_test(test_multipart),
        site_test(test_error),
        site_test(test_response_outlives_its_file),
        site_test(test_hit_is_free),
        site_test(test_new_fails),
    };
    int probe = weir__root_open(".");
    if (probe == WEIR_ENOTSUP) {
        print_message("no openat2: nothing can be served\n");
        return 77;
    }
    close(probe);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
