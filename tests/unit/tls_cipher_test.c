/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor.h"

/*
 * AES-GCM beside the libraries: against each of them on random sizes and parts, forgeries, secrets that
 * are wiped, and threads that find it at the same time. tls_vendor_crypto_test has the known answers.
 */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <weir/error.h>
#include <weir/memory.h>
#include <weir/tls.h>

#define BYTES_MAX  16385
#define SEALED_MAX (BYTES_MAX + WEIR__TLS_TAG)
#define ROUNDS     200
#define THREADS    4

static const enum weir__tls_cipher ciphers[] = {WEIR__TLS_AES_128_GCM, WEIR__TLS_AES_256_GCM};

/* The memory that was given back last, as it then was. */
static uint8_t released[4096];
static size_t released_bytes, aligned_bytes;
static void *aligned;

static void *allocate_aligned(size_t alignment, size_t size)
{
    aligned = aligned_alloc(alignment, size);
    aligned_bytes = size;
    return aligned;
}

static void release(void *memory)
{
    if (memory && memory == aligned) {
        released_bytes = aligned_bytes;
        memcpy(released, memory, released_bytes);
        aligned = NULL;
    }
    free(memory);
}

static uint32_t random_state = 17;

static uint32_t below(uint32_t bound)
{
    random_state = random_state * 1664525 + 1013904223;
    return (random_state >> 8) % bound;
}

static void fill(uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)below(256);
}

static const struct weir__tls_ciphers *fast_at(unsigned index)
{
    const char *text;
    return weir__tls_ciphers_fast(index, &text);
}

/* Skips where there is nothing to test. */
static void fast_need(const char *test)
{
    const char *text;

    if (weir__tls_ciphers_fast(0, &text))
        return;
    printf("SKIP: %s: %s\n", test, text);
    skip();
}

static struct weir__tls_aead *aead_make(const struct weir__tls_ciphers *lender,
                                        enum weir__tls_cipher cipher, const uint8_t *key, bool seal)
{
    struct weir__tls_aead *aead = NULL;

    assert_int_equal(lender->aead_new(&aead, cipher, key, seal), 0);
    return aead;
}

/* One record's worth. */
struct message {
    uint8_t key[WEIR__TLS_KEY_MAX], nonce[WEIR__TLS_NONCE], additional[13];
    size_t additional_length, length;
    uint8_t plain[BYTES_MAX];
    struct iovec parts[WEIR__TLS_SEAL_PARTS_MAX];
    unsigned part_count;
};

static void message_draw(struct message *message)
{
    static const size_t lengths[] = {0, 1, 15, 16, 17, 2047, 2048, 2049, 16384, BYTES_MAX};
    size_t at = 0;

    message->length = below(2) ? lengths[below(10)] : below(below(2) ? BYTES_MAX + 1 : 600);
    message->additional_length = below(2) ? 5 : below(14);
    fill(message->key, sizeof(message->key));
    fill(message->nonce, sizeof(message->nonce));
    fill(message->additional, sizeof(message->additional));
    fill(message->plain, message->length);
    message->part_count = 0;
    while (at < message->length) {
        size_t left = message->length - at;
        bool last = message->part_count == WEIR__TLS_SEAL_PARTS_MAX - 1 || below(4) == 0;
        size_t size = last ? left : below((uint32_t)left + 1);
        message->parts[message->part_count++] = (struct iovec){message->plain + at, size};
        at += size;
    }
}

static void pass_on(const struct message *message, const struct weir__tls_ciphers *from,
                    const struct weir__tls_ciphers *to, enum weir__tls_cipher cipher)
{
    static uint8_t sealed[SEALED_MAX], opened[SEALED_MAX];
    struct weir__tls_aead *sealer = aead_make(from, cipher, message->key, true);
    struct weir__tls_aead *opener = aead_make(to, cipher, message->key, false);
    bool in_place = below(2);

    sealed[message->length + WEIR__TLS_TAG - 1] = 0;
    assert_int_equal(from->aead_seal(sealer, message->nonce, message->additional,
                                     message->additional_length, message->parts,
                                     message->part_count, sealed),
                     0);
    assert_int_equal(to->aead_open(opener, message->nonce, message->additional,
                                   message->additional_length, sealed,
                                   message->length + WEIR__TLS_TAG, in_place ? sealed : opened),
                     0);
    assert_memory_equal(in_place ? sealed : opened, message->plain, message->length);
    from->aead_free(sealer);
    to->aead_free(opener);
}

