/* SPDX-License-Identifier: Apache-2.0 */
#include "support/tls_session_end.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <weir/error.h>

#include "support/pieces.h"
#include "support/tls_craft.h"
#include "support/tls_toy.h"

static void note(struct session_end *end, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void note(struct session_end *end, const char *format, ...)
{
    size_t room = sizeof(end->log) - end->log_length;
    va_list arguments;

    end->events++;
    va_start(arguments, format);
    int length = vsnprintf(end->log + end->log_length, room, format, arguments);
    va_end(arguments);
    end->log_length += (size_t)length < room ? (size_t)length : room - 1;
}

static int on_emit(void *context, const uint8_t *bytes, size_t length)
{
    struct session_end *end = context;

    if (length > sizeof(end->wire) - end->wire_length)
        return WEIR_ENOMEM;
    memcpy(end->wire + end->wire_length, bytes, length);
    end->wire_length += length;
    return 0;
}

static int on_control(void *context, enum weir__tls_content type, const uint8_t *content,
                      size_t length, bool then_new_keys)
{
    struct session_end *end = context;
    const struct iovec part = {.iov_base = (uint8_t *)content, .iov_len = length};
    uint8_t record[64];

    assert(length <= 5);
    note(end, "control:%u:%u:%u%s ", type, content[0], content[length - 1],
         then_new_keys ? ":keys" : "");
    if (end->control_fails)
        return WEIR_ENOMEM;
    struct weir__tls_protector *sealer = weir__tls_session_sealer(&end->session);
    struct weir__tls_keys keys;

    if (sealer) {
        int64_t size = weir__tls_seal(sealer, type, &part, 1, record);
        if (size < 0 || on_emit(end, record, (size_t)size) != 0)
            return WEIR_ENOMEM;
    }
    return then_new_keys ? weir__tls_session_next_tx(&end->session, &keys) : 0;
}

static bool on_plain(void *context, const uint8_t *data, size_t length)
{
    struct session_end *end = context;

    note(end, "data:%zu ", length);
    end->data_bytes += length;
    end->data_hash = (end->data_hash ^ pieces_seed(data, length)) * 1099511628211u;
    return !end->refuses_data;
}

static int on_opened(void *context, const struct weir__tls_result *result)
{
    struct session_end *end = context;

    note(end, "opened:%x ", result->version);
    return end->opened_fails ? WEIR_ENOMEM : 0;
}

static void on_closed(void *context)
{
    note(context, "closed ");
}

static void on_rx_changed(void *context)
{
    note(context, "rx ");
}

static const struct weir__tls_events events = {
    .emit = on_emit,
    .control = on_control,
    .plain = on_plain,
    .opened = on_opened,
    .closed = on_closed,
    .rx_changed = on_rx_changed,
};

int session_end_init(struct session_end *end, bool server, const struct session_options *options)
{
    static const struct weir__tls_certificate certificate = {"toy", "toy"};
    struct weir__tls_ticket_keys tickets = {.count = 1};
    struct weir__tls_complaint complaint;
    struct weir__tls_config config = {
        .server = server,
        .version_min = options->version,
        .version_max = options->version,
        .ciphers = 1u << options->cipher,
        .certificates = &certificate,
        .certificate_count = server,
        .peer = server ? WEIR__TLS_PEER_UNASKED : WEIR__TLS_PEER_UNVERIFIED_INSECURE,
        .tickets = server && options->tickets ? &tickets : NULL,
    };

    memset(end, 0, sizeof(*end));
    int error = weir__tls_toy.context_new(&end->context, &config, &complaint);
    if (!error)
        error = weir__tls_session_init(&end->session, &weir__tls_toy, end->context, server,
                                       server ? NULL : "a.example", NULL, 0, &events, end);
    return error;
}

void session_end_dispose(struct session_end *end)
{
    weir__tls_session_dispose(&end->session);
    weir__tls_toy.context_free(end->context);
}

int session_end_feed(struct session_end *end, struct session_end *peer)
{
    static uint8_t room[WEIR__TLS_PLAIN_MAX + WEIR__TLS_EXPAND_MAX];
    const uint8_t *bytes = peer->wire + peer->wire_read;
    size_t length = peer->wire_length - peer->wire_read;

    peer->wire_read = peer->wire_length;
    return weir__tls_session_receive(&end->session, bytes, length, room);
}

int session_ends_connect(struct session_end *client, struct session_end *server)
{
    int error = weir__tls_session_start(&client->session);

    while (!error &&
           (client->wire_read < client->wire_length || server->wire_read < server->wire_length)) {
        error = session_end_feed(server, client);
        if (!error)
            error = session_end_feed(client, server);
    }
    return error;
}

const char *session_end_log(struct session_end *end)
{
    if (end->log_length == 0)
        return "";
    end->log_length = 0;
    return end->log;
}

size_t session_end_craft(struct session_end *from, uint8_t type, const void *content, size_t length,
                         uint8_t *record)
{
    struct weir__tls_protector *sealer = weir__tls_session_sealer(&from->session);
    uint8_t inner[WEIR__TLS_PLAIN_MAX + WEIR__TLS_EXPAND_MAX];

    assert(length < sizeof(inner) - 32);
    memcpy(inner, content, length);
    if (sealer->keys.version == WEIR__TLS_1_3) {
        inner[length++] = type;
        type = WEIR__TLS_APPLICATION_DATA;
    }
    size_t size = tls_craft_record(sealer, type, inner, length, record);
    sealer->keys.sequence++;
    return size;
}
