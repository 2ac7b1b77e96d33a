/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor/gnutls_internal.h"

/* One handshake: records in, bytes out, and at its end the keys. */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <weir/error.h>

#include "core/memory.h"
#include "tls/key_schedule.h"

#define RANDOM_BYTES 32

/* Two, as a browser has two connections at once, and a ticket is best used once (RFC 8446 C.4). */
#define TICKETS 2
/* How long a ticket is good for; RFC 8446 section 4.6.1 allows 7 days. */
#define TICKET_LIFETIME_S 86400

struct secret {
    uint8_t bytes[WEIR__TLS_HASH_MAX];
    uint8_t length;
};

struct weir__tls_handshake {
    struct weir__tls_vendor_context *context;
    gnutls_session_t session;
    weir__tls_emit_fn emit;
    void *emit_context;
    int emit_error;
    const uint8_t *record; /* what the transport reads from, in `advance` and `post_record` */
    size_t record_length;
    bool done;
    bool verified; /* the peer's certificate */
    uint64_t tx_sequence, rx_sequence;
    struct secret client_secret, server_secret; /* TLS 1.3: of application data */
    char server_name[WEIR__TLS_NAME_MAX];       /* clients; "" = none */
    char failure[128];
};

const struct weir__tls_vendor_context *weir__gnutls_context_of(gnutls_session_t session)
{
    const struct weir__tls_handshake *handshake = gnutls_session_get_ptr(session);

    return handshake->context;
}

/* ---- the transport ---- */

static ssize_t transport_pull(gnutls_transport_ptr_t pointer, void *data, size_t size)
{
    struct weir__tls_handshake *handshake = pointer;
    size_t length = handshake->record_length < size ? handshake->record_length : size;

    if (length == 0) {
        gnutls_transport_set_errno(handshake->session, EAGAIN);
        return -1;
    }
    memcpy(data, handshake->record, length);
    handshake->record += length;
    handshake->record_length -= length;
    return (ssize_t)length;
}

static ssize_t transport_push(gnutls_transport_ptr_t pointer, const giovec_t *parts, int count)
{
    struct weir__tls_handshake *handshake = pointer;
    ssize_t length = 0;

    for (int i = 0; i < count; i++) {
        if (handshake->emit_error == 0 && !handshake->done)
            handshake->emit_error =
                handshake->emit(handshake->emit_context, parts[i].iov_base, parts[i].iov_len);
        length += (ssize_t)parts[i].iov_len;
    }
    return length;
}

/* ---- secrets ---- */

static void secret_take(struct secret *secret, const gnutls_datum_t *bytes)
{
    assert(bytes->size <= sizeof(secret->bytes));
    memcpy(secret->bytes, bytes->data, bytes->size);
    secret->length = (uint8_t)bytes->size;
}

static size_t hexadecimal(const gnutls_datum_t *bytes, char *text)
{
    static const char digits[] = "0123456789abcdef";

    for (unsigned i = 0; i < bytes->size; i++) {
        text[2 * i] = digits[bytes->data[i] >> 4];
        text[2 * i + 1] = digits[bytes->data[i] & 15];
    }
    text[2 * bytes->size] = '\0';
    return 2 * bytes->size;
}

/* A line is "LABEL <client random> <secret>". */
static void key_log_write(const struct weir__tls_handshake *handshake, const char *label,
                          const gnutls_datum_t *secret)
{
    gnutls_datum_t client_random, server_random;
    char line[64 + 2 * RANDOM_BYTES + 2 * WEIR__TLS_HASH_MAX];
    size_t length = strlen(label);

    gnutls_session_get_random(handshake->session, &client_random, &server_random);
    if (length > 60 || client_random.size != RANDOM_BYTES || secret->size > WEIR__TLS_HASH_MAX)
        return;
    memcpy(line, label, length);
    line[length++] = ' ';
    length += hexadecimal(&client_random, line + length);
    line[length++] = ' ';
    hexadecimal(secret, line + length);
    handshake->context->key_log(handshake->context->key_log_context, line);
    weir__tls_wipe(line, sizeof(line));
}

