"""What a checkpoint of a search must share with the problem that resumes from it."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from harness.discovery.problem import Problem
from harness.spec.identity import digest


def fingerprint(problem: Problem) -> dict[str, Any]:
    """The space, the prompt pairs, the metric and the ablation of a problem, as JSON data.

    Not the weights: a cell's scratch folder has its id, which depends on them.
    """
    pairs = sha256()
    for batch in problem.batches:
        for name, value in sorted(vars(batch).items()):
            if value is not None:
                pairs.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
                pairs.update(value.cpu().numpy().tobytes())
    return {
        "space": [problem.space.granularity, digest(problem.space.header())],
        "pairs": pairs.hexdigest(),
        "metric": problem.metric,
        "ablation": problem.counterfactuals.ablation,
    }
