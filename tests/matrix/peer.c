/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The server of the matrix, on the public headers alone: it takes bytes that it knows and checks each, sends
 * bytes that its client knows, and says when each write reached each stage.
 *
 *     peer io_uring|epoll|poll ADDR PATTERN SCRATCH
 *
 * PATTERN is a file of an even number of bytes: what is downloaded is in its first half, what is uploaded in
 * its second, so that nobody can pass by echoing. SCRATCH is a folder for certificate.pem and key.pem. There
 * is a listener for each way to protect a connection; a request is a line:
 *
 *     put N                   and N bytes follow; the answer is "right N\n" or "wrong N\n", N the first
 *     get N memory|file       the answer is N bytes
 *
 * What happens is told on standard output, a JSON object a line; times are CLOCK_MONOTONIC's nanoseconds.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <weir/weir.h>

/* A prime below 64 KiB: writes end neither with records nor with segments. */
#define PIECE_BYTES       65521u
#define REQUEST_BYTES_MAX 64
#define PATTERN_BYTES_MAX (64u << 20)
#define PATH_BYTES_MAX    512
#define NAME_BYTES_MAX    48
#define LISTENERS_MAX     64
#define STAGES                                                                                               \
    (WEIR_STAGE_ACCEPTED | WEIR_STAGE_RELEASED | WEIR_STAGE_SENT | WEIR_STAGE_DELIVERED)

static const char host_name[] = "matrix.test";

/* What the whole process has. */
static struct {
    struct weir_loop *loop;
    uint8_t *pattern;
    uint64_t half; /* bytes of each half of the pattern */
    int file;
    char certificate_path[PATH_BYTES_MAX], key_path[PATH_BYTES_MAX];
    unsigned listener_count;
} peer;

/* One way to protect connections, and the port for it. */
struct port {
    struct weir_tls_context *tls; /* NULL: plain */
    char name[NAME_BYTES_MAX];
};
static struct port ports[LISTENERS_MAX];

struct connection {
    char client[WEIR_ADDRESS_TEXT_MAX];
    unsigned requests;
    uint64_t arrived_ns; /* the first byte of the request that is being read */
    char line[REQUEST_BYTES_MAX];
    size_t line_length;
    uint64_t upload_bytes, upload_taken; /* an upload is being read while these differ */
    uint64_t wrong_at;                   /* UINT64_MAX: nothing was wrong */
};

struct answer {
    unsigned request;
    unsigned number; /* of the write in the response, from 1 on */
    uint64_t end; /* the offset in the response behind this write's last byte */
    bool last;
    uint64_t arrived_ns, accepted_ns, released_ns, sent_ns;
    unsigned told; /* stages */
    unsigned ways; /* enum weir_send_way */
    struct weir_write_event end_event;
    char text[REQUEST_BYTES_MAX];
};

/* ---- reports */

static void print_text(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            putchar('\\');
        if ((unsigned char)*text >= ' ')
            putchar(*text);
    }
    putchar('"');
}

static void print_protection(const struct weir_stream *stream)
{
    struct weir_tls_info info;

    if (weir_tls_info(stream, &info) != 0) {
        printf("\"version\":null,\"cipher\":null,\"vendor\":null,\"kernel_tx\":false,\"kernel_rx\":false");
        return;
    }
    printf("\"version\":\"%s\",\"cipher\":\"%s\",\"vendor\":\"%s\",\"kernel_tx\":%s,\"kernel_rx\":%s",
           info.version_name, info.cipher, info.vendor, info.kernel_tx ? "true" : "false",
           info.kernel_rx ? "true" : "false");
}

static void print_ways(unsigned ways)
{
    const char *comma = "";

    printf("\"ways\":[");
    for (unsigned way = WEIR_SEND_COPY; way <= WEIR_SEND_KERNEL_TLS; way <<= 1) {
        if (!(ways & way))
            continue;
        printf("%s\"%s\"", comma, weir_send_way_name((enum weir_send_way)way));
        comma = ",";
    }
    printf("],");
}

