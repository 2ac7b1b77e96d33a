/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_VERSION_H
#define WEIR_VERSION_H

#include <weir/visibility.h>

/** The version of these headers; the build reads it from here. */
#define WEIR_VERSION_MAJOR 0
#define WEIR_VERSION_MINOR 1
#define WEIR_VERSION_PATCH 0
#define WEIR_VERSION_TEXT  "0.1.0"

/** The version of the library that is loaded, such as "0.1.0". Any thread; static text. */
WEIR_API const char *weir_version(void);

#endif
