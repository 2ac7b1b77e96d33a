/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_ENGINE_PROBE_H
#define WEIR_ENGINE_PROBE_H

/*
 * What this kernel can do, each thing tried for real, on loopback sockets where it takes a
 * connection. An engine asks only for what it needs and falls back without a word; a probe is for a
 * person who wants to know, and says why not.
 */

#include <stdbool.h>

enum weir__probe_id {
    WEIR__PROBE_KERNEL, /* Linux 6.1 or newer */
    WEIR__PROBE_ENGINE_IO_URING,
    WEIR__PROBE_ENGINE_EPOLL,
    WEIR__PROBE_ENGINE_POLL,
    WEIR__PROBE_ENGINE_AUTO, /* its text begins with the name of the engine */
    WEIR__PROBE_DELIVERY_IO_URING,
    WEIR__PROBE_DELIVERY_EPOLL,
    WEIR__PROBE_DELIVERY_POLL,
    WEIR__PROBE_URING_SETUP,
    WEIR__PROBE_URING_DEFER_TASKRUN,
    WEIR__PROBE_URING_ACCEPT_MULTISHOT,
    WEIR__PROBE_URING_BUFFER_RING,
    WEIR__PROBE_URING_RECEIVE_MULTISHOT,
    WEIR__PROBE_URING_RECVMSG_MULTISHOT,
    WEIR__PROBE_URING_SENDMSG,
    WEIR__PROBE_URING_CANCEL,
    WEIR__PROBE_URING_CQE_MIXED,
    WEIR__PROBE_URING_TX_TIMESTAMP,
    WEIR__PROBE_URING_SEND_ZEROCOPY,
    WEIR__PROBE_URING_KTLS, /* multishot recvmsg on a socket with kernel TLS */
    WEIR__PROBE_STAMP_SCHEDULED,
    WEIR__PROBE_STAMP_SENT,
    WEIR__PROBE_STAMP_ACKED,
    WEIR__PROBE_STAMP_PER_CALL, /* an ACK stamp asked for with one sendmsg */
    WEIR__PROBE_STAMP_ID_TCP,   /* ids that count from the first byte written */
    WEIR__PROBE_STAMP_RECEIVED,
    WEIR__PROBE_TCP_INFO_ACKED,
    WEIR__PROBE_SEND_FILE,
    WEIR__PROBE_ZEROCOPY,
    WEIR__PROBE_KTLS,       /* TLS can be put between a socket and TCP */
    WEIR__PROBE_KTLS_1_3,   /* its text lists the ciphers */
    WEIR__PROBE_KTLS_1_2,   /* the same */
    WEIR__PROBE_KTLS_REKEY, /* keys can be changed: TLS 1.3's KeyUpdate */
    WEIR__PROBE_KTLS_STAMP, /* transmit stamps */
    WEIR__PROBE_KTLS_STAT,  /* the kernel's own count of such sockets */
    WEIR__PROBE_OPENAT2,
    WEIR__PROBE_REUSE_PORT,
    WEIR__PROBE_COUNT,
};

#define WEIR__PROBE_TEXT_BYTES 160
/* A probe that takes longer has failed. */
#define WEIR__PROBE_DEADLINE_MS 2000

struct weir__probe {
    bool works;
    char text[WEIR__PROBE_TEXT_BYTES]; /* if it works, a detail or nothing; else why it does not */
};

/* The name for scripts, such as "tx_stamp_acked". */
const char *weir__probe_name(enum weir__probe_id id);

/*
 * Tries one thing in a child process, so that a hang, or a seccomp filter which kills, ends the
 * child alone, and so that nothing is left of it. Call it where only one thread runs.
 */
void weir__probe_run(enum weir__probe_id id, struct weir__probe *probe);

#endif
