/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/record.h"

#include <assert.h>
#include <string.h>

#include <weir/error.h>

#include "core/memory.h"

/* sequence, type, version and length (RFC 5246 section 6.2.3.3); TLS 1.3 has the header alone. */
#define ADDITIONAL_MAX 13

/*
 * The least that is allocated for a part of a record. It then doubles, up to the record's length: a
 * peer that announces a full record and sends six bytes of it holds 512 bytes, not 16 KiB, and one
 * that sends byte by byte costs six copies.
 */
#define KEPT_MIN 512

static void write_16(uint8_t *out, size_t value)
{
    out[0] = (uint8_t)(value >> 8);
    out[1] = (uint8_t)value;
}

static void write_64(uint8_t *out, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++)
        out[i] = (uint8_t)(value >> (56 - 8 * i));
}

/* ---- one direction ---- */

int weir__tls_protector_init(struct weir__tls_protector *protector,
                             const struct weir__tls_ciphers *ciphers,
                             const struct weir__tls_keys *keys, bool seal)
{
    assert(keys->version == WEIR__TLS_1_2 || keys->version == WEIR__TLS_1_3);
    assert(keys->cipher != WEIR__TLS_CIPHER_NONE);
    protector->ciphers = ciphers;
    protector->aead = NULL;
    protector->keys = *keys;
    int error = ciphers->aead_new(&protector->aead, keys->cipher, keys->key, seal);
    if (error) {
        protector->aead = NULL;
        weir__tls_protector_dispose(protector);
    }
    return error;
}

void weir__tls_protector_dispose(struct weir__tls_protector *protector)
{
    if (protector->aead)
        protector->ciphers->aead_free(protector->aead);
    weir__tls_wipe(protector, sizeof(*protector));
}

/* Whether each record says 8 bytes of its nonce. */
static bool has_explicit_nonce(const struct weir__tls_keys *keys)
{
    return keys->version == WEIR__TLS_1_2 && keys->cipher != WEIR__TLS_CHACHA20_POLY1305;
}

size_t weir__tls_content_offset(const struct weir__tls_keys *keys)
{
    return WEIR__TLS_HEADER + (has_explicit_nonce(keys) ? WEIR__TLS_EXPLICIT_NONCE : 0);
}

size_t weir__tls_overhead(const struct weir__tls_keys *keys)
{
    size_t type_bytes = keys->version == WEIR__TLS_1_3 ? 1 : 0;
    return weir__tls_content_offset(keys) + type_bytes + WEIR__TLS_TAG;
}

/* `record` has its explicit nonce, if it is to have one. */
static void nonce_make(const struct weir__tls_keys *keys, const uint8_t *record,
                       uint8_t nonce[WEIR__TLS_NONCE])
{
    if (has_explicit_nonce(keys)) {
        memcpy(nonce, keys->iv, WEIR__TLS_SALT);
        memcpy(nonce + WEIR__TLS_SALT, record + WEIR__TLS_HEADER, WEIR__TLS_EXPLICIT_NONCE);
        return;
    }
    /* RFC 8446 section 5.3, RFC 7905 section 2: the sequence, to the right, xor the mask. */
    uint8_t sequence[8];
    write_64(sequence, keys->sequence);
    memcpy(nonce, keys->iv, WEIR__TLS_NONCE);
    for (unsigned i = 0; i < 8; i++)
        nonce[WEIR__TLS_NONCE - 8 + i] ^= sequence[i];
}

/* `content_length` is that of TLS 1.2's plaintext. Returns the length. */
static size_t additional_make(const struct weir__tls_keys *keys, const uint8_t *record,
                              size_t content_length, uint8_t additional[ADDITIONAL_MAX])
{
    if (keys->version == WEIR__TLS_1_3) {
        memcpy(additional, record, WEIR__TLS_HEADER);
        return WEIR__TLS_HEADER;
    }
    write_64(additional, keys->sequence);
    memcpy(additional + 8, record, 3); /* type and version */
    write_16(additional + 11, content_length);
    return ADDITIONAL_MAX;
}

/* ---- sealing ---- */

/* What lies behind the last one goes with it, so that a record in its place is a single part. */
static void part_add(struct iovec *packed, unsigned *count, const struct iovec *part)
{
    struct iovec *last = *count > 0 ? &packed[*count - 1] : NULL;

    if (last && (uint8_t *)last->iov_base + last->iov_len == part->iov_base)
        last->iov_len += part->iov_len;
    else
        packed[(*count)++] = *part;
}

/* Leaves empty parts out, so that no library has to know of them. Returns how many remain. */
static unsigned parts_pack(const struct iovec *parts, unsigned part_count,
                           struct iovec packed[WEIR__TLS_SEAL_PARTS_MAX], size_t *length)
{
    unsigned count = 0;

