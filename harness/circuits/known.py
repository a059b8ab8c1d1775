"""Ground truth: the edges that a model needs, found by trying every one of them.

The effect of an edge is the largest move of any logit at any read position when that edge alone is
ablated in the otherwise whole model. The true edges are those with an effect beyond a tolerance,
and are the ground truth only if they also give the whole model's outputs by themselves and none of
them can be left out. That is so for a compiled program, where the edges' effects are far apart;
it depends on the ablation, on the graph's input writers and on the prompts.

Where each position has its own edges, a true edge is one at a position; positions may stand in for
each other, and then there is no ground truth.

Cost: one patched forward of all prompts per edge, so for small models only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.circuits.circuit import Circuit
from harness.circuits.graph import Graph
from harness.circuits.patching import PatchedModel, plain_logits
from harness.circuits.reference import Activations, References
from harness.datasets.batch import Batch
from harness.errors import HarnessError
from harness.models.precision import HALF

TOLERANCE = 1e-3
"""In logits, between rounding (float32: about 1e-6) and the effect of an edge that matters."""

_BUFFER = 2**25
"""Numbers in the writers of all masks that are run together."""


class NoTrueCircuit(HarnessError):
    """A model of which no single set of edges is the true one."""


@dataclass(frozen=True)
class KnownCircuit:
    """The true edges of a model, and how clearly they are told from the others.

    `kept` bool and `effects` float64 like the graph's edges, 0 at impossible ones. `alone`: largest
    move of a logit when all other edges are ablated at once. `inside`: smallest of the largest
    moves when one more edge is; infinite for the empty circuit.
    """

    graph: Graph
    kept: Tensor
    effects: Tensor
    alone: float
    inside: float

    @property
    def size(self) -> int:
        """True edges."""
        return int(self.kept.sum())

    @property
    def smallest_effect(self) -> float:
        """The least that a true edge moves a logit; infinite without true edges."""
        return float(self.effects[self.kept].min()) if self.size else torch.inf

    @property
    def largest_other(self) -> float:
        """The most that another edge moves a logit; 0 if all are true."""
        others = self.effects[self.graph.allowed & ~self.kept]
        return float(others.max()) if len(others) else 0.0

    def edges(self) -> Iterator[str]:
        """Names of the true edges, in the order of the field's files."""
        return Circuit(self.graph, self.kept).edges()


def verify(
    patched: PatchedModel,
    batches: Sequence[Batch],
    references: References,
    tolerance: float = TOLERANCE,
) -> KnownCircuit:
    """Find the true edges on these prompts and prove that they are the circuit.

    Raises `NoTrueCircuit` if they do not give the whole model's outputs by themselves, or one of
    them is not needed among them: then there is no single true circuit. `HarnessError` in half
    precision, whose rounding is beyond the tolerance.
    """
    dtype = patched.model.embedding.dtype
    if dtype in HALF:
        raise HarnessError(
            f"no ground truth in {str(dtype).removeprefix('torch.')}: rounding alone moves logits "
            f"by more than {tolerance:g}; use float32"
        )
    runs = [(batch, references.of(batch)) for batch in batches]
    effects = edge_effects(patched, runs)
    kept = effects > tolerance
    alone = float(_moves(patched, runs, kept[None])[0])
    if not alone <= tolerance:
        raise NoTrueCircuit(
            f"no ground truth: the {int(kept.sum())} edges that matter one by one move a logit by "
            f"{alone:.2g} when they alone are kept (allowed {tolerance:g}); others stand in for "
            "each other"
        )
    moves = _moves(patched, runs, _without_each(kept, kept))
    inside = float(moves.min()) if len(moves) else torch.inf
    if not inside > tolerance:
        raise NoTrueCircuit(
            f"no ground truth: one of the {int(kept.sum())} edges that matter in the whole model "
            f"moves no logit by more than {inside:.2g} when they alone are kept"
        )
    return KnownCircuit(patched.graph, kept, effects, alone, inside)


def edge_effects(patched: PatchedModel, runs: Sequence[tuple[Batch, Activations]]) -> Tensor:
    """Largest move of a logit when one edge is ablated: float64 like the graph's edges,
    0 at impossible ones.

    `runs`: batches, each with the counterfactual that ablation puts in.
    """
    allowed = patched.graph.allowed
    effects = torch.zeros(allowed.shape, dtype=torch.float64)
    effects[allowed] = _moves(patched, runs, _without_each(allowed, allowed))
    return effects


def stated(edges: Iterable[str], graph: Graph) -> Tensor:
    """Edges named with the input writers `tok` and `pos` as edges of `graph`: bool [W, R].

    With one writer `input` for both, either makes its edge; what has no writer has no edge.
    """
    kept = torch.zeros_like(graph.allowed)
    tokens, positions = _INPUTS[graph.inputs]
    for edge in edges:
        writer, _, reader = edge.partition("->")
        name = {"tok": tokens, "pos": positions}.get(writer, writer)
        if name:
            kept[graph.edge_index(f"{name}->{reader}")] = True
    return kept


_INPUTS = {
    "token": ("input", ""),
    "summed": ("input", "input"),
    "split": ("tok", "pos"),
    "none": ("", ""),
}


def _without_each(kept: Tensor, edges: Tensor) -> Tensor:
    """`kept` once for each of `edges`, without it: S masks, in the order of a mask."""
    places = edges.nonzero()
    masks = kept.expand(len(places), *kept.shape).clone()
    masks[torch.arange(len(places)), *places.T] = False
    return masks


def _moves(
    patched: PatchedModel, runs: Sequence[tuple[Batch, Activations]], masks: Tensor
) -> Tensor:
    """How far each of S masks moves a logit of the whole model at most: float64 [S]."""
    worst = torch.zeros(len(masks), dtype=torch.float64)
    for batch, reference in runs:
        whole = plain_logits(patched.model, batch)
        size = patched.graph.n_writers * reference.streams[0].numel() + whole.numel()
        chunk = max(1, _BUFFER // size)
        for start in range(0, len(masks), chunk):
            part = masks[start : start + chunk].to(whole.device)
            moved = (patched.logits(batch, part, reference) - whole).abs().amax(-1)  # [S, B, P]
            most = moved.where(batch.read, 0).flatten(1).amax(1)
            place = slice(start, start + len(part))
            worst[place] = torch.maximum(worst[place], most.double().cpu())
    return worst
