/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The input is a program that writes a stream of records: raw bytes, records sealed as they should
 * be, authentic ones with any content and padding, and damage to what is written. Its first byte
 * chooses version and cipher. The stream is cut into records and opened, at once and in pieces: what
 * comes out is the same, and is what a record may hold.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/fuzz_input.h"
#include "support/pieces.h"
#include "support/tls_craft.h"
#include "support/tls_toy.h"

#define STREAM_MAX (128 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- the program ---- */

enum step {
    STEP_RAW,      /* count, bytes */
    STEP_SEAL,     /* type, count, bytes */
    STEP_LONG,     /* count of 2 bytes: so much content */
    STEP_CRAFT,    /* type, count, bytes, count of 2 bytes: so many zeros */
    STEP_FLIP,     /* distance from the end in 2 bytes, mask */
    STEP_CUT,      /* count: so many bytes less at the end */
    STEP_SEQUENCE, /* a record is sealed as if there had been so many more, or less, before it */
    STEPS,
};

struct program {
    struct fuzz_input input;
    struct weir__tls_protector seal;
    uint8_t stream[STREAM_MAX];
    size_t length;
};

static void step_seal(struct program *program, uint8_t type, const uint8_t *content, size_t length)
{
    const struct iovec part = {(void *)(uintptr_t)content, length};
    enum weir__tls_content as = WEIR__TLS_APPLICATION_DATA;

    if (length > 0 && type % 3 != 0)
        as = type % 3 == 1 ? WEIR__TLS_ALERT : WEIR__TLS_HANDSHAKE;
    int64_t sealed =
        weir__tls_seal(&program->seal, as, &part, 1, program->stream + program->length);
    if (sealed > 0)
        program->length += (size_t)sealed;
}

static void step_craft(struct program *program, uint8_t type)
{
    bool is_1_3 = program->seal.keys.version == WEIR__TLS_1_3;
    uint8_t content[WEIR__TLS_PLAIN_MAX + WEIR__TLS_EXPAND_MAX - 24] = {0};
    size_t length = take_bytes(&program->input, take_byte(&program->input), content);

    length += take_number(&program->input, sizeof(content) - length);
    /* In TLS 1.3 only two of 256 have another outer type. */
    if (is_1_3 && type < 254)
        type = WEIR__TLS_APPLICATION_DATA;
    program->length +=
        tls_craft_record(&program->seal, type, content, length, program->stream + program->length);
    program->seal.keys.sequence++;
}

static void step_run(struct program *program)
{
    uint8_t content[WEIR__TLS_PLAIN_MAX] = "content";
    uint8_t type;
    size_t at;

    switch (take_byte(&program->input) % STEPS) {
    case STEP_RAW:
        program->length += take_bytes(&program->input, take_byte(&program->input),
                                      program->stream + program->length);
        break;
    case STEP_SEAL:
        type = take_byte(&program->input);
        step_seal(program, type, content,
                  take_bytes(&program->input, take_byte(&program->input), content));
        break;
    case STEP_LONG:
        step_seal(program, 0, content, take_number(&program->input, sizeof(content) + 1));
        break;
    case STEP_CRAFT:
        step_craft(program, take_byte(&program->input));
        break;
    case STEP_FLIP:
        at = take_number(&program->input, 65536);
        if (at < program->length)
            program->stream[program->length - 1 - at] ^= take_byte(&program->input);
        break;
    case STEP_CUT:
        at = take_byte(&program->input);
        program->length -= at < program->length ? at : program->length;
        break;
    case STEP_SEQUENCE:
        program->seal.keys.sequence += (uint64_t)(int8_t)take_byte(&program->input);
        break;
    }
}

/* ---- what becomes of the stream ---- */

struct outcome {
    uint64_t hash; /* of all that was opened */
    unsigned opened;
    int end;     /* 0, or the alert */
    size_t left; /* of the stream, when it ended */
};

