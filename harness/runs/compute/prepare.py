"""A cell's set-up: its model, its prompt pairs in batches, what replaces dropped elements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from harness.circuits.background import Background
from harness.circuits.baseline import Baseline
from harness.circuits.patchable import PatchableModel, make_patchable
from harness.datasets.batch import Batches
from harness.datasets.pairs import PromptPairs, TaskData, ablation_problem, mixed_lengths
from harness.datasets.repeats import pairs_with_repeats
from harness.dictionaries.dictionary import DictionarySet
from harness.errors import HarnessError
from harness.evaluation.controls.other_answers import answered
from harness.evaluation.setup import Setup
from harness.evaluation.validation.needed import Needed
from harness.metrics.per_example import PerExample
from harness.models.fit import require_tokens
from harness.models.transformer import Transformer
from harness.runs.plan import Cell
from harness.spec.types import Evaluation

TEST_SEED = 0
"""Test pairs are the same for every method and seed, so that methods compare example by example."""

BATCH_BUFFER = 2**25
"""Numbers in the pass of one mask over one batch."""

LARGEST_BATCH = 128


class Drawn(NamedTuple):
    """The pairs for discovery, and those that circuits are measured on."""

    discovery: PromptPairs
    test: PromptPairs


def draw(cell: Cell, data: TaskData) -> Drawn:
    """A cell's pairs; no model is needed.

    Raises `HarnessError` where the choices do not allow their lengths (`check_lengths`).
    """
    choices = cell.task.spec.evaluation
    discovery = discovery_pairs(data, choices, limited(choices.discovery_pairs, cell), cell.seed)
    drawn = Drawn(discovery, data.pairs("test", limited(choices.test_pairs, cell), TEST_SEED))
    check_lengths(choices, drawn)
    return drawn


def discovery_pairs(
    data: TaskData, choices: Evaluation, count: int, seed: int, *, at_most: bool = False
) -> PromptPairs:
    """The pairs for discovery; with `at_most`, fewer where the task has fewer."""
    if choices.discovery_repeats:
        return pairs_with_repeats(data, "train", count, seed)
    return data.pairs("train", count, seed, at_most=at_most)


@dataclass(frozen=True)
class Prepared:
    """Set-ups for discovery and test: one model, one way to ablate, two sets of prompt pairs.

    `needed`: both with the task's own answers, where those looked at are others.
    """

    drawn: Drawn
    discovery: Setup
    test: Setup
    needed: Needed

    @property
    def digests(self) -> dict[str, str]:
        """Digests of the pairs."""
        return {name: pairs.digest() for name, pairs in self.drawn._asdict().items()}


def prepare(
    model: Transformer,
    choices: Evaluation,
    drawn: Drawn,
    *,
    device: str,
    seed: int,
    classes: Sequence[str] | None = None,
    background: Background | Baseline | None = None,
    dictionaries: DictionarySet | None = None,
) -> Prepared:
    """Build the set-ups for discovery and test: for cells, judging and benchmarks alike.

    Means and learned constants are taken over the discovery pairs; `seed` draws the partners of
    these pairs and initialises learned constants. `classes`: the task's `answers`. `background`:
    what the model was trained on, as far as that is known, or means over it. `dictionaries`: of the
    model, for circuits of features. Raises `HarnessError` for measures or other answers that the
    prompts do not allow.
    """
    own, drawn = drawn, Drawn(*answered(drawn, choices.answers, in_classes=bool(classes)))
    patchable = make_patchable(model, choices, drawn, background, dictionaries)
    discovery = batched(patchable, drawn.discovery, device, seed)
    test = batched(patchable, drawn.test, device, TEST_SEED)
    names = tuple(classes or ())
    PerExample.of(test, choices.metric, choices.measures, names)  # refused before the search
    counterfactuals = patchable.counterfactuals(choices, discovery, seed)
    on_discovery = Setup(patchable, discovery, counterfactuals, choices, names)
    on_test = replace(on_discovery, batches=test)
    needed = on_test, on_discovery
    if choices.answers != "right":
        needed = (
            replace(on_test, batches=batched(patchable, own.test, device, TEST_SEED)),
            replace(on_discovery, batches=batched(patchable, own.discovery, device, seed)),
        )
    return Prepared(drawn, on_discovery, on_test, Needed(*needed, seed))


def check_lengths(choices: Evaluation, drawn: Drawn) -> None:
    """Refuse lengths of prompts that the choices do not allow: raises `HarnessError`.

    Edges of each position need prompts of one length, some ablations two prompts of each.
    """
    if choices.positions == "per_token" and (problem := mixed_lengths(*drawn)):
        raise HarnessError(f"evaluation.positions: {problem}")
    if problem := ablation_problem(choices.ablation, *drawn):
        raise HarnessError(f"evaluation.ablation: {problem}")


def batched(patchable: PatchableModel, pairs: PromptPairs, device: str, seed: int) -> Batches:
    """Batches of one length each, as large as the memory budget for one mask allows.

    Raises `HarnessError` for tokens that the model does not know.
    """
    require_tokens(patchable.model.config, pairs)
    width = patchable.numbers(int(pairs.lengths.max(initial=1)))
    size = max(1, min(LARGEST_BATCH, BATCH_BUFFER // width))
    return Batches(pairs, size, device, seed)


def limited(pairs: int, cell: Cell) -> int:
    """A number of pairs, reduced to `limit` in a smoke run."""
    return pairs if cell.limit is None else min(pairs, cell.limit)
