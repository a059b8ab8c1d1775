"""A matrix loses no value of a parameter, and the rest of it is slow, not gone."""

from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.matrix import covering


def matrix(*lengths: int) -> list[dict[str, int]]:
    return [
        {f"p{axis}": value for axis, value in enumerate(values)}
        for values in product(*map(range, lengths))
    ]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.booleans())
def test_every_value_or_pair_is_held(lengths, pairs):
    cases = matrix(*lengths)
    kept = [cases[at] for at in covering(cases, pairs)]
    of = min(2 if pairs else 1, len(lengths))
    for axes in combinations(range(len(lengths)), of):
        held = {tuple(case[f"p{axis}"] for axis in axes) for case in kept}
        assert held == set(product(*(range(lengths[axis]) for axis in axes)))


@pytest.mark.parametrize(
    ("lengths", "pairs", "most"), [((20, 4), False, 20), ((8, 3, 5, 2), True, 44), ((7,), False, 7)]
)
def test_few_are_kept_and_values_evenly(lengths, pairs, most):
    cases = matrix(*lengths)
    kept = covering(cases, pairs)
    assert len(kept) <= most
    if not pairs:
        for axis, length in enumerate(lengths):
            counts = [sum(cases[at][f"p{axis}"] == value for at in kept) for value in range(length)]
            assert max(counts) - min(counts) <= 1


def test_holes_in_a_matrix_are_no_fault():
    cases = [case for case in matrix(3, 3) if case != {"p0": 0, "p1": 0}]
    assert {case["p0"] for at in covering(cases) if (case := cases[at])} == {0, 1, 2}


def test_the_rest_is_slow_and_not_gone(pytester):
    pytester.makeconftest(
        "from support.matrix import mark_the_rest_slow\n"
        "import pytest\n"
        "def pytest_configure(config):\n"
        "    config.addinivalue_line('markers', 'matrix')\n"
        "    config.addinivalue_line('markers', 'slow')\n"
        "@pytest.hookimpl(tryfirst=True)\n"
        "def pytest_collection_modifyitems(items): mark_the_rest_slow(items)\n"
    )
    pytester.makepyfile(
        "import pytest\n"
        "@pytest.mark.matrix\n"
        "@pytest.mark.parametrize('a', range(4))\n"
        "@pytest.mark.parametrize('b', range(3))\n"
        "def test_it(a, b): pass\n"
        "def test_other(): pass\n"
    )
    pytester.inline_run("-m", "not slow", "-p", "no:xdist").assertoutcome(passed=5)
    pytester.inline_run("-m", "slow", "-p", "no:xdist").assertoutcome(passed=8)
    pytester.inline_run("-p", "no:xdist", "-k", "test_it[2-3]", "-m", "not slow")
