# SPDX-License-Identifier: Apache-2.0
"""Thousands of clients in one process, good ones and bad ones, each of which knows what it must get.

A client is a connection: it is opened, has a few requests, one at a time or several at once, and ends in one of
the ways in which connections end. Every byte of every body is compared with the file's.
"""

from __future__ import annotations

import dataclasses
import errno
import heapq
import itertools
import random
import re
import select
import socket
import ssl
import struct
import time
from collections import deque

import ledger as books
from ledger import Ledger

READ_BYTES = 1 << 18
HEAD_MAX = 1 << 14
SLOW_RECEIVE_BUFFER = 16 << 10
STUCK_S = 120.0  # no client may wait longer than this for a byte that it asked for
STALL_S = 45.0  # longer than the servers' --send-timeout
SLOW_S = 0.2
SLOW_BYTES = 4096
ROUND_MAX = 256

# How a client ends, and how many in a thousand do.
MANNERS = {
    "keep": 620,  # several requests, then it closes
    "close": 180,  # the last request says so, and the server closes
    "abort": 80,  # a reset in the middle of a response
    "leave": 40,  # the same by close(), as browsers do
    "slow": 30,  # reads little, now and then
    "stall": 10,  # reads nothing any more: the server must give it up
    "half": 30,  # half a request, then it closes
    "late": 10,  # half a request, and no more: 408
}
# Sizes of files, and how many requests in a thousand ask for them.
SIZES = {
    100: 300,
    1_000: 200,
    16_384: 160,
    16_385: 60,
    65_536: 120,
    131_072: 120,
    1_048_576: 35,
    8_388_608: 5,
}


@dataclasses.dataclass
class Target:
    """Where a server listens."""

    port: int
    tls: bool


@dataclasses.dataclass
class Totals:
    opened: int = 0
    completed: int = 0
    refused: int = 0
    bytes: int = 0


class World:
    """What all clients share."""

    def __init__(self, files: dict[int, bytes], ledger: Ledger, seed: int, think_s: float):
        self.files, self.ledger, self.think_s = files, ledger, think_s
        self.random = random.Random(seed)
        self.context = ssl.create_default_context()
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        self.epoll = select.epoll()
        self.clients: dict[int, Client] = {}
        self.timers: list[tuple[float, int, Client]] = []
        self.left: list[Target] = []  # where a client left, and the next one comes
        self.order = itertools.count()
        self.totals = Totals()
        self.ending = False
        self.ran_at = time.monotonic()
        self.pause_max_s = 0.0  # servers give up clients that take nothing for some seconds
        self.room = bytearray(READ_BYTES)
        self.view = memoryview(self.room)

    def open(self, target: Target) -> None:
        Client(self, target)

    def at(self, when: float, client: Client) -> None:
        client.due = when
        heapq.heappush(self.timers, (when, next(self.order), client))

    def run_once(self, wait_s: float) -> None:
        if self.timers:
            wait_s = min(wait_s, max(0.0, self.timers[0][0] - time.monotonic()))
        self.pause_max_s = max(self.pause_max_s, time.monotonic() - self.ran_at)
        ready = self.epoll.poll(wait_s, ROUND_MAX)
        self.ran_at = time.monotonic()
        for number, _ in ready:
            client = self.clients.get(number)
            if client:
                client.guarded(client.on_ready)
        now = time.monotonic()
        while self.timers and self.timers[0][0] <= now:
            when, _, client = heapq.heappop(self.timers)
            if client.due == when and not client.gone:
                client.guarded(client.on_timer)
        left, self.left = self.left, []
        for target in left:
            self.open(target)

    def stop(self) -> None:
        """All clients leave, whatever they wait for."""
        self.ending = True
        for client in list(self.clients.values()):
            client.leave(client.manner != "keep")


