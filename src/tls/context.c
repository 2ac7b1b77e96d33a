/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/context.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <weir/error.h>

#include "core/memory.h"
#include "tls/tickets.h"

_Static_assert(WEIR_TLS_COMPLAINT_MAX == WEIR__TLS_COMPLAINT_MAX, "one size of complaints");
_Static_assert(WEIR_TLS_1_2 == WEIR__TLS_1_2 && WEIR_TLS_1_3 == WEIR__TLS_1_3, "one numbering");

/* Before 2^24 by what may be under way when the limit is seen (see WEIR__TLS_RECORDS_MAX). */
#define RECORDS_MAX_DEFAULT          (uint32_t)(WEIR__TLS_RECORDS_MAX - (1u << 16))
#define HANDSHAKE_TIMEOUT_DEFAULT_MS 10000

/* ---- the libraries ---- */

static const struct weir__tls_vendor *vendor_at(unsigned index)
{
    for (unsigned i = 0; weir__tls_vendors[i]; i++) {
        if (i == index)
            return weir__tls_vendors[i];
    }
    return NULL;
}

const char *weir_tls_vendor_name(unsigned index)
{
    const struct weir__tls_vendor *vendor = vendor_at(index);
    return vendor ? vendor->name : NULL;
}

const char *weir_tls_vendor_version(unsigned index)
{
    const struct weir__tls_vendor *vendor = vendor_at(index);
    return vendor ? vendor->version() : NULL;
}

unsigned weir_tls_vendor_version_max(unsigned index)
{
    const struct weir__tls_vendor *vendor = vendor_at(index);
    return vendor ? vendor->version_max : 0;
}

const char *weir_tls_fast_cipher(const char **text)
{
    const struct weir__tls_ciphers *fast = weir__tls_ciphers_fast(0, text);
    return fast ? fast->name : NULL;
}

int weir_tls_self_signed(const char *vendor_name, const char *const *names, unsigned name_count,
                         unsigned days, char *certificate, char *key, size_t size)
{
    const struct weir__tls_vendor *vendor = weir__tls_vendor_find(vendor_name);

    /* Any library will do: what it makes are two texts. */
    for (unsigned i = 0; vendor && !vendor->self_signed && weir__tls_vendors[i]; i++) {
        if (weir__tls_vendors[i]->self_signed)
            vendor = weir__tls_vendors[i];
    }
    if (!vendor || !vendor->self_signed)
        return WEIR_ENOTSUP;
    return vendor->self_signed(names, name_count, days, certificate, size, key, size);
}

/* ---- making a context ---- */

void weir_tls_options_init(struct weir_tls_options *options)
{
    *options = (struct weir_tls_options){
        .version_min = WEIR_TLS_1_2,
        .version_max = WEIR_TLS_1_3,
        .kernel = WEIR_TLS_KERNEL_TX_RX,
        .handshake_timeout_ms = HANDSHAKE_TIMEOUT_DEFAULT_MS,
        .records_max = RECORDS_MAX_DEFAULT,
    };
}

/* A line of secrets, whole: other threads and processes may write to the same file. */
static void write_key_log(void *key_log_context, const char *line)
{
    struct weir_tls_context *context = key_log_context;
    struct iovec parts[2] = {
        {.iov_base = (char *)line, .iov_len = strlen(line)},
        {.iov_base = "\n", .iov_len = 1},
    };
    ssize_t written = writev(context->key_log, parts, 2);

    (void)written; /* the connection is worth more than the line */
}

static int open_key_log(struct weir_tls_context *context, const char *path, char *complaint)
{
    context->key_log = -1;
    if (!path)
        return 0;
    context->key_log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (context->key_log >= 0)
        return 0;
    snprintf(complaint, WEIR_TLS_COMPLAINT_MAX, "cannot open the key log %s: %s", path,
             strerror(errno));
    return WEIR_EACCESS;
}

