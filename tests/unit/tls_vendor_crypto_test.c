/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor.h"

/* AEADs and HMAC of every library: known answers, and each AEAD opens what another has sealed. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <weir/error.h>

#include "support/hex.h"
#include "support/memory_fail.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define BYTES_MAX     16385

static const enum weir__tls_cipher ciphers[] = {WEIR__TLS_AES_128_GCM, WEIR__TLS_AES_256_GCM,
                                                WEIR__TLS_CHACHA20_POLY1305};

/* Those of the libraries, and then those that are faster; ended by NULL. */
#define LENDERS_MAX 8
static const struct weir__tls_ciphers *lenders[LENDERS_MAX + 1];

static void lenders_find(void)
{
    const struct weir__tls_ciphers *fast;
    const char *text;
    unsigned count = 0;

    for (unsigned v = 0; weir__tls_vendors[v]; v++)
        lenders[count++] = &weir__tls_vendors[v]->ciphers;
    for (unsigned i = 0; (fast = weir__tls_ciphers_fast(i, &text)) != NULL; i++) {
        printf("%s: %s\n", fast->name, text);
        lenders[count++] = fast;
    }
}

/* McGrew and Viega's test cases, which NIST took over: 4 and 16; RFC 8439 section 2.8.2. */
static const struct {
    enum weir__tls_cipher cipher;
    const char *key, *nonce, *additional, *plain, *sealed;
} answers[] = {
    {WEIR__TLS_AES_128_GCM, "feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
     "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
     "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
     "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
     "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091"
     "5bc94fbc3221a5db94fae95ae7121a47"},
    {WEIR__TLS_AES_128_GCM, "00000000000000000000000000000000", "000000000000000000000000", "", "",
     "58e2fccefa7e3061367f1d57a4e7455a"},
    {WEIR__TLS_AES_256_GCM, "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
     "cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
     "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
     "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
     "76fc6ece0f4e1768cddf8853bb2d551b"},
    {WEIR__TLS_CHACHA20_POLY1305,
     "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f", "070000004041424344454647",
     "50515253c0c1c2c3c4c5c6c7",
     "4c616469657320616e642047656e746c656d656e206f662074686520636c617373206f66202739393a20496620492"
     "0"
     "636f756c64206f6666657220796f75206f6e6c79206f6e652074697020666f7220746865206675747572652c20737"
     "5"
     "6e73637265656e20776f756c642062652069742e",
     "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da927"
     "2"
     "8b1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b483"
     "1"
     "d7bc3ff4def08e4b7a9de576d26586cec64b6116"
     "1ae10b594f09e26a7e902ecbd0600691"},
};

struct answer {
    uint8_t key[WEIR__TLS_KEY_MAX], nonce[WEIR__TLS_NONCE], additional[32], plain[128], sealed[160];
    size_t additional_length, plain_length, sealed_length;
};

static void answer_read(struct answer *answer, unsigned i)
{
    hex_read(answers[i].key, answer->key, sizeof(answer->key));
    hex_read(answers[i].nonce, answer->nonce, sizeof(answer->nonce));
    answer->additional_length =
        hex_read(answers[i].additional, answer->additional, sizeof(answer->additional));
    answer->plain_length = hex_read(answers[i].plain, answer->plain, sizeof(answer->plain));
    answer->sealed_length = hex_read(answers[i].sealed, answer->sealed, sizeof(answer->sealed));
    assert_int_equal(answer->sealed_length, answer->plain_length + WEIR__TLS_TAG);
}

/* NULL: the library has it not. */
static struct weir__tls_aead *aead_open(const struct weir__tls_ciphers *lender,
                                        enum weir__tls_cipher cipher, const uint8_t *key, bool seal)
{
    struct weir__tls_aead *aead = NULL;
    int rc = lender->aead_new(&aead, cipher, key, seal);

    if (rc != WEIR_ENOTSUP)
        assert_int_equal(rc, 0);
    return aead;
}

