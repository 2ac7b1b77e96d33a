/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <weir/error.h>

#include "engine/sim_internal.h"

/*
 * Zero copy, by what Linux's (networking/msg_zerocopy.rst) can do to its user. The bytes of a pinned send
 * are read from the caller's memory each time that they leave: what was changed by then is what the peer gets.
 * The copy that is made when they are taken is there to find that out.
 */

/* More cannot be registered, as with io_uring's engine. */
#define SIM_REGIONS_MAX 16

struct sim_pin {
    struct weir__pin *pin;
    struct weir__socket *socket;
    struct sim_socket *sim_socket;
    enum weir__pin_result result;
    bool completed;      /* its SEND is */
    bool noticed;        /* the kernel has said that it is done, at `visible_ns` */
    uint64_t visible_ns; /* UINT64_MAX: with the notice of `behind` */
    struct sim_pin *behind;
    uint64_t start, end; /* of the flow's bytes; those without content are not looked at */
    struct iovec *parts; /* where they lie */
    unsigned part_count;
    uint8_t *read; /* what lay there when they were last read, or taken */
    bool changed;  /* something else than when they were taken */
};

struct private
{
    struct sim_pin *pin;
};

_Static_assert(sizeof(struct private) <= WEIR__PIN_PRIVATE_BYTES, "a pin's private room");

static struct sim_pin *pin_of(const struct weir__op *op)
{
    if (op->kind != WEIR__OP_SEND || !op->send.pin)
        return NULL;
    return ((struct private *)op->send.pin->engine_private)->pin;
}

static void *copied(const void *bytes, size_t length)
{
    void *copy = malloc(length);

    if (!copy)
        abort();
    return memcpy(copy, bytes, length);
}

/* ---- a send ---- */

void weir__sim_pin_submitted(struct sim *sim, struct weir__op *op)
{
    struct sim_pin *pin;

    if (op->kind != WEIR__OP_SEND || !op->send.pin)
        return;
    assert(sim->options.zerocopy);
    assert(!op->socket->tls_tx);
    assert(op->send.record_type == 0);
    pin = calloc(1, sizeof(*pin));
    if (!pin)
        abort();
    pin->pin = op->send.pin;
    pin->socket = op->socket;
    pin->sim_socket = weir__sim_socket_of(op->socket);
    pin->result = WEIR__PIN_UNSENT;
    ((struct private *)op->send.pin->engine_private)->pin = pin;
    weir__sim_grow((void **)&sim->pins, sim->pin_count, &sim->pin_capacity, sizeof(*sim->pins));
    sim->pins[sim->pin_count++] = pin;
    op->socket->pins++;
}

/* What the first `bytes` of the parts are, from then on, and the place of each. */
static void pin_keep(struct sim_pin *pin, const struct weir__op *op, uint64_t bytes)
{
    uint64_t done = 0;

    pin->parts = copied(op->send.parts, op->send.part_count * sizeof(struct iovec));
    pin->read = malloc(bytes);
    if (!pin->read)
        abort();
    while (done < bytes) {
        struct iovec *part = &pin->parts[pin->part_count++];
        if (part->iov_len > bytes - done)
            part->iov_len = bytes - done;
        memcpy(pin->read + done, part->iov_base, part->iov_len);
        done += part->iov_len;
    }
}

static bool is_refused(struct sim *sim, const struct sim_pin *pin, uint64_t bytes)
{
    uint64_t pinned = bytes;
    uint32_t pins = 1;

    for (size_t i = 0; i < sim->pin_count; i++) {
        const struct sim_pin *other = sim->pins[i];
        pinned += other->end - other->start;
        pins += other != pin && other->socket == pin->socket;
    }
    return pinned > sim->options.pinned_bytes_max || pins > sim->options.pins_max ||
           weir__sim_fault(sim, sim->options.pin_refused);
}

void weir__sim_pin_taken(struct sim *sim, struct weir__op *op, uint64_t bytes)
{
    struct sim_pin *pin = pin_of(op);
    struct weir__sim_flow *flow;

    if (!pin)
        return;
    if (is_refused(sim, pin, bytes)) {
        pin->result = WEIR__PIN_REFUSED;
        return;
    }
    flow = pin->sim_socket->out;
    pin->end = flow->accepted;
    pin->start = flow->accepted - bytes;
    bool before = pin->start < flow->copies_until;
    pin->result = flow->copies == before ? WEIR__PIN_COPIED : WEIR__PIN_USED;
    weir__sim_grow((void **)&flow->pinned, flow->pinned_count, &flow->pinned_capacity,
                   sizeof(*flow->pinned));
    flow->pinned[flow->pinned_count++] =
        (struct sim_pinned){.start = pin->start, .end = pin->end, .result = pin->result};
    if (pin->start >= sim->options.virtual_bytes)
        pin_keep(pin, op, bytes);
}