static enum weir__tls_peer_certificate peer_of(const struct weir_tls_options *options)
{
    switch (options->peer) {
    case WEIR_TLS_PEER_OPTIONAL:
        return WEIR__TLS_PEER_OPTIONAL;
    case WEIR_TLS_PEER_REQUIRED:
        return WEIR__TLS_PEER_REQUIRED;
    case WEIR_TLS_PEER_UNVERIFIED_INSECURE:
        return WEIR__TLS_PEER_UNVERIFIED_INSECURE;
    case WEIR_TLS_PEER_DEFAULT:
        break;
    }
    return options->server ? WEIR__TLS_PEER_UNASKED : WEIR__TLS_PEER_REQUIRED;
}

static int invalid(char *complaint, const char *why)
{
    snprintf(complaint, WEIR_TLS_COMPLAINT_MAX, "%s", why);
    return WEIR_EINVAL;
}

static int check(const struct weir_tls_options *options, char *complaint)
{
    if (options->version_min < WEIR_TLS_1_2 || options->version_max > WEIR_TLS_1_3 ||
        options->version_min > options->version_max)
        return invalid(complaint, "no such range of TLS versions");
    if (options->server && options->certificate_count == 0)
        return invalid(complaint, "a server needs a certificate");
    if (!options->server && options->certificate_count > 1)
        return invalid(complaint, "a client has one certificate at most");
    if (options->alpn_count > WEIR__TLS_ALPN_MAX)
        return invalid(complaint, "too many protocols for ALPN");
    for (unsigned i = 0; i < options->alpn_count; i++) {
        size_t length = strlen(options->alpn[i]);
        if (length == 0 || length > WEIR__TLS_ALPN_BYTES_MAX)
            return invalid(complaint, "a protocol's name for ALPN is empty or too long");
    }
    if (options->records_max == 0 || options->records_max > RECORDS_MAX_DEFAULT)
        return invalid(complaint, "no such limit of records");
    return 0;
}

static int make_vendor_context(struct weir_tls_context *context,
                               const struct weir_tls_options *options,
                               const struct weir__tls_certificate *certificates, char *complaint)
{
    struct weir__tls_complaint said = {.text = ""};
    struct weir__tls_ticket_keys keys = {.count = 0};
    struct weir__tls_config config = {
        .server = options->server,
        .version_min = (uint16_t)options->version_min,
        .version_max = (uint16_t)options->version_max,
        .certificates = certificates,
        .certificate_count = options->certificate_count,
        .peer = peer_of(options),
        .trust_file = options->trust_file,
        .alpn = options->alpn,
        .alpn_count = options->alpn_count,
        .key_log = context->key_log >= 0 ? write_key_log : NULL,
        .key_log_context = context,
    };

    if (config.version_max > context->vendor->version_max)
        config.version_max = context->vendor->version_max;
    if (config.version_min > config.version_max) {
        snprintf(complaint, WEIR_TLS_COMPLAINT_MAX, "%s %s knows no TLS 1.3", context->vendor->name,
                 context->vendor->version());
        return WEIR_ENOTSUP;
    }
    if (options->tickets) {
        context->tickets_generation = weir__tls_tickets_get(options->tickets, &keys);
        config.tickets = &keys;
    }
    int error = context->vendor->context_new(&context->vendor_context, &config, &said);
    weir__tls_wipe(&keys, sizeof(keys));
    if (error)
        snprintf(complaint, WEIR_TLS_COMPLAINT_MAX, "%s",
                 said.text[0] ? said.text : weir_error_text(error));
    return error;
}

static void context_dispose(struct weir_tls_context *context)
{
    weir__tls_buffers_dispose(&context->buffers);
    if (context->vendor_context)
        context->vendor->context_free(context->vendor_context);
    if (context->key_log >= 0)
        close(context->key_log);
    weir__tls_wipe(context->room, sizeof(context->room));
    weir__release(context);
}

