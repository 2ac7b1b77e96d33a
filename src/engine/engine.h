/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_ENGINE_ENGINE_H
#define WEIR_ENGINE_ENGINE_H

/*
 * The one interface between Weir and an operating system. Everything above it submits operations
 * and gets completions; readiness exists only below it. The rules, which tests/unit/engine_test.c
 * proves on every engine:
 *
 *  1. An operation that `submit` took has exactly one final completion (`more` false), from inside
 *     `wait`, never from inside `submit` or `cancel`. ACCEPT, RECEIVE and WATCH may have any number
 * of completions with `more` true before it.
 *  2. `cancel` asks; the final completion still comes, with WEIR_ECANCELLED unless the operation
 * ended otherwise first. What had been accepted, received or stamped before is completed before it.
 *  3. At most one operation of each role (reader: ACCEPT, RECEIVE; writer: CONNECT, SEND,
 * SEND_FILE; watcher: WATCH) is in flight on a socket. An operation may be submitted again from its
 * own final completion.
 *  4. The op, and all that it points at, stays where it is until its final completion.
 *  5. `socket_close` and `socket_reset` need a socket with no operation in flight and no pin held.
 *  6. All calls but `wake` are for the loop's thread.
 *  7. A pin that a SEND brought is released exactly once, from inside `wait`, after the final completion of
 *     that SEND. Until then the memory that the send's parts name stays as it is, and may not be changed:
 *     the peer may still be sent it, again too. That is a round trip at least, and the connection's life at
 *     most; neither `cancel` nor the end of the connection makes it sooner, `socket_abort` does.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <weir/address.h>
#include <weir/delivery.h>
#include <weir/loop.h>

#include "core/list.h"
#include "core/tls_keys.h"

struct weir__engine;
struct weir__op;
struct weir__socket;

enum weir__op_kind {
    WEIR__OP_ACCEPT,  /* result: the new socket's handle; many */
    WEIR__OP_CONNECT, /* result: 0 */
    WEIR__OP_RECEIVE, /* result: bytes in `data`, 0 = the peer will send no more (final); many */
    /*
     * Result: bytes taken, at least 1, perhaps fewer than asked for. The kernel's TLS may keep the end of a
     * record for as long as the connection has no room for it, and a FIN would cut it off; so a SEND with a
     * `record_type` waits until nothing is kept any more. Such a one, close_notify, comes before a FIN.
     */
    WEIR__OP_SEND,
    WEIR__OP_SEND_FILE, /* the same; WEIR_ETRUNCATED: the file has no byte at the offset */
    /*
     * Watches a connected socket: completes with `stamp` for each transmit stamp, and for the last
     * time when the connection can neither send nor receive any more: result 0 after both sides
     * closed in good order, else WEIR_ERESET, WEIR_ETIMEDOUT or WEIR_EIO. Stamps still in the
     * kernel's queue come before that, and before the completion that follows a cancel.
     */
    WEIR__OP_WATCH,
};

enum weir__stamp_kind {
    WEIR__STAMP_SENT,  /* left the host (SCM_TSTAMP_SND) */
    WEIR__STAMP_ACKED, /* acknowledged by the peer (SCM_TSTAMP_ACK) */
};

struct weir__stamp {
    enum weir__stamp_kind kind;
    /*
     * The low 32 bits of the wire offset, counted from when stamps were enabled, of the last byte
     * that the stamp covers: SO_TIMESTAMPING's key, so offset 0 is the first byte.
     */
    uint32_t key;
    uint64_t at_ns;
};

/*
 * What else ends a RECEIVE on a socket with kernel TLS: a record that is not authentic, one that is too
 * long, one that makes no sense, and the wait for the next key behind the peer's KeyUpdate.
 */
#define WEIR__RECEIVE_BAD_RECORD  (-1001)
#define WEIR__RECEIVE_OVERSIZED   (-1002)
#define WEIR__RECEIVE_MALFORMED   (-1003)
#define WEIR__RECEIVE_KEY_EXPIRED (-1004)

struct weir__completion {
    int64_t result; /* as listed with the operation's kind, or a negative WEIR_E* */
    bool more;      /* the operation goes on; false = final */
    /*
     * RECEIVE with kernel TLS: the record's content type where it is not application data, else 0. Such
     * bytes are of one record, and never come together with others.
     */
    uint8_t record_type;
    const uint8_t *data;      /* RECEIVE: the bytes, valid during the call only */
    uint64_t at_ns;           /* RECEIVE: the kernel's receive stamp, 0 where it gives none */
    struct weir__stamp stamp; /* WATCH with `more` */
};

typedef void (*weir__complete_fn)(struct weir__op *op, const struct weir__completion *completion);

/* SEND and SEND_FILE: stamp the last byte that the call takes (SENT and ACKED come to the watcher).
 */
