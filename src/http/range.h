/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_HTTP_RANGE_H
#define WEIR_HTTP_RANGE_H

/* The Range field for bytes (RFC 9110 section 14). */

#include <stdint.h>

#include "http/message.h"

/* Ranges of one response. A player or a reader of documents asks for a few. */
#define WEIR__RANGES_MAX 16
/* Ranges of one request, before those that touch are joined, empty list elements counted. */
#define WEIR__RANGE_SPECS_MAX 64

struct weir__range {
    uint64_t first;
    uint64_t length; /* never 0 */
};

/* In the order of the request, disjoint, with a gap between any two. */
struct weir__ranges {
    unsigned count;
    struct weir__range ranges[WEIR__RANGE_SPECS_MAX]; /* at most WEIR__RANGES_MAX in a result */
};

enum weir__range_outcome {
    WEIR__RANGE_IGNORED,       /* malformed, not bytes, or too many: send the whole (14.2) */
    WEIR__RANGE_SATISFIABLE,   /* 206 */
    WEIR__RANGE_UNSATISFIABLE, /* 416 */
};

/*
 * Reads a Range field's value for a representation of `size` bytes. `ranges` has a meaning only if
 * it is satisfiable.
 */
enum weir__range_outcome weir__range_parse(struct weir__text value, uint64_t size,
                                           struct weir__ranges *ranges);

#endif
