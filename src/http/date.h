/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_HTTP_DATE_H
#define WEIR_HTTP_DATE_H

/* Dates of HTTP (RFC 9110 section 5.6.7): always GMT, always English, whatever the locale. */

#include <stdbool.h>
#include <stdint.h>

#include "http/message.h"

/* "Sun, 06 Nov 1994 08:49:37 GMT", without a terminating NUL. */
#define WEIR__DATE_LENGTH 29

/* The last second that can be written: the end of the year 9999. */
#define WEIR__DATE_MAX_S INT64_C(253402300799)

/* Writes seconds since 1970, from 0 to WEIR__DATE_MAX_S, as an IMF-fixdate. */
void weir__date_format(int64_t unix_s, char text[WEIR__DATE_LENGTH]);

/* The last date that was written: a server needs the same one for a whole second. */
struct weir__date_cache {
    int64_t unix_s;
    char text[WEIR__DATE_LENGTH];
};

void weir__date_cache_init(struct weir__date_cache *cache);

/* The same as weir__date_format; valid until the next call. */
const char *weir__date_cache_get(struct weir__date_cache *cache, int64_t unix_s);

/*
 * Reads any of the three formats. `now_s` tells the century of RFC 850's two-digit years. Returns
 * false if `text` is none of them, or names a day or an hour that does not exist. Dates before 1970
 * are negative.
 */
bool weir__date_parse(struct weir__text text, int64_t now_s, int64_t *unix_s);

#endif
