"""What a cell is measured in: its model, its prompt pairs in batches, what dropped edges carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from harness.circuits.graph import Graph
from harness.circuits.optimal import learn_constants
from harness.circuits.patching import PatchedModel
from harness.circuits.positions import Positions
from harness.circuits.reference import References
from harness.datasets.batch import Batch, Batches
from harness.datasets.pairs import PromptPairs, TaskData, mixed_lengths
from harness.datasets.repeats import pairs_with_repeats
from harness.errors import HarnessError
from harness.models.config import TransformerConfig
from harness.models.transformer import Transformer
from harness.runs.plan import Cell
from harness.spec.types import Evaluation

TEST_SEED = 0
"""Test pairs are the same for every method and seed, so that methods compare example by example."""

WRITERS_BUFFER = 2**25
"""Numbers in all writers of one batch."""

LARGEST_BATCH = 128


@dataclass(frozen=True)
class Setting:
    """A cell's model and data."""

    cell: Cell
    choices: Evaluation
    patched: PatchedModel
    discovery: Batches
    test: Batches
    digests: dict[str, str]

    @property
    def model(self) -> Transformer:
        """The frozen model."""
        return self.patched.model

    @property
    def graph(self) -> Graph:
        """The edges that circuits are made of."""
        return self.patched.graph


class Drawn(NamedTuple):
    """The pairs that a cell's method looks at and those that circuits are measured on."""

    discovery: PromptPairs
    test: PromptPairs


def draw(cell: Cell, data: TaskData) -> Drawn:
    """A cell's pairs; no model is needed.

    Raises `HarnessError` where the choices ask for prompts of one length and there are several.
    """
    choices = cell.task.spec.evaluation
    discovery = discovery_pairs(data, choices, limited(choices.discovery_pairs, cell), cell.seed)
    drawn = Drawn(discovery, data.pairs("test", limited(choices.test_pairs, cell), TEST_SEED))
    check_lengths(choices, drawn)
    return drawn


def discovery_pairs(
    data: TaskData, choices: Evaluation, count: int, seed: int, *, at_most: bool = False
) -> PromptPairs:
    """The pairs that methods look at; `at_most`: fewer will do where the task has fewer."""
    if choices.discovery_repeats:
        return pairs_with_repeats(data, "train", count, seed)
    return data.pairs("train", count, seed, at_most=at_most)


def prepare(cell: Cell, drawn: Drawn, model: Transformer) -> Setting:
    """The model and its graph, and the pairs in batches."""
    choices = cell.task.spec.evaluation
    patched = PatchedModel(model, graph_of(model.config, choices, drawn))
    device = cell.runtime.device
    return Setting(
        cell,
        choices,
        patched,
        batched(patched, drawn.discovery, device, cell.seed),
        batched(patched, drawn.test, device, TEST_SEED),
        {"discovery": drawn.discovery.digest(), "test": drawn.test.digest()},
    )


def check_lengths(choices: Evaluation, drawn: Drawn) -> None:
    """Refuse edges of each position for prompts of several lengths: raises `HarnessError`."""
    if choices.positions == "per_token" and (problem := mixed_lengths(*drawn)):
        raise HarnessError(f"evaluation.positions: {problem}")


def graph_of(config: TransformerConfig, choices: Evaluation, drawn: Drawn) -> Graph:
    """The model's edges under the choices; where positions have their own, those of the pairs."""
    if choices.positions == "all":
        return Graph.of(config, choices.inputs)
    read = {int(at) for pairs in drawn for at in np.unique(pairs.positions) if at >= 0}
    length = int(drawn.test.lengths[0])
    positions = Positions(length, tuple(sorted(read)), config.causal)
    return Graph.of(config, choices.inputs, positions)


def batched(patched: PatchedModel, pairs: PromptPairs, device: str, seed: int) -> Batches:
    """Batches of one length each, so large that the writers of one fit into a budget."""
    longest = int(pairs.lengths.max(initial=1))
    width = patched.graph.n_writers * longest * patched.model.config.d_model
    size = max(1, min(LARGEST_BATCH, WRITERS_BUFFER // width))
    return Batches(pairs, size, device, seed)


def references_of(
    patched: PatchedModel, choices: Evaluation, discovery: Sequence[Batch], seed: int
) -> References:
    """What dropped edges carry under the choices; means are those of the discovery pairs.

    Learned constants are learned here, on these pairs and from the cell's seed: they are the same
    wherever a cell's numbers are made.
    """
    model, graph = patched.model, patched.graph
    if choices.ablation == "optimal":
        learned = learn_constants(patched, discovery, seed, choices.metric)
        return References(
            model, graph, "optimal", constants=learned.constants, notes=learned.notes()
        )
    return References(
        model, graph, choices.ablation, mean_over=discovery, head_bias=choices.head_bias
    )


def limited(pairs: int, cell: Cell) -> int:
    """A number of pairs, cut short in a smoke run."""
    return pairs if cell.limit is None else min(pairs, cell.limit)
