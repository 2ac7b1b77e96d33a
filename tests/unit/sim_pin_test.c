/* SPDX-License-Identifier: Apache-2.0 */
/* What the sim engine does to users of zero copy that the kernel seldom does: else it would prove little. */
#include "engine/sim.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/engine_fixture.h"

#define MS         UINT64_C(1000000)
#define SEND_BYTES 16384u
#define SENDS      8

/* A connection whose client sends with pins, the same bytes each time. */
struct sender {
    struct engine_fixture f;
    struct pair pair;
    struct record send, receive;
    struct pin pins[SENDS];
    unsigned count, released;
    uint8_t bytes[SEND_BYTES], received[SENDS * SEND_BYTES];
};

static const struct engine_entry entry = {.name = "sim", .ops = &weir__sim_engine};

static struct sender *sender_open(const struct weir__sim_options *options)
{
    struct sender *sender = calloc(1, sizeof(*sender));

    assert_non_null(sender);
    sender->f.entry = &entry;
    sender->f.ops = &weir__sim_engine;
    assert_int_equal(weir__sim_new(options, &sender->f.engine), 0);
    pair_open(&sender->pair, &sender->f, false);
    record_init(&sender->send, &sender->f, WEIR__OP_SEND, &sender->pair.client);
    record_init(&sender->receive, &sender->f, WEIR__OP_RECEIVE, &sender->pair.server);
    sender->receive.bytes = sender->received;
    sender->receive.room = sizeof(sender->received);
    pattern_fill(sender->bytes, SEND_BYTES, 0);
    return sender;
}

static void sender_close(struct sender *sender)
{
    if (sender->receive.op.in_flight)
        record_cancel_and_finish(&sender->receive);
    wait_until(&sender->f, &sender->released, sender->count);
    pair_close(&sender->pair);
    sender->f.ops->close(sender->f.engine);
    free(sender);
}

/* Nothing has left when it returns: that is for the next wait. */
static const struct pin *send_one(struct sender *sender)
{
    struct pin *pin = &sender->pins[sender->count++];

    pin_init(pin);
    pin->released_count = &sender->released;
    record_send_pinned(&sender->send, sender->bytes, SEND_BYTES, 0, pin);
    assert_int_equal(record_finish(&sender->send), SEND_BYTES);
    return pin;
}

static struct weir__sim_options options_of(void)
{
    struct weir__sim_options options;

    weir__sim_options_init(&options, 1);
    options.receive_bytes = 4096;
    options.delay_ns_min = options.delay_ns_max = 5 * MS;
    return options;
}

static void changed_memory_is_what_the_peer_gets(struct sender *sender)
{
    record_submit(&sender->receive);
    send_one(sender);
    sender->bytes[100] ^= 0xff;
    wait_until_length(&sender->f, &sender->receive.length, SEND_BYTES);
    assert_memory_equal(sender->received, sender->bytes, SEND_BYTES);
    _exit(0);
}

static void memory_is_read_again_when_sent_again(struct sender *sender)
{
    record_submit(&sender->receive);
    send_one(sender);
    wait_for(&sender->f, MS);
    sender->bytes[100] ^= 0xff;
    wait_until_length(&sender->f, &sender->receive.length, SEND_BYTES);
    assert_memory_equal(sender->received, sender->bytes, SEND_BYTES);
    _exit(0);
}

static void what_was_copied_is_not_read_again(struct sender *sender)
{
    uint8_t before[SEND_BYTES];

    record_submit(&sender->receive);
    memcpy(before, sender->bytes, SEND_BYTES);
    send_one(sender);
    wait_for(&sender->f, 20 * MS);
    sender->bytes[100] ^= 0xff;
    wait_until_length(&sender->f, &sender->receive.length, SEND_BYTES);
    assert_memory_equal(sender->received, before, SEND_BYTES);
    _exit(0);
}

static void early_change_is_loud(struct sender *sender)
{
    send_one(sender);
    wait_for(&sender->f, MS);
    sender->bytes[SEND_BYTES - 1] ^= 1;
    wait_for(&sender->f, 1000 * MS);
    _exit(0);
}

static void change_that_was_undone_is_loud(struct sender *sender)
{
    send_one(sender);
    sender->bytes[0] ^= 1;
    wait_for(&sender->f, MS);
    sender->bytes[0] ^= 1;
    wait_for(&sender->f, 1000 * MS);
    _exit(0);
}

static void close_with_a_pin_is_loud(struct sender *sender)
{
    send_one(sender);
    sender->f.ops->socket_close(sender->f.engine, &sender->pair.client);
    _exit(0);
}

static void unregistering_what_is_pinned_is_loud(struct sender *sender)
{
    struct weir__engine *engine = sender->f.engine;

    assert_int_equal(sender->f.ops->memory_register(engine, sender->bytes, SEND_BYTES), 0);
    send_one(sender);
    sender->f.ops->memory_unregister(engine, sender->bytes);
    _exit(0);
}

static void staying_registered_is_loud(struct sender *sender)
{
    assert_int_equal(sender->f.ops->memory_register(sender->f.engine, sender->bytes, SEND_BYTES),
                     0);
    sender_close(sender);
    _exit(0);
}