/* `event`: of DELIVERED, or FAILED in place of it. */
static void print_answer(struct weir_stream *stream, const struct answer *answer,
                         const struct weir_write_event *event)
{
    const struct connection *connection = weir_stream_context(stream);

    printf("{\"client\":\"%s\",\"request\":%u,\"number\":%u,\"end\":%" PRIu64 ",\"last\":%s,\"arrived_ns\":%" PRIu64
           ",\"accepted_ns\":%" PRIu64 ",\"released_ns\":%" PRIu64 ",\"sent_ns\":%" PRIu64
           ",\"delivered_ns\":%" PRIu64 ",\"source\":\"%s\",\"bytes\":%" PRIu64 ",\"wire_bytes\":%" PRIu64
           ",\"error\":",
           connection->client, answer->request, answer->number, answer->end, answer->last ? "true" : "false",
           answer->arrived_ns, answer->accepted_ns, answer->released_ns, answer->sent_ns,
           event->stage == WEIR_STAGE_DELIVERED ? event->at_ns : 0,
           weir_delivery_source_name(event->source), event->bytes, event->wire_bytes);
    if (event->stage == WEIR_STAGE_FAILED)
        print_text(weir_error_text(event->error));
    else
        printf("null");
    putchar(',');
    print_ways(answer->ways);
    print_protection(stream);
    printf("}\n");
}

/* ---- answers */

static void on_stage(struct weir_stream *stream, void *context, const struct weir_write_event *event)
{
    struct answer *answer = context;

    switch (event->stage) {
    case WEIR_STAGE_ACCEPTED:
        answer->accepted_ns = event->at_ns;
        break;
    case WEIR_STAGE_RELEASED:
        answer->released_ns = event->at_ns;
        answer->ways = event->ways;
        break;
    case WEIR_STAGE_SENT:
        answer->sent_ns = event->at_ns;
        break;
    case WEIR_STAGE_DELIVERED:
    case WEIR_STAGE_FAILED:
        answer->end_event = *event;
        break;
    }
    /* Memory may be released after all of it was delivered, see weir/delivery.h. FAILED is the last of all. */
    answer->told |= event->stage;
    if (event->stage != WEIR_STAGE_FAILED && answer->told != STAGES)
        return;
    print_answer(stream, answer, &answer->end_event);
    free(answer);
}

static struct answer *answer_new(const struct connection *connection, unsigned number, uint64_t end, bool last)
{
    struct answer *answer = calloc(1, sizeof(*answer));

    if (answer) {
        answer->request = connection->requests;
        answer->arrived_ns = connection->arrived_ns;
        answer->number = number;
        answer->end = end;
        answer->last = last;
    }
    return answer;
}

static int answer_queue(struct weir_stream *stream, struct answer *answer, struct weir_write *write)
{
    if (!answer)
        return WEIR_ENOMEM;
    write->stages = STAGES;
    write->on_stage = on_stage;
    write->context = answer;
    int error = weir_stream_write(stream, write);
    if (error)
        free(answer);
    return error;
}

static int answer_put(struct weir_stream *stream, const struct connection *connection)
{
    struct answer *answer = answer_new(connection, 1, 0, true);

    if (!answer)
        return WEIR_ENOMEM;
    bool right = connection->wrong_at == UINT64_MAX;
    int length = snprintf(answer->text, sizeof(answer->text), "%s %" PRIu64 "\n", right ? "right" : "wrong",
                          right ? connection->upload_bytes : connection->wrong_at);
    answer->end = (uint64_t)length;
    const struct iovec part = {.iov_base = answer->text, .iov_len = (size_t)length};
    return answer_queue(stream, answer, &(struct weir_write){.parts = &part, .part_count = 1});
}

static int answer_get(struct weir_stream *stream, const struct connection *connection, uint64_t bytes,
                      bool from_file)
{
    int error = 0;

    for (uint64_t start = 0; start < bytes && !error; start += PIECE_BYTES) {
        uint64_t length = bytes - start < PIECE_BYTES ? bytes - start : PIECE_BYTES;
        const struct iovec part = {.iov_base = peer.pattern + start, .iov_len = (size_t)length};
        struct weir_write write = {.parts = &part, .part_count = 1};

        if (from_file)
            write = (struct weir_write){.file = peer.file, .file_offset = start, .file_length = length};
        struct answer *answer = answer_new(connection, (unsigned)(start / PIECE_BYTES) + 1, start + length,
                                           start + length == bytes);
        error = answer_queue(stream, answer, &write);
    }
    return error;
}

/* ---- requests */

static int request_run(struct weir_stream *stream, struct connection *connection)
{
    char source[8] = "";
    uint64_t bytes = 0;

    connection->line[connection->line_length] = '\0';
    connection->line_length = 0;
    connection->requests++;
    if (sscanf(connection->line, "put %" SCNu64, &bytes) == 1 && bytes > 0 && bytes <= peer.half) {
        connection->upload_bytes = bytes;
        connection->upload_taken = 0;
        connection->wrong_at = UINT64_MAX;
        return 0;
    }
    if (sscanf(connection->line, "get %" SCNu64 " %7s", &bytes, source) == 2 && bytes > 0 &&
        bytes <= peer.half)
        return answer_get(stream, connection, bytes, strcmp(source, "file") == 0);
    return WEIR_EINVAL;
}

