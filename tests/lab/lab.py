# SPDX-License-Identifier: Apache-2.0
"""A long link on one host: two network namespaces joined by relay.c.

    with Lab(ping_ms=320) as lab:
        server = lab.server_exec(["build/weir", "serve", "--listen", f"{lab.SERVER}:8080"])
        client = lab.connect(8080)

Nothing is left behind: the namespaces have no names and vanish with the last process in them, the
relay ends when this process does, and the programs started here end with it too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
from collections.abc import Iterator, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("WEIR_LAB_BUILD", ROOT / "build" / "lab"))
CLONE_NEWNET = 0x40000000
START_SECONDS_MAX = 10.0
PRIORITY = -10  # a niceness
TCP_INFO_RTT_OFFSET = 68  # of tcpi_rtt in struct tcp_info

_libc = ctypes.CDLL(None, use_errno=True)


class LabUnavailable(unittest.SkipTest):
    """This host cannot have the link; the text says why."""


def _relay_program() -> pathlib.Path:
    """Compiles the relay unless that was done since it changed."""
    source = pathlib.Path(__file__).with_name("relay.c")
    program = BUILD / "relay"
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    BUILD.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CC", "cc")
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        fresh = pathlib.Path(folder) / "relay"
        command = [compiler, "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-o", str(fresh), str(source)]
        try:
            subprocess.run(command, check=True)
        except FileNotFoundError:
            raise LabUnavailable(
                f"the link needs a C compiler, and there is no {compiler}"
            ) from None
        os.replace(fresh, program)  # at once: another test may be starting it
    return program


def root_borrow() -> None:
    """Starts this program anew as the root of a user namespace, if it is not root and may.

    With a network namespace of that root's own, too: nobody else's could be entered again.
    """
    wrapper = ["unshare", "--user", "--map-root-user", "--net"]
    if os.geteuid() == 0 or not shutil.which(wrapper[0]):
        return
    if subprocess.run([*wrapper, "true"], stderr=subprocess.DEVNULL).returncode == 0:
        os.execvp(wrapper[0], [*wrapper, *sys.orig_argv])


def priority_raise() -> None:
    """Before a measurement: this thread, and what it starts, go before others of this host, if they may."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)


def ending_with_us(command: Sequence[str]) -> list[str]:
    """`command`, to be killed by the kernel should the thread that starts it die."""
    return ["setpriv", "--pdeathsig", "KILL", "--", *command]


def process_end(process: subprocess.Popen[Any], grace_seconds: float = 2.0) -> None:
    """Ends a process that we started, politely first."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()


class Lab:
    """The link, while the context lasts.

    `loss` is the share of packets towards the client that are lost: data, but not acknowledgements,
    without which a server could not know what its client has.
    """

    SERVER = "10.77.0.1"
    CLIENT = "10.77.0.2"

    def __init__(
        self, ping_ms: float = 320, rate_bits: int = 0, loss: float = 0.0, seed: int = 1
    ) -> None:
        self._settings: dict[str, Any] = {"ping_ms": ping_ms, "rate_bits": rate_bits, "loss": loss}
        self._seed = seed
        self._relay: subprocess.Popen[str] | None = None
        self._namespaces: dict[str, str] = {}
        self._processes: list[subprocess.Popen[Any]] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Lab:
        if os.geteuid() != 0:
            raise LabUnavailable("network namespaces need root, or user namespaces")
        if not os.path.exists("/dev/net/tun"):
            raise LabUnavailable("there is no /dev/net/tun")
        command = [str(_relay_program()), self.SERVER, self.CLIENT, str(self._seed)]
        # In a session of its own: Ctrl-C is for us, who then close the link in order.
        self._relay = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        try:
            assert self._relay.stdout and self._relay.stderr
            words = self._relay.stdout.readline().split()
            if words[:1] != ["ready"]:
                raise LabUnavailable(self._relay.stderr.read().strip() or "the relay did not start")
            for side, descriptor in zip(("server", "client"), words[1:]):
                self._namespaces[side] = f"/proc/{self._relay.pid}/fd/{descriptor}"
            self.change(**self._settings)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process_end(process)
        if self._relay and self._relay.stdin:
            self._relay.stdin.close()
            self._relay.wait()
            process_end(self._relay)

    # The link

    def _command(self, text: str) -> str:
        assert self._relay and self._relay.stdin and self._relay.stdout
        with self._lock:
            self._relay.stdin.write(text + "\n")
            answer = self._relay.stdout.readline().strip()
        if not answer.startswith(("ok", "stats")):
            raise RuntimeError(f"relay: {text}: {answer or 'it is gone'}")
        return answer

    def change(
        self,
        ping_ms: float | None = None,
        rate_bits: int | None = None,
        loss: float | None = None,
    ) -> None:
        """Changes the link for the packets that enter it from now on."""
        if ping_ms is not None:
            self._command(f"delay {round(ping_ms * 1000 / 2)}")
        if rate_bits is not None:
            self._command(f"rate {rate_bits}")
        if loss is not None:
            self._command(f"loss {round(loss * 1e6)}")

    def cut_link(self, towards: str = "both") -> None:
        """Loses every packet towards "server", "client" or "both", those under way too."""
        self._command(f"cut {towards}")

    def join_link(self) -> None:
        """Ends the silence."""
        self._command("join")

    def packets(self) -> dict[str, int]:
        """How many packets the link has carried and lost."""
        names = ("to_client", "to_client_lost", "to_server", "to_server_lost")
        return dict(zip(names, map(int, self._command("stats").split()[1:])))

    # The two ends

    @contextlib.contextmanager
    def inside(self, side: str) -> Iterator[None]:
        """Puts this thread on that side: what it opens and starts belongs there."""
        with open("/proc/thread-self/ns/net") as home, open(self._namespaces[side]) as there:
            self._enter_namespace(there.fileno())
            try:
                yield
            finally:
                self._enter_namespace(home.fileno())

    @staticmethod
    def _enter_namespace(descriptor: int) -> None:
        if _libc.setns(descriptor, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")

    def _execute(self, side: str, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        with self.inside(side):
            process = subprocess.Popen(ending_with_us(command), **options)
        self._processes.append(process)
        return process

    def server_exec(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Starts a program on the server's side. `options` are those of Popen."""
        return self._execute("server", command, **options)

    def client_exec(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Starts a program on the client's side. `options` are those of Popen."""
        return self._execute("client", command, **options)

    def connect(
        self, port: int, timeout: float = 30.0, receive_bytes: int | None = None
    ) -> socket.socket:
        """A connection from the client's side to a port of the server's."""
        with self.inside("client"):
            client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            client.settimeout(timeout)
            if receive_bytes is not None:  # before connecting: it decides the window's scale
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
            client.connect((self.SERVER, port))
        except BaseException:
            client.close()
            raise
        return client

    def ping(self) -> float:
        """Milliseconds there and back: how long its kernel saw a connection take to open."""
        with self.inside("server"):
            listener = socket.create_server((self.SERVER, 0))
        with listener, self.connect(listener.getsockname()[1]) as client:
            info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_RTT_OFFSET + 4)
            return struct.unpack_from("I", info, TCP_INFO_RTT_OFFSET)[0] / 1000

    def setting(self, name: str) -> str:
        """A network setting of the server's side, such as "ipv4/tcp_congestion_control"."""
        with self.inside("server"):
            return pathlib.Path("/proc/sys/net", name).read_text().strip()
