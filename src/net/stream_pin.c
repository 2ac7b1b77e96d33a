/* SPDX-License-Identifier: Apache-2.0 */
#include "net/stream.h"

#include <assert.h>
#include <string.h>

#include "core/list.h"
#include "core/memory.h"
#include "core/pool.h"

struct weir__send_policy *weir__loop_send_policy(struct weir_loop *loop)
{
    void **kept = weir__loop_attachment(loop);
    uint64_t pinned_bytes_max;

    if (!*kept) {
        enum weir_zerocopy mode = weir__loop_zerocopy(loop, &pinned_bytes_max);
        *kept = weir__allocate(sizeof(struct weir__send_policy));
        if (*kept)
            weir__send_policy_init(*kept, mode, pinned_bytes_max);
    }
    return *kept;
}

static struct weir__pool *pinned_pool(struct weir_stream *stream)
{
    return weir__loop_pool(stream->loop, WEIR__LOOP_POOL_PINNED, sizeof(struct weir__pinned));
}

/* Three calls once for a connection, and only for one that has much to send. How far the peer is the handshake told. */
static void find_route(struct weir_stream *stream)
{
    struct weir__engine *engine = stream->engine;
    struct weir_address local, peer;
    struct weir__socket_info info;

    if (engine->ops->socket_info(engine, &stream->socket, &info) == 0)
        stream->rtt_us = info.rtt_us;
    if (engine->ops->socket_local(engine, &stream->socket, &local) == 0 &&
        engine->ops->socket_peer(engine, &stream->socket, &peer) == 0)
        stream->route = weir__send_policy_route(stream->policy, &local, &peer);
}

enum weir_send_reason weir__stream_memory_reason(struct weir_stream *stream, uint64_t bytes)
{
    if (bytes < WEIR__ZEROCOPY_BYTES_MIN)
        return WEIR_SEND_BECAUSE_SMALL;

    struct weir__send_question question = {
        .bytes = bytes,
        .route = stream->route,
        .pinned_bytes = stream->pinned_bytes,
        .rtt_us = stream->rtt_us,
        .now_ns = weir_loop_now_ns(stream->loop),
    };
    struct weir__send_answer answer = weir__send_policy_ask(stream->policy, &question);
    if (answer.needs_route) {
        find_route(stream);
        question.route = stream->route;
        question.rtt_us = stream->rtt_us;
        answer = weir__send_policy_ask(stream->policy, &question);
    }
    return answer.reason;
}

/* Counts the bytes as pinned, or fewer than before. */
static void count(struct weir__pinned *pinned, uint64_t bytes)
{
    pinned->stream->pinned_bytes += bytes - pinned->bytes;
    weir__send_policy_pinned(pinned->stream->policy, pinned->bytes, bytes);
    pinned->bytes = bytes;
}

static unsigned way_of(enum weir__pin_result result)
{
    switch (result) {
    case WEIR__PIN_USED:
        return WEIR_SEND_ZEROCOPY;
    case WEIR__PIN_COPIED:
        return WEIR_SEND_COPIED;
    case WEIR__PIN_REFUSED:
        return WEIR_SEND_COPY;
    case WEIR__PIN_UNSENT:
        break;
    }
    return 0;
}

/*
 * What a reset discards on this host is told of as used, too. A route that is known to pay is not asked about again:
 * one that copies shows soon enough.
 */
static bool has_arrived(const struct weir__pinned *pinned)
{
    struct weir_delivery_info info;

    if (!pinned->route || pinned->route->pays)
        return true;
    return weir_stream_delivery_info(pinned->stream, &info) == 0 &&
           info.wire_bytes_acked >= pinned->wire_end;
}

static void on_released(struct weir__pin *pin, enum weir__pin_result result)
{
    struct weir__pinned *pinned = WEIR__CONTAINER(pin, struct weir__pinned, pin);
    struct weir_stream *stream = pinned->stream;

    assert(stream->send_pinned != pinned);
    weir__send_policy_released(stream->policy, pinned->route, pinned->bytes, result,
                               result != WEIR__PIN_USED || has_arrived(pinned),
                               weir_loop_now_ns(stream->loop));
    count(pinned, 0);
    if (pinned->held_count > 0)
        stream->transport->ops->made_released(stream->transport, pinned->held, pinned->held_count);
    for (unsigned i = 0; i < pinned->write_count; i++)
        weir__stream_unpinned(stream, pinned->writes[i], way_of(result));
    weir__pool_give(pinned_pool(stream), pinned);
    if (stream->closing || stream->dying)
        weir__stream_defer(stream);
}

