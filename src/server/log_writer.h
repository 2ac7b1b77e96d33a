/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_SERVER_LOG_WRITER_H
#define WEIR_SERVER_LOG_WRITER_H

/*
 * Brings lines from the loops' threads to a file, a pipe or a terminal on a thread of its own, so
 * that a slow or full destination never holds up a loop. Each loop has a ring of its own; what does
 * not fit is dropped and counted, line by line.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct weir__log_writer;
/* One producer's way in. One thread at a time may put lines into it. */
struct weir__log_ring;

#define WEIR__LOG_RING_BYTES 1048576

struct weir__log_writer_options {
    const char *path;      /* "-" = standard output; must outlive the writer */
    unsigned ring_count;   /* one for each thread that logs */
    size_t ring_bytes;     /* a power of two; 0 = WEIR__LOG_RING_BYTES */
    int report_descriptor; /* where trouble is told, one line each, at most one of a kind in 10 s */
};

/*
 * Opens the destination (a file is created with mode 0640, and appended to) and starts the thread.
 * Returns 0, WEIR_ENOMEM, or WEIR_EIO after telling on the report descriptor why it cannot be
 * opened.
 */
int weir__log_writer_start(struct weir__log_writer **writer,
                           const struct weir__log_writer_options *options);

/* Lives as long as the writer. */
struct weir__log_ring *weir__log_writer_ring(struct weir__log_writer *writer, unsigned index);

/*
 * Puts one line, with its "\n", which the thread writes within about 10 ms. Never blocks; makes a
 * system call only if the thread sleeps. Returns false if the ring is full: then the line is
 * dropped.
 */
bool weir__log_ring_put(struct weir__log_ring *ring, const char *line, size_t length);

/*
 * Opens the path anew, at the end of a line, and closes the old file; if that fails, it goes on
 * with the old one and says so. Standard output stays as it is. Any thread, but not a signal
 * handler.
 */
void weir__log_writer_reopen(struct weir__log_writer *writer);

/* How many lines were dropped so far. Any thread. */
uint64_t weir__log_writer_dropped(struct weir__log_writer *writer);

/*
 * Writes what is queued, for at most `deadline_ms`, then ends the thread and frees all. No thread
 * may put lines any more. Returns how many lines were lost, from the start on. A stuck regular file
 * (a network file system that is gone) can hold this up: the kernel does not let go of such a
 * write.
 */
uint64_t weir__log_writer_stop(struct weir__log_writer *writer, uint32_t deadline_ms);

#endif
