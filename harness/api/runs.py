"""Runs of suites, and the numbers that they store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.tasks import RESULTS
from harness.runs.store.record import find_run, load_cells, model_store, record
from harness.spec.load import Library

if TYPE_CHECKING:
    import polars

    from harness.reports.compare import Comparison
    from harness.reports.leaderboard import Leaderboard
    from harness.runs.executors.session import RunSummary


def run(
    suite: str = "quickstart",
    *,
    results: Path | str = RESULTS,
    jobs: int = 1,
    include: Sequence[Path | str] = (),
) -> RunSummary:
    """Compute every cell of a suite that is not stored yet, as `harness run` does."""
    from harness.runs.executors.local import LocalExecutor
    from harness.runs.executors.session import Settings
    from harness.runs.plan import expand
    from harness.runs.plan.processes import require_processes
    from harness.runs.store import CellStore

    library = Library([Path(folder) for folder in include])
    plan = expand(library.suite(suite), library)
    require_processes(plan.cells, 1)
    store = CellStore(Path(results) / plan.name)
    record(store.folder, plan)
    return LocalExecutor(jobs).run(plan, store, Settings(models=model_store(Path(results))))


def results(run: str = "quickstart", *, results: Path | str = RESULTS) -> polars.DataFrame:
    """All numbers of a run, a row per cell and circuit size (`harness help read-the-numbers`)."""
    from harness.reports.rows import frame

    return frame(load_cells(find_run(Path(results), run)))


def leaderboard(
    run: str = "quickstart", *, size: float = 0.1, results: Path | str = RESULTS
) -> Leaderboard:
    """The tables of a run as `harness table` shows them; `size`: that of faithfulness and KL."""
    from harness.reports.leaderboard import leaderboard as tables_of

    return tables_of(load_cells(find_run(Path(results), run)), size)


def compare(a: str, b: str, *, size: float = 0.1, results: Path | str = RESULTS) -> Comparison:
    """Differences A − B, paired by example; each side is RUN, RUN:method, a method or a cell's id.

    Raises `harness.HarnessError` for sides that are not there or cannot be paired.
    """
    from harness.reports.compare import compare as differences
    from harness.reports.compare import find_side

    return differences(find_side(Path(results), a), find_side(Path(results), b), size)
