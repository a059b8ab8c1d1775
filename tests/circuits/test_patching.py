"""The patched pass against the plain model and against an independent slow reference.

Numbers in brackets are those of `tests/PROOFS.md`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.slow_reference import ARCHITECTURES, SlowModel, small_model

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import EdgeModel
from harness.circuits.edges.patched.forward import patched_logits
from harness.circuits.patchable import plain_logits, self_check
from harness.errors import HarnessError

pytestmark = pytest.mark.matrix
every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)


def ones(graph: Graph) -> torch.Tensor:
    return graph.allowed[None]


@every_architecture
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-5)])
@pytest.mark.parametrize("ablation", ["interchange", "resample", "mean", "mean_positional", "zero"])
def test_all_edges_give_the_plain_model(name, dtype, tolerance, ablation, random_batch):
    """[1] In either precision, under every ablation."""
    model, batch = small_model(name, dtype=dtype), random_batch()
    graph = Graph.of(model.config)
    counterfactual = EdgeCounterfactuals(model, graph, ablation, mean_over=[batch]).of(batch)
    found = patched_logits(model, graph, batch, ones(graph), counterfactual)[0]
    plain = plain_logits(model, batch)
    assert (found - plain).abs().max() <= tolerance * plain.abs().max()


@every_architecture
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-5)])
def test_no_edges_give_the_corrupted_run(name, dtype, tolerance, random_batch):
    """[2] In either precision; a bigram table's row stays that of the clean token."""
    model, batch = small_model(name, dtype=dtype), random_batch()
    graph = Graph.of(model.config)
    counterfactual = EdgeCounterfactuals(model, graph, "interchange").of(batch)
    found = patched_logits(model, graph, batch, torch.zeros_like(ones(graph)), counterfactual)[0]
    final = batch.at_positions(model.stream(batch.corrupted))
    corrupted = model.unembed(final, batch.read_tokens())
    assert (found - corrupted).abs().max() <= tolerance * corrupted.abs().max()


@every_architecture
def test_random_masks_match_the_slow_reference(name, random_batch):
    model, batch = small_model(name), random_batch()
    graph = Graph.of(model.config)
    draw = torch.Generator().manual_seed(3)
    masks = (torch.rand(4, *graph.allowed.shape, generator=draw) < 0.6) & graph.allowed
    found = patched_logits(
        model, graph, batch, masks, EdgeCounterfactuals(model, graph, "interchange").of(batch)
    )
    slow = SlowModel(model)
    for mask, logits in zip(masks, found, strict=True):
        wanted = slow.logits(batch.clean, batch.corrupted, mask.double())[:, -1:]
        torch.testing.assert_close(logits, wanted, rtol=1e-10, atol=1e-10)


@every_architecture
def test_zero_ablation_matches_the_slow_reference(name, random_batch):
    model, batch = small_model(name), random_batch()
    graph = Graph.of(model.config)
    mask = (torch.rand(graph.allowed.shape, generator=torch.Generator().manual_seed(4)) < 0.7) & (
        graph.allowed
    )
    found = patched_logits(
        model, graph, batch, mask[None], EdgeCounterfactuals(model, graph, "zero").of(batch)
    )[0]
    wanted = SlowModel(model).writers(batch.clean, mask.double(), None)[1][:, -1:]
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_mean_ablation_carries_the_mean_of_every_writer(random_batch):
    model, batch = small_model("gpt2-like"), random_batch(n=4)
    graph = Graph.of(model.config)
    slow = SlowModel(model)
    everything = torch.ones(graph.allowed.shape, dtype=torch.float64)
    writers, _ = slow.writers(batch.clean, everything, None)
    means = [x.mean((0, 1), keepdim=True).expand_as(x) for x in writers]
    mask = (torch.rand(graph.allowed.shape, generator=torch.Generator().manual_seed(5)) < 0.5) & (
        graph.allowed
    )
    wanted = slow.writers(batch.clean, mask.double(), means)[1][:, -1:]
    counterfactual = EdgeCounterfactuals(model, graph, "mean", mean_over=[batch]).of(batch)
    found = patched_logits(model, graph, batch, mask[None], counterfactual)[0]
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_resample_without_a_partner_is_refused(random_batch):
    model, batch = small_model("gpt2-like"), replace(random_batch(n=1), other=None)
    with pytest.raises(HarnessError, match="at least two prompts of each length"):
        EdgeCounterfactuals(model, Graph.of(model.config), "resample").of(batch)


@pytest.mark.parametrize("name", ["gpt2-like", "no-norm-bidirectional"])
def test_answers_are_read_at_any_position(name, random_batch):
    """Two positions, the last one not among them, and one prompt that uses only the first."""
    model, batch = small_model(name), random_batch()
    places = torch.tensor([[0, 3], [2, 1], [4, -1]])
    batch = replace(batch, positions=places)
    graph = Graph.of(model.config)
    mask = (torch.rand(graph.allowed.shape, generator=torch.Generator().manual_seed(6)) < 0.6) & (
        graph.allowed
    )
    counterfactual = EdgeCounterfactuals(model, graph, "interchange").of(batch)
    found = patched_logits(model, graph, batch, mask[None], counterfactual)[0]
    slow = SlowModel(model).logits(batch.clean, batch.corrupted, mask.double())
    for row, used in enumerate(places.tolist()):
        for index, position in enumerate(used):
            if position >= 0:
                torch.testing.assert_close(
                    found[row, index], slow[row, position], rtol=1e-10, atol=1e-10
                )


def test_self_check_refuses_a_model_whose_passes_differ(random_batch):
    model, batch = small_model("gpt2-like"), random_batch()
    graph = Graph.of(model.config)
    counterfactual = EdgeCounterfactuals(model, graph, "interchange").of(batch)
    assert self_check(EdgeModel(model, graph), batch, counterfactual) < 1e-10
    block = next(model.layers())
    block.project = lambda z: 1.01 * type(block).project(block, z)  # type: ignore[method-assign]
    with pytest.raises(HarnessError, match="self-check failed"):
        self_check(EdgeModel(model, graph), batch, counterfactual)


def test_self_check_refuses_weights_that_are_not_finite(random_batch):
    model, batch = small_model("gpt2-like"), random_batch()
    model.embedding[0, 0] = torch.nan
    batch.clean[0, 0] = 0
    graph = Graph.of(model.config)
    with pytest.raises(HarnessError, match="self-check failed"):
        self_check(
            EdgeModel(model, graph),
            batch,
            EdgeCounterfactuals(model, graph, "interchange").of(batch),
        )
