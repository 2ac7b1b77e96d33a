# SPDX-License-Identifier: Apache-2.0
"""What the send policy is worth: --zerocopy auto against off and on, for files over TLS and bytes in memory."""
import contextlib
import functools

import harness
import measure
import servers
from workloads import LOAD

MODES = ("off", "on", "auto")
GOAL = 1.02  # of the better one of off and on
FILES = ("16kb", "64kb", "128kb", "1mb")
CONNECTIONS = (10, 100)


def cells(options, folder, log_folder, site, certificate):
    """Each: what it is, its target, and what starts the three servers."""
    for engine in options.engines:
        if engine not in measure.ENGINES_MAIN:
            continue
        tls = servers.WeirTls(certificate, options.vendors[0])
        for target in FILES:
            yield (f"{target} file over TLS 1.3, {engine}", f"{target}-tls-{engine}", target,
                   [functools.partial(servers.start_weir, folder, site, log_folder, engine, True,
                                      True, tls, mode) for mode in MODES])
        yield (f"128 KB from memory, {engine}", f"memory-{engine}", "128kb",
               [functools.partial(servers.start_memory, folder, "128kb", engine, mode)
                for mode in MODES])


def evaluate(rows):
    off, on, auto = rows
    fixed = min((off, on), key=lambda row: row["cpu_us"]["median"])
    ratio = harness.Spread.of([one / other for one, other in
                               zip(auto["cpu_us"]["runs"], fixed["cpu_us"]["runs"])])
    return {"metric": "cpu_us", "bound": GOAL, "against": "the better fixed choice",
            "text": f"CPU <= {GOAL:.2f} of the better fixed choice", "at_least": False,
            "against_server": fixed["server"],
            "results": [{"server": auto["server"], "ratio": vars(ratio), "client_bound": False,
                         "met": ratio.median <= GOAL}]}


def compare(options, folder, log_folder, site, certificate, show):
    """Returns workloads as run.py has them; `show` gets each."""
    workloads, reasons = [], []
    if not servers.weir_has_option("--zerocopy"):
        reasons.append("this build of weir has no --zerocopy: files over TLS are left out")
    for title, key, target, starters in cells(options, folder, log_folder, site, certificate):
        if reasons and "file" in title:
            continue
        with contextlib.ExitStack() as stack:
            running, missing = servers.start_all(stack, starters)
            if len(running) < len(MODES):
                reasons += [reason for reason in missing if reason not in reasons]
                continue
            for connections in options.connections or CONNECTIONS:
                runs = measure.in_turns(running, options.rounds, measure.Load(
                    target, connections, options.seconds))
                rows = measure.rows_of(running, runs)
                workloads.append({
                    "key": f"zerocopy-{key}-{connections}", "section": "zerocopy", "kind": LOAD,
                    "title": f"{title}, {connections} connections", "rows": rows,
                    "goals": [evaluate(rows)], "left_out": []})
                show(workloads[-1])
    if workloads:
        workloads[0]["left_out"] = reasons
    return workloads
