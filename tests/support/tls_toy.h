/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TESTS_TLS_TOY_H
#define WEIR_TESTS_TLS_TOY_H

/*
 * A TLS library for the simulation and the fuzzers: all that struct weir__tls_vendor asks, with no
 * cryptography at all. It is fast, it is deterministic, and its records look like TLS's from
 * outside; whoever has seen the randoms knows the keys. What is tampered with, out of order or
 * sealed with another key is found out as it would be with a real library, by 64 bits of mixing and
 * not by cryptography.
 *
 * It speaks to itself alone: TLS 1.2 and 1.3, all ciphers, ALPN, server_name, tickets and client
 * certificates. Certificate files are not read, and every certificate is valid.
 * Of one thread: its randoms come from one counter.
 */

#include <stdint.h>

#include "tls/vendor.h"

extern const struct weir__tls_vendor weir__tls_toy;

/* The randoms of the handshakes from now on come from `seed`. */
void tls_toy_seed(uint64_t seed);

#endif
