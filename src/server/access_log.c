/* SPDX-License-Identifier: Apache-2.0 */
#include "server/access_log.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

/* The shares of peers' text in a line, escaped: together 14 KiB and 64 of WEIR__LOG_LINE_MAX's 16.
 */
#define METHOD_BYTES_MAX     64
#define HOST_BYTES_MAX       1024
#define TARGET_BYTES_MAX     8192
#define REFERER_BYTES_MAX    3072
#define USER_AGENT_BYTES_MAX 2048

#define NS_PER_SECOND 1000000000u
#define NS_PER_US     1000u

/* ---- appenders: each writes at `at` and returns where it stopped */

static char *put_bytes(char *at, const char *bytes, size_t length)
{
    memcpy(at, bytes, length);
    return at + length;
}

static char *put_text(char *at, const char *text)
{
    return put_bytes(at, text, strlen(text));
}

/* The length of a literal is known when compiling, so that the copy becomes a few moves. */
#define PUT(at, literal) put_bytes((at), "" literal, sizeof(literal) - 1)

static const char digit_pairs[] = "00010203040506070809101112131415161718192021222324"
                                  "25262728293031323334353637383940414243444546474849"
                                  "50515253545556575859606162636465666768697071727374"
                                  "75767778798081828384858687888990919293949596979899";

static char *put_number(char *at, uint64_t number)
{
    char digits[20]; /* 2^64 - 1 has 20 */
    size_t start = sizeof(digits);

    while (number >= 100) {
        start -= 2;
        memcpy(digits + start, digit_pairs + 2 * (number % 100), 2);
        number /= 100;
    }
    if (number >= 10) {
        start -= 2;
        memcpy(digits + start, digit_pairs + 2 * number, 2);
    } else {
        digits[--start] = (char)('0' + number);
    }
    return put_bytes(at, digits + start, sizeof(digits) - start);
}

static char *put_two_digits(char *at, unsigned number)
{
    assert(number < 100);
    return put_bytes(at, digit_pairs + 2 * number, 2);
}

static char *put_six_digits(char *at, unsigned number)
{
    at = put_two_digits(at, number / 10000);
    at = put_two_digits(at, number / 100 % 100);
    return put_two_digits(at, number % 100);
}

/* Since the request's first byte. Kernel stamps and the loop's clock differ by a little: never
 * below 0. */
static uint64_t elapsed_us(const struct weir__log_entry *entry, uint64_t at_ns)
{
    return at_ns > entry->arrived_ns ? (at_ns - entry->arrived_ns) / NS_PER_US : 0;
}

static char *put_elapsed(char *at, const struct weir__log_entry *entry, uint64_t at_ns)
{
    return at_ns ? put_number(at, elapsed_us(entry, at_ns)) : PUT(at, "null");
}

/* ---- peers' text */

/*
 * The length of the UTF-8 character that `bytes` begins with, or 0 if it is none: overlong, a
 * surrogate, past U+10FFFF or cut short (Unicode's table 3-7).
 */
static size_t utf8_length(const unsigned char *bytes, size_t length)
{
    unsigned char lead = bytes[0], low = 0x80, high = 0xbf;
    size_t wanted;

    if (lead >= 0xc2 && lead <= 0xdf) {
        wanted = 2;
    } else if (lead >= 0xe0 && lead <= 0xef) {
        wanted = 3;
        low = lead == 0xe0 ? 0xa0 : low;
        high = lead == 0xed ? 0x9f : high;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
        wanted = 4;
        low = lead == 0xf0 ? 0x90 : low;
        high = lead == 0xf4 ? 0x8f : high;
    } else {
        return 0;
    }
    if (length < wanted || bytes[1] < low || bytes[1] > high)
        return 0;
    for (size_t i = 2; i < wanted; i++) {
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
    }
    return wanted;
}

/*
 * Characters that are valid but would move a terminal's cursor (the C1 controls, U+0080 to U+009F)
 * or end a line for some readers (U+2028, U+2029).
 */
