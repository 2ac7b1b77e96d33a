#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a new connection costs a server that answers one request on it: plain, with a full handshake, resumed.

A measurement, not a test: it exits 0 whatever it finds.
"""
import argparse
import contextlib
import functools
import pathlib
import subprocess
import sys
import time

import harness
import servers

TARGET = "1kb"
# Connections that the client has at a time, each in a thread.
THREADS = 8
PEERS = ["nginx", "h2o", "haproxy"]
ENGINES = ["io_uring", "epoll"]
# What the client does, who closes first, and connections of a run: each takes a fifth of a second or so.
KINDS = {
    "plain, the server closes": ("plain", "server", 6000),
    "plain, the client closes": ("plain", "client", 6000),
    "full handshake": ("full", "client", 1000),
    "resumed": ("resumed", "client", 1500),
}


def parse_arguments():
    def words(text):
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kinds", type=words, default=["plain", "full", "resumed"],
                        help="of plain,full,resumed")
    parser.add_argument("--engines", type=words, default=ENGINES)
    parser.add_argument("--vendors", type=words, default=servers.VENDORS)
    parser.add_argument("--json", type=pathlib.Path,
                        default=harness.REPOSITORY / "build" / "bench-connect.json")
    return parser.parse_args()


class Client:
    """connect_client.c."""

    def __init__(self, folder):
        self.program = servers.build(folder, "connect_client", ["-lssl", "-lcrypto", "-lpthread"])

    def load(self, server, kind, scale=1.0):
        """Runs it once. Raises BenchError unless every request was answered, and resumed where it is to be."""
        mode, end, connections = KINDS[kind]
        connections = int(connections * scale)
        tls = [harness.TLS[server.tls][1]] if server.tls else []
        command = [self.program, server.port, TARGET, harness.SIZES[TARGET], connections, THREADS,
                   mode, end, *tls]
        before, begin = server.cpu_ns(), time.monotonic()
        said = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                              check=True, timeout=harness.RUN_SECONDS_MAX,
                              preexec_fn=harness.pinned(harness.CLIENT_CORE)).stdout.split()
        cpu_ns = server.cpu_ns() - before
        errors, resumed, seconds = int(said[1]), int(said[2]), float(said[3])
        # The first connection of each thread has nothing to resume.
        if errors or resumed != (connections - THREADS if mode == "resumed" else 0):
            raise harness.BenchError(f"{server.name}, {kind}: of {connections} connections {errors} "
                                     f"failed and {resumed} were resumed in "
                                     f"{time.monotonic() - begin:.1f} s")
        return harness.Run(cpu_us=cpu_ns / 1e3 / connections, requests_s=connections / seconds,
                           busy=cpu_ns / 1e9 / seconds)


def measure(client, running, kind, rounds):
    """All servers in turn, each round beginning with another one. Runs by the server's name."""
    runs = {server.name: [] for server in running}
    for server in running:
        client.load(server, kind, scale=0.2)  # warm-up
    for number in range(rounds):
        first = number % len(running)
        for server in running[first:] + running[:first]:
            runs[server.name].append(client.load(server, kind))
    return runs


def summarise(runs):
    return {name: {field: harness.Spread.of([getattr(run, field) for run in each])
                   for field in ("cpu_us", "requests_s", "busy")}
            for name, each in runs.items()}


def starters_for(arguments, folder, log_folder, site, certificate):
    """Peers and weir, plain if there is no certificate. With log and delivery the first library alone."""
    peers = [servers.start_nginx, servers.start_h2o]
    peers += [servers.start_haproxy] if certificate else []
    starters = [functools.partial(start, folder, site, certificate) for start in peers]
    vendors = arguments.vendors if certificate else [None]
    for engine in arguments.engines:
        for vendor in vendors:
            for full in (True, False) if vendor == vendors[0] else (False,):
                starters.append(functools.partial(
                    servers.start_weir, folder, site, log_folder, engine, delivery=full,
                    access_log=full, tls=vendor and servers.WeirTls(certificate, vendor)))
    return starters


def start_all(stack, starters):
    """One that is not there is named and left out."""
    running, missing = [], {}
    for start in starters:
        try:
            running.append(stack.enter_context(start()))
        except harness.Missing as reason:
            missing[str(reason)] = None
    for reason in missing:
        print(f"left out: {reason}", file=sys.stderr)
    return running


def print_kind(kind, summary):
    cpu = {name: row["cpu_us"].median for name, row in summary.items()}
    best = min(cpu[name] for name in [name for name in PEERS if name in cpu] or list(cpu))
    table = [["server", "CPU us/connection", "x best", "connections/s", "busy"]]
    for name, row in summary.items():
        table.append([name, row["cpu_us"].text(), f"{cpu[name] / best:.2f}",
                      row["requests_s"].text(0), f"{row['busy'].median:.0%}"])
    print(f"\na connection with one request of 1 KB: {kind}")
    harness.print_table(table)


def compare(arguments, folder, log_folder, site):
    """One workload for each kind, as run.py's, with `servers` by name and the fields of a harness.Run."""
    client, workloads = Client(folder), []
    certificate = harness.make_certificate(folder)
    for tls in (False, True):
        kinds = [kind for kind, (mode, *_) in KINDS.items()
                 if mode in arguments.kinds and (mode != "plain") == tls]
        if not kinds:
            continue
        with contextlib.ExitStack() as stack:
            running = start_all(stack, starters_for(arguments, folder, log_folder, site,
                                                    certificate if tls else None))
            for kind in kinds:
                summary = summarise(measure(client, running, kind, arguments.rounds))
                print_kind(kind, summary)
                workloads.append({"target": TARGET, "connect": kind, "servers": summary}
                                 | ({"tls": "1.3"} if tls else {}))
    return workloads


def main():
    arguments = parse_arguments()
    document = harness.document_begin()
    print(f"{arguments.rounds} interleaved rounds, median (quartiles)")
    with harness.make_folder() as folder, harness.make_log_folder() as log_folder:
        try:
            document["workloads"] = compare(arguments, folder, log_folder, harness.make_site(folder))
        except (harness.BenchError, harness.Missing) as error:
            sys.exit(f"bench: {error}")
    harness.document_write(document, arguments.json)


if __name__ == "__main__":
    main()
