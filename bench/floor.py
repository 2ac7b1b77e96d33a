# SPDX-License-Identifier: Apache-2.0
"""The search for the floor: which call and which size of a piece cost a server least.

It depends on the congestion control, which decides when the kernel sends on: besides this machine's own, each of
CONTROLS is tried that the kernel has and allows. Root is allowed all.
"""
import contextlib
import functools
import os
import pathlib
import sys

import harness
import measure
import report
import servers

CALLS = (("epoll", "send"), ("epoll", "sendfile"), ("epoll", "sendfile-more"), ("epoll", "zerocopy"),
         ("epoll", "encrypt"), ("io_uring", "send"), ("io_uring", "sendfile"), ("io_uring", "submit"),
         ("io_uring", "zerocopy"), ("io_uring", "encrypt"))
PIECES = (16384, 32768, 65536, 0)
CONTROLS = ("reno", "cubic", "bbr")
CONNECTIONS = (10, 100)
CONTROL = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control")


def controls():
    """This machine's own first."""
    own = CONTROL.read_text().strip()
    kind = "available" if os.geteuid() == 0 else "allowed"
    there = CONTROL.with_name(f"tcp_{kind}_congestion_control").read_text().split()
    for control in CONTROLS:
        if control not in there:
            print(f"left out: {control} is not among the {kind} congestion controls", file=sys.stderr)
    return [own, *(control for control in CONTROLS if control in there and control != own)]


def search(options, folder, site):
    found = []
    for control in controls():
        for target in servers.TARGETS:
            choices = [(*call, piece) for call in CALLS for piece in PIECES
                       if piece < harness.SIZES[target]]
            for connections in options.connections or CONNECTIONS:
                with contextlib.ExitStack() as stack:
                    running, _ = servers.start_all(stack, [
                        functools.partial(servers.start_limit, folder, site, target, *choice, control)
                        for choice in choices])
                    runs = measure.in_turns(running, options.rounds,
                                            measure.Load(target, connections, options.seconds))
                found.append(summarise(target, connections, control, choices, list(runs.values())))
                for part in report.floor_tables(found[-1:]):
                    print(f"\n{part}") if isinstance(part, str) else harness.print_table(part)
    return found


def summarise(target, connections, control, choices, runs):
    choices = [{"loop": loop, "call": call, "piece": piece,
                "cpu_us": vars(harness.Spread.of([run.cpu_us for run in each]))}
               for (loop, call, piece), each in zip(choices, runs)]

    def least(of):
        best = min((choice for choice in choices if of(choice["call"])),
                   key=lambda choice: choice["cpu_us"]["median"])
        piece = f"{best['piece'] >> 10} KB" if best["piece"] else "all at once"
        return f"{best['loop']} {best['call']} {piece} {report.number(best['cpu_us']['median'])} us"

    return {"target": target, "connections": connections, "congestion": control, "choices": choices,
            "least": least(lambda call: call != "encrypt"),
            "least_encrypted": least(lambda call: call == "encrypt")}
