#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Limits: a slow or silent peer, or too many of them, cost their own connections only."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import signal
import tempfile
import threading
import time
import unittest
from collections.abc import Iterator
from typing import Any

import support
from support import Connection, Server, wait_for

HUGE_BYTES = 64 * 1024 * 1024
LARGE_BYTES = 1_500_000
OWED_BYTES = 150_000  # the kernel takes it though the client does not
SMALL = b"hello\n"
# A timeout may come that much late, or early by the grain of a timer.
LATE_SECONDS = 1.0
EARLY_SECONDS = 0.05


@support.each_engine
class LimitsTest(unittest.TestCase):
    engine: str
    root: pathlib.Path

    @classmethod
    def setUpClass(cls) -> None:
        cls.root = pathlib.Path(tempfile.mkdtemp(prefix="weir-limits-"))
        cls.addClassCleanup(shutil.rmtree, cls.root)
        (cls.root / "small").write_bytes(SMALL)
        support.sparse_file(cls.root / "huge", HUGE_BYTES)
        support.sparse_file(cls.root / "large", LARGE_BYTES)
        support.sparse_file(cls.root / "owed", OWED_BYTES)

    def serve(self, *options: str) -> Server:
        server = Server(self.root, *options, engine=self.engine)
        self.addCleanup(server.stop)
        return server

    @contextlib.contextmanager
    def assert_takes(self, seconds: float) -> Iterator[None]:
        began = time.monotonic()
        yield
        elapsed = time.monotonic() - began
        self.assertGreater(elapsed, seconds - EARLY_SECONDS)
        self.assertLess(elapsed, (seconds + LATE_SECONDS) * support.PATIENCE)

    def assert_timed_out(self, client: Connection) -> None:
        """The connection ends: in silence, or after saying 408."""
        client.channel.settimeout(10 * support.PATIENCE)
        try:
            self.assertEqual(client.response().status, 408)
        except (EOFError, ConnectionResetError):
            return
        self.assertTrue(client.ended())

    def test_a_connection_that_never_speaks(self) -> None:
        server = self.serve("--header-timeout", "0.5", "--idle-timeout", "0.5")
        with server.connect() as client, self.assert_takes(0.5):
            self.assert_timed_out(client)

    def test_a_header_that_stops_is_answered_and_logged_once(self) -> None:
        server = self.serve("--header-timeout", "0.5")
        with server.connect() as client:
            client.send("GET /small HTTP/1.1\r\nHost: a\r\nUser-")
            response = client.response()
            self.assertEqual((response.status, response["Connection"]), (408, "close"))
            # The answer ends the connection, however long the client keeps its side open.
            self.assertTrue(client.ended())
            time.sleep(1.2 * support.PATIENCE)
        self.assertEqual(server.get("/other").status, 404)
        entries = [(entry["target"], entry["status"]) for entry in server.log(2)]
        self.assertEqual(entries, [("/small", 408), ("/other", 404)])

    def test_a_header_that_never_ends(self) -> None:
        server = self.serve("--header-timeout", "0.8")
        with server.connect() as client:
            stop = threading.Event()

            def trickle() -> None:
                with contextlib.suppress(OSError):
                    client.send("GET /small HTTP/1.1\r\nHost: a\r\n")
                    while not stop.wait(0.1):
                        client.send("A: b\r\n")

            thread = threading.Thread(target=trickle)
            thread.start()
            try:
                with self.assert_takes(0.8):
                    self.assert_timed_out(client)
            finally:
                stop.set()
                thread.join()
        self.assertEqual(server.get("/small").body, SMALL)

    def test_a_header_that_stops(self) -> None:
        # What had come of it is answered and logged, wherever its beginning is kept by then.
        whole = "GET /small?whole HTTP/1.1\r\nHost: a\r\n\r\n"
        begun = "GET /small?begun HTTP/1.1\r\nHost: a\r\nUser-Age"
        packets = ([begun], [begun[:20], begun[20:]], [whole[:30], whole[30:] + begun])
        server = self.serve("--header-timeout", "0.5")
        for count, pieces in enumerate((*packets, [whole, begun], [whole + begun]), 1):
            with server.connect() as client:
                for piece in pieces:
                    client.send(piece)
                    time.sleep(0.1)
                if len("".join(pieces)) > len(begun):
                    self.assertEqual(client.response().body, SMALL)
                self.assertEqual(client.response().status, 408)
                self.assertTrue(client.ended())

            def refused() -> list[Any]:
                lines = [json.loads(line) for line in server.log_lines()]
                return [line for line in lines if line["status"] == 408]

            wait_for("the line of the refused request", lambda: len(refused()) == count)
            for entry in refused():
                told = [entry[name] for name in ("method", "target", "outcome")]
                self.assertEqual(told, ["GET", "/small?begun", "delivered"])

    def test_the_header_clock_starts_with_each_request(self) -> None:
        server = self.serve("--header-timeout", "0.6", "--idle-timeout", "5")
        with server.connect() as client:
            for _ in range(4):
                self.assertEqual(client.get("/small").body, SMALL)
                time.sleep(0.4)

    def test_idle(self) -> None:
        server = self.serve("--idle-timeout", "0.5")
        with server.connect() as client:
            self.assertEqual(client.get("/small").body, SMALL)
            with self.assert_takes(0.5):
                self.assertTrue(client.ended())

    def test_idle_does_not_cut_a_transfer(self) -> None:
        server = self.serve("--idle-timeout", "0.3", "--header-timeout", "0.3")
        with server.connect(receive_bytes=32768) as client:
            client.request("/huge")
            client.head()
            for _ in range(20):
                client.take(100_000)
                time.sleep(0.05)
            self.assertEqual(len(client.take(HUGE_BYTES - 2_000_000)), HUGE_BYTES - 2_000_000)

    def test_a_body_that_never_comes(self) -> None:
        server = self.serve("--body-timeout", "0.5")
        with server.connect() as client, self.assert_takes(0):
            client.send("POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nabc")
            client.channel.settimeout(5 * support.PATIENCE)
            self.assertIn(client.response().status, (405, 408))
            self.assertTrue(client.ended(3))

    def test_a_broken_body_ends_the_connection_at_once(self) -> None:
        server = self.serve("--max-connections", "1", "--threads", "1")
        with server.connect() as client:
            head = "POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            client.send(head + "no size")
            self.assertEqual(client.response().status, 405)
            self.assertTrue(client.ended())
            # It waits for the client's FIN a little while, and not for more of a body it cannot read.
            with self.assert_takes(2):
                self.assertEqual(server.get("/small").body, SMALL)

    def test_a_reader_that_stops(self) -> None:
        server = self.serve("--send-timeout", "1.5")
        with server.connect(receive_bytes=32768) as client:
            client.request("/huge")
            head = client.head()
            client.take(100_000)
            body_bytes = client.wait_until_quiet(0.3) - head.head_bytes
            entry = server.log_of("/huge")
            self.assertEqual((entry["outcome"], entry["delivered_us"]), ("timeout", None))
            self.assertEqual(entry["delivered_bytes"], body_bytes)
            client.drain()
        self.assertEqual(server.get("/small").body, SMALL)

    def test_a_reader_below_the_minimum_rate(self) -> None:
        # It takes something all the time, but only a hundredth of its due.
        server = self.serve("--min-rate", "1000000", "--send-timeout", "1")
        with server.connect(receive_bytes=16384) as client:
            client.request("/huge")
            client.head()

            def cut_off() -> bool:
                with contextlib.suppress(ConnectionResetError, EOFError):
                    client.take(500)
                return bool(server.log_lines())

            wait_for("the server to lose patience", cut_off, 4)
        entry = server.log_of("/huge")
        self.assertEqual(entry["outcome"], "timeout")
        self.assertLess(entry["delivered_bytes"], HUGE_BYTES)

    def test_a_reader_whom_the_kernel_still_owes_the_response_before(self) -> None:
        # Without delivery a response is over when the kernel has it, long before the client does.
        server = self.serve("--delivery", "off", "--min-rate", "100000", "--send-timeout", "1")
        with server.connect(receive_bytes=65536) as client:
            client.request("/owed")
            server.log_of("/owed")
            client.request("/huge")
            began = time.monotonic()
            while time.monotonic() - began < 2.5:
                self.assertTrue(client.receive_some(12_500))
                time.sleep(0.1)
            client.reset()
        self.assertEqual(server.log_of("/huge")["outcome"], "reset")

    def test_a_reader_above_the_minimum_rate(self) -> None:
        server = self.serve("--min-rate", "50000", "--send-timeout", "1")
        with server.connect(receive_bytes=65536) as client:
            client.request("/huge")
            client.head()
            began = time.monotonic()
            while time.monotonic() - began < 4:
                client.take(50_000)
                time.sleep(0.1)
            client.reset()
        self.assertEqual(server.log_of("/huge")["outcome"], "reset")

    def test_long_heads_fill_the_pipeline_sooner(self) -> None:
        server = self.serve()
        with server.connect(receive_bytes=16384) as client:
            client.channel.settimeout(0.5 * support.PATIENCE)
            with contextlib.suppress(TimeoutError):
                for _ in range(60):
                    client.request("/huge", Referer="r" * 30_000)
            client.wait_until_quiet()
            client.reset()
        # Each that was begun has a line. Two are below the bound of 64 KiB, the third reaches it.
        self.assertEqual(server.get("/small").body, SMALL)
        entries = sorted(entry["target"] for entry in server.log(4))
        self.assertEqual(entries, ["/huge"] * 3 + ["/small"])

    def test_the_connection_limit(self) -> None:
        server = self.serve("--max-connections", "3", "--threads", "1")
        clients = [server.connect() for _ in range(3)]
        for client in clients:
            self.assertEqual(client.get("/small").body, SMALL)

        extra = server.connect()
        extra.request("/small")
        extra.channel.settimeout(0.5)
        try:
            refused = extra.response().status == 503
        except TimeoutError:
            refused = False  # it waits in the backlog
        except (EOFError, ConnectionResetError):
            refused = True
        clients[0].channel.close()
        if refused:
            extra.channel.close()
            wait_for("a place", lambda: server.get("/small").body == SMALL)
        else:
            extra.channel.settimeout(5 * support.PATIENCE)
            self.assertEqual(extra.response().body, SMALL)
            extra.channel.close()
        for client in clients[1:]:
            self.assertEqual(client.get("/small").body, SMALL)
            client.channel.close()

    def test_all_that_wait_at_the_limit_have_their_turn(self) -> None:
        server = self.serve("--max-connections", "2", "--threads", "1")
        holders = [server.connect() for _ in range(2)]
        for holder in holders:
            self.assertEqual(holder.get("/small").body, SMALL)
        waiting = [server.connect() for _ in range(40)]
        for client in waiting:
            client.request("/small", Connection="close")
        waiting[5].reset()
        # Time for an engine that accepts them all to have done so.
        time.sleep(0.2)
        for holder in holders:
            holder.channel.close()
        for client in waiting[:5] + waiting[6:]:
            self.assertEqual(client.response().body, SMALL)
            client.channel.close()
        self.assertEqual(server.get("/small").body, SMALL)

    def test_term_ends_what_waits_at_the_limit(self) -> None:
        for number in (signal.SIGTERM, signal.SIGQUIT):
            server = self.serve("--max-connections", "1", "--threads", "1")
            clients = [server.connect() for _ in range(10)]
            self.assertEqual(clients[0].get("/small").body, SMALL)
            server.signal(number)
            for client in clients:
                self.assertTrue(client.ended())
                client.channel.close()
            self.assertEqual(server.wait(), 0)

    @staticmethod
    def unacknowledged(server: Server) -> int:
        """Bytes that the kernel holds for the server's one connection (tx_queue in proc(5))."""
        for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[1].split(":")[1], 16) == server.port and fields[3] == "01":
                return int(fields[4].split(":")[0], 16)
        raise AssertionError("no connection")

    def held(self, server: Server) -> int:
        """What it holds in the end, when neither side gets any further."""
        before = -1
        while (now := self.unacknowledged(server)) != before:
            before = now
            time.sleep(0.3 * support.PATIENCE)
        return now

    def test_the_kernel_holds_little_for_who_reads_nothing(self) -> None:
        server = self.serve()
        with server.connect(receive_bytes=16384) as client:
            client.request("/huge")
            client.head()
            # The bound, and one packet of loopback's.
            self.assertLess(self.held(server), (128 + 64) * 1024)
        with server.connect() as client:
            client.request("/huge")
            client.head()
            client.take(24 * 1024 * 1024)
            if not support.SLOW:  # one that is fast fills the whole buffer
                self.assertGreater(self.held(server), 256 * 1024)

    def test_slow_readers_do_not_slow_the_others(self) -> None:
        server = self.serve()
        slow = []
        for _ in range(200):
            client = server.connect(receive_bytes=8192)
            client.request("/huge")
            slow.append(client)
        with server.connect() as client:
            client.get("/small")
            seconds = []
            for _ in range(50):
                began = time.monotonic()
                self.assertEqual(client.get("/small").body, SMALL)
                seconds.append(time.monotonic() - began)
        self.assertLess(sorted(seconds)[25], 0.05 * support.PATIENCE)
        self.assertLess(max(seconds), 2 * support.PATIENCE)
        for reader in slow:
            reader.head()
            reader.reset()
        outcomes = [
            entry["outcome"] for entry in server.log(51 + 200) if entry["target"] == "/huge"
        ]
        self.assertEqual(outcomes, ["reset"] * 200)

    def test_nothing_is_left_of_connections(self) -> None:
        server = self.serve()
        before = self.socket_count(server)
        for i in range(200):
            client = server.connect(receive_bytes=8192)
            client.request(("/huge", "/small", "/missing")[i % 3])
            if i % 2:
                client.head()
            client.reset() if i % 5 else client.channel.close()
        wait_for("all to be closed", lambda: self.socket_count(server) == before)

    @staticmethod
    def socket_count(server: Server) -> int:
        links = []
        for link in pathlib.Path(f"/proc/{server.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(link))
        return sum(link.startswith("socket:") for link in links)

    def test_who_asks_for_the_close_is_not_waited_for(self) -> None:
        for delivery in ("on", "off"):
            server = self.serve("--delivery", delivery)
            before = self.socket_count(server)
            clients = [server.connect() for _ in range(50)]
            begin = time.monotonic()
            for client in clients:
                client.get("/small", Connection="close")
                self.assertTrue(client.ended())
            wait_for("the server to close", lambda s=server: self.socket_count(s) == before)
            # Else each would wait for its client's end as long as it may: two seconds.
            self.assertLess(time.monotonic() - begin, 1.5 * support.PATIENCE)
            for client in clients:
                client.channel.close()

    def test_more_than_the_last_request_costs_nobody_the_response(self) -> None:
        server = self.serve()
        for _ in range(20):
            with server.connect() as client:
                head = "GET /small HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
                client.send(head + "x" * 5000)
                self.assertEqual(client.response().status, 200)
                self.assertTrue(client.ended())

    def test_slow_senders_do_not_slow_the_others(self) -> None:
        server = self.serve()
        slow = [server.connect() for _ in range(200)]
        for client in slow:
            client.send("GET /small HTTP/1.1\r\nHo")
        began = time.monotonic()
        self.assertEqual(server.get("/small").body, SMALL)
        self.assertLess(time.monotonic() - began, 1 * support.PATIENCE)
        for client in slow:
            client.send("st: a\r\n\r\n")
        for client in slow:
            self.assertEqual(client.response().body, SMALL)
            client.channel.close()


if __name__ == "__main__":
    support.main()