static void test_random_records_both_ways(void **state)
{
    static struct message message;

    (void)state;
    fast_need("random_records_both_ways");
    for (unsigned round = 0; round < ROUNDS; round++) {
        message_draw(&message);
        for (unsigned f = 0; fast_at(f); f++) {
            for (unsigned v = 0; weir__tls_vendors[v]; v++) {
                pass_on(&message, fast_at(f), &weir__tls_vendors[v]->ciphers, ciphers[round % 2]);
                pass_on(&message, &weir__tls_vendors[v]->ciphers, fast_at(f), ciphers[round % 2]);
            }
        }
    }
}

/* Some bit of the nonce, the additional data, the ciphertext or the tag. */
static void bit_flip(struct message *message, uint8_t *sealed)
{
    size_t sealed_bytes = message->length + WEIR__TLS_TAG;
    size_t at = below((uint32_t)(WEIR__TLS_NONCE + message->additional_length + sealed_bytes));
    uint8_t bit = (uint8_t)(1u << below(8));

    if (at < WEIR__TLS_NONCE)
        message->nonce[at] ^= bit;
    else if (at < WEIR__TLS_NONCE + message->additional_length)
        message->additional[at - WEIR__TLS_NONCE] ^= bit;
    else if (below(2))
        sealed[message->length + below(WEIR__TLS_TAG)] ^= bit;
    else
        sealed[at - WEIR__TLS_NONCE - message->additional_length] ^= bit;
}

static void forge(const struct weir__tls_ciphers *lender, enum weir__tls_cipher cipher)
{
    static const uint8_t zeros[BYTES_MAX];
    static struct message message;
    static uint8_t sealed[SEALED_MAX], opened[SEALED_MAX];

    message_draw(&message);
    struct weir__tls_aead *sealer = aead_make(lender, cipher, message.key, true);
    struct weir__tls_aead *opener = aead_make(lender, cipher, message.key, false);
    bool in_place = below(2);
    uint8_t *out = in_place ? sealed : opened;

    assert_int_equal(lender->aead_seal(sealer, message.nonce, message.additional,
                                       message.additional_length, message.parts, message.part_count,
                                       sealed),
                     0);
    bit_flip(&message, sealed);
    memset(opened, 0xee, sizeof(opened));
    assert_int_equal(lender->aead_open(opener, message.nonce, message.additional,
                                       message.additional_length, sealed,
                                       message.length + WEIR__TLS_TAG, out),
                     WEIR_ETLS);
    assert_memory_equal(out, zeros, message.length);
    if (!in_place)
        assert_int_equal(opened[message.length], 0xee);
    lender->aead_free(sealer);
    lender->aead_free(opener);
}

static void test_forgeries_leave_nothing(void **state)
{
    (void)state;
    fast_need("forgeries_leave_nothing");
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned f = 0; fast_at(f); f++)
            forge(fast_at(f), ciphers[round % 2]);
    }
}

static void test_keys_are_wiped(void **state)
{
    static const uint8_t zeros[sizeof(released)];
    static const uint8_t key[WEIR__TLS_KEY_MAX] = {1, 2, 3};

    (void)state;
    fast_need("keys_are_wiped");
    for (unsigned f = 0; fast_at(f); f++) {
        for (unsigned c = 0; c < 2; c++) {
            struct weir__tls_aead *aead = aead_make(fast_at(f), ciphers[c], key, c == 0);
            assert_ptr_equal(aead, aligned);
            assert_memory_equal(aead, key, 16); /* the first round's key */
            assert_true(aligned_bytes <= 1024);
            released_bytes = 0;
            fast_at(f)->aead_free(aead);
            assert_int_equal(released_bytes, aligned_bytes);
            assert_memory_equal(released, zeros, released_bytes);
        }
    }
}

static void test_nothing_but_gcm(void **state)
{
    static const uint8_t key[WEIR__TLS_KEY_MAX];
    struct weir__tls_aead *aead = NULL;

    (void)state;
    fast_need("nothing_but_gcm");
    for (unsigned f = 0; fast_at(f); f++) {
        assert_int_equal(fast_at(f)->aead_new(&aead, WEIR__TLS_CHACHA20_POLY1305, key, true),
                         WEIR_ENOTSUP);
        assert_int_equal(fast_at(f)->aead_new(&aead, WEIR__TLS_CIPHER_NONE, key, false),
                         WEIR_ENOTSUP);
    }
}

static void test_it_has_a_name_or_a_reason(void **state)
{
    const char *text = NULL;
    const char *name = weir_tls_fast_cipher(&text);

    (void)state;
    assert_non_null(text);
    assert_string_not_equal(text, "");
    assert_int_equal(name != NULL, fast_at(0) != NULL);
    if (name)
        assert_string_equal(name, fast_at(0)->name);
}