#define WEIR__SEND_STAMP (1u << 0)
/* SEND and SEND_FILE: more follows at once; a partial segment may wait for it (MSG_MORE). */
#define WEIR__SEND_MORE (1u << 1)

/* Parts of one SEND. */
#define WEIR__SEND_PARTS_MAX 64

/* Room for what an engine keeps with an operation or a socket; each asserts that it fits. */
#define WEIR__OP_PRIVATE_BYTES     112
#define WEIR__SOCKET_PRIVATE_BYTES 64

/* How it went with the memory of a SEND that brought a pin. */
enum weir__pin_result {
    WEIR__PIN_USED,   /* the device read it where it lay */
    WEIR__PIN_COPIED, /* the kernel copied it after all, on its way: this route has no zero copy */
    WEIR__PIN_REFUSED, /* copied by the call: no memory for more, or no more may be locked (ENOBUFS, ENOMEM) */
    WEIR__PIN_UNSENT, /* the send took nothing */
};

#define WEIR__PIN_PRIVATE_BYTES 64

struct weir__pin {
    /* Runs once, see rule 7; may free the pin. */
    void (*released)(struct weir__pin *pin, enum weir__pin_result result);
    _Alignas(max_align_t) unsigned char engine_private[WEIR__PIN_PRIVATE_BYTES];
};

struct weir__op {
    enum weir__op_kind kind;
    bool in_flight; /* the engine's to write: from submit until the final completion begins */
    weir__complete_fn complete;
    struct weir__socket *socket;
    union {
        struct {
            const struct weir_address *address;
        } connect;
        struct {
            struct iovec *parts; /* the engine may write to the array */
            unsigned part_count;
            unsigned flags;
            uint8_t record_type; /* kernel TLS: of a record that is no application data, else 0 */
            /*
             * Zero copy: the kernel is to send the parts' memory from where it lies. It does where it can,
             * and else copies at once; `pin` says which, and until when the memory is in use. NULL: copy.
             * Never on a socket with `tls_tx`.
             */
            struct weir__pin *pin;
        } send;
        struct {
            int file;
            uint64_t offset;
            uint64_t length;
            size_t piece; /* of it, for one call of the system's; 0 = as much as there is */
            unsigned flags;
        } send_file;
    };
    _Alignas(max_align_t) unsigned char engine_private[WEIR__OP_PRIVATE_BYTES];
};

/* Of a socket with `tls_tx`; the engine's to write, see ktls.h. */
struct weir__socket_tls {
    uint8_t cipher;   /* enum weir__tls_cipher */
    uint8_t overhead; /* bytes that a record has beside its plaintext */
    uint64_t wire; /* what TCP has been given in all, but for the overhead of the records so far */
};

struct weir__socket {
    int handle;          /* a file descriptor, or the sim engine's number; -1 = none */
    bool stamps;         /* transmit stamps are enabled */
    bool stamping;       /* all that is sent is stamped for now; the engine's to write */
    bool tls_tx, tls_rx; /* the kernel protects what is sent, opens what is received */
    struct weir__socket_tls tls;
    /* What the handshake put into the kernel's count of acknowledged bytes; the engine's to write. */
    uint8_t handshake_bytes;
    struct weir__op *reader, *writer, *watcher; /* in flight; the engine's to write */
    unsigned pins;                              /* held; the engine's to write */
    _Alignas(max_align_t) unsigned char engine_private[WEIR__SOCKET_PRIVATE_BYTES];
};

struct weir__socket_info {
    uint64_t bytes_acked; /* of this connection, handshake not counted, FIN perhaps counted */
    uint32_t rtt_us;
    uint32_t retransmits;
    uint32_t notsent_bytes;
};

struct weir__listen_options {
    uint32_t backlog;
    bool share_port;
    /* Of each connection that it accepts, as soon as there is one: */
    bool no_delay;             /* TCP_NODELAY */
    uint32_t unsent_bytes_max; /* see socket_unsent_max; 0 = no bound */
};

/* Of a congestion control's name with its NUL (TCP_CA_NAME_MAX). */
#define WEIR__CONGESTION_NAME_BYTES 16

struct weir__engine_options {
    bool delivery;
    uint32_t receive_bytes;
    uint32_t receive_buffers;
};

struct weir__engine_ops {
    const char *name;

    /* Returns 0, WEIR_ENOTSUP, WEIR_ENOMEM or WEIR_EMFILE. */
    int (*open)(struct weir__engine **engine, const struct weir__engine_options *options);
    void (*close)(struct weir__engine *engine);

