"""A frozen run: prompts through the model, with the stream as an exact sum of parts.

Norm scales, attention patterns, gates and the choice of active features stay what they were. Then
every number of the run is affine in what was written before it, and sums of contributions are the
number itself; that is checked when a run is made. Prompts of one length can share a run, end to
end: nothing goes from one to another, so that each is what it would be alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from harness.dictionaries.dictionary import Dictionary
from harness.errors import HarnessError
from harness.models.sites import sites, tapped_run
from harness.models.transformer import Transformer
from harness.tracing.freeze import Frozen, freeze
from harness.tracing.frozen.attention import FrozenAttention
from harness.tracing.frozen.mlps import FrozenMLP
from harness.tracing.parts import Explicit, NeuronParts, PartKind, Parts
from harness.tracing.readings import HeadReading, ModuleReading, NeuronReading, features_of
from harness.tracing.writers import Reading, StreamWriter

MLPCode = Literal["neurons", "modules"]
"""What MLPs without a dictionary are taken apart into: hidden units, or nothing."""

_CODED = ("a.out", "m.out", "m.hidden")

_ROUNDINGS = 2**12
"""How many roundings of the largest number the parts of a run may be away from it."""


class Place(NamedTuple):
    """A part's writer (its place among the writers), token, and column of the writer."""

    writer: int
    token: int
    column: int


@dataclass(frozen=True)
class FrozenRun:
    """`prompts` of one length, frozen: T tokens in all. Writers are in order of computation.

    `stream` [T, D] is that before the final norm, `final` the norm; `raw` [T, V] are the logits
    before a soft cap, `constants` [T, V] what of them no part of the stream contributes.
    """

    model: Transformer
    tokens: Tensor
    frozen: Frozen
    writers: tuple[StreamWriter, ...]
    prompts: int = 1

    @property
    def length(self) -> int:
        """T."""
        return len(self.tokens)

    def index(self, numbers: Sequence[int]) -> Tensor:
        """Tokens, columns or other numbers as an index on the run's device: [N]."""
        return torch.tensor(numbers, dtype=torch.long, device=self.tokens.device)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """The first column of each writer among all, and the number of columns of all."""
        total, starts = 0, [0]
        for writer in self.writers:
            total += writer.columns
            starts.append(total)
        return tuple(starts)

    @cached_property
    def units(self) -> Tensor:
        """Units of all columns [T, C], -1 where there is no part."""
        return torch.cat([writer.units for writer in self.writers], -1)

    def influence(self, direction: Tensor, below: int) -> Tensor:
        """Directions [N, T, D] of the stream times the parts of the first writers: [N, T, C]."""
        return torch.cat([one.influence(direction) for one in self.writers[:below]], -1)

    def influence_at(self, direction: Tensor, rows: Tensor, below: int) -> Tensor:
        """Directions [N, D] at one token each times the parts there: [N, C]."""
        return torch.cat([one.influence_at(direction, rows) for one in self.writers[:below]], -1)

    def vectors(self, rows: Tensor, columns: Tensor) -> Tensor:
        """The parts at tokens [E] and columns among all [E]: [E, D]."""
        out = self.frozen.final.gain.new_zeros(len(rows), self.model.config.d_model)
        for at, writer in enumerate(self.writers):
            (own,) = ((columns >= self.offsets[at]) & (columns < self.offsets[at + 1])).nonzero(
                as_tuple=True
            )
            if len(own):
                out[own] = writer.vectors(rows[own], columns[own] - self.offsets[at])
        return out

    def stream(self, below: int) -> Tensor:
        """The stream after the first writers, [T, D]."""
        out: Tensor = self.frozen.final.gain.new_zeros(self.length, self.model.config.d_model)
        for writer in self.writers[:below]:
            out = out + writer.output()
        return out

    def site_of(self, writer: int) -> str:
        """The site whose value a writer's output is."""
        one = self.writers[writer]
        return one.name if one.reading is None else f"{one.name}.out"

    def writer_of(self, name: str) -> int:
        """The place of a writer, as `m1`. Raises `HarnessError` where there is none."""
        for place, writer in enumerate(self.writers):
            if writer.name == name:
                return place
        names = ", ".join(writer.name for writer in self.writers)
        raise HarnessError(f"nothing called {name!r} writes to the stream; there are {names}")

    def place(self, column: int, token: int) -> Place:
        """The part at a column among all."""
        writer = next(at for at, start in enumerate(self.offsets[1:]) if column < start)
        return Place(writer, token, column - self.offsets[writer])

    def kind(self, place: Place) -> PartKind:
        """What a part is."""
        return self.writers[place.writer].kind_of(place.column)

    def name(self, place: Place) -> str:
        """A part's name: `m1.357@15`, `a1.h3@2`, `m0.error@7`, `embed@4`."""
        writer, kind = self.writers[place.writer], self.kind(place)
        if kind in ("embed", "position", "module"):
            return f"{writer.name}@{place.token}"
        if kind in ("error", "bias"):
            return f"{writer.name}.{kind}@{place.token}"
        unit = int(writer.units[place.token, place.column])
        return f"{writer.name}.{'h' if kind == 'head' else ''}{unit}@{place.token}"


