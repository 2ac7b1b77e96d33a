/* SPDX-License-Identifier: Apache-2.0 */
#include "net/send_queue.h"

#include <assert.h>
#include <stddef.h>

bool weir__write_waits(const struct weir__write *write)
{
    return (write->stages & (WEIR_STAGE_SENT | WEIR_STAGE_DELIVERED)) != 0;
}

void weir__send_queue_append(struct weir__send_queue *queue, struct weir__write *write)
{
    assert(write->length > 0);
    write->next = NULL;
    if (queue->last)
        queue->last->next = write;
    else
        queue->first = write;
    queue->last = write;
    queue->bytes += write->length - write->taken;
}

/* Adds what is left of a write's memory. Returns whether all of it found room. */
static bool gather(const struct weir__write *write, struct weir__send_plan *plan,
                   struct iovec *parts, unsigned parts_max)
{
    uint64_t skip = write->taken;

    for (unsigned i = 0; i < write->part_count; i++) {
        const struct iovec *part = &write->parts[i];
        if (skip >= part->iov_len) {
            skip -= part->iov_len;
            continue;
        }
        if (plan->part_count == parts_max)
            return false;
        parts[plan->part_count++] = (struct iovec){
            .iov_base = (char *)part->iov_base + skip,
            .iov_len = part->iov_len - (size_t)skip,
        };
        plan->length += part->iov_len - skip;
        skip = 0;
    }
    return true;
}

/* Adds writes from `write` on; `stamped_end` is the plan's length at the first end that needs a stamp. */
static void gather_all(const struct weir__write *write, struct weir__send_plan *plan,
                       struct iovec *parts, unsigned parts_max)
{
    uint64_t stamped_end = UINT64_MAX;

    for (; write; write = write->next) {
        if (plan->stamp &&
            plan->length + write->memory_length > stamped_end + WEIR__COALESCE_BYTES_MAX)
            break;
        plan->more = true;
        if (!gather(write, plan, parts, parts_max) || write->length > write->memory_length)
            return;
        plan->more = write->more;
        if (weir__write_waits(write) && !plan->stamp) {
            plan->stamp = true;
            stamped_end = plan->length;
        }
    }
    if (write)
        plan->more = true;
}

void weir__send_queue_plan(const struct weir__send_queue *queue, struct weir__send_plan *plan,
                           struct iovec *parts, unsigned parts_max)
{
    const struct weir__write *write = queue->first;

    *plan = (struct weir__send_plan){.file = -1};
    if (write && write->taken >= write->memory_length) {
        plan->file = write->file;
        plan->file_offset = write->file_offset + (write->taken - write->memory_length);
        plan->length = write->length - write->taken;
        plan->stamp = weir__write_waits(write);
        plan->more = write->more || write->next;
        return;
    }
    gather_all(write, plan, parts, parts_max);
}

struct weir__write *weir__send_queue_take(struct weir__send_queue *queue)
{
    struct weir__write *write = queue->first;

    if (!write)
        return NULL;
    queue->first = write->next;
    if (!queue->first)
        queue->last = NULL;
    queue->bytes -= write->length - write->taken;
    return write;
}

struct weir__write *weir__send_queue_advance(struct weir__send_queue *queue, uint64_t *bytes,
                                             struct weir__send_position *at)
{
    struct weir__write *write = queue->first;

    if (*bytes == 0)
        return NULL;
    assert(write);
    uint64_t left = write->length - write->taken;
    uint64_t used = *bytes < left ? *bytes : left;
    if (write->taken == 0) {
        write->start = at->plain;
        write->wire_start = at->wire;
        write->first_byte_ns = at->now_ns;
    }
    write->taken += used;
    write->ways |= (uint8_t)at->ways;
    queue->bytes -= used;
    *bytes -= used;
    at->plain += used;
    at->wire += used;
    if (write->taken < write->length)
        return NULL;
    write->wire_end = at->wire;
    return weir__send_queue_take(queue);
}
