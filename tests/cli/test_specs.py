"""Verbs about specs: list, show, new, validate."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.spec.shipped import shipped_root


# ---------------------------------------------------------------- list, show
def test_list_shows_own_and_shipped_tasks(harness: Any) -> None:
    text = harness("list").stdout
    assert "toy" in text
    assert "The task toy  [tiny]" in text
    assert "ioi" in text


def test_list_by_tag_and_as_json(harness: Any) -> None:
    found = json.loads(harness("list", "tasks", "--tag", "tiny", "--json").stdout)
    assert [(one["name"], one["tags"], one["issues"]) for one in found] == [("toy", ["tiny"], [])]


def test_a_broken_file_is_listed_as_broken(harness: Any) -> None:
    path = harness.task("torn")
    path.write_text(path.read_text().replace("lengths", "lenghts").replace("steps: 10", "stepz: 1"))
    text = harness("list").stdout
    assert "BROKEN tasks/torn.yaml:" in text
    assert "toy" in text
    found = json.loads(harness("list", "--json").stdout)
    assert next(one for one in found if one["name"] == "torn")["issues"]


def test_list_of_every_kind(harness: Any) -> None:
    for kind in ("models", "methods", "suites", "metrics"):
        harness("list", kind)
    assert "cmd ↓" in harness("list", "metrics").stdout
    assert harness("list", "nonsense", code=2).stdout == ""


def test_include_adds_a_folder(harness: Any, tmp_path: Path) -> None:
    other = tmp_path / "more"
    (other / "tasks").mkdir(parents=True)
    (other / "tasks" / "added.yaml").write_text(harness.task("added").read_text())
    (harness.folder / "tasks" / "added.yaml").unlink()
    assert "added" not in harness("list").stdout
    assert "added" in harness("list", "--include", str(other)).stdout


def test_show_prints_the_file_and_its_resolved_form(harness: Any) -> None:
    assert harness("show", "toy").stdout == (harness.folder / "tasks/toy.yaml").read_text()
    assert "batch_size: 128" in harness("show", "toy", "--resolved").stdout
    assert json.loads(harness("show", "toy", "--json").stdout)["model"]["training"]["clip"] == 1.0
    assert "The method good" in harness("show", "good").stdout
    assert "trapezoid" in harness("show", "cmd").stdout
    assert json.loads(harness("show", "cmd", "--json").stdout)["better"] == "down"


def test_show_of_nothing_known_suggests(harness: Any) -> None:
    assert "did you mean 'toy'" in harness("show", "toyy", code=2).stderr


def test_show_asks_which_kind_where_a_name_is_shared(harness: Any) -> None:
    harness.method("toy")
    assert "--kind" in harness("show", "toy", code=2).stderr
    assert "kind: fake" in harness("show", "toy", "--kind", "method").stdout


def test_show_does_not_let_a_file_drive_the_terminal(harness: Any) -> None:
    harness.task("toy").write_text("# \x1b[31mred\n")
    assert "\x1b" not in harness("show", "toy").stdout


# ---------------------------------------------------------------- new
def test_new_copies_a_task_that_then_validates(harness: Any) -> None:
    result = harness("new", "mine", "--from", "toy")
    assert result.stdout == "tasks/mine.yaml\n"
    text = (harness.folder / "tasks/mine.yaml").read_text()
    original = (harness.folder / "tasks/toy.yaml").read_text()
    changed = original.replace("name: toy\n", "name: mine\n").replace("model-toy", "mine-model")
    assert text.endswith(changed)
    assert "# mine: a copy of the task toy" in text
    harness("validate", "tasks/mine.yaml")


def test_new_keeps_the_comments_of_a_shipped_task(harness: Any) -> None:
    harness("new", "my_ioi", "--from", "ioi")
    text = (harness.folder / "tasks/my_ioi.yaml").read_text()
    assert "name: my_ioi\n" in text
    schema = text.splitlines()[0].partition("$schema=")[2]
    assert (harness.folder / "tasks" / schema).is_file()
    assert text.count("#") > 5
    original = (shipped_root() / "tasks/ioi.yaml").read_text()
    comments = [line for line in original.splitlines() if "  #" in line]
    assert all(comment in text for comment in comments)
    harness("validate", "tasks/my_ioi.yaml")


def test_new_copies_the_tutorial_by_default(harness: Any) -> None:
    harness("new", "years")
    harness("validate", "tasks/years.yaml")
    text = (harness.folder / "tasks/years.yaml").read_text()
    assert "name: years " in text
    assert "name: years-2l-64\n" in text
    assert "tutorial task" not in text
    assert "greater" not in text.split("spec_version")[0].replace("greater_than", "")


def test_new_never_overwrites(harness: Any) -> None:
    path = harness.write("tasks/mine.yaml", "precious")
    assert "is there already" in harness("new", "mine", "--from", "toy", code=2).stderr
    assert path.read_text() == "precious"
    assert "already" in harness("new", "ioi", "--from", "toy", code=2).stderr


@pytest.mark.parametrize("name", ["../evil", "a b", "", ".hidden", "x/y"])
def test_new_wants_a_proper_name(harness: Any, name: str) -> None:
    harness("new", name, "--from", "toy", code=2)
    assert not list(harness.folder.parent.glob("evil*"))


def test_new_leaves_nothing_half_written(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.disk.os.fsync", full)
    harness("new", "mine", "--from", "toy", code=130)
    assert sorted(path.name for path in (harness.folder / "tasks").iterdir()) == ["toy.yaml"]


# ---------------------------------------------------------------- validate
def test_validate_finds_nothing_wrong_with_sound_specs(harness: Any) -> None:
    result = harness("validate", "tasks", "specs")
    assert result.stdout == ""
    assert "6 files checked, 0 with mistakes" in result.stderr


@pytest.mark.slow
def test_validate_finds_nothing_wrong_with_what_is_shipped(harness: Any) -> None:
    result = harness("validate")
    assert result.stdout == ""
    assert "0 with mistakes" in result.stderr


def test_validate_says_where_and_what(harness: Any) -> None:
    path = harness.task("toy")
    path.write_text(path.read_text().replace("d_model", "d_modle"))
    result = harness("validate", "tasks/toy.yaml", code=2)
    assert "tasks/toy.yaml:" in result.stdout
    assert "did you mean 'd_model'?" in result.stdout
    found = json.loads(harness("validate", "toy", "--format", "json", code=2).stdout)
    assert {one["file"] for one in found} == {"tasks/toy.yaml"}
    github = harness("validate", "tasks", "--format", "github", code=2).stdout
    assert github.startswith("::error file=tasks/toy.yaml,line=")


def test_validate_looks_at_the_data_of_a_task(harness: Any) -> None:
    path = harness.task("toy")
    path.write_text(path.read_text().replace("max_depth: 3", "max_dept: 3"))
    assert "max_depth" in harness("validate", "toy", code=2).stdout


def test_validate_knows_the_kinds_of_methods(harness: Any) -> None:
    path = harness.method("odd")
    path.write_text(path.read_text().replace("kind: fake", "kind: rondom"))
    assert "did you mean 'random'?" in harness("validate", "odd", code=2).stdout


FLAT = """\
spec_version: 1
name: {kind}
title: A distance to the whole model
kind: {kind}
params: {{objective: {objective}}}
"""


@pytest.mark.parametrize("kind", ["eap", "node_attribution"])
@pytest.mark.parametrize("objective", ["kl", "squared_error"])
def test_an_objective_without_gradient_is_a_mistake_of_the_method(
    harness: Any, kind: str, objective: str
) -> None:
    """Before a model is there, where it is written, and with the methods that can take it."""
    path = harness.write(f"specs/methods/{kind}.yaml", FLAT.format(kind=kind, objective=objective))
    said = f"{objective!r}, a distance to that model, is at its minimum"
    assert said in harness("validate", str(path), code=2).stdout
    for verb in ("plan", "run"):
        refused = harness(verb, "trial", "--methods", f"good,{kind}", code=2)
        assert f"specs/methods/{kind}.yaml:5:21: error: params.objective" in refused.stderr
        assert said in refused.stderr
        assert "activation_patching, eap_ig, element_patching, mask_gradient_ig" in refused.stderr
    assert not Path("results").exists()
    if kind == "node_attribution":  # with more steps it looks elsewhere too
        text = path.read_text().replace("}", ", steps: 2}")
        path.write_text(text)
        harness("validate", str(path))


def test_a_metric_without_gradient_is_a_mistake_of_the_suite(harness: Any) -> None:
    """With the objective `metric` it is the task that decides."""
    suite = harness.suite("flat", ["toy"], ["eap_ig", "eap"])
    harness("validate", str(suite))
    suite.write_text(suite.read_text() + "evaluations: [{metric: squared_error}]\n")
    found = harness("validate", str(suite), code=2).stdout
    assert "flat.yaml:5:21: error: methods.1: method 'eap' takes the gradient" in found
    assert found.count("error:") == 1
    refused = harness("plan", "flat", code=2).stderr
    assert "toy: method 'eap' takes the gradient at the whole model" in refused
    suite.write_text(suite.read_text() + "exclude: [{method: eap}]\n")
    harness("validate", str(suite))
    harness("plan", "flat")


def test_a_method_that_cannot_do_a_further_grid_is_a_mistake_there(harness: Any) -> None:
    suite = harness.suite("beside", ["toy"], ["eap_ig", "eap"])
    grid = "also: [{evaluations: [{granularity: channel, ablation: zero}]}]\n"
    suite.write_text(suite.read_text() + grid)
    found = harness("validate", str(suite), code=2).stdout
    assert "also.0.methods.0: eap_ig cannot find circuits of granularity 'channel'" in found
    assert found.count("error:") == 1
    assert "eap_ig cannot find" in harness("plan", "beside", code=2).stderr
    suite.write_text(suite.read_text().replace("also: [{", "also: [{methods: [eap], "))
    harness("validate", str(suite))
    harness("plan", "beside", "--methods", "eap_ig")  # the further grid has nothing to do


def test_acdc_on_a_model_that_normalises_heads_is_a_mistake_of_the_suite(harness: Any) -> None:
    """As soon as the model's configuration is there to be read."""
    harness.brought("one")
    suite = harness.suite("gemma", ["one"], ["eap", "acdc"])
    harness("validate", str(suite))
    files = ("config.json", "model.safetensors")
    harness.bring("one", *files, post_norms=True)
    wanted = "acdc cannot be used with models that normalise what the heads of a layer add"
    found = harness("validate", str(suite), code=2).stdout
    assert "gemma.yaml:5:18: error: methods.1: " + wanted in found
    assert found.count("error:") == 1
    assert "one: " + wanted in harness("plan", "gemma", code=2).stderr
    harness("plan", "gemma", "--methods", "eap")
    harness.bring("one", *files)
    harness("validate", str(suite))
    harness("plan", "gemma")
    model = "kind: load\nname: brought\ntitle: Brought\npath: brought/one\nspec_version: 1\n"
    harness.write("specs/models/brought.yaml", model)
    suite.write_text(suite.read_text().replace("[one]", "[toy]") + "models: [brought]\n")
    harness("validate", str(suite))
    harness.bring("one", *files, post_norms=True)
    assert wanted in harness("validate", str(suite), code=2).stdout
    suite.write_text(suite.read_text() + "exclude: [{method: acdc}]\n")
    harness("validate", str(suite))


