/* SPDX-License-Identifier: Apache-2.0 */
/* Probes of the engines as a whole: a connection accepted, bytes both ways, a delivery known. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <weir/address.h>
#include <weir/error.h>
#include <weir/loop.h>

#include "engine/engine.h"
#include "engine/io_uring.h"
#include "engine/probe_try.h"

#define RECEIVE_BYTES   2048
#define RECEIVE_BUFFERS 8

struct exchange {
    struct weir__engine *engine;
    struct weir__socket listener, socket;
    struct weir__op accept, receive, send, watch;
    struct iovec part;
    int client;
    int64_t accepted, received, sent; /* results, once the operation was heard of */
    bool heard_accept, heard_receive, heard_send, heard_stamp;
};

static struct exchange exchange;
static char pong[] = "pong";

static void accept_complete(struct weir__op *op, const struct weir__completion *completion)
{
    (void)op;
    exchange.accepted = completion->result;
    exchange.heard_accept = true;
}

static void receive_complete(struct weir__op *op, const struct weir__completion *completion)
{
    (void)op;
    if (!exchange.heard_receive)
        exchange.received = completion->result;
    exchange.heard_receive = true;
}

static void send_complete(struct weir__op *op, const struct weir__completion *completion)
{
    (void)op;
    exchange.sent = completion->result;
    exchange.heard_send = true;
}

static void watch_complete(struct weir__op *op, const struct weir__completion *completion)
{
    (void)op;
    if (completion->more && completion->stamp.kind == WEIR__STAMP_ACKED)
        exchange.heard_stamp = true;
}

/* Runs the engine until `heard`, or for as long as an event may take. */
static bool wait_for(const bool *heard)
{
    const struct weir__engine_ops *ops = exchange.engine->ops;
    uint64_t deadline_ns = ops->now_ns(exchange.engine) + WEIR__PROBE_EVENT_MS * 1000000ULL;
    while (!*heard) {
        uint64_t now_ns = ops->now_ns(exchange.engine);
        if (now_ns >= deadline_ns || ops->wait(exchange.engine, deadline_ns - now_ns) != 0)
            return false;
    }
    return true;
}

static bool engine_listens(struct weir__probe *probe, const struct weir__engine_ops *ops)
{
    const struct weir__engine_options options = {
        .delivery = true, .receive_bytes = RECEIVE_BYTES, .receive_buffers = RECEIVE_BUFFERS};
    const struct weir__listen_options listen_options = {.backlog = 8};
    struct weir_address address;
    int error = ops->open(&exchange.engine, &options);
    if (error != 0) {
        const char *refusal = ops == &weir__io_uring_engine ? weir__io_uring_refusal() : NULL;
        weir__probe_lacks(probe, "%s", refusal ? refusal : weir_error_text(error));
        return false;
    }
    weir_address_parse(&address, "127.0.0.1:0");
    error = ops->socket_listen(exchange.engine, &exchange.listener, &address, &listen_options);
    if (error != 0) {
        weir__probe_lacks(probe, "it cannot listen on 127.0.0.1: %s", weir_error_text(error));
        return false;
    }
    return true;
}

static bool engine_accepts(struct weir__probe *probe, const struct weir__engine_ops *ops)
{
    exchange.accept.kind = WEIR__OP_ACCEPT;
    exchange.accept.complete = accept_complete;
    exchange.accept.socket = &exchange.listener;
    ops->submit(exchange.engine, &exchange.accept);
    exchange.client = weir__probe_connect(probe, exchange.listener.handle);
    if (exchange.client < 0)
        return false;
    if (!wait_for(&exchange.heard_accept) || exchange.accepted < 0) {
        weir__probe_lacks(probe, "it does not accept a connection");
        return false;
    }
    ops->socket_adopt(exchange.engine, &exchange.socket, (int)exchange.accepted);
    ops->socket_prepare(exchange.engine, &exchange.socket, true, true);
    return true;
}

