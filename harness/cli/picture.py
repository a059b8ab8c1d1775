"""Draw the README's picture from the results of the quickstart suite: `make picture`.

A prompt pair, the leaderboard of its task, how faithful circuits of every size are, and the best
method's circuit, all as the harness computed them. The picture is SVG that stands alone, with
colours for light and dark pages.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import harness
from harness.circuits.circuit import Circuit
from harness.circuits.drawing.draw import kept_drawing
from harness.circuits.drawing.layout import row_of
from harness.circuits.drawing.palette import (
    CONTROL,
    INK,
    NEGATIVE,
    PANEL,
    PAPER,
    POSITIVE,
    QUIET,
    RULE,
)
from harness.circuits.drawing.parts import NODE, DrawnNode, curve_between
from harness.circuits.drawing.shapes import look
from harness.cli.say import say
from harness.disk import write
from harness.reports.columns import Column, Layout, columns_for
from harness.reports.figures.styles import method_styles
from harness.reports.leaderboard import Board, Line, leaderboard
from harness.reports.screens.columns import token
from harness.reports.text import hypertext
from harness.runs.prompts.words import pair_in_words
from harness.runs.services.lookup import find_circuit
from harness.runs.store.record import StoredCell, find_run, load_cells

WIDTH, MARGIN, GAP = 980, 1, 14
LEFT = 470
"""Width of the column of tables, in pixels."""
PROMPT, TABLE, CURVES = 96, 230, 230
SIZE = 0.1
MARK = "#cfe6f5"
MONO = 'font-family="ui-monospace, Menlo, Consolas, monospace"'
BOLD = 'font-weight="bold"'
COLUMNS = ("rank", "method", "cmd", "size_at_0.95", "faithfulness", "cost")
FIELDS = (12, 40, 268, 326, 412, 458)
"""Where columns begin (the first two) or end, in pixels."""

DARK = {
    **{INK: "#e8ebee", QUIET: "#aab3bc", RULE: "#3b434b", PANEL: "#1a1e22", PAPER: "#22272c"},
    **{"#0072b2": "#5cb8f0", "#c44f00": "#ff9552", "#009e73": "#3ecfa3", "#000000": "#e8ebee"},
    **{CONTROL: "#98a1aa", MARK: "#274b63", "#56b4e9": "#9ad4f7", "#6f6f6f": "#b8b8b8"},
}
"""What colours become on a dark page."""


class Sheet:
    """SVG elements with their places; texts are escaped."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def box(self, x: float, y: float, w: float, h: float, fill: str, line: str = "none") -> None:
        """A rounded rectangle."""
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" rx="5" '
            f'fill="{fill}" stroke="{line}"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        colour: str = INK,
        size: float = 12,
        anchor: str = "start",
        more: str = "",
    ) -> None:
        """A line of text; `more`: other attributes."""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{colour}" '
            f'text-anchor="{anchor}" {more}>{hypertext(text)}</text>'
        )

    def path(self, data: str, colour: str, width: float, more: str = "") -> None:
        """A line that is not filled."""
        self.parts.append(
            f'<path d="{data}" fill="none" stroke="{colour}" stroke-width="{width:g}" {more}/>'
        )

    def card(self, x: float, y: float, w: float, h: float, title: str) -> None:
        """A panel with its title."""
        self.box(x, y, w, h, PAPER, RULE)
        self.text(x + 12, y + 21, title, size=13, more=BOLD)

    def svg(self, width: float, height: float, title: str) -> str:
        """The whole picture."""
        dark = "".join(
            f'[{name}="{light}"]{{{name}:{colour}}}'
            for light, colour in DARK.items()
            for name in ("fill", "stroke")
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
            f'width="{width:g}" height="{height:g}" role="img" '
            'font-family="system-ui, Helvetica, Arial, sans-serif">\n'
            f"<title>{hypertext(title)}</title>\n"
            f"<style>@media (prefers-color-scheme: dark) {{{dark}}}</style>\n"
            + "\n".join(self.parts)
            + "\n</svg>\n"
        )


