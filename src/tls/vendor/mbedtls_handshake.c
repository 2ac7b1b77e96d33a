/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor/mbedtls_internal.h"

/* One handshake: records in, bytes out, and at its end the keys. */

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include <weir/error.h>

#include "core/memory.h"
#include "tls/key_schedule.h"

#define RANDOM_BYTES   32
#define MASTER_BYTES   48
#define EXTENSION_ALPN 16 /* RFC 7301 */

struct weir__tls_handshake {
    struct weir__tls_vendor_context *context;
    mbedtls_ssl_context ssl;
    bool is_set_up; /* servers: with the first record, which says what is to be negotiated */
    weir__tls_emit_fn emit;
    void *emit_context;
    int emit_error;
    bool alerted;          /* what was emitted last is an alert */
    const uint8_t *record; /* what the transport reads from, in `advance` */
    size_t record_length;
    bool done, resumed;
    uint8_t master[MASTER_BYTES], client_random[RANDOM_BYTES], server_random[RANDOM_BYTES];
    bool has_master;
    bool is_address;                      /* `server_name` is one */
    char server_name[WEIR__TLS_NAME_MAX]; /* "" = none */
    char failure[160];
};

/*
 * The library tells keys and names to a configuration, which many handshakes share, not to a handshake:
 * so it is kept here which one the thread is in.
 */
static _Thread_local struct weir__tls_handshake *current;

/* ---- the transport ---- */

static int transport_receive(void *argument, unsigned char *data, size_t size)
{
    struct weir__tls_handshake *handshake = argument;
    size_t length = handshake->record_length < size ? handshake->record_length : size;

    if (length == 0)
        return MBEDTLS_ERR_SSL_WANT_READ;
    memcpy(data, handshake->record, length);
    handshake->record += length;
    handshake->record_length -= length;
    return (int)length;
}

static int transport_send(void *argument, const unsigned char *data, size_t length)
{
    struct weir__tls_handshake *handshake = argument;
    uint8_t alert[7];

    handshake->alerted = length > 0 && data[0] == WEIR__TLS_ALERT;
    if (handshake->alerted && length == sizeof(alert) && data[1] == 0) {
        /* An alert about a ClientHello has version 0.0, which is no record that a client takes. */
        memcpy(alert, data, sizeof(alert));
        alert[1] = alert[2] = 3;
        data = alert;
    }
    if (handshake->emit_error == 0)
        handshake->emit_error = handshake->emit(handshake->emit_context, data, length);
    return handshake->emit_error == 0 ? (int)length : MBEDTLS_ERR_SSL_ALLOC_FAILED;
}

/* ---- what the library tells ---- */

static size_t hexadecimal(const uint8_t *bytes, size_t length, char *text)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < length; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[2 * length] = '\0';
    return 2 * length;
}

/* "CLIENT_RANDOM <client random> <master secret>" */
static void key_log_write(const struct weir__tls_handshake *handshake)
{
    static const char label[] = "CLIENT_RANDOM ";
    char line[sizeof(label) + 2 * RANDOM_BYTES + 1 + 2 * MASTER_BYTES];
    size_t length = strlen(label);

    memcpy(line, label, length);
    length += hexadecimal(handshake->client_random, RANDOM_BYTES, line + length);
    line[length++] = ' ';
    hexadecimal(handshake->master, MASTER_BYTES, line + length);
    handshake->context->key_log(handshake->context->key_log_context, line);
    weir__tls_wipe(line, sizeof(line));
}

int weir__mbedtls_export_keys(void *unused, const unsigned char *master,
                              const unsigned char *key_block, size_t mac_length, size_t key_length,
                              size_t iv_length, const unsigned char client_random[32],
                              const unsigned char server_random[32], mbedtls_tls_prf_types prf)
{
    struct weir__tls_handshake *handshake = current;

    (void)unused;
    (void)key_block;
    (void)mac_length;
    (void)key_length;
    (void)iv_length;
    (void)prf;
    memcpy(handshake->master, master, MASTER_BYTES);
    memcpy(handshake->client_random, client_random, RANDOM_BYTES);
    memcpy(handshake->server_random, server_random, RANDOM_BYTES);
    handshake->has_master = true;
    if (handshake->context->key_log)
        key_log_write(handshake);
    return 0;
}

