/* SPDX-License-Identifier: Apache-2.0 */

/* Whether the io_uring engine opens: where it is forbidden, or descriptors or memory are out, it says so and leaks
 * nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <weir/error.h>
#include <weir/memory.h>

#include "engine/io_uring.h"

static struct weir__engine *engine;
static const struct weir__engine_ops *ops = &weir__io_uring_engine;

static void test_probe(void **context)
{
    struct weir__io_uring_features features;
    const char *reason;

    (void)context;
    if (weir__io_uring_probe(&features, &reason)) {
        assert_non_null(reason);
        printf("SKIP: io_uring: %s\n", reason);
        skip();
    }
    assert_null(reason);
    assert_true(features.ring && features.operations && features.buffer_ring);
    assert_true(features.accept_multishot && features.receive_multishot);
}

static void setup_forbid(unsigned error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = 4, .filter = filter};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        _exit(99);
}

/* In a child: what `open` returns once `spoil` was called; its reason goes to `text`. */
static int open_in_child(void (*spoil)(unsigned), unsigned argument, char *text, size_t size)
{
    struct weir__engine_options options = {
        .delivery = true, .receive_bytes = 1024, .receive_buffers = 8};
    char *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (!child) {
        spoil(argument);
        int error = ops->open(&engine, &options);
        const char *reason = weir__io_uring_refusal();
        snprintf(shared, 4096, "%s", reason ? reason : "none");
        _exit(-error);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    snprintf(text, size, "%s", shared);
    munmap(shared, 4096);
    return -WEXITSTATUS(status);
}

static void test_refused(void **context)
{
    char text[128];

    (void)context;
    assert_int_equal(open_in_child(setup_forbid, EPERM, text, sizeof(text)), WEIR_ENOTSUP);
    assert_string_equal(
        text, "io_uring is forbidden here, by kernel.io_uring_disabled or a seccomp filter");
    assert_int_equal(open_in_child(setup_forbid, ENOSYS, text, sizeof(text)), WEIR_ENOTSUP);
    assert_string_equal(text, "this kernel has no io_uring, or a seccomp filter hides it");
    assert_int_equal(open_in_child(setup_forbid, EINVAL, text, sizeof(text)), WEIR_ENOTSUP);
    assert_string_equal(text, "this kernel's io_uring is older than Linux 6.1");
    assert_int_equal(open_in_child(setup_forbid, ENOMEM, text, sizeof(text)), WEIR_ENOMEM);
}

static void descriptors_limit(unsigned count)
{
    struct rlimit limit = {.rlim_cur = count, .rlim_max = count};

    setrlimit(RLIMIT_NOFILE, &limit);
}

/* However few descriptors are left, the engine opens or says EMFILE. */
static void test_no_descriptors(void **context)
{
    char text[128];
    int first = dup(0);
    bool opened = false;

    (void)context;
    close(first);
    for (unsigned left = 0; left < 8 && !opened; left++) {
        int error = open_in_child(descriptors_limit, (unsigned)first + left, text, sizeof(text));

        opened = error == 0;
        if (error == WEIR_ENOTSUP) {
            printf("SKIP: io_uring: %s\n", weir_error_text(error));
            skip();
        }
        if (!opened)
            assert_int_equal(error, WEIR_EMFILE);
        assert_true(left > 0 || !opened);
    }
    assert_true(opened);
}

static long allocations_left;

static void *failing_zeroed(size_t count, size_t size)
{
    return allocations_left-- > 0 ? calloc(count, size) : NULL;
}

static void *failing_aligned(size_t alignment, size_t size)
{
    return allocations_left-- > 0 ? aligned_alloc(alignment, size) : NULL;
}

static void test_no_memory(void **context)
{
    struct weir_memory failing = {malloc, failing_zeroed, realloc, failing_aligned, free};
    struct weir_memory usual = {malloc, calloc, realloc, aligned_alloc, free};
    struct weir__engine_options options = {
        .delivery = true, .receive_bytes = 1024, .receive_buffers = 8};
    struct weir__io_uring_features features;
    const char *reason;
    int before, after, error;
    long count;

    (void)context;
    if (weir__io_uring_probe(&features, &reason)) {
        printf("SKIP: io_uring: %s\n", reason);
        skip();
    }
    before = dup(0);
    close(before);
    weir_memory_replace(&failing);
    for (count = 0, error = WEIR_ENOMEM; error && count < 20; count++) {
        allocations_left = count;
        error = ops->open(&engine, &options);
        if (error) {
            assert_int_equal(error, WEIR_ENOMEM);
            after = dup(0);
            close(after);
            assert_int_equal(after, before);
        }
    }
    weir_memory_replace(&usual);
    assert_int_equal(error, 0);
    assert_int_equal(count, 5); /* the probe's, the engine, its buffers and their ring */
    assert_null(weir__io_uring_refusal());
    ops->close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_probe),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_descriptors),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
