/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TLS_VENDOR_OPENSSL_INTERNAL_H
#define WEIR_TLS_VENDOR_OPENSSL_INTERNAL_H

/* Private to the files of the OpenSSL adapter. OpenSSL 3.0 or newer. */

#include <openssl/bio.h>
#include <openssl/core.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>

#include "tls/vendor/shared.h"

#define WEIR__OPENSSL_PROVIDER "weir"
/* Of what that provider has; and the query that prefers it (property(7)). */
#define WEIR__OPENSSL_DEFINITION "provider=" WEIR__OPENSSL_PROVIDER ",x.weir=yes"
#define WEIR__OPENSSL_QUERY      "?x.weir=yes"

/* What is made once per process: fetching anew costs microseconds, each time. */
struct weir__openssl {
    /* Of our own, so that no other user of OpenSSL in the process gets what our provider has. */
    OSSL_LIB_CTX *context;
    bool has_kdf;         /* libssl uses ours: openssl_kdf.c */
    EVP_CIPHER *aeads[4]; /* by enum weir__tls_cipher; NULL: there is none */
    EVP_CIPHER *ticket_cipher;
    EVP_MD *hashes[2]; /* by enum weir__tls_hash */
    uint8_t hash_of_nothing[2][WEIR__TLS_HASH_MAX];
    BIO_METHOD *transport;
    int handshake_index; /* of a handshake in its SSL's ex_data */
    int context_index;   /* of a context in its SSL_CTX's */
};

/* NULL: something basic cannot be had. Any thread. */
const struct weir__openssl *weir__openssl(void);

/* A certificate with its key, as it was read. */
struct openssl_certificate {
    X509 *leaf;
    EVP_PKEY *key;
    STACK_OF(X509) * chain; /* above the leaf; NULL = none */
};

struct weir__tls_vendor_context {
    SSL_CTX *ssl_context;
    bool server, verifies;
    struct openssl_certificate *certificates;
    unsigned certificate_count;
    uint8_t alpn[WEIR__TLS_ALPN_WIRE_MAX];
    size_t alpn_length;
    struct weir__tls_ticket_keys tickets;
    void (*key_log)(void *key_log_context, const char *line);
    void *key_log_context;
};

int weir__openssl_context_new(struct weir__tls_vendor_context **context,
                              const struct weir__tls_config *config,
                              struct weir__tls_complaint *complaint);
void weir__openssl_context_free(struct weir__tls_vendor_context *context);
int weir__openssl_context_set_tickets(struct weir__tls_vendor_context *context,
                                      const struct weir__tls_ticket_keys *tickets);

/* The certificates' files. Returns 0, WEIR_EACCESS, WEIR_EINVAL or WEIR_ENOMEM. */
int weir__openssl_certificates_read(struct weir__tls_vendor_context *context,
                                    const struct weir__tls_config *config,
                                    struct weir__tls_complaint *complaint);
void weir__openssl_certificates_free(struct weir__tls_vendor_context *context);
/* For SSL_CTX_set_cert_cb, with the context as argument: chooses by the client's SNI. */
int weir__openssl_certificates_choose(SSL *ssl, void *context);

/* For SSL_CTX_set_tlsext_ticket_key_evp_cb. */
int weir__openssl_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv,
                             EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt);

/* For OSSL_PROVIDER_add_builtin. */
int weir__openssl_provider_init(const OSSL_CORE_HANDLE *core, const OSSL_DISPATCH *offered,
                                const OSSL_DISPATCH **functions, void **provider);
/* The provider has made a traffic secret, for the handshake that this thread is at. */
void weir__openssl_secret_made(bool server, const uint8_t *secret, size_t length);

/* For SSL_CTX_set_keylog_callback. */
void weir__openssl_key_log(const SSL *ssl, const char *line);
/* The functions of the transport, which hands records to OpenSSL and takes bytes from it. */
BIO_METHOD *weir__openssl_transport_new(void);
int weir__openssl_handshake_new(struct weir__tls_handshake **handshake,
                                struct weir__tls_vendor_context *context,
                                const struct weir__tls_handshake_options *options);
void weir__openssl_handshake_free(struct weir__tls_handshake *handshake);
int weir__openssl_advance(struct weir__tls_handshake *handshake, const uint8_t *record,
                          size_t length);
int weir__openssl_result(struct weir__tls_handshake *handshake, struct weir__tls_result *result);
const char *weir__openssl_failure(struct weir__tls_handshake *handshake);
int weir__openssl_post_record(struct weir__tls_handshake *handshake, const uint8_t *record,
                              size_t length);
int weir__openssl_session_save(struct weir__tls_handshake *handshake, uint8_t *data, size_t size);

int weir__openssl_aead_new(struct weir__tls_aead **aead, enum weir__tls_cipher cipher,
                           const uint8_t *key, bool seal);
void weir__openssl_aead_free(struct weir__tls_aead *aead);
int weir__openssl_aead_seal(struct weir__tls_aead *aead, const uint8_t *nonce,
                            const uint8_t *additional, size_t additional_length,
                            const struct iovec *parts, unsigned part_count, uint8_t *out);
int weir__openssl_aead_open(struct weir__tls_aead *aead, const uint8_t *nonce,
                            const uint8_t *additional, size_t additional_length, const uint8_t *in,
                            size_t length, uint8_t *out);
int weir__openssl_hmac(enum weir__tls_hash hash, const uint8_t *key, size_t key_length,
                       const uint8_t *data, size_t length, uint8_t *out);

int weir__openssl_self_signed(const char *const *names, unsigned name_count, unsigned days,
                              char *certificate, size_t certificate_size, char *key,
                              size_t key_size);

extern const struct weir__tls_vendor weir__tls_openssl;

#endif
