/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TLS_OUTPUT_H
#define WEIR_TLS_OUTPUT_H

/* Bytes of the wire that were made: records go in at the end, and the kernel takes them from the front. */

#include <stdint.h>
#include <sys/uio.h>

#include "tls/buffer.h"

struct weir__tls_output {
    struct weir__tls_buffer *first, *last;
    uint64_t bytes;
};

/* Room for `size` bytes in one piece behind what is there, at most WEIR__TLS_BUFFER_BYTES; NULL: no memory. */
uint8_t *weir__tls_output_reserve(struct weir__tls_output *output,
                                  struct weir__tls_buffers *buffers, size_t size);
/* So many of them, or fewer, were filled in. */
void weir__tls_output_commit(struct weir__tls_output *output, size_t size);
/* Copies bytes behind what is there. Returns 0 or WEIR_ENOMEM. */
int weir__tls_output_append(struct weir__tls_output *output, struct weir__tls_buffers *buffers,
                            const uint8_t *bytes, size_t length);
/* What is at the front, in at most `parts_max` parts, and the buffers that they lie in. Returns how many. */
unsigned weir__tls_output_parts(const struct weir__tls_output *output, struct iovec *parts,
                                void **held, unsigned parts_max, uint64_t *length);
/* The kernel has taken so many bytes. */
void weir__tls_output_taken(struct weir__tls_output *output, struct weir__tls_buffers *buffers,
                            uint64_t bytes);
/*
 * Such buffers are pinned by a send, or not any more. One that the kernel has taken goes back when
 * nothing pins it; until then what was made of it stays as it is, though more may come behind.
 */
void weir__tls_output_hold(void *const *held, unsigned count);
void weir__tls_output_release(struct weir__tls_buffers *buffers, void *const *held, unsigned count);

#endif