    *length = 0;
    assert(part_count < WEIR__TLS_SEAL_PARTS_MAX);
    for (unsigned i = 0; i < part_count; i++) {
        assert(parts[i].iov_len <= WEIR__TLS_PLAIN_MAX - *length);
        *length += parts[i].iov_len;
        if (parts[i].iov_len > 0)
            part_add(packed, &count, &parts[i]);
    }
    return count;
}

int64_t weir__tls_seal(struct weir__tls_protector *protector, enum weir__tls_content type,
                       const struct iovec *parts, unsigned part_count, uint8_t *record)
{
    struct weir__tls_keys *keys = &protector->keys;
    bool hides_type = keys->version == WEIR__TLS_1_3;
    uint8_t *content = record + weir__tls_content_offset(keys);
    struct iovec packed[WEIR__TLS_SEAL_PARTS_MAX];
    uint8_t nonce[WEIR__TLS_NONCE];
    uint8_t additional[ADDITIONAL_MAX];
    size_t length;

    assert(protector->aead);
    unsigned count = parts_pack(parts, part_count, packed, &length);
    assert(length > 0 || type == WEIR__TLS_APPLICATION_DATA);
    if (keys->sequence == UINT64_MAX)
        return WEIR_EIO; /* it must not wrap (RFC 8446 section 5.3) */

    size_t record_length = length + weir__tls_overhead(keys);
    record[0] = hides_type ? WEIR__TLS_APPLICATION_DATA : (uint8_t)type;
    write_16(record + 1, WEIR__TLS_1_2); /* TLS 1.3 says so, too */
    write_16(record + 3, record_length - WEIR__TLS_HEADER);
    if (has_explicit_nonce(keys))
        write_64(record + WEIR__TLS_HEADER, keys->sequence);
    if (hides_type) {
        /* In its place, behind what may be there already. */
        content[length] = (uint8_t)type;
        part_add(packed, &count, &(struct iovec){content + length, 1});
    }
    nonce_make(keys, record, nonce);
    size_t additional_length = additional_make(keys, record, length, additional);
    if (protector->ciphers->aead_seal(protector->aead, nonce, additional, additional_length, packed,
                                      count, content))
        return WEIR_EIO;
    keys->sequence++;
    return (int64_t)record_length;
}

/* ---- opening ---- */

/* What is authentic still has to make sense. Returns 0 or an alert. */
static int opened_check(const struct weir__tls_opened *opened)
{
    switch (opened->type) {
    case WEIR__TLS_APPLICATION_DATA:
        return 0;
    case WEIR__TLS_ALERT:
    case WEIR__TLS_HANDSHAKE:
        /* Empty ones are forbidden: RFC 8446 section 5.4, RFC 5246 section 6.2.1. */
        return opened->length > 0 ? 0 : WEIR__TLS_UNEXPECTED_MESSAGE;
    case WEIR__TLS_CHANGE_CIPHER_SPEC: /* never after the handshake: nothing is renegotiated */
    default:
        return WEIR__TLS_UNEXPECTED_MESSAGE;
    }
}

/* Takes padding and the type off `length` bytes of TLSInnerPlaintext. Returns 0 or an alert. */
static int inner_read(const uint8_t *inner, size_t length, struct weir__tls_opened *opened)
{
    /* With its padding it has the same bound (RFC 8446 section 5.4). */
    if (length > WEIR__TLS_PLAIN_MAX + 1)
        return WEIR__TLS_RECORD_OVERFLOW;
    while (length > 0 && inner[length - 1] == 0)
        length--;
    if (length == 0)
        return WEIR__TLS_UNEXPECTED_MESSAGE;
    opened->type = inner[length - 1];
    opened->data = inner;
    opened->length = length - 1;
    return 0;
}

int weir__tls_open(struct weir__tls_protector *protector, const uint8_t *record, size_t length,
                   uint8_t *room, struct weir__tls_opened *opened)
{
    struct weir__tls_keys *keys = &protector->keys;
    size_t offset = weir__tls_content_offset(keys);
    uint8_t nonce[WEIR__TLS_NONCE];
    uint8_t additional[ADDITIONAL_MAX];
    int alert = 0;

    assert(protector->aead);
    assert(length >= WEIR__TLS_HEADER && length <= WEIR__TLS_RECORD_MAX);
    assert(length == WEIR__TLS_HEADER + ((size_t)record[3] << 8 | record[4]));
    if (keys->version == WEIR__TLS_1_3 && record[0] != WEIR__TLS_APPLICATION_DATA)
        return WEIR__TLS_UNEXPECTED_MESSAGE;
    if (keys->sequence == UINT64_MAX)
        return WEIR__TLS_INTERNAL_ERROR;
    /* What has no room for a tag has no right one. */
    if (length < offset + WEIR__TLS_TAG)
        return WEIR__TLS_BAD_RECORD_MAC;

    size_t plain_length = length - offset - WEIR__TLS_TAG;
    nonce_make(keys, record, nonce);
    size_t additional_length = additional_make(keys, record, plain_length, additional);
    if (protector->ciphers->aead_open(protector->aead, nonce, additional, additional_length,
                                      record + offset, length - offset, room))
        return WEIR__TLS_BAD_RECORD_MAC;

    if (keys->version == WEIR__TLS_1_3)
        alert = inner_read(room, plain_length, opened);
    else if (plain_length > WEIR__TLS_PLAIN_MAX)
        alert = WEIR__TLS_RECORD_OVERFLOW;
    else
        *opened = (struct weir__tls_opened){record[0], room, plain_length};
    if (!alert)
        alert = opened_check(opened);
    if (!alert)
        keys->sequence++;
    return alert;
}

