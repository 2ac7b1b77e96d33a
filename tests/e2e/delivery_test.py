#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Delivery over a long link: the log tells the client's time, not that of write()."""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
import time
import unittest
from typing import Any

import support
from lab import Lab, root_borrow
from support import Connection, Server

PING_MS = 320
KB = 1024
HUGE_BYTES = 64 * KB * KB
# Two in a hundred, or one delayed ACK, whichever is more.
TOLERANCE_SHARE = 0.02
TOLERANCE_SECONDS = 0.040
# Seconds: at least, at most.
Bounds = tuple[float, float]


@support.each_engine
class DeliveryTest(unittest.TestCase):
    engine: str
    root: pathlib.Path

    @classmethod
    def setUpClass(cls) -> None:
        cls.root = pathlib.Path(tempfile.mkdtemp(prefix="weir-delivery-"))
        cls.addClassCleanup(shutil.rmtree, cls.root)
        for size_kb in (64, 128, 1024):
            (cls.root / f"{size_kb}kb").write_bytes(os.urandom(size_kb * KB))
        support.sparse_file(cls.root / "huge", HUGE_BYTES)

    def link(self, **options: Any) -> Lab:
        return self.enterContext(Lab(ping_ms=PING_MS, **options))

    def serve(self, lab: Lab, *options: str) -> Server:
        return self.enterContext(Server(self.root, *options, engine=self.engine, lab=lab))

    def timed_get(self, client: Connection, target: str) -> Bounds:
        self.assertEqual(client.get(target).status, 200)
        return self.measured(client)

    def measured(self, client: Connection) -> Bounds:
        """
        Seconds from the request's first byte to the last one received, however busy this host is.
        At least until it arrived. At most until it was read: an acknowledgement may be delayed
        until then, and what fills a gap is the last to arrive, but the stamp is that of the bytes
        behind it.
        """
        before, after = client.sent_between
        return client.arrived_at - after, client.read_at - before

    def assert_agree(
        self,
        entry: dict[str, Any],
        bounds: Bounds,
        more_seconds: float = 0,
        means: tuple[str, ...] = ("tx_ack",),
    ) -> None:
        self.assertEqual(entry["outcome"], "delivered")
        self.assertIn(entry["delivered_by"], means)
        delivered, (least, most) = entry["delivered_us"] / 1e6, bounds
        tolerance = max(TOLERANCE_SHARE * least, TOLERANCE_SECONDS) + more_seconds
        self.assertGreater(delivered, least - tolerance)
        self.assertLess(delivered, most + tolerance)

    def test_the_link(self) -> None:
        # On its own: what is measured with a wrong ruler is wrong.
        lab = self.link()
        late_ms = 2 * support.PATIENCE
        self.assertLess(abs(min(lab.ping() for _ in range(3)) - PING_MS), late_ms)

    def test_delivered_is_what_the_client_measured(self) -> None:
        server = self.serve(self.link())
        for size_kb in (128, 1024):
            target = f"/{size_kb}kb"
            with server.connect() as client:
                bounds = self.timed_get(client, target)
            entry = server.log_of(target)
            self.assert_agree(entry, bounds)
            # What was accepted still has the whole link before it, and its acknowledgement the way
            # back. By how much more write() lies is up to the kernel's send buffer, which grows to
            # three congestion windows under bbr but to two under cubic.
            self.assertLess(entry["accepted_us"] / 1e6, bounds[0] - PING_MS / 1000 / 2)
            self.assertLess(entry["sent_us"], entry["delivered_us"])
            self.assertLess(abs(entry["rtt_us"] / 1000 - PING_MS), 40 * support.PATIENCE)

    def test_delivered_on_a_thin_link(self) -> None:
        server = self.serve(self.link(rate_bits=4_000_000))
        with server.connect() as client:
            bounds = self.timed_get(client, "/128kb")
        self.assert_agree(server.log_of("/128kb"), bounds)

    def test_each_response_of_one_connection(self) -> None:
        server = self.serve(self.link())
        with server.connect() as client:
            bounds = [self.timed_get(client, f"/64kb?{i}") for i in range(5)]
            time.sleep(0.5)
        entries = server.log(5)
        for entry, measured in zip(entries[:-1], bounds):
            self.assert_agree(entry, measured)
        # No request carries the last one's acknowledgement: it waits for a timer of the peer's
        # kernel, which is late by its grain.
        self.assert_agree(entries[-1], bounds[-1], 0.020)

    def test_pipelined_responses_have_their_own_times(self) -> None:
        server = self.serve(self.link())
        with server.connect() as client:
            requests = [f"GET /64kb?{i} HTTP/1.1\r\nHost: a.example\r\n\r\n" for i in range(4)]
            client.send("".join(requests))
            bounds = []
            for _ in range(4):
                client.response()
                bounds.append(self.measured(client))
        entries = server.log(4)
        self.assertEqual([entry["target"] for entry in entries], [f"/64kb?{i}" for i in range(4)])
        delivered = [entry["delivered_us"] for entry in entries]
        self.assertEqual(delivered, sorted(delivered))
        # One acknowledgement may be that of two neighbours, but not of all.
        self.assertGreater(len(set(delivered)), 2)
        # The stamp of a response moves along with a packet that the next one begins in: then the
        # count of acknowledged bytes tells, which is asked for every 32nd of a round trip.
        for entry, measured in zip(entries, bounds):
            self.assert_agree(entry, measured, 0.020, ("tx_ack", "tcp_info"))

    def test_loss(self) -> None:
        server = self.serve(self.link(loss=0.01, seed=7))
        with server.connect(timeout=30) as client:
            bounds = self.timed_get(client, "/1024kb")
        entry = server.log_of("/1024kb")
        self.assert_agree(entry, bounds)
        self.assertGreater(entry["retransmits"], 0)

    def cut_when_flowing(self, lab: Lab, client: Connection) -> int:
        """Ends all delivery in the middle. Returns the bytes of the body that had arrived."""
        client.request("/huge")
        head = client.head()
        client.take(300 * KB)
        lab.cut_link("client")
        return client.wait_until_quiet() - head.head_bytes

    def test_a_link_that_dies(self) -> None:
        lab = self.link()
        server = self.serve(lab, "--send-timeout", "3")
        with server.connect(receive_bytes=4 * KB * KB) as client:
            body_bytes = self.cut_when_flowing(lab, client)
            entry = server.log_of("/huge", 30)
        self.assertEqual(entry["outcome"], "timeout")
        self.assertIsNone(entry["delivered_us"])
        self.assertEqual(entry["delivered_bytes"], body_bytes)

    def test_a_response_that_never_arrives(self) -> None:
        # The kernel took all of it: only the missing acknowledgement tells.
        lab = self.link()
        server = self.serve(lab, "--send-timeout", "3")
        with server.connect() as client:
            client.get("/64kb?first")
            client.request("/64kb?second")
            time.sleep(PING_MS / 1000 * 0.75)  # the request is there, the response on its way
            lab.cut_link("client")
            entry = server.log_of("/64kb?second", 40)
        self.assertEqual(server.log_of("/64kb?first")["outcome"], "delivered")
        self.assertEqual(entry["outcome"], "timeout")
        self.assertIsNone(entry["delivered_us"])
        self.assertLess(entry["delivered_bytes"], 64 * KB)
        self.assertIsNotNone(entry["accepted_us"])


if __name__ == "__main__":
    root_borrow()
    support.main()
