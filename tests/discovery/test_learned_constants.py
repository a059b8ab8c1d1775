"""Every method runs under learned constants: of an ablation it sees the counterfactual alone."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from support.slow_reference import small_model

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.optimal import learn_constants
from harness.circuits.edges.patchable import EdgeModel
from harness.discovery.problem import Problem
from harness.discovery.registry import built_in, make_method
from harness.discovery.sizing import checked


def few_steps(kind):
    """Params that make a training short, with masks that are not all one at its start."""
    known = {field.name for field in fields(make_method(kind, {}))}
    if not {"batch_size", "steps"} <= known:
        return {}
    return {"steps": 8} | ({"start": 0.0} if "start" in known else {})


@pytest.mark.parametrize(
    "kind", [kind for kind, info in built_in().items() if info.needs != "dictionaries"]
)
def test_scores_are_finite_and_follow_the_constants(kind, random_batch):
    """They depend on the constants where they depend on any ablation."""
    model, batch = small_model("gpt2-like"), random_batch()
    edges = EdgeModel(model, Graph.of(model.config))
    found = {}
    for steps in (0, 40):  # means, and what was learned from there
        learned = learn_constants(edges.patched, [batch], 0, steps=steps)
        counterfactuals = EdgeCounterfactuals(
            model, edges.graph, "optimal", constants=learned.constants
        )
        problem = Problem(
            edges, (batch,), counterfactuals, "logit_diff", torch.Generator().manual_seed(0)
        )
        found[steps] = make_method(kind, few_steps(kind)).discover(problem)
        checked(found[steps], edges.space, kind)
    same = torch.equal(found[0].scores, found[40].scores)
    assert same == (kind in {"random", "random_paths", "information_flow_routes"})
