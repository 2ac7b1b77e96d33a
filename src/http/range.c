/* SPDX-License-Identifier: Apache-2.0 */
#include "http/range.h"

#include <assert.h>
#include <stdbool.h>
#include <strings.h>

struct cursor {
    const char *at, *end;
};

static bool take_byte(struct cursor *cursor, char byte)
{
    if (cursor->at == cursor->end || *cursor->at != byte)
        return false;
    cursor->at++;
    return true;
}

static void skip_space(struct cursor *cursor)
{
    while (take_byte(cursor, ' ') || take_byte(cursor, '\t'))
        ;
}

/* Takes digits. A number beyond 64 bits is beyond every file: it becomes the largest. */
static bool take_number(struct cursor *cursor, uint64_t *number)
{
    const char *start = cursor->at;
    bool overflow = false;
    uint64_t value = 0;
    for (; cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9'; cursor->at++)
        overflow = overflow || __builtin_mul_overflow(value, 10, &value) ||
                   __builtin_add_overflow(value, (uint64_t)(*cursor->at - '0'), &value);
    *number = overflow ? UINT64_MAX : value;
    return cursor->at > start;
}

/*
 * Takes one range-spec. Returns false if it is malformed. `range->length` is 0 where it names no
 * byte of the representation.
 */
static bool take_spec(struct cursor *cursor, uint64_t size, struct weir__range *range)
{
    uint64_t first, last;
    range->length = 0;
    if (take_byte(cursor, '-')) {
        uint64_t suffix;
        if (!take_number(cursor, &suffix))
            return false;
        range->length = suffix < size ? suffix : size;
        range->first = size - range->length;
        return true;
    }
    if (!take_number(cursor, &first) || !take_byte(cursor, '-'))
        return false;
    if (!take_number(cursor, &last))
        last = UINT64_MAX;
    else if (last < first)
        return false;
    if (first < size) {
        range->first = first;
        range->length = (last < size ? last + 1 : size) - first;
    }
    return true;
}

static bool touch(const struct weir__range *a, const struct weir__range *b)
{
    return a->first <= b->first + b->length && b->first <= a->first + a->length;
}

/* Adds a range, joined with all that it touches, in the place of the first of them. */
static void add(struct weir__ranges *ranges, struct weir__range range)
{
    unsigned place = ranges->count;
    for (unsigned i = 0; i < ranges->count; i++) {
        if (touch(&ranges->ranges[i], &range)) {
            place = i;
            break;
        }
    }
    if (place == ranges->count) {
        assert(ranges->count < WEIR__RANGE_SPECS_MAX);
        ranges->ranges[ranges->count++] = range;
        return;
    }

    /* What is there is disjoint, so all that the joined range touches, the new one touches. */
    unsigned kept = place + 1;
    struct weir__range *joined = &ranges->ranges[place];
    uint64_t first = range.first < joined->first ? range.first : joined->first;
    uint64_t end = range.first + range.length;
    if (end < joined->first + joined->length)
        end = joined->first + joined->length;
    for (unsigned i = place + 1; i < ranges->count; i++) {
        const struct weir__range *other = &ranges->ranges[i];
        if (!touch(other, &range)) {
            ranges->ranges[kept++] = *other;
            continue;
        }
        first = other->first < first ? other->first : first;
        end = other->first + other->length > end ? other->first + other->length : end;
    }
    *joined = (struct weir__range){.first = first, .length = end - first};
    ranges->count = kept;
}

enum weir__range_outcome weir__range_parse(struct weir__text value, uint64_t size,
                                           struct weir__ranges *ranges)
{
    static const char unit[] = "bytes=";
    const size_t unit_length = sizeof(unit) - 1;
    ranges->count = 0;
    if (value.length < unit_length || strncasecmp(value.data, unit, unit_length) != 0)
        return WEIR__RANGE_IGNORED;

    struct cursor cursor = {value.data + unit_length, value.data + value.length};
    unsigned specs = 0, named = 0;
    bool empty_suffix = false;
    do {
        skip_space(&cursor);
        if (++specs > WEIR__RANGE_SPECS_MAX)
            return WEIR__RANGE_IGNORED;
        if (cursor.at == cursor.end || *cursor.at == ',')
            continue; /* an empty list element (RFC 9110 5.6.1.2) */
        struct weir__range range;
        bool is_suffix = *cursor.at == '-';
        if (!take_spec(&cursor, size, &range))
            return WEIR__RANGE_IGNORED;
        named++;
        if (range.length > 0)
            add(ranges, range);
        else if (is_suffix && size == 0)
            empty_suffix = true;
        skip_space(&cursor);
    } while (take_byte(&cursor, ','));

    if (cursor.at != cursor.end || named == 0 || ranges->count > WEIR__RANGES_MAX)
        return WEIR__RANGE_IGNORED;
    /* The last bytes of nothing can be had, but no Content-Range can say so. */
    if (empty_suffix)
        return WEIR__RANGE_IGNORED;
    return ranges->count > 0 ? WEIR__RANGE_SATISFIABLE : WEIR__RANGE_UNSATISFIABLE;
}
