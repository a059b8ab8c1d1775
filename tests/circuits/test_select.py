"""Selection and removal of dead ends, against brute force over paths."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.circuits.graph import Graph
from harness.circuits.select import greedy, prune, select, sizes_to_counts, top_n
from harness.spec.types import MIB_SIZES, Selection

GRAPH = Graph(2, 2)


def random_edges(seed: int, share: float) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return (torch.rand(GRAPH.allowed.shape, generator=draw) < share) & GRAPH.allowed


def on_some_path(kept: torch.Tensor) -> torch.Tensor:
    """Edges on a path from input to logits, by walking from both ends."""
    edges = kept.nonzero().tolist()
    owner = GRAPH.owners.int().argmax(1).tolist()
    forward, backward = {0}, {GRAPH.n_writers}
    for _ in range(GRAPH.n_writers):
        forward |= {owner[c] for r, c in edges if r in forward}
        backward |= {r for r, c in edges if owner[c] in backward}
    found = torch.zeros_like(kept)
    for r, c in edges:
        found[r, c] = r in forward and owner[c] in backward
    return found


@given(st.integers(0, 10_000), st.floats(0.05, 0.9))
def test_pruning_keeps_exactly_what_lies_on_a_path(seed, share):
    kept = random_edges(seed, share)
    assert torch.equal(prune(kept, GRAPH, "interchange"), on_some_path(kept))


@given(st.integers(0, 10_000), st.integers(0, 60))
def test_top_n_takes_the_strongest_and_nests(seed, n):
    scores = torch.randn(GRAPH.allowed.shape, generator=torch.Generator().manual_seed(seed))
    kept = top_n(scores, GRAPH, n)
    assert int(kept.sum()) == min(n, GRAPH.n_edges)
    assert not kept[~GRAPH.allowed].any()
    strength = scores.abs()
    if 0 < n < GRAPH.n_edges:
        assert strength[kept].min() >= strength[GRAPH.allowed & ~kept].max()
    assert (top_n(scores, GRAPH, n + 1) | kept).sum() == min(n + 1, GRAPH.n_edges)


def test_signed_order_leaves_harmful_edges_to_the_end():
    scores = torch.linspace(-1, 1, GRAPH.allowed.numel()).view(GRAPH.allowed.shape)
    kept = top_n(scores, GRAPH, 5, "signed")
    assert scores[kept].min() >= scores[GRAPH.allowed & ~kept].max()


def test_ties_go_to_the_first_edges():
    kept = top_n(torch.zeros(GRAPH.allowed.shape), GRAPH, 3)
    assert kept.nonzero().tolist() == GRAPH.allowed.nonzero().tolist()[:3]


def slow_greedy(scores: torch.Tensor, n: int) -> torch.Tensor:
    kept, nodes = torch.zeros_like(GRAPH.allowed), {GRAPH.n_writers}
    owner = GRAPH.owners.int().argmax(1).tolist()
    for _ in range(n):
        open_edges = [
            (float(scores[r, c].abs()), -r, -c)
            for r, c in GRAPH.allowed.nonzero().tolist()
            if owner[c] in nodes and not kept[r, c]
        ]
        if not open_edges:
            break
        _, r, c = max(open_edges)
        kept[-r, -c] = True
        nodes.add(-r)
    return kept


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(0, 45))
def test_greedy_is_brute_force_greedy(seed, n):
    scores = torch.randn(GRAPH.allowed.shape, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(greedy(scores, GRAPH, n), slow_greedy(scores, n))


@pytest.mark.parametrize("rule", ["top_n", "greedy"])
def test_selected_circuits_have_no_dead_ends(rule):
    scores = torch.randn(GRAPH.allowed.shape, generator=torch.Generator().manual_seed(0))
    kept = select(scores, GRAPH, 20, Selection(rule=rule), "interchange")
    assert int(kept.sum()) <= 20
    assert torch.equal(kept, on_some_path(kept))


def test_sizes_round_down_as_in_mib():
    counts = sizes_to_counts(MIB_SIZES, 32_491)
    assert counts == [32, 64, 162, 324, 649, 1624, 3249, 6498, 16245, 32491]
