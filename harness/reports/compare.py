"""Compare two methods, runs or cells, paired by task, seed and example.

Both sides are measured on the same test examples, so the difference is resampled with one draw
of examples for both: what both share cancels, and small true differences show.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.errors import HarnessError, NotFound, StoreCorrupt
from harness.reports.leaderboard import DEFAULT_SIZE, cell_verdict, nearest_size
from harness.reports.resample import Estimate, area_draws, examples, over_seeds
from harness.reports.results import by_score, settled_of, settled_remark, sizes_of
from harness.runs.store.record import (
    PlannedCell,
    StoredCell,
    by_beginning,
    faults_of,
    find_run,
    load_cells,
    runs_root,
)
from harness.spec.types import CHOICES, chosen

Verdict = Literal["A better", "B better", "tie"]
SHORTEST_ID = 4  # characters of a cell id that can be told from a method's name


@dataclass(frozen=True)
class Side:
    """One side of a comparison: its name, its finished cells, and those that are damaged."""

    name: str
    cells: tuple[StoredCell, ...]
    damaged: tuple[StoredCell, ...] = ()


@dataclass(frozen=True)
class TaskDifference:
    """A − B on one task, model and evaluation; a negative difference of CMD: A is better."""

    task: str
    model: str
    variant: str  # what the suite changed in the task's evaluation
    method_a: str
    method_b: str
    seeds: int
    cmd: Estimate
    at_size: float
    faithfulness: Estimate
    verdict: Verdict  # by CMD: better if the interval of the difference leaves out zero


@dataclass(frozen=True, repr=False)
class Comparison:
    """All tasks that both sides have, and how often each is ahead."""

    a: str
    b: str
    tasks: tuple[TaskDifference, ...]
    unpaired: tuple[str, ...]  # points of the grid that only one side has
    damaged: tuple[str, ...] = ()  # cells that are left out, since they are not what was published
    remarks: tuple[str, ...] = ()  # what makes a difference mean less than it seems to

    def count(self, verdict: Verdict) -> int:
        """Number of tasks with this verdict."""
        return sum(task.verdict == verdict for task in self.tasks)

    def __repr__(self) -> str:
        from harness.reports.screens.comparison import comparison_text

        return comparison_text(self, 100)

    def _repr_html_(self) -> str:
        from harness.reports.notebook.tables import comparison_html

        return comparison_html(self)


# ---------------------------------------------------------------- finding the sides
def find_side(results: Path, text: str) -> Side:
    """`RUN`, `RUN:method`, a method of the stored runs, or the beginning of a cell's id."""
    run, colon, method = text.rpartition(":")
    if colon and _is_run(results, run):
        cells = [c for c in _done(find_run(results, run)) if c.entry.method == method]
        return _side(text, cells, f"run {run!r} has no finished cell of method {method!r}")
    if _is_run(results, text):
        cells = [c for c in _done(find_run(results, text)) if c.entry.role == "method"]
        return _side(text, cells, f"run {text!r} has no finished cell")
    every = [cell for folder in runs_root(results) for cell in _done(folder)]
    if named := [cell for cell in every if cell.entry.method == text]:
        return _side(text, named, "")
    methods = ", ".join(sorted({cell.entry.method for cell in every})) or "none"
    runs = ", ".join(path.name for path in runs_root(results)) or "none"
    cell = by_beginning(
        {cell.entry.id: cell for cell in reversed(every)},  # of two runs, the first one's
        text if len(text) >= SHORTEST_ID else "",
        f"{text!r} is no run, RUN:method, method or cell id in {results} "
        f"(runs: {runs}; methods: {methods})",
    )
    return _side(text, [cell], "")


def _is_run(results: Path, run: str) -> bool:
    try:
        find_run(results, run)
    except NotFound:
        return False
    return True


def _done(folder: Path) -> list[StoredCell]:
    """Finished cells, and their circuits cut from scores where their own are not."""
    done = [cell for cell in load_cells(folder) if cell.status in ("ok", "smoke", "damaged")]
    return [one for cell in done for one in (cell, by_score(cell)) if one is not None]


def _side(name: str, stored: Sequence[StoredCell], otherwise: str) -> Side:
    """Raises `StoreCorrupt` where all cells are damaged, and `NotFound(otherwise)` without any."""
    cells = [cell for cell in stored if cell.result is not None]
    damaged = [cell for cell in stored if cell.result is None]
    if damaged and not cells:
        raise StoreCorrupt(faults_of(damaged)[0])
    if not cells:
        raise NotFound(otherwise)
    # Smoke cells are used only where there are no complete ones.
    full = [cell for cell in cells if cell.entry.limit is None]
    return Side(name, tuple(full or cells), tuple(damaged))


