# SPDX-License-Identifier: Apache-2.0
"""The other end of the guest's network device: a tap in a network namespace, and a client that lives there.

The tap has a virtio_net_hdr, so the guest's device takes packets in pieces and leaves checksums and segments to
this side: what the guest's kernel sends, QEMU reads where it lies. That is zero copy in earnest; loopback, veth and
TUN copy. Nothing of it is in the host's own network: the namespace has no name and vanishes with this process.

    process, tap = start(log)     # for QEMU: -netdev tap,fd=tap

The client does what the guest asks for, a line of JSON each, by TCP to HOST:PORT:

    {"port": 8080, "tls": false, "target": "/x", "count": 3}    # requests, on one connection
    {"bodies": [{"sha256": "...", "etag": "..."}, ...]}         # or {"error": "..."}
    {"port": 8080, "reset": true}                               # a request, and a RST when the response begins
    {"bodies": []}
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

HOST, GUEST, PREFIX_BITS, PORT = "10.78.0.1", "10.78.0.2", 24, 7078
DEVICE = "weir0"
CLIENT_SECONDS_MAX = 60.0
START_SECONDS_MAX = 10.0

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
AS_ROOT = ["unshare", "--net"]
AS_USER = ["unshare", "--map-root-user", "--net"]


class RouteUnavailable(Exception):
    """This host cannot have the device; the text says why."""


def start(ending_with_us: Sequence[str], log: Any) -> tuple[subprocess.Popen[Any], int]:
    """Starts this file as a program, with `ending_with_us` before it, and takes the tap's descriptor from it.

    The process ends when it is told to, or when this one does. Raises RouteUnavailable.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    wrapper = AS_ROOT if os.geteuid() == 0 else AS_USER
    command = [*ending_with_us, *wrapper, os.path.realpath(sys.executable), __file__, str(theirs.fileno())]
    with theirs:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   pass_fds=[theirs.fileno()])
    ours.settimeout(START_SECONDS_MAX)
    try:
        said, descriptors, _, _ = socket.recv_fds(ours, 200, 1)
    except OSError as error:
        said, descriptors = str(error).encode(), []
    if not descriptors:
        ours.close()
        process.kill()
        process.wait()
        raise RouteUnavailable(said.decode() or "no network namespace with a tap device")
    ours.detach()  # stays open as long as this process: its end is how the other one hears of ours
    return process, descriptors[0]


def tap_open() -> int:
    """A tap device with an address, in this process's namespace."""
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
    for command in (f"ip address add {HOST}/{PREFIX_BITS} dev {DEVICE}", f"ip link set {DEVICE} up"):
        subprocess.run(command.split(), check=True)
    return tap


def reset(address: str, port: int) -> list[dict[str, str]]:
    with socket.create_connection((address, port), CLIENT_SECONDS_MAX) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: route\r\n\r\n")
        client.recv(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return []


def fetch(address: str, order: dict[str, Any]) -> list[dict[str, str]]:
    """Makes the requests, one after the other, and reads the bodies to their ends."""
    options: dict[str, Any] = {"timeout": CLIENT_SECONDS_MAX}
    kind: type[http.client.HTTPConnection] = http.client.HTTPConnection
    if order["tls"]:
        kind, options["context"] = http.client.HTTPSConnection, ssl.create_default_context()
        options["context"].check_hostname = False
        options["context"].verify_mode = ssl.CERT_NONE  # the server made its certificate itself
    with contextlib.closing(kind(address, order["port"], **options)) as connection:
        bodies = []
        for _ in range(order["count"]):
            connection.request("GET", order["target"])
            response = connection.getresponse()
            body = response.read()
            if response.status != 200:
                raise OSError(f"status {response.status}")
            bodies.append({"sha256": hashlib.sha256(body).hexdigest(),
                           "etag": response.getheader("ETag", "")})
    return bodies


def obey(address: str, order: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"bodies": reset(address, order["port"]) if "reset" in order else fetch(address, order)}
    except (OSError, http.client.HTTPException) as error:
        return {"error": repr(error)}


class Handler(socketserver.StreamRequestHandler):
    """One connection of the guest's."""

    def handle(self) -> None:
        for line in self.rfile:
            answer = obey(self.client_address[0], json.loads(line))
            self.wfile.write(json.dumps(answer).encode() + b"\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


def main() -> None:
    parent = socket.socket(fileno=int(sys.argv[1]))
    try:
        tap = tap_open()
        server = Server((HOST, PORT), Handler)
    except (OSError, subprocess.CalledProcessError) as error:
        parent.sendall(f"no tap device: {error}".encode())
        return
    threading.Thread(target=server.serve_forever, daemon=True).start()
    socket.send_fds(parent, [b"tap"], [tap])
    os.close(tap)  # the device is gone when QEMU is
    parent.recv(1)  # until the other process has ended


if __name__ == "__main__":
    main()
