"""A model some of whose elements are always ablated, so that no circuit has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from harness.circuits.patchable import Counterfactuals, PatchableModel
from harness.circuits.space import Space
from harness.datasets.batch import Batch
from harness.models.transformer import Transformer
from harness.spec.types import Evaluation


@dataclass(frozen=True)
class Excluding:
    """`inner` with only the elements of `allowed` (bool [E]); implements `PatchableModel`.

    Masks have all E elements; with all ones this is no longer the plain model.
    """

    inner: PatchableModel
    allowed: Tensor

    @property
    def model(self) -> Transformer:
        """The frozen model."""
        return self.inner.model

    @property
    def space(self) -> Space:
        """All its elements."""
        return self.inner.space

    def counterfactuals(
        self, choices: Evaluation, pairs: Sequence[Batch], seed: int
    ) -> Counterfactuals:
        """Those of the inner model."""
        return self.inner.counterfactuals(choices, pairs, seed)

    def logits(self, batch: Batch, masks: Tensor, counterfactual: Any) -> Tensor:
        """Logits [S, B, P, V] under masks [S, E]."""
        return self.inner.logits(batch, self._within(masks), counterfactual)

    def masked_logits(
        self, batch: Batch, masks: Tensor, counterfactual: Any, *, exact_zeros: bool = False
    ) -> Tensor:
        """The same with gradients, which are 0 for what is excluded."""
        return self.inner.masked_logits(
            batch, self._within(masks), counterfactual, exact_zeros=exact_zeros
        )

    def _within(self, masks: Tensor) -> Tensor:
        return masks * self.allowed.to(masks.device, masks.dtype)

    def numbers(self, tokens: int) -> int:
        """As of the inner model."""
        return self.inner.numbers(tokens)

    def counterfactual_numbers(self, tokens: int) -> int:
        """As of the inner model."""
        return self.inner.counterfactual_numbers(tokens)
