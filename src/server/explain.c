/* SPDX-License-Identifier: Apache-2.0 */
#include "server/explain.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <inttypes.h>
#include <net/if.h>
#include <string.h>
#include <sys/resource.h>

#include <weir/loop.h>
#include <weir/send.h>
#include <weir/version.h>

#include "engine/engine.h"
#include "engine/socket.h"
#include "net/send_policy.h"
#include "net/transport.h"
#include "server/doctor.h"
#include "server/explain_trial.h"

#define KIB              1024u
#define INTERFACES_MAX   16
#define CAP_IPC_LOCK_BIT 14 /* capabilities(7) */

static const uint64_t sizes[] = {1 * KIB, 16 * KIB, 64 * KIB, 128 * KIB, 1024 * KIB};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static const struct transport {
    const char *name, *title;
    bool file, kernel_tls;
    uint64_t send_bytes_max; /* 0 = no bound of its own */
} transports[] = {
    {"plain", "plain, from memory", false, false, 0},
    {"file", "plain, a file", true, false, WEIR__SEND_FILE_BYTES_MAX},
    {"tls", "TLS in user space", false, false,
     WEIR__TRANSPORT_PARTS_MAX *(uint64_t)WEIR__TRANSPORT_RECORD_MAX},
    {"ktls", "TLS in the kernel", false, true, 0},
};
#define TRANSPORTS (sizeof(transports) / sizeof(transports[0]))

/* Two kinds of routes: the one that was tried, and all that were not. */
static const char *const routes[] = {"loopback", "new"};
#define ROUTES (sizeof(routes) / sizeof(routes[0]))

struct interface {
    char name[IF_NAMESIZE];
    char address[INET6_ADDRSTRLEN];
};

struct explanation {
    struct weir__trial trial;
    struct weir_loop_options options;
    enum weir_send_reason decisions[TRANSPORTS][ROUTES][SIZES];
    struct interface interfaces[INTERFACES_MAX];
    unsigned interface_count;
    bool memlock_counts;
    uint64_t memlock_bytes;
    uint64_t optmem_bytes; /* 0 = unknown */
    char congestion[WEIR__CONGESTION_NAME_BYTES];
};

/* ---- finding out ---- */

static enum weir_send_reason decide(const struct weir__send_policy *policy,
                                    const struct transport *transport, struct weir__route *route,
                                    uint64_t bytes)
{
    uint64_t max = transport->send_bytes_max;
    const struct weir__send_question question = {
        .bytes = max > 0 && bytes > max ? max : bytes,
        .file = transport->file,
        .kernel_tls = transport->kernel_tls,
        .route = route,
        .now_ns = 1,
    };

    return weir__send_policy_ask(policy, &question).reason;
}

static void decide_all(struct explanation *explanation)
{
    const struct weir__trial *trial = &explanation->trial;
    struct weir__send_policy policy;
    struct weir__route loopback = {.retry_ns = WEIR__ROUTE_RETRY_NS}, new = loopback;

    weir__send_policy_init(&policy,
                           trial->zerocopy ? explanation->options.zerocopy : WEIR_ZEROCOPY_OFF,
                           explanation->options.pinned_bytes_max);
    if (trial->outcome != WEIR__TRIAL_NONE) {
        weir__send_policy_tried(&policy, &loopback);
        weir__send_policy_released(&policy, &loopback, WEIR__TRIAL_BYTES,
                                   weir__trial_pin_result(trial->outcome), true, 0);
    }
    for (size_t t = 0; t < TRANSPORTS; t++) {
        for (size_t s = 0; s < SIZES; s++) {
            explanation->decisions[t][0][s] = decide(&policy, &transports[t], &loopback, sizes[s]);
            explanation->decisions[t][1][s] = decide(&policy, &transports[t], &new, sizes[s]);
        }
    }
}

