"""What a cell is measured in: its model, its prompt pairs in batches, what dropped edges carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.circuits.graph import Graph
from harness.circuits.optimal import learn_constants
from harness.circuits.patching import PatchedModel
from harness.circuits.reference import References
from harness.datasets.pairs import PromptPairs, TaskData
from harness.datasets.repeats import pairs_with_repeats
from harness.models.batch import Batch, Batches
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


def prepare(cell: Cell, data: TaskData, model: Transformer) -> Setting:
    """The pairs that a cell's method looks at and those that circuits are measured on."""
    choices = cell.task.spec.evaluation
    patched = PatchedModel(model, Graph.of(model.config, choices.inputs))
    wanted = limited(choices.discovery_pairs, cell)
    if choices.discovery_repeats:
        discovery = pairs_with_repeats(data, "train", wanted, cell.seed)
    else:
        discovery = data.pairs("train", wanted, cell.seed)
    test = data.pairs("test", limited(choices.test_pairs, cell), TEST_SEED)
    device = cell.runtime.device
    return Setting(
        cell,
        choices,
        patched,
        batched(patched, discovery, device, cell.seed),
        batched(patched, test, device, TEST_SEED),
        {"discovery": discovery.digest(), "test": test.digest()},
    )


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