static int handshake_offer(void *to, mbedtls_x509_crt *chain, mbedtls_pk_context *key)
{
    return mbedtls_ssl_set_hs_own_cert(to, chain, key);
}

int weir__mbedtls_on_server_name(void *argument, mbedtls_ssl_context *ssl,
                                 const unsigned char *name, size_t length)
{
    const struct weir__tls_vendor_context *context = argument;

    if (length < sizeof(current->server_name) && !memchr(name, '\0', length)) {
        memcpy(current->server_name, name, length);
        current->server_name[length] = '\0';
    }
    return weir__mbedtls_certificates_offer(context, (const char *)name, length, handshake_offer,
                                            ssl);
}

/*
 * Runs for each certificate of the peer's chain. A client's that is optional but not valid, and a server
 * that was asked for by an address, are for us to look at.
 */
static int on_peer_certificate(void *argument, mbedtls_x509_crt *certificate, int depth,
                               uint32_t *flags)
{
    struct weir__tls_handshake *handshake = argument;

    if (handshake->is_address && depth == 0 &&
        !weir__mbedtls_has_address(certificate, handshake->server_name))
        *flags |= MBEDTLS_X509_BADCERT_CN_MISMATCH;
    if (handshake->context->peer == WEIR__TLS_PEER_OPTIONAL && *flags != 0) {
        mbedtls_x509_crt_verify_info(handshake->failure, sizeof(handshake->failure), "", *flags);
        return MBEDTLS_ERR_X509_FATAL_ERROR;
    }
    return 0;
}

/* ---- a handshake's life ---- */

static int setup(struct weir__tls_handshake *handshake, unsigned which)
{
    mbedtls_ssl_context *ssl = &handshake->ssl;
    int rc = mbedtls_ssl_setup(ssl, &handshake->context->configurations[which]);

    if (rc != 0)
        return rc;
    handshake->is_set_up = true;
    mbedtls_ssl_set_bio(ssl, handshake, transport_send, transport_receive, NULL);
    if (weir__mbedtls_verifies(handshake->context))
        mbedtls_ssl_set_verify(ssl, on_peer_certificate, handshake);
    return 0;
}

/* Mbed TLS ends a handshake without a common protocol: then it must not know of any. */
static int server_setup(struct weir__tls_handshake *handshake, const uint8_t *record, size_t length)
{
    const struct weir__tls_vendor_context *context = handshake->context;
    size_t alpn_length;
    const uint8_t *alpn = weir__tls_hello_extension(record, length, EXTENSION_ALPN, &alpn_length);
    unsigned which = context->tickets.count > 0 ? MBEDTLS_WITH_TICKETS : 0;

    /* A list of names, after its length; one that is not well formed is Mbed TLS's to refuse. */
    if (alpn &&
        (alpn_length < 2 || weir__tls_alpn_choose(context->alpn_wire, context->alpn_wire_length,
                                                  alpn + 2, alpn_length - 2)))
        which |= MBEDTLS_WITH_ALPN;
    return setup(handshake, which);
}

static void session_offer(struct weir__tls_handshake *handshake, const uint8_t *data, size_t length)
{
    struct weir__tls_saved wanted = {
        .verified = weir__mbedtls_verifies(handshake->context),
        .server_name = handshake->server_name,
    };
    size_t saved_length;
    const uint8_t *saved =
        weir__tls_saved_get(&weir__tls_mbedtls, &wanted, data, length, &saved_length);
    mbedtls_ssl_session session;

    if (!saved)
        return;
    mbedtls_ssl_session_init(&session);
    if (mbedtls_ssl_session_load(&session, saved, saved_length) == 0)
        mbedtls_ssl_set_session(&handshake->ssl, &session);
    mbedtls_ssl_session_free(&session);
}