static void find_interfaces(struct explanation *explanation)
{
    struct ifaddrs *list;

    if (getifaddrs(&list) != 0)
        return;
    for (const struct ifaddrs *at = list; at; at = at->ifa_next) {
        struct interface *found = &explanation->interfaces[explanation->interface_count];
        bool up = (at->ifa_flags & IFF_UP) && !(at->ifa_flags & IFF_LOOPBACK);
        const void *address = NULL;

        if (!up || !at->ifa_addr || explanation->interface_count == INTERFACES_MAX)
            continue;
        if (at->ifa_addr->sa_family == AF_INET)
            address = &((const struct sockaddr_in *)(const void *)at->ifa_addr)->sin_addr;
        else if (at->ifa_addr->sa_family == AF_INET6)
            address = &((const struct sockaddr_in6 *)(const void *)at->ifa_addr)->sin6_addr;
        if (!address ||
            !inet_ntop(at->ifa_addr->sa_family, address, found->address, sizeof(found->address)))
            continue;
        snprintf(found->name, sizeof(found->name), "%s", at->ifa_name);
        explanation->interface_count++;
    }
    freeifaddrs(list);
}

/* The first number behind `label` in a file, 0 if there is none. */
static uint64_t read_number(const char *path, const char *label, int base)
{
    char line[256];
    uint64_t number = 0;
    FILE *file = fopen(path, "re");

    if (!file)
        return 0;
    while (number == 0 && fgets(line, sizeof(line), file)) {
        if (strncmp(line, label, strlen(label)) == 0)
            number = strtoumax(line + strlen(label), NULL, base);
    }
    fclose(file);
    return number;
}

static void find_limits(struct explanation *explanation)
{
    struct rlimit limit;
    uint64_t capabilities = read_number("/proc/self/status", "CapEff:", 16);

    FILE *file = fopen("/proc/sys/net/ipv4/tcp_congestion_control", "re");
    if (!file || fscanf(file, "%15[a-z0-9_]", explanation->congestion) != 1)
        snprintf(explanation->congestion, sizeof(explanation->congestion), "unknown");
    if (file)
        fclose(file);
    explanation->optmem_bytes = read_number("/proc/sys/net/core/optmem_max", "", 10);
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return;
    explanation->memlock_counts = !(capabilities >> CAP_IPC_LOCK_BIT & 1);
    explanation->memlock_bytes = limit.rlim_cur;
}

/* ---- for people ---- */

static const char *trial_text(const struct weir__trial *trial)
{
    switch (trial->outcome) {
    case WEIR__TRIAL_USED:
        return "tried now: sent without a copy";
    case WEIR__TRIAL_COPIED:
        return "tried now: the kernel copied on the way";
    case WEIR__TRIAL_REFUSED:
        return "tried now: no memory may be pinned";
    case WEIR__TRIAL_NONE:
        break;
    }
    return trial->zerocopy ? "could not be tried" : "not tried";
}

static const char *size_text(uint64_t bytes, char text[32])
{
    bool whole = bytes >= KIB * KIB && bytes % (KIB * KIB) == 0;

    snprintf(text, 32, "%" PRIu64 " %s", whole ? bytes / KIB / KIB : bytes / KIB,
             whole ? "MiB" : "KiB");
    return text;
}

static const char *decision_text(enum weir_send_reason reason, char text[48])
{
    snprintf(text, 48, "%s (%s)", weir_send_way_name(weir_send_reason_way(reason)),
             weir_send_reason_name(reason));
    return text;
}

static void print_decisions(const struct explanation *explanation, FILE *out)
{
    char size[32], loopback[48], new[48];

    fprintf(out, "\n%-20s %-9s  %-20s  %s\n", "Way (reason)", "", "over loopback",
            "elsewhere, first send");
    for (size_t t = 0; t < TRANSPORTS; t++) {
        for (size_t s = 0; s < SIZES; s++)
            fprintf(out, "%-20s %9s  %-20s  %s\n", s == 0 ? transports[t].title : "",
                    size_text(sizes[s], size),
                    decision_text(explanation->decisions[t][0][s], loopback),
                    decision_text(explanation->decisions[t][1][s], new));
    }
}

static bool is_used(const struct explanation *explanation, enum weir_send_reason reason)
{
    const enum weir_send_reason *all = &explanation->decisions[0][0][0];

    for (size_t i = 0; i < TRANSPORTS * ROUTES * SIZES; i++) {
        if (all[i] == reason)
            return true;
    }
    return false;
}

static void print_reasons(const struct explanation *explanation, FILE *out)
{
    fputs("\nThe reasons\n", out);
    for (unsigned reason = 0; reason < WEIR_SEND_REASONS; reason++) {
        if (is_used(explanation, reason))
            fprintf(out, "  %-9s %s\n", weir_send_reason_name(reason),
                    weir_send_reason_text(reason));
    }
}

