#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A virtual machine to run this host's own programs on another kernel: one with kernel TLS, or 6.1.

tests/vm/vm.py --run 'build/weir doctor'                  on the newest kernel
tests/vm/vm.py --kernel 6.1 --run 'build/weir doctor'     on the oldest that has io_uring for Weir
tests/vm/vm.py --mode virtual --run CMD                   one processor, waiting costs no time
tests/vm/vm.py --mode parallel --run CMD                  two processors at once, not in turns
tests/vm/vm.py --update                                   fetch the kernels again

The guest sees the host's files as they were when it started, at the same paths (but for /dev, /proc,
/run and /sys, which are its own); what it writes goes with it, and without root on the host it can
write to $TMPDIR (/dev/shm) only. CMD is one for the shell, runs as root in the current folder and inherits the environment. Its
exit status is this program's; 77 says that there can be no virtual machine here, and why.

QEMU emulates (no KVM is needed): programs run 10 to 30 times slower than on the host.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import kernel as kernels
import route
from kernel import Unavailable

ROOT = pathlib.Path(__file__).resolve().parents[2]
GUEST = pathlib.Path(__file__).with_name("guest.py")
QEMU = "qemu-system-x86_64"
VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
RESULTS_IN_GUEST = "/run/weir-vm"
TEMPORARY_IN_GUEST = "/dev/shm"
# virtiofsd must be root of some namespace, and wants to write below /run.
AS_ROOT = ["unshare", "--map-root-user", "--mount", "--", "sh", "-c",
           'mount -t tmpfs tmpfs /run && exec "$@"', "sh"]
KERNELS = tuple(kernels.SUITES)
EXIT_SKIP = 77
BOOT_SECONDS_MAX = 60.0
START_SECONDS_MAX = 10.0
POLL_SECONDS = 0.05
TAIL_LINES = 12
# "smp" is for right and wrong: two processors that take turns, which costs little here and cannot hit
# a fault of QEMU before 8.1: a processor that translates code while another patches it may keep what
# was there half-way, and the kernel panics (int3) some time after a static key was flipped.
# "parallel" is for races: two at once. The second comes when the kernel is done with most patching.
# "virtual" is for delays: one processor, a nanosecond for each instruction, and waiting takes no time of
# the host's. However busy the host is, the guest's times are the same.
MODES = {
    "smp": ["-accel", "tcg,thread=single,tb-size=256", "-smp", "2"],
    "parallel": ["-accel", "tcg,thread=multi,tb-size=256", "-smp", "2"],
    "virtual": ["-accel", "tcg,thread=single,tb-size=256", "-smp", "1",
                "-icount", "shift=0,sleep=off"],
}
COMMAND_LINE = ("console=ttyS0 quiet panic=-1 oops=panic mitigations=off tsc=reliable "
                "random.trust_cpu=on")


class Step(NamedTuple):
    """A command for the guest. "{log}" in a variable's value becomes a path for reports."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = {}
    timeout_s: float = 60.0
    folder: str = str(ROOT)


class Result(NamedTuple):
    """How a step ended. `status` is subprocess's return code, or None: it did not end by itself."""

    name: str
    status: int | None
    ended: str
    output: str
    seconds: float
    reports: tuple[pathlib.Path, ...] = ()


def lacking() -> str | None:
    """What this host lacks for the virtual machine."""
    if os.uname().machine != "x86_64":
        return "the virtual machine is for x86-64"
    for program, package in ((QEMU, "qemu-system-x86"), (VIRTIOFSD, "qemu-system-common"),
                             ("busybox", "busybox-static"), ("setpriv", "util-linux")):
        if not shutil.which(program):
            return f"{program} is missing (package {package})"
    if os.geteuid() != 0:
        inside = subprocess.run([*AS_ROOT, "true"], stderr=subprocess.DEVNULL, check=False)
        if inside.returncode != 0:
            return "not root, and user namespaces are not allowed"
    return None


def prepare(kernel: str, update: bool = False) -> kernels.Kernel:
    """The kernel's files, which may have to be fetched first. Raises Unavailable."""
    reason = lacking()
    if reason:
        raise Unavailable(reason)
    return kernels.fetch(kernel, update)


def _ending_with_us(command: Sequence[str]) -> list[str]:
    return ["setpriv", "--pdeathsig", "KILL", "--", *command]


