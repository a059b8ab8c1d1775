"""The checkpoint of a mask training: parameters, the optimiser's state, and the next step."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.models.checkpoint import load_state, save_state

if TYPE_CHECKING:
    from harness.discovery.masks.training import MaskRun


def save(run: MaskRun, step: int, seconds: float, path: Path) -> None:
    """Write a checkpoint: `step` is the next to do, `seconds` were spent on those before."""
    tensors = {}
    for index, parameter in enumerate(_parameters(run.optimiser)):
        tensors[f"{index}"] = parameter
        for name, value in run.optimiser.state[parameter].items():
            tensors[f"{index}.{name}"] = value
    note = {"run": _fingerprint(run), "step": step, "seconds": seconds}
    save_state(tensors, json.dumps(note), path)


def restore(run: MaskRun, path: Path | None) -> tuple[int, float]:
    """The first step still to do, and the seconds spent before.

    A checkpoint of another run is ignored: the training starts anew.
    """
    checkpoint = load_state(path) if path else None
    if checkpoint is None:
        return 0, 0.0
    tensors, note = checkpoint
    state = json.loads(note)
    if state.get("run") != json.loads(json.dumps(_fingerprint(run))):
        return 0, 0.0
    for index, parameter in enumerate(_parameters(run.optimiser)):
        parameter.data.copy_(tensors[f"{index}"])
        prefix = f"{index}."
        run.optimiser.state[parameter] = {
            name.removeprefix(prefix): value.to(parameter.device if value.ndim else "cpu")
            for name, value in tensors.items()
            if name.startswith(prefix)
        }
    return int(state["step"]), float(state["seconds"])


def _parameters(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimiser.param_groups for p in group["params"]]


def _fingerprint(run: MaskRun) -> dict[str, Any]:
    """What a run must share with the one that wrote a checkpoint, to resume from it."""
    shapes = [list(parameter.shape) for parameter in _parameters(run.optimiser)]
    return {
        "seed": run.seed,
        "training": asdict(run.training),
        "levels": list(run.levels),
        "shapes": shapes,
        "torch": torch.__version__,
    }
