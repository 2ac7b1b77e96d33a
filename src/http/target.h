/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_HTTP_TARGET_H
#define WEIR_HTTP_TARGET_H

/* The path of a request target, to and from a path below a folder. */

#include "http/message.h"

/* Bytes of a decoded path with its NUL: PATH_MAX of Linux, so a longer one names no file. */
#define WEIR__TARGET_PATH_MAX 4096

/*
 * Decodes a path that starts with '/': percent-encodings, then dot segments (RFC 3986
 * section 5.2.4), which never lead above the root. The result has no leading slash, no empty
 * segment and a NUL behind its `*length` bytes; a folder's ends with a slash, the root's is empty.
 * Returns 0, or the negative HTTP status: -400 for a malformed encoding or a NUL; -404 for an
 * encoded slash, as no file's name has one; -414 if the result is too long.
 */
int weir__target_decode(struct weir__text path, char decoded[WEIR__TARGET_PATH_MAX],
                        size_t *length);

/* At most this many bytes for each byte that is escaped. */
#define WEIR__TARGET_ESCAPE_FACTOR 3

/*
 * Percent-encodes a decoded path, slashes kept, into `escaped`, which has room. Returns the length.
 */
size_t weir__target_escape(struct weir__text path, char *escaped);

#endif
