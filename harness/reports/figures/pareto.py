"""Faithfulness against what a method costs, and the front that no method beats in both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.circuits.drawing.palette import QUIET, RULE
from harness.errors import HarnessError
from harness.reports.figures.paper import LONGEST, lettering, save, sheet
from harness.reports.figures.styles import GREY, method_styles
from harness.reports.leaderboard import DEFAULT_SIZE, Line, leaderboard
from harness.runs.store.record import StoredCell

PANEL, ACROSS = (4.6, 3.5), 3
LEAST = 1e-3
"""Cost below which the clock measures nothing; such methods stand here."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Priced:
    """A method's faithfulness, half its interval's width, and its cost."""

    method: str
    control: bool
    cost: float
    value: float
    half_width: float | None


def front(points: Sequence[Point]) -> list[Point]:
    """Points (cost, value) for which no other costs at most as much and has a larger value."""
    best: list[Point] = []
    for cost, value in sorted(points, key=lambda one: (one[0], -one[1])):
        if not best or value > best[-1][1]:
            best.append((cost, value))
    return best


def plot_pareto(cells: Sequence[StoredCell], path: Path, size: float = DEFAULT_SIZE) -> None:
    """A panel for each table of the leaderboard, methods as points with intervals.

    Raises `HarnessError` without matplotlib, and where no method has both numbers.
    """
    styles = method_styles(cells)
    boards = [
        (board, points)
        for board in leaderboard(cells, size).boards
        if (points := sorted(_points(board.lines), key=lambda one: one.cost))
    ]
    if not boards:
        raise HarnessError("no finished cell has both a faithfulness at this size and a cost")
    rows, columns = -(-len(boards) // ACROSS), min(len(boards), ACROSS)
    figure = sheet(PANEL[0] * columns, PANEL[1] * rows)
    for number, (board, points) in enumerate(boards, 1):
        axes = figure.add_subplot(rows, columns, number)
        title = board.task if board.task == board.model else f"{board.task} on {board.model}"
        axes.set_title(
            lettering(title, 2 * LONGEST), fontsize="medium", loc="left", parse_math=False
        )
        for place, one in enumerate(points):
            style = GREY if one.control else styles[one.method]
            axes.errorbar(
                one.cost,
                one.value,
                one.half_width,
                color=style.colour,
                marker=style.marker,
                capsize=2,
            )
            _name(axes, one, style.colour, place % 2)
        steps = front([(one.cost, one.value) for one in points])
        axes.step(
            [x for x, _ in steps], [y for _, y in steps], where="post", color=QUIET, lw=0.8, ls=":"
        )
        axes.set_xscale("log")
        axes.set_xlim(points[0].cost / 3, points[-1].cost * 3)
        axes.xaxis.set_minor_formatter("")
        axes.margins(y=0.12)
        axes.set_xlabel("cost (forward+backwards of the model)")
        axes.set_ylabel(f"faithfulness at {100 * size:g}% kept")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=RULE, linewidth=0.5)
    save(figure, path)


def _points(lines: Iterable[Line]) -> Iterator[Priced]:
    for line in lines:
        value = None if line.faithfulness is None else line.faithfulness.value
        if line.kind in ("method", "control") and line.cost_fb is not None and value is not None:
            assert line.faithfulness is not None
            half = line.faithfulness.half_width
            yield Priced(line.method, line.kind == "control", max(LEAST, line.cost_fb), value, half)


def _name(axes: Any, one: Priced, colour: str, below: int) -> None:
    """Beside its point, above it or below it: neighbours along the axis alternate."""
    axes.annotate(
        lettering(one.method),
        (one.cost, one.value),
        xytext=(5, -12 if below else 4),
        textcoords="offset points",
        color=colour,
        fontsize="small",
        parse_math=False,
    )
