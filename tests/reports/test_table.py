"""Tables as text: golden for a tiny results folder, and harmless whatever the names hold."""

import csv
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.stored_cells import cell_of, save, stored

from harness.reports.leaderboard import Leaderboard, leaderboard
from harness.reports.records import as_data
from harness.reports.rows import COLUMNS
from harness.reports.table import render, render_rows
from harness.reports.text import FORMATS, grid, latex, markdown, plus_minus
from harness.runs.store.record import load_cells
from harness.spec.identity import identity_fields
from harness.spec.load import Library

GOLDEN = """\
### toy

n = 40 test pairs, 200 edges, metric logit_diff; accuracy of the model: test 1.000 ±0.000.
Circuits: granularity edge, component heads_qkv_mlps, ablation interchange, positions all, \
direction noising, set complement, inputs token, head_bias \
unattached.

| # | method | CMD ↓ | CPR ↑ | CMD log ↓ | edges f≥.85/.95/.99 ↓ | edges @10% | bits @10% ↓ | \
f @10% ↑ | KL @10% ↓ | accuracy @10% ↑ | cost | seeds |
| 1 | worse | 0.297 ±0.004 | 0.693 ±0.004 | 0.530 ±0.004 | ≤ 200 / 200 / 200 | 20 | 90.4 | \
0.394 ±0.009 | 0.602 ±0.000 | 0.875 ±0.100 | 1.05 | 1/1 |
| – | best | 0.053 ±0.004 | 0.937 ±0.004 | 0.108 ±0.004 | ≤ 20 / 100 / 200 | 20 | 90.4 | \
0.888 ±0.007 | 0.109 ±0.000 | 0.975 ±0.038 | 1.05 | 1/2 (1 failed) |
| | whole model | | | | | 200 | 0.0 | 1.000 ±0.000 | 0.000 ±0.000 | 1.000 ±0.000 | | |
| | empty circuit | | | | | 0 | 0.0 | 0.000 ±0.000 | 1.000 ±0.000 | 0.000 ±0.000 | | |
| | control (control) | 0.466 ±0.004 | 0.524 ±0.004 | 0.734 ±0.004 | ≤ 200 / 200 / 200 | 20 \
| 90.4 | 0.125 ±0.008 | 0.874 ±0.000 | 0.050 ±0.062 | 1.05 | 1/1 |
"""


@pytest.fixture
def board(tmp_path: Path) -> Leaderboard:
    done = [cell_of(m) for m in ("best", "worse", "control")]
    return leaderboard(stored(tmp_path / "run", done, [cell_of("best", seed=1)]))


def squeezed(text: str) -> str:
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return "\n".join(line for line in lines if not line.startswith(("|--", "|:-", "± is")))


def test_github_table_is_golden(board: Leaderboard) -> None:
    assert squeezed(render(board, "github")).strip() == GOLDEN.strip()


def test_a_task_that_the_model_does_not_solve_is_marked(board: Leaderboard) -> None:
    one = board.boards[0]
    assert one.facts is not None
    weak = {"accuracy": {"value": 0.4, "low": 0.3, "high": 0.5}}
    facts = {**one.facts, "model_quality": {"test": weak}}
    text = render(replace(board, boards=(replace(one, facts=facts),)), "github")
    assert "does not solve this task" in text
    assert "does not solve this task" not in render(board, "github")


@pytest.mark.parametrize(("name", "numbers"), [("xproportion", True), ("reverse", False)])
def test_accuracy_says_nothing_about_answers_that_are_numbers(
    board: Leaderboard, name: str, numbers: bool
) -> None:
    """A stored task says itself what its answers are; its accuracy is no lack of the model."""
    one = board.boards[0]
    assert one.facts is not None
    identity = one.facts["identity"]
    data = identity_fields(Library().task(name).spec.data)
    facts = {
        **one.facts,
        "identity": {**identity, "task": {**identity["task"], "data": data}},
        "model_quality": {"test": {"accuracy": {"value": 0.7, "low": 0.6, "high": 0.8}}},
    }
    text = render(replace(board, boards=(replace(one, facts=facts),)), "github")
    assert ("does not solve this task" in text) is not numbers
    assert ("accuracy of the model: test 0.700" in text) is not numbers
    assert ("the answers are numbers, so accuracies mean nothing." in text) is numbers


