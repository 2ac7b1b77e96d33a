/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_BIO_H
#define WEIR_BIO_H

/*
 * An OpenSSL BIO that knows when the last byte arrived, for programs that keep their SSL_write. It needs
 * libcrypto 3.0 or newer and nothing else of libweir: link libweir_bio (pkg-config weir-bio, CMake
 * weir::bio). weir/weir.h does not include this header, because it names OpenSSL's types.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/bio.h>

#include <weir/delivery.h>
#include <weir/visibility.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Room for the control messages of one send. */
#define WEIR_BIO_CONTROL_MAX 256

/** From here on zero copy is tried where it is on: for less, a notice costs more than a copy. */
#define WEIR_BIO_ZEROCOPY_BYTES_MIN 10240

/**
 * One sendmsg(2), before it is made. `on_send` may change the flags and add control messages.
 * On kernel TLS `data` is plaintext, the kernel takes no control messages, and of the flags only MSG_MORE
 * and MSG_DONTWAIT; all others are left out there.
 */
struct weir_bio_send {
    const void *data; /**< OpenSSL's; valid during the callback, and not to be changed */
    size_t length;
    uint64_t offset;     /**< wire bytes before this one, as in weir_bio_wire_bytes */
    uint8_t record_type; /**< on kernel TLS the record's (23: application data); else 0 */
    /**
     * MSG_*, beside MSG_NOSIGNAL, which is always there. MSG_ZEROCOPY is set where the BIO is about to send
     * from its own pinned memory; it may be cleared, and has no effect where it was not set.
     */
    int flags;
    void *control;         /**< WEIR_BIO_CONTROL_MAX bytes, zeroed, aligned for struct cmsghdr */
    size_t control_length; /**< how many of them `on_send` has filled; 0 at first */
};

/** Runs inside BIO_write, before each attempt to send: after a short send, again with the rest. */
typedef void (*weir_bio_send_fn)(void *context, struct weir_bio_send *send);

struct weir_bio_options {
    /** The descriptor is closed with the BIO (BIO_CLOSE). Default: false. */
    bool close_descriptor;
    /**
     * Memory for sends with MSG_ZEROCOPY; 0, the default, is none, at most 1 GiB. It is used in pieces of
     * a record's size, 20 KiB where pages have 4, and taken from the system as it is used. The ciphertext
     * is copied to memory of the BIO's own, because OpenSSL reuses its buffer as soon as BIO_write
     * returns, and sent from there without another copy. So it saves no copy: it moves one out of the
     * kernel. Measure before use.
     */
    size_t zerocopy_bytes_max;
    /** Shorter sends are copied by the kernel. Default: WEIR_BIO_ZEROCOPY_BYTES_MIN. */
    size_t zerocopy_bytes_min;
    /** MSG_* of each send, before `on_send`. MSG_ZEROCOPY has no effect here. Default: 0. */
    int send_flags;
    weir_bio_send_fn on_send; /**< may be NULL, the default */
    void *context;            /**< for `on_send` */
};

/** When some byte left, or arrived. */
struct weir_bio_stamp {
    enum weir_stage stage; /**< WEIR_STAGE_SENT or WEIR_STAGE_DELIVERED, as in weir/delivery.h */
    /** Wire bytes up to and with the last one covered: good for each write that ends here or before. */
    uint64_t offset;
    uint64_t at_ns; /**< CLOCK_MONOTONIC, from the kernel's own stamp */
};

/** What a BIO does, and has done. */
struct weir_bio_info {
    bool stamps;              /**< the kernel gives transmit stamps for this socket */
    bool ktls_send;           /**< the kernel encrypts */
    bool ktls_receive;        /**< the kernel decrypts */
    uint64_t zerocopy_sends;  /**< sends made with MSG_ZEROCOPY */
    uint64_t zerocopy_copied; /**< of those, copied by the kernel all the same */
    uint64_t
        zerocopy_refused; /**< sends for which no memory was left, or the kernel had none (ENOBUFS) */
    unsigned zerocopy_in_flight; /**< pieces of the BIO's memory that the kernel still holds */
};

/** Fills in the defaults. */
WEIR_API void weir_bio_options_init(struct weir_bio_options *options);

/**
 * Makes a BIO on a connected TCP socket, blocking or not, for SSL_set_bio(ssl, bio, bio). Make it before
 * anything is written to the socket, or while nothing of that is unacknowledged. From then on write through
 * the BIO alone, or the offsets are wrong. `options` is copied; NULL stands for the defaults. The BIO
 * belongs to one thread at a time, as OpenSSL's own do.
 *
 * Where SSL_OP_ENABLE_KTLS is set, and the kernel and the cipher allow it, OpenSSL hands it to the kernel's
 * TLS as it does its own BIO. SIGPIPE is not raised. BIO_dup_chain and BIO_set_fd fail.
 *
 * BIO_free gives all memory back, also what the kernel still sends from: the kernel keeps those pages alive
 * and nobody else gets them meanwhile.
 *
 * Returns NULL if memory is out or `descriptor` is not a connected TCP socket, which stays the caller's.
 */
WEIR_API BIO *weir_bio_new(int descriptor, const struct weir_bio_options *options);

/*
 * The functions below take the BIO itself or one in front of it in a chain, such as what SSL_get_wbio
 * returns. It is an error, and asserted, if there is none of weir_bio_new's in it.
 */

/**
 * Asks for stamps of the last byte of what is written until weir_bio_stamp_stop: usually one SSL_write,
 * with all its repetitions. `bytes` is the length given to SSL_write, and lets the BIO stamp the last
 * record alone (or a few more, in front of it); 0 means unknown, and stamps each send. On kernel TLS, 0 also
 * stamps SSL_sendfile.
 * Returns 0, or WEIR_ENOTSUP where the kernel gives no stamps: weir_bio_acked_bytes may serve.
 */
WEIR_API int weir_bio_stamp_start(BIO *bio, size_t bytes);

/**
 * Ends what weir_bio_stamp_start began. Returns the wire offset of the write's end. The write has arrived
 * once a stamp with WEIR_STAGE_DELIVERED and an `offset` at or past this one was read.
 */
WEIR_API uint64_t weir_bio_stamp_stop(BIO *bio);

/**
 * Takes at most `count` stamps; fewer mean that no more are there now. It never blocks. Call it when poll(2)
 * says POLLERR for the descriptor, which it does until all is read, or after each SSL_read; with zero copy
 * it also takes the kernel's notices, and frees memory. Stamps may be missing where many writes were small
 * or many stamps stayed unread: wait for an offset at or past, never for a certain stamp.
 */
WEIR_API unsigned weir_bio_read_stamps(BIO *bio, struct weir_bio_stamp *stamps, unsigned count);

/**
 * How many bytes the kernel has taken for the wire since the BIO was made. On kernel TLS they include what
 * its records add, by the kernel's own count of records.
 */
WEIR_API uint64_t weir_bio_wire_bytes(BIO *bio);

/**
 * How many of those the peer has acknowledged, by the kernel's count (TCP_INFO). It serves where stamps were
 * lost or cannot be had. Returns 0, or WEIR_ENOTSUP where the kernel does not say.
 */
WEIR_API int weir_bio_acked_bytes(BIO *bio, uint64_t *bytes);

/** Counts bytes that SSL_sendfile has sent past the BIO. Call it after each that returned more than 0. */
WEIR_API void weir_bio_count_file(BIO *bio, uint64_t bytes);

/** Says what the BIO does, and has done. */
WEIR_API void weir_bio_get_info(BIO *bio, struct weir_bio_info *info);

#ifdef __cplusplus
}
#endif

#endif
