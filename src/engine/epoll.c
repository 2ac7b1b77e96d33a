/* SPDX-License-Identifier: Apache-2.0 */
/* The readiness engine on epoll, edge-triggered: a socket is added once, and no request needs
 * epoll_ctl. */

#include <assert.h>
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <weir/error.h>

#include "core/memory.h"
#include "engine/readiness.h"
#include "engine/socket.h"

#define EVENTS_PER_WAIT 256
#define NS_PER_SECOND   UINT64_C(1000000000)

struct epoll_engine {
    struct weir__readiness readiness;
    int epoll;
    int wake;
    bool milliseconds; /* no epoll_pwait2: before Linux 5.11, or forbidden */
    struct epoll_event events[EVENTS_PER_WAIT];
};

static struct epoll_event event_of(struct weir__socket *socket, unsigned interest)
{
    struct epoll_event event = {.events = EPOLLET | EPOLLIN | EPOLLRDHUP, .data.ptr = socket};

    if (interest & WEIR__READY_OUT)
        event.events |= EPOLLOUT;
    return event;
}

static int epoll_add(struct weir__readiness *readiness, struct weir__socket *socket,
                     unsigned interest)
{
    struct epoll_engine *engine = (struct epoll_engine *)readiness;
    struct epoll_event event = event_of(socket, interest);

    if (epoll_ctl(engine->epoll, EPOLL_CTL_ADD, socket->handle, &event) == 0)
        return 0;
    /* ENOSPC is the user's limit of watches, fs.epoll.max_user_watches. */
    return errno == ENOMEM ? WEIR_ENOMEM : WEIR_ENOBUFS;
}

static void epoll_modify(struct weir__readiness *readiness, struct weir__socket *socket,
                         unsigned interest)
{
    struct epoll_engine *engine = (struct epoll_engine *)readiness;
    struct epoll_event event = event_of(socket, interest);
    int rc = epoll_ctl(engine->epoll, EPOLL_CTL_MOD, socket->handle, &event);

    assert(rc == 0);
    (void)rc;
}

static void epoll_remove(struct weir__readiness *readiness, struct weir__socket *socket)
{
    struct epoll_engine *engine = (struct epoll_engine *)readiness;

    (void)epoll_ctl(engine->epoll, EPOLL_CTL_DEL, socket->handle, NULL);
}

static int events_get(struct epoll_engine *engine, uint64_t timeout_ns)
{
    if (timeout_ns != 0 && timeout_ns != UINT64_MAX && !engine->milliseconds) {
        const struct timespec timeout = {
            .tv_sec = (time_t)(timeout_ns / NS_PER_SECOND),
            .tv_nsec = (long)(timeout_ns % NS_PER_SECOND),
        };
        int count = epoll_pwait2(engine->epoll, engine->events, EVENTS_PER_WAIT, &timeout, NULL);
        if (count >= 0 || (errno != ENOSYS && errno != EPERM))
            return count;
        engine->milliseconds = true;
    }
    return epoll_wait(engine->epoll, engine->events, EVENTS_PER_WAIT, weir__timeout_ms(timeout_ns));
}

static unsigned ready_of(uint32_t events)
{
    unsigned ready = 0;

    if (events & EPOLLIN)
        ready |= WEIR__READY_IN;
    if (events & EPOLLOUT)
        ready |= WEIR__READY_OUT;
    if (events & EPOLLERR)
        ready |= WEIR__READY_ERROR;
    if (events & EPOLLHUP)
        ready |= WEIR__READY_HANGUP;
    if (events & EPOLLRDHUP)
        ready |= WEIR__READY_END;
    return ready;
}

static int epoll_poller_wait(struct weir__readiness *readiness, uint64_t timeout_ns, bool *woken)
{
    struct epoll_engine *engine = (struct epoll_engine *)readiness;
    int count = events_get(engine, timeout_ns);

    if (count < 0)
        return errno == EINTR ? 0 : WEIR_EIO;
    for (int i = 0; i < count; i++) {
        struct weir__socket *socket = engine->events[i].data.ptr;
        if (socket)
            weir__readiness_signal(readiness, socket, ready_of(engine->events[i].events));
        else
            *woken = true;
    }
    return 0;
}

static const struct weir__poller epoll_poller = {
    .edge_triggered = true,
    .add = epoll_add,
    .modify = epoll_modify,
    .remove = epoll_remove,
    .wait = epoll_poller_wait,
};

static void epoll_close(struct weir__engine *base)
{
    struct epoll_engine *engine = (struct epoll_engine *)base;

    if (engine->wake >= 0)
        (void)close(engine->wake);
    if (engine->epoll >= 0)
        (void)close(engine->epoll);
    weir__readiness_dispose(&engine->readiness);
    weir__release(engine);
}

static int descriptors_open(struct epoll_engine *engine)
{
    /* The wake-ups are never read: each write is an edge, and 2^64 of them do not come. */
    struct epoll_event event = {.events = EPOLLET | EPOLLIN, .data.ptr = NULL};

    engine->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (engine->epoll < 0)
        return errno == EMFILE || errno == ENFILE ? WEIR_EMFILE : WEIR_ENOMEM;
    engine->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (engine->wake < 0)
        return errno == EMFILE || errno == ENFILE ? WEIR_EMFILE : WEIR_ENOMEM;
    return epoll_ctl(engine->epoll, EPOLL_CTL_ADD, engine->wake, &event) == 0 ? 0 : WEIR_ENOMEM;
}

static int epoll_open(struct weir__engine **result, const struct weir__engine_options *options)
{
    struct epoll_engine *engine = weir__allocate_zeroed(1, sizeof(*engine));

    if (!engine)
        return WEIR_ENOMEM;
    engine->epoll = engine->wake = -1;
    int rc = weir__readiness_init(&engine->readiness, &epoll_poller, &weir__epoll_engine, options);
    if (rc == 0)
        rc = descriptors_open(engine);
    if (rc != 0) {
        epoll_close(&engine->readiness.engine);
        return rc;
    }
    *result = &engine->readiness.engine;
    return 0;
}

static void epoll_wake(struct weir__engine *base)
{
    struct epoll_engine *engine = (struct epoll_engine *)base;
    const uint64_t one = 1;
    ssize_t length = write(engine->wake, &one, sizeof(one));

    assert(length == sizeof(one));
    (void)length;
}

const struct weir__engine_ops weir__epoll_engine = {
    .name = "epoll",
    .open = epoll_open,
    .close = epoll_close,
    .submit = weir__readiness_submit,
    .cancel = weir__readiness_cancel,
    .wait = weir__readiness_wait,
    .wake = epoll_wake,
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
