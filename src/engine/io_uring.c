/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The io_uring engine: its ring, its receive buffers, and waiting. What is submitted in a round of
 * callbacks goes to the kernel with the one system call that also waits.
 */
#include "engine/io_uring_engine.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <weir/error.h>
#include <weir/loop.h>

#include "core/memory.h"
#include "engine/ktls.h"

/* Requests that one round can queue; a fuller round takes one more system call. */
#define SUBMISSIONS 512
/* Multishot requests complete without being asked; what does not fit the kernel keeps, at a price.
 */
#define COMPLETIONS 4096
#define PAGE_BYTES  4096

/*
 * What RECVMSG puts before the bytes: its header, a stamp and the type of a record. Each buffer has room for
 * it, because any socket may need it, and it is less than a hundredth of a buffer.
 */
#define RECEIVE_HEAD_BYTES (sizeof(struct io_uring_recvmsg_out) + WEIR__RECEIVE_CONTROL_BYTES)

struct completion {
    uint64_t data;
    int result;
    uint32_t flags;
    uint64_t big[2]; /* the second half of one of 32 bytes */
};

static _Thread_local const char *refusal;

static struct weir__io_uring *engine_of(struct weir__engine *base)
{
    return (struct weir__io_uring *)base;
}

/* Copies the next completion and gives its entries back. False: there is none. */
static bool completion_next(struct weir__io_uring *engine, unsigned *entries,
                            struct completion *completion)
{
    struct io_uring_cqe *cqe;
    bool big;

    if (*entries == 0 || io_uring_peek_cqe(&engine->ring, &cqe) != 0)
        return false;
    big = cqe->flags & WEIR__CQE_32;
    completion->data = cqe->user_data;
    completion->result = cqe->res;
    completion->flags = cqe->flags;
    if (big)
        memcpy(completion->big, cqe->big_cqe, sizeof(completion->big));
    *entries -= big ? 2 : 1;
    io_uring_cq_advance(&engine->ring, big ? 2 : 1);
    return true;
}

static void completions_take(struct weir__io_uring *engine)
{
    unsigned entries = io_uring_cq_ready(&engine->ring);
    struct completion completion;

    /* What callbacks add by submitting waits for the next round. */
    while (completion_next(engine, &entries, &completion)) {
        if (completion.data == WEIR__IO_URING_DATA_WAKE) {
            engine->wake_armed = false;
            engine->wake_seen = true;
        } else if (completion.data != WEIR__IO_URING_DATA_IGNORED) {
            weir__io_uring_request_completed(engine, completion.data, completion.result,
                                             completion.flags, completion.big);
        }
    }
}

/* The interface */

static void engine_submit(struct weir__engine *engine, struct weir__op *op)
{
    weir__io_uring_op_start(engine_of(engine), op);
}

static void engine_cancel(struct weir__engine *engine, struct weir__op *op)
{
    weir__io_uring_op_cancel(engine_of(engine), op);
}

static bool wake_arm(struct weir__io_uring *engine)
{
    struct io_uring_sqe *sqe;

    if (engine->wake_armed)
        return true;
    sqe = weir__io_uring_request_get(engine);
    if (!sqe)
        return false;
    io_uring_prep_read(sqe, engine->wake_descriptor, &engine->wake_count,
                       sizeof(engine->wake_count), 0);
    sqe->user_data = WEIR__IO_URING_DATA_WAKE;
    engine->wake_armed = true;
    return true;
}

/* 0, or a negative errno that says that the ring can not go on. */
static int ring_enter(struct weir__io_uring *engine, uint64_t timeout_ns)
{
    struct __kernel_timespec limit;
    struct io_uring_cqe *cqe;
    int error;

    if (timeout_ns == 0) {
        unsigned flags = IO_URING_READ_ONCE(*engine->ring.sq.kflags);

        if (!io_uring_sq_ready(&engine->ring) &&
            !(flags & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN)))
            return 0;
        error = io_uring_submit_and_get_events(&engine->ring);
    } else if (timeout_ns == UINT64_MAX) {
        error = io_uring_submit_and_wait(&engine->ring, 1);
    } else {
        limit.tv_sec = (int64_t)(timeout_ns / 1000000000U);
        limit.tv_nsec = (long long)(timeout_ns % 1000000000U);
        error = io_uring_submit_and_wait_timeout(&engine->ring, &cqe, 1, &limit, NULL);
    }
    /* EBUSY, EAGAIN: the kernel takes more requests once completions are taken from it. */
    if (error >= 0 || error == -ETIME || error == -EINTR || error == -EBUSY || error == -EAGAIN)
        return 0;
    return error;
}

/*
 * The ring belongs to this thread from now on. The kernel then also knows the ring by an index of the thread's,
 * which spares each call the look-up of a descriptor that threads share: 65 ns of 435 for a call that submits and
 * waits (Linux 6.18). A thread has room for 16; without one all is as before. A close from another thread cannot
 * take it back, as the ring has a single issuer; it goes with the thread.
 *
 * Sockets are not registered: that would spare each request 50 ns of 580, but to enter the table and to leave it
 * are two calls, 775 ns for each connection, so it would pay from 15 sends on; a RECEIVE is one request for many.
 * And getsockopt, ioctl, sendfile and shutdown need the descriptor all the same.
 */
