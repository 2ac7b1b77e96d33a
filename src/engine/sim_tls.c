/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <weir/error.h>

#include "engine/sim_internal.h"
#include "tls/record.h"

/*
 * Kernel TLS, by what is seen of Linux's from above. What a SEND gives becomes records of up to 16 KiB. The
 * last one stays open, and its bytes with the kernel, behind WEIR__SEND_MORE and perhaps behind a short
 * send. Of a record that TCP has no room for the rest is kept until there is some, or until a FIN cuts it off.
 */

#define SIM_TLS_NEAR_BYTES 8192u

struct sim_tls_tx {
    struct weir__tls_protector seal;
    uint32_t open_bytes;
    uint32_t kept_start, kept_end;
    bool stamping; /* what is pushed is stamped */
    uint8_t open[WEIR__TLS_PLAIN_MAX];
    uint8_t kept[WEIR__TLS_RECORD_MAX];
};

struct sim_tls_rx {
    struct weir__tls_protector open;
    uint32_t record_length;
    struct weir__tls_opened
        plain; /* of the record that was opened last, what was not received yet */
    uint64_t at_ns;
    int error;     /* WEIR__RECEIVE_*, from now on; 0 = none */
    bool key_wait; /* the peer has a new key, and we have not */
    uint8_t record[WEIR__TLS_RECORD_MAX];
    uint8_t room[WEIR__TLS_PLAIN_MAX + WEIR__TLS_EXPAND_MAX];
};

struct sim_tls {
    struct sim_tls_tx tx;
    struct sim_tls_rx rx;
};

static bool is_on(const struct weir__tls_protector *protector)
{
    return protector->aead != NULL;
}

void weir__sim_tls_free(struct sim_tls *tls)
{
    if (!tls)
        return;
    weir__tls_protector_dispose(&tls->tx.seal);
    weir__tls_protector_dispose(&tls->rx.open);
    free(tls);
}

bool weir__sim_tls_sends(const struct sim_socket *socket)
{
    return socket->tls && is_on(&socket->tls->tx.seal);
}

bool weir__sim_tls_receives(const struct sim_socket *socket)
{
    return socket->tls && is_on(&socket->tls->rx.open);
}

/* ---- keys ---- */

static int keys_set(struct sim *sim, struct weir__tls_protector *protector,
                    const struct weir__tls_keys *keys, unsigned ciphers, bool seal)
{
    struct weir__tls_protector next = {.aead = NULL};

    if (!(ciphers & 1u << keys->cipher))
        return WEIR_ENOTSUP;
    if (is_on(protector) && (keys->version == WEIR__TLS_1_2 || !sim->options.tls_rekey))
        return WEIR_ENOTSUP;
    int error = weir__tls_protector_init(&next, &sim->options.tls->ciphers, keys, seal);
    if (error)
        return error;
    weir__tls_protector_dispose(protector);
    *protector = next;
    return 0;
}

static int attach_tx(struct sim *sim, struct weir__socket *socket, struct sim_tls *tls,
                     const struct weir__tls_keys *keys)
{
    assert(!socket->writer);
    assert(tls->tx.open_bytes == 0);
    int error = keys_set(sim, &tls->tx.seal, keys, sim->options.tls_tx_ciphers, true);
    if (error)
        return error;
    socket->tls_tx = true;
    socket->tls.cipher = (uint8_t)keys->cipher;
    socket->tls.overhead = (uint8_t)weir__tls_overhead(keys);
    return 0;
}

static int attach_rx(struct sim *sim, struct weir__socket *socket, struct sim_tls *tls,
                     const struct weir__tls_keys *keys)
{
    assert(!socket->reader);
    assert(socket->tls_tx); /* there is no way back */
    int error = keys_set(sim, &tls->rx.open, keys, sim->options.tls_rx_ciphers, false);
    if (error)
        return error;
    tls->rx.key_wait = false;
    socket->tls_rx = true;
    return 0;
}

int weir__sim_socket_tls_attach(struct weir__engine *engine, struct weir__socket *socket,
                                enum weir__tls_direction direction,
                                const struct weir__tls_keys *keys)
{
    struct sim *sim = (struct sim *)engine;
    struct sim_socket *sim_socket = weir__sim_socket_of(socket);
    int error;

    if (!sim->options.tls)
        return WEIR_ENOTSUP;
    if (sim_socket->state != SIM_CONNECTED)
        return WEIR_ERESET;
    if (!sim_socket->tls) {
        sim_socket->tls = calloc(1, sizeof(*sim_socket->tls));
        if (!sim_socket->tls)
            abort();
    }
    if (direction == WEIR__TLS_TX)
        error = attach_tx(sim, socket, sim_socket->tls, keys);
    else
        error = attach_rx(sim, socket, sim_socket->tls, keys);
    weir__sim_trace(sim, "s%u TLS %s: %d", sim_socket->number,
                    direction == WEIR__TLS_TX ? "tx" : "rx", error);
    return error;
}

