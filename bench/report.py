#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tables of what was measured: as text, and as Markdown between the marks of docs/performance.md and README.md.

    python3 bench/report.py [build/bench.json]

writes what the JSON has between marks of the form <!-- bench: NAME --> and <!-- end -->. NAME is a section of
the benchmark's, or `machine`, `goals`, `summary`, `floor`. What the JSON does not have stays as it is.
"""
import argparse
import json
import pathlib
import re
import sys

import harness
import servers

DOCUMENTS = ("docs/performance.md", "README.md")
MARK = re.compile(r"(<!-- bench: ([\w-]+) -->\n).*?(<!-- end -->)", re.S)
LEFT_OUT = "-"
METRIC_TITLES = {"cpu_us": "CPU us/request", "requests_s": "requests/s", "process_bytes": "process KB",
                 "alone_us": "alone us/request", "whole_bytes": "whole process KB",
                 "kernel_bytes": "kernel KB, both ends",
                 "busy": "busy", "machine_us": "both ends us/request"}
SCALES = dict.fromkeys(("process_bytes", "whole_bytes", "kernel_bytes"), 1 / 1024)
# The short table: what each row is called, its workload, and what is shown of it.
SUMMARY = (("128 KB, 10 connections", "128kb-10", "cpu_us"),
           ("128 KB, 100", "128kb-100", "cpu_us"),
           ("128 KB over TLS, 10", "128kb-tls-10", "cpu_us"),
           ("1 KB, 10", "1kb-10", "cpu_us"),
           ("1 KB, 100", "1kb-100", "cpu_us"),
           ("1 KB, 10, 16 pipelined", "1kb-10-m16", "cpu_us"),
           ("1 KB over TLS, 10", "1kb-tls-10", "cpu_us"),
           ("100 MB, 1, in ms", "100mb-1", "cpu_ms"),
           ("100 MB over TLS, 1, in ms", "100mb-tls-1", "cpu_ms"),
           ("a new connection, TLS, full", "connect-full", "cpu_us"),
           ("the same, resumed", "connect-resumed", "cpu_us"),
           ("an idle connection, KB", "idle-10000", "process_bytes"),
           ("the same over TLS, KB", "idle-tls-10000", "process_bytes"))


def metric_title(workload, metric):
    title = METRIC_TITLES[metric]
    return title.replace("request", "connection") if workload["kind"] == "connect" else title


def number(value):
    """Three digits or more."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def share(value):
    return f"{value:.0%}"


def spread_text(row, metric):
    """A median and its quartiles; the median alone of what was looked at once."""
    if metric not in row:
        return LEFT_OUT
    spread, scale = row[metric], SCALES.get(metric, 1)
    text = share if metric == "busy" else lambda value: number(value * scale)
    if len(spread["runs"]) == 1 or metric == "busy":
        return text(spread["median"])
    return f"{text(spread['median'])} ({text(spread['low'])}..{text(spread['high'])})"


def metrics_of(workload):
    return [metric for metric in METRIC_TITLES if any(metric in row for row in workload["rows"])]


def best_median(rows, kind, metric, pick=min):
    return pick((row[metric]["median"] for row in rows if row["kind"] == kind and metric in row),
                default=None)


def times(row, metric, base):
    return LEFT_OUT if base is None or metric not in row else f"{row[metric]['median'] / base:.2f}"


