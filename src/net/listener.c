/* SPDX-License-Identifier: Apache-2.0 */
#include <weir/listener.h>

#include <assert.h>
#include <stddef.h>

#include <weir/error.h>
#include <weir/loop.h>
#include <weir/timer.h>

#include "core/memory.h"
#include "engine/engine.h"
#include "net/stream.h"

#define BACKLOG_DEFAULT 4096

struct weir_listener {
    struct weir__socket socket;
    struct weir_loop *loop;
    struct weir__engine *engine;
    struct weir__op accept_op;
    struct weir__deferred deferred;
    struct weir_timer retry_timer;
    struct weir_stream_options stream_options;
    weir_accept_fn on_accept;
    weir_listener_close_fn on_close;
    void *context;
    bool paused;
    bool closing;
};

static void on_accept_complete(struct weir__op *op, const struct weir__completion *completion);

void weir_listener_options_init(struct weir_listener_options *options)
{
    *options = (struct weir_listener_options){.backlog = BACKLOG_DEFAULT};
    weir_stream_options_init(&options->stream);
}

static void submit_accept(struct weir_listener *listener)
{
    if (listener->paused || listener->closing || listener->accept_op.in_flight ||
        weir_timer_is_started(&listener->retry_timer))
        return;
    listener->accept_op = (struct weir__op){
        .kind = WEIR__OP_ACCEPT,
        .complete = on_accept_complete,
        .socket = &listener->socket,
    };
    listener->engine->ops->submit(listener->engine, &listener->accept_op);
}

static void refuse_connection(struct weir_listener *listener, int handle)
{
    struct weir__socket refused = {.handle = -1};

    listener->engine->ops->socket_adopt(listener->engine, &refused, handle);
    listener->engine->ops->socket_reset(listener->engine, &refused);
}

static void take_connection(struct weir_listener *listener, int handle)
{
    struct weir_stream *stream =
        weir__stream_adopt(listener->loop, handle, &listener->stream_options);

    if (stream) {
        listener->on_accept(listener, stream, 0);
        return;
    }
    refuse_connection(listener, handle);
    listener->on_accept(listener, NULL, WEIR_ENOMEM);
}

static void on_accept_complete(struct weir__op *op, const struct weir__completion *completion)
{
    struct weir_listener *listener = WEIR__CONTAINER(op, struct weir_listener, accept_op);

    if (completion->result >= 0) {
        assert(completion->more);
        if (listener->closing)
            refuse_connection(listener, (int)completion->result);
        else
            take_connection(listener, (int)completion->result);
        return;
    }
    if (completion->result != WEIR_ECANCELLED && !listener->closing) {
        weir_timer_start(&listener->retry_timer, WEIR_ACCEPT_RETRY_MS);
        listener->on_accept(listener, NULL, (int)completion->result);
    }
    weir__loop_defer(listener->loop, &listener->deferred);
}

static void on_retry(struct weir_timer *timer)
{
    submit_accept(timer->context);
}

static void run(struct weir__deferred *deferred)
{
    struct weir_listener *listener = WEIR__CONTAINER(deferred, struct weir_listener, deferred);

    if (!listener->closing) {
        submit_accept(listener);
        return;
    }
    if (listener->accept_op.in_flight)
        return;
    listener->engine->ops->socket_close(listener->engine, &listener->socket);
    if (listener->on_close)
        listener->on_close(listener);
    weir__release(listener);
}

int weir_listener_start(struct weir_listener **result, struct weir_loop *loop,
                        const struct weir_address *address,
                        const struct weir_listener_options *options, weir_accept_fn on_accept,
                        void *context)
{
    struct weir_listener_options defaults;

    if (!options) {
        weir_listener_options_init(&defaults);
        options = &defaults;
    }
    if (address->length == 0)
        return WEIR_EINVAL;
    struct weir_listener *listener = weir__allocate_zeroed(1, sizeof(*listener));
    if (!listener)
        return WEIR_ENOMEM;
    listener->loop = loop;
    listener->engine = weir__loop_engine(loop);
    listener->deferred.run = run;
    listener->stream_options = options->stream;
    listener->on_accept = on_accept;
    listener->context = context;
    weir_timer_init(&listener->retry_timer, loop, on_retry, listener);

    int error = listener->engine->ops->socket_listen(listener->engine, &listener->socket, address,
                                                     &(struct weir__listen_options){
                                                         .backlog = options->backlog,
                                                         .share_port = options->share_port,
                                                         .no_delay = options->stream.no_delay,
                                                         .unsent_bytes_max = WEIR__UNSENT_BYTES_MAX,
                                                     });
    if (error) {
        weir__release(listener);
        return error;
    }
    char congestion[WEIR__CONGESTION_NAME_BYTES];
    listener->engine->ops->socket_congestion(listener->engine, &listener->socket, congestion);
    weir__send_policy_congestion(weir__loop_send_policy(loop), congestion);
    submit_accept(listener);
    *result = listener;
    return 0;
}

void *weir_listener_context(const struct weir_listener *listener)
{
    return listener->context;
}

void weir_listener_pause(struct weir_listener *listener)
{
    listener->paused = true;
    weir_timer_stop(&listener->retry_timer);
    if (listener->accept_op.in_flight)
        listener->engine->ops->cancel(listener->engine, &listener->accept_op);
}

void weir_listener_resume(struct weir_listener *listener)
{
    listener->paused = false;
    weir__loop_defer(listener->loop, &listener->deferred);
}

int weir_listener_address(const struct weir_listener *listener, struct weir_address *address)
{
    return listener->engine->ops->socket_local(listener->engine, &listener->socket, address);
}

void weir_listener_close(struct weir_listener *listener, weir_listener_close_fn on_close)
{
    listener->closing = true;
    listener->on_close = on_close;
    weir_timer_stop(&listener->retry_timer);
    if (listener->accept_op.in_flight)
        listener->engine->ops->cancel(listener->engine, &listener->accept_op);
    weir__loop_defer(listener->loop, &listener->deferred);
}
