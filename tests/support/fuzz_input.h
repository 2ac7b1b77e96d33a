/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TESTS_FUZZ_INPUT_H
#define WEIR_TESTS_FUZZ_INPUT_H

/* A fuzzer's input, taken as a program is: bit by bit from the front. At its end it goes on with zeros. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct fuzz_input {
    const uint8_t *bytes;
    size_t left;
};

static inline uint8_t take_byte(struct fuzz_input *input)
{
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->bytes++;
}

static inline size_t take_number(struct fuzz_input *input, size_t below)
{
    size_t high = take_byte(input);
    return (high << 8 | take_byte(input)) % below;
}

/* Returns how many of `count` bytes there are. */
static inline size_t take_bytes(struct fuzz_input *input, size_t count, uint8_t *out)
{
    if (count > input->left)
        count = input->left;
    memcpy(out, input->bytes, count);
    input->bytes += count;
    input->left -= count;
    return count;
}

#endif
