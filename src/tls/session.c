/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/session.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include <weir/error.h>

#include "core/memory.h"

/* Handshake messages that may come behind the handshake (RFC 8446 section 4, RFC 5246 section 7.4). */
enum message {
    MESSAGE_HELLO_REQUEST = 0,
    MESSAGE_CLIENT_HELLO = 1,
    MESSAGE_NEW_SESSION_TICKET = 4,
    MESSAGE_KEY_UPDATE = 24,
};
#define MESSAGE_HEADER 4

#define ALERT_WARNING 1
#define ALERT_FATAL   2

/* ---- the end ---- */

static int fail_silently(struct weir__tls_session *session, const char *failure)
{
    size_t bytes = strlen(failure) + 1;

    if (!session->failed) {
        session->failure = weir__allocate(bytes);
        if (session->failure)
            memcpy(session->failure, failure, bytes);
    }
    session->failed = true;
    return WEIR_ETLS;
}

int weir__tls_session_fail(struct weir__tls_session *session, enum weir__tls_alert alert,
                           const char *failure)
{
    const uint8_t content[2] = {ALERT_FATAL, (uint8_t)alert};

    if (session->failed)
        return WEIR_ETLS;
    fail_silently(session, failure);
    if (session->open) {
        session->events->control(session->context, WEIR__TLS_ALERT, content, sizeof(content),
                                 false);
    } else if (!session->user->emitted) {
        /* Nothing was said yet, so nothing is encrypted yet (RFC 8446 section 5.1). */
        const uint8_t record[] = {WEIR__TLS_ALERT, 3,          3,         0,
                                  sizeof(content), content[0], content[1]};
        session->events->emit(session->context, record, sizeof(record));
    }
    return WEIR_ETLS;
}

/* ---- what user space needs ---- */

static int emit(void *context, const uint8_t *bytes, size_t length)
{
    struct weir__tls_session *session = context;

    session->user->emitted = true;
    return session->events->emit(session->context, bytes, length);
}

int weir__tls_session_init(struct weir__tls_session *session, const struct weir__tls_vendor *vendor,
                           struct weir__tls_vendor_context *vendor_context, bool server,
                           const char *server_name, const void *resumption,
                           size_t resumption_length, const struct weir__tls_events *events,
                           void *context)
{
    const struct weir__tls_handshake_options options = {
        .server_name = server_name,
        .resume = resumption,
        .resume_length = resumption_length,
        .emit = emit,
        .emit_context = session,
    };

    memset(session, 0, sizeof(*session));
    session->vendor = vendor;
    session->events = events;
    session->context = context;
    session->server = server;
    session->user = weir__allocate_zeroed(1, sizeof(*session->user));
    if (!session->user)
        return WEIR_ENOMEM;
    weir__tls_framer_init(&session->user->framer);
    int error = vendor->handshake_new(&session->user->handshake, vendor_context, &options);
    if (error)
        weir__tls_session_dispose(session);
    return error;
}

static void handshake_free(struct weir__tls_session *session)
{
    if (session->user->handshake)
        session->vendor->handshake_free(session->user->handshake);
    session->user->handshake = NULL;
}

static void user_free(struct weir__tls_session *session)
{
    if (!session->user)
        return;
    handshake_free(session);
    weir__tls_protector_dispose(&session->user->sealer);
    weir__tls_protector_dispose(&session->user->opener);
    weir__tls_framer_dispose(&session->user->framer);
    weir__release(session->user);
    session->user = NULL;
}

void weir__tls_session_dispose(struct weir__tls_session *session)
{
    user_free(session);
    weir__release(session->resumption);
    weir__release(session->failure);
    session->resumption = NULL;
    session->failure = NULL;
    weir__tls_wipe(session->secrets, sizeof(session->secrets));
}

