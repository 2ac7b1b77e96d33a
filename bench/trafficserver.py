# SPDX-License-Identifier: Apache-2.0
"""Apache Traffic Server as a peer: an instance of its own, in a folder of its own (a "runroot").

It is a proxy: it serves from its cache in RAM what it has fetched once from an origin, which is a thread of the
benchmark's. It needs no root.
"""
import http.server
import pathlib
import shutil
import signal
import socket
import ssl
import threading
import time

import harness
import servers

FETCHES_MAX = 20  # until an object comes from the cache
FETCH_SECONDS_MAX = 30

# Admin Guide, "Installing Traffic Server in a runroot".
RUNROOT = """
prefix: /usr
exec_prefix: /usr
bindir: /usr/bin
sbindir: /usr/bin
libdir: /usr/lib/trafficserver
libexecdir: /usr/lib/trafficserver/modules
includedir: /usr/include
mandir: /usr/share/man
infodir: /usr/share/info
datadir: {root}/share
sysconfdir: {root}/etc
localstatedir: {root}
runtimedir: {root}/run
logdir: {root}/log
cachedir: {root}/cache
"""
# Admin Guide, "Performance Tuning": the number of threads set by hand, connections that live long, no log;
# records.config: the accepting done by the net thread, which stays on the first core (by itself
# it would leave the one that it is given), a RAM cache that holds everything whole, and no headers
# that others do not send either.
RECORDS = """
CONFIG proxy.config.admin.user_id STRING #-1
CONFIG proxy.config.crash_log_helper STRING NULL
CONFIG proxy.config.exec_thread.autoconfig INT 0
CONFIG proxy.config.exec_thread.limit INT 1
CONFIG proxy.config.exec_thread.affinity INT 4
CONFIG proxy.config.accept_threads INT 0
CONFIG proxy.config.task_threads INT 1
CONFIG proxy.config.net.connections_throttle INT {connections}
CONFIG proxy.config.net.listen_backlog INT 4096
CONFIG proxy.config.http.server_ports STRING {port}:ip-in=127.0.0.1{ssl}
CONFIG proxy.config.http.keep_alive_no_activity_timeout_in INT 300
CONFIG proxy.config.http.cache.required_headers INT 0
CONFIG proxy.config.http.insert_response_via_str INT 0
CONFIG proxy.config.http.insert_request_via_str INT 0
CONFIG proxy.config.http.insert_age_in_response INT 0
CONFIG proxy.config.cache.ram_cache.size INT 536870912
CONFIG proxy.config.cache.ram_cache_cutoff INT 268435456
CONFIG proxy.config.log.logging_enabled INT 0
CONFIG proxy.config.ssl.TLSv1_2 INT 0
CONFIG proxy.config.ssl.TLSv1_3 INT 1
CONFIG proxy.config.ssl.server.TLSv1_3.cipher_suites STRING {cipher}
CONFIG proxy.config.ssl.server.cert.path STRING /
CONFIG proxy.config.ssl.server.private_key.path STRING /
"""
IP_ALLOW = """
ip_allow:
  - apply: in
    ip_addrs: 127.0.0.1
    action: allow
    methods: ALL
"""


class Origin:
    """Serves the site's files, and counts."""

    def __init__(self, site):
        origin = self
        self.requests = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                origin.requests += 1
                body = (site / pathlib.PurePath(self.path).name).read_bytes()
                self.send_response(200)
                self.send_header("Content-Type", "application/octet-stream")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "public, max-age=86400")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                """Nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class TrafficServer(harness.Server):
    """Its threads wake all the time, also without a connection: it is stopped while others have their turn."""

    def __init__(self, program, folder, site, certificate, targets):
        self.origin = Origin(site)
        try:
            super().__init__("trafficserver",
                             lambda port: self.command(program, folder, certificate, port), folder,
                             tls=certificate and "1.3")
            for target in targets:
                self.fill_cache(target)
        except BaseException:
            self.stop()
            raise
        self.rest()

    def command(self, program, folder, certificate, port):
        self.root = pathlib.Path(folder) / f"trafficserver-{port}"
        for name in ("etc", "run", "log", "cache", "share"):
            (self.root / name).mkdir(parents=True)
        etc = self.root / "etc"
        (self.root / "runroot.yaml").write_text(RUNROOT.format(root=self.root))
        (etc / "records.config").write_text(RECORDS.format(
            port=port, ssl=":ssl" if certificate else "", cipher=harness.TLS["1.3"][1],
            connections=servers.CONNECTIONS_MAX))
        (etc / "remap.config").write_text(f"map / http://127.0.0.1:{self.origin.port}/\n")
        (etc / "storage.config").write_text(f"{self.root}/cache 512M\n")
        (etc / "ip_allow.yaml").write_text(IP_ALLOW)
        (etc / "plugin.config").write_text("")
        (etc / "ssl_multicert.config").write_text(
            f"dest_ip=* ssl_cert_name={certificate.certificate} ssl_key_name={certificate.key}\n"
            if certificate else "")
        return [program, f"--run-root={self.root}/runroot.yaml"]

    def fetch(self, target):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=FETCH_SECONDS_MAX)
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = context.wrap_socket(connection, server_hostname="localhost")
        with connection:
            connection.sendall(f"GET /{target} HTTP/1.1\r\nHost: localhost\r\n"
                               "Connection: close\r\n\r\n".encode())
            while connection.recv(1 << 20):
                pass

    def fill_cache(self, target):
        for _ in range(FETCHES_MAX):
            before = self.origin.requests
            self.fetch(target)
            if self.origin.requests == before:
                return
            time.sleep(0.1)
        raise harness.Missing(f"trafficserver does not keep {target} in its cache")

    def rest(self):
        self.process.send_signal(signal.SIGSTOP)

    def wake(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        if hasattr(self, "process"):
            self.wake()
            super().stop()
        self.origin.stop()
        if hasattr(self, "root"):
            shutil.rmtree(self.root, ignore_errors=True)


def start(folder, site, certificate=None, targets=servers.TARGETS):
    program = harness.find_program("traffic_server")
    if program is None:
        raise harness.Missing("trafficserver is not installed: apt-get install trafficserver")
    try:
        return TrafficServer(program, folder, site, certificate, targets)
    except (harness.BenchError, OSError) as error:
        raise harness.Missing(f"trafficserver: {error}") from error