def test_json_and_csv_keep_every_digit(board: Leaderboard) -> None:
    line = board.boards[0].lines[0]
    assert line.areas is not None
    data = json.loads(render(board, "json"))
    assert data["boards"][0]["lines"][0]["cmd"] == line.areas["cmd"].value
    records = list(csv.DictReader(io.StringIO(render(board, "csv"))))
    assert float(records[0]["cmd"]) == line.areas["cmd"].value
    assert float(records[0]["cmd_low"]) == line.areas["cmd"].low
    assert [r["kind"] for r in records] == ["method", "method", "whole", "empty", "control"]
    assert data == json.loads(json.dumps(as_data(board)))


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_results_give_the_same_bytes(tmp_path: Path, form: str) -> None:
    save(tmp_path / "run", [cell_of("best"), cell_of("worse", task="other")])
    texts = {render(leaderboard(load_cells(tmp_path / "run")), form) for _ in range(2)}  # type: ignore[arg-type]
    assert len(texts) == 1
    assert texts.pop().endswith("\n")


@pytest.mark.parametrize("form", FORMATS)
def test_no_results_is_no_crash(form: str) -> None:
    assert render(leaderboard([]), form)  # type: ignore[arg-type]


def test_rows_have_the_contracts_columns(tmp_path: Path) -> None:
    cells = stored(tmp_path / "run", [cell_of("best")], [cell_of("worse")])
    assert list(json.loads(render_rows(cells, "json"))[0]) == list(COLUMNS)
    records = list(csv.DictReader(io.StringIO(render_rows(cells, "csv"))))
    assert list(records[0]) == list(COLUMNS)
    assert records[-1]["status"] == "failed"
    assert records[-1]["cmd"] == ""
    assert render_rows(cells, "github").startswith("| task")


def test_mean_rank_is_shown_for_several_tasks(tmp_path: Path) -> None:
    done = [cell_of(m, task=t) for t in ("one", "two") for m in ("best", "worse")]
    text = render(leaderboard(stored(tmp_path / "run", done)), "github")
    assert "### Mean rank" in text
    assert "| best     | 1.00          | 2/2     |" in text


def test_smoke_and_model_stand_in_the_title(tmp_path: Path) -> None:
    done = [cell_of("best", limit=8), replace(cell_of("best"), model_name="gpt")]
    text = render(leaderboard(stored(tmp_path / "run", done)), "github")
    assert "### toy (smoke run, limit 8: not ranked)" in text
    assert "### toy on gpt" in text


# ---------------------------------------------------------------- names that mean harm
EVIL = "<script>alert(1)</script>|`*\x1b[31m\u202e&\\_%\r\n"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def evil(tmp_path: Path) -> Leaderboard:
    cell = cell_of("best")
    method = replace(cell.method, name=EVIL)
    return leaderboard(stored(tmp_path / "run", [replace(cell, method=method, model_name=EVIL)]))


@pytest.mark.parametrize("form", FORMATS)
def test_control_characters_never_reach_the_terminal(evil: Leaderboard, form: str) -> None:
    text = render(evil, form)  # type: ignore[arg-type]
    assert not {"\x1b", "\r", "\u202e"} & set(text)


def test_names_are_text_in_html(evil: Leaderboard) -> None:
    page = Tags()
    page.feed(render(evil, "html"))
    assert "script" not in page.tags
    assert "<script>alert(1)</script>" in page.text


def test_names_do_not_break_a_markdown_table(evil: Leaderboard) -> None:
    text = render(evil, "github")
    assert "<script>" not in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    bars = {line.replace("\\|", "").count("|") for line in lines}
    assert bars == {14}


def test_latex_escapes_and_signs() -> None:
    assert latex("50% of a_b & {c} ↑") == r"50\% of a\_b \& \{c\} $\uparrow$"
    assert latex("\\") == r"\textbackslash{}"


def test_markdown_leaves_plain_names_alone() -> None:
    assert markdown("eap_ig 10% ≥0.9") == "eap_ig 10% ≥0.9"


def test_grid_of_nothing() -> None:
    assert grid(["a", "b"], [], "github").startswith("| a")


def test_plus_minus() -> None:
    assert plus_minus(0.1234, 0.005) == "0.123 ±0.005"
    assert plus_minus(0.1234, None) == "0.123"
    assert plus_minus(None, None) == ""