/* A client keeps what it can resume with when it lets its handshake go. */
static void handshake_let_go(struct weir__tls_session *session)
{
    uint8_t data[16384];
    int length = 0;

    if (!session->user || !session->user->handshake)
        return;
    if (!session->server)
        length = session->vendor->session_save(session->user->handshake, data, sizeof(data));
    if (length > 0) {
        session->resumption = weir__allocate((size_t)length);
        if (session->resumption) {
            memcpy(session->resumption, data, (size_t)length);
            session->resumption_length = (uint32_t)length;
        }
        weir__tls_wipe(data, (size_t)length);
    }
    handshake_free(session);
}

void weir__tls_session_release(struct weir__tls_session *session,
                               enum weir__tls_direction direction)
{
    if (!session->user)
        return;
    if (direction == WEIR__TLS_TX) {
        weir__tls_protector_dispose(&session->user->sealer);
    } else {
        weir__tls_protector_dispose(&session->user->opener);
        handshake_let_go(session);
    }
    if (!session->user->sealer.aead && !session->user->opener.aead)
        user_free(session);
}

struct weir__tls_protector *weir__tls_session_sealer(struct weir__tls_session *session)
{
    return session->user && session->user->sealer.aead ? &session->user->sealer : NULL;
}

bool weir__tls_session_rx_is_free(const struct weir__tls_session *session)
{
    return session->open && !session->close_received && !session->failed && session->user &&
           !session->user->handshake && weir__tls_framer_is_empty(&session->user->framer);
}

size_t weir__tls_session_overhead(const struct weir__tls_session *session)
{
    const struct weir__tls_keys keys = {
        .version = session->version,
        .cipher = (enum weir__tls_cipher)session->cipher,
    };

    return weir__tls_overhead(&keys);
}

/* ---- keys ---- */

/* A secret as key_schedule.h has it. */
static struct weir__tls_secret secret_of(const struct weir__tls_session *session,
                                         enum weir__tls_direction direction)
{
    struct weir__tls_secret secret = {
        .keys = {.version = session->version, .cipher = (enum weir__tls_cipher)session->cipher},
        .secret_length = session->secret_length,
    };

    memcpy(secret.secret, session->secrets[direction], sizeof(secret.secret));
    return secret;
}

int weir__tls_session_keys(const struct weir__tls_session *session,
                           enum weir__tls_direction direction, struct weir__tls_keys *keys)
{
    const struct weir__tls_protector *protector = NULL;

    if (session->user)
        protector = direction == WEIR__TLS_TX ? &session->user->sealer : &session->user->opener;
    if (protector && protector->aead) {
        *keys = protector->keys;
        return 0;
    }
    struct weir__tls_secret secret = secret_of(session, direction);
    int error =
        weir__tls_secret_derive(session->vendor, (enum weir__tls_hash)session->hash, &secret);
    *keys = secret.keys;
    weir__tls_wipe(&secret, sizeof(secret));
    return error;
}

/* Goes on to the next secret of a direction (RFC 8446 section 7.2). */
static int next_secret(struct weir__tls_session *session, enum weir__tls_direction direction,
                       struct weir__tls_keys *keys)
{
    struct weir__tls_secret secret = secret_of(session, direction);
    int error =
        weir__tls_secret_update(session->vendor, (enum weir__tls_hash)session->hash, &secret);

    if (!error)
        memcpy(session->secrets[direction], secret.secret, sizeof(secret.secret));
    *keys = secret.keys;
    weir__tls_wipe(&secret, sizeof(secret));
    return error;
}

static int protector_renew(struct weir__tls_session *session, struct weir__tls_protector *protector,
                           const struct weir__tls_keys *keys, bool seal)
{
    const struct weir__tls_ciphers *first = session->user->ciphers;
    int error = WEIR_ENOTSUP;

    weir__tls_protector_dispose(protector);
    if (first)
        error = weir__tls_protector_init(protector, first, keys, seal);
    if (error == WEIR_ENOTSUP)
        error = weir__tls_protector_init(protector, &session->vendor->ciphers, keys, seal);
    return error;
}

