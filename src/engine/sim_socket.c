/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <weir/error.h>

#include "engine/sim_internal.h"

/* A SYN that a full backlog dropped comes again: Linux's first SYN retransmission. */
#define SIM_SYN_RETRY_NS 1000000000u
/* As on any Unix: 0 to 2 are taken. */
#define SIM_HANDLE_FIRST 3
#define SIM_PORT_FIRST   32768
#define SIM_PORT_LAST    60999

struct sim_private {
    struct sim_socket *socket;
};

_Static_assert(sizeof(struct sim_private) <= WEIR__SOCKET_PRIVATE_BYTES, "a socket's private room");

struct sim_socket *weir__sim_socket_of(const struct weir__socket *socket)
{
    return ((const struct sim_private *)socket->engine_private)->socket;
}

static void socket_set(struct weir__socket *socket, struct sim_socket *sim_socket)
{
    ((struct sim_private *)socket->engine_private)->socket = sim_socket;
}

/* Addresses */

static uint16_t port_of(const struct weir_address *address)
{
    return ntohs(address->socket.any.sa_family == AF_INET6 ? address->socket.ipv6.sin6_port
                                                           : address->socket.ipv4.sin_port);
}

static void port_set(struct weir_address *address, uint16_t port)
{
    if (address->socket.any.sa_family == AF_INET6)
        address->socket.ipv6.sin6_port = htons(port);
    else
        address->socket.ipv4.sin_port = htons(port);
}

static bool is_wildcard(const struct weir_address *address)
{
    if (address->socket.any.sa_family == AF_INET6)
        return IN6_IS_ADDR_UNSPECIFIED(&address->socket.ipv6.sin6_addr);
    return address->socket.ipv4.sin_addr.s_addr == htonl(INADDR_ANY);
}

/* The simulated hosts have loopback addresses only. */
static bool is_local(const struct weir_address *address)
{
    if (is_wildcard(address))
        return true;
    if (address->socket.any.sa_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&address->socket.ipv6.sin6_addr);
    return ntohl(address->socket.ipv4.sin_addr.s_addr) >> 24 == 127;
}

static bool same_host(const struct weir_address *one, const struct weir_address *other)
{
    if (one->socket.any.sa_family != other->socket.any.sa_family)
        return false;
    if (one->socket.any.sa_family == AF_INET6)
        return IN6_ARE_ADDR_EQUAL(&one->socket.ipv6.sin6_addr, &other->socket.ipv6.sin6_addr);
    return one->socket.ipv4.sin_addr.s_addr == other->socket.ipv4.sin_addr.s_addr;
}

static bool same_address(const struct weir_address *one, const struct weir_address *other)
{
    return same_host(one, other) && port_of(one) == port_of(other);
}

static bool listens_at(const struct sim_socket *socket, const struct weir_address *address)
{
    if (socket->state != SIM_LISTENING || port_of(&socket->local) != port_of(address) ||
        socket->local.socket.any.sa_family != address->socket.any.sa_family)
        return false;
    return is_wildcard(&socket->local) || is_wildcard(address) ||
           same_host(&socket->local, address);
}

/* One of those that listen there, as SO_REUSEPORT spreads connections; NULL if there is none. */
static struct sim_socket *listener_find(struct sim *sim, const struct weir_address *address)
{
    struct sim_socket *found = NULL;
    unsigned count = 0;

    for (size_t index = 0; index < sim->handle_capacity; index++) {
        struct sim_socket *socket = sim->handles[index];
        if (socket && listens_at(socket, address) && weir__sim_between(sim, 0, count++) == 0)
            found = socket;
    }
    return found;
}

static uint16_t port_take(struct sim *sim)
{
    uint16_t port = sim->port_next;
    sim->port_next = port == SIM_PORT_LAST ? SIM_PORT_FIRST : (uint16_t)(port + 1);
    return port;
}

/* Sockets and handles */

static struct sim_socket *socket_new(struct sim *sim)
{
    struct sim_socket *socket = calloc(1, sizeof(*socket));

    if (!socket)
        abort();
    socket->number = (unsigned)sim->socket_count;
    socket->handle = -1;
    weir__sim_grow((void **)&sim->sockets, sim->socket_count, &sim->socket_capacity,
                   sizeof(*sim->sockets));
    sim->sockets[sim->socket_count++] = socket;
    return socket;
}

