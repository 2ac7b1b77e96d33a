# SPDX-License-Identifier: Apache-2.0
"""How a workload is measured: all servers in turn, round by round."""
import contextlib
import dataclasses
import functools

import client
import connect
import harness
import idle
import servers
import trafficserver
from workloads import ACTIVE, CONNECT, IDLE

ENGINES_MAIN = ("io_uring", "epoll")
WARM_UP_REQUESTS = {"1kb": 3000, "16kb": 1500, "64kb": 600, "128kb": 500, "1mb": 60, "100mb": 2}
# Of a run of 0.6 s, for each connection, plain and over TLS: so many that a connection's 25 us are at most 6 % of
# 1 KB, a handshake's 450 us 8 % of 1 KB and 4 % of 128 KB.
REQUESTS_MIN = {"1kb": (60, 600), "16kb": (30, 300), "64kb": (20, 150), "128kb": (12, 120),
                "1mb": (2, 20), "100mb": (1, 1)}
MANY_CONNECTIONS = 100  # from here on runs are twice as long: their beginning counts for less
ACTIVE_CONNECTIONS = 100
DESCRIPTORS_BESIDE = 200


def in_turns(running, rounds, run_one):
    """Runs by server. Each round begins with another one; the first run of each is thrown away."""
    def turn(server):
        server.wake()
        try:
            return run_one(server)
        finally:
            server.rest()

    for server in running:
        turn(server)
        server.check_pinned()
    runs = {server.name: [] for server in running}
    for number in range(rounds):
        first = number % len(running)
        for server in running[first:] + running[:first]:
            runs[server.name].append(turn(server))
    return runs


