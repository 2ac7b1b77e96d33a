/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A responder whose body lies in memory, and is sent from there without a copy where that pays.
 *
 *     cc memory.c -o memory $(pkg-config --cflags --libs weir)
 *     ./memory --bytes 131072 --log
 *     curl -so /dev/null http://127.0.0.1:8080/
 *     curl http://127.0.0.1:8080/status
 *
 * It is the example for those who want zero copy. What it shows is what they may do with memory, and when:
 *
 * - From weir_stream_write until RELEASED, or FAILED, the bytes are only lent. The kernel may read them at any
 *   time, and again when a segment was lost: with zero copy until the peer has acknowledged them, which is a round
 *   trip at least. Who writes to them meanwhile changes what the peer gets, TCP's checksum and all.
 * - Reading them, and lending them to other writes at the same time, is fine: all connections share one body here.
 * - So memory that changes is replaced, not changed: a new body is made, new responses take that, and the old one
 *   goes with the last response that has it. A count of references is all it takes. (--replace-ms)
 * - What was not copied is as good as copied otherwise: ask for RELEASED and the code is the same with zero copy on,
 *   off, or in vain. So it can stay on: AUTO uses it where it pays.
 *
 * Small writes are always copied, and so is the small head before a big body: nothing is to be done about that.
 */

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <weir/weir.h>

#define BODY_BYTES_MAX    (64u << 20)
#define HEAD_BYTES_MAX    256
#define REQUEST_BYTES_MAX 4096
#define STATUS_BYTES_MAX  2048
/* Zero copy is by pages: a body that begins with one shares it with nobody. */
#define PAGE_BYTES 4096
/* The body's bytes repeat after so many, a prime, so that a piece in the wrong place is seen. */
#define PATTERN_BYTES 251
/* What a body is filled with before it is freed: who still sends it is found out. */
#define POISON 0xdd

static struct {
    size_t body_bytes;
    unsigned replace_ms;
    bool log;
} settings = {.body_bytes = 128 << 10};

/* Head and bytes of a response, shared by all that send it. Constant from body_new until it is freed. */
struct body {
    unsigned references;
    size_t head_length, length;
    char head[HEAD_BYTES_MAX];
    uint8_t *bytes;
};

static struct body *current; /* what the next response gets; holds a reference */
static unsigned generation;  /* of the current one; its ETag */
static struct weir_timer replace_timer;

struct connection {
    char peer[WEIR_ADDRESS_TEXT_MAX];
    size_t length;
    char request[REQUEST_BYTES_MAX + 1]; /* as much as has come of it */
};

/* ---- bodies ---- */

static struct body *body_new(size_t length, const char *type, unsigned tag)
{
    struct body *body = calloc(1, sizeof(*body));
    size_t pages = (length + PAGE_BYTES - 1) / PAGE_BYTES;

    if (!body)
        return NULL;
    body->bytes = aligned_alloc(PAGE_BYTES, (pages ? pages : 1) * PAGE_BYTES);
    if (!body->bytes) {
        free(body);
        return NULL;
    }
    body->references = 1;
    body->length = length;
    body->head_length =
        (size_t)snprintf(body->head, sizeof(body->head),
                         "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                         "ETag: \"%u\"\r\n\r\n",
                         type, length, tag);
    return body;
}

static void body_drop(struct body *body)
{
    if (--body->references > 0)
        return;
    memset(body->bytes, POISON, body->length);
    free(body->bytes);
    free(body);
}

/* The next generation. Responses that are under way keep the one they have. */
static int body_replace(void)
{
    struct body *body = body_new(settings.body_bytes, "application/octet-stream", generation + 1);

    if (!body)
        return WEIR_ENOMEM;
    generation++;
    for (size_t i = 0; i < body->length; i++)
        body->bytes[i] = (uint8_t)((i + generation) % PATTERN_BYTES);
    if (current)
        body_drop(current);
    current = body;
    return 0;
}

static void on_replace(struct weir_timer *timer)
{
    if (body_replace() != 0)
        fprintf(stderr, "memory: no memory for a new body: the old one stays\n");
    weir_timer_start(timer, settings.replace_ms);
}

/* What the loop says of how it has sent, as text. NULL without memory. */
static struct body *status_new(struct weir_loop *loop)
{
    char text[STATUS_BYTES_MAX];
    struct weir_send_info info;
    size_t length = 0;

