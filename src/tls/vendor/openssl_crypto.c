/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor/openssl_internal.h"

/* Primitives: AEADs, and a certificate to begin with. */

#include <assert.h>
#include <string.h>

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <weir/error.h>

#include "core/memory.h"

/* The key is scheduled once; a record sets its nonce alone. */
struct weir__tls_aead {
    EVP_CIPHER_CTX *cipher;
    bool seal;
};

int weir__openssl_aead_new(struct weir__tls_aead **aead_out, enum weir__tls_cipher cipher,
                           const uint8_t *key, bool seal)
{
    const struct weir__openssl *library = weir__openssl();

    if (!library || cipher < WEIR__TLS_AES_128_GCM || cipher > WEIR__TLS_CHACHA20_POLY1305 ||
        !library->aeads[cipher])
        return WEIR_ENOTSUP;
    struct weir__tls_aead *aead = weir__allocate(sizeof(*aead));
    if (!aead)
        return WEIR_ENOMEM;
    aead->seal = seal;
    aead->cipher = EVP_CIPHER_CTX_new();
    /* The nonce's length is by default what TLS has: 12. */
    if (!aead->cipher ||
        EVP_CipherInit_ex2(aead->cipher, library->aeads[cipher], key, NULL, seal, NULL) != 1) {
        weir__openssl_aead_free(aead);
        ERR_clear_error();
        return WEIR_ENOMEM;
    }
    *aead_out = aead;
    return 0;
}

void weir__openssl_aead_free(struct weir__tls_aead *aead)
{
    if (!aead)
        return;
    EVP_CIPHER_CTX_free(aead->cipher);
    weir__release(aead);
}

static bool aead_start(struct weir__tls_aead *aead, const uint8_t *nonce, const uint8_t *additional,
                       size_t additional_length)
{
    int length;

    return EVP_CipherInit_ex2(aead->cipher, NULL, NULL, nonce, aead->seal, NULL) == 1 &&
           (additional_length == 0 ||
            EVP_CipherUpdate(aead->cipher, NULL, &length, additional, (int)additional_length) == 1);
}

int weir__openssl_aead_seal(struct weir__tls_aead *aead, const uint8_t *nonce,
                            const uint8_t *additional, size_t additional_length,
                            const struct iovec *parts, unsigned part_count, uint8_t *out)
{
    int length;

    assert(aead->seal);
    if (!aead_start(aead, nonce, additional, additional_length))
        goto failed;
    for (unsigned i = 0; i < part_count; i++) {
        if (parts[i].iov_len == 0)
            continue;
        if (EVP_EncryptUpdate(aead->cipher, out, &length, parts[i].iov_base,
                              (int)parts[i].iov_len) != 1)
            goto failed;
        assert((size_t)length == parts[i].iov_len); /* stream ciphers hold nothing back */
        out += length;
    }
    if (EVP_EncryptFinal_ex(aead->cipher, out, &length) == 1 &&
        EVP_CIPHER_CTX_ctrl(aead->cipher, EVP_CTRL_AEAD_GET_TAG, WEIR__TLS_TAG, out) == 1)
        return 0;
failed:
    ERR_clear_error();
    return WEIR_EIO;
}

int weir__openssl_aead_open(struct weir__tls_aead *aead, const uint8_t *nonce,
                            const uint8_t *additional, size_t additional_length, const uint8_t *in,
                            size_t length, uint8_t *out)
{
    int taken = 0, rest;
    uint8_t tag[WEIR__TLS_TAG];

    assert(!aead->seal);
    if (length < WEIR__TLS_TAG)
        return WEIR_ETLS;
    length -= WEIR__TLS_TAG;
    memcpy(tag, in + length, WEIR__TLS_TAG); /* the control takes memory that is not const */
    if (!aead_start(aead, nonce, additional, additional_length) ||
        (length > 0 && EVP_DecryptUpdate(aead->cipher, out, &taken, in, (int)length) != 1) ||
        EVP_CIPHER_CTX_ctrl(aead->cipher, EVP_CTRL_AEAD_SET_TAG, WEIR__TLS_TAG, tag) != 1 ||
        EVP_DecryptFinal_ex(aead->cipher, out + taken, &rest) != 1) {
        ERR_clear_error();
        return WEIR_ETLS;
    }
    return 0;
}

/* ---- a certificate that signs itself ---- */

