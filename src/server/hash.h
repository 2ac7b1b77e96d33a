/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_SERVER_HASH_H
#define WEIR_SERVER_HASH_H

#include <stddef.h>
#include <stdint.h>

/*
 * SipHash-2-4 (Aumasson and Bernstein, 2012): who does not know the seed cannot choose keys that
 * collide.
 */
uint64_t weir__hash(const uint64_t seed[2], const void *data, size_t length);

#endif
