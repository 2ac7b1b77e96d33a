/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor/gnutls_internal.h"

/* Contexts: what many connections share. */

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include <gnutls/crypto.h>

#include <weir/error.h>

#include "core/memory.h"

/* ---- tickets ---- */

/*
 * Tickets are shared by contexts that have the same keys, but a session of one that asks for no client
 * certificate must not open another that requires one, or trusts other people. So the key that GnuTLS
 * gets depends on that. The file's content counts, not its path: a fleet may have it elsewhere.
 */
static int scope_set(struct weir__tls_vendor_context *context,
                     const struct weir__tls_config *config, struct weir__tls_complaint *complaint)
{
    static const uint8_t label[] = "weir trust";
    gnutls_datum_t trust = {NULL, 0};
    uint8_t peer = (uint8_t)context->peer;
    gnutls_hash_hd_t hash;
    int rc = 0;

    if (weir__gnutls_verifies(context) && config->trust_file)
        rc = weir__gnutls_file_read(config->trust_file, &trust, complaint);
    if (rc != 0)
        return rc;
    static_assert(sizeof(context->scope) == 32, "SHA-256");
    if (gnutls_hash_init(&hash, GNUTLS_DIG_SHA256) >= 0) {
        if (gnutls_hash(hash, label, sizeof(label)) < 0 || gnutls_hash(hash, &peer, 1) < 0 ||
            (trust.size > 0 && gnutls_hash(hash, trust.data, trust.size) < 0))
            rc = WEIR_ENOMEM;
        gnutls_hash_deinit(hash, context->scope);
    } else {
        rc = WEIR_ENOMEM;
    }
    gnutls_free(trust.data);
    return rc;
}

/*
 * GnuTLS takes one key, from which it makes those that protect tickets, a new one every now and then by
 * itself. So only the first of `tickets` counts: a ticket from before a change is not known any more,
 * and its client makes a full handshake.
 */
int weir__gnutls_context_set_tickets(struct weir__tls_vendor_context *context,
                                     const struct weir__tls_ticket_keys *tickets)
{
    static_assert(sizeof(context->ticket_key) == 64, "two HMACs");
    uint8_t message[GNUTLS_SCOPE_BYTES + sizeof(tickets->keys[0].name) +
                    sizeof(tickets->keys[0].cipher_key) + 1];
    int rc = 0;

    if (!context->server)
        return WEIR_ENOTSUP;
    weir__tls_wipe(context->ticket_key, sizeof(context->ticket_key));
    context->has_tickets = false;
    if (!tickets || tickets->count == 0)
        return 0;
    const struct weir__tls_ticket_key *key = &tickets->keys[0];
    uint8_t *end = message;
    memcpy(end, context->scope, sizeof(context->scope));
    end += sizeof(context->scope);
    memcpy(end, key->name, sizeof(key->name));
    end += sizeof(key->name);
    memcpy(end, key->cipher_key, sizeof(key->cipher_key));
    for (uint8_t half = 0; rc == 0 && half < 2; half++) {
        message[sizeof(message) - 1] = half;
        rc = weir__gnutls_hmac(WEIR__TLS_SHA256, key->hmac_key, sizeof(key->hmac_key), message,
                               sizeof(message), context->ticket_key + half * 32);
    }
    weir__tls_wipe(message, sizeof(message));
    context->has_tickets = rc == 0;
    return rc == 0 ? 0 : WEIR_ENOMEM;
}

/* ---- what is negotiated ---- */

/*
 * Nothing that is not named here is negotiated: no CBC, no RSA key exchange, no SHA-1. The profile is
 * 112 bits: RSA from 2,048.
 */
static int priorities_set(struct weir__tls_vendor_context *context,
                          const struct weir__tls_config *config,
                          struct weir__tls_complaint *complaint)
{
    char text[640];

    snprintf(text, sizeof(text),
             "NONE%s%s%s%s%s:+AEAD:+ECDHE-ECDSA:+ECDHE-RSA"
             ":+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1"
             ":+SIGN-ECDSA-SECP256R1-SHA256:+SIGN-ECDSA-SHA256:+SIGN-EDDSA-ED25519"
             ":+SIGN-RSA-PSS-RSAE-SHA256:+SIGN-RSA-PSS-SHA256:+SIGN-RSA-SHA256"
             ":+SIGN-ECDSA-SECP384R1-SHA384:+SIGN-ECDSA-SHA384"
             ":+SIGN-RSA-PSS-RSAE-SHA384:+SIGN-RSA-PSS-SHA384:+SIGN-RSA-SHA384"
             ":+SIGN-ECDSA-SECP521R1-SHA512:+SIGN-ECDSA-SHA512"
             ":+SIGN-RSA-PSS-RSAE-SHA512:+SIGN-RSA-PSS-SHA512:+SIGN-RSA-SHA512"
             ":+COMP-NULL:+CTYPE-X509:%%SERVER_PRECEDENCE:%%PROFILE_MEDIUM",
             config->version_max >= WEIR__TLS_1_3 ? ":+VERS-TLS1.3" : "",
             config->version_min <= WEIR__TLS_1_2 ? ":+VERS-TLS1.2" : "",
             weir__tls_allows(config, WEIR__TLS_AES_128_GCM) ? ":+AES-128-GCM" : "",
             weir__tls_allows(config, WEIR__TLS_AES_256_GCM) ? ":+AES-256-GCM" : "",
             weir__tls_allows(config, WEIR__TLS_CHACHA20_POLY1305) ? ":+CHACHA20-POLY1305" : "");
    int rc = gnutls_priority_init(&context->priorities, text, NULL);
    if (rc < 0) {
        weir__tls_complain(complaint, "GnuTLS does not have what is asked for: %s",
                           gnutls_strerror(rc));
        return rc == GNUTLS_E_MEMORY_ERROR ? WEIR_ENOMEM : WEIR_ENOTSUP;
    }
    return 0;
}

