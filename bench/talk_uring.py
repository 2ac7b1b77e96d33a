#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""io_uring against epoll: as a way to make calls, one for one, and as it is meant to be used.

The talk has no figures, but "it may be slow" (liburing's issue 189). Four loops of limit.c have io_uring do the same
work: with a submission for each operation, completions interrupting the loop and not; with a submission for each
round; and with multishot requests. All send the same response from memory. Beside them weir's own engines.

Calls are system calls of the server, by perf(1), where there is one.
"""
import argparse
import contextlib
import functools
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import harness
import measure
import servers

LOOPS = [("epoll", "send"), ("io_uring-eager", "submit"), ("io_uring-each", "submit"),
         ("io_uring-single", "submit"), ("io_uring", "submit")]
ENGINES = ["epoll", "io_uring"]
CONNECTIONS = [10, 100]
TARGETS = ["1kb", "128kb"]
SECONDS = 0.4  # of a run
COUNTED_REQUESTS = {"1kb": 8000, "128kb": 2000}
COUNTER = "raw_syscalls:sys_enter"
# perf has attached by then.
COUNTER_START_SECONDS = 0.3


def calls_per_request(server, target, connections, requests):
    """System calls of the server for one request; None where nobody counts them."""
    program = harness.find_program("perf")
    if program is None:
        return None
    with tempfile.NamedTemporaryFile() as output:
        counting = subprocess.Popen([program, "stat", "-x,", "-e", COUNTER, "-o", output.name, "-p",
                                     str(server.process.pid)], stderr=subprocess.DEVNULL)
        time.sleep(COUNTER_START_SECONDS)
        try:
            server.load(target, connections, requests)
        finally:
            counting.send_signal(signal.SIGINT)
            counting.wait()
        counts = [line.split(",")[0] for line in pathlib.Path(output.name).read_text().splitlines()
                  if COUNTER in line]
    return int(counts[0]) / requests if counts and counts[0].isdigit() else None


def compare(folder, targets, connections, rounds):
    site = harness.make_site(folder)
    tables = []
    for target in targets:
        starters = [functools.partial(servers.start_limit, folder, site, target, loop, call, 0)
                    for loop, call in LOOPS]
        starters += [functools.partial(servers.start_weir, folder, site, folder, engine, False, False)
                     for engine in ENGINES]
        with contextlib.ExitStack() as stack:
            running, missing = servers.start_all(stack, starters)
            if missing:
                raise harness.Missing(missing[0])
            for count in connections:
                runs = measure.in_turns(running, rounds, measure.Load(target, count, SECONDS))
                table = {"target": target, "connections": count, "servers": {
                    server.name: measure.row_of(server, runs[server.name])
                    | {"calls": calls_per_request(server, target, count, COUNTED_REQUESTS[target])}
                    for server in running}}
                print_table(table)
                tables.append(table)
    return tables


def print_table(table):
    base = next(iter(table["servers"].values()))
    rows = [["loop", "requests/s", "CPU us/request", "x epoll", "calls/request"]]
    for name, row in table["servers"].items():
        cpu_us = row["cpu_us"]["median"]
        rows.append([name, f"{row['requests_s']['median']:.0f}", f"{cpu_us:.1f}",
                     f"{cpu_us / base['cpu_us']['median']:.2f}",
                     "-" if row["calls"] is None else f"{row['calls']:.2f}"])
    print(f"\n{table['target']}, {table['connections']} connections")
    harness.print_table(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--targets", type=servers.words, default=TARGETS)
    parser.add_argument("--connections", type=lambda text: [int(n) for n in text.split(",")],
                        default=CONNECTIONS)
    parser.add_argument("--json", type=pathlib.Path,
                        default=harness.REPOSITORY / "build" / "bench-uring.json")
    arguments = parser.parse_args()
    document = harness.document_begin()
    with harness.make_folder() as folder:
        try:
            document["io_uring"] = compare(folder, arguments.targets, arguments.connections,
                                           arguments.rounds)
        except (harness.BenchError, harness.Missing) as error:
            sys.exit(f"bench: {error}")
    harness.document_write(document, arguments.json)


if __name__ == "__main__":
    main()