static bool extension_add(X509 *leaf, int nid, const char *value)
{
    X509V3_CTX context;

    X509V3_set_ctx(&context, leaf, leaf, NULL, NULL, 0);
    X509V3_set_ctx_nodb(&context);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool added = extension && X509_add_ext(leaf, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return added;
}

/* Not by X509V3_EXT_conf_nid: commas in a name would have a meaning there. */
static bool name_add(GENERAL_NAMES *names, const char *name)
{
    bool address = weir__tls_name_kind(name) == WEIR__TLS_NAME_ADDRESS;
    GENERAL_NAME *general = GENERAL_NAME_new();
    ASN1_STRING *value = NULL;

    if (address) {
        value = a2i_IPADDRESS(name);
    } else {
        value = ASN1_IA5STRING_new();
        if (value && ASN1_STRING_set(value, name, -1) != 1) {
            ASN1_STRING_free(value);
            value = NULL;
        }
    }
    if (!general || !value || sk_GENERAL_NAME_push(names, general) == 0) {
        GENERAL_NAME_free(general);
        ASN1_STRING_free(value);
        return false;
    }
    GENERAL_NAME_set0_value(general, address ? GEN_IPADD : GEN_DNS, value);
    return true;
}

static bool names_add(X509 *leaf, const char *const *names, unsigned name_count)
{
    GENERAL_NAMES *general = GENERAL_NAMES_new();
    bool added = general != NULL;

    for (unsigned i = 0; added && i < name_count; i++)
        added = name_add(general, names[i]);
    added = added && X509_add1_ext_i2d(leaf, NID_subject_alt_name, general, 0, 0) == 1;
    GENERAL_NAMES_free(general);
    return added;
}

static bool serial_set(X509 *leaf)
{
    BIGNUM *serial = BN_new();
    /* 64 bits of it are random, as CAs must have it. */
    bool set = serial && BN_rand(serial, 127, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ODD) == 1 &&
               BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(leaf));

    BN_free(serial);
    return set;
}

/*
 * A CA of its own, as "openssl req -x509" makes it: some libraries trust no other certificate that is
 * put among the trusted ones.
 */
static X509 *certificate_make(EVP_PKEY *key, const char *const *names, unsigned name_count,
                              unsigned days)
{
    X509 *leaf = X509_new();
    X509_NAME *subject = leaf ? X509_get_subject_name(leaf) : NULL;

    if (!subject || X509_set_version(leaf, X509_VERSION_3) != 1 || !serial_set(leaf) ||
        !X509_gmtime_adj(X509_getm_notBefore(leaf), -3600) ||
        !X509_gmtime_adj(X509_getm_notAfter(leaf), (long)days * 86400 - 3600) ||
        X509_set_pubkey(leaf, key) != 1 ||
        /* 64 characters are what X.520 allows; the whole names are below. */
        X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_ASC,
                                   (const unsigned char *)names[0],
                                   (int)strnlen(names[0], ub_common_name), -1, 0) != 1 ||
        X509_set_issuer_name(leaf, subject) != 1 || !names_add(leaf, names, name_count) ||
        !extension_add(leaf, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
        !extension_add(leaf, NID_key_usage, "critical,digitalSignature,keyCertSign") ||
        !extension_add(leaf, NID_ext_key_usage, "serverAuth,clientAuth") ||
        !extension_add(leaf, NID_subject_key_identifier, "hash") ||
        X509_sign(leaf, key, EVP_sha256()) == 0) {
        X509_free(leaf);
        return NULL;
    }
    return leaf;
}

static int text_copy(BIO *memory, char *text, size_t size)
{
    char *data;
    long length = BIO_get_mem_data(memory, &data);

    if (length <= 0)
        return WEIR_EIO;
    if ((size_t)length >= size)
        return WEIR_ENOBUFS;
    memcpy(text, data, (size_t)length);
    text[length] = '\0';
    return 0;
}

int weir__openssl_self_signed(const char *const *names, unsigned name_count, unsigned days,
                              char *certificate, size_t certificate_size, char *key_text,
                              size_t key_size)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *leaf = key && name_count > 0 ? certificate_make(key, names, name_count, days) : NULL;
    BIO *leaf_memory = BIO_new(BIO_s_mem());
    BIO *key_memory = BIO_new(BIO_s_secmem()); /* wiped when it is freed */
    int rc = WEIR_EIO;

    if (leaf && leaf_memory && key_memory && PEM_write_bio_X509(leaf_memory, leaf) == 1 &&
        PEM_write_bio_PKCS8PrivateKey(key_memory, key, NULL, NULL, 0, NULL, NULL) == 1) {
        rc = text_copy(leaf_memory, certificate, certificate_size);
        if (rc == 0)
            rc = text_copy(key_memory, key_text, key_size);
    }
    BIO_free(key_memory);
    BIO_free(leaf_memory);
    X509_free(leaf);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return rc;
}
