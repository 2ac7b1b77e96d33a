/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/probe.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/probe_try.h"

/* The oldest kernel on which all of Weir is tested. */
#define KERNEL_MAJOR_MIN 6
#define KERNEL_MINOR_MIN 1

void weir__probe_works(struct weir__probe *probe, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    probe->works = true;
    vsnprintf(probe->text, sizeof(probe->text), format, arguments);
    va_end(arguments);
}

void weir__probe_lacks(struct weir__probe *probe, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    probe->works = false;
    vsnprintf(probe->text, sizeof(probe->text), format, arguments);
    va_end(arguments);
}

/* Whether a seccomp filter sits on this process (proc(5): "Seccomp: 2"). */
static bool seccomp_filters(void)
{
    char status[4096] = "";
    int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        ssize_t length = read(file, status, sizeof(status) - 1);
        status[length > 0 ? length : 0] = 0;
        close(file);
    }
    return strstr(status, "\nSeccomp:\t2\n") != NULL;
}

void weir__probe_refused(struct weir__probe *probe, const char *call, int error)
{
    bool filtered = (error == EPERM || error == EACCES || error == ENOSYS) && seccomp_filters();
    weir__probe_lacks(probe, "%s: %s%s", call, strerror(error),
                      filtered ? "; a seccomp filter is in force here" : "");
}

int weir__probe_listener(struct weir__probe *probe, int flag)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (listener < 0)
        weir__probe_refused(probe, "socket", errno);
    else if (flag != 0 && setsockopt(listener, SOL_SOCKET, flag, &on, sizeof(on)) != 0)
        weir__probe_refused(probe, "setsockopt", errno);
    else if (bind(listener, (struct sockaddr *)&address, sizeof(address)) != 0 ||
             listen(listener, 8) != 0)
        weir__probe_refused(probe, "no socket can listen on 127.0.0.1", errno);
    else
        return listener;
    return -1;
}

int weir__probe_connect(struct weir__probe *probe, int listener)
{
    struct sockaddr_in address;
    socklen_t length = sizeof(address);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (client >= 0 && getsockname(listener, (struct sockaddr *)&address, &length) == 0 &&
        connect(client, (struct sockaddr *)&address, length) == 0)
        return client;
    weir__probe_refused(probe, "no connection over 127.0.0.1", errno);
    return -1;
}

bool weir__probe_pair(struct weir__probe *probe, int pair[2])
{
    int listener = weir__probe_listener(probe, 0);
    if (listener < 0 || (pair[1] = weir__probe_connect(probe, listener)) < 0)
        return false;
    pair[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (pair[0] < 0)
        weir__probe_refused(probe, "accept", errno);
    return pair[0] >= 0;
}

static void probe_kernel(struct weir__probe *probe)
{
    struct utsname name;
    unsigned major = 0, minor = 0;
    uname(&name);
    if (sscanf(name.release, "%u.%u", &major, &minor) == 2 &&
        (major > KERNEL_MAJOR_MIN || (major == KERNEL_MAJOR_MIN && minor >= KERNEL_MINOR_MIN)))
        weir__probe_works(probe, "Linux %.64s", name.release);
    else
        weir__probe_lacks(probe, "this is %.32s %.64s; Weir is tested on Linux %d.%d and newer",
                          name.sysname, name.release, KERNEL_MAJOR_MIN, KERNEL_MINOR_MIN);
}

static void probe_send_file(struct weir__probe *probe)
{
    static const char bytes[] = "sendfile";
    char got[sizeof(bytes)];
    int pair[2], file = memfd_create("weir-probe", MFD_CLOEXEC);
    off_t offset = 0;
    if (!weir__probe_pair(probe, pair))
        return;
    if (file < 0 || write(file, bytes, sizeof(bytes)) != sizeof(bytes))
        weir__probe_refused(probe, "no file to send", errno);
    else if (sendfile(pair[0], file, &offset, sizeof(bytes)) != sizeof(bytes))
        weir__probe_refused(probe, "sendfile", errno);
    else if (recv(pair[1], got, sizeof(got), MSG_WAITALL) != sizeof(got) ||
             memcmp(got, bytes, sizeof(got)) != 0)
        weir__probe_lacks(probe, "other bytes arrived than were sent");
    else
        weir__probe_works(probe, "%s", "");
}

/* "/dev/null" lies beneath "/", "/dev/.." does not lie beneath "/dev": both must be told rightly.
 */
static void probe_openat2(struct weir__probe *probe)
{
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC, .resolve = RESOLVE_BENEATH};
    int folder = open("/dev", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0 || syscall(SYS_openat2, folder, "null", &how, sizeof(how)) < 0)
        weir__probe_refused(probe, "openat2", errno);
    else if (syscall(SYS_openat2, folder, "..", &how, sizeof(how)) >= 0 || errno != EXDEV)
        weir__probe_lacks(probe, "openat2 does not keep to the folder");
    else
        weir__probe_works(probe, "%s", "");
}

