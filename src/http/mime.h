/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_HTTP_MIME_H
#define WEIR_HTTP_MIME_H

#include "http/message.h"

/* No type is longer. */
#define WEIR__MIME_TYPE_MAX 80

/*
 * The media type of a file, by the extension of the last segment of `path`, without regard to case;
 * application/octet-stream if it is not known. Text is said to be in UTF-8. Static text.
 */
struct weir__text weir__mime_type(struct weir__text path);

#endif
