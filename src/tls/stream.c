/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/stream.h"

#include <assert.h>
#include <string.h>

#include <weir/error.h>

#include "core/memory.h"
#include "net/stream.h"

struct weir__tls_stream *weir__tls_stream_of(struct weir__transport *transport)
{
    return (struct weir__tls_stream *)transport;
}

/* ---- the end ---- */

void weir__tls_stream_end(struct weir__tls_stream *tls, int error)
{
    struct weir_stream *stream = tls->base.stream;

    /* What was sealed before a failure stays in order; nothing comes behind its alert. */
    if (error == WEIR_ENOTSUP)
        weir__stream_fail(stream, error, false);
    else if (error == WEIR_ENOMEM || tls->session.peer_failed)
        weir__stream_end(stream, error, error == WEIR_ENOMEM);
    else if (error)
        weir__stream_fail(stream, error, true);
}

static void dispose(struct weir__transport *transport)
{
    struct weir__tls_stream *tls = weir__tls_stream_of(transport);

    weir__tls_session_dispose(&tls->session);
    if (!transport->stream->socket.tls_tx)
        weir__tls_output_taken(&tls->made.output, &tls->context->buffers, tls->made.output.bytes);
    weir__offset_map_dispose(&tls->map);
    weir__release(tls->server_name);
    weir__tls_buffers_leave(&tls->context->buffers);
    weir_tls_context_free(tls->context);
    weir__tls_wipe(tls, sizeof(*tls));
    weir__release(tls);
}

/* ---- the session's events ---- */

static bool on_plain(void *context, const uint8_t *data, size_t length)
{
    struct weir__tls_stream *tls = context;
    struct weir_stream *stream = tls->base.stream;

    weir__stream_deliver(stream, data, length, stream->arrived_ns);
    return !weir_stream_is_closing(stream);
}

static int on_opened(void *context, const struct weir__tls_result *result)
{
    struct weir__tls_stream *tls = context;
    size_t name_bytes = strlen(result->server_name) + 1;

    tls->cipher = weir__tls_context_cipher_name(tls->context, result->cipher_name);
    tls->alpn = weir__tls_context_alpn(tls->context, result->alpn);
    tls->resumed = result->resumed;
    tls->peer_certificate = result->peer_certificate;
    if (name_bytes > 1) {
        tls->server_name = weir__allocate(name_bytes);
        if (!tls->server_name)
            return WEIR_ENOMEM;
        memcpy(tls->server_name, result->server_name, name_bytes);
    }
    tls->wants_kernel_tx = tls->context->kernel != WEIR_TLS_KERNEL_OFF;
    tls->wants_kernel_rx = tls->context->kernel == WEIR_TLS_KERNEL_TX_RX;
    weir__stream_opened(tls->base.stream);
    return 0;
}

static void on_closed(void *context)
{
    struct weir__tls_stream *tls = context;

    weir__stream_input_done(tls->base.stream);
}

static void on_rx_changed(void *context)
{
    weir__tls_switch_rx(context);
}

static const struct weir__tls_events events = {
    .emit = weir__tls_emit,
    .control = weir__tls_control,
    .plain = on_plain,
    .opened = on_opened,
    .closed = on_closed,
    .rx_changed = on_rx_changed,
};

/* ---- what is received ---- */

/*
 * The kernel takes over what is received once it has what is sent, where a record ends: what user space
 * has read of the next one is lost to the kernel. A client waits for the first data, since the library is
 * still needed for the tickets that come before it. Who closes has dropped what came since, unopened.
 */
static bool can_switch_rx(const struct weir__tls_stream *tls)
{
    const struct weir_stream *stream = tls->base.stream;

    return tls->wants_kernel_rx && stream->socket.tls_tx && !stream->closing &&
           weir__tls_session_rx_is_free(&tls->session);
}

/* Gives the kernel the key of what is received; no receive operation is in flight. */
static void attach_rx(struct weir__tls_stream *tls)
{
    struct weir_stream *stream = tls->base.stream;
    struct weir__tls_session *session = &tls->session;
    struct weir__tls_keys keys;
    bool first = !stream->socket.tls_rx;

    tls->rx_switching = false;
    if (stream->dying || (first && !can_switch_rx(tls)))
        return;
    int error = weir__tls_session_keys(session, WEIR__TLS_RX, &keys);
    if (!error)
        error = stream->engine->ops->socket_tls_attach(stream->engine, &stream->socket,
                                                       WEIR__TLS_RX, &keys);
    weir__tls_wipe(&keys, sizeof(keys));
    if (!error) {
        weir__tls_session_release(session, WEIR__TLS_RX);
    } else if (first) {
        tls->wants_kernel_rx = false;
    } else if (error != WEIR_ENOTSUP) {
        weir__stream_end(stream, error, true);
    } else {
        /* The peer goes on with a key that this kernel cannot be given: nothing more can be read. */
        weir__stream_input_lost(stream);
        weir__tls_stream_end(tls, WEIR_ENOTSUP);
    }
}

