/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_ENGINE_SIM_INTERNAL_H
#define WEIR_ENGINE_SIM_INTERNAL_H

/*
 * What the sim engine's sources share: sim.c (operations, time), sim_options.c, sim_socket.c, sim_flow.c (TCP),
 * sim_pin.c (zero copy), sim_tls.c.
 */

#include "engine/sim.h"

/* Of a segment or ACK: Linux's minimal retransmission timeout. */
#define SIM_RTO_NS_MIN 200000000u
#define SIM_MSEC_NS    1000000u

enum sim_event_kind {
    SIM_EVENT_POKE, /* nothing but that the operations are looked at again */
    SIM_EVENT_SYN,
    SIM_EVENT_CONNECTED,
    SIM_EVENT_REFUSED,
    SIM_EVENT_ESTABLISHED,
    SIM_EVENT_CONNECT_TIMEOUT,
    SIM_EVENT_SEND,
    SIM_EVENT_RESEND,
    SIM_EVENT_ARRIVE,
    SIM_EVENT_DELAYED_ACK,
    SIM_EVENT_ACK,
    SIM_EVENT_RST,
    SIM_EVENT_TIMEOUT,
    SIM_EVENT_FAULT_RESET,
    SIM_EVENT_FAULT_SILENCE,
};

struct sim_socket;
struct sim_tls;

struct sim_event {
    uint64_t at_ns;
    uint64_t sequence; /* events of one moment happen in the order in which they were scheduled */
    enum sim_event_kind kind;
    struct sim_socket *socket;
    struct weir__sim_flow *flow;
    uint64_t value; /* RESEND, ARRIVE, ACK: the offset */
    uint64_t start; /* RESEND: of the segment */
    uint64_t edge;  /* ACK: the receive window's end */
    bool fin;       /* ARRIVE, ACK */
};

/* A step of a count that only grows, and when it was taken. */
struct sim_mark {
    uint64_t end;
    uint64_t at_ns;
};

struct sim_marks {
    struct sim_mark *marks;
    size_t count, capacity;
};

/* Bytes that had a pin, and what became of it. */
struct sim_pinned {
    uint64_t start, end;
    enum weir__pin_result result;
};

struct sim_stamp {
    struct weir__stamp stamp;
    uint64_t visible_ns;
};

struct sim_stamp_wish {
    uint64_t end;
    bool sent_done;
};

/* One direction of a connection. accepted >= sent >= arrived >= acked, arrived >= read. */
struct weir__sim_flow {
    struct sim_socket *from, *to;
    struct weir__sim_flow *reverse;
    unsigned number;

    uint64_t accepted, sent, arrived, acked, read;
    uint64_t edge; /* the sender may send up to here */
    bool fin_wanted, fin_sent, fin_arrived, fin_acked;
    bool stopped; /* the sender sends no more */
    bool silent;
    bool sending, ack_delayed, timeout_armed;
    unsigned segments_not_acked;

    uint64_t delay_ns, bandwidth;
    uint32_t segment_bytes, window_bytes, send_buffer, receive_buffer;
    uint64_t link_free_ns, arrival_last_ns, ack_last_ns, progress_ns;
    uint32_t retransmits;
    bool copies; /* what is pinned is copied on its way ... */
    uint64_t
        copies_until; /* ... or is not, before this offset, and the other way round from it on */

    uint8_t *ring; /* the bytes from max(read, virtual_bytes) to accepted, at offset % ring_bytes */
    uint64_t ring_bytes;
    struct sim_stamp_wish *wishes;
    size_t wish_count, wish_capacity;
    struct sim_marks departures, arrivals, acks;
    struct sim_pinned *pinned;
    size_t pinned_count, pinned_capacity;
};

enum sim_state {
    SIM_FRESH,
    SIM_LISTENING,
    SIM_CONNECTING,
    SIM_CONNECTED,
    SIM_DEAD, /* `error` says why */
};

struct sim_socket {
    unsigned number; /* in the trace, never used again */
    int handle;      /* -1 = not (or not any longer) in the program's hands */
    enum sim_state state;
    int error;
    bool closed;   /* the program has closed it; the kernel may still be sending */
    bool aborted;  /* no operation may follow */
    bool prepared; /* receive and transmit stamps are wanted */
    bool stamps;
    uint64_t established_ns;
    struct weir_address local, peer;
    struct weir__sim_flow *out, *in;

