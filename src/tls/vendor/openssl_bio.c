/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weir/bio.h: the BIO as OpenSSL sees it.
 *
 * Kernel TLS is libssl's decision: it offers the keys by a control, and then says by another control, before
 * a write, that it is not application data. Those controls are not in OpenSSL's public headers, their numbers
 * are (as comments): they are part of the ABI between libssl and a BIO of any origin. The keys come in the
 * kernel's own struct. Every control that is not known here returns 0, or libssl would take an answer
 * of 1 to "do you do kernel TLS?" for a yes and send plaintext.
 */

#include <weir/bio.h>

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/ssl3.h>

#include <weir/error.h>

#include "core/memory.h"
#include "engine/socket.h"
#include "tls/kernel/bio_pool.h"
#include "tls/kernel/bio_socket.h"

/* The controls of kernel TLS that openssl/bio.h names in comments or, the last one, leaves out. */
enum {
    CONTROL_SET_KTLS = 72,
    CONTROL_SET_KTLS_RECORD_TYPE = 74,
    CONTROL_CLEAR_KTLS_RECORD_TYPE = 75,
    CONTROL_SET_KTLS_FILE_ZEROCOPY = 90, /* OpenSSL 3.2 */
};

/* Stamps that were read while making room, until they are asked for. The oldest one goes when more come:
 * any later one is as good as a proof of arrival. */
#define STAMPS_KEPT_MAX 64

/* Kernel TLS fails with EOPNOTSUPP on any other, on 6.1 MSG_EOR, too. */
#define KTLS_SEND_FLAGS (MSG_MORE | MSG_DONTWAIT)

struct weir__bio {
    int descriptor;
    struct weir_bio_options options;
    struct weir__bio_pool *pool; /* NULL: no zero copy */
    struct weir_bio_info info;

    /* The wire offset is wire_base + taken, on kernel TLS plus what its records add. */
    uint64_t wire_base;
    uint64_t taken;
    uint64_t acked_base; /* bytes that were written before this BIO was */
    bool acked_known;
    struct weir__bio_records records; /* on kernel TLS */
    uint8_t record_type;              /* of the next write on kernel TLS; 0: application data */

    /* Between stamp_start and stamp_stop. */
    bool stamping;
    bool stamping_all; /* by the socket option: kernel TLS, and a length that is not known */
    size_t stamp_bytes;
    uint64_t stamp_taken; /* bytes taken since stamp_start */

    struct weir_bio_stamp stamps[STAMPS_KEPT_MAX];
    unsigned stamps_first, stamps_count;
};

static CRYPTO_ONCE method_once = CRYPTO_ONCE_STATIC_INIT;
static BIO_METHOD *method;
static int method_type;

static struct weir__bio *find(BIO *bio)
{
    BIO *found = method ? BIO_find_type(bio, method_type) : NULL;
    struct weir__bio *self = found ? BIO_get_data(found) : NULL;
    assert(self);
    return self;
}

/* ---- what is on the wire */

static uint64_t wire_bytes(const struct weir__bio *self)
{
    uint64_t added = 0;

    if (self->info.ktls_send)
        (void)weir__bio_ktls_added_bytes(self->descriptor, &self->records, &added);
    return self->wire_base + self->taken + added;
}

static void count(struct weir__bio *self, uint64_t bytes)
{
    self->taken += bytes;
    self->stamp_taken += bytes;
}

/* ---- stamps and notices */

