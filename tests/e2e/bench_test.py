#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The benchmark: that the limit sends what it should, and that goals, tables and page say what was measured."""

from __future__ import annotations

import html.parser
import pathlib
import re
import socket
import sys
import tempfile
import unittest

import support

sys.path.insert(0, str(support.ROOT / "bench"))
import goals  # noqa: E402
import harness  # noqa: E402
import measure  # noqa: E402
import page  # noqa: E402
import report  # noqa: E402
import servers  # noqa: E402
import trafficserver  # noqa: E402
import workloads  # noqa: E402


class Quiet:
    """A server that is none, with the runs that it is given."""

    def __init__(self, name, kind):
        self.name, self.kind = name, kind


def row(name, kind, cpu_us, busy=1.0):
    return measure.row_of(Quiet(name, kind), [
        harness.Run(cpu_us=each, requests_s=1e6 / each, busy=busy) for each in cpu_us])


ROWS = [row("nginx", harness.PEER, [100, 100, 200]), row("h2o", harness.PEER, [120, 120, 120]),
        row("weir io_uring", harness.WEIR, [80, 90, 180]),
        row("weir io_uring bare", harness.WEIR, [60, 60, 60], busy=0.5),
        row("limit epoll send", harness.LIMIT, [50, 50, 50])]


def document():
    workload = workloads.Workload("128kb", "128 KB", target="128kb", connections=10, goals=(
        workloads.at_most(0.9), workloads.rate_at_least(2.1),
        workloads.at_most(1.1, workloads.BARE_LOOP), workloads.at_most(0.65, workloads.H2O)))
    made = {"key": workload.key, "section": "128kb", "title": "128 KB", "kind": workload.kind,
            "rows": ROWS, "goals": goals.evaluate_all(workload, ROWS), "left_out": ["x & y"]}
    return {"cpu": "a <cpu>", "cores": 2, "kernel": "6", "congestion_control": "reno", "rounds": 3,
            "time": "now", "load_average": 0.0, "workloads": [made]}


class Goals(unittest.TestCase):
    def test_ratios_are_those_of_rounds(self) -> None:
        found = document()["workloads"][0]["goals"]
        self.assertEqual([goal["against_server"] for goal in found],
                         ["nginx", "nginx", "limit epoll send", "h2o"])
        self.assertEqual([(result["ratio"]["median"], result["met"]) for result in found[0]["results"]],
                         [(0.9, True), (0.6, True)])
        self.assertEqual([result["met"] for result in found[2]["results"]], [False, False])
        self.assertEqual([result["met"] for result in found[3]["results"]], [False, True])

    def test_a_rate_missed_by_the_client_is_marked(self) -> None:
        goal = document()["workloads"][0]["goals"][1]
        said = [report.verdict(goal, result) for result in goal["results"]]
        self.assertEqual(said, ["1.11 missed", "1.67 missed*"])

    def test_no_peer_no_goal(self) -> None:
        self.assertIsNone(goals.evaluate(workloads.at_most(0.9), ROWS[2:]))


