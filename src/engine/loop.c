/* SPDX-License-Identifier: Apache-2.0 */
#include <weir/loop.h>

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include <weir/error.h>

#include "core/list.h"
#include "core/memory.h"
#include "core/pool.h"
#include "core/wheel.h"
#include "engine/engine.h"
#ifndef WEIR_PORTABLE
#include "engine/io_uring.h"
#endif

#define NS_PER_MS    1000000u
#define POSTS_MAX    65536u
#define SLAB_OBJECTS 32

struct post {
    struct post *next;
    weir_post_fn function;
    void *context;
};

struct weir_loop {
    struct weir__engine *engine;
    struct weir__wheel wheel;
    bool in_round; /* callbacks may be running */
    bool delivery;
    enum weir_zerocopy zerocopy;
    uint64_t held_bytes, held_bytes_max;
    uint64_t pinned_bytes_max;
    void *attachment;
    uint64_t waits; /* so often has the engine waited */
    const char *fallback_reason;
    struct weir__list deferred;
    struct weir__pool pools[WEIR__LOOP_POOLS];

    /* For any thread. */
    _Atomic bool stop;
    _Atomic bool has_posts; /* saves the lock in a round without posts */
    pthread_mutex_t posts_lock;
    struct post *posts_first, **posts_end;
    unsigned post_count;
};

void weir_loop_options_init(struct weir_loop_options *options)
{
    *options = (struct weir_loop_options){
        .engine = WEIR_ENGINE_AUTO,
        .delivery = true,
        .receive_bytes = 16 * 1024,
        .receive_buffers = 256,
        .held_bytes_max = 64u << 20,
        .zerocopy = WEIR_ZEROCOPY_AUTO,
        .pinned_bytes_max = 64u << 20,
    };
}

static const struct weir__engine_ops *engine_of_kind(enum weir_engine_kind kind)
{
    switch (kind) {
#ifndef WEIR_PORTABLE
    case WEIR_ENGINE_IO_URING:
        return &weir__io_uring_engine;
    case WEIR_ENGINE_EPOLL:
        return &weir__epoll_engine;
#endif
    case WEIR_ENGINE_POLL:
        return &weir__poll_engine;
    default:
        return NULL;
    }
}

/* io_uring where it works, else epoll, else poll; `reason` says why the first was passed over. */
static int open_any_engine(struct weir__engine **engine, const struct weir__engine_options *options,
                           const char **reason)
{
#ifndef WEIR_PORTABLE
    if (weir__io_uring_engine.open(engine, options) == 0)
        return 0;
    *reason = weir__io_uring_refusal();
    if (weir__epoll_engine.open(engine, options) == 0)
        return 0;
#else
    *reason = "this build has no other engine";
#endif
    return weir__poll_engine.open(engine, options);
}

int weir_loop_new(struct weir_loop **loop, const struct weir_loop_options *options)
{
    struct weir_loop_options defaults;
    struct weir__engine *engine = NULL;
    const char *reason = NULL;
    int error;

    if (!options) {
        weir_loop_options_init(&defaults);
        options = &defaults;
    }
    uint32_t buffers = options->receive_buffers;
    if (options->receive_bytes == 0 || options->receive_bytes > WEIR_RECEIVE_BYTES_MAX)
        return WEIR_EINVAL;
    if (buffers == 0 || buffers > WEIR_RECEIVE_BUFFERS_MAX || (buffers & (buffers - 1)) != 0)
        return WEIR_EINVAL;

    struct weir__engine_options engine_options = {
        .delivery = options->delivery,
        .receive_bytes = options->receive_bytes,
        .receive_buffers = buffers,
    };
    if (options->engine == WEIR_ENGINE_AUTO) {
        error = open_any_engine(&engine, &engine_options, &reason);
    } else {
        const struct weir__engine_ops *ops = engine_of_kind(options->engine);
        error = ops ? ops->open(&engine, &engine_options) : WEIR_ENOTSUP;
    }
    if (error)
        return error;
    error = weir__loop_new_on(loop, engine, options);
    if (error)
        engine->ops->close(engine);
    else
        (*loop)->fallback_reason = reason;
    return error;
}

