/* SPDX-License-Identifier: Apache-2.0 */
#include "net/send_policy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <weir/listener.h>

#include "engine/engine.h"
#include "net/stream.h"

static struct weir__send_policy policy;

static size_t piece_of(const char *congestion)
{
    weir__send_policy_congestion(&policy, congestion);
    return weir__send_policy_piece(&policy);
}

static void only_what_paces_gets_small_pieces(void **state)
{
    (void)state;
    weir__send_policy_init(&policy, WEIR_ZEROCOPY_AUTO, 0);
    assert_int_equal(weir__send_policy_piece(&policy), 0);
    assert_int_equal(piece_of("bbr"), 49152);
    assert_int_equal(piece_of("bbr2"), 49152);
    assert_int_equal(piece_of("reno"), 0);
    assert_int_equal(piece_of("cubic"), 0);
    assert_int_equal(piece_of("bb"), 0);
    assert_int_equal(piece_of(""), 0);
}

static void system_default(char name[WEIR__CONGESTION_NAME_BYTES])
{
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t length = WEIR__CONGESTION_NAME_BYTES;

    assert_true(descriptor >= 0);
    memset(name, 0, WEIR__CONGESTION_NAME_BYTES);
    assert_int_equal(getsockopt(descriptor, IPPROTO_TCP, TCP_CONGESTION, name, &length), 0);
    close(descriptor);
}

static void on_accept(struct weir_listener *listener, struct weir_stream *stream, int error)
{
    (void)listener;
    (void)stream;
    (void)error;
}

/* A loop learns of the system's when it listens. */
static void a_listener_says_which(void **state)
{
    static const enum weir_engine_kind kinds[] = {WEIR_ENGINE_EPOLL, WEIR_ENGINE_POLL};
    char name[WEIR__CONGESTION_NAME_BYTES];
    struct weir_address address = {.length = sizeof(struct sockaddr_in)};

    (void)state;
    system_default(name);
    size_t expected = piece_of(name);
    address.socket.ipv4.sin_family = AF_INET;
    address.socket.ipv4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < 2; i++) {
        struct weir_loop_options options;
        struct weir_loop *loop;
        struct weir_listener *listener;

        weir_loop_options_init(&options);
        options.engine = kinds[i];
        assert_int_equal(weir_loop_new(&loop, &options), 0);
        weir__loop_send_policy(loop)->file_piece_bytes = 1;
        assert_int_equal(weir_listener_start(&listener, loop, &address, NULL, on_accept, NULL), 0);
        assert_int_equal(weir__send_policy_piece(weir__loop_send_policy(loop)), expected);
        weir_listener_close(listener, NULL);
        assert_int_equal(weir_loop_run_once(loop, 0), 0);
        assert_int_equal(weir_loop_run_once(loop, 0), 0);
        weir_loop_free(loop);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_paces_gets_small_pieces),
        cmocka_unit_test(a_listener_says_which),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
