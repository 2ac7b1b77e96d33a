/* SPDX-License-Identifier: Apache-2.0 */
#include "server/connection.h"

#include <assert.h>
#include <string.h>

#include <weir/error.h>
#include <weir/loop.h>
#include <weir/tls.h>

#include "core/memory.h"
#include "http/field.h"
#include "server/transaction.h"

#define NS_PER_MS 1000000ull

#define INPUT_SIZE_MIN 4096u

/*
 * How old TCP_INFO may be for the log's rtt_us and retransmits. No retransmission comes sooner than a
 * round trip and the kernel's least timeout after its first sending, so a transaction that had one is
 * older than this.
 */
#define INFO_AGE_MAX_NS (10 * NS_PER_MS)

static void take_kept_input(struct weir__connection *connection);

static uint64_t now_ns(const struct weir__connection *connection)
{
    return weir_loop_now_ns(connection->service->loop);
}

/* ---- time ---- */

/*
 * The timer is not moved for each request: it expires now and then, compares with the deadline and goes
 * on. It is moved only when the deadline comes to lie before its expiry.
 */
static void set_deadline(struct weir__connection *connection, uint64_t delay_ms)
{
    uint64_t now = now_ns(connection);

    connection->deadline_ns = now + delay_ms * NS_PER_MS;
    if (!weir_timer_is_started(&connection->timer) ||
        connection->timer.expires_ms * NS_PER_MS > connection->deadline_ns + NS_PER_MS)
        weir_timer_start(&connection->timer, delay_ms);
}

void weir__connection_refresh_info(struct weir__connection *connection)
{
    struct weir_delivery_info info;
    uint64_t now = now_ns(connection);

    if (connection->info_ns != 0 && now - connection->info_ns < INFO_AGE_MAX_NS)
        return;
    if (weir_stream_delivery_info(connection->stream, &info) != 0)
        return;
    connection->info_ns = now;
    connection->rtt_us = info.rtt_us;
    connection->retransmits = info.retransmits;
}

/*
 * What the peer has taken: acknowledged where that is known, else what its kernel let us send. Its pace is
 * measured on the wire, where every byte counts: of a response only whole records do, 16 KiB of TLS, which
 * at the least rate allowed take longer than a window.
 */
static void ask_taken(struct weir__connection *connection, uint64_t *wire, uint64_t *bytes)
{
    struct weir_delivery_info info;
    bool known = weir_stream_delivery_info(connection->stream, &info) == 0;

    *wire = known ? info.wire_bytes_acked : info.wire_bytes_accepted;
    *bytes = known ? info.bytes_acked : info.bytes_accepted;
}

/* `wire`, `bytes`: of the wire and of responses, taken by the peer by now. */
static void begin_rate_window(struct weir__connection *connection, uint64_t wire, uint64_t bytes)
{
    connection->rate_taken = wire;
    connection->rate_owed = connection->queued_bytes - bytes;
    connection->rate_assumed = false;
    set_deadline(connection, connection->service->options->send_timeout_ms);
}

static void abort_for_timeout(struct weir__connection *connection)
{
    connection->closing = true;
    weir_stream_abort(connection->stream, WEIR_ETIMEDOUT);
}

/* The peer has the oldest response, but the kernel still keeps the memory that it was sent from. */
static bool waits_for_memory(const struct weir__connection *connection)
{
    return WEIR__CONTAINER(connection->transactions.next, struct weir__transaction, link)->ended;
}

/* A window has passed: the peer must have taken its least share of it, or all that there was. */
static void end_rate_window(struct weir__connection *connection)
{
    const struct weir__options *options = connection->service->options;
    uint64_t wire, bytes;

    ask_taken(connection, &wire, &bytes);
    uint64_t taken = wire > connection->rate_taken ? wire - connection->rate_taken : 0;
    uint64_t due = options->rate_min_bytes_per_second * options->send_timeout_ms / 1000u;

    if (due == 0)
        due = 1;
    bool kept = connection->rate_owed == 0 && taken == 0 && waits_for_memory(connection);
    if (connection->rate_assumed ||
        (!kept && taken >= (due < connection->rate_owed ? due : connection->rate_owed)))
        begin_rate_window(connection, wire, bytes);
    else
        abort_for_timeout(connection);
}

