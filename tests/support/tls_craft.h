/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TESTS_TLS_CRAFT_H
#define WEIR_TESTS_TLS_CRAFT_H

#include "tls/record.h"

/*
 * Makes a record that is authentic whatever is in it, as weir__tls_seal never would. In TLS 1.3
 * `bytes` are the whole TLSInnerPlaintext, with type and padding, and `type` is the outer one. The
 * explicit nonce of TLS 1.2 is not the sequence. The record has the sequence of `seal`, which stays
 * as it is. `record` has room for WEIR__TLS_RECORD_MAX bytes. Returns its length.
 */
size_t tls_craft_record(const struct weir__tls_protector *seal, uint8_t type, const uint8_t *bytes,
                        size_t length, uint8_t *record);

#endif
