/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor/wolfssl_internal.h"

/* Handshakes, and the keys that come of them. */

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include <weir/error.h>

#include "core/memory.h"
#include "tls/key_schedule.h"

#define RANDOM_BYTES 32
#define MASTER_BYTES 48

/* The secrets of TLS 1.3 that count, with their labels (RFC 8446 section 7.1) and their names in key logs. */
enum secret_kind {
    CLIENT_HANDSHAKE,
    SERVER_HANDSHAKE,
    CLIENT_TRAFFIC,
    SERVER_TRAFFIC,
    SECRET_KINDS,
};
static const struct {
    const char *label, *log;
} secret_names[SECRET_KINDS] = {
    {"c hs traffic", "CLIENT_HANDSHAKE_TRAFFIC_SECRET"},
    {"s hs traffic", "SERVER_HANDSHAKE_TRAFFIC_SECRET"},
    {"c ap traffic", "CLIENT_TRAFFIC_SECRET_0"},
    {"s ap traffic", "SERVER_TRAFFIC_SECRET_0"},
};
#define LABEL_BYTES 12

struct weir__tls_handshake {
    WOLFSSL *ssl;
    struct weir__tls_vendor_context *context;
    weir__tls_emit_fn emit;
    void *emit_context;
    const uint8_t *record; /* what is left of the one that is fed */
    size_t record_length;
    bool done;
    int emit_error;    /* of the current call */
    bool is_encrypted; /* TLS 1.2: what is sent, as the ChangeCipherSpec was */
    /* In the current call; in the last one, of a TLS 1.3 server, those are the tickets. */
    struct weir__tls_counter emitted;
    struct {
        uint8_t bytes[WEIR__TLS_HASH_MAX];
        uint8_t length;
    } secrets[SECRET_KINDS];
    char server_name[WEIR__TLS_NAME_MAX]; /* clients: "" = none */
    char failure[WOLFSSL_MAX_ERROR_SZ];
};

/* wolfSSL does not tell a callback for key derivation whose key it is. It runs inside `step` alone. */
static _Thread_local struct weir__tls_handshake *current;

/* ---- the transport: one record in, bytes out, no socket ---- */

int weir__wolfssl_send(WOLFSSL *ssl, char *bytes, int length, void *argument)
{
    struct weir__tls_handshake *handshake = argument;

    (void)ssl;
    /* After the handshake the keys are not wolfSSL's any more. */
    if (handshake->done || length <= 0)
        return length;
    weir__tls_counter_feed(&handshake->emitted, (const uint8_t *)bytes, (size_t)length);
    if (handshake->emitted.types & 1u << WEIR__TLS_CHANGE_CIPHER_SPEC)
        handshake->is_encrypted = true;
    if (handshake->emit_error == 0)
        handshake->emit_error =
            handshake->emit(handshake->emit_context, (const uint8_t *)bytes, (size_t)length);
    return handshake->emit_error == 0 ? length : WOLFSSL_CBIO_ERR_GENERAL;
}

int weir__wolfssl_receive(WOLFSSL *ssl, char *room, int size, void *argument)
{
    struct weir__tls_handshake *handshake = argument;

    (void)ssl;
    if (handshake->record_length == 0)
        return WOLFSSL_CBIO_ERR_WANT_READ;
    size_t length =
        (size_t)size < handshake->record_length ? (size_t)size : handshake->record_length;
    memcpy(room, handshake->record, length);
    handshake->record += length;
    handshake->record_length -= length;
    return (int)length;
}

/* ---- secrets ---- */

static char *hexadecimal(char *out, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        out += sprintf(out, "%02x", bytes[i]);
    return out;
}

static void key_log(const struct weir__tls_handshake *handshake, const char *name,
                    const uint8_t *random, const uint8_t *secret, size_t length)
{
    char line[64 + 2 * RANDOM_BYTES + 2 * WEIR__TLS_HASH_MAX];
    char *end = line + sprintf(line, "%s ", name);

    end = hexadecimal(end, random, RANDOM_BYTES);
    *end++ = ' ';
    hexadecimal(end, secret, length);
    handshake->context->key_log(handshake->context->key_log_context, line);
    weir__tls_wipe(line, sizeof(line));
}

