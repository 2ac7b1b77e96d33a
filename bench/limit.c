/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limit: the least that a server can do for a response, on one thread. It parses nothing: each
 * empty line is the end of a request, and every request gets the same response. What a real server
 * costs above this is its own work; what it costs below this is a mistake in the measurement.
 *
 *   limit PORT FILE LOOP CALL PIECE [CONTROL]
 *
 * LOOP   epoll, or io_uring (multishot accept and receive, a buffer ring, one submission per round)
 *        io_uring-single  each accept and receive asked for anew; one submission per round
 *        io_uring-each    the same, and one submission per operation: calls put one for one
 *        io_uring-eager   the same, and completions that interrupt (no DEFER_TASKRUN): until Linux 6.1
 * CALL   send             header and body from memory
 *        sendfile         the header by send, the body by sendfile
 *        sendfile-more    the same, the header with MSG_MORE
 *        submit           io_uring only: header and body from memory by an IORING_OP_SEND
 *        zerocopy         from memory by send with MSG_ZEROCOPY, or by an IORING_OP_SEND_ZC
 *        encrypt          as send, of what was encrypted just before: what TLS cannot do without
 * PIECE  bytes handed to the kernel by one call, 0 = everything
 * CONTROL  the congestion control (default: the system's); root may have any that the kernel has
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "seal.h"

#define CONNECTIONS_MAX  16384 /* a power of two: the completion queue has as many entries */
#define EVENTS_MAX       256
#define RECEIVE_BYTES    4096 /* more than 16 requests of h2load's: none is cut in two */
#define RECEIVE_BUFFERS  256  /* a power of two, as the buffer ring wants it */
#define HEADER_BYTES_MAX 256
#define COPIES           16 /* of a small response in memory, for requests that come together */
#define COPIED_BYTES_MAX 4096

enum call {
    CALL_SEND,
    CALL_SENDFILE,
    CALL_SENDFILE_MORE,
    CALL_SUBMIT,
    CALL_ZEROCOPY,
    CALL_ENCRYPT
};

/* What each connection is to have, of how much it has had; by descriptor. 0 = none runs. */
static struct {
    size_t sent, length;
    bool sealed; /* the piece that `sent` stands in */
} running[CONNECTIONS_MAX];
static struct {
    char *bytes; /* header, then body; the small one several times */
    char *wire;  /* what was encrypted of it */
    size_t header_length, length, bytes_length, piece;
    enum call call;
    int file;
} response;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void response_load(const char *path)
{
    response.file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (response.file < 0 || fstat(response.file, &status) != 0)
        die(path);
    size_t body_length = (size_t)status.st_size;
    size_t copies = body_length <= COPIED_BYTES_MAX ? COPIES : 1;
    response.bytes = malloc(copies * (HEADER_BYTES_MAX + body_length));
    response.wire = malloc(copies * (HEADER_BYTES_MAX + body_length));
    if (response.bytes == NULL || response.wire == NULL)
        die("malloc");
    response.header_length = (size_t)snprintf(
        response.bytes, HEADER_BYTES_MAX,
        "HTTP/1.1 200 OK\r\nServer: limit\r\nDate: Mon, 23 Nov 2026 05:00:00 GMT\r\n"
        "Last-Modified: Mon, 23 Nov 2026 05:00:00 GMT\r\nETag: \"6564b1f0-20000\"\r\n"
        "Content-Type: application/octet-stream\r\nContent-Length: %zu\r\n\r\n",
        body_length);
    response.length = response.header_length + body_length;
    if (read(response.file, response.bytes + response.header_length, body_length) !=
        (ssize_t)body_length)
        die("read");
    response.bytes_length = copies * response.length;
    for (size_t i = response.length; i < response.bytes_length; i += response.length)
        memcpy(response.bytes + i, response.bytes, response.length);
}

/* Adds the responses to the requests that were received. Returns false if the last one is cut off. */
static bool requests_add(int descriptor, const char *data, size_t length)
{
    const char *end = data + length, *request = data;
    while (request < end) {
        const char *empty = memmem(request, (size_t)(end - request), "\r\n\r\n", 4);
        if (empty == NULL)
            return false;
        request = empty + 4;
        running[descriptor].length += response.length;
    }
    return true;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t memory_offset(int descriptor)
{
    return running[descriptor].sent % response.bytes_length;
}

/* From memory: up to the end of a piece, of the memory, of what is asked for. */
static size_t memory_length(int descriptor)
{
    size_t offset = memory_offset(descriptor);
    size_t left = least(running[descriptor].length - running[descriptor].sent,
                        response.bytes_length - offset);
    return response.piece == 0 ? left : least(left, response.piece - offset % response.piece);
}

static ssize_t sealed_send(int descriptor)
{
    size_t offset = memory_offset(descriptor), length = memory_length(descriptor);
    if (!running[descriptor].sealed) {
        if (seal(response.bytes + offset, length, response.wire + offset) != 0)
            die("encrypt");
        /* A client that decrypts nothing must find them. */
        for (size_t i = 0; i < response.bytes_length; i += response.length)
            if (i >= offset && i < offset + length)
                memcpy(response.wire + i, response.bytes, response.header_length);
        running[descriptor].sealed = true;
    }
    ssize_t taken = send(descriptor, response.wire + offset, length, MSG_NOSIGNAL);
    if (taken == (ssize_t)length)
        running[descriptor].sealed = false;
    return taken;
}

static ssize_t piece_send(int descriptor)
{
    if (response.call == CALL_ENCRYPT)
        return sealed_send(descriptor);
    if (response.call == CALL_SEND || response.call == CALL_ZEROCOPY) {
        const char *bytes = response.bytes + memory_offset(descriptor);
        size_t length = memory_length(descriptor);
        if (response.call == CALL_ZEROCOPY) {
            ssize_t taken = send(descriptor, bytes, length, MSG_NOSIGNAL | MSG_ZEROCOPY);
            if (taken >= 0 || errno != ENOBUFS)
                return taken;
        }
        return send(descriptor, bytes, length, MSG_NOSIGNAL);
    }
    size_t sent = running[descriptor].sent % response.length;
    if (sent < response.header_length)
        return send(descriptor, response.bytes + sent, response.header_length - sent,
                    MSG_NOSIGNAL | (response.call == CALL_SENDFILE_MORE ? MSG_MORE : 0));
    off_t offset = (off_t)(sent - response.header_length);
    size_t left = response.length - sent;
    return sendfile(descriptor, response.file, &offset,
                    response.piece == 0 ? left : least(left, response.piece));
}

static void connection_begin(int descriptor)
{
    memset(&running[descriptor], 0, sizeof(running[descriptor]));
    int on = 1;
    if (response.call == CALL_ZEROCOPY)
        setsockopt(descriptor, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on));
}

/* Forgets what was said of memory that may be used again: this memory never changes. */
static void notices_drain(int descriptor)
{
    char control[128];
    struct msghdr message;
    do {
        message = (struct msghdr){.msg_control = control, .msg_controllen = sizeof(control)};
    } while (recvmsg(descriptor, &message, MSG_ERRQUEUE) >= 0);
}

/* Sends on until all is sent or the socket is full. Returns 1 when done, 0 when full, -1 on error.
 */
static int response_continue(int descriptor)
{
    while (running[descriptor].sent < running[descriptor].length) {
        ssize_t taken = piece_send(descriptor);
        if (taken <= 0)
            return taken < 0 && errno == EAGAIN ? 0 : -1;
        running[descriptor].sent += (size_t)taken;
    }
    running[descriptor].sent = running[descriptor].length = 0;
    return 1;
}

static int listener_open(unsigned port, const char *control)
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    /* Accepted sockets inherit it. */
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (control &&
        setsockopt(listener, IPPROTO_TCP, TCP_CONGESTION, control, (socklen_t)strlen(control)) != 0)
        die(control);
    if (bind(listener, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(listener, CONNECTIONS_MAX) != 0)
        die("listen");
    return listener;
}

static void epoll_set(int poller, int operation, int descriptor, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = descriptor};
    if (epoll_ctl(poller, operation, descriptor, &event) != 0)
        die("epoll_ctl");
}

