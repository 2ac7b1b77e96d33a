/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor/mbedtls_internal.h"

/* Primitives: AEADs, HMAC, and a certificate to begin with. */

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <mbedtls/asn1write.h>
#include <mbedtls/base64.h>
#include <mbedtls/chachapoly.h>
#include <mbedtls/gcm.h>
#include <mbedtls/md.h>
#include <mbedtls/oid.h>

#include <weir/error.h>

#include "core/memory.h"

/* The key is scheduled once; a record sets its nonce alone. */
struct weir__tls_aead {
    enum weir__tls_cipher cipher;
    union {
        mbedtls_gcm_context gcm;
        mbedtls_chachapoly_context chachapoly;
    };
};

static int aead_init(struct weir__tls_aead *aead, const uint8_t *key)
{
    if (aead->cipher == WEIR__TLS_CHACHA20_POLY1305) {
        mbedtls_chachapoly_init(&aead->chachapoly);
        return mbedtls_chachapoly_setkey(&aead->chachapoly, key);
    }
    mbedtls_gcm_init(&aead->gcm);
    return mbedtls_gcm_setkey(&aead->gcm, MBEDTLS_CIPHER_ID_AES, key,
                              (unsigned)weir__tls_key_bytes(aead->cipher) * 8);
}

int weir__mbedtls_aead_new(struct weir__tls_aead **aead_out, enum weir__tls_cipher cipher,
                           const uint8_t *key, bool seal)
{
    (void)seal; /* one context does both */
    if (cipher < WEIR__TLS_AES_128_GCM || cipher > WEIR__TLS_CHACHA20_POLY1305)
        return WEIR_ENOTSUP;
    struct weir__tls_aead *aead = weir__allocate_zeroed(1, sizeof(*aead));
    if (!aead)
        return WEIR_ENOMEM;
    aead->cipher = cipher;
    if (aead_init(aead, key) != 0) {
        weir__mbedtls_aead_free(aead);
        return WEIR_ENOMEM;
    }
    *aead_out = aead;
    return 0;
}

void weir__mbedtls_aead_free(struct weir__tls_aead *aead)
{
    if (!aead)
        return;
    if (aead->cipher == WEIR__TLS_CHACHA20_POLY1305)
        mbedtls_chachapoly_free(&aead->chachapoly);
    else
        mbedtls_gcm_free(&aead->gcm);
    weir__tls_wipe(aead, sizeof(*aead));
    weir__release(aead);
}

int weir__mbedtls_aead_seal(struct weir__tls_aead *aead, const uint8_t *nonce,
                            const uint8_t *additional, size_t additional_length,
                            const struct iovec *parts, unsigned part_count, uint8_t *out)
{
    const uint8_t *in = out;
    size_t length = 0;
    int rc;

    assert(part_count <= WEIR__TLS_SEAL_PARTS_MAX);
    /* One part is read where it lies. Of several, each but the last would have to be whole blocks. */
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
    if (aead->cipher == WEIR__TLS_CHACHA20_POLY1305)
        rc = mbedtls_chachapoly_encrypt_and_tag(&aead->chachapoly, length, nonce, additional,
                                                additional_length, in, out, out + length);
    else
        rc = mbedtls_gcm_crypt_and_tag(&aead->gcm, MBEDTLS_GCM_ENCRYPT, length, nonce,
                                       WEIR__TLS_NONCE, additional, additional_length, in, out,
                                       WEIR__TLS_TAG, out + length);
    return rc == 0 ? 0 : WEIR_EIO;
}

int weir__mbedtls_aead_open(struct weir__tls_aead *aead, const uint8_t *nonce,
                            const uint8_t *additional, size_t additional_length, const uint8_t *in,
                            size_t length, uint8_t *out)
{
    int rc;

    if (length < WEIR__TLS_TAG)
        return WEIR_ETLS;
    length -= WEIR__TLS_TAG;
    if (aead->cipher == WEIR__TLS_CHACHA20_POLY1305)
        rc = mbedtls_chachapoly_auth_decrypt(&aead->chachapoly, length, nonce, additional,
                                             additional_length, in + length, in, out);
    else
        rc = mbedtls_gcm_auth_decrypt(&aead->gcm, length, nonce, WEIR__TLS_NONCE, additional,
                                      additional_length, in + length, WEIR__TLS_TAG, in, out);
    return rc == 0 ? 0 : WEIR_ETLS;
}

