/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor/wolfssl_internal.h"

/* Contexts: what many connections share. And tickets, whose keys are a context's. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <weir/error.h>

#include "core/memory.h"

/* How long a session can be resumed; OpenSSL has the same. */
#define SESSION_TIMEOUT_S (2 * 60 * 60)

/* ---- tickets ---- */

/* Over another text than other libraries have: their tickets are none of ours, whatever the keys. */
static bool ticket_authenticate(const struct weir__tls_ticket_key *key, const uint8_t *iv,
                                const uint8_t *ticket, size_t length, uint8_t *mac)
{
    Hmac hmac;

    if (wc_HmacInit(&hmac, NULL, INVALID_DEVID) != 0)
        return false;
    bool done = wc_HmacSetKey(&hmac, WC_SHA256, key->hmac_key, sizeof(key->hmac_key)) == 0 &&
                wc_HmacUpdate(&hmac, (const uint8_t *)"wolfssl", 7) == 0 &&
                wc_HmacUpdate(&hmac, key->name, sizeof(key->name)) == 0 &&
                wc_HmacUpdate(&hmac, iv, WOLFSSL_TICKET_IV_SZ) == 0 &&
                wc_HmacUpdate(&hmac, ticket, (word32)length) == 0 && wc_HmacFinal(&hmac, mac) == 0;
    wc_HmacFree(&hmac);
    return done;
}

/* AES-256-CTR: it encrypts as it decrypts. */
static bool ticket_crypt(const struct weir__tls_ticket_key *key, const uint8_t *iv, uint8_t *ticket,
                         size_t length)
{
    Aes aes;

    if (wc_AesInit(&aes, NULL, INVALID_DEVID) != 0)
        return false;
    bool done = wc_AesSetKeyDirect(&aes, key->cipher_key, sizeof(key->cipher_key), iv,
                                   AES_ENCRYPTION) == 0 &&
                wc_AesCtrEncrypt(&aes, ticket, ticket, (word32)length) == 0;
    wc_AesFree(&aes);
    return done;
}

static int ticket_seal(struct weir__tls_vendor_context *context, uint8_t *name, uint8_t *iv,
                       uint8_t *mac, uint8_t *ticket, size_t length)
{
    struct weir__tls_ticket_key key;

    /* The keys may have gone while this handshake was going on: then nobody can read it. */
    if (context->tickets.count > 0)
        key = context->tickets.keys[0];
    else if (wc_RNG_GenerateBlock(&context->random, (byte *)&key, sizeof(key)) != 0)
        return WOLFSSL_TICKET_RET_FATAL;
    memcpy(name, key.name, sizeof(key.name));
    bool done = wc_RNG_GenerateBlock(&context->random, iv, WOLFSSL_TICKET_IV_SZ) == 0 &&
                ticket_crypt(&key, iv, ticket, length) &&
                ticket_authenticate(&key, iv, ticket, length, mac);
    weir__tls_wipe(&key, sizeof(key));
    return done ? WOLFSSL_TICKET_RET_OK : WOLFSSL_TICKET_RET_FATAL;
}

static bool is_same(const uint8_t *a, const uint8_t *b, size_t length)
{
    uint8_t different = 0;

    for (size_t i = 0; i < length; i++)
        different |= a[i] ^ b[i];
    return different == 0;
}

static int ticket_open(struct weir__tls_vendor_context *context, const uint8_t *name,
                       const uint8_t *iv, const uint8_t *mac, uint8_t *ticket, size_t length)
{
    uint8_t expected[WC_SHA256_DIGEST_SIZE];

    for (unsigned i = 0; i < context->tickets.count; i++) {
        const struct weir__tls_ticket_key *key = &context->tickets.keys[i];
        if (memcmp(key->name, name, sizeof(key->name)) != 0)
            continue;
        if (!ticket_authenticate(key, iv, ticket, length, expected) ||
            !is_same(expected, mac, sizeof(expected)) || !ticket_crypt(key, iv, ticket, length))
            return WOLFSSL_TICKET_RET_REJECT;
        return i == 0 ? WOLFSSL_TICKET_RET_OK : WOLFSSL_TICKET_RET_CREATE;
    }
    return WOLFSSL_TICKET_RET_REJECT;
}

