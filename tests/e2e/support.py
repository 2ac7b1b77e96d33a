# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share: a server under test, a strict client, and a runner.

The environment decides what is tested: WEIR is the program (default: build/weir), WEIR_ENGINES a
list of engines with commas (default: all), WEIR_SLOW is set where a sanitizer slows it down.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import email.parser
import errno
import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest
from collections.abc import Callable, Iterator
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "lab"))
from lab import Lab, ending_with_us, process_end  # noqa: E402

WEIR = os.environ.get("WEIR", str(ROOT / "build" / "weir"))
ENGINES = tuple(os.environ.get("WEIR_ENGINES", "io_uring,epoll,poll").split(","))
SLOW = bool(os.environ.get("WEIR_SLOW"))
# Deadlines within which something must have happened; a sanitizer's build gets more of it.
PATIENCE = 4.0 if SLOW else 1.0
EXIT_SKIP = 77
SYS_IO_URING_SETUP = 425
IO_URING_KERNEL = (6, 1)
SO_TIMESTAMPNS = 35


def engine_lacking(engine: str) -> str | None:
    """Why this host cannot run an engine, asked of the kernel and not of Weir."""
    if engine != "io_uring":
        return None
    if tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) < IO_URING_KERNEL:
        return "io_uring can be used from Linux 6.1 on"
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(SYS_IO_URING_SETUP, 0, None)  # a ring of no entries is EINVAL or EFAULT
    reasons = {
        errno.ENOSYS: "this kernel has no io_uring",
        errno.EPERM: "io_uring is forbidden here",
    }
    return reasons.get(ctypes.get_errno())


def each_engine(test: type[unittest.TestCase]) -> type[unittest.TestCase]:
    """Replaces a test class by one for each engine, which finds its own in `self.engine`."""
    module = sys.modules[test.__module__]
    for engine in ENGINES:
        name = f"{test.__name__}_{engine}"
        variant = type(name, (test,), {"engine": engine, "__module__": test.__module__})
        lacking = engine_lacking(engine)
        setattr(module, name, unittest.skip(lacking)(variant) if lacking else variant)
    setattr(test, "abstract", True)
    return test


def wait_for(what: str, condition: Callable[[], Any], seconds: float = 5.0) -> Any:
    """Waits until `condition` is true, and returns what it returned."""
    deadline = time.monotonic() + seconds * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"still waiting after {seconds * PATIENCE:g} s: {what}")
        time.sleep(0.01)


class Response:
    """One HTTP response, and how many bytes of the connection its head took."""

    def __init__(self, status: int, version: str, headers: list[tuple[str, str]], head_bytes: int):
        self.status, self.version, self.headers, self.head_bytes = (
            status,
            version,
            headers,
            head_bytes,
        )
        self.body = b""

    def get(self, name: str) -> str | None:
        values = [value for field, value in self.headers if field.lower() == name.lower()]
        if len(values) > 1:
            raise AssertionError(f"{name} is there {len(values)} times")
        return values[0] if values else None

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise AssertionError(f"the response has no {name}")
        return value


