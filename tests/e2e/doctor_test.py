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


SIZES = [1024, 16384, 65536, 131072, 1048576]
WAYS = {
    "off": "copy",
    "small": "copy",
    "head": "copy",
    "route": "copy",
    "memory": "copy",
    "slow": "copy",
    "refused": "copy",
    "tried": "zerocopy",
    "pays": "zerocopy",
    "on": "zerocopy",
    "file": "file",
    "ktls": "ktls",
}


class ExplainTest(unittest.TestCase):
    @staticmethod
    def run_explain(*options):
        return subprocess.run(
            [WEIR, "doctor", "--explain", *options], capture_output=True, text=True, timeout=90
        )

    def setUp(self):
        self.said = self.run_explain("--json")
        self.assertEqual((self.said.returncode, self.said.stderr), (0, ""))
        self.report = json.loads(self.said.stdout)

    def test_json(self):
        self.assertEqual(
            sorted(self.report),
            [
                "congestion_control",
                "decisions",
                "engine",
                "interfaces",
                "limits",
                "loopback",
                "pieces",
                "version",
                "zerocopy",
            ],
        )
        self.assertIn(self.report["loopback"], (None, "zerocopy", "copied", "refused"))
        for interface in self.report["interfaces"]:
            self.assertEqual(sorted(interface), ["address", "name"])
        keys = [(one["transport"], one["route"]) for one in self.report["decisions"]]
        self.assertEqual(
            set(keys),
            {(t, r) for t in ("plain", "file", "tls", "ktls") for r in ("loopback", "new")},
        )
        self.assertEqual(len(keys), 8 * len(SIZES))
        for one in self.report["decisions"]:
            self.assertEqual(one["send"], WAYS[one["reason"]])
            self.assertTrue(one["text"])

    def reasons(self, transport, route):
        found = [
            one
            for one in self.report["decisions"]
            if (one["transport"], one["route"]) == (transport, route)
        ]
        self.assertEqual([one["bytes"] for one in found], SIZES)
        return [one["reason"] for one in found]

    def test_what_leaves_no_choice(self):
        for route in ("loopback", "new"):
            self.assertEqual(self.reasons("file", route), ["file"] * 5)
            self.assertEqual(self.reasons("ktls", route), ["ktls"] * 5)

    def test_memory_goes_as_the_trial_and_the_probes_say(self):
        probes = json.loads(
            subprocess.run(
                [WEIR, "doctor", "--json"], capture_output=True, text=True, timeout=90
            ).stdout
        )
        self.assertEqual(self.report["engine"], probes["engine_auto"])
        works = {probe["id"]: probe["works"] for probe in probes["probes"]}
        wanted = works["io_uring_send_zc" if self.report["engine"] == "io_uring" else "msg_zerocopy"]
        if self.report["engine"] == "poll":
            wanted = self.report["zerocopy"]
        self.assertEqual(self.report["zerocopy"], wanted)
        elsewhere = ["small"] + (["tried"] * 4 if wanted else ["off"] * 4)
        known = {"copied": "route", "zerocopy": "pays", "refused": "refused", None: elsewhere[1]}
        loopback = ["small"] + [known[self.report["loopback"]]] * 4
        for transport in ("plain", "tls"):
            # What the trial made of all routes stands for the new ones, too.
            if self.report["loopback"] != "refused":
                self.assertEqual(self.reasons(transport, "new"), elsewhere)
            self.assertEqual(self.reasons(transport, "loopback"), loopback)
        if wanted:
            self.assertIsNotNone(self.report["loopback"])

    def test_table(self):
        said = self.run_explain()
        self.assertEqual((said.returncode, said.stderr), (0, ""))
        self.assertLessEqual(max(map(len, said.stdout.splitlines())), 80)
        for one in self.report["decisions"]:
            self.assertIn(f"{one['send']} ({one['reason']})", said.stdout)
            self.assertIn(one["text"], said.stdout)


if __name__ == "__main__":
    unittest.main()
