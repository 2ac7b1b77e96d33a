/* SPDX-License-Identifier: Apache-2.0 */
/* Probes of io_uring, feature by feature. */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/net_tstamp.h>
#include <linux/tls.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "engine/io_uring.h"
#include "engine/ktls.h"
#include "engine/probe_try.h"

#define RING_ENTRIES  8
#define BUFFER_BYTES  256
#define BUFFER_COUNT  4
#define MESSAGE_BYTES 5

static const char message_bytes[MESSAGE_BYTES] = "weir";
static char buffer_memory[BUFFER_COUNT][BUFFER_BYTES];

static int number_read(const char *path)
{
    char text[16] = "";
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || read(file, text, sizeof(text) - 1) <= 0)
        return -1;
    return atoi(text);
}

static void ring_refused(struct weir__probe *probe, int error)
{
    int disabled = number_read("/proc/sys/kernel/io_uring_disabled");
    struct rlimit limit;
    if (error == EPERM && disabled == 2) {
        weir__probe_lacks(probe, "the sysctl kernel.io_uring_disabled forbids it to all (2)");
    } else if (error == EPERM && disabled == 1 && geteuid() != 0) {
        weir__probe_lacks(probe, "the sysctl kernel.io_uring_disabled forbids it to this user (1)");
    } else if (error == ENOMEM && getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
        weir__probe_lacks(probe, "no memory for it; RLIMIT_MEMLOCK is %llu KiB",
                          (unsigned long long)limit.rlim_cur / 1024);
    } else if (error == EINVAL) {
        weir__probe_lacks(probe, "this kernel is too old for that kind of ring");
    } else {
        weir__probe_refused(probe, "io_uring_setup", error);
    }
}

static bool ring_open(struct weir__probe *probe, struct io_uring *ring, unsigned flags)
{
    int result = io_uring_queue_init(RING_ENTRIES, ring, flags);
    if (result != 0)
        ring_refused(probe, -result);
    return result == 0;
}

/* Submits what is prepared and takes the next completion; false, having said why, if none comes. */
static bool completion_take(struct weir__probe *probe, struct io_uring *ring,
                            struct io_uring_cqe *taken)
{
    struct __kernel_timespec limit = {.tv_nsec = WEIR__PROBE_EVENT_MS * 1000000LL};
    struct io_uring_cqe *completion = NULL;
    int result = io_uring_submit_and_wait_timeout(ring, &completion, 1, &limit, NULL);
    if (result < 0 && result != -ETIME) {
        weir__probe_refused(probe, "io_uring_enter", -result);
        return false;
    }
    if (completion == NULL) {
        weir__probe_lacks(probe, "the kernel takes the request, but completes nothing");
        return false;
    }
    taken->user_data = completion->user_data;
    taken->res = completion->res;
    taken->flags = completion->flags;
    io_uring_cqe_seen(ring, completion);
    return true;
}

/* The same, and the completion must be a success; with `more`, one of many. */
static bool success_take(struct weir__probe *probe, struct io_uring *ring,
                         struct io_uring_cqe *taken, bool more)
{
    if (!completion_take(probe, ring, taken))
        return false;
    if (taken->res < 0)
        weir__probe_refused(probe, "the request", -taken->res);
    else if (more && !(taken->flags & IORING_CQE_F_MORE))
        weir__probe_lacks(probe, "it completes once, and not again");
    else
        return true;
    return false;
}

static struct io_uring_buf_ring *buffers_open(struct weir__probe *probe, struct io_uring *ring)
{
    struct io_uring_buf_ring *buffers = aligned_alloc(4096, 4096);
    struct io_uring_buf_reg registration = {.ring_addr = (uintptr_t)buffers,
                                            .ring_entries = BUFFER_COUNT};
    if (buffers == NULL)
        return NULL;
    memset(buffers, 0, 4096);
    int result = io_uring_register_buf_ring(ring, &registration, 0);
    if (result != 0) {
        weir__probe_refused(probe, "registering a buffer ring", -result);
        return NULL;
    }
    for (unsigned short i = 0; i < BUFFER_COUNT; i++)
        io_uring_buf_ring_add(buffers, buffer_memory[i], BUFFER_BYTES, i, BUFFER_COUNT - 1, i);
    io_uring_buf_ring_advance(buffers, BUFFER_COUNT);
    return buffers;
}

static bool peer_sends(struct weir__probe *probe, int peer)
{
    if (send(peer, message_bytes, MESSAGE_BYTES, MSG_NOSIGNAL) == MESSAGE_BYTES)
        return true;
    weir__probe_refused(probe, "send", errno);
    return false;
}

static bool peer_receives(struct weir__probe *probe, int peer)
{
    char got[MESSAGE_BYTES];
    if (recv(peer, got, sizeof(got), MSG_WAITALL) == MESSAGE_BYTES &&
        memcmp(got, message_bytes, MESSAGE_BYTES) == 0)
        return true;
    weir__probe_lacks(probe, "other bytes arrived than were sent");
    return false;
}

