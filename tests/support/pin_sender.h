/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WEIR_TESTS_PIN_SENDER_H
#define WEIR_TESTS_PIN_SENDER_H

/*
 * Sends with pins from a child process, which is another user, or in another network, than the test, and asserts
 * nothing: it ends with an exit status. The peer is an ordinary descriptor.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "engine/engine.h"

#define PIN_SENDS_MAX 64

struct pin_sender;

struct pin_of_sender {
    struct weir__pin pin;
    struct pin_sender *sender;
    bool released;
};

struct pin_sender {
    struct weir__engine *engine;
    struct weir__socket socket;
    struct weir__op op;
    struct iovec part;
    int peer;
    const uint8_t *bytes; /* of all sends, one behind the other */
    struct pin_of_sender pins[PIN_SENDS_MAX];
    unsigned count;
    unsigned by_result[WEIR__PIN_UNSENT + 1];
    bool wrong; /* a pin was released twice, or before its send was complete */
    size_t taken, received;
    int64_t result;
};

/* Connects `peer`, a socket, to the listener's address; the accepted end sends. Closes the listener. */
bool pin_sender_open(struct pin_sender *sender, struct weir__engine *engine, int listener, int peer,
                     const uint8_t *bytes);
/* A listener at that IPv4 address and a free port, or -1. */
int pin_sender_listener(uint32_t address);
/* False: the socket takes no more for now, the SEND stays in flight; or there is no pin left. */
bool pin_sender_send(struct pin_sender *sender, size_t length);
/* Reads all that was sent so far. False: it is not what was to be sent. */
bool pin_sender_received(struct pin_sender *sender);
/* Waits until all pins are released; false: some are not, or were wrongly. Then closes both ends. */
bool pin_sender_close(struct pin_sender *sender);

/* Runs `child` in a process of its own and returns its exit status, or -1 if it died. */
int child_status(int (*child)(const struct weir__engine_ops *ops, void *context),
                 const struct weir__engine_ops *ops, void *context);

#endif
