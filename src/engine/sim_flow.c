/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <weir/error.h>

#include "engine/sim_internal.h"

/*
 * TCP as an application can see it: bytes in order, windows, ACKs, FIN, RST. A loss is not a hole
 * but a delay, of the segment and of all that follow it, as TCP's retransmission makes it look from
 * above.
 */

/* Of the part without content. */
#define SIM_VIRTUAL_SEGMENT_BYTES (64u << 20)
#define SIM_VIRTUAL_BUFFER_BYTES  (512u << 20)
/* Bytes per second. As on a real link, 2 GiB take far longer than a stamp waits to be read. */
#define SIM_VIRTUAL_BANDWIDTH 10000000000u
/* Where what becomes of pinned bytes changes, at the latest. */
#define SIM_CHANGE_BYTES_MAX (1u << 20)
/* Every second segment is acknowledged at once (RFC 9293, 3.8.6.3). */
#define SIM_SEGMENTS_PER_ACK 2

static struct weir__sim_flow *flow_new(struct sim *sim, struct sim_socket *from,
                                       struct sim_socket *to)
{
    const struct weir__sim_options *options = &sim->options;
    struct weir__sim_flow *flow = calloc(1, sizeof(*flow));

    if (!flow)
        abort();
    flow->from = from;
    flow->to = to;
    flow->number = (unsigned)sim->flow_count;
    flow->delay_ns = weir__sim_between(sim, options->delay_ns_min, options->delay_ns_max);
    flow->bandwidth = weir__sim_between(sim, options->bandwidth_min, options->bandwidth_max);
    flow->segment_bytes =
        (uint32_t)weir__sim_between(sim, options->segment_bytes_min, options->segment_bytes_max);
    flow->window_bytes =
        (uint32_t)weir__sim_between(sim, options->window_bytes_min, options->window_bytes_max);
    flow->send_buffer =
        (uint32_t)weir__sim_between(sim, options->send_buffer_min, options->send_buffer_max);
    flow->receive_buffer =
        (uint32_t)weir__sim_between(sim, options->receive_buffer_min, options->receive_buffer_max);
    flow->edge = options->virtual_bytes + flow->receive_buffer;
    flow->copies = weir__sim_chance(sim, options->copies);
    flow->copies_until = UINT64_MAX;
    if (weir__sim_chance(sim, options->copies_change))
        flow->copies_until = weir__sim_between(sim, 1, SIM_CHANGE_BYTES_MAX);
    weir__sim_grow((void **)&sim->flows, sim->flow_count, &sim->flow_capacity, sizeof(*sim->flows));
    sim->flows[sim->flow_count++] = flow;
    return flow;
}

void weir__sim_flow_pair(struct sim *sim, struct sim_socket *client, struct sim_socket *server)
{
    client->out = server->in = flow_new(sim, client, server);
    server->out = client->in = flow_new(sim, server, client);
    client->out->reverse = server->out;
    server->out->reverse = client->out;
    weir__sim_trace(sim, "f%u s%u -> s%u, f%u back", client->out->number, client->number,
                    server->number, server->out->number);
}

void weir__sim_flow_free(struct weir__sim_flow *flow)
{
    free(flow->ring);
    free(flow->wishes);
    free(flow->pinned);
    free(flow->departures.marks);
    free(flow->arrivals.marks);
    free(flow->acks.marks);
    free(flow);
}

static void marks_add(struct sim *sim, struct sim_marks *marks, uint64_t end)
{
    weir__sim_grow((void **)&marks->marks, marks->count, &marks->capacity, sizeof(*marks->marks));
    marks->marks[marks->count++] = (struct sim_mark){.end = end, .at_ns = sim->now_ns};
}

static uint64_t marks_find(const struct sim_marks *marks, uint64_t end)
{
    size_t low = 0, high = marks->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (marks->marks[middle].end >= end)
            high = middle;
        else
            low = middle + 1;
    }
    return low < marks->count ? marks->marks[low].at_ns : UINT64_MAX;
}

/* The sender's kernel */

static bool is_outstanding(const struct weir__sim_flow *flow)
{
    return flow->acked < flow->accepted || (flow->fin_wanted && !flow->fin_acked);
}

/* Only silence makes a connection time out: else everything is acknowledged sooner or later. */
static void timeout_arm(struct sim *sim, struct weir__sim_flow *flow)
{
    if (flow->timeout_armed || !(flow->silent || flow->reverse->silent) || !is_outstanding(flow))
        return;
    flow->timeout_armed = true;
    weir__sim_schedule(sim, flow->progress_ns + sim->options.timeout_ns,
                       (struct sim_event){.kind = SIM_EVENT_TIMEOUT, .flow = flow});
}

