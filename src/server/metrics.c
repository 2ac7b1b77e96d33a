/* SPDX-License-Identifier: Apache-2.0 */
#include "server/metrics.h"

#include <assert.h>
#include <string.h>

#include <weir/tls.h>

#include "http/writer.h"

#define NS_PER_S 1000000000u

static const struct {
    uint64_t ns;
    const char *text; /* seconds, in the canonical form of OpenMetrics */
} bounds[WEIR__HISTOGRAM_BOUNDS] = {
    {100000, "0.0001"},    {250000, "0.00025"},   {500000, "0.0005"},      {1000000, "0.001"},
    {2500000, "0.0025"},   {5000000, "0.005"},    {10000000, "0.01"},      {25000000, "0.025"},
    {50000000, "0.05"},    {100000000, "0.1"},    {250000000, "0.25"},     {500000000, "0.5"},
    {1000000000, "1.0"},   {2500000000, "2.5"},   {5000000000, "5.0"},     {10000000000, "10.0"},
    {25000000000, "25.0"}, {50000000000, "50.0"}, {100000000000, "100.0"},
};

static const char *const protocols[WEIR__METRICS_PROTOCOLS] = {
    [WEIR__METRICS_NO_PROTOCOL] = "none",
    [WEIR__METRICS_HTTP_1_0] = "HTTP/1.0",
    [WEIR__METRICS_HTTP_1_1] = "HTTP/1.1",
};

/* As the access log says it. */
static const char *const ktls_ways[WEIR__METRICS_KTLS_WAYS] = {
    [WEIR__METRICS_KTLS_NONE] = "none",
    [WEIR__METRICS_KTLS_TX] = "tx",
    [WEIR__METRICS_KTLS_TX_RX] = "tx+rx",
};

static const char *const vendors[WEIR__METRICS_VENDORS] = {
    "none", "openssl", "gnutls", "wolfssl", "mbedtls",
};

/* ---- counting ---- */

void weir__histogram_add(struct weir__histogram *histogram, uint64_t elapsed_ns)
{
    unsigned bucket = 0;

    while (bucket < WEIR__HISTOGRAM_BOUNDS && elapsed_ns > bounds[bucket].ns)
        bucket++;
    histogram->counts[bucket]++;
    histogram->sum_ns += elapsed_ns;
}

void weir__metrics_count_request(struct weir__metrics *metrics,
                                 enum weir__metrics_protocol protocol, unsigned status)
{
    assert(status >= WEIR__METRICS_STATUS_MIN);
    assert(status <= WEIR__METRICS_STATUS_MAX);
    metrics->requests[protocol][status - WEIR__METRICS_STATUS_MIN]++;
}

void weir__metrics_count_connection(struct weir__metrics *metrics, const struct weir_tls_info *tls)
{
    unsigned vendor = 0;
    enum weir__metrics_ktls ktls = WEIR__METRICS_KTLS_NONE;

    if (tls) {
        vendor = WEIR__METRICS_VENDORS - 1;
        while (vendor > 0 && strcmp(vendors[vendor], tls->vendor) != 0)
            vendor--;
        if (tls->kernel_tx)
            ktls = tls->kernel_rx ? WEIR__METRICS_KTLS_TX_RX : WEIR__METRICS_KTLS_TX;
    }
    metrics->connections[vendor][ktls]++;
}

void weir__metrics_add(struct weir__metrics *sum, const struct weir__metrics *metrics)
{
    /* There is nothing but numbers of 64 bits in it. */
    _Static_assert(sizeof(*sum) % sizeof(uint64_t) == 0, "an array of numbers");
    uint64_t *to = (uint64_t *)(void *)sum;
    const uint64_t *from = (const uint64_t *)(const void *)metrics;

    for (size_t i = 0; i < sizeof(*sum) / sizeof(*to); i++)
        to[i] += from[i];
}

/* ---- the text ---- */

static void put(struct weir__writer *writer, const char *text)
{
    weir__write_string(writer, text);
}

