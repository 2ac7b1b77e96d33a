/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/ktls.h"

#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <weir/error.h>

/* A record's bytes beside its plaintext: header, what is sent of the nonce, type (1.3), tag. */
#define HEADER_BYTES 5

union crypto {
    struct tls_crypto_info info;
    struct tls12_crypto_info_aes_gcm_128 aes_128;
    struct tls12_crypto_info_aes_gcm_256 aes_256;
    struct tls12_crypto_info_chacha20_poly1305 chacha;
};

static void big_endian_put(unsigned char bytes[8], uint64_t value)
{
    for (int i = 7; i >= 0; i--, value >>= 8)
        bytes[i] = (unsigned char)value;
}

static uint64_t big_endian_get(const unsigned char bytes[8])
{
    uint64_t value = 0;

    for (int i = 0; i < 8; i++)
        value = value << 8 | bytes[i];
    return value;
}

/* Of what setsockopt and getsockopt take, to the byte; 0: not a cipher that is known. */
static socklen_t crypto_bytes(unsigned cipher)
{
    switch (cipher) {
    case WEIR__TLS_AES_128_GCM:
        return sizeof(struct tls12_crypto_info_aes_gcm_128);
    case WEIR__TLS_AES_256_GCM:
        return sizeof(struct tls12_crypto_info_aes_gcm_256);
    case WEIR__TLS_CHACHA20_POLY1305:
        return sizeof(struct tls12_crypto_info_chacha20_poly1305);
    default:
        return 0;
    }
}

/*
 * The kernel's `iv` is what it sends of the nonce with TLS 1.2 and GCM, counted up from record to record. It
 * is the sequence number, as in Weir's own records, so that no nonce comes twice when the kernel takes over.
 */
static void gcm_iv_fill(unsigned char salt[4], unsigned char iv[8],
                        const struct weir__tls_keys *keys)
{
    memcpy(salt, keys->iv, WEIR__TLS_SALT);
    if (keys->version == WEIR__TLS_1_2)
        big_endian_put(iv, keys->sequence);
    else
        memcpy(iv, keys->iv + WEIR__TLS_SALT, WEIR__TLS_NONCE - WEIR__TLS_SALT);
}

static void crypto_fill(union crypto *crypto, const struct weir__tls_keys *keys)
{
    memset(crypto, 0, sizeof(*crypto));
    crypto->info.version = keys->version;
    switch (keys->cipher) {
    case WEIR__TLS_AES_128_GCM:
        crypto->info.cipher_type = TLS_CIPHER_AES_GCM_128;
        memcpy(crypto->aes_128.key, keys->key, sizeof(crypto->aes_128.key));
        gcm_iv_fill(crypto->aes_128.salt, crypto->aes_128.iv, keys);
        big_endian_put(crypto->aes_128.rec_seq, keys->sequence);
        break;
    case WEIR__TLS_AES_256_GCM:
        crypto->info.cipher_type = TLS_CIPHER_AES_GCM_256;
        memcpy(crypto->aes_256.key, keys->key, sizeof(crypto->aes_256.key));
        gcm_iv_fill(crypto->aes_256.salt, crypto->aes_256.iv, keys);
        big_endian_put(crypto->aes_256.rec_seq, keys->sequence);
        break;
    case WEIR__TLS_CHACHA20_POLY1305:
        crypto->info.cipher_type = TLS_CIPHER_CHACHA20_POLY1305;
        memcpy(crypto->chacha.key, keys->key, sizeof(crypto->chacha.key));
        memcpy(crypto->chacha.iv, keys->iv, sizeof(crypto->chacha.iv));
        big_endian_put(crypto->chacha.rec_seq, keys->sequence);
        break;
    case WEIR__TLS_CIPHER_NONE:
        break;
    }
}

static uint8_t record_overhead(const struct weir__tls_keys *keys)
{
    if (keys->version == WEIR__TLS_1_3)
        return HEADER_BYTES + 1 + WEIR__TLS_TAG;
    if (keys->cipher == WEIR__TLS_CHACHA20_POLY1305)
        return HEADER_BYTES + WEIR__TLS_TAG;
    return HEADER_BYTES + WEIR__TLS_EXPLICIT_NONCE + WEIR__TLS_TAG;
}

