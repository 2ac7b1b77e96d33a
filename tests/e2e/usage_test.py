#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The command line: what it says, where it says it, and the exit status."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import unittest

import support
from support import Connection, Server, wait_for, weir_run

BAD_USAGE = (
    ("frobnicate",),
    ("serve", "--frobnicate"),
    ("serve", "--listen"),
    ("serve", "--listen", "nonsense"),
    ("serve", "--listen", "127.0.0.1:99999"),
    ("serve", "--listen", "a.example:80"),
    ("serve", "--engine", "steam"),
    ("serve", "--threads", "0"),
    ("serve", "--threads", "many"),
    ("serve", "--delivery", "perhaps"),
    ("serve", "--log-format", "xml"),
    ("serve", "--header-timeout", "-1"),
    ("serve", "--header-timeout", "soon"),
    ("serve", "--send-timeout", "0"),
    ("serve", "--min-rate", "fast"),
    ("serve", "--max-connections", "0"),
    ("serve", "--listen-tls"),
    ("serve", "--listen-tls", "nonsense"),
    ("serve", "--listen-tls", "127.0.0.1:0", "--cert", "a"),
    ("serve", "--listen-tls", "127.0.0.1:0", "--key", "a"),
    ("serve", "--cert", "a", "--key", "a"),
    ("serve", "--tls", "steam"),
    ("serve", "--ktls", "perhaps"),
    ("serve", "--tls-min", "1.1"),
    ("serve", "--tls-min", "1.3", "--tls-max", "1.2"),
    ("serve", "--listen-tls", "127.0.0.1:0", "--client-cert", "required"),
    ("serve", "--tls-rekey", "0"),
    ("serve", "--zerocopy", "perhaps"),
    ("serve", "--admin"),
    ("serve", "--admin", "9100"),
    ("serve", "a", "b"),
    ("doctor", "--frobnicate"),
    ("doctor", "more"),
)


class UsageTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-usage-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def assert_fails(self, status: int, *arguments: str) -> str:
        """One line on stderr, nothing on stdout."""
        done = weir_run(*arguments)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertRegex(done.stderr, r"\Aweir: [^\n]+\n\Z")
        return done.stderr

    def test_closed_standard_descriptors_stay_out_of_use(self) -> None:
        errors = self.folder / "errors"
        command = f'exec "$0" serve "$1" --listen 127.0.0.1:0 <&- >&- 2>>{errors}'
        process = subprocess.Popen(["sh", "-c", command, support.WEIR, str(self.folder)])
        self.addCleanup(process.kill)
        text = wait_for("weir to say that it serves", lambda: errors.exists() and errors.read_text())
        port = int(text.rsplit(":", 1)[1])
        for number in (0, 1):
            link = os.readlink(f"/proc/{process.pid}/fd/{number}")
            self.assertEqual((number, link), (number, "/dev/null"))
        with Connection(socket.create_connection(("127.0.0.1", port), 5)) as client:
            self.assertEqual(client.get("/nothing").status, 404)
        process.terminate()
        self.assertEqual(process.wait(10 * support.PATIENCE), 0)
        self.assertIn("access log -: 1 lines lost in all", errors.read_text())

    def test_help(self) -> None:
        for arguments in (("--help",), ("serve", "--help"), ("doctor", "--help")):
            done = weir_run(*arguments)
            self.assertEqual((done.returncode, done.stderr), (0, ""), arguments)
            self.assertIn("weir", done.stdout)
        for option in (
            "--listen",
            "--engine",
            "--threads",
            "--delivery",
            "--access-log",
            "--log-format",
            "--listen-tls",
            "--cert",
            "--key",
            "--tls",
            "--ktls",
            "--tls-min",
            "--tls-max",
            "--client-ca",
            "--client-cert",
            "--ticket-keys",
            "--tls-rekey",
            "--tls-key-log-insecure",
            "--zerocopy",
            "--admin",
        ):
            self.assertIn(option, weir_run("serve", "--help").stdout)

    def test_version(self) -> None:
        done = weir_run("--version")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"\Aweir \d+\.\d+\.\d+[^\n]*\n\Z")

    def test_bad_usage(self) -> None:
        for arguments in BAD_USAGE:
            with self.subTest(" ".join(arguments)):
                self.assert_fails(2, *arguments)

    def test_no_command(self) -> None:
        self.assertEqual(weir_run().returncode, 2)

    def test_a_port_in_use(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            address = f"127.0.0.1:{other.getsockname()[1]}"
            for engine in support.ENGINES:
                if support.engine_lacking(engine):
                    continue
                said = self.assert_fails(
                    1, "serve", str(self.folder), "--listen", address, "--engine", engine
                )
                self.assertIn(address, said)

    def test_an_address_of_another_host(self) -> None:
        said = self.assert_fails(1, "serve", str(self.folder), "--listen", "192.0.2.1:0")
        self.assertIn("192.0.2.1", said)

    def test_a_missing_folder(self) -> None:
        said = self.assert_fails(
            1, "serve", str(self.folder / "missing"), "--listen", "127.0.0.1:0"
        )
        self.assertIn("missing", said)

    def test_a_file_for_a_folder(self) -> None:
        file = self.folder / "plain"
        file.write_bytes(b"")
        self.assertIn("plain", self.assert_fails(1, "serve", str(file), "--listen", "127.0.0.1:0"))

    def test_a_log_that_cannot_be_written(self) -> None:
        log = str(self.folder / "missing" / "access.log")
        said = self.assert_fails(
            1, "serve", str(self.folder), "--listen", "127.0.0.1:0", "--access-log", log
        )
        self.assertIn(log, said)

    def assert_no_tls(self, *options: str) -> str:
        return self.assert_fails(
            1, "serve", str(self.folder), "--listen-tls", "127.0.0.1:0", *options
        )

    def test_tls_files_that_are_missing_or_no_pem(self) -> None:
        missing, nonsense = self.folder / "missing.pem", self.folder / "nonsense.pem"
        nonsense.write_bytes(b"nonsense\n")
        nonsense.chmod(0o600)
        for file in (str(missing), str(nonsense)):
            self.assertIn(file, self.assert_no_tls("--cert", file, "--key", file))
            self.assertIn(file, self.assert_no_tls("--ticket-keys", file))
        self.assertIn(str(missing), self.assert_no_tls_with_own("--client-ca", str(missing)))
        log = str(self.folder / "missing" / "secrets")
        self.assertIn(log, self.assert_no_tls_with_own("--tls-key-log-insecure", log))

    def assert_no_tls_with_own(self, *options: str) -> str:
        """The last line, behind those of what there would have been to say."""
        done = weir_run("serve", str(self.folder), "--listen-tls", "127.0.0.1:0", *options)
        self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
        return done.stderr.splitlines()[-1]

    def test_a_library_that_is_not_there(self) -> None:
        report = json.loads(weir_run("doctor", "--json", seconds=60).stdout)
        there = [library["name"] for library in report["tls_libraries"]]
        for name in ("openssl", "gnutls", "wolfssl", "mbedtls"):
            if name in there:
                continue
            said = self.assert_no_tls("--tls", name)
            self.assertIn(f"without {name}" if there else "without TLS", said)
            for other in there:
                self.assertIn(other, said)

    def test_kernel_tls_that_cannot_be_had(self) -> None:
        report = json.loads(weir_run("doctor", "--json", seconds=60).stdout)
        probe = next(probe for probe in report["probes"] if probe["id"] == "ktls")
        if probe["works"]:
            self.skipTest("this kernel has it")
        self.assertIn(probe["detail"], self.assert_no_tls("--ktls", "on"))

    def test_tls_alone_listens_nowhere_else(self) -> None:
        errors = self.folder / "errors"
        command = [support.WEIR, "serve", str(self.folder), "--listen-tls", "127.0.0.1:0"]
        with open(errors, "wb") as file:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file)
        self.addCleanup(process.wait, 10)
        self.addCleanup(process.kill)
        wait_for("weir to say that it serves", lambda: "https://" in errors.read_text())
        self.assertNotIn("http://", errors.read_text())

    def test_several_addresses(self) -> None:
        (self.folder / "file").write_bytes(b"hello\n")
        engine = next(engine for engine in support.ENGINES if not support.engine_lacking(engine))
        with socket.create_server(("127.0.0.1", 0)) as free:
            second = free.getsockname()[1]
        with Server(self.folder, "--listen", f"127.0.0.1:{second}", engine=engine) as server:
            for port in (server.port, second):
                server.port = port
                self.assertEqual(server.get("/file").body, b"hello\n")

    def test_ipv6(self) -> None:
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            self.skipTest("this host has no IPv6")
        (self.folder / "file").write_bytes(b"hello\n")
        with Server(self.folder, "--listen", "[::1]:0", engine="auto") as server:

            def said() -> re.Match[str] | None:
                return re.search(r"on http://\[::1\]:([0-9]+)", server.errors())

            port = int(wait_for("the second address", said)[1])
            with Connection(socket.create_connection(("::1", port))) as client:
                self.assertEqual(client.get("/file").body, b"hello\n")
            self.assertRegex(server.log()[0]["client"], r"^\[::1\]:\d+$")

    def test_the_current_folder(self) -> None:
        (self.folder / "file").write_bytes(b"hello\n")
        here = os.getcwd()
        os.chdir(self.folder)
        try:
            engine = next(
                engine for engine in support.ENGINES if not support.engine_lacking(engine)
            )
            with Server(".", engine=engine) as server:
                self.assertEqual(server.get("/file").body, b"hello\n")
        finally:
            os.chdir(here)

    def test_the_engine_by_itself(self) -> None:
        with Server(self.folder, engine="auto") as server:
            server.get("/missing")
            self.assertIn(server.log()[0]["engine"], ("io_uring", "epoll", "poll"))

    def test_doctor(self) -> None:
        done = weir_run("doctor")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertGreater(len(done.stdout.splitlines()), 5)
        self.assertLess(max(map(len, done.stdout.splitlines())), 160)

    def test_doctor_json(self) -> None:
        done = weir_run("doctor", "--json")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        report = json.loads(done.stdout)
        text = json.dumps(report)
        for word in ("io_uring", "epoll", "poll"):
            self.assertIn(word, text)


if __name__ == "__main__":
    support.main()