static void timeout_check(struct sim *sim, struct weir__sim_flow *flow)
{
    flow->timeout_armed = false;
    if (!is_outstanding(flow))
        return;
    if (sim->now_ns >= flow->progress_ns + sim->options.timeout_ns)
        weir__sim_socket_die(sim, flow->from, WEIR_ETIMEDOUT);
    else
        timeout_arm(sim, flow);
}

/* The end of the segment that could leave now; `sent` if none could. */
static uint64_t segment_end(const struct sim *sim, const struct weir__sim_flow *flow)
{
    uint64_t virtual_end = sim->options.virtual_bytes, end = flow->accepted;

    if (flow->sent < virtual_end) {
        end = end < virtual_end ? end : virtual_end;
        return end - flow->sent < SIM_VIRTUAL_SEGMENT_BYTES
                   ? end
                   : flow->sent + SIM_VIRTUAL_SEGMENT_BYTES;
    }
    uint64_t acked = flow->acked > virtual_end ? flow->acked : virtual_end;
    if (end > flow->edge)
        end = flow->edge;
    if (end > acked + flow->window_bytes)
        end = acked + flow->window_bytes;
    if (end > flow->sent + flow->segment_bytes)
        end = flow->sent + flow->segment_bytes;
    return end > flow->sent ? end : flow->sent;
}

/* Asks for the next segment, if there is one and none is on its way to the wire. */
static void flow_kick(struct sim *sim, struct weir__sim_flow *flow)
{
    bool fin_now = flow->fin_wanted && !flow->fin_sent && flow->sent == flow->accepted;

    if (flow->sending || flow->stopped || (segment_end(sim, flow) == flow->sent && !fin_now))
        return;
    flow->sending = true;
    uint64_t at_ns = sim->now_ns + weir__sim_between(sim, 0, sim->options.send_latency_ns_max);
    weir__sim_schedule(sim, at_ns > flow->link_free_ns ? at_ns : flow->link_free_ns,
                       (struct sim_event){.kind = SIM_EVENT_SEND, .flow = flow});
}

uint64_t weir__sim_flow_room(const struct sim *sim, const struct weir__sim_flow *flow)
{
    uint64_t virtual_end = sim->options.virtual_bytes;

    if (flow->accepted < virtual_end) {
        uint64_t end = flow->acked + SIM_VIRTUAL_BUFFER_BYTES;
        end = end < virtual_end ? end : virtual_end;
        return end > flow->accepted ? end - flow->accepted : 0;
    }
    uint64_t acked = flow->acked > virtual_end ? flow->acked : virtual_end;
    uint64_t used = flow->accepted - acked;
    return used < flow->send_buffer ? flow->send_buffer - used : 0;
}

uint8_t *weir__sim_flow_space(struct sim *sim, struct weir__sim_flow *flow, uint64_t *length)
{
    uint64_t virtual_end = sim->options.virtual_bytes;

    if (flow->accepted < virtual_end) {
        if (*length > virtual_end - flow->accepted)
            *length = virtual_end - flow->accepted;
        return NULL;
    }
    if (!flow->ring) {
        /* accepted - acked <= send_buffer, and acked - read <= receive_buffer. */
        flow->ring_bytes = (uint64_t)flow->send_buffer + flow->receive_buffer;
        flow->ring = malloc(flow->ring_bytes);
        if (!flow->ring)
            abort();
    }
    uint64_t index = flow->accepted % flow->ring_bytes;
    if (*length > flow->ring_bytes - index)
        *length = flow->ring_bytes - index;
    return flow->ring + index;
}

void weir__sim_flow_append(struct sim *sim, struct weir__sim_flow *flow, uint8_t *bytes,
                           uint64_t length)
{
    assert(!flow->fin_wanted);
    if (bytes && sim->options.tap)
        sim->options.tap(sim->options.tap_context, flow, bytes, length);
    if (!is_outstanding(flow))
        flow->progress_ns = sim->now_ns;
    flow->accepted += length;
    timeout_arm(sim, flow);
    flow_kick(sim, flow);
}

void weir__sim_flow_wish(struct weir__sim_flow *flow)
{
    weir__sim_grow((void **)&flow->wishes, flow->wish_count, &flow->wish_capacity,
                   sizeof(*flow->wishes));
    flow->wishes[flow->wish_count++] = (struct sim_stamp_wish){.end = flow->accepted};
}

