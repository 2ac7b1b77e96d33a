/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_ENGINE_SOCKET_H
#define WEIR_ENGINE_SOCKET_H

/*
 * Calls on real sockets that the engines share. socket.c has what POSIX alone can do; the rest is in
 * socket_linux.c, with time stamps, TCP_INFO and sendfile, and ktls_linux.c, and once more in socket_posix.c,
 * with POSIX alone, for another system to start from.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "engine/engine.h"

/* errno (positive) as a WEIR_E* code. */
int weir__error_from_errno(int error);

/* The synchronous half of struct weir__engine_ops, for descriptors. All sockets are non-blocking. */
uint64_t weir__clock_now_ns(struct weir__engine *engine);
int64_t weir__clock_wall_offset_ns(struct weir__engine *engine);
int weir__socket_listen(struct weir__engine *engine, struct weir__socket *socket,
                        const struct weir_address *address,
                        const struct weir__listen_options *options);
int weir__socket_open(struct weir__engine *engine, struct weir__socket *socket, int family);
void weir__socket_prepare(struct weir__engine *engine, struct weir__socket *socket, bool no_delay,
                          bool delivery);
void weir__socket_unsent_max(struct weir__engine *engine, struct weir__socket *socket,
                             uint32_t bytes);
void weir__socket_congestion(struct weir__engine *engine, const struct weir__socket *socket,
                             char name[WEIR__CONGESTION_NAME_BYTES]);
int weir__socket_shutdown(struct weir__engine *engine, struct weir__socket *socket);
void weir__socket_abort(struct weir__engine *engine, struct weir__socket *socket);
bool weir__can_zerocopy(struct weir__engine *engine);
/* For an engine that maps no memory: WEIR_ENOTSUP, so that the second is never called. */
int weir__memory_not_registered(struct weir__engine *engine, void *memory, size_t bytes);
void weir__memory_never_registered(struct weir__engine *engine, void *memory);
int weir__socket_info(struct weir__engine *engine, struct weir__socket *socket,
                      struct weir__socket_info *info);
int weir__socket_unacked(struct weir__engine *engine, struct weir__socket *socket, uint64_t *bytes);
int weir__socket_tls_attach(struct weir__engine *engine, struct weir__socket *socket,
                            enum weir__tls_direction direction, const struct weir__tls_keys *keys);
int weir__socket_tls_sequence(struct weir__engine *engine, struct weir__socket *socket,
                              uint64_t *sequence);
bool weir__tls_can_rekey(struct weir__engine *engine);
int64_t weir__file_read(struct weir__engine *engine, int file, uint64_t offset, void *data,
                        size_t length);
int weir__socket_local(struct weir__engine *engine, const struct weir__socket *socket,
                       struct weir_address *address);
int weir__socket_peer(struct weir__engine *engine, const struct weir__socket *socket,
                      struct weir_address *address);

/* A TCP descriptor, non-blocking and close-on-exec, or a negative WEIR_E*. */
int weir__descriptor_open(int family);

/* Closes the descriptor; with `reset` the peer gets a RST. */
void weir__descriptor_close(int descriptor, bool reset);
/* From now on closing the descriptor, in any way, sends a RST where the connection is not over. */
void weir__descriptor_close_resets(int descriptor);

/*
 * A TCP connection over loopback for a trial, blocking and close-on-exec. False: it cannot be had, and both are -1.
 * Linux only.
 */
bool weir__descriptor_pair(int pair[2]);
/*
 * What `ask` finds out about this kernel, asked once for the process, or again as long as it could not tell (`*known`).
 * Threads that ask at the same time find the same. `*answer` begins as 0. Linux only.
 */
bool weir__kernel_can(atomic_int *answer, bool (*ask)(bool *known));

/* A connection's new descriptor, non-blocking and close-on-exec, or a negative WEIR_E*;
 * WEIR__WOULD_BLOCK where no peer waits. */
int weir__descriptor_accept(int listener);

/* What the calls below return, beside bytes and errors, when the socket is not ready. */
#define WEIR__WOULD_BLOCK (-1000)
/* A send with WEIR__SEND_ZEROCOPY: the kernel has no memory for its notice, or may lock no more. Nothing was sent. */
#define WEIR__REFUSED (-1006)