static int client_setup(struct weir__tls_handshake *handshake,
                        const struct weir__tls_handshake_options *options)
{
    const char *name = options->server_name;

    if (setup(handshake, MBEDTLS_WITH_ALPN) != 0)
        return WEIR_ENOMEM;
    if (name) {
        handshake->is_address = weir__tls_name_kind(name) == WEIR__TLS_NAME_ADDRESS;
        strcpy(handshake->server_name, name);
    }
    if (mbedtls_ssl_set_hostname(&handshake->ssl, handshake->is_address ? NULL : name) != 0)
        return WEIR_ENOMEM;
    if (options->resume)
        session_offer(handshake, options->resume, options->resume_length);
    return 0;
}

int weir__mbedtls_handshake_new(struct weir__tls_handshake **handshake_out,
                                struct weir__tls_vendor_context *context,
                                const struct weir__tls_handshake_options *options)
{
    if (!context->server && options->server_name &&
        weir__tls_name_kind(options->server_name) == WEIR__TLS_NAME_WRONG)
        return WEIR_EINVAL;
    struct weir__tls_handshake *handshake = weir__allocate_zeroed(1, sizeof(*handshake));
    if (!handshake)
        return WEIR_ENOMEM;
    handshake->context = context;
    handshake->emit = options->emit;
    handshake->emit_context = options->emit_context;
    mbedtls_ssl_init(&handshake->ssl);
    int rc = context->server ? 0 : client_setup(handshake, options);
    if (rc != 0) {
        weir__mbedtls_handshake_free(handshake);
        return rc;
    }
    *handshake_out = handshake;
    return 0;
}

void weir__mbedtls_handshake_free(struct weir__tls_handshake *handshake)
{
    if (!handshake)
        return;
    mbedtls_ssl_free(&handshake->ssl);
    weir__tls_wipe(handshake, sizeof(*handshake));
    weir__release(handshake);
}

/* ---- its steps ---- */

static void failure_note(struct weir__tls_handshake *handshake, int error)
{
    uint32_t flags = mbedtls_ssl_get_verify_result(&handshake->ssl);

    if (handshake->failure[0] == '\0') {
        if (error == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED && flags != 0)
            mbedtls_x509_crt_verify_info(handshake->failure, sizeof(handshake->failure), "", flags);
        else
            mbedtls_strerror(error, handshake->failure, sizeof(handshake->failure));
    }
    handshake->failure[strcspn(handshake->failure, "\n")] = '\0';
}

static int fail(struct weir__tls_handshake *handshake, int error)
{
    if (error == MBEDTLS_ERR_SSL_ALLOC_FAILED || error == MBEDTLS_ERR_X509_ALLOC_FAILED)
        return WEIR_ENOMEM;
    failure_note(handshake, error);
    /* The library says most of what went wrong to the peer, not all. */
    if (error != MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE && !handshake->alerted)
        mbedtls_ssl_send_alert_message(&handshake->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL,
                                       MBEDTLS_SSL_ALERT_MSG_HANDSHAKE_FAILURE);
    return handshake->emit_error != 0 ? handshake->emit_error : WEIR_ETLS;
}

/* In place of mbedtls_ssl_handshake, which does not tell whether the session was resumed. */
static int steps(struct weir__tls_handshake *handshake)
{
    mbedtls_ssl_context *ssl = &handshake->ssl;
    int rc = 0;

    while (rc == 0 && ssl->state != MBEDTLS_SSL_HANDSHAKE_OVER) {
        int before = ssl->state;
        rc = mbedtls_ssl_handshake_step(ssl);
        /* A full handshake goes on with the server's certificate. */
        if (before == MBEDTLS_SSL_SERVER_HELLO && ssl->state != before)
            handshake->resumed = ssl->state != MBEDTLS_SSL_SERVER_CERTIFICATE;
    }
    return rc;
}

