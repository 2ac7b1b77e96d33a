/* SPDX-License-Identifier: Apache-2.0 */
#include "server/log_writer.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <weir/error.h>

#include "core/memory.h"

/* After writing, the thread waits this long before it looks again, so that lines gather. */
#define NAP_MS 10
/* How long a destination that takes nothing is waited for before requests are looked at. */
#define BLOCKED_MS 50
/* How long after a failed write it is tried again. */
#define RETRY_MS 100
/* One report of a kind in that time. */
#define REPORT_INTERVAL_MS 10000
/* The most that one write to a regular file takes: some 500 lines. */
#define WRITE_BYTES_MAX 262144

#define CACHE_LINE_BYTES 64

/* How deep the thread sleeps: who has to wake it. */
enum sleep_level {
    AWAKE,
    NAPPING, /* a ring that is half full wakes it */
    ASLEEP,  /* any line wakes it */
};

/*
 * Bytes between `tail` and `head`, which only grow (modulo 2^64 or 2^32), are waiting; they are
 * whole lines. The producer owns `head`, the log thread owns `tail`; each publishes with a release
 * store what the other acquires.
 */
struct weir__log_ring {
    _Alignas(CACHE_LINE_BYTES) atomic_size_t head;
    size_t tail_seen; /* the producer's last look at `tail` */
    atomic_uint_least64_t dropped;
    struct weir__log_writer *writer;
    _Alignas(CACHE_LINE_BYTES) atomic_size_t tail;
    char *bytes;
    size_t size;
};

enum report_kind {
    REPORT_DROPPED,
    REPORT_FAILED,
    REPORT_KINDS,
};

struct weir__log_writer {
    struct weir__log_ring *rings;
    unsigned ring_count;
    const char *path;
    int report_descriptor;

    /* The log thread's own. */
    pthread_t thread;
    int descriptor;
    bool regular;       /* a file: it never says that it is not ready */
    bool line_is_open;  /* the last byte written did not end a line */
    unsigned current;   /* the ring being written ... */
    size_t current_end; /* ... up to here, a line's end; then the next ring has its turn */
    uint64_t dropped_reported;
    uint64_t reported_ms[REPORT_KINDS]; /* 0 = never */

    _Alignas(CACHE_LINE_BYTES) atomic_int sleep;
    atomic_bool reopen_wanted;
    atomic_uint_least64_t stop_ms; /* when to stop at the latest; 0 = go on */
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    bool woken; /* guarded by `mutex` */
};

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- sleeping and waking */

static void wake(struct weir__log_writer *writer)
{
    pthread_mutex_lock(&writer->mutex);
    writer->woken = true;
    pthread_cond_signal(&writer->condition);
    pthread_mutex_unlock(&writer->mutex);
}

static bool has_work(struct weir__log_writer *writer, enum sleep_level level)
{
    for (unsigned i = 0; i < writer->ring_count; i++) {
        struct weir__log_ring *ring = &writer->rings[i];
        size_t used = atomic_load(&ring->head) - atomic_load(&ring->tail);
        if (used > 0 && (level == ASLEEP || used >= ring->size / 2))
            return true;
    }
    return false;
}

/*
 * Sleeps until woken, or for `ms` (0: no limit). The store to `sleep` and the look at the rings,
 * and a producer's store to `head` and its look at `sleep`, are sequentially consistent: one of the
 * two sees the other, so that no line is left without someone who knows of it.
 */
static void sleep_at(struct weir__log_writer *writer, enum sleep_level level, uint64_t ms)
{
    uint64_t until_ms = now_ms() + ms;
    struct timespec until = {.tv_sec = (time_t)(until_ms / 1000),
                             .tv_nsec = (long)(until_ms % 1000) * 1000000};

    atomic_store(&writer->sleep, level);
    if (level == AWAKE || !has_work(writer, level)) {
        int error = 0;
        pthread_mutex_lock(&writer->mutex);
        while (!writer->woken && error != ETIMEDOUT) {
            error = ms ? pthread_cond_timedwait(&writer->condition, &writer->mutex, &until)
                       : pthread_cond_wait(&writer->condition, &writer->mutex);
        }
        writer->woken = false;
        pthread_mutex_unlock(&writer->mutex);
    }
    atomic_store(&writer->sleep, AWAKE);
}