    struct sim_tls *tls; /* NULL: none, in neither direction */

    struct sim_stamp *stamp_queue;
    size_t stamp_count, stamp_capacity;

    uint32_t backlog_max; /* a listener's */
    bool share_port;
    struct sim_socket **backlog;
    size_t backlog_count, backlog_capacity;
};

/* A pin that a SEND brought, from submit until it is released. */
struct sim_pin;

struct sim_region {
    const uint8_t *memory;
    size_t bytes;
};

struct sim {
    struct weir__engine engine;
    struct weir__sim_options options;
    uint64_t random_state, now_ns, steps, sequence;
    bool faults;
    int woken; /* atomic: wake may come from any thread */
    uint16_t port_next;

    struct sim_event *events; /* a binary heap */
    size_t event_count, event_capacity;
    struct weir__op **ops; /* in flight */
    size_t op_count, op_capacity;
    struct weir__op **round; /* those looked at in one `wait`, shuffled */
    size_t round_capacity;
    struct sim_socket **handles; /* NULL = free */
    size_t handle_capacity;
    unsigned handle_count;
    struct sim_socket **sockets; /* all there ever were */
    size_t socket_count, socket_capacity;
    struct weir__sim_flow **flows;
    size_t flow_count, flow_capacity;
    struct sim_pin **pins; /* held */
    size_t pin_count, pin_capacity;
    struct sim_region *regions; /* registered memory */
    size_t region_count, region_capacity;
    uint8_t *chunk; /* receive_bytes */
    uint8_t *zeros; /* the same, what has no content */
};

