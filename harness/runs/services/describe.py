"""What is in a circuit, and what two circuits differ in: as plain JSON data."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import isnan
from typing import Any

import torch
from torch import Tensor

from harness.circuits.circuit import Circuit
from harness.circuits.space import Space
from harness.datasets.classes import classes_of
from harness.datasets.open import open_data
from harness.errors import HarnessError
from harness.evaluation.validation.deltas import deltas
from harness.evaluation.whiteboard import whiteboard
from harness.metrics.overlap import iou
from harness.runs.prompts.words import Outputs
from harness.runs.services.judge import Request, cell_of, prepared_for
from harness.runs.services.lookup import NamedCircuit
from harness.runs.store.models import ModelStore
from harness.spec.types import TrainModel

_COMPONENT = re.compile(r"([a-z]+)([0-9]+)(?:\.(.+))?")
_ATTENTION, _MLP = "a", "m"
_MODULES = {_ATTENTION: "attention", _MLP: "MLP"}


def describe(
    circuits: Sequence[NamedCircuit], top: int, reference: NamedCircuit | None = None
) -> dict[str, Any]:
    """One circuit or two: strongest elements, nodes by layer, known elements, the difference.

    `top`: elements that are listed; those of largest |score|, or the first of the files' order
    where a circuit has no scores. Raises `HarnessError` for circuits of different spaces.
    """
    space = circuits[0].circuit.space
    for other in (*circuits[1:], *([] if reference is None else [reference])):
        _require(circuits[0], other)
    true = None if reference is None else reference.circuit.kept
    return {
        "schema_version": 1,
        "unit": space.unit,
        "total": len(space),
        "known": None
        if reference is None
        else {"name": reference.name, "size": reference.circuit.size},
        "circuits": [_circuit(one, top, true) for one in circuits],
        "difference": _difference(circuits[0], circuits[1], top, true)
        if len(circuits) == 2
        else None,
    }


def whiteboard_of(
    request: Request, models: ModelStore, log: Callable[[str], None], *, with_deltas: bool = False
) -> dict[str, Any]:
    """A circuit of channels drawn whole, on the pairs that it would be judged on.

    `with_deltas`: also what it loses without each channel and weight.

    Raises as `judge_circuit`, also for circuits that cannot be drawn and models to be trained.
    """
    model, model_id = request.source.spec, cell_of(request)[0].model_id
    if isinstance(model, TrainModel) and model.weights is None and not models.exists(model_id):
        raise HarnessError("the model is not trained yet: run its task first")
    cell, _, prepared = prepared_for(request, models, log)
    data = open_data(cell.task)
    classes = classes_of(data)
    outputs = Outputs(data.tokenizer, None if classes is None else classes.names)
    board = whiteboard(prepared.test, request.named.circuit, outputs.name)
    if not with_deltas:
        return board
    return deltas(prepared.test, request.named.circuit.kept).added_to(board)


def _require(one: NamedCircuit, other: NamedCircuit) -> None:
    if one.circuit.space != other.circuit.space:
        raise HarnessError(
            f"{one.name} and {other.name} are circuits of different spaces, so no element of one "
            f"is an element of the other: {one.circuit.space} and {other.circuit.space}"
        )


def _circuit(named: NamedCircuit, top: int, true: Tensor | None) -> dict[str, Any]:
    circuit = named.circuit
    used = circuit.components()
    return {
        "name": named.name,
        "source": dict(circuit.source),
        "seed": None if named.entry is None else named.entry.seed,
        "size": circuit.size,
        "sparsity": circuit.sparsity,
        "scored": circuit.scores is not None,
        "nodes": sum(used.values()),
        "nodes_total": len(used),
        "layers": layers_of(used),
        "strongest": _listed(circuit, circuit.kept, top, true),
        "known": None if true is None else _recovered(circuit, true, top),
    }


def _recovered(circuit: Circuit, true: Tensor, top: int) -> dict[str, Any]:
    missing = true & ~circuit.kept
    return {
        "kept": int((true & circuit.kept).sum()),
        "missing": _listed(circuit, missing, top, None),
        "n_missing": int(missing.sum()),
    }


def _difference(
    one: NamedCircuit, other: NamedCircuit, top: int, true: Tensor | None
) -> dict[str, Any]:
    a, b = one.circuit, other.circuit
    both = a.kept & b.kept
    nodes = [{name for name, used in circuit.components().items() if used} for circuit in (a, b)]
    only = []
    for named, apart, mine, theirs in (
        (one, a.kept & ~b.kept, nodes[0], nodes[1]),
        (other, b.kept & ~a.kept, nodes[1], nodes[0]),
    ):
        only.append(
            {
                "name": named.name,
                "size": int(apart.sum()),
                "strongest": _listed(named.circuit, apart, top, true),
                "nodes": [name for name in named.circuit.components() if name in mine - theirs],
            }
        )
    shared = int(both.sum())
    share = iou(shared, a.size, b.size)
    return {"both": shared, "iou": None if isnan(share) else share, "only": only}


def _listed(
    circuit: Circuit, chosen: Tensor, top: int, true: Tensor | None
) -> list[dict[str, Any]]:
    """The strongest of chosen elements [E], with their scores and whether they are known."""
    space, scores = circuit.space, circuit.scores
    return [
        {
            "element": space.name(element),
            "score": None if scores is None else float(scores[element]),
            "known": None if true is None else bool(true[element]),
        }
        for element in _order(space, scores, chosen)[:top]
    ]


def _order(space: Space, scores: Tensor | None, chosen: Tensor) -> list[int]:
    if scores is None:
        picked = chosen.tolist()
        return [element for element in space.listing() if picked[element]]
    elements = chosen.nonzero().flatten()
    order = scores[elements].abs().argsort(descending=True, stable=True)
    ordered: list[int] = elements[order].tolist()
    return ordered


def layers_of(used: dict[str, bool]) -> list[dict[str, Any]]:
    """Components by layer: which heads and other parts are in use, out of how many.

    Those whose names have no layer stand last, in a layer of their own (None).
    """
    layers: dict[int | None, dict[str, Any]] = {}
    for name, inside in used.items():
        match = _COMPONENT.fullmatch(name)
        layer = int(match[2]) if match else None
        part = (match[3] or match[1]) if match else name
        entry = layers.setdefault(
            layer, {"layer": layer, "heads": [], "heads_total": 0, "others": []}
        )
        if match and match[1] == _ATTENTION and match[3]:
            entry["heads_total"] += 1
            entry["heads"] += [part] if inside else []
        elif inside:
            entry["others"].append(_MODULES.get(match[1], name) if match else name)
    return [layers[key] for key in sorted(layers, key=lambda key: (key is None, key or 0))]


def as_named(kept: Tensor, like: Circuit, name: str) -> NamedCircuit:
    """Elements [E] as a circuit without scores of another's space."""
    return NamedCircuit(Circuit(like.space, kept.to(torch.bool), None, like.d_model), name)
