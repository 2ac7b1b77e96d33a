/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/io_uring.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <weir/error.h>

#include "core/memory.h"

/* Entries of the ring and of the buffer ring that are tried; nothing needs more. */
#define PROBE_ENTRIES      8
#define PROBE_PAGE_BYTES   4096
#define PROBE_BUFFER_BYTES 256
#define PROBE_BUFFER_GROUP 0
/* For a completion which the kernel makes at once if it makes it at all. */
#define PROBE_WAIT_MS 100

static const unsigned char operations_used[] = {
    IORING_OP_ACCEPT,  IORING_OP_CONNECT,      IORING_OP_SEND,
    IORING_OP_SENDMSG, IORING_OP_RECV,         IORING_OP_RECVMSG,
    IORING_OP_READ,    IORING_OP_ASYNC_CANCEL, IORING_OP_POLL_ADD,
};

struct probe {
    struct io_uring ring;
    struct io_uring_buf_ring *buffer_ring;
    unsigned char buffers[2][PROBE_BUFFER_BYTES];
};

static int ring_refused(int error, const char **reason)
{
    switch (error) {
    case -ENOMEM:
        *reason = "the kernel has no memory for an io_uring, or RLIMIT_MEMLOCK is too small";
        return WEIR_ENOMEM;
    case -EMFILE:
    case -ENFILE:
        *reason = "no file descriptor is left for an io_uring";
        return WEIR_EMFILE;
    case -ENOSYS:
        *reason = "this kernel has no io_uring, or a seccomp filter hides it";
        return WEIR_ENOTSUP;
    case -EPERM:
    case -EACCES:
        *reason = "io_uring is forbidden here, by kernel.io_uring_disabled or a seccomp filter";
        return WEIR_ENOTSUP;
    case -EINVAL:
        *reason = "this kernel's io_uring is older than Linux 6.1";
        return WEIR_ENOTSUP;
    default:
        *reason = "this kernel refuses to make an io_uring";
        return WEIR_ENOTSUP;
    }
}

static bool has_operations(struct io_uring *ring)
{
    _Alignas(struct io_uring_probe) unsigned char
        room[sizeof(struct io_uring_probe) + IORING_OP_LAST * sizeof(struct io_uring_probe_op)];
    struct io_uring_probe *answer = (struct io_uring_probe *)(void *)room;

    memset(room, 0, sizeof(room));
    if (io_uring_register_probe(ring, answer, IORING_OP_LAST))
        return false;
    for (size_t i = 0; i < sizeof(operations_used); i++) {
        unsigned operation = operations_used[i];
        if (operation > answer->last_op || !(answer->ops[operation].flags & IO_URING_OP_SUPPORTED))
            return false;
    }
    return true;
}

/* The next completion, or false if none comes. A ring's own probe submits one request at a time. */
static bool completion_take(struct io_uring *ring, struct io_uring_cqe *completion)
{
    struct __kernel_timespec limit = {.tv_nsec = PROBE_WAIT_MS * 1000000LL};
    struct io_uring_cqe *cqe;

    if (io_uring_submit_and_wait_timeout(ring, &cqe, 1, &limit, NULL) < 0 || !cqe)
        return false;
    completion->user_data = cqe->user_data;
    completion->res = cqe->res;
    completion->flags = cqe->flags;
    io_uring_cqe_seen(ring, cqe);
    return true;
}

static bool buffer_ring_make(struct probe *probe)
{
    struct io_uring_buf_reg registration;

    probe->buffer_ring = weir__allocate_aligned(PROBE_PAGE_BYTES, PROBE_PAGE_BYTES);
    if (!probe->buffer_ring)
        return false;
    memset(&registration, 0, sizeof(registration));
    registration.ring_addr = (uintptr_t)probe->buffer_ring;
    registration.ring_entries = PROBE_ENTRIES;
    registration.bgid = PROBE_BUFFER_GROUP;
    io_uring_buf_ring_init(probe->buffer_ring);
    if (io_uring_register_buf_ring(&probe->ring, &registration, 0))
        return false;
    for (unsigned short i = 0; i < 2; i++)
        io_uring_buf_ring_add(probe->buffer_ring, probe->buffers[i], PROBE_BUFFER_BYTES, i,
                              io_uring_buf_ring_mask(PROBE_ENTRIES), i);
    io_uring_buf_ring_advance(probe->buffer_ring, 2);
    return true;
}

/* What a trial says that could not get its descriptors. */
static int descriptors_missing(void)
{
    return errno == EMFILE || errno == ENFILE ? WEIR_EMFILE : WEIR_ENOTSUP;
}

/* The trials return 0, WEIR_ENOTSUP or WEIR_EMFILE. */

