/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor/mbedtls_internal.h"

/* Certificates: read from files, and chosen by the name that a client asks for. */

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <mbedtls/oid.h>

#include <weir/error.h>

#include "core/memory.h"

static int file_check(const char *path, struct weir__tls_complaint *complaint)
{
    if (access(path, R_OK) == 0)
        return 0;
    weir__tls_complain(complaint, "cannot read %s: %s", path, strerror(errno));
    return WEIR_EACCESS;
}

static int certificate_read(struct mbedtls_certificate *certificate,
                            const struct weir__tls_certificate *files,
                            struct weir__tls_complaint *complaint)
{
    int rc = file_check(files->certificate_file, complaint);

    if (rc == 0)
        rc = file_check(files->key_file, complaint);
    if (rc != 0)
        return rc;
    int error = mbedtls_x509_crt_parse_file(&certificate->chain, files->certificate_file);
    if (error != 0) { /* above 0: so many that are no certificates */
        weir__tls_complain(complaint, "%s holds %s", files->certificate_file,
                           error > 0 ? "something else among its certificates" : "no certificate");
        return error == MBEDTLS_ERR_X509_ALLOC_FAILED ? WEIR_ENOMEM : WEIR_EINVAL;
    }
    if (mbedtls_pk_parse_keyfile(&certificate->key, files->key_file, NULL) != 0) {
        weir__tls_complain(complaint, "%s holds no private key, or one with a password",
                           files->key_file);
        return WEIR_EINVAL;
    }
    if (mbedtls_pk_check_pair(&certificate->chain.pk, &certificate->key) != 0) {
        weir__tls_complain(complaint, "%s is not the key of %s", files->key_file,
                           files->certificate_file);
        return WEIR_EINVAL;
    }
    return 0;
}

int weir__mbedtls_certificates_read(struct weir__tls_vendor_context *context,
                                    const struct weir__tls_config *config,
                                    struct weir__tls_complaint *complaint)
{
    if (config->certificate_count == 0)
        return 0;
    context->certificates =
        weir__allocate_zeroed(config->certificate_count, sizeof(*context->certificates));
    if (!context->certificates) {
        weir__tls_complain(complaint, "out of memory");
        return WEIR_ENOMEM;
    }
    context->certificate_count = config->certificate_count;
    for (unsigned i = 0; i < config->certificate_count; i++) {
        mbedtls_x509_crt_init(&context->certificates[i].chain);
        mbedtls_pk_init(&context->certificates[i].key);
    }
    for (unsigned i = 0; i < config->certificate_count; i++) {
        int rc = certificate_read(&context->certificates[i], &config->certificates[i], complaint);
        if (rc != 0)
            return rc;
    }
    return 0;
}

void weir__mbedtls_certificates_free(struct weir__tls_vendor_context *context)
{
    for (unsigned i = 0; i < context->certificate_count; i++) {
        mbedtls_x509_crt_free(&context->certificates[i].chain);
        mbedtls_pk_free(&context->certificates[i].key);
    }
    weir__release(context->certificates);
}

/* ---- names ---- */

static bool is_kind(const mbedtls_x509_sequence *name, unsigned kind)
{
    return name->buf.tag == (int)(MBEDTLS_ASN1_CONTEXT_SPECIFIC | kind);
}

/* A wildcard stands for the whole first label and nothing else (RFC 6125 section 6.4.3). */
static bool name_matches(const mbedtls_x509_buf *pattern, const char *name, size_t length)
{
    const char *text = (const char *)pattern->p;
    size_t text_length = pattern->len;

    if (text_length > 2 && text[0] == '*' && text[1] == '.') {
        const char *dot = memchr(name, '.', length);
        if (!dot || dot == name)
            return false;
        text++;
        text_length--;
        length -= (size_t)(dot - name);
        name = dot;
    }
    return text_length == length && strncasecmp(text, name, length) == 0;
}

static bool matches(const mbedtls_x509_crt *leaf, const char *name, size_t length)
{
    if (!(leaf->ext_types & MBEDTLS_X509_EXT_SUBJECT_ALT_NAME))
        return false;
    for (const mbedtls_x509_sequence *at = &leaf->subject_alt_names; at; at = at->next) {
        if (is_kind(at, MBEDTLS_X509_SAN_DNS_NAME) && name_matches(&at->buf, name, length))
            return true;
    }
    return false;
}

bool weir__mbedtls_has_address(const mbedtls_x509_crt *leaf, const char *address)
{
    uint8_t bytes[sizeof(struct in6_addr)];
    size_t length = inet_pton(AF_INET, address, bytes) == 1    ? 4
                    : inet_pton(AF_INET6, address, bytes) == 1 ? 16
                                                               : 0;

    if (length == 0 || !(leaf->ext_types & MBEDTLS_X509_EXT_SUBJECT_ALT_NAME))
        return false;
    for (const mbedtls_x509_sequence *at = &leaf->subject_alt_names; at; at = at->next) {
        if (is_kind(at, MBEDTLS_X509_SAN_IP_ADDRESS) && at->buf.len == length &&
            memcmp(at->buf.p, bytes, length) == 0)
            return true;
    }
    return false;
}

/* Whether it has the same names: then it is the same server's, with a key of another type. */
static bool is_twin(const mbedtls_x509_crt *a, const mbedtls_x509_crt *b)
{
    const mbedtls_x509_sequence *of_a = &a->subject_alt_names, *of_b = &b->subject_alt_names;

    if (!(a->ext_types & b->ext_types & MBEDTLS_X509_EXT_SUBJECT_ALT_NAME))
        return false;
    for (; of_a && of_b; of_a = of_a->next, of_b = of_b->next) {
        if (of_a->buf.tag != of_b->buf.tag || of_a->buf.len != of_b->buf.len ||
            memcmp(of_a->buf.p, of_b->buf.p, of_a->buf.len) != 0)
            return false;
    }
    return !of_a && !of_b;
}

int weir__mbedtls_certificates_offer(
    const struct weir__tls_vendor_context *context, const char *name, size_t length,
    int (*offer)(void *to, mbedtls_x509_crt *chain, mbedtls_pk_context *key), void *to)
{
    bool known = false;
    int rc = 0;

    for (unsigned i = 0; name && !known && i < context->certificate_count; i++)
        known = matches(&context->certificates[i].chain, name, length);
    for (unsigned i = 0; rc == 0 && i < context->certificate_count; i++) {
        struct mbedtls_certificate *certificate = &context->certificates[i];
        if (known ? matches(&certificate->chain, name, length)
                  : i == 0 || is_twin(&certificate->chain, &context->certificates[0].chain))
            rc = offer(to, &certificate->chain, &certificate->key);
    }
    return rc;
}
