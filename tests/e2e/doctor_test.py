# SPDX-License-Identifier: Apache-2.0
"""weir doctor --json is JSON with the keys that src/server/doctor.h promises."""
import json
import os
import subprocess
import unittest

WEIR = os.environ.get("WEIR", "build/weir")


class DoctorTest(unittest.TestCase):
    def test_json(self):
        said = subprocess.run(
            [WEIR, "doctor", "--json"], capture_output=True, text=True, timeout=90
        )
        self.assertEqual((said.returncode, said.stderr), (0, ""))
        report = json.loads(said.stdout)
        self.assertEqual(
            sorted(report),
            [
                "delivery_by",
                "engine_auto",
                "kernel",
                "probes",
                "tls_cipher",
                "tls_default",
                "tls_libraries",
                "version",
            ],
        )
        libraries = report["tls_libraries"]
        for library in libraries:
            self.assertEqual(sorted(library), ["name", "newest", "version"])
            self.assertIn(library["name"], ("openssl", "gnutls", "wolfssl", "mbedtls"))
            self.assertIn(library["newest"], ("TLSv1.2", "TLSv1.3"))
            self.assertRegex(library["version"], r"^[0-9]+\.[0-9]+\.[0-9]+")
        cipher = report["tls_cipher"]
        self.assertEqual(sorted(cipher), ["detail", "name"])
        self.assertIn(cipher["name"], ("ipsec-mb", None))
        self.assertRegex(cipher["detail"], r"." if cipher["name"] is None else r"^version 1\.[0-9.]+, by ")
        first = libraries[0]["name"] if libraries else None
        self.assertEqual(report["tls_default"], first)
        self.assertEqual(report["kernel"], os.uname().release)
        probes = {probe["id"]: probe for probe in report["probes"]}
        self.assertEqual(len(probes), len(report["probes"]))
        for probe in probes.values():
            self.assertEqual(sorted(probe), ["detail", "id", "title", "works"])
            self.assertIs(type(probe["works"]), bool)
            self.assertTrue(probe["works"] or probe["detail"], probe)
        self.assertTrue(probes["engine_" + report["engine_auto"]]["works"])
        delivery = probes["delivery_" + report["engine_auto"]]
        self.assertEqual(report["delivery_by"], delivery["detail"])

    def test_table(self):
        said = subprocess.run([WEIR, "doctor"], capture_output=True, text=True, timeout=90)
        self.assertEqual((said.returncode, said.stderr), (0, ""))
        self.assertIn("\nIn short\n  --engine auto chooses ", said.stdout)


if __name__ == "__main__":
    unittest.main()
