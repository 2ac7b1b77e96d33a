/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client that costs little, so that a server that is fast has enough to do: plain HTTP/1.1, one request that
 * is always the same, bodies thrown away where they are (MSG_TRUNC). What it gets is counted and checked: each
 * response is a 200 with as long a body as there should be.
 *
 *   load PORT TARGET BODY_BYTES CONNECTIONS REQUESTS PIPELINED
 *
 * Prints the seconds from the first request to the end of the last response.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX   16384
#define PIPELINED_MAX     64
#define REQUEST_BYTES_MAX 256
#define RECEIVE_BYTES     32768
#define HEAD_BYTES_MAX    1024
#define EVENTS_MAX        256
#define WAIT_MS           10000

/* What a connection waits for: the rest of a body, or of a head, of which it has these bytes. */
struct connection {
    int socket;
    size_t body_left, head_length;
    char head[HEAD_BYTES_MAX];
};

static struct connection connections[CONNECTIONS_MAX];
static char requests[PIPELINED_MAX * REQUEST_BYTES_MAX];
static size_t request_length, body_length;
static unsigned long wanted, asked, done;

static void die(const char *what)
{
    fprintf(stderr, "load: %s\n", what);
    exit(1);
}

static double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void requests_make(unsigned port, const char *target)
{
    int length = snprintf(requests, REQUEST_BYTES_MAX,
                          "GET /%s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUser-Agent: load\r\n\r\n",
                          target, port);
    if (length <= 0 || length >= REQUEST_BYTES_MAX)
        die("the target is too long");
    request_length = (size_t)length;
    for (size_t i = 1; i < PIPELINED_MAX; i++)
        memcpy(requests + i * request_length, requests, request_length);
}

static void ask(struct connection *connection, unsigned long count)
{
    if (count > wanted - asked)
        count = wanted - asked;
    asked += count;
    size_t length = count * request_length;
    /* The queue of a socket has room for many times PIPELINED_MAX requests. */
    if (length && send(connection->socket, requests, length, MSG_NOSIGNAL) != (ssize_t)length)
        die("a request cannot be sent");
}

/* Length of the head that begins there, of a response as it should be; 0: there is more of it to come. */
static size_t head_check(char *data, size_t length)
{
    char *end = memmem(data, length, "\r\n\r\n", 4);
    if (end == NULL && length > HEAD_BYTES_MAX)
        die("a head without an end");
    if (end == NULL)
        return 0;
    *end = '\0'; /* of the head's last line */
    char *field = strcasestr(data, "\r\ncontent-length:");
    if (strncmp(data, "HTTP/1.1 200", 12) != 0)
        die(data);
    if (field == NULL || strtoul(field + 17, NULL, 10) != body_length)
        die("a body of another length");
    return (size_t)(end - data) + 4;
}

/* Returns how many responses ended. */
static unsigned long data_take(struct connection *connection, char *data, size_t length)
{
    unsigned long ended = 0;
    for (size_t taken = 0; taken < length;) {
        if (connection->body_left == 0) {
            size_t head = head_check(data + taken, length - taken);
            if (head == 0) {
                connection->head_length = length - taken;
                memcpy(connection->head, data + taken, connection->head_length);
                break;
            }
            taken += head;
            connection->body_left = body_length;
        }
        size_t part =
            length - taken < connection->body_left ? length - taken : connection->body_left;
        taken += part;
        connection->body_left -= part;
        ended += connection->body_left == 0;
    }
    return ended;
}

static void serve(struct connection *connection)
{
    static char data[HEAD_BYTES_MAX + RECEIVE_BYTES];
    unsigned long ended;
    if (connection->body_left > RECEIVE_BYTES) {
        /* What lies in the socket is dropped without a copy: tcp(7), MSG_TRUNC. */
        ssize_t length = recv(connection->socket, NULL, connection->body_left, MSG_TRUNC);
        if (length <= 0)
            die("the end in a body");
        connection->body_left -= (size_t)length;
        ended = connection->body_left == 0;
    } else {
        size_t before = connection->head_length;
        memcpy(data, connection->head, before);
        connection->head_length = 0;
        ssize_t length = recv(connection->socket, data + before, RECEIVE_BYTES, 0);
        if (length <= 0)
            die("the end of a connection");
        ended = data_take(connection, data, before + (size_t)length);
    }
    done += ended;
    if (ended)
        ask(connection, ended);
}

static void connection_open(struct connection *connection, int poller, unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    int on = 1;
    connection->socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(connection->socket, (struct sockaddr *)&address, sizeof(address)) != 0)
        die("cannot connect");
    setsockopt(connection->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (epoll_ctl(poller, EPOLL_CTL_ADD, connection->socket, &event) != 0)
        die("epoll_ctl");
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "usage: load PORT TARGET BODY_BYTES CONNECTIONS REQUESTS PIPELINED\n");
        return 2;
    }
    unsigned port = (unsigned)strtoul(argv[1], NULL, 10);
    unsigned long count = strtoul(argv[4], NULL, 10), pipelined = strtoul(argv[6], NULL, 10);
    body_length = strtoul(argv[3], NULL, 10);
    wanted = strtoul(argv[5], NULL, 10);
    if (count == 0 || count > CONNECTIONS_MAX || pipelined == 0 || pipelined > PIPELINED_MAX ||
        body_length == 0)
        return 2;
    requests_make(port, argv[2]);
    int poller = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned long i = 0; i < count; i++)
        connection_open(&connections[i], poller, port);

    double begin = now_seconds();
    for (unsigned long i = 0; i < count; i++)
        ask(&connections[i], pipelined);
    while (done < wanted) {
        struct epoll_event events[EVENTS_MAX];
        int ready = epoll_wait(poller, events, EVENTS_MAX, WAIT_MS);
        if (ready <= 0)
            die("no answer");
        for (int i = 0; i < ready; i++)
            serve(events[i].data.ptr);
    }
    printf("%.6f\n", now_seconds() - begin);
    return 0;
}
