/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor/wolfssl_internal.h"

/* Primitives: AEADs, HMAC, and a certificate to begin with. */

#include <arpa/inet.h>
#include <assert.h>
#include <string.h>
#include <time.h>

#include <weir/error.h>

#include "core/memory.h"

struct weir__tls_aead {
    bool chacha, seal;
    uint8_t key[WEIR__TLS_KEY_MAX]; /* of CHACHA20-POLY1305, which has no schedule to keep */
    Aes aes;
};

int weir__wolfssl_aead_new(struct weir__tls_aead **aead_out, enum weir__tls_cipher cipher,
                           const uint8_t *key, bool seal)
{
    if (cipher < WEIR__TLS_AES_128_GCM || cipher > WEIR__TLS_CHACHA20_POLY1305)
        return WEIR_ENOTSUP;
    /* The library wants its tables aligned for SIMD. */
    size_t size = (sizeof(struct weir__tls_aead) + 63) / 64 * 64;
    struct weir__tls_aead *aead = weir__allocate_aligned(64, size);
    if (!aead)
        return WEIR_ENOMEM;
    memset(aead, 0, sizeof(*aead));
    aead->chacha = cipher == WEIR__TLS_CHACHA20_POLY1305;
    aead->seal = seal;
    if (aead->chacha) {
        memcpy(aead->key, key, WEIR__TLS_KEY_MAX);
    } else if (wc_AesInit(&aead->aes, NULL, INVALID_DEVID) != 0 ||
               wc_AesGcmSetKey(&aead->aes, key, (word32)weir__tls_key_bytes(cipher)) != 0) {
        weir__wolfssl_aead_free(aead);
        return WEIR_ENOMEM;
    }
    *aead_out = aead;
    return 0;
}

void weir__wolfssl_aead_free(struct weir__tls_aead *aead)
{
    if (!aead)
        return;
    if (!aead->chacha)
        wc_AesFree(&aead->aes);
    weir__tls_wipe(aead, sizeof(*aead));
    weir__release(aead);
}

/*
 * Brings the parts together where they are encrypted. Encrypting part by part would save this copy, but
 * it costs a fraction of what wolfSSL takes, and it has no such call for CHACHA20-POLY1305 in place.
 */
static size_t parts_gather(const struct iovec *parts, unsigned part_count, uint8_t *out)
{
    size_t length = 0;

    for (unsigned i = 0; i < part_count; i++) {
        if (parts[i].iov_len > 0 && parts[i].iov_base != out + length)
            memcpy(out + length, parts[i].iov_base, parts[i].iov_len);
        length += parts[i].iov_len;
    }
    return length;
}

int weir__wolfssl_aead_seal(struct weir__tls_aead *aead, const uint8_t *nonce,
                            const uint8_t *additional, size_t additional_length,
                            const struct iovec *parts, unsigned part_count, uint8_t *out)
{
    const uint8_t *in = out;
    size_t length;
    int rc;

    assert(aead->seal);
    if (part_count == 1) {
        in = parts[0].iov_base;
        length = parts[0].iov_len;
    } else {
        length = parts_gather(parts, part_count, out);
    }
    if (aead->chacha)
        rc = wc_ChaCha20Poly1305_Encrypt(aead->key, nonce, additional, (word32)additional_length,
                                         in, (word32)length, out, out + length);
    else
        rc = wc_AesGcmEncrypt(&aead->aes, out, in, (word32)length, nonce, WEIR__TLS_NONCE,
                              out + length, WEIR__TLS_TAG, additional, (word32)additional_length);
    return rc == 0 ? 0 : WEIR_EIO;
}

int weir__wolfssl_aead_open(struct weir__tls_aead *aead, const uint8_t *nonce,
                            const uint8_t *additional, size_t additional_length, const uint8_t *in,
                            size_t length, uint8_t *out)
{
    const uint8_t *tag;
    int rc;

    assert(!aead->seal);
    if (length < WEIR__TLS_TAG)
        return WEIR_ETLS;
    length -= WEIR__TLS_TAG;
    tag = in + length;
    if (aead->chacha)
        rc = wc_ChaCha20Poly1305_Decrypt(aead->key, nonce, additional, (word32)additional_length,
                                         in, (word32)length, tag, out);
    else
        rc = wc_AesGcmDecrypt(&aead->aes, out, in, (word32)length, nonce, WEIR__TLS_NONCE, tag,
                              WEIR__TLS_TAG, additional, (word32)additional_length);
    return rc == 0 ? 0 : WEIR_ETLS;
}

int weir__wolfssl_hmac(enum weir__tls_hash hash, const uint8_t *key, size_t key_length,
                       const uint8_t *data, size_t length, uint8_t *out)
{
    Hmac hmac;
    int rc = wc_HmacInit(&hmac, NULL, INVALID_DEVID);

    if (rc != 0)
        return WEIR_EIO;
    rc = wc_HmacSetKey(&hmac, hash == WEIR__TLS_SHA384 ? WC_SHA384 : WC_SHA256, key,
                       (word32)key_length);
    if (rc == 0)
        rc = wc_HmacUpdate(&hmac, data, (word32)length);
    if (rc == 0)
        rc = wc_HmacFinal(&hmac, out);
    wc_HmacFree(&hmac);
    return rc == 0 ? 0 : WEIR_EIO;
}

/* ---- a certificate that signs itself ---- */