def test_a_model_of_another_task_must_be_able_to_do_the_suites_tasks(harness: Any) -> None:
    suite = harness.suite("mixed", ["greater_than"], ["eap"])
    harness("validate", str(suite))
    suite.write_text(suite.read_text() + "models: [boolean-forms-4l-64]\n")
    found = harness("validate", str(suite), code=2).stdout
    assert "models.0: task 'greater_than': a model of task 'boolean_forms' cannot do" in found
    assert "their tokens are not the same" in found


def test_validate_all_files_at_once(harness: Any) -> None:
    for name in ("one", "two"):
        path = harness.task(name)
        path.write_text(path.read_text().replace("seed: 0", "seed: no"))
    result = harness("validate", "tasks", code=2)
    assert "tasks/one.yaml:" in result.stdout
    assert "tasks/two.yaml:" in result.stdout


@pytest.mark.parametrize("text", ["", "\x00", "a: [", "- 1", "name: x\nname: y", "&a [*a]"])
def test_validate_of_rubbish_is_an_error_not_a_crash(harness: Any, text: str) -> None:
    harness.write("tasks/rubbish.yaml", text)
    assert "tasks/rubbish.yaml" in harness("validate", "tasks/rubbish.yaml", code=2).stdout


def test_validate_of_what_is_not_there(harness: Any) -> None:
    for name in ("tasks/none.yaml", "no_such_name"):
        assert name in harness("validate", name, code=2).stderr
    (harness.folder / "empty").mkdir()
    assert "no .yaml file below empty" in harness("validate", "empty", code=2).stderr


