"""Selection, removal of dead ends and random walks, against brute force over paths.

Positions share edges or have their own. Numbers in brackets are those of
`tests/PROOFS.md`.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.problems import positions_of
from support.slow_reference import ARCHITECTURES, small_model

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patched.backward import masked_logits
from harness.circuits.edges.patched.forward import PatchedModel
from harness.circuits.edges.paths import Walks
from harness.circuits.edges.positions import Positions
from harness.circuits.edges.select import grow, prune
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.select import select, sizes_to_counts, strength, top_n
from harness.datasets.batch import Batch
from harness.spec.types import MIB_SIZES, Selection

SPACE = EdgeSpace(Graph(2, 2))
ABLATIONS = ["interchange", "resample", "mean", "mean_positional", "optimal", "zero"]

graphs = st.builds(
    Graph,
    n_layers=st.just(2),
    n_heads=st.just(2),
    parallel=st.booleans(),
    n_groups=st.sampled_from([None, 1]),
    inputs=st.sampled_from(["token", "split", "none"]),
    positions=st.none()
    | st.builds(
        Positions,
        count=st.just(4),
        read=st.sampled_from([(3,), (1,), (0, 2)]),
        causal=st.booleans(),
    ),
)


def random_edges(graph: Graph, seed: int, share: float) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return (torch.rand(graph.allowed.shape, generator=draw) < share) & graph.allowed


def fed(graph: Graph, place: int, column: int) -> set[tuple[int, int]]:
    """Nodes (place, row) that hear what a reader reads, from the meaning of its name alone."""
    reader, p = graph.readers[column], graph.positions
    if reader == "logits":
        return {(place, graph.n_writers)} if p is None or place in p.read else set()
    name, _, part = reader.partition("<")
    if "g" in name:
        shared = graph.n_heads // graph.groups
        layer, group = name[1:].split(".g")
        heads = range(int(group) * shared, (int(group) + 1) * shared)
        names = [f"a{layer}.h{head}" for head in heads]
    else:
        names = [name]
    places = [place]
    if part in ("k>", "v>") and p is not None:
        places = [at for at in range(p.count) if at >= place or not p.causal]
    return {(at, graph.writers.index(one)) for at in places for one in names}


def on_some_path(kept: torch.Tensor, graph: Graph, ablation: str) -> torch.Tensor:
    """Edges on a path to the logits of a read position, by walking from both ends.

    From an input, where what dropped edges carry is of a run; else from anywhere.
    """
    edges = [tuple(edge) for edge in graph.by_place(kept).nonzero().tolist()]
    after = {edge: fed(graph, edge[0], edge[2]) for edge in edges}
    of_a_run = ablation in ("interchange", "resample")
    rows = range((of_a_run and graph.n_inputs) or graph.n_writers)
    forward = {(place, row) for place in range(graph.n_places) for row in rows}
    backward = {(place, graph.n_writers) for place in range(graph.n_places)}
    for _ in range(graph.n_writers):
        forward |= {node for edge in edges if edge[:2] in forward for node in after[edge]}
        backward |= {edge[:2] for edge in edges if after[edge] & backward}
    found = torch.zeros_like(graph.by_place(kept))
    for edge in edges:
        found[edge] = edge[:2] in forward and bool(after[edge] & backward)
    return found.view(kept.shape)


@given(graphs, st.sampled_from(ABLATIONS), st.integers(0, 10_000), st.floats(0.05, 0.9))
def test_pruning_keeps_exactly_what_lies_on_a_path(graph, ablation, seed, share):
    """[13] By walking from both ends."""
    kept = random_edges(graph, seed, share)
    assert torch.equal(prune(kept, graph, ablation), on_some_path(kept, graph, ablation))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(ARCHITECTURES)),
    st.sampled_from(["interchange", "resample", "mean", "mean_positional", "zero"]),
    st.sampled_from(["token", "none"]),
    st.integers(0, 10_000),
    st.floats(0.3, 0.8),
)
def test_dead_ends_of_positions_do_not_change_logits(name, ablation, inputs, seed, share):
    """[13] What nothing reaches goes where another run replaces it, what is not heard always.

    The circuit with its dead ends is run in full: a pass that leaves nodes out would hide them.
    """
    model, batch = small_model(name), example(seed)
    graph = Graph.of(model.config, inputs, positions_of(model, batch))
    kept = random_edges(graph, seed, share)
    pruned = prune(kept, graph, ablation)
    assert (pruned != kept).any()
    counterfactual = EdgeCounterfactuals(model, graph, ablation, mean_over=[batch]).of(batch)
    patched = PatchedModel(model, graph)
    before = masked_logits(patched, batch, kept[None].double(), counterfactual)[0, batch.read]
    after = patched.logits(batch, pruned[None], counterfactual)[0, batch.read]
    torch.testing.assert_close(after, before, rtol=1e-11, atol=1e-11)


def example(seed: int) -> Batch:
    """Prompt pairs of five tokens, read at two inner positions and some of them at one."""
    draw = torch.Generator().manual_seed(seed)
    clean, corrupted = torch.randint(11, (2, 3, 5), generator=draw)
    answers = torch.zeros(3, 2, 1, dtype=torch.long)
    places = torch.tensor([[3, 1], [1, -1], [3, 3]])
    return Batch(clean, corrupted, places, answers, answers + 1, torch.arange(3), clean.roll(1, 0))


def slow_greedy(ranks: torch.Tensor, graph: Graph, n: int) -> torch.Tensor:
    ranks, allowed = graph.by_place(ranks), graph.by_place(graph.allowed)
    kept = torch.zeros_like(allowed)
    nodes = {(place, graph.n_writers) for place in range(graph.n_places)}
    every = [tuple(edge) for edge in allowed.nonzero().tolist()]
    for _ in range(n):
        free = [e for e in every if not kept[e] and fed(graph, e[0], e[2]) & nodes]
        if not free:
            break
        best = max(free, key=lambda e: (float(ranks[e]), [-i for i in e]))
        kept[best] = True
        nodes.add(best[:2])
    return kept.view(graph.allowed.shape)


@settings(max_examples=15, deadline=None)
@given(graphs, st.integers(0, 10_000), st.integers(0, 25))
def test_greedy_is_brute_force_greedy(graph, seed, n):
    """Also where heads share keys and values, whose edges count once."""
    ranks = torch.randn(graph.allowed.shape, generator=torch.Generator().manual_seed(seed)).abs()
    kept = grow(ranks, graph, n)
    assert torch.equal(kept, slow_greedy(ranks, graph, n))
    assert int(kept.sum()) == min(n, int(prune(graph.allowed, graph, "zero").sum()))
    space = EdgeSpace(graph)
    assert torch.equal(space.grow(space.flat(ranks), n), space.flat(kept))


@pytest.mark.parametrize("order", ["absolute", "signed"])
@pytest.mark.parametrize("rule", ["top_n", "greedy"])
@settings(max_examples=10, deadline=None)
@given(graph=graphs, seed=st.integers(0, 10_000), tied=st.booleans())
def test_every_circuit_has_its_size_and_holds_all_smaller_ones(rule, order, graph, seed, tied):
    """[16] By every rule and order, also where most scores tie.

    When dead ends are removed it may have fewer, and still holds all smaller ones. Greedy growth
    ends when every edge that leads to the logits is in.
    """
    space = EdgeSpace(graph)
    scores = torch.randn(len(space), generator=torch.Generator().manual_seed(seed))
    if tied:
        scores = scores.round()
        assert len(scores.unique()) < 12
    everything = torch.ones(len(space), dtype=torch.bool)
    reachable = space.prune(everything, "zero") if rule == "greedy" else everything
    most = int(reachable.sum())
    smaller = alive = torch.zeros(len(space), dtype=torch.bool)
    for n in sorted({0, 1, 2, 3, 7, most // 3, most // 3 + 1, most - 1, most, most + 1}):
        if rule == "greedy":
            kept = space.grow(strength(scores, order), n)
        else:
            kept = top_n(scores, n, order)
        assert int(kept.sum()) == min(n, most)
        assert (smaller <= kept).all()
        pruned = space.prune(kept, "interchange")
        assert (alive <= pruned).all()
        assert torch.equal(
            select(scores, space, n, Selection(rule=rule, order=order), "interchange"), pruned
        )
        smaller, alive = kept, pruned


@given(graphs, st.integers(0, 10_000), st.integers(0, 60))
def test_top_n_takes_the_strongest_of_all_positions_and_nests(graph, seed, n):
    """[16] And the next size is one edge more."""
    scores = torch.randn(graph.n_edges, generator=torch.Generator().manual_seed(seed))
    kept = top_n(scores, n)
    assert int(kept.sum()) == min(n, graph.n_edges)
    if 0 < n < graph.n_edges:
        assert scores[kept].abs().min() >= scores[~kept].abs().max()
    assert (top_n(scores, n + 1) | kept).sum() == min(n + 1, graph.n_edges)


def test_signed_order_leaves_harmful_edges_to_the_end():
    scores = torch.linspace(-1, 1, len(SPACE))
    kept = top_n(scores, 5, "signed")
    assert int(kept.sum()) == 5
    assert scores[kept].min() >= scores[~kept].max()


def test_ties_go_to_the_first_edges():
    """[16] So that circuits of equal scores nest too."""
    kept = top_n(torch.zeros(len(SPACE)), 3)
    assert kept.nonzero().flatten().tolist() == [0, 1, 2]
    allowed = SPACE.graph.allowed
    assert SPACE.matrix(kept).nonzero().tolist() == allowed.nonzero().tolist()[:3]


@pytest.mark.parametrize("rule", ["top_n", "greedy"])
def test_selected_circuits_have_no_dead_ends(rule):
    space = EdgeSpace(Graph(2, 2, positions=Positions(4, (3,))))
    scores = torch.randn(len(space), generator=torch.Generator().manual_seed(0))
    flat = select(scores, space, 60, Selection(rule=rule), "interchange")
    assert 0 < int(flat.sum()) <= 60
    kept = space.matrix(flat)
    assert torch.equal(kept, on_some_path(kept, space.graph, "interchange"))


@given(graphs, st.integers(0, 10_000))
def test_walks_lead_from_an_input_to_a_read_position(graph, seed):
    path = Walks(graph).path(torch.Generator().manual_seed(seed))
    kept = torch.zeros_like(graph.allowed)
    for edge in path:
        assert graph.allowed[edge]
        kept[edge] = True
    assert torch.equal(prune(kept, graph, "interchange"), kept)
    assert graph.readers[path[-1][-1]] == "logits"


def test_walks_take_every_live_edge_and_no_other():
    graph = Graph(1, 2, positions=Positions(3, (1,)))
    walks, draw = Walks(graph), torch.Generator().manual_seed(0)
    taken = {edge for _ in range(2000) for edge in walks.path(draw)}
    assert taken == {
        tuple(edge) for edge in prune(graph.allowed, graph, "interchange").nonzero().tolist()
    }
    assert not any(graph.edge_name(*edge).endswith("@2") for edge in taken)  # nobody looks back


def test_sizes_round_down_as_in_mib():
    counts = sizes_to_counts(MIB_SIZES, 32_491)
    assert counts == [32, 64, 162, 324, 649, 1624, 3249, 6498, 16245, 32491]
