/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_HTTP_MESSAGE_H
#define WEIR_HTTP_MESSAGE_H

/* A request's head, as the parser of any HTTP version leaves it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes in somebody else's buffer, without a terminating NUL. `data` is NULL where there is none.
 */
struct weir__text {
    const char *data;
    size_t length;
};

/* 100 fields are several times what browsers and proxies send. */
#define WEIR__REQUEST_HEADERS_MAX 100

enum weir__method {
    WEIR__METHOD_OTHER, /* a token that is none of these */
    WEIR__METHOD_GET,
    WEIR__METHOD_HEAD,
    WEIR__METHOD_POST,
    WEIR__METHOD_PUT,
    WEIR__METHOD_DELETE,
    WEIR__METHOD_CONNECT,
    WEIR__METHOD_OPTIONS,
    WEIR__METHOD_TRACE,
    WEIR__METHOD_PATCH,
};

/* RFC 9112 section 3.2. */
enum weir__target_form {
    WEIR__TARGET_ORIGIN,    /* /path?query */
    WEIR__TARGET_ABSOLUTE,  /* http://host/path?query */
    WEIR__TARGET_AUTHORITY, /* host:port, only with CONNECT */
    WEIR__TARGET_ASTERISK,  /* *, only with OPTIONS */
};

/* The fields that Weir itself acts on. */
enum weir__field {
    WEIR__FIELD_OTHER,
    WEIR__FIELD_ACCEPT_ENCODING,
    WEIR__FIELD_CONNECTION,
    WEIR__FIELD_CONTENT_LENGTH,
    WEIR__FIELD_EXPECT,
    WEIR__FIELD_HOST,
    WEIR__FIELD_IF_MATCH,
    WEIR__FIELD_IF_MODIFIED_SINCE,
    WEIR__FIELD_IF_NONE_MATCH,
    WEIR__FIELD_IF_RANGE,
    WEIR__FIELD_IF_UNMODIFIED_SINCE,
    WEIR__FIELD_RANGE,
    WEIR__FIELD_REFERER,
    WEIR__FIELD_TRANSFER_ENCODING,
    WEIR__FIELD_USER_AGENT,
    WEIR__FIELD_COUNT,
};

struct weir__header {
    struct weir__text name;  /* as sent: compare without regard to case */
    struct weir__text value; /* without white space around it; may be empty */
    enum weir__field field;
};

enum weir__framing {
    WEIR__FRAMING_NONE,    /* no body follows */
    WEIR__FRAMING_LENGTH,  /* content_length bytes, which may be 0 */
    WEIR__FRAMING_CHUNKED, /* transfer coding "chunked" and nothing else */
};

#define WEIR__HEADER_NONE 0xff /* what `first` holds for a field that was not sent */

/* Every view points into the buffer that the parser was given. */
struct weir__request {
    enum weir__method method;
    enum weir__target_form target_form;
    struct weir__text method_text;
    struct weir__text target; /* as sent */
    /* Origin and absolute form: starts with '/', still percent-encoded; "/" where an absolute URI
     * has no path. Other forms: none. */
    struct weir__text path;
    struct weir__text query; /* behind the '?'; NULL data without one, empty for a bare '?' */
    /* With its port, if it has one: of an absolute target (it overrides Host: RFC 9112
     * section 3.2.2), of an authority, or of Host. Valid characters only. May be empty, and is none
     * in HTTP/1.0 without Host. */
    struct weir__text host;
    uint8_t version_major;
    uint8_t version_minor;
    bool keep_alive;
    bool expect_continue; /* the peer waits for "100 Continue" before it sends its body */
    enum weir__framing framing;
    uint64_t content_length; /* 0 unless framing is LENGTH */
    unsigned header_count;
    uint32_t repeated;                /* bit 1 << field: the field was sent in more than one line */
    uint8_t first[WEIR__FIELD_COUNT]; /* index in headers of a field's first line */
    struct weir__header headers[WEIR__REQUEST_HEADERS_MAX]; /* only header_count of them are set */
};

/* Empties a request; the headers' array keeps its old bytes. */
void weir__request_init(struct weir__request *request);

/* A field's first value, or NULL if it was not sent. */
static inline const struct weir__text *weir__request_value(const struct weir__request *request,
                                                           enum weir__field field)
{
    uint8_t index = request->first[field];
    return index == WEIR__HEADER_NONE ? NULL : &request->headers[index].value;
}

/* True if a field that may be sent once was sent in several lines: then its value means nothing. */
static inline bool weir__request_repeated(const struct weir__request *request,
                                          enum weir__field field)
{
    return request->repeated >> field & 1;
}

/*
 * Iterates over all lines of a field, for those that are lists:
 * for (h = weir__request_next(r, f, NULL); h; h = weir__request_next(r, f, h))
 */
const struct weir__header *weir__request_next(const struct weir__request *request,
                                              enum weir__field field,
                                              const struct weir__header *previous);

#endif
