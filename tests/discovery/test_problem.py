"""What methods see of a problem, and those that need nothing but a space of named elements."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pytest
import torch
from support.problems import problem_of
from torch import Tensor

from harness.circuits.edges.patchable import EdgeModel
from harness.circuits.patchable import Attributing
from harness.circuits.space import NamedElements
from harness.datasets.batch import Batch
from harness.discovery.masks.edge_pruning import EdgePruning
from harness.discovery.masks.hard_concrete import ConstrainedHardConcrete
from harness.discovery.registry import built_in, make_method
from harness.discovery.sizing import checked, circuit_of
from harness.errors import HarnessError
from harness.models.transformer import Transformer
from harness.spec.types import Selection


@dataclass(frozen=True)
class Named:
    """The edges of a model as elements of which nothing but the names is known."""

    edges: EdgeModel

    @property
    def model(self) -> Transformer:
        return self.edges.model

    @cached_property
    def space(self) -> NamedElements:
        names = map(self.edges.space.name, range(len(self.edges.space)))
        return NamedElements("named", "things", tuple(names))

    def logits(self, batch: Batch, masks: Tensor, counterfactual: Any) -> Tensor:
        return self.edges.logits(batch, masks, counterfactual)

    def masked_logits(
        self, batch: Batch, masks: Tensor, counterfactual: Any, *, exact_zeros: bool = False
    ) -> Tensor:
        return self.edges.masked_logits(batch, masks, counterfactual, exact_zeros=exact_zeros)

    def numbers(self, tokens: int) -> int:
        return self.edges.numbers(tokens)

    def counterfactual_numbers(self, tokens: int) -> int:
        return self.edges.counterfactual_numbers(tokens)


def named(problem):
    generator = torch.Generator().manual_seed(0)
    return replace(problem, patchable=Named(problem.edges), generator=generator)


GENERAL = {
    "random": {},
    "random_paths": {},
    "eap": {},
    "element_patching": {},
    "mask_gradient_ig": {"steps": 3},
    "edge_pruning": {"steps": 4, "sparsities": (0.5,)},
    "subnetwork_probing": {"steps": 4, "prices": (0.1,)},
    "uniform_gradient_sampling": {"steps": 4, "prices": (0.1,)},
    "heaviside_masks": {"steps": 4, "prices": (0.1,)},
}
"""Methods of any granularity, and params that make them short."""


def test_the_others_say_that_they_need_edges():
    assert set(GENERAL) == {kind for kind, info in built_in().items() if info.needs is None}


@pytest.mark.parametrize("kind", GENERAL)
def test_methods_of_any_granularity_need_names_alone(kind, random_batch):
    of_edges = problem_of("gpt2-like", random_batch())
    problem = named(of_edges)
    space, method = problem.space, make_method(kind, GENERAL[kind])
    found = checked(method.discover(problem), space, kind)
    if kind in ("random", "random_paths"):  # elements without paths are drawn one by one
        assert len(found.scores.unique()) == len(space)
    else:
        wanted = method.discover(of_edges).scores
        assert len(wanted.unique()) > 5
        torch.testing.assert_close(found.scores, wanted, rtol=1e-9, atol=1e-12)
    for n in (1, len(space) // 2, len(space)):
        kept = circuit_of(found, space, n, Selection(), "interchange")
        assert int(kept.sum()) == n  # no element is a dead end
    with pytest.raises(HarnessError, match="greedy grows circuits along edges; things have none"):
        circuit_of(found, space, 3, Selection(rule="greedy"), "interchange")


def test_named_elements_have_a_node_mask_each(random_batch):
    """Each element is a node of its own; its two masks are multiplied."""
    problem = named(problem_of("gpt2-like", random_batch()))
    masks = ConstrainedHardConcrete.new(EdgePruning(nodes=True), problem, (0.5,))
    assert masks.nodes is not None
    with torch.no_grad():
        masks.nodes[0, 7] = -100
    kept = masks.kept()[0]
    assert (kept < 1e-9).nonzero().flatten().tolist() == [7]


@pytest.mark.parametrize("kind", [kind for kind in built_in() if kind not in GENERAL])
def test_methods_of_edges_or_features_refuse_other_granularities(kind, random_batch):
    problem = named(problem_of("gpt2-like", random_batch()))
    elements = built_in()[kind].elements
    wanted = f"finds circuits of {elements}; these are made of things"
    with pytest.raises(HarnessError, match=wanted):
        make_method(kind, {}).discover(problem)


@pytest.mark.parametrize("name", ["gpt2-like", "grouped", "gemma-like"])
@pytest.mark.parametrize("ablation", ["interchange", "zero"])
def test_eap_is_the_same_without_a_cheaper_way_to_the_gradient(name, ablation, random_batch):
    """The gradient of the full mask, two passes that share nothing but the weights."""
    problem = problem_of(name, random_batch(), ablation=ablation)
    other = named(problem)
    assert isinstance(problem.patchable, Attributing)
    assert not isinstance(other.patchable, Attributing)
    one, two = (make_method("eap", {}).discover(each).scores for each in (problem, other))
    assert one.abs().max() > 1e-4
    torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)


def test_a_problem_is_that_of_its_patchable_model(random_batch):
    problem = problem_of("gpt2-like", random_batch())
    assert problem.edges is problem.patchable
    assert problem.space is problem.edges.space
    assert problem.model is problem.edges.model is problem.edges.patched.model
    assert problem.n_pairs == 3