def workload_table(workload):
    """Text cells: medians with quartiles, and multiples of the best peer's and the best bare loop's."""
    rows, metrics = workload["rows"], metrics_of(workload)
    cost = next(metric for metric in ("cpu_us", "process_bytes") if metric in metrics)
    bases = {kind: best_median(rows, kind, cost) for kind in (harness.PEER, harness.LIMIT)}
    rate = best_median(rows, harness.PEER, "requests_s", max)
    names = {harness.PEER: "x best peer", harness.LIMIT: "x limit"}
    multiples = [kind for kind in bases if bases[kind] is not None]
    table = [["server", metric_title(workload, cost), *(names[kind] for kind in multiples)]]
    rest = [metric for metric in metrics if metric != cost]
    for metric in rest:
        table[0] += [metric_title(workload, metric)]
        table[0] += ["x best peer"] if metric == "requests_s" and rate else []
    for row in rows:
        cells = [row["server"], spread_text(row, cost),
                 *(times(row, cost, bases[kind]) for kind in multiples)]
        for metric in rest:
            cells += [spread_text(row, metric)]
            cells += [times(row, metric, rate)] if metric == "requests_s" and rate else []
        table.append(cells)
    return table


def verdict(goal, result):
    """A ratio and whether it will do; * = missed, but the server waited for the client."""
    ratio = result["ratio"]["median"]
    digits = 2 if round(ratio, 2) != goal["bound"] or ratio == goal["bound"] else 4
    said = "met" if result["met"] else "missed*" if result["client_bound"] else "missed"
    return f"{ratio:.{digits}f} {said}"


def goal_line(goal):
    against = f" ({goal['against_server']})" if goal["against_server"] else ""
    results = ", ".join(f"{column_of(result)} {verdict(goal, result)}"
                        for result in goal["results"])
    return f"goal {goal['text']}{against}: {results}"


def print_workload(workload):
    print(f"\n{workload['title']}")
    harness.print_table(workload_table(workload))
    for goal in workload["goals"]:
        print(goal_line(goal))
    for reason in workload["left_out"]:
        print(f"left out: {reason}")


# ---- Markdown


def markdown(table):
    lines = ["| " + " | ".join(row) + " |" for row in table]
    lines.insert(1, "|---" * len(table[0]) + "|")
    return "\n".join(lines)


def compared(workloads):
    """Those in which weir is compared with others, not with itself in three modes."""
    return [workload for workload in workloads if workload["section"] != "zerocopy"]


def column_of(result):
    """Weir's rows by what they have in common, plain or over TLS with the library that it takes by default."""
    return result["server"].replace(f" {servers.VENDORS[0]}", "").removeprefix("weir ")


def goal_columns(workloads):
    """In the order of the tables, each once."""
    return list(dict.fromkeys(column_of(result) for workload in workloads
                              for goal in workload["goals"] for result in goal["results"]))


def goals_table(workloads):
    columns = goal_columns(workloads)
    table = [["workload", "goal", "against", *columns]]
    for workload in workloads:
        for goal in workload["goals"]:
            results = {column_of(result): result for result in goal["results"]}
            table.append([workload["title"], goal["text"], goal["against_server"] or LEFT_OUT] + [
                verdict(goal, results[name]) if name in results else LEFT_OUT for name in columns])
    return table


def delivery_table(results):
    table = [["engine", "file", "on us", "off us", "ratio (quartiles)", "goal", ""]]
    for result in results:
        ratio = result["ratio"]
        table.append([result["engine"], result["target"],
                      *(number(result[name]["median"]) for name in ("on_cpu_us", "off_cpu_us")),
                      f"{ratio['median']:.3f} ({ratio['low']:.3f}..{ratio['high']:.3f})",
                      f"<= {result['goal']:.2f}",
                      "met" if ratio["median"] <= result["goal"] else "missed"])
    return table


def floor_tables(found):
    for search in found:
        yield (f"{search['target']}, {search['connections']} connections, {search['congestion']}: "
               f"least is {search['least']}, encrypted {search['least_encrypted']}")
        pieces = list(dict.fromkeys(choice["piece"] for choice in search["choices"]))
        table = [["loop and call", *(f"{piece >> 10} KB" if piece else "all at once"
                                     for piece in pieces)]]
        for name in dict.fromkeys((choice["loop"], choice["call"]) for choice in search["choices"]):
            cells = {choice["piece"]: choice["cpu_us"] for choice in search["choices"]
                     if (choice["loop"], choice["call"]) == name}
            table.append([" ".join(name), *(number(cells[piece]["median"]) if piece in cells
                                            else LEFT_OUT for piece in pieces)])
        yield table