    weir_loop_send_info(loop, &info);
    for (enum weir_send_reason reason = 0; reason < WEIR_SEND_REASONS; reason++)
        length += (size_t)snprintf(text + length, sizeof(text) - length,
                                   "%s_%s_sends %" PRIu64 "\n%s_%s_bytes %" PRIu64 "\n",
                                   weir_send_way_name(weir_send_reason_way(reason)),
                                   weir_send_reason_name(reason), info.sends[reason],
                                   weir_send_way_name(weir_send_reason_way(reason)),
                                   weir_send_reason_name(reason), info.bytes[reason]);
    length += (size_t)snprintf(
        text + length, sizeof(text) - length,
        "pinned_bytes %" PRIu64 "\nused %" PRIu64 "\ncopied %" PRIu64 "\nrefused %" PRIu64 "\n",
        info.pinned_bytes, info.zerocopy_used, info.zerocopy_copied, info.zerocopy_refused);

    struct body *body = body_new(length, "text/plain", 0);
    if (body)
        memcpy(body->bytes, text, length);
    return body;
}

/* ---- responses ---- */

static const char *ways_text(unsigned ways)
{
    if (ways & WEIR_SEND_ZEROCOPY)
        return weir_send_way_name(WEIR_SEND_ZEROCOPY);
    return weir_send_way_name(ways & WEIR_SEND_COPIED ? WEIR_SEND_COPIED : WEIR_SEND_COPY);
}

static void response_log(const struct weir_stream *stream, const struct weir_write_event *event)
{
    const struct connection *connection = weir_stream_context(stream);
    uint64_t held_ns = event->first_byte_ns ? event->at_ns - event->first_byte_ns : 0;

    if (event->stage == WEIR_STAGE_FAILED)
        printf("%s: %s\n", connection->peer, weir_error_text(event->error));
    else
        printf("%s: %" PRIu64 " bytes, %s, held for %" PRIu64 " us\n", connection->peer,
               event->bytes, ways_text(event->ways), held_ns / 1000);
}

/*
 * RELEASED was all we asked for, so there is one event: that, or FAILED in its place. With both the memory is
 * ours again.
 */
static void on_stage(struct weir_stream *stream, void *context,
                     const struct weir_write_event *event)
{
    if (settings.log)
        response_log(stream, event);
    body_drop(context);
}

/* Sends the body, whose reference it takes over. */
static int respond(struct weir_stream *stream, struct body *body)
{
    if (!body)
        return WEIR_ENOMEM;
    const struct iovec parts[] = {{.iov_base = body->head, .iov_len = body->head_length},
                                  {.iov_base = body->bytes, .iov_len = body->length}};
    const struct weir_write write = {.parts = parts,
                                     .part_count = 2,
                                     .stages = WEIR_STAGE_RELEASED,
                                     .on_stage = on_stage,
                                     .context = body};
    int error = weir_stream_write(stream, &write);
    if (error)
        body_drop(body); /* on_stage will not run */
    return error;
}

static int request_serve(struct weir_stream *stream, const char *request)
{
    static const char status[] = "GET /status ";

    if (strncmp(request, status, sizeof(status) - 1) == 0)
        return respond(stream, status_new(weir_stream_loop(stream)));
    current->references++;
    return respond(stream, current);
}

/* ---- connections ---- */

/* Serves what is whole in the buffer, and keeps the rest. */
static int requests_serve(struct weir_stream *stream, struct connection *connection)
{
    static const char end[] = "\r\n\r\n";
    char *request = connection->request, *found;
    int error = 0;

    connection->request[connection->length] = '\0';
    while (error == 0 && (found = strstr(request, end)) != NULL) {
        error = request_serve(stream, request);
        request = found + sizeof(end) - 1;
    }
    connection->length -= (size_t)(request - connection->request);
    memmove(connection->request, request, connection->length);
    return error;
}

static void on_data(struct weir_stream *stream, const uint8_t *data, size_t length,
                    uint64_t arrived_ns)
{
    struct connection *connection = weir_stream_context(stream);

    (void)arrived_ns;
    while (length > 0) {
        size_t room = REQUEST_BYTES_MAX - connection->length;
        size_t taken = length < room ? length : room;
        memcpy(connection->request + connection->length, data, taken);
        connection->length += taken;
        data += taken;
        length -= taken;
        int error = requests_serve(stream, connection);
        if (error == 0 && connection->length == REQUEST_BYTES_MAX)
            error = WEIR_ENOBUFS;
        /* More requests at once than the queue takes (64) end here too; a server with more to it would wait. */
        if (error) {
            weir_stream_abort(stream, error);
            return;
        }
    }
}

