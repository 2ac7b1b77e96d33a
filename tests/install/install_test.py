#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Installs Weir into an empty folder and builds against it as a stranger would."""

import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HERE = os.path.join(ROOT, "tests", "install")
BUILD = os.environ.get("WEIR_BUILD", os.path.join(ROOT, "build"))
failures = 0


def run(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, timeout=120, **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}\n{done.stdout}")
    return done.stdout


def check(name, function, *arguments):
    global failures
    try:
        function(*arguments)
        print(f"PASS: {name}")
    except AssertionError as error:
        failures += 1
        print(f"FAIL: {name}: {str(error).splitlines()[0]}")
        print(error)


def expect(condition, text):
    if not condition:
        raise AssertionError(text)


def find_one(prefix, pattern):
    found = glob.glob(os.path.join(prefix, pattern), recursive=True)
    expect(found, f"nothing matches {pattern}")
    return found[0]


def has_bio(prefix):
    """libweir_bio is built where OpenSSL is."""
    return os.path.exists(os.path.join(prefix, "include", "weir", "bio.h"))


def files_are_there(prefix):
    for pattern in ("include/weir/weir.h", "lib/**/libweir.a", "lib/**/libweir.so",
                    "lib/**/pkgconfig/weir.pc", "lib/**/cmake/weir/weirConfig.cmake",
                    "share/doc/weir/LICENSE"):
        find_one(prefix, pattern)
    if os.path.exists(os.path.join(BUILD, "weir")):
        expect(run(os.path.join(prefix, "bin", "weir"), "--version").startswith("weir "), "--version")
    if has_bio(prefix):
        for pattern in ("lib/**/libweir_bio.a", "lib/**/libweir_bio.so", "lib/**/pkgconfig/weir-bio.pc"):
            find_one(prefix, pattern)
    for page in glob.glob(os.path.join(ROOT, "docs", "man", "*.[13]")):
        if page.endswith("weir_bio.3") and not has_bio(prefix):
            continue
        find_one(prefix, f"share/man/man{page[-1]}/{os.path.basename(page)}")


def only_public_symbols(prefix, name, headers):
    library = find_one(prefix, f"lib/**/{name}.so")
    exported = set(re.findall(r" [TDBRVW] (\S+?)(?:@\S+)?$", run("nm", "-D", "--defined-only", library),
                              re.M))
    declared = set()
    for header in headers:
        with open(header, encoding="utf-8") as file:
            declared |= set(re.findall(r"WEIR_API\s[^;{]*?\b(weir_\w+)\(", file.read()))
    expect(declared, "no function is declared")
    expect(exported == declared, f"exported, not declared: {sorted(exported - declared)}; "
                                 f"declared, not exported: {sorted(declared - exported)}")
    expect(f"{name}.so.0.1]" in run("readelf", "-d", library), f"the SONAME is not {name}.so.0.1")


def headers_stand_alone(prefix, work, compiler, options):
    source = os.path.join(work, "nothing.c")
    with open(source, "w", encoding="utf-8") as file:
        file.write("int nothing;\n")
    for header in sorted(glob.glob(os.path.join(prefix, "include", "weir", "*.h"))):
        run(compiler, *options, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only",
            "-I", os.path.join(prefix, "include"), "-include", header, source)


def pkg_config_builds(prefix, work, static):
    environment = {**os.environ, "PKG_CONFIG_PATH": os.path.dirname(
        find_one(prefix, "lib/**/pkgconfig/weir.pc"))}
    flags = run("pkg-config", "--cflags", "--libs", *(["--static"] if static else []), "weir",
                env=environment).split()
    if static:
        flags = ["-l:libweir.a" if flag == "-lweir" else flag for flag in flags]
    program = os.path.join(work, "static" if static else "shared")
    run("cc", os.path.join(HERE, "consumer.c"), "-o", program, *flags)
    loads = "libweir.so" in run("readelf", "-d", program)
    expect(loads != static, "linked with the wrong kind of library")
    directory = os.path.dirname(find_one(prefix, "lib/**/libweir.so"))
    variables = {} if static else {"LD_LIBRARY_PATH": directory}
    said = run(program, env={**os.environ, **variables})
    expect(said == "weir 0.1.0\n", f"the program said {said!r}")


def cmake_builds(prefix, work):
    folder = os.path.join(work, "cmake")
    run("cmake", "-S", HERE, "-B", folder, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", folder)
    for program in ("consumer", "consumer_static"):
        said = run(os.path.join(folder, program))
        expect(said == "weir 0.1.0\n", f"{program} said {said!r}")


def bio_builds(prefix, work):
    """With pkg-config and with CMake; the shared library loads neither libweir nor liburing."""
    environment = {**os.environ, "PKG_CONFIG_PATH": os.path.dirname(
        find_one(prefix, "lib/**/pkgconfig/weir-bio.pc"))}
    flags = run("pkg-config", "--cflags", "--libs", "weir-bio", env=environment).split()
    program = os.path.join(work, "bio")
    run("cc", os.path.join(HERE, "bio", "consumer.c"), "-o", program, *flags)
    library = find_one(prefix, "lib/**/libweir_bio.so")
    run(program, env={**os.environ, "LD_LIBRARY_PATH": os.path.dirname(library)})
    needed = re.findall(r"NEEDED.*\[(\S+?)\.so", run("readelf", "-d", library))
    expect(set(needed) <= {"libcrypto", "libc"}, f"libweir_bio loads {needed}")
    folder = os.path.join(work, "bio-cmake")
    run("cmake", "-S", os.path.join(HERE, "bio"), "-B", folder, "-G", "Ninja",
        f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", folder)
    for name in ("consumer", "consumer_static"):
        run(os.path.join(folder, name))


def staged_install(work):
    stage = os.path.join(work, "stage")
    run("cmake", "--install", BUILD, env={**os.environ, "DESTDIR": stage})
    find_one(stage, "**/include/weir/weir.h")


def main():
    work = tempfile.mkdtemp(prefix="weir-install-")
    try:
        prefix = os.path.join(work, "prefix")
        run("cmake", "--install", BUILD, "--prefix", prefix)
        check("make install puts every file in its place", files_are_there, prefix)
        check("DESTDIR is honoured", staged_install, work)
        bio = os.path.join(prefix, "include", "weir", "bio.h")
        headers = set(glob.glob(os.path.join(prefix, "include", "weir", "*.h"))) - {bio}
        check("only declared symbols are exported", only_public_symbols, prefix, "libweir", headers)
        if has_bio(prefix):
            check("libweir_bio exports its own symbols", only_public_symbols, prefix, "libweir_bio", [bio])
            check("libweir_bio builds a program", bio_builds, prefix, work)
        else:
            print("SKIP: libweir_bio: OpenSSL 3 was not found")
        check("each header stands alone in C11", headers_stand_alone, prefix, work, "cc",
              ["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-xc"])
        check("each header stands alone in C++17", headers_stand_alone, prefix, work, "c++",
              ["-std=c++17", "-xc++"])
        check("pkg-config builds a program, shared", pkg_config_builds, prefix, work, False)
        check("pkg-config builds a program, static", pkg_config_builds, prefix, work, True)
        check("find_package builds a program", cmake_builds, prefix, work)
    finally:
        shutil.rmtree(work)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
