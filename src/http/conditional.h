/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_HTTP_CONDITIONAL_H
#define WEIR_HTTP_CONDITIONAL_H

/* Conditional requests (RFC 9110 section 13), for GET and HEAD of a representation that exists. */

#include <stdbool.h>
#include <stdint.h>

#include "http/message.h"

#define WEIR__MODIFIED_UNKNOWN INT64_MIN

/* What a representation is compared by. */
struct weir__validators {
    struct weir__text etag; /* with its quotes, and W/ if it is weak */
    int64_t modified_s;     /* seconds since 1970, or WEIR__MODIFIED_UNKNOWN */
};

enum weir__condition {
    WEIR__CONDITION_PROCEED,      /* there is no condition, or it holds */
    WEIR__CONDITION_NOT_MODIFIED, /* 304 */
    WEIR__CONDITION_FAILED,       /* 412 */
};

/*
 * Evaluates If-Match, If-Unmodified-Since, If-None-Match and If-Modified-Since, in the order of
 * section 13.2.2. A date that cannot be read is ignored; an entity tag that cannot be read matches
 * nothing.
 */
enum weir__condition weir__condition_evaluate(const struct weir__request *request,
                                              const struct weir__validators *validators,
                                              int64_t now_s);

/* Whether a Range field applies: there is no If-Range, or it names the representation as it is. */
bool weir__condition_allows_range(const struct weir__request *request,
                                  const struct weir__validators *validators, int64_t now_s);

#endif