def _start_sharing(folder: str, where: pathlib.Path, cache: str, log: Any) -> subprocess.Popen[Any]:
    """Starts virtiofsd, which shares a folder by the socket `where`."""
    command = [VIRTIOFSD, f"--socket-path={where}", "-o", f"source={folder}", "-o", "sandbox=chroot",
               "-o", f"cache={cache}", "-o", "no_posix_lock", "--rlimit-nofile=0"]
    wrapper = [] if os.geteuid() == 0 else AS_ROOT
    process = subprocess.Popen([*wrapper, *_ending_with_us(command)], stdin=subprocess.DEVNULL,
                               stdout=log, stderr=log)
    deadline = time.monotonic() + START_SECONDS_MAX
    while not where.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            _end(process)
            raise Unavailable("virtiofsd does not start: "
                              + _tail(pathlib.Path(log.name), 1))
        time.sleep(0.005)
    return process


def _end(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()


def _tail(path: pathlib.Path, lines: int = TAIL_LINES) -> str:
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1bc|\r", "", text)
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


@contextlib.contextmanager
def _machine(kernel: kernels.Kernel, results: pathlib.Path, mode: str,
             memory_mb: int, tap: int | None) -> Iterator[subprocess.Popen[Any]]:
    """QEMU, started, and gone with everything that belongs to it when the context ends."""
    with contextlib.ExitStack() as stack:
        # Not below `results`: the path of a socket has 107 bytes at most.
        scratch = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weir-vm-")))
        log = stack.enter_context(open(results / "qemu.txt", "wb"))
        settings = {
            "python": os.path.realpath(sys.executable),
            "guest": str(GUEST),
            "results": RESULTS_IN_GUEST,
            # An overlay opens with O_NOATIME, which virtiofsd may use on anybody's file as root only.
            "overlay": "yes" if os.geteuid() == 0 else "no",
        }
        (scratch / "initramfs").write_bytes(kernels.initramfs(kernel, settings))
        command = [
            QEMU, *MODES[mode], "-cpu", "max", "-m", str(memory_mb), "-display", "none",
            "-monitor", "none", "-no-reboot", "-nic", "none", "-nodefaults",
            "-kernel", str(kernel.image), "-initrd", str(scratch / "initramfs"),
            "-append", COMMAND_LINE + (" maxcpus=1" if mode == "parallel" else ""),
            "-serial", f"file:{results / 'console.txt'}",
            "-object", f"memory-backend-memfd,id=memory,size={memory_mb}M,share=on",
            "-numa", "node,memdev=memory",
        ]
        for tag, folder, cache in (("hostroot", "/", "always"), ("results", str(results), "none")):
            process = _start_sharing(folder, scratch / tag, cache, log)
            stack.callback(_end, process)
            command += ["-chardev", f"socket,id={tag},path={scratch / tag}",
                        "-device", f"vhost-user-fs-pci,chardev={tag},tag={tag}"]
        if tap is not None:
            command += ["-netdev", f"tap,id=route,fd={tap}", "-device",
                        f"virtio-net-pci,netdev=route,mac={route.HARDWARE_ADDRESS},romfile="]
        machine = subprocess.Popen(_ending_with_us(command), stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=log, pass_fds=[] if tap is None else [tap])
        stack.callback(_end, machine)
        yield machine


def _result_of(step: Step, number: int, results: pathlib.Path) -> Result:
    ended = json.loads((results / f"{number}.json").read_text())
    status = ended["status"]
    if status is None:
        words = f"still running after {step.timeout_s:g} s"
    elif status < 0:
        words = signal.Signals(-status).name
    else:
        words = f"exit status {status}"
    output = (results / f"{number}.txt").read_text(encoding="utf-8", errors="replace")
    reports = tuple(sorted(results.glob(f"{number}.report*")))
    return Result(step.name, status, words, output, ended["seconds"], reports)


def _result_of_unfinished(step: Step, number: int, results: pathlib.Path, why: str) -> Result:
    path = results / f"{number}.txt"
    output = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    began = "did not end" if path.exists() else "did not begin"
    console = _tail(results / "console.txt")
    return Result(step.name, None, f"{began}: {why}",
                  f"{output}\n--- the guest's console ---\n{console}\n", 0.0)


def run(kernel: kernels.Kernel, steps: Sequence[Step], results: pathlib.Path, mode: str = "smp",
        timeout_s: float = 600.0, memory_mb: int = 1024, with_route: bool = False,
        on_result: Callable[[Result], None] | None = None,
        on_poll: Callable[[], None] | None = None,
        stop: threading.Event | None = None) -> list[Result]:
    """Boots once, runs the steps one after the other and says how each ended.

    `results` is a folder that is emptied first and then has what each printed, reports of sanitizers,
    and the guest's console. A guest that panics, hangs or takes longer than `timeout_s` of real time
    fails the steps that had not ended; so does `stop`. Raises Unavailable if it cannot be started.
    `with_route` gives the guest a network device that leads to route.py, whose hardware address is in the variable
    WEIR_VM_ROUTE; if it cannot have one, WEIR_VM_NO_ROUTE says why.
    """
    if results.exists():
        shutil.rmtree(results)
    results.mkdir(parents=True)
    found: list[Result] = []

    def collect() -> None:
        while len(found) < len(steps) and (results / f"{len(found)}.json").exists():
            found.append(_result_of(steps[len(found)], len(found), results))
            if on_result:
                on_result(found[-1])

    with contextlib.ExitStack() as stack:
        variables, tap = {}, None
        if with_route:
            try:
                log = stack.enter_context(open(results / "route.txt", "wb"))
                tap = stack.enter_context(route.tap(_ending_with_us([]), log))
                variables["WEIR_VM_ROUTE"] = route.HARDWARE_ADDRESS
            except route.RouteUnavailable as unavailable:
                variables["WEIR_VM_NO_ROUTE"] = str(unavailable)
        (results / "plan.json").write_text(json.dumps([
            {"command": list(step.command),
             "environment": {"PATH": os.environ["PATH"], **step.environment, **variables},
             "timeout_s": step.timeout_s, "folder": step.folder} for step in steps]))
        machine = stack.enter_context(_machine(kernel, results, mode, memory_mb, tap))
        began = time.monotonic()
        why = ""
        while not why and not (results / "done").exists():
            if machine.poll() is not None:
                why = "the guest stopped" if machine.returncode == 0 else "QEMU failed"
            elif stop and stop.is_set():
                why = "stopped"
            elif time.monotonic() - began > timeout_s:
                why = f"the guest was still running after {timeout_s:g} s"
            elif time.monotonic() - began > BOOT_SECONDS_MAX and not (results / "0.txt").exists():
                why = f"the guest had not booted after {BOOT_SECONDS_MAX:g} s"
            time.sleep(POLL_SECONDS)
            collect()
            if on_poll:
                on_poll()
    collect()
    panic = re.search(r"(Kernel panic - not syncing: .*)", _tail(results / "console.txt", 200))
    while len(found) < len(steps):
        number = len(found)
        found.append(_result_of_unfinished(steps[number], number, results,
                                           panic.group(1) if panic else why or "the guest stopped"))
        if on_result:
            on_result(found[-1])
    return found


def stop_on_term() -> None:
    """Makes TERM what Ctrl-C is: contexts are left, and QEMU ends."""
    def stop(number: int, _: Any) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, stop)