static void print_routes(const struct explanation *explanation, FILE *out)
{
    char size[32];

    fprintf(out, "  %-15s %s\n", "loopback", trial_text(&explanation->trial));
    for (unsigned i = 0; i < explanation->interface_count; i++)
        fprintf(out, "  %-15s %s: not tried\n", explanation->interfaces[i].name,
                explanation->interfaces[i].address);
    if (!explanation->trial.zerocopy)
        return;
    fprintf(out, "  The first send of %s or more on a route is tried: nothing else tells\n",
            size_text(WEIR__ZEROCOPY_BYTES_MIN, size));
    fputs("  whether its device needs the copy. Then it is a route that pays, or it is left\n"
          "  alone for 10 s, and longer each time.\n",
          out);
}

static void print_numbers(const struct explanation *explanation, FILE *out)
{
    char size[32];
    uint64_t pinned = explanation->options.pinned_bytes_max;
    size_t piece = explanation->trial.file_piece_bytes;

    fputs("\nPieces\n", out);
    fprintf(out, "  %-18s one send, of at most %u parts; those under %s go by\n", "memory",
            WEIR__SEND_PARTS_MAX, size_text(WEIR__ZEROCOPY_PART_MIN, size));
    fprintf(out, "  %-18s themselves, copied, in front of what is pinned\n", "");
    if (piece > 0)
        fprintf(out, "  %-18s %s for a call of sendfile, since", "file", size_text(piece, size));
    else
        fprintf(out, "  %-18s one call of sendfile, since", "file");
    fprintf(out, " %s %s;\n", explanation->congestion, piece > 0 ? "paces" : "does not pace");
    fprintf(out, "  %-18s %s for a turn\n", "", size_text(WEIR__SEND_FILE_BYTES_MAX, size));
    fprintf(out, "  %-18s records of %s (RFC 8446), at most %u in a send\n", "TLS in user space",
            size_text(WEIR__TRANSPORT_RECORD_MAX, size), WEIR__TRANSPORT_PARTS_MAX);
    fprintf(out, "  %-18s as without TLS; the kernel makes the records\n", "TLS in the kernel");

    fputs("\nLimits of zero copy\n", out);
    fprintf(out, "  %-18s %s or more; others measured a gain from about 10 KB on\n", "size",
            size_text(WEIR__ZEROCOPY_BYTES_MIN, size));
    fprintf(out, "  %-18s %s for each thread,", "pinned at a time", size_text(pinned, size));
    fprintf(out, " %s for a connection\n", size_text(pinned / WEIR__ZEROCOPY_STREAM_SHARE, size));
    fprintf(out, "  %-18s up to %u ms, %u ms once half of that is pinned: memory is\n",
            "round trip", WEIR__ZEROCOPY_RTT_MAX_US / 1000, WEIR__ZEROCOPY_RTT_BUSY_MAX_US / 1000);
    fprintf(out, "  %-18s held until the peer has acknowledged what lies in it\n", "");
    if (explanation->memlock_counts)
        fprintf(out, "  %-18s %s for all of this user's processes (getrlimit)\n", "RLIMIT_MEMLOCK",
                size_text(explanation->memlock_bytes, size));
    else
        fprintf(out, "  %-18s none for this user\n", "RLIMIT_MEMLOCK");
    if (explanation->optmem_bytes > 0)
        fprintf(out, "  %-18s %s for a socket's notices (net.core.optmem_max)\n", "optmem_max",
                size_text(explanation->optmem_bytes, size));
}

static void print_table(const struct explanation *explanation, FILE *out)
{
    const struct weir__trial *trial = &explanation->trial;

    fprintf(out, "Zero copy with --zerocopy auto and --engine auto (%s): %s\n",
            trial->engine[0] ? trial->engine : "none works", trial->zerocopy ? "yes" : "NO");
    if (!trial->zerocopy)
        fputs("  weir doctor says why.\n", out);
    print_routes(explanation, out);
    print_decisions(explanation, out);
    print_reasons(explanation, out);
    print_numbers(explanation, out);
}

/* ---- for scripts ---- */

static const char *outcome_json(enum weir__trial_outcome outcome)
{
    static const char *const names[] = {
        [WEIR__TRIAL_NONE] = "null",
        [WEIR__TRIAL_USED] = "\"zerocopy\"",
        [WEIR__TRIAL_COPIED] = "\"copied\"",
        [WEIR__TRIAL_REFUSED] = "\"refused\"",
    };
    return names[outcome];
}

