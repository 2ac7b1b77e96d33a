/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_SERVER_WORKER_H
#define WEIR_SERVER_WORKER_H

/* One thread of the server: a loop, a listener for each address, and the connections it accepted. */

#include <weir/address.h>

#include "server/log_writer.h"
#include "server/options.h"
#include "server/scrape.h"

struct weir__worker;

struct weir__worker_options {
    const struct weir__options *options;
    /* Where to listen, `listen_count` of them. The first worker turns port 0 into the kernel's choice. */
    struct weir__listen *listen;
    unsigned listen_count;
    bool share_port; /* there are other workers */
    unsigned connections_max;
    struct weir_tls_context
        *tls; /* the worker's from now on, even if it cannot start; NULL = none */
    uint64_t seed[2];
    struct weir__log_ring *log; /* NULL: no access log */
    /* The operator's address, of one worker alone, and the group that it asks; NULL: none here. Port as above. */
    struct weir_address *admin;
    struct weir__scrape_group *scrape_group;
    int ended_signal; /* sent to the process when a worker ends */
};

/*
 * Starts a worker's thread and waits until it listens. `options` and what it names must outlive the
 * worker. On failure prints one line that says why and returns a negative WEIR_E*.
 */
int weir__worker_start(struct weir__worker **worker, const struct weir__worker_options *options);

/* Why engine "auto" passed over io_uring, or NULL; and the engine it has. */
const char *weir__worker_fallback_reason(const struct weir__worker *worker);
const char *weir__worker_engine_name(const struct weir__worker *worker);

/* Whether --zerocopy auto has found none. */
bool weir__worker_lacks_zerocopy(const struct weir__worker *worker);

/* Has the group ask this worker, too. */
void weir__worker_join_group(struct weir__worker *worker, struct weir__scrape_group *group);

/* New connections get `tls`, which is the worker's from now on. */
void weir__worker_set_tls(struct weir__worker *worker, struct weir_tls_context *tls);

/* No new connections, none after the response in progress; what is left at the timeout is aborted. */
void weir__worker_drain(struct weir__worker *worker);
/* Ends at once: transactions in progress are logged as aborted. */
void weir__worker_stop(struct weir__worker *worker);
/*
 * One that has the operator's address and was drained or stopped keeps that, and goes on, until it is told that nobody
 * needs it any more: the other workers have ended. Again is harmless.
 */
void weir__worker_end_admin(struct weir__worker *worker);
/* Whether its loop has ended. Any thread. */
bool weir__worker_has_ended(const struct weir__worker *worker);
/* Joins the thread, which must have ended or been told to, and frees. Returns 0 or why it failed. */
int weir__worker_join(struct weir__worker *worker);

#endif