void weir__probe_uring_setup(struct weir__probe *probe)
{
    struct io_uring ring;
    struct io_uring_cqe taken;
    if (!ring_open(probe, &ring, 0))
        return;
    io_uring_prep_nop(io_uring_get_sqe(&ring));
    if (success_take(probe, &ring, &taken, false))
        weir__probe_works(probe, "%s", "");
}

void weir__probe_uring_defer_taskrun(struct weir__probe *probe)
{
    struct io_uring ring;
    struct io_uring_cqe taken;
    if (!ring_open(probe, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN))
        return;
    io_uring_prep_nop(io_uring_get_sqe(&ring));
    if (success_take(probe, &ring, &taken, false))
        weir__probe_works(probe, "%s", "");
}

void weir__probe_uring_accept_multishot(struct weir__probe *probe)
{
    struct io_uring ring;
    struct io_uring_cqe taken;
    int listener = weir__probe_listener(probe, 0);
    if (listener < 0 || !ring_open(probe, &ring, 0))
        return;
    io_uring_prep_multishot_accept(io_uring_get_sqe(&ring), listener, NULL, NULL, SOCK_CLOEXEC);
    for (int i = 0; i < 2; i++) {
        if (weir__probe_connect(probe, listener) < 0 || !success_take(probe, &ring, &taken, true))
            return;
    }
    weir__probe_works(probe, "%s", "");
}

/* `once`: a receive that ends with its first bytes. */
static void receive_try(struct weir__probe *probe, bool message, bool once)
{
    struct io_uring ring;
    struct io_uring_cqe taken;
    struct msghdr header = {.msg_controllen = 64};
    int pair[2];
    if (!weir__probe_pair(probe, pair) || !ring_open(probe, &ring, 0) ||
        buffers_open(probe, &ring) == NULL)
        return;
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring);
    if (message)
        io_uring_prep_recvmsg_multishot(entry, pair[0], &header, 0);
    else if (once)
        io_uring_prep_recv(entry, pair[0], NULL, BUFFER_BYTES, 0);
    else
        io_uring_prep_recv_multishot(entry, pair[0], NULL, 0, 0);
    entry->flags |= IOSQE_BUFFER_SELECT;
    for (int i = 0; i < (once ? 1 : 2); i++) {
        if (!peer_sends(probe, pair[1]) || !success_take(probe, &ring, &taken, !once))
            return;
        if (!(taken.flags & IORING_CQE_F_BUFFER)) {
            weir__probe_lacks(probe, "it does not take a buffer from the ring");
            return;
        }
    }
    weir__probe_works(probe, "%s", "");
}

void weir__probe_uring_buffer_ring(struct weir__probe *probe)
{
    receive_try(probe, false, true);
}

void weir__probe_uring_receive_multishot(struct weir__probe *probe)
{
    receive_try(probe, false, false);
}

void weir__probe_uring_recvmsg_multishot(struct weir__probe *probe)
{
    receive_try(probe, true, false);
}

/* Sends a record that is no application data. */
static bool alert_send(int descriptor)
{
    char control[CMSG_SPACE(sizeof(uint8_t))] = {0}, bytes[2] = {0};
    struct iovec part = {.iov_base = bytes, .iov_len = sizeof(bytes)};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    struct cmsghdr *type = CMSG_FIRSTHDR(&message);
    type->cmsg_level = SOL_TLS;
    type->cmsg_type = TLS_SET_RECORD_TYPE;
    type->cmsg_len = CMSG_LEN(sizeof(uint8_t));
    *CMSG_DATA(type) = WEIR__TLS_ALERT;
    return sendmsg(descriptor, &message, MSG_NOSIGNAL) == sizeof(bytes);
}

/* Data, an alert, data: each must come by itself, and the second must say what it is. */
void weir__probe_uring_ktls(struct weir__probe *probe)
{
    struct msghdr header = {.msg_controllen = CMSG_SPACE(sizeof(uint8_t))};
    struct io_uring ring;
    struct io_uring_cqe taken;
    int pair[2];
    if (!weir__probe_ktls_pair(probe, pair) || !ring_open(probe, &ring, 0) ||
        buffers_open(probe, &ring) == NULL)
        return;
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring);
    io_uring_prep_recvmsg_multishot(entry, pair[1], &header, 0);
    entry->flags |= IOSQE_BUFFER_SELECT;
    for (int i = 0; i < 3; i++) {
        if (!(i == 1 ? alert_send(pair[0]) : peer_sends(probe, pair[0])) ||
            !success_take(probe, &ring, &taken, true))
            return;
        void *buffer = buffer_memory[taken.flags >> IORING_CQE_BUFFER_SHIFT];
        struct io_uring_recvmsg_out *out = io_uring_recvmsg_validate(buffer, taken.res, &header);
        struct cmsghdr *type = out ? io_uring_recvmsg_cmsg_firsthdr(out, &header) : NULL;
        if (!type || weir__ktls_record_type(type) != (i == 1 ? WEIR__TLS_ALERT : 0)) {
            weir__probe_lacks(probe, "records come without their type");
            return;
        }
    }
    weir__probe_works(probe, "%s", "");
}

