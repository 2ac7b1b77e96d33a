/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TLS_H
#define WEIR_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <weir/visibility.h>

/*
 * TLS 1.2 and 1.3 on a stream, with any of the libraries that were there when libweir was built. The
 * library does the handshake only: it sees no socket, and is not needed any more once the connection is
 * open. Records are made and opened by libweir or, where it can, by the kernel. Everything else of a
 * stream (writes and their stages, files, delivery, closing) works as without TLS; its bytes are the
 * plaintext's.
 */

struct weir_stream;

enum weir_tls_version {
    WEIR_TLS_1_2 = 0x0303,
    WEIR_TLS_1_3 = 0x0304,
};

/* ---- the libraries ---- */

/** The name of library `index` from 0 on, in order of preference, or NULL. Any thread; static text. */
WEIR_API const char *weir_tls_vendor_name(unsigned index);
/** The version of that library as it is loaded, or NULL. Any thread; static text. */
WEIR_API const char *weir_tls_vendor_version(unsigned index);
/** The newest version of TLS that it knows, 0 for no library. Any thread. */
WEIR_API unsigned weir_tls_vendor_version_max(unsigned index);

/**
 * Who makes and opens records in user space where struct weir_tls_options says WEIR_TLS_CIPHER_AUTO and the
 * cipher is AES-GCM: a name such as "ipsec-mb", or NULL, if the libraries above do. `text` is set to how it
 * does that, or why there is none: a few words. Any thread; static texts; the first call takes about 1 ms.
 */
WEIR_API const char *weir_tls_fast_cipher(const char **text);

/** Room for one line that says why something cannot be. */
#define WEIR_TLS_COMPLAINT_MAX 256

/**
 * Makes a key and a certificate that it signs itself, valid for `days` from an hour ago, for `names` (DNS
 * names and IP addresses), as PEM texts. For trying things out: no client trusts it. `vendor`: see
 * struct weir_tls_options. Returns 0, WEIR_ENOTSUP (no library here can do that), WEIR_ENOBUFS (a text does
 * not fit into `size` bytes; WEIR_TLS_SELF_SIGNED_MAX is enough) or WEIR_EIO. Any thread.
 */
WEIR_API int weir_tls_self_signed(const char *vendor, const char *const *names, unsigned name_count,
                                  unsigned days, char *certificate, char *key, size_t size);
#define WEIR_TLS_SELF_SIGNED_MAX 4096

/* ---- tickets: keys by which servers let clients resume ---- */

/** Ticket keys that the contexts of a process share, and with a file a fleet. Any thread. */
struct weir_tls_tickets;

/**
 * `file` NULL: random keys, a new one every 12 hours, an old one good for 24 hours more. Else 1 to 4 keys
 * of 80 bytes each (16 name, 32 HMAC, 32 cipher): the first encrypts, all decrypt. A file that everybody can
 * read, or others than its owner can write, is refused. Replace it by a new one of its name (rename), so that
 * it is never seen half written. Returns 0, WEIR_EINVAL or WEIR_EACCESS (the file) or WEIR_ENOMEM, with one
 * line in `complaint`.
 */
WEIR_API int weir_tls_tickets_new(struct weir_tls_tickets **tickets, const char *file,
                                  char complaint[WEIR_TLS_COMPLAINT_MAX]);
/** No context may use it any more. NULL is fine. */
WEIR_API void weir_tls_tickets_free(struct weir_tls_tickets *tickets);
/**
 * Makes new random keys when it is time, or reads the file again if it has changed. Call it about once a
 * minute. On an error the old keys stay; the errors are those of weir_tls_tickets_new.
 */
WEIR_API int weir_tls_tickets_refresh(struct weir_tls_tickets *tickets,
                                      char complaint[WEIR_TLS_COMPLAINT_MAX]);

/* ---- contexts: what many connections share ---- */

/** Certificates and settings. It belongs to the thread of the loop whose streams use it. */
struct weir_tls_context;

struct weir_tls_certificate {
    const char *certificate_file; /**< PEM: the leaf first, then its chain */
    const char *key_file;         /**< PEM, without a password */
};

/** What is asked of the peer's certificate. */
enum weir_tls_peer {
    /** Servers: none is asked for. Clients: the server's chain and name are verified. */
    WEIR_TLS_PEER_DEFAULT,
    WEIR_TLS_PEER_OPTIONAL, /**< servers: one that a client shows must be valid */
    WEIR_TLS_PEER_REQUIRED, /**< servers: a client without a valid one is refused */
    /** Clients: anybody may answer and read along. For tests. */
    WEIR_TLS_PEER_UNVERIFIED_INSECURE,
};

/** Which directions the kernel takes over, once the handshake is done (networking/tls.rst). */
enum weir_tls_kernel {
    WEIR_TLS_KERNEL_OFF,
    WEIR_TLS_KERNEL_TX,
    WEIR_TLS_KERNEL_TX_RX, /**< the default: what the kernel cannot take stays in user space */
};

/** Whose code encrypts and decrypts records in user space. */
enum weir_tls_cipher_source {
    /** The fastest that is there and that this processor runs: weir_tls_fast_cipher, else the library. */
    WEIR_TLS_CIPHER_AUTO,
    /** The library that makes the handshake, and nobody else: for who depends on its certification. */
    WEIR_TLS_CIPHER_LIBRARY,
};

