/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_SERVER_ADMIN_H
#define WEIR_SERVER_ADMIN_H

/*
 * The operator's address: metrics over HTTP/1.1, on the loop of one worker. Its connections are no part of the
 * service's and have small limits of their own. All calls: the loop's thread.
 */

#include <weir/address.h>
#include <weir/loop.h>

#include "server/scrape.h"

struct weir__admin;

/* Open at a time; more wait in the kernel's backlog. */
#define WEIR__ADMIN_CONNECTIONS_MAX 16
/* A request's head; else 431. */
#define WEIR__ADMIN_HEAD_MAX 4096
/* For a head to arrive, from its first byte or the connection's beginning. */
#define WEIR__ADMIN_HEAD_MS 5000
/* For a response to be taken. */
#define WEIR__ADMIN_SEND_MS 10000
/* Between two requests: those who scrape once a minute keep their connection. */
#define WEIR__ADMIN_IDLE_MS 75000

/*
 * Listens at `address`, whose port 0 becomes the kernel's choice. `group` outlives it. Returns 0, WEIR_ENOMEM or an
 * error of weir_listener_start.
 */
int weir__admin_start(struct weir__admin **admin, struct weir_loop *loop,
                      struct weir_address *address, struct weir__scrape_group *group);

/* Resets its connections and frees it; `on_closed` runs when that is done, never inside this call. */
void weir__admin_close(struct weir__admin *admin, void (*on_closed)(void *context), void *context);

#endif
