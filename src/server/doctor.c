/* SPDX-License-Identifier: Apache-2.0 */
#include "server/doctor.h"

#include <string.h>
#include <sys/utsname.h>

#include <weir/tls.h>
#include <weir/version.h>

#include "engine/probe.h"

/* What a person wants to know of each probe. A heading starts a new part of the table. */
struct finding {
    enum weir__probe_id id;
    const char *heading; /* NULL = the same part as the one before */
    const char *title;
    const char *if_works; /* NULL = not in the table */
    const char *if_lacks;
};

static const struct finding findings[] = {
    {WEIR__PROBE_KERNEL, "System", "kernel", "new enough", "things may not work as they should"},
    {WEIR__PROBE_OPENAT2, NULL, "paths resolved by openat2", "no request escapes the served folder",
     "weir serve cannot serve a folder safely"},
    {WEIR__PROBE_SEND_FILE, NULL, "sendfile", "file bytes go out without passing through weir",
     "file bytes are read, then sent"},
    {WEIR__PROBE_REUSE_PORT, NULL, "several listeners on a port", "each thread accepts by itself",
     "use --threads 1"},

    {WEIR__PROBE_ENGINE_IO_URING, "Engines", "io_uring", "--engine io_uring can be used",
     "--engine io_uring fails at start"},
    {WEIR__PROBE_ENGINE_EPOLL, NULL, "epoll", "--engine epoll can be used",
     "--engine epoll fails at start"},
    {WEIR__PROBE_ENGINE_POLL, NULL, "poll", "--engine poll can be used",
     "--engine poll fails at start"},

    {WEIR__PROBE_URING_SETUP, "What io_uring does here", "a ring", "programs here may use io_uring",
     "no program here may use io_uring"},
    {WEIR__PROBE_URING_DEFER_TASKRUN, NULL, "deferred task work",
     "completions come in batches, when asked for", "the io_uring engine needs it"},
    {WEIR__PROBE_URING_ACCEPT_MULTISHOT, NULL, "multishot accept",
     "one request accepts all connections", "the io_uring engine needs it"},
    {WEIR__PROBE_URING_BUFFER_RING, NULL, "buffer rings", "idle connections hold no receive memory",
     "the io_uring engine needs them"},
    {WEIR__PROBE_URING_RECEIVE_MULTISHOT, NULL, "multishot recv",
     "one request receives all of a connection's bytes", "the io_uring engine needs it"},
    {WEIR__PROBE_URING_RECVMSG_MULTISHOT, NULL, "multishot recvmsg",
     "receive stamps come with the bytes", "the io_uring engine needs it"},
    {WEIR__PROBE_URING_SENDMSG, NULL, "sendmsg", "sends can ask for their stamp",
     "the io_uring engine needs it"},
    {WEIR__PROBE_URING_CANCEL, NULL, "cancellation", "connections can be closed at any time",
     "the io_uring engine needs it"},
    {WEIR__PROBE_URING_CQE_MIXED, NULL, "completions of two sizes",
     "a completion has room for a time stamp", "time stamps are read from the error queue"},
    {WEIR__PROBE_URING_TX_TIMESTAMP, NULL, "transmit stamps as completions",
     "no system call is needed to read a stamp", "stamps are read from the error queue"},
    {WEIR__PROBE_URING_SEND_ZEROCOPY, NULL, "zero-copy send", "memory can be sent without copying",
     "memory is copied when it is sent"},

    {WEIR__PROBE_URING_KTLS, NULL, "multishot recvmsg of TLS records",
     "alerts and keys come in their place among the data", "kernel TLS does not go with io_uring"},

    {WEIR__PROBE_KTLS, "Kernel TLS", "TLS in the kernel",
     "the kernel protects what a TLS connection sends, files included",
     "weir protects each record itself, and files are read first"},
    {WEIR__PROBE_KTLS_1_3, NULL, "TLS 1.3", "both directions can be the kernel's",
     "TLS 1.3 stays in weir"},
    {WEIR__PROBE_KTLS_1_2, NULL, "TLS 1.2", "both directions can be the kernel's",
     "TLS 1.2 stays in weir"},
    {WEIR__PROBE_KTLS_REKEY, NULL, "change of keys",
     "a connection lives on when its peer wants that",
     "a connection whose peer wants that is closed in good order"},
    {WEIR__PROBE_KTLS_STAMP, NULL, "transmit stamps under TLS",
     "deliveries are known as without TLS",
     "deliveries are known by the count of acknowledged bytes"},
    {WEIR__PROBE_KTLS_STAT, NULL, "the kernel's own count", "/proc/net/tls_stat proves who does it",
     "nothing proves who does it"},

    {WEIR__PROBE_STAMP_ACKED, "Knowing the delivery", "stamp: acknowledged by the peer",
     "the log's delivered time is the kernel's own", "the log has no stamped delivered time"},
    {WEIR__PROBE_STAMP_PER_CALL, NULL, "stamp for a single send",
     "only the last byte of a response is stamped", "stamps cannot be had byte by byte"},
    {WEIR__PROBE_STAMP_ID_TCP, NULL, "stamp ids from the first byte on",
     "a stamp always names its byte", "stamps must be set up before anything is sent"},
    {WEIR__PROBE_STAMP_SENT, NULL, "stamp: left this host", "the log has sent_us",
     "sent_us stays empty"},
    {WEIR__PROBE_STAMP_SCHEDULED, NULL, "stamp: entered the queue", "queueing can be told apart",
     "queueing cannot be told apart"},
    {WEIR__PROBE_STAMP_RECEIVED, NULL, "stamp: received",
     "times count from when the request really arrived",
     "times count from when the request was read"},
    {WEIR__PROBE_TCP_INFO_ACKED, NULL, "count of acknowledged bytes",
     "a lost stamp is made good, and a broken transfer is known to the byte",
     "a lost stamp means an unknown delivery"},
    {WEIR__PROBE_DELIVERY_IO_URING, NULL, "deliveries on io_uring", "weir learns of them",
     "weir cannot learn of them"},
    {WEIR__PROBE_DELIVERY_EPOLL, NULL, "deliveries on epoll", "weir learns of them",
     "weir cannot learn of them"},
    {WEIR__PROBE_DELIVERY_POLL, NULL, "deliveries on poll", "weir learns of them",
     "weir cannot learn of them"},

    {WEIR__PROBE_ZEROCOPY, "Sending", "MSG_ZEROCOPY", "memory can be sent without copying",
     "memory is copied when it is sent"},
    /* The verdict tells of it. */
    {WEIR__PROBE_ENGINE_AUTO, NULL, "engine that --engine auto chooses", NULL, NULL},
};
#define FINDING_COUNT (sizeof(findings) / sizeof(findings[0]))
_Static_assert(FINDING_COUNT == WEIR__PROBE_COUNT, "each probe has its words");