# ---------------------------------------------------------------- the prompt
def draw_prompt(sheet: Sheet, task: harness.OpenTask, y: float) -> None:
    """The shortest of the first pairs: both prompts, what differs, and the answers."""
    pairs = harness.prompt_pairs(task)
    row = int(pairs.lengths[:32].argmin())
    pair = pair_in_words(pairs, row, pairs.outputs)
    sheet.card(MARGIN, y, WIDTH - 2 * MARGIN, PROMPT, f"A prompt pair of {task.name}")
    read = pair["reads"][0]
    for name, answers, below in (("clean", read["good"], 50), ("corrupted", read["bad"], 78)):
        x, line = 96.0, y + below
        sheet.text(MARGIN + 12, line, name, colour=QUIET)
        for at, word in enumerate(map(token, pair[name])):
            wide = 7.4 * len(word)
            if at in pair["differ"]:
                sheet.box(x - 4, line - 14, wide + 8, 19, MARK)
            sheet.text(x, line, word, more=MONO)
            x += wide + 7.4
        said = "right answer" if name == "clean" else "wrong answer"
        sheet.text(WIDTH - 90, line, said, colour=QUIET, anchor="end")
        sheet.text(WIDTH - 80, line, token(answers[0]), more=f'{MONO} font-weight="bold"')


# ---------------------------------------------------------------- the table
def draw_table(sheet: Sheet, board: Board, y: float) -> None:
    """Its usual columns but for the last ones."""
    facts = board.facts
    assert facts is not None
    title = f"Leaderboard: {facts['total']} edges, {facts['n_examples']} test pairs"
    sheet.card(MARGIN, y, LEFT, TABLE, title)
    columns, _ = columns_for(board, Layout(columns=COLUMNS))
    for column, x in zip(columns, FIELDS, strict=True):
        anchor = "start" if column.left else "end"
        sheet.text(x, y + 46, column.heading, colour=QUIET, size=11, anchor=anchor, more=BOLD)
    for place, line in enumerate(board.lines):
        below = y + 69 + 24 * place
        sheet.path(f"M12 {below - 16:.1f}H{LEFT - 10}", RULE, 1)
        draw_line(sheet, line, columns, below)


def draw_line(sheet: Sheet, line: Line, columns: Sequence[Column], y: float) -> None:
    """A line of the leaderboard."""
    colour = INK if line.kind == "method" else QUIET
    for column, x in zip(columns, FIELDS, strict=True):
        bold = BOLD if line.rank == 1 and column.name == "method" else ""
        text = column.text(line)
        anchor = "start" if column.left else "end"
        sheet.text(x, y, text, colour=colour, anchor=anchor, more=bold)


