/* SPDX-License-Identifier: Apache-2.0 */
/* weir/bio.h in user space. On kernel TLS: bio_ktls_test.c. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/bio_fixture.h"
#include "support/memory_fail.h"

#define MEMLOCK_TINY (64 << 10)

static const struct setting setting_1_3 = {.version = TLS1_3_VERSION};
static const struct setting setting_1_2 = {.version = TLS1_2_VERSION};

/* ---- as a BIO */

static void bytes_pass_both_ways(void **state)
{
    static const size_t lengths[] = {1, 100, 16384, 16385, 100000, MIB};
    const struct setting small = {.version = TLS1_3_VERSION, .buffer_bytes = 8192};
    const struct setting *settings[] = {&setting_1_3, &setting_1_2, &small};

    (void)state;
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        struct session s;
        session_open(&s, settings[i]);
        for (size_t l = 0; l < sizeof(lengths) / sizeof(lengths[0]); l++) {
            session_pass(&s, s.server, s.client, lengths[l]);
            session_pass(&s, s.client, s.server, lengths[l]);
        }
        assert_int_equal(weir_bio_wire_bytes(s.bio), bytes_received(s.client_socket));
        session_close(&s);
    }
}

static void says_when_to_try_again(void **state)
{
    int server, client;
    char byte;

    (void)state;
    connect_pair(&server, &client, 8192);
    BIO *bio = weir_bio_new(server, NULL);
    assert_non_null(bio);
    assert_int_equal(BIO_read(bio, &byte, 1), -1);
    assert_true(BIO_should_retry(bio) && BIO_should_read(bio) && !BIO_should_write(bio));
    uint64_t taken = 0;
    int n;
    while ((n = BIO_write(bio, pattern, MIB)) > 0) {
        assert_false(BIO_should_retry(bio));
        taken += (uint64_t)n;
    }
    assert_int_equal(n, -1);
    assert_true(BIO_should_retry(bio) && BIO_should_write(bio) && !BIO_should_read(bio));
    assert_int_equal(weir_bio_wire_bytes(bio), taken);
    assert_int_equal(shutdown(client, SHUT_WR), 0);
    wait_ms(20);
    assert_int_equal(BIO_eof(bio), 0);
    assert_int_equal(BIO_read(bio, &byte, 1), 0);
    assert_false(BIO_should_retry(bio));
    assert_int_equal(BIO_eof(bio), 1);
    close(client); /* with unread data: a reset */
    wait_ms(20);
    assert_int_equal(BIO_write(bio, "x", 1), -1);
    assert_false(BIO_should_retry(bio));
    BIO_free(bio);
    close(server);
}

static void unknown_controls_return_0(void **state)
{
    static const int known[] = {BIO_CTRL_EOF, BIO_CTRL_GET_CLOSE, BIO_CTRL_SET_CLOSE,
                                BIO_CTRL_FLUSH, BIO_C_GET_FD};
    int server, client;

    (void)state;
    connect_pair(&server, &client, 0);
    BIO *bio = weir_bio_new(server, NULL);
    for (int control = 0; control < 300; control++) {
        bool is_known = false;
        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
            is_known = is_known || known[i] == control;
        if (!is_known)
            assert_int_equal(BIO_ctrl(bio, control, 0, NULL), 0);
    }
    assert_int_equal(BIO_get_ktls_send(bio), 0);
    assert_int_equal(BIO_get_ktls_recv(bio), 0);
    assert_int_equal(BIO_pending(bio), 0);
    assert_int_equal(BIO_wpending(bio), 0);
    BIO_free(bio);
    close(server);
    close(client);
}

static void known_controls(void **state)
{
    struct weir_bio_options options;
    int server, client, descriptor = -1;

    (void)state;
    connect_pair(&server, &client, 0);
    weir_bio_options_init(&options);
    options.close_descriptor = true;
    BIO *bio = weir_bio_new(server, &options);
    assert_int_equal(BIO_get_fd(bio, &descriptor), server);
    assert_int_equal(descriptor, server);
    assert_ptr_equal(BIO_find_type(bio, BIO_TYPE_DESCRIPTOR), bio);
    assert_int_equal(BIO_flush(bio), 1);
    assert_int_equal(BIO_get_close(bio), BIO_CLOSE);
    assert_int_equal(BIO_set_close(bio, BIO_NOCLOSE), 1);
    assert_int_equal(BIO_get_close(bio), BIO_NOCLOSE);
    assert_null(BIO_dup_chain(bio));
    BIO_set_close(bio, BIO_CLOSE);
    BIO_free(bio);
    assert_int_equal(close(server), -1);
    assert_int_equal(errno, EBADF);
    close(client);
}