int weir__ktls_insert(int descriptor)
{
    static const char name[] = "tls";

    if (setsockopt(descriptor, IPPROTO_TCP, TCP_ULP, name, sizeof(name)) == 0 || errno == EEXIST)
        return 0;
    return errno;
}

int weir__ktls_keys_set(int descriptor, enum weir__tls_direction direction,
                        const struct weir__tls_keys *keys)
{
    socklen_t bytes = crypto_bytes(keys->cipher);
    union crypto crypto;

    if (bytes == 0 || (keys->version != WEIR__TLS_1_2 && keys->version != WEIR__TLS_1_3))
        return EOPNOTSUPP;
    crypto_fill(&crypto, keys);
    int rc = setsockopt(descriptor, SOL_TLS, direction == WEIR__TLS_TX ? TLS_TX : TLS_RX, &crypto,
                        bytes);
    int error = rc == 0 ? 0 : errno;
    explicit_bzero(&crypto, sizeof(crypto));
    return error;
}

static int attach_error(int error)
{
    switch (error) {
    case ENOTCONN:
    case ECONNRESET:
    case EPIPE:
        return WEIR_ERESET;
    case ENOMEM:
    case ENOBUFS:
        return WEIR_ENOMEM;
    case ENOENT:      /* no such module, or none of the cipher */
    case ENOPROTOOPT: /* a kernel built without it */
    case EOPNOTSUPP:
    case ENOSYS:
    case EINVAL: /* not this cipher or version */
    case EBUSY:  /* keys cannot be changed: before Linux 6.14, or with TLS 1.2 */
    case EPERM:
    case EACCES:
        return WEIR_ENOTSUP;
    default:
        return WEIR_EIO;
    }
}

/*
 * How many bytes TCP was given since some moment: acknowledged and not yet. In that order, so that what is
 * acknowledged in between lacks and is not counted twice. False: the connection is over.
 */
static bool tcp_given(int descriptor, uint64_t *bytes)
{
    enum { STATE_CLOSE = 7 }; /* TCP_CLOSE, include/net/tcp_states.h */
    struct tcp_info info;
    socklen_t length = sizeof(info);
    int queued = 0;

    memset(&info, 0, sizeof(info));
    if (getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &length) != 0 ||
        info.tcpi_state == STATE_CLOSE || ioctl(descriptor, SIOCOUTQ, &queued) != 0)
        return false;
    *bytes = info.tcpi_bytes_acked + (uint64_t)queued;
    return true;
}

static void tx_begin(struct weir__socket *socket, const struct weir__tls_keys *keys,
                     uint64_t sequence_before)
{
    uint64_t given = 0;

    if (socket->tls_tx) {
        socket->tls.wire += socket->tls.overhead * (sequence_before - keys->sequence);
        return;
    }
    (void)tcp_given(socket->handle, &given);
    socket->tls_tx = true;
    socket->tls.cipher = (uint8_t)keys->cipher;
    socket->tls.overhead = record_overhead(keys);
    socket->tls.wire = given - socket->tls.overhead * keys->sequence;
}

int weir__socket_tls_attach(struct weir__engine *engine, struct weir__socket *socket,
                            enum weir__tls_direction direction, const struct weir__tls_keys *keys)
{
    uint64_t sequence = 0;
    int error = 0;

    if (direction == WEIR__TLS_TX)
        assert(!socket->writer);
    else
        assert(!socket->reader);
    if (!socket->tls_tx && !socket->tls_rx)
        error = weir__ktls_insert(socket->handle);
    if (error == 0 && direction == WEIR__TLS_TX && socket->tls_tx)
        (void)weir__socket_tls_sequence(engine, socket, &sequence);
    if (error == 0)
        error = weir__ktls_keys_set(socket->handle, direction, keys);
    if (error != 0)
        return attach_error(error);
    if (direction == WEIR__TLS_TX)
        tx_begin(socket, keys, sequence);
    else
        socket->tls_rx = true;
    return 0;
}

