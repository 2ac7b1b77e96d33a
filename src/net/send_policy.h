/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_NET_SEND_POLICY_H
#define WEIR_NET_SEND_POLICY_H

/*
 * How each send goes to the kernel: which of its ways, and in pieces of what size. One for each loop. Pure: it is
 * asked, and told what became of it. docs/performance.md has the measurements behind the numbers.
 */

#include <stdbool.h>
#include <stdint.h>

#include <weir/address.h>
#include <weir/loop.h>
#include <weir/send.h>

/* Smaller sends are copied: pinning pages and the notice cost more than the copy. */
#define WEIR__ZEROCOPY_BYTES_MIN (16u << 10)
/*
 * More goes in several sends: the kernel counts all that a send asks for against RLIMIT_MEMLOCK (8 MiB for most users),
 * though it takes no more of it than there is room for.
 */
#define WEIR__ZEROCOPY_BYTES_MAX (1u << 20)
/* Parts of a send smaller than this, such as a response's head, are copied even next to a pinned body. */
#define WEIR__ZEROCOPY_PART_MIN 4096u
/* With AUTO, of the bytes that may be pinned, the share of one connection. */
#define WEIR__ZEROCOPY_STREAM_SHARE 8
/* With AUTO, how long memory may be held for a notice, by the connection's round trip: more is copied ... */
#define WEIR__ZEROCOPY_RTT_MAX_US 200000u
/* ... or much less, once half of what may be pinned is. */
#define WEIR__ZEROCOPY_RTT_BUSY_MAX_US 20000u
/* A route on which the kernel copied is left alone for this long, then tried again; twice as long each time, up to ... */
#define WEIR__ROUTE_RETRY_NS     UINT64_C(10000000000)
#define WEIR__ROUTE_RETRY_MAX_NS UINT64_C(640000000000)
/* So many sends in a row must have been copied before a route that has had zero copy is left alone. */
#define WEIR__ROUTE_COPIES_MAX 4
#define WEIR__ROUTES           64
/*
 * Of a file, for a congestion control that paces (bbr): a piece is then a packet of its own, of up to 64 KiB with its
 * headers, and what does not fit makes a small one. Others cost the less the larger the pieces are.
 */
#define WEIR__PACED_PIECE_BYTES (48u << 10)
/* After a refusal the kernel is not asked again for a while: each costs a call in vain. */
#define WEIR__REFUSED_PAUSE_NS UINT64_C(100000000)

/* What is known of a way to peers: those of one network behind one local address. */
struct weir__route {
    uint64_t key;             /* 0 = unused */
    uint64_t closed_until_ns; /* 0 = open */
    uint64_t retry_ns;
    uint32_t tries;  /* sends with pins that have not been told of */
    uint32_t copies; /* in a row */
    bool pays;       /* a notice said so */
};

struct weir__send_policy {
    enum weir_zerocopy mode;
    uint64_t pinned_bytes_max;
    uint64_t refused_until_ns;
    struct weir__route routes[WEIR__ROUTES];
    size_t file_piece_bytes; /* 0 = no bound */
    struct weir_send_info info;
};

void weir__send_policy_init(struct weir__send_policy *policy, enum weir_zerocopy mode,
                            uint64_t pinned_bytes_max);

/*
 * What the loop's connections have for congestion control, as "bbr", or "" if it is not known: those of a listener,
 * as it starts. Decides on the size of a file's pieces; a route of the system's with another one is not seen.
 */
void weir__send_policy_congestion(struct weir__send_policy *policy, const char *name);
/* How much of a file to give to the kernel by one call; 0 = as much as there is. */
size_t weir__send_policy_piece(const struct weir__send_policy *policy);

/* The route between two addresses; never NULL. Valid as long as the policy, though others may share or take it over. */
struct weir__route *weir__send_policy_route(struct weir__send_policy *policy,
                                            const struct weir_address *local,
                                            const struct weir_address *peer);

/* The one of all streams of the loop; made when first asked for. NULL when memory is out. */
struct weir__send_policy *weir__loop_send_policy(struct weir_loop *loop);

/* One send that is about to be made. */
struct weir__send_question {
    uint64_t bytes;
    bool file, kernel_tls;
    bool head;                 /* small parts alone, with a big one behind them */
    struct weir__route *route; /* NULL: not known, ask for it if the answer depends on it */
    uint64_t pinned_bytes;     /* of this connection */
    uint32_t rtt_us;           /* 0 = not known */
    uint64_t now_ns;
};

struct weir__send_answer {
    enum weir_send_reason reason;
    bool needs_route; /* ask again with `route` */
};

/* Decides, and counts nothing. */
struct weir__send_answer weir__send_policy_ask(const struct weir__send_policy *policy,
                                               const struct weir__send_question *question);
/* The send was made as answered, and took `bytes`. */
void weir__send_policy_sent(struct weir__send_policy *policy, enum weir_send_reason reason,
                            uint64_t bytes);
/* A send with a pin goes out by this route, which may be NULL. */
void weir__send_policy_tried(struct weir__send_policy *policy, struct weir__route *route);
/* Of the bytes that are pinned, `now` take the place of `before`. */
void weir__send_policy_pinned(struct weir__send_policy *policy, uint64_t before, uint64_t now);
/*
 * What became of such a send of `bytes`: `result` is an enum weir__pin_result. Once for each that was tried. `arrived`:
 * the peer has them, so that USED says something of the route.
 */
void weir__send_policy_released(struct weir__send_policy *policy, struct weir__route *route,
                                uint64_t bytes, int result, bool arrived, uint64_t now_ns);

#endif
