# SPDX-License-Identifier: Apache-2.0
"""The other end of the guest's network device: a tap in a network namespace, and a client that lives there.

The tap has a virtio_net_hdr, so the guest's device takes packets in pieces and leaves checksums and segments to
this side: what the guest's kernel sends, QEMU reads where it lies. That is zero copy in earnest; loopback, veth and
TUN copy. Nothing of it is in the host's own network: the namespace has no name and vanishes with its process.

    with tap([], log) as descriptor:    # for QEMU: -netdev tap,fd=descriptor

The client (route_client.py) does what the guest asks for, a line of JSON each, by TCP to HOST:PORT:

    {"port": 8080, "tls": false, "target": "/x", "count": 3}    # requests, on one connection
    {"bodies": [{"sha256": "...", "etag": "..."}, ...]}         # or {"error": "..."}
    {"port": 8080, "reset": true}                               # a request, and a RST when the response begins
    {"bodies": []}
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

HARDWARE_ADDRESS = "52:54:00:77:65:69"  # of the guest's device; the range is for those who make their own
HOST, GUEST, PREFIX_BITS, PORT = "10.78.0.1", "10.78.0.2", 24, 7078
CLIENT = str(pathlib.Path(__file__).with_name("route_client.py"))
START_SECONDS_MAX = 10.0
AS_ROOT = ["unshare", "--net"]
AS_USER = ["unshare", "--map-root-user", "--net"]


class RouteUnavailable(Exception):
    """This host cannot have the device; the text says why."""


@contextlib.contextmanager
def tap(ending_with_us: Sequence[str], log: Any) -> Iterator[int]:
    """The tap's descriptor, and the client behind it, while the context lasts.

    `ending_with_us` comes before the client's command. Raises RouteUnavailable.
    """
    with contextlib.ExitStack() as stack:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        stack.enter_context(ours)  # its end is how the client hears of ours
        wrapper = AS_ROOT if os.geteuid() == 0 else AS_USER
        command = [*ending_with_us, *wrapper, os.path.realpath(sys.executable), CLIENT, str(theirs.fileno())]
        with theirs:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       pass_fds=[theirs.fileno()])
        stack.callback(process.wait)
        stack.callback(process.kill)
        ours.settimeout(START_SECONDS_MAX)
        try:
            said, descriptors, _, _ = socket.recv_fds(ours, 200, 1)
        except OSError as error:
            said, descriptors = str(error).encode(), []
        if not descriptors:
            raise RouteUnavailable(said.decode() or "no network namespace with a tap device")
        stack.callback(os.close, descriptors[0])
        yield descriptors[0]
