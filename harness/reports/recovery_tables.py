"""How well methods recover true circuits, over all tasks: one table per set of choices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

from harness.reports.ground_truth import Recovery, mean_or_none
from harness.reports.leaderboard import Board, Line
from harness.reports.results import Result, total_of
from harness.spec.types import CHOICES, chosen


@dataclass(frozen=True)
class RecoveryTable:
    """AUROC of every method on every task under the same choices, and how many seeds are exact.

    `choices`: of the choices (`CHOICES`) and the metric, those that distinguish this table from
    the others; empty where it is the only one.
    """

    choices: Mapping[str, str]
    headers: list[str]
    lines: list[list[str]]

    @property
    def title(self) -> str:
        """The heading, with the choices that distinguish the table."""
        words = "".join(f", {name} {value}" for name, value in self.choices.items())
        return f"AUROC on known circuits{words} (seeds that are exact)"


def recovery_tables(boards: Sequence[Board]) -> list[RecoveryTable]:
    """One table per set of choices, methods by their mean AUROC, tasks in the order of the boards.

    A mean is over the tasks where AUROC is defined; their number follows if some are missing.
    """
    groups: dict[tuple[str, ...], list[Board]] = {}
    for board in boards:
        if board.facts is None or board.limit is not None:
            continue
        if any(line.recovery for line in board.lines):
            groups.setdefault(_conditions(board.facts), []).append(board)
    differing = [len(set(values)) > 1 for values in zip(*groups, strict=True)]
    return [
        _table(dict(compress(zip(_CONDITIONS, values, strict=True), differing)), group)
        for values, group in groups.items()
    ]


_CONDITIONS = (*CHOICES, "metric")


def _conditions(facts: Result) -> tuple[str, ...]:
    return (*(chosen(facts["choices"], name) for name in CHOICES), facts["metric"])


def _table(choices: Mapping[str, str], boards: Sequence[Board]) -> RecoveryTable:
    recoveries: dict[str, dict[int, Recovery]] = {}
    for place, board in enumerate(boards):
        for line in board.lines:
            if line.recovery is not None:
                recoveries.setdefault(_name(line), {})[place] = line.recovery
    aurocs = {name: _aurocs(row.values()) for name, row in recoveries.items()}
    order = sorted(recoveries, key=lambda name: (-(mean_or_none(aurocs[name]) or 0.0), name))
    places = range(len(boards))
    return RecoveryTable(
        choices,
        ["method", *(_title(board) for board in boards), "mean"],
        [
            [
                name,
                *(_cell(recoveries[name].get(i)) for i in places),
                _over(aurocs[name], len(boards)),
            ]
            for name in order
        ],
    )


def _name(line: Line) -> str:
    return f"{line.method} (control)" if line.kind == "control" else line.method


def _title(board: Board) -> str:
    size = next(line.recovery.true_edges for line in board.lines if line.recovery is not None)
    edges = "" if board.facts is None else f" {size}/{total_of(board.facts)}"
    return f"{board.task}{edges}"


def _cell(one: Recovery | None) -> str:
    return "" if one is None else f"{_number(one.auroc)} ({one.exact}/{one.seeds})"


def _aurocs(row: Iterable[Recovery]) -> list[float]:
    return [one.auroc for one in row if one.auroc is not None]


def _over(values: Sequence[float], tasks: int) -> str:
    """The mean, and over how many of the tasks it is where some are missing."""
    missing = f" ({len(values)}/{tasks} tasks)" if len(values) < tasks else ""
    return f"{_number(mean_or_none(values))}{missing}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
