/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor/gnutls_internal.h"

/* Primitives: AEADs, HMAC, and a certificate to begin with. */

#include <arpa/inet.h>
#include <assert.h>
#include <string.h>
#include <time.h>

#include <gnutls/crypto.h>

#include <weir/error.h>

#include "core/memory.h"

/* The key is scheduled once; a record sets its nonce alone. */
struct weir__tls_aead {
    gnutls_aead_cipher_hd_t handle;
};

static gnutls_cipher_algorithm_t algorithm(enum weir__tls_cipher cipher)
{
    switch (cipher) {
    case WEIR__TLS_AES_128_GCM:
        return GNUTLS_CIPHER_AES_128_GCM;
    case WEIR__TLS_AES_256_GCM:
        return GNUTLS_CIPHER_AES_256_GCM;
    case WEIR__TLS_CHACHA20_POLY1305:
        return GNUTLS_CIPHER_CHACHA20_POLY1305;
    case WEIR__TLS_CIPHER_NONE:
        break;
    }
    return GNUTLS_CIPHER_UNKNOWN;
}

int weir__gnutls_aead_new(struct weir__tls_aead **aead_out, enum weir__tls_cipher cipher,
                          const uint8_t *key, bool seal)
{
    gnutls_datum_t key_datum = {(uint8_t *)key, (unsigned)weir__tls_key_bytes(cipher)};

    (void)seal; /* one handle does both */
    if (algorithm(cipher) == GNUTLS_CIPHER_UNKNOWN)
        return WEIR_ENOTSUP;
    struct weir__tls_aead *aead = weir__allocate(sizeof(*aead));
    if (!aead)
        return WEIR_ENOMEM;
    int rc = gnutls_aead_cipher_init(&aead->handle, algorithm(cipher), &key_datum);
    if (rc < 0) {
        weir__release(aead);
        return rc == GNUTLS_E_MEMORY_ERROR ? WEIR_ENOMEM : WEIR_ENOTSUP;
    }
    *aead_out = aead;
    return 0;
}

void weir__gnutls_aead_free(struct weir__tls_aead *aead)
{
    if (!aead)
        return;
    gnutls_aead_cipher_deinit(aead->handle); /* wipes */
    weir__release(aead);
}

int weir__gnutls_aead_seal(struct weir__tls_aead *aead, const uint8_t *nonce,
                           const uint8_t *additional, size_t additional_length,
                           const struct iovec *parts, unsigned part_count, uint8_t *out)
{
    const uint8_t *in = out;
    size_t length = 0;

    assert(part_count <= WEIR__TLS_SEAL_PARTS_MAX);
    /* One part is read where it lies. Of several GnuTLS itself would make one, in a buffer of its own. */
    if (part_count == 1) {
        in = parts[0].iov_base;
        length = parts[0].iov_len;
    } else {
        for (unsigned i = 0; i < part_count; i++) {
            if (parts[i].iov_len > 0 && parts[i].iov_base != out + length)
                memcpy(out + length, parts[i].iov_base, parts[i].iov_len);
            length += parts[i].iov_len;
        }
    }
    size_t out_length = length + WEIR__TLS_TAG;
    return gnutls_aead_cipher_encrypt(aead->handle, nonce, WEIR__TLS_NONCE, additional,
                                      additional_length, WEIR__TLS_TAG, in, length, out,
                                      &out_length) < 0
               ? WEIR_EIO
               : 0;
}

int weir__gnutls_aead_open(struct weir__tls_aead *aead, const uint8_t *nonce,
                           const uint8_t *additional, size_t additional_length, const uint8_t *in,
                           size_t length, uint8_t *out)
{
    if (length < WEIR__TLS_TAG)
        return WEIR_ETLS;
    size_t out_length = length - WEIR__TLS_TAG;
    return gnutls_aead_cipher_decrypt(aead->handle, nonce, WEIR__TLS_NONCE, additional,
                                      additional_length, WEIR__TLS_TAG, in, length, out,
                                      &out_length) < 0
               ? WEIR_ETLS
               : 0;
}

int weir__gnutls_hmac(enum weir__tls_hash hash, const uint8_t *key, size_t key_length,
                      const uint8_t *data, size_t length, uint8_t *out)
{
    gnutls_mac_algorithm_t mac = hash == WEIR__TLS_SHA384 ? GNUTLS_MAC_SHA384 : GNUTLS_MAC_SHA256;

    return gnutls_hmac_fast(mac, key, key_length, data, length, out) < 0 ? WEIR_EIO : 0;
}

/* ---- a certificate that signs itself ---- */

static int name_add(gnutls_x509_crt_t leaf, const char *name)
{
    uint8_t address[sizeof(struct in6_addr)];

    if (inet_pton(AF_INET, name, address) == 1)
        return gnutls_x509_crt_set_subject_alt_name(leaf, GNUTLS_SAN_IPADDRESS, address, 4,
                                                    GNUTLS_FSAN_APPEND);
    if (inet_pton(AF_INET6, name, address) == 1)
        return gnutls_x509_crt_set_subject_alt_name(leaf, GNUTLS_SAN_IPADDRESS, address, 16,
                                                    GNUTLS_FSAN_APPEND);
    return gnutls_x509_crt_set_subject_alt_name(leaf, GNUTLS_SAN_DNSNAME, name,
                                                (unsigned)strlen(name), GNUTLS_FSAN_APPEND);
}