static size_t upload_check(struct connection *connection, const uint8_t *data, size_t length)
{
    uint64_t left = connection->upload_bytes - connection->upload_taken;
    size_t count = length < left ? length : (size_t)left;
    const uint8_t *right = peer.pattern + peer.half + connection->upload_taken;

    for (size_t i = 0; i < count && connection->wrong_at == UINT64_MAX; i++) {
        if (data[i] != right[i])
            connection->wrong_at = connection->upload_taken + i;
    }
    connection->upload_taken += count;
    return count;
}

static void on_data(struct weir_stream *stream, const uint8_t *data, size_t length, uint64_t arrived_ns)
{
    struct connection *connection = weir_stream_context(stream);
    int error = 0;

    while (length > 0 && !error) {
        size_t used = 1;
        if (connection->upload_taken < connection->upload_bytes) {
            used = upload_check(connection, data, length);
            if (connection->upload_taken == connection->upload_bytes)
                error = answer_put(stream, connection);
        } else {
            if (connection->line_length == 0)
                connection->arrived_ns = arrived_ns;
            if (*data == '\n')
                error = request_run(stream, connection);
            else if (connection->line_length < sizeof(connection->line) - 1)
                connection->line[connection->line_length++] = (char)*data;
            else
                error = WEIR_EINVAL;
        }
        data += used;
        length -= used;
    }
    if (error)
        weir_stream_abort(stream, error);
}

static void on_end(struct weir_stream *stream)
{
    weir_stream_close(stream, WEIR_CLOSE_DEADLINE_MS);
}

static void on_close(struct weir_stream *stream, int reason)
{
    struct connection *connection = weir_stream_context(stream);

    printf("{\"client\":\"%s\",\"closed\":%d,\"why\":", connection->client, reason);
    print_text(reason ? weir_error_text(reason) : "");
    printf(",\"failure\":");
    print_text(weir_tls_failure(stream));
    printf("}\n");
    free(connection);
}

static const struct weir_stream_handler handler = {
    .on_data = on_data,
    .on_end = on_end,
    .on_close = on_close,
};

/* ---- listeners */

static void on_accept(struct weir_listener *listener, struct weir_stream *stream, int error)
{
    const struct port *port = weir_listener_context(listener);
    struct weir_address address;

    if (!stream) {
        fprintf(stderr, "peer: cannot accept: %s\n", weir_error_text(error));
        return;
    }
    struct connection *connection = calloc(1, sizeof(*connection));
    if (!connection) {
        weir_stream_abort(stream, WEIR_ENOMEM);
        return;
    }
    if (weir_stream_peer(stream, &address) == 0)
        weir_address_format(&address, connection->client);
    weir_stream_set_handler(stream, &handler, connection);
    error = port->tls ? weir_tls_accept(stream, port->tls) : 0;
    if (!error)
        error = weir_stream_read_start(stream);
    if (error)
        weir_stream_abort(stream, error);
}

static int port_open(struct port *port, const struct weir_address *address)
{
    struct weir_address bound = *address;
    struct weir_listener *listener;
    char text[WEIR_ADDRESS_TEXT_MAX];

    int error = weir_listener_start(&listener, peer.loop, address, NULL, on_accept, port);
    if (error) {
        fprintf(stderr, "peer: cannot listen: %s\n", weir_error_text(error));
        return error;
    }
    error = weir_listener_address(listener, &bound);
    weir_address_format(&bound, text);
    const char *number = strrchr(text, ':');
    printf("{\"listen\":\"%s\",\"port\":%s}\n", port->name, number ? number + 1 : "0");
    return error;
}

static int tls_port_open(const struct weir_address *address, const char *vendor,
                         enum weir_tls_version version, enum weir_tls_kernel kernel)
{
    static const char *const kernel_names[] = {
        [WEIR_TLS_KERNEL_OFF] = "off",
        [WEIR_TLS_KERNEL_TX] = "tx",
        [WEIR_TLS_KERNEL_TX_RX] = "tx+rx",
    };
    const struct weir_tls_certificate certificate = {.certificate_file = peer.certificate_path,
                                                     .key_file = peer.key_path};
    char complaint[WEIR_TLS_COMPLAINT_MAX] = "";
    struct weir_tls_options options;

