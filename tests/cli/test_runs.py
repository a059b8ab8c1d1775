"""Verbs about runs: plan, run, status, why, table, compare, plot, verify, doctor."""

import csv
import errno
import io
import json
import re
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from support.checkout import ROOT

from harness.runs.services.forecasts.forecast import PROCESS_SECONDS
from harness.runs.store import CellStore

RUN = Path("results/trial")


def result_bytes() -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in RUN.glob("cells/*/result.json")}


# ---------------------------------------------------------------- plan, run
def test_run_prints_a_leaderboard_and_a_rerun_reuses_all(harness: Any) -> None:
    first = harness("run", "trial")
    assert "### toy on model-toy" in first.stdout
    assert re.search(r"^\| 1 +\| good ", first.stdout, re.MULTILINE)
    assert "whole model" in first.stdout
    assert "paths (control)" in first.stdout
    assert "3 computed, 0 reused" in first.stderr
    assert "made model model-toy" in first.stderr
    before = result_bytes()
    again = harness("run", "trial")
    assert again.stdout == first.stdout
    assert "0 computed, 3 reused" in again.stderr
    assert "reused model model-toy" in again.stderr
    assert result_bytes() == before
    assert harness.computed() == 3


def test_run_without_argument_runs_quickstart(harness: Any) -> None:
    harness("run")
    assert Path("results/quickstart/plan.json").is_file()


def test_run_of_a_task_by_name_and_by_path(harness: Any, tmp_path: Path) -> None:
    harness("run", "toy")
    outside = harness.task("far", folder="../outside")
    harness("run", str(outside), "-o", str(tmp_path / "out"))
    assert (tmp_path / "out" / "far" / "plan.json").is_file()
    assert Path("results/toy/plan.json").is_file()


def test_run_of_several_specs(harness: Any) -> None:
    harness.task("other")
    text = harness("run", "trial", "other").stdout
    assert "### toy on model-toy" in text
    assert "### other on model-other" in text


def test_suites_share_models_and_not_runs(harness: Any) -> None:
    harness("run", "trial")
    assert "reused model" in harness("run", "quickstart").stderr
    assert len(list(Path("results/models").glob("[!.]*"))) == 1


def test_options_narrow_the_grid(harness: Any) -> None:
    data = json.loads(
        harness("run", "trial", "--methods", "good", "--seeds", "1,2", "--json").stdout
    )
    assert data["status"] == "ok"
    assert len(data["runs"][0]["computed"]) == 4
    lines = data["leaderboard"]["boards"][0]["lines"]
    assert {x["method"]: x["seeds_done"] for x in lines if x["kind"] == "method"} == {"good": 2}


def test_smoke_runs_are_marked_and_leave_the_leaderboard_alone(harness: Any) -> None:
    smoke = harness("run", "trial", "--limit", "8")
    assert "smoke run, limit 8: not ranked" in smoke.stdout
    assert "| 1 " not in smoke.stdout
    harness("run", "trial")
    data = json.loads(harness("table", "trial", "--format", "json").stdout)
    ranked = [board["limit"] for board in data["boards"] for x in board["lines"] if x["rank"]]
    assert set(ranked) == {None}


def test_jobs_give_the_same_bytes(harness: Any, tmp_path: Path) -> None:
    harness("run", "trial")
    harness("run", "trial", "--jobs", "2", "-o", "elsewhere")
    for path in Path("elsewhere/trial/cells").glob("*/result.json"):
        assert path.read_bytes() == (RUN / "cells" / path.parent.name / "result.json").read_bytes()


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_failing_cell_leaves_exit_code_1_and_the_others(harness: Any, jobs: str) -> None:
    harness.method("bad", fail="no luck")
    harness.suite("trial", ["toy"], ["good", "bad", "weak"])
    result = harness("run", "trial", "--jobs", jobs, code=1)
    assert "no luck" in result.stderr
    assert "\nbad: 1 failed.\n" in result.stdout
    assert harness.computed() == 3
    assert "failed" in harness("status", "trial").stdout


def test_fail_fast(harness: Any) -> None:
    harness.method("bad", fail="no luck")
    harness.suite("trial", ["toy"], ["bad", "good", "weak"])
    result = harness("run", "trial", "--fail-fast", code=1)
    assert "3 not tried" in result.stderr
    assert harness.computed() == 0


