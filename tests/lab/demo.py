#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""When did the last byte arrive? Three answers for one response over a long link, side by side.

For each engine and size: what write() says (accepted_us), what Weir's log says (delivered_us), and
what the client measured from the first byte of its request to the last byte of the response. First
without TLS and with TLS in user space on this host; then in the virtual machine, if there can be one,
the same over netem, and with TLS in the kernel. The client is Python's, with its ssl module; its
handshake is over before its request begins. Exits 0 if the log is right everywhere, 1 if it is not, 77
if this host cannot have the link.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import socket
import ssl
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "vm"))
import vm  # noqa: E402
from demo_chart import Row, chart_svg  # noqa: E402
from lab import ROOT, Lab, LabUnavailable, priority_raise, root_borrow  # noqa: E402
from netem import NetemLab  # noqa: E402

SIZES_KB = (128, 256, 512, 1024)
ENGINES = ("io_uring", "epoll", "poll")
PING_MS = 320
PORT = 8080
# The log's time may differ from the client's by this share, or by one delayed ACK (Linux: 40 ms).
TOLERANCE_SHARE = 0.02
TOLERANCE_SECONDS = 0.040
WAIT_SECONDS_MAX = 30.0
MACHINE_SECONDS_MAX = 600.0
MACHINE_KERNEL = "new"
EXIT_UNAVAILABLE = 77


class Transport(NamedTuple):
    """A way to send: the options of `weir serve`, and what its log must say of it."""

    words: str
    options: tuple[str, ...] = ()
    tls: str | None = None
    ktls: str = "none"

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"


TLS_OPTIONS = ("--tls-min", "1.3", "--ktls")
TRANSPORTS = {
    "plain": Transport("without TLS"),
    "tls": Transport("TLS 1.3 in user space", (*TLS_OPTIONS, "off"), "TLSv1.3"),
    "kernel": Transport("TLS 1.3 in the kernel", (*TLS_OPTIONS, "on"), "TLSv1.3", "tx+rx"),
}
ON_HOST = ("plain", "tls")
IN_MACHINE = ("plain", "tls", "kernel")


def is_right(row: Row) -> bool:
    if row.difference is None:
        return False
    return abs(row.difference) <= max(TOLERANCE_SHARE * row.client, TOLERANCE_SECONDS)


def client_fetch(lab: Lab | NetemLab, transport: Transport, target: str, size: int) -> float:
    """Seconds from sending the request's first byte until the response's last byte was read."""
    client = lab.connect(PORT, timeout=WAIT_SECONDS_MAX)
    # As curl does. Else the request waits a round trip for the acknowledgement of the handshake's end.
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: client.close())
        if transport.tls:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE  # the server made its certificate itself
            client = context.wrap_socket(client)
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