static int alpn_set(struct weir__tls_vendor_context *context, const struct weir__tls_config *config,
                    struct weir__tls_complaint *complaint)
{
    size_t length = weir__tls_alpn_wire(config, context->alpn);

    if (config->alpn_count > GNUTLS_ALPN_MAX) {
        weir__tls_complain(complaint, "GnuTLS takes at most %d ALPN names", GNUTLS_ALPN_MAX);
        return WEIR_ENOTSUP;
    }
    for (size_t at = 0; at < length; at += 1 + (size_t)context->alpn[at]) {
        gnutls_datum_t *name = &context->alpn_names[context->alpn_count++];
        name->data = context->alpn + at + 1;
        name->size = context->alpn[at];
        if (name->size > GNUTLS_ALPN_BYTES_MAX) {
            weir__tls_complain(complaint, "GnuTLS takes ALPN names of at most %d bytes",
                               GNUTLS_ALPN_BYTES_MAX);
            return WEIR_ENOTSUP;
        }
    }
    return 0;
}

static int trust_set(struct weir__tls_vendor_context *context,
                     const struct weir__tls_config *config, struct weir__tls_complaint *complaint)
{
    const char *path = config->trust_file;
    gnutls_datum_t pem = {NULL, 0};

    if (!weir__gnutls_verifies(context))
        return 0;
    if (!path) {
        int count = gnutls_certificate_set_x509_system_trust(context->credentials);
        return count == GNUTLS_E_MEMORY_ERROR ? WEIR_ENOMEM : 0;
    }
    int rc = weir__gnutls_file_read(path, &pem, complaint);
    if (rc != 0)
        return rc;
    int count =
        gnutls_certificate_set_x509_trust_mem(context->credentials, &pem, GNUTLS_X509_FMT_PEM);
    gnutls_free(pem.data);
    if (count <= 0) {
        weir__tls_complain(complaint, "%s holds no certificates to trust", path);
        return count == GNUTLS_E_MEMORY_ERROR ? WEIR_ENOMEM : WEIR_EINVAL;
    }
    return 0;
}

static int context_set(struct weir__tls_vendor_context *context,
                       const struct weir__tls_config *config, struct weir__tls_complaint *complaint)
{
    int rc = gnutls_certificate_allocate_credentials(&context->credentials) < 0 ? WEIR_ENOMEM : 0;

    if (rc == 0)
        rc = priorities_set(context, config, complaint);
    if (rc == 0)
        rc = alpn_set(context, config, complaint);
    if (rc == 0)
        rc = weir__gnutls_certificates_read(context, config, complaint);
    if (rc == 0)
        rc = trust_set(context, config, complaint);
    if (rc != 0 || !context->server)
        goto out;
    rc = scope_set(context, config, complaint);
    if (rc == 0)
        rc = weir__gnutls_context_set_tickets(context, config->tickets);
out:
    if (rc == 0)
        gnutls_certificate_set_retrieve_function3(context->credentials,
                                                  weir__gnutls_certificate_choose);
    return rc;
}

int weir__gnutls_context_new(struct weir__tls_vendor_context **context_out,
                             const struct weir__tls_config *config,
                             struct weir__tls_complaint *complaint)
{
    int rc = weir__tls_config_check(config, complaint);

    if (rc != 0)
        return rc;
    weir__tls_complain(complaint, "out of memory");
    struct weir__tls_vendor_context *context = weir__allocate_zeroed(1, sizeof(*context));
    if (!context)
        return WEIR_ENOMEM;
    context->server = config->server;
    context->peer = config->peer;
    context->key_log = config->key_log;
    context->key_log_context = config->key_log_context;
    rc = context_set(context, config, complaint);
    if (rc != 0) {
        weir__gnutls_context_free(context);
        return rc;
    }
    complaint->text[0] = '\0';
    *context_out = context;
    return 0;
}

void weir__gnutls_context_free(struct weir__tls_vendor_context *context)
{
    if (!context)
        return;
    if (context->credentials)
        gnutls_certificate_free_credentials(context->credentials);
    if (context->priorities)
        gnutls_priority_deinit(context->priorities);
    weir__gnutls_certificates_free(context);
    weir__tls_wipe(context->ticket_key, sizeof(context->ticket_key));
    weir__release(context);
}
