/* SPDX-License-Identifier: Apache-2.0 */
#include "support/sim_wire.h"

#include <stdlib.h>
#include <string.h>

#include "core/tls_keys.h"
#include "support/tls_toy.h"

#define NOTES_MIN 1024u /* a power of two */
#define TAG       16u

/* ---- what was sealed, by its tag ---- */

struct note {
    uint64_t tag; /* its first 8 bytes; 0 = free */
    uint32_t length;
    uint8_t type, content[2];
};

static struct note *notes;
static size_t note_count, note_capacity;

static struct note *note_slot(uint64_t tag)
{
    size_t index = tag & (note_capacity - 1);

    while (notes[index].tag != 0 && notes[index].tag != tag)
        index = (index + 1) & (note_capacity - 1);
    return &notes[index];
}

static void notes_grow(void)
{
    struct note *old = notes;
    size_t old_capacity = note_capacity;

    note_capacity = old_capacity ? 2 * old_capacity : NOTES_MIN;
    notes = calloc(note_capacity, sizeof(*notes));
    if (!notes)
        abort();
    for (size_t i = 0; i < old_capacity; i++) {
        if (old[i].tag != 0)
            *note_slot(old[i].tag) = old[i];
    }
    free(old);
}

void wire_notes_clear(void)
{
    if (note_count > 0)
        memset(notes, 0, note_capacity * sizeof(*notes));
    note_count = 0;
}

/* TLS 1.3 has the type behind the content, TLS 1.2 in what is authenticated beside it. */
static int seal(struct weir__tls_aead *aead, const uint8_t *nonce, const uint8_t *additional,
                size_t additional_length, const struct iovec *parts, unsigned part_count,
                uint8_t *out)
{
    struct note note = {.length = 0};
    bool is_1_3 = additional_length == 5;
    /* TLS 1.3: the last byte of all, before what lies in its place is encrypted. */
    const struct iovec *last = &parts[part_count - 1];
    uint8_t inner_type = is_1_3 ? ((const uint8_t *)last->iov_base)[last->iov_len - 1] : 0;
    int error = weir__tls_toy.ciphers.aead_seal(aead, nonce, additional, additional_length, parts,
                                                part_count, out);

    for (unsigned i = 0; i < part_count; i++)
        note.length += (uint32_t)parts[i].iov_len;
    memcpy(&note.tag, out + note.length, sizeof(note.tag));
    if (is_1_3) {
        note.type = inner_type;
        note.length--;
    } else {
        note.type = additional[8];
    }
    /* What is no data comes in one part. */
    if (note.type != WEIR__TLS_APPLICATION_DATA && note.length >= 2)
        memcpy(note.content, parts[0].iov_base, 2);
    if (2 * note_count >= note_capacity)
        notes_grow();
    *note_slot(note.tag) = note;
    note_count++;
    return error;
}

const struct weir__tls_vendor *wire_vendor(void)
{
    static struct weir__tls_vendor vendor;

    vendor = weir__tls_toy;
    vendor.ciphers.aead_seal = seal;
    return &vendor;
}

/* ---- reading the wire ---- */

void wire_init(struct wire *wire, const struct weir__sim_flow *flow)
{
    *wire = (struct wire){
        .flow = flow,
        .closed_end = UINT64_MAX,
        .alert_end = UINT64_MAX,
        .tamper_at = UINT64_MAX,
        .tampered = UINT64_MAX,
    };
}

void wire_dispose(struct wire *wire)
{
    free(wire->records);
}

static void take_data(struct wire *wire, uint32_t length, uint64_t end)
{
    wire->quiet = 0;
    if (wire->record_count == wire->record_capacity) {
        wire->record_capacity = wire->record_capacity ? 2 * wire->record_capacity : 64;
        wire->records = realloc(wire->records, wire->record_capacity * sizeof(*wire->records));
        if (!wire->records)
            abort();
    }
    wire->records[wire->record_count++] = (struct wire_record){
        .plain_start = wire->plain,
        .plain_end = wire->plain + length,
        .start = wire->record_start,
        .end = end,
    };
    wire->plain += length;
}

