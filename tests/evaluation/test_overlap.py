"""Laws of overlaps, and the IoU that luck gives, against counting all sets."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from math import comb, isnan

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.circuits.circuit import Circuit
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.space import NamedElements
from harness.errors import HarnessError
from harness.evaluation.overlap import (
    Consistency,
    Overlap,
    components,
    element_between,
    element_consistency,
    element_overlap,
    node_between,
    node_consistency,
    node_overlap,
)
from harness.metrics.overlap import expected_iou

TOTAL = 9
SETS = st.lists(st.booleans(), min_size=TOTAL, max_size=TOTAL).map(torch.tensor)
GRAPH = Graph(2, 2)


def circuit(*edges: str, graph: Graph = GRAPH) -> Circuit:
    space = EdgeSpace(graph)
    kept = torch.zeros(len(space), dtype=torch.bool)
    for name in edges:
        kept[space.index(name)] = True
    return Circuit(space, kept)


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


@pytest.mark.parametrize(
    ("a", "b", "total"), [(40, 50, 100), (400, 500, 2000), (1, 1500, 2000), (1999, 1999, 2000)]
)
def test_expected_iou_against_whole_numbers(a, b, total):
    ways = {
        k: comb(a, k) * comb(total - a, b - k) for k in range(max(0, a + b - total), min(a, b) + 1)
    }
    wanted = sum(Fraction(k * way, a + b - k) for k, way in ways.items()) / sum(ways.values())
    assert expected_iou(a, b, total) == pytest.approx(float(wanted), rel=1e-12)


def test_sets_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        expected_iou(3, 7, 6)


def test_circuits_that_share_nothing_and_all():
    a = circuit("input->a0.h0<q>", "a0.h0->logits")
    b = circuit("input->m0", "m0->logits")
    for found in (element_overlap(a, b), node_overlap(a, b)):
        assert (found.shared, found.iou, found.of_smaller) == (0, 0, 0)
    assert element_overlap(a, a).iou == node_overlap(a, a).iou == 1


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
    assert (found.least, found.most) == (0, 0.5)
    wanted = (2 * expected_iou(1, 2, 3) + expected_iou(2, 2, 3)) / 3
    assert found.expected == pytest.approx(wanted)
    with pytest.raises(ValueError, match="two sets"):
        Consistency.of(sets[:1], 3)


def slow_jackknife(sets):
    """Mean IoU and its half-width, leaving out each of five sets; t of 4 degrees is 2.776."""

    def mean(some):
        values = [
            len(a & b) / len(a | b) for a, b in combinations([set(s.nonzero()[:, 0].tolist())
                                                              for s in some], 2)]  # fmt: skip
        return sum(values) / len(values)

    left = [mean(sets[:i] + sets[i + 1 :]) for i in range(5)]
    centre = sum(left) / 5
    return mean(sets), 2.7764451 * (sum((x - centre) ** 2 for x in left) * 4 / 5) ** 0.5


def test_the_interval_leaves_out_each_circuit_in_turn():
    draw = torch.Generator().manual_seed(0)
    sets = [torch.rand(30, generator=draw) < 0.6 for _ in range(5)]
    found, (mean, half) = Consistency.of(sets, 30), slow_jackknife(sets)
    assert found.mean == pytest.approx(mean, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half), abs=1e-6)
    same = Consistency.of(sets[:1] * 4, 30)
    assert (same.mean, same.low, same.high) == (1, 1, 1)
    assert isnan(Consistency.of(sets[:2], 30).low)


@pytest.mark.slow
def test_the_interval_holds_the_mean_as_often_as_it_says():
    """Twelve circuits that are dense by chance: 95 % of intervals hold the mean over all such."""
    rng = np.random.default_rng(0)

    def some(n):
        kept = np.r_[np.full(15, 0.95), np.full(45, 0.2)] * rng.uniform(0.3, 1, (n, 1))
        return list(torch.from_numpy(rng.random((n, 60)) < kept))

    def true_mean():
        x = torch.stack(some(2000)).double()
        shared = x @ x.T
        iou = shared / (x.sum(1) + x.sum(1)[:, None] - shared)
        return float((iou.sum() - iou.trace()) / (2000 * 1999))

    wanted = true_mean()
    intervals = [Consistency.of(some(12), 60) for _ in range(300)]
    hits = sum(one.low <= wanted <= one.high for one in intervals)
    assert 0.92 * 300 <= hits <= 0.98 * 300


def test_nodes_are_consistent_too():
    three = [circuit("input->m0"), circuit("input->m0", "m0->m1"), circuit("input->m0")]
    found = node_consistency(three)
    assert found.mean == pytest.approx((0.5 + 1 + 0.5) / 3)


def test_groups_are_compared_circuit_by_circuit():
    some = [circuit("input->m0"), circuit("input->m0", "m0->m1")]
    others = [circuit("input->m0", "m1->logits")]
    elements, nodes = element_between(some, others), node_between(some, others)
    assert elements.mean == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert (elements.pairs, elements.least, elements.most) == (2, pytest.approx(1 / 3), 0.5)
    assert elements.of_smaller == pytest.approx((1 + 1 / 2) / 2)
    assert nodes.mean == pytest.approx((1 / 2 + 1) / 2)  # m0, m0 and m1, against m0 and m1


@pytest.mark.parametrize(
    "other",
    [
        circuit("input->m0", graph=Graph(3, 2)),
        circuit("input->m0", graph=Graph(2, 2, inputs="summed")),
        Circuit(NamedElements("head", "heads", ("a0.h0",)), torch.ones(1, dtype=torch.bool)),
    ],
    ids=["another model", "another graph", "another granularity"],
)
def test_other_spaces_are_refused(other):
    on_pairs = [lambda a, b, of=of: of([a, b]) for of in (element_consistency, node_consistency)]
    on_groups = [lambda a, b, of=of: of([a], [b]) for of in (element_between, node_between)]
    for compare in (element_overlap, node_overlap, *on_pairs, *on_groups):
        with pytest.raises(HarnessError, match="circuits of different spaces"):
            compare(circuit("input->m0"), other)