class Connection:
    """A client that believes nothing: every byte it gets must belong to a well-formed response."""

    def __init__(self, channel: socket.socket):
        self.channel = channel
        self.buffer = b""
        self.received = 0
        # By the clock of time.time(): before and after the last send, when the kernel got the last
        # of the bytes that were received, and when this process came to read them.
        self.sent_between = (0.0, 0.0)
        self.arrived_at = self.read_at = 0.0
        channel.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def send(self, data: bytes | str) -> None:
        before = time.time()
        self.channel.sendall(data.encode("latin-1") if isinstance(data, str) else data)
        self.sent_between = (before, time.time())

    def request(
        self, target: str, method: str = "GET", version: str = "1.1", **fields: str
    ) -> None:
        lines = [f"{method} {target} HTTP/{version}", "Host: a.example"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        self.send("\r\n".join(lines) + "\r\n\r\n")

    def get(
        self, target: str, method: str = "GET", version: str = "1.1", **fields: str
    ) -> Response:
        self.request(target, method, version, **fields)
        return self.response(method)

    def receive_some(self, most: int = 1 << 18) -> bytes:
        data, control, _, _ = self.channel.recvmsg(most, 64)
        self.read_at = time.time()
        self.received += len(data)
        for level, kind, value in control:
            if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                seconds, nanoseconds = struct.unpack("ll", value)
                self.arrived_at = seconds + nanoseconds / 1e9
        return data

    def _fill(self) -> None:
        data = self.receive_some(4096)
        if not data:
            raise EOFError(f"the connection ended; left over: {self.buffer[:200]!r}")
        self.buffer += data

    def response(self, method: str = "GET") -> Response:
        """The next final response; interim ones are passed over."""
        response = self.head()
        while response.status < 200:
            response = self.head()
        if method == "HEAD" or response.status in (204, 304):
            return response
        length = response.get("Content-Length")
        if length is None:
            raise AssertionError(f"a response without Content-Length: {response.headers}")
        if not re.fullmatch(r"[0-9]+", length):
            raise AssertionError(f"Content-Length: {length}")
        response.body = self.take(int(length))
        return response

    def head(self) -> Response:
        while b"\r\n\r\n" not in self.buffer:
            if len(self.buffer) > 1 << 16:
                raise AssertionError(f"no end of the head: {self.buffer[:200]!r}")
            self._fill()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/(1\.[01]) ([1-5][0-9][0-9]) ([\x20-\x7e]*)", first)
        if not match:
            raise AssertionError(f"not a status line: {first!r}")
        headers = []
        for line in lines:
            field = re.fullmatch(
                r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\t]*?)[ \t]*", line
            )
            if not field:
                raise AssertionError(f"not a header: {line!r}")
            headers.append((field[1], field[2]))
        return Response(int(match[2]), match[1], headers, len(head) + 4)

    def take(self, length: int) -> bytes:
        parts = [self.buffer[:length]]
        missing = length - len(parts[0])
        self.buffer = self.buffer[length:]
        while missing:
            data = self.receive_some(min(missing, 1 << 20))
            if not data:
                raise EOFError(f"the connection ended {missing} bytes too early")
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def ended(self, seconds: float = 5.0) -> bool:
        """Whether the server ends the connection now, without another byte."""
        self.channel.settimeout(seconds * PATIENCE)
        try:
            rest = self.buffer or self.receive_some(4096)
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
        if rest:
            raise AssertionError(f"bytes that nobody asked for: {rest[:200]!r}")
        return True

    def drain(self, seconds: float = 10.0) -> int:
        """Reads until the connection ends, by FIN or RST. Returns how many bytes that were."""
        self.channel.settimeout(seconds * PATIENCE)
        count = len(self.buffer)
        self.buffer = b""
        with contextlib.suppress(ConnectionResetError):
            while data := self.receive_some():
                count += len(data)
        return count

    def discard(self, length: int) -> None:
        """Reads so many bytes of a body without looking at them."""
        left = length - len(self.buffer[:length])
        self.buffer = self.buffer[length:]
        room = bytearray(1 << 22)
        while left:
            count = self.channel.recv_into(room, min(left, len(room)), socket.MSG_TRUNC)
            if count == 0:
                raise AssertionError(f"the connection ended {left} bytes too early")
            left -= count
            self.received += count

    def unread(self) -> int:
        """Bytes that the client's kernel holds for it (SIOCINQ)."""
        return struct.unpack("i", fcntl.ioctl(self.channel, termios.FIONREAD, b"\0" * 4))[0]

    def wait_until_quiet(self, seconds: float = 0.6) -> int:
        """Waits until nothing arrives any more. Returns all bytes that ever did."""
        last, since = -1, time.monotonic()
        while time.monotonic() - since < seconds * PATIENCE:
            now = self.unread()
            if now != last:
                last, since = now, time.monotonic()
            time.sleep(0.02)
        return self.received + last

    def reset(self) -> None:
        """Closes with a RST."""
        self.channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.channel.close()


