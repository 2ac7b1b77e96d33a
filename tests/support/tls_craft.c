/* SPDX-License-Identifier: Apache-2.0 */
#include "support/tls_craft.h"

#include <assert.h>
#include <string.h>

/* On its own, without what record.c has, for that is what it tests. */
size_t tls_craft_record(const struct weir__tls_protector *seal, uint8_t type, const uint8_t *bytes,
                        size_t length, uint8_t *record)
{
    const struct weir__tls_keys *keys = &seal->keys;
    bool is_1_3 = keys->version == WEIR__TLS_1_3;
    bool explicit_nonce = !is_1_3 && keys->cipher != WEIR__TLS_CHACHA20_POLY1305;
    size_t offset = explicit_nonce ? 13 : 5;
    size_t body = offset - 5 + length + 16;
    struct iovec part = {(void *)(uintptr_t)bytes, length};
    uint8_t nonce[12];
    uint8_t additional[13] = {0};

    assert(offset + length + 16 <= WEIR__TLS_RECORD_MAX);
    record[0] = type;
    record[1] = 3;
    record[2] = 3;
    record[3] = (uint8_t)(body >> 8);
    record[4] = (uint8_t)body;
    for (unsigned i = 0; i < 8; i++)
        additional[i] = (uint8_t)(keys->sequence >> (56 - 8 * i));
    memcpy(nonce, keys->iv, 12);
    if (explicit_nonce) {
        memset(record + 5, 0xee, 8);
        memcpy(nonce + 4, record + 5, 8);
    } else {
        for (unsigned i = 0; i < 8; i++)
            nonce[4 + i] ^= additional[i];
    }
    memcpy(additional + 8, record, 3);
    additional[11] = (uint8_t)(length >> 8);
    additional[12] = (uint8_t)length;
    int error = seal->ciphers->aead_seal(seal->aead, nonce, is_1_3 ? record : additional,
                                         is_1_3 ? 5 : 13, &part, length > 0, record + offset);
    assert(!error);
    return 5 + body;
}
