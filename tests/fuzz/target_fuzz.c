/* SPDX-License-Identifier: Apache-2.0 */

/* Paths of requests: whatever comes in, what comes out is a path below the root, and stays one. */

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* No leading slash, no empty, "." or ".." segment, no NUL. */
static void check_normal(const char *path, size_t length)
{
    assert(length < WEIR__TARGET_PATH_MAX);
    assert(strlen(path) == length);
    for (size_t start = 0; start < length;) {
        size_t segment = strcspn(path + start, "/");
        assert(segment > 0);
        assert(!(segment == 1 && path[start] == '.'));
        assert(!(segment == 2 && path[start] == '.' && path[start + 1] == '.'));
        start += segment + 1;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* Of the exact size, so that a read past its end is seen. */
    char *path = malloc(size + 1);
    char decoded[WEIR__TARGET_PATH_MAX], again[WEIR__TARGET_PATH_MAX];
    char escaped[1 + WEIR__TARGET_ESCAPE_FACTOR * WEIR__TARGET_PATH_MAX];
    size_t length, length_again;
    assert(path);
    path[0] = '/';
    if (size > 0)
        memcpy(path + 1, data, size);

    int status = weir__target_decode((struct weir__text){path, size + 1}, decoded, &length);
    free(path);
    if (status != 0) {
        assert(status == -400 || status == -404 || status == -414);
        return 0;
    }
    check_normal(decoded, length);

    /* Escaped and read again it is the same. */
    escaped[0] = '/';
    size_t escaped_length =
        1 + weir__target_escape((struct weir__text){decoded, length}, escaped + 1);
    for (size_t i = 0; i < escaped_length; i++)
        assert(escaped[i] > ' ' && escaped[i] < 0x7f);
    status =
        weir__target_decode((struct weir__text){escaped, escaped_length}, again, &length_again);
    assert(status == 0);
    assert(length_again == length);
    assert(memcmp(again, decoded, length) == 0);
    return 0;
}
