/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The least that protecting a response takes: AES-128-GCM of libcrypto over the same bytes, in records of
 * 16 KiB, with nothing around it. What a TLS server costs above a bare send loop and this is its own work.
 *
 *   aead BODY_BYTES
 *
 * Prints the CPU time of one response in microseconds, on average over at least RUN_NS.
 */
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RUN_NS       200000000
#define CLOCK_EVERY  64  /* responses between two looks at the clock */
#define HEAD_BYTES   250 /* what limit.c sends before the body */
#define RECORD_BYTES 16384
#define NONCE_BYTES  12
#define HEADER_BYTES 5
#define TAG_BYTES    16
#define BODY_MAX     (1 << 30)

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

/* One record of TLS 1.3, by the fewest calls that there are: the content's type is one byte more. */
static unsigned char *record_seal(EVP_CIPHER_CTX *cipher, uint64_t sequence,
                                  const unsigned char *data, size_t length, unsigned char *out)
{
    unsigned char nonce[NONCE_BYTES] = {0};
    int taken;

    memcpy(nonce, &sequence, sizeof(sequence));
    memcpy(out, "\x17\x03\x03", 3);
    out[3] = (unsigned char)((length + 1 + TAG_BYTES) >> 8);
    out[4] = (unsigned char)(length + 1 + TAG_BYTES);
    if (EVP_EncryptInit_ex(cipher, NULL, NULL, NULL, nonce) != 1 ||
        EVP_EncryptUpdate(cipher, NULL, &taken, out, HEADER_BYTES) != 1 ||
        EVP_EncryptUpdate(cipher, out + HEADER_BYTES, &taken, data, (int)length + 1) != 1)
        die("cannot encrypt");
    out += HEADER_BYTES + length + 1;
    if (EVP_EncryptFinal_ex(cipher, out, &taken) != 1 ||
        EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, out) != 1)
        die("no tag");
    return out + TAG_BYTES;
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
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    if (!plain || !wire || !cipher ||
        EVP_EncryptInit_ex(cipher, EVP_aes_128_gcm(), NULL,
                           (const unsigned char *)"0123456789abcdef", NULL) != 1)
        die("no AES-128-GCM");

    uint64_t sequence = 0, count = 0, begin = cpu_ns(), now = begin;
    for (; now - begin < RUN_NS; count += CLOCK_EVERY, now = cpu_ns()) {
        for (unsigned i = 0; i < CLOCK_EVERY; i++) {
            unsigned char *out = wire;
            for (size_t done = 0; done < length; done += RECORD_BYTES) {
                size_t part = length - done < RECORD_BYTES ? length - done : RECORD_BYTES;
                out = record_seal(cipher, sequence++, plain + done, part, out);
            }
        }
    }
    printf("%.4f\n", (double)(now - begin) / 1e3 / (double)count);
    EVP_CIPHER_CTX_free(cipher);
    free(wire);
    free(plain);
    return 0;
}
