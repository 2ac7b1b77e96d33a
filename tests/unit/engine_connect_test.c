/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of engine/engine.h for how connections begin, on every engine: to connect, to listen and to accept. */

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support/engine_fixture.h"

#define MS             UINT64_C(1000000)
#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void addresses_equal(const struct weir_address *a, const struct weir_address *b)
{
    assert_int_equal(a->length, b->length);
    assert_int_equal(a->socket.ipv4.sin_family, b->socket.ipv4.sin_family);
    assert_int_equal(a->socket.ipv4.sin_port, b->socket.ipv4.sin_port);
    assert_int_equal(a->socket.ipv4.sin_addr.s_addr, b->socket.ipv4.sin_addr.s_addr);
}

static void connect_and_accept(struct engine_fixture *f)
{
    struct pair pair;
    struct weir_address a, b;

    pair_open(&pair, f, false);
    assert_int_equal(f->ops->socket_peer(f->engine, &pair.client, &a), 0);
    addresses_equal(&a, &pair.address);
    assert_int_equal(f->ops->socket_local(f->engine, &pair.server, &b), 0);
    addresses_equal(&b, &pair.address);
    assert_int_equal(f->ops->socket_local(f->engine, &pair.client, &a), 0);
    assert_int_equal(f->ops->socket_peer(f->engine, &pair.server, &b), 0);
    addresses_equal(&a, &b);
    assert_false(pair.client.stamps);
    pair_close(&pair);
    assert_int_equal(pair.client.handle, -1);
}

static void connect_refused(struct engine_fixture *f)
{
    struct weir__socket listener = {.handle = -1}, client = {.handle = -1};
    struct weir_address address;
    struct record connect;

    listener_open(f, &listener, &address);
    f->ops->socket_close(f->engine, &listener);
    assert_int_equal(f->ops->socket_open(f->engine, &client, AF_INET), 0);
    record_init(&connect, f, WEIR__OP_CONNECT, &client);
    connect.op.connect.address = &address;
    record_submit(&connect);
    assert_int_equal(record_finish(&connect), WEIR_EREFUSED);
    f->ops->socket_close(f->engine, &client);
}

/* Whatever comes first, there is one final completion, and it tells what happened. */
static void connect_cancelled_at_once(struct engine_fixture *f)
{
    struct weir__socket listener = {.handle = -1}, client = {.handle = -1};
    struct weir_address address;
    struct record connect;

    listener_open(f, &listener, &address);
    assert_int_equal(f->ops->socket_open(f->engine, &client, AF_INET), 0);
    record_init(&connect, f, WEIR__OP_CONNECT, &client);
    connect.op.connect.address = &address;
    record_submit(&connect);
    record_cancel(&connect);
    int64_t result = record_finish(&connect);
    assert_true(result == 0 || result == WEIR_ECANCELLED);
    wait_for(f, 10 * MS);
    assert_int_equal(connect.finals, 1);
    f->ops->socket_close(f->engine, &client);
    f->ops->socket_close(f->engine, &listener);
}

static void listen_errors(struct engine_fixture *f)
{
    const struct weir__listen_options alone = {.backlog = 8};
    struct weir__socket first = {.handle = -1}, second = {.handle = -1};
    struct weir_address address;

    listener_open(f, &first, &address);
    assert_int_equal(f->ops->socket_listen(f->engine, &second, &address, &alone), WEIR_EADDRINUSE);
    f->ops->socket_close(f->engine, &first);
}

static void listen_twice_at_a_shared_port(struct engine_fixture *f)
{
    const struct weir__listen_options shared = {.backlog = 8, .share_port = true};
    struct weir__socket first = {.handle = -1}, second = {.handle = -1};
    struct weir_address address, any = {.length = sizeof(struct sockaddr_in)};

    any.socket.ipv4.sin_family = AF_INET;
    any.socket.ipv4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int rc = f->ops->socket_listen(f->engine, &first, &any, &shared);
    if (rc == WEIR_EINVAL) {
        f->passed = true;
        engine_skip(f, "cannot share a port (SO_REUSEPORT)");
    }
    assert_int_equal(rc, 0);
    assert_int_equal(f->ops->socket_local(f->engine, &first, &address), 0);
    assert_int_equal(f->ops->socket_listen(f->engine, &second, &address, &shared), 0);
    f->ops->socket_close(f->engine, &second);
    f->ops->socket_close(f->engine, &first);
}

