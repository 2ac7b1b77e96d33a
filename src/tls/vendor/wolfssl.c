/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor/wolfssl_internal.h"

#include <pthread.h>

static bool is_usable;
static pthread_key_t thread_end;

/* Points that wolfSSL has calculated ahead are a thread's own, megabytes of them, and left behind by it. */
static void on_thread_end(void *unused)
{
    (void)unused;
    wc_ecc_fp_free();
}

static void library_load(void)
{
    is_usable =
        wolfSSL_Init() == WOLFSSL_SUCCESS && pthread_key_create(&thread_end, on_thread_end) == 0;
}

bool weir__wolfssl_is_usable(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, library_load);
    /* Any value but NULL has the destructor called. */
    return is_usable && pthread_setspecific(thread_end, &is_usable) == 0;
}

const struct weir__tls_vendor weir__tls_wolfssl = {
    .name = "wolfssl",
    .version = wolfSSL_lib_version,
    .version_max = WEIR__TLS_1_3,
    .lacks = WEIR__TLS_LACKS_TICKET_RENEWAL | WEIR__TLS_LACKS_OLD_RESUMPTION |
             WEIR__TLS_LACKS_CLIENTS_IN_TICKETS,
    .context_new = weir__wolfssl_context_new,
    .context_free = weir__wolfssl_context_free,
    .context_set_tickets = weir__wolfssl_context_set_tickets,
    .handshake_new = weir__wolfssl_handshake_new,
    .handshake_free = weir__wolfssl_handshake_free,
    .advance = weir__wolfssl_advance,
    .result = weir__wolfssl_result,
    .failure = weir__wolfssl_failure,
    .post_record = weir__wolfssl_post_record,
    .session_save = weir__wolfssl_session_save,
    .ciphers = {.name = "wolfssl",
                .aead_new = weir__wolfssl_aead_new,
                .aead_free = weir__wolfssl_aead_free,
                .aead_seal = weir__wolfssl_aead_seal,
                .aead_open = weir__wolfssl_aead_open},
    .hmac = weir__wolfssl_hmac,
    .self_signed = weir__wolfssl_self_signed,
};
