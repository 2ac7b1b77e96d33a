# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: servers to start, a client to load them, and CPU time to read.

The server runs on one core and the client on another. CPU time is the scheduler's own count, in
nanoseconds, of every thread of the server (/proc/PID/task/*/schedstat), kernel work included.
"""
import dataclasses
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
SERVER_CORE = 0
CLIENT_CORE = 1
START_SECONDS_MAX = 10
STOP_SECONDS_MAX = 5
RUN_SECONDS_MAX = 120
SIZES = {"1kb": 1024, "16kb": 16384, "64kb": 65536, "128kb": 131072, "1mb": 1 << 20,
         "100mb": 100 << 20}
# What TLS runs are made with, so that all do the same work for a byte: the version as h2load names it, the
# cipher, and h2load's option for it. 1.2 is for a library that has nothing newer.
TLS = {
    "1.3": ("TLSv1.3", "TLS_AES_128_GCM_SHA256", "--tls13-ciphers"),
    "1.2": ("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256", "--ciphers"),
}


class BenchError(Exception):
    """A run that must not be counted: a failed request, a wrong size, a server that died."""


class Missing(Exception):
    """A server that is not installed or not built, and what to do about it."""


def find_program(name):
    """Path of a program, or None. Servers live in sbin, which an ordinary user's PATH lacks."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def pinned(core):
    """For Popen: run the child on that core, or anywhere if the machine has too few."""
    def pin():
        if core in os.sched_getaffinity(0):
            os.sched_setaffinity(0, {core})
    return pin


def make_site(folder, targets=("1kb", "128kb")):
    """The files that every server serves. Random bytes: nobody gains by compressing them."""
    site = pathlib.Path(folder) / "site"
    site.mkdir()
    for name in targets:
        (site / name).write_bytes(os.urandom(SIZES[name]))
    return site


@dataclasses.dataclass
class Certificate:
    """Paths of a certificate that signs itself, its key, and both in one file."""
    certificate: pathlib.Path
    key: pathlib.Path
    both: pathlib.Path


def make_certificate(folder):
    """ECDSA on P-256, as most sites have it."""
    program = find_program("openssl")
    if program is None:
        raise BenchError("openssl is missing: apt-get install openssl")
    folder = pathlib.Path(folder)
    made = Certificate(folder / "certificate.pem", folder / "key.pem", folder / "both.pem")
    subprocess.run(
        [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "30", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", made.key, "-out", made.certificate],
        check=True, capture_output=True)
    made.both.write_bytes(made.certificate.read_bytes() + made.key.read_bytes())
    return made


def make_folder():
    """A temporary folder that a server which changed its user can still read."""
    folder = tempfile.TemporaryDirectory(prefix="weir-bench-")
    os.chmod(folder.name, 0o755)
    return folder


def make_log_folder():
    """A temporary folder for access logs, in memory where there is a /dev/shm."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    return tempfile.TemporaryDirectory(prefix="weir-bench-log-", dir=base)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


PEER, WEIR, LIMIT = "peer", "weir", "limit"


class Machine:
    """How busy all cores were, from now on: with what the kernel does in interrupts, which the scheduler counts for
    whom they interrupt, or for nobody."""

    def __init__(self):
        self.began, self.idle = time.monotonic(), self.idle_s()

    @staticmethod
    def idle_s():
        fields = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()
        return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")

    def busy_s(self):
        return (time.monotonic() - self.began) * os.cpu_count() - (self.idle_s() - self.idle)


class Server:
    """A server process that listens on a free port of 127.0.0.1."""

    def __init__(self, name, command, folder, tls=None, kind=PEER):
        """`command` is a function of the port that returns the argument list; `tls` a key of TLS."""
        self.name = name
        self.tls = tls
        self.kind = kind
        self.port = free_port()
        self.output_path = pathlib.Path(folder) / f"{name.replace(' ', '-')}.output"
        with open(self.output_path, "wb") as output:
            self.process = subprocess.Popen(command(self.port), stdin=subprocess.DEVNULL,
                                            stdout=output, stderr=output, cwd=folder,
                                            preexec_fn=pinned(SERVER_CORE))
        try:
            self.wait_until_it_listens()
        except BenchError:
            self.stop()
            raise

    def wait_until_it_listens(self):
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        status = self.process.poll()
        ended = "" if status is None else f", and ended with status {status}"
        raise BenchError(f"{self.name} does not start: {self.output_tail()}{ended}")

    def output_tail(self):
        lines = self.output_path.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it says nothing"

    def processes(self):
        """The server's process and its children: nginx has a master and a worker."""
        found, unseen = [], [self.process.pid]
        while unseen:
            pid = unseen.pop()
            found.append(pid)
            for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                unseen += [int(child) for child in children.read_text().split()]
        return found

    def cpu_ns(self):
        total = 0
        for pid in self.processes():
            for schedstat in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
                total += int(schedstat.read_text().split()[0])
        return total

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def check_pinned(self):
        """Raises BenchError if a thread has left the server's core: it would have two, and others one."""
        for pid in self.processes():
            for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
                cores = os.sched_getaffinity(int(thread.name))
                if len(cores) > 1 and os.cpu_count() > 1:
                    raise BenchError(f"{self.name}: a thread runs on cores {sorted(cores)}")

    def rest(self):
        """Called when it is another server's turn: one that would do something meanwhile, must not."""

    def wake(self):
        """Called before a run of its own."""

    def load(self, target, connections, requests, pipelined=1):
        """Runs h2load once. Raises BenchError unless every request was answered in full."""
        client = find_program("h2load")
        if client is None:
            raise BenchError("h2load is missing: apt-get install nghttp2-client")
        scheme, options = "http", []
        if self.tls is not None:
            _, cipher, option = TLS[self.tls]
            scheme, options = "https", [f"{option}={cipher}"]
        machine, before = Machine(), self.cpu_ns()
        result = subprocess.run(
            [client, "--h1", "-t1", f"-c{connections}", f"-m{pipelined}", f"-n{requests}",
             *options,
             f"{scheme}://127.0.0.1:{self.port}/{target}"],
            capture_output=True, text=True, timeout=RUN_SECONDS_MAX, preexec_fn=pinned(CLIENT_CORE))
        cpu_ns, machine_s = self.cpu_ns() - before, machine.busy_s()
        seconds = check_output(result.stdout, self.name, requests, SIZES[target])
        if self.tls is not None:
            check_tls(result.stdout, self.name, *TLS[self.tls][:2])
        return Run(cpu_us=cpu_ns / 1e3 / requests, requests_s=requests / seconds,
                   busy=cpu_ns / 1e9 / seconds, machine_us=machine_s * 1e6 / requests)

    def load_lean(self, program, target, connections, requests, pipelined=1):
        """Runs load.c once, for its rate. Raises BenchError as load does. Plain servers only."""
        before = self.cpu_ns()
        result = subprocess.run(
            [program, *map(str, (self.port, target, SIZES[target], connections, requests, pipelined))],
            capture_output=True, text=True, timeout=RUN_SECONDS_MAX, preexec_fn=pinned(CLIENT_CORE))
        cpu_ns = self.cpu_ns() - before
        if result.returncode != 0:
            raise BenchError(f"{self.name}: {result.stderr.strip()[:200]}")
        seconds = float(result.stdout)
        return Run(cpu_us=cpu_ns / 1e3 / requests, requests_s=requests / seconds,
                   busy=cpu_ns / 1e9 / seconds)


@dataclasses.dataclass
class Run:
    """One run of the client against one server. What was not measured is None."""
    cpu_us: float | None = None  # server CPU per request, or per connection
    requests_s: float | None = None
    busy: float | None = None  # the share of the run that the server spent on the CPU
    machine_us: float | None = None  # CPU of the whole machine per request: server, client, and what is nobody's
    alone_us: float | None = None  # server CPU per request, without the idle connections
    process_bytes: float | None = None  # per connection
    whole_bytes: float | None = None  # all of the process, over the connections
    kernel_bytes: float | None = None  # per connection, both ends


def check_output(output, name, requests, size):
    """Proves from h2load's output that nothing failed, and returns the seconds it took."""
    finished = re.search(r"finished in ([0-9.]+)(us|ms|s|m)\b", output)
    counts = re.search(r"requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout",
                       output)
    good = re.search(r"status codes: (\d+) 2xx", output)
    data = re.search(r"\((\d+)\) data", output)
    if not (finished and counts and good and data):
        raise BenchError(f"{name}: h2load says {output.strip()[-200:]!r}")
    if [int(count) for count in counts.groups()] != [requests, 0, 0, 0] or int(good[1]) != requests:
        raise BenchError(f"{name}: {counts[0]}; {good[0]}")
    if int(data[1]) != requests * size:
        raise BenchError(f"{name}: {data[1]} bytes of bodies, {requests * size} expected")
    return float(finished[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60}[finished[2]]


def check_tls(output, name, version, cipher):
    """Proves that what was measured is the version and the cipher that were to be used."""
    said = (re.findall(r"^TLS Protocol: (\S+)", output, re.M)
            + re.findall(r"^Cipher: (\S+)", output, re.M))
    if said != [version, cipher]:
        raise BenchError(f"{name}: {said}, not {version} with {cipher}")


@dataclasses.dataclass
class Spread:
    """A median with its quartiles, and the extremes."""
    median: float
    low: float
    high: float
    least: float
    most: float

    @classmethod
    def of(cls, values):
        if len(values) < 2:
            return cls(*[values[0]] * 5)
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high, min(values), max(values))

    def text(self, digits=1):
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}..{self.high:.{digits}f})"


def document_begin():
    """What the JSON says of the machine; printed too."""
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    congestion = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    document = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "kernel": platform.release(), "cpu": model[1] if model else platform.machine(),
                "cores": os.cpu_count(), "load_average": os.getloadavg()[0],
                "congestion_control": congestion}
    print(f"{document['cpu']}, {document['cores']} cores, Linux {document['kernel']}, "
          f"{congestion}, load {document['load_average']:.2f}")
    return document


def document_write(document, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, default=vars) + "\n")
    print(f"\n{path}")


def print_table(rows):
    """The first row is the heading. The first column is text, the others are numbers."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])]
        print("  ".join(cells).rstrip(), flush=True)
