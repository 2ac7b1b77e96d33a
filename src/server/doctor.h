/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_SERVER_DOCTOR_H
#define WEIR_SERVER_DOCTOR_H

/*
 * weir doctor: tries what Weir can use of this kernel, and prints what was found, as a table for
 * people or as JSON for scripts.
 *
 * The JSON is one object:
 *   "version"      of weir
 *   "kernel"       its release
 *   "engine_auto"  the engine that --engine auto chooses: "io_uring", "epoll", "poll", or null
 *   "delivery_by"  how that engine learns of a delivery: "tx_ack", "tcp_info" or "none"
 *   "tls_default"  the TLS library that weir serve takes without --tls, or null
 *   "tls_libraries" an array; each has "name", "version" and "newest", the newest version of TLS that it
 *                  knows, "TLSv1.2" or "TLSv1.3"
 *   "tls_cipher"   what encrypts by AES-GCM in user space, with --tls-cipher auto: an object with "name", null
 *                  if it is the TLS library, and "detail", how it does that or why there is none
 *   "probes"       an array; each has "id" (as weir__probe_name says; ids are kept from version to
 *                  version, new ones may come), "works" (a boolean), "title" (what it is, in
 * words), and "detail" (if it works, a remark or ""; else why it does not)
 */

#include <stdbool.h>
#include <stdio.h>

/* Returns 0, or -1 if `out` cannot be written. That something does not work is a finding, not a
 * failure. */
int weir__doctor_run(bool json, FILE *out);

/* A text as a JSON string. */
void weir__json_text_print(const char *text, FILE *out);

#endif
