"""The true circuit of a model, verified once for all cells that share it, and kept.

    <models>/truths/<key>/truth.safetensors   kept uint8 and effects float64 by edge, alone, inside

It is published with a manifest, as models are, and hashed when it is read. `key` is the digest of
everything the truth depends on: the model (its id, with runtime and code), the edges and the
ablation, the prompts, and the tolerance; not the method.
Means and learned constants are taken over the discovery pairs; only the learned ones also depend on
the seed and the metric.
For a model without a unique true circuit the reason is kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from harness import ranks
from harness.circuits.ground_truth import TOLERANCE, GroundTruth, NoGroundTruth, verify
from harness.circuits.patchable import OF_A_RUN
from harness.circuits.rows import check_shape
from harness.circuits.select import strength
from harness.circuits.space import Space
from harness.datasets.pairs import PromptPairs, TaskData
from harness.discovery.problem import Discovery
from harness.discovery.sizing import circuit_of, ranking_for
from harness.disk import write
from harness.errors import HarnessError, StoreCorrupt
from harness.evaluation.setup import Setup
from harness.metrics.ground_truth import agreement, ranking
from harness.runs.compute.obtain import require_first
from harness.runs.compute.prepare import TEST_SEED, Prepared, batched
from harness.runs.plan import Cell
from harness.runs.store.models import ModelStore
from harness.runs.store.sealed import SealedFolder
from harness.spec import granularity
from harness.spec.identity import digest
from harness.spec.types import Ablation, CompileModel, Selection

FILE = "truth.safetensors"

FORM = 3
"""1 held matrices over writers and readers; up to 2 there were files without digests."""


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
    key, truths = digest(depends_on(cell, prepared, pairs)), models.truths
    # Verified by one of the cells that need it.
    with ranks.turns("the true circuit"), truths.lock(key):
        if truths.exists(key):
            log(f"the true circuit [{key[:12]}] is in the cache")
        else:
            require_first("the true circuit", truths)
            content = _verified(cell, prepared.test, pairs)
            draft = truths.draft(key)
            write(draft / FILE, content)
            truths.publish(key, draft)
    return _read(truths.read(key), prepared.test.space)


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


def _read(folder: SealedFolder, space: Space) -> GroundTruth:
    path = folder.path(FILE)
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
        raise folder.fault(path, f"does not hold a true circuit ({error})") from error


# ---------------------------------------------------------------- agreement
def compared_with_truth(
    cell: Cell,
    prepared: Prepared,
    data: TaskData,
    discovery: Discovery,
    models: ModelStore,
    log: Callable[[str], None],
) -> tuple[GroundTruth | None, dict[str, Any] | None]:
    """The true circuit where the model is a compiled program, and agreement with it.

    The truth is that of all test pairs, also in a smoke run; where there is none, the log says why.
    """
    if not isinstance(cell.model, CompileModel):
        return None, None
    choices = cell.task.spec.evaluation
    pairs = data.pairs("test", choices.test_pairs, TEST_SEED)
    try:
        truth = true_circuit(cell, prepared, pairs, models, log)
    except StoreCorrupt:
        raise
    except HarnessError as error:
        log(f"not compared with a true circuit: {error}")
        return None, None
    selection, ablation = cell.method.selection, choices.ablation
    return truth, ground_truth_agreement(truth, discovery, selection, ablation)


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