static int on_ticket(WOLFSSL *ssl, unsigned char *name, unsigned char *iv, unsigned char *mac,
                     int seal, unsigned char *ticket, int length, int *out_length, void *argument)
{
    struct weir__tls_vendor_context *context = argument;

    (void)ssl;
    *out_length = length;
    return seal ? ticket_seal(context, name, iv, mac, ticket, (size_t)length)
                : ticket_open(context, name, iv, mac, ticket, (size_t)length);
}

/*
 * wolfSSL's tickets do not hold the client's certificate. A server that asks for one gives none, and
 * takes none: who resumed would be unknown to it, or not even have been asked.
 */
int weir__wolfssl_context_set_tickets(struct weir__tls_vendor_context *context,
                                      const struct weir__tls_ticket_keys *tickets)
{
    if (!context->server)
        return WEIR_ENOTSUP;
    weir__tls_wipe(&context->tickets, sizeof(context->tickets));
    if (tickets && !context->verifies)
        context->tickets = *tickets;
    return 0;
}

/* ---- names ---- */

static int on_server_name(WOLFSSL *ssl, int *alert, void *argument)
{
    struct weir__tls_vendor_context *context = argument;
    void *data = NULL;
    char name[WEIR__TLS_NAME_MAX];
    size_t length = wolfSSL_SNI_GetRequest(ssl, WOLFSSL_SNI_HOST_NAME, &data);

    (void)alert;
    if (length == 0 || length >= sizeof(name))
        return 0;
    memcpy(name, data, length);
    name[length] = '\0';
    for (unsigned i = 0; i < context->identity_count; i++) {
        if (wolfSSL_X509_check_host(context->identities[i].leaf, name, length, 0, NULL) != 1)
            continue;
        wolfSSL_set_SSL_CTX(ssl, context->identities[i].ssl_context);
        break;
    }
    return 0;
}

static int on_alpn(WOLFSSL *ssl, const unsigned char **out, unsigned char *out_length,
                   const unsigned char *in, unsigned in_length, void *argument)
{
    struct weir__tls_vendor_context *context = argument;
    const uint8_t *chosen =
        weir__tls_alpn_choose(context->alpn, context->alpn_length, in, in_length);

    (void)ssl;
    if (!chosen)
        return 3; /* SSL_TLSEXT_ERR_NOACK */
    *out = chosen + 1;
    *out_length = chosen[0];
    return 0;
}

/* ---- contexts ---- */

static WOLFSSL_METHOD *method_of(const struct weir__tls_config *config)
{
    if (config->version_min == WEIR__TLS_1_3)
        return config->server ? wolfTLSv1_3_server_method() : wolfTLSv1_3_client_method();
    if (config->version_max == WEIR__TLS_1_2)
        return config->server ? wolfTLSv1_2_server_method() : wolfTLSv1_2_client_method();
    return config->server ? wolfTLS_server_method() : wolfTLS_client_method();
}

static const char *suite_name(const struct weir__tls_suite *suite)
{
    static const char *const names[] = {
        [WEIR__TLS_AES_128_GCM] = "TLS13-AES128-GCM-SHA256",
        [WEIR__TLS_AES_256_GCM] = "TLS13-AES256-GCM-SHA384",
        [WEIR__TLS_CHACHA20_POLY1305] = "TLS13-CHACHA20-POLY1305-SHA256",
    };

    return suite->version == WEIR__TLS_1_3 ? names[suite->cipher] : suite->openssl;
}

static bool ciphers_set(WOLFSSL_CTX *ssl_context, const struct weir__tls_config *config)
{
    char list[512] = ""; /* all nine take less than 350 bytes */
    unsigned count;
    const struct weir__tls_suite *suites = weir__tls_suites(&count);

    for (unsigned i = 0; i < count; i++) {
        if (!weir__tls_allows(config, suites[i].cipher) ||
            suites[i].version < config->version_min || suites[i].version > config->version_max)
            continue;
        if (list[0] != '\0')
            strcat(list, ":");
        strcat(list, suite_name(&suites[i]));
    }
    return wolfSSL_CTX_set_cipher_list(ssl_context, list) == WOLFSSL_SUCCESS;
}