int weir__mbedtls_hmac(enum weir__tls_hash hash, const uint8_t *key, size_t key_length,
                       const uint8_t *data, size_t length, uint8_t *out)
{
    const mbedtls_md_info_t *digest =
        mbedtls_md_info_from_type(hash == WEIR__TLS_SHA384 ? MBEDTLS_MD_SHA384 : MBEDTLS_MD_SHA256);

    return digest && mbedtls_md_hmac(digest, key, key_length, data, length, out) == 0 ? 0
                                                                                      : WEIR_EIO;
}

/* ---- a certificate that signs itself ---- */

#define NAMES_BYTES_MAX 2048

/* DER is written from its end to its start. */
static bool header_write(unsigned char **start, unsigned char *room, size_t length, int tag)
{
    return mbedtls_asn1_write_len(start, room, length) >= 0 &&
           mbedtls_asn1_write_tag(start, room, (unsigned char)tag) >= 0;
}

static bool name_write(unsigned char **start, unsigned char *room, const char *name)
{
    unsigned char address[sizeof(struct in6_addr)];
    const unsigned char *value = (const unsigned char *)name;
    size_t length = strlen(name);
    int tag = MBEDTLS_ASN1_CONTEXT_SPECIFIC | MBEDTLS_X509_SAN_DNS_NAME;

    if (weir__tls_name_kind(name) == WEIR__TLS_NAME_ADDRESS) {
        length = inet_pton(AF_INET, name, address) == 1 ? 4 : 16;
        if (length == 16)
            inet_pton(AF_INET6, name, address);
        value = address;
        tag = MBEDTLS_ASN1_CONTEXT_SPECIFIC | MBEDTLS_X509_SAN_IP_ADDRESS;
    }
    return mbedtls_asn1_write_raw_buffer(start, room, value, length) >= 0 &&
           header_write(start, room, length, tag);
}

/* SubjectAltName (RFC 5280 section 4.2.1.6), which 2.28 does not write. */
static bool names_write(unsigned char **start, unsigned char *room, const char *const *names,
                        unsigned name_count)
{
    const unsigned char *end = *start;

    for (unsigned i = name_count; i-- > 0;) {
        if (!name_write(start, room, names[i]))
            return false;
    }
    return header_write(start, room, (size_t)(end - *start),
                        MBEDTLS_ASN1_CONSTRUCTED | MBEDTLS_ASN1_SEQUENCE);
}

static bool extensions_set(mbedtls_x509write_cert *leaf, const char *const *names,
                           unsigned name_count)
{
    /* A sequence of two: serverAuth, clientAuth (RFC 5280 section 4.2.1.12). */
    static const unsigned char purposes[] = "\x30\x14\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01"
                                            "\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02";
    unsigned char room[NAMES_BYTES_MAX];
    unsigned char *end = room + sizeof(room), *start = end;

    return names_write(&start, room, names, name_count) &&
           mbedtls_x509write_crt_set_extension(leaf, MBEDTLS_OID_SUBJECT_ALT_NAME,
                                               MBEDTLS_OID_SIZE(MBEDTLS_OID_SUBJECT_ALT_NAME), 0,
                                               start, (size_t)(end - start)) == 0 &&
           mbedtls_x509write_crt_set_extension(leaf, MBEDTLS_OID_EXTENDED_KEY_USAGE,
                                               MBEDTLS_OID_SIZE(MBEDTLS_OID_EXTENDED_KEY_USAGE), 0,
                                               purposes, sizeof(purposes) - 1) == 0 &&
           mbedtls_x509write_crt_set_basic_constraints(leaf, 1, 0) == 0 &&
           mbedtls_x509write_crt_set_key_usage(leaf, MBEDTLS_X509_KU_DIGITAL_SIGNATURE |
                                                         MBEDTLS_X509_KU_KEY_CERT_SIGN) == 0 &&
           mbedtls_x509write_crt_set_subject_key_identifier(leaf) == 0;
}

