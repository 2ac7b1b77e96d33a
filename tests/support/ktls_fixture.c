/* SPDX-License-Identifier: Apache-2.0 */
#include "support/ktls_fixture.h"

#include <stdio.h>
#include <string.h>

struct weir__tls_keys ktls_keys(uint16_t version, enum weir__tls_cipher cipher, unsigned seed)
{
    struct weir__tls_keys keys = {.version = version, .cipher = cipher, .sequence = KTLS_SEQUENCE};

    pattern_fill(keys.key, weir__tls_key_bytes(cipher), seed * 1000);
    pattern_fill(keys.iv, sizeof(keys.iv), seed * 1000 + 500);
    return keys;
}

bool ktls_here(struct engine_fixture *f)
{
    const struct weir__tls_keys keys = ktls_keys(WEIR__TLS_1_3, WEIR__TLS_AES_128_GCM, 1);
    struct pair pair;

    pair_open(&pair, f, false);
    int rc = f->ops->socket_tls_attach(f->engine, &pair.client, WEIR__TLS_TX, &keys);
    pair_close(&pair);
    assert_true(rc == 0 || rc == WEIR_ENOTSUP);
    return rc == 0;
}

void ktls_needed(struct engine_fixture *f)
{
    if (ktls_here(f))
        return;
    f->passed = true;
    engine_skip(f, "no kernel TLS here (TCP_ULP \"tls\")");
}

unsigned long long ktls_stat(const char *name)
{
    FILE *file = fopen("/proc/net/tls_stat", "re");
    unsigned long long value = 0;
    char line_name[64];

    if (!file)
        return 0;
    while (fscanf(file, "%63s %llu", line_name, &value) == 2 && strcmp(line_name, name) != 0)
        value = 0;
    (void)fclose(file);
    return value;
}

void ktls_plain_open(struct ktls_pair *k, struct engine_fixture *f)
{
    ktls_needed(f);
    pair_open(&k->pair, f, true);
    assert_true(k->pair.client.stamps);
}

void ktls_attach_one(struct engine_fixture *f, struct weir__socket *socket,
                     enum weir__tls_direction direction, const struct weir__tls_keys *keys)
{
    assert_int_equal(f->ops->socket_tls_attach(f->engine, socket, direction, keys), 0);
    assert_true(direction == WEIR__TLS_TX ? socket->tls_tx : socket->tls_rx);
}

void ktls_attach(struct ktls_pair *k, uint16_t version, enum weir__tls_cipher cipher)
{
    const struct weir__tls_keys of_client = ktls_keys(version, cipher, 1);
    const struct weir__tls_keys of_server = ktls_keys(version, cipher, 2);

    ktls_attach_one(k->pair.f, &k->pair.client, WEIR__TLS_TX, &of_client);
    ktls_attach_one(k->pair.f, &k->pair.client, WEIR__TLS_RX, &of_server);
    ktls_attach_one(k->pair.f, &k->pair.server, WEIR__TLS_TX, &of_server);
    ktls_attach_one(k->pair.f, &k->pair.server, WEIR__TLS_RX, &of_client);
}

void ktls_pair_open(struct ktls_pair *k, struct engine_fixture *f, uint16_t version,
                    enum weir__tls_cipher cipher)
{
    ktls_plain_open(k, f);
    ktls_attach(k, version, cipher);
}

void ktls_receive_init(struct record *record, struct engine_fixture *f, struct weir__socket *socket,
                       uint8_t *bytes, size_t room)
{
    record_init(record, f, WEIR__OP_RECEIVE, socket);
    record->bytes = bytes;
    record->room = room;
}

void ktls_send(struct record *record, const void *bytes, size_t length, uint8_t type)
{
    record->part = (struct iovec){.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
    record->op.kind = WEIR__OP_SEND;
    record->op.send.parts = &record->part;
    record->op.send.part_count = 1;
    record->op.send.flags = 0;
    record->op.send.record_type = type;
    record_submit(record);
}

void ktls_send_all(struct record *record, const void *bytes, size_t length, uint8_t type)
{
    size_t taken = 0;

    while (taken < length) {
        ktls_send(record, (const uint8_t *)bytes + taken, length - taken, type);
        int64_t result = record_finish(record);
        assert_in_range(result, 1, length - taken);
        taken += (size_t)result;
    }
}

size_t ktls_send_until_blocked(struct record *record, const uint8_t *bytes, size_t length,
                               unsigned flags)
{
    size_t taken = 0;

    for (;;) {
        assert_true(taken < length);
        record_send(record, bytes + taken, length - taken, flags);
        wait_for(record->f, 20 * KTLS_MS);
        if (record->final_count == 0)
            return taken;
        assert_in_range(record->result, 1, length - taken);
        taken += (size_t)record->result;
    }
}

static void event_keep(struct record *record, const struct weir__completion *completion)
{
    struct ktls_events *events = record->context;

    if (!completion->more)
        return;
    if (events->count == 0 || events->runs[events->count - 1].type != completion->record_type) {
        assert_in_range(events->count, 0, 63);
        events->runs[events->count].type = completion->record_type;
        events->runs[events->count++].length = 0;
    }
    events->runs[events->count - 1].length += (size_t)completion->result;
}

void ktls_events_keep(struct ktls_events *events, struct record *receive)
{
    receive->context = events;
    receive->hook = event_keep;
}
