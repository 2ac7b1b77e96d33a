#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What testssl.sh finds in the default configuration: nothing of medium severity or more.

It takes half a minute for a library, so only the default one is tested here, and in the release build
alone; WEIR_TESTSSL_ALL in the environment (make testssl) has it test all of them.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import support
import tls_support
from tls_support import Authority, TlsServer, pair

# Of the test's own certificate, of the tester's own openssl, and of the site's fields, not of TLS.
NOT_OURS = ("cert_revocation", "engine_problem", "security_headers")
BAD = ("MEDIUM", "HIGH", "CRITICAL")
# Protocols, cipher categories, forward secrecy, the server's preference and certificate, vulnerabilities.
CHECKS = ("-p", "-s", "-f", "-P", "-S", "-U")


def program() -> str:
    for name in ("testssl", "testssl.sh"):
        if path := shutil.which(name):
            return path
    raise unittest.SkipTest("testssl.sh is not installed")


class TestsslTest(unittest.TestCase):
    def findings(self, vendor: str) -> list[dict[str, str]]:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-testssl-"))
        self.addCleanup(shutil.rmtree, folder)
        authority = Authority()
        self.addCleanup(authority.remove)
        (folder / "index.html").write_bytes(b"hello\n")
        options = pair(authority.sign("localhost"))
        engine = tls_support.one_engine()
        report = folder / "report.json"
        with TlsServer(folder, *options, engine=engine, vendor=vendor) as server:
            command = [program(), "--quiet", "--color", "0", "--warnings", "off"]
            # No name is looked up: tests never leave this host.
            command += ["--ip", "127.0.0.1", "--nodns", "none"]
            command += ["--add-ca", str(authority.certificate), *CHECKS]
            command += ["--jsonfile", str(report), f"https://localhost:{server.tls_port}"]
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                timeout=170,
                check=False,
            )
        found = json.loads(report.read_text())
        return [finding for finding in found if finding["id"] not in NOT_OURS]

    def test_nothing_bad_is_found(self) -> None:
        if support.SLOW:
            self.skipTest("it takes too long for a sanitizer's build")
        vendors = list(tls_support.libraries())
        if not vendors:
            self.skipTest("weir was built without TLS")
        for vendor in vendors if os.environ.get("WEIR_TESTSSL_ALL") else vendors[:1]:
            with self.subTest(vendor):
                found = self.findings(vendor)
                said = {finding["id"]: finding for finding in found}
                # It has looked: a report that stops early has no verdict on these.
                for name in ("TLS1_2", "cipherlist_NULL", "heartbleed", "ROBOT", "LUCKY13"):
                    self.assertIn(name, said)
                self.assertIn("offered", said["TLS1_2"]["finding"])
                self.assertEqual([one for one in found if one["severity"] in BAD], [])


if __name__ == "__main__":
    support.main()
