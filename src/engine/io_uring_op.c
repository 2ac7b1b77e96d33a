/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Operations as requests to the kernel. An operation needs one request or more; its final
 * completion is given when none of them is left in the kernel. A request's user_data is the
 * operation's address plus the number of the request, which the operation's alignment leaves room
 * for.
 */
#include "engine/io_uring_op.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include <linux/errqueue.h>
#include <linux/net_tstamp.h>

#include <weir/error.h>

#include "engine/socket.h"

static struct weir__op **role_of(struct weir__op *op)
{
    switch (op->kind) {
    case WEIR__OP_ACCEPT:
    case WEIR__OP_RECEIVE:
        return &op->socket->reader;
    case WEIR__OP_WATCH:
        return &op->socket->watcher;
    case WEIR__OP_CONNECT:
    case WEIR__OP_SEND:
    case WEIR__OP_SEND_FILE:
        break;
    }
    return &op->socket->writer;
}

/* The ready list */

static void ready_add(struct weir__io_uring *engine, struct weir__op *op)
{
    struct uring_state *state = uring_state_of(op);

    if (state->previous_next)
        return;
    state->next = NULL;
    state->previous_next = engine->ready_end;
    *engine->ready_end = op;
    engine->ready_end = &state->next;
    engine->ready_count++;
}

/* Before all others. */
static void ready_add_first(struct weir__io_uring *engine, struct weir__op *op)
{
    struct uring_state *state = uring_state_of(op);
    struct weir__op *second = engine->ready_first;

    if (!second || state->previous_next) {
        ready_add(engine, op);
        return;
    }
    state->next = second;
    state->previous_next = &engine->ready_first;
    uring_state_of(second)->previous_next = &state->next;
    engine->ready_first = op;
    engine->ready_count++;
}

static void ready_remove(struct weir__io_uring *engine, struct weir__op *op)
{
    struct uring_state *state = uring_state_of(op);

    if (!state->previous_next)
        return;
    *state->previous_next = state->next;
    if (state->next)
        uring_state_of(state->next)->previous_next = state->previous_next;
    else
        engine->ready_end = state->previous_next;
    state->previous_next = NULL;
    engine->ready_count--;
}

/* Completions */

void weir__io_uring_deliver(struct weir__io_uring *engine, struct weir__op *op,
                            const struct weir__completion *completion)
{
    engine->completed = true;
    op->complete(op, completion);
}

static void socket_error_note(struct weir__socket *socket, int64_t result)
{
    struct uring_socket_state *state = uring_socket_state_of(socket);

    if (state->error)
        return;
    if (result == WEIR_ERESET || result == WEIR_ETIMEDOUT || result == WEIR_EUNREACHABLE)
        state->error = (int)result;
}

void weir__io_uring_finish(struct weir__io_uring *engine, struct weir__op *op, int64_t result)
{
    struct weir__completion completion = {.result = result};
    struct weir__op **role = role_of(op);
    struct weir__pin *pin = op->kind == WEIR__OP_SEND ? op->send.pin : NULL;
    struct weir__op *watcher;

    assert(op->in_flight);
    assert(!uring_state_of(op)->armed);
    assert(*role == op);
    ready_remove(engine, op);
    op->in_flight = false;
    *role = NULL;
    socket_error_note(op->socket, result);
    /* A watcher relies on the reader to meet the connection's end, and on others to say why. */
    watcher = op->socket->watcher;
    if (watcher && (op->kind == WEIR__OP_RECEIVE || uring_state_of(watcher)->ended))
        ready_add(engine, watcher);
    weir__io_uring_deliver(engine, op, &completion);
    if (pin)
        weir__io_uring_pin_completed(engine, pin, result);
}

/* Requests */

/* NULL: the kernel takes nothing for now. */
static struct io_uring_sqe *sqe_get(struct weir__io_uring *engine)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&engine->ring);

    if (sqe || !engine->enabled)
        return sqe;
    if (io_uring_submit(&engine->ring) < 0)
        return NULL;
    return io_uring_get_sqe(&engine->ring);
}

struct io_uring_sqe *weir__io_uring_request_get(struct weir__io_uring *engine)
{
    struct io_uring_sqe *sqe = sqe_get(engine);

    if (sqe)
        sqe->flags = 0;
    return sqe;
}

