/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TESTS_MEMORY_FAIL_H
#define WEIR_TESTS_MEMORY_FAIL_H

/* An allocator that fails when told to, and counts what is live. */

#include <stdbool.h>
#include <stddef.h>

/* Puts it under libweir, for the rest of the process. Call it first of all, as weir_memory_replace
 * says. */
void memory_fail_install(void);
/* The `nth` allocation from now on fails (1 = the next), and none after it; 0: none fails. */
void memory_fail_at(unsigned nth);
/* Whether an allocation has failed since memory_fail_at. */
bool memory_fail_happened(void);
/* Allocations that were not released. */
size_t memory_fail_live(void);

#endif
