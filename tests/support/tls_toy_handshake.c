/* SPDX-License-Identifier: Apache-2.0 */
#include "support/tls_toy_internal.h"

/*
 * The handshake, one message a record. TLS 1.3: ClientHello; ServerHello, then sealed Certificate
 * and Finished; sealed Finished; sealed tickets. TLS 1.2: ClientHello; ServerHello, Certificate,
 * ServerHelloDone; ClientKeyExchange, sealed Finished; ticket, sealed Finished. ChangeCipherSpec
 * stands where real ones have it. What a message holds is the toy's own.
 */

#include <assert.h>
#include <string.h>

#include <weir/error.h>

#include "support/tls_toy.h"
#include "support/tls_toy_crypto.h"
#include "tls/key_schedule.h"

#define TICKET_COUNT      2
#define CERTIFICATE_BYTES 900 /* about what one of P-256 with its chain's first has */
#define MESSAGE_MAX       1200
#define FINISHED_BYTES    12

/* Handshake message types (RFC 8446 section 4). */
enum message_type {
    CLIENT_HELLO = 1,
    SERVER_HELLO = 2,
    NEW_SESSION_TICKET = 4,
    CERTIFICATE = 11,
    SERVER_HELLO_DONE = 14,
    CLIENT_KEY_EXCHANGE = 16,
    FINISHED = 20,
};

static uint64_t random_counter;

void tls_toy_seed(uint64_t seed)
{
    random_counter = tls_toy_absorb(0, &seed, sizeof(seed));
}

static void random_make(uint8_t *out, size_t length)
{
    random_counter++;
    tls_toy_squeeze(tls_toy_absorb(1, &random_counter, sizeof(random_counter)), out, length);
}

/* ---- reading and writing what is in a message ---- */

struct writer {
    uint8_t bytes[MESSAGE_MAX];
    size_t length;
};

static void put(struct writer *writer, const void *bytes, size_t length)
{
    assert(length <= sizeof(writer->bytes) - writer->length);
    if (length > 0)
        memcpy(writer->bytes + writer->length, bytes, length);
    writer->length += length;
}

static void put_number(struct writer *writer, unsigned number)
{
    const uint8_t bytes[2] = {(uint8_t)(number >> 8), (uint8_t)number};
    put(writer, bytes, 2);
}

/* With its length before it. */
static void put_counted(struct writer *writer, const void *bytes, size_t length)
{
    put_number(writer, (unsigned)length);
    put(writer, bytes, length);
}

struct reader {
    const uint8_t *bytes;
    size_t left;
    bool bad; /* it ended too early */
};

static const uint8_t *get(struct reader *reader, size_t length)
{
    static const uint8_t nothing[TLS_TOY_RANDOM];

    if (reader->bad || length > reader->left) {
        assert(length <= sizeof(nothing));
        reader->bad = true;
        return nothing;
    }
    reader->bytes += length;
    reader->left -= length;
    return reader->bytes - length;
}

static unsigned get_number(struct reader *reader)
{
    const uint8_t *bytes = get(reader, 2);
    return (unsigned)bytes[0] << 8 | bytes[1];
}

/* At most `max` bytes; `*length` is 0 if there is no such thing. */
static const uint8_t *get_counted(struct reader *reader, size_t max, size_t *length)
{
    *length = get_number(reader);
    if (*length > max || *length > reader->left) {
        reader->bad = true;
        *length = 0;
    }
    return get(reader, *length);
}

/* ---- sending ---- */

static int plain_send(struct weir__tls_handshake *handshake, enum weir__tls_content type,
                      const uint8_t *bytes, size_t length)
{
    uint8_t record[WEIR__TLS_HEADER + MESSAGE_MAX] = {
        (uint8_t)type,
        3,
        handshake->state == TLS_TOY_START ? 1 : 3, /* a ClientHello's: RFC 8446 section 5.1 */
        (uint8_t)(length >> 8),
        (uint8_t)length,
    };

    assert(length <= MESSAGE_MAX);
    memcpy(record + WEIR__TLS_HEADER, bytes, length);
    return handshake->emit(handshake->emit_context, record, WEIR__TLS_HEADER + length);
}

