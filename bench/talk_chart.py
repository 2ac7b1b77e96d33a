# SPDX-License-Identifier: Apache-2.0
"""Bars from left to right, as an SVG that reads well on light and dark pages."""
from html import escape

from demo_chart import style, text

WIDTH = 760
LEFT, BARS_LEFT, BARS_WIDTH = 28, 300, 340
TOP, ROW, GROUP_GAP, BAR_HEIGHT = 92, 24, 34, 15
# What a bar is coloured as: what the talk found, what ours is compared with, ours.
TALK, BASE, OURS = "write", "client", "log"


def bars_svg(title, subtitle, groups, footer):
    """`groups` is a list of (heading, rows), and a row is (label, value, words for the value, colour)."""
    highest = max(value for _, rows in groups for _, value, _, _ in rows)
    parts, y = [], TOP
    for heading, rows in groups:
        parts.append(text(LEFT, y, heading, "panel"))
        y += 10
        for label, value, words, colour in rows:
            width = max(value / highest * BARS_WIDTH, 1.5)
            parts.append(text(LEFT, y + 12, label))
            parts.append(f'<rect x="{BARS_LEFT}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT}" rx="2"'
                         f' class="{colour}"/>')
            parts.append(text(round(BARS_LEFT + width + 8, 1), y + 12, words))
            y += ROW
        y += GROUP_GAP
    height = y + 4
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        ' aria-labelledby="title description">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="description">{escape(subtitle)}</desc>',
        f"<style>{style()}</style>",
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="10" class="page"/>',
        text(LEFT, 38, title, "title"),
        text(LEFT, 60, subtitle, "faint"),
    ]
    return "\n".join([*head, *parts, text(LEFT, height - 18, footer, "faint"), "</svg>"]) + "\n"
