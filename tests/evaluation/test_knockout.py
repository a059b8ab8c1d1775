"""Knock-outs against an independent model run edge by edge; searches against trying everything."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from slow_reference import SlowModel, small_model
from toy_task import CHOICES

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patched.forward import PatchedModel
from harness.circuits.edges.paths import Walks
from harness.circuits.edges.select import prune
from harness.evaluation.completeness import (
    Learner,
    greedy_knockout,
    incompleteness,
    learned_knockout,
)
from harness.evaluation.hypothesis import holm, minimality
from harness.evaluation.knockout import Runner, edge_parts, node_parts, random_subsets, sample
from harness.evaluation.minimality import effects, random_effects, squared_effects
from harness.models.behaviour import logit_diff


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def runner_of(model, batch, choices=CHOICES):
    graph = Graph.of(model.config)
    return Runner(
        PatchedModel(model, graph),
        [batch],
        EdgeCounterfactuals(model, graph, choices.ablation),
        choices,
    )


@pytest.fixture
def runner(random_batch):
    return runner_of(small_model("gpt2-like"), random_batch(n=6))


@pytest.fixture
def kept(runner):
    return random_subsets(runner.graph.allowed, 0.6, 1, draws(9))[0]


@pytest.fixture
def slow(runner):
    """The metric [n] of one circuit, by the independent model."""
    model, batch = SlowModel(runner.patched.model), runner.batches[0]

    def metric(kept):
        logits = model.logits(batch.clean, batch.corrupted, kept.double())
        return logit_diff(logits[:, -1:], batch).numpy()

    return metric


# ---------------------------------------------------------------- parts
def test_parts_are_edges_of_the_circuit_and_nodes_of_the_graph(runner, kept):
    graph = runner.graph
    edges = edge_parts(kept, graph)
    assert torch.equal(sum(part.edges.int() for part in edges), kept.int())
    assert sorted(part.name for part in edges) == sorted(
        graph.edge_name(*edge) for edge in kept.nonzero().tolist()
    )
    for part in node_parts(kept, graph):
        row = graph.writers.index(part.name)
        assert torch.equal(part.edges[row], graph.allowed[row])
        assert int(part.edges.sum()) == int(graph.allowed[row].sum())
    assert "input" not in [part.name for part in node_parts(kept, graph)]
    only_input = torch.zeros_like(kept)
    only_input[0] = graph.allowed[0]
    assert node_parts(only_input, graph) == []


def test_random_subsets_lie_in_the_circuit_and_follow_the_generator(kept):
    subsets = random_subsets(kept, 0.5, 200, draws(1))
    assert all(not (subset & ~kept).any() for subset in subsets)
    share = torch.stack(subsets).double().mean(0)[kept]
    assert float((share - 0.5).abs().max()) < 0.2
    again = random_subsets(kept, 0.5, 200, draws(1))
    assert all(torch.equal(a, b) for a, b in zip(subsets, again, strict=True))


def test_a_sample_keeps_the_order_and_takes_all_if_it_can(kept, runner):
    parts = edge_parts(kept, runner.graph)
    assert sample(parts, len(parts), draws()) == parts
    few = sample(parts, 5, draws())
    assert len({part.name for part in few}) == 5
    assert [parts.index(part) for part in few] == sorted(parts.index(part) for part in few)


@pytest.mark.parametrize("inputs", ["token", "split", "none"])
def test_random_paths_lead_from_input_to_logits(inputs):
    graph = Graph(2, 3, inputs=inputs)
    for seed in range(20):
        path = Walks(graph).path(draws(seed))
        kept = torch.zeros_like(graph.allowed)
        for row, column in path:
            assert graph.allowed[row, column]
            kept[row, column] = True
        assert torch.equal(prune(kept, graph, "interchange"), kept)
        assert path[-1][1] == graph.logits_column


# ---------------------------------------------------------------- completeness
def test_gaps_against_the_independent_model(runner, kept, slow):
    knockouts = [*random_subsets(kept, 0.3, 2, draws(2)), node_parts(kept, runner.graph)[0].edges]
    wanted = [slow(kept & ~edges) - slow(runner.graph.allowed & ~edges) for edges in knockouts]
    found = runner.gaps(kept, knockouts)
    np.testing.assert_allclose(found, wanted, atol=1e-10)
    np.testing.assert_allclose(incompleteness(found), np.abs(np.mean(wanted, axis=1)), atol=1e-10)


def test_the_whole_model_is_complete(runner):
    whole = runner.graph.allowed
    knockouts = random_subsets(whole, 0.5, 5, draws())
    assert (runner.gaps(whole, knockouts) == 0).all()
    found = greedy_knockout(runner, whole, edge_parts(whole, runner.graph), 2, 8, draws())
    assert not found.edges.any()


def test_greedy_takes_the_worst_part_and_never_gets_better(runner, kept):
    parts = edge_parts(kept, runner.graph)
    single = incompleteness(runner.gaps(kept, [part.edges for part in parts]))
    nothing = incompleteness(runner.gaps(kept, [torch.zeros_like(kept)]))[0]
    first = greedy_knockout(runner, kept, parts, 1, len(parts), draws())
    assert first.name == (parts[single.argmax()].name if single.max() > nothing else "nothing")
    reached = [
        incompleteness(
            runner.gaps(kept, [greedy_knockout(runner, kept, parts, n, len(parts), draws()).edges])
        )[0]
        for n in range(4)
    ]
    assert reached[0] == nothing
    assert reached == sorted(reached)
    assert reached[3] > reached[0]


def test_a_learned_knockout_is_worse_than_random_ones(runner, kept):
    learner = Learner(steps=40)
    found = learned_knockout(runner, kept, learner, seed=0)
    assert not (found.edges & ~kept).any()
    assert found.name == f"{int(found.edges.sum())} edges"

    def distance(edges):
        """KL between the two circuits with K knocked out."""
        masks = torch.stack([kept & ~edges, runner.graph.allowed & ~edges])
        batch = runner.batches[0]
        logits = runner.patched.logits(batch, masks, runner.references.of(batch))
        q, p = logits.log_softmax(-1)
        return float((p.exp() * (p - q)).sum(-1).mean())

    shares = [0.2, 0.5, 0.8]
    random = [random_subsets(kept, share, 20, draws(3)) for share in shares]
    assert distance(found.edges) > max(distance(k) for some in random for k in some)
    again = learned_knockout(runner, kept, learner, seed=0)
    assert torch.equal(found.edges, again.edges)


def test_a_knockout_is_learned_in_half_precision(random_batch, kept):
    """With a mask in float32: what is found is, but for few edges, what float32 finds."""
    half, single = (
        learned_knockout(
            runner_of(small_model("gpt2-like", dtype=torch.bfloat16).to(dtype), random_batch(n=6)),
            kept,
            Learner(steps=40),
            seed=0,
        ).edges
        for dtype in (torch.bfloat16, torch.float32)
    )
    assert int((half ^ single).sum()) <= 0.1 * int(single.sum())


def test_a_knockout_is_learned_for_squared_error_too(random_batch, kept):
    choices = dataclasses.replace(CHOICES, metric="squared_error")
    runner = runner_of(small_model("gpt2-like"), random_batch(n=6), choices)
    found = learned_knockout(runner, kept, Learner(steps=10, pairs=4), seed=0)
    assert not (found.edges & ~kept).any()


# ---------------------------------------------------------------- minimality
def test_effects_against_the_independent_model(runner, kept, slow):
    parts = sample(edge_parts(kept, runner.graph), 3, draws(4))
    around = [torch.zeros_like(kept), *random_subsets(kept, 0.1, 1, draws(5))]
    found = effects(runner, kept, parts, around)
    wanted = [
        [slow(kept & ~edges) - slow(kept & ~edges & ~part.edges) for edges in around]
        for part in parts
    ]
    np.testing.assert_allclose(found, wanted, atol=1e-10)
    np.testing.assert_allclose(
        squared_effects(found[:, 0]), [np.mean(np.square(one[0])) for one in wanted], atol=1e-12
    )


def test_random_effects_are_of_edges_that_the_circuit_lacks(runner, kept, monkeypatch):
    seen = []
    real = Runner.metric
    monkeypatch.setattr(Runner, "metric", lambda self, c: seen.extend(c) or real(self, c))
    found = random_effects(runner, kept, 10, draws(6))
    assert found.shape == (10,)
    assert (found >= 0).all()
    for larger, smaller in zip(seen[:10], seen[10:], strict=True):
        dropped = larger & ~smaller
        assert int(dropped.sum()) == 1
        assert not (dropped & kept).any()
        assert not (kept & ~smaller).any()
    assert len(random_effects(runner, runner.graph.allowed, 10, draws(6))) == 0


def test_a_redundant_edge_is_flagged(random_batch):
    """Head a0.h0 writes nothing, so its edges do nothing; the edges of the path do a lot."""
    model = small_model("gpt2-like")
    with torch.no_grad():
        model.blocks[0].out_map.weight[:, : model.config.d_head] = 0
    runner = runner_of(model, random_batch(n=40))
    graph = runner.graph
    kept = torch.zeros_like(graph.allowed)
    names = ["input->m0", "m0->m1", "m1->logits", "input->a0.h0<v>", "a0.h0->logits"]
    for name in names:
        kept[graph.edge_index(name)] = True
    parts = edge_parts(kept, graph)
    delta = squared_effects(effects(runner, kept, parts, [torch.zeros_like(kept)])[:, 0])
    reference = random_effects(runner, kept, 100, draws(7))
    p = dict(zip((part.name for part in parts), holm(minimality(delta, reference)), strict=True))
    assert p["a0.h0->logits"] < 1e-6
    assert p["input->a0.h0<v>"] < 1e-6
    assert p["m1->logits"] > 0.05
