# SPDX-License-Identifier: Apache-2.0
"""What tests/run runs in the virtual machine: all that talks to the kernel, on each kernel.

Found by name, nothing to register: the patterns below, tests/vm/*_test.c, scripts
tests/vm/*_guest_test.py, and tests/vm/*_delay_test.py for the mode in which waiting costs no time.
WEIR_KTLS is set: a test that finds no kernel TLS there has failed.
"""

from __future__ import annotations

import fnmatch
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from vm import KERNELS, ROOT, TEMPORARY_IN_GUEST, Step

UNIT = ("engine*_test", "io_uring*_test", "stream*_test", "probe_test", "doctor_test", "ktls_*_test",
        "bio*_test")
# Long ones, for which the host's own kernel is new enough: on the oldest only.
UNIT_OLDEST = ("engine_pin_test",)
# These wait for acknowledgements and deadlines more than they compute.
UNIT_DELAY = ("tls_stream_test",)
UNIT_SANITIZED = ("ktls_*_test", "bio_ktls_test")
E2E = ("doctor_test", "tls_test", "tls_key_update_test")
E2E_DELAY = ("delivery_test",)
# Sanitizers run on the newest kernel only, where most code paths are, and without the e2e tests.
SANITIZED_KERNEL = "new"
# What differs between TLS libraries and kernels is the business of tls_stream_test and the matrix.
ONE_LIBRARY = {"WEIR_TLS_VENDORS": "openssl"}
# What differs between engines is the business of unit tests; of the e2e tests on the newest kernel, too.
ENGINES = {KERNELS[0]: {"WEIR_ENGINES": "io_uring"}, KERNELS[-1]: {"WEIR_ENGINES": "io_uring,epoll"}}
STEP_SECONDS_MAX = 240.0
BOOT_SECONDS_MAX = 420.0


class Build(NamedTuple):
    name: str
    folder: str
    environment: Mapping[str, str]


class Boot(NamedTuple):
    kernel: str
    mode: str
    steps: list[Step]
    seconds_max: float = BOOT_SECONDS_MAX
    with_route: bool = False  # for zerocopy_guest_test


def _sources(folder: str, patterns: tuple[str, ...], suffix: str) -> list[str]:
    names = sorted(path.name[: -len(suffix)] for path in (ROOT / "tests" / folder).glob("*" + suffix))
    return [name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]


def _step(build: Build, program: str, command: list[str]) -> Step:
    name = program if build.name == "release" else f"{build.name}/{program}"
    environment = {"HOME": "/root", "LANG": "C.UTF-8", "TMPDIR": TEMPORARY_IN_GUEST,
                   "WEIR_LAB_BUILD": f"{TEMPORARY_IN_GUEST}/lab", "WEIR_SLOW": "1",
                   "WEIR_KTLS": "required",
                   "WEIR_BUILD": build.folder, "WEIR": os.path.join(build.folder, "weir"),
                   **build.environment}
    return Step(name, command, environment, STEP_SECONDS_MAX)


def _programs(build: Build, **patterns_of: tuple[str, ...]) -> Iterator[Step]:
    for kind, patterns in patterns_of.items():
        for name in _sources(kind, patterns, ".c"):
            path = pathlib.Path(build.folder) / "tests" / kind / name
            yield _step(build, f"{kind}/{name}", [str(path)])


def _scripts(build: Build, folder: str, patterns: tuple[str, ...]) -> Iterator[Step]:
    for name in _sources(folder, patterns, ".py"):
        script = ROOT / "tests" / folder / f"{name}.py"
        yield _step(build, f"{folder}/{name}", [os.path.realpath(sys.executable), str(script)])


def boots(every: Build, sanitized: Build | None, only: str = "") -> list[Boot]:
    """The machines to start. The longest comes first: they run side by side."""
    found = []
    for kernel in reversed(KERNELS):
        one = every._replace(environment={**every.environment, **ONE_LIBRARY, **ENGINES[kernel]})
        steps = [*_programs(every, vm=("*_test",), unit=UNIT), *_scripts(every, "vm", ("*_guest_test",)),
                 *_scripts(one, "e2e", E2E)]
        if kernel != KERNELS[0]:
            long_ones = [f"unit/{name}" for name in UNIT_OLDEST]
            steps = [step for step in steps if step.name not in long_ones]
        if sanitized and kernel == SANITIZED_KERNEL:
            steps += _programs(sanitized, vm=("*_test",), unit=UNIT_SANITIZED)
        found.append(Boot(kernel, "smp", steps, with_route=True))
    for kernel in KERNELS:
        found.append(Boot(kernel, "virtual", [*_programs(every, unit=UNIT_DELAY),
                                              *_scripts(every, "vm", ("*_delay_test",)),
                                              *_scripts(every, "e2e", E2E_DELAY)]))
    chosen = [boot._replace(steps=[step for step in boot.steps if only in step.name]) for boot in found]
    return [boot for boot in chosen if boot.steps]
