/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_ENGINE_IO_URING_ENGINE_H
#define WEIR_ENGINE_IO_URING_ENGINE_H

/* Between io_uring.c, the engine and its ring, and io_uring_op.c, its operations. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "engine/io_uring.h"

#define WEIR__IO_URING_BUFFER_GROUP 0

/* user_data of what is no operation's; no address is that small. */
#define WEIR__IO_URING_DATA_IGNORED 0u
#define WEIR__IO_URING_DATA_WAKE    1u

/* Memory that may be registered at a time: the table of the ring's buffers. */
#define WEIR__IO_URING_MEMORIES_MAX 16

struct weir__io_uring_memory {
    unsigned char *start;
    size_t bytes; /* 0 = none */
};

struct weir__io_uring {
    struct weir__engine base;
    struct io_uring ring;
    bool stamp_command;
    bool zerocopy, zerocopy_fixed, zerocopy_fixed_message; /* see struct weir__io_uring_features */
    bool delivery;
    bool enabled;
    bool wake_armed;
    bool wake_seen;
    bool completed; /* a callback ran in this wait */
    int wake_descriptor;
    uint64_t wake_count;
    struct io_uring_buf_ring *buffer_ring;
    unsigned char *buffers;
    unsigned buffer_count;
    unsigned buffer_bytes;
    struct msghdr receive_message; /* of every RECVMSG: the kernel takes sizes from it only */
    struct weir__io_uring_memory memory[WEIR__IO_URING_MEMORIES_MAX];
    unsigned memory_count;                     /* behind the last that is in use */
    bool memory_table;                         /* the ring has one */
    const struct weir__socket *used_last;      /* of the last notice, if that said "in place" */
    struct weir__op *ready_first, **ready_end; /* to be moved on inside `wait` */
    unsigned ready_count;
};

/* Takes an operation; what cannot be handed to the ring now is in `wait`. */
void weir__io_uring_op_start(struct weir__io_uring *engine, struct weir__op *op);
void weir__io_uring_op_cancel(struct weir__io_uring *engine, struct weir__op *op);

/* Moves on as many operations as are ready now. From `wait` only, as it runs callbacks. */
void weir__io_uring_ready_run(struct weir__io_uring *engine);

/* One completion of the kernel's; `big` is the second half of a big one. From `wait` only. */
void weir__io_uring_request_completed(struct weir__io_uring *engine, uint64_t data, int result,
                                      uint32_t flags, const uint64_t *big);

/* Of struct weir__engine_ops. */
bool weir__io_uring_can_zerocopy(struct weir__engine *engine);
int weir__io_uring_memory_register(struct weir__engine *engine, void *memory, size_t bytes);
void weir__io_uring_memory_unregister(struct weir__engine *engine, void *memory);

/* An empty request, or NULL: the kernel takes none before completions are taken from it. */
struct io_uring_sqe *weir__io_uring_request_get(struct weir__io_uring *engine);

/* Gives a receive buffer to the kernel. */
void weir__io_uring_buffer_give(struct weir__io_uring *engine, unsigned index);

#endif
