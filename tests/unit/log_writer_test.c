/* SPDX-License-Identifier: Apache-2.0 */
#include "server/log_writer.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <weir/error.h>
#include <weir/memory.h>

#define RING_BYTES  32768
#define TEXT_MAX    (4 * 1024 * 1024)
#define PATIENCE_MS 20000

struct fixture {
    char folder[64];
    char path[128];
    int report_reader, report_writer;
    struct weir__log_writer *writer;
};

static uint64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void pause_ms(long ms)
{
    struct timespec time = {.tv_nsec = ms * 1000000};
    nanosleep(&time, NULL);
}

static int fixture_setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    int ends[2];
    assert_non_null(fixture);
    strcpy(fixture->folder, "/tmp/weir-log-XXXXXX");
    assert_non_null(mkdtemp(fixture->folder));
    snprintf(fixture->path, sizeof(fixture->path), "%s/log", fixture->folder);
    assert_int_equal(pipe(ends), 0);
    fixture->report_reader = ends[0];
    fixture->report_writer = ends[1];
    assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    *state = fixture;
    return 0;
}

static int fixture_teardown(void **state)
{
    struct fixture *fixture = *state;
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", fixture->folder);
    assert_int_equal(system(command), 0);
    close(fixture->report_reader);
    close(fixture->report_writer);
    free(fixture);
    return 0;
}

static int start(struct fixture *fixture, unsigned ring_count)
{
    const struct weir__log_writer_options options = {.path = fixture->path,
                                                     .ring_count = ring_count,
                                                     .ring_bytes = RING_BYTES,
                                                     .report_descriptor = fixture->report_writer};
    return weir__log_writer_start(&fixture->writer, &options);
}

static bool put(struct fixture *fixture, const char *line)
{
    return weir__log_ring_put(weir__log_writer_ring(fixture->writer, 0), line, strlen(line));
}

static const char *read_descriptor(int descriptor)
{
    static char text[TEXT_MAX + 1];
    size_t length = 0;
    for (ssize_t got; (got = read(descriptor, text + length, TEXT_MAX - length)) > 0;)
        length += (size_t)got;
    text[length] = '\0';
    return text;
}

static const char *read_file(const char *path)
{
    int descriptor = open(path, O_RDONLY);
    if (descriptor < 0)
        return "";
    const char *text = read_descriptor(descriptor);
    close(descriptor);
    return text;
}

/* Waits until the file holds `wanted`; returns after how many ms. */
static uint64_t await_file(const char *path, const char *wanted)
{
    uint64_t began = clock_ms();
    while (strcmp(read_file(path), wanted) != 0) {
        assert_true(clock_ms() - began < PATIENCE_MS);
        pause_ms(1);
    }
    return clock_ms() - began;
}

/* Waits until the reports so far hold `wanted`. */
static void await_report(struct fixture *fixture, const char *wanted)
{
    static char reports[8192];
    uint64_t began = clock_ms();
    reports[0] = '\0';
    while (!strstr(reports, wanted)) {
        assert_true(clock_ms() - began < PATIENCE_MS);
        strncat(reports, read_descriptor(fixture->report_reader),
                sizeof(reports) - strlen(reports) - 1);
        pause_ms(1);
    }
}

