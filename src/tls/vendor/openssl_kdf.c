/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor/openssl_internal.h"

/*
 * TLS 1.3's key schedule for OpenSSL: a provider within this library, whose TLS13-KDF libssl uses in place of
 * OpenSSL's (provider-kdf(7), EVP_KDF-TLS13_KDF(7)). It has two reasons. A handshake asks for some 25 keys,
 * and OpenSSL 3.0 takes 1.3 us for each, mostly to find a hash by its name and to copy contexts; here it is a
 * fourth of that. And the traffic secrets can be taken where they are made: the key log, the other public way
 * to them, prints each of its lines with a sprintf(3) for each byte.
 */

#include <string.h>

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include <weir/error.h>

#include "tls/key_schedule.h"

#define HASH_BLOCK_MAX 128 /* of SHA-384 */

/* ---- HMAC ---- */

static bool hash_feed(EVP_MD_CTX *hasher, const EVP_MD *hash, const uint8_t *first,
                      size_t first_length, const uint8_t *second, size_t second_length,
                      uint8_t *out)
{
    unsigned length;

    return EVP_DigestInit_ex2(hasher, hash, NULL) == 1 &&
           EVP_DigestUpdate(hasher, first, first_length) == 1 &&
           EVP_DigestUpdate(hasher, second, second_length) == 1 &&
           EVP_DigestFinal_ex(hasher, out, &length) == 1;
}

/* `pad`: the key, filled up with zeros (RFC 2104 section 2). It is changed. */
static bool hmac_of_pad(EVP_MD_CTX *hasher, const EVP_MD *hash, uint8_t *pad, size_t pad_length,
                        const uint8_t *data, size_t length, uint8_t *out)
{
    uint8_t inner[WEIR__TLS_HASH_MAX];

    for (size_t i = 0; i < pad_length; i++)
        pad[i] ^= 0x36;
    if (!hash_feed(hasher, hash, pad, pad_length, data, length, inner))
        return false;
    for (size_t i = 0; i < pad_length; i++)
        pad[i] ^= 0x36 ^ 0x5c;
    bool made = hash_feed(hasher, hash, pad, pad_length, inner, (size_t)EVP_MD_get_size(hash), out);
    weir__tls_wipe(inner, sizeof(inner));
    return made;
}

int weir__openssl_hmac(enum weir__tls_hash hash, const uint8_t *key, size_t key_length,
                       const uint8_t *data, size_t length, uint8_t *out)
{
    const struct weir__openssl *library = weir__openssl();
    uint8_t pad[HASH_BLOCK_MAX] = {0};
    EVP_MD_CTX *hasher = library ? EVP_MD_CTX_new() : NULL;
    bool made = false;

    if (hasher) {
        const EVP_MD *digest = library->hashes[hash];
        size_t block = hash == WEIR__TLS_SHA384 ? 128 : 64;
        bool fits = key_length <= block;
        if (fits && key_length > 0)
            memcpy(pad, key, key_length);
        made = (fits || hash_feed(hasher, digest, key, key_length, NULL, 0, pad)) &&
               hmac_of_pad(hasher, digest, pad, block, data, length, out);
    }
    weir__tls_wipe(pad, sizeof(pad));
    EVP_MD_CTX_free(hasher);
    if (!made)
        ERR_clear_error();
    return made ? 0 : WEIR_EIO;
}

/* ---- the function of the provider ---- */

struct bytes {
    const uint8_t *data; /* NULL: it was not given */
    size_t length;
};

/* What OpenSSL's own takes. libssl gives all of it with each call. */
struct request {
    int mode;
    bool has_hash;
    enum weir__tls_hash hash;
    struct bytes key, salt, prefix, label, context;
};

/* libssl's hashes come from the same context as ours, and so does their name. */
static bool hash_named(const OSSL_PARAM *parameter, enum weir__tls_hash *hash)
{
    EVP_MD *const *hashes = weir__openssl()->hashes;
    const char *name;

    if (OSSL_PARAM_get_utf8_string_ptr(parameter, &name) != 1 || !name)
        return false;
    *hash = strcmp(name, EVP_MD_get0_name(hashes[WEIR__TLS_SHA256])) == 0 ? WEIR__TLS_SHA256
                                                                          : WEIR__TLS_SHA384;
    return *hash == WEIR__TLS_SHA256 || EVP_MD_is_a(hashes[WEIR__TLS_SHA384], name) == 1;
}

static bool bytes_take(const OSSL_PARAM *parameter, struct bytes *bytes)
{
    const void *data;

    if (OSSL_PARAM_get_octet_string_ptr(parameter, &data, &bytes->length) != 1)
        return false;
    bytes->data = data;
    return true;
}

