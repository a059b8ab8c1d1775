"""What a dropped element carries instead: activations of all gated sites.

mean_training    its mean over what the model was trained on, all positions
mean             its mean over the clean discovery prompts, all positions
mean_positional  the same at each position
zero             nothing
interchange      its activation on the corrupted prompt
resample         its activation on another clean prompt of the same length
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness import ranks
from harness.circuits.background import Prompts, own_prompts
from harness.circuits.baseline import Baseline
from harness.circuits.gates.codes import Code, Coded
from harness.circuits.gates.space import GatedSpace
from harness.datasets.batch import Batch
from harness.errors import HarnessError
from harness.models.sites import Tap, tapped_run
from harness.models.transformer import Transformer
from harness.spec.types import Ablation

Codes = Mapping[str, Code]
"""The code of each gated site by the site's name, in order of computation."""


@dataclass(frozen=True)
class Activated:
    """Activations of every gated site, in order: [B, T, ·] of a run, [1, 1 or T, ·] if constant."""

    sites: tuple[Coded, ...]
    constant: bool

    def take(self, rows: Tensor) -> Activated:
        """The prompts `rows` [b] alone."""
        if self.constant:
            return self
        some = (
            Coded(c[rows.to(c.device)], None if r is None else r[rows.to(r.device)])
            for c, r in self.sites
        )
        return Activated(tuple(some), False)


@torch.no_grad()
def activated(
    model: Transformer,
    codes: Codes,
    tokens: Tensor,
    lengths: Tensor | None = None,
    tap: Tap | None = None,
) -> Activated:
    """Run the model on tokens [B, T] and take every gated site apart. Cost: one forward.

    `tap` changes values on the way, once they are taken apart.
    """
    held: dict[str, Coded] = {}

    def watch(site: str, value: Tensor) -> Tensor:
        if site in codes:
            held[site] = codes[site].encode(value)
        return value if tap is None else tap(site, value)

    tapped_run(model, tokens, watch, lengths)
    return Activated(tuple(held[site] for site in codes), False)


@torch.no_grad()
def means(
    model: Transformer, codes: Codes, prompts: Iterable[Prompts], *, positional: bool = False
) -> Tensor:
    """Mean of every element and rest over prompts and positions, summed in float64: [P, N].

    N as `GatedSpace.constants`; P is 1, or with `positional` the longest prompt's tokens. Raises
    `HarnessError` without prompts.
    """
    total: Tensor | None = None
    for tokens, lengths, counts in own_prompts(prompts):
        run = activated(model, codes, tokens, lengths)
        columns = torch.arange(tokens.shape[1], device=tokens.device)
        seen = torch.ones_like(tokens) if lengths is None else columns < lengths[:, None]
        weight = seen.double() * counts
        values = [x.double() for coded in run.sites for x in coded if x is not None]
        sums = [torch.einsum("bt,btn->tn", weight, x) for x in values]
        with_count = torch.cat([*sums, weight.sum(0)[:, None]], -1)
        total = with_count if total is None else _longer(total, with_count)
    if total is None:
        raise HarnessError("means that dropped elements carry need prompts to be taken over")
    total = ranks.summed(total)
    if not positional:
        total = total.sum(0, keepdim=True)
    return (total[:, :-1] / total[:, -1:]).to(model.embedding.dtype)


def _longer(a: Tensor, b: Tensor) -> Tensor:
    """Sum over positions, the shorter one continued with zeros."""
    if len(a) < len(b):
        a, b = b, a
    total = a.clone()
    total[: len(b)] += b
    return total


@dataclass(frozen=True)
class GatedCounterfactuals:
    """Makes the counterfactual of each batch under one ablation.

    `baseline` holds the constants, for ablations that have them.
    """

    model: Transformer
    space: GatedSpace
    codes: Codes
    ablation: Ablation
    baseline: Baseline | None = None
    notes: Mapping[str, float] = field(default_factory=dict)

    @torch.no_grad()
    def of(self, batch: Batch) -> Activated:
        """Counterfactual activations for the prompts of a batch.

        Raises `HarnessError` for `resample` without another prompt of this length, and for
        positions that have no mean.
        """
        if self.baseline is not None:
            return self._constant(batch, self.baseline)
        if self.ablation == "zero":
            return self._sites(self.model.embedding.new_zeros(1, self.space.constants))
        tokens = batch.corrupted if self.ablation == "interchange" else _others(batch)
        return activated(self.model, self.codes, tokens)

    def _constant(self, batch: Batch, baseline: Baseline) -> Activated:
        length, values = batch.clean.shape[1], baseline.values
        if len(values) > 1:
            if len(values) < length:
                raise HarnessError(
                    f"ablation {self.ablation!r} has no mean for position {length - 1}: no prompt "
                    "that the means are taken over is that long; raise the number of discovery "
                    "pairs"
                )
            values = values[:length]
        return self._sites(values.to(self.model.embedding))

    def _sites(self, values: Tensor) -> Activated:
        """Constants [P, N] by site."""
        return Activated(tuple(_coded(self.space, values[None])), True)


def _coded(space: GatedSpace, values: Tensor) -> Iterator[Coded]:
    start = 0
    for one in space.gates:
        end, stop = start + one.size, start + one.constants
        yield Coded(values[..., start:end], values[..., end:stop] if one.width else None)
        start = stop


def _others(batch: Batch) -> Tensor:
    if batch.other is None:
        raise HarnessError(
            "ablation 'resample' needs at least two prompts of each length; "
            f"length {batch.clean.shape[1]} has one. Raise the number of pairs or use "
            "prompts of equal length"
        )
    return batch.other
