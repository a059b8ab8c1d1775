"""Which methods look at the whole model alone, where a distance to that model has no slope.

There `kl` and `squared_error` are at their minimum, so every score would be 0. Specs and plans
are refused with this before any model is there, so nothing here imports torch; a method refuses
too, for problems that come from elsewhere (`Problem.needs_slope`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from harness.metrics import DISTANCES
from harness.spec.types import Ablation, Metric, Objective

OTHER_KINDS = ("eap_ig", "mask_gradient_ig", "activation_patching", "node_patching")
"""Kinds of methods that attribute a distance to the whole model, since they look elsewhere."""


def slope_problem(
    kind: str,
    params: Mapping[str, Any],
    metric: Metric | None = None,
    ablation: Ablation | None = None,
) -> str | None:
    """Why a method's scores would all be 0; None if they need not be.

    `metric` and `ablation` are those of a task; without them the problem is one of the method's
    spec, whatever the task. `params` are all of the kind's own; a plug-in is let through.
    """
    if not _at_whole_model(kind, params, ablation):
        return None
    objective = params.get("objective", "metric")
    return flat(kind, metric if objective == "metric" else objective)


def flat(method: str, name: str | None) -> str | None:
    """Why a loss cannot be attributed by its gradient at the whole model; None if it can."""
    if name not in DISTANCES:
        return None
    return (
        f"method {method!r} takes the gradient at the whole model, where {name!r}, a "
        "distance to that model, is at its minimum: every score would be 0. Choose "
        f"objective {_sloped()}, or a method that looks elsewhere ({', '.join(OTHER_KINDS)})"
    )


def _at_whole_model(kind: str, params: Mapping[str, Any], ablation: Ablation | None) -> bool:
    """Whether the kind takes its gradient at the clean run alone."""
    one_step = params.get("steps") == 1
    if kind == "node_attribution":
        return one_step
    if kind == "eap_ig":  # the first of several points; under `zero` the last one
        return one_step and params.get("variant") == "inputs" and ablation == "zero"
    return kind == "eap"


def _sloped() -> str:
    losses = (name for name in get_args(Objective) if name not in (*DISTANCES, "metric"))
    return " or ".join(losses)