/* ---- the producer's side */

bool weir__log_ring_put(struct weir__log_ring *ring, const char *line, size_t length)
{
    size_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);

    assert(length > 0);
    assert(line[length - 1] == '\n');
    if (length > ring->size - (head - ring->tail_seen)) {
        ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_acquire);
        if (length > ring->size - (head - ring->tail_seen)) {
            atomic_fetch_add_explicit(&ring->dropped, 1, memory_order_relaxed);
            return false;
        }
    }
    size_t at = head & (ring->size - 1);
    size_t before_end = ring->size - at < length ? ring->size - at : length;
    memcpy(ring->bytes + at, line, before_end);
    memcpy(ring->bytes, line + before_end, length - before_end);
    atomic_store(&ring->head, head + length);

    int level = atomic_load(&ring->writer->sleep);
    if (level == AWAKE)
        return true;
    if (level == NAPPING) {
        if (head + length - ring->tail_seen < ring->size / 2)
            return true;
        ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_acquire);
        if (head + length - ring->tail_seen < ring->size / 2)
            return true;
    }
    /* Of several producers one makes the system call. */
    if (atomic_exchange(&ring->writer->sleep, AWAKE) != AWAKE)
        wake(ring->writer);
    return true;
}

/* ---- reports */

/* Tells of trouble, unless that was done a moment ago, or would block. Returns whether it did. */
__attribute__((format(printf, 3, 4))) static bool
report(struct weir__log_writer *writer, enum report_kind kind, const char *format, ...)
{
    struct pollfd ready = {.fd = writer->report_descriptor, .events = POLLOUT};
    uint64_t now = now_ms();
    char text[512];
    va_list arguments;

    if (writer->reported_ms[kind] && now - writer->reported_ms[kind] < REPORT_INTERVAL_MS)
        return false;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (length >= (int)sizeof(text)) {
        length = sizeof(text);
        text[sizeof(text) - 1] = '\n';
    }
    if (length <= 0 || poll(&ready, 1, 0) != 1 || !(ready.revents & POLLOUT))
        return false;
    writer->reported_ms[kind] = now;
    return write(writer->report_descriptor, text, (size_t)length) == length;
}

uint64_t weir__log_writer_dropped(struct weir__log_writer *writer)
{
    uint64_t dropped = 0;
    for (unsigned i = 0; i < writer->ring_count; i++)
        dropped += atomic_load_explicit(&writer->rings[i].dropped, memory_order_relaxed);
    return dropped;
}

static void report_dropped(struct weir__log_writer *writer)
{
    uint64_t dropped = weir__log_writer_dropped(writer);
    if (dropped > writer->dropped_reported &&
        report(writer, REPORT_DROPPED, "weir: access log %.200s: %llu lines dropped so far\n",
               writer->path, (unsigned long long)dropped))
        writer->dropped_reported = dropped;
}

/* ---- the destination */

static bool is_standard_output(const struct weir__log_writer *writer)
{
    return strcmp(writer->path, "-") == 0;
}

/* Returns 0, or errno. */
static int destination_open(struct weir__log_writer *writer)
{
    struct stat status;
    int descriptor = STDOUT_FILENO;

    if (!is_standard_output(writer)) {
        /* O_NONBLOCK is for a FIFO: opening one that nobody reads must not hang. */
        descriptor = open(writer->path,
                          O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
        if (descriptor < 0)
            return errno;
    }
    writer->descriptor = descriptor;
    writer->regular = fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
    return 0;
}

static void destination_close(const struct weir__log_writer *writer, int descriptor)
{
    if (descriptor >= 0 && !is_standard_output(writer))
        close(descriptor);
}

/* Leaves out the rest of a line of which the destination has the beginning. */
static void line_abandon(struct weir__log_writer *writer)
{
    struct weir__log_ring *ring = &writer->rings[writer->current];
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);

    if (!writer->line_is_open)
        return;
    while (tail != writer->current_end && ring->bytes[tail++ & (ring->size - 1)] != '\n')
        ;
    atomic_store_explicit(&ring->tail, tail, memory_order_release);
    atomic_fetch_add_explicit(&ring->dropped, 1, memory_order_relaxed);
    writer->line_is_open = false;
}

