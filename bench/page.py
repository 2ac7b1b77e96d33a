# SPDX-License-Identifier: Apache-2.0
"""One page of HTML with everything that was measured: charts as inline SVG, no scripts, nothing from elsewhere."""
import html

import harness
import report

LABEL_WIDTH, VALUE_WIDTH, WIDTH = 190, 60, 560
ROW_HEIGHT, BAR_HEIGHT, TOP = 24, 14, 18
SECTION_TITLES = {
    "128kb": "128 KB, plain", "128kb-tls": "128 KB over TLS 1.3", "1kb": "1 KB, plain",
    "1kb-tls": "1 KB over TLS 1.3", "100mb": "100 MB, plain", "100mb-tls": "100 MB over TLS 1.3",
    "connect": "A new connection for each request", "idle": "Idle connections",
    "active": "Active among idle connections", "zerocopy": "Zero copy: off, on, auto"}

STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf8; --card: #ffffff; --ink: #1b2126; --soft: #5d666e;
  --line: #dfe2e4; --weir: #0a6d94; --bare: #58a9c9; --peer: #b9bec2; --limit: #5d666e;
  --good: #1b7a43; --good-paper: #e3f3e9; --bad: #a5391f; --bad-paper: #fbe9e4; }
@media (prefers-color-scheme: dark) { :root { --paper: #13171a; --card: #1b2024; --ink: #e4e7e9;
  --soft: #98a1a8; --line: #30373c; --weir: #4fb4dc; --bare: #2b7797; --peer: #5a636a; --limit: #98a1a8;
  --good: #6fcf97; --good-paper: #173324; --bad: #f0957c; --bad-paper: #3d2019; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 76rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.9rem; letter-spacing: -0.02em; }
h2 { margin: 3rem 0 1rem; font-size: 1.3rem; }
h3 { margin: 0 0 0.6rem; font-size: 1rem; }
p { max-width: 48rem; } .soft { color: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 33rem), 1fr)); gap: 1rem;
  align-items: start; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 1rem 1.1rem;
  min-width: 0; }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--ink); } svg .goal-text { fill: var(--soft); font-size: 11px; }
.weir { fill: var(--weir); } .bare { fill: var(--bare); } .peer { fill: var(--peer); }
.limit { fill: none; stroke: var(--limit); stroke-dasharray: 3 2; }
.spread { stroke: var(--ink); stroke-width: 1.2; } .goal { stroke: var(--soft); stroke-dasharray: 2 3; }
.legend { display: flex; flex-wrap: wrap; gap: 0.4rem 1.4rem; margin: 1rem 0; color: var(--soft); }
.legend svg { display: inline-block; width: 22px; height: 12px; margin-right: 0.4rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; width: 100%; }
th, td { padding: 0.3rem 0.6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; }
th { font-weight: 600; color: var(--soft); } th:first-child, td:first-child { text-align: left; }
.goals { font-size: 12px; } .goals th, .goals td { padding: 0.25rem 0.45rem; }
.goals td:nth-child(2), .goals th:nth-child(2), .goals td:nth-child(3), .goals th:nth-child(3)
  { text-align: left; white-space: normal; } .goals td:first-child { white-space: normal; }
.met { color: var(--good); background: var(--good-paper); }
.missed { color: var(--bad); background: var(--bad-paper); }
.tally { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.5rem 0; }
.tally div { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 0.7rem 1.1rem; }
.tally b { display: block; font-size: 1.5rem; letter-spacing: -0.02em; }
ul { margin: 0.7rem 0 0; padding-left: 1.1rem; font-size: 13px; }
details { margin-top: 0.7rem; } summary { cursor: pointer; color: var(--soft); font-size: 13px; }
"""


def text(words):
    return html.escape(str(words))


def shape_of(row):
    if row["kind"] == harness.WEIR:
        return "bare" if row["server"].endswith("bare") else "weir"
    return row["kind"]


def cost_of(workload):
    return next(metric for metric in ("cpu_us", "process_bytes") if metric in workload["rows"][0])


def goal_value(workload, metric):
    """Where the bar of a server that just meets the first goal ends."""
    for goal in workload["goals"]:
        against = next((row for row in workload["rows"] if row["server"] == goal["against_server"]),
                       None)
        if goal["metric"] == metric and against:
            return against[metric]["median"] * goal["bound"]
    return None


def chart(workload):
    """Bars of medians with their quartiles; less is better."""
    metric = cost_of(workload)
    rows = [row for row in workload["rows"] if metric in row]
    goal = goal_value(workload, metric)
    most = max([row[metric]["high"] for row in rows] + [goal or 0])
    room = WIDTH - LABEL_WIDTH - VALUE_WIDTH

    def x(value):
        return LABEL_WIDTH + max(value, 0) / (most or 1) * room

    height = TOP + ROW_HEIGHT * len(rows) + 4
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" '
             f'aria-label="{text(workload["title"])}: {text(report.metric_title(workload, metric))}">']
    if goal:
        parts.append(f'<line class="goal" x1="{x(goal):.1f}" x2="{x(goal):.1f}" y1="{TOP - 2}" '
                     f'y2="{height}"/><text class="goal-text" x="{x(goal):.1f}" y="{TOP - 6}" '
                     f'text-anchor="middle">goal</text>')
    for index, row in enumerate(rows):
        parts.append(bar(row, metric, x, TOP + index * ROW_HEIGHT + (ROW_HEIGHT - BAR_HEIGHT) / 2))
    return "".join(parts) + "</svg>"


def bar(row, metric, x, y):
    spread, middle = row[metric], y + BAR_HEIGHT / 2
    scaled = spread["median"] * report.SCALES.get(metric, 1)
    title = f"{row['server']}: {report.spread_text(row, metric)}"
    return (f'<g><title>{text(title)}</title>'
            f'<text x="{LABEL_WIDTH - 8}" y="{middle + 4}" text-anchor="end">{text(row["server"])}</text>'
            f'<rect class="{shape_of(row)}" x="{LABEL_WIDTH}" y="{y}" height="{BAR_HEIGHT}" rx="2" '
            f'width="{max(x(spread["median"]) - LABEL_WIDTH, 1):.1f}"/>'
            f'<line class="spread" x1="{x(spread["low"]):.1f}" x2="{x(spread["high"]):.1f}" '
            f'y1="{middle}" y2="{middle}"/>'
            f'<text x="{x(max(spread["median"], spread["high"])) + 6:.1f}" y="{middle + 4}">'
            f'{report.number(scaled)}</text></g>')


def table(rows, kind="", cells=None):
    """The first row is the heading. `cells` gives a cell's class by its text."""
    lines = ["<tr>" + "".join(f"<th>{text(cell)}</th>" for cell in rows[0]) + "</tr>"]
    for row in rows[1:]:
        lines.append("<tr>" + "".join(
            f'<td class="{cells(cell) if cells else ""}">{text(cell)}</td>' for cell in row) + "</tr>")
    return f'<div class="scroll"><table class="{kind}">{"".join(lines)}</table></div>'


