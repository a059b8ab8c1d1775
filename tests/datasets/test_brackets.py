"""Brackets, checked by an independent scanner."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.datasets.generators.brackets import BracketParams, Brackets, up_probabilities
from harness.datasets.generators.params import read_params
from harness.datasets.pairs import NO_TARGET
from harness.datasets.splits import Shares
from harness.datasets.stream import StreamData
from harness.errors import HarnessError

CLOSER = {"(": ")", "[": "]", "{": "}"}


def scan(text: str) -> tuple[list[str], list[int]]:
    """Return the innermost open bracket after every character ("" = none) and its place."""
    stack: list[tuple[str, int]] = []
    inside, places = [], []
    for place, letter in enumerate(text):
        if letter in CLOSER:
            stack.append((letter, place))
        else:
            assert CLOSER[stack.pop()[0]] == letter, text
        inside.append(stack[-1][0] if stack else "")
        places.append(stack[-1][1] if stack else -1)
    return inside, places


def depth(text: str) -> int:
    return int(max(np.cumsum([1 if letter in CLOSER else -1 for letter in text])))


def open_task(params: BracketParams | None = None, bos: bool = True, seed: int = 0) -> StreamData:
    return StreamData(Brackets(params or BracketParams(), bos), Shares({}, seed))


@pytest.mark.parametrize("bos", [False, True])
def test_answers_and_twins(bos: bool) -> None:
    task = open_task(bos=bos)
    pairs = task.pairs("test", 300, 0)
    tokens = task.tokenizer.tokens
    for index, length in enumerate(pairs.lengths):
        clean = "".join(tokens[i] for i in pairs.clean[index, bos:length])
        twin = "".join(tokens[i] for i in pairs.corrupted[index, bos:length])
        inside, places = scan(clean)
        assert tokens[pairs.good[index, 0, 0]] == CLOSER[inside[-1]]
        assert tokens[pairs.bad[index, 0, 0]] == CLOSER[scan(twin)[0][-1]]
        changed = [place for place in range(len(clean)) if clean[place] != twin[place]]
        assert changed == [places[-1]]
        assert depth(clean) <= 5
        assert len(clean) - 1 - places[-1] >= 2
        assert pairs.positions[index, 0] == length - 1
    assert not (pairs.clean[np.arange(pairs.clean.shape[1]) >= pairs.lengths[:, None]]).any()


@given(
    st.lists(st.integers(1, 25), min_size=1, max_size=3, unique=True),
    st.integers(1, 6),
    st.integers(0, 3),
    st.integers(0, 100),
)
@settings(max_examples=60, deadline=None)
def test_every_accepted_parameter_set_gives_valid_prompts(
    lengths: list[int], max_depth: int, half_distance: int, seed: int
) -> None:
    params, problems = read_params(
        BracketParams,
        {"lengths": lengths, "max_depth": max_depth, "min_distance": 2 * half_distance},
    )
    if params is None:
        assert problems
        return
    source = Brackets(params, bos=False)
    rows = source.draw(np.random.default_rng(seed), 20, "train", paired=True)
    for tokens, length, good in zip(rows["tokens"], rows["lengths"], rows["good"], strict=True):
        text = "".join(source.tokenizer.tokens[i] for i in tokens[:length])
        inside, places = scan(text)
        assert CLOSER[inside[-1]] == source.tokenizer.tokens[good]
        assert depth(text) <= max_depth
        assert length in lengths
        assert length - 1 - places[-1] >= 2 * half_distance


def test_distances_are_spread() -> None:
    pairs = open_task().pairs("train", 1000, 0)
    opener = (pairs.clean != pairs.corrupted).argmax(axis=1)
    distance = pairs.lengths - 1 - opener
    assert (distance >= 10).mean() > 0.35
    assert (distance == 2).mean() < 0.2
    assert set(distance[pairs.lengths == 31]) == set(range(2, 29, 2))


def test_dense_targets_are_the_closers_due() -> None:
    task = open_task()
    batch = task.training_batch("answer", 40, 3, 0)
    tokens = task.tokenizer.tokens
    for row, length, targets in zip(batch.tokens, batch.lengths, batch.targets, strict=True):
        inside, _ = scan("".join(tokens[i] for i in row[1:length]))
        due = ["", *(CLOSER.get(letter, "") for letter in inside)]
        found = ["" if target == NO_TARGET else tokens[target] for target in targets]
        assert found == due + [""] * (len(row) - length)


def test_next_token_targets() -> None:
    task = open_task()
    batch = task.training_batch("next_token", 20, 0, 0)
    answer = task.training_batch("answer", 20, 0, 0)
    rows, last = np.arange(20), batch.lengths - 1
    np.testing.assert_array_equal(batch.tokens, answer.tokens)
    np.testing.assert_array_equal(batch.targets[rows, last], answer.targets[rows, last])
    np.testing.assert_array_equal(batch.targets[:, 0], batch.tokens[:, 1])


def test_walks_are_uniform() -> None:
    """The up-probabilities of small walks agree with counting all of them."""

    def ways(cap: int, target: int, left: int, height: int) -> int:
        if not 0 <= height <= cap:
            return 0
        if not left:
            return int(height == target)
        return sum(ways(cap, target, left - 1, height + step) for step in (1, -1))

    for cap in range(4):
        for target in range(cap + 1):
            chance = up_probabilities(cap, target, 6, 3)
            for left in range(1, 7):
                for height in range(cap + 1):
                    total = ways(cap, target, left, height)
                    up = ways(cap, target, left - 1, height + 1)
                    wanted = up / total if total else 0
                    assert chance[left, height] == pytest.approx(wanted, abs=1e-12)


def test_no_training_prefix_is_a_prompt_of_another_split() -> None:
    params = BracketParams(lengths=(5, 6), max_depth=3)
    task = open_task(params)
    held_out = {
        tuple(row[:length])
        for split in ("validation", "test")
        for pairs in [task.pairs(split, 20, 0)]
        for row, length in zip(pairs.clean.tolist(), pairs.lengths, strict=True)
    }
    for step in range(20):
        batch = task.training_batch("answer", 64, step, 0)
        for row, length in zip(batch.tokens.tolist(), batch.lengths, strict=True):
            assert not {tuple(row[:end]) for end in range(1, length + 1)} & held_out


def test_reproducible_and_frozen() -> None:
    first, again = open_task().pairs("test", 50, 1), open_task().pairs("test", 50, 1)
    assert first.digest() == again.digest()
    assert first.digest() == "138e5bfbbf70c47095ab0f6f65959ba28dcd657e7f2a4b063c5f81bab437affe"
    others = [
        open_task().pairs("test", 50, 2),
        open_task().pairs("train", 50, 1),
        open_task(seed=1).pairs("test", 50, 1),
    ]
    assert len({first.digest(), *(one.digest() for one in others)}) == 4


def test_batches_are_stateless() -> None:
    task = open_task()
    early = task.training_batch("answer", 8, 21, 0)
    task.training_batch("answer", 8, 5, 0)
    for again in (task.training_batch("answer", 8, 21, 0),
                  open_task().training_batch("answer", 8, 21, 0)):  # fmt: skip
        np.testing.assert_array_equal(early.tokens, again.tokens)
        np.testing.assert_array_equal(early.targets, again.targets)
    other = task.training_batch("answer", 8, 22, 0)
    assert not np.array_equal(early.tokens, other.tokens)


def test_too_few_prompts_are_counted() -> None:
    # "()(", "(()" and so on with two kinds: 1 shape "(", kinds 2; length 3 has 1 + 1 shapes
    task = open_task(BracketParams(kinds=("()", "[]"), lengths=(3,), min_distance=2, max_depth=2))
    with pytest.raises(HarnessError, match=r"has only \d distinct prompts, 50 were asked for"):
        task.pairs("train", 50, 0)


@pytest.mark.parametrize(
    ("params", "name", "message"),
    [
        ({"kinds": ["()"]}, "kinds", "at least two kinds"),
        ({"kinds": ["()", "(]"]}, "kinds", "all different"),
        ({"lenghts": [4]}, "lenghts", "did you mean 'lengths'"),
        ({"lengths": 4}, "lengths", "a list, each item a whole number"),
        ({"lengths": [4], "max_depth": 1}, "lengths", "no prompt of 4 brackets"),
        ({"min_distance": 3}, "min_distance", "even"),
        ({"max_depth": True}, "max_depth", "a whole number"),
    ],
)
def test_impossible_params(params: dict[str, object], name: str, message: str) -> None:
    _, problems = read_params(BracketParams, params)
    assert [one for one, _ in problems] == [name]
    assert message in problems[0][1]
