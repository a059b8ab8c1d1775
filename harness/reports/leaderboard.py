"""The leaderboard: per task, how good each method's circuits are, and how methods rank.

Cells belong to one table when everything but method and seed is equal: task, model, data, the
choices that define faithfulness, the machine's kind and the version of the code. Nothing else is
ever ranked together, and all ranked rows of a table are of the same seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median_low
from typing import Any, Literal

from harness.evaluation.verdict import Verdict, judged_by, verdict_of
from harness.metrics.sparsity import bits
from harness.reports.comparable import (
    Seeds,
    by_method,
    comparable_groups,
    current,
    differences,
    of_one_version,
)
from harness.reports.ground_truth import Recovery, recovery_of
from harness.reports.ranks import MeanRanks, mean_ranks, order, rank
from harness.reports.resample import (
    Estimate,
    area_draws,
    chosen_measures,
    examples,
    mean_draws,
    over_seeds,
)
from harness.reports.results import (
    Result,
    SizeAt,
    all_reached,
    asking_for_nothing,
    by_score,
    finest_of,
    goal_of,
    has_targets,
    holds,
    label_of,
    numeric,
    settled_of,
    settled_remark,
    size_at_of,
    sizes_of,
    total_of,
    unit_of,
)
from harness.runs.store.record import PlannedCell, StoredCell

__all__ = ["Board", "Leaderboard", "Line", "cell_verdict", "leaderboard", "nearest_size", "rank"]

LEVELS = ("0.85", "0.95", "0.99")
DEFAULT_SIZE = 0.1
BUSY = 2.0
"""Costs by wall and by processor time that differ by this factor differ much."""
LEAST_APART = 0.5
"""Unless they differ by fewer forward+backward passes."""
NAMES = {"whole": "whole model", "empty": "empty circuit"}

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
    weights: int | None = None  # between its channels, median over seeds
    held: int | None = None  # seeds whose circuit reaches the target, on fresh pairs too
    faithfulness: Estimate | None = None  # at the stated size, as are the next two
    kl: Estimate | None = None
    accuracy: Estimate | None = None
    chosen: Mapping[str, Estimate] = field(default_factory=dict)  # what the task's `measures` add
    recovery: Recovery | None = None  # where there is a true circuit
    seconds: float | None = None
    cost_fb: float | None = None
    cost_fb_wall: float | None = None  # None where only wall time was measured, as `cost_fb`
    busy: bool = False  # whether the two differ much for some seed
    peak_mib: float | None = None
    settled: int | None = None  # circuits that the method settled on, which the areas are of
    seeds_done: int = 0
    seeds_all: int = 0
    notes: tuple[str, ...] = ()
    searched: bool = False  # a control search: a method where it should fail
    goal: float | None = None  # what circuits were searched for, as measured; mean over seeds
    by_seed: Mapping[int, int | None] = field(default_factory=dict)  # see `finest_of`

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
    verdict: Verdict | None = None  # whether there is anything to explain
    remarks: tuple[str, ...] = ()  # of the caption: what is not ranked or left out, and why

    @property
    def chosen(self) -> tuple[str, ...]:
        """Measures that the task adds to the table."""
        return () if self.facts is None else chosen_measures(self.facts)


@dataclass(frozen=True, repr=False)
class Leaderboard:
    """All tables, and mean ranks over those that rank circuits of the same elements."""

    boards: tuple[Board, ...]
    mean_ranks: tuple[MeanRanks, ...]  # one for each kind of elements

    def __repr__(self) -> str:
        from harness.reports.notebook.tables import leaderboard_text

        return leaderboard_text(self)

    def _repr_html_(self) -> str:
        from harness.reports.notebook.tables import leaderboard_html

        return leaderboard_html(self)


def leaderboard(cells: Sequence[StoredCell], size: float = DEFAULT_SIZE) -> Leaderboard:
    """Build the tables of all cells; equal ids (of two runs) count once."""
    newest = current(cells)
    boards = tuple(
        _board(group, size, newest[group[0].entry.place]) for group in comparable_groups(cells)
    )
    return Leaderboard(boards, mean_ranks(boards))


def _board(cells: Sequence[StoredCell], size: float, newest: PlannedCell) -> Board:
    entry = cells[0].entry
    methods = by_method(cells)
    versions = {name: of_one_version(group) for name, group in methods.items()}
    for group in list(versions.values()):
        if others := [one for cell in group if (one := by_score(cell)) is not None]:
            versions[others[0].entry.method] = others
    competing = {name: g for name, g in versions.items() if g[0].entry.role == "method"}
    seeds = Seeds.of(competing)
    shown = {name: seeds.of_these(group) for name, group in versions.items()}
    ran = [cell for group in shown.values() for cell in group if cell.result is not None]
    done = [cell for cell in ran if not cell.entry.beside]  # the others are of other answers
    first = done[0].result if done else None
    index = None if first is None else nearest_size(first, size)
    lines = [
        _line(name, group, len(methods.get(name, group)) - len(versions[name]), index)
        for name, group in shown.items()
    ]
    verdict = cell_verdict(done[0]) if done else None
    remarks = [_version_remark(entry, newest)]
    remarks += [f"Not ranked: {fault}." for fault in (verdict.faults if verdict else ())]
    remarks += [seeds.remark(), _sizes_remark(first), *_settled_remarks(lines)]
    if entry.limit is None and not any(text.startswith("Not ranked") for text in remarks):
        lines = rank(lines)
    lines.sort(key=lambda line: (line.rank is None, *order(line)))
    sanity = [] if first is None else [_sanity("whole", first), _sanity("empty", first)]
    ranked, control = ([x for x in lines if x.kind == kind] for kind in ("method", "control"))
    return Board(
        task=entry.task,
        model=entry.model,
        limit=entry.limit,
        variant=entry.variant,
        at_size=None if index is None or first is None else first["curve"][index]["size_requested"],
        at="" if index is None or first is None else label_of(first["curve"][index]),
        facts=first,
        lines=(*ranked, *sanity, *control),
        verdict=verdict,
        remarks=tuple(text for text in remarks if text),
    )


def cell_verdict(cell: StoredCell) -> Verdict:
    """Whether a finished cell's task and model have anything to explain."""
    result, data = cell.result, examples(cell)
    assert result is not None
    name = judged_by(result["whole"])
    accuracies = (result["whole"][name], result["empty"][name])
    return verdict_of(
        result["metric"],
        result["choices"]["ablation"],
        data.whole,
        data.empty,
        None if numeric(result) else accuracies,
        unit_of(result),
    )


