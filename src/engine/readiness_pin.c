/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pins over readiness. A send with MSG_ZEROCOPY that takes bytes has a number, and the kernel says by the error
 * queue, for ranges of numbers and in any order, that their memory is free (networking/msg_zerocopy.rst). So each
 * socket keeps its pins by number. What becomes free is released from `wait` alone, when the send is complete.
 */
#include "engine/readiness.h"

#include <assert.h>

#include "engine/socket.h"

/* A drain reads so many notices at once. */
#define NOTICES_AT_ONCE 16

/* Whether the descriptor takes WEIR__SEND_ZEROCOPY; found out with its first pin. */
enum { ZEROCOPY_UNTRIED, ZEROCOPY_ON, ZEROCOPY_OFF };

struct pin_state {
    struct weir__pin *next;
    struct weir__socket *socket;
    uint32_t number;
    enum weir__pin_result result;
    bool sending; /* the final completion of its SEND is still to come */
    bool held;    /* by the kernel */
};

_Static_assert(sizeof(struct pin_state) <= WEIR__PIN_PRIVATE_BYTES, "fits");

static struct pin_state *state_of(struct weir__pin *pin)
{
    return (struct pin_state *)(void *)pin->engine_private;
}

static void enqueue(struct weir__pin_queue *queue, struct weir__pin *pin)
{
    state_of(pin)->next = NULL;
    if (queue->last)
        state_of(queue->last)->next = pin;
    else
        queue->first = pin;
    queue->last = pin;
}

/* Takes the pin out that stands behind `before`, or the first if that is NULL. */
static struct weir__pin *dequeue_behind(struct weir__pin_queue *queue, struct weir__pin *before)
{
    struct weir__pin **link = before ? &state_of(before)->next : &queue->first;
    struct weir__pin *pin = *link;

    *link = state_of(pin)->next;
    if (queue->last == pin)
        queue->last = before;
    return pin;
}

void weir__readiness_pin_begin(const struct weir__op *op)
{
    assert(!op->socket->tls_tx);
    op->socket->pins++;
    *state_of(op->send.pin) =
        (struct pin_state){.socket = op->socket, .result = WEIR__PIN_UNSENT, .sending = true};
}

static int64_t send_zerocopy(const struct weir__op *op)
{
    struct weir__readiness_socket *state = weir__readiness_socket(op->socket);

    if (state->zerocopy == ZEROCOPY_UNTRIED)
        state->zerocopy =
            weir__descriptor_zerocopy(op->socket->handle) ? ZEROCOPY_ON : ZEROCOPY_OFF;
    if (state->zerocopy == ZEROCOPY_OFF)
        return WEIR__REFUSED;
    return weir__socket_send(op->socket, op->send.parts, op->send.part_count,
                             op->send.flags | WEIR__SEND_ZEROCOPY, 0);
}

/*
 * A send that is refused goes out as a copy at once: nothing tells when the kernel would take more, and with
 * nothing under way there is no notice to wait for.
 */
int64_t weir__readiness_pin_send(const struct weir__op *op)
{
    struct weir__readiness_socket *state = weir__readiness_socket(op->socket);
    struct pin_state *pin = state_of(op->send.pin);
    int64_t result = send_zerocopy(op);

    if (result == WEIR__REFUSED) {
        result =
            weir__socket_send(op->socket, op->send.parts, op->send.part_count, op->send.flags, 0);
        if (result > 0)
            pin->result = WEIR__PIN_REFUSED;
    } else if (result > 0) {
        pin->number = state->zerocopy_sends++;
        pin->held = true;
        enqueue(&state->held, op->send.pin);
    }
    return result;
}

bool weir__readiness_has_notices(struct weir__socket *socket)
{
    return socket->stamps || weir__readiness_socket(socket)->zerocopy == ZEROCOPY_ON;
}

void weir__readiness_pin_completed(struct weir__readiness *engine, struct weir__pin *pin)
{
    state_of(pin)->sending = false;
    if (!state_of(pin)->held)
        enqueue(&engine->released, pin);
}

