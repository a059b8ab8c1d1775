"""The true circuit of a model, verified once for all cells that share it, and kept.

    <models>/truths/<key>.safetensors   kept uint8 and effects float64 by edge, alone, inside

`key` is the digest of all that the truth depends on: the model (its id, with runtime and code),
what an edge is and what a dropped one carries, the prompts, and the tolerance. Not of the method.
Means and learned constants are taken over the discovery pairs; only the learned ones also depend on
the seed and the metric.
A model that has no single true circuit is kept too, with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from harness.circuits.edges.counterfactuals import OF_A_RUN, References
from harness.circuits.edges.graph import Graph
from harness.circuits.ground_truth import TOLERANCE, KnownCircuit, NoTrueCircuit, verify
from harness.datasets.pairs import PromptPairs
from harness.errors import StoreCorrupt
from harness.runs.atomic import replace_file
from harness.runs.models import ModelStore
from harness.runs.setting import TEST_SEED, Setting, batched
from harness.spec.identity import digest

FOLDER = "truths"


def true_circuit(
    setting: Setting,
    pairs: PromptPairs,
    references: References,
    models: ModelStore,
    log: Callable[[str], None],
) -> KnownCircuit:
    """The true edges of a cell's model on these prompts: from the store, else verified and kept.

    Raises `NoTrueCircuit` where there is no single one, `StoreCorrupt` for a broken file, and
    `HarnessError` where the counterfactual of these prompts cannot be made.
    """
    key = digest(depends_on(setting, pairs))
    path = models.root / FOLDER / f"{key}.safetensors"
    with models.lock(key):  # of several cells that need it, one verifies it
        if path.is_file():
            log(f"the true circuit [{key[:12]}] is in the cache")
        else:
            replace_file(path, _verified(setting, pairs, references))
    return _read(path, setting.graph)


def depends_on(setting: Setting, pairs: PromptPairs) -> Mapping[str, Any]:
    """All that can move a true edge or its effect, as plain JSON data."""
    cell, choices = setting.cell, setting.choices
    same_for_all = choices.ablation in (*OF_A_RUN, "zero")  # else taken over discovery pairs
    return {
        "model": cell.model_id,
        "ablation": choices.ablation,
        "positions": choices.positions,
        "inputs": choices.inputs,
        "head_bias": choices.head_bias,
        "pairs": pairs.digest(),
        "partners": TEST_SEED,
        "learned": [cell.seed, choices.metric] if choices.ablation == "optimal" else None,
        "discovery": None if same_for_all else setting.digests["discovery"],
        "tolerance": TOLERANCE,
    }


def _verified(setting: Setting, pairs: PromptPairs, references: References) -> bytes:
    test = batched(setting.patched, pairs, setting.cell.runtime.device, TEST_SEED)
    try:
        known = verify(setting.patched, test, references)
    except NoTrueCircuit as error:
        return _bytes({}, {"reason": str(error)})
    tensors = {
        "kept": known.kept.to(torch.uint8),
        "effects": known.effects,
        "alone": torch.tensor(known.alone, dtype=torch.float64),
        "inside": torch.tensor(known.inside, dtype=torch.float64),
    }
    return _bytes(tensors, {"reason": None})


def _bytes(tensors: Mapping[str, torch.Tensor], note: Mapping[str, Any]) -> bytes:
    data: bytes = save(dict(tensors), metadata={"truth": json.dumps(note)})
    return data


def _read(path: Path, graph: Graph) -> KnownCircuit:
    try:
        with safe_open(path, framework="pt") as file:
            note = json.loads((file.metadata() or {})["truth"])
            if note["reason"] is not None:
                raise NoTrueCircuit(note["reason"])
            found = {name: torch.as_tensor(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        numbers = float(found["alone"]), float(found["inside"])
        return KnownCircuit(graph, found["kept"].bool(), found["effects"], *numbers)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise StoreCorrupt(
            f"{path} does not hold a true circuit ({error}); delete it and run again"
        ) from error
