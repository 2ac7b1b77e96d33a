/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_SERVER_CONNECTION_H
#define WEIR_SERVER_CONNECTION_H

/* An HTTP/1.1 or 1.0 connection of the file server: requests in, transactions out. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <weir/address.h>
#include <weir/stream.h>
#include <weir/timer.h>

#include "core/list.h"
#include "http/h1.h"
#include "server/service.h"

/*
 * Responses that one connection may have in the works, undelivered ones included. A client that
 * pipelines more is read no further until one of them has ended.
 */
#define WEIR__CONNECTION_PIPELINE_MAX 64

/*
 * Text of requests, kept for the log, that one connection may cause before it is read no further. A few
 * heads may be as long as they like; 64 of them would be two megabytes for each connection.
 */
#define WEIR__CONNECTION_TEXT_MAX (64u * 1024u)

/* A request body is of no use to a file server. So much of one is read to keep the connection. */
#define WEIR__CONNECTION_BODY_DISCARD_MAX (1024u * 1024u)

/* How long a peer may take to close after our FIN and the delivery of everything. */
#define WEIR__CONNECTION_LINGER_MS 2000

struct weir__connection {
    struct weir__list link; /* service->connections, or waiting */
    struct weir__service *service;
    struct weir_stream *stream;
    struct weir__list transactions;
    unsigned transaction_count;
    size_t text_bytes; /* allocated by the transactions */

    struct weir__h1_parser parser;
    struct weir__h1_body body;
    uint64_t body_bytes;
    struct weir__request *saved_request; /* of a head that came in pieces */
    char *input;                         /* bytes not consumed yet; NULL if there are none */
    size_t input_length, input_size;
    uint64_t input_arrived_ns; /* of its first byte */

    bool tls;     /* its bytes are under TLS */
    bool counted; /* in the service's metrics */
    bool waiting; /* for its turn: nothing is read from it */
    bool in_body;
    bool blocked;     /* read_stop, because of one of the bounds above */
    bool last;        /* no request after the ones in the works: input is discarded */
    bool input_ended; /* the peer's FIN */
    bool peer_done;   /* its last request says that it sends nothing more (RFC 9112 section 9.6) */
    bool closing;

    struct weir_timer timer;
    uint64_t deadline_ns; /* the timer looks at it when it expires, and goes on */
    uint64_t rate_taken;  /* of the wire, by the peer, when the present rate window began */
    uint64_t rate_owed;   /* of responses: bytes the peer had yet to take then */
    bool rate_assumed;    /* `rate_taken` may be more than the peer had taken */

    uint64_t queued_bytes; /* of responses, given to the stream since it began */
    uint64_t wire_bytes;   /* of the wire, taken by the kernel for responses that were accepted */
    uint64_t info_ns;      /* when the two below were asked for; 0 = never */
    uint32_t rtt_us, retransmits;
    char peer[WEIR_ADDRESS_TEXT_MAX];
};

/*
 * Takes a new stream over, with TLS if `tls`; beyond the service's limit it waits, as it would in the kernel's
 * backlog. On WEIR_ENOMEM the stream has been aborted.
 */
int weir__connection_start(struct weir__service *service, struct weir_stream *stream, bool tls);

/* One that waits has its turn. */
void weir__connection_admit(struct weir__connection *connection);

/* For a draining server: closes it now if it is idle, else after the response in progress. */
void weir__connection_drain(struct weir__connection *connection);

/* Resets it; transactions in progress are logged as aborted. */
void weir__connection_abort(struct weir__connection *connection);

/* For the transaction. */
void weir__connection_transaction_ended(struct weir__connection *connection);
/* Counts it in the service's metrics, once; what its TLS came to is known by then. */
void weir__connection_count(struct weir__connection *connection);
/* Has rtt_us and retransmits not older than a few milliseconds, where the kernel tells them. */
void weir__connection_refresh_info(struct weir__connection *connection);

#endif