static void keep_stamp(struct weir__bio *self, const struct weir__stamp *stamp)
{
    /* Keys are the low 32 bits of the offset of the last byte covered; what is in flight is far below
     * 2 GiB, so that the signed distance from what is on the wire gives the rest. */
    uint64_t wire = wire_bytes(self);
    int64_t distance = (int32_t)(stamp->key + 1u - (uint32_t)wire);
    unsigned slot = (self->stamps_first + self->stamps_count) % STAMPS_KEPT_MAX;

    self->stamps[slot] = (struct weir_bio_stamp){
        .stage = stamp->kind == WEIR__STAMP_ACKED ? WEIR_STAGE_DELIVERED : WEIR_STAGE_SENT,
        .offset = (uint64_t)((int64_t)wire + distance),
        .at_ns = stamp->at_ns,
    };
    if (self->stamps_count < STAMPS_KEPT_MAX)
        self->stamps_count++;
    else
        self->stamps_first = (self->stamps_first + 1) % STAMPS_KEPT_MAX;
}

/* Takes one message of the error queue; false if it is empty. */
static bool take_notice(struct weir__bio *self)
{
    struct weir__bio_notice notice;

    if (!weir__bio_socket_notice(self->descriptor, &notice))
        return false;
    if (notice.kind == WEIR__BIO_NOTICE_STAMP)
        keep_stamp(self, &notice.stamp);
    if (notice.kind == WEIR__BIO_NOTICE_RELEASE && self->pool) {
        weir__bio_pool_release(self->pool, notice.first, notice.last);
        if (notice.copied)
            self->info.zerocopy_copied += (uint64_t)(notice.last - notice.first) + 1;
    }
    return true;
}

/* Does the next send, of `length` bytes, have the last byte of what is to be stamped? TLS only ever adds
 * to the plaintext, so the end comes no earlier than after as many bytes as that has. */
static bool stamp_is_due(const struct weir__bio *self, size_t length)
{
    return self->stamping && self->info.stamps && !self->stamping_all &&
           self->stamp_taken + length >= self->stamp_bytes;
}

/* ---- writing */

/* Lets the owner have his say. The message then has his flags and control messages. */
static void ask_owner(struct weir__bio *self, struct weir__bio_message *message, void *control)
{
    if (!self->options.on_send)
        return;
    struct weir_bio_send send = {
        .data = message->data,
        .length = message->length,
        .offset = wire_bytes(self),
        .flags = message->flags,
        .control = control,
    };
    if (self->info.ktls_send)
        send.record_type = message->record_type ? message->record_type : SSL3_RT_APPLICATION_DATA;
    memset(control, 0, WEIR_BIO_CONTROL_MAX);
    self->options.on_send(self->options.context, &send);
    assert(send.control_length <= WEIR_BIO_CONTROL_MAX);
    message->flags = send.flags;
    message->control = control;
    message->control_length = send.control_length;
}

/* A block to send `*message` from without a copy in the kernel; -1 if there is none. */
static int zerocopy_block(struct weir__bio *self, const struct weir__bio_message *message)
{
    if (!self->pool || message->length < self->options.zerocopy_bytes_min)
        return -1;
    int block = weir__bio_pool_find(self->pool);
    while (block < 0 && take_notice(self))
        block = weir__bio_pool_find(self->pool);
    if (block < 0)
        self->info.zerocopy_refused++;
    return block;
}

/* Sends a copy of the message from a block. ENOBUFS: the kernel can hold no more pages, or notices. */
static ssize_t send_block(struct weir__bio *self, const struct weir__bio_message *message,
                          int block)
{
    struct weir__bio_message piece = *message;
    uint8_t *memory = weir__bio_pool_block(self->pool, block);
    size_t room = weir__bio_pool_block_bytes(self->pool);

    if (piece.length > room)
        piece.length = room;
    memcpy(memory, message->data, piece.length);
    piece.data = memory;
    piece.flags |= MSG_ZEROCOPY;
    ssize_t taken = weir__bio_socket_send(self->descriptor, &piece);
    if (taken > 0) {
        weir__bio_pool_sent(self->pool, block);
        self->info.zerocopy_sends++;
    }
    return taken;
}

