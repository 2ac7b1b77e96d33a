/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/readiness.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include <weir/error.h>

#include "core/memory.h"
#include "engine/socket.h"

/* Bounds of what one operation does in one round, so that no socket starves the others. A RECEIVE
 * fills the buffer once, a SEND makes one call. */
#define ACCEPTS_PER_ROUND 64
#define NOTICES_PER_ROUND 16

/* How often a level-triggered poller's socket is asked, of which the poller says too much: one that is shut
 * on both sides, or over with pins held, or has a part of a record. */
#define LINGER_CHECK_NS (10 * UINT64_C(1000000))

/* What is kept with an operation in flight. */
struct op_state {
    struct weir__op *next;
    int64_t result; /* where `done` */
    bool queued;
    bool done;
    bool cancelled;
    bool settling; /* SEND: taken, see weir__socket_holds */
};

_Static_assert(sizeof(struct op_state) <= WEIR__OP_PRIVATE_BYTES, "fits");
_Static_assert(sizeof(struct weir__readiness_socket) <= WEIR__SOCKET_PRIVATE_BYTES, "fits");

static struct op_state *state_of(struct weir__op *op)
{
    return (struct op_state *)(void *)op->engine_private;
}

static void enqueue(struct weir__op_queue *queue, struct weir__op *op)
{
    struct op_state *state = state_of(op);

    if (state->queued)
        return;
    state->queued = true;
    state->next = NULL;
    if (queue->last)
        state_of(queue->last)->next = op;
    else
        queue->first = op;
    queue->last = op;
}

static struct weir__op *dequeue(struct weir__op_queue *queue)
{
    struct weir__op *op = queue->first;

    queue->first = state_of(op)->next;
    if (!queue->first)
        queue->last = NULL;
    state_of(op)->queued = false;
    return op;
}

static struct weir__op **role_of(struct weir__op *op)
{
    switch (op->kind) {
    case WEIR__OP_ACCEPT:
    case WEIR__OP_RECEIVE:
        return &op->socket->reader;
    case WEIR__OP_CONNECT:
    case WEIR__OP_SEND:
    case WEIR__OP_SEND_FILE:
        return &op->socket->writer;
    case WEIR__OP_WATCH:
        break;
    }
    return &op->socket->watcher;
}

static unsigned interest_of(const struct weir__readiness *engine, struct weir__socket *socket)
{
    const struct weir__readiness_socket *state = weir__readiness_socket(socket);
    unsigned interest = 0;

    /* OUT is left out until it matters: an edge-triggered poller would say it along with each
     * stamp. */
    if (engine->poller->edge_triggered)
        return WEIR__READY_IN | (state->blocked ? WEIR__READY_OUT : 0u);
    if (socket->reader && !(state->ready & WEIR__READY_IN) && !state->naps)
        interest |= WEIR__READY_IN;
    if (socket->writer && !(state->ready & WEIR__READY_OUT))
        interest |= WEIR__READY_OUT;
    if (socket->watcher ? !state->lingers : socket->pins > 0 && !weir__list_is_linked(&state->nap))
        interest |= WEIR__READY_ERROR;
    return interest;
}

int weir__readiness_interest_update(struct weir__readiness *engine, struct weir__socket *socket)
{
    struct weir__readiness_socket *state = weir__readiness_socket(socket);
    unsigned interest = interest_of(engine, socket);

    if (interest == state->interest)
        return 0;
    if (state->added) {
        engine->poller->modify(engine, socket, interest);
    } else {
        int rc = engine->poller->add(engine, socket, interest);
        if (rc != 0)
            return rc;
        state->added = true;
    }
    state->interest = (uint8_t)interest;
    return 0;
}

/* The socket has proved not ready: waits for the poller's word. */
static void not_ready(struct weir__socket *socket, unsigned ready)
{
    struct weir__readiness_socket *state = weir__readiness_socket(socket);

    state->ready &= (uint8_t)~ready;
    if (ready & WEIR__READY_OUT)
        state->blocked = true;
}

