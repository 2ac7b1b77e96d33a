/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor/openssl_internal.h"

/* Contexts: what many connections share. And tickets, whose keys are a context's. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include <weir/error.h>

#include "core/memory.h"

static struct weir__tls_vendor_context *context_of(SSL *ssl)
{
    return SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), weir__openssl()->context_index);
}

/* The name is taken over whatever it is: the first certificate answers for unknown ones. */
static int on_server_name(SSL *ssl, int *alert, void *argument)
{
    (void)alert;
    (void)argument;
    return SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) ? SSL_TLSEXT_ERR_OK
                                                              : SSL_TLSEXT_ERR_NOACK;
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_length,
                   const unsigned char *in, unsigned in_length, void *argument)
{
    struct weir__tls_vendor_context *context = argument;
    const uint8_t *chosen =
        weir__tls_alpn_choose(context->alpn, context->alpn_length, in, in_length);

    (void)ssl;
    if (!chosen)
        return SSL_TLSEXT_ERR_NOACK;
    *out = chosen + 1;
    *out_length = chosen[0];
    return SSL_TLSEXT_ERR_OK;
}

/* ---- tickets ---- */

static int ticket_key_use(const struct weir__tls_ticket_key *key, const unsigned char *iv,
                          EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt)
{
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)key->hmac_key,
                                          sizeof(key->hmac_key)),
        OSSL_PARAM_construct_end(),
    };

    return EVP_CipherInit_ex2(cipher, weir__openssl()->ticket_cipher, key->cipher_key, iv, encrypt,
                              NULL) == 1 &&
           EVP_MAC_CTX_set_params(mac, parameters) == 1;
}

/*
 * Returns -1: an error; decrypting, 0: unknown, 1: good, 2: good, and the client gets a new one. In TLS 1.3 it
 * always does: clients use a ticket once (RFC 8446 appendix C.4), and would resume every other time only.
 */
int weir__openssl_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv,
                             EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt)
{
    const struct weir__tls_ticket_keys *tickets = &context_of(ssl)->tickets;

    if (encrypt) {
        struct weir__tls_ticket_key key;
        /*
         * The keys went while this handshake was going on, and OpenSSL 3.0 cannot do without a
         * ticket any more: it becomes one that nobody can read.
         */
        if (tickets->count > 0)
            key = tickets->keys[0];
        else if (RAND_bytes((unsigned char *)&key, sizeof(key)) != 1)
            return -1;
        memcpy(name, key.name, sizeof(key.name));
        bool used = RAND_bytes(iv, EVP_CIPHER_get_iv_length(weir__openssl()->ticket_cipher)) == 1 &&
                    ticket_key_use(&key, iv, cipher, mac, 1);
        weir__tls_wipe(&key, sizeof(key));
        return used ? 1 : -1;
    }
    for (unsigned i = 0; i < tickets->count; i++) {
        if (memcmp(tickets->keys[i].name, name, sizeof(tickets->keys[i].name)) != 0)
            continue;
        if (!ticket_key_use(&tickets->keys[i], iv, cipher, mac, 0))
            return -1;
        return i == 0 && SSL_version(ssl) != TLS1_3_VERSION ? 1 : 2;
    }
    return 0;
}

int weir__openssl_context_set_tickets(struct weir__tls_vendor_context *context,
                                      const struct weir__tls_ticket_keys *tickets)
{
    bool on = tickets && tickets->count > 0;

    if (!context->server)
        return WEIR_ENOTSUP;
    weir__tls_wipe(&context->tickets, sizeof(context->tickets));
    if (on)
        context->tickets = *tickets;
    /* Both are for handshakes that begin from now on. With NO_TICKET alone, TLS 1.3 would still send some. */
    if (on)
        SSL_CTX_clear_options(context->ssl_context, SSL_OP_NO_TICKET);
    else
        SSL_CTX_set_options(context->ssl_context, SSL_OP_NO_TICKET);
    /* Two, as a browser has two connections at once, and a ticket is best used once (RFC 8446 C.4). */
    return SSL_CTX_set_num_tickets(context->ssl_context, on ? 2 : 0) == 1 ? 0 : WEIR_ENOTSUP;
}

/* ---- contexts ---- */

