/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TESTS_H1_GENERATE_H
#define WEIR_TESTS_H1_GENERATE_H

/* Makes valid HTTP/1.x requests from a grammar, and spoils them. A seed gives the same ones each
 * time. */

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define STREAM_MAX 4096

/* A stream of bytes that is being made. */
struct stream {
    char data[STREAM_MAX + 1];
    size_t length;
};

static uint64_t random_state;

static unsigned random_below(unsigned bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned)((random_state >> 11) % bound);
}

static const char *random_of(const char *const *choices, unsigned count)
{
    return choices[random_below(count)];
}

#define RANDOM_OF(...)                                                                             \
    random_of((const char *const[]){__VA_ARGS__},                                                  \
              sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

static void put(struct stream *stream, const char *text)
{
    size_t length = strlen(text);

    assert(stream->length + length <= STREAM_MAX);
    memcpy(stream->data + stream->length, text, length);
    stream->length += length;
}

/* `least` to `least + more` bytes of the alphabet. */
static void put_random(struct stream *stream, const char *alphabet, unsigned least, unsigned more)
{
    unsigned size = (unsigned)strlen(alphabet);

    for (unsigned count = least + random_below(more + 1); count > 0; count--) {
        char byte[2] = {alphabet[random_below(size)], '\0'};
        put(stream, byte);
    }
}

static void put_number(struct stream *stream, unsigned number)
{
    char text[16];

    snprintf(text, sizeof(text), "%u", number);
    put(stream, text);
}

/* In either case of letters, and with zeros in front. */
static void put_hexadecimal(struct stream *stream, unsigned number)
{
    static const char *const zeros[] = {"", "", "0", "0000"};
    unsigned form = random_below(4);
    char text[16];

    snprintf(text, sizeof(text), form % 2 == 0 ? "%s%x" : "%s%X", zeros[form], number);
    put(stream, text);
}

/* Length and coding get no tabs: with them they are refused. */
static void put_framing(struct stream *stream, const char *name, const char *value)
{
    put(stream, name);
    put(stream, RANDOM_OF(":", ": ", ":  "));
    put(stream, value);
    put(stream, RANDOM_OF("\r\n", "\r\n", "  \r\n"));
}

static void put_field(struct stream *stream, const char *name, const char *value)
{
    put(stream, name);
    put(stream, RANDOM_OF(":", ": ", ": ", ": ", ":\t", ":  \t"));
    put(stream, value);
    put(stream, RANDOM_OF("\r\n", "\r\n", "\r\n", " \r\n", "\t \r\n"));
}

#define WORD_BYTES  "abcdefgXYZ0123456789-_."
#define VALUE_BYTES " \t\"()*,/:;<=>?@[]{}abcXYZ019\x80\xff-."
#define PATH_BYTES  "/abcXYZ019-._~%!$&'()*+,;=:@\"<>[\\]^`{|}"

static void put_authority(struct stream *stream, bool with_port)
{
    if (random_below(8) == 0)
        put(stream, RANDOM_OF("[::1]", "[2001:db8::7]", "127.0.0.1"));
    else
        put_random(stream, "abcXYZ019-.", 1, 12);
    if (with_port || random_below(3) == 0) {
        put(stream, ":");
        put_number(stream, random_below(65536));
    }
}

static void put_target(struct stream *stream, const char *method)
{
    if (strcmp(method, "CONNECT") == 0) {
        put_authority(stream, true);
        return;
    }
    if (strcmp(method, "OPTIONS") == 0 && random_below(2) == 0) {
        put(stream, "*");
        return;
    }
    if (random_below(8) == 0) {
        put(stream, RANDOM_OF("http://", "https://", "HTTP://"));
        put_authority(stream, false);
        if (random_below(4) == 0)
            return;
    }
    put(stream, "/");
    put_random(stream, PATH_BYTES, 0, 20);
    if (random_below(4) == 0) {
        put(stream, "?");
        put_random(stream, PATH_BYTES "?", 0, 20);
    }
}

static void put_other_fields(struct stream *stream)
{
    for (unsigned count = random_below(6); count > 0; count--) {
        struct stream name = {.length = 0};
        struct stream value = {.length = 0};
        if (random_below(2) == 0) {
            put(&name,
                RANDOM_OF("Range", "if-range", "User-Agent", "Referer", "ACCEPT-ENCODING",
                          "If-Match", "If-None-Match", "Accept", "Cookie", "Upgrade-Insecure",
                          "Content-Type", "Connectio", "Connections", "Hosts", "Expect"));
        } else {
            put(&name, "X");
            put_random(&name, WORD_BYTES "!#$%&'*+^`|~", 0, 10);
        }
        put_random(&value, VALUE_BYTES, 0, 30);
        put_field(stream, name.data, value.data);
    }
}

static void put_chunked_body(struct stream *stream)
{
    for (unsigned count = random_below(4); count > 0; count--) {
        unsigned size = 1 + random_below(20);
        put_hexadecimal(stream, size);
        put(stream, RANDOM_OF("", "", ";a", "\t;a", ";a=b", ";a=\"b;\\\"c\"", " ; a\t= b ;c"));
        put(stream, "\r\n");
        put_random(stream, "abc\r\n0:", size, 0);
        put(stream, "\r\n");
    }
    put(stream, RANDOM_OF("0\r\n", "0\r\n", "000\r\n", "0;a=b\r\n"));
    if (random_below(4) == 0)
        put_field(stream, "X-Trailer", RANDOM_OF("", "a", "b c"));
    put(stream, "\r\n");
}

/* A valid request. */
static void request_make(struct stream *stream)
{
    const char *method =
        RANDOM_OF("GET", "GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS",
                  "TRACE", "PATCH", "PROPFIND", "M-SEARCH", "PURGE", "UNKNOWN");
    const char *version = RANDOM_OF("1.1", "1.1", "1.1", "1.1", "1.0", "1.0", "1.2");
    bool modern = strcmp(version, "1.0") != 0;
    unsigned body = strcmp(method, "CONNECT") == 0 ? 0 : random_below(5);
    unsigned body_length = random_below(30);
    struct stream host = {.length = 0};

    stream->length = 0;
    put(stream, RANDOM_OF("", "", "", "", "\r\n", "\r\n\r\n"));
    put(stream, method);
    put(stream, " ");
    put_target(stream, method);
    put(stream, " HTTP/");
    put(stream, version);
    put(stream, "\r\n");
    put_other_fields(stream);
    if (modern || random_below(2) == 0) {
        put_authority(&host, false);
        put_field(stream, RANDOM_OF("Host", "host", "HOST"), host.data);
    }
    if (random_below(3) == 0)
        put_field(stream, RANDOM_OF("Connection", "connection"),
                  RANDOM_OF("close", "Close", "keep-alive", "Keep-Alive", "TE", "close, TE",
                            "TE ,keep-alive", "keep-alive, close", "closed", "keep-alive-x", "",
                            ",", "TE,,close", "x y, close"));
    if (body == 1) {
        char text[16];
        snprintf(text, sizeof(text), "%s%u", RANDOM_OF("", "", "000"), body_length);
        put_framing(stream, RANDOM_OF("Content-Length", "content-length"), text);
    } else if (body == 2 && modern) {
        put_framing(stream, "Transfer-Encoding", RANDOM_OF("chunked", "chunked", "Chunked"));
    }
    put_other_fields(stream);
    put(stream, "\r\n");
    if (body == 1)
        put_random(stream, "abc\r\n0:", body_length, 0);
    else if (body == 2 && modern)
        put_chunked_body(stream);
    if (random_below(4) == 0)
        put(stream, "GET / HTTP/1.1\r\n");
}

/* Replaces `removed` bytes at `at` by `length` others. */
static void splice(struct stream *stream, size_t at, size_t removed, const char *data,
                   size_t length)
{
    if (removed > stream->length - at)
        removed = stream->length - at;
    if (stream->length - removed + length > STREAM_MAX)
        return;
    memmove(stream->data + at + length, stream->data + at + removed, stream->length - at - removed);
    memcpy(stream->data + at, data, length);
    stream->length += length - removed;
}

/* Where a line starts, at random; `*end` is where the next one does. */
static size_t line_pick(const struct stream *stream, size_t *end)
{
    size_t at = random_below((unsigned)stream->length);
    const char *lf;

    while (at > 0 && stream->data[at - 1] != '\n')
        at--;
    lf = memchr(stream->data + at, '\n', stream->length - at);
    *end = lf == NULL ? stream->length : (size_t)(lf - stream->data) + 1;
    return at;
}

static void mutate(struct stream *stream)
{
    size_t at = random_below((unsigned)stream->length);
    size_t end;
    char line[256];
    char byte = (char)random_below(256);
    const char *text;

    switch (random_below(8)) {
    case 0:
        stream->data[at] = byte;
        break;
    case 1:
        splice(stream, at, 0, &byte, 1);
        break;
    case 2:
        text =
            RANDOM_OF(" ", "\t", "\r", "\n", "\r\n", ":", ",", "#", "?", "/", "HTTP/1.1", "%", ";",
                      "\"", "0", "9223372036854775808", "\x7f", "chunked", "http://", "@", "*");
        splice(stream, at, 0, text, strlen(text));
        break;
    case 3:
        splice(stream, at, 1 + random_below(3), "", 0);
        break;
    case 4: /* a line twice */
        at = line_pick(stream, &end);
        if (end - at <= sizeof(line)) {
            memcpy(line, stream->data + at, end - at);
            splice(stream, at, 0, line, end - at);
        }
        break;
    case 5:
        stream->length = at + 1;
        break;
    case 6: /* another end of a line */
        line_pick(stream, &end);
        text = RANDOM_OF("\n", "\r", "\r\r\n", " \r\n", "\r\n\r\n", "");
        if (end >= 2)
            splice(stream, end - 2, 2, text, strlen(text));
        break;
    default: /* another line */
        at = line_pick(stream, &end);
        text = RANDOM_OF("Host: b\r\n", "Host: a b\r\n", "Host: a/b\r\n", "Content-Length: 5\r\n",
                         "Content-Length:\t5\r\n", "Content-Length: 5, 5\r\n",
                         "Content-Length: 9223372036854775808\r\n", "\r\n\r\n\r\n\r\n\r\n",
                         "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: gzip\r\n",
                         "Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: chunked,\r\n",
                         "Transfer-Encoding: chunked, gzip\r\n", " folded\r\n", "A : b\r\n",
                         ": b\r\n", "A\r\n", "Connection: \"a\", close\r\n",
                         "Proxy-Connection: close\r\n", "Upgrade: h2c\r\nConnection: Upgrade\r\n",
                         "GET / HTTP/2.0\r\n", "get / HTTP/1.1\r\n", "GET / http/1.1\r\n",
                         "GET /\r\n", "GET  / HTTP/1.1\r\n", "GET a HTTP/1.1\r\n",
                         "GET * HTTP/1.1\r\n", "GET ftp://a/ HTTP/1.1\r\n",
                         "GET http://u@a/ HTTP/1.1\r\n", "CONNECT a HTTP/1.1\r\n");
        splice(stream, at, random_below(2) == 0 ? end - at : 0, text, strlen(text));
        break;
    }
    if (stream->length == 0)
        put(stream, "G");
}

#endif