/* The final completion: afterwards neither the operation nor its socket may be touched. */
static void finish(struct weir__readiness *engine, struct weir__op *op, int64_t result)
{
    const struct weir__completion completion = {.result = result};
    struct weir__pin *pin = op->kind == WEIR__OP_SEND ? op->send.pin : NULL;

    assert(!state_of(op)->queued);
    *role_of(op) = NULL;
    op->in_flight = false;
    if (!engine->poller->edge_triggered)
        (void)weir__readiness_interest_update(engine, op->socket);
    engine->completed++;
    op->complete(op, &completion);
    if (pin)
        weir__readiness_pin_completed(engine, pin);
}

/* The operation lives on, and with it its socket, whatever the callback does. */
static void complete_more(struct weir__readiness *engine, struct weir__op *op,
                          struct weir__completion *completion)
{
    completion->more = true;
    engine->completed++;
    op->complete(op, completion);
}

/*
 * The kernel tells a connection's error once, to whoever asks first. It is kept, so that the others
 * in flight, and those submitted later, learn the same.
 */
static int64_t connection_result(struct weir__socket *socket, int64_t result)
{
    struct weir__readiness_socket *state = weir__readiness_socket(socket);

    if (result > 0 || result == WEIR__WOULD_BLOCK)
        return result;
    if (state->error != 0)
        return state->error;
    if (result == WEIR_ERESET || result == WEIR_ETIMEDOUT || result == WEIR_EUNREACHABLE)
        state->error = (int)result;
    return result;
}

static void accept_process(struct weir__readiness *engine, struct weir__op *op)
{
    struct weir__socket *socket = op->socket;

    for (int i = 0; i < ACCEPTS_PER_ROUND; i++) {
        int descriptor = weir__descriptor_accept(socket->handle);
        if (descriptor == WEIR__WOULD_BLOCK) {
            not_ready(socket, WEIR__READY_IN);
            (void)weir__readiness_interest_update(engine, socket);
            return;
        }
        if (descriptor < 0) {
            finish(engine, op, descriptor);
            return;
        }
        complete_more(engine, op, &(struct weir__completion){.result = descriptor});
        if (state_of(op)->cancelled)
            return; /* which has queued it */
    }
    enqueue(&engine->ready, op);
}

/* What kernel TLS finds wrong with received bytes is told to whoever asks first, but is the reader's. */
static void tls_error_note(struct weir__readiness *engine, struct weir__socket *socket, int error)
{
    weir__readiness_socket(socket)->tls_error = error;
    weir__readiness_socket(socket)->ready |= WEIR__READY_IN;
    if (socket->reader)
        enqueue(&engine->ready, socket->reader);
}

static bool somebody_is_looked_at(const struct weir__readiness *engine)
{
    return engine->lingering.first || engine->napping.first ||
           !weir__list_is_empty(&engine->pinned);
}

void weir__readiness_look_soon(struct weir__readiness *engine)
{
    if (!somebody_is_looked_at(engine))
        engine->linger_check_ns = weir__clock_now_ns(&engine->engine) + LINGER_CHECK_NS;
}

static void looked_at_soon(struct weir__readiness *engine, struct weir__op_queue *queue,
                           struct weir__op *op)
{
    weir__readiness_look_soon(engine);
    enqueue(queue, op);
}

/*
 * Before Linux 6.5 or so, poll says that a socket with kernel TLS is readable when a part of a record is
 * there, which recvmsg does not give. A level-triggered poller would say so for as long as the rest does not
 * come, so it is not asked for a while.
 */
static void receive_nap(struct weir__readiness *engine, struct weir__op *op)
{
    weir__readiness_socket(op->socket)->naps = true;
    looked_at_soon(engine, &engine->napping, op);
}

static void receive_nothing(struct weir__readiness *engine, struct weir__op *op)
{
    struct weir__socket *socket = op->socket;
    struct weir__readiness_socket *state = weir__readiness_socket(socket);

    if (state->tls_error != 0) {
        finish(engine, op, state->tls_error);
        return;
    }
    not_ready(socket, WEIR__READY_IN);
    if (state->in_told && socket->tls_rx && !engine->poller->edge_triggered)
        receive_nap(engine, op);
    (void)weir__readiness_interest_update(engine, socket);
}

