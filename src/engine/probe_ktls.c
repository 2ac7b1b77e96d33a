/* SPDX-License-Identifier: Apache-2.0 */
/* Probes of kernel TLS: fixed keys on both ends of a connection over loopback. */
#include <errno.h>
#include <fcntl.h>
#include <linux/net_tstamp.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/ktls.h"
#include "engine/probe_try.h"

static const char message_bytes[] = "weir";

static const struct {
    enum weir__tls_cipher cipher;
    const char *name;
} ciphers[] = {
    {WEIR__TLS_AES_128_GCM, "AES-128-GCM"},
    {WEIR__TLS_AES_256_GCM, "AES-256-GCM"},
    {WEIR__TLS_CHACHA20_POLY1305, "CHACHA20-POLY1305"},
};
#define CIPHER_COUNT (sizeof(ciphers) / sizeof(ciphers[0]))

static struct weir__tls_keys keys_of(uint16_t version, enum weir__tls_cipher cipher)
{
    struct weir__tls_keys keys = {.version = version, .cipher = cipher};

    memset(keys.key, 7, weir__tls_key_bytes(cipher));
    memset(keys.iv, 9, version == WEIR__TLS_1_3 ? WEIR__TLS_NONCE : WEIR__TLS_SALT);
    return keys;
}

static bool insert(struct weir__probe *probe, int descriptor)
{
    int error = weir__ktls_insert(descriptor);

    if (error == ENOENT)
        weir__probe_lacks(probe, "this kernel has no module \"tls\", or it is not loaded");
    else if (error != 0)
        weir__probe_refused(probe, "setsockopt TCP_ULP", error);
    return error == 0;
}

/* 0 or errno: the keys in one direction of a connection, `pair[0]` the sender. */
static int keys_set(const int pair[2], const struct weir__tls_keys *keys)
{
    int error = weir__ktls_keys_set(pair[0], WEIR__TLS_TX, keys);

    return error ? error : weir__ktls_keys_set(pair[1], WEIR__TLS_RX, keys);
}

bool weir__probe_ktls_pair(struct weir__probe *probe, int pair[2])
{
    const struct weir__tls_keys keys = keys_of(WEIR__TLS_1_3, WEIR__TLS_AES_128_GCM);

    if (!weir__probe_pair(probe, pair) || !insert(probe, pair[0]) || !insert(probe, pair[1]))
        return false;
    int error = keys_set(pair, &keys);
    if (error != 0)
        weir__probe_refused(probe, "setsockopt SOL_TLS", error);
    return error == 0;
}

static bool message_passes(const int pair[2])
{
    struct pollfd readable = {.fd = pair[1], .events = POLLIN};
    char got[sizeof(message_bytes)];

    return send(pair[0], message_bytes, sizeof(got), MSG_NOSIGNAL) == sizeof(got) &&
           poll(&readable, 1, WEIR__PROBE_EVENT_MS) == 1 &&
           recv(pair[1], got, sizeof(got), MSG_DONTWAIT) == sizeof(got) &&
           memcmp(got, message_bytes, sizeof(got)) == 0;
}

void weir__probe_ktls(struct weir__probe *probe)
{
    int pair[2];

    if (weir__probe_pair(probe, pair) && insert(probe, pair[0]))
        weir__probe_works(probe, "%s", "");
}

/* Sends and receives with each cipher; what works is a list, with what does not at its end. */
static void version_try(struct weir__probe *probe, uint16_t version)
{
    char works[WEIR__PROBE_TEXT_BYTES] = "", lacks[WEIR__PROBE_TEXT_BYTES] = "";
    int pair[2], error = 0;

    for (size_t i = 0; i < CIPHER_COUNT; i++) {
        const struct weir__tls_keys keys = keys_of(version, ciphers[i].cipher);
        if (!weir__probe_pair(probe, pair) || !insert(probe, pair[0]) || !insert(probe, pair[1]))
            return;
        error = keys_set(pair, &keys);
        char *list = error == 0 && message_passes(pair) ? works : lacks;
        size_t length = strlen(list);
        (void)snprintf(list + length, sizeof(works) - length, "%s%s", length > 0 ? ", " : "",
                       ciphers[i].name);
    }
    if (!works[0])
        weir__probe_lacks(probe, "no cipher: %s", strerror(error));
    else if (lacks[0])
        weir__probe_works(probe, "%.70s; not %.70s", works, lacks);
    else
        weir__probe_works(probe, "%.100s", works);
}

