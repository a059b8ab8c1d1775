"""Data files: formats, columns, marked answers, splits, errors by line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.data_files import write

from harness.cli.check import issues_of
from harness.datasets.files.spec import Columns, FileData
from harness.datasets.files.task import open_file
from harness.datasets.pairs import NO_TARGET
from harness.datasets.splits import Shares, fitting_shares
from harness.errors import HarnessError
from harness.spec.load import Library
from harness.spec.types import TokenizerSpec

WORDS = TokenizerSpec(kind="words", bos=True)
DECLARED = Columns(good="answer", bad="wrong", split="split")


def rows(n: int = 30) -> list[dict[str, Any]]:
    return [
        {
            "clean": f"item {number} is",
            "corrupted": f"item {number + 1} is",
            "answer": "odd" if number % 2 else "even",
            "wrong": "even" if number % 2 else "odd",
            "split": ("train", "validation", "test")[number % 3],
        }
        for number in range(n)
    ]


@pytest.mark.parametrize("name", ["d.jsonl", "d.csv", "d.parquet"])
def test_formats_agree(tmp_path: Path, name: str) -> None:
    data = FileData(path=write(tmp_path, name, rows()), columns=DECLARED)
    task = open_file(data, WORDS, tmp_path)
    reference = open_file(
        FileData(path=write(tmp_path, "r.jsonl", rows()), columns=DECLARED), WORDS, tmp_path
    )
    assert task.splits == ("train", "validation", "test")
    assert task.tokenizer.tokens == reference.tokenizer.tokens
    for split in task.splits:
        pairs = task.pairs(split, 10, 0)
        assert pairs.digest() == reference.pairs(split, 10, 0).digest()
        numbers = [int(task.tokenizer.tokens[i]) for i in pairs.clean[:, 2]]
        assert {number % 3 for number in numbers} == {task.splits.index(split)}
        good = [task.tokenizer.tokens[i] for i in pairs.good[:, 0, 0]]
        assert good == ["odd" if number % 2 else "even" for number in numbers]
    with pytest.raises(HarnessError, match="has only 10 distinct prompts, 11 were asked"):
        task.pairs("train", 11, 0)


def test_format_given_explicitly(tmp_path: Path) -> None:
    write(tmp_path, "d.jsonl", rows())
    (tmp_path / "d.jsonl").rename(tmp_path / "data.txt")
    with pytest.raises(HarnessError, match=r"data\.txt: format unknown"):
        open_file(FileData(path="data.txt", columns=DECLARED), WORDS, tmp_path)
    task = open_file(FileData(path="data.txt", columns=DECLARED, format="jsonl"), WORDS, tmp_path)
    assert len(task.pairs("test", 10, 0)) == 10


def test_marked_answers(tmp_path: Path) -> None:
    data = [
        {
            "clean": f"Ann told {name} that <predict>{name}</predict>",
            "corrupted": f"Ann told {other} that <predict>{other}</predict>",
        }
        for name, other in (("Bob", "Cy"), ("Cy", "Dan"), ("Dan", "Bob"), ("Eve", "Bob"))
    ]
    task = open_file(FileData(path=write(tmp_path, "d.jsonl", data)), WORDS, tmp_path)
    for split in task.splits:
        for index in range(4):
            try:
                pairs = task.pairs(split, index + 1, 0)
            except HarnessError:
                break
            tokens = task.tokenizer.tokens
            for clean, twin, good, bad in zip(
                pairs.clean, pairs.corrupted, pairs.good, pairs.bad, strict=True
            ):
                assert tokens[clean[3]] == tokens[good[0, 0]]
                assert tokens[twin[3]] == tokens[bad[0, 0]]


def test_lists_of_answers_are_soft_targets(tmp_path: Path) -> None:
    data = [
        {"clean": f"n {n}", "corrupted": "n 0", "good": ["a", "b"][: 1 + n % 2], "bad": ["c"]}
        for n in range(1, 9)
    ]
    columns = Columns(good="good", bad="bad")
    shares = {"train": 1.0, "validation": 0.0, "test": 0.0}
    for name in ("d.jsonl", "d.parquet"):
        spec = FileData(path=write(tmp_path, name, data), columns=columns, shares=shares)
        task = open_file(spec, WORDS, tmp_path)
        batch = task.training_batch("answer", 40, 0, 0)
        assert batch.allowed is not None
        assert set(batch.allowed[:, -1].sum(axis=1).tolist()) == {1, 2}
        assert (batch.targets[:, :-1] == NO_TARGET).all()
        hard = task.training_batch("next_token", 40, 0, 0)
        assert batch.allowed[np.arange(40), -1, hard.targets[:, -1]].all()


def test_hashed_splits_are_disjoint_and_duplicates_count_once(tmp_path: Path) -> None:
    data = [{**row, "split": None} for row in rows(200)] * 2
    columns = Columns(good="answer", bad="wrong")
    task = open_file(
        FileData(path=write(tmp_path, "d.jsonl", data), columns=columns), WORDS, tmp_path
    )
    seen: list[tuple[int, ...]] = []
    for split in task.splits:
        with pytest.raises(HarnessError, match="has only") as error:
            task.pairs(split, 1000, 0)
        count = int(str(error.value).split("only ")[1].split()[0])
        seen += [tuple(row) for row in task.pairs(split, count, 0).clean.tolist()]
    assert len(seen) == len(set(seen)) == 200


def test_training_batches_are_stateless(tmp_path: Path) -> None:
    spec = FileData(path=write(tmp_path, "d.jsonl", rows()), columns=DECLARED)
    one, two = open_file(spec, WORDS, tmp_path), open_file(spec, WORDS, tmp_path)
    one.training_batch("answer", 8, 0, 0)
    np.testing.assert_array_equal(
        one.training_batch("answer", 8, 3, 1).tokens, two.training_batch("answer", 8, 3, 1).tokens
    )


BAD_LINES = """\
{"clean": "a b", "corrupted": "a c", "answer": "x", "wrong": "y"}
{"clean": "a b"
[1, 2]
{"clean": "a b", "answer": "x", "wrong": "y"}
{"clean": 5, "corrupted": "a c", "answer": "x", "wrong": "y"}

{"clean": "a b", "corrupted": "a c", "answer": [], "wrong": "y"}
{"clean": "a <predict>b</predict> c", "corrupted": "a c", "answer": "x", "wrong": "y"}
{"clean": "<predict>b</predict>", "corrupted": "a c", "answer": "x", "wrong": "y"}
{"clean": "a <predict>b", "corrupted": "a c", "answer": "x", "wrong": "y"}
{"clean": "a \\ud800", "corrupted": "a c", "answer": "x", "wrong": "y"}
"""


def test_all_bad_lines_are_named(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text(BAD_LINES, encoding="utf-8")
    spec = FileData(path="d.jsonl", columns=Columns(good="answer", bad="wrong"))
    with pytest.raises(HarnessError) as error:
        open_file(spec, WORDS, tmp_path)
    lines = str(error.value).split("\n")
    assert [line.split(": ")[0] for line in lines] == [
        f"d.jsonl:{number}" for number in (2, 3, 4, 5, 7, 8, 9, 10, 11)
    ]
    for line, part in zip(
        lines,
        (
            "not JSON",
            "not a JSON object",
            "no column 'corrupted'; there are: clean, answer, wrong",
            "must be a text, not 5",
            "a text or a list of texts, not []",
            "text after </predict> would never be read: 'c'",
            "a prompt before it",
            "exactly one <predict>",
            "surrogates not allowed",
        ),
        strict=True,
    ):
        assert part in line


def test_at_most_twenty_problems_are_shown(tmp_path: Path) -> None:
    data = [{**row, "corrupted": "item is"} for row in rows(50)]
    spec = FileData(path=write(tmp_path, "d.jsonl", data), columns=DECLARED)
    with pytest.raises(HarnessError, match="… and 30 more") as error:
        open_file(spec, WORDS, tmp_path)
    assert "d.jsonl:1: clean has 4 tokens and corrupted 3" in str(error.value)


def test_csv_lines_count_the_header_and_line_breaks(tmp_path: Path) -> None:
    text = 'clean,corrupted,answer,wrong\n"a\nb",a c,x,y\na b,a,x,y\na 05,a 06,x z,y\n'
    (tmp_path / "d.csv").write_text(text, encoding="utf-8")
    spec = FileData(path="d.csv", columns=Columns(good="answer", bad="wrong"))
    with pytest.raises(HarnessError) as error:
        open_file(spec, WORDS, tmp_path)
    lines = str(error.value).split("\n")
    assert lines[0].startswith("d.csv:4: clean has 3 tokens and corrupted 2")
    assert lines[1].startswith("d.csv:5: 'x z' must be exactly one token")


def test_splits_that_share_a_prompt_are_refused(tmp_path: Path) -> None:
    data = [*rows(3), {**rows(1)[0], "split": "test"}]
    spec = FileData(path=write(tmp_path, "d.jsonl", data), columns=DECLARED)
    with pytest.raises(HarnessError, match=r"d\.jsonl:4: the clean prompt of split 'test' is also"):
        open_file(spec, WORDS, tmp_path)


@pytest.mark.parametrize("name", ["d.jsonl", "d.csv", "d.parquet"])
def test_missing_and_broken_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(HarnessError, match="no such file"):
        open_file(FileData(path=name), WORDS, tmp_path)
    (tmp_path / name).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(HarnessError, match=name):
        open_file(FileData(path=name), WORDS, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corrupted": "item 3 is"}, "clean and corrupted are the same"),
        ({"wrong": "odd"}, "good and bad answers must differ both ways"),
    ],
)
def test_rows_that_can_tell_nothing_are_refused(
    tmp_path: Path, change: dict[str, str], message: str
) -> None:
    data = rows()
    data[3] |= change
    with pytest.raises(HarnessError, match=rf"d\.jsonl:4: {message}"):
        open_file(
            FileData(path=write(tmp_path, "d.jsonl", data), columns=DECLARED), WORDS, tmp_path
        )


# ------------------------------------------------------------------ shares
def one_each(n: int) -> list[dict[str, Any]]:
    """n prompts, each twice."""
    return [row for row in rows(n) for _ in range(2)]


def check_shares(folder: Path, discovery: int, test: int) -> list[Any]:
    write(folder, "d.jsonl", one_each(60))
    text = f"""spec_version: 1
name: toy
title: Toy
tokenizer: {{kind: words}}
data:
  kind: file
  path: d.jsonl
  columns: {{good: answer, bad: wrong}}
SHARES
evaluation:
  ablation: interchange
  positions: all
  discovery_pairs: {discovery}
  test_pairs: {test}
model:
  kind: train
  architecture: {{n_layers: 1, n_heads: 1, d_model: 8}}
  training: {{objective: answer, steps: 1}}
"""
    path = folder / "toy.yaml"
    path.write_text(text.replace("SHARES\n", ""))
    issues = issues_of(Library(), path)
    shares = re.findall(r"`(shares: \{.*?\})`", "".join(one.message for one in issues))
    if shares:
        path.write_text(text.replace("SHARES", f"  {shares[0]}"))
        assert issues_of(Library(), path) == []
    return issues


def test_shares_that_would_do_are_suggested(tmp_path: Path) -> None:
    (issue,) = check_shares(tmp_path, 20, 30)
    assert issue.where == "evaluation.test_pairs"
    assert "the file has 60 distinct prompts in 120 rows: train " in issue.message
    assert "with `shares: {train: 0." in issue.message
    assert issue.message.endswith("under `data` there are enough")


def test_too_few_prompts_for_any_shares(tmp_path: Path) -> None:
    issues = check_shares(tmp_path, 40, 30)
    assert "there are 60 in all, too few for 40 for train and 30 for test" in issues[0].message


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(2, 60))
def test_suggested_shares_are_enough(seed: int, train: int, test: int) -> None:
    """By counting; and where there are plenty, some are found."""
    hashes = np.random.default_rng(seed).integers(0, 2**64, size=80, dtype=np.uint64)
    shares = fitting_shares(hashes, {"train": train, "test": test})
    if shares is None:
        assert train + test > 40
        return
    opened = Shares(shares, 0)
    split = opened.of(hashes)
    assert (split == opened.index("train")).sum() >= train
    assert (split == opened.index("test")).sum() >= test
