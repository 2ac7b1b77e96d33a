/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_LOOP_H
#define WEIR_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include <weir/visibility.h>

/**
 * A loop belongs to the thread that runs it, and so does everything made on it: streams, listeners,
 * timers. Two calls are for any thread: weir_loop_post and weir_loop_stop.
 */
struct weir_loop;

/** What drives a loop. All behave alike; they differ in speed and in what they ask of the kernel.
 */
enum weir_engine_kind {
    WEIR_ENGINE_AUTO,     /**< io_uring where it works, else epoll, else poll */
    WEIR_ENGINE_IO_URING, /**< Linux 6.1 or newer, and not forbidden by seccomp or sysctl */
    WEIR_ENGINE_EPOLL,    /**< Linux */
    WEIR_ENGINE_POLL,     /**< POSIX */
};

/** Whether memory is sent without copying it first (MSG_ZEROCOPY, IORING_OP_SEND_ZC). */
enum weir_zerocopy {
    /**
     * Where it pays: big writes, over devices that really do without the copy, and as long as not too much
     * memory waits for acknowledgements. Never slower than OFF.
     */
    WEIR_ZEROCOPY_AUTO,
    WEIR_ZEROCOPY_OFF,
    /** Big writes always, whatever the device makes of it. WEIR_ENOTSUP where the system has none. */
    WEIR_ZEROCOPY_ON,
};

#define WEIR_RECEIVE_BYTES_MAX   (16u << 20)
#define WEIR_RECEIVE_BUFFERS_MAX 32768u /**< of a buffer ring (Linux, io_uring/kbuf.c) */

struct weir_loop_options {
    enum weir_engine_kind engine;
    /**
     * Streams find out when their writes were sent and delivered, and data has the kernel's receive
     * stamp. Off saves all of that; writes that ask for SENT or DELIVERED then end in FAILED with
     * WEIR_ENOTSUP.
     */
    bool delivery;
    /**
     * Bytes received at a time, and the size of each io_uring receive buffer, at most
     * WEIR_RECEIVE_BYTES_MAX. Default 16 KiB.
     */
    uint32_t receive_bytes;
    /**
     * How many receive buffers io_uring gets to choose from, for all streams of the loop; a power of
     * two, at most WEIR_RECEIVE_BUFFERS_MAX. Default 256.
     */
    uint32_t receive_buffers;
    /**
     * Bytes that had been read when their streams were told to stop reading, and that the loop keeps for
     * all of them. A stream that would bring more is reset, with WEIR_ENOBUFS. Default 64 MiB.
     */
    uint64_t held_bytes_max;
    /** Default AUTO. Streams whose TLS is the kernel's, and files, are not concerned: those send so anyway. */
    enum weir_zerocopy zerocopy;
    /**
     * Bytes of writes, and of records that TLS made, that may be pinned by zero copy at a time; what is more is copied.
     * Default 64 MiB. A user without CAP_IPC_LOCK may have less (RLIMIT_MEMLOCK): then the kernel's bound holds.
     */
    uint64_t pinned_bytes_max;
};

/** Fills in the defaults: engine AUTO, delivery on. */
WEIR_API void weir_loop_options_init(struct weir_loop_options *options);

/**
 * Makes a loop. `options` may be NULL for the defaults. Call it on the thread that will run the
 * loop: io_uring belongs to the thread of the first run. Returns 0, WEIR_EINVAL, WEIR_ENOMEM,
 * WEIR_EMFILE, or WEIR_ENOTSUP when the engine asked for by name cannot be had (AUTO falls back
 * instead).
 */
WEIR_API int weir_loop_new(struct weir_loop **loop, const struct weir_loop_options *options);

/**
 * Frees a loop that does not run and on which no stream, listener or started timer is left. NULL is
 * fine.
 */
WEIR_API void weir_loop_free(struct weir_loop *loop);

/** Runs callbacks until weir_loop_stop. Returns 0, or WEIR_EIO if the engine failed for good. */
WEIR_API int weir_loop_run(struct weir_loop *loop);

/**
 * Runs one round: waits at most `wait_ms` (-1: until something happens) and runs what is due, for
 * callers with a loop of their own. Does not wait where calls made since the last round left work to
 * be done. Returns 0 or WEIR_EIO. weir_loop_stop does not concern it, but ends its wait.
 */
WEIR_API int weir_loop_run_once(struct weir_loop *loop, int64_t wait_ms);

/**
 * Makes weir_loop_run return once the callbacks of this round have run; the next weir_loop_run, if
 * none is going on. Any thread.
 */
WEIR_API void weir_loop_stop(struct weir_loop *loop);

/**
 * Runs `function(loop, context)` on the loop's thread, soon, once, never inside this call. Any
 * thread. Posts from one thread run in their order. Posts that have not run when the loop is freed
 * never do. Returns 0, WEIR_EQUEUEFULL after 65,536 posts that have not run, or WEIR_ENOMEM.
 */
typedef void (*weir_post_fn)(struct weir_loop *loop, void *context);
WEIR_API int weir_loop_post(struct weir_loop *loop, weir_post_fn function, void *context);

/**
 * The time, in nanoseconds of CLOCK_MONOTONIC (virtual time in simulation). In callbacks it is that of
 * the round: read when it is first needed after the system was asked what has completed, and the same until
 * it is asked again. All times that libweir reports are on this clock. Loop's thread.
 */
WEIR_API uint64_t weir_loop_now_ns(const struct weir_loop *loop);

/**
 * The wall clock's nanoseconds since 1970 (CLOCK_REALTIME) for a time of this loop's clock, by what the
 * two clocks say now. Loop's thread.
 */
WEIR_API uint64_t weir_loop_wall_ns(const struct weir_loop *loop, uint64_t monotonic_ns);

/** The engine's name: "io_uring", "epoll", "poll" or "sim". Static text. */
WEIR_API const char *weir_loop_engine_name(const struct weir_loop *loop);

/** Why AUTO did not take io_uring, a few words, or NULL if it did or was not asked. Static text. */
WEIR_API const char *weir_loop_fallback_reason(const struct weir_loop *loop);

#endif
