#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What knowing the delivery costs: weir --delivery on against off, in pairs.

Both write an access log. Runs go A B B A, so that a drift of the machine hits both alike; the ratio of
server CPU per request is taken pair by pair. A measurement, not a test: it exits 0 whatever it finds.
"""
import argparse
import contextlib
import json
import pathlib
import sys

import harness
import run
import servers

GOALS = {"1kb": 1.10, "128kb": 1.03}
CONNECTIONS = 10
PAIRS_MIN = 9
REQUESTS = {"1kb": 60000, "128kb": 12000}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=PAIRS_MIN)
    parser.add_argument("--engines", type=lambda text: text.split(","), default=run.ENGINES)
    parser.add_argument("--targets", type=lambda text: text.split(","), default=run.TARGETS)
    parser.add_argument("--json", type=pathlib.Path,
                        default=harness.REPOSITORY / "build" / "bench-delivery.json")
    return parser.parse_args()


def measure_pairs(on, off, target, pairs):
    """CPU per request as a list of (on, off)."""
    for server in (on, off):
        harness.load(server, target, CONNECTIONS, REQUESTS[target] // 10)  # warm-up
    measured = []
    for number in range(pairs):
        order = (on, off) if number % 2 == 0 else (off, on)
        cpu_us = {server.name: harness.load(server, target, CONNECTIONS, REQUESTS[target]).cpu_us
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


def print_result(results):
    rows = [["engine", "target", "on us", "off us", "ratio (quartiles)", "least..most", "goal",
             "met"]]
    for result in results:
        ratio = result["ratio"]
        rows.append([result["engine"], result["target"], result["on_cpu_us"].text(),
                     result["off_cpu_us"].text(), ratio.text(3),
                     f"{ratio.least:.3f}..{ratio.most:.3f}", f"{result['goal']:.2f}",
                     "yes" if ratio.median <= result["goal"] else "no"])
    harness.print_table(rows)


def main():
    arguments = parse_arguments()
    machine = harness.describe_machine()
    print(f"{machine['cpu']}, Linux {machine['kernel']}, load {machine['load_average']:.2f}; "
          f"{arguments.pairs} pairs, {CONNECTIONS} connections, access log on")
    results = []
    with harness.make_folder() as folder, harness.make_log_folder() as log_folder:
        site = harness.make_site(folder)
        for engine in arguments.engines:
            with contextlib.ExitStack() as stack:
                try:
                    on, off = (stack.enter_context(servers.start_weir(
                        folder, site, log_folder, engine, delivery=delivery, access_log=True))
                        for delivery in (True, False))
                    for target in arguments.targets:
                        measured = measure_pairs(on, off, target, arguments.pairs)
                        results.append(summarise(engine, target, measured))
                except (harness.BenchError, servers.Missing) as error:
                    sys.exit(f"bench: {error}")
    print_result(results)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps({"machine": machine, "results": results}, indent=1,
                                         default=vars) + "\n")


if __name__ == "__main__":
    main()