static void destination_reopen(struct weir__log_writer *writer)
{
    int old = writer->descriptor;

    if (is_standard_output(writer))
        return;
    int error = destination_open(writer);
    if (error) {
        report(writer, REPORT_FAILED, "weir: access log %.200s: cannot reopen it: %s\n",
               writer->path, strerror(error));
        return;
    }
    line_abandon(writer);
    destination_close(writer, old);
}

/* ---- the log thread */

enum outcome {
    WROTE,
    EMPTY,
    BLOCKED,
    FAILED,
};

/* Finds the next ring with lines, and how far they go. */
static bool next_ring(struct weir__log_writer *writer)
{
    for (unsigned i = 1; i <= writer->ring_count; i++) {
        unsigned candidate = (writer->current + i) % writer->ring_count;
        struct weir__log_ring *ring = &writer->rings[candidate];
        size_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
        if (head != atomic_load_explicit(&ring->tail, memory_order_relaxed)) {
            writer->current = candidate;
            writer->current_end = head;
            return true;
        }
    }
    return false;
}

/* The bytes from `tail` to `end`, at most `limit`, which may go around the ring's end. */
static int ring_parts(const struct weir__log_ring *ring, size_t tail, size_t end, size_t limit,
                      struct iovec parts[2])
{
    size_t at = tail & (ring->size - 1);
    size_t length = end - tail < limit ? end - tail : limit;
    size_t before_end = ring->size - at < length ? ring->size - at : length;

    parts[0] = (struct iovec){.iov_base = ring->bytes + at, .iov_len = before_end};
    parts[1] = (struct iovec){.iov_base = ring->bytes, .iov_len = length - before_end};
    return parts[1].iov_len > 0 ? 2 : 1;
}

/*
 * Whether the destination takes PIPE_BUF bytes without blocking. Standard output belongs to others
 * too, so it is not made non-blocking; POSIX promises that much for a pipe that poll calls
 * writable.
 */
static bool is_ready(const struct weir__log_writer *writer)
{
    struct pollfd ready = {.fd = writer->descriptor, .events = POLLOUT};
    return writer->regular || poll(&ready, 1, BLOCKED_MS) == 1;
}

static enum outcome write_some(struct weir__log_writer *writer)
{
    struct weir__log_ring *ring = &writer->rings[writer->current];
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    struct iovec parts[2];

    if (tail == writer->current_end) {
        if (!next_ring(writer))
            return EMPTY;
        ring = &writer->rings[writer->current];
        tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    }
    if (!is_ready(writer))
        return BLOCKED;
    int count = ring_parts(ring, tail, writer->current_end,
                           writer->regular ? WRITE_BYTES_MAX : PIPE_BUF, parts);
    ssize_t written = writev(writer->descriptor, parts, count);
    if (written < 0) {
        if (errno == EAGAIN || errno == EINTR)
            return BLOCKED;
        report(writer, REPORT_FAILED, "weir: access log %.200s: %s\n", writer->path,
               strerror(errno));
        return FAILED;
    }
    if (written > 0) {
        tail += (size_t)written;
        writer->line_is_open = ring->bytes[(tail - 1) & (ring->size - 1)] != '\n';
        atomic_store_explicit(&ring->tail, tail, memory_order_release);
    }
    return WROTE;
}

static void *run(void *context)
{
    struct weir__log_writer *writer = context;
    bool wrote = false;

    for (;;) {
        if (atomic_exchange(&writer->reopen_wanted, false))
            destination_reopen(writer);
        report_dropped(writer);
        uint64_t stop_ms = atomic_load(&writer->stop_ms);
        enum outcome outcome = write_some(writer);
        if (stop_ms && (outcome == EMPTY || outcome == FAILED || now_ms() >= stop_ms))
            return NULL;
        if (outcome == FAILED) {
            sleep_at(writer, AWAKE, RETRY_MS);
        } else if (outcome == EMPTY && wrote) {
            /* More is likely to come; let it gather. */
            sleep_at(writer, NAPPING, NAP_MS);
            wrote = false;
        } else if (outcome == EMPTY) {
            sleep_at(writer, ASLEEP, 0);
        } else if (outcome == WROTE) {
            wrote = true;
        }
    }
}

/* ---- life */

