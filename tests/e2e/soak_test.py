#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A soak of some seconds, and that its verdicts can be bad."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import support

SOAK = support.ROOT / "tests" / "soak"
sys.path.insert(0, str(SOAK))
from ledger import NONE, ONCE, PERHAPS, Ledger, LogReader  # noqa: E402
from verdict import MIB, memory_faults  # noqa: E402

MINUTES = 0.2
CONNECTIONS = 200


def noisy(bytes_at) -> list[tuple[float, int]]:
    """A sample a second for 20 minutes, with a peak of some MiB now and then."""
    return [
        (float(second), int(bytes_at(second) + (4 * MIB if second % 37 == 0 else second % 5 * 4096)))
        for second in range(1200)
    ]


class MemoryTest(unittest.TestCase):
    def test_flat(self) -> None:
        self.assertEqual(memory_faults(noisy(lambda _: 20 * MIB)), [])
        self.assertEqual(memory_faults(noisy(lambda second: (20 + second / 600) * MIB)), [])

    def test_a_leak(self) -> None:
        faults = memory_faults(noisy(lambda second: (20 + second / 200) * MIB))
        self.assertEqual(len(faults), 1)
        self.assertRegex(faults[0], r"memory grew by 6\.[0-9] MiB in 1199 s")

    def test_a_peak(self) -> None:
        faults = memory_faults(noisy(lambda second: (20 + (second == 700) * 20) * MIB))
        self.assertEqual(faults, ["memory had a peak of 40.0 MiB, its median is 20.0"])

    def test_nothing_to_look_at(self) -> None:
        self.assertEqual(memory_faults([]), ["its memory was never looked at"])


class LedgerTest(unittest.TestCase):
    def setUp(self) -> None:
        self.ledger = Ledger()
        self.file = tempfile.NamedTemporaryFile(mode="w")
        self.addCleanup(self.file.close)

    def line(self, number: object, outcome: str = "delivered", body: int = 100) -> None:
        entry = {"target": f"/a?id={number}", "outcome": outcome, "send": "copy"}
        self.file.write(json.dumps({**entry, "body_bytes": body}) + "\n")

    def wrong(self) -> list[str]:
        self.file.flush()
        LogReader(pathlib.Path(self.file.name), self.ledger).read_all()
        self.ledger.close()
        return [text[:40] for text in self.ledger.wrong]

    def test_all_is_well(self) -> None:
        numbers = [self.ledger.begin() for _ in range(5)]
        self.ledger.complete(numbers[0], 100)
        self.ledger.end(numbers[1], ONCE)
        self.ledger.end(numbers[2], PERHAPS)
        self.ledger.end(numbers[3], PERHAPS)
        self.ledger.end(numbers[4], NONE)
        self.line(2, "reset", 0)
        self.line(1, "timeout", 50)
        self.line(0)
        self.assertEqual(self.wrong(), [])

    def test_what_is_wrong(self) -> None:
        for name, act, wanted in (
            ("missing", lambda number: self.ledger.end(number, ONCE), "request 0 has no line"),
            ("twice", lambda number: (self.line(0), self.line(0)), "request 0 has a second line"),
            ("whole", lambda number: self.line(0), "request 0 has a line, though it was"),
            ("unknown", lambda number: self.line(7), "a log line of nobody's request"),
            ("never ended", lambda number: None, "request 0 never ended"),
            ("torn", lambda number: self.file.write("{\n"), "a log line is no JSON"),
            ("given up", lambda number: self.line(0, "aborted"), "the server gave up by itself"),
            ("short", lambda number: self.short(number), "request 0 was complete, but its"),
        ):
            with self.subTest(name):
                self.setUp()
                number = self.ledger.begin()
                if name == "whole":
                    self.ledger.end(number, NONE)
                elif name not in ("missing", "never ended", "short"):
                    self.ledger.end(number, PERHAPS)
                act(number)
                found = self.wrong()
                self.assertEqual(len(found), 1, found)
                self.assertTrue(found[0].startswith(wanted), found)

    def short(self, number: int) -> None:
        self.ledger.complete(number, 100)
        self.line(number, body=99)


class LogReaderTest(unittest.TestCase):
    def test_lines_in_pieces_and_a_rotation(self) -> None:
        ledger = Ledger()
        for _ in range(4):
            ledger.end(ledger.begin(), ONCE)
        line = '{"target":"/a?id=%d","outcome":"delivered","send":"copy","body_bytes":1}\n'
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "access.log"
            with open(path, "w", buffering=1) as file:
                file.write(line % 0 + (line % 1)[:10])
                file.flush()
                reader = LogReader(path, ledger)
                self.assertEqual(reader.read(100), 1)
                reader.rotate()
                self.assertEqual(reader.read(100), 0)
                file.write((line % 1)[10:] + line % 2)
            path.write_text(line % 3)
            reader.read_all()
        ledger.close()
        self.assertEqual((reader.lines, ledger.lines, ledger.wrong), (4, 4, []))


class SoakTest(unittest.TestCase):
    @unittest.skipIf(support.SLOW, "a sanitizer's build is too slow for so many connections")
    def test_some_seconds(self) -> None:
        arguments = ["--minutes", str(MINUTES), "--connections", str(CONNECTIONS)]
        done = subprocess.run(
            [sys.executable, str(SOAK / "soak.py"), *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("\ngood: too short to judge memory, descriptors as before", done.stdout)


if __name__ == "__main__":
    support.main()
