/* SPDX-License-Identifier: Apache-2.0 */
#include "http/message.h"

#include <string.h>

void weir__request_init(struct weir__request *request)
{
    memset(request, 0, offsetof(struct weir__request, headers));
    memset(request->first, WEIR__HEADER_NONE, sizeof(request->first));
}

const struct weir__header *weir__request_next(const struct weir__request *request,
                                              enum weir__field field,
                                              const struct weir__header *previous)
{
    unsigned index =
        previous == NULL ? request->first[field] : (unsigned)(previous - request->headers) + 1;

    for (; index < request->header_count; index++)
        if (request->headers[index].field == field)
            return &request->headers[index];
    return NULL;
}
