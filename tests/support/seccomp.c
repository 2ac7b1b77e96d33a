/* SPDX-License-Identifier: Apache-2.0 */
#include "support/seccomp.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_NO_FILTER 42

/* The low half of an argument (little-endian): what an int is passed in. */
#define ARGUMENT(number) ((uint32_t)(offsetof(struct seccomp_data, args) + 8 * (number)))

/* Jumps to the end (allow) unless the word at `offset` is `value`; any value will do if it is
 * negative. */
static struct sock_filter compare(int value, unsigned char skip)
{
    if (value < 0)
        return (struct sock_filter)BPF_STMT(BPF_MISC | BPF_TAX, 0);
    return (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)value, 0, skip);
}

static bool forbid(const struct test_forbidden *forbidden)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, nr)),
        compare(forbidden->call, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARGUMENT(1)),
        compare(forbidden->second, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARGUMENT(2)),
        compare(forbidden->third, 1),
        BPF_STMT(BPF_RET | BPF_K, forbidden->action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};
    unsigned flags =
        forbidden->action == SECCOMP_RET_USER_NOTIF ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) >= 0;
}

bool test_run_without(const struct test_forbidden *forbidden, void (*function)(void *result),
                      void *result, size_t size)
{
    int status = -1;
    void *shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        abort();
    pid_t child = fork();
    if (child == 0) {
        if (!forbid(forbidden))
            _exit(CHILD_NO_FILTER);
        function(shared);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        abort();
    bool filtered = !(WIFEXITED(status) && WEXITSTATUS(status) == CHILD_NO_FILTER);
    if (filtered && status != 0)
        abort();
    memcpy(result, shared, size);
    munmap(shared, size);
    return filtered;
}
