"""Arithmetic: right results, twins that share nothing, and tokenizers that do not fit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.word_tokenizer import write_tokenizer

from harness.datasets.generators import generator
from harness.datasets.generators.spec import GeneratorData
from harness.datasets.pairs import NO_TARGET, TaskData
from harness.errors import HarnessError
from harness.spec.types import TokenizerSpec

OPERATIONS = {"addition": "+", "subtraction": "-"}


def opened(tokenizer: Path | None = None, **params: Any) -> TaskData:
    spec = TokenizerSpec(kind="words", bos=True)
    if tokenizer is not None:
        spec = TokenizerSpec(kind="file", path=str(tokenizer), bos=True)
    data = GeneratorData(generator="arithmetic", params=params)
    return generator("arithmetic").open_data(data, spec)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    path = tmp_path / "tokenizer.json"
    write_tokenizer(path, ())
    return path


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", ["words", "file"])
def test_answers_are_the_results_and_twins_are_other_prompts(
    operation: str, kind: str, tokenizer: Path
) -> None:
    task = opened(tokenizer if kind == "file" else None, operation=operation)
    sign = OPERATIONS[operation]
    shown = re.compile(rf"(\d\d) \{sign} (\d\d) = ?")
    for split in task.splits:
        pairs = task.pairs(split, 200, 0)
        assert (pairs.lengths == task.longest).all()
        np.testing.assert_array_equal(pairs.positions, pairs.lengths[:, None] - 1)
        assert (pairs.clean[:, 0] == task.tokenizer.bos).all()
        for clean, twin, good, bad in zip(
            pairs.clean, pairs.corrupted, pairs.good[:, 0, 0], pairs.bad[:, 0, 0], strict=True
        ):
            found = [shown.fullmatch(task.tokenizer.decode(one[1:])) for one in (clean, twin)]
            (a, b), (c, d) = ((int(one[1]), int(one[2])) for one in found if one)
            results = [a + b, c + d] if operation == "addition" else [a - b, c - d]
            assert [int(task.tokenizer.decode([one])) for one in (good, bad)] == results
            assert a != c
            assert b != d
            assert results[0] != results[1]
            assert min(results) >= 0


def test_every_prompt_of_a_small_range_can_be_drawn_once() -> None:
    task = opened(operation="subtraction", operands=[1, 9])
    pairs = [task.pairs(split, 45, 0, at_most=True) for split in task.splits]
    prompts = {task.tokenizer.decode(row[1:]) for one in pairs for row in one.clean}
    assert prompts == {f"{a} - {b} =" for a in range(1, 10) for b in range(1, a + 1)}
    assert sum(len(one) for one in pairs) == 45


@pytest.mark.parametrize("objective", ["answer", "next_token"])
def test_training_batches_end_in_the_result(objective: Any) -> None:
    task = opened(operands=[10, 30])
    batch = task.training_batch(objective, 16, 0, 0)
    for tokens, length, targets in zip(batch.tokens, batch.lengths, batch.targets, strict=True):
        a, b = (int(task.tokenizer.decode([tokens[at]])) for at in (1, 3))
        assert targets[length - 1] == task.tokenizer.single(str(a + b))
        others = targets[: length - 1]
        np.testing.assert_array_equal(
            others,
            tokens[1:length] if objective == "next_token" else np.full_like(others, NO_TARGET),
        )


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"operands": [5]}, "smallest and largest, in order and from 0 on"),
        ({"operands": [9, 2]}, "smallest and largest, in order and from 0 on"),
        ({"operands": [-1, 2]}, "smallest and largest, in order and from 0 on"),
        ({"operands": [0, 1000]}, "more than 1000 numbers"),
        ({"operation": "division"}, "'division' is not"),
    ],
)
def test_impossible_parameters_are_named(params: dict[str, Any], said: str) -> None:
    with pytest.raises(HarnessError, match=said):
        opened(**params)


def test_numbers_of_different_lengths_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    write_tokenizer(path, ())
    text = json.loads(path.read_text())
    text["pre_tokenizer"]["pattern"]["Regex"] = r"[0-9]|\s|[^\w\s]"  # a token for each digit
    path.write_text(json.dumps(text))
    with pytest.raises(HarnessError, match=r"different numbers of tokens .* not aligned"):
        opened(path, operands=[5, 15])
    with pytest.raises(HarnessError, match="'20' must be exactly one token but is 2: '2' '0'"):
        opened(path, operands=[10, 15])


def test_a_tokenizer_that_joins_space_and_number_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    write_tokenizer(path, ())
    text = json.loads(path.read_text())
    text["pre_tokenizer"]["pattern"]["Regex"] = r" ?[0-9]{1,3}|\s|[^\w\s]"
    vocabulary = text["model"]["vocab"]
    vocabulary.update({f" {one}": len(vocabulary) + one for one in range(1000)})
    path.write_text(json.dumps(text))
    task = opened(path)
    for refused in (
        lambda: task.pairs("test", 2, 0),
        lambda: task.training_batch("answer", 2, 0, 0),
    ):
        with pytest.raises(
            HarnessError, match=r"answer '\d+' is not how '\d\d \+ \d\d = ' goes on"
        ):
            refused()
