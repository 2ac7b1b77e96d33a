/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TESTS_SIM_WIRE_H
#define WEIR_TESTS_SIM_WIRE_H

/*
 * What one direction of a simulated connection carries, read off the wire: where each TLS record lies and
 * how much of the owner's data is in it. That is what the model judges by. It takes nothing from the code
 * under test: lengths come from the records' headers, and what is inside from the toy library, which noted
 * each record when it sealed it. The note is found by the record's tag.
 */

#include <stdbool.h>
#include <stdint.h>

#include "engine/sim.h"
#include "tls/vendor.h"

/* A record of data. */
struct wire_record {
    uint64_t plain_start, plain_end; /* of the owner's bytes */
    uint64_t start, end;             /* of the wire */
};

struct wire {
    const struct weir__sim_flow *flow;
    uint64_t bytes; /* seen */
    uint64_t record_start;
    uint8_t header[5], tag[16];
    uint32_t body, body_left; /* of the record that is being read, without its header */
    uint64_t plain;           /* the owner's bytes in whole records */
    struct wire_record *records;
    size_t record_count, record_capacity;
    uint64_t closed_end; /* of the record with close_notify; UINT64_MAX = there is none */
    uint64_t alert_end;  /* of one with a fatal alert */
    unsigned key_updates;
    uint64_t of_key, of_key_most; /* records with one key */
    unsigned quiet, quiet_most;   /* records in a row without data, behind the handshake */
    uint64_t tamper_at,
        tampered; /* the offset that is to be changed, and the record where it was */
    bool changed;
};

/* The toy library, which notes what it seals. */
const struct weir__tls_vendor *wire_vendor(void);
/* Forgets all notes. */
void wire_notes_clear(void);

void wire_init(struct wire *wire, const struct weir__sim_flow *flow);
void wire_dispose(struct wire *wire);
/* The next bytes of the direction; changes one, at `tamper_at`. */
void wire_read(struct wire *wire, uint8_t *bytes, uint64_t length);

/* A connection without TLS has no `wire`: then offsets are the same. */
/* How many of the owner's bytes are in records that end at or before `offset` of the wire. */
uint64_t wire_plain_at(const struct wire *wire, uint64_t offset);
/* Where the record with the owner's byte before `plain` ends; UINT64_MAX: there is none yet. */
uint64_t wire_end_of(const struct wire *wire, uint64_t plain);
/* Where the owner's byte at `plain` is, or the record that begins with it; UINT64_MAX: nowhere yet. */
uint64_t wire_start_of(const struct wire *wire, uint64_t plain);
/* What the owner's bytes from `from` to `to` take of the wire: a record's overhead is with its last byte. */
uint64_t wire_length_of(const struct wire *wire, uint64_t from, uint64_t to);

#endif