/* Chooses the deadline for what a connection without transactions waits for. */
static void await_next(struct weir__connection *connection)
{
    const struct weir__options *options = connection->service->options;

    if (connection->in_body)
        set_deadline(connection, options->body_timeout_ms);
    else if (connection->input_length > 0)
        set_deadline(connection, options->header_timeout_ms);
    else
        set_deadline(connection, options->idle_timeout_ms);
}

/* ---- the end ---- */

static void close_connection(struct weir__connection *connection)
{
    if (connection->closing)
        return;
    connection->closing = true;
    weir_timer_stop(&connection->timer);
    if (connection->peer_done)
        weir_stream_leave(connection->stream, WEIR__CONNECTION_LINGER_MS);
    else
        weir_stream_close(connection->stream, WEIR__CONNECTION_LINGER_MS);
}

void weir__connection_abort(struct weir__connection *connection)
{
    connection->closing = true;
    weir_timer_stop(&connection->timer);
    weir_stream_abort(connection->stream, 0);
}

/* No further request: FIN behind the last response, which the peer may be waiting for. */
static void finish_after_responses(struct weir__connection *connection)
{
    connection->last = true;
    if (connection->transaction_count == 0)
        close_connection(connection);
    else
        weir_stream_shutdown(connection->stream);
}

static bool is_idle(const struct weir__connection *connection)
{
    return connection->transaction_count == 0 && connection->input_length == 0 &&
           !connection->in_body;
}

void weir__connection_drain(struct weir__connection *connection)
{
    if (is_idle(connection))
        close_connection(connection);
}

void weir__connection_transaction_ended(struct weir__connection *connection)
{
    if (connection->closing || weir_stream_is_closing(connection->stream))
        return;
    bool over = connection->last || connection->input_ended || connection->service->draining;
    if (connection->transaction_count == 0 && over && connection->input_length == 0) {
        close_connection(connection);
        return;
    }
    if (connection->blocked) {
        connection->blocked = false;
        weir_stream_read_start(connection->stream);
        take_kept_input(connection);
    }
    if (connection->transaction_count == 0 && !connection->closing)
        await_next(connection);
}

void weir__connection_count(struct weir__connection *connection)
{
    struct weir_tls_info info;

    if (connection->counted)
        return;
    connection->counted = true;
    bool known = connection->tls && weir_tls_info(connection->stream, &info) == 0;
    weir__metrics_count_connection(&connection->service->metrics, known ? &info : NULL);
}

static void free_input(struct weir__connection *connection)
{
    weir__release(connection->input);
    connection->input = NULL;
    connection->input_length = 0;
    connection->input_size = 0;
}

static void free_saved_request(struct weir__connection *connection)
{
    weir__release(connection->saved_request);
    connection->saved_request = NULL;
}

static void on_close(struct weir_stream *stream, int reason)
{
    struct weir__connection *connection = weir_stream_context(stream);
    struct weir__service *service = connection->service;

    (void)reason;
    assert(connection->transaction_count == 0);
    weir__connection_count(connection);
    weir_timer_stop(&connection->timer);
    free_input(connection);
    free_saved_request(connection);
    weir__list_remove(&connection->link);
    service->connection_count--;
    service->waiting_count -= connection->waiting;
    weir__pool_give(&service->connection_pool, connection);
    service->on_connection_gone(service);
}

/* ---- responses ---- */

/* Where the kernel does it, or nobody, a body is sent from its file best. */
static bool is_encrypted_here(const struct weir__connection *connection)
{
    struct weir_tls_info info;

    return connection->tls && weir_tls_info(connection->stream, &info) == 0 && !info.kernel_tx &&
           !info.kernel_tx_due;
}

static struct weir__moment moment(const struct weir__connection *connection, bool keep_alive)
{
    uint64_t now = now_ns(connection);

    return (struct weir__moment){
        .now_ns = now,
        .wall_ns = weir_loop_wall_ns(connection->service->loop, now),
        .keep_alive = keep_alive,
        .encrypted = is_encrypted_here(connection),
    };
}

/* The wire's bytes before the first response: a handshake, which no write of ours told of. */
static void count_handshake(struct weir__connection *connection)
{
    struct weir_delivery_info info;

    if (!connection->tls || connection->wire_bytes > 0)
        return;
    weir_stream_delivery_info(connection->stream, &info);
    connection->wire_bytes = info.wire_bytes_accepted;
}

