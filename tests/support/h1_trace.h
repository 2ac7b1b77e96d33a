/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TESTS_H1_TRACE_H
#define WEIR_TESTS_H1_TRACE_H

/*
 * Parses a stream of requests that arrives in pieces, and writes down all that came out as text.
 * The same stream in any pieces must give the same text. Each piece is handed over in a block of
 * memory of just its size, so that AddressSanitizer sees a read past its end.
 */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/field.h"
#include "http/h1.h"

struct h1_trace {
    char *text;
    size_t length;
    size_t capacity;
};

static inline void h1_check(bool condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "h1_trace: %s\n", what);
        abort();
    }
}

static inline void h1_trace_init(struct h1_trace *trace)
{
    *trace = (struct h1_trace){.capacity = 1024};
    trace->text = (char *)malloc(trace->capacity);
    h1_check(trace->text != NULL, "out of memory");
    trace->text[0] = '\0';
}

static inline void h1_trace_dispose(struct h1_trace *trace)
{
    free(trace->text);
}

static inline void h1_trace_append(struct h1_trace *trace, const char *data, size_t length)
{
    if (trace->length + length + 1 > trace->capacity) {
        trace->capacity = 2 * (trace->capacity + length);
        trace->text = (char *)realloc(trace->text, trace->capacity);
        h1_check(trace->text != NULL, "out of memory");
    }
    if (length > 0)
        memcpy(trace->text + trace->length, data, length);
    trace->length += length;
    trace->text[trace->length] = '\0';
}

__attribute__((format(printf, 2, 3))) static inline void h1_trace_print(struct h1_trace *trace,
                                                                        const char *format, ...)
{
    char line[256];
    va_list arguments;

    va_start(arguments, format);
    int length = vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    h1_check(length >= 0 && (size_t)length < sizeof(line), "line too long");
    h1_trace_append(trace, line, (size_t)length);
}

/* A view, which must lie in the `length` bytes at `data`; '-' where there is none. */
static inline void h1_trace_view(struct h1_trace *trace, const char *name, struct weir__text view,
                                 const char *data, size_t length)
{
    h1_trace_append(trace, name, strlen(name));
    if (view.data == NULL) {
        h1_check(view.length == 0, "a view without data has a length");
        h1_trace_append(trace, "-", 1);
        return;
    }
    h1_check(view.data >= data && view.data <= data + length, "a view starts outside the buffer");
    h1_check(view.length <= (size_t)(data + length - view.data), "a view ends outside the buffer");
    h1_trace_append(trace, view.data, view.length);
}

static inline void h1_trace_request(struct h1_trace *trace, const struct weir__request *request,
                                    const char *data, size_t length)
{
    static const char *const forms[] = {"origin", "absolute", "authority", "asterisk"};
    static const char *const framings[] = {"none", "length", "chunked"};

    h1_trace_view(trace, "", request->method_text, data, length);
    h1_trace_print(trace, " #%d", request->method);
    h1_trace_view(trace, " ", request->target, data, length);
    h1_trace_print(trace, " %s", forms[request->target_form]);
    h1_trace_view(trace, " path ", request->path, data, length);
    h1_trace_view(trace, " query ", request->query, data, length);
    h1_trace_view(trace, " host ", request->host, data, length);
    h1_trace_print(trace, " %d.%d %s %s", request->version_major, request->version_minor,
                   request->keep_alive ? "keep" : "close", framings[request->framing]);
    h1_trace_print(trace, " %llu%s\n", (unsigned long long)request->content_length,
                   request->expect_continue ? " expect" : "");
    for (unsigned i = 0; i < request->header_count; i++) {
        const struct weir__header *header = &request->headers[i];
        h1_trace_view(trace, " ", header->name, data, length);
        h1_trace_view(trace, ": ", header->value, data, length);
        h1_trace_print(trace, " #%d\n", header->field);
        h1_check(header->field == WEIR__FIELD_OTHER || request->first[header->field] <= i,
                 "the index of a field is wrong");
    }
}

static inline char *h1_copy(const char *data, size_t length)
{
    char *copy = (char *)malloc(length > 0 ? length : 1);

    h1_check(copy != NULL, "out of memory");
    if (length > 0)
        memcpy(copy, data, length);
    return copy;
}

