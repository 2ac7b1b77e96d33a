/* SPDX-License-Identifier: Apache-2.0 */
#include "core/pool.h"

#include <assert.h>
#include <stddef.h>

#include "core/memory.h"

/*
 * Under AddressSanitizer each object is an allocation of its own, so that use after give is found
 * and the wrong size is, too.
 */
#if defined(__SANITIZE_ADDRESS__)
#define OBJECTS_APART 1
#else
#define OBJECTS_APART 0
#endif

struct link {
    struct link *next;
};

static size_t rounded(size_t bytes)
{
    size_t unit = _Alignof(max_align_t);

    return (bytes + unit - 1) / unit * unit;
}

void weir__pool_init(struct weir__pool *pool, size_t object_bytes, size_t slab_objects)
{
    assert(object_bytes > 0);
    assert(slab_objects > 0);
    *pool =
        (struct weir__pool){.object_bytes = rounded(object_bytes), .slab_objects = slab_objects};
}

void weir__pool_dispose(struct weir__pool *pool)
{
    struct link *slab = pool->slabs;

    assert(pool->taken == 0);
    while (slab) {
        struct link *next = slab->next;
        weir__release(slab);
        slab = next;
    }
    pool->slabs = NULL;
    pool->free_objects = NULL;
}

static int grow(struct weir__pool *pool)
{
    size_t header_bytes = rounded(sizeof(struct link));
    struct link *slab = weir__allocate(header_bytes + pool->object_bytes * pool->slab_objects);

    if (!slab)
        return -1;
    slab->next = pool->slabs;
    pool->slabs = slab;
    for (size_t i = pool->slab_objects; i-- > 0;) {
        struct link *object = (void *)((char *)slab + header_bytes + i * pool->object_bytes);
        object->next = pool->free_objects;
        pool->free_objects = object;
    }
    return 0;
}

void *weir__pool_take(struct weir__pool *pool)
{
    void *object;

    if (OBJECTS_APART) {
        object = weir__allocate(pool->object_bytes);
    } else {
        if (!pool->free_objects && grow(pool) != 0)
            return NULL;
        object = pool->free_objects;
        pool->free_objects = ((struct link *)object)->next;
    }
    if (object)
        pool->taken++;
    return object;
}

void weir__pool_give(struct weir__pool *pool, void *object)
{
    assert(pool->taken > 0);
    pool->taken--;
    if (OBJECTS_APART) {
        weir__release(object);
        return;
    }
    ((struct link *)object)->next = pool->free_objects;
    pool->free_objects = object;
}
