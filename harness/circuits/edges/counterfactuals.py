"""What a dropped edge carries instead: the counterfactual activations of every writer.

    interchange      the writer's output on the corrupted prompt
    resample         its output on another clean prompt of the same length
    mean             its mean output over clean prompts and their positions
    mean_training    the same over prompts that the model was trained on
    mean_positional  its mean output over clean prompts at the same position
    optimal          a constant learned to cost least, see `harness.circuits.edges.optimal`
    zero             nothing

A head is stored before its output projection (K numbers instead of D); the projection is
linear, so differences and means commute with it. Its output bias belongs to no head
(`head_bias: unattached`) or in equal parts to all heads of its layer (`shared`); that matters only
under zero ablation, where shared biases go with their heads (interchange and means keep them). A
head's value bias b_V is part of its output, since attention's weights add up to 1, so zero ablation
takes it away too; with `folded` it belongs to no head either, as if b_V·W_O had been folded into
the output bias: a dropped head then writes b_V instead of nothing. An MLP is stored as it reaches
the stream: after its norm, where it has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.circuits.background import Prompts
from harness.circuits.baseline import Baseline
from harness.circuits.edges.graph import Graph
from harness.datasets.batch import Batch
from harness.errors import HarnessError
from harness.models.transformer import Transformer
from harness.spec.types import Ablation, HeadBias, Inputs


@dataclass(frozen=True)
class Activations:
    """Every writer's output in one run, and the residual stream wherever it is read.

    inputs [e, B, T, D]; heads: L of [B, T, H, K]; mlps: L of [B, T, D];
    streams: 2L+1 of [B, T, D], before each attention and MLP and at the end.
    `without_bias`: the streams lack the heads' output biases. `of_a_run`: every writer's output
    is what the model makes of these streams.
    """

    inputs: Tensor
    heads: tuple[Tensor, ...]
    mlps: tuple[Tensor, ...]
    streams: tuple[Tensor, ...]
    without_bias: bool = False
    of_a_run: bool = False

    def take(self, rows: Tensor) -> Activations:
        """The prompts `rows` [b] alone."""
        rows = rows.to(self.inputs.device)
        return Activations(
            self.inputs[:, rows],
            tuple(z[rows] for z in self.heads),
            tuple(m[rows] for m in self.mlps),
            tuple(x[rows] for x in self.streams),
            self.without_bias,
            self.of_a_run,
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
def collect(
    model: Transformer,
    tokens: Tensor,
    inputs: Inputs = "token",
    lengths: Tensor | None = None,
) -> Activations:
    """Run the plain model on tokens [B, T] and keep what every writer wrote. Cost: one forward.

    `lengths`: as in `Transformer.stream`.
    """
    x, padding = model.start(tokens), model.padding(tokens, lengths)
    heads, mlps, streams = [], [], []
    for block in model.layers():
        streams.append(x)
        heads.append(block.heads(x, padding))
        after = x + block.add_attention(block.project(heads[-1]))
        streams.append(x if model.config.parallel else after)
        mlps.append(block.mlp(streams[-1]))
        x = after + mlps[-1]
    written = input_writers(model, tokens, inputs)
    return Activations(written, tuple(heads), tuple(mlps), (*streams, x), of_a_run=True)


def assemble(
    model: Transformer,
    start: Tensor,
    inputs: Tensor,
    heads: Iterable[Tensor],
    mlps: Iterable[Tensor],
    without_bias: bool = False,
) -> Activations:
    """The activations in which every writer writes the given constant; differentiable.

    `start` [B, T, D]: the stream before the first block. `without_bias`: heads are zero.
    """
    heads, mlps = tuple(heads), tuple(mlps)
    x, streams = start, []
    for block, z, m in zip(model.layers(), heads, mlps, strict=True):
        streams.append(x)
        out = torch.zeros_like(x) if without_bias else block.project(block.enters(z))
        after = x + block.add_attention(out)
        streams.append(x if model.config.parallel else after)
        x = block.leaves(after + m)
    return Activations(inputs, heads, mlps, (*streams, x), without_bias)


@dataclass(frozen=True)
class Constants:
    """Constant outputs of every writer: at each of P positions, or at all of them if P = 1.

    inputs [e, 1, P, D]; heads L of [1, P, H, K]; mlps L of [1, P, D].
    """

    inputs: Tensor
    heads: tuple[Tensor, ...]
    mlps: tuple[Tensor, ...]

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Constants:
        """From `tensors()`."""
        layers = len(tensors) // 2
        return cls(tensors[0], tuple(tensors[1 : layers + 1]), tuple(tensors[layers + 1 :]))

    def tensors(self) -> tuple[Tensor, ...]:
        """The inputs', then all heads', then all MLPs'."""
        return (self.inputs, *self.heads, *self.mlps)

    @classmethod
    def of_baseline(cls, model: Transformer, graph: Graph, baseline: Baseline) -> Constants:
        """Inverse of `flat`, in the model's precision.

        Raises `HarnessError` if they are those of another model or of other writers.
        """
        layers, values = model.config.n_layers, baseline.values.to(model.embedding)
        heads, D = model.config.n_heads * model.config.d_head, model.config.d_model
        widths = [graph.n_inputs * D, *[heads] * layers, *[D] * (layers * graph.mlps)]
        if values.shape[-1] != sum(widths):
            raise HarnessError(
                f"the circuit has {values.shape[-1]} constants that dropped edges carry, and the "
                f"writers of this model need {sum(widths)}: it is a circuit of another model, or "
                "was found with other `inputs`"
            )
        first, *parts = values[None].split(widths, -1)
        written = first.unflatten(-1, (graph.n_inputs, D)).permute(2, 0, 1, 3)
        nothing = values.new_zeros(1, len(values), D)
        return cls(
            written,
            tuple(z.unflatten(-1, (model.config.n_heads, -1)) for z in parts[:layers]),
            tuple(parts[layers:]) if graph.mlps else (nothing,) * layers,
        )

    def flat(self, graph: Graph) -> Tensor:
        """As one row for each position [P, N]: the inputs', then all heads', then all MLPs'."""
        written = self.inputs.permute(1, 2, 0, 3).flatten(2)
        mlps = self.mlps if graph.mlps else ()
        return torch.cat([written, *(z.flatten(2) for z in self.heads), *mlps], -1)[0]

    @classmethod
    def zero(cls, model: Transformer, graph: Graph) -> Constants:
        """Nothing."""
        like, config = model.embedding, model.config
        head = like.new_zeros(1, 1, config.n_heads, config.d_head)
        mlp = like.new_zeros(1, 1, config.d_model)
        layers = config.n_layers
        return cls(mlp.expand(graph.n_inputs, 1, 1, -1), (head,) * layers, (mlp,) * layers)

    @classmethod
    def value_biases(cls, model: Transformer, graph: Graph) -> Constants:
        """Nothing, but for heads their value biases b_V."""
        nothing = cls.zero(model, graph)
        heads = tuple(
            z if block.qkv_map.bias is None else block.value_bias().clone().expand_as(z)
            for block, z in zip(model.layers(), nothing.heads, strict=True)
        )
        return replace(nothing, heads=heads)

    def first(self, length: int) -> Constants:
        """Those of the first `length` positions. Raises `HarnessError` if there are too few."""
        positions = self.mlps[0].shape[1]
        if positions == 1:
            return self
        if positions < length:
            raise HarnessError(
                f"ablation 'mean_positional' has no mean for position {length - 1}: no prompt that "
                "the means are taken over is that long; raise the number of discovery pairs"
            )
        cut = slice(None, length)
        return Constants(
            self.inputs[:, :, cut],
            tuple(z[:, cut] for z in self.heads),
            tuple(m[:, cut] for m in self.mlps),
        )

    def run(
        self, model: Transformer, inputs: Inputs, batch: Batch, without_bias: bool = False
    ) -> Activations:
        """The run of a batch in which all writers write these; differentiable."""
        here, (n, length) = self.first(batch.clean.shape[1]), batch.clean.shape
        written = here.inputs.expand(-1, n, length, -1).contiguous()
        heads = [z.expand(n, length, -1, -1) for z in here.heads]
        mlps = [m.expand(n, length, -1) for m in here.mlps]
        start = _start(model, inputs, batch, written)
        return assemble(model, start, written, heads, mlps, without_bias)


