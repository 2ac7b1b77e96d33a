/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_LISTENER_H
#define WEIR_LISTENER_H

#include <stdbool.h>
#include <stdint.h>

#include <weir/address.h>
#include <weir/stream.h>
#include <weir/visibility.h>

struct weir_loop;
/** A listening socket. All calls: the loop's thread. */
struct weir_listener;

/**
 * A peer connected. Runs on the loop's thread, never inside weir_listener_start. The callee owns
 * `stream` and must set its handler, close or abort it before it returns. `stream` NULL: accepting
 * failed with `error` (WEIR_EMFILE, WEIR_ENOBUFS, WEIR_ENOMEM, WEIR_EACCESS, WEIR_EIO); the listener
 * tries again by itself after WEIR_ACCEPT_RETRY_MS, or goes on at once where memory for this one
 * connection was missing, which has then been reset.
 */
typedef void (*weir_accept_fn)(struct weir_listener *listener, struct weir_stream *stream,
                               int error);
#define WEIR_ACCEPT_RETRY_MS 100

/**
 * Runs once, after weir_listener_close and never inside it; no accept follows it. Then the listener is
 * freed.
 */
typedef void (*weir_listener_close_fn)(struct weir_listener *listener);

struct weir_listener_options {
    uint32_t backlog; /**< default 4096; the kernel caps it (net.core.somaxconn) */
    bool share_port;  /**< SO_REUSEPORT: one listener for each thread. Default false. */
    struct weir_stream_options stream; /**< for each accepted stream */
};

/** Fills in the defaults. */
WEIR_API void weir_listener_options_init(struct weir_listener_options *options);

/**
 * Listens at `address` and starts to accept. `address` and `options`, which may be NULL, are copied.
 * Returns 0, WEIR_EADDRINUSE, WEIR_EADDRNOTAVAIL, WEIR_EACCESS, WEIR_EMFILE, WEIR_ENOBUFS,
 * WEIR_ENOMEM, WEIR_EINVAL or WEIR_EIO.
 */
WEIR_API int weir_listener_start(struct weir_listener **listener, struct weir_loop *loop,
                                 const struct weir_address *address,
                                 const struct weir_listener_options *options,
                                 weir_accept_fn on_accept, void *context);

/** What was given to weir_listener_start. */
WEIR_API void *weir_listener_context(const struct weir_listener *listener);

/**
 * Stops accepting for now; peers wait in the kernel's backlog. What io_uring had accepted before it
 * heard of this is still told.
 */
WEIR_API void weir_listener_pause(struct weir_listener *listener);
/** Accepts again. */
WEIR_API void weir_listener_resume(struct weir_listener *listener);

/** The address it listens at, with the port that the kernel chose for 0. Returns 0 or WEIR_EIO. */
WEIR_API int weir_listener_address(const struct weir_listener *listener,
                                   struct weir_address *address);

/**
 * Stops listening. `on_close` (may be NULL) follows; accepted streams live on, and peers that were not
 * told of yet are reset. Call it once.
 */
WEIR_API void weir_listener_close(struct weir_listener *listener, weir_listener_close_fn on_close);

#endif
