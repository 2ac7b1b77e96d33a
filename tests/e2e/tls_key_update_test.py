#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A client that changes its keys (RFC 8446 4.6.3), and asks the server to do so too: OpenSSL's s_client.

In user space and in kernels from 6.14 on, the connection goes on and its bytes are right. An older
kernel that has the keys cannot change them: then the connection ends, and the client is told in order.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time

import support
import tls_support
from support import wait_for
from tls_support import KTLS_REQUIRED, TLS_1_3, TlsServer

BODY_BYTES = 100_003
KERNEL_CAN_REKEY = (6, 14)
READY = b"Verify return code"  # the end of what s_client says of a handshake
REQUEST = b"GET /body HTTP/1.1\r\nHost: a\r\n\r\n"
PAUSE_SECONDS = 0.2 * support.PATIENCE


def kernel_cannot_rekey() -> bool:
    release = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))
    return KTLS_REQUIRED and release < KERNEL_CAN_REKEY


class SClient:
    """openssl s_client, whose command K changes both sides' keys, and k its own alone."""

    def __init__(self, server: TlsServer, certificate: str):
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.tls_port}", "-tls1_3"]
        command += ["-servername", "a.example", "-CAfile", certificate]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )
        self.said = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        while data := self.process.stdout.read(1 << 16):
            self.said += data

    def say(self, text: bytes) -> None:
        assert self.process.stdin
        try:
            self.process.stdin.write(text)
        except BrokenPipeError:
            pass  # it has ended, which the test will find

    def wait_for(self, what: str, text: bytes, count: int = 1) -> None:
        wait_for(what, lambda: self.said.count(text) >= count or self.process.poll() is not None)

    def end(self) -> int:
        """By the end of its input, unless the server has ended the connection before."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        try:
            return self.process.wait(20 * support.PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
            self._reader.join()
            self.process.stdout.close()


@tls_support.each_engine_and_library
class KeyUpdateTest(tls_support.Case):
    abstract = False

    def setUp(self) -> None:
        if TLS_1_3 not in self.versions():
            self.skipTest(f"{self.vendor} here knows TLS 1.2 only")
        self.body = os.urandom(BODY_BYTES)
        (self.root / "body").write_bytes(self.body)

    def exchange(self, key: bytes, pause_seconds: float) -> None:
        """Twice: new keys, then a request."""
        server = self.serve()
        client = SClient(server, str(self.authority.certificate))
        try:
            client.wait_for("the handshake", READY)
            time.sleep(PAUSE_SECONDS)
            for count in (1, 2):
                client.say(key + b"\n")
                client.wait_for("the new keys", b"KEYUPDATE", count)
                time.sleep(pause_seconds)
                client.say(REQUEST)
                client.wait_for("the body", self.body, count)
        finally:
            status = client.end()
        shown = client.said.replace(self.body, b"[body]")[-300:]
        self.assertEqual(status, 0, shown)
        if kernel_cannot_rekey():
            self.assertIn(b"\nclosed\n", client.said, shown)
            self.assertNotIn(b"HTTP/1.1", client.said)
        else:
            self.assertEqual(client.said.count(self.body), 2, shown)

    def test_new_keys_of_both(self) -> None:
        self.exchange(b"K", PAUSE_SECONDS)

    def test_new_keys_of_the_client(self) -> None:
        self.exchange(b"k", PAUSE_SECONDS)

    def test_a_request_right_behind_new_keys(self) -> None:
        self.exchange(b"K", 0)


if __name__ == "__main__":
    tls_support.main()
