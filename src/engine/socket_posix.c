/* SPDX-License-Identifier: Apache-2.0 */
/* The part of socket.h that socket_linux.c does better, with POSIX alone: no stamps and no
 * TCP_INFO. */

#include "engine/socket.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include <weir/error.h>

/* Of a file, read at a time; it is on the stack. */
#define SEND_FILE_PIECE_BYTES (32u << 10)

/* Connections that died in the backlog, skipped in one call; more is a broken listener. */
#define ACCEPT_SKIPS_MAX 64

/* Non-blocking and close-on-exec: takes the descriptor, or closes it and returns an error. */
static int descriptor_prepare(int descriptor)
{
    if (fcntl(descriptor, F_SETFL, O_NONBLOCK) == 0 && fcntl(descriptor, F_SETFD, FD_CLOEXEC) == 0)
        return descriptor;
    int error = weir__error_from_errno(errno);
    weir__descriptor_close(descriptor, false);
    return error;
}

int weir__descriptor_open(int family)
{
    int descriptor = socket(family, SOCK_STREAM, IPPROTO_TCP);
    return descriptor >= 0 ? descriptor_prepare(descriptor) : weir__error_from_errno(errno);
}

int weir__descriptor_accept(int listener)
{
    for (int skipped = 0; skipped < ACCEPT_SKIPS_MAX; skipped++) {
        int descriptor = accept(listener, NULL, NULL);
        if (descriptor >= 0)
            return descriptor_prepare(descriptor);
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return WEIR__WOULD_BLOCK;
        if (errno != EINTR && errno != ECONNABORTED && errno != EPROTO)
            return weir__error_from_errno(errno);
    }
    return WEIR_EIO;
}

void weir__socket_prepare(struct weir__engine *engine, struct weir__socket *socket, bool no_delay,
                          bool delivery)
{
    (void)engine;
    (void)delivery;
    if (no_delay) {
        int one = 1;
        (void)setsockopt(socket->handle, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    socket->stamps = false;
}

void weir__socket_unsent_max(struct weir__engine *engine, struct weir__socket *socket,
                             uint32_t bytes)
{
    (void)engine;
    (void)socket;
    (void)bytes;
}

void weir__socket_congestion(struct weir__engine *engine, const struct weir__socket *socket,
                             char name[WEIR__CONGESTION_NAME_BYTES])
{
    (void)engine;
    (void)socket;
    name[0] = '\0';
}

int weir__socket_info(struct weir__engine *engine, struct weir__socket *socket,
                      struct weir__socket_info *info)
{
    (void)engine;
    (void)socket;
    memset(info, 0, sizeof(*info));
    return WEIR_ENOTSUP;
}

int weir__socket_unacked(struct weir__engine *engine, struct weir__socket *socket, uint64_t *bytes)
{
    (void)engine;
    (void)socket;
    *bytes = 0;
    return WEIR_ENOTSUP;
}

int weir__socket_tls_attach(struct weir__engine *engine, struct weir__socket *socket,
                            enum weir__tls_direction direction, const struct weir__tls_keys *keys)
{
    (void)engine;
    (void)socket;
    (void)direction;
    (void)keys;
    return WEIR_ENOTSUP;
}

int weir__socket_tls_sequence(struct weir__engine *engine, struct weir__socket *socket,
                              uint64_t *sequence)
{
    (void)engine;
    (void)socket;
    *sequence = 0;
    return WEIR_ENOTSUP;
}

bool weir__tls_can_rekey(struct weir__engine *engine)
{
    (void)engine;
    return false;
}

int weir__socket_holds(struct weir__socket *socket)
{
    (void)socket;
    return 0;
}

int weir__socket_error(struct weir__socket *socket)
{
    int error = 0;
    socklen_t length = sizeof(error);
    if (getsockopt(socket->handle, SOL_SOCKET, SO_ERROR, &error, &length) != 0)
        error = errno;
    return weir__error_from_errno(error);
}

bool weir__descriptor_is_closed(int descriptor)
{
    (void)descriptor;
    return true;
}

static int64_t outcome(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK ? WEIR__WOULD_BLOCK
                                                   : weir__error_from_errno(error);
}

int64_t weir__socket_receive(struct weir__engine *engine, struct weir__socket *socket, void *data,
                             size_t size, struct weir__completion *completion)
{
    (void)engine;
    ssize_t length;

    completion->at_ns = 0;
    completion->record_type = 0;
    do
        length = recv(socket->handle, data, size, 0);
    while (length < 0 && errno == EINTR);
    return length >= 0 ? length : outcome(errno);
}

int64_t weir__socket_send(struct weir__socket *socket, const struct iovec *parts,
                          unsigned part_count, unsigned flags, uint8_t record_type)
{
    struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = (int)part_count};
    ssize_t length;

    (void)flags;
    assert(record_type == 0);
    do
        length = sendmsg(socket->handle, &message, MSG_NOSIGNAL);
    while (length < 0 && errno == EINTR);
    return length >= 0 ? length : outcome(errno);
}

static int64_t send_file_piece(struct weir__socket *socket, int file, uint64_t offset, size_t size)
{
    char piece[SEND_FILE_PIECE_BYTES];
    ssize_t length;

    do
        length = pread(file, piece, size, (off_t)offset);
    while (length < 0 && errno == EINTR);
    if (length < 0)
        return weir__error_from_errno(errno);
    if (length == 0)
        return WEIR_ETRUNCATED;
    const struct iovec part = {.iov_base = piece, .iov_len = (size_t)length};
    return weir__socket_send(socket, &part, 1, 0, 0);
}

int64_t weir__socket_send_file(struct weir__socket *socket, int file, uint64_t offset,
                               uint64_t length, size_t piece, unsigned flags)
{
    uint64_t bytes = length < WEIR__SEND_FILE_BYTES_MAX ? length : WEIR__SEND_FILE_BYTES_MAX;
    uint64_t taken = 0;
    int64_t result = WEIR__WOULD_BLOCK;

    (void)piece;
    (void)flags;
    assert(length > 0);
    while (taken < bytes) {
        uint64_t left = bytes - taken;
        size_t size = left < SEND_FILE_PIECE_BYTES ? (size_t)left : SEND_FILE_PIECE_BYTES;
        result = send_file_piece(socket, file, offset + taken, size);
        if (result < 0)
            break;
        taken += (uint64_t)result;
    }
    return taken > 0 ? (int64_t)taken : result;
}

unsigned weir__descriptor_notices(int descriptor, struct weir__notice *notices, unsigned count)
{
    (void)descriptor;
    (void)notices;
    (void)count;
    return 0;
}

bool weir__descriptor_zerocopy(int descriptor)
{
    (void)descriptor;
    return false;
}

bool weir__can_zerocopy(struct weir__engine *engine)
{
    (void)engine;
    return false;
}

/* The peer learns it at the close: POSIX has no call that sends a RST before. No pin waits for it here. */
void weir__socket_abort(struct weir__engine *engine, struct weir__socket *socket)
{
    (void)engine;
    weir__descriptor_close_resets(socket->handle);
    (void)shutdown(socket->handle, SHUT_RDWR);
}
