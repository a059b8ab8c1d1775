"""Two circuits of one space in one drawing: what both have, and what only one has."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from harness.circuits.circuit import Circuit
from harness.circuits.drawing.layout import drawing
from harness.circuits.drawing.parts import Drawing, DrawnNode, Element, Location
from harness.errors import HarnessError


def difference(one: Circuit, other: Circuit) -> Drawing:
    """All kept elements of either, at most those of largest |score| in units of its circuit's.

    Raises `HarnessError` for circuits of different spaces.
    """
    if one.space != other.space:
        raise HarnessError(
            "circuits of different spaces have no difference: no element of one is an element "
            f"of the other ({one.space} and {other.space})"
        )
    either = one.kept | other.kept
    strength = torch.maximum(_strength(one), _strength(other)).where(either, torch.nan)
    ranked = one.scores is not None or other.scores is not None
    ties = {**one.ties, **other.ties} if one.ties and other.ties else {}
    joined = Circuit(one.space, either, strength if ranked else None, one.d_model, ties=ties)
    plain = drawing(joined)
    sides = {
        element.name: _side(one.kept, other.kept, joined.space.index(element.name))
        for element in plain.elements
    }

    def marked(element: Element) -> Element:
        return replace(element, score=None, side=sides[element.name])

    def marked_node(node: DrawnNode) -> DrawnNode:
        return node if node.element is None else replace(node, element=marked(node.element))

    return replace(
        plain,
        elements=tuple(map(marked, plain.elements)),
        nodes=tuple(map(marked_node, plain.nodes)),
        places=tuple(Location(at.name, tuple(map(marked, at.elements))) for at in plain.places),
        ranked=ranked,
    )


def _strength(circuit: Circuit) -> Tensor:
    """|score| of kept elements [E] in units of the largest; 1 without scores, 0 if not kept."""
    kept = circuit.kept.double()
    if circuit.scores is None or not circuit.size:
        return kept
    strength = circuit.scores.double().abs().nan_to_num(posinf=torch.inf) * kept
    finite = strength[strength.isfinite()]
    largest = float(finite.max()) if len(finite) else 0.0
    return (strength / largest).clamp(max=1) if largest else kept


def _side(one: Tensor, other: Tensor, element: int) -> str:
    first, second = bool(one[element]), bool(other[element])
    return "both" if first and second else "one" if first else "other"
