/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_NET_OFFSET_MAP_H
#define WEIR_NET_OFFSET_MAP_H

/*
 * From offsets of the wire to those of the owner's bytes, where the two differ: TLS has records, and a
 * record tells the peer nothing before its last byte is there. Pure, but that it takes memory for its marks
 * while there are any.
 */

#include <stdint.h>

/*
 * Marks that are kept. With records of 16 KiB that is one for each record in 2 MiB of flight; beyond
 * that every second mark is forgotten, and what is known becomes coarser, never wrong.
 */
#define WEIR__OFFSET_MARKS_MAX 128

struct weir__offset_mark {
    uint64_t wire;  /* once so many bytes of the wire are there, */
    uint64_t plain; /* so many of the owner's are */
    /*
     * Of the wire's bytes since the mark before, all but so many are the owner's, wherever one stops counting.
     * That is for records whose number is known and whose places are not: the kernel's.
     */
    uint64_t slack;
};

/* The bytes up to a mark are all there or of no use: it stands for one record. */
#define WEIR__OFFSET_WHOLE UINT64_MAX

/* One that is all zeros is empty. */
struct weir__offset_map {
    struct weir__offset_mark passed; /* the last one that is known to be passed */
    struct weir__offset_mark *marks; /* behind it, in order; NULL: there are none */
    unsigned count, size;
};

void weir__offset_map_dispose(struct weir__offset_map *map);

/* Both are at or past those of the last mark. Without memory what is known is coarser. */
void weir__offset_map_add(struct weir__offset_map *map, uint64_t wire, uint64_t plain,
                          uint64_t slack);

/* The last mark, or the one that everything is past. */
struct weir__offset_mark weir__offset_map_last(const struct weir__offset_map *map);

/* Bytes of the owner's that are whole at this offset of the wire: at least so many. */
uint64_t weir__offset_map_plain(const struct weir__offset_map *map, uint64_t wire);

/* Nobody will ask for less than `wire` any more. */
void weir__offset_map_pass(struct weir__offset_map *map, uint64_t wire);

#endif
