"""Carrying a sparse channel's intervention over to the dense model (Gao et al. 2025, A.4).

A channel c is one that attention, an MLP or the unembedding reads: of site a{l}.in, m{l}.in or
`final`, right after a point of the bridge. On a clean prompt it differs from the corrupted one by
    δ[t] = a_corrupted[t] - a_clean[t].
In the stream before the sparse model's norm that is δ·rms_sparse/γ_sparse[c], which the decoder
takes to its column W[:, c]; the dense model's norm divides by its own size. So at strength s the
site of the same name in the dense model gets
    s · δ[t] · (rms_sparse / rms_dense) · γ_dense ⊙ W[:, c] / γ_sparse[c]
with root mean squares of the streams averaged over the prompts, and W centred for a LayerNorm: to
first order, and as if the norms' sizes stayed. Beside it stand the same for random channels of the
site, and δ along random directions of the same length.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from harness.bridges.bridge import Bridge, streams
from harness.datasets.batch import Batch
from harness.errors import HarnessError
from harness.metrics.logits import good_mass
from harness.models.norm import Norm
from harness.models.sites import sites, tapped_run
from harness.models.transformer import Transformer

RANDOM = 10
"""Random channels, and random directions, whose effects are averaged."""

_SMALLEST = 1e-6


class Channel(NamedTuple):
    """A channel of a read site of the sparse model: `a1.in`, 17."""

    site: str
    number: int

    def __str__(self) -> str:
        return f"{self.site}.{self.number}"

    @classmethod
    def parse(cls, name: str, model: Transformer) -> Channel:
        """From a name such as `a1.in.17` or `final.9`; `HarnessError` where there is none."""
        site, _, index = name.rpartition(".")
        if site not in read_sites(model) or not index.isdecimal():
            raise HarnessError(
                f"{name!r} is no channel that can be carried over; these are read channels, as "
                "a1.in.17, m0.in.3 and final.9"
            )
        if int(index) >= model.config.d_model:
            raise HarnessError(f"{name!r}: the site has channels 0 to {model.config.d_model - 1}")
        return cls(site, int(index))


@dataclass(frozen=True)
class Effect:
    """Mean probabilities on the dense model at each strength: [S] each.

    `partner`: of the corrupted prompt's answers, on the clean prompt; `own`: of its own.
    """

    partner: Tensor
    own: Tensor

    def moved(self) -> Tensor:
        """How far the partner's answer rose above its probability at strength 0: [S]."""
        return self.partner - self.partner[0]


@dataclass(frozen=True)
class Transfer:
    """A channel's effect on the dense model beside those of random ones; strengths [S] from 0.

    `strongest`: the largest effect of any of the random channels, at each strength.
    """

    channel: Channel
    strengths: tuple[float, ...]
    steered: Effect
    random_channel: Effect
    random_direction: Effect
    strongest: Tensor


def read_sites(model: Transformer) -> dict[str, int]:
    """The sites that read the stream, and the point of the bridge before each."""
    points = {"final": 2 * model.config.n_layers}
    for layer in range(model.config.n_layers):
        points |= {f"a{layer}.in": 2 * layer, f"m{layer}.in": 2 * layer + 1}
    return {site.name: points[site.name] for site in sites(model.config) if site.name in points}


def rank_channels(
    sparse: Transformer, batches: Iterable[Batch], among: Iterable[Channel] | None = None
) -> list[Channel]:
    """Read channels by how far the partner's value moves the sparse model, to first order.

    Σ δ·∂(log p(partner's answer) - log p(own answer)) over prompts and tokens, the largest first.
    """
    total = {site: torch.zeros(sparse.config.d_model).double() for site in read_sites(sparse)}
    for batch in batches:
        leaves: dict[str, Tensor] = {}

        def tap(site: str, value: Tensor, leaves: dict[str, Tensor] = leaves) -> Tensor:
            if site in total:
                value = value if value.requires_grad else value.detach().requires_grad_()
                leaves[site] = value
            return value

        with torch.enable_grad():
            read = batch.at_positions(tapped_run(sparse, batch.clean, tap))
            logits = sparse.to_logits(read, batch.read_tokens())
            gap = good_mass(logits, replace(batch, good=batch.bad)).log()
            gap = (gap - good_mass(logits, batch).log()).sum()
            gradients = torch.autograd.grad(gap, list(leaves.values()))
        change = changes(sparse, batch)
        for site, gradient in zip(leaves, gradients, strict=True):
            total[site] += (change[site] * gradient).double().sum((0, 1)).cpu()
    every = [Channel(site, index) for site in total for index in range(sparse.config.d_model)]
    chosen = every if among is None else list(among)
    return sorted(chosen, key=lambda one: -float(total[one.site][one.number]))


@torch.no_grad()
def changes(sparse: Transformer, batch: Batch) -> dict[str, Tensor]:
    """δ of every channel of every read site: [B, T, E] each."""
    values: list[dict[str, Tensor]] = []
    for tokens in (batch.corrupted, batch.clean):
        of_run: dict[str, Tensor] = {}
        tapped_run(sparse, tokens, of_run.setdefault)
        values.append(of_run)
    return {site: values[0][site] - values[1][site] for site in read_sites(sparse)}


