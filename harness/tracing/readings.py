"""How parts depend on the stream: features, neurons, heads and whole MLPs. See `writers.py`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.dictionaries.dictionary import Dictionary
from harness.errors import HarnessError
from harness.tracing.frozen.attention import FrozenAttention
from harness.tracing.frozen.mlps import FrozenMLP
from harness.tracing.parts import Explicit, FeatureParts
from harness.tracing.writers import Expansion

_CLOSE = 1e-3
"""How far, relative to the largest activity, a code may be from what its encoder says."""


@dataclass(frozen=True)
class FeatureReading:
    """Features of a module's output, or of an MLP's hidden layer, that are active in the run.

    A feature's activity is encoder · x + constant for as long as it is active: `encoders`
    [T, S, width] and `constants` [T, S] of the S columns of a token, or [F, width] and [F] where
    columns are all features, active or not. `values` [T, S].
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
        if self.encoders.ndim == 2:
            weights = weights * (self.values > 0)
            inner = weights @ self.encoders
        else:
            inner = torch.bmm(weights.transpose(0, 1), self.encoders).transpose(0, 1)
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
        place = (rows, columns) if self.encoders.ndim == 3 else (columns,)
        inner, module = self.encoders[place], self.module
        constant, value = self.constants[place], self.values[rows, columns]
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
    dictionary: Dictionary,
    activation: Tensor,
    module: FrozenAttention | FrozenMLP,
    hidden: bool,
    every: bool,
) -> tuple[Explicit | FeatureParts, FeatureReading, Explicit]:
    """Features, how they are read, and bias and error, of an activation [T, width].

    `hidden`: the activation is the hidden layer of the MLP, whose directions are then those of the
    stream after the output map. `every`: all features are parts, else those that are active.
    Raises `HarnessError` for a code that is not affine where active.
    """
    before = dictionary.before_activation(activation)
    code = dictionary.activate(before)  # [T, F]
    _refuse_bent(code, before)
    mlp = None
    if hidden:
        assert isinstance(module, FrozenMLP)
        mlp = module
    bias = dictionary.decoder_bias.expand_as(activation)
    tail = torch.stack([bias, activation - dictionary.decode(code)], 1)
    if mlp is not None:
        tail = torch.cat([_to_output(mlp, tail), mlp.bias_part()[:, None]], 1)
    constants: Tensor = dictionary.encoder_bias
    if dictionary.pre_bias:
        constants = constants - dictionary.encoder @ dictionary.decoder_bias
    if every:
        reading = FeatureReading(module, hidden, dictionary.encoder, constants, code)
        return FeatureParts(code, dictionary.decoder, mlp), reading, Explicit.whole(tail)
    active = code > 0
    most = int(active.sum(-1).max())
    # Active features first, in the order of the dictionary.
    order = active.to(torch.int8).argsort(dim=-1, descending=True, stable=True)[:, : max(1, most)]
    present = active.gather(-1, order)
    values = code.gather(-1, order) * present
    written = dictionary.decoder[order] * present[..., None]
    encoders = dictionary.encoder[order] * present[..., None]
    if mlp is not None:
        written = _to_output(mlp, written)
    reading = FeatureReading(module, hidden, encoders, constants[order] * present, values)
    units = torch.where(present, order, -1)
    return Explicit(units, values, written), reading, Explicit.whole(tail)


def _refuse_bent(code: Tensor, before: Tensor) -> None:
    if (code - before * (code > 0)).abs().max() > _CLOSE * code.abs().max().clamp(min=1):
        raise HarnessError(
            "the dictionary's code is not encoder · x + bias where a feature is active; tracing "
            "cannot take it apart"
        )


def _to_output(mlp: FrozenMLP, hidden: Tensor) -> Tensor:
    """Vectors of the hidden layer [T, S, M] as what they add to the stream [T, S, D]."""
    return mlp.to_output(hidden.transpose(0, 1)).transpose(0, 1)