class Load:
    """h2load, as long for each server: how many requests that are, the first run tells.

    With a `lean` client (load.c's path) each run is followed by one of its, half as long, for the rate.
    """

    def __init__(self, target, connections, seconds, pipelined=1, lean=None):
        self.lean = lean
        self.target, self.connections, self.pipelined = target, connections, pipelined
        self.share = min(seconds / 0.6, 1)
        self.seconds = seconds * (2 if connections >= MANY_CONNECTIONS else 1)
        self.requests = {}

    def __call__(self, server):
        first = server.name not in self.requests
        requests = (max(WARM_UP_REQUESTS[self.target], self.connections) if first
                    else self.requests[server.name])
        run = server.load(self.target, self.connections, requests, self.pipelined)
        if first:
            least = REQUESTS_MIN[self.target][bool(server.tls)] * self.connections
            self.requests[server.name] = max(int(run.requests_s * self.seconds), self.connections,
                                             int(least * self.share))
        elif self.lean:
            rate = server.load_lean(self.lean, self.target, self.connections,
                                    max(requests // 2, self.connections), self.pipelined)
            run = dataclasses.replace(run, requests_s=rate.requests_s, busy=rate.busy)
        return run


class Connect:
    """connect.py's client, in whole runs but for the first one of each server."""

    def __init__(self, kind, share, folder):
        self.kind, self.share, self.client = kind, share, connect.Client(folder)
        self.warm = set()

    def __call__(self, server):
        scale = self.share * (1 if server.name in self.warm else 0.2)
        self.warm.add(server.name)
        return dataclasses.replace(self.client.load(server, self.kind, scale), requests_s=None,
                                   busy=None)


def engines_for(workload, options):
    return [engine for engine in options.engines
            if engine in ENGINES_MAIN or workload.every_engine or len(options.engines) == 1]


def starters_for(workload, options, folder, log_folder, site, certificate):
    """Peers, weir, and the bare loops. Over TLS only the first library is also measured with log and delivery:
    what these cost does not depend on it."""
    certificate = certificate if workload.tls else None
    for start in (servers.start_nginx, servers.start_h2o):
        yield functools.partial(start, folder, site, certificate)
    yield functools.partial(servers.start_haproxy, folder, site, certificate, [workload.target])
    yield functools.partial(trafficserver.start, folder, site, certificate, [workload.target])
    weir = functools.partial(servers.start_weir, folder, site, log_folder)
    for engine in engines_for(workload, options):
        for vendor in options.vendors if workload.tls else [None]:
            for full in (True, False):
                if full and vendor not in (None, options.vendors[0]):
                    continue
                tls = servers.WeirTls(certificate, vendor) if vendor else None
                yield functools.partial(weir, engine, delivery=full, access_log=full, tls=tls)
    for choice in workload.limits:
        yield functools.partial(servers.start_limit, folder, site, workload.target, *choice)


def rows_of(running, runs):
    return [row_of(server, runs[server.name]) for server in running]


def row_of(server, runs):
    row = {"server": server.name, "kind": server.kind}
    for field in dataclasses.fields(harness.Run):
        values = [getattr(run, field.name) for run in runs]
        if None not in values:
            row[field.name] = vars(harness.Spread.of(values)) | {"runs": values}
    return row


def measure(workload, options, starters, folder):
    """Returns the rows, and why some are not there."""
    if workload.kind == IDLE:
        return measure_alone(starters, functools.partial(measure_idle, workload))
    if workload.kind == ACTIVE:
        return measure_active(workload, options, starters)
    run_one = (Connect(workload.connect, min(options.seconds / 0.6, 1), folder) if workload.kind == CONNECT else
               Load(workload.target, workload.connections, options.seconds, workload.pipelined,
                    lean_client(workload, folder)))
    with contextlib.ExitStack() as stack:
        running, missing = servers.start_all(stack, starters)
        return rows_of(running, in_turns(running, options.rounds, run_one)), missing


def lean_client(workload, folder):
    """Path of load.c, built, where there is a rate to reach and no TLS; else None."""
    if workload.tls or not any(goal.at_least for goal in workload.goals):
        return None
    return servers.build(folder, "load", [])


def measure_alone(starters, measure_one):
    """One server at a time: what memory it has does not depend on when one looks."""
    rows, missing = [], []
    for start in starters:
        try:
            with start() as server:
                server.wake()
                rows.append(row_of(server, [measure_one(server)]))
        except harness.Missing as reason:
            missing.append(str(reason))
    return rows, missing


def measure_idle(workload, server):
    client.allow_descriptors(workload.connections + DESCRIPTORS_BESIDE)
    process, kernel, whole = idle.measure(server, workload.connections)
    return harness.Run(process_bytes=process, kernel_bytes=kernel, whole_bytes=whole)


def measure_active(workload, options, starters):
    """Two of each server, one with the idle connections and one without, take turns as A B B A."""
    client.allow_descriptors(workload.connections + DESCRIPTORS_BESIDE)
    rows, missing = [], []
    for start in starters:
        with contextlib.ExitStack() as stack:
            running, reasons = servers.start_all(stack, [start, start])
            missing += reasons
            if len(running) == 2:
                rows.append(row_of(running[0], measure_crowd(workload, options, *running)))
    return rows, missing


def measure_crowd(workload, options, crowded, alone):
    load = {server: Load("1kb", ACTIVE_CONNECTIONS, options.seconds) for server in (crowded, alone)}
    runs, held = [], []
    with contextlib.ExitStack() as stack:
        for server in (crowded, alone):
            server.wake()
        idle.open_more(crowded, None, held, workload.connections - ACTIVE_CONNECTIONS)
        for connection in held:
            stack.callback(connection.close)
        for number in range(-1, options.rounds):
            order = (crowded, alone) if number % 2 == 0 else (alone, crowded)
            pair = {server: load[server](server) for server in order}
            runs.append(harness.Run(cpu_us=pair[crowded].cpu_us, alone_us=pair[alone].cpu_us,
                                    requests_s=pair[crowded].requests_s, busy=pair[crowded].busy))
        client.request(held[0], crowded, "1kb")  # they are idle, not gone
    return runs[1:]
