/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server on libweir whose responses lie in memory, as a cache's do: each request, which is what ends in an
 * empty line, gets the same one.
 *
 *   memory ADDRESS:PORT BODY_BYTES io_uring|epoll|poll auto|off|on
 *
 * The last is what the loop does about zero copy. It runs until a signal ends it.
 */
#define _GNU_SOURCE /* memmem */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <weir/weir.h>

#define HEAD_BYTES_MAX 128
#define BODY_BYTES_MAX (64 << 20)

static struct {
    char head[HEAD_BYTES_MAX];
    struct iovec parts[2];
} response;

static void on_data(struct weir_stream *stream, const uint8_t *data, size_t length,
                    uint64_t arrived_ns)
{
    const struct weir_write write = {.parts = response.parts, .part_count = 2};
    const uint8_t *end = data + length, *empty;

    (void)arrived_ns;
    for (; (empty = memmem(data, (size_t)(end - data), "\r\n\r\n", 4)); data = empty + 4) {
        int error = weir_stream_write(stream, &write);
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

static void on_close(struct weir_stream *stream, int reason)
{
    (void)stream, (void)reason;
}

static const struct weir_stream_handler handler = {
    .on_data = on_data, .on_end = on_end, .on_close = on_close};

static void on_accept(struct weir_listener *listener, struct weir_stream *stream, int error)
{
    (void)listener;
    if (!stream) {
        fprintf(stderr, "memory: cannot accept: %s\n", weir_error_text(error));
        return;
    }
    weir_stream_set_handler(stream, &handler, NULL);
    if (weir_stream_read_start(stream) != 0)
        weir_stream_abort(stream, WEIR_ENOMEM);
}

/* -1 if it is none of them. */
static int word_index(const char *const *words, const char *word)
{
    for (int i = 0; words[i]; i++)
        if (strcmp(words[i], word) == 0)
            return i;
    return -1;
}

static bool response_make(size_t body_length)
{
    void *body = malloc(body_length);
    if (body)
        memset(body, 'w', body_length); /* pages of its own: those never written to are all one */
    int length =
        snprintf(response.head, sizeof(response.head),
                 "HTTP/1.1 200 OK\r\nServer: memory\r\nContent-Length: %zu\r\n\r\n", body_length);
    response.parts[0] = (struct iovec){response.head, (size_t)length};
    response.parts[1] = (struct iovec){body, body_length};
    return body != NULL;
}

int main(int argc, char **argv)
{
    /* As their enumerations have them. */
    static const char *const engines[] = {"auto", "io_uring", "epoll", "poll", NULL};
    static const char *const modes[] = {"auto", "off", "on", NULL};
    struct weir_address address;
    struct weir_loop *loop;
    struct weir_listener *listener;
    struct weir_loop_options options;
    size_t body_length = argc == 5 ? strtoul(argv[2], NULL, 10) : 0;
    int engine = argc == 5 ? word_index(engines, argv[3]) : -1;
    int mode = argc == 5 ? word_index(modes, argv[4]) : -1;

    if (engine < 0 || mode < 0 || body_length == 0 || body_length > BODY_BYTES_MAX ||
        weir_address_parse(&address, argv[1]) != 0) {
        fprintf(stderr, "usage: memory ADDRESS:PORT BODY_BYTES ENGINE auto|off|on\n");
        return 2;
    }
    weir_loop_options_init(&options);
    options.engine = (enum weir_engine_kind)engine;
    options.zerocopy = (enum weir_zerocopy)mode;
    int error = response_make(body_length) ? weir_loop_new(&loop, &options) : WEIR_ENOMEM;
    if (!error)
        error = weir_listener_start(&listener, loop, &address, NULL, on_accept, NULL);
    if (!error)
        error = weir_loop_run(loop);
    fprintf(stderr, "memory: %s\n", weir_error_text(error));
    return 1;
}
