"""Least-squares probes: what a linear map reads of the board from the stream, beside features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.datasets.concepts import concept_names, concept_source
from harness.datasets.pairs import TaskData
from harness.interpretation.tokens import TokenChunk, held_out_chunks, training_chunks
from harness.models.sites import sites
from harness.models.transformer import Transformer

RIDGE = 1e-4
"""Of the mean square of a coordinate: keeps directions that never vary out."""


@dataclass(frozen=True)
class LinearProbe:
    """x [N, D] to a number for each of C concepts: near 1 where it is true, 0 where it is not."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """[N, C]."""
        return x.double() @ self.weight + self.bias


class ProbeFit:
    """Adds up what a fit needs while tokens stream by: X'X and X'Y of centred numbers."""

    def __init__(self, width: int, concepts: int) -> None:
        self.n = 0
        self.x, self.y = (torch.zeros(size, dtype=torch.float64) for size in (width, concepts))
        self.xx = torch.zeros(width, width, dtype=torch.float64)
        self.xy = torch.zeros(width, concepts, dtype=torch.float64)

    def add(self, x: Tensor, truth: Tensor) -> None:
        """Take activations [N, D] and what is true, bool [N, C]."""
        x, truth = x.double().cpu(), truth.double()
        self.n += len(x)
        self.x += x.sum(0)
        self.y += truth.sum(0)
        self.xx += x.T @ x
        self.xy += x.T @ truth

    def differences(self) -> Tensor:
        """Mean activation where a concept is true less that where it is not, [C, D].

        0 of a concept that is always or never true.
        """
        x, y = self.x / self.n, self.y / self.n
        spread = (y * (1 - y)).clamp(min=1 / self.n**2)
        return (self.xy / self.n - torch.outer(x, y)).T / spread[:, None]

    def probe(self) -> LinearProbe:
        """The map of least squares, with a small ridge."""
        x, y = self.x / self.n, self.y / self.n
        xx = self.xx / self.n - torch.outer(x, x)
        ridge = RIDGE * xx.diagonal().mean().clamp(min=1e-12)
        xy = self.xy / self.n - torch.outer(x, y)
        weight = torch.linalg.solve(xx + ridge * torch.eye(len(x), dtype=torch.float64), xy)
        return LinearProbe(weight, y - x @ weight)


class ProbeScore:
    """F1 of each family's predictions, those above ½."""

    def __init__(self, concepts: int) -> None:
        self.hits, self.false, self.missed = (
            torch.zeros(concepts, dtype=torch.float64) for _ in range(3)
        )

    def add(self, guesses: Tensor, truth: Tensor) -> None:
        """Take probe outputs [N, C] and what is true, bool [N, C]."""
        predicted = guesses > 0.5
        self.hits += (predicted & truth).sum(0)
        self.false += (predicted & ~truth).sum(0)
        self.missed += (~predicted & truth).sum(0)

    def f1(self, columns: slice) -> float:
        """Over all tokens and a family's concepts."""
        hits, false, missed = (x[columns].sum() for x in (self.hits, self.false, self.missed))
        whole = 2 * hits + false + missed
        return float(2 * hits / whole.clamp(min=1))


@torch.no_grad()
def probe_scores(
    model: Transformer, data: TaskData, tokens: int, sequences: int
) -> dict[str, ProbeScore]:
    """Probes of the stream after every attention and every MLP, scored on held-out sequences.

    By site, in order of computation. Raises `HarnessError` as `held_out_chunks` does.
    """
    names = [one.name for one in sites(model.config) if one.kind in ("a.stream", "m.stream")]
    width = len(concept_names(concept_source(data).concept_families))
    fits = {name: ProbeFit(model.config.d_model, width) for name in names}
    for chunk in training_chunks(data, tokens):
        for name, x, truth in _held(model, chunk, names):
            fits[name].add(x, truth)
    probes = {name: fit.probe() for name, fit in fits.items()}
    scores = {name: ProbeScore(width) for name in names}
    for chunk in held_out_chunks(data, "test", sequences):
        for name, x, truth in _held(model, chunk, names):
            scores[name].add(probes[name](x), truth)
    return scores


def _held(
    model: Transformer, chunk: TokenChunk, names: list[str]
) -> Iterator[tuple[str, Tensor, Tensor]]:
    truth = torch.from_numpy(chunk.concepts())
    for name, x in chunk.held(model, names).items():
        yield name, x.cpu(), truth