def run_command(kernel: str, command: str, mode: str, timeout_s: float, memory_mb: int,
                with_route: bool) -> int:
    """Runs one command for a person, who sees its output while it comes."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-vm-results-"))
    results = folder / "results"
    shown = 0

    def show() -> None:
        nonlocal shown
        with contextlib.suppress(FileNotFoundError), open(results / "0.txt", "rb") as output:
            output.seek(shown)
            data = output.read()
            shown += len(data)
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    try:
        environment = {**os.environ, "TMPDIR": TEMPORARY_IN_GUEST}
        step = Step("command", ["/bin/sh", "-c", command], environment, timeout_s, os.getcwd())
        (result,) = run(prepare(kernel), [step], results, mode, timeout_s + BOOT_SECONDS_MAX, memory_mb,
                        with_route, on_poll=show)
        show()
        if result.status is None:
            print(f"vm.py: {result.ended}", file=sys.stderr)
            print(_tail(results / "console.txt", 60), file=sys.stderr)
            return 1
        return result.status if result.status >= 0 else 128 - result.status
    finally:
        shutil.rmtree(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", choices=KERNELS, default="new")
    parser.add_argument("--mode", choices=MODES, default="smp")
    parser.add_argument("--run", metavar="CMD")
    parser.add_argument("--timeout", type=float, default=300.0, metavar="SECONDS")
    parser.add_argument("--memory", type=int, default=1024, metavar="MB")
    parser.add_argument("--route", action="store_true", help="a network device; see route.py")
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    if not options.run and not options.update:
        parser.error("nothing to do: --run CMD or --update")
    stop_on_term()
    try:
        if options.update:
            for name in KERNELS:
                print(f"{name}: {prepare(name, update=True).version}")
        if options.run:
            return run_command(options.kernel, options.run, options.mode, options.timeout,
                               options.memory, options.route)
    except Unavailable as error:
        print(f"vm.py: {error}", file=sys.stderr)
        return EXIT_SKIP
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
