/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor/openssl_internal.h"

/* Handshakes, and the keys that come of them. */

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <weir/error.h>

#include "core/memory.h"
#include "tls/key_schedule.h"

/* A secret of TLS 1.3, from the key log. */
struct secret {
    uint8_t bytes[WEIR__TLS_HASH_MAX];
    uint8_t length;
};

struct weir__tls_handshake {
    SSL *ssl;
    struct weir__tls_vendor_context *context;
    weir__tls_emit_fn emit;
    void *emit_context;
    const uint8_t *record; /* what is left of the one that is fed */
    size_t record_length;
    bool done;
    int emit_error; /* of the current call */
    /* In the current call; in the last one, of a TLS 1.3 server, those are the tickets. */
    struct weir__tls_counter emitted;
    struct secret client_secret, server_secret;
    char server_name[WEIR__TLS_NAME_MAX]; /* clients: "" = none */
    char failure[128];
};

/* ---- the transport: one record in, bytes out, no socket ---- */

static int transport_write(BIO *bio, const char *bytes, size_t length, size_t *written)
{
    struct weir__tls_handshake *handshake = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    /* After the handshake the keys are not OpenSSL's any more. */
    if (!handshake->done) {
        weir__tls_counter_feed(&handshake->emitted, (const uint8_t *)bytes, length);
        if (handshake->emit_error == 0)
            handshake->emit_error =
                handshake->emit(handshake->emit_context, (const uint8_t *)bytes, length);
        if (handshake->emit_error != 0)
            return 0;
    }
    *written = length;
    return 1;
}

static int transport_read(BIO *bio, char *room, size_t size, size_t *length)
{
    struct weir__tls_handshake *handshake = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (handshake->record_length == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    *length = size < handshake->record_length ? size : handshake->record_length;
    memcpy(room, handshake->record, *length);
    handshake->record += *length;
    handshake->record_length -= *length;
    return 1;
}

static long transport_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static int transport_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

BIO_METHOD *weir__openssl_transport_new(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "weir record");

    if (!method || BIO_meth_set_write_ex(method, transport_write) != 1 ||
        BIO_meth_set_read_ex(method, transport_read) != 1 ||
        BIO_meth_set_ctrl(method, transport_control) != 1 ||
        BIO_meth_set_create(method, transport_create) != 1) {
        BIO_meth_free(method);
        return NULL;
    }
    return method;
}

/* ---- secrets, as our provider makes them ---- */

/* What the provider is called for: OpenSSL does not tell it. */
static _Thread_local struct weir__tls_handshake *stepping;

void weir__openssl_secret_made(bool server, const uint8_t *secret, size_t length)
{
    struct secret *kept;

    if (!stepping || length > WEIR__TLS_HASH_MAX)
        return;
    kept = server ? &stepping->server_secret : &stepping->client_secret;
    memcpy(kept->bytes, secret, length);
    kept->length = (uint8_t)length;
}

/* ---- secrets, as the key log tells them: "LABEL <client random> <secret>" ---- */

static int hexadecimal(char digit)
{
    return digit >= 'a' ? digit - 'a' + 10 : digit >= 'A' ? digit - 'A' + 10 : digit - '0';
}

static void secret_take(struct secret *secret, const char *line)
{
    const char *digits = strrchr(line, ' ') + 1;
    size_t length = strlen(digits) / 2;

    assert(length <= WEIR__TLS_HASH_MAX);
    for (size_t i = 0; i < length; i++)
        secret->bytes[i] =
            (uint8_t)(hexadecimal(digits[2 * i]) << 4 | hexadecimal(digits[2 * i + 1]));
    secret->length = (uint8_t)length;
}

static bool begins(const char *line, const char *label)
{
    return strncmp(line, label, strlen(label)) == 0;
}

void weir__openssl_key_log(const SSL *ssl, const char *line)
{
    struct weir__tls_handshake *handshake = SSL_get_ex_data(ssl, weir__openssl()->handshake_index);

    if (begins(line, "CLIENT_TRAFFIC_SECRET_0 "))
        secret_take(&handshake->client_secret, line);
    else if (begins(line, "SERVER_TRAFFIC_SECRET_0 "))
        secret_take(&handshake->server_secret, line);
    if (handshake->context->key_log)
        handshake->context->key_log(handshake->context->key_log_context, line);
}

/* ---- a handshake's life ---- */

static bool server_name_set(struct weir__tls_handshake *handshake, const char *name,
                            enum weir__tls_name_kind kind)
{
    X509_VERIFY_PARAM *verify = SSL_get0_param(handshake->ssl);

