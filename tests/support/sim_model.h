/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TESTS_SIM_MODEL_H
#define WEIR_TESTS_SIM_MODEL_H

/*
 * The model that judges a random program on the sim engine: what each callback may say, given what
 * really happened on the wire. The program itself is tests/sim/stream_sim_test.c.
 */

#include <stdbool.h>
#include <stdint.h>

#include <weir/weir.h>

#include "engine/sim.h"
#include "support/sim_wire.h"

/* As many as make the pools grow. */
#define CONNECTIONS_MAX 24
#define ENDS_MAX        (2 * CONNECTIONS_MAX)
#define WRITES_MAX      256
#define WRITE_BYTES_MAX (1u << 20)
/* Bytes repeat with a prime period, so that no shift by a power of two goes unseen. */
#define PATTERN_PERIOD 65521u
#define PATTERN_BYTES  (PATTERN_PERIOD + WRITE_BYTES_MAX)
#define NS_PER_MS      1000000u

struct end;

struct record {
    struct end *end;
    uint64_t from, to;   /* of the bytes of its direction */
    uint64_t file_bytes; /* of these, the last ones */
    unsigned asked, told;
    bool over, failed;
    int error;
    void *copy;
    uint64_t copy_bytes;
};

/* One side of a connection. */
struct end {
    unsigned number;
    bool is_client;
    struct weir_stream *stream; /* NULL before it began and after on_close */
    const struct weir__sim_flow *out, *in;
    const struct wire *wire_out, *wire_in; /* what they carry; NULL without TLS */
    uint32_t phase;                        /* of the pattern, the same on both ends */
    struct weir_timer act_timer;
    uint64_t act_due_ns;
    unsigned budget;
    bool open, reading, input_ended;
    bool shut_called, close_called, abort_called;
    bool truncates;            /* a write promised more than its file has */
    bool tls;                  /* there is TLS on the stream */
    bool kernel_tx, kernel_rx; /* the kernel does it */
    unsigned key_updates;      /* asked for */
    uint64_t began_ns, read_began_ns, close_by_ns, closed_ns;
    uint64_t queued, received;
    int reason;
    struct record records[WRITES_MAX];
    unsigned record_count;
};

/* What is drawn of TLS; see sim_tls.h. */
struct sim_tls {
    bool on;
    bool tampers, cuts,
        storms;  /* there may be some: changed bytes, ends without close_notify, many KeyUpdates */
    bool kernel; /* the kernel has TLS */
    bool cannot_rekey; /* the bound of records ends a connection */
    struct weir_tls_context *server, *client;
    uint64_t handshake_timeout_ms;
    struct wire wires[ENDS_MAX];
    unsigned wire_count;
    uint8_t resumption[WEIR_TLS_RESUMPTION_MAX];
    size_t resumption_length;
};

struct sim_world {
    uint64_t seed;
    uint64_t random_state;
    struct weir__sim_options options;
    struct weir_stream_options stream_options;
    struct weir__engine *engine;
    struct weir_loop *loop;
    struct weir_address server;
    struct weir_listener *listener;
    struct weir_timer connect_timer, listener_timer;
    bool listener_close_called, listener_closed, listener_paused;
    uint64_t began_ns;
    unsigned connections, connects_left;
    struct end *ends[ENDS_MAX];
    unsigned end_count;
    enum weir_zerocopy zerocopy;
    uint64_t pinned_bytes_max;
    unsigned oom;   /* chance of an allocation's failure, in thousandths */
    unsigned abort; /* chance of an abort */
    bool clean;     /* nothing goes wrong: everything must be delivered */
    bool delivery;
    bool descriptors_run_out, silences, resets; /* there may be some */
    bool exact;                                 /* no stamp is lost, shared or late */
    bool pauses;                                /* of the listener */
    bool inside;                                /* a call of the library that must not call back */
    bool burst;                                 /* connections come all at once */
    unsigned posts;
    bool failed;
    struct sim_tls tls;
    void (*react)(struct end *end); /* from within callbacks: the program does something more */
};
extern struct sim_world world;

/* What all seeds together have seen; a test that never saw a reset proves nothing about resets. */
struct sim_seen {
    uint64_t by_tx_ack, by_tcp_info, unknown, failed_reset, failed_timeout, failed_abort,
        failed_memory;
    uint64_t closed_well, ends_told, beyond_4gib, accept_failures, queue_full, truncated, bytes;
    uint64_t tls_1_2, tls_1_3, tls_resumed, tls_ciphers[4], tls_delivered, tls_failed_partly;
    uint64_t updates_asked, updates_unasked, cut_off, tampered, tampered_handshakes;
    uint64_t kernel_tx, kernel_rx;
    uint64_t records_ran_out, storms, handshakes_late;
    uint64_t released_before_delivered, released_after_delivered, failed_pinned, zerocopy_tls;
    struct weir_send_info sends;
};
extern struct sim_seen seen;

extern uint8_t pattern[PATTERN_BYTES];

/* Draws of the seed's own randomness. */
uint64_t below(uint64_t limit);
bool chance(unsigned per_mille);
uint64_t now(void);
/* A seed in which a condition does not hold has failed; the first is printed, with how to run it again. */
void expect(bool condition, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The callbacks of every stream and write; the context of a stream is its end, of a write its record. */
extern const struct weir_stream_handler model_handler;
void model_on_stage(struct weir_stream *stream, void *context,
                    const struct weir_write_event *event);
void model_check_info(const struct end *end, const struct weir_delivery_info *info);
/* Looks the flows up, once they are there. */
void model_flows_find(struct end *end);
/* The memory of a write that is released: whoever still reads it reads rubbish. */
void model_spoil(struct record *record);
/* Once all streams are closed. */
void model_check_resets(void);
void model_check_sends(void);
/* Whether everything was seen that there is to see; prints the counts. */
bool model_check_seen(void);

#endif
