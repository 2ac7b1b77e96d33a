#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Zero copy where it is real: from the guest's memory to a device that reads it there (see route.py).

The server is in the guest, the client at the other end of the device. The device's queue holds what is sent for
DELAY_MS, so that memory which is given back too early would be seen to have changed: examples/memory.c replaces its
body all the time, spoils the old one when it is released, and says by the ETag which one it sent. On loopback the
kernel copies, and says so: the same server must find out about both.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from typing import Any

for folder in ("lab", "e2e"):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / folder))
import route  # noqa: E402
from lab import ending_with_us, process_end  # noqa: E402
from memory_support import BODY_BYTES, MEMORY, WEIR, WHOLE_RESPONSE, body, body_sum, fetch, status  # noqa: E402

ENGINES = ("io_uring", "epoll", "poll")
LOOPBACK = "127.0.0.1"
DELAY_MS = 10
REQUESTS = 4
ROUNDS_MAX = 5  # a host that is so busy that round trips are long makes auto copy
PATIENCE_SECONDS = 20.0


def device() -> str | None:
    """The device that leads to the client. Nobody else's is ever touched: only vm.py sets the variable."""
    wanted = os.environ.get("WEIR_VM_ROUTE")
    for path in pathlib.Path("/sys/class/net").iterdir() if wanted else ():
        if (path / "address").read_text().strip() == wanted:
            return path.name
    return None


def lacking() -> str | None:
    """Why there is nothing to test here."""
    if device():
        return None
    return "no network device that leads to a tap: " + os.environ.get("WEIR_VM_NO_ROUTE", "tests/vm/vm.py --route has one")


def setUpModule() -> None:
    name = device()
    if not name:
        return
    for command in (f"ip address replace {route.GUEST}/{route.PREFIX_BITS} dev {name}", f"ip link set {name} up",
                    f"tc qdisc replace dev {name} root netem delay {DELAY_MS}ms limit 100000"):
        subprocess.run(command.split(), check=True)


def tearDownModule() -> None:
    name = device()
    if name:
        subprocess.run(["ip", "link", "set", name, "down"], check=True)