void weir__sim_pin_completed(struct sim *sim, struct weir__op *op)
{
    struct sim_pin *pin = pin_of(op);

    (void)sim;
    if (pin)
        pin->completed = true;
}

unsigned weir__sim_flow_pinned(const struct weir__sim_flow *flow, uint64_t start, uint64_t end)
{
    uint64_t at = start;
    unsigned results = 0;

    end = end < flow->accepted ? end : flow->accepted;
    for (size_t i = 0; i < flow->pinned_count && at < end; i++) {
        const struct sim_pinned *pinned = &flow->pinned[i];
        if (pinned->end <= at || pinned->start >= end)
            continue;
        if (pinned->start > at)
            results |= 1u << WEIR__PIN_REFUSED;
        results |= 1u << pinned->result;
        at = pinned->end;
    }
    return at < end ? results | 1u << WEIR__PIN_REFUSED : results;
}

/* ---- what leaves ---- */

/* What has changed since the bytes were last read changes on the wire, beside what anybody on the way does. */
static void change_wire(struct sim_pin *pin, struct weir__sim_flow *flow, uint64_t start,
                        const uint8_t *now, uint64_t length)
{
    uint8_t *read = pin->read + (start - pin->start);

    if (memcmp(now, read, length) == 0)
        return;
    pin->changed = true;
    for (uint64_t i = 0; i < length; i++) {
        flow->ring[(start + i) % flow->ring_bytes] ^= now[i] ^ read[i];
        read[i] = now[i];
    }
}

static void bytes_read(struct sim_pin *pin, struct weir__sim_flow *flow, uint64_t start,
                       uint64_t end)
{
    uint64_t offset = pin->start;

    for (unsigned i = 0; i < pin->part_count; i++) {
        const struct iovec *part = &pin->parts[i];
        uint64_t from = offset > start ? offset : start, to = offset + part->iov_len;
        to = to < end ? to : end;
        if (from < to)
            change_wire(pin, flow, from, (const uint8_t *)part->iov_base + (from - offset),
                        to - from);
        offset += part->iov_len;
    }
}

void weir__sim_pins_transmit(struct sim *sim, struct weir__sim_flow *flow, uint64_t start,
                             uint64_t end, bool again)
{
    for (size_t i = 0; i < sim->pin_count && end > start; i++) {
        struct sim_pin *pin = sim->pins[i];
        bool is_read = pin->read && pin->sim_socket == flow->from && pin->end > start &&
                       pin->start < end && !(again && pin->result == WEIR__PIN_COPIED);
        if (is_read)
            bytes_read(pin, flow, start, end);
    }
}

/* ---- notices ---- */

/* Whether nothing needs the memory any more. */
static bool is_done(struct sim *sim, const struct sim_pin *pin)
{
    const struct weir__sim_flow *flow = pin->sim_socket->out;

    if (pin->result == WEIR__PIN_UNSENT || pin->result == WEIR__PIN_REFUSED)
        return true;
    if (pin->sim_socket->state == SIM_DEAD || flow->acked >= pin->end)
        return true;
    return pin->result == WEIR__PIN_COPIED && flow->sent >= pin->end && weir__sim_chance(sim, 500);
}

/* A later one of the same socket, whose notice this one's may wait for. */
static struct sim_pin *later_of(const struct sim *sim, size_t index)
{
    for (size_t i = index + 1; i < sim->pin_count; i++) {
        struct sim_pin *other = sim->pins[i];
        if (other->socket == sim->pins[index]->socket && other->end > 0 && !other->noticed)
            return other;
    }
    return NULL;
}

/* The kernel queues a notice, or makes that of others wait for another one longer. */
static void notice(struct sim *sim, size_t index)
{
    struct sim_pin *pin = sim->pins[index], *later = later_of(sim, index);
    uint64_t visible_ns = sim->now_ns;

    if (!weir__sim_fault(sim, sim->options.notice_coalesce) || pin->sim_socket->state == SIM_DEAD)
        later = NULL;
    if (later) {
        visible_ns = UINT64_MAX;
    } else if (weir__sim_fault(sim, sim->options.notice_late)) {
        visible_ns += weir__sim_between(sim, 1, sim->options.notice_late_ns_max);
        weir__sim_schedule(sim, visible_ns, (struct sim_event){.kind = SIM_EVENT_POKE});
    }
    pin->noticed = true;
    for (size_t i = 0; i < sim->pin_count; i++) {
        struct sim_pin *other = sim->pins[i];
        if (other != pin && other->behind != pin)
            continue;
        other->behind = later;
        other->visible_ns = visible_ns;
    }
}

