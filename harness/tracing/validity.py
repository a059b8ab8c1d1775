"""Do contributions predict what happens? Parts are taken out, and nothing is held.

    logit       from the stream before the last norm
    mlp         from the stream that an MLP reads, with its norm and gates as they become
    ov          from the stream that attention reads, with its pattern held
    ov_pattern  the same with the pattern as it becomes
    query, key  from the stream that the target token's queries, or their keys, read; the other side
                held, see `score_removals`
    total       where they are written, and the model runs on

A contribution predicts that the target falls by it. Beside correlations, the coefficient of the
regression of true changes on predicted ones says whether sizes fit: below 1, they are too large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from scipy.stats import linregress, spearmanr
from torch import Tensor

from harness.models.sites import tapped_run
from harness.models.transformer import Block
from harness.tracing.readings import FeatureReading
from harness.tracing.run import FrozenRun
from harness.tracing.score_removals import score_removals
from harness.tracing.target import part_target
from harness.tracing.trace import PromptTrace

RemovalKind = Literal["logit", "mlp", "ov", "ov_pattern", "query", "key", "total"]

CHUNK = 2**24
"""Numbers in the streams that are changed at once."""


@dataclass(frozen=True)
class Validity:
    """Over n removals of one kind; None where there are fewer than three, or no spread.

    `blind`, of `mlp` alone: the mean share of a removal's effect that is on neurons which the part
    had turned on or off (their input changes its sign): there, gates are held wrongly.
    """

    kind: RemovalKind
    n: int
    pearson: float | None
    spearman: float | None
    coefficient: float | None
    blind: float | None = None


@torch.no_grad()
def validity(graphs: Sequence[PromptTrace], sources: int = 10) -> list[Validity]:
    """Of the `sources` largest contributions to each target and feature of some graphs."""
    pairs: dict[RemovalKind, list[tuple[float, float]]] = {
        kind: [] for kind in get_args(RemovalKind)
    }
    blind: list[float] = []
    for graph in graphs:
        for kind, predicted, true, share in _removals(graph, sources):
            pairs[kind] += zip(predicted.tolist(), true.tolist(), strict=True)
            blind += [] if share is None else share.tolist()
    mean = sum(blind) / len(blind) if blind else None
    return [
        replace(_summary(kind, rows), blind=mean if kind == "mlp" else None)
        for kind, rows in pairs.items()
        if rows
    ]


def _summary(kind: RemovalKind, rows: Sequence[tuple[float, float]]) -> Validity:
    predicted, true = (list(side) for side in zip(*rows, strict=True))
    if len(rows) < 3 or len({*predicted}) == 1 or len({*true}) == 1:
        return Validity(kind, len(rows), None, None, None)
    line = linregress(predicted, true)
    spearman = float(spearmanr(predicted, true).statistic)
    return Validity(kind, len(rows), float(line.rvalue), spearman, float(line[0]))


def _removals(
    graph: PromptTrace, sources: int
) -> Iterator[tuple[RemovalKind, Tensor, Tensor, Tensor | None]]:
    """Predicted and true changes, for the target and every feature or neuron of the graph.

    And of each the share on neurons that are turned on or off, where there are neurons.
    """
    run, target = graph.run, graph.target
    if target.outputs is not None:
        rows, columns, predicted = _largest(run, target.stream, target.below, sources)
        yield "logit", -predicted, _at_logits(graph, rows, columns), None
        influence = torch.tensor([one.influence for one in graph.nodes], dtype=torch.float64)
        order = influence.abs().argsort(descending=True)[: 8 * sources]
        places = [graph.nodes[at].place for at in order.tolist()]
        rows = run.index([place.token for place in places])
        columns = run.index([run.offsets[one.writer] + one.column for one in places])
        yield "total", -influence[order], _in_total(graph, rows, columns), None
        for side, one, true in score_removals(run, target.token, sources):
            yield side, one, true, None
    for node in graph.nodes:
        if node.sums is None or node.activity is None:
            continue
        own = part_target(run, node.place)
        rows, columns, predicted = _largest(run, own.stream, own.below, sources)
        read = _Read(run, node.place.writer, node.place.token, node.place.column)
        if own.kind == "mlp":
            yield "mlp", -predicted, *read.after_mlp(rows, columns)
        else:
            yield "ov", -predicted, read.after_attention(rows, columns, held=True), None
            yield "ov_pattern", -predicted, read.after_attention(rows, columns, held=False), None


def _largest(
    run: FrozenRun, stream: Tensor, below: int, sources: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, columns and contributions of the largest contributions, [E] each."""
    every = run.influence(stream[None], below)[0]
    chosen = every.abs().flatten().topk(min(sources, every.numel())).indices
    rows, columns = chosen // every.shape[1], chosen % every.shape[1]
    present = every[rows, columns] != 0
    rows, columns = rows[present], columns[present]
    return rows, columns, every[rows, columns]


