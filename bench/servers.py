# SPDX-License-Identifier: Apache-2.0
"""How each server is started: one worker, no TLS, and each peer as its own documentation advises."""
import pathlib
import subprocess

import harness

ENGINES = ["io_uring", "epoll", "poll"]
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
    server {{ listen 127.0.0.1:{port} backlog=4096; root {site}; }}
}}
"""

# h2o's base and file directives: its own defaults are tuned (sendfile, an open file cache for each
# thread); logs are off unless asked for.
H2O_CONFIG = """
num-threads: 1
max-connections: 4096
{access_log}
listen: {{host: 127.0.0.1, port: {port}}}
http1-request-timeout: 300
hosts:
  default:
    paths:
      "/": {{file.dir: {site}}}
"""


def start_nginx(folder, site):
    program = harness.find_program("nginx")
    if program is None:
        raise harness.Missing("nginx is not installed: apt-get install nginx-light")

    def command(port):
        config = pathlib.Path(folder) / "nginx.conf"
        config.write_text(NGINX_CONFIG.format(folder=folder, site=site, port=port, access_log="off"))
        return [program, "-p", str(folder), "-c", str(config)]
    return harness.Server("nginx", command, folder)


def start_h2o(folder, site):
    program = harness.find_program("h2o")
    if program is None:
        raise harness.Missing("h2o is not installed: apt-get install h2o")

    def command(port):
        config = pathlib.Path(folder) / "h2o.conf"
        config.write_text(H2O_CONFIG.format(folder=folder, site=site, port=port, access_log=""))
        return [program, "-m", "worker", "-c", str(config)]
    return harness.Server("h2o", command, folder)


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
