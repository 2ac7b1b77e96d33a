/* SPDX-License-Identifier: Apache-2.0 */
#include "support/sim_tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/stream.h"
#include "support/tls_toy.h"
#include "support/tls_toy_internal.h"
#include "tls/stream.h"

#define TLS_PER_MILLE 500
/* A clean run asks for so few that no bound is met. */
#define UPDATES_CLEAN_MAX 6
#define TICKETS_MAX       2

/* ---- the wire ---- */

static struct wire *wire_of(const struct weir__sim_flow *flow)
{
    struct sim_tls *tls = &world.tls;

    for (unsigned i = tls->wire_count; i > 0; i--) {
        if (tls->wires[i - 1].flow == flow)
            return &tls->wires[i - 1];
    }
    if (tls->wire_count == ENDS_MAX)
        abort();
    wire_init(&tls->wires[tls->wire_count], flow);
    /* As many in the handshake as in each power of two behind it. */
    if (tls->tampers && chance(500))
        tls->wires[tls->wire_count].tamper_at = below(1ull << (6 + below(14)));
    return &tls->wires[tls->wire_count++];
}

const struct wire *sim_tls_wire(const struct weir__sim_flow *flow)
{
    return world.tls.on ? wire_of(flow) : NULL;
}

static void on_wire(void *context, const struct weir__sim_flow *flow, uint8_t *bytes,
                    uint64_t length)
{
    (void)context;
    wire_read(wire_of(flow), bytes, length);
}

/* ---- what is drawn ---- */

void sim_tls_draw(void)
{
    struct sim_tls *tls = &world.tls;
    uint64_t state = world.random_state;

    world.random_state = world.seed ^ 0x746c73u;
    tls->on = chance(TLS_PER_MILLE) && world.options.virtual_bytes == 0;
    if (tls->on && !world.clean) {
        tls->tampers = chance(200);
        tls->cuts = chance(300);
        tls->storms = chance(100);
    }
    if (tls->on)
        world.options.tap = on_wire;
    tls->kernel = tls->on && chance(500);
    if (tls->kernel) {
        world.options.tls = wire_vendor();
        world.options.tls_tx_ciphers = chance(700) ? 0xf : (unsigned)below(16);
        world.options.tls_rx_ciphers = chance(700) ? 0xf : (unsigned)below(16);
        world.options.tls_rekey = chance(600);
        /* Many open records, and ACKs within them. */
        if (chance(300)) {
            world.options.short_send = 700;
            world.options.segment_bytes_min = 1000;
            world.options.segment_bytes_max = 2000;
        }
    } else
        world.random_state = state;
}

/* Full records of 16 KiB: the bound that a clean run never meets more often than the peer allows. */
static uint32_t records_max_draw(uint32_t records_max, bool cannot_rekey)
{
    if (chance(500) || (world.clean && cannot_rekey))
        return records_max;
    return world.clean ? 64u << below(4) : 2u << below(8);
}

static struct weir_tls_context *context_new(bool server, unsigned version_max)
{
    static const struct weir_tls_certificate certificate = {"toy", "toy"};
    char complaint[WEIR_TLS_COMPLAINT_MAX];
    struct weir_tls_context *context = NULL;
    struct weir_tls_options options;
    unsigned oom = world.oom;

    weir_tls_options_init(&options);
    options.server = server;
    options.certificates = &certificate;
    options.certificate_count = server || chance(500);
    options.version_max = server || chance(500) ? WEIR_TLS_1_3 : (enum weir_tls_version)version_max;
    options.version_min = server ? WEIR_TLS_1_2 : (enum weir_tls_version)version_max;
    if (server && version_max == WEIR_TLS_1_2)
        options.version_max = WEIR_TLS_1_2;
    if (server && chance(300))
        options.peer = chance(500) ? WEIR_TLS_PEER_OPTIONAL : WEIR_TLS_PEER_DEFAULT;
    options.kernel = (enum weir_tls_kernel)(world.tls.kernel ? below(3) : below(20) == 0);
    options.cipher_source = WEIR_TLS_CIPHER_LIBRARY; /* the toy's tags say what is where */
    options.handshake_timeout_ms = (uint32_t)world.tls.handshake_timeout_ms;
    options.records_max = records_max_draw(options.records_max, world.tls.cannot_rekey);
    world.oom = 0;
    if (weir__tls_context_new_with(&context, wire_vendor(), &options, complaint) != 0) {
        printf("FAIL: seed %llu: %s\n", (unsigned long long)world.seed, complaint);
        abort();
    }
    world.oom = oom;
    return context;
}

