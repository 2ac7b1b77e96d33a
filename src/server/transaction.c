/* SPDX-License-Identifier: Apache-2.0 */
#include "server/transaction.h"

#include <assert.h>
#include <string.h>

#include <weir/error.h>
#include <weir/loop.h>
#include <weir/tls.h>

#include "core/memory.h"
#include "server/connection.h"

#define LAST_WRITE_STAGES                                                                          \
    (WEIR_STAGE_ACCEPTED | WEIR_STAGE_RELEASED | WEIR_STAGE_SENT | WEIR_STAGE_DELIVERED)

/* ---- what the log needs of the request ---- */

static struct weir__text copy_text(char **room, struct weir__text source)
{
    struct weir__text copy = {NULL, 0};

    if (!source.data)
        return copy;
    memcpy(*room, source.data, source.length);
    copy = (struct weir__text){*room, source.length};
    *room += source.length;
    return copy;
}

static struct weir__text field_text(const struct weir__request *request, enum weir__field field)
{
    const struct weir__text *value = weir__request_value(request, field);

    return value ? *value : (struct weir__text){NULL, 0};
}

static int copy_request(struct weir__transaction *transaction, const struct weir__request *request)
{
    struct weir__text referer = field_text(request, WEIR__FIELD_REFERER);
    struct weir__text user_agent = field_text(request, WEIR__FIELD_USER_AGENT);
    size_t length = request->method_text.length + request->target.length + request->host.length +
                    referer.length + user_agent.length;
    char *room = transaction->text;

    if (length > sizeof(transaction->text)) {
        room = weir__allocate(length);
        if (!room)
            return WEIR_ENOMEM;
        transaction->allocated_text = room;
        transaction->allocated_bytes = length;
        transaction->connection->text_bytes += length;
    }
    transaction->version_major = request->version_major;
    transaction->version_minor = request->version_minor;
    transaction->method = copy_text(&room, request->method_text);
    transaction->target = copy_text(&room, request->target);
    transaction->host = copy_text(&room, request->host);
    transaction->referer = copy_text(&room, referer);
    transaction->user_agent = copy_text(&room, user_agent);
    return 0;
}

struct weir__transaction *weir__transaction_new(struct weir__connection *connection,
                                                const struct weir__request *request,
                                                uint64_t request_ns)
{
    struct weir__transaction *transaction = weir__pool_take(&connection->service->transaction_pool);

    if (!transaction)
        return NULL;
    /* The texts' rooms are filled as they are used: clearing 2 KB for each request would show. */
    memset(transaction, 0, offsetof(struct weir__transaction, response));
    memset(&transaction->response_held, 0,
           offsetof(struct weir__transaction, text) -
               offsetof(struct weir__transaction, response_held));
    transaction->connection = connection;
    transaction->request_ns = request_ns;
    if (copy_request(transaction, request) != 0) {
        weir__pool_give(&connection->service->transaction_pool, transaction);
        return NULL;
    }
    transaction->retransmits_before = connection->retransmits;
    weir__list_append(&connection->transactions, &transaction->link);
    connection->transaction_count++;
    return transaction;
}

/* ---- the end: a line in the log ---- */

static enum weir__log_outcome outcome_of(const struct weir__transaction *transaction)
{
    switch (transaction->error) {
    case 0:
        return WEIR__LOG_DELIVERED;
    case WEIR_ENOTSUP:
        return WEIR__LOG_UNKNOWN;
    case WEIR_ERESET:
        return WEIR__LOG_RESET;
    case WEIR_ETIMEDOUT:
        return WEIR__LOG_TIMEOUT;
    default:
        return WEIR__LOG_ABORTED;
    }
}

static uint64_t body_part(const struct weir__transaction *transaction, uint64_t bytes)
{
    uint64_t header_bytes = transaction->response.header_bytes;

    return bytes > header_bytes ? bytes - header_bytes : 0;
}

