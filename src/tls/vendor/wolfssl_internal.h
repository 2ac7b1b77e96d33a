/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TLS_VENDOR_WOLFSSL_INTERNAL_H
#define WEIR_TLS_VENDOR_WOLFSSL_INTERNAL_H

/* Private to the files of the wolfSSL adapter. wolfSSL 5.5 or newer, built as Debian builds it. */

/* The library's own configuration comes before its headers, which are not clean of warnings. */
#include <wolfssl/options.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#include <wolfssl/openssl/evp.h>
#include <wolfssl/openssl/pem.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/aes.h>
#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/chacha20_poly1305.h>
#include <wolfssl/wolfcrypt/ecc.h>
#include <wolfssl/wolfcrypt/hmac.h>
#include <wolfssl/wolfcrypt/kdf.h>
#include <wolfssl/wolfcrypt/random.h>
#pragma GCC diagnostic pop

#include "tls/vendor/shared.h"

/* Starts the library, once, and on each thread that is to use curves. */
bool weir__wolfssl_is_usable(void);

/*
 * A certificate has a WOLFSSL_CTX of its own: wolfSSL holds one in each. So of several for one name, with
 * keys of different types, the first is shown to every client.
 */
struct wolfssl_identity {
    WOLFSSL_CTX *ssl_context;
    WOLFSSL_X509 *leaf; /* to compare names with; NULL: clients without a certificate */
};

struct weir__tls_vendor_context {
    struct wolfssl_identity *identities; /* at least one */
    unsigned identity_count;
    bool server, verifies;
    uint16_t version_max;
    char alpn_text[WEIR__TLS_ALPN_WIRE_MAX + 1]; /* clients: separated by commas */
    uint8_t alpn[WEIR__TLS_ALPN_WIRE_MAX];
    size_t alpn_length;
    struct weir__tls_ticket_keys tickets;
    WC_RNG random; /* for tickets */
    bool random_is_there;
    void (*key_log)(void *key_log_context, const char *line);
    void *key_log_context;
};

int weir__wolfssl_context_new(struct weir__tls_vendor_context **context,
                              const struct weir__tls_config *config,
                              struct weir__tls_complaint *complaint);
void weir__wolfssl_context_free(struct weir__tls_vendor_context *context);
int weir__wolfssl_context_set_tickets(struct weir__tls_vendor_context *context,
                                      const struct weir__tls_ticket_keys *tickets);

/* Callbacks of a WOLFSSL_CTX that concern handshakes. */
int weir__wolfssl_receive(WOLFSSL *ssl, char *room, int size, void *handshake);
int weir__wolfssl_send(WOLFSSL *ssl, char *bytes, int length, void *handshake);
int weir__wolfssl_expand_label(byte *out, word32 out_length, const byte *secret,
                               word32 secret_length, const byte *protocol, word32 protocol_length,
                               const byte *label, word32 label_length, const byte *info,
                               word32 info_length, int digest, int side);

int weir__wolfssl_handshake_new(struct weir__tls_handshake **handshake,
                                struct weir__tls_vendor_context *context,
                                const struct weir__tls_handshake_options *options);
void weir__wolfssl_handshake_free(struct weir__tls_handshake *handshake);
int weir__wolfssl_advance(struct weir__tls_handshake *handshake, const uint8_t *record,
                          size_t length);
int weir__wolfssl_result(struct weir__tls_handshake *handshake, struct weir__tls_result *result);
const char *weir__wolfssl_failure(struct weir__tls_handshake *handshake);
int weir__wolfssl_post_record(struct weir__tls_handshake *handshake, const uint8_t *record,
                              size_t length);
int weir__wolfssl_session_save(struct weir__tls_handshake *handshake, uint8_t *data, size_t size);

int weir__wolfssl_aead_new(struct weir__tls_aead **aead, enum weir__tls_cipher cipher,
                           const uint8_t *key, bool seal);
void weir__wolfssl_aead_free(struct weir__tls_aead *aead);
int weir__wolfssl_aead_seal(struct weir__tls_aead *aead, const uint8_t *nonce,
                            const uint8_t *additional, size_t additional_length,
                            const struct iovec *parts, unsigned part_count, uint8_t *out);
int weir__wolfssl_aead_open(struct weir__tls_aead *aead, const uint8_t *nonce,
                            const uint8_t *additional, size_t additional_length, const uint8_t *in,
                            size_t length, uint8_t *out);
int weir__wolfssl_hmac(enum weir__tls_hash hash, const uint8_t *key, size_t key_length,
                       const uint8_t *data, size_t length, uint8_t *out);

int weir__wolfssl_self_signed(const char *const *names, unsigned name_count, unsigned days,
                              char *certificate, size_t certificate_size, char *key,
                              size_t key_size);

extern const struct weir__tls_vendor weir__tls_wolfssl;

#endif
