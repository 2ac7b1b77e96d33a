#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""OpenSSL's configuration file is heeded, although Weir brings a provider of its own.

A program of its own, since the file is named by the environment, which other tests share.
"""

from __future__ import annotations

import os

import support
import tls_support
from tls_support import pair

OPENSSL_CONFIG = """openssl_conf = all
[all]
providers = providers
alg_section = algorithms
[providers]
default = default_provider
[default_provider]
activate = 1
[algorithms]
default_properties = {}
"""


class OpensslConfigTest(tls_support.Case):
    abstract = False

    def setUp(self) -> None:
        self.engine, self.vendor = tls_support.one_engine(), "openssl"
        if self.vendor not in tls_support.chosen_libraries():
            self.skipTest("weir was built without OpenSSL")

    def configure(self, properties: str) -> None:
        """What Weir's OpenSSL is to demand of everything."""
        file = self.authority.folder / "openssl.cnf"
        file.write_text(OPENSSL_CONFIG.format(properties))
        os.environ["OPENSSL_CONF"] = str(file)

    def test_what_it_demands(self) -> None:
        client = self.authority.client()
        # It rules the provider out: the key log serves.
        self.configure("provider=default")
        server = self.serve()
        for version in self.versions():
            client.minimum_version = client.maximum_version = version
            with server.connect_tls(client) as connection:
                self.assert_serves(connection)
        # Nothing meets it.
        self.configure("provider=nobody")
        options = ["--listen-tls", "127.0.0.1:0", "--tls", self.vendor, *pair(self.certificate)]
        ended = support.weir_run("serve", str(self.root), *options)
        self.assertEqual(ended.returncode, 1)
        self.assertIn("this OpenSSL does not have what TLS needs", ended.stderr)


if __name__ == "__main__":
    tls_support.main()
