"""Circuit evaluation harness: from a YAML task to a leaderboard of circuits.

What stands in `__all__` is the public Python API (`harness help python`): these names stay where
they are, and plug-ins import them from here alone. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if "torch" not in sys.modules:
    # Threads that wait in loops take the cores from other processes, and from each other. The
    # OpenMP library that comes with torch reads this once, when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from harness.api.circuits import discover, evaluate
    from harness.api.measures import Measured
    from harness.api.runs import compare, leaderboard, results, run
    from harness.api.tasks import OpenTask, load_model, load_task, prompt_pairs
    from harness.circuits.circuit import Circuit
    from harness.circuits.patchable import PatchableModel, mask_gradient
    from harness.circuits.space import NamedElements, Space
    from harness.datasets.batch import Batch
    from harness.datasets.generators import Generator
    from harness.datasets.pairs import (
        PromptPairs,
        TaskData,
        TrainingBatch,
        answer_batch,
        next_token_targets,
    )
    from harness.datasets.rows import (
        last_token_batch,
        last_token_pairs,
        opening_split,
        with_bos,
    )
    from harness.datasets.stream import StreamData
    from harness.datasets.tokenizers import Asked, Vocabulary
    from harness.discovery.info import MethodInfo
    from harness.discovery.problem import Discovery, DiscoveryMethod, Problem
    from harness.errors import HarnessError
    from harness.models.transformer import Transformer
    from harness.spec.granularity import GranularityInfo

_HOMES = {
    "harness.api.circuits": "discover evaluate",
    "harness.api.measures": "Measured",
    "harness.api.runs": "compare leaderboard results run",
    "harness.api.tasks": "OpenTask load_model load_task prompt_pairs",
    "harness.circuits.circuit": "Circuit",
    "harness.circuits.patchable": "PatchableModel mask_gradient",
    "harness.circuits.space": "NamedElements Space",
    "harness.datasets.batch": "Batch",
    "harness.datasets.generators": "Generator",
    "harness.datasets.pairs": (
        "PromptPairs TaskData TrainingBatch answer_batch next_token_targets"
    ),
    "harness.datasets.rows": "last_token_batch last_token_pairs opening_split with_bos",
    "harness.datasets.stream": "StreamData",
    "harness.datasets.tokenizers": "Asked Vocabulary",
    "harness.discovery.info": "MethodInfo",
    "harness.discovery.problem": "Discovery DiscoveryMethod Problem",
    "harness.errors": "HarnessError",
    "harness.models.transformer": "Transformer",
    "harness.spec.granularity": "GranularityInfo",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "Asked",
    "Batch",
    "Circuit",
    "Discovery",
    "DiscoveryMethod",
    "Generator",
    "GranularityInfo",
    "HarnessError",
    "Measured",
    "MethodInfo",
    "NamedElements",
    "OpenTask",
    "PatchableModel",
    "Problem",
    "PromptPairs",
    "Space",
    "StreamData",
    "TaskData",
    "TrainingBatch",
    "Transformer",
    "Vocabulary",
    "answer_batch",
    "compare",
    "discover",
    "evaluate",
    "last_token_batch",
    "last_token_pairs",
    "leaderboard",
    "load_model",
    "load_task",
    "mask_gradient",
    "next_token_targets",
    "opening_split",
    "prompt_pairs",
    "results",
    "run",
    "with_bos",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
