/* SPDX-License-Identifier: Apache-2.0 */
#include "server/file_cache.h"

#include <assert.h>
#include <string.h>
#include <unistd.h>

#include <weir/error.h>

#include "core/memory.h"
#include "server/hash.h"

static struct weir__file_list *list_of(struct weir__file_cache *cache,
                                       const struct weir__file *file)
{
    if (file->kind != WEIR__FILE_REGULAR)
        return &cache->others;
    return file->is_open ? &cache->opened : &cache->files;
}

static void list_push(struct weir__file_list *list, struct weir__file *file)
{
    file->newer = NULL;
    file->older = list->newest;
    if (list->newest)
        list->newest->newer = file;
    else
        list->oldest = file;
    list->newest = file;
    list->count++;
}

static void list_remove(struct weir__file_list *list, struct weir__file *file)
{
    if (file->newer)
        file->newer->older = file->older;
    else
        list->newest = file->older;
    if (file->older)
        file->older->newer = file->newer;
    else
        list->oldest = file->newer;
    assert(list->count > 0);
    list->count--;
}

int weir__file_cache_init(struct weir__file_cache *cache, int root, const uint64_t seed[2],
                          const struct weir__file_cache_bounds *bounds)
{
    assert(bounds->opened_max > 0);
    assert(bounds->files_max > 0);
    assert(bounds->others_max > 0);
    uint64_t entries = (uint64_t)bounds->opened_max + bounds->files_max + bounds->others_max;
    uint64_t buckets = 1;
    while (buckets < entries)
        buckets *= 2;
    *cache = (struct weir__file_cache){
        .root = root,
        .seed = {seed[0], seed[1]},
        .bucket_mask = buckets - 1,
        .opened.max = bounds->opened_max,
        .files.max = bounds->files_max,
        .others.max = bounds->others_max,
        .hot_bytes_max = bounds->hot_bytes_max,
    };
    cache->buckets = weir__allocate_zeroed(buckets, sizeof(cache->buckets[0]));
    if (cache->buckets)
        return 0;
    close(root);
    return WEIR_ENOMEM;
}

static struct weir__file **bucket_of(struct weir__file_cache *cache, uint64_t hash)
{
    return &cache->buckets[hash & cache->bucket_mask];
}

static void insert(struct weir__file_cache *cache, struct weir__file *file)
{
    struct weir__file **bucket = bucket_of(cache, file->hash);
    file->chain = *bucket;
    *bucket = file;
    list_push(list_of(cache, file), file);
    file->in_table = true;
}

static void free_file(struct weir__file_cache *cache, struct weir__file *file)
{
    assert(cache->hot_bytes >= file->hot_bytes);
    cache->hot_bytes -= file->hot_bytes;
    weir__file_free(file);
}

/* Takes a file out of the table; the last response that uses it frees it. */
static void evict(struct weir__file_cache *cache, struct weir__file *file)
{
    assert(file->in_table);
    struct weir__file **link = bucket_of(cache, file->hash);
    while (*link != file)
        link = &(*link)->chain;
    *link = file->chain;
    list_remove(list_of(cache, file), file);
    file->in_table = false;
    if (file->references == 0)
        free_file(cache, file);
}

void weir__file_cache_dispose(struct weir__file_cache *cache)
{
    assert(cache->in_use == 0);
    while (cache->opened.oldest)
        evict(cache, cache->opened.oldest);
    while (cache->files.oldest)
        evict(cache, cache->files.oldest);
    while (cache->others.oldest)
        evict(cache, cache->others.oldest);
    assert(cache->hot_bytes == 0);
    weir__release(cache->buckets);
    close(cache->root);
}

/* Gives up idle files that hold descriptors, the oldest first. */
static void evict_idle(struct weir__file_cache *cache)
{
    struct weir__file *file = cache->opened.oldest;
    for (int evicted = 0; file && evicted < WEIR__FILE_EVICT_BATCH;) {
        struct weir__file *newer = file->newer;
        if (file->references == 0) {
            evict(cache, file);
            evicted++;
        }
        file = newer;
    }
}

static struct weir__file *find(struct weir__file_cache *cache, uint64_t hash,
                               struct weir__text path)
{
    struct weir__file *file = *bucket_of(cache, hash);
    while (file && !(file->hash == hash && file->path_length == path.length &&
                     memcmp(file->path, path.data, path.length) == 0))
        file = file->chain;
    return file;
}