static int record_send(struct weir__tls_handshake *handshake, enum weir__tls_content type,
                       const uint8_t *bytes, size_t length)
{
    uint8_t record[MESSAGE_MAX + 64];
    struct iovec part = {(void *)(uintptr_t)bytes, length};

    if (!handshake->sealing)
        return plain_send(handshake, type, bytes, length);
    int64_t sealed = weir__tls_seal(&handshake->seal, type, &part, 1, record);
    assert(sealed > 0);
    return handshake->emit(handshake->emit_context, record, (size_t)sealed);
}

static int message_send(struct weir__tls_handshake *handshake, enum message_type type,
                        const void *body, size_t length)
{
    struct writer message = {.length = 0};

    put_number(&message, (unsigned)type << 8);
    put_counted(&message, body, length);
    handshake->transcript = tls_toy_absorb(handshake->transcript, message.bytes, message.length);
    return record_send(handshake, WEIR__TLS_HANDSHAKE, message.bytes, message.length);
}

static int change_cipher_spec_send(struct weir__tls_handshake *handshake)
{
    static const uint8_t one = 1;
    return plain_send(handshake, WEIR__TLS_CHANGE_CIPHER_SPEC, &one, 1);
}

static int fail(struct weir__tls_handshake *handshake, int alert, const char *why)
{
    const uint8_t bytes[2] = {2, (uint8_t)alert};

    handshake->state = TLS_TOY_FAILED;
    handshake->failure = why;
    return record_send(handshake, WEIR__TLS_ALERT, bytes, sizeof(bytes)) ? WEIR_ENOMEM : WEIR_ETLS;
}

/* What that side's Finished says after the messages of `transcript`. */
static void finished_make(const struct weir__tls_handshake *handshake, bool server,
                          uint64_t transcript, uint8_t data[FINISHED_BYTES])
{
    uint64_t state = tls_toy_absorb(server, handshake->shared, sizeof(handshake->shared));
    state = tls_toy_absorb(state, &transcript, sizeof(transcript));
    tls_toy_squeeze(state, data, FINISHED_BYTES);
}

static int finished_send(struct weir__tls_handshake *handshake)
{
    uint8_t data[FINISHED_BYTES];

    finished_make(handshake, handshake->context->server, handshake->transcript, data);
    return message_send(handshake, FINISHED, data, sizeof(data));
}

static int certificate_send(struct weir__tls_handshake *handshake)
{
    uint8_t certificate[CERTIFICATE_BYTES];

    tls_toy_squeeze(CERTIFICATE, certificate, sizeof(certificate));
    return message_send(handshake, CERTIFICATE, certificate, sizeof(certificate));
}

static int ticket_send(struct weir__tls_handshake *handshake)
{
    uint8_t ticket[TLS_TOY_TICKET];

    memcpy(ticket, handshake->context->tickets.keys[0].name, 16);
    random_make(ticket + 16, 8);
    return message_send(handshake, NEW_SESSION_TICKET, ticket, sizeof(ticket));
}

/* ---- keys ---- */

/* Key and mask of one direction, and what seals or opens with them. */
static int protector_make(struct weir__tls_protector *protector, const struct weir__tls_keys *keys,
                          uint64_t sequence, bool seal)
{
    struct weir__tls_keys from = *keys;

    from.sequence = sequence;
    weir__tls_protector_dispose(protector);
    return weir__tls_protector_init(protector, &weir__tls_toy.ciphers, &from, seal);
}

static void secret_make(const struct weir__tls_handshake *handshake, const char *label,
                        struct weir__tls_secret *secret)
{
    enum weir__tls_hash hash = handshake->suite->hash;

    *secret = (struct weir__tls_secret){
        .keys = {.version = handshake->version, .cipher = handshake->suite->cipher},
        .secret_length = (uint8_t)weir__tls_hash_bytes(hash),
    };
    int error = weir__tls_expand_label(&weir__tls_toy, hash, handshake->shared, label,
                                       secret->secret, secret->secret_length);
    if (!error)
        error = weir__tls_secret_derive(&weir__tls_toy, hash, secret);
    assert(!error); /* the toy's HMAC never fails */
}

