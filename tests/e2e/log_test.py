#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The access log: one true line for each transaction, whatever became of it."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from typing import Any

import support
from support import Connection, Server, ending_with_us, wait_for

SIZE = 131072
HUGE_BYTES = 64 * 1024 * 1024
LOAD_REQUESTS = 2000 if support.SLOW else 10000

NUMBER, TEXT = "number", "text"
# Every field of the contract: its type, and whether it may be null.
FIELDS: dict[str, tuple[str, bool]] = {
    "time": (TEXT, False),
    "client": (TEXT, False),
    "protocol": (TEXT, True),
    "method": (TEXT, True),
    "host": (TEXT, True),
    "target": (TEXT, True),
    "status": (NUMBER, False),
    "body_bytes": (NUMBER, False),
    "wire_bytes": (NUMBER, False),
    "tls": (TEXT, True),
    "cipher": (TEXT, True),
    "tls_vendor": (TEXT, True),
    "ktls": (TEXT, False),
    "engine": (TEXT, False),
    "send": (TEXT, False),
    "first_byte_us": (NUMBER, True),
    "accepted_us": (NUMBER, True),
    "sent_us": (NUMBER, True),
    "delivered_us": (NUMBER, True),
    "delivered_by": (TEXT, False),
    "delivered_bytes": (NUMBER, False),
    "outcome": (TEXT, True),
    "rtt_us": (NUMBER, True),
    "retransmits": (NUMBER, True),
    "cache": (TEXT, False),
    "upstream_us": (NUMBER, True),
}
# Reads until it is told to stop, says how many bytes its kernel got, and waits to be killed.
CLIENT_PROGRAM = """
import fcntl, socket, struct, sys, termios, time
client = socket.socket()
client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
client.connect(("127.0.0.1", int(sys.argv[1])))
client.sendall(b"GET /huge HTTP/1.1\\r\\nHost: killed\\r\\n\\r\\n")
data = b""
while len(data) < 200000:
    data += client.recv(4096)
time.sleep(float(sys.argv[2]))
unread = struct.unpack("i", fcntl.ioctl(client, termios.FIONREAD, b"0000"))[0]
print(len(data) + unread - data.index(b"\\r\\n\\r\\n") - 4, flush=True)
time.sleep(60)
"""