static void print_json_decisions(const struct explanation *explanation, FILE *out)
{
    const char *separator = "";

    fputs(",\"decisions\":[", out);
    for (size_t t = 0; t < TRANSPORTS; t++) {
        for (size_t r = 0; r < ROUTES; r++) {
            for (size_t s = 0; s < SIZES; s++) {
                enum weir_send_reason reason = explanation->decisions[t][r][s];
                fprintf(out,
                        "%s\n {\"transport\":\"%s\",\"route\":\"%s\",\"bytes\":%" PRIu64
                        ",\"send\":\"%s\",\"reason\":\"%s\",\"text\":\"%s\"}",
                        separator, transports[t].name, routes[r], sizes[s],
                        weir_send_way_name(weir_send_reason_way(reason)),
                        weir_send_reason_name(reason), weir_send_reason_text(reason));
                separator = ",";
            }
        }
    }
    fputs("]", out);
}

static void print_json_limits(const struct explanation *explanation, FILE *out)
{
    uint64_t pinned = explanation->options.pinned_bytes_max;

    fprintf(out,
            ",\n\"congestion_control\":\"%s\",\n\"pieces\":{\"file\":%zu,\"file_operation\":%u,"
            "\"record\":%u,\"tls_send\":%u,"
            "\"parts\":%u,\"part_min\":%u}",
            explanation->congestion, explanation->trial.file_piece_bytes,
            (unsigned)WEIR__SEND_FILE_BYTES_MAX, WEIR__TRANSPORT_RECORD_MAX,
            WEIR__TRANSPORT_PARTS_MAX * WEIR__TRANSPORT_RECORD_MAX, WEIR__SEND_PARTS_MAX,
            WEIR__ZEROCOPY_PART_MIN);
    fprintf(out,
            ",\n\"limits\":{\"pinned_bytes\":%" PRIu64 ",\"pinned_bytes_connection\":%" PRIu64
            ",\"zerocopy_bytes_min\":%u,\"rtt_us\":%u,\"rtt_busy_us\":%u,\"memlock_bytes\":",
            pinned, pinned / WEIR__ZEROCOPY_STREAM_SHARE, WEIR__ZEROCOPY_BYTES_MIN,
            WEIR__ZEROCOPY_RTT_MAX_US, WEIR__ZEROCOPY_RTT_BUSY_MAX_US);
    if (explanation->memlock_counts)
        fprintf(out, "%" PRIu64, explanation->memlock_bytes);
    else
        fputs("null", out);
    fputs(",\"optmem_bytes\":", out);
    if (explanation->optmem_bytes > 0)
        fprintf(out, "%" PRIu64, explanation->optmem_bytes);
    else
        fputs("null", out);
    fputs("}}\n", out);
}

static void print_json(const struct explanation *explanation, FILE *out)
{
    const struct weir__trial *trial = &explanation->trial;

    fprintf(out, "{\"version\":\"%s\",\"engine\":", WEIR_VERSION_TEXT);
    fprintf(out, trial->engine[0] ? "\"%s\"" : "null", trial->engine);
    fprintf(out, ",\"zerocopy\":%s,\"loopback\":%s,\"interfaces\":[",
            trial->zerocopy ? "true" : "false", outcome_json(trial->outcome));
    /* An interface's name may hold anything but a slash and white space. */
    for (unsigned i = 0; i < explanation->interface_count; i++) {
        const struct interface *interface = &explanation->interfaces[i];
        fprintf(out, "%s\n {\"name\":", i > 0 ? "," : "");
        weir__json_text_print(interface->name, out);
        fprintf(out, ",\"address\":\"%s\"}", interface->address);
    }
    fputs("]", out);
    print_json_decisions(explanation, out);
    print_json_limits(explanation, out);
}

int weir__explain_run(bool json, FILE *out)
{
    struct explanation explanation;

    memset(&explanation, 0, sizeof(explanation));
    weir_loop_options_init(&explanation.options);
    weir__trial_run(&explanation.trial);
    decide_all(&explanation);
    find_interfaces(&explanation);
    find_limits(&explanation);
    if (json)
        print_json(&explanation, out);
    else
        print_table(&explanation, out);
    return fflush(out) == 0 && !ferror(out) ? 0 : -1;
}
