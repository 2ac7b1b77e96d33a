/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/vendor/shared.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <weir/error.h>

void weir__tls_complain(struct weir__tls_complaint *complaint, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(complaint->text, sizeof(complaint->text), format, arguments);
    va_end(arguments);
    /* Libraries' texts may have several lines. */
    complaint->text[strcspn(complaint->text, "\r\n")] = '\0';
}

static const struct weir__tls_suite suites[] = {
    {0x1301, WEIR__TLS_1_3, WEIR__TLS_AES_128_GCM, WEIR__TLS_SHA256, "TLS_AES_128_GCM_SHA256",
     "TLS_AES_128_GCM_SHA256"},
    {0x1302, WEIR__TLS_1_3, WEIR__TLS_AES_256_GCM, WEIR__TLS_SHA384, "TLS_AES_256_GCM_SHA384",
     "TLS_AES_256_GCM_SHA384"},
    {0x1303, WEIR__TLS_1_3, WEIR__TLS_CHACHA20_POLY1305, WEIR__TLS_SHA256,
     "TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"},
    {0xc02b, WEIR__TLS_1_2, WEIR__TLS_AES_128_GCM, WEIR__TLS_SHA256,
     "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"},
    {0xc02f, WEIR__TLS_1_2, WEIR__TLS_AES_128_GCM, WEIR__TLS_SHA256,
     "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"},
    {0xc02c, WEIR__TLS_1_2, WEIR__TLS_AES_256_GCM, WEIR__TLS_SHA384,
     "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"},
    {0xc030, WEIR__TLS_1_2, WEIR__TLS_AES_256_GCM, WEIR__TLS_SHA384,
     "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"},
    {0xcca9, WEIR__TLS_1_2, WEIR__TLS_CHACHA20_POLY1305, WEIR__TLS_SHA256,
     "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"},
    {0xcca8, WEIR__TLS_1_2, WEIR__TLS_CHACHA20_POLY1305, WEIR__TLS_SHA256,
     "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"},
};

const struct weir__tls_suite *weir__tls_suites(unsigned *count)
{
    if (count)
        *count = sizeof(suites) / sizeof(suites[0]);
    return suites;
}

const struct weir__tls_suite *weir__tls_suite_find(unsigned number)
{
    for (unsigned i = 0; i < sizeof(suites) / sizeof(suites[0]); i++) {
        if (suites[i].number == number)
            return &suites[i];
    }
    return NULL;
}

enum weir__tls_name_kind weir__tls_name_kind(const char *name)
{
    struct in6_addr address;
    size_t length = strlen(name);

    if (inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1)
        return WEIR__TLS_NAME_ADDRESS;
    if (length == 0 || length > 253 || name[0] == '.' || name[length - 1] == '.')
        return WEIR__TLS_NAME_WRONG;
    /* Underscores are no part of host names, but of names that people give to hosts. */
    if (strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != length)
        return WEIR__TLS_NAME_WRONG;
    return WEIR__TLS_NAME_HOST;
}

int weir__tls_config_check(const struct weir__tls_config *config,
                           struct weir__tls_complaint *complaint)
{
    if (config->version_min < WEIR__TLS_1_2 || config->version_max > WEIR__TLS_1_3 ||
        config->version_min > config->version_max) {
        weir__tls_complain(complaint, "no such TLS versions: 0x%04x to 0x%04x", config->version_min,
                           config->version_max);
        return WEIR_EINVAL;
    }
    if (config->server ? config->certificate_count == 0 : config->certificate_count > 1) {
        weir__tls_complain(complaint, "%u certificates for a %s", config->certificate_count,
                           config->server ? "server" : "client");
        return WEIR_EINVAL;
    }
    if (config->alpn_count > WEIR__TLS_ALPN_MAX) {
        weir__tls_complain(complaint, "more than %d ALPN names", WEIR__TLS_ALPN_MAX);
        return WEIR_EINVAL;
    }
    for (unsigned i = 0; i < config->alpn_count; i++) {
        size_t length = strlen(config->alpn[i]);
        if (length == 0 || length > WEIR__TLS_ALPN_BYTES_MAX) {
            weir__tls_complain(complaint, "an ALPN name of %zu bytes", length);
            return WEIR_EINVAL;
        }
    }
    if (config->tickets && config->tickets->count > WEIR__TLS_TICKET_KEYS_MAX) {
        weir__tls_complain(complaint, "more than %d ticket keys", WEIR__TLS_TICKET_KEYS_MAX);
        return WEIR_EINVAL;
    }
    return 0;
}

size_t weir__tls_alpn_wire(const struct weir__tls_config *config, uint8_t *wire)
{
    size_t at = 0;

    for (unsigned i = 0; i < config->alpn_count; i++) {
        size_t length = strlen(config->alpn[i]);
        wire[at++] = (uint8_t)length;
        memcpy(wire + at, config->alpn[i], length);
        at += length;
    }
    return at;
}

static bool lists(const uint8_t *list, size_t length, const uint8_t *name)
{
    for (size_t at = 0; at < length; at += 1 + (size_t)list[at]) {
        if (list[at] == name[0] && list[at] < length - at &&
            memcmp(list + at + 1, name + 1, name[0]) == 0)
            return true;
    }
    return false;
}

const uint8_t *weir__tls_alpn_choose(const uint8_t *wire, size_t length, const uint8_t *client,
                                     size_t client_length)
{
    for (size_t at = 0; at < length; at += 1 + (size_t)wire[at]) {
        if (lists(client, client_length, wire + at))
            return wire + at;
    }
    return NULL;
}