static void send_response(struct weir__connection *connection,
                          struct weir__transaction *transaction)
{
    bool first = connection->transaction_count == 1;
    bool keep_alive = transaction->response.keep_alive;

    count_handshake(connection);
    /* With nothing else in the works the peer has all that was queued before. */
    uint64_t start = connection->queued_bytes, wire_start = connection->wire_bytes;

    weir__transaction_send(transaction);
    if (!keep_alive && !weir_stream_is_closing(connection->stream))
        finish_after_responses(connection);
    if (first && !weir_stream_is_closing(connection->stream)) {
        begin_rate_window(connection, wire_start, start);
        /* A response whose delivery nobody waits for is over when the kernel has it. */
        connection->rate_assumed = !connection->service->options->delivery;
    }
}

/* Answers what is not a request, and ends the connection: where the next one begins is not known. */
static void refuse(struct weir__connection *connection, const struct weir__request *request,
                   unsigned status, uint64_t request_ns)
{
    struct weir__transaction *transaction = weir__transaction_new(connection, request, request_ns);
    struct weir__moment now = moment(connection, false);

    if (!transaction) {
        weir__connection_abort(connection);
        return;
    }
    weir__site_error(connection->service->site, status, request, &now, &transaction->response);
    send_response(connection, transaction);
}

/* RFC 9110 section 10.1.1: 100-continue is always met, if only by an answer, or by ignoring it. */
static bool expects_the_unknown(const struct weir__request *request)
{
    const struct weir__header *header = NULL;

    while ((header = weir__request_next(request, WEIR__FIELD_EXPECT, header)) != NULL) {
        struct weir__text rest = header->value, expectation;
        while (weir__list_next(&rest, &expectation))
            if (!weir__text_equals_ignoring_case(expectation, "100-continue"))
                return true;
    }
    return false;
}

/* Whether the connection can go on behind this request's body. */
static bool survives_body(const struct weir__request *request)
{
    if (request->framing == WEIR__FRAMING_NONE)
        return true;
    /*
     * The answer goes out before the body is read. A peer that waits for "100 Continue" may then leave
     * the body out or not (RFC 9110 section 10.1.1): what follows could be either.
     */
    return !request->expect_continue &&
           request->content_length <= WEIR__CONNECTION_BODY_DISCARD_MAX;
}

static void respond(struct weir__connection *connection, const struct weir__request *request,
                    uint64_t request_ns)
{
    bool keep_alive =
        request->keep_alive && survives_body(request) && !connection->service->draining;
    struct weir__moment now = moment(connection, keep_alive);
    struct weir__transaction *transaction;

    if (expects_the_unknown(request)) {
        refuse(connection, request, 417, request_ns);
        return;
    }
    transaction = weir__transaction_new(connection, request, request_ns);
    if (!transaction) {
        weir__connection_abort(connection);
        return;
    }
    weir__site_respond(connection->service->site, request, &now, &transaction->response);
    connection->peer_done = !request->keep_alive && request->framing == WEIR__FRAMING_NONE;
    connection->in_body = keep_alive && request->framing != WEIR__FRAMING_NONE;
    if (connection->in_body) {
        weir__h1_body_init(&connection->body, request);
        connection->body_bytes = 0;
    }
    send_response(connection, transaction);
}

/* ---- requests ---- */

/* Discards the body. Returns the bytes consumed. */
static size_t read_body(struct weir__connection *connection, const char *data, size_t length)
{
    struct weir__text content;
    size_t consumed = 0;
    int outcome = weir__h1_body_consume(&connection->body, data, length, &consumed, &content);

    connection->body_bytes += content.length;
    if (outcome < 0 || connection->body_bytes > WEIR__CONNECTION_BODY_DISCARD_MAX) {
        finish_after_responses(connection);
        return length;
    }
    connection->in_body = outcome != WEIR__H1_BODY_DONE;
    return consumed;
}

/*
 * Parses one head and answers it. Returns the bytes consumed, 0 if it is not complete. A head that
 * arrives whole, as nearly all do, is parsed in the service's request; one that comes in pieces keeps a
 * request of its own, because parsing goes on where it stopped.
 */
