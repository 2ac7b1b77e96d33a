#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What memory an idle connection holds: plain, over TLS with each library, and with kernel TLS.

Connections are opened one after the other, each makes one request, and all stay. The server's memory is looked
at when a quarter of them are there and when all are: the difference, over their number, has nothing in it that
a server needs but once. A measurement, not a test: it exits 0 whatever it finds.
"""
import argparse
import contextlib
import functools
import os
import pathlib
import re
import sys
import time

import client
import harness
import servers
import trafficserver

CONNECTIONS = 10000
TARGET = "1kb"
SETTLE_SECONDS = 1.0
WARM_UP_REQUESTS = 1000  # more than an engine has buffers: each is memory once it was used
GOAL = 1.2  # of a plain connection, with the kernel's TLS
DESCRIPTORS_BESIDE = 200


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--engines", type=servers.words, default=servers.ENGINES_TLS)
    parser.add_argument("--vendors", type=servers.words, default=servers.VENDORS)
    parser.add_argument("--ktls", type=servers.words, default=["off", "on"], help="of off,on,tx")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--json", type=pathlib.Path,
                        default=harness.REPOSITORY / "build" / "bench-idle.json")
    return parser.parse_args()


def process_bytes(server):
    """What the server's processes have for themselves: no libraries, no page that another has too."""
    total = 0
    for pid in server.processes():
        try:
            rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        except ProcessLookupError:
            continue  # a child that has ended and is still listed
        total += sum(int(kilobytes) * 1024 for kilobytes in
                     re.findall(r"^Private_\w+:\s+(\d+) kB", rollup, re.M))
    return total


def kernel_bytes():
    """What the kernel holds for everybody: slabs and the pages of sockets. Of both ends of a connection."""
    slab = re.search(r"^Slab:\s+(\d+) kB", pathlib.Path("/proc/meminfo").read_text(), re.M)
    pages = re.search(r"^TCP: .* mem (\d+)", pathlib.Path("/proc/net/sockstat").read_text(), re.M)
    return int(slab[1]) * 1024 + int(pages[1]) * os.sysconf("SC_PAGE_SIZE")


def open_more(server, context, held, count):
    while len(held) < count:
        connection = client.connect(server, context)
        held.append(connection)
        client.request(connection, server, TARGET)


def measure(server, count):
    """Bytes for a connection: of the process, of the kernel, and all that the process has, over all connections.

    The first leaves out what a server has set aside at its start for connections to come; the last does not.
    """
    context = client.make_context(server.tls) if server.tls else None
    held = []
    try:
        open_more(server, context, held, 1)
        for _ in range(WARM_UP_REQUESTS):
            client.request(held[0], server, TARGET)
        open_more(server, context, held, count // 4)
        time.sleep(SETTLE_SECONDS)
        before = process_bytes(server), kernel_bytes()
        open_more(server, context, held, count)
        time.sleep(SETTLE_SECONDS)
        after = process_bytes(server), kernel_bytes()
        for connection in held[:: max(count // 100, 1)]:
            client.request(connection, server, TARGET)  # they are idle, not gone
    finally:
        for connection in held:
            connection.close()
    more = count - count // 4
    return *((late - early) / more for early, late in zip(before, after)), after[0] / count


def starters_for(arguments, folder, site, certificate):
    """Plain and TLS in turn, so that each row has what it is compared with above it."""
    weir = functools.partial(servers.start_weir, folder, site, folder, delivery=True,
                             access_log=True)
    for engine in arguments.engines:
        yield functools.partial(weir, engine)
        for vendor in arguments.vendors:
            for ktls in arguments.ktls:
                yield functools.partial(weir, engine, tls=servers.WeirTls(certificate, vendor, ktls))
    if arguments.no_peers:
        return
    for start in (servers.start_nginx, servers.start_h2o):
        yield functools.partial(start, folder, site)
        yield functools.partial(start, folder, site, certificate)
    for start in (servers.start_haproxy, trafficserver.start):
        yield functools.partial(start, folder, site, None, [TARGET])
        yield functools.partial(start, folder, site, certificate, [TARGET])


def measure_all(arguments, folder):
    site, certificate = harness.make_site(folder), harness.make_certificate(folder)
    measured, missing, plain = [], {}, None
    for start in starters_for(arguments, folder, site, certificate):
        try:
            with start() as server:
                server.wake()
                process, kernel, whole = measure(server, arguments.connections)
        except harness.Missing as reason:
            missing[str(reason)] = None
            continue
        plain = process if server.tls is None else plain
        kind = f" TLS {server.tls}" if server.tls and not server.name.startswith("weir") else ""
        measured.append({"server": server.name + kind, "process_bytes": process,
                         "kernel_bytes": kernel, "whole_bytes": whole, "over_plain": process / plain})
        print(f"{measured[-1]['server']}: done", file=sys.stderr)
    for reason in missing:
        print(f"left out: {reason}", file=sys.stderr)
    return measured


def print_results(measured, count):
    table = [["server", "process KB", "x plain", "whole process KB",
              "kernel KB, both ends"]]
    for row in measured:
        table.append([row["server"], f"{row['process_bytes'] / 1024:.2f}", f"{row['over_plain']:.2f}",
                      f"{row['whole_bytes'] / 1024:.2f}", f"{row['kernel_bytes'] / 1024:.2f}"])
    print(f"\none idle connection, of {count}")
    harness.print_table(table)
    kernel_tls = [row for row in measured if "ktls-on" in row["server"]]
    for row in kernel_tls:
        print(f"{row['server']}: at most {GOAL} of a plain connection: "
              f"{'yes' if row['over_plain'] <= GOAL else 'no'}")
    if not kernel_tls:
        print("kernel TLS is not to be had here: tests/vm/vm.py --run runs this where it is")


def main():
    arguments = parse_arguments()
    harness.pinned(harness.CLIENT_CORE)()
    document = harness.document_begin()
    with harness.make_folder() as folder, contextlib.suppress(BrokenPipeError):
        try:
            client.allow_descriptors(arguments.connections + DESCRIPTORS_BESIDE)
            document["idle"] = measure_all(arguments, folder)
        except harness.BenchError as error:
            sys.exit(f"bench: {error}")
        print_results(document["idle"], arguments.connections)
    harness.document_write(document, arguments.json)


if __name__ == "__main__":
    main()