static void epoll_accept(int poller, int listener)
{
    int descriptor;
    while ((descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (descriptor >= CONNECTIONS_MAX) {
            close(descriptor);
            continue;
        }
        connection_begin(descriptor);
        epoll_set(poller, EPOLL_CTL_ADD, descriptor, EPOLLIN);
    }
}

static void epoll_serve(int poller, int descriptor, uint32_t events)
{
    bool was_full = events & EPOLLOUT;
    if (events & EPOLLERR)
        notices_drain(descriptor);
    if (!(events & (EPOLLIN | EPOLLOUT | EPOLLHUP)))
        return;
    if (!was_full) {
        static char request[RECEIVE_BYTES];
        ssize_t length = recv(descriptor, request, sizeof(request), 0);
        if (length <= 0 || !requests_add(descriptor, request, (size_t)length)) {
            close(descriptor);
            return;
        }
    }
    int done = response_continue(descriptor);
    if (done < 0)
        close(descriptor);
    else if (done == 0 && !was_full)
        epoll_set(poller, EPOLL_CTL_MOD, descriptor, EPOLLOUT);
    else if (done == 1 && was_full)
        epoll_set(poller, EPOLL_CTL_MOD, descriptor, EPOLLIN);
}

static void epoll_run(int listener)
{
    int poller = epoll_create1(EPOLL_CLOEXEC);
    epoll_set(poller, EPOLL_CTL_ADD, listener, EPOLLIN);
    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        int count = epoll_wait(poller, events, EVENTS_MAX, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener)
                epoll_accept(poller, listener);
            else
                epoll_serve(poller, events[i].data.fd, events[i].events);
        }
    }
}