void weir__probe_ktls_1_3(struct weir__probe *probe)
{
    version_try(probe, WEIR__TLS_1_3);
}

void weir__probe_ktls_1_2(struct weir__probe *probe)
{
    version_try(probe, WEIR__TLS_1_2);
}

/* How many sockets so far had their TLS done by the kernel's software, -1: it does not say. */
static long long sockets_counted(const char *name)
{
    char text[2048] = "";
    int file = open("/proc/net/tls_stat", O_RDONLY | O_CLOEXEC);
    ssize_t length = file >= 0 ? read(file, text, sizeof(text) - 1) : -1;

    if (file >= 0)
        close(file);
    const char *line = length > 0 ? strstr(text, name) : NULL;
    return line ? atoll(line + strlen(name)) : -1;
}

/* The counts are those of the network namespace, so others may add to them. */
void weir__probe_ktls_stat(struct weir__probe *probe)
{
    long long tx = sockets_counted("TlsTxSw "), rx = sockets_counted("TlsRxSw ");
    int pair[2];

    if (!weir__probe_ktls_pair(probe, pair))
        return;
    if (tx < 0 || rx < 0) {
        weir__probe_lacks(probe, "no /proc/net/tls_stat");
        return;
    }
    long long tx_now = sockets_counted("TlsTxSw "), rx_now = sockets_counted("TlsRxSw ");
    if (tx_now > tx && rx_now > rx)
        weir__probe_works(probe, "so far %lld sockets that send, %lld that receive", tx_now,
                          rx_now);
    else if (sockets_counted("TlsTxDevice ") > 0)
        weir__probe_works(probe, "a network device does it");
    else
        weir__probe_lacks(probe, "it does not count the connection that was made to see");
}

/* The sender's first KeyUpdate, and data behind it. */
void weir__probe_ktls_rekey(struct weir__probe *probe)
{
    struct weir__tls_keys next = keys_of(WEIR__TLS_1_3, WEIR__TLS_AES_128_GCM);
    int pair[2];

    next.key[0]++;
    if (!weir__probe_ktls_pair(probe, pair))
        return;
    int error = keys_set(pair, &next);
    if (error == EBUSY)
        weir__probe_lacks(probe, "needs Linux 6.14");
    else if (error != 0)
        weir__probe_refused(probe, "setsockopt SOL_TLS", error);
    else if (!message_passes(pair))
        weir__probe_lacks(probe, "what is sent under the new keys does not arrive");
    else
        weir__probe_works(probe, "%s", "");
}

/* The stamp of the last byte's acknowledgement, whose id counts what went over the wire. */
void weir__probe_ktls_stamp(struct weir__probe *probe)
{
    /* A record of TLS 1.3 has 22 bytes beside its plaintext, and ids begin at 0. */
    const uint32_t last = sizeof(message_bytes) + 22 - 1;
    unsigned stamping = SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_ID |
                        SOF_TIMESTAMPING_OPT_TSONLY | SOF_TIMESTAMPING_TX_ACK;
    struct sock_extended_err error;
    int pair[2];

    if (!weir__probe_ktls_pair(probe, pair))
        return;
    if (setsockopt(pair[0], SOL_SOCKET, SO_TIMESTAMPING, &stamping, sizeof(stamping)) != 0)
        weir__probe_refused(probe, "setsockopt SO_TIMESTAMPING", errno);
    else if (!message_passes(pair))
        weir__probe_lacks(probe, "with stamps switched on, nothing arrives");
    else if (!weir__probe_error_take(pair[0], &error))
        weir__probe_lacks(probe, "the kernel takes the option, but no stamp comes");
    else if (error.ee_data != last)
        weir__probe_lacks(probe, "the id of the last byte is %u, not %u", error.ee_data, last);
    else
        weir__probe_works(probe, "%s", "");
}