void weir__sim_flow_finish(struct sim *sim, struct weir__sim_flow *flow)
{
    if (flow->fin_wanted)
        return;
    if (!is_outstanding(flow))
        flow->progress_ns = sim->now_ns;
    flow->fin_wanted = true;
    timeout_arm(sim, flow);
    flow_kick(sim, flow);
}

static void stamp_queue(struct sim *sim, struct weir__sim_flow *flow, enum weir__stamp_kind kind,
                        uint64_t end)
{
    struct sim_socket *socket = flow->from;
    uint64_t visible_ns = sim->now_ns;

    if (socket->closed || weir__sim_fault(sim, sim->options.stamp_loss))
        return;
    if (socket->stamp_count >= sim->options.stamp_queue_max) {
        weir__sim_trace(sim, "s%u drops a stamp for %llu", socket->number, (unsigned long long)end);
        return;
    }
    if (weir__sim_fault(sim, sim->options.stamp_late)) {
        visible_ns += weir__sim_between(sim, 1, sim->options.stamp_late_ns_max);
        weir__sim_schedule(sim, visible_ns, (struct sim_event){.kind = SIM_EVENT_POKE});
    }
    weir__sim_grow((void **)&socket->stamp_queue, socket->stamp_count, &socket->stamp_capacity,
                   sizeof(*socket->stamp_queue));
    socket->stamp_queue[socket->stamp_count++] = (struct sim_stamp){
        .stamp = {.kind = kind, .key = (uint32_t)(end - 1), .at_ns = sim->now_ns},
        .visible_ns = visible_ns,
    };
}

/*
 * A segment up to `end` leaves. Writes that share it may share one stamp: the kernel keeps one key
 * with each buffer, that of the last write.
 */
static void stamps_sent(struct sim *sim, struct weir__sim_flow *flow, uint64_t end)
{
    size_t kept = 0;

    for (size_t index = 0; index < flow->wish_count; index++) {
        struct sim_stamp_wish *wish = &flow->wishes[index];
        bool leaves = !wish->sent_done && wish->end <= end;
        bool followed = index + 1 < flow->wish_count && flow->wishes[index + 1].end <= end;
        if (leaves && followed && weir__sim_fault(sim, sim->options.stamp_coalesce))
            continue;
        if (leaves) {
            wish->sent_done = true;
            stamp_queue(sim, flow, WEIR__STAMP_SENT, wish->end);
        }
        flow->wishes[kept++] = *wish;
    }
    flow->wish_count = kept;
}

static void stamps_acked(struct sim *sim, struct weir__sim_flow *flow)
{
    size_t done = 0;

    while (done < flow->wish_count && flow->wishes[done].end <= flow->acked)
        stamp_queue(sim, flow, WEIR__STAMP_ACKED, flow->wishes[done++].end);
    flow->wish_count -= done;
    if (done > 0)
        memmove(flow->wishes, flow->wishes + done, flow->wish_count * sizeof(*flow->wishes));
}

/* Of a retransmission: once in a while the second one is needed. */
static uint64_t loss_delay_ns(struct sim *sim, struct weir__sim_flow *flow)
{
    if (!weir__sim_fault(sim, sim->options.loss))
        return 0;
    uint64_t rto_ns = 2 * (flow->delay_ns + flow->reverse->delay_ns);
    if (rto_ns < SIM_RTO_NS_MIN)
        rto_ns = SIM_RTO_NS_MIN;
    flow->retransmits++;
    return weir__sim_between(sim, rto_ns, 3 * rto_ns);
}

static void segment_send(struct sim *sim, struct weir__sim_flow *flow)
{
    flow->sending = false;
    if (flow->stopped)
        return;
    uint64_t end = segment_end(sim, flow);
    bool is_virtual = flow->sent < sim->options.virtual_bytes;
    uint64_t start = flow->sent, length = end - start;
    uint64_t bandwidth = is_virtual ? SIM_VIRTUAL_BANDWIDTH : flow->bandwidth;
    flow->link_free_ns = sim->now_ns + length * 1000000000u / bandwidth;
    flow->sent = end;
    if (length > 0)
        marks_add(sim, &flow->departures, end);
    weir__sim_pins_transmit(sim, flow, start, end, false);
    bool fin = flow->fin_wanted && end == flow->accepted;
    flow->fin_sent |= fin;
    stamps_sent(sim, flow, end);

    uint64_t lost_ns = loss_delay_ns(sim, flow);
    if (lost_ns > 0)
        weir__sim_schedule(
            sim, flow->link_free_ns + lost_ns,
            (struct sim_event){
                .kind = SIM_EVENT_RESEND, .flow = flow, .start = start, .value = end});
    uint64_t at_ns = flow->link_free_ns + flow->delay_ns + lost_ns;
    if (at_ns < flow->arrival_last_ns)
        at_ns = flow->arrival_last_ns;
    flow->arrival_last_ns = at_ns;
    weir__sim_trace(sim, "f%u sends up to %llu%s", flow->number, (unsigned long long)end,
                    fin ? " FIN" : "");
    weir__sim_schedule(
        sim, at_ns,
        (struct sim_event){.kind = SIM_EVENT_ARRIVE, .flow = flow, .value = end, .fin = fin});
    flow_kick(sim, flow);
}

