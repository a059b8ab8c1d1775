"""What a dropped edge carries instead: the counterfactual activations of every writer.

    interchange      the writer's output on the corrupted prompt
    resample         its output on another clean prompt of the same length
    mean             its mean output over clean prompts and their positions
    mean_positional  its mean output over clean prompts at the same position
    zero             nothing

A head is stored before its output projection (K numbers instead of D); the projection is
linear, so differences and means commute with it. Its output bias belongs to no head
(`head_bias: unattached`) or in equal parts to all heads of its layer (`shared`); that matters only
under zero ablation, where shared biases go with their heads (interchange and means keep them). An
MLP is stored as it reaches the stream: after its norm, where it has one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.circuits.graph import Graph
from harness.errors import HarnessError
from harness.models.batch import Batch
from harness.models.transformer import Transformer
from harness.spec.types import Ablation, HeadBias, Inputs

OF_A_RUN: frozenset[Ablation] = frozenset({"interchange", "resample"})
"""Ablations whose counterfactual is one run of the model on other prompts, so that a writer which
hears nothing but the counterfactual writes the counterfactual."""


@dataclass(frozen=True)
class Activations:
    """Every writer's output in one run, and the residual stream wherever it is read.

    inputs [e, B, T, D]; heads: L of [B, T, H, K]; mlps: L of [B, T, D];
    streams: 2L+1 of [B, T, D], before each attention and MLP and at the end.
    `without_bias`: the streams lack the heads' output biases.
    """

    inputs: Tensor
    heads: tuple[Tensor, ...]
    mlps: tuple[Tensor, ...]
    streams: tuple[Tensor, ...]
    without_bias: bool = False

    def take(self, rows: Tensor) -> Activations:
        """The prompts `rows` [b] alone."""
        rows = rows.to(self.inputs.device)
        return Activations(
            self.inputs[:, rows],
            tuple(z[rows] for z in self.heads),
            tuple(m[rows] for m in self.mlps),
            tuple(x[rows] for x in self.streams),
            self.without_bias,
        )


def input_writers(model: Transformer, tokens: Tensor, inputs: Inputs) -> Tensor:
    """What the embeddings' writers write for tokens [B, T]: [e, B, T, D]."""
    embed = model.embed(tokens)
    position = model.position(tokens.shape[1]).expand_as(embed)
    parts = {
        "token": [embed],
        "summed": [embed + position],
        "split": [embed, position],
        "none": [],
    }[inputs]
    return torch.stack(parts) if parts else embed.new_empty(0, *embed.shape)


@torch.no_grad()
def collect(model: Transformer, tokens: Tensor, inputs: Inputs = "token") -> Activations:
    """Run the plain model on tokens [B, T] and keep what every writer wrote. Cost: one forward."""
    x = model.start(tokens)
    heads, mlps, streams = [], [], []
    for block in model.layers():
        streams.append(x)
        heads.append(block.heads(x))
        after = x + block.add_attention(block.project(heads[-1]))
        streams.append(x if model.config.parallel else after)
        mlps.append(block.mlp(streams[-1]))
        x = after + mlps[-1]
    written = input_writers(model, tokens, inputs)
    return Activations(written, tuple(heads), tuple(mlps), (*streams, x))


@torch.no_grad()
def assemble(
    model: Transformer,
    start: Tensor,
    inputs: Tensor,
    heads: Iterable[Tensor],
    mlps: Iterable[Tensor],
    without_bias: bool = False,
) -> Activations:
    """The activations in which every writer writes the given constant; no writer is run.

    `start` [B, T, D] is the stream before the first block.
    """
    heads, mlps = tuple(heads), tuple(mlps)
    x, streams = start, []
    for block, z, m in zip(model.layers(), heads, mlps, strict=True):
        streams.append(x)
        out = torch.zeros_like(x) if without_bias else block.project(z)  # then z is zero
        after = x + block.add_attention(out)
        streams.append(x if model.config.parallel else after)
        x = after + m
    return Activations(inputs, heads, mlps, (*streams, x), without_bias)


