/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client that makes a new connection for each request: what h2load and wrk do not. Blocking sockets, one
 * connection at a time in each thread; TLS by libssl, with full handshakes or with the last ticket.
 *
 *   connect_client PORT TARGET BYTES CONNECTIONS THREADS plain|full|resumed server|client [CIPHER]
 *
 * The end is the server's, who is asked for it by "Connection: close", or the client's, who closes once it
 * has the answer. CIPHER, as OpenSSL names it, stands for the version as well. It prints "connections
 * errors resumed seconds".
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#define THREADS_MAX       64
#define ANSWER_MAX        (1u << 18)
#define HEAD_MAX          4096
#define TIMEOUT_S         20
#define NS_PER_S          1e9
#define CONNECT_ARGUMENTS 8

struct run {
    struct sockaddr_in address;
    SSL_CTX *tls; /* NULL: plain */
    bool resume, server_ends;
    size_t body_bytes;
    char request[512];
};

struct worker {
    pthread_t thread;
    const struct run *run;
    unsigned connections;
    unsigned errors, resumed;
    SSL_SESSION *session; /* the newest */
};

static int worker_index; /* of a worker in its SSL's ex_data */

static int on_session(SSL *ssl, SSL_SESSION *session)
{
    struct worker *worker = SSL_get_ex_data(ssl, worker_index);

    SSL_SESSION_free(worker->session);
    worker->session = session;
    return 1;
}

static int socket_connect(const struct run *run)
{
    const struct timeval timeout = {.tv_sec = TIMEOUT_S};
    const int one = 1;
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (connect(descriptor, (const struct sockaddr *)&run->address, sizeof(run->address)) == 0)
        return descriptor;
    close(descriptor);
    return -1;
}

/* Returns bytes read, 0 at an orderly end, -1 at any other. */
static ssize_t receive(int descriptor, SSL *ssl, char *room, size_t size)
{
    if (!ssl)
        return recv(descriptor, room, size, 0);
    int length = SSL_read(ssl, room, (int)size);
    if (length > 0)
        return length;
    return SSL_get_error(ssl, length) == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

/* One request and its whole answer; behind that, where the server is to close, the end. */
static bool exchange(const struct run *run, int descriptor, SSL *ssl)
{
    static _Thread_local char answer[ANSWER_MAX];
    size_t length = strlen(run->request), got = 0, wanted = 0;

    if (ssl ? SSL_write(ssl, run->request, (int)length) != (int)length
            : send(descriptor, run->request, length, MSG_NOSIGNAL) != (ssize_t)length)
        return false;
    while (wanted == 0 || got < wanted) {
        ssize_t part = receive(descriptor, ssl, answer + got, sizeof(answer) - 1 - got);
        if (part <= 0)
            return false;
        got += (size_t)part;
        answer[got < HEAD_MAX ? got : HEAD_MAX] = '\0';
        const char *end = wanted == 0 ? strstr(answer, "\r\n\r\n") : NULL;
        if (end)
            wanted = (size_t)(end + 4 - answer) + run->body_bytes;
        else if (wanted == 0 && got >= HEAD_MAX)
            return false;
    }
    if (got != wanted || strncmp(answer, "HTTP/1.1 200 ", 13) != 0)
        return false;
    return !run->server_ends || receive(descriptor, ssl, answer, sizeof(answer)) == 0;
}

static bool tls_exchange(struct worker *worker, int descriptor)
{
    const struct run *run = worker->run;
    SSL *ssl = SSL_new(run->tls);

    SSL_set_ex_data(ssl, worker_index, worker);
    SSL_set_fd(ssl, descriptor);
    SSL_set_tlsext_host_name(ssl, "localhost");
    /* A copy: OpenSSL uses a session once, and not all servers give a new one with it. */
    SSL_SESSION *session = run->resume && worker->session ? SSL_SESSION_dup(worker->session) : NULL;
    if (session)
        SSL_set_session(ssl, session);
    SSL_SESSION_free(session);
    bool good = SSL_connect(ssl) == 1 && exchange(run, descriptor, ssl);
    if (good)
        SSL_shutdown(ssl);
    worker->resumed += good && SSL_session_reused(ssl);
    SSL_free(ssl);
    ERR_clear_error();
    return good;
}

static bool connect_once(struct worker *worker)
{
    int descriptor = socket_connect(worker->run);

    if (descriptor < 0)
        return false;
    bool good = worker->run->tls ? tls_exchange(worker, descriptor)
                                 : exchange(worker->run, descriptor, NULL);
    close(descriptor);
    return good;
}

static void *work(void *context)
{
    struct worker *worker = context;

    for (unsigned i = 0; i < worker->connections; i++)
        worker->errors += !connect_once(worker);
    SSL_SESSION_free(worker->session);
    return NULL;
}

static SSL_CTX *context_new(const char *cipher, bool resume)
{
    bool is_1_3 = strncmp(cipher, "TLS_", 4) == 0;
    int version = is_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION;
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());

    SSL_CTX_set_min_proto_version(context, version);
    SSL_CTX_set_max_proto_version(context, version);
    if (resume) {
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(context, on_session);
    }
    /* The same for all servers: what most clients offer first. */
    if ((is_1_3 ? SSL_CTX_set_ciphersuites(context, cipher)
                : SSL_CTX_set_cipher_list(context, cipher)) == 1 &&
        SSL_CTX_set1_groups_list(context, "X25519:P-256") == 1)
        return context;
    fprintf(stderr, "connect_client: no cipher %s\n", cipher);
    exit(2);
}

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / NS_PER_S;
}

static void run_all(const struct run *run, unsigned connections, unsigned threads)
{
    static struct worker workers[THREADS_MAX];
    unsigned errors = 0, resumed = 0;
    double begin = now_s();

    for (unsigned i = 0; i < threads; i++) {
        workers[i].run = run;
        workers[i].connections = connections / threads + (i < connections % threads);
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            exit(1);
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(workers[i].thread, NULL);
        errors += workers[i].errors;
        resumed += workers[i].resumed;
    }
    printf("%u %u %u %.6f\n", connections, errors, resumed, now_s() - begin);
}

int main(int count, char **arguments)
{
    static struct run run;

    if (count < CONNECT_ARGUMENTS) {
        fprintf(stderr, "usage: connect_client PORT TARGET BYTES CONNECTIONS THREADS "
                        "plain|full|resumed server|client [CIPHER]\n");
        return 2;
    }
    unsigned threads = (unsigned)atoi(arguments[5]);
    bool tls = strcmp(arguments[6], "plain") != 0;

    run.address = (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_port = htons((unsigned short)atoi(arguments[1])),
        .sin_addr = {htonl(INADDR_LOOPBACK)},
    };
    run.body_bytes = (size_t)atol(arguments[3]);
    run.resume = strcmp(arguments[6], "resumed") == 0;
    run.server_ends = strcmp(arguments[7], "server") == 0;
    snprintf(run.request, sizeof(run.request), "GET /%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n",
             arguments[2], run.server_ends ? "Connection: close\r\n" : "");
    worker_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    if (tls)
        run.tls = context_new(count > 8 ? arguments[8] : "TLS_AES_128_GCM_SHA256", run.resume);
    if (threads == 0 || threads > THREADS_MAX)
        return 2;
    run_all(&run, (unsigned)atoi(arguments[4]), threads);
    SSL_CTX_free(run.tls);
    return 0;
}
