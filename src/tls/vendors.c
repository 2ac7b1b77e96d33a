/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor.h"

#include <string.h>

#ifdef WEIR_HAVE_IPSEC_MB
#include "tls/vendor/ipsec_mb.h"
#endif

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

const struct weir__tls_ciphers *weir__tls_ciphers_fast(unsigned index, const char **text)
{
#ifdef WEIR_HAVE_IPSEC_MB
    return weir__ipsec_mb_find(index, text);
#else
    (void)index;
    *text = "libweir was built without ipsec-mb";
    return NULL;
#endif
}

void weir__tls_wipe(void *memory, size_t length)
{
    explicit_bzero(memory, length);
}
