/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reads the input as a stream of requests with their bodies, at once and in pieces whose sizes come
 * from the input's own hash, and compares all that came out; see h1_trace.h for what else is
 * checked.
 */

#include <stdint.h>

#include "support/h1_trace.h"

#define PIECES_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Cuts `size` bytes into pieces; short ones are likelier, and some pieces are empty. */
static size_t pieces_make(uint64_t *seed, size_t size, size_t *ends)
{
    size_t count = 0;
    size_t end = 0;

    while (end < size && count < PIECES_MAX - 1) {
        uint64_t random = random_next(seed);
        uint64_t longest = random & 3 ? 8 : 1 + size / 4;
        end += (random >> 8) % (longest + 1);
        ends[count++] = end < size ? end : size;
    }
    ends[count++] = size;
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct h1_trace whole;
    uint64_t seed = 14695981039346656037u;

    for (size_t i = 0; i < size; i++)
        seed = (seed ^ data[i]) * 1099511628211u;
    seed |= 1;
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
