"""Spaces: edges as flat tensors and matrices, their names and nodes; elements with only names."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.circuits.edges.graph import Graph
from harness.circuits.edges.paths import Walks
from harness.circuits.edges.positions import Positions
from harness.circuits.edges.select import prune
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.space import NamedElements, require_same_space, space_of
from harness.errors import HarnessError, NotFound

spaces = st.builds(
    Graph,
    n_layers=st.integers(1, 3),
    n_heads=st.sampled_from([2, 4]),
    parallel=st.booleans(),
    n_groups=st.sampled_from([None, 1, 2]),
    inputs=st.sampled_from(["token", "summed", "split", "none"]),
    positions=st.none() | st.builds(Positions, count=st.just(3), read=st.just((0, 2))),
).map(EdgeSpace)
seeds = st.integers(0, 10_000)


def draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_kept(space, seed: int, share: float = 0.3) -> torch.Tensor:
    return torch.rand(len(space), generator=draws(seed)) < share


def parts_of(space: EdgeSpace, element: int) -> tuple[str, str, str]:
    """Writer, reading node and position (`@3` or nothing) of an edge, from its name alone."""
    edge, at, position = space.name(element).partition("@")
    writer, _, reader = edge.partition("->")
    return writer, reader.partition("<")[0], at + position


# ---------------------------------------------------------------- flat and matrix
@given(spaces, seeds, st.sampled_from([(), (2,), (3, 2)]))
def test_matrices_hold_the_same_values_and_0_elsewhere(space, seed, leading):
    flat = torch.rand(*leading, len(space), generator=draws(seed)) + 1
    matrix = space.matrix(flat)
    allowed = space.graph.allowed
    assert matrix.shape == (*leading, *allowed.shape)
    assert torch.equal(matrix != 0, allowed.expand_as(matrix))
    assert torch.equal(space.flat(matrix), flat)
    assert torch.equal(matrix.flatten(-allowed.ndim)[..., allowed.flatten()], flat)  # by row


@given(spaces, seeds)
def test_flat_values_forget_what_stands_at_impossible_edges(space, seed):
    matrix = torch.rand(space.graph.allowed.shape, generator=draws(seed))
    assert torch.equal(space.matrix(space.flat(matrix)), matrix * space.graph.allowed)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32, torch.float64])
def test_types_stay(dtype):
    space = EdgeSpace(Graph(1, 2))
    flat = torch.ones(len(space), dtype=dtype)
    assert space.matrix(flat).dtype == space.flat(space.matrix(flat)).dtype == dtype


def test_gradients_pass_from_the_matrix_to_the_elements():
    space = EdgeSpace(Graph(2, 2))
    flat = torch.rand(2, len(space), generator=draws(0)).requires_grad_()
    weights = torch.rand(space.graph.allowed.shape, generator=draws(1))
    (space.matrix(flat) * weights).sum().backward()
    assert torch.equal(flat.grad, space.flat(weights).expand(2, -1))


# ---------------------------------------------------------------- names
@given(spaces)
def test_names_and_elements_are_inverse(space):
    names = [space.name(element) for element in range(len(space))]
    assert len(set(names)) == len(space) == space.graph.n_edges
    assert [space.index(name) for name in names] == list(range(len(space)))
    edges = [space.graph.edge_index(name) for name in names]
    assert space.number(edges).tolist() == list(range(len(space)))
    assert [tuple(edge) for edge in space.graph.allowed.nonzero().tolist()] == edges


@given(spaces)
def test_files_list_every_element_once_in_the_order_of_the_graph(space):
    assert sorted(space.listing()) == list(range(len(space)))
    listed = [space.name(element) for element in space.listing()]
    assert listed == [space.graph.edge_name(*edge) for edge in space.graph.edges()]


@pytest.mark.parametrize("name", ["tok->a9.h0<q>", "input->logits", "a0.h0", "tok->logits@0"])
def test_names_of_no_element_are_refused(name):
    with pytest.raises(HarnessError, match="no edge"):
        EdgeSpace(Graph(1, 2, inputs="split")).index(name)


# ---------------------------------------------------------------- nodes and components
@given(spaces)
def test_an_edge_belongs_to_its_writer(space):
    assert len(space.owners) == len(space)
    assert len(set(space.nodes)) == len(space.nodes) == space.graph.n_places * space.graph.n_writers
    for element, owner in enumerate(space.owners.tolist()):
        writer, _, position = parts_of(space, element)
        assert space.nodes[owner] == writer + position


@given(spaces)
def test_components_are_heads_and_mlps_with_all_edges_out_of_them(space):
    layers, heads = range(space.graph.n_layers), range(space.graph.n_heads)
    wanted = [[*(f"a{layer}.h{head}" for head in heads), f"m{layer}"] for layer in layers]
    assert list(space.components) == [name for names in wanted for name in names]
    for number, name in enumerate(space.components):
        inside = space.elements_of(number)
        assert inside.dtype == torch.bool
        for element in range(len(space)):
            assert bool(inside[element]) == (parts_of(space, element)[0] == name)


@given(spaces, seeds)
def test_touched_components_are_those_at_either_end_of_an_edge(space, seed):
    """A reader that heads share in a group touches all of them."""
    kept, graph = random_kept(space, seed, 0.05), space.graph
    ends = set()
    for element in kept.nonzero().flatten().tolist():
        writer, reader, _ = parts_of(space, element)
        ends |= {writer, reader}
        if ".g" in reader:
            layer, group = reader.split(".g")
            each = graph.n_heads // graph.n_groups
            ends |= {f"{layer}.h{int(group) * each + head}" for head in range(each)}
    touched = space.touched(kept).tolist()
    assert [name for name, inside in zip(space.components, touched, strict=True) if inside] == [
        name for name in space.components if name in ends
    ]
    assert dict(space.counts(kept)) == {"edges": int(kept.sum())}


# ---------------------------------------------------------------- circuits
@given(spaces, seeds, st.sampled_from(["interchange", "zero"]))
def test_dead_ends_are_those_of_the_matrix(space, seed, ablation):
    kept = random_kept(space, seed)
    wanted = prune(space.matrix(kept), space.graph, ablation)
    assert torch.equal(space.matrix(space.prune(kept, ablation)), wanted)


@given(spaces, seeds)
def test_walks_are_those_of_the_graph_in_elements(space, seed):
    walks, of_graph = space.walks(), Walks(space.graph)
    path, edges = walks.path(draws(seed)), of_graph.path(draws(seed))
    assert [space.name(element) for element in path] == [
        space.graph.edge_name(*edge) for edge in edges
    ]
    assert torch.equal(space.matrix(walks.live), of_graph.live.view(space.graph.allowed.shape))
    assert walks.live[torch.tensor(path)].all()


@given(spaces, seeds)
def test_uniform_numbers_are_drawn_by_writer_and_reader(space, seed):
    """So that draws do not depend on which edges are possible."""
    generator = draws(seed)
    numbers = space.uniform(generator, torch.float64)
    matrix = torch.rand(space.graph.allowed.shape, generator=draws(seed), dtype=torch.float64)
    assert torch.equal(numbers, space.flat(matrix))
    assert not torch.equal(space.uniform(generator, torch.float64), numbers)


# ---------------------------------------------------------------- equality and headers
@given(spaces)
def test_a_header_makes_an_equal_space(space):
    header = json.loads(json.dumps(space.header()))
    again = space_of("edge", header)
    assert again == space
    assert hash(again) == hash(space)
    assert torch.equal(again.graph.answers, space.graph.answers)  # no part of equality
    require_same_space(again, space)


@pytest.mark.parametrize(
    "change",
    [{"n_layers": 3}, {"n_heads": 4}, {"inputs": "summed"}, {"positions": Positions(3, (2,))}],
)
def test_circuits_of_different_spaces_are_not_compared(change):
    space = EdgeSpace(Graph(2, 2))
    other = EdgeSpace(replace(space.graph, **change))
    with pytest.raises(HarnessError, match="different spaces cannot be compared"):
        require_same_space(space, other)


def test_an_unknown_granularity_is_refused():
    with pytest.raises(NotFound, match="unknown granularity 'atom'; known: edge"):
        space_of("atom", {})


# ---------------------------------------------------------------- named elements
NAMED = NamedElements("neuron", "neurons", ("m0.n0", "m0.n1", "m1.n0"))


def test_named_elements_are_nodes_of_their_own():
    assert len(NAMED) == 3
    assert [NAMED.index(NAMED.name(element)) for element in range(3)] == [0, 1, 2]
    assert list(NAMED.listing()) == [0, 1, 2]
    assert NAMED.nodes == NAMED.components == NAMED.names
    kept = torch.tensor([True, False, True])
    assert torch.equal(NAMED.touched(kept), kept)
    assert [NAMED.elements_of(number).tolist() for number in range(3)] == torch.eye(
        3
    ).bool().tolist()
    assert NAMED.counts(kept) == {"neurons": 2}
    assert torch.equal(NAMED.prune(kept, "interchange"), kept)
    assert not NAMED.touched(torch.zeros(3, dtype=torch.bool)).any()


def test_names_of_no_named_element_are_refused():
    with pytest.raises(HarnessError, match=r"no element 'm9' among 3 neurons"):
        NAMED.index("m9")


def test_named_elements_do_not_grow_along_paths():
    with pytest.raises(HarnessError, match="greedy grows circuits along edges; neurons have none"):
        NAMED.grow(torch.ones(3), 2)


def test_walks_over_named_elements_are_single_elements():
    walks, generator = NAMED.walks(), draws(0)
    assert walks.live.all()
    paths = [walks.path(generator) for _ in range(100)]
    assert {len(path) for path in paths} == {1}
    assert {element for path in paths for element in path} == {0, 1, 2}
    numbers = NAMED.uniform(draws(0), torch.float64)
    assert torch.equal(numbers, torch.rand(3, generator=draws(0), dtype=torch.float64))


def test_named_elements_are_equal_by_name():
    assert NamedElements("neuron", **{**NAMED.header(), "names": NAMED.names}) == NAMED
    assert replace(NAMED, names=("m0.n0", "m0.n1", "m1.n1")) != NAMED
    assert json.loads(json.dumps(NAMED.header())) == {
        "unit": "neurons",
        "names": ["m0.n0", "m0.n1", "m1.n0"],
    }


@dataclass(frozen=True)
class _ByLayer(NamedElements):
    """Neurons that belong to the MLP of their layer."""

    @property
    def nodes(self):
        return ("m0", "m1")

    @property
    def owners(self):
        return torch.tensor([0, 0, 1])


def test_a_space_that_says_more_is_asked_for_its_nodes():
    space = _ByLayer("neuron", "neurons", NAMED.names)
    assert space.components == ("m0", "m1")
    assert space.elements_of(0).tolist() == [True, True, False]
    assert space.touched(torch.tensor([False, True, False])).tolist() == [True, False]
    assert space != NAMED
