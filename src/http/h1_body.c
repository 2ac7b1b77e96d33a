/* SPDX-License-Identifier: Apache-2.0 */
#include "http/h1.h"

#include <assert.h>

#include "http/field.h"

enum state {
    STATE_DONE,
    STATE_CONTENT, /* of a length: done behind it */
    STATE_SIZE,    /* chunk-size, with at least one digit to come */
    STATE_SIZE_MORE,
    STATE_EXTENSION_BLANK, /* white space that only a ';' may end */
    STATE_EXTENSION_NAME_START,
    STATE_EXTENSION_NAME,
    STATE_EXTENSION_NAME_BLANK,
    STATE_EXTENSION_VALUE_START,
    STATE_EXTENSION_VALUE,
    STATE_EXTENSION_QUOTED,
    STATE_EXTENSION_ESCAPE,
    STATE_EXTENSION_QUOTED_END,
    STATE_SIZE_LF,
    STATE_CHUNK, /* chunk-data */
    STATE_CHUNK_CR,
    STATE_CHUNK_LF,
    STATE_TRAILER_START,
    STATE_TRAILER_NAME,
    STATE_TRAILER_VALUE,
    STATE_TRAILER_LF,
    STATE_END_LF,
};

static int refuse(struct weir__h1_body *body, int status, const char *reason)
{
    body->status = status;
    body->reason = reason;
    return status;
}

void weir__h1_body_init(struct weir__h1_body *body, const struct weir__request *request)
{
    *body = (struct weir__h1_body){.state = STATE_DONE};
    if (request->framing == WEIR__FRAMING_CHUNKED) {
        body->state = STATE_SIZE;
    } else if (request->framing == WEIR__FRAMING_LENGTH && request->content_length > 0) {
        body->state = STATE_CONTENT;
        body->remaining = request->content_length;
    }
}

bool weir__h1_body_done(const struct weir__h1_body *body)
{
    return body->state == STATE_DONE;
}

/* The value of a hexadecimal digit, or -1. */
static int digit_value(char character)
{
    if (weir__character_is(character, WEIR__CHARACTER_DIGIT))
        return character - '0';
    character = weir__character_lower(character);
    return character >= 'a' && character <= 'f' ? character - 'a' + 10 : -1;
}

/* What may follow a size or a whole extension: another one, the line's end, or white space. */
static int extension_end(struct weir__h1_body *body, char character)
{
    if (character == '\r')
        body->state = STATE_SIZE_LF;
    else if (character == ';')
        body->state = STATE_EXTENSION_NAME_START;
    else if (weir__character_is(character, WEIR__CHARACTER_BLANK))
        body->state = STATE_EXTENSION_BLANK;
    else
        return refuse(body, -400, "malformed chunk size or extension");
    return 0;
}

static int size_step(struct weir__h1_body *body, char character)
{
    int digit = digit_value(character);

    if (digit < 0) {
        if (body->state == STATE_SIZE)
            return refuse(body, -400, "chunk without a size");
        return extension_end(body, character);
    }
    if (body->state == STATE_SIZE) {
        body->state = STATE_SIZE_MORE;
        body->remaining = 0;
        body->digits = 0;
        body->extension_bytes = 0;
    }
    if (++body->digits > WEIR__H1_CHUNK_SIZE_DIGITS_MAX)
        return refuse(body, -400, "chunk size too long");
    body->remaining = body->remaining << 4 | (unsigned)digit;
    return 0;
}

/* chunk-ext = *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ) */
static int extension_step(struct weir__h1_body *body, char character)
{
    bool blank = weir__character_is(character, WEIR__CHARACTER_BLANK);
    bool token = weir__character_is(character, WEIR__CHARACTER_TOKEN);

    if (++body->extension_bytes > WEIR__H1_CHUNK_EXTENSION_MAX ||
        ++body->extension_bytes_all > WEIR__H1_CHUNK_EXTENSIONS_ALL_MAX)
        return refuse(body, -400, "chunk extensions too long");

    switch (body->state) {
    case STATE_EXTENSION_BLANK:
        return character == '\r' ? refuse(body, -400, "white space at the end of a chunk's size")
                                 : extension_end(body, character);
    case STATE_EXTENSION_NAME_START:
    case STATE_EXTENSION_VALUE_START:
        if (blank)
            return 0;
        if (character == '"' && body->state == STATE_EXTENSION_VALUE_START)
            body->state = STATE_EXTENSION_QUOTED;
        else if (token)
            body->state = body->state == STATE_EXTENSION_NAME_START ? STATE_EXTENSION_NAME
                                                                    : STATE_EXTENSION_VALUE;
        else
            return refuse(body, -400, "malformed chunk extension");
        return 0;
    case STATE_EXTENSION_NAME:
    case STATE_EXTENSION_NAME_BLANK:
        if (character == '=')
            body->state = STATE_EXTENSION_VALUE_START;
        else if (blank)
            body->state = STATE_EXTENSION_NAME_BLANK;
        else if (body->state == STATE_EXTENSION_NAME_BLANK && character != ';')
            return refuse(body, -400, "malformed chunk extension");
        else if (!token)
            return extension_end(body, character);
        return 0;
    case STATE_EXTENSION_VALUE:
        return token ? 0 : extension_end(body, character);
    case STATE_EXTENSION_QUOTED:
        if (!weir__character_is(character, WEIR__CHARACTER_VALUE))
            return refuse(body, -400, "control character in a chunk extension");
        if (character == '"')
            body->state = STATE_EXTENSION_QUOTED_END;
        else if (character == '\\')
            body->state = STATE_EXTENSION_ESCAPE;
        return 0;
    case STATE_EXTENSION_ESCAPE:
        if (!weir__character_is(character, WEIR__CHARACTER_VALUE))
            return refuse(body, -400, "control character in a chunk extension");
        body->state = STATE_EXTENSION_QUOTED;
        return 0;
    default:
        assert(body->state == STATE_EXTENSION_QUOTED_END);
        return extension_end(body, character);
    }
}

