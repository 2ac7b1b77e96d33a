/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <weir/error.h>

#include "support/hex.h"
#include "support/tls_craft.h"
#include "support/tls_toy.h"

#define ROOM_BYTES (WEIR__TLS_PLAIN_MAX + WEIR__TLS_EXPAND_MAX)

static const struct {
    uint16_t version;
    enum weir__tls_cipher cipher;
    size_t offset, overhead;
} modes[] = {
    {WEIR__TLS_1_3, WEIR__TLS_AES_128_GCM, 5, 22},
    {WEIR__TLS_1_3, WEIR__TLS_AES_256_GCM, 5, 22},
    {WEIR__TLS_1_3, WEIR__TLS_CHACHA20_POLY1305, 5, 22},
    {WEIR__TLS_1_2, WEIR__TLS_AES_128_GCM, 13, 29},
    {WEIR__TLS_1_2, WEIR__TLS_AES_256_GCM, 13, 29},
    {WEIR__TLS_1_2, WEIR__TLS_CHACHA20_POLY1305, 5, 21},
};
#define MODES (sizeof(modes) / sizeof(modes[0]))

/* Two ends of one direction. */
struct pair {
    struct weir__tls_protector seal, open;
};

static uint8_t room[ROOM_BYTES];

/* The toy, then those of the build, then those that are faster. */
static const struct weir__tls_ciphers *ciphers_at(unsigned i)
{
    const char *text;

    if (i == 0)
        return &weir__tls_toy.ciphers;
    for (unsigned v = 0; weir__tls_vendors[v]; v++) {
        if (--i == 0)
            return &weir__tls_vendors[v]->ciphers;
    }
    return weir__tls_ciphers_fast(i - 1, &text);
}

static struct weir__tls_keys keys_of(unsigned mode)
{
    struct weir__tls_keys keys = {.version = modes[mode].version, .cipher = modes[mode].cipher};

    for (uint8_t i = 0; i < sizeof(keys.key); i++)
        keys.key[i] = (uint8_t)(7 * i + 3);
    for (uint8_t i = 0; i < sizeof(keys.iv); i++)
        keys.iv[i] = (uint8_t)(0xa0 + i);
    keys.sequence = 1;
    return keys;
}

/* Returns false where the library lacks the cipher. */
static bool pair_init(struct pair *pair, const struct weir__tls_ciphers *ciphers, unsigned mode)
{
    struct weir__tls_keys keys = keys_of(mode);
    int result = weir__tls_protector_init(&pair->seal, ciphers, &keys, true);

    if (result == WEIR_ENOTSUP) {
        printf("%s lacks cipher %d\n", ciphers->name, (int)keys.cipher);
        return false;
    }
    assert_int_equal(result, 0);
    assert_int_equal(weir__tls_protector_init(&pair->open, ciphers, &keys, false), 0);
    return true;
}

static void pair_dispose(struct pair *pair)
{
    weir__tls_protector_dispose(&pair->seal);
    weir__tls_protector_dispose(&pair->open);
}

/* Runs `check` for every library, version and cipher. */
static void each_mode(void (*check)(struct pair *pair, unsigned mode))
{
    for (unsigned i = 0; ciphers_at(i); i++) {
        for (unsigned mode = 0; mode < MODES; mode++) {
            struct pair pair;
            if (!pair_init(&pair, ciphers_at(i), mode))
                continue;
            check(&pair, mode);
            pair_dispose(&pair);
        }
    }
}

static void pattern_fill(uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(i * 31 + (i >> 8));
}

static size_t seal_one(struct weir__tls_protector *protector, enum weir__tls_content type,
                       const uint8_t *data, size_t length, uint8_t *record)
{
    struct iovec part = {(void *)(uintptr_t)data, length};
    int64_t result = weir__tls_seal(protector, type, &part, 1, record);

    assert_true(result > 0);
    assert_int_equal(weir__tls_frame(record, (size_t)result, protector->keys.version), result);
    return (size_t)result;
}