    /* Takes the operation, always. What cannot be done is said by its completion. */
    void (*submit)(struct weir__engine *engine, struct weir__op *op);
    /* `op` must be in flight. Asking twice is harmless. */
    void (*cancel)(struct weir__engine *engine, struct weir__op *op);
    /*
     * Hands over what was submitted, waits until something completes, `wake` is called or
     * `timeout_ns` have passed (UINT64_MAX: no limit, 0: do not wait), and completes what is done.
     * Returns 0, or WEIR_EIO when the engine can not go on.
     */
    int (*wait)(struct weir__engine *engine, uint64_t timeout_ns);
    /* Makes the `wait` in progress, or the next one, return soon. Any thread. */
    void (*wake)(struct weir__engine *engine);
    /* CLOCK_MONOTONIC, or the simulation's time. */
    uint64_t (*now_ns)(struct weir__engine *engine);
    /* What to add to a time of now_ns to get CLOCK_REALTIME; see weir__engine_wall_offset. */
    int64_t (*wall_offset_ns)(struct weir__engine *engine);

    /* Listens. Errors: those of weir_listener_start. */
    int (*socket_listen)(struct weir__engine *engine, struct weir__socket *socket,
                         const struct weir_address *address,
                         const struct weir__listen_options *options);
    /* Makes an unconnected socket of the address's family. WEIR_EMFILE, WEIR_ENOMEM, WEIR_EIO. */
    int (*socket_open)(struct weir__engine *engine, struct weir__socket *socket, int family);
    /* Takes over a handle that ACCEPT gave. Cannot fail. */
    void (*socket_adopt)(struct weir__engine *engine, struct weir__socket *socket, int handle);
    /*
     * Prepares a connected socket on which nothing was sent yet: TCP_NODELAY, which an accepted one has of its
     * listener, and, if `delivery`, receive and transmit stamps; `socket->stamps` says whether it has transmit stamps.
     */
    void (*socket_prepare)(struct weir__engine *engine, struct weir__socket *socket, bool no_delay,
                           bool delivery);
    /*
     * Bounds what the kernel takes beyond what it has sent (TCP_NOTSENT_LOWAT): by about so many bytes, and a
     * packet of up to 64 KiB. 0: as much as its buffer holds. A hint, which an engine may ignore.
     */
    void (*socket_unsent_max)(struct weir__engine *engine, struct weir__socket *socket,
                              uint32_t bytes);
    /* The congestion control of the socket and of what it accepts (TCP_CONGESTION), or "" where that is not said. */
    void (*socket_congestion)(struct weir__engine *engine, const struct weir__socket *socket,
                              char name[WEIR__CONGESTION_NAME_BYTES]);
    /* Half-close: FIN after what was sent. Returns 0 or an error if the connection is gone. */
    int (*socket_shutdown)(struct weir__engine *engine, struct weir__socket *socket);
    /* Closes: in good order, or with a RST that discards what the kernel still holds. */
    void (*socket_close)(struct weir__engine *engine, struct weir__socket *socket);
    void (*socket_reset)(struct weir__engine *engine, struct weir__socket *socket);
    /*
     * Resets the connection, as socket_reset does, but keeps the handle, so that what pins hold can be
     * released, soon. No operation is in flight, and none may follow. Again is harmless.
     */
    void (*socket_abort)(struct weir__engine *engine, struct weir__socket *socket);
    /* Returns 0 or WEIR_ENOTSUP. Works on a connection that died, too. */
    int (*socket_info)(struct weir__engine *engine, struct weir__socket *socket,
                       struct weir__socket_info *info);
    /*
     * Bytes that SENDs took and the peer has not acknowledged, the FIN perhaps counted: what socket_info
     * says, less, for a fraction of its cost. Returns 0 or WEIR_ENOTSUP.
     */
    int (*socket_unacked)(struct weir__engine *engine, struct weir__socket *socket,
                          uint64_t *bytes);
    /*
     * Kernel TLS (networking/tls.rst): from now on what is sent or received in this direction is plaintext,
     * from the keys' sequence on. TX first, since there is no way back once RX is set; no SEND, for TX, or
     * RECEIVE, for RX, is in flight, and RX begins with the first byte not received yet. Again with other
     * keys after a KeyUpdate. Returns 0, WEIR_ENOTSUP (no kernel TLS here, not this cipher, or it cannot
     * change keys), WEIR_ERESET (the connection is gone), WEIR_ENOMEM or WEIR_EIO; then nothing has changed.
     */
    int (*socket_tls_attach)(struct weir__engine *engine, struct weir__socket *socket,
                             enum weir__tls_direction direction, const struct weir__tls_keys *keys);
    /* The sequence number of the next record that the kernel will make. Returns 0 or WEIR_ENOTSUP. */
    int (*socket_tls_sequence)(struct weir__engine *engine, struct weir__socket *socket,
                               uint64_t *sequence);
    /* Whether this kernel can change the keys of a direction (Linux 6.14); tried, once for the process. */
    bool (*tls_can_rekey)(struct weir__engine *engine);
    /* Reads a file for a transport that sends its bytes in another form. Bytes, 0 at the file's end, or WEIR_EIO. */
    int64_t (*file_read)(struct weir__engine *engine, int file, uint64_t offset, void *data,
                         size_t length);
    /* Whether a SEND's pin can be of use at all here; tried, once for the process. */
    bool (*can_zerocopy)(struct weir__engine *engine);
    /*
     * Memory from which many SENDs with pins will come: an engine that can has the kernel map it once rather than
     * for each (io_uring_register(2), fixed buffers). Returns 0, or WEIR_ENOTSUP, WEIR_ENOMEM or
     * WEIR_ENOBUFS where that cannot be had: such SENDs work all the same. `bytes` is at least 1; pieces do
     * not overlap. `memory_unregister` needs the same `memory`, registered, no part of which a pin holds.
     */
    int (*memory_register)(struct weir__engine *engine, void *memory, size_t bytes);
    void (*memory_unregister)(struct weir__engine *engine, void *memory);
    /* Return 0 or WEIR_EIO. */
    int (*socket_local)(struct weir__engine *engine, const struct weir__socket *socket,
                        struct weir_address *address);
    int (*socket_peer)(struct weir__engine *engine, const struct weir__socket *socket,
                       struct weir_address *address);
};

