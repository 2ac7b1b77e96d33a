/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TLS_VENDOR_SHARED_H
#define WEIR_TLS_VENDOR_SHARED_H

/* What adapters have in common, whatever their library. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tls/vendor.h"

/* One line for people, cut where it is too long. */
void weir__tls_complain(struct weir__tls_complaint *complaint, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Whether the cipher may be used. */
static inline bool weir__tls_allows(const struct weir__tls_config *config,
                                    enum weir__tls_cipher cipher)
{
    return config->ciphers == 0 || (config->ciphers & 1u << cipher);
}

/* The cipher and hash of a suite by its number: those of enum weir__tls_cipher with ECDHE or TLS 1.3. */
struct weir__tls_suite {
    uint16_t number;
    uint16_t version;
    enum weir__tls_cipher cipher;
    enum weir__tls_hash hash;
    const char *name;    /* IANA's */
    const char *openssl; /* OpenSSL's, which wolfSSL shares for TLS 1.2 */
};

/* In the order of preference, TLS 1.3 first; `count` may be NULL. */
const struct weir__tls_suite *weir__tls_suites(unsigned *count);
/* NULL: none that Weir knows. */
const struct weir__tls_suite *weir__tls_suite_find(unsigned number);

/* What a client's server_name is. */
enum weir__tls_name_kind {
    WEIR__TLS_NAME_WRONG,
    WEIR__TLS_NAME_HOST,
    WEIR__TLS_NAME_ADDRESS, /* IPv4 or IPv6: not for SNI (RFC 6066 section 3) */
};
enum weir__tls_name_kind weir__tls_name_kind(const char *name);

/* Whether versions, counts, ALPN names and ciphers make sense. Returns 0 or WEIR_EINVAL. */
int weir__tls_config_check(const struct weir__tls_config *config,
                           struct weir__tls_complaint *complaint);

#define WEIR__TLS_ALPN_WIRE_MAX (WEIR__TLS_ALPN_MAX * (WEIR__TLS_ALPN_BYTES_MAX + 1))
/* The names as the ALPN extension lists them (RFC 7301). Returns the length. */
size_t weir__tls_alpn_wire(const struct weir__tls_config *config, uint8_t *wire);
/*
 * The server's choice: the first of `wire` that the client has too. Returns its place in `wire`, with
 * its length byte, or NULL.
 */
const uint8_t *weir__tls_alpn_choose(const uint8_t *wire, size_t length, const uint8_t *client,
                                     size_t client_length);

/* Counts records in bytes that come in pieces. All zeros at first. */
struct weir__tls_counter {
    uint64_t records; /* that have begun */
    uint32_t types;   /* of theirs, 1 << enum weir__tls_content each */
    uint8_t header[5];
    size_t header_length, body_left;
};
void weir__tls_counter_feed(struct weir__tls_counter *counter, const uint8_t *bytes, size_t length);

/* Whether it is one whole record. */
bool weir__tls_record_is_whole(const uint8_t *record, size_t length);

/*
 * A record that no library accepts in any state of a handshake: a handshake message of a type that does
 * not exist, in the clear. Fed in place of one that is not whole, it makes the library send the alert.
 */
#define WEIR__TLS_IMPOSSIBLE_RECORD                                                                \
    {                                                                                              \
        22, 3, 3, 0, 4, 99, 0, 0, 0                                                                \
    }

/*
 * What a client keeps for a later handshake begins with the name that the session is for, and with
 * whether the server's certificate was verified: libraries verify nothing again when they resume.
 */
struct weir__tls_saved {
    bool verified;
    const char *server_name; /* NULL = none */
};
/* Writes that. Returns its length or WEIR_ENOBUFS. */
int weir__tls_saved_write(const struct weir__tls_saved *saved, uint8_t *data, size_t size);
/* Returns the length of what was written so, 0 if it is for another name, or not verified and has to be. */
size_t weir__tls_saved_match(const struct weir__tls_saved *wanted, const uint8_t *data,
                             size_t length);

/*
 * The same with the library's data behind it, and a checksum: some libraries stumble when what they get
 * is not what they have written. Returns the length, WEIR_ENOBUFS, or 0 if there is no checksum.
 */
int weir__tls_saved_put(const struct weir__tls_vendor *vendor, const struct weir__tls_saved *saved,
                        const uint8_t *session, size_t session_length, uint8_t *data, size_t size);
/* Returns the library's data, or NULL if it is for another name, not verified or not whole. */
const uint8_t *weir__tls_saved_get(const struct weir__tls_vendor *vendor,
                                   const struct weir__tls_saved *wanted, const uint8_t *data,
                                   size_t length, size_t *session_length);
/*
 * Whether it is a ChangeCipherSpec in the clear that is as it must be (RFC 8446 section 5), or no such
 * record. Some libraries do not look.
 */
bool weir__tls_record_changes_well(const uint8_t *record, size_t length);

/*
 * An extension of a ClientHello that is in one record. Returns its data, NULL if it is not there, or if
 * this is no such record or not well formed: it is for the library to complain of that.
 */
const uint8_t *weir__tls_hello_extension(const uint8_t *record, size_t length, uint16_t type,
                                         size_t *extension_length);

#endif
