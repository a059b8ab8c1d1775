"""A compute function for threads that stand for processes: made-up cells, and who computed them.

A method's `params`: `fail_in`, the process that fails.
"""

from __future__ import annotations

from typing import Any

import torch

from harness import ranks
from harness.runs.plan import Cell
from harness.runs.store import CellOutput, ModelStore
from support.fake_cells import output

COMPUTE = "support.shared_cells:compute"
CALLS: list[tuple[int, str]] = []


def compute(cell: Cell, models: ModelStore, log: Any) -> CellOutput:
    """Two exchanges, and the made-up numbers of `fake_cells`."""
    CALLS.append((ranks.rank(), cell.method.name))
    log(f"by process {ranks.rank()}")
    with ranks.turns("keeping a model"), models.lock(cell.model_id):
        if not models.exists(cell.model_id):
            assert ranks.is_first()
            draft = models.scratch(cell.model_id) / "final"
            draft.mkdir(exist_ok=True)
            (draft / "weights").write_text(cell.model_id)
            models.publish(cell.model_id, draft)
    if cell.method.params.get("fail_in") == ranks.rank():
        raise ValueError("no such number")
    assert int(ranks.summed(torch.ones(1))) == ranks.world()
    return output(cell)