class Server:
    """`weir serve` on a free port of this host, or of the lab's server side."""

    def __init__(
        self,
        root: str | pathlib.Path,
        *options: str,
        engine: str,
        lab: Lab | None = None,
        program: str = WEIR,
    ):
        self.lab = lab
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-e2e-"))
        self.log_path = self.folder / "access.log"
        self.error_path = self.folder / "stderr"
        host = lab.SERVER if lab else "127.0.0.1"
        command = [program, "serve", str(root), "--listen", f"{host}:0", "--engine", engine]
        command += ["--access-log", str(self.log_path), *options]
        with open(self.error_path, "wb") as error:
            if lab:
                self.process = lab.server_exec(command, stderr=error)
            else:
                self.process = subprocess.Popen(ending_with_us(command), stderr=error)
        try:
            self.host, self.port = self._address()
        except BaseException:
            self.stop()
            raise

    def _address(self) -> tuple[str, int]:
        def said() -> re.Match[str] | None:
            found = re.search(r"on http://([0-9.]+):([0-9]+)", self.errors())
            if not found and self.process.poll() is not None:
                raise AssertionError(f"weir ended with {self.process.returncode}: {self.errors()}")
            return found

        found = wait_for("weir to say that it serves", said, 10)
        return found[1], int(found[2])

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def errors(self) -> str:
        return self.error_path.read_text(errors="replace") if self.error_path.exists() else ""

    def url(self, target: str) -> str:
        return f"http://{self.host}:{self.port}{target}"

    def connect(self, receive_bytes: int | None = None, timeout: float = 15.0) -> Connection:
        seconds = timeout * PATIENCE
        if self.lab:
            return Connection(self.lab.connect(self.port, seconds, receive_bytes))
        channel = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        channel.settimeout(seconds)
        if receive_bytes is not None:
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        try:
            channel.connect((self.host, self.port))
        except BaseException:
            channel.close()
            raise
        return Connection(channel)

    def get(self, target: str, method: str = "GET", **fields: str) -> Response:
        """One request on a connection of its own."""
        with self.connect() as client:
            return client.get(target, method, **fields)

    def log_lines(self, path: pathlib.Path | None = None) -> list[bytes]:
        """All complete lines. A line is written whole: there never is a torn one for long."""
        path = path or self.log_path
        data = path.read_bytes() if path.exists() else b""
        return data.split(b"\n")[:-1]

    def log(self, count: int = 1, seconds: float = 5.0) -> list[dict[str, Any]]:
        """Waits for at least `count` lines and returns all, parsed."""
        lines = wait_for(
            f"{count} log lines", lambda: len(found := self.log_lines()) >= count and found, seconds
        )
        return [json.loads(line.decode()) for line in lines]

    def log_of(self, target: str, seconds: float = 5.0) -> dict[str, Any]:
        """Waits for the line of a target that was asked for once."""

        def found() -> list[dict[str, Any]]:
            lines = [json.loads(line.decode()) for line in self.log_lines()]
            return [line for line in lines if line["target"] == target]

        lines = wait_for(f"the log line for {target}", found, seconds)
        if len(lines) != 1:
            raise AssertionError(f"{len(lines)} log lines for {target}")
        return lines[0]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 5.0) -> int:
        """The exit status; that it comes in time is part of what is tested."""
        try:
            return self.process.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"weir still runs after {seconds * PATIENCE:g} s") from None

    def stop(self) -> None:
        """Ends it, if it has not ended. It must not have ended, or end now, in any way but well."""
        process_end(self.process, 10 * PATIENCE)
        errors = self.errors()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.process.returncode != 0 and sys.exc_info()[0] is None:
            raise AssertionError(f"weir ended with {self.process.returncode}: {errors}")