int weir__loop_new_on(struct weir_loop **result, struct weir__engine *engine,
                      const struct weir_loop_options *options)
{
    struct weir_loop *loop = weir__allocate_zeroed(1, sizeof(*loop));

    if (!loop)
        return WEIR_ENOMEM;
    if (options->zerocopy == WEIR_ZEROCOPY_ON && !engine->ops->can_zerocopy(engine)) {
        weir__release(loop);
        return WEIR_ENOTSUP;
    }
    if (pthread_mutex_init(&loop->posts_lock, NULL) != 0) {
        weir__release(loop);
        return WEIR_ENOMEM;
    }
    loop->engine = engine;
    loop->delivery = options->delivery;
    loop->held_bytes_max = options->held_bytes_max;
    loop->zerocopy = options->zerocopy;
    if (!engine->ops->can_zerocopy(engine))
        loop->zerocopy = WEIR_ZEROCOPY_OFF;
    loop->pinned_bytes_max = options->pinned_bytes_max;
    weir__list_init(&loop->deferred);
    loop->posts_end = &loop->posts_first;
    weir__wheel_init(&loop->wheel, engine->ops->now_ns(engine) / NS_PER_MS);
    *result = loop;
    return 0;
}

void weir_loop_free(struct weir_loop *loop)
{
    if (!loop)
        return;
    assert(weir__list_is_empty(&loop->deferred));
    assert(loop->held_bytes == 0);
    while (loop->posts_first) {
        struct post *post = loop->posts_first;
        loop->posts_first = post->next;
        weir__release(post);
    }
    for (unsigned i = 0; i < WEIR__LOOP_POOLS; i++)
        weir__pool_dispose(&loop->pools[i]);
    loop->engine->ops->close(loop->engine);
    weir__release(loop->attachment);
    pthread_mutex_destroy(&loop->posts_lock);
    weir__release(loop);
}

static void run_deferred(struct weir_loop *loop)
{
    struct weir__list round, *link;

    /* What is deferred from here on waits for the next round, or one stream could hold the loop. */
    weir__list_init(&round);
    weir__list_move_all(&round, &loop->deferred);
    while ((link = weir__list_take_first(&round))) {
        struct weir__deferred *deferred = WEIR__CONTAINER(link, struct weir__deferred, link);
        deferred->run(deferred);
    }
}

static void run_timers(struct weir_loop *loop)
{
    uint64_t now_ms = weir_loop_now_ns(loop) / NS_PER_MS;
    struct weir_timer *timer;

    while ((timer = weir__wheel_expire(&loop->wheel, now_ms)))
        timer->on_expire(timer);
}

static void run_posts(struct weir_loop *loop)
{
    if (!atomic_load_explicit(&loop->has_posts, memory_order_acquire))
        return;
    pthread_mutex_lock(&loop->posts_lock);
    struct post *first = loop->posts_first;
    loop->posts_first = NULL;
    loop->posts_end = &loop->posts_first;
    loop->post_count = 0;
    atomic_store_explicit(&loop->has_posts, false, memory_order_relaxed);
    pthread_mutex_unlock(&loop->posts_lock);

    while (first) {
        struct post *post = first;
        first = post->next;
        post->function(loop, post->context);
        weir__release(post);
    }
}

static uint64_t wait_limit_ns(struct weir_loop *loop, int64_t wait_ms)
{
    uint64_t next_ms = weir__wheel_next_ms(&loop->wheel);
    uint64_t limit_ns = wait_ms < 0 ? UINT64_MAX : (uint64_t)wait_ms * NS_PER_MS;

    if (!weir__list_is_empty(&loop->deferred) ||
        atomic_load_explicit(&loop->has_posts, memory_order_relaxed))
        return 0;
    if (next_ms == UINT64_MAX)
        return limit_ns;

    uint64_t now_ns = loop->engine->ops->now_ns(loop->engine);
    uint64_t next_ns = next_ms * NS_PER_MS;
    uint64_t timer_ns = next_ns > now_ns ? next_ns - now_ns : 0;
    return timer_ns < limit_ns ? timer_ns : limit_ns;
}

int weir_loop_run_once(struct weir_loop *loop, int64_t wait_ms)
{
    /* What the caller did since the last round may be what ends now, and with it all there is to wait for. */
    bool caller_acted = !weir__list_is_empty(&loop->deferred);

    loop->in_round = true;
    weir__engine_forget_time(loop->engine);
    run_deferred(loop);
    uint64_t limit_ns = caller_acted ? 0 : wait_limit_ns(loop, wait_ms);
    weir__engine_forget_time(loop->engine);
    int error = loop->engine->ops->wait(loop->engine, limit_ns);
    loop->waits++;
    run_timers(loop);
    run_posts(loop);
    run_deferred(loop);
    loop->in_round = false;
    return error;
}

int weir_loop_run(struct weir_loop *loop)
{
    int error = 0;

    while (!error && !atomic_exchange_explicit(&loop->stop, false, memory_order_acquire))
        error = weir_loop_run_once(loop, -1);
    return error;
}

