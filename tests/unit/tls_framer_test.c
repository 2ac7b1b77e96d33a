/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <weir/error.h>

#include "support/memory_fail.h"

#define STREAM_MAX  40000
#define RECORDS_MAX 16

/* What came out of a stream. */
struct seen {
    uint8_t bytes[STREAM_MAX];
    size_t length;
    size_t record_lengths[RECORDS_MAX];
    unsigned count;
    int end; /* 0, or what the framer returned at last */
};

static uint8_t stream[STREAM_MAX];
static size_t stream_length;

static void stream_add(uint8_t type, uint8_t major, size_t length)
{
    uint8_t *record = stream + stream_length;

    assert_true(stream_length + WEIR__TLS_HEADER + length <= STREAM_MAX);
    record[0] = type;
    record[1] = major;
    record[2] = 3;
    record[3] = (uint8_t)(length >> 8);
    record[4] = (uint8_t)length;
    for (size_t i = 0; i < length; i++)
        record[5 + i] = (uint8_t)(i * 7 + length);
    stream_length += WEIR__TLS_HEADER + length;
}

/* Of all sizes: nothing in it, less than a header, more than what is first kept, the longest. */
static void stream_make(void)
{
    static const size_t lengths[] = {1, 0, 700, 2, 16640, 30};

    stream_length = 0;
    for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
        stream_add(WEIR__TLS_APPLICATION_DATA, 3, lengths[i]);
}

/* Returns false at the end. */
static bool feed(struct weir__tls_framer *framer, const uint8_t *bytes, size_t length,
                 struct seen *seen)
{
    const uint8_t *record;
    size_t record_length;

    for (;;) {
        const uint8_t *before = bytes;
        size_t length_before = length;
        int result =
            weir__tls_framer_next(framer, WEIR__TLS_1_3, &bytes, &length, &record, &record_length);
        assert_int_equal(bytes - before, length_before - length);
        assert_true(framer->kept_size <= WEIR__TLS_RECORD_MAX);
        assert_true(framer->kept_size <= 512 || framer->kept_size <= 2 * framer->kept_length ||
                    result == 1);
        if (result == 0) {
            assert_int_equal(length, 0);
            return true;
        }
        if (result < 0) {
            seen->end = result;
            return false;
        }
        assert_true(weir__tls_framer_is_empty(framer));
        assert_true(seen->count < RECORDS_MAX);
        seen->record_lengths[seen->count++] = record_length;
        memcpy(seen->bytes + seen->length, record, record_length);
        seen->length += record_length;
    }
}

/* A piece of its own, for the sanitizers to see what is read beyond it. */
static bool feed_piece(struct weir__tls_framer *framer, size_t from, size_t to, struct seen *seen)
{
    uint8_t *piece = malloc(to - from + 1);

    assert_non_null(piece);
    memcpy(piece + 1, stream + from, to - from);
    bool go_on = feed(framer, piece + 1, to - from, seen);
    free(piece);
    return go_on;
}

static void feed_in_steps(size_t step, struct seen *seen)
{
    struct weir__tls_framer framer;
    size_t live = memory_fail_live();

    *seen = (struct seen){.end = 0};
    weir__tls_framer_init(&framer);
    for (size_t from = 0; from < stream_length; from += step) {
        size_t to = stream_length - from < step ? stream_length : from + step;
        if (!feed_piece(&framer, from, to, seen))
            break;
    }
    if (seen->end == 0 && seen->length == stream_length) {
        assert_true(weir__tls_framer_is_empty(&framer));
        assert_true(feed_piece(&framer, 0, 0, seen));
        assert_int_equal(memory_fail_live(), live);
    }
    weir__tls_framer_dispose(&framer);
    assert_int_equal(memory_fail_live(), live);
}

static void assert_same(const struct seen *seen, const struct seen *whole)
{
    assert_int_equal(seen->end, whole->end);
    assert_int_equal(seen->count, whole->count);
    assert_memory_equal(seen->record_lengths, whole->record_lengths, sizeof(seen->record_lengths));
    assert_int_equal(seen->length, whole->length);
    assert_memory_equal(seen->bytes, whole->bytes, whole->length);
}