static ssize_t send_bytes(struct weir__bio *self, const void *data, size_t length)
{
    _Alignas(max_align_t) char control[WEIR_BIO_CONTROL_MAX];
    struct weir__bio_message message = {
        .data = data,
        .length = length,
        .flags = self->options.send_flags & ~MSG_ZEROCOPY,
        .stamp = stamp_is_due(self, length),
    };
    int block = zerocopy_block(self, &message);

    if (block >= 0)
        message.flags |= MSG_ZEROCOPY;
    ask_owner(self, &message, control);
    bool zerocopy = block >= 0 && (message.flags & MSG_ZEROCOPY);
    message.flags &= ~MSG_ZEROCOPY;
    if (zerocopy) {
        ssize_t taken = send_block(self, &message, block);
        if (taken >= 0 || errno != ENOBUFS)
            return taken;
        /* At once, not after a notice: with nothing in flight none would ever come. */
        self->info.zerocopy_refused++;
    }
    return weir__bio_socket_send(self->descriptor, &message);
}

/* The kernel makes records of it, and takes no control message but that of the record's type. */
static ssize_t send_records(struct weir__bio *self, const void *data, size_t length)
{
    _Alignas(max_align_t) char control[WEIR_BIO_CONTROL_MAX];
    struct weir__bio_message message = {
        .data = data,
        .length = length,
        .flags = self->options.send_flags & ~MSG_ZEROCOPY,
        .record_type = self->record_type,
    };
    bool stamp = stamp_is_due(self, length);

    ask_owner(self, &message, control);
    message.flags &= KTLS_SEND_FLAGS;
    message.control_length = 0;
    /* A record that stays open has no offset, and the kernel wants none of another type than data. */
    if (stamp || message.record_type)
        message.flags &= ~MSG_MORE;
    if (stamp)
        (void)weir__descriptor_stamp_all(self->descriptor, true);
    ssize_t taken = weir__bio_socket_send(self->descriptor, &message);
    if (stamp) {
        int error = errno;
        (void)weir__descriptor_stamp_all(self->descriptor, false);
        errno = error;
    }
    if (taken == (ssize_t)length)
        self->record_type = 0;
    return taken;
}

static int bio_write(BIO *bio, const char *data, int length)
{
    struct weir__bio *self = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    if (!data || length <= 0)
        return 0;
    errno = 0;
    ssize_t taken = self->info.ktls_send ? send_records(self, data, (size_t)length)
                                         : send_bytes(self, data, (size_t)length);
    if (taken > 0)
        count(self, (uint64_t)taken);
    else if (BIO_sock_should_retry((int)taken))
        BIO_set_retry_write(bio);
    return (int)taken;
}

/* ---- reading */

/* libssl wants the record's header in front of the kernel's plaintext. A record larger than the RFC's
 * would be an error to it, and the kernel may join several. */
static ssize_t receive_record(struct weir__bio *self, char *data, size_t size)
{
    uint8_t type;

    if (size <= SSL3_RT_HEADER_LENGTH) {
        errno = EINVAL;
        return -1;
    }
    size -= SSL3_RT_HEADER_LENGTH;
    if (size > SSL3_RT_MAX_PLAIN_LENGTH)
        size = SSL3_RT_MAX_PLAIN_LENGTH;
    ssize_t length =
        weir__bio_ktls_receive(self->descriptor, data + SSL3_RT_HEADER_LENGTH, size, &type);
    if (length <= 0)
        return length;
    data[0] = (char)type;
    data[1] = SSL3_VERSION_MAJOR;
    data[2] = 3; /* TLS 1.2, which 1.3 says as well (RFC 8446, 5.1) */
    data[3] = (char)(length >> 8);
    data[4] = (char)(length & 0xff);
    return length + SSL3_RT_HEADER_LENGTH;
}

static int bio_read(BIO *bio, char *data, int size)
{
    struct weir__bio *self = BIO_get_data(bio);

    if (!data || size <= 0)
        return 0;
    errno = 0;
    ssize_t length = self->info.ktls_receive
                         ? receive_record(self, data, (size_t)size)
                         : weir__bio_socket_receive(self->descriptor, data, (size_t)size);
    BIO_clear_retry_flags(bio);
    if (length == 0)
        BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
    else if (BIO_sock_should_retry((int)length))
        BIO_set_retry_read(bio);
    return (int)length;
}