/* The io_uring loop. An entry's user data is its kind above 32 bits, and the descriptor below. */

enum { URING_ACCEPT, URING_RECEIVE, URING_SEND, URING_POLL };

/* How the ring is used: from how it is meant to be to how one begins. */
static enum { URING_MULTISHOT, URING_SINGLE, URING_EACH, URING_EAGER } uring_use;
static struct io_uring uring;
static struct io_uring_buf_ring *buffers;
static char *buffer_memory;

static struct io_uring_sqe *uring_entry(unsigned kind, int descriptor)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&uring);
    if (entry == NULL) {
        io_uring_submit(&uring);
        entry = io_uring_get_sqe(&uring);
    }
    memset(entry, 0, sizeof(*entry));
    entry->user_data = (uint64_t)kind << 32 | (uint32_t)descriptor;
    entry->fd = descriptor;
    return entry;
}

/* The entry is filled in. */
static void uring_push(void)
{
    if (uring_use >= URING_EACH)
        io_uring_submit(&uring);
}

static void uring_accept(int listener)
{
    struct io_uring_sqe *entry = uring_entry(URING_ACCEPT, listener);
    entry->opcode = IORING_OP_ACCEPT;
    entry->ioprio = uring_use == URING_MULTISHOT ? IORING_ACCEPT_MULTISHOT : 0;
    entry->accept_flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
    uring_push();
}

/* Without multishot each connection has a buffer of its own. */
static char *uring_buffer(int descriptor, const struct io_uring_cqe *completion)
{
    size_t buffer = uring_use == URING_MULTISHOT ? completion->flags >> IORING_CQE_BUFFER_SHIFT
                                                 : (size_t)descriptor;
    return buffer_memory + buffer * RECEIVE_BYTES;
}

static void uring_receive(int descriptor)
{
    struct io_uring_sqe *entry = uring_entry(URING_RECEIVE, descriptor);
    entry->opcode = IORING_OP_RECV;
    if (uring_use == URING_MULTISHOT) {
        entry->ioprio = IORING_RECV_MULTISHOT;
        entry->flags = IOSQE_BUFFER_SELECT;
    } else {
        entry->addr = (uintptr_t)uring_buffer(descriptor, NULL);
        entry->len = RECEIVE_BYTES;
    }
    uring_push();
}

/*
 * By submission: the last piece posts no completion unless it fails, but if submitted by itself. With zero copy there
 * are always two.
 */
static void uring_send(int descriptor)
{
    size_t length = memory_length(descriptor);
    struct io_uring_sqe *entry = uring_entry(URING_SEND, descriptor);
    entry->opcode = response.call == CALL_ZEROCOPY ? IORING_OP_SEND_ZC : IORING_OP_SEND;
    entry->addr = (uintptr_t)(response.bytes + memory_offset(descriptor));
    entry->len = (uint32_t)length;
    entry->msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
    if (response.call == CALL_SUBMIT && uring_use < URING_EACH &&
        running[descriptor].sent + length == running[descriptor].length) {
        entry->flags = IOSQE_CQE_SKIP_SUCCESS;
        running[descriptor].sent = running[descriptor].length = 0;
    }
    uring_push();
}

static void uring_sent(int descriptor, const struct io_uring_cqe *completion)
{
    if (completion->flags & IORING_CQE_F_NOTIF || completion->res <= 0)
        return;
    running[descriptor].sent += (size_t)completion->res;
    if (running[descriptor].sent < running[descriptor].length)
        uring_send(descriptor);
    else
        running[descriptor].sent = running[descriptor].length = 0;
}

static void uring_respond(int descriptor)
{
    if (response.call == CALL_SUBMIT || response.call == CALL_ZEROCOPY) {
        uring_send(descriptor);
    } else if (response_continue(descriptor) == 0) {
        struct io_uring_sqe *entry = uring_entry(URING_POLL, descriptor);
        entry->opcode = IORING_OP_POLL_ADD;
        entry->poll32_events = POLLOUT;
        uring_push();
    }
}