/* In place of GnuTLS's own, which heeds SSLKEYLOGFILE in the environment. */
static int on_secret(gnutls_session_t session, const char *label, const gnutls_datum_t *secret)
{
    struct weir__tls_handshake *handshake = gnutls_session_get_ptr(session);

    if (strcmp(label, "CLIENT_TRAFFIC_SECRET_0") == 0)
        secret_take(&handshake->client_secret, secret);
    else if (strcmp(label, "SERVER_TRAFFIC_SECRET_0") == 0)
        secret_take(&handshake->server_secret, secret);
    if (handshake->context->key_log)
        key_log_write(handshake, label, secret);
    return 0;
}

/* ---- a handshake's life ---- */

/* Runs when the peer has shown its certificate, or that it has none. */
static int on_peer_certificate(gnutls_session_t session)
{
    struct weir__tls_handshake *handshake = gnutls_session_get_ptr(session);
    bool server = handshake->context->server;
    const char *purpose = server ? GNUTLS_KP_TLS_WWW_CLIENT : GNUTLS_KP_TLS_WWW_SERVER;
    gnutls_typed_vdata_st checks[] = {
        {GNUTLS_DT_KEY_PURPOSE_OID, (unsigned char *)purpose, 0},
        {GNUTLS_DT_DNS_HOSTNAME, (unsigned char *)handshake->server_name, 0},
    };
    gnutls_datum_t text = {NULL, 0};
    unsigned status;

    int rc = gnutls_certificate_verify_peers(session, checks,
                                             handshake->server_name[0] == '\0' ? 1 : 2, &status);
    if (rc == GNUTLS_E_NO_CERTIFICATE_FOUND && server &&
        handshake->context->peer == WEIR__TLS_PEER_OPTIONAL)
        return 0;
    if (rc < 0)
        return rc;
    if (status == 0) {
        handshake->verified = true;
        return 0;
    }
    if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) >= 0)
        snprintf(handshake->failure, sizeof(handshake->failure), "%s", (const char *)text.data);
    gnutls_free(text.data);
    return GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR;
}

static void peer_set(struct weir__tls_handshake *handshake)
{
    const struct weir__tls_vendor_context *context = handshake->context;

    if (context->server)
        gnutls_certificate_server_set_request(
            handshake->session, context->peer == WEIR__TLS_PEER_REQUIRED   ? GNUTLS_CERT_REQUIRE
                                : context->peer == WEIR__TLS_PEER_OPTIONAL ? GNUTLS_CERT_REQUEST
                                                                           : GNUTLS_CERT_IGNORE);
    if (weir__gnutls_verifies(context))
        gnutls_session_set_verify_function(handshake->session, on_peer_certificate);
}

static bool tickets_set(struct weir__tls_handshake *handshake)
{
    struct weir__tls_vendor_context *context = handshake->context;
    gnutls_datum_t key = {context->ticket_key, sizeof(context->ticket_key)};

    if (!context->server || !context->has_tickets)
        return true;
    gnutls_db_set_cache_expiration(handshake->session, TICKET_LIFETIME_S);
    return gnutls_session_ticket_enable_server(handshake->session, &key) >= 0;
}

