/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_SEND_H
#define WEIR_SEND_H

#include <stdint.h>

#include <weir/visibility.h>

/** How bytes go to the kernel. */
enum weir_send_way {
    WEIR_SEND_COPY = 1 << 0,     /**< copied into the kernel's buffers */
    WEIR_SEND_ZEROCOPY = 1 << 1, /**< sent from where they lie (MSG_ZEROCOPY, IORING_OP_SEND_ZC) */
    WEIR_SEND_COPIED =
        1 << 2,              /**< zero copy was asked for, but the kernel had to copy on the way */
    WEIR_SEND_FILE = 1 << 3, /**< from a file's pages (sendfile) */
    WEIR_SEND_KERNEL_TLS = 1 << 4, /**< by the kernel's TLS, which encrypts from where they lie */
};

/** Why a send went as it did; each reason stands for one way. */
enum weir_send_reason {
    WEIR_SEND_BECAUSE_OFF,     /**< copy: zero copy is off, or not to be had */
    WEIR_SEND_BECAUSE_SMALL,   /**< copy: so little that pinning it would cost more */
    WEIR_SEND_BECAUSE_HEAD,    /**< copy: small parts next to a big one */
    WEIR_SEND_BECAUSE_ROUTE,   /**< copy: the kernel has copied on this route */
    WEIR_SEND_BECAUSE_MEMORY,  /**< copy: as much memory is pinned as may be */
    WEIR_SEND_BECAUSE_SLOW,    /**< copy: the peer is so far that memory would be held for long */
    WEIR_SEND_BECAUSE_REFUSED, /**< copy: the kernel would pin no more a moment ago */
    WEIR_SEND_BECAUSE_TRIED,   /**< zero copy: to find out what this route does */
    WEIR_SEND_BECAUSE_PAYS,    /**< zero copy: this route does without the copy */
    WEIR_SEND_BECAUSE_ON,      /**< zero copy: it is to be used always */
    WEIR_SEND_BECAUSE_FILE,    /**< file */
    WEIR_SEND_BECAUSE_KERNEL_TLS, /**< kernel TLS */
    WEIR_SEND_REASONS,
};

/** "copy", "zerocopy", "copied", "file" or "ktls", for one bit. Any thread; static text. */
WEIR_API const char *weir_send_way_name(enum weir_send_way way);
/** A label, such as "small", and a few words for people. Any thread; static text. */
WEIR_API const char *weir_send_reason_name(enum weir_send_reason reason);
WEIR_API const char *weir_send_reason_text(enum weir_send_reason reason);
/** The way that a reason stands for. */
WEIR_API enum weir_send_way weir_send_reason_way(enum weir_send_reason reason);

/** What a loop's streams have sent since it began. */
struct weir_send_info {
    uint64_t sends[WEIR_SEND_REASONS]; /**< calls, by reason */
    uint64_t bytes[WEIR_SEND_REASONS]; /**< of the wire; with kernel TLS of plaintext */
    uint64_t pinned_bytes;             /**< held by zero copy now */
    /** Sends that asked for zero copy: read in place, copied on the way, refused (ENOBUFS, ENOMEM). */
    uint64_t zerocopy_used, zerocopy_copied, zerocopy_refused;
    uint64_t used_bytes, copied_bytes, refused_bytes; /**< of these */
};

struct weir_loop;
/** Loop's thread. */
WEIR_API void weir_loop_send_info(const struct weir_loop *loop, struct weir_send_info *info);

#endif
