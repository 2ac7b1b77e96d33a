/* SPDX-License-Identifier: Apache-2.0 */
#include "server/serve.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <weir/error.h>

#include "core/memory.h"
#include "server/https.h"
#include "server/log_writer.h"
#include "server/worker.h"

/* How long the access log may take to write what is left when the server ends. */
#define LOG_DEADLINE_MS 1000

/* How often ticket keys are looked at. */
#define REFRESH_S 60

struct server {
    struct weir__options *options;
    struct weir__log_writer *log;
    struct weir__https *https;               /* NULL: no TLS */
    struct weir__scrape_group *scrape_group; /* NULL: no operator's address */
    struct weir__worker **workers;
    unsigned worker_count;
    sigset_t signals;
    int ended_signal; /* a worker sends it when its loop has ended */
};

static unsigned processor_count(void)
{
    cpu_set_t set;
    int count = 0;

    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        count = CPU_COUNT(&set);
    return count > 0 ? (unsigned)count : 1;
}

/*
 * Signals are taken by sigwait on this thread alone. Workers and the log's thread are started after this
 * and inherit the mask.
 */
static void block_signals(struct server *server)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGHUP};

    server->ended_signal = SIGRTMIN;
    sigemptyset(&server->signals);
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        sigaddset(&server->signals, signals[i]);
    sigaddset(&server->signals, server->ended_signal);
    pthread_sigmask(SIG_BLOCK, &server->signals, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* As many descriptors as the system allows: each connection and each cached file takes one. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static int start_log(struct server *server)
{
    const struct weir__log_writer_options options = {
        .path = server->options->access_log,
        .ring_count = server->worker_count,
        .report_descriptor = STDERR_FILENO,
    };

    if (!options.path)
        return 0;
    return weir__log_writer_start(&server->log, &options);
}

/*
 * With several workers each has a socket of its own by SO_REUSEPORT, and so could another weir: the
 * kernel would give it half of the connections. A bind without that option says whether anybody is there.
 */
static int check_free(const struct weir_address *address)
{
    char text[WEIR_ADDRESS_TEXT_MAX];
    int one = 1, error = 0;
    int probe = socket(address->socket.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (probe < 0)
        return 0; /* listening will say it better */
    setsockopt(probe, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(probe, &address->socket.any, address->length) != 0 && errno == EADDRINUSE) {
        weir_address_format(address, text);
        fprintf(stderr, "weir: cannot listen on %s: %s\n", text, weir_error_text(WEIR_EADDRINUSE));
        error = WEIR_EADDRINUSE;
    }
    close(probe);
    return error;
}

static int start_workers(struct server *server)
{
    struct weir__options *options = server->options;
    struct weir__worker_options worker_options = {
        .options = options,
        .listen = options->listen,
        .listen_count = options->listen_count,
        .share_port = server->worker_count > 1,
        .connections_max =
            (options->connections_max + server->worker_count - 1) / server->worker_count,
        .ended_signal = server->ended_signal,
    };
    unsigned wanted = server->worker_count;
    int error = 0;

    if (options->admin) {
        server->scrape_group = weir__scrape_group_new(wanted);
        if (!server->scrape_group)
            return WEIR_ENOMEM;
        worker_options.admin = &options->admin_address;
        worker_options.scrape_group = server->scrape_group;
    }
    if (getrandom(worker_options.seed, sizeof(worker_options.seed), 0) < 0)
        return WEIR_EIO;
    for (unsigned i = 0; worker_options.share_port && i < options->listen_count && !error; i++)
        error = check_free(&options->listen[i].address);
    server->worker_count = 0;
    while (!error && server->worker_count < wanted) {
        if (server->log)
            worker_options.log = weir__log_writer_ring(server->log, server->worker_count);
        if (server->https)
            error = weir__https_context_new(server->https, &worker_options.tls);
        if (!error)
            error = weir__worker_start(&server->workers[server->worker_count], &worker_options);
        if (error)
            break;
        if (server->scrape_group)
            weir__worker_join_group(server->workers[server->worker_count], server->scrape_group);
        server->worker_count++;
        worker_options.admin = NULL; /* the first one's */
    }
    return error;
}

static void announce(const struct server *server)
{
    const struct weir__options *options = server->options;
    const char *reason = weir__worker_fallback_reason(server->workers[0]);
    char text[WEIR_ADDRESS_TEXT_MAX];

    if (reason)
        fprintf(stderr, "weir: no io_uring: %s; using %s\n", reason,
                weir__worker_engine_name(server->workers[0]));
    if (weir__worker_lacks_zerocopy(server->workers[0]))
        fprintf(stderr, "weir: no zero copy with %s here; copying\n",
                weir__worker_engine_name(server->workers[0]));
    for (unsigned i = 0; i < options->listen_count; i++) {
        weir_address_format(&options->listen[i].address, text);
        if (options->listen[i].tls)
            fprintf(stderr, "weir: serving %s on https://%s (%s)\n", options->directory, text,
                    weir__https_description(server->https));
        else
            fprintf(stderr, "weir: serving %s on http://%s\n", options->directory, text);
    }
    if (options->admin) {
        weir_address_format(&options->admin_address, text);
        fprintf(stderr, "weir: metrics at http://%s/metrics\n", text);
    }
}

static void for_each_worker(struct server *server, void (*act)(struct weir__worker *worker))
{
    for (unsigned i = 0; i < server->worker_count; i++)
        act(server->workers[i]);
}

static unsigned workers_running(const struct server *server)
{
    unsigned running = 0;

    for (unsigned i = 0; i < server->worker_count; i++)
        running += weir__worker_has_ended(server->workers[i]) ? 0 : 1;
    return running;
}

/* All workers get what the files say now, or none does: then the line that says why has been printed. */
static void reload(struct server *server)
{
    struct weir_tls_context **contexts =
        weir__allocate_zeroed(server->worker_count, sizeof(struct weir_tls_context *));
    int error = contexts ? 0 : WEIR_ENOMEM;

    for (unsigned i = 0; i < server->worker_count && !error; i++)
        error = weir__https_context_new(server->https, &contexts[i]);
    for (unsigned i = 0; contexts && i < server->worker_count; i++) {
        if (error)
            weir_tls_context_free(contexts[i]);
        else
            weir__worker_set_tls(server->workers[i], contexts[i]);
    }
    weir__release(contexts);
    fprintf(stderr, error ? "weir: the certificates and keys in use stay\n"
                          : "weir: certificates and keys were read again\n");
    weir__https_reload_tickets(server->https);
}

/* The next signal, 0 if a while has passed without one. */
static int wait_for_signal(const struct server *server)
{
    static const struct timespec while_s = {.tv_sec = REFRESH_S};
    int number = server->https ? sigtimedwait(&server->signals, NULL, &while_s)
                               : sigwaitinfo(&server->signals, NULL);

    return number > 0 ? number : 0;
}

/* Until every worker has ended, told by a signal or by its own failure. */
static void handle_signals(struct server *server)
{
    bool told = false;

    while (workers_running(server) > 0) {
        if (told && workers_running(server) == 1)
            weir__worker_end_admin(server->workers[0]);
        int number = wait_for_signal(server);

        if (number == 0 && server->https) {
            weir__https_refresh(server->https);
        } else if (number == SIGHUP && server->https) {
            reload(server);
        } else if (number == SIGTERM || number == SIGINT) {
            told = true;
            for_each_worker(server, weir__worker_stop);
        } else if (number == SIGQUIT) {
            told = true;
            for_each_worker(server, weir__worker_drain);
        } else if (number == SIGUSR1 && server->log) {
            weir__log_writer_reopen(server->log);
        } else if (number == server->ended_signal && !told) {
            /* One failed. The others end in good order, and the exit status tells. */
            told = true;
            for_each_worker(server, weir__worker_drain);
        }
    }
}

static int join_workers(struct server *server)
{
    int error = 0;

    for (unsigned i = 0; i < server->worker_count; i++) {
        int worker_error = weir__worker_join(server->workers[i]);
        if (worker_error)
            error = worker_error;
    }
    return error;
}

int weir__serve(struct weir__options *options)
{
    struct server server = {
        .options = options,
        .worker_count = options->threads ? options->threads : processor_count(),
    };
    int error;

    block_signals(&server);
    raise_descriptor_limit();
    server.workers = weir__allocate_zeroed(server.worker_count, sizeof(*server.workers));
    if (!server.workers) {
        fprintf(stderr, "weir: %s\n", weir_error_text(WEIR_ENOMEM));
        return EXIT_FAILURE;
    }
    error = options->listen_tls_count > 0 ? weir__https_open(&server.https, options) : 0;
    if (!error)
        error = start_log(&server);
    if (!error) {
        error = start_workers(&server);
        if (!error) {
            announce(&server);
            handle_signals(&server);
        } else {
            for_each_worker(&server, weir__worker_stop);
            for_each_worker(&server, weir__worker_end_admin);
        }
        int worker_error = join_workers(&server);
        error = error ? error : worker_error;
    }
    if (server.log)
        weir__log_writer_stop(server.log, LOG_DEADLINE_MS);
    weir__https_close(server.https);
    weir__release(server.workers);
    weir__release(server.scrape_group);
    return error ? EXIT_FAILURE : EXIT_SUCCESS;
}