int weir__sim_socket_tls_sequence(struct weir__engine *engine, struct weir__socket *socket,
                                  uint64_t *sequence)
{
    const struct sim_socket *sim_socket = weir__sim_socket_of(socket);

    (void)engine;
    if (!weir__sim_tls_sends(sim_socket))
        return WEIR_ENOTSUP;
    *sequence = sim_socket->tls->tx.seal.keys.sequence;
    return 0;
}

bool weir__sim_tls_can_rekey(struct weir__engine *engine)
{
    return ((struct sim *)engine)->options.tls_rekey;
}

/* ---- what is sent ---- */

bool weir__sim_tls_push(struct sim *sim, struct sim_socket *socket)
{
    struct sim_tls_tx *tx = &socket->tls->tx;
    struct weir__sim_flow *out = socket->out;

    if (out->fin_wanted || socket->state != SIM_CONNECTED)
        return true; /* cut off */
    while (tx->kept_start < tx->kept_end) {
        uint64_t length = tx->kept_end - tx->kept_start, room = weir__sim_flow_room(sim, out);
        length = length < room ? length : room;
        if (length == 0)
            return false;
        uint8_t *space = weir__sim_flow_space(sim, out, &length);
        memcpy(space, tx->kept + tx->kept_start, length);
        weir__sim_flow_append(sim, out, NULL, length);
        tx->kept_start += (uint32_t)length;
        if (tx->stamping)
            weir__sim_flow_wish(out);
    }
    return true;
}

/* Makes a record and gives TCP as much of it as there is room for. */
static bool record_make(struct sim *sim, struct sim_socket *socket, enum weir__tls_content type,
                        const uint8_t *bytes, uint32_t length)
{
    struct sim_tls_tx *tx = &socket->tls->tx;
    const struct iovec part = {.iov_base = (uint8_t *)bytes, .iov_len = length};

    assert(tx->kept_start == tx->kept_end);
    int64_t size = weir__tls_seal(&tx->seal, type, &part, 1, tx->kept);
    assert(size > 0);
    tx->kept_start = 0;
    tx->kept_end = (uint32_t)size;
    if (sim->options.tap)
        sim->options.tap(sim->options.tap_context, socket->out, tx->kept, (uint64_t)size);
    return weir__sim_tls_push(sim, socket);
}

static bool open_close(struct sim *sim, struct sim_socket *socket)
{
    struct sim_tls_tx *tx = &socket->tls->tx;
    uint32_t length = tx->open_bytes;

    tx->open_bytes = 0;
    return length == 0 || record_make(sim, socket, WEIR__TLS_APPLICATION_DATA, tx->open, length);
}

/* Copies what lies at `done` of the operation's bytes to the open record: how many, or an error. */
static int64_t copy_in(const struct weir__op *op, uint64_t done, uint8_t *to, uint64_t length)
{
    if (op->kind == WEIR__OP_SEND_FILE) {
        ssize_t count = pread(op->send_file.file, to, length, (off_t)(op->send_file.offset + done));
        return count < 0 ? WEIR_EIO : count == 0 ? WEIR_ETRUNCATED : (int64_t)count;
    }
    for (unsigned i = 0; i < op->send.part_count; i++) {
        const struct iovec *part = &op->send.parts[i];
        if (done >= part->iov_len) {
            done -= part->iov_len;
            continue;
        }
        length = length < part->iov_len - done ? length : part->iov_len - done;
        memcpy(to, (const uint8_t *)part->iov_base + done, length);
        return (int64_t)length;
    }
    return 0;
}

static uint64_t length_of(const struct weir__op *op)
{
    uint64_t length = 0;

    if (op->kind == WEIR__OP_SEND_FILE)
        return op->send_file.length;
    for (unsigned i = 0; i < op->send.part_count; i++)
        length += op->send.parts[i].iov_len;
    return length;
}

static int64_t send_data(struct sim *sim, struct sim_socket *socket, const struct weir__op *op,
                         uint64_t limit, unsigned flags)
{
    struct sim_tls_tx *tx = &socket->tls->tx;
    uint64_t all = length_of(op), done = 0;
    bool room = true;

    while (room && done < limit) {
        uint64_t step = WEIR__TLS_PLAIN_MAX - tx->open_bytes;
        step = step < limit - done ? step : limit - done;
        int64_t count = copy_in(op, done, tx->open + tx->open_bytes, step);
        if (count < 0)
            return done > 0 ? (int64_t)done : count;
        tx->open_bytes += (uint32_t)count;
        done += (uint64_t)count;
        if (tx->open_bytes == WEIR__TLS_PLAIN_MAX)
            room = open_close(sim, socket);
    }
    bool stays_open = done < all ? weir__sim_chance(sim, 500) : (flags & WEIR__SEND_MORE) != 0;
    if (!stays_open && room)
        open_close(sim, socket);
    return (int64_t)done;
}