void weir__probe_uring_sendmsg(struct weir__probe *probe)
{
    struct io_uring ring;
    struct io_uring_cqe taken;
    struct iovec part = {.iov_base = (void *)(uintptr_t)message_bytes, .iov_len = MESSAGE_BYTES};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    int pair[2];
    if (!weir__probe_pair(probe, pair) || !ring_open(probe, &ring, 0))
        return;
    io_uring_prep_sendmsg(io_uring_get_sqe(&ring), pair[0], &header, MSG_NOSIGNAL);
    if (success_take(probe, &ring, &taken, false) && peer_receives(probe, pair[1]))
        weir__probe_works(probe, "%s", "");
}

/* A receive that nothing arrives for must end with ECANCELED, and the cancel must succeed. */
void weir__probe_uring_cancel(struct weir__probe *probe)
{
    struct io_uring ring;
    struct io_uring_cqe taken[2];
    char data[MESSAGE_BYTES];
    int pair[2];
    if (!weir__probe_pair(probe, pair) || !ring_open(probe, &ring, 0))
        return;
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring);
    io_uring_prep_recv(entry, pair[0], data, sizeof(data), 0);
    entry->user_data = 1;
    entry = io_uring_get_sqe(&ring);
    io_uring_prep_cancel64(entry, 1, 0);
    entry->user_data = 2;
    for (int i = 0; i < 2; i++) {
        if (!completion_take(probe, &ring, &taken[i]))
            return;
        int expected = taken[i].user_data == 1 ? -ECANCELED : 0;
        if (taken[i].res != expected) {
            weir__probe_lacks(probe, "%s ends with %d", expected ? "the cancelled request" : "it",
                              taken[i].res);
            return;
        }
    }
    weir__probe_works(probe, "%s", "");
}

void weir__probe_uring_cqe_mixed(struct weir__probe *probe)
{
    struct io_uring ring;
    struct io_uring_cqe taken;
    if (!ring_open(probe, &ring, WEIR__SETUP_CQE_MIXED))
        return;
    io_uring_prep_nop(io_uring_get_sqe(&ring));
    if (success_take(probe, &ring, &taken, false))
        weir__probe_works(probe, "%s", "");
}

/* One write, whose ACK stamp must come as a completion. */
void weir__probe_uring_tx_timestamp(struct weir__probe *probe)
{
    struct io_uring ring;
    struct io_uring_cqe taken;
    unsigned stamping = SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_ID |
                        SOF_TIMESTAMPING_OPT_TSONLY | SOF_TIMESTAMPING_TX_ACK;
    int pair[2];
    if (!weir__probe_pair(probe, pair) || !ring_open(probe, &ring, WEIR__SETUP_CQE_MIXED))
        return;
    if (setsockopt(pair[0], SOL_SOCKET, SO_TIMESTAMPING, &stamping, sizeof(stamping)) != 0) {
        weir__probe_refused(probe, "setsockopt SO_TIMESTAMPING", errno);
        return;
    }
    weir__io_uring_prepare_stamp_command(io_uring_get_sqe(&ring), pair[0]);
    if (!peer_sends(probe, pair[0]) || !completion_take(probe, &ring, &taken))
        return;
    if (taken.res == -EOPNOTSUPP || taken.res == -EINVAL)
        weir__probe_lacks(probe, "needs Linux 6.18; stamps are read from the error queue instead");
    else if (taken.res != MESSAGE_BYTES - 1)
        weir__probe_lacks(probe, "its first completion says %d, not the id of the last byte",
                          taken.res);
    else if (taken.flags >> WEIR__STAMP_TYPE_SHIFT != SCM_TSTAMP_ACK)
        weir__probe_lacks(probe, "its first stamp is of another kind than ACK");
    else
        weir__probe_works(probe, "%s", "");
}

void weir__probe_uring_send_zerocopy(struct weir__probe *probe)
{
    struct io_uring ring;
    struct io_uring_cqe sent, notice;
    int pair[2];
    if (!weir__probe_pair(probe, pair) || !ring_open(probe, &ring, 0))
        return;
    io_uring_prep_send_zc(io_uring_get_sqe(&ring), pair[0], message_bytes, MESSAGE_BYTES,
                          MSG_NOSIGNAL, WEIR__SEND_ZC_REPORT_USAGE);
    if (!success_take(probe, &ring, &sent, true) || !peer_receives(probe, pair[1]) ||
        !completion_take(probe, &ring, &notice))
        return;
    if (!(notice.flags & IORING_CQE_F_NOTIF))
        weir__probe_lacks(probe, "the kernel never gives the memory back");
    else if ((unsigned)notice.res & WEIR__NOTIF_COPIED)
        weir__probe_works(probe, "on loopback the kernel copies nevertheless, as it always does");
    else
        weir__probe_works(probe, "even on loopback");
}
