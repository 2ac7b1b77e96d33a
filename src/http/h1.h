/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_HTTP_H1_H
#define WEIR_HTTP_H1_H

/*
 * HTTP/1.1 and 1.0 requests (RFC 9112): bytes in, structs out. Strict: whatever two implementations
 * could read in two ways is refused. No allocation, no sockets, no locale.
 */

#include "http/message.h"

#define WEIR__H1_REQUEST_LINE_MAX                                                                  \
    8192 /* bytes without CRLF, as RFC 9112 section 3 advises; else 414 */
#define WEIR__H1_HEADER_BLOCK_MAX                                                                  \
    32768                            /* bytes from the first field to the empty line; else 431     \
                                      */
#define WEIR__H1_LEADING_LINES_MAX 4 /* empty lines before a request (RFC 9112 section 2.2) */

/* A head is never longer: a buffer of this size is enough for one. */
#define WEIR__H1_HEAD_MAX                                                                          \
    (2 * WEIR__H1_LEADING_LINES_MAX + WEIR__H1_REQUEST_LINE_MAX + 2 + WEIR__H1_HEADER_BLOCK_MAX)

#define WEIR__H1_CHUNK_SIZE_DIGITS_MAX    16    /* 64 bits; leading zeros count */
#define WEIR__H1_CHUNK_EXTENSION_MAX      256   /* bytes behind one chunk's size */
#define WEIR__H1_CHUNK_EXTENSIONS_ALL_MAX 16384 /* bytes of extensions in one body */
#define WEIR__H1_TRAILERS_MAX             8192  /* bytes behind the last chunk; else 431 */

#define WEIR__H1_INCOMPLETE 0

struct weir__h1_parser {
    int status;         /* negative once the request was refused: it stays so */
    const char *reason; /* why, in a few words; static; NULL before */
    uintptr_t base;     /* where `data` was in the last call: the caller's buffer may move */
    size_t line;        /* where the line that is being read starts */
    size_t scanned;     /* where it was searched up to for its end */
    size_t block;       /* where the header block starts; 0 in the request line */
    unsigned leading_lines;
};

/* Before each request. */
void weir__h1_init(struct weir__h1_parser *parser);

/*
 * Parses a request's head. `data` holds all bytes since the request's start, so it grows from call
 * to call; it may have moved, with its content, in between. `request` is the same in all calls.
 * Returns the head's length in bytes (> 0), with `request` filled with views into `data`;
 * WEIR__H1_INCOMPLETE if more bytes are needed; or the negative HTTP status of the answer, -400,
 * -414, -431, -501 or -505, after which the connection must be closed: method_text and target are
 * then what was recognised so far. Calls are linear: a byte is not looked at again in the next
 * call.
 */
int weir__h1_parse_head(struct weir__h1_parser *parser, const char *data, size_t length,
                        struct weir__request *request);

/* The body's decoder. Its fields are its own. */
struct weir__h1_body {
    int status;         /* negative once the body was refused */
    const char *reason; /* why, in a few words; static; NULL before */
    uint64_t remaining; /* of the body, or of the chunk */
    unsigned state;
    unsigned digits;
    unsigned extension_bytes;
    unsigned extension_bytes_all;
    unsigned trailer_bytes;
};

enum weir__h1_body_outcome {
    WEIR__H1_BODY_MORE = 0,
    WEIR__H1_BODY_DONE = 1,
};

/* After a head; a request without a body is done at once. */
void weir__h1_body_init(struct weir__h1_body *body, const struct weir__request *request);

/* True when the whole body was consumed. */
bool weir__h1_body_done(const struct weir__h1_body *body);

/*
 * Consumes bytes of the body: at most one run of content, which `content` then points to (in
 * `data`; length 0 if there is none), and the framing around it. Returns WEIR__H1_BODY_DONE:
 * `*consumed` may be less than `length`, the rest is the next request; WEIR__H1_BODY_MORE: call
 * again with what is left behind `*consumed`, if anything, or with new bytes; or a negative HTTP
 * status (-400, -431), in every later call too. Never MORE with nothing consumed, unless `length`
 * is 0.
 */
int weir__h1_body_consume(struct weir__h1_body *body, const char *data, size_t length,
                          size_t *consumed, struct weir__text *content);

#endif
