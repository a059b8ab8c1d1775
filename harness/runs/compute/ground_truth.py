"""The true circuit of a model, verified once for all cells that share it, and kept.

    <models>/truths/<key>.safetensors   kept uint8 and effects float64 by edge, alone, inside

`key` is the digest of everything the truth depends on: the model (its id, with runtime and code),
the edges and the ablation, the prompts, and the tolerance; not the method.
Means and learned constants are taken over the discovery pairs; only the learned ones also depend on
the seed and the metric.
For a model without a unique true circuit the reason is kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from harness.circuits.ground_truth import TOLERANCE, GroundTruth, NoGroundTruth, verify
from harness.circuits.patchable import OF_A_RUN
from harness.circuits.rows import check_shape
from harness.circuits.select import strength
from harness.circuits.space import Space
from harness.datasets.pairs import PromptPairs
from harness.discovery.problem import Discovery
from harness.discovery.sizing import circuit_of, ranking_for
from harness.errors import HarnessError, StoreCorrupt
from harness.evaluation.setup import Setup
from harness.metrics.ground_truth import agreement, ranking
from harness.runs.compute.prepare import TEST_SEED, Prepared, batched
from harness.runs.plan import Cell
from harness.runs.store.atomic import replace_file
from harness.runs.store.models import ModelStore
from harness.spec import granularity
from harness.spec.identity import digest
from harness.spec.types import Ablation, Selection

FOLDER = "truths"

FORM = 2
"""Of the files: 1 held matrices over writers and readers."""


def true_circuit(
    cell: Cell,
    prepared: Prepared,
    pairs: PromptPairs,
    models: ModelStore,
    log: Callable[[str], None],
) -> GroundTruth:
    """The true edges of a cell's model on these prompts: from the store, else verified and kept.

    Raises `NoGroundTruth` where there is no single one, `StoreCorrupt` for a broken file, and
    `HarnessError` where the counterfactual of these prompts cannot be made.
    """
    key = digest(depends_on(cell, prepared, pairs))
    path = models.root / FOLDER / f"{key}.safetensors"
    with models.lock(key):  # verified by one of the cells that need it
        if path.is_file():
            log(f"the true circuit [{key[:12]}] is in the cache")
        else:
            replace_file(path, _verified(cell, prepared.test, pairs))
    return _read(path, prepared.test.space)


def depends_on(cell: Cell, prepared: Prepared, pairs: PromptPairs) -> Mapping[str, Any]:
    """Everything that affects the true elements and their effects, as plain JSON data."""
    choices = prepared.test.choices
    same_for_all = choices.ablation in (*OF_A_RUN, "zero")  # else taken over discovery pairs
    return {
        "model": cell.model_id,
        "granularity": choices.granularity,
        "plug_in": granularity.plug_in(choices.granularity),
        "component": choices.component,
        "ablation": choices.ablation,
        "positions": choices.positions,
        "inputs": choices.inputs,
        "head_bias": choices.head_bias,
        "pairs": pairs.digest(),
        "partners": TEST_SEED,
        "learned": [cell.seed, choices.metric] if choices.ablation == "optimal" else None,
        "discovery": None if same_for_all else prepared.digests["discovery"],
        "tolerance": TOLERANCE,
        "form": FORM,
    }


def _verified(cell: Cell, setup: Setup, pairs: PromptPairs) -> bytes:
    batches = batched(setup.patchable, pairs, cell.runtime.device, TEST_SEED)
    try:
        truth = verify(setup.patchable, batches, setup.counterfactuals)
    except NoGroundTruth as error:
        return _bytes({}, {"reason": str(error)})
    tensors = {
        "kept": truth.kept.to(torch.uint8),
        "effects": truth.effects,
        "alone": torch.tensor(truth.alone, dtype=torch.float64),
        "inside": torch.tensor(truth.inside, dtype=torch.float64),
    }
    return _bytes(tensors, {"reason": None})


def _bytes(tensors: Mapping[str, torch.Tensor], note: Mapping[str, Any]) -> bytes:
    data: bytes = save(dict(tensors), metadata={"truth": json.dumps(note)})
    return data


def _read(path: Path, space: Space) -> GroundTruth:
    try:
        with safe_open(path, framework="pt") as file:
            note = json.loads((file.metadata() or {})["truth"])
            if note["reason"] is not None:
                raise NoGroundTruth(note["reason"])
            tensors = {name: torch.as_tensor(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        for name in ("kept", "effects"):
            check_shape(name, tensors[name], (len(space),))
        numbers = float(tensors["alone"]), float(tensors["inside"])
        return GroundTruth(space, tensors["kept"].bool(), tensors["effects"], *numbers)
    except NoGroundTruth:
        raise
    except (OSError, KeyError, ValueError, SafetensorError, HarnessError) as error:
        raise StoreCorrupt(
            f"{path} does not hold a true circuit ({error}); delete it and run again"
        ) from error


# ---------------------------------------------------------------- agreement
def ground_truth_agreement(
    truth: GroundTruth, discovery: Discovery, selection: Selection, ablation: Ablation
) -> dict[str, Any]:
    """`ground_truth` of `result.json`: agreement of scores, and of the circuit of the true size.

    The ranking is the one that circuits of that number are cut from: by magnitude unless the
    selection says otherwise. The circuit is cut like all others, with dead ends removed.
    """
    true = truth.kept.numpy()
    ranks = ranking(strength(ranking_for(discovery, truth.size), selection.order).numpy(), true)
    kept = circuit_of(discovery, truth.space, truth.size, selection, ablation)
    cut = agreement(kept.numpy(), true)
    return {
        "size": truth.size,
        "smallest_effect": _number(truth.smallest_effect),
        "largest_other": truth.largest_other,
        "auroc": ranks["auroc"],
        "average_precision": ranks["average_precision"],
        "ranked": bool(ranks["exact"]),
        "precision": _number(cut.precision),
        "recall": _number(cut.recall),
        "f1": _number(cut.f1),
        "exact": cut.exact,
    }


def _number(value: float) -> float | None:
    return float(np.float64(value)) if math.isfinite(value) else None
