#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What `weir serve` answers: files, conditions, ranges, and whatever a peer may throw at it."""

from __future__ import annotations

import email.utils
import gzip
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
import unittest

import support
from support import Connection, Response, Server, wait_for

LARGE_BYTES = 5 * 1024 * 1024 + 4321
HUGE_BYTES = 64 * 1024 * 1024
SECRET = b"top secret\n"
HOST = "Host: a.example\r\n"

# What a strict server refuses, and the statuses that say so (RFC 9112 sections 2.2 to 7.1).
REFUSED = (
    ("a space before the colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", (400,)),
    ("a folded header", f"GET / HTTP/1.1\r\n{HOST}A: b\r\n c\r\n\r\n", (400,)),
    ("a bare LF behind the request line", f"GET / HTTP/1.1\n{HOST}\r\n", (400,)),
    ("a bare LF behind a header", "GET / HTTP/1.1\r\nHost: a\n\r\n", (400,)),
    ("a bare CR in a value", f"GET / HTTP/1.1\r\n{HOST}A: b\rc\r\n\r\n", (400,)),
    ("NUL in a value", f"GET / HTTP/1.1\r\n{HOST}A: b\0c\r\n\r\n", (400,)),
    ("no colon", f"GET / HTTP/1.1\r\n{HOST}novalue\r\n\r\n", (400,)),
    ("an empty name", f"GET / HTTP/1.1\r\n{HOST}: b\r\n\r\n", (400,)),
    ("no Host", "GET / HTTP/1.1\r\n\r\n", (400,)),
    ("two Hosts", f"GET / HTTP/1.1\r\n{HOST}{HOST}\r\n", (400,)),
    (
        "length and chunks",
        f"POST / HTTP/1.1\r\n{HOST}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        (400,),
    ),
    (
        "two lengths",
        f"POST / HTTP/1.1\r\n{HOST}Content-Length: 3\r\nContent-Length: 4\r\n\r\n",
        (400,),
    ),
    ("a list of lengths", f"POST / HTTP/1.1\r\n{HOST}Content-Length: 3, 4\r\n\r\n", (400,)),
    ("a signed length", f"POST / HTTP/1.1\r\n{HOST}Content-Length: +3\r\n\r\n", (400,)),
    ("a negative length", f"POST / HTTP/1.1\r\n{HOST}Content-Length: -3\r\n\r\n", (400,)),
    ("a hexadecimal length", f"POST / HTTP/1.1\r\n{HOST}Content-Length: 0x3\r\n\r\n", (400,)),
    (
        "a length beyond 64 bits",
        f"POST / HTTP/1.1\r\n{HOST}Content-Length: 99999999999999999999\r\n\r\n",
        (400, 413),
    ),
    (
        "chunked not last",
        f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked, gzip\r\n\r\n",
        (400, 501),
    ),
    (
        "an unknown coding",
        f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: gzip, chunked\r\n\r\n",
        (400, 501),
    ),
    (
        "chunked twice",
        f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked, chunked\r\n\r\n",
        (400, 501),
    ),
    ("chunks in 1.0", f"POST / HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n", (400,)),
    ("HTTP/0.9", "GET /\r\n\r\n", (400, 505)),
    ("a method alone", "GET\r\n\r\n", (400,)),
    ("two spaces", f"GET  / HTTP/1.1\r\n{HOST}\r\n", (400,)),
    ("a space in front", f" GET / HTTP/1.1\r\n{HOST}\r\n", (400,)),
    ("a tab for a space", f"GET\t/ HTTP/1.1\r\n{HOST}\r\n", (400,)),
    ("no slash", f"GET small.txt HTTP/1.1\r\n{HOST}\r\n", (400,)),
    ("not a method", f"G@T / HTTP/1.1\r\n{HOST}\r\n", (400,)),
    ("lower-case HTTP", f"GET / http/1.1\r\n{HOST}\r\n", (400, 505)),
    ("HTTP/2 in clear", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505)),
    ("HTTP/3.0", f"GET / HTTP/3.0\r\n{HOST}\r\n", (400, 505)),
    ("a TLS greeting", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", (400,)),
    ("a target of 10 KB", f"GET /{'a' * 10000} HTTP/1.1\r\n{HOST}\r\n", (414,)),
    ("a header of 40 KB", f"GET / HTTP/1.1\r\n{HOST}A: {'b' * 40000}\r\n\r\n", (431,)),
    ("500 headers", f"GET / HTTP/1.1\r\n{HOST}" + "A: b\r\n" * 500 + "\r\n", (431,)),
    (
        "a body that is no chunk",
        f"POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        (400, 405),
    ),
)

