"""The checkpoint of a mask training: parameters, the optimiser's state, and the next step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness import ranks
from harness.discovery.spent import Spent
from harness.models.checkpoint import load_state, save_state

if TYPE_CHECKING:
    from harness.discovery.masks.training import MaskRun


def save(run: MaskRun, step: int, spent: Spent, path: Path, problem: Mapping[str, Any]) -> None:
    """Write a checkpoint: `step` is the next to do, `spent` what those before took.

    `problem`: see `fingerprint`.
    """
    tensors = {}
    for index, parameter in enumerate(parameters_of(run.optimiser)):
        tensors[f"{index}"] = parameter
        for name, value in run.optimiser.state[parameter].items():
            tensors[f"{index}.{name}"] = value
    save_state(tensors, {"step": step, **spent.note()}, path, _purpose(run, problem))


def restore(run: MaskRun, path: Path | None, problem: Mapping[str, Any]) -> tuple[int, Spent]:
    """The first step still to do, and what was spent before.

    A checkpoint of another run is deleted: the training starts anew.
    """
    own = load_state(path, _purpose(run, problem)) if path else None
    checkpoint = ranks.broadcast(own)  # of several processes the first alone keeps any
    if checkpoint is None:
        return 0, Spent()
    tensors, state = checkpoint
    for index, parameter in enumerate(parameters_of(run.optimiser)):
        parameter.data.copy_(tensors[f"{index}"])
        prefix = f"{index}."
        run.optimiser.state[parameter] = {
            name.removeprefix(prefix): value.to(parameter.device if value.ndim else "cpu")
            for name, value in tensors.items()
            if name.startswith(prefix)
        }
    return int(state["step"]), Spent.of(state)


def parameters_of(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    """All that an optimiser moves."""
    return [p for group in optimiser.param_groups for p in group["params"]]


def _purpose(run: MaskRun, problem: Mapping[str, Any]) -> dict[str, Any]:
    """What a run must share with the one that wrote a checkpoint, to resume from it."""
    shapes = [list(parameter.shape) for parameter in parameters_of(run.optimiser)]
    return {
        "problem": problem,
        "seed": run.seed,
        "training": asdict(run.training),
        "levels": list(run.levels),
        "shapes": shapes,
        "torch": torch.__version__,
    }
