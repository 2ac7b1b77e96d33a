/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_SERVER_SITE_H
#define WEIR_SERVER_SITE_H

/*
 * A folder as a web site: a request goes in, a plan of the response comes out. No sockets: who
 * carries the plan out sends the header, then the segments in their order, and disposes of the
 * response once nothing of it is in use any more. A site belongs to one thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http/message.h"

struct weir__site;
struct weir__file;

/*
 * Room for a response's header. Only a redirect to a long path needs more; it allocates. A file's
 * header has about 450 bytes, with each field at its longest about 600.
 */
#define WEIR__RESPONSE_HEADER_MAX 1024

/* 16 ranges with a part header before each, and the last boundary. */
#define WEIR__RESPONSE_SEGMENTS_MAX (2 * 16 + 1)

/* A piece of the body: of a file, or of memory. Never empty. */
struct weir__segment {
    const char *data; /* memory; NULL = of the file */
    int file;         /* -1 = memory */
    uint64_t offset;  /* in the file */
    uint64_t length;
};

/*
 * What to send. It points into itself and must stay where it is until it is disposed of. All that
 * it names, memory and descriptors, stays valid and unchanged until then, whatever becomes of the
 * files (but a file cut short in place is shorter: sending it fails with WEIR_ETRUNCATED).
 */
struct weir__response {
    unsigned status;
    bool keep_alive;    /* what the header says, as the caller asked */
    const char *header; /* the status line, the fields and the empty line */
    size_t header_bytes;
    const struct weir__segment *segments;
    unsigned segment_count; /* 0: no body, as for HEAD, 204 and 304 */
    uint64_t body_bytes;    /* the sum of the segments' lengths */

    struct weir__site *site; /* the rest is the site's own */
    struct weir__file *file;
    void *allocated;
    struct weir__segment segment;
    char text[WEIR__RESPONSE_HEADER_MAX];
};

/* What a response depends on beside the request. */
struct weir__moment {
    uint64_t now_ns;  /* weir_loop_now_ns: how old what is cached may be */
    uint64_t wall_ns; /* weir_loop_wall_ns: the Date field */
    bool keep_alive;  /* false: the response says "Connection: close" */
    bool encrypted; /* the body is encrypted here: its bytes are better in memory than in a file */
};

struct weir__site_options {
    /* Random bytes: peers choose the paths, and must not know where in the hash table they fall. */
    uint64_t seed[2];
    /*
     * Files that are kept open. One with precompressed siblings takes up to 4 descriptors, and
     * whatever a response uses stays open beyond that. Default 256, which leaves room for
     * connections under the usual limit of 1,024.
     */
    uint32_t open_files_max;
    /* Small files, which are kept in memory. Default 1024. */
    uint32_t files_max;
    /* Paths known to be missing, folders or forbidden. Default 1024. */
    uint32_t others_max;
    /* Content of open files that is in memory, for bodies that are encrypted here. Default 32 MiB. */
    uint64_t hot_bytes_max;
};

/* Fills in the defaults; the seed is the caller's to set. */
void weir__site_options_init(struct weir__site_options *options);

/*
 * Opens the folder `root`. Returns 0, WEIR_ENOMEM, WEIR_EMFILE, WEIR_EACCESS, WEIR_EINVAL if it is
 * not a folder that exists, WEIR_ENOTSUP where openat2 is missing (Linux before 5.6, or forbidden
 * by seccomp): without it, no path can be kept below the root; or WEIR_EIO.
 */
int weir__site_new(struct weir__site **site, const char *root,
                   const struct weir__site_options *options);

/* No response of the site may be in use. NULL is fine. */
void weir__site_free(struct weir__site *site);

/*
 * Plans the response to a request whose head is complete. Every request gets one: what cannot be
 * served is answered with 4xx or 5xx. `response` need not be initialised; it takes nothing over
 * from `request`. For HEAD there is no body, and the header is that of GET.
 *
 * A folder is its index.html; without one it is 404, as if it were not there: there are no
 * listings. Its name without the slash is redirected (301), the query kept. What is neither a
 * regular file nor a folder, or leads out of the root, is 404; what may not be read is 403.
 */
void weir__site_respond(struct weir__site *site, const struct weir__request *request,
                        const struct weir__moment *moment, struct weir__response *response);

/*
 * Plans an error response: 400, 403, 404, 405, 406, 408, 412, 413, 414, 417, 431, 500, 501, 503 or
 * 505; anything else is answered as 500. `request` may be NULL, as when the head could not be
 * parsed; if its method is known to be HEAD the body is left out.
 */
void weir__site_error(struct weir__site *site, unsigned status, const struct weir__request *request,
                      const struct weir__moment *moment, struct weir__response *response);

/*
 * Gives back what a response holds. Call it once, when neither its memory nor its descriptors are
 * in use any more: the last write is released.
 */
void weir__response_dispose(struct weir__response *response);

#endif
