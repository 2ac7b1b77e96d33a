/* SPDX-License-Identifier: Apache-2.0 */
#include "net/stream.h"

#include <assert.h>
#include <string.h>

#include <weir/error.h>

#include "core/memory.h"
#include "core/pool.h"

#define QUEUE_WRITES_DEFAULT 64
#define NS_PER_MS            1000000u

static void run(struct weir__deferred *deferred);
static void on_deadline(struct weir_timer *timer);

void weir_stream_options_init(struct weir_stream_options *options)
{
    *options = (struct weir_stream_options){
        .queue_bytes_max = UINT64_MAX,
        .queue_writes_max = QUEUE_WRITES_DEFAULT,
        .no_delay = true,
    };
}

static struct weir__pool *stream_pool(struct weir_loop *loop)
{
    return weir__loop_pool(loop, WEIR__LOOP_POOL_STREAMS, sizeof(struct weir_stream));
}

static struct weir_stream *stream_new(struct weir_loop *loop,
                                      const struct weir_stream_options *options)
{
    struct weir__send_policy *policy = weir__loop_send_policy(loop);
    struct weir_stream *stream = policy ? weir__pool_take(stream_pool(loop)) : NULL;

    if (!stream)
        return NULL;
    memset(stream, 0, sizeof(*stream));
    stream->loop = loop;
    stream->policy = policy;
    stream->engine = weir__loop_engine(loop);
    stream->socket.handle = -1;
    stream->no_delay = options->no_delay;
    stream->deferred.run = run;
    stream->held_end = &stream->held_first;
    weir_timer_init(&stream->deadline_timer, loop, on_deadline, stream);
    weir__stream_send_init(stream, options);
    return stream;
}

struct weir_stream *weir__stream_adopt(struct weir_loop *loop, int handle,
                                       const struct weir_stream_options *options)
{
    struct weir_stream *stream = stream_new(loop, options);

    if (!stream)
        return NULL;
    stream->engine->ops->socket_adopt(stream->engine, &stream->socket, handle);
    /* What the listener has, its connections have. */
    stream->no_delay = false;
    stream->paced = true;
    stream->unsent_bounded = true;
    weir__stream_delivery_open(stream);
    return stream;
}

void weir__stream_defer(struct weir_stream *stream)
{
    weir__loop_defer(stream->loop, &stream->deferred);
}

/* ---- connecting ---- */

static void on_connect(struct weir__op *op, const struct weir__completion *completion)
{
    struct weir_stream *stream = WEIR__CONTAINER(op, struct weir_stream, send_op);

    weir__release((void *)op->connect.address);
    if (completion->result != 0) {
        weir__stream_end(stream, (int)completion->result, false);
    } else if (!stream->dying) {
        stream->opening = false;
        weir__stream_delivery_open(stream);
        if (stream->transport)
            stream->transport->ops->connected(stream->transport);
        else
            stream->open_to_tell = true;
    }
    weir__stream_defer(stream);
}

int weir_stream_connect(struct weir_stream **result, struct weir_loop *loop,
                        const struct weir_address *address,
                        const struct weir_stream_options *options,
                        const struct weir_stream_handler *handler, void *context)
{
    struct weir_stream_options defaults;
    struct weir_address *copy = NULL;
    int error = WEIR_ENOMEM;

    if (address->length == 0)
        return WEIR_EINVAL;
    if (!options) {
        weir_stream_options_init(&defaults);
        options = &defaults;
    }
    struct weir_stream *stream = stream_new(loop, options);
    if (!stream)
        return WEIR_ENOMEM;
    copy = weir__allocate(sizeof(*copy));
    if (!copy)
        goto out;
    *copy = *address;
    error = stream->engine->ops->socket_open(stream->engine, &stream->socket,
                                             address->socket.any.sa_family);
    if (error)
        goto out;

    stream->opening = true;
    weir_stream_set_handler(stream, handler, context);
    stream->send_op = (struct weir__op){
        .kind = WEIR__OP_CONNECT,
        .complete = on_connect,
        .socket = &stream->socket,
        .connect = {.address = copy},
    };
    stream->engine->ops->submit(stream->engine, &stream->send_op);
    *result = stream;
    return 0;

out:
    weir__release(copy);
    weir__pool_give(stream_pool(loop), stream);
    return error;
}

/* ---- reading ---- */

