/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_ADDRESS_H
#define WEIR_ADDRESS_H

#include <netinet/in.h>
#include <sys/socket.h>

#include <weir/visibility.h>

/** An IPv4 or IPv6 address and port. A value: copy it freely. */
struct weir_address {
    union {
        struct sockaddr any;
        struct sockaddr_in ipv4;
        struct sockaddr_in6 ipv6;
    } socket;
    socklen_t length; /**< 0 = no address */
};

/** Room for any address as text: "[" IPv6 with scope "]:65535" and the final zero. */
#define WEIR_ADDRESS_TEXT_MAX 72

/**
 * Reads "127.0.0.1:8080", "[::1]:8080", "[fe80::1%eth0]:8080" or ":8080" (every IPv4 address of this
 * host). Numbers only: names are a resolver's work. Port 0 asks for any free port. Any thread.
 * Returns 0, or WEIR_EINVAL, and then `address` is no address.
 */
WEIR_API int weir_address_parse(struct weir_address *address, const char *text);

/**
 * Writes "127.0.0.1:8080" or "[::1]:8080" with its final zero; "-" if there is no address. Returns
 * the length without the zero. Any thread.
 */
WEIR_API int weir_address_format(const struct weir_address *address,
                                 char text[WEIR_ADDRESS_TEXT_MAX]);

/** The port in host order, 0 if there is none. Any thread. */
WEIR_API unsigned weir_address_port(const struct weir_address *address);

#endif