/* ---- controls */

static long start_ktls(struct weir__bio *self, bool send, const void *crypto_info)
{
    struct weir__bio_records records;
    uint64_t wire = wire_bytes(self); /* by the old keys' count, if there are any */

    if (!crypto_info || !weir__bio_ktls_start(self->descriptor, crypto_info, send, &records))
        return 0;
    if (!send) {
        self->info.ktls_receive = true;
        return 1;
    }
    self->wire_base = wire;
    self->taken = 0;
    self->records = records;
    self->record_type = 0;
    self->info.ktls_send = true;
    return 1;
}

static long get_descriptor(const struct weir__bio *self, int *descriptor)
{
    if (descriptor)
        *descriptor = self->descriptor;
    return self->descriptor;
}

static long bio_control(BIO *bio, int control, long number, void *pointer)
{
    struct weir__bio *self = BIO_get_data(bio);

    if (!self)
        return 0;
    switch (control) {
    case BIO_CTRL_FLUSH:
        return 1;
    case BIO_CTRL_EOF:
        return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
    case BIO_CTRL_GET_CLOSE:
        return BIO_get_shutdown(bio);
    case BIO_CTRL_SET_CLOSE:
        BIO_set_shutdown(bio, (int)number);
        return 1;
    case BIO_C_GET_FD:
        return get_descriptor(self, pointer);
    case BIO_CTRL_GET_KTLS_SEND:
        return self->info.ktls_send;
    case BIO_CTRL_GET_KTLS_RECV:
        return self->info.ktls_receive;
    case CONTROL_SET_KTLS:
        return start_ktls(self, number != 0, pointer);
    case CONTROL_SET_KTLS_RECORD_TYPE:
        self->record_type = (uint8_t)number;
        return 0;
    case CONTROL_CLEAR_KTLS_RECORD_TYPE:
        self->record_type = 0;
        return 0;
    case CONTROL_SET_KTLS_FILE_ZEROCOPY:
        return self->info.ktls_send && weir__bio_ktls_file_zerocopy(self->descriptor);
    default:
        return 0;
    }
}

/* ---- life */

static int bio_destroy(BIO *bio)
{
    struct weir__bio *self = BIO_get_data(bio);

    if (!self)
        return 1;
    weir__bio_pool_free(self->pool);
    if (BIO_get_shutdown(bio) && BIO_get_init(bio))
        (void)close(self->descriptor);
    weir__release(self);
    BIO_set_data(bio, NULL);
    return 1;
}

/* Without a descriptor a BIO is of no use: weir_bio_new does the rest. */
static int bio_create(BIO *bio)
{
    BIO_set_init(bio, 0);
    return 1;
}

static void make_method(void)
{
    int index = BIO_get_new_index();
    if (index < 0)
        return;
    /* BIO_TYPE_DESCRIPTOR is what SSL_get_fd, and with it SSL_sendfile, looks for. */
    method_type = index | BIO_TYPE_SOURCE_SINK | BIO_TYPE_DESCRIPTOR;
    BIO_METHOD *made = BIO_meth_new(method_type, "weir");
    if (!made)
        return;
    if (!BIO_meth_set_write(made, bio_write) || !BIO_meth_set_read(made, bio_read) ||
        !BIO_meth_set_ctrl(made, bio_control) || !BIO_meth_set_create(made, bio_create) ||
        !BIO_meth_set_destroy(made, bio_destroy)) {
        BIO_meth_free(made);
        return;
    }
    method = made;
}

void weir_bio_options_init(struct weir_bio_options *options)
{
    *options = (struct weir_bio_options){.zerocopy_bytes_min = WEIR_BIO_ZEROCOPY_BYTES_MIN};
}

