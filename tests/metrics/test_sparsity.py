"""Bits against whole numbers, and their laws."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics.sparsity import bits, sparsity

TOTALS = st.integers(0, 3000)


@st.composite
def circuits(draw: st.DrawFn) -> tuple[int, int]:
    """Elements kept, and elements of the space."""
    total = draw(TOTALS)
    return draw(st.integers(0, total)), total


@given(circuits())
def test_bits_are_the_logarithm_of_the_number_of_circuits(circuit: tuple[int, int]) -> None:
    kept, total = circuit
    found = bits(kept, total)
    assert found == pytest.approx(math.log2(math.comb(total, kept)), rel=1e-10, abs=1e-10)
    assert 0 <= found <= total


@given(TOTALS)
def test_the_empty_circuit_and_the_whole_space_need_no_message(total: int) -> None:
    assert bits(0, total) == bits(total, total) == 0.0


@given(circuits())
def test_naming_what_is_kept_is_naming_what_is_dropped(circuit: tuple[int, int]) -> None:
    kept, total = circuit
    assert bits(kept, total) == pytest.approx(bits(total - kept, total), abs=1e-9)


@given(circuits())
def test_one_more_element_costs_more_up_to_half_of_the_space(circuit: tuple[int, int]) -> None:
    kept, total = circuit
    if 2 * (kept + 1) <= total:
        assert bits(kept + 1, total) > bits(kept, total)


def test_bits_of_large_spaces() -> None:
    assert bits(1, 2**30) == pytest.approx(30, rel=1e-6)
    # GPT-2 small: 1 % of its edges.
    assert bits(325, 32491) == pytest.approx(math.log2(math.comb(32491, 325)), rel=1e-12)


@pytest.mark.parametrize(("kept", "total"), [(-1, 5), (6, 5)])
def test_what_does_not_fit_is_refused(kept: int, total: int) -> None:
    with pytest.raises(ValueError, match=f"{kept} elements do not fit into a space of 5"):
        bits(kept, total)


def test_sparsity_is_the_share_that_is_not_used() -> None:
    assert (sparsity(0, 8), sparsity(2, 8), sparsity(8, 8)) == (1, 0.75, 0)