void sim_tls_begin(void)
{
    struct sim_tls *tls = &world.tls;
    struct weir__tls_ticket_keys keys = {.count = 1};
    unsigned version = chance(400) ? WEIR_TLS_1_2 : WEIR_TLS_1_3;
    unsigned ciphers = chance(300) ? 0 : 2u << below(3);

    if (!tls->on)
        return;
    wire_notes_clear();
    tls_toy_seed(world.seed);
    tls->cannot_rekey = version == WEIR_TLS_1_2 || (tls->kernel && !world.options.tls_rekey);
    tls->handshake_timeout_ms = world.clean ? 100000000 : 100ull << below(10);
    tls->server = context_new(true, version);
    tls->client = context_new(false, version);
    if (ciphers)
        tls->server->vendor_context->ciphers = ciphers;
    if (chance(700))
        tls->server->vendor->context_set_tickets(tls->server->vendor_context, &keys);
}

void sim_tls_end(void)
{
    weir_tls_context_free(world.tls.server);
    weir_tls_context_free(world.tls.client);
    for (unsigned i = 0; i < world.tls.wire_count; i++)
        wire_dispose(&world.tls.wires[i]);
}

bool sim_tls_put(struct end *end, struct weir_stream *stream)
{
    struct weir_tls_connect connect = {.server_name = "localhost"};
    int error;

    if (!world.tls.on)
        return true;
    if (chance(700)) {
        connect.resumption = world.tls.resumption;
        connect.resumption_length = world.tls.resumption_length;
    }
    error = end->is_client ? weir_tls_connect(stream, world.tls.client, &connect)
                           : weir_tls_accept(stream, world.tls.server);
    expect(error == 0 || (error == WEIR_ENOMEM && world.oom), "e%u: TLS gave %s", end->number,
           weir_error_name(error));
    end->tls = error == 0;
    return end->tls;
}

/* ---- actions ---- */

static void act_update(struct end *end)
{
    struct weir_tls_info info;
    bool open, shut = end->shut_called || end->close_called || end->abort_called;
    int error;

    if (!world.tls.storms && end->key_updates == UPDATES_CLEAN_MAX)
        return;
    if (world.clean && world.tls.cannot_rekey)
        return;
    open = weir_tls_info(end->stream, &info) == 0;
    world.inside = true;
    error = weir_tls_update_keys(end->stream, chance(300));
    world.inside = false;
    end->key_updates += error == 0;
    seen.updates_asked += error == 0;
    expect(error != 0 || open, "e%u: new keys before there are any", end->number);
    expect(error != 0 || info.version == WEIR_TLS_1_3, "e%u: new keys in TLS 1.2", end->number);
    expect(error == 0 || !open || shut || info.version == WEIR_TLS_1_2 ||
               (error == WEIR_ENOTSUP && info.kernel_tx && world.tls.cannot_rekey) ||
               weir_stream_is_closing(end->stream) || (error == WEIR_ENOMEM && world.oom),
           "e%u: new keys gave %s", end->number, weir_error_name(error));
}

/* As somebody on the way could, who closes the connection in the name of this side. */
static void act_cut(struct end *end)
{
    if (!end->open || weir_stream_queued_bytes(end->stream) > 0)
        return;
    weir__tls_stream_of(end->stream->transport)->close_said = true;
    world.inside = true;
    weir_stream_shutdown(end->stream);
    world.inside = false;
    end->shut_called = true;
}

void sim_tls_act(struct end *end)
{
    if (world.tls.cuts && chance(200))
        act_cut(end);
    else
        for (uint64_t count = world.tls.storms ? below(40) : 1; count > 0; count--)
            act_update(end);
}

/* ---- the model ---- */

void sim_tls_look(struct end *end)
{
    const struct weir__socket *socket = &end->stream->socket;

    seen.kernel_tx += socket->tls_tx && !end->kernel_tx;
    seen.kernel_rx += socket->tls_rx && !end->kernel_rx;
    end->kernel_tx = socket->tls_tx;
    end->kernel_rx = socket->tls_rx;
}

void sim_tls_check_open(const struct end *end)
{
    struct weir_tls_info info;
    unsigned cipher;

    expect(weir_tls_info(end->stream, &info) == 0, "e%u: open without TLS", end->number);
    cipher = strstr(info.cipher, "CHACHA20") ? 3 : strstr(info.cipher, "AES_256") ? 2 : 1;
    seen.tls_ciphers[cipher]++;
    seen.tls_1_2 += info.version == WEIR_TLS_1_2;
    seen.tls_1_3 += info.version == WEIR_TLS_1_3;
    seen.tls_resumed += info.resumed;
}

