/* SPDX-License-Identifier: Apache-2.0 */
/* Probes of what a TCP socket tells about its bytes: time stamps, acknowledged bytes, zero copy. */
#include <errno.h>
#include <linux/net_tstamp.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

/* It uses struct timespec without declaring it. */
#include <linux/errqueue.h>

#include "engine/probe_try.h"

/* Since Linux 6.2; older headers lack it. */
#define STAMPING_OPT_ID_TCP (1u << 16)

#define STAMPING_REPORT                                                                            \
    (SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_TSONLY)

/* Large enough that the kernel would rather not copy. */
#define ZEROCOPY_BYTES 65536

/* Between two looks at something of which the kernel gives no notice. */
#define PAUSE_MS 10

static void pause_briefly(void)
{
    nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000L}, NULL);
}

static bool stamping_set(struct weir__probe *probe, int descriptor, unsigned flags)
{
    if (setsockopt(descriptor, SOL_SOCKET, SO_TIMESTAMPING, &flags, sizeof(flags)) == 0)
        return true;
    weir__probe_refused(probe, "setsockopt SO_TIMESTAMPING", errno);
    return false;
}

bool weir__probe_error_take(int descriptor, struct sock_extended_err *error)
{
    struct pollfd wait_for = {.fd = descriptor};
    char control[256];
    struct msghdr message = {.msg_control = control, .msg_controllen = sizeof(control)};
    if (poll(&wait_for, 1, WEIR__PROBE_EVENT_MS) != 1 ||
        recvmsg(descriptor, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
        return false;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
        if (part->cmsg_level == SOL_IP && part->cmsg_type == IP_RECVERR) {
            memcpy(error, CMSG_DATA(part), sizeof(*error));
            return true;
        }
    }
    return false;
}

/* Whether a stamp of that kind (SCM_TSTAMP_*) comes; `key` is its id. */
static bool stamp_take(struct weir__probe *probe, int descriptor, unsigned kind, uint32_t *key)
{
    struct sock_extended_err error;
    while (weir__probe_error_take(descriptor, &error)) {
        if (error.ee_origin == SO_EE_ORIGIN_TIMESTAMPING && error.ee_info == kind) {
            *key = error.ee_data;
            return true;
        }
    }
    weir__probe_lacks(probe, "the kernel takes the option, but no stamp comes");
    return false;
}

static bool bytes_send(struct weir__probe *probe, int descriptor, size_t length)
{
    static const char bytes[64];
    if (send(descriptor, bytes, length, MSG_NOSIGNAL) == (ssize_t)length)
        return true;
    weir__probe_refused(probe, "send", errno);
    return false;
}

static void stamp_try(struct weir__probe *probe, unsigned request, unsigned kind)
{
    int pair[2];
    uint32_t key;
    if (weir__probe_pair(probe, pair) && stamping_set(probe, pair[0], STAMPING_REPORT | request) &&
        bytes_send(probe, pair[0], 10) && stamp_take(probe, pair[0], kind, &key))
        weir__probe_works(probe, "%s", "");
}

void weir__probe_stamp_scheduled(struct weir__probe *probe)
{
    stamp_try(probe, SOF_TIMESTAMPING_TX_SCHED, SCM_TSTAMP_SCHED);
}

void weir__probe_stamp_sent(struct weir__probe *probe)
{
    stamp_try(probe, SOF_TIMESTAMPING_TX_SOFTWARE, SCM_TSTAMP_SND);
}

void weir__probe_stamp_acked(struct weir__probe *probe)
{
    stamp_try(probe, SOF_TIMESTAMPING_TX_ACK, SCM_TSTAMP_ACK);
}

void weir__probe_stamp_per_call(struct weir__probe *probe)
{
    int pair[2];
    uint32_t key, request = SOF_TIMESTAMPING_TX_ACK;
    char byte = 0;
    union {
        char bytes[CMSG_SPACE(sizeof(request))];
        struct cmsghdr align;
    } control = {.bytes = {0}};
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SO_TIMESTAMPING;
    header->cmsg_len = CMSG_LEN(sizeof(request));
    memcpy(CMSG_DATA(header), &request, sizeof(request));
    if (!weir__probe_pair(probe, pair) || !stamping_set(probe, pair[0], STAMPING_REPORT))
        return;
    if (sendmsg(pair[0], &message, MSG_NOSIGNAL) != 1)
        weir__probe_refused(probe, "sendmsg with a SO_TIMESTAMPING message", errno);
    else if (stamp_take(probe, pair[0], SCM_TSTAMP_ACK, &key))
        weir__probe_works(probe, "%s", "");
}

/*
 * With OPT_ID_TCP ids count from the bytes written so far, and without it from those acknowledged
 * so far. Corked bytes are written and not acknowledged: so the id of byte 15 of the next write
 * tells them apart.
 */
void weir__probe_stamp_id_tcp(struct weir__probe *probe)
{
    int pair[2], on = 1, off = 0;
    uint32_t key;
    if (!weir__probe_pair(probe, pair))
        return;
    setsockopt(pair[0], IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
    if (!bytes_send(probe, pair[0], 10) ||
        !stamping_set(probe, pair[0],
                      STAMPING_REPORT | STAMPING_OPT_ID_TCP | SOF_TIMESTAMPING_TX_ACK) ||
        !bytes_send(probe, pair[0], 15))
        return;
    setsockopt(pair[0], IPPROTO_TCP, TCP_CORK, &off, sizeof(off));
    if (!stamp_take(probe, pair[0], SCM_TSTAMP_ACK, &key))
        return;
    if (key == 14)
        weir__probe_works(probe, "%s", "");
    else
        weir__probe_lacks(probe, "the id of the 15th byte is %u, not 14", key);
}

/* The receive stamp of the bytes that wait at `descriptor`, in seconds; 0 = none, -1 = said why. */
static int64_t receive_stamp_take(struct weir__probe *probe, int descriptor)
{
    char data[64], control[256];
    struct iovec part = {.iov_base = data, .iov_len = sizeof(data)};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    if (recvmsg(descriptor, &message, 0) < 0) {
        weir__probe_refused(probe, "recvmsg", errno);
        return -1;
    }
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header;
         header = CMSG_NXTHDR(&message, header)) {
        struct scm_timestamping stamps;
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SO_TIMESTAMPING)
            continue;
        memcpy(&stamps, CMSG_DATA(header), sizeof(stamps));
        return stamps.ts[0].tv_sec;
    }
    return 0;
}

