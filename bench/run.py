#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares weir with nginx, h2o and the limit, and --delivery on with off.

See README.md for how to read the table.
"""
import argparse
import contextlib
import pathlib
import sys

import delivery
import harness
import servers

CONNECTIONS = [1, 10, 100]
PEERS = ["nginx", "h2o"]
# Enough requests for a run of about half a second: shorter ones feel every interruption.
REQUESTS = {"1kb": 30000, "128kb": 8000}
REQUESTS_ONE_CONNECTION = {"1kb": 15000, "128kb": 6000}
# What the search (--limit) found to cost least. For 128 KB it depends on the congestion control: the first is
# best without pacing (reno), the others with it (BBR).
LIMITS = {
    "1kb": [("epoll", "send", 0), ("io_uring", "send", 0)],
    "128kb": [("epoll", "sendfile-more", 0), ("epoll", "sendfile", 65536),
              ("io_uring", "sendfile", 0)],
}
LIMIT_CALLS = [("epoll", "send"), ("epoll", "sendfile"), ("epoll", "sendfile-more"),
               ("io_uring", "send"), ("io_uring", "sendfile"), ("io_uring", "sendfile-more"),
               ("io_uring", "submit")]
LIMIT_PIECES = [16384, 32768, 65536, 0]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=lambda text: [int(n) for n in text.split(",")],
                        default=CONNECTIONS, help="for example 1,10,100")
    parser.add_argument("--targets", type=lambda text: text.split(","), default=servers.TARGETS,
                        help="of 1kb,128kb")
    parser.add_argument("--engines", type=lambda text: text.split(","), default=servers.ENGINES)
    parser.add_argument("--json", type=pathlib.Path,
                        default=harness.REPOSITORY / "build" / "bench.json")
    parser.add_argument("--pairs", type=int, default=delivery.PAIRS,
                        help="of runs with --delivery on and off; 0 = leave them out")
    parser.add_argument("--limit", action="store_true",
                        help="search for the limit instead, over calls and sizes of a piece")
    return parser.parse_args()


def start_all(stack, starters):
    """Starts each server; one that is not there is named and left out."""
    started, missing = [], {}
    for start in starters:
        try:
            started.append(stack.enter_context(start()))
        except harness.Missing as reason:
            missing[str(reason)] = None
    for reason in missing:
        print(f"left out: {reason}", file=sys.stderr)
    return started


def peers_and_weir(folder, log_folder, site, engines):
    starters = [lambda: servers.start_nginx(folder, site), lambda: servers.start_h2o(folder, site)]
    for engine in engines:
        for full in (True, False):
            starters.append(lambda engine=engine, full=full: servers.start_weir(
                folder, site, log_folder, engine, delivery=full, access_log=full))
    return starters


def limits_for(folder, site, target, choices):
    return [lambda choice=choice: servers.start_limit(folder, site, target, *choice)
            for choice in choices]


def measure(running, target, connections, rounds):
    """Runs all servers in turn, `rounds` times, each round beginning with another one."""
    requests = (REQUESTS_ONE_CONNECTION if connections == 1 else REQUESTS)[target]
    runs = {server.name: [] for server in running}
    for server in running:
        harness.load(server, target, connections, max(requests // 10, connections))  # warm-up
    for number in range(rounds):
        first = number % len(running)
        for server in running[first:] + running[:first]:
            runs[server.name].append(harness.load(server, target, connections, requests))
    return runs


def summarise(runs):
    return {
        name: {
            "cpu_us": harness.Spread.of([run.cpu_us for run in each]),
            "requests_s": harness.Spread.of([run.requests_s for run in each]),
            "busy": harness.Spread.of([run.busy for run in each]),
        }
        for name, each in runs.items()
    }


def print_workload(target, connections, summary):
    """Ratios are to the best peer, or to the best of all where no peer runs."""
    peers = [summary[name] for name in PEERS if name in summary] or list(summary.values())
    best_cpu = min(peer["cpu_us"].median for peer in peers)
    best_rate = max(peer["requests_s"].median for peer in peers)
    rows = [["server", "CPU us/request", "x best", "requests/s", "x best", "busy"]]
    for name, row in summary.items():
        cpu, rate = row["cpu_us"], row["requests_s"]
        rows.append([name, cpu.text(), f"{cpu.median / best_cpu:.2f}", rate.text(0),
                     f"{rate.median / best_rate:.2f}", f"{row['busy'].median:.0%}"])
    print(f"\n{target}, {connections} connection{'s' if connections > 1 else ''}")
    harness.print_table(rows)


def compare(arguments, folder, log_folder, site):
    workloads = []
    with contextlib.ExitStack() as everyone:
        common = start_all(everyone, peers_and_weir(folder, log_folder, site, arguments.engines))
        for target in arguments.targets:
            with contextlib.ExitStack() as stack:
                limits = start_all(stack, limits_for(folder, site, target, LIMITS[target]))
                for connections in arguments.connections:
                    summary = summarise(
                        measure(common + limits, target, connections, arguments.rounds))
                    print_workload(target, connections, summary)
                    workloads.append({"target": target, "connections": connections,
                                      "servers": summary})
    return workloads


def search_limit(arguments, folder, site):
    workloads = []
    for target in arguments.targets:
        pieces = [p for p in LIMIT_PIECES if p < harness.SIZES[target]]
        choices = [(loop, call, piece) for loop, call in LIMIT_CALLS for piece in pieces]
        for connections in arguments.connections:
            with contextlib.ExitStack() as stack:
                running = start_all(stack, limits_for(folder, site, target, choices))
                summary = summarise(measure(running, target, connections, arguments.rounds))
            summary = dict(sorted(summary.items(), key=lambda item: item[1]["cpu_us"].median))
            print_workload(target, connections, summary)
            workloads.append({"target": target, "connections": connections, "servers": summary})
    return workloads


def main():
    arguments = parse_arguments()
    document = harness.document_begin()
    print(f"{arguments.rounds} interleaved rounds, median (quartiles)")
    with harness.make_folder() as folder, harness.make_log_folder() as log_folder:
        site = harness.make_site(folder)
        try:
            if arguments.limit:
                document["workloads"] = search_limit(arguments, folder, site)
            else:
                document["workloads"] = compare(arguments, folder, log_folder, site)
                document["delivery"] = delivery.compare(arguments, folder, log_folder, site)
        except harness.BenchError as error:
            sys.exit(f"bench: {error}")
    harness.document_write(document, arguments.json)


if __name__ == "__main__":
    main()
