/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TLS_RECORD_H
#define WEIR_TLS_RECORD_H

/*
 * The record layer of TLS 1.2 and 1.3 with AEAD ciphers (RFC 8446 section 5, RFC 5246 section 6.2.3.3,
 * RFC 5288, RFC 7905), in user space. Pure: bytes in, bytes out, one direction of one connection each.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/tls_keys.h"
#include "tls/vendor.h"

#define WEIR__TLS_HEADER     5
#define WEIR__TLS_PLAIN_MAX  16384 /* bytes of content in a record */
#define WEIR__TLS_EXPAND_MAX 256   /* TLS 1.3: what a record may have beyond that (section 5.2) */
#define WEIR__TLS_RECORD_MAX (WEIR__TLS_HEADER + WEIR__TLS_PLAIN_MAX + WEIR__TLS_EXPAND_MAX)
/* TLS 1.2 allows 2,048 (RFC 5246 section 6.2.3), but no AEAD of ours adds more than 24. */

/*
 * A key may protect 2^24.5 full records of AES-GCM (RFC 8446 section 5.5). A direction is given a new
 * key, or ended, before it has protected this many.
 */
#define WEIR__TLS_RECORDS_MAX (UINT64_C(1) << 24)

/* Alert descriptions (RFC 8446 section 6). */
enum weir__tls_alert {
    WEIR__TLS_CLOSE_NOTIFY = 0,
    WEIR__TLS_UNEXPECTED_MESSAGE = 10,
    WEIR__TLS_BAD_RECORD_MAC = 20,
    WEIR__TLS_RECORD_OVERFLOW = 22,
    WEIR__TLS_HANDSHAKE_FAILURE = 40,
    WEIR__TLS_ILLEGAL_PARAMETER = 47,
    WEIR__TLS_DECODE_ERROR = 50,
    WEIR__TLS_PROTOCOL_VERSION = 70,
    WEIR__TLS_INTERNAL_ERROR = 80,
    WEIR__TLS_USER_CANCELED = 90,
    WEIR__TLS_NO_RENEGOTIATION = 100,
};

/* One direction. */
struct weir__tls_protector {
    const struct weir__tls_ciphers *ciphers;
    struct weir__tls_aead *aead; /* NULL = none */
    struct weir__tls_keys
        keys; /* the sequence is kept up to date; the key itself is kept for the kernel */
};

/* Returns 0, WEIR_ENOTSUP (`ciphers` lacks the cipher) or WEIR_ENOMEM. `keys` is copied. */
int weir__tls_protector_init(struct weir__tls_protector *protector,
                             const struct weir__tls_ciphers *ciphers,
                             const struct weir__tls_keys *keys, bool seal);
/* Wipes. One that is all zeros is fine. */
void weir__tls_protector_dispose(struct weir__tls_protector *protector);

/* What a record has beyond its content: 22 for TLS 1.3, 29 for 1.2 with AES-GCM, 21 with CHACHA20. */
size_t weir__tls_overhead(const struct weir__tls_keys *keys);
/* Where the content's ciphertext begins in a record: 5 or 13. */
size_t weir__tls_content_offset(const struct weir__tls_keys *keys);

/*
 * Makes one record of the parts, at most WEIR__TLS_PLAIN_MAX bytes in all and WEIR__TLS_SEAL_PARTS_MAX - 1
 * of them, at `record`, which has room for them and the overhead. A part may lie at
 * record + weir__tls_content_offset, in its own place. Returns the record's length, or WEIR_EIO: the
 * connection can then not go on.
 */
int64_t weir__tls_seal(struct weir__tls_protector *protector, enum weir__tls_content type,
                       const struct iovec *parts, unsigned part_count, uint8_t *record);

/* What was in a record. */
struct weir__tls_opened {
    enum weir__tls_content type;
    const uint8_t *data; /* in `room` */
    size_t length;
};

/*
 * Opens one whole record, `length` as weir__tls_frame said, into `room` of WEIR__TLS_PLAIN_MAX +
 * WEIR__TLS_EXPAND_MAX bytes; the record itself stays as it is. In TLS 1.3 padding is taken off, and a
 * plain ChangeCipherSpec is an unexpected message: after the handshake there is none (section 5).
 * Returns 0, or the alert (positive) to end the connection with.
 */
int weir__tls_open(struct weir__tls_protector *protector, const uint8_t *record, size_t length,
                   uint8_t *room, struct weir__tls_opened *opened);

/* ---- framing: where records begin and end ---- */

/*
 * Looks at the first bytes of a record. Returns its whole length with the header, 0 if `available`
 * is less than a header, or a negated alert: the type is none of TLS's, the version is not 3.x, or the
 * length is above the limit (or 0, except for application data). `version`: WEIR__TLS_1_2 or _1_3 once
 * that is known, which sets the limit, else 0: 16,384 + 24 for TLS 1.2, else WEIR__TLS_RECORD_MAX with
 * the header.
 */
int64_t weir__tls_frame(const uint8_t *bytes, size_t available, uint16_t version);

/*
 * Cuts a stream of bytes into whole records. A record that arrives in one piece is seen where it lies;
 * one in pieces is gathered in memory that is there only as long as it is needed.
 */
struct weir__tls_framer {
    uint8_t *kept; /* NULL: nothing is kept */
    size_t kept_length, kept_size;
};

void weir__tls_framer_init(struct weir__tls_framer *framer);
void weir__tls_framer_dispose(struct weir__tls_framer *framer);
/* Whether no part of a record is kept. */
bool weir__tls_framer_is_empty(const struct weir__tls_framer *framer);

/*
 * The next whole record of what is kept and then `*bytes`. Moves `*bytes` and `*length` on past what it
 * used. Returns 1 with `*record` and `*record_length`, valid until the next call; 0: all of `*bytes` is
 * used up, and kept; a negated alert as above, from then on; or WEIR__TLS_FRAMER_ENOMEM: nothing is used
 * up, and the call can be made again.
 */
#define WEIR__TLS_FRAMER_ENOMEM (-1000) /* below all alerts */
int weir__tls_framer_next(struct weir__tls_framer *framer, uint16_t version, const uint8_t **bytes,
                          size_t *length, const uint8_t **record, size_t *record_length);

#endif
