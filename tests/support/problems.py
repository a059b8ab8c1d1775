"""Discovery problems on tiny models, and the scores that methods give there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import EdgeModel
from harness.circuits.edges.positions import Positions
from harness.datasets.batch import Batch
from harness.discovery.problem import Problem
from harness.discovery.registry import make_method
from harness.models.transformer import Transformer
from support.slow_reference import small_model


def positions_of(model: Transformer, *batches: Batch) -> Positions:
    """Positions of prompts of one length, read where these batches are."""
    read = {at for batch in batches for at in batch.positions.flatten().tolist() if at >= 0}
    return Positions(batches[0].clean.shape[1], tuple(sorted(read)), model.config.causal)


def problem_of(
    model: Transformer | str,
    *batches: Batch,
    ablation: str = "interchange",
    inputs: str = "token",
    head_bias: str = "unattached",
    per_token: bool = False,
    metric: str = "logit_diff",
    seed: int = 0,
    **fields: Any,
) -> Problem:
    """A problem for a model or the name of a small one.

    `per_token`: edges of each position. `fields`: further ones of `Problem`.
    """
    model = small_model(model) if isinstance(model, str) else model
    positions = positions_of(model, *batches) if per_token else None
    graph = Graph.of(model.config, inputs, positions)
    return Problem(
        EdgeModel(model, graph),
        batches,
        EdgeCounterfactuals(model, graph, ablation, mean_over=batches, head_bias=head_bias),
        metric,
        torch.Generator().manual_seed(seed),
        **fields,
    )


def scores_of(kind: str, problem: Problem, **params: Any) -> Tensor:
    """Scores of a method with these params, as a matrix of writers and readers."""
    return problem.edges.space.matrix(make_method(kind, params).discover(problem).scores)