static void uring_received(int descriptor, const struct io_uring_cqe *completion)
{
    bool idle = running[descriptor].length == 0, good = completion->res > 0;
    char *data = uring_buffer(descriptor, completion);
    good = good && requests_add(descriptor, data, (size_t)completion->res);
    if (completion->flags & IORING_CQE_F_BUFFER) {
        uint16_t buffer = (uint16_t)(completion->flags >> IORING_CQE_BUFFER_SHIFT);
        io_uring_buf_ring_add(buffers, data, RECEIVE_BYTES, buffer, RECEIVE_BUFFERS - 1, 0);
        io_uring_buf_ring_advance(buffers, 1);
    }
    if (!good && completion->res != -ENOBUFS) {
        close(descriptor);
        return;
    }
    if (good && idle)
        uring_respond(descriptor);
    if (!(completion->flags & IORING_CQE_F_MORE))
        uring_receive(descriptor);
}

static void uring_complete(const struct io_uring_cqe *completion)
{
    int descriptor = (int)(uint32_t)completion->user_data;
    switch (completion->user_data >> 32) {
    case URING_ACCEPT:
        if (!(completion->flags & IORING_CQE_F_MORE))
            uring_accept(descriptor);
        if (completion->res >= 0 && completion->res < CONNECTIONS_MAX) {
            connection_begin(completion->res);
            uring_receive(completion->res);
        }
        break;
    case URING_RECEIVE:
        uring_received(descriptor, completion);
        break;
    case URING_SEND:
        uring_sent(descriptor, completion);
        break;
    case URING_POLL:
        uring_respond(descriptor);
        break;
    }
}

static void uring_buffers_make(void)
{
    if (uring_use != URING_MULTISHOT) {
        buffer_memory = malloc((size_t)CONNECTIONS_MAX * RECEIVE_BYTES);
        if (buffer_memory == NULL)
            die("malloc");
        return;
    }
    size_t ring_bytes = RECEIVE_BUFFERS * sizeof(struct io_uring_buf);
    buffers = aligned_alloc(4096, ring_bytes);
    buffer_memory = malloc(RECEIVE_BUFFERS * RECEIVE_BYTES);
    struct io_uring_buf_reg registration = {.ring_addr = (uintptr_t)buffers,
                                            .ring_entries = RECEIVE_BUFFERS};
    if (buffers == NULL || buffer_memory == NULL ||
        io_uring_register_buf_ring(&uring, &registration, 0) != 0)
        die("buffer ring");
    io_uring_buf_ring_init(buffers);
    for (unsigned i = 0; i < RECEIVE_BUFFERS; i++)
        io_uring_buf_ring_add(buffers, buffer_memory + i * RECEIVE_BYTES, RECEIVE_BYTES,
                              (uint16_t)i, RECEIVE_BUFFERS - 1, (int)i);
    io_uring_buf_ring_advance(buffers, RECEIVE_BUFFERS);
}

static void uring_run(int listener)
{
    unsigned deferred = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    struct io_uring_params params = {.flags = IORING_SETUP_CQSIZE |
                                              (uring_use == URING_EAGER ? 0 : deferred),
                                     .cq_entries = CONNECTIONS_MAX};
    if (io_uring_queue_init_params(1024, &uring, &params) != 0)
        die("io_uring");
    uring_buffers_make();
    uring_accept(listener);
    for (;;) {
        io_uring_submit_and_wait(&uring, 1);
        struct io_uring_cqe *completion;
        unsigned head, count = 0;
        io_uring_for_each_cqe(&uring, head, completion)
        {
            uring_complete(completion);
            count++;
        }
        io_uring_cq_advance(&uring, count);
    }
}

int main(int argc, char **argv)
{
    static const char *const calls[] = {"send",   "sendfile", "sendfile-more",
                                        "submit", "zerocopy", "encrypt"};
    static const char *const loops[] = {"io_uring", "io_uring-single", "io_uring-each",
                                        "io_uring-eager"};
    if (argc != 6 && argc != 7) {
        fprintf(stderr, "usage: limit PORT FILE LOOP CALL PIECE [CONTROL]\n");
        return 2;
    }
    response_load(argv[2]);
    while (strcmp(calls[response.call], argv[4]) != 0) {
        if (++response.call > CALL_ENCRYPT)
            return 2;
    }
    response.piece = strtoul(argv[5], NULL, 10);
    if (seal_begin() != 0)
        die("AES-128-GCM");
    int listener = listener_open((unsigned)strtoul(argv[1], NULL, 10), argv[6]);
    if (strcmp(argv[3], "epoll") == 0)
        epoll_run(listener);
    while (strcmp(loops[uring_use], argv[3]) != 0) {
        if (++uring_use > URING_EAGER)
            return 2;
    }
    uring_run(listener);
}
