#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Metrics at the operator's address: the text is OpenMetrics, the numbers are right, and nobody is held up."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import pathlib
import re
import shutil
import signal
import socket
import ssl
import tempfile
import time
import unittest

import support
from support import Connection, Server, wait_for, weir_run
from tls_support import libraries

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
SAMPLE = re.compile(r'([a-z_:][a-z0-9_:]*)(?:\{((?:[a-z_]+="[^"\\\n]*",?)+)\})? ([0-9.]+|\+Inf)')
LABEL = re.compile(r'([a-z_]+)="([^"]*)"')
CONNECTIONS_MAX = 16

Labels = frozenset[tuple[str, str]]


@dataclasses.dataclass
class Family:
    kind: str
    unit: str = ""
    help: str = ""
    samples: list[tuple[str, dict[str, str], float]] = dataclasses.field(default_factory=list)


def parse(text: str) -> dict[str, Family]:
    """Reads OpenMetrics 1.0 and accepts nothing that its text of rules does not allow."""
    families: dict[str, Family] = {}
    seen: set[tuple[str, Labels]] = set()
    name = ""
    assert text.endswith("\n# EOF\n"), text[-100:]
    for line in text[: -len("# EOF\n")].split("\n")[:-1]:
        if line.startswith("# "):
            _, word, about, value = line.split(" ", 3)
            if word == "TYPE":
                assert about not in families, f"{about} comes twice"
                assert value in SUFFIXES, line
                families[name := about] = Family(value)
            else:
                assert about == name and not families[name].samples, line
                assert word in ("UNIT", "HELP"), line
                assert not getattr(families[name], word.lower()), line
                setattr(families[name], word.lower(), value)
            continue
        match = SAMPLE.fullmatch(line)
        assert match, f"not a sample: {line!r}"
        family = families[name]
        assert match[1].startswith(name), line
        assert match[1][len(name) :] in SUFFIXES[family.kind], line
        pairs = LABEL.findall(match[2] or "")
        assert len(dict(pairs)) == len(pairs), line
        key = (match[1], frozenset(pairs))
        assert key not in seen, f"twice: {line}"
        seen.add(key)
        family.samples.append((match[1], dict(pairs), float(match[3])))
    for name, family in families.items():
        assert family.help, f"{name} has no HELP"
        assert not family.unit or name.endswith("_" + family.unit), f"{name} in {family.unit}"
        if family.kind == "histogram":
            check_histogram(name, family)
    return families


def check_histogram(name: str, family: Family) -> None:
    buckets = [(labels["le"], value) for kind, labels, value in family.samples if "le" in labels]
    bounds = [float(bound) for bound, _ in buckets]
    assert bounds == sorted(set(bounds)) and bounds[-1] == float("inf"), name
    for bound, _ in buckets[:-1]:
        assert bound == repr(float(bound)), f"{bound} is not canonical"
    counts = [value for _, value in buckets]
    assert counts == sorted(counts), name
    rest = {kind: value for kind, labels, value in family.samples if not labels}
    assert set(rest) == {f"{name}_count", f"{name}_sum"}, rest
    assert rest[f"{name}_count"] == counts[-1], name


class Metrics:
    """What one scrape said."""

    def __init__(self, text: str):
        self.families = parse(text)
        self.values = {
            (name, frozenset(labels.items())): value
            for family in self.families.values()
            for name, labels, value in family.samples
        }

    def get(self, name: str, **labels: str) -> float:
        return self.values.get((name, frozenset(labels.items())), 0.0)

    def sum(self, name: str) -> float:
        return sum(value for (other, _), value in self.values.items() if other == name)


def admin_port(server: Server) -> int:
    return int(re.search(r"metrics at http://127.0.0.1:([0-9]+)/metrics", server.errors())[1])