static void test_frames(void **state)
{
    static const struct {
        uint8_t header[5];
        uint16_t version;
        int64_t expected;
    } cases[] = {
        {{23, 3, 3, 0, 0}, 0, 5},
        {{22, 3, 1, 2, 0}, 0, 517},
        {{22, 3, 4, 0, 1}, 0, 6},
        {{20, 3, 3, 0, 1}, 0, 6},
        {{21, 3, 3, 0, 2}, 0, 7},
        {{19, 3, 3, 0, 2}, 0, -WEIR__TLS_UNEXPECTED_MESSAGE},
        {{24, 3, 3, 0, 2}, 0, -WEIR__TLS_UNEXPECTED_MESSAGE},
        {{'G', 'E', 'T', ' ', '/'}, 0, -WEIR__TLS_UNEXPECTED_MESSAGE},
        {{22, 2, 0, 0, 2}, 0, -WEIR__TLS_PROTOCOL_VERSION},
        {{22, 4, 3, 0, 2}, 0, -WEIR__TLS_PROTOCOL_VERSION},
        {{22, 3, 3, 0, 0}, 0, -WEIR__TLS_UNEXPECTED_MESSAGE},
        {{21, 3, 3, 0, 0}, WEIR__TLS_1_3, -WEIR__TLS_UNEXPECTED_MESSAGE},
        {{20, 3, 3, 0, 0}, WEIR__TLS_1_2, -WEIR__TLS_UNEXPECTED_MESSAGE},
        /* 16,640 and one more; 16,408 and one more */
        {{23, 3, 3, 0x41, 0x00}, 0, 16645},
        {{23, 3, 3, 0x41, 0x01}, 0, -WEIR__TLS_RECORD_OVERFLOW},
        {{23, 3, 3, 0x41, 0x00}, WEIR__TLS_1_3, 16645},
        {{23, 3, 3, 0x41, 0x01}, WEIR__TLS_1_3, -WEIR__TLS_RECORD_OVERFLOW},
        {{23, 3, 3, 0x40, 0x18}, WEIR__TLS_1_2, 16413},
        {{23, 3, 3, 0x40, 0x19}, WEIR__TLS_1_2, -WEIR__TLS_RECORD_OVERFLOW},
        {{23, 3, 3, 0xff, 0xff}, 0, -WEIR__TLS_RECORD_OVERFLOW},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(weir__tls_frame(cases[i].header, 5, cases[i].version), cases[i].expected);
        assert_int_equal(weir__tls_frame(cases[i].header, 4, cases[i].version), 0);
    }
}

static void test_whole_records_are_not_copied(void **state)
{
    struct weir__tls_framer framer;
    const uint8_t *bytes = stream;
    const uint8_t *record;
    size_t record_length;
    size_t done = 0;
    size_t live = memory_fail_live();

    (void)state;
    stream_make();
    size_t length = stream_length;
    weir__tls_framer_init(&framer);
    while (weir__tls_framer_next(&framer, 0, &bytes, &length, &record, &record_length) == 1) {
        assert_ptr_equal(record, stream + done);
        assert_int_equal(memory_fail_live(), live);
        done += record_length;
    }
    assert_int_equal(done, stream_length);
    assert_int_equal(memory_fail_live(), live);
    assert_null(framer.kept);
}

static void test_one_cut_anywhere(void **state)
{
    static struct seen whole, seen;

    (void)state;
    stream_make();
    feed_in_steps(stream_length, &whole);
    assert_int_equal(whole.count, 6);
    assert_int_equal(whole.length, stream_length);
    for (size_t cut = 0; cut <= stream_length; cut++) {
        struct weir__tls_framer framer;
        seen = (struct seen){.end = 0};
        weir__tls_framer_init(&framer);
        assert_true(feed_piece(&framer, 0, cut, &seen));
        assert_true(feed_piece(&framer, cut, stream_length, &seen));
        assert_true(weir__tls_framer_is_empty(&framer));
        weir__tls_framer_dispose(&framer);
        assert_same(&seen, &whole);
    }
}

static void test_steps_of_all_sizes(void **state)
{
    static struct seen whole, seen;

    (void)state;
    stream_make();
    feed_in_steps(stream_length, &whole);
    for (size_t step = 1; step < 40; step++) {
        feed_in_steps(step, &seen);
        assert_same(&seen, &whole);
    }
}

