/* SPDX-License-Identifier: Apache-2.0 */
/* The part of socket.h that needs nothing but POSIX, whatever the system. */

#include "engine/socket.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <weir/error.h>

#define NS_PER_SECOND UINT64_C(1000000000)

int weir__error_from_errno(int error)
{
    switch (error) {
    case 0:
        return 0;
    case ENOMEM:
        return WEIR_ENOMEM;
    case EINVAL:
    case EAFNOSUPPORT:
        return WEIR_EINVAL;
    case ENOTSUP:
#if EOPNOTSUPP != ENOTSUP
    case EOPNOTSUPP:
#endif
    case ENOSYS:
    case ENOPROTOOPT:
        return WEIR_ENOTSUP;
    case ECANCELED:
        return WEIR_ECANCELLED;
    /* A RST that meets a socket whose peer has already sent its FIN is EPIPE (Linux, tcp_reset). */
    case EPIPE:
    case ECONNRESET:
    case ECONNABORTED:
    case ENOTCONN:
        return WEIR_ERESET;
    case ETIMEDOUT:
        return WEIR_ETIMEDOUT;
    case ECONNREFUSED:
        return WEIR_EREFUSED;
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENETDOWN:
        return WEIR_EUNREACHABLE;
    case EADDRINUSE:
        return WEIR_EADDRINUSE;
    case EADDRNOTAVAIL:
        return WEIR_EADDRNOTAVAIL;
    case EACCES:
    case EPERM:
        return WEIR_EACCESS;
    case EMFILE:
    case ENFILE:
        return WEIR_EMFILE;
    case ENOBUFS:
        return WEIR_ENOBUFS;
    default:
        return WEIR_EIO;
    }
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    int rc = clock_gettime(clock, &now);
    assert(rc == 0);
    (void)rc;
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

uint64_t weir__clock_now_ns(struct weir__engine *engine)
{
    (void)engine;
    return clock_ns(CLOCK_MONOTONIC);
}

int64_t weir__clock_wall_offset_ns(struct weir__engine *engine)
{
    /* A thread preempted between the two clocks would be off by its whole pause: such a sample is
     * seen by the monotonic time that passed around it, and taken again. */
    enum { TRIES = 4, WINDOW_NS = 2000 };
    uint64_t window = UINT64_MAX;
    int64_t offset = 0;

    (void)engine;
    for (int i = 0; i < TRIES && window > WINDOW_NS; i++) {
        uint64_t before = clock_ns(CLOCK_MONOTONIC);
        uint64_t wall = clock_ns(CLOCK_REALTIME);
        uint64_t passed = clock_ns(CLOCK_MONOTONIC) - before;
        if (passed < window) {
            window = passed;
            offset = (int64_t)(wall - (before + passed / 2));
        }
    }
    return offset;
}

static int set_option(int descriptor, int level, int option, int value)
{
    return setsockopt(descriptor, level, option, &value, sizeof(value));
}

static int listen_at(int descriptor, const struct weir_address *address,
                     const struct weir__listen_options *options)
{
    unsigned backlog = options->backlog < INT_MAX ? options->backlog : INT_MAX;

    if (set_option(descriptor, SOL_SOCKET, SO_REUSEADDR, 1) != 0)
        return weir__error_from_errno(errno);
    if (options->share_port) {
#ifdef SO_REUSEPORT
        if (set_option(descriptor, SOL_SOCKET, SO_REUSEPORT, 1) != 0)
            return weir__error_from_errno(errno);
#else
        return WEIR_EINVAL;
#endif
    }
    if (bind(descriptor, &address->socket.any, address->length) != 0 ||
        listen(descriptor, (int)backlog) != 0)
        return weir__error_from_errno(errno);
    return 0;
}

int weir__socket_listen(struct weir__engine *engine, struct weir__socket *socket,
                        const struct weir_address *address,
                        const struct weir__listen_options *options)
{
    int descriptor = weir__descriptor_open(address->socket.any.sa_family);

    if (descriptor < 0)
        return descriptor;
    int rc = listen_at(descriptor, address, options);
    if (rc != 0) {
        weir__descriptor_close(descriptor, false);
        return rc;
    }
    socket->handle = descriptor;
    /* What it accepts inherits both: no call is needed for each connection. */
    if (options->no_delay)
        (void)set_option(descriptor, IPPROTO_TCP, TCP_NODELAY, 1);
    if (options->unsent_bytes_max > 0)
        weir__socket_unsent_max(engine, socket, options->unsent_bytes_max);
    return 0;
}

int weir__socket_open(struct weir__engine *engine, struct weir__socket *socket, int family)
{
    int descriptor = weir__descriptor_open(family);

    (void)engine;
    if (descriptor < 0)
        return descriptor;
    socket->handle = descriptor;
    /* The SYN of the side that connects is one byte of its count (Linux, tcp_snd_una_update); the
     * side that accepts begins behind its own. */
    socket->handshake_bytes = 1;
    return 0;
}

int weir__socket_shutdown(struct weir__engine *engine, struct weir__socket *socket)
{
    (void)engine;
    return shutdown(socket->handle, SHUT_WR) == 0 ? 0 : weir__error_from_errno(errno);
}

typedef int (*name_fn)(int, struct sockaddr *restrict, socklen_t *restrict);

static int socket_name(int descriptor, name_fn get, struct weir_address *address)
{
    memset(address, 0, sizeof(*address));
    socklen_t length = sizeof(address->socket);
    if (get(descriptor, &address->socket.any, &length) != 0 || length > sizeof(address->socket)) {
        address->length = 0;
        return WEIR_EIO;
    }
    address->length = length;
    return 0;
}

int weir__socket_local(struct weir__engine *engine, const struct weir__socket *socket,
                       struct weir_address *address)
{
    (void)engine;
    return socket_name(socket->handle, getsockname, address);
}

int weir__socket_peer(struct weir__engine *engine, const struct weir__socket *socket,
                      struct weir_address *address)
{
    (void)engine;
    return socket_name(socket->handle, getpeername, address);
}

void weir__descriptor_close_resets(int descriptor)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

void weir__descriptor_close(int descriptor, bool reset)
{
    if (reset)
        weir__descriptor_close_resets(descriptor);
    /* Even after EINTR the descriptor is gone on Linux, and may be gone elsewhere: never a second
     * try. */
    (void)close(descriptor);
}

int weir__memory_not_registered(struct weir__engine *engine, void *memory, size_t bytes)
{
    (void)engine;
    (void)memory;
    (void)bytes;
    return WEIR_ENOTSUP;
}

void weir__memory_never_registered(struct weir__engine *engine, void *memory)
{
    (void)engine;
    (void)memory;
    assert(false);
}

int64_t weir__file_read(struct weir__engine *engine, int file, uint64_t offset, void *data,
                        size_t length)
{
    size_t taken = 0;

    (void)engine;
    while (taken < length) {
        ssize_t piece = pread(file, (char *)data + taken, length - taken, (off_t)(offset + taken));
        if (piece < 0 && errno == EINTR)
            continue;
        if (piece < 0)
            return WEIR_EIO;
        if (piece == 0)
            break;
        taken += (size_t)piece;
    }
    return (int64_t)taken;
}