static bool session_new(struct weir__tls_handshake *handshake)
{
    const struct weir__tls_vendor_context *context = handshake->context;
    unsigned flags = (context->server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NONBLOCK |
                     GNUTLS_NO_SIGNAL | GNUTLS_NO_AUTO_REKEY | GNUTLS_NO_AUTO_SEND_TICKET;

    if (context->server && !context->has_tickets)
        flags |= GNUTLS_NO_TICKETS;
    if (gnutls_init(&handshake->session, flags) < 0) {
        handshake->session = NULL;
        return false;
    }
    gnutls_session_t session = handshake->session;
    gnutls_session_set_ptr(session, handshake);
    gnutls_transport_set_ptr(session, handshake);
    gnutls_transport_set_pull_function(session, transport_pull);
    gnutls_transport_set_vec_push_function(session, transport_push);
    gnutls_session_set_keylog_function(session, on_secret);
    peer_set(handshake);
    return gnutls_priority_set(session, context->priorities) >= 0 &&
           gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, context->credentials) >= 0 &&
           (context->alpn_count == 0 ||
            gnutls_alpn_set_protocols(session, context->alpn_names, context->alpn_count,
                                      GNUTLS_ALPN_SERVER_PRECEDENCE) >= 0) &&
           tickets_set(handshake);
}

static bool server_name_set(struct weir__tls_handshake *handshake, const char *name,
                            enum weir__tls_name_kind kind)
{
    strcpy(handshake->server_name, name);
    return kind == WEIR__TLS_NAME_ADDRESS ||
           gnutls_server_name_set(handshake->session, GNUTLS_NAME_DNS, name, strlen(name)) >= 0;
}

static void session_offer(struct weir__tls_handshake *handshake, const uint8_t *data, size_t length)
{
    struct weir__tls_saved wanted = {
        .verified = weir__gnutls_verifies(handshake->context),
        .server_name = handshake->server_name,
    };
    size_t session_length;
    const uint8_t *session =
        weir__tls_saved_get(&weir__tls_gnutls, &wanted, data, length, &session_length);

    if (session)
        gnutls_session_set_data(handshake->session, session, session_length);
}

int weir__gnutls_handshake_new(struct weir__tls_handshake **handshake_out,
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
    if (!session_new(handshake) || (name && !server_name_set(handshake, name, kind))) {
        weir__gnutls_handshake_free(handshake);
        return WEIR_ENOMEM;
    }
    if (!context->server && options->resume)
        session_offer(handshake, options->resume, options->resume_length);
    *handshake_out = handshake;
    return 0;
}

void weir__gnutls_handshake_free(struct weir__tls_handshake *handshake)
{
    if (!handshake)
        return;
    if (handshake->session)
        gnutls_deinit(handshake->session);
    weir__tls_wipe(handshake, sizeof(*handshake));
    weir__release(handshake);
}

/* ---- its steps ---- */

static uint64_t sequence_of(const unsigned char bytes[8])
{
    uint64_t sequence = 0;

    for (unsigned i = 0; i < 8; i++)
        sequence = sequence << 8 | bytes[i];
    return sequence;
}

static bool is_tls13(const struct weir__tls_handshake *handshake)
{
    return gnutls_protocol_get_version(handshake->session) == GNUTLS_TLS1_3;
}

/*
 * TLS 1.3. GnuTLS's tickets do not hold the client's certificate then: where it is required, every
 * ticket is of somebody who had shown a valid one; where it is optional, who showed one gets no ticket,
 * so that a resumed connection is that of nobody.
 */
static int tickets_send(struct weir__tls_handshake *handshake)
{
    const struct weir__tls_vendor_context *context = handshake->context;

    if (!context->server || !context->has_tickets || !is_tls13(handshake) ||
        (context->peer == WEIR__TLS_PEER_OPTIONAL && handshake->verified))
        return 0;
    return gnutls_session_ticket_send(handshake->session, TICKETS, 0);
}

static int finish(struct weir__tls_handshake *handshake)
{
    unsigned char tx[8], rx[8];
    int rc = tickets_send(handshake);

    if (rc >= 0)
        rc = gnutls_record_get_state(handshake->session, 0, NULL, NULL, NULL, tx);
    if (rc >= 0)
        rc = gnutls_record_get_state(handshake->session, 1, NULL, NULL, NULL, rx);
    if (rc < 0)
        return rc;
    handshake->tx_sequence = sequence_of(tx);
    handshake->rx_sequence = sequence_of(rx);
    return 0;
}