static bool identity_set(gnutls_x509_crt_t leaf, const char *const *names, unsigned name_count)
{
    uint8_t serial[16];
    size_t name_length = strnlen(names[0], 64); /* what X.520 allows; the whole names are below */

    if (gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof(serial)) < 0)
        return false;
    serial[0] = (uint8_t)((serial[0] & 0x7f) | 0x40); /* positive, and not shorter */
    if (gnutls_x509_crt_set_serial(leaf, serial, sizeof(serial)) < 0 ||
        gnutls_x509_crt_set_dn_by_oid(leaf, GNUTLS_OID_X520_COMMON_NAME, 0, names[0],
                                      (unsigned)name_length) < 0)
        return false;
    for (unsigned i = 0; i < name_count; i++) {
        if (name_add(leaf, names[i]) < 0)
            return false;
    }
    return true;
}

/*
 * A CA of its own, as most programs make it: some libraries trust no other certificate that is put
 * among the trusted ones.
 */
static bool certificate_fill(gnutls_x509_crt_t leaf, gnutls_x509_privkey_t key,
                             const char *const *names, unsigned name_count, unsigned days)
{
    uint8_t key_id[20];
    size_t key_id_length = sizeof(key_id);
    time_t now = time(NULL);

    return gnutls_x509_crt_set_version(leaf, 3) >= 0 && identity_set(leaf, names, name_count) &&
           gnutls_x509_crt_set_activation_time(leaf, now - 3600) >= 0 &&
           gnutls_x509_crt_set_expiration_time(leaf, now + (time_t)days * 86400) >= 0 &&
           gnutls_x509_crt_set_key(leaf, key) >= 0 &&
           gnutls_x509_crt_set_basic_constraints(leaf, 1, 0) >= 0 &&
           gnutls_x509_crt_set_key_usage(leaf, GNUTLS_KEY_DIGITAL_SIGNATURE |
                                                   GNUTLS_KEY_KEY_CERT_SIGN) >= 0 &&
           gnutls_x509_crt_set_key_purpose_oid(leaf, GNUTLS_KP_TLS_WWW_SERVER, 0) >= 0 &&
           gnutls_x509_crt_set_key_purpose_oid(leaf, GNUTLS_KP_TLS_WWW_CLIENT, 0) >= 0 &&
           gnutls_x509_crt_get_key_id(leaf, GNUTLS_KEYID_USE_SHA1, key_id, &key_id_length) >= 0 &&
           gnutls_x509_crt_set_subject_key_id(leaf, key_id, key_id_length) >= 0 &&
           gnutls_x509_crt_sign2(leaf, leaf, key, GNUTLS_DIG_SHA256, 0) >= 0;
}

static int text_copy(const gnutls_datum_t *from, char *text, size_t size)
{
    if (from->size >= size)
        return WEIR_ENOBUFS;
    memcpy(text, from->data, from->size);
    text[from->size] = '\0';
    return 0;
}

static int texts_write(gnutls_x509_crt_t leaf, gnutls_x509_privkey_t key, char *certificate,
                       size_t certificate_size, char *key_text, size_t key_size)
{
    gnutls_datum_t leaf_pem = {NULL, 0}, key_pem = {NULL, 0};
    int rc = WEIR_EIO;

    if (gnutls_x509_crt_export2(leaf, GNUTLS_X509_FMT_PEM, &leaf_pem) >= 0 &&
        gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN,
                                          &key_pem) >= 0) {
        rc = text_copy(&leaf_pem, certificate, certificate_size);
        if (rc == 0)
            rc = text_copy(&key_pem, key_text, key_size);
    }
    if (key_pem.data)
        weir__tls_wipe(key_pem.data, key_pem.size);
    gnutls_free(key_pem.data);
    gnutls_free(leaf_pem.data);
    return rc;
}

int weir__gnutls_self_signed(const char *const *names, unsigned name_count, unsigned days,
                             char *certificate, size_t certificate_size, char *key_text,
                             size_t key_size)
{
    gnutls_x509_crt_t leaf = NULL;
    gnutls_x509_privkey_t key = NULL;
    int rc = WEIR_EIO;

    if (name_count > 0 && gnutls_x509_crt_init(&leaf) >= 0 && gnutls_x509_privkey_init(&key) >= 0 &&
        gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                     GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0) >= 0 &&
        certificate_fill(leaf, key, names, name_count, days))
        rc = texts_write(leaf, key, certificate, certificate_size, key_text, key_size);
    if (key)
        gnutls_x509_privkey_deinit(key);
    if (leaf)
        gnutls_x509_crt_deinit(leaf);
    return rc;
}
