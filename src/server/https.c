/* SPDX-License-Identifier: Apache-2.0 */
#include "server/https.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <weir/error.h>

#include "core/memory.h"
#include "engine/probe.h"

/* A certificate of our own making is for trying things out; it lasts until somebody starts anew. */
#define SELF_SIGNED_DAYS 365

/* "/proc/self/fd/" and a number. */
#define MEMORY_PATH_BYTES 32

#define DESCRIPTION_BYTES 256

/* A file in memory: libraries read certificates and keys from files, and a made key is no disk's business. */
struct memory_file {
    int descriptor; /* -1 = none */
    char path[MEMORY_PATH_BYTES];
};

struct weir__https {
    const struct weir__options *options;
    const char *vendor, *vendor_version;
    struct weir_tls_tickets *tickets;
    struct memory_file own_certificate, own_key; /* where none is given */
    struct weir_tls_certificate own;
    enum weir_tls_kernel kernel;
    bool refresh_failed;
    char description[DESCRIPTION_BYTES];
};

__attribute__((format(printf, 2, 3))) static int fail(int error, const char *format, ...)
{
    va_list arguments;

    fputs("weir: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return error;
}

/* ---- the library ---- */

static int lacks_vendor(const char *wanted)
{
    char names[128] = "";

    for (unsigned i = 0; weir_tls_vendor_name(i); i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof(names) - used, "%s%s", used ? ", " : "",
                 weir_tls_vendor_name(i));
    }
    if (!names[0])
        return fail(WEIR_ENOTSUP, "this weir was built without TLS");
    return fail(WEIR_ENOTSUP, "this weir was built without %s; it has %s", wanted, names);
}

static int choose_vendor(struct weir__https *https)
{
    const char *wanted = https->options->tls_vendor, *name;

    for (unsigned i = 0; (name = weir_tls_vendor_name(i)) != NULL; i++) {
        if (wanted && strcmp(wanted, name) != 0)
            continue;
        https->vendor = name;
        https->vendor_version = weir_tls_vendor_version(i);
        return 0;
    }
    return lacks_vendor(wanted);
}

/* ---- the kernel ---- */

static int choose_kernel(struct weir__https *https)
{
    enum weir__ktls wanted = https->options->ktls;
    struct weir__probe probe = {.works = false};

    https->kernel = WEIR_TLS_KERNEL_OFF;
    if (wanted != WEIR__KTLS_OFF)
        weir__probe_run(WEIR__PROBE_KTLS, &probe);
    if (wanted == WEIR__KTLS_ON && !probe.works)
        return fail(WEIR_ENOTSUP, "cannot use kernel TLS: %s", probe.text);
    if (probe.works)
        https->kernel = wanted == WEIR__KTLS_TX ? WEIR_TLS_KERNEL_TX : WEIR_TLS_KERNEL_TX_RX;

    const char *said = wanted == WEIR__KTLS_OFF               ? ""
                       : https->kernel == WEIR_TLS_KERNEL_OFF ? ", no kernel TLS: "
                       : https->kernel == WEIR_TLS_KERNEL_TX  ? ", kernel TLS: tx"
                                                              : ", kernel TLS: tx+rx";
    const char *text;
    const char *cipher =
        https->options->tls_cipher == WEIR_TLS_CIPHER_AUTO ? weir_tls_fast_cipher(&text) : NULL;
    snprintf(https->description, sizeof(https->description), "%s %s%s%s%s%s", https->vendor,
             https->vendor_version, cipher ? ", AES-GCM by " : "", cipher ? cipher : "", said,
             probe.works ? "" : probe.text);
    return 0;
}

/* ---- a certificate of our own ---- */

static int memory_file_write(struct memory_file *file, const char *name, const char *text)
{
    size_t length = strlen(text);

    file->descriptor = memfd_create(name, MFD_CLOEXEC);
    if (file->descriptor < 0)
        return WEIR_EIO;
    snprintf(file->path, sizeof(file->path), "/proc/self/fd/%d", file->descriptor);
    return write(file->descriptor, text, length) == (ssize_t)length ? 0 : WEIR_EIO;
}

static void memory_file_close(struct memory_file *file)
{
    if (file->descriptor >= 0)
        close(file->descriptor);
}

/* Whether a host's name can stand in a certificate (RFC 1123 section 2.1). */
static bool is_dns_name(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.";

    return name[0] && name[0] != '-' && name[0] != '.' && name[strspn(name, allowed)] == '\0';
}

