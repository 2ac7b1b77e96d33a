/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/probe.h"

#include <dirent.h>
#include <errno.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "support/seccomp.h"

#define ANY (-1)

static enum weir__probe_id probe_id;

static void probe_into(void *result)
{
    weir__probe_run(probe_id, result);
}

/* Probes where a call is taken away, or skips the test where that cannot be done. */
static struct weir__probe probe_without(enum weir__probe_id id,
                                        const struct test_forbidden *forbidden)
{
    struct weir__probe probe;
    probe_id = id;
    if (!test_run_without(forbidden, probe_into, &probe, sizeof(probe))) {
        printf("SKIP: no seccomp filter may be set up here\n");
        skip();
    }
    return probe;
}

static struct weir__probe probe_now(enum weir__probe_id id)
{
    struct weir__probe probe;
    weir__probe_run(id, &probe);
    return probe;
}

static void names_are_unique(void **state)
{
    (void)state;
    for (int i = 0; i < WEIR__PROBE_COUNT; i++) {
        assert_non_null(weir__probe_name((enum weir__probe_id)i));
        for (int j = 0; j < i; j++)
            assert_string_not_equal(weir__probe_name((enum weir__probe_id)i),
                                    weir__probe_name((enum weir__probe_id)j));
    }
}

/* What every Linux that Weir builds on has. */
static void the_plain_things_work(void **state)
{
    static const enum weir__probe_id ids[] = {WEIR__PROBE_SEND_FILE, WEIR__PROBE_REUSE_PORT,
                                              WEIR__PROBE_ENGINE_EPOLL, WEIR__PROBE_ENGINE_POLL,
                                              WEIR__PROBE_TCP_INFO_ACKED};
    (void)state;
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        struct weir__probe probe = probe_now(ids[i]);
        assert_string_equal(probe.text, "");
        assert_true(probe.works);
    }
}

/* Each result rests on others: a feature cannot work where its foundation does not. */
static void results_agree(void **state)
{
    static const struct {
        enum weir__probe_id feature, foundation;
    } rests[] = {
        {WEIR__PROBE_ENGINE_IO_URING, WEIR__PROBE_URING_SETUP},
        {WEIR__PROBE_DELIVERY_IO_URING, WEIR__PROBE_ENGINE_IO_URING},
        {WEIR__PROBE_DELIVERY_EPOLL, WEIR__PROBE_ENGINE_EPOLL},
        {WEIR__PROBE_URING_CANCEL, WEIR__PROBE_URING_SETUP},
        {WEIR__PROBE_URING_RECEIVE_MULTISHOT, WEIR__PROBE_URING_BUFFER_RING},
        {WEIR__PROBE_URING_RECVMSG_MULTISHOT, WEIR__PROBE_URING_BUFFER_RING},
        {WEIR__PROBE_URING_TX_TIMESTAMP, WEIR__PROBE_URING_CQE_MIXED},
        {WEIR__PROBE_STAMP_PER_CALL, WEIR__PROBE_STAMP_ACKED},
        {WEIR__PROBE_STAMP_ID_TCP, WEIR__PROBE_STAMP_ACKED},
        {WEIR__PROBE_KTLS_1_3, WEIR__PROBE_KTLS},
        {WEIR__PROBE_KTLS_1_2, WEIR__PROBE_KTLS},
        {WEIR__PROBE_KTLS_REKEY, WEIR__PROBE_KTLS_1_3},
        {WEIR__PROBE_KTLS_STAMP, WEIR__PROBE_KTLS_1_3},
        {WEIR__PROBE_KTLS_STAT, WEIR__PROBE_KTLS},
        {WEIR__PROBE_URING_KTLS, WEIR__PROBE_KTLS_1_3},
        {WEIR__PROBE_URING_KTLS, WEIR__PROBE_URING_RECVMSG_MULTISHOT},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rests) / sizeof(rests[0]); i++) {
        struct weir__probe feature = probe_now(rests[i].feature);
        struct weir__probe foundation = probe_now(rests[i].foundation);
        if (feature.works)
            assert_string_equal(foundation.works ? "works" : foundation.text, "works");
        else
            assert_true(feature.text[0] != 0);
    }
}

static void a_filter_that_refuses_is_named(void **state)
{
    static const struct test_forbidden ring = {SYS_io_uring_setup, ANY, ANY,
                                               SECCOMP_RET_ERRNO | EPERM};
    static const struct test_forbidden paths = {SYS_openat2, ANY, ANY, SECCOMP_RET_ERRNO | ENOSYS};
    struct weir__probe probe;
    (void)state;
    probe = probe_without(WEIR__PROBE_OPENAT2, &paths);
    assert_string_equal(probe.text, "openat2: Function not implemented; a seccomp filter is in "
                                    "force here");
    assert_false(probe.works);
    probe = probe_without(WEIR__PROBE_URING_SETUP, &ring);
    assert_false(probe.works);
    if (strstr(probe.text, "io_uring_disabled") == NULL)
        assert_string_equal(probe.text, "io_uring_setup: Operation not permitted; a seccomp filter "
                                        "is in force here");
    assert_false(probe_without(WEIR__PROBE_ENGINE_IO_URING, &ring).works);
    probe = probe_without(WEIR__PROBE_ENGINE_AUTO, &ring);
    assert_memory_equal(probe.text, "epoll: ", 7);
    assert_true(probe.works);
}

