"""Where the true circuit is known: how well methods find it, in one table per ablation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

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
    found = [result["known"] for result in results if result["known"] is not None]
    if not found:
        return None

    def mean(name: str) -> float | None:
        values = [known[name] for known in found if known[name] is not None]
        return fmean(values) if values else None

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
    """AUROC of every method on every task under one ablation, and in how many seeds it is exact."""

    ablation: str
    headers: list[str]
    lines: list[list[str]]


def known_tables(boards: Sequence[Board]) -> list[KnownTable]:
    """One table per ablation, methods by their mean AUROC, tasks in the order of the boards."""
    groups: dict[str, list[Board]] = {}
    for board in boards:
        if board.facts is None or board.limit is not None:
            continue
        if any(line.known for line in board.lines):
            groups.setdefault(board.facts["choices"]["ablation"], []).append(board)
    return [_table(ablation, group) for ablation, group in groups.items()]


def _table(ablation: str, boards: Sequence[Board]) -> KnownTable:
    found: dict[str, dict[int, Known]] = {}
    for place, board in enumerate(boards):
        for line in board.lines:
            if line.known is not None:
                found.setdefault(_name(line), {})[place] = line.known
    means = {name: _mean(list(row.values())) for name, row in found.items()}
    order = sorted(found, key=lambda name: (-(means[name] or 0.0), name))
    return KnownTable(
        ablation,
        ["method", *(_title(board) for board in boards), "mean"],
        [
            [name, *(_cell(found[name].get(i)) for i in range(len(boards))), _number(means[name])]
            for name in order
        ],
    )


def _name(line: Line) -> str:
    return f"{line.method} (control)" if line.kind == "control" else line.method


def _title(board: Board) -> str:
    size = next(line.known.size for line in board.lines if line.known is not None)
    edges = "" if board.facts is None else f" {size}/{board.facts['edges_total']}"
    return f"{board.task}{edges}"


def _cell(known: Known | None) -> str:
    return "" if known is None else f"{_number(known.auroc)} ({known.exact}/{known.seeds})"


def _mean(row: Sequence[Known]) -> float | None:
    values = [known.auroc for known in row if known.auroc is not None]
    return fmean(values) if values else None


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
