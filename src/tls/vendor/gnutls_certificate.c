/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor/gnutls_internal.h"

/*
 * Certificates: read from files, and chosen by the name that a client asks for. GnuTLS would choose by
 * itself, but in TLS 1.2 it prefers a cipher suite to a name: with an ECDSA certificate for another name
 * in the list it shows that one.
 */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <weir/error.h>

#include "core/memory.h"

int weir__gnutls_file_read(const char *path, gnutls_datum_t *data,
                           struct weir__tls_complaint *complaint)
{
    if (access(path, R_OK) != 0) {
        weir__tls_complain(complaint, "cannot read %s: %s", path, strerror(errno));
        return WEIR_EACCESS;
    }
    int rc = gnutls_load_file(path, data);
    if (rc < 0) {
        weir__tls_complain(complaint, "cannot read %s: %s", path, gnutls_strerror(rc));
        return rc == GNUTLS_E_MEMORY_ERROR ? WEIR_ENOMEM : WEIR_EACCESS;
    }
    return 0;
}

static void file_forget(gnutls_datum_t *data)
{
    if (data->data)
        weir__tls_wipe(data->data, data->size);
    gnutls_free(data->data);
}

static int chain_read(struct gnutls_certificate *certificate, const char *path,
                      struct weir__tls_complaint *complaint)
{
    gnutls_datum_t pem = {NULL, 0};
    unsigned length = GNUTLS_CHAIN_MAX;
    int rc = weir__gnutls_file_read(path, &pem, complaint);

    if (rc != 0)
        return rc;
    int error =
        gnutls_pcert_list_import_x509_raw(certificate->chain, &length, &pem, GNUTLS_X509_FMT_PEM,
                                          GNUTLS_X509_CRT_LIST_IMPORT_FAIL_IF_EXCEED);
    file_forget(&pem);
    if (error >= 0) {
        certificate->chain_length = length;
        error = gnutls_pcert_export_x509(&certificate->chain[0], &certificate->leaf);
    }
    if (error < 0) {
        weir__tls_complain(complaint, "%s holds no chain of certificates: %s", path,
                           gnutls_strerror(error));
        return error == GNUTLS_E_MEMORY_ERROR ? WEIR_ENOMEM : WEIR_EINVAL;
    }
    return 0;
}

static int key_read(struct gnutls_certificate *certificate, const char *path,
                    struct weir__tls_complaint *complaint)
{
    gnutls_datum_t pem = {NULL, 0};
    int rc = weir__gnutls_file_read(path, &pem, complaint);

    if (rc != 0)
        return rc;
    int error = gnutls_privkey_init(&certificate->key);
    if (error >= 0)
        error = gnutls_privkey_import_x509_raw(certificate->key, &pem, GNUTLS_X509_FMT_PEM, NULL,
                                               GNUTLS_PKCS_PLAIN);
    file_forget(&pem);
    if (error < 0) {
        weir__tls_complain(complaint, "%s holds no private key, or one with a password", path);
        return error == GNUTLS_E_MEMORY_ERROR ? WEIR_ENOMEM : WEIR_EINVAL;
    }
    return 0;
}

static bool is_pair(const struct gnutls_certificate *certificate)
{
    uint8_t of_leaf[32], of_key[32];
    size_t leaf_length = sizeof(of_leaf), key_length = sizeof(of_key);
    gnutls_pubkey_t public = NULL;

    bool same =
        gnutls_pubkey_init(&public) >= 0 &&
        gnutls_pubkey_import_privkey(public, certificate->key, 0, 0) >= 0 &&
        gnutls_pubkey_get_key_id(public, GNUTLS_KEYID_USE_SHA256, of_key, &key_length) >= 0 &&
        gnutls_pubkey_get_key_id(certificate->chain[0].pubkey, GNUTLS_KEYID_USE_SHA256, of_leaf,
                                 &leaf_length) >= 0 &&
        memcmp(of_leaf, of_key, sizeof(of_key)) == 0;
    if (public)
        gnutls_pubkey_deinit(public);
    return same;
}

static int certificate_read(struct gnutls_certificate *certificate,
                            const struct weir__tls_certificate *files,
                            struct weir__tls_complaint *complaint)
{
    int rc = chain_read(certificate, files->certificate_file, complaint);

    if (rc == 0)
        rc = key_read(certificate, files->key_file, complaint);
    if (rc == 0 && !is_pair(certificate)) {
        weir__tls_complain(complaint, "%s is not the key of %s", files->key_file,
                           files->certificate_file);
        rc = WEIR_EINVAL;
    }
    return rc;
}