static uint64_t request_data(struct weir__op *op, unsigned request)
{
    if (request == URING_REQUEST_MAIN && uring_state_of(op)->pinned)
        return (uintptr_t)op->send.pin | URING_TAG_PIN;
    return (uintptr_t)op | request;
}

void weir__io_uring_request_armed(struct weir__op *op, struct io_uring_sqe *sqe,
                                  enum uring_request request)
{
    struct uring_state *state = uring_state_of(op);

    assert(!(state->armed & (1u << request)));
    sqe->user_data = request_data(op, request);
    state->armed = (uint8_t)(state->armed | (1u << request));
    state->cancel_sent = (uint8_t)(state->cancel_sent & ~(1u << request));
}

/* Whether bytes come with control messages: a receive stamp, the type of a record. */
static bool receives_messages(const struct weir__io_uring *engine,
                              const struct weir__socket *socket)
{
    return engine->delivery || socket->tls_rx;
}

static void prepare_receive(struct weir__io_uring *engine, struct weir__op *op,
                            struct io_uring_sqe *sqe)
{
    int handle = op->socket->handle;

    if (receives_messages(engine, op->socket))
        io_uring_prep_recvmsg_multishot(sqe, handle, &engine->receive_message, 0);
    else
        io_uring_prep_recv_multishot(sqe, handle, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = WEIR__IO_URING_BUFFER_GROUP;
    /*
     * Without IORING_RECVSEND_POLL_FIRST, though most often nothing has come yet and the try is in vain: where bytes
     * and a reset are there already, the poll would tell of both at once, and then of nothing more.
     */
}

/* Without MSG_WAITALL: with it the kernel goes on by itself after a short send, without the stamp.
 */
static void prepare_send(struct weir__io_uring *engine, struct weir__op *op,
                         struct io_uring_sqe *sqe)
{
    struct uring_state *state = uring_state_of(op);
    int flags;

