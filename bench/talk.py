#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The four experiments of the talk that README.md names, and docs/talk.md with their figures and charts.

Takes some minutes. What this machine cannot have (a network namespace, the virtual machine of the tests) is named
on the page in place of its figures. `--only` measures some parts again and takes the rest from the last run.
"""
import argparse
import contextlib
import ctypes
import json
import os
import pathlib
import subprocess
import sys

import harness

for folder in ("lab", "vm"):
    sys.path.insert(0, str(harness.REPOSITORY / "tests" / folder))

import demo  # noqa: E402
import lab  # noqa: E402
import talk_page  # noqa: E402
import talk_uring  # noqa: E402
import talk_zerocopy  # noqa: E402
import vm  # noqa: E402

DOCS = harness.REPOSITORY / "docs"
PARTS = ["timestamps", "ktls", "zerocopy", "route", "io_uring"]
ENGINES = ["io_uring", "epoll"]
MACHINE_SECONDS_MAX = 600.0
KTLS_REQUESTS = 100  # of a run, which takes a second or two there
ROUTE_TEST = harness.REPOSITORY / "tests" / "vm" / "zerocopy_guest_test.py"
# Of what every Linux has, the one that does not pace: see README.md.
CONGESTION_CONTROL = "reno"
HOME = {"HOME": "/root", "LANG": "C.UTF-8", "TMPDIR": vm.TEMPORARY_IN_GUEST}


class Unmeasured(Exception):
    """A part that this machine cannot have, and why."""


@contextlib.contextmanager
def network_of_our_own():
    """Puts this process into a network namespace of its own, with a plain congestion control, if it may."""
    def enter(descriptor):
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, lab.CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")

    with open("/proc/self/ns/net") as home:
        if os.geteuid() != 0 or ctypes.CDLL(None, use_errno=True).unshare(lab.CLONE_NEWNET) != 0:
            yield
            return
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").write_text(CONGESTION_CONTROL)
        try:
            yield
        finally:
            enter(home.fileno())


def measure_timestamps(_):
    options = argparse.Namespace(engines=",".join(ENGINES), no_machine=False)
    try:
        return {"rows": demo.measure_everywhere(options, demo.Table(colour=False))}
    except lab.LabUnavailable as why:
        raise Unmeasured(str(why)) from None


def run_in_machine(kernel, command, environment, with_route=False):
    """Runs a script in the virtual machine. Returns its output and the kernel's version."""
    found = vm.prepare(kernel)
    step = vm.Step("talk", [os.path.realpath(sys.executable), *command], {**HOME, **environment},
                   MACHINE_SECONDS_MAX)
    results = harness.REPOSITORY / "build" / "talk-machine"
    (result,) = vm.run(found, [step], results, timeout_s=MACHINE_SECONDS_MAX, with_route=with_route)
    print(result.output)
    if result.status != 0:
        raise Unmeasured(f"in the virtual machine: {result.ended}")
    return result.output, found.version.removesuffix("-cloud-amd64"), results


def measure_ktls(arguments):
    where = f"{vm.RESULTS_IN_GUEST}/ktls.json"
    script = str(harness.REPOSITORY / "bench" / "talk_ktls.py")
    try:
        _, version, results = run_in_machine(
            "new", [script, "--rounds", str(arguments.rounds), "--requests", str(KTLS_REQUESTS), "--engines", ",".join(ENGINES),
                    "--json", where], {})
    except vm.Unavailable as why:
        raise Unmeasured(str(why)) from None
    return {"kernel": version, **json.loads((results / "ktls.json").read_text())}


def measure_zerocopy(arguments):
    with network_of_our_own(), harness.make_folder() as folder:
        return {"zerocopy": talk_zerocopy.compare(folder, ENGINES, talk_zerocopy.CONNECTIONS, arguments.rounds)}


def measure_route(_):
    build = harness.REPOSITORY / "build"
    kernels = {}
    for kernel in vm.KERNELS:
        try:
            output, version, _ = run_in_machine(
                kernel, [str(ROUTE_TEST)], {"WEIR_BUILD": str(build), "WEIR": str(build / "weir")}, with_route=True)
        except vm.Unavailable as why:
            raise Unmeasured(str(why)) from None
        kernels[version] = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        if not kernels[version]:
            raise Unmeasured("the virtual machine has no network device here")
    return {"kernels": kernels}


def measure_io_uring(arguments):
    with network_of_our_own(), harness.make_folder() as folder:
        return {"io_uring": talk_uring.compare(folder, talk_uring.TARGETS, talk_uring.CONNECTIONS, arguments.rounds)}


def measure(part, arguments):
    try:
        return globals()[f"measure_{part}"](arguments)
    except (Unmeasured, harness.BenchError, harness.Missing) as why:
        print(f"{part}: not measured: {why}", file=sys.stderr)
        return {"missing": str(why)}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(PARTS), help="of " + ",".join(PARTS))
    parser.add_argument("--json", type=pathlib.Path, default=harness.REPOSITORY / "build" / "talk.json")
    parser.add_argument("--docs", type=pathlib.Path, default=DOCS, help="where the page and its charts go")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    chosen = [part for part in arguments.only.split(",") if part]
    lab.root_borrow()
    vm.stop_on_term()
    last = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    document = {part: {"missing": "it was left out"} for part in PARTS} | last
    if chosen:
        document["machine"] = harness.document_begin()
    for part in chosen:
        document[part] = measure(part, arguments)
        harness.document_write(document, arguments.json)
    page, charts = talk_page.page(json.loads(arguments.json.read_text()))
    (arguments.docs / "talk.md").write_text(page)
    for name, chart in charts.items():
        if chart is not None:
            (arguments.docs / name).write_text(chart)
    print(arguments.docs / "talk.md")


if __name__ == "__main__":
    main()
