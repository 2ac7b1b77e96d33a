/* SPDX-License-Identifier: Apache-2.0 */
#include "server/admin.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <weir/error.h>
#include <weir/listener.h>
#include <weir/stream.h>
#include <weir/timer.h>

#include "core/list.h"
#include "core/memory.h"
#include "http/date.h"
#include "http/h1.h"

#define HEADER_MAX 512
#define NS_PER_S   1000000000u

/* How long a peer may take to close after our FIN. */
#define LINGER_MS 1000

/* A text that several responses share. */
struct text {
    unsigned users;
    size_t length;
    char data[];
};

struct weir__admin {
    struct weir_loop *loop;
    struct weir_listener *listener; /* NULL: closed */
    struct weir__scrape scrape;
    struct weir__list connections;
    unsigned connection_count;
    void (*on_closed)(void *context); /* NULL: it is not closing */
    void *context;
};

struct connection {
    struct weir__list link;
    struct weir__admin *admin;
    struct weir_stream *stream;
    struct weir_timer timer;
    struct weir__h1_parser parser;
    struct weir__request request;
    size_t input_length;
    bool awaits_scrape;
    bool responding; /* a response is on its way, or awaited: no request is read */
    bool head_only, last, input_ended;
    struct text *body;
    char input[WEIR__ADMIN_HEAD_MAX];
    char header[HEADER_MAX];
};

/* ---- responses ---- */

static void release_text(struct text *text)
{
    if (text && --text->users == 0)
        weir__release(text);
}

static const char *reason_of(unsigned status)
{
    switch (status) {
    case 200:
        return "OK";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 408:
        return "Request Timeout";
    case 431:
        return "Request Header Fields Too Large";
    case 503:
        return "Service Unavailable";
    default:
        return "Bad Request";
    }
}

static size_t format_header(struct connection *connection, unsigned status, size_t body_bytes)
{
    struct weir_loop *loop = connection->admin->loop;
    uint64_t wall_ns = weir_loop_wall_ns(loop, weir_loop_now_ns(loop));
    char date[WEIR__DATE_LENGTH];

    weir__date_format((int64_t)(wall_ns / NS_PER_S), date);
    int length = snprintf(connection->header, sizeof(connection->header),
                          "HTTP/1.1 %u %s\r\nDate: %.*s\r\nContent-Length: %zu\r\n"
                          "Cache-Control: no-store\r\n%s%s%s\r\n",
                          status, reason_of(status), WEIR__DATE_LENGTH, date, body_bytes,
                          status == 200 ? "Content-Type: " WEIR__METRICS_CONTENT_TYPE "\r\n" : "",
                          status == 405 ? "Allow: GET, HEAD\r\n" : "",
                          connection->last ? "Connection: close\r\n" : "");
    assert(length > 0);
    assert((size_t)length < sizeof(connection->header));
    return (size_t)length;
}

static void read_on(struct connection *connection);

static void on_written(struct weir_stream *stream, void *context,
                       const struct weir_write_event *event)
{
    struct connection *connection = context;

    release_text(connection->body);
    connection->body = NULL;
    connection->responding = false;
    if (event->stage == WEIR_STAGE_FAILED || weir_stream_is_closing(stream))
        return;
    if (connection->last || connection->input_ended) {
        weir_timer_stop(&connection->timer);
        weir_stream_close(stream, LINGER_MS);
        return;
    }
    weir_timer_start(&connection->timer, WEIR__ADMIN_IDLE_MS);
    read_on(connection);
}

/* `body` NULL: none. Only what went well may have another request behind it. */
static void respond(struct connection *connection, unsigned status, struct text *body)
{
    connection->last = connection->last || status != 200;
    connection->responding = true;
    weir_stream_read_stop(connection->stream);

    const struct iovec parts[] = {
        {.iov_base = connection->header,
         .iov_len = format_header(connection, status, body ? body->length : 0)},
        {.iov_base = body ? body->data : NULL, .iov_len = body ? body->length : 0},
    };
    const struct weir_write write = {
        .parts = parts,
        .part_count = body && !connection->head_only ? 2 : 1,
        .file = -1,
        .stages = WEIR_STAGE_RELEASED,
        .on_stage = on_written,
        .context = connection,
    };
    int error = weir_stream_write(connection->stream, &write);
    if (error) {
        weir_stream_abort(connection->stream, error);
        return;
    }
    if (body && !connection->head_only) {
        connection->body = body;
        body->users++;
    }
    weir_timer_start(&connection->timer, WEIR__ADMIN_SEND_MS);
}

