# SPDX-License-Identifier: Apache-2.0
"""Draws the demo's table as an SVG that reads well on light and dark pages."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from html import escape

# Seconds: without time stamps, with them, and what it really took. The talk's first table ("IO Core
# Refresh - Net module", Apache Traffic Server Summit 2021).
TALK = {
    128: (0.009, 0.365, 2.2),
    256: (0.008, 1.8, 2.6),
    512: (0.010, 6.6, 7.5),
    1024: (6.3, 11.0, 11.8),
}

WIDTH, HEIGHT = 1040, 430
PANEL_WIDTH, PANEL_TOP, PANEL_BOTTOM = 440, 150, 350
PANEL_LEFTS = (64, 576)
BAR_WIDTH, BAR_GAP = 29, 3
KINDS = ("write", "log", "client")

# What is coloured, and how on a light and on a dark page.
COLOURS = (
    ("text", "fill", "#1b2430", "#e8edf3"),
    (".faint, .axis", "fill", "#5b6776", "#9aa7b6"),
    (".write", "fill", "#d9772b", "#f0934a"),
    (".log", "fill", "#1f6fd6", "#5aa2ff"),
    (".client", "fill", "#8a96a5", "#7b8797"),
    (".page", "fill", "#ffffff", "#12171e"),
    (".page", "stroke", "#d8dee6", "#2c3541"),
    (".grid", "stroke", "#e6eaef", "#252d38"),
    (".base", "stroke", "#5b6776", "#9aa7b6"),
)
FONTS = """text { font: 13px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
.title { font-size: 20px; font-weight: 650; } .panel { font-size: 14px; font-weight: 600; }
.value { font-size: 11px; text-anchor: middle; } .size { text-anchor: middle; }
.axis { font-size: 11px; text-anchor: end; }"""


@dataclasses.dataclass(frozen=True)
class Row:
    """One response. Times in seconds."""

    where: str  # in words, with the link's conditions
    transport: str  # "plain", "tls" or "kernel"
    engine: str
    size_kb: int
    accepted: float
    delivered: float | None
    client: float

    @property
    def difference(self) -> float | None:
        """How far the log is off what the client measured."""
        return None if self.delivered is None else self.delivered - self.client


def style() -> str:
    light = "\n".join(f"{what} {{ {field}: {on_light}; }}" for what, field, on_light, _ in COLOURS)
    dark = "\n".join(f"  {what} {{ {field}: {on_dark}; }}" for what, field, _, on_dark in COLOURS)
    return f"{FONTS}\n{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"


def text(x: float, y: float, words: str, kind: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}"{style}>{escape(words)}</text>'


def _step_for(top: float) -> float:
    """A round distance of grid lines that gives three to six of them."""
    power = 10 ** math.floor(math.log10(top))
    return next(power * factor for factor in (0.2, 0.5, 1, 2) if top / (power * factor) <= 6)


def _number(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds:.3f}"
    return f"{seconds:.2f}" if seconds < 10 else f"{seconds:.1f}"


def _panel(
    left: float, title: str, groups: Sequence[tuple[int, Sequence[float | None]]]
) -> list[str]:
    """One set of axes with a group of three bars for each size."""
    highest = max(value for _, values in groups for value in values if value is not None)
    step = _step_for(highest)
    top = math.ceil(highest * 1.04 / step) * step
    scale = (PANEL_BOTTOM - PANEL_TOP) / top
    right = left + PANEL_WIDTH
    parts = [text(left, PANEL_TOP - 28, title, "panel")]
    for line in range(round(top / step) + 1):
        y = PANEL_BOTTOM - line * step * scale
        kind = "grid" if line else "base"
        parts.append(f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" class="{kind}"/>')
        parts.append(text(left - 8, round(y + 4, 1), f"{line * step:g} s", "axis"))
    group_width = PANEL_WIDTH / len(groups)
    bars_width = len(KINDS) * BAR_WIDTH + (len(KINDS) - 1) * BAR_GAP
    for index, (size_kb, values) in enumerate(groups):
        start = left + index * group_width + (group_width - bars_width) / 2
        for place, (kind, value) in enumerate(zip(KINDS, values)):
            x = start + place * (BAR_WIDTH + BAR_GAP)
            height = max((value or 0) * scale, 1.5)  # a bar of nearly nothing is the point: show it
            y = PANEL_BOTTOM - height
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{BAR_WIDTH}" height="{height:.1f}" rx="2"'
                f' class="{kind}"/>'
            )
            words = "never" if value is None else _number(value)
            parts.append(text(round(x + BAR_WIDTH / 2, 1), round(y - 5, 1), words, "value"))
        parts.append(
            text(left + (index + 0.5) * group_width, PANEL_BOTTOM + 22, f"{size_kb} KB", "size")
        )
    return parts


def list_of(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else words[0]


TRANSPORT_WORDS = {"plain": "without TLS", "tls": "with TLS in user space", "kernel": "in the kernel"}


def agreement(rows: Sequence[Row]) -> str:
    """How far the log is off the client, over all engines and transports."""
    known = [abs(row.difference) for row in rows if row.difference is not None]
    if len(known) < len(rows):
        return "Some responses were never seen to arrive."
    engines = list(dict.fromkeys(row.engine for row in rows))
    transports = [TRANSPORT_WORDS[name] for name in dict.fromkeys(row.transport for row in rows)]
    most_ms = max(known) * 1000
    return (
        f"On {list_of(engines)}, {list_of(transports)}, Weir's log is never more than {most_ms:.1f} ms"
        " off the client."
    )


def drawn_of(rows: Sequence[Row]) -> list[Row]:
    """The first engine's rows, at the first place that has the transport which matters most."""
    for transport in ("kernel", "tls", "plain"):
        chosen = [row for row in rows if row.transport == transport]
        if chosen:
            first = chosen[0]
            return [row for row in chosen if (row.where, row.engine) == (first.where, first.engine)]
    return []


def chart_svg(rows: Sequence[Row]) -> str:
    """The picture. One engine's rows on one transport are drawn, all are summed up in words."""
    drawn = drawn_of(rows)
    titles = {"plain": "Weir", "tls": "Weir, TLS 1.3", "kernel": "Weir, TLS 1.3 in the kernel"}
    ours = [(row.size_kb, (row.accepted, row.delivered, row.client)) for row in drawn]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        ' aria-labelledby="title description">',
        '<title id="title">When did the last byte arrive?</title>',
        f'<desc id="description">{escape(agreement(rows))}</desc>',
        f"<style>{style()}</style>",
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="10" class="page"/>',
        text(28, 42, "When did the last byte arrive?", "title"),
        text(28, 66, "Seconds for one response over a link with a 320 ms ping", "faint"),
    ]
    legend = (
        ("write", "write() returned", 28),
        ("log", "the log's time, by the kernel's acknowledgement stamps", 180),
        ("client", "the client had read it all", 580),
    )
    for kind, words, x in legend:
        parts.append(f'<rect x="{x}" y="82" width="12" height="12" rx="2" class="{kind}"/>')
        parts.append(text(x + 18, 93, words))
    parts += _panel(PANEL_LEFTS[0], titles[drawn[0].transport], ours)
    parts += _panel(
        PANEL_LEFTS[1],
        "The talk, 2021, for comparison: another server and link",
        list(TALK.items()),
    )
    parts.append(text(28, HEIGHT - 36, agreement(rows)))
    parts.append(text(28, HEIGHT - 16, f"Drawn: {drawn[0].engine}, {drawn[0].where}.", "faint"))
    parts.append("</svg>")
    return "\n".join(parts) + "\n"
