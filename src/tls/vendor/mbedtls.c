/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor/mbedtls_internal.h"

#include <mbedtls/version.h>

static const char *version(void)
{
    static _Thread_local char text[16];

    mbedtls_version_get_string(text);
    return text;
}

const struct weir__tls_vendor weir__tls_mbedtls = {
    .name = "mbedtls",
    .version = version,
    .version_max = WEIR__TLS_1_2,
    .lacks = WEIR__TLS_LACKS_TICKET_RENEWAL,
    .context_new = weir__mbedtls_context_new,
    .context_free = weir__mbedtls_context_free,
    .context_set_tickets = weir__mbedtls_context_set_tickets,
    .handshake_new = weir__mbedtls_handshake_new,
    .handshake_free = weir__mbedtls_handshake_free,
    .advance = weir__mbedtls_advance,
    .result = weir__mbedtls_result,
    .failure = weir__mbedtls_failure,
    .post_record = weir__mbedtls_post_record,
    .session_save = weir__mbedtls_session_save,
    .ciphers = {.name = "mbedtls",
                .aead_new = weir__mbedtls_aead_new,
                .aead_free = weir__mbedtls_aead_free,
                .aead_seal = weir__mbedtls_aead_seal,
                .aead_open = weir__mbedtls_aead_open},
    .hmac = weir__mbedtls_hmac,
    .self_signed = weir__mbedtls_self_signed,
};
