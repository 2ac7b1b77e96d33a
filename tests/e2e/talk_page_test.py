#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""docs/talk.md as `make talk` writes it: with all that was measured, and where nothing could be."""

from __future__ import annotations

import pathlib
import sys
import unittest
import xml.etree.ElementTree
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
for folder in ("bench", "tests/lab"):
    sys.path.insert(0, str(ROOT / folder))
import talk_page  # noqa: E402

MACHINE = {"time": "2026-11-25T12:00:00Z", "cpu": "A processor", "cores": 2, "kernel": "6.18", "load_average": 0.5}
WHY = "the moon is full"
PARTS = ("timestamps", "ktls", "zerocopy", "route", "io_uring")


def cost(cpu_us: float, **more: Any) -> dict[str, Any]:
    return {"cpu_us": {"median": cpu_us}, "requests_s": {"median": 1e6 / cpu_us}, **more}


def document() -> dict[str, Any]:
    rows = [{"where": "here", "transport": "plain", "engine": "epoll", "size_kb": size, "accepted": 0.1,
             "delivered": 1.0, "client": 1.0625} for size in (128, 256, 512, 1024)]
    loops = {name: cost(10.0 + place, calls=None) for place, name in enumerate(talk_page.LOOP_WORDS)}
    modes = {"off": cost(20, used=0, copied=0), "on": cost(30, used=0, copied=4711), "auto": cost(21, used=0, copied=1)}
    return {
        "machine": MACHINE,
        "timestamps": {"rows": rows},
        "ktls": {"kernel": "7.3", "ktls": [{"engine": "epoll", "servers": {
            "weir epoll openssl": cost(100), "weir epoll openssl ktls-tx": cost(80)}}]},
        "zerocopy": {"zerocopy": [{"engine": "epoll", "transport": "tls", "connections": 1, "servers": modes}]},
        "route": {"kernels": {"6.1": [
            {"engine": "poll", "what": "memory", "zerocopy": "auto", "used": 42, "copied": 0, "held_ms": [12.0, 34.0]},
            {"engine": "epoll", "what": "memory", "zerocopy": "auto", "used": 17, "copied": 0, "held_ms": [10.0]}]}},
        "io_uring": {"io_uring": [{"target": "1kb", "connections": 10, "servers": loops}]},
    }


class TalkPageTest(unittest.TestCase):
    def test_all_is_there(self) -> None:
        page, charts = talk_page.page(document())
        for words in ("| 128 KB | 0.100 | 1.000 | 1.062 | -62.5 ms |", "sending in the kernel | 12500 | 1.25 | 80 | 0.80 |",
                      "| on | 33333 | 30.0 | 1.50 | 0 | 4711 |", "| 6.1 | memory | auto | poll, epoll | 42 + 17 | 0 + 0 | 10 to 34 |",
                      "| 1 KB, 10 | Weir, io_uring | 62500 | 16.0 | 1.60 | - |"):
            self.assertIn(words, page)
        self.assertNotIn("Not measured", page)
        self.assertEqual([line for line in page.splitlines() if "## " in line],
                         ["## 1. When did the transfer end?", "## 2. Kernel TLS", "## 3. MSG_ZEROCOPY", "## 4. io_uring"])
        for name, chart in charts.items():
            self.assertEqual(page.count(f"]({name})"), 1)
            self.assertTrue(xml.etree.ElementTree.fromstring(chart).tag.endswith("svg"))

    def test_a_part_that_could_not_be_measured_keeps_its_text(self) -> None:
        whole, _ = talk_page.page(document())
        for part in PARTS:
            with self.subTest(part):
                page, charts = talk_page.page({**document(), part: {"missing": WHY}})
                self.assertEqual(page.count(f"*Not measured on this machine: {WHY}.*"), 1)
                self.assertEqual(page.count("\n## "), whole.count("\n## "))
                for name, chart in charts.items():
                    self.assertEqual(name in page, chart is not None)

    def test_lines_are_filled(self) -> None:
        page, _ = talk_page.page(document())
        for line in page.splitlines():
            self.assertTrue(line.startswith("|") or len(line) <= talk_page.COLUMNS, line)


if __name__ == "__main__":
    unittest.main(verbosity=2)
