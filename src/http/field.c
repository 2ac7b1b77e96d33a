/* SPDX-License-Identifier: Apache-2.0 */
#include "http/field.h"

#include <string.h>

#define T WEIR__CHARACTER_TOKEN
#define R WEIR__CHARACTER_TARGET
#define H WEIR__CHARACTER_HOST
#define V WEIR__CHARACTER_VALUE
#define D WEIR__CHARACTER_DIGIT
#define L WEIR__CHARACTER_LETTER
#define B WEIR__CHARACTER_BLANK

const uint8_t weir__characters[256] = {
    ['\t'] = V | B,
    [' '] = V | B,
    [0x80 ... 0xff] = V,
    ['0' ... '9'] = T | R | H | V | D,
    ['A' ... 'Z'] = T | R | H | V | L,
    ['a' ... 'z'] = T | R | H | V | L,
    ['#'] = T | V,
    /* neither tchar nor part of a name of a host */
    ['"'] = R | V,
    ['/'] = R | V,
    ['<'] = R | V,
    ['>'] = R | V,
    ['?'] = R | V,
    ['@'] = R | V,
    ['['] = R | V,
    ['\\'] = R | V,
    [']'] = R | V,
    ['{'] = R | V,
    ['}'] = R | V,
    /* tchar that is in neither unreserved nor sub-delims */
    ['^'] = T | R | V,
    ['`'] = T | R | V,
    ['|'] = T | R | V,
    /* tchar that is in unreserved, sub-delims or pct-encoded */
    ['!'] = T | R | H | V,
    ['$'] = T | R | H | V,
    ['%'] = T | R | H | V,
    ['&'] = T | R | H | V,
    ['\''] = T | R | H | V,
    ['*'] = T | R | H | V,
    ['+'] = T | R | H | V,
    ['-'] = T | R | H | V,
    ['.'] = T | R | H | V,
    ['_'] = T | R | H | V,
    ['~'] = T | R | H | V,
    /* sub-delims that are not tchar, and the port's colon */
    ['('] = R | H | V,
    [')'] = R | H | V,
    [','] = R | H | V,
    [';'] = R | H | V,
    ['='] = R | H | V,
    [':'] = R | H | V,
};

bool weir__text_equals(struct weir__text text, const char *literal)
{
    size_t length = strlen(literal);

    return text.length == length && (length == 0 || memcmp(text.data, literal, length) == 0);
}

bool weir__text_equals_ignoring_case(struct weir__text text, const char *literal)
{
    if (text.length != strlen(literal))
        return false;
    for (size_t i = 0; i < text.length; i++)
        if (weir__character_lower(text.data[i]) != weir__character_lower(literal[i]))
            return false;
    return true;
}

struct weir__text weir__text_trim(struct weir__text text)
{
    while (text.length > 0 && weir__character_is(text.data[0], B)) {
        text.data++;
        text.length--;
    }
    while (text.length > 0 && weir__character_is(text.data[text.length - 1], B))
        text.length--;
    return text;
}

/* Where the element at the front of `list` ends: at a comma or at the list's end. */
static size_t element_length(struct weir__text list)
{
    bool quoted = false;

    for (size_t i = 0; i < list.length; i++) {
        char character = list.data[i];
        if (character == '"')
            quoted = !quoted;
        else if (character == '\\' && quoted)
            i++;
        else if (character == ',' && !quoted)
            return i;
    }
    return list.length;
}

bool weir__list_next(struct weir__text *rest, struct weir__text *element)
{
    while (rest->length > 0) {
        size_t length = element_length(*rest);
        size_t taken = length < rest->length ? length + 1 : length;
        struct weir__text trimmed = weir__text_trim((struct weir__text){rest->data, length});
        rest->data += taken;
        rest->length -= taken;
        if (trimmed.length > 0) {
            *element = trimmed;
            return true;
        }
    }
    return false;
}

bool weir__list_has(struct weir__text list, const char *token)
{
    struct weir__text element;

    while (weir__list_next(&list, &element))
        if (weir__text_equals_ignoring_case(element, token))
            return true;
    return false;
}