static void secret_note(struct weir__tls_handshake *handshake, const uint8_t *label,
                        const uint8_t *secret, size_t length)
{
    uint8_t random[RANDOM_BYTES];

    for (unsigned i = 0; i < SECRET_KINDS; i++) {
        if (memcmp(label, secret_names[i].label, LABEL_BYTES) != 0)
            continue;
        /* It may be derived again, for its key in the other direction. */
        bool is_new = handshake->secrets[i].length == 0;
        memcpy(handshake->secrets[i].bytes, secret, length);
        handshake->secrets[i].length = (uint8_t)length;
        if (is_new && handshake->context->key_log &&
            wolfSSL_get_client_random(handshake->ssl, random, sizeof(random)) == sizeof(random))
            key_log(handshake, secret_names[i].log, random, secret, length);
    }
}

/* Does what wolfSSL would do, and looks at what comes of it: the traffic secrets are not to be had else. */
int weir__wolfssl_expand_label(byte *out, word32 out_length, const byte *secret,
                               word32 secret_length, const byte *protocol, word32 protocol_length,
                               const byte *label, word32 label_length, const byte *info,
                               word32 info_length, int digest, int side)
{
    int rc =
        wc_Tls13_HKDF_Expand_Label(out, out_length, secret, secret_length, protocol,
                                   protocol_length, label, label_length, info, info_length, digest);

    (void)side;
    if (rc == 0 && current && label_length == LABEL_BYTES && out_length <= WEIR__TLS_HASH_MAX)
        secret_note(current, label, out, out_length);
    return rc;
}

/* ---- a handshake's life ---- */

/* An address as wolfSSL writes it down before it compares: IPv6 in full, in capitals. */
static void address_write(const char *name, char *text, size_t size)
{
    uint8_t address[16];

    if (inet_pton(AF_INET6, name, address) != 1) {
        snprintf(text, size, "%s", name);
        return;
    }
    for (unsigned i = 0; i < 16; i += 2)
        snprintf(text + 5 * i / 2, size - 5 * i / 2, "%02X%02X%s", address[i], address[i + 1],
                 i < 14 ? ":" : "");
}

static bool server_name_set(struct weir__tls_handshake *handshake, const char *name,
                            enum weir__tls_name_kind kind)
{
    WOLFSSL *ssl = handshake->ssl;
    size_t length = strlen(name);
    char address[40];

    memcpy(handshake->server_name, name, length + 1);
    if (kind == WEIR__TLS_NAME_ADDRESS) {
        address_write(name, address, sizeof(address));
        return !handshake->context->verifies ||
               wolfSSL_X509_VERIFY_PARAM_set1_ip_asc(wolfSSL_get0_param(ssl), address) ==
                   WOLFSSL_SUCCESS;
    }
    return wolfSSL_UseSNI(ssl, WOLFSSL_SNI_HOST_NAME, name, (unsigned short)length) ==
               WOLFSSL_SUCCESS &&
           (!handshake->context->verifies ||
            wolfSSL_check_domain_name(ssl, name) == WOLFSSL_SUCCESS);
}

/* Of TLS 1.3, as session_save writes no other; wolfSSL would use it whatever versions are configured. */
static void session_offer(struct weir__tls_handshake *handshake, const uint8_t *data, size_t length)
{
    const struct weir__tls_vendor_context *context = handshake->context;
    struct weir__tls_saved wanted = {
        .verified = context->verifies,
        .server_name = handshake->server_name,
    };
    size_t session_length = 0;
    const unsigned char *at =
        weir__tls_saved_get(&weir__tls_wolfssl, &wanted, data, length, &session_length);

    if (!at || context->version_max < WEIR__TLS_1_3)
        return;
    WOLFSSL_SESSION *session = wolfSSL_d2i_SSL_SESSION(NULL, &at, (long)session_length);
    if (session && wolfSSL_SESSION_has_ticket(session))
        wolfSSL_set_session(handshake->ssl, session);
    wolfSSL_SESSION_free(session);
}

