/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_ENGINE_KTLS_H
#define WEIR_ENGINE_KTLS_H

/*
 * Kernel TLS (Documentation/networking/tls.rst), for the files that talk to Linux: socket_linux.c, the
 * io_uring engine and the probes.
 *
 * The kernel's TLS stands between the socket and TCP. A send that it takes becomes records at once, but where
 * TCP has no room for all of a record, the rest waits in the TLS layer until there is some. Nothing tells of
 * that, shutdown(2) and close(2) cut it off, and SIOCOUTQ does not count it. What does tell is arithmetic:
 * the plaintext taken and the sequence number say how many bytes all the records have, TCP's counts say how
 * many it was given.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* It uses struct timespec without declaring it. */
#include <time.h>

#include <linux/errqueue.h>

#include "engine/socket.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

/* Room for a receive stamp and for the type of a record; and for what a SEND asks for. */
#define WEIR__RECEIVE_CONTROL_BYTES                                                                \
    (CMSG_SPACE(sizeof(struct scm_timestamping)) + CMSG_SPACE(sizeof(uint8_t)))
#define WEIR__SEND_CONTROL_BYTES CMSG_SPACE(sizeof(uint32_t))

/* Puts TLS between a connected socket and TCP: 0 or errno. Without keys nothing changes yet. */
int weir__ktls_insert(int descriptor);
/* Sets the keys of a direction: 0 or errno. */
int weir__ktls_keys_set(int descriptor, enum weir__tls_direction direction,
                        const struct weir__tls_keys *keys);

/* The content type in a control message of SOL_TLS; 0 if it is application data or no type. */
uint8_t weir__ktls_record_type(const struct cmsghdr *control);

/* errno (positive) as a WEIR__RECEIVE_*, 0 if it is none of kernel TLS's. */
int weir__ktls_receive_result(int error);
/*
 * The outcome of a call that failed with that errno. Takes SO_ERROR, where TLS leaves its verdict for the
 * next call to trip over. Sending may give a WEIR__RECEIVE_*: it is the reader's, and nothing was sent.
 */
int weir__ktls_receive_failed(struct weir__socket *socket, int error);
int weir__ktls_send_failed(struct weir__socket *socket, int error);

/*
 * Prepares a send: stamps all that is sent from now on, or no more, where that cannot be asked for with the
 * call; else fills `control`, of WEIR__SEND_CONTROL_BYTES. Returns the flags, MSG_*. In socket_linux.c.
 */
int weir__send_prepare(struct weir__socket *socket, unsigned flags, uint8_t record_type,
                       struct msghdr *message, void *control);

#endif
