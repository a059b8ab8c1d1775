"""Results and models on disk: cells that appear in one rename, and the record of each run."""

from harness.runs.store.cells import CellOutput, CellStore
from harness.runs.store.models import ModelStore

__all__ = ["CellOutput", "CellStore", "ModelStore"]
