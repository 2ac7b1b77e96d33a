/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TLS_VENDOR_IPSEC_MB_H
#define WEIR_TLS_VENDOR_IPSEC_MB_H

/* libipsec-mb, which is for x86-64 only: ciphers for the other libraries' connections. */

#include "tls/vendor.h"

/* What weir__tls_ciphers_fast does, where this library was there when libweir was built. */
const struct weir__tls_ciphers *weir__ipsec_mb_find(unsigned index, const char **text);

#endif
