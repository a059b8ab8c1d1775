"""How parts depend on the stream: features, neurons, heads and whole MLPs. See `writers.py`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.dictionaries.dictionary import Dictionary
from harness.errors import HarnessError
from harness.tracing.frozen.attention import FrozenAttention
from harness.tracing.frozen.mlps import FrozenMLP
from harness.tracing.frozen.norms import ALL
from harness.tracing.parts import Explicit
from harness.tracing.writers import Expansion

_CLOSE = 1e-3
"""How far, relative to the largest activity, a code may be from what its encoder says."""


@dataclass(frozen=True)
class FeatureReading:
    """Features of a module's output, or of an MLP's hidden layer, that are active in the run.

    A feature's activity is encoder · x + constant for as long as it is active: `encoders`
    [T, S, width] and `constants` [T, S] of the S columns of a token.
    """

    module: FrozenAttention | FrozenMLP
    of_hidden: bool
    encoders: Tensor
    constants: Tensor
    values: Tensor

    def pull(
        self, direction: Tensor, per_unit: Tensor, kept: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """See `Reading.pull`."""
        weights = per_unit if kept is None else per_unit * kept
        inner = torch.bmm(weights.transpose(0, 1), self.encoders).transpose(0, 1)  # [N, T, width]
        constant = (weights * self.constants).sum((-1, -2))
        stream, rest = self._through_module(inner)
        return stream, constant + rest

    def _through_module(self, inner: Tensor) -> tuple[Tensor, Tensor]:
        module = self.module
        if isinstance(module, FrozenAttention):
            stream, constant = module.pull(inner)
            return stream, constant + module.after_heads(inner).sum(-1)
        after = inner.new_zeros(inner.shape[:-1])
        if not self.of_hidden:
            inner, after = module.to_hidden(inner)
        stream, constant = module.from_hidden(inner)
        return stream, (constant + after).sum(-1)

    def expand(self, rows: Tensor, columns: Tensor, direction: Tensor) -> Expansion:
        """See `Reading.expand`; the direction does not matter: an activity is a number."""
        inner, module = self.encoders[rows, columns], self.module
        constant, value = self.constants[rows, columns], self.values[rows, columns]
        if isinstance(module, FrozenAttention):
            stream, through = module.pull_heads(inner, rows)
            constant = constant + through.sum(-1) + module.after_heads(inner, rows)
            return Expansion(stream, constant, value)
        if not self.of_hidden:
            inner, after = module.to_hidden(inner, rows)
            constant = constant + after
        stream, through = module.from_hidden(inner, rows)
        return Expansion(stream, constant + through, value)


@dataclass(frozen=True)
class NeuronReading:
    """Units of an MLP's hidden layer; a unit's activity is its own number."""

    mlp: FrozenMLP

    def pull(
        self, direction: Tensor, per_unit: Tensor, kept: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """See `Reading.pull`."""
        stream, constant = self.mlp.from_hidden(per_unit if kept is None else per_unit * kept)
        return stream, constant.sum(-1)

    def expand(self, rows: Tensor, columns: Tensor, direction: Tensor) -> Expansion:
        """See `Reading.expand`."""
        units = torch.nn.functional.one_hot(columns, self.mlp.hidden.shape[1])
        stream, constant = self.mlp.from_hidden(units.to(direction.dtype), rows)
        return Expansion(stream, constant, self.mlp.hidden[rows, columns])


@dataclass(frozen=True)
class HeadReading:
    """Heads as wholes: vectors, traced in the direction that the target gives them."""

    attention: FrozenAttention

    def pull(
        self, direction: Tensor, per_unit: Tensor, kept: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """See `Reading.pull`."""
        return self.attention.pull(direction, kept)

    def expand(self, rows: Tensor, columns: Tensor, direction: Tensor) -> Expansion:
        """See `Reading.expand`; of all heads only the part's own has a direction."""
        stream, constant = self.attention.pull_heads(direction, rows)
        own = torch.nn.functional.one_hot(columns, self.attention.heads).to(direction.dtype)
        parts = self.attention.head_parts()[rows, columns]
        return Expansion(
            stream * own[..., None, None], (constant * own).sum(-1), (parts * direction).sum(-1)
        )


@dataclass(frozen=True)
class ModuleReading:
    """An MLP as a whole: a vector, traced in the direction that the target gives it."""

    mlp: FrozenMLP
    part: Tensor  # [T, D]

    def pull(
        self, direction: Tensor, per_unit: Tensor, kept: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """See `Reading.pull`."""
        hidden, _ = self.mlp.to_hidden(direction if kept is None else direction * kept)
        stream, constant = self.mlp.from_hidden(hidden)
        return stream, constant.sum(-1)

    def expand(self, rows: Tensor, columns: Tensor, direction: Tensor) -> Expansion:
        """See `Reading.expand`."""
        hidden, _ = self.mlp.to_hidden(direction, rows)
        stream, constant = self.mlp.from_hidden(hidden, rows)
        return Expansion(stream, constant, (self.part[rows] * direction).sum(-1))


def features_of(
    dictionary: Dictionary, activation: Tensor, module: FrozenAttention | FrozenMLP, hidden: bool
) -> tuple[Explicit, FeatureReading, Explicit]:
    """Active features, how they are read, and bias and error, of an activation [T, width].

    `hidden`: the activation is the hidden layer of the MLP, whose directions are then those of the
    stream after the output map. Raises `HarnessError` for a code that is not affine where active.
    """
    code = dictionary.encode(activation)  # [T, F]
    active = code > 0
    most = int(active.sum(-1).max())
    # Active features first, in the order of the dictionary.
    order = active.to(torch.int8).argsort(dim=-1, descending=True, stable=True)[:, : max(1, most)]
    present = active.gather(-1, order)
    values = code.gather(-1, order) * present
    written = dictionary.decoder[order] * present[..., None]
    encoders = dictionary.encoder[order] * present[..., None]
    constants = dictionary.encoder_bias[order] * present
    if dictionary.pre_bias:
        constants = constants - encoders @ dictionary.decoder_bias
    expected = torch.einsum("tsd,td->ts", encoders, activation) + constants
    if (expected - values).abs().max() > _CLOSE * values.abs().max().clamp(min=1):
        raise HarnessError(
            "the dictionary's code is not encoder · x + bias where a feature is active; tracing "
            "cannot take it apart"
        )
    bias = dictionary.decoder_bias.expand_as(activation)
    error = activation - (torch.einsum("ts,tsd->td", values, written) + bias)
    tail = torch.stack([bias, error], 1)
    if hidden:
        assert isinstance(module, FrozenMLP)
        written, tail = (_to_output(module, x) for x in (written, tail))
        tail = torch.cat([tail, module.bias_part()[:, None]], 1)
    reading = FeatureReading(module, hidden, encoders, constants, values)
    units = torch.where(present, order, -1)
    return Explicit(units, values, written), reading, Explicit.whole(tail)


def _to_output(mlp: FrozenMLP, hidden: Tensor) -> Tensor:
    """Vectors of the hidden layer [T, S, M] as what they add to the stream [T, S, D]."""
    out = hidden @ mlp.out_weight.T
    if mlp.post is None:
        return out
    return mlp.post.apply(out.transpose(0, 1), ALL).transpose(0, 1)