def test_an_interrupt_ends_with_130_and_a_clean_store(harness: Any) -> None:
    harness.method("stop", interrupt="true")
    harness.suite("trial", ["toy"], ["good", "stop"])
    said = harness("run", "trial", code=130).stderr
    assert list(RUN.glob(".work/*")) == []
    assert len(CellStore(RUN).ids()) == 1
    stopped = "toy stop seed 0: stopped in training at step 600 of 2,000, step 600 is saved"
    assert [line for line in said.splitlines() if line][-3:] == [
        stopped,
        "finished cells are kept; run the same command to resume",
        "interrupted",
    ]
    assert stopped in (RUN / "run.log").read_text()


def test_the_log_has_what_every_run_said_with_times(harness: Any) -> None:
    said = harness("run", "trial").stderr
    lines = (RUN / "run.log").read_text().splitlines()
    stamp = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d ")
    assert all(stamp.match(line) for line in lines)
    assert [stamp.sub("", line) for line in lines] == said.splitlines()
    harness("run", "trial")
    more = (RUN / "run.log").read_text().splitlines()
    assert more[: len(lines)] == lines
    assert "0 computed, 3 reused" in more[-1]


def test_progress_is_one_line_per_event(harness: Any) -> None:
    lines = harness("run", "trial").stderr.splitlines()
    assert "[0/3] toy good seed 0: started" in lines
    assert any(line.startswith("[1/3] toy good seed 0: done in") for line in lines)


def test_plan_tells_reused_from_new_and_names_models(harness: Any) -> None:
    before = json.loads(harness("plan", "trial", "--json").stdout)[0]
    assert (before["reused"], before["new"]) == (0, 3)
    assert [model["model"] for model in before["models_to_train"]] == ["model-toy"]
    assert not Path("results").exists()
    harness("run", "trial", "--methods", "good")
    after = json.loads(harness("plan", "trial", "--json").stdout)[0]
    assert (after["reused"], after["new"], after["models_to_train"]) == (2, 1, [])
    assert "2 cells reused, 1 new" in harness("plan", "trial").stdout


def test_plan_says_minutes_and_memory_from_cells_like_stored_ones(harness: Any) -> None:
    first = " ".join(harness("plan", "trial").stdout.split())
    assert "not counting 3 cells whose cost nobody can tell yet" in first  # of a silent package
    harness("run", "trial")
    assert "nothing to compute" in harness("plan", "trial").stdout
    found = json.loads(harness("plan", "trial", "--seeds", "0,1,2", "--json").stdout)[0]
    expected = found["expected"]
    assert found["new"] == 6
    assert expected["unknown_cells"] == []
    assert expected["seconds"] == pytest.approx(6 * 7.5 + PROCESS_SECONDS)
    assert expected["low"] < expected["seconds"] < expected["high"]
    assert expected["memory_mib"] >= 64
    text = harness("plan", "trial", "--seeds", "0,1,2").stdout
    assert "\nabout 49 s (39 s to 62 s) in one process" in text
    assert "not counting" not in text
    assert "6 cells to compute: 39 s to 62 s" in harness("run", "trial", "--seeds", "0,1,2").stderr


def test_plan_shows_a_row_for_each_method_and_what_there_is_to_train(harness: Any) -> None:
    harness("run", "trial", "--methods", "good", "--seeds", "1")
    rows = [
        [part.strip() for part in line.strip("|").split("|")]
        for line in harness("plan", "trial", "--seeds", "0,1").stdout.splitlines()
        if line.startswith("|")
    ]
    assert [row[2:5] for row in rows[2:]] == [
        ["good", "0, 1", "1 new, 1 reused"],
        ["weak", "0, 1", "new"],
        ["paths (control)", "0, 1", "1 new, 1 reused"],
    ]
    shutil.rmtree("results")
    assert "(training)" in harness("plan", "trial").stdout.splitlines()[2]


def skipping(harness: Any, tasks: list[str]) -> None:
    path = harness.suite("trial", tasks, ["good", "weak"])
    path.write_text(path.read_text() + "skip_missing: true\n")


