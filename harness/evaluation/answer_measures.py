"""Measures over an ordered set of answers, such as the hundred two-digit years.

Pure numpy. Arrays end in the axis of the A answers, in their order; leading axes pass through.
Bhaskar et al. 2024 (Edge Pruning) score greater-than with these, on the answers' tokens alone. Its
exact match is `agreement` (`harness.models.behaviour`). A task chooses them with
`evaluation.measures`; `harness.evaluation.ordered_answers` reads them from logits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.evaluation.measures import Measure

Floats = NDArray[np.float64]

WINDOW = 10
"""Answers on each side of the prompt's own that `prob_diff_10` looks at."""

MEASURES = (
    Measure(
        "prob_diff_10",
        "±10 probability difference",
        "up",
        "Σ_{0 < a - y ≤ 10} p_a - Σ_{0 < y - a ≤ 10} p_a over ordered answers a, y the prompt's "
        "own, p the softmax over the answers' tokens alone",
        "Edge Pruning (Bhaskar et al. 2024)",
    ),
    Measure(
        "kendall_tau",
        "Kendall τ",
        "up",
        "τ_b = (C - D) / √((C + D + T_1)(C + D + T_2)) of circuit's and model's probabilities of "
        "the ordered answers: pairs ordered alike, differently, tied in one only; 0 where one "
        "ties all",
        "Edge Pruning (Bhaskar et al. 2024); Kendall 1945",
    ),
)

_MOST_PAIRS = 1 << 22  # pairs of answers compared at once


def answer_probabilities(logits: ArrayLike) -> Floats:
    """Softmax over the answers alone: logits of their tokens [..., A] -> probabilities [..., A]."""
    values = np.asarray(logits, dtype=np.float64)
    shifted = np.exp(values - values.max(axis=-1, keepdims=True))
    probabilities: Floats = shifted / shifted.sum(axis=-1, keepdims=True)
    return probabilities


def prob_diff_10(probabilities: ArrayLike, place: ArrayLike) -> Floats:
    """Σ_{0 < a - y ≤ 10} p_a - Σ_{0 < y - a ≤ 10} p_a, in [-1, 1] (Bhaskar et al. 2024).

    `probabilities` [..., n, A] add up to 1 over the answers; `place` [n] is the place y of the
    prompt's own year among the answers, which counts on neither side. Raises ValueError for a
    place outside of the answers.

    Not `behaviour.prob_diff` (Hanna et al. 2023) with a window: that one takes probabilities over
    the whole vocabulary and all answers, of which the own year is a bad one.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    y = np.asarray(place, dtype=np.int64)
    n_answers = p.shape[-1]
    if ((y < 0) | (y >= n_answers)).any():
        raise ValueError(f"a place is outside of 0 … {n_answers - 1}")
    distance = np.arange(n_answers) - y[..., None]
    near = np.abs(distance) <= WINDOW
    difference: Floats = (p * np.sign(distance) * near).sum(axis=-1)
    return difference


def kendall_tau(one: ArrayLike, other: ArrayLike) -> Floats:
    """Kendall's τ_b between two scores of the same answers: [..., A] twice -> [...].

    τ_b = (C - D) / √((C + D + T_1)(C + D + T_2)) over all pairs of answers: C are ordered alike by
    both, D differently, T_1 tied only in `one`, T_2 only in `other` (Kendall 1945). 1 is the same
    order, -1 the reverse. 0 where all scores on one side are equal: they order nothing. NaN where a
    score is NaN.
    """
    a, b = np.broadcast_arrays(np.asarray(one, np.float64), np.asarray(other, np.float64))
    flat = a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1])
    step = max(1, _MOST_PAIRS // max(1, a.shape[-1] ** 2))
    found = [
        _kendall_tau(flat[0][start : start + step], flat[1][start : start + step])
        for start in range(0, len(flat[0]), step)
    ]
    return np.concatenate([np.zeros(0), *found]).reshape(a.shape[:-1])


def _kendall_tau(a: Floats, b: Floats) -> Floats:
    order_a, order_b = _orders(a), _orders(b)
    agreement = (order_a * order_b).sum(axis=-1, dtype=np.int64)
    ordered = np.count_nonzero(order_a, axis=-1) * np.count_nonzero(order_b, axis=-1).astype(float)
    tau: Floats = agreement / np.sqrt(np.maximum(ordered, 1))  # no ordered pair: 0 of them agree
    tau[np.isnan(a).any(axis=-1) | np.isnan(b).any(axis=-1)] = np.nan
    return tau


def _orders(scores: Floats) -> NDArray[np.int8]:
    """Return for every pair of answers which one scores higher: [n, A] -> -1, 0, 1 [n, pairs]."""
    first, second = np.triu_indices(scores.shape[-1], k=1)
    one, other = scores[:, first], scores[:, second]
    return (other > one).astype(np.int8) - (other < one).astype(np.int8)
