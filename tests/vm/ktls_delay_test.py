#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""When a kernel TLS socket says that its bytes arrived, over a link with a ping of 320 ms.

The link is the loopback device of a network namespace with netem, which the virtual machine's kernels
have; its mode "virtual" makes the times exact.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
import subprocess
import threading
import time
import unittest

PING_SECONDS = 0.320
ONE_WAY_SECONDS = PING_SECONDS / 2
DELAYED_ACK_SECONDS = 0.045
ERROR_SECONDS = 0.010
BODY_BYTES = 128 * 1024
RECORD_OVERHEAD = 22  # of a TLS 1.3 record: header, inner type, tag
PATIENCE_SECONDS = 20.0
STAMPS_MAX = 10000

CLONE_NEWNET = 0x40000000
TCP_ULP = 31
SOL_TLS, TLS_TX, TLS_RX = 282, 1, 2
SO_TIMESTAMPING = 37
SOFTWARE_ID_TSONLY = 1 << 4 | 1 << 7 | 1 << 11
TX_SOFTWARE, TX_ACK = 1 << 1, 1 << 9
IP_RECVERR = 11
SENT, ACKED = 0, 2
FIRST_SEQUENCE = 9
# struct tls12_crypto_info_aes_gcm_128: version, cipher, iv, key, salt, rec_seq
KEYS = struct.pack("=HH8s16s4s8s", 0x0304, 51, b"i" * 8, b"k" * 16, b"s" * 4,
                   FIRST_SEQUENCE.to_bytes(8, "big"))


def setUpModule() -> None:
    if os.geteuid() != 0:
        raise unittest.SkipTest("not root")
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        raise unittest.SkipTest("network namespaces are not allowed here")
    for command in ("ip link set lo mtu 1500 up",
                    f"tc qdisc add dev lo root netem delay {ONE_WAY_SECONDS * 1000:g}ms limit 100000"):
        done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise unittest.SkipTest(f"no netem here: {command}: {done.stderr.strip()}")


class Receiver(threading.Thread):
    """Reads all, and remembers when it had the last byte."""

    def __init__(self, channel: socket.socket):
        super().__init__(daemon=True)
        self.channel, self.received, self.at = channel, 0, 0.0

    def run(self) -> None:
        while self.received < BODY_BYTES:
            data = self.channel.recv(1 << 16)
            if not data:
                return
            self.received, self.at = self.received + len(data), time.time()


class KtlsDelayTest(unittest.TestCase):
    def setUp(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.client = socket.create_connection(listener.getsockname(), timeout=PATIENCE_SECONDS)
        self.server, _ = listener.accept()
        self.server.settimeout(PATIENCE_SECONDS)
        self.server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * BODY_BYTES)
        listener.close()
        self.addCleanup(self.client.close)
        self.addCleanup(self.server.close)
        try:
            self.server.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
        except FileNotFoundError:
            if os.environ.get("WEIR_KTLS"):
                raise
            self.skipTest("this kernel has no TLS")
        self.client.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
        self.server.setsockopt(SOL_TLS, TLS_TX, KEYS)
        self.client.setsockopt(SOL_TLS, TLS_RX, KEYS)

    def sequence(self) -> int:
        return int.from_bytes(self.server.getsockopt(SOL_TLS, TLS_TX, len(KEYS))[-8:], "big")

    def stamp_of(self, wanted_kind: int, wanted_id: int) -> float:
        """Reads the error queue until the stamp is there."""
        poller = select.poll()
        poller.register(self.server, 0)
        for _ in range(STAMPS_MAX):
            self.assertTrue(poller.poll(PATIENCE_SECONDS * 1000), "no stamp")
            _, control, _, _ = self.server.recvmsg(0, 512, socket.MSG_ERRQUEUE)
            at = kind = number = None
            for level, option, value in control:
                if (level, option) == (socket.SOL_SOCKET, SO_TIMESTAMPING):
                    seconds, nanoseconds = struct.unpack_from("=qq", value)
                    at = seconds + nanoseconds / 1e9
                elif (level, option) == (socket.IPPROTO_IP, IP_RECVERR):
                    _, _, _, _, _, kind, number = struct.unpack_from("=IBBBBII", value)
            if (kind, number) == (wanted_kind, wanted_id):
                return at
        raise AssertionError("too many stamps")

    def test_the_ack_of_the_last_record_tells_the_arrival(self) -> None:
        self.server.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING,
                               SOFTWARE_ID_TSONLY | TX_SOFTWARE | TX_ACK)
        receiver = Receiver(self.client)
        receiver.start()
        began = time.time()
        self.server.sendall(bytes(BODY_BYTES))
        taken = time.time()
        wire_bytes = BODY_BYTES + RECORD_OVERHEAD * (self.sequence() - FIRST_SEQUENCE)
        acked = self.stamp_of(ACKED, wire_bytes - 1)
        receiver.join(PATIENCE_SECONDS)
        print(f"\nwrite() {taken - began:.4f} s, received {receiver.at - began:.4f} s, "
              f"acknowledged {acked - began:.4f} s")
        self.assertEqual(receiver.received, BODY_BYTES)
        self.assertLess(taken - began, ONE_WAY_SECONDS)
        self.assertGreater(receiver.at - began, 2 * PING_SECONDS)  # slow start: it took several
        self.assertGreater(acked - receiver.at, ONE_WAY_SECONDS - ERROR_SECONDS)
        self.assertLess(acked - receiver.at, ONE_WAY_SECONDS + DELAYED_ACK_SECONDS + ERROR_SECONDS)

    def test_the_ping_is_exact(self) -> None:
        self.client.settimeout(PATIENCE_SECONDS)
        for _ in range(3):
            began = time.time()
            self.server.sendall(b"ping")
            self.assertEqual(self.client.recv(4), b"ping")
            self.assertAlmostEqual(time.time() - began, ONE_WAY_SECONDS, delta=ERROR_SECONDS)


if __name__ == "__main__":
    unittest.main(verbosity=2)
