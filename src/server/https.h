/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_SERVER_HTTPS_H
#define WEIR_SERVER_HTTPS_H

/*
 * What the server's TLS is made from: files, ticket keys, what the kernel can. It belongs to the main
 * thread, which makes a context for each worker and hands it over.
 */

#include <weir/tls.h>

#include "server/options.h"

struct weir__https;

/*
 * Looks at what there is, before other threads run: the library, the kernel, the ticket keys; makes a
 * certificate where none is given. `options` must outlive it. On failure prints one line that says why and
 * returns a negative WEIR_E*.
 */
int weir__https_open(struct weir__https **https, const struct weir__options *options);
/* No context may be left. NULL is fine. */
void weir__https_close(struct weir__https *https);

/* Makes a context from the files as they are now. The same on failure. */
int weir__https_context_new(struct weir__https *https, struct weir_tls_context **context);

/* New ticket keys, if it is time for them. Call it once a minute. What fails is said once ... */
void weir__https_refresh(struct weir__https *https);
/* ... and here each time, because somebody asked. */
void weir__https_reload_tickets(struct weir__https *https);

/* For people: the library, its version, and what the kernel does. Valid until it is closed. */
const char *weir__https_description(const struct weir__https *https);

#endif