static int make_certificate(struct weir__https *https)
{
    char host[65] = "", certificate[WEIR_TLS_SELF_SIGNED_MAX], key[WEIR_TLS_SELF_SIGNED_MAX];
    const char *names[4] = {"localhost", "127.0.0.1", "::1", host};
    unsigned count = 3;

    if (gethostname(host, sizeof(host) - 1) == 0 && is_dns_name(host) &&
        strcmp(host, "localhost") != 0)
        count++;
    int error = weir_tls_self_signed(https->vendor, names, count, SELF_SIGNED_DAYS, certificate,
                                     key, sizeof(certificate));
    if (!error)
        error = memory_file_write(&https->own_certificate, "certificate", certificate);
    if (!error)
        error = memory_file_write(&https->own_key, "key", key);
    explicit_bzero(key, sizeof(key));
    if (error)
        return fail(error, "cannot make a certificate: %s", weir_error_text(error));
    https->own.certificate_file = https->own_certificate.path;
    https->own.key_file = https->own_key.path;
    fprintf(stderr, "weir: no --cert: a certificate was made that no client trusts, for ");
    for (unsigned i = 0; i < count; i++)
        fprintf(stderr, "%s%s", names[i], i + 1 < count ? ", " : "\n");
    return 0;
}

/* ---- all of it ---- */

static int open_all(struct weir__https *https)
{
    char complaint[WEIR_TLS_COMPLAINT_MAX];

    int error = choose_vendor(https);
    if (!error)
        error = choose_kernel(https);
    if (error)
        return error;
    error = weir_tls_tickets_new(&https->tickets, https->options->ticket_keys, complaint);
    if (error)
        return fail(error, "cannot use ticket keys: %s", complaint);
    if (https->options->tls_key_log_insecure)
        fprintf(stderr,
                "weir: warning: who reads %s can read all connections (--tls-key-log-insecure)\n",
                https->options->tls_key_log_insecure);
    return https->options->certificate_count > 0 ? 0 : make_certificate(https);
}

int weir__https_open(struct weir__https **result, const struct weir__options *options)
{
    struct weir__https *https = weir__allocate_zeroed(1, sizeof(*https));

    if (!https)
        return fail(WEIR_ENOMEM, "%s", weir_error_text(WEIR_ENOMEM));
    https->options = options;
    https->own_certificate.descriptor = -1;
    https->own_key.descriptor = -1;
    int error = open_all(https);
    if (error)
        weir__https_close(https);
    else
        *result = https;
    return error;
}

void weir__https_close(struct weir__https *https)
{
    if (!https)
        return;
    memory_file_close(&https->own_certificate);
    memory_file_close(&https->own_key);
    weir_tls_tickets_free(https->tickets);
    weir__release(https);
}

int weir__https_context_new(struct weir__https *https, struct weir_tls_context **context)
{
    static const char *const protocols[] = {"http/1.1"};
    const struct weir__options *options = https->options;
    struct weir_tls_options tls_options;
    char complaint[WEIR_TLS_COMPLAINT_MAX];

    weir_tls_options_init(&tls_options);
    tls_options.vendor = https->vendor;
    tls_options.server = true;
    tls_options.version_min = options->tls_min;
    tls_options.version_max = options->tls_max;
    tls_options.certificates = options->certificate_count > 0 ? options->certificates : &https->own;
    tls_options.certificate_count = options->certificate_count > 0 ? options->certificate_count : 1;
    tls_options.peer = options->client_ca ? options->client_certificate : WEIR_TLS_PEER_DEFAULT;
    tls_options.trust_file = options->client_ca;
    tls_options.alpn = protocols;
    tls_options.alpn_count = 1;
    tls_options.tickets = https->tickets;
    tls_options.kernel = https->kernel;
    tls_options.cipher_source = options->tls_cipher;
    tls_options.handshake_timeout_ms = options->header_timeout_ms;
    tls_options.records_max = options->tls_records_max;
    tls_options.key_log_file_insecure = options->tls_key_log_insecure;
    int error = weir_tls_context_new(context, &tls_options, complaint);
    return error ? fail(error, "cannot use TLS: %s", complaint) : 0;
}

void weir__https_refresh(struct weir__https *https)
{
    char complaint[WEIR_TLS_COMPLAINT_MAX];
    bool failed = weir_tls_tickets_refresh(https->tickets, complaint) != 0;

    if (failed && !https->refresh_failed)
        fprintf(stderr, "weir: ticket keys stay as they were: %s\n", complaint);
    https->refresh_failed = failed;
}

void weir__https_reload_tickets(struct weir__https *https)
{
    https->refresh_failed = false;
    weir__https_refresh(https);
}

const char *weir__https_description(const struct weir__https *https)
{
    return https->description;
}
