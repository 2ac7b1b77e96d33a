/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_SERVER_ACCESS_LOG_H
#define WEIR_SERVER_ACCESS_LOG_H

/* The access log's lines. Pure: an entry goes in, one line comes out. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <weir/delivery.h>

#include "http/message.h"

/* How the bytes went out. */
enum weir__log_send {
    WEIR__LOG_SEND_COPY,
    WEIR__LOG_SEND_ZEROCOPY,
    WEIR__LOG_SEND_COPIED, /* zero copy was asked for, and the kernel copied */
    WEIR__LOG_SEND_FILE,
};

/* How the transaction ended. */
enum weir__log_outcome {
    WEIR__LOG_DELIVERED,
    WEIR__LOG_RESET,
    WEIR__LOG_TIMEOUT,
    WEIR__LOG_ABORTED,
    WEIR__LOG_UNKNOWN, /* the kernel has all of it, but delivery is off or cannot be known: null */
};

/* One transaction. Times but `wall_ns` are the loop's clock; 0 = it never happened, or is not
 * known. */
struct weir__log_entry {
    uint64_t wall_ns;       /* CLOCK_REALTIME when the request's first byte arrived */
    uint64_t arrived_ns;    /* the same moment on the loop's clock */
    uint64_t first_byte_ns; /* the kernel took the response's first byte */
    uint64_t accepted_ns;   /* ... and its last */
    uint64_t sent_ns;       /* the last byte left this host */
    uint64_t delivered_ns;  /* the peer acknowledged it */
    enum weir_delivery_source delivered_by;

    const char *client;   /* weir_address_format's text: "10.0.0.1:5000", "[::1]:5000" */
    const char *protocol; /* "HTTP/1.1"; NULL where the request had none that could be read */
    /* What a peer chose, any bytes at all; `data` NULL where it did not say. */
    struct weir__text method;
    struct weir__text host;
    struct weir__text target;
    struct weir__text referer;    /* combined only */
    struct weir__text user_agent; /* combined only */

    unsigned status;
    uint64_t wire_bytes;      /* of the response, head and all, taken by the kernel */
    uint64_t body_bytes;      /* of these, the body's */
    uint64_t delivered_bytes; /* of the body, known to have reached the peer */

    /* NULL on a plain connection. */
    const char *tls;    /* "TLSv1.3" */
    const char *cipher; /* IANA's name */
    const char *tls_vendor;
    bool kernel_tx, kernel_rx; /* the kernel protects what is sent, opens what is received */

    const char *engine;
    enum weir__log_send send;
    enum weir__log_outcome outcome;
    bool info_known; /* the next two; else they are null */
    uint32_t rtt_us;
    uint32_t retransmits;
};

enum weir__log_format {
    WEIR__LOG_JSON,
    /* nginx's and Apache's, in UTC, with the delivered seconds ("-" if never) at the end. */
    WEIR__LOG_COMBINED,
};

/*
 * Room that any line fits in. Peers' text is cut, between characters, where it is longer in its
 * escaped form than its share of this; everything else of a line is shorter than 1 KiB.
 */
#define WEIR__LOG_LINE_MAX 16384

/* The text of the second in which the last line was, which most lines share with the one before. */
struct weir__log_clock {
    uint64_t second;   /* since 1970; UINT64_MAX = none yet */
    char json[19];     /* 2026-11-23T05:00:00 */
    char combined[26]; /* 23/Nov/2026:05:00:00 +0000 */
};
void weir__log_clock_init(struct weir__log_clock *clock);

/*
 * Writes the line with its "\n", without a final zero. `size` is at least WEIR__LOG_LINE_MAX.
 * Returns its length. The JSON form is one valid UTF-8 JSON object whatever the peer sent: control
 * characters, and bytes that are not UTF-8, are \u00XX.
 */
size_t weir__log_entry_format(const struct weir__log_entry *entry, enum weir__log_format format,
                              struct weir__log_clock *clock, char *line, size_t size);

#endif