int weir__tls_session_next_tx(struct weir__tls_session *session, struct weir__tls_keys *keys)
{
    if (next_secret(session, WEIR__TLS_TX, keys) != 0)
        return fail_silently(session, "no new keys");
    if (!weir__tls_session_sealer(session))
        return 0;
    return protector_renew(session, &session->user->sealer, keys, true);
}

int weir__tls_session_update_keys(struct weir__tls_session *session, bool request_peer)
{
    const uint8_t message[] = {MESSAGE_KEY_UPDATE, 0, 0, 1, request_peer ? 1 : 0};

    if (session->version != WEIR__TLS_1_3 || session->secret_length == 0)
        return WEIR_ENOTSUP;
    return session->events->control(session->context, WEIR__TLS_HANDSHAKE, message, sizeof(message),
                                    true);
}

/* ---- the handshake ---- */

static int take_result(struct weir__tls_session *session, const struct weir__tls_result *result)
{
    bool secrets = result->tx.secret_length > 0 && result->rx.secret_length > 0;
    int error;

    session->version = result->version;
    session->hash = (uint8_t)result->hash;
    session->cipher = (uint8_t)result->tx.keys.cipher;
    session->secret_length = secrets ? result->tx.secret_length : 0;
    memcpy(session->secrets[WEIR__TLS_TX], result->tx.secret, sizeof(result->tx.secret));
    memcpy(session->secrets[WEIR__TLS_RX], result->rx.secret, sizeof(result->rx.secret));
    session->key_updates = WEIR__TLS_KEY_UPDATES_MAX;
    error = protector_renew(session, &session->user->sealer, &result->tx.keys, true);
    return error ? error
                 : protector_renew(session, &session->user->opener, &result->rx.keys, false);
}

static int opened(struct weir__tls_session *session)
{
    struct weir__tls_result result;
    int error = session->vendor->result(session->user->handshake, &result);

    if (error)
        return fail_silently(session, "the library does not say the keys");
    error = take_result(session, &result);
    if (!error) {
        session->open = true;
        /* A client of TLS 1.3 still needs it to make sense of tickets. */
        if (session->server || session->version == WEIR__TLS_1_2)
            handshake_let_go(session);
        error = session->events->opened(session->context, &result);
    }
    weir__tls_wipe(&result, sizeof(result));
    return error;
}

static int handshake_advance(struct weir__tls_session *session, const uint8_t *record,
                             size_t length)
{
    struct weir__tls_user *user = session->user;
    int outcome;

    user->handshake_bytes += (uint32_t)length;
    if (user->handshake_bytes > WEIR__TLS_HANDSHAKE_BYTES_MAX)
        return weir__tls_session_fail(session, WEIR__TLS_HANDSHAKE_FAILURE,
                                      "the handshake is too long");
    outcome = session->vendor->advance(user->handshake, record, length);
    if (outcome == WEIR__TLS_DONE)
        return opened(session);
    if (outcome == WEIR_ETLS)
        return fail_silently(session, session->vendor->failure(user->handshake));
    return outcome;
}

int weir__tls_session_start(struct weir__tls_session *session)
{
    assert(!session->server);
    return handshake_advance(session, NULL, 0);
}

/* ---- what comes behind the handshake ---- */

/* One more record without data. */
static int count_quiet(struct weir__tls_session *session)
{
    if (session->quiet_records == WEIR__TLS_QUIET_RECORDS_MAX)
        return weir__tls_session_fail(session, WEIR__TLS_UNEXPECTED_MESSAGE,
                                      "the peer sends records without data");
    session->quiet_records++;
    return 0;
}