static bool groups_set(WOLFSSL_CTX *ssl_context, const struct weir__tls_config *config)
{
    int groups[] = {WOLFSSL_ECC_X25519, WOLFSSL_ECC_SECP256R1, WOLFSSL_ECC_SECP384R1};

    if (config->version_max == WEIR__TLS_1_3)
        return wolfSSL_CTX_set_groups(ssl_context, groups, 3) == WOLFSSL_SUCCESS;
    for (unsigned i = 0; i < 3; i++) {
        if (wolfSSL_CTX_UseSupportedCurve(ssl_context, (word16)groups[i]) != WOLFSSL_SUCCESS)
            return false;
    }
    return true;
}

static bool protocol_set(WOLFSSL_CTX *ssl_context, const struct weir__tls_config *config)
{
    /* Its caches are the process's, shared by all threads. */
    wolfSSL_CTX_set_session_cache_mode(ssl_context, WOLFSSL_SESS_CACHE_OFF |
                                                        WOLFSSL_SESS_CACHE_NO_INTERNAL_STORE |
                                                        WOLFSSL_SESS_CACHE_NO_INTERNAL_LOOKUP);
    wolfSSL_CTX_set_timeout(ssl_context, SESSION_TIMEOUT_S);
    wolfSSL_CTX_SetIORecv(ssl_context, weir__wolfssl_receive);
    wolfSSL_CTX_SetIOSend(ssl_context, weir__wolfssl_send);
    wolfSSL_CTX_SetHKDFExpandLabelCb(ssl_context, weir__wolfssl_expand_label);
    return (config->version_min == config->version_max ||
            wolfSSL_CTX_SetMinVersion(ssl_context, WOLFSSL_TLSV1_2) == WOLFSSL_SUCCESS) &&
           groups_set(ssl_context, config) && ciphers_set(ssl_context, config);
}

static int readable(const char *path, struct weir__tls_complaint *complaint)
{
    if (access(path, R_OK) == 0)
        return 0;
    weir__tls_complain(complaint, "cannot read %s: %s", path, strerror(errno));
    return WEIR_EACCESS;
}

/*
 * Signs something and looks whether the certificate verifies it: wolfSSL_CTX_check_private_key 5.5.4 is
 * content with any key of elliptic curves.
 */
static bool key_fits(WOLFSSL_X509 *leaf, WOLFSSL_EVP_PKEY *key)
{
    static const char text[] = "is this my key?";
    WOLFSSL_EVP_PKEY *public = wolfSSL_X509_get_pubkey(leaf);
    WOLFSSL_EVP_MD_CTX *sign = wolfSSL_EVP_MD_CTX_new(), *verify = wolfSSL_EVP_MD_CTX_new();
    unsigned char signature[1024]; /* of RSA with 8,192 bits */
    size_t length = sizeof(signature);

    bool fits =
        public && key && sign && verify &&
        wolfSSL_EVP_DigestSignInit(sign, NULL, wolfSSL_EVP_sha256(), NULL, key) == 1 &&
        wolfSSL_EVP_DigestSignUpdate(sign, text, sizeof(text)) == 1 &&
        wolfSSL_EVP_DigestSignFinal(sign, signature, &length) == 1 &&
        wolfSSL_EVP_DigestVerifyInit(verify, NULL, wolfSSL_EVP_sha256(), NULL, public) == 1 &&
        wolfSSL_EVP_DigestVerifyUpdate(verify, text, sizeof(text)) == 1 &&
        wolfSSL_EVP_DigestVerifyFinal(verify, signature, length) == 1;
    wolfSSL_EVP_MD_CTX_free(verify);
    wolfSSL_EVP_MD_CTX_free(sign);
    wolfSSL_EVP_PKEY_free(public);
    return fits;
}

static bool key_file_fits(WOLFSSL_X509 *leaf, const char *path)
{
    WOLFSSL_BIO *file = wolfSSL_BIO_new_file(path, "r");
    WOLFSSL_EVP_PKEY *key = file ? wolfSSL_PEM_read_bio_PrivateKey(file, NULL, NULL, NULL) : NULL;
    bool fits = key && key_fits(leaf, key);

    wolfSSL_EVP_PKEY_free(key);
    wolfSSL_BIO_free(file);
    return fits;
}

