"""Where the true circuit is known: how well methods find it, in one table per set of choices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from statistics import fmean
from typing import TYPE_CHECKING, Any

from harness.spec.types import CHOICES

if TYPE_CHECKING:
    from harness.reports.leaderboard import Board, Line

Result = Mapping[str, Any]
COLUMNS = ("AUROC ↑", "AP ↑", "F1 ↑", "exact ↑")


@dataclass(frozen=True)
class Known:
    """Means over seeds of `known` in `result.json`; `exact` counts the seeds that were exact."""

    size: int  # true edges
    auroc: float | None
    average_precision: float | None
    f1: float | None
    exact: int
    seeds: int

    def fields(self) -> list[str]:
        """As the columns of a table."""
        shown = (self.auroc, self.average_precision, self.f1)
        return [*("" if x is None else f"{x:.3f}" for x in shown), f"{self.exact}/{self.seeds}"]

    def record(self) -> dict[str, float | int | None]:
        """For CSV and JSON."""
        return {
            "auroc": self.auroc,
            "average_precision": self.average_precision,
            "f1": self.f1,
            "exact": self.exact,
        }


NOTHING: Mapping[str, None] = dict.fromkeys(("auroc", "average_precision", "f1", "exact"))


def known_of(results: Sequence[Result]) -> Known | None:
    """What the results of one method say, or None without a true circuit."""
    found = [result["ground_truth"] for result in results if result["ground_truth"] is not None]
    if not found:
        return None

    def mean(name: str) -> float | None:
        return _mean([known[name] for known in found if known[name] is not None])

    return Known(
        found[0]["size"],
        mean("auroc"),
        mean("average_precision"),
        mean("f1"),
        sum(known["exact"] for known in found),
        len(found),
    )


@dataclass(frozen=True)
class KnownTable:
    """AUROC of every method on every task under the same choices, and how many seeds are exact.

    `choices`: of the choices (`CHOICES`) and the metric, those that tell this table from the
    others; empty where it is the only one.
    """

    choices: Mapping[str, str]
    headers: list[str]
    lines: list[list[str]]

    @property
    def title(self) -> str:
        """Heading, with what is particular to the table."""
        words = "".join(f", {name} {value}" for name, value in self.choices.items())
        return f"AUROC on known circuits{words} (seeds that are exact)"


def known_tables(boards: Sequence[Board]) -> list[KnownTable]:
    """One table per set of choices, methods by their mean AUROC, tasks in the order of the boards.

    A mean is over the tasks on which AUROC is there; where it lacks some, their number follows.
    """
    groups: dict[tuple[str, ...], list[Board]] = {}
    for board in boards:
        if board.facts is None or board.limit is not None:
            continue
        if any(line.known for line in board.lines):
            groups.setdefault(_conditions(board.facts), []).append(board)
    differing = [len(set(values)) > 1 for values in zip(*groups, strict=True)]
    return [
        _table(dict(compress(zip(_CONDITIONS, values, strict=True), differing)), group)
        for values, group in groups.items()
    ]


_CONDITIONS = (*CHOICES, "metric")


def _conditions(facts: Result) -> tuple[str, ...]:
    return (*(facts["choices"][name] for name in CHOICES), facts["metric"])


def _table(choices: Mapping[str, str], boards: Sequence[Board]) -> KnownTable:
    found: dict[str, dict[int, Known]] = {}
    for place, board in enumerate(boards):
        for line in board.lines:
            if line.known is not None:
                found.setdefault(_name(line), {})[place] = line.known
    aurocs = {name: _aurocs(row.values()) for name, row in found.items()}
    order = sorted(found, key=lambda name: (-(_mean(aurocs[name]) or 0.0), name))
    places = range(len(boards))
    return KnownTable(
        choices,
        ["method", *(_title(board) for board in boards), "mean"],
        [
            [name, *(_cell(found[name].get(i)) for i in places), _over(aurocs[name], len(boards))]
            for name in order
        ],
    )


def _name(line: Line) -> str:
    return f"{line.method} (control)" if line.kind == "control" else line.method


def _title(board: Board) -> str:
    size = next(line.known.size for line in board.lines if line.known is not None)
    edges = "" if board.facts is None else f" {size}/{board.facts['total']}"
    return f"{board.task}{edges}"


def _cell(known: Known | None) -> str:
    return "" if known is None else f"{_number(known.auroc)} ({known.exact}/{known.seeds})"


def _aurocs(row: Iterable[Known]) -> list[float]:
    return [known.auroc for known in row if known.auroc is not None]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _over(values: Sequence[float], tasks: int) -> str:
    """The mean, and over how many of the tasks it is where some are missing."""
    missing = f" ({len(values)}/{tasks} tasks)" if len(values) < tasks else ""
    return f"{_number(_mean(values))}{missing}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
