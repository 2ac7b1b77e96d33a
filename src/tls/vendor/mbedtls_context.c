/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor/mbedtls_internal.h"

/* Contexts: what many connections share. And tickets, whose keys are a context's. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <mbedtls/md.h>

#include <weir/error.h>

#include "core/memory.h"

/* ---- tickets: name, salt, the session encrypted, tag ---- */

#define NAME_BYTES sizeof(((struct weir__tls_ticket_key *)0)->name)
#define SALT_BYTES 32
/* How long a ticket is good for. */
#define TICKET_LIFETIME_S 86400

/*
 * Each ticket has a key of its own, by its salt; so the nonce can stay zero, however many there are. And
 * it depends on the scope: tickets are shared by contexts that have the same keys, but a session of one
 * that asks for no client certificate must not open another that requires one, or trusts other people.
 */
static struct weir__tls_aead *ticket_aead(const struct weir__tls_vendor_context *context,
                                          const struct weir__tls_ticket_key *key,
                                          const uint8_t *salt, bool seal)
{
    uint8_t message[sizeof(key->cipher_key) + MBEDTLS_SCOPE_BYTES + SALT_BYTES];
    uint8_t derived[WEIR__TLS_HASH_MAX];
    struct weir__tls_aead *aead = NULL;

    memcpy(message, key->cipher_key, sizeof(key->cipher_key));
    memcpy(message + sizeof(key->cipher_key), context->scope, MBEDTLS_SCOPE_BYTES);
    memcpy(message + sizeof(key->cipher_key) + MBEDTLS_SCOPE_BYTES, salt, SALT_BYTES);
    if (weir__mbedtls_hmac(WEIR__TLS_SHA256, key->hmac_key, sizeof(key->hmac_key), message,
                           sizeof(message), derived) != 0 ||
        weir__mbedtls_aead_new(&aead, WEIR__TLS_AES_256_GCM, derived, seal) != 0)
        aead = NULL;
    weir__tls_wipe(message, sizeof(message));
    weir__tls_wipe(derived, sizeof(derived));
    return aead;
}

/* When it fails, Mbed TLS sends an empty ticket: none (RFC 5077 section 3.3). */
int weir__mbedtls_ticket_write(void *argument, const mbedtls_ssl_session *session,
                               unsigned char *start, const unsigned char *end, size_t *length,
                               uint32_t *lifetime_s)
{
    static const uint8_t nonce[WEIR__TLS_NONCE];
    struct weir__tls_vendor_context *context = argument;
    size_t room = (size_t)(end - start), body_length;

    *length = 0;
    *lifetime_s = 0;
    if (context->tickets.count == 0 || room < NAME_BYTES + SALT_BYTES + WEIR__TLS_TAG)
        return MBEDTLS_ERR_SSL_BUFFER_TOO_SMALL;
    const struct weir__tls_ticket_key *key = &context->tickets.keys[0];
    uint8_t *salt = start + NAME_BYTES, *body = salt + SALT_BYTES;
    memcpy(start, key->name, NAME_BYTES);
    int rc = mbedtls_ctr_drbg_random(&context->random, salt, SALT_BYTES);
    if (rc == 0)
        rc = mbedtls_ssl_session_save(session, body, room - NAME_BYTES - SALT_BYTES - WEIR__TLS_TAG,
                                      &body_length);
    if (rc != 0)
        return rc;
    struct weir__tls_aead *aead = ticket_aead(context, key, salt, true);
    struct iovec part = {body, body_length};
    if (!aead || body_length > UINT16_MAX - NAME_BYTES - SALT_BYTES - WEIR__TLS_TAG ||
        weir__mbedtls_aead_seal(aead, nonce, start, NAME_BYTES + SALT_BYTES, &part, 1, body) != 0) {
        rc = MBEDTLS_ERR_SSL_ALLOC_FAILED;
    } else {
        *length = NAME_BYTES + SALT_BYTES + body_length + WEIR__TLS_TAG;
        *lifetime_s = TICKET_LIFETIME_S;
    }
    weir__mbedtls_aead_free(aead);
    return rc;
}