void weir__tls_switch_rx(struct weir__tls_stream *tls)
{
    struct weir_stream *stream = tls->base.stream;

    if (tls->rx_switching)
        return;
    tls->rx_switching = true;
    if (stream->receive_op.in_flight)
        stream->engine->ops->cancel(stream->engine, &stream->receive_op);
    else
        attach_rx(tls);
}

static void received(struct weir__transport *transport, const struct weir__completion *completion,
                     uint64_t arrived_ns)
{
    struct weir__tls_stream *tls = weir__tls_stream_of(transport);
    struct weir_stream *stream = transport->stream;
    size_t length = (size_t)completion->result;
    int error;

    /* Who closes wants no data, but a kernel that opens records goes on only with the peer's new key. */
    if (stream->closing && completion->record_type != WEIR__TLS_HANDSHAKE)
        return;
    stream->arrived_ns = arrived_ns;
    if (stream->socket.tls_rx)
        error = weir__tls_session_content(&tls->session,
                                          completion->record_type
                                              ? (enum weir__tls_content)completion->record_type
                                              : WEIR__TLS_APPLICATION_DATA,
                                          completion->data, length);
    else
        error =
            weir__tls_session_receive(&tls->session, completion->data, length, tls->context->room);
    if (error)
        weir__tls_stream_end(tls, error);
    else if (!stream->socket.tls_rx && can_switch_rx(tls))
        weir__tls_switch_rx(tls);
    weir__stream_defer(stream);
}

/* The peer has closed the connection. Without its close_notify that may be anybody's doing. */
static void fin_received(struct weir__transport *transport)
{
    struct weir__tls_stream *tls = weir__tls_stream_of(transport);

    /* An owner that closes has no use for what would follow. */
    if (tls->session.close_received || tls->session.failed || tls->base.stream->closing)
        return;
    weir__stream_fail(tls->base.stream, WEIR_ECUTOFF, !tls->session.open);
}

static bool receive_ended(struct weir__transport *transport, int result)
{
    struct weir__tls_stream *tls = weir__tls_stream_of(transport);
    enum weir__tls_alert alert;

    switch (result) {
    case WEIR_ECANCELLED:
        if (tls->rx_switching)
            attach_rx(tls);
        return false;
    case WEIR__RECEIVE_KEY_EXPIRED:
        /* Without the next key, as behind a KeyUpdate that was refused, nothing more can be read. */
        if (tls->rx_switching)
            attach_rx(tls);
        else
            weir__stream_input_lost(transport->stream);
        return false;
    case WEIR__RECEIVE_BAD_RECORD:
        /* A kernel that cannot change keys tries the next record with the old one. */
        if (tls->rx_switching) {
            attach_rx(tls);
            return false;
        }
        alert = WEIR__TLS_BAD_RECORD_MAC;
        break;
    case WEIR__RECEIVE_OVERSIZED:
        alert = WEIR__TLS_RECORD_OVERFLOW;
        break;
    case WEIR__RECEIVE_MALFORMED:
        alert = WEIR__TLS_UNEXPECTED_MESSAGE;
        break;
    default:
        return true;
    }
    weir__stream_input_lost(transport->stream);
    weir__tls_stream_end(
        tls, weir__tls_session_fail(&tls->session, alert, "a record that the kernel cannot open"));
    return false;
}

static bool wants_input(const struct weir__transport *transport)
{
    const struct weir__tls_stream *tls = (const struct weir__tls_stream *)transport;

    return !tls->session.open && !tls->session.failed;
}

/* ---- the beginning ---- */

static void connected(struct weir__transport *transport)
{
    struct weir__tls_stream *tls = weir__tls_stream_of(transport);

    weir__stream_set_deadline(transport->stream, tls->context->handshake_timeout_ms);
    int error = weir__tls_session_start(&tls->session);
    if (error)
        weir__tls_stream_end(tls, error);
}

static const struct weir__transport_ops ops = {
    .connected = connected,
    .received = received,
    .receive_ended = receive_ended,
    .fin_received = fin_received,
    .wants_input = wants_input,
    .plan = weir__tls_plan,
    .made_taken = weir__tls_made_taken,
    .made_held = weir__tls_made_held,
    .made_released = weir__tls_made_released,
    .passed_taken = weir__tls_passed_taken,
    .acked = weir__tls_acked,
    .finish = weir__tls_finish,
    .plain_at = weir__tls_plain_at,
    .dispose = dispose,
};

