/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/key_schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <weir/error.h>

#include "support/hex.h"

/* RFC 8448 section 3: client_application_traffic_secret_0 and the server's. */
#define CLIENT_SECRET "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5"
#define SERVER_SECRET "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643"

static void require_vendor(const char *test)
{
    if (!weir__tls_vendors[0]) {
        printf("SKIP: %s: this build has no TLS library\n", test);
        skip();
    }
}

static void assert_hex(const uint8_t *bytes, const char *expected)
{
    uint8_t wanted[64];
    assert_memory_equal(bytes, wanted, hex_read(expected, wanted, sizeof(wanted)));
}

static struct weir__tls_secret secret_of(enum weir__tls_cipher cipher, const char *hex)
{
    struct weir__tls_secret secret = {.keys = {.version = WEIR__TLS_1_3, .cipher = cipher}};
    secret.secret_length = (uint8_t)hex_read(hex, secret.secret, sizeof(secret.secret));
    secret.keys.sequence = 77;
    return secret;
}

static void test_hash_bytes(void **state)
{
    (void)state;
    assert_int_equal(weir__tls_hash_bytes(WEIR__TLS_SHA256), 32);
    assert_int_equal(weir__tls_hash_bytes(WEIR__TLS_SHA384), 48);
}

static void test_traffic_keys_of_rfc_8448(void **state)
{
    (void)state;
    require_vendor("test_traffic_keys_of_rfc_8448");
    for (unsigned i = 0; weir__tls_vendors[i]; i++) {
        const struct weir__tls_vendor *vendor = weir__tls_vendors[i];
        struct weir__tls_secret client = secret_of(WEIR__TLS_AES_128_GCM, CLIENT_SECRET);
        struct weir__tls_secret server = secret_of(WEIR__TLS_AES_128_GCM, SERVER_SECRET);
        assert_int_equal(weir__tls_secret_derive(vendor, WEIR__TLS_SHA256, &client), 0);
        assert_hex(client.keys.key, "17422dda596ed5d9acd890e3c63f5051");
        assert_hex(client.keys.iv, "5b78923dee08579033e523d9");
        assert_int_equal(client.keys.sequence, 0);
        assert_int_equal(weir__tls_secret_derive(vendor, WEIR__TLS_SHA256, &server), 0);
        assert_hex(server.keys.key, "9f02283b6c9c07efc26bb9f2ac92e356");
        assert_hex(server.keys.iv, "cf782b88dd83549aadf1e984");
    }
}

/* No RFC has a vector of these: the values were worked out with another implementation of HMAC. */
static void test_traffic_update(void **state)
{
    (void)state;
    require_vendor("test_traffic_update");
    for (unsigned i = 0; weir__tls_vendors[i]; i++) {
        struct weir__tls_secret secret = secret_of(WEIR__TLS_AES_128_GCM, CLIENT_SECRET);
        assert_int_equal(weir__tls_secret_update(weir__tls_vendors[i], WEIR__TLS_SHA256, &secret),
                         0);
        assert_hex(secret.secret,
                   "fcdfcc72725aaee48bf64e4fd8b749cdbdbab39d90da0b26e2245ca6ea167207");
        assert_hex(secret.keys.key, "3879d82f5f14056e623f2ce5bfc66fce");
        assert_hex(secret.keys.iv, "5dfb2c5938c3379b6cc5d1f2");
        assert_int_equal(secret.keys.sequence, 0);
        assert_int_equal(secret.keys.cipher, WEIR__TLS_AES_128_GCM);
    }
}

