/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TESTS_SUPPORT_SECCOMP_H
#define WEIR_TESTS_SUPPORT_SECCOMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A system call that a test takes away. Its second and third arguments may narrow it; -1 = any. */
struct test_forbidden {
    int call; /* SYS_* */
    int second, third;
    uint32_t action; /* SECCOMP_RET_*, with an errno for SECCOMP_RET_ERRNO */
};

/*
 * Runs `function(result)` in a child process from which that call is taken away, and copies what it
 * left in `result` (`size` bytes). SECCOMP_RET_USER_NOTIF makes the call hang, as nobody answers.
 * Returns false where no filter may be set up, so that the test can skip.
 */
bool test_run_without(const struct test_forbidden *forbidden, void (*function)(void *result),
                      void *result, size_t size);

#endif