static void hold(struct weir_stream *stream, const uint8_t *data, size_t length,
                 uint64_t arrived_ns)
{
    struct weir__held_input *held;

    if (!weir__loop_hold(stream->loop, length)) {
        weir__stream_end(stream, WEIR_ENOBUFS, true);
        return;
    }
    held = weir__allocate(sizeof(*held) + length);
    if (!held) {
        weir__loop_unhold(stream->loop, length);
        weir__stream_end(stream, WEIR_ENOMEM, true);
        return;
    }
    held->next = NULL;
    held->arrived_ns = arrived_ns;
    held->length = length;
    memcpy(held->data, data, length);
    *stream->held_end = held;
    stream->held_end = &held->next;
}

static void free_held(struct weir_stream *stream, struct weir__held_input *held)
{
    weir__loop_unhold(stream->loop, held->length);
    weir__release(held);
}

static void tell_data(struct weir_stream *stream, const uint8_t *data, size_t length,
                      uint64_t arrived_ns)
{
    if (stream->handler->on_data)
        stream->handler->on_data(stream, data, length, arrived_ns);
}

void weir__stream_deliver(struct weir_stream *stream, const uint8_t *data, size_t length,
                          uint64_t arrived_ns)
{
    if (stream->dying || stream->closing)
        return;
    if (stream->reading && !stream->held_first)
        tell_data(stream, data, length, arrived_ns);
    else
        hold(stream, data, length, arrived_ns);
}

static void on_receive(struct weir__op *op, const struct weir__completion *completion)
{
    struct weir_stream *stream = WEIR__CONTAINER(op, struct weir_stream, receive_op);

    if (completion->result > 0) {
        uint64_t arrived_ns =
            completion->at_ns ? completion->at_ns : weir_loop_now_ns(stream->loop);

        weir__stream_answered(stream, arrived_ns);
        if (stream->dying)
            return;
        if (stream->transport)
            stream->transport->ops->received(stream->transport, completion, arrived_ns);
        else
            weir__stream_deliver(stream, completion->data, (size_t)completion->result, arrived_ns);
        return;
    }
    weir__stream_defer(stream);
    if (completion->result == 0) {
        stream->input_ended = true;
        if (stream->transport)
            stream->fin_due = true;
        else
            stream->end_due = true;
        return;
    }
    if (stream->transport && !stream->dying &&
        !stream->transport->ops->receive_ended(stream->transport, (int)completion->result))
        return;
    if (completion->result != WEIR_ECANCELLED)
        weir__stream_end(stream, (int)completion->result, false);
}

static void drop_held(struct weir_stream *stream)
{
    while (stream->held_first) {
        struct weir__held_input *held = stream->held_first;
        stream->held_first = held->next;
        free_held(stream, held);
    }
    stream->held_end = &stream->held_first;
}

static bool may_tell(const struct weir_stream *stream)
{
    return stream->reading && !stream->closing && !stream->dying;
}

/* Hands over what was held, then the end of the input: what a transport makes of the FIN comes behind both. */
static void tell_input(struct weir_stream *stream)
{
    while (stream->held_first && may_tell(stream)) {
        struct weir__held_input *held = stream->held_first;

        stream->held_first = held->next;
        if (!stream->held_first)
            stream->held_end = &stream->held_first;
        tell_data(stream, held->data, held->length, held->arrived_ns);
        free_held(stream, held);
    }
    if (stream->fin_due && !stream->held_first && !stream->dying) {
        stream->fin_due = false;
        stream->transport->ops->fin_received(stream->transport);
    }
    if (stream->end_due && !stream->end_told && !stream->held_first && may_tell(stream)) {
        stream->end_told = true;
        if (stream->handler->on_end)
            stream->handler->on_end(stream);
    }
}

static void submit_receive(struct weir_stream *stream)
{
    bool wanted = stream->closing || (stream->reading && !stream->held_first) ||
                  (stream->transport && stream->transport->ops->wants_input(stream->transport));

    if (!wanted || stream->input_ended || stream->input_lost || stream->receive_op.in_flight)
        return;
    stream->receive_op = (struct weir__op){
        .kind = WEIR__OP_RECEIVE,
        .complete = on_receive,
        .socket = &stream->socket,
    };
    stream->engine->ops->submit(stream->engine, &stream->receive_op);
}

int weir_stream_read_start(struct weir_stream *stream)
{
    if (stream->dying || stream->closing)
        return WEIR_ESHUT;
    stream->reading = true;
    weir__stream_defer(stream);
    return 0;
}

void weir_stream_read_stop(struct weir_stream *stream)
{
    stream->reading = false;
    if (stream->receive_op.in_flight && !stream->closing)
        stream->engine->ops->cancel(stream->engine, &stream->receive_op);
}

/* ---- the end ---- */

static void cancel_if_in_flight(struct weir_stream *stream, struct weir__op *op)
{
    if (op->in_flight)
        stream->engine->ops->cancel(stream->engine, op);
}

