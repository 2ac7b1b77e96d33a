/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_ENGINE_IO_URING_OP_H
#define WEIR_ENGINE_IO_URING_OP_H

/* What the files of io_uring's operations share: io_uring_op.c, io_uring_watch.c, io_uring_pin.c. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "engine/io_uring_engine.h"
#include "engine/ktls.h"

enum uring_request {
    URING_REQUEST_MAIN,   /* the operation itself, or the wait until the socket is ready for it */
    URING_REQUEST_STAMPS, /* WATCH: the stamp command */
    URING_REQUEST_END, /* WATCH: a poll for the connection's end and, without the command, for stamps */
    URING_REQUESTS,
};
#define URING_REQUEST_MASK 15u
/* In place of the number: the address is that of a pin, whose SEND's URING_REQUEST_MAIN it is. */
#define URING_TAG_PIN 8u

struct uring_state {
    struct weir__op *next,
        **previous_next; /* in the engine's ready list; previous_next NULL = not */
    uint8_t armed;       /* requests in the kernel, a bit each */
    uint8_t cancel_sent;
    bool cancelling;
    bool fed;             /* RECEIVE: bytes came since URING_REQUEST_MAIN was armed */
    bool polling;         /* URING_REQUEST_MAIN waits for readiness */
    bool settling;        /* SEND: taken, see weir__socket_holds */
    bool pinned;          /* SEND: URING_REQUEST_MAIN has the pin's address */
    bool again;           /* SEND: tried again after it had met the reader's error */
    bool ended;           /* WATCH: the connection is over */
    bool without_command; /* WATCH: the stamp command failed here */
    int taken;            /* SEND, where `settling` */
    struct msghdr message;
    _Alignas(struct cmsghdr) unsigned char control[WEIR__SEND_CONTROL_BYTES];
};

struct uring_socket_state {
    int error;     /* why the connection died: whoever meets the kernel's error first consumes it */
    int tls_error; /* a WEIR__RECEIVE_*, for the reader, met by somebody else */
    bool full;     /* the last write was short: wait before the next */
};

_Static_assert(sizeof(struct uring_state) <= WEIR__OP_PRIVATE_BYTES, "operation's private bytes");
_Static_assert(sizeof(struct uring_socket_state) <= WEIR__SOCKET_PRIVATE_BYTES,
               "socket's private bytes");
_Static_assert(_Alignof(struct weir__op) > URING_REQUEST_MASK, "room for the request in user_data");
_Static_assert(URING_REQUESTS <= URING_TAG_PIN, "requests in the mask");

static inline struct uring_state *uring_state_of(struct weir__op *op)
{
    return (struct uring_state *)(void *)op->engine_private;
}

static inline struct uring_socket_state *uring_socket_state_of(struct weir__socket *socket)
{
    return (struct uring_socket_state *)(void *)socket->engine_private;
}

/* One completion of the operation's. */
void weir__io_uring_deliver(struct weir__io_uring *engine, struct weir__op *op,
                            const struct weir__completion *completion);
/* The final one; nothing of the operation is in the kernel any more. */
void weir__io_uring_finish(struct weir__io_uring *engine, struct weir__op *op, int64_t result);
/* Marks a request that was prepared as the operation's. */
void weir__io_uring_request_armed(struct weir__op *op, struct io_uring_sqe *sqe,
                                  enum uring_request request);

/* WATCH: asks for what it lacks. False: try again in `wait`. */
bool weir__io_uring_watch_arm(struct weir__io_uring *engine, struct weir__op *op);
/* It was cancelled, or the connection has ended. */
void weir__io_uring_watch_finish(struct weir__io_uring *engine, struct weir__op *op);
/* Its requests' completions. */
void weir__io_uring_watch_polled(struct weir__io_uring *engine, struct weir__op *op, int result);
void weir__io_uring_watch_stamped(struct weir__io_uring *engine, struct weir__op *op, int result,
                                  uint32_t flags, const uint64_t *big);

/* A SEND that brings a pin was submitted. */
void weir__io_uring_pin_begin(const struct weir__io_uring *engine, struct weir__op *op);
/* Makes the SEND's request, prepared as an ordinary one, one without a copy. False: it is to stay as it is. */
bool weir__io_uring_pin_prepare(const struct weir__io_uring *engine, struct weir__op *op,
                                struct io_uring_sqe *sqe);
/* From now on the SEND goes out as a copy. */
void weir__io_uring_pin_refuse(struct weir__pin *pin);
/* The request's first completion. Returns the operation that it is for. */
struct weir__op *weir__io_uring_pin_sent(struct weir__pin *pin, uint32_t flags);
/* Its second one. Releases the pin unless the operation is still to be completed. */
void weir__io_uring_pin_notified(struct weir__io_uring *engine, struct weir__pin *pin, int result);
/* The SEND is complete. Releases the pin unless a notice is still to come. */
void weir__io_uring_pin_completed(struct weir__io_uring *engine, struct weir__pin *pin,
                                  int64_t result);

#endif