def test_a_suite_that_may_skip_runs_what_it_has_files_for(harness: Any) -> None:
    harness.brought("here")
    harness.brought("gone")
    harness.brought("half")
    harness.bring("here", "config.json", "model.safetensors")
    harness.bring("half", "config.json")
    skipping(harness, ["gone", "here", "half"])
    plan = harness("plan", "trial")
    gone, half = plan.stderr.splitlines()
    assert gone.startswith("left out gone on model-gone: needs brought/gone, which is not below ")
    assert "put it there, or set HARNESS_FILES to the folder that holds brought/gone; " in gone
    assert gone.endswith(
        "brought/gone has to hold config.json and model.safetensors (or its shards)"
    )
    assert half.startswith("left out half on model-half: model folder ")
    assert half.endswith("brought/half has no model.safetensors")
    assert "3 new" in plan.stdout
    run = harness("run", "trial")
    assert run.stderr.startswith(plan.stderr)
    assert "3 computed" in run.stderr
    assert "### here on model-here" in run.stdout
    assert "gone" not in run.stdout
    for verb in ("status", "table"):
        assert harness(verb, "trial").stderr == plan.stderr
    for arguments in (("plan", "trial"), ("status", "trial")):
        (data,) = json.loads(harness(*arguments, "--json").stdout)
        assert [(one["task"], one["model"]) for one in data["left_out"]] == [
            ("gone", "model-gone"),
            ("half", "model-half"),
        ]
    (data,) = json.loads(harness("run", "trial", "--json").stdout)["runs"]
    assert data["left_out"][1]["needs"] == [half.partition("model-half: ")[2]]


def test_files_that_come_later_are_run_later_and_the_notes_go(harness: Any) -> None:
    harness.brought("first")
    harness.brought("second")
    harness.bring("first", "config.json", "model.safetensors")
    skipping(harness, ["first", "second"])
    harness("run", "trial")
    harness.bring("second", "config.json", "model.safetensors")
    again = harness("run", "trial")
    assert "3 computed, 3 reused" in again.stderr
    assert "left out" not in again.stderr
    table = harness("table", "trial")
    assert "### first on model-first" in table.stdout
    assert "### second on model-second" in table.stdout
    assert table.stderr == ""
    # What was measured stays in the table when its files go.
    Path("brought/first/model.safetensors").unlink()
    assert "3 reused" in harness("run", "trial").stderr
    table = harness("table", "trial")
    assert "### first on model-first" in table.stdout
    assert table.stderr.startswith("left out first on model-first: ")


def test_a_suite_with_no_files_at_all_ends_with_2(harness: Any) -> None:
    harness.brought("gone")
    harness.brought("half")
    harness.bring("half", "model.safetensors")
    skipping(harness, ["gone", "half"])
    for verb in ("plan", "run"):
        result = harness(verb, "trial", code=2)
        first, *others = result.stderr.splitlines()
        assert first == "error: suite 'trial' has no files for any of its cells:"
        assert [line.split(": ")[0] for line in others] == [
            "  left out gone on model-gone",
            "  left out half on model-half",
        ]
        assert others[1].endswith("has no config.json")
    assert not RUN.exists()


def test_missing_files_are_an_error_where_a_suite_does_not_skip(harness: Any) -> None:
    harness.brought("here")
    harness.brought("gone")
    harness.bring("here", "config.json", "model.safetensors")
    harness.suite("trial", ["here", "gone"], ["good"])
    assert "needs brought/gone, which is not below" in harness("run", "trial", code=2).stderr
    skipping(harness, ["here", "gone"])
    assert "needs brought/gone, which is not below" in harness("run", "gone", code=2).stderr


def test_what_a_suite_excludes_is_not_said_to_be_missing(harness: Any) -> None:
    harness.brought("gone")
    skipping(harness, ["toy", "gone"])
    with Path("specs/suites/trial.yaml").open("a") as file:
        file.write("exclude: [{task: gone}]\n")
    assert "left out" not in harness("plan", "trial").stderr


def test_a_changed_task_is_computed_anew_and_alone_in_the_table(harness: Any) -> None:
    harness("run", "trial")
    harness.task("toy", version="2")
    assert "3 computed" in harness("run", "trial").stderr
    assert len(json.loads(harness("table", "--format", "json").stdout)["boards"]) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "trail"], "did you mean 'trial'"),
        (["run", "no_such.yaml"], "no_such.yaml"),
        (["run", "trial", "--methods", "goof"], "did you mean 'good'"),
        (["run", "trial", "--methods", "good,"], "--methods"),
        (["run", "trial", "--seeds", "one"], "--seeds"),
        (["run", "trial", "--seeds", "-1"], "--seeds"),
        (["run", "trial", "--limit", "0"], "--limit"),
        (["run", "trial", "--jobs", "0"], "--jobs"),
        (["run", "trial", "trial"], "one at a time"),
        (["run", "specs/methods/good.yaml"], "only suites and tasks"),
        (["plan", "nothing"], "unknown"),
        (["status"], "holds no run yet"),
        (["status", "trial"], "no run 'trial'"),
        (["table", "trial"], "no run 'trial'"),
        (["table", "--format", "parquet"], "--full and --write"),
        (["compare", "good", "weak"], "is no run"),
        (["why", "abc"], "no cell 'abc'"),
        (["verify", "trial"], "no run"),
        (["plot", "curves", "trial", "-o", "x.svg"], "no run"),
        (["plot", "trial"], "curves"),
    ],
    ids=" ".join,
)
def test_mistakes_of_users_are_said_plainly(harness: Any, arguments: list[str], said: str) -> None:
    result = harness(*arguments, code=2)
    assert said in result.stderr
    assert result.stdout == ""