/* All keys there will be. Returns 0 or WEIR_ENOMEM. */
static int keys_make(struct weir__tls_handshake *handshake)
{
    bool server = handshake->context->server;
    struct weir__tls_secret tx, rx;

    tls_toy_hmac(WEIR__TLS_SHA384, handshake->client_random, TLS_TOY_RANDOM,
                 handshake->server_random, TLS_TOY_RANDOM, handshake->shared);
    if (handshake->version == WEIR__TLS_1_3) {
        secret_make(handshake, server ? "s ap traffic" : "c ap traffic", &handshake->tx);
        secret_make(handshake, server ? "c ap traffic" : "s ap traffic", &handshake->rx);
        secret_make(handshake, server ? "s hs traffic" : "c hs traffic", &tx);
        secret_make(handshake, server ? "c hs traffic" : "s hs traffic", &rx);
    } else {
        tx = (struct weir__tls_secret){
            .keys = {.version = WEIR__TLS_1_2, .cipher = handshake->suite->cipher}};
        rx = tx;
        weir__tls_master_derive(&weir__tls_toy, handshake->suite->hash, handshake->shared,
                                handshake->client_random, handshake->server_random, server,
                                &tx.keys, &rx.keys);
        handshake->tx = tx;
        handshake->rx = rx;
    }
    if (protector_make(&handshake->seal, &tx.keys, 0, true) ||
        protector_make(&handshake->open, &rx.keys, 0, false))
        return WEIR_ENOMEM;
    return 0;
}

/* ---- the server's side ---- */

struct client_hello {
    unsigned version_min, version_max, ciphers;
    bool certificate;
    const uint8_t *alpn, *server_name, *ticket;
    size_t alpn_length, server_name_length, ticket_length;
};

static bool client_hello_read(struct weir__tls_handshake *handshake, struct reader *reader,
                              struct client_hello *hello)
{
    get_number(reader); /* legacy_version */
    memcpy(handshake->client_random, get(reader, TLS_TOY_RANDOM), TLS_TOY_RANDOM);
    hello->version_min = get_number(reader);
    hello->version_max = get_number(reader);
    hello->ciphers = get_number(reader);
    hello->certificate = get_number(reader) != 0;
    hello->alpn = get_counted(reader, WEIR__TLS_ALPN_WIRE_MAX, &hello->alpn_length);
    hello->server_name = get_counted(reader, WEIR__TLS_NAME_MAX - 1, &hello->server_name_length);
    hello->ticket = get_counted(reader, TLS_TOY_TICKET, &hello->ticket_length);
    return !reader->bad && reader->left == 0 &&
           !memchr(hello->server_name, '\0', hello->server_name_length);
}

/* The first suite that both sides have, in Weir's order. Returns an alert or 0. */
static int suite_choose(struct weir__tls_handshake *handshake, const struct client_hello *hello)
{
    const struct weir__tls_vendor_context *context = handshake->context;
    unsigned version =
        hello->version_max < context->version_max ? hello->version_max : context->version_max;
    unsigned count;
    const struct weir__tls_suite *suites = weir__tls_suites(&count);

    if (version < hello->version_min || version < context->version_min)
        return WEIR__TLS_PROTOCOL_VERSION;
    for (unsigned i = 0; i < count && !handshake->suite; i++) {
        if (suites[i].version == version &&
            (hello->ciphers & context->ciphers & 1u << suites[i].cipher))
            handshake->suite = &suites[i];
    }
    if (!handshake->suite)
        return WEIR__TLS_HANDSHAKE_FAILURE;
    handshake->version = (uint16_t)version;
    return 0;
}

static void alpn_note(struct weir__tls_handshake *handshake, const uint8_t *name, size_t length)
{
    memcpy(handshake->alpn, name, length);
    handshake->alpn[length] = '\0';
}

