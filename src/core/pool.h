/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_CORE_POOL_H
#define WEIR_CORE_POOL_H

/* Objects of one size for one thread, kept for reuse. Memory goes back when the pool is disposed
 * of. */

#include <stddef.h>

struct weir__pool {
    size_t object_bytes;
    size_t slab_objects;
    void *free_objects;
    void *slabs;
    size_t taken;
};

/* `object_bytes` may be any size; `slab_objects` are allocated at a time. */
void weir__pool_init(struct weir__pool *pool, size_t object_bytes, size_t slab_objects);
/* Every object must have been given back. */
void weir__pool_dispose(struct weir__pool *pool);
/* An object with undefined content, or NULL when memory is out. */
void *weir__pool_take(struct weir__pool *pool);
void weir__pool_give(struct weir__pool *pool, void *object);

#endif