/* A whole record that ends at `end`. Those of the handshake were not noted, and are nobody's data. */
static void take_record(struct wire *wire, uint64_t end)
{
    struct note note;
    uint64_t tag;

    memcpy(&tag, wire->tag, sizeof(tag));
    if (wire->body < TAG || note_capacity == 0 || tag == 0)
        return;
    note = *note_slot(tag);
    if (note.tag != tag)
        return;
    wire->of_key++;
    if (wire->of_key > wire->of_key_most)
        wire->of_key_most = wire->of_key;
    if (note.type == WEIR__TLS_APPLICATION_DATA && note.length > 0) {
        take_data(wire, note.length, end);
        return;
    }
    wire->quiet++;
    if (wire->quiet > wire->quiet_most)
        wire->quiet_most = wire->quiet;
    if (note.type == WEIR__TLS_HANDSHAKE && note.content[0] == 24) {
        wire->key_updates++;
        wire->of_key = 0;
    }
    if (note.type == WEIR__TLS_ALERT && note.content[0] == 2)
        wire->alert_end = end;
    if (note.type == WEIR__TLS_ALERT && note.content[1] == 0)
        wire->closed_end = end;
}

/* `length` bytes of a body, of which the last 16 are kept. */
static void take_body(struct wire *wire, const uint8_t *bytes, uint64_t length)
{
    uint64_t kept = length < TAG ? length : TAG;

    memmove(wire->tag, wire->tag + kept, TAG - kept);
    memcpy(wire->tag + TAG - kept, bytes + length - kept, kept);
    wire->body_left -= (uint32_t)length;
}

static void tamper(struct wire *wire, uint8_t *bytes, uint64_t length)
{
    uint64_t from = wire->bytes - length;

    if (wire->tamper_at < from || wire->tamper_at >= wire->bytes)
        return;
    bytes[wire->tamper_at - from] ^= (uint8_t)(1 + wire->tamper_at % 255);
    wire->changed = true;
}

void wire_read(struct wire *wire, uint8_t *bytes, uint64_t length)
{
    uint64_t begin = wire->bytes, done = 0;

    while (done < length) {
        uint64_t at = begin + done, step = length - done;
        uint64_t header_have = at - wire->record_start;
        if (wire->body_left == 0 && header_have < sizeof(wire->header)) {
            wire->header[header_have] = bytes[done++];
            /* The version of a record that is not encrypted means nothing (RFC 8446 section 5.1). */
            if (at == wire->tamper_at && header_have == 2)
                wire->tamper_at += 3;
            if (header_have + 1 == sizeof(wire->header))
                wire->body = wire->body_left = (uint32_t)wire->header[3] << 8 | wire->header[4];
        } else {
            step = step < wire->body_left ? step : wire->body_left;
            take_body(wire, bytes + done, step);
            done += step;
        }
        wire->bytes = begin + done;
        if (wire->tamper_at >= wire->record_start && wire->tamper_at < wire->bytes)
            wire->tampered = wire->record_start;
        if (wire->body_left == 0 && wire->bytes - wire->record_start >= sizeof(wire->header)) {
            take_record(wire, wire->bytes);
            wire->record_start = wire->bytes;
        }
    }
    tamper(wire, bytes, length);
}

/* ---- questions ---- */

/* The first record that ends behind `plain` of the owner's bytes, or `record_count`. */
static size_t record_behind(const struct wire *wire, uint64_t plain)
{
    size_t low = 0, high = wire->record_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (wire->records[middle].plain_end > plain)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

uint64_t wire_plain_at(const struct wire *wire, uint64_t offset)
{
    size_t low = 0, high;

    if (!wire)
        return offset;
    high = wire->record_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (wire->records[middle].end > offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low > 0 ? wire->records[low - 1].plain_end : 0;
}

uint64_t wire_end_of(const struct wire *wire, uint64_t plain)
{
    size_t index;

    if (!wire || plain == 0)
        return plain;
    index = record_behind(wire, plain - 1);
    return index < wire->record_count ? wire->records[index].end : UINT64_MAX;
}

/* Where the owner's byte at `plain`, or the end of the one before it, lies on the wire. */
static uint64_t position_of(const struct wire *wire, uint64_t plain, bool is_end)
{
    size_t index = record_behind(wire, is_end ? plain - 1 : plain);
    const struct wire_record *record = &wire->records[index];

    if (index == wire->record_count)
        return UINT64_MAX;
    if (is_end && plain == record->plain_end)
        return record->end;
    return record->start + (plain - record->plain_start);
}

uint64_t wire_start_of(const struct wire *wire, uint64_t plain)
{
    return wire ? position_of(wire, plain, false) : plain;
}

uint64_t wire_length_of(const struct wire *wire, uint64_t from, uint64_t to)
{
    if (!wire)
        return to - from;
    return position_of(wire, to, true) - position_of(wire, from, false);
}
