/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/key_schedule.h"

#include <assert.h>
#include <string.h>

#include <weir/error.h>

#define RANDOM_BYTES 32
#define MASTER_BYTES 48

/* HkdfLabel: a length of 2 bytes, the label and the context, each with a length of 1 before it. */
#define LABEL_PREFIX "tls13 "
#define LABEL_MAX    (sizeof(LABEL_PREFIX) - 1 + WEIR__TLS_LABEL_MAX)
#define INFO_MAX     (2 + 1 + LABEL_MAX + 1 + WEIR__TLS_HASH_MAX)

/* Two keys and two nonce masks. */
#define KEY_BLOCK_MAX (2 * WEIR__TLS_KEY_MAX + 2 * WEIR__TLS_NONCE)

size_t weir__tls_hash_bytes(enum weir__tls_hash hash)
{
    return hash == WEIR__TLS_SHA384 ? 48 : 32;
}

static uint8_t *put(uint8_t *end, const void *bytes, size_t length)
{
    if (length > 0)
        memcpy(end, bytes, length);
    return end + length;
}

/* Returns the length of the HkdfLabel (RFC 8446 section 7.1) at `info`. */
static size_t info_make(const struct weir__tls_label *label, size_t length, uint8_t info[INFO_MAX])
{
    size_t prefix_length = strlen(LABEL_PREFIX);
    uint8_t *end = info;

    assert(label->length <= WEIR__TLS_LABEL_MAX);
    assert(label->context_length <= WEIR__TLS_HASH_MAX);
    *end++ = 0; /* at most 2 hashes, 96 bytes */
    *end++ = (uint8_t)length;
    *end++ = (uint8_t)(prefix_length + label->length);
    end = put(end, LABEL_PREFIX, prefix_length);
    end = put(end, label->text, label->length);
    *end++ = (uint8_t)label->context_length;
    end = put(end, label->context, label->context_length);
    return (size_t)(end - info);
}

int weir__tls_expand(const struct weir__tls_vendor *vendor, enum weir__tls_hash hash,
                     const uint8_t *secret, const struct weir__tls_label *label, uint8_t *out,
                     size_t length)
{
    size_t hash_bytes = weir__tls_hash_bytes(hash);
    uint8_t block[WEIR__TLS_HASH_MAX];
    uint8_t message[WEIR__TLS_HASH_MAX + INFO_MAX + 1];
    size_t before = 0; /* of the block before, which comes first in the message */
    size_t done = 0;
    int error = 0;

    assert(length <= 2 * hash_bytes);
    for (uint8_t i = 1; done < length; i++) {
        size_t message_length = before + info_make(label, length, message + before);
        message[message_length++] = i;
        error = vendor->hmac(hash, secret, hash_bytes, message, message_length, block);
        if (error)
            break;
        size_t part = length - done < hash_bytes ? length - done : hash_bytes;
        memcpy(out + done, block, part);
        done += part;
        memcpy(message, block, hash_bytes);
        before = hash_bytes;
    }
    weir__tls_wipe(block, sizeof(block));
    weir__tls_wipe(message, sizeof(message));
    return error ? WEIR_EIO : 0;
}

int weir__tls_expand_label(const struct weir__tls_vendor *vendor, enum weir__tls_hash hash,
                           const uint8_t *secret, const char *label, uint8_t *out, size_t length)
{
    const struct weir__tls_label plain = {.text = label, .length = strlen(label)};

    return weir__tls_expand(vendor, hash, secret, &plain, out, length);
}

int weir__tls_secret_derive(const struct weir__tls_vendor *vendor, enum weir__tls_hash hash,
                            struct weir__tls_secret *secret)
{
    struct weir__tls_keys *keys = &secret->keys;

    assert(keys->version == WEIR__TLS_1_3);
    assert(keys->cipher != WEIR__TLS_CIPHER_NONE);
    assert(secret->secret_length == weir__tls_hash_bytes(hash));
    int error = weir__tls_expand_label(vendor, hash, secret->secret, "key", keys->key,
                                       weir__tls_key_bytes(keys->cipher));
    if (!error)
        error =
            weir__tls_expand_label(vendor, hash, secret->secret, "iv", keys->iv, WEIR__TLS_NONCE);
    if (!error)
        keys->sequence = 0;
    return error;
}

