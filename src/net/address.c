/* SPDX-License-Identifier: Apache-2.0 */
#include <weir/address.h>

#include <arpa/inet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <weir/error.h>

#define PORT_MAX 65535u

static int parse_port(const char *text, in_port_t *port)
{
    unsigned value = 0;

    if (*text == '\0')
        return WEIR_EINVAL;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return WEIR_EINVAL;
        value = value * 10 + (unsigned)(*text - '0');
        if (value > PORT_MAX)
            return WEIR_EINVAL;
    }
    *port = htons((uint16_t)value);
    return 0;
}

static int parse_ipv6(struct weir_address *address, char *host)
{
    struct sockaddr_in6 *ipv6 = &address->socket.ipv6;
    char *scope = strchr(host, '%');

    if (scope) {
        *scope++ = '\0';
        ipv6->sin6_scope_id = if_nametoindex(scope);
        if (ipv6->sin6_scope_id == 0)
            return WEIR_EINVAL;
    }
    if (inet_pton(AF_INET6, host, &ipv6->sin6_addr) != 1)
        return WEIR_EINVAL;
    ipv6->sin6_family = AF_INET6;
    address->length = sizeof(*ipv6);
    return 0;
}

static int parse_ipv4(struct weir_address *address, const char *host)
{
    struct sockaddr_in *ipv4 = &address->socket.ipv4;

    if (*host == '\0')
        host = "0.0.0.0";
    if (inet_pton(AF_INET, host, &ipv4->sin_addr) != 1)
        return WEIR_EINVAL;
    ipv4->sin_family = AF_INET;
    address->length = sizeof(*ipv4);
    return 0;
}

int weir_address_parse(struct weir_address *address, const char *text)
{
    char host[WEIR_ADDRESS_TEXT_MAX];
    const char *colon = strrchr(text, ':');

    memset(address, 0, sizeof(*address));
    if (!colon || (size_t)(colon - text) >= sizeof(host))
        return WEIR_EINVAL;
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';

    size_t length = strlen(host);
    int error;
    if (length >= 2 && host[0] == '[' && host[length - 1] == ']') {
        host[length - 1] = '\0';
        error = parse_ipv6(address, host + 1);
    } else {
        error = parse_ipv4(address, host);
    }
    if (!error)
        error = parse_port(colon + 1, address->socket.any.sa_family == AF_INET6
                                          ? &address->socket.ipv6.sin6_port
                                          : &address->socket.ipv4.sin_port);
    if (error)
        memset(address, 0, sizeof(*address));
    return error;
}

unsigned weir_address_port(const struct weir_address *address)
{
    if (address->length == 0)
        return 0;
    if (address->socket.any.sa_family == AF_INET6)
        return ntohs(address->socket.ipv6.sin6_port);
    return ntohs(address->socket.ipv4.sin_port);
}

int weir_address_format(const struct weir_address *address, char text[WEIR_ADDRESS_TEXT_MAX])
{
    char host[INET6_ADDRSTRLEN] = "";

    if (address->length == 0)
        return snprintf(text, WEIR_ADDRESS_TEXT_MAX, "-");
    if (address->socket.any.sa_family == AF_INET6) {
        const struct sockaddr_in6 *ipv6 = &address->socket.ipv6;
        inet_ntop(AF_INET6, &ipv6->sin6_addr, host, sizeof(host));
        if (ipv6->sin6_scope_id != 0)
            return snprintf(text, WEIR_ADDRESS_TEXT_MAX, "[%s%%%u]:%u", host,
                            (unsigned)ipv6->sin6_scope_id, weir_address_port(address));
        return snprintf(text, WEIR_ADDRESS_TEXT_MAX, "[%s]:%u", host, weir_address_port(address));
    }
    inet_ntop(AF_INET, &address->socket.ipv4.sin_addr, host, sizeof(host));
    return snprintf(text, WEIR_ADDRESS_TEXT_MAX, "%s:%u", host, weir_address_port(address));
}