    memset(&state->message, 0, sizeof(state->message));
    flags = weir__send_prepare(op->socket, op->send.flags, op->send.record_type, &state->message,
                               state->control);
    if (op->send.part_count == 1 && !state->message.msg_control) {
        io_uring_prep_send(sqe, op->socket->handle, op->send.parts->iov_base,
                           op->send.parts->iov_len, flags);
    } else {
        state->message.msg_iov = op->send.parts;
        state->message.msg_iovlen = op->send.part_count;
        io_uring_prep_sendmsg(sqe, op->socket->handle, &state->message, (unsigned)flags);
    }
    if (uring_socket_state_of(op->socket)->full)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    uring_socket_state_of(op->socket)->full = false;
    state->pinned = op->send.pin && weir__io_uring_pin_prepare(engine, op, sqe);
}

/* False: try again in `wait`. */
static bool main_arm(struct weir__io_uring *engine, struct weir__op *op)
{
    struct io_uring_sqe *sqe = weir__io_uring_request_get(engine);

    if (!sqe)
        return false;
    switch (op->kind) {
    case WEIR__OP_ACCEPT:
        io_uring_prep_multishot_accept(sqe, op->socket->handle, NULL, NULL,
                                       SOCK_NONBLOCK | SOCK_CLOEXEC);
        break;
    case WEIR__OP_CONNECT:
        io_uring_prep_connect(sqe, op->socket->handle, &op->connect.address->socket.any,
                              op->connect.address->length);
        break;
    case WEIR__OP_RECEIVE:
        prepare_receive(engine, op, sqe);
        break;
    case WEIR__OP_SEND:
        prepare_send(engine, op, sqe);
        break;
    case WEIR__OP_SEND_FILE:
    case WEIR__OP_WATCH:
        assert(false);
        break;
    }
    uring_state_of(op)->polling = false;
    uring_state_of(op)->fed = false;
    weir__io_uring_request_armed(op, sqe, URING_REQUEST_MAIN);
    return true;
}

static bool poll_arm(struct weir__io_uring *engine, struct weir__op *op)
{
    struct io_uring_sqe *sqe = weir__io_uring_request_get(engine);
    bool reads = op->kind == WEIR__OP_ACCEPT || op->kind == WEIR__OP_RECEIVE;

    if (!sqe)
        return false;
    io_uring_prep_poll_add(sqe, op->socket->handle, reads ? POLLIN : POLLOUT);
    uring_state_of(op)->polling = true;
    uring_state_of(op)->pinned = false;
    weir__io_uring_request_armed(op, sqe, URING_REQUEST_MAIN);
    return true;
}

/* Asks the kernel to end what is armed. False: try again in `wait`. */
static bool requests_cancel(struct weir__io_uring *engine, struct weir__op *op)
{
    struct uring_state *state = uring_state_of(op);

    for (unsigned request = 0; request < URING_REQUESTS; request++) {
        unsigned bit = 1u << request;
        struct io_uring_sqe *sqe;

        if (!(state->armed & bit) || (state->cancel_sent & bit))
            continue;
        sqe = weir__io_uring_request_get(engine);
        if (!sqe)
            return false;
        io_uring_prep_cancel64(sqe, request_data(op, request), 0);
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
        sqe->user_data = WEIR__IO_URING_DATA_IGNORED;
        state->cancel_sent = (uint8_t)(state->cancel_sent | bit);
    }
    return true;
}

/*
 * What kernel TLS finds wrong with received bytes is told to whoever asks first, but is the reader's. The
 * kernel will not tell it again, so what waits there is called back.
 */
static void tls_error_note(struct weir__io_uring *engine, struct weir__socket *socket, int error)
{
    uring_socket_state_of(socket)->tls_error = error;
    if (socket->reader)
        ready_add(engine, socket->reader);
}

/* SEND_FILE: io_uring has no sendfile, and its splice always goes through a worker thread. */

static int64_t file_send(struct weir__io_uring *engine, struct weir__op *op)
{
    uint64_t length = op->send_file.length;
    int64_t result = weir__socket_send_file(op->socket, op->send_file.file, op->send_file.offset,
                                            length, op->send_file.piece, op->send_file.flags);

    if (weir__is_receive_result(result)) {
        tls_error_note(engine, op->socket, (int)result);
        result = weir__socket_send_file(op->socket, op->send_file.file, op->send_file.offset,
                                        length, op->send_file.piece, op->send_file.flags);
    }
    if (weir__is_receive_result(result))
        return WEIR_EIO;
    if (length > WEIR__SEND_FILE_BYTES_MAX)
        length = WEIR__SEND_FILE_BYTES_MAX;
    if (result > 0 && (uint64_t)result < length)
        uring_socket_state_of(op->socket)->full = true;
    return result;
}

static void file_advance(struct weir__io_uring *engine, struct weir__op *op)
{
    struct uring_socket_state *socket_state = uring_socket_state_of(op->socket);
    int64_t result = WEIR__WOULD_BLOCK;

    if (!socket_state->full)
        result = file_send(engine, op);
    if (result != WEIR__WOULD_BLOCK) {
        weir__io_uring_finish(engine, op, result);
        return;
    }
    if (poll_arm(engine, op))
        socket_state->full = false;
    else
        ready_add(engine, op);
}

/* Bytes were taken: the send is over, unless kernel TLS keeps some of them and that is of matter. */
static void send_settle(struct weir__io_uring *engine, struct weir__op *op)
{
    struct uring_state *state = uring_state_of(op);
    int holds = op->send.record_type && !state->cancelling ? weir__socket_holds(op->socket) : 0;

    state->settling = holds != 0;
    state->polling = holds == WEIR__WOULD_BLOCK;
    if (holds)
        ready_add(engine, op);
    else
        weir__io_uring_finish(engine, op, state->taken);
}

/* Moves on what is neither cancelled nor a WATCH and has nothing in the kernel. False: later. */
static bool advance_idle(struct weir__io_uring *engine, struct weir__op *op)
{
    struct uring_state *state = uring_state_of(op);
    struct uring_socket_state *socket_state = uring_socket_state_of(op->socket);

    if (op->kind == WEIR__OP_RECEIVE && socket_state->tls_error)
        weir__io_uring_finish(engine, op, socket_state->tls_error);
    else if (state->polling)
        return poll_arm(engine, op);
    else if (state->settling)
        send_settle(engine, op);
    else if (op->kind != WEIR__OP_RECEIVE && op->socket->tls_tx && socket_state->error)
        /* Kernel TLS would go on taking bytes on a connection that is gone. */
        weir__io_uring_finish(engine, op, socket_state->error);
    else if (op->kind == WEIR__OP_SEND_FILE)
        file_advance(engine, op);
    else
        return main_arm(engine, op);
    return true;
}

/* Moves an operation on, from inside `wait`. */
static void advance(struct weir__io_uring *engine, struct weir__op *op)
{
    struct uring_state *state = uring_state_of(op);
    bool done = true;

    if (state->cancelling || state->ended) {
        if (state->armed)
            done = requests_cancel(engine, op);
        else if (op->kind == WEIR__OP_WATCH)
            weir__io_uring_watch_finish(engine, op);
        else
            weir__io_uring_finish(engine, op, state->settling ? state->taken : WEIR_ECANCELLED);
    } else if (op->kind == WEIR__OP_WATCH) {
        done = weir__io_uring_watch_arm(engine, op);
    } else if (!state->armed) {
        done = advance_idle(engine, op);
    } else if (op->kind == WEIR__OP_RECEIVE && uring_socket_state_of(op->socket)->tls_error) {
        done = requests_cancel(engine, op);
    }
    if (!done)
        ready_add(engine, op);
}

/* As many as are ready now; what their callbacks make ready waits for the next call. */
void weir__io_uring_ready_run(struct weir__io_uring *engine)
{
    for (unsigned count = engine->ready_count; count && engine->ready_first; count--) {
        struct weir__op *op = engine->ready_first;

        ready_remove(engine, op);
        advance(engine, op);
    }
}

/* Completions of requests */

/* What a request that failed means to its operation. */
static int failure_of(struct weir__op *op, int result)
{
    int error;

    if (op->kind != WEIR__OP_RECEIVE)
        return weir__ktls_send_failed(op->socket, -result);
    error = weir__ktls_receive_failed(op->socket, -result);
    if (weir__is_receive_result(error) && error != WEIR__RECEIVE_KEY_EXPIRED)
        uring_socket_state_of(op->socket)->tls_error = error;
    return error;
}

static void send_failed(struct weir__io_uring *engine, struct weir__op *op, int result)
{
    struct uring_state *state = uring_state_of(op);
    int error = failure_of(op, result);

    if (!weir__is_receive_result(error)) {
        weir__io_uring_finish(engine, op, error);
        return;
    }
    tls_error_note(engine, op->socket, error);
    if (state->again) {
        weir__io_uring_finish(engine, op, WEIR_EIO);
        return;
    }
    state->again = true;
    ready_add(engine, op);
}

static void cancelled(struct weir__io_uring *engine, struct weir__op *op, int result)
{
    const struct uring_state *state = uring_state_of(op);
    bool by_cancel =
        result == -ECANCELED || result == -EAGAIN || result == -ENOBUFS || result == -EINTR;

    if (state->settling)
        weir__io_uring_finish(engine, op, state->taken);
    else
        weir__io_uring_finish(engine, op, by_cancel ? WEIR_ECANCELLED : failure_of(op, result));
}

static void send_as_copy(struct weir__io_uring *engine, struct weir__op *op)
{
    weir__io_uring_pin_refuse(op->send.pin);
    if (!main_arm(engine, op))
        ready_add(engine, op);
}

static void main_failed(struct weir__io_uring *engine, struct weir__op *op, int result)
{
    struct uring_state *state = uring_state_of(op);
    int tls_error = uring_socket_state_of(op->socket)->tls_error;

    if (state->cancelling) {
        cancelled(engine, op, result);
        return;
    }
    if (op->kind == WEIR__OP_RECEIVE && tls_error) {
        weir__io_uring_finish(engine, op, tls_error);
        return;
    }
    switch (-result) {
    case EAGAIN: /* a kernel that takes O_NONBLOCK for a wish to be told */
        state->polling = true;
        ready_add(engine, op);
        return;
    case ENOMEM:
        /* No more may be locked, or counted: nothing says when that changes, so it goes out as a copy. */
        if (state->pinned) {
            send_as_copy(engine, op);
            return;
        }
        break;
    case EINTR:
    case ECONNABORTED: /* a peer that left the backlog */
        ready_add(engine, op);
        return;
    case ENOBUFS:
        /*
         * No buffer was left; this round's callbacks give theirs back before the next request. Who got
         * none goes before those who took them all, or a busy peer would starve the others.
         */
        if (op->kind == WEIR__OP_RECEIVE) {
            if (state->fed)
                ready_add(engine, op);
            else
                ready_add_first(engine, op);
            return;
        }
        if (state->pinned) {
            send_as_copy(engine, op);
            return;
        }
        break;
    default:
        break;
    }
    if (op->kind == WEIR__OP_SEND)
        send_failed(engine, op, result);
    else
        weir__io_uring_finish(engine, op, failure_of(op, result));
}

static uint64_t receive_stamp(struct weir__io_uring *engine, const struct cmsghdr *control)
{
    struct scm_timestamping times;
    uint64_t wall_ns;

    memcpy(&times, CMSG_DATA(control), sizeof(times));
    wall_ns = (uint64_t)times.ts[0].tv_sec * 1000000000ULL + (uint64_t)times.ts[0].tv_nsec;
    return wall_ns ? wall_ns - (uint64_t)weir__engine_wall_offset(&engine->base) : 0;
}

/* What RECVMSG put into a buffer. */
static void message_take(struct weir__io_uring *engine, unsigned char *buffer, int result,
                         struct weir__completion *completion)
{
    struct msghdr *asked = &engine->receive_message;
    struct io_uring_recvmsg_out *out = io_uring_recvmsg_validate(buffer, result, asked);

