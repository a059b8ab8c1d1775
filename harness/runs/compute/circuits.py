"""The circuits of a cell: those of the sizes asked for, or the smallest that reach its targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from harness.circuits.select import requested_counts
from harness.discovery.problem import Discovery
from harness.discovery.sizing import SCORES, circuit_of, cut_from
from harness.evaluation.calibration import with_calibration
from harness.evaluation.curve import Examples, NotFinite, evaluate_circuits
from harness.evaluation.references import References
from harness.evaluation.setup import Setup
from harness.evaluation.summary import Summary
from harness.evaluation.targets import TargetSearch, reached, stricter, with_losses
from harness.evaluation.validation.needed import Needed
from harness.metrics.curve import SIZE_THRESHOLDS, size_reaching
from harness.runs.compute.reaching import Finder, Smallest
from harness.spec.types import CircuitTarget, Evaluation, Selection


@dataclass(frozen=True)
class Requested:
    """A circuit of at most `n` elements, `kept` bool [E], and the target that it was cut for.

    `cut`: what it was cut from for the target.
    """

    n: int
    kept: Tensor
    target: dict[str, Any] | None = None
    cut: Smallest | None = None

    @property
    def size(self) -> int:
        """Elements that it keeps."""
        return int(self.kept.sum())

    @property
    def is_for_task_loss(self) -> bool:
        """Whether it gets down to a task loss that was asked for."""
        target = self.target
        return target is not None and target["measure"] == "task_loss" and target["reached"]


@dataclass(frozen=True)
class Ladder:
    """What a method found, and how circuits of n elements are cut from it.

    `shared`: the references of the same set-up's batches, if they were made before. `pairs`: the
    set-up of the discovery pairs, for what the choices do on them.
    """

    discovery: Discovery
    setup: Setup
    selection: Selection
    shared: References | None = None
    pairs: Setup | None = None
    needed: Needed | None = None

    @property
    def total(self) -> int:
        """E."""
        return len(self.setup.space)

    @cached_property
    def references(self) -> References:
        """What all circuits are run against."""
        return self.shared or References(self.setup)

    @property
    def by_score(self) -> Ladder | None:
        """Circuits cut from the scores of a method that settled on circuits; None for others.

        None for targets too, which are no sizes to compare at.
        """
        if not self.discovery.circuits or self.setup.choices.targets is not None:
            return None
        return replace(self, discovery=replace(self.discovery, circuits=()), shared=self.references)

    @property
    def is_one_ranking(self) -> bool:
        """Whether circuits of all sizes are cut from the same scores."""
        return cut_from(self.discovery, self.total, self.setup.space.unit) == SCORES

    def circuit(self, n: int) -> Tensor:
        """The circuit of at most n elements: bool [E]."""
        ablation = self.setup.choices.ablation
        return circuit_of(self.discovery, self.setup.space, n, self.selection, ablation)

    def requested(self) -> list[Requested]:
        """The circuits that the choices ask for."""
        choices = self.setup.choices
        if choices.targets is not None:
            return self._reaching(choices.targets)
        return [Requested(n, self.circuit(n)) for n in requested_counts(choices, self.total)]

    def _reaching(self, targets: Sequence[CircuitTarget]) -> list[Requested]:
        """For each target the smallest circuit that reaches it; all elements where none does.

        Searched for on the discovery pairs if there are any. Inside active sets the one that comes
        nearest where none does.
        """
        on = self.pairs if self._fresh and self.pairs is not None else self.setup
        references = self.references if on is self.setup else References(on)
        search = TargetSearch.start(with_losses(on, targets), references, self.circuit)
        wanted = [stricter(target, on.choices.margin) for target in targets]
        smallest = Finder(self.discovery, search, self.circuit, self.selection).find(wanted)
        return [
            Requested(one.n, one.kept, self._said(target, one.reached), one)
            for one, target in zip(smallest, targets, strict=True)
        ]

    def _said(self, target: CircuitTarget, is_reached: bool) -> dict[str, Any]:
        said = {"measure": target.measure, "value": target.value, "reached": is_reached}
        return {**said, "searched_on": "discovery"} if self._fresh else said

    @property
    def _fresh(self) -> bool:
        """Whether circuits of targets are searched on the discovery pairs."""
        return self.pairs is not None and self.setup.choices.searched_on == "discovery"

    def measure(self, circuits: Sequence[Requested]) -> Examples:
        """Rows: the circuits, the empty circuit, all elements."""
        setup = with_losses(self.setup, self.setup.choices.targets or ())
        everything = torch.ones(self.total, dtype=torch.bool)
        kept = [one.kept for one in circuits]
        rows = [*kept, ~everything, everything]
        if self.pairs is None:
            return evaluate_circuits(setup, rows, self.references)
        examples = with_calibration(setup, self.pairs, rows, self.references)
        if self.needed is None:
            return examples
        return Examples(examples.values | self.needed.measure(rows), examples.plain)

    def sizes_at(self, circuits: Sequence[Requested], summary: Summary) -> dict[str, Any]:
        """Sizes of the smallest circuits that are so faithful, and how they were looked for.

        Where all circuits are cut from one ranking they are searched for along it; else they are
        the smallest of the measured ones.
        """
        if self.is_one_ranking:
            try:
                return {"size_at": "ranking", **_by_threshold(self._exact(circuits, summary))}
            except NotFinite:
                pass  # a circuit on the way, whose size nobody asked for
        sizes, curve = [one.size for one in circuits], summary.curve()
        smallest = [size_reaching(value, sizes, curve) for value in SIZE_THRESHOLDS]
        return {"size_at": "grid", **_by_threshold(smallest)}

    def _exact(self, circuits: Sequence[Requested], summary: Summary) -> list[int | None]:
        alone = replace(self.setup, choices=replace(self.setup.choices, measures=()), classes=())
        search = TargetSearch.of(alone, self.references, self.circuit, summary.examples)
        for row, one in enumerate(circuits):
            search.add(one.n, one.kept, summary.examples.row(row))
        numbers = search.smallest([CircuitTarget(faithfulness=x) for x in SIZE_THRESHOLDS])
        return [None if n is None else int(self.circuit(n).sum()) for n in numbers]


def _by_threshold(sizes: Sequence[int | None]) -> dict[str, int | None]:
    pairs = zip(SIZE_THRESHOLDS, sizes, strict=True)
    return {f"size_at_{threshold:.2f}": size for threshold, size in pairs}


def shares(choices: Evaluation, circuits: Sequence[Requested], total: int) -> tuple[float, ...]:
    """The requested size of each circuit as a share of all elements."""
    return choices.sizes or tuple(one.n / total for one in circuits)


def grid(choices: Evaluation, circuits: Sequence[Requested], total: int) -> tuple[float, ...]:
    """The shares that areas are taken over; none where the circuits are no grid."""
    if choices.targets is not None or len(circuits) < 2:
        return ()
    return shares(choices, circuits, total)


def verified(target: dict[str, Any] | None, point: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is said of a target; searched on other pairs, with whether the test pairs bear it out.

    `point`: the circuit's estimates on the test pairs.
    """
    if target is None or "searched_on" not in target:
        return target
    wanted = CircuitTarget(**{target["measure"]: target["value"]})
    value = point[target["measure"]]["value"]
    return {**target, "held": value is not None and reached(wanted, {wanted.measure: value})}
