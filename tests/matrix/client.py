# SPDX-License-Identifier: Apache-2.0
"""The matrix's own client: Python's sockets and its ssl module, no code of Weir's.

It checks every byte that it receives, and remembers when it had read each.
"""

from __future__ import annotations

import bisect
import socket
import ssl
import time
from typing import NamedTuple

HOST_NAME = "matrix.test"
RECEIVE_BYTES = 1 << 16


class Mismatch(Exception):
    """What came is not what had to come."""


class Exchange(NamedTuple):
    """A request and its response. Times are CLOCK_MONOTONIC's nanoseconds."""

    began_ns: int
    ends: list[int]  # how many bytes of the response had been read ...
    at_ns: list[int]  # ... at this time

    def seconds_until(self, end: int) -> float:
        """From the request's first byte until so many bytes of the response had been read."""
        place = bisect.bisect_left(self.ends, end)
        return (self.at_ns[place] - self.began_ns) / 1e9


def tls_context(certificate: str, version: str) -> ssl.SSLContext:
    """Trusts that certificate alone, and speaks that version alone."""
    context = ssl.create_default_context(cafile=certificate)
    wanted = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
    context.minimum_version = context.maximum_version = wanted
    return context


class Client:
    """One connection. The handshake is over when it has been made."""

    def __init__(self, channel: socket.socket, context: ssl.SSLContext | None):
        self.name = "{}:{}".format(*channel.getsockname()[:2])
        self.version: str | None = None
        self.cipher: str | None = None
        # Else the last part of an upload waits for the acknowledgement of the one before (Nagle).
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if context:
                channel = context.wrap_socket(channel, server_hostname=HOST_NAME)
                self.version, self.cipher = channel.version(), channel.cipher()[0]
        except BaseException:
            channel.close()
            raise
        self.channel = channel

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def exchange(self, line: bytes, body: bytes, wanted: bytes) -> Exchange:
        found = Exchange(time.monotonic_ns(), [], [])
        # A record of its own: nobody can read a record before all of it is there.
        self.channel.sendall(line)
        if body:
            self.channel.sendall(body)
        received = 0
        while received < len(wanted):
            # A delayed ACK is 40 ms and a tick of the clock: all that is allowed, and not the server's.
            self.channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            data = self.channel.recv(RECEIVE_BYTES)
            at_ns = time.monotonic_ns()
            if not data:
                raise Mismatch(f"the connection ended after {received} of {len(wanted)} bytes")
            if data != wanted[received : received + len(data)]:
                raise Mismatch(self._difference(data, wanted, received))
            received += len(data)
            found.ends.append(received)
            found.at_ns.append(at_ns)
        return found

    @staticmethod
    def _difference(data: bytes, wanted: bytes, start: int) -> str:
        if len(wanted) <= 32:
            return f"the answer is {data!r}, not {wanted!r}"
        expected = wanted[start : start + len(data)]
        same = next((i for i, pair in enumerate(zip(data, expected)) if pair[0] != pair[1]), None)
        if same is None:
            return f"more than {len(wanted)} bytes came"
        return f"byte {start + same} is {data[same]}, not {expected[same]}"

    def end(self) -> None:
        """Ends both directions in good order, and sees that the server does so too."""
        if isinstance(self.channel, ssl.SSLSocket):
            self.channel = self.channel.unwrap()  # raises if there is no close_notify
        self.channel.shutdown(socket.SHUT_WR)
        if self.channel.recv(1):
            raise Mismatch("more came than was asked for")