static struct weir__bio *state_new(int descriptor, const struct weir_bio_options *options)
{
    struct weir__bio *self = weir__allocate_zeroed(1, sizeof(*self));

    if (!self)
        return NULL;
    self->descriptor = descriptor;
    if (options)
        self->options = *options;
    else
        weir_bio_options_init(&self->options);
    if (self->options.zerocopy_bytes_max > 0 && weir__bio_socket_allow_zerocopy(descriptor)) {
        self->pool = weir__bio_pool_new(self->options.zerocopy_bytes_max);
        if (!self->pool) {
            weir__release(self);
            return NULL;
        }
    }
    self->acked_known = weir__bio_socket_written(descriptor, &self->acked_base);
    self->info.stamps = weir__descriptor_stamp_all(descriptor, false);
    return self;
}

BIO *weir_bio_new(int descriptor, const struct weir_bio_options *options)
{
    if (!CRYPTO_THREAD_run_once(&method_once, make_method) || !method ||
        !weir__bio_socket_is_connected(descriptor))
        return NULL;
    BIO *bio = BIO_new(method);
    if (!bio)
        return NULL;
    struct weir__bio *self = state_new(descriptor, options);
    if (!self) {
        BIO_free(bio);
        return NULL;
    }
    BIO_set_data(bio, self);
    BIO_set_shutdown(bio, self->options.close_descriptor ? BIO_CLOSE : BIO_NOCLOSE);
    BIO_set_init(bio, 1);
    return bio;
}

/* ---- what OpenSSL does not ask for */

int weir_bio_stamp_start(BIO *bio, size_t bytes)
{
    struct weir__bio *self = find(bio);

    if (!self->info.stamps)
        return WEIR_ENOTSUP;
    self->stamping = true;
    self->stamp_bytes = bytes;
    self->stamp_taken = 0;
    if (bytes == 0 && self->info.ktls_send)
        self->stamping_all = weir__descriptor_stamp_all(self->descriptor, true);
    return 0;
}

uint64_t weir_bio_stamp_stop(BIO *bio)
{
    struct weir__bio *self = find(bio);

    if (self->stamping_all)
        (void)weir__descriptor_stamp_all(self->descriptor, false);
    self->stamping = false;
    self->stamping_all = false;
    return wire_bytes(self);
}

unsigned weir_bio_read_stamps(BIO *bio, struct weir_bio_stamp *stamps, unsigned count_max)
{
    struct weir__bio *self = find(bio);
    unsigned taken = 0;

    while (taken < count_max) {
        if (self->stamps_count == 0 && !take_notice(self))
            break;
        if (self->stamps_count == 0)
            continue; /* it was no stamp */
        stamps[taken++] = self->stamps[self->stamps_first];
        self->stamps_first = (self->stamps_first + 1) % STAMPS_KEPT_MAX;
        self->stamps_count--;
    }
    return taken;
}

uint64_t weir_bio_wire_bytes(BIO *bio)
{
    return wire_bytes(find(bio));
}

int weir_bio_acked_bytes(BIO *bio, uint64_t *bytes)
{
    struct weir__bio *self = find(bio);
    uint64_t acked;

    *bytes = 0;
    if (!self->acked_known || !weir__bio_socket_acked(self->descriptor, &acked))
        return WEIR_ENOTSUP;
    uint64_t wire = wire_bytes(self);
    acked = acked > self->acked_base ? acked - self->acked_base : 0;
    /* The kernel counts the FIN, too. */
    *bytes = acked < wire ? acked : wire;
    return 0;
}

void weir_bio_count_file(BIO *bio, uint64_t bytes)
{
    count(find(bio), bytes);
}

void weir_bio_get_info(BIO *bio, struct weir_bio_info *info)
{
    struct weir__bio *self = find(bio);

    *info = self->info;
    info->zerocopy_in_flight = self->pool ? weir__bio_pool_in_flight(self->pool) : 0;
}
