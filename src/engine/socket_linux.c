/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of socket.h that uses what only Linux has: accept4, SO_TIMESTAMPING, sendfile and
 * TCP_INFO. The kernel's rules for stamps are in Documentation/networking/timestamping.rst.
 */

#include "engine/ktls.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include <weir/error.h>

#define NS_PER_SECOND INT64_C(1000000000)

/* Linux 6.2 and newer; the headers of Debian 12 do not have it. */
#define STAMP_OPT_ID_TCP (1u << 16)
#define STAMP_BASE                                                                                 \
    (SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_OPT_ID |          \
     SOF_TIMESTAMPING_OPT_TSONLY)
#define STAMP_TRANSMIT (SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_TX_ACK)

/* Connections that died in the backlog, skipped in one call; more is a broken listener. */
#define ACCEPT_SKIPS_MAX 64

/* One read of the error queue: the stamps of eight writes. */
#define NOTICES_PER_CALL 16
/* A stamp, and IP_RECVERR or IPV6_RECVERR with the address of the offender. */
#define NOTICE_CONTROL_BYTES                                                                       \
    (CMSG_SPACE(sizeof(struct scm_timestamping)) +                                                 \
     CMSG_SPACE(sizeof(struct sock_extended_err) + sizeof(struct sockaddr_in6)))

int weir__descriptor_open(int family)
{
    int descriptor = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    return descriptor >= 0 ? descriptor : weir__error_from_errno(errno);
}

/* Whether accept's error is that of the one connection, not of the listener (accept(2)). */
static bool accept_error_is_the_peers(int error)
{
    switch (error) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
        return true;
    default:
        return false;
    }
}

int weir__descriptor_accept(int listener)
{
    for (int skipped = 0; skipped < ACCEPT_SKIPS_MAX; skipped++) {
        int descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (descriptor >= 0)
            return descriptor;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return WEIR__WOULD_BLOCK;
        if (!accept_error_is_the_peers(errno))
            return weir__error_from_errno(errno);
    }
    return WEIR_EIO;
}

static int set_stamps(int descriptor, unsigned flags)
{
    return setsockopt(descriptor, SOL_SOCKET, SO_TIMESTAMPING, &flags, sizeof(flags));
}

/* Sets the base, plus `transmit` bits for all that is sent from now on. */
static bool enable_stamps(int descriptor, unsigned transmit)
{
    if (set_stamps(descriptor, STAMP_BASE | STAMP_OPT_ID_TCP | transmit) == 0)
        return true;
    /* Linux 6.1: keys then count from what is acknowledged, the same while nothing was sent. */
    return errno == EINVAL && set_stamps(descriptor, STAMP_BASE | transmit) == 0;
}

bool weir__descriptor_stamp_all(int descriptor, bool all)
{
    return enable_stamps(descriptor, all ? STAMP_TRANSMIT : 0);
}

