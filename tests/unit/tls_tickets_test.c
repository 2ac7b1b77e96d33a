/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
/* cmocka.h needs those before it */
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <weir/error.h>

#include "support/memory_fail.h"
#include "tls/tickets.h"

#define HOUR      UINT64_C(3600)
#define START     UINT64_C(1000)
#define KEY_BYTES 80

static char folder[] = "/tmp/weir-tickets-XXXXXX";
static char path[sizeof(folder) + 16];
static struct weir_tls_tickets *tickets;
static struct weir__tls_ticket_keys keys;
static char complaint[WEIR_TLS_COMPLAINT_MAX];

static int folder_make(void **state)
{
    (void)state;
    memory_fail_install();
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof(path), "%s/keys", folder);
    return 0;
}

static int folder_remove(void **state)
{
    (void)state;
    return rmdir(folder);
}

static int tickets_dispose(void **state)
{
    (void)state;
    memory_fail_at(0);
    weir_tls_tickets_free(tickets);
    tickets = NULL;
    unlink(path);
    rmdir(path);
    return memory_fail_live() == 0 ? 0 : -1;
}

static uint64_t keys_get(void)
{
    uint64_t generation = weir__tls_tickets_get(tickets, &keys);

    assert_int_equal(generation, weir__tls_tickets_generation(tickets));
    return generation;
}

/* ---- random keys ---- */

static void random_open(void)
{
    assert_int_equal(weir__tls_tickets_new_at(&tickets, NULL, START, complaint), 0);
    assert_string_equal(complaint, "");
    keys_get();
    assert_int_equal(keys.count, 1);
}

static void refresh_at(uint64_t now_s)
{
    assert_int_equal(weir__tls_tickets_refresh_at(tickets, now_s, complaint), 0);
}

static void test_random_keys_are_random(void **state)
{
    static const struct weir__tls_ticket_key zeros;
    struct weir__tls_ticket_key first;

    (void)state;
    random_open();
    first = keys.keys[0];
    assert_memory_not_equal(&first, &zeros, sizeof(first));
    weir_tls_tickets_free(tickets);
    random_open();
    assert_memory_not_equal(&first, &keys.keys[0], sizeof(first));
    assert_memory_not_equal(first.hmac_key, first.cipher_key, sizeof(first.hmac_key));
}

static void test_random_keys_are_renewed(void **state)
{
    struct weir__tls_ticket_key made[5];

    (void)state;
    random_open();
    uint64_t generation = keys_get();
    made[0] = keys.keys[0];
    refresh_at(START + 12 * HOUR - 1);
    assert_int_equal(keys_get(), generation);
    for (unsigned i = 1; i < 5; i++) {
        refresh_at(START + i * 12 * HOUR);
        assert_int_equal(keys_get(), ++generation);
        made[i] = keys.keys[0];
        assert_int_equal(keys.count, i < 3 ? i + 1 : 3);
        for (unsigned j = 0; j < keys.count; j++)
            assert_memory_equal(&keys.keys[j], &made[i - j], sizeof(made[0]));
        for (unsigned j = 0; j < i; j++)
            assert_memory_not_equal(&keys.keys[0], &made[j], sizeof(made[0]));
        refresh_at(START + i * 12 * HOUR + 60);
        assert_int_equal(keys_get(), generation);
    }
}

/* The owner was late: keys whose tickets are all too old are dropped, the others are not. */
static void test_late_renewal(void **state)
{
    struct weir__tls_ticket_key first, second;

    (void)state;
    random_open();
    first = keys.keys[0];
    refresh_at(START + 20 * HOUR);
    keys_get();
    assert_int_equal(keys.count, 2);
    second = keys.keys[0];
    assert_memory_equal(&keys.keys[1], &first, sizeof(first));
    refresh_at(START + 40 * HOUR);
    keys_get();
    assert_int_equal(keys.count, 2);
    assert_memory_equal(&keys.keys[1], &second, sizeof(second));
    refresh_at(START + 1000 * HOUR);
    keys_get();
    assert_int_equal(keys.count, 1);
    assert_memory_not_equal(&keys.keys[0], &second, sizeof(second));
}

/* An old key goes when its time is over, though no new one is due. */
static void test_a_key_expires_between_renewals(void **state)
{
    (void)state;
    random_open();
    refresh_at(START + 25 * HOUR);
    keys_get();
    assert_int_equal(keys.count, 2);
    uint64_t generation = keys_get();
    refresh_at(START + 36 * HOUR - 1);
    assert_int_equal(keys_get(), generation);
    refresh_at(START + 36 * HOUR);
    assert_int_equal(keys_get(), generation + 1);
    assert_int_equal(keys.count, 1);
}

static void test_a_clock_that_goes_back(void **state)
{
    (void)state;
    random_open();
    uint64_t generation = keys_get();
    refresh_at(0);
    assert_int_equal(keys_get(), generation);
}