int weir__gnutls_certificates_read(struct weir__tls_vendor_context *context,
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

void weir__gnutls_certificates_free(struct weir__tls_vendor_context *context)
{
    for (unsigned i = 0; i < context->certificate_count; i++) {
        struct gnutls_certificate *certificate = &context->certificates[i];
        for (unsigned j = 0; j < certificate->chain_length; j++)
            gnutls_pcert_deinit(&certificate->chain[j]);
        if (certificate->leaf)
            gnutls_x509_crt_deinit(certificate->leaf);
        if (certificate->key)
            gnutls_privkey_deinit(certificate->key);
    }
    weir__release(context->certificates);
}

/* Whether the peer knows a signature that this key can make. */
static bool fits(gnutls_session_t session, const struct gnutls_certificate *certificate)
{
    gnutls_pk_algorithm_t key =
        (gnutls_pk_algorithm_t)gnutls_privkey_get_pk_algorithm(certificate->key, NULL);
    gnutls_sign_algorithm_t algorithm;

    for (size_t i = 0; gnutls_sign_algorithm_get_requested(session, i, &algorithm) == 0; i++) {
        if (gnutls_sign_supports_pk_algorithm(algorithm, key))
            return true;
    }
    return false;
}

static bool matches(const struct gnutls_certificate *certificate, const char *name)
{
    return gnutls_x509_crt_check_hostname2(certificate->leaf, name,
                                           GNUTLS_VERIFY_DO_NOT_ALLOW_IP_MATCHES) != 0;
}

/* Whether it has the same names: then it is the same server's, with a key of another type. */
static bool is_twin(const struct gnutls_certificate *a, const struct gnutls_certificate *b)
{
    static const char names[] = "2.5.29.17"; /* subjectAltName */
    gnutls_datum_t of_a = {NULL, 0}, of_b = {NULL, 0};
    bool same = gnutls_x509_crt_get_extension_by_oid2(a->leaf, names, 0, &of_a, NULL) >= 0 &&
                gnutls_x509_crt_get_extension_by_oid2(b->leaf, names, 0, &of_b, NULL) >= 0 &&
                of_a.size == of_b.size && memcmp(of_a.data, of_b.data, of_a.size) == 0;

    gnutls_free(of_a.data);
    gnutls_free(of_b.data);
    return same;
}

/* The first one that has the name, or the first of all, unless a twin fits the client better. */
static const struct gnutls_certificate *choose(gnutls_session_t session,
                                               const struct weir__tls_vendor_context *context)
{
    const struct gnutls_certificate *first = &context->certificates[0];
    char name[WEIR__TLS_NAME_MAX];
    size_t length = sizeof(name);
    unsigned type;
    bool known = false;

    if (context->certificate_count == 1)
        return first;
    bool asked = gnutls_server_name_get(session, name, &length, &type, 0) == 0;
    for (unsigned i = 0; asked && i < context->certificate_count; i++) {
        if (!matches(&context->certificates[i], name))
            continue;
        if (!known)
            first = &context->certificates[i];
        known = true;
        if (fits(session, &context->certificates[i]))
            return &context->certificates[i];
    }
    for (unsigned i = 0; !known && i < context->certificate_count; i++) {
        const struct gnutls_certificate *certificate = &context->certificates[i];
        if ((i == 0 || is_twin(certificate, first)) && fits(session, certificate))
            return certificate;
    }
    return first;
}

int weir__gnutls_certificate_choose(gnutls_session_t session,
                                    const struct gnutls_cert_retr_st *request,
                                    gnutls_pcert_st **chain, unsigned *chain_length,
                                    gnutls_ocsp_data_st **ocsp, unsigned *ocsp_length,
                                    gnutls_privkey_t *key, unsigned *flags)
{
    const struct weir__tls_vendor_context *context = weir__gnutls_context_of(session);

    (void)request;
    *ocsp = NULL;
    *ocsp_length = 0;
    *chain_length = 0;
    *flags = 0; /* they stay ours */
    /* A client without one that the server can do with shows none: the server decides what of it. */
    if (context->certificate_count == 0 ||
        (!context->server && !fits(session, &context->certificates[0])))
        return 0;
    const struct gnutls_certificate *chosen = choose(session, context);
    *chain = (gnutls_pcert_st *)chosen->chain;
    *chain_length = chosen->chain_length;
    *key = chosen->key;
    return 0;
}
