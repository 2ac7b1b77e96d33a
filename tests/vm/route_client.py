# SPDX-License-Identifier: Apache-2.0
"""The program that route.py starts: makes the tap, hands it over, and then does what the guest asks for."""

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
from typing import Any

from route import HOST, PORT, PREFIX_BITS

DEVICE = "weir0"
CLIENT_SECONDS_MAX = 60.0

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000


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