void weir__sim_socket_free(struct sim_socket *socket)
{
    weir__sim_tls_free(socket->tls);
    free(socket->stamp_queue);
    free(socket->backlog);
    free(socket);
}

int weir__sim_handle_give(struct sim *sim, struct sim_socket *socket)
{
    size_t handle = SIM_HANDLE_FIRST;

    if (sim->handle_count >= sim->options.handles_max)
        return WEIR_EMFILE;
    while (handle < sim->handle_capacity && sim->handles[handle])
        handle++;
    size_t capacity_before = sim->handle_capacity;
    weir__sim_grow((void **)&sim->handles, handle, &sim->handle_capacity, sizeof(*sim->handles));
    memset(sim->handles + capacity_before, 0,
           (sim->handle_capacity - capacity_before) * sizeof(*sim->handles));
    sim->handles[handle] = socket;
    sim->handle_count++;
    socket->handle = (int)handle;
    return socket->handle;
}

static void handle_release(struct sim *sim, struct weir__socket *socket)
{
    struct sim_socket *sim_socket = weir__sim_socket_of(socket);

    assert(!socket->reader);
    assert(!socket->writer);
    assert(!socket->watcher);
    assert(socket->pins == 0);
    assert(sim->handles[sim_socket->handle] == sim_socket);
    sim->handles[sim_socket->handle] = NULL;
    sim->handle_count--;
    sim_socket->handle = -1;
    sim_socket->closed = true;
    sim_socket->stamp_count = 0;
    if (sim_socket->in)
        weir__sim_flow_drop_bytes(sim_socket->in);
    socket->handle = -1;
    socket_set(socket, NULL);
}

int weir__sim_socket_open(struct weir__engine *engine, struct weir__socket *socket, int family)
{
    struct sim *sim = (struct sim *)engine;

    if (weir__sim_fault(sim, sim->options.open_emfile) ||
        sim->handle_count >= sim->options.handles_max)
        return WEIR_EMFILE;
    if (family != AF_INET && family != AF_INET6)
        return WEIR_EIO;
    struct sim_socket *sim_socket = socket_new(sim);
    socket->handle = weir__sim_handle_give(sim, sim_socket);
    socket_set(socket, sim_socket);
    weir__sim_trace(sim, "s%u open, handle %d", sim_socket->number, socket->handle);
    return 0;
}

void weir__sim_socket_adopt(struct weir__engine *engine, struct weir__socket *socket, int handle)
{
    struct sim *sim = (struct sim *)engine;

    assert(handle >= 0);
    assert((size_t)handle < sim->handle_capacity);
    assert(sim->handles[handle]);
    socket->handle = handle;
    socket_set(socket, sim->handles[handle]);
}

int weir__sim_socket_listen(struct weir__engine *engine, struct weir__socket *socket,
                            const struct weir_address *address,
                            const struct weir__listen_options *options)
{
    struct sim *sim = (struct sim *)engine;

    if (!is_local(address))
        return WEIR_EADDRNOTAVAIL;
    for (size_t index = 0; port_of(address) != 0 && index < sim->handle_capacity; index++) {
        struct sim_socket *other = sim->handles[index];
        if (other && listens_at(other, address) && !(other->share_port && options->share_port))
            return WEIR_EADDRINUSE;
    }
    int result = weir__sim_socket_open(engine, socket, address->socket.any.sa_family);
    if (result < 0)
        return result;
    struct sim_socket *listener = weir__sim_socket_of(socket);
    listener->state = SIM_LISTENING;
    listener->local = *address;
    if (port_of(address) == 0)
        port_set(&listener->local, port_take(sim));
    listener->share_port = options->share_port;
    listener->backlog_max = options->backlog > 0 ? options->backlog : 1;
    return 0;
}

void weir__sim_socket_prepare(struct weir__engine *engine, struct weir__socket *socket,
                              bool no_delay, bool delivery)
{
    struct sim *sim = (struct sim *)engine;
    struct sim_socket *sim_socket = weir__sim_socket_of(socket);

    (void)no_delay;
    assert(!sim_socket->out || sim_socket->out->accepted == 0);
    sim_socket->prepared = delivery;
    sim_socket->stamps = delivery && sim->options.stamps;
    socket->stamps = sim_socket->stamps;
}