static int open_alert(struct weir__tls_protector *protector, const uint8_t *record, size_t length)
{
    struct weir__tls_opened opened;
    return weir__tls_open(protector, record, length, room, &opened);
}

static void assert_opens(struct weir__tls_protector *protector, const uint8_t *record,
                         size_t record_length, enum weir__tls_content type, const uint8_t *data,
                         size_t length)
{
    struct weir__tls_opened opened;
    uint64_t sequence = protector->keys.sequence;

    assert_int_equal(weir__tls_open(protector, record, record_length, room, &opened), 0);
    assert_int_equal(opened.type, type);
    assert_int_equal(opened.length, length);
    assert_memory_equal(opened.data, data, length);
    assert_int_equal(protector->keys.sequence, sequence + 1);
}

/* ---- what is sealed ---- */

static void check_sizes(struct pair *pair, unsigned mode)
{
    assert_int_equal(weir__tls_content_offset(&pair->seal.keys), modes[mode].offset);
    assert_int_equal(weir__tls_overhead(&pair->seal.keys), modes[mode].overhead);
}

static void test_sizes(void **state)
{
    (void)state;
    each_mode(check_sizes);
}

/* RFC 8448 section 3. */
static const struct {
    bool client;
    uint64_t sequence;
    enum weir__tls_content type;
    const char *content, *record;
} records_8448[] = {
    {true, 0, WEIR__TLS_APPLICATION_DATA,
     "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
     "202122232425262728292a2b2c2d2e2f3031",
     "1703030043 a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5"
     "b46b395bd54a9a20441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4"},
    {true, 1, WEIR__TLS_ALERT, "0100", "1703030013 c9872760655666b74d7ff1153efd6db6d0b0e3"},
    {false, 1, WEIR__TLS_APPLICATION_DATA,
     "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
     "202122232425262728292a2b2c2d2e2f3031",
     "1703030043 2e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d"
     "90e6dffc602dcb501a59a8fcc49c4bf2e5f0a21c0047c2abf332540dd032e167c2955d"},
    {false, 2, WEIR__TLS_ALERT, "0100", "1703030013 b58fd67166ebf599d24720cfbe7efa7a8864a9"},
};

static void check_8448(const struct weir__tls_ciphers *ciphers, unsigned i)
{
    bool client = records_8448[i].client;
    struct weir__tls_keys keys = {.version = WEIR__TLS_1_3,
                                  .cipher = WEIR__TLS_AES_128_GCM,
                                  .sequence = records_8448[i].sequence};
    struct weir__tls_protector seal, open;
    uint8_t content[64], expected[128], record[128];

    hex_read(client ? "17422dda596ed5d9acd890e3c63f5051" : "9f02283b6c9c07efc26bb9f2ac92e356",
             keys.key, sizeof(keys.key));
    hex_read(client ? "5b78923dee08579033e523d9" : "cf782b88dd83549aadf1e984", keys.iv,
             sizeof(keys.iv));
    size_t length = hex_read(records_8448[i].content, content, sizeof(content));
    size_t expected_length = hex_read(records_8448[i].record, expected, sizeof(expected));
    assert_int_equal(weir__tls_protector_init(&seal, ciphers, &keys, true), 0);
    assert_int_equal(weir__tls_protector_init(&open, ciphers, &keys, false), 0);
    assert_int_equal(seal_one(&seal, records_8448[i].type, content, length, record),
                     expected_length);
    assert_memory_equal(record, expected, expected_length);
    assert_opens(&open, expected, expected_length, records_8448[i].type, content, length);
    weir__tls_protector_dispose(&seal);
    weir__tls_protector_dispose(&open);
}