static bool parameter_take(const OSSL_PARAM *parameter, struct request *request)
{
    const char *name = parameter->key;

    if (strcmp(name, OSSL_KDF_PARAM_MODE) == 0)
        return OSSL_PARAM_get_int(parameter, &request->mode) == 1;
    if (strcmp(name, OSSL_KDF_PARAM_DIGEST) == 0)
        return request->has_hash = hash_named(parameter, &request->hash);
    if (strcmp(name, OSSL_KDF_PARAM_KEY) == 0)
        return bytes_take(parameter, &request->key);
    if (strcmp(name, OSSL_KDF_PARAM_SALT) == 0)
        return bytes_take(parameter, &request->salt);
    if (strcmp(name, OSSL_KDF_PARAM_PREFIX) == 0)
        return bytes_take(parameter, &request->prefix);
    if (strcmp(name, OSSL_KDF_PARAM_LABEL) == 0)
        return bytes_take(parameter, &request->label);
    if (strcmp(name, OSSL_KDF_PARAM_DATA) == 0)
        return bytes_take(parameter, &request->context);
    return true;
}

static bool is_text(const struct bytes *bytes, const char *text)
{
    return bytes->length == strlen(text) && memcmp(bytes->data, text, bytes->length) == 0;
}

static int expand(const struct request *request, const uint8_t *secret, const struct bytes *context,
                  uint8_t *out, size_t length)
{
    const struct weir__tls_label label = {
        .text = (const char *)request->label.data,
        .length = request->label.length,
        .context = context->data,
        .context_length = context->length,
    };

    if (!is_text(&request->prefix, "tls13 ") || label.length > WEIR__TLS_LABEL_MAX ||
        label.context_length > WEIR__TLS_HASH_MAX ||
        length > 2 * weir__tls_hash_bytes(request->hash))
        return WEIR_EIO;
    return weir__tls_expand(&weir__tls_openssl, request->hash, secret, &label, out, length);
}

/*
 * HKDF-Extract. `salt` is the secret of the stage before, of which Derive-Secret with the hash of nothing
 * makes the salt; the first stage has none, and a missing key is zeros (RFC 8446 section 7.1).
 */
static int extract(const struct request *request, uint8_t *out)
{
    static const uint8_t zeros[WEIR__TLS_HASH_MAX];
    size_t hash_bytes = weir__tls_hash_bytes(request->hash);
    const struct bytes none = {weir__openssl()->hash_of_nothing[request->hash], hash_bytes};
    const struct bytes *key = &request->key;
    uint8_t salt[WEIR__TLS_HASH_MAX] = {0};
    int error = 0;

    if (request->salt.data && request->salt.length != hash_bytes)
        return WEIR_EIO;
    if (request->salt.data)
        error = expand(request, request->salt.data, &none, salt, hash_bytes);
    if (!error)
        error = weir__openssl_hmac(request->hash, salt, hash_bytes, key->data ? key->data : zeros,
                                   key->data ? key->length : hash_bytes, out);
    weir__tls_wipe(salt, sizeof(salt));
    return error;
}

static int derive(void *context, unsigned char *out, size_t length, const OSSL_PARAM *parameters)
{
    struct request request = {.mode = -1};

    (void)context;
    for (const OSSL_PARAM *parameter = parameters; parameter && parameter->key; parameter++) {
        if (!parameter_take(parameter, &request))
            return 0;
    }
    if (!request.has_hash)
        return 0;
    size_t hash_bytes = weir__tls_hash_bytes(request.hash);
    if (request.mode == EVP_KDF_HKDF_MODE_EXTRACT_ONLY && length == hash_bytes)
        return extract(&request, out) == 0;
    if (request.mode != EVP_KDF_HKDF_MODE_EXPAND_ONLY || request.key.length != hash_bytes ||
        expand(&request, request.key.data, &request.context, out, length) != 0)
        return 0;
    if (is_text(&request.label, "c ap traffic"))
        weir__openssl_secret_made(false, out, length);
    else if (is_text(&request.label, "s ap traffic"))
        weir__openssl_secret_made(true, out, length);
    return 1;
}

/* It keeps nothing between two calls: its context is whatever is not NULL. */
static void *context_new(void *provider)
{
    return provider;
}

static void context_free(void *context)
{
    (void)context;
}

/* ---- the provider ---- */

static const OSSL_ALGORITHM *query(void *provider, int operation, int *no_store)
{
    static const OSSL_DISPATCH functions[] = {
        {OSSL_FUNC_KDF_NEWCTX, (void (*)(void))context_new},
        {OSSL_FUNC_KDF_FREECTX, (void (*)(void))context_free},
        {OSSL_FUNC_KDF_DERIVE, (void (*)(void))derive},
        {0, NULL},
    };
    static const OSSL_ALGORITHM kdfs[] = {
        {OSSL_KDF_NAME_TLS1_3_KDF, WEIR__OPENSSL_DEFINITION, functions, NULL},
        {NULL, NULL, NULL, NULL},
    };

    (void)provider;
    *no_store = 0;
    return operation == OSSL_OP_KDF ? kdfs : NULL;
}

int weir__openssl_provider_init(const OSSL_CORE_HANDLE *core, const OSSL_DISPATCH *offered,
                                const OSSL_DISPATCH **functions, void **provider)
{
    static const OSSL_DISPATCH ours[] = {
        {OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query},
        {0, NULL},
    };
    static char nothing;

    (void)core;
    (void)offered;
    *functions = ours;
    *provider = &nothing;
    return 1;
}
