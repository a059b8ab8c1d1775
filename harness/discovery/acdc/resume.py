"""A search of ACDC resumes after a stop: its decisions are saved, and made again.

Only decisions are saved, a few hundred KiB. What a search holds beside them, the outputs of all
writers on all prompts, follows from them to the last bit, since it is always made by runs of one
candidate: one for each reader that lost an edge. A stop costs these runs, and the reader that was
at work.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from harness.discovery.acdc.search import Partway, Search, SearchResult, Tally
from harness.discovery.problem import Problem
from harness.models.checkpoint import SAVE_SECONDS, load_state, save_state
from harness.spec.types import Objective


class Checkpoint:
    """Where one search keeps its decisions, about every `SAVE_SECONDS` and at its end.

    The file of another search is ignored and overwritten. Without a `path` nothing is saved.
    """

    def __init__(self, path: Path | None, identity: Mapping[str, Any]) -> None:
        self.path, self.identity = path, json.loads(json.dumps(identity))
        self.earlier_seconds = 0.0
        self._began = self._saved = time.monotonic()

    def load(self) -> Partway | None:
        """What was saved; its seconds are then the earlier ones."""
        checkpoint = load_state(self.path) if self.path else None
        if checkpoint is None:
            return None
        tensors, note = checkpoint
        state = json.loads(note)
        if state.get("identity") != self.identity:
            return None
        self.earlier_seconds = float(state["seconds"])
        result = SearchResult(
            tensors["kept"], tensors["growth"], state["objective"], Tally(**state["tally"])
        )
        return Partway(result, state["readers"], state["share"])

    def save(self, search: Search) -> bool:
        """Keep what has been decided, if it is time or the last reader is done; True if kept."""
        now = time.monotonic()
        due = search.finished or now - self._saved > SAVE_SECONDS
        if self.path is None or not due:
            return False
        result, readers, share = search.partway()
        note = {
            "identity": self.identity,
            "readers": readers,
            "share": share,
            "objective": result.objective,
            "tally": asdict(result.tally),
            "seconds": self.earlier_seconds + now - self._began,
        }
        save_state({"kept": result.kept, "growth": result.growth}, json.dumps(note), self.path)
        self._saved = now
        return True


def checkpoint_of(
    problem: Problem, objective: Objective, threshold: float, speculate: int
) -> Checkpoint:
    """The checkpoint of a search in the problem's scratch folder, if it has one."""
    identity = {
        "threshold": threshold,
        "objective": problem.resolved(objective),
        "speculate": speculate,
        "graph": asdict(problem.edges.graph),
        "ablation": problem.counterfactuals.ablation,
        "pairs": [list(batch.clean.shape) for batch in problem.batches],
        "torch": torch.__version__,
    }
    name = f"acdc_{threshold!r}.safetensors"
    return Checkpoint(problem.scratch / name if problem.scratch else None, identity)