static struct weir__pinned *pinned_new(struct weir_stream *stream)
{
    struct weir__pinned *pinned = weir__pool_take(pinned_pool(stream));

    if (!pinned)
        return NULL;
    memset(pinned, 0, sizeof(*pinned));
    pinned->pin.released = on_released;
    pinned->stream = stream;
    pinned->route = stream->route;
    return pinned;
}

/* False: the send carries pieces of too many. */
static bool add_write(struct weir__pinned *pinned, struct weir__write *write)
{
    if (pinned->write_count == WEIR__PINNED_WRITES_MAX)
        return false;
    pinned->writes[pinned->write_count++] = write;
    return true;
}

static void drop(struct weir_stream *stream, struct weir__pinned *pinned)
{
    weir__pool_give(pinned_pool(stream), pinned);
}

static struct weir__pinned *begin(struct weir__pinned *pinned, uint64_t bytes)
{
    struct weir_stream *stream = pinned->stream;

    for (unsigned i = 0; i < pinned->write_count; i++)
        pinned->writes[i]->pins++;
    weir__send_policy_tried(stream->policy, pinned->route);
    count(pinned, bytes);
    stream->send_pinned = pinned;
    return pinned;
}

struct weir__pinned *weir__stream_pin(struct weir_stream *stream, uint64_t bytes)
{
    struct weir__pinned *pinned = pinned_new(stream);
    uint64_t left = bytes;

    for (struct weir__write *write = stream->queue.first; pinned && left > 0; write = write->next) {
        uint64_t here = write->memory_length - write->taken;
        if (!add_write(pinned, write)) {
            drop(stream, pinned);
            return NULL;
        }
        left -= here < left ? here : left;
    }
    return pinned ? begin(pinned, bytes) : NULL;
}

struct weir__pinned *weir__stream_pin_made(struct weir_stream *stream,
                                           const struct weir__transport_send *made)
{
    struct weir__pinned *pinned = pinned_new(stream);
    uint64_t end = stream->ledger.accepted + made->length;
    struct weir__write *write = stream->sealed.first;
    bool fits = pinned != NULL;

    for (; fits && write && write->wire_start < end; write = write->next)
        fits = add_write(pinned, write);
    /* What is left in the queue may be sealed in part. */
    if (fits && !write && stream->queue.first && stream->queue.first->taken > 0)
        fits = add_write(pinned, stream->queue.first);
    if (!fits) {
        if (pinned)
            drop(stream, pinned);
        return NULL;
    }
    pinned->held_count = (uint8_t)made->part_count;
    memcpy(pinned->held, made->held, made->part_count * sizeof(made->held[0]));
    stream->transport->ops->made_held(stream->transport, pinned->held, pinned->held_count);
    return begin(pinned, made->length);
}

/* Writes of which the send took nothing are not pinned by it. */
static void drop_untaken(struct weir_stream *stream, struct weir__pinned *pinned)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < pinned->write_count; i++) {
        struct weir__write *write = pinned->writes[i];
        if (write->taken > 0 && write->wire_start < stream->ledger.accepted)
            pinned->writes[kept++] = write;
        else
            write->pins--;
    }
    pinned->write_count = (uint8_t)kept;
}

void weir__stream_pin_taken(struct weir_stream *stream, uint64_t bytes)
{
    struct weir__pinned *pinned = stream->send_pinned;

    if (!pinned)
        return;
    stream->send_pinned = NULL;
    pinned->wire_end = stream->ledger.accepted;
    drop_untaken(stream, pinned);
    count(pinned, bytes);
}

void weir_loop_send_info(const struct weir_loop *loop, struct weir_send_info *info)
{
    const struct weir__send_policy *policy =
        *weir__loop_attachment((struct weir_loop *)(uintptr_t)loop);

    if (policy)
        *info = policy->info;
    else
        memset(info, 0, sizeof(*info));
}
