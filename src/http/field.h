/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_HTTP_FIELD_H
#define WEIR_HTTP_FIELD_H

/* What field names and values are made of (RFC 9110 section 5.6). */

#include "http/message.h"

enum weir__character {
    WEIR__CHARACTER_TOKEN = 1,   /* tchar: RFC 9110 section 5.6.2 */
    WEIR__CHARACTER_TARGET = 2,  /* visible ASCII without '#', which starts a fragment */
    WEIR__CHARACTER_HOST = 4,    /* reg-name and ':': RFC 3986 section 3.2.2 */
    WEIR__CHARACTER_VALUE = 8,   /* field-value: visible, space, tab, obs-text */
    WEIR__CHARACTER_DIGIT = 16,  /* 0-9 */
    WEIR__CHARACTER_LETTER = 32, /* A-Z a-z */
    WEIR__CHARACTER_BLANK = 64,  /* space, tab */
};

/* A sum of enum weir__character for each byte. */
extern const uint8_t weir__characters[256];

static inline bool weir__character_is(char character, unsigned classes)
{
    return weir__characters[(unsigned char)character] & classes;
}

/* An ASCII letter in lower case; any other byte as it is. */
static inline char weir__character_lower(char character)
{
    return character >= 'A' && character <= 'Z' ? (char)(character | 0x20) : character;
}

bool weir__text_equals(struct weir__text text, const char *literal);
bool weir__text_equals_ignoring_case(struct weir__text text, const char *literal);

/* Without spaces and tabs at either end. */
struct weir__text weir__text_trim(struct weir__text text);

/*
 * Takes the next element of a comma-separated list off the front of `rest`, trimmed. Commas in
 * quoted strings do not separate; a quoted string that never ends takes all that is left. Empty
 * elements are skipped (RFC 9110 section 5.6.1.2). Returns false at the end of the list.
 */
bool weir__list_next(struct weir__text *rest, struct weir__text *element);

/* True if `token` is an element of the list, whatever its case: "close" in "TE, Close". */
bool weir__list_has(struct weir__text list, const char *token);

#endif
