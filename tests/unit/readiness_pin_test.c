/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pins a notice of the error queue releases. The sends are real, the notices and where the count of sends
 * begins are the test's: no kernel gets 2^32 sends far in a test, nor gives notices out of order on request.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include <weir/error.h>

#include "engine/readiness.h"
#include "engine/socket.h"

#define PINS 6

static struct weir__engine *engine;
static struct weir__socket sender, receiver;
static struct weir__op op;
static struct iovec part;
static struct weir__pin pins[PINS];
/* In the order of their release: the pin's index, as a letter, capital where it was copied. */
static char released[PINS + 1];
static unsigned completed;

static void on_released(struct weir__pin *pin, enum weir__pin_result result)
{
    char letter = (char)('a' + (pin - pins));

    assert_true(result == WEIR__PIN_USED || result == WEIR__PIN_COPIED);
    released[strlen(released)] = result == WEIR__PIN_COPIED ? (char)(letter - 'a' + 'A') : letter;
}

static void on_complete(struct weir__op *done, const struct weir__completion *completion)
{
    (void)done;
    assert_int_equal(completion->result, 1);
    completed++;
}

static void submit(unsigned index)
{
    static char byte = 'x';

    part = (struct iovec){.iov_base = &byte, .iov_len = 1};
    pins[index].released = on_released;
    op = (struct weir__op){.kind = WEIR__OP_SEND, .complete = on_complete, .socket = &sender};
    op.send.parts = &part;
    op.send.part_count = 1;
    op.send.pin = &pins[index];
    engine->ops->submit(engine, &op);
}

/* The completion, and what is due with it; a notice of the kernel's own is not in the way. */
static void finish(void)
{
    unsigned before = completed;

    while (completed == before)
        assert_int_equal(engine->ops->wait(engine, UINT64_MAX), 0);
}

static void notice(uint32_t first, uint32_t last, bool copied)
{
    const struct weir__notice made = {.kind = WEIR__NOTICE_ZEROCOPY,
                                      .sends = {.first = first, .last = last, .copied = copied}};

    weir__readiness_pins_noticed((struct weir__readiness *)engine, &sender, &made);
}

static void release(void)
{
    weir__readiness_pins_release((struct weir__readiness *)engine);
}

/* Sends with numbers from `first` on, which the kernel's own notices do not know. */
static void sends(uint32_t first)
{
    weir__readiness_socket(&sender)->zerocopy_sends = first;
    for (unsigned i = 0; i < PINS; i++) {
        submit(i);
        finish();
    }
    assert_string_equal(released, "");
    assert_int_equal(sender.pins, PINS);
}

static int setup(void **state)
{
    static const struct weir__engine_options options = {.receive_bytes = 64, .receive_buffers = 16};
    int pair[2];

    (void)state;
    memset(released, 0, sizeof(released));
    memset(pins, 0, sizeof(pins));
    assert_int_equal(weir__epoll_engine.open(&engine, &options), 0);
    assert_true(weir__descriptor_pair(pair));
    engine->ops->socket_adopt(engine, &sender, pair[0]);
    engine->ops->socket_adopt(engine, &receiver, pair[1]);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    engine->ops->socket_close(engine, &sender);
    engine->ops->socket_close(engine, &receiver);
    engine->ops->close(engine);
    return 0;
}

static bool can(void)
{
    if (engine->ops->can_zerocopy(engine))
        return true;
    printf("SKIP: readiness_pin: no zero copy here\n");
    return false;
}

static void ranges_in_any_order(void **state)
{
    (void)state;
    if (!can())
        skip();
    sends(1000);
    notice(1002, 1003, true);
    release();
    assert_string_equal(released, "CD");
    notice(1005, 1005, false);
    notice(1000, 1001, true);
    release();
    assert_string_equal(released, "CDfAB");
    notice(1000, 1003, false);
    release();
    assert_string_equal(released, "CDfAB");
    notice(1000, 1004, false);
    release();
    assert_string_equal(released, "CDfABe");
    assert_int_equal(sender.pins, 0);
}

static void numbers_wrap(void **state)
{
    (void)state;
    if (!can())
        skip();
    sends(UINT32_MAX - 2);
    notice(UINT32_MAX, 0, false);
    release();
    assert_string_equal(released, "cd");
    notice(1, 2, false);
    release();
    assert_string_equal(released, "cdef");
    notice(UINT32_MAX - 2, UINT32_MAX - 1, true);
    release();
    assert_string_equal(released, "cdefAB");
}

static void numbers_before_the_wrap_alone(void **state)
{
    (void)state;
    if (!can())
        skip();
    sends(UINT32_MAX - 2);
    notice(UINT32_MAX - 10, UINT32_MAX, true);
    release();
    assert_string_equal(released, "ABC");
    notice(0, 100, true);
    release();
    assert_string_equal(released, "ABCDEF");
}

/* A watcher may read the notice of a send whose completion is still to be given. */
static void notice_before_the_completion(void **state)
{
    (void)state;
    if (!can())
        skip();
    weir__readiness_socket(&sender)->zerocopy_sends = 500;
    submit(0);
    notice(500, 500, false);
    release();
    assert_string_equal(released, "");
    finish();
    release();
    assert_string_equal(released, "a");
    assert_int_equal(sender.pins, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ranges_in_any_order, setup, teardown),
        cmocka_unit_test_setup_teardown(numbers_wrap, setup, teardown),
        cmocka_unit_test_setup_teardown(numbers_before_the_wrap_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(notice_before_the_completion, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
