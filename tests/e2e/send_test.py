#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How responses go out: --zerocopy, the log's `send`, and the counts of it. On loopback the kernel copies."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import tempfile
import unittest

import support
from metrics_test import Metrics, admin_port
from support import Connection, Server, need_program, wait_for, weir_run
from tls_support import libraries

SMALL, MEMORY, FILE = 300, 16_384, 400_000  # a file of up to 16 KiB is sent from memory
USERS = 61_000
MEMLOCK = 1 << 20  # a ring of io_uring counts, too


@support.each_engine
class SendTest(unittest.TestCase):
    engine = ""

    def setUp(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-send-"))
        self.addCleanup(shutil.rmtree, self.folder)
        for name, size in (("small", SMALL), ("memory", MEMORY), ("file", FILE)):
            (self.folder / name).write_bytes(os.urandom(size))
        (self.folder / "huge").write_bytes(b"h" * 8_000_000)

    def start(self, *options: str, program: str = support.WEIR) -> Server:
        if "on" in options:
            self.need_zerocopy()
        options = ("--admin", "127.0.0.1:0", "--threads", "1", *options)
        server = Server(self.folder, *options, engine=self.engine, program=program)
        self.addCleanup(server.stop)
        wait_for("the operator's address", lambda: "metrics at" in server.errors())
        return server

    def need_zerocopy(self) -> None:
        """Skips where there is none, which then must be an error at the start."""
        with Server(self.folder, "--zerocopy", "auto", engine=self.engine) as server:
            lacks = "no zero copy" in server.errors()
        if not lacks:
            return
        done = weir_run(
            "serve", ".", "--listen", "127.0.0.1:0", "--engine", self.engine, "--zerocopy", "on"
        )
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"\Aweir: cannot use the engine: [^\n]*zero copy[^\n]*\n\Z")
        self.skipTest(f"{self.engine} has no zero copy here")

    def metrics(self, server: Server) -> Metrics:
        with socket.create_connection(("127.0.0.1", admin_port(server)), 20) as channel:
            return Metrics(Connection(channel).get("/metrics").body.decode())

    def sends(self, server: Server, *targets: str) -> list[str]:
        """What the log says of requests, each made when the one before was logged."""
        before = len(server.log_lines())
        with server.connect() as client:
            for index, target in enumerate(targets):
                size = (self.folder / target).stat().st_size
                self.assertEqual(len(client.get("/" + target).body), size)
                server.log(before + index + 1)
        return [line["send"] for line in server.log(before + len(targets))[before:]]

    def test_off(self) -> None:
        server = self.start("--zerocopy", "off")
        self.assertEqual(
            self.sends(server, "small", "memory", "memory", "file"), ["copy"] * 3 + ["file"]
        )
        metrics = self.metrics(server)
        off = metrics.get("weir_send_decisions_total", send="copy", reason="off")
        self.assertEqual(off, 2)
        self.assertEqual(metrics.get("weir_tx_bytes_total", send="file"), FILE)
        self.assertNotIn("zero copy", server.errors())

    def test_on(self) -> None:
        server = self.start("--zerocopy", "on")
        self.assertEqual(
            self.sends(server, "small", "memory", "memory", "file"),
            ["copy", "copied", "copied", "file"],
        )
        metrics = self.metrics(server)
        on = metrics.get("weir_send_decisions_total", send="zerocopy", reason="on")
        self.assertEqual((on, metrics.get("weir_zerocopy_copied_total")), (2, 2))
        self.assertEqual(metrics.get("weir_tx_bytes_total", send="copied"), 2 * MEMORY)
        self.assertEqual(metrics.get("weir_tx_bytes_total", send="file"), FILE)
        self.assertEqual(metrics.get("weir_zerocopy_pinned_bytes"), 0)

    def test_auto_tries_a_route_once(self) -> None:
        self.need_zerocopy()
        server = self.start("--zerocopy", "auto")
        self.assertEqual(
            self.sends(server, "memory", "memory", "small", "memory"),
            ["copied", "copy", "copy", "copy"],
        )
        self.assertEqual(self.sends(server, "memory"), ["copy"])  # by another connection
        metrics = self.metrics(server)
        self.assertEqual(
            metrics.get("weir_send_decisions_total", send="zerocopy", reason="tried"), 1
        )
        self.assertEqual(metrics.get("weir_send_decisions_total", send="copy", reason="route"), 3)

    def test_pieces_that_are_too_small(self) -> None:
        """Two ranges of a small file lie apart: each alone is not worth it."""
        server = self.start("--zerocopy", "on")
        with server.connect() as client:
            client.get("/memory", Range="bytes=0-8191,8193-16383")
            line = server.log()[0]
            self.assertEqual((line["status"], line["send"]), (206, "copy"))
            self.assertEqual(client.get("/memory", method="HEAD").status, 200)
            self.assertEqual(server.log(2)[1]["send"], "copy")

    def test_without_delivery(self) -> None:
        server = self.start("--zerocopy", "on", "--delivery", "off")
        self.assertEqual(self.sends(server, "memory", "file"), ["copied", "file"])
        self.assertEqual([line["outcome"] for line in server.log(2)], [None, None])

    def test_the_server_stops_in_the_middle(self) -> None:
        server = self.start("--zerocopy", "on")
        with contextlib.ExitStack() as stack:
            for _ in range(8):
                client = stack.enter_context(server.connect(receive_bytes=4096))
                client.send("GET /memory HTTP/1.1\r\nHost: a\r\n\r\n" * 40)
                client.head()
            server.signal(signal.SIGTERM)
            self.assertEqual(server.wait(), 0)
        lines = server.log(8 * 40)
        self.assertEqual(len(lines), 8 * 40)
        self.assertIn("aborted", {line["outcome"] for line in lines})
        # What was still in the socket when it was reset had not been copied yet.
        self.assertLessEqual({line["send"] for line in lines}, {"copy", "copied", "zerocopy"})

    def test_clients_go_away(self) -> None:
        server = self.start("--zerocopy", "on")
        for _ in range(20):
            client = server.connect(receive_bytes=4096)
            client.send("GET /memory HTTP/1.1\r\nHost: a\r\n\r\n" * 20)
            client.head()
            client.reset()
        wait_for(
            "all of it to be over",
            lambda: self.metrics(server).get("weir_connections_open") == 0,
        )
        self.assertEqual(self.metrics(server).get("weir_zerocopy_pinned_bytes"), 0)
        self.assertEqual(self.sends(server, "small"), ["copy"])

    def test_under_tls(self) -> None:
        if not libraries():
            self.skipTest("there is no TLS library")
        options = ("--listen-tls", "127.0.0.1:0", "--ktls", "off")
        server = self.start("--zerocopy", "on", *options)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        port = int(re.search(r"on https://127.0.0.1:([0-9]+)", server.errors())[1])
        with socket.create_connection(("127.0.0.1", port), 20) as plain:
            with context.wrap_socket(plain) as channel:
                for index, target in enumerate(("small", "memory", "file", "huge")):
                    request = f"GET /{target} HTTP/1.1\r\nHost: a\r\n\r\n"
                    channel.sendall(request.encode())
                    wanted = (self.folder / target).read_bytes()
                    got = b""
                    while not got.endswith(wanted[-100:]) or len(got) < len(wanted):
                        got += channel.recv(1 << 16)
                    self.assertEqual(got.split(b"\r\n\r\n", 1)[1], wanted)
                    line = server.log(index + 1)[index]
                    self.assertEqual(line["send"], "copy" if target == "small" else "copied")
                    self.assertEqual(line["outcome"], "delivered")

    def test_a_user_who_may_pin_little(self) -> None:
        """The kernel refuses, which no client notices; the log says what was done."""
        self.need_zerocopy()
        script = self.folder / "weir"
        user = ""
        if os.geteuid() == 0:
            # The limit is a user's, for all of its processes together: one that nobody else is.
            number = USERS + support.ENGINES.index(self.engine)
            user = f"{need_program('setpriv')} --reuid {number} --regid {number} --clear-groups "
        prlimit = need_program("prlimit")
        weir = os.path.abspath(support.WEIR)
        script.write_text(f'#!/bin/sh\nexec {prlimit} --memlock={MEMLOCK} {user}{weir} "$@"\n')
        script.chmod(0o755)
        self.folder.chmod(0o755)
        logs = self.folder / "logs"
        logs.mkdir()
        logs.chmod(0o777)
        log = logs / "access.log"
        server = self.start("--zerocopy", "on", "--access-log", str(log), program=str(script))
        server.log_path = log
        wanted = (self.folder / "memory").read_bytes()
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.connect()) for _ in range(6)]
            for client in clients:
                client.send("GET /memory HTTP/1.1\r\nHost: a\r\n\r\n" * 40)
            for client in clients:
                for _ in range(40):
                    self.assertEqual(client.response().body, wanted)
            lines = server.log(6 * 40)
        self.assertEqual({line["outcome"] for line in lines}, {"delivered"})
        metrics = self.metrics(server)
        self.assertGreater(metrics.get("weir_zerocopy_refused_total"), 0)
        self.assertGreater(
            metrics.get("weir_send_decisions_total", send="copy", reason="refused"), 0
        )
        self.assertEqual(metrics.get("weir_zerocopy_pinned_bytes"), 0)


if __name__ == "__main__":
    support.main()