static struct text *format_metrics(const struct weir__metrics *metrics)
{
    struct text *text = weir__allocate(sizeof(*text) + WEIR__METRICS_TEXT_MAX);

    if (!text)
        return NULL;
    text->users = 1;
    text->length = weir__metrics_format(metrics, text->data);
    struct text *fitting = weir__reallocate(text, sizeof(*text) + text->length);
    return fitting ? fitting : text;
}

/* All who wait get the same text. */
static void on_scraped(struct weir__scrape *scrape)
{
    struct weir__admin *admin = scrape->context;
    struct text *text = format_metrics(&scrape->sum);

    for (struct weir__list *link = admin->connections.next; link != &admin->connections;
         link = link->next) {
        struct connection *connection = WEIR__CONTAINER(link, struct connection, link);
        if (!connection->awaits_scrape)
            continue;
        connection->awaits_scrape = false;
        respond(connection, text ? 200 : 503, text);
    }
    release_text(text);
}

/* ---- requests ---- */

static bool path_is(const struct weir__request *request, const char *path)
{
    return request->path.length == strlen(path) &&
           memcmp(request->path.data, path, request->path.length) == 0;
}

static void answer(struct connection *connection)
{
    const struct weir__request *request = &connection->request;

    connection->head_only = request->method == WEIR__METHOD_HEAD;
    /* A body has no meaning here, and nobody reads it. */
    if (!request->keep_alive || request->framing != WEIR__FRAMING_NONE)
        connection->last = true;
    if (!path_is(request, "/metrics")) {
        respond(connection, 404, NULL);
    } else if (request->method != WEIR__METHOD_GET && request->method != WEIR__METHOD_HEAD) {
        respond(connection, 405, NULL);
    } else {
        connection->responding = connection->awaits_scrape = true;
        weir_stream_read_stop(connection->stream);
        weir_timer_stop(&connection->timer); /* a scrape ends by itself */
        weir__scrape_want(&connection->admin->scrape);
    }
}

/* Reads the head that is first in the input, as far as it is there. */
static void parse(struct connection *connection)
{
    int length = weir__h1_parse_head(&connection->parser, connection->input,
                                     connection->input_length, &connection->request);

    if (length < 0) {
        respond(connection, (unsigned)-length, NULL);
    } else if (length > 0) {
        answer(connection);
        connection->input_length -= (size_t)length;
        memmove(connection->input, connection->input + length, connection->input_length);
        weir__h1_init(&connection->parser);
    } else if (connection->input_length == WEIR__ADMIN_HEAD_MAX) {
        respond(connection, 431, NULL);
    }
}

/* A response is over: the next request, which may have come already. */
static void read_on(struct connection *connection)
{
    if (connection->input_length > 0) {
        weir_timer_start(&connection->timer, WEIR__ADMIN_HEAD_MS);
        parse(connection);
    }
    if (!connection->responding)
        weir_stream_read_start(connection->stream);
}

static void on_data(struct weir_stream *stream, const uint8_t *data, size_t length,
                    uint64_t arrived_ns)
{
    struct connection *connection = weir_stream_context(stream);
    size_t room = WEIR__ADMIN_HEAD_MAX - connection->input_length;

    (void)arrived_ns;
    if (connection->responding || connection->last)
        return;
    if (connection->input_length == 0)
        weir_timer_start(&connection->timer, WEIR__ADMIN_HEAD_MS);
    /* More than a head may be long is more than anybody needs to send before an answer: the rest is lost. */
    connection->last = length > room;
    memcpy(connection->input + connection->input_length, data, length < room ? length : room);
    connection->input_length += length < room ? length : room;
    parse(connection);
}