static bool client_set(struct weir__tls_handshake *handshake,
                       const struct weir__tls_handshake_options *options,
                       enum weir__tls_name_kind kind)
{
    struct weir__tls_vendor_context *context = handshake->context;
    WOLFSSL *ssl = handshake->ssl;

    if (options->server_name && !server_name_set(handshake, options->server_name, kind))
        return false;
    if (context->alpn_length > 0 &&
        wolfSSL_UseALPN(ssl, context->alpn_text, (unsigned)strlen(context->alpn_text),
                        WOLFSSL_ALPN_CONTINUE_ON_MISMATCH) != WOLFSSL_SUCCESS)
        return false;
    if (wolfSSL_UseSessionTicket(ssl) != WOLFSSL_SUCCESS)
        return false;
    if (options->resume)
        session_offer(handshake, options->resume, options->resume_length);
    return true;
}

static bool ssl_new(struct weir__tls_handshake *handshake)
{
    struct weir__tls_vendor_context *context = handshake->context;
    WOLFSSL *ssl = wolfSSL_new(context->identities[0].ssl_context);

    handshake->ssl = ssl;
    if (!ssl)
        return false;
    wolfSSL_SetIOReadCtx(ssl, handshake);
    wolfSSL_SetIOWriteCtx(ssl, handshake);
    wolfSSL_KeepArrays(ssl); /* the master secret and the randoms */
    if (context->server && context->tickets.count == 0) {
        wolfSSL_NoTicketTLSv12(ssl);
        if (context->version_max == WEIR__TLS_1_3)
            wolfSSL_no_ticket_TLSv13(ssl);
    }
    return true;
}

int weir__wolfssl_handshake_new(struct weir__tls_handshake **handshake_out,
                                struct weir__tls_vendor_context *context,
                                const struct weir__tls_handshake_options *options)
{
    enum weir__tls_name_kind kind = WEIR__TLS_NAME_HOST;

    if (!context->server && options->server_name)
        kind = weir__tls_name_kind(options->server_name);
    if (kind == WEIR__TLS_NAME_WRONG)
        return WEIR_EINVAL;
    struct weir__tls_handshake *handshake = weir__allocate_zeroed(1, sizeof(*handshake));
    if (!handshake || !weir__wolfssl_is_usable()) {
        weir__release(handshake);
        return WEIR_ENOMEM;
    }
    handshake->context = context;
    handshake->emit = options->emit;
    handshake->emit_context = options->emit_context;
    if (!ssl_new(handshake) || (!context->server && !client_set(handshake, options, kind))) {
        weir__wolfssl_handshake_free(handshake);
        return WEIR_ENOMEM;
    }
    wolfSSL_ERR_clear_error();
    *handshake_out = handshake;
    return 0;
}

void weir__wolfssl_handshake_free(struct weir__tls_handshake *handshake)
{
    if (!handshake)
        return;
    wolfSSL_free(handshake->ssl);
    weir__tls_wipe(handshake, sizeof(*handshake));
    weir__release(handshake);
}

/* ---- its steps ---- */

static void master_log(struct weir__tls_handshake *handshake)
{
    unsigned char *master, *server_random, *client_random;
    unsigned master_length, server_length, client_length;

    if (handshake->context->key_log && wolfSSL_version(handshake->ssl) == WEIR__TLS_1_2 &&
        wolfSSL_get_keys(handshake->ssl, &master, &master_length, &server_random, &server_length,
                         &client_random, &client_length) == WOLFSSL_SUCCESS)
        key_log(handshake, "CLIENT_RANDOM", client_random, master, master_length);
}

/*
 * wolfSSL does not send an alert for everything. In the clear Weir can; once there are keys, wolfSSL can
 * be made to say goodbye, which ends the peer's handshake too.
 */
static void alert_make_up(struct weir__tls_handshake *handshake)
{
    static const uint8_t handshake_failure[] = {WEIR__TLS_ALERT, 3, 3, 0, 2, 2, 40};

    if (handshake->emitted.records > 0)
        return;
    if (handshake->is_encrypted || handshake->secrets[CLIENT_HANDSHAKE].length > 0)
        wolfSSL_shutdown(handshake->ssl);
    else
        handshake->emit_error =
            handshake->emit(handshake->emit_context, handshake_failure, sizeof(handshake_failure));
}

