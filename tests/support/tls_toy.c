/* SPDX-License-Identifier: Apache-2.0 */
#include "support/tls_toy.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include <weir/error.h>

#include "core/memory.h"
#include "support/tls_toy_crypto.h"
#include "support/tls_toy_internal.h"

/* ---- contexts ---- */

static int toy_context_new(struct weir__tls_vendor_context **context_out,
                           const struct weir__tls_config *config,
                           struct weir__tls_complaint *complaint)
{
    const unsigned all = 1u << WEIR__TLS_AES_128_GCM | 1u << WEIR__TLS_AES_256_GCM |
                         1u << WEIR__TLS_CHACHA20_POLY1305;

    int error = weir__tls_config_check(config, complaint);
    if (error)
        return error;
    struct weir__tls_vendor_context *context = weir__allocate_zeroed(1, sizeof(*context));
    if (!context) {
        weir__tls_complain(complaint, "out of memory");
        return WEIR_ENOMEM;
    }
    context->server = config->server;
    context->version_min = config->version_min;
    context->version_max = config->version_max;
    context->ciphers = config->ciphers ? config->ciphers & all : all;
    context->peer = config->peer;
    context->certificate = config->certificate_count > 0;
    if (config->server && config->tickets)
        context->tickets = *config->tickets;
    context->alpn_length = weir__tls_alpn_wire(config, context->alpn);
    *context_out = context;
    return 0;
}

static void toy_context_free(struct weir__tls_vendor_context *context)
{
    if (context) {
        assert(context->handshakes == 0);
        weir__tls_wipe(context, sizeof(*context));
    }
    weir__release(context);
}

static int toy_context_set_tickets(struct weir__tls_vendor_context *context,
                                   const struct weir__tls_ticket_keys *tickets)
{
    assert(context->server);
    context->tickets = *tickets;
    return 0;
}

/* ---- handshakes ---- */

/* What session_save wrote: for which name, which version, and the ticket. */
static void resume_read(struct weir__tls_handshake *handshake, const uint8_t *data, size_t length)
{
    struct weir__tls_saved wanted = {
        .verified = handshake->context->peer == WEIR__TLS_PEER_REQUIRED,
        .server_name = handshake->server_name,
    };
    size_t prefix = weir__tls_saved_match(&wanted, data, length);

    if (prefix == 0 || length - prefix != TLS_TOY_TICKET)
        return;
    memcpy(handshake->offered, data + prefix, TLS_TOY_TICKET);
    handshake->offers = true;
}

static int toy_handshake_new(struct weir__tls_handshake **handshake_out,
                             struct weir__tls_vendor_context *context,
                             const struct weir__tls_handshake_options *options)
{
    const char *name = context->server ? NULL : options->server_name;
    enum weir__tls_name_kind kind = name ? weir__tls_name_kind(name) : WEIR__TLS_NAME_ADDRESS;

    if (kind == WEIR__TLS_NAME_WRONG)
        return WEIR_EINVAL;
    struct weir__tls_handshake *handshake = weir__allocate_zeroed(1, sizeof(*handshake));
    if (!handshake)
        return WEIR_ENOMEM;
    handshake->context = context;
    handshake->emit = options->emit;
    handshake->emit_context = options->emit_context;
    handshake->state = context->server ? TLS_TOY_WAIT_CLIENT_HELLO : TLS_TOY_START;
    handshake->failure = "";
    if (kind == WEIR__TLS_NAME_HOST)
        snprintf(handshake->server_name, sizeof(handshake->server_name), "%s", name);
    if (!context->server && options->resume)
        resume_read(handshake, options->resume, options->resume_length);
    context->handshakes++;
    *handshake_out = handshake;
    return 0;
}

static void toy_handshake_free(struct weir__tls_handshake *handshake)
{
    if (!handshake)
        return;
    assert(handshake->context->handshakes > 0);
    handshake->context->handshakes--;
    weir__tls_protector_dispose(&handshake->seal);
    weir__tls_protector_dispose(&handshake->open);
    weir__tls_wipe(handshake, sizeof(*handshake));
    weir__release(handshake);
}

static int toy_session_save(struct weir__tls_handshake *handshake, uint8_t *data, size_t size)
{
    struct weir__tls_saved saved = {
        .verified = handshake->context->peer == WEIR__TLS_PEER_REQUIRED,
        .server_name = handshake->server_name,
    };

    if (handshake->context->server || handshake->state != TLS_TOY_DONE || !handshake->has_ticket)
        return 0;
    int prefix = weir__tls_saved_write(&saved, data, size);
    if (prefix < 0 || size - (size_t)prefix < TLS_TOY_TICKET)
        return WEIR_ENOBUFS;
    memcpy(data + prefix, handshake->ticket, TLS_TOY_TICKET);
    return prefix + TLS_TOY_TICKET;
}

/* ---- what came of it ---- */

static int toy_result(struct weir__tls_handshake *handshake, struct weir__tls_result *result)
{
    assert(handshake->state == TLS_TOY_DONE);
    *result = (struct weir__tls_result){
        .version = handshake->version,
        .hash = handshake->suite->hash,
        .tx = handshake->tx,
        .rx = handshake->rx,
        .resumed = handshake->resumed,
        .peer_certificate = handshake->peer_certificate,
    };
    snprintf(result->cipher_name, sizeof(result->cipher_name), "%s", handshake->suite->name);
    memcpy(result->alpn, handshake->alpn, sizeof(result->alpn));
    if (handshake->context->server)
        memcpy(result->server_name, handshake->server_name, sizeof(result->server_name));
    return 0;
}

static const char *toy_failure(struct weir__tls_handshake *handshake)
{
    return handshake->failure;
}

static const char *toy_version(void)
{
    return "1";
}

const struct weir__tls_vendor weir__tls_toy = {
    .name = "toy",
    .version = toy_version,
    .version_max = WEIR__TLS_1_3,
    .context_new = toy_context_new,
    .context_free = toy_context_free,
    .context_set_tickets = toy_context_set_tickets,
    .handshake_new = toy_handshake_new,
    .handshake_free = toy_handshake_free,
    .advance = tls_toy_advance,
    .result = toy_result,
    .failure = toy_failure,
    .post_record = tls_toy_post_record,
    .session_save = toy_session_save,
    .ciphers = {.name = "toy",
                .aead_new = tls_toy_aead_new,
                .aead_free = tls_toy_aead_free,
                .aead_seal = tls_toy_aead_seal,
                .aead_open = tls_toy_aead_open},
    .hmac = tls_toy_hmac,
};