static void wants_a_connected_tcp_socket(void **state)
{
    int pair[2];
    int lone = socket(AF_INET, SOCK_STREAM, 0);

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_null(weir_bio_new(pair[0], NULL));
    assert_null(weir_bio_new(lone, NULL));
    assert_null(weir_bio_new(-1, NULL));
    close(pair[0]);
    close(pair[1]);
    close(lone);
}

static void out_of_memory(void **state)
{
    struct weir_bio_options options;
    int server, client;

    (void)state;
    connect_pair(&server, &client, 0);
    weir_bio_options_init(&options);
    options.zerocopy_bytes_max = MIB;
    size_t live = memory_fail_live();
    for (unsigned nth = 1;; nth++) {
        memory_fail_at(nth);
        BIO *bio = weir_bio_new(server, &options);
        memory_fail_at(0);
        if (bio) {
            BIO_free(bio);
            assert_int_equal(nth, 3);
            break;
        }
    }
    assert_int_equal(memory_fail_live(), live);
    close(server);
    close(client);
}

/* ---- delivery */

/* The last byte of each SSL_write is stamped, and nothing long before it. */
static void stamps_the_end_of_a_write(void **state)
{
    static const size_t lengths[] = {1, 5000, 16384, 20000, 131072, 131072 + 5000, MIB};
    const struct setting *settings[] = {&setting_1_3, &setting_1_2};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct weir_bio_stamp stamps[STAMPS_MAX];
        struct session s;
        session_open(&s, settings[i]);
        need_stamps(s.bio, "stamps_the_end_of_a_write");
        session_pass(&s, s.server, s.client, 1000);
        wait_ms(20);
        assert_int_equal(weir_bio_read_stamps(s.bio, stamps, STAMPS_MAX), 0);
        for (size_t l = 0; l < sizeof(lengths) / sizeof(lengths[0]); l++) {
            uint64_t begin = weir_bio_wire_bytes(s.bio), began_ns = now_ns();
            uint64_t end = session_pass_stamped(&s, lengths[l], lengths[l]);
            assert_int_equal(end, bytes_received(s.client_socket));
            unsigned count = wait_for_stamp(s.bio, WEIR_STAGE_DELIVERED, end, stamps);
            for (unsigned n = 0; n < count; n++) {
                assert_in_range(stamps[n].at_ns, began_ns, now_ns());
                assert_in_range(stamps[n].offset, begin + lengths[l], end);
            }
        }
        session_close(&s);
    }
}

/* Without a length each record is stamped. */
static void stamps_every_send(void **state)
{
    struct weir_bio_stamp stamps[STAMPS_MAX];
    struct session s;

    (void)state;
    session_open(&s, &setting_1_3);
    need_stamps(s.bio, "stamps_every_send");
    uint64_t begin = weir_bio_wire_bytes(s.bio);
    uint64_t end = session_pass_stamped(&s, 4 * 16384, 0);
    unsigned count = wait_for_stamp(s.bio, WEIR_STAGE_DELIVERED, end, stamps);
    bool early = false;
    for (unsigned n = 0; n < count; n++)
        early = early || stamps[n].offset <= begin + 3 * (16384 + 22);
    assert_true(early);
    session_close(&s);
}

/* The kernel's keys have 32 bits. Counting 12 GiB that were never sent changes the rest alone. */
static void offsets_have_64_bits(void **state)
{
    const uint64_t before = UINT64_C(3) << 32;
    struct weir_bio_stamp stamps[STAMPS_MAX];
    int server, client;

    (void)state;
    connect_pair(&server, &client, 0);
    BIO *bio = weir_bio_new(server, NULL);
    need_stamps(bio, "offsets_have_64_bits");
    weir_bio_count_file(bio, before);
    assert_int_equal(weir_bio_stamp_start(bio, 100), 0);
    assert_int_equal(BIO_write(bio, pattern, 100), 100);
    assert_int_equal(weir_bio_stamp_stop(bio), before + 100);
    unsigned last = wait_for_stamp(bio, WEIR_STAGE_DELIVERED, before + 100, stamps) - 1;
    assert_int_equal(stamps[last].offset, before + 100);
    BIO_free(bio);
    close(server);
    close(client);
}