int weir__mbedtls_advance(struct weir__tls_handshake *handshake, const uint8_t *record,
                          size_t length)
{
    int rc = 0;

    assert(!handshake->done);
    if (handshake->context->server && length == 0)
        return WEIR__TLS_MORE;
    handshake->alerted = false;
    handshake->emit_error = 0;
    if (!handshake->is_set_up)
        rc = server_setup(handshake, record, length);
    if (rc == 0 && length > 0 && !weir__tls_record_is_whole(record, length))
        rc = MBEDTLS_ERR_SSL_INVALID_RECORD;
    handshake->record = record;
    handshake->record_length = length;
    current = handshake;
    if (rc == 0)
        rc = steps(handshake);
    current = NULL;
    handshake->record_length = 0;
    if (handshake->emit_error != 0)
        return handshake->emit_error;
    if (rc == MBEDTLS_ERR_SSL_WANT_READ)
        return WEIR__TLS_MORE;
    if (rc != 0)
        return fail(handshake, rc);
    handshake->done = true;
    return WEIR__TLS_DONE;
}

/* There is no TLS 1.3. */
int weir__mbedtls_post_record(struct weir__tls_handshake *handshake, const uint8_t *record,
                              size_t length)
{
    (void)handshake;
    (void)record;
    (void)length;
    return WEIR_ETLS;
}

int weir__mbedtls_session_save(struct weir__tls_handshake *handshake, uint8_t *data, size_t size)
{
    struct weir__tls_saved saved = {
        .verified = weir__mbedtls_verifies(handshake->context),
        .server_name = handshake->server_name,
    };
    const mbedtls_ssl_session *session = mbedtls_ssl_get_session_pointer(&handshake->ssl);
    size_t length = 0;
    int written = 0;

    if (handshake->context->server || !handshake->done || !session || session->ticket_len == 0)
        return 0;
    mbedtls_ssl_session_save(session, NULL, 0, &length); /* says how much it needs */
    uint8_t *serialized = length > 0 ? weir__allocate(length) : NULL;
    if (!serialized)
        return 0;
    if (mbedtls_ssl_session_save(session, serialized, length, &length) == 0)
        written = weir__tls_saved_put(&weir__tls_mbedtls, &saved, serialized, length, data, size);
    weir__tls_wipe(serialized, length);
    weir__release(serialized);
    return written;
}

const char *weir__mbedtls_failure(struct weir__tls_handshake *handshake)
{
    return handshake->failure;
}

/* ---- what came of it ---- */

int weir__mbedtls_result(struct weir__tls_handshake *handshake, struct weir__tls_result *result)
{
    const mbedtls_ssl_context *ssl = &handshake->ssl;
    const char *name = mbedtls_ssl_get_ciphersuite(ssl), *alpn = mbedtls_ssl_get_alpn_protocol(ssl);
    const struct weir__tls_suite *suite =
        name ? weir__tls_suite_find((unsigned)mbedtls_ssl_get_ciphersuite_id(name)) : NULL;

    assert(handshake->done);
    memset(result, 0, sizeof(*result));
    if (!suite || !handshake->has_master)
        return WEIR_ENOTSUP;
    result->version = suite->version;
    result->hash = suite->hash;
    result->tx.keys.version = result->rx.keys.version = suite->version;
    result->tx.keys.cipher = result->rx.keys.cipher = suite->cipher;
    snprintf(result->cipher_name, sizeof(result->cipher_name), "%s", suite->name);
    result->resumed = handshake->resumed;
    result->peer_certificate = weir__mbedtls_verifies(handshake->context) &&
                               mbedtls_ssl_get_peer_cert(ssl) != NULL &&
                               mbedtls_ssl_get_verify_result(ssl) == 0;
    if (alpn)
        snprintf(result->alpn, sizeof(result->alpn), "%s", alpn);
    if (handshake->context->server)
        snprintf(result->server_name, sizeof(result->server_name), "%s", handshake->server_name);
    return weir__tls_master_derive(&weir__tls_mbedtls, result->hash, handshake->master,
                                   handshake->client_random, handshake->server_random,
                                   handshake->context->server, &result->tx.keys,
                                   &result->rx.keys) == 0
               ? 0
               : WEIR_ENOTSUP;
}