int64_t weir__sim_tls_send(struct sim *sim, struct sim_socket *socket, const struct weir__op *op,
                           unsigned flags)
{
    struct sim_tls_tx *tx = &socket->tls->tx;
    uint64_t limit = length_of(op);

    tx->stamping = (flags & WEIR__SEND_STAMP) && socket->stamps;
    if (op->kind == WEIR__OP_SEND && op->send.record_type) {
        uint8_t content[WEIR__TLS_PLAIN_MAX];
        if (!open_close(sim, socket))
            return 0;
        assert(op->send.part_count == 1 && limit <= sizeof(content));
        memcpy(content, op->send.parts[0].iov_base, limit);
        record_make(sim, socket, (enum weir__tls_content)op->send.record_type, content,
                    (uint32_t)limit);
        return (int64_t)limit;
    }
    /* Often only the end is missing: with it the record in which something ended stays open. */
    if (weir__sim_fault(sim, sim->options.short_send)) {
        bool near = weir__sim_chance(sim, 500) && limit > SIM_TLS_NEAR_BYTES;
        limit = weir__sim_between(sim, near ? limit - SIM_TLS_NEAR_BYTES : 1, limit);
    }
    return send_data(sim, socket, op, limit, flags);
}

uint64_t weir__sim_flow_kept(const struct weir__sim_flow *flow, uint64_t *open_bytes)
{
    const struct sim_tls *tls = flow->from->tls;

    *open_bytes = tls ? tls->tx.open_bytes : 0;
    return tls ? tls->tx.kept_end - tls->tx.kept_start : 0;
}

/* ---- what is received ---- */

static int result_of(int alert)
{
    switch (alert) {
    case WEIR__TLS_BAD_RECORD_MAC:
        return WEIR__RECEIVE_BAD_RECORD;
    case WEIR__TLS_RECORD_OVERFLOW:
        return WEIR__RECEIVE_OVERSIZED;
    default:
        return WEIR__RECEIVE_MALFORMED;
    }
}

/* Takes from TCP what is missing of the next record. Returns its length, 0: not yet, or WEIR__RECEIVE_*. */
static int64_t record_take(struct sim *sim, struct sim_socket *socket)
{
    struct sim_tls_rx *rx = &socket->tls->rx;
    struct weir__sim_flow *in = socket->in;
    int64_t framed;

    for (;;) {
        framed = weir__tls_frame(rx->record, rx->record_length, rx->open.keys.version);
        if (framed < 0)
            return result_of((int)-framed);
        uint64_t wanted = framed > 0 ? (uint64_t)framed : WEIR__TLS_HEADER;
        wanted -= rx->record_length;
        if (wanted == 0)
            return framed;
        uint64_t there = in->arrived - in->read;
        if (there == 0)
            return 0;
        rx->record_length += (uint32_t)weir__sim_flow_read(
            sim, in, rx->record + rx->record_length, wanted < there ? wanted : there, &rx->at_ns);
    }
}

/* Opens the next record that is there. Returns 1, 0: not yet, or WEIR__RECEIVE_*. */
static int record_open(struct sim *sim, struct sim_socket *socket)
{
    struct sim_tls_rx *rx = &socket->tls->rx;
    int64_t length = record_take(sim, socket);

    if (length <= 0)
        return (int)length;
    int alert = weir__tls_open(&rx->open, rx->record, (size_t)length, rx->room, &rx->plain);
    if (alert)
        return result_of(alert);
    rx->record_length = 0;
    if (sim->options.tls_rekey && rx->open.keys.version == WEIR__TLS_1_3 &&
        rx->plain.type == WEIR__TLS_HANDSHAKE && rx->plain.data[0] == 24)
        rx->key_wait = true;
    return 1;
}

int weir__sim_tls_receive(struct sim *sim, struct sim_socket *socket,
                          struct weir__completion *completion)
{
    struct sim_tls_rx *rx = &socket->tls->rx;
    bool is_data;
    uint64_t length;

    while (rx->plain.length == 0) {
        if (rx->error || rx->key_wait)
            return rx->error ? rx->error : WEIR__RECEIVE_KEY_EXPIRED;
        int outcome = record_open(sim, socket);
        if (outcome < 0)
            rx->error = outcome;
        if (outcome <= 0)
            return outcome;
    }
    is_data = rx->plain.type == WEIR__TLS_APPLICATION_DATA;
    length = rx->plain.length < sim->options.receive_bytes ? rx->plain.length
                                                           : sim->options.receive_bytes;
    if (is_data && weir__sim_fault(sim, sim->options.short_receive))
        length = weir__sim_between(sim, 1, length);
    memcpy(sim->chunk, rx->plain.data, length);
    rx->plain.data += length;
    rx->plain.length -= length;
    *completion = (struct weir__completion){
        .result = (int64_t)length,
        .more = true,
        .record_type = is_data ? 0 : (uint8_t)rx->plain.type,
        .data = sim->chunk,
        .at_ns = socket->prepared ? rx->at_ns : 0,
    };
    return 1;
}