class Case(unittest.TestCase):
    engine = "epoll"
    options: tuple[str, ...] = ()

    def setUp(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-metrics-"))
        self.addCleanup(shutil.rmtree, self.folder)
        (self.folder / "small").write_bytes(b"x" * 100)
        (self.folder / "large").write_bytes(b"y" * 300_000)
        self.server = self.start(*self.options)
        self.port = admin_port(self.server)

    def start(self, *options: str) -> Server:
        server = Server(self.folder, "--admin", "127.0.0.1:0", *options, engine=self.engine)
        self.addCleanup(server.stop)
        wait_for("the operator's address", lambda: "metrics at" in server.errors())
        return server

    def connect(self) -> Connection:
        channel = socket.create_connection(("127.0.0.1", self.port), 10 * support.PATIENCE)
        self.addCleanup(channel.close)
        return Connection(channel)

    def scrape(self) -> Metrics:
        client = self.connect()
        response = client.get("/metrics")
        self.assertEqual((response.status, response["Content-Type"]), (200, CONTENT_TYPE))
        return Metrics(response.body.decode("ascii"))


@support.each_engine
class NumbersTest(Case):
    options = ("--threads", "3")

    def test_a_server_that_did_nothing(self) -> None:
        metrics = self.scrape()
        self.assertEqual(metrics.get("weir_connections_open"), 0)
        self.assertEqual(metrics.sum("weir_requests_total"), 0)
        self.assertEqual(metrics.families["weir_tx_bytes"].unit, "bytes")
        self.assertEqual(metrics.families["weir_request_accepted_seconds"].unit, "seconds")

    def test_every_transaction_counts_once(self) -> None:
        for _ in range(30):  # on all threads
            with self.server.connect() as client:
                client.get("/small")
                client.get("/missing")
                client.get("/large", version="1.0")
        with self.server.connect() as client:
            client.send("nonsense\r\n\r\n")
            client.response()
        self.server.log(91)
        metrics = self.scrape()

        def count(status: str, protocol: str) -> float:
            return metrics.get("weir_requests_total", status=status, protocol=protocol)

        self.assertEqual(count("200", "HTTP/1.1"), 30)
        self.assertEqual(count("404", "HTTP/1.1"), 30)
        self.assertEqual(count("200", "HTTP/1.0"), 30)
        self.assertEqual(count("400", "none"), 1)
        self.assertEqual(metrics.sum("weir_requests_total"), 91)
        self.assertEqual(
            metrics.get("weir_connections_total", tls_vendor="none", ktls="none"), 31
        )
        for name in ("accepted", "delivered"):
            self.assertEqual(metrics.get(f"weir_request_{name}_seconds_count"), 91)
        self.assertEqual(metrics.get("weir_tx_bytes_total", send="file"), 30 * 300_000)
        self.assertGreaterEqual(
            metrics.get("weir_send_decisions_total", send="file", reason="file"), 30
        )
        self.assertEqual(metrics.get("weir_delivery_unknown_total"), 0)

    def test_the_sums_are_those_of_the_log(self) -> None:
        for _ in range(10):
            self.server.get("/large")
        lines = self.server.log(10)
        metrics = self.scrape()
        for field, name in (("accepted_us", "accepted"), ("delivered_us", "delivered")):
            logged = sum(line[field] for line in lines) / 1e6
            counted = metrics.get(f"weir_request_{name}_seconds_sum")
            self.assertLessEqual(logged, counted)
            self.assertAlmostEqual(logged, counted, delta=len(lines) * 1e-6)

    def test_open_connections(self) -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(self.server.connect()).get("/small")
            self.assertEqual(self.scrape().get("weir_connections_open"), 20)
        wait_for("their end", lambda: self.scrape().get("weir_connections_open") == 0)

    def test_metrics_can_be_had_during_a_drain(self) -> None:
        with self.server.connect(receive_bytes=4096) as client:
            (self.folder / "huge").write_bytes(b"z" * 8_000_000)
            client.request("/huge")
            client.head()
            self.server.signal(signal.SIGQUIT)
            wait_for("the listeners' end", self._refused)
            wait_for("one to be left", lambda: self.scrape().get("weir_connections_open") == 1)
            client.discard(8_000_000)
        self.assertEqual(self.server.wait(), 0)

    def _refused(self) -> bool:
        try:
            socket.create_connection((self.server.host, self.server.port), 5).close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:
            pass  # in the middle of it
        return False


class DeliveryOffTest(Case):
    options = ("--delivery", "off", "--threads", "1")

    def test_what_is_not_known_counts(self) -> None:
        for _ in range(3):
            self.server.get("/small")
        self.server.log(3)
        metrics = self.scrape()
        self.assertEqual(metrics.get("weir_delivery_unknown_total"), 3)
        self.assertEqual(metrics.get("weir_request_accepted_seconds_count"), 3)
        self.assertEqual(metrics.get("weir_request_delivered_seconds_count"), 0)


class TlsTest(Case):
    def setUp(self) -> None:
        if not libraries():
            self.skipTest("there is no TLS library")
        super().setUp()

    def test_connections_by_library(self) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        for library in libraries():
            server = self.start("--listen-tls", "127.0.0.1:0", "--tls", library)
            self.port = admin_port(server)
            port = int(re.search(r"on https://127.0.0.1:([0-9]+)", server.errors())[1])
            client = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=20)
            client.request("GET", "/large")
            self.assertEqual(len(client.getresponse().read()), 300_000)
            client.close()
            ktls = server.log(1)[0]["ktls"]
            with socket.create_connection(("127.0.0.1", port)) as failing:
                failing.sendall(b"GET / HTTP/1.1\r\n\r\n")
                failing.settimeout(10)
                while failing.recv(4096):
                    pass

            def value(vendor: str, ktls: str = "none") -> float:
                return self.scrape().get("weir_connections_total", tls_vendor=vendor, ktls=ktls)

            wait_for("the one that fails", lambda: value("none") == 1)
            self.assertEqual(value(library, ktls), 1)


