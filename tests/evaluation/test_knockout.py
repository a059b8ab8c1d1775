"""Knock-outs against an independent model run edge by edge; searches against trying everything."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from support.slow_reference import SlowModel, small_model
from support.toy_task import CHOICES

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import EdgeModel
from harness.circuits.edges.space import EdgeSpace
from harness.evaluation import minimality as minimality_module
from harness.evaluation.completeness import (
    Learner,
    greedy_knockout,
    incompleteness,
    learned_knockout,
)
from harness.evaluation.hypothesis import holm, minimality
from harness.evaluation.knockout import (
    component_parts,
    element_parts,
    gaps_of,
    random_subsets,
    sample,
)
from harness.evaluation.minimality import effects, random_effects, squared_effects
from harness.evaluation.setup import Setup
from harness.metrics.logits import logit_diff


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def setup_of(model, batch, choices=CHOICES):
    graph = Graph.of(model.config)
    counterfactuals = EdgeCounterfactuals(model, graph, choices.ablation)
    return Setup(EdgeModel(model, graph), [batch], counterfactuals, choices)


def everything(space):
    return torch.ones(len(space), dtype=torch.bool)


@pytest.fixture
def setup(random_batch):
    return setup_of(small_model("gpt2-like"), random_batch(n=6))


@pytest.fixture
def space(setup):
    return setup.space


@pytest.fixture
def kept(space):
    return random_subsets(everything(space), space, 0.6, 1, draws(9))[0]


@pytest.fixture
def slow(setup, space):
    """The metric [n] of one circuit, by the independent model."""
    model, batch = SlowModel(setup.model), setup.batches[0]

    def metric(kept):
        logits = model.logits(batch.clean, batch.corrupted, space.matrix(kept).double())
        return logit_diff(logits[:, -1:], batch).numpy()

    return metric


# ---------------------------------------------------------------- parts
def test_parts_are_elements_of_the_circuit_and_components_of_the_model(space, kept):
    graph = space.graph
    parts = element_parts(kept, space)
    assert torch.equal(sum(part.elements.int() for part in parts), kept.int())
    assert sorted(part.name for part in parts) == sorted(
        graph.edge_name(*edge) for edge in space.matrix(kept).nonzero().tolist()
    )
    components = component_parts(kept, space)
    written = space.matrix(kept).any(1).tolist()
    names = [name for name, some in zip(graph.writers, written, strict=True) if some]
    assert names[0] == "input"
    assert [part.name for part in components] == names[1:]
    for part in components:
        row, matrix = graph.writers.index(part.name), space.matrix(part.elements)
        assert torch.equal(matrix[row], graph.allowed[row])
        assert int(matrix.sum()) == int(graph.allowed[row].sum())
    only_input = space.owners == graph.writers.index("input")
    assert component_parts(only_input, space) == []


def test_random_subsets_lie_in_the_circuit_and_follow_the_generator(space, kept):
    subsets = random_subsets(kept, space, 0.5, 200, draws(1))
    assert all(not (subset & ~kept).any() for subset in subsets)
    share = torch.stack(subsets).double().mean(0)[kept]
    assert float((share - 0.5).abs().max()) < 0.2
    again = random_subsets(kept, space, 0.5, 200, draws(1))
    assert all(torch.equal(a, b) for a, b in zip(subsets, again, strict=True))


def test_a_sample_keeps_the_order_and_takes_all_if_it_can(space, kept):
    parts = element_parts(kept, space)
    assert sample(parts, len(parts), draws()) == parts
    few = sample(parts, 5, draws())
    assert len({part.name for part in few}) == 5
    assert [parts.index(part) for part in few] == sorted(parts.index(part) for part in few)


@pytest.mark.parametrize("inputs", ["token", "split", "none"])
def test_random_paths_lead_from_input_to_logits(inputs):
    space = EdgeSpace(Graph(2, 3, inputs=inputs))
    walks = space.walks()
    for seed in range(20):
        path = walks.path(draws(seed))
        kept = torch.zeros(len(space), dtype=torch.bool)
        kept[torch.tensor(path)] = True
        assert torch.equal(space.prune(kept, "interchange"), kept)
        assert space.name(path[-1]).endswith("->logits")
        assert (kept <= walks.live).all()


# ---------------------------------------------------------------- completeness
def test_gaps_against_the_independent_model(setup, space, kept, slow):
    subsets = random_subsets(kept, space, 0.3, 2, draws(2))
    knockouts = [*subsets, component_parts(kept, space)[0].elements]
    wanted = [slow(kept & ~elements) - slow(~elements) for elements in knockouts]
    found = gaps_of(setup, kept, knockouts)
    np.testing.assert_allclose(found, wanted, atol=1e-10)
    np.testing.assert_allclose(incompleteness(found), np.abs(np.mean(wanted, axis=1)), atol=1e-10)


def test_the_whole_model_is_complete(setup, space):
    whole = everything(space)
    knockouts = random_subsets(whole, space, 0.5, 5, draws())
    assert (gaps_of(setup, whole, knockouts) == 0).all()
    found = greedy_knockout(setup, whole, element_parts(whole, space), 2, 8, draws())
    assert not found.elements.any()


def test_greedy_takes_the_worst_part_and_never_gets_better(setup, space, kept):
    parts = element_parts(kept, space)
    single = incompleteness(gaps_of(setup, kept, [part.elements for part in parts]))
    nothing = incompleteness(gaps_of(setup, kept, [torch.zeros_like(kept)]))[0]
    first = greedy_knockout(setup, kept, parts, 1, len(parts), draws())
    assert first.name == (parts[single.argmax()].name if single.max() > nothing else "nothing")
    worst = [greedy_knockout(setup, kept, parts, n, len(parts), draws()) for n in range(4)]
    reached = [incompleteness(gaps_of(setup, kept, [part.elements]))[0] for part in worst]
    assert reached[0] == nothing
    assert reached == sorted(reached)
    assert reached[3] > reached[0]


def test_a_learned_knockout_is_worse_than_random_ones(setup, space, kept):
    learner = Learner(steps=40)
    found = learned_knockout(setup, kept, learner, seed=0)
    assert not (found.elements & ~kept).any()
    assert found.name == f"{int(found.elements.sum())} edges"

    def distance(elements):
        """KL between the two circuits with K knocked out."""
        masks = torch.stack([kept & ~elements, ~elements])
        batch = setup.batches[0]
        logits = setup.patchable.logits(batch, masks, setup.counterfactuals.of(batch))
        q, p = logits.log_softmax(-1)
        return float((p.exp() * (p - q)).sum(-1).mean())

    shares = [0.2, 0.5, 0.8]
    random = [random_subsets(kept, space, share, 20, draws(3)) for share in shares]
    assert distance(found.elements) > max(distance(k) for some in random for k in some)
    again = learned_knockout(setup, kept, learner, seed=0)
    assert torch.equal(found.elements, again.elements)


def test_a_knockout_is_learned_in_half_precision(random_batch, kept):
    """With a mask in float32: what is found is, but for few edges, what float32 finds."""
    half, single = (
        learned_knockout(
            setup_of(small_model("gpt2-like", dtype=torch.bfloat16).to(dtype), random_batch(n=6)),
            kept,
            Learner(steps=40),
            seed=0,
        ).elements
        for dtype in (torch.bfloat16, torch.float32)
    )
    assert int((half ^ single).sum()) <= 0.1 * int(single.sum())


def test_a_knockout_is_learned_for_squared_error_too(random_batch, kept):
    choices = dataclasses.replace(CHOICES, metric="squared_error")
    setup = setup_of(small_model("gpt2-like"), random_batch(n=6), choices)
    found = learned_knockout(setup, kept, Learner(steps=10, pairs=4), seed=0)
    assert not (found.elements & ~kept).any()


# ---------------------------------------------------------------- minimality
def test_effects_against_the_independent_model(setup, space, kept, slow):
    parts = sample(element_parts(kept, space), 3, draws(4))
    around = [torch.zeros_like(kept), *random_subsets(kept, space, 0.1, 1, draws(5))]
    found = effects(setup, kept, parts, around)
    wanted = [
        [slow(kept & ~without) - slow(kept & ~without & ~part.elements) for without in around]
        for part in parts
    ]
    np.testing.assert_allclose(found, wanted, atol=1e-10)
    np.testing.assert_allclose(
        squared_effects(found[:, 0]), [np.mean(np.square(one[0])) for one in wanted], atol=1e-12
    )


def test_random_effects_are_of_elements_that_the_circuit_lacks(setup, space, kept, monkeypatch):
    seen = []
    real = minimality_module.metric_of
    monkeypatch.setattr(minimality_module, "metric_of", lambda s, c: seen.extend(c) or real(s, c))
    found = random_effects(setup, kept, 10, draws(6))
    assert found.shape == (10,)
    assert (found >= 0).all()
    for larger, smaller in zip(seen[:10], seen[10:], strict=True):
        dropped = larger & ~smaller
        assert int(dropped.sum()) == 1
        assert not (dropped & kept).any()
        assert not (kept & ~smaller).any()
    assert len(random_effects(setup, everything(space), 10, draws(6))) == 0


def test_a_redundant_edge_is_flagged(random_batch):
    """Head a0.h0 writes nothing, so its edges do nothing; the edges of the path do a lot."""
    model = small_model("gpt2-like")
    with torch.no_grad():
        model.blocks[0].out_map.weight[:, : model.config.d_head] = 0
    setup = setup_of(model, random_batch(n=40))
    space = setup.space
    kept = torch.zeros(len(space), dtype=torch.bool)
    names = ["input->m0", "m0->m1", "m1->logits", "input->a0.h0<v>", "a0.h0->logits"]
    for name in names:
        kept[space.index(name)] = True
    parts = element_parts(kept, space)
    delta = squared_effects(effects(setup, kept, parts, [torch.zeros_like(kept)])[:, 0])
    reference = random_effects(setup, kept, 100, draws(7))
    p = dict(zip((part.name for part in parts), holm(minimality(delta, reference)), strict=True))
    assert p["a0.h0->logits"] < 1e-6
    assert p["input->a0.h0<v>"] < 1e-6
    assert p["m1->logits"] > 0.05
