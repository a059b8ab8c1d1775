"""Counts, strongest tokens, labels and probes against loops that follow the definitions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.interpretation import counts as module
from harness.interpretation.counts import SHARES, ConceptCounter, ConceptCounts
from harness.interpretation.labels import (
    RebuiltBoards,
    auroc,
    choose,
    coverage,
    detected,
    labels_of,
    meets,
    precise,
)
from harness.interpretation.probes import ProbeFit, ProbeScore
from harness.interpretation.strongest import StrongestTokens

FEATURES, CONCEPTS, POSITIONS = 5, 7, 3


def drawn(seed: int, n: int = 400, density: float = 0.3) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    code = rng.random((n, FEATURES)) * (rng.random((n, FEATURES)) < density)
    yield code.astype(np.float32)
    yield rng.random((n, CONCEPTS)) < rng.random(CONCEPTS)
    yield rng.integers(POSITIONS, size=n)


def counted(
    code: np.ndarray, truth: np.ndarray, positions: np.ndarray, reference: np.ndarray
) -> ConceptCounts:
    counter = ConceptCounter(reference, CONCEPTS, POSITIONS)
    for start in range(0, len(code), 150):
        part = slice(start, start + 150)
        counter.add(torch.from_numpy(code[part]), truth[part], positions[part])
    return counter.result()


@pytest.mark.parametrize("density", [0.02, 0.5])  # sparse and dense products
def test_counts_against_loops(density: float) -> None:
    code, truth, positions = drawn(0, density=density)
    reference = code.max(0)
    counts = counted(code, truth, positions, reference)
    for level, share in enumerate(SHARES):
        for feature in range(FEATURES):
            on = code[:, feature] > np.float32(share * reference[feature])
            for place in range(POSITIONS):
                assert counts.on[level, feature, place] == (on & (positions == place)).sum()
            for concept in range(CONCEPTS):
                true = truth[:, concept]
                at = (level, feature, concept)
                both = int((on & true).sum())
                assert counts.both[at] == both
                assert counts.precision[at] == pytest.approx(both / max(1, on.sum()))
                assert counts.recall[at] == pytest.approx(both / max(1, true.sum()))
                f1 = 2 * both / max(1, on.sum() + true.sum())
                assert counts.f1[at] == pytest.approx(f1)
                # Each token on is replaced by a random one of its position.
                rates = [true[positions == place].mean() for place in positions[on]]
                assert counts.base[at] == pytest.approx(np.mean(rates) if rates else 0.0)


def test_sparse_and_dense_products_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    code, truth, positions = drawn(1)
    one = counted(code, truth, positions, code.max(0))
    monkeypatch.setattr(module, "DENSE", 1.0)
    other = counted(code, truth, positions, code.max(0))
    np.testing.assert_array_equal(one.both, other.both)
    np.testing.assert_array_equal(one.on, other.on)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 12), st.floats(0.05, 1))
def test_the_strongest_tokens(seed: int, k: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    code = np.round(rng.random((97, 4)) * (rng.random((97, 4)) < density), 2).astype(np.float32)
    keeper = StrongestTokens(4, k)
    for start in range(0, 97, 10):
        keeper.add(torch.from_numpy(code[start : start + 10]), start)
        keeper._sort()
    kept = keeper.result()
    assert kept.seen == 97
    for feature in range(4):
        strengths = code[:, feature]
        active = np.flatnonzero(strengths > 0)
        # Of equally strong tokens the first ones are kept.
        order = sorted(active, key=lambda token: (-strengths[token], token))[:k]
        assert kept.counts[feature] == len(order)
        assert kept.tokens[feature, : len(order)].tolist() == order
        assert (kept.tokens[feature, len(order) :] == -1).all()
        assert kept.active[feature] == len(active)
        tenth = sorted(strengths[order], reverse=True)[:10]
        assert kept.reference[feature] == (tenth[-1] if tenth else 0)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=30).filter(
        lambda rows: len({true for _, true in rows}) == 2
    )
)
def test_auroc_counts_pairs(rows: list[tuple[int, bool]]) -> None:
    strength, truth = (np.array(column) for column in zip(*rows, strict=True))
    pairs = [
        (one > other) + (one == other) / 2
        for one, true in rows
        if true
        for other, false in rows
        if not false
    ]
    value = auroc(strength.astype(float), truth.astype(bool))
    assert value == pytest.approx(np.mean(pairs))


def test_auroc_needs_both_kinds() -> None:
    assert auroc(np.arange(3.0), np.ones(3, bool)) is None


# ---------------------------------------------------------------- labels
def planted(n: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Feature 0 detects concept 0; feature 1 fires early, where concept 1 is nearly always true;
    feature 2 detects concept 2 above half of its reference only; the others are noise."""
    rng = np.random.default_rng(seed)
    positions = rng.integers(POSITIONS, size=n)
    truth = rng.random((n, CONCEPTS)) < 0.3
    truth[:, 1] = rng.random(n) < np.array([0.99, 0.5, 0.1])[positions]
    code = np.zeros((n, FEATURES))
    code[:, 0] = truth[:, 0] * rng.random(n)
    code[:, 1] = (positions == 0) * rng.random(n)
    code[:, 2] = np.where(truth[:, 2], 0.9, 0.3) * (rng.random(n) < 0.8)
    code[:, 3:] = rng.random((n, 2)) * (rng.random((n, 2)) < 0.3)
    return code.astype(np.float32), truth, positions