class ManyTest(Case):
    """Whatever comes to the operator's address, it answers strictly, and has small limits."""

    options = ("--threads", "2")

    def answer(self, request: str) -> tuple[int, Connection]:
        client = self.connect()
        client.send(request)
        return client.response(request.split(" ")[0]).status, client

    def test_statuses(self) -> None:
        for request, status in (
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 404),
            ("GET /metrics/ HTTP/1.1\r\nHost: a\r\n\r\n", 404),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 404),
            ("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 405),
            ("GET /metrics\r\n\r\n", 400),
            ("GET /metrics HTTP/1.1\r\n\r\n", 400),
            ("GET /metrics HTTP/1.1\r\nHost: a\r\nA: " + "b" * 5000 + "\r\n\r\n", 431),
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n" + "A: b\r\n" * 101 + "\r\n", 431),
        ):
            with self.subTest(request[:60]):
                got, client = self.answer(request)
                self.assertEqual(got, status)
                self.assertTrue(client.ended())

    def test_keep_alive_head_and_pipelines(self) -> None:
        client = self.connect()
        for _ in range(3):
            body = client.get("/metrics?debug=1").body
            self.assertEqual(body[-6:], b"# EOF\n")
        head = client.get("/metrics", method="HEAD")
        self.assertEqual((head.status, head["Content-Type"]), (200, CONTENT_TYPE))
        self.assertGreater(int(head["Content-Length"]), 1000)
        for piece in "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n":
            client.send(piece)
            time.sleep(0.001)
        self.assertEqual(client.response().status, 200)
        client.send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 4)
        for _ in range(4):
            self.assertEqual(client.response().status, 200)
        client.request("/metrics", Connection="close")
        self.assertEqual(client.response()["Connection"], "close")
        self.assertTrue(client.ended())
        client = self.connect()
        self.assertEqual(client.get("/metrics", version="1.0")["Connection"], "close")
        self.assertTrue(client.ended())

    def test_more_than_a_head_at_once_ends_the_connection(self) -> None:
        client = self.connect()
        client.send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 300)
        self.assertIn(client.response().status, (200, 400))
        client.drain()

    def test_a_half_head_gets_408(self) -> None:
        client = self.connect()
        client.send("GET /metrics HT")
        client.channel.settimeout(15 * support.PATIENCE)
        self.assertEqual(client.response().status, 408)
        self.assertTrue(client.ended())

    def test_idle_ones_hold_up_nobody_for_long(self) -> None:
        """16 that say nothing fill the address; they have five seconds, and others wait in the backlog."""
        idle = [self.connect() for _ in range(CONNECTIONS_MAX)]
        began = time.monotonic()
        self.assertEqual(self.scrape().get("weir_connections_open"), 0)
        self.assertLess(time.monotonic() - began, 8 * support.PATIENCE)
        for client in idle:
            self.assertTrue(client.ended())

    def test_nobody_scrapes_faster_than_the_pause(self) -> None:
        client = self.connect()
        began = time.monotonic()
        for _ in range(20):
            client.get("/metrics")
        self.assertGreater(time.monotonic() - began, 19 * 0.02)

    def test_who_does_not_read_is_left_alone(self) -> None:
        """Served files do not wait for scrapers that take nothing, or go away."""
        for _ in range(8):
            client = self.connect()
            client.send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
        for _ in range(8):
            client = self.connect()
            client.send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
            client.reset()
        self.assertEqual(self.server.get("/small").status, 200)

    def test_it_ends_with_scrapers_on_it(self) -> None:
        clients = [self.connect() for _ in range(4)]
        for client in clients[:2]:
            client.request("/metrics")
        self.server.signal(signal.SIGTERM)
        self.assertEqual(self.server.wait(), 0)


class StartTest(unittest.TestCase):
    def test_a_port_in_use(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            address = f"127.0.0.1:{other.getsockname()[1]}"
            done = weir_run("serve", "/tmp", "--listen", "127.0.0.1:0", "--admin", address)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, rf"\Aweir: cannot listen on {address}: [^\n]+\n\Z")


if __name__ == "__main__":
    support.main()
