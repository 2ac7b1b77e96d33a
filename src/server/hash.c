/* SPDX-License-Identifier: Apache-2.0 */
#include "server/hash.h"

#include <endian.h>
#include <string.h>

struct sip {
    uint64_t v0, v1, v2, v3;
};

static uint64_t rotate(uint64_t value, unsigned bits)
{
    return value << bits | value >> (64 - bits);
}

static void run_rounds(struct sip *sip, int count)
{
    for (; count > 0; count--) {
        sip->v0 += sip->v1;
        sip->v2 += sip->v3;
        sip->v1 = rotate(sip->v1, 13) ^ sip->v0;
        sip->v3 = rotate(sip->v3, 16) ^ sip->v2;
        sip->v0 = rotate(sip->v0, 32) + sip->v3;
        sip->v2 += sip->v1;
        sip->v1 = rotate(sip->v1, 17) ^ sip->v2;
        sip->v3 = rotate(sip->v3, 21) ^ sip->v0;
        sip->v2 = rotate(sip->v2, 32);
    }
}

static void absorb(struct sip *sip, uint64_t word)
{
    sip->v3 ^= word;
    run_rounds(sip, 2);
    sip->v0 ^= word;
}

uint64_t weir__hash(const uint64_t seed[2], const void *data, size_t length)
{
    /* The constants spell "somepseudorandomlygeneratedbytes". */
    struct sip sip = {
        .v0 = seed[0] ^ UINT64_C(0x736f6d6570736575),
        .v1 = seed[1] ^ UINT64_C(0x646f72616e646f6d),
        .v2 = seed[0] ^ UINT64_C(0x6c7967656e657261),
        .v3 = seed[1] ^ UINT64_C(0x7465646279746573),
    };
    const unsigned char *at = data;
    uint64_t word;
    for (size_t left = length; left >= 8; left -= 8, at += 8) {
        memcpy(&word, at, 8);
        absorb(&sip, le64toh(word));
    }
    word = 0;
    if (length % 8 > 0)
        memcpy(&word, at, length % 8);
    absorb(&sip, le64toh(word) | (uint64_t)length << 56);
    sip.v2 ^= 0xff;
    run_rounds(&sip, 4);
    return sip.v0 ^ sip.v1 ^ sip.v2 ^ sip.v3;
}
