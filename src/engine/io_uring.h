/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_ENGINE_IO_URING_H
#define WEIR_ENGINE_IO_URING_H

/* What the io_uring engine tells of itself to the loop, to the doctor and to its tests. */

#include <stdbool.h>
#include <stddef.h>

#include <liburing.h>
#include <linux/time_types.h>

#include "engine/engine.h"

/* What this kernel's io_uring can do, each tried for real. */
struct weir__io_uring_features {
    bool ring;             /* a ring with SINGLE_ISSUER, DEFER_TASKRUN and SUBMIT_ALL (Linux 6.1) */
    bool operations;       /* every operation that the engine submits */
    bool buffer_ring;      /* provided buffers by a mapped ring (5.19) */
    bool accept_multishot; /* 5.19 */
    bool receive_multishot; /* RECV and RECVMSG (6.0) */
    /* Transmit stamps as completions: TX_TIMESTAMP, on a ring that mixes completions of 16 and 32
     * bytes (6.18). */
    bool stamp_command;
    /* SEND_ZC and SENDMSG_ZC whose notices say whether the memory was used (6.2, and Debian's 6.1). */
    bool zerocopy;
    bool zerocopy_fixed;         /* SEND_ZC from registered memory */
    bool zerocopy_fixed_message; /* SENDMSG_ZC from it (6.15) */
};

/*
 * Tries each feature on a ring of its own. Returns 0 if the engine can work: all but
 * `stamp_command`, which is made good by poll and recvmsg, and zero copy. Else WEIR_ENOTSUP, WEIR_EMFILE or
 * WEIR_ENOMEM, and `reason` is why, one sentence without a full stop; static text.
 */
int weir__io_uring_probe(struct weir__io_uring_features *features, const char **reason);

/* The part of it that is about zero copy; tried once for the process. */
void weir__io_uring_probe_zerocopy(struct weir__io_uring_features *features);

/* As `open` of weir__io_uring_engine, with features that were probed, or fewer. */
int weir__io_uring_open_with(struct weir__engine **engine,
                             const struct weir__engine_options *options,
                             const struct weir__io_uring_features *features);

/* Why this thread's last `open` of the engine failed; NULL if it did not. Static text. */
const char *weir__io_uring_refusal(void);

/* The flags of every ring of the engine. */
#define WEIR__IO_URING_SETUP                                                                       \
    (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |         \
     IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CLAMP)

/* Of linux/io_uring.h, for SEND_ZC and SENDMSG_ZC; liburing 2.3 lacks them. The second is in the NOTIF's `res`. */
#define WEIR__SEND_ZC_REPORT_USAGE (1u << 3)
#define WEIR__NOTIF_COPIED         (1u << 31)

/*
 * Of linux/io_uring.h, which Debian 12's headers do not have. A ring with SETUP_CQE_MIXED takes both
 * sizes: a completion with F_32 fills two entries, and one with F_SKIP nothing but the last entry
 * before the ring wraps. SETUP_CQE32, which 6.17 has too, is no choice: 6.18 skips the last entry of
 * such a ring as well, without saying so, and what stood there 4096 completions ago seems to come again.
 */
#define WEIR__SETUP_CQE_MIXED (1u << 18)
#define WEIR__CQE_32          (1u << 15)

/*
 * SOCKET_URING_OP_TX_TIMESTAMP of linux/io_uring.h, which Debian 12's headers do not have. Its
 * completions: res is the stamp's key, flags above bit 16 the SCM_TSTAMP_* type, and the second
 * half of the big completion the seconds and nanoseconds of CLOCK_REALTIME.
 */
#define WEIR__SOCKET_STAMP_COMMAND 4
#define WEIR__STAMP_TYPE_SHIFT     17

static inline void weir__io_uring_prepare_stamp_command(struct io_uring_sqe *sqe, int handle)
{
    io_uring_prep_rw(IORING_OP_URING_CMD, sqe, handle, NULL, 0, 0);
    sqe->cmd_op = WEIR__SOCKET_STAMP_COMMAND;
}

#endif