/* ` 17` and the end of a line. */
static void put_value(struct weir__writer *writer, uint64_t value)
{
    put(writer, " ");
    weir__write_number(writer, value, 10);
    put(writer, "\n");
}

static void put_about(struct weir__writer *writer, const char *kind, const char *family,
                      const char *text)
{
    put(writer, kind);
    put(writer, family);
    put(writer, " ");
    put(writer, text);
    put(writer, "\n");
}

/* The lines before the samples of a family. `unit` NULL: none. */
static void put_family(struct weir__writer *writer, const char *family, const char *type,
                       const char *unit, const char *help)
{
    put_about(writer, "# TYPE ", family, type);
    if (unit)
        put_about(writer, "# UNIT ", family, unit);
    put_about(writer, "# HELP ", family, help);
}

/* `name{first="a",second="b"} 17`; `second` may be NULL. Nothing of ours needs an escape. */
static void put_sample(struct weir__writer *writer, const char *name, const char *first,
                       const char *first_value, const char *second, const char *second_value,
                       uint64_t value)
{
    put(writer, name);
    put(writer, "{");
    put(writer, first);
    put(writer, "=\"");
    put(writer, first_value);
    if (second) {
        put(writer, "\",");
        put(writer, second);
        put(writer, "=\"");
        put(writer, second_value);
    }
    put(writer, "\"}");
    put_value(writer, value);
}

static void put_counter(struct weir__writer *writer, const char *family, const char *unit,
                        const char *help, uint64_t value)
{
    put_family(writer, family, "counter", unit, help);
    put(writer, family);
    put(writer, "_total");
    put_value(writer, value);
}

static void put_gauge(struct weir__writer *writer, const char *family, const char *unit,
                      const char *help, uint64_t value)
{
    put_family(writer, family, "gauge", unit, help);
    put(writer, family);
    put_value(writer, value);
}

static void put_seconds(struct weir__writer *writer, uint64_t ns)
{
    uint64_t part = ns % NS_PER_S;

    put(writer, " ");
    weir__write_number(writer, ns / NS_PER_S, 10);
    put(writer, ".");
    for (uint64_t digit = NS_PER_S / 10; digit > 0; digit /= 10)
        weir__write_number(writer, part / digit % 10, 10);
    put(writer, "\n");
}

static void put_histogram(struct weir__writer *writer, const char *family, const char *help,
                          const struct weir__histogram *histogram)
{
    uint64_t count = 0;

    put_family(writer, family, "histogram", "seconds", help);
    for (unsigned i = 0; i <= WEIR__HISTOGRAM_BOUNDS; i++) {
        count += histogram->counts[i];
        put(writer, family);
        put_sample(writer, "_bucket", "le", i < WEIR__HISTOGRAM_BOUNDS ? bounds[i].text : "+Inf",
                   NULL, NULL, count);
    }
    put(writer, family);
    put(writer, "_count");
    put_value(writer, count);
    put(writer, family);
    put(writer, "_sum");
    put_seconds(writer, histogram->sum_ns);
}

static void put_requests(struct weir__writer *writer, const struct weir__metrics *metrics)
{
    put_family(writer, "weir_requests", "counter", NULL,
               "Transactions that ended, as in the access log.");
    for (unsigned protocol = 0; protocol < WEIR__METRICS_PROTOCOLS; protocol++) {
        for (unsigned i = 0; i < WEIR__METRICS_STATUSES; i++) {
            unsigned status = i + WEIR__METRICS_STATUS_MIN;
            const char text[] = {(char)('0' + status / 100), (char)('0' + status / 10 % 10),
                                 (char)('0' + status % 10), '\0'};

            if (metrics->requests[protocol][i] > 0)
                put_sample(writer, "weir_requests_total", "status", text, "protocol",
                           protocols[protocol], metrics->requests[protocol][i]);
        }
    }
}

