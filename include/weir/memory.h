/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_MEMORY_H
#define WEIR_MEMORY_H

#include <stddef.h>

#include <weir/visibility.h>

/**
 * Where libweir's memory comes from. The functions behave like malloc, calloc, realloc, aligned_alloc
 * and free: NULL when memory is out, and `release` takes NULL.
 */
struct weir_memory {
    void *(*allocate)(size_t size);
    void *(*allocate_zeroed)(size_t count, size_t size);
    void *(*reallocate)(void *memory, size_t size);
    void *(*allocate_aligned)(size_t alignment, size_t size);
    void (*release)(void *memory);
};

/**
 * Replaces the C library's allocator, for the whole process. Call it before anything else of
 * libweir, from one thread. `memory` is copied; its functions may be called from any thread.
 * Returns 0 or WEIR_EINVAL if a function is missing.
 */
WEIR_API int weir_memory_replace(const struct weir_memory *memory);

#endif
