/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/sim.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <weir/error.h>

#include "core/memory.h"
#include "engine/sim_internal.h"

/* What the sim keeps with an operation. */
struct sim_op {
    size_t index; /* in sim->ops */
    uint64_t not_before_ns;
    bool cancelled;
    int64_t result; /* SEND: what was taken, told later; 0 = nothing yet */
};

_Static_assert(sizeof(struct sim_op) <= WEIR__OP_PRIVATE_BYTES, "an operation's private room");

/* Completions of one multishot operation in one `wait`, at most. */
#define SIM_BATCH_MAX 8
/* What callbacks of one `wait` cost in time, at most. */
#define SIM_WORK_NS_MAX 20000
/* How far past its timeout a `wait` may return. */
#define SIM_LATENESS_NS_MAX 60000
#define SIM_WALL_OFFSET_NS  1700000000000000000

static struct sim *sim_of(struct weir__engine *engine)
{
    return (struct sim *)engine;
}

static struct sim_op *op_private(struct weir__op *op)
{
    return (struct sim_op *)op->engine_private;
}

/* splitmix64 (Steele, Lea, Flood 2014): one addition and a finalizer; any seed is a good one. */
static uint64_t random_next(struct sim *sim)
{
    uint64_t value = sim->random_state += 0x9e3779b97f4a7c15u;

    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

uint64_t weir__sim_between(struct sim *sim, uint64_t low, uint64_t high)
{
    assert(low <= high);
    /* Modulo's bias is far below what matters here. */
    return high - low == UINT64_MAX ? random_next(sim) : low + random_next(sim) % (high - low + 1);
}

bool weir__sim_chance(struct sim *sim, unsigned per_mille)
{
    return per_mille > 0 && random_next(sim) % 1000 < per_mille;
}

bool weir__sim_fault(struct sim *sim, unsigned per_mille)
{
    return sim->faults && weir__sim_chance(sim, per_mille);
}

void weir__sim_trace(struct sim *sim, const char *format, ...)
{
    if (!sim->options.trace)
        return;
    va_list arguments;
    va_start(arguments, format);
    fprintf(sim->options.trace, "%12.6f ", (double)sim->now_ns / 1e6);
    vfprintf(sim->options.trace, format, arguments);
    fputc('\n', sim->options.trace);
    va_end(arguments);
}

void weir__sim_grow(void **array, size_t count, size_t *capacity, size_t element_bytes)
{
    if (count < *capacity)
        return;
    *capacity = *capacity ? *capacity * 2 : 16;
    *array = realloc(*array, *capacity * element_bytes);
    if (!*array)
        abort();
}

static bool event_before(const struct sim_event *one, const struct sim_event *other)
{
    return one->at_ns != other->at_ns ? one->at_ns < other->at_ns : one->sequence < other->sequence;
}

void weir__sim_schedule(struct sim *sim, uint64_t at_ns, struct sim_event event)
{
    event.at_ns = at_ns < sim->now_ns ? sim->now_ns : at_ns;
    event.sequence = sim->sequence++;
    weir__sim_grow((void **)&sim->events, sim->event_count, &sim->event_capacity,
                   sizeof(*sim->events));
    size_t index = sim->event_count++;
    while (index > 0 && event_before(&event, &sim->events[(index - 1) / 2])) {
        sim->events[index] = sim->events[(index - 1) / 2];
        index = (index - 1) / 2;
    }
    sim->events[index] = event;
}

static struct sim_event event_take(struct sim *sim)
{
    assert(sim->event_count > 0);
    struct sim_event first = sim->events[0];
    struct sim_event moved = sim->events[--sim->event_count];
    size_t index = 0;

    for (;;) {
        size_t child = 2 * index + 1;
        if (child >= sim->event_count)
            break;
        if (child + 1 < sim->event_count &&
            event_before(&sim->events[child + 1], &sim->events[child]))
            child++;
        if (!event_before(&sim->events[child], &moved))
            break;
        sim->events[index] = sim->events[child];
        index = child;
    }
    sim->events[index] = moved;
    return first;
}

static void events_run(struct sim *sim)
{
    while (sim->event_count > 0 && sim->events[0].at_ns <= sim->now_ns) {
        struct sim_event event = event_take(sim);
        sim->steps++;
        if (event.kind == SIM_EVENT_POKE)
            continue;
        if (event.flow)
            weir__sim_flow_event(sim, &event);
        else
            weir__sim_socket_event(sim, &event);
    }
}

/* Operations */

static struct weir__op **role_of(struct weir__op *op)
{
    switch (op->kind) {
    case WEIR__OP_ACCEPT:
    case WEIR__OP_RECEIVE:
        return &op->socket->reader;
    case WEIR__OP_WATCH:
        return &op->socket->watcher;
    default:
        return &op->socket->writer;
    }
}

static const char *const op_names[] = {"accept", "connect",   "receive",
                                       "send",   "send_file", "watch"};

static void op_postpone(struct sim *sim, struct weir__op *op)
{
    uint64_t at_ns = sim->now_ns + weir__sim_between(sim, 1, sim->options.defer_ns_max);
    op_private(op)->not_before_ns = at_ns;
    weir__sim_schedule(sim, at_ns, (struct sim_event){.kind = SIM_EVENT_POKE});
}

static void op_defer(struct sim *sim, struct weir__op *op)
{
    if (weir__sim_fault(sim, sim->options.defer))
        op_postpone(sim, op);
}

static void op_complete(struct sim *sim, struct weir__op *op,
                        const struct weir__completion *completion)
{
    assert(op->in_flight);
    sim->steps++;
    if (completion->more && op->kind == WEIR__OP_WATCH)
        weir__sim_trace(sim, "s%u watch: %s key %u at %.6f",
                        weir__sim_socket_of(op->socket)->number,
                        completion->stamp.kind == WEIR__STAMP_SENT ? "SENT" : "ACKED",
                        completion->stamp.key, (double)completion->stamp.at_ns / 1e6);
    else
        weir__sim_trace(sim, "s%u %s: %lld%s", weir__sim_socket_of(op->socket)->number,
                        op_names[op->kind], (long long)completion->result,
                        completion->more ? " more" : "");
    if (!completion->more) {
        size_t index = op_private(op)->index;
        assert(sim->ops[index] == op);
        sim->ops[index] = sim->ops[--sim->op_count];
        op_private(sim->ops[index])->index = index;
        assert(*role_of(op) == op);
        *role_of(op) = NULL;
        op->in_flight = false;
        weir__sim_pin_completed(sim, op);
    }
    op->complete(op, completion);
}

static bool op_finish(struct sim *sim, struct weir__op *op, int64_t result)
{
    op_complete(sim, op, &(struct weir__completion){.result = result});
    return true;
}

static bool accept_try(struct sim *sim, struct weir__op *op)
{
    struct sim_socket *listener = weir__sim_socket_of(op->socket);
    bool done = false;

    for (unsigned batch = 0; batch < SIM_BATCH_MAX && listener->backlog_count > 0; batch++) {
        if (op_private(op)->cancelled && weir__sim_chance(sim, 500))
            break;
        if (weir__sim_fault(sim, sim->options.accept_emfile))
            return op_finish(sim, op, WEIR_EMFILE);
        struct sim_socket *socket = listener->backlog[0];
        int handle = weir__sim_handle_give(sim, socket);
        if (handle < 0)
            return op_finish(sim, op, handle);
        memmove(listener->backlog, listener->backlog + 1,
                --listener->backlog_count * sizeof(struct sim_socket *));
        weir__sim_trace(sim, "s%u accepted as handle %d", socket->number, handle);
        op_complete(sim, op, &(struct weir__completion){.result = handle, .more = true});
        done = true;
    }
    if (op_private(op)->cancelled)
        return op_finish(sim, op, WEIR_ECANCELLED);
    return done;
}

static bool connect_try(struct sim *sim, struct weir__op *op)
{
    struct sim_socket *socket = weir__sim_socket_of(op->socket);

    if (socket->state == SIM_CONNECTED)
        return op_finish(sim, op, 0);
    if (socket->state == SIM_DEAD)
        return op_finish(sim, op, socket->error);
    return op_private(op)->cancelled && op_finish(sim, op, WEIR_ECANCELLED);
}

static void receive_chunk(struct sim *sim, struct weir__op *op)
{
    struct sim_socket *socket = weir__sim_socket_of(op->socket);
    struct weir__sim_flow *in = socket->in;
    uint64_t length = in->arrived - in->read, at_ns;

    if (length > sim->options.receive_bytes)
        length = sim->options.receive_bytes;
    bool is_virtual = in->read < sim->options.virtual_bytes;
    if (!is_virtual && weir__sim_fault(sim, sim->options.short_receive))
        length = weir__sim_between(sim, 1, length);
    length = weir__sim_flow_read(sim, in, sim->chunk, length, &at_ns);
    struct weir__completion completion = {
        .result = (int64_t)length,
        .more = true,
        .data = is_virtual ? sim->zeros : sim->chunk,
        .at_ns = socket->prepared ? at_ns : 0,
    };
    op_complete(sim, op, &completion);
    if (!is_virtual)
        memset(sim->chunk, 0xa5, length); /* valid during the call only */
}

static bool receive_ended(struct sim *sim, struct weir__op *op)
{
    const struct sim_socket *socket = weir__sim_socket_of(op->socket);

    if (socket->in->fin_arrived)
        return op_finish(sim, op, 0);
    return socket->state == SIM_DEAD && op_finish(sim, op, socket->error);
}

/* The same with kernel TLS. */
static bool tls_receive_try(struct sim *sim, struct weir__op *op)
{
    struct sim_socket *socket = weir__sim_socket_of(op->socket);
    struct weir__completion completion;
    bool done = false;

    for (unsigned batch = 0; batch < SIM_BATCH_MAX; batch++) {
        if (op_private(op)->cancelled && weir__sim_chance(sim, 500))
            return op_finish(sim, op, WEIR_ECANCELLED);
        int outcome = weir__sim_tls_receive(sim, socket, &completion);
        if (outcome < 0)
            return op_finish(sim, op, outcome);
        if (outcome == 0)
            return (op_private(op)->cancelled && op_finish(sim, op, WEIR_ECANCELLED)) ||
                   receive_ended(sim, op) || done;
        op_complete(sim, op, &completion);
        memset(sim->chunk, 0xa5, (size_t)completion.result);
        done = true;
    }
    return (op_private(op)->cancelled && op_finish(sim, op, WEIR_ECANCELLED)) || done;
}

static bool receive_try(struct sim *sim, struct weir__op *op)
{
    struct sim_socket *socket = weir__sim_socket_of(op->socket);
    bool done = false;

    if (!socket->in)
        return op_finish(sim, op, WEIR_EIO);
    if (weir__sim_tls_receives(socket))
        return tls_receive_try(sim, op);
    for (unsigned batch = 0; batch < SIM_BATCH_MAX && socket->in->arrived > socket->in->read;
         batch++) {
        /* A cancelled receive may have had some chunks already, as io_uring's queue holds them. */
        if (op_private(op)->cancelled && weir__sim_chance(sim, 500))
            return op_finish(sim, op, WEIR_ECANCELLED);
        receive_chunk(sim, op);
        done = true;
    }
    if (op_private(op)->cancelled)
        return op_finish(sim, op, WEIR_ECANCELLED);
    if (socket->in->arrived > socket->in->read)
        return done;
    return receive_ended(sim, op) || done;
}

/* Takes at most `room` bytes of a SEND. */
static int64_t send_take(struct sim *sim, struct weir__op *op, uint64_t room)
{
    struct weir__sim_flow *out = weir__sim_socket_of(op->socket)->out;
    uint64_t taken = 0;

    for (unsigned part = 0; part < op->send.part_count; part++) {
        const uint8_t *data = op->send.parts[part].iov_base;
        uint64_t left = op->send.parts[part].iov_len;
        while (left > 0 && taken < room) {
            uint64_t length = left < room - taken ? left : room - taken;
            uint8_t *space = weir__sim_flow_space(sim, out, &length);
            if (space)
                memcpy(space, data, length);
            weir__sim_flow_append(sim, out, space, length);
            data += length;
            left -= length;
            taken += length;
        }
    }
    assert(taken > 0);
    return (int64_t)taken;
}

static int64_t send_file_take(struct sim *sim, struct weir__op *op, uint64_t room)
{
    struct weir__sim_flow *out = weir__sim_socket_of(op->socket)->out;
    uint64_t taken = 0;

    while (taken < room && taken < op->send_file.length) {
        uint64_t length = op->send_file.length - taken;
        if (length > room - taken)
            length = room - taken;
        uint8_t *space = weir__sim_flow_space(sim, out, &length);
        ssize_t count = (ssize_t)length;
        if (space)
            count = pread(op->send_file.file, space, length, (off_t)(op->send_file.offset + taken));
        if (count <= 0 && taken == 0)
            return count < 0 ? WEIR_EIO : WEIR_ETRUNCATED;
        if (count <= 0)
            break;
        weir__sim_flow_append(sim, out, space, (uint64_t)count);
        taken += (uint64_t)count;
    }
    return (int64_t)taken;
}

static int64_t plain_take(struct sim *sim, struct weir__op *op, uint64_t room, unsigned flags)
{
    struct sim_socket *socket = weir__sim_socket_of(op->socket);
    bool is_file = op->kind == WEIR__OP_SEND_FILE;

    if (socket->out->accepted >= sim->options.virtual_bytes &&
        weir__sim_fault(sim, sim->options.short_send))
        room = weir__sim_between(sim, 1, room);
    int64_t taken = is_file ? send_file_take(sim, op, room) : send_take(sim, op, room);
    if (taken > 0 && (flags & WEIR__SEND_STAMP) && socket->stamps)
        weir__sim_flow_wish(socket->out);
    if (taken > 0)
        weir__sim_pin_taken(sim, op, (uint64_t)taken);
    return taken;
}

/* Nothing of a control record is kept when it is told that it was taken. */
static bool is_kept(struct sim *sim, const struct weir__op *op)
{
    struct sim_socket *socket = weir__sim_socket_of(op->socket);

    return op->kind == WEIR__OP_SEND && op->send.record_type && socket->state != SIM_DEAD &&
           !weir__sim_tls_push(sim, socket) && !op_private((struct weir__op *)op)->cancelled;
}

static bool send_try(struct sim *sim, struct weir__op *op)
{
    struct sim_socket *socket = weir__sim_socket_of(op->socket);
    bool is_file = op->kind == WEIR__OP_SEND_FILE, tls = weir__sim_tls_sends(socket);
    unsigned flags = is_file ? op->send_file.flags : op->send.flags;

    if (!socket->out)
        return op_finish(sim, op, WEIR_EIO);
    if (op_private(op)->result > 0)
        return !is_kept(sim, op) && op_finish(sim, op, op_private(op)->result);
    if (socket->state == SIM_DEAD)
        return op_finish(sim, op, socket->error);
    if (socket->out->fin_wanted)
        return op_finish(sim, op, WEIR_ERESET);
    bool blocked = tls && !weir__sim_tls_push(sim, socket);
    uint64_t room = blocked ? 0 : weir__sim_flow_room(sim, socket->out);
    bool cancelled = op_private(op)->cancelled && weir__sim_chance(sim, 500);
    if (room == 0 || cancelled)
        return op_private(op)->cancelled && op_finish(sim, op, WEIR_ECANCELLED);
    if (weir__sim_fault(sim, sim->options.send_enobufs))
        return op_finish(sim, op, WEIR_ENOBUFS);
    int64_t taken =
        tls ? weir__sim_tls_send(sim, socket, op, flags) : plain_take(sim, op, room, flags);
    if (taken == 0)
        return false;
    bool late = taken > 0 && weir__sim_fault(sim, sim->options.send_late);
    if (late)
        op_postpone(sim, op);
    if (late || (taken > 0 && is_kept(sim, op))) {
        op_private(op)->result = taken;
        return false;
    }
    return op_finish(sim, op, taken);
}

static bool watch_try(struct sim *sim, struct weir__op *op)
{
    struct sim_socket *socket = weir__sim_socket_of(op->socket);
    bool done = false;

    while (socket->stamp_count > 0 && socket->stamp_queue[0].visible_ns <= sim->now_ns) {
        struct weir__completion completion = {.more = true, .stamp = socket->stamp_queue[0].stamp};
        memmove(socket->stamp_queue, socket->stamp_queue + 1,
                --socket->stamp_count * sizeof(struct sim_stamp));
        op_complete(sim, op, &completion);
        done = true;
    }
    if (socket->state == SIM_DEAD)
        return op_finish(sim, op, socket->error);
    if (weir__sim_socket_ended(socket))
        return op_finish(sim, op, 0);
    if (op_private(op)->cancelled)
        return op_finish(sim, op, WEIR_ECANCELLED);
    return done;
}

static bool op_try(struct sim *sim, struct weir__op *op)
{
    if (op_private(op)->not_before_ns > sim->now_ns)
        return false;
    switch (op->kind) {
    case WEIR__OP_ACCEPT:
        return accept_try(sim, op);
    case WEIR__OP_CONNECT:
        return connect_try(sim, op);
    case WEIR__OP_RECEIVE:
        return receive_try(sim, op);
    case WEIR__OP_SEND:
    case WEIR__OP_SEND_FILE:
        return send_try(sim, op);
    case WEIR__OP_WATCH:
        return watch_try(sim, op);
    }
    abort();
}

/*
 * Looks once at each operation that was in flight at the start. None of them can be gone before its
 * turn: an operation ends by its own final completion only, and that has its turn here.
 */
static bool ops_try(struct sim *sim)
{
    size_t count = sim->op_count;
    bool done = false;

    if (count > sim->round_capacity) {
        sim->round_capacity = count * 2;
        sim->round = realloc(sim->round, sim->round_capacity * sizeof(*sim->round));
        if (!sim->round)
            abort();
    }
    if (count > 0)
        memcpy(sim->round, sim->ops, count * sizeof(*sim->round));
    if (weir__sim_fault(sim, sim->options.shuffle)) {
        for (size_t index = count; index > 1; index--) {
            size_t other = random_next(sim) % index;
            struct weir__op *swapped = sim->round[index - 1];
            sim->round[index - 1] = sim->round[other];
            sim->round[other] = swapped;
        }
    }
    for (size_t index = 0; index < count; index++)
        done |= op_try(sim, sim->round[index]);
    return done;
}

static void sim_submit(struct weir__engine *engine, struct weir__op *op)
{
    struct sim *sim = sim_of(engine);

    assert(!op->in_flight);
    assert(*role_of(op) == NULL);
    assert(!weir__sim_socket_of(op->socket)->aborted);
    assert(op->kind != WEIR__OP_SEND ||
           (op->send.part_count > 0 && op->send.part_count <= WEIR__SEND_PARTS_MAX));
    weir__sim_grow((void **)&sim->ops, sim->op_count, &sim->op_capacity, sizeof(*sim->ops));
    *op_private(op) = (struct sim_op){.index = sim->op_count};
    sim->ops[sim->op_count++] = op;
    *role_of(op) = op;
    op->in_flight = true;
    weir__sim_trace(sim, "s%u submit %s", weir__sim_socket_of(op->socket)->number,
                    op_names[op->kind]);
    weir__sim_pin_submitted(sim, op);
    if (op->kind == WEIR__OP_CONNECT)
        weir__sim_connect(sim, weir__sim_socket_of(op->socket), op->connect.address);
    op_defer(sim, op);
}

static void sim_cancel(struct weir__engine *engine, struct weir__op *op)
{
    struct sim *sim = sim_of(engine);

    assert(op->in_flight);
    if (op_private(op)->cancelled)
        return;
    op_private(op)->cancelled = true;
    op_private(op)->not_before_ns = 0;
    weir__sim_trace(sim, "s%u cancel %s", weir__sim_socket_of(op->socket)->number,
                    op_names[op->kind]);
    op_defer(sim, op);
}

static int sim_wait(struct weir__engine *engine, uint64_t timeout_ns)
{
    struct sim *sim = sim_of(engine);
    uint64_t deadline_ns =
        timeout_ns > UINT64_MAX - sim->now_ns ? UINT64_MAX : sim->now_ns + timeout_ns;

    sim->steps++;
    for (;;) {
        if (sim->steps > sim->options.steps_max) {
            weir__sim_trace(sim, "too many steps");
            return WEIR_EIO;
        }
        events_run(sim);
        bool pins_first = weir__sim_fault(sim, sim->options.shuffle);
        bool done = pins_first && weir__sim_pins_release(sim);
        done |= ops_try(sim);
        done |= weir__sim_pins_release(sim);
        if (done)
            sim->now_ns += weir__sim_between(sim, 1, SIM_WORK_NS_MAX);
        if (__atomic_exchange_n(&sim->woken, 0, __ATOMIC_ACQ_REL) || done || timeout_ns == 0)
            return 0;
        uint64_t next_ns = sim->event_count > 0 ? sim->events[0].at_ns : UINT64_MAX;
        if (next_ns == UINT64_MAX && deadline_ns == UINT64_MAX) {
            weir__sim_trace(sim, "nothing can happen any more");
            return WEIR_EIO;
        }
        if (deadline_ns < next_ns) {
            sim->steps++;
            sim->now_ns = deadline_ns + weir__sim_between(sim, 0, SIM_LATENESS_NS_MAX);
            return 0;
        }
        sim->now_ns = next_ns;
    }
}

static void sim_wake(struct weir__engine *engine)
{
    __atomic_store_n(&sim_of(engine)->woken, 1, __ATOMIC_RELEASE);
}

static uint64_t sim_now_ns(struct weir__engine *engine)
{
    return sim_of(engine)->now_ns;
}

static int64_t sim_wall_offset_ns(struct weir__engine *engine)
{
    (void)engine;
    return SIM_WALL_OFFSET_NS;
}

/* The engine itself */

int weir__sim_new(const struct weir__sim_options *options, struct weir__engine **engine)
{
    struct sim *sim = weir__allocate_zeroed(1, sizeof(*sim));

    if (!sim)
        return WEIR_ENOMEM;
    sim->engine.ops = &weir__sim_engine;
    sim->options = *options;
    sim->random_state = options->seed;
    sim->now_ns = weir__sim_between(sim, 1, 1000000000000);
    sim->faults = true;
    sim->port_next = 32768;
    sim->chunk = weir__allocate(options->receive_bytes);
    sim->zeros = weir__allocate_zeroed(1, options->receive_bytes);
    if (!sim->chunk || !sim->zeros) {
        weir__release(sim->chunk);
        weir__release(sim->zeros);
        weir__release(sim);
        return WEIR_ENOMEM;
    }
    *engine = &sim->engine;
    return 0;
}

static int sim_open(struct weir__engine **engine, const struct weir__engine_options *options)
{
    struct weir__sim_options sim_options;

    weir__sim_options_init(&sim_options, 1);
    if (options->receive_bytes > 0)
        sim_options.receive_bytes = options->receive_bytes;
    return weir__sim_new(&sim_options, engine);
}

static void sim_close(struct weir__engine *engine)
{
    struct sim *sim = sim_of(engine);

    assert(sim->op_count == 0);
    assert(sim->pin_count == 0);
    assert(sim->region_count == 0);
    for (size_t index = 0; index < sim->socket_count; index++)
        weir__sim_socket_free(sim->sockets[index]);
    for (size_t index = 0; index < sim->flow_count; index++)
        weir__sim_flow_free(sim->flows[index]);
    free(sim->events);
    free(sim->ops);
    free(sim->round);
    free(sim->pins);
    free(sim->regions);
    free(sim->handles);
    free(sim->sockets);
    free(sim->flows);
    weir__release(sim->chunk);
    weir__release(sim->zeros);
    weir__release(sim);
}

void weir__sim_set_faults(struct weir__engine *engine, bool enabled)
{
    sim_of(engine)->faults = enabled;
}

uint64_t weir__sim_steps(const struct weir__engine *engine)
{
    return ((const struct sim *)engine)->steps;
}

unsigned weir__sim_open_handles(const struct weir__engine *engine)
{
    return ((const struct sim *)engine)->handle_count;
}

const struct weir__engine_ops weir__sim_engine = {
    .name = "sim",
    .open = sim_open,
    .close = sim_close,
    .submit = sim_submit,
    .cancel = sim_cancel,
    .wait = sim_wait,
    .wake = sim_wake,
    .now_ns = sim_now_ns,
    .wall_offset_ns = sim_wall_offset_ns,
    .socket_listen = weir__sim_socket_listen,
    .socket_open = weir__sim_socket_open,
    .socket_adopt = weir__sim_socket_adopt,
    .socket_prepare = weir__sim_socket_prepare,
    .socket_unsent_max = weir__sim_socket_unsent_max,
    .socket_congestion = weir__sim_socket_congestion,
    .socket_shutdown = weir__sim_socket_shutdown,
    .socket_close = weir__sim_socket_close,
    .socket_reset = weir__sim_socket_reset,
    .socket_abort = weir__sim_socket_abort,
    .socket_info = weir__sim_socket_info,
    .socket_unacked = weir__sim_socket_unacked,
    .socket_tls_attach = weir__sim_socket_tls_attach,
    .socket_tls_sequence = weir__sim_socket_tls_sequence,
    .tls_can_rekey = weir__sim_tls_can_rekey,
    .can_zerocopy = weir__sim_can_zerocopy,
    .memory_register = weir__sim_memory_register,
    .memory_unregister = weir__sim_memory_unregister,
    .file_read = weir__sim_file_read,
    .socket_local = weir__sim_socket_local,
    .socket_peer = weir__sim_socket_peer,
};
