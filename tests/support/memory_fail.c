/* SPDX-License-Identifier: Apache-2.0 */
#include "support/memory_fail.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <weir/memory.h>

static atomic_uint countdown;
static atomic_bool happened;
static atomic_size_t live;

static bool fails(void)
{
    unsigned left = atomic_load(&countdown);

    while (left > 0 && !atomic_compare_exchange_weak(&countdown, &left, left - 1))
        ;
    if (left != 1)
        return false;
    atomic_store(&happened, true);
    return true;
}

static void *counted(void *memory)
{
    if (memory)
        atomic_fetch_add(&live, 1);
    return memory;
}

static void *fail_allocate(size_t size)
{
    return fails() ? NULL : counted(malloc(size));
}

static void *fail_allocate_zeroed(size_t count, size_t size)
{
    return fails() ? NULL : counted(calloc(count, size));
}

static void *fail_reallocate(void *memory, size_t size)
{
    if (fails())
        return NULL;
    return memory ? realloc(memory, size) : counted(realloc(NULL, size));
}

static void *fail_allocate_aligned(size_t alignment, size_t size)
{
    return fails() ? NULL : counted(aligned_alloc(alignment, size));
}

static void fail_release(void *memory)
{
    if (memory)
        atomic_fetch_sub(&live, 1);
    free(memory);
}

void memory_fail_install(void)
{
    static const struct weir_memory functions = {
        .allocate = fail_allocate,
        .allocate_zeroed = fail_allocate_zeroed,
        .reallocate = fail_reallocate,
        .allocate_aligned = fail_allocate_aligned,
        .release = fail_release,
    };
    int rc = weir_memory_replace(&functions);
    assert(rc == 0);
    (void)rc;
}

void memory_fail_at(unsigned nth)
{
    atomic_store(&happened, false);
    atomic_store(&countdown, nth);
}

bool memory_fail_happened(void)
{
    return atomic_load(&happened);
}

size_t memory_fail_live(void)
{
    return atomic_load(&live);
}
