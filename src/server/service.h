/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_SERVER_SERVICE_H
#define WEIR_SERVER_SERVICE_H

/* What the connections of one worker share. Everything here belongs to the worker's thread. */

#include <stdbool.h>
#include <stdint.h>

#include <weir/listener.h>
#include <weir/loop.h>
#include <weir/tls.h>

#include "core/list.h"
#include "core/pool.h"
#include "http/message.h"
#include "server/access_log.h"
#include "server/log_writer.h"
#include "server/metrics.h"
#include "server/options.h"
#include "server/site.h"

struct weir__service {
    struct weir_loop *loop;
    struct weir__site *site;
    const struct weir__options *options;
    struct weir_tls_context *tls; /* of new connections; NULL: none has TLS */
    struct weir__log_ring *log;   /* NULL: no access log */
    struct weir__log_clock log_clock;
    struct weir__metrics metrics; /* what is counted; the rest is read when it is asked for */
    struct weir__pool connection_pool;
    struct weir__pool transaction_pool;
    struct weir__list connections;
    /* Accepted beyond the limit: an engine may empty the whole backlog before it hears of a pause. */
    struct weir__list waiting;
    unsigned connection_count; /* of both lists */
    unsigned waiting_count;
    unsigned connections_max;
    bool draining; /* no request after the one in progress */
    /* Runs when a connection has gone: the worker may take new ones, or end. */
    void (*on_connection_gone)(struct weir__service *service);
    struct weir__request
        request; /* the head being parsed: too big for each connection to have one */
};

#endif
