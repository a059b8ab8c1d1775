"""`harness bench`: which options go together, and the table of more and more prompts."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from harness.cli.main import main
from harness.runs import bench_prompts
from harness.runs.bench_prompts import PromptBench

FOUND = {
    "task": "ioi_t1",
    "model": "2 layers of 4 heads, d_model 64",
    "edges": 110,
    "threads": 1,
    "distinct": 4000,
    "rows": [
        {
            "method": "eap",
            "prompts": 4000,
            "seconds": 1.5,
            "cost_ms": 0.34567,
            "ratio": 1.04,
            "peak_mib": 61.2,
            "prompts_mib": 0.26,
        }
    ],
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    calls: list[object] = []

    def found(bench, rows, log):
        log("eap on 4,000 prompts")
        calls.append((bench, rows))
        return FOUND

    monkeypatch.setattr(bench_prompts, "bench_prompts", found)
    return calls


def test_prompts_are_measured_as_asked_and_shown_in_a_table(asked: list[object]) -> None:
    words = [
        "bench",
        "--prompts",
        "500, 4000",
        "--task",
        "ioi",
        "--threads",
        "1",
        "--methods",
        "eap",
    ]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0
    assert asked == [(PromptBench((500, 4000), "ioi", 1, 5, "cpu"), ("eap",))]
    assert result.stderr == "eap on 4,000 prompts\n"
    head, _, titles, _, row = result.stdout.splitlines()
    assert head.startswith("ioi_t1 (4,000 distinct prompts), 2 layers of 4 heads, d_model 64, 110 ")
    assert [cell.strip() for cell in titles.split("|")[1:-1]] == [
        "method",
        "prompts",
        "seconds",
        "ms of each prompt ↓",
        "ratio to the fewest",
        "peak MiB",
        "MiB of prompts",
    ]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells == ["eap", "4,000", "1.50", "0.3457", "1.04", "61", "0.3"]


@pytest.mark.usefixtures("asked")
def test_json_is_what_was_measured() -> None:
    result = CliRunner().invoke(main, ["bench", "--prompts", "500,4000", "--json"])
    assert json.loads(result.stdout) == FOUND


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prompts", "10", "--model", "small-random"], "--model does not go with --prompts"),
        (["--prompts", "10", "--length", "18"], "--length does not go with --prompts"),
        (["--task", "ioi"], "--task needs --prompts"),
        (["--prompts", "10,many"], "--prompts wants whole numbers, as 1000,100000"),
    ],
)
def test_options_without_effect_are_refused(words: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["bench", *words])
    assert result.exit_code == 2
    assert said in result.stderr
