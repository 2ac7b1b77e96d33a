/* SPDX-License-Identifier: Apache-2.0 */
#include "support/pin_sender.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/list.h"

#define WAIT_NS  (10 * UINT64_C(1000000000))
#define BRIEF_NS (30 * UINT64_C(1000000))
#define READ_MAX 65536

static void on_released(struct weir__pin *pin, enum weir__pin_result result)
{
    struct pin_of_sender *held = (struct pin_of_sender *)pin;
    struct pin_sender *sender = held->sender;
    const struct pin_of_sender *last = &sender->pins[sender->count - 1];

    if (held->released || (held == last && sender->op.in_flight))
        sender->wrong = true;
    held->released = true;
    sender->by_result[result]++;
}

static void on_sent(struct weir__op *op, const struct weir__completion *completion)
{
    struct pin_sender *sender = WEIR__CONTAINER(op, struct pin_sender, op);

    sender->result = completion->result;
    if (completion->result > 0)
        sender->taken += (size_t)completion->result;
}

int pin_sender_listener(uint32_t address)
{
    const struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    if (listener >= 0 && (bind(listener, (const struct sockaddr *)&at, sizeof(at)) != 0 ||
                          listen(listener, 1) != 0)) {
        (void)close(listener);
        return -1;
    }
    return listener;
}

bool pin_sender_open(struct pin_sender *sender, struct weir__engine *engine, int listener, int peer,
                     const uint8_t *bytes)
{
    struct sockaddr_in address;
    socklen_t length = sizeof(address);
    int handle = -1;

    memset(sender, 0, sizeof(*sender));
    sender->engine = engine;
    sender->bytes = bytes;
    sender->peer = peer;
    if (getsockname(listener, (struct sockaddr *)&address, &length) == 0 &&
        connect(peer, (struct sockaddr *)&address, length) == 0)
        handle = accept(listener, NULL, NULL);
    (void)close(listener);
    if (handle >= 0)
        engine->ops->socket_adopt(engine, &sender->socket, handle);
    return handle >= 0;
}

bool pin_sender_send(struct pin_sender *sender, size_t length)
{
    const struct weir__engine_ops *ops = sender->engine->ops;
    uint64_t until = ops->now_ns(sender->engine) + BRIEF_NS;

    if (sender->count == PIN_SENDS_MAX)
        return false;
    struct pin_of_sender *held = &sender->pins[sender->count++];
    held->pin.released = on_released;
    held->sender = sender;
    sender->part = (struct iovec){.iov_base = (void *)(uintptr_t)(sender->bytes + sender->taken),
                                  .iov_len = length};
    sender->op =
        (struct weir__op){.kind = WEIR__OP_SEND, .complete = on_sent, .socket = &sender->socket};
    sender->op.send.parts = &sender->part;
    sender->op.send.part_count = 1;
    sender->op.send.pin = &held->pin;
    ops->submit(sender->engine, &sender->op);
    while (sender->op.in_flight && ops->now_ns(sender->engine) < until)
        (void)ops->wait(sender->engine, BRIEF_NS / 10);
    return !sender->op.in_flight && sender->result > 0;
}

bool pin_sender_received(struct pin_sender *sender)
{
    static uint8_t got[READ_MAX];
    const struct weir__engine_ops *ops = sender->engine->ops;
    uint64_t until = ops->now_ns(sender->engine) + WAIT_NS;

    while (sender->received < sender->taken || sender->op.in_flight) {
        ssize_t length = recv(sender->peer, got, sizeof(got), MSG_DONTWAIT);
        if (length > 0 && memcmp(got, sender->bytes + sender->received, (size_t)length) != 0)
            return false;
        sender->received += length > 0 ? (size_t)length : 0;
        if (ops->now_ns(sender->engine) > until)
            return false;
        (void)ops->wait(sender->engine, length > 0 ? 0 : BRIEF_NS / 30);
    }
    return sender->received == sender->taken;
}

bool pin_sender_close(struct pin_sender *sender)
{
    const struct weir__engine_ops *ops = sender->engine->ops;
    uint64_t until = ops->now_ns(sender->engine) + WAIT_NS;

    while (sender->socket.pins > 0 && ops->now_ns(sender->engine) < until)
        (void)ops->wait(sender->engine, BRIEF_NS);
    for (unsigned i = 0; i < sender->count; i++) {
        if (!sender->pins[i].released)
            return false;
    }
    if (sender->socket.pins > 0 || sender->wrong)
        return false;
    ops->socket_close(sender->engine, &sender->socket);
    (void)close(sender->peer);
    return true;
}

int child_status(int (*child)(const struct weir__engine_ops *ops, void *context),
                 const struct weir__engine_ops *ops, void *context)
{
    int status = 0;

    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        exit(child(ops, context));
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return -1;
    return WEXITSTATUS(status);
}
