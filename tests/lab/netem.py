# SPDX-License-Identifier: Apache-2.0
"""A long link as lab.py's, of netem: both ends in one namespace, on a loopback device that delays.

For the virtual machine, whose kernels have netem and in whose mode "virtual" the times are exact; few
hosts have it. The calling thread moves into the namespace, with the threads and programs it starts.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

from lab import CLONE_NEWNET, TCP_INFO_RTT_OFFSET, LabUnavailable, ending_with_us, process_end


class NetemLab:
    """As much of Lab as its users need."""

    SERVER = CLIENT = "127.0.0.1"

    def __init__(self, ping_ms: float = 320) -> None:
        self._ping_ms = ping_ms
        self._processes: list[subprocess.Popen[Any]] = []

    def __enter__(self) -> NetemLab:
        if os.geteuid() != 0:
            raise LabUnavailable("not root")
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
            raise LabUnavailable("network namespaces are not allowed here")
        # An Ethernet's MTU, not loopback's 64 KiB: slow start counts segments.
        for command in ("ip link set lo mtu 1500 up",
                        f"tc qdisc add dev lo root netem delay {self._ping_ms / 2:g}ms limit 100000"):
            done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise LabUnavailable(f"no netem here: {command}: {done.stderr.strip()}")
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process_end(process)

    @contextlib.contextmanager
    def inside(self, side: str) -> Iterator[None]:
        """Both sides are here."""
        yield

    def server_exec(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        process = subprocess.Popen(ending_with_us(command), **options)
        self._processes.append(process)
        return process

    def connect(self, port: int, timeout: float = 30.0) -> socket.socket:
        return socket.create_connection((self.SERVER, port), timeout=timeout)

    def ping(self) -> float:
        """Milliseconds there and back: how long the kernel saw a connection take to open."""
        with socket.create_server((self.SERVER, 0)) as listener:
            with self.connect(listener.getsockname()[1]) as client:
                info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_RTT_OFFSET + 4)
                return struct.unpack_from("I", info, TCP_INFO_RTT_OFFSET)[0] / 1000

    def setting(self, name: str) -> str:
        with open(f"/proc/sys/net/{name}") as file:
            return file.read().strip()
