/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A whole TLS session of the toy library. The input's first byte chooses version, cipher, tickets and which
 * end is looked at; the next three damage the peer's half of the handshake. What follows is a program that
 * writes what the peer sends behind the handshake: raw bytes, authentic records of any type and content,
 * KeyUpdates, and damage. The end takes it at once and in pieces: the same happens, and the bounds hold.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <weir/error.h>

#include "support/fuzz_input.h"
#include "support/pieces.h"
#include "support/tls_session_end.h"
#include "support/tls_toy.h"

#define STREAM_MAX (96 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum step {
    STEP_RAW,    /* count, bytes */
    STEP_RECORD, /* type, count, bytes */
    STEP_LONG,   /* count of 2 bytes: so much data */
    STEP_REPEAT, /* type, times, count, bytes: the same record again and again */
    STEP_UPDATE, /* a KeyUpdate, and the new keys; asks for the other's with an odd byte */
    STEP_FLIP,   /* distance from the end in 2 bytes, mask */
    STEP_CUT,    /* count: so many bytes less at the end */
    STEPS,
};

struct program {
    struct fuzz_input input;
    struct session_end *peer;
    uint8_t stream[STREAM_MAX];
    size_t length;
};

static void check(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

/* ---- what the peer writes ---- */

static void write_record(struct program *program, uint8_t type, const uint8_t *content,
                         size_t length)
{
    static const uint8_t likely[] = {20, 21, 22, 23};

    if (program->length > STREAM_MAX - WEIR__TLS_RECORD_MAX)
        return;
    if (type < 252)
        type = likely[type % 4];
    program->length +=
        session_end_craft(program->peer, type, content, length, program->stream + program->length);
}

static void write_update(struct program *program)
{
    const uint8_t message[] = {24, 0, 0, 1, take_byte(&program->input) & 1};
    struct weir__tls_keys keys;

    write_record(program, 2, message, sizeof(message));
    if (program->peer->session.secret_length > 0)
        check(weir__tls_session_next_tx(&program->peer->session, &keys) == 0, "new keys");
}

static void step_run(struct program *program)
{
    uint8_t content[WEIR__TLS_PLAIN_MAX] = "content";
    size_t length;
    uint8_t type;

    switch (take_byte(&program->input) % STEPS) {
    case STEP_RAW:
        program->length += take_bytes(&program->input, take_byte(&program->input),
                                      program->stream + program->length);
        break;
    case STEP_RECORD:
        type = take_byte(&program->input);
        write_record(program, type, content,
                     take_bytes(&program->input, take_byte(&program->input), content));
        break;
    case STEP_LONG:
        write_record(program, 3, content, take_number(&program->input, sizeof(content) + 1));
        break;
    case STEP_REPEAT:
        type = take_byte(&program->input);
        unsigned times = take_byte(&program->input) % 64;
        length = take_bytes(&program->input, take_byte(&program->input) % 16, content);
        for (; times > 0; times--)
            write_record(program, type, content, length);
        break;
    case STEP_UPDATE:
        write_update(program);
        break;
    case STEP_FLIP:
        length = take_number(&program->input, 65536);
        if (length < program->length)
            program->stream[program->length - 1 - length] ^= take_byte(&program->input);
        break;
    case STEP_CUT:
        length = take_byte(&program->input);
        program->length -= length < program->length ? length : program->length;
        break;
    }
}

/* ---- the handshake ---- */

struct setup {
    struct session_options options;
    bool server;      /* the end that is looked at */
    size_t damage_at; /* of what its peer sends in the handshake */
    uint8_t damage;
};

static struct session_end ends[2]; /* the client, the server */

/* Hands over what `from` has sent, damaged where that is asked for. */
static int pass_on(const struct setup *setup, struct session_end *to, struct session_end *from)
{
    bool damaged = (to == &ends[1]) == setup->server;

    if (damaged && setup->damage_at >= from->wire_read && setup->damage_at < from->wire_length)
        from->wire[setup->damage_at] ^= setup->damage;
    return session_end_feed(to, from);
}

/* Returns whether both ends are open. */
static bool connect(const struct setup *setup)
{
    int error = 0;

    tls_toy_seed(1);
    check(session_end_init(&ends[0], false, &setup->options) == 0, "a client");
    check(session_end_init(&ends[1], true, &setup->options) == 0, "a server");
    error = weir__tls_session_start(&ends[0].session);
    while (!error &&
           (ends[0].wire_read < ends[0].wire_length || ends[1].wire_read < ends[1].wire_length)) {
        error = pass_on(setup, &ends[1], &ends[0]);
        if (!error)
            error = pass_on(setup, &ends[0], &ends[1]);
    }
    check(error == 0 || error == WEIR_ETLS, "a handshake ends well or with WEIR_ETLS");
    return !error && ends[0].session.open && ends[1].session.open;
}

static void disconnect(void)
{
    session_end_dispose(&ends[0]);
    session_end_dispose(&ends[1]);
}

/* ---- what the end makes of it ---- */

struct outcome {
    char log[SESSION_LOG_MAX];
    uint64_t data_bytes, data_hash;
    unsigned events;
    int error;
};

static void check_bounds(const struct session_end *end)
{
    const struct weir__tls_session *session = &end->session;

    check(session->quiet_records <= WEIR__TLS_QUIET_RECORDS_MAX, "quiet records have a bound");
    check(session->key_updates <= WEIR__TLS_KEY_UPDATES_MAX, "key updates have a bound");
    check(session->skip_bytes <= WEIR__TLS_HANDSHAKE_BYTES_MAX, "a message has a bound");
    check(session->credit_bytes < WEIR__TLS_KEY_UPDATE_CREDIT, "a credit is given");
    check(!session->user || session->user->framer.kept_size <= WEIR__TLS_RECORD_MAX,
          "what is kept has a bound");
    check(session->failed == (session->failure != NULL), "a failure has a reason");
}

static struct outcome read_stream(struct session_end *end, const uint8_t *stream,
                                  const size_t *pieces, size_t count)
{
    static uint8_t room[WEIR__TLS_PLAIN_MAX + WEIR__TLS_EXPAND_MAX];
    struct outcome outcome = {.error = 0};
    size_t from = 0;

    session_end_log(end);
    end->events = 0;
    for (size_t i = 0; i < count && !outcome.error; i++) {
        size_t length = pieces[i] - from;
        uint8_t *piece = malloc(length + 1); /* its own, for the sanitizers to see its end */
        check(piece != NULL, "memory");
        memcpy(piece + 1, stream + from, length);
        outcome.error = weir__tls_session_receive(&end->session, piece + 1, length, room);
        free(piece);
        from = pieces[i];
        check_bounds(end);
    }
    check(outcome.error == 0 || outcome.error == WEIR_ETLS, "a stream ends well or with WEIR_ETLS");
    check((outcome.error != 0) == end->session.failed, "an error is a failure");
    snprintf(outcome.log, sizeof(outcome.log), "%s", session_end_log(end));
    outcome.data_bytes = end->data_bytes;
    outcome.data_hash = end->data_hash;
    outcome.events = end->events;
    return outcome;
}

static void check_equal(const struct outcome *one, const struct outcome *other)
{
    check(one->error == other->error, "the pieces change the error");
    check(one->events == other->events && strcmp(one->log, other->log) == 0,
          "the pieces change what happens");
    check(one->data_bytes == other->data_bytes && one->data_hash == other->data_hash,
          "the pieces change the data");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct program program;
    uint64_t seed = pieces_seed(data, size);
    struct setup setup;

    program.input.bytes = data;
    program.input.left = size;
    program.length = 0;
    uint8_t mode = take_byte(&program.input);
    setup.options.version = mode & 1 ? WEIR__TLS_1_2 : WEIR__TLS_1_3;
    setup.options.tickets = mode >> 1 & 1;
    setup.server = mode >> 2 & 1;
    setup.options.cipher = (enum weir__tls_cipher)(WEIR__TLS_AES_128_GCM + (mode >> 3) % 3);
    setup.damage_at = take_number(&program.input, 4096);
    setup.damage = take_byte(&program.input);
    struct session_end *end = &ends[setup.server], *peer = &ends[!setup.server];
    if (!connect(&setup)) {
        disconnect();
        return 0;
    }
    program.peer = peer;
    while (program.input.left > 0 && program.length <= STREAM_MAX - WEIR__TLS_RECORD_MAX)
        step_run(&program);

    struct outcome whole = read_stream(end, program.stream, &program.length, 1);
    disconnect();
    for (unsigned round = 0; round < 2; round++) {
        size_t pieces[PIECES_MAX];
        size_t count = pieces_make(&seed, program.length, pieces);
        check(connect(&setup), "the same handshake");
        struct outcome split = read_stream(end, program.stream, pieces, count);
        check_equal(&whole, &split);
        disconnect();
    }
    return 0;
}
