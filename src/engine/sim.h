/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_ENGINE_SIM_H
#define WEIR_ENGINE_SIM_H

/*
 * The sim engine: a kernel and a network within one process, made from one seed. Both ends of every
 * connection live in the same engine, time is virtual, and the same seed under the same program
 * gives the same trace, always. Single-threaded, but for `wake`.
 *
 * What it keeps for the simulated machine (sockets, bytes, events) is not libweir's memory: it comes from
 * the C library, so that a test can make libweir's allocations fail, or count them, without the kernel
 * being in the way.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <weir/address.h>

#include "engine/engine.h"

struct weir__sim_flow;
struct weir__tls_vendor;

/* Chances are in thousandths; 0 = never. Ranges are drawn from once for each connection. */
struct weir__sim_options {
    uint64_t seed;
    FILE *trace;        /* one line for each event, or NULL */
    uint64_t steps_max; /* events and completions after which `wait` gives up: a livelock */

    /* The link, each way. */
    uint64_t delay_ns_min, delay_ns_max;   /* one way */
    uint64_t bandwidth_min, bandwidth_max; /* bytes per second */
    uint64_t send_latency_ns_max; /* from the socket to the wire: small writes meet there */
    uint32_t segment_bytes_min, segment_bytes_max;
    uint32_t window_bytes_min, window_bytes_max; /* congestion window */
    unsigned loss; /* of a segment or an ACK: it comes a retransmission timeout later */

    /* The hosts. */
    uint32_t send_buffer_min, send_buffer_max;
    uint32_t receive_buffer_min, receive_buffer_max;
    uint64_t ack_delay_ns_max; /* of a delayed ACK: at most 40 ms on Linux */
    uint64_t timeout_ns;       /* without an answer the connection dies: WEIR_ETIMEDOUT */
    uint32_t receive_bytes;    /* at most so many in one completion */
    uint32_t handles_max;      /* then WEIR_EMFILE */
    bool info;                 /* socket_info works */
    bool info_counts_fin;      /* bytes_acked is one more once the FIN is acknowledged */
    bool stamps;               /* transmit stamps can be had */

    /* Awkwardness: legal, but seldom seen. */
    unsigned short_send;    /* a SEND takes a part of what there is room for */
    unsigned short_receive; /* a chunk is cut at a random point */
    unsigned defer;         /* an operation is not looked at for a while */
    unsigned
        send_late; /* SEND completes a while after the bytes were taken, perhaps after their ACK */
    uint64_t defer_ns_max;
    unsigned shuffle; /* completions of one `wait` come in random order */

    /* Stamps. */
    unsigned stamp_loss;
    unsigned stamp_coalesce; /* of two in one segment the earlier is lost */
    unsigned stamp_late;
    uint64_t stamp_late_ns_max;
    uint32_t stamp_queue_max; /* unread stamps of one socket; more are dropped without a word */

    /* Faults. */
    unsigned send_enobufs;
    unsigned accept_emfile;
    unsigned open_emfile;
    unsigned connect_silence;    /* SYN unanswered */
    unsigned connection_reset;   /* RST to both sides, at a random time */
    unsigned connection_silence; /* from a random time on, one way or both ways */
    uint64_t fault_ns_max;       /* when: at most so long after the connection was made */

    /* Zero copy. */
    bool zerocopy;          /* can_zerocopy */
    unsigned copies;        /* of a direction of a connection: its route has no zero copy */
    unsigned copies_change; /* ... at some time within its first MiB that changes */
    unsigned pin_refused;
    uint64_t pinned_bytes_max; /* more is refused: RLIMIT_MEMLOCK */
    uint32_t pins_max; /* of one socket, notices not read counted: more is refused, by optmem_max */
    unsigned notice_late;
    uint64_t notice_late_ns_max;
    unsigned notice_coalesce; /* a notice waits for that of a later send */
    unsigned register_refused;

    /* Kernel TLS, with this library's ciphers; NULL = there is none. */
    const struct weir__tls_vendor *tls;
    unsigned tls_tx_ciphers, tls_rx_ciphers; /* 1 << enum weir__tls_cipher each */
    bool tls_rekey;                          /* keys can be changed: Linux 6.14 */

    /*
     * So many bytes at the beginning of each direction have no content: they are not copied, cross
     * a very fast link, and arrive as zeros. Connections beyond 4 GiB cost nothing so.
     */
    uint64_t virtual_bytes;

    /*
     * Told of the bytes that a host gives to the wire, in order, before they leave, and of kernel TLS's
     * records when they are made; it may change them, as anybody on the way could. Not of those without
     * content. NULL = nobody.
     */
    void (*tap)(void *tap_context, const struct weir__sim_flow *flow, uint8_t *bytes,
                uint64_t length);
    void *tap_context;
};

/* A quick network without faults or awkwardness. */
void weir__sim_options_init(struct weir__sim_options *options, uint64_t seed);
/* Everything above drawn from the seed: each fault is there in some seeds, and absent in others. */
void weir__sim_options_draw(struct weir__sim_options *options, uint64_t seed);

extern const struct weir__engine_ops weir__sim_engine;

/* Returns 0 or WEIR_ENOMEM. ops->open makes an engine with weir__sim_options_init and seed 1. */
int weir__sim_new(const struct weir__sim_options *options, struct weir__engine **engine);

/* Stops (or restarts) every fault and all awkwardness, but for connections doomed already. */
void weir__sim_set_faults(struct weir__engine *engine, bool enabled);

/* Events and completions so far. */
uint64_t weir__sim_steps(const struct weir__engine *engine);
/* Sockets whose owner has not closed them; an orderly program leaves none. */
unsigned weir__sim_open_handles(const struct weir__engine *engine);

/*
 * What really happened to the bytes from one address to another: the ground truth for a model. A
 * flow lives as long as its engine, longer than its sockets.
 */
/* NULL if there never was such a connection. */
const struct weir__sim_flow *weir__sim_flow_find(const struct weir__engine *engine,
                                                 const struct weir_address *from,
                                                 const struct weir_address *to);
uint64_t weir__sim_flow_accepted(const struct weir__sim_flow *flow);
/* What kernel TLS has beside that: bytes of records, and of the owner's those in a record that is still open. */
uint64_t weir__sim_flow_kept(const struct weir__sim_flow *flow, uint64_t *open_bytes);
uint64_t weir__sim_flow_sent(const struct weir__sim_flow *flow);
uint64_t weir__sim_flow_arrived(const struct weir__sim_flow *flow);
uint64_t weir__sim_flow_acked(const struct weir__sim_flow *flow);
/*
 * When all bytes below `end` had left, had reached the peer's kernel, and when their ACK was back:
 * UINT64_MAX if that never happened.
 */
uint64_t weir__sim_flow_sent_ns(const struct weir__sim_flow *flow, uint64_t end);
uint64_t weir__sim_flow_arrived_ns(const struct weir__sim_flow *flow, uint64_t end);
uint64_t weir__sim_flow_acked_ns(const struct weir__sim_flow *flow, uint64_t end);

/*
 * How those of the bytes from `start` to `end` that were accepted went: bits of 1 << enum weir__pin_result, of which
 * REFUSED stands for what had no pin, too.
 */
unsigned weir__sim_flow_pinned(const struct weir__sim_flow *flow, uint64_t start, uint64_t end);

/* Faults on demand, from this moment on. Silence: nothing of this flow arrives any more, ever. */
void weir__sim_flow_silence(struct weir__engine *engine, const struct weir__sim_flow *flow);
void weir__sim_flow_reset(struct weir__engine *engine, const struct weir__sim_flow *flow);

#endif
