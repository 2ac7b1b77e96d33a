# SPDX-License-Identifier: Apache-2.0
"""What tests of examples/memory.c share."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import os
import pathlib

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


def status(address: str, port: int) -> dict[str, int]:
    """How its loop has sent."""
    with contextlib.closing(http.client.HTTPConnection(address, port, timeout=SECONDS_MAX)) as connection:
        connection.request("GET", "/status")
        lines = connection.getresponse().read().decode().splitlines()
    return {name: int(number) for name, number in (line.split() for line in lines)}