static void test_sha384(void **state)
{
    (void)state;
    require_vendor("test_sha384");
    for (unsigned i = 0; weir__tls_vendors[i]; i++) {
        struct weir__tls_secret secret =
            secret_of(WEIR__TLS_AES_256_GCM,
                      "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
                      "202122232425262728292a2b2c2d2e2f");
        assert_int_equal(weir__tls_secret_derive(weir__tls_vendors[i], WEIR__TLS_SHA384, &secret),
                         0);
        assert_hex(secret.keys.key,
                   "6877d022f1c61d24ebb7487c16752d9a4798e40431c75b39320e537c90e23225");
        assert_hex(secret.keys.iv, "42822531a0fe88648fc09e9f");
        assert_int_equal(weir__tls_secret_update(weir__tls_vendors[i], WEIR__TLS_SHA384, &secret),
                         0);
        assert_hex(secret.secret, "401331b63e9d59f202e8f041042d9516f4cd7fa2e2ee14631d3b49fc340d7af3"
                                  "7fc2c0c9f252d8036f81ec5b85cbe5db");
    }
}

static void test_two_blocks_of_output(void **state)
{
    (void)state;
    require_vendor("test_two_blocks_of_output");
    for (unsigned i = 0; weir__tls_vendors[i]; i++) {
        uint8_t secret[32];
        uint8_t out[65] = {0};
        for (uint8_t j = 0; j < sizeof(secret); j++)
            secret[j] = j;
        assert_int_equal(weir__tls_expand_label(weir__tls_vendors[i], WEIR__TLS_SHA256, secret,
                                                "finished", out, 64),
                         0);
        assert_hex(out, "5eceeb295ebac5feb264dbb70675b49720ec4ad8de4949de54b525fdc3237ec6"
                        "8cb3778966b984a3c25614dcdcbc08b9c05fa4ead0c1cefad8cdaa8c0e8ad052");
        assert_int_equal(out[64], 0);
    }
}

/* From NIST's test vectors of the TLS 1.2 key derivation (CAVP, SP 800-135). */
static const struct {
    enum weir__tls_hash hash;
    const char *master, *server_random, *client_random, *block;
} masters[] = {
    {WEIR__TLS_SHA256,
     "202c88c00f84a17a20027079604787461176455539e705be730890602c289a50"
     "01e34eeb3a043e5d52a65e66125188bf",
     "ae6c806f8ad4d80784549dff28a4b58fd837681a51d928c3e30ee5ff14f39868",
     "62e1fd91f23f558a605f28478c58cf72637b89784d959df7e946d3f07bd1b616",
     "d06139889fffac1e3a71865f504aa5d0d2a2e89506c6f2279b670c3e1b74f531"
     "016a2530c51a3a0f7e1d6590d0f0566b2f387f8d11fd4f731cdd572d2eae927f"
     "6f2f81410b25e6960be68985add6c38445ad9f8c64bf8068"},
    {WEIR__TLS_SHA384,
     "b4d49bfa87747fe815457bc3da15073d6ac73389e703079a3503c09e14bd559a"
     "5b3c7c601c7365f6ea8c68d3d9596827",
     "1b1c8568344a65c30828e7483c0e353e2c68641c9551efae6927d9cd627a107c",
     "954b5fe1849c2ede177438261f099a2fcd884d001b9fe1de754364b1f6a6dd8e",
     "10fd89ef689c7ef033387b8a8f3e5e8e7c11f680f6bdd71fbac3246a73e98d45"
     "d03185dde686e6b2369e4503e9dc5a6d2cee3e2bf2fa3f41d3de57dff3e197c8"
     "a9d5f74cc2d277119d894f8584b07a0a5822f0bd68b3433e"},
};

static void check_master(const struct weir__tls_vendor *vendor, unsigned which,
                         enum weir__tls_cipher cipher, bool server)
{
    struct weir__tls_keys tx = {.version = WEIR__TLS_1_2, .cipher = cipher};
    struct weir__tls_keys rx = tx;
    const struct weir__tls_keys *of_client = server ? &rx : &tx;
    const struct weir__tls_keys *of_server = server ? &tx : &rx;
    size_t key_bytes = cipher == WEIR__TLS_AES_128_GCM ? 16 : 32;
    size_t iv_bytes = cipher == WEIR__TLS_CHACHA20_POLY1305 ? 12 : 4;
    uint8_t master[48], server_random[32], client_random[32], block[88];