/*
 * Reads at most `size` bytes; 0 at the end. Sets the completion's `at_ns`, the receive stamp on the loop's
 * clock or 0, and `record_type`. With kernel TLS it may return a WEIR__RECEIVE_*, and the socket can send
 * nevertheless.
 */
int64_t weir__socket_receive(struct weir__engine *engine, struct weir__socket *socket, void *data,
                             size_t size, struct weir__completion *completion);
/*
 * For weir__socket_send, beside WEIR__SEND_*: from the parts' memory where it lies (MSG_ZEROCOPY), on a
 * descriptor for which weir__descriptor_zerocopy said true. Each such send that takes bytes has a number, counted
 * from 0 in 32 bits, by which a notice in the error queue says that the memory is free.
 */
#define WEIR__SEND_ZEROCOPY (1u << 31)
/* `flags`: WEIR__SEND_*. Return bytes taken, an outcome or an error. */
int64_t weir__socket_send(struct weir__socket *socket, const struct iovec *parts,
                          unsigned part_count, unsigned flags, uint8_t record_type);
/*
 * Takes at most WEIR__SEND_FILE_BYTES_MAX. The stamp is for the last byte asked for, or for the last within
 * that bound: a call that the socket cut short before its last piece stamps nothing.
 */
#define WEIR__SEND_FILE_BYTES_MAX (1u << 20)
/* `piece`: bytes for one call of sendfile, 0 = as much as there is; without sendfile, of no matter. */
int64_t weir__socket_send_file(struct weir__socket *socket, int file, uint64_t offset,
                               uint64_t length, size_t piece, unsigned flags);
/*
 * Whether the kernel's TLS keeps bytes back that were sent: 0, WEIR__WOULD_BLOCK: until the socket is
 * writable at least, or WEIR__HOLDS_BRIEFLY: not for long.
 */
#define WEIR__HOLDS_BRIEFLY (-1005)
int weir__socket_holds(struct weir__socket *socket);
/*
 * Takes SO_ERROR: 0 or a negative WEIR_E*. With kernel TLS what the kernel found wrong with what it received
 * stands there, too, once: a WEIR__RECEIVE_*.
 */
int weir__socket_error(struct weir__socket *socket);
static inline bool weir__is_receive_result(int64_t result)
{
    return result <= WEIR__RECEIVE_BAD_RECORD && result >= WEIR__RECEIVE_KEY_EXPIRED;
}
/* Makes a descriptor take WEIR__SEND_ZEROCOPY (SO_ZEROCOPY, networking/msg_zerocopy.rst); false: it cannot. */
bool weir__descriptor_zerocopy(int descriptor);

/* What a socket's error queue says of what was sent. */
enum weir__notice_kind {
    WEIR__NOTICE_STAMP,
    WEIR__NOTICE_ZEROCOPY, /* the memory of some sends is free */
};
struct weir__notice {
    enum weir__notice_kind kind;
    union {
        struct weir__stamp stamp;
        /* ZEROCOPY: the numbers of the sends, from the first to the last, which may be the lower one in 32 bits. */
        struct {
            uint32_t first, last;
            bool copied;
        } sends;
    };
};
/*
 * Takes notices from the error queue, at most `count`; fewer than `count` means that it is empty now.
 * Leaves SO_ERROR for whoever asks.
 */
unsigned weir__descriptor_notices(int descriptor, struct weir__notice *notices, unsigned count);
/* Reads one message of the error queue; false if it is no notice that is known. Linux only. */
bool weir__notice_read(struct msghdr *message, int64_t wall_offset_ns, struct weir__notice *notice);
/*
 * Turns stamps on, the keys' base being here if they were off, and stamps all that is sent from now on, or
 * what asks for it by its control message. False where the kernel has no stamps.
 */
bool weir__descriptor_stamp_all(int descriptor, bool all);
/*
 * Whether a connection of which both sides are shut is quite over: until then bytes and the FIN may wait
 * for their acknowledgement, and stamps may come. True where the system does not say.
 */
bool weir__descriptor_is_closed(int descriptor);

#endif