static int begin(struct weir_stream *stream, struct weir_tls_context *context, bool server,
                 const struct weir_tls_connect *connect)
{
    static const struct weir_tls_connect nothing = {.server_name = NULL};
    struct weir__tls_stream *tls;

    if (context->server != server || stream->transport || stream->plain_taken > 0 || stream->dying)
        return WEIR_EINVAL;
    if (!connect)
        connect = &nothing;
    tls = weir__allocate_zeroed(1, sizeof(*tls));
    if (!tls)
        return WEIR_ENOMEM;
    weir__tls_context_refresh(context);
    int error = weir__tls_session_init(&tls->session, context->vendor, context->vendor_context,
                                       server, connect->server_name, connect->resumption,
                                       connect->resumption_length, &events, tls);
    if (error) {
        weir__release(tls);
        return error;
    }
    tls->session.user->ciphers = context->ciphers;
    tls->base.ops = &ops;
    tls->context = context;
    weir__tls_context_hold(context);
    weir__tls_buffers_join(&context->buffers);
    weir__stream_set_transport(stream, &tls->base);
    if (server)
        weir__stream_set_deadline(stream, context->handshake_timeout_ms);
    return 0;
}

int weir_tls_accept(struct weir_stream *stream, struct weir_tls_context *context)
{
    return begin(stream, context, true, NULL);
}

int weir_tls_connect(struct weir_stream *stream, struct weir_tls_context *context,
                     const struct weir_tls_connect *connect)
{
    return begin(stream, context, false, connect);
}

/* ---- questions ---- */

const struct weir__tls_stream *weir__tls_stream_get(const struct weir_stream *stream)
{
    if (!stream->transport || stream->transport->ops != &ops)
        return NULL;
    return (const struct weir__tls_stream *)stream->transport;
}

/* Whose code protects what is sent. */
static const char *cipher_by(const struct weir_stream *stream, const struct weir__tls_stream *tls)
{
    const struct weir__tls_user *user = tls->session.user;

    if (stream->socket.tls_tx)
        return "kernel";
    return user && user->sealer.aead ? user->sealer.ciphers->name : tls->context->vendor->name;
}

int weir_tls_info(const struct weir_stream *stream, struct weir_tls_info *info)
{
    const struct weir__tls_stream *tls = weir__tls_stream_get(stream);

    if (!tls || !tls->session.open)
        return WEIR_ENOTSUP;
    *info = (struct weir_tls_info){
        .version = (enum weir_tls_version)tls->session.version,
        .version_name = tls->session.version == WEIR__TLS_1_3 ? "TLSv1.3" : "TLSv1.2",
        .cipher = tls->cipher,
        .cipher_by = cipher_by(stream, tls),
        .vendor = tls->context->vendor->name,
        .alpn = tls->alpn,
        .server_name = tls->server_name ? tls->server_name : "",
        .resumed = tls->resumed,
        .peer_certificate = tls->peer_certificate,
        .kernel_tx = stream->socket.tls_tx,
        .kernel_rx = stream->socket.tls_rx,
        .kernel_tx_due = tls->wants_kernel_tx,
    };
    return 0;
}

const char *weir_tls_failure(const struct weir_stream *stream)
{
    const struct weir__tls_stream *tls = weir__tls_stream_get(stream);

    return tls && tls->session.failure ? tls->session.failure : "";
}

int weir_tls_update_keys(struct weir_stream *stream, bool request_peer)
{
    const struct weir__tls_stream *tls = weir__tls_stream_get(stream);

    if (!tls || !tls->session.open)
        return WEIR_ENOTSUP;
    if (tls->close_said || stream->dying || stream->shut_done)
        return WEIR_ESHUT;
    if (stream->socket.tls_tx && !stream->engine->ops->tls_can_rekey(stream->engine))
        return WEIR_ENOTSUP;
    int error = weir__tls_session_update_keys(&weir__tls_stream_of(stream->transport)->session,
                                              request_peer);
    weir__stream_defer(stream);
    return error;
}

int weir_tls_resumption(struct weir_stream *stream, void *data, size_t size)
{
    const struct weir__tls_stream *tls = weir__tls_stream_get(stream);

    if (!tls)
        return 0;
    const struct weir__tls_session *session = &tls->session;
    if (session->open && session->user && session->user->handshake)
        return session->vendor->session_save(session->user->handshake, data, size);
    if (session->resumption_length > size)
        return WEIR_ENOBUFS;
    if (session->resumption_length > 0)
        memcpy(data, session->resumption, session->resumption_length);
    return (int)session->resumption_length;
}
