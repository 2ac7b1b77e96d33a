/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reads the input as a stream of requests with their bodies, at once and in pieces whose sizes come
 * from the input's own hash, and compares all that came out; see h1_trace.h for what else is
 * checked.
 */

#include <stdint.h>

#include "support/h1_trace.h"
#include "support/pieces.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct h1_trace whole;
    uint64_t seed = pieces_seed(data, size);

    h1_trace_init(&whole);
    h1_trace_stream(&whole, text, &size, 1);
    for (unsigned round = 0; round < 2; round++) {
        struct h1_trace split;
        size_t ends[PIECES_MAX];
        size_t count = pieces_make(&seed, size, ends);
        h1_trace_init(&split);
        h1_trace_stream(&split, text, ends, count);
        h1_check(split.length == whole.length && memcmp(split.text, whole.text, split.length) == 0,
                 "the pieces change the outcome");
        h1_trace_dispose(&split);
    }
    h1_trace_dispose(&whole);
    return 0;
}