# None of these may show what lies outside the folder.
ESCAPES = (
    "/../secret",
    "/sub/../../secret",
    "/%2e%2e/secret",
    "/.%2e/secret",
    "/%2e%2e%2fsecret",
    "/..%2fsecret",
    "/sub/%2e%2e/%2e%2e/secret",
    "/..%5csecret",
    "/..\\secret",
    "//../secret",
    "/./../secret",
    "/..;/secret",
    "/%zz/../../secret",
    "/..%00/secret",
    "/small.txt%00.html",
    "/%252e%252e/secret",
    "/%c0%ae%c0%ae/secret",
    "/link-out",
    "/folder-out/secret",
    "/sub/link-up/secret",
    "/proc-root/secret",
    "/small.txt/../../secret",
    "http://a.example/../secret",
)


def content(seed: int, size: int) -> bytes:
    """`size` bytes that look random and are the same each time."""
    block = b"".join(hashlib.sha256(f"{seed}/{i}".encode()).digest() for i in range(2048))
    return (block * (size // len(block) + 1))[:size]


def tree_make(root: pathlib.Path) -> dict[str, bytes]:
    """The folder to serve. Returns the plain files by their targets."""
    files = {
        "/empty": b"",
        "/small.txt": b"hello\n",
        "/large.bin": content(1, LARGE_BYTES),
        "/index.html": b"<h1>front</h1>\n",
        "/sub/index.html": b"<h1>sub</h1>\n",
        "/page.html": b"<p>words</p>\n" * 100,
        "/name with space.txt": b"space\n",
        "/digits": b"0123456789" * 100,
    }
    files.update({f"/n{i}": f"{i:04}".encode() * (i + 1) for i in range(50)})
    for target, data in files.items():
        path = root / target[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (root / "bare").mkdir()
    (root / "page.html.gz").write_bytes(gzip.compress(files["/page.html"]))
    (root / "page.html.br").write_bytes(b"not really brotli")
    (root / "page.html.zst").write_bytes(b"not really zstandard")
    support.sparse_file(root / "huge.bin", HUGE_BYTES)
    os.mkfifo(root / "fifo")
    (root.parent / "secret").write_bytes(SECRET)
    (root / "link-in").symlink_to("small.txt")
    (root / "link-out").symlink_to("../secret")
    (root / "folder-out").symlink_to("..")
    (root / "sub" / "link-up").symlink_to("../..")
    (root / "proc-root").symlink_to(f"/proc/self/cwd{root.parent}")
    return files


@support.each_engine
class ServeTest(unittest.TestCase):
    engine: str
    folder: str
    server: Server
    files: dict[str, bytes]
    root: pathlib.Path

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.mkdtemp(prefix="weir-serve-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.root = pathlib.Path(cls.folder) / "root"
        cls.root.mkdir()
        cls.files = tree_make(cls.root)
        cls.server = Server(cls.root, engine=cls.engine)
        cls.addClassCleanup(cls.server.stop)

    def assert_alive(self) -> None:
        self.assertIsNone(self.server.process.poll(), self.server.errors())
        self.assertEqual(self.server.get("/small.txt").body, b"hello\n")

    # Files

    def test_files_are_exact(self) -> None:
        with self.server.connect() as client:
            for target, data in self.files.items():
                response = client.get(target.replace(" ", "%20"))
                self.assertEqual(response.status, 200, target)
                self.assertEqual(
                    hashlib.sha256(response.body).digest(), hashlib.sha256(data).digest(), target
                )

    def test_a_large_file_ten_times_on_one_connection(self) -> None:
        with self.server.connect() as client:
            for _ in range(10):
                self.assertEqual(client.get("/large.bin").body, self.files["/large.bin"])

    def test_head_is_get_without_its_body(self) -> None:
        with self.server.connect() as client:
            for target in ("/empty", "/small.txt", "/large.bin", "/missing"):
                head, get = client.get(target, "HEAD"), client.get(target)
                self.assertEqual(head.status, get.status)
                self.assertEqual(head["Content-Length"], str(len(get.body)))
                fields = [{n.lower() for n, _ in r.headers} for r in (head, get)]
                self.assertEqual(fields[0], fields[1])

    def test_index_and_directories(self) -> None:
        with self.server.connect() as client:
            self.assertEqual(client.get("/").body, self.files["/index.html"])
            self.assertEqual(client.get("/sub/").body, self.files["/sub/index.html"])
            redirect = client.get("/sub?a=b")
            self.assertIn(redirect.status, (301, 302, 307, 308))
            self.assertRegex(redirect["Location"], r"^(http://a\.example)?/sub/\?a=b$")
            self.assertIn(client.get("/bare/").status, (403, 404))

    def test_a_redirect_never_leads_to_another_host(self) -> None:
        with self.server.connect() as client:
            response = client.get("//sub")
            if 300 <= response.status < 400:
                self.assertNotRegex(response["Location"], r"^(//|/\\)")

    def test_missing(self) -> None:
        with self.server.connect() as client:
            for target in ("/missing", "/missing/", "/small.txt/", "/small.txt/x", "/sub/missing"):
                self.assertEqual(client.get(target).status, 404, target)
            self.assertEqual(client.get("/small.txt").status, 200)

    def test_types(self) -> None:
        with self.server.connect() as client:
            self.assertRegex(client.get("/index.html")["Content-Type"], r"^text/html(;|$)")
            self.assertRegex(client.get("/small.txt")["Content-Type"], r"^text/plain(;|$)")
            self.assertEqual(client.get("/large.bin")["Content-Type"], "application/octet-stream")

    def test_a_query_does_not_matter(self) -> None:
        self.assertEqual(self.server.get("/small.txt?a=/../b").body, b"hello\n")

    def test_absolute_form(self) -> None:
        self.assertEqual(self.server.get("http://a.example/small.txt").body, b"hello\n")

    def test_date(self) -> None:
        date = email.utils.parsedate_to_datetime(self.server.get("/small.txt")["Date"])
        self.assertLess(abs(date.timestamp() - time.time()), 5)

    def test_what_is_no_file_is_not_served(self) -> None:
        self.assertIn(self.server.get("/fifo").status, (403, 404))

    # Conditions

    def test_etag(self) -> None:
        with self.server.connect() as client:
            tag = client.get("/digits")["ETag"]
            self.assertRegex(tag, r'^(W/)?"[\x21\x23-\x7e]+"$')
            for sent in (tag, f'"other", {tag}', "*", f"W/{tag}" if tag[0] == '"' else tag):
                response = client.get("/digits", If_None_Match=sent)
                self.assertEqual(response.status, 304, sent)
                self.assertEqual(response["ETag"], tag)
            self.assertEqual(client.get("/digits", If_None_Match='"other"').status, 200)
            self.assertEqual(client.get("/digits", If_Match='"other"').status, 412)
            self.assertEqual(client.get("/digits", If_Match="*").status, 200)

    def test_if_modified_since(self) -> None:
        with self.server.connect() as client:
            date = client.get("/digits")["Last-Modified"]
            stamp = email.utils.parsedate_to_datetime(date).timestamp()
            before = email.utils.formatdate(stamp - 1, usegmt=True)
            after = email.utils.formatdate(stamp + 1, usegmt=True)
            self.assertEqual(client.get("/digits", If_Modified_Since=date).status, 304)
            self.assertEqual(client.get("/digits", If_Modified_Since=after).status, 304)
            self.assertEqual(client.get("/digits", If_Modified_Since=before).status, 200)
            self.assertEqual(client.get("/digits", If_Modified_Since="yesterday").status, 200)
            self.assertEqual(client.get("/digits", If_Unmodified_Since=before).status, 412)
            self.assertEqual(client.get("/digits", If_Unmodified_Since=date).status, 200)
            both = client.get("/digits", If_Modified_Since=date, If_None_Match='"other"')
            self.assertEqual(both.status, 200, "If-None-Match goes first")

    # Ranges

    def test_single_ranges(self) -> None:
        data = self.files["/digits"]
        with self.server.connect() as client:
            for sent, first, last in (
                ("0-0", 0, 0),
                ("10-19", 10, 19),
                ("990-", 990, 999),
                ("-10", 990, 999),
                ("-5000", 0, 999),
                ("500-99999", 500, 999),
            ):
                response = client.get("/digits", Range=f"bytes={sent}")
                self.assertEqual(response.status, 206, sent)
                self.assertEqual(response["Content-Range"], f"bytes {first}-{last}/1000")
                self.assertEqual(response.body, data[first : last + 1], sent)

    def test_a_range_of_a_large_file(self) -> None:
        response = self.server.get("/large.bin", Range="bytes=1000000-4999999")
        self.assertEqual(response.body, self.files["/large.bin"][1000000:5000000])

    def test_ranges_that_cannot_be_had(self) -> None:
        with self.server.connect() as client:
            for sent in ("1000-", "5000-6000", "-0"):
                response = client.get("/digits", Range=f"bytes={sent}")
                self.assertEqual(response.status, 416, sent)
                self.assertEqual(response["Content-Range"], "bytes */1000")

    def test_ranges_that_are_ignored(self) -> None:
        with self.server.connect() as client:
            for sent in ("lines=1-2", "bytes=5-2", "bytes=a-b", "bytes=", "bytes=1-2-3"):
                response = client.get("/digits", Range=sent)
                self.assertIn(response.status, (200, 400), sent)

    def test_if_range(self) -> None:
        with self.server.connect() as client:
            tag = client.get("/digits")["ETag"]
            self.assertEqual(client.get("/digits", Range="bytes=0-1", If_Range=tag).status, 206)
            self.assertEqual(
                client.get("/digits", Range="bytes=0-1", If_Range='"other"').status, 200
            )

    def multipart(self, response: Response) -> list[tuple[str, bytes]]:
        """(Content-Range, bytes) of each part; RFC 2046 section 5.1.1 to the letter."""
        found = re.fullmatch(
            r'multipart/byteranges; *boundary="?([^"]+)"?', response["Content-Type"]
        )
        assert found, response["Content-Type"]
        mark = b"--" + found[1].encode()
        pieces = (b"\r\n" + response.body).split(b"\r\n" + mark)
        self.assertIn(pieces[0], (b"", b"\r\n"))
        self.assertEqual(pieces[-1].rstrip(b"\r\n"), b"--")
        parts = []
        for piece in pieces[1:-1]:
            self.assertTrue(piece.startswith(b"\r\n"))
            block, data = piece[2:].split(b"\r\n\r\n", 1)
            parts.append((support.parse_fields(block)["content-range"], data))
        return parts

    def test_several_ranges(self) -> None:
        data = self.files["/digits"]
        with self.server.connect() as client:
            response = client.get("/digits", Range="bytes=0-4, 100-109,-3")
            self.assertEqual(response.status, 206)
            self.assertEqual(
                self.multipart(response),
                [
                    ("bytes 0-4/1000", data[0:5]),
                    ("bytes 100-109/1000", data[100:110]),
                    ("bytes 997-999/1000", data[997:]),
                ],
            )
            self.assertEqual(client.get("/small.txt").body, b"hello\n")

    def test_very_many_ranges_do_not_multiply(self) -> None:
        sent = "bytes=" + ",".join("0-999" for _ in range(800))
        response = self.server.get("/digits", Range=sent)
        self.assertIn(response.status, (200, 206, 400, 416, 431))
        self.assertLess(len(response.body), 300_000)

    # Precompressed siblings

    def test_precompressed(self) -> None:
        with self.server.connect() as client:
            plain = client.get("/page.html")
            self.assertEqual(plain.body, self.files["/page.html"])
            self.assertIsNone(plain.get("Content-Encoding"))
            self.assertIn("accept-encoding", plain["Vary"].lower())
            for coding, suffix in (("gzip", "gz"), ("br", "br"), ("zstd", "zst")):
                response = client.get("/page.html", Accept_Encoding=coding)
                self.assertEqual(response.get("Content-Encoding"), coding)
                self.assertEqual(response.body, (self.root / f"page.html.{suffix}").read_bytes())
                self.assertRegex(response["Content-Type"], r"^text/html")
                self.assertIn("accept-encoding", response["Vary"].lower())
                self.assertNotEqual(response["ETag"], plain["ETag"])
            refused = client.get("/page.html", Accept_Encoding="gzip;q=0, br;q=0, zstd;q=0")
            self.assertIsNone(refused.get("Content-Encoding"))
            self.assertIsNone(
                client.get("/small.txt", Accept_Encoding="gzip").get("Content-Encoding")
            )

    # Connections

    def test_fifty_requests_in_one_packet(self) -> None:
        with self.server.connect() as client:
            requests = "".join(f"GET /n{i} HTTP/1.1\r\n{HOST}\r\n" for i in range(50))
            client.send(requests)
            for i in range(50):
                self.assertEqual(client.response().body, self.files[f"/n{i}"], i)

    def test_five_hundred_pipelined_requests_on_one_connection(self) -> None:
        # More than any queue holds: the server has to stop reading, and to go on.
        with self.server.connect() as client:
            client.send("".join(f"GET /n{i % 50} HTTP/1.1\r\n{HOST}\r\n" for i in range(500)))
            for i in range(500):
                self.assertEqual(client.response().body, self.files[f"/n{i % 50}"], i)

    def test_keep_alive_and_close(self) -> None:
        with self.server.connect() as client:
            self.assertNotEqual((client.get("/small.txt").get("Connection") or "").lower(), "close")
            response = client.get("/small.txt", Connection="close")
            self.assertEqual(response["Connection"].lower(), "close")
            self.assertTrue(client.ended())

    def test_close_after_a_large_file_loses_nothing(self) -> None:
        with self.server.connect() as client:
            response = client.get("/large.bin", Connection="close")
            self.assertEqual(response.body, self.files["/large.bin"])
            self.assertTrue(client.ended())

    def test_http_1_0(self) -> None:
        with self.server.connect() as client:
            client.send("GET /small.txt HTTP/1.0\r\n\r\n")
            self.assertEqual(client.response().body, b"hello\n")
            self.assertTrue(client.ended())
        with self.server.connect() as client:
            for _ in range(2):
                client.send("GET /small.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                response = client.response()
                self.assertEqual(response["Connection"].lower(), "keep-alive")

    def test_half_close_still_gets_its_answer(self) -> None:
        with self.server.connect() as client:
            client.request("/large.bin")
            client.channel.shutdown(1)
            self.assertEqual(client.response().body, self.files["/large.bin"])
            self.assertTrue(client.ended())

    def test_byte_by_byte(self) -> None:
        with self.server.connect() as client:
            for byte in f"GET /small.txt HTTP/1.1\r\n{HOST}\r\n".encode():
                client.send(bytes([byte]))
                time.sleep(0.002)
            self.assertEqual(client.response().body, b"hello\n")

    def test_split_at_every_place(self) -> None:
        request = f"GET /small.txt HTTP/1.1\r\n{HOST}\r\n".encode() * 2
        with self.server.connect() as client:
            for place in range(1, len(request)):
                client.send(request[:place])
                time.sleep(0.001)
                client.send(request[place:])
                for _ in range(2):
                    self.assertEqual(client.response().body, b"hello\n", place)

    def test_empty_lines_before_a_request(self) -> None:
        with self.server.connect() as client:
            client.send(f"\r\nGET /small.txt HTTP/1.1\r\n{HOST}\r\n")
            self.assertEqual(client.response().body, b"hello\n")

    # Methods and bodies

    def then_usable_or_closed(self, client: Connection) -> None:
        """What was sent behind a body is answered, or the connection ends: never mixed up."""
        try:
            response = client.response()
        except (EOFError, ConnectionResetError):
            return
        self.assertEqual((response.status, response.body), (200, b"hello\n"))

    def test_other_methods(self) -> None:
        for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"):
            response = self.server.get("/small.txt", method, Content_Length="0")
            self.assertIn(response.status, (405, 501), method)
            if response.status == 405:
                self.assertIn("GET", response["Allow"])

    def test_bodies_are_passed_over(self) -> None:
        bodies = {
            "Content-Length: 10": "0123456789",
            "Transfer-Encoding: chunked": "5\r\n01234\r\n5;a=b\r\n56789\r\n0\r\nT: x\r\n\r\n",
        }
        for field, body in bodies.items():
            with self.server.connect() as client:
                following = f"GET /small.txt HTTP/1.1\r\n{HOST}\r\n"
                client.send(f"POST /small.txt HTTP/1.1\r\n{HOST}{field}\r\n\r\n{body}{following}")
                self.assertEqual(client.response().status, 405)
                self.then_usable_or_closed(client)
        self.assert_alive()

    def test_get_with_a_body(self) -> None:
        with self.server.connect() as client:
            following = f"GET /small.txt HTTP/1.1\r\n{HOST}\r\n"
            client.send(f"GET /digits HTTP/1.1\r\n{HOST}Content-Length: 4\r\n\r\nGET {following}")
            self.assertIn(client.response().status, (200, 400, 413))
            self.then_usable_or_closed(client)

    def test_expect(self) -> None:
        with self.server.connect() as client:
            client.send(
                f"POST /small.txt HTTP/1.1\r\n{HOST}"
                "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
            )
            self.assertIn(client.response().status, (405, 417))
        with self.server.connect() as client:
            client.send(
                f"GET /small.txt HTTP/1.1\r\n{HOST}"
                "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
            )
            first = client.head()
            if first.status == 100:
                client.send("12345")
                self.assertEqual(client.response().body, b"hello\n")
            else:
                self.assertIn(first.status, (200, 417))

    def test_an_expectation_that_nobody_waits_for_is_ignored(self) -> None:
        for version, field, status in (
            ("1.0", "100-continue", 200),
            ("1.1", "100-Continue", 200),
            ("1.1", "miracles", 417),
            ("1.1", "100-continue, miracles", 417),
        ):
            response = self.server.get("/small.txt", version=version, Expect=field)
            self.assertEqual((field, response.status), (field, status))

    # Hostile peers

    def test_refused_requests(self) -> None:
        for name, request, statuses in REFUSED:
            with self.subTest(name), self.server.connect() as client:
                client.send(request)
                response = client.response()
                self.assertIn(response.status, statuses, name)
                if response.status not in (404, 405):
                    self.assertTrue(client.ended(), f"{name}: the connection stays open")
        self.assert_alive()

    def test_nothing_outside_the_folder(self) -> None:
        for target in ESCAPES:
            with self.subTest(target), self.server.connect() as client:
                client.request(target)
                response = client.response()
                self.assertNotIn(SECRET, response.body)
                self.assertIn(response.status, (301, 302, 307, 308, 400, 403, 404))
        self.assertEqual(self.server.get("/link-in").body, b"hello\n")
        self.assert_alive()

    def test_peers_that_vanish(self) -> None:
        request = f"GET /huge.bin HTTP/1.1\r\n{HOST}\r\n"
        for sent in ("", "G", request[:20], request):
            for _ in range(20):
                client = self.server.connect()
                client.send(sent)
                client.reset()
        self.assert_alive()

    def test_random_bytes(self) -> None:
        for seed in range(20):
            with self.server.connect() as client:
                client.send(content(1000 + seed, 3000))
                client.drain()
        self.assert_alive()

    # Files that change

    def test_a_replaced_file(self) -> None:
        path = self.root / f"replaced-{self.engine}"
        support.sparse_file(path, 16 * 1024 * 1024)
        with self.server.connect(receive_bytes=16384) as client:
            client.request(f"/{path.name}")
            client.head()
            fresh = self.root / f"fresh-{self.engine}"
            fresh.write_bytes(b"new")
            os.replace(fresh, path)
            wait_for("the new file", lambda: self.server.get(f"/{path.name}").body == b"new", 2)
            self.assertEqual(client.take(16 * 1024 * 1024).count(0), 16 * 1024 * 1024)

    def test_a_changed_file(self) -> None:
        path = self.root / f"changed-{self.engine}"
        path.write_bytes(b"old")
        tag = self.server.get(f"/{path.name}")["ETag"]
        time.sleep(0.05)  # longer than a tick of the file system's clock
        path.write_bytes(b"new")
        time.sleep(1.1)  # each thread believes what it knows of a file for a second
        for _ in range(10):
            response = self.server.get(f"/{path.name}")
            self.assertEqual(response.body, b"new")
            self.assertNotEqual(response["ETag"], tag)
        path.unlink()
        time.sleep(1.1)
        for _ in range(10):
            self.assertEqual(self.server.get(f"/{path.name}").status, 404)

    def test_a_file_truncated_under_way(self) -> None:
        path = self.root / f"truncated-{self.engine}"
        support.sparse_file(path, HUGE_BYTES)
        with self.server.connect(receive_bytes=16384) as client:
            client.request(f"/{path.name}")
            head = client.head()
            self.assertEqual(head["Content-Length"], str(HUGE_BYTES))
            client.take(100_000)
            os.truncate(path, 200_000)
            # What the kernel had already may come; the rest cannot, and nothing else may.
            self.assertLess(100_000 + client.drain(), HUGE_BYTES)
        entry = self.server.log_of(f"/{path.name}")
        self.assertNotEqual(entry["outcome"], "delivered")
        self.assert_alive()

    # A client that others wrote

    def curl(self, *arguments: str) -> bytes:
        command = [support.need_program("curl"), "-sS", "--fail", "--max-time", "20", *arguments]
        return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout

    def test_curl(self) -> None:
        data = self.files["/large.bin"]
        url = self.server.url("/large.bin")
        self.assertEqual(self.curl(url), data)
        self.assertEqual(self.curl("--http1.0", url), data)
        self.assertEqual(self.curl("--range", "1000-1999999", url), data[1000:2000000])
        page = self.curl(
            "--compressed", "-H", "Accept-Encoding: gzip", self.server.url("/page.html")
        )
        self.assertEqual(page, self.files["/page.html"])
        self.assertEqual(
            self.curl(self.server.url("/n[0-49]")),
            b"".join(self.files[f"/n{i}"] for i in range(50)),
        )


if __name__ == "__main__":
    support.main()