int weir__tls_secret_update(const struct weir__tls_vendor *vendor, enum weir__tls_hash hash,
                            struct weir__tls_secret *secret)
{
    uint8_t next[WEIR__TLS_HASH_MAX];
    size_t length = weir__tls_hash_bytes(hash);

    assert(secret->secret_length == length);
    int error = weir__tls_expand_label(vendor, hash, secret->secret, "traffic upd", next, length);
    if (!error) {
        memcpy(secret->secret, next, length);
        error = weir__tls_secret_derive(vendor, hash, secret);
    }
    weir__tls_wipe(next, sizeof(next));
    return error;
}

/* P_hash (RFC 5246 section 5); `seed` has the label before it. */
static int prf_expand(const struct weir__tls_vendor *vendor, enum weir__tls_hash hash,
                      const uint8_t *master, const uint8_t *seed, size_t seed_length, uint8_t *out,
                      size_t length)
{
    size_t hash_bytes = weir__tls_hash_bytes(hash);
    uint8_t block[WEIR__TLS_HASH_MAX];
    uint8_t message[WEIR__TLS_HASH_MAX + 2 * RANDOM_BYTES + LABEL_MAX]; /* A(i), then the seed */

    assert(hash_bytes + seed_length <= sizeof(message));
    memcpy(message + hash_bytes, seed, seed_length);
    int error = vendor->hmac(hash, master, MASTER_BYTES, seed, seed_length, block);
    for (size_t done = 0; !error && done < length; done += hash_bytes) {
        size_t part = length - done < hash_bytes ? length - done : hash_bytes;
        memcpy(message, block, hash_bytes);
        error = vendor->hmac(hash, master, MASTER_BYTES, message, hash_bytes + seed_length, block);
        if (error)
            break;
        memcpy(out + done, block, part);
        error = vendor->hmac(hash, master, MASTER_BYTES, message, hash_bytes, block);
    }
    weir__tls_wipe(block, sizeof(block));
    weir__tls_wipe(message, sizeof(message));
    return error ? WEIR_EIO : 0;
}

int weir__tls_master_derive(const struct weir__tls_vendor *vendor, enum weir__tls_hash hash,
                            const uint8_t *master, const uint8_t *client_random,
                            const uint8_t *server_random, bool server, struct weir__tls_keys *tx,
                            struct weir__tls_keys *rx)
{
    static const char label[] = "key expansion";
    const size_t label_length = sizeof(label) - 1;
    struct weir__tls_keys *sides[2] = {server ? rx : tx, server ? tx : rx}; /* client, server */
    size_t key_bytes = weir__tls_key_bytes(tx->cipher);
    /* RFC 5288 section 3; RFC 7905 section 2. */
    size_t iv_bytes = tx->cipher == WEIR__TLS_CHACHA20_POLY1305 ? WEIR__TLS_NONCE : WEIR__TLS_SALT;
    uint8_t seed[sizeof(label) - 1 + 2 * RANDOM_BYTES];
    uint8_t block[KEY_BLOCK_MAX];

    assert(tx->version == WEIR__TLS_1_2 && rx->version == WEIR__TLS_1_2);
    assert(tx->cipher != WEIR__TLS_CIPHER_NONE && tx->cipher == rx->cipher);
    memcpy(seed, label, label_length);
    memcpy(seed + label_length, server_random, RANDOM_BYTES);
    memcpy(seed + label_length + RANDOM_BYTES, client_random, RANDOM_BYTES);
    int error =
        prf_expand(vendor, hash, master, seed, sizeof(seed), block, 2 * key_bytes + 2 * iv_bytes);
    for (unsigned i = 0; !error && i < 2; i++) {
        memset(sides[i]->iv, 0, sizeof(sides[i]->iv));
        memcpy(sides[i]->key, block + i * key_bytes, key_bytes);
        memcpy(sides[i]->iv, block + 2 * key_bytes + i * iv_bytes, iv_bytes);
        sides[i]->sequence = 1;
    }
    weir__tls_wipe(block, sizeof(block));
    return error;
}