/* What the transport failed for came first. But a cut is the peer's, and what is sent behind it may end otherwise. */
static bool close_reason_holds(const struct weir_stream *stream, int reason)
{
    return stream->close_reason && (reason == 0 || stream->close_reason != WEIR_ECUTOFF);
}

void weir__stream_end(struct weir_stream *stream, int reason, bool reset)
{
    if (stream->dying)
        return;
    stream->dying = true;
    stream->reason = close_reason_holds(stream, reason) ? stream->close_reason : reason;
    stream->reset = reset;
    weir_timer_stop(&stream->deadline_timer);
    cancel_if_in_flight(stream, &stream->receive_op);
    cancel_if_in_flight(stream, &stream->send_op);
    cancel_if_in_flight(stream, &stream->watch_op);
    weir__stream_defer(stream);
}

/* The kernel may still send from pinned memory, and would for as long as the peer does not answer. */
static void abort_connection(struct weir_stream *stream)
{
    if (stream->aborted)
        return;
    weir__stream_keep_counts(stream);
    stream->aborted = true;
    stream->engine->ops->socket_abort(stream->engine, &stream->socket);
}

static void finish(struct weir_stream *stream)
{
    struct weir__engine *engine = stream->engine;

    if (stream->receive_op.in_flight || stream->send_op.in_flight || stream->watch_op.in_flight)
        return;
    if (stream->socket.pins > 0) {
        abort_connection(stream);
        return;
    }
    weir__stream_settle(stream);
    drop_held(stream);
    if (stream->handler && stream->handler->on_close)
        stream->handler->on_close(stream, stream->reason);
    if (stream->reset)
        engine->ops->socket_reset(engine, &stream->socket);
    else
        engine->ops->socket_close(engine, &stream->socket);
    if (stream->transport)
        stream->transport->ops->dispose(stream->transport);
    weir__list_remove(&stream->deferred.link);
    weir__pool_give(stream_pool(stream->loop), stream);
}

static bool is_settled(const struct weir_stream *stream)
{
    bool input_over = stream->input_ended || (stream->leaving && !stream->input_lost);

    return stream->closing && stream->shut_done && input_over && stream->socket.pins == 0 &&
           (stream->write_count == 0 || stream->drop_writes);
}

/* FIN once everything queued has been taken, and the transport has said the end in its own way. */
static void shut_if_due(struct weir_stream *stream)
{
    if (!stream->shut_wanted || stream->shut_done || stream->send_op.in_flight ||
        (stream->queue.first && !stream->drop_writes))
        return;
    if (stream->transport && !stream->transport->ops->finish(stream->transport)) {
        weir__stream_flush(stream);
        return;
    }
    stream->shut_done = true;
    /* Then close is next, and does the same. */
    if (is_settled(stream))
        return;
    int error = stream->engine->ops->socket_shutdown(stream->engine, &stream->socket);
    if (error)
        weir__stream_end(stream, error, false);
}

/* How long the peer of a transport that failed may take to hear why and to close. */
#define FAIL_LINGER_MS 1000

static void shorten_closing(struct weir_stream *stream, uint64_t deadline_ms)
{
    uint64_t now_ms = weir_loop_now_ns(stream->loop) / NS_PER_MS;

    if (now_ms + deadline_ms < stream->deadline_timer.expires_ms)
        weir_timer_start(&stream->deadline_timer, deadline_ms);
}

/*
 * Closing a socket with bytes that nobody read resets the connection, and may cost the peer what is under way to it.
 * So the peer has a while to close first, from when it has everything.
 */
static void linger_if_lost(struct weir_stream *stream)
{
    if (!stream->input_lost || stream->lingering || !stream->shut_done || stream->dying ||
        (stream->write_count > 0 && !stream->drop_writes))
        return;
    stream->lingering = true;
    shorten_closing(stream, FAIL_LINGER_MS);
}

static void run(struct weir__deferred *deferred)
{
    struct weir_stream *stream = WEIR__CONTAINER(deferred, struct weir_stream, deferred);

    if (stream->opening && !stream->dying)
        return;
    if (stream->open_to_tell && !stream->dying) {
        stream->open_to_tell = false;
        if (stream->handler->on_open)
            stream->handler->on_open(stream);
    }
    tell_input(stream);
    if (!stream->dying)
        submit_receive(stream);
    weir__stream_flush(stream);
    if (!stream->dying)
        shut_if_due(stream);
    linger_if_lost(stream);
    if (is_settled(stream))
        weir__stream_end(stream, 0, false);
    if (stream->dying)
        finish(stream);
}