/* One byte received must leave the request armed. `message` NULL: by RECV, else by RECVMSG. */
static int try_receive(struct probe *probe, struct msghdr *message)
{
    struct io_uring_cqe completion = {.flags = 0};
    struct io_uring_sqe *sqe = io_uring_get_sqe(&probe->ring);
    int pair[2];
    bool works = false;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair))
        return descriptors_missing();
    if (message)
        io_uring_prep_recvmsg_multishot(sqe, pair[0], message, 0);
    else
        io_uring_prep_recv_multishot(sqe, pair[0], NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = PROBE_BUFFER_GROUP;
    if (write(pair[1], "x", 1) == 1 && completion_take(&probe->ring, &completion))
        works = completion.res > 0 && (completion.flags & IORING_CQE_F_BUFFER) &&
                (completion.flags & IORING_CQE_F_MORE);
    close(pair[1]);
    /* The end of the stream ends the request, so that none is left for the next trial. */
    if (works)
        works =
            completion_take(&probe->ring, &completion) && !(completion.flags & IORING_CQE_F_MORE);
    close(pair[0]);
    return works ? 0 : WEIR_ENOTSUP;
}

static int try_accept(struct io_uring *ring)
{
    /* With only its family in the address, the kernel picks a free abstract name. */
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t length = sizeof(address.sun_family);
    struct io_uring_cqe completion = {.res = -1};
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int error = WEIR_ENOTSUP;

    if (listener < 0 || peer < 0)
        error = descriptors_missing();
    if (listener < 0 || peer < 0 || bind(listener, (struct sockaddr *)&address, length))
        goto out;
    length = sizeof(address);
    if (getsockname(listener, (struct sockaddr *)&address, &length) || listen(listener, 1))
        goto out;
    io_uring_prep_multishot_accept(io_uring_get_sqe(ring), listener, NULL, NULL, SOCK_CLOEXEC);
    if (connect(peer, (struct sockaddr *)&address, length) || !completion_take(ring, &completion))
        goto out;
    if (completion.res >= 0 && (completion.flags & IORING_CQE_F_MORE))
        error = 0;
    else if (completion.res == -EMFILE || completion.res == -ENFILE)
        error = WEIR_EMFILE;
    if (completion.res >= 0)
        close(completion.res);
out:
    if (listener >= 0)
        close(listener);
    if (peer >= 0)
        close(peer);
    return error;
}

/* A kernel that knows the command waits for stamps until cancelled; one that does not, says so. */
static int try_stamp_command(void)
{
    struct io_uring ring;
    struct io_uring_params params = {.flags = WEIR__IO_URING_SETUP | WEIR__SETUP_CQE_MIXED};
    struct io_uring_cqe completion = {.res = 0};
    struct io_uring_sqe *sqe;
    int handle = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool works = false;
    int error;

    if (handle < 0)
        return descriptors_missing();
    error = io_uring_queue_init_params(PROBE_ENTRIES, &ring, &params);
    if (!error) {
        sqe = io_uring_get_sqe(&ring);
        weir__io_uring_prepare_stamp_command(sqe, handle);
        sqe->user_data = 1;
        sqe = io_uring_get_sqe(&ring);
        io_uring_prep_cancel64(sqe, 1, 0);
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
        while (completion_take(&ring, &completion))
            if (completion.user_data == 1)
                break;
        works = completion.user_data == 1 && completion.res == -ECANCELED;
        io_uring_queue_exit(&ring);
    }
    close(handle);
    if (error == -EMFILE || error == -ENFILE)
        return WEIR_EMFILE;
    return works ? 0 : WEIR_ENOTSUP;
}

static int refused(int error, const char *reason_wanted, const char **reason)
{
    *reason = error == WEIR_EMFILE ? "no file descriptor is left to try io_uring" : reason_wanted;
    return error;
}

static int features_try(struct probe *probe, struct weir__io_uring_features *features,
                        const char **reason)
{
    struct msghdr message;
    int error;

    memset(&message, 0, sizeof(message));
    features->operations = has_operations(&probe->ring);
    if (!features->operations)
        return refused(WEIR_ENOTSUP, "this kernel's io_uring lacks an operation that is needed",
                       reason);
    features->buffer_ring = buffer_ring_make(probe);
    if (!probe->buffer_ring)
        return refused(WEIR_ENOMEM, "no memory", reason);
    if (!features->buffer_ring)
        return refused(WEIR_ENOTSUP, "this kernel's io_uring has no buffer rings", reason);
    error = try_receive(probe, NULL);
    if (!error)
        error = try_receive(probe, &message);
    if (error)
        return refused(error, "this kernel's io_uring cannot receive more than once for a request",
                       reason);
    features->receive_multishot = true;
    /* Last on this ring: its request stays until the ring goes. */
    error = try_accept(&probe->ring);
    if (error)
        return refused(error, "this kernel's io_uring cannot accept more than once for a request",
                       reason);
    features->accept_multishot = true;
    error = try_stamp_command();
    if (error == WEIR_EMFILE)
        return refused(error, NULL, reason);
    features->stamp_command = error == 0;
    weir__io_uring_probe_zerocopy(features);
    return 0;
}

int weir__io_uring_probe(struct weir__io_uring_features *features, const char **reason)
{
    struct io_uring_params params = {.flags = WEIR__IO_URING_SETUP};
    struct probe probe = {.buffer_ring = NULL};
    int error;

    memset(features, 0, sizeof(*features));
    *reason = NULL;
    error = io_uring_queue_init_params(PROBE_ENTRIES, &probe.ring, &params);
    if (error)
        return ring_refused(error, reason);
    features->ring = true;
    error = features_try(&probe, features, reason);
    io_uring_queue_exit(&probe.ring);
    weir__release(probe.buffer_ring);
    return error;
}