/* Trailers are checked and dropped: nothing here may change how the request is understood. */
static int trailer_step(struct weir__h1_body *body, char character)
{
    if (++body->trailer_bytes > WEIR__H1_TRAILERS_MAX)
        return refuse(body, -431, "the trailers are too long");

    switch (body->state) {
    case STATE_TRAILER_START:
        if (character == '\r')
            body->state = STATE_END_LF;
        else if (weir__character_is(character, WEIR__CHARACTER_TOKEN))
            body->state = STATE_TRAILER_NAME;
        else
            return refuse(body, -400, "malformed trailer");
        return 0;
    case STATE_TRAILER_NAME:
        if (character == ':')
            body->state = STATE_TRAILER_VALUE;
        else if (!weir__character_is(character, WEIR__CHARACTER_TOKEN))
            return refuse(body, -400, "malformed trailer");
        return 0;
    default:
        assert(body->state == STATE_TRAILER_VALUE);
        if (character == '\r')
            body->state = STATE_TRAILER_LF;
        else if (!weir__character_is(character, WEIR__CHARACTER_VALUE))
            return refuse(body, -400, "control character in a trailer");
        return 0;
    }
}

/* A byte that has to be what it is. */
static int literal_step(struct weir__h1_body *body, char character)
{
    if (character != (body->state == STATE_CHUNK_CR ? '\r' : '\n'))
        return refuse(body, -400, "chunk line without CRLF");
    switch (body->state) {
    case STATE_SIZE_LF:
        body->state = body->remaining > 0 ? STATE_CHUNK : STATE_TRAILER_START;
        break;
    case STATE_CHUNK_CR:
        body->state = STATE_CHUNK_LF;
        break;
    case STATE_CHUNK_LF:
        body->state = STATE_SIZE;
        break;
    case STATE_TRAILER_LF:
        body->state = STATE_TRAILER_START;
        break;
    default:
        assert(body->state == STATE_END_LF);
        body->state = STATE_DONE;
        break;
    }
    return 0;
}

/* Takes one byte of the framing. */
static int framing_step(struct weir__h1_body *body, char character)
{
    switch (body->state) {
    case STATE_SIZE:
    case STATE_SIZE_MORE:
        return size_step(body, character);
    case STATE_SIZE_LF:
    case STATE_CHUNK_CR:
    case STATE_CHUNK_LF:
    case STATE_TRAILER_LF:
    case STATE_END_LF:
        return literal_step(body, character);
    case STATE_TRAILER_START:
    case STATE_TRAILER_NAME:
    case STATE_TRAILER_VALUE:
        return trailer_step(body, character);
    default:
        return extension_step(body, character);
    }
}

int weir__h1_body_consume(struct weir__h1_body *body, const char *data, size_t length,
                          size_t *consumed, struct weir__text *content)
{
    size_t at = 0;

    *consumed = 0;
    *content = (struct weir__text){data, 0};
    if (body->status != 0)
        return body->status;
    while (at < length && body->state != STATE_DONE) {
        if (body->state == STATE_CONTENT || body->state == STATE_CHUNK) {
            if (content->length > 0)
                break;
            size_t left = length - at;
            size_t taken = body->remaining < left ? (size_t)body->remaining : left;
            *content = (struct weir__text){data + at, taken};
            at += taken;
            body->remaining -= taken;
            if (body->remaining == 0)
                body->state = body->state == STATE_CHUNK ? STATE_CHUNK_CR : STATE_DONE;
        } else {
            int status = framing_step(body, data[at++]);
            if (status != 0) {
                content->length = 0;
                return status;
            }
        }
    }
    *consumed = at;
    return body->state == STATE_DONE ? WEIR__H1_BODY_DONE : WEIR__H1_BODY_MORE;
}