def machine_text(document):
    return (f"{document['cpu']}, {document['cores']} cores, Linux {document['kernel']}, "
            f"{document['congestion_control']}, {document['rounds']} rounds, {document['time']}, load at "
            f"the beginning {document['load_average']:.2f}.")


def summary_table(document):
    workloads = {workload["key"]: workload for workload in document["workloads"]}
    columns = [("nginx", "nginx"), ("h2o", "h2o"), ("haproxy", "HAProxy"),
               ("trafficserver", "Traffic Server"), (harness.WEIR, "Weir"),
               ("bare", "Weir bare"), (harness.LIMIT, "limit")]
    table = [["", *(title for _, title in columns)]]
    for title, key, metric in SUMMARY:
        if key in workloads:
            table.append([title, *(summary_cell(workloads[key]["rows"], column, metric)
                                   for column, _ in columns)])
    return table


def summary_cell(rows, column, metric):
    """Weir's is that of its first engine and library: what it takes by default."""
    weir = [row for row in rows if row["kind"] == harness.WEIR]
    row = {harness.WEIR: next((row for row in weir if not row["server"].endswith("bare")), None),
           "bare": next((row for row in weir if row["server"].endswith("bare")), None)}.get(
        column, next((row for row in rows if row["server"] == column), None))
    field, scale = ("cpu_us", 1e-3) if metric == "cpu_ms" else (metric, SCALES.get(metric, 1))
    if column == harness.LIMIT:
        best = best_median(rows, harness.LIMIT, field)
    else:
        best = row[field]["median"] if row and field in row else None
    return LEFT_OUT if best is None else number(best * scale)


def section_text(document, section):
    """Markdown of a mark, or None if the document has nothing of it."""
    if section == "machine":
        return machine_text(document)
    if section == "floor":
        parts = [part if isinstance(part, str) else markdown(part)
                 for part in floor_tables(document.get("floor", []))]
        return "\n\n".join(parts) or None
    if section == "delivery":
        return markdown(delivery_table(document["delivery"])) if document.get("delivery") else None
    workloads = document.get("workloads", [])
    if section == "summary":
        return markdown(summary_table(document)) if workloads else None
    if section == "goals":
        return markdown(goals_table(compared(workloads))) if workloads else None
    return section_tables([workload for workload in workloads if workload["section"] == section])


def section_tables(workloads):
    parts = []
    for workload in workloads:
        parts += [f"**{workload['title']}**", markdown(workload_table(workload))]
    if any(workload["goals"] for workload in workloads):
        parts.append(markdown(goals_table(workloads)))
    reasons = dict.fromkeys(reason for workload in workloads for reason in workload["left_out"])
    parts.append("\n".join(f"- left out: {reason}" for reason in reasons))
    return "\n\n".join(part for part in parts if part) or None


def fill_in(document, path):
    """Replaces what stands between the marks. Returns the names of those that were filled in."""
    filled = []

    def replace(match):
        text = section_text(document, match[2])
        if text is None:
            return match[0]
        filled.append(match[2])
        return f"{match[1]}{text}\n{match[3]}"

    before = path.read_text()
    after = MARK.sub(replace, before)
    if after != before:
        path.write_text(after)
    return filled


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("json", nargs="?", type=pathlib.Path,
                        default=harness.REPOSITORY / "build" / "bench.json")
    parser.add_argument("--into", nargs="*", type=pathlib.Path,
                        default=[harness.REPOSITORY / name for name in DOCUMENTS])
    arguments = parser.parse_args()
    try:
        document = json.loads(arguments.json.read_text())
    except OSError as error:
        sys.exit(f"report: {error}")
    for path in arguments.into:
        print(f"{path}: {', '.join(fill_in(document, path)) or 'nothing to fill in'}")


if __name__ == "__main__":
    main()
