/* SPDX-License-Identifier: Apache-2.0 */

/* WATCH as requests: the stamp command where the kernel has it, and a poll for all else. */
#include "engine/io_uring_op.h"

#include <errno.h>
#include <poll.h>

#include <linux/errqueue.h>

#include <weir/error.h>

#include "engine/socket.h"

#define NOTICES_AT_ONCE 16

static void watch_stamp(struct weir__io_uring *engine, struct weir__op *op,
                        const struct weir__stamp *stamp)
{
    struct weir__completion completion = {.more = true, .stamp = *stamp};

    weir__io_uring_deliver(engine, op, &completion);
}

/* SO_RCVBUF bounds the error queue, and so this loop. */
static void watch_drain(struct weir__io_uring *engine, struct weir__op *op)
{
    struct weir__notice notices[NOTICES_AT_ONCE];
    unsigned count;

    do {
        count = weir__descriptor_notices(op->socket->handle, notices, NOTICES_AT_ONCE);
        for (unsigned i = 0; i < count; i++) {
            /* Pins are released by completions of the ring's. */
            if (notices[i].kind == WEIR__NOTICE_STAMP)
                watch_stamp(engine, op, &notices[i].stamp);
        }
    } while (count == NOTICES_AT_ONCE);
}

static bool watch_by_command(struct weir__io_uring *engine, struct weir__op *op)
{
    return op->socket->stamps && engine->stamp_command && !uring_state_of(op)->without_command;
}

/*
 * The poll wakes for each stamp too: POLLERR cannot be masked. So it is left out while a reader is
 * there to meet the connection's end and stamps come by the command.
 */
bool weir__io_uring_watch_arm(struct weir__io_uring *engine, struct weir__op *op)
{
    struct uring_state *state = uring_state_of(op);
    bool command = watch_by_command(engine, op);
    struct io_uring_sqe *sqe;

    if (command && !(state->armed & (1u << URING_REQUEST_STAMPS))) {
        sqe = weir__io_uring_request_get(engine);
        if (!sqe)
            return false;
        weir__io_uring_prepare_stamp_command(sqe, op->socket->handle);
        weir__io_uring_request_armed(op, sqe, URING_REQUEST_STAMPS);
    }
    if ((state->armed & (1u << URING_REQUEST_END)) ||
        (op->socket->reader && (command || !op->socket->stamps)))
        return true;
    sqe = weir__io_uring_request_get(engine);
    if (!sqe)
        return false;
    io_uring_prep_poll_multishot(sqe, op->socket->handle, 0);
    weir__io_uring_request_armed(op, sqe, URING_REQUEST_END);
    return true;
}

/*
 * Why the connection ended: 0 or an error. Whoever meets the kernel's error first consumes it; the
 * watch may come after a reader or writer whose completion is still to be taken.
 */
static int connection_error(struct weir__socket *socket)
{
    struct uring_socket_state *state = uring_socket_state_of(socket);

    if (!state->error)
        state->error = weir__socket_error(socket);
    /* Of no matter now; the reader has met it, or meets the end. */
    if (weir__is_receive_result(state->error))
        state->error = 0;
    return state->error;
}

void weir__io_uring_watch_finish(struct weir__io_uring *engine, struct weir__op *op)
{
    struct uring_state *state = uring_state_of(op);
    int64_t result = WEIR_ECANCELLED;

    if (state->ended) {
        result = connection_error(op->socket);
        if (!result && !state->cancelling && (op->socket->reader || op->socket->writer))
            return;
        if (result && result != WEIR_ERESET && result != WEIR_ETIMEDOUT)
            result = WEIR_EIO;
    }
    if (op->socket->stamps)
        watch_drain(engine, op);
    weir__io_uring_finish(engine, op, result);
}

void weir__io_uring_watch_polled(struct weir__io_uring *engine, struct weir__op *op, int result)
{
    struct uring_state *state = uring_state_of(op);

    if (state->cancelling || state->ended)
        return;
    if (result < 0) {
        uring_socket_state_of(op->socket)->error = WEIR_EIO;
        state->ended = true;
        return;
    }
    if ((result & POLLERR) && op->socket->stamps && !watch_by_command(engine, op))
        watch_drain(engine, op);
    /*
     * POLLHUP comes as soon as both sides have closed. What was sent before may still be
     * acknowledged or reset; when that is over, the poll wakes again.
     */
    if ((result & POLLHUP) && weir__descriptor_is_closed(op->socket->handle))
        state->ended = true;
}

void weir__io_uring_watch_stamped(struct weir__io_uring *engine, struct weir__op *op, int result,
                                  uint32_t flags, const uint64_t *big)
{
    unsigned type = flags >> WEIR__STAMP_TYPE_SHIFT;
    struct weir__stamp stamp = {.key = (uint32_t)result};

    if (!(flags & IORING_CQE_F_MORE)) {
        /* The command's own end. A key may look like an error, but always has MORE. */
        uring_state_of(op)->without_command = result != -ECANCELED;
        return;
    }
    if (type != SCM_TSTAMP_SND && type != SCM_TSTAMP_ACK)
        return;
    stamp.kind = type == SCM_TSTAMP_SND ? WEIR__STAMP_SENT : WEIR__STAMP_ACKED;
    stamp.at_ns =
        big[0] * 1000000000ULL + big[1] - (uint64_t)weir__engine_wall_offset(&engine->base);
    watch_stamp(engine, op, &stamp);
}