static void probe_reuse_port(struct weir__probe *probe)
{
    struct sockaddr_in address;
    socklen_t length = sizeof(address);
    int on = 1, first = weir__probe_listener(probe, SO_REUSEPORT);
    if (first < 0)
        return;
    int second = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (getsockname(first, (struct sockaddr *)&address, &length) == 0 &&
        setsockopt(second, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0 &&
        bind(second, (struct sockaddr *)&address, length) == 0 && listen(second, 8) == 0)
        weir__probe_works(probe, "%s", "");
    else
        weir__probe_refused(probe, "a second listener on the same port", errno);
}

static const struct {
    const char *name;
    void (*run)(struct weir__probe *probe);
} probes[WEIR__PROBE_COUNT] = {
    [WEIR__PROBE_KERNEL] = {"kernel", probe_kernel},
    [WEIR__PROBE_ENGINE_IO_URING] = {"engine_io_uring", weir__probe_engine_io_uring},
    [WEIR__PROBE_ENGINE_EPOLL] = {"engine_epoll", weir__probe_engine_epoll},
    [WEIR__PROBE_ENGINE_POLL] = {"engine_poll", weir__probe_engine_poll},
    [WEIR__PROBE_ENGINE_AUTO] = {"engine_auto", weir__probe_engine_auto},
    [WEIR__PROBE_DELIVERY_IO_URING] = {"delivery_io_uring", weir__probe_delivery_io_uring},
    [WEIR__PROBE_DELIVERY_EPOLL] = {"delivery_epoll", weir__probe_delivery_epoll},
    [WEIR__PROBE_DELIVERY_POLL] = {"delivery_poll", weir__probe_delivery_poll},
    [WEIR__PROBE_URING_SETUP] = {"io_uring_setup", weir__probe_uring_setup},
    [WEIR__PROBE_URING_DEFER_TASKRUN] = {"io_uring_defer_taskrun", weir__probe_uring_defer_taskrun},
    [WEIR__PROBE_URING_ACCEPT_MULTISHOT] = {"io_uring_accept_multishot",
                                            weir__probe_uring_accept_multishot},
    [WEIR__PROBE_URING_BUFFER_RING] = {"io_uring_buffer_ring", weir__probe_uring_buffer_ring},
    [WEIR__PROBE_URING_RECEIVE_MULTISHOT] = {"io_uring_recv_multishot",
                                             weir__probe_uring_receive_multishot},
    [WEIR__PROBE_URING_RECVMSG_MULTISHOT] = {"io_uring_recvmsg_multishot",
                                             weir__probe_uring_recvmsg_multishot},
    [WEIR__PROBE_URING_SENDMSG] = {"io_uring_sendmsg", weir__probe_uring_sendmsg},
    [WEIR__PROBE_URING_CANCEL] = {"io_uring_cancel", weir__probe_uring_cancel},
    [WEIR__PROBE_URING_CQE_MIXED] = {"io_uring_cqe_mixed", weir__probe_uring_cqe_mixed},
    [WEIR__PROBE_URING_TX_TIMESTAMP] = {"io_uring_tx_timestamp", weir__probe_uring_tx_timestamp},
    [WEIR__PROBE_URING_SEND_ZEROCOPY] = {"io_uring_send_zc", weir__probe_uring_send_zerocopy},
    [WEIR__PROBE_URING_KTLS] = {"io_uring_ktls", weir__probe_uring_ktls},
    [WEIR__PROBE_KTLS] = {"ktls", weir__probe_ktls},
    [WEIR__PROBE_KTLS_1_3] = {"ktls_1_3", weir__probe_ktls_1_3},
    [WEIR__PROBE_KTLS_1_2] = {"ktls_1_2", weir__probe_ktls_1_2},
    [WEIR__PROBE_KTLS_REKEY] = {"ktls_rekey", weir__probe_ktls_rekey},
    [WEIR__PROBE_KTLS_STAMP] = {"ktls_stamp", weir__probe_ktls_stamp},
    [WEIR__PROBE_KTLS_STAT] = {"ktls_stat", weir__probe_ktls_stat},
    [WEIR__PROBE_STAMP_SCHEDULED] = {"tx_stamp_sched", weir__probe_stamp_scheduled},
    [WEIR__PROBE_STAMP_SENT] = {"tx_stamp_snd", weir__probe_stamp_sent},
    [WEIR__PROBE_STAMP_ACKED] = {"tx_stamp_ack", weir__probe_stamp_acked},
    [WEIR__PROBE_STAMP_PER_CALL] = {"tx_stamp_per_call", weir__probe_stamp_per_call},
    [WEIR__PROBE_STAMP_ID_TCP] = {"tx_stamp_id_tcp", weir__probe_stamp_id_tcp},
    [WEIR__PROBE_STAMP_RECEIVED] = {"rx_stamp", weir__probe_stamp_received},
    [WEIR__PROBE_TCP_INFO_ACKED] = {"tcp_info_bytes_acked", weir__probe_tcp_info_acked},
    [WEIR__PROBE_SEND_FILE] = {"sendfile", probe_send_file},
    [WEIR__PROBE_ZEROCOPY] = {"msg_zerocopy", weir__probe_zerocopy},
    [WEIR__PROBE_OPENAT2] = {"openat2", probe_openat2},
    [WEIR__PROBE_REUSE_PORT] = {"reuse_port", probe_reuse_port},
};

const char *weir__probe_name(enum weir__probe_id id)
{
    assert(id < WEIR__PROBE_COUNT);
    return probes[id].name;
}

/* The child's answer, or what became of the child instead. */
static void answer_take(pid_t child, int answer, struct weir__probe *probe)
{
    struct pollfd wait_for = {.fd = answer, .events = POLLIN};
    int ready = poll(&wait_for, 1, WEIR__PROBE_DEADLINE_MS), status = 0;
    if (ready != 1)
        kill(child, SIGKILL);
    bool answered = ready == 1 && read(answer, probe, sizeof(*probe)) == (ssize_t)sizeof(*probe);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (answered)
        return;
    if (ready != 1)
        weir__probe_lacks(probe, "no answer within %d ms", WEIR__PROBE_DEADLINE_MS);
    else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
        weir__probe_lacks(probe, "a seccomp filter kills the process that tries it");
    else
        weir__probe_lacks(probe, "the process that tried it died (status 0x%x)", status);
}

void weir__probe_run(enum weir__probe_id id, struct weir__probe *probe)
{
    int answer[2];
    assert(id < WEIR__PROBE_COUNT);
    if (pipe2(answer, O_CLOEXEC) != 0) {
        weir__probe_refused(probe, "pipe", errno);
        return;
    }
    pid_t child = fork();
    if (child == 0) {
        struct weir__probe result = {.works = false, .text = "it said nothing"};
        probes[id].run(&result);
        /* One write of less than PIPE_BUF arrives whole (pipe(7)). */
        _exit(write(answer[1], &result, sizeof(result)) == (ssize_t)sizeof(result) ? 0 : 1);
    }
    close(answer[1]);
    if (child < 0)
        weir__probe_refused(probe, "fork", errno);
    else
        answer_take(child, answer[0], probe);
    close(answer[0]);
}
