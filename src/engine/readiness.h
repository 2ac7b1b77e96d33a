/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_ENGINE_READINESS_H
#define WEIR_ENGINE_READINESS_H

/*
 * Completions over readiness, for the engines whose system says no more than "ready". What can be
 * done at once is done at submit, the rest when the poller says that the socket is ready; every
 * completion is given from inside wait. A poller knows nothing of operations: it keeps sockets and
 * says what they are ready for.
 */

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/list.h"
#include "engine/engine.h"

struct weir__readiness;

/* What a socket is ready for, and what a poller is asked to look for. */
enum weir__ready {
    WEIR__READY_IN = 1 << 0,
    WEIR__READY_OUT = 1 << 1,
    WEIR__READY_ERROR =
        1 << 2, /* notices in the error queue, or an error; asked for: errors alone */
    WEIR__READY_HANGUP = 1 << 3, /* both sides are shut */
    WEIR__READY_END = 1 << 4,    /* the peer's FIN is here */
};

struct weir__poller {
    /*
     * Says each event once, and goes on watching. A poller without that says it again in each wait
     * for as long as it lasts, so it is asked only for what an operation waits for.
     */
    bool edge_triggered;
    /* Begins to look for `interest` on a socket. Returns 0, WEIR_ENOMEM or WEIR_ENOBUFS. */
    int (*add)(struct weir__readiness *engine, struct weir__socket *socket, unsigned interest);
    /* Looks for `interest` from now on; level-triggered pollers: 0 = not even for errors. */
    void (*modify)(struct weir__readiness *engine, struct weir__socket *socket, unsigned interest);
    void (*remove)(struct weir__readiness *engine, struct weir__socket *socket);
    /*
     * Waits at most `timeout_ns` (UINT64_MAX: no limit) and calls weir__readiness_signal for each
     * socket that is ready. Returns 0, or WEIR_EIO. `*woken`: somebody called wake.
     */
    int (*wait)(struct weir__readiness *engine, uint64_t timeout_ns, bool *woken);
};

/* Operations in the order in which they will be looked at. */
struct weir__op_queue {
    struct weir__op *first, *last;
};

/* Pins in the order of their sends, or of their release. */
struct weir__pin_queue {
    struct weir__pin *first, *last;
};

/* An engine's object begins with this. */
struct weir__readiness {
    struct weir__engine engine;
    const struct weir__poller *poller;
    uint8_t *buffer;
    size_t buffer_bytes;
    struct weir__op_queue ready;     /* can complete, or find out whether they can */
    struct weir__op_queue watchers;  /* have stamps or an end to look for */
    struct weir__op_queue lingering; /* see watch_linger in readiness.c */
    struct weir__op_queue napping;   /* see receive_nap there */
    struct weir__list pinned;        /* sockets, see pins_nap in readiness_pin.c */
    struct weir__pin_queue released; /* to be told, from inside wait */
    uint64_t linger_check_ns;
    unsigned completed; /* completions in this wait */
    bool polled;        /* the last wait asked the poller */
};

/* What is kept with a socket. */
struct weir__readiness_socket {
    struct weir__list nap;       /* in the engine's `pinned` */
    struct weir__pin_queue held; /* by the kernel, in the order of their numbers */
    uint32_t zerocopy_sends;     /* so far: the next one's number */
    int error;     /* what killed the connection, once somebody has taken it from the kernel */
    int tls_error; /* a WEIR__RECEIVE_*, for the reader, taken from the kernel by somebody else */
    uint32_t poller_index; /* the poller's own */
    uint8_t ready;         /* enum weir__ready, as far as known */
    uint8_t interest;      /* what the poller was asked for */
    bool added;            /* the poller has it */
    bool blocked; /* it was not writable once: from then on an edge-triggered poller says OUT */
    bool lingers;
    bool in_told;     /* the poller said READY_IN, and nothing has been received since */
    bool naps;        /* see receive_nap in readiness.c */
    uint8_t zerocopy; /* readiness_pin.c's own */
};

