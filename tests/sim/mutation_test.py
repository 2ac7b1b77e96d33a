#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks the ledger, the send queue, zero copy, the stream and TLS on it on purpose, a line at a time, and expects the
simulation's model to notice each time.

A mutant is a copy of one source with one text replaced. A text that is not there any more, or not just
once, is a failure: then this list must follow the source.
"""

import concurrent.futures
import glob
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CC = os.environ.get("CC", "cc")
FLAGS = ["-std=gnu11", "-D_GNU_SOURCE", "-DWEIR_PORTABLE", "-O1", "-w", "-Iinclude", "-Isrc", "-Itests"]
SOURCES = ["src/core/*.c", "src/net/*.c", "src/engine/loop.c", "src/engine/poll.c",
           "src/engine/readiness.c", "src/engine/readiness_pin.c", "src/engine/socket_posix.c", "src/engine/socket.c",
           "src/engine/sim.c", "src/engine/sim_*.c", "src/tls/*.c", "src/tls/vendor/shared.c",
           "tests/support/sim_*.c", "tests/support/tls_toy*.c", "tests/sim/stream_sim_test.c"]
SEEDS = 1500
TIMEOUT_S = 60

LEDGER, QUEUE = "src/net/ledger.c", "src/net/send_queue.c"
SEND, STREAM, LISTENER = "src/net/stream_send.c", "src/net/stream.c", "src/net/listener.c"
DELIVERY, MAP = "src/net/stream_delivery.c", "src/net/offset_map.c"
PIN, POLICY = "src/net/stream_pin.c", "src/net/send_policy.c"
TLS_OUTPUT, TLS_BUFFER = "src/tls/output.c", "src/tls/buffer.c"
TLS, TLS_SEND, SESSION = "src/tls/stream.c", "src/tls/stream_send.c", "src/tls/session.c"

# What is wrong; in which source; the text; what stands there instead.
MUTANTS = [
    ("an ACK stamp is dropped", LEDGER,
     "advance_acked(ledger, offset, stamp->at_ns, WEIR_DELIVERY_TX_ACK);", ";"),
    ("a byte that left counts as delivered", LEDGER,
     "if (stamp->kind == WEIR__STAMP_SENT)", "if (0)"),
    ("an ACK of the very last byte does not count", LEDGER,
     "entry = ledger->first; entry && entry->end <= offset;",
     "entry = ledger->first; entry && entry->end < offset;"),
    ("an ACK counts for one byte more", LEDGER,
     "entry = ledger->first; entry && entry->end <= offset;",
     "entry = ledger->first; entry && entry->end <= offset + 1;"),
    ("a stamp's key is taken for the end", LEDGER,
     "key + 1u - (uint32_t)accepted", "key - (uint32_t)accepted"),
    ("a stamp's offset is one too far", LEDGER,
     "key + 1u - (uint32_t)accepted", "key + 2u - (uint32_t)accepted"),
    ("keys are not extended to 64 bits", LEDGER,
     "return ledger->base + accepted + (uint64_t)(int64_t)distance;", "return ledger->base + key + 1u;"),
    ("an ACK that overtook its send is forgotten", LEDGER,
     "if (entry->end <= ledger->acked)", "if (0)"),
    ("the count of the kernel is ignored", LEDGER,
     "advance_acked(ledger, acked, now_ns, WEIR_DELIVERY_TCP_INFO);", ";"),
    ("the count believes what was only accepted", LEDGER,
     "advance_acked(ledger, acked, now_ns, WEIR_DELIVERY_TCP_INFO);",
     "advance_acked(ledger, ledger->accepted, now_ns, WEIR_DELIVERY_TCP_INFO);"),
    ("what waits to be sent counts as sent", LEDGER,
     "advance_sent(ledger, ledger->accepted - notsent_bytes, now_ns",
     "advance_sent(ledger, ledger->accepted, now_ns"),
    ("delivered entries wait for one another", LEDGER,
     "ledger->first->delivered_by == WEIR_DELIVERY_NONE",
     "!ledger->first->next || ledger->first->delivered_by == WEIR_DELIVERY_NONE"),
    ("no stamp is asked for", SEND, "return stamped ? WEIR__SEND_STAMP : 0;", "return 0;"),
    ("what has no stamp is taken for acknowledged", DELIVERY,
     "*acked = unacked < accepted ? accepted - unacked : 0;", "*acked = accepted;"),
    ("what has no stamp is looked for as if it had one", DELIVERY,
     "if (awaits_answer(stream))\n        return ANSWER_CHECK_MS;", ";"),
    ("a stamp does not tell", DELIVERY,
     "weir__ledger_stamp(&stream->ledger, &completion->stamp);\n        weir__stream_tell_progress(stream);",
     "weir__ledger_stamp(&stream->ledger, &completion->stamp);"),
    ("lost stamps are not looked for", DELIVERY,
     "stream->answer_due_ns = write->entry.accepted_ns;\n    start_check(stream);",
     "stream->answer_due_ns = write->entry.accepted_ns;"),
    ("the end of a write is short by one", DELIVERY,
     "write->entry.end = wire_end;", "write->entry.end = wire_end - 1;"),
    ("a failing write is not told", SEND, "if (write->stages)\n", "if (0)\n"),
    ("what has no stamp is noted too late", SEND,
     "if (stream->send_unstamped)\n        stream->unstamped_end = stream->ledger.accepted;", ";"),
    ("a failing write claims what was accepted", DELIVERY,
     ".bytes = bytes_before(write, plain_at(stream, stream->ledger.acked)),", ".bytes = write->taken,"),
    ("a short send meets no second try", SEND,
     "weir_timer_start(&stream->check_timer, SEND_RETRY_MS);", ";"),
    ("a stage is told twice", DELIVERY, "write->stages &= (uint8_t)~event->stage;", ";"),
    ("a write begins one byte late", QUEUE, "write->start = at->plain;", "write->start = at->plain + 1;"),
    ("what was taken is sent again", QUEUE, "uint64_t skip = write->taken;", "uint64_t skip = 0;"),
    ("a file is sent from its beginning again", QUEUE,
     "write->file_offset + (write->taken - write->memory_length)", "write->file_offset"),
    ("a stamp waits for all that is queued", QUEUE,
     "stamped_end + WEIR__COALESCE_BYTES_MAX", "stamped_end + (1u << 30)"),
    ("input that was held is lost", STREAM,
     "*stream->held_end = held;\n    stream->held_end = &held->next;", "weir__release(held);"),
    ("the end of a stream is not told", STREAM,
     "stream->handler->on_close(stream, stream->reason);", ";"),
    ("the end of the input is told twice", STREAM, "stream->end_told = true;", ";"),
    ("close knows no deadline", STREAM,
     "drop_held(stream);\n    weir_timer_start(&stream->deadline_timer, deadline_ms);", "drop_held(stream);"),
    ("a failing accept is not tried again", LISTENER,
     "weir_timer_start(&listener->retry_timer, WEIR_ACCEPT_RETRY_MS);",
     "weir_timer_start(&listener->retry_timer, 1u << 30);"),
    ("a part of a record counts as whole", MAP,
     "if (map->marks[middle].wire <= wire)", "if (map->marks[middle].wire <= wire + 30)"),
    ("what is whole is forgotten once it was passed", MAP,
     "map->passed = map->marks[before - 1];", ";"),
    ("a made write ends where its record begins", SEND,
     "write->entry.end = wire_end;", "write->entry.end = stream->ledger.accepted + 1;"),
    ("a record's overhead is nobody's", SEND,
     "if (bytes == 0)\n            write->wire_end = wire_end;", ";"),
    ("the first byte of what was made is not noted", SEND, "note_sealed(stream, taken_ns);", ";"),
    ("an open record counts as whole", SEND,
     "if (closed || stream->plain_taken - at.plain >= WEIR__TRANSPORT_RECORD_MAX)", "if (1)"),
    ("who waits for an open record is forgotten", SEND,
     "await_open_record(stream, before);", ";"),
    ("what the kernel's TLS keeps counts as sent", DELIVERY,
     "if (stream->socket.tls_tx)\n        weir__ledger_reach(", "if (0)\n        weir__ledger_reach("),
    ("a record begins with bytes that went before", TLS_SEND,
     "uint64_t skip = write->taken;", "uint64_t skip = 0;"),
    ("a file is encrypted from its beginning again", TLS_SEND,
     "write->file_offset + done, target", "write->file_offset, target"),
    ("no stamp is asked for with TLS", TLS_SEND, "        note_stamp(tls);", ";"),
    ("a key has no bound", TLS_SEND, "if (sequence < tls->context->records_max)", "if (1)"),
    ("a KeyUpdate changes nothing here", TLS_SEND,
     "error = weir__tls_session_next_tx(&tls->session, &keys);\n        weir__tls_wipe(", "weir__tls_wipe("),
    ("a KeyUpdate changes nothing in the kernel", TLS_SEND,
     "error = attach_tx(tls, &keys);", "error = 0;"),
    ("control records do not count", TLS_SEND,
     "tls->kernel_tx.bytes += bytes;\n    tls->kernel_tx.sequence", "tls->kernel_tx.sequence"),
    ("an open record does not count on the wire", TLS_SEND, "(closed ? 0 : 1)", "0"),
    ("of an open record all is known to be whole", TLS_SEND, "if (!closed)\n        plain", "if (0)\n        plain"),
    ("no close_notify", TLS_SEND, "if (tls->session.open && !tls->close_said) {", "if (0) {"),
    ("an answer behind the end", TLS_SEND,
     "if (tls->close_said || tls->base.stream->shut_done)\n        return 0;", ""),
    ("a half-close in the handshake", TLS_SEND,
     "if (!tls->session.open && !transport->stream->closing)\n        return false;", ""),
    ("a cut is an end", TLS, "weir__stream_fail(tls->base.stream, WEIR_ECUTOFF, !tls->session.open);",
     "weir__stream_input_done(tls->base.stream);"),
    ("the kernel takes over within a record", SESSION,
     "&& weir__tls_framer_is_empty(&session->user->framer)", ""),
    ("the kernel is given no second key", TLS, "weir__tls_switch_rx(context);", ";"),
    ("who closes waits for the peer's key for ever", TLS,
     "if (stream->closing && completion->record_type != WEIR__TLS_HANDSHAKE)", "if (stream->closing)"),
    ("a record that cannot be opened is passed over", SESSION,
     "if (alert)\n        return weir__tls_session_fail(", "if (alert)\n        return 0;\n    if (0)\n        return weir__tls_session_fail("),
    ("the peer's new key is not taken", SESSION,
     "error = protector_renew(session, &session->user->opener, &keys, false);", ";"),
    ("memory is released when it is accepted", DELIVERY,
     "if (write->pins == 0)\n        tell_stage(", "if (1)\n        tell_stage("),
    ("memory is released before it is accepted", DELIVERY, "if (write->accepted)", "if (1)"),
    ("the first of several notices releases a write", DELIVERY,
     "if (--write->pins > 0)", "if (write->pins-- == 0)"),
    ("a write ends while it is pinned", DELIVERY,
     "if (write->pins == 0)\n        end_write(", "if (1)\n        end_write("),
    ("a write that ended when its pins did stays", DELIVERY, "if (write->let_go)", "if (0)"),
    ("what became of a pin is forgotten", DELIVERY, "write->ways |= (uint8_t)way;", ";"),
    ("what was copied counts as sent in place", PIN,
     "return WEIR_SEND_COPIED;", "return WEIR_SEND_ZEROCOPY;"),
    ("a send of several writes pins the first", PIN,
     "for (unsigned i = 0; i < pinned->write_count; i++)\n        pinned->writes[i]->pins++;",
     "pinned->write_count = 1;\n    pinned->writes[0]->pins++;"),
    ("a send pins what it took nothing of", PIN,
     "if (write->taken > 0 && write->wire_start < stream->ledger.accepted)", "if (1)"),
    ("what was pinned is not counted down", PIN, "    count(pinned, 0);", ";"),
    ("memory that is pinned has no bound", POLICY,
     "if (pinned > max || question->bytes > max - pinned)", "if (0)"),
    ("how far a peer is is not asked", PIN, "question.rtt_us = stream->rtt_us;", ";"),
    ("a notice wakes no stream that closes", PIN,
     "if (stream->closing || stream->dying)\n        weir__stream_defer(stream);", ";"),
    ("a stream ends while memory is pinned", STREAM, "if (stream->socket.pins > 0) {", "if (0) {"),
    ("an end does not abort what is pinned", STREAM,
     "stream->engine->ops->socket_abort(stream->engine, &stream->socket);", ";"),
    ("an abort forgets what was counted", STREAM, "weir__stream_keep_counts(stream);", ";"),
    ("the kernel's TLS is given pins", SEND,
     "if (!stream->socket.tls_tx)\n        reason = choose(", "if (1)\n        reason = choose("),
    ("records are given back before the notice", TLS_OUTPUT,
     "if (buffer->pins == 0)\n            weir__tls_buffer_give(", "if (1)\n            weir__tls_buffer_give("),
    ("records are given back twice", TLS_OUTPUT,
     "if (--buffer->pins == 0 && buffer->taken)", "if (--buffer->pins == 0)"),
    ("of several records the first is pinned", TLS_OUTPUT,
     "held[count] = buffer;", "held[count] = output->first;"),
    ("records stay registered", TLS_BUFFER,
     "buffers->engine->ops->memory_unregister(buffers->engine, buffers->registered);", ";"),
    ("close_notify is not heard", SESSION, "session->events->closed(session->context);", ";"),
]


def run(command, timeout_s=TIMEOUT_S):
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", check=False, timeout=timeout_s)


def compiled(source, output):
    done = run([CC, *FLAGS, f"-I{os.path.dirname(source)}", "-c", source, "-o", output])
    return None if done.returncode == 0 else done.stdout


def object_of(folder, source):
    return os.path.join(folder, source.replace("/", "_") + ".o")


def linked_and_run(program, objects):
    done = run([CC, *objects, "-lpthread", "-o", program])
    if done.returncode != 0:
        return None, done.stdout
    done = run([program, "--seeds", str(SEEDS)])
    return done.returncode, done.stdout


def mutant_outcome(folder, sources, number):
    """Returns None if the model caught it, else why not."""
    _, path, text, instead = MUTANTS[number]
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        source = file.read()
    count = source.count(text)
    if count != 1:
        return f"{path} has the text {count} times"
    mutated = os.path.join(folder, f"mutant_{number}.c")
    with open(mutated, "w", encoding="utf-8") as file:
        file.write(source.replace(text, instead))
    output = object_of(folder, f"mutant_{number}")
    error = compiled(mutated, output)
    if error:
        return f"it does not compile: {error.splitlines()[0]}"
    objects = [output if other == path else object_of(folder, other) for other in sources]
    try:
        status, said = linked_and_run(os.path.join(folder, f"mutant_{number}"), objects)
    except subprocess.TimeoutExpired:
        return None
    if status is None:
        return f"it does not link: {said.splitlines()[0]}"
    if status == 0:
        return f"{SEEDS} seeds did not notice"
    if os.environ.get("VERBOSE"):
        print(f"      {MUTANTS[number][0]}: {said.splitlines()[0] if said else status}")
    return None


def main():
    failures = 0
    sources = sorted({os.path.relpath(path, ROOT) for pattern in SOURCES
                      for path in glob.glob(os.path.join(ROOT, pattern))})
    with tempfile.TemporaryDirectory(prefix="weir-mutants-") as folder, \
            concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for error in pool.map(lambda source: compiled(source, object_of(folder, source)), sources):
            if error:
                print(f"FAIL: build: {error.splitlines()[0]}")
                return 1
        # What fails without a mutation proves nothing about mutants.
        status, said = linked_and_run(os.path.join(folder, "original"),
                                      [object_of(folder, source) for source in sources])
        if status != 0:
            print(f"FAIL: original: {said.strip().splitlines()[0]}")
            return 1
        outcomes = pool.map(lambda number: mutant_outcome(folder, sources, number), range(len(MUTANTS)))
        for (name, *_), outcome in zip(MUTANTS, outcomes):
            print(f"FAIL: {name}: {outcome}" if outcome else f"PASS: {name}", flush=True)
            failures += outcome is not None
    print(f"{len(MUTANTS) - failures} passed, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
