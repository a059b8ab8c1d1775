"""What makes heads tell keys at even distances from keys at odd ones.

A head's contrast at a query is the mean score of the keys at odd distances less that of the keys at
even ones. It is an exact sum over pairs of what the query and the keys are made of: positions,
parity features (`evenness`), other features, embeddings, errors, biases.
The last table is an intervention: what of these the keys have is left out of the scores, and the
weights follow; nothing else changes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.analyses.distance.attention import even_distances, parity_scores
from harness.analyses.distance.evenness import GROUPS, ParityCounter, parity_groups
from harness.analyses.report import Analysis, AnalysisTable
from harness.analyses.studied import Studied
from harness.errors import HarnessError
from harness.tracing.frozen.scores import FrozenSide
from harness.tracing.run import FrozenRun

HEADS = 2
"""Heads of each layer that are looked at: those of the largest parity scores."""

_BIASES = GROUPS.index("biases")
_LEFT_OUT = (("positions",), ("parity features",), ("positions", "parity features"))


class HeadParts:
    """Queries and keys of one head by group: [T, groups, K], summing to the run's own."""

    def __init__(self, run: FrozenRun, layer: int, head: int, stream: Tensor) -> None:
        """`stream` [T, groups, D]: the stream that the layer reads, by group."""
        scores = run.frozen.scores[layer]
        self.queries = _side(scores.queries, stream, head)
        self.keys = _side(scores.keys, stream, head // scores.shared_by)
        self.scale = scores.scale
        self.pattern = scores.pattern[head]

    def contrast(self) -> Tensor:
        """Mean score of keys at odd distances less that at even ones, at each query from the
        second: [T - 1, groups of the query, groups of the keys].
        """
        length = len(self.queries)
        even = even_distances(length).to(self.keys.dtype)
        seen = torch.ones_like(even).tril()
        odd = seen * (1 - even)
        even = seen * even
        weights = odd / odd.sum(-1, keepdim=True).clamp(min=1) - even / even.sum(-1, keepdim=True)
        mixed = torch.einsum("ij,jgk->igk", weights, self.keys)
        return torch.einsum("ihk,igk->ihg", self.queries, mixed)[1:] * self.scale

    def without(self, groups: tuple[int, ...]) -> Tensor:
        """The pattern [T, T] when keys lack some groups."""
        lost = self.keys[:, list(groups)].sum(1)
        change = self.queries.sum(1) @ lost.T * self.scale
        raised = self.pattern.clamp(min=torch.finfo(lost.dtype).tiny).log() - change
        raised = raised.masked_fill(self.pattern == 0, -torch.inf)
        sink = (1 - self.pattern.sum(-1, keepdim=True)).clamp(min=0)
        most = raised.max(-1, keepdim=True).values.clamp(min=0)
        weights = (raised - most).exp()
        return weights / (weights.sum(-1, keepdim=True) + sink * (-most).exp())


def _side(side: FrozenSide, stream: Tensor, head: int) -> Tensor:
    length, groups, _ = stream.shape
    rows = torch.arange(length)
    parts = side.parts(stream.flatten(0, 1), rows.repeat_interleave(groups), head)
    by_group: Tensor = parts.unflatten(0, (length, groups))
    by_group[:, _BIASES] += side.constant(rows, head)
    return by_group


def grouped_stream(run: FrozenRun, layer: int, groups: Tensor) -> Tensor:
    """The stream that attention of a layer reads, by group of parts [T, C]: [T, groups, D]."""
    below = run.writers[run.writer_of(f"a{layer}")].below
    own = groups[:, : run.offsets[below]]
    rows, columns = (own < len(GROUPS)).nonzero(as_tuple=True)
    vectors = run.vectors(rows, columns)
    out = vectors.new_zeros(run.length * len(GROUPS), vectors.shape[1])
    out.index_add_(0, rows * len(GROUPS) + own[rows, columns], vectors)
    grouped: Tensor = out.unflatten(0, (run.length, len(GROUPS)))
    return grouped


def analyse(studied: Studied) -> Analysis:
    """The contrast of the heads of strongest parity by pairs of groups, and the intervention."""
    config = studied.model.config
    if config.attention_softcap is not None:
        raise HarnessError("parity: weights under a soft cap of scores cannot be followed exactly")
    counter = ParityCounter(studied)
    runs = []
    scores = torch.zeros(config.n_layers, config.n_heads, dtype=torch.float64)
    for run, _ in studied.games("finding heads and features of parity"):
        counter.add(run)
        scores += parity_scores([one.pattern for one in run.frozen.scores])
        runs.append(run.tokens)
    scores /= len(runs)
    chosen = scores.abs().argsort(dim=1, descending=True)[:, :HEADS].tolist()
    heads = [(layer, head) for layer, some in enumerate(chosen) for head in some]
    signs = counter.signs()
    sums = {head: torch.zeros(len(GROUPS), len(GROUPS), dtype=torch.float64) for head in heads}
    after = {head: torch.zeros(1 + len(_LEFT_OUT), dtype=torch.float64) for head in heads}
    for tokens in runs:
        run = studied.frozen(tokens)
        of_parts = parity_groups(studied, run, signs)
        for layer, head in heads:
            parts = HeadParts(run, layer, head, grouped_stream(run, layer, of_parts))
            sums[layer, head] += parts.contrast().double().mean(0)
            patterns = [parts.pattern, *(parts.without(_numbers(one)) for one in _LEFT_OUT)]
            after[layer, head] += torch.cat([parity_scores([one[None]])[:, 0] for one in patterns])
    tables = [_pairs(head, total / len(runs), studied.choices.rows) for head, total in sums.items()]
    tables.append(_intervention({head: total / len(runs) for head, total in after.items()}))
    features = {site: int((one != 0).sum()) for site, one in signs.items()}
    return Analysis(
        tables,
        (
            f"{len(runs)} held-out games. Parity features (three times as active at tokens of one "
            "parity as at the others): "
            + ", ".join(f"{n} of {site}" for site, n in features.items())
            + ".",
        ),
    )


def _numbers(names: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(GROUPS.index(name) for name in names)


def _pairs(head: tuple[int, int], total: Tensor, most: int) -> AnalysisTable:
    whole = float(total.sum())
    order = total.abs().flatten().argsort(descending=True)[:most].tolist()
    rows = tuple(
        (
            GROUPS[at // len(GROUPS)],
            GROUPS[at % len(GROUPS)],
            float(total.flatten()[at]),
            float(total.flatten()[at]) / whole,
        )
        for at in order
        if total.flatten()[at]
    )
    return AnalysisTable(
        f"Head a{head[0]}.h{head[1]}: odd less even distances, {whole:+.3f}",
        ("query", "keys", "contribution", "of all"),
        rows,
        ("of all",),
    )


def _intervention(after: dict[tuple[int, int], Tensor]) -> AnalysisTable:
    columns = ("head", "parity", *(f"keys without {' and '.join(one)}" for one in _LEFT_OUT))
    rows = tuple((f"a{layer}.h{head}", *one.tolist()) for (layer, head), one in after.items())
    return AnalysisTable("Parity scores when keys lack parts", columns, rows)
