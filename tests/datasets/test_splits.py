"""Splits by hash: shares, stability, independence of padding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.datasets.splits import DEFAULT_SHARES, Shares, hash_rows, share_problems
from harness.errors import HarnessError


def random_rows(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 3, (n, 12)), np.full(n, 12)


def test_shares_are_met_even_by_tiny_alphabets() -> None:
    shares = Shares({}, seed=3)
    tokens, lengths = random_rows(100_000)
    found = np.bincount(shares.of(hash_rows(tokens, lengths, 3)), minlength=3) / len(tokens)
    # 100,000 draws with repeats of 3^12 rows: four standard errors are below 0.006
    np.testing.assert_allclose(found, list(DEFAULT_SHARES.values()), atol=0.006)


def test_hashes_do_not_collide() -> None:
    tokens, lengths = random_rows(200_000)
    distinct = len(np.unique(tokens, axis=0))
    assert len(np.unique(hash_rows(tokens, lengths, 0))) == distinct


@given(
    st.lists(st.integers(0, 60_000), min_size=1, max_size=12),
    st.integers(0, 5),
    st.integers(0, 2**32 - 1),
)
def test_a_hash_depends_on_the_prompt_alone(row: list[int], pad: int, seed: int) -> None:
    plain = hash_rows(np.array([row]), np.array([len(row)]), seed)
    wide = hash_rows(np.array([[*row, *[7] * pad]]), np.array([len(row)]), seed)
    assert plain == wide


def test_token_zero_at_the_end_is_not_padding() -> None:
    tokens = np.array([[4, 0], [4, 0]])
    one, two = hash_rows(tokens, np.array([1, 2]), 0)
    assert one != two


def test_hash_is_frozen() -> None:
    """Splits must never move: trained models and results rest on them."""
    tokens = np.array([[1, 2, 3], [3, 2, 1]])
    assert hash_rows(tokens, np.array([3, 2]), 7).tolist() == [
        16144368913075583558,
        14064900115531636781,
    ]


def test_extra_splits_own_no_hashes() -> None:
    shares = Shares({}, 0, ("new_frames",))
    assert shares.names == ("train", "validation", "test", "new_frames")
    assert shares.of(np.array([0, 2**64 - 1], dtype=np.uint64)).tolist() == [0, 2]


def test_a_share_of_zero_gets_nothing() -> None:
    shares = Shares({"train": 0.5, "validation": 0.5, "test": 0.0}, 0)
    tokens, lengths = random_rows(5000)
    assert set(shares.of(hash_rows(tokens, lengths, 0)).tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"train": 1.0}, "validation, test missing"),
        ({"train": 0.5, "validation": 0.1, "test": 0.1}, "add up to 0.7"),
        ({"train": 1.2, "validation": -0.1, "test": -0.1}, "not in 0 … 1"),
    ],
)
def test_impossible_shares(shares: dict[str, float], message: str) -> None:
    assert any(message in problem for problem in share_problems(shares))
    with pytest.raises(HarnessError, match=r"data\.shares"):
        Shares(shares, 0)


def test_unknown_split_names_the_known_ones() -> None:
    with pytest.raises(HarnessError, match="did you mean 'test'"):
        Shares({}, 0).index("tset")
