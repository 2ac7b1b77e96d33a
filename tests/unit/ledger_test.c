/* SPDX-License-Identifier: Apache-2.0 */
#include "net/ledger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct weir__stamp stamp(enum weir__stamp_kind kind, uint64_t end, uint64_t at_ns)
{
    return (struct weir__stamp){.kind = kind, .key = (uint32_t)(end - 1), .at_ns = at_ns};
}

static void acked(struct weir__ledger *ledger, uint64_t end, uint64_t at_ns)
{
    struct weir__stamp ack = stamp(WEIR__STAMP_ACKED, end, at_ns);

    weir__ledger_stamp(ledger, &ack);
}

static void sent(struct weir__ledger *ledger, uint64_t end, uint64_t at_ns)
{
    struct weir__stamp snd = stamp(WEIR__STAMP_SENT, end, at_ns);

    weir__ledger_stamp(ledger, &snd);
}

static void add(struct weir__ledger *ledger, struct weir__ledger_entry *entry, uint64_t bytes)
{
    memset(entry, 0, sizeof(*entry));
    weir__ledger_accept(ledger, bytes);
    entry->end = ledger->accepted;
    weir__ledger_add(ledger, entry);
}

static void test_delivered_at_its_last_byte_and_not_before(void **state)
{
    struct weir__ledger ledger;
    struct weir__ledger_entry entry;

    (void)state;
    weir__ledger_init(&ledger);
    add(&ledger, &entry, 1000);
    acked(&ledger, 999, 50);
    assert_null(weir__ledger_take_delivered(&ledger));
    acked(&ledger, 1000, 60);
    assert_ptr_equal(weir__ledger_take_delivered(&ledger), &entry);
    assert_int_equal(entry.delivered_ns, 60);
    assert_int_equal(entry.delivered_by, WEIR_DELIVERY_TX_ACK);
    assert_null(weir__ledger_take_delivered(&ledger));
}

static void test_one_ack_covers_all_before_it(void **state)
{
    struct weir__ledger ledger;
    struct weir__ledger_entry entries[3];

    (void)state;
    weir__ledger_init(&ledger);
    for (unsigned i = 0; i < 3; i++)
        add(&ledger, &entries[i], 100);
    acked(&ledger, 250, 70);
    assert_ptr_equal(weir__ledger_take_delivered(&ledger), &entries[0]);
    assert_ptr_equal(weir__ledger_take_delivered(&ledger), &entries[1]);
    assert_null(weir__ledger_take_delivered(&ledger));
    assert_int_equal(entries[1].delivered_ns, 70);
    assert_ptr_equal(weir__ledger_take_any(&ledger), &entries[2]);
    assert_int_equal(entries[2].delivered_by, WEIR_DELIVERY_NONE);
    assert_null(ledger.first);
    assert_null(ledger.last);
}

static void test_first_knowledge_of_a_byte_is_kept(void **state)
{
    struct weir__ledger ledger;
    struct weir__ledger_entry entry;

    (void)state;
    weir__ledger_init(&ledger);
    add(&ledger, &entry, 100);
    sent(&ledger, 100, 10);
    sent(&ledger, 100, 90); /* sent again after a loss */
    acked(&ledger, 100, 95);
    weir__ledger_count(&ledger, 100, 0, 500);
    assert_ptr_equal(weir__ledger_take_sent(&ledger), &entry);
    assert_null(weir__ledger_take_sent(&ledger));
    assert_ptr_equal(weir__ledger_take_delivered(&ledger), &entry);
    assert_int_equal(entry.sent_ns, 10);
    assert_int_equal(entry.delivered_ns, 95);
    assert_int_equal(entry.delivered_by, WEIR_DELIVERY_TX_ACK);
}

static void test_a_stamp_behind_a_later_count_keeps_the_order(void **state)
{
    struct weir__ledger ledger;
    struct weir__ledger_entry first, second;

    (void)state;
    weir__ledger_init(&ledger);
    add(&ledger, &first, 100);
    add(&ledger, &second, 100);
    weir__ledger_count(&ledger, 100, 0, 500);
    acked(&ledger, 200, 300);
    assert_ptr_equal(weir__ledger_take_delivered(&ledger), &first);
    assert_int_equal(first.delivered_ns, 500);
    assert_ptr_equal(weir__ledger_take_delivered(&ledger), &second);
    assert_int_equal(second.delivered_ns, 500);
    assert_int_equal(second.delivered_by, WEIR_DELIVERY_TX_ACK);
}

static void test_late_stamp_changes_nothing(void **state)
{
    struct weir__ledger ledger;
    struct weir__ledger_entry first, second;

    (void)state;
    weir__ledger_init(&ledger);
    add(&ledger, &first, 100);
    add(&ledger, &second, 100);
    acked(&ledger, 150, 20);
    acked(&ledger, 100, 30);
    assert_int_equal(ledger.acked, 150);
    assert_int_equal(first.delivered_ns, 20);
    assert_int_equal(second.delivered_by, WEIR_DELIVERY_NONE);
}

static void test_stamp_may_overtake_the_completion(void **state)
{
    struct weir__ledger ledger;
    struct weir__ledger_entry entry;

    (void)state;
    weir__ledger_init(&ledger);
    sent(&ledger, 100, 5);
    acked(&ledger, 100, 6);
    add(&ledger, &entry, 100);
    assert_ptr_equal(weir__ledger_take_sent(&ledger), &entry);
    assert_ptr_equal(weir__ledger_take_delivered(&ledger), &entry);
    assert_int_equal(entry.sent_ns, 5);
    assert_int_equal(entry.delivered_ns, 6);
}