static void on_deadline(struct weir_timer *timer)
{
    struct weir_stream *stream = timer->context;
    bool undelivered;
    int reason;

    if (!stream->closing) { /* the transport's beginning */
        weir__stream_end(stream, WEIR_ETIMEDOUT, true);
        return;
    }
    weir__stream_count(stream);
    undelivered = stream->write_count > 0;
    reason = undelivered ? WEIR_ETIMEDOUT : 0;
    weir__stream_end(stream, reason, undelivered);
}

void weir_stream_shutdown(struct weir_stream *stream)
{
    stream->shut_wanted = true;
    weir__stream_defer(stream);
}

static void begin_closing(struct weir_stream *stream, int reason, uint64_t deadline_ms)
{
    stream->closing = true;
    stream->close_reason = reason;
    stream->shut_wanted = true;
    drop_held(stream);
    weir_timer_start(&stream->deadline_timer, deadline_ms);
    weir__stream_defer(stream);
}

/* Nothing was sent yet, nor can it be: to close the stream is to give it up. */
static bool is_opening(const struct weir_stream *stream)
{
    return stream->opening ||
           (stream->transport && stream->transport->ops->wants_input(stream->transport));
}

void weir_stream_close(struct weir_stream *stream, uint64_t deadline_ms)
{
    if (deadline_ms == 0)
        deadline_ms = WEIR_CLOSE_DEADLINE_MS;
    if (is_opening(stream))
        weir__stream_end(stream, WEIR_EABORTED, false);
    else if (!stream->closing && !stream->dying)
        begin_closing(stream, 0, deadline_ms);
    else if (stream->close_reason != 0 && weir_timer_is_started(&stream->deadline_timer))
        /* Behind a failure the owner may not want to wait for as long. */
        shorten_closing(stream, deadline_ms);
}

void weir_stream_leave(struct weir_stream *stream, uint64_t deadline_ms)
{
    stream->leaving = true;
    weir_stream_close(stream, deadline_ms);
    weir__stream_defer(stream);
}

void weir_stream_abort(struct weir_stream *stream, int reason)
{
    weir__stream_end(stream, reason ? reason : WEIR_EABORTED, true);
}

/* ---- for a transport ---- */

void weir__stream_set_transport(struct weir_stream *stream, struct weir__transport *transport)
{
    assert(!stream->transport);
    stream->transport = transport;
    transport->stream = stream;
    weir__stream_defer(stream);
}

void weir__stream_set_deadline(struct weir_stream *stream, uint64_t delay_ms)
{
    if (!stream->closing && !stream->dying)
        weir_timer_start(&stream->deadline_timer, delay_ms);
}

void weir__stream_opened(struct weir_stream *stream)
{
    if (!stream->closing)
        weir_timer_stop(&stream->deadline_timer);
    stream->open_to_tell = true;
    weir__stream_defer(stream);
}

void weir__stream_input_done(struct weir_stream *stream)
{
    stream->end_due = true;
    weir__stream_defer(stream);
}

void weir__stream_input_lost(struct weir_stream *stream)
{
    stream->input_lost = true;
    weir__stream_defer(stream);
}

void weir__stream_fail(struct weir_stream *stream, int reason, bool drop_writes)
{
    if (stream->dying)
        return;
    stream->drop_writes = stream->drop_writes || drop_writes;
    if (stream->closing && stream->close_reason == 0)
        stream->close_reason = reason;
    if (!stream->closing)
        begin_closing(stream, reason, drop_writes ? FAIL_LINGER_MS : WEIR_CLOSE_DEADLINE_MS);
    else if (drop_writes)
        shorten_closing(stream, FAIL_LINGER_MS);
    weir__stream_defer(stream);
}

/* ---- small calls ---- */

void weir_stream_set_handler(struct weir_stream *stream, const struct weir_stream_handler *handler,
                             void *context)
{
    stream->handler = handler;
    stream->context = context;
}

void *weir_stream_context(const struct weir_stream *stream)
{
    return stream->context;
}

struct weir_loop *weir_stream_loop(const struct weir_stream *stream)
{
    return stream->loop;
}

bool weir_stream_is_closing(const struct weir_stream *stream)
{
    return stream->closing || stream->dying;
}

int weir_stream_peer(const struct weir_stream *stream, struct weir_address *address)
{
    return stream->engine->ops->socket_peer(stream->engine, &stream->socket, address);
}

int weir_stream_local(const struct weir_stream *stream, struct weir_address *address)
{
    return stream->engine->ops->socket_local(stream->engine, &stream->socket, address);
}
