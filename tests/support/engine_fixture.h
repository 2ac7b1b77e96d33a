/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TESTS_ENGINE_FIXTURE_H
#define WEIR_TESTS_ENGINE_FIXTURE_H

/*
 * What the engines' conformance tests share: the table of engines, an open engine for each test,
 * and records of operations that check the rules of engine.h at every completion.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <weir/address.h>
#include <weir/error.h>

#include "engine/engine.h"

struct engine_entry {
    const char *name;
    const struct weir__engine_ops *ops;
    /* NULL: ops->open. */
    int (*open)(struct weir__engine **engine, const struct weir__engine_options *options);
    bool kernel; /* handles are descriptors of real sockets, time is real */
    /* In how many waits a byte must be told while another socket is busy; 0: the usual few. */
    unsigned waits_behind_busy;
};

struct engine_fixture {
    const struct engine_entry *entry;
    const struct weir__engine_ops *ops;
    struct weir__engine *engine; /* NULL: cannot be had here */
    int open_result;
    bool in_wait, in_call;
    bool passed;
};

typedef void (*engine_test_fn)(struct engine_fixture *f);

struct engine_test {
    const char *name;
    engine_test_fn run;
    bool kernel; /* makes sense on real sockets only */
};

/* Runs each test on each engine; returns main's exit code. */
int engine_suite_run(const char *suite, const struct engine_test *tests, size_t count);

/* Prints "SKIP: <engine>: <reason>" and leaves the test. */
void engine_skip(const struct engine_fixture *f, const char *reason);

#define RECORD_STAMPS_MAX  1024
#define RECORD_HANDLES_MAX 64

/* An operation, and all that it completed with. */
struct record {
    struct weir__op op;
    struct engine_fixture *f;
    unsigned more_count;
    unsigned final_count; /* since the last submit: 0 or 1 */
    unsigned finals;      /* in all */
    int64_t result;       /* of the last final completion */
    uint8_t *bytes;       /* RECEIVE; NULL: only counted */
    size_t length, room;
    int handles[RECORD_HANDLES_MAX]; /* ACCEPT */
    unsigned handle_count;
    struct weir__stamp stamps[RECORD_STAMPS_MAX]; /* WATCH */
    unsigned stamp_count;
    struct iovec part;       /* SEND of one part */
    uint64_t received_at_ns; /* RECEIVE: the first stamp */
    void (*hook)(struct record *record, const struct weir__completion *completion);
    void *context;
};

void record_init(struct record *record, struct engine_fixture *f, enum weir__op_kind kind,
                 struct weir__socket *socket);
/* The engine's submit and cancel; a completion inside them fails the test. */
void record_submit(struct record *record);
void record_cancel(struct record *record);
/* Submits a SEND of one part. */
void record_send(struct record *record, const void *bytes, size_t length, unsigned flags);

/* A pin, and how it was released; checks rule 7 at that. */
struct pin {
    struct weir__pin pin;
    struct record *send;  /* that brought it */
    unsigned send_finals; /* of it, the one that this pin's send has */
    unsigned released;
    enum weir__pin_result result;
    unsigned *released_count; /* counts, if not NULL */
    bool scribble;            /* writes over the memory at once when released; of one part */
    void *memory;
    size_t bytes;
};

void pin_init(struct pin *pin);
/* Submits a SEND of one part, or of several, that brings the pin. */
void record_send_pinned(struct record *record, void *bytes, size_t length, unsigned flags,
                        struct pin *pin);
void record_send_parts_pinned(struct record *record, struct iovec *parts, unsigned part_count,
                              unsigned flags, struct pin *pin);
void record_send_file(struct record *record, int file, uint64_t offset, uint64_t length,
                      unsigned flags);
/* Submits a SEND or SEND_FILE and the rest of it until all is taken. */
void record_send_all(struct record *record, const void *bytes, size_t length, unsigned flags);
void record_send_file_all(struct record *record, int file, uint64_t offset, uint64_t length,
                          unsigned flags);
/* Waits for the final completion and returns its result. Fails the test after ten seconds. */
int64_t record_finish(struct record *record);
void record_cancel_and_finish(struct record *record);
/* Waits until `*counter` is at least `wanted`. */
void wait_until(struct engine_fixture *f, const unsigned *counter, unsigned wanted);
void wait_until_length(struct engine_fixture *f, const size_t *length, size_t wanted);
/* Waits for `ns` and for all that happens meanwhile. */
void wait_for(struct engine_fixture *f, uint64_t ns);
/* Processor time of this thread: an engine that waits uses next to none. */
uint64_t thread_time_ns(void);
/* Whether the stamp is among those that came. */
bool record_has_stamp(const struct record *record, enum weir__stamp_kind kind, uint32_t key);
void wait_until_stamp(const struct record *record, enum weir__stamp_kind kind, uint32_t key);

/* A connection between two sockets of the engine. */
struct pair {
    struct engine_fixture *f;
    struct weir__socket listener, client, server;
    struct weir_address address; /* the listener's */
};

void listener_open(struct engine_fixture *f, struct weir__socket *listener,
                   struct weir_address *address);
void pair_open(struct pair *pair, struct engine_fixture *f, bool delivery);
/* Closes what is open of it. */
void pair_close(struct pair *pair);
void socket_close_if_open(struct engine_fixture *f, struct weir__socket *socket);

/* The lowest free descriptor: with the limit there, none can be made. */
int descriptor_next(void);

/* Bytes of which none is easily mistaken for another. */
void pattern_fill(uint8_t *bytes, size_t length, size_t offset);
/* A temporary file with the pattern in it; unlinked. */
int pattern_file(size_t length);

#endif