static void counts_what_is_acknowledged(void **state)
{
    int server, client;
    uint64_t acked = 1;

    (void)state;
    /* The client's end, whose SYN is counted by the kernel, and with something sent before. */
    connect_pair(&client, &server, 0);
    assert_int_equal(send(server, "before", 6, 0), 6);
    BIO *bio = weir_bio_new(server, NULL);
    assert_int_equal(weir_bio_acked_bytes(bio, &acked), 0);
    assert_int_equal(acked, 0);
    assert_int_equal(BIO_write(bio, pattern, 1000), 1000);
    for (int i = 0; i < 100 && acked < 1000; i++) {
        wait_ms(10);
        assert_int_equal(weir_bio_acked_bytes(bio, &acked), 0);
    }
    assert_int_equal(acked, 1000);
    assert_int_equal(shutdown(server, SHUT_WR), 0);
    wait_ms(60);
    assert_int_equal(weir_bio_acked_bytes(bio, &acked), 0);
    assert_int_equal(acked, 1000);
    BIO_free(bio);
    close(server);
    close(client);
}

/* What was sent before the BIO is not counted: the peer is full, and has less than was taken. */
static void counts_from_its_own_beginning(void **state)
{
    int server, client;
    uint64_t acked = 0;

    (void)state;
    connect_pair(&client, &server, 8192);
    assert_int_equal(send(server, "before", 6, 0), 6);
    BIO *bio = weir_bio_new(server, NULL);
    while (BIO_write(bio, pattern, MIB) > 0)
        ;
    for (int i = 0; i < 100 && acked + 6 != bytes_received(client); i++) {
        wait_ms(10);
        assert_int_equal(weir_bio_acked_bytes(bio, &acked), 0);
    }
    assert_int_equal(acked + 6, bytes_received(client));
    assert_true(acked > 0 && acked < weir_bio_wire_bytes(bio));
    BIO_free(bio);
    close(server);
    close(client);
}

/* ---- the owner's own flags and control messages */

static void owner_adds_flags_and_control(void **state)
{
    struct owner owner = {.stamp = true};
    struct weir_bio_options options;
    struct weir_bio_stamp stamps[STAMPS_MAX];
    int server, client;
    char bytes[16];

    (void)state;
    connect_pair(&server, &client, 0);
    weir_bio_options_init(&options);
    options.on_send = owner_on_send;
    options.context = &owner;
    BIO *bio = weir_bio_new(server, &options);
    need_stamps(bio, "owner_adds_flags_and_control");
    assert_int_equal(BIO_write(bio, "12345", 5), 5);
    assert_int_equal(owner.calls, 1);
    assert_int_equal(owner.next_offset, 5);
    assert_int_equal(owner.record_type, 0);
    assert_int_equal(wait_for_stamp(bio, WEIR_STAGE_DELIVERED, 5, stamps), 1);
    assert_int_equal(recv(client, bytes, sizeof(bytes), 0), 5);
    owner = (struct owner){.flags = MSG_MORE};
    assert_int_equal(BIO_write(bio, "678", 3), 3);
    wait_ms(20);
    assert_int_equal(recv(client, bytes, sizeof(bytes), 0), -1); /* the kernel waits for more */
    owner = (struct owner){.flags = MSG_ZEROCOPY}; /* has no effect: no memory for it */
    assert_int_equal(BIO_write(bio, "9", 1), 1);
    wait_ms(20);
    assert_int_equal(recv(client, bytes, sizeof(bytes), 0), 4);
    assert_int_equal(owner.next_offset, 9);
    BIO_free(bio);
    close(server);
    close(client);
}

/* ---- zero copy */

static void zerocopy_passes_and_releases(void **state)
{
    const struct weir_bio_options options = zerocopy_options(8 * 20480);
    const struct setting setting = {.version = TLS1_3_VERSION, .options = &options};
    struct weir_bio_stamp stamps[STAMPS_MAX];
    struct weir_bio_info info;
    struct session s;

    (void)state;
    session_open(&s, &setting);
    for (int i = 0; i < 4; i++)
        session_pass(&s, s.server, s.client, MIB);
    uint64_t end = session_pass_stamped(&s, MIB, MIB);
    if (weir_bio_get_info(s.bio, &info), info.stamps)
        wait_for_stamp(s.bio, WEIR_STAGE_DELIVERED, end, stamps);
    assert_int_equal(end, bytes_received(s.client_socket));
    for (int i = 0; i < 200; i++) {
        (void)weir_bio_read_stamps(s.bio, stamps, STAMPS_MAX);
        weir_bio_get_info(s.bio, &info);
        if (info.zerocopy_in_flight == 0)
            break;
        wait_ms(10);
    }
    assert_int_equal(info.zerocopy_in_flight, 0);
    assert_true(info.zerocopy_sends >= 8);
    assert_int_equal(info.zerocopy_copied, info.zerocopy_sends); /* as ever on loopback */
    session_pass(&s, s.server, s.client, 100);                   /* too short for it */
    struct weir_bio_info after;
    weir_bio_get_info(s.bio, &after);
    assert_int_equal(after.zerocopy_sends, info.zerocopy_sends);
    session_close(&s);
}

