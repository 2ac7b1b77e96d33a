# SPDX-License-Identifier: Apache-2.0
"""What the tests of TLS share: certificates, a server that has TLS, a strict client."""

from __future__ import annotations

import functools
import itertools
import json
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Iterable
from typing import Any

import support
from support import Connection, Server, need_program, wait_for, weir_run

TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
KB = 1024
HUGE_BYTES = 32 * KB * KB
# Set where a kernel that has TLS is what is tested.
KTLS_REQUIRED = bool(os.environ.get("WEIR_KTLS"))
# What the log says of bytes that did not come from a file: zero copy is tried on each route.
SENT_FROM_MEMORY = ("copy", "zerocopy", "copied")
# IANA's names of what OpenSSL calls otherwise.
IANA_NAMES = {
    "ECDHE-ECDSA-AES128-GCM-SHA256": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384": "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305": "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
}


@functools.cache
def libraries() -> dict[str, list[ssl.TLSVersion]]:
    """The libraries that the program has, and the versions of TLS that each knows."""
    report = json.loads(weir_run("doctor", "--json", seconds=60).stdout)
    return {
        library["name"]: [TLS_1_2, TLS_1_3] if library["newest"] == "TLSv1.3" else [TLS_1_2]
        for library in report["tls_libraries"]
    }


def chosen_libraries() -> list[str]:
    """All, or those in WEIR_TLS_VENDORS, a list with commas."""
    only = os.environ.get("WEIR_TLS_VENDORS")
    return [name for name in libraries() if not only or name in only.split(",")]


def one_engine() -> str:
    return next(engine for engine in support.ENGINES if not support.engine_lacking(engine))


def variants(test: type[unittest.TestCase], pairs: Iterable[tuple[str, str]]) -> Any:
    """Replaces a test class by one for each engine and library, in `self.engine`, `self.vendor`."""
    module = sys.modules[test.__module__]
    for engine, vendor in pairs:
        name = f"{test.__name__}_{engine}_{vendor}"
        facts = {"engine": engine, "vendor": vendor, "__module__": test.__module__}
        variant = type(name, (test,), facts)
        lacking = support.engine_lacking(engine)
        setattr(module, name, unittest.skip(lacking)(variant) if lacking else variant)
    setattr(test, "abstract", True)
    return test


def each_engine_and_library(test: type[unittest.TestCase]) -> Any:
    pairs = itertools.product(support.ENGINES, chosen_libraries())
    if KTLS_REQUIRED:
        # That is in an emulated machine, where all of them together take too long.
        engine, vendors = one_engine(), chosen_libraries()[:1]
        pairs = [pair for pair in pairs if pair[0] == engine or pair[1] in vendors]
    return variants(test, pairs)


def each_library(test: type[unittest.TestCase]) -> Any:
    """For what goes on in the library, whatever the kernel."""
    only = 1 if KTLS_REQUIRED else None
    return variants(test, [(one_engine(), vendor) for vendor in chosen_libraries()[:only]])


def each_engine(test: type[unittest.TestCase]) -> Any:
    return variants(test, itertools.product(support.ENGINES, chosen_libraries()[:1]))


def main() -> None:
    if not chosen_libraries():
        print("SKIP: all: weir was built without TLS")
        sys.exit(support.EXIT_SKIP)
    support.main()


