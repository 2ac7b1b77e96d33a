/* SPDX-License-Identifier: Apache-2.0 */
#include "server/worker.h"

#include <assert.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <weir/error.h>
#include <weir/listener.h>
#include <weir/loop.h>
#include <weir/timer.h>

#include "core/memory.h"
#include "engine/engine.h"
#include "engine/io_uring.h"
#include "server/admin.h"
#include "server/connection.h"
#include "server/service.h"
#include "server/transaction.h"

/* Room for every piece of a multipart response behind a full pipeline. */
#define STREAM_WRITES_MAX (WEIR__CONNECTION_PIPELINE_MAX + WEIR__RESPONSE_SEGMENTS_MAX + 1)

/* A shortage that makes accepting fail is reported so often at the most. */
#define ACCEPT_COMPLAINT_S 10

#define NS_PER_S 1000000000ull

/* Objects of a pool that are allocated at a time. */
#define POOL_SLAB 16

struct weir__worker {
    struct weir__service service;
    struct weir__worker_options options;
    struct weir_listener *listeners[WEIR__OPTIONS_LISTEN_MAX];
    unsigned listener_count; /* that are open */
    bool accepting;
    bool stopping; /* drained or stopped: the loop ends with the last connection */
    struct weir__admin *admin;
    bool admin_may_end, admin_closing;
    struct weir_timer drain_timer;
    uint64_t complained_ns;
    /* What is to take the place of service.tls: put there by the main thread, taken by the next accept. */
    struct weir_tls_context *_Atomic tls_next;

    pthread_t thread;
    sem_t started;
    int error;
    _Atomic bool ended;
};

static struct weir__worker *worker_of(struct weir__service *service)
{
    return WEIR__CONTAINER(service, struct weir__worker, service);
}

/* ---- accepting ---- */

static void set_accepting(struct weir__worker *worker, bool accepting)
{
    if (worker->accepting == accepting || worker->stopping)
        return;
    worker->accepting = accepting;
    for (unsigned i = 0; i < worker->options.listen_count; i++) {
        if (accepting)
            weir_listener_resume(worker->listeners[i]);
        else
            weir_listener_pause(worker->listeners[i]);
    }
}

static void complain(struct weir__worker *worker, int error)
{
    uint64_t now_ns = weir_loop_now_ns(worker->service.loop);

    if (worker->complained_ns != 0 &&
        now_ns - worker->complained_ns < ACCEPT_COMPLAINT_S * NS_PER_S)
        return;
    worker->complained_ns = now_ns;
    fprintf(stderr, "weir: cannot accept connections: %s; trying again\n", weir_error_text(error));
}

static void accept_stream(struct weir__worker *worker, struct weir_stream *stream, int error,
                          bool tls)
{
    struct weir__service *service = &worker->service;

    if (!stream) {
        complain(worker, error);
        return;
    }
    error = weir__connection_start(service, stream, tls);
    if (error)
        complain(worker, error);
    if (service->connection_count >= service->connections_max)
        set_accepting(worker, false);
}

static void on_accept(struct weir_listener *listener, struct weir_stream *stream, int error)
{
    accept_stream(weir_listener_context(listener), stream, error, false);
}

static void on_accept_tls(struct weir_listener *listener, struct weir_stream *stream, int error)
{
    struct weir__worker *worker = weir_listener_context(listener);
    struct weir_tls_context *next = atomic_exchange(&worker->tls_next, NULL);

    if (next) {
        weir_tls_context_free(worker->service.tls);
        worker->service.tls = next;
    }
    accept_stream(worker, stream, error, true);
}

/* ---- ending ---- */

static void on_admin_closed(void *context);

/* Operators can look on until the other workers have ended, too. */
static void end_if_empty(struct weir__worker *worker)
{
    struct weir__admin *admin = worker->admin;

    if (!worker->stopping || worker->listener_count > 0 || worker->service.connection_count > 0)
        return;
    weir_timer_stop(&worker->drain_timer);
    if (!admin) {
        weir_loop_stop(worker->service.loop);
    } else if (worker->admin_may_end && !worker->admin_closing) {
        worker->admin_closing = true;
        weir__admin_close(admin, on_admin_closed, worker);
    }
}

static void on_admin_closed(void *context)
{
    struct weir__worker *worker = context;

    worker->admin = NULL;
    end_if_empty(worker);
}

/* Those that wait come before those in the kernel's backlog. */
static void admit_waiting(struct weir__service *service)
{
    while (!weir__list_is_empty(&service->waiting) &&
           service->connection_count - service->waiting_count < service->connections_max)
        weir__connection_admit(
            WEIR__CONTAINER(service->waiting.next, struct weir__connection, link));
}

static void on_connection_gone(struct weir__service *service)
{
    struct weir__worker *worker = worker_of(service);

    if (!worker->stopping)
        admit_waiting(service);
    if (service->connection_count < service->connections_max)
        set_accepting(worker, true);
    end_if_empty(worker);
}