static int fail(struct weir__tls_handshake *handshake, int error)
{
    gnutls_session_t session = handshake->session;

    if (error == GNUTLS_E_MEMORY_ERROR)
        return WEIR_ENOMEM;
    if (error == GNUTLS_E_FATAL_ALERT_RECEIVED) {
        const char *name = gnutls_alert_get_name(gnutls_alert_get(session));
        snprintf(handshake->failure, sizeof(handshake->failure), "the peer says: %s",
                 name ? name : "an alert");
        return WEIR_ETLS;
    }
    if (handshake->failure[0] == '\0')
        snprintf(handshake->failure, sizeof(handshake->failure), "%s", gnutls_strerror(error));
    gnutls_alert_send_appropriate(session, error);
    return handshake->emit_error != 0 ? handshake->emit_error : WEIR_ETLS;
}

int weir__gnutls_advance(struct weir__tls_handshake *handshake, const uint8_t *record,
                         size_t length)
{
    int rc;

    assert(!handshake->done);
    if (length > 0 && !weir__tls_record_is_whole(record, length))
        return fail(handshake, GNUTLS_E_UNEXPECTED_PACKET_LENGTH);
    if (length > 0 && !weir__tls_record_changes_well(record, length))
        return fail(handshake, GNUTLS_E_UNEXPECTED_PACKET);
    handshake->record = record;
    handshake->record_length = length;
    do {
        rc = gnutls_handshake(handshake->session);
    } while (rc == GNUTLS_E_WARNING_ALERT_RECEIVED); /* each takes bytes of the record */
    if (rc == 0)
        rc = finish(handshake);
    handshake->record_length = 0;
    if (handshake->emit_error != 0)
        return handshake->emit_error;
    if (rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED)
        return WEIR__TLS_MORE;
    if (rc < 0)
        return fail(handshake, rc);
    handshake->done = true;
    return WEIR__TLS_DONE;
}

int weir__gnutls_post_record(struct weir__tls_handshake *handshake, const uint8_t *record,
                             size_t length)
{
    char nothing[1];

    assert(handshake->done);
    if (handshake->context->server || !is_tls13(handshake) ||
        !weir__tls_record_is_whole(record, length))
        return WEIR_ETLS;
    handshake->record = record;
    handshake->record_length = length;
    ssize_t rc = gnutls_record_recv(handshake->session, nothing, sizeof(nothing));
    handshake->record_length = 0;
    return rc == GNUTLS_E_AGAIN ? 0 : WEIR_ETLS;
}

int weir__gnutls_session_save(struct weir__tls_handshake *handshake, uint8_t *data, size_t size)
{
    struct weir__tls_saved saved = {
        .verified = weir__gnutls_verifies(handshake->context),
        .server_name = handshake->server_name,
    };
    gnutls_datum_t session = {NULL, 0};

    if (handshake->context->server || !handshake->done)
        return 0;
    /* Without a ticket there is nothing to resume with; one in TLS 1.2 serves again. */
    bool ticket = (gnutls_session_get_flags(handshake->session) & GNUTLS_SFLAGS_SESSION_TICKET) ||
                  (!is_tls13(handshake) && gnutls_session_is_resumed(handshake->session));
    if (!ticket || gnutls_session_get_data2(handshake->session, &session) < 0)
        return 0;
    int length =
        weir__tls_saved_put(&weir__tls_gnutls, &saved, session.data, session.size, data, size);
    weir__tls_wipe(session.data, session.size);
    gnutls_free(session.data);
    return length;
}

const char *weir__gnutls_failure(struct weir__tls_handshake *handshake)
{
    return handshake->failure;
}

/* ---- what came of it ---- */