    hex_read(masters[which].master, master, sizeof(master));
    hex_read(masters[which].server_random, server_random, sizeof(server_random));
    hex_read(masters[which].client_random, client_random, sizeof(client_random));
    hex_read(masters[which].block, block, sizeof(block));
    assert_int_equal(weir__tls_master_derive(vendor, masters[which].hash, master, client_random,
                                             server_random, server, &tx, &rx),
                     0);
    assert_memory_equal(of_client->key, block, key_bytes);
    assert_memory_equal(of_server->key, block + key_bytes, key_bytes);
    assert_memory_equal(of_client->iv, block + 2 * key_bytes, iv_bytes);
    assert_memory_equal(of_server->iv, block + 2 * key_bytes + iv_bytes, iv_bytes);
    assert_int_equal(tx.sequence, 1);
    assert_int_equal(rx.sequence, 1);
}

static void test_master_secret(void **state)
{
    static const enum weir__tls_cipher ciphers[] = {WEIR__TLS_AES_128_GCM, WEIR__TLS_AES_256_GCM,
                                                    WEIR__TLS_CHACHA20_POLY1305};
    (void)state;
    require_vendor("test_master_secret");
    for (unsigned i = 0; weir__tls_vendors[i]; i++) {
        for (unsigned which = 0; which < 2; which++) {
            for (unsigned j = 0; j < 3; j++) {
                check_master(weir__tls_vendors[i], which, ciphers[j], false);
                check_master(weir__tls_vendors[i], which, ciphers[j], true);
            }
        }
    }
}

/* Of a library that fails at the nth HMAC. */
static unsigned hmacs_left;

static int hmac_that_fails(enum weir__tls_hash hash, const uint8_t *key, size_t key_length,
                           const uint8_t *data, size_t length, uint8_t *out)
{
    (void)key;
    (void)key_length;
    (void)data;
    (void)length;
    if (hmacs_left == 0)
        return WEIR_EIO;
    hmacs_left--;
    memset(out, 1, weir__tls_hash_bytes(hash));
    return 0;
}

static void test_a_library_that_fails(void **state)
{
    const struct weir__tls_vendor vendor = {.hmac = hmac_that_fails};
    uint8_t zeros[48] = {0};

    (void)state;
    for (unsigned n = 0; n <= 3; n++) {
        struct weir__tls_secret secret = secret_of(WEIR__TLS_AES_128_GCM, CLIENT_SECRET);
        hmacs_left = n;
        assert_int_equal(weir__tls_secret_update(&vendor, WEIR__TLS_SHA256, &secret),
                         n < 3 ? WEIR_EIO : 0);
    }
    /* 40 bytes by SHA-256: A(1), and for each of two blocks the block and the next A. */
    for (unsigned n = 0; n <= 5; n++) {
        struct weir__tls_keys tx = {.version = WEIR__TLS_1_2, .cipher = WEIR__TLS_AES_128_GCM};
        struct weir__tls_keys rx = tx;
        hmacs_left = n;
        assert_int_equal(
            weir__tls_master_derive(&vendor, WEIR__TLS_SHA256, zeros, zeros, zeros, true, &tx, &rx),
            n < 5 ? WEIR_EIO : 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hash_bytes),
        cmocka_unit_test(test_traffic_keys_of_rfc_8448),
        cmocka_unit_test(test_traffic_update),
        cmocka_unit_test(test_sha384),
        cmocka_unit_test(test_two_blocks_of_output),
        cmocka_unit_test(test_master_secret),
        cmocka_unit_test(test_a_library_that_fails),
    };

    return cmocka_run_group_tests_name("tls_key_schedule", tests, NULL, NULL);
}