static int take_data(struct weir__tls_session *session, const uint8_t *data, size_t length)
{
    if (length == 0)
        return count_quiet(session);
    session->quiet_records = 0;
    session->credit_bytes += (uint32_t)length;
    if (session->credit_bytes >= WEIR__TLS_KEY_UPDATE_CREDIT) {
        session->credit_bytes = 0;
        if (session->key_updates < WEIR__TLS_KEY_UPDATES_MAX)
            session->key_updates++;
    }
    /* From here on tickets would come too late for the library, which has not seen this record. */
    handshake_let_go(session);
    if (!session->events->plain(session->context, data, length))
        session->close_received = true;
    return 0;
}

static int take_alert(struct weir__tls_session *session, const uint8_t *content, size_t length)
{
    char failure[32];

    if (length != 2)
        return weir__tls_session_fail(session, WEIR__TLS_DECODE_ERROR, "an alert of odd length");
    if (content[1] == WEIR__TLS_CLOSE_NOTIFY) {
        session->close_received = true;
        session->events->closed(session->context);
        return 0;
    }
    /* RFC 8446 section 6.1: user_canceled is followed by close_notify. In TLS 1.2 warnings are no end. */
    if (content[1] == WEIR__TLS_USER_CANCELED ||
        (session->version == WEIR__TLS_1_2 && content[0] == ALERT_WARNING))
        return count_quiet(session);
    snprintf(failure, sizeof(failure), "the peer sent alert %u", content[1]);
    session->peer_failed = true;
    return fail_silently(session, failure);
}

static int take_key_update(struct weir__tls_session *session, const uint8_t *body, size_t length,
                           bool last)
{
    struct weir__tls_keys keys;
    int error = 0;

    if (length != 1)
        return weir__tls_session_fail(session, WEIR__TLS_DECODE_ERROR, "a KeyUpdate of odd length");
    if (body[0] > 1)
        return weir__tls_session_fail(session, WEIR__TLS_ILLEGAL_PARAMETER, "an odd KeyUpdate");
    /* What follows has another key, so it cannot be of the same record (RFC 8446 section 5.1). */
    if (!last)
        return weir__tls_session_fail(session, WEIR__TLS_UNEXPECTED_MESSAGE,
                                      "bytes behind a KeyUpdate");
    if (session->key_updates == 0)
        return weir__tls_session_fail(session, WEIR__TLS_UNEXPECTED_MESSAGE,
                                      "the peer changes its keys too often");
    session->key_updates--;
    if (session->secret_length == 0)
        return WEIR_ENOTSUP;
    if (next_secret(session, WEIR__TLS_RX, &keys) != 0)
        return weir__tls_session_fail(session, WEIR__TLS_INTERNAL_ERROR, "no new keys");
    if (session->user && session->user->opener.aead)
        error = protector_renew(session, &session->user->opener, &keys, false);
    else
        session->events->rx_changed(session->context);
    weir__tls_wipe(&keys, sizeof(keys));
    if (error)
        return error;
    return body[0] == 1 ? weir__tls_session_update_keys(session, false) : 0;
}

/* One message, `available` bytes of which are in this record. */
static int take_message(struct weir__tls_session *session, const uint8_t *message, size_t length,
                        size_t available)
{
    bool is_1_3 = session->version == WEIR__TLS_1_3;
    const uint8_t no[2] = {ALERT_WARNING, WEIR__TLS_NO_RENEGOTIATION};

    if (is_1_3 && message[0] == MESSAGE_KEY_UPDATE)
        return take_key_update(session, message + MESSAGE_HEADER, length - MESSAGE_HEADER,
                               available == length);
    /* The library has seen it already, if it can still make use of it. */
    if (is_1_3 && message[0] == MESSAGE_NEW_SESSION_TICKET && !session->server)
        return 0;
    if (!is_1_3 && message[0] == (session->server ? MESSAGE_CLIENT_HELLO : MESSAGE_HELLO_REQUEST))
        return session->events->control(session->context, WEIR__TLS_ALERT, no, sizeof(no), false);
    return weir__tls_session_fail(session, WEIR__TLS_UNEXPECTED_MESSAGE,
                                  "a handshake message out of place");
}