void weir__socket_prepare(struct weir__engine *engine, struct weir__socket *socket, bool no_delay,
                          bool delivery)
{
    (void)engine;
    if (no_delay) {
        int one = 1;
        (void)setsockopt(socket->handle, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    socket->stamps = delivery && enable_stamps(socket->handle, 0);
}

void weir__socket_unsent_max(struct weir__engine *engine, struct weir__socket *socket,
                             uint32_t bytes)
{
    uint32_t value = bytes ? bytes : UINT32_MAX; /* 0 would be the system's default, again */

    (void)engine;
    (void)setsockopt(socket->handle, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &value, sizeof(value));
}

void weir__socket_congestion(struct weir__engine *engine, const struct weir__socket *socket,
                             char name[WEIR__CONGESTION_NAME_BYTES])
{
    socklen_t length = WEIR__CONGESTION_NAME_BYTES;

    (void)engine;
    memset(name, 0, WEIR__CONGESTION_NAME_BYTES);
    (void)getsockopt(socket->handle, IPPROTO_TCP, TCP_CONGESTION, name, &length);
    name[WEIR__CONGESTION_NAME_BYTES - 1] = '\0';
}

/* Fills in what the kernel said of the connection; returns how many bytes of it, 0 if nothing. */
static size_t tcp_info_get(int descriptor, struct tcp_info *info)
{
    socklen_t length = sizeof(*info);
    memset(info, 0, sizeof(*info));
    if (getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, info, &length) != 0)
        return 0;
    return length;
}

#define TCP_INFO_HAS(length, field)                                                                \
    ((length) >= offsetof(struct tcp_info, field) + sizeof(((struct tcp_info *)NULL)->field))

int weir__socket_info(struct weir__engine *engine, struct weir__socket *socket,
                      struct weir__socket_info *info)
{
    struct tcp_info kernel;
    size_t length = tcp_info_get(socket->handle, &kernel);

    (void)engine;
    memset(info, 0, sizeof(*info));
    if (!TCP_INFO_HAS(length, tcpi_notsent_bytes)) /* the last of those used; Linux 4.6 */
        return WEIR_ENOTSUP;
    if (kernel.tcpi_bytes_acked > socket->handshake_bytes)
        info->bytes_acked = kernel.tcpi_bytes_acked - socket->handshake_bytes;
    info->rtt_us = kernel.tcpi_rtt;
    info->retransmits = kernel.tcpi_total_retrans;
    info->notsent_bytes = kernel.tcpi_notsent_bytes;
    return 0;
}

int weir__socket_unacked(struct weir__engine *engine, struct weir__socket *socket, uint64_t *bytes)
{
    int queued = 0;

    (void)engine;
    *bytes = 0;
    /* Of what was sent, TCP may not have all yet, and it has other bytes, and more of them. */
    if (socket->tls_tx)
        return WEIR_ENOTSUP;
    if (ioctl(socket->handle, SIOCOUTQ, &queued) != 0 || queued < 0)
        return WEIR_ENOTSUP;
    *bytes = (uint64_t)queued;
    return 0;
}

bool weir__descriptor_is_closed(int descriptor)
{
    enum {
        STATE_CLOSE = 7
    }; /* TCP_CLOSE, include/net/tcp_states.h; TIME_WAIT is CLOSE here, too */
    struct tcp_info kernel;
    return tcp_info_get(descriptor, &kernel) == 0 || kernel.tcpi_state == STATE_CLOSE;
}

/* The kernel's wall clock stamp on the loop's clock: the offset is that of now, never an old one.
 */
static uint64_t stamp_ns(const struct timespec *stamp, int64_t wall_offset_ns)
{
    return (uint64_t)((int64_t)stamp->tv_sec * NS_PER_SECOND + stamp->tv_nsec - wall_offset_ns);
}

/* What came with received bytes, beside them. */
static void received_control(struct weir__engine *engine, struct msghdr *message,
                             struct weir__completion *completion)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
        struct scm_timestamping stamp;
        if (c->cmsg_level == SOL_TLS)
            completion->record_type = weir__ktls_record_type(c);
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPING)
            continue;
        memcpy(&stamp, CMSG_DATA(c), sizeof(stamp));
        if (stamp.ts[0].tv_sec != 0)
            completion->at_ns = stamp_ns(&stamp.ts[0], weir__engine_wall_offset(engine));
    }
}

int64_t weir__socket_receive(struct weir__engine *engine, struct weir__socket *socket, void *data,
                             size_t size, struct weir__completion *completion)
{
    _Alignas(struct cmsghdr) char control[WEIR__RECEIVE_CONTROL_BYTES];
    struct iovec part = {.iov_base = data, .iov_len = size};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    bool with_control = socket->stamps || socket->tls_rx;
    ssize_t length;

    completion->at_ns = 0;
    completion->record_type = 0;
    do
        length = with_control ? recvmsg(socket->handle, &message, MSG_DONTWAIT)
                              : recv(socket->handle, data, size, MSG_DONTWAIT);
    while (length < 0 && errno == EINTR);
    if (length < 0 && errno == EAGAIN)
        return WEIR__WOULD_BLOCK;
    if (length < 0)
        return socket->tls_rx ? weir__ktls_receive_failed(socket, errno)
                              : weir__error_from_errno(errno);
    if (with_control)
        received_control(engine, &message, completion);
    return length > 0 || completion->record_type == 0 ? length : WEIR__RECEIVE_MALFORMED;
}

