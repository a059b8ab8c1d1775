"""Tokens in bulk, with what is true at each and what sites hold there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.datasets.concepts import Bools, ConceptSource, concept_source
from harness.datasets.pairs import Ints, TaskData, TrainingBatch
from harness.dictionaries.sites import activations
from harness.errors import HarnessError
from harness.models.training.sequences import held_out_sequences
from harness.models.transformer import Transformer

SEQUENCES = 256
"""Sequences of one chunk."""

SEED = 1_000_003
"""Of the training split's sequences: not one that a model is trained with."""


@dataclass(frozen=True)
class TokenChunk:
    """Some sequences: `tokens` [n, T], `lengths` [n]; `first` numbers their first token.

    Their N tokens, without padding, are in order; `positions` [N] in their sequence.
    """

    tokens: Ints
    lengths: Ints
    first: int
    source: ConceptSource

    @property
    def inside(self) -> Bools:
        """Which places are tokens: bool [n, T]."""
        inside: Bools = np.arange(self.tokens.shape[1]) < self.lengths[:, None]
        return inside

    @property
    def positions(self) -> NDArray[np.intp]:
        """Of each token in its sequence [N]."""
        return np.nonzero(self.inside)[1]

    def __len__(self) -> int:
        return int(self.lengths.sum())

    def concepts(self) -> Bools:
        """What is true at each token: [N, C]."""
        return self.source.concepts(self.tokens, self.lengths)[self.inside]

    def held(self, model: Transformer, names: Iterable[str]) -> dict[str, Tensor]:
        """What sites hold at each token: [N, width] each."""
        device = model.embedding.device
        tokens = torch.from_numpy(self.tokens).to(device)
        lengths = torch.from_numpy(self.lengths).to(device)
        values = activations(model, tokens, names, lengths)
        inside = torch.from_numpy(self.inside).to(device)
        return {name: value.expand(*inside.shape, -1)[inside] for name, value in values.items()}


def training_sequences(data: TaskData, step: int) -> TrainingBatch:
    """The sequences of chunk `step` of `training_chunks`: `SEQUENCES` of at least a token each."""
    return data.training_batch("next_token", SEQUENCES, step, SEED)


def training_chunks(data: TaskData, wanted: int) -> Iterator[TokenChunk]:
    """Chunks of fresh sequences of the training split, until there are `wanted` tokens."""
    source, first, step = concept_source(data), 0, 0
    while first < wanted:
        batch = training_sequences(data, step)
        chunk = TokenChunk(batch.tokens, batch.lengths, first, source)
        yield chunk
        first += len(chunk)
        step += 1


def held_out_chunks(data: TaskData, split: str, sequences: int) -> Iterator[TokenChunk]:
    """Chunks of held-out sequences of a split. `HarnessError` for a task without any."""
    source, first = concept_source(data), 0
    batch = held_out_sequences(data, split, sequences, 0)
    if batch is None:
        raise HarnessError("the task has no whole sequences of held-out prompts")
    for start in range(0, len(batch.tokens), SEQUENCES):
        part = slice(start, start + SEQUENCES)
        chunk = TokenChunk(batch.tokens[part], batch.lengths[part], first, source)
        yield chunk
        first += len(chunk)