static bool ring_enable(struct weir__io_uring *engine)
{
    /* Not io_uring_enable_rings: Debian 12's liburing 2.3 does not export it. */
    if (io_uring_register((unsigned)engine->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0))
        return false;
    (void)io_uring_register_ring_fd(&engine->ring);
    engine->enabled = true;
    return true;
}

static int engine_wait(struct weir__engine *base, uint64_t timeout_ns)
{
    struct weir__io_uring *engine = engine_of(base);
    uint64_t now_ns = 0, end_ns = timeout_ns, left_ns = timeout_ns;

    if (timeout_ns != 0 && timeout_ns != UINT64_MAX) {
        now_ns = weir__clock_now_ns(base);
        end_ns = timeout_ns > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + timeout_ns;
    }

    if (!engine->enabled && !ring_enable(engine))
        return WEIR_EIO;
    engine->completed = false;
    engine->wake_seen = false;
    for (;;) {
        weir__io_uring_ready_run(engine);
        /* What is still ready lacked a request, or was made ready by a callback: come back for it.
         */
        if (!wake_arm(engine) || engine->completed || engine->ready_first)
            left_ns = 0;
        if (ring_enter(engine, left_ns))
            return WEIR_EIO;
        weir__engine_forget_time(base);
        completions_take(engine);
        weir__io_uring_ready_run(engine);
        if (engine->completed || engine->wake_seen)
            return 0;
        if (end_ns != UINT64_MAX)
            now_ns = weir__clock_now_ns(base);
        if (now_ns >= end_ns)
            return 0;
        left_ns = end_ns == UINT64_MAX ? UINT64_MAX : end_ns - now_ns;
    }
}

static void engine_wake(struct weir__engine *base)
{
    uint64_t one = 1;
    ssize_t written;

    do {
        written = write(engine_of(base)->wake_descriptor, &one, sizeof(one));
    } while (written < 0 && errno == EINTR);
}

static void socket_clear(struct weir__socket *socket)
{
    memset(socket, 0, sizeof(*socket));
    socket->handle = -1;
}

static int socket_listen(struct weir__engine *engine, struct weir__socket *socket,
                         const struct weir_address *address,
                         const struct weir__listen_options *options)
{
    socket_clear(socket);
    return weir__socket_listen(engine, socket, address, options);
}

static int socket_open(struct weir__engine *engine, struct weir__socket *socket, int family)
{
    socket_clear(socket);
    return weir__socket_open(engine, socket, family);
}

static void socket_adopt(struct weir__engine *engine, struct weir__socket *socket, int handle)
{
    (void)engine;
    socket_clear(socket);
    socket->handle = handle;
}

static void socket_end(struct weir__socket *socket, bool reset)
{
    assert(!socket->reader);
    assert(!socket->writer);
    assert(!socket->watcher);
    assert(socket->pins == 0);
    weir__descriptor_close(socket->handle, reset);
    socket->handle = -1;
}

static void socket_close(struct weir__engine *engine, struct weir__socket *socket)
{
    (void)engine;
    socket_end(socket, false);
}

static void socket_reset(struct weir__engine *engine, struct weir__socket *socket)
{
    (void)engine;
    socket_end(socket, true);
}

/* Opening and closing */

static int failed(int error, const char *reason)
{
    refusal = reason;
    return error;
}

static int ring_make(struct weir__io_uring *engine)
{
    struct io_uring_params params = {
        /* Disabled until the first `wait`: the ring belongs to the thread that enables it. */
        .flags = WEIR__IO_URING_SETUP | IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED,
        .cq_entries = COMPLETIONS,
    };
    int error;

    if (engine->stamp_command)
        params.flags |= WEIR__SETUP_CQE_MIXED;
    error = io_uring_queue_init_params(SUBMISSIONS, &engine->ring, &params);
    if (!error)
        return 0;
    if (error == -EMFILE || error == -ENFILE)
        return failed(WEIR_EMFILE, "no file descriptor is left for an io_uring");
    if (error == -ENOMEM)
        return failed(WEIR_ENOMEM,
                      "the kernel has no memory for an io_uring, or RLIMIT_MEMLOCK is too small");
    return failed(WEIR_ENOTSUP, "this kernel refuses to make an io_uring of the size needed");
}

static size_t round_up(size_t size, size_t unit)
{
    return (size + unit - 1) / unit * unit;
}

