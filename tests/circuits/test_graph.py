"""Edge counts and names of the field, as closed formulas and by listing.

Numbers in brackets are those of `tests/PROOFS.md`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.circuits.edges.graph import Graph
from harness.circuits.edges.positions import Positions
from harness.errors import HarnessError

graphs = st.builds(
    Graph,
    n_layers=st.integers(1, 4),
    n_heads=st.sampled_from([1, 2, 4]),
    parallel=st.booleans(),
    n_groups=st.sampled_from([None, 1]),
    inputs=st.sampled_from(["token", "summed", "split", "none"]),
    positions=st.none() | st.builds(Positions, count=st.integers(1, 12), read=st.just((0,))),
    mlps=st.booleans(),
)


# Edges with no, one or two writers of the embeddings: `none`, `token` and `summed`, `split`.
PUBLISHED = {
    "GPT-2 small": (Graph(12, 12), (32_046, 32_491, 32_936)),
    "GPT-2 medium": (Graph(24, 16), (230_700, 231_877, 233_054)),
    "GPT-2 large": (Graph(36, 20), (808_506, 810_703, 812_900)),
    "GPT-2 XL": (Graph(48, 25), (2_231_376, 2_235_025, 2_238_674)),
    # Without positions there is nothing to split.
    "Llama 2 13B, CodeLlama 13B": (Graph(40, 40), (3_872_820, 3_877_661)),
    "Llama 2 7B": (Graph(32, 32), (1_589_776, 1_592_881)),
    "Llama 3 8B": (Graph(32, 32, n_groups=8), (804_112, 805_681)),
    "Pythia 160M": (Graph(12, 12, parallel=True), (None, 32_347)),
    "this project's reference model": (Graph(4, 4), (None, 479)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_edge_counts(name):
    """[3, 19] Llama 3's keys and values in groups are one reader for a group."""
    graph, counts = PUBLISHED[name]
    for inputs, edges in zip(("none", "token", "split"), counts, strict=False):
        if edges is not None:
            assert replace(graph, inputs=inputs).n_edges == edges
    assert replace(graph, inputs="summed").n_edges == counts[1]


@given(graphs)
def test_edge_counts_are_a_sum_over_layers(graph):
    """[3, 19] Σ over layers of what its readers and its MLP can read, and all writers at the end.

    L layers, H heads, G groups of keys and values, e writers of the embeddings.
    """
    L, H = graph.n_layers, graph.n_heads
    G = H if graph.n_groups is None else graph.n_groups
    e = {"token": 1, "summed": 1, "split": 2, "none": 0}[graph.inputs]
    total = e + L * (H + graph.mlps)
    for layer in range(L):
        before = e + layer * (H + graph.mlps)
        total += (H + 2 * G) * before
        if graph.mlps:
            total += before + (0 if graph.parallel else H)
    places = 1 if graph.positions is None else graph.positions.count
    assert graph.n_edges == places * total


def test_a_graph_of_attention_alone_by_hand():
    """Two layers of two heads: q, k and v of four heads, and logits; no MLP anywhere."""
    graph = Graph(2, 2, mlps=False)
    assert graph.writers == ("input", "a0.h0", "a0.h1", "a1.h0", "a1.h1")
    assert graph.readers[-1] == "logits"
    assert not [name for name in (*graph.writers, *graph.readers) if name.startswith("m")]
    assert (graph.n_writers, graph.n_readers) == (5, 13)
    assert graph.n_edges == 6 * 1 + 6 * 3 + 5
    listed = [graph.edge_name(*edge) for edge in graph.edges()]
    assert len(set(listed)) == graph.n_edges
    assert [graph.edge_name(*graph.edge_index(name)) for name in listed] == listed
    for name in ("m0->logits", "input->m0", "input->m1"):
        with pytest.raises(HarnessError, match="2 layers with 2 heads and no MLP"):
            graph.edge_index(name)


def test_a_grouped_graph_counted_by_hand():
    """[3, 19] Two layers of two heads that share one key and one value."""
    graph = Graph(2, 2, n_groups=1)
    into = {name: int(graph.allowed[:, i].sum()) for i, name in enumerate(graph.readers)}
    first = {"a0.h0<q>": 1, "a0.h1<q>": 1, "a0.g0<k>": 1, "a0.g0<v>": 1, "m0": 3}
    second = {"a1.h0<q>": 4, "a1.h1<q>": 4, "a1.g0<k>": 4, "a1.g0<v>": 4, "m1": 6}
    assert into == {**first, **second, "logits": 7}
    assert graph.n_edges == 7 + 22 + 7


def test_parallel_blocks_have_no_edges_within_a_layer():
    graph = Graph(2, 2, parallel=True)
    for layer in range(2):
        assert not graph.allowed[graph.head_rows(layer), graph.mlp_column(layer)].any()


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