@torch.no_grad()
def frozen_run(
    model: Transformer,
    tokens: Tensor,
    dictionaries: Mapping[str, Dictionary] | None = None,
    mlps: MLPCode = "neurons",
) -> FrozenRun:
    """Run tokens [T], or prompts [B, T] end to end, and freeze everything that is not linear.

    Parts of one prompt are the features that are active; those of prompts are all features, which
    is faster to sum and slower to follow one by one.
    `dictionaries`: by site (`a0.out`, `m0.out` or `m0.hidden`); modules without one are heads, and
    what `mlps` says. Raises `HarnessError` for half precision, weights in shards, dictionaries of
    other sites or widths, and where parts do not sum to the stream, which is how a model with
    something that is not traced exactly is recognised.
    """
    if model.embedding.dtype not in (torch.float32, torch.float64):
        raise HarnessError("tracing adds up thousands of parts: use float32 or float64")
    if model.gatherings is not None:
        raise HarnessError("tracing keeps the weights of all layers: run with `shards` at 1")
    codes = dict(dictionaries or {})
    _refuse_sites(model, codes)
    values: dict[str, Tensor] = {}

    def tap(site: str, value: Tensor) -> Tensor:
        values[site] = value.flatten(0, 1)
        return value

    batch = tokens if tokens.ndim == 2 else tokens[None]
    tapped_run(model, batch, tap)
    frozen = freeze(model, batch.flatten(), values, len(batch))
    writers = tuple(_writers(model, values, frozen, codes, mlps, tokens.ndim == 2))
    run = FrozenRun(model, batch.flatten(), frozen, writers, len(batch))
    _check(run, values)
    return run


def _writers(
    model: Transformer,
    values: Mapping[str, Tensor],
    frozen: Frozen,
    codes: Mapping[str, Dictionary],
    mlps: MLPCode,
    every: bool,
) -> Iterator[StreamWriter]:
    yield from _leaves(model, values)
    below = 2 if model.config.positions == "learned" else 1
    for layer, attention in enumerate(frozen.attentions):
        site = f"a{layer}.out"
        if site in codes:
            yield _coded(f"a{layer}", below, attention, codes[site], values[site], every)
        else:
            heads = Explicit.whole(attention.head_parts())
            yield _whole(f"a{layer}", "head", below, heads, HeadReading(attention), attention)
        if not model.config.has_mlp:
            below += 1
            continue
        mlp, site = frozen.mlps[layer], f"m{layer}.out"
        read = below if model.config.parallel else below + 1
        hidden = f"m{layer}.hidden"
        if site in codes:
            yield _coded(f"m{layer}", read, mlp, codes[site], values[site], every)
        elif hidden in codes:
            code, value = codes[hidden], values[hidden]
            yield _coded(f"m{layer}", read, mlp, code, value, every, of_hidden=True)
        elif mlps == "neurons":
            yield _whole(f"m{layer}", "neuron", read, NeuronParts.of(mlp), NeuronReading(mlp), mlp)
        else:
            part = values[site] - mlp.bias_part()
            module = Explicit.whole(part[:, None])
            yield _whole(f"m{layer}", "module", read, module, ModuleReading(mlp, part), mlp)
        below += 2


