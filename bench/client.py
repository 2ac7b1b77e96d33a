# SPDX-License-Identifier: Apache-2.0
"""A client that opens connections one at a time, as h2load cannot: to keep them, or to resume sessions."""
import resource
import socket
import ssl

import harness

CONNECT_SECONDS_MAX = 30
READ_BYTES = 65536


def allow_descriptors(count):
    """Room for so many in this process and in those that it starts. Raises BenchError if there is none."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= count:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(hard, count)))
    except (ValueError, OSError) as error:
        raise harness.BenchError(
            f"{count} descriptors are needed, {hard} are allowed (ulimit -Hn)") from error


def make_context(version):
    """Of harness.TLS. The server's certificate signs itself, and nothing secret is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    which = {"1.3": ssl.TLSVersion.TLSv1_3, "1.2": ssl.TLSVersion.TLSv1_2}[version]
    context.minimum_version = context.maximum_version = which
    if version == "1.2":
        context.set_ciphers(harness.TLS[version][1])
    return context


def connect(server, context=None, session=None):
    """A connection to a harness.Server; over TLS with a context."""
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=CONNECT_SECONDS_MAX)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is None:
        return plain
    return context.wrap_socket(plain, server_hostname="localhost", session=session)


def request(connection, server, target, close=False):
    """One request and its whole answer."""
    ending = "Connection: close\r\n" if close else ""
    connection.sendall(f"GET /{target} HTTP/1.1\r\nHost: localhost\r\n{ending}\r\n".encode())
    got, wanted = b"", None
    while wanted is None or len(got) < wanted:
        piece = connection.recv(READ_BYTES)
        if not piece:
            raise harness.BenchError(f"{server.name}: {len(got)} bytes, then the end")
        got += piece
        if wanted is None and b"\r\n\r\n" in got:
            head_length = got.index(b"\r\n\r\n") + 4
            if not got.startswith(b"HTTP/1.1 200 "):
                raise harness.BenchError(f"{server.name}: {got[:40]!r}")
            wanted = head_length + harness.SIZES[target]