static enum weir__metrics_protocol protocol_of(const struct weir__transaction *transaction)
{
    if (transaction->version_major != 1)
        return WEIR__METRICS_NO_PROTOCOL;
    return transaction->version_minor == 0 ? WEIR__METRICS_HTTP_1_0 : WEIR__METRICS_HTTP_1_1;
}

static const char *protocol_name(const struct weir__transaction *transaction)
{
    static const char *const names[WEIR__METRICS_PROTOCOLS] = {
        [WEIR__METRICS_NO_PROTOCOL] = NULL,
        [WEIR__METRICS_HTTP_1_0] = "HTTP/1.0",
        [WEIR__METRICS_HTTP_1_1] = "HTTP/1.1",
    };
    return names[protocol_of(transaction)];
}

/* `ns`, or `limit_ns` if that is known and earlier. */
static uint64_t no_later(uint64_t ns, uint64_t limit_ns)
{
    return limit_ns != 0 && limit_ns < ns ? limit_ns : ns;
}

/*
 * The way of the body: a head is copied next to whatever follows it, and by itself it is small. What was copied on
 * the way stands before what was not: who looks for it wants to know of the smallest piece.
 */
static enum weir__log_send send_of(const struct weir__transaction *transaction)
{
    if (transaction->ways & WEIR_SEND_FILE)
        return WEIR__LOG_SEND_FILE;
    if (transaction->ways & WEIR_SEND_COPIED)
        return WEIR__LOG_SEND_COPIED;
    return transaction->ways & WEIR_SEND_ZEROCOPY ? WEIR__LOG_SEND_ZEROCOPY : WEIR__LOG_SEND_COPY;
}

/* A connection gets the kernel's TLS when its handshake is done, for what is received perhaps later. */
static void fill_in_tls(const struct weir__connection *connection, struct weir__log_entry *entry)
{
    struct weir_tls_info info;

    if (!connection->tls || weir_tls_info(connection->stream, &info) != 0)
        return;
    entry->tls = info.version_name;
    entry->cipher = info.cipher;
    entry->tls_vendor = info.vendor;
    entry->kernel_tx = info.kernel_tx;
    entry->kernel_rx = info.kernel_rx;
}

/* The kernel took a byte in the middle of a call that also sent it: the stamp is nearer. */
static void order_times(struct weir__transaction *transaction)
{
    uint64_t delivered_ns = transaction->delivered_ns;

    transaction->sent_ns = no_later(transaction->sent_ns, delivered_ns);
    transaction->accepted_ns = no_later(transaction->accepted_ns, transaction->sent_ns);
    transaction->accepted_ns = no_later(transaction->accepted_ns, delivered_ns);
}

/* Kernel stamps and the loop's clock differ by a little: never below 0. */
static void count_elapsed(struct weir__histogram *histogram, uint64_t from_ns, uint64_t at_ns)
{
    if (at_ns != 0)
        weir__histogram_add(histogram, at_ns > from_ns ? at_ns - from_ns : 0);
}

static void count(const struct weir__transaction *transaction)
{
    struct weir__metrics *metrics = &transaction->connection->service->metrics;

    weir__metrics_count_request(metrics, protocol_of(transaction), transaction->response.status);
    count_elapsed(&metrics->accepted, transaction->request_ns, transaction->accepted_ns);
    count_elapsed(&metrics->delivered, transaction->request_ns, transaction->delivered_ns);
    if (outcome_of(transaction) == WEIR__LOG_UNKNOWN)
        metrics->delivery_unknown++;
    weir__connection_count(transaction->connection);
}