/* sim.c */
/* Uniform in [low, high]. */
uint64_t weir__sim_between(struct sim *sim, uint64_t low, uint64_t high);
bool weir__sim_chance(struct sim *sim, unsigned per_mille);
/* As `weir__sim_chance`, and never while faults are switched off. */
bool weir__sim_fault(struct sim *sim, unsigned per_mille);
void weir__sim_trace(struct sim *sim, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void weir__sim_schedule(struct sim *sim, uint64_t at_ns, struct sim_event event);
/* `*array` with room for one more element. The simulated machine never runs out of memory. */
void weir__sim_grow(void **array, size_t count, size_t *capacity, size_t element_bytes);

/* sim_socket.c */
struct sim_socket *weir__sim_socket_of(const struct weir__socket *socket);
void weir__sim_socket_free(struct sim_socket *socket);
int weir__sim_handle_give(struct sim *sim, struct sim_socket *socket); /* or WEIR_EMFILE */
void weir__sim_connect(struct sim *sim, struct sim_socket *socket,
                       const struct weir_address *address);
void weir__sim_socket_event(struct sim *sim, const struct sim_event *event);
/* The connection is gone, for this side. */
void weir__sim_socket_die(struct sim *sim, struct sim_socket *socket, int error);
bool weir__sim_socket_ended(
    const struct sim_socket *socket); /* neither sends nor receives, orderly */

int weir__sim_socket_listen(struct weir__engine *engine, struct weir__socket *socket,
                            const struct weir_address *address,
                            const struct weir__listen_options *options);
int weir__sim_socket_open(struct weir__engine *engine, struct weir__socket *socket, int family);
void weir__sim_socket_adopt(struct weir__engine *engine, struct weir__socket *socket, int handle);
void weir__sim_socket_prepare(struct weir__engine *engine, struct weir__socket *socket,
                              bool no_delay, bool delivery);
void weir__sim_socket_unsent_max(struct weir__engine *engine, struct weir__socket *socket,
                                 uint32_t bytes);
void weir__sim_socket_congestion(struct weir__engine *engine, const struct weir__socket *socket,
                                 char name[WEIR__CONGESTION_NAME_BYTES]);
int weir__sim_socket_shutdown(struct weir__engine *engine, struct weir__socket *socket);
void weir__sim_socket_close(struct weir__engine *engine, struct weir__socket *socket);
void weir__sim_socket_reset(struct weir__engine *engine, struct weir__socket *socket);
void weir__sim_socket_abort(struct weir__engine *engine, struct weir__socket *socket);
int weir__sim_socket_unacked(struct weir__engine *engine, struct weir__socket *socket,
                             uint64_t *bytes);
int weir__sim_socket_info(struct weir__engine *engine, struct weir__socket *socket,
                          struct weir__socket_info *info);
int64_t weir__sim_file_read(struct weir__engine *engine, int file, uint64_t offset, void *data,
                            size_t length);
int weir__sim_socket_local(struct weir__engine *engine, const struct weir__socket *socket,
                           struct weir_address *address);
int weir__sim_socket_peer(struct weir__engine *engine, const struct weir__socket *socket,
                          struct weir_address *address);

/* sim_flow.c */
/* Both directions between two sockets, with a link drawn from the options. */
void weir__sim_flow_pair(struct sim *sim, struct sim_socket *client, struct sim_socket *server);
void weir__sim_flow_free(struct weir__sim_flow *flow);
/* How many bytes the send buffer takes now. */
uint64_t weir__sim_flow_room(const struct sim *sim, const struct weir__sim_flow *flow);
/* Where the next `*length` (at most) bytes go, contiguous; NULL = they have no content. */
uint8_t *weir__sim_flow_space(struct sim *sim, struct weir__sim_flow *flow, uint64_t *length);
/* `length` bytes, in place already, were taken. The tap is told of `bytes`, unless they are NULL. */
void weir__sim_flow_append(struct sim *sim, struct weir__sim_flow *flow, uint8_t *bytes,
                           uint64_t length);
/* A stamp is wanted for the last byte taken. */
void weir__sim_flow_wish(struct weir__sim_flow *flow);
void weir__sim_flow_finish(struct sim *sim, struct weir__sim_flow *flow);
/*
 * Reads at most `length` bytes; at least one must be there. Writes nothing to `data` where they
 * have no content. Sets `at_ns` to the arrival of the last.
 */
uint64_t weir__sim_flow_read(struct sim *sim, struct weir__sim_flow *flow, uint8_t *data,
                             uint64_t length, uint64_t *at_ns);
/* Tells the other side by a RST that this one is gone. */
void weir__sim_flow_send_rst(struct sim *sim, struct weir__sim_flow *flow);
void weir__sim_flow_event(struct sim *sim, const struct sim_event *event);
/* Forgets the bytes; nobody can read them any more. */
void weir__sim_flow_drop_bytes(struct weir__sim_flow *flow);

/* sim_pin.c */
/* The operation was submitted, has taken `bytes`, is about to be completed; none has to have a pin. */
void weir__sim_pin_submitted(struct sim *sim, struct weir__op *op);
void weir__sim_pin_taken(struct sim *sim, struct weir__op *op, uint64_t bytes);
void weir__sim_pin_completed(struct sim *sim, struct weir__op *op);
/* The device reads the bytes from `start` to `end` where they lie, for the first time or `again`. */
void weir__sim_pins_transmit(struct sim *sim, struct weir__sim_flow *flow, uint64_t start,
                             uint64_t end, bool again);
/* Releases what can be. Returns whether there was any. */
bool weir__sim_pins_release(struct sim *sim);
bool weir__sim_can_zerocopy(struct weir__engine *engine);
int weir__sim_memory_register(struct weir__engine *engine, void *memory, size_t bytes);
void weir__sim_memory_unregister(struct weir__engine *engine, void *memory);

/* sim_tls.c */
void weir__sim_tls_free(struct sim_tls *tls);
bool weir__sim_tls_sends(const struct sim_socket *socket);
bool weir__sim_tls_receives(const struct sim_socket *socket);
/* Gives TCP what is kept of a record, as far as there is room. Returns whether nothing is left. */
bool weir__sim_tls_push(struct sim *sim, struct sim_socket *socket);
/* Takes bytes of a SEND or SEND_FILE, with nothing kept. Returns how many; 0: not yet; or the operation's error. */
int64_t weir__sim_tls_send(struct sim *sim, struct sim_socket *socket, const struct weir__op *op,
                           unsigned flags);
/* The next completion of a RECEIVE. Returns 1; 0: nothing is there yet; or WEIR__RECEIVE_*. */
int weir__sim_tls_receive(struct sim *sim, struct sim_socket *socket,
                          struct weir__completion *completion);
int weir__sim_socket_tls_attach(struct weir__engine *engine, struct weir__socket *socket,
                                enum weir__tls_direction direction,
                                const struct weir__tls_keys *keys);
int weir__sim_socket_tls_sequence(struct weir__engine *engine, struct weir__socket *socket,
                                  uint64_t *sequence);
bool weir__sim_tls_can_rekey(struct weir__engine *engine);

#endif
