/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/output.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include <weir/error.h>

#include "core/memory.h"
#include "support/memory_fail.h"

#define BIG (3 * WEIR__TLS_BUFFER_BYTES + 100)

static struct weir__tls_buffers buffers;
static struct weir__tls_output output;
static uint8_t bytes[BIG];

static int begin(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    memset(&buffers, 0, sizeof(buffers));
    memset(&output, 0, sizeof(output));
    return 0;
}

/* What would be done in the end. */
static int end(void **state)
{
    (void)state;
    weir__tls_output_taken(&output, &buffers, output.bytes);
    weir__tls_buffers_dispose(&buffers);
    return memory_fail_live() == 0 ? 0 : -1;
}

/* The front, in one piece, is `length` bytes from `at` of `bytes`. */
static void assert_front(size_t at, size_t length)
{
    struct iovec parts[8];
    void *held[8];
    uint64_t listed;
    unsigned count = weir__tls_output_parts(&output, parts, held, 8, &listed);
    size_t seen = 0;

    for (unsigned i = 0; i < count; i++) {
        assert_true(parts[i].iov_len > 0);
        assert_memory_equal(parts[i].iov_base, bytes + at + seen, parts[i].iov_len);
        seen += parts[i].iov_len;
    }
    assert_int_equal(listed, length);
    assert_int_equal(seen, length);
}

static void nothing_is_listed_where_nothing_is(void **state)
{
    (void)state;
    assert_front(0, 0);
    weir__tls_output_taken(&output, &buffers, 0);
    assert_null(output.first);
}

static void bytes_come_out_as_they_went_in(void **state)
{
    (void)state;
    assert_int_equal(weir__tls_output_append(&output, &buffers, bytes, BIG), 0);
    assert_int_equal(output.bytes, BIG);
    assert_front(0, BIG);
    for (size_t at = 0; at < BIG; at += 1000) {
        size_t step = BIG - at < 1000 ? BIG - at : 1000;
        assert_front(at, BIG - at);
        weir__tls_output_taken(&output, &buffers, step);
    }
    assert_int_equal(output.bytes, 0);
    assert_null(output.first);
    assert_null(output.last);
}

static void few_parts_list_the_front_alone(void **state)
{
    struct iovec parts[2];
    void *held[2];
    uint64_t length;

    (void)state;
    assert_int_equal(weir__tls_output_append(&output, &buffers, bytes, BIG), 0);
    assert_int_equal(weir__tls_output_parts(&output, parts, held, 2, &length), 2);
    assert_int_equal(length, 2 * WEIR__TLS_BUFFER_BYTES);
}

static void what_is_reserved_is_in_one_piece(void **state)
{
    uint8_t *room;

    (void)state;
    room = weir__tls_output_reserve(&output, &buffers, 100);
    memcpy(room, bytes, 60);
    weir__tls_output_commit(&output, 60);
    assert_ptr_equal(weir__tls_output_reserve(&output, &buffers, 100), room + 60);
    room = weir__tls_output_reserve(&output, &buffers, WEIR__TLS_BUFFER_BYTES);
    assert_non_null(room);
    assert_ptr_equal(room, output.last->data);
    assert_ptr_not_equal(output.first, output.last);
    memcpy(room, bytes + 60, 40);
    weir__tls_output_commit(&output, 40);
    assert_front(0, 100);
}

static void a_reservation_that_is_not_used_is_passed_over(void **state)
{
    (void)state;
    assert_non_null(weir__tls_output_reserve(&output, &buffers, WEIR__TLS_BUFFER_BYTES));
    assert_front(0, 0);
    assert_int_equal(weir__tls_output_append(&output, &buffers, bytes, 10), 0);
    assert_front(0, 10);
}

static void buffers_are_used_again(void **state)
{
    (void)state;
    assert_int_equal(weir__tls_output_append(&output, &buffers, bytes, BIG), 0);
    weir__tls_output_taken(&output, &buffers, BIG);
    size_t live = memory_fail_live();
    assert_int_equal(buffers.free_count, 4);
    assert_int_equal(weir__tls_output_append(&output, &buffers, bytes, BIG), 0);
    assert_int_equal(memory_fail_live(), live);
    assert_int_equal(buffers.free_count, 0);
}

static void what_is_held_goes_back_when_the_last_send_lets_go(void **state)
{
    struct iovec parts[3];
    void *held[3];
    uint64_t length;

    (void)state;
    assert_int_equal(weir__tls_output_append(&output, &buffers, bytes, BIG), 0);
    assert_int_equal(weir__tls_output_parts(&output, parts, held, 3, &length), 3);
    weir__tls_output_hold(held, 3);
    /* A send that took all of one and half of the next; then another with that next one. */
    weir__tls_output_taken(&output, &buffers, WEIR__TLS_BUFFER_BYTES + 100);
    assert_int_equal(buffers.free_count, 0);
    weir__tls_output_hold(held + 1, 1);
    weir__tls_output_taken(&output, &buffers, WEIR__TLS_BUFFER_BYTES - 100);
    assert_int_equal(buffers.free_count, 0);
    weir__tls_output_release(&buffers, held, 3);
    assert_int_equal(buffers.free_count, 1);
    weir__tls_output_release(&buffers, held + 1, 1);
    assert_int_equal(buffers.free_count, 2);
    /* The third is the output's still. */
    assert_front(2 * WEIR__TLS_BUFFER_BYTES, BIG - 2 * WEIR__TLS_BUFFER_BYTES);
}

static void memory_that_is_out_is_said(void **state)
{
    (void)state;
    memory_fail_at(1);
    assert_null(weir__tls_output_reserve(&output, &buffers, 10));
    assert_int_equal(weir__tls_output_append(&output, &buffers, bytes, 10), 0);
    memory_fail_at(1);
    assert_int_equal(weir__tls_output_append(&output, &buffers, bytes, WEIR__TLS_BUFFER_BYTES),
                     WEIR_ENOMEM);
    memory_fail_at(0);
    assert_front(0, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_listed_where_nothing_is, begin, end),
        cmocka_unit_test_setup_teardown(bytes_come_out_as_they_went_in, begin, end),
        cmocka_unit_test_setup_teardown(few_parts_list_the_front_alone, begin, end),
        cmocka_unit_test_setup_teardown(what_is_reserved_is_in_one_piece, begin, end),
        cmocka_unit_test_setup_teardown(a_reservation_that_is_not_used_is_passed_over, begin, end),
        cmocka_unit_test_setup_teardown(what_is_held_goes_back_when_the_last_send_lets_go, begin,
                                        end),
        cmocka_unit_test_setup_teardown(buffers_are_used_again, begin, end),
        cmocka_unit_test_setup_teardown(memory_that_is_out_is_said, begin, end),
    };

    memory_fail_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