static void stamp_all(struct weir__socket *socket, bool on)
{
    if (socket->stamping != on)
        (void)enable_stamps(socket->handle, on ? STAMP_TRANSMIT : 0);
    socket->stamping = on;
}

static void control_put(struct msghdr *message, void *control, int level, int type,
                        const void *value, size_t length)
{
    memset(control, 0, CMSG_SPACE(length));
    message->msg_control = control;
    message->msg_controllen = CMSG_SPACE(length);
    struct cmsghdr *header = CMSG_FIRSTHDR(message);
    header->cmsg_level = level;
    header->cmsg_type = type;
    header->cmsg_len = CMSG_LEN(length);
    memcpy(CMSG_DATA(header), value, length);
}

int weir__send_prepare(struct weir__socket *socket, unsigned flags, uint8_t record_type,
                       struct msghdr *message, void *control)
{
    const uint32_t bits = STAMP_TRANSMIT;
    bool stamp = (flags & WEIR__SEND_STAMP) && socket->stamps;

    if (socket->tls_tx)
        stamp_all(socket, stamp);
    else
        record_type = 0;
    if (record_type)
        control_put(message, control, SOL_TLS, TLS_SET_RECORD_TYPE, &record_type,
                    sizeof(record_type));
    else if (stamp && !socket->tls_tx)
        control_put(message, control, SOL_SOCKET, SO_TIMESTAMPING, &bits, sizeof(bits));
    return MSG_NOSIGNAL | ((flags & WEIR__SEND_MORE) && !record_type ? MSG_MORE : 0);
}

/* Up to here a second copy costs less than the kernel's look at a message of several parts. */
#define TOGETHER_BYTES_MAX 2048

/* A head and a small body as one part. */
static bool gather(const struct iovec *parts, unsigned part_count, char *together,
                   struct iovec *one)
{
    size_t length = 0;

    for (unsigned i = 0; i < part_count; i++) {
        if (parts[i].iov_len > TOGETHER_BYTES_MAX - length)
            return false;
        memcpy(together + length, parts[i].iov_base, parts[i].iov_len);
        length += parts[i].iov_len;
    }
    *one = (struct iovec){.iov_base = together, .iov_len = length};
    return true;
}

int64_t weir__socket_send(struct weir__socket *socket, const struct iovec *parts,
                          unsigned part_count, unsigned flags, uint8_t record_type)
{
    _Alignas(struct cmsghdr) char control[WEIR__SEND_CONTROL_BYTES];
    struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = part_count};
    int send_flags = weir__send_prepare(socket, flags, record_type, &message, control);
    bool zerocopy = flags & WEIR__SEND_ZEROCOPY;
    char together[TOGETHER_BYTES_MAX];
    struct iovec one;
    ssize_t length;

    if (zerocopy)
        send_flags |= MSG_ZEROCOPY;
    if (part_count > 1 && !message.msg_control && !zerocopy &&
        gather(parts, part_count, together, &one)) {
        parts = &one;
        part_count = 1;
    }
    do {
        if (part_count == 1 && !message.msg_control)
            length =
                send(socket->handle, parts->iov_base, parts->iov_len, send_flags | MSG_DONTWAIT);
        else
            length = sendmsg(socket->handle, &message, send_flags | MSG_DONTWAIT);
    } while (length < 0 && errno == EINTR);
    if (length < 0 && zerocopy && (errno == ENOBUFS || errno == ENOMEM))
        return WEIR__REFUSED;
    if (length < 0)
        return errno == EAGAIN ? WEIR__WOULD_BLOCK : weir__ktls_send_failed(socket, errno);
    socket->tls.wire += (uint64_t)length;
    return length;
}

/* sendfile knows no MSG_NOSIGNAL. A program that handles SIGPIPE itself keeps its handler. */
static void ignore_sigpipe_once(void)
{
    static atomic_bool done;
    struct sigaction action;

    if (atomic_load_explicit(&done, memory_order_relaxed))
        return;
    if (sigaction(SIGPIPE, NULL, &action) == 0 && !(action.sa_flags & SA_SIGINFO) &&
        action.sa_handler == SIG_DFL) {
        action.sa_handler = SIG_IGN;
        (void)sigaction(SIGPIPE, &action, NULL);
    }
    atomic_store_explicit(&done, true, memory_order_relaxed);
}

