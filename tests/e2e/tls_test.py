#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""HTTPS: every library on every engine serves every byte, and believes nobody."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import ssl
import subprocess
import time
from typing import Any

import support
import tls_support
from support import need_program, wait_for
from tls_support import (
    HUGE_BYTES,
    KB,
    TLS_1_2,
    TLS_1_3,
    Authority,
    TlsConnection,
    TlsServer,
    pair,
)

# Around the bounds of a record's size, of a file kept in memory, and many records.
SIZES = (0, 1, 1390, 16 * KB - 1, 16 * KB, 16 * KB + 1, 128 * KB, 3 * KB * KB + 17)
LOAD_REQUESTS = 200 if support.SLOW else 2000


@tls_support.each_engine_and_library
class TransferTest(tls_support.Case):
    abstract = False
    server: TlsServer

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.bodies = {size: os.urandom(size) for size in SIZES}
        for size, body in cls.bodies.items():
            (cls.root / str(size)).write_bytes(body)

    def setUp(self) -> None:
        self.server = self.serve()

    def connect(self, version: ssl.TLSVersion | None = None, **options: Any) -> TlsConnection:
        return self.server.connect_tls(self.authority.client(version), **options)

    def assert_log(self, entry: dict[str, Any], client: TlsConnection) -> None:
        cipher, version, _ = client.channel.cipher() or ("", "", 0)
        self.assertEqual(entry["tls"], client.channel.version())
        self.assertEqual(entry["cipher"], tls_support.IANA_NAMES.get(cipher, cipher))
        self.assertEqual(entry["tls_vendor"], self.vendor)
        self.assertIn(entry["ktls"], ("none", "tx", "tx+rx"))
        self.assertEqual(entry["engine"], self.engine)
        self.assertEqual(entry["outcome"], "delivered")
        self.assertIn(entry["delivered_by"], ("tx_ack", "tcp_info"))
        if entry["ktls"] == "none":
            self.assertIn(entry["send"], tls_support.SENT_FROM_MEMORY)
            self.assertFalse(tls_support.KTLS_REQUIRED, "the kernel was to do it")
        elif entry["body_bytes"] > 16 * KB:
            self.assertEqual(entry["send"], "file")

    def test_files_byte_for_byte(self) -> None:
        for version in self.versions():
            with self.connect(version) as client:
                facts = []
                for size, body in self.bodies.items():
                    response = client.get(f"/{size}")
                    self.assertEqual(response.body, body, f"{size} bytes, {version.name}")
                    facts.append((size, response.head_bytes + size))
                entries = self.server.log(len(facts))[-len(facts) :]
                if tls_support.KTLS_REQUIRED:
                    self.assertEqual(entries[-1]["ktls"], "tx+rx")
                for entry, (size, length) in zip(entries, facts):
                    self.assert_log(entry, client)
                    self.assertEqual((entry["body_bytes"], entry["delivered_bytes"]), (size, size))
                    # A header, a tag and perhaps a nonce for each record of at least 1,390 bytes.
                    self.assertGreaterEqual(entry["wire_bytes"], length + 21)
                    self.assertLessEqual(entry["wire_bytes"], length + 29 * (2 + length // 1390))
            self.server.log_path.write_bytes(b"")

    def test_requests_of_every_kind(self) -> None:
        for version in self.versions():
            with self.connect(version) as client:
                body = self.bodies[128 * KB]
                self.assertEqual(client.get(f"/{128 * KB}", "HEAD")["Content-Length"], str(128 * KB))
                part = client.get(f"/{128 * KB}", Range="bytes=100-40099")
                self.assertEqual((part.status, part.body), (206, body[100:40100]))
                self.assertEqual(client.get("/missing").status, 404)
                tag = client.get("/small")["ETag"]
                self.assertEqual(client.get("/small", If_None_Match=tag).status, 304)
                client.send("POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n")
                client.send(b"x" * 70000)
                self.assertEqual(client.response().status, 405)
                self.assert_serves(client)

    def test_pipelined_requests(self) -> None:
        for version in self.versions():
            with self.connect(version) as client:
                sizes = [1, 16 * KB, 128 * KB] * 20
                client.send("".join(f"GET /{size} HTTP/1.1\r\nHost: a\r\n\r\n" for size in sizes))
                for size in sizes:
                    self.assertEqual(client.response().body, self.bodies[size])
        for entry in self.server.log(60 * len(self.versions())):
            self.assertEqual(entry["outcome"], "delivered")

    def test_the_end_is_said(self) -> None:
        for version in self.versions():
            for fields in ({"version": "1.0"}, {"Connection": "close"}):
                with self.connect(version) as client:
                    response = client.get(f"/{128 * KB}", **fields)
                    self.assertEqual(response.body, self.bodies[128 * KB])
                    # Without a close_notify this raises.
                    self.assertTrue(client.ended())

    def test_a_client_that_says_the_end(self) -> None:
        for version in self.versions():
            with self.connect(version) as client:
                client.request("/small", Connection="close")
                self.assertEqual(client.response().body, b"hello\n")
                client.channel.unwrap().close()

    def test_a_client_that_reads_slowly(self) -> None:
        with self.connect(receive_bytes=8192) as client:
            client.request("/huge")
            client.head()
            for _ in range(20):
                client.take(1000)
            self.assertEqual(self.server.get("/small").body, b"hello\n")
            client.discard(HUGE_BYTES - 20_000)
            self.assert_serves(client)

    def test_a_reset_in_a_transfer(self) -> None:
        with self.connect(receive_bytes=8192) as client:
            client.request("/huge")
            client.head()
            client.take(100_000)
            raw = client.raw()
            os.close(client.channel.detach())
            support.Connection(raw).reset()
        entry = self.server.log_of("/huge")
        self.assertEqual(entry["outcome"], "reset")
        self.assertGreaterEqual(entry["delivered_bytes"], 100_000 - 20_000)
        self.assertLess(entry["delivered_bytes"], HUGE_BYTES)

    def cut(self, client: TlsConnection) -> None:
        """A FIN without a close_notify."""
        with client.raw() as raw:
            raw.shutdown(support.socket.SHUT_WR)

    def test_a_body_that_is_cut_off(self) -> None:
        for version in self.versions():
            with self.connect(version) as client:
                client.send("POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc")
                self.cut(client)
                self.assertEqual(client.response().status, 405)
                self.assertTrue(client.ended())

    def test_a_head_that_is_cut_off(self) -> None:
        for version in self.versions():
            with self.connect(version) as client:
                client.send("GET /small?cut HTTP/1.1\r\nHost: a\r\n")
                self.cut(client)
                self.assertTrue(client.ended())
        self.assertEqual(self.server.get("/small").body, b"hello\n")
        self.assertEqual([entry["target"] for entry in self.server.log(1)], ["/small"])

    def test_a_response_outlives_the_cut(self) -> None:
        for version in self.versions():
            with self.connect(version) as client:
                # Its handshake is over for the server, too: a cut right behind that is one of the handshake.
                self.assert_serves(client)
                client.request(f"/{3 * KB * KB + 17}?cut")
                self.cut(client)
                self.assertEqual(client.response().body, self.bodies[3 * KB * KB + 17])
                self.assertTrue(client.ended())
        outcomes = [entry["outcome"] for entry in self.server.log(2 * len(self.versions()))]
        self.assertEqual(set(outcomes), {"delivered"})


@tls_support.each_engine
class HotFilesTest(tls_support.Case):
    """A file that was asked for before is in memory when it is encrypted here."""

    abstract = False
    CHANGES = ("cut", "longer", "replaced")
    PIPELINE = 32

    def change(self, name: str, old: bytes) -> bytes:
        path = self.root / name
        if name == "cut":
            os.truncate(path, 2)
            return old[:2]
        if name == "longer":
            with path.open("ab") as file:
                file.write(old[:1000])
            return old + old[:1000]
        (self.root / "next").write_bytes(old[::-1])
        os.rename(self.root / "next", path)
        return old[::-1]

    def test_files_that_change_in_a_transfer(self) -> None:
        old = os.urandom(256 * KB)
        for name in self.CHANGES:
            (self.root / name).write_bytes(old)
        time.sleep(4)  # what has just been made is looked at again and again
        server = self.serve("--ktls", "off", "--threads", "1")
        context = self.authority.client()
        for name in self.CHANGES:
            with server.connect_tls(context) as client:
                self.assertEqual(client.get(f"/{name}").body, old)
            with server.connect_tls(context, receive_bytes=8192) as client:
                # More than the kernel takes before the file changes.
                client.send(f"GET /{name} HTTP/1.1\r\nHost: a\r\n\r\n" * self.PIPELINE)
                client.head()
                new = self.change(name, old)
                self.assertEqual(client.take(256 * KB), old, name)
                for _ in range(self.PIPELINE - 1):
                    self.assertEqual(client.response().body, old, name)
                time.sleep(1.1)  # what is known of a file is believed for a second
                for _ in range(3):
                    self.assertEqual(client.get(f"/{name}").body, new, name)
        for entry in server.log((self.PIPELINE + 4) * len(self.CHANGES)):
            self.assertEqual(entry["outcome"], "delivered")
            self.assertIn(entry["send"], tls_support.SENT_FROM_MEMORY)


@tls_support.each_library
class ClientsTest(tls_support.Case):
    """Programs that others use, and what they say."""

    abstract = False

    def run_client(self, *command: str, text: str = "") -> str:
        need_program(command[0])
        done = subprocess.run(
            command,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30 * support.PATIENCE,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def test_curl(self) -> None:
        server = self.serve()
        resolve = f"a.example:{server.tls_port}:127.0.0.1"
        for versions in ((), ("--tls-max", "1.2")):
            said = self.run_client(
                "curl",
                "--silent",
                "--show-error",
                *("--cacert", str(self.authority.certificate)),
                *("--resolve", resolve),
                *versions,
                server.tls_url("/small", "a.example"),
            )
            self.assertEqual(said, "hello\n")

    def test_a_certificate_is_made(self) -> None:
        server = self.serve_bare()
        self.assertIn("no --cert: a certificate was made", server.errors())
        options = ("--silent", "--insecure")
        self.assertEqual(self.run_client("curl", *options, server.tls_url("/small")), "hello\n")
        shown = ssl.get_server_certificate(("127.0.0.1", server.tls_port))
        said = self.run_client("openssl", "x509", "-noout", "-ext", "subjectAltName", text=shown)
        for name in ("DNS:localhost", "IP Address:127.0.0.1", "IP Address:0:0:0:0:0:0:0:1"):
            self.assertIn(name, said)
        # It is a right one but for its signer, and stays when the others are read again.
        server.signal(support.signal.SIGHUP)
        server.wait_for_error("were read again")
        context = ssl.create_default_context(cadata=shown)
        with server.connect_tls(context, "localhost") as client:
            self.assert_serves(client)

    def s_client(self, server: TlsServer, *options: str, text: str = "") -> str:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.tls_port}"]
        command += ["-servername", "a.example", "-verify_return_error", "-verify_hostname"]
        command += ["a.example", "-CAfile", str(self.authority.certificate), *options]
        return self.run_client(*command, text=text)

    def test_openssl(self) -> None:
        server = self.serve()
        request = "GET /small HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        for version in self.versions():
            option = "-tls1_2" if version == TLS_1_2 else "-tls1_3"
            # It reads its input to the end before the answer, unless it is to ignore that end.
            said = self.s_client(server, option, "-ign_eof", text=request)
            self.assertIn("HTTP/1.1 200", said)
            self.assertIn("\nclosed\n", said)
            self.assertNotIn("error", said.lower())

    def test_openssl_reconnects(self) -> None:
        server = self.serve()
        said = self.s_client(server, "-tls1_2", "-reconnect", "-no_ign_eof")
        self.assertEqual(said.count("Reused, TLSv1.2"), 5, said)

    def test_gnutls(self) -> None:
        server = self.serve()
        request = "GET /small HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        for version in self.versions():
            name = "TLS1.2" if version == TLS_1_2 else "TLS1.3"
            said = self.run_client(
                "gnutls-cli",
                *("--x509cafile", str(self.authority.certificate)),
                *("--port", str(server.tls_port)),
                *("--priority", f"NORMAL:-VERS-ALL:+VERS-{name}"),
                *("--sni-hostname", "a.example", "--verify-hostname", "a.example"),
                "127.0.0.1",
                text=request,
            )
            self.assertIn(name, said)
            self.assertIn("HTTP/1.1 200", said)
            self.assertIn("Peer has closed the GnuTLS connection", said)

    def test_h2load(self) -> None:
        server = self.serve("--threads", "2")
        said = self.run_client(
            "h2load",
            *("-n", str(LOAD_REQUESTS), "-c", "10", "--h1"),
            server.tls_url("/small"),
        )
        self.assertIn(f"{LOAD_REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout", said)
        self.assertEqual(len(server.log(LOAD_REQUESTS)), LOAD_REQUESTS)


@tls_support.each_library
class LibraryCipherTest(ClientsTest):
    """The same programs, where the library encrypts by itself."""

    abstract = False
    cipher = "library"

    def test_it_is_said(self) -> None:
        self.assertNotIn("AES-GCM by", self.serve().errors())


@tls_support.each_library
class HandshakeTest(tls_support.Case):
    """What is agreed upon in a handshake."""

    abstract = False

    def ticket_keys(self) -> str:
        file = self.authority.folder / f"tickets-{os.urandom(4).hex()}"
        file.write_bytes(os.urandom(160))
        file.chmod(0o600)
        return str(file)

    def session(self, server: TlsServer, context: ssl.SSLContext) -> ssl.SSLSession | None:
        with server.connect_tls(context) as client:
            self.assert_serves(client)
            self.assertFalse(client.channel.session_reused)
            return client.channel.session

    def assert_resumes(
        self, server: TlsServer, context: ssl.SSLContext, session: Any, resumes: bool
    ) -> None:
        with server.connect_tls(context, session=session) as client:
            self.assert_serves(client)
            self.assertEqual(client.channel.session_reused, resumes)

    def test_resumption(self) -> None:
        server = self.serve()
        for version in self.versions():
            context = self.authority.client(version)
            session = self.session(server, context)
            for _ in range(2):
                self.assert_resumes(server, context, session, True)

    def test_resumption_on_another_thread(self) -> None:
        server = self.serve("--threads", "3")
        for version in self.versions():
            context = self.authority.client(version)
            session = self.session(server, context)
            for _ in range(8):
                self.assert_resumes(server, context, session, True)

    def test_resumption_behind_a_restart(self) -> None:
        keys = self.ticket_keys()
        for version in self.versions():
            context = self.authority.client(version)
            first = self.serve("--ticket-keys", keys)
            session = self.session(first, context)
            first.stop()
            self.assert_resumes(self.serve("--ticket-keys", keys), context, session, True)
            self.assert_resumes(self.serve(), context, session, False)

    def test_ticket_keys_that_change(self) -> None:
        keys = pathlib.Path(self.ticket_keys())
        server = self.serve("--ticket-keys", str(keys))
        context = self.authority.client(self.versions()[-1])
        session = self.session(server, context)
        # A new one in front: the old one still decrypts.
        keys.write_bytes(os.urandom(80) + keys.read_bytes()[:80])
        server.signal(support.signal.SIGHUP)
        server.wait_for_error("were read again")
        # GnuTLS takes one key at a time.
        self.assert_resumes(server, context, session, self.vendor != "gnutls")
        session = self.session(server, context)
        keys.write_bytes(b"too short")
        server.signal(support.signal.SIGHUP)
        self.assertIn(str(keys), server.wait_for_error("ticket keys stay as they were"))
        self.assert_resumes(server, context, session, True)

    def test_names_choose_certificates(self) -> None:
        others = self.authority.sign("b.example", "*.b.example")
        server = self.serve(*pair(others))
        for version in self.versions():
            context = self.authority.client(version)
            for name in ("a.example", "b.example", "www.b.example", "B.EXAMPLE"):
                # The client itself verifies that the name is that of the certificate.
                with server.connect_tls(context, name) as client:
                    self.assert_serves(client)
            context.check_hostname = False
            for name in ("c.example", None):
                with server.connect_tls(context, name) as client:
                    shown = client.channel.getpeercert() or {}
                    self.assertEqual(shown["subjectAltName"], (("DNS", "a.example"),))
                    self.assert_serves(client)

    def client_with(self, authority: Authority, version: ssl.TLSVersion) -> ssl.SSLContext:
        certificate = authority.sign("client")
        context = self.authority.client(version)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        return context

    def test_client_certificates(self) -> None:
        stranger = Authority("somebody else")
        self.addCleanup(stranger.remove)
        trust = ("--client-ca", str(self.authority.certificate))
        optional = self.serve(*trust)
        required = self.serve(*trust, "--client-cert", "required")
        for version in self.versions():
            without = self.authority.client(version)
            good = self.client_with(self.authority, version)
            bad = self.client_with(stranger, version)
            for server, context in ((optional, without), (optional, good), (required, good)):
                with server.connect_tls(context) as client:
                    self.assert_serves(client)
            for server, context in ((optional, bad), (required, bad), (required, without)):
                self.assert_refused(server, context)
        count = 3 * len(self.versions())
        wait_for(
            "a line for each that was served",
            lambda: len(optional.log_lines()) + len(required.log_lines()) == count,
        )

    def test_protocols(self) -> None:
        server = self.serve()
        for version in self.versions():
            for offered, chosen in (
                (["h2", "http/1.1"], "http/1.1"),
                (["http/1.1"], "http/1.1"),
                (["h2"], None),
                ([], None),
            ):
                context = self.authority.client(version)
                context.set_alpn_protocols(offered)
                with server.connect_tls(context) as client:
                    self.assertEqual(client.channel.selected_alpn_protocol(), chosen)
                    self.assert_serves(client)

    def test_versions(self) -> None:
        if TLS_1_3 not in self.versions():
            self.skipTest(f"{self.vendor} here knows TLS 1.2 only")
        old, new = self.authority.client(TLS_1_2), self.authority.client(TLS_1_3)
        server = self.serve("--tls-max", "1.2")
        self.assert_refused(server, new)
        with server.connect_tls(old) as client:
            self.assert_serves(client)
        server = self.serve("--tls-min", "1.3")
        self.assert_refused(server, old)
        with server.connect_tls(new) as client:
            self.assert_serves(client)

    def test_new_keys_in_a_transfer(self) -> None:
        if TLS_1_3 not in self.versions():
            self.skipTest(f"{self.vendor} here knows TLS 1.2 only")
        server = self.serve("--tls-rekey", "10")
        with server.connect_tls(self.authority.client(TLS_1_3)) as client:
            for i in range(2):
                try:
                    client.request("/huge")
                    client.head()
                except (EOFError, ConnectionResetError, ssl.SSLError):
                    # A kernel that cannot be given new keys: what was under way was sent.
                    self.assertTrue(tls_support.KTLS_REQUIRED and i == 1)
                    break
                client.discard(HUGE_BYTES)

    def test_the_end_of_keys_that_cannot_change(self) -> None:
        server = self.serve("--tls-rekey", "10")
        served = 0
        with server.connect_tls(self.authority.client(TLS_1_2)) as client:
            with contextlib.suppress(EOFError, ConnectionResetError):
                while served < 20:
                    self.assert_serves(client)
                    served += 1
        self.assertGreater(served, 5)
        self.assertLess(served, 12)

    def test_secrets_are_logged_on_request_only(self) -> None:
        log = self.authority.folder / "secrets"
        server = self.serve("--tls-key-log-insecure", str(log))
        self.assertIn(f"warning: who reads {log}", server.errors())
        for version in self.versions():
            with server.connect_tls(self.authority.client(version)) as client:
                self.assert_serves(client)
        text = log.read_text()
        self.assertIn("CLIENT_RANDOM ", text)
        self.assertEqual(log.stat().st_mode & 0o077, 0)
        if TLS_1_3 in self.versions():
            self.assertIn("SERVER_TRAFFIC_SECRET_0 ", text)

    def test_certificates_are_read_again(self) -> None:
        served = self.authority.folder / "served.pem"
        server = self.serve_with_copy(served, self.certificate)
        context = self.authority.client()
        with server.connect_tls(context) as old:
            self.assert_serves(old)
            serial = (old.channel.getpeercert() or {})["serialNumber"]
            self.copy(self.authority.sign("a.example"), served)
            server.signal(support.signal.SIGHUP)
            server.wait_for_error("certificates and keys were read again")
            for _ in range(6):
                with server.connect_tls(context) as new:
                    self.assert_serves(new)
                    shown = new.channel.getpeercert() or {}
                    self.assertNotEqual(shown["serialNumber"], serial)
            self.assert_serves(old)

    def test_a_bad_file_changes_nothing(self) -> None:
        served = self.authority.folder / "served.pem"
        server = self.serve_with_copy(served, self.certificate)
        key = served.with_suffix(".key")
        for file, content in ((served, b"nonsense\n"), (key, b""), (key, None)):
            self.copy(self.certificate, served)
            file.unlink()
            if content is not None:
                file.write_bytes(content)
            before = len(server.errors())
            server.signal(support.signal.SIGHUP)
            wait_for("the verdict", lambda: "in use stay\n" in server.errors()[before:])
            said = server.errors()[before:].splitlines()
            self.assertEqual(len(said), 2, said)
            self.assertIn(str(file), said[0])
            for _ in range(4):
                with server.connect_tls(self.authority.client()) as client:
                    self.assert_serves(client)

    @staticmethod
    def copy(source: pathlib.Path, target: pathlib.Path) -> None:
        shutil.copy(source, target)
        shutil.copy(source.with_suffix(".key"), target.with_suffix(".key"))

    def serve_with_copy(self, served: pathlib.Path, source: pathlib.Path) -> TlsServer:
        self.copy(source, served)
        return self.serve_bare(*pair(served), "--threads", "2")


if __name__ == "__main__":
    tls_support.main()