class Program:
    """A server, until the test's end. Its standard output goes to `output`."""

    def __init__(self, test: unittest.TestCase, command: list[str], ports: list[tuple[str, int]]):
        folder = tempfile.TemporaryDirectory(prefix="weir-zerocopy-")
        test.addCleanup(folder.cleanup)
        self.output = pathlib.Path(folder.name) / "output"
        with open(self.output, "wb") as output:
            process = subprocess.Popen(ending_with_us(command), stdout=output, stderr=subprocess.STDOUT)
        test.addCleanup(process_end, process)
        deadline = time.monotonic() + PATIENCE_SECONDS
        for address in ports:
            while True:
                try:
                    socket.create_connection(address, 1).close()
                    break
                except OSError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise AssertionError(f"{command}: {self.output.read_text()}") from None
                    time.sleep(0.02)

    def lines(self, pattern: str, count: int) -> list[tuple[str, ...]]:
        """What `pattern` finds in the output, once that is `count` times."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            found = re.findall(pattern, self.output.read_text(), re.M)
            if len(found) >= count or time.monotonic() > deadline:
                return found
            time.sleep(0.02)


def order(**words: Any) -> list[dict[str, str]]:
    """Has the client at the other end do something."""
    with socket.create_connection((route.HOST, route.PORT), PATIENCE_SECONDS) as client:
        client.sendall(json.dumps({"tls": False, "target": "/", "count": REQUESTS, **words}).encode() + b"\n")
        answer = json.loads(client.makefile().readline())
    if "error" in answer:
        raise AssertionError(answer["error"])
    return answer["bodies"]


class ZerocopyTest:
    """On one engine. The subclasses are made below."""

    engine = ""
    port = 7100

    def setUp(self) -> None:
        ZerocopyTest.port += 1  # a fresh one: the last server's connections may still be ending

    def tell(self, what: str, zerocopy: str, used: int, copied: int, held_ms: list[float]) -> None:
        """For docs/talk.md."""
        print("\n" + json.dumps({"engine": self.engine, "what": what, "zerocopy": zerocopy, "used": used,
                                 "copied": copied, "held_ms": held_ms}), flush=True)

    # memory.c

    def start_memory(self, zerocopy: str) -> Program:
        command = [MEMORY, "--listen", f":{self.port}", "--bytes", str(BODY_BYTES), "--zerocopy", zerocopy,
                   "--engine", self.engine, "--replace-ms", "3", "--log"]
        return Program(self, command, [(LOOPBACK, self.port)])

    def order_bodies(self) -> None:
        bodies = order(port=self.port)
        self.assertEqual(len(bodies), REQUESTS)
        for found in bodies:
            self.assertEqual(found["sha256"], body_sum(found["etag"]))

    def released(self, program: Program, peer: str, count: int) -> list[tuple[str, float]]:
        """(way, milliseconds held) of each response to `peer`: as many as there were, each once."""
        pattern = rf"^{re.escape(peer)}:\d+: {WHOLE_RESPONSE}, (\w+), held for (\d+) us"
        found = program.lines(pattern, count)
        self.assertEqual(len(found), count)
        return [(way, int(held_us) / 1000) for way, held_us in found]

    def test_memory_on(self) -> None:
        program = self.start_memory("on")
        self.order_bodies()
        released = self.released(program, route.HOST, REQUESTS)
        for way, held_ms in released:
            self.assertEqual(way, "zerocopy")
            self.assertGreaterEqual(held_ms, DELAY_MS)  # the notice comes with the acknowledgement
        order(port=self.port, reset=True)
        pattern = rf"^{re.escape(route.HOST)}:\d+: .*$"
        self.assertEqual(len(program.lines(pattern, REQUESTS + 1)), REQUESTS + 1)
        found = status(LOOPBACK, self.port)
        self.assertEqual((found["copied"], found["refused"], found["pinned_bytes"]), (0, 0, 0))
        self.assertGreaterEqual(found["used"], REQUESTS)
        self.tell("memory.c, plain", "on", found["used"], found["copied"], [held_ms for _, held_ms in released])

    def test_memory_auto(self) -> None:
        program = self.start_memory("auto")
        far, rounds = {"zerocopy_pays_sends": 0}, 0
        while far["zerocopy_pays_sends"] == 0 and rounds < ROUNDS_MAX:
            self.order_bodies()
            far, rounds = status(LOOPBACK, self.port), rounds + 1
        released = self.released(program, route.HOST, rounds * REQUESTS)
        self.assertGreater(far["zerocopy_pays_sends"], 0)
        self.assertIn("zerocopy", [way for way, _ in released])
        self.assertEqual(far["copied"], 0)
        self.tell("memory.c, plain", "auto", far["used"], far["copied"],
                  [held_ms for way, held_ms in released if way == "zerocopy"])

        for tag, bytes_read in fetch(LOOPBACK, self.port, REQUESTS):
            self.assertEqual(bytes_read, body(tag))
        ways = [way for way, _ in self.released(program, LOOPBACK, REQUESTS)]
        self.assertEqual(ways[-1], "copy", ways)
        near = status(LOOPBACK, self.port)
        self.assertEqual(near["copied"], 1)  # to find out
        self.assertGreater(near["copy_route_sends"], 0)
        self.assertEqual(near["pinned_bytes"], 0)
        self.tell("memory.c, plain, to loopback", "auto", near["used"] - far["used"], near["copied"], [])

    # TLS in user space: what is pinned are the records, which are made anew for each response.

    def start_tls(self, zerocopy: str) -> tuple[Program, str]:
        folder = tempfile.TemporaryDirectory(prefix="weir-zerocopy-")
        self.addCleanup(folder.cleanup)
        body = os.urandom(BODY_BYTES)
        (pathlib.Path(folder.name) / "body").write_bytes(body)
        command = [str(WEIR), "serve", folder.name, "--listen-tls", f"0.0.0.0:{self.port}", "--ktls", "off",
                   "--zerocopy", zerocopy, "--engine", self.engine, "--threads", "1", "--access-log", "-"]
        return Program(self, command, [(LOOPBACK, self.port)]), hashlib.sha256(body).hexdigest()

    def sends(self, program: Program, wanted: str, rounds: int) -> list[str]:
        """How each response went by the log, once the client has had `rounds` times REQUESTS in all."""
        bodies = order(port=self.port, tls=True, target="/body")
        self.assertEqual([found["sha256"] for found in bodies], [wanted] * REQUESTS)
        pattern = rf'^{{.*"client":"{re.escape(route.HOST)}:\d+".*"send":"(\w+)"'
        found = program.lines(pattern, rounds * REQUESTS)
        self.assertEqual(len(found), rounds * REQUESTS)
        return found

    def test_tls_on(self) -> None:
        sends = self.sends(*self.start_tls("on"), 1)
        self.assertEqual(sends, ["zerocopy"] * REQUESTS)
        self.tell("weir, TLS (responses)", "on", sends.count("zerocopy"), sends.count("copied"), [])

    def test_tls_auto(self) -> None:
        server = self.start_tls("auto")
        sends, rounds = ["copy"], 0
        while sends[-1] == "copy" and rounds < ROUNDS_MAX:
            rounds += 1
            sends = self.sends(*server, rounds)
        self.assertEqual(sends[-1], "zerocopy")
        self.tell("weir, TLS (responses)", "auto", sends.count("zerocopy"), sends.count("copied"), [])


for engine_name in ENGINES:
    variant = type(f"Zerocopy_{engine_name}", (ZerocopyTest, unittest.TestCase), {"engine": engine_name})
    globals()[variant.__name__] = unittest.skipIf(lacking(), lacking() or "")(variant)
del variant  # or unittest would find the last one twice

if __name__ == "__main__":
    unittest.main(verbosity=2)
