/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TESTS_HEX_H
#define WEIR_TESTS_HEX_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

static inline unsigned hex_digit(char digit)
{
    assert((digit >= '0' && digit <= '9') || (digit >= 'a' && digit <= 'f'));
    return digit <= '9' ? (unsigned)(digit - '0') : (unsigned)(digit - 'a') + 10;
}

/* Reads lower-case hexadecimal, with or without blanks between bytes. Returns the length. */
static inline size_t hex_read(const char *text, uint8_t *out, size_t size)
{
    size_t length = 0;

    while (*text) {
        if (*text == ' ') {
            text++;
            continue;
        }
        assert(length < size);
        out[length++] = (uint8_t)(hex_digit(text[0]) << 4 | hex_digit(text[1]));
        text += 2;
    }
    return length;
}

#endif
