/* SPDX-License-Identifier: Apache-2.0 */
#include "net/send_queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define STAMPED WEIR_STAGE_DELIVERED

static struct weir__write *advance(struct weir__send_queue *queue, uint64_t *taken, uint64_t offset,
                                   uint64_t now_ns)
{
    struct weir__send_position at = {.plain = offset, .wire = offset + 1000, .now_ns = now_ns};

    return weir__send_queue_advance(queue, taken, &at);
}

static char bytes[65536];

static struct weir__write memory_write(unsigned part_count, size_t part_bytes, uint8_t stages)
{
    struct weir__write write = {.part_count = part_count, .file = -1, .stages = stages};

    for (unsigned i = 0; i < part_count; i++)
        write.parts[i] = (struct iovec){bytes + i * part_bytes, part_bytes};
    write.memory_length = write.length = part_count * part_bytes;
    return write;
}

static void test_empty_queue_plans_nothing(void **state)
{
    struct weir__send_queue queue = {0};
    struct weir__send_plan plan;
    struct iovec parts[4];

    (void)state;
    weir__send_queue_plan(&queue, &plan, parts, 4);
    assert_int_equal(plan.length, 0);
    assert_null(weir__send_queue_take(&queue));
}

static void test_small_stamped_writes_leave_together(void **state)
{
    struct weir__send_queue queue = {0};
    struct weir__write writes[3];
    struct weir__send_plan plan;
    struct iovec parts[8];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        writes[i] = memory_write(1, 1000, STAMPED);
        weir__send_queue_append(&queue, &writes[i]);
    }
    weir__send_queue_plan(&queue, &plan, parts, 8);
    assert_int_equal(plan.part_count, 3);
    assert_int_equal(plan.length, 3000);
    assert_true(plan.stamp);
    assert_false(plan.more);
}

static void test_a_large_write_does_not_join_a_stamped_one(void **state)
{
    struct weir__send_queue queue = {0};
    struct weir__write small = memory_write(1, 100, STAMPED);
    struct weir__write large = memory_write(1, WEIR__COALESCE_BYTES_MAX + 1, STAMPED);
    struct weir__send_plan plan;
    struct iovec parts[8];

    (void)state;
    weir__send_queue_append(&queue, &small);
    weir__send_queue_append(&queue, &large);
    weir__send_queue_plan(&queue, &plan, parts, 8);
    assert_int_equal(plan.length, 100);
    assert_true(plan.stamp);
    assert_true(plan.more);
}

static void test_writes_without_stamps_join_without_bound(void **state)
{
    struct weir__send_queue queue = {0};
    struct weir__write first = memory_write(1, 60000, 0), second = memory_write(1, 60000, 0);
    struct weir__send_plan plan;
    struct iovec parts[8];

    (void)state;
    weir__send_queue_append(&queue, &first);
    weir__send_queue_append(&queue, &second);
    weir__send_queue_plan(&queue, &plan, parts, 8);
    assert_int_equal(plan.length, 120000);
    assert_false(plan.stamp);
}

static void test_file_follows_its_memory(void **state)
{
    struct weir__send_queue queue = {0};
    struct weir__write write = memory_write(1, 100, STAMPED);
    struct weir__send_plan plan;
    struct iovec parts[8];
    uint64_t taken = 100;

    (void)state;
    write.file = 7;
    write.file_offset = 5000;
    write.length += 900;
    weir__send_queue_append(&queue, &write);
    assert_int_equal(queue.bytes, 1000);

    weir__send_queue_plan(&queue, &plan, parts, 8);
    assert_int_equal(plan.part_count, 1);
    assert_int_equal(plan.length, 100);
    assert_false(plan.stamp);
    assert_true(plan.more);

    assert_null(advance(&queue, &taken, 0, 1));
    taken = 50;
    assert_null(advance(&queue, &taken, 100, 2));
    weir__send_queue_plan(&queue, &plan, parts, 8);
    assert_int_equal(plan.part_count, 0);
    assert_int_equal(plan.file, 7);
    assert_int_equal(plan.file_offset, 5050);
    assert_int_equal(plan.length, 850);
    assert_true(plan.stamp);
    assert_false(plan.more);

    taken = 850;
    assert_ptr_equal(advance(&queue, &taken, 150, 3), &write);
    assert_int_equal(taken, 0);
    assert_int_equal(write.start, 0);
    assert_int_equal(write.first_byte_ns, 1);
    assert_int_equal(queue.bytes, 0);
    assert_null(queue.last);
}