/* ---- a file ---- */

static void file_write(size_t length, char first, mode_t mode)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    for (size_t i = 0; i < length; i++)
        fputc(first + (char)(i / KEY_BYTES), file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, mode), 0);
}

/* As it should be done: all at once. */
static void file_replace(size_t length, char first, mode_t mode)
{
    unlink(path);
    file_write(length, first, mode);
}

static void assert_key(unsigned index, char byte)
{
    uint8_t expected[KEY_BYTES];

    memset(expected, byte, sizeof(expected));
    assert_memory_equal(keys.keys[index].name, expected, 16);
    assert_memory_equal(keys.keys[index].hmac_key, expected, 32);
    assert_memory_equal(keys.keys[index].cipher_key, expected, 32);
}

static void file_open(void)
{
    assert_int_equal(weir__tls_tickets_new_at(&tickets, path, START, complaint), 0);
    assert_string_equal(complaint, "");
}

static void test_a_file_of_one_key(void **state)
{
    (void)state;
    file_write(KEY_BYTES, 'a', 0600);
    file_open();
    keys_get();
    assert_int_equal(keys.count, 1);
    assert_key(0, 'a');
    refresh_at(START + 100 * HOUR); /* does not age */
    keys_get();
    assert_int_equal(keys.count, 1);
}

static void test_a_file_of_four_keys(void **state)
{
    (void)state;
    file_write(4 * KEY_BYTES, 'a', 0640);
    file_open();
    keys_get();
    assert_int_equal(keys.count, 4);
    for (unsigned i = 0; i < 4; i++)
        assert_key(i, (char)('a' + (int)i));
}

static void test_a_changed_file_is_read_again(void **state)
{
    (void)state;
    file_write(KEY_BYTES, 'a', 0600);
    file_open();
    uint64_t generation = keys_get();
    file_replace(2 * KEY_BYTES, 'b', 0600);
    refresh_at(START + 60);
    assert_int_equal(keys_get(), generation + 1);
    assert_int_equal(keys.count, 2);
    assert_key(0, 'b');
    assert_key(1, 'c');
    /* Of the same size. */
    file_replace(2 * KEY_BYTES, 'd', 0600);
    refresh_at(START + 120);
    assert_int_equal(keys_get(), generation + 2);
    assert_key(0, 'd');
    /* Of the same content: nothing changes. */
    file_replace(2 * KEY_BYTES, 'd', 0600);
    refresh_at(START + 180);
    assert_int_equal(keys_get(), generation + 2);
    /* Fewer keys: those that were there are gone. */
    file_replace(KEY_BYTES, 'd', 0600);
    refresh_at(START + 240);
    assert_int_equal(keys_get(), generation + 3);
    assert_int_equal(keys.count, 1);
    static const struct weir__tls_ticket_key zeros;
    assert_memory_equal(&keys.keys[1], &zeros, sizeof(zeros));
}

/* What is in place of a good file; both at the start and while it runs. */
static void fault_try(int error, const char *before, const char *behind)
{
    char expected[WEIR_TLS_COMPLAINT_MAX];
    struct weir_tls_tickets *none = NULL;

    snprintf(expected, sizeof(expected), "%s%s%s", before, path, behind);
    assert_int_equal(weir__tls_tickets_new_at(&none, path, START, complaint), error);
    assert_string_equal(complaint, expected);
    assert_null(none);
    uint64_t generation = keys_get();
    for (unsigned i = 0; i < 2; i++) {
        complaint[0] = '\0';
        assert_int_equal(weir__tls_tickets_refresh_at(tickets, START, complaint), error);
        assert_string_equal(complaint, expected);
    }
    assert_int_equal(keys_get(), generation);
    assert_int_equal(keys.count, 1);
    assert_key(0, 'a');
}

static void test_faults_of_a_file(void **state)
{
    static const size_t sizes[] = {0, 1, 79, 81, 48, 400};

    (void)state;
    file_write(KEY_BYTES, 'a', 0600);
    file_open();
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        file_replace(sizes[i], 'b', 0600);
        fault_try(WEIR_EINVAL, "", " does not hold 1 to 4 ticket keys of 80 bytes each");
    }
    file_replace(KEY_BYTES, 'b', 0604);
    fault_try(WEIR_EINVAL, "", " can be read or written by everybody: chmod o-rw it");
    file_replace(KEY_BYTES, 'b', 0602);
    fault_try(WEIR_EINVAL, "", " can be read or written by everybody: chmod o-rw it");
    file_replace(KEY_BYTES, 'b', 0620);
    fault_try(WEIR_EINVAL, "", " can be written by its group: chmod g-w it");
    unlink(path);
    fault_try(WEIR_EACCESS, "cannot read ", ": No such file or directory");
    assert_int_equal(mkdir(path, 0700), 0);
    fault_try(WEIR_EINVAL, "", " is no regular file");
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    fault_try(WEIR_EINVAL, "", " is no regular file");
    /* And all is well again. */
    file_replace(KEY_BYTES, 'z', 0600);
    refresh_at(START);
    keys_get();
    assert_key(0, 'z');
}

