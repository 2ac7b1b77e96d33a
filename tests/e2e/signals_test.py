#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Signals: TERM and INT stop at once, QUIT drains, the others do not hurt."""

from __future__ import annotations

import json
import pathlib
import shutil
import signal
import tempfile
import time
import unittest
from typing import Any
from signal import SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGUSR1

import support
from support import Connection, Server, wait_for

HUGE_BYTES = 32 * 1024 * 1024
AT_ONCE_SECONDS = 1.5


@support.each_engine
class SignalsTest(unittest.TestCase):
    engine: str

    def setUp(self) -> None:
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="weir-signals-"))
        self.addCleanup(shutil.rmtree, self.root)
        (self.root / "small").write_bytes(b"hello\n")
        support.sparse_file(self.root / "huge", HUGE_BYTES)

    def serve(self, *options: str) -> Server:
        server = Server(self.root, *options, engine=self.engine)
        self.addCleanup(server.stop)
        return server

    def half_read(self, server: Server) -> Connection:
        """A transfer in the middle: the server cannot go on until somebody reads."""
        client = server.connect(receive_bytes=32768)
        self.addCleanup(client.channel.close)
        client.request("/huge")
        client.head()
        client.take(100_000)
        return client

    def final_log(self, server: Server) -> list[dict[str, Any]]:
        """The log as the ended program left it."""
        return [json.loads(line) for line in server.log_lines()]

    def assert_stops_at_once(self, server: Server, number: signal.Signals) -> None:
        began = time.monotonic()
        server.signal(number)
        self.assertEqual(server.wait(AT_ONCE_SECONDS), 0, server.errors())
        self.assertLess(time.monotonic() - began, AT_ONCE_SECONDS * support.PATIENCE)

    def assert_refused(self, server: Server) -> None:
        """Nobody listens there any more."""

        def refused() -> bool:
            try:
                server.connect(timeout=1).channel.close()
            except ConnectionRefusedError:
                return True
            except ConnectionResetError:
                pass  # it was closed during our handshake
            return False

        wait_for("the port to be closed", refused, 2)

    def test_term_and_int_when_idle(self) -> None:
        for number in (SIGTERM, SIGINT):
            server = self.serve()
            with server.connect() as client:
                client.get("/small")
                self.assert_stops_at_once(server, number)
                self.assertTrue(client.ended())
            self.assertEqual([line["outcome"] for line in self.final_log(server)], ["delivered"])

    def test_term_and_int_in_a_transfer(self) -> None:
        for number in (SIGTERM, SIGINT):
            server = self.serve()
            client = self.half_read(server)
            received = client.wait_until_quiet(0.3)
            self.assert_stops_at_once(server, number)
            lines = self.final_log(server)
            self.assertEqual([line["outcome"] for line in lines], ["aborted"])
            self.assertGreaterEqual(lines[0]["delivered_bytes"], 100_000)
            self.assertLessEqual(lines[0]["delivered_bytes"], received)
            self.assertLess(100_000 + client.drain(), HUGE_BYTES)

    def test_term_with_many_transfers_on_two_threads(self) -> None:
        server = self.serve("--threads", "2")
        for _ in range(10):
            self.half_read(server)
        self.assert_stops_at_once(server, SIGTERM)
        self.assertEqual([line["outcome"] for line in self.final_log(server)], ["aborted"] * 10)

    def test_quit_when_idle(self) -> None:
        server = self.serve("--threads", "2")
        with server.connect() as client, server.connect() as silent:
            client.get("/small")
            server.signal(SIGQUIT)
            self.assertTrue(client.ended())
            self.assertTrue(silent.ended())
            self.assertEqual(server.wait(), 0)

    def test_quit_lets_a_transfer_end(self) -> None:
        server = self.serve()
        client = self.half_read(server)
        server.signal(SIGQUIT)
        self.assert_refused(server)
        time.sleep(0.3)
        self.assertIsNone(server.process.poll(), "the drain did not wait")
        self.assertEqual(len(client.take(HUGE_BYTES - 100_000)), HUGE_BYTES - 100_000)
        self.assertTrue(client.ended())
        self.assertEqual(server.wait(), 0)
        lines = self.final_log(server)
        self.assertEqual([line["outcome"] for line in lines], ["delivered"])
        self.assertEqual(lines[0]["delivered_bytes"], HUGE_BYTES)

    def test_quit_waits_for_a_body_no_longer_than_it_takes(self) -> None:
        server = self.serve()
        with server.connect() as client:
            client.send("POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
            self.assertEqual(client.response().status, 405)
            server.signal(SIGQUIT)
            self.assert_refused(server)
            client.send("def")
            self.assertTrue(client.ended())
        self.assertEqual(server.wait(), 0)

    def test_quit_has_a_deadline(self) -> None:
        server = self.serve("--drain-timeout", "0.5")
        self.half_read(server)
        began = time.monotonic()
        server.signal(SIGQUIT)
        server.wait(3)
        self.assertGreater(time.monotonic() - began, 0.4)
        self.assertEqual([line["outcome"] for line in self.final_log(server)], ["aborted"])

    def test_term_ends_a_drain(self) -> None:
        for number in (SIGTERM, SIGINT):
            server = self.serve()
            self.half_read(server)
            server.signal(SIGQUIT)
            time.sleep(0.2)
            self.assertIsNone(server.process.poll())
            self.assert_stops_at_once(server, number)
            self.assertEqual([line["outcome"] for line in self.final_log(server)], ["aborted"])

    def test_term_again_and_again(self) -> None:
        server = self.serve()
        self.half_read(server)
        for _ in range(5):
            if server.process.poll() is None:
                server.signal(SIGTERM)
        self.assertEqual(server.wait(AT_ONCE_SECONDS), 0)

    def test_others_do_not_hurt(self) -> None:
        server = self.serve()
        with server.connect() as client:
            for number in (SIGHUP, SIGUSR1, SIGPIPE):
                server.signal(number)
                time.sleep(0.1)
                self.assertEqual(client.get("/small").body, b"hello\n", number)
            self.assertEqual(server.get("/small").body, b"hello\n")
        self.assertIsNone(server.process.poll())

    def test_threads_share_the_port(self) -> None:
        server = self.serve("--threads", "3")
        clients = [server.connect() for _ in range(30)]
        for client in clients:
            self.assertEqual(client.get("/small").body, b"hello\n")
            client.channel.close()
        self.assertEqual(len(server.log(30)), 30)


if __name__ == "__main__":
    support.main()