/* The simulated buffers are small, and change their size at random. */
void weir__sim_socket_unsent_max(struct weir__engine *engine, struct weir__socket *socket,
                                 uint32_t bytes)
{
    (void)engine;
    (void)socket;
    (void)bytes;
}

void weir__sim_socket_congestion(struct weir__engine *engine, const struct weir__socket *socket,
                                 char name[WEIR__CONGESTION_NAME_BYTES])
{
    (void)engine;
    (void)socket;
    name[0] = '\0';
}

/* Making and ending a connection */

void weir__sim_connect(struct sim *sim, struct sim_socket *socket,
                       const struct weir_address *address)
{
    uint64_t delay_ns =
        weir__sim_between(sim, sim->options.delay_ns_min, sim->options.delay_ns_max);

    assert(socket->state == SIM_FRESH);
    socket->state = SIM_CONNECTING;
    socket->peer = *address;
    socket->local = *address;
    if (address->socket.any.sa_family == AF_INET6)
        socket->local.socket.ipv6.sin6_addr = in6addr_loopback;
    else
        socket->local.socket.ipv4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    port_set(&socket->local, port_take(sim));
    weir__sim_schedule(sim, sim->now_ns + sim->options.timeout_ns,
                       (struct sim_event){.kind = SIM_EVENT_CONNECT_TIMEOUT, .socket = socket});
    if (!weir__sim_fault(sim, sim->options.connect_silence))
        weir__sim_schedule(sim, sim->now_ns + delay_ns,
                           (struct sim_event){.kind = SIM_EVENT_SYN, .socket = socket});
}

static void faults_plan(struct sim *sim, struct sim_socket *client)
{
    uint64_t at_ns = sim->now_ns + weir__sim_between(sim, 0, sim->options.fault_ns_max);

    if (weir__sim_fault(sim, sim->options.connection_reset))
        weir__sim_schedule(sim, at_ns,
                           (struct sim_event){.kind = SIM_EVENT_FAULT_RESET, .socket = client});
    else if (weir__sim_fault(sim, sim->options.connection_silence))
        weir__sim_schedule(sim, at_ns,
                           (struct sim_event){.kind = SIM_EVENT_FAULT_SILENCE, .socket = client});
}

static void syn_arrive(struct sim *sim, struct sim_socket *client)
{
    if (client->state != SIM_CONNECTING)
        return;
    struct sim_socket *listener = listener_find(sim, &client->peer);
    if (!listener) {
        uint64_t delay_ns =
            weir__sim_between(sim, sim->options.delay_ns_min, sim->options.delay_ns_max);
        weir__sim_schedule(sim, sim->now_ns + delay_ns,
                           (struct sim_event){.kind = SIM_EVENT_REFUSED, .socket = client});
        return;
    }
    if (listener->backlog_count >= listener->backlog_max) {
        weir__sim_schedule(sim, sim->now_ns + SIM_SYN_RETRY_NS,
                           (struct sim_event){.kind = SIM_EVENT_SYN, .socket = client});
        return;
    }
    struct sim_socket *server = socket_new(sim);
    server->local = client->peer;
    server->peer = client->local;
    server->state = SIM_CONNECTED;
    weir__sim_flow_pair(sim, client, server);
    weir__sim_schedule(sim, sim->now_ns + server->out->delay_ns,
                       (struct sim_event){.kind = SIM_EVENT_CONNECTED, .socket = client});
    client->out->arrival_last_ns = sim->now_ns + server->out->delay_ns + client->out->delay_ns;
    weir__sim_schedule(sim, client->out->arrival_last_ns,
                       (struct sim_event){.kind = SIM_EVENT_ESTABLISHED, .socket = server});
    faults_plan(sim, client);
}

static void connected(struct sim *sim, struct sim_socket *client)
{
    if (client->state != SIM_CONNECTING) {
        weir__sim_flow_send_rst(sim, client->out);
        return;
    }
    client->state = SIM_CONNECTED;
    weir__sim_trace(sim, "s%u connected", client->number);
}

static void established(struct sim *sim, struct sim_socket *server)
{
    struct sim_socket *listener = listener_find(sim, &server->local);

    if (!listener) {
        weir__sim_flow_send_rst(sim, server->out);
        server->closed = true;
        weir__sim_socket_die(sim, server, WEIR_EABORTED);
        return;
    }
    weir__sim_grow((void **)&listener->backlog, listener->backlog_count,
                   &listener->backlog_capacity, sizeof(*listener->backlog));
    listener->backlog[listener->backlog_count++] = server;
    weir__sim_trace(sim, "s%u waits to be accepted", server->number);
}