/* ---- framing ---- */

int64_t weir__tls_frame(const uint8_t *bytes, size_t available, uint16_t version)
{
    size_t expand_max =
        version == WEIR__TLS_1_2 ? WEIR__TLS_EXPLICIT_NONCE + WEIR__TLS_TAG : WEIR__TLS_EXPAND_MAX;

    if (available < WEIR__TLS_HEADER)
        return 0;
    if (bytes[0] < WEIR__TLS_CHANGE_CIPHER_SPEC || bytes[0] > WEIR__TLS_APPLICATION_DATA)
        return -WEIR__TLS_UNEXPECTED_MESSAGE;
    if (bytes[1] != 3)
        return -WEIR__TLS_PROTOCOL_VERSION;
    size_t length = (size_t)bytes[3] << 8 | bytes[4];
    if (length > WEIR__TLS_PLAIN_MAX + expand_max)
        return -WEIR__TLS_RECORD_OVERFLOW;
    if (length == 0 && bytes[0] != WEIR__TLS_APPLICATION_DATA)
        return -WEIR__TLS_UNEXPECTED_MESSAGE;
    return (int64_t)(WEIR__TLS_HEADER + length);
}

void weir__tls_framer_init(struct weir__tls_framer *framer)
{
    *framer = (struct weir__tls_framer){0};
}

void weir__tls_framer_dispose(struct weir__tls_framer *framer)
{
    weir__release(framer->kept);
    weir__tls_framer_init(framer);
}

bool weir__tls_framer_is_empty(const struct weir__tls_framer *framer)
{
    return framer->kept_length == 0;
}

/* weir__tls_frame of what is kept and then `bytes`. */
static int64_t joined_frame(const struct weir__tls_framer *framer, const uint8_t *bytes,
                            size_t length, uint16_t version)
{
    uint8_t header[WEIR__TLS_HEADER];
    size_t known = 0;

    while (known < WEIR__TLS_HEADER && known < framer->kept_length) {
        header[known] = framer->kept[known];
        known++;
    }
    while (known < WEIR__TLS_HEADER && length > 0) {
        header[known++] = *bytes++;
        length--;
    }
    return weir__tls_frame(header, known, version);
}

/* Keeps `length` more bytes of a record of `total` (0: not known). Returns 0 or WEIR_ENOMEM. */
static int framer_keep(struct weir__tls_framer *framer, size_t total, const uint8_t *bytes,
                       size_t length)
{
    size_t needed = framer->kept_length + length;

    if (length == 0)
        return 0;
    if (needed > framer->kept_size) {
        size_t size = 2 * needed > KEPT_MIN ? 2 * needed : KEPT_MIN;
        if (total > 0 && size > total)
            size = total;
        uint8_t *kept = weir__reallocate(framer->kept, size);
        if (!kept)
            return WEIR_ENOMEM;
        framer->kept = kept;
        framer->kept_size = size;
    }
    memcpy(framer->kept + framer->kept_length, bytes, length);
    framer->kept_length = needed;
    return 0;
}

int weir__tls_framer_next(struct weir__tls_framer *framer, uint16_t version, const uint8_t **bytes,
                          size_t *length, const uint8_t **record, size_t *record_length)
{
    if (framer->kept_length == 0)
        weir__tls_framer_dispose(framer); /* the record of the call before may lie there */

    int64_t framed = joined_frame(framer, *bytes, *length, version);
    if (framed < 0)
        return (int)framed; /* and so again, for nothing of it is used up */
    size_t total = (size_t)framed;
    size_t part = *length;
    if (total > 0 && part > total - framer->kept_length)
        part = total - framer->kept_length;
    bool in_one_piece = total > 0 && part == total;
    if (!in_one_piece && framer_keep(framer, total, *bytes, part))
        return WEIR__TLS_FRAMER_ENOMEM;

    *record = in_one_piece ? *bytes : framer->kept;
    if (part > 0)
        *bytes += part;
    *length -= part;
    if (!in_one_piece && (total == 0 || framer->kept_length < total))
        return 0;
    *record_length = total;
    framer->kept_length = 0;
    return 1;
}