static void hello_note(struct weir__tls_handshake *handshake, const struct client_hello *hello)
{
    const struct weir__tls_vendor_context *context = handshake->context;
    const uint8_t *alpn =
        weir__tls_alpn_choose(context->alpn, context->alpn_length, hello->alpn, hello->alpn_length);

    if (alpn)
        alpn_note(handshake, alpn + 1, alpn[0]);
    memcpy(handshake->server_name, hello->server_name, hello->server_name_length);
    handshake->peer_certificate = context->peer != WEIR__TLS_PEER_UNASKED && hello->certificate;
    for (unsigned i = 0; i < context->tickets.count; i++) {
        if (hello->ticket_length == TLS_TOY_TICKET &&
            memcmp(hello->ticket, context->tickets.keys[i].name, 16) == 0)
            handshake->resumed = true;
    }
}

static int server_hello_send(struct weir__tls_handshake *handshake)
{
    struct writer body = {.length = 0};

    random_make(handshake->server_random, TLS_TOY_RANDOM);
    put_number(&body, WEIR__TLS_1_2);
    put(&body, handshake->server_random, TLS_TOY_RANDOM);
    put_number(&body, handshake->suite->number);
    put_number(&body, handshake->resumed);
    put_counted(&body, handshake->alpn, strlen(handshake->alpn));
    int error = message_send(handshake, SERVER_HELLO, body.bytes, body.length);
    return error ? error : keys_make(handshake);
}

static int server_flight_send(struct weir__tls_handshake *handshake)
{
    int error = server_hello_send(handshake);

    if (!error && handshake->version == WEIR__TLS_1_3) {
        error = change_cipher_spec_send(handshake);
        handshake->sealing = handshake->opening = true;
    }
    if (!error)
        error = certificate_send(handshake);
    if (!error && handshake->version == WEIR__TLS_1_3)
        error = finished_send(handshake);
    else if (!error)
        error = message_send(handshake, SERVER_HELLO_DONE, "", 0);
    return error;
}

static int client_hello_take(struct weir__tls_handshake *handshake, struct reader *reader)
{
    struct client_hello hello;

    if (!client_hello_read(handshake, reader, &hello))
        return fail(handshake, WEIR__TLS_DECODE_ERROR, "the ClientHello is malformed");
    int alert = suite_choose(handshake, &hello);
    if (alert)
        return fail(handshake, alert, "nothing in common");
    hello_note(handshake, &hello);
    if (handshake->context->peer == WEIR__TLS_PEER_REQUIRED && !handshake->peer_certificate)
        return fail(handshake, WEIR__TLS_HANDSHAKE_FAILURE, "no certificate");
    handshake->state = handshake->version == WEIR__TLS_1_3 ? TLS_TOY_WAIT_CLIENT_FINISHED
                                                           : TLS_TOY_WAIT_KEY_EXCHANGE;
    return server_flight_send(handshake);
}

static int key_exchange_take(struct weir__tls_handshake *handshake, struct reader *reader)
{
    if (reader->left == 0)
        return fail(handshake, WEIR__TLS_DECODE_ERROR, "the ClientKeyExchange is empty");
    handshake->state = TLS_TOY_WAIT_CLIENT_FINISHED;
    return WEIR__TLS_MORE;
}

static bool finished_is_right(const struct weir__tls_handshake *handshake, uint64_t transcript,
                              const struct reader *reader)
{
    uint8_t expected[FINISHED_BYTES];

    finished_make(handshake, !handshake->context->server, transcript, expected);
    return reader->left == FINISHED_BYTES && memcmp(reader->bytes, expected, FINISHED_BYTES) == 0;
}

/* Tickets are the first records of the application's key. */
static int tickets_send_1_3(struct weir__tls_handshake *handshake)
{
    int error = protector_make(&handshake->seal, &handshake->tx.keys, 0, true);

    for (unsigned i = 0; !error && handshake->context->tickets.count > 0 && i < TICKET_COUNT; i++)
        error = ticket_send(handshake);
    handshake->tx.keys.sequence = handshake->seal.keys.sequence;
    return error;
}

