/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_SERVER_METRICS_H
#define WEIR_SERVER_METRICS_H

/*
 * What a worker counts, and its text for operators: OpenMetrics 1.0. Plain numbers of one thread: who wants them
 * elsewhere has them copied there (scrape.h). Pure.
 */

#include <stddef.h>
#include <stdint.h>

#include <weir/send.h>

#define WEIR__METRICS_CONTENT_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"

/* 1, 2.5 and 5 of each decade from 100 us to 100 s. */
#define WEIR__HISTOGRAM_BOUNDS 19

struct weir__histogram {
    uint64_t counts[WEIR__HISTOGRAM_BOUNDS + 1]; /* each bound's own; the last: beyond all */
    uint64_t sum_ns;
};

enum weir__metrics_protocol {
    WEIR__METRICS_NO_PROTOCOL, /* none that could be read */
    WEIR__METRICS_HTTP_1_0,
    WEIR__METRICS_HTTP_1_1,
    WEIR__METRICS_PROTOCOLS,
};

#define WEIR__METRICS_STATUS_MIN 100
#define WEIR__METRICS_STATUS_MAX 599
#define WEIR__METRICS_STATUSES   (WEIR__METRICS_STATUS_MAX - WEIR__METRICS_STATUS_MIN + 1)

/* No TLS, and each library. */
#define WEIR__METRICS_VENDORS 5

enum weir__metrics_ktls {
    WEIR__METRICS_KTLS_NONE,
    WEIR__METRICS_KTLS_TX,
    WEIR__METRICS_KTLS_TX_RX,
    WEIR__METRICS_KTLS_WAYS,
};

struct weir__metrics {
    struct weir__histogram accepted, delivered; /* since the request's first byte */
    uint64_t requests[WEIR__METRICS_PROTOCOLS][WEIR__METRICS_STATUSES];
    uint64_t delivery_unknown;
    uint64_t connections_open;
    uint64_t connections[WEIR__METRICS_VENDORS][WEIR__METRICS_KTLS_WAYS];
    struct weir_send_info send;
};

void weir__histogram_add(struct weir__histogram *histogram, uint64_t elapsed_ns);

/* A response ended. `status` is from 100 to 599. */
void weir__metrics_count_request(struct weir__metrics *metrics,
                                 enum weir__metrics_protocol protocol, unsigned status);

struct weir_tls_info;
/* A connection; `tls` NULL: a plain one, or one whose handshake failed. */
void weir__metrics_count_connection(struct weir__metrics *metrics, const struct weir_tls_info *tls);

/* Adds each of the numbers. */
void weir__metrics_add(struct weir__metrics *sum, const struct weir__metrics *metrics);

/* Room for any text: most of it would be for each status of each protocol. */
#define WEIR__METRICS_TEXT_MAX (256u << 10)

/* Writes the text into WEIR__METRICS_TEXT_MAX bytes, without a final zero. Returns its length. */
size_t weir__metrics_format(const struct weir__metrics *metrics, char *text);

#endif