/*
 * A short read emptied the socket, so it need not be asked again; unless the end is already here, which an
 * edge-triggered poller will not say twice. With kernel TLS it may be the end of a record alone, and the
 * one behind it, opened already, is in no queue that a poller of Linux 6.1 looks at.
 */
static bool receive_emptied(const struct weir__readiness *engine, struct weir__socket *socket,
                            int64_t length)
{
    return (uint64_t)length < engine->buffer_bytes && !socket->tls_rx &&
           !(weir__readiness_socket(socket)->ready & (WEIR__READY_END | WEIR__READY_HANGUP));
}

static void receive_process(struct weir__readiness *engine, struct weir__op *op)
{
    struct weir__socket *socket = op->socket;
    struct weir__completion completion = {.data = engine->buffer};
    int64_t length = weir__socket_receive(&engine->engine, socket, engine->buffer,
                                          engine->buffer_bytes, &completion);

    if (length > 0) {
        completion.result = length;
        weir__readiness_socket(socket)->in_told = false;
        if (receive_emptied(engine, socket, length))
            not_ready(socket, WEIR__READY_IN);
        else
            enqueue(&engine->ready, op);
        (void)weir__readiness_interest_update(engine, socket);
        complete_more(engine, op, &completion);
    } else if (length == WEIR__WOULD_BLOCK) {
        receive_nothing(engine, op);
    } else if (weir__is_receive_result(length)) {
        if (length != WEIR__RECEIVE_KEY_EXPIRED)
            weir__readiness_socket(socket)->tls_error = (int)length;
        finish(engine, op, length);
    } else {
        finish(engine, op, connection_result(socket, length));
    }
}

static int64_t send_once(struct weir__op *op)
{
    if (op->kind == WEIR__OP_SEND && op->send.pin)
        return weir__readiness_pin_send(op);
    if (op->kind == WEIR__OP_SEND)
        return weir__socket_send(op->socket, op->send.parts, op->send.part_count, op->send.flags,
                                 op->send.record_type);
    return weir__socket_send_file(op->socket, op->send_file.file, op->send_file.offset,
                                  op->send_file.length, op->send_file.piece, op->send_file.flags);
}

static int64_t send_try(struct weir__readiness *engine, struct weir__op *op)
{
    struct weir__socket *socket = op->socket;
    int64_t result;

    /* Kernel TLS would go on taking bytes on a connection that is gone. */
    if (socket->tls_tx && weir__readiness_socket(socket)->error != 0)
        return weir__readiness_socket(socket)->error;
    result = send_once(op);
    if (weir__is_receive_result(result)) {
        tls_error_note(engine, socket, (int)result);
        result = send_once(op);
    }
    return connection_result(socket, weir__is_receive_result(result) ? WEIR_EIO : result);
}

/* Whether the send is over, as far as kernel TLS goes; else it waits for its turn or the poller's word. */
static bool send_settled(struct weir__readiness *engine, struct weir__op *op)
{
    int holds = 0;

    if (op->kind == WEIR__OP_SEND && op->send.record_type && !state_of(op)->cancelled)
        holds = weir__socket_holds(op->socket);
    state_of(op)->settling = holds != 0;
    if (holds == WEIR__WOULD_BLOCK)
        not_ready(op->socket, WEIR__READY_OUT);
    else if (holds != 0)
        enqueue(&engine->ready, op);
    return holds == 0;
}

/* The stamp of what was sent is often there at once: it is fetched together with those that the
 * peer's ACK brought, in one call, before the poller would say so. */
static void watch_after_send(struct weir__readiness *engine, const struct weir__op *op)
{
    unsigned flags = op->kind == WEIR__OP_SEND ? op->send.flags : op->send_file.flags;

    if ((flags & WEIR__SEND_STAMP) && op->socket->stamps && op->socket->watcher)
        enqueue(&engine->watchers, op->socket->watcher);
}