static void on_end(struct weir_stream *stream)
{
    weir_stream_close(stream, WEIR_CLOSE_DEADLINE_MS);
}

/* Every write has had its last event by now, so nothing is lent any more. */
static void on_close(struct weir_stream *stream, int reason)
{
    (void)reason;
    free(weir_stream_context(stream));
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
        fprintf(stderr, "memory: cannot accept: %s\n", weir_error_text(error));
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
    weir_stream_read_start(stream);
}

/* ---- the program ---- */

static int usage(void)
{
    fprintf(stderr, "usage: memory [--listen ADDR:PORT] [--bytes N] [--replace-ms N] [--log]\n"
                    "              [--zerocopy auto|off|on] [--engine auto|io_uring|epoll|poll]\n"
                    "              [--delivery on|off]\n");
    return 2;
}

/* The place of `word` among `words`, whose order is that of an enum, or -1. */
static int choice(const char *word, const char *const *words, int count)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(word, words[i]) == 0)
            return i;
    }
    return -1;
}

static int options_read(int argc, char **argv, struct weir_loop_options *loop,
                        struct weir_address *address)
{
    static const char *const zerocopies[] = {"auto", "off", "on"};
    static const char *const engines[] = {"auto", "io_uring", "epoll", "poll"};
    static const char *const switches[] = {"off", "on"};
    static const struct option names[] = {
        {"listen", required_argument, NULL, 'l'},     {"bytes", required_argument, NULL, 'b'},
        {"replace-ms", required_argument, NULL, 'r'}, {"log", no_argument, NULL, 'v'},
        {"zerocopy", required_argument, NULL, 'z'},   {"engine", required_argument, NULL, 'e'},
        {"delivery", required_argument, NULL, 'd'},   {0},
    };
    int name, value = 0;

    while (value >= 0 && (name = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (name) {
        case 'l':
            value = weir_address_parse(address, optarg);
            break;
        case 'b':
            settings.body_bytes = strtoul(optarg, NULL, 10);
            value = settings.body_bytes > 0 && settings.body_bytes <= BODY_BYTES_MAX ? 0 : -1;
            break;
        case 'r':
            settings.replace_ms = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'v':
            settings.log = true;
            break;
        case 'z':
            value = choice(optarg, zerocopies, 3);
            loop->zerocopy = (enum weir_zerocopy)value;
            break;
        case 'e':
            value = choice(optarg, engines, 4);
            loop->engine = (enum weir_engine_kind)value;
            break;
        case 'd':
            value = choice(optarg, switches, 2);
            loop->delivery = value == 1;
            break;
        default:
            value = -1;
        }
    }
    return value < 0 || optind < argc ? WEIR_EINVAL : 0;
}

int main(int argc, char **argv)
{
    struct weir_loop_options options;
    struct weir_address address;
    struct weir_loop *loop;
    struct weir_listener *listener;
    char text[WEIR_ADDRESS_TEXT_MAX];

    weir_loop_options_init(&options);
    weir_address_parse(&address, "127.0.0.1:8080");
    if (options_read(argc, argv, &options, &address) != 0)
        return usage();
    setvbuf(stdout, NULL, _IOLBF, 0);

    /* With zero copy ON, a system that has none is an error here; AUTO goes without. */
    int error = weir_loop_new(&loop, &options);
    if (error) {
        fprintf(stderr, "memory: cannot make a loop: %s\n", weir_error_text(error));
        return 1;
    }
    error = body_replace();
    if (error == 0)
        error = weir_listener_start(&listener, loop, &address, NULL, on_accept, NULL);
    if (error) {
        fprintf(stderr, "memory: cannot listen: %s\n", weir_error_text(error));
        weir_loop_free(loop);
        return 1;
    }
    weir_timer_init(&replace_timer, loop, on_replace, NULL);
    if (settings.replace_ms)
        weir_timer_start(&replace_timer, settings.replace_ms);
    if (weir_listener_address(listener, &address) == 0) {
        weir_address_format(&address, text);
        printf("listening on %s, engine %s\n", text, weir_loop_engine_name(loop));
    }
    error = weir_loop_run(loop);
    fprintf(stderr, "memory: %s\n", weir_error_text(error));
    return 1;
}
