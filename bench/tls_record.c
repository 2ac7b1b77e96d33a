/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the record layer costs beside the cipher: for each library and cipher, records of 16 KiB and of
 * 1 KiB are sealed, and the same bytes are encrypted by the library's AEAD alone. The last of them are those
 * that encrypt for the others' connections.
 *
 *   tls_record [SECONDS]
 *
 * Prints bytes per second of CPU time, and the record layer's time over the cipher's. The two take
 * turns; each number is the best of all turns, which is the one with the least of others' work in it.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tls/record.h"

#define TURN_BYTES (8 * 1024 * 1024)
#define TURNS_MIN  5

static uint8_t content[WEIR__TLS_PLAIN_MAX];
static uint8_t record[WEIR__TLS_RECORD_MAX];
static uint8_t room[WEIR__TLS_PLAIN_MAX + WEIR__TLS_EXPAND_MAX];

static double cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double turn_seal(struct weir__tls_protector *seal, size_t length)
{
    const struct iovec part = {content, length};
    double begin = cpu_seconds();

    for (size_t done = 0; done < TURN_BYTES; done += length) {
        int64_t sealed = weir__tls_seal(seal, WEIR__TLS_APPLICATION_DATA, &part, 1, record);
        assert(sealed > 0);
    }
    return cpu_seconds() - begin;
}

/* As many bytes with the content's type behind them, as TLS 1.3 has it, in one part. */
static double turn_bare(struct weir__tls_protector *seal, size_t length)
{
    const struct iovec part = {room, length + 1};
    uint8_t nonce[WEIR__TLS_NONCE] = {0};
    double begin = cpu_seconds();

    for (size_t done = 0; done < TURN_BYTES; done += length) {
        nonce[0]++;
        int error = seal->ciphers->aead_seal(seal->aead, nonce, record, WEIR__TLS_HEADER, &part, 1,
                                             record + WEIR__TLS_HEADER);
        assert(!error);
    }
    return cpu_seconds() - begin;
}

static double turn_open(struct weir__tls_protector *open, size_t record_length, size_t length)
{
    struct weir__tls_opened opened;
    uint64_t sequence = open->keys.sequence;
    double begin = cpu_seconds();

    for (size_t done = 0; done < TURN_BYTES; done += length) {
        open->keys.sequence = sequence; /* the same one again */
        int alert = weir__tls_open(open, record, record_length, room, &opened);
        assert(!alert);
    }
    double seconds = cpu_seconds() - begin;
    open->keys.sequence = sequence;
    return seconds;
}

static void keep_best(double *best, double seconds)
{
    if (*best == 0 || seconds < *best)
        *best = seconds;
}

static void measure(const struct weir__tls_ciphers *lender, enum weir__tls_cipher cipher,
                    const char *name, size_t length, double seconds)
{
    struct weir__tls_keys keys = {.version = WEIR__TLS_1_3, .cipher = cipher};
    struct weir__tls_protector seal, open;
    const struct iovec part = {content, length};
    double bare = 0, sealed = 0, opened = 0;

    if (weir__tls_protector_init(&seal, lender, &keys, true) != 0 ||
        weir__tls_protector_init(&open, lender, &keys, false) != 0) {
        printf("%-8s %-17s %6zu  not to be had\n", lender->name, name, length);
        return;
    }
    double end = cpu_seconds() + seconds;
    for (unsigned turn = 0; turn < TURNS_MIN || cpu_seconds() < end; turn++) {
        keep_best(&bare, turn_bare(&seal, length));
        keep_best(&sealed, turn_seal(&seal, length));
        seal.keys.sequence = 0;
        int64_t record_length = weir__tls_seal(&seal, WEIR__TLS_APPLICATION_DATA, &part, 1, record);
        keep_best(&opened, turn_open(&open, (size_t)record_length, length));
    }
    printf("%-8s %-17s %6zu %8.0f %8.0f %8.0f %10.3f\n", lender->name, name, length,
           TURN_BYTES / bare / 1e6, TURN_BYTES / sealed / 1e6, TURN_BYTES / opened / 1e6,
           sealed / bare);
    weir__tls_protector_dispose(&seal);
    weir__tls_protector_dispose(&open);
}

static void measure_each(const struct weir__tls_ciphers *lender, double seconds)
{
    static const struct {
        enum weir__tls_cipher cipher;
        const char *name;
    } ciphers[] = {
        {WEIR__TLS_AES_128_GCM, "AES-128-GCM"},
        {WEIR__TLS_AES_256_GCM, "AES-256-GCM"},
        {WEIR__TLS_CHACHA20_POLY1305, "CHACHA20-POLY1305"},
    };

    for (unsigned i = 0; i < sizeof(ciphers) / sizeof(ciphers[0]); i++) {
        measure(lender, ciphers[i].cipher, ciphers[i].name, 16384, seconds);
        measure(lender, ciphers[i].cipher, ciphers[i].name, 1024, seconds);
    }
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    const struct weir__tls_ciphers *fast;
    const char *text;

    printf("%-8s %-17s %6s %8s %8s %8s %10s\n", "library", "cipher", "bytes", "AEAD", "seal",
           "open", "seal/AEAD");
    printf("%-8s %-17s %6s %8s %8s %8s\n", "", "", "", "MB/s", "MB/s", "MB/s");
    for (unsigned i = 0; weir__tls_vendors[i]; i++)
        measure_each(&weir__tls_vendors[i]->ciphers, seconds);
    for (unsigned i = 0; (fast = weir__tls_ciphers_fast(i, &text)) != NULL; i++) {
        printf("%s, %s:\n", fast->name, text);
        measure_each(fast, seconds);
    }
    return 0;
}