static void test_records_of_rfc_8448(void **state)
{
    (void)state;
    if (!weir__tls_vendors[0]) {
        printf("SKIP: test_records_of_rfc_8448: this build has no TLS library\n");
        skip();
    }
    for (unsigned i = 1; ciphers_at(i); i++) {
        for (unsigned j = 0; j < sizeof(records_8448) / sizeof(records_8448[0]); j++)
            check_8448(ciphers_at(i), j);
    }
}

static void check_round_trips(struct pair *pair, unsigned mode)
{
    static const size_t lengths[] = {0, 1, 15, 16, 17, 255, 256, 4096, 16383, 16384};
    static uint8_t data[WEIR__TLS_PLAIN_MAX];
    static uint8_t record[WEIR__TLS_RECORD_MAX];

    pattern_fill(data, sizeof(data));
    for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        size_t length = lengths[i];
        size_t sealed = seal_one(&pair->seal, WEIR__TLS_APPLICATION_DATA, data, length, record);
        assert_int_equal(sealed, length + modes[mode].overhead);
        assert_int_equal(record[0], 23);
        assert_int_equal(record[1], 3);
        assert_int_equal(record[2], 3);
        assert_opens(&pair->open, record, sealed, WEIR__TLS_APPLICATION_DATA, data, length);
        /* In its own place. */
        memcpy(record + modes[mode].offset, data, length);
        sealed = seal_one(&pair->seal, WEIR__TLS_APPLICATION_DATA, record + modes[mode].offset,
                          length, record);
        assert_opens(&pair->open, record, sealed, WEIR__TLS_APPLICATION_DATA, data, length);
    }
    assert_int_equal(pair->seal.keys.sequence, 21);
    assert_int_equal(pair->open.keys.sequence, 21);
}

static void test_round_trips(void **state)
{
    (void)state;
    each_mode(check_round_trips);
}

static void check_types(struct pair *pair, unsigned mode)
{
    const uint8_t alert[] = {1, 0};
    uint8_t record[64];
    bool hidden = modes[mode].version == WEIR__TLS_1_3;

    size_t length = seal_one(&pair->seal, WEIR__TLS_ALERT, alert, sizeof(alert), record);
    assert_int_equal(record[0], hidden ? 23 : 21);
    assert_opens(&pair->open, record, length, WEIR__TLS_ALERT, alert, sizeof(alert));
    length = seal_one(&pair->seal, WEIR__TLS_HANDSHAKE, alert, sizeof(alert), record);
    assert_int_equal(record[0], hidden ? 23 : 22);
    assert_opens(&pair->open, record, length, WEIR__TLS_HANDSHAKE, alert, sizeof(alert));
}

static void test_types(void **state)
{
    (void)state;
    each_mode(check_types);
}

static void check_parts(struct pair *pair, unsigned mode)
{
    static uint8_t data[WEIR__TLS_PLAIN_MAX];
    static uint8_t whole[WEIR__TLS_RECORD_MAX], record[WEIR__TLS_RECORD_MAX];
    struct iovec parts[WEIR__TLS_SEAL_PARTS_MAX - 1];
    size_t done = 0;

    (void)mode;
    pattern_fill(data, sizeof(data));
    size_t length = seal_one(&pair->seal, WEIR__TLS_APPLICATION_DATA, data, sizeof(data), whole);
    for (unsigned i = 0; i < WEIR__TLS_SEAL_PARTS_MAX - 1; i++) {
        size_t part = i == 14 ? sizeof(data) - done : i % 4 == 1 ? 0 : 1 + i * 17;
        parts[i] = (struct iovec){part ? data + done : NULL, part};
        done += part;
    }
    pair->seal.keys.sequence--;
    assert_int_equal(weir__tls_seal(&pair->seal, WEIR__TLS_APPLICATION_DATA, parts,
                                    WEIR__TLS_SEAL_PARTS_MAX - 1, record),
                     length);
    assert_memory_equal(record, whole, length);
    assert_opens(&pair->open, record, length, WEIR__TLS_APPLICATION_DATA, data, sizeof(data));
    /* None at all. */
    int64_t empty = weir__tls_seal(&pair->seal, WEIR__TLS_APPLICATION_DATA, NULL, 0, record);
    assert_opens(&pair->open, record, (size_t)empty, WEIR__TLS_APPLICATION_DATA, data, 0);
}