def weir_run(
    *arguments: str, seconds: float = 20.0, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Runs the program to its end."""
    return subprocess.run(
        [WEIR, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=seconds * PATIENCE,
        check=False,
        **options,
    )


def need_program(name: str) -> str:
    path = shutil.which(name)
    if not path:
        raise unittest.SkipTest(f"{name} is not installed")
    return path


def sparse_file(path: pathlib.Path, size: int) -> None:
    with open(path, "wb") as file:
        file.truncate(size)


def parse_fields(block: bytes) -> dict[str, str]:
    """The headers of one part of a multipart body."""
    message = email.parser.Parser().parsestr(block.decode("latin-1"))
    return {name.lower(): value for name, value in message.items()}


# The runner: the engines' tests run side by side, and each test says PASS, FAIL or SKIP.


class _Result(unittest.TestResult):
    lock = threading.Lock()

    def __init__(self) -> None:
        super().__init__()
        self.counts = {"PASS": 0, "FAIL": 0, "SKIP": 0}
        self._broken: set[str] = set()

    @staticmethod
    def _name(test: Any) -> str:
        name = test.id().removeprefix("__main__.")
        return name.replace(":", " ")

    def _say(self, word: str, test: Any, reason: str = "", details: str = "") -> None:
        self.counts[word] += 1
        line = f"{word}: {self._name(test)}" + (f": {reason}" if reason else "")
        with self.lock:
            print(line + ("\n" + details if details else ""), flush=True)

    def _fail(self, test: Any, error: Any, details: str) -> None:
        reason = (str(error[1]).splitlines() or [""])[0] or error[0].__name__
        self._say("FAIL", test, reason[:200], details)

    def addSuccess(self, test: Any) -> None:
        if test.id() not in self._broken:
            self._say("PASS", test)

    def addError(self, test: Any, err: Any) -> None:
        super().addError(test, err)
        self._fail(test, err, self.errors[-1][1])

    def addFailure(self, test: Any, err: Any) -> None:
        super().addFailure(test, err)
        self._fail(test, err, self.failures[-1][1])

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err:
            failed = issubclass(err[0], test.failureException)
            self._broken.add(test.id())
            self._fail(subtest, err, (self.failures if failed else self.errors)[-1][1])

    def addSkip(self, test: Any, reason: str) -> None:
        super().addSkip(test, reason)
        self._say("SKIP", test, reason)


def _groups(words: list[str]) -> Iterator[unittest.TestSuite]:
    """The tests of __main__, a suite for each engine and one for what needs none."""
    loader = unittest.defaultTestLoader
    suites: dict[str, unittest.TestSuite] = {}
    for value in list(vars(sys.modules["__main__"]).values()):
        if not (isinstance(value, type) and issubclass(value, unittest.TestCase)):
            continue
        if value.__dict__.get("abstract") or value.__module__ != "__main__":
            continue
        suite = suites.setdefault(getattr(value, "engine", ""), unittest.TestSuite())
        tests = loader.loadTestsFromTestCase(value)
        chosen = [test for test in tests if all(word in str(test) for word in words)]
        suite.addTest(unittest.TestSuite(chosen))
    yield from suites.values()


def main() -> None:
    """Runs the tests of the script, or those whose names contain all words of the command line."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if not os.access(WEIR, os.X_OK):
        sys.exit(f"there is no program {WEIR}: build it first")
    suites = list(_groups(sys.argv[1:]))
    results = [_Result() for _ in suites]
    with concurrent.futures.ThreadPoolExecutor(len(suites)) as pool:
        try:
            for done in [pool.submit(suite.run, result) for suite, result in zip(suites, results)]:
                done.result()
        except BaseException:
            for result in results:
                result.stop()  # after the test that runs now, so that it can clean up
            raise
    counts = {word: sum(result.counts[word] for result in results) for word in results[0].counts}
    print(f"{counts['PASS']} passed, {counts['FAIL']} failed, {counts['SKIP']} skipped")
    if counts["FAIL"] or not any(counts.values()):
        sys.exit(1)
    sys.exit(0 if counts["PASS"] else EXIT_SKIP)