static void send_process(struct weir__readiness *engine, struct weir__op *op)
{
    struct op_state *state = state_of(op);

    if (!state->settling) {
        state->result = send_try(engine, op);
        if (state->result == WEIR__WOULD_BLOCK)
            not_ready(op->socket, WEIR__READY_OUT);
        else
            watch_after_send(engine, op);
    }
    if (state->result != WEIR__WOULD_BLOCK && (state->result < 0 || send_settled(engine, op)))
        finish(engine, op, state->result);
    else
        (void)weir__readiness_interest_update(engine, op->socket);
}

/*
 * Both sides are shut but the peer has not acknowledged everything yet. A level-triggered poller
 * would say HANGUP again and again, so it is not asked; the socket is, from time to time.
 */
static void watch_linger(struct weir__readiness *engine, struct weir__op *op)
{
    if (engine->poller->edge_triggered)
        return;
    weir__readiness_socket(op->socket)->lingers = true;
    looked_at_soon(engine, &engine->lingering, op);
    (void)weir__readiness_interest_update(engine, op->socket);
}

/* Whether the connection is over; `*result` is then how it ended. */
static bool watch_ended(struct weir__readiness *engine, struct weir__socket *socket,
                        int64_t *result)
{
    struct weir__readiness_socket *state = weir__readiness_socket(socket);
    bool hangup = state->ready & WEIR__READY_HANGUP;

    if (hangup && !weir__descriptor_is_closed(socket->handle))
        return false;
    if (state->error == 0)
        state->error = weir__socket_error(socket);
    if (weir__is_receive_result(state->error)) {
        tls_error_note(engine, socket, state->error);
        state->error = 0;
    }
    switch (state->error) {
    case 0:
    case WEIR_ERESET:
        *result = state->error;
        break;
    /* The peer stopped answering and a router said why: retransmission gave up all the same. */
    case WEIR_EUNREACHABLE:
    case WEIR_ETIMEDOUT:
        *result = WEIR_ETIMEDOUT;
        break;
    default:
        *result = WEIR_EIO;
    }
    return hangup || state->error != 0;
}

/* Returns how many notices there were, at most NOTICES_PER_ROUND. */
static unsigned watch_drain(struct weir__readiness *engine, struct weir__op *op)
{
    struct weir__notice notices[NOTICES_PER_ROUND];
    unsigned count = weir__descriptor_notices(op->socket->handle, notices, NOTICES_PER_ROUND);

    for (unsigned i = 0; i < count; i++) {
        if (notices[i].kind == WEIR__NOTICE_STAMP)
            complete_more(engine, op, &(struct weir__completion){.stamp = notices[i].stamp});
        else
            weir__readiness_pins_noticed(engine, op->socket, &notices[i]);
    }
    return count;
}

static void watch_process(struct weir__readiness *engine, struct weir__op *op)
{
    struct weir__socket *socket = op->socket;
    struct weir__readiness_socket *state = weir__readiness_socket(socket);
    /* With notices, READY_ERROR is most often one of them; kernel TLS tells of a bad record so, too. */
    bool notices = weir__readiness_has_notices(socket);
    bool look_for_end = (state->ready & WEIR__READY_HANGUP) ||
                        ((!notices || socket->tls_rx) && state->ready & WEIR__READY_ERROR);
    int64_t result = WEIR_ECANCELLED;
    /* Before notices are taken: an end that comes after that may have brought more of them. */
    bool ended = look_for_end && watch_ended(engine, socket, &result);

    state->ready &= (uint8_t)~WEIR__READY_ERROR;
    state->lingers = false;
    if (notices && watch_drain(engine, op) == NOTICES_PER_ROUND) {
        enqueue(&engine->watchers, op);
        return;
    }
    if (state_of(op)->queued)
        return; /* cancelled, or sent more, by a callback */
    if (ended || state_of(op)->cancelled)
        finish(engine, op, ended ? result : WEIR_ECANCELLED);
    else if (state->ready & WEIR__READY_HANGUP)
        watch_linger(engine, op);
}

