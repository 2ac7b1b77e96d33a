/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_HTTP_ENCODING_H
#define WEIR_HTTP_ENCODING_H

/* Content codings, and the choice among them by Accept-Encoding (RFC 9110 section 12.5.3). */

#include "http/message.h"

/* In the order in which they are preferred where the request likes them the same; best last. */
enum weir__coding {
    WEIR__CODING_IDENTITY,
    WEIR__CODING_GZIP,
    WEIR__CODING_ZSTD,
    WEIR__CODING_BR,
    WEIR__CODING_COUNT,
};

/* As in Content-Encoding: "identity", "gzip", ... */
const char *weir__coding_name(enum weir__coding coding);
/* What a file's name ends with in that coding: "", ".gz", ".zst", ".br". */
const char *weir__coding_suffix(enum weir__coding coding);

/* What weir__coding_choose returns if the request accepts none of them (406). */
#define WEIR__CODING_NONE (-1)

/* Chooses among codings, a set of bits 1 << enum weir__coding that has identity in it. */
int weir__coding_choose(const struct weir__request *request, unsigned available);

#endif