static int certificate_load(struct wolfssl_identity *identity,
                            const struct weir__tls_certificate *files,
                            struct weir__tls_complaint *complaint)
{
    int rc = readable(files->certificate_file, complaint);

    if (rc == 0)
        rc = readable(files->key_file, complaint);
    if (rc != 0)
        return rc;
    identity->leaf =
        wolfSSL_X509_load_certificate_file(files->certificate_file, WOLFSSL_FILETYPE_PEM);
    if (!identity->leaf || wolfSSL_CTX_use_certificate_chain_file(
                               identity->ssl_context, files->certificate_file) != WOLFSSL_SUCCESS) {
        weir__tls_complain(complaint, "%s holds no certificate that can be used",
                           files->certificate_file);
        return WEIR_EINVAL;
    }
    if (wolfSSL_CTX_use_PrivateKey_file(identity->ssl_context, files->key_file,
                                        WOLFSSL_FILETYPE_PEM) != WOLFSSL_SUCCESS) {
        weir__tls_complain(complaint, "%s holds no private key, or one with a password",
                           files->key_file);
        return WEIR_EINVAL;
    }
    if (!key_file_fits(identity->leaf, files->key_file)) {
        weir__tls_complain(complaint, "%s is not the key of %s", files->key_file,
                           files->certificate_file);
        return WEIR_EINVAL;
    }
    return 0;
}

/*
 * One by one, and not by wolfSSL_CTX_load_verify_locations: as Debian builds it, that trusts a server which
 * shows one of them without a look at its dates. One that is not taken, because it has expired for
 * instance, is left out: whom it certifies is refused then. Returns how many there are.
 */
static unsigned trust_file_load(WOLFSSL_CTX *ssl_context, const char *path)
{
    WOLFSSL_X509_STORE *store = wolfSSL_CTX_get_cert_store(ssl_context);
    WOLFSSL_BIO *file = wolfSSL_BIO_new_file(path, "r");
    unsigned count = 0;

    while (file && store) {
        WOLFSSL_X509 *next = wolfSSL_PEM_read_bio_X509(file, NULL, NULL, NULL);
        if (!next)
            break;
        wolfSSL_X509_STORE_add_cert(store, next);
        wolfSSL_X509_free(next);
        count++;
    }
    wolfSSL_BIO_free(file);
    return count;
}

static int trust_load(WOLFSSL_CTX *ssl_context, const struct weir__tls_config *config,
                      struct weir__tls_complaint *complaint)
{
    const char *path = config->trust_file;

    if (!path) {
        if (wolfSSL_CTX_load_system_CA_certs(ssl_context) == WOLFSSL_SUCCESS)
            return 0;
        weir__tls_complain(complaint, "wolfSSL finds no certificates that the system trusts");
        return WEIR_ENOTSUP;
    }
    int rc = readable(path, complaint);
    if (rc == 0 && trust_file_load(ssl_context, path) == 0) {
        weir__tls_complain(complaint, "%s holds no certificates to trust", path);
        rc = WEIR_EINVAL;
    }
    return rc;
}

static int peer_set(WOLFSSL_CTX *ssl_context, const struct weir__tls_vendor_context *context,
                    const struct weir__tls_config *config, struct weir__tls_complaint *complaint)
{
    if (!context->verifies) {
        wolfSSL_CTX_set_verify(ssl_context, WOLFSSL_VERIFY_NONE, NULL);
        return 0;
    }
    int mode = WOLFSSL_VERIFY_PEER;
    if (config->peer == WEIR__TLS_PEER_REQUIRED)
        mode |= WOLFSSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    wolfSSL_CTX_set_verify(ssl_context, mode, NULL);
    return trust_load(ssl_context, config, complaint);
}