def _leaves(model: Transformer, values: Mapping[str, Tensor]) -> Iterator[StreamWriter]:
    yield StreamWriter("embed", "embed", Explicit.whole(values["embed"][:, None]))
    if model.config.positions == "learned":
        yield StreamWriter("position", "position", Explicit.whole(values["position"][:, None]))


def _whole(
    name: str,
    kind: PartKind,
    below: int,
    main: Parts,
    reading: Reading,
    module: FrozenAttention | FrozenMLP,
) -> StreamWriter:
    bias = Explicit.whole(module.bias_part()[:, None])
    return StreamWriter(name, kind, main, below, reading, bias, ("bias",))


def _coded(
    name: str,
    below: int,
    module: FrozenAttention | FrozenMLP,
    dictionary: Dictionary,
    activation: Tensor,
    every: bool,
    *,
    of_hidden: bool = False,
) -> StreamWriter:
    main, reading, tail = features_of(dictionary, activation, module, of_hidden, every)
    kinds: tuple[PartKind, ...] = ("bias", "error")
    if of_hidden:
        kinds = ("bias", "error", "bias")
    return StreamWriter(name, "feature", main, below, reading, tail, kinds)


def _refuse_sites(model: Transformer, codes: Mapping[str, Dictionary]) -> None:
    widths = {site.name: site for site in sites(model.config)}
    for name, dictionary in codes.items():
        site = widths.get(name)
        if site is None or site.kind not in _CODED:
            raise HarnessError(
                f"a trace cannot use a dictionary of {name!r}: parts of the stream are what "
                "attention and MLPs write; train dictionaries of a{layer}.out, m{layer}.out or "
                "m{layer}.hidden"
            )
        if dictionary.width != site.width:
            raise HarnessError(
                f"the dictionary of {name} is for {dictionary.width} channels, the model has "
                f"{site.width}"
            )
    both = [name for name in codes if name.endswith(".out") and f"{name[:-3]}hidden" in codes]
    if both:
        raise HarnessError(
            f"there are dictionaries of {both[0]} and of the hidden layer before it; use one"
        )


def _check(run: FrozenRun, values: Mapping[str, Tensor]) -> None:
    """Refuse a run whose parts are not exactly what the model wrote, or whose logits differ."""
    total = torch.zeros_like(values["embed"])
    for at, writer in enumerate(run.writers):
        site = run.site_of(at)
        total = total + values[site]
        _require(f"parts of {site}", writer.output(), values[site])
    for layer, attention in enumerate(run.frozen.attentions):
        heads = attention.values.repeat_interleave(attention.shared_by, 1)
        mixed = torch.einsum("hij,jhk->ihk", attention.pattern, heads).flatten(1)
        _require(f"values mixed by a{layer}", mixed, values[f"a{layer}.z"])
    for layer, mlp in enumerate(run.frozen.mlps):
        rebuilt = mlp.rebuilt_hidden(values[f"m{layer}.in"])
        _require(f"gates of m{layer}", rebuilt, values[f"m{layer}.hidden"])
    _require("the last norm", run.frozen.final.whole(total), values["final"])
    logits = run.frozen.raw * run.frozen.cap_share
    _require("logits", logits, run.model(run.tokens.unflatten(0, (run.prompts, -1))).flatten(0, 1))


def _require(what: str, one: Tensor, other: Tensor) -> None:
    size = float(other.abs().max().clamp(min=1))
    gap = float((one - other).abs().max())
    if not gap <= _ROUNDINGS * torch.finfo(one.dtype).eps * size:
        raise HarnessError(
            f"{what}: the frozen run differs from the model by {gap:.1e} (largest value {size:.1e})"
            "; the model has something that tracing does not know, so it is refused"
        )