static int64_t send_file_piece(struct weir__socket *socket, int file, uint64_t offset, size_t size)
{
    off_t position = (off_t)offset;
    ssize_t length;

    do
        length = sendfile(socket->handle, file, &position, size);
    while (length < 0 && errno == EINTR);
    if (length < 0)
        return errno == EAGAIN ? WEIR__WOULD_BLOCK : weir__ktls_send_failed(socket, errno);
    socket->tls.wire += (uint64_t)length;
    return length > 0 ? length : WEIR_ETRUNCATED;
}

int64_t weir__socket_send_file(struct weir__socket *socket, int file, uint64_t offset,
                               uint64_t length, size_t piece, unsigned flags)
{
    uint64_t bytes = length < WEIR__SEND_FILE_BYTES_MAX ? length : WEIR__SEND_FILE_BYTES_MAX;
    uint64_t taken = 0;
    int64_t result = WEIR__WOULD_BLOCK;

    assert(length > 0);
    ignore_sigpipe_once();
    while (taken < bytes) {
        uint64_t left = bytes - taken;
        size_t size = piece == 0 || left < piece ? (size_t)left : piece;
        /* sendfile takes no cmsg either: the bits are set on the socket, for the last piece alone.
         * The keys' base stays, since OPT_ID is never cleared. */
        stamp_all(socket, (flags & WEIR__SEND_STAMP) && socket->stamps && size == left);
        result = send_file_piece(socket, file, offset + taken, size);
        if (!socket->tls_tx)
            stamp_all(socket, false);
        if (result < 0)
            break;
        taken += (uint64_t)result;
    }
    return taken > 0 ? (int64_t)taken : result;
}

static bool stamp_read(const struct sock_extended_err *error, const struct timespec *time,
                       int64_t wall_offset_ns, struct weir__stamp *stamp)
{
    if (error->ee_errno != ENOMSG || time->tv_sec == 0 ||
        (error->ee_info != SCM_TSTAMP_SND && error->ee_info != SCM_TSTAMP_ACK))
        return false;
    stamp->kind = error->ee_info == SCM_TSTAMP_ACK ? WEIR__STAMP_ACKED : WEIR__STAMP_SENT;
    stamp->key = error->ee_data;
    stamp->at_ns = stamp_ns(time, wall_offset_ns);
    return true;
}

bool weir__notice_read(struct msghdr *message, int64_t wall_offset_ns, struct weir__notice *notice)
{
    struct scm_timestamping time = {0};
    struct sock_extended_err error = {0};

    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPING)
            memcpy(&time, CMSG_DATA(c), sizeof(time));
        else if ((c->cmsg_level == SOL_IP && c->cmsg_type == IP_RECVERR) ||
                 (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_RECVERR))
            memcpy(&error, CMSG_DATA(c), sizeof(error));
    }
    if (error.ee_origin == SO_EE_ORIGIN_TIMESTAMPING) {
        notice->kind = WEIR__NOTICE_STAMP;
        return stamp_read(&error, &time.ts[0], wall_offset_ns, &notice->stamp);
    }
    if (error.ee_origin != SO_EE_ORIGIN_ZEROCOPY || error.ee_errno != 0)
        return false;
    notice->kind = WEIR__NOTICE_ZEROCOPY;
    notice->sends.first = error.ee_info;
    notice->sends.last = error.ee_data;
    notice->sends.copied = error.ee_code & SO_EE_CODE_ZEROCOPY_COPIED;
    return true;
}

/* Returns how many messages the queue gave, at most `count`; of those, `*taken` were notices. */
static unsigned notices_take(int descriptor, struct weir__notice *notices, unsigned count,
                             unsigned *taken)
{
    _Alignas(struct cmsghdr) char control[NOTICES_PER_CALL][NOTICE_CONTROL_BYTES];
    struct mmsghdr messages[NOTICES_PER_CALL];

    memset(messages, 0, sizeof(messages[0]) * count);
    for (unsigned i = 0; i < count; i++) {
        messages[i].msg_hdr.msg_control = control[i];
        messages[i].msg_hdr.msg_controllen = sizeof(control[i]);
    }
    int got = recvmmsg(descriptor, messages, count, MSG_ERRQUEUE | MSG_DONTWAIT, NULL);
    if (got <= 0)
        return 0;
    int64_t offset = weir__clock_wall_offset_ns(NULL);
    for (int i = 0; i < got; i++) {
        if (weir__notice_read(&messages[i].msg_hdr, offset, &notices[*taken]))
            (*taken)++;
    }
    return (unsigned)got;
}