def _start(model: Transformer, inputs: Inputs, batch: Batch, written: Tensor) -> Tensor:
    """The stream at the start: the input writers' constants and what belongs to no writer."""
    if inputs == "none":
        return model.start(batch.clean)
    total = written.sum(0)
    return total + model.position(total.shape[1]) if inputs == "token" else total


class EdgeCounterfactuals:
    """Makes the counterfactual of each batch under one ablation.

    `mean_over` are the batches whose clean prompts give the means of `mean*`; `constants` are those
    of `optimal`, `baseline` has those of `mean_training`; `notes` are numbers about how they were
    found, for the record. Raises `HarnessError` if an ablation lacks what it needs.
    """

    def __init__(
        self,
        model: Transformer,
        graph: Graph,
        ablation: Ablation,
        *,
        mean_over: Iterable[Batch] = (),
        head_bias: HeadBias = "unattached",
        constants: Constants | None = None,
        baseline: Baseline | None = None,
        notes: Mapping[str, float] | None = None,
    ) -> None:
        self.model, self.inputs, self.ablation = model, graph.inputs, ablation
        self.notes, self.baseline = dict(notes or {}), baseline
        self._without_bias = ablation == "zero" and head_bias == "shared"
        if ablation == "zero" and head_bias == "folded" and model.config.attention_sink:
            raise HarnessError(
                "head_bias 'folded' is not available for models with attention sinks: a head's "
                "weights do not add up to 1, so that its value bias is no constant; choose "
                "unattached or shared"
            )
        self._constants = Constants.zero(model, graph)
        if ablation == "zero" and head_bias == "folded":
            self._constants = Constants.value_biases(model, graph)
        if ablation in ("mean", "mean_positional"):
            positional = ablation == "mean_positional"
            prompts = ((batch.clean, None) for batch in mean_over)
            self._constants = writer_means(model, prompts, self.inputs, positional=positional)
        if ablation == "optimal":
            if constants is None:
                raise HarnessError(
                    "ablation 'optimal' needs learned constants: give those of "
                    "harness.circuits.edges.optimal.learn_constants"
                )
            self._constants = constants
        if baseline is not None:
            self._constants = Constants.of_baseline(model, graph, baseline)

    @torch.no_grad()
    def of(self, batch: Batch) -> Activations:
        """Counterfactual activations for the prompts of a batch."""
        if self.ablation == "interchange":
            return self._run(batch, batch.corrupted)
        if self.ablation == "resample":
            return self._run(batch, _others(batch))
        return self._constants.run(self.model, self.inputs, batch, self._without_bias)

    def _run(self, batch: Batch, tokens: Tensor) -> Activations:
        run = collect(self.model, tokens, self.inputs)
        if self.inputs != "none":
            return run
        change = self.model.embed(batch.clean) - self.model.embed(tokens)
        streams = tuple(x + change for x in run.streams)
        return Activations(run.inputs, run.heads, run.mlps, streams)


