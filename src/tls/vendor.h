/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TLS_VENDOR_H
#define WEIR_TLS_VENDOR_H

/*
 * What Weir asks of a TLS library: to do the handshake, to say the keys, and to lend its AEAD and HMAC.
 * The library never sees a socket, and after the handshake it sees no byte either: records are Weir's
 * own (record.h) or the kernel's. So all of them behave alike, in user space and in the kernel, and a
 * connection that is open holds no session object of the library's.
 *
 * Each adapter in vendor/ fills in one struct weir__tls_vendor. Nothing here names a library's type.
 * vendor/ipsec_mb.c has but struct weir__tls_ciphers: a library without TLS lends its AEAD to all of them.
 * A context belongs to one thread, or is not changed any more; handshakes and AEADs to one thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/tls_keys.h"

struct weir__tls_vendor_context;
struct weir__tls_handshake;
struct weir__tls_aead;

enum weir__tls_hash {
    WEIR__TLS_SHA256,
    WEIR__TLS_SHA384,
};
#define WEIR__TLS_HASH_MAX 48

#define WEIR__TLS_ALPN_MAX        16  /* protocols offered */
#define WEIR__TLS_ALPN_BYTES_MAX  32  /* of one */
#define WEIR__TLS_NAME_MAX        256 /* a server name with its final zero (RFC 1035: 253) */
#define WEIR__TLS_CIPHER_NAME_MAX 48
#define WEIR__TLS_COMPLAINT_MAX   256

/* ---- tickets: what a server gives a client to resume with (RFC 8446 section 4.6.1, RFC 5077) ---- */

/* As in the widely used 80-byte files: a name, which is public, and two secrets. */
struct weir__tls_ticket_key {
    uint8_t name[16];
    uint8_t hmac_key[32];
    uint8_t cipher_key[32];
};
#define WEIR__TLS_TICKET_KEYS_MAX 4

/* The first encrypts; all of them decrypt. */
struct weir__tls_ticket_keys {
    struct weir__tls_ticket_key keys[WEIR__TLS_TICKET_KEYS_MAX];
    unsigned count; /* 0 = no tickets */
};

/* ---- contexts: configuration that many connections share ---- */

struct weir__tls_certificate {
    const char *certificate_file; /* PEM: the leaf, then the chain */
    const char *key_file;         /* PEM, not encrypted */
};

enum weir__tls_peer_certificate {
    WEIR__TLS_PEER_UNASKED,             /* servers: no client certificate is asked for */
    WEIR__TLS_PEER_OPTIONAL,            /* servers: one that is shown must be valid */
    WEIR__TLS_PEER_REQUIRED,            /* and clients, which verify the server's chain and name */
    WEIR__TLS_PEER_UNVERIFIED_INSECURE, /* clients: anybody may answer */
};

/* Everything is copied or read during context_new; the files are read then, too. */
struct weir__tls_config {
    bool server;
    uint16_t version_min, version_max; /* WEIR__TLS_1_2, WEIR__TLS_1_3 */
    /* Those that may be used, 1 << enum weir__tls_cipher each; 0 = all that the library has. */
    unsigned ciphers;
    const struct weir__tls_certificate
        *certificates;          /* the first is the default for unknown names */
    unsigned certificate_count; /* clients: 0 or 1 */
    enum weir__tls_peer_certificate peer;
    const char *trust_file; /* PEM; NULL = the system's */
    /* In order of preference. Servers choose theirs; no match: no ALPN extension, the connection goes on. */
    const char *const *alpn;
    unsigned alpn_count;
    const struct weir__tls_ticket_keys *tickets; /* servers; NULL or count 0 = no resumption */
    /*
     * Called with each line that a debugger of the wire wants (the NSS key log format), without its end
     * of line. NULL = none, as it has to be outside of debugging.
     */
    void (*key_log)(void *key_log_context, const char *line);
    void *key_log_context;
};

/* Why a context cannot be made: one line for people that names the file, without an end of line. */
struct weir__tls_complaint {
    char text[WEIR__TLS_COMPLAINT_MAX];
};

/* ---- handshakes ---- */

/* Takes bytes that the handshake wants to send. Returns 0 or WEIR_ENOMEM. They are copied. */
typedef int (*weir__tls_emit_fn)(void *emit_context, const uint8_t *bytes, size_t length);

struct weir__tls_handshake_options {
    const char *server_name; /* clients: for SNI and the certificate; NULL = neither */
    const uint8_t *resume;   /* clients: what session_save wrote; NULL = a full handshake */
    size_t resume_length;
    weir__tls_emit_fn emit;
    void *emit_context;
};

