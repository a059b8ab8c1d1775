"""Examples of a feature's panel as SVG: the board, if there is one, and the tokens before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from harness.spec.printable import printable

Data = Mapping[str, Any]

LINE, CELL, GAP = 14, 18, 22
_LETTER = 6
"""Width of a letter of usual text, roughly; SVG cannot say it."""


class BoardSigns:
    """Which families are drawn on a board of an example, and how: of each their names.

    `filled` and `open`: discs, of two families that are each other's opposite. `dots`: what else
    says what the position is. `framed`: other families, where they are true of a cell with a disc:
    so is the move that was just played, and no cell that is empty.
    """

    def __init__(self, families: Sequence[Data]) -> None:
        placed = [family for family in families if family["cells"]]
        boards = [family for family in placed if family["board"]]
        self.filled: list[str] = []
        self.open: list[str] = []
        for family in boards:
            if family["opposite"] and family["name"] not in self.open:
                self.filled.append(family["name"])
                self.open.append(family["opposite"])
        self.dots = [one["name"] for one in boards if not one["opposite"]]
        overturned = {family["changed_by"] for family in placed}
        self.framed = [
            one["name"] for one in placed if not one["board"] and one["name"] not in overturned
        ]
        self._cells = {
            family["name"]: dict(zip(family["concepts"], family["cells"], strict=True))
            for family in placed
        }

    def legend(self, examples: Sequence[Data]) -> str:
        """What the signs mean that are drawn in some examples."""
        framed = [
            name
            for name in self.framed
            if any(self.framed_cells(example, [name]) for example in examples)
        ]
        drawn = {"filled": self.filled, "open": self.open, "dot": self.dots, "framed": framed}
        return ", ".join(f"{sign}: {' or '.join(names)}" for sign, names in drawn.items() if names)

    def framed_cells(self, example: Data, names: Sequence[str] | None = None) -> set[int]:
        """The cells that all or some of the families frame; without discs wherever they are."""
        cells = self.cells(self.framed if names is None else names, example)
        return cells & self.cells(self.filled + self.open, example) if self.filled else cells

    def cells(self, names: Sequence[str], example: Data) -> set[int]:
        """The cells of which any of some families is true."""
        true = example["concepts"]
        return {self._cells[name][concept] for name in names for concept in true.get(name, ())}


def examples_height(panel: Data, size: int | None) -> int:
    """How tall `examples_svg` is; 0 without examples."""
    examples = panel["examples"]
    if not examples:
        return 0
    if size:
        return 2 * LINE + size * CELL + 3 * LINE
    return 2 * LINE + len(examples) * 2 * LINE


def examples_svg(panel: Data, report: Data, top: int, width: int) -> list[str]:
    """The examples from `top` down: boards beside each other, or lines of text, with tooltips.

    Each is a group of class `example`.
    """
    examples, size = panel["examples"], report["board_size"]
    if not examples:
        return []
    signs = BoardSigns(report["families"])
    meaning = signs.legend(examples) if size else ""
    legend = f" ({meaning})" if meaning else ""
    parts = [_text(GAP, top + LINE - 4, f"strongest tokens of sequences{legend}", "#333")]
    for index, example in enumerate(examples):
        if size:
            x, y = GAP + index * (size * CELL + GAP), top + LINE + 4
            drawn = [
                *_board(signs, example, size, x, y),
                *_caption(example, report, x, y + size * CELL, size * CELL),
            ]
        else:
            drawn = _lines(example, GAP, top + LINE + 4 + index * 2 * LINE, width - GAP)
        about = f"<title>{escape(_about(example))}</title>"
        parts += ['<g class="example">', about, *drawn, "</g>"]
    return parts


def last_tokens(example: Data, letters: int) -> str:
    """As many of the last tokens as so many letters hold, at least one; they end an example."""
    tokens = [printable(token) for token in example["tokens"]]
    if len(whole := " ".join(tokens)) <= letters:
        return whole
    kept = len(tokens) - 1
    while kept and len(" ".join(tokens[kept - 1 :])) + 2 <= letters:
        kept -= 1
    return ("… " if kept else "") + " ".join(tokens[kept:])


def _board(signs: BoardSigns, example: Data, size: int, x: int, y: int) -> list[str]:
    filled, hollow = signs.cells(signs.filled, example), signs.cells(signs.open, example)
    dots, parts = signs.cells(signs.dots, example), []
    for cell in range(size * size):
        row, column = divmod(cell, size)
        left, top = x + column * CELL, y + row * CELL
        parts.append(_square(left, top, '"#eee" stroke="#bbb" stroke-width="0.5"'))
        if cell in filled | hollow:
            parts.append(_circle(left, top, CELL // 2 - 3, "#333" if cell in filled else "white"))
        if cell in dots:
            parts.append(_circle(left, top, 2, "#777"))
    # Frames last, so that no neighbour covers them.
    for cell in sorted(signs.framed_cells(example)):
        row, column = divmod(cell, size)
        frame = '"none" stroke="#b2182b" stroke-width="2"'
        parts.append(_square(x + column * CELL, y + row * CELL, frame))
    return parts


def _caption(example: Data, report: Data, x: int, y: int, width: int) -> list[str]:
    """Three lines below a board; the last says what is true of no cell."""
    letters = width // _LETTER
    spoken = [family["name"] for family in report["families"] if not family["cells"]]
    lines = [
        _place(example),
        last_tokens(example, letters),
        _cut(", ".join(_true(example, spoken)), letters),
    ]
    return [_text(x, y + (at + 1) * LINE, line, "#555") for at, line in enumerate(lines) if line]


def _lines(example: Data, x: int, y: int, width: int) -> list[str]:
    """Two lines of text, for a task without a board."""
    letters = (width - x) // _LETTER
    place = _place(example)
    true = ", ".join(_true(example, example["concepts"])) or "no concept is true"
    tokens = last_tokens(example, letters - len(place) - 2)
    return [
        _text(x, y + LINE, f"{place}: {tokens}", "#333"),
        _text(x, y + 2 * LINE, _cut(true, letters), "#777"),
    ]


def _about(example: Data) -> str:
    """The whole example, for a tooltip."""
    true = ", ".join(_true(example, example["concepts"])) or "no concept is true"
    return f"{_place(example)}: {last_tokens(example, 10**6)}; {true}"


def _place(example: Data) -> str:
    return f"{example['strength']:.2f} at {example['position']}"


def _true(example: Data, families: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """The concepts of some families that are true."""
    return [printable(one) for name in families for one in example["concepts"][name]]


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"


def _text(x: int, y: int, text: str, fill: str) -> str:
    return f'<text x="{x}" y="{y}" fill="{fill}">{escape(text)}</text>'


def _square(left: int, top: int, fill: str) -> str:
    return f'<rect x="{left}" y="{top}" width="{CELL}" height="{CELL}" fill={fill}/>'


def _circle(left: int, top: int, radius: int, fill: str) -> str:
    x, y = left + CELL // 2, top + CELL // 2
    return f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{fill}" stroke="#333"/>'
