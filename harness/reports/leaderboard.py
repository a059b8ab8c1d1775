"""The leaderboard: per task, how good each method's circuits are, and how methods rank.

Cells belong to one table when everything but method and seed is equal: task, model, data, the
choices that define faithfulness, the machine's kind and the version of the code. Nothing else is
ever ranked together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median_low
from typing import Any, Literal

from harness.metrics.sparsity import bits
from harness.reports.ground_truth import Recovery, recovery_of
from harness.reports.resample import (
    Estimate,
    area_draws,
    chosen_measures,
    examples,
    mean_draws,
    over_seeds,
)
from harness.reports.resample import faithfulness_draws as f_draws
from harness.reports.results import (
    SizeAt,
    all_reached,
    has_targets,
    label_of,
    size_at_of,
    sizes_of,
    total_of,
)
from harness.runs.store.record import StoredCell
from harness.spec.identity import digest

LEVELS = ("0.85", "0.95", "0.99")
DEFAULT_SIZE = 0.1
WHOLE, EMPTY = "whole model", "empty circuit"

Kind = Literal["method", "control", "whole", "empty"]


@dataclass(frozen=True)
class Line:
    """One line of a table. None means: does not apply or has no value."""

    kind: Kind
    method: str
    rank: int | None = None
    tied: bool = False
    areas: Mapping[str, Estimate] | None = None  # cmd, cpr, cmd_log, cpr_log
    reach: Mapping[str, int | None] | None = None  # elements needed; None = at no size
    reach_from: SizeAt | None = None  # how `reach` was found
    size: int | None = None  # elements left at the stated size, median over seeds
    bits: float | None = None  # that name a circuit of this size
    faithfulness: Estimate | None = None  # at the stated size, as are the next two
    kl: Estimate | None = None
    accuracy: Estimate | None = None
    chosen: Mapping[str, Estimate] = field(default_factory=dict)  # what the task's `measures` add
    recovery: Recovery | None = None  # where there is a true circuit
    seconds: float | None = None
    cost_fb: float | None = None
    peak_mib: float | None = None
    seeds_done: int = 0
    seeds_all: int = 0
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every seed that was asked for has its result."""
        return self.seeds_done == self.seeds_all


@dataclass(frozen=True)
class Board:
    """The table of one task on one model."""

    task: str
    model: str
    limit: int | None  # of a smoke run: shown, never ranked
    at_size: float | None  # requested share at which faithfulness, KL and accuracy stand
    facts: Mapping[str, Any] | None  # of the caption; None when no cell has a result
    lines: tuple[Line, ...]
    variant: str = ""  # what the suite changed in the task's evaluation
    at: str = ""  # the same in words, or the target that circuits were searched for

    @property
    def chosen(self) -> tuple[str, ...]:
        """Measures that the task adds to the table."""
        return () if self.facts is None else chosen_measures(self.facts)


@dataclass(frozen=True)
class Leaderboard:
    """All tables, and each method's mean rank over those that rank."""

    boards: tuple[Board, ...]
    mean_ranks: tuple[tuple[str, float, int], ...]  # method, mean rank, number of tasks
    ranked_tasks: int


def leaderboard(cells: Sequence[StoredCell], size: float = DEFAULT_SIZE) -> Leaderboard:
    """Build the tables of all cells; equal ids (of two runs) count once."""
    boards = tuple(_board(group, size) for group in comparable_groups(cells))
    ranked = [board for board in boards if any(line.rank is not None for line in board.lines)]
    return Leaderboard(boards, _mean_ranks(ranked), len(ranked))


def comparable_groups(cells: Sequence[StoredCell]) -> list[list[StoredCell]]:
    """Groups of cells that differ only in method and seed, in order of first appearance."""
    best: dict[str, StoredCell] = {}
    for cell in cells:  # of two runs that hold a cell, the one that has its result counts
        if cell.entry.id not in best or best[cell.entry.id].result is None:
            best[cell.entry.id] = cell
    groups: dict[str, list[StoredCell]] = {}
    for cell in best.values():
        groups.setdefault(_conditions(cell), []).append(cell)
    return list(groups.values())


def _conditions(cell: StoredCell) -> str:
    entry = cell.entry
    shared = {k: v for k, v in entry.identity.items() if k not in ("method", "seed")}
    return digest([entry.task, entry.model, entry.model_id, shared])


def _board(cells: Sequence[StoredCell], size: float) -> Board:
    entry = cells[0].entry
    done = [cell for cell in cells if cell.result is not None]
    first = done[0].result if done else None
    index = None if first is None else nearest_size(first, size)
    methods: dict[tuple[str, str], list[StoredCell]] = {}
    for cell in cells:
        methods.setdefault((cell.entry.role, cell.entry.method), []).append(cell)
    lines = [_line(role, name, group, index) for (role, name), group in methods.items()]
    if entry.limit is None:
        lines = rank(lines)
    lines.sort(key=lambda line: (line.rank is None, *_order(line)))
    sanity = [] if first is None else [_whole(first), _empty(first)]
    return Board(
        task=entry.task,
        model=entry.model,
        limit=entry.limit,
        variant=entry.variant,
        at_size=None if index is None or first is None else first["curve"][index]["size_requested"],
        at="" if index is None or first is None else label_of(first["curve"][index]),
        facts=first,
        lines=(*_of_kind(lines, "method"), *sanity, *_of_kind(lines, "control")),
    )


def _of_kind(lines: Sequence[Line], kind: Kind) -> list[Line]:
    return [line for line in lines if line.kind == kind]


