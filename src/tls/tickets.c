/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/tickets.h"
uint64_t weir__tls_tickets_get(struct weir_tls_tickets *tickets, struct weir__tls_ticket_keys *keys)
{
    (void)tickets;
    keys->count = 0;
    return 1;
}
uint64_t weir__tls_tickets_generation(struct weir_tls_tickets *tickets)
{
    (void)tickets;
    return 1;
}