static int server_finish_1_2(struct weir__tls_handshake *handshake)
{
    int error = handshake->context->tickets.count > 0 ? ticket_send(handshake) : 0;

    if (!error)
        error = change_cipher_spec_send(handshake);
    handshake->sealing = true;
    return error ? error : finished_send(handshake);
}

static int client_finished_take(struct weir__tls_handshake *handshake)
{
    int error = handshake->version == WEIR__TLS_1_3 ? tickets_send_1_3(handshake)
                                                    : server_finish_1_2(handshake);
    if (error)
        return error;
    handshake->state = TLS_TOY_DONE;
    return WEIR__TLS_DONE;
}

/* ---- the client's side ---- */

static int client_hello_send(struct weir__tls_handshake *handshake)
{
    const struct weir__tls_vendor_context *context = handshake->context;
    struct writer body = {.length = 0};

    random_make(handshake->client_random, TLS_TOY_RANDOM);
    put_number(&body, WEIR__TLS_1_2);
    put(&body, handshake->client_random, TLS_TOY_RANDOM);
    put_number(&body, context->version_min);
    put_number(&body, context->version_max);
    put_number(&body, context->ciphers);
    put_number(&body, context->certificate);
    put_counted(&body, context->alpn, context->alpn_length);
    put_counted(&body, handshake->server_name, strlen(handshake->server_name));
    put_counted(&body, handshake->offered, handshake->offers ? TLS_TOY_TICKET : 0);
    int error = message_send(handshake, CLIENT_HELLO, body.bytes, body.length);
    handshake->state = TLS_TOY_WAIT_SERVER_HELLO;
    return error;
}

static int server_hello_take(struct weir__tls_handshake *handshake, struct reader *reader)
{
    const struct weir__tls_vendor_context *context = handshake->context;
    size_t alpn_length;

    get_number(reader); /* legacy_version */
    memcpy(handshake->server_random, get(reader, TLS_TOY_RANDOM), TLS_TOY_RANDOM);
    const struct weir__tls_suite *suite = weir__tls_suite_find(get_number(reader));
    bool resumed = get_number(reader) != 0;
    const uint8_t *alpn = get_counted(reader, WEIR__TLS_ALPN_BYTES_MAX, &alpn_length);
    if (reader->bad || reader->left > 0)
        return fail(handshake, WEIR__TLS_DECODE_ERROR, "the ServerHello is malformed");
    if (!suite || suite->version < context->version_min || suite->version > context->version_max ||
        !(context->ciphers & 1u << suite->cipher) || (resumed && !handshake->offers))
        return fail(handshake, WEIR__TLS_ILLEGAL_PARAMETER,
                    "the server chose what was not offered");
    handshake->suite = suite;
    handshake->version = suite->version;
    handshake->resumed = resumed;
    alpn_note(handshake, alpn, alpn_length);
    if (keys_make(handshake))
        return WEIR_ENOMEM;
    handshake->sealing = handshake->opening = handshake->version == WEIR__TLS_1_3;
    handshake->state = TLS_TOY_WAIT_CERTIFICATE;
    return WEIR__TLS_MORE;
}

static int certificate_take(struct weir__tls_handshake *handshake, struct reader *reader)
{
    if (reader->left == 0)
        return fail(handshake, WEIR__TLS_DECODE_ERROR, "the Certificate is empty");
    handshake->peer_certificate = handshake->context->peer == WEIR__TLS_PEER_REQUIRED;
    handshake->state = handshake->version == WEIR__TLS_1_3 ? TLS_TOY_WAIT_SERVER_FINISHED
                                                           : TLS_TOY_WAIT_HELLO_DONE;
    return WEIR__TLS_MORE;
}

static int hello_done_take(struct weir__tls_handshake *handshake)
{
    uint8_t share[65]; /* as long as a point of P-256 */

    handshake->state = TLS_TOY_WAIT_SERVER_FINISHED;
    tls_toy_squeeze(CLIENT_KEY_EXCHANGE, share, sizeof(share));
    int error = message_send(handshake, CLIENT_KEY_EXCHANGE, share, sizeof(share));
    if (!error)
        error = change_cipher_spec_send(handshake);
    handshake->sealing = true;
    return error ? error : finished_send(handshake);
}