unsigned weir__descriptor_notices(int descriptor, struct weir__notice *notices, unsigned count)
{
    unsigned taken = 0;

    while (taken < count) {
        unsigned room = count - taken;
        unsigned asked = room < NOTICES_PER_CALL ? room : NOTICES_PER_CALL;
        if (notices_take(descriptor, notices, asked, &taken) < asked)
            break;
    }
    return taken;
}

bool weir__descriptor_zerocopy(int descriptor)
{
    const int on = 1;
    return setsockopt(descriptor, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)) == 0;
}

/*
 * connect(2) to AF_UNSPEC is tcp_disconnect: a RST, and all that waits to be sent is freed now, not at the close,
 * so that the error queue, which only the close empties, tells of it. With kernel TLS there is no such call; then
 * the peer learns it at the close.
 */
void weir__socket_abort(struct weir__engine *engine, struct weir__socket *socket)
{
    const struct sockaddr nobody = {.sa_family = AF_UNSPEC};

    (void)engine;
    weir__descriptor_close_resets(socket->handle);
    if (connect(socket->handle, &nobody, sizeof(nobody)) != 0)
        (void)shutdown(socket->handle, SHUT_RDWR);
}

bool weir__descriptor_pair(int pair[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ready;

    pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pair[1] = -1;
    ready = listener >= 0 && pair[0] >= 0 &&
            bind(listener, (struct sockaddr *)&address, length) == 0 && listen(listener, 1) == 0 &&
            getsockname(listener, (struct sockaddr *)&address, &length) == 0 &&
            connect(pair[0], (struct sockaddr *)&address, length) == 0;
    if (ready)
        pair[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (listener >= 0)
        (void)close(listener);
    if (pair[0] >= 0 && pair[1] < 0)
        (void)close(pair[0]);
    if (pair[1] < 0)
        pair[0] = -1;
    return pair[1] >= 0;
}

bool weir__kernel_can(atomic_int *answer, bool (*ask)(bool *known))
{
    enum { UNKNOWN, NO, YES };
    int now = atomic_load_explicit(answer, memory_order_relaxed);
    bool known;

    if (now == UNKNOWN) {
        now = ask(&known) ? YES : NO;
        if (known)
            atomic_store_explicit(answer, now, memory_order_relaxed);
    }
    return now == YES;
}

/* Whether a send by zero copy is taken, and its notice comes; `*known`: there was a connection to try it on. */
static bool zerocopy_try(bool *known)
{
    enum { NOTICE_WAIT_MS = 1000 }; /* loopback brings it at once */
    static const char byte;
    struct weir__socket socket = {.handle = -1};
    struct weir__notice notice = {.kind = WEIR__NOTICE_STAMP};
    const struct iovec part = {.iov_base = (void *)(uintptr_t)&byte, .iov_len = 1};
    int pair[2];

    *known = weir__descriptor_pair(pair);
    if (!*known)
        return false;
    struct pollfd errors = {.fd = pair[0]};
    socket.handle = pair[0];
    bool can = weir__descriptor_zerocopy(pair[0]) &&
               weir__socket_send(&socket, &part, 1, WEIR__SEND_ZEROCOPY, 0) == 1 &&
               poll(&errors, 1, NOTICE_WAIT_MS) == 1 &&
               weir__descriptor_notices(pair[0], &notice, 1) == 1 &&
               notice.kind == WEIR__NOTICE_ZEROCOPY;
    (void)close(pair[0]);
    (void)close(pair[1]);
    return can;
}

bool weir__can_zerocopy(struct weir__engine *engine)
{
    static atomic_int answer;

    (void)engine;
    return weir__kernel_can(&answer, zerocopy_try);
}