static void server_set(WOLFSSL_CTX *ssl_context, struct weir__tls_vendor_context *context)
{
    wolfSSL_CTX_set_TicketEncCb(ssl_context, on_ticket);
    wolfSSL_CTX_set_TicketEncCtx(ssl_context, context);
    wolfSSL_CTX_set_TicketHint(ssl_context, SESSION_TIMEOUT_S);
    wolfSSL_CTX_set_servername_callback(ssl_context, on_server_name);
    wolfSSL_CTX_set_servername_arg(ssl_context, context);
    if (context->alpn_length > 0)
        wolfSSL_CTX_set_alpn_select_cb(ssl_context, on_alpn, context);
}

static int identity_set(struct wolfssl_identity *identity, struct weir__tls_vendor_context *context,
                        const struct weir__tls_config *config,
                        const struct weir__tls_certificate *files,
                        struct weir__tls_complaint *complaint)
{
    identity->ssl_context = wolfSSL_CTX_new(method_of(config));
    if (!identity->ssl_context)
        return WEIR_ENOMEM;
    if (!protocol_set(identity->ssl_context, config)) {
        weir__tls_complain(complaint, "this wolfSSL does not have what TLS needs");
        return WEIR_ENOTSUP;
    }
    int rc = files ? certificate_load(identity, files, complaint) : 0;
    if (rc == 0)
        rc = peer_set(identity->ssl_context, context, config, complaint);
    if (rc == 0 && config->server)
        server_set(identity->ssl_context, context);
    return rc;
}

static int context_set(struct weir__tls_vendor_context *context,
                       const struct weir__tls_config *config, struct weir__tls_complaint *complaint)
{
    unsigned count = config->certificate_count > 0 ? config->certificate_count : 1;
    int rc = 0;

    context->random_is_there = wc_InitRng(&context->random) == 0;
    context->identities = weir__allocate_zeroed(count, sizeof(*context->identities));
    if (!context->identities || !context->random_is_there)
        return WEIR_ENOMEM;
    context->identity_count = count;
    for (unsigned i = 0; rc == 0 && i < count; i++)
        rc = identity_set(&context->identities[i], context, config,
                          config->certificate_count > 0 ? &config->certificates[i] : NULL,
                          complaint);
    if (rc == 0 && config->server)
        rc = weir__wolfssl_context_set_tickets(context, config->tickets);
    return rc;
}

static void alpn_set(struct weir__tls_vendor_context *context,
                     const struct weir__tls_config *config)
{
    context->alpn_length = weir__tls_alpn_wire(config, context->alpn);
    for (unsigned i = 0; i < config->alpn_count; i++) {
        strcat(context->alpn_text, i > 0 ? "," : "");
        strcat(context->alpn_text, config->alpn[i]);
    }
}

int weir__wolfssl_context_new(struct weir__tls_vendor_context **context_out,
                              const struct weir__tls_config *config,
                              struct weir__tls_complaint *complaint)
{
    int rc = weir__tls_config_check(config, complaint);

    if (rc != 0)
        return rc;
    weir__tls_complain(complaint, "out of memory");
    if (!weir__wolfssl_is_usable())
        return WEIR_ENOTSUP;
    struct weir__tls_vendor_context *context = weir__allocate_zeroed(1, sizeof(*context));
    if (!context)
        return WEIR_ENOMEM;
    context->server = config->server;
    context->verifies = config->peer == WEIR__TLS_PEER_REQUIRED ||
                        (config->server && config->peer == WEIR__TLS_PEER_OPTIONAL);
    context->version_max = config->version_max;
    context->key_log = config->key_log;
    context->key_log_context = config->key_log_context;
    alpn_set(context, config);
    rc = context_set(context, config, complaint);
    wolfSSL_ERR_clear_error();
    if (rc != 0) {
        weir__wolfssl_context_free(context);
        return rc;
    }
    complaint->text[0] = '\0';
    *context_out = context;
    return 0;
}

void weir__wolfssl_context_free(struct weir__tls_vendor_context *context)
{
    if (!context)
        return;
    for (unsigned i = 0; i < context->identity_count; i++) {
        wolfSSL_X509_free(context->identities[i].leaf);
        wolfSSL_CTX_free(context->identities[i].ssl_context);
    }
    weir__release(context->identities);
    if (context->random_is_there)
        wc_FreeRng(&context->random);
    weir__tls_wipe(&context->tickets, sizeof(context->tickets));
    weir__release(context);
}
