/* SPDX-License-Identifier: Apache-2.0 */
#include "core/memory.h"

#include <stdlib.h>

#include <weir/error.h>
#include <weir/memory.h>

static struct weir_memory functions = {
    .allocate = malloc,
    .allocate_zeroed = calloc,
    .reallocate = realloc,
    .allocate_aligned = aligned_alloc,
    .release = free,
};

int weir_memory_replace(const struct weir_memory *memory)
{
    if (!memory->allocate || !memory->allocate_zeroed || !memory->reallocate ||
        !memory->allocate_aligned || !memory->release)
        return WEIR_EINVAL;
    functions = *memory;
    return 0;
}

void *weir__allocate(size_t size)
{
    return functions.allocate(size);
}

void *weir__allocate_zeroed(size_t count, size_t size)
{
    return functions.allocate_zeroed(count, size);
}

void *weir__reallocate(void *memory, size_t size)
{
    return functions.reallocate(memory, size);
}

void *weir__allocate_aligned(size_t alignment, size_t size)
{
    return functions.allocate_aligned(alignment, size);
}

void weir__release(void *memory)
{
    functions.release(memory);
}
