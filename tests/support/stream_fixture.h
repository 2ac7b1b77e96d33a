/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TESTS_STREAM_FIXTURE_H
#define WEIR_TESTS_STREAM_FIXTURE_H

/*
 * What the tests of streams share: a loop on each engine, with a listener and both ends of a connection
 * on it, and records that check the rules of weir/stream.h at every callback.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <weir/weir.h>

#define END_BYTES_MAX (4u << 20)
#define SENDS_MAX     256

struct stream_fixture;

/* One end of a connection, and all that it was told. */
struct end {
    struct stream_fixture *f;
    struct weir_stream *stream; /* NULL before it is open and once it is closed */
    unsigned opens, ends, closes;
    int reason;
    char failure[96]; /* weir_tls_failure at the end */
    uint8_t *bytes;
    size_t length;
    bool echo;       /* answers what it gets */
    bool stop_after; /* stops reading with each callback */
};

/* One write, and what it was told. */
struct send {
    struct stream_fixture *f;
    unsigned asked;
    unsigned told;     /* stages, in bits */
    unsigned failures; /* FAILED came so often: at most once */
    uint64_t at_ns[WEIR_STAGE_FAILED + 1];
    uint64_t first_byte_ns, bytes, accepted_bytes, wire_bytes;
    enum weir_delivery_source source;
    unsigned ways;
    int error;
};

struct stream_fixture {
    const char *engine;
    const struct stream_tls *tls;                   /* NULL: plain */
    struct weir_tls_options tls_server, tls_client; /* change before fixture_connect */
    struct weir_tls_context *server_context, *client_context;
    const char *server_name; /* the client's; "localhost" */
    struct weir_loop *loop;
    struct weir_listener *listener;
    struct weir_address address;
    struct weir_stream_options options; /* of both ends; change before fixture_connect */
    struct end server, client;
    unsigned accepts, accept_errors;
    bool in_call; /* of the test's: no callback may run */
    bool passed;
};

/* What stands between the ends' bytes and the wire's. */
struct stream_tls {
    const char *name;
    const char *server, *client; /* vendors */
    enum weir_tls_version version;
    enum weir_tls_kernel kernel;
    enum weir_tls_cipher_source cipher_source; /* the server's; the client has the default */
    const char *engine;                        /* on this one only; NULL: on all */
};

typedef void (*stream_test_fn)(struct stream_fixture *f);

struct stream_test {
    const char *name;
    stream_test_fn run;
    bool delivery_off;
    uint64_t held_bytes_max; /* 0: the default */
    enum weir_zerocopy zerocopy;
    uint64_t pinned_bytes_max; /* 0: the default */
    bool kernel;               /* makes sense on real sockets only */
    bool plain;                /* makes sense without TLS only */
};

/*
 * Runs each test on each engine, the simulated one too, plain if `tls` is NULL, or once for each of `tls`;
 * returns how many failed.
 */
int stream_suite_run(const char *suite, const struct stream_test *tests, size_t count,
                     const struct stream_tls *tls, size_t tls_count);
/* The tests that hold for every stream. */
extern const struct stream_test stream_tests[];
extern const size_t stream_test_count;

/* Files of a certificate for `name` and its key, made once; valid until the program ends. */
struct weir_tls_certificate fixture_certificate(const char *name);

/* Whether this kernel has TLS. */
bool fixture_kernel_has_tls(void);
/* Listens, and makes the contexts of TLS. */
void fixture_listen(struct stream_fixture *f);
/* What tells an end, for streams that a test opens itself. */
const struct weir_stream_handler *fixture_handler(void);
/* Opens a connection and starts reading on both ends. */
void fixture_connect(struct stream_fixture *f);
/* Forgets both ends, which are closed, for another connection to the same listener. */
void fixture_reset(struct stream_fixture *f);
/* weir_stream_connect to the listener. */
int fixture_open_client(struct stream_fixture *f);
/* Runs the loop until `*value` is at least `wanted`; fails the test if that takes too long. */
void fixture_await(struct stream_fixture *f, const unsigned *value, unsigned wanted);
void fixture_await_bytes(struct stream_fixture *f, const struct end *end, size_t length);
void fixture_await_stage(struct stream_fixture *f, const struct send *send, enum weir_stage stage);
/* Runs the loop for so long, on its own clock. */
void fixture_pass(struct stream_fixture *f, unsigned ms);

/* weir_stream_write of one part with all stages asked for. `send` may be NULL: then none is. */
int fixture_write(struct end *end, struct send *send, const void *bytes, size_t length);
void send_init(struct send *send, struct stream_fixture *f, unsigned stages);
void send_on_stage(struct weir_stream *stream, void *context, const struct weir_write_event *event);

/* A descriptor of an unnamed file of so many bytes, pattern_byte of their offsets. */
int stream_file(size_t length);
uint8_t pattern_byte(size_t offset);
extern uint8_t stream_pattern[2u << 20]; /* pattern_byte of each offset */
void assert_pattern(const uint8_t *bytes, size_t offset, size_t length);

#define ALL_STAGES                                                                                 \
    (WEIR_STAGE_ACCEPTED | WEIR_STAGE_RELEASED | WEIR_STAGE_SENT | WEIR_STAGE_DELIVERED)

#endif