static void test_parts(void **state)
{
    (void)state;
    each_mode(check_parts);
}

/* A header from elsewhere and a body that lies where it will go. */
static void check_part_in_place(struct pair *pair, unsigned mode)
{
    uint8_t head[10], expected[40], record[128];

    pattern_fill(expected, sizeof(expected));
    memcpy(head, expected, sizeof(head));
    memcpy(record + modes[mode].offset + 10, expected + 10, 30);
    struct iovec parts[] = {{head, 10}, {record + modes[mode].offset + 10, 30}};
    int64_t length = weir__tls_seal(&pair->seal, WEIR__TLS_APPLICATION_DATA, parts, 2, record);
    assert_int_equal(length, (int64_t)(40 + modes[mode].overhead));
    assert_opens(&pair->open, record, (size_t)length, WEIR__TLS_APPLICATION_DATA, expected, 40);
}

static void test_part_in_place(void **state)
{
    (void)state;
    each_mode(check_part_in_place);
}

static void check_explicit_nonce(struct pair *pair, unsigned mode)
{
    static const uint8_t sequence[8] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08};
    uint8_t record[64];

    if (modes[mode].offset != 13)
        return;
    pair->seal.keys.sequence = UINT64_C(0x0102030405060708);
    seal_one(&pair->seal, WEIR__TLS_APPLICATION_DATA, sequence, 8, record);
    assert_memory_equal(record + 5, sequence, 8);
}

static void test_explicit_nonce_is_the_sequence(void **state)
{
    (void)state;
    each_mode(check_explicit_nonce);
}

static void check_last_sequence(struct pair *pair, unsigned mode)
{
    const uint8_t data[4] = {1, 2, 3, 4};
    struct iovec part = {(void *)(uintptr_t)data, 4};
    uint8_t record[64], again[64];

    (void)mode;
    pair->seal.keys.sequence = UINT64_MAX - 1;
    pair->open.keys.sequence = UINT64_MAX - 1;
    size_t length = seal_one(&pair->seal, WEIR__TLS_APPLICATION_DATA, data, 4, record);
    assert_opens(&pair->open, record, length, WEIR__TLS_APPLICATION_DATA, data, 4);
    assert_int_equal(weir__tls_seal(&pair->seal, WEIR__TLS_APPLICATION_DATA, &part, 1, again),
                     WEIR_EIO);
    assert_int_equal(pair->seal.keys.sequence, UINT64_MAX);
    assert_int_equal(open_alert(&pair->open, record, length), WEIR__TLS_INTERNAL_ERROR);
    assert_int_equal(pair->open.keys.sequence, UINT64_MAX);
}

static void test_sequence_never_wraps(void **state)
{
    (void)state;
    each_mode(check_last_sequence);
}

/* ---- what is not authentic ---- */

static void check_tampering(struct pair *pair, unsigned mode)
{
    uint8_t data[40], record[128];

    pattern_fill(data, sizeof(data));
    size_t length = seal_one(&pair->seal, WEIR__TLS_APPLICATION_DATA, data, sizeof(data), record);
    for (size_t i = 0; i < length; i++) {
        int expected = WEIR__TLS_BAD_RECORD_MAC;
        if (i == 0 && modes[mode].version == WEIR__TLS_1_3)
            expected = WEIR__TLS_UNEXPECTED_MESSAGE;
        if (i == 3 || i == 4)
            continue; /* the length: test_other_lengths */
        for (unsigned bit = 0; bit < 8; bit++) {
            record[i] ^= (uint8_t)(1 << bit);
            assert_int_equal(open_alert(&pair->open, record, length), expected);
            record[i] ^= (uint8_t)(1 << bit);
        }
    }
    assert_int_equal(pair->open.keys.sequence, 1);
    assert_opens(&pair->open, record, length, WEIR__TLS_APPLICATION_DATA, data, sizeof(data));
}

