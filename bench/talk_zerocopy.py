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
import run
import servers

TARGET = "128kb"
MODES = ["off", "on", "auto"]
CONNECTIONS = [1, 10]
REQUESTS = 4000
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


def measure(folder, starters, connections, rounds, requests):
    """Starts them all and runs them in turns. Returns the summary, with COUNTS, by the mode of zero copy."""
    with contextlib.ExitStack() as stack:
        running = run.start_all(stack, starters)
        runs = {server.name: [] for server in running}
        for server in running:
            server.load(TARGET, connections, requests // 10)
        for number in range(rounds):
            first = number % len(running) if running else 0
            for server in running[first:] + running[:first]:
                runs[server.name].append(server.load(TARGET, connections, requests))
        counts = {server.name: sends_told(server) for server in running if server.name.startswith("memory")}
    for name in runs.keys() - counts.keys():
        counts[name] = responses_logged(pathlib.Path(folder) / f"{name.replace(' ', '-')}-on.log")
    return {name.rsplit("zerocopy-", 1)[1]: {**row, **counts[name]}
            for name, row in run.summarise(runs).items()}


def compare(folder, engines, connections, rounds, requests):
    """A list of dictionaries, one for each table."""
    certificate = harness.make_certificate(folder)
    site = harness.make_site(folder)
    tables = []
    for engine in engines:
        plain = [functools.partial(servers.start_memory, folder, engine, mode, harness.SIZES[TARGET])
                 for mode in MODES]
        tls = [functools.partial(servers.start_weir, folder, site, folder, engine, True, True,
                                 servers.WeirTls(certificate, servers.VENDORS[0], zerocopy=mode))
               for mode in MODES]
        for transport, starters in (("plain", plain), ("tls", tls)):
            for count in connections:
                table = {"engine": engine, "transport": transport, "connections": count,
                         "servers": measure(folder, starters, count, rounds, requests)}
                print_table(table)
                tables.append(table)
    return tables


def print_table(table):
    rows = [["zero copy", "requests/s", "x off", "CPU us/request", "x off", *COUNTS]]
    base = table["servers"].get("off")
    for mode, row in table["servers"].items():
        ratios = [f"{row[key].median / base[key].median:.2f}" if base else "-"
                  for key in ("requests_s", "cpu_us")]
        rows.append([mode, row["requests_s"].text(0), ratios[0], row["cpu_us"].text(), ratios[1],
                     *(str(row[key]) for key in COUNTS)])
    over = "" if table["transport"] == "plain" else " over TLS"
    print(f"\n{run.title_of(TARGET, table['connections'], over)}, {table['engine']}")
    harness.print_table(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--engines", type=run.words, default=run.ENGINES_TLS)
    parser.add_argument("--connections", type=lambda text: [int(n) for n in text.split(",")],
                        default=CONNECTIONS)
    parser.add_argument("--json", type=pathlib.Path,
                        default=harness.REPOSITORY / "build" / "bench-zerocopy.json")
    arguments = parser.parse_args()
    document = harness.document_begin()
    with harness.make_folder() as folder:
        try:
            document["zerocopy"] = compare(folder, arguments.engines, arguments.connections,
                                           arguments.rounds, arguments.requests)
        except harness.BenchError as error:
            sys.exit(f"bench: {error}")
    harness.document_write(document, arguments.json)


if __name__ == "__main__":
    main()