/* The records before it come out, and then the same alert, wherever the cuts are. */
static void test_what_is_no_record(void **state)
{
    static const struct {
        uint8_t type, major;
        size_t length;
        int end;
    } cases[] = {
        {99, 3, 1, -WEIR__TLS_UNEXPECTED_MESSAGE},
        {23, 2, 1, -WEIR__TLS_PROTOCOL_VERSION},
        {23, 3, 16641, -WEIR__TLS_RECORD_OVERFLOW},
        {22, 3, 0, -WEIR__TLS_UNEXPECTED_MESSAGE},
    };
    static struct seen seen;

    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        stream_length = 0;
        stream_add(22, 3, 40);
        stream_add(cases[i].type, cases[i].major, cases[i].length);
        for (size_t step = 1; step < 60; step++) {
            feed_in_steps(step, &seen);
            assert_int_equal(seen.count, 1);
            assert_int_equal(seen.length, 45);
            assert_int_equal(seen.end, cases[i].end);
        }
    }
}

static void test_an_error_stays(void **state)
{
    const uint8_t bad[] = {23, 3, 3, 0xff, 0xff, 1, 2, 3};
    struct weir__tls_framer framer;
    const uint8_t *bytes = bad;
    size_t length = 3;
    const uint8_t *record;
    size_t record_length;

    (void)state;
    weir__tls_framer_init(&framer);
    assert_int_equal(weir__tls_framer_next(&framer, 0, &bytes, &length, &record, &record_length),
                     0);
    assert_false(weir__tls_framer_is_empty(&framer));
    length = sizeof(bad) - 3;
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(
            weir__tls_framer_next(&framer, 0, &bytes, &length, &record, &record_length),
            -WEIR__TLS_RECORD_OVERFLOW);
    weir__tls_framer_dispose(&framer);
}

/* What was kept under one version's limit is judged by the one that is known when it is whole. */
static void test_version_becomes_known(void **state)
{
    struct weir__tls_framer framer;
    const uint8_t *bytes = stream;
    size_t length = 16000;
    const uint8_t *record;
    size_t record_length;

    (void)state;
    stream_length = 0;
    stream_add(WEIR__TLS_APPLICATION_DATA, 3, 16500);
    weir__tls_framer_init(&framer);
    assert_int_equal(weir__tls_framer_next(&framer, 0, &bytes, &length, &record, &record_length),
                     0);
    length = stream_length - 16000;
    assert_int_equal(
        weir__tls_framer_next(&framer, WEIR__TLS_1_2, &bytes, &length, &record, &record_length),
        -WEIR__TLS_RECORD_OVERFLOW);
    assert_int_equal(
        weir__tls_framer_next(&framer, WEIR__TLS_1_3, &bytes, &length, &record, &record_length), 1);
    assert_int_equal(record_length, 16505);
    weir__tls_framer_dispose(&framer);
}

/* Each allocation fails once; nothing is lost, and the call can be made again. */
static void test_out_of_memory(void **state)
{
    size_t live = memory_fail_live();

    (void)state;
    stream_length = 0;
    stream_add(WEIR__TLS_APPLICATION_DATA, 3, 3000);
    for (unsigned nth = 1; nth <= 4; nth++) {
        struct weir__tls_framer framer;
        const uint8_t *record;
        size_t record_length;
        unsigned failures = 0, records = 0;

        weir__tls_framer_init(&framer);
        memory_fail_at(nth);
        for (size_t i = 0; i < stream_length; i++) {
            const uint8_t *bytes = stream + i;
            size_t length = 1;
            int result =
                weir__tls_framer_next(&framer, 0, &bytes, &length, &record, &record_length);
            if (result == WEIR__TLS_FRAMER_ENOMEM) {
                failures++;
                assert_int_equal(length, 1);
                assert_int_equal(framer.kept_length, i);
                result =
                    weir__tls_framer_next(&framer, 0, &bytes, &length, &record, &record_length);
            }
            assert_int_equal(length, 0);
            records += result == 1;
        }
        assert_int_equal(failures, 1);
        assert_int_equal(records, 1);
        assert_int_equal(record_length, stream_length);
        assert_memory_equal(record, stream, stream_length);
        memory_fail_at(0);
        weir__tls_framer_dispose(&framer);
        assert_int_equal(memory_fail_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_whole_records_are_not_copied),
        cmocka_unit_test(test_one_cut_anywhere),
        cmocka_unit_test(test_steps_of_all_sizes),
        cmocka_unit_test(test_what_is_no_record),
        cmocka_unit_test(test_an_error_stays),
        cmocka_unit_test(test_version_becomes_known),
        cmocka_unit_test(test_out_of_memory),
    };

    memory_fail_install();
    return cmocka_run_group_tests_name("tls_framer", tests, NULL, NULL);
}