    if (peer.listener_count == LISTENERS_MAX)
        return WEIR_ENOBUFS;
    struct port *port = &ports[peer.listener_count++];
    snprintf(port->name, sizeof(port->name), "%s %s %s", vendor, version == WEIR_TLS_1_3 ? "1.3" : "1.2",
             kernel_names[kernel]);
    weir_tls_options_init(&options);
    options.vendor = vendor;
    options.server = true;
    options.version_min = options.version_max = version;
    options.certificates = &certificate;
    options.certificate_count = 1;
    options.kernel = kernel;
    if (weir_tls_context_new(&port->tls, &options, complaint) != 0) {
        printf("{\"lacking\":\"%s\",\"why\":", port->name);
        print_text(complaint);
        printf("}\n");
        return 0;
    }
    return port_open(port, address);
}

static int ports_open(const struct weir_address *address)
{
    static const enum weir_tls_version versions[] = {WEIR_TLS_1_2, WEIR_TLS_1_3};
    const char *vendor;

    struct port *plain = &ports[peer.listener_count++];
    snprintf(plain->name, sizeof(plain->name), "plain");
    int error = port_open(plain, address);
    for (unsigned index = 0; !error && (vendor = weir_tls_vendor_name(index)) != NULL; index++) {
        for (unsigned v = 0; v < 2 && !error; v++) {
            for (int kernel = WEIR_TLS_KERNEL_OFF; kernel <= WEIR_TLS_KERNEL_TX_RX && !error; kernel++)
                error = tls_port_open(address, vendor, versions[v], (enum weir_tls_kernel)kernel);
        }
    }
    return error;
}

/* ---- start */

static bool text_save(const char *path, const char *text)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0)
        return false;
    bool saved = write(file, text, strlen(text)) == (ssize_t)strlen(text);
    return close(file) == 0 && saved;
}

static bool certificate_make(const char *folder)
{
    const char *const names[] = {host_name};
    char certificate[WEIR_TLS_SELF_SIGNED_MAX], key[WEIR_TLS_SELF_SIGNED_MAX];

    snprintf(peer.certificate_path, sizeof(peer.certificate_path), "%s/certificate.pem", folder);
    snprintf(peer.key_path, sizeof(peer.key_path), "%s/key.pem", folder);
    return weir_tls_self_signed(NULL, names, 1, 7, certificate, key, sizeof(certificate)) == 0 &&
           text_save(peer.certificate_path, certificate) && text_save(peer.key_path, key);
}

static bool pattern_load(const char *path)
{
    struct stat status;

    peer.file = open(path, O_RDONLY | O_CLOEXEC);
    if (peer.file < 0 || fstat(peer.file, &status) != 0 || status.st_size <= 0 || status.st_size % 2 != 0 ||
        status.st_size > PATTERN_BYTES_MAX)
        return false;
    peer.half = (uint64_t)status.st_size / 2;
    peer.pattern = malloc((size_t)status.st_size);
    return peer.pattern && pread(peer.file, peer.pattern, (size_t)status.st_size, 0) == status.st_size;
}

static enum weir_engine_kind engine_named(const char *name)
{
    if (strcmp(name, "io_uring") == 0)
        return WEIR_ENGINE_IO_URING;
    return strcmp(name, "epoll") == 0 ? WEIR_ENGINE_EPOLL : WEIR_ENGINE_POLL;
}

static enum weir_zerocopy zerocopy_named(const char *name)
{
    if (strcmp(name, "on") == 0)
        return WEIR_ZEROCOPY_ON;
    return strcmp(name, "off") == 0 ? WEIR_ZEROCOPY_OFF : WEIR_ZEROCOPY_AUTO;
}

int main(int argc, char **argv)
{
    struct weir_address address;
    struct weir_loop_options options;

    if (argc != 6 || weir_address_parse(&address, argv[2]) != 0) {
        fprintf(stderr, "usage: peer io_uring|epoll|poll ADDR:0 PATTERN SCRATCH off|on|auto\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!pattern_load(argv[3])) {
        fprintf(stderr, "peer: %s: %s\n", argv[3], errno ? strerror(errno) : "not an even number of bytes");
        return 1;
    }
    /* A program without any TLS library serves plain connections alone. */
    if (weir_tls_vendor_name(0) && !certificate_make(argv[4])) {
        fprintf(stderr, "peer: cannot make a certificate in %s\n", argv[4]);
        return 1;
    }
    weir_loop_options_init(&options);
    options.engine = engine_named(argv[1]);
    options.zerocopy = zerocopy_named(argv[5]);
    int error = weir_loop_new(&peer.loop, &options);
    if (!error)
        error = ports_open(&address);
    if (!error) {
        printf("{\"ready\":\"%s\"}\n", weir_loop_engine_name(peer.loop));
        error = weir_loop_run(peer.loop);
    }
    fprintf(stderr, "peer: %s\n", weir_error_text(error));
    return 1;
}
