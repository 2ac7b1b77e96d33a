/* SPDX-License-Identifier: Apache-2.0 */
#include "net/offset_map.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "core/memory.h"

/* What a response of 100 KB needs. */
#define MARKS_MIN 8

void weir__offset_map_dispose(struct weir__offset_map *map)
{
    weir__release(map->marks);
    map->marks = NULL;
    map->count = map->size = 0;
}

struct weir__offset_mark weir__offset_map_last(const struct weir__offset_map *map)
{
    return map->count > 0 ? map->marks[map->count - 1] : map->passed;
}

/* Keeps the second of each pair: a mark stands for all that lies before it. */
static void coarsen(struct weir__offset_map *map)
{
    for (unsigned i = 0; i < map->count / 2; i++) {
        uint64_t first = map->marks[2 * i].slack, second = map->marks[2 * i + 1].slack;

        map->marks[i] = map->marks[2 * i + 1];
        map->marks[i].slack =
            first > WEIR__OFFSET_WHOLE - second ? WEIR__OFFSET_WHOLE : first + second;
    }
    map->count /= 2;
}

/* Returns whether there is room for one more mark. */
static bool reserve(struct weir__offset_map *map)
{
    unsigned size = map->size ? 2 * map->size : MARKS_MIN;
    struct weir__offset_mark *marks;

    if (map->count < map->size)
        return true;
    if (size <= WEIR__OFFSET_MARKS_MAX) {
        marks = weir__reallocate(map->marks, size * sizeof(*marks));
        if (marks) {
            map->marks = marks;
            map->size = size;
            return true;
        }
    }
    if (map->count > 0)
        coarsen(map);
    return map->count < map->size;
}

void weir__offset_map_add(struct weir__offset_map *map, uint64_t wire, uint64_t plain,
                          uint64_t slack)
{
    struct weir__offset_mark last = weir__offset_map_last(map);

    assert(wire >= last.wire);
    assert(plain >= last.plain);
    if (plain == last.plain || !reserve(map))
        return;
    map->marks[map->count++] = (struct weir__offset_mark){wire, plain, slack};
}

/* How many marks lie at or before `wire`. */
static unsigned marks_before(const struct weir__offset_map *map, uint64_t wire)
{
    unsigned low = 0, high = map->count;

    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (map->marks[middle].wire <= wire)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint64_t weir__offset_map_plain(const struct weir__offset_map *map, uint64_t wire)
{
    unsigned before = marks_before(map, wire);
    const struct weir__offset_mark *last = before > 0 ? &map->marks[before - 1] : &map->passed;
    const struct weir__offset_mark *next = before < map->count ? &map->marks[before] : NULL;
    uint64_t plain;

    if (!next || wire <= last->wire || wire - last->wire <= next->slack)
        return last->plain;
    plain = last->plain + (wire - last->wire - next->slack);
    return plain < next->plain ? plain : next->plain;
}

void weir__offset_map_pass(struct weir__offset_map *map, uint64_t wire)
{
    unsigned before = marks_before(map, wire);

    if (before == 0)
        return;
    map->passed = map->marks[before - 1];
    map->count -= before;
    if (map->count == 0) {
        weir__offset_map_dispose(map);
        return;
    }
    memmove(map->marks, map->marks + before, map->count * sizeof(map->marks[0]));
}