static void test_tampering(void **state)
{
    (void)state;
    each_mode(check_tampering);
}

/* The record says another length than it was sealed with, from nothing to some bytes too many. */
static void check_other_lengths(struct pair *pair, unsigned mode)
{
    uint8_t data[40], record[128] = {0};

    (void)mode;
    pattern_fill(data, sizeof(data));
    size_t length = seal_one(&pair->seal, WEIR__TLS_APPLICATION_DATA, data, sizeof(data), record);
    for (size_t other = WEIR__TLS_HEADER; other < sizeof(record); other++) {
        if (other == length)
            continue;
        record[4] = (uint8_t)(other - WEIR__TLS_HEADER);
        assert_int_equal(open_alert(&pair->open, record, other), WEIR__TLS_BAD_RECORD_MAC);
    }
    record[4] = (uint8_t)(length - WEIR__TLS_HEADER);
    assert_opens(&pair->open, record, length, WEIR__TLS_APPLICATION_DATA, data, sizeof(data));
}

static void test_other_lengths(void **state)
{
    (void)state;
    each_mode(check_other_lengths);
}

static void check_order(struct pair *pair, unsigned mode)
{
    uint8_t records[3][64];
    size_t length = 0;

    (void)mode;
    for (uint8_t i = 0; i < 3; i++)
        length = seal_one(&pair->seal, WEIR__TLS_APPLICATION_DATA, &i, 1, records[i]);
    /* One that comes early, or after one that was lost. */
    assert_int_equal(open_alert(&pair->open, records[1], length), WEIR__TLS_BAD_RECORD_MAC);
    assert_int_equal(open_alert(&pair->open, records[2], length), WEIR__TLS_BAD_RECORD_MAC);
    assert_int_equal(open_alert(&pair->open, records[0], length), 0);
    /* One that comes twice. */
    assert_int_equal(open_alert(&pair->open, records[0], length), WEIR__TLS_BAD_RECORD_MAC);
    assert_int_equal(open_alert(&pair->open, records[1], length), 0);
    assert_int_equal(open_alert(&pair->open, records[2], length), 0);
}

static void test_order(void **state)
{
    (void)state;
    each_mode(check_order);
}

static void check_other_keys(struct pair *pair, unsigned mode)
{
    struct weir__tls_keys keys = keys_of(mode);
    struct weir__tls_protector other;
    uint8_t record[64];
    size_t length = seal_one(&pair->seal, WEIR__TLS_APPLICATION_DATA, keys.iv, 8, record);

    keys.key[15] ^= 1;
    assert_int_equal(weir__tls_protector_init(&other, pair->open.ciphers, &keys, false), 0);
    assert_int_equal(open_alert(&other, record, length), WEIR__TLS_BAD_RECORD_MAC);
    weir__tls_protector_dispose(&other);
    keys.key[15] ^= 1;
    keys.iv[0] ^= 1;
    assert_int_equal(weir__tls_protector_init(&other, pair->open.ciphers, &keys, false), 0);
    assert_int_equal(open_alert(&other, record, length), WEIR__TLS_BAD_RECORD_MAC);
    weir__tls_protector_dispose(&other);
}

static void test_other_keys(void **state)
{
    (void)state;
    each_mode(check_other_keys);
}

/* ---- what is authentic and yet wrong ---- */

/* The record that pair->open waits for, though weir__tls_seal makes no such thing. */
static size_t seal_raw(struct pair *pair, uint8_t type, const uint8_t *bytes, size_t length,
                       uint8_t *record)
{
    pair->seal.keys.sequence = pair->open.keys.sequence;
    return tls_craft_record(&pair->seal, type, bytes, length, record);
}

