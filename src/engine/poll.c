/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The readiness engine on poll: POSIX alone, for a port to start from. Each socket that an
 * operation waits for has a place in one dense array.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <weir/error.h>

#include "core/memory.h"
#include "engine/readiness.h"
#include "engine/socket.h"

#define PLACES_AT_FIRST 64

struct poll_engine {
    struct weir__readiness readiness;
    int wake_read, wake_write;
    struct pollfd *polls;          /* the first is the pipe's */
    struct weir__socket **sockets; /* whose place it is */
    uint32_t count, room;
};

static int room_make(struct poll_engine *engine, uint32_t room)
{
    struct pollfd *polls = weir__reallocate(engine->polls, room * sizeof(*polls));
    if (!polls)
        return WEIR_ENOMEM;
    engine->polls = polls;
    struct weir__socket **sockets = weir__reallocate(engine->sockets, room * sizeof(*sockets));
    if (!sockets)
        return WEIR_ENOMEM;
    engine->sockets = sockets;
    engine->room = room;
    return 0;
}

static void place_set(struct poll_engine *engine, uint32_t index, struct weir__socket *socket,
                      unsigned interest)
{
    struct pollfd *poll = &engine->polls[index];

    /* Errors and hang-ups cannot be left out of `events`: poll skips a negative descriptor. */
    poll->fd = interest ? socket->handle : -1;
    poll->events = (short)((interest & WEIR__READY_IN ? POLLIN : 0) |
                           (interest & WEIR__READY_OUT ? POLLOUT : 0));
    poll->revents = 0;
}

static int poll_add(struct weir__readiness *readiness, struct weir__socket *socket,
                    unsigned interest)
{
    struct poll_engine *engine = (struct poll_engine *)readiness;

    if (engine->count == engine->room && room_make(engine, engine->room * 2) != 0)
        return WEIR_ENOMEM;
    weir__readiness_socket(socket)->poller_index = engine->count;
    engine->sockets[engine->count] = socket;
    place_set(engine, engine->count, socket, interest);
    engine->count++;
    return 0;
}

static void poll_modify(struct weir__readiness *readiness, struct weir__socket *socket,
                        unsigned interest)
{
    struct poll_engine *engine = (struct poll_engine *)readiness;
    uint32_t index = weir__readiness_socket(socket)->poller_index;

    assert(engine->sockets[index] == socket);
    place_set(engine, index, socket, interest);
}

static void poll_remove(struct weir__readiness *readiness, struct weir__socket *socket)
{
    struct poll_engine *engine = (struct poll_engine *)readiness;
    uint32_t index = weir__readiness_socket(socket)->poller_index;
    uint32_t last = engine->count - 1;

    assert(engine->sockets[index] == socket);
    engine->polls[index] = engine->polls[last];
    engine->sockets[index] = engine->sockets[last];
    weir__readiness_socket(engine->sockets[index])->poller_index = index;
    engine->count = last;
}

static unsigned ready_of(short events)
{
    unsigned ready = 0;

    if (events & POLLIN)
        ready |= WEIR__READY_IN;
    if (events & POLLOUT)
        ready |= WEIR__READY_OUT;
    if (events & POLLERR)
        ready |= WEIR__READY_ERROR;
    if (events & POLLHUP)
        ready |= WEIR__READY_HANGUP;
    return ready;
}

static void wake_read(struct poll_engine *engine)
{
    char bytes[256];
    ssize_t length;

    do
        length = read(engine->wake_read, bytes, sizeof(bytes));
    while (length == sizeof(bytes));
}

static int poll_poller_wait(struct weir__readiness *readiness, uint64_t timeout_ns, bool *woken)
{
    struct poll_engine *engine = (struct poll_engine *)readiness;
    int count = poll(engine->polls, engine->count, weir__timeout_ms(timeout_ns));

    if (count < 0)
        return errno == EINTR || errno == EAGAIN ? 0 : WEIR_EIO;
    if (count > 0 && engine->polls[0].revents) {
        wake_read(engine);
        *woken = true;
        count--;
    }
    for (uint32_t i = 1; i < engine->count && count > 0; i++) {
        short events = engine->polls[i].revents;
        if (!events)
            continue;
        count--;
        assert(!(events & POLLNVAL));
        weir__readiness_signal(readiness, engine->sockets[i], ready_of(events));
    }
    return 0;
}