static void writer_free(struct weir__log_writer *writer)
{
    for (unsigned i = 0; writer->rings && i < writer->ring_count; i++)
        weir__release(writer->rings[i].bytes);
    weir__release(writer->rings);
    weir__release(writer);
}

static struct weir__log_writer *writer_new(const struct weir__log_writer_options *options)
{
    size_t ring_bytes = options->ring_bytes ? options->ring_bytes : WEIR__LOG_RING_BYTES;
    struct weir__log_writer *writer = weir__allocate_aligned(CACHE_LINE_BYTES, sizeof(*writer));

    assert(options->ring_count > 0);
    assert((ring_bytes & (ring_bytes - 1)) == 0);
    if (!writer)
        return NULL;
    memset(writer, 0, sizeof(*writer));
    writer->path = options->path;
    writer->report_descriptor = options->report_descriptor;
    writer->ring_count = options->ring_count;
    writer->rings = weir__allocate_aligned(CACHE_LINE_BYTES,
                                           options->ring_count * sizeof(struct weir__log_ring));
    if (!writer->rings)
        goto out;
    memset(writer->rings, 0, options->ring_count * sizeof(struct weir__log_ring));
    for (unsigned i = 0; i < options->ring_count; i++) {
        writer->rings[i].writer = writer;
        writer->rings[i].size = ring_bytes;
        writer->rings[i].bytes = weir__allocate(ring_bytes);
        if (!writer->rings[i].bytes)
            goto out;
    }
    return writer;
out:
    writer_free(writer);
    return NULL;
}

/* The thread takes no signals: they are for others, and SIGPIPE is told by EPIPE. */
static int thread_start(struct weir__log_writer *writer)
{
    pthread_condattr_t attributes;
    sigset_t all, before;

    pthread_mutex_init(&writer->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&writer->condition, &attributes);
    pthread_condattr_destroy(&attributes);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&writer->thread, NULL, run, writer);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

static void writer_dispose(struct weir__log_writer *writer)
{
    pthread_cond_destroy(&writer->condition);
    pthread_mutex_destroy(&writer->mutex);
    destination_close(writer, writer->descriptor);
    writer_free(writer);
}

int weir__log_writer_start(struct weir__log_writer **writer,
                           const struct weir__log_writer_options *options)
{
    struct weir__log_writer *new = writer_new(options);
    if (!new)
        return WEIR_ENOMEM;
    int error = destination_open(new);
    if (error) {
        report(new, REPORT_FAILED, "weir: access log %.200s: %s\n", new->path, strerror(error));
        writer_free(new);
        return WEIR_EIO;
    }
    if (thread_start(new) != 0) {
        writer_dispose(new);
        return WEIR_ENOMEM;
    }
    *writer = new;
    return 0;
}

struct weir__log_ring *weir__log_writer_ring(struct weir__log_writer *writer, unsigned index)
{
    assert(index < writer->ring_count);
    return &writer->rings[index];
}

void weir__log_writer_reopen(struct weir__log_writer *writer)
{
    atomic_store(&writer->reopen_wanted, true);
    wake(writer);
}

/* Lines that are still in the rings will not be written any more. */
static uint64_t count_unwritten(const struct weir__log_writer *writer)
{
    uint64_t lines = 0;
    for (unsigned i = 0; i < writer->ring_count; i++) {
        struct weir__log_ring *ring = &writer->rings[i];
        for (size_t at = atomic_load(&ring->tail); at != atomic_load(&ring->head); at++)
            lines += ring->bytes[at & (ring->size - 1)] == '\n';
    }
    return lines;
}

uint64_t weir__log_writer_stop(struct weir__log_writer *writer, uint32_t deadline_ms)
{
    atomic_store(&writer->stop_ms, now_ms() + deadline_ms);
    wake(writer);
    pthread_join(writer->thread, NULL);

    uint64_t lost = weir__log_writer_dropped(writer) + count_unwritten(writer);
    if (lost > writer->dropped_reported) {
        writer->reported_ms[REPORT_DROPPED] = 0;
        report(writer, REPORT_DROPPED, "weir: access log %.200s: %llu lines lost in all\n",
               writer->path, (unsigned long long)lost);
    }
    writer_dispose(writer);
    return lost;
}