static void process(struct weir__readiness *engine, struct weir__op *op)
{
    struct op_state *state = state_of(op);
    unsigned ready = weir__readiness_socket(op->socket)->ready;

    if (state->done) {
        finish(engine, op, state->result);
        return;
    }
    if (op->kind == WEIR__OP_WATCH) {
        watch_process(engine, op);
        return;
    }
    if (state->cancelled) {
        finish(engine, op, state->settling ? state->result : WEIR_ECANCELLED);
        return;
    }
    switch (op->kind) {
    case WEIR__OP_ACCEPT:
        if (ready & WEIR__READY_IN)
            accept_process(engine, op);
        break;
    case WEIR__OP_RECEIVE:
        if (ready & WEIR__READY_IN)
            receive_process(engine, op);
        break;
    case WEIR__OP_CONNECT:
        if (ready & WEIR__READY_OUT)
            finish(engine, op, weir__socket_error(op->socket));
        break;
    case WEIR__OP_SEND:
    case WEIR__OP_SEND_FILE:
        if (ready & WEIR__READY_OUT)
            send_process(engine, op);
        break;
    case WEIR__OP_WATCH:
        break;
    }
}

/* Looks at all that is in the queue now; what is put there meanwhile waits for its next turn. */
static void run(struct weir__readiness *engine, struct weir__op_queue *queue)
{
    const struct weir__op *last = queue->last;
    bool more = last != NULL;

    while (more) {
        struct weir__op *op = dequeue(queue);
        more = op != last;
        process(engine, op);
    }
}

void weir__readiness_signal(struct weir__readiness *engine, struct weir__socket *socket,
                            unsigned ready)
{
    struct weir__readiness_socket *state = weir__readiness_socket(socket);
    bool end = ready & WEIR__READY_HANGUP ||
               (ready & WEIR__READY_ERROR && !weir__readiness_has_notices(socket));

    /* What kernel TLS has to say of a bad record, and nobody watches: the reader asks for it. */
    if (ready & WEIR__READY_ERROR && socket->tls_rx && !socket->watcher)
        ready |= WEIR__READY_IN;

    if (ready & WEIR__READY_END)
        ready |= WEIR__READY_IN;
    if (end)
        ready |= WEIR__READY_IN | WEIR__READY_OUT;
    state->ready |= (uint8_t)ready;
    if (ready & WEIR__READY_IN)
        state->in_told = true;
    if (socket->reader && state->ready & WEIR__READY_IN)
        enqueue(&engine->ready, socket->reader);
    if (socket->writer && state->ready & WEIR__READY_OUT)
        enqueue(&engine->ready, socket->writer);
    if (ready & (WEIR__READY_ERROR | WEIR__READY_HANGUP)) {
        if (socket->watcher)
            enqueue(&engine->watchers, socket->watcher);
        else
            weir__readiness_notices_drain(engine, socket, end);
    }
    if (!engine->poller->edge_triggered)
        (void)weir__readiness_interest_update(engine, socket);
}

static void complete_later(struct weir__readiness *engine, struct weir__op *op, int64_t result)
{
    state_of(op)->done = true;
    state_of(op)->result = result;
    enqueue(&engine->ready, op);
}

static void connect_start(struct weir__readiness *engine, struct weir__op *op)
{
    struct weir__socket *socket = op->socket;
    const struct weir_address *address = op->connect.address;

    if (connect(socket->handle, &address->socket.any, address->length) == 0) {
        weir__readiness_socket(socket)->ready = WEIR__READY_OUT;
        complete_later(engine, op, 0);
    } else if (errno == EINPROGRESS || errno == EINTR) {
        not_ready(socket, WEIR__READY_OUT);
    } else {
        complete_later(engine, op, weir__error_from_errno(errno));
    }
}

static void send_start(struct weir__readiness *engine, struct weir__op *op)
{
    if (!(weir__readiness_socket(op->socket)->ready & WEIR__READY_OUT))
        return;
    int64_t result = send_try(engine, op);
    if (result == WEIR__WOULD_BLOCK) {
        not_ready(op->socket, WEIR__READY_OUT);
        return;
    }
    watch_after_send(engine, op);
    state_of(op)->result = result;
    if (result < 0 || send_settled(engine, op))
        complete_later(engine, op, result);
}

/* The poller has the socket before anything is sent, or nobody would see the notice. */
static void pinned_start(struct weir__readiness *engine, struct weir__op *op)
{
    weir__readiness_pin_begin(op);
    int rc = weir__readiness_interest_update(engine, op->socket);
    if (rc == 0)
        send_start(engine, op);
    else
        complete_later(engine, op, rc);
}

