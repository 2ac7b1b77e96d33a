/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_SERVER_OPTIONS_H
#define WEIR_SERVER_OPTIONS_H

/* The command line, parsed and checked: a plain value, nothing global. */

#include <stdbool.h>
#include <stdint.h>

#include <weir/address.h>
#include <weir/loop.h>
#include <weir/tls.h>

#include "server/access_log.h"

enum weir__command {
    WEIR__COMMAND_SERVE,
    WEIR__COMMAND_DOCTOR,
    WEIR__COMMAND_HELP,    /* print `help` on standard output, exit 0 */
    WEIR__COMMAND_VERSION, /* print "weir " and the version on standard output, exit 0 */
};

#define WEIR__OPTIONS_LISTEN_MAX       16 /* plain ones and those with TLS together */
#define WEIR__OPTIONS_CERTIFICATES_MAX 16

struct weir__listen {
    struct weir_address address;
    bool tls;
};

/* What the kernel's TLS is used for. */
enum weir__ktls {
    WEIR__KTLS_AUTO, /* both directions if the kernel can */
    WEIR__KTLS_OFF,
    WEIR__KTLS_ON, /* both directions; no start without */
    WEIR__KTLS_TX, /* what is sent alone, if the kernel can: to compare */
};

struct weir__options {
    enum weir__command command;
    const char *help; /* HELP: the text, static */
    bool json;        /* DOCTOR */
    bool explain;     /* DOCTOR: the send policy's decisions */

    /* SERVE. Texts are argv's. */
    const char *directory;
    struct weir__listen listen[WEIR__OPTIONS_LISTEN_MAX];
    unsigned listen_count;     /* at least 1 */
    unsigned listen_tls_count; /* of these */
    bool delivery;
    enum weir_engine_kind engine;
    enum weir_zerocopy zerocopy;
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
    bool admin;                         /* `admin_address` was given */
    struct weir_address admin_address;

    /* SERVE with TLS. */
    const char *tls_vendor; /* NULL = the first that there is */
    enum weir_tls_cipher_source tls_cipher;
    enum weir__ktls ktls;
    struct weir_tls_certificate certificates[WEIR__OPTIONS_CERTIFICATES_MAX];
    unsigned certificate_count; /* 0 = make one */
    unsigned key_count;         /* the same */
    enum weir_tls_version tls_min, tls_max;
    const char *ticket_keys; /* NULL = random ones */
    const char *client_ca;   /* NULL = no client certificate is asked for */
    enum weir_tls_peer client_certificate;
    const char *tls_key_log_insecure; /* NULL = none */
    uint32_t tls_records_max;         /* with one key */
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
