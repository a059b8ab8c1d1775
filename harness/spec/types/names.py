"""The names that specs choose between, and the numbers that stand for a whole choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from harness.metrics.registry import EXTRA_MEASURES, OBJECTIVES, TASK_METRICS

Ablation: TypeAlias = str
EdgePositions: TypeAlias = str
"""What the table of granularities lists for the one that a task chooses."""

HeadBias = Literal["unattached", "shared", "folded"]
Inputs = Literal["token", "summed", "split", "none"]
KeyValueEdges = Literal["grouped", "per_head"]
ModelFormat = Literal[
    "auto", "harness", "huggingface", "transformer_lens", "mingpt", "circuit_sparsity"
]

MIB_SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

if TYPE_CHECKING:
    Metric: TypeAlias = str
    Objective: TypeAlias = str
    ExtraMeasure: TypeAlias = str
else:  # the registry of measures says which of them can be chosen
    Metric = Literal[TASK_METRICS]
    Objective = Literal[OBJECTIVES]
    ExtraMeasure = Literal[EXTRA_MEASURES]