void weir_loop_stop(struct weir_loop *loop)
{
    atomic_store_explicit(&loop->stop, true, memory_order_release);
    loop->engine->ops->wake(loop->engine);
}

int weir_loop_post(struct weir_loop *loop, weir_post_fn function, void *context)
{
    struct post *post = weir__allocate(sizeof(*post));
    bool room;

    if (!post)
        return WEIR_ENOMEM;
    *post = (struct post){.function = function, .context = context};
    pthread_mutex_lock(&loop->posts_lock);
    room = loop->post_count < POSTS_MAX;
    if (room) {
        *loop->posts_end = post;
        loop->posts_end = &post->next;
        loop->post_count++;
        atomic_store_explicit(&loop->has_posts, true, memory_order_release);
    }
    pthread_mutex_unlock(&loop->posts_lock);
    if (!room) {
        weir__release(post);
        return WEIR_EQUEUEFULL;
    }
    loop->engine->ops->wake(loop->engine);
    return 0;
}

uint64_t weir_loop_now_ns(const struct weir_loop *loop)
{
    /* Between rounds there is no telling how long the caller stays away. */
    return loop->in_round ? weir__engine_now(loop->engine)
                          : loop->engine->ops->now_ns(loop->engine);
}

uint64_t weir_loop_wall_ns(const struct weir_loop *loop, uint64_t monotonic_ns)
{
    struct weir__engine *engine = loop->engine;

    return monotonic_ns + (uint64_t)(loop->in_round ? weir__engine_wall_offset(engine)
                                                    : engine->ops->wall_offset_ns(engine));
}

const char *weir_loop_engine_name(const struct weir_loop *loop)
{
    return loop->engine->ops->name;
}

const char *weir_loop_fallback_reason(const struct weir_loop *loop)
{
    return loop->fallback_reason;
}

uint64_t weir__loop_waits(const struct weir_loop *loop)
{
    return loop->waits;
}

enum weir_zerocopy weir__loop_zerocopy(const struct weir_loop *loop, uint64_t *pinned_bytes_max)
{
    *pinned_bytes_max = loop->pinned_bytes_max;
    return loop->zerocopy;
}

void **weir__loop_attachment(struct weir_loop *loop)
{
    return &loop->attachment;
}

bool weir__loop_delivery(const struct weir_loop *loop)
{
    return loop->delivery;
}

bool weir__loop_hold(struct weir_loop *loop, size_t bytes)
{
    if (loop->held_bytes > loop->held_bytes_max || bytes > loop->held_bytes_max - loop->held_bytes)
        return false;
    loop->held_bytes += bytes;
    return true;
}

void weir__loop_unhold(struct weir_loop *loop, size_t bytes)
{
    assert(bytes <= loop->held_bytes);
    loop->held_bytes -= bytes;
}

struct weir__engine *weir__loop_engine(struct weir_loop *loop)
{
    return loop->engine;
}

struct weir__pool *weir__loop_pool(struct weir_loop *loop, enum weir__loop_pool which,
                                   size_t object_bytes)
{
    struct weir__pool *pool = &loop->pools[which];

    if (pool->object_bytes == 0)
        weir__pool_init(pool, object_bytes, SLAB_OBJECTS);
    return pool;
}

void weir__loop_defer(struct weir_loop *loop, struct weir__deferred *deferred)
{
    if (!weir__list_is_linked(&deferred->link))
        weir__list_append(&loop->deferred, &deferred->link);
}

void weir_timer_init(struct weir_timer *timer, struct weir_loop *loop, weir_timer_fn on_expire,
                     void *context)
{
    *timer = (struct weir_timer){.loop = loop, .on_expire = on_expire, .context = context};
}

void weir_timer_start(struct weir_timer *timer, uint64_t delay_ms)
{
    struct weir_loop *loop = timer->loop;
    /* Rounded up, so that it never expires early. */
    uint64_t now_ms = (weir_loop_now_ns(loop) + NS_PER_MS - 1) / NS_PER_MS;

    weir__wheel_remove(timer);
    if (delay_ms > WEIR__WHEEL_END_MS)
        delay_ms = WEIR__WHEEL_END_MS;
    weir__wheel_add(&loop->wheel, timer, now_ms + delay_ms);
}

void weir_timer_stop(struct weir_timer *timer)
{
    weir__wheel_remove(timer);
}

bool weir_timer_is_started(const struct weir_timer *timer)
{
    return timer->previous_next != NULL;
}
