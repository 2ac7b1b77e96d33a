/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_SERVER_OPTIONS_H
#define WEIR_SERVER_OPTIONS_H

/* The command line, parsed and checked: a plain value, nothing global. */

#include <stdbool.h>
#include <stdint.h>

#include <weir/address.h>
#include <weir/loop.h>

#include "server/access_log.h"

enum weir__command {
    WEIR__COMMAND_SERVE,
    WEIR__COMMAND_DOCTOR,
    WEIR__COMMAND_HELP,    /* print `help` on standard output, exit 0 */
    WEIR__COMMAND_VERSION, /* print "weir " and the version on standard output, exit 0 */
};

#define WEIR__OPTIONS_LISTEN_MAX 16

struct weir__options {
    enum weir__command command;
    const char *help; /* HELP: the text, static */
    bool json;        /* DOCTOR */

    /* SERVE. Texts are argv's. */
    const char *directory;
    struct weir_address listen[WEIR__OPTIONS_LISTEN_MAX];
    unsigned listen_count; /* at least 1 */
    bool delivery;
    enum weir_engine_kind engine;
    unsigned threads;       /* 0 = as many as processors that the process may use */
    const char *access_log; /* "-" = standard output; NULL = none */
    enum weir__log_format log_format;
    uint32_t connections_max; /* of all threads together */
    uint32_t header_timeout_ms;
    uint32_t body_timeout_ms;
    uint32_t idle_timeout_ms;
    uint32_t drain_timeout_ms;
    uint32_t send_timeout_ms;           /* a client must take something in it, and at least */
    uint64_t rate_min_bytes_per_second; /* so much on its average */
};

/* Room for the one line that says what is wrong with a command line. */
#define WEIR__OPTIONS_ERROR_MAX 256

/* How the process ends after bad usage. */
#define WEIR__OPTIONS_EXIT_STATUS 2

/*
 * Returns 0, or WEIR_EINVAL with one line in `error` (no "\n") that names the word that is wrong;
 * then `options` is not to be used.
 */
int weir__options_parse(struct weir__options *options, int argc, char *const *argv,
                        char error[WEIR__OPTIONS_ERROR_MAX]);

#endif