/* 192.0.2.0/24 is for documentation (RFC 5737): no host has it. */
static void listen_at_a_strange_address(struct engine_fixture *f)
{
    const struct weir__listen_options options = {.backlog = 8};
    struct weir__socket listener = {.handle = -1};
    struct weir_address address = {.length = sizeof(struct sockaddr_in)};

    address.socket.ipv4.sin_family = AF_INET;
    address.socket.ipv4.sin_addr.s_addr = htonl(0xc0000201);
    assert_int_equal(f->ops->socket_listen(f->engine, &listener, &address, &options),
                     WEIR_EADDRNOTAVAIL);
}

static void accept_many(struct engine_fixture *f)
{
    enum { COUNT = 40 };
    struct weir__socket listener = {.handle = -1}, clients[COUNT], server = {.handle = -1};
    struct record accept, connects[COUNT];
    struct weir_address address;

    memset(clients, 0, sizeof(clients));
    listener_open(f, &listener, &address);
    record_init(&accept, f, WEIR__OP_ACCEPT, &listener);
    record_submit(&accept);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(f->ops->socket_open(f->engine, &clients[i], AF_INET), 0);
        record_init(&connects[i], f, WEIR__OP_CONNECT, &clients[i]);
        connects[i].op.connect.address = &address;
        record_submit(&connects[i]);
    }
    wait_until(f, &accept.handle_count, COUNT);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(record_finish(&connects[i]), 0);
        f->ops->socket_adopt(f->engine, &server, accept.handles[i]);
        f->ops->socket_close(f->engine, &server);
        f->ops->socket_close(f->engine, &clients[i]);
    }
    assert_int_equal(accept.handle_count, COUNT);
    assert_int_equal(accept.finals, 0);
    record_cancel_and_finish(&accept);
    f->ops->socket_close(f->engine, &listener);
}

static void cancel_in_the_callback(struct record *record, const struct weir__completion *completion)
{
    if (completion->more && record->more_count == 1)
        record_cancel(record);
}

static unsigned tcp_option(const struct weir__socket *socket, int option)
{
    unsigned value = 0;
    socklen_t length = sizeof(value);

    assert_int_equal(getsockopt(socket->handle, IPPROTO_TCP, option, &value, &length), 0);
    return value;
}

/* The listener's options are its connections', which need no call for them; the bound of one can be lifted. */
static void accepted_sockets_inherit(struct engine_fixture *f)
{
    const struct weir__listen_options options = {
        .backlog = 8, .no_delay = true, .unsent_bytes_max = 100000};
    struct weir__socket listener = {.handle = -1}, client = {.handle = -1}, server = {.handle = -1};
    struct record accept, connect;
    struct weir_address address = {.length = sizeof(struct sockaddr_in)};

    address.socket.ipv4.sin_family = AF_INET;
    address.socket.ipv4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(f->ops->socket_listen(f->engine, &listener, &address, &options), 0);
    assert_int_equal(f->ops->socket_local(f->engine, &listener, &address), 0);
    assert_int_equal(f->ops->socket_open(f->engine, &client, AF_INET), 0);
    record_init(&accept, f, WEIR__OP_ACCEPT, &listener);
    record_init(&connect, f, WEIR__OP_CONNECT, &client);
    connect.op.connect.address = &address;
    record_submit(&accept);
    record_submit(&connect);
    assert_int_equal(record_finish(&connect), 0);
    wait_until(f, &accept.handle_count, 1);
    f->ops->socket_adopt(f->engine, &server, accept.handles[0]);
    assert_int_equal(tcp_option(&server, TCP_NODELAY), 1);
#ifndef WEIR_PORTABLE /* POSIX knows no such bound */
    assert_int_equal(tcp_option(&server, TCP_NOTSENT_LOWAT), 100000);
    f->ops->socket_unsent_max(f->engine, &server, 0);
    assert_int_equal(tcp_option(&server, TCP_NOTSENT_LOWAT), UINT32_MAX);
#endif
    record_cancel_and_finish(&accept);
    f->ops->socket_close(f->engine, &server);
    f->ops->socket_close(f->engine, &client);
    f->ops->socket_close(f->engine, &listener);
}

