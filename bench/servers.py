# SPDX-License-Identifier: Apache-2.0
"""How each server is started: one worker, and each peer as its own documentation advises.

`certificate` is None for a plain server, else a harness.Certificate.
"""
import dataclasses
import pathlib
import subprocess
import sys

import harness

ENGINES = ["io_uring", "epoll", "poll"]
ENGINES_TLS = ["io_uring", "epoll"]
# A server that refuses its options has ended by then.
START_LOOK_SECONDS = 0.5
VENDORS = ["openssl", "gnutls", "wolfssl", "mbedtls"]
TARGETS = ["1kb", "128kb"]
CONNECTIONS_MAX = 12000

# ngx_core_module and ngx_http_core_module, and "Tuning NGINX for Performance": sendfile with tcp_nopush,
# an open file cache, connections that live long, no access log.
NGINX_CONFIG = """
worker_processes 1;
worker_rlimit_nofile {descriptors};
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.error crit;
events {{ worker_connections {connections}; use epoll; multi_accept on; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 300s;
    keepalive_requests 1000000000;
    open_file_cache max=1000 inactive=300s;
    open_file_cache_valid 60s;
    open_file_cache_min_uses 1;
    open_file_cache_errors off;
    reset_timedout_connection on;
    types {{ }}
    default_type application/octet-stream;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    server {{ listen 127.0.0.1:{port} {ssl} backlog=4096; root {site}; {tls} }}
}}
"""
# ngx_http_ssl_module: a cache that workers share, and records of 16 KiB (the default), its advice for big
# responses: "minimal overhead".
NGINX_TLS = """
        ssl_certificate {certificate.certificate};
        ssl_certificate_key {certificate.key};
        ssl_protocols TLSv1.3;
        ssl_conf_command Ciphersuites {cipher};
        ssl_session_cache shared:TLS:10m;
        ssl_session_timeout 1h;
        ssl_buffer_size 16k;
"""

# h2o's base and file directives: its own defaults are tuned (sendfile, an open file cache for each
# thread); logs are off unless asked for.
H2O_CONFIG = """
num-threads: 1
max-connections: {connections}
listen:
  host: 127.0.0.1
  port: {port}
{tls}
http1-request-timeout: 300
hosts:
  default:
    paths:
      "/": {{file.dir: {site}}}
"""
# Its defaults again; there is nobody to ask about a certificate that signs itself. 2.2.5 does not know TLS 1.3 by
# name but has it by its library: the client asks for the one version and the one cipher.
H2O_TLS = """
  ssl:
    certificate-file: {certificate.certificate}
    key-file: {certificate.key}
    ocsp-update-interval: 0
"""

# HAProxy serves no files. Its responses come from memory, which is less work, and must fit into a buffer: the
# default, or for 128 KB a big one. No checks, no log; configuration.txt advises nothing more for speed. It wants
# two descriptors for a connection, though one to no server takes one: strict limits are off.
HAPROXY_CONFIG = """
global
    nbthread 1
    maxconn {connections}
    no strict-limits
    {buffers}
    ssl-default-bind-options ssl-min-ver TLSv1.3
    ssl-default-bind-ciphersuites {cipher}
defaults
    mode http
    timeout client 300s
    timeout http-keep-alive 300s
    timeout http-request 300s
frontend benchmark
    bind 127.0.0.1:{port} {tls}
{responses}
"""
HAPROXY_RESPONSE = ("    http-request return status 200 content-type application/octet-stream "
                    "file {site}/{target} if {{ path /{target} }}")
HAPROXY_RESPONSE_MAX = 131072
HAPROXY_BIG_BUFFERS = "tune.bufsize 262144"


def words(text):
    return text.split(",")


def start_nginx(folder, site, certificate=None):
    program = harness.find_program("nginx")
    if program is None:
        raise harness.Missing("nginx is not installed: apt-get install nginx-light")
    tls = "" if certificate is None else NGINX_TLS.format(certificate=certificate,
                                                          cipher=harness.TLS["1.3"][1])

    def command(port):
        config = pathlib.Path(folder) / f"nginx-{port}.conf"
        config.write_text(NGINX_CONFIG.format(folder=folder, site=site, port=port,
                                              connections=CONNECTIONS_MAX,
                                              descriptors=CONNECTIONS_MAX + 100,
                                              ssl="ssl" if certificate else "", tls=tls))
        return [program, "-p", str(folder), "-c", str(config)]
    return harness.Server("nginx", command, folder, tls=certificate and "1.3")


def start_h2o(folder, site, certificate=None):
    program = harness.find_program("h2o")
    if program is None:
        raise harness.Missing("h2o is not installed: apt-get install h2o")
    tls = "" if certificate is None else H2O_TLS.format(certificate=certificate)

    def command(port):
        config = pathlib.Path(folder) / f"h2o-{port}.conf"
        config.write_text(H2O_CONFIG.format(folder=folder, site=site, port=port,
                                            connections=CONNECTIONS_MAX, tls=tls))
        return [program, "-m", "worker", "-c", str(config)]
    return harness.Server("h2o", command, folder, tls=certificate and "1.3")


