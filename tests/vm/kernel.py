# SPDX-License-Identifier: Apache-2.0
"""Debian's cloud kernels for the virtual machine of vm.py: fetched once, installed nowhere.

    kernel = fetch("6.1")            # from the cache, or by apt
    data = initramfs(kernel, settings)

The cache is $XDG_CACHE_HOME/weir/vm (~/.cache/weir/vm); a kernel stays there until update=True asks
for the archive's newest. Packages are verified by apt with Debian's own keyring.
"""

from __future__ import annotations

import fcntl
import lzma
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest
from collections.abc import Iterator

METAPACKAGE = "linux-image-cloud-amd64"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Where the metapackage comes from. 6.1 is the oldest kernel that Weir's io_uring engine runs on; the
# newest one of backports has what came since: TLS 1.3 rekey, OPT_ID_TCP, TX_TIMESTAMP.
SUITES = {
    "6.1": ("bookworm", "bookworm-security"),
    "new": ("trixie-backports",),
}
APT_SECONDS_MAX = 180.0
PACKAGES_MAX = 20

# What the guest loads, with what each depends on before it. A name that a kernel lacks is built in or
# gone: 6.18 has no ghash-generic, 7.3 has virtiofs built in.
MODULES = (
    *("virtio_pci", "virtio_net", "virtiofs", "overlay", "tls"),
    *("gcm", "ccm", "ctr", "cmac", "ghash-generic", "aesni-intel", "ghash-clmulni-intel"),
    *("chacha", "chacha_generic", "chacha-x86_64", "poly1305_generic", "poly1305-x86_64", "chacha20poly1305"),
    *("sch_netem", "sch_fq", "sch_tbf", "tcp_bbr", "veth", "tun", "unix", "virtio_rng"),
)
DECOMPRESSORS = {".ko": bytes, ".ko.xz": lzma.decompress}


class Unavailable(unittest.SkipTest):
    """This host cannot have the virtual machine; the text says why."""


class Kernel:
    def __init__(self, name: str, folder: pathlib.Path):
        self.name, self.folder = name, folder
        self.image = folder / "vmlinuz"
        self.version = (folder / "version").read_text().strip()


def cache_folder() -> pathlib.Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(home) / "weir" / "vm"


def fetch(name: str, update: bool = False) -> Kernel:
    """The kernel, from the cache or else from the archive."""
    cache = cache_folder()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = open(cache / f"{name}.lock", "w", encoding="ascii")
    except OSError as error:
        raise Unavailable(f"no cache for kernels: {error}") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = cache / name
        if update or not (folder / "version").exists():
            # Whoever is interrupted here leaves no half kernel: the last step is a rename.
            with tempfile.TemporaryDirectory(dir=cache, prefix=f"{name}.new-") as scratch:
                fetched = _unpack(_download(name, pathlib.Path(scratch)), pathlib.Path(scratch))
                if folder.exists():
                    folder.rename(pathlib.Path(scratch) / "old")
                fetched.rename(folder)
        return Kernel(name, folder)


def _mirrors(suites: tuple[str, ...]) -> list[tuple[str, str]]:
    """(address, suite) for each suite: the mirrors that this host's apt uses."""
    said = subprocess.run(
        ["apt-get", "update", "--print-uris"], capture_output=True, text=True, timeout=30, check=False
    ).stdout
    known = re.findall(r"^'(\S+?)/?/dists/(\S+)/InRelease'", said, re.M)
    found = []
    for suite in suites:
        exact = [uri for uri, other in known if other == suite]
        # A suite that this host does not use is beside those that it does, but for the security one.
        beside = [uri for uri, _ in known if uri.endswith("/debian") and "security" not in suite]
        if exact or beside:
            found.append(((exact + beside)[0], suite))
    if not found:
        raise Unavailable("apt knows no mirror of Debian here")
    return found


class _Apt:
    """apt with sources, lists and archives of its own, but the host's proxy and mirror."""

    def __init__(self, suites: tuple[str, ...], scratch: pathlib.Path):
        for folder in ("lists/partial", "archives/partial", "packages"):
            (scratch / folder).mkdir(parents=True)
        self.packages = scratch / "packages"
        sources = [
            f"deb [arch=amd64 signed-by={KEYRING}] {uri} {suite} main\n"
            for uri, suite in _mirrors(suites)
        ]
        (scratch / "sources.list").write_text("".join(sources))
        settings = {
            "Dir::Etc::sourcelist": scratch / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::Etc::preferences": "-",
            "Dir::Etc::preferencesparts": "-",
            "Dir::State::lists": scratch / "lists",
            "Dir::Cache::archives": scratch / "archives",
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "APT::Architecture": "amd64",
            "APT::Default-Release": "",
            "APT::Sandbox::User": "",  # apt's own user cannot write into our folder
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
            "Acquire::http::Timeout": "20",
            "Debug::NoLocking": "1",
        }
        self.options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]

    def call(self, program: str, *words: str) -> str:
        command = [program, "-q", *self.options, *words]
        try:
            done = subprocess.run(
                command, cwd=self.packages, capture_output=True, text=True, timeout=APT_SECONDS_MAX,
                stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"}, check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{program} {words[0]} took more than {APT_SECONDS_MAX:g} s") from None
        if done.returncode != 0:
            errors = re.findall(r"^E: (.*)$", done.stderr, re.M) or ["no reason given"]
            raise Unavailable(f"{program} {words[0]}: {errors[0]}")
        return done.stdout


