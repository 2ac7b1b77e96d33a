/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TLS_TICKETS_H
#define WEIR_TLS_TICKETS_H

#include <weir/tls.h>

#include "tls/vendor.h"

/* A copy of the keys as they are now. Returns their generation, which changes with them. Any thread. */
uint64_t weir__tls_tickets_get(struct weir_tls_tickets *tickets,
                               struct weir__tls_ticket_keys *keys);
uint64_t weir__tls_tickets_generation(struct weir_tls_tickets *tickets);

#endif