static void answer_try(const struct weir__tls_ciphers *lender, unsigned i)
{
    struct answer answer;
    uint8_t out[256];

    answer_read(&answer, i);
    struct weir__tls_aead *sealer = aead_open(lender, answers[i].cipher, answer.key, true);
    struct weir__tls_aead *opener = aead_open(lender, answers[i].cipher, answer.key, false);
    if (!sealer)
        return;
    const struct iovec part = {answer.plain, answer.plain_length};
    for (unsigned again = 0; again < 2; again++) {
        memset(out, 0, sizeof(out));
        assert_int_equal(lender->aead_seal(sealer, answer.nonce, answer.additional,
                                           answer.additional_length, &part, 1, out),
                         0);
        assert_memory_equal(out, answer.sealed, answer.sealed_length);
        memset(out, 0, sizeof(out));
        assert_int_equal(lender->aead_open(opener, answer.nonce, answer.additional,
                                           answer.additional_length, answer.sealed,
                                           answer.sealed_length, out),
                         0);
        assert_memory_equal(out, answer.plain, answer.plain_length);
        /* Every single bit of it counts, and a failure is forgotten with the next record. */
        answer.sealed[again * (answer.sealed_length - 1)] ^= 0x80;
        assert_int_equal(lender->aead_open(opener, answer.nonce, answer.additional,
                                           answer.additional_length, answer.sealed,
                                           answer.sealed_length, out),
                         WEIR_ETLS);
        answer.sealed[again * (answer.sealed_length - 1)] ^= 0x80;
    }
    if (answer.additional_length > 0)
        assert_int_equal(lender->aead_open(opener, answer.nonce, answer.additional,
                                           answer.additional_length - 1, answer.sealed,
                                           answer.sealed_length, out),
                         WEIR_ETLS);
    for (size_t length = 0; length < WEIR__TLS_TAG; length++)
        assert_int_equal(lender->aead_open(opener, answer.nonce, answer.additional,
                                           answer.additional_length, answer.sealed, length, out),
                         WEIR_ETLS);
    lender->aead_free(sealer);
    lender->aead_free(opener);
}

static void test_known_answers(void **state)
{
    (void)state;
    for (unsigned v = 0; lenders[v]; v++) {
        for (unsigned i = 0; i < LENGTH(answers); i++)
            answer_try(lenders[v], i);
    }
}

/* Nobody does without AES-GCM; CHACHA20 may lack, and it is said. */
static void test_ciphers_that_are_there(void **state)
{
    static const uint8_t key[WEIR__TLS_KEY_MAX];

    (void)state;
    for (unsigned v = 0; weir__tls_vendors[v]; v++) {
        for (unsigned c = 0; c < LENGTH(ciphers); c++) {
            struct weir__tls_aead *aead = aead_open(lenders[v], ciphers[c], key, true);
            if (!aead) {
                assert_int_equal(ciphers[c], WEIR__TLS_CHACHA20_POLY1305);
                printf("SKIP: ciphers_that_are_there: %s has no CHACHA20-POLY1305\n",
                       lenders[v]->name);
                skip();
            }
            lenders[v]->aead_free(aead);
        }
        struct weir__tls_aead *none = NULL;
        assert_int_equal(lenders[v]->aead_new(&none, WEIR__TLS_CIPHER_NONE, key, true),
                         WEIR_ENOTSUP);
        lenders[v]->aead_free(NULL);
    }
}

static void pattern_fill_with(uint8_t *bytes, size_t length, unsigned seed)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(i * 31 + (i >> 8) + seed);
}

/* Cuts so many bytes into parts of odd sizes, some empty. */
static unsigned parts_cut(struct iovec *parts, uint8_t *bytes, size_t length, unsigned count)
{
    size_t at = 0;

    for (unsigned i = 0; i < count; i++) {
        size_t wanted = i + 1 == count ? length - at : (length / count + 17 * i) * (i % 3 != 1);
        size_t taken = wanted < length - at ? wanted : length - at;
        parts[i] = (struct iovec){bytes + at, taken};
        at += taken;
    }
    return count;
}