# ---------------------------------------------------------------- comparing
def compare(a: Side, b: Side, size: float = DEFAULT_SIZE) -> Comparison:
    """Differences A − B per task. Raises `HarnessError` where they cannot be paired."""
    with_method = not (_one_method(a) and _one_method(b))
    groups_a, groups_b = _groups(a, with_method), _groups(b, with_method)
    differences, remarks = [], list[str]()
    unpaired = sorted(" ".join(key) for key in groups_a.keys() ^ groups_b.keys())
    for key, seeds_a in groups_a.items():
        seeds_b = groups_b.get(key, {})
        common = sorted(seeds_a.keys() & seeds_b.keys())
        if key in groups_b:
            unpaired += [f"{' '.join(key)} seed {s}" for s in sorted(seeds_a.keys() ^ seeds_b)]
        if common:
            pairs = [(seeds_a[seed], seeds_b[seed]) for seed in common]
            difference, said = _difference(pairs, size)
            differences.append(difference)
            remarks += said
    if not differences:
        raise HarnessError(
            f"{a.name!r} and {b.name!r} have no task, model and seed in common; "
            f"only one side has: {'; '.join(unpaired)}"
        )
    damaged = dict.fromkeys(_place(cell.entry) for cell in (*a.damaged, *b.damaged))
    return Comparison(
        a.name,
        b.name,
        tuple(differences),
        tuple(unpaired),
        tuple(damaged),
        tuple(dict.fromkeys(remarks)),
    )


def _place(entry: PlannedCell) -> str:
    parts = (entry.task, entry.variant, entry.model, entry.method, f"seed {entry.seed}")
    return f"{' '.join(part for part in parts if part)} ({entry.id[:12]})"


def _one_method(side: Side) -> bool:
    return len({cell.entry.method for cell in side.cells}) == 1


def _groups(side: Side, with_method: bool) -> dict[tuple[str, ...], dict[int, StoredCell]]:
    """Cells by (task, model[, variant][, method]) and seed; all are matched by name."""
    groups: dict[tuple[str, ...], dict[int, StoredCell]] = {}
    for cell in side.cells:
        entry = cell.entry
        smoke = () if entry.limit is None else (f"limit {entry.limit}",)
        method = (entry.method,) if with_method else ()
        variant = (entry.variant,) if entry.variant else ()
        seeds = groups.setdefault((entry.task, entry.model, *variant, *method, *smoke), {})
        if seeds.setdefault(entry.seed, cell).entry.id != entry.id:
            raise HarnessError(
                f"{side.name!r} has two results for {entry.task} {entry.method} seed "
                f"{entry.seed}, of different runs; name one of them as RUN:method"
            )
    return groups


def _difference(
    pairs: Sequence[tuple[StoredCell, StoredCell]], size: float
) -> tuple[TaskDifference, list[str]]:
    """The difference, and what has to be said of it."""
    for cell_a, cell_b in pairs:
        _check_comparable(cell_a, cell_b)
    first_a, first_b = pairs[0]
    index = nearest_size(_result(first_a), size)
    cmd_values, cmd_draws, f_values, f_draws = [], [], [], []
    for cell_a, cell_b in pairs:
        result_a, result_b = _result(cell_a), _result(cell_b)
        data_a, data_b = examples(cell_a), examples(cell_b)
        cmd_values.append(_minus(result_a["summary"]["cmd"], result_b["summary"]["cmd"]))
        cmd_draws.append(area_draws(data_a)["cmd"] - area_draws(data_b)["cmd"])
        point_a, point_b = result_a["curve"][index], result_b["curve"][index]
        f_values.append(_minus(point_a["faithfulness"], point_b["faithfulness"]))
        f_draws.append(data_a.faithfulness_draws[:, index] - data_b.faithfulness_draws[:, index])
    cmd = over_seeds(cmd_values, cmd_draws)
    faults = cell_verdict(first_a).faults
    difference = TaskDifference(
        task=first_a.entry.task,
        model=first_a.entry.model,
        variant=first_a.entry.variant,
        method_a=first_a.entry.method,
        method_b=first_b.entry.method,
        seeds=len(pairs),
        cmd=cmd,
        at_size=sizes_of(_result(first_a))[index],
        faithfulness=over_seeds(f_values, f_draws),
        verdict="tie" if faults else _verdict(cmd),
    )
    remarks = [f"{first_a.entry.task} is a tie: {fault}." for fault in faults]
    for cell in (first_a, first_b):
        if (circuits := settled_of([_result(cell)])) is not None:
            remarks.append(settled_remark(cell.entry.method, circuits))
    return difference, remarks


def _minus(a: Mapping[str, float | None], b: Mapping[str, float | None]) -> float | None:
    if a["value"] is None or b["value"] is None:
        return None
    return a["value"] - b["value"]


def _verdict(cmd: Estimate) -> Verdict:
    if cmd.high is not None and cmd.high < 0:
        return "A better"
    if cmd.low is not None and cmd.low > 0:
        return "B better"
    return "tie"


def _result(cell: StoredCell) -> Mapping[str, Any]:
    assert cell.result is not None
    return cell.result


def _check_comparable(a: StoredCell, b: StoredCell) -> None:
    result_a, result_b = _result(a), _result(b)
    where = f"{a.entry.task} seed {a.entry.seed}"
    for what, values in _conditions(result_a, result_b):
        if values[0] != values[1]:
            raise HarnessError(
                f"{where}: the two sides differ in {what} ({values[0]} and {values[1]}), so their "
                "numbers do not belong together; run both with the same task spec"
            )


def _conditions(
    a: Mapping[str, Any], b: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    yield "the test data", (_short(a["data_digest"]["test"]), _short(b["data_digest"]["test"]))
    yield "the metric", (a["metric"], b["metric"])
    for name in CHOICES:
        yield f"the choice of {name}", (chosen(a["choices"], name), chosen(b["choices"], name))
    yield "the size grid", (sizes_of(a), sizes_of(b))


def _short(digest: str) -> str:
    return f"digest {digest[:12]}…"