static void test_names_are_different(void **state)
{
    (void)state;
    file_write(KEY_BYTES, 'a', 0600);
    file_open();
    FILE *file = fopen(path, "w");
    for (unsigned i = 0; i < 3 * KEY_BYTES; i++)
        fputc(i < KEY_BYTES ? 'b' : 'c', file);
    assert_int_equal(fclose(file), 0);
    fault_try(WEIR_EINVAL, "", ": keys 2 and 3 have one name");
}

/* A file that was good, and is open to all now. */
static void test_permissions_change(void **state)
{
    (void)state;
    file_write(KEY_BYTES, 'a', 0600);
    file_open();
    assert_int_equal(chmod(path, 0644), 0);
    fault_try(WEIR_EINVAL, "", " can be read or written by everybody: chmod o-rw it");
    assert_int_equal(chmod(path, 0600), 0);
    refresh_at(START);
}

/* ---- both ---- */

static void test_memory_runs_out(void **state)
{
    (void)state;
    file_write(KEY_BYTES, 'a', 0600);
    for (unsigned nth = 1; nth <= 2; nth++) {
        memory_fail_at(nth);
        assert_int_equal(weir__tls_tickets_new_at(&tickets, path, START, complaint), WEIR_ENOMEM);
        assert_string_equal(complaint, "out of memory");
        assert_null(tickets);
    }
    memory_fail_at(3);
    file_open();
    assert_false(memory_fail_happened());
}

static void test_the_public_functions(void **state)
{
    (void)state;
    weir_tls_tickets_free(NULL);
    assert_int_equal(weir_tls_tickets_new(&tickets, NULL, complaint), 0);
    uint64_t generation = keys_get();
    assert_int_equal(keys.count, 1);
    assert_int_equal(weir_tls_tickets_refresh(tickets, complaint), 0);
    assert_int_equal(keys_get(), generation);
}

#define READERS 3

static atomic_bool over;

/* Whatever it sees is whole: each key's bytes are all the same. */
static void *reader_run(void *argument)
{
    size_t *torn = argument;
    struct weir__tls_ticket_keys seen;

    while (!atomic_load(&over)) {
        weir__tls_tickets_get(tickets, &seen);
        for (unsigned i = 0; i < seen.count; i++)
            *torn += seen.keys[i].name[0] != seen.keys[i].cipher_key[31];
        weir__tls_tickets_generation(tickets);
    }
    return NULL;
}

static void test_threads_read_meanwhile(void **state)
{
    pthread_t readers[READERS];
    size_t torn[READERS] = {0};

    (void)state;
    atomic_store(&over, false);
    file_write(KEY_BYTES, 'a', 0600);
    file_open();
    uint64_t generation = keys_get();
    for (unsigned i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, reader_run, &torn[i]), 0);
    for (unsigned i = 0; i < 200; i++) {
        file_replace((1 + i % 4) * KEY_BYTES, (char)('a' + i % 20), 0600);
        refresh_at(START);
    }
    atomic_store(&over, true);
    for (unsigned i = 0; i < READERS; i++) {
        pthread_join(readers[i], NULL);
        assert_int_equal(torn[i], 0);
    }
    /* The first file is as it was; each of the others changes the keys. */
    assert_int_equal(keys_get(), generation + 199);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_random_keys_are_random, tickets_dispose),
        cmocka_unit_test_teardown(test_random_keys_are_renewed, tickets_dispose),
        cmocka_unit_test_teardown(test_late_renewal, tickets_dispose),
        cmocka_unit_test_teardown(test_a_key_expires_between_renewals, tickets_dispose),
        cmocka_unit_test_teardown(test_a_clock_that_goes_back, tickets_dispose),
        cmocka_unit_test_teardown(test_a_file_of_one_key, tickets_dispose),
        cmocka_unit_test_teardown(test_a_file_of_four_keys, tickets_dispose),
        cmocka_unit_test_teardown(test_a_changed_file_is_read_again, tickets_dispose),
        cmocka_unit_test_teardown(test_faults_of_a_file, tickets_dispose),
        cmocka_unit_test_teardown(test_names_are_different, tickets_dispose),
        cmocka_unit_test_teardown(test_permissions_change, tickets_dispose),
        cmocka_unit_test_teardown(test_memory_runs_out, tickets_dispose),
        cmocka_unit_test_teardown(test_the_public_functions, tickets_dispose),
        cmocka_unit_test_teardown(test_threads_read_meanwhile, tickets_dispose),
    };

    return cmocka_run_group_tests_name("tls_tickets", tests, folder_make, folder_remove);
}