static struct weir__file *use(struct weir__file_cache *cache, struct weir__file *file,
                              uint64_t now_ns)
{
    struct weir__file_list *list = list_of(cache, file);
    if (list->newest != file) {
        list_remove(list, file);
        list_push(list, file);
    }
    file->used_ns = now_ns;
    file->references++;
    cache->in_use++;
    return file;
}

void weir__file_release(struct weir__file_cache *cache, struct weir__file *file)
{
    assert(file->references > 0);
    assert(cache->in_use > 0);
    file->references--;
    cache->in_use--;
    if (file->references == 0 && !file->in_table)
        free_file(cache, file);
}

/* Makes room for content: that of files which nobody uses, or has asked for lately, goes, the oldest first. */
static bool make_room(struct weir__file_cache *cache, uint64_t bytes, uint64_t now_ns)
{
    struct weir__file *file = cache->opened.oldest;
    if (bytes > cache->hot_bytes_max)
        return false;
    for (; file && cache->hot_bytes > cache->hot_bytes_max - bytes; file = file->newer) {
        if (now_ns - file->used_ns < WEIR__FILE_BELIEVED_NS)
            break;
        if (file->references > 0)
            continue;
        cache->hot_bytes -= file->hot_bytes;
        weir__file_cool(file);
    }
    return cache->hot_bytes <= cache->hot_bytes_max - bytes;
}

/*
 * Only the second time: most files of a large site are asked for once in a while, and the first response has
 * brought this one into the kernel's memory.
 */
static void heat(struct weir__file_cache *cache, struct weir__file *file, enum weir__coding coding,
                 uint64_t now_ns)
{
    uint64_t size = file->representations[coding].size;
    unsigned bit = 1u << coding;
    if (size > WEIR__FILE_HOT_MAX)
        return;
    if (!(file->hot_wanted & bit)) {
        file->hot_wanted |= bit;
        return;
    }
    if (make_room(cache, size, now_ns) && weir__file_heat(file, coding))
        cache->hot_bytes += size;
}

const char *weir__file_cache_content(struct weir__file_cache *cache, struct weir__file *file,
                                     enum weir__coding coding, uint64_t now_ns)
{
    const struct weir__representation *representation = &file->representations[coding];
    assert(file->references > 0);
    if (!representation->content)
        heat(cache, file, coding, now_ns);
    return representation->content;
}

/*
 * Whether a file that was believed long enough still is what it was. While no descriptor is to be
 * had to look at it, it is: what is known is a better answer than none, and each request tries
 * again.
 */
static bool is_current(struct weir__file_cache *cache, struct weir__file *file, uint64_t now_ns)
{
    if (file->kind != WEIR__FILE_REGULAR || !file->settled)
        return false;
    file->references++; /* it may not be among those given up */
    int result = weir__file_check(file, cache->root);
    if (result < 0) {
        evict_idle(cache);
        result = weir__file_check(file, cache->root);
    }
    file->references--;
    if (result == WEIR__FILE_SAME)
        file->checked_ns = now_ns;
    return result != WEIR__FILE_CHANGED;
}

int weir__file_cache_get(struct weir__file_cache *cache, struct weir__text path, uint64_t now_ns,
                         int64_t wall_s, struct weir__file **file)
{
    uint64_t hash = weir__hash(cache->seed, path.data, path.length);
    struct weir__file *found = find(cache, hash, path);
    if (found) {
        if (now_ns - found->checked_ns < WEIR__FILE_BELIEVED_NS ||
            is_current(cache, found, now_ns)) {
            *file = use(cache, found, now_ns);
            return 0;
        }
        evict(cache, found);
    }

    struct weir__file *loaded;
    int status = weir__file_load(&loaded, cache->root, path, wall_s);
    if (status == -503) {
        evict_idle(cache);
        status = weir__file_load(&loaded, cache->root, path, wall_s);
    }
    if (status != 0)
        return status;
    loaded->hash = hash;
    loaded->checked_ns = now_ns;
    struct weir__file_list *list = list_of(cache, loaded);
    if (list->count == list->max)
        evict(cache, list->oldest);
    insert(cache, loaded);
    *file = use(cache, loaded, now_ns);
    return 0;
}
