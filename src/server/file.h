/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_SERVER_FILE_H
#define WEIR_SERVER_FILE_H

/*
 * A path below a root folder, as it was when it was looked at: a regular file with its
 * precompressed siblings, a folder, or nothing that can be served.
 *
 * The kernel resolves each path beneath the root (openat2 with RESOLVE_BENEATH and
 * RESOLVE_NO_MAGICLINKS), so that neither "..", nor a symbolic link, nor a rename under way leads
 * out. Links that stay below the root are followed, the last one too (no O_NOFOLLOW): folders full
 * of relative links are an ordinary way to deploy a site. An absolute link counts as leading out.
 */

#include <stdbool.h>
#include <stdint.h>

#include "http/encoding.h"
#include "http/message.h"

/*
 * Files up to this size are kept in memory, so that a response is one send and holds no descriptor.
 * A cache of 1,024 such files has 16 MiB.
 */
#define WEIR__FILE_CONTENT_MAX 16384

/*
 * Files up to this size may have their content in memory beside their descriptor, for connections whose
 * bytes are encrypted here: reading 16 KiB for each record costs a fifth of what encrypting them does.
 */
#define WEIR__FILE_HOT_MAX 262144

/* What a folder is served as. */
#define WEIR__FILE_INDEX "index.html"

/* How a change is noticed. All zeros: there is no file. */
struct weir__file_version {
    uint64_t device, inode, size;
    int64_t modified_ns, changed_ns;
};

/* One content coding of a file. */
struct weir__representation {
    int descriptor; /* -1: it is not there, or so small that it is in memory alone */
    char *content;  /* NULL: it is not in memory */
    uint64_t size;
    /*
     * The header fields of a 200, as text: Content-Length, Content-Type, then from `features_at`
     * Accept-Ranges and Content-Encoding, then from `validators_at` those that a 304 has too:
     * Last-Modified, ETag and Vary.
     */
    char *fields; /* NULL: there is no such representation */
    uint16_t fields_length, type_at, features_at, validators_at;
    struct weir__text etag;
};

enum weir__file_kind {
    WEIR__FILE_REGULAR,
    WEIR__FILE_FOLDER, /* named without its slash */
    WEIR__FILE_NONE,   /* `status` says why */
};

struct weir__file {
    enum weir__file_kind kind;
    unsigned status;    /* NONE: 403 or 404 */
    unsigned available; /* REGULAR: bits 1 << enum weir__coding */
    bool is_open;       /* REGULAR: holds descriptors, one for each representation at most */
    bool settled;       /* false: changed so recently that it could change again unnoticed */
    int64_t modified_s; /* WEIR__MODIFIED_UNKNOWN if the clock says that it is yet to come */
    struct weir__text type;
    struct weir__representation representations[WEIR__CODING_COUNT];
    struct weir__file_version versions[WEIR__CODING_COUNT];

    /* The cache's own. */
    bool in_table;
    unsigned references; /* responses that use it */
    uint64_t checked_ns, used_ns;
    uint64_t hot_bytes;  /* of content that is in memory beside a descriptor */
    unsigned hot_wanted; /* such content was asked for: bits 1 << enum weir__coding */
    uint64_t hash;
    struct weir__file *chain;         /* next of its bucket */
    struct weir__file *newer, *older; /* in order of use */

    size_t path_length;
    char path[]; /* as weir__target_decode gives it */
};

/*
 * Opens a root folder. Returns a descriptor, or the errors of weir__site_new.
 */
int weir__root_open(const char *path);

/*
 * Looks at a path; `wall_s` is the time of day. Returns 0, or a negative HTTP status that says
 * nothing about the file: -503 without a descriptor or memory to spare, -500 if the system fails
 * otherwise.
 */
int weir__file_load(struct weir__file **file, int root, struct weir__text path, int64_t wall_s);

/* What weir__file_check returns. */
#define WEIR__FILE_SAME    0
#define WEIR__FILE_CHANGED 1

/*
 * Looks whether a regular file that is settled, and its siblings, still are what they were. Returns
 * WEIR__FILE_SAME, WEIR__FILE_CHANGED or -503.
 */
int weir__file_check(const struct weir__file *file, int root);

/*
 * Reads the content of a representation that is open into memory. Waits for no disk where the file system can
 * tell (preadv2(2), RWF_NOWAIT). False, and nothing has changed: not all of it is in the kernel's memory, the
 * file is not what it was any more, or memory is out.
 */
bool weir__file_heat(struct weir__file *file, enum weir__coding coding);

/* Gives up what weir__file_heat has read. No response may use the file. */
void weir__file_cool(struct weir__file *file);

/* Closes and frees. */
void weir__file_free(struct weir__file *file);

#endif
