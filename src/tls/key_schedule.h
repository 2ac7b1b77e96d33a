/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TLS_KEY_SCHEDULE_H
#define WEIR_TLS_KEY_SCHEDULE_H

/* From traffic secrets to keys (RFC 8446 sections 7.1 to 7.3), and from TLS 1.2's master secret. Pure. */

#include "tls/vendor.h"

size_t weir__tls_hash_bytes(enum weir__tls_hash hash);

/* What HKDF-Expand-Label is told (RFC 8446 section 7.1), without "tls13 ". */
struct weir__tls_label {
    const char *text;
    size_t length; /* at most WEIR__TLS_LABEL_MAX */
    const uint8_t *context;
    size_t context_length; /* at most WEIR__TLS_HASH_MAX */
};
#define WEIR__TLS_LABEL_MAX 26 /* 32 with "tls13 "; the longest of TLS has 12 */

/* HKDF-Expand-Label. At most 2 hashes of output. Returns 0 or WEIR_EIO. */
int weir__tls_expand(const struct weir__tls_vendor *vendor, enum weir__tls_hash hash,
                     const uint8_t *secret, const struct weir__tls_label *label, uint8_t *out,
                     size_t length);
/* The same with an empty context, as most have it. */
int weir__tls_expand_label(const struct weir__tls_vendor *vendor, enum weir__tls_hash hash,
                           const uint8_t *secret, const char *label, uint8_t *out, size_t length);

/*
 * TLS 1.3: fills in key, iv and sequence 0 from `secret->secret`; version and cipher are set already.
 * For adapters whose library says the secret. Returns 0 or WEIR_EIO.
 */
int weir__tls_secret_derive(const struct weir__tls_vendor *vendor, enum weir__tls_hash hash,
                            struct weir__tls_secret *secret);

/* TLS 1.3: the next secret and its keys (KeyUpdate, RFC 8446 section 7.2). Returns 0 or WEIR_EIO. */
int weir__tls_secret_update(const struct weir__tls_vendor *vendor, enum weir__tls_hash hash,
                            struct weir__tls_secret *secret);

/*
 * TLS 1.2: both directions' keys from the master secret of 48 bytes and the randoms of 32 bytes
 * (RFC 5246 section 6.3), with sequence 1: the Finished had 0. Version and cipher of `tx` and `rx` are
 * set already. Returns 0 or WEIR_EIO.
 */
int weir__tls_master_derive(const struct weir__tls_vendor *vendor, enum weir__tls_hash hash,
                            const uint8_t *master, const uint8_t *client_random,
                            const uint8_t *server_random, bool server, struct weir__tls_keys *tx,
                            struct weir__tls_keys *rx);

#endif
