/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TLS_TICKETS_H
#define WEIR_TLS_TICKETS_H

/*
 * Where ticket keys come from, for all contexts of a process: made at random and renewed, or from a file
 * that a fleet shares. The public part is in weir/tls.h.
 */

#include <weir/tls.h>

#include "tls/vendor.h"

/* A key encrypts for 12 hours, and then decrypts for the 24 hours that a ticket is good for. */
#define WEIR__TLS_TICKETS_RENEW_S (UINT64_C(12) * 3600)
#define WEIR__TLS_TICKETS_KEEP_S  (WEIR__TLS_TICKETS_RENEW_S + UINT64_C(24) * 3600)

/* As weir_tls_tickets_new and _refresh. `now_s`: of a clock that does not go back. */
int weir__tls_tickets_new_at(struct weir_tls_tickets **tickets, const char *file, uint64_t now_s,
                             char complaint[WEIR_TLS_COMPLAINT_MAX]);
int weir__tls_tickets_refresh_at(struct weir_tls_tickets *tickets, uint64_t now_s,
                                 char complaint[WEIR_TLS_COMPLAINT_MAX]);

/* A copy of the keys as they are now. Returns their generation, which changes with them. Any thread. */
uint64_t weir__tls_tickets_get(struct weir_tls_tickets *tickets,
                               struct weir__tls_ticket_keys *keys);
uint64_t weir__tls_tickets_generation(struct weir_tls_tickets *tickets);

#endif