# ---------------------------------------------------------------- the curves
def draw_curves(sheet: Sheet, cells: Sequence[StoredCell], y: float) -> None:
    """Mean faithfulness over seeds against the share of edges, on a log axis."""
    sheet.card(MARGIN, y, LEFT, CURVES, "Faithfulness of circuits of every size")
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for cell in cells:
        if cell.result is not None:
            groups.setdefault(cell.entry.method, []).append(cell.result)
    curves = {
        method: [
            (points[0]["size_requested"], fmean(one["faithfulness"]["value"] for one in points))
            for points in zip(*(one["curve"] for one in results), strict=True)
        ]
        for method, results in groups.items()
    }
    sizes = [size for size, _ in next(iter(curves.values()))]
    left, right, top, bottom = 44.0, LEFT - 170.0, y + 40, y + CURVES - 38

    def at(size: float, value: float) -> tuple[float, float]:
        along = math.log(size / sizes[0]) / math.log(sizes[-1] / sizes[0])
        return left + (right - left) * along, bottom - (bottom - top) * min(1, max(0, value))

    for value in (0.0, 0.5, 1.0):
        _, line = at(1, value)
        sheet.path(f"M{left} {line:.1f}H{right}", RULE, 1)
        sheet.text(left - 6, line + 4, f"{value:g}", colour=QUIET, size=10, anchor="end")
    for size in sizes:
        if math.log10(size).is_integer():
            label = f"{100 * size:g} %"
            sheet.text(at(size, 0)[0], bottom + 15, label, colour=QUIET, size=10, anchor="middle")
    middle = (left + right) / 2
    sheet.text(middle, bottom + 30, "of the edges kept", colour=QUIET, size=10, anchor="middle")
    styles = method_styles(cells)
    last = {method: curve[len(curve) * 2 // 3][1] for method, curve in curves.items()}
    for place, method in enumerate(sorted(curves, key=lambda one: -last[one])):
        style = styles.get(method)
        colour = CONTROL if style is None else style.colour
        points = (at(*one) for one in curves[method])
        dashes = "" if style is not None and style.line == "-" else 'stroke-dasharray="5 3"'
        data = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
        sheet.path(data, colour, 2, dashes)
        key = y + 52 + 22 * place
        sheet.path(f"M{right + 14:.1f} {key - 4:.1f}h18", colour, 3, dashes)
        sheet.text(right + 38, key, method, size=11)


# ---------------------------------------------------------------- the circuit
def draw_circuit(sheet: Sheet, circuit: Circuit, x: float, y: float, high: float) -> None:
    """What it keeps, in layers from bottom to top."""
    drawing = kept_drawing(circuit)
    wide = WIDTH - MARGIN - x
    method = circuit.source.get("method", "")
    title = f"The circuit: {circuit.size} of {len(circuit.space)} edges, by {method}"
    sheet.card(x, y, wide, high, title)
    sheet.box(x + 8, y + 34, wide - 16, high - 64, PANEL)
    rows = sorted({row_of(node.name)[0] for node in drawing.nodes})
    step = (high - 64 - NODE - 20) / (len(rows) - 1)

    def moved(node: DrawnNode) -> DrawnNode:
        centre = x + 8 + (node.x + node.width / 2) * (wide - 16) / drawing.width
        width = min(node.width, 62)
        row = rows.index(row_of(node.name)[0])
        return replace(node, x=centre - width / 2, width=width, y=y + high - 62 - row * step)

    nodes = {node.name: moved(node) for node in drawing.nodes}
    for edge in reversed(drawing.elements):
        one, other = nodes[edge.source], nodes[edge.target]
        colour, dashed = look(edge)
        dashes = ' stroke-dasharray="6 3"' if dashed else ""
        data = curve_between(one, other, digits=1)
        sheet.path(data, colour, edge.width, f'stroke-opacity="0.75"{dashes}')
    for node in nodes.values():
        sheet.box(node.x, node.y, node.width, NODE, PAPER, INK if node.used else RULE)
        place, colour = node.x + node.width / 2, INK if node.used else QUIET
        sheet.text(place, node.y + 15, node.name, colour=colour, size=11, anchor="middle")
    below = y + high - 11
    sheet.text(x + 12, below, "positive score", colour=POSITIVE, size=11)
    if any(look(edge)[1] for edge in drawing.elements):
        sheet.text(x + 104, below, "negative score, dashed", colour=NEGATIVE, size=11)
    sheet.text(x + wide - 12, below, "wider: larger |score|", colour=QUIET, size=11, anchor="end")


def picture(results: Path, run: str, name: str) -> str:
    """The picture of one task of a run. Raises `HarnessError` where the run has none of it."""
    cells = [
        cell
        for cell in load_cells(find_run(results, run))
        if (cell.entry.task, cell.entry.variant) == (name, "")
    ]
    boards = leaderboard(cells, SIZE).boards
    if not boards or (best := next((x for x in boards[0].lines if x.rank == 1), None)) is None:
        raise harness.HarnessError(f"run {run} has no ranked circuits of {name}: run it first")
    (first, *_) = (cell for cell in cells if cell.entry.method == best.method)
    named = f"{run}:{first.entry.id}"
    scores = find_circuit(results, named).circuit.scores
    circuit = replace(find_circuit(results, named, SIZE).circuit, scores=scores)
    sheet, below = Sheet(), MARGIN + PROMPT + GAP
    draw_prompt(sheet, harness.load_task(name), MARGIN)
    draw_table(sheet, boards[0], below)
    draw_curves(sheet, cells, below + TABLE + GAP)
    high = TABLE + GAP + CURVES
    draw_circuit(sheet, circuit, MARGIN + LEFT + GAP, below, high)
    title = f"A prompt pair of {name}, its leaderboard, faithfulness curves and best circuit"
    return sheet.svg(WIDTH, below + high + MARGIN, title)


def main(arguments: list[str] | None = None) -> int:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", default="quickstart")
    parser.add_argument("--task", default="ioi")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("-o", "--output", type=Path, default=Path("results/picture.svg"))
    chosen = parser.parse_args(arguments)
    try:
        text = picture(chosen.results, chosen.run, chosen.task)
    except harness.HarnessError as error:
        say(f"error: {error}", err=True)
        return error.exit_code
    write(chosen.output, text.encode())
    say(f"wrote {chosen.output}", err=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