struct weir_tls_options {
    const char *vendor; /**< a name of weir_tls_vendor_name; NULL (default): the first */
    bool server;        /**< the role of the streams; default false */
    enum weir_tls_version version_min, version_max; /**< default 1.2 and 1.3 */
    /** By SNI; names that match none get the first. Servers need one; clients may have one. */
    const struct weir_tls_certificate *certificates;
    unsigned certificate_count;
    enum weir_tls_peer peer;
    const char *trust_file; /**< PEM of those who may sign; NULL: the system's */
    /** Protocols in order of preference, at most 16 of 32 bytes. No common one: none is chosen. */
    const char *const *alpn;
    unsigned alpn_count;
    struct weir_tls_tickets *tickets; /**< servers; NULL: no resumption */
    enum weir_tls_kernel kernel;
    enum weir_tls_cipher_source cipher_source; /**< default: WEIR_TLS_CIPHER_AUTO */
    uint32_t handshake_timeout_ms;             /**< default 10,000 */
    /**
     * A direction gets new keys (TLS 1.3) or the connection is closed (1.2, and where a kernel holds the
     * keys and cannot change them) before it has protected so many records. Default and most: 2^24 - 2^16.
     */
    uint32_t records_max;
    /** Secrets of all connections are appended to this file (SSLKEYLOGFILE). For debugging only. */
    const char *key_log_file_insecure;
};

/** Fills in the defaults. */
WEIR_API void weir_tls_options_init(struct weir_tls_options *options);

/**
 * Reads the files and makes a context; `options` is copied as far as it is needed. Returns 0, WEIR_EINVAL (a
 * file, a name or a combination makes no sense), WEIR_EACCESS, WEIR_ENOTSUP (no such library here, or it lacks
 * what is asked for), WEIR_ENOMEM or WEIR_EIO, with one line in `complaint` that names what is wrong.
 */
WEIR_API int weir_tls_context_new(struct weir_tls_context **context,
                                  const struct weir_tls_options *options,
                                  char complaint[WEIR_TLS_COMPLAINT_MAX]);
/** The owner's hold ends; streams that use it go on, and free it with the last of them. NULL is fine. */
WEIR_API void weir_tls_context_free(struct weir_tls_context *context);
/** The library's name. Static text. */
WEIR_API const char *weir_tls_context_vendor(const struct weir_tls_context *context);

/* ---- streams ---- */

/**
 * Puts TLS on an accepted stream, before anything was read or written: call it where the stream is given
 * its handler. `on_open` says that the handshake is done; writes may be queued before. A stream that does
 * not get that far ends with on_close and WEIR_ETLS, WEIR_ETIMEDOUT or what else befell it.
 *
 * What TLS adds to a stream: `on_end` is the peer's close_notify. A connection that ends without it is
 * no end: nothing more can be read, what is queued is still sent, and on_close has WEIR_ECUTOFF, or why that
 * could not be sent.
 * weir_stream_shutdown and weir_stream_close send a close_notify before the FIN.
 *
 * Returns 0, WEIR_EINVAL (the context is a client's, or the stream has a transport already) or WEIR_ENOMEM.
 */
WEIR_API int weir_tls_accept(struct weir_stream *stream, struct weir_tls_context *context);

struct weir_tls_connect {
    /** For SNI and the certificate. NULL: no SNI; allowed where the peer is not verified. */
    const char *server_name;
    const void *resumption; /**< of weir_tls_resumption, or NULL */
    size_t resumption_length;
};

/**
 * The same for a stream that weir_stream_connect has just made. `connect` is copied. Returns 0, WEIR_EINVAL
 * or WEIR_ENOMEM.
 */
WEIR_API int weir_tls_connect(struct weir_stream *stream, struct weir_tls_context *context,
                              const struct weir_tls_connect *connect);

/** What a handshake came to. Texts are valid as long as the stream. */
struct weir_tls_info {
    enum weir_tls_version version;
    const char *version_name; /**< "TLSv1.2" or "TLSv1.3" */
    const char *cipher;       /**< IANA's name: "TLS_AES_128_GCM_SHA256" */
    const char *cipher_by;    /**< who encrypts what is sent: "kernel", `vendor`, or "ipsec-mb" */
    const char *vendor;
    const char *alpn;        /**< "" = none */
    const char *server_name; /**< servers: what the client asked for; "" = nothing */
    bool resumed;
    bool peer_certificate;     /**< the peer showed a valid one */
    bool kernel_tx, kernel_rx; /**< the kernel protects what is sent, opens what is received */
    bool kernel_tx_due;        /**< it will be asked to, before what is written next is sent */
};

/** Returns 0, or WEIR_ENOTSUP: no TLS on this stream, or its handshake is not done. */
WEIR_API int weir_tls_info(const struct weir_stream *stream, struct weir_tls_info *info);

/** Why TLS failed on this stream, a few words for a log, or "". Valid until on_close has returned. */
WEIR_API const char *weir_tls_failure(const struct weir_stream *stream);

/**
 * TLS 1.3: changes the keys of what is sent, and asks the peer to do the same if `request_peer`. Returns 0,
 * WEIR_ENOTSUP (not 1.3, or a kernel holds the keys and cannot change them), WEIR_ESHUT or WEIR_ENOMEM.
 */
WEIR_API int weir_tls_update_keys(struct weir_stream *stream, bool request_peer);

/**
 * Clients: writes what lets a later connection resume this one. Call it in on_close or after some data came:
 * TLS 1.3 servers send their ticket behind the handshake. Returns its length, 0 if there is none, or
 * WEIR_ENOBUFS if it does not fit.
 */
WEIR_API int weir_tls_resumption(struct weir_stream *stream, void *data, size_t size);
#define WEIR_TLS_RESUMPTION_MAX 16384

#endif