def nearest_size(result: Mapping[str, Any], size: float) -> int:
    """Index of the size of the grid nearest to the wanted one, by ratio; of targets the first."""
    if has_targets(result):
        return 0
    sizes = sizes_of(result)
    return min(range(len(sizes)), key=lambda i: abs(math.log(sizes[i] / size)))


def _line(role: str, method: str, cells: Sequence[StoredCell], index: int | None) -> Line:
    kind: Kind = "control" if role == "control" else "method"
    failed = [c for c in cells if c.status == "failed"]
    missing = [c for c in cells if c.status == "missing"]
    damaged = [c for c in cells if c.status == "damaged"]
    notes = [f"{len(failed)} failed"] if failed else []
    notes += [f"{len(missing)} not run"] if missing else []
    notes += [f"{len(damaged)} damaged"] if damaged else []
    line = Line(kind, method, seeds_all=len(cells), notes=tuple(notes))
    done = [cell for cell in cells if cell.result is not None]
    if not done or index is None:
        return line
    return _measured(replace(line, seeds_done=len(done)), done, index)


def _measured(line: Line, cells: Sequence[StoredCell], index: int) -> Line:
    results = [cell.result for cell in cells if cell.result is not None]
    data = [examples(cell) for cell in cells]
    areas = [area_draws(d) for d in data]
    points = [result["curve"][index] for result in results]
    size = median_low([point["size"] for point in points]) if all_reached(points) else None

    def at_size(name: str, draws: list[Any]) -> Estimate:
        return over_seeds([point[name]["value"] for point in points], draws)

    return replace(
        line,
        areas={
            name: over_seeds(
                [result["summary"][name]["value"] for result in results],
                [draws[name] for draws in areas],
            )
            for name in areas[0]
        },
        reach={
            level: _median([result["summary"][f"size_at_{level}"] for result in results])
            for level in LEVELS
        },
        reach_from=size_at_of(results),
        size=size,
        bits=None if size is None else bits(size, total_of(results[0])),
        faithfulness=at_size("faithfulness", [f_draws(d)[:, index] for d in data]),
        kl=at_size("kl", [mean_draws(d.kl[index]) for d in data]),
        accuracy=at_size("accuracy", [mean_draws(d.accuracy[index]) for d in data]),
        chosen={
            name: at_size(name, [mean_draws(d.chosen[name][index]) for d in data])
            for name in data[0].chosen
        },
        recovery=recovery_of(results),
        seconds=_mean([_timing(cell, "seconds") for cell in cells]),
        cost_fb=_mean([_timing(cell, "cost_fb") for cell in cells]),
        peak_mib=_mean([_timing(cell, "peak_mib") for cell in cells]),
    )


def _timing(cell: StoredCell, name: str) -> float | None:
    return None if cell.timing is None else cell.timing.get(name)


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return fmean(present) if present else None


def _median(sizes: Sequence[int | None]) -> int | None:
    """Lower median, so that it is a size some seed had; never reached counts as infinite."""
    median = median_low([math.inf if size is None else size for size in sizes])
    return None if median == math.inf else int(median)


def _whole(result: Mapping[str, Any]) -> Line:
    return replace(_sanity("whole", WHOLE, result), size=total_of(result), bits=0.0)


def _empty(result: Mapping[str, Any]) -> Line:
    return replace(_sanity("empty", EMPTY, result), size=0, bits=0.0)


def _sanity(kind: Literal["whole", "empty"], name: str, result: Mapping[str, Any]) -> Line:
    def estimate(key: str) -> Estimate:
        stored = result[kind][key]
        return Estimate(stored["value"], stored["low"], stored["high"])

    return Line(
        kind,
        name,
        faithfulness=estimate("faithfulness"),
        kl=estimate("kl"),
        accuracy=estimate("accuracy"),
        chosen={key: estimate(key) for key in chosen_measures(result)},
    )


# ---------------------------------------------------------------- ranks
def rank(lines: Sequence[Line]) -> list[Line]:
    """Rank complete methods by CMD, least first, on the point estimates.

    The tie rule: go through the methods from the best. The best one opens a group; each next
    method whose 95 % interval overlaps that of the method that opened the group joins it, and
    the first one that does not opens the next group. All of a group have the rank of the method
    that opened it (1, 1, 3, …); groups of two or more are marked `≈`. Overlap is always tested
    against the opener, so a chain of small steps never ties the first with the last. Controls,
    sanity lines, smoke runs and methods with a missing seed have no rank.
    """
    able = [line for line in lines if line.kind == "method" and line.complete and _cmd(line)]
    groups: list[list[Line]] = []
    for line in sorted(able, key=_order):
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
        if line.kind == "method" and line.method in places
        else line
        for line in lines
    ]


def _cmd(line: Line) -> Estimate | None:
    estimate = None if line.areas is None else line.areas["cmd"]
    return None if estimate is None or estimate.value is None else estimate


def _order(line: Line) -> tuple[float, str]:
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


def _mean_ranks(boards: Sequence[Board]) -> tuple[tuple[str, float, int], ...]:
    """Mean of the ranks as shown, over the tasks with a complete method, and their number."""
    ranks: dict[str, list[int]] = {}
    for board in boards:
        for line in board.lines:
            if line.rank is not None:
                ranks.setdefault(line.method, []).append(line.rank)
    means = [(method, fmean(values), len(values)) for method, values in ranks.items()]
    return tuple(sorted(means, key=lambda item: (-item[2], item[1], item[0])))
