/* SPDX-License-Identifier: Apache-2.0 */
#include "http/target.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

static int hex_value(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F')
        return digit - 'A' + 10;
    return -1;
}

/*
 * Decodes one segment, up to a slash or the end. Returns how many bytes of `path` it has, or a
 * negative HTTP status.
 */
static int decode_segment(struct weir__text path, char *out, size_t room, size_t *out_length)
{
    size_t in = 0, length = 0;
    while (in < path.length && path.data[in] != '/') {
        char byte = path.data[in++];
        if (byte == '%') {
            int high = in + 1 < path.length ? hex_value(path.data[in]) : -1;
            int low = high >= 0 ? hex_value(path.data[in + 1]) : -1;
            if (low < 0)
                return -400;
            byte = (char)(high << 4 | low);
            in += 2;
            if (byte == '/')
                return -404;
        }
        if (byte == '\0')
            return -400;
        if (length == room)
            return -414;
        out[length++] = byte;
    }
    *out_length = length;
    return (int)in;
}

/* The length of a path without its last segment: "a/b/" gives that of "a/". */
static size_t parent_length(const char *path, size_t length)
{
    if (length > 0)
        length--;
    while (length > 0 && path[length - 1] != '/')
        length--;
    return length;
}

int weir__target_decode(struct weir__text path, char decoded[WEIR__TARGET_PATH_MAX], size_t *length)
{
    assert(path.length > 0);
    assert(path.data[0] == '/');
    size_t end = 0; /* `decoded` is empty or ends with a slash before each segment */
    for (size_t in = 1; in <= path.length;) {
        struct weir__text rest = {path.data + in, path.length - in};
        size_t segment;
        /* One byte for the slash and one for the NUL. */
        size_t room = end < WEIR__TARGET_PATH_MAX - 2 ? WEIR__TARGET_PATH_MAX - 2 - end : 0;
        int taken = decode_segment(rest, decoded + end, room, &segment);
        if (taken < 0)
            return taken;
        in += (size_t)taken + 1;

        const char *name = decoded + end;
        bool is_dot = segment == 1 && name[0] == '.';
        bool is_parent = segment == 2 && name[0] == '.' && name[1] == '.';
        if (is_parent) {
            end = parent_length(decoded, end);
        } else if (segment > 0 && !is_dot) {
            end += segment;
            if (in <= path.length)
                decoded[end++] = '/';
        }
    }
    decoded[end] = '\0';
    *length = end;
    return 0;
}

static bool is_plain(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || (byte && strchr("-._~/", byte));
}

size_t weir__target_escape(struct weir__text path, char *escaped)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t length = 0;
    for (size_t i = 0; i < path.length; i++) {
        unsigned char byte = (unsigned char)path.data[i];
        if (is_plain(path.data[i])) {
            escaped[length++] = path.data[i];
        } else {
            escaped[length++] = '%';
            escaped[length++] = digits[byte >> 4];
            escaped[length++] = digits[byte & 15];
        }
    }
    return length;
}
