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
    from harness.runs.store import CellStore

    library = Library([Path(folder) for folder in include])
    plan = expand(library.suite(suite), library)
    store = CellStore(Path(results) / plan.name)
    record(store.folder, plan)
    return LocalExecutor(jobs).run(plan, store, Settings(models=model_store(Path(results))))


def results(run: str = "quickstart", *, results: Path | str = RESULTS) -> polars.DataFrame:
    """All numbers of a run, a row per cell and circuit size (`harness help read-the-numbers`)."""
    from harness.reports.rows import frame

    return frame(load_cells(find_run(Path(results), run)))