/* Tags of DER (X.690) that GeneralNames (RFC 5280 section 4.2.1.6) and times need. */
#define DER_SEQUENCE 0x30
#define DER_UTC_TIME 0x17
#define DER_TIME     0x18
#define DER_DNS      0x82
#define DER_ADDRESS  0x87

static size_t der_header(uint8_t tag, size_t length, uint8_t *out)
{
    out[0] = tag;
    if (length < 128) {
        out[1] = (uint8_t)length;
        return 2;
    }
    out[1] = 0x82;
    out[2] = (uint8_t)(length >> 8);
    out[3] = (uint8_t)length;
    return 4;
}

static size_t name_encode(const char *name, uint8_t *out)
{
    uint8_t address[16];
    const void *content = name;
    size_t length = strlen(name);
    uint8_t tag = DER_DNS;

    if (inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1) {
        tag = DER_ADDRESS;
        length = strchr(name, ':') ? 16 : 4;
        content = address;
    }
    size_t header = der_header(tag, length, out);
    memcpy(out + header, content, length);
    return header + length;
}

static bool names_set(Cert *cert, const char *const *names, unsigned name_count)
{
    uint8_t entries[2048];
    size_t length = 0;

    for (unsigned i = 0; i < name_count; i++) {
        if (strlen(names[i]) > 253 || sizeof(entries) - length < 4 + 253)
            return false;
        length += name_encode(names[i], entries + length);
    }
    size_t header = der_header(DER_SEQUENCE, length, cert->altNames);
    memcpy(cert->altNames + header, entries, length);
    cert->altNamesSz = (int)(header + length);
    return true;
}

/* UTCTime until 2049, as RFC 5280 section 4.1.2.5 wants it. */
static int time_encode(time_t when, uint8_t *out)
{
    struct tm parts;
    char text[32];

    gmtime_r(&when, &parts);
    bool late = parts.tm_year >= 150;
    size_t skipped = late ? 0 : 2; /* the century */
    size_t length = strftime(text, sizeof(text), "%Y%m%d%H%M%SZ", &parts) - skipped;
    size_t header = der_header(late ? DER_TIME : DER_UTC_TIME, length, out);
    memcpy(out + header, text + skipped, length);
    return (int)(header + length);
}

/* Returns its length, or a negative number. See the adapter for OpenSSL for why it is a CA. */
static int certificate_make(ecc_key *key, WC_RNG *random, const char *const *names,
                            unsigned name_count, unsigned days, uint8_t *der, size_t size)
{
    Cert *cert = weir__allocate_zeroed(1, sizeof(*cert)); /* of some 30 KB */
    time_t start = time(NULL) - 3600;
    int length = -1;

    if (!cert)
        return -1;
    if (wc_InitCert(cert) == 0 && names_set(cert, names, name_count)) {
        strncpy(cert->subject.commonName, names[0], sizeof(cert->subject.commonName) - 1);
        cert->beforeDateSz = time_encode(start, cert->beforeDate);
        cert->afterDateSz = time_encode(start + (time_t)days * 86400, cert->afterDate);
        cert->isCA = 1;
        cert->sigType = CTC_SHA256wECDSA;
        if (wc_SetKeyUsage(cert, "digitalSignature,keyCertSign") == 0 &&
            wc_SetExtKeyUsage(cert, "serverAuth,clientAuth") == 0 &&
            wc_MakeCert(cert, der, (word32)size, NULL, key, random) > 0)
            length = wc_SignCert(cert->bodySz, cert->sigType, der, (word32)size, NULL, key, random);
    }
    weir__release(cert);
    return length;
}

/* Returns 0, WEIR_ENOBUFS or WEIR_EIO. */
static int text_make(const uint8_t *der, int length, int type, char *text, size_t size)
{
    uint8_t pem[WEIR__TLS_SELF_SIGNED_MAX];
    int rc = 0;
    int pem_length = length > 0 ? wc_DerToPem(der, (word32)length, pem, sizeof(pem), type) : length;

    if (pem_length <= 0)
        return WEIR_EIO;
    if ((size_t)pem_length >= size) {
        rc = WEIR_ENOBUFS;
    } else {
        memcpy(text, pem, (size_t)pem_length);
        text[pem_length] = '\0';
    }
    weir__tls_wipe(pem, sizeof(pem));
    return rc;
}

int weir__wolfssl_self_signed(const char *const *names, unsigned name_count, unsigned days,
                              char *certificate, size_t certificate_size, char *key_text,
                              size_t key_size)
{
    uint8_t der[WEIR__TLS_SELF_SIGNED_MAX];
    WC_RNG random;
    ecc_key key;
    int rc = WEIR_EIO;
    word32 length = sizeof(der);

    if (!weir__wolfssl_is_usable() || name_count == 0 || wc_InitRng(&random) != 0)
        return WEIR_EIO;
    if (wc_ecc_init(&key) != 0) {
        wc_FreeRng(&random);
        return WEIR_EIO;
    }
    if (wc_ecc_make_key_ex(&random, 32, &key, ECC_SECP256R1) == 0)
        rc = text_make(der,
                       certificate_make(&key, &random, names, name_count, days, der, sizeof(der)),
                       CERT_TYPE, certificate, certificate_size);
    if (rc == 0)
        rc = wc_EccKeyToPKCS8(&key, der, &length) > 0
                 ? text_make(der, (int)length, PKCS8_PRIVATEKEY_TYPE, key_text, key_size)
                 : WEIR_EIO;
    weir__tls_wipe(der, sizeof(der));
    wc_ecc_free(&key);
    wc_FreeRng(&random);
    return rc;
}