/* The widest title, so that the columns stand. */
#define TITLE_WIDTH 32

/* What the verdicts need, taken from the findings. */
struct verdict {
    char engine[16];      /* "" = none */
    const char *fallback; /* why not a better one, or "" */
    const char *delivery;
};

static void verdict_reach(const struct weir__probe probes[WEIR__PROBE_COUNT],
                          struct verdict *verdict)
{
    const struct weir__probe *chosen = &probes[WEIR__PROBE_ENGINE_AUTO];
    const struct weir__probe *delivery = &probes[WEIR__PROBE_DELIVERY_POLL];
    size_t length = chosen->works ? strcspn(chosen->text, ":") : 0;
    if (length >= sizeof(verdict->engine))
        length = sizeof(verdict->engine) - 1;
    memcpy(verdict->engine, chosen->text, length);
    verdict->engine[length] = 0;
    verdict->fallback = chosen->text[length] == ':' ? chosen->text + length + 2 : "";
    if (strcmp(verdict->engine, "io_uring") == 0)
        delivery = &probes[WEIR__PROBE_DELIVERY_IO_URING];
    else if (strcmp(verdict->engine, "epoll") == 0)
        delivery = &probes[WEIR__PROBE_DELIVERY_EPOLL];
    verdict->delivery = length > 0 && delivery->works ? delivery->text : "none";
}

static void table_print(const struct weir__probe probes[WEIR__PROBE_COUNT], FILE *out)
{
    for (size_t i = 0; i < FINDING_COUNT; i++) {
        const struct finding *finding = &findings[i];
        const struct weir__probe *probe = &probes[finding->id];
        if (!finding->if_works)
            continue;
        if (finding->heading)
            fprintf(out, "%s%s\n", i > 0 ? "\n" : "", finding->heading);
        fprintf(out, "  %-*s  %-3s  %s", TITLE_WIDTH, finding->title, probe->works ? "yes" : "NO",
                probe->works ? finding->if_works : finding->if_lacks);
        if (probe->text[0])
            fprintf(out, probe->works ? " (%s)" : ": %s", probe->text);
        fputc('\n', out);
    }
}

static void libraries_table_print(FILE *out)
{
    const char *name;

    fputs("\nTLS libraries\n", out);
    for (unsigned i = 0; (name = weir_tls_vendor_name(i)) != NULL; i++) {
        char title[TITLE_WIDTH + 1];
        snprintf(title, sizeof(title), "%s %s", name, weir_tls_vendor_version(i));
        fprintf(out, "  %-*s  yes  %s%s\n", TITLE_WIDTH, title,
                weir_tls_vendor_version_max(i) == WEIR_TLS_1_3 ? "TLS 1.2 and 1.3" : "TLS 1.2 only",
                i == 0 ? "; weir serve takes it, unless --tls says otherwise" : "");
    }
    if (!weir_tls_vendor_name(0))
        fprintf(out, "  %-*s  NO   --listen-tls fails at start\n", TITLE_WIDTH, "any");
}

