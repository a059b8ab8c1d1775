"""Pictures of analyses as SVG: heat maps, bars, and graphs of parts over tokens.

The data of each kind are told in `harness.analyses.report.PictureKind`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

Data = Mapping[str, Any]

_UP, _DOWN = (178, 24, 43), (33, 102, 172)
_MARGIN, _LETTER = 14, 6.2


def picture_svg(picture: Data) -> str:
    """The SVG of a picture."""
    draw = {"heat": _heat, "bars": _bars, "graph": _graph}[picture["kind"]]
    width, height, parts = draw(picture)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif" font-size="11">',
            f'<rect width="{width:.0f}" height="{height:.0f}" fill="white"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'


def _wide(texts: Sequence[str]) -> float:
    return _LETTER * max(map(len, texts), default=0)


def _colour(value: float) -> str:
    """White at 0, red at 1, blue at -1."""
    end = _UP if value > 0 else _DOWN
    depth = min(1.0, abs(value))
    return "#" + "".join(f"{round(255 + (one - 255) * depth):02x}" for one in end)


# ---------------------------------------------------------------- heat maps
_ACROSS, _SIDE, _SMALL = 4, 14, 4
_SHADES = 24
"""Of either colour, in maps whose cells are small."""


def _heat(picture: Data) -> tuple[float, float, list[str]]:
    """Panels beside and below each other; names of rows and columns where there are any."""
    parts: list[str] = []
    x = y = float(_MARGIN)
    widest = tallest = 0.0
    for at, panel in enumerate(picture["panels"]):
        if at and at % _ACROSS == 0:
            x, y, tallest = float(_MARGIN), y + tallest + 2 * _MARGIN, 0.0
        width, height, some = _panel(panel, x, y)
        parts += some
        x += width + 2 * _MARGIN
        widest, tallest = max(widest, x), max(tallest, height)
    return widest, y + tallest + _MARGIN, parts


def _panel(panel: Data, x: float, y: float) -> tuple[float, float, list[str]]:
    values, rows, columns = panel["values"], panel["rows"], panel["columns"]
    side = _SMALL if len(values) > 16 else _SIDE
    left, top = x + _wide(rows) + 4, y + 16 + _wide(columns)
    largest = max((abs(one) for row in values for one in row), default=0) or 1
    parts = [_text(x, y + 10, panel["title"], 'font-weight="bold"')]
    for at, name in enumerate(columns):
        place = left + (at + 0.7) * side
        turned = f'transform="rotate(-90 {place:.1f} {top - 3:.1f})" fill="#333"'
        parts.append(_text(place, top - 3, name, turned))
    for at, name in enumerate(rows):
        parts.append(_text(x, top + (at + 0.75) * side, name, 'fill="#333"'))
    cells = _cells if side > _SMALL else _small_cells
    parts += cells(panel, largest, left, top)
    width, height = side * max(map(len, values), default=0), side * len(values)
    parts.append(
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width}" height="{height}" fill="none" '
        'stroke="#bbb" stroke-width="0.5"/>'
    )
    return max(left - x + width, _wide([panel["title"]])), top - y + height, parts


def _cells(panel: Data, largest: float, left: float, top: float) -> Iterator[str]:
    """A square for each value, which says what it is of."""
    rows, columns = panel["rows"], panel["columns"]
    for at, row in enumerate(panel["values"]):
        for to, value in enumerate(row):
            if value == 0:
                continue
            name = " → ".join(part for part in (rows and rows[at], columns and columns[to]) if part)
            yield (
                f'<rect x="{left + to * _SIDE:.1f}" y="{top + at * _SIDE:.1f}" width="{_SIDE}" '
                f'height="{_SIDE}" fill="{_colour(value / largest)}"><title>{escape(name)} '
                f"{value:.3g}</title></rect>"
            )


def _small_cells(panel: Data, largest: float, left: float, top: float) -> Iterator[str]:
    """A path for each shade: thousands of squares of their own would make files of megabytes."""
    squares: dict[int, list[str]] = {}
    for at, row in enumerate(panel["values"]):
        for to, value in enumerate(row):
            shade = round(_SHADES * value / largest)
            place = f"M{left + to * _SMALL:.6g} {top + at * _SMALL:.6g}"
            squares.setdefault(shade, []).append(f"{place}h{_SMALL}v{_SMALL}h-{_SMALL}z")
    for shade, some in sorted(squares.items()):
        if shade:
            yield f'<path fill="{_colour(shade / _SHADES)}" d="{"".join(some)}"/>'


# ---------------------------------------------------------------- bars
_BAR, _LONG = 15, 320


def _bars(picture: Data) -> tuple[float, float, list[str]]:
    """Bars to the right for what is positive, to the left for what is negative."""
    bars = picture["bars"]
    names = _wide([name for name, _ in bars])
    up = max((value for _, value in bars), default=0)
    down = min((value for _, value in bars), default=0)
    up, down = max(up, 0), min(down, 0)
    scale = _LONG / ((up - down) or 1)
    zero = _MARGIN + names + 8 - down * scale
    parts = [_text(_MARGIN, 18, picture["unit"], 'font-weight="bold"')]
    for at, (name, value) in enumerate(bars):
        top = 28 + at * _BAR
        parts.append(_text(_MARGIN, top + 11, name, 'fill="#333"'))
        start = zero + min(0, value) * scale
        parts.append(
            f'<rect x="{start:.1f}" y="{top + 2}" width="{abs(value) * scale:.1f}" '
            f'height="{_BAR - 4}" fill="{_colour(1 if value > 0 else -1)}"/>'
        )
        parts.append(_text(_MARGIN + names + _LONG + 16, top + 11, f"{value:+.3f}"))
    height = 28 + len(bars) * _BAR
    parts.append(
        f'<line x1="{zero:.1f}" y1="26" x2="{zero:.1f}" y2="{height}" stroke="#555" '
        'stroke-width="0.7"/>'
    )
    return _MARGIN + names + _LONG + 80, height + _MARGIN, parts


# ---------------------------------------------------------------- graphs
_CELL, _FLOOR, _NODE = 46, 74, 9


def _graph(picture: Data) -> tuple[float, float, list[str]]:
    """Tokens from left to right, writers from below; parts of one place beside each other."""
    nodes, edges = picture["nodes"], picture["edges"]
    columns, rows = picture["columns"], picture["rows"]
    crowd: dict[tuple[int, int], int] = {}
    slots = []
    for node in nodes:
        place = node["column"], node["row"]
        slots.append(crowd.get(place, 0))
        crowd[place] = slots[-1] + 1
    deep = {
        row: max((n for (_, y), n in crowd.items() if y == row), default=1)
        for row in range(len(rows))
    }
    tall = [max(_FLOOR, 24 + _NODE * deep[row]) for row in range(len(rows))]
    left, height = _MARGIN + _wide(rows) + 12, sum(tall) + 3 * _MARGIN
    bottoms = [height - 2 * _MARGIN - sum(tall[:row]) for row in range(len(rows))]
    points = [
        (left + (node["column"] + 0.5) * _CELL, bottoms[node["row"]] - 10 - _NODE * slot)
        for node, slot in zip(nodes, slots, strict=True)
    ]
    largest = max((abs(weight) for *_, weight in edges), default=0) or 1
    parts = [
        _text(_MARGIN, bottom - 10, name, 'fill="#333"')
        for name, bottom in zip(rows, bottoms, strict=True)
    ]
    parts += [
        _text(left + (at + 0.2) * _CELL, height - _MARGIN, name, 'fill="#333"')
        for at, name in enumerate(columns)
    ]
    for source, into, weight in edges:
        (x, y), (to_x, to_y) = points[source], points[into]
        share = abs(weight) / largest
        middle = (y + to_y) / 2
        parts.append(
            f'<path d="M{x:.1f} {y:.1f}C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} '
            f'{to_y:.1f}" fill="none" stroke="{_colour(1 if weight > 0 else -1)}" '
            f'stroke-opacity="{0.15 + 0.6 * share:.2f}" stroke-width="{0.4 + 3 * share:.2f}"/>'
        )
    for node, (x, y) in zip(nodes, points, strict=True):
        title = f"{node['name']} {node['text']} {node['weight']:+.3f}"
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4" fill="{_colour(node["tint"])}" '
            f'stroke="#333" stroke-width="0.6"><title>{escape(title)}</title></circle>'
        )
        if node["text"]:
            parts.append(_text(x + 5, y + 3, node["text"], 'font-size="6" fill="#333"'))
    return left + (len(columns) + 1.5) * _CELL, height, parts