def test_mistakes_in_specs_stop_a_run_before_it_begins(harness: Any) -> None:
    path = harness.task("toy")
    path.write_text(path.read_text().replace("max_depth: 3", "max_depth: 300000"))
    result = harness("run", "trial", code=2)
    assert "tasks/toy.yaml:" in result.stderr
    assert not Path("results").exists()


# ---------------------------------------------------------------- status, why
def test_status_counts_every_state(harness: Any) -> None:
    harness.method("bad", fail="no luck")
    harness.suite("trial", ["toy"], ["bad", "good"])
    harness("run", "trial", "--fail-fast", code=1)
    counts = json.loads(harness("status", "trial", "--json").stdout)[0]["counts"]
    assert counts == {"ok": 0, "smoke": 0, "failed": 1, "running": 0, "missing": 2}
    assert "no luck" in harness("status").stdout
    with CellStore(RUN).claim(json.loads((RUN / "plan.json").read_text())["cells"][1]["id"]):
        assert "running" in harness("status", "trial").stdout


def test_why_shows_what_an_id_is_made_of(harness: Any) -> None:
    harness("run", "trial")
    cell = CellStore(RUN).ids()[0]
    text = harness("why", cell[:8]).stdout
    assert 'generator = "brackets"' in text
    assert "seed = 0" in text
    data = json.loads(harness("why", cell, "--json").stdout)
    assert data["cell"] == cell
    assert data["status"] == "ok"


def test_why_shows_what_differs_from_the_nearest_stored_cell(harness: Any) -> None:
    harness("run", "trial")
    harness.task("toy", version="2")
    planned = json.loads(harness("plan", "trial", "--json").stdout)[0]["cells"][0]["cell"]
    assert "--spec" in harness("why", planned, code=2).stderr
    text = harness("why", planned, "--spec", "trial").stdout
    assert 'task.version: stored "1", wanted "2"' in text
    data = json.loads(harness("why", planned, "--spec", "trial", "--json").stdout)
    assert len(data["nearest"]["differences"]) == 1


def test_why_shows_the_traceback_of_a_failure(harness: Any) -> None:
    harness.method("bad", fail="no luck")
    harness.suite("trial", ["toy"], ["bad"])
    harness("run", "trial", code=1)
    cell = next(iter((RUN / "failures").glob("*.json"))).stem
    assert "RuntimeError: no luck" in harness("why", cell).stdout


# ---------------------------------------------------------------- table, compare, plot
def test_table_in_every_format(harness: Any) -> None:
    run = harness("run", "trial")
    assert harness("table", "trial").stdout == run.stdout
    assert harness("table", str(RUN)).stdout == run.stdout
    assert r"\begin{tabular}" in harness("table", "--format", "latex").stdout
    assert harness("table", "--format", "html").stdout.startswith("<!doctype html>")
    records = list(csv.DictReader(io.StringIO(harness("table", "--format", "csv").stdout)))
    assert records[0]["method"] == "good"
    harness("table", "--write", "board.md")
    assert Path("board.md").read_text() == run.stdout


def test_a_table_has_the_columns_asked_for(harness: Any) -> None:
    run = harness("run", "trial", "--columns", "method,cpr")
    head = run.stdout.split("\n\n")[2].splitlines()[0]
    assert [cell.strip() for cell in head.split("|")] == ["", "method", "CPR ↑", ""]
    assert harness("table", "trial", "--columns", "method,cpr").stdout == run.stdout
    assert "edges f≥.85/.95/.99 ↓" in harness("table", "trial", "--wide").stdout
    assert "no column 'cdm'" in harness("table", "trial", "--columns", "cdm", code=2).stderr
    harness("table", "trial", "--columns", "cmd", "--wide", code=2)
    harness("table", "trial", "--wide", "--format", "csv", code=2)


def test_a_control_named_in_methods_stays_one(harness: Any) -> None:
    table = harness("run", "trial", "--methods", "good,paths").stdout
    assert "paths (control)" in table
    assert table.count("paths") == 1


