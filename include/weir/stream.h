/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_STREAM_H
#define WEIR_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <weir/address.h>
#include <weir/delivery.h>
#include <weir/visibility.h>

struct weir_loop;
/** A connection. It lives until its `on_close` has returned. All calls: the loop's thread. */
struct weir_stream;

/**
 * What a stream tells its owner. Callbacks run on the loop's thread, never inside a call of the owner;
 * any of them may be NULL. It is not copied: it must outlive its streams, as static data does.
 */
struct weir_stream_handler {
    /** The stream to a peer is open (outgoing connections only; an accepted stream is open). */
    void (*on_open)(struct weir_stream *stream);
    /**
     * Bytes arrived. `data` is valid during the callback only. `arrived_ns` is the kernel's receive
     * stamp where it gives one (delivery is on), else when they were read.
     */
    void (*on_data)(struct weir_stream *stream, const uint8_t *data, size_t length,
                    uint64_t arrived_ns);
    /** The peer will send no more (FIN). The stream can still be written. */
    void (*on_end)(struct weir_stream *stream);
    /**
     * The last callback of a stream, exactly one for each, after every write had its own. `reason`:
     * 0 after weir_stream_close ran its course; WEIR_EABORTED, or the reason given, after
     * weir_stream_abort, and after weir_stream_close of a connection that was not open yet; WEIR_ERESET,
     * WEIR_ETIMEDOUT, WEIR_EREFUSED, WEIR_EUNREACHABLE, WEIR_EADDRNOTAVAIL (no free port),
     * WEIR_EACCESS, WEIR_ETRUNCATED, WEIR_ENOMEM, WEIR_ENOBUFS or WEIR_EIO for a connection that died
     * or never came to be. weir_stream_delivery_info still answers; then the stream is freed.
     */
    void (*on_close)(struct weir_stream *stream, int reason);
};

struct weir_stream_options {
    /** Bytes of memory and file that may wait in the send queue. Default: no bound but the next. */
    uint64_t queue_bytes_max;
    /**
     * Writes that may be queued or wait for a stage. One that asked for SENT or DELIVERED counts until it
     * is delivered. Default 64.
     */
    uint32_t queue_writes_max;
    /** No Nagle delay (TCP_NODELAY). Default true. */
    bool no_delay;
};

/** Fills in the defaults. */
WEIR_API void weir_stream_options_init(struct weir_stream_options *options);

/** Memory parts of one write; more are WEIR_EINVAL. */
#define WEIR_WRITE_PARTS_MAX 8

struct weir_write;
/**
 * Runs once for each stage asked for, in the order in which they happen, or once with FAILED in
 * place of all that did not happen; on the loop's thread, never inside weir_stream_write. The write is
 * over with the last of them. It may write, close or abort.
 */
typedef void (*weir_write_fn)(struct weir_stream *stream, void *context,
                              const struct weir_write_event *event);

/** One write: memory parts, then a piece of a file, either of which may be empty but not both. */
struct weir_write {
    const struct iovec *parts; /**< copied; the bytes they name are not, see RELEASED */
    unsigned part_count;
    int file; /**< open for reading until released; sent by sendfile where there is one */
    uint64_t file_offset;
    uint64_t file_length; /**< 0 = no file. A file that is shorter than that fails the stream. */
    /**
     * Of enum weir_stage; FAILED is always told where a callback is given. Where delivery cannot be
     * known (it is off, or the system has neither stamps nor counts), SENT and DELIVERED end in FAILED
     * with WEIR_ENOTSUP once the kernel has the bytes, and the stream lives on.
     */
    unsigned stages;
    bool more; /**< another write follows at once: its first bytes may share a segment (MSG_MORE) */
    weir_write_fn on_stage; /**< may be NULL where `stages` is 0 */
    void *context;
};

/**
 * Opens a stream to `address`. `on_open` or `on_close` follows. Writes may be queued at once.
 * `address` and `options`, which may be NULL, are copied; `handler` may not be NULL.
 * Returns 0, WEIR_ENOMEM, WEIR_EMFILE, WEIR_ENOBUFS, WEIR_EACCESS, WEIR_EINVAL or WEIR_EIO.
 */