static void test_count_makes_good_a_lost_stamp(void **state)
{
    struct weir__ledger ledger;
    struct weir__ledger_entry entry;

    (void)state;
    weir__ledger_init(&ledger);
    add(&ledger, &entry, 1000);
    weir__ledger_count(&ledger, 400, 600, 10);
    assert_null(weir__ledger_take_sent(&ledger));
    weir__ledger_count(&ledger, 999, 0, 20);
    assert_ptr_equal(weir__ledger_take_sent(&ledger), &entry);
    assert_int_equal(entry.sent_by, WEIR_DELIVERY_TCP_INFO);
    assert_null(weir__ledger_take_delivered(&ledger));
    weir__ledger_count(&ledger, 1000, 0, 30);
    assert_ptr_equal(weir__ledger_take_delivered(&ledger), &entry);
    assert_int_equal(entry.delivered_ns, 30);
    assert_int_equal(entry.delivered_by, WEIR_DELIVERY_TCP_INFO);
}

static void test_count_with_the_fin_is_not_believed_past_the_data(void **state)
{
    struct weir__ledger ledger;

    (void)state;
    weir__ledger_init(&ledger);
    weir__ledger_accept(&ledger, 10);
    weir__ledger_count(&ledger, 11, 0, 1);
    assert_int_equal(ledger.acked, 10);
}

static void test_keys_wrap_at_4_gib(void **state)
{
    struct weir__ledger ledger;
    struct weir__ledger_entry entry;
    const uint64_t step = 1u << 30;

    (void)state;
    weir__ledger_init(&ledger);
    for (uint64_t i = 1; i <= 20; i++) {
        add(&ledger, &entry, step);
        acked(&ledger, i * step - 1, i);
        assert_null(weir__ledger_take_delivered(&ledger));
        acked(&ledger, i * step, 100 + i);
        assert_ptr_equal(weir__ledger_take_delivered(&ledger), &entry);
        assert_int_equal(entry.delivered_ns, 100 + i);
        assert_int_equal(ledger.acked, i * step);
    }
}

/* Nobody looked at acknowledgements while no write waited for its delivery. */
static void test_first_stamp_after_3_gib(void **state)
{
    struct weir__ledger ledger;
    struct weir__ledger_entry entry;
    const uint64_t unwatched = UINT64_C(3) << 30;

    (void)state;
    weir__ledger_init(&ledger);
    weir__ledger_accept(&ledger, unwatched);
    add(&ledger, &entry, 10);
    acked(&ledger, unwatched + 9, 1);
    assert_null(weir__ledger_take_delivered(&ledger));
    acked(&ledger, unwatched + 10, 2);
    assert_ptr_equal(weir__ledger_take_delivered(&ledger), &entry);
    assert_int_equal(ledger.acked, unwatched + 10);
}

static void test_old_stamp_near_the_start_is_not_taken_for_a_wrap(void **state)
{
    struct weir__ledger ledger;

    (void)state;
    weir__ledger_init(&ledger);
    weir__ledger_accept(&ledger, 100);
    acked(&ledger, 50, 1);
    weir__ledger_stamp(&ledger, &(struct weir__stamp){WEIR__STAMP_ACKED, 0xfffffff0u, 2});
    assert_int_equal(ledger.acked, 50);
}

static void test_base_shifts_stamps_and_counts(void **state)
{
    struct weir__ledger ledger;
    struct weir__ledger_entry entry;

    (void)state;
    weir__ledger_init(&ledger);
    ledger.base = ledger.accepted = ledger.acked = ledger.sent = 5000;
    add(&ledger, &entry, 100);
    acked(&ledger, 99, 1);
    assert_int_equal(ledger.acked, 5099);
    weir__ledger_count(&ledger, 100, 0, 2);
    assert_ptr_equal(weir__ledger_take_delivered(&ledger), &entry);
}

static void test_check_delays(void **state)
{
    (void)state;
    assert_int_equal(weir__ledger_check_delay_ms(true, 0, 0), 250);
    assert_int_equal(weir__ledger_check_delay_ms(true, 320000, 0), 640);
    assert_int_equal(weir__ledger_check_delay_ms(true, 320000, 1), 1280);
    assert_int_equal(weir__ledger_check_delay_ms(true, 0, 1000), 2000);
    assert_int_equal(weir__ledger_check_delay_ms(false, 0, 3), 2);
    assert_int_equal(weir__ledger_check_delay_ms(false, 320000, 3), 10);
    assert_int_equal(weir__ledger_check_delay_ms(false, 5000000, 0), 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_delivered_at_its_last_byte_and_not_before),
        cmocka_unit_test(test_one_ack_covers_all_before_it),
        cmocka_unit_test(test_first_knowledge_of_a_byte_is_kept),
        cmocka_unit_test(test_a_stamp_behind_a_later_count_keeps_the_order),
        cmocka_unit_test(test_late_stamp_changes_nothing),
        cmocka_unit_test(test_stamp_may_overtake_the_completion),
        cmocka_unit_test(test_count_makes_good_a_lost_stamp),
        cmocka_unit_test(test_count_with_the_fin_is_not_believed_past_the_data),
        cmocka_unit_test(test_keys_wrap_at_4_gib),
        cmocka_unit_test(test_first_stamp_after_3_gib),
        cmocka_unit_test(test_old_stamp_near_the_start_is_not_taken_for_a_wrap),
        cmocka_unit_test(test_base_shifts_stamps_and_counts),
        cmocka_unit_test(test_check_delays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
