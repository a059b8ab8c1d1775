"""Laws of overlaps, and the IoU that luck gives, against counting all sets."""

from __future__ import annotations

from itertools import combinations
from math import isnan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.circuits.circuit import Circuit
from harness.circuits.graph import Graph
from harness.errors import HarnessError
from harness.evaluation.overlap import (
    Consistency,
    Overlap,
    components,
    edge_consistency,
    edge_overlap,
    expected_iou,
    node_overlap,
)

TOTAL = 9
SETS = st.lists(st.booleans(), min_size=TOTAL, max_size=TOTAL).map(torch.tensor)
GRAPH = Graph(2, 2)


def circuit(*edges: str, graph: Graph = GRAPH) -> Circuit:
    kept = torch.zeros_like(graph.allowed)
    for name in edges:
        kept[graph.edge_index(name)] = True
    return Circuit(graph, kept)


@given(SETS, SETS)
def test_laws(a, b):
    found, swapped = Overlap.of(a, b, TOTAL), Overlap.of(b, a, TOTAL)
    assert (found.shared, found.sizes) == (swapped.shared, swapped.sizes[::-1])
    left = {i for i, inside in enumerate(a.tolist()) if inside}
    right = {i for i, inside in enumerate(b.tolist()) if inside}
    if not left | right:
        assert isnan(found.iou)
        return
    assert found.iou == swapped.iou == len(left & right) / len(left | right)
    assert (found.iou == 1) == (left == right)
    assert (found.iou == 0) == (not left & right)
    if left and right:
        assert 0 <= found.iou <= found.of_smaller <= 1
        assert (found.of_smaller == 1) == (left <= right or right <= left)
    else:
        assert isnan(found.of_smaller)


@pytest.mark.parametrize(
    ("a", "b", "total"), [(2, 3, 6), (1, 1, 5), (4, 4, 6), (0, 3, 5), (6, 6, 6)]
)
def test_expected_iou_is_the_mean_over_all_sets(a, b, total):
    first = set(range(a))
    values = [
        len(first & set(second)) / len(first | set(second))
        for second in combinations(range(total), b)
    ]
    assert expected_iou(a, b, total) == pytest.approx(sum(values) / len(values), abs=1e-14)


def test_expected_iou_of_large_sets_is_near_that_of_their_means():
    # GPT-2 small: 3249 of 32491 edges share 325 on average.
    assert expected_iou(3249, 3249, 32491) == pytest.approx(324.9 / (6498 - 324.9), rel=1e-3)


def test_sets_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        expected_iou(3, 7, 6)


def test_circuits_that_share_nothing_and_all():
    a = circuit("input->a0.h0<q>", "a0.h0->logits")
    b = circuit("input->m0", "m0->logits")
    for found in (edge_overlap(a, b), node_overlap(a, b)):
        assert (found.shared, found.iou, found.of_smaller) == (0, 0, 0)
    assert edge_overlap(a, a).iou == node_overlap(a, a).iou == 1


def test_nodes_are_heads_and_mlps_that_an_edge_touches():
    found = components(circuit("input->a0.h1<k>", "m0->a1.h0<v>"))
    names = [name for name, inside in zip(GRAPH.writers[1:], found.tolist(), strict=True) if inside]
    assert names == ["a0.h1", "m0", "a1.h0"]
    none = Graph(2, 2, inputs="none")
    assert (
        components(circuit("m0->logits", graph=none)).tolist() == [False] * 2 + [True] + [False] * 3
    )


def test_consistency_is_over_all_pairs():
    sets = [
        torch.tensor(x) for x in ([True, True, False], [True, False, False], [False, True, True])
    ]
    found = Consistency.of(sets, 3)
    assert found.n == 3
    assert found.mean == pytest.approx((1 / 2 + 1 / 3 + 0) / 3)
    assert (found.low, found.high) == (0, 0.5)
    wanted = (2 * expected_iou(1, 2, 3) + expected_iou(2, 2, 3)) / 3
    assert found.expected == pytest.approx(wanted)
    with pytest.raises(ValueError, match="two sets"):
        Consistency.of(sets[:1], 3)


def test_other_graphs_are_refused():
    other = circuit("input->m0", graph=Graph(3, 2))
    for compare in (edge_overlap, node_overlap, lambda a, b: edge_consistency([a, b])):
        with pytest.raises(HarnessError, match="circuits of different graphs"):
            compare(circuit("input->m0"), other)
