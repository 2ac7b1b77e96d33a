/* SPDX-License-Identifier: Apache-2.0 */
#include "server/scrape.h"

#include <string.h>

#include "core/memory.h"

#define NS_PER_MS 1000000ull

/* How often it is looked whether all have answered. */
#define LOOK_MS 1

struct weir__scrape_group *weir__scrape_group_new(unsigned count_max)
{
    struct weir__scrape_group *group = NULL;

    return weir__allocate_zeroed(1, sizeof(*group) + count_max * sizeof(group->sources[0]));
}

void weir__scrape_group_add(struct weir__scrape_group *group, struct weir_loop *loop,
                            void (*read)(void *context, struct weir__metrics *metrics),
                            void *context)
{
    unsigned count = atomic_load_explicit(&group->count, memory_order_relaxed);
    struct weir__scrape_source *source = &group->sources[count];

    source->loop = loop;
    source->read = read;
    source->context = context;
    atomic_store_explicit(&group->count, count + 1, memory_order_release);
}

/* ---- on the worker's thread ---- */

static void answer(struct weir_loop *loop, void *context)
{
    struct weir__scrape_source *source = context;

    (void)loop;
    source->read(source->context, &source->answer);
    atomic_store_explicit(&source->answered, true, memory_order_release);
}

/* ---- on the collector's ---- */

static void ask(struct weir__scrape_source *source)
{
    if (source->asked)
        return;
    atomic_store_explicit(&source->answered, false, memory_order_relaxed);
    source->asked = weir_loop_post(source->loop, answer, source) == 0;
}

/* Takes an answer that has come. Returns whether one is still awaited. */
static bool is_awaited(struct weir__scrape_source *source)
{
    if (source->asked && atomic_load_explicit(&source->answered, memory_order_acquire)) {
        source->known = source->answer;
        source->asked = false;
    }
    return source->asked;
}

static void begin(struct weir__scrape *scrape)
{
    unsigned count = atomic_load_explicit(&scrape->group->count, memory_order_acquire);

    for (unsigned i = 0; i < count; i++)
        ask(&scrape->group->sources[i]);
    scrape->deadline_ns = weir_loop_now_ns(scrape->loop) + WEIR__SCRAPE_WAIT_MS * NS_PER_MS;
    weir_timer_start(&scrape->timer, LOOK_MS);
}

static void end(struct weir__scrape *scrape, unsigned count)
{
    memset(&scrape->sum, 0, sizeof(scrape->sum));
    for (unsigned i = 0; i < count; i++)
        weir__metrics_add(&scrape->sum, &scrape->group->sources[i].known);
    scrape->deadline_ns = 0;
    scrape->ended_ns = weir_loop_now_ns(scrape->loop);
    scrape->on_done(scrape);
}

static void on_timer(struct weir_timer *timer)
{
    struct weir__scrape *scrape = timer->context;
    unsigned count = atomic_load_explicit(&scrape->group->count, memory_order_acquire);
    unsigned awaited = 0;

    if (scrape->deadline_ns == 0) {
        begin(scrape);
        return;
    }
    for (unsigned i = 0; i < count; i++)
        awaited += is_awaited(&scrape->group->sources[i]);
    if (awaited > 0 && weir_loop_now_ns(scrape->loop) < scrape->deadline_ns)
        weir_timer_start(timer, LOOK_MS);
    else
        end(scrape, count);
}

void weir__scrape_init(struct weir__scrape *scrape, struct weir__scrape_group *group,
                       struct weir_loop *loop, void (*on_done)(struct weir__scrape *scrape),
                       void *context)
{
    *scrape = (struct weir__scrape){
        .group = group,
        .loop = loop,
        .on_done = on_done,
        .context = context,
    };
    weir_timer_init(&scrape->timer, loop, on_timer, scrape);
}

void weir__scrape_want(struct weir__scrape *scrape)
{
    uint64_t now_ns = weir_loop_now_ns(scrape->loop);
    uint64_t next_ns = scrape->ended_ns + WEIR__SCRAPE_PAUSE_MS * NS_PER_MS;

    if (weir_timer_is_started(&scrape->timer))
        return;
    weir_timer_start(&scrape->timer,
                     next_ns > now_ns ? (next_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS : 0);
}

void weir__scrape_stop(struct weir__scrape *scrape)
{
    weir_timer_stop(&scrape->timer);
}
