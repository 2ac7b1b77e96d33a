/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/output.h"

#include <assert.h>
#include <string.h>

#include <weir/error.h>

uint8_t *weir__tls_output_reserve(struct weir__tls_output *output,
                                  struct weir__tls_buffers *buffers, size_t size)
{
    struct weir__tls_buffer *buffer = output->last;

    assert(size <= WEIR__TLS_BUFFER_BYTES);
    if (!buffer || WEIR__TLS_BUFFER_BYTES - buffer->end < size) {
        buffer = weir__tls_buffer_take(buffers);
        if (!buffer)
            return NULL;
        buffer->next = NULL;
        buffer->start = buffer->end = 0;
        buffer->pins = 0;
        buffer->taken = false;
        if (output->last)
            output->last->next = buffer;
        else
            output->first = buffer;
        output->last = buffer;
    }
    return buffer->data + buffer->end;
}

void weir__tls_output_commit(struct weir__tls_output *output, size_t size)
{
    assert(size <= WEIR__TLS_BUFFER_BYTES - output->last->end);
    output->last->end += (uint32_t)size;
    output->bytes += size;
}

int weir__tls_output_append(struct weir__tls_output *output, struct weir__tls_buffers *buffers,
                            const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        size_t size = length < WEIR__TLS_BUFFER_BYTES ? length : WEIR__TLS_BUFFER_BYTES;
        uint8_t *room = weir__tls_output_reserve(output, buffers, size);

        if (!room)
            return WEIR_ENOMEM;
        memcpy(room, bytes, size);
        weir__tls_output_commit(output, size);
        bytes += size;
        length -= size;
    }
    return 0;
}

unsigned weir__tls_output_parts(const struct weir__tls_output *output, struct iovec *parts,
                                void **held, unsigned parts_max, uint64_t *length)
{
    unsigned count = 0;

    *length = 0;
    for (struct weir__tls_buffer *buffer = output->first; buffer && count < parts_max;
         buffer = buffer->next) {
        if (buffer->end == buffer->start)
            continue;
        held[count] = buffer;
        parts[count++] = (struct iovec){.iov_base = buffer->data + buffer->start,
                                        .iov_len = buffer->end - buffer->start};
        *length += buffer->end - buffer->start;
    }
    return count;
}

void weir__tls_output_taken(struct weir__tls_output *output, struct weir__tls_buffers *buffers,
                            uint64_t bytes)
{
    assert(bytes <= output->bytes);
    output->bytes -= bytes;
    while (output->first) {
        struct weir__tls_buffer *buffer = output->first;
        uint32_t here = buffer->end - buffer->start;

        if (bytes < here) {
            buffer->start += (uint32_t)bytes;
            return;
        }
        bytes -= here;
        output->first = buffer->next;
        if (!output->first)
            output->last = NULL;
        buffer->taken = true;
        if (buffer->pins == 0)
            weir__tls_buffer_give(buffers, buffer);
    }
}

void weir__tls_output_hold(void *const *held, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        ((struct weir__tls_buffer *)held[i])->pins++;
}

void weir__tls_output_release(struct weir__tls_buffers *buffers, void *const *held, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct weir__tls_buffer *buffer = held[i];

        assert(buffer->pins > 0);
        if (--buffer->pins == 0 && buffer->taken)
            weir__tls_buffer_give(buffers, buffer);
    }
}
