"""The smallest circuits that reach targets: along a method's order, or inside its active sets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from harness.circuits.select import select
from harness.circuits.space import Space
from harness.discovery.problem import ActiveSet, Discovery
from harness.discovery.sizing import ranking_for
from harness.evaluation.clean_up import cleaned
from harness.evaluation.targets import TargetSearch
from harness.spec.types import CircuitTarget, Selection

_LOG = logging.getLogger("harness")


@dataclass(frozen=True)
class Smallest:
    """The smallest circuit, `kept` bool [E], of at most `n` elements, and whether it is one at all.

    `scores` [E]: what it was cut from; `origin`: that in words, where it is an active set.
    """

    n: int
    kept: Tensor
    reached: bool
    scores: Tensor
    origin: str | None = None


@dataclass(frozen=True)
class Finder:
    """`circuit` gives a method's circuit of n elements; `search` measures circuits."""

    discovery: Discovery
    search: TargetSearch
    circuit: Callable[[int], Tensor]
    selection: Selection

    @property
    def space(self) -> Space:
        """The space of elements."""
        return self.search.setup.space

    def find(self, targets: Sequence[CircuitTarget]) -> list[Smallest]:
        """For each target the smallest circuit that reaches it, cleaned up if the method says so.

        Where none does: all elements, or of active sets the one whose measure comes nearest.
        """
        if self.discovery.active:
            result = self._inside_active_sets(targets)
        else:
            result = [self._along(n) for n in self.search.smallest(targets)]
        if not self.selection.clean_up:
            return result
        return [
            self._cleaned(one, target) if one.reached else one
            for one, target in zip(result, targets, strict=True)
        ]

    def _along(self, n: int | None) -> Smallest:
        at = len(self.space) if n is None else n
        return Smallest(at, self.circuit(at), n is not None, ranking_for(self.discovery, at))

    def _inside_active_sets(self, targets: Sequence[CircuitTarget]) -> list[Smallest]:
        """Of all active sets; those that miss a target have no circuit for it."""
        sets = self.discovery.active
        searches = [self.search.inside(partial(self._kept, one), one.size) for one in sets]
        numbers = [search.smallest(targets) for search in searches]
        result = []
        for index, target in enumerate(targets):
            reaching = [
                self._cut(one, n, reached=True)
                for one, row in zip(sets, numbers, strict=True)
                if (n := row[index]) is not None
            ]
            if reaching:
                result.append(min(reaching, key=self._size))
                continue
            values = [
                search.means[one.size][target.measure]
                for one, search in zip(sets, searches, strict=True)
            ]
            best = max(values) if target.measure == "faithfulness" else min(values)
            _LOG.warning(
                "no active set reaches %s, the nearest is at %.3g: prices are too high, or there "
                "are too few steps",
                target,
                best,
            )
            nearest = sets[values.index(best)]
            result.append(self._cut(nearest, nearest.size, reached=False))
        return result

    def _kept(self, one: ActiveSet, n: int) -> Tensor:
        ablation = self.search.setup.choices.ablation
        return select(one.scores, self.space, n, self.selection, ablation)

    def _cut(self, one: ActiveSet, n: int, *, reached: bool) -> Smallest:
        origin = f"an active set of {one.size} {self.space.unit}"
        return Smallest(n, self._kept(one, n), reached, one.scores, origin)

    def _size(self, one: Smallest) -> tuple[int, ...]:
        """Its sizes in all units of the space, the finest first: what circuits are compared by."""
        return tuple(reversed(list(self.space.counts(one.kept).values())))

    def _cleaned(self, one: Smallest, target: CircuitTarget) -> Smallest:
        kept = cleaned(one.kept, one.scores, lambda x: self.search.reaches(x, target))
        kept = self.space.prune(kept, self.search.setup.choices.ablation)
        return replace(one, n=int(kept.sum()), kept=kept)
