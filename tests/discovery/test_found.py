"""From what a method found to a circuit of a wanted size.

Numbers in brackets are those of the list of proofs in the description of edge pruning.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from support.attribution_cases import problem_of

from harness.circuits.edges.graph import Graph
from harness.circuits.edges.select import prune, top_n
from harness.discovery.edge_pruning import EdgePruning
from harness.discovery.found import checked, circuit_of, ranking_for
from harness.discovery.problem import Discovery
from harness.errors import HarnessError
from harness.spec.types import Selection

GRAPH = Graph(2, 2)
TOP = Selection()
RUN = "interchange"


def scores(seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(GRAPH.allowed.shape, generator=draw, dtype=torch.float64) * GRAPH.allowed


def test_scores_alone_are_cut_at_the_size():
    kept = circuit_of(Discovery(scores(0)), GRAPH, 20, TOP, RUN)
    assert torch.equal(kept, prune(top_n(scores(0), GRAPH, 20), GRAPH, RUN))


@pytest.mark.parametrize(("n", "seed"), [(1, 1), (7, 1), (9, 2), (20, 2), (30, 2)])
def test_a_circuit_is_cut_from_the_ranking_made_for_the_nearest_size(n, seed):
    """Nearest in ratio: between 4 and 16 edges the border is 8."""
    found = Discovery(scores(0), {4: scores(1), 16: scores(2)})
    wanted = prune(top_n(scores(seed), GRAPH, n), GRAPH, RUN)
    assert torch.equal(circuit_of(found, GRAPH, n, TOP, RUN), wanted)


def test_circuits_of_one_training_have_their_sizes_and_nest(random_batch):
    """[16] Exactly as many edges as asked for, before dead ends are removed, at every size."""
    problem = problem_of("gpt2-like", random_batch())
    graph = problem.graph
    found = checked(EdgePruning(sparsities=(0.8,), steps=30).discover(problem), graph, "mine")
    sizes = range(graph.n_edges + 1)
    cut = [top_n(ranking_for(found, n), graph, n) for n in sizes]
    assert [int(kept.sum()) for kept in cut] == list(sizes)
    alive = [circuit_of(found, graph, n, TOP, RUN) for n in sizes]
    for circuits in (cut, alive):
        assert all((smaller <= larger).all() for smaller, larger in pairwise(circuits))
    assert all((left <= kept).all() for left, kept in zip(alive, cut, strict=True))


def test_circuits_of_several_rankings_need_not_nest():
    """[16] Each is what was found for about its size."""
    found = Discovery(scores(0), {4: scores(1), 16: scores(2)})
    few, many = (top_n(ranking_for(found, n), GRAPH, n) for n in (7, 20))
    assert not (few <= many).all()


def test_settled_circuits_are_taken_whole_and_never_exceed_the_size():
    small, large = (prune(top_n(scores(0), GRAPH, n), GRAPH, RUN) for n in (25, 40))
    assert 0 < int(small.sum()) < int(large.sum())
    found = Discovery(scores(3), circuits=(large, small))
    for n in (int(small.sum()), int(large.sum()) - 1):
        assert torch.equal(circuit_of(found, GRAPH, n, TOP, RUN), small)
    assert torch.equal(circuit_of(found, GRAPH, int(large.sum()), TOP, RUN), large)
    assert not circuit_of(found, GRAPH, int(small.sum()) - 1, TOP, RUN).any()


def test_all_edges_are_the_whole_model_for_every_method():
    found = Discovery(scores(0), circuits=(torch.zeros_like(GRAPH.allowed),))
    assert torch.equal(circuit_of(found, GRAPH, GRAPH.n_edges, TOP, RUN), GRAPH.allowed)


def test_what_cannot_be_ranked_is_refused():
    bad = scores(0)
    bad[0, 0] = torch.nan
    with pytest.raises(HarnessError, match="method 'mine' gave scores that are not finite"):
        checked(Discovery(bad), GRAPH, "mine")
    with pytest.raises(HarnessError, match="not finite"):
        checked(Discovery(scores(0), {3: bad}), GRAPH, "mine")
    with pytest.raises(HarnessError, match=r"a circuit of shape \(2, 2\)"):
        checked(Discovery(scores(0), circuits=(torch.ones(2, 2),)), GRAPH, "mine")
    impossible = torch.ones_like(GRAPH.allowed)
    found = checked(Discovery(torch.ones(GRAPH.allowed.shape), circuits=(impossible,)), GRAPH, "m")
    assert (found.scores[~GRAPH.allowed] == 0).all()
    assert torch.equal(found.circuits[0], GRAPH.allowed)
