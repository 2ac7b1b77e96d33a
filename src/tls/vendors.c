/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor.h"

#include <string.h>

/* The build defines WEIR_HAVE_* for each library that it found. */
#ifdef WEIR_HAVE_OPENSSL
extern const struct weir__tls_vendor weir__tls_openssl;
#endif
#ifdef WEIR_HAVE_GNUTLS
extern const struct weir__tls_vendor weir__tls_gnutls;
#endif
#ifdef WEIR_HAVE_WOLFSSL
extern const struct weir__tls_vendor weir__tls_wolfssl;
#endif
#ifdef WEIR_HAVE_MBEDTLS
extern const struct weir__tls_vendor weir__tls_mbedtls;
#endif

const struct weir__tls_vendor *const weir__tls_vendors[] = {
#ifdef WEIR_HAVE_OPENSSL
    &weir__tls_openssl,
#endif
#ifdef WEIR_HAVE_GNUTLS
    &weir__tls_gnutls,
#endif
#ifdef WEIR_HAVE_WOLFSSL
    &weir__tls_wolfssl,
#endif
#ifdef WEIR_HAVE_MBEDTLS
    &weir__tls_mbedtls,
#endif
    NULL,
};

const struct weir__tls_vendor *weir__tls_vendor_find(const char *name)
{
    for (unsigned i = 0; weir__tls_vendors[i]; i++) {
        if (!name || strcmp(weir__tls_vendors[i]->name, name) == 0)
            return weir__tls_vendors[i];
    }
    return NULL;
}

void weir__tls_wipe(void *memory, size_t length)
{
    explicit_bzero(memory, length);
}
