/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/buffer.h"

#include <assert.h>

#include "core/memory.h"

#define PAGE_BYTES 4096

static struct weir__tls_buffer *pop(struct weir__tls_buffer **list)
{
    struct weir__tls_buffer *buffer = *list;

    *list = buffer->next;
    return buffer;
}

static void push(struct weir__tls_buffer **list, struct weir__tls_buffer *buffer)
{
    buffer->next = *list;
    *list = buffer;
}

struct weir__tls_buffer *weir__tls_buffer_take(struct weir__tls_buffers *buffers)
{
    if (buffers->registered_free)
        return pop(&buffers->registered_free);
    if (!buffers->free)
        return weir__allocate(sizeof(struct weir__tls_buffer));
    buffers->free_count--;
    return pop(&buffers->free);
}

static bool is_registered(const struct weir__tls_buffers *buffers,
                          const struct weir__tls_buffer *buffer)
{
    const struct weir__tls_buffer *first = buffers->registered;

    return first && buffer >= first && buffer < first + WEIR__TLS_BUFFERS_REGISTERED;
}

void weir__tls_buffer_give(struct weir__tls_buffers *buffers, struct weir__tls_buffer *buffer)
{
    if (is_registered(buffers, buffer)) {
        push(&buffers->registered_free, buffer);
    } else if (buffers->free_count == WEIR__TLS_BUFFERS_KEPT_MAX) {
        weir__release(buffer);
    } else {
        push(&buffers->free, buffer);
        buffers->free_count++;
    }
}

void weir__tls_buffers_dispose(struct weir__tls_buffers *buffers)
{
    assert(buffers->streams == 0);
    assert(!buffers->registered);
    while (buffers->free)
        weir__release(pop(&buffers->free));
}

void weir__tls_buffers_register(struct weir__tls_buffers *buffers, struct weir__engine *engine)
{
    /* Of whole pages, as aligned_alloc(3) has it. */
    const size_t bytes =
        (sizeof(struct weir__tls_buffer) * WEIR__TLS_BUFFERS_REGISTERED + PAGE_BYTES - 1) /
        PAGE_BYTES * PAGE_BYTES;

    if (buffers->registered || buffers->refused)
        return;
    buffers->registered = weir__allocate_aligned(PAGE_BYTES, bytes);
    if (!buffers->registered)
        return;
    if (engine->ops->memory_register(engine, buffers->registered, bytes) != 0) {
        buffers->refused = true;
        weir__release(buffers->registered);
        buffers->registered = NULL;
        return;
    }
    buffers->engine = engine;
    for (unsigned i = WEIR__TLS_BUFFERS_REGISTERED; i > 0; i--)
        push(&buffers->registered_free, &buffers->registered[i - 1]);
}

void weir__tls_buffers_join(struct weir__tls_buffers *buffers)
{
    buffers->streams++;
}

void weir__tls_buffers_leave(struct weir__tls_buffers *buffers)
{
    assert(buffers->streams > 0);
    if (--buffers->streams > 0 || !buffers->registered)
        return;
    buffers->engine->ops->memory_unregister(buffers->engine, buffers->registered);
    weir__release(buffers->registered);
    buffers->registered = buffers->registered_free = NULL;
}