static void a_filter_that_kills_is_survived(void **state)
{
    static const struct test_forbidden ring = {SYS_io_uring_setup, ANY, ANY,
                                               SECCOMP_RET_KILL_PROCESS};
    (void)state;
    struct weir__probe probe = probe_without(WEIR__PROBE_URING_SETUP, &ring);
    assert_string_equal(probe.text, "a seccomp filter kills the process that tries it");
    assert_false(probe.works);
}

static void a_call_that_hangs_is_ended(void **state)
{
    static const struct test_forbidden ring = {SYS_io_uring_setup, ANY, ANY,
                                               SECCOMP_RET_USER_NOTIF};
    (void)state;
    /* Of two filters the one that refuses wins, as it does in most containers. */
    if (strstr(probe_now(WEIR__PROBE_URING_SETUP).text, "a seccomp filter is in force")) {
        printf("SKIP: a filter from outside refuses io_uring before ours can hold it\n");
        skip();
    }
    struct weir__probe probe = probe_without(WEIR__PROBE_URING_SETUP, &ring);
    assert_string_equal(probe.text, "no answer within 2000 ms");
    assert_false(probe.works);
}

static void without_stamps_deliveries_are_counted(void **state)
{
    static const struct test_forbidden stamps = {SYS_setsockopt, SOL_SOCKET, SO_TIMESTAMPING,
                                                 SECCOMP_RET_ERRNO | EINVAL};
    (void)state;
    struct weir__probe probe = probe_without(WEIR__PROBE_STAMP_ACKED, &stamps);
    assert_string_equal(probe.text, "setsockopt SO_TIMESTAMPING: Invalid argument");
    assert_false(probe.works);
    probe = probe_without(WEIR__PROBE_DELIVERY_EPOLL, &stamps);
    assert_string_equal(probe.text, "tcp_info");
    assert_true(probe.works);
}

/* Whatever kernel this is: TLS is there for all of its probes, or for none. */
static void without_tls_all_say_why(void **state)
{
    static const struct test_forbidden tls = {SYS_setsockopt, IPPROTO_TCP, TCP_ULP,
                                              SECCOMP_RET_ERRNO | ENOENT};
    static const enum weir__probe_id ids[] = {WEIR__PROBE_KTLS,       WEIR__PROBE_KTLS_1_3,
                                              WEIR__PROBE_KTLS_1_2,   WEIR__PROBE_KTLS_REKEY,
                                              WEIR__PROBE_KTLS_STAMP, WEIR__PROBE_KTLS_STAT,
                                              WEIR__PROBE_URING_KTLS};
    (void)state;
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        struct weir__probe probe = probe_without(ids[i], &tls);
        assert_string_equal(probe.text, "this kernel has no module \"tls\", or it is not loaded");
        assert_false(probe.works);
    }
}

static void with_tls_ciphers_are_listed(void **state)
{
    (void)state;
    if (!probe_now(WEIR__PROBE_KTLS).works) {
        printf("SKIP: with_tls_ciphers_are_listed: no kernel TLS here (TCP_ULP \"tls\")\n");
        skip();
    }
    assert_string_equal(probe_now(WEIR__PROBE_KTLS_1_3).text,
                        "AES-128-GCM, AES-256-GCM, CHACHA20-POLY1305");
    assert_string_equal(probe_now(WEIR__PROBE_KTLS_1_2).text,
                        "AES-128-GCM, AES-256-GCM, CHACHA20-POLY1305");
    assert_string_equal(probe_now(WEIR__PROBE_KTLS_STAMP).text, "");
    assert_memory_equal(probe_now(WEIR__PROBE_KTLS_STAT).text, "so far ", 7);
}

static int descriptors_open(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

static void nothing_is_left_behind(void **state)
{
    int before = descriptors_open();
    (void)state;
    for (int id = 0; id < WEIR__PROBE_COUNT; id++)
        probe_now((enum weir__probe_id)id);
    assert_int_equal(descriptors_open(), before);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_unique),
        cmocka_unit_test(the_plain_things_work),
        cmocka_unit_test(results_agree),
        cmocka_unit_test(a_filter_that_refuses_is_named),
        cmocka_unit_test(a_filter_that_kills_is_survived),
        cmocka_unit_test(a_call_that_hangs_is_ended),
        cmocka_unit_test(without_stamps_deliveries_are_counted),
        cmocka_unit_test(without_tls_all_say_why),
        cmocka_unit_test(with_tls_ciphers_are_listed),
        cmocka_unit_test(nothing_is_left_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