static size_t read_head(struct weir__connection *connection, const char *data, size_t length,
                        uint64_t arrived_ns)
{
    struct weir__request *request =
        connection->saved_request ? connection->saved_request : &connection->service->request;
    int parsed;

    if (!connection->saved_request)
        weir__h1_init(&connection->parser);
    parsed = weir__h1_parse_head(&connection->parser, data, length, request);
    if (parsed == WEIR__H1_INCOMPLETE) {
        if (connection->saved_request)
            return 0;
        connection->saved_request = weir__allocate(sizeof(*request));
        if (!connection->saved_request)
            weir__connection_abort(connection);
        else
            weir__h1_init(&connection->parser);
        return 0;
    }
    if (parsed > 0)
        respond(connection, request, arrived_ns);
    else
        refuse(connection, request, (unsigned)-parsed, arrived_ns);
    free_saved_request(connection);
    return parsed > 0 ? (size_t)parsed : length;
}

static bool is_full(const struct weir__connection *connection)
{
    return connection->transaction_count >= WEIR__CONNECTION_PIPELINE_MAX ||
           connection->text_bytes >= WEIR__CONNECTION_TEXT_MAX ||
           weir_stream_queue_room(connection->stream) < WEIR__RESPONSE_SEGMENTS_MAX + 1;
}

/* Consumes what it can; the rest stays for later. Returns the bytes consumed. */
static size_t consume(struct weir__connection *connection, const char *data, size_t length,
                      size_t older_length, uint64_t arrived_ns)
{
    size_t consumed = 0;

    while (consumed < length) {
        const char *rest = data + consumed;
        size_t used;

        if (connection->last || weir_stream_is_closing(connection->stream)) {
            connection->peer_done = false;
            return length;
        }
        if (connection->in_body) {
            used = read_body(connection, rest, length - consumed);
        } else if (is_full(connection)) {
            connection->blocked = true;
            weir_stream_read_stop(connection->stream);
            return consumed;
        } else {
            bool older = consumed < older_length;
            used = read_head(connection, rest, length - consumed,
                             older ? connection->input_arrived_ns : arrived_ns);
        }
        if (used == 0)
            return consumed;
        consumed += used;
    }
    return consumed;
}

static int reserve_input(struct weir__connection *connection, size_t length)
{
    size_t size = connection->input_size ? connection->input_size : INPUT_SIZE_MIN;

    while (size < length)
        size *= 2;
    if (size == connection->input_size)
        return 0;
    char *input = weir__reallocate(connection->input, size);
    if (!input)
        return WEIR_ENOMEM;
    connection->input = input;
    connection->input_size = size;
    return 0;
}

/* Keeps the bytes for later. They are few: a head has a bound, and a blocked connection is not read. */
static int keep_input(struct weir__connection *connection, const char *data, size_t length)
{
    int error = reserve_input(connection, connection->input_length + length);

    if (error)
        return error;
    memcpy(connection->input + connection->input_length, data, length);
    connection->input_length += length;
    return 0;
}

/* The kept bytes, the first `older_length` of which arrived before the others. */
static void process_kept(struct weir__connection *connection, size_t older_length,
                         uint64_t arrived_ns)
{
    size_t consumed =
        consume(connection, connection->input, connection->input_length, older_length, arrived_ns);

    if (consumed >= older_length)
        connection->input_arrived_ns = arrived_ns;
    if (consumed == connection->input_length) {
        free_input(connection);
        return;
    }
    connection->input_length -= consumed;
    memmove(connection->input, connection->input + consumed, connection->input_length);
}

static void take_kept_input(struct weir__connection *connection)
{
    if (connection->input_length > 0)
        process_kept(connection, connection->input_length, connection->input_arrived_ns);
    if (connection->input_ended && !connection->blocked)
        finish_after_responses(connection);
}

static void process_input(struct weir__connection *connection, const char *data, size_t length,
                          uint64_t arrived_ns)
{
    size_t older_length = connection->input_length;
    size_t consumed = 0;

    if (older_length == 0) {
        consumed = consume(connection, data, length, 0, arrived_ns);
        connection->input_arrived_ns = arrived_ns;
    }
    if (consumed < length && keep_input(connection, data + consumed, length - consumed) != 0) {
        weir__connection_abort(connection);
        return;
    }
    /* A blocked connection's bytes wait; a head's first part was parsed, now it is kept. */
    if (older_length > 0 && !connection->blocked)
        process_kept(connection, older_length, arrived_ns);
}

