/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor/ipsec_mb.h"

/*
 * AES-GCM of libipsec-mb: a library of ciphers, without TLS. Of its paths for several generations of
 * processors two are used, which measured faster than all other libraries of Debian 12, from one byte to
 * 16 KiB (bench/tls_record.c). Its path for AVX2 measured slower than the one for AVX from 1 KiB on.
 */

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <intel-ipsec-mb.h>

#include <weir/error.h>

#include "core/memory.h"

/* Up to so many bytes in several parts are encrypted at once where they go: copying them costs less than calls. */
#define GATHER_BYTES_MAX 2048

#define TEXT_BYTES 96

/* For one length of keys. The functions of a manager use nothing of it: they are all that is kept. */
struct gcm {
    aes_gcm_pre_t expand;
    aes_gcm_enc_dec_t seal, open;
    aes_gcm_init_t init;
    aes_gcm_enc_dec_update_t update;
    aes_gcm_enc_dec_finalize_t finalize;
};

/* 1,024 bytes: what is computed of a key comes first, and takes 1,008. */
struct weir__tls_aead {
    _Alignas(64) struct gcm_key_data key;
    const struct gcm *gcm;
    bool seal;
};

/* The library's code for some processors. */
struct path {
    const char *how;
    uint64_t features;
    void (*prepare)(IMB_MGR *manager);
    pthread_once_t once;
    bool usable;
    char text[TEXT_BYTES]; /* how it works, or why it does not */
    struct gcm aes_128, aes_256;
};

enum { WIDE, NARROW, PATHS };

static struct path paths[PATHS] = {
    [WIDE] = {.how = "VAES and AVX-512",
              .features = IMB_CPUFLAGS_AVX512_T2,
              .prepare = init_mb_mgr_avx512,
              .once = PTHREAD_ONCE_INIT},
    [NARROW] = {.how = "AES-NI and AVX",
                .features = IMB_CPUFLAGS_AVX,
                .prepare = init_mb_mgr_avx,
                .once = PTHREAD_ONCE_INIT},
};

/* ---- what this processor has ---- */

/* The library looks at the processor alone; the registers are the system's to save, too. */
static bool system_saves_registers(const struct path *path)
{
    return path == &paths[WIDE] ? __builtin_cpu_supports("avx512f") : __builtin_cpu_supports("avx");
}

static void functions_take(struct path *path, const IMB_MGR *manager)
{
    path->aes_128 = (struct gcm){
        .expand = manager->gcm128_pre,
        .seal = manager->gcm128_enc,
        .open = manager->gcm128_dec,
        .init = manager->gcm128_init,
        .update = manager->gcm128_enc_update,
        .finalize = manager->gcm128_enc_finalize,
    };
    path->aes_256 = (struct gcm){
        .expand = manager->gcm256_pre,
        .seal = manager->gcm256_enc,
        .open = manager->gcm256_dec,
        .init = manager->gcm256_init,
        .update = manager->gcm256_enc_update,
        .finalize = manager->gcm256_enc_finalize,
    };
}

static void path_load(struct path *path)
{
    IMB_MGR *manager = alloc_mb_mgr(0);

    if (!manager) {
        snprintf(path->text, sizeof(path->text), "ipsec-mb got no memory");
        return;
    }
    if ((manager->features & path->features) != path->features || !system_saves_registers(path)) {
        snprintf(path->text, sizeof(path->text), "ipsec-mb needs a processor with %s", path->how);
    } else {
        /* It tests itself by known answers on the way. */
        path->prepare(manager);
        path->usable = (manager->features & IMB_FEATURE_SELF_TEST_PASS) != 0;
        snprintf(path->text, sizeof(path->text),
                 path->usable ? "version %s, by %s" : "ipsec-mb %s fails its own test by %s",
                 imb_get_version_str(), path->how);
        functions_take(path, manager);
    }
    free_mb_mgr(manager);
}

static void wide_load(void)
{
    path_load(&paths[WIDE]);
}

static void narrow_load(void)
{
    path_load(&paths[NARROW]);
}

/* ---- AEADs ---- */

static int aead_new(struct path *path, struct weir__tls_aead **aead_out,
                    enum weir__tls_cipher cipher, const uint8_t *key, bool seal)
{
    if (cipher != WEIR__TLS_AES_128_GCM && cipher != WEIR__TLS_AES_256_GCM)
        return WEIR_ENOTSUP;
    struct weir__tls_aead *aead =
        weir__allocate_aligned(_Alignof(struct weir__tls_aead), sizeof(*aead));
    if (!aead)
        return WEIR_ENOMEM;
    aead->gcm = cipher == WEIR__TLS_AES_128_GCM ? &path->aes_128 : &path->aes_256;
    aead->seal = seal;
    aead->gcm->expand(key, &aead->key);
    *aead_out = aead;
    return 0;
}

