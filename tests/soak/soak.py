#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Servers under a mixed load for as long as one likes: is their memory flat, is every transaction logged once?

Four servers run side by side: io_uring and epoll, zero copy auto and on, two TLS libraries. Clients of one process
(client.py) share all connections among them. Prints a line a minute, and a verdict; exit status 1 if it is bad.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "e2e"), str(ROOT / "tests" / "soak")]
import support  # noqa: E402
from client import SIZES, Target, World  # noqa: E402
from ledger import Ledger, LogReader  # noqa: E402
from metrics_test import Metrics, admin_port  # noqa: E402
from support import Connection, Server, wait_for  # noqa: E402
from verdict import MIB, memory_faults  # noqa: E402

# Engine, zero copy, TLS library.
SERVERS = (
    ("io_uring", "auto", "openssl"),
    ("io_uring", "on", "gnutls"),
    ("epoll", "auto", "gnutls"),
    ("epoll", "on", "openssl"),
)
# Time enough for good clients on a machine that has other work, too.
OPTIONS = ("--threads", "1", "--header-timeout", "10", "--send-timeout", "20", "--drain-timeout", "10")
PAUSE_MAX_S = 5.0  # of the clients: with longer ones these times tell nothing
TLS_PART = 0.4  # of the connections
# Memory is looked at behind this part of the time; that takes so long at least, and is not worth more.
WARM_UP_PART, WARM_UP_MIN_S, WARM_UP_MAX_S = 0.25, 120.0, 300.0
SAMPLE_S = 1.0
LINE_S = 60.0
LINES_PER_ROUND = 50  # of each log
OPEN_PER_ROUND = 20  # connections, so that the load comes gently
THINK_S = 0.8
SETTLE_S = 15.0  # after the last client has left, for what the servers still hold


def page_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE")


