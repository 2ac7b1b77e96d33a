/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_SERVER_FILE_CACHE_H
#define WEIR_SERVER_FILE_CACHE_H

/*
 * The files of one root that were asked for lately, open or in memory, so that asking again costs
 * no system call and no allocation. For one thread.
 *
 * What was found is believed for WEIR__FILE_BELIEVED_NS; then the path is looked at again before it
 * is used. A file that was replaced, changed, made or deleted is seen after at most that. Responses
 * that began with the old file go on with it.
 */

#include <stdint.h>

#include "server/file.h"

#define WEIR__FILE_BELIEVED_NS UINT64_C(1000000000)

/* How many idle files are given up when the process or the host is out of descriptors. */
#define WEIR__FILE_EVICT_BATCH 16

/* Files in order of use. */
struct weir__file_list {
    struct weir__file *newest, *oldest;
    uint32_t count, max;
};

struct weir__file_cache {
    int root;
    uint64_t seed[2];
    struct weir__file **buckets;
    uint64_t bucket_mask;
    /* Apart, so that a search for paths that do not exist drives no file out. */
    struct weir__file_list opened; /* regular files that hold descriptors */
    struct weir__file_list files;  /* regular files in memory */
    struct weir__file_list others; /* folders without their slash, and what cannot be served */
    uint32_t in_use; /* references of responses, those to files that left the table too */
};

/* Files of each list; all at least 1. */
struct weir__file_cache_bounds {
    uint32_t opened_max, files_max, others_max;
};

/*
 * Takes over `root`, a descriptor of weir__root_open, also if it fails. Returns 0 or WEIR_ENOMEM.
 */
int weir__file_cache_init(struct weir__file_cache *cache, int root, const uint64_t seed[2],
                          const struct weir__file_cache_bounds *bounds);

/* Nothing may be in use. */
void weir__file_cache_dispose(struct weir__file_cache *cache);

/*
 * Finds what a path (of weir__target_decode) names. The file stays as it is until
 * weir__file_release. Returns 0, or the negative HTTP status of weir__file_load, after idle files
 * were given up in vain.
 */
int weir__file_cache_get(struct weir__file_cache *cache, struct weir__text path, uint64_t now_ns,
                         int64_t wall_s, struct weir__file **file);

/* Ends one use. The cache must still be there. */
void weir__file_release(struct weir__file_cache *cache, struct weir__file *file);

#endif
