# SPDX-License-Identifier: Apache-2.0
"""What tests of examples/memory.c share."""

from __future__ import annotations

import functools
import hashlib
import os
import pathlib
import re
import socket
from collections.abc import Iterator

WEIR = pathlib.Path(os.environ.get("WEIR", "build/weir"))
MEMORY = str(pathlib.Path(os.environ.get("WEIR_BUILD", WEIR.parent)) / "example-memory")
BODY_BYTES = 128 * 1024
WHOLE_RESPONSE = r"131[12]\d\d bytes"  # with its head
PATTERN = bytes(range(251))
SECONDS_MAX = 20.0


def body(etag: str) -> bytes:
    """What the ETag says that the body is."""
    first = int(etag.strip('"')) % len(PATTERN)
    repeated = PATTERN * (BODY_BYTES // len(PATTERN) + 2)
    return repeated[first:first + BODY_BYTES]


@functools.cache
def body_sum(etag: str) -> str:
    return hashlib.sha256(body(etag)).hexdigest()


def fetch(address: str, port: int, count: int, target: str = "/") -> Iterator[tuple[str, bytes]]:
    """The ETag and the body of `count` requests on one connection."""
    with socket.create_connection((address, port), SECONDS_MAX) as client, client.makefile("rb") as answer:
        for _ in range(count):
            client.sendall(f"GET {target} HTTP/1.1\r\nHost: memory\r\n\r\n".encode())
            head = "".join(iter(lambda: answer.readline().decode(), "\r\n"))
            length, tag = re.search(r"^Content-Length: (\d+)\r$", head, re.M), re.search(r"^ETag: (.*)\r$", head, re.M)
            assert head.startswith("HTTP/1.1 200 ") and length and tag, head
            yield tag[1], answer.read(int(length[1]))


def status(address: str, port: int) -> dict[str, int]:
    """How its loop has sent."""
    ((_, text),) = fetch(address, port, 1, "/status")
    return {name: int(number) for name, number in (line.split() for line in text.decode().splitlines())}
