/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_WEIR_H
#define WEIR_WEIR_H

/** All of libweir. Each header also stands alone. */

#include <weir/address.h>
#include <weir/delivery.h>
#include <weir/error.h>
#include <weir/listener.h>
#include <weir/loop.h>
#include <weir/memory.h>
#include <weir/stream.h>
#include <weir/timer.h>
#include <weir/tls.h>
#include <weir/version.h>

#endif
