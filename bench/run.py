#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares weir with nginx, h2o, HAProxy, Traffic Server and the limit, in each workload of workloads.py.

See README.md for how to read the tables.
"""
import argparse
import pathlib
import signal
import sys
import types

import delivery
import floor
import goals
import harness
import measure
import page
import report
import servers
import workloads
import zerocopy
from servers import words

ROUNDS, SECONDS, IDLE_CONNECTIONS = 5, 0.6, 10000
QUICK = {"rounds": 2, "seconds": 0.2, "idle": 2000, "pairs": 3}


def numbers(text):
    return [int(word) for word in words(text)]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION",
                        help="of " + " ".join(workloads.SECTIONS) + "; all without one")
    parser.add_argument("--quick", action="store_true", help="short runs and few: less exact")
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}")
    parser.add_argument("--seconds", type=float, help=f"of a run, default {SECONDS}")
    parser.add_argument("--connections", type=numbers, help="only these, for example 10,100")
    parser.add_argument("--idle", type=int, help=f"idle connections, default {IDLE_CONNECTIONS}")
    parser.add_argument("--pairs", type=int, help=f"with --delivery on and off, default {delivery.PAIRS}")
    parser.add_argument("--engines", type=words, default=servers.ENGINES)
    parser.add_argument("--vendors", type=words, default=servers.VENDORS[:1],
                        help="TLS libraries of weir's: of " + ",".join(servers.VENDORS))
    parser.add_argument("--json", type=pathlib.Path,
                        default=harness.REPOSITORY / "build" / "bench.json")
    parser.add_argument("--html", type=pathlib.Path,
                        default=harness.REPOSITORY / "build" / "bench.html")
    parser.add_argument("--limit", action="store_true",
                        help="search for the floor instead, over calls and sizes of a piece")
    options = parser.parse_args()
    for section in options.sections:
        if section not in workloads.SECTIONS:
            parser.error(f"{section} is none of {' '.join(workloads.SECTIONS)}")
    usual = {"rounds": ROUNDS, "seconds": SECONDS, "idle": IDLE_CONNECTIONS, "pairs": delivery.PAIRS}
    for name, value in (QUICK if options.quick else usual).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def chosen(options):
    for workload in workloads.everything(options.idle):
        counts = options.connections if workload.kind == workloads.LOAD else None
        if (not options.sections or workload.section in options.sections) and (
                not counts or workload.connections in counts):
            yield workload


def record(workload, rows, left_out):
    return {"key": workload.key, "section": workload.section, "title": workload.title,
            "kind": workload.kind, "rows": rows, "goals": goals.evaluate_all(workload, rows),
            "left_out": left_out}


def left_out_engines(workload, options):
    there = measure.engines_for(workload, options)
    return [f"weir {engine}: only measured with 10 connections" for engine in options.engines
            if engine not in there]


def compare(options, folder, log_folder, site, certificate, document):
    for workload in chosen(options):
        starters = list(measure.starters_for(workload, options, folder, log_folder, site,
                                             certificate))
        rows, missing = measure.measure(workload, options, starters, folder)
        made = record(workload, rows, missing + left_out_engines(workload, options))
        document["workloads"].append(made)
        report.print_workload(made)


def wanted(options, section):
    return not options.sections or section in options.sections


def run(options, folder, log_folder, document):
    targets = ["1kb", "128kb"]
    targets += ["16kb", "64kb", "1mb"] if wanted(options, "zerocopy") else []
    targets += ["100mb"] if any(workload.target == "100mb" for workload in chosen(options)) else []
    site, certificate = harness.make_site(folder, targets), harness.make_certificate(folder)
    compare(options, folder, log_folder, site, certificate, document)
    if wanted(options, "zerocopy"):
        document["workloads"] += zerocopy.compare(options, folder, log_folder, site, certificate,
                                                  report.print_workload)
    if wanted(options, "delivery"):
        pairs = types.SimpleNamespace(pairs=options.pairs, engines=options.engines,
                                      targets=list(delivery.GOALS),
                                      share=min(options.seconds / SECONDS, 1))
        document["delivery"] = [
            {name: vars(value) if isinstance(value, harness.Spread) else value
             for name, value in result.items()}
            for result in delivery.compare(pairs, folder, log_folder, site)]


def main():
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # with what was started cleaned up
    document = harness.document_begin()
    document |= {"rounds": options.rounds, "seconds": options.seconds, "workloads": []}
    print(f"{options.rounds} interleaved rounds, median (quartiles)")
    with harness.make_folder() as folder, harness.make_log_folder() as log_folder:
        try:
            if options.limit:
                document["floor"] = floor.search(options, folder, harness.make_site(folder))
            else:
                run(options, folder, log_folder, document)
        except (harness.BenchError, harness.Missing, OSError) as error:
            sys.exit(f"bench: {error}")
    harness.document_write(document, options.json)
    options.html.write_text(page.render(document))
    print(options.html)


if __name__ == "__main__":
    main()