static int session_read(const struct weir__tls_vendor_context *context,
                        mbedtls_ssl_session *session, const uint8_t *data, size_t length)
{
    int rc = mbedtls_ssl_session_load(session, data, length);
    time_t now = time(NULL);
    bool allowed = false;

    if (rc != 0)
        return rc;
    if (now < session->start || now - session->start > TICKET_LIFETIME_S)
        return MBEDTLS_ERR_SSL_SESSION_TICKET_EXPIRED;
    for (unsigned i = 0; context->suites[i] != 0; i++)
        allowed = allowed || context->suites[i] == session->ciphersuite;
    return allowed ? 0 : MBEDTLS_ERR_SSL_SESSION_TICKET_EXPIRED;
}

int weir__mbedtls_ticket_parse(void *argument, mbedtls_ssl_session *session, unsigned char *ticket,
                               size_t length)
{
    static const uint8_t nonce[WEIR__TLS_NONCE];
    const struct weir__tls_vendor_context *context = argument;
    const struct weir__tls_ticket_key *key = NULL;

    if (length < NAME_BYTES + SALT_BYTES + WEIR__TLS_TAG)
        return MBEDTLS_ERR_SSL_INVALID_MAC;
    for (unsigned i = 0; !key && i < context->tickets.count; i++) {
        if (memcmp(context->tickets.keys[i].name, ticket, NAME_BYTES) == 0)
            key = &context->tickets.keys[i];
    }
    if (!key)
        return MBEDTLS_ERR_SSL_SESSION_TICKET_EXPIRED;
    struct weir__tls_aead *aead = ticket_aead(context, key, ticket + NAME_BYTES, false);
    if (!aead)
        return MBEDTLS_ERR_SSL_ALLOC_FAILED;
    uint8_t *body = ticket + NAME_BYTES + SALT_BYTES;
    size_t body_length = length - NAME_BYTES - SALT_BYTES;
    int rc = weir__mbedtls_aead_open(aead, nonce, ticket, NAME_BYTES + SALT_BYTES, body,
                                     body_length, body);
    weir__mbedtls_aead_free(aead);
    if (rc != 0)
        return MBEDTLS_ERR_SSL_INVALID_MAC;
    /* Mbed TLS gives us its own buffer to change; the session does not stay in it. */
    rc = session_read(context, session, body, body_length - WEIR__TLS_TAG);
    weir__tls_wipe(body, body_length);
    return rc;
}

int weir__mbedtls_context_set_tickets(struct weir__tls_vendor_context *context,
                                      const struct weir__tls_ticket_keys *tickets)
{
    if (!context->server)
        return WEIR_ENOTSUP;
    weir__tls_wipe(&context->tickets, sizeof(context->tickets));
    if (tickets)
        context->tickets = *tickets;
    return 0;
}

/* ---- contexts ---- */

static const mbedtls_ecp_group_id curves[] = {MBEDTLS_ECP_DP_CURVE25519, MBEDTLS_ECP_DP_SECP256R1,
                                              MBEDTLS_ECP_DP_SECP384R1, MBEDTLS_ECP_DP_NONE};
static const int hashes[] = {MBEDTLS_MD_SHA256, MBEDTLS_MD_SHA384, MBEDTLS_MD_SHA512,
                             MBEDTLS_MD_NONE};
/* 112 bits and more: no SHA-1, RSA from 2,048. */
static const mbedtls_x509_crt_profile profile = {
    MBEDTLS_X509_ID_FLAG(MBEDTLS_MD_SHA256) | MBEDTLS_X509_ID_FLAG(MBEDTLS_MD_SHA384) |
        MBEDTLS_X509_ID_FLAG(MBEDTLS_MD_SHA512),
    0xfffffff, /* any kind of key */
    MBEDTLS_X509_ID_FLAG(MBEDTLS_ECP_DP_SECP256R1) |
        MBEDTLS_X509_ID_FLAG(MBEDTLS_ECP_DP_SECP384R1) |
        MBEDTLS_X509_ID_FLAG(MBEDTLS_ECP_DP_SECP521R1),
    2048,
};

static int conf_offer(void *to, mbedtls_x509_crt *chain, mbedtls_pk_context *key)
{
    return mbedtls_ssl_conf_own_cert(to, chain, key);
}

