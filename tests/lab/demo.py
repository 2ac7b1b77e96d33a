#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""When did the last byte arrive? Three answers for one response over a long link, side by side.

For each engine and size: what write() says (accepted_us), what Weir's log says (delivered_us), and
what the client measured from the first byte of its request to the last byte of the response. Exits
0 if the log is right everywhere, 1 if it is not, 77 if this host cannot have the link.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from demo_chart import Row, chart_svg  # noqa: E402
from lab import ROOT, Lab, LabUnavailable, root_borrow  # noqa: E402

SIZES_KB = (128, 256, 512, 1024)
ENGINES = ("io_uring", "epoll", "poll")
PING_MS = 320
PORT = 8080
# The log's time may differ from the client's by this share, or by one delayed ACK (Linux: 40 ms).
TOLERANCE_SHARE = 0.02
TOLERANCE_SECONDS = 0.040
WAIT_SECONDS_MAX = 30.0
EXIT_UNAVAILABLE = 77


def is_right(row: Row) -> bool:
    if row.difference is None:
        return False
    return abs(row.difference) <= max(TOLERANCE_SHARE * row.client, TOLERANCE_SECONDS)


def client_fetch(lab: Lab, target: str, size: int) -> float:
    """Seconds from sending the request's first byte until the response's last byte was read."""
    with lab.connect(PORT, timeout=WAIT_SECONDS_MAX) as client:
        request = f"GET {target} HTTP/1.1\r\nHost: demo\r\n\r\n".encode()
        received = bytearray()
        want = None
        start = time.monotonic()
        client.sendall(request)
        while want is None or len(received) < want:
            data = client.recv(1 << 18)
            if not data:
                raise RuntimeError(f"{target}: the connection ended after {len(received)} bytes")
            received += data
            header_end = received.find(b"\r\n\r\n")
            if want is None and header_end >= 0:
                want = header_end + 4 + size
        elapsed = time.monotonic() - start
    if not received.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"{target}: {bytes(received[:60])!r}")
    return elapsed


def log_wait(path: pathlib.Path, target: str) -> dict[str, Any]:
    """The log's line for `target`, which comes when the last byte was acknowledged."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while time.monotonic() < deadline:
        for line in path.read_text().splitlines() if path.exists() else []:
            entry = json.loads(line)
            if entry["target"] == target:
                return entry
        time.sleep(0.02)
    raise RuntimeError(f"no log line for {target}")


def server_start(lab: Lab, weir: str, engine: str, files: pathlib.Path, log: pathlib.Path) -> None:
    """Starts Weir on the server's side and waits until it says that it serves."""
    command = [weir, "serve", str(files), "--listen", f"{lab.SERVER}:{PORT}"]
    command += ["--engine", engine, "--access-log", str(log)]
    server = lab.server_exec(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr
    for line in server.stderr:
        if " on http://" in line:
            return
        print(line, end="", file=sys.stderr)
    raise RuntimeError(f"{weir} did not start with the engine {engine}")


def rows_measure(lab: Lab, engine: str, log: pathlib.Path) -> Iterator[Row]:
    for size_kb in SIZES_KB:
        target = f"/{size_kb}kb"
        seconds = client_fetch(lab, target, size_kb * 1024)
        entry = log_wait(log, target)
        delivered_us = entry["delivered_us"]
        yield Row(
            engine=engine,
            size_kb=size_kb,
            accepted=entry["accepted_us"] / 1e6,
            delivered=None if delivered_us is None else delivered_us / 1e6,
            client=seconds,
        )


def time_text(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds:.3f} s"


class Table:
    """Prints a row as soon as it is known: each takes seconds."""

    COLUMNS = (
        ("engine", 9),
        ("size", 8),
        ("write() says", 13),
        ("Weir's log says", 16),
        ("the client measured", 20),
        ("the log is off by", 21),
    )

    def __init__(self, colour: bool) -> None:
        codes = ("\033[1m", "\033[2m", "\033[32m", "\033[31m", "\033[0m") if colour else ("",) * 5
        self._bold, self._faint, self._good, self._bad, self._plain = codes
        self._engine = ""

    def begin(self, conditions: str) -> None:
        print(f"\n{self._bold}When did the last byte arrive?{self._plain}")
        print(f"{self._faint}Each response on a fresh connection; {conditions}.{self._plain}\n")
        titles = " ".join(f"{title:>{width}}" for title, width in self.COLUMNS)
        print(f"{self._bold}{titles}{self._plain}")

    def row(self, row: Row) -> None:
        delivered, off = "never", "-"
        if row.delivered is not None and row.difference is not None:
            delivered = time_text(row.delivered)
            off = f"{row.difference * 1000:+.1f} ms {row.difference / row.client * 100:+6.2f} %"
        if self._engine not in ("", row.engine):
            print()
        cells = (
            row.engine if row.engine != self._engine else "",
            f"{row.size_kb} KB",
            time_text(row.accepted),
            delivered,
            time_text(row.client),
            off,
        )
        self._engine = row.engine
        line = " ".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, self.COLUMNS))
        verdict = f"{self._good}right" if is_right(row) else f"{self._bad}WRONG"
        print(f"{line}  {verdict}{self._plain}", flush=True)

    def end(self) -> None:
        words = (
            "write(): the kernel took the last byte; most servers log that. Weir's log: the"
            " client's kernel acknowledged it. The client: by its own clock, from the first byte it"
            f" sent to the last it read. Right: within {TOLERANCE_SHARE * 100:g} % of that, or"
            f" {TOLERANCE_SECONDS * 1000:g} ms (one delayed ACK) where that is more."
        )
        print(f"\n{self._faint}{textwrap.fill(words, 92)}{self._plain}\n")


