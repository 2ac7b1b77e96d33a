/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/kernel/bio_socket.h"

#include <assert.h>
#include <errno.h>
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "engine/socket.h"

/* Room for the caller's control messages, and the stamp's. */
#define CONTROL_BYTES_MAX 320
/* A stamp, and IP_RECVERR or IPV6_RECVERR with the address of the offender. */
#define NOTICE_CONTROL_BYTES                                                                       \
    (CMSG_SPACE(sizeof(struct scm_timestamping)) +                                                 \
     CMSG_SPACE(sizeof(struct sock_extended_err) + sizeof(struct sockaddr_in6)))

/* Adds one control message behind those that are there. */
static void add_control(struct msghdr *message, int level, int type, const void *data,
                        size_t length)
{
    struct cmsghdr *header = (void *)((char *)message->msg_control + message->msg_controllen);

    header->cmsg_level = level;
    header->cmsg_type = type;
    header->cmsg_len = CMSG_LEN(length);
    memcpy(CMSG_DATA(header), data, length);
    message->msg_controllen += CMSG_SPACE(length);
    assert(message->msg_controllen <= CONTROL_BYTES_MAX);
}

ssize_t weir__bio_socket_send(int descriptor, const struct weir__bio_message *message)
{
    _Alignas(struct cmsghdr) char control[CONTROL_BYTES_MAX] = {0};
    struct iovec part = {.iov_base = (void *)message->data, .iov_len = message->length};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control};
    ssize_t taken;

    assert(message->control_length + CMSG_SPACE(sizeof(uint32_t)) <= sizeof(control));
    if (message->control_length > 0) {
        memcpy(control, message->control, message->control_length);
        header.msg_controllen = CMSG_ALIGN(message->control_length);
    }
    if (message->record_type)
        add_control(&header, SOL_TLS, TLS_SET_RECORD_TYPE, &message->record_type,
                    sizeof(message->record_type));
    if (message->stamp) {
        const uint32_t bits = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_TX_ACK;
        add_control(&header, SOL_SOCKET, SO_TIMESTAMPING, &bits, sizeof(bits));
    }
    do
        taken = sendmsg(descriptor, &header, message->flags | MSG_NOSIGNAL);
    while (taken < 0 && errno == EINTR);
    return taken;
}

ssize_t weir__bio_socket_receive(int descriptor, void *data, size_t size)
{
    ssize_t length;

    do
        length = recv(descriptor, data, size, 0);
    while (length < 0 && errno == EINTR);
    return length;
}

bool weir__bio_socket_is_connected(int descriptor)
{
    struct sockaddr_storage peer;
    socklen_t peer_length = sizeof(peer);
    int protocol = 0;
    socklen_t length = sizeof(protocol);

    return getsockopt(descriptor, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) == 0 &&
           protocol == IPPROTO_TCP &&
           getpeername(descriptor, (struct sockaddr *)&peer, &peer_length) == 0;
}

bool weir__bio_socket_allow_zerocopy(int descriptor)
{
    const int one = 1;
    return setsockopt(descriptor, SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)) == 0;
}

bool weir__bio_socket_acked(int descriptor, uint64_t *acked)
{
    struct weir__socket socket = {.handle = descriptor};
    struct weir__socket_info info;

    if (weir__socket_info(NULL, &socket, &info) != 0)
        return false;
    *acked = info.bytes_acked;
    return true;
}

bool weir__bio_socket_written(int descriptor, uint64_t *written)
{
    struct weir__socket socket = {.handle = descriptor};
    uint64_t before, after, unacked;

    /* An acknowledgement between two of the questions would be counted twice, or not at all. */
    do {
        if (!weir__bio_socket_acked(descriptor, &before) ||
            weir__socket_unacked(NULL, &socket, &unacked) != 0 ||
            !weir__bio_socket_acked(descriptor, &after))
            return false;
    } while (before != after);
    *written = after + unacked;
    return true;
}

bool weir__bio_socket_notice(int descriptor, struct weir__bio_notice *notice)
{
    _Alignas(struct cmsghdr) char control[NOTICE_CONTROL_BYTES];
    struct msghdr message = {.msg_control = control, .msg_controllen = sizeof(control)};
    struct weir__notice read;

    memset(notice, 0, sizeof(*notice));
    if (recvmsg(descriptor, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
        return false;
    if (!weir__notice_read(&message, weir__clock_wall_offset_ns(NULL), &read))
        return true;
    if (read.kind == WEIR__NOTICE_STAMP) {
        notice->kind = WEIR__BIO_NOTICE_STAMP;
        notice->stamp = read.stamp;
    } else {
        notice->kind = WEIR__BIO_NOTICE_RELEASE;
        notice->first = read.sends.first;
        notice->last = read.sends.last;
        notice->copied = read.sends.copied;
    }
    return true;
}
