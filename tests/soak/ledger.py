# SPDX-License-Identifier: Apache-2.0
"""What a client asked for, and what the access logs say of it: each transaction has exactly one line.

A request's id is a number in its target's query. Of each, one byte is kept, so that millions fit.
"""

from __future__ import annotations

import json
import pathlib
import re

# How many lines a request must have by the end.
NONE = 0  # its head never ended, so there was no transaction
ONCE = 1  # the client saw a part of its response
PERHAPS = 2  # it was reset before that: the server may not have read it
OPEN = 3  # not over yet
EXPECTATION = 0x03
COMPLETE = 0x04  # the client has all of the response: the log must say delivered
SEEN = 0x08  # and from here on a count

KEPT_MAX = 20  # texts of what is wrong
ID = re.compile(r"[?]id=([0-9]+)$")
OUTCOMES = ("delivered", "reset", "timeout", "aborted")


class Ledger:
    def __init__(self) -> None:
        self._states = bytearray()
        self._bodies: dict[int, int] = {}  # of complete ones whose line has not come yet
        self.lines = 0
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self.sends: dict[str, int] = {}
        self.wrong_count = 0
        self.wrong: list[str] = []

    def complain(self, text: str) -> None:
        self.wrong_count += 1
        if len(self.wrong) < KEPT_MAX:
            self.wrong.append(text)

    @property
    def requests(self) -> int:
        return len(self._states)

    def begin(self) -> int:
        """A new request's id."""
        self._states.append(OPEN)
        return len(self._states) - 1

    def end(self, number: int, expectation: int) -> None:
        state = self._states[number]
        if state & EXPECTATION == OPEN:
            self._states[number] = (state & ~EXPECTATION) | expectation

    def complete(self, number: int, body_bytes: int) -> None:
        """All of the response has arrived."""
        self.end(number, ONCE)
        self._states[number] |= COMPLETE
        if self._states[number] < SEEN:
            self._bodies[number] = body_bytes

    def take(self, line: bytes) -> None:
        """A line of a log."""
        self.lines += 1
        try:
            entry = json.loads(line)
        except ValueError:
            self.complain(f"a log line is no JSON: {line[:200]!r}")
            return
        outcome = entry["outcome"]
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        self.sends[entry["send"]] = self.sends.get(entry["send"], 0) + 1
        if outcome not in ("delivered", "reset", "timeout"):
            self.complain(f"the server gave up by itself: {line[:600]!r}")
        match = ID.search(entry["target"] or "")
        number = int(match[1]) if match else -1
        if not 0 <= number < len(self._states):
            self.complain(f"a log line of nobody's request: {line[:200]!r}")
            return
        state = self._states[number]
        if state >= SEEN:
            self.complain(f"request {number} has a second line: {line[:300]!r}")
            return
        self._states[number] = state | SEEN
        body = self._bodies.pop(number, None)
        if state & COMPLETE and (outcome != "delivered" or body not in (None, entry["body_bytes"])):
            self.complain(f"request {number} was complete, but its line says {line[:800]!r}")

    def close(self) -> None:
        """No line follows: those that are missing are wrong, and those that should not be."""
        for number, state in enumerate(self._states):
            expectation = state & EXPECTATION
            if expectation == OPEN:
                self.complain(f"request {number} never ended")
            elif expectation == ONCE and state < SEEN:
                self.complain(f"request {number} has no line")
            elif expectation == NONE and state >= SEEN:
                self.complain(f"request {number} has a line, though it was never whole")


class LogReader:
    """Follows a server's log through its rotations, a few lines at a time, so that nobody has to wait for it."""

    def __init__(self, path: pathlib.Path, ledger: Ledger):
        self.path, self.ledger = path, ledger
        self.old = path.with_suffix(".old")
        self.lines = 0
        self._file = open(path, "rb")
        self._rest = b""  # a line that is being written

    def rotate(self) -> None:
        """Moves the log away; who writes it is to be told. Not while the one before is still read."""
        if not self.old.exists():
            self.path.rename(self.old)

    def read(self, most: int) -> int:
        """Takes at most so many lines. Returns how many there were."""
        for count in range(most):
            line = self._rest + self._file.readline()
            if not line.endswith(b"\n"):
                self._rest = line
                self._next_file()
                return count
            self._rest = b""
            self.lines += 1
            self.ledger.take(line)
        return most

    def _next_file(self) -> None:
        """At the end of one that was moved away: nobody writes to it once the new one is there."""
        if not self.old.exists() or not self.path.exists():
            return
        line = self._file.readline()  # what was written before that was seen
        if line:
            self._rest += line
            if self._rest.endswith(b"\n"):
                self.lines += 1
                self.ledger.take(self._rest)
                self._rest = b""
            return
        self._file.close()
        self._file = open(self.path, "rb")
        self.old.unlink()

    def read_all(self) -> None:
        """Nobody writes any more."""
        while self.read(1 << 20) or self.old.exists():
            pass
        if self._rest:
            self.ledger.complain(f"the log ends in the middle of a line: {self._rest[:200]!r}")
        self._file.close()
