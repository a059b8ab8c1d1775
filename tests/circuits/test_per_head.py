"""Key and value edges of every query head, where heads share keys and values."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from support.problems import problem_of
from support.slow_reference import ARCHITECTURES, SlowModel, small_model
from support.toy_task import CHOICES

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import EdgeModel, patchable
from harness.circuits.edges.ungroup import ungrouped_model
from harness.circuits.patchable import make_patchable, mask_gradient, plain_logits
from harness.discovery.registry import make_method

SHARED = [name for name, fields in ARCHITECTURES.items() if "n_key_value_heads" in fields]
PER_HEAD = dataclasses.replace(CHOICES, key_value_edges="per_head")
every_sharing_model = pytest.mark.parametrize("name", SHARED)


@every_sharing_model
def test_every_query_head_sees_a_mix_of_its_own(name, random_batch):
    """Against loops over edges that read the shared weights as they are."""
    model, batch = small_model(name), random_batch()
    edges = patchable(model, PER_HEAD, ())
    c = model.config
    assert edges.graph == Graph(c.n_layers, c.n_heads, mlps=c.has_mlp)
    space, slow = edges.space, SlowModel(model, per_head=True)
    masks = torch.rand(2, len(space), generator=torch.Generator().manual_seed(0)).double()
    masks[1] = (masks[1] < 0.5).double()
    counterfactual = EdgeCounterfactuals(edges.model, edges.graph, "interchange").of(batch)
    for found in (
        edges.logits(batch, masks, counterfactual),
        edges.masked_logits(batch, masks, counterfactual, exact_zeros=True),
    ):
        for mask, logits in zip(masks, found, strict=True):
            wanted = slow.logits(batch.clean, batch.corrupted, space.matrix(mask))
            torch.testing.assert_close(logits, batch.at_positions(wanted), rtol=1e-9, atol=1e-9)


@every_sharing_model
def test_gradients_are_those_of_each_head(name, random_batch):
    model, batch = small_model(name), random_batch()
    edges = patchable(model, PER_HEAD, ())
    slow, space = SlowModel(model, per_head=True), edges.space
    problem = problem_of(edges.model, batch)
    loss, counterfactual = problem.loss("metric", batch), problem.counterfactuals.of(batch)
    full = torch.ones(len(space), dtype=torch.float64)
    leaf = full.clone().requires_grad_()
    logits = slow.logits(batch.clean, batch.corrupted, space.matrix(leaf))
    loss(batch.at_positions(logits)).sum().backward()
    assert leaf.grad is not None
    for found in (
        mask_gradient(edges, batch, loss, counterfactual, full),
        edges.attribute(batch, loss, counterfactual),
        -make_method("eap", {}).discover(problem).scores * len(batch),
    ):
        torch.testing.assert_close(found, leaf.grad, rtol=1e-8, atol=1e-9)


@every_sharing_model
def test_the_model_is_the_same_function_with_shared_weights(name, random_batch):
    model, batch = small_model(name), random_batch()
    whole = ungrouped_model(model)
    assert whole.config == dataclasses.replace(model.config, n_key_value_heads=None)
    torch.testing.assert_close(
        plain_logits(whole, batch), plain_logits(model, batch), rtol=1e-12, atol=1e-12
    )
    ours = dict(model.named_parameters())
    for key, weight in whole.named_parameters():
        assert not weight.requires_grad
        assert (weight.data_ptr() == ours[key].data_ptr()) != (".qkv_map." in key)


@pytest.mark.parametrize("name", ["gpt2-like", "post-layernorm-parallel"])
def test_without_shared_heads_both_are_one_graph(name):
    model = small_model(name)
    one, other = (make_patchable(model, choices, ()) for choices in (CHOICES, PER_HEAD))
    assert one == other
    assert isinstance(other, EdgeModel)
    assert other.model is model
