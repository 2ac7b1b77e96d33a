/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_DELIVERY_H
#define WEIR_DELIVERY_H

#include <stdint.h>

#include <weir/send.h>
#include <weir/visibility.h>

/**
 * The stages of one write, as bits. They happen in this order, but for RELEASED: with zero copy the kernel
 * sends from the caller's memory, and is done with it about when the peer has acknowledged it, be that before
 * or after DELIVERED is told.
 */
enum weir_stage {
    WEIR_STAGE_ACCEPTED = 1 << 0,  /**< the kernel took the last byte: what write() calls done */
    WEIR_STAGE_RELEASED = 1 << 1,  /**< the caller's memory is the caller's again */
    WEIR_STAGE_SENT = 1 << 2,      /**< the last byte left this host */
    WEIR_STAGE_DELIVERED = 1 << 3, /**< the peer's kernel acknowledged the last byte */
    WEIR_STAGE_FAILED = 1 << 4,    /**< none of the stages still wanted will come */
};

/** By what means a stage is known. */
enum weir_delivery_source {
    WEIR_DELIVERY_NONE,   /**< it is not known */
    WEIR_DELIVERY_TX_ACK, /**< the kernel's transmit time stamp (networking/timestamping.rst) */
    /** The kernel's count of (un)acknowledged bytes (TCP_INFO, SIOCOUTQ); the time is when it was read. */
    WEIR_DELIVERY_TCP_INFO,
};

/** "none", "tx_ack" or "tcp_info". Any thread; static text. */
WEIR_API const char *weir_delivery_source_name(enum weir_delivery_source source);

/** What a write's callback is told. Valid during the callback. Times: see weir_loop_now_ns. */
struct weir_write_event {
    enum weir_stage stage;
    /**
     * When the stage happened, by the kernel's own stamp where there is one; ACCEPTED and RELEASED, when
     * the send's completion was seen. 0 = it happened, but when is not known (SENT, its stamp lost).
     */
    uint64_t at_ns;
    /** When the kernel was seen to have taken the write's first byte; 0 if it took none. */
    uint64_t first_byte_ns;
    /** For SENT and DELIVERED, how the time is known; for FAILED, how `bytes` is; else NONE. */
    enum weir_delivery_source source;
    /** Bytes of this write that reached the stage; for FAILED, those known to be delivered. */
    uint64_t bytes;
    /** How many of its bytes the kernel had taken: fewer than all for FAILED only. */
    uint64_t accepted_bytes;
    /** What these are on the wire: more with TLS, whose records have headers and tags. */
    uint64_t wire_bytes;
    /**
     * Bits of enum weir_send_way, of what the kernel has taken so far. What is pinned counts as ZEROCOPY until its
     * notice has come, which may say COPIED; with RELEASED it has. Kernel TLS: COPY or FILE, and KERNEL_TLS.
     */
    unsigned ways;
    /** For FAILED, why: WEIR_ERESET, WEIR_ETIMEDOUT, WEIR_EABORTED, WEIR_ETRUNCATED, ...; else 0.
     */
    int error;
};

/** What the kernel says of a connection (TCP_INFO). Zeros where it does not say. */
struct weir_delivery_info {
    uint64_t wire_bytes_accepted; /**< bytes the kernel has taken from this stream */
    uint64_t wire_bytes_acked;    /**< of those, bytes known to be acknowledged */
    /** The same in bytes of the owner's writes; with TLS those in whole records, so at least as many. */
    uint64_t bytes_accepted, bytes_acked;
    uint32_t rtt_us;        /**< smoothed round-trip time */
    uint32_t retransmits;   /**< segments sent again, since the connection began */
    uint32_t notsent_bytes; /**< taken from us, not yet sent for the first time */
};

#endif