@dataclasses.dataclass
class Subject:
    """A server, and what is seen of it from outside."""

    name: str
    server: Server
    tls_port: int
    log: LogReader
    descriptors_before: int = 0
    samples: list[tuple[float, int]] = dataclasses.field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.server.process.pid

    def resident(self) -> int:
        return int(pathlib.Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * page_bytes()

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def metrics(self) -> Metrics:
        with socket.create_connection(("127.0.0.1", admin_port(self.server)), 20) as channel:
            return Metrics(Connection(channel).get("/metrics").body.decode())

    def is_alive(self) -> bool:
        return self.server.process.poll() is None


def start(
    root: pathlib.Path, ledger: Ledger, engine: str, zerocopy: str, library: str
) -> Subject:
    options = (*OPTIONS, "--zerocopy", zerocopy, "--tls", library)
    options += ("--listen-tls", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    server = Server(root, *options, engine=engine)
    found = wait_for(
        "its addresses",
        lambda: "metrics at" in (said := server.errors())
        and re.search(r"on https://127.0.0.1:([0-9]+)", said),
    )
    log = LogReader(server.log_path, ledger)
    return Subject(f"{engine}/{zerocopy}", server, int(found[1]), log)


def write_files(root: pathlib.Path) -> dict[int, bytes]:
    files = {size: random.Random(size).randbytes(size) for size in SIZES}
    for size, content in files.items():
        (root / str(size)).write_bytes(content)
    return files


class Soak:
    def __init__(self, root: pathlib.Path, seconds: float, connections: int, seed: int):
        self.ledger = Ledger()
        self.seconds, self.connections = seconds, connections
        self.warm_up = min(max(WARM_UP_PART * seconds, WARM_UP_MIN_S), WARM_UP_MAX_S)
        self.judges_memory = seconds >= 2 * self.warm_up
        self.world = World(write_files(root), self.ledger, seed, THINK_S)
        self.root = root
        self.subjects: list[Subject] = []
        self.faults: list[str] = []

    def start(self) -> None:
        for engine, zerocopy, library in SERVERS:
            if engine not in support.ENGINES:
                continue
            lacking = support.engine_lacking(engine)
            if lacking:
                print(f"without {engine}: {lacking}")
                continue
            subject = start(self.root, self.ledger, engine, zerocopy, library)
            self.subjects.append(subject)
            # Files that were asked for stay open: before the count, not behind it.
            for size in SIZES:
                number = self.ledger.begin()
                subject.server.get(f"/{size}?id={number}")
                self.ledger.complete(number, size)
            subject.descriptors_before = self._settled(subject)

    @staticmethod
    def _settled(subject: Subject) -> int:
        """Descriptors, once there are no connections: their number stays the same for a while."""
        counts = [-1, subject.descriptors()]
        while len(set(counts[-10:])) > 1 or len(counts) < 10:
            time.sleep(0.05)
            counts.append(subject.descriptors())
        return counts[-1]

    def _targets(self) -> list[Target]:
        """One for each connection, in an order in which all kinds come from the beginning."""
        targets = []
        for i in range(self.connections):
            subject = self.subjects[i % len(self.subjects)]
            tls = (i // len(self.subjects)) % 10 < 10 * TLS_PART
            targets.append(Target(subject.tls_port if tls else subject.server.port, tls))
        return targets

    def run(self) -> None:
        began = time.monotonic()
        targets = self._targets()
        next_sample, next_line, opened = SAMPLE_S, min(LINE_S, self.seconds / 4), 0
        line_every = next_line
        self._head()
        while (elapsed := time.monotonic() - began) < self.seconds:
            for target in targets[opened : opened + OPEN_PER_ROUND]:
                self.world.open(target)
            opened += OPEN_PER_ROUND
            self.world.run_once(0.05)
            for subject in self.subjects:
                subject.log.read(LINES_PER_ROUND)
            if elapsed >= next_sample:
                next_sample = elapsed + SAMPLE_S
                self._sample(elapsed)
            if elapsed >= next_line:
                next_line += line_every
                self._rotate()
                self._line(elapsed, line_every)
            if not all(subject.is_alive() for subject in self.subjects):
                self.faults.append("a server ended in the middle")
                return

    def _sample(self, elapsed: float) -> None:
        for subject in self.subjects:
            subject.samples.append((elapsed, subject.resident()))

    def _rotate(self) -> None:
        for subject in self.subjects:
            subject.log.rotate()
            subject.server.signal(signal.SIGUSR1)

    # ---- what is printed

    def _head(self) -> None:
        names = "".join(f"{subject.name:>14}" for subject in self.subjects)
        print(f"{self.connections} connections, {self.seconds:.0f} s; MiB resident, descriptors:")
        print(f"{'s':>6}{'requests/s':>11}{'MB/s':>6}{names}", flush=True)
        self.requests_before = self.bytes_before = 0

    def _line(self, elapsed: float, seconds: float) -> None:
        totals, requests = self.world.totals, self.ledger.requests
        rate = (requests - self.requests_before) / seconds
        speed = (totals.bytes - self.bytes_before) / seconds / 1e6
        self.requests_before, self.bytes_before = requests, totals.bytes
        columns = "".join(
            f"{subject.resident() / MIB:>9.1f}{subject.descriptors():>5}"
            for subject in self.subjects
        )
        print(f"{elapsed:>6.0f}{rate:>11.0f}{speed:>6.0f}{columns}", flush=True)

    # ---- the end

    def end(self) -> None:
        self.world.stop()
        for subject in self.subjects:
            self._end_one(subject)
        self.ledger.close()
        if self.ledger.wrong_count:
            self.faults.append(f"{self.ledger.wrong_count} transactions went wrong:")
            self.faults += [f"  {text}" for text in self.ledger.wrong]

    def _end_one(self, subject: Subject) -> None:
        before = subject.descriptors_before
        deadline = time.monotonic() + SETTLE_S
        while subject.descriptors() > before and time.monotonic() < deadline:
            time.sleep(0.1)
        now = subject.descriptors()
        if now != before:
            self.faults.append(f"{subject.name}: {before} descriptors before, {now} after")
        if self.judges_memory:
            steady = [sample for sample in subject.samples if sample[0] >= self.warm_up]
            self.faults += [f"{subject.name}: {fault}" for fault in memory_faults(steady)]
        metrics = subject.metrics()
        subject.server.signal(signal.SIGQUIT)
        status = subject.server.wait(15)
        if status != 0:
            self.faults.append(f"{subject.name}: exit status {status}")
        # Beside what it says at its start, nothing: no line dropped, nothing found by a sanitizer.
        said = [
            line
            for line in subject.server.errors().splitlines()
            if not re.match(r"weir: (serving |no |metrics )", line)
        ]
        self.faults += [f"{subject.name} said: {line[:200]}" for line in said[:5]]
        subject.log.read_all()
        for name, wanted in (
            ("weir_connections_open", 0),
            ("weir_zerocopy_pinned_bytes", 0),
            ("weir_requests_total", subject.log.lines),
        ):
            if metrics.sum(name) != wanted:
                self.faults.append(f"{subject.name}: {name} is {metrics.sum(name):.0f}, not {wanted}")

    def verdict(self) -> bool:
        if self.world.pause_max_s > PAUSE_MAX_S:
            self.faults.append("the clients did not get to run: this machine has too much other work")
        outcomes = ", ".join(f"{count} {name}" for name, count in self.ledger.outcomes.items())
        sends = ", ".join(f"{count} {name}" for name, count in sorted(self.ledger.sends.items()))
        totals = self.world.totals
        print(f"the clients paused for {self.world.pause_max_s:.1f} s at the most")
        print(
            f"{totals.opened} connections, {self.ledger.requests} requests, {self.ledger.lines}"
            f" lines: {outcomes}; sent by: {sends}"
        )
        for fault in self.faults:
            print(f"FAULT: {fault}")
        memory = "memory flat" if self.judges_memory else "too short to judge memory"
        print("bad" if self.faults else f"good: {memory}, descriptors as before, one line each")
        return not self.faults


def soak(seconds: float, connections: int, seed: int) -> bool:
    root = pathlib.Path(tempfile.mkdtemp(prefix="weir-soak-"))
    run = Soak(root, seconds, connections, seed)
    try:
        run.start()
        run.run()
        run.end()
        return run.verdict()
    finally:
        for subject in run.subjects:
            subject.server.stop()
        shutil.rmtree(root, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"seed {arguments.seed}")
    return 0 if soak(arguments.minutes * 60, arguments.connections, arguments.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