/* The kernel begins to stamp received packets a little after the first socket asks for it. */
void weir__probe_stamp_received(struct weir__probe *probe)
{
    int pair[2];
    int64_t stamp = 0;
    if (!weir__probe_pair(probe, pair) ||
        !stamping_set(probe, pair[0], SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE))
        return;
    for (int waited_ms = 0; waited_ms < WEIR__PROBE_EVENT_MS && stamp == 0; waited_ms += PAUSE_MS) {
        if (!bytes_send(probe, pair[1], 10))
            return;
        stamp = receive_stamp_take(probe, pair[0]);
        if (stamp == 0)
            pause_briefly();
    }
    if (stamp > 0)
        weir__probe_works(probe, "%s", "");
    else if (stamp == 0)
        weir__probe_lacks(probe, "the kernel takes the option, but no stamp comes");
}

void weir__probe_tcp_info_acked(struct weir__probe *probe)
{
    int pair[2];
    struct tcp_info info = {.tcpi_bytes_acked = 0};
    if (!weir__probe_pair(probe, pair) || !bytes_send(probe, pair[0], 60))
        return;
    /* The handshake's SYN counts as one byte in old kernels, so 60 is the least to expect. */
    for (int waited_ms = 0; waited_ms < WEIR__PROBE_EVENT_MS; waited_ms += PAUSE_MS) {
        socklen_t length = sizeof(info);
        if (getsockopt(pair[0], IPPROTO_TCP, TCP_INFO, &info, &length) != 0) {
            weir__probe_refused(probe, "getsockopt TCP_INFO", errno);
            return;
        }
        if (info.tcpi_bytes_acked >= 60) {
            weir__probe_works(probe, "%s", "");
            return;
        }
        pause_briefly();
    }
    weir__probe_lacks(probe, "60 bytes arrived, but the kernel counts %llu as acknowledged",
                      (unsigned long long)info.tcpi_bytes_acked);
}

void weir__probe_zerocopy(struct weir__probe *probe)
{
    static char bytes[ZEROCOPY_BYTES];
    struct sock_extended_err error;
    int pair[2], on = 1;
    if (!weir__probe_pair(probe, pair))
        return;
    if (setsockopt(pair[0], SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)) != 0) {
        weir__probe_refused(probe, "setsockopt SO_ZEROCOPY", errno);
    } else if (send(pair[0], bytes, sizeof(bytes), MSG_ZEROCOPY | MSG_NOSIGNAL | MSG_DONTWAIT) <=
               0) {
        if (errno == ENOBUFS)
            weir__probe_lacks(probe,
                              "no memory may be pinned: RLIMIT_MEMLOCK or net.core.optmem_max");
        else
            weir__probe_refused(probe, "send MSG_ZEROCOPY", errno);
    } else {
        recv(pair[1], bytes, sizeof(bytes), 0);
        if (!weir__probe_error_take(pair[0], &error) || error.ee_origin != SO_EE_ORIGIN_ZEROCOPY)
            weir__probe_lacks(probe, "the kernel never gives the memory back");
        else if (error.ee_code & SO_EE_CODE_ZEROCOPY_COPIED)
            weir__probe_works(probe,
                              "on loopback the kernel copies nevertheless, as it always does");
        else
            weir__probe_works(probe, "even on loopback");
    }
}
