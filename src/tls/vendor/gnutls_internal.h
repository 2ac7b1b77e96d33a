/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TLS_VENDOR_GNUTLS_INTERNAL_H
#define WEIR_TLS_VENDOR_GNUTLS_INTERNAL_H

/* Private to the files of the GnuTLS adapter. GnuTLS 3.7.4 or newer. */

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include "tls/vendor/shared.h"

/* GnuTLS's own limits, both below Weir's. */
#define GNUTLS_ALPN_MAX       8
#define GNUTLS_ALPN_BYTES_MAX 31

#define GNUTLS_CHAIN_MAX 10 /* certificates in a file */

/* What gnutls_session_ticket_enable_server takes. */
#define GNUTLS_TICKET_KEY_BYTES 64
#define GNUTLS_SCOPE_BYTES      32

/* A certificate with its key, as it was read. */
struct gnutls_certificate {
    gnutls_pcert_st chain[GNUTLS_CHAIN_MAX]; /* the leaf first */
    unsigned chain_length;
    gnutls_x509_crt_t leaf; /* servers: for its names */
    gnutls_privkey_t key;
};

struct weir__tls_vendor_context {
    bool server;
    enum weir__tls_peer_certificate peer;
    gnutls_priority_t priorities;
    gnutls_certificate_credentials_t credentials;
    struct gnutls_certificate *certificates;
    unsigned certificate_count;
    uint8_t alpn[WEIR__TLS_ALPN_WIRE_MAX];
    gnutls_datum_t alpn_names[GNUTLS_ALPN_MAX]; /* in `alpn` */
    unsigned alpn_count;
    bool has_tickets;
    uint8_t ticket_key[GNUTLS_TICKET_KEY_BYTES];
    uint8_t scope[GNUTLS_SCOPE_BYTES];
    void (*key_log)(void *key_log_context, const char *line);
    void *key_log_context;
};

/* Whether the peer's certificate is looked at. */
static inline bool weir__gnutls_verifies(const struct weir__tls_vendor_context *context)
{
    return context->peer == WEIR__TLS_PEER_REQUIRED ||
           (context->server && context->peer == WEIR__TLS_PEER_OPTIONAL);
}

int weir__gnutls_context_new(struct weir__tls_vendor_context **context,
                             const struct weir__tls_config *config,
                             struct weir__tls_complaint *complaint);
void weir__gnutls_context_free(struct weir__tls_vendor_context *context);
int weir__gnutls_context_set_tickets(struct weir__tls_vendor_context *context,
                                     const struct weir__tls_ticket_keys *tickets);

/* The certificates' files. Returns 0, WEIR_EACCESS, WEIR_EINVAL or WEIR_ENOMEM. */
int weir__gnutls_certificates_read(struct weir__tls_vendor_context *context,
                                   const struct weir__tls_config *config,
                                   struct weir__tls_complaint *complaint);
void weir__gnutls_certificates_free(struct weir__tls_vendor_context *context);
/* Reads a file that cannot be but read whole. Returns 0, WEIR_EACCESS or WEIR_ENOMEM. */
int weir__gnutls_file_read(const char *path, gnutls_datum_t *data,
                           struct weir__tls_complaint *complaint);
/* For gnutls_certificate_set_retrieve_function3. */
int weir__gnutls_certificate_choose(gnutls_session_t session,
                                    const struct gnutls_cert_retr_st *request,
                                    gnutls_pcert_st **chain, unsigned *chain_length,
                                    gnutls_ocsp_data_st **ocsp, unsigned *ocsp_length,
                                    gnutls_privkey_t *key, unsigned *flags);

const struct weir__tls_vendor_context *weir__gnutls_context_of(gnutls_session_t session);
int weir__gnutls_handshake_new(struct weir__tls_handshake **handshake,
                               struct weir__tls_vendor_context *context,
                               const struct weir__tls_handshake_options *options);
void weir__gnutls_handshake_free(struct weir__tls_handshake *handshake);
int weir__gnutls_advance(struct weir__tls_handshake *handshake, const uint8_t *record,
                         size_t length);
int weir__gnutls_result(struct weir__tls_handshake *handshake, struct weir__tls_result *result);
const char *weir__gnutls_failure(struct weir__tls_handshake *handshake);
int weir__gnutls_post_record(struct weir__tls_handshake *handshake, const uint8_t *record,
                             size_t length);
int weir__gnutls_session_save(struct weir__tls_handshake *handshake, uint8_t *data, size_t size);

int weir__gnutls_aead_new(struct weir__tls_aead **aead, enum weir__tls_cipher cipher,
                          const uint8_t *key, bool seal);
void weir__gnutls_aead_free(struct weir__tls_aead *aead);
int weir__gnutls_aead_seal(struct weir__tls_aead *aead, const uint8_t *nonce,
                           const uint8_t *additional, size_t additional_length,
                           const struct iovec *parts, unsigned part_count, uint8_t *out);
int weir__gnutls_aead_open(struct weir__tls_aead *aead, const uint8_t *nonce,
                           const uint8_t *additional, size_t additional_length, const uint8_t *in,
                           size_t length, uint8_t *out);
int weir__gnutls_hmac(enum weir__tls_hash hash, const uint8_t *key, size_t key_length,
                      const uint8_t *data, size_t length, uint8_t *out);

int weir__gnutls_self_signed(const char *const *names, unsigned name_count, unsigned days,
                             char *certificate, size_t certificate_size, char *key,
                             size_t key_size);

extern const struct weir__tls_vendor weir__tls_gnutls;

#endif
