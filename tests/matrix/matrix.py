#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The matrix: engine x TLS library and version x kernel TLS x memory or file, on three kernels.

Each cell is a connection over a link with a long ping. A client that shares no code with Weir uploads
bytes that the server checks, downloads bytes that it checks itself, and compares when Weir says that
each write was delivered with when it had the bytes. On this host the link is the lab's; in the virtual
machine, which has kernel TLS, it is netem, and the kernel's own count says whether kernel TLS was on.

Exits 0 if each cell is right or has a reason why it cannot be, else 1.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import pathlib
import platform
import string
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "vm"))
import vm  # noqa: E402
from cells import (  # noqa: E402
    DOWNLOAD_BYTES, ENGINES, KERNELS, PING_SECONDS, SOURCES, TOLERANCE_SECONDS, TOLERANCE_SHARE,
    UPLOAD_BYTES, VENDORS, VERSIONS, ZEROCOPY, ZEROCOPY_MODES, Cell, Outcome, cells_run, every_cell, peer_program)
from lab import LabUnavailable, root_borrow  # noqa: E402

HOST = "host"
PLACES = (HOST, *vm.KERNELS)
MACHINE_SECONDS_MAX = 900.0
NOTHING_TO_PROTECT = "without TLS there is nothing that the kernel could protect"
CELL_WIDTH = 11


class Place(NamedTuple):
    """What came of the cells at one place."""

    title: str
    outcomes: dict[Cell, Outcome]


def host_run(cells: Sequence[Cell]) -> Place:
    title = f"This host, Linux {platform.release().split('-')[0]}, over the lab's link"
    outcomes: dict[Cell, Outcome] = {}

    def report(cell: Cell, outcome: Outcome) -> None:
        outcomes[cell] = outcome

    try:
        cells_run(cells, netem=False, report=report)
    except LabUnavailable as error:
        why = f"this host cannot have the link: {error}"
        outcomes = {cell: Outcome("lacking", why) for cell in cells}
    return Place(title, outcomes)


def outcomes_read(text: str) -> dict[Cell, Outcome]:
    """What cells.py --json printed in the machine."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("{"):
            continue
        fields = json.loads(line)
        cell = Cell(*(fields.pop(name) for name in Cell.__dataclass_fields__))
        found[cell] = Outcome(**fields)
    return found


def machine_run(kernel: str, cells: Sequence[Cell], only: str) -> Place:
    title = f"The virtual machine, Linux {kernel}, over netem"
    environment = {"HOME": "/root", "LANG": "C.UTF-8", "TMPDIR": vm.TEMPORARY_IN_GUEST,
                   "WEIR_LAB_BUILD": f"{vm.TEMPORARY_IN_GUEST}/lab",
                   "WEIR_BUILD": str(peer_program().parents[2]), ZEROCOPY: os.environ[ZEROCOPY]}
    command = [os.path.realpath(sys.executable), str(HERE / "cells.py"), "--json", "--netem",
               "--only", only]
    step = vm.Step("matrix", command, environment, MACHINE_SECONDS_MAX)
    try:
        prepared = vm.prepare(kernel)
        title = f"The virtual machine, Linux {prepared.version.removesuffix('-cloud-amd64')}, over netem"
        with tempfile.TemporaryDirectory(prefix="weir-matrix-") as folder:
            (result,) = vm.run(prepared, [step], pathlib.Path(folder) / "results", "virtual",
                               MACHINE_SECONDS_MAX)
    except vm.Unavailable as error:
        why = f"there can be no virtual machine here: {error}"
        return Place(title, {cell: Outcome("lacking", why) for cell in cells})
    outcomes = outcomes_read(result.output)
    last_words = next((line for line in reversed(result.output.splitlines()) if line), "no output")
    for cell in cells:
        if cell not in outcomes:
            outcomes[cell] = Outcome("failed", f"not run: {result.ended}: {last_words}")
    return Place(title, outcomes)


class Table:
    """One place's table. Cells that cannot be have a letter, whose reason stands below."""

    def __init__(self, place: Place, colour: bool):
        self._place = place
        codes = ("\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m") if colour else ("",) * 5
        self._bold, self._faint, self._good, self._bad, self._plain = codes
        self._reasons: list[str] = []
        self._failures: list[str] = []

    def _letter(self, reason: str) -> str:
        if reason not in self._reasons:
            self._reasons.append(reason)
        return string.ascii_lowercase[self._reasons.index(reason) % 26]

    def _cell(self, cell: Cell) -> str:
        if not cell.vendor and cell.kernel != "off":
            outcome = Outcome("lacking", NOTHING_TO_PROTECT)
        else:
            outcome = self._place.outcomes.get(cell, Outcome("lacking", "not asked for (--only)"))
        if outcome.status == "lacking":
            return f"{self._faint}{f'({self._letter(outcome.why)})':>{CELL_WIDTH}}{self._plain}"
        if outcome.status == "failed":
            self._failures.append(f"{cell}: {outcome.why}")
            return f"{self._bad}{f'FAILED {len(self._failures)}':>{CELL_WIDTH}}{self._plain}"
        again = "*" if outcome.tries > 1 else " "
        words = f"ok {outcome.off_share * 100:+.2f} %{again}"
        return f"{self._good}{words:>{CELL_WIDTH}}{self._plain}"

    def show(self) -> None:
        print(f"\n{self._bold}{self._place.title}{self._plain}\n")
        width = 2 * CELL_WIDTH + 1
        print(" " * 24 + " ".join(f"{f'kernel TLS {kernel}':>{width}}" for kernel in KERNELS))
        sources = " ".join(f"{source:>{CELL_WIDTH}}" for _ in KERNELS for source in SOURCES)
        print(f"{self._bold}{'engine':<9} {'TLS':<14}{sources}{self._plain}")
        for engine in ENGINES:
            print()
            rows = [(None, "")] + [(v, version) for v in VENDORS for version in VERSIONS]
            for number, (vendor, version) in enumerate(rows):
                cells = [Cell(engine, vendor, version, kernel, source)
                         for kernel in KERNELS for source in SOURCES]
                name = f"{vendor} {version}" if vendor else "none"
                first = "" if number else engine
                print(f"{first:<9} {name:<14}" + " ".join(map(self._cell, cells)).rstrip())
        self._notes()

    def _notes(self) -> None:
        print()
        for reason in self._reasons:
            print(f"  ({self._letter(reason)}) {reason}")
        if any(outcome.tries > 1 for outcome in self._place.outcomes.values()):
            print("  *   at a later try: others kept this host's processors busy")
        for number, failure in enumerate(self._failures, 1):
            print(textwrap.fill(f"{self._bad}FAILED {number}{self._plain}: {failure}", 110,
                                initial_indent="  ", subsequent_indent="      "))
        sys.stdout.flush()


