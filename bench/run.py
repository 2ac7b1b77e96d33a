#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares weir with nginx, h2o, haproxy and the limit, plain and over TLS, and --delivery on with off.

See README.md for how to read the tables.
"""
import argparse
import contextlib
import functools
import pathlib
import sys

import delivery
import harness
import servers

CONNECTIONS = [1, 10, 100]
CONNECTIONS_TLS = [10, 100]
PEERS = ["nginx", "h2o"]
PEERS_TLS = ["nginx", "h2o", "haproxy"]
ENGINES_TLS = ["io_uring", "epoll"]
# The row that no server beats: the best bare loop's plain bytes, and the cipher alone.
SUM = "bare send + bare AES-GCM"
# Enough requests for a run of about half a second: shorter ones feel every interruption.
REQUESTS = {"1kb": 30000, "128kb": 8000}
REQUESTS_ONE_CONNECTION = {"1kb": 15000, "128kb": 6000}
# Over TLS each connection begins with a handshake, of up to 450 us: with 100 of them the runs are longer. No run
# needs more than a second of the server's.
REQUESTS_TLS_TIMES = 2
RUN_SECONDS = 1.0
# What the search (--limit) found to cost least. For 128 KB it depends on the congestion control: the first is
# best without pacing (reno), the others with it (BBR).
LIMITS = {
    "1kb": [("epoll", "send", 0), ("io_uring", "send", 0)],
    "128kb": [("epoll", "sendfile-more", 0), ("epoll", "sendfile", 65536),
              ("io_uring", "sendfile", 0)],
}
# What is encrypted lies in memory: no sendfile.
LIMITS_TLS = {
    "1kb": [("epoll", "send", 0), ("io_uring", "send", 0)],
    "128kb": [("epoll", "send", 65536), ("epoll", "send", 0), ("io_uring", "send", 65536)],
}
LIMIT_CALLS = [("epoll", "send"), ("epoll", "sendfile"), ("epoll", "sendfile-more"),
               ("io_uring", "send"), ("io_uring", "sendfile"), ("io_uring", "sendfile-more"),
               ("io_uring", "submit")]
LIMIT_PIECES = [16384, 32768, 65536, 0]


def words(text):
    return text.split(",")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=lambda text: [int(n) for n in text.split(",")],
                        help="for example 1,10,100")
    parser.add_argument("--targets", type=words, default=servers.TARGETS, help="of 1kb,128kb")
    parser.add_argument("--engines", type=words)
    parser.add_argument("--tls", action="store_true", help="TLS 1.3 only")
    parser.add_argument("--plain", action="store_true", help="plain HTTP only")
    parser.add_argument("--vendors", type=words, default=servers.VENDORS,
                        help="TLS libraries of weir's: of " + ",".join(servers.VENDORS))
    parser.add_argument("--json", type=pathlib.Path,
                        default=harness.REPOSITORY / "build" / "bench.json")
    parser.add_argument("--pairs", type=int, default=delivery.PAIRS,
                        help="of runs with --delivery on and off; 0 = leave them out")
    parser.add_argument("--limit", action="store_true",
                        help="search for the limit instead, over calls and sizes of a piece")
    return parser.parse_args()


def make_all(makers):
    """Makes each; one that is not there is named and left out."""
    made, missing = [], {}
    for make in makers:
        try:
            made.append(make())
        except harness.Missing as reason:
            missing[str(reason)] = None
    for reason in missing:
        print(f"left out: {reason}", file=sys.stderr)
    return made


def start_all(stack, starters):
    return make_all([lambda start=start: stack.enter_context(start()) for start in starters])


def peers_and_weir(folder, log_folder, site, engines):
    weir = functools.partial(servers.start_weir, folder, site, log_folder)
    return [functools.partial(servers.start_nginx, folder, site),
            functools.partial(servers.start_h2o, folder, site),
            *(functools.partial(weir, engine, delivery=full, access_log=full)
              for engine in engines for full in (True, False))]


def peers_and_weir_tls(folder, log_folder, site, engines, vendors):
    """With log and delivery the first library alone: what these cost does not depend on it."""
    certificate = harness.make_certificate(folder)
    weir = functools.partial(servers.start_weir, folder, site, log_folder)
    return [*(functools.partial(start, folder, site, certificate)
              for start in (servers.start_nginx, servers.start_h2o, servers.start_haproxy)),
            *(functools.partial(weir, engine, delivery=full, access_log=full,
                                tls=servers.WeirTls(certificate, vendor))
              for engine in engines for vendor in vendors for full in (True, False)
              if vendor == vendors[0] or not full)]


def limits_for(folder, site, target, choices):
    return [functools.partial(servers.start_limit, folder, site, target, *choice)
            for choice in choices]


def measure(running, target, connections, rounds, tls=False):
    """Runs all servers in turn, `rounds` times, each round beginning with another one."""
    most = (REQUESTS_ONE_CONNECTION if connections == 1 else REQUESTS)[target]
    most *= REQUESTS_TLS_TIMES if tls and connections >= 100 else 1
    runs, requests_for = {}, {}
    for server in running:
        warm_up = server.load(target, connections, max(most // 10, connections))
        requests_for[server.name] = max(most // 10, min(most, int(RUN_SECONDS * 1e6 / warm_up.cpu_us)))
        runs[server.name] = []
    for number in range(rounds):
        first = number % len(running)
        for server in running[first:] + running[:first]:
            runs[server.name].append(
                server.load(target, connections, requests_for[server.name]))
    return runs


def spread(runs, field):
    values = [getattr(run, field) for run in runs]
    return None if None in values else harness.Spread.of(values)


def summarise(runs):
    return {name: {field: spread(each, field) for field in ("cpu_us", "requests_s", "busy")}
            for name, each in runs.items()}


def add_sum(runs, limits, aead):
    """Round by round: the bare loop that is best on the whole, and the cipher."""
    medians = {limit.name: harness.Spread.of([run.cpu_us for run in runs[limit.name]]).median
               for limit in limits}
    if not medians or not aead:
        return
    best = min(medians, key=medians.get)
    runs[SUM] = [harness.Run(cpu_us=send.cpu_us + cipher.cpu_us)
                 for send, cipher in zip(runs[best], runs[aead[0].name])]


def print_workload(title, summary, peers, each_peer=False):
    """Ratios are to the best peer (or row, where no peer runs), or to each peer and to the sum."""
    cpu = {name: row["cpu_us"].median for name, row in summary.items()}
    rates = {name: row["requests_s"].median for name, row in summary.items() if row["requests_s"]}
    present = [name for name in peers if name in summary] or list(rates)
    if each_peer:
        units = {name: cpu[name] for name in present} | ({"sum": cpu[SUM]} if SUM in cpu else {})
    else:
        units = {"best": min(cpu[name] for name in present)}
    best_rate = max(rates[name] for name in present)
    table = [["server", "CPU us/request", *(f"x {unit}" for unit in units), "requests/s", "x best",
              "busy"]]
    for name, row in summary.items():
        rate = ["-", "-", "-"] if name not in rates else [
            row["requests_s"].text(0), f"{rates[name] / best_rate:.2f}", f"{row['busy'].median:.0%}"]
        table.append([name, row["cpu_us"].text(), *(f"{cpu[name] / unit:.2f}"
                                                    for unit in units.values()), *rate])
    print(f"\n{title}")
    harness.print_table(table)


def title_of(target, connections, over=""):
    return f"{target}{over}, {connections} connection{'s' if connections > 1 else ''}"


def compare(arguments, folder, log_folder, site):
    engines = arguments.engines or servers.ENGINES
    workloads = []
    with contextlib.ExitStack() as everyone:
        common = start_all(everyone, peers_and_weir(folder, log_folder, site, engines))
        for target in arguments.targets:
            with contextlib.ExitStack() as stack:
                limits = start_all(stack, limits_for(folder, site, target, LIMITS[target]))
                for connections in arguments.connections or CONNECTIONS:
                    summary = summarise(
                        measure(common + limits, target, connections, arguments.rounds))
                    print_workload(title_of(target, connections), summary, PEERS)
                    workloads.append({"target": target, "connections": connections,
                                      "servers": summary})
    return workloads


def compare_tls(arguments, folder, log_folder, site):
    """The bare loops that it starts are plain: their bytes are one part of the sum."""
    engines = arguments.engines or ENGINES_TLS
    workloads = []
    with contextlib.ExitStack() as everyone:
        common = start_all(everyone, peers_and_weir_tls(folder, log_folder, site, engines,
                                                        arguments.vendors))
        aead = make_all([functools.partial(servers.Aead, folder)])
        for target in arguments.targets:
            with contextlib.ExitStack() as stack:
                limits = start_all(stack, limits_for(folder, site, target, LIMITS_TLS[target]))
                for connections in arguments.connections or CONNECTIONS_TLS:
                    runs = measure(common + limits + aead, target, connections, arguments.rounds,
                                   tls=True)
                    add_sum(runs, limits, aead)
                    summary = summarise(runs)
                    print_workload(title_of(target, connections, " over TLS 1.3"), summary,
                                   PEERS_TLS, each_peer=True)
                    workloads.append({"target": target, "connections": connections, "tls": "1.3",
                                      "servers": summary})
    return workloads


def search_limit(arguments, folder, site):
    workloads = []
    for target in arguments.targets:
        pieces = [p for p in LIMIT_PIECES if p < harness.SIZES[target]]
        choices = [(loop, call, piece) for loop, call in LIMIT_CALLS for piece in pieces]
        for connections in arguments.connections or CONNECTIONS:
            with contextlib.ExitStack() as stack:
                running = start_all(stack, limits_for(folder, site, target, choices))
                summary = summarise(measure(running, target, connections, arguments.rounds))
            summary = dict(sorted(summary.items(), key=lambda item: item[1]["cpu_us"].median))
            print_workload(title_of(target, connections), summary, [])
            workloads.append({"target": target, "connections": connections, "servers": summary})
    return workloads


def main():
    arguments = parse_arguments()
    document = harness.document_begin()
    print(f"{arguments.rounds} interleaved rounds, median (quartiles)")
    with harness.make_folder() as folder, harness.make_log_folder() as log_folder:
        site = harness.make_site(folder)
        common = (arguments, folder, log_folder, site)
        try:
            if arguments.limit:
                document["workloads"] = search_limit(arguments, folder, site)
            else:
                document["workloads"] = [] if arguments.tls else compare(*common)
                document["workloads"] += [] if arguments.plain else compare_tls(*common)
                document["delivery"] = [] if arguments.tls else delivery.compare(*common)
        except harness.BenchError as error:
            sys.exit(f"bench: {error}")
    harness.document_write(document, arguments.json)


if __name__ == "__main__":
    main()
