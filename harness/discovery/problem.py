"""What a method is given, and what it must return: the whole interface of discovery.

Needs no torch by itself, so that methods can import it and still be read quickly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from harness import ranks
from harness.discovery.refusals import distance_problem
from harness.errors import HarnessError
from harness.metrics import DISTANCES, LOSSES
from harness.progress import Stage, stage, through
from harness.spec.types import Metric, Objective

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from harness.circuits.edges.patchable import EdgeModel
    from harness.circuits.patchable import Counterfactuals, PatchableModel
    from harness.circuits.space import Space
    from harness.datasets.batch import Batch
    from harness.models.transformer import Transformer

Loss: TypeAlias = "Callable[[Tensor], Tensor]"
"""Logits [..., B, P, V] of one batch to one number per prompt [..., B]; smaller is better."""


@dataclass(frozen=True)
class Problem:
    """Find the elements that matter for `metric` on these prompt pairs.

    `batches` may be made anew each time they are gone through: hold one at a time, so that memory
    does not grow with the number of pairs. `counterfactuals` gives what replaces dropped
    elements; `generator` is the only source of chance. `sizes` are the numbers of elements at which
    circuits will be measured. `scratch` is a folder for checkpoints; it outlives a kill.
    """

    patchable: PatchableModel
    batches: Sequence[Batch]
    counterfactuals: Counterfactuals
    metric: Metric
    generator: torch.Generator
    sizes: tuple[int, ...] = ()
    scratch: Path | None = None

    @property
    def model(self) -> Transformer:
        """The frozen model."""
        return self.patchable.model

    @property
    def space(self) -> Space:
        """The elements to choose from."""
        return self.patchable.space

    @property
    def edges(self) -> EdgeModel:
        """The model's edges, for methods that need to know what an edge is.

        Raises `HarnessError` where circuits are made of anything else.
        """
        from harness.circuits.edges.patchable import EdgeModel

        if not isinstance(self.patchable, EdgeModel):
            raise HarnessError(
                f"this method finds circuits of edges; these are made of {self.space.unit}"
            )
        return self.patchable

    def stage(self, title: str, total: int, unit: str = "step") -> AbstractContextManager[Stage]:
        """Progress of a search, shown with the time left: `advance()` it inside the block."""
        return stage(title, total, unit)

    @property
    def n_pairs(self) -> int:
        """Prompt pairs in all batches."""
        return sum(len(batch) for batch in self.batches)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.embedding.device

    @property
    def mask_like(self) -> Tensor:
        """An empty tensor in the precision and on the device that masks are learned in.

        The model's own, but never half precision: steps would be too small to move a mask.
        """
        from harness.models.precision import single

        return single(self.model.embedding.new_empty(0))

    def resolved(self, objective: Objective) -> str:
        """The loss that an objective means: `metric` is the task's own."""
        return self.metric if objective == "metric" else objective

    def loss(self, objective: Objective, batch: Batch) -> Loss:
        """An objective as a function of a batch's logits.

        One plain forward where it is a distance to the whole model.
        """
        import torch

        from harness.circuits.patchable import plain_logits

        name = self.resolved(objective)
        whole = plain_logits(self.model, batch) if name in DISTANCES else torch.empty(0)
        return lambda logits: LOSSES[name](logits, whole, batch)

    def summed(self, of: Callable[[Batch], Tensor], title: str) -> Tensor:
        """Σ over all batches of what `of` sums over the pairs of one, float64 on the CPU.

        Each of several processes runs its own rows of every batch, and all of them get the sum.
        `title`: of its progress.
        """
        import torch

        total: Tensor | None = None
        for batch in through(self.batches, title, "batch"):
            part = of(ranks.own(batch)).double().cpu()
            total = torch.zeros_like(part) if total is None else total
            if ranks.has_rows(len(batch)):
                total += part
        assert total is not None  # a task has pairs
        return ranks.summed(total)

    def refuse_distance(self, method: str, objective: Objective) -> None:
        """Refuse an objective whose gradient at the whole model is always zero.

        Raises `HarnessError` for the distances to the whole model, which have their minimum there.
        """
        if problem := distance_problem(method, self.resolved(objective)):
            raise HarnessError(problem)


class ActiveSet(NamedTuple):
    """A ranking that holds for its `size` strongest elements alone: it knows nothing of the others.

    `scores` float [E], 0 or more.
    """

    scores: Tensor
    size: int


@dataclass(frozen=True)
class Discovery:
    """What a method found.

    `scores` float [E] rank all elements; positive helps; means over prompt pairs where they are
    sums over pairs. `rankings` are further scores, each for circuits of about that many
    elements: a circuit is cut from the nearest one. `circuits` bool [E] are what the method itself
    settled on; where there are any, a circuit of n elements is the largest of them with at most n.
    `active`: where there are any, every circuit is cut inside one of these sets: one of n elements
    from the smallest that has so many, or it is the largest of them whole.
    `additive`: the score of an edge into keys or values that heads share is the sum of what edges
    into those of each head would score (attribution, to first order), not a rank of its own (a
    probability, a threshold, a share). `notes` are numbers about the search, for the record.
    `earlier_seconds`, `earlier_processor_seconds`: spent before the search was resumed; without
    the latter, processor time counts in the proportion that it has after the stop.
    """

    scores: Tensor
    rankings: Mapping[int, Tensor] = field(default_factory=dict)
    circuits: tuple[Tensor, ...] = ()
    active: tuple[ActiveSet, ...] = ()
    additive: bool = False
    notes: Mapping[str, float] = field(default_factory=dict)
    earlier_seconds: float = 0.0
    earlier_processor_seconds: float | None = None


class DiscoveryMethod(Protocol):
    """A dataclass whose fields are the method's `params`."""

    def discover(self, problem: Problem) -> Discovery:
        """Find the elements that matter."""
        ...
