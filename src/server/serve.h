/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_SERVER_SERVE_H
#define WEIR_SERVER_SERVE_H

#include "server/options.h"

/*
 * Serves until a signal ends it: TERM and INT at once, QUIT once what is in progress is done; USR1
 * reopens the access log. Returns the process's exit status; what fails is said on standard error.
 */
int weir__serve(struct weir__options *options);

#endif
