"""From what a method found to a circuit of a wanted size.

Numbers in brackets are those of `tests/PROOFS.md`.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from support.problems import problem_of

from harness.circuits.edges.graph import Graph
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.select import top_n
from harness.discovery.masks.edge_pruning import EdgePruning
from harness.discovery.problem import ActiveSet, Discovery
from harness.discovery.sizing import checked, circuit_of, cut_from, ranking_for
from harness.errors import HarnessError
from harness.spec.types import Selection

SPACE = EdgeSpace(Graph(2, 2))
TOP = Selection()
RUN = "interchange"


def scores(seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return SPACE.uniform(draw, torch.float64)


def test_scores_alone_are_cut_at_the_size():
    kept = circuit_of(Discovery(scores(0)), SPACE, 20, TOP, RUN)
    assert torch.equal(kept, SPACE.prune(top_n(scores(0), 20), RUN))


@pytest.mark.parametrize(("n", "seed"), [(1, 1), (7, 1), (9, 2), (20, 2), (30, 2)])
def test_a_circuit_is_cut_from_the_ranking_made_for_the_nearest_size(n, seed):
    """Nearest in ratio: between 4 and 16 edges the border is 8."""
    found = Discovery(scores(0), {4: scores(1), 16: scores(2)})
    wanted = SPACE.prune(top_n(scores(seed), n), RUN)
    assert torch.equal(circuit_of(found, SPACE, n, TOP, RUN), wanted)


def test_circuits_of_one_training_have_their_sizes_and_nest(random_batch):
    """[16] Exactly as many edges as asked for, before dead ends are removed, at every size."""
    problem = problem_of("gpt2-like", random_batch())
    space = problem.space
    found = checked(EdgePruning(sparsities=(0.8,), steps=30).discover(problem), space, "mine")
    sizes = range(len(space) + 1)
    cut = [top_n(ranking_for(found, n), n) for n in sizes]
    assert [int(kept.sum()) for kept in cut] == list(sizes)
    alive = [circuit_of(found, space, n, TOP, RUN) for n in sizes]
    for circuits in (cut, alive):
        assert all((smaller <= larger).all() for smaller, larger in pairwise(circuits))
    assert all((left <= kept).all() for left, kept in zip(alive, cut, strict=True))


def test_circuits_of_several_rankings_need_not_nest():
    """[16] Each is what was found for about its size."""
    found = Discovery(scores(0), {4: scores(1), 16: scores(2)})
    few, many = (top_n(ranking_for(found, n), n) for n in (7, 20))
    assert not (few <= many).all()


def test_settled_circuits_are_taken_whole_and_never_exceed_the_size():
    small, large = (SPACE.prune(top_n(scores(0), n), RUN) for n in (25, 40))
    assert 0 < int(small.sum()) < int(large.sum())
    found = Discovery(scores(3), circuits=(large, small))
    for n in (int(small.sum()), int(large.sum()) - 1):
        assert torch.equal(circuit_of(found, SPACE, n, TOP, RUN), small)
    assert torch.equal(circuit_of(found, SPACE, int(large.sum()), TOP, RUN), large)
    assert not circuit_of(found, SPACE, int(small.sum()) - 1, TOP, RUN).any()


def test_circuits_are_never_cut_beyond_an_active_set():
    """[16] Of n elements from the smallest set that has so many; the largest whole beyond all."""
    small, large = ActiveSet(scores(1), 12), ActiveSet(scores(2), 30)
    found = Discovery(scores(0), active=(large, small))
    for n, one, cut in ((5, small, 5), (12, small, 12), (13, large, 13), (33, large, 30)):
        wanted = SPACE.prune(top_n(one.scores, cut), RUN)
        assert torch.equal(circuit_of(found, SPACE, n, TOP, RUN), wanted)
        assert torch.equal(ranking_for(found, n), one.scores)
        assert cut_from(found, n, "edges") == f"an active set of {one.size} edges"
    assert circuit_of(found, SPACE, len(SPACE), TOP, RUN).all()
    bad = scores(0)
    bad[3] = torch.inf
    with pytest.raises(HarnessError, match="not finite"):
        checked(Discovery(scores(0), active=(small, ActiveSet(bad, 3))), SPACE, "mine")


def test_all_edges_are_the_whole_model_for_every_method():
    everything = torch.ones(len(SPACE), dtype=torch.bool)
    found = Discovery(scores(0), circuits=(~everything,))
    assert torch.equal(circuit_of(found, SPACE, len(SPACE), TOP, RUN), everything)


def test_what_cannot_be_ranked_is_refused():
    bad = scores(0)
    bad[0] = torch.nan
    with pytest.raises(HarnessError, match="method 'mine' gave scores that are not finite"):
        checked(Discovery(bad), SPACE, "mine")
    with pytest.raises(HarnessError, match="not finite"):
        checked(Discovery(scores(0), {3: bad}), SPACE, "mine")
    with pytest.raises(HarnessError, match=r"a circuit of shape \(2, 2\)"):
        checked(Discovery(scores(0), circuits=(torch.ones(2, 2),)), SPACE, "mine")
    with pytest.raises(HarnessError, match=rf"scores of shape .*has to be \({len(SPACE)},\)"):
        checked(Discovery(SPACE.matrix(scores(0))), SPACE, "mine")
