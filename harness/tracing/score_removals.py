"""What an attention score is when a part of the stream is not there for its query, or for its keys.

Nothing is held but the other side: norms, those of queries and keys too, and soft caps become what
they become. Scores are counted from the mean over the keys that the query sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from harness.models.rotary import apply_rotary
from harness.models.transformer import Block
from harness.tracing.run import FrozenRun

Side = Literal["query", "key"]


def score_removals(
    run: FrozenRun, query: int, sources: int
) -> Iterator[tuple[Side, Tensor, Tensor]]:
    """Predicted and true changes [E] of a query's score with the key that it looks at most.

    Of every head in which it sees more than one key; the `sources` largest contributions.
    """
    for block in run.model.layers():
        scores = run.frozen.scores[block.layer]
        below = run.writers[run.writer_of(f"a{block.layer}")].below
        if int(scores.seen[query].sum()) < 2:
            continue
        stream = run.stream(below)
        for head in range(run.model.config.n_heads):
            one = _Score(run, block, head, query, below, stream)
            for side in ("query", "key"):
                yield (side, *one.removals(side, sources))


class _Score:
    """The score of one head's query with the key of its largest weight."""

    def __init__(
        self, run: FrozenRun, block: Block, head: int, query: int, below: int, stream: Tensor
    ) -> None:
        self.run, self.block, self.head, self.query = run, block, head, query
        self.below, self.stream = below, stream
        self.scores = run.frozen.scores[block.layer]
        self.group = head // self.scores.shared_by
        self.key = int(self.scores.pattern[head, query].argmax())

    def removals(self, side: Side, sources: int) -> tuple[Tensor, Tensor]:
        """Of the largest contributions of one side."""
        run = self.run
        direction = self._direction(side)
        every = run.influence(direction[None], self.below)[0]
        chosen = every.abs().flatten().topk(min(sources, every.numel())).indices
        rows, columns = chosen // every.shape[1], chosen % every.shape[1]
        present = every[rows, columns] != 0
        rows, columns = rows[present], columns[present]
        changed = self.stream.repeat(len(rows) + 1, 1, 1)
        at = run.index(range(len(rows)))
        changed[at, rows] -= run.vectors(rows, columns)
        values = self._centred(side, changed)
        return -every[rows, columns], values[:-1] - values[-1]

    def _direction(self, side: Side) -> Tensor:
        """That of the stream in which the score is linear through one side, [T, D]."""
        scores, query = self.scores, self.query
        weights = scores.key_weights(self.head, query, self.key, True)
        stream = torch.zeros_like(self.stream)
        if side == "query":
            mixed = weights @ scores.keys.final[self.group]
            row = self.run.index([query])
            stream[query] = scores.queries.adjoint(mixed[None], row, self.head)[0][0]
            return stream
        every = self.run.index(range(len(stream)))
        wanted = weights[:, None] * scores.queries.final[self.head, query]
        return scores.keys.adjoint(wanted, every, self.group)[0]

    def _centred(self, side: Side, changed: Tensor) -> Tensor:
        """The score, from the mean of those seen, for streams [E, T, D] on one side: [E]."""
        scores, config = self.scores, self.block.config
        queries, keys = self._queries_and_keys(changed)
        if side == "query":
            keys = scores.keys.final[self.group].expand_as(keys)
        else:
            queries = scores.queries.final[self.head].expand_as(queries)
        values = torch.einsum("ek,etk->et", queries[:, self.query], keys) * scores.scale
        if (cap := config.attention_softcap) is not None:
            values = cap * (values / cap).tanh()
        seen = scores.seen[self.query]
        return values[:, self.key] - values[:, seen].mean(-1)

    def _queries_and_keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of the head, as attention multiplies them, for streams [E, T, D]: [E, T, K] each."""
        block = self.block
        q, k, _ = block.split(block.read(x).transpose(1, 2), axis=1)
        if block.config.qk_norm:
            q, k = block.query_norm(q), block.key_norm(k)
        q, k = q[:, self.head], k[:, self.head]
        rotary = block.config.rotary_of(block.layer)
        return (q, k) if rotary is None else (apply_rotary(q, rotary), apply_rotary(k, rotary))