/* ---- memory at its very end: what it touches behind that, no sanitizer sees in assembly ---- */

#define EDGE_BYTES  4096
#define FRONT_BYTES 2100 /* so many are not gathered first */

/* Memory whose last byte is the last of a page, with none behind it that may be touched. */
static uint8_t *edge_make(void)
{
    uint8_t *pages =
        mmap(NULL, EDGE_BYTES + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_true(pages != MAP_FAILED);
    assert_int_equal(mprotect(pages + EDGE_BYTES, 4096, PROT_NONE), 0);
    return pages + EDGE_BYTES;
}

static void edge_drop(uint8_t *edge)
{
    assert_int_equal(munmap(edge - EDGE_BYTES, EDGE_BYTES + 4096), 0);
}

struct edges {
    uint8_t *key, *nonce, *additional, *plain, *sealed, *opened;
};

/* `front` bytes come from elsewhere, as a part of their own. */
static void pass_at_edges(const struct edges *edges, const struct weir__tls_ciphers *lender,
                          enum weir__tls_cipher cipher, size_t front, size_t length)
{
    static uint8_t front_bytes[FRONT_BYTES];
    size_t additional_length = length % 14, whole = front + length;
    const uint8_t *key = edges->key - weir__tls_key_bytes(cipher);
    const uint8_t *nonce = edges->nonce - WEIR__TLS_NONCE;
    const uint8_t *additional = edges->additional - additional_length;
    uint8_t *plain = edges->plain - length, *opened = edges->opened - whole;
    uint8_t *sealed = edges->sealed - whole - WEIR__TLS_TAG;
    const struct iovec parts[] = {{front_bytes, front}, {plain, length}};
    struct weir__tls_aead *sealer = aead_make(lender, cipher, key, true);
    struct weir__tls_aead *opener = aead_make(lender, cipher, key, false);

    fill(plain, length);
    assert_int_equal(lender->aead_seal(sealer, nonce, additional, additional_length,
                                       front > 0 ? parts : parts + 1, front > 0 ? 2 : 1, sealed),
                     0);
    assert_int_equal(lender->aead_open(opener, nonce, additional, additional_length, sealed,
                                       whole + WEIR__TLS_TAG, opened),
                     0);
    assert_memory_equal(opened, front_bytes, front);
    assert_memory_equal(opened + front, plain, length);
    lender->aead_free(sealer);
    lender->aead_free(opener);
}

/* All lengths up to twice what the widest loop takes at a time, 48 blocks. */
static void test_nothing_behind_the_end_is_touched(void **state)
{
    (void)state;
    fast_need("nothing_behind_the_end_is_touched");
    struct edges edges = {edge_make(), edge_make(), edge_make(),
                          edge_make(), edge_make(), edge_make()};
    for (unsigned f = 0; fast_at(f); f++) {
        for (size_t length = 0; length <= 2 * 48 * 16; length++)
            pass_at_edges(&edges, fast_at(f), ciphers[length % 2], 0, length);
        for (size_t length = 0; length <= 2 * 48 * 16; length++)
            pass_at_edges(&edges, fast_at(f), ciphers[length % 2], FRONT_BYTES - length % 16,
                          length);
    }
    edge_drop(edges.key);
    edge_drop(edges.nonce);
    edge_drop(edges.additional);
    edge_drop(edges.plain);
    edge_drop(edges.sealed);
    edge_drop(edges.opened);
}

/* ---- whether it is there ---- */

static void *find(void *found)
{
    *(const struct weir__tls_ciphers **)found = fast_at(0);
    return NULL;
}

/* The first test of all: nobody has asked before. */
static void test_threads_find_the_same(void **state)
{
    const struct weir__tls_ciphers *found[THREADS];
    pthread_t threads[THREADS];

    (void)state;
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, find, &found[i]), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 1; i < THREADS; i++)
        assert_ptr_equal(found[i], found[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_find_the_same),
        cmocka_unit_test(test_random_records_both_ways),
        cmocka_unit_test(test_forgeries_leave_nothing),
        cmocka_unit_test(test_keys_are_wiped),
        cmocka_unit_test(test_nothing_but_gcm),
        cmocka_unit_test(test_nothing_behind_the_end_is_touched),
        cmocka_unit_test(test_it_has_a_name_or_a_reason),
    };
    const struct weir_memory memory = {
        .allocate = malloc,
        .allocate_zeroed = calloc,
        .reallocate = realloc,
        .allocate_aligned = allocate_aligned,
        .release = release,
    };

    if (weir_memory_replace(&memory) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
