/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TLS_KERNEL_BIO_SOCKET_H
#define WEIR_TLS_KERNEL_BIO_SOCKET_H

/*
 * What weir_bio asks of the kernel. OpenSSL wants errno from a BIO, so these calls return -1 and set it, as
 * those of the C library do; they follow the socket's own mode, blocking or not.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/engine.h"

/* One sendmsg(2). A record type is for sockets with kernel TLS alone, the rest of control for others. */
struct weir__bio_message {
    const void *data;
    size_t length;
    int flags;           /* MSG_*; MSG_NOSIGNAL is added */
    uint8_t record_type; /* of the TLS record; 0: none is named, which is application data */
    bool stamp;          /* stamp the last byte that is taken */
    const void *control; /* the caller's own control messages */
    size_t control_length;
};

/* Returns the bytes taken. */
ssize_t weir__bio_socket_send(int descriptor, const struct weir__bio_message *message);
ssize_t weir__bio_socket_receive(int descriptor, void *data, size_t size);

/* A connected TCP socket? */
bool weir__bio_socket_is_connected(int descriptor);

/* Allows MSG_ZEROCOPY, which is ignored without a word before. */
bool weir__bio_socket_allow_zerocopy(int descriptor);

/* Bytes of the stream that are acknowledged, and those that were written, since the connection began;
 * false where the kernel does not say. */
bool weir__bio_socket_acked(int descriptor, uint64_t *acked);
bool weir__bio_socket_written(int descriptor, uint64_t *written);

/* One message of the error queue. */
struct weir__bio_notice {
    enum {
        WEIR__BIO_NOTICE_OTHER,
        WEIR__BIO_NOTICE_STAMP,
        WEIR__BIO_NOTICE_RELEASE, /* sends `first` to `last` with MSG_ZEROCOPY are done with their memory */
    } kind;
    struct weir__stamp stamp;
    uint32_t first, last;
    bool copied; /* the kernel has copied after all */
};

/* Takes one; false if there is none now. */
bool weir__bio_socket_notice(int descriptor, struct weir__bio_notice *notice);

/* ---- kernel TLS (the kernel's Documentation/networking/tls.rst) */

/* What is needed to count the bytes on the wire of a socket that sends by kernel TLS. */
struct weir__bio_records {
    uint16_t version, cipher;
    uint64_t first_sequence; /* of the first record that the kernel makes */
};

/*
 * Gives the socket the keys of one direction. `crypto_info` is one of the kernel's struct
 * tls12_crypto_info_*, whose size follows from the cipher that its head names. Fills in `records`.
 */
bool weir__bio_ktls_start(int descriptor, const void *crypto_info, bool send,
                          struct weir__bio_records *records);

/* sendfile from the page cache without a copy: the file must not change meanwhile. */
bool weir__bio_ktls_file_zerocopy(int descriptor);

/* What records made since the start have added to their plaintext; false where the kernel does not say. */
bool weir__bio_ktls_added_bytes(int descriptor, const struct weir__bio_records *records,
                                uint64_t *added);

/* Reads plaintext of one type, at most `size` bytes; 0 at the end. */
ssize_t weir__bio_ktls_receive(int descriptor, void *data, size_t size, uint8_t *record_type);

#endif