    assert(out);
    completion->result = io_uring_recvmsg_payload_length(out, result, asked);
    completion->data = io_uring_recvmsg_payload(out, asked);
    for (struct cmsghdr *control = io_uring_recvmsg_cmsg_firsthdr(out, asked); control;
         control = io_uring_recvmsg_cmsg_nexthdr(out, asked, control)) {
        if (control->cmsg_level == SOL_TLS)
            completion->record_type = weir__ktls_record_type(control);
        else if (control->cmsg_level == SOL_SOCKET && control->cmsg_type == SCM_TIMESTAMPING &&
                 control->cmsg_len >= CMSG_LEN(sizeof(struct scm_timestamping)))
            completion->at_ns = receive_stamp(engine, control);
    }
}

static unsigned char *buffer_at(struct weir__io_uring *engine, unsigned index)
{
    assert(index < engine->buffer_count);
    return engine->buffers + (size_t)index * engine->buffer_bytes;
}

void weir__io_uring_buffer_give(struct weir__io_uring *engine, unsigned index)
{
    io_uring_buf_ring_add(engine->buffer_ring, buffer_at(engine, index), engine->buffer_bytes,
                          (unsigned short)index, io_uring_buf_ring_mask(engine->buffer_count), 0);
    io_uring_buf_ring_advance(engine->buffer_ring, 1);
}

/* Bytes came, or the end. True: the operation goes on. */
static bool receive_take(struct weir__io_uring *engine, struct weir__op *op, int result,
                         uint32_t flags)
{
    struct weir__completion completion = {.result = result, .more = true};
    unsigned index = flags >> IORING_CQE_BUFFER_SHIFT;

    if (!(flags & IORING_CQE_F_BUFFER)) {
        assert(result == 0);
        return false;
    }
    completion.data = buffer_at(engine, index);
    if (receives_messages(engine, op->socket) && result > 0)
        message_take(engine, buffer_at(engine, index), result, &completion);
    /* A record of no bytes is not the end, and only application data may be so (RFC 8446 section 5.1). */
    if (completion.result == 0 && completion.record_type)
        uring_socket_state_of(op->socket)->tls_error = WEIR__RECEIVE_MALFORMED;
    if (completion.result > 0) {
        uring_state_of(op)->fed = true;
        weir__io_uring_deliver(engine, op, &completion);
    }
    weir__io_uring_buffer_give(engine, index);
    return completion.result > 0;
}

static void receive_completed(struct weir__io_uring *engine, struct weir__op *op, int result,
                              uint32_t flags)
{
    struct uring_state *state = uring_state_of(op);

    if (result < 0) {
        main_failed(engine, op, result);
    } else if (!receive_take(engine, op, result, flags)) {
        const struct uring_socket_state *socket_state = uring_socket_state_of(op->socket);
        /* A reset that another operation met first reads as an end in good order. */
        if (!state->armed)
            weir__io_uring_finish(engine, op,
                                  socket_state->tls_error ? socket_state->tls_error
                                                          : socket_state->error);
    } else if (!state->armed) {
        ready_add(engine, op);
    }
}

static void accept_completed(struct weir__io_uring *engine, struct weir__op *op, int result)
{
    struct weir__completion completion = {.result = result, .more = true};

    if (result < 0) {
        main_failed(engine, op, result);
        return;
    }
    weir__io_uring_deliver(engine, op, &completion);
    if (!uring_state_of(op)->armed)
        ready_add(engine, op);
}

static void poll_completed(struct weir__io_uring *engine, struct weir__op *op, int result)
{
    uring_state_of(op)->polling = false;
    if (result < 0)
        main_failed(engine, op, result);
    else
        advance(engine, op);
}

static void send_taken(struct weir__io_uring *engine, struct weir__op *op, int result)
{
    op->socket->tls.wire += (unsigned)result;
    uring_state_of(op)->taken = result;
    send_settle(engine, op);
}

static void main_completed(struct weir__io_uring *engine, struct weir__op *op, int result,
                           uint32_t flags)
{
    if (uring_state_of(op)->polling)
        poll_completed(engine, op, result);
    else if (op->kind == WEIR__OP_RECEIVE)
        receive_completed(engine, op, result, flags);
    else if (op->kind == WEIR__OP_ACCEPT)
        accept_completed(engine, op, result);
    else if (result < 0)
        main_failed(engine, op, result);
    else if (op->kind == WEIR__OP_SEND)
        send_taken(engine, op, result);
    else
        weir__io_uring_finish(engine, op, result);
}

void weir__io_uring_request_completed(struct weir__io_uring *engine, uint64_t data, int result,
                                      uint32_t flags, const uint64_t *big)
{
    void *address = (void *)(uintptr_t)(data & ~(uint64_t)URING_REQUEST_MASK);
    unsigned request = (unsigned)(data & URING_REQUEST_MASK);
    struct weir__op *op = address;

    if (request == URING_TAG_PIN && (flags & IORING_CQE_F_NOTIF)) {
        weir__io_uring_pin_notified(engine, address, result);
        return;
    }
    if (request == URING_TAG_PIN) {
        op = weir__io_uring_pin_sent(address, flags);
        request = URING_REQUEST_MAIN;
        flags &= ~IORING_CQE_F_MORE;
    }

    struct uring_state *state = uring_state_of(op);

    assert(state->armed & (1u << request));
    if (!(flags & IORING_CQE_F_MORE))
        state->armed = (uint8_t)(state->armed & ~(1u << request));
    switch (request) {
    case URING_REQUEST_MAIN:
        main_completed(engine, op, result, flags);
        return;
    case URING_REQUEST_STAMPS:
        weir__io_uring_watch_stamped(engine, op, result, flags, big);
        break;
    case URING_REQUEST_END:
        weir__io_uring_watch_polled(engine, op, result);
        break;
    default:
        assert(false);
        break;
    }
    /* The watch goes on with what it lacks now, or ends. */
    if (!(flags & IORING_CQE_F_MORE) || state->ended)
        ready_add(engine, op);
}

/* Whether what is known of kernel TLS makes it pointless to ask the kernel. */
static bool tls_decides(struct weir__op *op)
{
    const struct uring_socket_state *state = uring_socket_state_of(op->socket);

    return (op->kind == WEIR__OP_RECEIVE && state->tls_error) ||
           (op->socket->tls_tx && state->error);
}

void weir__io_uring_op_start(struct weir__io_uring *engine, struct weir__op *op)
{
    struct weir__op **role = role_of(op);

    assert(!op->in_flight);
    assert(!*role);
    memset(uring_state_of(op), 0, sizeof(struct uring_state));
    *role = op;
    op->in_flight = true;
    if (op->kind == WEIR__OP_SEND && op->send.pin)
        weir__io_uring_pin_begin(engine, op);
    if (op->kind == WEIR__OP_SEND_FILE || op->kind == WEIR__OP_WATCH || tls_decides(op) ||
        !main_arm(engine, op))
        ready_add(engine, op);
}

void weir__io_uring_op_cancel(struct weir__io_uring *engine, struct weir__op *op)
{
    struct uring_state *state = uring_state_of(op);

    assert(op->in_flight);
    state->cancelling = true;
    if (!state->armed || !requests_cancel(engine, op))
        ready_add(engine, op);
}
