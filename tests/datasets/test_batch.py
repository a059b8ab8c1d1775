"""Batches hold every pair once, without padding, each with a partner of its length."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.datasets.batch import Batches
from harness.datasets.pairs import PromptPairs


def pairs_of(lengths):
    n, longest = len(lengths), max(lengths)
    clean = np.arange(n * longest).reshape(n, longest) + 1
    clean[np.arange(longest) >= np.array(lengths)[:, None]] = 0
    answers = np.zeros((n, 1, 1), dtype=np.int64)
    last = np.array(lengths)[:, None] - 1
    return PromptPairs(clean, clean + 1, np.array(lengths), last, answers, answers + 1)


@given(st.lists(st.integers(2, 4), min_size=1, max_size=12), st.integers(1, 5))
def test_every_pair_once_without_padding(lengths, size):
    pairs = pairs_of(lengths)
    rows = []
    for batch in Batches(pairs, size):
        assert len(batch) <= size
        assert (batch.clean > 0).all()
        rows += batch.rows.tolist()
        for row, tokens in zip(batch.rows.tolist(), batch.clean.tolist(), strict=True):
            assert tokens == pairs.clean[row, : lengths[row]].tolist()
    assert sorted(rows) == list(range(len(lengths)))


@pytest.mark.parametrize("size", [1, 4, 100])
def test_partners_are_other_prompts_of_the_same_length_whatever_the_batch_size(size):
    pairs = pairs_of([3] * 9 + [4] * 2)
    found = {}
    for batch in Batches(pairs, size, seed=5):
        for row, other in zip(batch.rows.tolist(), batch.other.tolist(), strict=True):
            found[row] = other
            assert other != pairs.clean[row, : len(other)].tolist()
    whole = {
        row: other
        for batch in Batches(pairs, 100, seed=5)
        for row, other in zip(batch.rows.tolist(), batch.other.tolist(), strict=True)
    }
    assert found == whole
    different = next(iter(Batches(pairs, 100, seed=6))).other
    assert different.tolist() != [whole[row] for row in range(9)]


def test_batches_are_made_anew_and_hold_no_tensors():
    pairs = pairs_of([3, 4, 3, 4, 4])
    found = Batches(pairs, 2, seed=5)
    assert [len(batch) for batch in found] == [2, 2, 1]
    assert not any(isinstance(value, torch.Tensor) for value in vars(found).values())
    first, again = found[0], found[0]
    assert first is not again
    first.clean.zero_()  # what was handed out is nobody else's
    assert again.clean.tolist() == pairs.clean[[0, 2], :3].tolist()
    for one, other in zip(found[1:], list(found)[1:], strict=True):
        assert one.clean.tolist() == other.clean.tolist()
        assert one.other.tolist() == other.other.tolist()
    with pytest.raises(IndexError):
        found[3]


def test_narrow_pairs_make_the_same_batches():
    pairs = pairs_of([3, 4, 3])
    for wide, narrow in zip(Batches(pairs, 2), Batches(pairs.narrowed(), 2), strict=True):
        for name, tensor in vars(narrow).items():
            assert tensor is None or tensor.dtype == torch.int64
            assert tensor is getattr(wide, name) or torch.equal(tensor, getattr(wide, name))


def test_values_go_back_to_the_positions_they_were_read_at(random_batch):
    """The transpose of reading: <read x, y> = <x, y put back>, also for a position read twice."""
    batch = replace(random_batch(), positions=torch.tensor([[3, 1], [2, 2], [4, 0]]))
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, *batch.clean.shape, 5, generator=draw, dtype=torch.float64)
    y = torch.randn(2, 3, 2, 5, generator=draw, dtype=torch.float64)
    found, wanted = (x * batch.from_positions(y)).sum(), (batch.at_positions(x) * y).sum()
    torch.testing.assert_close(found, wanted, rtol=1e-13, atol=1e-13)


def test_a_length_with_one_pair_has_no_partner():
    last = list(Batches(pairs_of([3, 3, 4]), 10))[-1]
    assert last.other is None