int weir__tls_context_new_with(struct weir_tls_context **result,
                               const struct weir__tls_vendor *vendor,
                               const struct weir_tls_options *options,
                               char complaint[WEIR_TLS_COMPLAINT_MAX])
{
    struct weir__tls_certificate certificates[64];
    struct weir_tls_context *context;
    const char *cipher_text;
    int error;

    complaint[0] = '\0';
    error = check(options, complaint);
    if (error)
        return error;
    if (options->certificate_count > sizeof(certificates) / sizeof(certificates[0]))
        return invalid(complaint, "more than 64 certificates");
    for (unsigned i = 0; i < options->certificate_count; i++) {
        certificates[i].certificate_file = options->certificates[i].certificate_file;
        certificates[i].key_file = options->certificates[i].key_file;
    }
    context = weir__allocate_zeroed(1, sizeof(*context));
    if (!context)
        return WEIR_ENOMEM;
    context->vendor = vendor;
    context->references = 1;
    context->server = options->server;
    context->kernel = options->kernel;
    context->handshake_timeout_ms = options->handshake_timeout_ms;
    context->records_max = options->records_max;
    if (options->cipher_source == WEIR_TLS_CIPHER_AUTO)
        context->ciphers = weir__tls_ciphers_fast(0, &cipher_text);
    context->tickets = options->tickets;
    context->alpn_count = options->alpn_count;
    for (unsigned i = 0; i < options->alpn_count; i++)
        snprintf(context->alpn[i], sizeof(context->alpn[i]), "%s", options->alpn[i]);
    error = open_key_log(context, options->key_log_file_insecure, complaint);
    if (!error)
        error = make_vendor_context(context, options, certificates, complaint);
    if (error) {
        context_dispose(context);
        return error;
    }
    *result = context;
    return 0;
}

int weir_tls_context_new(struct weir_tls_context **context, const struct weir_tls_options *options,
                         char complaint[WEIR_TLS_COMPLAINT_MAX])
{
    const struct weir__tls_vendor *vendor = weir__tls_vendor_find(options->vendor);

    if (vendor)
        return weir__tls_context_new_with(context, vendor, options, complaint);
    snprintf(complaint, WEIR_TLS_COMPLAINT_MAX, "libweir was built without %s",
             options->vendor ? options->vendor : "a TLS library");
    return WEIR_ENOTSUP;
}

void weir__tls_context_hold(struct weir_tls_context *context)
{
    context->references++;
}

void weir_tls_context_free(struct weir_tls_context *context)
{
    if (!context)
        return;
    assert(context->references > 0);
    if (--context->references == 0)
        context_dispose(context);
}

const char *weir_tls_context_vendor(const struct weir_tls_context *context)
{
    return context->vendor->name;
}

/* ---- what streams share ---- */

void weir__tls_context_refresh(struct weir_tls_context *context)
{
    struct weir__tls_ticket_keys keys;

    if (!context->tickets ||
        weir__tls_tickets_generation(context->tickets) == context->tickets_generation)
        return;
    context->tickets_generation = weir__tls_tickets_get(context->tickets, &keys);
    /* Without the new keys the old ones go on. */
    context->vendor->context_set_tickets(context->vendor_context, &keys);
    weir__tls_wipe(&keys, sizeof(keys));
}

const char *weir__tls_context_cipher_name(struct weir_tls_context *context, const char *name)
{
    unsigned i;

    for (i = 0; i < context->cipher_name_count; i++) {
        if (strcmp(context->cipher_names[i], name) == 0)
            return context->cipher_names[i];
    }
    if (i == WEIR__TLS_CIPHER_NAMES_MAX)
        return "unknown";
    snprintf(context->cipher_names[i], sizeof(context->cipher_names[i]), "%s", name);
    context->cipher_name_count++;
    return context->cipher_names[i];
}

const char *weir__tls_context_alpn(const struct weir_tls_context *context, const char *name)
{
    for (unsigned i = 0; i < context->alpn_count; i++) {
        if (strcmp(context->alpn[i], name) == 0)
            return context->alpn[i];
    }
    return "";
}