static int failed(struct weir__tls_handshake *handshake, int error)
{
    wolfSSL_ERR_error_string_n((unsigned long)error, handshake->failure,
                               sizeof(handshake->failure));
    alert_make_up(handshake);
    wolfSSL_ERR_clear_error();
    return handshake->emit_error != 0 ? handshake->emit_error : WEIR_ETLS;
}

static int step(struct weir__tls_handshake *handshake, const uint8_t *record, size_t length)
{
    handshake->record = record;
    handshake->record_length = length;
    handshake->emit_error = 0;
    memset(&handshake->emitted, 0, sizeof(handshake->emitted));
    current = handshake;
    int rc = handshake->context->server ? wolfSSL_accept(handshake->ssl)
                                        : wolfSSL_connect(handshake->ssl);
    current = NULL;
    int error = wolfSSL_get_error(handshake->ssl, rc);
    handshake->record_length = 0;
    wolfSSL_ERR_clear_error();
    if (handshake->emit_error != 0)
        return handshake->emit_error;
    if (rc == WOLFSSL_SUCCESS) {
        handshake->done = true;
        master_log(handshake);
        return WEIR__TLS_DONE;
    }
    if (error == WOLFSSL_ERROR_WANT_READ)
        return WEIR__TLS_MORE;
    return failed(handshake, error);
}

int weir__wolfssl_advance(struct weir__tls_handshake *handshake, const uint8_t *record,
                          size_t length)
{
    static const uint8_t impossible[] = WEIR__TLS_IMPOSSIBLE_RECORD;

    assert(!handshake->done);
    if (length == 0 || weir__tls_record_is_whole(record, length))
        return step(handshake, record, length);
    /* wolfSSL would wait for the rest, which is not to come. */
    int rc = step(handshake, impossible, sizeof(impossible));
    return rc == WEIR_ENOMEM ? rc : WEIR_ETLS;
}

int weir__wolfssl_post_record(struct weir__tls_handshake *handshake, const uint8_t *record,
                              size_t length)
{
    char nothing[1];

    assert(handshake->done);
    if (handshake->context->server || wolfSSL_version(handshake->ssl) != WEIR__TLS_1_3 ||
        !weir__tls_record_is_whole(record, length))
        return WEIR_ETLS;
    handshake->record = record;
    handshake->record_length = length;
    int rc = wolfSSL_read(handshake->ssl, nothing, sizeof(nothing));
    int error = wolfSSL_get_error(handshake->ssl, rc);
    handshake->record_length = 0;
    wolfSSL_ERR_clear_error();
    return rc <= 0 && error == WOLFSSL_ERROR_WANT_READ ? 0 : WEIR_ETLS;
}

static int session_write(const struct weir__tls_handshake *handshake, WOLFSSL_SESSION *session,
                         uint8_t *data, size_t size)
{
    struct weir__tls_saved saved = {
        .verified = handshake->context->verifies,
        .server_name = handshake->server_name,
    };
    int length = wolfSSL_i2d_SSL_SESSION(session, NULL);

    if (length <= 0)
        return 0;
    uint8_t *der = weir__allocate((size_t)length);
    if (!der)
        return 0;
    unsigned char *at = der;
    wolfSSL_i2d_SSL_SESSION(session, &at);
    int rc = weir__tls_saved_put(&weir__tls_wolfssl, &saved, der, (size_t)length, data, size);
    weir__tls_wipe(der, (size_t)length);
    weir__release(der);
    return rc;
}

int weir__wolfssl_session_save(struct weir__tls_handshake *handshake, uint8_t *data, size_t size)
{
    /*
     * In TLS 1.2 wolfSSL 5.5 takes it that a server accepts the ticket, and fails where it does not: a
     * session is not worth that.
     */
    if (handshake->context->server || !handshake->done ||
        wolfSSL_version(handshake->ssl) != WEIR__TLS_1_3)
        return 0;
    WOLFSSL_SESSION *session = wolfSSL_get1_session(handshake->ssl);
    int rc = 0;
    if (session && wolfSSL_SESSION_has_ticket(session))
        rc = session_write(handshake, session, data, size);
    wolfSSL_SESSION_free(session);
    return rc;
}