static void cross_try(const struct weir__tls_ciphers *from, const struct weir__tls_ciphers *to,
                      enum weir__tls_cipher cipher)
{
    static const size_t lengths[] = {0, 1, 15, 16, 17, 255, 256, 4096, 16384, BYTES_MAX};
    static const unsigned counts[] = {0, 1, 2, 3, 7, WEIR__TLS_SEAL_PARTS_MAX};
    static uint8_t plain[BYTES_MAX], sealed[BYTES_MAX + WEIR__TLS_TAG],
        opened[BYTES_MAX + WEIR__TLS_TAG];
    uint8_t key[WEIR__TLS_KEY_MAX], nonce[WEIR__TLS_NONCE], additional[13];
    struct iovec parts[WEIR__TLS_SEAL_PARTS_MAX];

    pattern_fill_with(key, sizeof(key), 3);
    struct weir__tls_aead *sealer = aead_open(from, cipher, key, true);
    struct weir__tls_aead *opener = aead_open(to, cipher, key, false);
    for (unsigned l = 0; sealer && opener && l < LENGTH(lengths); l++) {
        for (unsigned c = 0; c < LENGTH(counts); c++) {
            size_t length = lengths[l];
            if (counts[c] == 0 && length > 0)
                continue;
            pattern_fill_with(plain, length, c);
            pattern_fill_with(nonce, sizeof(nonce), l * 16 + c);
            pattern_fill_with(additional, sizeof(additional), l);
            unsigned count = parts_cut(parts, plain, length, counts[c]);
            assert_int_equal(from->aead_seal(sealer, nonce, additional, sizeof(additional), parts,
                                             count, sealed),
                             0);
            assert_int_equal(to->aead_open(opener, nonce, additional, sizeof(additional), sealed,
                                           length + WEIR__TLS_TAG, opened),
                             0);
            assert_memory_equal(opened, plain, length);
            /* In place, both ways. */
            memcpy(opened, plain, length);
            count = parts_cut(parts, opened, length, counts[c]);
            assert_int_equal(from->aead_seal(sealer, nonce, additional, sizeof(additional), parts,
                                             count, opened),
                             0);
            assert_memory_equal(opened, sealed, length + WEIR__TLS_TAG);
            assert_int_equal(to->aead_open(opener, nonce, additional, sizeof(additional), opened,
                                           length + WEIR__TLS_TAG, opened),
                             0);
            assert_memory_equal(opened, plain, length);
        }
    }
    from->aead_free(sealer);
    to->aead_free(opener);
}

static void test_each_opens_what_another_sealed(void **state)
{
    (void)state;
    for (unsigned i = 0; lenders[i]; i++) {
        for (unsigned j = 0; lenders[j]; j++) {
            for (unsigned c = 0; c < LENGTH(ciphers); c++)
                cross_try(lenders[i], lenders[j], ciphers[c]);
        }
    }
}

/* One part in its place and others elsewhere: a header before a body that is encrypted where it lies. */
static void test_some_parts_in_place(void **state)
{
    static const uint8_t key[WEIR__TLS_KEY_MAX], nonce[WEIR__TLS_NONCE];
    uint8_t header[100], body[300], wanted[400 + WEIR__TLS_TAG], out[400 + WEIR__TLS_TAG];

    (void)state;
    pattern_fill_with(header, sizeof(header), 1);
    pattern_fill_with(body, sizeof(body), 2);
    for (unsigned v = 0; lenders[v]; v++) {
        for (unsigned c = 0; c < LENGTH(ciphers); c++) {
            const struct weir__tls_ciphers *lender = lenders[v];
            struct weir__tls_aead *aead = aead_open(lender, ciphers[c], key, true);
            if (!aead)
                continue;
            const struct iovec apart[] = {{header, 100}, {body, 300}};
            const struct iovec placed[] = {{header, 100}, {out + 100, 300}};
            memcpy(out + 100, body, 300);
            assert_int_equal(lender->aead_seal(aead, nonce, header, 5, apart, 2, wanted), 0);
            assert_int_equal(lender->aead_seal(aead, nonce, header, 5, placed, 2, out), 0);
            assert_memory_equal(out, wanted, sizeof(out));
            lender->aead_free(aead);
        }
    }
}

/* RFC 4231, test cases 1, 2 and 6. */
static const struct {
    const char *key, *data, *sha256, *sha384;
} hmacs[] = {
    {"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "4869205468657265",
     "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
     "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59c"
     "faea9ea9076ede7f4af152e8b2fa9cb6"},
    {"4a656665", "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
     "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
     "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e"
     "8e2240ca5e69e2c78b3239ecfab21649"},
    {NULL, /* 131 times aa */
     "54657374205573696e67204c6172676572205468616e20426c6f636b2d53697a65204b6579202d2048617368204b6"
     "5"
     "79204669727374",
     "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
     "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c6"
     "0c2ef6ab4030fe8296248df163f44952"},
};