def test_a_table_can_say_where_it_was_made(harness: Any) -> None:
    run = harness("run", "trial")
    text = harness("table", "trial", "--provenance").stdout
    assert text.startswith(run.stdout)
    line = text.removeprefix(run.stdout)
    assert "`harness run trial`, 3 cells, 20" in line
    assert f"torch {version('torch')}" in line
    assert "on cpu with" in line
    harness("table", "trial", "--provenance", "--format", "csv", code=2)
    harness("table", "trial", "--provenance", "--full", code=2)


def test_full_table_has_a_row_per_cell_and_size(harness: Any) -> None:
    harness("run", "trial")
    rows = json.loads(harness("table", "--full", "--format", "json").stdout)
    assert len(rows) == 3 * 4
    harness("table", "--full", "--format", "parquet", "--write", "rows.parquet")
    import polars as pl

    assert pl.read_parquet("rows.parquet").height == 12


def test_the_stated_size_can_be_chosen(harness: Any) -> None:
    harness("run", "trial")
    assert "f @50% ↑" in harness("table", "--size", "0.5").stdout
    harness("table", "--size", "0", code=2)


def test_compare_names_the_winner(harness: Any) -> None:
    harness("run", "trial")
    text = harness("compare", "good", "weak").stdout
    assert "A better" in text
    assert "1 wins, 0 ties, 0 losses" in text
    data = json.loads(harness("compare", "trial:weak", "trial:good", "--json").stdout)
    assert (data["wins"], data["losses"]) == (0, 1)
    assert data["tasks"][0]["cmd"]["low"] > 0


def test_compare_tells_the_evaluations_of_a_suite_apart(harness: Any) -> None:
    path = harness.suite("trial", ["toy"], ["good", "weak"])
    path.write_text(path.read_text() + "evaluations: [{ablation: zero}, {ablation: mean}]\n")
    harness("run", "trial")
    text = harness("compare", "good", "weak").stdout
    assert "| toy, ablation zero |" in text
    assert "| toy, ablation mean |" in text
    assert "2 wins, 0 ties, 0 losses" in text
    data = json.loads(harness("compare", "good", "weak", "--json").stdout)
    assert [one["variant"] for one in data["tasks"]] == ["ablation zero", "ablation mean"]
    path.write_text(path.read_text().replace("{ablation: mean}", "{ablation: resample}"))
    harness("run", "trial")
    text = harness("compare", "good", "weak").stdout
    assert "ablation resample" in text
    assert "ablation mean" not in text  # the suite has it no more


def test_plot_writes_a_figure(harness: Any) -> None:
    harness("run", "trial")
    harness("plot", "curves", "trial", "-o", "curves.svg")
    assert Path("curves.svg").read_text().startswith("<?xml")


# ---------------------------------------------------------------- verify, doctor
def test_verify_finds_every_fault(harness: Any) -> None:
    harness("run", "trial")
    # Three cells, a model, the record of the run, and all weights that are shipped with specs.
    checked = 5 + len(list((ROOT / "specs").glob("*/*/manifest.json")))
    assert f"{checked} cells, models and records checked, 0 corrupt" in harness("verify").stdout
    cells = sorted((RUN / "cells").iterdir())
    (cells[0] / "examples.safetensors").write_bytes(b"x")
    (cells[1] / "result.json").write_text("{")
    result = harness("verify", "trial", code=3)
    assert "2 corrupt" in result.stdout
    assert result.stderr.count("corrupt: ") == 2
    table = harness("table", code=3)
    assert table.stdout.count(": 1 damaged.") == 2
    assert table.stdout.count("| 1/1") == 1
    assert table.stderr.count("corrupt: ") == 2


def test_a_results_folder_without_locks_is_refused_in_one_line(
    harness: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    for arguments in (("run", "trial"), ("run", "trial", "--jobs", "2")):
        result = harness(*arguments, code=2)
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: No locks available: without locks two processes could")
        assert line.endswith("plan.lock")
        assert result.stdout == ""
    assert "No locks available" in harness("doctor", code=1).stdout
    assert harness.computed() == 0


def test_doctor_says_whether_results_can_be_written(harness: Any) -> None:
    data = json.loads(harness("doctor", "--json").stdout)
    assert data["problem"] is None
    assert data["versions"]["torch"]
    assert not Path("results").exists()
    Path("results").write_text("a file in the way")
    assert "cannot write" in harness("doctor", "-o", "results/deep", code=1).stdout