/* Two peers wait; the one that has not been accepted when the callback cancels may stay in the backlog. */
static void cancel_accept_in_its_callback(struct engine_fixture *f)
{
    struct weir__socket listener = {.handle = -1}, server = {.handle = -1};
    struct weir__socket clients[2] = {{.handle = -1}, {.handle = -1}};
    struct record accept, connect;
    struct weir_address address;

    listener_open(f, &listener, &address);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(f->ops->socket_open(f->engine, &clients[i], AF_INET), 0);
        record_init(&connect, f, WEIR__OP_CONNECT, &clients[i]);
        connect.op.connect.address = &address;
        record_submit(&connect);
        assert_int_equal(record_finish(&connect), 0);
    }
    record_init(&accept, f, WEIR__OP_ACCEPT, &listener);
    accept.hook = cancel_in_the_callback;
    record_submit(&accept);
    assert_int_equal(record_finish(&accept), WEIR_ECANCELLED);
    assert_in_range(accept.handle_count, 1, 2);
    accept.hook = NULL;
    if (accept.handle_count == 1) {
        record_submit(&accept);
        wait_until(f, &accept.handle_count, 2);
        record_cancel_and_finish(&accept);
    }
    for (int i = 0; i < 2; i++) {
        f->ops->socket_adopt(f->engine, &server, accept.handles[i]);
        f->ops->socket_close(f->engine, &server);
        f->ops->socket_close(f->engine, &clients[i]);
    }
    f->ops->socket_close(f->engine, &listener);
}

static void accept_without_descriptors(struct engine_fixture *f)
{
    struct weir__socket listener = {.handle = -1}, client = {.handle = -1}, server = {.handle = -1};
    struct record accept, connect;
    struct weir_address address;
    struct rlimit limit, low;

    listener_open(f, &listener, &address);
    assert_int_equal(f->ops->socket_open(f->engine, &client, AF_INET), 0);
    record_init(&connect, f, WEIR__OP_CONNECT, &client);
    connect.op.connect.address = &address;
    record_submit(&connect);
    assert_int_equal(record_finish(&connect), 0);

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    low = limit;
    low.rlim_cur = (rlim_t)descriptor_next();
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    record_init(&accept, f, WEIR__OP_ACCEPT, &listener);
    record_submit(&accept);
    int64_t result = record_finish(&accept);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(result, WEIR_EMFILE);
    assert_int_equal(accept.handle_count, 0);

    record_submit(&accept);
    wait_until(f, &accept.handle_count, 1);
    record_cancel_and_finish(&accept);
    f->ops->socket_adopt(f->engine, &server, accept.handles[0]);
    f->ops->socket_close(f->engine, &server);
    f->ops->socket_close(f->engine, &client);
    f->ops->socket_close(f->engine, &listener);
}

static const struct engine_test tests[] = {
    {.name = "connect and accept", .run = connect_and_accept},
    {.name = "connect refused", .run = connect_refused},
    {.name = "connect cancelled at once", .run = connect_cancelled_at_once},
    {.name = "listen errors", .run = listen_errors},
    {.name = "listen twice at a shared port", .run = listen_twice_at_a_shared_port},
    {.name = "listen at a strange address", .run = listen_at_a_strange_address, .kernel = true},
    {.name = "accept many", .run = accept_many},
    {.name = "accepted sockets inherit", .run = accepted_sockets_inherit, .kernel = true},
    {.name = "cancel accept in its callback", .run = cancel_accept_in_its_callback},
    {.name = "accept without descriptors", .run = accept_without_descriptors, .kernel = true},
};

int main(void)
{
    return engine_suite_run("engine: connections", tests, ARRAY_COUNT(tests));
}