static void on_listener_closed(struct weir_listener *listener)
{
    struct weir__worker *worker = weir_listener_context(listener);

    worker->listener_count--;
    end_if_empty(worker);
}

static void begin_stopping(struct weir__worker *worker)
{
    if (worker->stopping)
        return;
    worker->stopping = true;
    worker->service.draining = true;
    for (unsigned i = 0; i < worker->options.listen_count; i++) {
        if (worker->listeners[i])
            weir_listener_close(worker->listeners[i], on_listener_closed);
    }
}

/* Runs `act` on every connection of a list; none is freed in it, closing is asynchronous. */
static void for_each_connection(struct weir__list *head,
                                void (*act)(struct weir__connection *connection))
{
    for (struct weir__list *link = head->next; link != head; link = link->next)
        act(WEIR__CONTAINER(link, struct weir__connection, link));
}

static void on_stop(struct weir_loop *loop, void *context)
{
    struct weir__worker *worker = context;

    (void)loop;
    begin_stopping(worker);
    for_each_connection(&worker->service.connections, weir__connection_abort);
    for_each_connection(&worker->service.waiting, weir__connection_abort);
    end_if_empty(worker);
}

static void on_end_admin(struct weir_loop *loop, void *context)
{
    struct weir__worker *worker = context;

    (void)loop;
    worker->admin_may_end = true;
    end_if_empty(worker);
}

static void on_drain_timeout(struct weir_timer *timer)
{
    on_stop(NULL, timer->context);
}

static void on_drain(struct weir_loop *loop, void *context)
{
    struct weir__worker *worker = context;

    (void)loop;
    begin_stopping(worker);
    weir_timer_start(&worker->drain_timer, worker->options.options->drain_timeout_ms);
    for_each_connection(&worker->service.connections, weir__connection_drain);
    for_each_connection(&worker->service.waiting, weir__connection_abort);
    end_if_empty(worker);
}

/* ---- the thread ---- */

static const char *loop_failure(const struct weir__options *options, int error)
{
    const char *reason = options->engine == WEIR_ENGINE_IO_URING ? weir__io_uring_refusal() : NULL;

    if (!reason && error == WEIR_ENOTSUP && options->zerocopy == WEIR_ZEROCOPY_ON)
        reason = "it has no zero copy here, which is to be on";
    return reason ? reason : weir_error_text(error);
}

static int open_loop(struct weir__worker *worker)
{
    const struct weir__options *options = worker->options.options;
    struct weir_loop_options loop_options;

    weir_loop_options_init(&loop_options);
    loop_options.engine = options->engine;
    loop_options.delivery = options->delivery;
    loop_options.zerocopy = options->zerocopy;
    int error = weir_loop_new(&worker->service.loop, &loop_options);
    if (error)
        fprintf(stderr, "weir: cannot use the engine: %s\n", loop_failure(options, error));
    return error;
}

static int open_site(struct weir__worker *worker)
{
    struct weir__site_options site_options;

    weir__site_options_init(&site_options);
    memcpy(site_options.seed, worker->options.seed, sizeof(site_options.seed));
    int error =
        weir__site_new(&worker->service.site, worker->options.options->directory, &site_options);
    if (error)
        fprintf(stderr, "weir: cannot serve %s: %s\n", worker->options.options->directory,
                error == WEIR_EINVAL ? "it is not a folder that exists" : weir_error_text(error));
    return error;
}

static int listen_at(struct weir__worker *worker, unsigned index)
{
    const struct weir__listen *listen = &worker->options.listen[index];
    struct weir_address *address = &worker->options.listen[index].address;
    struct weir_listener_options options;
    char text[WEIR_ADDRESS_TEXT_MAX];

    weir_listener_options_init(&options);
    options.share_port = worker->options.share_port;
    options.stream.queue_writes_max = STREAM_WRITES_MAX;
    int error = weir_listener_start(&worker->listeners[index], worker->service.loop, address,
                                    &options, listen->tls ? on_accept_tls : on_accept, worker);
    if (error) {
        weir_address_format(address, text);
        fprintf(stderr, "weir: cannot listen on %s: %s\n", text, weir_error_text(error));
        return error;
    }
    worker->listener_count++;
    if (weir_address_port(address) == 0)
        error = weir_listener_address(worker->listeners[index], address);
    return error;
}

static int start_admin(struct weir__worker *worker)
{
    struct weir_address *address = worker->options.admin;
    char text[WEIR_ADDRESS_TEXT_MAX];

    if (!address)
        return 0;
    int error = weir__admin_start(&worker->admin, worker->service.loop, address,
                                  worker->options.scrape_group);
    if (error) {
        weir_address_format(address, text);
        fprintf(stderr, "weir: cannot listen on %s: %s\n", text, weir_error_text(error));
    }
    return error;
}

