#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Zero copy off, on and auto, on loopback: the third table of the talk.

Plain, from memory, by examples/memory.c, since files go by sendfile; and over TLS in user space by weir, whose
records are made in memory. Loopback copies in any case, on the way to the receiver: this is what zero copy costs
where it cannot gain, and whether auto finds out. Where it is real: tests/vm/zerocopy_guest_test.py.

A measurement, not a test: it exits 0 whatever it finds.
"""
import argparse
import contextlib
import functools
import http.client
import json
import pathlib
import sys

import harness
import measure
import servers

TARGET = "128kb"
MODES = ["off", "on", "auto"]
CONNECTIONS = [1, 10]
SECONDS = 0.6  # of a run, about
# Of memory.c's sends, or of weir's responses: those read where they lay, and those that were copied after all.
COUNTS = ["used", "copied"]


def sends_told(server):
    """What memory.c says of how it has sent."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=harness.RUN_SECONDS_MAX)
    with contextlib.closing(connection):
        connection.request("GET", "/status")
        lines = connection.getresponse().read().decode().splitlines()
    told = {name: int(number) for name, number in (line.split() for line in lines)}
    return {key: told[key] for key in COUNTS}


def responses_logged(log):
    """The same of weir's responses, by its access log, which is removed."""
    ways = [json.loads(line)["send"] for line in log.read_text().splitlines()]
    log.unlink()
    return {"used": ways.count("zerocopy"), "copied": ways.count("copied")}


def measure_modes(folder, starters, connections, rounds):
    """Starts them all and runs them in turns. Returns their rows, with COUNTS, by the mode of zero copy."""
    with contextlib.ExitStack() as stack:
        running, missing = servers.start_all(stack, starters)
        if missing:
            raise harness.Missing(missing[0])
        runs = measure.in_turns(running, rounds, measure.Load(TARGET, connections, SECONDS))
        counts = {server.name: sends_told(server) for server in running if server.name.startswith("memory")}
    for name in runs.keys() - counts.keys():
        counts[name] = responses_logged(pathlib.Path(folder) / f"{name.replace(' ', '-')}-on.log")
    return {server.name.rsplit("zerocopy-", 1)[1]: {**measure.row_of(server, runs[server.name]), **counts[server.name]}
            for server in running}


def compare(folder, engines, connections, rounds):
    """A list of dictionaries, one for each table."""
    certificate = harness.make_certificate(folder)
    site = harness.make_site(folder)
    tables = []
    for engine in engines:
        plain = [functools.partial(servers.start_memory, folder, TARGET, engine, mode) for mode in MODES]
        tls = [functools.partial(servers.start_weir, folder, site, folder, engine, True, True,
                                 servers.WeirTls(certificate, servers.VENDORS[0]), mode) for mode in MODES]
        for transport, starters in (("plain", plain), ("tls", tls)):
            for count in connections:
                table = {"engine": engine, "transport": transport, "connections": count,
                         "servers": measure_modes(folder, starters, count, rounds)}
                print_table(table)
                tables.append(table)
    return tables


def print_table(table):
    rows = [["zero copy", "requests/s", "CPU us/request", "x off", *COUNTS]]
    for mode, row in table["servers"].items():
        cpu_us = row["cpu_us"]["median"]
        rows.append([mode, f"{row['requests_s']['median']:.0f}", f"{cpu_us:.1f}",
                     f"{cpu_us / table['servers']['off']['cpu_us']['median']:.2f}",
                     *(str(row[key]) for key in COUNTS)])
    print(f"\n{TARGET}, {table['transport']}, {table['connections']} connections, {table['engine']}")
    harness.print_table(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--engines", type=servers.words, default=servers.ENGINES_TLS)
    parser.add_argument("--connections", type=lambda text: [int(n) for n in text.split(",")],
                        default=CONNECTIONS)
    parser.add_argument("--json", type=pathlib.Path,
                        default=harness.REPOSITORY / "build" / "bench-zerocopy.json")
    arguments = parser.parse_args()
    document = harness.document_begin()
    with harness.make_folder() as folder:
        try:
            document["zerocopy"] = compare(folder, arguments.engines, arguments.connections,
                                           arguments.rounds)
        except (harness.BenchError, harness.Missing) as error:
            sys.exit(f"bench: {error}")
    harness.document_write(document, arguments.json)


if __name__ == "__main__":
    main()