def test_a_label_needs_more_than_the_position() -> None:
    code, truth, positions = planted()
    training = counted(code, truth, positions, code.max(0))
    held_out = counted(*planted(seed=1), code.max(0))
    assert precise(training)[:, 1, 1].any()  # precise, and worth nothing
    share, concept = choose(training)
    assert concept.tolist() == [0, -1, 2, -1, -1]
    assert share[0] == 0
    assert SHARES[share[2]] >= 0.5
    labels = labels_of(training, held_out, {0: 0.9, 2: None})
    assert [(one.feature, one.concept, one.confirmed) for one in labels] == [
        (0, 0, True),
        (2, 2, True),
    ]
    assert labels[0].precision == 1.0
    assert labels[0].auroc == 0.9
    assert 0.25 < labels[0].base < 0.35


def test_what_does_not_hold_on_held_out_tokens_is_not_confirmed() -> None:
    code, truth, positions = planted()
    other, other_truth, other_positions = planted(seed=1)
    other_truth[:, 0] = np.random.default_rng(2).random(len(other)) < 0.3
    training = counted(code, truth, positions, code.max(0))
    held_out = counted(other, other_truth, other_positions, code.max(0))
    assert [one.confirmed for one in labels_of(training, held_out, {})] == [False, True]


def test_the_criterion_in_numbers() -> None:
    code, truth, positions = planted()
    counts = counted(code, truth, positions, code.max(0))
    expected = (
        (counts.precision >= 0.95)
        & (counts.both >= 10)
        & (counts.recall >= 0.1)
        & (1 - counts.precision <= (1 - counts.base) / 2)
    )
    np.testing.assert_array_equal(meets(counts), expected)


def test_coverage_is_over_realised_concepts() -> None:
    code, truth, positions = planted()
    truth[:, 5] = False
    counts = counted(code, truth, positions, code.max(0))
    columns = slice(0, 6)
    best = [max(counts.f1[level, :, c].max() for c in [c]) for level in (0,) for c in range(5)]
    assert coverage(counts, columns) >= np.mean(best) - 1e-12
    per_level = [
        np.mean([counts.f1[level, :, concept].max() for concept in range(5)])
        for level in range(len(SHARES))
    ]
    assert coverage(counts, columns) == pytest.approx(max(per_level))


def test_a_board_is_rebuilt_from_its_detectors() -> None:
    code, truth, positions = planted()
    counts = counted(code, truth, positions, code.max(0))
    thresholds = np.outer(SHARES, code.max(0)).astype(np.float32)
    detectors = precise(counts)
    assert len({int(level.sum()) for level in detectors}) > 1
    rebuilt = RebuiltBoards(truth.shape[1])
    for start in range(0, len(code), 1000):
        part = slice(start, start + 1000)
        rebuilt.add(detected(code[part], detectors, thresholds), truth[part])
    hits = said = 0
    for token, strengths in enumerate(code):
        for concept in range(3):
            on = any(
                detectors[level, feature, concept] and strengths[feature] > floor[feature]
                for level, floor in enumerate(thresholds)
                for feature in range(FEATURES)
            )
            said += on
            hits += on and truth[token, concept]
    expected = 2 * hits / (said + truth[:, :3].sum())
    assert 0 < expected < 1
    assert rebuilt.f1(slice(0, 3)) == pytest.approx(expected)


# ---------------------------------------------------------------- probes
def test_a_probe_is_the_least_squares_solution() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 6, generator=generator, dtype=torch.float64) + 3
    truth = x @ torch.randn(6, 4, generator=generator, dtype=torch.float64) > 1
    fit = ProbeFit(6, 4)
    for part, answers in zip(x.split(120), truth.split(120), strict=True):
        fit.add(part, answers)
    probe = fit.probe()
    wide = torch.cat([x, torch.ones(500, 1, dtype=torch.float64)], 1)
    solution = torch.linalg.lstsq(wide, truth.double()).solution
    torch.testing.assert_close(probe(x), wide @ solution, atol=2e-3, rtol=0)
    score = ProbeScore(4)
    score.add(probe(x), truth)
    predicted = probe(x) > 0.5
    hits = (predicted & truth)[:, 1:3].sum()
    f1 = 2 * hits / (predicted[:, 1:3].sum() + truth[:, 1:3].sum())
    assert score.f1(slice(1, 3)) == pytest.approx(float(f1))
