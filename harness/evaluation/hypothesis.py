"""Three hypothesis tests of a circuit (Shi et al. 2024), and Holm's correction.

On per-example scores s(·) of the circuit C, the whole model N and the complement of C.
Each null hypothesis holds for a good circuit; a small p is evidence against the circuit.

    equivalence    C beats N about as often as not: |P(s(C) > s(N)) - ½| < ε
    independence   s(complement of C) says nothing about s(N): the behaviour is all in C
    minimality     an edge of C matters more than q* of random edges added to C do

Where the released code of that paper differs from its text, the text is followed: the sign
statistic is a share k/n, ties count one half. Holm's correction over edges, and the +1 of the
permutation test that makes its p valid (Phipson and Smyth 2010), are additions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

EPSILON = 0.1
QUANTILE = 0.9
PERMUTATIONS = 1000
LEVEL = 0.05


@dataclass(frozen=True)
class Outcome:
    """A test's statistic, its p, and its number of examples (or edges)."""

    statistic: float
    p: float
    n: int

    def rejected(self, level: float = LEVEL) -> bool:
        """Whether the null hypothesis is rejected."""
        return self.p <= level


# ---------------------------------------------------------------- equivalence
def equivalence(
    circuit: ArrayLike, model: ArrayLike, epsilon: float = EPSILON, tie: float = 0.0
) -> Outcome:
    """Test whether circuit or model (scores [n]) scores higher too often.

    Statistic k/n: share of examples on which the circuit scores higher, ties (differences up to
    `tie`) counting ½. p = P(|J/n - ½| ≥ |k/n - ½|) for J ~ Binomial(n, ½ + ε), the edge of the
    null hypothesis |P(s(C) > s(N)) - ½| < ε.
    """
    from scipy.stats import binom

    difference = np.asarray(circuit, np.float64) - np.asarray(model, np.float64)
    n = len(difference)
    twice = 2 * int((difference > tie).sum()) + int((np.abs(difference) <= tie).sum())
    outcomes = np.arange(n + 1)
    extreme = np.abs(2 * outcomes - n) >= abs(twice - n)  # in whole numbers: no rounding
    p = math.fsum(binom.pmf(outcomes[extreme], n, 0.5 + epsilon))
    return Outcome(twice / (2 * n), min(p, 1.0), n)


# ---------------------------------------------------------------- independence
def independence(
    complement: ArrayLike,
    model: ArrayLike,
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> Outcome:
    """Test whether the scores [n] of the complement still depend on those of the model.

    Statistic: HSIC (Gretton et al. 2007) with Gaussian kernels, widths by the median heuristic.
    p: share of permutations of the examples whose HSIC is at least as large, the identity
    counted among them.
    """
    kernel, other = gaussian_kernel(complement), gaussian_kernel(model)
    n = len(kernel)
    centring = np.eye(n) - 1 / n
    kernel = centring @ kernel @ centring
    statistic = float((kernel * other).sum())
    drawn = np.empty(permutations)
    for index in range(permutations):
        order = rng.permutation(n)
        drawn[index] = (kernel * other[np.ix_(order, order)]).sum()
    rounding = 1e-12 * n * n  # a kernel's values are at most 1
    above = int((drawn >= statistic - rounding).sum())
    return Outcome(statistic / n**2, (1 + above) / (1 + permutations), n)


def gaussian_kernel(values: ArrayLike) -> Floats:
    """exp(-(x - y)² / 2σ²) of all pairs [n, n]; σ is the median distance of unequal values.

    Equal values are left out, because scores with many ties would make the median 0. If all are
    equal, all kernel values are 1 (and HSIC is 0).
    """
    x = np.asarray(values, np.float64)
    distances = np.abs(x[:, None] - x[None, :])
    unequal = distances[distances > 0]
    sigma = float(np.median(unequal)) if len(unequal) else 1.0
    kernel: Floats = np.exp(-((distances / sigma) ** 2) / 2)
    return kernel


# ---------------------------------------------------------------- minimality
def minimality(
    effects: ArrayLike, reference: ArrayLike, quantile: float = QUANTILE, tie: float = 0.0
) -> Floats:
    """For each edge the p [E] of beating so few of the reference effects; not yet corrected.

    `effects` [E]: what dropping each edge of the circuit does. `reference` [R]: what dropping
    random added edges does. With B of them beaten (ties, up to `tie`, count ½, rounded up in the
    edge's favour): p = P(J ≤ B), J ~ Binomial(R, quantile). Correct with `holm`.
    """
    from scipy.stats import binom

    against = np.asarray(reference, np.float64)
    difference = np.asarray(effects, np.float64)[:, None] - against
    ties = (np.abs(difference) <= tie).sum(1)
    beaten = (difference > tie).sum(1) + (ties + 1) // 2
    p_values: Floats = binom.cdf(beaten, len(against), quantile)
    return p_values


def holm(p: ArrayLike) -> Floats:
    """Holm's (1979) adjusted p-values [m]: max over j ≤ i of min(1, (m - j)·p_(j)), j from 0.

    Rejecting where they are at most α keeps the chance of any false rejection at α, however the
    tests depend on each other.
    """
    raw = np.asarray(p, np.float64)
    order = np.argsort(raw, kind="stable")
    factors = np.arange(len(raw), 0, -1)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * raw[order]), 1.0)
    return adjusted
