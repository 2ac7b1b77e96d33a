#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs cells of the matrix: in the lab's namespaces, or here, on a loopback device with netem.

tests/matrix/cells.py --tour     a part, in which everything is there once: PASS, FAIL and SKIP lines
tests/matrix/cells.py --json     every cell: one JSON object a line, for matrix.py
--netem                          the link is netem on the loopback of a namespace, as in tests/vm
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import queue
import random
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lab"))
sys.path.insert(0, str(HERE))
from client import Client, Exchange, Mismatch, tls_context  # noqa: E402
from lab import ROOT, Lab, LabUnavailable, priority_raise, process_end, root_borrow  # noqa: E402
from netem import NetemLab  # noqa: E402

ENGINES = ("io_uring", "epoll", "poll")
VENDORS = ("openssl", "gnutls", "wolfssl", "mbedtls")
VERSIONS = ("1.2", "1.3")
KERNELS = ("off", "tx", "tx+rx")
SOURCES = ("memory", "file")
# Slow start over this link takes the download five round trips: what write() says is then off by
# ten times the tolerance.
PING_SECONDS = 0.120
DOWNLOAD_BYTES = 300_007
UPLOAD_BYTES = 150_001
TOLERANCE_SHARE = 0.02
TOLERANCE_SECONDS = 0.040  # one delayed ACK (Linux)
PATIENCE_SECONDS = 60.0 if os.environ.get("WEIR_SLOW") else 20.0
# A host's processors are shared: who is put aside for a while measures nonsense. Bytes are never
# given a second try, and neither is anything where time is virtual.
TRIES = 5
# The server's, for what lies in memory. Over a link with a long ping `auto` copies: it would hold memory for as long.
ZEROCOPY = "WEIR_ZEROCOPY"
ZEROCOPY_MODES = ("auto", "on", "off")
TCP_ULP = 31
EXIT_SKIP = 77


@dataclasses.dataclass(frozen=True)
class Cell:
    engine: str
    vendor: str | None  # None: no TLS, and then version and kernel do not matter
    version: str
    kernel: str
    source: str

    @property
    def port_name(self) -> str:
        return f"{self.vendor} {self.version} {self.kernel}" if self.vendor else "plain"

    def __str__(self) -> str:
        return f"{self.engine} {self.port_name} {self.source}"


@dataclasses.dataclass
class Outcome:
    """`status` is "ok", "failed" or "lacking"; `why` says so in words."""

    status: str
    why: str = ""
    off_seconds: float = 0.0  # where the server's time was farthest from the client's ...
    off_share: float = 0.0  # ... and what share of the client's that was
    sources: tuple[str, ...] = ()
    tries: int = 1


Report = Callable[[Cell, Outcome], None]


class Mistimed(Exception):
    """All is right but the time."""


def every_cell() -> list[Cell]:
    protections = [(None, "", "off")]
    protections += [(v, version, k) for v in VENDORS for version in VERSIONS for k in KERNELS]
    return [Cell(engine, *protection, source)
            for engine in ENGINES for protection in protections for source in SOURCES]


def zerocopy_mode() -> str:
    return os.environ.get(ZEROCOPY, ZEROCOPY_MODES[0])