void weir__tls_counter_feed(struct weir__tls_counter *counter, const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        size_t taken;
        if (counter->body_left > 0) {
            taken = length < counter->body_left ? length : counter->body_left;
            counter->body_left -= taken;
        } else {
            if (counter->header_length == 0) {
                counter->records++;
                counter->types |= UINT32_C(1) << (*bytes & 31);
            }
            taken = 1;
            counter->header[counter->header_length++] = *bytes;
            if (counter->header_length == sizeof(counter->header)) {
                counter->body_left = (size_t)counter->header[3] << 8 | counter->header[4];
                counter->header_length = 0;
            }
        }
        bytes += taken;
        length -= taken;
    }
}

bool weir__tls_record_is_whole(const uint8_t *record, size_t length)
{
    return length >= 5 && length == 5 + ((size_t)record[3] << 8 | record[4]) &&
           length <= 5 + 16384 + 256;
}

bool weir__tls_record_changes_well(const uint8_t *record, size_t length)
{
    return record[0] != WEIR__TLS_CHANGE_CIPHER_SPEC || (length == 6 && record[5] == 1);
}

/* A byte for `verified`, one for the name's length, the name. */
int weir__tls_saved_write(const struct weir__tls_saved *saved, uint8_t *data, size_t size)
{
    size_t length = saved->server_name ? strlen(saved->server_name) : 0;

    assert(length < WEIR__TLS_NAME_MAX);
    if (size < 2 + length)
        return WEIR_ENOBUFS;
    data[0] = saved->verified;
    data[1] = (uint8_t)length;
    if (length > 0)
        memcpy(data + 2, saved->server_name, length);
    return (int)(2 + length);
}

size_t weir__tls_saved_match(const struct weir__tls_saved *wanted, const uint8_t *data,
                             size_t length)
{
    size_t name_length = wanted->server_name ? strlen(wanted->server_name) : 0;

    if (length < 2 + name_length || data[1] != name_length || (wanted->verified && data[0] != 1))
        return 0;
    if (name_length > 0 && memcmp(data + 2, wanted->server_name, name_length) != 0)
        return 0;
    return 2 + name_length;
}

#define CHECKSUM_BYTES 32
static const uint8_t checksum_key[] = "weir session";

int weir__tls_saved_put(const struct weir__tls_vendor *vendor, const struct weir__tls_saved *saved,
                        const uint8_t *session, size_t session_length, uint8_t *data, size_t size)
{
    int prefix = weir__tls_saved_write(saved, data, size);

    if (prefix < 0)
        return prefix;
    size_t room = size - (size_t)prefix;
    if (room < CHECKSUM_BYTES || session_length > room - CHECKSUM_BYTES)
        return WEIR_ENOBUFS;
    data += prefix;
    if (vendor->hmac(WEIR__TLS_SHA256, checksum_key, sizeof(checksum_key), session, session_length,
                     data) != 0)
        return 0;
    memcpy(data + CHECKSUM_BYTES, session, session_length);
    return (int)((size_t)prefix + CHECKSUM_BYTES + session_length);
}

const uint8_t *weir__tls_saved_get(const struct weir__tls_vendor *vendor,
                                   const struct weir__tls_saved *wanted, const uint8_t *data,
                                   size_t length, size_t *session_length)
{
    size_t prefix = weir__tls_saved_match(wanted, data, length);
    uint8_t checksum[WEIR__TLS_HASH_MAX];

    if (prefix == 0 || length - prefix < CHECKSUM_BYTES)
        return NULL;
    const uint8_t *session = data + prefix + CHECKSUM_BYTES;
    *session_length = length - prefix - CHECKSUM_BYTES;
    if (vendor->hmac(WEIR__TLS_SHA256, checksum_key, sizeof(checksum_key), session, *session_length,
                     checksum) != 0 ||
        memcmp(checksum, data + prefix, CHECKSUM_BYTES) != 0)
        return NULL;
    return session;
}

/* What is left to read of a message; after reading past its end it is empty. */
struct reader {
    const uint8_t *at;
    size_t left;
};

static const uint8_t *take(struct reader *reader, size_t length)
{
    const uint8_t *taken = reader->at;

    if (length > reader->left) {
        reader->left = 0;
        return NULL;
    }
    reader->at += length;
    reader->left -= length;
    return taken;
}

/* A vector, whose length comes first, in `length_bytes` bytes. */
static struct reader take_vector(struct reader *reader, size_t length_bytes)
{
    const uint8_t *bytes = take(reader, length_bytes);
    struct reader vector = {NULL, 0};

    for (size_t i = 0; bytes && i < length_bytes; i++)
        vector.left = vector.left << 8 | bytes[i];
    vector.at = take(reader, vector.left);
    if (!vector.at)
        vector.left = 0;
    return vector;
}

const uint8_t *weir__tls_hello_extension(const uint8_t *record, size_t length, uint16_t type,
                                         size_t *extension_length)
{
    struct reader reader = {record, length};

    /* A handshake record with a message of type 1: RFC 5246 section 7.4.1.2, RFC 8446 section 4.1.2. */
    if (length < 6 || record[0] != WEIR__TLS_HANDSHAKE || record[5] != 1)
        return NULL;
    take(&reader, 6);
    struct reader hello = take_vector(&reader, 3);
    take(&hello, 2 + 32);   /* version, random */
    take_vector(&hello, 1); /* session id */
    take_vector(&hello, 2); /* cipher suites */
    take_vector(&hello, 1); /* compression methods */
    struct reader extensions = take_vector(&hello, 2);
    while (extensions.left > 0) {
        const uint8_t *found = take(&extensions, 2);
        struct reader data = take_vector(&extensions, 2);
        if (found && data.at && (found[0] << 8 | found[1]) == type) {
            *extension_length = data.left;
            return data.at;
        }
    }
    return NULL;
}
