/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/kernel/bio_pool.h"

#include <assert.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/memory.h"

/* A TLS record with all that it may add (RFC 5246, 6.2.3: 2,048 at most; OpenSSL's stay below 256). */
#define RECORD_BYTES_MAX (5 + 16384 + 256)

/* 1 GiB in blocks of five pages of 4 KiB; a search looks at each. */
#define BLOCKS_MAX 52428

struct block {
    bool in_flight;
    uint32_t send; /* the number of its send, while in flight */
};

struct weir__bio_pool {
    uint8_t *memory;
    size_t block_bytes;
    unsigned block_count;
    unsigned in_flight;
    unsigned next; /* where to look for a free block first: they are released in about this order */
    uint32_t next_send;
    struct block blocks[];
};

struct weir__bio_pool *weir__bio_pool_new(size_t bytes_max)
{
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    size_t block_bytes = (RECORD_BYTES_MAX + page_bytes - 1) / page_bytes * page_bytes;
    size_t count = bytes_max / block_bytes;

    if (count > BLOCKS_MAX)
        count = BLOCKS_MAX;
    if (count == 0)
        count = 1;
    struct weir__bio_pool *pool =
        weir__allocate_zeroed(1, sizeof(*pool) + count * sizeof(pool->blocks[0]));
    if (!pool)
        return NULL;
    pool->memory =
        mmap(NULL, count * block_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pool->memory == MAP_FAILED) {
        weir__release(pool);
        return NULL;
    }
    pool->block_bytes = block_bytes;
    pool->block_count = (unsigned)count;
    return pool;
}

void weir__bio_pool_free(struct weir__bio_pool *pool)
{
    if (!pool)
        return;
    (void)munmap(pool->memory, pool->block_count * pool->block_bytes);
    weir__release(pool);
}

int weir__bio_pool_find(const struct weir__bio_pool *pool)
{
    if (pool->in_flight == pool->block_count)
        return -1;
    for (unsigned i = 0; i < pool->block_count; i++) {
        unsigned block = (pool->next + i) % pool->block_count;
        if (!pool->blocks[block].in_flight)
            return (int)block;
    }
    return -1;
}

uint8_t *weir__bio_pool_block(struct weir__bio_pool *pool, int block)
{
    assert(!pool->blocks[block].in_flight);
    return pool->memory + (size_t)block * pool->block_bytes;
}

size_t weir__bio_pool_block_bytes(const struct weir__bio_pool *pool)
{
    return pool->block_bytes;
}

void weir__bio_pool_sent(struct weir__bio_pool *pool, int block)
{
    assert(!pool->blocks[block].in_flight);
    pool->blocks[block].in_flight = true;
    pool->blocks[block].send = pool->next_send++;
    pool->in_flight++;
    pool->next = ((unsigned)block + 1) % pool->block_count;
}

void weir__bio_pool_release(struct weir__bio_pool *pool, uint32_t first, uint32_t last)
{
    for (unsigned i = 0; i < pool->block_count && pool->in_flight > 0; i++) {
        struct block *block = &pool->blocks[i];
        /* Unsigned distances from `first` are right across the wrap. */
        if (!block->in_flight || block->send - first > last - first)
            continue;
        block->in_flight = false;
        pool->in_flight--;
    }
}

unsigned weir__bio_pool_in_flight(const struct weir__bio_pool *pool)
{
    return pool->in_flight;
}
