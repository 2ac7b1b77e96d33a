/* SPDX-License-Identifier: Apache-2.0 */
/* The part of bio_socket.h that is about kernel TLS. */

#include "tls/kernel/bio_socket.h"

#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

/* A record's header (RFC 8446, 5.1; RFC 5246, 6.2.1), and the byte of its type in TLS 1.3. */
#define HEADER_BYTES     5
#define INNER_TYPE_BYTES 1
/* All of the ciphers below have a tag of 16 bytes. */
#define TAG_BYTES TLS_CIPHER_AES_GCM_128_TAG_SIZE

/* Application data (RFC 8446, B.1). */
#define RECORD_APPLICATION_DATA 23

/* The kernel's structs: each begins with struct tls_crypto_info and ends with the sequence number. */
union crypto_info {
    struct tls_crypto_info head;
    struct tls12_crypto_info_aes_gcm_128 aes_gcm_128;
    struct tls12_crypto_info_aes_gcm_256 aes_gcm_256;
    struct tls12_crypto_info_aes_ccm_128 aes_ccm_128;
    struct tls12_crypto_info_chacha20_poly1305 chacha20_poly1305;
};

#define SEQUENCE_BYTES TLS_CIPHER_AES_GCM_128_REC_SEQ_SIZE

/* The size of a cipher's struct; 0 for a cipher that is not known here. */
static size_t crypto_info_size(uint16_t cipher)
{
    switch (cipher) {
    case TLS_CIPHER_AES_GCM_128:
        return sizeof(struct tls12_crypto_info_aes_gcm_128);
    case TLS_CIPHER_AES_GCM_256:
        return sizeof(struct tls12_crypto_info_aes_gcm_256);
    case TLS_CIPHER_AES_CCM_128:
        return sizeof(struct tls12_crypto_info_aes_ccm_128);
    case TLS_CIPHER_CHACHA20_POLY1305:
        return sizeof(struct tls12_crypto_info_chacha20_poly1305);
    default:
        return 0;
    }
}

/* What a record adds to its plaintext: TLS 1.3 has the type inside, TLS 1.2 a nonce outside, except for
 * ChaCha20 (RFC 7905). OpenSSL's kernel TLS never pads. */
static uint64_t record_added_bytes(const struct weir__bio_records *records)
{
    if (records->version == TLS_1_3_VERSION)
        return HEADER_BYTES + INNER_TYPE_BYTES + TAG_BYTES;
    if (records->cipher == TLS_CIPHER_CHACHA20_POLY1305)
        return HEADER_BYTES + TAG_BYTES;
    return HEADER_BYTES + TLS_CIPHER_AES_GCM_128_IV_SIZE + TAG_BYTES;
}

/* The sequence number, in network byte order, is a struct's last 8 bytes. */
static uint64_t sequence_of(const void *crypto_info, size_t size)
{
    const uint8_t *bytes = (const uint8_t *)crypto_info + size - SEQUENCE_BYTES;
    uint64_t sequence = 0;

    for (size_t i = 0; i < SEQUENCE_BYTES; i++)
        sequence = sequence << 8 | bytes[i];
    return sequence;
}

bool weir__bio_ktls_start(int descriptor, const void *crypto_info, bool send,
                          struct weir__bio_records *records)
{
    struct tls_crypto_info head;

    memcpy(&head, crypto_info, sizeof(head));
    size_t size = crypto_info_size(head.cipher_type);
    if (size == 0)
        return false;
    /* EEXIST: the other direction came first. */
    if (setsockopt(descriptor, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) != 0 && errno != EEXIST)
        return false;
    if (setsockopt(descriptor, SOL_TLS, send ? TLS_TX : TLS_RX, crypto_info, (socklen_t)size) != 0)
        return false;
    records->version = head.version;
    records->cipher = head.cipher_type;
    records->first_sequence = sequence_of(crypto_info, size);
    return true;
}

bool weir__bio_ktls_file_zerocopy(int descriptor)
{
    const int one = 1;
    return setsockopt(descriptor, SOL_TLS, TLS_TX_ZEROCOPY_RO, &one, sizeof(one)) == 0;
}

bool weir__bio_ktls_added_bytes(int descriptor, const struct weir__bio_records *records,
                                uint64_t *added)
{
    union crypto_info info;
    size_t size = crypto_info_size(records->cipher);
    socklen_t length = (socklen_t)size;

    /* The records cannot be counted up here: how the kernel cuts them is its own business. */
    memset(&info, 0, sizeof(info));
    bool known = getsockopt(descriptor, SOL_TLS, TLS_TX, &info, &length) == 0 && length == size;
    if (known)
        *added = (sequence_of(&info, size) - records->first_sequence) * record_added_bytes(records);
    explicit_bzero(&info, sizeof(info)); /* it has the key */
    return known;
}

ssize_t weir__bio_ktls_receive(int descriptor, void *data, size_t size, uint8_t *record_type)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(uint8_t))];
    struct iovec part = {.iov_base = data, .iov_len = size};
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof(control),
    };
    ssize_t length;

    *record_type = RECORD_APPLICATION_DATA;
    do
        length = recvmsg(descriptor, &message, 0);
    while (length < 0 && errno == EINTR);
    if (length < 0)
        return length;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c != NULL; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level == SOL_TLS && c->cmsg_type == TLS_GET_RECORD_TYPE)
            *record_type = *(const uint8_t *)CMSG_DATA(c);
    }
    return length;
}
