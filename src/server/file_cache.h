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
 *
 * Files of medium size are open, and their content may be in memory too, for those that ask for it. A budget
 * bounds such content. It goes to files that are asked for more than once, and is taken only from files that
 * nobody has asked for in the last WEIR__FILE_BELIEVED_NS: a set of files larger than the budget would
 * otherwise be read again and again, each time for the next one's sake.
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
    uint64_t hot_bytes, hot_bytes_max; /* content of open files; of files that left the table too */
};

struct weir__file_cache_bounds {
    uint32_t opened_max, files_max, others_max; /* files of each list; at least 1 */
    uint64_t hot_bytes_max;                     /* 0: no content of open files is kept */
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

/*
 * The content of a representation, which is a file's that the caller uses and stays until it is released; or
 * NULL: it is not in memory, but open. `now_ns` is that of the last weir__file_cache_get or later.
 */
const char *weir__file_cache_content(struct weir__file_cache *cache, struct weir__file *file,
                                     enum weir__coding coding, uint64_t now_ns);

/* Ends one use. The cache must still be there. */
void weir__file_release(struct weir__file_cache *cache, struct weir__file *file);

#endif