/* What `advance` returns, beside negative errors. */
#define WEIR__TLS_MORE 0 /* wants the next record */
#define WEIR__TLS_DONE 1 /* the handshake is complete: `result` answers */

/* One direction, as it is when the handshake is done: after the records that were emitted or taken. */
struct weir__tls_secret {
    struct weir__tls_keys keys;
    /* TLS 1.3: the application traffic secret, from which `keys` and later ones come. Empty in 1.2. */
    uint8_t secret[WEIR__TLS_HASH_MAX];
    uint8_t secret_length;
};

struct weir__tls_result {
    uint16_t version;
    enum weir__tls_hash hash; /* of the cipher suite */
    struct weir__tls_secret tx, rx;
    bool resumed;
    bool peer_certificate;                       /* the peer showed one, and it is valid */
    char cipher_name[WEIR__TLS_CIPHER_NAME_MAX]; /* IANA's: "TLS_AES_128_GCM_SHA256" */
    char alpn[WEIR__TLS_ALPN_BYTES_MAX + 1];     /* "" = none */
    char server_name[WEIR__TLS_NAME_MAX]; /* servers: what the client asked for; "" = nothing */
};

/* What a library cannot do though others can; a connection works without it all the same. */
enum weir__tls_lack {
    /* Servers: only the first ticket key decrypts: after a change clients make full handshakes. */
    WEIR__TLS_LACKS_OLD_TICKET_KEYS = 1 << 0,
    /* Clients, TLS 1.2: a ticket that a resumed connection was given is not in what session_save writes. */
    WEIR__TLS_LACKS_RENEWED_TICKETS = 1 << 1,
    /* Servers, TLS 1.2: who resumes with a ticket of an older key is given none of the newest. */
    WEIR__TLS_LACKS_TICKET_RENEWAL = 1 << 2,
    /* Clients, TLS 1.2: session_save has nothing. */
    WEIR__TLS_LACKS_OLD_RESUMPTION = 1 << 3,
    /* Servers: no tickets where client certificates are asked for. */
    WEIR__TLS_LACKS_CLIENTS_IN_TICKETS = 1 << 4,
};

/* ---- AEADs: of a library that makes handshakes, or of one that has nothing else ---- */

#define WEIR__TLS_SEAL_PARTS_MAX 16

/* Who lends AEADs. Nonces are WEIR__TLS_NONCE bytes, tags WEIR__TLS_TAG. */
struct weir__tls_ciphers {
    const char *name; /* the library's: "openssl", "ipsec-mb", ... */
    /* `seal`: it will encrypt, else decrypt. Returns 0, WEIR_ENOTSUP or WEIR_ENOMEM. */
    int (*aead_new)(struct weir__tls_aead **aead, enum weir__tls_cipher cipher, const uint8_t *key,
                    bool seal);
    /* Wipes its key. NULL is fine. */
    void (*aead_free)(struct weir__tls_aead *aead);
    /*
     * Encrypts the parts, one behind the other, to `out`, and the tag behind them. A part may lie just
     * where its ciphertext goes (in place); else parts and `out` do not overlap. At most
     * WEIR__TLS_SEAL_PARTS_MAX parts, 16,385 bytes in all. Returns 0 or WEIR_EIO.
     */
    int (*aead_seal)(struct weir__tls_aead *aead, const uint8_t *nonce, const uint8_t *additional,
                     size_t additional_length, const struct iovec *parts, unsigned part_count,
                     uint8_t *out);
    /*
     * Decrypts `length` bytes, the tag among them, to `out`, which is `in` or does not overlap it.
     * Returns 0, or WEIR_ETLS if they are not authentic; then `out` holds nothing of use.
     */
    int (*aead_open)(struct weir__tls_aead *aead, const uint8_t *nonce, const uint8_t *additional,
                     size_t additional_length, const uint8_t *in, size_t length, uint8_t *out);
};

/*
 * AES-GCM that is faster than any of the libraries', beside which it may be used: a connection's records are
 * the same whoever makes them. `index` 0 is the fastest that this processor runs, 1 the next, which is for
 * tests. NULL: there is none. `text` is set to how it works, or, where there is none for index 0, why: a
 * few words, static. Any thread; the first call takes about a millisecond.
 */
const struct weir__tls_ciphers *weir__tls_ciphers_fast(unsigned index, const char **text);

/* ---- libraries ---- */

struct weir__tls_vendor {
    const char *name;             /* "openssl", "gnutls", ...: what --tls takes */
    const char *(*version)(void); /* of the library that is loaded, such as "3.0.19" */
    uint16_t version_max;         /* WEIR__TLS_1_2 where the library has no 1.3 */
    unsigned lacks;               /* enum weir__tls_lack */