def tour(kernels: Sequence[str]) -> list[Cell]:
    """Each engine with each vendor, and each vendor with each version and kind of kernel TLS."""
    found = []
    for e, engine in enumerate(ENGINES):
        found.append(Cell(engine, None, "", "off", SOURCES[e % 2]))
        for v, vendor in enumerate(VENDORS):
            version = "1.2" if vendor == "mbedtls" else VERSIONS[(e + v + 1) % 2]
            found.append(Cell(engine, vendor, version, kernels[(e + v) % len(kernels)],
                              SOURCES[(e + v // 2) % 2]))
    return found


# ---- where


def tls_counts(lab: Lab | NetemLab) -> dict[str, int]:
    """How many sockets on the server's side the kernel has ever put TLS on."""
    with lab.inside("server"):
        try:
            lines = pathlib.Path("/proc/thread-self/net/tls_stat").read_text().splitlines()
        except FileNotFoundError:
            return {}
    return {name: int(value) for name, value in map(str.split, lines)}


def kernel_tls_lacking() -> str | None:
    """Why this kernel does no TLS, asked of the kernel and not of Weir."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as client:
            try:
                client.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
            except FileNotFoundError:
                return "this kernel has no TLS: no module `tls`, or it is not loaded"
            except OSError as error:
                return f"this kernel gives no TLS: {error.strerror}"
    return None


# ---- the server


class Peer:
    """peer.c, started; what it says, by the client it says it of."""

    def __init__(self, lab: Lab | NetemLab, engine: str, pattern: pathlib.Path, scratch: pathlib.Path):
        scratch.mkdir()
        self.certificate = str(scratch / "certificate.pem")
        self.ports: dict[str, int] = {}
        self.lacking: dict[str, str] = {}
        self._said: dict[str, queue.Queue[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        command = [str(peer_program()), engine, f"{lab.SERVER}:0", str(pattern), str(scratch),
                   zerocopy_mode()]
        self._process = lab.server_exec(command, stdout=subprocess.PIPE, text=True)
        try:
            self._read_ports(engine)
        except BaseException:
            self.stop()
            raise
        threading.Thread(target=self._listen, daemon=True).start()

    def _read_ports(self, engine: str) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            said = json.loads(line)
            if "listen" in said:
                self.ports[said["listen"]] = said["port"]
            elif "lacking" in said:
                self.lacking[said["lacking"]] = said["why"]
            elif said["ready"] != engine:
                raise RuntimeError(f"the server runs on {said['ready']}")
            else:
                return
        raise RuntimeError(f"the server did not start with the engine {engine}")

    def _of(self, client: str) -> queue.Queue[dict[str, Any]]:
        with self._lock:
            return self._said.setdefault(client, queue.Queue())

    def _listen(self) -> None:
        assert self._process.stdout
        with contextlib.suppress(ValueError):  # the pipe was closed by stop()
            for line in self._process.stdout:
                said = json.loads(line)
                self._of(said["client"]).put(said)

    def next(self, client: str) -> dict[str, Any]:
        try:
            return self._of(client).get(timeout=PATIENCE_SECONDS)
        except queue.Empty:
            ended = self._process.poll()
            state = "still runs" if ended is None else f"ended with {ended}"
            raise Mismatch(f"the server said nothing more, and {state}") from None

    def writes(self, client: str) -> list[dict[str, Any]]:
        """What became of each write of one response: of one that the kernel kept longer than the next, later."""
        found: list[dict[str, Any]] = []
        while not any(said["last"] and said["number"] == len(found) for said in found):
            said = self.next(client)
            if "closed" in said:
                raise Mismatch(f"the server's end closed: {said['why']} {said['failure']}".strip())
            if said["error"]:
                raise Mismatch(f"a write failed: {said['error']}")
            found.append(said)
        return sorted(found, key=lambda said: said["number"])

    def closed(self, client: str) -> None:
        said = self.next(client)
        if said.get("closed") != 0:
            why = said.get("why", "a write was told of twice")
            raise Mismatch(f"no good end: {why} {said.get('failure', '')}".strip())

    def stop(self) -> None:
        process_end(self._process)


def peer_program() -> pathlib.Path:
    folder = pathlib.Path(os.environ.get("WEIR_BUILD", ROOT / "build"))
    return folder / "tests" / "matrix" / "peer"


# ---- one cell


@dataclasses.dataclass
class Bytes:
    path: pathlib.Path
    download: bytes
    upload: bytes


def bytes_make(folder: pathlib.Path) -> Bytes:
    """The pattern of peer.c. Random, so that a byte out of place is seen."""
    data = random.Random(320).randbytes(2 * DOWNLOAD_BYTES)
    path = folder / "pattern"
    path.write_bytes(data)
    upload = data[DOWNLOAD_BYTES : DOWNLOAD_BYTES + UPLOAD_BYTES]
    return Bytes(path, data[:DOWNLOAD_BYTES], upload)


def check_protection(cell: Cell, client: Client, said: dict[str, Any]) -> None:
    """Both ends and the kernel must agree on how the connection is protected."""
    wanted = {"vendor": cell.vendor, "version": f"TLSv{cell.version}" if cell.vendor else None,
              "kernel_tx": cell.kernel != "off", "kernel_rx": cell.kernel == "tx+rx"}
    found = {name: said[name] for name in wanted}
    if found != wanted:
        raise Mismatch(f"weir_tls_info says {found}")
    if client.version != said["version"]:
        raise Mismatch(f"the client speaks {client.version}, the server {said['version']}")


def check_counts(cell: Cell, before: dict[str, int], after: dict[str, int]) -> None:
    """The kernel's own count of sockets: TlsTxSw, TlsRxSw."""
    wanted = {"TlsTxSw": int(cell.kernel != "off"), "TlsRxSw": int(cell.kernel == "tx+rx")}
    found = {name: after.get(name, 0) - before.get(name, 0) for name in wanted}
    if found != wanted:
        raise Mismatch(f"/proc/net/tls_stat counts {found}, not {wanted}")
    errors = {name: count for name, count in after.items()
              if "Error" in name and count != before.get(name, 0)}
    if errors:
        raise Mismatch(f"/proc/net/tls_stat counts {errors}")


def check_times(exchange: Exchange, writes: list[dict[str, Any]], outcome: Outcome) -> None:
    """Each write's delivered time against the client's own; the worst goes into `outcome`."""
    late = ""
    previous_ns = 0
    for write in writes:
        server = (write["delivered_ns"] - write["arrived_ns"]) / 1e9
        client = exchange.seconds_until(write["end"])
        off = server - client
        if not write["accepted_ns"] or write["delivered_ns"] < previous_ns:
            raise Mismatch(f"stages out of order: {write}")
        previous_ns = write["delivered_ns"]
        if (write["delivered_ns"] - write["accepted_ns"]) / 1e9 < PING_SECONDS * 0.95 and write["last"]:
            raise Mistimed(f"delivered {server:.3f} s is less than a ping after accepted")
        if write["source"] not in ("tx_ack", "tcp_info"):
            raise Mismatch(f"nobody knows of the delivery: {write['source']}")
        if abs(off) > abs(outcome.off_seconds):
            outcome.off_seconds, outcome.off_share = off, off / client
        if abs(off) > max(TOLERANCE_SHARE * client, TOLERANCE_SECONDS):
            late = (f"byte {write['end']} of {writes[-1]['end']}: delivered after {server:.3f} s,"
                    f" the client had it after {client:.3f} s")
    outcome.sources = tuple(sorted({*outcome.sources, *(write["source"] for write in writes)}))
    if late:
        raise Mistimed(late)


def check_ways(cell: Cell, writes: list[dict[str, Any]]) -> None:
    """With zero copy on, what lies in memory was sent so, or would have been had the kernel not copied."""
    ways = {way for write in writes for way in write["ways"]}
    mode = zerocopy_mode()
    pinned = bool(ways & {"zerocopy", "copied"})
    in_memory = cell.kernel == "off" and (cell.source == "memory" or cell.vendor is not None)
    if (mode == "on" and pinned != in_memory) or (mode == "off" and pinned) or not ways:
        raise Mismatch(f"zero copy {mode}, but sent by {sorted(ways)}")


def cell_try(lab: Lab | NetemLab, peer: Peer, cell: Cell, data: Bytes, outcome: Outcome) -> None:
    """Uploads, downloads, and raises Mismatch or Mistimed."""
    before = tls_counts(lab)
    context = tls_context(peer.certificate, cell.version) if cell.vendor else None
    with Client(lab.connect(peer.ports[cell.port_name], timeout=PATIENCE_SECONDS), context) as client:
        put = client.exchange(b"put %d\n" % len(data.upload), data.upload,
                              b"right %d\n" % len(data.upload))
        put_writes = peer.writes(client.name)
        get = client.exchange(b"get %d %s\n" % (len(data.download), cell.source.encode()), b"",
                              data.download)
        get_writes = peer.writes(client.name)
        client.end()
    peer.closed(client.name)
    check_counts(cell, before, tls_counts(lab))
    for writes in (put_writes, get_writes):
        check_protection(cell, client, writes[-1])
    if [write["end"] for write in get_writes][-1] != len(data.download):
        raise Mismatch("the server tells of other bytes than it was asked for")
    check_ways(cell, get_writes)
    check_times(put, put_writes, outcome)
    check_times(get, get_writes, outcome)


def cell_run(lab: Lab | NetemLab, peer: Peer, cell: Cell, data: Bytes) -> Outcome:
    if cell.port_name in peer.lacking:
        return Outcome("lacking", peer.lacking[cell.port_name])
    if cell.port_name not in peer.ports:
        return Outcome("lacking", f"libweir was built without {cell.vendor}")
    outcome = Outcome("failed")
    for number in range(1, 2 if isinstance(lab, NetemLab) else TRIES + 1):
        outcome = Outcome("failed", outcome.why, tries=number)
        try:
            cell_try(lab, peer, cell, data, outcome)
            outcome.status = "ok"
            return outcome
        except Mistimed as error:
            outcome.why = str(error)
        except (Mismatch, OSError) as error:
            outcome.why = str(error) or type(error).__name__
            return outcome
    return outcome


# ---- many cells


def engine_run(lab: Lab | NetemLab, engine: str, cells: Sequence[Cell], folder: pathlib.Path, data: Bytes,
               report: Report) -> None:
    """All cells of one engine, on one server."""
    lacking = kernel_tls_lacking()
    peer = None
    try:
        for cell in cells:
            if lacking and cell.kernel != "off":
                report(cell, Outcome("lacking", lacking))
                continue
            try:
                peer = peer or Peer(lab, engine, data.path, folder / engine)
            except (OSError, RuntimeError) as error:
                report(cell, Outcome("failed", str(error)))
                continue
            report(cell, cell_run(lab, peer, cell, data))
    finally:
        if peer:
            peer.stop()


def _lab_run(engine: str, cells: Sequence[Cell], folder: pathlib.Path, data: Bytes,
             report: Report) -> None:
    with Lab(ping_ms=PING_SECONDS * 1000) as lab:
        engine_run(lab, engine, cells, folder, data, report)


def cells_run(cells: Sequence[Cell], netem: bool, report: Report) -> None:
    """Runs cells and reports each. On the host the engines run side by side, each on its own link.

    Raises LabUnavailable where there can be no link.
    """
    report = reporting_in_turns(report)
    by_engine = {engine: [cell for cell in cells if cell.engine == engine] for engine in ENGINES}
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weir-matrix-")))
        data = bytes_make(folder)
        if netem:
            lab = stack.enter_context(NetemLab(ping_ms=PING_SECONDS * 1000))
            for engine, chosen in by_engine.items():
                engine_run(lab, engine, chosen, folder, data, report)
            return
        priority_raise()
        failures: list[BaseException] = []

        def run(engine: str) -> None:
            try:
                _lab_run(engine, by_engine[engine], folder, data, report)
            except BaseException as error:  # for the thread that waits
                failures.append(error)

        threads = [threading.Thread(target=run, args=(engine,)) for engine in ENGINES]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]


def reporting_in_turns(report: Report) -> Report:
    """For reports that come from several threads."""
    lock = threading.Lock()

    def in_turn(cell: Cell, outcome: Outcome) -> None:
        with lock:
            report(cell, outcome)

    return in_turn


def outcome_words(outcome: Outcome) -> str:
    words = f"off by {outcome.off_seconds * 1000:+.1f} ms, {outcome.off_share * 100:+.2f} %"
    return words + (f", at try {outcome.tries}; before: {outcome.why}" if outcome.tries > 1 else "")


def report_lines(cell: Cell, outcome: Outcome) -> None:
    """For tests/run."""
    name = f"{cell}, zero copy {zerocopy_mode()}"
    if outcome.status == "ok":
        print(f"PASS: {name}: {outcome_words(outcome)}", flush=True)
    elif outcome.status == "lacking":
        print(f"SKIP: {name}: {outcome.why}", flush=True)
    else:
        print(f"FAIL: {name}: {outcome.why}", flush=True)


def report_json(cell: Cell, outcome: Outcome) -> None:
    print(json.dumps({**dataclasses.asdict(cell), **dataclasses.asdict(outcome)}), flush=True)


def test_tour(netem: bool, zerocopy: Sequence[str]) -> int:
    """What `make test` runs of the matrix, in each of these modes of zero copy. Returns the exit status."""
    kernels = KERNELS if netem else ("off",)
    failed = False

    def report(cell: Cell, outcome: Outcome) -> None:
        nonlocal failed
        if outcome.status == "lacking" and netem and os.environ.get("WEIR_KTLS"):
            outcome.status = "failed"
        failed = failed or outcome.status == "failed"
        report_lines(cell, outcome)

    try:
        for mode in zerocopy:
            os.environ[ZEROCOPY] = mode
            cells_run(tour(kernels), netem, report)
    except LabUnavailable as why:
        print(f"SKIP: the matrix: {why}")
        return EXIT_SKIP
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tour", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--netem", action="store_true")
    parser.add_argument("--only", default="", metavar="WORDS", help="cells that have all these words")
    options = parser.parse_args()
    if not options.netem:
        root_borrow()
    if options.tour:
        return test_tour(options.netem, [zerocopy_mode()])
    words = options.only.split()
    cells = [cell for cell in every_cell() if all(word in str(cell).split() for word in words)]
    try:
        cells_run(cells, options.netem, report_json if options.json else report_lines)
    except LabUnavailable as why:
        print(f"cells.py: {why}", file=sys.stderr)
        return EXIT_SKIP
    return 0


if __name__ == "__main__":
    sys.exit(main())