def _download(name: str, scratch: pathlib.Path) -> list[pathlib.Path]:
    """The kernel's packages: the metapackage's dependencies of its own version, and theirs."""
    for program in ("apt-get", "apt-cache", "dpkg"):
        if not shutil.which(program):
            raise Unavailable(f"{program} is missing")
    if not os.path.exists(KEYRING):
        raise Unavailable("Debian's signing keys are missing (package debian-archive-keyring)")
    apt = _Apt(SUITES[name], scratch)
    apt.call("apt-get", "update", "--error-on=any")

    wanted, seen = [METAPACKAGE], {METAPACKAGE}
    for package in wanted:
        about = apt.call("apt-cache", "show", "--no-all-versions", package)
        version = re.search(r"^Version: (\S+)$", about, re.M)
        depends = re.search(r"^Depends: (.*)$", about, re.M)
        for clause in depends.group(1).split(", ") if depends else []:
            match = re.match(r"(linux-[^ :]+)\S* \(= (\S+)\)", clause)
            if match and version and match.group(2) == version.group(1) and match.group(1) not in seen:
                seen.add(match.group(1))
                wanted.append(match.group(1))
        if len(wanted) > PACKAGES_MAX:
            raise Unavailable(f"{METAPACKAGE} depends on more than {PACKAGES_MAX} packages")
    apt.call("apt-get", "download", *wanted)
    return sorted(apt.packages.glob("*.deb"))


def _unpack(packages: list[pathlib.Path], scratch: pathlib.Path) -> pathlib.Path:
    """A folder with vmlinuz, modules and version. Debian keeps them in two layouts."""
    root, result = scratch / "root", scratch / "kernel"
    for package in packages:
        subprocess.run(["dpkg", "-x", package, root], check=True, timeout=APT_SECONDS_MAX)
    images = [*root.glob("boot/vmlinuz-*"), *root.glob("usr/lib/modules/*/vmlinuz")]
    modules = [*root.glob("lib/modules/*/kernel"), *root.glob("usr/lib/modules/*/kernel")]
    if len(images) != 1 or len(modules) != 1:
        raise Unavailable(f"{len(images)} kernels and {len(modules)} module folders in the packages")
    result.mkdir()
    images[0].rename(result / "vmlinuz")
    modules[0].rename(result / "modules")
    (result / "version").write_text(modules[0].parent.name + "\n")
    return result


def _module_order(folder: pathlib.Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each module, after those that it depends on."""
    paths = {path.name.split(".")[0].replace("-", "_"): path for path in folder.rglob("*.ko*")}
    done: set[str] = set()

    def add(name: str) -> Iterator[tuple[str, bytes]]:
        name = name.replace("-", "_")
        if name in done or name not in paths:
            return
        done.add(name)
        path = paths[name]
        content = DECOMPRESSORS[path.name[path.name.index("."):]](path.read_bytes())
        depends = re.search(rb"\0depends=([^\0]*)\0", content)
        for other in depends.group(1).decode().split(",") if depends else []:
            yield from add(other)
        yield name, content

    for name in MODULES:
        yield from add(name)


def _cpio(entries: list[tuple[str, int, bytes]]) -> bytes:
    """An archive in the format that the kernel unpacks at boot (newc)."""
    archive = bytearray()
    for number, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        path = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + path
        archive += b"\0" * (-len(archive) % 4)
        archive += content
        archive += b"\0" * (-len(archive) % 4)
    return bytes(archive)


def initramfs(kernel: Kernel, settings: dict[str, str]) -> bytes:
    """busybox, the modules, and tests/vm/init, which finds `settings` as shell variables."""
    busybox = shutil.which("busybox")
    if not busybox:
        raise Unavailable("busybox is missing (package busybox-static)")
    program = pathlib.Path(busybox).read_bytes()
    if b"/ld-linux-" in program[:4096]:
        raise Unavailable("busybox is not a static program (package busybox-static)")
    lines = [f"{name}='{value}'\n" for name, value in settings.items()]
    init = pathlib.Path(__file__).with_name("init").read_bytes()
    folders = ("bin", "dev", "proc", "sys", "modules", "host", "overlay", "root")
    entries = [(folder, 0o40755, b"") for folder in folders]
    entries += [("init", 0o100755, init), ("bin/busybox", 0o100755, program),
                ("settings", 0o100644, "".join(lines).encode())]
    for number, (name, content) in enumerate(_module_order(kernel.folder / "modules")):
        entries.append((f"modules/{number:02}-{name}.ko", 0o100644, content))
    return _cpio(entries)