static void write_log(const struct weir__transaction *transaction)
{
    struct weir__connection *connection = transaction->connection;
    struct weir__service *service = connection->service;

    if (!service->log)
        return;
    weir__connection_refresh_info(connection);
    struct weir__log_entry entry = {
        .wall_ns = weir_loop_wall_ns(service->loop, transaction->request_ns),
        .arrived_ns = transaction->request_ns,
        .client = connection->peer,
        .protocol = protocol_name(transaction),
        .method = transaction->method,
        .host = transaction->host,
        .target = transaction->target,
        .referer = transaction->referer,
        .user_agent = transaction->user_agent,
        .status = transaction->response.status,
        .body_bytes = body_part(transaction, transaction->accepted_bytes),
        .wire_bytes = transaction->wire_bytes,
        .engine = weir_loop_engine_name(service->loop),
        .send = send_of(transaction),
        .first_byte_ns = no_later(transaction->first_byte_ns, transaction->accepted_ns),
        .accepted_ns = transaction->accepted_ns,
        .sent_ns = transaction->sent_ns,
        .delivered_ns = transaction->delivered_ns,
        .delivered_by = transaction->delivered_by,
        .delivered_bytes = body_part(transaction, transaction->delivered_bytes),
        .outcome = outcome_of(transaction),
        .info_known = connection->info_ns != 0,
        .rtt_us = connection->rtt_us,
        .retransmits = connection->retransmits - transaction->retransmits_before,
    };
    fill_in_tls(connection, &entry);
    char line[WEIR__LOG_LINE_MAX];
    size_t length = weir__log_entry_format(&entry, service->options->log_format,
                                           &service->log_clock, line, sizeof(line));
    weir__log_ring_put(service->log, line, length);
}

static void release_response(struct weir__transaction *transaction)
{
    if (!transaction->response_held)
        return;
    transaction->response_held = false;
    weir__response_dispose(&transaction->response);
}

static void end_if_done(struct weir__transaction *transaction)
{
    struct weir__connection *connection = transaction->connection;

    if (!transaction->ended || transaction->writes_held > 0)
        return;
    order_times(transaction);
    count(transaction);
    write_log(transaction);
    release_response(transaction);
    weir__release(transaction->allocated_text);
    connection->text_bytes -= transaction->allocated_bytes;
    weir__list_remove(&transaction->link);
    connection->transaction_count--;
    weir__pool_give(&connection->service->transaction_pool, transaction);
    weir__connection_transaction_ended(connection);
}

/*
 * ---- the stages of its writes ----
 *
 * With zero copy a write is released when the kernel is done with its memory, about when it is delivered, be that
 * before or after.
 */

/* How much of the response the peer has, from the stream's count: writes may end in the middle. */
static void count_delivered(struct weir__transaction *transaction)
{
    struct weir_delivery_info info;

    if (weir_stream_delivery_info(transaction->connection->stream, &info) != 0)
        return;
    uint64_t acked = info.bytes_acked;
    if (acked <= transaction->start)
        return;
    acked -= transaction->start;
    transaction->delivered_bytes = acked < transaction->length ? acked : transaction->length;
}

static void fail(struct weir__transaction *transaction, const struct weir_write_event *event)
{
    if (transaction->error == 0)
        transaction->error = event->error;
    if (event->error == WEIR_ENOTSUP)
        return;
    transaction->delivered_by = event->source;
    count_delivered(transaction);
    /* With delivery off the stream did not ask; this count did. */
    if (transaction->delivered_bytes > 0 && transaction->delivered_by == WEIR_DELIVERY_NONE)
        transaction->delivered_by = WEIR_DELIVERY_TCP_INFO;
}

/* What the kernel took of a write: once for each, when it is accepted or fails before that. */
static void note_accepted(struct weir__transaction *transaction,
                          const struct weir_write_event *event)
{
    if (transaction->first_byte_ns == 0)
        transaction->first_byte_ns = event->first_byte_ns;
    transaction->accepted_bytes += event->accepted_bytes;
    transaction->wire_bytes += event->wire_bytes;
    transaction->connection->wire_bytes += event->wire_bytes;
}

/* A write's memory is the transaction's again, and how it went is known: once for each. */
static void note_released(struct weir__transaction *transaction,
                          const struct weir_write_event *event)
{
    transaction->ways |= event->ways;
    transaction->writes_held--;
    if (transaction->writes_held == 0)
        release_response(transaction);
}

