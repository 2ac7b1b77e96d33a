/* SPDX-License-Identifier: Apache-2.0 */

/* Streams over TLS: all that holds for every stream, and what TLS adds. */
#include <stdio.h>
#include <string.h>

#include "support/stream_fixture.h"

static const struct stream_tls first[] = {
    {"TLS 1.3", NULL, NULL, WEIR_TLS_1_3, WEIR_TLS_KERNEL_OFF},
    {"TLS 1.2", NULL, NULL, WEIR_TLS_1_2, WEIR_TLS_KERNEL_OFF},
};

int main(void)
{
    return stream_suite_run("streams over TLS", stream_tests, stream_test_count, first, 2);
}
