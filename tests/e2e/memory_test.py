#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""examples/memory.c on loopback, where the kernel copies what is sent with zero copy.

Its body is replaced all the time, and the old one spoiled once it is released: what arrives must be what the ETag
says. Where zero copy is real is tests/vm/zerocopy_guest_test.py.
"""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import unittest

import support
from lab import ending_with_us, process_end
from memory_support import BODY_BYTES, MEMORY, SECONDS_MAX, WHOLE_RESPONSE, body, fetch, status
from support import each_engine, wait_for

REQUESTS = 40
QUEUE_MAX = 64  # writes that a stream takes
HEAD_MAX = 4096


@each_engine
class MemoryTest(unittest.TestCase):
    engine = ""

    def start(self, *options: str) -> int:
        """Returns the port."""
        command = [MEMORY, "--listen", "127.0.0.1:0", "--engine", self.engine, "--bytes", str(BODY_BYTES), *options]
        self.process = subprocess.Popen(ending_with_us(command), stdout=subprocess.PIPE, text=True)
        self.addCleanup(process_end, self.process)
        assert self.process.stdout
        match = re.fullmatch(r"listening on 127.0.0.1:(\d+), engine (\w+)\n", self.process.stdout.readline())
        assert match
        self.assertEqual(match[2], self.engine)
        return int(match[1])

    def fetch_all(self, port: int) -> None:
        tags = set()
        for tag, bytes_read in fetch("127.0.0.1", port, REQUESTS):
            self.assertEqual(bytes_read, body(tag))
            tags.add(tag)
        self.assertGreater(len(tags), 1)

    def settled(self, port: int) -> dict[str, int]:
        wait_for("all memory to be released", lambda: status("127.0.0.1", port)["pinned_bytes"] == 0)
        return status("127.0.0.1", port)

    def test_on(self) -> None:
        port = self.start("--zerocopy", "on", "--replace-ms", "1")
        self.fetch_all(port)
        found = self.settled(port)
        self.assertGreaterEqual(found["copied"], REQUESTS)
        self.assertEqual(found["used"], 0)

    def test_auto_tries_once(self) -> None:
        port = self.start("--zerocopy", "auto", "--replace-ms", "1")
        self.fetch_all(port)
        found = self.settled(port)
        self.assertEqual((found["used"], found["copied"], found["zerocopy_tried_sends"]), (0, 1, 1))
        self.assertGreaterEqual(found["copy_route_sends"], REQUESTS - 1)

    def test_off(self) -> None:
        port = self.start("--zerocopy", "off", "--replace-ms", "1", "--delivery", "off")
        self.fetch_all(port)
        found = self.settled(port)
        self.assertEqual((found["used"], found["copied"]), (0, 0))
        self.assertGreaterEqual(found["copy_off_sends"], REQUESTS)

    def test_released_once_each(self) -> None:
        port = self.start("--zerocopy", "on", "--log")
        with socket.create_connection(("127.0.0.1", port), SECONDS_MAX) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n" * 3)
            client.shutdown(socket.SHUT_WR)
            while client.recv(1 << 16):
                pass
        assert self.process.stdout
        lines = [self.process.stdout.readline() for _ in range(3)]
        for line in lines:
            self.assertRegex(line, rf"^127\.0\.0\.1:\d+: {WHOLE_RESPONSE}, copied, held for \d+ us$")
        process_end(self.process)

    def test_a_peer_that_resets(self) -> None:
        port = self.start("--zerocopy", "on", "--log")
        client = socket.create_connection(("127.0.0.1", port), SECONDS_MAX)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"GET / HTTP/1.1\r\n\r\n" * 8)
        client.recv(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        assert self.process.stdout
        # What the kernel had taken whole is released as ever, in place too: it was never sent, let alone copied.
        for _ in range(8):
            self.assertRegex(self.process.stdout.readline(),
                             rf": {WHOLE_RESPONSE}, (copied|zerocopy), held|: the peer reset the connection$")
        self.settled(port)

    def test_too_much_at_once(self) -> None:
        port = self.start()
        for request in (b"GET / HTTP/1.1\r\nX: " + b"x" * HEAD_MAX, b"GET / HTTP/1.1\r\n\r\n" * (QUEUE_MAX + 20)):
            with socket.create_connection(("127.0.0.1", port), SECONDS_MAX) as client:
                client.sendall(request)
                with self.assertRaises(ConnectionResetError):
                    while client.recv(1 << 16):
                        pass
        ((_, bytes_read),) = fetch("127.0.0.1", port, 1)
        self.assertEqual(len(bytes_read), BODY_BYTES)


class UsageTest(unittest.TestCase):
    def test_bad_options(self) -> None:
        for options in (["--zerocopy", "maybe"], ["--engine", "steam"], ["--bytes", "0"], ["--delivery", "late"],
                        ["--listen", "nowhere"], ["more"]):
            ended = subprocess.run([MEMORY, *options], capture_output=True, text=True, timeout=SECONDS_MAX)
            self.assertEqual(ended.returncode, 2, options)
            self.assertIn("usage: memory", ended.stderr)


if __name__ == "__main__":
    support.main()
