/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_CORE_MEMORY_H
#define WEIR_CORE_MEMORY_H

/* All memory of libweir and weir comes from here, so that a test can make any allocation fail. */

#include <stddef.h>

void *weir__allocate(size_t size);
void *weir__allocate_zeroed(size_t count, size_t size);
void *weir__reallocate(void *memory, size_t size);
/* `size` is a multiple of `alignment`, which is a power of two. */
void *weir__allocate_aligned(size_t alignment, size_t size);
void weir__release(void *memory); /* NULL is fine */

#endif
