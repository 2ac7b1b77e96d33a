/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pins that are USED. Loopback and veth always copy, unless the receiving device has an XDP program: then a
 * packet is taken apart before anybody copies for the sender's sake, and the kernel says that the memory was used.
 * Two network namespaces, a veth between them, and a program that lets all pass.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "support/engine_fixture.h"
#include "support/pin_sender.h"

#define SENDER_ADDRESS 0x0a630001u /* 10.99.0.1 */
#define SEND_BYTES     (32u << 10)
#define SENDS          8

enum outcome {
    USED = 40,
    COPIED,
    NO_NAMESPACE,
    NO_VETH,
    NO_PROGRAM,
    NO_ENGINE,
    NO_CONNECTION,
    NO_SEND,
    WRONG_BYTES,
    WRONG_PINS
};

static const char *const reasons[] = {
    [NO_NAMESPACE] = "network namespaces need root",
    [NO_VETH] = "no veth can be made (ip link add ... type veth)",
    [NO_PROGRAM] = "no XDP program can be attached (bpf(2))",
    [NO_ENGINE] = "the engine cannot be had here",
};

/* r0 = XDP_PASS; exit. Attached for as long as the descriptor is open. */
static bool program_attach(const char *device)
{
    const struct bpf_insn instructions[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS},
        {.code = BPF_JMP | BPF_EXIT},
    };
    union bpf_attr load, link;

    memset(&load, 0, sizeof(load));
    load.prog_type = BPF_PROG_TYPE_XDP;
    load.insn_cnt = 2;
    load.insns = (uintptr_t)instructions;
    load.license = (uintptr_t) "GPL";
    long program = syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load));
    if (program < 0)
        return false;
    memset(&link, 0, sizeof(link));
    link.link_create.prog_fd = (uint32_t)program;
    link.link_create.target_ifindex = if_nametoindex(device);
    link.link_create.attach_type = BPF_XDP;
    return syscall(SYS_bpf, BPF_LINK_CREATE, &link, sizeof(link)) >= 0;
}

static int namespace_new(void)
{
    return unshare(CLONE_NEWNET) == 0 ? open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC) : -1;
}

/* Makes the two namespaces, the sender's and the receiver's, and stays in the receiver's. */
static int network_make(int *sender, int *receiver)
{
    char command[160];

    *receiver = namespace_new();
    *sender = namespace_new();
    if (*receiver < 0 || *sender < 0)
        return NO_NAMESPACE;
    /* The shell's own descriptor for the namespace: the receiver's is open in this process. */
    (void)snprintf(
        command, sizeof(command),
        "ip link add weir0 type veth peer name weir1 netns /proc/%d/fd/%d 2>/dev/null && "
        "ip addr add 10.99.0.1/24 dev weir0 && ip link set weir0 up",
        (int)getpid(), *receiver);
    if (system(command) != 0)
        return NO_VETH;
    if (setns(*receiver, CLONE_NEWNET) != 0 ||
        system("ip addr add 10.99.0.2/24 dev weir1 && ip link set weir1 up") != 0)
        return NO_VETH;
    return program_attach("weir1") ? USED : NO_PROGRAM;
}

static int send_and_receive(struct weir__engine *engine, int sender_namespace, const uint8_t *bytes)
{
    static struct pin_sender sender;
    int peer = socket(AF_INET, SOCK_STREAM, 0);

    if (setns(sender_namespace, CLONE_NEWNET) != 0)
        return NO_NAMESPACE;
    if (!pin_sender_open(&sender, engine, pin_sender_listener(SENDER_ADDRESS), peer, bytes))
        return NO_CONNECTION;
    for (unsigned i = 0; i < SENDS; i++) {
        if (!pin_sender_send(&sender, SEND_BYTES))
            return NO_SEND;
        if (!pin_sender_received(&sender))
            return WRONG_BYTES;
    }
    if (!pin_sender_close(&sender))
        return WRONG_PINS;
    return sender.by_result[WEIR__PIN_USED] == SENDS ? USED : COPIED;
}

static int child(const struct weir__engine_ops *ops, void *context)
{
    static const struct weir__engine_options options = {
        .delivery = true, .receive_bytes = 4096, .receive_buffers = 16};
    static uint8_t bytes[(SENDS + 1) * SEND_BYTES];
    struct weir__engine *engine;
    int sender, receiver;

    (void)context;
    if (ops->open(&engine, &options) != 0)
        return NO_ENGINE;
    pattern_fill(bytes, sizeof(bytes), 0);
    int outcome = network_make(&sender, &receiver);
    return outcome == USED ? send_and_receive(engine, sender, bytes) : outcome;
}

static void pins_are_used(void **state)
{
    const struct weir__engine_ops *ops = *state;
    int outcome = child_status(child, ops, NULL);

    if (outcome >= NO_NAMESPACE && outcome <= NO_ENGINE) {
        printf("SKIP: %s: %s\n", ops->name, reasons[outcome]);
        skip();
    }
    assert_int_equal(outcome, USED);
}

#define ON(engine)                                                                                 \
    {                                                                                              \
        .name = #engine ": pins are used", .test_func = pins_are_used,                             \
        .initial_state = (void *)(uintptr_t)&weir__##engine##_engine                               \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {ON(io_uring), ON(epoll), ON(poll)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
