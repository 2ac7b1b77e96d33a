/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_SERVER_SCRAPE_H
#define WEIR_SERVER_SCRAPE_H

/*
 * The workers' numbers, brought together on the loop of one of them. Each worker counts in plain numbers of its own
 * thread, which costs a store; it is asked by a post for a copy, taken between two callbacks, so that what belongs
 * together in it is of one moment. A worker that is busy for long holds nothing up: then its last copy counts.
 */

#include <stdatomic.h>
#include <stdbool.h>

#include <weir/loop.h>
#include <weir/timer.h>

#include "server/metrics.h"

/* How long the slowest worker is waited for. */
#define WEIR__SCRAPE_WAIT_MS 100
/* Least time from the end of one scrape to the next: whoever asks more often gets no more. */
#define WEIR__SCRAPE_PAUSE_MS 20

/* A worker. Lives longer than the collector's loop and than its own. */
struct weir__scrape_source {
    struct weir_loop *loop;
    /* Fills in all numbers. On that loop's thread. */
    void (*read)(void *context, struct weir__metrics *metrics);
    void *context;

    struct weir__metrics answer; /* the worker's to write while it is asked and has not answered */
    _Atomic bool answered;       /* release; the collector acquires */
    bool asked;                  /* the collector's, and so is what it knows */
    struct weir__metrics known;
};

/* All workers: the main thread adds one after the other, the collector sees those that are there. */
struct weir__scrape_group {
    _Atomic unsigned count;
    struct weir__scrape_source sources[];
};

/* Room for `count_max`; NULL when memory is out. To be released when all loops have ended. */
struct weir__scrape_group *weir__scrape_group_new(unsigned count_max);
/* Main thread. */
void weir__scrape_group_add(struct weir__scrape_group *group, struct weir_loop *loop,
                            void (*read)(void *context, struct weir__metrics *metrics),
                            void *context);

struct weir__scrape {
    struct weir__scrape_group *group;
    struct weir_loop *loop;
    struct weir_timer timer;
    uint64_t ended_ns;    /* when the last one was done */
    uint64_t deadline_ns; /* 0: none goes on */
    /* Runs after weir__scrape_want, once for all of them till then; never inside it. */
    void (*on_done)(struct weir__scrape *scrape);
    void *context;
    struct weir__metrics sum; /* of all workers, as `on_done` may read it */
};

/* The caller's memory. All calls: the loop's thread. */
void weir__scrape_init(struct weir__scrape *scrape, struct weir__scrape_group *group,
                       struct weir_loop *loop, void (*on_done)(struct weir__scrape *scrape),
                       void *context);
/* Somebody wants the numbers. One that goes on will do. */
void weir__scrape_want(struct weir__scrape *scrape);
/* `on_done` does not run any more. */
void weir__scrape_stop(struct weir__scrape *scrape);

#endif