@support.each_engine
class LogTest(unittest.TestCase):
    engine: str

    def setUp(self) -> None:
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="weir-log-"))
        self.addCleanup(shutil.rmtree, self.root)
        (self.root / "128kb").write_bytes(os.urandom(SIZE))
        (self.root / "1kb").write_bytes(os.urandom(1024))
        support.sparse_file(self.root / "huge", HUGE_BYTES)
        self.server = self.serve()

    def serve(self, *options: str) -> Server:
        server = Server(self.root, *options, engine=self.engine)
        self.addCleanup(server.stop)
        return server

    def assert_contract(self, entry: dict[str, Any]) -> None:
        """What is so in every line, whatever happened."""
        self.assertEqual(sorted(entry), sorted(FIELDS))
        for name, (kind, may_be_null) in FIELDS.items():
            value = entry[name]
            if value is None:
                self.assertTrue(may_be_null, f"{name} is null")
            elif kind == NUMBER:
                self.assertIs(type(value), int, name)
                self.assertGreaterEqual(value, 0, name)
            else:
                self.assertIs(type(value), str, name)
        self.assertRegex(entry["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
        self.assertEqual(entry["engine"], self.engine)
        self.assertIn(entry["send"], ("copy", "zerocopy", "copied", "file"))
        self.assertIn(entry["delivered_by"], ("tx_ack", "tcp_info", "none"))
        self.assertIn(entry["outcome"], ("delivered", "reset", "timeout", "aborted"))
        for name in ("tls", "cipher", "tls_vendor", "upstream_us"):
            self.assertIsNone(entry[name])
        self.assertEqual((entry["ktls"], entry["cache"]), ("none", "none"))
        self.assertLessEqual(entry["delivered_bytes"], entry["body_bytes"])
        delivered = entry["outcome"] == "delivered"
        self.assertEqual(entry["delivered_us"] is not None, delivered)
        if delivered:
            self.assertEqual(entry["delivered_bytes"], entry["body_bytes"])
            self.assertNotEqual(entry["delivered_by"], "none")
            self.assertLessEqual(entry["first_byte_us"], entry["accepted_us"])
            self.assertLessEqual(entry["accepted_us"], entry["delivered_us"])
            if entry["sent_us"] is not None:
                self.assertLessEqual(entry["sent_us"], entry["delivered_us"])

    # Known transactions

    def test_a_known_transaction(self) -> None:
        before = datetime.datetime.now(datetime.timezone.utc)
        with self.server.connect() as client:
            response = client.get("/128kb?a=b")
            elapsed_us = 1e6
            address = "{}:{}".format(*client.channel.getsockname())
        entry = self.server.log()[0]
        self.assert_contract(entry)
        expected = {
            "client": address,
            "protocol": "HTTP/1.1",
            "method": "GET",
            "host": "a.example",
            "target": "/128kb?a=b",
            "status": 200,
            "body_bytes": SIZE,
            "wire_bytes": SIZE + response.head_bytes,
            "delivered_bytes": SIZE,
            "delivered_by": "tx_ack",
            "outcome": "delivered",
        }
        self.assertEqual({name: entry[name] for name in expected}, expected)
        self.assertIn(entry["send"], ("copy", "file"))
        self.assertLess(entry["delivered_us"], elapsed_us * support.PATIENCE)
        self.assertGreater(entry["rtt_us"], 0)
        at = datetime.datetime.fromisoformat(entry["time"].replace("Z", "+00:00"))
        self.assertLess(abs((at - before).total_seconds()), 5)

    def test_transactions_without_a_body(self) -> None:
        with self.server.connect() as client:
            tag = client.get("/128kb")["ETag"]
            client.get("/128kb", "HEAD")
            client.get("/128kb", If_None_Match=tag)
            client.get("/128kb", Range="bytes=0-99")
            missing = client.get("/missing")
        entries = self.server.log(5)
        for entry in entries:
            self.assert_contract(entry)
            self.assertEqual(entry["outcome"], "delivered")
            self.assertGreater(entry["wire_bytes"], entry["body_bytes"])
        facts = [(entry["method"], entry["status"], entry["body_bytes"]) for entry in entries]
        self.assertEqual(
            facts,
            [
                ("GET", 200, SIZE),
                ("HEAD", 200, 0),
                ("GET", 304, 0),
                ("GET", 206, 100),
                ("GET", 404, len(missing.body)),
            ],
        )

    def test_pipelined_transactions_are_told_apart(self) -> None:
        with self.server.connect() as client:
            client.send(
                "".join(f"GET /1kb?{i} HTTP/1.1\r\nHost: a.example\r\n\r\n" for i in range(30))
            )
            for _ in range(30):
                client.response()
            entries = self.server.log(30)
        self.assertEqual([entry["target"] for entry in entries], [f"/1kb?{i}" for i in range(30)])
        for entry in entries:
            self.assert_contract(entry)
            self.assertEqual((entry["outcome"], entry["body_bytes"]), ("delivered", 1024))

    def test_refused_requests_are_logged_too(self) -> None:
        for request in (
            "GET / HTTP/1.1\r\n\r\n",
            "\x16\x03\x01\r\n\r\n",
            "GET /1kb HTTP/1.1\r\nA : b\r\n\r\n",
        ):
            with self.server.connect() as client:
                client.send(request)
                self.assertEqual(client.response().status, 400)
        for entry in self.server.log(3):
            self.assert_contract(entry)
            self.assertEqual(entry["status"], 400)

    def test_the_clock_starts_with_the_request(self) -> None:
        # A keep-alive connection that rests must not be charged to the next transaction.
        with self.server.connect() as client:
            client.get("/1kb")
            time.sleep(0.5)
            client.get("/1kb")
        for entry in self.server.log(2):
            self.assertLess(entry["delivered_us"], 450_000 * support.PATIENCE)

    def test_the_clock_runs_while_the_request_comes(self) -> None:
        with self.server.connect() as client:
            client.send("GET /1kb HTTP/1.1\r\n")
            time.sleep(0.3)
            client.send("Host: a.example\r\n\r\n")
            client.response()
        entry = self.server.log()[0]
        self.assertGreater(entry["first_byte_us"], 290_000)

    def test_delivery_off_says_so(self) -> None:
        server = self.serve("--delivery", "off")
        server.get("/128kb")
        entry = server.log()[0]
        unknown = (entry["delivered_by"], entry["delivered_us"], entry["outcome"])
        self.assertEqual(unknown, ("none", None, None))
        self.assertEqual((entry["status"], entry["body_bytes"]), (200, SIZE))

    # One line for each transaction

    def settled_log(self, server: Server) -> list[dict[str, Any]]:
        """All lines, once no more come. The contract is checked on a thousand of them."""
        size = -1
        while size != server.log_path.stat().st_size:
            size = server.log_path.stat().st_size
            time.sleep(0.4 * support.PATIENCE)
        entries = [json.loads(line.decode()) for line in server.log_lines()]
        for entry in entries[:: len(entries) // 1000 + 1]:
            self.assert_contract(entry)
        return entries

    def dropped_lines(self) -> int:
        """Where the log's thread gets no processor for long, lines are dropped; each is counted."""
        said = re.findall(r"(\d+) lines dropped so far", self.server.error_path.read_text())
        return int(said[-1]) if said else 0

    def test_h2load(self) -> None:
        program = support.need_program("h2load")
        said = subprocess.run(
            [program, "-n", str(LOAD_REQUESTS), "-c", "10", "--h1", self.server.url("/128kb")],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        self.assertIn(f"{LOAD_REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout", said)
        entries = self.settled_log(self.server)
        self.assertEqual(len(entries) + self.dropped_lines(), LOAD_REQUESTS)
        self.assertEqual({entry["outcome"] for entry in entries}, {"delivered"})
        self.assertEqual({entry["delivered_bytes"] for entry in entries}, {SIZE})

    def test_wrk(self) -> None:
        program = support.need_program("wrk")
        said = subprocess.run(
            [
                program,
                "-c",
                "1000",
                "-t",
                "1",
                "-d",
                f"{3 * support.PATIENCE:g}s",
                "--timeout",
                "30s",
                self.server.url("/1kb"),
            ],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        self.assertNotIn("Socket errors", said)
        self.assertNotIn("Non-2xx", said)
        completed = int(re.findall(r"(\d+) requests in", said)[0])
        self.assertGreater(completed, 0)
        entries = self.settled_log(self.server)
        self.assertGreaterEqual(len(entries) + self.dropped_lines(), completed)
        # wrk leaves at most one request on each connection when its time is over.
        self.assertLessEqual(len(entries), completed + 1000)
        undelivered = [entry for entry in entries if entry["outcome"] != "delivered"]
        self.assertLessEqual(len(undelivered), 1000)
        for entry in undelivered:
            self.assert_contract(entry)
        self.assertIsNone(self.server.process.poll())

    # The file

    def test_combined(self) -> None:
        server = self.serve("--log-format", "combined")
        with server.connect() as client:
            client.get("/128kb", Referer='http://b.example/"x"', User_Agent="agent/1.0")
        lines = wait_for("a line", server.log_lines)
        self.assertRegex(
            lines[0].decode(),
            r"^127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "
            rf'"GET /128kb HTTP/1\.1" 200 {SIZE} "http://b\.example/[^ ]*" "agent/1\.0" \d+\.\d+$',
        )
        self.assertEqual(
            len(re.findall(r'(?<!\\)"', lines[0].decode())), 6, "a quote must be escaped"
        )

    def test_reopened(self) -> None:
        server, moved = self.server, self.server.folder / "access.log.1"
        count, deadline = 0, time.monotonic() + 10 * support.PATIENCE

        def ask(times: int) -> None:
            nonlocal count
            for _ in range(times):
                client.get(f"/1kb?{count}")
                count += 1

        with server.connect() as client:
            ask(1000)
            os.rename(server.log_path, moved)
            server.signal(signal.SIGUSR1)
            # Lines come while the file is changed, and after it.
            while not server.log_path.exists():
                self.assertLess(time.monotonic(), deadline, "the new file was not opened")
                ask(10)
            ask(1000)
        wait_for(
            "all lines",
            lambda: len(server.log_lines(moved)) + len(server.log_lines()) >= count,
        )
        lines = server.log_lines(moved) + server.log_lines()
        targets = [json.loads(line)["target"] for line in lines]
        self.assertEqual(targets, [f"/1kb?{i}" for i in range(count)])
        self.assertGreaterEqual(len(server.log_lines()), 1000)

    def test_odd_bytes_stay_valid_json(self) -> None:
        odd = [
            '/a"b',
            "/a\\b",
            "/a%22b",
            "/a\x7fb",
            "/caf\xe9",
            "/\xc3\xa9",
            "/\xff\xfe",
            "/a<b>'c",
            "/a%0ab",
        ]
        hosts = ['a"b', "a\\b", "\xff", "\xc3\xa9", "<b>"]
        requests = [f"GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n" for target in odd]
        requests += [f"GET /1kb HTTP/1.1\r\nHost: {host}\r\n\r\n" for host in hosts]
        sent = {}
        for request in requests:
            with self.server.connect() as client:
                client.send(request)
                address = "{}:{}".format(*client.channel.getsockname())
                sent[address] = (client.response().status, request.split(" ")[1])
        for entry in self.server.log(len(requests)):
            self.assert_contract(entry)
            status, target = sent.pop(entry["client"])
            self.assertEqual(entry["status"], status)
            if status != 400 and target.isascii():
                self.assertEqual(entry["target"], target)
        self.assertEqual(sent, {})

    def test_a_connection_beyond_4_gib(self) -> None:
        # The kernel's stamps count in 32 bits. The rest between requests keeps the server asking for
        # them: a client that answers soon needs none.
        if support.SLOW:
            self.skipTest("4 GiB are too many for a sanitizer's build")
        count = (1 << 32) // HUGE_BYTES + 2
        with self.server.connect() as client:
            for i in range(count):
                client.request(f"/huge?{i}")
                client.head()
                client.discard(HUGE_BYTES)
                time.sleep(0.06)
        entries = self.server.log(count)
        self.assertEqual([entry["target"] for entry in entries], [f"/huge?{i}" for i in range(count)])
        for entry in entries:
            self.assert_contract(entry)
            self.assertEqual((entry["outcome"], entry["body_bytes"]), ("delivered", HUGE_BYTES))
            self.assertLess(entry["delivered_us"], 2_000_000)
        self.assertEqual({entry["delivered_by"] for entry in entries[-3:]}, {"tx_ack"})

    # Clients that go away

    def assert_reset_at(self, entry: dict[str, Any], body_bytes: int) -> None:
        self.assert_contract(entry)
        self.assertEqual(entry["outcome"], "reset")
        self.assertGreater(body_bytes, 0)
        self.assertLess(body_bytes, HUGE_BYTES)
        self.assertEqual(entry["delivered_bytes"], body_bytes)
        self.assertEqual(entry["status"], 200)
        self.assertLess(entry["body_bytes"], HUGE_BYTES)  # what the kernel had taken of it

    def read_and_rest(self, client: Connection, target: str) -> int:
        """Reads some, stops, and returns how many bytes of the body the client's kernel has got."""
        client.request(target)
        head = client.head()
        client.take(100_000)
        return client.wait_until_quiet() - head.head_bytes

    def test_a_reset_is_exact(self) -> None:
        # Nothing moves any more when the RST comes, so both kernels agree on every byte.
        with self.server.connect(receive_bytes=32768) as client:
            body_bytes = self.read_and_rest(client, "/huge")
            client.reset()
        self.assert_reset_at(self.server.log_of("/huge"), body_bytes)

    def test_a_reset_behind_other_responses_is_exact(self) -> None:
        with self.server.connect(receive_bytes=32768) as client:
            earlier = [client.get("/128kb") for _ in range(3)]
            body_bytes = self.read_and_rest(client, "/huge")
            body_bytes -= sum(response.head_bytes + SIZE for response in earlier)
            client.reset()
        self.assert_reset_at(self.server.log_of("/huge"), body_bytes)
        outcomes = [entry["outcome"] for entry in self.server.log(4)]
        self.assertEqual(outcomes, ["delivered"] * 3 + ["reset"])

    def test_a_reset_with_requests_waiting(self) -> None:
        with self.server.connect(receive_bytes=32768) as client:
            client.send("".join(f"GET /huge?{i} HTTP/1.1\r\nHost: a\r\n\r\n" for i in range(3)))
            head = client.head()
            client.take(100_000)
            body_bytes = client.wait_until_quiet() - head.head_bytes
            client.reset()
        self.assert_reset_at(self.server.log_of("/huge?0"), body_bytes)
        for entry in self.server.log(1):
            self.assert_contract(entry)
            if entry["target"] != "/huge?0":
                self.assertEqual((entry["outcome"], entry["delivered_bytes"]), ("reset", 0))

    def test_a_killed_client_is_exact(self) -> None:
        rest = str(0.8 * support.PATIENCE)
        command = [sys.executable, "-c", CLIENT_PROGRAM, str(self.server.port), rest]
        with subprocess.Popen(ending_with_us(command), stdout=subprocess.PIPE) as client:
            assert client.stdout
            body_bytes = int(client.stdout.readline())
            client.kill()
        self.assert_reset_at(self.server.log_of("/huge"), body_bytes)

    def test_a_client_that_leaves_with_a_fin(self) -> None:
        # With bytes unread its kernel sends a RST; without, a FIN, and a RST for what follows.
        with self.server.connect(receive_bytes=32768) as client:
            client.request("/huge")
            client.head()
            client.take(100_000)
        entry = self.server.log_of("/huge")
        self.assert_contract(entry)
        self.assertEqual(entry["outcome"], "reset")
        self.assertGreaterEqual(entry["delivered_bytes"], 100_000)


if __name__ == "__main__":
    support.main()