void weir__readiness_submit(struct weir__engine *base, struct weir__op *op)
{
    struct weir__readiness *engine = (struct weir__readiness *)base;
    struct weir__op **role = role_of(op);
    unsigned ready = weir__readiness_socket(op->socket)->ready;

    assert(!op->in_flight);
    assert(*role == NULL);
    assert(op->socket->handle >= 0);
    memset(state_of(op), 0, sizeof(struct op_state));
    op->in_flight = true;
    *role = op;
    switch (op->kind) {
    case WEIR__OP_ACCEPT:
    case WEIR__OP_RECEIVE:
        if (ready & WEIR__READY_IN)
            enqueue(&engine->ready, op);
        break;
    case WEIR__OP_CONNECT:
        connect_start(engine, op);
        break;
    case WEIR__OP_SEND:
        assert(op->send.part_count > 0);
        assert(op->send.part_count <= WEIR__SEND_PARTS_MAX);
        if (op->send.pin)
            pinned_start(engine, op);
        else
            send_start(engine, op);
        break;
    case WEIR__OP_SEND_FILE:
        send_start(engine, op);
        break;
    case WEIR__OP_WATCH:
        if (ready & (WEIR__READY_ERROR | WEIR__READY_HANGUP))
            enqueue(&engine->watchers, op);
        break;
    }
    if (state_of(op)->done)
        return;
    int rc = weir__readiness_interest_update(engine, op->socket);
    if (rc != 0)
        complete_later(engine, op, rc);
}

void weir__readiness_cancel(struct weir__engine *base, struct weir__op *op)
{
    struct weir__readiness *engine = (struct weir__readiness *)base;

    assert(op->in_flight);
    state_of(op)->cancelled = true;
    if (op->kind == WEIR__OP_WATCH ? weir__readiness_socket(op->socket)->lingers
                                   : weir__readiness_socket(op->socket)->naps)
        engine->linger_check_ns = 0;
    enqueue(op->kind == WEIR__OP_WATCH ? &engine->watchers : &engine->ready, op);
}

static void nap_end(struct weir__readiness *engine, struct weir__op *op)
{
    struct weir__readiness_socket *state = weir__readiness_socket(op->socket);

    state->naps = state->in_told = false;
    state->ready |= WEIR__READY_IN;
    enqueue(&engine->ready, op);
}

/* Gives those that linger or nap their turn when it is time; else shortens the wait to that time. */
static uint64_t linger_check(struct weir__readiness *engine, uint64_t timeout_ns)
{
    if (!somebody_is_looked_at(engine))
        return timeout_ns;
    uint64_t now = weir__clock_now_ns(&engine->engine);
    if (now < engine->linger_check_ns) {
        uint64_t left = engine->linger_check_ns - now;
        return left < timeout_ns ? left : timeout_ns;
    }
    while (engine->lingering.first)
        enqueue(&engine->watchers, dequeue(&engine->lingering));
    while (engine->napping.first)
        nap_end(engine, dequeue(&engine->napping));
    weir__readiness_pins_look(engine);
    return timeout_ns;
}

int weir__readiness_wait(struct weir__engine *base, uint64_t timeout_ns)
{
    struct weir__readiness *engine = (struct weir__readiness *)base;
    bool endless = timeout_ns == UINT64_MAX;
    uint64_t until = endless || timeout_ns == 0 ? 0 : weir__clock_now_ns(base) + timeout_ns;
    bool woken = false;

    engine->completed = 0;
    for (;;) {
        uint64_t poll_ns = linger_check(engine, timeout_ns);
        run(engine, &engine->ready);
        run(engine, &engine->watchers);
        weir__readiness_pins_release(engine);
        /* With work of its own a wait may leave the poller alone, but never twice in a row: that
         * saves a call for each request, and what the poller knows waits for one round at most. */
        if (engine->completed > 0 && engine->polled) {
            engine->polled = false;
            return 0;
        }
        if (engine->completed > 0 || engine->ready.first || engine->watchers.first)
            poll_ns = 0;
        if (engine->poller->wait(engine, poll_ns, &woken) != 0)
            return WEIR_EIO;
        weir__engine_forget_time(base);
        engine->polled = true;
        run(engine, &engine->ready);
        weir__readiness_pins_release(engine);
        if (engine->completed > 0 || woken)
            return 0;
        if (!endless) {
            uint64_t now = timeout_ns == 0 ? 0 : weir__clock_now_ns(base);
            timeout_ns = now < until ? until - now : 0;
        }
        /* Stamps that no answer will fetch along with its own, then the next round, or the end. */
        run(engine, &engine->watchers);
        weir__readiness_pins_release(engine);
        if (engine->completed > 0 || timeout_ns == 0)
            return 0;
    }
}

