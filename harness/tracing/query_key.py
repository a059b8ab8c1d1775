"""One attention score as a sum over pairs: a part of the query's token, a part of the keys.

Parts of keys are those of what is written, whichever token it is at (`embed`, `m0.17`), so that the
mean over keys can be taken off: a softmax does not notice what all keys share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.tracing.run import FrozenRun, Place

BIASES = "biases"
"""The name of what biases of norms and maps contribute, on either side."""


@dataclass(frozen=True)
class ScorePairs:
    """pairs [Q, R]: what part q of the query's token and part r of the keys contribute together.

    They sum to `score`. `queries`, `keys`: their names, those of keys without a token. `places`:
    the parts of the query, without the biases that come last.
    """

    score: float
    pairs: Tensor
    queries: Sequence[str]
    keys: Sequence[str]
    places: Sequence[Place]

    def largest(self, n: int) -> list[tuple[str, str, float]]:
        """The n pairs of largest magnitude."""
        flat = self.pairs.flatten()
        chosen = flat.abs().topk(min(n, len(flat))).indices.tolist()
        columns = len(self.keys)
        return [
            (self.queries[at // columns], self.keys[at % columns], float(flat[at])) for at in chosen
        ]

    @property
    def of_queries(self) -> Tensor:
        """What each part of the query contributes with all keys together, [Q]."""
        return self.pairs.sum(1)

    @property
    def of_keys(self) -> Tensor:
        """What each part of the keys contributes with the whole query, [R]."""
        return self.pairs.sum(0)


@torch.no_grad()
def score_pairs(
    run: FrozenRun, layer: int, head: int, query: int, key: int, *, from_mean: bool = True
) -> ScorePairs:
    """Take apart a score; `from_mean`: less the mean over the keys that the query sees.

    Under a soft cap, scores are those after it: their share is held.
    """
    scores = run.frozen.scores[layer]
    group = head // scores.shared_by
    below = run.writers[run.writer_of(f"a{layer}")].below
    rows, columns, vectors = _parts(run, [query], below)
    own = scores.queries.parts(vectors, rows, head)
    own = torch.cat([own, scores.queries.constant(run.index([query]), head)])
    weights = scores.key_weights(head, query, key, from_mean)
    seen = weights.nonzero().flatten().tolist()
    key_rows, key_columns, vectors = _parts(run, seen, below)
    parts = scores.keys.parts(vectors, key_rows, group) * weights[key_rows, None]
    names, groups = _identities(run, key_rows, key_columns)
    grouped = parts.new_zeros(len(names), parts.shape[1]).index_add_(0, groups, parts)
    every = run.index(seen)
    biases = weights[every] @ scores.keys.constant(every, group)
    others = torch.cat([grouped, biases[None]])
    pairs = own @ others.T
    places = [run.place(column, query) for column in columns.tolist()]
    queries = [run.name(place) for place in places]
    score = float(pairs.sum())
    return ScorePairs(score, pairs, [*queries, BIASES], [*names, BIASES], places)


def _parts(run: FrozenRun, tokens: Sequence[int], below: int) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens [E], columns among all [E] and vectors [E, D] of all parts at some tokens."""
    wanted = run.index(tokens)
    present = run.units[wanted, : run.offsets[below]] >= 0
    at, columns = present.nonzero(as_tuple=True)
    rows = wanted[at]
    return rows, columns, run.vectors(rows, columns)


def _identities(run: FrozenRun, rows: Tensor, columns: Tensor) -> tuple[list[str], Tensor]:
    """Names of what is written, whichever token it is at, and the name of each part."""
    index: dict[str, int] = {}
    groups = [
        index.setdefault(run.name(run.place(column, row)).rpartition("@")[0], len(index))
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
    ]
    return list(index), run.index(groups)
