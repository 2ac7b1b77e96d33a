/* SPDX-License-Identifier: Apache-2.0 */
#include "net/offset_map.h"

#include <assert.h>
#include <string.h>

void weir__offset_map_init(struct weir__offset_map *map)
{
    map->passed = (struct weir__offset_mark){.wire = 0};
    map->count = 0;
}

struct weir__offset_mark weir__offset_map_last(const struct weir__offset_map *map)
{
    return map->count > 0 ? map->marks[map->count - 1] : map->passed;
}

/* Keeps the second of each pair: a mark stands for all that lies before it. */
static void coarsen(struct weir__offset_map *map)
{
    for (unsigned i = 0; i < WEIR__OFFSET_MARKS_MAX / 2; i++) {
        uint64_t first = map->marks[2 * i].slack, second = map->marks[2 * i + 1].slack;

        map->marks[i] = map->marks[2 * i + 1];
        map->marks[i].slack =
            first > WEIR__OFFSET_WHOLE - second ? WEIR__OFFSET_WHOLE : first + second;
    }
    map->count = WEIR__OFFSET_MARKS_MAX / 2;
}

void weir__offset_map_add(struct weir__offset_map *map, uint64_t wire, uint64_t plain,
                          uint64_t slack)
{
    struct weir__offset_mark last = weir__offset_map_last(map);

    assert(wire >= last.wire);
    assert(plain >= last.plain);
    if (plain == last.plain)
        return;
    if (map->count == WEIR__OFFSET_MARKS_MAX)
        coarsen(map);
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
    memmove(map->marks, map->marks + before, map->count * sizeof(map->marks[0]));
}
