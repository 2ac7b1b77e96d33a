/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A TCP or TLS echo server that knows when each answer arrived.
 *
 *     cc echo.c -o echo $(pkg-config --cflags --libs weir)
 *     ./echo 127.0.0.1:7007
 *     nc 127.0.0.1 7007
 *
 * With a certificate and its key it speaks TLS:
 *
 *     ./echo 127.0.0.1:7007 certificate.pem key.pem
 *     openssl s_client -quiet -connect 127.0.0.1:7007
 *
 * Type a line into nc, and the server prints three times, all counted from when the line reached
 * it: when the kernel took the answer (which is what write() would have told), when it left this
 * host, and when the other end had its last byte.
 *
 * The whole of libweir that a server needs is here: a loop, a listener, streams with a handler, and
 * writes with stages. Everything runs on one thread, the loop's; callbacks never run inside a call
 * that we make.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <weir/weir.h>

/* NULL: plain TCP. Else what all connections share: certificate, key and settings. */
static struct weir_tls_context *tls;

/* What we keep for each connection. */
struct connection {
    char peer[WEIR_ADDRESS_TEXT_MAX];
    bool reading;
};

/* One answer. Its bytes belong to the stream until the write is released, so they live with it. */
struct answer {
    unsigned stages_left;
    uint64_t arrived_ns, accepted_ns, sent_ns;
    size_t length;
    uint8_t bytes[];
};

/* We want to hear of every stage of every write. */
#define STAGES (WEIR_STAGE_ACCEPTED | WEIR_STAGE_RELEASED | WEIR_STAGE_SENT | WEIR_STAGE_DELIVERED)

/* Microseconds from `from_ns` to `to_ns`. A stage whose time is not known has the time 0. */
static int64_t elapsed_us(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns ? (int64_t)(to_ns - from_ns) / 1000 : -1;
}

static void on_stage(struct weir_stream *stream, void *context,
                     const struct weir_write_event *event)
{
    struct connection *connection = weir_stream_context(stream);
    struct answer *answer = context;

    switch (event->stage) {
    case WEIR_STAGE_ACCEPTED:
        answer->accepted_ns = event->at_ns;
        break;
    case WEIR_STAGE_SENT:
        answer->sent_ns = event->at_ns;
        break;
    case WEIR_STAGE_DELIVERED:
        printf(
            "%s: %zu bytes: accepted after %" PRId64 " us, sent after %" PRId64
            " us, delivered after %" PRId64 " us (%s)\n",
            connection->peer, answer->length, elapsed_us(answer->arrived_ns, answer->accepted_ns),
            elapsed_us(answer->arrived_ns, answer->sent_ns),
            elapsed_us(answer->arrived_ns, event->at_ns), weir_delivery_source_name(event->source));
        break;
    case WEIR_STAGE_FAILED:
        /* FAILED stands for all the stages that did not happen: it is the write's last event. */
        printf("%s: %zu bytes: %s; %" PRIu64 " of them arrived\n", connection->peer, answer->length,
               weir_error_text(event->error), event->bytes);
        answer->stages_left = 0;
        break;
    case WEIR_STAGE_RELEASED:
        break;
    }
    answer->stages_left &= ~(unsigned)event->stage;
    if (answer->stages_left)
        return;
    free(answer);
    /* The queue has room for one more write: listen to the peer again if we had stopped. */
    if (!connection->reading && weir_stream_read_start(stream) == 0)
        connection->reading = true;
}

static void on_data(struct weir_stream *stream, const uint8_t *data, size_t length,
                    uint64_t arrived_ns)
{
    struct connection *connection = weir_stream_context(stream);
    struct answer *answer = calloc(1, sizeof(*answer) + length);

    if (!answer) {
        weir_stream_abort(stream, WEIR_ENOMEM);
        return;
    }
    /* `data` is valid during this call only; an answer outlives it. */
    memcpy(answer->bytes, data, length);
    answer->length = length;
    answer->arrived_ns = arrived_ns;
    answer->stages_left = STAGES;

    const struct iovec part = {.iov_base = answer->bytes, .iov_len = length};
    const struct weir_write write = {
        .parts = &part, .part_count = 1, .stages = STAGES, .on_stage = on_stage, .context = answer};
    int error = weir_stream_write(stream, &write);
    if (error) {
        /* The callback does not run for a write that was not queued. */
        free(answer);
        weir_stream_abort(stream, error);
        return;
    }
    /*
     * Every queue of libweir is bounded. A peer that sends but does not read fills ours; then we
     * stop reading, TCP tells the peer, and nothing grows.
     */
    if (weir_stream_queue_room(stream) == 0) {
        weir_stream_read_stop(stream);
        connection->reading = false;
    }
}