static void on_end(struct weir_stream *stream)
{
    struct connection *connection = weir_stream_context(stream);

    connection->input_ended = true;
    if (!connection->responding)
        weir_stream_close(stream, LINGER_MS);
}

static void on_timeout(struct weir_timer *timer)
{
    struct connection *connection = timer->context;

    if (connection->responding)
        weir_stream_abort(connection->stream, WEIR_ETIMEDOUT);
    else if (connection->input_length > 0)
        respond(connection, 408, NULL);
    else
        weir_stream_close(connection->stream, LINGER_MS);
}

/* ---- connections ---- */

static void end_if_empty(struct weir__admin *admin)
{
    void (*on_closed)(void *context) = admin->on_closed;
    void *context = admin->context;

    if (!on_closed || admin->listener || admin->connection_count > 0)
        return;
    weir__release(admin);
    on_closed(context);
}

static void on_close(struct weir_stream *stream, int reason)
{
    struct connection *connection = weir_stream_context(stream);
    struct weir__admin *admin = connection->admin;

    (void)reason;
    weir_timer_stop(&connection->timer);
    weir__list_remove(&connection->link);
    weir__release(connection);
    if (admin->connection_count-- == WEIR__ADMIN_CONNECTIONS_MAX && admin->listener)
        weir_listener_resume(admin->listener);
    end_if_empty(admin);
}

static void on_accept(struct weir_listener *listener, struct weir_stream *stream, int error)
{
    static const struct weir_stream_handler handler = {
        .on_data = on_data,
        .on_end = on_end,
        .on_close = on_close,
    };
    struct weir__admin *admin = weir_listener_context(listener);

    (void)error; /* the listener tries again; a shortage is the workers' to report */
    if (!stream)
        return;
    /* An engine may have accepted more before it heard of the pause. */
    bool full = admin->connection_count == WEIR__ADMIN_CONNECTIONS_MAX;
    struct connection *connection = full ? NULL : weir__allocate(sizeof(*connection));
    if (!connection) {
        weir_stream_abort(stream, full ? WEIR_ENOBUFS : WEIR_ENOMEM);
        return;
    }
    memset(connection, 0, offsetof(struct connection, input));
    connection->admin = admin;
    connection->stream = stream;
    weir__h1_init(&connection->parser);
    weir__list_append(&admin->connections, &connection->link);
    weir_timer_init(&connection->timer, admin->loop, on_timeout, connection);
    weir_timer_start(&connection->timer, WEIR__ADMIN_HEAD_MS);
    weir_stream_set_handler(stream, &handler, connection);
    weir_stream_read_start(stream);
    if (++admin->connection_count == WEIR__ADMIN_CONNECTIONS_MAX)
        weir_listener_pause(listener);
}

static void on_listener_closed(struct weir_listener *listener)
{
    struct weir__admin *admin = weir_listener_context(listener);

    admin->listener = NULL;
    end_if_empty(admin);
}

int weir__admin_start(struct weir__admin **result, struct weir_loop *loop,
                      struct weir_address *address, struct weir__scrape_group *group)
{
    struct weir__admin *admin = weir__allocate_zeroed(1, sizeof(*admin));
    struct weir_listener_options options;

    if (!admin)
        return WEIR_ENOMEM;
    admin->loop = loop;
    weir__list_init(&admin->connections);
    weir__scrape_init(&admin->scrape, group, loop, on_scraped, admin);
    weir_listener_options_init(&options);
    options.backlog = WEIR__ADMIN_CONNECTIONS_MAX;
    int error = weir_listener_start(&admin->listener, loop, address, &options, on_accept, admin);
    if (error) {
        weir__release(admin);
        return error;
    }
    *result = admin;
    return weir_address_port(address) == 0 ? weir_listener_address(admin->listener, address) : 0;
}

void weir__admin_close(struct weir__admin *admin, void (*on_closed)(void *context), void *context)
{
    admin->on_closed = on_closed;
    admin->context = context;
    weir__scrape_stop(&admin->scrape);
    weir_listener_close(admin->listener, on_listener_closed);
    for (struct weir__list *link = admin->connections.next; link != &admin->connections;
         link = link->next)
        weir_stream_abort(WEIR__CONTAINER(link, struct connection, link)->stream, 0);
}
