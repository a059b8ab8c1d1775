"""The executor of processes that torchrun started, which share the prompts of every cell.

Process 0 goes through the cells as a worker does: it alone looks into the store, claims, publishes
and tells. Whenever it computes a cell it says so, and the others compute it with it (`follow`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness import ranks
from harness.launcher import local_rank
from harness.progress import Nowhere, shown_by
from harness.runs.compute.gpu import be_worker
from harness.runs.executors.session import COMPUTE, RunSummary, Session, Settings
from harness.runs.executors.worker import Compute, load_compute, work
from harness.runs.plan import Cell, Plan
from harness.runs.store import CellOutput, CellStore, ModelStore

END = ""
"""In place of a cell's id: there are no further cells."""


@dataclass(frozen=True)
class TorchrunExecutor:
    """Process 0 of a run, inside `ranks.joined()`."""

    def run(self, plan: Plan, store: CellStore, settings: Settings) -> RunSummary:
        """Compute the plan's cells with the others; a cell that fails in any process has failed."""
        be_worker(local_rank())
        session = Session(plan, store, settings)
        if session.open_cells():
            compute = _led(load_compute(settings.compute))
            try:
                work(session.job(), session.tell, session.stopped, compute)
            finally:
                store.clean()
        ranks.broadcast(END)
        return session.summary()


def _led(compute: Compute) -> Compute:
    """Compute a cell in all processes."""

    def together(cell: Cell, models: ModelStore, log: Callable[[str], None]) -> CellOutput:
        ranks.broadcast(cell.id)
        return ranks.agreed(cell.title(), lambda: compute(cell, models, log))

    return together


def follow(plan: Plan, models: ModelStore, compute: str = COMPUTE) -> None:
    """Compute what process 0 computes of a plan, until it has no cells left; keep and say nothing.

    What fails is process 0's to record.
    """
    be_worker(local_rank())
    cells = {cell.id: cell for cell in plan.cells}
    function = load_compute(compute)
    with shown_by(Nowhere()):
        while cell_id := ranks.broadcast(END):
            _follow(cells[cell_id], models, function)


def _follow(cell: Cell, models: ModelStore, compute: Compute) -> None:
    try:
        ranks.agreed(cell.title(), lambda: compute(cell, models, _unsaid))
    except Exception:
        return  # process 0 has been told, and goes on with the next cell


def _unsaid(_text: str) -> None:
    """Log nothing: process 0 says the same."""
