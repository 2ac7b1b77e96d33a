/* SPDX-License-Identifier: Apache-2.0 */
#include "core/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/memory_fail.h"

static void test_objects_do_not_overlap(void **state)
{
    struct weir__pool pool;
    unsigned char *objects[100];

    (void)state;
    weir__pool_init(&pool, 33, 8);
    for (unsigned i = 0; i < 100; i++) {
        objects[i] = weir__pool_take(&pool);
        assert_non_null(objects[i]);
        assert_int_equal((uintptr_t)objects[i] % _Alignof(max_align_t), 0);
        memset(objects[i], (int)i, 33);
    }
    assert_int_equal(pool.taken, 100);
    for (unsigned i = 0; i < 100; i++) {
        for (unsigned j = 0; j < 33; j++)
            assert_int_equal(objects[i][j], i);
        weir__pool_give(&pool, objects[i]);
    }
    assert_int_equal(pool.taken, 0);
    weir__pool_dispose(&pool);
}

static void test_memory_is_used_again(void **state)
{
    size_t live = memory_fail_live();
    struct weir__pool pool;

    (void)state;
    weir__pool_init(&pool, 64, 4);
    void *object = weir__pool_take(&pool);
    size_t with_one = memory_fail_live();
    for (unsigned i = 0; i < 1000; i++) {
        weir__pool_give(&pool, object);
        object = weir__pool_take(&pool);
        assert_non_null(object);
    }
    assert_int_equal(memory_fail_live(), with_one);
    weir__pool_give(&pool, object);
    weir__pool_dispose(&pool);
    assert_int_equal(memory_fail_live(), live);
}

static void test_out_of_memory(void **state)
{
    struct weir__pool pool;

    (void)state;
    weir__pool_init(&pool, 64, 4);
    memory_fail_at(1);
    assert_null(weir__pool_take(&pool));
    memory_fail_at(0);
    assert_int_equal(pool.taken, 0);
    void *object = weir__pool_take(&pool);
    assert_non_null(object);
    weir__pool_give(&pool, object);
    weir__pool_dispose(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_objects_do_not_overlap),
        cmocka_unit_test(test_memory_is_used_again),
        cmocka_unit_test(test_out_of_memory),
    };

    memory_fail_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