static inline struct weir__readiness_socket *weir__readiness_socket(struct weir__socket *socket)
{
    return (struct weir__readiness_socket *)(void *)socket->engine_private;
}

/* Prepares the common part. Returns 0 or WEIR_ENOMEM. */
int weir__readiness_init(struct weir__readiness *engine, const struct weir__poller *poller,
                         const struct weir__engine_ops *ops,
                         const struct weir__engine_options *options);
void weir__readiness_dispose(struct weir__readiness *engine);

/* The poller's word that a socket is ready; completes nothing itself. */
void weir__readiness_signal(struct weir__readiness *engine, struct weir__socket *socket,
                            unsigned ready);

/* ---- pins: readiness_pin.c ---- */

struct weir__notice;

/* A SEND that brings a pin was submitted. */
void weir__readiness_pin_begin(const struct weir__op *op);
/* Sends, as weir__socket_send does, by zero copy where that can be had. */
int64_t weir__readiness_pin_send(const struct weir__op *op);
/* The SEND that brought it is complete. */
void weir__readiness_pin_completed(struct weir__readiness *engine, struct weir__pin *pin);
/* Whether what the poller calls an error is most often a notice. */
bool weir__readiness_has_notices(struct weir__socket *socket);
/* A ZEROCOPY notice came. */
void weir__readiness_pins_noticed(struct weir__readiness *engine, struct weir__socket *socket,
                                  const struct weir__notice *notice);
/* The poller says that there are notices, or an error, or with `end` the end, and no watcher sees to them. */
void weir__readiness_notices_drain(struct weir__readiness *engine, struct weir__socket *socket,
                                   bool end);
/* Looks at the sockets of `pinned`, when it is time. */
void weir__readiness_pins_look(struct weir__readiness *engine);
/* Tells of all pins that are due. From wait only, as it runs callbacks. */
void weir__readiness_pins_release(struct weir__readiness *engine);

/* Tells the poller what to look for. Fails at most for a socket that it does not have yet. In readiness.c. */
int weir__readiness_interest_update(struct weir__readiness *engine, struct weir__socket *socket);
/* Before a socket is to be looked at though the poller says nothing. In readiness.c. */
void weir__readiness_look_soon(struct weir__readiness *engine);

/* The parts of struct weir__engine_ops that do not depend on the poller. */
void weir__readiness_submit(struct weir__engine *engine, struct weir__op *op);
void weir__readiness_cancel(struct weir__engine *engine, struct weir__op *op);
int weir__readiness_wait(struct weir__engine *engine, uint64_t timeout_ns);
int weir__readiness_socket_listen(struct weir__engine *engine, struct weir__socket *socket,
                                  const struct weir_address *address,
                                  const struct weir__listen_options *options);
int weir__readiness_socket_open(struct weir__engine *engine, struct weir__socket *socket,
                                int family);
void weir__readiness_socket_adopt(struct weir__engine *engine, struct weir__socket *socket,
                                  int handle);
int weir__readiness_socket_tls_attach(struct weir__engine *engine, struct weir__socket *socket,
                                      enum weir__tls_direction direction,
                                      const struct weir__tls_keys *keys);
void weir__readiness_socket_close(struct weir__engine *engine, struct weir__socket *socket);
void weir__readiness_socket_reset(struct weir__engine *engine, struct weir__socket *socket);

/* A timeout as poll(2) and epoll_wait(2) take it: -1 for no limit, rounded up, so never early. */
static inline int weir__timeout_ms(uint64_t timeout_ns)
{
    const uint64_t ns_per_ms = 1000000;

    if (timeout_ns == UINT64_MAX)
        return -1;
    uint64_t ms = timeout_ns / ns_per_ms + (timeout_ns % ns_per_ms != 0);
    return ms < INT_MAX ? (int)ms : INT_MAX;
}

#endif
