#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a connection costs a server that answers one request on it: with a full handshake, and resumed.

A measurement, not a test: it exits 0 whatever it finds.
"""
import argparse
import contextlib
import functools
import pathlib
import sys

import client
import harness
import run
import servers

CONNECTIONS = 300
TARGET = "1kb"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="of a run")
    parser.add_argument("--engines", type=run.words, default=run.ENGINES_TLS)
    parser.add_argument("--vendors", type=run.words, default=servers.VENDORS)
    parser.add_argument("--json", type=pathlib.Path,
                        default=harness.REPOSITORY / "build" / "bench-connect.json")
    return parser.parse_args()


def connect_once(server, context, session):
    """Returns the session to resume. Raises BenchError unless one that was given is."""
    with client.connect(server, context, session) as connection:
        client.request(connection, server, TARGET)
        if session is not None and not connection.session_reused:
            raise harness.BenchError(f"{server.name} does not resume")
        return connection.session


def measure_run(server, context, count, resumed):
    session = connect_once(server, context, None) if resumed else None
    before = server.cpu_ns()
    for _ in range(count):
        last = connect_once(server, context, session)
        session = last if resumed else None
    return (server.cpu_ns() - before) / 1e3 / count


def measure(running, arguments):
    """CPU per connection by server and kind."""
    contexts = {server.name: client.make_context(server.tls) for server in running}
    measured = {server.name: {"full": [], "resumed": []} for server in running}
    for server in running:
        measure_run(server, contexts[server.name], 20, resumed=False)  # warm-up
    for number in range(arguments.rounds):
        first = number % len(running)
        for server in running[first:] + running[:first]:
            for kind, values in measured[server.name].items():
                values.append(measure_run(server, contexts[server.name], arguments.connections,
                                          kind == "resumed"))
    return {name: {kind: harness.Spread.of(values) for kind, values in kinds.items()}
            for name, kinds in measured.items()}


def print_results(results):
    peers = [name for name in run.PEERS_TLS if name in results] or list(results)
    table = [["server", "full us", *(f"x {peer}" for peer in peers),
              "resumed us", *(f"x {peer}" for peer in peers)]]
    for name, kinds in results.items():
        row = [name]
        for kind, spread in kinds.items():
            row += [spread.text(), *(f"{spread.median / results[peer][kind].median:.2f}"
                                     for peer in peers)]
        table.append(row)
    print("\nserver CPU for a connection with one request of 1 KB, handshake and end included")
    harness.print_table(table)


def main():
    arguments = parse_arguments()
    harness.pinned(harness.CLIENT_CORE)()
    document = harness.document_begin()
    with harness.make_folder() as folder, contextlib.ExitStack() as stack:
        site, certificate = harness.make_site(folder), harness.make_certificate(folder)
        starters = [functools.partial(start, folder, site, certificate) for start in
                    (servers.start_nginx, servers.start_h2o, servers.start_haproxy)]
        starters += [functools.partial(servers.start_weir, folder, site, folder, engine,
                                       delivery=False, access_log=False,
                                       tls=servers.WeirTls(certificate, vendor))
                     for engine in arguments.engines for vendor in arguments.vendors]
        try:
            document["connections"] = measure(run.start_all(stack, starters), arguments)
        except harness.BenchError as error:
            sys.exit(f"bench: {error}")
    print_results(document["connections"])
    harness.document_write(document, arguments.json)


if __name__ == "__main__":
    main()