def introduction() -> str:
    return textwrap.fill(
        f"Each cell: a connection over a ping of {PING_SECONDS * 1000:g} ms; {UPLOAD_BYTES:,} bytes up,"
        f" {DOWNLOAD_BYTES:,} down in several writes, from memory or from a file; every byte checked, at"
        " both ends. The number is how far `delivered` was off the client's own time, at the write where"
        f" that was most; right is within {TOLERANCE_SHARE * 100:g} % or {TOLERANCE_SECONDS * 1000:g} ms."
        " Where kernel TLS is to be on, weir_tls_info and /proc/net/tls_stat have said so.", 100)


def summarise(places: Sequence[Place]) -> int:
    outcomes = [outcome for place in places for outcome in place.outcomes.values()]
    good = [outcome for outcome in outcomes if outcome.status == "ok"]
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    print(f"\n{len(good)} cells right, {failed} failed, {len(outcomes) - len(good) - failed} cannot be",
          end="")
    if good:
        worst = max(good, key=lambda outcome: abs(outcome.off_seconds))
        counted = sum("tcp_info" in outcome.sources for outcome in good)
        print(f"; the farthest off: {worst.off_seconds * 1000:+.1f} ms, {worst.off_share * 100:+.2f} %."
              f"\nDelivery was known by the kernel's stamps alone in {len(good) - counted} cells, in"
              f" {counted} for some writes by its count of acknowledged bytes", end="")
    print(".", flush=True)
    return 1 if failed or not good else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", default=",".join(PLACES), help="a list with commas of: %(default)s")
    parser.add_argument("--zerocopy", choices=ZEROCOPY_MODES, default=ZEROCOPY_MODES[0])
    parser.add_argument("--only", default="", metavar="WORDS", help="cells that have all these words")
    options = parser.parse_args()
    os.environ[ZEROCOPY] = options.zerocopy
    places = options.places.split(",")
    if not set(places) <= set(PLACES):
        parser.error(f"places are {', '.join(PLACES)}")
    if not peer_program().exists():
        print(f"matrix: there is no {peer_program()}: `make matrix` builds it", file=sys.stderr)
        return 1
    root_borrow()
    vm.stop_on_term()
    words = options.only.split()
    cells = [cell for cell in every_cell() if all(word in str(cell).split() for word in words)]
    print(introduction(), flush=True)
    found = []

    def show(place: Place) -> None:
        found.append(place)
        Table(place, sys.stdout.isatty()).show()

    # The host first and alone: its times are real. The machines' are not, and each keeps one processor.
    if HOST in places:
        show(host_run(cells))
    kernels = [place for place in places if place != HOST]
    if kernels:
        with concurrent.futures.ThreadPoolExecutor(len(kernels)) as pool:
            for done in pool.map(lambda kernel: machine_run(kernel, cells, options.only), kernels):
                show(done)
    return summarise(found)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
