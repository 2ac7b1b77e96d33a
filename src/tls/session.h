/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TLS_SESSION_H
#define WEIR_TLS_SESSION_H

/*
 * One TLS connection without its socket: the handshake, which a library does, and all that comes behind
 * it, which is Weir's own: records, alerts, KeyUpdates and their bounds. Bytes of the wire go in, or the
 * content of records that the kernel opened; what is to be done about them comes out as events.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tls/key_schedule.h"
#include "tls/record.h"
#include "tls/vendor.h"

/* All records of a handshake together: chains of certificates have a few kilobytes. */
#define WEIR__TLS_HANDSHAKE_BYTES_MAX (128u << 10)

/* Records without data (empty ones, warnings, tickets, KeyUpdates) between two that have some. */
#define WEIR__TLS_QUIET_RECORDS_MAX 32

/* KeyUpdates of the peer, each a few derivations of keys, beyond one for each of these bytes of data. */
#define WEIR__TLS_KEY_UPDATES_MAX   32
#define WEIR__TLS_KEY_UPDATE_CREDIT (1u << 20)

/* What a session asks for. None of the calls may free it. */
struct weir__tls_events {
    /* The handshake's own bytes are to be sent. Returns 0 or WEIR_ENOMEM. */
    weir__tls_emit_fn emit;
    /*
     * A record that is no data is to be protected and sent, behind what is being sent; `then_new_keys`:
     * weir__tls_session_next_tx follows it. At most 5 bytes. Returns 0 or WEIR_ENOMEM.
     */
    int (*control)(void *context, enum weir__tls_content type, const uint8_t *content,
                   size_t length, bool then_new_keys);
    /* Data of the peer's. False: no more of it is wanted. */
    bool (*plain)(void *context, const uint8_t *data, size_t length);
    /* The handshake is done: `result` is valid during the call. Returns 0 or WEIR_ENOMEM. */
    int (*opened)(void *context, const struct weir__tls_result *result);
    /* The peer has said its end (close_notify). */
    void (*closed)(void *context);
    /* The peer has new keys (weir__tls_session_keys), which whoever opens its records needs from now on. */
    void (*rx_changed)(void *context);
};

/* What user space needs for its part of a connection. The kernel's part needs none of it. */
struct weir__tls_user {
    struct weir__tls_handshake *handshake; /* NULL once it is not needed */
    /* Whose AEADs come first; what they lack is the library's. NULL after the start: the library's alone. */
    const struct weir__tls_ciphers *ciphers;
    struct weir__tls_framer framer;
    struct weir__tls_protector sealer, opener; /* without an AEAD: the kernel has that direction */
    uint32_t handshake_bytes;
    bool emitted; /* the handshake has sent something */
};

/* A connection that the kernel has taken over keeps no more than this. */
struct weir__tls_session {
    const struct weir__tls_vendor *vendor;
    const struct weir__tls_events *events;
    void *context;               /* of the events */
    struct weir__tls_user *user; /* NULL: the kernel does it all */
    uint8_t *resumption; /* clients: what to resume with, saved when the handshake was let go */
    char *failure;       /* why, NULL = it has not, or nothing is known */
    uint32_t resumption_length;
    uint32_t skip_bytes; /* of a handshake message that goes on in the next record */
    uint32_t credit_bytes;
    uint16_t version; /* 0: not known yet */
    uint8_t hash;     /* enum weir__tls_hash */
    uint8_t cipher;   /* enum weir__tls_cipher */
    uint8_t quiet_records;
    uint8_t key_updates;
    uint8_t secret_length; /* 0: there are no secrets, so the keys cannot change */
    bool server;
    bool open;           /* the handshake is done */
    bool close_received; /* the peer's close_notify */
    bool failed;
    bool peer_failed; /* ... and it was the peer that said so: it hears nothing any more */
    uint8_t secrets[2][WEIR__TLS_HASH_MAX]; /* TLS 1.3: the traffic secrets, by direction */
};

/*
 * `vendor_context` outlives the session. Clients emit at once. Returns 0, WEIR_ENOMEM, WEIR_EINVAL (a
 * server name that is none) or WEIR_ETLS. `user->ciphers` may be set before it is given any bytes.
 */
int weir__tls_session_init(struct weir__tls_session *session, const struct weir__tls_vendor *vendor,
                           struct weir__tls_vendor_context *vendor_context, bool server,
                           const char *server_name, const void *resumption,
                           size_t resumption_length, const struct weir__tls_events *events,
                           void *context);
void weir__tls_session_dispose(struct weir__tls_session *session);

/* A client's first flight. Returns 0, WEIR_ENOMEM or WEIR_ETLS. */
int weir__tls_session_start(struct weir__tls_session *session);

/*
 * Takes bytes of the wire. `room` has WEIR__TLS_PLAIN_MAX + WEIR__TLS_EXPAND_MAX bytes for the time of the
 * call. Returns 0; WEIR_ETLS: the connection is to be ended, and its alert has been asked for where there
 * is one; WEIR_ENOTSUP: the peer has keys that cannot be had; WEIR_ENOMEM.
 */
int weir__tls_session_receive(struct weir__tls_session *session, const uint8_t *bytes,
                              size_t length, uint8_t *room);
/* Takes (a part of) a record's content that the kernel has opened. Returns the same. */
int weir__tls_session_content(struct weir__tls_session *session, enum weir__tls_content type,
                              const uint8_t *content, size_t length);
/* Ends it for a reason of this side's: asks for the alert. Returns WEIR_ETLS. */
int weir__tls_session_fail(struct weir__tls_session *session, enum weir__tls_alert alert,
                           const char *failure);

/* Asks for a KeyUpdate record with a new key behind it. Returns 0, WEIR_ENOTSUP (not TLS 1.3) or WEIR_ENOMEM. */
int weir__tls_session_update_keys(struct weir__tls_session *session, bool request_peer);
/* The KeyUpdate is made: the sealer, if there is one, has the next keys, and so has the caller. */
int weir__tls_session_next_tx(struct weir__tls_session *session, struct weir__tls_keys *keys);

/* The keys of a direction as they are now, for the kernel. Wipe them. Returns 0 or WEIR_EIO. */
int weir__tls_session_keys(const struct weir__tls_session *session,
                           enum weir__tls_direction direction, struct weir__tls_keys *keys);
/* The protector of what is sent, NULL if the kernel has that. */
struct weir__tls_protector *weir__tls_session_sealer(struct weir__tls_session *session);
/* Whether user space has read nothing that it has not opened, and has no use for what comes. */
bool weir__tls_session_rx_is_free(const struct weir__tls_session *session);
/* What a record has beside its content. */
size_t weir__tls_session_overhead(const struct weir__tls_session *session);

/* The kernel has a direction now: forgets what user space needed for it. */
void weir__tls_session_release(struct weir__tls_session *session,
                               enum weir__tls_direction direction);

#endif
