/* SPDX-License-Identifier: Apache-2.0 */
#include "core/wheel.h"

#include <assert.h>
#include <string.h>

#define SLOT_MASK (WEIR__WHEEL_SLOTS - 1)

static void push(struct weir_timer **head, struct weir_timer *timer)
{
    timer->next = *head;
    timer->previous_next = head;
    if (timer->next)
        timer->next->previous_next = &timer->next;
    *head = timer;
}

void weir__wheel_init(struct weir__wheel *wheel, uint64_t now_ms)
{
    memset(wheel, 0, sizeof(*wheel));
    wheel->now_ms = now_ms;
}

/*
 * The level is that of the highest bit in which the expiry and now differ, so every timer of a
 * level lies in a later slot than now does, and the lowest level that is occupied holds the next
 * expiry.
 */
static void place(struct weir__wheel *wheel, struct weir_timer *timer)
{
    uint64_t difference = timer->expires_ms ^ wheel->now_ms;
    unsigned level = 0;

    assert(timer->expires_ms > wheel->now_ms);
    if (difference > SLOT_MASK)
        level = (63u - (unsigned)__builtin_clzll(difference)) / WEIR__WHEEL_SLOT_BITS;
    assert(level < WEIR__WHEEL_LEVELS);

    unsigned slot = (unsigned)(timer->expires_ms >> (level * WEIR__WHEEL_SLOT_BITS)) & SLOT_MASK;
    wheel->occupied[level] |= 1ull << slot;
    push(&wheel->slots[level][slot], timer);
}

void weir__wheel_add(struct weir__wheel *wheel, struct weir_timer *timer, uint64_t expires_ms)
{
    assert(!timer->previous_next);
    if (expires_ms <= wheel->now_ms)
        expires_ms = wheel->now_ms + 1;
    if (expires_ms > WEIR__WHEEL_END_MS)
        expires_ms = WEIR__WHEEL_END_MS;
    timer->expires_ms = expires_ms;
    place(wheel, timer);
}

void weir__wheel_remove(struct weir_timer *timer)
{
    if (!timer->previous_next)
        return;
    *timer->previous_next = timer->next;
    if (timer->next)
        timer->next->previous_next = timer->previous_next;
    timer->next = NULL;
    timer->previous_next = NULL;
}

static void empty_slot(struct weir__wheel *wheel, unsigned level)
{
    unsigned slot = (unsigned)(wheel->now_ms >> (level * WEIR__WHEEL_SLOT_BITS)) & SLOT_MASK;
    struct weir_timer *timer;

    while ((timer = wheel->slots[level][slot])) {
        weir__wheel_remove(timer);
        if (timer->expires_ms <= wheel->now_ms)
            push(&wheel->expired, timer);
        else
            place(wheel, timer);
    }
    wheel->occupied[level] &= ~(1ull << slot);
}

uint64_t weir__wheel_next_ms(const struct weir__wheel *wheel)
{
    for (unsigned level = 0; level < WEIR__WHEEL_LEVELS; level++) {
        unsigned shift = level * WEIR__WHEEL_SLOT_BITS;
        unsigned current = (unsigned)(wheel->now_ms >> shift) & SLOT_MASK;
        uint64_t later =
            current == SLOT_MASK ? 0 : wheel->occupied[level] & (~0ull << (current + 1));

        if (later) {
            uint64_t block = (wheel->now_ms >> shift) & ~(uint64_t)SLOT_MASK;
            return (block | (unsigned)__builtin_ctzll(later)) << shift;
        }
    }
    return UINT64_MAX;
}

static void step(struct weir__wheel *wheel, uint64_t now_ms)
{
    wheel->now_ms = now_ms;
    for (unsigned level = WEIR__WHEEL_LEVELS; level-- > 0;) {
        uint64_t below = (1ull << (level * WEIR__WHEEL_SLOT_BITS)) - 1;
        if ((now_ms & below) == 0)
            empty_slot(wheel, level);
    }
}

struct weir_timer *weir__wheel_expire(struct weir__wheel *wheel, uint64_t now_ms)
{
    assert(now_ms >= wheel->now_ms);
    while (!wheel->expired) {
        uint64_t next_ms = weir__wheel_next_ms(wheel);
        if (next_ms > now_ms) {
            wheel->now_ms = now_ms;
            return NULL;
        }
        step(wheel, next_ms);
    }
    struct weir_timer *timer = wheel->expired;
    weir__wheel_remove(timer);
    return timer;
}
