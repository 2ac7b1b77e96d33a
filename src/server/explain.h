/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_SERVER_EXPLAIN_H
#define WEIR_SERVER_EXPLAIN_H

/*
 * weir doctor --explain: how weir sends on this machine, and why. The policy that decides is asked, not described:
 * what is printed is what is done. Loopback is tried by a send of weir's own; nothing is sent to anybody else.
 *
 * The JSON is one object:
 *   "version"     of weir
 *   "engine"      that --engine auto chooses, or null
 *   "zerocopy"    whether it has zero copy (a boolean)
 *   "loopback"    what became of the send over loopback: "zerocopy", "copied", "refused", or null where none could
 *                 be made
 *   "interfaces"  an array of what other addresses there are, none of which was tried: "name", "address"
 *   "decisions"   an array, of each transport ("plain", "file", "tls", "ktls"), route ("loopback", "new") and size:
 *                 "transport", "route", "bytes", "send", "reason" and "text", as weir/send.h names them
 *   "congestion_control" the system's, on which a file's pieces depend
 *   "pieces"      bytes: "file" of one call (0: no bound), "file_operation", "record", "tls_send", "part_min"; and
 *                 "parts", their number
 *   "limits"      "pinned_bytes", "pinned_bytes_connection", "zerocopy_bytes_min", "rtt_us", "rtt_busy_us",
 *                 "memlock_bytes" (null: no limit, or none that concerns this user), "optmem_bytes" (null: unknown)
 */

#include <stdbool.h>
#include <stdio.h>

/* Returns 0, or -1 if `out` cannot be written. */
int weir__explain_run(bool json, FILE *out);

#endif
