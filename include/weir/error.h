/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_ERROR_H
#define WEIR_ERROR_H

#include <weir/visibility.h>

/**
 * Every function that can fail returns 0, or one of these, which are all negative. Weir never hands
 * out errno. Each declaration lists the errors that it returns.
 */
enum weir_error {
    WEIR_ENOMEM = -1,         /**< an allocation failed */
    WEIR_EINVAL = -2,         /**< an argument makes no sense */
    WEIR_ENOTSUP = -3,        /**< this kernel, engine or build cannot do that */
    WEIR_EQUEUEFULL = -4,     /**< a bounded queue is full; nothing was queued */
    WEIR_ESHUT = -5,          /**< the stream is closing or its sending side is shut */
    WEIR_ECANCELLED = -6,     /**< the operation was cancelled by its owner */
    WEIR_EABORTED = -7,       /**< this side gave the connection up */
    WEIR_ERESET = -8,         /**< the peer reset the connection */
    WEIR_ETIMEDOUT = -9,      /**< the peer, or a deadline, ran out of time */
    WEIR_EREFUSED = -10,      /**< nothing listens at that address */
    WEIR_EUNREACHABLE = -11,  /**< no route to that address */
    WEIR_EADDRINUSE = -12,    /**< another socket listens there */
    WEIR_EADDRNOTAVAIL = -13, /**< not an address of this host */
    WEIR_EACCESS = -14,       /**< not permitted */
    WEIR_EMFILE = -15,        /**< no file descriptor is left, in the process or on the host */
    WEIR_ENOBUFS = -16,       /**< out of buffers: the kernel, or a bound of the loop */
    WEIR_ETRUNCATED = -17,    /**< a file was shorter than the length that was promised */
    WEIR_EIO = -18,           /**< any other failure of the operating system */
    WEIR_ETLS = -19,          /**< the TLS handshake failed, or a record was not as it must be */
    WEIR_ECUTOFF = -20, /**< a TLS peer ended the connection without saying so: data may lack */
};

/** A few words for an error code, without a full stop. Any thread; the text is static. */
WEIR_API const char *weir_error_text(int error);

/** The name of an error code, such as "WEIR_ERESET", or "0". Any thread; the text is static. */
WEIR_API const char *weir_error_name(int error);

#endif
