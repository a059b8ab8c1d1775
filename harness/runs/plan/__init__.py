"""What a suite would compute: cells, their identities and ids. No torch, no numbers."""

from harness.runs.plan.cells import SEMANTICS_VERSION, Cell, ModelSource, check_files, make_cell
from harness.runs.plan.grid import Overrides, Plan, expand, single_task

__all__ = [
    "SEMANTICS_VERSION",
    "Cell",
    "ModelSource",
    "Overrides",
    "Plan",
    "check_files",
    "expand",
    "make_cell",
    "single_task",
]
