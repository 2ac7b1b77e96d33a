/* SPDX-License-Identifier: Apache-2.0 */

/* A Range field's value; the first 8 bytes are the representation's size. */

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http/range.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct weir__ranges ranges;
    uint64_t bytes;
    if (size < sizeof(bytes))
        return 0;
    memcpy(&bytes, data, sizeof(bytes));
    size -= sizeof(bytes);

    /* Of the exact size, so that a read past its end is seen. */
    char *value = malloc(size > 0 ? size : 1);
    assert(value);
    if (size > 0)
        memcpy(value, data + sizeof(bytes), size);
    enum weir__range_outcome outcome =
        weir__range_parse((struct weir__text){value, size}, bytes, &ranges);
    free(value);
    if (outcome != WEIR__RANGE_SATISFIABLE)
        return 0;

    assert(ranges.count >= 1);
    assert(ranges.count <= WEIR__RANGES_MAX);
    for (unsigned i = 0; i < ranges.count; i++) {
        const struct weir__range *range = &ranges.ranges[i];
        assert(range->length > 0);
        assert(range->first < bytes);
        assert(range->length <= bytes - range->first);
        for (unsigned j = 0; j < i; j++) {
            const struct weir__range *other = &ranges.ranges[j];
            assert(range->first + range->length < other->first ||
                   other->first + other->length < range->first);
        }
    }
    return 0;
}
