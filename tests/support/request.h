/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TESTS_SUPPORT_REQUEST_H
#define WEIR_TESTS_SUPPORT_REQUEST_H

/* Requests from text, for tests of what is done with them. Include after cmocka.h. */

#include <string.h>

#include "http/h1.h"

static inline struct weir__text text_of(const char *text)
{
    return (struct weir__text){text, strlen(text)};
}

/* `head` is a whole head and outlives the request. */
static inline struct weir__request request_of(const char *head)
{
    struct weir__h1_parser parser;
    struct weir__request request;
    weir__h1_init(&parser);
    weir__request_init(&request);
    int result = weir__h1_parse_head(&parser, head, strlen(head), &request);
    if (result != (int)strlen(head))
        fail_msg("not one head: %s", head);
    return request;
}

#endif