static int take_handshake(struct weir__tls_session *session, const uint8_t *content, size_t length)
{
    int error = count_quiet(session);

    while (!error && length > 0) {
        size_t skipped = length < session->skip_bytes ? length : session->skip_bytes;
        size_t size;

        session->skip_bytes -= (uint32_t)skipped;
        content += skipped;
        length -= skipped;
        if (length == 0)
            break;
        if (length < MESSAGE_HEADER)
            return weir__tls_session_fail(session, WEIR__TLS_DECODE_ERROR,
                                          "a handshake message in pieces");
        size = MESSAGE_HEADER +
               ((size_t)content[1] << 16 | (size_t)content[2] << 8 | (size_t)content[3]);
        if (size > WEIR__TLS_HANDSHAKE_BYTES_MAX)
            return weir__tls_session_fail(session, WEIR__TLS_DECODE_ERROR,
                                          "a handshake message that is too long");
        if (size > length && content[0] == MESSAGE_KEY_UPDATE)
            return weir__tls_session_fail(session, WEIR__TLS_DECODE_ERROR, "a KeyUpdate in pieces");
        error = take_message(session, content, size, length);
        session->skip_bytes = (uint32_t)size;
    }
    return error;
}

int weir__tls_session_content(struct weir__tls_session *session, enum weir__tls_content type,
                              const uint8_t *content, size_t length)
{
    if (session->failed)
        return WEIR_ETLS;
    if (session->close_received)
        return 0;
    /* RFC 8446 section 5.1: a message that goes on in the next record goes on at once. */
    if (session->skip_bytes > 0 && type != WEIR__TLS_HANDSHAKE)
        return weir__tls_session_fail(session, WEIR__TLS_UNEXPECTED_MESSAGE,
                                      "a handshake message is broken off");
    switch (type) {
    case WEIR__TLS_APPLICATION_DATA:
        return take_data(session, content, length);
    case WEIR__TLS_ALERT:
        return take_alert(session, content, length);
    case WEIR__TLS_HANDSHAKE:
        return take_handshake(session, content, length);
    case WEIR__TLS_CHANGE_CIPHER_SPEC:
        break;
    }
    return weir__tls_session_fail(session, WEIR__TLS_UNEXPECTED_MESSAGE, "a record out of place");
}

static int take_record(struct weir__tls_session *session, const uint8_t *record, size_t length,
                       uint8_t *room)
{
    struct weir__tls_opened record_opened;
    int alert;

    if (!session->open)
        return handshake_advance(session, record, length);
    alert = weir__tls_open(&session->user->opener, record, length, room, &record_opened);
    if (alert)
        return weir__tls_session_fail(session, (enum weir__tls_alert)alert,
                                      "a record that cannot be opened");
    if (session->user->handshake && record_opened.type == WEIR__TLS_HANDSHAKE)
        session->vendor->post_record(session->user->handshake, record, length);
    return weir__tls_session_content(session, record_opened.type, record_opened.data,
                                     record_opened.length);
}

int weir__tls_session_receive(struct weir__tls_session *session, const uint8_t *bytes,
                              size_t length, uint8_t *room)
{
    const uint8_t *record;
    size_t record_length;
    int outcome, error = 0;

    if (session->failed)
        return WEIR_ETLS;
    while (!error && !session->close_received) {
        outcome = weir__tls_framer_next(&session->user->framer, session->version, &bytes, &length,
                                        &record, &record_length);
        if (outcome == 0)
            break;
        if (outcome == WEIR__TLS_FRAMER_ENOMEM)
            return WEIR_ENOMEM;
        if (outcome < 0)
            return weir__tls_session_fail(session, (enum weir__tls_alert) - outcome,
                                          "bytes that are no record");
        error = take_record(session, record, record_length, room);
    }
    return error;
}
