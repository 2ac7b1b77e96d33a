# SPDX-License-Identifier: Apache-2.0
"""The guest's process 1, after tests/vm/init: runs the commands of plan.json, one after the other.

Of command N it leaves in the folder of results: N.txt, what it printed, while it prints; then N.json,
how it ended. `done` says that the machine was not stopped by anything else.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

SO_TIMESTAMPNS = 35
RB_AUTOBOOT = 0x01234567
OTHER_PROCESSOR = pathlib.Path("/sys/devices/system/cpu/cpu1/online")
GRACE_SECONDS = 1.0


def end_everything() -> None:
    """Kills all but this process: what a command left behind must not meet the next one."""
    deadline = time.monotonic() + GRACE_SECONDS
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.005)


def run(number: int, step: dict, results: pathlib.Path) -> None:
    environment = {
        name: value.replace("{log}", str(results / f"{number}.report"))
        for name, value in step["environment"].items()
    }
    began = time.monotonic()
    with open(results / f"{number}.txt", "wb") as output:
        try:
            process = subprocess.Popen(
                step["command"], cwd=step["folder"], env=environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )
            status = process.wait(step["timeout_s"])
        except subprocess.TimeoutExpired:
            status = None
        except OSError as error:
            output.write(f"{error}\n".encode())
            status = 127
    end_everything()
    ended = {"status": status, "seconds": time.monotonic() - began}
    (results / "ended.new").write_text(json.dumps(ended))
    (results / "ended.new").rename(results / f"{number}.json")


def main() -> None:
    results = pathlib.Path(sys.argv[1])
    # Held open all the time, so that the first socket that wants time stamps does not patch the
    # kernel's code in the middle of traffic: see vm.py's MODES.
    keep = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    keep.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    if OTHER_PROCESSOR.exists() and OTHER_PROCESSOR.read_text().strip() == "0":
        OTHER_PROCESSOR.write_text("1")
    for number, step in enumerate(json.loads((results / "plan.json").read_text())):
        run(number, step, results)
    (results / "done").touch()
    os.sync()
    ctypes.CDLL(None).reboot(RB_AUTOBOOT)


if __name__ == "__main__":
    main()