static bool ciphers_set(SSL_CTX *ssl_context, const struct weir__tls_config *config)
{
    char old[512] = "", new[512] = "";
    unsigned count;
    const struct weir__tls_suite *suites = weir__tls_suites(&count);

    for (unsigned i = 0; i < count; i++) {
        char *list = suites[i].version == WEIR__TLS_1_3 ? new : old;
        if (!weir__tls_allows(config, suites[i].cipher) ||
            !weir__openssl()->aeads[suites[i].cipher])
            continue;
        if (list[0] != '\0')
            strcat(list, ":");
        strcat(list, suites[i].openssl); /* all nine take less than 350 bytes */
    }
    return SSL_CTX_set_ciphersuites(ssl_context, new) == 1 &&
           SSL_CTX_set_cipher_list(ssl_context, old) == 1;
}

static bool protocol_set(SSL_CTX *ssl_context, const struct weir__tls_config *config)
{
    SSL_CTX_set_options(ssl_context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                         SSL_OP_CIPHER_SERVER_PREFERENCE |
                                         SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_clear_options(ssl_context,
                          SSL_OP_LEGACY_SERVER_CONNECT | SSL_OP_NO_EXTENDED_MASTER_SECRET);
    /* What the files hold is sent, and nothing is looked for at each handshake. */
    SSL_CTX_set_mode(ssl_context, SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_session_cache_mode(ssl_context, SSL_SESS_CACHE_OFF);
    return SSL_CTX_set_min_proto_version(ssl_context, config->version_min) == 1 &&
           SSL_CTX_set_max_proto_version(ssl_context, config->version_max) == 1 &&
           SSL_CTX_set1_groups_list(ssl_context, "X25519:P-256:P-384") == 1 &&
           SSL_CTX_set_max_early_data(ssl_context, 0) == 1 && ciphers_set(ssl_context, config);
}

/*
 * Tickets are shared by contexts that have the same keys, but a session of one that asks for no client
 * certificate must not open another that requires one, or trusts other people. So the session id
 * context says which it is. The file's content counts, not its path: a fleet may have it elsewhere.
 */
static bool session_scope_set(SSL_CTX *ssl_context, const struct weir__tls_config *config)
{
    unsigned char digest[SHA256_DIGEST_LENGTH], bytes[4096];
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    bool set = hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) == 1 &&
               EVP_DigestUpdate(hash, &config->peer, sizeof(config->peer)) == 1;

    if (set && config->trust_file && config->peer != WEIR__TLS_PEER_UNASKED) {
        BIO *file = BIO_new_file(config->trust_file, "r");
        int length = 0;
        while (file && set && (length = BIO_read(file, bytes, sizeof(bytes))) > 0)
            set = EVP_DigestUpdate(hash, bytes, (size_t)length) == 1;
        set = set && file && length == 0;
        BIO_free(file);
    }
    set = set && EVP_DigestFinal_ex(hash, digest, NULL) == 1 &&
          SSL_CTX_set_session_id_context(ssl_context, digest, sizeof(digest)) == 1;
    EVP_MD_CTX_free(hash);
    return set;
}

static int trust_load(SSL_CTX *ssl_context, const struct weir__tls_config *config,
                      struct weir__tls_complaint *complaint)
{
    const char *path = config->trust_file;

    if (!path)
        return SSL_CTX_set_default_verify_paths(ssl_context) == 1 ? 0 : WEIR_ENOMEM;
    if (access(path, R_OK) != 0) {
        weir__tls_complain(complaint, "cannot read %s: %s", path, strerror(errno));
        return WEIR_EACCESS;
    }
    if (SSL_CTX_load_verify_file(ssl_context, path) != 1) {
        weir__tls_complain(complaint, "%s holds no certificates to trust", path);
        return WEIR_EINVAL;
    }
    if (config->server) /* these are who a client's certificate should be from */
        SSL_CTX_set_client_CA_list(ssl_context, SSL_load_client_CA_file(path));
    return 0;
}

static int peer_set(struct weir__tls_vendor_context *context, const struct weir__tls_config *config,
                    struct weir__tls_complaint *complaint)
{
    bool optional = config->peer == WEIR__TLS_PEER_OPTIONAL;

    context->verifies = config->peer == WEIR__TLS_PEER_REQUIRED || (config->server && optional);
    if (!context->verifies) {
        SSL_CTX_set_verify(context->ssl_context, SSL_VERIFY_NONE, NULL);
        return 0;
    }
    SSL_CTX_set_verify(context->ssl_context,
                       SSL_VERIFY_PEER | (optional ? 0 : SSL_VERIFY_FAIL_IF_NO_PEER_CERT), NULL);
    return trust_load(context->ssl_context, config, complaint);
}

static int server_set(struct weir__tls_vendor_context *context,
                      const struct weir__tls_config *config)
{
    SSL_CTX *ssl_context = context->ssl_context;

    SSL_CTX_set_tlsext_servername_callback(ssl_context, on_server_name);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ssl_context, weir__openssl_ticket_key);
    if (context->alpn_length > 0)
        SSL_CTX_set_alpn_select_cb(ssl_context, on_alpn, context);
    if (context->certificate_count > 1)
        SSL_CTX_set_cert_cb(ssl_context, weir__openssl_certificates_choose, context);
    if (!session_scope_set(ssl_context, config))
        return WEIR_ENOMEM;
    return weir__openssl_context_set_tickets(context, config->tickets);
}

