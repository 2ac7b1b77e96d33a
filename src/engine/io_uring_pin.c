/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Pins and the memory that is registered for them. A SEND_ZC or SENDMSG_ZC has two completions: the first is the
 * operation's, as any send's; the second, NOTIF, says that the memory is free, and may come when the operation is
 * in flight again or gone. So both have the address of the pin. A request that failed has a NOTIF, too, if its
 * first completion says MORE.
 */
#include "engine/io_uring_op.h"

#include <assert.h>
#include <errno.h>

#include <weir/error.h>

/* One buffer's bound, in io_uring_register(2). */
#define MEMORY_BYTES_MAX ((size_t)1 << 30)

struct pin_state {
    struct weir__op *op; /* while `sending` */
    struct weir__socket *socket;
    int notices; /* still to come */
    bool behind; /* another pin of this socket was held when this one was sent */
    bool sending;
    bool refused;
    bool
        used; /* a notice said that the memory was read where it lay: a request that failed never says so */
    bool taken; /* some of the bytes */
};

_Static_assert(sizeof(struct pin_state) <= WEIR__PIN_PRIVATE_BYTES, "pin's private bytes");
_Static_assert(_Alignof(struct weir__pin) > URING_REQUEST_MASK, "room for the tag in user_data");

static struct pin_state *state_of(struct weir__pin *pin)
{
    return (struct pin_state *)(void *)pin->engine_private;
}

/* The slot in the ring's table of buffers in which all parts lie, or -1. */
static int memory_find(const struct weir__io_uring *engine, const struct iovec *parts,
                       unsigned part_count)
{
    for (unsigned slot = 0; slot < engine->memory_count; slot++) {
        const struct weir__io_uring_memory *memory = &engine->memory[slot];
        unsigned inside = 0;

        while (inside < part_count) {
            uintptr_t offset = (uintptr_t)parts[inside].iov_base - (uintptr_t)memory->start;
            if (offset >= memory->bytes || parts[inside].iov_len > memory->bytes - offset)
                break;
            inside++;
        }
        if (inside == part_count)
            return (int)slot;
    }
    return -1;
}

void weir__io_uring_pin_begin(const struct weir__io_uring *engine, struct weir__op *op)
{
    assert(!op->socket->tls_tx);
    *state_of(op->send.pin) = (struct pin_state){.op = op,
                                                 .socket = op->socket,
                                                 .sending = true,
                                                 .refused = !engine->zerocopy,
                                                 .behind = op->socket->pins > 0};
    op->socket->pins++;
}

bool weir__io_uring_pin_prepare(const struct weir__io_uring *engine, struct weir__op *op,
                                struct io_uring_sqe *sqe)
{
    bool message = sqe->opcode == IORING_OP_SENDMSG;
    int slot = -1;

    if (state_of(op->send.pin)->refused)
        return false;
    if (message ? engine->zerocopy_fixed_message : engine->zerocopy_fixed)
        slot = memory_find(engine, op->send.parts, op->send.part_count);
    sqe->opcode = message ? IORING_OP_SENDMSG_ZC : IORING_OP_SEND_ZC;
    sqe->ioprio |= WEIR__SEND_ZC_REPORT_USAGE;
    if (slot >= 0) {
        sqe->ioprio |= IORING_RECVSEND_FIXED_BUF;
        sqe->buf_index = (uint16_t)slot;
    }
    return true;
}

void weir__io_uring_pin_refuse(struct weir__pin *pin)
{
    state_of(pin)->refused = true;
}

struct weir__op *weir__io_uring_pin_sent(struct weir__pin *pin, uint32_t flags)
{
    struct pin_state *state = state_of(pin);

    assert(state->sending);
    if (flags & IORING_CQE_F_MORE)
        state->notices++;
    return state->op;
}

static void release_if_done(struct weir__io_uring *engine, struct weir__pin *pin)
{
    struct pin_state *state = state_of(pin);
    enum weir__pin_result result = state->used ? WEIR__PIN_USED : WEIR__PIN_COPIED;

    if (state->sending || state->notices > 0)
        return;
    if (!state->taken)
        result = WEIR__PIN_UNSENT;
    else if (state->refused)
        result = WEIR__PIN_REFUSED;
    assert(state->socket->pins > 0);
    state->socket->pins--;
    engine->completed = true;
    pin->released(pin, result);
}

/*
 * Since Linux 6.10 a send whose bytes all join the last packet of the one before has no packet to be told of, and
 * its notice says "copied" whatever happened (io_uring/notif.c, io_link_skb). It comes right behind the notice of the
 * send that it joined, which knows.
 */
void weir__io_uring_pin_notified(struct weir__io_uring *engine, struct weir__pin *pin, int result)
{
    struct pin_state *state = state_of(pin);
    bool joined = state->behind && engine->used_last == state->socket;
    bool used = !((unsigned)result & WEIR__NOTIF_COPIED) || joined;

    state->notices--;
    state->used |= used;
    engine->used_last = used ? state->socket : NULL;
    release_if_done(engine, pin);
}

void weir__io_uring_pin_completed(struct weir__io_uring *engine, struct weir__pin *pin,
                                  int64_t result)
{
    state_of(pin)->sending = false;
    state_of(pin)->taken = result > 0;
    release_if_done(engine, pin);
}

/* ---- registered memory ---- */

static int memory_set(struct weir__io_uring *engine, unsigned slot, void *start, size_t bytes)
{
    const struct iovec part = {.iov_base = start, .iov_len = bytes};
    const __u64 tag = 0;

    return io_uring_register_buffers_update_tag(&engine->ring, slot, &part, &tag, 1);
}

static int memory_error(int error)
{
    return error == -ENOMEM ? WEIR_ENOMEM : WEIR_ENOTSUP;
}

int weir__io_uring_memory_register(struct weir__engine *base, void *memory, size_t bytes)
{
    struct weir__io_uring *engine = (struct weir__io_uring *)base;
    unsigned slot = 0;

    assert(bytes > 0);
    if (!engine->zerocopy_fixed)
        return WEIR_ENOTSUP;
    while (slot < WEIR__IO_URING_MEMORIES_MAX && engine->memory[slot].bytes > 0)
        slot++;
    if (slot == WEIR__IO_URING_MEMORIES_MAX || bytes > MEMORY_BYTES_MAX)
        return WEIR_ENOBUFS;
    if (!engine->memory_table) {
        int error = io_uring_register_buffers_sparse(&engine->ring, WEIR__IO_URING_MEMORIES_MAX);
        if (error)
            return memory_error(error);
        engine->memory_table = true;
    }
    /* How many buffers were set, or an error. */
    int set = memory_set(engine, slot, memory, bytes);
    if (set != 1)
        return memory_error(set);
    engine->memory[slot] = (struct weir__io_uring_memory){.start = memory, .bytes = bytes};
    if (slot == engine->memory_count)
        engine->memory_count++;
    return 0;
}

void weir__io_uring_memory_unregister(struct weir__engine *base, void *memory)
{
    struct weir__io_uring *engine = (struct weir__io_uring *)base;
    unsigned slot = 0;

    while (slot < engine->memory_count && engine->memory[slot].start != memory)
        slot++;
    assert(slot < engine->memory_count);
    int set = memory_set(engine, slot, NULL, 0);
    assert(set == 1);
    (void)set;
    engine->memory[slot] = (struct weir__io_uring_memory){.start = NULL, .bytes = 0};
}

bool weir__io_uring_can_zerocopy(struct weir__engine *engine)
{
    return ((struct weir__io_uring *)engine)->zerocopy;
}