class Reports(unittest.TestCase):
    def test_marks_are_filled_in(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "page.md"
            path.write_text("a\n<!-- bench: summary -->\nold\n<!-- end -->\nb\n"
                            "<!-- bench: 1kb -->\nkept\n<!-- end -->\n")
            self.assertEqual(report.fill_in(document(), path), ["summary"])
            text = path.read_text()
            self.assertEqual(report.fill_in(document(), path), ["summary"])
            self.assertEqual(path.read_text(), text)
        self.assertIn("| 128 KB, 10 connections | 100 | 120 | - | - | 90.0 | 60.0 | 50.0 |\n", text)
        self.assertNotIn("old", text)
        self.assertIn("kept", text)

    def test_each_section_has_its_place(self) -> None:
        marks = re.findall(r"<!-- bench: ([\w-]+) -->",
                           (support.ROOT / "docs/performance.md").read_text())
        self.assertEqual(sorted(marks), sorted([*workloads.SECTIONS, "machine", "goals", "floor"]))

    def test_the_short_table_knows_its_workloads(self) -> None:
        keys = [workload.key for workload in workloads.everything(10000)]
        self.assertEqual(len(keys), len(set(keys)))
        self.assertEqual([key for _, key, _ in report.SUMMARY if key not in keys], [])

    def test_the_page_stands_alone(self) -> None:
        rendered = page.render(document())
        open_tags: list[str] = []

        class Parser(html.parser.HTMLParser):
            def handle_starttag(self, tag, attributes) -> None:
                names = [name for name, _ in attributes]
                assert "src" not in names and "href" not in names and tag != "script", tag
                if tag != "meta":
                    open_tags.append(tag)

            def handle_startendtag(self, tag, attributes) -> None:
                """Ends by itself."""

            def handle_endtag(self, tag) -> None:
                assert open_tags.pop() == tag, tag

        Parser().feed(rendered)
        self.assertEqual(open_tags, [])
        for words in ("weir io_uring bare", "a &lt;cpu&gt;", "x &amp; y", "1.67 missed*"):
            self.assertIn(words, rendered)


class Servers(unittest.TestCase):
    """Each is asked for the same file three times in one go."""

    def setUp(self) -> None:
        folder = harness.make_folder()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.site = harness.make_site(self.folder)

    def bodies(self, server, target) -> list[bytes]:
        wanted, got = harness.SIZES[target], b""
        bodies: list[bytes] = []
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(f"GET /{target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 3)
            while len(bodies) < 3:
                piece = client.recv(1 << 20)
                self.assertTrue(piece, f"{server.name}: {len(bodies)} responses, then the end")
                got += piece
                while (begin := got.find(b"\r\n\r\n") + 4) > 3 and len(got) >= begin + wanted:
                    self.assertTrue(got.startswith(b"HTTP/1.1 200"), got[:40])
                    bodies.append(got[begin:begin + wanted])
                    got = got[begin + wanted:]
        self.assertEqual(got, b"")
        return bodies

    def check_limit(self, loop: str, calls: tuple[str, ...]) -> None:
        for target in ("1kb", "128kb"):
            content = (self.site / target).read_bytes()
            for call in calls:
                for piece in (0, 32768):
                    with self.subTest(target=target, call=call, piece=piece):
                        try:
                            server = servers.start_limit(self.folder, self.site, target, loop, call,
                                                         piece)
                        except harness.Missing as reason:
                            self.skipTest(str(reason))
                        with server:
                            bodies = self.bodies(server, target)
                        if call == "encrypt":
                            self.assertFalse(content in bodies)
                        else:
                            self.assertEqual(bodies, [content] * 3)

    def test_limit_epoll(self) -> None:
        self.check_limit("epoll", ("send", "sendfile", "sendfile-more", "zerocopy", "encrypt"))

    def test_limit_io_uring(self) -> None:
        lacking = support.engine_lacking("io_uring")
        if lacking:
            self.skipTest(lacking)
        self.check_limit("io_uring", ("send", "sendfile", "submit", "zerocopy", "encrypt"))

    def test_the_lean_client_checks_and_counts(self) -> None:
        client = servers.build(self.folder, "load", [])
        for target in ("1kb", "128kb"):
            with servers.start_limit(self.folder, self.site, target, "epoll", "send", 0) as server:
                for pipelined in (1, 16):
                    run = server.load_lean(client, target, 5, 1000, pipelined)
                    self.assertGreater(run.requests_s, 0)
                with self.assertRaisesRegex(harness.BenchError, "a body of another length"):
                    server.load_lean(client, {"1kb": "128kb", "128kb": "1kb"}[target], 5, 1000)

    def test_trafficserver_serves_from_its_cache(self) -> None:
        try:
            server = trafficserver.start(self.folder, self.site)
        except harness.Missing as reason:
            self.skipTest(str(reason))
        with server:
            server.wake()
            server.check_pinned()
            asked = server.origin.requests
            self.assertEqual(self.bodies(server, "128kb"), [(self.site / "128kb").read_bytes()] * 3)
            self.assertEqual(server.origin.requests, asked)


if __name__ == "__main__":
    support.main()
