"""A feature's panel as SVG: what is true where it is strongest, when that is, and examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from harness.reports.screens.examples import CELL, GAP, LINE, examples_height, examples_svg
from harness.spec.printable import printable

Data = Mapping[str, Any]

TOP, BARS = 54, 70
NARROWEST = 640
_SPOKEN = 5
"""Concepts of a family without cells that are written out at most."""
_LETTERS = "abcdefgh"
_UP, _DOWN = (178, 24, 43), (33, 102, 172)


def panel_svg(panel: Data, report: Data) -> str:
    """One panel: the name, a board for each family with cells, a line for each without, a
    histogram of positions, and examples.

    A cell's colour is how much more often (red) or less often (blue) the concept is true at the
    strongest tokens than at all; share and lift stand in its tooltip. Families with several
    concepts in a cell show the largest.
    """
    size = report["board_size"]
    # Of a feature that is never active nothing is true more or less often.
    families = report["families"] if panel["tokens"] else []
    boards = [family for family in families if size and family["cells"]]
    side = (size or 0) * CELL if boards else 0
    spoken = [family for family in families if family not in boards]
    columns = max(len(boards), len(panel["examples"]) if size else 0)
    width = max(NARROWEST, columns * (side + GAP) + GAP)
    bars = TOP + side + len(spoken) * LINE + 2 * GAP
    examples = bars + BARS + GAP
    height = examples + examples_height(panel, size)
    title = panel_title(panel)
    about = (
        f"{panel['tokens']:,} strongest tokens, mean strength {panel['mean_strength']:.2f}, active "
        f"at {panel['active']:.1%} of all"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{GAP}" y="18" font-size="13" font-weight="bold">{escape(title)}</text>',
        f'<text x="{GAP}" y="33" fill="#555">{escape(about)}</text>',
    ]
    for index, family in enumerate(boards):
        x = GAP + index * (side + GAP)
        parts += _board(family, panel, size, x)
    for index, family in enumerate(spoken):
        parts.append(_line(family, panel, TOP + side + (index + 1) * LINE + 2))
    parts += _bars(panel["positions"], bars, width - 2 * GAP)
    parts += examples_svg(panel, report, examples, width)
    return "\n".join([*parts, "</svg>", ""])


def panel_title(panel: Data) -> str:
    """The feature, with its label or what it comes closest to, if there is either."""
    feature = f"{panel['site']}.{panel['feature']}"
    return f"{feature}: {printable(panel['name'])}" if panel["name"] else feature


def with_lift(share: float, base: float) -> str:
    """A share beside that of all tokens, and how many times that it is."""
    lift = f", lift {share / base:.2f}" if base else ""
    return f"{share:.0%}, of all {base:.0%}{lift}"


def _line(family: Data, panel: Data, y: int) -> str:
    """What is true as a line of text: the concepts whose share is furthest from that of all."""
    name, concepts = family["name"], family["concepts"]
    share, base = panel["share"][name], panel["base"][name]
    order = sorted(range(len(concepts)), key=lambda at: -abs(share[at] - base[at]))
    order = order[:_SPOKEN]
    short = (f"{printable(concepts[x])} {share[x]:.0%} (of all {base[x]:.0%})" for x in order)
    whole = (f"{printable(concepts[x])}: {with_lift(share[x], base[x])}" for x in order)
    return (
        f'<text x="{GAP}" y="{y}" fill="#333"><title>{escape("; ".join(whole))}</title>'
        f"{escape(f'{name}: ' + ', '.join(short))}</text>"
    )


def _board(family: Data, panel: Data, size: int, x: int) -> list[str]:
    name = family["name"]
    share, base = panel["share"][name], panel["base"][name]
    best: dict[int, int] = {}
    for index, cell in enumerate(family["cells"]):
        if cell not in best or share[index] - base[index] > share[best[cell]] - base[best[cell]]:
            best[cell] = index
    parts = [f'<text x="{x}" y="{TOP - 6}" fill="#333">{escape(name)}</text>']
    for cell in range(size * size):
        row, column = divmod(cell, size)
        left, top = x + column * CELL, TOP + row * CELL
        place = f"{_LETTERS[row]}{column + 1}"
        fill, text = "#eee", place
        if cell in best:
            index = best[cell]
            fill = _colour(share[index] - base[index])
            text = f"{family['concepts'][index]}: {with_lift(share[index], base[index])}"
        parts.append(
            f'<rect x="{left}" y="{top}" width="{CELL}" height="{CELL}" fill="{fill}" '
            f'stroke="#bbb" stroke-width="0.5"><title>{escape(text)}</title></rect>'
        )
    return parts


def _colour(difference: float) -> str:
    """White at 0, red at 1, blue at -1."""
    end = _UP if difference > 0 else _DOWN
    depth = min(1.0, abs(difference))
    mixed = (round(255 + (one - 255) * depth) for one in end)
    return "#" + "".join(f"{one:02x}" for one in mixed)


def _bars(counts: Sequence[int], top: int, width: int) -> list[str]:
    """Bars of how many of the strongest tokens are at each position."""
    most = max(counts, default=0)
    parts = [f'<text x="{GAP}" y="{top - 4}" fill="#333">position in the sequence</text>']
    if not most:
        return parts
    step = width / len(counts)
    for position, count in enumerate(counts):
        tall = BARS * count / most
        parts.append(
            f'<rect x="{GAP + position * step:.1f}" y="{top + BARS - tall:.1f}" '
            f'width="{max(1.0, step - 1):.1f}" height="{tall:.1f}" fill="#777">'
            f"<title>position {position}: {count}</title></rect>"
        )
    return parts