/* Each engine's object begins with this. */
struct weir__engine {
    const struct weir__engine_ops *ops;
    /* The clocks, as far as they were read since weir__engine_forget_time. */
    bool now_known, wall_known;
    uint64_t now_ns;
    int64_t wall_offset_ns;
};

/*
 * The clocks are read once for what one wait brings, since to read them for each request would show: when what
 * was completed is to be told, and how its stamps of CLOCK_REALTIME lie on the loop's clock. An offset is never
 * kept for longer, so that a clock that is set does not bend the times. Between rounds, ask the engine itself.
 */
static inline uint64_t weir__engine_now(struct weir__engine *engine)
{
    if (!engine->now_known)
        engine->now_ns = engine->ops->now_ns(engine);
    engine->now_known = true;
    return engine->now_ns;
}

static inline int64_t weir__engine_wall_offset(struct weir__engine *engine)
{
    if (!engine->wall_known)
        engine->wall_offset_ns = engine->ops->wall_offset_ns(engine);
    engine->wall_known = true;
    return engine->wall_offset_ns;
}

/* Time has passed: by the loop before each wait, by an engine when it has slept in one. */
static inline void weir__engine_forget_time(struct weir__engine *engine)
{
    engine->now_known = engine->wall_known = false;
}

extern const struct weir__engine_ops weir__io_uring_engine;
extern const struct weir__engine_ops weir__epoll_engine;
extern const struct weir__engine_ops weir__poll_engine;

/* weir_loop_new on an engine that exists; the loop closes it in the end. For the simulation. */
int weir__loop_new_on(struct weir_loop **loop, struct weir__engine *engine,
                      const struct weir_loop_options *options);
struct weir__engine *weir__loop_engine(struct weir_loop *loop);

/*
 * Work to be done once, after this round's callbacks and before the engine waits: a stream flushes
 * all that was written in a round in one send. `run` may defer again; it then runs in the next
 * round.
 */
struct weir__deferred {
    struct weir__list link;
    void (*run)(struct weir__deferred *deferred);
};
void weir__loop_defer(struct weir_loop *loop, struct weir__deferred *deferred);

/* Object pools that live as long as the loop; the first call for one sets the size of its objects.
 */
enum weir__loop_pool {
    WEIR__LOOP_POOL_STREAMS,
    WEIR__LOOP_POOL_WRITES,
    WEIR__LOOP_POOL_BATCHES,
    WEIR__LOOP_POOL_PINNED,
    WEIR__LOOP_POOLS,
};
struct weir__pool *weir__loop_pool(struct weir_loop *loop, enum weir__loop_pool which,
                                   size_t object_bytes);

/* Counts bytes of input that a stream holds for later. Returns false if that is too much for the loop. */
bool weir__loop_hold(struct weir_loop *loop, size_t bytes);
void weir__loop_unhold(struct weir_loop *loop, size_t bytes);

/* How often the engine has waited: what was submitted since the last time cannot have been completed yet. */
uint64_t weir__loop_waits(const struct weir_loop *loop);

/* What the options say; `*pinned_bytes_max` too. OFF where the engine has no zero copy. */
enum weir_zerocopy weir__loop_zerocopy(const struct weir_loop *loop, uint64_t *pinned_bytes_max);
/* What src/net keeps with the loop: NULL, or one allocation that is released with it. */
void **weir__loop_attachment(struct weir_loop *loop);

/* Whether the loop's streams are to record delivery. */
bool weir__loop_delivery(const struct weir_loop *loop);

#endif