/* What ends the program does so in a process of its own. */
static void test_misuse(void **state)
{
    static const struct {
        const char *name;
        void (*run)(struct sender *sender);
        unsigned loss, copies;
        bool loud;
    } cases[] = {
        {"changed memory", changed_memory_is_what_the_peer_gets, 0, 0, false},
        {"changed, then sent again", memory_is_read_again_when_sent_again, 1000, 0, false},
        {"copied, then sent again", what_was_copied_is_not_read_again, 1000, 1000, false},
        {"an early change", early_change_is_loud, 0, 0, true},
        {"a change undone", change_that_was_undone_is_loud, 0, 0, true},
        {"closing", close_with_a_pin_is_loud, 0, 0, true},
        {"unregistering", unregistering_what_is_pinned_is_loud, 0, 0, true},
        {"staying registered", staying_registered_is_loud, 0, 0, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct weir__sim_options options = options_of();
        int status = 0;
        options.loss = cases[i].loss;
        options.copies = cases[i].copies;
        /* Later than the bytes, so that what the peer has can be looked at. */
        options.notice_late = cases[i].loud ? 0 : 1000;
        options.notice_late_ns_max = UINT64_C(1) << 62;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            signal(SIGABRT, SIG_DFL);
            assert_non_null(freopen("/dev/null", "w", stderr));
            cases[i].run(sender_open(&options));
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        bool aborted = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
        if (cases[i].loud ? !aborted : !WIFEXITED(status) || WEXITSTATUS(status) != 0)
            fail_msg("%s: status %x", cases[i].name, (unsigned)status);
    }
}

static void test_not_before_the_ack(void **state)
{
    struct weir__sim_options options = options_of();
    struct sender *sender = sender_open(&options);

    (void)state;
    const struct pin *pin = send_one(sender);
    wait_for(&sender->f, 9 * MS);
    assert_int_equal(pin->released, 0);
    wait_for(&sender->f, 2 * MS);
    assert_int_equal(pin->released, 1);
    assert_int_equal(pin->result, WEIR__PIN_USED);
    sender_close(sender);
}

static void test_notices_are_late_and_out_of_order(void **state)
{
    struct weir__sim_options options = options_of();
    bool out_of_order = false;

    (void)state;
    options.notice_late = 800;
    options.notice_late_ns_max = 100 * MS;
    struct sender *sender = sender_open(&options);
    for (unsigned i = 0; i < SENDS; i++)
        send_one(sender);
    for (unsigned i = 0; i < 200; i++) {
        wait_for(&sender->f, MS);
        for (unsigned k = 1; k < SENDS; k++)
            out_of_order |= sender->pins[k].released && !sender->pins[k - 1].released;
    }
    assert_true(out_of_order);
    assert_int_equal(sender->released, SENDS);
    sender_close(sender);
}

/* All but the last wait for it. */
static void test_notices_are_coalesced(void **state)
{
    struct weir__sim_options options = options_of();

    (void)state;
    options.notice_coalesce = 1000;
    options.bandwidth_min = options.bandwidth_max = SEND_BYTES * 100; /* 10 ms each */
    struct sender *sender = sender_open(&options);
    for (unsigned i = 0; i < SENDS; i++)
        send_one(sender);
    wait_for(&sender->f, 75 * MS);
    assert_int_equal(sender->released, 0);
    wait_for(&sender->f, 50 * MS);
    assert_int_equal(sender->released, SENDS);
    sender_close(sender);
}

static void test_more_than_there_may_be_is_refused(void **state)
{
    static const struct {
        uint32_t pins_max;
        uint64_t pinned_bytes_max;
    } limits[] = {{3, UINT64_MAX}, {UINT32_MAX, 3 * SEND_BYTES}};

    (void)state;
    for (unsigned limit = 0; limit < 2; limit++) {
        struct weir__sim_options options = options_of();
        options.pins_max = limits[limit].pins_max;
        options.pinned_bytes_max = limits[limit].pinned_bytes_max;
        struct sender *sender = sender_open(&options);
        for (unsigned i = 0; i < 3; i++)
            send_one(sender);
        const struct pin *refused = send_one(sender);
        wait_for(&sender->f, MS);
        assert_int_equal(sender->released, 1);
        assert_int_equal(refused->released, 1);
        assert_int_equal(refused->result, WEIR__PIN_REFUSED);
        wait_until(&sender->f, &sender->released, 4);
        assert_int_equal(send_one(sender)->released, 0);
        wait_until(&sender->f, &sender->released, 5);
        assert_int_equal(sender->pins[4].result, WEIR__PIN_USED);
        sender_close(sender);
    }
}

static void test_a_route_changes_in_mid_life(void **state)
{
    unsigned changes[2] = {0, 0};

    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct weir__sim_options options = options_of();
        options.seed = seed;
        options.copies = 500;
        options.copies_change = 1000;
        struct sender *sender = sender_open(&options);
        for (unsigned i = 0; i < SENDS; i++) {
            send_one(sender);
            wait_until(&sender->f, &sender->released, i + 1);
            if (i > 0 && sender->pins[i].result != sender->pins[i - 1].result)
                changes[sender->pins[i].result == WEIR__PIN_COPIED]++;
        }
        sender_close(sender);
    }
    assert_true(changes[0] > 0);
    assert_true(changes[1] > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_not_before_the_ack),
        cmocka_unit_test(test_notices_are_late_and_out_of_order),
        cmocka_unit_test(test_notices_are_coalesced),
        cmocka_unit_test(test_more_than_there_may_be_is_refused),
        cmocka_unit_test(test_a_route_changes_in_mid_life),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
