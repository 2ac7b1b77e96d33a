#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Encryption in user space against encryption by the kernel: the second table of the talk README.md names.

It needs a kernel with its module "tls", such as that of the virtual machine of the tests, which is emulated: only
the ratios say something there, and not how they would be elsewhere, for emulated AES has no instruction of its own.

    tests/vm/vm.py --run 'python3 bench/talk_ktls.py'

A measurement, not a test: it exits 0 whatever it finds, and 77 where the kernel has no TLS.
"""
import argparse
import contextlib
import pathlib
import sys

import harness
import servers

CONNECTIONS = 10
KINDS = ["off", "tx", "on"]
EXIT_SKIP = 77


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=300, help="of a run")
    parser.add_argument("--targets", type=servers.words, default=["128kb"])
    parser.add_argument("--engines", type=servers.words, default=servers.ENGINES_TLS)
    parser.add_argument("--vendor", default=servers.VENDORS[0])
    parser.add_argument("--ktls", type=servers.words, default=KINDS, help="of off,tx,on; off comes first")
    parser.add_argument("--json", type=pathlib.Path,
                        default=harness.REPOSITORY / "build" / "bench-ktls.json")
    return parser.parse_args()


def kernel_streams():
    """How many directions the kernel has protected, by its own count; None where it has no TLS."""
    with contextlib.suppress(OSError):
        lines = pathlib.Path("/proc/net/tls_stat").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(("TlsTxSw", "TlsRxSw")))
    return None


def measure(running, target, arguments):
    """Runs by server, in turns. What is to be the kernel's must be, by its count, and nothing else."""
    runs = {server.name: [] for server in running}
    for number in range(arguments.rounds):
        first = number % len(running)
        for server in running[first:] + running[:first]:
            before = kernel_streams() or 0
            runs[server.name].append(server.load(target, CONNECTIONS, arguments.requests))
            directions = {"off": 0, "tx": 1, "on": 2}[kind_of(server)] * CONNECTIONS
            if (kernel_streams() or 0) - before != directions:
                raise harness.BenchError(f"{server.name}: the kernel protected "
                                         f"{(kernel_streams() or 0) - before} directions, not {directions}")
    return {name: {field: harness.Spread.of([getattr(run, field) for run in each])
                   for field in ("cpu_us", "requests_s")} for name, each in runs.items()}


def kind_of(server):
    return next((kind for kind in ("on", "tx") if f"ktls-{kind}" in server.name), "off")


def print_results(engine, target, summary):
    base = next(iter(summary.values()))
    table = [["server", "requests/s", "x user space", "CPU us/request", "x user space"]]
    for name, row in summary.items():
        table.append([name, row["requests_s"].text(0),
                      f"{row['requests_s'].median / base['requests_s'].median:.2f}",
                      row["cpu_us"].text(0), f"{row['cpu_us'].median / base['cpu_us'].median:.2f}"])
    print(f"\n{target} over TLS 1.3, {CONNECTIONS} connections, {engine}")
    harness.print_table(table)


def main():
    arguments = parse_arguments()
    document = harness.document_begin()
    document["ktls"] = []
    with harness.make_folder() as folder:
        site, certificate = harness.make_site(folder), harness.make_certificate(folder)
        try:
            for engine in arguments.engines:
                with contextlib.ExitStack() as stack:
                    running = [stack.enter_context(servers.start_weir(
                        folder, site, folder, engine, delivery=True, access_log=True,
                        tls=servers.WeirTls(certificate, arguments.vendor, ktls)))
                        for ktls in arguments.ktls]
                    for target in arguments.targets:
                        summary = measure(running, target, arguments)
                        print_results(engine, target, summary)
                        document["ktls"].append({"engine": engine, "target": target,
                                                 "servers": summary})
        except harness.Missing as reason:
            print(f"SKIP: {reason}")
            sys.exit(EXIT_SKIP)
        except harness.BenchError as error:
            sys.exit(f"bench: {error}")
    harness.document_write(document, arguments.json)


if __name__ == "__main__":
    main()
