#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compiles the part of libweir that a port to another system starts from with POSIX alone.

C11 without extensions, _POSIX_C_SOURCE 200809, and a folder in front of the system's headers in which
each header that only Linux has is an #error. Then runs the engines' conformance test on the result.
"""

import concurrent.futures
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STRICT = ["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-DWEIR_PORTABLE", "-Wall", "-Wextra", "-Wpedantic",
          "-Werror", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
LOOSE = ["-std=gnu11", "-D_GNU_SOURCE", "-DWEIR_PORTABLE", "-O1", "-g", "-fsanitize=address,undefined",
         "-fno-sanitize-recover=undefined"]
SOURCES = ["src/core/*.c", "src/net/*.c", "src/engine/loop.c", "src/engine/poll.c",
           "src/engine/readiness.c", "src/engine/readiness_pin.c",
           "src/engine/socket.c", "src/engine/socket_posix.c"]

LINUX_ONLY = """asm/unistd.h byteswap.h endian.h error.h liburing.h liburing/io_uring.h
malloc.h mntent.h net/ethernet.h net/if_arp.h netpacket/packet.h scsi/sg.h sys/auxv.h
sys/capability.h sys/epoll.h sys/eventfd.h sys/fanotify.h sys/file.h sys/fsuid.h sys/inotify.h sys/ioctl.h
sys/mount.h sys/personality.h sys/prctl.h sys/ptrace.h sys/quota.h sys/random.h sys/reboot.h sys/sendfile.h
sys/signalfd.h sys/swap.h sys/syscall.h sys/sysinfo.h sys/sysmacros.h sys/timerfd.h sys/vfs.h
sys/xattr.h""".split()
POSIX = """aio.h arpa/inet.h assert.h ctype.h dirent.h errno.h fcntl.h float.h inttypes.h limits.h locale.h
math.h net/if.h netdb.h netinet/in.h netinet/tcp.h poll.h pthread.h pwd.h sched.h semaphore.h signal.h
stdarg.h stdatomic.h stdbool.h stddef.h stdint.h stdio.h stdlib.h string.h strings.h sys/mman.h sys/resource.h
sys/select.h sys/socket.h sys/stat.h sys/time.h sys/times.h sys/types.h sys/uio.h sys/un.h sys/utsname.h
sys/wait.h syslog.h termios.h time.h unistd.h""".split()
failures = 0


def run(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", check=False, **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}\n{done.stdout}")
    return done.stdout


def check(name, function, *arguments):
    global failures
    try:
        result = function(*arguments)
        print(f"PASS: {name}")
        return result
    except (AssertionError, subprocess.TimeoutExpired) as error:
        failures += 1
        print(f"FAIL: {name}: {str(error).splitlines()[0]}")
        print(error)
        return None


def forbid_headers(folder):
    """Fills `folder` with an #error for each Linux header that the C library itself does not include."""
    os.mkdir(folder)
    source = os.path.join(folder, "posix.c")
    with open(source, "w", encoding="utf-8") as file:
        file.write("".join(f"#include <{name}>\n" for name in POSIX))
    used = set(run("cc", *STRICT, "-M", source).replace("\\\n", " ").split())
    system = min((path for path in used if path.endswith("/stdio.h")), key=len)[:-len("/stdio.h")]
    forbidden = [name for name in LINUX_ONLY if f"{system}/{name}" not in used]
    for path in glob.glob(os.path.join(system, "linux", "**", "*.h"), recursive=True):
        if path not in used:
            forbidden.append(os.path.relpath(path, system))
    for name in forbidden:
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"#error \"<{name}> is not POSIX\"\n")
    return folder


def forbidden_header_is_caught(front, work):
    for name in ("sys/epoll.h", "linux/errqueue.h", "liburing.h"):
        source = os.path.join(work, "caught.c")
        with open(source, "w", encoding="utf-8") as file:
            file.write(f"#include <{name}>\nint nothing;\n")
        done = subprocess.run(["cc", *STRICT, "-I", front, "-c", source, "-o", os.devnull],
                              stderr=subprocess.PIPE, text=True, check=False)
        if "is not POSIX" not in done.stderr:
            raise AssertionError(f"<{name}> was let through")


def compile_all(work, sources, flags):
    def compile_one(source):
        output = os.path.join(work, source.replace("/", "-")[:-2] + ".o")
        run("cc", *flags, "-Iinclude", "-Isrc", "-Itests", "-c", source, "-o", output, cwd=ROOT)
        return output

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(compile_one, sources))


def expand(patterns):
    return sorted(os.path.relpath(path, ROOT) for pattern in patterns
                  for path in glob.glob(os.path.join(ROOT, pattern)))


def archive(work, name, sources, flags):
    path = os.path.join(work, name)
    run("ar", "rcs", path, *compile_all(work, sources, flags))
    return path


def build_program(work, source, libraries):
    program = os.path.join(work, os.path.basename(source)[:-2])
    run("cc", *LOOSE, "-Iinclude", "-Isrc", "-Itests", source, *libraries, "-lcmocka", "-pthread", "-lm", "-o",
        program, cwd=ROOT)
    return program


def conformance(work, name, libraries):
    program = build_program(work, f"tests/unit/{name}.c", libraries)
    done = subprocess.run([program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", timeout=100, check=False)
    for case in re.findall(r"^\[       OK \] (.+)$", done.stdout, re.M):
        print(f"PASS: {name} {case}")
    for reason in re.findall(r"^SKIP: (.+)$", done.stdout, re.M):
        print(f"SKIP: {name} {reason}")
    if done.returncode != 0:
        raise AssertionError(f"exit status {done.returncode}\n{done.stdout}")


def main():
    work = tempfile.mkdtemp(prefix="weir-posix-")
    try:
        front = forbid_headers(os.path.join(work, "front"))
        check("a Linux header is caught", forbidden_header_is_caught, front, work)
        library = check("libweir compiles with POSIX alone", archive, work, "libweir.a",
                        expand(SOURCES), [*STRICT, "-I", front])
        if library:
            support = []
            if expand(["tests/support/*.c"]):
                support = [archive(work, "libsupport.a", expand(["tests/support/*.c"]), LOOSE)]
            check("a program runs on it", lambda: run(
                build_program(work, "tests/install/consumer.c", [library]), timeout=30))
            for name in ("engine_connect_test", "engine_test"):
                check(f"the engine passes {name}", conformance, work, name, [*support, library])
    finally:
        shutil.rmtree(work)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
