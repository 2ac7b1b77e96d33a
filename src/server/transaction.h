/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_SERVER_TRANSACTION_H
#define WEIR_SERVER_TRANSACTION_H

/*
 * One request and its response: from the plan of the response, over the stages of its writes, to one
 * line in the access log. It outlives the request's bytes, of which it copies what the log needs.
 */

#include <stdbool.h>
#include <stdint.h>

#include <weir/stream.h>

#include "core/list.h"
#include "http/message.h"
#include "server/site.h"

struct weir__connection;

/* Most requests' texts for the log fit; longer ones are allocated. */
#define WEIR__TRANSACTION_TEXT_BYTES 512

struct weir__transaction {
    struct weir__list link; /* of the connection, in the order of the requests */
    struct weir__connection *connection;
    struct weir__response response;
    bool response_held; /* until all of its writes are released */

    unsigned writes_held; /* whose memory and file the stream, or the kernel, may still read */
    bool last_released;
    bool ended;          /* the last write has told of its delivery, or never will */
    int error;           /* 0: delivered */
    uint64_t request_ns; /* the request's first byte arrived */
    uint64_t first_byte_ns, accepted_ns, sent_ns, delivered_ns; /* 0 = not (known) */
    enum weir_delivery_source delivered_by;
    uint64_t start;          /* of the connection's responses' bytes, where this one begins */
    uint64_t length;         /* header and body */
    uint64_t accepted_bytes; /* of `length` */
    uint64_t delivered_bytes;
    uint64_t wire_bytes; /* what the accepted ones are on the wire */
    uint32_t retransmits_before;
    unsigned ways; /* enum weir_send_way, of the writes that are released or failed */

    uint8_t version_major, version_minor;
    struct weir__text method, target, host, referer, user_agent;
    char *allocated_text;
    size_t allocated_bytes;
    char text[WEIR__TRANSACTION_TEXT_BYTES];
};

/*
 * Starts a transaction on a connection: the caller then fills in `response` and calls send. `request`
 * may be half parsed, after an error. NULL when memory is out.
 */
struct weir__transaction *weir__transaction_new(struct weir__connection *connection,
                                                const struct weir__request *request,
                                                uint64_t request_ns);

/*
 * Queues the response. From here on the transaction ends by itself: it is logged, tells the connection
 * by weir__connection_transaction_ended, and is freed; that may be inside this call if nothing could be
 * queued at all, and then the connection is being aborted.
 */
void weir__transaction_send(struct weir__transaction *transaction);

#endif
