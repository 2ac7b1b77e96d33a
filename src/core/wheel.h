/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_CORE_WHEEL_H
#define WEIR_CORE_WHEEL_H

/*
 * A hierarchical timer wheel: adding and removing are O(1), finding the next expiry looks at one
 * word a level. Time is an argument, in milliseconds; it must not run backwards.
 */

#include <stdint.h>

#include <weir/timer.h>

#define WEIR__WHEEL_LEVELS    7
#define WEIR__WHEEL_SLOT_BITS 6
#define WEIR__WHEEL_SLOTS     (1u << WEIR__WHEEL_SLOT_BITS)

/* The end of time: 139 years after the clock's zero. A later expiry is taken for this. */
#define WEIR__WHEEL_END_MS ((1ull << (WEIR__WHEEL_LEVELS * WEIR__WHEEL_SLOT_BITS)) - 1)

struct weir__wheel {
    uint64_t now_ms;
    struct weir_timer *expired;
    uint64_t occupied[WEIR__WHEEL_LEVELS]; /* a bit for each slot that may hold a timer */
    struct weir_timer *slots[WEIR__WHEEL_LEVELS][WEIR__WHEEL_SLOTS];
};

void weir__wheel_init(struct weir__wheel *wheel, uint64_t now_ms);

/* `timer` must not be in the wheel. An expiry that has passed expires a millisecond from now. */
void weir__wheel_add(struct weir__wheel *wheel, struct weir_timer *timer, uint64_t expires_ms);

/* Takes the timer out of whatever list holds it; harmless if none does. */
void weir__wheel_remove(struct weir_timer *timer);

/*
 * Moves time on towards `now_ms`. Returns the next timer that expired by then, taken out of the
 * wheel; NULL once there is none and the wheel's time is `now_ms`. Timers of one millisecond have
 * no order.
 */
struct weir_timer *weir__wheel_expire(struct weir__wheel *wheel, uint64_t now_ms);

/* The earliest time at which expire can have work: at or before the next expiry. UINT64_MAX: none.
 */
uint64_t weir__wheel_next_ms(const struct weir__wheel *wheel);

#endif