class Authority:
    """A certificate authority and what it signs, as PEM files in a folder of its own."""

    def __init__(self, name: str = "a test's authority"):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-authority-"))
        self.certificate = self.folder / "authority.pem"
        self._count = 0
        self._make(self.certificate, name, "basicConstraints=critical,CA:TRUE")

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make(self, file: pathlib.Path, name: str, extension: str, *more: str) -> None:
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        command += ["-nodes", "-days", "90", "-subj", f"/CN={name}", "-addext", extension]
        command += ["-keyout", str(file.with_suffix(".key")), "-out", str(file), *more]
        subprocess.run(command, check=True, capture_output=True)

    def sign(self, *names: str) -> pathlib.Path:
        """A new certificate for those DNS names. Its key has the suffix .key in place of .pem."""
        self._count += 1
        file = self.folder / f"{names[0]}-{self._count}.pem"
        key = str(self.certificate.with_suffix(".key"))
        alternative = "subjectAltName=" + ",".join(f"DNS:{name}" for name in names)
        signer = ["-CA", str(self.certificate), "-CAkey", key]
        self._make(file, names[0], alternative, *signer, "-addext", "basicConstraints=CA:FALSE")
        return file

    def client(self, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """A client's settings: it trusts this authority alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.certificate)
        if version:
            context.minimum_version = context.maximum_version = version
        return context


def pair(*certificates: pathlib.Path) -> list[str]:
    """The options for certificates and their keys."""
    options = []
    for certificate in certificates:
        options += ["--cert", str(certificate), "--key", str(certificate.with_suffix(".key"))]
    return options


class TlsConnection(Connection):
    """The strict client under TLS: an end without close_notify is an error."""

    channel: ssl.SSLSocket

    def receive_some(self, most: int = 1 << 18) -> bytes:
        data = self.channel.recv(most)
        self.received += len(data)
        return data

    def discard(self, length: int) -> None:
        while length:
            length -= len(self.take(min(length, 1 << 20)))

    def raw(self) -> socket.socket:
        """The connection below TLS, for what no honest client does."""
        return socket.socket(fileno=os.dup(self.channel.fileno()))


class TlsServer(Server):
    """A server with a TLS address beside the plain one."""

    def __init__(self, root: str | pathlib.Path, *options: str, engine: str, vendor: str):
        tls_options = ["--listen-tls", "127.0.0.1:0", "--tls", vendor]
        super().__init__(root, *tls_options, *options, engine=engine)

        def said() -> re.Match[str] | None:
            return re.search(r"on https://127\.0\.0\.1:([0-9]+) ", self.errors())

        try:
            self.tls_port = int(wait_for("weir to say where it has TLS", said)[1])
        except BaseException:
            self.stop()
            raise

    def connect_raw(self, seconds: float = 10.0, receive_bytes: int | None = None) -> socket.socket:
        """TCP to the TLS address, and nothing more."""
        channel = socket.socket()
        channel.settimeout(seconds * support.PATIENCE)
        if receive_bytes is not None:
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        channel.connect((self.host, self.tls_port))
        return channel

    def connect_tls(
        self,
        client: ssl.SSLContext,
        name: str | None = "a.example",
        session: ssl.SSLSession | None = None,
        receive_bytes: int | None = None,
    ) -> TlsConnection:
        raw = self.connect_raw(receive_bytes=receive_bytes)
        try:
            channel = client.wrap_socket(
                raw, server_hostname=name, suppress_ragged_eofs=False, session=session
            )
        except BaseException:
            raw.close()
            raise
        return TlsConnection(channel)

    def tls_url(self, target: str, name: str = "127.0.0.1") -> str:
        return f"https://{name}:{self.tls_port}{target}"

    def wait_for_error(self, text: str) -> str:
        """Waits until standard error has it, and returns all of it."""

        def said() -> str | None:
            errors = self.errors()
            return errors if text in errors else None

        return wait_for(f"{text!r} on standard error", said)


class Case(unittest.TestCase):
    """A folder to serve, and an authority whose certificates the server has."""

    abstract = True
    engine: str
    vendor: str
    cipher: str = "auto"
    root: pathlib.Path
    authority: Authority
    certificate: pathlib.Path

    @classmethod
    def setUpClass(cls) -> None:
        need_program("openssl")
        cls.authority = Authority()
        cls.addClassCleanup(cls.authority.remove)
        cls.certificate = cls.authority.sign("a.example")
        cls.root = pathlib.Path(tempfile.mkdtemp(prefix="weir-tls-"))
        cls.addClassCleanup(shutil.rmtree, cls.root)
        (cls.root / "small").write_bytes(b"hello\n")
        support.sparse_file(cls.root / "huge", HUGE_BYTES)

    def serve(self, *options: str) -> TlsServer:
        return self.serve_bare(*pair(self.certificate), *options)

    def serve_bare(self, *options: str) -> TlsServer:
        options += ("--tls-cipher", self.cipher)
        server = TlsServer(self.root, *options, engine=self.engine, vendor=self.vendor)
        self.addCleanup(server.stop)
        return server

    def versions(self) -> list[ssl.TLSVersion]:
        return libraries()[self.vendor]

    def assert_serves(self, client: TlsConnection) -> None:
        self.assertEqual(client.get("/small").body, b"hello\n")

    def assert_refused(self, server: TlsServer, context: ssl.SSLContext, **options: Any) -> None:
        """By a handshake that fails: in TLS 1.3 the client hears of it when it reads."""
        with self.assertRaises((ssl.SSLError, ConnectionResetError, BrokenPipeError)):
            with server.connect_tls(context, **options) as client:
                client.get("/small")