static bool engine_receives(struct weir__probe *probe, const struct weir__engine_ops *ops)
{
    exchange.receive.kind = WEIR__OP_RECEIVE;
    exchange.receive.complete = receive_complete;
    exchange.receive.socket = &exchange.socket;
    ops->submit(exchange.engine, &exchange.receive);
    exchange.watch.kind = WEIR__OP_WATCH;
    exchange.watch.complete = watch_complete;
    exchange.watch.socket = &exchange.socket;
    ops->submit(exchange.engine, &exchange.watch);
    if (send(exchange.client, "ping", 4, MSG_NOSIGNAL) == 4 && wait_for(&exchange.heard_receive) &&
        exchange.received == 4)
        return true;
    weir__probe_lacks(probe, "it does not receive");
    return false;
}

static bool engine_sends(struct weir__probe *probe, const struct weir__engine_ops *ops)
{
    char got[4];
    exchange.part = (struct iovec){.iov_base = pong, .iov_len = 4};
    exchange.send.kind = WEIR__OP_SEND;
    exchange.send.complete = send_complete;
    exchange.send.socket = &exchange.socket;
    exchange.send.send.parts = &exchange.part;
    exchange.send.send.part_count = 1;
    exchange.send.send.flags = WEIR__SEND_STAMP;
    ops->submit(exchange.engine, &exchange.send);
    if (wait_for(&exchange.heard_send) && exchange.sent == 4 &&
        recv(exchange.client, got, sizeof(got), MSG_WAITALL) == 4 && memcmp(got, pong, 4) == 0)
        return true;
    weir__probe_lacks(probe, "it does not send");
    return false;
}

/* Leaves the stamps of the bytes that were sent still to come. */
static bool exchange_run(struct weir__probe *probe, const struct weir__engine_ops *ops)
{
    return engine_listens(probe, ops) && engine_accepts(probe, ops) &&
           engine_receives(probe, ops) && engine_sends(probe, ops);
}

static void engine_try(struct weir__probe *probe, const struct weir__engine_ops *ops)
{
    if (exchange_run(probe, ops))
        weir__probe_works(probe, "%s", "");
}

static void delivery_try(struct weir__probe *probe, const struct weir__engine_ops *ops)
{
    struct weir__socket_info info;
    if (!exchange_run(probe, ops))
        return;
    if (exchange.socket.stamps && wait_for(&exchange.heard_stamp))
        weir__probe_works(probe, "tx_ack");
    else if (ops->socket_info(exchange.engine, &exchange.socket, &info) == 0 &&
             info.bytes_acked > 0)
        weir__probe_works(probe, "tcp_info");
    else
        weir__probe_lacks(probe, "neither stamps nor TCP_INFO tell of acknowledged bytes");
}

void weir__probe_engine_io_uring(struct weir__probe *probe)
{
    engine_try(probe, &weir__io_uring_engine);
}

void weir__probe_engine_epoll(struct weir__probe *probe)
{
    engine_try(probe, &weir__epoll_engine);
}

void weir__probe_engine_poll(struct weir__probe *probe)
{
    engine_try(probe, &weir__poll_engine);
}

void weir__probe_delivery_io_uring(struct weir__probe *probe)
{
    delivery_try(probe, &weir__io_uring_engine);
}

void weir__probe_delivery_epoll(struct weir__probe *probe)
{
    delivery_try(probe, &weir__epoll_engine);
}

void weir__probe_delivery_poll(struct weir__probe *probe)
{
    delivery_try(probe, &weir__poll_engine);
}

void weir__probe_engine_auto(struct weir__probe *probe)
{
    struct weir_loop *loop;
    int error = weir_loop_new(&loop, NULL);
    if (error != 0) {
        weir__probe_lacks(probe, "%s", weir_error_text(error));
        return;
    }
    const char *reason = weir_loop_fallback_reason(loop);
    weir__probe_works(probe, "%s%s%s", weir_loop_engine_name(loop), reason ? ": " : "",
                      reason ? reason : "");
}