static int set_up(struct weir__worker *worker)
{
    struct weir__service *service = &worker->service;

    int error = open_loop(worker);
    if (error)
        return error;
    weir_timer_init(&worker->drain_timer, service->loop, on_drain_timeout, worker);
    error = open_site(worker);
    for (unsigned i = 0; !error && i < worker->options.listen_count; i++)
        error = listen_at(worker, i);
    return error ? error : start_admin(worker);
}

static void *run_thread(void *context)
{
    struct weir__worker *worker = context;
    struct weir_loop *loop;

    worker->error = set_up(worker);
    loop = worker->service.loop;
    if (worker->error) {
        begin_stopping(worker);
        if (worker->listener_count > 0)
            weir_loop_run(loop); /* until all are closed */
        sem_post(&worker->started);
        return NULL;
    }
    sem_post(&worker->started);
    worker->error = weir_loop_run(loop);
    if (worker->error)
        fprintf(stderr, "weir: a worker failed: %s\n", weir_error_text(worker->error));
    atomic_store(&worker->ended, true);
    kill(getpid(), worker->options.ended_signal);
    return NULL;
}

/* The thread has ended: from here on its things are the caller's. */
static int free_worker(struct weir__worker *worker)
{
    struct weir__service *service = &worker->service;
    int error = worker->error;

    /* A loop that failed still has connections. They go with the process. */
    if (!service->loop || service->connection_count == 0) {
        weir__site_free(service->site);
        weir_loop_free(service->loop);
        weir__pool_dispose(&service->transaction_pool);
        weir__pool_dispose(&service->connection_pool);
        weir_tls_context_free(service->tls);
    }
    weir_tls_context_free(atomic_load(&worker->tls_next));
    sem_destroy(&worker->started);
    weir__release(worker);
    return error;
}

/* ---- from the main thread ---- */

int weir__worker_start(struct weir__worker **result, const struct weir__worker_options *options)
{
    struct weir__worker *worker = weir__allocate_zeroed(1, sizeof(*worker));
    struct weir__service *service;

    if (!worker) {
        weir_tls_context_free(options->tls);
        return WEIR_ENOMEM;
    }
    worker->options = *options;
    worker->accepting = true;
    service = &worker->service;
    service->options = options->options;
    service->log = options->log;
    service->tls = options->tls;
    service->connections_max = options->connections_max;
    service->on_connection_gone = on_connection_gone;
    weir__list_init(&service->connections);
    weir__list_init(&service->waiting);
    weir__pool_init(&service->connection_pool, sizeof(struct weir__connection), POOL_SLAB);
    weir__pool_init(&service->transaction_pool, sizeof(struct weir__transaction), POOL_SLAB);
    weir__log_clock_init(&service->log_clock);
    sem_init(&worker->started, 0, 0);
    if (pthread_create(&worker->thread, NULL, run_thread, worker) != 0) {
        fprintf(stderr, "weir: cannot start a thread\n");
        free_worker(worker);
        return WEIR_ENOMEM;
    }
    while (sem_wait(&worker->started) != 0) {
        /* interrupted by a signal handler */
    }
    if (worker->error) {
        pthread_join(worker->thread, NULL);
        return free_worker(worker);
    }
    *result = worker;
    return 0;
}

const char *weir__worker_fallback_reason(const struct weir__worker *worker)
{
    return weir_loop_fallback_reason(worker->service.loop);
}

const char *weir__worker_engine_name(const struct weir__worker *worker)
{
    return weir_loop_engine_name(worker->service.loop);
}

bool weir__worker_lacks_zerocopy(const struct weir__worker *worker)
{
    uint64_t pinned_bytes_max;

    return worker->options.options->zerocopy == WEIR_ZEROCOPY_AUTO &&
           weir__loop_zerocopy(worker->service.loop, &pinned_bytes_max) == WEIR_ZEROCOPY_OFF;
}

static void read_metrics(void *context, struct weir__metrics *metrics)
{
    struct weir__service *service = &((struct weir__worker *)context)->service;

    *metrics = service->metrics;
    metrics->connections_open = service->connection_count;
    weir_loop_send_info(service->loop, &metrics->send);
}

void weir__worker_join_group(struct weir__worker *worker, struct weir__scrape_group *group)
{
    weir__scrape_group_add(group, worker->service.loop, read_metrics, worker);
}

void weir__worker_set_tls(struct weir__worker *worker, struct weir_tls_context *tls)
{
    weir_tls_context_free(atomic_exchange(&worker->tls_next, tls));
}

void weir__worker_drain(struct weir__worker *worker)
{
    weir_loop_post(worker->service.loop, on_drain, worker);
}

void weir__worker_stop(struct weir__worker *worker)
{
    weir_loop_post(worker->service.loop, on_stop, worker);
}

void weir__worker_end_admin(struct weir__worker *worker)
{
    weir_loop_post(worker->service.loop, on_end_admin, worker);
}

bool weir__worker_has_ended(const struct weir__worker *worker)
{
    return atomic_load(&worker->ended);
}

int weir__worker_join(struct weir__worker *worker)
{
    pthread_join(worker->thread, NULL);
    return free_worker(worker);
}