def server_start(
    lab: Lab | NetemLab,
    weir: str,
    engine: str,
    transport: Transport,
    files: pathlib.Path,
    log: pathlib.Path,
) -> None:
    """Starts Weir on the server's side and waits until it says that it serves."""
    listen = "--listen-tls" if transport.tls else "--listen"
    command = [weir, "serve", str(files), listen, f"{lab.SERVER}:{PORT}", *transport.options]
    command += ["--engine", engine, "--access-log", str(log)]
    server = lab.server_exec(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr
    said = ""
    for line in server.stderr:
        said += line
        if f" on {transport.scheme}://" in line:
            return
    raise RuntimeError(f"{weir} did not start with the engine {engine}: {said.strip()}")


def rows_measure(
    lab: Lab | NetemLab, where: str, name: str, engine: str, log: pathlib.Path
) -> Iterator[Row]:
    transport = TRANSPORTS[name]
    for size_kb in SIZES_KB:
        target = f"/{size_kb}kb"
        seconds = client_fetch(lab, transport, target, size_kb * 1024)
        entry = log_wait(log, target)
        found = entry["tls"], entry["ktls"]
        if found != (transport.tls, transport.ktls):
            raise RuntimeError(f"{transport.words}, but the log says of TLS {found}")
        delivered_us = entry["delivered_us"]
        yield Row(
            where=where,
            transport=name,
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
        self._group = ("", "")

    def begin(self) -> None:
        print(f"\n{self._bold}When did the last byte arrive?{self._plain}")
        print(f"{self._faint}Each response on a fresh connection, ping {PING_MS} ms.{self._plain}")

    def _group_begin(self, row: Row) -> None:
        words = f"{TRANSPORTS[row.transport].words}, {row.where}"
        titles = " ".join(f"{title:>{width}}" for title, width in self.COLUMNS)
        print(f"\n{self._bold}{words[0].upper()}{words[1:]}{self._plain}\n")
        print(f"{self._faint}{titles}{self._plain}")
        self._group, self._engine = (row.where, row.transport), ""

    def row(self, row: Row) -> None:
        if self._group != (row.where, row.transport):
            self._group_begin(row)
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


def files_make(folder: pathlib.Path) -> pathlib.Path:
    files = folder / "files"
    files.mkdir()
    for size_kb in SIZES_KB:
        (files / f"{size_kb}kb").write_bytes(os.urandom(size_kb * 1024))
    return files


def measure(
    make_lab: Callable[[], Lab | NetemLab],
    where: str,
    transports: Sequence[str],
    engines: Sequence[str],
    report: Callable[[Row], None],
) -> None:
    """Measures everything at one place. "{}" in `where` becomes the link's conditions."""
    weir = os.environ.get("WEIR", str(ROOT / "build" / "weir"))
    with tempfile.TemporaryDirectory(prefix="weir-demo-") as name:
        folder = pathlib.Path(name)
        files = files_make(folder)
        for transport in transports:
            for engine in engines:
                with make_lab() as lab:
                    if "{}" in where:
                        ping_ms = min(lab.ping() for _ in range(3))
                        congestion = lab.setting("ipv4/tcp_congestion_control")
                        where = where.format(f"ping {ping_ms:.1f} ms, {congestion}")
                    log = folder / f"{transport}-{engine}.log"
                    server_start(lab, weir, engine, TRANSPORTS[transport], files, log)
                    for row in rows_measure(lab, where, transport, engine, log):
                        report(row)


def measure_on_host(engines: list[str], report: Callable[[Row], None]) -> None:
    release = platform.release().split("-")[0]
    where = f"on this host: {{}}, Linux {release}"
    priority_raise()
    measure(lambda: Lab(ping_ms=PING_MS), where, ON_HOST, engines, report)


def measure_in_machine(engines: list[str], report: Callable[[Row], None]) -> None:
    """Runs this script in the virtual machine, whose lines of JSON become rows."""
    kernel = vm.prepare(MACHINE_KERNEL)
    environment = {
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TMPDIR": vm.TEMPORARY_IN_GUEST,
        "WEIR": os.environ.get("WEIR", str(ROOT / "build" / "weir")),
    }
    command = [os.path.realpath(sys.executable), str(pathlib.Path(__file__).resolve())]
    command += ["--guest", "--engines", ",".join(engines)]
    step = vm.Step("demo", command, environment, MACHINE_SECONDS_MAX)
    with tempfile.TemporaryDirectory(prefix="weir-demo-") as folder:
        results = pathlib.Path(folder) / "results"
        shown = 0

        def poll() -> None:
            nonlocal shown
            output = results / "0.txt"
            lines = output.read_text().splitlines(keepends=True) if output.exists() else []
            for line in lines[shown:]:
                if not line.endswith("\n"):
                    break
                shown += 1
                if line.startswith("{"):
                    report(Row(**json.loads(line)))

        (result,) = vm.run(
            kernel, [step], results, "virtual", MACHINE_SECONDS_MAX, on_poll=poll
        )
        poll()
    if result.status != 0:
        raise RuntimeError(f"in the virtual machine: {result.ended}: {result.output[-500:]}")


def measure_as_guest(engines: list[str]) -> None:
    release = platform.release().removesuffix("-cloud-amd64")
    where = f"in the virtual machine: netem, {{}}, Linux {release}"

    def report(row: Row) -> None:
        print(json.dumps(dataclasses.asdict(row)), flush=True)

    measure(lambda: NetemLab(ping_ms=PING_MS), where, IN_MACHINE, engines, report)


def arguments_read() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--svg", type=pathlib.Path, default=ROOT / "build" / "demo.svg", help="where to draw it"
    )
    parser.add_argument("--engines", default=",".join(ENGINES), help="a list with commas")
    parser.add_argument("--no-machine", action="store_true", help="this host only: no kernel TLS")
    parser.add_argument("--guest", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def measure_everywhere(options: argparse.Namespace, table: Table) -> list[Row]:
    rows: list[Row] = []
    engines = options.engines.split(",")

    def report(row: Row) -> None:
        rows.append(row)
        table.row(row)

    table.begin()
    measure_on_host(engines, report)
    if not options.no_machine:
        try:
            measure_in_machine(engines, report)
        except vm.Unavailable as why:
            print(f"\nNo TLS in the kernel: there can be no virtual machine here: {why}")
    table.end()
    return rows


def main() -> int:
    options = arguments_read()
    if options.guest:
        measure_as_guest(options.engines.split(","))
        return 0
    root_borrow()
    vm.stop_on_term()
    weir = os.environ.get("WEIR", str(ROOT / "build" / "weir"))
    if not os.access(weir, os.X_OK):
        print(f"demo: there is no program {weir}: build it first", file=sys.stderr)
        return 1
    try:
        rows = measure_everywhere(options, Table(colour=sys.stdout.isatty()))
    except LabUnavailable as why:
        print(f"demo: this host cannot have the link: {why}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    except (OSError, RuntimeError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    options.svg.parent.mkdir(parents=True, exist_ok=True)
    options.svg.write_text(chart_svg(rows))
    print(f"Picture: {options.svg}")
    return 0 if all(is_right(row) for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
