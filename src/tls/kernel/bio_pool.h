/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TLS_KERNEL_BIO_POOL_H
#define WEIR_TLS_KERNEL_BIO_POOL_H

/*
 * Memory from which a weir_bio sends with MSG_ZEROCOPY: blocks of whole pages, each the kernel's from a send
 * until the notice that releases it. Notices name sends by a 32-bit number that counts the socket's sends
 * with MSG_ZEROCOPY from 0, wrapping (Documentation/networking/msg_zerocopy.rst).
 *
 * The pages come from mmap(2), not from core/memory.h, so that a pool can be freed while the kernel still
 * holds some: unmapped pages live until the kernel lets go of them, and nobody else gets them before.
 */

#include <stddef.h>
#include <stdint.h>

struct weir__bio_pool;

/* A pool of at most `bytes_max`, but at least one block; NULL if memory is out. */
struct weir__bio_pool *weir__bio_pool_new(size_t bytes_max);
void weir__bio_pool_free(struct weir__bio_pool *pool); /* NULL is fine */

/* A free block's number, or -1. It stays free until it was sent. */
int weir__bio_pool_find(const struct weir__bio_pool *pool);
uint8_t *weir__bio_pool_block(struct weir__bio_pool *pool, int block);
size_t weir__bio_pool_block_bytes(const struct weir__bio_pool *pool);

/* The kernel took (some of) the block in the socket's next send with MSG_ZEROCOPY. */
void weir__bio_pool_sent(struct weir__bio_pool *pool, int block);

/* The kernel is done with sends `first` to `last`. */
void weir__bio_pool_release(struct weir__bio_pool *pool, uint32_t first, uint32_t last);

/* How many blocks the kernel holds. */
unsigned weir__bio_pool_in_flight(const struct weir__bio_pool *pool);

#endif
