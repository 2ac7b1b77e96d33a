/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor/openssl_internal.h"

#include <pthread.h>
#include <string.h>

#include <openssl/conf.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/provider.h>

static struct weir__openssl library;
static bool library_is_usable;

/*
 * The context has what the configuration file says for all (config(5)); without a word about providers
 * there, OpenSSL's own default one serves, which ours must not drive out.
 */
static bool context_load(void)
{
    OSSL_LIB_CTX *context = OSSL_LIB_CTX_new();
    char *file = CONF_get1_default_config_file();

    library.context = context;
    if (context && file)
        (void)OSSL_LIB_CTX_load_config(context, file);
    OPENSSL_free(file);
    if (!context ||
        OSSL_PROVIDER_add_builtin(context, WEIR__OPENSSL_PROVIDER, weir__openssl_provider_init) !=
            1 ||
        !OSSL_PROVIDER_try_load(context, WEIR__OPENSSL_PROVIDER, 1))
        return false;
    /* Properties that the configuration demands may rule ours out. */
    EVP_KDF *kdf = EVP_KDF_fetch(context, OSSL_KDF_NAME_TLS1_3_KDF, WEIR__OPENSSL_QUERY);
    library.has_kdf = kdf && strcmp(OSSL_PROVIDER_get0_name(EVP_KDF_get0_provider(kdf)),
                                    WEIR__OPENSSL_PROVIDER) == 0;
    EVP_KDF_free(kdf);
    return true;
}

static bool hash_load(enum weir__tls_hash hash, const char *name)
{
    EVP_MD *digest = EVP_MD_fetch(library.context, name, NULL);

    library.hashes[hash] = digest;
    return digest && EVP_Digest("", 0, library.hash_of_nothing[hash], NULL, digest, NULL) == 1;
}

/* OpenSSL without a method, as some builds are, has no such cipher; the others serve. */
static EVP_CIPHER *cipher_load(const char *name)
{
    return EVP_CIPHER_fetch(library.context, name, NULL);
}

/* Kept until the process ends. */
static void library_load(void)
{
    if (!context_load())
        goto out;
    library.aeads[WEIR__TLS_AES_128_GCM] = cipher_load("AES-128-GCM");
    library.aeads[WEIR__TLS_AES_256_GCM] = cipher_load("AES-256-GCM");
    library.aeads[WEIR__TLS_CHACHA20_POLY1305] = cipher_load("ChaCha20-Poly1305");
    library.ticket_cipher = cipher_load("AES-256-CBC");
    library.transport = weir__openssl_transport_new();
    library.handshake_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    library.context_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    library_is_usable = hash_load(WEIR__TLS_SHA256, "SHA256") &&
                        hash_load(WEIR__TLS_SHA384, "SHA384") && library.ticket_cipher &&
                        library.transport && library.handshake_index >= 0 &&
                        library.context_index >= 0;
out:
    ERR_clear_error();
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
