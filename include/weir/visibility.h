/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_VISIBILITY_H
#define WEIR_VISIBILITY_H

/** Marks what the shared library exports; everything else is hidden. */
#define WEIR_API __attribute__((visibility("default")))

#endif