static const struct weir__poller poll_poller = {
    .edge_triggered = false,
    .add = poll_add,
    .modify = poll_modify,
    .remove = poll_remove,
    .wait = poll_poller_wait,
};

static void poll_close(struct weir__engine *base)
{
    struct poll_engine *engine = (struct poll_engine *)base;

    if (engine->wake_read >= 0) {
        (void)close(engine->wake_read);
        (void)close(engine->wake_write);
    }
    weir__release(engine->polls);
    weir__release(engine->sockets);
    weir__readiness_dispose(&engine->readiness);
    weir__release(engine);
}

static int descriptor_prepare(int descriptor)
{
    if (fcntl(descriptor, F_SETFL, O_NONBLOCK) != 0 || fcntl(descriptor, F_SETFD, FD_CLOEXEC) != 0)
        return WEIR_EMFILE;
    return 0;
}

static int pipe_open(struct poll_engine *engine)
{
    int ends[2];

    if (pipe(ends) != 0)
        return WEIR_EMFILE;
    engine->wake_read = ends[0];
    engine->wake_write = ends[1];
    int rc = descriptor_prepare(ends[0]);
    return rc == 0 ? descriptor_prepare(ends[1]) : rc;
}

static int poll_open(struct weir__engine **result, const struct weir__engine_options *options)
{
    struct poll_engine *engine = weir__allocate_zeroed(1, sizeof(*engine));

    if (!engine)
        return WEIR_ENOMEM;
    engine->wake_read = engine->wake_write = -1;
    int rc = weir__readiness_init(&engine->readiness, &poll_poller, &weir__poll_engine, options);
    if (rc == 0)
        rc = room_make(engine, PLACES_AT_FIRST);
    if (rc == 0)
        rc = pipe_open(engine);
    if (rc != 0) {
        poll_close(&engine->readiness.engine);
        return rc;
    }
    engine->polls[0] = (struct pollfd){.fd = engine->wake_read, .events = POLLIN};
    engine->sockets[0] = NULL;
    engine->count = 1;
    *result = &engine->readiness.engine;
    return 0;
}

static void poll_wake(struct weir__engine *base)
{
    struct poll_engine *engine = (struct poll_engine *)base;
    ssize_t length;

    /* A full pipe wakes, too. */
    do
        length = write(engine->wake_write, "", 1);
    while (length < 0 && errno == EINTR);
}

const struct weir__engine_ops weir__poll_engine = {
    .name = "poll",
    .open = poll_open,
    .close = poll_close,
    .submit = weir__readiness_submit,
    .cancel = weir__readiness_cancel,
    .wait = weir__readiness_wait,
    .wake = poll_wake,
    .now_ns = weir__clock_now_ns,
    .wall_offset_ns = weir__clock_wall_offset_ns,
    .socket_listen = weir__readiness_socket_listen,
    .socket_open = weir__readiness_socket_open,
    .socket_adopt = weir__readiness_socket_adopt,
    .socket_prepare = weir__socket_prepare,
    .socket_unsent_max = weir__socket_unsent_max,
    .socket_congestion = weir__socket_congestion,
    .socket_shutdown = weir__socket_shutdown,
    .socket_close = weir__readiness_socket_close,
    .socket_reset = weir__readiness_socket_reset,
    .socket_abort = weir__socket_abort,
    .socket_info = weir__socket_info,
    .socket_unacked = weir__socket_unacked,
    .socket_tls_attach = weir__readiness_socket_tls_attach,
    .socket_tls_sequence = weir__socket_tls_sequence,
    .tls_can_rekey = weir__tls_can_rekey,
    .file_read = weir__file_read,
    .can_zerocopy = weir__can_zerocopy,
    .memory_register = weir__memory_not_registered,
    .memory_unregister = weir__memory_never_registered,
    .socket_local = weir__socket_local,
    .socket_peer = weir__socket_peer,
};