static void file_is_made_private_and_appended_to(void **state)
{
    struct fixture *fixture = *state;
    struct stat status;
    mode_t mask = umask(022);
    assert_int_equal(start(fixture, 1), 0);
    assert_true(put(fixture, "one\n"));
    assert_true(put(fixture, "two\n"));
    assert_int_equal(weir__log_writer_stop(fixture->writer, 5000), 0);
    assert_int_equal(start(fixture, 1), 0);
    assert_true(put(fixture, "three\n"));
    assert_int_equal(weir__log_writer_stop(fixture->writer, 5000), 0);
    umask(mask);
    assert_string_equal(read_file(fixture->path), "one\ntwo\nthree\n");
    assert_int_equal(stat(fixture->path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0640);
    assert_string_equal(read_descriptor(fixture->report_reader), "");
}

static void lines_are_visible_soon(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(start(fixture, 1), 0);
    assert_true(put(fixture, "a\n"));
    await_file(fixture->path, "a\n");
    pause_ms(50); /* the thread is fast asleep now */
    assert_true(put(fixture, "b\n"));
    await_file(fixture->path, "a\nb\n");
    assert_true(put(fixture, "c\n")); /* it naps now */
    await_file(fixture->path, "a\nb\nc\n");
    assert_int_equal(weir__log_writer_stop(fixture->writer, 5000), 0);
}

#define THREADS          4
#define LINES_PER_THREAD 20000

struct producer {
    struct weir__log_ring *ring;
    unsigned number;
    unsigned dropped;
};

static void *produce(void *context)
{
    struct producer *producer = context;
    char line[64];
    for (unsigned i = 0; i < LINES_PER_THREAD; i++) {
        int length = snprintf(line, sizeof(line), "%u %u %.*s\n", producer->number, i,
                              (int)(i % 23), "abcdefghijklmnopqrstuvw");
        while (!weir__log_ring_put(producer->ring, line, (size_t)length)) {
            producer->dropped++;
            pause_ms(1);
        }
    }
    return NULL;
}

/* Many times around each ring: nothing is torn, doubled, lost or out of a ring's order. */
static void lines_of_several_threads_stay_whole(void **state)
{
    struct fixture *fixture = *state;
    struct producer producers[THREADS] = {0};
    pthread_t threads[THREADS];
    unsigned next[THREADS] = {0};
    uint64_t refused = 0;

    assert_int_equal(start(fixture, THREADS), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        producers[i] = (struct producer){weir__log_writer_ring(fixture->writer, i), i, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, produce, &producers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        refused += producers[i].dropped;
    }
    assert_int_equal(weir__log_writer_stop(fixture->writer, 10000), refused);

    const char *at = read_file(fixture->path);
    for (unsigned i = 0; i < THREADS * LINES_PER_THREAD; i++) {
        char wanted[64];
        unsigned number = (unsigned)(*at - '0');
        assert_true(number < THREADS);
        int length = snprintf(wanted, sizeof(wanted), "%u %u %.*s\n", number, next[number],
                              (int)(next[number] % 23), "abcdefghijklmnopqrstuvw");
        assert_memory_equal(at, wanted, (size_t)length);
        next[number]++;
        at += length;
    }
    assert_int_equal(*at, '\0');
}

/* 99 characters and a line's end, so that no power of two falls between two lines. */
static const char *long_line(unsigned number)
{
    static char line[101];
    snprintf(line, sizeof(line), "%08u %090d\n", number % 100000000u, 0);
    return line;
}

/* Puts numbered lines until the ring has refused `refused` of them; returns how many were put. */
static unsigned fill(struct fixture *fixture, unsigned refused)
{
    unsigned accepted = 0;
    uint64_t began = clock_ms();
    while (refused > 0) {
        assert_true(clock_ms() - began < PATIENCE_MS);
        if (put(fixture, long_line(accepted))) {
            accepted++;
        } else {
            refused--;
            pause_ms(20); /* time for the thread to move what the pipe still takes */
        }
    }
    return accepted;
}

/* A pipe that nobody reads costs lines, not time; they are counted, told once, and stop is bounded.
 */
static void slow_destination_never_blocks(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(mkfifo(fixture->path, 0600), 0);
    int reader = open(fixture->path, O_RDONLY | O_NONBLOCK);
    assert_true(reader >= 0);
    assert_int_equal(start(fixture, 1), 0);

    unsigned accepted = fill(fixture, 20);
    assert_int_equal(weir__log_writer_dropped(fixture->writer), 20);
    await_report(fixture, "lines dropped so far\n");
    assert_string_equal(read_descriptor(fixture->report_reader), "");

    uint64_t began = clock_ms();
    uint64_t lost = weir__log_writer_stop(fixture->writer, 100);
    assert_true(clock_ms() - began < PATIENCE_MS / 2);
    const char *text = read_descriptor(reader);
    size_t arrived = strlen(text) / 100;
    assert_int_equal(arrived + lost, accepted + 20);
    for (unsigned i = 0; i < arrived; i++)
        assert_memory_equal(text + 100 * i, long_line(i), 100);
    assert_non_null(strstr(read_descriptor(fixture->report_reader), "lines lost in all\n"));
    close(reader);
}

static void slow_destination_gets_all_when_it_reads_again(void **state)
{
    struct fixture *fixture = *state;
    static char got[TEXT_MAX];
    size_t length = 0;
    assert_int_equal(mkfifo(fixture->path, 0600), 0);
    int reader = open(fixture->path, O_RDONLY | O_NONBLOCK);
    assert_int_equal(start(fixture, 1), 0);
    unsigned accepted = fill(fixture, 10);
    for (uint64_t began = clock_ms(); length < accepted * 100;) {
        ssize_t count = read(reader, got + length, sizeof(got) - length);
        length += count > 0 ? (size_t)count : 0;
        assert_true(clock_ms() - began < PATIENCE_MS);
    }
    for (unsigned i = 0; i < accepted; i++)
        assert_memory_equal(got + 100 * i, long_line(i), 100);
    assert_int_equal(weir__log_writer_stop(fixture->writer, 5000), 10);
    close(reader);
}

static void reopen_makes_a_new_file(void **state)
{
    struct fixture *fixture = *state;
    char rotated[160];
    snprintf(rotated, sizeof(rotated), "%s.1", fixture->path);
    assert_int_equal(start(fixture, 1), 0);
    assert_true(put(fixture, "before\n"));
    await_file(fixture->path, "before\n");
    assert_int_equal(rename(fixture->path, rotated), 0);
    assert_true(put(fixture, "between\n"));
    await_file(rotated, "before\nbetween\n");
    weir__log_writer_reopen(fixture->writer);
    uint64_t began = clock_ms();
    while (access(fixture->path, F_OK) != 0)
        assert_true(clock_ms() - began < PATIENCE_MS);
    assert_true(put(fixture, "after\n"));
    assert_int_equal(weir__log_writer_stop(fixture->writer, 5000), 0);
    assert_string_equal(read_file(rotated), "before\nbetween\n");
    assert_string_equal(read_file(fixture->path), "after\n");
}

static void reopen_that_fails_keeps_the_old_file(void **state)
{
    struct fixture *fixture = *state;
    char moved[80], path[160];
    snprintf(moved, sizeof(moved), "%s.moved", fixture->folder);
    snprintf(path, sizeof(path), "%s/log", moved);
    assert_int_equal(start(fixture, 1), 0);
    assert_int_equal(rename(fixture->folder, moved), 0);
    weir__log_writer_reopen(fixture->writer);
    await_report(fixture, "/log: cannot reopen it: No such file or directory\n");
    assert_true(put(fixture, "still here\n"));
    assert_int_equal(weir__log_writer_stop(fixture->writer, 5000), 0);
    assert_string_equal(read_file(path), "still here\n");
    assert_int_equal(rename(moved, fixture->folder), 0);
}

/* Takes what the pipe holds until it holds one whole write of 4096 bytes; returns how much it took.
 */
static size_t take_until_full(int reader)
{
    static char taken_bytes[4096];
    size_t taken = 0;
    int held = 0;
    for (uint64_t began = clock_ms(); held < 4096;) {
        assert_true(clock_ms() - began < PATIENCE_MS);
        taken += (size_t)read(reader, taken_bytes, (size_t)held);
        pause_ms(5);
        assert_int_equal(ioctl(reader, FIONREAD, &held), 0);
    }
    return taken;
}

/* A pipe takes the beginning of a line and no more: the new file must not begin with its rest. */
static void reopen_in_mid_line_begins_with_a_whole_line(void **state)
{
    struct fixture *fixture = *state;
    static const char filler[4096] = {[0 ... 4095] = '#'};
    char fifo[160], file[160];
    snprintf(fifo, sizeof(fifo), "%s/fifo", fixture->folder);
    snprintf(file, sizeof(file), "%s/file", fixture->folder);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    int reader = open(fifo, O_RDWR | O_NONBLOCK);
    assert_int_equal(fcntl(reader, F_SETPIPE_SZ, 4096), 4096);
    assert_int_equal(write(reader, filler, sizeof(filler)), sizeof(filler));
    assert_int_equal(symlink(fifo, fixture->path), 0);
    assert_int_equal(start(fixture, 1), 0);
    unsigned accepted = fill(fixture, 10);
    char taken[sizeof(filler)];
    assert_int_equal(read(reader, taken, sizeof(taken)), sizeof(filler));
    size_t in_pipe = take_until_full(reader) + 4096;
    assert_int_not_equal(in_pipe % 100, 0);

    assert_int_equal(unlink(fixture->path), 0);
    assert_int_equal(symlink(file, fixture->path), 0);
    weir__log_writer_reopen(fixture->writer);
    assert_int_equal(weir__log_writer_stop(fixture->writer, 5000), 10 + 1);
    const char *text = read_file(file);
    assert_int_equal(strlen(text), 100 * (accepted - in_pipe / 100 - 1));
    assert_memory_equal(text, long_line((unsigned)(in_pipe / 100 + 1)), 100);
    close(reader);
}

static void full_disk_is_told_and_survived(void **state)
{
    struct fixture *fixture = *state;
    strcpy(fixture->path, "/dev/full");
    assert_int_equal(start(fixture, 1), 0);
    assert_true(put(fixture, "lost\n"));
    await_report(fixture, "weir: access log /dev/full: No space left on device\n");
    unsigned accepted = fill(fixture, 5);
    pause_ms(250); /* two more tries, at least */
    assert_null(strstr(read_descriptor(fixture->report_reader), "No space left"));
    assert_int_equal(weir__log_writer_stop(fixture->writer, 1000), 1 + accepted + 5);
    strcpy(fixture->path, "gone");
}

static void reader_that_leaves_is_told_and_survived(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(mkfifo(fixture->path, 0600), 0);
    int reader = open(fixture->path, O_RDONLY | O_NONBLOCK);
    assert_int_equal(start(fixture, 1), 0);
    close(reader);
    assert_true(put(fixture, "kept\n"));
    await_report(fixture, ": Broken pipe\n");
    reader = open(fixture->path, O_RDONLY | O_NONBLOCK);
    assert_int_equal(weir__log_writer_stop(fixture->writer, 5000), 0);
    assert_string_equal(read_descriptor(reader), "kept\n");
    close(reader);
}

static void standard_output_is_a_destination(void **state)
{
    struct fixture *fixture = *state;
    char path[128];
    strcpy(path, fixture->path);
    strcpy(fixture->path, "-");
    fflush(stdout);
    int kept = dup(STDOUT_FILENO);
    int file = open(path, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(dup2(file, STDOUT_FILENO), STDOUT_FILENO);
    int error = start(fixture, 1);
    bool taken = !error && put(fixture, "out\n");
    if (!error) {
        weir__log_writer_reopen(fixture->writer);
        weir__log_writer_stop(fixture->writer, 5000);
    }
    /* It was not ours to close. */
    ssize_t written = write(STDOUT_FILENO, "still open\n", 11);
    assert_int_equal(dup2(kept, STDOUT_FILENO), STDOUT_FILENO);
    close(kept);
    close(file);
    assert_true(taken);
    assert_int_equal(written, 11);
    assert_string_equal(read_file(path), "out\nstill open\n");
}

/* A pipe as standard output stays blocking, for it is shared: the thread must not be caught in a
 * write. */
static void standard_output_that_nobody_reads_never_blocks(void **state)
{
    struct fixture *fixture = *state;
    int ends[2];
    strcpy(fixture->path, "-");
    assert_int_equal(pipe(ends), 0);
    fflush(stdout);
    int kept = dup(STDOUT_FILENO);
    dup2(ends[1], STDOUT_FILENO);
    int error = start(fixture, 1);
    unsigned accepted = error ? 0 : fill(fixture, 10);
    uint64_t began = clock_ms();
    uint64_t lost = error ? 0 : weir__log_writer_stop(fixture->writer, 100);
    uint64_t took_ms = clock_ms() - began;
    dup2(kept, STDOUT_FILENO);
    close(kept);
    close(ends[1]);
    assert_int_equal(error, 0);
    assert_true(took_ms < PATIENCE_MS / 2);
    assert_int_equal(strlen(read_descriptor(ends[0])) / 100 + lost, accepted + 10);
    close(ends[0]);
}

static void destination_that_cannot_be_opened_is_told(void **state)
{
    struct fixture *fixture = *state;
    strcat(fixture->folder, "/none");
    snprintf(fixture->path, sizeof(fixture->path), "%s/log", fixture->folder);
    assert_int_equal(start(fixture, 1), WEIR_EIO);
    assert_non_null(
        strstr(read_descriptor(fixture->report_reader), ": No such file or directory\n"));
    fixture->folder[strlen(fixture->folder) - strlen("/none")] = '\0';
}

static void line_longer_than_the_ring_is_dropped(void **state)
{
    struct fixture *fixture = *state;
    static char line[RING_BYTES + 2];
    memset(line, 'x', sizeof(line));
    line[RING_BYTES] = '\n';
    assert_int_equal(start(fixture, 1), 0);
    struct weir__log_ring *ring = weir__log_writer_ring(fixture->writer, 0);
    assert_false(weir__log_ring_put(ring, line, RING_BYTES + 1));
    line[RING_BYTES - 1] = '\n';
    assert_true(weir__log_ring_put(ring, line, RING_BYTES));
    assert_int_equal(weir__log_writer_stop(fixture->writer, 5000), 1);
    assert_int_equal(strlen(read_file(fixture->path)), RING_BYTES);
}

static unsigned allocations_left;

static void *failing_allocate(size_t size)
{
    return allocations_left > 0 && allocations_left-- ? malloc(size) : NULL;
}

static void *failing_allocate_aligned(size_t alignment, size_t size)
{
    return allocations_left > 0 && allocations_left-- ? aligned_alloc(alignment, size) : NULL;
}

static void every_failing_allocation_is_survived(void **state)
{
    struct fixture *fixture = *state;
    const struct weir_memory failing = {failing_allocate, calloc, realloc, failing_allocate_aligned,
                                        free};
    const struct weir_memory usual = {malloc, calloc, realloc, aligned_alloc, free};
    int error = WEIR_ENOMEM;
    unsigned allocations = 0;
    assert_int_equal(weir_memory_replace(&failing), 0);
    for (; error == WEIR_ENOMEM && allocations < 100; allocations++) {
        allocations_left = allocations;
        error = start(fixture, 3);
    }
    weir_memory_replace(&usual);
    assert_int_equal(error, 0);
    assert_int_equal(allocations - 1, 5); /* the writer, the rings, and the bytes of three */
    assert_int_equal(weir__log_writer_stop(fixture->writer, 5000), 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(file_is_made_private_and_appended_to),
        TEST(lines_are_visible_soon),
        TEST(lines_of_several_threads_stay_whole),
        TEST(slow_destination_never_blocks),
        TEST(slow_destination_gets_all_when_it_reads_again),
        TEST(reopen_makes_a_new_file),
        TEST(reopen_that_fails_keeps_the_old_file),
        TEST(reopen_in_mid_line_begins_with_a_whole_line),
        TEST(full_disk_is_told_and_survived),
        TEST(reader_that_leaves_is_told_and_survived),
        TEST(standard_output_is_a_destination),
        TEST(standard_output_that_nobody_reads_never_blocks),
        TEST(destination_that_cannot_be_opened_is_told),
        TEST(line_longer_than_the_ring_is_dropped),
        TEST(every_failing_allocation_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
