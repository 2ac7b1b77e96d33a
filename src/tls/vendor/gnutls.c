/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor/gnutls_internal.h"

static const char *version(void)
{
    return gnutls_check_version(NULL);
}

const struct weir__tls_vendor weir__tls_gnutls = {
    .name = "gnutls",
    .version = version,
    .version_max = WEIR__TLS_1_3,
    .lacks = WEIR__TLS_LACKS_OLD_TICKET_KEYS | WEIR__TLS_LACKS_RENEWED_TICKETS,
    .context_new = weir__gnutls_context_new,
    .context_free = weir__gnutls_context_free,
    .context_set_tickets = weir__gnutls_context_set_tickets,
    .handshake_new = weir__gnutls_handshake_new,
    .handshake_free = weir__gnutls_handshake_free,
    .advance = weir__gnutls_advance,
    .result = weir__gnutls_result,
    .failure = weir__gnutls_failure,
    .post_record = weir__gnutls_post_record,
    .session_save = weir__gnutls_session_save,
    .ciphers = {.name = "gnutls",
                .aead_new = weir__gnutls_aead_new,
                .aead_free = weir__gnutls_aead_free,
                .aead_seal = weir__gnutls_aead_seal,
                .aead_open = weir__gnutls_aead_open},
    .hmac = weir__gnutls_hmac,
    .self_signed = weir__gnutls_self_signed,
};
