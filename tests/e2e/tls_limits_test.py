#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""HTTPS and those who do not mean well, or have no time: each costs its own connection only."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import ssl
import time
from signal import SIGHUP, SIGQUIT, SIGTERM

import support
import tls_support
from support import Connection, wait_for
from tls_support import HUGE_BYTES, TlsConnection, TlsServer

LATE_SECONDS = 1.0
FLOOD = 100 if support.SLOW else 300


@tls_support.each_engine
class TlsLimitsTest(tls_support.Case):
    abstract = False

    def client_hello(self, version: ssl.TLSVersion | None = None) -> bytes:
        """What a client sends first."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = self.authority.client(version).wrap_bio(
            incoming, outgoing, server_hostname="a.example"
        )
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        return outgoing.read()

    def raw(self, server: TlsServer) -> Connection:
        client = Connection(server.connect_raw())
        self.addCleanup(client.channel.close)
        return client

    def open(self, server: TlsServer, receive_bytes: int | None = None) -> TlsConnection:
        client = server.connect_tls(self.authority.client(), receive_bytes=receive_bytes)
        self.addCleanup(client.channel.close)
        return client

    @contextlib.contextmanager
    def assert_takes(self, seconds: float):
        began = time.monotonic()
        yield
        elapsed = time.monotonic() - began
        self.assertGreater(elapsed, seconds - 0.05)
        self.assertLess(elapsed, (seconds + LATE_SECONDS) * support.PATIENCE)

    def assert_nothing_is_left(self, server: TlsServer, before: int) -> None:
        wait_for("all to be closed", lambda: self.socket_count(server) == before)

    @staticmethod
    def socket_count(server: TlsServer) -> int:
        links = []
        for link in pathlib.Path(f"/proc/{server.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(link))
        return sum(link.startswith("socket:") for link in links)

    # What is no TLS

    def test_what_is_no_tls(self) -> None:
        server = self.serve()
        before = self.socket_count(server)
        hello = self.client_hello()
        for data in (
            b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
            b"\x00" * 100,
            b"\x16\x03\x01\xff\xff" + b"\x01" * 1000,
            b"\x16\x03\x01\x00\x00",
            b"\x17\x03\x03\x00\x20" + b"a" * 32,
            b"\x15\x03\x03\x00\x02\x02\x28",
            b"\x15\x03\x03\x00\x02\x01\x00",
            hello[:5] + os.urandom(len(hello) - 5),
            hello + b"\x17\x03\x03\x00\x20" + b"a" * 32,
            hello + hello,
            os.urandom(20000),
        ):
            client = self.raw(server)
            # What it says, an alert perhaps, does not matter; that it ends does.
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                client.send(data)
            client.drain(seconds=5)
            client.channel.close()
        self.assert_nothing_is_left(server, before)
        self.assert_serves(self.open(server))
        self.assertEqual(len(server.log(1)), 1, "no transaction, no line")

    def test_what_is_no_record_of_an_open_connection(self) -> None:
        server = self.serve()
        for version in self.versions():
            for data in (os.urandom(1000), b"\x17\x03\x03\x00\x40" + os.urandom(64), b"\x17\x03\x03\xff\xff"):
                client = server.connect_tls(self.authority.client(version))
                self.assert_serves(client)
                with client.raw() as raw:
                    raw.sendall(data)
                    client.channel.settimeout(5 * support.PATIENCE)
                    with self.assertRaises((ssl.SSLError, ConnectionResetError, EOFError)):
                        client.get("/small")
                        client.get("/small")
                client.channel.close()
        self.assertEqual({line["target"] for line in server.log(1)}, {"/small"})

    # Handshakes that take their time

    def test_a_client_that_says_nothing(self) -> None:
        server = self.serve("--header-timeout", "1")
        with self.assert_takes(1):
            client = self.raw(server)
            client.drain()

    def test_a_handshake_that_stops(self) -> None:
        server = self.serve("--header-timeout", "1")
        hello = self.client_hello()
        for data in (hello[:1], hello[:5], hello[:100], hello):
            with self.assert_takes(1):
                client = self.raw(server)
                client.send(data)
                client.drain()
        self.assertEqual(server.log_lines(), [])

    def test_a_handshake_that_trickles(self) -> None:
        server = self.serve("--header-timeout", "1")
        client = self.raw(server)
        with self.assert_takes(1), contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for byte in self.client_hello():
                client.send(bytes([byte]))
                time.sleep(0.02)
            self.fail("the handshake's time never ended")

    def test_a_client_that_says_nothing_behind_its_handshake(self) -> None:
        server = self.serve("--header-timeout", "1")
        for version in self.versions():
            with self.assert_takes(1):
                client = server.connect_tls(self.authority.client(version))
                self.assertTrue(client.ended())
                client.channel.close()

    def test_a_handshake_in_small_pieces(self) -> None:
        server = self.serve()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.authority.client().wrap_bio(incoming, outgoing, server_hostname="a.example")
        with server.connect_raw() as raw:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    for byte in outgoing.read():
                        raw.sendall(bytes([byte]))
                    incoming.write(raw.recv(16384))
            tls.write(b"GET /small HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            for byte in outgoing.read():
                raw.sendall(bytes([byte]))
            answer = b""
            while not answer.endswith(b"hello\n"):
                try:
                    answer += tls.read(4096)
                except ssl.SSLWantReadError:
                    incoming.write(raw.recv(16384))

    def test_a_request_in_small_records(self) -> None:
        server = self.serve()
        for version in self.versions():
            with server.connect_tls(self.authority.client(version)) as client:
                for byte in b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n":
                    client.send(bytes([byte]))
                self.assertEqual(client.response().body, b"hello\n")

    # Many

    def test_a_flood_of_handshakes(self) -> None:
        server = self.serve("--header-timeout", "5")
        before = self.socket_count(server)
        hello = self.client_hello()
        clients = []
        for i in range(FLOOD):
            client = Connection(server.connect_raw())
            client.send(hello if i % 2 else hello[:50])
            clients.append(client)
        began = time.monotonic()
        with server.connect_tls(self.authority.client()) as honest:
            self.assert_serves(honest)
        self.assertLess(time.monotonic() - began, 3 * support.PATIENCE)
        for i, client in enumerate(clients):
            client.reset() if i % 3 else client.channel.close()
        self.assert_nothing_is_left(server, before)

    def test_handshakes_count_as_connections(self) -> None:
        server = self.serve("--max-connections", "2", "--threads", "1", "--header-timeout", "1")
        holders = [self.raw(server) for _ in range(2)]
        time.sleep(0.1)
        with self.assert_takes(0.7), server.connect_tls(self.authority.client()) as client:
            self.assert_serves(client)
        for holder in holders:
            holder.drain()

    def test_all_that_wait_have_their_turn(self) -> None:
        server = self.serve("--max-connections", "2", "--threads", "1")
        holders = [self.open(server) for _ in range(2)]
        hello = self.client_hello()
        # They come while there is no place, and have said something when there is one.
        waiting = [server.connect_raw() for _ in range(20)]
        for raw in waiting[:10]:
            raw.sendall(hello)
        time.sleep(0.2)
        for holder in holders:
            holder.channel.close()
        for raw in waiting[:10]:
            self.assertEqual(raw.recv(1), b"\x16")
            raw.close()
        for raw in waiting[10:]:
            channel = self.authority.client().wrap_socket(raw, server_hostname="a.example")
            with TlsConnection(channel) as client:
                self.assert_serves(client)

    # Slow readers

    def test_a_reader_below_the_minimum_rate(self) -> None:
        server = self.serve("--min-rate", "1000000", "--send-timeout", "1")
        client = self.open(server, receive_bytes=8192)
        client.request("/huge")
        client.head()
        with contextlib.suppress(ConnectionResetError, ssl.SSLError, EOFError):
            for _ in range(400 * int(support.PATIENCE)):
                client.take(1000)
                time.sleep(0.01)
            self.fail("a slow reader was not cut off")
        self.assertEqual(server.log_of("/huge")["outcome"], "timeout")

    def test_a_reader_above_the_minimum_rate(self) -> None:
        # Less than a record in each window: whole records are no measure of it.
        server = self.serve("--min-rate", "500", "--send-timeout", "3")
        client = self.open(server, receive_bytes=4096)
        client.request("/huge")
        client.head()
        raw_bytes = 0
        with client.raw() as raw:
            # With so small a window TCP itself has pauses, of up to some 300 ms.
            raw.settimeout(2)
            for _ in range(100):
                # As it comes on the wire; what TLS makes of it nobody will know.
                raw_bytes += len(raw.recv(400))
                time.sleep(0.1)
        self.assertGreater(raw_bytes, 30_000)
        self.assertIsNone(server.process.poll())
        self.assertEqual(server.log_lines(), [], "it was cut off")

    # Signals

    def test_quit_lets_a_transfer_end(self) -> None:
        server = self.serve()
        idle = self.open(server)
        self.assert_serves(idle)
        unfinished = self.raw(server)
        unfinished.send(self.client_hello()[:20])
        busy = self.open(server, receive_bytes=32768)
        busy.request("/huge")
        busy.head()
        busy.take(100_000)
        server.signal(SIGQUIT)
        # In good order, close_notify and all; a handshake just ends.
        self.assertTrue(idle.ended())
        unfinished.drain()
        time.sleep(0.2)
        self.assertIsNone(server.process.poll(), "the drain did not wait")
        busy.discard(HUGE_BYTES - 100_000)
        self.assertTrue(busy.ended())
        self.assertEqual(server.wait(), 0)

    def test_term_stops_at_once(self) -> None:
        server = self.serve("--threads", "2")
        for _ in range(4):
            self.assert_serves(self.open(server))
        self.assertEqual({line["outcome"] for line in server.log(4)}, {"delivered"})
        for _ in range(4):
            self.raw(server)
            client = self.open(server, receive_bytes=32768)
            client.request("/huge")
            client.head()
        server.signal(SIGTERM)
        self.assertEqual(server.wait(2), 0)
        outcomes = [line["outcome"] for line in server.log(8)]
        self.assertEqual(outcomes, ["delivered"] * 4 + ["aborted"] * 4)

    def test_reloads_in_a_storm_of_handshakes(self) -> None:
        server = self.serve("--threads", "2")
        context = self.authority.client()
        for _ in range(20):
            server.signal(SIGHUP)
            with server.connect_tls(context) as client:
                self.assert_serves(client)
        server.wait_for_error("read again")

    # What cannot be had

    def test_kernel_tls_is_announced(self) -> None:
        library = r"\([a-z]+ [0-9.]+(?:, AES-GCM by ipsec-mb)?"
        for option, wanted in (
            ("off", library + r"\)\n"),
            ("auto", library + r", (kernel TLS: tx\+rx|no kernel TLS: [^\n]+)\)\n"),
            ("tx", library + r", (kernel TLS: tx|no kernel TLS: [^\n]+)\)\n"),
        ):
            server = self.serve("--ktls", option)
            self.assertRegex(server.errors(), r"on https://127\.0\.0\.1:\d+ " + wanted)
            with server.connect_tls(self.authority.client()) as client:
                self.assert_serves(client)
            if option == "off":
                self.assertEqual(server.log(1)[0]["ktls"], "none")


if __name__ == "__main__":
    tls_support.main()
