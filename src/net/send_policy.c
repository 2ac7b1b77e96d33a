/* SPDX-License-Identifier: Apache-2.0 */
#include "net/send_policy.h"

#include <assert.h>
#include <netinet/in.h>
#include <string.h>

#include "engine/engine.h"

/* ---- names ---- */

const char *weir_send_way_name(enum weir_send_way way)
{
    switch (way) {
    case WEIR_SEND_COPY:
        return "copy";
    case WEIR_SEND_ZEROCOPY:
        return "zerocopy";
    case WEIR_SEND_COPIED:
        return "copied";
    case WEIR_SEND_FILE:
        return "file";
    case WEIR_SEND_KERNEL_TLS:
        return "ktls";
    }
    return "unknown";
}

static const struct {
    const char *name, *text;
    enum weir_send_way way;
} reasons[WEIR_SEND_REASONS] = {
    [WEIR_SEND_BECAUSE_OFF] = {"off", "zero copy is off, or not to be had", WEIR_SEND_COPY},
    [WEIR_SEND_BECAUSE_SMALL] = {"small", "pinning so little costs more than copying it",
                                 WEIR_SEND_COPY},
    [WEIR_SEND_BECAUSE_HEAD] = {"head", "small parts next to a big one", WEIR_SEND_COPY},
    [WEIR_SEND_BECAUSE_ROUTE] = {"route",
                                 "the kernel has copied on this route, or it is being tried",
                                 WEIR_SEND_COPY},
    [WEIR_SEND_BECAUSE_MEMORY] = {"memory", "as much memory is pinned as may be", WEIR_SEND_COPY},
    [WEIR_SEND_BECAUSE_SLOW] = {"slow", "the peer is so far that memory would be held for long",
                                WEIR_SEND_COPY},
    [WEIR_SEND_BECAUSE_REFUSED] = {"refused", "the kernel would pin no more a moment ago",
                                   WEIR_SEND_COPY},
    [WEIR_SEND_BECAUSE_TRIED] = {"tried", "to find out what this route does", WEIR_SEND_ZEROCOPY},
    [WEIR_SEND_BECAUSE_PAYS] = {"pays", "this route does without the copy", WEIR_SEND_ZEROCOPY},
    [WEIR_SEND_BECAUSE_ON] = {"on", "zero copy is to be used always", WEIR_SEND_ZEROCOPY},
    [WEIR_SEND_BECAUSE_FILE] = {"file", "a file's pages are sent as they are", WEIR_SEND_FILE},
    [WEIR_SEND_BECAUSE_KERNEL_TLS] = {"ktls", "the kernel encrypts from where the bytes lie",
                                      WEIR_SEND_KERNEL_TLS},
};

const char *weir_send_reason_name(enum weir_send_reason reason)
{
    return reasons[reason].name;
}

const char *weir_send_reason_text(enum weir_send_reason reason)
{
    return reasons[reason].text;
}

enum weir_send_way weir_send_reason_way(enum weir_send_reason reason)
{
    return reasons[reason].way;
}

/* ---- routes ---- */

