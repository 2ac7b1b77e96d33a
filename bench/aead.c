/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The least that protecting a response takes: AES-128-GCM over the same bytes, in records of 16 KiB, with
 * nothing around it, by the faster of libcrypto and, where it is compiled in (WITH_IPSEC_MB), libipsec-mb.
 * What a TLS server costs above a bare send loop and this is its own work.
 *
 *   aead BODY_BYTES
 *
 * Prints the CPU time of one response in microseconds, on average over at least RUN_NS, and whose it was.
 */
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef WITH_IPSEC_MB
#include <intel-ipsec-mb.h>
#endif

#define RUN_NS       200000000
#define CLOCK_EVERY  64  /* responses between two looks at the clock */
#define HEAD_BYTES   250 /* what limit.c sends before the body */
#define RECORD_BYTES 16384
#define NONCE_BYTES  12
#define HEADER_BYTES 5
#define TAG_BYTES    16
#define BODY_MAX     (1 << 30)

static const unsigned char key[] = "0123456789abcdef";

static void die(const char *what)
{
    fprintf(stderr, "aead: %s\n", what);
    exit(1);
}

static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Encrypts to behind `header`, with the tag behind that. */
typedef void (*encrypt_fn)(const unsigned char *nonce, const unsigned char *header,
                           const unsigned char *data, size_t length, unsigned char *out);

/* ---- libcrypto, by the fewest calls that there are ---- */

static EVP_CIPHER_CTX *cipher;

static bool libcrypto_open(void)
{
    cipher = EVP_CIPHER_CTX_new();
    return cipher && EVP_EncryptInit_ex(cipher, EVP_aes_128_gcm(), NULL, key, NULL) == 1;
}

static void libcrypto_encrypt(const unsigned char *nonce, const unsigned char *header,
                              const unsigned char *data, size_t length, unsigned char *out)
{
    int taken;

    if (EVP_EncryptInit_ex(cipher, NULL, NULL, NULL, nonce) != 1 ||
        EVP_EncryptUpdate(cipher, NULL, &taken, header, HEADER_BYTES) != 1 ||
        EVP_EncryptUpdate(cipher, out, &taken, data, (int)length) != 1 ||
        EVP_EncryptFinal_ex(cipher, out + length, &taken) != 1 ||
        EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, out + length) != 1)
        die("libcrypto cannot encrypt");
}

/* ---- libipsec-mb ---- */

#ifdef WITH_IPSEC_MB
static IMB_MGR *manager;
static _Alignas(64) struct gcm_key_data expanded;

static bool ipsec_mb_open(void)
{
    IMB_ARCH path;

    manager = alloc_mb_mgr(0);
    if (!manager || (manager->features & IMB_CPUFLAGS_AVX) != IMB_CPUFLAGS_AVX)
        return false;
    init_mb_mgr_auto(manager, &path);
    IMB_AES128_GCM_PRE(manager, key, &expanded);
    return true;
}

static void ipsec_mb_encrypt(const unsigned char *nonce, const unsigned char *header,
                             const unsigned char *data, size_t length, unsigned char *out)
{
    struct gcm_context_data context;

    IMB_AES128_GCM_ENC(manager, &expanded, &context, out, data, length, nonce, header, HEADER_BYTES,
                       out + length, TAG_BYTES);
}
#endif

static const struct {
    const char *name;
    bool (*open)(void);
    encrypt_fn encrypt;
} libraries[] = {
    {"libcrypto", libcrypto_open, libcrypto_encrypt},
#ifdef WITH_IPSEC_MB
    {"libipsec-mb", ipsec_mb_open, ipsec_mb_encrypt},
#endif
};
#define LIBRARIES (sizeof(libraries) / sizeof(libraries[0]))

/* ---- responses ---- */

/* One record of TLS 1.3: the content's type is one byte more. */
static unsigned char *record_seal(encrypt_fn encrypt, uint64_t sequence, const unsigned char *data,
                                  size_t length, unsigned char *out)
{
    unsigned char nonce[NONCE_BYTES] = {0};

    memcpy(nonce, &sequence, sizeof(sequence));
    memcpy(out, "\x17\x03\x03", 3);
    out[3] = (unsigned char)((length + 1 + TAG_BYTES) >> 8);
    out[4] = (unsigned char)(length + 1 + TAG_BYTES);
    encrypt(nonce, out, data, length + 1, out + HEADER_BYTES);
    return out + HEADER_BYTES + length + 1 + TAG_BYTES;
}

/* Microseconds for one. */
static double measure(encrypt_fn encrypt, const unsigned char *plain, size_t length,
                      unsigned char *wire)
{
    uint64_t sequence = 0, count = 0, begin = cpu_ns(), now = begin;

    for (; now - begin < RUN_NS; count += CLOCK_EVERY, now = cpu_ns()) {
        for (unsigned i = 0; i < CLOCK_EVERY; i++) {
            unsigned char *out = wire;
            for (size_t done = 0; done < length; done += RECORD_BYTES) {
                size_t part = length - done < RECORD_BYTES ? length - done : RECORD_BYTES;
                out = record_seal(encrypt, sequence++, plain + done, part, out);
            }
        }
    }
    return (double)(now - begin) / 1e3 / (double)count;
}

int main(int argc, char **argv)
{
    size_t body = argc == 2 ? strtoul(argv[1], NULL, 10) : 0;
    if (body == 0 || body > BODY_MAX) {
        fprintf(stderr, "usage: aead BODY_BYTES\n");
        return 2;
    }
    size_t length = HEAD_BYTES + body, records = length / RECORD_BYTES + 1;
    unsigned char *plain = calloc(1, length + 1);
    unsigned char *wire = calloc(records, HEADER_BYTES + RECORD_BYTES + 1 + TAG_BYTES);
    const char *fastest = NULL;
    double least_us = 0;

    if (!plain || !wire)
        die("no memory");
    for (unsigned i = 0; i < LIBRARIES; i++) {
        if (!libraries[i].open())
            continue;
        double us = measure(libraries[i].encrypt, plain, length, wire);
        if (!fastest || us < least_us) {
            fastest = libraries[i].name;
            least_us = us;
        }
    }
    if (!fastest)
        die("no AES-128-GCM");
    printf("%.4f %s\n", least_us, fastest);
    free(wire);
    free(plain);
    return 0;
}
