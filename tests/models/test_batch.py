"""Batches hold every pair once, without padding, each with a partner of its length."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.datasets.pairs import PromptPairs
from harness.models.batch import batches


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
    for batch in batches(pairs, size):
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
    for batch in batches(pairs, size, seed=5):
        for row, other in zip(batch.rows.tolist(), batch.other.tolist(), strict=True):
            found[row] = other
            assert other != pairs.clean[row, : len(other)].tolist()
    whole = {
        row: other
        for batch in batches(pairs, 100, seed=5)
        for row, other in zip(batch.rows.tolist(), batch.other.tolist(), strict=True)
    }
    assert found == whole
    different = next(iter(batches(pairs, 100, seed=6))).other
    assert different.tolist() != [whole[row] for row in range(9)]


def test_values_go_back_to_the_positions_they_were_read_at(random_batch):
    """The transpose of reading: <read x, y> = <x, y put back>, also for a position read twice."""
    batch = replace(random_batch(), positions=torch.tensor([[3, 1], [2, 2], [4, 0]]))
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, *batch.clean.shape, 5, generator=draw, dtype=torch.float64)
    y = torch.randn(2, 3, 2, 5, generator=draw, dtype=torch.float64)
    found, wanted = (x * batch.from_positions(y)).sum(), (batch.at_positions(x) * y).sum()
    torch.testing.assert_close(found, wanted, rtol=1e-13, atol=1e-13)


def test_a_length_with_one_pair_has_no_partner():
    last = list(batches(pairs_of([3, 3, 4]), 10))[-1]
    assert last.other is None
