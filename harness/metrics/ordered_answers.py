"""Measures over an ordered set of answers, such as the hundred two-digit years.

Arrays end in the axis of the A answers, in their order; leading axes pass through.
Bhaskar et al. 2024 (Edge Pruning) score greater-than with these, on the answers' tokens alone. Its
exact match is `agreement` (`harness.metrics.logits`). A task chooses them with
`evaluation.measures`; `OrderedAnswers` (`harness.metrics.per_example`) reads them from logits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.metrics.measure import Measure

Floats = NDArray[np.float64]

WINDOW = 10
"""Answers on each side of the prompt's own that `prob_diff_10` looks at."""


def answer_probabilities(logits: ArrayLike) -> Floats:
    """Softmax over the answers alone: logits of their tokens [..., A] -> probabilities [..., A]."""
    from scipy.special import softmax

    probabilities: Floats = softmax(np.asarray(logits, dtype=np.float64), axis=-1)
    return probabilities


def prob_diff_10(probabilities: ArrayLike, place: ArrayLike) -> Floats:
    """Σ_{0 < a - y ≤ 10} p_a - Σ_{0 < y - a ≤ 10} p_a, in [-1, 1] (Bhaskar et al. 2024).

    `probabilities` [..., n, A] add up to 1 over the answers; `place` [n] is the place y of the
    prompt's own year among the answers, which counts on neither side. Raises ValueError for a
    place outside of the answers.

    Not `logits.prob_diff` (Hanna et al. 2023) with a window: that one takes probabilities over
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
    if a.shape[-1] < 2:
        return np.zeros(a.shape[:-1])
    from scipy.stats import kendalltau

    tau = np.asarray(kendalltau(a, b, axis=-1).statistic, np.float64)
    defined = ~(np.isnan(a).any(axis=-1) | np.isnan(b).any(axis=-1))
    ordered: Floats = np.where(defined & np.isnan(tau), 0.0, tau)
    return ordered


MEASURES = (
    Measure(
        "prob_diff_10",
        "±10 probability difference",
        "up",
        "Σ_{0 < a - y ≤ 10} p_a - Σ_{0 < y - a ≤ 10} p_a over ordered answers a, y the prompt's "
        "own, p the softmax over the answers' tokens alone",
        "Edge Pruning (Bhaskar et al. 2024)",
        "probabilities of ordered answers",
        lambda circuit, _, place: prob_diff_10(circuit, place),
        roles=frozenset({"extra"}),
    ),
    Measure(
        "kendall_tau",
        "Kendall τ",
        "up",
        "τ_b = (C - D) / √((C + D + T_1)(C + D + T_2)) of circuit's and model's probabilities of "
        "the ordered answers: pairs ordered alike, differently, tied in one only; 0 where one "
        "ties all",
        "Edge Pruning (Bhaskar et al. 2024); Kendall 1945",
        "probabilities of ordered answers",
        lambda circuit, whole, _: kendall_tau(circuit, whole),
        roles=frozenset({"extra"}),
    ),
)