def _at_logits(graph: PromptTrace, rows: Tensor, columns: Tensor) -> Tensor:
    """Changes of the target when parts are not there for the last norm, [E]."""
    run, target = graph.run, graph.target
    assert target.outputs is not None
    at = target.token
    changed = run.stream(len(run.writers))[at] - run.vectors(rows, columns)
    logits = run.model.unembed(changed, run.tokens[at].expand(len(rows)))
    plain = (run.frozen.raw * run.frozen.cap_share)[at]
    return (logits - plain) @ target.outputs.to(logits)


def _in_total(graph: PromptTrace, rows: Tensor, columns: Tensor) -> Tensor:
    """Changes of the target when parts are not written and the model runs on, [E]."""
    run, target = graph.run, graph.target
    assert target.outputs is not None
    vectors = run.vectors(rows, columns)
    starts = run.index(run.offsets[1:])
    writers = torch.searchsorted(starts, columns, right=True)
    tokens = run.tokens.expand(len(rows), -1)
    sites = [run.site_of(at) for at in range(len(run.writers))]

    def tap(site: str, value: Tensor) -> Tensor:
        if site not in sites:
            return value
        (own,) = (writers == sites.index(site)).nonzero(as_tuple=True)
        changed = value.clone()
        changed[own, rows[own]] -= vectors[own]
        return changed

    final = tapped_run(run.model, tokens, tap)[:, target.token]
    logits = run.model.to_logits(final, tokens[:, target.token])
    plain = (run.frozen.raw * run.frozen.cap_share)[target.token]
    return (logits - plain) @ target.outputs.to(logits)


class _Read:
    """What a feature or neuron is when the stream that its module reads is changed."""

    def __init__(self, run: FrozenRun, writer: int, token: int, column: int) -> None:
        self.run, self.token, self.column = run, token, column
        self.writer = run.writers[writer]
        layer = int(self.writer.name[1:])
        self.block: Block = next(one for one in run.model.layers() if one.layer == layer)
        self.pattern = run.frozen.attentions[layer].pattern
        self.stream = run.stream(self.writer.below)

    def after_mlp(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Changes [E] without parts at the feature's own token.

        And the share of each on neurons whose input changes its sign, by what they add to the
        feature's activity.
        """
        block, width = self.block, self.run.model.config.d_mlp
        changed = self.stream[self.token] - self.run.vectors(rows, columns)
        both = torch.cat([changed, self.stream[self.token, None]])
        inner = block.mlp_in(block.read_mlp(both))
        hidden = block.activate(inner)
        effects = ((hidden[:-1] - hidden[-1]) * self._of_hidden()).abs()
        turned = (inner[:-1, :width] > 0) != (inner[-1, :width] > 0)
        share = (effects * turned).sum(-1) / effects.sum(-1).clamp(min=1e-30)
        return self._changes(hidden, block.write_mlp), share

    def _of_hidden(self) -> Tensor:
        """What one unit of each neuron adds to the activity, [M]."""
        reading, mlp = self.writer.reading, self.run.frozen.mlps[self.block.layer]
        if not isinstance(reading, FeatureReading):
            return torch.nn.functional.one_hot(
                self.run.index([self.column])[0], mlp.hidden.shape[1]
            ).to(mlp.hidden)
        encoder = reading.encoders[self.token, self.column]
        if reading.of_hidden:
            return encoder
        return mlp.to_hidden(encoder[None], self.run.index([self.token]))[0][0]

    def after_attention(self, rows: Tensor, columns: Tensor, *, held: bool) -> Tensor:
        """Changes [E] without parts at tokens [E]; `held`: with the pattern of the run."""
        vectors = self.run.vectors(rows, columns)
        size = max(1, CHUNK // self.stream.numel())
        parts = []
        for first in range(0, len(rows), size):
            some = slice(first, first + size)
            changed = self.stream.repeat(len(rows[some]) + 1, 1, 1)
            at = self.run.index(range(len(rows[some])))
            changed[at, rows[some]] -= vectors[some]
            parts.append(self._attention_changes(changed, held))
        return torch.cat(parts) if parts else vectors.new_zeros(0)

    def _attention_changes(self, changed: Tensor, held: bool) -> Tensor:
        block = self.block
        if held:
            _, _, v = block.split(block.read(changed).transpose(1, 2), axis=1)
            heads = (self.pattern @ v).transpose(1, 2)
        else:
            heads = block.heads(changed)
        out = block.add_attention(block.project(heads))[:, self.token]
        return self._changes(out, lambda x: x)

    def _changes(self, inner: Tensor, write: Callable[[Tensor], Tensor]) -> Tensor:
        """Differences to the last row of what a feature or neuron is for rows of `inner`."""
        reading = self.writer.reading
        if isinstance(reading, FeatureReading):
            activity = (inner if reading.of_hidden else write(inner)) @ reading.encoders[
                self.token, self.column
            ]
        else:
            activity = inner[:, self.column]
        return activity[:-1] - activity[-1]