/* Where the bytes are that have arrived, and how more come. */
struct h1_feed {
    const char *data;
    const size_t *ends; /* how much has arrived after each piece, ascending; the last is all */
    size_t end_count;
    size_t end;   /* index in `ends` */
    size_t start; /* of what is parsed next */
};

/* Returns false if nothing more comes. */
static inline bool h1_feed_more(struct h1_feed *feed)
{
    if (feed->end + 1 == feed->end_count)
        return false;
    feed->end++;
    return true;
}

/* Returns true if a whole head was read. */
static inline bool h1_trace_head(struct h1_trace *trace, struct h1_feed *feed,
                                 struct weir__request *request, struct weir__h1_body *body)
{
    struct weir__h1_parser parser;
    char *previous = NULL; /* kept until the next call, so that each has another address */
    int result;

    weir__h1_init(&parser);
    do {
        size_t length = feed->ends[feed->end] - feed->start;
        char *copy = h1_copy(feed->data + feed->start, length);
        result = weir__h1_parse_head(&parser, copy, length, request);
        if (result > 0) {
            h1_check((size_t)result <= length && result <= WEIR__H1_HEAD_MAX, "head too long");
            h1_trace_print(trace, "head %d ", result);
            h1_trace_request(trace, request, copy, (size_t)result);
        } else if (result < 0) {
            h1_check(parser.reason != NULL, "no reason");
            h1_check(weir__h1_parse_head(&parser, copy, length, request) == result, "not sticky");
            h1_trace_print(trace, "error %d %s |", -result, parser.reason);
            h1_trace_view(trace, " ", request->method_text, copy, length);
            h1_trace_view(trace, " ", request->target, copy, length);
            h1_trace_print(trace, "\n");
        } else {
            h1_check(length < WEIR__H1_HEAD_MAX, "incomplete beyond the limit");
        }
        free(previous);
        previous = copy;
    } while (result == WEIR__H1_INCOMPLETE && h1_feed_more(feed));
    free(previous);
    if (result <= 0) {
        if (result == WEIR__H1_INCOMPLETE)
            h1_trace_print(trace, "incomplete head\n");
        return false;
    }
    feed->start += (size_t)result;
    weir__h1_body_init(body, request);
    return true;
}

/* Returns true if a whole body was read. */
static inline bool h1_trace_body(struct h1_trace *trace, struct h1_feed *feed,
                                 struct weir__h1_body *body)
{
    struct h1_trace content_trace;
    int result = weir__h1_body_done(body) ? WEIR__H1_BODY_DONE : WEIR__H1_BODY_MORE;
    size_t total = 0;

    h1_trace_init(&content_trace);
    while (result == WEIR__H1_BODY_MORE) {
        size_t length = feed->ends[feed->end] - feed->start;
        if (length == 0) {
            if (!h1_feed_more(feed))
                break;
            continue;
        }
        struct weir__text content;
        size_t consumed;
        char *copy = h1_copy(feed->data + feed->start, length);
        result = weir__h1_body_consume(body, copy, length, &consumed, &content);
        h1_check(consumed <= length, "consumed too much");
        h1_check(result != WEIR__H1_BODY_MORE || consumed > 0, "no progress");
        h1_check(result >= 0 || content.length == 0, "content of a bad body");
        h1_trace_view(&content_trace, "", content, copy, length);
        total += content.length;
        feed->start += consumed;
        free(copy);
    }
    h1_check((result == WEIR__H1_BODY_DONE) == weir__h1_body_done(body), "done or not");
    if (result < 0)
        h1_trace_print(trace, "body error %d %s\n", -result, body->reason);
    else
        h1_trace_print(trace, "%sbody %zu ", result == WEIR__H1_BODY_DONE ? "" : "incomplete ",
                       total);
    if (result >= 0) {
        h1_trace_append(trace, content_trace.text, content_trace.length);
        h1_trace_print(trace, "\n");
    }
    h1_trace_dispose(&content_trace);
    return result == WEIR__H1_BODY_DONE;
}

/* Reads requests until the stream ends or has an error. */
static inline void h1_trace_stream(struct h1_trace *trace, const char *data, const size_t *ends,
                                   size_t end_count)
{
    struct h1_feed feed = {.data = data, .ends = ends, .end_count = end_count};
    struct weir__request request;
    struct weir__h1_body body;

    while (feed.start < ends[end_count - 1])
        if (!h1_trace_head(trace, &feed, &request, &body) || !h1_trace_body(trace, &feed, &body))
            break;
}

#endif