static void peer_set(struct weir__tls_vendor_context *context, mbedtls_ssl_config *conf)
{
    bool optional = context->peer == WEIR__TLS_PEER_OPTIONAL;

    if (!weir__mbedtls_verifies(context)) {
        mbedtls_ssl_conf_authmode(conf, MBEDTLS_SSL_VERIFY_NONE);
        return;
    }
    mbedtls_ssl_conf_authmode(conf,
                              optional ? MBEDTLS_SSL_VERIFY_OPTIONAL : MBEDTLS_SSL_VERIFY_REQUIRED);
    mbedtls_ssl_conf_ca_chain(conf, &context->trust, NULL);
}

static int configuration_set(struct weir__tls_vendor_context *context, unsigned which)
{
    mbedtls_ssl_config *conf = &context->configurations[which];
    int rc = mbedtls_ssl_config_defaults(
        conf, context->server ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT,
        MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);

    if (rc != 0)
        return rc;
    mbedtls_ssl_conf_min_version(conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_max_version(conf, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_rng(conf, mbedtls_ctr_drbg_random, &context->random);
    mbedtls_ssl_conf_ciphersuites(conf, context->suites);
    mbedtls_ssl_conf_curves(conf, curves);
    mbedtls_ssl_conf_sig_hashes(conf, hashes);
    mbedtls_ssl_conf_cert_profile(conf, &profile);
    mbedtls_ssl_conf_renegotiation(conf, MBEDTLS_SSL_RENEGOTIATION_DISABLED);
    mbedtls_ssl_conf_extended_master_secret(conf, MBEDTLS_SSL_EXTENDED_MS_ENABLED);
    mbedtls_ssl_conf_export_keys_ext_cb(conf, weir__mbedtls_export_keys, NULL);
    peer_set(context, conf);
    if ((which & MBEDTLS_WITH_ALPN) && context->alpn[0])
        rc = mbedtls_ssl_conf_alpn_protocols(conf, context->alpn);
    if (context->server) {
        mbedtls_ssl_conf_sni(conf, weir__mbedtls_on_server_name, context);
        if (which & MBEDTLS_WITH_TICKETS)
            mbedtls_ssl_conf_session_tickets_cb(conf, weir__mbedtls_ticket_write,
                                                weir__mbedtls_ticket_parse, context);
    } else {
        mbedtls_ssl_conf_session_tickets(conf, MBEDTLS_SSL_SESSION_TICKETS_ENABLED);
    }
    return rc != 0 ? rc : weir__mbedtls_certificates_offer(context, NULL, 0, conf_offer, conf);
}

static void suites_set(struct weir__tls_vendor_context *context,
                       const struct weir__tls_config *config)
{
    unsigned count, used = 0;
    const struct weir__tls_suite *suites = weir__tls_suites(&count);

    for (unsigned i = 0; i < count && used < MBEDTLS_SUITES_MAX - 1; i++) {
        if (suites[i].version == WEIR__TLS_1_2 && weir__tls_allows(config, suites[i].cipher))
            context->suites[used++] = suites[i].number;
    }
    context->suites[used] = 0;
}

static void alpn_set(struct weir__tls_vendor_context *context,
                     const struct weir__tls_config *config)
{
    context->alpn_wire_length = weir__tls_alpn_wire(config, context->alpn_wire);
    for (unsigned i = 0; i < config->alpn_count; i++) {
        strcpy(context->alpn_texts[i], config->alpn[i]);
        context->alpn[i] = context->alpn_texts[i];
    }
}

/* Mbed TLS knows of no system's: these are where the usual ones keep them. */
static const char *trust_path(const struct weir__tls_config *config)
{
    static const char *const usual[] = {"/etc/ssl/certs/ca-certificates.crt",
                                        "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"};

    for (unsigned i = 0; !config->trust_file && i < sizeof(usual) / sizeof(usual[0]); i++) {
        if (access(usual[i], R_OK) == 0)
            return usual[i];
    }
    return config->trust_file;
}

static int trust_set(struct weir__tls_vendor_context *context,
                     const struct weir__tls_config *config, struct weir__tls_complaint *complaint)
{
    const char *path = trust_path(config);

    if (!weir__mbedtls_verifies(context))
        return 0;
    if (!path) {
        weir__tls_complain(complaint,
                           "Mbed TLS finds no file of the system's trusted certificates");
        return WEIR_ENOTSUP;
    }
    if (access(path, R_OK) != 0) {
        weir__tls_complain(complaint, "cannot read %s: %s", path, strerror(errno));
        return WEIR_EACCESS;
    }
    int rc = mbedtls_x509_crt_parse_file(&context->trust, path);
    /* A system's may hold a few that this library does not know how to read. */
    if (rc < 0 || context->trust.version == 0) {
        weir__tls_complain(complaint, "%s holds no certificates to trust", path);
        return rc == MBEDTLS_ERR_X509_ALLOC_FAILED ? WEIR_ENOMEM : WEIR_EINVAL;
    }
    return 0;
}

/* What a session's rights depend on; the trusted certificates themselves, not the path to them. */
static int scope_set(struct weir__tls_vendor_context *context)
{
    uint8_t peer = (uint8_t)context->peer;
    mbedtls_md_context_t hash;

    mbedtls_md_init(&hash);
    int rc = mbedtls_md_setup(&hash, mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), 0);
    if (rc == 0)
        rc = mbedtls_md_starts(&hash);
    if (rc == 0)
        rc = mbedtls_md_update(&hash, &peer, 1);
    for (const mbedtls_x509_crt *at = &context->trust; rc == 0 && at && at->raw.p; at = at->next)
        rc = mbedtls_md_update(&hash, at->raw.p, at->raw.len);
    if (rc == 0)
        rc = mbedtls_md_finish(&hash, context->scope);
    mbedtls_md_free(&hash);
    return rc;
}

static int context_set(struct weir__tls_vendor_context *context,
                       const struct weir__tls_config *config, struct weir__tls_complaint *complaint)
{
    int rc = weir__mbedtls_certificates_read(context, config, complaint);

    if (rc == 0)
        rc = trust_set(context, config, complaint);
    if (rc != 0)
        return rc;
    suites_set(context, config);
    alpn_set(context, config);
    if (mbedtls_ctr_drbg_seed(&context->random, mbedtls_entropy_func, &context->entropy, NULL, 0) !=
            0 ||
        scope_set(context) != 0)
        return WEIR_ENOMEM;
    for (unsigned i = 0; i < MBEDTLS_CONFIGURATIONS; i++) {
        if ((context->server || i == MBEDTLS_WITH_ALPN) && configuration_set(context, i) != 0)
            return WEIR_ENOMEM;
    }
    return context->server ? weir__mbedtls_context_set_tickets(context, config->tickets) : 0;
}

static struct weir__tls_vendor_context *context_allocate(const struct weir__tls_config *config)
{
    struct weir__tls_vendor_context *context = weir__allocate_zeroed(1, sizeof(*context));

    if (!context)
        return NULL;
    context->server = config->server;
    context->peer = config->peer;
    context->key_log = config->key_log;
    context->key_log_context = config->key_log_context;
    mbedtls_entropy_init(&context->entropy);
    mbedtls_ctr_drbg_init(&context->random);
    mbedtls_x509_crt_init(&context->trust);
    for (unsigned i = 0; i < MBEDTLS_CONFIGURATIONS; i++)
        mbedtls_ssl_config_init(&context->configurations[i]);
    return context;
}

int weir__mbedtls_context_new(struct weir__tls_vendor_context **context_out,
                              const struct weir__tls_config *config,
                              struct weir__tls_complaint *complaint)
{
    int rc = weir__tls_config_check(config, complaint);

    if (rc != 0)
        return rc;
    if (config->version_min > WEIR__TLS_1_2) {
        weir__tls_complain(complaint, "this Mbed TLS has TLS 1.2 only, and 1.3 is asked for");
        return WEIR_ENOTSUP;
    }
    weir__tls_complain(complaint, "out of memory");
    struct weir__tls_vendor_context *context = context_allocate(config);
    if (!context)
        return WEIR_ENOMEM;
    rc = context_set(context, config, complaint);
    if (rc != 0) {
        weir__mbedtls_context_free(context);
        return rc;
    }
    complaint->text[0] = '\0';
    *context_out = context;
    return 0;
}

void weir__mbedtls_context_free(struct weir__tls_vendor_context *context)
{
    if (!context)
        return;
    for (unsigned i = 0; i < MBEDTLS_CONFIGURATIONS; i++)
        mbedtls_ssl_config_free(&context->configurations[i]);
    mbedtls_x509_crt_free(&context->trust);
    weir__mbedtls_certificates_free(context);
    mbedtls_ctr_drbg_free(&context->random);
    mbedtls_entropy_free(&context->entropy);
    weir__tls_wipe(&context->tickets, sizeof(context->tickets));
    weir__release(context);
}