static bool is_unprintable(const unsigned char *character, size_t length)
{
    if (length == 2)
        return character[0] == 0xc2 && character[1] < 0xa0;
    return length == 3 && character[0] == 0xe2 && character[1] == 0x80 &&
           (character[2] == 0xa8 || character[2] == 0xa9);
}

static char *put_hex(char *at, unsigned byte)
{
    static const char digits[] = "0123456789abcdef";
    *at++ = digits[byte >> 4];
    *at++ = digits[byte & 15];
    return at;
}

/* Writes one character or stray byte of `bytes` in JSON's way, at most 6 bytes; `*used` is its
 * length. */
static char *put_json_character(char *at, const unsigned char *bytes, size_t length, size_t *used)
{
    size_t character = utf8_length(bytes, length);

    *used = character ? character : 1;
    if (*bytes == '"' || *bytes == '\\') {
        *at++ = '\\';
        *at++ = (char)*bytes;
        return at;
    }
    if (character == 3 && is_unprintable(bytes, 3))
        return put_hex(PUT(at, "\\u20"), bytes[2] & 0x2fu);
    if (character == 2 && is_unprintable(bytes, 2))
        return put_hex(PUT(at, "\\u00"), bytes[1]);
    if (character)
        return put_bytes(at, (const char *)bytes, character);
    return put_hex(PUT(at, "\\u00"), *bytes);
}

/* Writes one byte in nginx's way: \xXX for what does not belong between quotes. */
static char *put_combined_character(char *at, const unsigned char *bytes, size_t length,
                                    size_t *used)
{
    (void)length;
    *used = 1;
    return put_hex(PUT(at, "\\x"), *bytes);
}

#define CHARACTER_BYTES_MAX 6

typedef char *(*put_character_fn)(char *, const unsigned char *, size_t, size_t *);

static bool is_plain(unsigned char byte)
{
    return byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\';
}

/* Writes at most `limit` bytes of escaped text. */
static char *put_escaped(char *at, const struct weir__text *text, size_t limit,
                         put_character_fn put_character)
{
    const unsigned char *bytes = (const unsigned char *)text->data;
    const char *end = at + limit;
    size_t length = text->length;

    while (length > 0 && at < end) {
        if (is_plain(*bytes)) {
            *at++ = (char)*bytes++;
            length--;
            continue;
        }
        char escaped[CHARACTER_BYTES_MAX];
        size_t used;
        size_t written = (size_t)(put_character(escaped, bytes, length, &used) - escaped);
        if (written > (size_t)(end - at))
            break;
        at = put_bytes(at, escaped, written);
        bytes += used;
        length -= used;
    }
    return at;
}

static char *put_json_string(char *at, const struct weir__text *text, size_t limit)
{
    if (!text->data)
        return PUT(at, "null");
    *at++ = '"';
    at = put_escaped(at, text, limit, put_json_character);
    *at++ = '"';
    return at;
}

static char *put_combined_string(char *at, const struct weir__text *text, size_t limit)
{
    if (!text->data)
        return PUT(at, "-");
    return put_escaped(at, text, limit, put_combined_character);
}

/* ---- the clock */

void weir__log_clock_init(struct weir__log_clock *clock)
{
    clock->second = UINT64_MAX;
}

static void clock_set(struct weir__log_clock *clock, uint64_t second)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t time = (time_t)second;
    struct tm tm;
    char *at = clock->json;

    if (clock->second == second)
        return;
    gmtime_r(&time, &tm);
    unsigned year = (unsigned)tm.tm_year + 1900, month = (unsigned)tm.tm_mon;
    unsigned day = (unsigned)tm.tm_mday;
    char time_of_day[8];
    char *part = put_two_digits(time_of_day, (unsigned)tm.tm_hour);
    *part++ = ':';
    part = put_two_digits(part, (unsigned)tm.tm_min);
    *part++ = ':';
    put_two_digits(part, (unsigned)tm.tm_sec);

    at = put_two_digits(at, year / 100 % 100);
    at = put_two_digits(at, year % 100);
    *at++ = '-';
    at = put_two_digits(at, month + 1);
    *at++ = '-';
    at = put_two_digits(at, day);
    *at++ = 'T';
    at = put_bytes(at, time_of_day, sizeof(time_of_day));
    assert(at == clock->json + sizeof(clock->json));

    at = put_two_digits(clock->combined, day);
    *at++ = '/';
    at = put_bytes(at, months + (size_t)3 * month, 3);
    *at++ = '/';
    at = put_two_digits(at, year / 100 % 100);
    at = put_two_digits(at, year % 100);
    *at++ = ':';
    at = put_bytes(at, time_of_day, sizeof(time_of_day));
    at = PUT(at, " +0000");
    assert(at == clock->combined + sizeof(clock->combined));
    clock->second = second;
}

