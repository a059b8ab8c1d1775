"""Edge counts and names of the field, as closed formulas and by listing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.circuits.graph import Graph
from harness.circuits.positions import Positions
from harness.errors import HarnessError

graphs = st.builds(
    Graph,
    n_layers=st.integers(1, 4),
    n_heads=st.sampled_from([1, 2, 4]),
    parallel=st.booleans(),
    n_groups=st.sampled_from([None, 1]),
    inputs=st.sampled_from(["token", "summed", "split", "none"]),
    positions=st.none() | st.builds(Positions, count=st.integers(1, 12), read=st.just((0,))),
)


@pytest.mark.parametrize(
    ("layers", "heads", "edges"),
    # GPT-2 small, medium, large, XL; Llama-2 7B and 13B (heads ungrouped); the reference model
    [
        (12, 12, 32_491),
        (24, 16, 231_877),
        (36, 20, 810_703),
        (48, 25, 2_235_025),
        (32, 32, 1_592_881),
        (40, 40, 3_877_661),
        (4, 4, 479),
    ],
)
def test_published_edge_counts(layers, heads, edges):
    assert Graph(layers, heads).n_edges == edges


def test_parallel_blocks_have_no_edges_within_a_layer():
    assert Graph(12, 12, parallel=True).n_edges == 32_347


def test_each_position_has_all_edges_of_its_own():
    graph = Graph(12, 12, positions=Positions(15, (14,)))
    assert graph.n_edges == 15 * 32_491
    assert graph.allowed.shape == (15, 157, 445)
    assert graph.edge_name(3, 1, graph.mlp_column(1)) == "a0.h0->m1@3"


def test_where_answers_are_read_does_not_make_another_graph():
    """Circuits of prompts that are read at different positions can be compared."""
    assert Graph(1, 1, positions=Positions(4, (3,))) == Graph(1, 1, positions=Positions(4, (1, 2)))
    assert Graph(1, 1, positions=Positions(4, (3,))) != Graph(1, 1, positions=Positions(5, (3,)))


def test_gpt2_small_has_157_writers_and_445_readers():
    graph = Graph(12, 12)
    assert (graph.n_writers, graph.n_readers) == (157, 445)
    assert (graph.writers[0], graph.writers[1], graph.writers[13]) == ("input", "a0.h0", "m0")
    assert (graph.readers[0], graph.readers[12], graph.readers[36]) == (
        "a0.h0<q>",
        "a0.h0<k>",
        "m0",
    )
    assert graph.readers[-1] == "logits"


@given(graphs)
def test_names_and_indices_are_inverse_and_complete(graph):
    edges = list(graph.edges())
    assert len(edges) == len(set(edges)) == graph.n_edges
    for edge in edges:
        assert graph.allowed[edge]
        assert graph.edge_index(graph.edge_name(*edge)) == edge


@given(graphs)
def test_edges_only_lead_forward(graph):
    """No reader may read its own node or a later one."""
    for *_, row, column in graph.edges():
        assert row < int(graph.owners[column].nonzero().min())


@pytest.mark.parametrize(
    "name",
    [
        "input->a0.h0",  # a head reads through q, k or v
        "a0.h0->a0.h1<q>",  # same layer
        "m1->m0",
        "a0.h9->logits",
        "a0.h0<q>->logits",
        "input",
        "input->resid",
        "->",
        "",
        "input->m0@0",
    ],
)
def test_names_of_no_edge_are_refused(name):
    with pytest.raises(HarnessError, match="no edge"):
        Graph(2, 3).edge_index(name)


@pytest.mark.parametrize(
    "name", ["input->m0", "input->m0@4", "input->m0@-1", "input->m0@03", "m0@1"]
)
def test_names_of_no_edge_at_a_position_are_refused(name):
    with pytest.raises(HarnessError, match=r"no edge.*at positions @0 to @3"):
        Graph(2, 3, positions=Positions(4, (3,))).edge_index(name)
