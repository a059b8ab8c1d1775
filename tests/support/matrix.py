"""Which cases of a matrix the fast suite runs: few that hold every value, or every pair of values.

A test marked `matrix` runs in the fast suite with these cases alone; the others are `slow`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, groupby

import pytest

Case = Mapping[str, object]
"""The value of each parameter, or what stands for it: equal for equal values alone."""


def covering(cases: Sequence[Case], pairs: bool = False) -> list[int]:
    """Places of cases that hold every value of each parameter, or every pair of two's values.

    Greedy: the case with the most that is new comes next, of equal ones that whose values are the
    rarest so far, then the first.
    """
    parts = [set(combinations(case.items(), min(len(case), 2 if pairs else 1))) for case in cases]
    missing = set().union(*parts)
    used: Counter[tuple[str, object]] = Counter()
    chosen = []
    while missing:
        best = max(
            range(len(cases)),
            key=lambda at: (
                len(parts[at] & missing),
                -sum(used[one] for one in cases[at].items()),
                -at,
            ),
        )
        chosen.append(best)
        missing -= parts[best]
        used.update(cases[best].items())
    return sorted(chosen)


def mark_the_rest_slow(items: Iterable[pytest.Item]) -> None:
    """Mark all cases of `matrix` tests but the chosen ones."""
    marked = (one for one in items if one.get_closest_marker("matrix") and _case(one))
    for _, group in groupby(marked, key=lambda one: one.nodeid.partition("[")[0]):
        tests = list(group)
        marker = tests[0].get_closest_marker("matrix")
        assert marker is not None
        fast = [one for one in tests if one.get_closest_marker("slow") is None]
        kept = covering([_case(one) for one in fast], **marker.kwargs)
        for at, one in enumerate(fast):
            if at not in kept:
                one.add_marker(pytest.mark.slow)


def _case(item: pytest.Item) -> Case:
    callspec = getattr(item, "callspec", None)
    return {} if callspec is None else {name: repr(x) for name, x in callspec.params.items()}
