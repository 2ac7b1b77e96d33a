/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_ENGINE_PROBE_TRY_H
#define WEIR_ENGINE_PROBE_TRY_H

/*
 * What the files of the probes share. Each of these functions runs in a child process of its own
 * that ends right after it, so none of them closes or frees anything, and a call that blocks is
 * bounded by the parent.
 */

#include "engine/probe.h"

/* An event that loopback brings at once, or never. */
#define WEIR__PROBE_EVENT_MS 500

/* Says that it works, with a detail or "". */
__attribute__((format(printf, 2, 3))) void weir__probe_works(struct weir__probe *probe,
                                                             const char *format, ...);
/* Says why it does not work. */
__attribute__((format(printf, 2, 3))) void weir__probe_lacks(struct weir__probe *probe,
                                                             const char *format, ...);
/* The same, for a call that failed with `error`, an errno; names the seccomp filter where there is
 * one. */
void weir__probe_refused(struct weir__probe *probe, const char *call, int error);

/* A TCP connection over loopback: `pair[0]` accepted, `pair[1]` connected. False: it said why. */
bool weir__probe_pair(struct weir__probe *probe, int pair[2]);
/* A listener on loopback with a free port, `flag` (an SO_* or 0) set before it was bound, or -1. */
int weir__probe_listener(struct weir__probe *probe, int flag);
/* Connects to that listener. Returns -1 after it said why. */
int weir__probe_connect(struct weir__probe *probe, int listener);

struct sock_extended_err;
/* The next message of a socket's error queue, or false if none comes in time. */
bool weir__probe_error_take(int descriptor, struct sock_extended_err *error);
/* A connection that has kernel TLS from `pair[0]` to `pair[1]`. False: it said why. */
bool weir__probe_ktls_pair(struct weir__probe *probe, int pair[2]);

/* One function per probe. */
void weir__probe_uring_setup(struct weir__probe *probe);
void weir__probe_uring_defer_taskrun(struct weir__probe *probe);
void weir__probe_uring_accept_multishot(struct weir__probe *probe);
void weir__probe_uring_buffer_ring(struct weir__probe *probe);
void weir__probe_uring_receive_multishot(struct weir__probe *probe);
void weir__probe_uring_recvmsg_multishot(struct weir__probe *probe);
void weir__probe_uring_sendmsg(struct weir__probe *probe);
void weir__probe_uring_cancel(struct weir__probe *probe);
void weir__probe_uring_cqe_mixed(struct weir__probe *probe);
void weir__probe_uring_tx_timestamp(struct weir__probe *probe);
void weir__probe_uring_send_zerocopy(struct weir__probe *probe);
void weir__probe_uring_ktls(struct weir__probe *probe);
void weir__probe_ktls(struct weir__probe *probe);
void weir__probe_ktls_1_3(struct weir__probe *probe);
void weir__probe_ktls_1_2(struct weir__probe *probe);
void weir__probe_ktls_rekey(struct weir__probe *probe);
void weir__probe_ktls_stamp(struct weir__probe *probe);
void weir__probe_ktls_stat(struct weir__probe *probe);
void weir__probe_stamp_scheduled(struct weir__probe *probe);
void weir__probe_stamp_sent(struct weir__probe *probe);
void weir__probe_stamp_acked(struct weir__probe *probe);
void weir__probe_stamp_per_call(struct weir__probe *probe);
void weir__probe_stamp_id_tcp(struct weir__probe *probe);
void weir__probe_stamp_received(struct weir__probe *probe);
void weir__probe_tcp_info_acked(struct weir__probe *probe);
void weir__probe_zerocopy(struct weir__probe *probe);
void weir__probe_engine_io_uring(struct weir__probe *probe);
void weir__probe_engine_epoll(struct weir__probe *probe);
void weir__probe_engine_poll(struct weir__probe *probe);
void weir__probe_engine_auto(struct weir__probe *probe);
void weir__probe_delivery_io_uring(struct weir__probe *probe);
void weir__probe_delivery_epoll(struct weir__probe *probe);
void weir__probe_delivery_poll(struct weir__probe *probe);

#endif
