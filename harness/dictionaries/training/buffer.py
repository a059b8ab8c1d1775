"""Activations of all sites, streamed through the model and shuffled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from harness.datasets.pairs import Objective, TrainingBatch
from harness.dictionaries.sites import activations
from harness.models.sites import Site
from harness.models.transformer import Transformer

PROMPTS = 128
"""PromptStream of one run of the model."""

_STREAM = 0x5EED_D1C7
"""Added to the seed: prompts are not those that the model was trained on in the same order."""


class PromptStream(Protocol):
    """What prompts are drawn from: the data of a task, or a corpus."""

    def training_batch(
        self, objective: Objective, size: int, step: int, seed: int
    ) -> TrainingBatch:
        """`size` prompts of split train; equal arguments, equal batch."""
        ...


class Buffer:
    """N activations of each site, in an order of their own; one pass over the model fills all.

    `drawn`: batches of prompts used so far; a buffer that continues from such a number has the
    activations that this one has next.
    """

    def __init__(
        self,
        model: Transformer,
        prompts: PromptStream,
        sites: Sequence[Site],
        *,
        size: int,
        seed: int,
        objective: Objective,
    ) -> None:
        self.model, self.prompts, self.sites = model, prompts, sites
        self.size, self.seed, self.objective = size, seed, objective
        self.drawn = 0
        self.held = {
            one.name: model.embedding.new_empty(size, one.width, dtype=torch.float32)
            for one in sites
        }

    def fill(self) -> None:
        """Take new activations from the model."""
        at = 0
        while at < self.size:
            at += self._run(at)

    def _run(self, at: int) -> int:
        device = self.model.embedding.device
        batch = self.prompts.training_batch(
            self.objective, PROMPTS, self.drawn, (self.seed + _STREAM) % 2**32
        )
        self.drawn += 1
        tokens, lengths = (torch.from_numpy(x).to(device) for x in (batch.tokens, batch.lengths))
        rows = torch.arange(tokens.shape[1], device=device) < lengths[:, None]
        values = activations(self.model, tokens, self.held, lengths)
        count = min(int(rows.sum()), self.size - at)
        for name, value in values.items():
            self.held[name][at : at + count] = value[rows][:count]
        return count

    def batches(self, size: int, order: int) -> Iterator[dict[str, Tensor]]:
        """Every activation once, `size` at a time, in the order with this number; whole batches.

        One order for all sites: what stands in a row comes from one token.
        """
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + order) % 2**63)
        places = torch.randperm(self.size, generator=generator)
        places = places.to(self.model.embedding.device)
        for start in range(0, self.size - size + 1, size):
            rows = places[start : start + size]
            yield {name: value.index_select(0, rows) for name, value in self.held.items()}
