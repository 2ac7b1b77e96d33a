# SPDX-License-Identifier: Apache-2.0
"""How each server is started: one worker, and each peer as its own documentation advises.

`certificate` is None for a plain server, else a harness.Certificate.
"""
import pathlib
import subprocess

import harness

ENGINES = ["io_uring", "epoll", "poll"]
VENDORS = ["openssl", "gnutls", "wolfssl", "mbedtls"]
TARGETS = list(harness.SIZES)

# ngx_core_module and ngx_http_core_module, and "Tuning NGINX for Performance": sendfile with tcp_nopush,
# an open file cache, connections that live long, no access log.
NGINX_CONFIG = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.error crit;
events {{ worker_connections 4096; use epoll; multi_accept on; }}
http {{
    access_log {access_log};
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
max-connections: 4096
{access_log}
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
# Its defaults again. 2.2.5 does not know TLS 1.3 by name but has it by its library: the client asks for
# the one version and the one cipher.
H2O_TLS = """
  ssl:
    certificate-file: {certificate.certificate}
    key-file: {certificate.key}
    ocsp-update-interval: 0
"""

# HAProxy serves no files. Its responses come from memory, which is less work, and must fit into a buffer: the
# default, or for 128 KB a big one. No checks, no log; configuration.txt advises nothing more for speed.
HAPROXY_CONFIG = """
global
    nbthread 1
    maxconn 4096
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
HAPROXY_BIG_BUFFERS = "tune.bufsize 262144"


def start_nginx(folder, site, certificate=None):
    program = harness.find_program("nginx")
    if program is None:
        raise harness.Missing("nginx is not installed: apt-get install nginx-light")
    tls = "" if certificate is None else NGINX_TLS.format(certificate=certificate,
                                                          cipher=harness.TLS_CIPHER)

    def command(port):
        config = pathlib.Path(folder) / f"nginx-{port}.conf"
        config.write_text(NGINX_CONFIG.format(folder=folder, site=site, port=port, access_log="off",
                                              ssl="ssl" if certificate else "", tls=tls))
        return [program, "-p", str(folder), "-c", str(config)]
    return harness.Server("nginx", command, folder, tls=certificate is not None)


def start_h2o(folder, site, certificate=None):
    program = harness.find_program("h2o")
    if program is None:
        raise harness.Missing("h2o is not installed: apt-get install h2o")
    tls = "" if certificate is None else H2O_TLS.format(certificate=certificate)

    def command(port):
        config = pathlib.Path(folder) / f"h2o-{port}.conf"
        config.write_text(H2O_CONFIG.format(folder=folder, site=site, port=port, access_log="",
                                            tls=tls))
        return [program, "-m", "worker", "-c", str(config)]
    return harness.Server("h2o", command, folder, tls=certificate is not None)


def start_haproxy(folder, site, certificate=None, targets=TARGETS):
    """`targets` that need big buffers make each busy connection hold them."""
    program = harness.find_program("haproxy")
    if program is None:
        raise harness.Missing("haproxy is not installed: apt-get install haproxy")
    responses = [HAPROXY_RESPONSE.format(site=site, target=target) for target in targets]
    buffers = HAPROXY_BIG_BUFFERS if "128kb" in targets else ""
    tls = "" if certificate is None else f"ssl crt {certificate.both}"

    def command(port):
        config = pathlib.Path(folder) / f"haproxy-{port}.conf"
        config.write_text(HAPROXY_CONFIG.format(folder=folder, port=port, tls=tls, buffers=buffers,
                                                cipher=harness.TLS_CIPHER,
                                                responses="\n".join(responses)))
        return [program, "-db", "-f", str(config)]
    return harness.Server("haproxy", command, folder, tls=certificate is not None)


def start_weir(folder, site, log_folder, engine, delivery, access_log):
    """`delivery` and `access_log` are booleans."""
    program = harness.REPOSITORY / "build" / "weir"
    if not program.exists():
        raise harness.Missing("build/weir is not built: make build")
    log = pathlib.Path(log_folder) / f"{engine}-{'on' if delivery else 'off'}.log"

    def command(port):
        return [str(program), "serve", str(site), "--listen", f"127.0.0.1:{port}",
                "--engine", engine, "--threads", "1", "--delivery", "on" if delivery else "off",
                "--access-log", str(log) if access_log else "off"]
    extra = "" if delivery and access_log else " bare" if not (delivery or access_log) else " log"
    return harness.Server(f"weir {engine}{extra}", command, folder)


def build_limit(folder):
    source = harness.REPOSITORY / "bench" / "limit.c"
    program = pathlib.Path(folder) / "limit"
    built = subprocess.run(["cc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", str(source), "-o", str(program),
                            "-luring"], capture_output=True, text=True)
    if built.returncode != 0:
        raise harness.Missing(f"the limit program does not build: {built.stderr.strip()[:200]}")
    return program


def start_limit(folder, site, target, loop, call, piece):
    program = build_limit(folder)
    pieces = f" {piece // 1024} KB" if piece else ""
    return harness.Server(
        f"limit {loop} {call}{pieces}",
        lambda port: [str(program), str(port), str(site / target), loop, call, str(piece)], folder)
