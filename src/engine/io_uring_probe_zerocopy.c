/* SPDX-License-Identifier: Apache-2.0 */

/* Which kinds of send without a copy this kernel's io_uring takes, each tried on a connection over loopback. */
#include "engine/io_uring.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "engine/socket.h"

#define PROBE_ENTRIES 8
/* Halves are the parts of a message. */
#define PROBE_BYTES 64
/* Loopback brings bytes and notices at once, though a busy machine may take its time. */
#define PROBE_WAIT_S 1

enum {
    TRIED = 1 << 0,
    SEND = 1 << 1,    /* SEND_ZC and SENDMSG_ZC */
    FIXED = 1 << 2,   /* SEND_ZC from registered memory (Linux 6.0) */
    MESSAGE = 1 << 3, /* SENDMSG_ZC from it (6.15) */
};

struct trial {
    struct io_uring ring;
    int pair[2];
    unsigned char bytes[PROBE_BYTES];
};

static bool completion_take(struct trial *trial, struct io_uring_cqe *completion)
{
    struct __kernel_timespec limit = {.tv_sec = PROBE_WAIT_S};
    struct io_uring_cqe *cqe;

    if (io_uring_submit_and_wait_timeout(&trial->ring, &cqe, 1, &limit, NULL) < 0 || !cqe)
        return false;
    completion->res = cqe->res;
    completion->flags = cqe->flags;
    io_uring_cqe_seen(&trial->ring, cqe);
    return true;
}

/* The request has been prepared; the bytes must arrive, and the notice come. */
static bool send_works(struct trial *trial, struct io_uring_sqe *sqe, unsigned flags)
{
    struct io_uring_cqe sent = {.res = 0}, notice = {.res = 0};
    unsigned char got[PROBE_BYTES] = {0};

    sqe->ioprio |= (uint16_t)(WEIR__SEND_ZC_REPORT_USAGE | flags);
    sqe->buf_index = 0;
    if (!completion_take(trial, &sent))
        return false;
    if (sent.res == PROBE_BYTES &&
        recv(trial->pair[1], got, sizeof(got), MSG_WAITALL) != PROBE_BYTES)
        return false;
    if ((sent.flags & IORING_CQE_F_MORE) && !completion_take(trial, &notice))
        return false;
    return sent.res == PROBE_BYTES && (notice.flags & IORING_CQE_F_NOTIF) &&
           memcmp(got, trial->bytes, sizeof(got)) == 0;
}

static bool bytes_work(struct trial *trial, unsigned flags)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&trial->ring);

    io_uring_prep_send(sqe, trial->pair[0], trial->bytes, PROBE_BYTES, MSG_NOSIGNAL);
    sqe->opcode = IORING_OP_SEND_ZC;
    return send_works(trial, sqe, flags);
}

static bool message_works(struct trial *trial, unsigned flags)
{
    struct iovec parts[] = {
        {.iov_base = trial->bytes, .iov_len = PROBE_BYTES / 2},
        {.iov_base = trial->bytes + PROBE_BYTES / 2, .iov_len = PROBE_BYTES / 2},
    };
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    struct io_uring_sqe *sqe = io_uring_get_sqe(&trial->ring);

    io_uring_prep_sendmsg(sqe, trial->pair[0], &message, MSG_NOSIGNAL);
    sqe->opcode = IORING_OP_SENDMSG_ZC;
    return send_works(trial, sqe, flags);
}

static bool memory_registered(struct trial *trial)
{
    const struct iovec part = {.iov_base = trial->bytes, .iov_len = PROBE_BYTES};
    const __u64 tag = 0;

    return io_uring_register_buffers_sparse(&trial->ring, 1) == 0 &&
           io_uring_register_buffers_update_tag(&trial->ring, 0, &part, &tag, 1) == 1;
}

static int try_all(struct trial *trial)
{
    const struct timeval limit = {.tv_sec = PROBE_WAIT_S};
    int works = TRIED;

    (void)setsockopt(trial->pair[1], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    for (unsigned i = 0; i < PROBE_BYTES; i++)
        trial->bytes[i] = (unsigned char)i;
    if (bytes_work(trial, 0) && message_works(trial, 0))
        works |= SEND;
    if ((works & SEND) && memory_registered(trial) && bytes_work(trial, IORING_RECVSEND_FIXED_BUF))
        works |= FIXED;
    if ((works & FIXED) && message_works(trial, IORING_RECVSEND_FIXED_BUF))
        works |= MESSAGE;
    return works;
}

/* 0: there was nothing to try it on. */
static int zerocopy_try(void)
{
    struct io_uring_params params = {.flags = WEIR__IO_URING_SETUP};
    struct trial trial;
    int works = 0;

    if (!weir__descriptor_pair(trial.pair))
        return 0;
    if (io_uring_queue_init_params(PROBE_ENTRIES, &trial.ring, &params) == 0) {
        works = try_all(&trial);
        io_uring_queue_exit(&trial.ring);
    }
    (void)close(trial.pair[0]);
    (void)close(trial.pair[1]);
    return works;
}

void weir__io_uring_probe_zerocopy(struct weir__io_uring_features *features)
{
    /* Threads that try at the same time find the same. */
    static atomic_int answer;
    int works = atomic_load_explicit(&answer, memory_order_relaxed);

    if (!works) {
        works = zerocopy_try();
        atomic_store_explicit(&answer, works, memory_order_relaxed);
    }
    features->zerocopy = works & SEND;
    features->zerocopy_fixed = works & FIXED;
    features->zerocopy_fixed_message = works & MESSAGE;
}
