"""Places by CMD within a table, and mean ranks over tasks with circuits of the same elements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from harness.reports.results import unit_of

if TYPE_CHECKING:
    from harness.reports.leaderboard import Board, Line
    from harness.reports.resample import Estimate


def rank(lines: Sequence[Line]) -> list[Line]:
    """Rank complete methods by CMD, least first, on the point estimates.

    The tie rule: go through the methods from the best. The best one opens a group; each next
    method whose 95 % interval overlaps that of the method that opened the group joins it, and
    the first one that does not opens the next group. All of a group have the rank of the method
    that opened it (1, 1, 3, …); groups of two or more are marked `≈`. Overlap is always tested
    against the opener, so a chain of small steps never ties the first with the last. Controls,
    sanity lines, smoke runs, methods with a missing seed, and circuits that a method settled on
    where others are cut from its scores have no rank.
    """
    able = [line for line in lines if _can_rank(line)]
    groups: list[list[Line]] = []
    for line in sorted(able, key=order):
        if groups and _overlap(groups[-1][0], line):
            groups[-1].append(line)
        else:
            groups.append([line])
    places: dict[str, tuple[int, bool]] = {}
    before = 0
    for group in groups:
        places |= {line.method: (before + 1, len(group) > 1) for line in group}
        before += len(group)
    return [
        replace(line, rank=places[line.method][0], tied=places[line.method][1])
        if _can_rank(line)
        else line
        for line in lines
    ]


def _can_rank(line: Line) -> bool:
    settled = line.settled is not None
    return line.kind == "method" and line.complete and not settled and _cmd(line) is not None


def _cmd(line: Line) -> Estimate | None:
    estimate = None if line.areas is None else line.areas["cmd"]
    return None if estimate is None or estimate.value is None else estimate


def order(line: Line) -> tuple[float, str]:
    """By CMD, those without one last."""
    estimate = _cmd(line)
    value = math.inf if estimate is None or estimate.value is None else estimate.value
    return value, line.method


def _overlap(best: Line, line: Line) -> bool:
    a, b = _cmd(best), _cmd(line)
    if a is None or b is None:
        return False
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return True  # without an interval nothing shows that they differ
    return b.low <= a.high and a.low <= b.high


class MeanRanks(NamedTuple):
    """Method, mean of its ranks, and number of tasks that it has a rank in, best first.

    `tasks`: those with a table that ranks circuits of this `unit` (edges, channels, …).
    """

    unit: str
    methods: tuple[tuple[str, float, int], ...]
    tasks: int


def mean_ranks(boards: Sequence[Board]) -> tuple[MeanRanks, ...]:
    """Mean ranks in the tables of each unit, in order of first appearance.

    Tables of different elements have other methods and other models: no mean is over both.
    """
    units: dict[str, list[Board]] = {}
    for board in boards:
        if board.facts is not None and any(line.rank is not None for line in board.lines):
            units.setdefault(unit_of(board.facts), []).append(board)
    return tuple(
        MeanRanks(unit, _mean_ranks(group), len({board.task for board in group}))
        for unit, group in units.items()
    )


def _mean_ranks(boards: Sequence[Board]) -> tuple[tuple[str, float, int], ...]:
    """A task counts once: where it has several tables (ablations, models), with their mean."""
    ranks: dict[str, dict[str, list[int]]] = {}
    for board in boards:
        for line in board.lines:
            if line.rank is not None:
                ranks.setdefault(line.method, {}).setdefault(board.task, []).append(line.rank)
    means = [
        (method, fmean(map(fmean, by_task.values())), len(by_task))
        for method, by_task in ranks.items()
    ]
    return tuple(sorted(means, key=lambda item: (-item[2], item[1], item[0])))


def mean_rank_tables(
    every: Sequence[MeanRanks],
) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, headings and lines of the mean ranks over two tasks and more."""
    return [
        (
            f"Mean rank, {ranks.unit}" if len(every) > 1 else "Mean rank",
            ["method", "mean rank ↓", "tasks"],
            [
                [name, f"{mean:.2f}", f"{tasks}/{ranks.tasks}"]
                for name, mean, tasks in ranks.methods
            ],
        )
        for ranks in every
        if ranks.tasks > 1
    ]