static uint64_t mix(uint64_t hash, const void *bytes, size_t length)
{
    const uint8_t *at = bytes;

    for (size_t i = 0; i < length; i++)
        hash = (hash ^ at[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
    return hash;
}

/* Of a peer the network: one device serves all of it, and a handful of them is as good as each of its hosts. */
static uint64_t key_of(const struct weir_address *local, const struct weir_address *peer)
{
    const struct sockaddr *any = &local->socket.any;
    uint64_t key = UINT64_C(0xcbf29ce484222325);

    key = mix(key, &any->sa_family, sizeof(any->sa_family));
    if (any->sa_family == AF_INET) {
        key = mix(key, &local->socket.ipv4.sin_addr, 4);
        key = mix(key, &peer->socket.ipv4.sin_addr, 3); /* /24 */
    } else if (any->sa_family == AF_INET6) {
        const struct in6_addr *address = &peer->socket.ipv6.sin6_addr;
        key = mix(key, &local->socket.ipv6.sin6_addr, 16);
        key = mix(key, address, IN6_IS_ADDR_V4MAPPED(address) ? 15 : 6); /* /24 or /48 */
    }
    return key ? key : 1;
}

struct weir__route *weir__send_policy_route(struct weir__send_policy *policy,
                                            const struct weir_address *local,
                                            const struct weir_address *peer)
{
    uint64_t key = key_of(local, peer);
    struct weir__route *route = &policy->routes[(key ^ key >> 32) % WEIR__ROUTES];

    if (route->key != key)
        *route = (struct weir__route){.key = key, .retry_ns = WEIR__ROUTE_RETRY_NS};
    return route;
}

static void close_route(struct weir__route *route, uint64_t now_ns)
{
    route->pays = false;
    route->closed_until_ns = now_ns + route->retry_ns;
    route->retry_ns *= 2;
    if (route->retry_ns > WEIR__ROUTE_RETRY_MAX_NS)
        route->retry_ns = WEIR__ROUTE_RETRY_MAX_NS;
}

/* ---- deciding ---- */

void weir__send_policy_init(struct weir__send_policy *policy, enum weir_zerocopy mode,
                            uint64_t pinned_bytes_max)
{
    *policy = (struct weir__send_policy){.mode = mode, .pinned_bytes_max = pinned_bytes_max};
}

void weir__send_policy_congestion(struct weir__send_policy *policy, const char *name)
{
    bool paces = strncmp(name, "bbr", 3) == 0; /* bbr2, bbr3: they all do */

    policy->file_piece_bytes = paces ? WEIR__PACED_PIECE_BYTES : 0;
}

size_t weir__send_policy_piece(const struct weir__send_policy *policy)
{
    return policy->file_piece_bytes;
}

static enum weir_send_reason by_route(const struct weir__route *route, uint64_t now_ns)
{
    if (now_ns < route->closed_until_ns)
        return WEIR_SEND_BECAUSE_ROUTE;
    if (route->pays)
        return WEIR_SEND_BECAUSE_PAYS;
    /* One at a time: what a whole burst of them would lose is lost on one. */
    return route->tries == 0 ? WEIR_SEND_BECAUSE_TRIED : WEIR_SEND_BECAUSE_ROUTE;
}

/* Whether memory would be held for too long, for what is left of it. */
static bool is_slow(const struct weir__send_policy *policy, uint32_t rtt_us)
{
    bool busy = policy->info.pinned_bytes > policy->pinned_bytes_max / 2;

    return rtt_us > (busy ? WEIR__ZEROCOPY_RTT_BUSY_MAX_US : WEIR__ZEROCOPY_RTT_MAX_US);
}

static enum weir_send_reason by_memory(const struct weir__send_policy *policy,
                                       const struct weir__send_question *question)
{
    uint64_t max = policy->pinned_bytes_max, pinned = policy->info.pinned_bytes;
    bool automatic = policy->mode == WEIR_ZEROCOPY_AUTO;

    if (pinned > max || question->bytes > max - pinned)
        return WEIR_SEND_BECAUSE_MEMORY;
    if (automatic && question->pinned_bytes + question->bytes > max / WEIR__ZEROCOPY_STREAM_SHARE)
        return WEIR_SEND_BECAUSE_MEMORY;
    if (question->now_ns < policy->refused_until_ns)
        return WEIR_SEND_BECAUSE_REFUSED;
    if (automatic && is_slow(policy, question->rtt_us))
        return WEIR_SEND_BECAUSE_SLOW;
    return WEIR_SEND_BECAUSE_ON;
}

struct weir__send_answer weir__send_policy_ask(const struct weir__send_policy *policy,
                                               const struct weir__send_question *question)
{
    struct weir__send_answer answer = {.reason = WEIR_SEND_BECAUSE_ON};

    if (question->file)
        answer.reason = WEIR_SEND_BECAUSE_FILE;
    else if (question->kernel_tls)
        answer.reason = WEIR_SEND_BECAUSE_KERNEL_TLS;
    else if (question->head)
        answer.reason = WEIR_SEND_BECAUSE_HEAD;
    else if (question->bytes < WEIR__ZEROCOPY_BYTES_MIN)
        answer.reason = WEIR_SEND_BECAUSE_SMALL;
    else if (policy->mode == WEIR_ZEROCOPY_OFF)
        answer.reason = WEIR_SEND_BECAUSE_OFF;
    else
        answer.reason = by_memory(policy, question);
    if (answer.reason != WEIR_SEND_BECAUSE_ON || policy->mode == WEIR_ZEROCOPY_ON)
        return answer;
    answer.needs_route = question->route == NULL;
    answer.reason =
        answer.needs_route ? WEIR_SEND_BECAUSE_ROUTE : by_route(question->route, question->now_ns);
    return answer;
}

/* ---- what became of it ---- */

void weir__send_policy_sent(struct weir__send_policy *policy, enum weir_send_reason reason,
                            uint64_t bytes)
{
    policy->info.sends[reason]++;
    policy->info.bytes[reason] += bytes;
}

void weir__send_policy_tried(struct weir__send_policy *policy, struct weir__route *route)
{
    (void)policy;
    if (route)
        route->tries++;
}

void weir__send_policy_pinned(struct weir__send_policy *policy, uint64_t before, uint64_t now)
{
    policy->info.pinned_bytes += now - before;
}

static void note_route(struct weir__route *route, int result, bool arrived, uint64_t now_ns)
{
    /* Another may have taken the place since. */
    if (route->tries > 0)
        route->tries--;
    if (result == WEIR__PIN_USED && arrived) {
        route->pays = true;
        route->copies = 0;
        route->closed_until_ns = 0;
        route->retry_ns = WEIR__ROUTE_RETRY_NS;
    } else if (result == WEIR__PIN_COPIED && now_ns >= route->closed_until_ns) {
        route->copies++;
        if (!route->pays || route->copies >= WEIR__ROUTE_COPIES_MAX)
            close_route(route, now_ns);
    }
}

void weir__send_policy_released(struct weir__send_policy *policy, struct weir__route *route,
                                uint64_t bytes, int result, bool arrived, uint64_t now_ns)
{
    if (result == WEIR__PIN_USED) {
        policy->info.zerocopy_used++;
        policy->info.used_bytes += bytes;
    }
    if (result == WEIR__PIN_COPIED) {
        policy->info.zerocopy_copied++;
        policy->info.copied_bytes += bytes;
    }
    if (result == WEIR__PIN_REFUSED) {
        policy->info.zerocopy_refused++;
        policy->info.refused_bytes += bytes;
        policy->refused_until_ns = now_ns + WEIR__REFUSED_PAUSE_NS;
    }
    if (route)
        note_route(route, result, arrived, now_ns);
}