static void ack_arrive(struct sim *sim, struct weir__sim_flow *flow, const struct sim_event *event)
{
    if (flow->reverse->silent || flow->from->state == SIM_DEAD)
        return;
    assert(event->value <= flow->sent);
    if (event->edge > flow->edge)
        flow->edge = event->edge;
    flow->progress_ns = sim->now_ns;
    flow->fin_acked |= event->fin;
    if (event->value > flow->acked) {
        flow->acked = event->value;
        marks_add(sim, &flow->acks, flow->acked);
        weir__sim_trace(sim, "f%u acked %llu", flow->number, (unsigned long long)flow->acked);
        stamps_acked(sim, flow);
        if (weir__sim_tls_sends(flow->from))
            weir__sim_tls_push(sim, flow->from);
    }
    flow_kick(sim, flow);
}

/* The receiver's kernel */

void weir__sim_flow_send_rst(struct sim *sim, struct weir__sim_flow *flow)
{
    uint64_t at_ns = sim->now_ns + flow->delay_ns;

    weir__sim_schedule(sim, at_ns > flow->arrival_last_ns ? at_ns : flow->arrival_last_ns,
                       (struct sim_event){.kind = SIM_EVENT_RST, .flow = flow});
}

static void ack_send(struct sim *sim, struct weir__sim_flow *flow)
{
    uint64_t virtual_end = sim->options.virtual_bytes;
    uint64_t read = flow->read > virtual_end ? flow->read : virtual_end;
    uint64_t at_ns = sim->now_ns + flow->reverse->delay_ns + loss_delay_ns(sim, flow->reverse);

    flow->ack_delayed = false;
    flow->segments_not_acked = 0;
    if (at_ns < flow->ack_last_ns)
        at_ns = flow->ack_last_ns;
    flow->ack_last_ns = at_ns;
    weir__sim_schedule(sim, at_ns,
                       (struct sim_event){.kind = SIM_EVENT_ACK,
                                          .flow = flow,
                                          .value = flow->arrived,
                                          .edge = read + flow->receive_buffer,
                                          .fin = flow->fin_arrived});
}

static void segment_arrive(struct sim *sim, struct weir__sim_flow *flow,
                           const struct sim_event *event)
{
    struct sim_socket *to = flow->to;

    if (flow->silent)
        return;
    if (to->state == SIM_DEAD || (to->closed && event->value > flow->arrived)) {
        weir__sim_flow_send_rst(sim, flow->reverse);
        weir__sim_socket_die(sim, to, WEIR_EABORTED);
        return;
    }
    if (event->value > flow->arrived) {
        flow->arrived = event->value;
        marks_add(sim, &flow->arrivals, flow->arrived);
    }
    flow->fin_arrived |= event->fin;
    weir__sim_trace(sim, "f%u arrived %llu%s", flow->number, (unsigned long long)flow->arrived,
                    event->fin ? " FIN" : "");
    bool at_once = ++flow->segments_not_acked >= SIM_SEGMENTS_PER_ACK || event->fin;
    if (at_once || sim->options.ack_delay_ns_max == 0) {
        ack_send(sim, flow);
    } else if (!flow->ack_delayed) {
        flow->ack_delayed = true;
        weir__sim_schedule(sim,
                           sim->now_ns + weir__sim_between(sim, 0, sim->options.ack_delay_ns_max),
                           (struct sim_event){.kind = SIM_EVENT_DELAYED_ACK, .flow = flow});
    }
}