static int client_set(struct weir__tls_vendor_context *context)
{
    /* Returns 0 when it went well, as no other function of OpenSSL. */
    if (context->alpn_length > 0 && SSL_CTX_set_alpn_protos(context->ssl_context, context->alpn,
                                                            (unsigned)context->alpn_length) != 0)
        return WEIR_ENOMEM;
    return 0;
}

static int own_certificate_set(struct weir__tls_vendor_context *context,
                               const struct weir__tls_config *config,
                               struct weir__tls_complaint *complaint)
{
    int rc = weir__openssl_certificates_read(context, config, complaint);

    if (rc != 0)
        return rc;
    /* Each is tried, so that one that this OpenSSL does not take is known by its name; the first stays. */
    for (unsigned i = context->certificate_count; i-- > 0;) {
        const struct openssl_certificate *certificate = &context->certificates[i];
        if (SSL_CTX_use_cert_and_key(context->ssl_context, certificate->leaf, certificate->key,
                                     certificate->chain, 1) != 1) {
            const char *reason = ERR_reason_error_string(ERR_peek_last_error());
            weir__tls_complain(complaint, "%s cannot be used: %s",
                               config->certificates[i].certificate_file,
                               reason ? reason : "OpenSSL does not say why");
            return WEIR_EINVAL;
        }
    }
    return 0;
}

static int context_set(struct weir__tls_vendor_context *context,
                       const struct weir__tls_config *config, struct weir__tls_complaint *complaint)
{
    context->ssl_context =
        SSL_CTX_new_ex(weir__openssl()->context, WEIR__OPENSSL_QUERY,
                       config->server ? TLS_server_method() : TLS_client_method());
    if (!context->ssl_context ||
        SSL_CTX_set_ex_data(context->ssl_context, weir__openssl()->context_index, context) != 1)
        return WEIR_ENOMEM;
    if (!protocol_set(context->ssl_context, config)) {
        weir__tls_complain(complaint, "this OpenSSL does not have what TLS needs");
        return WEIR_ENOTSUP;
    }
    if (context->key_log || !weir__openssl()->has_kdf)
        SSL_CTX_set_keylog_callback(context->ssl_context, weir__openssl_key_log);
    int rc = own_certificate_set(context, config, complaint);
    if (rc == 0)
        rc = peer_set(context, config, complaint);
    if (rc == 0)
        rc = config->server ? server_set(context, config) : client_set(context);
    return rc;
}

int weir__openssl_context_new(struct weir__tls_vendor_context **context_out,
                              const struct weir__tls_config *config,
                              struct weir__tls_complaint *complaint)
{
    int rc = weir__tls_config_check(config, complaint);

    if (rc != 0)
        return rc;
    weir__tls_complain(complaint, "this OpenSSL does not have what TLS needs");
    if (!weir__openssl())
        return WEIR_ENOTSUP;
    weir__tls_complain(complaint, "out of memory");
    struct weir__tls_vendor_context *context = weir__allocate_zeroed(1, sizeof(*context));
    if (!context)
        return WEIR_ENOMEM;
    context->server = config->server;
    context->key_log = config->key_log;
    context->key_log_context = config->key_log_context;
    context->alpn_length = weir__tls_alpn_wire(config, context->alpn);
    rc = context_set(context, config, complaint);
    ERR_clear_error();
    if (rc != 0) {
        weir__openssl_context_free(context);
        return rc;
    }
    complaint->text[0] = '\0';
    *context_out = context;
    return 0;
}

void weir__openssl_context_free(struct weir__tls_vendor_context *context)
{
    if (!context)
        return;
    SSL_CTX_free(context->ssl_context);
    weir__openssl_certificates_free(context);
    weir__tls_wipe(&context->tickets, sizeof(context->tickets));
    weir__release(context);
}
