"""Pairs: buckets, digests, targets."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.datasets.pairs import (
    NO_TARGET,
    PromptPairs,
    answer_batch,
    join_pairs,
    mixed_lengths,
    next_token_targets,
    padded,
    pick_answers,
)


def make(lengths: list[int]) -> PromptPairs:
    n, width = len(lengths), max([1, *lengths])
    sizes = np.array(lengths, dtype=np.int64)
    tokens = np.arange(n * width, dtype=np.int64).reshape(n, width) + 1
    tokens[np.arange(width) >= sizes[:, None]] = 0
    return PromptPairs(
        tokens,
        tokens * 2,
        sizes,
        sizes[:, None] - 1,
        np.arange(n).reshape(n, 1, 1),
        np.arange(n).reshape(n, 1, 1) + 1,
    )


@given(st.lists(st.integers(1, 6), min_size=1, max_size=30), st.integers(1, 7))
def test_buckets_cover_every_pair_once_and_hold_no_padding(lengths: list[int], size: int) -> None:
    pairs = make(lengths)
    seen: list[int] = []
    for indices, bucket in pairs.buckets(size):
        assert 1 <= len(bucket) <= size
        assert set(bucket.lengths) == {bucket.clean.shape[1]} == {bucket.corrupted.shape[1]}
        assert (bucket.clean > 0).all()
        np.testing.assert_array_equal(bucket.good, pairs.good[indices])
        np.testing.assert_array_equal(
            bucket.clean, pairs.clean[indices][:, : bucket.clean.shape[1]]
        )
        seen += indices.tolist()
    assert sorted(seen) == list(range(len(pairs)))


def test_a_bucket_needs_a_size() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        list(make([2]).buckets(0))


def test_digest_sees_contents_shapes_and_names() -> None:
    pairs = make([2, 3])
    assert pairs.digest() == make([2, 3]).digest()
    swapped = PromptPairs(
        pairs.corrupted, pairs.clean, pairs.lengths, pairs.positions, pairs.good, pairs.bad
    )
    reshaped = PromptPairs(
        pairs.clean, pairs.corrupted, pairs.lengths, pairs.positions, pairs.good[:, 0], pairs.bad
    )
    digests = {one.digest() for one in (pairs, swapped, reshaped, pairs.take([1, 0]))}
    assert len(digests) == 4


def test_digest_is_frozen() -> None:
    """Stored results name their data by this digest."""
    assert make([2, 3]).digest() == (
        "48ac16284f99865715fc9d01ba1ac1eb7011f83d1935a25c89250781bebf2844"
    )


def test_narrow_pairs_are_equal_and_of_the_fewest_bytes() -> None:
    pairs = make([2, 3])
    narrow = pairs.narrowed()
    assert narrow.digest() == pairs.digest()
    assert narrow.nbytes == pairs.nbytes // 8
    for last, size in ((127, 1), (128, 2), (2**15 - 1, 2), (2**15, 4), (2**31, 8)):
        wide = replace(pairs, clean=np.array([[-1, 0], [last, 1]]))
        assert wide.narrowed().clean.itemsize == size
        np.testing.assert_array_equal(wide.narrowed().clean, wide.clean)
    empty = pairs.take([]).narrowed()
    assert (len(empty), empty.clean.dtype) == (0, np.int8)


def test_joined_pairs_are_padded_as_if_made_together() -> None:
    pairs = make([2, 3, 4, 2])
    parts = [pairs.take([0]), pairs.take([]), pairs.take([1, 2, 3])]
    parts[0] = replace(parts[0], clean=parts[0].clean[:, :2], good=np.array([[[0, 300]]]))
    joined = join_pairs([parts[0].narrowed(), *parts[1:]])
    np.testing.assert_array_equal(joined.clean, pairs.clean)
    np.testing.assert_array_equal(joined.good[:, 0], [[0, 300], [1, -1], [2, -1], [3, -1]])
    for name in ("corrupted", "lengths", "positions", "bad"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(pairs, name))


def test_digest_of_many_pairs_is_that_of_all_rows_at_once() -> None:
    pairs = make([3] * 5000)
    total = hashlib.sha256()
    for name, array in vars(pairs).items():
        total.update(f"{name}{array.shape}".encode() + array.astype("<i8").tobytes())
    assert pairs.digest() == pairs.narrowed().digest() == total.hexdigest()


def test_next_token_targets_end_with_the_answer() -> None:
    tokens = np.array([[5, 6, 7], [8, 0, 0]])
    targets = next_token_targets(tokens, np.array([3, 1]), np.array([1, 2]))
    np.testing.assert_array_equal(targets, [[6, 7, 1], [2, NO_TARGET, NO_TARGET]])


def test_answer_batch_is_soft_only_with_several_answers() -> None:
    tokens, lengths = np.array([[5, 6, 7], [3, 4, 0]]), np.array([3, 2])
    hard = answer_batch(tokens, lengths, np.array([[1], [2]]), 9)
    assert hard.allowed is None
    np.testing.assert_array_equal(
        hard.targets, [[NO_TARGET, NO_TARGET, 1], [NO_TARGET, 2, NO_TARGET]]
    )
    soft = answer_batch(tokens, lengths, np.array([[1, 8], [2, -1]]), 9)
    assert soft.allowed is not None
    assert [tuple(place) for place in np.argwhere(soft.allowed)] == [
        (0, 2, 1),
        (0, 2, 8),
        (1, 1, 2),
    ]


def test_pick_answers_never_picks_padding() -> None:
    good = np.array([[4, 5, -1]] * 3)
    assert pick_answers(np.array([0.0, 0.49, 0.999]), good).tolist() == [4, 4, 5]


def test_padded_has_at_least_the_width() -> None:
    np.testing.assert_array_equal(padded([[1], []], 0, 2), [[1, 0], [0, 0]])


def test_several_lengths_are_named_and_one_is_no_problem() -> None:
    assert mixed_lengths(make([4, 4]), make([4])) is None
    assert "have 4, 6 tokens" in str(mixed_lengths(make([4, 4]), make([6])))
    many = str(mixed_lengths(make([3, 4, 5]), make([6, 7, 8, 9, 10])))
    assert "have 3, 4, 5, 6, 7, 8 and 2 other numbers of tokens" in many