uint64_t weir__sim_flow_read(struct sim *sim, struct weir__sim_flow *flow, uint8_t *data,
                             uint64_t length, uint64_t *at_ns)
{
    uint64_t virtual_end = sim->options.virtual_bytes;

    assert(flow->read < flow->arrived);
    assert(length <= flow->arrived - flow->read);
    if (flow->read < virtual_end) {
        if (length > virtual_end - flow->read)
            length = virtual_end - flow->read;
    } else {
        uint64_t index = flow->read % flow->ring_bytes;
        uint64_t first = length < flow->ring_bytes - index ? length : flow->ring_bytes - index;
        memcpy(data, flow->ring + index, first);
        memcpy(data + first, flow->ring, length - first);
    }
    /* A window update, as Linux sends it: once half of the buffer is free that was not offered. */
    bool was_crowded = flow->arrived - flow->read >= flow->receive_buffer / 2;
    flow->read += length;
    bool is_crowded = flow->arrived - flow->read >= flow->receive_buffer / 2;
    bool update = (was_crowded && !is_crowded) || flow->read == flow->arrived;
    if (update && flow->to->state == SIM_CONNECTED)
        ack_send(sim, flow);
    *at_ns = marks_find(&flow->arrivals, flow->read);
    return length;
}

void weir__sim_flow_drop_bytes(struct weir__sim_flow *flow)
{
    /* The sender's kernel still holds what it has not sent: only the reading end forgets. */
    if (!flow->stopped && flow->from->state == SIM_CONNECTED)
        return;
    free(flow->ring);
    flow->ring = NULL;
}

static void rst_arrive(struct sim *sim, struct weir__sim_flow *flow)
{
    struct sim_socket *to = flow->to;

    /* Both FINs are through: the connection is over already (TIME-WAIT). */
    if (flow->silent || (to->out->fin_acked && flow->fin_arrived))
        return;
    weir__sim_socket_die(sim, to, WEIR_ERESET);
}

void weir__sim_flow_event(struct sim *sim, const struct sim_event *event)
{
    struct weir__sim_flow *flow = event->flow;

    switch (event->kind) {
    case SIM_EVENT_SEND:
        segment_send(sim, flow);
        break;
    case SIM_EVENT_RESEND:
        if (!flow->stopped)
            weir__sim_pins_transmit(sim, flow, event->start, event->value, true);
        break;
    case SIM_EVENT_ARRIVE:
        segment_arrive(sim, flow, event);
        break;
    case SIM_EVENT_DELAYED_ACK:
        if (flow->ack_delayed && flow->to->state != SIM_DEAD)
            ack_send(sim, flow);
        break;
    case SIM_EVENT_ACK:
        ack_arrive(sim, flow, event);
        break;
    case SIM_EVENT_RST:
        rst_arrive(sim, flow);
        break;
    case SIM_EVENT_TIMEOUT:
        timeout_check(sim, flow);
        break;
    default:
        abort();
    }
}

/* What a test asks and does */

uint64_t weir__sim_flow_accepted(const struct weir__sim_flow *flow)
{
    return flow->accepted;
}

uint64_t weir__sim_flow_sent(const struct weir__sim_flow *flow)
{
    return flow->sent;
}

uint64_t weir__sim_flow_arrived(const struct weir__sim_flow *flow)
{
    return flow->arrived;
}

uint64_t weir__sim_flow_acked(const struct weir__sim_flow *flow)
{
    return flow->acked;
}

uint64_t weir__sim_flow_sent_ns(const struct weir__sim_flow *flow, uint64_t end)
{
    return marks_find(&flow->departures, end);
}

uint64_t weir__sim_flow_arrived_ns(const struct weir__sim_flow *flow, uint64_t end)
{
    return marks_find(&flow->arrivals, end);
}

uint64_t weir__sim_flow_acked_ns(const struct weir__sim_flow *flow, uint64_t end)
{
    return marks_find(&flow->acks, end);
}

void weir__sim_flow_silence(struct weir__engine *engine, const struct weir__sim_flow *flow)
{
    struct sim *sim = (struct sim *)engine;
    struct weir__sim_flow *silenced = sim->flows[flow->number];

    weir__sim_trace(sim, "fault: f%u falls silent", flow->number);
    silenced->silent = true;
    silenced->progress_ns = silenced->reverse->progress_ns = sim->now_ns;
    timeout_arm(sim, silenced);
    timeout_arm(sim, silenced->reverse);
}

void weir__sim_flow_reset(struct weir__engine *engine, const struct weir__sim_flow *flow)
{
    struct sim *sim = (struct sim *)engine;
    struct sim_event event = {.kind = SIM_EVENT_RST, .flow = sim->flows[flow->number]};

    weir__sim_schedule(sim, sim->now_ns, event);
    event.flow = event.flow->reverse;
    weir__sim_schedule(sim, sim->now_ns, event);
}