static int server_finished_take(struct weir__tls_handshake *handshake)
{
    int error = 0;

    if (handshake->version == WEIR__TLS_1_3) {
        error = change_cipher_spec_send(handshake);
        if (!error)
            error = finished_send(handshake);
        if (!error)
            error = protector_make(&handshake->open, &handshake->rx.keys, 0, false);
    }
    if (error)
        return error;
    handshake->state = TLS_TOY_DONE;
    return WEIR__TLS_DONE;
}

static int ticket_take(struct weir__tls_handshake *handshake, struct reader *reader)
{
    if (reader->left != TLS_TOY_TICKET)
        return WEIR_ETLS;
    memcpy(handshake->ticket, reader->bytes, TLS_TOY_TICKET);
    handshake->has_ticket = true;
    return 0;
}

/* ---- taking records ---- */

/* Puts the body of the one message in `data` in `reader`. Returns its type, or -1. */
static int message_read(const uint8_t *data, size_t length, struct reader *reader)
{
    size_t body = length < 4 ? 0 : (size_t)data[1] << 16 | (size_t)data[2] << 8 | data[3];

    if (length < 4 || length - 4 != body)
        return -1;
    *reader = (struct reader){.bytes = data + 4, .left = body};
    return data[0];
}

static int message_expected(enum tls_toy_state state)
{
    switch (state) {
    case TLS_TOY_WAIT_CLIENT_HELLO:
        return CLIENT_HELLO;
    case TLS_TOY_WAIT_KEY_EXCHANGE:
        return CLIENT_KEY_EXCHANGE;
    case TLS_TOY_WAIT_SERVER_HELLO:
        return SERVER_HELLO;
    case TLS_TOY_WAIT_CERTIFICATE:
        return CERTIFICATE;
    case TLS_TOY_WAIT_HELLO_DONE:
        return SERVER_HELLO_DONE;
    case TLS_TOY_WAIT_CLIENT_FINISHED:
    case TLS_TOY_WAIT_SERVER_FINISHED:
        return FINISHED;
    case TLS_TOY_START:
    case TLS_TOY_DONE:
    case TLS_TOY_FAILED:
        break;
    }
    return -1;
}

static int message_dispatch(struct weir__tls_handshake *handshake, struct reader *reader)
{
    switch (handshake->state) {
    case TLS_TOY_WAIT_CLIENT_HELLO:
        return client_hello_take(handshake, reader);
    case TLS_TOY_WAIT_KEY_EXCHANGE:
        return key_exchange_take(handshake, reader);
    case TLS_TOY_WAIT_CLIENT_FINISHED:
        return client_finished_take(handshake);
    case TLS_TOY_WAIT_SERVER_HELLO:
        return server_hello_take(handshake, reader);
    case TLS_TOY_WAIT_CERTIFICATE:
        return certificate_take(handshake, reader);
    case TLS_TOY_WAIT_HELLO_DONE:
        return hello_done_take(handshake);
    case TLS_TOY_WAIT_SERVER_FINISHED:
        return server_finished_take(handshake);
    case TLS_TOY_START:
    case TLS_TOY_DONE:
    case TLS_TOY_FAILED:
        break;
    }
    assert(false); /* message_expected has none for these */
    return WEIR_ETLS;
}

static int message_take(struct weir__tls_handshake *handshake, const uint8_t *data, size_t length)
{
    struct reader reader;
    uint64_t before = handshake->transcript;
    int type = message_read(data, length, &reader);

    if (type < 0)
        return fail(handshake, WEIR__TLS_DECODE_ERROR, "a message is malformed");
    handshake->transcript = tls_toy_absorb(before, data, length);
    if (type == NEW_SESSION_TICKET && handshake->state == TLS_TOY_WAIT_SERVER_FINISHED &&
        !handshake->opening)
        return ticket_take(handshake, &reader)
                   ? fail(handshake, WEIR__TLS_DECODE_ERROR, "the ticket is malformed")
                   : WEIR__TLS_MORE;
    if (type != message_expected(handshake->state) || (type == FINISHED && !handshake->opening))
        return fail(handshake, WEIR__TLS_UNEXPECTED_MESSAGE, "a message comes out of turn");
    if (type == FINISHED && !finished_is_right(handshake, before, &reader))
        return fail(handshake, WEIR__TLS_HANDSHAKE_FAILURE, "the Finished is wrong");
    return message_dispatch(handshake, &reader);
}