static void cipher_table_print(FILE *out)
{
    const char *text, *name = weir_tls_fast_cipher(&text);

    if (name)
        fprintf(out,
                "  %-*s  yes  %s encrypts for all of them, unless --tls-cipher says library (%s)\n",
                TITLE_WIDTH, "faster AES-GCM", name, text);
    else
        fprintf(out, "  %-*s  NO   each library encrypts by itself: %s\n", TITLE_WIDTH,
                "faster AES-GCM", text);
}

static void verdict_print(const struct verdict *verdict, FILE *out)
{
    fputs("\nIn short\n", out);
    if (!verdict->engine[0])
        fputs("  No engine works here: weir cannot run.\n", out);
    else
        fprintf(out, "  --engine auto chooses %s%s%s.\n", verdict->engine,
                verdict->fallback[0] ? ", since " : "", verdict->fallback);
    if (strcmp(verdict->delivery, "tx_ack") == 0)
        fputs("  Delivery times are the kernel's own stamps (tx_ack).\n", out);
    else if (strcmp(verdict->delivery, "tcp_info") == 0)
        fputs(
            "  Delivery times come from the count of acknowledged bytes (tcp_info), which is asked "
            "for now and then: they are late by a little.\n",
            out);
    else
        fputs("  Nothing tells of deliveries here: the log says so (none).\n", out);
}

void weir__json_text_print(const char *text, FILE *out)
{
    fputc('"', out);
    for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
        if (*at == '"' || *at == '\\')
            fprintf(out, "\\%c", *at);
        else if (*at < 0x20)
            fprintf(out, "\\u%04x", *at);
        else
            fputc(*at, out);
    }
    fputc('"', out);
}

static void libraries_json_print(FILE *out)
{
    const char *name = weir_tls_vendor_name(0);

    fputs(",\"tls_default\":", out);
    if (name)
        weir__json_text_print(name, out);
    else
        fputs("null", out);
    fputs(",\"tls_libraries\":[", out);
    for (unsigned i = 0; (name = weir_tls_vendor_name(i)) != NULL; i++) {
        fprintf(out, "%s\n {\"name\":\"%s\",\"version\":", i > 0 ? "," : "", name);
        weir__json_text_print(weir_tls_vendor_version(i), out);
        fprintf(out, ",\"newest\":\"%s\"}",
                weir_tls_vendor_version_max(i) == WEIR_TLS_1_3 ? "TLSv1.3" : "TLSv1.2");
    }
    fputs("]", out);
}

static void cipher_json_print(FILE *out)
{
    const char *text, *name = weir_tls_fast_cipher(&text);

    fputs(",\"tls_cipher\":{\"name\":", out);
    if (name)
        weir__json_text_print(name, out);
    else
        fputs("null", out);
    fputs(",\"detail\":", out);
    weir__json_text_print(text, out);
    fputc('}', out);
}

static void json_print(const struct weir__probe probes[WEIR__PROBE_COUNT],
                       const struct verdict *verdict, FILE *out)
{
    struct utsname name;
    uname(&name);
    fprintf(out, "{\"version\":\"%s\",\"kernel\":", WEIR_VERSION_TEXT);
    weir__json_text_print(name.release, out);
    fputs(",\"engine_auto\":", out);
    if (verdict->engine[0])
        weir__json_text_print(verdict->engine, out);
    else
        fputs("null", out);
    fprintf(out, ",\"delivery_by\":\"%s\"", verdict->delivery);
    libraries_json_print(out);
    cipher_json_print(out);
    fputs(",\"probes\":[", out);
    for (size_t i = 0; i < FINDING_COUNT; i++) {
        const struct finding *finding = &findings[i];
        fprintf(out, "%s\n {\"id\":\"%s\",\"works\":%s,\"title\":", i > 0 ? "," : "",
                weir__probe_name(finding->id), probes[finding->id].works ? "true" : "false");
        weir__json_text_print(finding->title, out);
        fputs(",\"detail\":", out);
        weir__json_text_print(probes[finding->id].text, out);
        fputc('}', out);
    }
    fputs("\n]}\n", out);
}

int weir__doctor_run(bool json, FILE *out)
{
    struct weir__probe probes[WEIR__PROBE_COUNT];
    struct verdict verdict;
    /* A child would write once more what waits in the buffer. */
    fflush(out);
    for (int id = 0; id < WEIR__PROBE_COUNT; id++)
        weir__probe_run((enum weir__probe_id)id, &probes[id]);
    verdict_reach(probes, &verdict);
    if (json) {
        json_print(probes, &verdict, out);
    } else {
        table_print(probes, out);
        libraries_table_print(out);
        cipher_table_print(out);
        verdict_print(&verdict, out);
    }
    return fflush(out) == 0 && !ferror(out) ? 0 : -1;
}