    strcpy(handshake->server_name, name);
    if (kind == WEIR__TLS_NAME_ADDRESS)
        return X509_VERIFY_PARAM_set1_ip_asc(verify, name) == 1;
    X509_VERIFY_PARAM_set_hostflags(verify, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return X509_VERIFY_PARAM_set1_host(verify, name, 0) == 1 &&
           SSL_set_tlsext_host_name(handshake->ssl, name) == 1;
}

static void session_offer(struct weir__tls_handshake *handshake, const uint8_t *data, size_t length)
{
    struct weir__tls_saved wanted = {
        .verified = handshake->context->verifies,
        .server_name = handshake->server_name,
    };
    size_t prefix = weir__tls_saved_match(&wanted, data, length);
    const unsigned char *der = data + prefix;

    if (prefix == 0)
        return;
    SSL_SESSION *session = d2i_SSL_SESSION(NULL, &der, (long)(length - prefix));
    if (session)
        SSL_set_session(handshake->ssl, session);
    SSL_SESSION_free(session);
    ERR_clear_error();
}

static bool ssl_new(struct weir__tls_handshake *handshake)
{
    SSL *ssl = SSL_new(handshake->context->ssl_context);
    BIO *transport = BIO_new(weir__openssl()->transport);

    handshake->ssl = ssl;
    if (!ssl || !transport ||
        SSL_set_ex_data(ssl, weir__openssl()->handshake_index, handshake) != 1) {
        BIO_free(transport);
        return false;
    }
    BIO_set_data(transport, handshake);
    SSL_set_bio(ssl, transport, transport);
    if (handshake->context->server)
        SSL_set_accept_state(ssl);
    else
        SSL_set_connect_state(ssl);
    return true;
}

int weir__openssl_handshake_new(struct weir__tls_handshake **handshake_out,
                                struct weir__tls_vendor_context *context,
                                const struct weir__tls_handshake_options *options)
{
    const char *name = context->server ? NULL : options->server_name;
    enum weir__tls_name_kind kind = name ? weir__tls_name_kind(name) : WEIR__TLS_NAME_HOST;

    if (kind == WEIR__TLS_NAME_WRONG)
        return WEIR_EINVAL;
    struct weir__tls_handshake *handshake = weir__allocate_zeroed(1, sizeof(*handshake));
    if (!handshake)
        return WEIR_ENOMEM;
    handshake->context = context;
    handshake->emit = options->emit;
    handshake->emit_context = options->emit_context;
    if (!ssl_new(handshake) || (name && !server_name_set(handshake, name, kind))) {
        weir__openssl_handshake_free(handshake);
        ERR_clear_error();
        return WEIR_ENOMEM;
    }
    if (!context->server && options->resume)
        session_offer(handshake, options->resume, options->resume_length);
    *handshake_out = handshake;
    return 0;
}

void weir__openssl_handshake_free(struct weir__tls_handshake *handshake)
{
    if (!handshake)
        return;
    SSL_free(handshake->ssl);
    weir__tls_wipe(handshake, sizeof(*handshake));
    weir__release(handshake);
}

/* ---- its steps ---- */

static void failure_note(struct weir__tls_handshake *handshake)
{
    unsigned long error = ERR_peek_error();
    const char *reason = ERR_reason_error_string(error);
    long verified = SSL_get_verify_result(handshake->ssl);
    bool verify = ERR_GET_LIB(error) == ERR_LIB_SSL &&
                  ERR_GET_REASON(error) == SSL_R_CERTIFICATE_VERIFY_FAILED;

    snprintf(handshake->failure, sizeof(handshake->failure), "%s%s%s", reason ? reason : "",
             verify ? ": " : "", verify ? X509_verify_cert_error_string(verified) : "");
}

static int step(struct weir__tls_handshake *handshake, const uint8_t *record, size_t length)
{
    handshake->record = record;
    handshake->record_length = length;
    handshake->emit_error = 0;
    memset(&handshake->emitted, 0, sizeof(handshake->emitted));
    ERR_clear_error(); /* SSL_get_error looks there */
    stepping = handshake;
    int rc = SSL_do_handshake(handshake->ssl);
    stepping = NULL;
    int error = SSL_get_error(handshake->ssl, rc);
    handshake->record_length = 0;
    if (handshake->emit_error != 0)
        return handshake->emit_error;
    if (rc == 1) {
        handshake->done = true;
        return WEIR__TLS_DONE;
    }
    if (error == SSL_ERROR_WANT_READ)
        return WEIR__TLS_MORE;
    failure_note(handshake);
    ERR_clear_error();
    return WEIR_ETLS;
}

int weir__openssl_advance(struct weir__tls_handshake *handshake, const uint8_t *record,
                          size_t length)
{
    static const uint8_t impossible[] = WEIR__TLS_IMPOSSIBLE_RECORD;

    assert(!handshake->done);
    if (length == 0 || weir__tls_record_is_whole(record, length))
        return step(handshake, record, length);
    /* OpenSSL would wait for the rest, which is not to come. */
    int rc = step(handshake, impossible, sizeof(impossible));
    return rc == WEIR_ENOMEM ? rc : WEIR_ETLS;
}

int weir__openssl_post_record(struct weir__tls_handshake *handshake, const uint8_t *record,
                              size_t length)
{
    char nothing[1];
    size_t read;

    assert(handshake->done);
    if (handshake->context->server || SSL_version(handshake->ssl) != TLS1_3_VERSION ||
        !weir__tls_record_is_whole(record, length))
        return WEIR_ETLS;
    handshake->record = record;
    handshake->record_length = length;
    ERR_clear_error();
    int rc = SSL_read_ex(handshake->ssl, nothing, sizeof(nothing), &read);
    int error = SSL_get_error(handshake->ssl, rc);
    handshake->record_length = 0;
    ERR_clear_error();
    return rc == 0 && error == SSL_ERROR_WANT_READ ? 0 : WEIR_ETLS;
}

int weir__openssl_session_save(struct weir__tls_handshake *handshake, uint8_t *data, size_t size)
{
    SSL_SESSION *session = SSL_get0_session(handshake->ssl);
    struct weir__tls_saved saved = {
        .verified = handshake->context->verifies,
        .server_name = handshake->server_name,
    };

    if (handshake->context->server || !handshake->done || !session ||
        !SSL_SESSION_is_resumable(session))
        return 0;
    int prefix = weir__tls_saved_write(&saved, data, size);
    if (prefix < 0)
        return prefix;
    int length = i2d_SSL_SESSION(session, NULL);
    unsigned char *der = data + prefix;
    if (length <= 0)
        return 0;
    if ((size_t)length > size - (size_t)prefix)
        return WEIR_ENOBUFS;
    i2d_SSL_SESSION(session, &der);
    return prefix + length;
}

const char *weir__openssl_failure(struct weir__tls_handshake *handshake)
{
    return handshake->failure;
}

/* ---- what came of it ---- */

static int secrets_say(const struct weir__tls_handshake *handshake, struct weir__tls_result *result)
{
    bool server = handshake->context->server;
    const struct secret *tx = server ? &handshake->server_secret : &handshake->client_secret;
    const struct secret *rx = server ? &handshake->client_secret : &handshake->server_secret;

    if (tx->length == 0 || rx->length == 0)
        return WEIR_ENOTSUP;
    memcpy(result->tx.secret, tx->bytes, tx->length);
    memcpy(result->rx.secret, rx->bytes, rx->length);
    result->tx.secret_length = tx->length;
    result->rx.secret_length = rx->length;
    if (weir__tls_secret_derive(&weir__tls_openssl, result->hash, &result->tx) != 0 ||
        weir__tls_secret_derive(&weir__tls_openssl, result->hash, &result->rx) != 0)
        return WEIR_ENOTSUP;
    /* What the last call emitted were tickets: the server's Finished left calls before. */
    if (server)
        result->tx.keys.sequence = handshake->emitted.records;
    return 0;
}

static int master_says(const struct weir__tls_handshake *handshake, struct weir__tls_result *result)
{
    uint8_t master[SSL_MAX_MASTER_KEY_LENGTH], client[SSL3_RANDOM_SIZE], server[SSL3_RANDOM_SIZE];
    size_t length =
        SSL_SESSION_get_master_key(SSL_get0_session(handshake->ssl), master, sizeof(master));
    int rc = WEIR_ENOTSUP;

    if (length == sizeof(master) &&
        SSL_get_client_random(handshake->ssl, client, sizeof(client)) == sizeof(client) &&
        SSL_get_server_random(handshake->ssl, server, sizeof(server)) == sizeof(server) &&
        weir__tls_master_derive(&weir__tls_openssl, result->hash, master, client, server,
                                handshake->context->server, &result->tx.keys,
                                &result->rx.keys) == 0)
        rc = 0;
    weir__tls_wipe(master, sizeof(master));
    return rc;
}

static void names_say(const struct weir__tls_handshake *handshake, struct weir__tls_result *result)
{
    const unsigned char *alpn;
    unsigned alpn_length;
    const char *name = SSL_get_servername(handshake->ssl, TLSEXT_NAMETYPE_host_name);

    SSL_get0_alpn_selected(handshake->ssl, &alpn, &alpn_length);
    if (alpn_length > 0 && alpn_length <= WEIR__TLS_ALPN_BYTES_MAX)
        memcpy(result->alpn, alpn, alpn_length);
    if (handshake->context->server && name)
        snprintf(result->server_name, sizeof(result->server_name), "%s", name);
}

int weir__openssl_result(struct weir__tls_handshake *handshake, struct weir__tls_result *result)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(handshake->ssl);
    const struct weir__tls_suite *suite =
        cipher ? weir__tls_suite_find(SSL_CIPHER_get_protocol_id(cipher)) : NULL;

    assert(handshake->done);
    memset(result, 0, sizeof(*result));
    if (!suite)
        return WEIR_ENOTSUP;
    result->version = (uint16_t)SSL_version(handshake->ssl);
    result->hash = suite->hash;
    result->tx.keys.version = result->rx.keys.version = result->version;
    result->tx.keys.cipher = result->rx.keys.cipher = suite->cipher;
    snprintf(result->cipher_name, sizeof(result->cipher_name), "%s", suite->name);
    result->resumed = SSL_session_reused(handshake->ssl) == 1;
    result->peer_certificate = handshake->context->verifies &&
                               SSL_get0_peer_certificate(handshake->ssl) != NULL &&
                               SSL_get_verify_result(handshake->ssl) == X509_V_OK;
    names_say(handshake, result);
    return result->version == WEIR__TLS_1_3 ? secrets_say(handshake, result)
                                            : master_says(handshake, result);
}