/* The peer has said all it had to say. Close sends what is queued and waits until it is delivered.
 */
static void on_end(struct weir_stream *stream)
{
    weir_stream_close(stream, WEIR_CLOSE_DEADLINE_MS);
}

/* The last callback of each stream, whatever happened; libweir frees the stream after it. */
static void on_close(struct weir_stream *stream, int reason)
{
    struct connection *connection = weir_stream_context(stream);
    printf("%s: closed: %s %s\n", connection->peer, weir_error_text(reason),
           weir_tls_failure(stream));
    free(connection);
}

static const struct weir_stream_handler handler = {
    .on_data = on_data,
    .on_end = on_end,
    .on_close = on_close,
};

static void on_accept(struct weir_listener *listener, struct weir_stream *stream, int error)
{
    (void)listener;
    if (!stream) {
        /* Out of descriptors, perhaps. The listener tries again by itself. */
        fprintf(stderr, "echo: cannot accept: %s\n", weir_error_text(error));
        return;
    }
    struct connection *connection = calloc(1, sizeof(*connection));
    struct weir_address peer;
    if (!connection) {
        weir_stream_abort(stream, WEIR_ENOMEM);
        return;
    }
    if (weir_stream_peer(stream, &peer) == 0)
        weir_address_format(&peer, connection->peer);
    weir_stream_set_handler(stream, &handler, connection);
    /* From here on the stream's bytes are the plaintext's; nothing else changes. */
    if (tls && weir_tls_accept(stream, tls) != 0)
        weir_stream_abort(stream, WEIR_ENOMEM);
    connection->reading = weir_stream_read_start(stream) == 0;
}

static int make_tls(const char *certificate_file, const char *key_file)
{
    const struct weir_tls_certificate certificate = {certificate_file, key_file};
    struct weir_tls_options options;
    char complaint[WEIR_TLS_COMPLAINT_MAX];

    weir_tls_options_init(&options);
    options.server = true;
    options.certificates = &certificate;
    options.certificate_count = 1;
    int error = weir_tls_context_new(&tls, &options, complaint);
    if (error)
        fprintf(stderr, "echo: %s\n", complaint);
    return error;
}

int main(int argc, char **argv)
{
    struct weir_address address;
    struct weir_loop *loop;
    struct weir_listener *listener;
    char text[WEIR_ADDRESS_TEXT_MAX];

    if (weir_address_parse(&address, argc > 1 ? argv[1] : "127.0.0.1:7007") != 0) {
        fprintf(stderr, "usage: echo [ADDR:PORT [CERTIFICATE KEY]]\n");
        return 2;
    }
    if (argc > 3 && make_tls(argv[2], argv[3]) != 0)
        return 1;
    setvbuf(stdout, NULL, _IOLBF, 0);

    int error = weir_loop_new(&loop, NULL);
    if (error) {
        fprintf(stderr, "echo: cannot make a loop: %s\n", weir_error_text(error));
        return 1;
    }
    error = weir_listener_start(&listener, loop, &address, NULL, on_accept, NULL);
    if (error) {
        fprintf(stderr, "echo: cannot listen: %s\n", weir_error_text(error));
        weir_loop_free(loop);
        return 1;
    }
    /* Port 0 lets the kernel choose; ask which one it was. */
    if (weir_listener_address(listener, &address) == 0) {
        weir_address_format(&address, text);
        printf("listening on %s, engine %s\n", text, weir_loop_engine_name(loop));
    }

    /* Runs until the process is ended; a server with more to it would call weir_loop_stop. */
    error = weir_loop_run(loop);
    fprintf(stderr, "echo: %s\n", weir_error_text(error));
    return 1;
}