/* The kernel sends from the BIO's memory after the BIO is gone, and whoever gets memory then cannot
 * spoil it. */
static void zerocopy_outlives_the_bio(void **state)
{
    enum { BLOCK = 20480, POOL = 64 * BLOCK };
    const struct weir_bio_options options = zerocopy_options(POOL);
    struct weir_bio_info info;
    int server, client;
    size_t sent = 0, got = 0;

    (void)state;
    connect_pair(&server, &client, 0);
    int bytes = 16 << 10;
    setsockopt(client, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
    bytes = 4 * MIB;
    setsockopt(server, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    BIO *bio = weir_bio_new(server, &options);
    assert_non_null(bio);
    for (int i = 0; i < 32; i++) {
        int n = BIO_write(bio, pattern + sent, 16384);
        if (n <= 0)
            break;
        sent += (size_t)n;
    }
    weir_bio_get_info(bio, &info);
    assert_in_range(info.zerocopy_in_flight, 1, 64);
    BIO_free(bio);
    void *spoiler = mmap(NULL, POOL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(spoiler != MAP_FAILED);
    memset(spoiler, 0xee, POOL);
    uint8_t *received = malloc(MIB);
    for (int i = 0; i < 1000 && got < sent; i++) {
        ssize_t n = recv(client, received + got, MIB - got, 0);
        if (n > 0)
            got += (size_t)n;
        else
            wait_ms(5);
    }
    assert_int_equal(got, sent);
    assert_memory_equal(received, pattern, sent);
    free(received);
    munmap(spoiler, POOL);
    close(server);
    close(client);
}

/* Runs in a child that may lock next to no memory: ENOBUFS, and the kernel copies at once. */
static int pass_without_locked_memory(void)
{
    const struct weir_bio_options options = zerocopy_options(4 * MIB);
    const struct setting setting = {.version = TLS1_3_VERSION, .options = &options};
    const struct rlimit tiny = {MEMLOCK_TINY, MEMLOCK_TINY};
    struct weir_bio_info info;
    struct session s;

    if (setrlimit(RLIMIT_MEMLOCK, &tiny) != 0 || (getuid() == 0 && setuid(65534) != 0))
        return 77;
    session_open(&s, &setting);
    for (int i = 0; i < 4; i++)
        session_pass(&s, s.server, s.client, MIB);
    weir_bio_get_info(s.bio, &info);
    return info.zerocopy_refused > 0 && info.zerocopy_sends > 0 ? 0 : 1;
}

static void zerocopy_refused_is_copied_at_once(void **state)
{
    int status;
    pid_t child = fork();

    (void)state;
    assert_true(child >= 0);
    if (child == 0)
        _exit(pass_without_locked_memory());
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        printf("SKIP: zerocopy_refused_is_copied_at_once: cannot give up privileges here\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_pass_both_ways),
        cmocka_unit_test(says_when_to_try_again),
        cmocka_unit_test(unknown_controls_return_0),
        cmocka_unit_test(known_controls),
        cmocka_unit_test(wants_a_connected_tcp_socket),
        cmocka_unit_test(out_of_memory),
        cmocka_unit_test(stamps_the_end_of_a_write),
        cmocka_unit_test(stamps_every_send),
        cmocka_unit_test(offsets_have_64_bits),
        cmocka_unit_test(counts_what_is_acknowledged),
        cmocka_unit_test(counts_from_its_own_beginning),
        cmocka_unit_test(owner_adds_flags_and_control),
        cmocka_unit_test(zerocopy_passes_and_releases),
        cmocka_unit_test(zerocopy_outlives_the_bio),
        cmocka_unit_test(zerocopy_refused_is_copied_at_once),
    };

    memory_fail_install();
    bio_fixture_open();
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    bio_fixture_close();
    return failures;
}
