"""Results that nobody expects: what can be shown is, what cannot is said, and none is a bug."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from support.fake_cells import output
from support.stored_cells import cell_of
from support.stored_pages import PROVENANCE

from harness.cli.main import main
from harness.reports.page.document import page
from harness.reports.page.examples import MOST_WORDS, NEAR, examples
from harness.reports.page.origins import origins
from harness.runs.plan import Plan
from harness.runs.store import CellOutput, CellStore
from harness.runs.store.models import ModelStore
from harness.runs.store.record import StoredCell, load_cells, record

COMMANDS = (
    ["report", "RUN", "-o", "OUT.html"],
    ["table", "RUN", "--wide", "--provenance"],
    ["table", "RUN", "--format", "json"],
    ["table", "RUN", "--full"],
    ["status", "RUN"],
    ["plot", "curves", "RUN", "-o", "OUT.svg"],
)
DATA = {"schema_version": 1, "size": 3, "n": 40, "answers_are_numbers": False}
GUESS = {"top": [{"token": "x" * 5_000_000, "probability": 0.2, "answer": "wrong"}],
         "probability": 0.1}  # fmt: skip


def stored(
    folder: Path,
    change: Callable[[CellOutput], CellOutput] = lambda one: one,
    provenance: Any = PROVENANCE,
) -> list[StoredCell]:
    cells = [cell_of("best"), cell_of("worse")]
    record(folder, Plan(folder.name, tuple(cells)))
    for cell in cells:
        CellStore(folder).publish(cell.id, change(output(cell)), provenance)
    return load_cells(folder)


def all_run(folder: Path) -> dict[str, str]:
    """What the commands print, by their words; none of them ends in a bug."""
    printed = {}
    for words in COMMANDS:
        names = [word.replace("RUN", str(folder)) for word in words]
        names = [word.replace("OUT", str(folder.parent / "out")) for word in names]
        result = CliRunner().invoke(main, names)
        assert result.exit_code in (0, 2, 3), (words, result.stderr)
        printed[" ".join(words)] = result.output
    return printed


def prompts(**pair: Any) -> Callable[[CellOutput], CellOutput]:
    read = {"at": 1, "good": ["b"], "bad": ["c"], "n_good": 1, "n_bad": 1, "kl": 0.5}
    one = {"row": 0, "kl": 0.5, "clean": ["a", "b"], "corrupted": ["c", "b"], "differ": [0],
           "reads": [read | {"model": GUESS, "circuit": GUESS}], "n_reads": 1, **pair}  # fmt: skip
    return beside("prompts.json", json.dumps(DATA | {"pairs": [one]}).encode())


def beside(name: str, content: bytes) -> Callable[[CellOutput], CellOutput]:
    return lambda one: replace(one, tensors={**one.tensors, name: content})


def not_numbers(one: CellOutput) -> CellOutput:
    """As of a model whose training went wrong: nothing of it is a number."""
    undefined = dict.fromkeys(("value", "se", "low", "high"))
    result = json.loads(json.dumps(one.result))
    for place in (*result["curve"], result["whole"], result["empty"]):
        place |= {name: place[name] | undefined for name in ("faithfulness", "kl", "metric")}
    for name in ("cmd", "cpr", "cmd_log", "cpr_log"):
        result["summary"][name] |= undefined
    arrays = {
        name: np.full_like(np.asarray(values), np.nan)
        for name, values in one.tensors["examples.safetensors"].items()  # type: ignore[union-attr]
    }
    return replace(one, result=result, tensors={**one.tensors, "examples.safetensors": arrays})


def test_a_model_of_nan_is_not_ranked(tmp_path: Path) -> None:
    stored(tmp_path / "run", not_numbers)
    printed = all_run(tmp_path / "run")
    data = json.loads(printed["table RUN --format json"])
    assert data["boards"][0]["verdict"]["moved"] is None
    assert "Not ranked: logit_diff is not a finite number" in " ".join(
        printed["table RUN --wide --provenance"].split()
    )
    assert {line["rank"] for line in data["boards"][0]["lines"]} == {None}


def test_tokens_of_megabytes_are_cut(tmp_path: Path) -> None:
    cells = stored(tmp_path / "run", prompts(clean=["y" * 5_000_000, "b"]))
    assert len(page(cells)) < 1_000_000
    all_run(tmp_path / "run")


@pytest.mark.parametrize("length", [MOST_WORDS, MOST_WORDS + 1, 100_000])
def test_long_prompts_are_shown_where_something_happens(tmp_path: Path, length: int) -> None:
    words = [str(at) for at in range(length)]
    differs = 50
    pair = prompts(clean=words, corrupted=words, differ=[differs])
    cells = stored(tmp_path / "run", pair)
    (shown,) = examples(cells[0]).pairs
    texts = [word.text for word in shown.clean]
    if length <= MOST_WORDS:
        assert texts == words
        return
    near = [str(at) for at in range(length)
            if min(abs(at - differs), abs(at - 1)) <= NEAR]  # fmt: skip
    assert [text for text in texts if text != "…"] == near
    assert texts.count("…") == 2
    assert [word.text for word in shown.clean if word.differs] == [str(differs)]


@pytest.mark.parametrize("content", [b"[]", b'{"size": 3}', b'{"size": 3, "pairs": [5]}', b"{"])
def test_prompts_of_an_unknown_form_are_said(tmp_path: Path, content: bytes) -> None:
    cells = stored(tmp_path / "run", beside("prompts.json", content))
    assert "prompts.json" in examples(cells[0]).problem
    all_run(tmp_path / "run")


@pytest.mark.parametrize(
    "provenance",
    [{}, {**PROVENANCE, "git": "x", "versions": [], "created": 5}, {"git": None, "cpu": None}],
)
def test_a_provenance_that_says_little(tmp_path: Path, provenance: Any) -> None:
    stored(tmp_path / "run", provenance=provenance)
    assert "harness run run" in all_run(tmp_path / "run")["table RUN --wide --provenance"]


@pytest.mark.parametrize("log", ["[]", '{"history": [5]}', '{"history": [{"loss": 1}, {}]}'])
def test_a_training_log_of_an_unknown_form_is_said(tmp_path: Path, log: str) -> None:
    cells = stored(tmp_path / "run")
    models, own = ModelStore(tmp_path / "models"), cells[0].entry.model_id
    draft = models.draft(own)
    (draft / "training.json").write_text(log)
    models.publish(own, draft)
    text = page(cells)
    assert "training.json is of a form that is not read here" in text


def test_a_failure_of_pages_does_not_fill_the_screen(tmp_path: Path) -> None:
    folder, cell = tmp_path / "run", cell_of("best")
    record(folder, Plan("run", (cell,)))
    CellStore(folder).fail(cell.id, cell.labels(), "x" * 200_000)
    printed = all_run(folder)
    assert len(printed["status RUN"]) < 2_000
    assert len((tmp_path / "out.html").read_text()) < 100_000


def test_two_runs_of_one_name_are_two(tmp_path: Path) -> None:
    cells = [one for name in "ab" for one in stored(tmp_path / name / "run")]
    assert [len(one.cells) for one in origins(cells)] == [2, 2]
    assert page(cells)
