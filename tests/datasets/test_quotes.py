"""Quotes, checked by an independent scanner of the little language."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.datasets.generators.params import read_params
from harness.datasets.generators.quotes.bank import ALPHABET
from harness.datasets.generators.quotes.source import QuoteParams, Quotes
from harness.datasets.pairs import NO_TARGET
from harness.datasets.splits import Shares
from harness.datasets.stream import StreamData


def scan(text: str) -> tuple[list[str], list[int]]:
    """Return, after every character, the quote of the open string ("" = none) and its place."""
    quote, place, escaped, comment = "", -1, False, False
    inside, places = [], []
    for at, letter in enumerate(text):
        if comment:
            comment = letter != "\n"
        elif not quote:
            if letter in "'\"`":
                quote, place = letter, at
            elif letter == "#":
                comment = True
        elif escaped:
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter == quote:
            quote, place = "", -1
        else:
            assert letter != "\n", f"a string over two lines: {text!r}"
        inside.append(quote)
        places.append(place)
    assert not escaped, f"ends within an escape: {text!r}"
    return inside, places


def open_task(bos: bool = True, seed: int = 0) -> StreamData:
    return StreamData(Quotes(QuoteParams(), bos, seed), Shares({}, seed))


@pytest.mark.parametrize("bos", [False, True])
def test_answers_and_twins(bos: bool) -> None:
    task = open_task(bos)
    pairs = task.pairs("test", 400, 0)
    tokens = task.tokenizer.tokens
    for index, length in enumerate(pairs.lengths):
        clean = "".join(tokens[i] for i in pairs.clean[index, bos:length])
        twin = "".join(tokens[i] for i in pairs.corrupted[index, bos:length])
        (inside, places), (others, other_places) = scan(clean), scan(twin)
        assert tokens[pairs.good[index, 0, 0]] == inside[-1]
        assert tokens[pairs.bad[index, 0, 0]] == others[-1]
        assert inside[-1] != others[-1]
        changed = [at for at in range(len(clean)) if clean[at] != twin[at]]
        assert changed == [places[-1]] == [other_places[-1]]
        assert 2 <= len(clean) - 1 - places[-1] <= 16
        assert pairs.positions[index, 0] == length - 1


def test_dense_targets_are_the_quotes_due() -> None:
    task = open_task()
    batch = task.training_batch("answer", 200, 0, 0)
    tokens = task.tokenizer.tokens
    for row, length, targets in zip(batch.tokens, batch.lengths, batch.targets, strict=True):
        inside, _ = scan("".join(tokens[i] for i in row[1:length]))
        found = ["" if target == NO_TARGET else tokens[target] for target in targets]
        assert found == ["", *inside] + [""] * (len(row) - length)


def test_distractors_are_there() -> None:
    """No shortcut: quotes seen before, in comments, and escaped ones must not give it away."""
    task = open_task()
    pairs = task.pairs("train", 1000, 0)
    texts = [task.tokenizer.decode(row[1:length]) for row, length in
             zip(pairs.clean, pairs.lengths, strict=True)]  # fmt: skip
    good = [task.tokenizer.tokens[i] for i in pairs.good[:, 0, 0]]
    last = [text[max(text.rfind(quote) for quote in "'\"`")] for text in texts]
    first = [next(letter for letter in text if letter in "'\"`") for text in texts]
    assert np.mean([a == b for a, b in zip(last, good, strict=True)]) < 0.7
    assert np.mean([a == b for a, b in zip(first, good, strict=True)]) < 0.7
    assert np.mean(["#" in text for text in texts]) > 0.4
    assert np.mean(["\\" in text for text in texts]) > 0.4
    for quote in "'\"`":
        assert 0.28 < np.mean([one == quote for one in good]) < 0.39


@given(
    st.lists(st.integers(20, 80), min_size=1, max_size=3, unique=True),
    st.integers(1, 20),
    st.integers(0, 20),
    st.integers(0, 9),
)
@settings(max_examples=40, deadline=None)
def test_every_accepted_parameter_set_gives_valid_prompts(
    lengths: list[int], fewest: int, more: int, seed: int
) -> None:
    params, _ = read_params(QuoteParams, {"lengths": lengths, "content": [fewest, fewest + more]})
    if params is None:
        return
    source = Quotes(params, False, 0)
    rows = source.draw(np.random.default_rng(seed), 30, "train", paired=True)
    for tokens, length in zip(rows["tokens"], rows["lengths"], strict=True):
        text = source.tokenizer.decode(tokens[:length])
        inside, places = scan(text)
        assert inside[-1]
        assert fewest <= len(text) - 1 - places[-1] <= fewest + more


def test_alphabet_is_small_and_all_used() -> None:
    assert len(set(ALPHABET)) == len(ALPHABET) <= 60
    task = open_task()
    used = np.unique(task.training_batch("answer", 500, 0, 0).tokens)
    assert len(used) == task.tokenizer.size


def test_impossible_params() -> None:
    for params, name in (
        ({"lengths": [20]}, "lengths"),
        ({"content": [5, 2]}, "content"),
        ({"content": [5]}, "content"),
    ):
        assert [one for one, _ in read_params(QuoteParams, params)[1]] == [name]


def test_reproducible_and_frozen() -> None:
    first = open_task().pairs("test", 50, 1)
    assert first.digest() == open_task().pairs("test", 50, 1).digest()
    assert first.digest() == "cc2167d3b569176fa4fe31a662181ceefb065c72716c2fe9f99c4109e7a06332"
