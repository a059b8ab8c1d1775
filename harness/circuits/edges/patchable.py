"""A model whose edges can be kept or replaced: the patched pass behind flat masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from harness.circuits.background import Background, prompts_of, required
from harness.circuits.baseline import Baseline
from harness.circuits.edges.counterfactuals import Activations, EdgeCounterfactuals, writer_means
from harness.circuits.edges.gradients import Loss, edge_scores, gradient_run, writer_differences
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.info import NO_SPARSITY
from harness.circuits.edges.optimal import learn_constants
from harness.circuits.edges.patched.backward import masked_logits
from harness.circuits.edges.patched.forward import PatchedModel
from harness.circuits.edges.positions import Positions
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.edges.ungroup import ungrouped_model
from harness.circuits.patchable import TRAINING_MEANS
from harness.datasets.batch import Batch
from harness.datasets.pairs import PromptPairs
from harness.errors import HarnessError
from harness.models.config import TransformerConfig
from harness.models.transformer import Transformer
from harness.spec.types import Evaluation


@dataclass(frozen=True)
class EdgeModel:
    """A frozen model and the edges of `graph`; implements `PatchableModel` and `Attributing`.

    `patched` and `graph` are for methods that need to know what an edge is. Raises `HarnessError`
    for models with activation sparsity. A bigram table is no edge: its rows are those of the clean
    tokens under every mask. `background` gives means over what the model was trained on.
    """

    model: Transformer
    graph: Graph
    background: Background | Baseline | None = None

    def __post_init__(self) -> None:
        if self.model.config.activation_sparsity is not None:
            raise HarnessError(NO_SPARSITY)

    @cached_property
    def patched(self) -> PatchedModel:
        """The patched pass over matrices of edges."""
        return PatchedModel(self.model, self.graph)

    @cached_property
    def space(self) -> EdgeSpace:
        """The edges."""
        return EdgeSpace(self.graph)

    def counterfactuals(
        self, choices: Evaluation, pairs: Sequence[Batch], seed: int
    ) -> EdgeCounterfactuals:
        """What dropped edges carry; means and learned constants are those of the pairs.

        Those of `mean_training` are means over the background, or a file's. Raises `HarnessError`
        where there are none.
        """
        if choices.ablation == TRAINING_MEANS:
            return EdgeCounterfactuals(
                self.model, self.graph, TRAINING_MEANS, baseline=self._training_means()
            )
        if choices.ablation == "optimal":
            learned = learn_constants(self.patched, pairs, seed, choices.metric)
            return EdgeCounterfactuals(
                self.model,
                self.graph,
                "optimal",
                constants=learned.constants,
                notes=learned.notes(),
            )
        return EdgeCounterfactuals(
            self.model,
            self.graph,
            choices.ablation,
            mean_over=pairs,
            head_bias=choices.head_bias,
        )

    def _training_means(self) -> Baseline:
        stored = self.background
        if isinstance(stored, Baseline) and stored.ablation == TRAINING_MEANS:
            return stored
        background = required(stored)
        prompts = prompts_of(background, self.model.embedding.device)
        means = writer_means(self.model, prompts, self.graph.inputs)
        return Baseline(TRAINING_MEANS, means.flat(self.graph), background.described())

    def logits(self, batch: Batch, masks: Tensor, counterfactual: Activations) -> Tensor:
        """Logits [S, B, P, V] under masks [S, E]; nodes that no mask needs are not run."""
        return self.patched.logits(batch, self.space.matrix(masks), counterfactual)

    def masked_logits(
        self,
        batch: Batch,
        masks: Tensor,
        counterfactual: Activations,
        *,
        exact_zeros: bool = False,
    ) -> Tensor:
        """The same with gradients with respect to masks [S, E]."""
        return masked_logits(
            self.patched, batch, self.space.matrix(masks), counterfactual, exact_zeros=exact_zeros
        )

    def attribute(self, batch: Batch, loss: Loss, counterfactual: Activations) -> Tensor:
        """Σ (x_w - x̃_w)·∂loss/∂(input of r) at the clean run: one plain forward and backward."""
        run = gradient_run(self.model, self.graph, batch, loss)
        differences = writer_differences(self.model, self.graph, run.activations, counterfactual)
        scores = edge_scores(self.model, self.graph, batch, [run], differences)
        return self.space.flat(scores)

    def numbers(self, tokens: int) -> int:
        """One difference of D numbers per writer and token."""
        return difference_numbers(self.model.config, self.graph, tokens)

    def counterfactual_numbers(self, tokens: int) -> int:
        """Every activation of a run on so many tokens."""
        return activation_numbers(self.model.config, tokens)


def difference_numbers(config: TransformerConfig, graph: Graph, tokens: int) -> int:
    """Numbers in the differences of all writers from their counterfactuals: W·D·tokens."""
    return graph.n_writers * tokens * config.d_model


def activation_numbers(config: TransformerConfig, tokens: int) -> int:
    """Numbers in one run's `Activations`: heads, MLPs, inputs, and the stream wherever it is read.

    (L·H·K + (3·L + 3)·D)·tokens, for at most two inputs.
    """
    heads = config.n_layers * config.n_heads * config.d_head
    return tokens * (heads + (3 * config.n_layers + 3) * config.d_model)


def patchable(
    model: Transformer,
    choices: Evaluation,
    pairs: Sequence[PromptPairs],
    background: Background | Baseline | None = None,
) -> EdgeModel:
    """The edges of a model under a task's choices.

    Where each query head has key and value edges of its own, the model is one in which no head
    shares them: the same function, in which every head can read a mix of its own.
    """
    if choices.key_value_edges == "per_head":
        model = ungrouped_model(model)
    return EdgeModel(model, _graph(model.config, choices, pairs), background)


def _graph(config: TransformerConfig, choices: Evaluation, pairs: Sequence[PromptPairs]) -> Graph:
    """The model's edges; where positions have their own, those of the pairs' one length."""
    if choices.positions == "all":
        return Graph.of(config, choices.inputs)
    read = {int(at) for some in pairs for at in np.unique(some.positions) if at >= 0}
    length = int(pairs[-1].lengths[0])
    positions = Positions(length, tuple(sorted(read)), config.causal)
    return Graph.of(config, choices.inputs, positions)