/* `length` bytes of content 'x', then `type`, then `padding` zeros. */
static const struct {
    size_t length, padding;
    int type, alert;
} inners[] = {
    {10, 0, 23, 0},
    {10, 1, 23, 0},
    {10, 16374, 23, 0},
    {0, 0, 23, 0},
    {0, 16384, 23, 0},
    {16384, 0, 23, 0},
    {16384, 1, 23, WEIR__TLS_RECORD_OVERFLOW},
    {0, 16385, 23, WEIR__TLS_RECORD_OVERFLOW},
    {16385, 0, 23, WEIR__TLS_RECORD_OVERFLOW},
    {16623, 0, 23, WEIR__TLS_RECORD_OVERFLOW},
    {2, 0, 21, 0},
    {2, 300, 22, 0},
    {0, 0, 21, WEIR__TLS_UNEXPECTED_MESSAGE},
    {0, 5, 22, WEIR__TLS_UNEXPECTED_MESSAGE},
    {1, 0, 20, WEIR__TLS_UNEXPECTED_MESSAGE},
    {9, 0, 24, WEIR__TLS_UNEXPECTED_MESSAGE},
    {9, 0, 255, WEIR__TLS_UNEXPECTED_MESSAGE},
    {0, 0, 0, WEIR__TLS_UNEXPECTED_MESSAGE},
    {0, 16384, 0, WEIR__TLS_UNEXPECTED_MESSAGE},
};

static void check_inner(struct pair *pair, unsigned mode)
{
    static uint8_t inner[ROOM_BYTES], record[WEIR__TLS_RECORD_MAX];

    if (modes[mode].version != WEIR__TLS_1_3)
        return;
    for (unsigned i = 0; i < sizeof(inners) / sizeof(inners[0]); i++) {
        size_t length = inners[i].length;
        uint64_t sequence = pair->open.keys.sequence;
        if (length + inners[i].padding > WEIR__TLS_PLAIN_MAX &&
            pair->seal.ciphers != &weir__tls_toy.ciphers)
            continue; /* more than libraries need to seal */
        memset(inner, 'x', length);
        inner[length] = (uint8_t)inners[i].type;
        memset(inner + length + 1, 0, inners[i].padding);
        size_t sealed = seal_raw(pair, 23, inner, length + 1 + inners[i].padding, record);
        assert_int_equal(weir__tls_frame(record, sealed, WEIR__TLS_1_3), sealed);
        if (inners[i].alert == 0) {
            assert_opens(&pair->open, record, sealed, (enum weir__tls_content)inners[i].type, inner,
                         length);
            continue;
        }
        assert_int_equal(open_alert(&pair->open, record, sealed), inners[i].alert);
        assert_int_equal(pair->open.keys.sequence, sequence);
    }
    /* Not even a type. */
    size_t sealed = seal_raw(pair, 23, inner, 0, record);
    assert_int_equal(open_alert(&pair->open, record, sealed), WEIR__TLS_UNEXPECTED_MESSAGE);
}

static void test_inner_plaintext(void **state)
{
    (void)state;
    each_mode(check_inner);
}

static void check_outer_type(struct pair *pair, unsigned mode)
{
    const uint8_t inner[] = {1, 0, 21};
    uint8_t record[64];

    if (modes[mode].version != WEIR__TLS_1_3)
        return;
    for (uint8_t type = 20; type < 24; type++) {
        size_t sealed = seal_raw(pair, type, inner, sizeof(inner), record);
        assert_int_equal(open_alert(&pair->open, record, sealed),
                         type == 23 ? 0 : WEIR__TLS_UNEXPECTED_MESSAGE);
    }
    /* What a client in compatibility mode sends during the handshake, and never after it. */
    const uint8_t change_cipher_spec[] = {20, 3, 3, 0, 1, 1};
    assert_int_equal(open_alert(&pair->open, change_cipher_spec, sizeof(change_cipher_spec)),
                     WEIR__TLS_UNEXPECTED_MESSAGE);
}

