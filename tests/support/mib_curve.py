"""MIB's curve from a published file, written from its rules alone.

From `importances.json` and prompts to faithfulness at ten sizes, CPR and CMD. Nothing of the
harness takes part but the slow reference, whose query heads read keys and values by edges of
their own.

- n = ⌊share · edges of the file⌋ of the largest scores (by magnitude for CMD), ten shares, no 0;
- nodes that nothing in the circuit reads, or that read nothing in it, are taken out until none is;
- an edge that is left out carries what its writer wrote in the corrupted run, into one reader of
  one head; all others carry what it writes in this run;
- the metric is the mean of logit(right) - logit(wrong), faithfulness the ratio of its means;
- areas are trapezoids over the shares.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from support.slow_reference import SlowModel

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

Edge = tuple[str, str]


class MibFile:
    """The edges of a file with their scores, and whether it marks them as in the circuit."""

    def __init__(self, path: Path) -> None:
        data: dict[str, Any] = json.loads(path.read_text())
        self.layers, self.heads = data["cfg"]["n_layers"], data["cfg"]["n_heads"]
        edges = {tuple(name.split("->")): edge for name, edge in data["edges"].items()}
        self.scores: dict[Edge, float] = {name: edge["score"] for name, edge in edges.items()}
        self.in_graph = {name for name, edge in edges.items() if edge["in_graph"]}

    def top(self, share: float, absolute: bool) -> set[Edge]:
        """The strongest edges, without dead ends."""
        strength = (lambda edge: -abs(self.scores[edge])) if absolute else self._minus
        return pruned(set(sorted(self.scores, key=strength)[: int(share * len(self.scores))]))

    def _minus(self, edge: Edge) -> float:
        return -self.scores[edge]

    def mask(self, circuit: set[Edge]) -> Tensor:
        """1 at the circuit's edges: writers by readers in the order of the passes."""
        layers, heads = range(self.layers), range(self.heads)
        writers, readers = ["input"], []
        for layer in layers:
            writers += [*(f"a{layer}.h{h}" for h in heads), f"m{layer}"]
            readers += [f"a{layer}.h{h}<{part}>" for part in "qkv" for h in heads]
            readers.append(f"m{layer}")
        readers.append("logits")
        mask = torch.zeros(len(writers), len(readers), dtype=torch.float64)
        for writer, reader in circuit:
            mask[writers.index(writer), readers.index(reader)] = 1
        return mask


def pruned(circuit: set[Edge]) -> set[Edge]:
    """Without edges from nodes that read nothing, or into nodes that nothing reads."""
    while True:
        told = {node(reader) for _, reader in circuit} | {"input"}
        heard = {writer for writer, _ in circuit} | {"logits"}
        left = {(w, r) for w, r in circuit if w in told and node(r) in heard}
        if left == circuit:
            return circuit
        circuit = left


def node(reader: str) -> str:
    """`a0.h1` of `a0.h1<k>`."""
    return re.sub("<[qkv]>$", "", reader)


class Prompts:
    """A model and prompts, as lists of (clean, corrupted, right, wrong)."""

    def __init__(self, model: SlowModel, rows: list[tuple[Tensor, Tensor, int, int]]) -> None:
        self.model, self.n = model, len(rows)
        self.groups = []
        for length in sorted({len(row[0]) for row in rows}):
            some = [row for row in rows if len(row[0]) == length]
            clean = torch.stack([row[0] for row in some])
            corrupted = torch.stack([row[1] for row in some])
            right, wrong = [row[2] for row in some], [row[3] for row in some]
            self.groups.append((clean, corrupted, right, wrong))
        self.corrupted: list[list[Tensor]] = []

    def metric(self, mask: Tensor) -> float:
        """Mean over prompts of logit(right) - logit(wrong) at their last token."""
        if not self.corrupted:
            ones = torch.ones_like(mask)
            self.corrupted = [self.model.writers(group[1], ones, None)[0] for group in self.groups]
        total = 0.0
        for (clean, _, right, wrong), replaced in zip(self.groups, self.corrupted, strict=True):
            last = self.model.writers(clean, mask, replaced)[1][:, -1]
            at = torch.arange(len(clean))
            total += float((last[at, right] - last[at, wrong]).sum())
        return total / self.n


def curve(file: MibFile, prompts: Prompts, circuits: list[set[Edge]]) -> list[float]:
    """Faithfulness of circuits."""
    everything = file.mask(set(file.scores))
    whole, nothing = (prompts.metric(mask) for mask in (everything, everything * 0))
    return [(prompts.metric(file.mask(one)) - nothing) / (whole - nothing) for one in circuits]


def area(values: list[float]) -> float:
    """Trapezoids over the shares."""
    steps = zip(SHARES, SHARES[1:], values, values[1:], strict=False)
    return sum((b - a) * (f + g) / 2 for a, b, f, g in steps)


def cpr(faithfulness: list[float]) -> float:
    """Area under the curve."""
    return area(faithfulness)


def cmd(faithfulness: list[float]) -> float:
    """Area between the curve and 1."""
    return area([abs(1 - f) for f in faithfulness])
