/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TESTS_PIECES_H
#define WEIR_TESTS_PIECES_H

/* Cuts inputs into pieces, at places that follow from the input. */

#include <stddef.h>
#include <stdint.h>

#define PIECES_MAX 64

/* Never 0, as pieces_make needs it. */
static inline uint64_t pieces_seed(const uint8_t *data, size_t size)
{
    uint64_t seed = 14695981039346656037u;

    for (size_t i = 0; i < size; i++)
        seed = (seed ^ data[i]) * 1099511628211u;
    return seed | 1;
}

static inline uint64_t pieces_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Cuts `size` bytes into pieces; short ones are likelier, and some pieces are empty. */
static inline size_t pieces_make(uint64_t *seed, size_t size, size_t ends[PIECES_MAX])
{
    size_t count = 0;
    size_t end = 0;

    while (end < size && count < PIECES_MAX - 1) {
        uint64_t random = pieces_random(seed);
        uint64_t longest = random & 3 ? 8 : 1 + size / 4;
        end += (random >> 8) % (longest + 1);
        ends[count++] = end < size ? end : size;
    }
    ends[count++] = size;
    return count;
}

#endif