/* Numbers wrap: those that are held lie within half of the circle, in their order. */
void weir__readiness_pins_noticed(struct weir__readiness *engine, struct weir__socket *socket,
                                  const struct weir__notice *notice)
{
    struct weir__pin_queue *held = &weir__readiness_socket(socket)->held;
    const uint32_t range = notice->sends.last - notice->sends.first;
    struct weir__pin *before = NULL, *next;

    for (struct weir__pin *pin = held->first; pin; pin = next) {
        struct pin_state *state = state_of(pin);
        next = state->next;
        if ((int32_t)(state->number - notice->sends.last) > 0)
            break;
        if (state->number - notice->sends.first > range) {
            before = pin;
            continue;
        }
        (void)dequeue_behind(held, before);
        state->held = false;
        state->result = notice->sends.copied ? WEIR__PIN_COPIED : WEIR__PIN_USED;
        if (!state->sending)
            enqueue(&engine->released, pin);
    }
}

/* Empties the error queue. Returns how many notices there were. */
static unsigned pins_drain(struct weir__readiness *engine, struct weir__socket *socket)
{
    struct weir__notice notices[NOTICES_AT_ONCE];
    unsigned count, drained = 0;

    /* SO_RCVBUF bounds the error queue, and so this loop. */
    do {
        count = weir__descriptor_notices(socket->handle, notices, NOTICES_AT_ONCE);
        for (unsigned i = 0; i < count; i++) {
            /* Nobody wants the stamps: there is no watcher. */
            if (notices[i].kind == WEIR__NOTICE_ZEROCOPY)
                weir__readiness_pins_noticed(engine, socket, &notices[i]);
        }
        drained += count;
    } while (count == NOTICES_AT_ONCE);
    return drained;
}

/*
 * A connection that is over may have pins held all the same, until what it sent has left the queues below.
 * A level-triggered poller would say HANGUP, or the error, again and again.
 */
static void pins_nap(struct weir__readiness *engine, struct weir__socket *socket)
{
    struct weir__readiness_socket *state = weir__readiness_socket(socket);

    if (engine->poller->edge_triggered || weir__list_is_linked(&state->nap))
        return;
    weir__readiness_look_soon(engine);
    weir__list_append(&engine->pinned, &state->nap);
    (void)weir__readiness_interest_update(engine, socket);
}

static void pins_gone(struct weir__readiness *engine, struct weir__socket *socket)
{
    weir__list_remove(&weir__readiness_socket(socket)->nap);
    if (!engine->poller->edge_triggered)
        (void)weir__readiness_interest_update(engine, socket);
}

void weir__readiness_notices_drain(struct weir__readiness *engine, struct weir__socket *socket,
                                   bool end)
{
    struct weir__notice unwanted[NOTICES_AT_ONCE];

    if (socket->pins > 0) {
        if (pins_drain(engine, socket) == 0)
            pins_nap(engine, socket);
    } else if (!engine->poller->edge_triggered && !end) {
        /* Nobody wants these stamps, and while they lie there poll does not wait. */
        (void)weir__descriptor_notices(socket->handle, unwanted, NOTICES_AT_ONCE);
    }
}

void weir__readiness_pins_look(struct weir__readiness *engine)
{
    struct weir__list napping;
    struct weir__list *link;

    weir__list_init(&napping);
    weir__list_move_all(&napping, &engine->pinned);
    while ((link = weir__list_take_first(&napping)) != NULL) {
        struct weir__readiness_socket *state =
            WEIR__CONTAINER(link, struct weir__readiness_socket, nap);
        struct weir__socket *socket = WEIR__CONTAINER(state, struct weir__socket, engine_private);
        if (!socket->watcher)
            (void)pins_drain(engine, socket);
        (void)weir__readiness_interest_update(engine, socket);
    }
}

void weir__readiness_pins_release(struct weir__readiness *engine)
{
    while (engine->released.first) {
        struct weir__pin *pin = dequeue_behind(&engine->released, NULL);
        struct weir__socket *socket = state_of(pin)->socket;

        assert(socket->pins > 0);
        if (--socket->pins == 0)
            pins_gone(engine, socket);
        engine->completed++;
        pin->released(pin, state_of(pin)->result);
    }
}
