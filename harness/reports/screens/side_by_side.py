"""Circuits of different elements side by side: edges of one model, channels of another.

They have tables of their own, whose ranks are not comparable. What is: `bits`, the length of a
message that names the circuit among all of its space. `measured` is the measure of the target that
circuits were searched for, on the test pairs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.metrics.sparsity import bits
from harness.reports.leaderboard import Board, Line
from harness.reports.results import has_targets, total_of, unit_of
from harness.reports.text import columns_wide, elided, number, plus_minus

LEVEL = "0.95"
"""Faithfulness at which circuits of a grid of sizes stand here: of the smallest so faithful."""

_EXPENDABLE = ("KL ↓", "ablation", "seeds")
_SHORTEST = 12

LEGEND = (
    "ranks hold within a table; circuits of different elements are compared by bits, at what they "
    "reach (– where more than half of the elements are kept: bits then name what is left out)"
)


@dataclass(frozen=True)
class SideBySide:
    """A task's circuits of two granularities or more: a title, headings and lines of texts."""

    title: str
    headers: list[str]
    lines: list[list[str]]

    @property
    def left(self) -> list[int]:
        """Columns that hold no numbers."""
        names = ("circuits of", "method", "reaches", "ablation")
        return [place for place, name in enumerate(self.headers) if name in names]

    def within(self, width: int | None) -> SideBySide:
        """The same in at most so many columns of a terminal, as far as leaving out helps."""
        table = self
        for name in _EXPENDABLE:
            if width is None or table._wide() <= width:
                return table
            table = table._without(name)
        if width is None or (excess := table._wide() - width) <= 0:
            return table
        return table._elided(excess)

    def _wide(self) -> int:
        rows = [self.headers, *self.lines]
        return 1 + sum(3 + max(map(columns_wide, column)) for column in zip(*rows, strict=True))

    def _without(self, name: str) -> SideBySide:
        if name not in self.headers:
            return self
        place = self.headers.index(name)
        rows = [[*row[:place], *row[place + 1 :]] for row in (self.headers, *self.lines)]
        return SideBySide(self.title, rows[0], rows[1:])

    def _elided(self, excess: int) -> SideBySide:
        """The first column, which names models, cut in the middle."""
        most = max(_SHORTEST, max(columns_wide(row[0]) for row in self.lines) - excess)
        lines = [[elided(row[0], most), *row[1:]] for row in self.lines]
        return SideBySide(self.title, self.headers, lines)


def side_by_side(boards: Sequence[Board]) -> list[SideBySide]:
    """One table for each task that has circuits of different elements, in the order of the boards.

    Smoke runs and tables without a result are left out.
    """
    by_task: dict[str, list[Board]] = {}
    for board in boards:
        if board.facts is not None and board.limit is None:
            by_task.setdefault(board.task, []).append(board)
    return [
        _table(task, group)
        for task, group in by_task.items()
        if len({_unit(board) for board in group}) > 1
    ]


def _unit(board: Board) -> str:
    assert board.facts is not None
    return unit_of(board.facts)


def _table(task: str, boards: Sequence[Board]) -> SideBySide:
    rows = [row for board in boards for row in _rows(board, _elements(board, boards))]
    ablations = {board.facts["choices"]["ablation"] for board in boards if board.facts is not None}
    headers = [
        *("circuits of", "method", "reaches", "ablation"),
        *("elements", "bits ↓", "weights", "measured", "f ↑", "KL ↓", "seeds"),
    ]
    units = list(dict.fromkeys(map(_unit, boards)))
    title = f"{task}: {', '.join(units[:-1])} and {units[-1]}"
    table = SideBySide(title, headers, rows)
    if len(ablations) == 1:
        table = table._without("ablation")
    for place, name in enumerate(headers):
        if not any(row[place] for row in rows):
            table = table._without(name)
    return table


def _elements(board: Board, boards: Sequence[Board]) -> str:
    """What a board's circuits are made of, and what tells it from others that have the same."""
    alike = [one for one in boards if (_unit(one), one.model) == (_unit(board), board.model)]
    changes = [_changes(one) for one in alike]
    own = [one for one in _changes(board) if any(one not in others for others in changes)]
    # These are known by their values.
    words = [re.sub(r"^(dictionary|component|ablation) ", "", one) for one in own]
    return f"{_unit(board)} of {board.model}" + (f": {', '.join(words)}" if words else "")


def _changes(board: Board) -> list[str]:
    """What the suite changed, but for the elements and for numbers: `ablation zero`, …"""
    changes = re.split(r", (?![^(]*\))", board.variant)  # no comma of a list of sizes
    left_out = ("granularity", "sizes", "counts", "targets", "discovery_pairs", "test_pairs")
    return [one for one in changes if one and one.split()[0] not in left_out]


def _rows(board: Board, elements: str) -> Iterator[list[str]]:
    """Its methods, the smallest circuits first and those that reach nothing last."""
    facts = board.facts
    assert facts is not None
    measured = [line for line in board.lines if line.kind in ("method", "control") and line.reach]
    sizes = {id(line): _size(board, line) for line in measured}

    def place(line: Line) -> float:
        size = sizes[id(line)]
        return math.inf if size is None else size

    targets, total = has_targets(facts), total_of(facts)
    for line in sorted(measured, key=place):
        size, least = sizes[id(line)], "≤ " if not targets and line.reach_from == "grid" else ""
        estimates = (line.faithfulness, line.kl) if targets else (None, None)
        yield [
            elements,
            f"{line.method} (control)" if line.kind == "control" else line.method,
            board.at if targets else f"f≥{LEVEL}",
            str(facts["choices"]["ablation"]),
            "–" if size is None else f"{'all ' if size == total else least}{size}",
            "–" if size is None or 2 * size > total else f"{least}{bits(size, total):.1f}",
            number(line.weights, 0) if targets else "",
            number(line.goal, 3),
            *(
                "" if one is None else plus_minus(one.value, one.half_width, compact=True)
                for one in estimates
            ),
            f"{line.seeds_done}/{line.seeds_all}",
        ]


def _size(board: Board, line: Line) -> int | None:
    """Elements of the circuit that stands here; None if none reaches what was asked for."""
    if board.facts is not None and has_targets(board.facts):
        return line.size
    return None if line.reach is None else line.reach[LEVEL]
