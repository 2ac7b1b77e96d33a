/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor/openssl_internal.h"

#include <pthread.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>

static struct weir__openssl library;
static bool library_is_usable;

/* OpenSSL without a method, as some builds are, has no such cipher; the others serve. */
static EVP_MAC_CTX *hmac_template(const char *digest)
{
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)digest, 0),
        OSSL_PARAM_construct_end(),
    };
    EVP_MAC *mac = EVP_MAC_fetch(NULL, OSSL_MAC_NAME_HMAC, NULL);
    EVP_MAC_CTX *context = mac ? EVP_MAC_CTX_new(mac) : NULL;

    EVP_MAC_free(mac);
    if (context && EVP_MAC_CTX_set_params(context, parameters) != 1) {
        EVP_MAC_CTX_free(context);
        return NULL;
    }
    return context;
}

/* Kept until the process ends. */
static void library_load(void)
{
    library.aeads[WEIR__TLS_AES_128_GCM] = EVP_CIPHER_fetch(NULL, "AES-128-GCM", NULL);
    library.aeads[WEIR__TLS_AES_256_GCM] = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    library.aeads[WEIR__TLS_CHACHA20_POLY1305] = EVP_CIPHER_fetch(NULL, "ChaCha20-Poly1305", NULL);
    library.ticket_cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    library.hmacs[WEIR__TLS_SHA256] = hmac_template("SHA256");
    library.hmacs[WEIR__TLS_SHA384] = hmac_template("SHA384");
    library.transport = weir__openssl_transport_new();
    library.handshake_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    library.context_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    library_is_usable = library.ticket_cipher && library.hmacs[0] && library.hmacs[1] &&
                        library.transport && library.handshake_index >= 0 &&
                        library.context_index >= 0;
}

const struct weir__openssl *weir__openssl(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, library_load);
    return library_is_usable ? &library : NULL;
}

static const char *version(void)
{
    return OpenSSL_version(OPENSSL_VERSION_STRING);
}

const struct weir__tls_vendor weir__tls_openssl = {
    .name = "openssl",
    .version = version,
    .version_max = WEIR__TLS_1_3,
    .context_new = weir__openssl_context_new,
    .context_free = weir__openssl_context_free,
    .context_set_tickets = weir__openssl_context_set_tickets,
    .handshake_new = weir__openssl_handshake_new,
    .handshake_free = weir__openssl_handshake_free,
    .advance = weir__openssl_advance,
    .result = weir__openssl_result,
    .failure = weir__openssl_failure,
    .post_record = weir__openssl_post_record,
    .session_save = weir__openssl_session_save,
    .ciphers = {.name = "openssl",
                .aead_new = weir__openssl_aead_new,
                .aead_free = weir__openssl_aead_free,
                .aead_seal = weir__openssl_aead_seal,
                .aead_open = weir__openssl_aead_open},
    .hmac = weir__openssl_hmac,
    .self_signed = weir__openssl_self_signed,
};