static int buffers_make(struct weir__io_uring *engine)
{
    size_t ring_bytes = round_up(engine->buffer_count * sizeof(struct io_uring_buf), PAGE_BYTES);
    size_t bytes = round_up((size_t)engine->buffer_count * engine->buffer_bytes, PAGE_BYTES);
    struct io_uring_buf_reg registration;
    int error;

    engine->buffers = weir__allocate_aligned(PAGE_BYTES, bytes);
    engine->buffer_ring = weir__allocate_aligned(PAGE_BYTES, ring_bytes);
    if (!engine->buffers || !engine->buffer_ring)
        return failed(WEIR_ENOMEM, "no memory");
    memset(engine->buffer_ring, 0, ring_bytes);
    memset(&registration, 0, sizeof(registration));
    registration.ring_addr = (uintptr_t)engine->buffer_ring;
    registration.ring_entries = engine->buffer_count;
    registration.bgid = WEIR__IO_URING_BUFFER_GROUP;
    error = io_uring_register_buf_ring(&engine->ring, &registration, 0);
    if (error == -ENOMEM)
        return failed(WEIR_ENOMEM, "the kernel has no memory for io_uring's receive buffers");
    if (error)
        return failed(WEIR_ENOTSUP, "this kernel refuses io_uring's receive buffers");
    for (unsigned i = 0; i < engine->buffer_count; i++)
        weir__io_uring_buffer_give(engine, i);
    return 0;
}

/* All but the ring, which the caller knows to be there or not. */
static void engine_dispose(struct weir__io_uring *engine)
{
    if (engine->wake_descriptor >= 0)
        close(engine->wake_descriptor);
    weir__release(engine->buffer_ring);
    weir__release(engine->buffers);
    weir__release(engine);
}

static void engine_close(struct weir__engine *base)
{
    struct weir__io_uring *engine = engine_of(base);

    io_uring_queue_exit(&engine->ring);
    engine_dispose(engine);
}

int weir__io_uring_open_with(struct weir__engine **base, const struct weir__engine_options *options,
                             const struct weir__io_uring_features *features)
{
    struct weir__io_uring *engine = weir__allocate_zeroed(1, sizeof(*engine));
    int error;

    assert(options->receive_buffers > 0 && options->receive_buffers <= WEIR_RECEIVE_BUFFERS_MAX);
    assert((options->receive_buffers & (options->receive_buffers - 1)) == 0);
    if (!engine)
        return failed(WEIR_ENOMEM, "no memory");
    engine->base.ops = &weir__io_uring_engine;
    engine->delivery = options->delivery;
    engine->stamp_command = options->delivery && features->stamp_command;
    engine->zerocopy = features->zerocopy;
    engine->zerocopy_fixed = features->zerocopy_fixed;
    engine->zerocopy_fixed_message = features->zerocopy_fixed_message;
    engine->buffer_count = options->receive_buffers;
    engine->buffer_bytes = options->receive_bytes + (unsigned)RECEIVE_HEAD_BYTES;
    engine->receive_message.msg_controllen = WEIR__RECEIVE_CONTROL_BYTES;
    engine->ready_end = &engine->ready_first;
    engine->wake_descriptor = eventfd(0, EFD_CLOEXEC);
    if (engine->wake_descriptor < 0) {
        engine_dispose(engine);
        return failed(WEIR_EMFILE, "no file descriptor is left for an eventfd");
    }
    error = ring_make(engine);
    if (error) {
        engine_dispose(engine);
        return error;
    }
    error = buffers_make(engine);
    if (error) {
        engine_close(&engine->base);
        return error;
    }
    *base = &engine->base;
    return 0;
}

static int engine_open(struct weir__engine **engine, const struct weir__engine_options *options)
{
    struct weir__io_uring_features features;
    int error = weir__io_uring_probe(&features, &refusal);

    if (error)
        return error;
    return weir__io_uring_open_with(engine, options, &features);
}

const char *weir__io_uring_refusal(void)
{
    return refusal;
}

const struct weir__engine_ops weir__io_uring_engine = {
    .name = "io_uring",
    .open = engine_open,
    .close = engine_close,
    .submit = engine_submit,
    .cancel = engine_cancel,
    .wait = engine_wait,
    .wake = engine_wake,
    .now_ns = weir__clock_now_ns,
    .wall_offset_ns = weir__clock_wall_offset_ns,
    .socket_listen = socket_listen,
    .socket_open = socket_open,
    .socket_adopt = socket_adopt,
    .socket_prepare = weir__socket_prepare,
    .socket_unsent_max = weir__socket_unsent_max,
    .socket_congestion = weir__socket_congestion,
    .socket_shutdown = weir__socket_shutdown,
    .socket_close = socket_close,
    .socket_reset = socket_reset,
    .socket_abort = weir__socket_abort,
    .socket_info = weir__socket_info,
    .socket_unacked = weir__socket_unacked,
    .socket_tls_attach = weir__socket_tls_attach,
    .socket_tls_sequence = weir__socket_tls_sequence,
    .tls_can_rekey = weir__tls_can_rekey,
    .file_read = weir__file_read,
    .can_zerocopy = weir__io_uring_can_zerocopy,
    .memory_register = weir__io_uring_memory_register,
    .memory_unregister = weir__io_uring_memory_unregister,
    .socket_local = weir__socket_local,
    .socket_peer = weir__socket_peer,
};