void weir__sim_socket_die(struct sim *sim, struct sim_socket *socket, int error)
{
    if (socket->state != SIM_CONNECTED && socket->state != SIM_CONNECTING)
        return;
    socket->state = SIM_DEAD;
    socket->error = error;
    if (socket->out) {
        socket->out->stopped = true;
        socket->out->wish_count = 0;
    }
    weir__sim_trace(sim, "s%u dies: %s", socket->number, weir_error_name(error));
}

static void fault_reset(struct sim *sim, struct sim_socket *client)
{
    struct sim_event event = {.kind = SIM_EVENT_RST};
    bool client_first = weir__sim_chance(sim, 500);

    weir__sim_trace(sim, "fault: s%u and s%u are reset", client->number, client->out->to->number);
    event.flow = client_first ? client->in : client->out;
    weir__sim_schedule(sim, sim->now_ns, event);
    event.flow = event.flow->reverse;
    weir__sim_schedule(sim, sim->now_ns + weir__sim_between(sim, 0, 10 * SIM_MSEC_NS), event);
}

static void fault_silence(struct sim *sim, struct sim_socket *client)
{
    uint64_t which = weir__sim_between(sim, 1, 3);

    if (which & 1)
        weir__sim_flow_silence(&sim->engine, client->out);
    if (which & 2)
        weir__sim_flow_silence(&sim->engine, client->in);
}

void weir__sim_socket_event(struct sim *sim, const struct sim_event *event)
{
    struct sim_socket *socket = event->socket;

    switch (event->kind) {
    case SIM_EVENT_SYN:
        syn_arrive(sim, socket);
        break;
    case SIM_EVENT_CONNECTED:
        connected(sim, socket);
        break;
    case SIM_EVENT_REFUSED:
        weir__sim_socket_die(sim, socket,
                             is_local(&socket->peer) ? WEIR_EREFUSED : WEIR_EUNREACHABLE);
        break;
    case SIM_EVENT_ESTABLISHED:
        established(sim, socket);
        break;
    case SIM_EVENT_CONNECT_TIMEOUT:
        if (socket->state == SIM_CONNECTING)
            weir__sim_socket_die(sim, socket, WEIR_ETIMEDOUT);
        break;
    case SIM_EVENT_FAULT_RESET:
        fault_reset(sim, socket);
        break;
    case SIM_EVENT_FAULT_SILENCE:
        fault_silence(sim, socket);
        break;
    default:
        abort();
    }
}

bool weir__sim_socket_ended(const struct sim_socket *socket)
{
    return socket->out && socket->out->fin_acked && socket->in->fin_arrived;
}

int weir__sim_socket_shutdown(struct weir__engine *engine, struct weir__socket *socket)
{
    struct sim_socket *sim_socket = weir__sim_socket_of(socket);

    if (sim_socket->state != SIM_CONNECTED)
        return sim_socket->state == SIM_DEAD ? sim_socket->error : WEIR_EIO;
    weir__sim_trace((struct sim *)engine, "s%u shutdown", sim_socket->number);
    weir__sim_flow_finish((struct sim *)engine, sim_socket->out);
    return 0;
}

static void listener_close(struct sim *sim, struct sim_socket *listener)
{
    for (size_t index = 0; index < listener->backlog_count; index++) {
        struct sim_socket *server = listener->backlog[index];
        weir__sim_flow_send_rst(sim, server->out);
        server->closed = true;
        weir__sim_socket_die(sim, server, WEIR_EABORTED);
    }
    listener->backlog_count = 0;
    listener->state = SIM_DEAD;
}

void weir__sim_socket_close(struct weir__engine *engine, struct weir__socket *socket)
{
    struct sim *sim = (struct sim *)engine;
    struct sim_socket *sim_socket = weir__sim_socket_of(socket);

    /* Linux resets a connection that is closed with bytes unread. */
    if (sim_socket->state == SIM_CONNECTED && sim_socket->in->arrived > sim_socket->in->read) {
        weir__sim_socket_reset(engine, socket);
        return;
    }
    weir__sim_trace(sim, "s%u close", sim_socket->number);
    handle_release(sim, socket);
    if (sim_socket->state == SIM_LISTENING)
        listener_close(sim, sim_socket);
    else if (sim_socket->state == SIM_CONNECTED)
        weir__sim_flow_finish(sim, sim_socket->out);
    else
        weir__sim_socket_die(sim, sim_socket, WEIR_EABORTED);
}

