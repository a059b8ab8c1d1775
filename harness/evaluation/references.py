"""What circuits are compared with and replaced by: made once for prompts that are run repeatedly.

A search for the smallest circuit runs a few circuits at a time on the same prompts, many times
over. The counterfactual and the plain run of a batch do not depend on the circuits; each costs as
much as running one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor

from harness import ranks
from harness.circuits.patchable import plain_logits
from harness.datasets.batch import Batch
from harness.evaluation.setup import Setup

KEPT = 2**28
"""Numbers that are kept for the next time: 1 GiB in float32. What exceeds them is made anew."""


class Reference(NamedTuple):
    """A batch, its counterfactual and the model's own logits [B, P, V].

    Of several processes each has its share (`harness.ranks`), and none more rows than `most`;
    one that has none has a row that does not count.
    """

    batch: Batch
    counterfactual: Any
    plain: Tensor
    most: int
    counts: bool


class References:
    """The references of a set-up's batches, in their order; its choices play no part."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._kept: dict[int, Reference] = {}
        self._left = KEPT

    def __iter__(self) -> Iterator[Reference]:
        for index in range(len(self._setup.batches)):
            yield self._kept[index] if index in self._kept else self._make(index)

    def _make(self, index: int) -> Reference:
        setup, all_rows = self._setup, self._setup.batches[index]
        batch = ranks.own(all_rows)
        most, counts = ranks.largest_share(len(all_rows)), ranks.has_rows(len(all_rows))
        plain = plain_logits(setup.model, batch)
        reference = Reference(batch, setup.counterfactuals.of(batch), plain, most, counts)
        tokens, logits_each = most * batch.clean.shape[1], most * plain.shape[1] * plain.shape[2]
        numbers = setup.patchable.counterfactual_numbers(tokens) + logits_each
        if numbers <= self._left:
            self._left -= numbers
            self._kept[index] = reference
        return reference