class Client:
    def __init__(self, world: World, target: Target):
        self.world, self.target = world, target
        choose = world.random
        self.manner = choose.choices(list(MANNERS), list(MANNERS.values()))[0]
        self.left = 1 if self.manner in ("half", "late") else choose.randint(1, 12)
        self.asked: deque[tuple[int, int]] = deque()  # id and size, in the order of the requests
        self.head = b""
        self.offset = -1  # in the body; -1: in the head
        self.gone = self.shaking = False
        self.cut = self.got = 0  # abort and leave: after so many bytes of the last body
        self.due = 0.0
        self.channel: socket.socket | ssl.SSLSocket = socket.socket()
        self.channel.setblocking(False)
        if self.manner in ("slow", "stall"):
            self.channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_RECEIVE_BUFFER)
        self.number = self.channel.fileno()
        world.clients[self.number] = self
        world.totals.opened += 1
        self.watched = 0
        self.guarded(self._connect)

    def guarded(self, act) -> None:
        try:
            act()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            pass
        except (ConnectionError, ssl.SSLError) as error:
            self._lost(error)

    def _watch(self, events: int) -> None:
        if events == self.watched:
            return
        if not self.watched:
            self.world.epoll.register(self.number, events)
        elif events:
            self.world.epoll.modify(self.number, events)
        else:
            self.world.epoll.unregister(self.number)
        self.watched = events

    def _wait(self, seconds: float) -> None:
        self.world.at(time.monotonic() + seconds, self)

    # ---- opening

    def _connect(self) -> None:
        error = self.channel.connect_ex(("127.0.0.1", self.target.port))
        if error not in (0, errno.EINPROGRESS):
            raise ConnectionError(error)
        self.shaking = True
        self._watch(select.EPOLLOUT)
        self._wait(STUCK_S)

    def _opened(self) -> None:
        error = self.channel.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise ConnectionError(error)
        self._watch(select.EPOLLIN)
        if self.target.tls:
            if not isinstance(self.channel, ssl.SSLSocket):
                self.channel = self.world.context.wrap_socket(
                    self.channel, do_handshake_on_connect=False
                )
            self.channel.do_handshake()
        self.shaking = False
        self._ask()

    # ---- asking

    def _request(self, last: bool) -> bytes:
        choose = self.world.random
        number = self.world.ledger.begin()
        size = choose.choices(list(SIZES), list(SIZES.values()))[0]
        if self.manner in ("slow", "stall", "abort", "leave") and last:
            size = choose.choice([131_072, 1_048_576, 8_388_608])
        if self.manner == "slow" and last:
            size = 131_072
        self.asked.append((number, size))
        end = "Connection: close\r\n\r\n" if last and self.manner == "close" else "\r\n"
        return f"GET /{size}?id={number} HTTP/1.1\r\nHost: a.example\r\n{end}".encode()

    def _ask(self) -> None:
        """The next requests; several at once now and then."""
        if self.world.ending:
            self.leave(False)
            return
        count = min(self.left, self.world.random.choice((1, 1, 1, 1, 1, 4)))
        self.left -= count
        data = b"".join(self._request(self.left == 0 and i == count - 1) for i in range(count))
        if self.manner in ("half", "late"):
            data = data[:-3]
        if self.left == 0 and self.manner in ("abort", "leave", "stall"):
            self.cut = self.world.random.randrange(self.asked[-1][1])
        # A few hundred bytes into an empty buffer: either all fit or the connection is dead.
        if self.channel.send(data) != len(data):
            raise ConnectionError("a request did not fit")
        self._wait(self.world.random.random() if self.manner == "half" else STUCK_S)

    # ---- what arrives

    def on_ready(self) -> None:
        if self.shaking:
            self._opened()
            return
        most = READ_BYTES if self.manner != "slow" else SLOW_BYTES
        count = self.channel.recv_into(self.world.room, most)
        if count == 0:
            raise ConnectionError("the server closed")
        self.world.totals.bytes += count
        self._take(count)
        if self.gone:
            return
        if self.manner == "slow" and self.asked:
            self._watch(0)
            self._wait(SLOW_S)
        elif self.target.tls and self.channel.pending():
            self._wait(0.0)
        elif self.asked:
            self._wait(STUCK_S)

    def _take(self, count: int) -> None:
        at = 0
        while at < count and not self.gone:
            if not self.asked:
                self._wrong(f"bytes that nobody asked for: {bytes(self.world.view[at:count][:99])!r}")
                return
            if self.offset < 0:
                at = self._take_head(at, count)
            else:
                at = self._take_body(at, count)

    def _take_head(self, at: int, count: int) -> int:
        before = len(self.head)
        self.head += bytes(self.world.view[at : min(count, at + HEAD_MAX)])
        end = self.head.find(b"\r\n\r\n")
        if end < 0:
            if len(self.head) > HEAD_MAX:
                self._wrong("a head without an end")
            return count
        head, self.head = self.head[: end + 4], b""
        number, size = self.asked[0]
        self.world.ledger.end(number, books.ONCE)
        if self.manner == "late" and head.startswith(b"HTTP/1.1 408 "):
            self.asked.popleft()
            self.leave(False)
            return count
        length = re.search(rb"\r\nContent-Length: ([0-9]+)\r\n", head)
        if not head.startswith(b"HTTP/1.1 200 ") or not length or int(length[1]) != size:
            self._wrong(f"/{size} was answered with {head!r}")
        self.offset = 0
        return at + end + 4 - before

    def _take_body(self, at: int, count: int) -> int:
        number, size = self.asked[0]
        part = min(count - at, size - self.offset)
        if not self.world.files[size].startswith(self.world.view[at : at + part], self.offset):
            self._wrong(f"the body of /{size}?id={number} is wrong near {self.offset}")
        self.offset += part
        if self.left == 0 and len(self.asked) == 1 and self.offset > self.cut > 0:
            self._cut_off()
        elif self.offset == size:
            self._completed(number, size)
        return at + part

    def _completed(self, number: int, size: int) -> None:
        if self.manner in ("abort", "leave"):
            # Its kernel may still be waiting to acknowledge this when the reset comes.
            self.world.ledger.end(number, books.ONCE)
        else:
            self.world.ledger.complete(number, size)
        self.world.totals.completed += 1
        self.asked.popleft()
        self.offset = -1
        if self.asked or self.manner == "close" and self.left == 0:
            return
        if self.left == 0:
            self.leave(False)
        else:
            self._watch(select.EPOLLIN)
            self._wait(self.world.random.random() * 2 * self.world.think_s)

    def _cut_off(self) -> None:
        if self.manner == "stall":
            self._watch(0)
            self._wait(STALL_S)
        else:
            self.leave(self.manner == "abort")

    def on_timer(self) -> None:
        if self.manner == "slow" and not self.watched:
            self._watch(select.EPOLLIN)
            self._wait(STUCK_S)
            self.on_ready()
        elif self.manner == "half" or self.manner == "stall" and not self.watched:
            self.leave(False)
        elif self.asked or self.shaking:
            if self.target.tls and not self.shaking and self.channel.pending():
                self.on_ready()
            else:
                self._wrong(f"{self.manner}: {len(self.asked)} responses waited too long for a byte")
                self.leave(True)
        elif self.left == 0:
            self._wrong(f"{self.manner}: the server does not close")
            self.leave(True)
        else:
            self._ask()

    # ---- the end

    def _wrong(self, text: str) -> None:
        self.world.ledger.complain(text)

    def _lost(self, error: Exception) -> None:
        """The server ended the connection."""
        if self.asked and self.manner not in ("late", "half"):
            self._wrong(f"{self.manner}: lost with {len(self.asked)} responses missing: {error}")
        self.leave(False)

    def leave(self, reset: bool) -> None:
        if self.gone:
            return
        self.gone = True
        for index, (number, _) in enumerate(self.asked):
            if self.manner == "half":
                self.world.ledger.end(number, books.NONE)
            elif index == 0 and self.offset >= 0:
                self.world.ledger.end(number, books.ONCE)
            else:
                self.world.ledger.end(number, books.PERHAPS)
        self._watch(0)
        del self.world.clients[self.number]
        if reset:
            self.channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.channel.close()
        if not self.world.ending:
            self.world.left.append(self.target)