static void on_data(struct weir_stream *stream, const uint8_t *data, size_t length,
                    uint64_t arrived_ns)
{
    struct weir__connection *connection = weir_stream_context(stream);
    bool was_idle = is_idle(connection);
    bool was_in_body = connection->in_body;

    if (connection->closing || connection->last) {
        connection->peer_done = false;
        return;
    }
    process_input(connection, (const char *)data, length, arrived_ns);
    if (connection->service->draining)
        weir__connection_drain(connection); /* a body has ended, and with it what there was to do */
    /* A head or a body has begun to arrive; its time starts once, not with each piece. */
    bool waits = connection->transaction_count == 0 && !connection->closing &&
                 !weir_stream_is_closing(stream);
    if (waits && (was_idle || was_in_body != connection->in_body))
        await_next(connection);
}

static void on_end(struct weir_stream *stream)
{
    struct weir__connection *connection = weir_stream_context(stream);

    connection->input_ended = true;
    if (connection->closing || connection->blocked)
        return;
    free_input(connection);
    finish_after_responses(connection);
}

/* A head that took too long: its first line, if that has arrived, is for the log. */
static void refuse_late_head(struct weir__connection *connection)
{
    /* The first piece was not parsed into this request yet, and the others are not parsed again. */
    weir__h1_parse_head(&connection->parser, connection->input, connection->input_length,
                        connection->saved_request);
    refuse(connection, connection->saved_request, 408, connection->input_arrived_ns);
    free_saved_request(connection);
    free_input(connection);
}

static void on_timer(struct weir_timer *timer)
{
    struct weir__connection *connection = timer->context;
    uint64_t now = now_ns(connection);

    if (now < connection->deadline_ns) {
        weir_timer_start(timer, (connection->deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS);
    } else if (connection->transaction_count > 0) {
        end_rate_window(connection);
    } else if (connection->input_length > 0 && !connection->in_body && connection->saved_request) {
        refuse_late_head(connection);
    } else {
        close_connection(connection);
    }
}

static void begin(struct weir__connection *connection)
{
    struct weir__service *service = connection->service;

    weir__list_append(&service->connections, &connection->link);
    if (connection->tls) {
        int error = weir_tls_accept(connection->stream, service->tls);
        if (error) {
            weir_stream_abort(connection->stream, error);
            return;
        }
    }
    weir_stream_read_start(connection->stream);
    /* With TLS it is for the handshake and the first byte of a request behind it. */
    set_deadline(connection, service->options->header_timeout_ms);
}

int weir__connection_start(struct weir__service *service, struct weir_stream *stream, bool tls)
{
    static const struct weir_stream_handler handler = {
        .on_data = on_data,
        .on_end = on_end,
        .on_close = on_close,
    };
    struct weir__connection *connection = weir__pool_take(&service->connection_pool);
    struct weir_address peer;

    if (!connection) {
        weir_stream_abort(stream, WEIR_ENOMEM);
        return WEIR_ENOMEM;
    }
    memset(connection, 0, sizeof(*connection));
    connection->service = service;
    connection->stream = stream;
    connection->tls = tls;
    weir__list_init(&connection->transactions);
    connection->waiting =
        service->connection_count - service->waiting_count >= service->connections_max;
    service->connection_count++;
    service->waiting_count += connection->waiting;
    weir_timer_init(&connection->timer, service->loop, on_timer, connection);
    /* Who it is matters to the log alone. */
    if (!service->log || weir_stream_peer(stream, &peer) != 0)
        peer.length = 0;
    weir_address_format(&peer, connection->peer);
    weir_stream_set_handler(stream, &handler, connection);
    if (!tls)
        weir__connection_count(connection);
    if (connection->waiting)
        weir__list_append(&service->waiting, &connection->link);
    else
        begin(connection);
    return 0;
}

void weir__connection_admit(struct weir__connection *connection)
{
    assert(connection->waiting);
    connection->waiting = false;
    connection->service->waiting_count--;
    weir__list_remove(&connection->link);
    begin(connection);
}
