"""What exact zeros leave out changes no logit and no gradient that is asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.slow_reference import ARCHITECTURES, POST_NORMS, small_model

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patched.backward import masked_logits
from harness.circuits.edges.patched.forward import PatchedModel, PatchedRun
from harness.circuits.edges.patched.live import LiveNodes
from harness.circuits.edges.positions import Positions
from harness.circuits.patchable import plain_logits

pytestmark = pytest.mark.matrix(pairs=True)
LIGHT = [name for name in ARCHITECTURES if name not in POST_NORMS and name != "no-positions"]
ABLATIONS = ["interchange", "zero", "mean"]


def sparse(graph: Graph, seed: int, sets: int = 2, share: float = 0.06) -> torch.Tensor:
    """Masks in (0, 1) at a few edges, and an edge to the logits, so that something is heard."""
    draw = torch.Generator().manual_seed(seed)
    shape = (sets, *graph.allowed.shape)
    masks = torch.rand(shape, generator=draw, dtype=torch.float64)
    few = torch.rand(shape, generator=draw) < share
    masks = masks * few * graph.allowed
    masks[..., graph.n_writers - 1, graph.logits_column] = 0.5
    return masks


@pytest.mark.parametrize("name", LIGHT)
@pytest.mark.parametrize("inputs", ["token", "split", "none"])
@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("per_token", [False, True])
def test_logits_and_gradients_are_those_of_all_nodes(
    name, inputs, ablation, per_token, random_batch
):
    model, batch = small_model(name, n_layers=4), random_batch()
    graph = Graph.of(model.config, inputs)
    if per_token:
        length = batch.clean.shape[1]
        positions = Positions(length, (length - 1,), causal=model.config.causal)
        graph = replace(graph, positions=positions)
    patched = PatchedModel(model, graph)
    counterfactual = EdgeCounterfactuals(model, graph, ablation, mean_over=[batch]).of(batch)
    fewer = 0
    for seed in range(8):
        share = 0.06 / graph.n_places
        masks = sparse(graph, seed, share=share).requires_grad_()
        found = masked_logits(patched, batch, masks, counterfactual, exact_zeros=True)
        wanted = masked_logits(patched, batch, masks, counterfactual)
        torch.testing.assert_close(found, wanted, rtol=1e-11, atol=1e-11)
        at = torch.randn(found.shape, generator=torch.Generator().manual_seed(seed)).to(found)
        gradients, all_gradients = (
            torch.autograd.grad((logits * at).sum(), masks)[0] for logits in (found, wanted)
        )
        asked = masks != 0
        torch.testing.assert_close(gradients[asked], all_gradients[asked], rtol=1e-9, atol=1e-11)
        run = PatchedRun.start(patched, batch, masks.detach(), counterfactual, exact_zeros=True)
        fewer += run.nodes.n_writers < graph.n_writers
        torch.testing.assert_close(patched.logits(batch, masks.detach(), counterfactual), wanted)
    assert fewer > 1  # not all nodes compared with all nodes


def nodes_of(graph: Graph, *edges: str, of_a_run: bool = True) -> LiveNodes:
    masks = torch.zeros(1, *graph.allowed.shape)
    for edge in edges:
        masks[(0, *graph.edge_index(edge))] = 1
    return LiveNodes.under(graph, masks, of_a_run=of_a_run)


def test_only_nodes_on_the_way_from_input_to_logits_are_run():
    edges = ["input->a0.h1<k>", "a0.h1->m1", "m1->logits", "a0.h2->m1", "input->a1.h0<q>"]
    nodes = nodes_of(Graph(3, 4), *edges)
    assert nodes.groups == ((1,), (), ())
    assert nodes.mlps == (False, True, False)
    assert nodes.n_writers == 3


def test_a_writer_of_constants_is_run_though_nothing_reaches_it():
    edges = ["input->a0.h1<k>", "a0.h1->m1", "m1->logits", "a0.h2->m1", "input->a1.h0<q>"]
    nodes = nodes_of(Graph(3, 4), *edges, of_a_run=False)
    assert nodes.groups == ((1, 2), (), ())


def test_a_group_of_heads_is_run_as_one():
    graph = Graph(2, 4, n_groups=2)
    nodes = nodes_of(graph, "input->a1.g1<v>", "a1.h3->logits")
    assert nodes.groups == ((), (1,))
    assert nodes.heads(1).tolist() == [2, 3]
    assert nodes.readers(1).tolist() == [2, 3, 5, 7]


@given(
    seed=st.integers(0, 2**20),
    layers=st.integers(1, 4),
    heads=st.sampled_from([(2, None), (4, 2), (3, None)]),
    inputs=st.sampled_from(["token", "split", "none"]),
    parallel=st.booleans(),
    of_a_run=st.booleans(),
)
@settings(deadline=None, max_examples=150)
def test_rows_and_columns_are_those_of_the_graph(seed, layers, heads, inputs, parallel, of_a_run):
    """Masks numbered anew keep their numbers; impossible edges stay impossible."""
    graph = Graph(layers, heads[0], parallel, heads[1], inputs)
    nodes = LiveNodes.under(graph, sparse(graph, seed, share=0.03), of_a_run=of_a_run)
    every = torch.arange(1.0, graph.allowed.numel() + 1).view(graph.allowed.shape)
    part = nodes.of(every)
    assert part.shape[0] == nodes.n_writers
    assert part.shape[1] == nodes.logits_column + 1
    again = nodes.spread(part)
    assert torch.equal(again[again != 0], every[again != 0])
    assert int((again != 0).sum()) == part.numel()
    allowed = nodes.of(graph.allowed)
    for layer in range(layers):
        columns = nodes.qkv_columns(layer)
        assert (
            torch.equal(
                allowed[:, columns].all(1),
                torch.arange(len(allowed)) < nodes.before_attention(layer),
            )
            or not nodes.groups[layer]
        )
        if nodes.mlps[layer]:
            reads = torch.arange(len(allowed)) < nodes.before_mlp(layer)
            assert torch.equal(allowed[:, nodes.mlp_column(layer)], reads)


def test_dense_masks_leave_nothing_out(random_batch):
    model, batch = small_model("gpt2-like"), random_batch()
    graph = Graph.of(model.config)
    counterfactual = EdgeCounterfactuals(model, graph, "interchange").of(batch)
    masks = graph.allowed[None].double()
    run = PatchedRun.start(
        PatchedModel(model, graph), batch, masks, counterfactual, exact_zeros=True
    )
    assert run.nodes.is_all
    assert run.masks.shape[1:] == graph.allowed.shape


def test_an_empty_circuit_runs_no_node_and_is_the_counterfactual(random_batch):
    model, batch = small_model("gpt2-like"), random_batch()
    graph = Graph.of(model.config)
    patched = PatchedModel(model, graph)
    counterfactual = EdgeCounterfactuals(model, graph, "interchange").of(batch)
    masks = torch.zeros(1, *graph.allowed.shape)
    run = PatchedRun.start(patched, batch, masks, counterfactual, exact_zeros=True)
    assert run.nodes.n_writers == graph.n_inputs
    torch.testing.assert_close(
        patched.logits(batch, masks, counterfactual)[0], plain_logits(model, batch, corrupted=True)
    )
