"""How small a circuit of n of the E elements of a space is."""

from __future__ import annotations

import math

from harness.metrics.measure import Measure


def sparsity(kept: int, total: int) -> float:
    """1 - n/E: the share of the space that the circuit does not use."""
    return 1 - kept / total


def bits(kept: int, total: int) -> float:
    """log2 C(E, n): the length in bits of a message that names the circuit, E being known.

    Comparable across granularities, whose elements differ in number. 0 for the empty circuit and
    for the whole space. Raises ValueError unless 0 ≤ n ≤ E.
    """
    if not 0 <= kept <= total:
        raise ValueError(f"{kept} elements do not fit into a space of {total}")
    ways = math.lgamma(total + 1) - math.lgamma(kept + 1) - math.lgamma(total - kept + 1)
    return max(0.0, ways / math.log(2))


MEASURES = (
    Measure(
        "sparsity",
        "sparsity",
        "up",
        "1 - elements kept / elements of the space",
        "standard",
        "size",
        sparsity,
    ),
    Measure(
        "bits",
        "bits",
        "down",
        "log2 C(E, n) of n elements kept out of E: length of a message that names the circuit; "
        "compares circuits of different granularities",
        "this harness",
        "size",
        bits,
        unit="bits",
    ),
)
