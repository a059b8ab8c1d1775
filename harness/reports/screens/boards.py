"""A feature's panel as SVG: boards of what is true where it is strongest, and when that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

Data = Mapping[str, Any]

CELL, GAP, TOP, BARS = 18, 22, 54, 70
_LETTERS = "abcdefgh"
_UP, _DOWN = (178, 24, 43), (33, 102, 172)


def panel_svg(panel: Data, report: Data) -> str:
    """One panel: the label, a board for each family with cells, and a histogram of positions.

    A cell's colour is how much more often (red) or less often (blue) the concept is true at the
    strongest tokens than at all; the share itself stands in its tooltip. Families with several
    concepts in a cell show the largest.
    """
    size = report["board_size"]
    boards = [family for family in report["families"] if size and family["cells"]]
    side = (size or 0) * CELL
    width = max(320, len(boards) * (side + GAP) + GAP)
    height = TOP + side + GAP + BARS + 2 * GAP
    title = f"{panel['site']}.{panel['feature']}: {panel['label']}"
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
    parts += _bars(panel["positions"], TOP + side + 2 * GAP, width - 2 * GAP)
    return "\n".join([*parts, "</svg>", ""])


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
            text = f"{family['concepts'][index]}: {share[index]:.0%}, of all {base[index]:.0%}"
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