int weir__readiness_init(struct weir__readiness *engine, const struct weir__poller *poller,
                         const struct weir__engine_ops *ops,
                         const struct weir__engine_options *options)
{
    assert(options->receive_bytes > 0);
    engine->engine.ops = ops;
    engine->poller = poller;
    weir__list_init(&engine->pinned);
    engine->buffer_bytes = options->receive_bytes;
    engine->buffer = weir__allocate(engine->buffer_bytes);
    return engine->buffer ? 0 : WEIR_ENOMEM;
}

void weir__readiness_dispose(struct weir__readiness *engine)
{
    assert(!engine->ready.first);
    assert(!engine->watchers.first);
    assert(!engine->lingering.first);
    assert(!engine->napping.first);
    assert(weir__list_is_empty(&engine->pinned));
    assert(!engine->released.first);
    weir__release(engine->buffer);
}

static void socket_begin(struct weir__socket *socket, unsigned ready)
{
    memset(weir__readiness_socket(socket), 0, sizeof(struct weir__readiness_socket));
    weir__readiness_socket(socket)->ready = (uint8_t)ready;
    socket->reader = socket->writer = socket->watcher = NULL;
    socket->pins = 0;
    socket->stamps = socket->stamping = socket->tls_tx = socket->tls_rx = false;
    memset(&socket->tls, 0, sizeof(socket->tls));
    socket->handshake_bytes = 0;
}

int weir__readiness_socket_listen(struct weir__engine *engine, struct weir__socket *socket,
                                  const struct weir_address *address,
                                  const struct weir__listen_options *options)
{
    socket_begin(socket, 0);
    return weir__socket_listen(engine, socket, address, options);
}

int weir__readiness_socket_open(struct weir__engine *engine, struct weir__socket *socket,
                                int family)
{
    socket_begin(socket, 0);
    return weir__socket_open(engine, socket, family);
}

void weir__readiness_socket_adopt(struct weir__engine *engine, struct weir__socket *socket,
                                  int handle)
{
    (void)engine;
    socket_begin(socket, WEIR__READY_OUT);
    socket->handle = handle;
}

int weir__readiness_socket_tls_attach(struct weir__engine *engine, struct weir__socket *socket,
                                      enum weir__tls_direction direction,
                                      const struct weir__tls_keys *keys)
{
    int rc = weir__socket_tls_attach(engine, socket, direction, keys);

    /* What waits for the new keys has waked the poller already, or never will. */
    if (rc == 0 && direction == WEIR__TLS_RX)
        weir__readiness_socket(socket)->ready |= WEIR__READY_IN;
    return rc;
}

static void socket_end(struct weir__readiness *engine, struct weir__socket *socket, bool reset)
{
    assert(!socket->reader);
    assert(!socket->writer);
    assert(!socket->watcher);
    assert(socket->pins == 0);
    /* Closing alone would not do: the descriptor may have a copy in another process. */
    if (weir__readiness_socket(socket)->added)
        engine->poller->remove(engine, socket);
    weir__descriptor_close(socket->handle, reset);
    socket->handle = -1;
}

void weir__readiness_socket_close(struct weir__engine *engine, struct weir__socket *socket)
{
    socket_end((struct weir__readiness *)engine, socket, false);
}

void weir__readiness_socket_reset(struct weir__engine *engine, struct weir__socket *socket)
{
    socket_end((struct weir__readiness *)engine, socket, true);
}
