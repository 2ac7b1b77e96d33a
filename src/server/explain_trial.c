/* SPDX-License-Identifier: Apache-2.0 */
#include "server/explain_trial.h"

#include <assert.h>
#include <stdio.h>

#include <weir/address.h>
#include <weir/listener.h>
#include <weir/loop.h>
#include <weir/send.h>

#include "engine/engine.h"
#include "net/send_policy.h"

#define NS_PER_MS 1000000ull

/* Read by the kernel for as long as it likes: it stays when the trial is over. */
static char bytes[WEIR__TRIAL_BYTES];

struct pair {
    struct weir_loop *loop;
    struct weir_listener *listener;
    struct weir_stream *streams[2]; /* the one that sends, the one that was accepted */
    bool failed, released;
};

static void on_close(struct weir_stream *stream, int reason)
{
    struct pair *pair = weir_stream_context(stream);

    (void)reason;
    pair->failed = true;
    for (int i = 0; i < 2; i++) {
        if (pair->streams[i] == stream)
            pair->streams[i] = NULL;
    }
}

static const struct weir_stream_handler handler = {.on_close = on_close};

static void on_released(struct weir_stream *stream, void *context,
                        const struct weir_write_event *event)
{
    struct pair *pair = context;

    (void)stream;
    pair->released = event->stage == WEIR_STAGE_RELEASED;
}

static void on_accept(struct weir_listener *listener, struct weir_stream *stream, int error)
{
    struct pair *pair = weir_listener_context(listener);

    (void)error;
    if (!stream || pair->streams[1]) {
        if (stream)
            weir_stream_abort(stream, 0);
        return;
    }
    pair->streams[1] = stream;
    weir_stream_set_handler(stream, &handler, pair);
    weir_stream_read_start(stream);
}

static void on_listener_closed(struct weir_listener *listener)
{
    struct pair *pair = weir_listener_context(listener);

    pair->listener = NULL;
}

static bool listen_on_loopback(struct pair *pair)
{
    struct weir_address address;

    return weir_address_parse(&address, "127.0.0.1:0") == 0 &&
           weir_listener_start(&pair->listener, pair->loop, &address, NULL, on_accept, pair) == 0;
}

/* Queues the send, of memory alone. */
static bool begin(struct pair *pair)
{
    const struct iovec part = {.iov_base = bytes, .iov_len = sizeof(bytes)};
    const struct weir_write write = {
        .parts = &part,
        .part_count = 1,
        .file = -1,
        .stages = WEIR_STAGE_RELEASED,
        .on_stage = on_released,
        .context = pair,
    };
    struct weir_address address;

    if (weir_listener_address(pair->listener, &address) != 0 ||
        weir_stream_connect(&pair->streams[0], pair->loop, &address, NULL, &handler, pair) != 0)
        return false;
    return weir_stream_write(pair->streams[0], &write) == 0;
}

static void run_until(struct pair *pair, const bool *done, uint64_t deadline_ns)
{
    uint64_t now_ns;

    while (!*done && !pair->failed && (now_ns = weir_loop_now_ns(pair->loop)) < deadline_ns) {
        if (weir_loop_run_once(pair->loop, (int64_t)((deadline_ns - now_ns) / NS_PER_MS + 1)) != 0)
            return;
    }
}

/* Both ends go at once; what the kernel kept is let go with them. */
static bool end(struct pair *pair, uint64_t deadline_ns)
{
    if (pair->listener)
        weir_listener_close(pair->listener, on_listener_closed);
    for (int i = 0; i < 2; i++) {
        if (pair->streams[i])
            weir_stream_abort(pair->streams[i], 0);
    }
    while ((pair->listener || pair->streams[0] || pair->streams[1]) &&
           weir_loop_now_ns(pair->loop) < deadline_ns) {
        if (weir_loop_run_once(pair->loop, 10) != 0)
            break;
    }
    return !pair->listener && !pair->streams[0] && !pair->streams[1];
}

static enum weir__trial_outcome outcome_of(const struct pair *pair)
{
    struct weir_send_info info;

    weir_loop_send_info(pair->loop, &info);
    if (info.zerocopy_refused > 0)
        return WEIR__TRIAL_REFUSED;
    if (!pair->released)
        return WEIR__TRIAL_NONE;
    if (info.zerocopy_copied > 0)
        return WEIR__TRIAL_COPIED;
    return info.zerocopy_used > 0 ? WEIR__TRIAL_USED : WEIR__TRIAL_NONE;
}

void weir__trial_run(struct weir__trial *trial)
{
    struct pair pair = {.failed = false};
    uint64_t pinned_bytes_max;

    *trial = (struct weir__trial){.outcome = WEIR__TRIAL_NONE};
    if (weir_loop_new(&pair.loop, NULL) != 0)
        return;
    snprintf(trial->engine, sizeof(trial->engine), "%s", weir_loop_engine_name(pair.loop));
    trial->zerocopy = weir__loop_zerocopy(pair.loop, &pinned_bytes_max) != WEIR_ZEROCOPY_OFF;
    uint64_t deadline_ns = weir_loop_now_ns(pair.loop) + WEIR__TRIAL_LIMIT_MS / 2 * NS_PER_MS;
    bool listens = listen_on_loopback(&pair);
    struct weir__send_policy *policy = weir__loop_send_policy(pair.loop);
    /* As the listener found out. */
    trial->file_piece_bytes = policy ? weir__send_policy_piece(policy) : 0;
    if (listens && trial->zerocopy && begin(&pair)) {
        run_until(&pair, &pair.released, deadline_ns);
        trial->outcome = outcome_of(&pair);
    }
    /* One whose ends do not come goes with the process. */
    if (end(&pair, deadline_ns + WEIR__TRIAL_LIMIT_MS / 2 * NS_PER_MS))
        weir_loop_free(pair.loop);
}

int weir__trial_pin_result(enum weir__trial_outcome outcome)
{
    assert(outcome != WEIR__TRIAL_NONE);
    return outcome == WEIR__TRIAL_USED     ? WEIR__PIN_USED
           : outcome == WEIR__TRIAL_COPIED ? WEIR__PIN_COPIED
                                           : WEIR__PIN_REFUSED;
}