def _others(batch: Batch) -> Tensor:
    if batch.other is None:
        raise HarnessError(
            "ablation 'resample' needs at least two prompts of each length; "
            f"length {batch.clean.shape[1]} has one. Raise the number of pairs or use "
            "prompts of equal length"
        )
    return batch.other


@torch.no_grad()
def writer_means(
    model: Transformer, prompts: Iterable[Prompts], inputs: Inputs, *, positional: bool = False
) -> Constants:
    """Mean of every writer over prompts (and positions), summed in float64.

    One position where all positions share a mean, else as many as the longest prompt has.
    Raises `HarnessError` without prompts.
    """
    total: list[Tensor] = []
    count = torch.zeros(0)
    for tokens, lengths in prompts:
        seen = torch.full((tokens.shape[1],), float(len(tokens)))
        run = collect(model, tokens, inputs, lengths)
        values = [x.double() for x in (*run.inputs, *run.heads, *run.mlps)]
        if lengths is not None:
            real = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
            values = [x.where(real.view(*real.shape, *[1] * (x.ndim - 2)), 0) for x in values]
            seen = real.sum(0).float().cpu()
        sums = [x.sum(0) for x in values]
        total = sums if not total else [_longer(a, b) for a, b in zip(total, sums, strict=True)]
        count = _longer(count, seen)
    if not total:
        raise HarnessError("the means that dropped edges carry need prompts to be taken over")
    if not positional:
        total, count = [x.sum(0, keepdim=True) for x in total], count.sum(0, keepdim=True)
    means = [
        (x / count.to(x).view(-1, *[1] * (x.ndim - 1)))[None].to(model.embedding.dtype)
        for x in total
    ]
    first = len(means) - 2 * model.config.n_layers
    written = torch.stack(means[:first]) if first else means[-1].new_empty(0, *means[-1].shape)
    return Constants.of([written, *means[first:]])


def _longer(a: Tensor, b: Tensor) -> Tensor:
    """Sum of two tensors over positions, the shorter one continued with zeros."""
    if len(a) < len(b):
        a, b = b, a
    total = a.clone()
    total[: len(b)] += b.to(a)
    return total