def measure(
    weir: str, engines: list[str], folder: pathlib.Path, table: Table
) -> tuple[list[Row], str]:
    """Measures and prints everything. Returns the rows, and the conditions in words."""
    files = folder / "files"
    files.mkdir()
    for size_kb in SIZES_KB:
        (files / f"{size_kb}kb").write_bytes(os.urandom(size_kb * 1024))
    rows: list[Row] = []
    conditions = ""
    for engine in engines:
        with Lab(ping_ms=PING_MS) as lab:
            if not conditions:
                ping_ms = min(lab.ping() for _ in range(3))
                congestion = lab.setting("ipv4/tcp_congestion_control")
                release = platform.release().split("-")[0]
                conditions = f"ping {ping_ms:.1f} ms, {congestion}, Linux {release}"
                table.begin(conditions)
            log = folder / f"{engine}.log"
            server_start(lab, weir, engine, files, log)
            for row in rows_measure(lab, engine, log):
                rows.append(row)
                table.row(row)
    table.end()
    return rows, conditions


def arguments_read() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--svg", type=pathlib.Path, default=ROOT / "build" / "demo.svg", help="where to draw it"
    )
    parser.add_argument("--engines", default=",".join(ENGINES), help="a list with commas")
    return parser.parse_args()


def main() -> int:
    options = arguments_read()
    root_borrow()
    weir = os.environ.get("WEIR", str(ROOT / "build" / "weir"))
    if not os.access(weir, os.X_OK):
        print(f"demo: there is no program {weir}: build it first", file=sys.stderr)
        return 1
    try:
        with tempfile.TemporaryDirectory(prefix="weir-demo-") as folder:
            table = Table(colour=sys.stdout.isatty())
            rows, conditions = measure(
                weir, options.engines.split(","), pathlib.Path(folder), table
            )
    except LabUnavailable as why:
        print(f"demo: this host cannot have the link: {why}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    except (OSError, RuntimeError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    options.svg.parent.mkdir(parents=True, exist_ok=True)
    options.svg.write_text(chart_svg(rows, conditions))
    print(f"Picture: {options.svg}")
    return 0 if all(is_right(row) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
