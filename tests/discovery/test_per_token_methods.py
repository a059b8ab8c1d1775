"""Every method that is said to score edges of each position does; masks of dead ends go down."""

from __future__ import annotations

import pytest
import torch
from support.problems import problem_of

from harness.discovery.refusals import per_token_problem
from harness.discovery.registry import built_in, make_method
from harness.discovery.sizing import checked, circuit_of
from harness.errors import HarnessError
from harness.spec.types import Selection

PER_TOKEN = [kind for kind, info in built_in().items() if info.per_token]
MASKS = ("edge_pruning", "subnetwork_probing", "uniform_gradient_sampling")


def found_by(kind, problem, **params):
    if kind in MASKS:
        params = {"steps": 12, "batch_size": 4, **params}
    return checked(make_method(kind, params).discover(problem), problem.space, kind)


@pytest.mark.parametrize("kind", PER_TOKEN)
def test_circuits_are_cut_from_the_scores_of_all_positions(kind, random_batch):
    problem = problem_of("gpt2-like", random_batch(length=4), per_token=True)
    space = problem.edges.space
    found = found_by(kind, problem)
    assert found.scores.shape == (len(space),)
    assert (space.matrix(found.scores).abs().sum((1, 2)) > 0).all()  # no position is forgotten
    kept = circuit_of(found, space, len(space) // 2, Selection(), "interchange")
    assert 0 < int(kept.sum()) <= len(space) // 2
    assert torch.equal(space.prune(kept, "interchange"), kept)


@pytest.mark.parametrize("kind", MASKS)
def test_masks_of_dead_ends_are_given_up_first(kind, random_batch):
    """Nothing but the pressure acts on what no answer looks at."""
    problem = problem_of("gpt2-like", random_batch(length=4), per_token=True)
    live = problem.space.prune(torch.ones(len(problem.space), dtype=torch.bool), "interchange")
    settings = {"sparsities": (0.5,)} if kind == "edge_pruning" else {"prices": (0.002,)}
    scores = found_by(kind, problem, **{**settings, "steps": 60}).scores
    assert scores[live].mean() > scores[~live].mean() + 0.05


def test_edge_pruning_has_a_node_mask_for_each_writer_at_each_position(random_batch):
    """A node's mask scales all edges of its writer at its position, and no other."""
    problem = problem_of("gpt2-like", random_batch(length=4), per_token=True)
    scores = found_by("edge_pruning", problem, sparsities=(0.5,), nodes=True, steps=2).scores
    assert scores.shape == (len(problem.space),)
    from harness.discovery.masks.edge_pruning import EdgePruning
    from harness.discovery.masks.hard_concrete import ConstrainedHardConcrete

    masks = ConstrainedHardConcrete.new(EdgePruning(nodes=True), problem, (0.5,))
    with torch.no_grad():
        masks.nodes[0, 2 * problem.edges.graph.n_writers + 1] = -100  # writer 1 at position 2
    allowed = problem.edges.graph.allowed
    kept = problem.edges.space.matrix(masks.kept()[0].detach())
    gone = allowed & (kept < 1e-9)
    assert gone[2, 1].equal(allowed[2, 1])
    assert int(gone.sum()) == int(allowed[2, 1].sum())


def test_scores_of_shared_edges_are_refused(random_batch):
    """What a plug-in that knows no positions would give."""
    shared = problem_of("gpt2-like", random_batch())
    own = problem_of("gpt2-like", random_batch(), per_token=True)
    found = make_method("eap", {}).discover(shared)
    sizes = len(shared.space), len(own.space)
    assert sizes[0] < sizes[1]
    wanted = rf"'eap' gave scores of shape \({sizes[0]},\).*\({sizes[1]},\)"
    with pytest.raises(HarnessError, match=wanted):
        checked(found, own.space, "eap")


def test_the_problem_names_those_that_cannot_and_those_that_can():
    assert per_token_problem(PER_TOKEN) is None
    assert per_token_problem(["a plug-in"]) is None
    text = per_token_problem([*built_in(), "acdc"])
    assert text is not None
    unable, able = text.split("cannot score")
    assert set(unable.strip().split(", ")) == set(built_in()) - set(PER_TOKEN)
    assert able.endswith(", ".join(PER_TOKEN))