int weir__socket_tls_sequence(struct weir__engine *engine, struct weir__socket *socket,
                              uint64_t *sequence)
{
    socklen_t bytes = crypto_bytes(socket->tls.cipher);
    union crypto crypto;
    int rc = -1;

    (void)engine;
    *sequence = 0;
    if (socket->tls_tx)
        rc = getsockopt(socket->handle, SOL_TLS, TLS_TX, &crypto, &bytes);
    if (rc != 0)
        return WEIR_ENOTSUP;
    /* It is the last field of each. */
    *sequence = big_endian_get((const unsigned char *)&crypto + bytes - 8);
    explicit_bzero(&crypto, sizeof(crypto));
    return 0;
}

/* Whether keys can be set twice, in each direction; `*known`: there was a connection to try it on. */
static bool rekey_try(bool *known)
{
    const struct weir__tls_keys keys = {.version = WEIR__TLS_1_3, .cipher = WEIR__TLS_AES_128_GCM};
    int pair[2];
    bool can = true;

    *known = weir__descriptor_pair(pair);
    if (*known) {
        can = weir__ktls_insert(pair[0]) == 0;
        for (int i = 0; i < 2 && can; i++)
            can = weir__ktls_keys_set(pair[0], WEIR__TLS_TX, &keys) == 0 &&
                  weir__ktls_keys_set(pair[0], WEIR__TLS_RX, &keys) == 0;
    }
    for (int i = 0; i < 2 && *known; i++)
        (void)close(pair[i]);
    return *known && can;
}

bool weir__tls_can_rekey(struct weir__engine *engine)
{
    static atomic_int answer;

    (void)engine;
    return weir__kernel_can(&answer, rekey_try);
}

int weir__socket_holds(struct weir__socket *socket)
{
    struct pollfd room = {.fd = socket->handle, .events = POLLOUT};
    uint64_t sequence, given;

    if (!socket->tls_tx)
        return 0;
    /* Before the counts: what is sent between the two is not waited for. */
    bool writable = poll(&room, 1, 0) == 1;
    if (weir__socket_tls_sequence(NULL, socket, &sequence) != 0 ||
        !tcp_given(socket->handle, &given) ||
        given == socket->tls.wire + socket->tls.overhead * sequence)
        return 0;
    return writable ? WEIR__HOLDS_BRIEFLY : WEIR__WOULD_BLOCK;
}

uint8_t weir__ktls_record_type(const struct cmsghdr *control)
{
    uint8_t type = 0;

    if (control->cmsg_level == SOL_TLS && control->cmsg_type == TLS_GET_RECORD_TYPE)
        memcpy(&type, CMSG_DATA(control), sizeof(type));
    return type == WEIR__TLS_APPLICATION_DATA ? 0 : type;
}

int weir__ktls_receive_result(int error)
{
    switch (error) {
    case EBADMSG:
        return WEIR__RECEIVE_BAD_RECORD;
    case EMSGSIZE:
        return WEIR__RECEIVE_OVERSIZED;
    case EINVAL:
        return WEIR__RECEIVE_MALFORMED;
    case EKEYEXPIRED:
        return WEIR__RECEIVE_KEY_EXPIRED;
    default:
        return 0;
    }
}

int weir__socket_error(struct weir__socket *socket)
{
    int error = 0;
    socklen_t length = sizeof(error);

    if (getsockopt(socket->handle, SOL_SOCKET, SO_ERROR, &error, &length) != 0)
        error = errno;
    int result = socket->tls_rx ? weir__ktls_receive_result(error) : 0;
    return result ? result : weir__error_from_errno(error);
}

int weir__ktls_receive_failed(struct weir__socket *socket, int error)
{
    int result = weir__ktls_receive_result(error);

    if (!result || !socket->tls_rx)
        return weir__error_from_errno(error);
    int pending = weir__socket_error(socket);
    return pending == 0 || weir__is_receive_result(pending) ? result : pending;
}

int weir__ktls_send_failed(struct weir__socket *socket, int error)
{
    int pending = 0;

    /* TLS says it once and leaves it in SO_ERROR; else it is about the send itself. */
    if (socket->tls_rx && weir__ktls_receive_result(error))
        pending = weir__socket_error(socket);
    return pending ? pending : weir__error_from_errno(error);
}