static void test_a_stamp_is_asked_though_the_send_ends_later(void **state)
{
    struct weir__send_queue queue = {0};
    struct weir__write first = memory_write(1, 100, STAMPED), second = memory_write(1, 100, 0);
    struct weir__send_plan plan;
    struct iovec parts[8];

    (void)state;
    second.file = 3;
    second.length += 100000;
    weir__send_queue_append(&queue, &first);
    weir__send_queue_append(&queue, &second);
    weir__send_queue_plan(&queue, &plan, parts, 8);
    assert_int_equal(plan.length, 200);
    assert_true(plan.stamp);
    assert_true(plan.more);
}

static void test_short_take_goes_on_inside_a_part(void **state)
{
    struct weir__send_queue queue = {0};
    struct weir__write write = memory_write(3, 10, STAMPED);
    struct weir__send_plan plan;
    struct iovec parts[8];
    uint64_t taken = 15;

    (void)state;
    weir__send_queue_append(&queue, &write);
    assert_null(advance(&queue, &taken, 0, 1));
    weir__send_queue_plan(&queue, &plan, parts, 8);
    assert_int_equal(plan.part_count, 2);
    assert_int_equal(plan.length, 15);
    assert_ptr_equal(parts[0].iov_base, bytes + 15);
    assert_int_equal(parts[0].iov_len, 5);
    assert_ptr_equal(parts[1].iov_base, bytes + 20);
}

static void test_parts_are_bounded(void **state)
{
    struct weir__send_queue queue = {0};
    struct weir__write writes[3];
    struct weir__send_plan plan;
    struct iovec parts[4];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        writes[i] = memory_write(2, 10, 0);
        weir__send_queue_append(&queue, &writes[i]);
    }
    weir__send_queue_plan(&queue, &plan, parts, 4);
    assert_int_equal(plan.part_count, 4);
    assert_int_equal(plan.length, 40);
    assert_true(plan.more);
}

static void test_one_take_ends_several_writes(void **state)
{
    struct weir__send_queue queue = {0};
    struct weir__write first = memory_write(1, 10, 0), second = memory_write(1, 10, 0);
    struct weir__write third = memory_write(1, 10, 0);
    uint64_t taken = 25;

    (void)state;
    weir__send_queue_append(&queue, &first);
    weir__send_queue_append(&queue, &second);
    weir__send_queue_append(&queue, &third);
    assert_ptr_equal(advance(&queue, &taken, 100, 9), &first);
    assert_int_equal(taken, 15);
    assert_ptr_equal(advance(&queue, &taken, 110, 9), &second);
    assert_null(advance(&queue, &taken, 120, 9));
    assert_int_equal(taken, 0);
    assert_int_equal(third.taken, 5);
    assert_int_equal(third.start, 120);
    assert_int_equal(queue.bytes, 5);
    assert_ptr_equal(weir__send_queue_take(&queue), &third);
    assert_int_equal(queue.bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_queue_plans_nothing),
        cmocka_unit_test(test_small_stamped_writes_leave_together),
        cmocka_unit_test(test_a_large_write_does_not_join_a_stamped_one),
        cmocka_unit_test(test_writes_without_stamps_join_without_bound),
        cmocka_unit_test(test_file_follows_its_memory),
        cmocka_unit_test(test_a_stamp_is_asked_though_the_send_ends_later),
        cmocka_unit_test(test_short_take_goes_on_inside_a_part),
        cmocka_unit_test(test_parts_are_bounded),
        cmocka_unit_test(test_one_take_ends_several_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
