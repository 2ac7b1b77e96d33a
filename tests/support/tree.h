/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TESTS_SUPPORT_TREE_H
#define WEIR_TESTS_SUPPORT_TREE_H

/* A folder for a test to serve, and what happens to it. Include after cmocka.h. */

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <weir/memory.h>

/* The test's working folder while it runs: paths are relative to it. */
static char tree_path[64];
static int tree_before = -1;

/* cmocka's setup and teardown. */
static inline int tree_make(void **state)
{
    (void)state;
    tree_before = open(".", O_PATH | O_CLOEXEC);
    strcpy(tree_path, "/tmp/weir-test-XXXXXX");
    return mkdtemp(tree_path) && chmod(tree_path, 0755) == 0 ? chdir(tree_path) : -1;
}

static inline int tree_remove_one(const char *path, const struct stat *status, int kind,
                                  struct FTW *walk)
{
    (void)status;
    (void)kind;
    (void)walk;
    return remove(path);
}

static inline int tree_remove(void **state)
{
    (void)state;
    int failed = fchdir(tree_before);
    close(tree_before);
    nftw(tree_path, tree_remove_one, 8, FTW_DEPTH | FTW_PHYS);
    return failed;
}

/* Writes a file of `size` bytes, the text again and again, last modified at `modified_s`. */
static inline void tree_write(const char *path, const char *text, size_t size, time_t modified_s)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(file >= 0);
    char *content = malloc(size + 1);
    for (size_t i = 0; i < size; i++)
        content[i] = text[i % strlen(text)];
    assert_int_equal(write(file, content, size), size);
    free(content);
    struct timespec times[2] = {{.tv_sec = modified_s}, {.tv_sec = modified_s}};
    assert_int_equal(futimens(file, times), 0);
    close(file);
}

static inline unsigned open_descriptors(void)
{
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

/* Allocations made so far, and which of them fails; 0 = none. */
static unsigned allocations, allocation_to_fail;

static inline int allocation_fails(void)
{
    return ++allocations == allocation_to_fail;
}

static inline void *counted_allocate(size_t size)
{
    return allocation_fails() ? NULL : malloc(size);
}

static inline void *counted_allocate_zeroed(size_t count, size_t size)
{
    return allocation_fails() ? NULL : calloc(count, size);
}

static inline void *counted_reallocate(void *memory, size_t size)
{
    return allocation_fails() ? NULL : realloc(memory, size);
}

static inline void *counted_allocate_aligned(size_t alignment, size_t size)
{
    return allocation_fails() ? NULL : aligned_alloc(alignment, size);
}

static inline void count_allocations(void)
{
    static const struct weir_memory counted = {
        .allocate = counted_allocate,
        .allocate_zeroed = counted_allocate_zeroed,
        .reallocate = counted_reallocate,
        .allocate_aligned = counted_allocate_aligned,
        .release = free,
    };
    assert_int_equal(weir_memory_replace(&counted), 0);
}

#endif