static void test_outer_type(void **state)
{
    (void)state;
    each_mode(check_outer_type);
}

static void check_content_1_2(struct pair *pair, unsigned mode)
{
    static const struct {
        size_t length;
        uint8_t type;
        int alert;
    } cases[] = {
        {0, 23, 0},
        {16384, 23, 0},
        {16385, 23, WEIR__TLS_RECORD_OVERFLOW},
        {0, 21, WEIR__TLS_UNEXPECTED_MESSAGE},
        {0, 22, WEIR__TLS_UNEXPECTED_MESSAGE},
        {1, 20, WEIR__TLS_UNEXPECTED_MESSAGE},
        {1, 24, WEIR__TLS_UNEXPECTED_MESSAGE},
        {2, 21, 0},
        {4, 22, 0},
    };
    static uint8_t data[ROOM_BYTES], record[WEIR__TLS_RECORD_MAX];

    if (modes[mode].version != WEIR__TLS_1_2)
        return;
    pattern_fill(data, sizeof(data));
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t sequence = pair->open.keys.sequence;
        size_t sealed = seal_raw(pair, cases[i].type, data, cases[i].length, record);
        assert_int_equal(open_alert(&pair->open, record, sealed), cases[i].alert);
        assert_int_equal(pair->open.keys.sequence, sequence + (cases[i].alert == 0));
    }
}

static void test_content_of_1_2(void **state)
{
    (void)state;
    each_mode(check_content_1_2);
}

/* ---- a library that fails ---- */

static int aead_new_fails(struct weir__tls_aead **aead, enum weir__tls_cipher cipher,
                          const uint8_t *key, bool seal)
{
    (void)aead;
    (void)cipher;
    (void)key;
    (void)seal;
    return WEIR_ENOTSUP;
}

static int aead_seal_fails(struct weir__tls_aead *aead, const uint8_t *nonce,
                           const uint8_t *additional, size_t additional_length,
                           const struct iovec *parts, unsigned part_count, uint8_t *out)
{
    (void)aead;
    (void)nonce;
    (void)additional;
    (void)additional_length;
    (void)parts;
    (void)part_count;
    (void)out;
    return WEIR_EIO;
}

static int aead_seal_counts(struct weir__tls_aead *aead, const uint8_t *nonce,
                            const uint8_t *additional, size_t additional_length,
                            const struct iovec *parts, unsigned part_count, uint8_t *out)
{
    assert_int_equal(part_count, 2); /* content and type */
    for (unsigned i = 0; i < part_count; i++)
        assert_int_not_equal(parts[i].iov_len, 0);
    return weir__tls_toy.ciphers.aead_seal(aead, nonce, additional, additional_length, parts,
                                           part_count, out);
}

static void test_libraries_see_no_empty_parts(void **state)
{
    struct weir__tls_vendor vendor = weir__tls_toy;
    struct weir__tls_keys keys = keys_of(0);
    struct weir__tls_protector protector;
    const struct iovec parts[] = {{NULL, 0}, {keys.iv, 4}, {keys.iv, 0}};
    uint8_t record[64];

    (void)state;
    vendor.ciphers.aead_seal = aead_seal_counts;
    assert_int_equal(weir__tls_protector_init(&protector, &vendor.ciphers, &keys, true), 0);
    assert_int_equal(weir__tls_seal(&protector, WEIR__TLS_APPLICATION_DATA, parts, 3, record), 26);
    weir__tls_protector_dispose(&protector);
}

static unsigned parts_seen;