static int wide_new(struct weir__tls_aead **aead, enum weir__tls_cipher cipher, const uint8_t *key,
                    bool seal)
{
    return aead_new(&paths[WIDE], aead, cipher, key, seal);
}

static int narrow_new(struct weir__tls_aead **aead, enum weir__tls_cipher cipher,
                      const uint8_t *key, bool seal)
{
    return aead_new(&paths[NARROW], aead, cipher, key, seal);
}

static void aead_free(struct weir__tls_aead *aead)
{
    if (!aead)
        return;
    weir__tls_wipe(aead, sizeof(*aead));
    weir__release(aead);
}

static size_t parts_length(const struct iovec *parts, unsigned part_count)
{
    size_t length = 0;

    for (unsigned i = 0; i < part_count; i++)
        length += parts[i].iov_len;
    return length;
}

/* What lies in its place already stays. */
static void parts_gather(const struct iovec *parts, unsigned part_count, uint8_t *out)
{
    for (unsigned i = 0; i < part_count; i++) {
        if (parts[i].iov_base != out && parts[i].iov_len > 0)
            memcpy(out, parts[i].iov_base, parts[i].iov_len);
        out += parts[i].iov_len;
    }
}

static int aead_seal(struct weir__tls_aead *aead, const uint8_t *nonce, const uint8_t *additional,
                     size_t additional_length, const struct iovec *parts, unsigned part_count,
                     uint8_t *out)
{
    const struct gcm *gcm = aead->gcm;
    struct gcm_context_data context;
    size_t length = parts_length(parts, part_count);

    assert(aead->seal);
    if (part_count == 1) {
        gcm->seal(&aead->key, &context, out, parts[0].iov_base, length, nonce, additional,
                  additional_length, out + length, WEIR__TLS_TAG);
    } else if (length <= GATHER_BYTES_MAX) {
        parts_gather(parts, part_count, out);
        gcm->seal(&aead->key, &context, out, out, length, nonce, additional, additional_length,
                  out + length, WEIR__TLS_TAG);
    } else {
        gcm->init(&aead->key, &context, nonce, additional, additional_length);
        for (unsigned i = 0; i < part_count; i++) {
            gcm->update(&aead->key, &context, out, parts[i].iov_base, parts[i].iov_len);
            out += parts[i].iov_len;
        }
        gcm->finalize(&aead->key, &context, out, WEIR__TLS_TAG);
    }
    weir__tls_wipe(&context, sizeof(context)); /* it has some of the key stream */
    return 0;
}

/* In a time that does not depend on where they differ. */
static bool tags_are_equal(const uint8_t *one, const uint8_t *other)
{
    uint64_t a[2], b[2];

    _Static_assert(sizeof(a) == WEIR__TLS_TAG, "two words");
    memcpy(a, one, sizeof(a));
    memcpy(b, other, sizeof(b));
    return ((a[0] ^ b[0]) | (a[1] ^ b[1])) == 0;
}

static int aead_open(struct weir__tls_aead *aead, const uint8_t *nonce, const uint8_t *additional,
                     size_t additional_length, const uint8_t *in, size_t length, uint8_t *out)
{
    struct gcm_context_data context;
    uint8_t tag[WEIR__TLS_TAG];

    assert(!aead->seal);
    if (length < WEIR__TLS_TAG)
        return WEIR_ETLS;
    length -= WEIR__TLS_TAG;
    aead->gcm->open(&aead->key, &context, out, in, length, nonce, additional, additional_length,
                    tag, sizeof(tag));
    bool authentic = tags_are_equal(tag, in + length);
    if (!authentic)
        weir__tls_wipe(out, length);
    weir__tls_wipe(tag, sizeof(tag)); /* of a forgery it is the right one */
    weir__tls_wipe(&context, sizeof(context));
    return authentic ? 0 : WEIR_ETLS;
}

static const struct weir__tls_ciphers ciphers[PATHS] = {
    [WIDE] = {.name = "ipsec-mb",
              .aead_new = wide_new,
              .aead_free = aead_free,
              .aead_seal = aead_seal,
              .aead_open = aead_open},
    [NARROW] = {.name = "ipsec-mb",
                .aead_new = narrow_new,
                .aead_free = aead_free,
                .aead_seal = aead_seal,
                .aead_open = aead_open},
};

const struct weir__tls_ciphers *weir__ipsec_mb_find(unsigned index, const char **text)
{
    static void (*const load[PATHS])(void) = {[WIDE] = wide_load, [NARROW] = narrow_load};

    for (unsigned i = 0; i < PATHS; i++) {
        pthread_once(&paths[i].once, load[i]);
        *text = paths[i].text;
        if (paths[i].usable && index-- == 0)
            return &ciphers[i];
    }
    return NULL;
}