FILE_TASK = """\
spec_version: 1.0
name: pairs
title: Pairs of a file
tokenizer: {kind: words, bos: true}
data: {kind: file, path: pairs.jsonl, columns: {good: good, bad: bad, split: split}}
evaluation: {ablation: interchange, positions: all, discovery_pairs: 2, test_pairs: 2}
model:
  kind: train
  architecture: {n_layers: 1, n_heads: 2, d_model: 8}
  training: {objective: answer, steps: 1}
"""


def test_rows_of_a_data_file_that_are_not_used_are_counted(harness: Any) -> None:
    """Also: a spec of version `1.0` is one of version 1."""
    harness.write("tasks/pairs.yaml", FILE_TASK)
    rows = [
        {"clean": f"{word} {split}", "corrupted": "b b", "good": "x", "bad": "y", "split": split}
        for word in ("a", "d")
        for split in ("train", "validation", "test")
    ]
    rows.append({**rows[0], "corrupted": "c c"})
    harness.write("tasks/pairs.jsonl", "\n".join(map(json.dumps, rows)))
    note = (
        "pairs.jsonl: 1 of 7 rows are left out, for their clean prompt "
        "stands in an earlier row (pairs.jsonl:7 as pairs.jsonl:1)"
    )
    assert f"warning: data: {note}" in harness("validate", "pairs").stderr
    assert f"tasks/pairs.yaml: note: {note}" in harness("plan", "tasks/pairs.yaml").stderr
    assert json.loads(harness("show", "pairs", "--json").stdout)["spec_version"] == 1
    rows[6] |= {"good": "y", "bad": "x"}
    harness.write("tasks/pairs.jsonl", "\n".join(map(json.dumps, rows)))
    shown = harness("validate", "pairs", code=2).stdout
    assert "data.path: pairs.jsonl:7: 'y' is a good answer here and a bad one in" in shown


@pytest.mark.slow
def test_validate_of_everything_names_each_missing_folder_once(harness: Any) -> None:
    for name in ("one", "two", "three", "four"):
        path = harness.brought(name)
        path.write_text(path.read_text().replace(f"path: brought/{name}", "path: brought/same"))
    lines = harness("validate").stderr.splitlines()
    (line,) = (line for line in lines if line.startswith("brought/same"))
    assert line == "brought/same is needed by four, one, three and 1 more"
    places = [line.split(" is needed by ")[0] for line in lines if " is needed by " in line]
    assert len(places) == len(set(places)) == len(lines) - 2
    assert "set HARNESS_FILES to the folder that holds them" in lines[-2]
    assert "need files that are not there" in lines[-1]
    single = harness("validate", "one").stderr
    assert "tasks/one.yaml: needs brought/same, which is not below" in single