WEIR_API int weir_stream_connect(struct weir_stream **stream, struct weir_loop *loop,
                                 const struct weir_address *address,
                                 const struct weir_stream_options *options,
                                 const struct weir_stream_handler *handler, void *context);

/** Sets who is told from now on. An accepted stream needs this before its first read or write. */
WEIR_API void weir_stream_set_handler(struct weir_stream *stream,
                                      const struct weir_stream_handler *handler, void *context);
/** What was given to weir_stream_connect or weir_stream_set_handler. */
WEIR_API void *weir_stream_context(const struct weir_stream *stream);
WEIR_API struct weir_loop *weir_stream_loop(const struct weir_stream *stream);

/** Starts (or goes on with) on_data and on_end. Returns 0 or WEIR_ESHUT. */
WEIR_API int weir_stream_read_start(struct weir_stream *stream);
/**
 * No on_data and no on_end until the next start. What the engine had read already is kept, in memory
 * of the stream's.
 */
WEIR_API void weir_stream_read_stop(struct weir_stream *stream);

/**
 * Queues a write. The bytes, and the file, belong to the stream until the write is released or has
 * failed; `write` is copied. Writes made in one round of callbacks leave together, as far as that does
 * not delay what is known of their delivery. Returns 0, or WEIR_EQUEUEFULL, WEIR_ESHUT, WEIR_EINVAL or
 * WEIR_ENOMEM, and then on_stage does not run.
 */
WEIR_API int weir_stream_write(struct weir_stream *stream, const struct weir_write *write);

/**
 * Half-closes: sends what is queued, then FIN. Reading goes on, and so do the stages of earlier writes;
 * the stream takes no further write.
 */
WEIR_API void weir_stream_shutdown(struct weir_stream *stream);

/** How many more writes the queue takes now; 0 once it takes none any more. */
WEIR_API uint32_t weir_stream_queue_room(const struct weir_stream *stream);

/** Bytes queued that the kernel has not taken yet. */
WEIR_API uint64_t weir_stream_queued_bytes(const struct weir_stream *stream);

/**
 * Ends the stream in good order: sends what is queued, half-closes, discards what still arrives,
 * and waits until every write that asked for SENT or DELIVERED is delivered and the peer has closed
 * too, at most `deadline_ms` from now (0: WEIR_CLOSE_DEADLINE_MS). If writes are left at the deadline,
 * they fail with WEIR_ETIMEDOUT, the connection is reset, and on_close has WEIR_ETIMEDOUT; if only the
 * peer's own end is missing, on_close has 0. Else on_close follows with 0, or with the reason for which
 * the connection died. A stream that is not open yet is given up at once: on_close has WEIR_EABORTED. A second
 * call changes nothing, but where the stream closes because TLS has failed, the sooner deadline counts.
 */
WEIR_API void weir_stream_close(struct weir_stream *stream, uint64_t deadline_ms);
#define WEIR_CLOSE_DEADLINE_MS 30000

/**
 * The same, but without the wait for the peer's own end: for an owner who knows that the peer sends nothing
 * more, as behind an HTTP request that asks for the connection's close. What arrives all the same makes the
 * kernel reset the connection, and may cost the peer what is on its way to it.
 */
WEIR_API void weir_stream_leave(struct weir_stream *stream, uint64_t deadline_ms);

/**
 * Resets the connection (RST). Writes fail with `reason`, a WEIR_E* (0: WEIR_EABORTED); on_close follows
 * with the same. A stream that is dying already keeps its own reason.
 */
WEIR_API void weir_stream_abort(struct weir_stream *stream, int reason);

/** Whether the stream is closing, by its owner or because the connection died. */
WEIR_API bool weir_stream_is_closing(const struct weir_stream *stream);

/** The peer's or this side's address. Returns 0, or WEIR_EIO, as for the peer of a dead connection. */
WEIR_API int weir_stream_peer(const struct weir_stream *stream, struct weir_address *address);
WEIR_API int weir_stream_local(const struct weir_stream *stream, struct weir_address *address);

/**
 * Asks the kernel how the connection stands, whether delivery is on or not. Returns 0, or WEIR_ENOTSUP
 * where it cannot say; `wire_bytes_accepted` is right in both cases.
 */
WEIR_API int weir_stream_delivery_info(struct weir_stream *stream, struct weir_delivery_info *info);

#endif
