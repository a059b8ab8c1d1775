"""All measures of one circuit on one set of prompt pairs, as plain JSON data.

Faithfulness and behaviour (`summary`), completeness, minimality, necessity, interchange,
attention, and the three tests of `hypothesis`. Estimates are those of `statistics`; shares divide
by |F(N) - F(∅)|, as faithfulness does. Undefined values are null. Each part has random draws of
its own, so that omitting one does not change the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.circuits.circuit import Circuit
from harness.evaluation import hypothesis, necessity
from harness.evaluation.completeness import (
    Learner,
    greedy_knockout,
    incompleteness,
    learned_knockout,
)
from harness.evaluation.controls.random_sets import RandomSets
from harness.evaluation.curve import Examples, evaluate_circuits
from harness.evaluation.knockout import (
    Floats,
    Part,
    component_parts,
    element_parts,
    gaps_of,
    random_subsets,
    sample,
)
from harness.evaluation.minimality import effects, random_effects, squared_effects
from harness.evaluation.setup import Setup
from harness.evaluation.summary import Summary
from harness.evaluation.validation.attention import attention_match
from harness.metrics.statistics import estimate, shared_resamples
from harness.progress import through

TESTS = (
    "completeness",
    "minimality",
    "necessity",
    "interchange",
    "attention",
    "equivalence",
    "independence",
)

_ROUNDING = 1e-5
"""Scores closer than this share of the largest are equal: single precision knows no better."""


@dataclass(frozen=True)
class Effort:
    """Sizes of the searches and tests; larger is more precise and slower.

    `subsets` random K, each element in with chance `subset_share`; greedy search of `greedy_steps`
    with `greedy_width` candidates each; minimality of at most `elements` elements, around ∅ and
    `contexts` random K (chance `context_share`, small so that the circuit still works);
    `references` random elements that those of the circuit have to beat; `random_sets` of the
    circuit's size that the model has to need less; `permutations` for HSIC.
    """

    subsets: int = 20
    subset_share: float = 0.5
    greedy_steps: int = 4
    greedy_width: int = 12
    elements: int = 1000
    contexts: int = 1
    context_share: float = 0.1
    references: int = 100
    random_sets: int = 10
    permutations: int = hypothesis.PERMUTATIONS


def judge(
    setup: Setup,
    circuit: Circuit,
    *,
    seed: int,
    search: Setup | None = None,
    tests: Sequence[str] = TESTS,
    effort: Effort | None = None,
    learner: Learner | None = None,
) -> dict[str, Any]:
    """Measure a circuit on a set-up's batches, of whichever task or split they are.

    The worst knock-out is searched for on `search`, so that it is measured on other pairs than it
    was chosen on (None: the same pairs, an upper bound). With a `learner` a
    knock-out is learned too. Raises `HarnessError` if the circuit is of another space than the
    model's, or empty.
    """
    if extra := set(tests) - set(TESTS):
        raise ValueError(f"unknown tests {sorted(extra)}; known: {TESTS}")
    setup.check(circuit)
    chosen = [name for name in TESTS if name in tests]
    judgement = _Judgement(setup, search or setup, circuit.kept, seed, effort or Effort(), learner)
    touched = circuit.space.touched(circuit.kept)
    return {
        "metric": setup.choices.metric,
        "n_examples": setup.n,
        "seed": seed,
        "unit": circuit.space.unit,
        "size": circuit.size,
        "total": len(circuit.space),
        "sparsity": circuit.sparsity,
        "nodes": int(touched.sum()),
        "nodes_total": len(touched),
        "circuit": judgement.summary.point(0),
        "empty": judgement.summary.point(-2),
        "whole": judgement.summary.point(-1),
        "plain": judgement.summary.plain(),
        **{name: getattr(judgement, name)() for name in through(chosen, "judge", "test")},
    }


class _Judgement:
    """One circuit, run once beside the empty one, the whole model and its complement."""

    def __init__(
        self,
        setup: Setup,
        search: Setup,
        kept: Tensor,
        seed: int,
        effort: Effort,
        learner: Learner | None,
    ) -> None:
        self.setup, self.search, self.kept = setup, search, kept
        self.seed, self.effort, self.learner = seed, effort, learner
        circuits = [kept, ~kept, torch.zeros_like(kept), torch.ones_like(kept)]
        examples = evaluate_circuits(setup, circuits)
        values = examples.values
        rows = Examples({name: x[[0, 2, 3]] for name, x in values.items()}, examples.plain)
        self.summary = Summary(rows, ())
        self.scores, self.complement, self.empty, self.whole = values["metric"]
        self.span = abs(float(self.whole.mean() - self.empty.mean()))
        self.weights = shared_resamples(setup.n)
        self.tie = _ROUNDING * float(np.abs(values["metric"]).max())

    def _draws(self, part: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * 64 + part)

    # ------------------------------------------------------------ completeness
    def completeness(self) -> dict[str, Any]:
        """Gaps between circuit and model under random, node and worst knock-outs."""
        effort, space = self.effort, self.setup.space
        share, draws = effort.subset_share, self._draws(0)
        subsets = random_subsets(self.kept, space, share, effort.subsets, draws)
        nodes, elements = component_parts(self.kept, space), element_parts(self.kept, space)

        def greedy(parts: list[Part], draws: int) -> Part:
            steps, width = effort.greedy_steps, effort.greedy_width
            return greedy_knockout(self.search, self.kept, parts, steps, width, self._draws(draws))

        knockouts = {
            "nothing": [Part("nothing", torch.zeros_like(self.kept))],
            "random": [Part(f"subset {i}", subset) for i, subset in enumerate(subsets)],
            "nodes": nodes,
            "worst_nodes": [greedy(nodes, 1)],
            "worst_elements": [greedy(elements, 2)],
        }
        if self.learner is not None:
            seed = self._draws(3).initial_seed()
            knockouts["learned"] = [learned_knockout(self.search, self.kept, self.learner, seed)]
        return {
            "searched_on_other_pairs": self.search.batches is not self.setup.batches,
            **{name: self._gaps(parts) for name, parts in knockouts.items()},
        }

    def _gaps(self, parts: list[Part]) -> dict[str, Any] | None:
        """Mean incompleteness of some knock-outs, and the worst of them; None without any."""
        if not parts:
            return None
        gaps = gaps_of(self.setup, self.kept, [part.elements for part in parts])
        sizes = incompleteness(gaps)
        worst = int(sizes.argmax())
        samples = np.abs(self.weights @ gaps.T).mean(1)
        return {
            "knockouts": len(parts),
            "mean": self._estimate(float(sizes.mean()), samples),
            "share": self._share(float(sizes.mean()), samples),
            "worst": {
                "knockout": parts[worst].name,
                "elements": int((parts[worst].elements & self.kept).sum()),
                "value": float(sizes[worst]),
                "share": _ratio(float(sizes[worst]), self.span),
            },
        }

    def _estimate(self, value: float, samples: Floats) -> dict[str, Any]:
        return estimate(value, samples, self.setup.n, "mean_of_absolute_means")

    def _share(self, value: float, samples: Floats) -> dict[str, Any]:
        """The same, divided by |F(N) - F(∅)|."""
        spans = np.abs(self.weights @ (self.whole - self.empty))
        with np.errstate(divide="ignore", invalid="ignore"):
            share, shares = np.float64(value) / self.span, samples / spans
        return estimate(float(share), shares, self.setup.n, "ratio_of_means")

    # ------------------------------------------------------------ minimality
    def minimality(self) -> dict[str, Any]:
        """Effects of each element and node, and the test against random elements."""
        effort, space, draws = self.effort, self.setup.space, self._draws(4)
        elements = sample(element_parts(self.kept, space), effort.elements, draws)
        nodes = component_parts(self.kept, space)
        share = effort.context_share
        contexts = random_subsets(self.kept, space, share, effort.contexts, draws)
        around = [torch.zeros_like(self.kept), *contexts]
        of_elements = effects(self.setup, self.kept, elements, around)
        of_nodes = effects(self.setup, self.kept, nodes, around)
        return {
            "elements": self._effects(elements, of_elements),
            "nodes": self._effects(nodes, of_nodes),
            "test": self._minimality_test(elements, squared_effects(of_elements[:, 0])),
        }

    def _effects(self, parts: list[Part], changes: Floats) -> dict[str, Any] | None:
        """Effects, as shares of |F(N) - F(∅)|: weakest first; None without parts."""
        if not parts:
            return None
        span = self.span
        sizes = np.abs(changes.mean(2)).max(1)
        order = np.argsort(sizes, kind="stable")
        return {
            "parts": len(parts),
            "contexts": changes.shape[1],
            "median": _ratio(float(np.median(sizes)), span),
            "below_1_percent": int((sizes < 0.01 * span).sum()),
            "weakest": [
                {"name": parts[i].name, "share": _ratio(float(sizes[i]), span)} for i in order[:10]
            ],
        }

    def _minimality_test(self, elements: list[Part], delta: Floats) -> dict[str, Any] | None:
        """None where no element can be added (the whole model)."""
        effort = self.effort
        reference = random_effects(self.setup, self.kept, effort.references, self._draws(5))
        if not len(reference):
            return None
        p = hypothesis.holm(hypothesis.minimality(delta, reference, tie=self.tie**2))
        rejected = [
            part.name for part, one in zip(elements, p, strict=True) if one <= hypothesis.LEVEL
        ]
        return {
            "null": "every element matters more than 0.9 of random added elements",
            "statistic": len(rejected) / len(elements),
            "p": float(p.min()),
            "n": len(elements),
            "references": len(reference),
            "rejected": bool(rejected),
            "redundant": rejected,
        }

    # ------------------------------------------------------------ what the model needs
    def necessity(self) -> dict[str, Any] | None:
        """What is left of the task without the circuit, and without as many random elements."""
        return necessity.necessity(
            self.setup, self.search, self.kept, self._random_sets(self.setup)
        )

    def interchange(self) -> dict[str, Any] | None:
        """How much of the corruption's effect the circuit's elements carry."""
        setup = necessity.on_interchange(self.setup, self.seed)
        sets = () if setup is None else self._random_sets(setup)
        return necessity.interchange(self.setup, self.kept, sets, self.seed)

    def attention(self) -> dict[str, Any] | None:
        """Whether kept heads attend as in the model."""
        return attention_match(self.setup, self.kept)

    def _random_sets(self, setup: Setup) -> list[Tensor]:
        """Of the elements that can matter in a set-up."""
        size = int(self.kept.sum())
        return RandomSets.of(setup).draw(size, self.effort.random_sets, self._draws(7))

    # ------------------------------------------------------------ tests of scores
    def equivalence(self) -> dict[str, Any]:
        """Test whether circuit or model scores higher too often."""
        outcome = hypothesis.equivalence(self.scores, self.whole, tie=self.tie)
        return _test("circuit and model beat each other equally often, within 0.1", outcome)

    def independence(self) -> dict[str, Any]:
        """Test whether the complement still depends on the model."""
        rng = np.random.default_rng([self.seed, 6])
        outcome = hypothesis.independence(
            self.complement, self.whole, rng, self.effort.permutations
        )
        return _test("the complement's scores say nothing about the model's", outcome)


def _test(null: str, outcome: hypothesis.Outcome) -> dict[str, Any]:
    return {
        "null": null,
        "statistic": outcome.statistic,
        "p": outcome.p,
        "n": outcome.n,
        "rejected": outcome.rejected(),
    }


def _ratio(value: float, span: float) -> float | None:
    return value / span if span > 0 else None
