"""Repeats: every prompt of a split before any comes again; 100,000 pairs of the paper's tasks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from harness.datasets import stream
from harness.datasets.open import open_data
from harness.datasets.pairs import PromptPairs
from harness.datasets.repeats import count_prompts, pairs_with_repeats
from harness.errors import HarnessError
from harness.spec.load import Library

MANY = 100_000
BYTES = {"ioi_t1": 80, "ioi": 104, "greater_than": 256, "gendered_pronoun": 64}


def prompts(pairs: PromptPairs) -> list[bytes]:
    """The clean prompts, padding and all."""
    return [row.astype(np.int64).tobytes() for row in pairs.clean]


@pytest.mark.parametrize("name", ["gendered_pronoun", "known/reverse", "bracket_matching"])
def test_enough_prompts_are_those_without_repeats(name: str) -> None:
    data = open_data(Library().task(name))
    n = len(data.pairs("train", 40, 3, at_most=True))
    assert pairs_with_repeats(data, "train", n, 3).digest() == data.pairs("train", n, 3).digest()


@pytest.mark.parametrize("name", ["gendered_pronoun", "known/reverse"])
def test_no_prompt_comes_once_more_before_all_have_come(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "PATIENCE", 5000)
    data = open_data(Library().task(name))
    all_of_it = data.pairs("train", 10**5, 3, at_most=True)
    distinct = len(all_of_it)
    n = 3 * distinct + distinct // 2
    pairs = pairs_with_repeats(data, "train", n, 3)
    assert (len(pairs), count_prompts(pairs)) == (n, distinct)
    found = prompts(pairs)
    assert set(found) == set(prompts(all_of_it))
    assert Counter(Counter(found).values()) == {3: distinct - distinct // 2, 4: distinct // 2}
    for at in range(0, n, distinct):
        part = found[at : at + distinct]
        assert len(set(part)) == len(part)
    assert found[:distinct] != found[distinct : 2 * distinct]  # in another order
    assert pairs.digest() == pairs_with_repeats(data, "train", n, 3).digest()
    assert pairs.digest() != pairs_with_repeats(data, "train", n, 4).digest()


def test_prompts_that_come_again_have_twins_of_their_own() -> None:
    data = open_data(Library().task("gendered_pronoun"))
    pairs = pairs_with_repeats(data, "train", 20_000, 0)
    twins = np.hstack([pairs.clean, pairs.corrupted])
    assert len(np.unique(twins, axis=0)) > 0.95 * 20_000 > 3 * count_prompts(pairs)


def test_a_split_without_prompts_cannot_repeat_them() -> None:
    data = open_data(Library().task("gendered_pronoun"))
    with pytest.raises(HarnessError, match="unknown split 'dev'"):
        pairs_with_repeats(data, "dev", 4, 0)


@pytest.mark.parametrize("name", BYTES)
def test_the_papers_tasks_give_100_000_pairs_of_few_bytes(name: str) -> None:
    data = open_data(Library().task(name))
    pairs = pairs_with_repeats(data, "train", MANY, 0)
    assert len(pairs) == MANY
    assert pairs.nbytes < BYTES[name] * MANY
    distinct = {"greater_than": 53_717, "gendered_pronoun": 4_910}.get(name, MANY)
    assert count_prompts(pairs) == distinct