static void check(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static int record_open(struct weir__tls_protector *open, const uint8_t *record, size_t length,
                       struct outcome *outcome)
{
    static uint8_t room[WEIR__TLS_PLAIN_MAX + WEIR__TLS_EXPAND_MAX];
    struct weir__tls_opened opened;
    uint64_t sequence = open->keys.sequence;
    int alert = weir__tls_open(open, record, length, room, &opened);

    check(alert >= 0, "an alert is positive");
    check(open->keys.sequence == sequence + (alert == 0), "the sequence counts what was opened");
    if (alert)
        return alert;
    check(opened.type >= WEIR__TLS_ALERT && opened.type <= WEIR__TLS_APPLICATION_DATA, "the type");
    check(opened.length <= WEIR__TLS_PLAIN_MAX, "the content's length");
    check(opened.length > 0 || opened.type == WEIR__TLS_APPLICATION_DATA, "an empty record");
    check(opened.data >= room && opened.data + opened.length <= room + sizeof(room), "the room");
    outcome->opened++;
    outcome->hash ^= pieces_seed(opened.data, opened.length) + opened.type;
    outcome->hash *= 1099511628211u;
    return 0;
}

/* Returns false when the connection is to end. */
static bool piece_feed(struct weir__tls_framer *framer, struct weir__tls_protector *open,
                       const uint8_t *bytes, size_t length, struct outcome *outcome)
{
    const uint8_t *record;
    size_t record_length;
    int result;

    while ((result = weir__tls_framer_next(framer, open->keys.version, &bytes, &length, &record,
                                           &record_length)) == 1) {
        outcome->end = record_open(open, record, record_length, outcome);
        if (outcome->end)
            return false;
    }
    check(framer->kept_size <= WEIR__TLS_RECORD_MAX, "what is kept has a bound");
    outcome->end = -result;
    check(result < 0 || length == 0, "all is used up");
    return result == 0;
}

static struct outcome stream_read(const struct weir__tls_keys *keys, const uint8_t *stream,
                                  const size_t *ends, size_t count)
{
    struct outcome outcome = {.hash = 1};
    struct weir__tls_framer framer;
    struct weir__tls_protector open;
    size_t from = 0;
    bool go_on = true;

    check(weir__tls_protector_init(&open, &weir__tls_toy.ciphers, keys, false) == 0, "memory");
    weir__tls_framer_init(&framer);
    for (size_t i = 0; go_on && i < count; i++) {
        size_t length = ends[i] - from;
        uint8_t *piece = malloc(length + 1); /* its own, for the sanitizers to see its end */
        check(piece != NULL, "memory");
        memcpy(piece + 1, stream + from, length);
        go_on = piece_feed(&framer, &open, piece + 1, length, &outcome);
        free(piece);
        from = ends[i];
    }
    outcome.left = framer.kept_length * (outcome.end == 0);
    weir__tls_framer_dispose(&framer);
    weir__tls_protector_dispose(&open);
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct program program;
    struct weir__tls_keys keys = {.iv = "weir's nonce", .key = "a key of 32 bytes, or of its 16"};
    uint64_t seed = pieces_seed(data, size);

    program.input.bytes = data;
    program.input.left = size;
    program.length = 0;
    uint8_t mode = take_byte(&program.input);
    keys.version = mode % 2 ? WEIR__TLS_1_2 : WEIR__TLS_1_3;
    keys.cipher = WEIR__TLS_AES_128_GCM + mode / 2 % 3;
    check(weir__tls_protector_init(&program.seal, &weir__tls_toy.ciphers, &keys, true) == 0,
          "memory");
    while (program.input.left > 0 && program.length <= STREAM_MAX - WEIR__TLS_RECORD_MAX)
        step_run(&program);
    weir__tls_protector_dispose(&program.seal);

    struct outcome whole = stream_read(&keys, program.stream, &program.length, 1);
    for (unsigned round = 0; round < 2; round++) {
        size_t ends[PIECES_MAX];
        size_t count = pieces_make(&seed, program.length, ends);
        struct outcome split = stream_read(&keys, program.stream, ends, count);
        check(split.hash == whole.hash && split.opened == whole.opened && split.end == whole.end &&
                  split.left == whole.left,
              "the pieces change the outcome");
    }
    return 0;
}