const char *weir__wolfssl_failure(struct weir__tls_handshake *handshake)
{
    return handshake->failure;
}

/* ---- what came of it ---- */

static bool secret_say(const struct weir__tls_handshake *handshake, enum secret_kind kind,
                       enum weir__tls_hash hash, struct weir__tls_secret *secret)
{
    secret->secret_length = handshake->secrets[kind].length;
    memcpy(secret->secret, handshake->secrets[kind].bytes, secret->secret_length);
    return secret->secret_length > 0 &&
           weir__tls_secret_derive(&weir__tls_wolfssl, hash, secret) == 0;
}

static int secrets_say(const struct weir__tls_handshake *handshake, struct weir__tls_result *result)
{
    bool server = handshake->context->server;

    if (!secret_say(handshake, server ? SERVER_TRAFFIC : CLIENT_TRAFFIC, result->hash,
                    &result->tx) ||
        !secret_say(handshake, server ? CLIENT_TRAFFIC : SERVER_TRAFFIC, result->hash, &result->rx))
        return WEIR_ENOTSUP;
    /* What the last call emitted was the ticket: the server's Finished left calls before. */
    if (server)
        result->tx.keys.sequence = handshake->emitted.records;
    return 0;
}

static int master_says(const struct weir__tls_handshake *handshake, struct weir__tls_result *result)
{
    unsigned char *master, *server_random, *client_random;
    unsigned master_length, server_length, client_length;

    if (wolfSSL_get_keys(handshake->ssl, &master, &master_length, &server_random, &server_length,
                         &client_random, &client_length) != WOLFSSL_SUCCESS ||
        master_length != MASTER_BYTES ||
        weir__tls_master_derive(&weir__tls_wolfssl, result->hash, master, client_random,
                                server_random, handshake->context->server, &result->tx.keys,
                                &result->rx.keys) != 0)
        return WEIR_ENOTSUP;
    return 0;
}

static void names_say(const struct weir__tls_handshake *handshake, struct weir__tls_result *result)
{
    char *alpn = NULL;
    void *name = NULL;
    unsigned short length = 0;

    if (wolfSSL_ALPN_GetProtocol(handshake->ssl, &alpn, &length) == WOLFSSL_SUCCESS && alpn &&
        length <= WEIR__TLS_ALPN_BYTES_MAX)
        memcpy(result->alpn, alpn, length);
    if (!handshake->context->server)
        return;
    length = wolfSSL_SNI_GetRequest(handshake->ssl, WOLFSSL_SNI_HOST_NAME, &name);
    if (name && length < WEIR__TLS_NAME_MAX)
        memcpy(result->server_name, name, length);
}

/* A session that a client may resume was verified when it began; a server that verifies has no tickets. */
static bool peer_is_known(const struct weir__tls_handshake *handshake)
{
    if (!handshake->context->verifies || !handshake->context->server)
        return handshake->context->verifies;
    WOLFSSL_X509 *peer = wolfSSL_get_peer_certificate(handshake->ssl);
    bool known = peer != NULL;
    wolfSSL_X509_free(peer);
    return known;
}

int weir__wolfssl_result(struct weir__tls_handshake *handshake, struct weir__tls_result *result)
{
    const struct weir__tls_suite *suite =
        weir__tls_suite_find((unsigned)wolfSSL_get_current_cipher_suite(handshake->ssl));

    assert(handshake->done);
    memset(result, 0, sizeof(*result));
    if (!suite)
        return WEIR_ENOTSUP;
    result->version = (uint16_t)wolfSSL_version(handshake->ssl);
    result->hash = suite->hash;
    result->tx.keys.version = result->rx.keys.version = result->version;
    result->tx.keys.cipher = result->rx.keys.cipher = suite->cipher;
    snprintf(result->cipher_name, sizeof(result->cipher_name), "%s", suite->name);
    result->resumed = wolfSSL_session_reused(handshake->ssl) == 1;
    result->peer_certificate = peer_is_known(handshake);
    names_say(handshake, result);
    return result->version == WEIR__TLS_1_3 ? secrets_say(handshake, result)
                                            : master_says(handshake, result);
}