/* ---- lines */

static const char *send_name(enum weir__log_send send)
{
    static const char *const names[] = {
        [WEIR__LOG_SEND_COPY] = "copy",
        [WEIR__LOG_SEND_ZEROCOPY] = "zerocopy",
        [WEIR__LOG_SEND_COPIED] = "copied",
        [WEIR__LOG_SEND_FILE] = "file",
    };
    return names[send];
}

static const char *outcome_name(enum weir__log_outcome outcome)
{
    static const char *const names[] = {
        [WEIR__LOG_DELIVERED] = "\"delivered\"",
        [WEIR__LOG_RESET] = "\"reset\"",
        [WEIR__LOG_TIMEOUT] = "\"timeout\"",
        [WEIR__LOG_ABORTED] = "\"aborted\"",
        [WEIR__LOG_UNKNOWN] = "null",
    };
    return names[outcome];
}

static char *put_json_head(char *at, const struct weir__log_entry *entry,
                           const struct weir__log_clock *clock)
{
    at = PUT(at, "{\"time\":\"");
    at = put_bytes(at, clock->json, sizeof(clock->json));
    *at++ = '.';
    at = put_six_digits(at, (unsigned)(entry->wall_ns % NS_PER_SECOND / NS_PER_US));
    at = PUT(at, "Z\",\"client\":\"");
    at = put_text(at, entry->client);
    if (entry->protocol) {
        at = PUT(at, "\",\"protocol\":\"");
        at = put_text(at, entry->protocol);
        at = PUT(at, "\",\"method\":");
    } else {
        at = PUT(at, "\",\"protocol\":null,\"method\":");
    }
    at = put_json_string(at, &entry->method, METHOD_BYTES_MAX);
    at = PUT(at, ",\"host\":");
    at = put_json_string(at, &entry->host, HOST_BYTES_MAX);
    at = PUT(at, ",\"target\":");
    return put_json_string(at, &entry->target, TARGET_BYTES_MAX);
}

/* Of our own making: a text that needs no escape, or NULL. */
static char *put_json_name(char *at, const char *name)
{
    if (!name)
        return PUT(at, "null");
    *at++ = '"';
    at = put_text(at, name);
    *at++ = '"';
    return at;
}

static char *put_json_tls(char *at, const struct weir__log_entry *entry)
{
    if (!entry->tls)
        return PUT(at, ",\"tls\":null,\"cipher\":null,\"tls_vendor\":null,\"ktls\":\"none\"");
    at = PUT(at, ",\"tls\":");
    at = put_json_name(at, entry->tls);
    at = PUT(at, ",\"cipher\":");
    at = put_json_name(at, entry->cipher);
    at = PUT(at, ",\"tls_vendor\":");
    at = put_json_name(at, entry->tls_vendor);
    if (!entry->kernel_tx)
        return PUT(at, ",\"ktls\":\"none\"");
    return entry->kernel_rx ? PUT(at, ",\"ktls\":\"tx+rx\"") : PUT(at, ",\"ktls\":\"tx\"");
}

static char *put_json_response(char *at, const struct weir__log_entry *entry)
{
    at = PUT(at, ",\"status\":");
    at = put_number(at, entry->status);
    at = PUT(at, ",\"body_bytes\":");
    at = put_number(at, entry->body_bytes);
    at = PUT(at, ",\"wire_bytes\":");
    at = put_number(at, entry->wire_bytes);
    at = put_json_tls(at, entry);
    at = PUT(at, ",\"engine\":\"");
    at = put_text(at, entry->engine);
    at = PUT(at, "\",\"send\":\"");
    at = put_text(at, send_name(entry->send));
    return PUT(at, "\"");
}