void weir__sim_socket_reset(struct weir__engine *engine, struct weir__socket *socket)
{
    struct sim *sim = (struct sim *)engine;
    struct sim_socket *sim_socket = weir__sim_socket_of(socket);

    weir__sim_trace(sim, "s%u reset", sim_socket->number);
    handle_release(sim, socket);
    if (sim_socket->state == SIM_LISTENING)
        listener_close(sim, sim_socket);
    if (sim_socket->state == SIM_CONNECTED)
        weir__sim_flow_send_rst(sim, sim_socket->out);
    weir__sim_socket_die(sim, sim_socket, WEIR_EABORTED);
}

void weir__sim_socket_abort(struct weir__engine *engine, struct weir__socket *socket)
{
    struct sim *sim = (struct sim *)engine;
    struct sim_socket *sim_socket = weir__sim_socket_of(socket);

    assert(!socket->reader);
    assert(!socket->writer);
    assert(!socket->watcher);
    weir__sim_trace(sim, "s%u abort", sim_socket->number);
    if (sim_socket->state == SIM_CONNECTED)
        weir__sim_flow_send_rst(sim, sim_socket->out);
    weir__sim_socket_die(sim, sim_socket, WEIR_EABORTED);
    sim_socket->aborted = true;
}

int weir__sim_socket_info(struct weir__engine *engine, struct weir__socket *socket,
                          struct weir__socket_info *info)
{
    struct sim *sim = (struct sim *)engine;
    const struct weir__sim_flow *out = weir__sim_socket_of(socket)->out;

    if (!sim->options.info || !out)
        return WEIR_ENOTSUP;
    uint64_t notsent = out->accepted - out->sent;
    *info = (struct weir__socket_info){
        .bytes_acked = out->acked + (out->fin_acked && sim->options.info_counts_fin),
        .rtt_us = (uint32_t)((out->delay_ns + out->reverse->delay_ns) / 1000),
        .retransmits = out->retransmits,
        .notsent_bytes = notsent < UINT32_MAX ? (uint32_t)notsent : UINT32_MAX,
    };
    return 0;
}

int weir__sim_socket_unacked(struct weir__engine *engine, struct weir__socket *socket,
                             uint64_t *bytes)
{
    struct sim *sim = (struct sim *)engine;
    const struct weir__sim_flow *out = weir__sim_socket_of(socket)->out;

    if (!sim->options.info || !out)
        return WEIR_ENOTSUP;
    *bytes = out->accepted - out->acked;
    return 0;
}

/* Files are the host's. */
int64_t weir__sim_file_read(struct weir__engine *engine, int file, uint64_t offset, void *data,
                            size_t length)
{
    ssize_t taken;

    (void)engine;
    do
        taken = pread(file, data, length, (off_t)offset);
    while (taken < 0 && errno == EINTR);
    return taken >= 0 ? taken : WEIR_EIO;
}

int weir__sim_socket_local(struct weir__engine *engine, const struct weir__socket *socket,
                           struct weir_address *address)
{
    (void)engine;
    *address = weir__sim_socket_of(socket)->local;
    return address->length > 0 ? 0 : WEIR_EIO;
}

int weir__sim_socket_peer(struct weir__engine *engine, const struct weir__socket *socket,
                          struct weir_address *address)
{
    (void)engine;
    *address = weir__sim_socket_of(socket)->peer;
    return address->length > 0 ? 0 : WEIR_EIO;
}

const struct weir__sim_flow *weir__sim_flow_find(const struct weir__engine *engine,
                                                 const struct weir_address *from,
                                                 const struct weir_address *to)
{
    const struct sim *sim = (const struct sim *)engine;

    /* The latest first: ports come round. */
    for (size_t index = sim->flow_count; index > 0; index--) {
        const struct weir__sim_flow *flow = sim->flows[index - 1];
        if (same_address(&flow->from->local, from) && same_address(&flow->to->local, to))
            return flow;
    }
    return NULL;
}
