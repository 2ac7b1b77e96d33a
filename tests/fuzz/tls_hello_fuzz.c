/* SPDX-License-Identifier: Apache-2.0 */

/* Looks for extensions in the input, taken as a record with a ClientHello. What is found is within. */

#include <stdint.h>
#include <stdlib.h>

#include "tls/vendor/shared.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint16_t types[] = {0, 16, 35, 43, 0xffff};
    size_t length;

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        const uint8_t *found = weir__tls_hello_extension(data, size, types[i], &length);
        if (found && (found < data || length > size - (size_t)(found - data)))
            abort();
    }
    return 0;
}
