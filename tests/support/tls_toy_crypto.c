/* SPDX-License-Identifier: Apache-2.0 */
#include "support/tls_toy_crypto.h"

#include <assert.h>
#include <string.h>

#include <weir/error.h>

#include "core/memory.h"

/* 2^64 divided by the golden ratio: an odd number whose multiples are far apart. */
#define STEP UINT64_C(0x9e3779b97f4a7c15)

struct weir__tls_aead {
    uint64_t state; /* of the key and the cipher */
    bool seal;
};

/* One to one, and each bit of the result depends on all of `value`. */
static uint64_t mix(uint64_t value)
{
    value ^= value >> 32;
    value *= UINT64_C(0xe9846af9b1a615d);
    value ^= value >> 32;
    value *= UINT64_C(0xe9846af9b1a615d);
    return value ^ value >> 28;
}

uint64_t tls_toy_absorb(uint64_t state, const void *bytes, size_t length)
{
    const uint8_t *at = bytes;
    uint64_t word;

    state = mix(state ^ (length + 1) * STEP);
    for (; length >= 8; length -= 8, at += 8) {
        memcpy(&word, at, 8);
        /* Also one to one in the state: a difference in one word never goes away by itself. */
        state = (state ^ word) * STEP;
        state ^= state >> 32;
    }
    if (length > 0) {
        word = 0;
        memcpy(&word, at, length);
        state = mix(state ^ word);
    }
    return mix(state);
}

void tls_toy_squeeze(uint64_t state, uint8_t *out, size_t length)
{
    for (size_t done = 0; done < length; done += 8) {
        state += STEP;
        uint64_t word = mix(state);
        memcpy(out + done, &word, length - done < 8 ? length - done : 8);
    }
}

int tls_toy_hmac(enum weir__tls_hash hash, const uint8_t *key, size_t key_length,
                 const uint8_t *data, size_t length, uint8_t *out)
{
    uint64_t state = tls_toy_absorb((uint64_t)hash, key, key_length);
    tls_toy_squeeze(tls_toy_absorb(state, data, length), out, hash == WEIR__TLS_SHA384 ? 48 : 32);
    return 0;
}

int tls_toy_aead_new(struct weir__tls_aead **aead_out, enum weir__tls_cipher cipher,
                     const uint8_t *key, bool seal)
{
    struct weir__tls_aead *aead = weir__allocate(sizeof(*aead));

    if (!aead)
        return WEIR_ENOMEM;
    aead->state = tls_toy_absorb((uint64_t)cipher, key, weir__tls_key_bytes(cipher));
    aead->seal = seal;
    *aead_out = aead;
    return 0;
}

void tls_toy_aead_free(struct weir__tls_aead *aead)
{
    if (aead)
        weir__tls_wipe(aead, sizeof(*aead));
    weir__release(aead);
}

/* The keystream's byte `at` is in its word at / 8, so that parts may begin anywhere. */
static void keystream_xor(uint64_t state, size_t at, const uint8_t *in, uint8_t *out, size_t length)
{
    while (length > 0) {
        uint64_t stream = mix(state + at / 8 * STEP);
        size_t from = at % 8;
        size_t count = length < 8 - from ? length : 8 - from;
        uint64_t word = 0;
        memcpy((uint8_t *)&word + from, in, count);
        word ^= stream;
        memcpy(out, (uint8_t *)&word + from, count);
        at += count;
        in += count;
        out += count;
        length -= count;
    }
}

static void checksum(uint64_t state, const uint8_t *additional, size_t additional_length,
                     const uint8_t *cipher, size_t length, uint8_t *tag)
{
    state = tls_toy_absorb(~state, additional, additional_length);
    tls_toy_squeeze(tls_toy_absorb(state, cipher, length), tag, WEIR__TLS_TAG);
}

int tls_toy_aead_seal(struct weir__tls_aead *aead, const uint8_t *nonce, const uint8_t *additional,
                      size_t additional_length, const struct iovec *parts, unsigned part_count,
                      uint8_t *out)
{
    uint64_t state = tls_toy_absorb(aead->state, nonce, WEIR__TLS_NONCE);
    size_t done = 0;

    assert(aead->seal);
    assert(part_count <= WEIR__TLS_SEAL_PARTS_MAX);
    for (unsigned i = 0; i < part_count; i++) {
        keystream_xor(state, done, parts[i].iov_base, out + done, parts[i].iov_len);
        done += parts[i].iov_len;
    }
    assert(done <= 16640 - WEIR__TLS_TAG); /* tests make records that are too long */
    checksum(state, additional, additional_length, out, done, out + done);
    return 0;
}

int tls_toy_aead_open(struct weir__tls_aead *aead, const uint8_t *nonce, const uint8_t *additional,
                      size_t additional_length, const uint8_t *in, size_t length, uint8_t *out)
{
    uint64_t state = tls_toy_absorb(aead->state, nonce, WEIR__TLS_NONCE);
    uint8_t tag[WEIR__TLS_TAG];

    assert(!aead->seal);
    assert(length >= WEIR__TLS_TAG);
    length -= WEIR__TLS_TAG;
    checksum(state, additional, additional_length, in, length, tag);
    if (memcmp(tag, in + length, WEIR__TLS_TAG) != 0)
        return WEIR_ETLS;
    keystream_xor(state, 0, in, out, length);
    return 0;
}
