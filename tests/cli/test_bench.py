"""`harness bench`: which options go together, which rows there are, and its tables."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from harness.bench import measure, prompts
from harness.bench.prompts import PromptBench
from harness.bench.rows import NAMES, OF_PROMPTS
from harness.bench.subject import Bench
from harness.cli.main import main
from harness.interpretation.study import StudyBudget

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

    monkeypatch.setattr(prompts, "bench_prompts", found)
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
        (["--prompts", "10", "--dtype", "bfloat16"], "--dtype does not go with --prompts"),
        (["--prompts", "10", "--tf32"], "--tf32 does not go with --prompts"),
        (["--task", "ioi"], "--task needs --prompts"),
        (["--prompts", "10", "--beside", "bfloat16"], "--beside does not go with --prompts"),
        (["--model", "small-random", "--tf32"], "does not go with float32 on cpu"),
        (["--model", "small-random", "--beside", "float32"], "float32 beside float32 cannot be"),
        (["--prompts", "10,many"], "--prompts wants whole numbers, as 1000,100000"),
    ],
)
def test_options_without_effect_are_refused(words: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["bench", *words])
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
@pytest.mark.parametrize("words", [["--model", "small-random"], ["--prompts", "10"]])
def test_without_cuda_there_is_one_error(words: list[str]) -> None:
    result = CliRunner().invoke(main, ["bench", "--device", "cuda", *words])
    assert result.exit_code == 2
    assert result.stderr == ("error: runtime.device is cuda, but torch sees no CUDA device here\n")


def test_the_help_lists_all_rows() -> None:
    shown = " ".join(CliRunner().invoke(main, ["bench", "--help"]).stdout.split())
    assert [name for name in (*NAMES, *OF_PROMPTS) if name not in shown] == []


ON_A_GPU = {
    "model": "gpt2-small-random",
    "batch": [8, 80],
    "threads": 2,
    "device": "cuda",
    "dtype": "float32",
    "tf32": True,
    "plain_fb_seconds": 0.0151,
    "counted_gib": {"weights": 0.464, "all": 1.237},
    "beside": None,
    "plain_ratio": None,
    "rows": [
        {
            "method": "edge_pruning step",
            "cost_fb": 1.6,
            "floor_fb": 1.136,
            "seconds": 0.02,
            "tokens_per_second": 32000.0,
            "peak_mib": 801.4,
            "ratio": None,
        }
    ],
}


@pytest.fixture
def benched(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    calls: list[object] = []

    def found(asked, rows):
        calls.append((asked, rows))
        return ON_A_GPU

    monkeypatch.setattr(measure, "run_bench", found)
    return calls


def test_a_batch_is_measured_as_asked_and_shown_in_a_table(benched: list[object]) -> None:
    words = ["--device", "cuda", "--tf32", "--length", "80", "--methods"]
    result = CliRunner().invoke(main, ["bench", *words, "edge_pruning step, eap"])
    assert result.exit_code == 0
    asked = Bench("gpt2-small-random", 8, 80, 2, 5, "cuda", "float32", tf32=True)
    assert benched == [(asked, ("edge_pruning step", "eap"))]
    head, _, titles, _, row, _, counted = result.stdout.splitlines()
    assert head == (
        "gpt2-small-random, batch 8 × 80 tokens, 2 threads, tf32 on cuda: "
        "one plain forward+backward takes 0.015 s"
    )
    assert [cell.strip() for cell in titles.split("|")[1:-1]] == [
        "method",
        "cost ↓ (plain f+b)",
        "floor",
        "seconds",
        "tokens/s",
        "peak MiB",
    ]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells == ["edge_pruning step", "1.600", "1.136", "0.020", "32,000", "801"]
    assert counted == ("An edge_pruning step holds 1.24 GiB by counting, 0.464 of them the model.")


def test_two_precisions_stand_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [ON_A_GPU["rows"][0] | {"ratio": 0.787}]
    report = ON_A_GPU | {"dtype": "bfloat16", "tf32": False, "rows": rows}
    calls: list[object] = []

    def found(asked, rows):
        calls.append(asked)
        return report | {"device": "cpu", "beside": "float32", "plain_ratio": 0.512}

    monkeypatch.setattr(measure, "run_bench", found)
    words = ["bench", "--dtype", "bfloat16", "--beside", "float32"]
    head, _, titles, _, row, *_ = CliRunner().invoke(main, words).stdout.splitlines()
    assert calls == [Bench(dtype="bfloat16", beside="float32")]
    assert head.endswith("takes 0.015 s, 0.51 × that in float32")
    assert titles.split("|")[-2].strip() == "× float32 ↓"
    assert [cell.strip() for cell in row.split("|")[-3:-1]] == ["801", "0.79"]


def test_all_rows_may_be_asked_for(benched: list[object], asked: list[object]) -> None:
    CliRunner().invoke(main, ["bench", "--methods", "all", "--dtype", "bfloat16"])
    assert benched == [(Bench(dtype="bfloat16"), NAMES)]
    CliRunner().invoke(main, ["bench", "--methods", "all", "--prompts", "500,4000"])
    assert asked == [(PromptBench((500, 4000)), OF_PROMPTS)]


def test_games_of_othello_are_played() -> None:
    result = CliRunner().invoke(main, ["bench", "--games", "300", "--repeats", "1", "--json"])
    rows = json.loads(result.stdout)["rows"]
    assert [(row["board"], row["row"]) for row in rows] == [
        (board, name) for board in ("6×6", "8×8") for name in ("games", "games and boards")
    ]
    assert all(row["games_per_cpu_second"] > 0 for row in rows)
    shown = CliRunner().invoke(main, ["bench", "--games", "300", "--repeats", "1"]).stdout
    assert "| 8×8     | games and boards |" in shown
    refused = CliRunner().invoke(main, ["bench", "--games", "300", "--length", "5"])
    assert refused.exit_code == 2
    assert "--length does not go with --games" in refused.stderr


def test_dictionaries_are_trained_beside_their_matrix_products(harness: Any) -> None:
    report = json.loads(harness("bench", "--dictionary", "64", "--repeats", "1", "--json").stdout)
    rows = {row["activation"]: row for row in report["rows"]}
    assert set(rows) == {"relu_l1", "topk", "batchtopk", "jumprelu"}
    for row in rows.values():
        assert row["share"] == row["products_seconds"] / row["step_seconds"]
    shown = harness("bench", "--dictionary", "64", "--repeats", "1", "--dtype", "bfloat16").stdout
    assert "64 features of width 128, 4096 tokens a step, bfloat16, 2 threads" in shown
    refused = harness("bench", "--dictionary", "64", "--length", "9", code=2).output
    assert "--length does not go with --games, --dictionary, --features or torchrun" in refused


def test_features_are_traced_and_studied(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    few = StudyBudget(tokens=400, label_tokens=200, held_out=2)
    monkeypatch.setattr("harness.bench.features.FEW", few)
    monkeypatch.setattr("harness.interpretation.tokens.SEQUENCES", 4)
    asked = ("bench", "--features", "32", "--repeats", "1", "--threads", "1")
    report = json.loads(harness(*asked, "--json").stdout)
    rows = {row["row"]: row for row in report["rows"]}
    names = ["frozen run + influence", "trace", "scores", "scores one by one", "strongest tokens"]
    assert list(rows) == [*names, "labels"]
    seconds = [rows[row]["seconds"] for row in ("scores", "scores one by one")]
    assert rows["scores"]["ratio"] == seconds[0] / seconds[1]
    assert rows["trace"]["of"] <= 300
    assert rows["frozen run + influence"]["of"] > 59 * 12
    assert rows["strongest tokens"]["of"] == 1_200_000
    assert all(row["seconds"] is None or row["seconds"] > 0 for row in report["rows"])
    assert "--batch does not go with" in harness(*asked, "--batch", "3", code=2).output