def start_haproxy(folder, site, certificate=None, targets=TARGETS):
    """`targets` that need big buffers make each busy connection hold them."""
    program = harness.find_program("haproxy")
    if program is None:
        raise harness.Missing("haproxy is not installed: apt-get install haproxy")
    too_big = [target for target in targets if harness.SIZES[target] > HAPROXY_RESPONSE_MAX]
    if too_big:
        raise harness.Missing(f"haproxy serves no files, only what fits into a buffer: not {too_big[0]}")
    responses = [HAPROXY_RESPONSE.format(site=site, target=target) for target in targets]
    buffers = HAPROXY_BIG_BUFFERS if any(harness.SIZES[target] > 8192 for target in targets) else ""
    tls = "" if certificate is None else f"ssl crt {certificate.both}"

    def command(port):
        config = pathlib.Path(folder) / f"haproxy-{port}.conf"
        config.write_text(HAPROXY_CONFIG.format(folder=folder, port=port, tls=tls, buffers=buffers,
                                                connections=CONNECTIONS_MAX,
                                                cipher=harness.TLS["1.3"][1],
                                                responses="\n".join(responses)))
        return [program, "-db", "-f", str(config)]
    return harness.Server("haproxy", command, folder, tls=certificate and "1.3")


@dataclasses.dataclass
class WeirTls:
    certificate: harness.Certificate
    vendor: str
    ktls: str = "off"
    version: str = "1.3"  # where the library has it, else 1.2

    def options(self, address):
        return ["--listen-tls", address, "--cert", str(self.certificate.certificate),
                "--key", str(self.certificate.key), "--tls", self.vendor, "--ktls", self.ktls,
                "--tls-min", self.version, "--tls-max", self.version]

    def text(self):
        return (f" {self.vendor}" + ("" if self.version == "1.3" else f" (TLS {self.version})")
                + ("" if self.ktls == "off" else f" ktls-{self.ktls}"))


def weir_tls_refused(program, folder, tls):
    """Why this build does not serve so, or None."""
    try:
        ended = subprocess.run([str(program), "serve", "--access-log", "off",
                                *tls.options("127.0.0.1:0")], stdin=subprocess.DEVNULL,
                               capture_output=True, text=True, cwd=folder,
                               timeout=START_LOOK_SECONDS)
    except subprocess.TimeoutExpired:
        return None  # it serves
    return (ended.stderr.strip().splitlines() or ["it says nothing"])[-1]


def weir_program():
    program = harness.REPOSITORY / "build" / "weir"
    if not program.exists():
        raise harness.Missing("build/weir is not built: make build")
    return program


def weir_has_option(option):
    said = subprocess.run([weir_program(), "serve", "--help"], capture_output=True, text=True)
    return f"{option} " in said.stdout


def start_weir(folder, site, log_folder, engine, delivery, access_log, tls=None, zerocopy=None):
    """`delivery` and `access_log` are booleans; `tls` is a WeirTls; `zerocopy` None, or a mode."""
    program = weir_program()
    if tls is not None:
        refused = weir_tls_refused(program, folder, tls)
        if refused and "no TLS 1.3" in refused:
            print(f"TLS 1.2 for {tls.vendor}: {refused}", file=sys.stderr)
            tls = dataclasses.replace(tls, version="1.2")
            refused = weir_tls_refused(program, folder, tls)
        if refused:
            raise harness.Missing(refused)
    extra = "" if delivery and access_log else " bare" if not (delivery or access_log) else " log"
    name = f"weir {engine}{tls.text() if tls else ''}{extra}"
    name += f" zerocopy-{zerocopy}" if zerocopy else ""
    log = pathlib.Path(log_folder) / f"{name.replace(' ', '-')}-{'on' if delivery else 'off'}.log"

    def command(port):
        address = f"127.0.0.1:{port}"
        return [str(program), "serve", str(site), "--engine", engine, "--threads", "1",
                "--idle-timeout", "300", "--max-connections", str(CONNECTIONS_MAX),
                *(["--zerocopy", zerocopy] if zerocopy else []), "--delivery", "on" if delivery else "off",
                "--access-log", str(log) if access_log else "off",
                *(tls.options(address) if tls else ["--listen", address])]
    return harness.Server(name, command, folder, tls=tls and tls.version, kind=harness.WEIR)


def start_memory(folder, target, engine, zerocopy):
    """examples/memory.c, whose responses lie in memory."""
    program = harness.REPOSITORY / "build" / "example-memory"
    if not program.exists():
        raise harness.Missing("build/example-memory is not built: make build")
    return harness.Server(
        f"memory {engine} zerocopy-{zerocopy}",
        lambda port: [str(program), "--listen", f"127.0.0.1:{port}", "--bytes", str(harness.SIZES[target]),
                      "--engine", engine, "--zerocopy", zerocopy], folder, kind=harness.WEIR)


def build(folder, name, *choices):
    """A program of this folder, in the temporary one, with the first choice of flags that works."""
    source = harness.REPOSITORY / "bench" / f"{name}.c"
    program = pathlib.Path(folder) / name
    if program.exists():
        return program
    for flags in choices:
        built = subprocess.run(["cc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", str(source), "-o",
                                str(program), *flags], capture_output=True, text=True)
        if built.returncode == 0:
            return program
    raise harness.Missing(f"{source.name} does not build: {built.stderr.strip()[:200]}")


def start_limit(folder, site, target, loop, call, piece, control=None):
    program = build(folder, "limit", ["-DSEAL_IPSEC_MB", "-luring", "-lIPSec_MB"],
                    ["-luring", "-lcrypto"])
    pieces = f" {piece // 1024} KB" if piece else ""
    return harness.Server(
        f"limit {loop} {call}{pieces}",
        lambda port: [str(program), str(port), str(site / target), loop, call, str(piece),
                      *([control] if control else [])], folder,
        kind=harness.LIMIT)


def make_all(makers):
    """Makes each; one that is not there is named and left out. Returns them, and why the others are not."""
    made, missing = [], {}
    for make in makers:
        try:
            made.append(make())
        except harness.Missing as reason:
            missing[str(reason)] = None
    for reason in missing:
        print(f"left out: {reason}", file=sys.stderr)
    return made, list(missing)


def start_all(stack, starters):
    return make_all([lambda start=start: stack.enter_context(start()) for start in starters])