static int aead_seal_notes(struct weir__tls_aead *aead, const uint8_t *nonce,
                           const uint8_t *additional, size_t additional_length,
                           const struct iovec *parts, unsigned part_count, uint8_t *out)
{
    parts_seen = part_count;
    return weir__tls_toy.ciphers.aead_seal(aead, nonce, additional, additional_length, parts,
                                           part_count, out);
}

/* A record whose content was read to its place costs a library one call; a head before it, two. */
static void test_neighbours_are_one_part(void **state)
{
    struct weir__tls_ciphers ciphers = weir__tls_toy.ciphers;
    struct weir__tls_keys keys = keys_of(0);
    struct pair pair;
    uint8_t record[64], head[2] = {1, 2};
    struct iovec parts[] = {{record + 5, 3}, {record + 8, 4}};
    const struct iovec with_head[] = {{head, 2}, {record + 7, 5}};

    (void)state;
    ciphers.aead_seal = aead_seal_notes;
    assert_int_equal(weir__tls_protector_init(&pair.seal, &ciphers, &keys, true), 0);
    assert_int_equal(weir__tls_protector_init(&pair.open, &ciphers, &keys, false), 0);
    memcpy(record + 5, "abcdefg", 7);
    assert_int_equal(weir__tls_seal(&pair.seal, WEIR__TLS_APPLICATION_DATA, parts, 2, record), 29);
    assert_int_equal(parts_seen, 1);
    assert_opens(&pair.open, record, 29, WEIR__TLS_APPLICATION_DATA, (const uint8_t *)"abcdefg", 7);
    memcpy(record + 7, "cdefg", 5);
    assert_int_equal(weir__tls_seal(&pair.seal, WEIR__TLS_APPLICATION_DATA, with_head, 2, record),
                     29);
    assert_int_equal(parts_seen, 2);
    assert_opens(&pair.open, record, 29, WEIR__TLS_APPLICATION_DATA, (const uint8_t *)"\1\2cdefg",
                 7);
    pair_dispose(&pair);
}

static void test_a_library_that_fails(void **state)
{
    static const struct weir__tls_protector zeros;
    struct weir__tls_vendor vendor = weir__tls_toy;
    struct weir__tls_keys keys = keys_of(0);
    struct weir__tls_protector protector;
    struct iovec part = {keys.iv, 4};
    uint8_t record[64];

    (void)state;
    vendor.ciphers.aead_new = aead_new_fails;
    assert_int_equal(weir__tls_protector_init(&protector, &vendor.ciphers, &keys, true),
                     WEIR_ENOTSUP);
    assert_memory_equal(&protector, &zeros, sizeof(zeros));
    weir__tls_protector_dispose(&protector);
    vendor.ciphers.aead_new = weir__tls_toy.ciphers.aead_new;
    vendor.ciphers.aead_seal = aead_seal_fails;
    assert_int_equal(weir__tls_protector_init(&protector, &vendor.ciphers, &keys, true), 0);
    assert_int_equal(weir__tls_seal(&protector, WEIR__TLS_APPLICATION_DATA, &part, 1, record),
                     WEIR_EIO);
    weir__tls_protector_dispose(&protector);
    assert_memory_equal(&protector, &zeros, sizeof(zeros));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_records_of_rfc_8448),
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_part_in_place),
        cmocka_unit_test(test_explicit_nonce_is_the_sequence),
        cmocka_unit_test(test_sequence_never_wraps),
        cmocka_unit_test(test_tampering),
        cmocka_unit_test(test_other_lengths),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_other_keys),
        cmocka_unit_test(test_inner_plaintext),
        cmocka_unit_test(test_outer_type),
        cmocka_unit_test(test_content_of_1_2),
        cmocka_unit_test(test_libraries_see_no_empty_parts),
        cmocka_unit_test(test_neighbours_are_one_part),
        cmocka_unit_test(test_a_library_that_fails),
    };

    return cmocka_run_group_tests_name("tls_record", tests, NULL, NULL);
}