def goal_class(cell):
    return "missed" if " missed" in cell else "met" if cell.endswith(" met") or cell == "met" else ""


def items(lines):
    return f"<ul>{''.join(f'<li>{text(line)}</li>' for line in lines)}</ul>" if lines else ""


def card(workload):
    unit = report.metric_title(workload, cost_of(workload))
    notes = [report.goal_line(goal) for goal in workload["goals"]]
    notes += [f"left out: {reason}" for reason in workload["left_out"]]
    return (f'<div class="card"><h3>{text(workload["title"])} <span class="soft">{text(unit)}</span></h3>'
            f'{chart(workload)}<details><summary>numbers and goals</summary>'
            f'{table(report.workload_table(workload))}'
            f'{items(notes)}</details></div>')


def tally(workloads):
    """How many goals each of weir's rows meets."""
    counts = {}
    for workload in workloads:
        for goal in workload["goals"]:
            for result in goal["results"]:
                met, of = counts.get(report.column_of(result), (0, 0))
                counts[report.column_of(result)] = (met + result["met"], of + 1)
    return '<div class="tally">' + "".join(
        f"<div><b>{met} of {of}</b>goals met: {text(name)}</div>"
        for name, (met, of) in counts.items()) + "</div>"


LEGEND = "".join(
    f'<span><svg viewBox="0 0 22 12"><rect class="{shape}" x="1" y="1" width="20" height="10" rx="2"/></svg>'
    f"{words}</span>" for shape, words in (
        ("weir", "Weir, its access log and delivery on"), ("bare", "Weir bare, both off, as the peers"),
        ("peer", "peers, their logs off"), ("limit", "the limit: a loop that parses nothing")))


def floor_part(found):
    parts = [f"<h3>{text(part)}</h3>" if isinstance(part, str) else table(part)
             for part in report.floor_tables(found)]
    return ('<h2>The search for the floor</h2><p class="soft">CPU us/request</p>'
            f'<div class="card">{"".join(parts)}</div>')


def render(document):
    workloads = document["workloads"]
    compared = report.compared(workloads)
    parts = [f'<h1>Weir: benchmark</h1><p class="soft">{text(report.machine_text(document))}</p>']
    if workloads:
        parts.append("<p>Server CPU by the scheduler's count, kernel work included: less is better. A bar is a "
                     "median, the thin line in it its quartiles. One worker each, the client on the other core, "
                     "all servers in turns.</p>" f'<div class="legend">{LEGEND}</div>')
    if any(workload["goals"] for workload in compared):
        parts += [f"<h2>Goals</h2>{tally(compared)}",
                  '<p class="soft">Ratios round by round, their median. * where the server waited for the client, '
                  "so that the rate says little about it.</p>",
                  f'<div class="card">{table(report.goals_table(compared), "goals", goal_class)}</div>']
    for section in dict.fromkeys(workload["section"] for workload in workloads):
        cards = "".join(card(workload) for workload in workloads if workload["section"] == section)
        parts.append(f'<h2>{text(SECTION_TITLES[section])}</h2><div class="cards">{cards}</div>')
    if document.get("delivery"):
        parts.append("<h2>--delivery on against off</h2>"
                     f'<div class="card">'
                     f'{table(report.delivery_table(document["delivery"]), "", goal_class)}</div>')
    if document.get("floor"):
        parts.append(floor_part(document["floor"]))
    return ('<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>Weir: benchmark</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n")