static void test_hmac(void **state)
{
    uint8_t key[131], data[64], wanted[WEIR__TLS_HASH_MAX], out[WEIR__TLS_HASH_MAX];

    (void)state;
    for (unsigned v = 0; weir__tls_vendors[v]; v++) {
        for (unsigned i = 0; i < LENGTH(hmacs); i++) {
            const struct weir__tls_vendor *vendor = weir__tls_vendors[v];
            size_t key_length = sizeof(key);
            memset(key, 0xaa, sizeof(key));
            if (hmacs[i].key)
                key_length = hex_read(hmacs[i].key, key, sizeof(key));
            size_t length = hex_read(hmacs[i].data, data, sizeof(data));
            hex_read(hmacs[i].sha256, wanted, sizeof(wanted));
            assert_int_equal(vendor->hmac(WEIR__TLS_SHA256, key, key_length, data, length, out), 0);
            assert_memory_equal(out, wanted, 32);
            hex_read(hmacs[i].sha384, wanted, sizeof(wanted));
            assert_int_equal(vendor->hmac(WEIR__TLS_SHA384, key, key_length, data, length, out), 0);
            assert_memory_equal(out, wanted, 48);
        }
    }
}

/* Of nothing, as HKDF wants it (RFC 5869 section 2.2). */
static void test_hmac_of_nothing(void **state)
{
    uint8_t wanted[32], out[WEIR__TLS_HASH_MAX];

    (void)state;
    hex_read("b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad", wanted, 32);
    for (unsigned v = 0; weir__tls_vendors[v]; v++) {
        assert_int_equal(weir__tls_vendors[v]->hmac(WEIR__TLS_SHA256, (const uint8_t *)"", 0,
                                                    (const uint8_t *)"", 0, out),
                         0);
        assert_memory_equal(out, wanted, 32);
    }
}

static void test_memory_runs_out(void **state)
{
    static const uint8_t key[WEIR__TLS_KEY_MAX];
    size_t live = memory_fail_live();

    (void)state;
    for (unsigned v = 0; lenders[v]; v++) {
        for (unsigned c = 0; c < LENGTH(ciphers); c++) {
            for (unsigned nth = 1;; nth++) {
                struct weir__tls_aead *aead = NULL;
                memory_fail_at(nth);
                int rc = lenders[v]->aead_new(&aead, ciphers[c], key, true);
                bool happened = memory_fail_happened();
                memory_fail_at(0);
                if (rc == 0)
                    lenders[v]->aead_free(aead);
                assert_int_equal(memory_fail_live(), live);
                if (!happened)
                    break;
                assert_int_equal(rc, WEIR_ENOMEM);
            }
        }
    }
}

static void test_wipe(void **state)
{
    uint8_t secret[5] = {1, 2, 3, 4, 5};

    (void)state;
    weir__tls_wipe(secret, 4);
    assert_memory_equal(secret, "\0\0\0\0\5", 5);
}

static void test_find(void **state)
{
    (void)state;
    assert_ptr_equal(weir__tls_vendor_find(NULL), weir__tls_vendors[0]);
    assert_null(weir__tls_vendor_find("no such library"));
    for (unsigned v = 0; weir__tls_vendors[v]; v++) {
        assert_ptr_equal(weir__tls_vendor_find(weir__tls_vendors[v]->name), weir__tls_vendors[v]);
        assert_string_not_equal(weir__tls_vendors[v]->version(), "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_ciphers_that_are_there),
        cmocka_unit_test(test_each_opens_what_another_sealed),
        cmocka_unit_test(test_some_parts_in_place),
        cmocka_unit_test(test_hmac),
        cmocka_unit_test(test_hmac_of_nothing),
        cmocka_unit_test(test_memory_runs_out),
        cmocka_unit_test(test_wipe),
        cmocka_unit_test(test_find),
    };

    lenders_find();
    memory_fail_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
