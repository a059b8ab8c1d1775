"""A search of ACDC resumes after a stop: its decisions are saved, and made again.

Only decisions are saved, a few hundred KiB. What a search holds beside them, the outputs of all
writers on all prompts, follows from them to the last bit, since it is always made by runs of one
candidate: one for each reader that lost an edge. A stop costs these runs, and the reader that was
at work.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from harness.discovery.acdc.search import Partway, Search, SearchResult, Tally
from harness.discovery.fingerprint import fingerprint
from harness.discovery.problem import Problem
from harness.discovery.spent import Spent
from harness.models.checkpoint import SAVE_SECONDS, load_state, save_state
from harness.spec.types import Objective


class Checkpoint:
    """Where one search keeps its decisions, about every `SAVE_SECONDS` and at its end.

    The file of another search is deleted. Without a `path` nothing is saved.
    """

    def __init__(self, path: Path | None, identity: Mapping[str, Any]) -> None:
        self.path, self.identity = path, identity
        self.earlier = Spent()
        self._began = Spent.now()
        self._saved = time.monotonic()

    def load(self) -> Partway | None:
        """What was saved; its seconds are then the earlier ones."""
        checkpoint = load_state(self.path, self.identity) if self.path else None
        if checkpoint is None:
            return None
        tensors, state = checkpoint
        self.earlier = Spent.of(state)
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
            "readers": readers,
            "share": share,
            "objective": result.objective,
            "tally": asdict(result.tally),
            **self.earlier.plus(Spent.now().since(self._began)).note(),
        }
        tensors = {"kept": result.kept, "growth": result.growth}
        save_state(tensors, note, self.path, self.identity)
        self._saved = now
        return True


def checkpoint_of(
    problem: Problem, objective: Objective, threshold: float, speculate: int
) -> Checkpoint:
    """The checkpoint of a search in the problem's scratch folder, if it has one."""
    if problem.scratch is None:
        return Checkpoint(None, {})
    identity = {
        "problem": fingerprint(problem),
        "threshold": threshold,
        "objective": problem.resolved(objective),
        "speculate": speculate,
        "graph": asdict(problem.edges.graph),
        "torch": torch.__version__,
    }
    return Checkpoint(problem.scratch / f"acdc_{threshold!r}.safetensors", identity)