static int change_cipher_spec_take(struct weir__tls_handshake *handshake, const uint8_t *record,
                                   size_t length)
{
    bool finished_is_next = handshake->state == TLS_TOY_WAIT_CLIENT_FINISHED ||
                            handshake->state == TLS_TOY_WAIT_SERVER_FINISHED;

    if (length != WEIR__TLS_HEADER + 1 || record[WEIR__TLS_HEADER] != 1)
        return fail(handshake, WEIR__TLS_UNEXPECTED_MESSAGE, "the ChangeCipherSpec is malformed");
    if (handshake->version == WEIR__TLS_1_3)
        return WEIR__TLS_MORE; /* of no meaning (RFC 8446 appendix D.4) */
    if (!finished_is_next || handshake->opening)
        return fail(handshake, WEIR__TLS_UNEXPECTED_MESSAGE, "a ChangeCipherSpec out of turn");
    handshake->opening = true;
    return WEIR__TLS_MORE;
}

static int record_take(struct weir__tls_handshake *handshake, const uint8_t *record, size_t length)
{
    uint8_t room[WEIR__TLS_PLAIN_MAX + WEIR__TLS_EXPAND_MAX];
    struct weir__tls_opened opened = {
        .type = record[0],
        .data = record + WEIR__TLS_HEADER,
        .length = length - WEIR__TLS_HEADER,
    };

    if (opened.type == WEIR__TLS_CHANGE_CIPHER_SPEC)
        return change_cipher_spec_take(handshake, record, length);
    if (handshake->opening && opened.type != WEIR__TLS_ALERT) {
        int alert = weir__tls_open(&handshake->open, record, length, room, &opened);
        if (alert)
            return fail(handshake, alert, "a record is not authentic");
    }
    if (opened.type == WEIR__TLS_ALERT) {
        handshake->state = TLS_TOY_FAILED;
        handshake->failure = "the peer sent an alert";
        return WEIR_ETLS;
    }
    if (opened.type != WEIR__TLS_HANDSHAKE)
        return fail(handshake, WEIR__TLS_UNEXPECTED_MESSAGE, "a record comes out of turn");
    return message_take(handshake, opened.data, opened.length);
}

int tls_toy_advance(struct weir__tls_handshake *handshake, const uint8_t *record, size_t length)
{
    assert(handshake->state != TLS_TOY_DONE && handshake->state != TLS_TOY_FAILED);
    assert((handshake->state == TLS_TOY_START) == (length == 0));
    if (length == 0)
        return client_hello_send(handshake);
    int64_t framed = weir__tls_frame(record, length, handshake->version);
    if (framed < 0)
        return fail(handshake, (int)-framed, "that is no record");
    if ((size_t)framed != length)
        return fail(handshake, WEIR__TLS_DECODE_ERROR, "that is not one record");
    return record_take(handshake, record, length);
}

int tls_toy_post_record(struct weir__tls_handshake *handshake, const uint8_t *record, size_t length)
{
    uint8_t room[WEIR__TLS_PLAIN_MAX + WEIR__TLS_EXPAND_MAX];
    struct weir__tls_opened opened;
    struct reader reader;

    assert(handshake->state == TLS_TOY_DONE);
    if (handshake->context->server || handshake->version != WEIR__TLS_1_3 ||
        weir__tls_frame(record, length, WEIR__TLS_1_3) != (int64_t)length ||
        weir__tls_open(&handshake->open, record, length, room, &opened) != 0 ||
        opened.type != WEIR__TLS_HANDSHAKE ||
        message_read(opened.data, opened.length, &reader) != NEW_SESSION_TICKET)
        return WEIR_ETLS;
    return ticket_take(handshake, &reader);
}
