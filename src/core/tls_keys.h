/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_CORE_TLS_KEYS_H
#define WEIR_CORE_TLS_KEYS_H

/*
 * What it takes to protect records in one direction of a TLS connection, wherever that is done: by Weir
 * with a library's AEAD, or by the kernel. Values, no code.
 */

#include <stddef.h>
#include <stdint.h>

#define WEIR__TLS_1_2 0x0303u
#define WEIR__TLS_1_3 0x0304u

/* The AEADs that Weir's record layer knows; each vendor and the kernel may know fewer. */
enum weir__tls_cipher {
    WEIR__TLS_CIPHER_NONE,
    WEIR__TLS_AES_128_GCM,
    WEIR__TLS_AES_256_GCM,
    WEIR__TLS_CHACHA20_POLY1305,
};

/* Content types of records (RFC 8446 section 5.1). */
enum weir__tls_content {
    WEIR__TLS_CHANGE_CIPHER_SPEC = 20,
    WEIR__TLS_ALERT = 21,
    WEIR__TLS_HANDSHAKE = 22,
    WEIR__TLS_APPLICATION_DATA = 23,
};

#define WEIR__TLS_KEY_MAX 32
#define WEIR__TLS_NONCE   12
#define WEIR__TLS_TAG     16
/* What TLS 1.2 with AES-GCM sends of the nonce in each record, and keeps of it (RFC 5288 section 3). */
#define WEIR__TLS_EXPLICIT_NONCE 8
#define WEIR__TLS_SALT           4

enum weir__tls_direction {
    WEIR__TLS_TX,
    WEIR__TLS_RX,
};

/* Secret: clear it with weir__tls_wipe when it is not needed any more. */
struct weir__tls_keys {
    uint16_t version; /* WEIR__TLS_1_2 or _1_3 */
    enum weir__tls_cipher cipher;
    uint8_t key[WEIR__TLS_KEY_MAX]; /* 16 or 32 bytes, by the cipher */
    /* The whole nonce mask; for TLS 1.2 with AES-GCM the salt alone, in the first 4 bytes. */
    uint8_t iv[WEIR__TLS_NONCE];
    uint64_t sequence; /* of the next record */
};

static inline size_t weir__tls_key_bytes(enum weir__tls_cipher cipher)
{
    return cipher == WEIR__TLS_AES_128_GCM ? 16 : 32;
}

#endif
