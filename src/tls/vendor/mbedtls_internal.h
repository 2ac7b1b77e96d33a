/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TLS_VENDOR_MBEDTLS_INTERNAL_H
#define WEIR_TLS_VENDOR_MBEDTLS_INTERNAL_H

/* Private to the files of the Mbed TLS adapter. Mbed TLS 2.28, which has TLS 1.2 only. */

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/x509_crt.h>

#include "tls/vendor/shared.h"

#if !defined(MBEDTLS_SSL_EXPORT_KEYS) || !defined(MBEDTLS_SSL_SESSION_TICKETS) ||                  \
    !defined(MBEDTLS_SSL_ALPN) || !defined(MBEDTLS_SSL_SERVER_NAME_INDICATION) ||                  \
    !defined(MBEDTLS_GCM_C) || !defined(MBEDTLS_CHACHAPOLY_C) ||                                   \
    !defined(MBEDTLS_X509_CRT_WRITE_C) || !defined(MBEDTLS_THREADING_C)
#error "this Mbed TLS is built without what Weir needs; its own default and threading will do"
#endif

#define MBEDTLS_SUITES_MAX  16
#define MBEDTLS_SCOPE_BYTES 32

/* A certificate with its key, as it was read. */
struct mbedtls_certificate {
    mbedtls_x509_crt chain; /* the leaf first */
    mbedtls_pk_context key;
};

/*
 * What a handshake is to do is in its mbedtls_ssl_config, and cannot be changed any more when the
 * ClientHello is known. So there is one for each case.
 */
enum {
    MBEDTLS_WITH_ALPN = 1 << 0,
    MBEDTLS_WITH_TICKETS = 1 << 1,
    MBEDTLS_CONFIGURATIONS = 1 << 2,
};

struct weir__tls_vendor_context {
    bool server;
    enum weir__tls_peer_certificate peer;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    mbedtls_ssl_config configurations[MBEDTLS_CONFIGURATIONS]; /* clients: WITH_ALPN alone */
    int suites[MBEDTLS_SUITES_MAX];                            /* ended by 0 */
    struct mbedtls_certificate *certificates;
    unsigned certificate_count;
    mbedtls_x509_crt trust;
    uint8_t alpn_wire[WEIR__TLS_ALPN_WIRE_MAX];
    size_t alpn_wire_length;
    char alpn_texts[WEIR__TLS_ALPN_MAX][WEIR__TLS_ALPN_BYTES_MAX + 1];
    const char *alpn[WEIR__TLS_ALPN_MAX + 1]; /* in `alpn_texts`, ended by NULL */
    struct weir__tls_ticket_keys tickets;
    uint8_t scope[MBEDTLS_SCOPE_BYTES];
    void (*key_log)(void *key_log_context, const char *line);
    void *key_log_context;
};

/* Whether the peer's certificate is looked at. */
static inline bool weir__mbedtls_verifies(const struct weir__tls_vendor_context *context)
{
    return context->peer == WEIR__TLS_PEER_REQUIRED ||
           (context->server && context->peer == WEIR__TLS_PEER_OPTIONAL);
}

int weir__mbedtls_context_new(struct weir__tls_vendor_context **context,
                              const struct weir__tls_config *config,
                              struct weir__tls_complaint *complaint);
void weir__mbedtls_context_free(struct weir__tls_vendor_context *context);
int weir__mbedtls_context_set_tickets(struct weir__tls_vendor_context *context,
                                      const struct weir__tls_ticket_keys *tickets);

/* The certificates' files. Returns 0, WEIR_EACCESS, WEIR_EINVAL or WEIR_ENOMEM. */
int weir__mbedtls_certificates_read(struct weir__tls_vendor_context *context,
                                    const struct weir__tls_config *config,
                                    struct weir__tls_complaint *complaint);
void weir__mbedtls_certificates_free(struct weir__tls_vendor_context *context);
/* Those that may be shown to who asks for this name (`length` bytes; NULL = for none). */
int weir__mbedtls_certificates_offer(
    const struct weir__tls_vendor_context *context, const char *name, size_t length,
    int (*offer)(void *to, mbedtls_x509_crt *chain, mbedtls_pk_context *key), void *to);
/* Whether the address is among the certificate's names: Mbed TLS 2.28 does not look at those. */
bool weir__mbedtls_has_address(const mbedtls_x509_crt *leaf, const char *address);

/* For mbedtls_ssl_conf_session_tickets_cb, with the context as argument. */
int weir__mbedtls_ticket_write(void *context, const mbedtls_ssl_session *session,
                               unsigned char *start, const unsigned char *end, size_t *length,
                               uint32_t *lifetime_s);
int weir__mbedtls_ticket_parse(void *context, mbedtls_ssl_session *session, unsigned char *ticket,
                               size_t length);

/* For mbedtls_ssl_conf_export_keys_ext_cb: of the handshake that this thread is in. */
int weir__mbedtls_export_keys(void *unused, const unsigned char *master,
                              const unsigned char *key_block, size_t mac_length, size_t key_length,
                              size_t iv_length, const unsigned char client_random[32],
                              const unsigned char server_random[32], mbedtls_tls_prf_types prf);
/* For mbedtls_ssl_conf_sni, the same. */
int weir__mbedtls_on_server_name(void *context, mbedtls_ssl_context *ssl, const unsigned char *name,
                                 size_t length);
int weir__mbedtls_handshake_new(struct weir__tls_handshake **handshake,
                                struct weir__tls_vendor_context *context,
                                const struct weir__tls_handshake_options *options);
void weir__mbedtls_handshake_free(struct weir__tls_handshake *handshake);
int weir__mbedtls_advance(struct weir__tls_handshake *handshake, const uint8_t *record,
                          size_t length);
int weir__mbedtls_result(struct weir__tls_handshake *handshake, struct weir__tls_result *result);
const char *weir__mbedtls_failure(struct weir__tls_handshake *handshake);
int weir__mbedtls_post_record(struct weir__tls_handshake *handshake, const uint8_t *record,
                              size_t length);
int weir__mbedtls_session_save(struct weir__tls_handshake *handshake, uint8_t *data, size_t size);

int weir__mbedtls_aead_new(struct weir__tls_aead **aead, enum weir__tls_cipher cipher,
                           const uint8_t *key, bool seal);
void weir__mbedtls_aead_free(struct weir__tls_aead *aead);
int weir__mbedtls_aead_seal(struct weir__tls_aead *aead, const uint8_t *nonce,
                            const uint8_t *additional, size_t additional_length,
                            const struct iovec *parts, unsigned part_count, uint8_t *out);
int weir__mbedtls_aead_open(struct weir__tls_aead *aead, const uint8_t *nonce,
                            const uint8_t *additional, size_t additional_length, const uint8_t *in,
                            size_t length, uint8_t *out);
int weir__mbedtls_hmac(enum weir__tls_hash hash, const uint8_t *key, size_t key_length,
                       const uint8_t *data, size_t length, uint8_t *out);

int weir__mbedtls_self_signed(const char *const *names, unsigned name_count, unsigned days,
                              char *certificate, size_t certificate_size, char *key,
                              size_t key_size);

extern const struct weir__tls_vendor weir__tls_mbedtls;

#endif