    /*
     * Returns 0, WEIR_EINVAL (a file, certificate, key, ALPN name or version is not usable),
     * WEIR_EACCESS (a file cannot be read), WEIR_ENOTSUP (the library lacks what is asked for) or
     * WEIR_ENOMEM, with one line in `complaint`.
     *
     * What every adapter configures: TLS 1.2 and 1.3 as asked; AEAD suites of enum weir__tls_cipher with
     * (EC)DHE only, the server's order (AES-128-GCM before AES-256-GCM before CHACHA20-POLY1305, except
     * that a client which lists CHACHA20 first may get it where the library can do so); groups X25519,
     * P-256, P-384; no compression, no renegotiation, no early data, extended master secret where the
     * library has it; SNI chooses the certificate whose names match, the first one otherwise.
     */
    int (*context_new)(struct weir__tls_vendor_context **context,
                       const struct weir__tls_config *config,
                       struct weir__tls_complaint *complaint);
    /* No handshake may be left. NULL is fine. */
    void (*context_free)(struct weir__tls_vendor_context *context);
    /* New ticket keys from now on; servers. Returns 0, WEIR_ENOTSUP or WEIR_ENOMEM. */
    int (*context_set_tickets)(struct weir__tls_vendor_context *context,
                               const struct weir__tls_ticket_keys *tickets);

    /* Returns 0, WEIR_ENOMEM or WEIR_EINVAL (a server name that is none). Bad resume data is ignored. */
    int (*handshake_new)(struct weir__tls_handshake **handshake,
                         struct weir__tls_vendor_context *context,
                         const struct weir__tls_handshake_options *options);
    void (*handshake_free)(struct weir__tls_handshake *handshake);
    /*
     * Takes one whole record with its header, at most 5 + 16,384 + 256 bytes, or, for a client's start,
     * `length` 0. Whatever is to be sent is emitted, a fatal alert too. After DONE nothing more is taken
     * but by `post_record`. Servers: tickets are emitted before DONE is returned, and `result` counts
     * them in tx.keys.sequence. Returns MORE, DONE, WEIR_ETLS (the handshake failed), WEIR_ENOMEM.
     */
    int (*advance)(struct weir__tls_handshake *handshake, const uint8_t *record, size_t length);
    /* After DONE. Returns 0, or WEIR_ENOTSUP if the library does not say the keys of this connection. */
    int (*result)(struct weir__tls_handshake *handshake, struct weir__tls_result *result);
    /* Why the handshake failed, a few words for a log; "" if it is not known. Valid until it is freed. */
    const char *(*failure)(struct weir__tls_handshake *handshake);
    /*
     * Clients, TLS 1.3, after DONE: a record that Weir has opened and found to hold a NewSessionTicket,
     * still encrypted. All records since DONE must have come this way. Emits nothing. Returns 0 or an
     * error, which is of no consequence but for resumption.
     */
    int (*post_record)(struct weir__tls_handshake *handshake, const uint8_t *record, size_t length);
    /*
     * Clients: writes what a later handshake needs to resume this one, after DONE (1.2) or post_record
     * (1.3). Returns its length, 0 if there is nothing to resume with, or WEIR_ENOBUFS if `size` is
     * too small.
     */
    int (*session_save)(struct weir__tls_handshake *handshake, uint8_t *data, size_t size);

    /* ---- primitives ---- */

    struct weir__tls_ciphers ciphers;
    /* HMAC (RFC 2104), 32 or 48 bytes. Returns 0 or WEIR_EIO. */
    int (*hmac)(enum weir__tls_hash hash, const uint8_t *key, size_t key_length,
                const uint8_t *data, size_t length, uint8_t *out);

    /*
     * Makes a key (P-256) and a certificate that it signs itself, valid from an hour ago for `days`, for
     * `names` (DNS names, or IPv4 and IPv6 addresses, as SAN entries), as PEM texts with final zeros.
     * Returns 0, WEIR_ENOBUFS or WEIR_EIO. NULL where the library cannot.
     */
    int (*self_signed)(const char *const *names, unsigned name_count, unsigned days,
                       char *certificate, size_t certificate_size, char *key, size_t key_size);
};

#define WEIR__TLS_SELF_SIGNED_MAX 4096 /* room for either text */

/* Those compiled in, in order of preference, ended by NULL. Their names: vendors.c. */
extern const struct weir__tls_vendor *const weir__tls_vendors[];
/* By name; NULL: the first. Returns NULL if there is none. Any thread. */
const struct weir__tls_vendor *weir__tls_vendor_find(const char *name);

/* Overwrites secrets in a way that no compiler leaves out. */
void weir__tls_wipe(void *memory, size_t length);

#endif