@dataclass(frozen=True)
class Carrier:
    """Both models, their bridge, and the sizes of their streams over some prompts."""

    dense: Transformer
    sparse: Transformer
    bridge: Bridge
    ratios: Tensor
    """rms of the sparse stream over that of the dense one, at every point."""

    @classmethod
    @torch.no_grad()
    def over(
        cls, dense: Transformer, sparse: Transformer, bridge: Bridge, batches: Sequence[Batch]
    ) -> Carrier:
        """With the sizes of the batches' clean prompts."""
        sizes = []
        for model in (sparse, dense):
            runs = [[_rms(x, model) for x in streams(model, one.clean)] for one in batches]
            means = torch.stack([torch.stack(run) for run in runs])
            tokens = means.new_tensor([one.clean.numel() for one in batches])
            sizes.append(tokens @ means / tokens.sum())
        return cls(dense, sparse, bridge, sizes[0] / sizes[1])

    def direction(self, channel: Channel) -> Tensor:
        """What a unit of a channel is at the dense model's site of the same name: [D].

        Raises `HarnessError` for a channel that the sparse model's norm all but removes.
        """
        point = read_sites(self.sparse)[channel.site]
        gain = _gain(_norm_of(self.sparse, channel.site), self.sparse.embedding[0])[channel.number]
        if abs(float(gain)) < _SMALLEST:
            raise HarnessError(f"channel {channel}: the norm before it multiplies it by 0")
        norm, column = _norm_of(self.dense, channel.site), self.bridge.column(point, channel.number)
        if norm.kind == "layernorm":
            column = column - column.mean()
        return self.ratios[point] * _gain(norm, column) * column / gain

    @torch.no_grad()
    def effect(
        self, site: str, added: Tensor, strengths: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor]:
        """p of the partner's and of the own answer [S, B], with s·added [B, T, D] at a site."""

        def tap(at: str, value: Tensor) -> Tensor:
            return value + strengths[:, None, None, None] * added if at == site else value

        read = batch.at_positions(tapped_run(self.dense, batch.clean, tap))
        logits = self.dense.to_logits(read, batch.read_tokens())
        return good_mass(logits, replace(batch, good=batch.bad)), good_mass(logits, batch)


def transfer(
    carrier: Carrier,
    channel: Channel,
    batches: Sequence[Batch],
    strengths: Sequence[float],
    seed: int = 0,
) -> Transfer:
    """The dense model's answers under a channel's intervention, and under random ones.

    `strengths` begin with 0. `seed` draws random channels (among those of the site that the sparse
    model uses on some prompt) and directions.
    """
    if not strengths or strengths[0] != 0:
        raise HarnessError("strengths must begin with 0, the dense model itself")
    draw, at = torch.Generator().manual_seed(seed), torch.tensor(strengths)
    every = [changes(carrier.sparse, batch)[channel.site] for batch in batches]
    others = _others(carrier, channel, every, draw)
    own = carrier.direction(channel)
    directions = [_like(own, draw) for _ in range(RANDOM)]

    def mean(one: Channel, direction: Tensor) -> Effect:
        parts = [
            carrier.effect(one.site, delta[..., one.number, None] * direction, at.to(delta), batch)
            for delta, batch in zip(every, batches, strict=True)
        ]
        each = (torch.cat(some, 1).double().mean(1).cpu() for some in zip(*parts, strict=True))
        return Effect(*each)

    by_channel = [mean(one, carrier.direction(one)) for one in others]
    return Transfer(
        channel,
        tuple(strengths),
        mean(channel, own),
        _average(by_channel),
        _average([mean(channel, one) for one in directions]),
        torch.stack([one.moved() for one in by_channel]).amax(0),
    )


def _others(
    carrier: Carrier, channel: Channel, every: Sequence[Tensor], draw: torch.Generator
) -> list[Channel]:
    """Random channels of the same site whose δ is not 0 everywhere, without the channel itself."""
    used = torch.stack([delta.flatten(0, -2).any(0) for delta in every]).any(0)
    gain = _gain(_norm_of(carrier.sparse, channel.site), carrier.sparse.embedding[0])
    used &= gain.abs() >= _SMALLEST
    used[channel.number] = False
    indices = used.nonzero().flatten().cpu()
    if not len(indices):
        raise HarnessError(f"no other channel of {channel.site} differs between the twins")
    chosen = indices[torch.randperm(len(indices), generator=draw)[:RANDOM]]
    return [Channel(channel.site, int(one)) for one in chosen]


def _average(effects: Sequence[Effect]) -> Effect:
    partner = torch.stack([one.partner for one in effects]).mean(0)
    return Effect(partner, torch.stack([one.own for one in effects]).mean(0))


def _like(direction: Tensor, draw: torch.Generator) -> Tensor:
    """A random direction of the same length."""
    drawn = torch.randn(direction.shape, generator=draw).to(direction)
    length: Tensor = torch.linalg.vector_norm(direction) / torch.linalg.vector_norm(drawn)
    return drawn * length


def _norm_of(model: Transformer, site: str) -> Norm:
    norm: Norm = model.final_norm
    if site != "final":
        block = list(model.layers())[int(site[1:].partition(".")[0])]
        norm = block.attention_norm if site[0] == "a" else block.mlp_norm
    return norm


def _gain(norm: Norm, like: Tensor) -> Tensor:
    """What a norm multiplies each channel by, beside its size: [D], as `like` [D]."""
    gain: Tensor = torch.ones_like(like) if norm.kind == "none" else norm.weight
    return gain


def _rms(x: Tensor, model: Transformer) -> Tensor:
    """Mean over tokens of the size that a model's norms divide by; 1 where there are none."""
    if model.config.norm == "none":
        return torch.ones((), dtype=x.dtype, device=x.device)
    if model.config.norm == "layernorm":
        x = x - x.mean(-1, keepdim=True)
    sizes: Tensor = x.square().mean(-1).sqrt()
    return sizes.mean()
