#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What knowing the delivery costs: weir --delivery on against off, in pairs.

Both write an access log. Runs go A B B A, so that a drift of the machine hits both alike; the ratio of
server CPU per request is taken pair by pair. A measurement, not a test: it exits 0 whatever it finds.
"""
import argparse
import contextlib
import pathlib
import sys

import harness
import servers

GOALS = {"1kb": 1.10, "128kb": 1.03}
CONNECTIONS = 10
PAIRS = 9
REQUESTS = {"1kb": 60000, "128kb": 12000}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--engines", type=lambda text: text.split(","), default=servers.ENGINES)
    parser.add_argument("--targets", type=lambda text: text.split(","), default=servers.TARGETS)
    parser.add_argument("--share", type=float, default=1.0, help="of the usual length of a run")
    parser.add_argument("--json", type=pathlib.Path,
                        default=harness.REPOSITORY / "build" / "bench-delivery.json")
    return parser.parse_args()


def measure_pairs(on, off, target, pairs, share):
    """CPU per request as a list of (on, off), of a share of REQUESTS."""
    requests = int(REQUESTS[target] * share)
    for server in (on, off):
        server.load(target, CONNECTIONS, requests // 10)  # warm-up
    measured = []
    for number in range(pairs):
        order = (on, off) if number % 2 == 0 else (off, on)
        cpu_us = {server.name: server.load(target, CONNECTIONS, requests).cpu_us
                  for server in order}
        measured.append((cpu_us[on.name], cpu_us[off.name]))
    return measured


def summarise(engine, target, measured):
    ratios = [on / off for on, off in measured]
    return {"engine": engine, "target": target, "connections": CONNECTIONS,
            "goal": GOALS[target], "pairs": measured,
            "on_cpu_us": harness.Spread.of([on for on, _ in measured]),
            "off_cpu_us": harness.Spread.of([off for _, off in measured]),
            "ratio": harness.Spread.of(ratios)}


def print_results(results):
    rows = [["engine", "target", "on us", "off us", "ratio (quartiles)", "least..most", "goal",
             "met"]]
    for result in results:
        ratio = result["ratio"]
        rows.append([result["engine"], result["target"], result["on_cpu_us"].text(),
                     result["off_cpu_us"].text(), ratio.text(3),
                     f"{ratio.least:.3f}..{ratio.most:.3f}", f"{result['goal']:.2f}",
                     "yes" if ratio.median <= result["goal"] else "no"])
    harness.print_table(rows)


def compare(arguments, folder, log_folder, site):
    """Measures and prints; returns what belongs in the JSON. Nothing without pairs or without weir."""
    results = []
    for engine in (arguments.engines or servers.ENGINES) if arguments.pairs > 0 else []:
        with contextlib.ExitStack() as stack:
            try:
                on, off = (stack.enter_context(servers.start_weir(
                    folder, site, log_folder, engine, delivery=delivery, access_log=True))
                    for delivery in (True, False))
            except harness.Missing as reason:
                print(f"left out: {reason}", file=sys.stderr)
                continue
            for target in arguments.targets:
                results.append(summarise(
                    engine, target, measure_pairs(on, off, target, arguments.pairs, arguments.share)))
    if results:
        print(f"\n--delivery on against off: {arguments.pairs} pairs, {CONNECTIONS} connections, "
              "both with an access log")
        print_results(results)
    return results


def main():
    arguments = parse_arguments()
    document = harness.document_begin()
    with harness.make_folder() as folder, harness.make_log_folder() as log_folder:
        try:
            document["delivery"] = compare(arguments, folder, log_folder,
                                           harness.make_site(folder))
        except harness.BenchError as error:
            sys.exit(f"bench: {error}")
    harness.document_write(document, arguments.json)


if __name__ == "__main__":
    main()