class References:
    """Makes the counterfactual of each batch under one ablation.

    `mean_over` are the batches whose clean prompts give the means (needed for means only).
    Raises `HarnessError` if an ablation lacks what it needs.
    """

    def __init__(
        self,
        model: Transformer,
        graph: Graph,
        ablation: Ablation,
        *,
        mean_over: Iterable[Batch] = (),
        head_bias: HeadBias = "unattached",
    ) -> None:
        self.model, self.inputs, self.ablation = model, graph.inputs, ablation
        self._without_bias = ablation == "zero" and head_bias == "shared"
        self._means: Activations | None = None
        if ablation in ("mean", "mean_positional"):
            self._means = _writer_means(model, mean_over, self.inputs, ablation)

    def of(self, batch: Batch) -> Activations:
        """Counterfactual activations for the prompts of a batch."""
        if self.ablation == "interchange":
            return self._run(batch, batch.corrupted)
        if self.ablation == "resample":
            return self._run(batch, _others(batch))
        return self._constant(batch)

    def _run(self, batch: Batch, tokens: Tensor) -> Activations:
        run = collect(self.model, tokens, self.inputs)
        if self.inputs != "none":
            return run
        change = self.model.embed(batch.clean) - self.model.embed(tokens)
        streams = tuple(x + change for x in run.streams)
        return Activations(run.inputs, run.heads, run.mlps, streams)

    def _constant(self, batch: Batch) -> Activations:
        config, (n, length) = self.model.config, batch.clean.shape
        like = self.model.embedding.new_zeros(n, length, config.d_model)
        shape = (n, length, config.n_heads, config.d_head)
        count = len(input_writers(self.model, batch.clean[:1, :1], self.inputs))
        if self._means is None:
            inputs = like.new_zeros(count, *like.shape)
            heads = [like.new_zeros(shape)] * config.n_layers
            mlps = [like] * config.n_layers
        else:
            means = _first(self._means, length)
            inputs = means.inputs.expand(count, *like.shape).contiguous()
            heads = [z.expand(shape) for z in means.heads]
            mlps = [m.expand_as(like) for m in means.mlps]
        start = self._start(batch, inputs)
        return assemble(self.model, start, inputs, heads, mlps, self._without_bias)

    def _start(self, batch: Batch, inputs: Tensor) -> Tensor:
        """The stream at the start: the input writers' constants and what belongs to no writer."""
        if self.inputs == "none":
            return self.model.start(batch.clean)
        total = inputs.sum(0)
        return total + self.model.position(total.shape[1]) if self.inputs == "token" else total


def _others(batch: Batch) -> Tensor:
    if batch.other is None:
        raise HarnessError(
            "ablation 'resample' needs at least two prompts of each length; "
            f"length {batch.clean.shape[1]} has one. Raise the number of pairs or use "
            "prompts of equal length"
        )
    return batch.other


def _first(means: Activations, length: int) -> Activations:
    """Means of the first `length` positions; means over all positions as they are."""
    if means.mlps[0].shape[1] == 1:
        return means
    if means.mlps[0].shape[1] < length:
        raise HarnessError(
            f"ablation 'mean_positional' has no mean for position {length - 1}: no prompt that "
            "the means are taken over is that long; raise the number of discovery pairs"
        )
    cut = slice(None, length)
    return Activations(
        means.inputs[:, :, cut],
        tuple(z[:, cut] for z in means.heads),
        tuple(m[:, cut] for m in means.mlps),
        (),
    )


def _writer_means(
    model: Transformer, batches: Iterable[Batch], inputs: Inputs, ablation: Ablation
) -> Activations:
    """Mean of every writer over clean prompts (and positions), summed in float64.

    One position where all positions share a mean, else as many as the longest prompt has.
    """
    total: list[Tensor] = []
    count = torch.zeros(0)
    for batch in batches:
        run = collect(model, batch.clean, inputs)
        sums = [x.double().sum(0) for x in (*run.inputs, *run.heads, *run.mlps)]
        total = sums if not total else [_longer(a, b) for a, b in zip(total, sums, strict=True)]
        count = _longer(count, torch.full((batch.clean.shape[1],), float(len(batch))))
    if not total:
        raise HarnessError(f"ablation {ablation!r} needs prompts to take the mean over")
    if ablation == "mean":
        total, count = [x.sum(0, keepdim=True) for x in total], count.sum(0, keepdim=True)
    means = [
        (x / count.to(x).view(-1, *[1] * (x.ndim - 1)))[None].to(model.embedding.dtype)
        for x in total
    ]
    first = len(means) - 2 * model.config.n_layers
    written = torch.stack(means[:first]) if first else means[-1].new_empty(0, *means[-1].shape)
    layers = first + model.config.n_layers
    return Activations(written, tuple(means[first:layers]), tuple(means[layers:]), ())


def _longer(a: Tensor, b: Tensor) -> Tensor:
    """Sum of two tensors over positions, the shorter one continued with zeros."""
    if len(a) < len(b):
        a, b = b, a
    total = a.clone()
    total[: len(b)] += b.to(a)
    return total
