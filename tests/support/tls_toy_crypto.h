/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TESTS_TLS_TOY_CRYPTO_H
#define WEIR_TESTS_TLS_TOY_CRYPTO_H

/* The toy's stand-ins for cryptography; see tls_toy.h. */

#include "tls/vendor.h"

/* Takes bytes into a running state of 64 bits, and their length. */
uint64_t tls_toy_absorb(uint64_t state, const void *bytes, size_t length);
/* Writes any number of bytes that follow from `state`. */
void tls_toy_squeeze(uint64_t state, uint8_t *out, size_t length);

/* As in struct weir__tls_vendor. */
int tls_toy_hmac(enum weir__tls_hash hash, const uint8_t *key, size_t key_length,
                 const uint8_t *data, size_t length, uint8_t *out);
int tls_toy_aead_new(struct weir__tls_aead **aead, enum weir__tls_cipher cipher, const uint8_t *key,
                     bool seal);
void tls_toy_aead_free(struct weir__tls_aead *aead);
int tls_toy_aead_seal(struct weir__tls_aead *aead, const uint8_t *nonce, const uint8_t *additional,
                      size_t additional_length, const struct iovec *parts, unsigned part_count,
                      uint8_t *out);
int tls_toy_aead_open(struct weir__tls_aead *aead, const uint8_t *nonce, const uint8_t *additional,
                      size_t additional_length, const uint8_t *in, size_t length, uint8_t *out);

#endif