/* ---- release ---- */

static bool is_changed(const struct sim_pin *pin)
{
    uint64_t done = 0;
    bool changed = pin->changed;

    for (unsigned i = 0; i < pin->part_count; i++) {
        const struct iovec *part = &pin->parts[i];
        changed |= memcmp(part->iov_base, pin->read + done, part->iov_len) != 0;
        done += part->iov_len;
    }
    return changed;
}

/* Loud, since a peer may have been sent something else already. */
static void check_unchanged(const struct sim_pin *pin)
{
    if (!is_changed(pin))
        return;
    fprintf(stderr, "sim: s%u: memory was changed while bytes %llu to %llu were pinned\n",
            pin->sim_socket->number, (unsigned long long)pin->start, (unsigned long long)pin->end);
    abort();
}

static void release(struct sim *sim, size_t index)
{
    static const char *const names[] = {"used", "copied", "refused", "unsent"};
    struct sim_pin sim_pin = *sim->pins[index];

    check_unchanged(&sim_pin);
    weir__sim_trace(sim, "s%u released up to %llu: %s", sim_pin.sim_socket->number,
                    (unsigned long long)sim_pin.end, names[sim_pin.result]);
    free(sim_pin.parts);
    free(sim_pin.read);
    free(sim->pins[index]);
    memmove(sim->pins + index, sim->pins + index + 1,
            (--sim->pin_count - index) * sizeof(*sim->pins));
    assert(sim_pin.socket->pins > 0);
    sim_pin.socket->pins--;
    sim->steps++;
    sim_pin.pin->released(sim_pin.pin, sim_pin.result);
}

bool weir__sim_pins_release(struct sim *sim)
{
    bool done = false;

    for (size_t i = 0; i < sim->pin_count; i++) {
        if (sim->pins[i]->completed && !sim->pins[i]->noticed && is_done(sim, sim->pins[i]))
            notice(sim, i);
    }
    for (size_t i = 0; i < sim->pin_count;) {
        const struct sim_pin *pin = sim->pins[i];
        if (pin->noticed && pin->visible_ns <= sim->now_ns) {
            release(sim, i);
            done = true;
        } else {
            i++;
        }
    }
    return done;
}

/* ---- memory ---- */

bool weir__sim_can_zerocopy(struct weir__engine *engine)
{
    return ((struct sim *)engine)->options.zerocopy;
}

int weir__sim_memory_register(struct weir__engine *engine, void *memory, size_t bytes)
{
    static const int errors[] = {WEIR_ENOTSUP, WEIR_ENOMEM, WEIR_ENOBUFS};
    struct sim *sim = (struct sim *)engine;
    const uint8_t *start = memory;

    assert(bytes > 0);
    for (size_t i = 0; i < sim->region_count; i++)
        assert(start >= sim->regions[i].memory + sim->regions[i].bytes ||
               start + bytes <= sim->regions[i].memory);
    if (sim->region_count == SIM_REGIONS_MAX)
        return WEIR_ENOBUFS;
    if (weir__sim_fault(sim, sim->options.register_refused))
        return errors[weir__sim_between(sim, 0, 2)];
    weir__sim_grow((void **)&sim->regions, sim->region_count, &sim->region_capacity,
                   sizeof(*sim->regions));
    sim->regions[sim->region_count++] = (struct sim_region){.memory = memory, .bytes = bytes};
    return 0;
}

static bool is_pinned(const struct sim *sim, const struct sim_region *region)
{
    for (size_t i = 0; i < sim->pin_count; i++) {
        const struct sim_pin *pin = sim->pins[i];
        for (unsigned k = 0; k < pin->part_count; k++) {
            const uint8_t *start = pin->parts[k].iov_base;
            if (start < region->memory + region->bytes &&
                start + pin->parts[k].iov_len > region->memory)
                return true;
        }
    }
    return false;
}

void weir__sim_memory_unregister(struct weir__engine *engine, void *memory)
{
    struct sim *sim = (struct sim *)engine;
    size_t index = 0;

    while (index < sim->region_count && sim->regions[index].memory != memory)
        index++;
    assert(index < sim->region_count);
    assert(!is_pinned(sim, &sim->regions[index]));
    sim->regions[index] = sim->regions[--sim->region_count];
}
