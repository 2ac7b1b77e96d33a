# SPDX-License-Identifier: Apache-2.0
"""What is measured, and what it is to reach: one Workload for each table of docs/performance.md."""
import dataclasses

import connect

LOAD, CONNECT, IDLE, ACTIVE = "load", "connect", "idle", "active"
BEST, BARE_LOOP, H2O, ALONE = "the best peer", "the limit", "h2o", "the active ones alone"


@dataclasses.dataclass(frozen=True)
class Goal:
    """Of weir's `metric` over that of `against`, run by run."""
    metric: str
    bound: float
    against: str = BEST
    at_least: bool = False  # a rate, where more is better

    def text(self):
        return (f"{METRICS[self.metric]} {'>=' if self.at_least else '<='} {self.bound:.2f} of "
                f"{self.against}")


METRICS = {"cpu_us": "CPU", "requests_s": "requests/s", "process_bytes": "memory",
           "alone_us": "CPU alone"}


@dataclasses.dataclass(frozen=True)
class Workload:
    section: str
    title: str
    kind: str = LOAD
    target: str = "1kb"
    connections: int = 1
    tls: bool = False
    pipelined: int = 1
    connect: str = ""  # of connect.KINDS
    goals: tuple = ()
    limits: tuple = ()  # of limit.c: loop, call, piece
    every_engine: bool = False  # the third one, poll, too

    @property
    def key(self):
        words = [self.section]
        if self.kind == CONNECT:
            words += self.connect.split()[:1] if self.tls else self.connect.split()[-2:-1]
        else:
            words += ["tls"] if self.tls and "tls" not in self.section else []
            words += [str(self.connections)]
        return "-".join(words + ([f"m{self.pipelined}"] if self.pipelined > 1 else []))


def at_most(bound, against=BEST, metric="cpu_us"):
    return Goal(metric, bound, against)


def rate_at_least(bound):
    return Goal("requests_s", bound, at_least=True)


# What the search (run.py --limit) finds to cost least, or close to it on one congestion control or another. What is
# encrypted lies in memory: no sendfile.
LIMITS = {
    "1kb": (("epoll", "send", 0), ("io_uring", "send", 0)),
    "128kb": (("epoll", "sendfile", 65536), ("epoll", "sendfile", 32768),
              ("io_uring", "sendfile", 65536)),
    "100mb": (("epoll", "sendfile", 65536), ("epoll", "sendfile", 0)),
}
LIMITS_TLS = {
    "1kb": (("epoll", "encrypt", 0), ("io_uring", "encrypt", 0)),
    "128kb": (("epoll", "encrypt", 0), ("epoll", "encrypt", 65536)),
    "100mb": (("epoll", "encrypt", 131072), ("epoll", "encrypt", 65536)),
}


def loads(target, tls, counts, *goals, pipelined=1):
    over = " over TLS 1.3" if tls else ""
    size = {"1kb": "1 KB", "128kb": "128 KB", "100mb": "100 MB"}[target]
    for count in counts:
        yield Workload(
            f"{target}-tls" if tls else target,
            f"{size}{over}, {count} connection{'s' if count > 1 else ''}"
            + (f", {pipelined} requests pipelined" if pipelined > 1 else ""),
            target=target, connections=count, tls=tls, pipelined=pipelined, goals=goals,
            limits=(LIMITS_TLS if tls else LIMITS)[target],
            every_engine=count == 10 and pipelined == 1 and target != "100mb")


def connects():
    for kind in connect.KINDS:
        tls = not kind.startswith("plain")
        yield Workload("connect", f"a new connection for each request, {'TLS 1.3, ' if tls else ''}{kind}",
                       CONNECT, tls=tls, connect=kind, goals=(at_most(0.9),))


def idles(count):
    for tls in (False, True):
        yield Workload("idle", f"{count:,} idle connections{' over TLS 1.3' if tls else ''}", IDLE,
                       connections=count, tls=tls, goals=(at_most(0.5, metric="process_bytes"),))


def everything(idle_count):
    return [
        *loads("128kb", False, (1, 10, 100, 1000), at_most(0.9), rate_at_least(1.1),
               at_most(1.1, BARE_LOOP), at_most(0.65, H2O)),
        *loads("128kb", True, (10, 100), at_most(0.85), rate_at_least(1.1), at_most(0.65, H2O)),
        *loads("1kb", False, (10, 100, 1000), at_most(0.75), rate_at_least(1.2)),
        *loads("1kb", False, (10,), at_most(0.75), rate_at_least(1.2), pipelined=16),
        *loads("1kb", True, (10, 100), at_most(0.8), at_most(0.7, H2O)),
        *loads("100mb", False, (1, 10), at_most(0.9)),
        *loads("100mb", True, (1, 10), at_most(0.9)),
        *connects(),
        *idles(idle_count),
        Workload("active", f"{idle_count:,} connections of which 100 are active", ACTIVE,
                 connections=idle_count, goals=(at_most(1.1, ALONE),)),
    ]


SECTIONS = ("128kb", "128kb-tls", "1kb", "1kb-tls", "100mb", "100mb-tls", "connect", "idle",
            "active", "delivery", "zerocopy")
