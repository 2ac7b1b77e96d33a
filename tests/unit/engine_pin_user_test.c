/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pins of an ordinary user, whom RLIMIT_MEMLOCK bounds: sends until some are refused, and all bytes arrive. Root
 * is never refused by it, so a child of root's becomes such a user, one of its own, since the limit is a user's.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <grp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support/engine_fixture.h"
#include "support/pin_sender.h"

#define SEND_BYTES (256u << 10)
/* Each takes 2 to 4 MB that its peer has not read. */
#define CONNECTIONS 6
#define USER_FIRST  200000
#define USERS       50000

enum outcome {
    REFUSED_SOME = 40,
    REFUSED_ALL,
    REFUSED_NONE,
    NO_ENGINE,
    NO_USER,
    NO_CONNECTION,
    WRONG_BYTES,
    WRONG_PINS
};

static enum outcome send_and_receive(struct weir__engine *engine, const uint8_t *bytes)
{
    static struct pin_sender senders[CONNECTIONS];
    unsigned refused = 0, taken = 0;

    for (unsigned i = 0; i < CONNECTIONS; i++) {
        if (!pin_sender_open(&senders[i], engine, pin_sender_listener(INADDR_LOOPBACK),
                             socket(AF_INET, SOCK_STREAM, 0), bytes))
            return NO_CONNECTION;
        while (pin_sender_send(&senders[i], SEND_BYTES))
            ;
    }
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        if (!pin_sender_received(&senders[i]))
            return WRONG_BYTES;
        if (!pin_sender_close(&senders[i]) || senders[i].by_result[WEIR__PIN_UNSENT] > 0)
            return WRONG_PINS;
        refused += senders[i].by_result[WEIR__PIN_REFUSED];
        taken += senders[i].count;
    }
    return refused == 0 ? REFUSED_NONE : refused < taken ? REFUSED_SOME : REFUSED_ALL;
}

static bool become_user(rlim_t locked_bytes)
{
    const struct rlimit limit = {.rlim_cur = locked_bytes, .rlim_max = locked_bytes};
    uid_t user = (uid_t)(USER_FIRST + getpid() % USERS);

    return setrlimit(RLIMIT_MEMLOCK, &limit) == 0 && setgroups(0, NULL) == 0 &&
           setresgid(user, user, user) == 0 && setresuid(user, user, user) == 0;
}

static int user(const struct weir__engine_ops *ops, void *context)
{
    static const struct weir__engine_options options = {
        .delivery = true, .receive_bytes = 4096, .receive_buffers = 16};
    const size_t room = (size_t)(PIN_SENDS_MAX + 1) * SEND_BYTES;
    struct weir__engine *engine;
    uint8_t *bytes = malloc(room);

    if (!bytes || !become_user(*(const rlim_t *)context))
        return NO_USER;
    pattern_fill(bytes, room, 0);
    if (ops->open(&engine, &options) != 0) {
        free(bytes);
        return NO_ENGINE;
    }
    enum outcome outcome = send_and_receive(engine, bytes);
    if (outcome == REFUSED_SOME || outcome == REFUSED_ALL)
        ops->close(engine);
    free(bytes);
    return (int)outcome;
}

static void refused_to_a_user(const struct weir__engine_ops *ops, rlim_t locked_bytes,
                              enum outcome expected)
{
    const char *reason = NULL;
    int outcome = -1;

    if (geteuid() != 0)
        reason = "becoming an ordinary user needs root";
    else
        outcome = child_status(user, ops, &locked_bytes);
    if (outcome == NO_USER)
        reason = "cannot become an ordinary user";
    else if (outcome == NO_ENGINE)
        reason = "cannot be had by an ordinary user with so little memory to lock";
    if (reason) {
        printf("SKIP: %s, %llu KiB: %s\n", ops->name, (unsigned long long)locked_bytes >> 10,
               reason);
        skip();
    }
    assert_int_equal(outcome, expected);
}

/* What a login has today: refused with 6 to 8 MB under way. */
static void with_8_mib(void **state)
{
    refused_to_a_user(*state, 8u << 20, REFUSED_SOME);
}

/* What it once had, less than one of the sends. */
static void with_64_kib(void **state)
{
    refused_to_a_user(*state, 64u << 10, REFUSED_ALL);
}

#define ON(engine, test)                                                                           \
    {                                                                                              \
        .name = #engine ": " #test, .test_func = (test),                                           \
        .initial_state = (void *)(uintptr_t)&weir__##engine##_engine                               \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON(io_uring, with_8_mib),  ON(epoll, with_8_mib),  ON(poll, with_8_mib),
        ON(io_uring, with_64_kib), ON(epoll, with_64_kib), ON(poll, with_64_kib),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