static char *put_json_delivery(char *at, const struct weir__log_entry *entry)
{
    at = PUT(at, ",\"first_byte_us\":");
    at = put_elapsed(at, entry, entry->first_byte_ns);
    at = PUT(at, ",\"accepted_us\":");
    at = put_elapsed(at, entry, entry->accepted_ns);
    at = PUT(at, ",\"sent_us\":");
    at = put_elapsed(at, entry, entry->sent_ns);
    at = PUT(at, ",\"delivered_us\":");
    at = put_elapsed(at, entry, entry->delivered_ns);
    at = PUT(at, ",\"delivered_by\":\"");
    at = put_text(at, weir_delivery_source_name(entry->delivered_by));
    at = PUT(at, "\",\"delivered_bytes\":");
    at = put_number(at, entry->delivered_bytes);
    at = PUT(at, ",\"outcome\":");
    at = put_text(at, outcome_name(entry->outcome));
    if (entry->info_known) {
        at = PUT(at, ",\"rtt_us\":");
        at = put_number(at, entry->rtt_us);
        at = PUT(at, ",\"retransmits\":");
        at = put_number(at, entry->retransmits);
    } else {
        at = PUT(at, ",\"rtt_us\":null,\"retransmits\":null");
    }
    return PUT(at, ",\"cache\":\"none\",\"upstream_us\":null}\n");
}

/* The client's address without its port and brackets. */
static char *put_client_host(char *at, const char *client)
{
    const char *colon = strrchr(client, ':');
    size_t length = colon ? (size_t)(colon - client) : strlen(client);

    if (length >= 2 && client[0] == '[')
        return put_bytes(at, client + 1, length - 2);
    return put_bytes(at, client, length);
}

static char *put_combined(char *at, const struct weir__log_entry *entry,
                          const struct weir__log_clock *clock)
{
    at = put_client_host(at, entry->client);
    at = PUT(at, " - - [");
    at = put_bytes(at, clock->combined, sizeof(clock->combined));
    at = PUT(at, "] \"");
    at = put_combined_string(at, &entry->method, METHOD_BYTES_MAX);
    if (entry->method.data) {
        *at++ = ' ';
        at = put_combined_string(at, &entry->target, TARGET_BYTES_MAX);
        *at++ = ' ';
        at = put_text(at, entry->protocol ? entry->protocol : "-");
    }
    at = PUT(at, "\" ");
    at = put_number(at, entry->status);
    *at++ = ' ';
    at = put_number(at, entry->body_bytes);
    at = PUT(at, " \"");
    at = put_combined_string(at, &entry->referer, REFERER_BYTES_MAX);
    at = PUT(at, "\" \"");
    at = put_combined_string(at, &entry->user_agent, USER_AGENT_BYTES_MAX);
    at = PUT(at, "\" ");
    if (entry->delivered_ns) {
        uint64_t us = elapsed_us(entry, entry->delivered_ns);
        at = put_number(at, us / 1000000);
        *at++ = '.';
        at = put_six_digits(at, (unsigned)(us % 1000000));
    } else {
        *at++ = '-';
    }
    *at++ = '\n';
    return at;
}

size_t weir__log_entry_format(const struct weir__log_entry *entry, enum weir__log_format format,
                              struct weir__log_clock *clock, char *line, size_t size)
{
    char *at = line;

    assert(size >= WEIR__LOG_LINE_MAX);
    clock_set(clock, entry->wall_ns / NS_PER_SECOND);
    if (format == WEIR__LOG_JSON) {
        at = put_json_head(at, entry, clock);
        at = put_json_response(at, entry);
        at = put_json_delivery(at, entry);
    } else {
        at = put_combined(at, entry, clock);
    }
    assert((size_t)(at - line) <= size);
    return (size_t)(at - line);
}