static void put_connections(struct weir__writer *writer, const struct weir__metrics *metrics)
{
    put_gauge(writer, "weir_connections_open", NULL, "Connections, those of the admin left out.",
              metrics->connections_open);
    put_family(writer, "weir_connections", "counter", NULL,
               "Connections since the start: plain ones when accepted, those with TLS when their "
               "first response or they themselves ended.");
    for (unsigned vendor = 0; vendor < WEIR__METRICS_VENDORS; vendor++) {
        for (unsigned ktls = 0; ktls < WEIR__METRICS_KTLS_WAYS; ktls++) {
            uint64_t count = metrics->connections[vendor][ktls];

            if (count > 0 || vendor + ktls == 0)
                put_sample(writer, "weir_connections_total", "tls_vendor", vendors[vendor], "ktls",
                           ktls_ways[ktls], count);
        }
    }
}

/* What was to go without a copy counts once it is known how it went. */
static uint64_t bytes_by(const struct weir_send_info *send, enum weir_send_way way)
{
    uint64_t bytes = way == WEIR_SEND_COPY ? send->refused_bytes : 0;

    if (way == WEIR_SEND_ZEROCOPY)
        return send->used_bytes;
    if (way == WEIR_SEND_COPIED)
        return send->copied_bytes;
    for (unsigned reason = 0; reason < WEIR_SEND_REASONS; reason++)
        bytes += weir_send_reason_way(reason) == way ? send->bytes[reason] : 0;
    return bytes;
}

static void put_tx_bytes(struct weir__writer *writer, const struct weir_send_info *send)
{
    static const enum weir_send_way ways[] = {WEIR_SEND_COPY, WEIR_SEND_ZEROCOPY, WEIR_SEND_COPIED,
                                              WEIR_SEND_FILE, WEIR_SEND_KERNEL_TLS};

    put_family(writer, "weir_tx_bytes", "counter", "bytes",
               "Bytes that the kernel took, by how; with kernel TLS of plaintext. Zero copy counts "
               "when the memory is released.");
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
        put_sample(writer, "weir_tx_bytes_total", "send", weir_send_way_name(ways[i]), NULL, NULL,
                   bytes_by(send, ways[i]));
}

static void put_send(struct weir__writer *writer, const struct weir_send_info *send)
{
    put_tx_bytes(writer, send);
    put_family(writer, "weir_send_decisions", "counter", NULL,
               "Sends, by the way that was chosen and why.");
    for (unsigned reason = 0; reason < WEIR_SEND_REASONS; reason++)
        put_sample(writer, "weir_send_decisions_total", "send",
                   weir_send_way_name(weir_send_reason_way(reason)), "reason",
                   weir_send_reason_name(reason), send->sends[reason]);
    put_gauge(writer, "weir_zerocopy_pinned_bytes", "bytes",
              "Memory that the kernel sends from and has not released.", send->pinned_bytes);
    put_counter(writer, "weir_zerocopy_copied", NULL,
                "Sends that were to go without a copy and that the kernel copied on the way.",
                send->zerocopy_copied);
    put_counter(writer, "weir_zerocopy_refused", NULL,
                "Sends that were to go without a copy and for which the kernel had no memory.",
                send->zerocopy_refused);
}

size_t weir__metrics_format(const struct weir__metrics *metrics, char *text)
{
    struct weir__writer writer = {.at = text, .end = text + WEIR__METRICS_TEXT_MAX};

    put_histogram(&writer, "weir_request_accepted_seconds",
                  "From a request's first byte until the kernel took the response's last.",
                  &metrics->accepted);
    put_histogram(&writer, "weir_request_delivered_seconds",
                  "From a request's first byte until the peer had the response's last.",
                  &metrics->delivered);
    put_requests(&writer, metrics);
    put_counter(
        &writer, "weir_delivery_unknown", NULL,
        "Responses that the kernel took, and of which it is not known whether they arrived.",
        metrics->delivery_unknown);
    put_connections(&writer, metrics);
    put_send(&writer, &metrics->send);
    put(&writer, "# EOF\n");
    return (size_t)(writer.at - text);
}