static const struct weir__tls_suite *suite_of(gnutls_session_t session)
{
    const char *name = gnutls_ciphersuite_get(session);
    unsigned count;
    const struct weir__tls_suite *suites = weir__tls_suites(&count);

    for (unsigned i = 0; name && i < count; i++) {
        if (strcmp(suites[i].name, name) == 0)
            return &suites[i];
    }
    return NULL;
}

/* The salt alone where TLS 1.2 sends the rest (RFC 5288 section 3). */
static size_t iv_bytes(const struct weir__tls_keys *keys)
{
    return keys->version == WEIR__TLS_1_2 && keys->cipher != WEIR__TLS_CHACHA20_POLY1305
               ? WEIR__TLS_SALT
               : WEIR__TLS_NONCE;
}

static int direction_say(const struct weir__tls_handshake *handshake, bool read,
                         struct weir__tls_secret *direction)
{
    const struct secret *secret =
        read == handshake->context->server ? &handshake->client_secret : &handshake->server_secret;
    struct weir__tls_keys *keys = &direction->keys;
    gnutls_datum_t iv, key;

    if (gnutls_record_get_state(handshake->session, read, NULL, &iv, &key, NULL) < 0 ||
        key.size != weir__tls_key_bytes(keys->cipher) || iv.size < iv_bytes(keys) ||
        iv.size > sizeof(keys->iv))
        return WEIR_ENOTSUP;
    memcpy(keys->key, key.data, key.size);
    memcpy(keys->iv, iv.data, iv_bytes(keys));
    keys->sequence = read ? handshake->rx_sequence : handshake->tx_sequence;
    if (keys->version == WEIR__TLS_1_2)
        return 0;
    if (secret->length == 0)
        return WEIR_ENOTSUP;
    memcpy(direction->secret, secret->bytes, secret->length);
    direction->secret_length = secret->length;
    return 0;
}

static void names_say(const struct weir__tls_handshake *handshake, struct weir__tls_result *result)
{
    gnutls_datum_t alpn;
    size_t length = sizeof(result->server_name);
    unsigned type;

    if (gnutls_alpn_get_selected_protocol(handshake->session, &alpn) == 0 &&
        alpn.size <= WEIR__TLS_ALPN_BYTES_MAX)
        memcpy(result->alpn, alpn.data, alpn.size);
    if (handshake->context->server &&
        gnutls_server_name_get(handshake->session, result->server_name, &length, &type, 0) < 0)
        result->server_name[0] = '\0';
}

static bool peer_is_valid(const struct weir__tls_handshake *handshake)
{
    const struct weir__tls_vendor_context *context = handshake->context;
    unsigned count;

    if (!weir__gnutls_verifies(context) || !gnutls_session_is_resumed(handshake->session))
        return handshake->verified;
    /* See session_offer, the scope of ticket keys, and tickets_send. */
    return context->peer == WEIR__TLS_PEER_REQUIRED ||
           gnutls_certificate_get_peers(handshake->session, &count) != NULL;
}

int weir__gnutls_result(struct weir__tls_handshake *handshake, struct weir__tls_result *result)
{
    const struct weir__tls_suite *suite = suite_of(handshake->session);

    assert(handshake->done);
    memset(result, 0, sizeof(*result));
    if (!suite)
        return WEIR_ENOTSUP;
    result->version = suite->version;
    result->hash = suite->hash;
    result->tx.keys.version = result->rx.keys.version = suite->version;
    result->tx.keys.cipher = result->rx.keys.cipher = suite->cipher;
    snprintf(result->cipher_name, sizeof(result->cipher_name), "%s", suite->name);
    result->resumed = gnutls_session_is_resumed(handshake->session) != 0;
    result->peer_certificate = peer_is_valid(handshake);
    names_say(handshake, result);
    int rc = direction_say(handshake, false, &result->tx);
    if (rc == 0)
        rc = direction_say(handshake, true, &result->rx);
    return rc;
}