/* A write before the last: its own end is of interest, and its failure. */
static void on_piece(struct weir_stream *stream, void *context,
                     const struct weir_write_event *event)
{
    struct weir__transaction *transaction = context;

    (void)stream;
    if (event->stage == WEIR_STAGE_ACCEPTED) {
        note_accepted(transaction, event);
        return;
    }
    if (event->stage == WEIR_STAGE_FAILED) {
        note_accepted(transaction, event);
        fail(transaction, event);
    }
    note_released(transaction, event);
    end_if_done(transaction);
}

static void on_last(struct weir_stream *stream, void *context, const struct weir_write_event *event)
{
    struct weir__transaction *transaction = context;

    (void)stream;
    switch (event->stage) {
    case WEIR_STAGE_ACCEPTED:
        note_accepted(transaction, event);
        transaction->accepted_ns = event->at_ns;
        return;
    case WEIR_STAGE_RELEASED:
        transaction->last_released = true;
        note_released(transaction, event);
        break;
    case WEIR_STAGE_SENT:
        transaction->sent_ns = event->at_ns;
        return;
    case WEIR_STAGE_DELIVERED:
        transaction->delivered_ns = event->at_ns;
        transaction->delivered_by = event->source;
        transaction->delivered_bytes = transaction->length;
        transaction->ended = true;
        break;
    case WEIR_STAGE_FAILED:
        if (transaction->accepted_ns == 0)
            note_accepted(transaction, event);
        fail(transaction, event);
        transaction->ended = true;
        if (!transaction->last_released)
            note_released(transaction, event);
        break;
    }
    end_if_done(transaction);
}

/* ---- queueing the response ---- */

/* The header, then the segments: as many writes as there are pieces of files, and a last one. */
struct piece {
    struct iovec parts[WEIR_WRITE_PARTS_MAX];
    unsigned part_count;
    const struct weir__segment *file;
};

static void add_memory(struct piece *piece, const char *data, uint64_t length)
{
    assert(piece->part_count < WEIR_WRITE_PARTS_MAX);
    piece->parts[piece->part_count++] =
        (struct iovec){.iov_base = (char *)data, .iov_len = (size_t)length};
}

/* Takes segments from `*next` on, up to and with the first piece of a file. */
static void gather(struct piece *piece, const struct weir__response *response, unsigned *next)
{
    while (*next < response->segment_count && piece->part_count < WEIR_WRITE_PARTS_MAX) {
        const struct weir__segment *segment = &response->segments[(*next)++];
        if (!segment->data) {
            piece->file = segment;
            return;
        }
        add_memory(piece, segment->data, segment->length);
    }
}

static int write_piece(struct weir__transaction *transaction, const struct piece *piece, bool last)
{
    const struct weir_write write = {
        .parts = piece->parts,
        .part_count = piece->part_count,
        .file = piece->file ? piece->file->file : -1,
        .file_offset = piece->file ? piece->file->offset : 0,
        .file_length = piece->file ? piece->file->length : 0,
        .stages = last ? LAST_WRITE_STAGES : WEIR_STAGE_ACCEPTED | WEIR_STAGE_RELEASED,
        .more = !last,
        .on_stage = last ? on_last : on_piece,
        .context = transaction,
    };
    int error = weir_stream_write(transaction->connection->stream, &write);

    if (!error)
        transaction->writes_held++;
    return error;
}

void weir__transaction_send(struct weir__transaction *transaction)
{
    struct weir__connection *connection = transaction->connection;
    const struct weir__response *response = &transaction->response;
    struct piece piece = {.part_count = 0};
    unsigned next = 0;
    int error;

    transaction->response_held = true;
    transaction->start = connection->queued_bytes;
    transaction->length = response->header_bytes + response->body_bytes;
    add_memory(&piece, response->header, response->header_bytes);
    do {
        gather(&piece, response, &next);
        error = write_piece(transaction, &piece, next == response->segment_count);
        piece = (struct piece){.part_count = 0};
    } while (!error && next < response->segment_count);

    if (!error) {
        connection->queued_bytes += transaction->length;
        return;
    }
    transaction->error = error;
    transaction->ended = true;
    weir_stream_abort(connection->stream, error);
    end_if_done(transaction);
}
