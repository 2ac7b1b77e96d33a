/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_HTTP_WRITER_H
#define WEIR_HTTP_WRITER_H

/* Text that grows in a buffer whose size was computed to suffice. */

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "http/message.h"

struct weir__writer {
    char *at, *end;
};

static inline void weir__write(struct weir__writer *writer, struct weir__text text)
{
    assert(text.length <= (size_t)(writer->end - writer->at));
    memcpy(writer->at, text.data, text.length);
    writer->at += text.length;
}

static inline void weir__write_string(struct weir__writer *writer, const char *string)
{
    weir__write(writer, (struct weir__text){string, strlen(string)});
}

/* In decimal or hexadecimal digits: `base` is 10 or 16. */
static inline void weir__write_number(struct weir__writer *writer, uint64_t number, unsigned base)
{
    char digits[20];
    size_t at = sizeof(digits);
    do {
        digits[--at] = "0123456789abcdef"[number % base];
        number /= base;
    } while (number > 0);
    weir__write(writer, (struct weir__text){digits + at, sizeof(digits) - at});
}

#endif
