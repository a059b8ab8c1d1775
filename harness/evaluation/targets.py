"""The smallest circuit that reaches a target: found by bisection and measured where it is found.

Along a method's own order there is a circuit C_n of at most n elements for every n. A target is a
faithfulness to reach, or a KL or another loss to get down to. The search starts from circuits that
were measured already: n lies between the largest of them that falls short, below the smallest that
reaches it. Where a measure does not grow with n everywhere, this finds one crossing of several.

Cost: log2 of the gap rounds, each one circuit per target; circuits that are equal once dead ends
are removed are run once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from harness.evaluation.curve import Examples, Floats, evaluate_circuits, key_of
from harness.evaluation.references import References
from harness.evaluation.setup import Setup
from harness.metrics.curve import ROUNDING, faithfulness
from harness.progress import stage, through
from harness.spec.types import CircuitTarget

CircuitOf = Callable[[int], Tensor]
"""A number n of elements, 0 … E, to the circuit C_n, bool [E]."""


def reached(target: CircuitTarget, means: Mapping[str, float]) -> bool:
    """Whether a circuit with these mean measures reaches a target; with NaN it does not."""
    mean = means[target.measure]
    if target.measure == "faithfulness":
        return mean >= target.value - ROUNDING
    return mean <= target.value + ROUNDING


def stricter(target: CircuitTarget, margin: float) -> CircuitTarget:
    """The target with a margin: a faithfulness of 1 at most, a loss of 0 at least."""
    value = target.value
    value = min(1.0, value + margin) if target.measure == "faithfulness" else value - margin
    return CircuitTarget(**{target.measure: max(0.0, value)})


def with_losses(setup: Setup, targets: Sequence[CircuitTarget]) -> Setup:
    """The set-up, with the targets' losses among its measures."""
    losses = [target.measure for target in targets if target.measure != "faithfulness"]
    measures: Any = tuple(dict.fromkeys((*setup.choices.measures, *losses)))
    return replace(setup, choices=replace(setup.choices, measures=measures))


@dataclass
class TargetSearch:
    """Circuits of a method that were measured so far, by n, and the search for targets among them.

    `empty`, `whole`: mean metric of the empty circuit and of all elements.
    """

    setup: Setup
    references: References
    circuit_of: CircuitOf
    empty: float
    whole: float
    means: dict[int, Mapping[str, float]] = field(default_factory=dict)
    _by_circuit: dict[bytes, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def start(cls, setup: Setup, references: References, circuit_of: CircuitOf) -> TargetSearch:
        """A search in which nothing but the two ends is measured."""
        everything = torch.ones(len(setup.space), dtype=torch.bool)
        ends = evaluate_circuits(setup, [~everything, everything], references)
        return cls.of(setup, references, circuit_of, ends)

    @classmethod
    def of(
        cls, setup: Setup, references: References, circuit_of: CircuitOf, examples: Examples
    ) -> TargetSearch:
        """A search whose ends were measured: the empty circuit and all elements, the last rows."""
        empty, whole = (float(x.mean()) for x in examples.values["metric"][-2:])
        search = cls(setup, references, circuit_of, empty, whole)
        everything = torch.ones(len(setup.space), dtype=torch.bool)
        search.add(0, ~everything, examples.row(-2))
        search.add(len(everything), everything, examples.row(-1))
        return search

    def inside(self, circuit_of: CircuitOf, limit: int) -> TargetSearch:
        """A search among circuits of at most `limit` elements, the largest of which is measured.

        Where that one misses a target, none of them is said to reach it.
        """
        search = TargetSearch(self.setup, self.references, circuit_of, self.empty, self.whole)
        search.means[0] = self.means[0]
        search._measure([limit])
        return search

    def reaches(self, kept: Tensor, target: CircuitTarget) -> bool:
        """Whether a circuit [E] of any kind reaches a target."""
        means = self._by_circuit.get(key_of(kept))
        if means is None:
            values = evaluate_circuits(self.setup, [kept], self.references).values
            means = self._note(kept, {name: array[0] for name, array in values.items()})
        return reached(target, means)

    def add(self, n: int, kept: Tensor, values: Mapping[str, Floats]) -> None:
        """Note a circuit C_n that was measured: values [n_pairs] by measure."""
        self.means[n] = self._note(kept, values)

    def _note(self, kept: Tensor, values: Mapping[str, Floats]) -> Mapping[str, float]:
        means = {name: float(x.mean()) for name, x in values.items()}
        means["faithfulness"] = float(faithfulness(means["metric"], self.empty, self.whole))
        self._by_circuit[key_of(kept)] = means
        return means

    def smallest(self, targets: Sequence[CircuitTarget]) -> list[int | None]:
        """For each target the smallest n that reaches it; None where not even all elements do."""
        brackets = {target: self._bracket(target) for target in targets}
        widest = max((high - low for low, high in filter(None, brackets.values())), default=0)
        with stage("search for sizes", max(0, widest - 1).bit_length(), "round") as shown:
            while middles := {
                target: (bracket[0] + bracket[1]) // 2
                for target, bracket in brackets.items()
                if bracket is not None and bracket[1] - bracket[0] > 1
            }:
                self._measure(sorted(set(middles.values())))
                brackets = {target: self._bracket(target) for target in middles}
                shown.advance()
        return self.measured(targets)

    def measured(self, targets: Sequence[CircuitTarget]) -> list[int | None]:
        """For each target the smallest n measured so far that reaches it."""
        brackets = map(self._bracket, targets)
        return [None if bracket is None else bracket[1] for bracket in brackets]

    def _bracket(self, target: CircuitTarget) -> tuple[int, int] | None:
        """The largest n below that falls short (-1: none), and the smallest n that reaches it."""
        reaching = [n for n, means in self.means.items() if reached(target, means)]
        if not reaching:
            return None
        high = min(reaching)
        return max((n for n in self.means if n < high), default=-1), high

    def _measure(self, numbers: Sequence[int]) -> None:
        fresh: dict[int, Tensor] = {}
        for n in numbers:
            if n in self.means:
                continue
            kept = self.circuit_of(n)
            means = self._by_circuit.get(key_of(kept))
            if means is None:
                fresh[n] = kept
            else:
                self.means[n] = means
        if not fresh:
            return
        values = evaluate_circuits(self.setup, list(fresh.values()), self.references).values
        for row, (n, kept) in enumerate(fresh.items()):
            self.add(n, kept, {name: array[row] for name, array in values.items()})


# ---------------------------------------------------------------- clean-up
PASSES = 2
"""An element that was needed may be superfluous once others have gone."""


def cleaned(kept: Tensor, scores: Tensor, holds: Callable[[Tensor], bool]) -> Tensor:
    """The circuit [E] without each element whose loss `holds` allows, the weakest score first.

    Gao et al. 2025 removed by hand what learned masks leave behind. The rest is small for its
    target, and says less of the model: what was dropped may be what makes it necessary.
    `holds`: whether a circuit still reaches its target. Cost: a circuit for each element, at most
    `PASSES` times.
    """
    order = scores.argsort(stable=True).tolist()
    for _ in range(PASSES):
        before = int(kept.sum())
        inside = [element for element in order if kept[element]]
        for element in through(inside, "clean-up", "element"):
            smaller = kept.clone()
            smaller[element] = False
            if holds(smaller):
                kept = smaller
        if int(kept.sum()) == before:
            break
    return kept