void sim_tls_check_end(const struct end *end)
{
    uint64_t long_ns = 1000ull * NS_PER_MS + world.options.defer_ns_max, arrived_ns;

    if (!end->reading || end->input_ended || end->close_called || !end->wire_in ||
        weir_stream_is_closing(end->stream))
        return;
    arrived_ns = weir__sim_flow_arrived_ns(end->in, end->wire_in->closed_end);
    expect(arrived_ns == UINT64_MAX || end->received < end->wire_in->plain ||
               now() < arrived_ns + long_ns || now() < end->read_began_ns + long_ns,
           "e%u: nobody was told of close_notify", end->number);
}

static bool is_tampered(const struct wire *wire)
{
    return wire->changed;
}

/* The change is in the two bytes that say how long a record is. */
static bool is_length_tampered(const struct wire *wire)
{
    return is_tampered(wire) && wire->tamper_at - wire->tampered >= 3 &&
           wire->tamper_at - wire->tampered < 5;
}

/*
 * More KeyUpdates, or records without data, than a peer may send: a storm, or a small bound of records. The
 * tickets of the handshake are among the latter, and not noted.
 */
static bool is_storm(const struct wire *wire)
{
    return wire->key_updates > WEIR__TLS_KEY_UPDATES_MAX ||
           wire->quiet_most + TICKETS_MAX > WEIR__TLS_QUIET_RECORDS_MAX;
}

bool sim_tls_check_reason(const struct end *end, int reason)
{
    const struct wire *in = end->wire_in, *out = end->wire_out;
    bool connected = end->tls && in && out;

    switch (reason) {
    case WEIR_ETLS:
        expect(connected, "e%u: a failure of TLS without TLS", end->number);
        expect(!connected || is_tampered(in) || is_tampered(out) || is_storm(in) || is_storm(out),
               "e%u: TLS failed, with nothing wrong: %s", end->number,
               weir_tls_failure(end->stream));
        return true;
    case WEIR_ECUTOFF:
        /* A length that was changed swallows what follows. */
        expect(connected &&
                   (in->closed_end > weir__sim_flow_arrived(end->in) || is_length_tampered(in)),
               "e%u: cut off behind close_notify", end->number);
        return true;
    case WEIR_ENOTSUP:
        expect(connected && world.tls.cannot_rekey, "e%u: keys could be changed", end->number);
        return true;
    case WEIR_ETIMEDOUT:
        return end->tls && !end->open &&
               now() >= end->began_ns + world.tls.handshake_timeout_ms * NS_PER_MS;
    default:
        return false;
    }
}

static void keep_resumption(struct end *end)
{
    int length =
        weir_tls_resumption(end->stream, world.tls.resumption, sizeof(world.tls.resumption));

    expect(length >= 0, "e%u: resumption gave %s", end->number, weir_error_name(length));
    world.tls.resumption_length = length > 0 ? (size_t)length : 0;
}

/* Of the kernel's records it is known how many they were, not how many they will be. */
static void check_bound(const struct end *end)
{
    const struct weir_tls_context *context = end->is_client ? world.tls.client : world.tls.server;

    expect(world.tls.cannot_rekey || end->kernel_tx ||
               end->wire_out->of_key_most <= (uint64_t)context->records_max + 1,
           "e%u: %llu records with one key", end->number,
           (unsigned long long)end->wire_out->of_key_most);
}

void sim_tls_note_closed(struct end *end, int reason)
{
    const struct wire *in = end->wire_in, *out = end->wire_out;

    if (!end->tls || !in || !out)
        return;
    if (end->is_client)
        keep_resumption(end);
    check_bound(end);
    seen.cut_off += reason == WEIR_ECUTOFF && end->open;
    seen.handshakes_late += reason == WEIR_ETIMEDOUT && !end->open;
    seen.records_ran_out += reason == WEIR_ENOTSUP;
    seen.updates_unasked += out->key_updates > end->key_updates;
    if (reason != WEIR_ETLS)
        return;
    seen.storms += is_storm(in) && !is_tampered(in);
    seen.tampered += is_tampered(in) && end->open;
    seen.tampered_handshakes += is_tampered(in) && !end->open;
}