def _version_remark(entry: PlannedCell, newest: PlannedCell) -> str:
    if newest.conditions == entry.conditions:
        return ""
    differing = differences(entry, newest)
    return f"Not ranked: the table of another version is newer (here / there: {differing})."


def _sizes_remark(result: Result | None) -> str:
    if result is None or not (number := asking_for_nothing(result)):
        return ""
    return (
        f"{number} of {len(result['curve'])} sizes ask for none of the {unit_of(result)}; "
        "CMD counts their empty circuits."
    )


def _settled_remarks(lines: Sequence[Line]) -> list[str]:
    return [settled_remark(line.method, line.settled) for line in lines if line.settled is not None]


def nearest_size(result: Mapping[str, Any], size: float) -> int:
    """Index of the size of the grid nearest to the wanted one, by ratio; of targets the first.

    Sizes that ask for no element are left out, where any asks for one.
    """
    if has_targets(result):
        return 0
    sizes = sizes_of(result)
    holding = range(asking_for_nothing(result), len(sizes)) or range(len(sizes))
    return min(holding, key=lambda i: abs(math.log(sizes[i] / size)))


def _line(method: str, cells: Sequence[StoredCell], outdated: int, index: int | None) -> Line:
    kind: Kind = "control" if cells[0].entry.role == "control" else "method"
    failed = [c for c in cells if c.status == "failed"]
    missing = [c for c in cells if c.status == "missing"]
    damaged = [c for c in cells if c.status == "damaged"]
    notes = [f"{len(failed)} failed"] if failed else []
    notes += [f"{len(missing)} not run"] if missing else []
    notes += [f"{len(damaged)} damaged"] if damaged else []
    notes += [f"{outdated} of an older version left out"] if outdated else []
    searched = bool(cells[0].entry.beside)
    line = Line(kind, method, seeds_all=len(cells), notes=tuple(notes), searched=searched)
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
        weights=None if size is None else _median([p["counts"].get("weights") for p in points]),
        held=sum(map(holds, points)) if has_targets(results[0]) else None,
        faithfulness=at_size("faithfulness", [d.faithfulness_draws[:, index] for d in data]),
        kl=at_size("kl", [mean_draws(d.kl[index]) for d in data]),
        accuracy=at_size("accuracy", [mean_draws(d.accuracy[index]) for d in data]),
        chosen={
            name: at_size(name, [mean_draws(d.chosen[name][index]) for d in data])
            for name in data[0].chosen
        },
        recovery=recovery_of(results),
        settled=settled_of(results),
        goal=_mean(list(map(goal_of, points))),
        by_seed={c.entry.seed: finest_of(p) for c, p in zip(cells, points, strict=True)},
        seconds=_mean([_timing(cell, "seconds") for cell in cells]),
        cost_fb=_mean([_timing(cell, "cost_fb") for cell in cells]),
        cost_fb_wall=_mean([_timing(cell, "cost_fb_wall") for cell in cells]),
        busy=any(map(_busy, cells)),
        peak_mib=_mean([_timing(cell, "peak_mib") for cell in cells]),
    )


def _timing(cell: StoredCell, name: str) -> float | None:
    return None if cell.timing is None else cell.timing.get(name)


def _busy(cell: StoredCell) -> bool:
    """Whether cost by wall time is much more or less than by processor time."""
    cost, wall = _timing(cell, "cost_fb"), _timing(cell, "cost_fb_wall")
    if cost is None or wall is None or abs(wall - cost) < LEAST_APART:
        return False
    return not cost / BUSY < wall < cost * BUSY


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return fmean(present) if present else None


def _median(sizes: Sequence[int | None]) -> int | None:
    """Lower median, so that it is a size some seed had; never reached counts as infinite."""
    median = median_low([math.inf if size is None else size for size in sizes])
    return None if median == math.inf else int(median)


def _sanity(kind: Literal["whole", "empty"], result: Mapping[str, Any]) -> Line:
    def estimate(key: str) -> Estimate:
        stored = result[kind][key]
        return Estimate(stored["value"], stored["low"], stored["high"])

    return Line(
        kind,
        NAMES[kind],
        size=total_of(result) if kind == "whole" else 0,
        bits=0.0,
        faithfulness=estimate("faithfulness"),
        kl=estimate("kl"),
        accuracy=estimate("accuracy"),
        chosen={key: estimate(key) for key in chosen_measures(result)},
    )
