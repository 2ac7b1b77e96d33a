/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor/openssl_internal.h"

/* A server's certificates: read from files, and chosen by the name that a client asks for. */

#include <errno.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <weir/error.h>

#include "core/memory.h"

/* Keys are not encrypted. Without this, OpenSSL would ask on the terminal. */
static int no_password(char *text, int size, int writing, void *context)
{
    (void)text;
    (void)size;
    (void)writing;
    (void)context;
    return -1;
}

static BIO *file_open(const char *path, int *rc, struct weir__tls_complaint *complaint)
{
    errno = 0;
    BIO *file = BIO_new_file(path, "r");
    if (!file) {
        weir__tls_complain(complaint, "cannot read %s: %s", path, strerror(errno));
        *rc = WEIR_EACCESS;
    }
    return file;
}

/* Whether a PEM file simply came to its end. */
static bool file_has_ended(void)
{
    unsigned long error = ERR_peek_last_error();

    return ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
}

static int chain_read(struct openssl_certificate *certificate, const char *path,
                      struct weir__tls_complaint *complaint)
{
    int rc = 0;
    BIO *file = file_open(path, &rc, complaint);

    if (!file)
        return rc;
    certificate->leaf = PEM_read_bio_X509_AUX(file, NULL, no_password, NULL);
    certificate->chain = sk_X509_new_null();
    if (!certificate->leaf || !certificate->chain)
        rc = WEIR_EINVAL;
    while (rc == 0) {
        X509 *next = PEM_read_bio_X509(file, NULL, no_password, NULL);
        if (!next && file_has_ended())
            break;
        if (!next || sk_X509_push(certificate->chain, next) == 0) {
            X509_free(next);
            rc = WEIR_EINVAL;
        }
    }
    if (rc != 0)
        weir__tls_complain(complaint, "%s holds %s", path,
                           certificate->leaf ? "something else behind its first certificate"
                                             : "no certificate");
    BIO_free(file);
    ERR_clear_error();
    return rc;
}

static int key_read(struct openssl_certificate *certificate, const char *path,
                    struct weir__tls_complaint *complaint)
{
    int rc = 0;
    BIO *file = file_open(path, &rc, complaint);

    if (!file)
        return rc;
    certificate->key =
        PEM_read_bio_PrivateKey_ex(file, NULL, no_password, NULL, weir__openssl()->context, NULL);
    BIO_free(file);
    ERR_clear_error();
    if (!certificate->key) {
        weir__tls_complain(complaint, "%s holds no private key, or one with a password", path);
        return WEIR_EINVAL;
    }
    return 0;
}

static int certificate_read(struct openssl_certificate *certificate,
                            const struct weir__tls_certificate *files,
                            struct weir__tls_complaint *complaint)
{
    int rc = chain_read(certificate, files->certificate_file, complaint);

    if (rc == 0)
        rc = key_read(certificate, files->key_file, complaint);
    if (rc == 0 && X509_check_private_key(certificate->leaf, certificate->key) != 1) {
        ERR_clear_error();
        weir__tls_complain(complaint, "%s is not the key of %s", files->key_file,
                           files->certificate_file);
        rc = WEIR_EINVAL;
    }
    return rc;
}

int weir__openssl_certificates_read(struct weir__tls_vendor_context *context,
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
        int rc = certificate_read(&context->certificates[i], &config->certificates[i], complaint);
        if (rc != 0)
            return rc;
    }
    return 0;
}

void weir__openssl_certificates_free(struct weir__tls_vendor_context *context)
{
    for (unsigned i = 0; i < context->certificate_count; i++) {
        X509_free(context->certificates[i].leaf);
        EVP_PKEY_free(context->certificates[i].key);
        sk_X509_pop_free(context->certificates[i].chain, X509_free);
    }
    weir__release(context->certificates);
}

static bool matches(const struct openssl_certificate *certificate, const char *name)
{
    return X509_check_host(certificate->leaf, name, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS,
                           NULL) == 1;
}

/* Whether it has the same names: then it is the same server's, with a key of another type. */
static bool is_twin(const struct openssl_certificate *a, const struct openssl_certificate *b)
{
    int a_at = X509_get_ext_by_NID(a->leaf, NID_subject_alt_name, -1);
    int b_at = X509_get_ext_by_NID(b->leaf, NID_subject_alt_name, -1);

    if (a_at < 0 || b_at < 0)
        return false;
    return ASN1_OCTET_STRING_cmp(X509_EXTENSION_get_data(X509_get_ext(a->leaf, a_at)),
                                 X509_EXTENSION_get_data(X509_get_ext(b->leaf, b_at))) == 0;
}

/*
 * One certificate for each type of key can be in use at a time: the first of its type that matches.
 * OpenSSL then takes the one that the client can do with.
 */
int weir__openssl_certificates_choose(SSL *ssl, void *argument)
{
    struct weir__tls_vendor_context *context = argument;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    bool known = false;
    unsigned used = 0;

    for (unsigned i = 0; name && !known && i < context->certificate_count; i++)
        known = matches(&context->certificates[i], name);
    SSL_certs_clear(ssl);
    for (unsigned i = 0; i < context->certificate_count; i++) {
        const struct openssl_certificate *certificate = &context->certificates[i];
        if (known ? !matches(certificate, name)
                  : i > 0 && !is_twin(certificate, &context->certificates[0]))
            continue;
        ERR_set_mark();
        used += SSL_use_cert_and_key(ssl, certificate->leaf, certificate->key, certificate->chain,
                                     0) == 1;
        ERR_pop_to_mark();
    }
    return used > 0;
}
