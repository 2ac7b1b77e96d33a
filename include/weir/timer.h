/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TIMER_H
#define WEIR_TIMER_H

#include <stdbool.h>
#include <stdint.h>

#include <weir/visibility.h>

struct weir_loop;
struct weir_timer;

/**
 * Runs on the loop's thread, once for each start that is not stopped or started anew before. It may
 * start or free its own timer.
 */
typedef void (*weir_timer_fn)(struct weir_timer *timer);

/**
 * A timer. The caller owns the memory, which must stay where it is while the timer is started. Put
 * it inside the object that it serves; starting and stopping are a few list operations, no system
 * call. The fields are the loop's own.
 */
struct weir_timer {
    struct weir_timer *next, **previous_next;
    uint64_t expires_ms;
    weir_timer_fn on_expire;
    void *context;
    struct weir_loop *loop;
};

/** Prepares a timer of `loop`; it is not started. `context` is the caller's, in `timer->context`.
 */
WEIR_API void weir_timer_init(struct weir_timer *timer, struct weir_loop *loop,
                              weir_timer_fn on_expire, void *context);

/**
 * (Re)starts the timer: `on_expire` runs once, not before `delay_ms` have passed since
 * weir_loop_now_ns, and never inside this call. Loop's thread.
 */
WEIR_API void weir_timer_start(struct weir_timer *timer, uint64_t delay_ms);

/** Stops the timer, if it runs. `on_expire` will not run. Loop's thread. */
WEIR_API void weir_timer_stop(struct weir_timer *timer);

/** Whether the timer is started. Loop's thread. */
WEIR_API bool weir_timer_is_started(const struct weir_timer *timer);

#endif