static bool validity_set(mbedtls_x509write_cert *leaf, unsigned days)
{
    time_t now = time(NULL), from = now - 3600, until = now + (time_t)days * 86400;
    struct tm broken;
    char from_text[16], until_text[16];

    return gmtime_r(&from, &broken) &&
           strftime(from_text, sizeof(from_text), "%Y%m%d%H%M%S", &broken) == 14 &&
           gmtime_r(&until, &broken) &&
           strftime(until_text, sizeof(until_text), "%Y%m%d%H%M%S", &broken) == 14 &&
           mbedtls_x509write_crt_set_validity(leaf, from_text, until_text) == 0;
}

static bool identity_set(mbedtls_x509write_cert *leaf, const char *name,
                         mbedtls_ctr_drbg_context *random)
{
    char subject[3 + 64 + 1]; /* what X.520 allows; the whole names are an extension */
    unsigned char bytes[16];
    mbedtls_mpi serial;

    snprintf(subject, sizeof(subject), "CN=%s", name);
    mbedtls_mpi_init(&serial);
    bool set = mbedtls_ctr_drbg_random(random, bytes, sizeof(bytes)) == 0;
    bytes[0] = (uint8_t)((bytes[0] & 0x7f) | 0x40); /* positive, and not shorter */
    set = set && mbedtls_mpi_read_binary(&serial, bytes, sizeof(bytes)) == 0 &&
          mbedtls_x509write_crt_set_serial(leaf, &serial) == 0 &&
          mbedtls_x509write_crt_set_subject_name(leaf, subject) == 0 &&
          mbedtls_x509write_crt_set_issuer_name(leaf, subject) == 0;
    mbedtls_mpi_free(&serial);
    return set;
}

/*
 * A CA of its own, as most programs make it: some libraries trust no other certificate that is put
 * among the trusted ones.
 */
static int certificate_write(mbedtls_pk_context *key, mbedtls_ctr_drbg_context *random,
                             const char *const *names, unsigned name_count, unsigned days,
                             char *text, size_t size)
{
    mbedtls_x509write_cert leaf;
    int rc = MBEDTLS_ERR_ERROR_GENERIC_ERROR;

    mbedtls_x509write_crt_init(&leaf);
    mbedtls_x509write_crt_set_version(&leaf, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&leaf, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&leaf, key);
    mbedtls_x509write_crt_set_issuer_key(&leaf, key);
    if (identity_set(&leaf, names[0], random) && validity_set(&leaf, days) &&
        extensions_set(&leaf, names, name_count))
        rc = mbedtls_x509write_crt_pem(&leaf, (unsigned char *)text, size, mbedtls_ctr_drbg_random,
                                       random);
    mbedtls_x509write_crt_free(&leaf);
    return rc;
}

static bool names_are_good(const char *const *names, unsigned name_count)
{
    for (unsigned i = 0; i < name_count; i++) {
        const char *name = strncmp(names[i], "*.", 2) == 0 ? names[i] + 2 : names[i];
        if (weir__tls_name_kind(name) == WEIR__TLS_NAME_WRONG)
            return false;
    }
    return name_count > 0;
}

int weir__mbedtls_self_signed(const char *const *names, unsigned name_count, unsigned days,
                              char *certificate, size_t certificate_size, char *key_text,
                              size_t key_size)
{
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    mbedtls_pk_context key;
    int rc = MBEDTLS_ERR_ERROR_GENERIC_ERROR;

    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&random);
    mbedtls_pk_init(&key);
    if (names_are_good(names, name_count) &&
        mbedtls_ctr_drbg_seed(&random, mbedtls_entropy_func, &entropy, NULL, 0) == 0 &&
        mbedtls_pk_setup(&key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)) == 0 &&
        mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(key), mbedtls_ctr_drbg_random,
                            &random) == 0)
        rc = certificate_write(&key, &random, names, name_count, days, certificate,
                               certificate_size);
    if (rc == 0)
        rc = mbedtls_pk_write_key_pem(&key, (unsigned char *)key_text, key_size);
    mbedtls_pk_free(&key);
    mbedtls_ctr_drbg_free(&random);
    mbedtls_entropy_free(&entropy);
    if (rc == MBEDTLS_ERR_BASE64_BUFFER_TOO_SMALL || rc == MBEDTLS_ERR_ASN1_BUF_TOO_SMALL)
        return WEIR_ENOBUFS;
    return rc == 0 ? 0 : WEIR_EIO;
}
