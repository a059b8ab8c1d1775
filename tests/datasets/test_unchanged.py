"""A corruption that changes nothing is noticed before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli.main import main
from harness.datasets.open import open_data
from harness.datasets.unchanged import LEAST, reason, unchanged_answers
from harness.spec.load import Library

GIFT = """\
spec_version: 1
name: gift
title: Who gets the gift
tokenizer: {kind: words}
data:
  kind: template
  lists: {names: [Ada, Ben, Cleo, Dan, Eva, Finn, Gus, Hana], gifts: [book, cake, kite, lamp, ring]}
  slots: {A: names, B: names, GIVER: B, GIFT: gifts, OTHER: gifts}
  constraints: [A != B, GIFT != OTHER]
  templates: ["{A} and {B} met, and {GIVER} gave a {GIFT} to", "{B} and {A} met, and {GIVER} gave \
a {GIFT} to"]
  good: A
  bad: B
  corruptions: {swap: {GIVER: A}, filler: {GIFT: OTHER}}
  corruption: CORRUPTION
evaluation: {ablation: interchange, positions: all, discovery_pairs: 32, test_pairs: 32}
model:
  kind: train
  architecture: {n_layers: 1, n_heads: 2, d_model: 16}
  training: {objective: answer, steps: 3}
"""


def gift(folder: Path, corruption: str) -> str:
    path = folder / "gift.yaml"
    path.write_text(GIFT.replace("CORRUPTION", corruption))
    return str(path)


@pytest.mark.parametrize(("corruption", "warned"), [("swap", False), ("filler", True)])
def test_validate_warns_where_answers_stay_the_same(
    tmp_path: Path, corruption: str, warned: bool
) -> None:
    path = gift(tmp_path, corruption)
    result = CliRunner().invoke(main, ["validate", path])
    assert result.exit_code == 0, result.output
    assert ("gift.yaml:14:15: warning: data.corruption: " in result.stderr) is warned
    assert ("change nothing that decides the answer" in result.stderr) is warned
    assert result.stdout == ""
    github = CliRunner().invoke(main, ["validate", path, "--format", "github"])
    assert github.stdout.startswith("::warning file=") is warned


def rows(*pairs: tuple[str, str, str]) -> Any:
    return [tuple(text.encode() for text in pair) for pair in pairs]


def ring(length: int, answers: str) -> Any:
    """Pairs whose corrupted prompt is the clean one of the next pair."""
    return rows(*((str(i), str((i + 1) % length), answers[i]) for i in range(length)))


def test_reasons() -> None:
    assert "circuits would be ranked by noise" in (reason(ring(LEAST, "x" * LEAST)) or "")
    assert reason(ring(LEAST, "x" * (LEAST - 1) + "y")) is None  # one answer changes
    assert reason(ring(LEAST - 1, "x" * LEAST)) is None  # too few to tell
    assert reason(rows(*((str(i), "other", "x") for i in range(9)))) is None  # never clean
    assert "is its clean one" in (reason(rows(("1", "1", "x"), ("2", "2", "y"))) or "")
    assert reason([]) is None


@pytest.mark.parametrize("task", ["ioi_t1", "bracket_matching", "greater_than", "quote_closing"])
def test_shipped_tasks_ask_for_what_their_corruption_changes(task: str) -> None:
    assert unchanged_answers(open_data(Library().task(task))) is None
