"""Dictionaries from a spec to a table, and circuits of their features from a suite to a row."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

import harness as api
from harness.circuits.files import save_circuit
from harness.cli.main import main
from harness.datasets.open import open_data
from harness.runs.compute import cell as cell_module
from harness.runs.compute.dictionaries import obtain_dictionaries
from harness.runs.compute.obtain import obtain_model
from harness.runs.plan import ModelSource, make_cell
from harness.runs.plan.dictionaries import plan_dictionaries
from harness.runs.store.record import model_store
from harness.spec.load import Library
from harness.spec.types import Method, Runtime

TASK = """\
spec_version: 1
name: tiny
title: A tiny task
version: "1"
tokenizer: {kind: characters, bos: true}
data:
  kind: generator
  generator: brackets
  seed: 0
  params: {kinds: ["()", "[]"], lengths: [7, 9], max_depth: 3, min_distance: 2}
evaluation: {ablation: interchange, positions: all, sizes: [0.1, 0.5, 1.0], discovery_pairs: 16,
             test_pairs: 24}
model:
  kind: train
  architecture: {n_layers: 1, n_heads: 2, d_model: 8}
  training: {objective: answer, steps: 5}
"""
DICTIONARY = """\
spec_version: 1
name: small
title: Small dictionaries
kind: train
task: tiny
dictionary: {features: 12, k: 3}
training: {tokens: 2560, batch_tokens: 256, buffer_tokens: 1024}
"""
TEMPLATE = """\
spec_version: 1
name: tiny
title: A tiny task
version: "1"
tokenizer: {kind: words}
data:
  kind: template
  templates: ["{A} sees {B} ."]
  slots: {A: names, B: names}
  lists: {names: [ann, bob, cat]}
  constraints: ["A != B"]
  good: {slot: B}
  bad: {slot: A}
  corruptions: {swap: {A: B, B: A}, fixed: {A: "=bob"}}
  corruption: swap
evaluation: {ablation: interchange, positions: all, discovery_pairs: 2, test_pairs: 2}
model:
  kind: train
  architecture: {n_layers: 1, n_heads: 2, d_model: 8}
  training: {objective: answer, steps: 5}
"""
FEATURES = {"granularity": "feature", "component": "features", "dictionary": "small"}
SUITE = """\
spec_version: 1
name: both
title: Edges beside features
tasks: [tiny]
methods: [mask_gradient_ig]
controls: [random]
evaluations:
  - {granularity: edge}
  - {granularity: feature, dictionary: small, ablation: mean_positional}
  - {granularity: feature, dictionary: small, component: features_and_errors}
"""


@pytest.fixture
def specs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in (
        ("tasks/tiny.yaml", TASK),
        ("specs/dictionaries/small.yaml", DICTIONARY),
        ("specs/suites/both.yaml", SUITE),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def harness(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def reported(*arguments: str) -> Any:
    result = harness(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_dictionaries_are_trained_once_measured_and_exported(specs: Path) -> None:
    refused = harness("dictionary", "small")
    assert refused.exit_code == 2
    assert "are not trained yet; --train trains and keeps them" in refused.output
    first = reported("dictionary", "small", "--train", "--pairs", "20", "--export", "out")
    assert [one["site"] for one in first["sites"]] == ["a0.out", "m0.out"]
    assert first["prompts"] == 20
    assert (specs / "out" / "m0.out" / "cfg.json").is_file()
    again = harness("dictionary", "small", "--pairs", "20", "--json")
    assert "are in the cache" in again.stderr
    assert json.loads(again.stdout) == first
    text = harness("dictionary", "small", "--pairs", "20").stdout
    assert "| all at once" in text
    assert "12 features a site" in text
    loaded = (
        "kind: load\npath: ../../out\ntask: tiny\nspec_version: 1\ntitle: Loaded\nname: loaded\n"
    )
    (specs / "specs/dictionaries/loaded.yaml").write_text(loaded)
    other = reported("dictionary", "loaded", "--pairs", "20")
    for one, was in zip(other["sites"], first["sites"], strict=True):
        assert one["ev"] == pytest.approx(was["ev"], abs=1e-5)
    assert other["dictionary_id"] != first["dictionary_id"]
    for command in ("dictionary", "features"):
        untrained = harness(command, "loaded", "--results", "elsewhere")
        assert untrained.exit_code == 2
        assert "of dictionaries loaded is not trained yet; --train trains" in untrained.output


def test_what_whole_games_lose_is_said_with_its_error() -> None:
    asked = ("dictionary", "othello6-k32", "--pairs", "2", "--sequences", "20")
    report = reported(*asked)["sequences"]
    assert report["n"] == 20
    legal = {name: report[name]["allowed_top1"] for name in ("model", "spliced", "change")}
    assert 0.97 < legal["spliced"]["value"] < 1
    apart = legal["spliced"]["value"] - legal["model"]["value"]
    assert legal["change"]["value"] == pytest.approx(apart)
    assert 0 < legal["change"]["se"] < 0.01
    assert 0 < report["spliced"]["kl"]["value"] < 0.05
    text = harness(*asked).output
    assert "20 whole held-out sequences, all sites at once, mean ± standard error:" in text
    assert re.search(r"\| othello6-k32, change +\| +\| [+-]0\.\d{4} ± 0\.\d{4} ", text)


def test_sequences_of_a_task_without_them_are_refused(specs: Path) -> None:
    result = harness("dictionary", "small", "--train", "--sequences", "5")
    assert result.exit_code == 2
    assert "task 'tiny' has no sequences with every right next token" in result.output


def test_training_dictionaries_is_no_cost_of_the_cell_that_comes_first(
    specs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, clock, train = [0.0], time.perf_counter, cell_module.dictionaries_of

    def slow(*arguments: Any) -> Any:
        late[0] += 1000
        return train(*arguments)

    monkeypatch.setattr(time, "perf_counter", lambda: clock() + late[0])
    monkeypatch.setattr(cell_module, "dictionaries_of", slow)
    task = Library().task("tiny")
    choices = replace(task.spec.evaluation, **FEATURES)
    task = replace(task, spec=replace(task.spec, evaluation=choices))
    task = Library().with_dictionary(task, specs)
    random = Method(name="random", title="Random", kind="random")
    cell = make_cell(task, ModelSource.of(task), random, "control", 0, Runtime())
    output = cell_module.compute_cell(cell, model_store(specs / "results"), str)
    assert output.timing["cell_seconds"] < 500


def test_tasks_of_features_are_looked_at_and_measured_with_their_dictionaries(specs: Path) -> None:
    evaluation = ", ".join(f"{name}: {value}" for name, value in FEATURES.items())
    text = TASK.replace("{ablation: interchange", f"{{{evaluation}, ablation: interchange")
    (specs / "tasks/features.yaml").write_text(text.replace("name: tiny", "name: features"))
    assert harness("dictionary", "small", "--train", "--pairs", "4").exit_code == 0
    shown = harness("look", "features", "--json")
    assert "is not known" not in shown.stderr
    assert json.loads(shown.stdout)["verdict"] is not None
    task = api.load_task("features")
    model = api.load_model(task)
    found = api.discover(task, model, "random", size=1.0)
    assert found.space.unit == "features"
    assert api.evaluate(found, task, model)["kl"].value == pytest.approx(0, abs=1e-6)


RANDOM = """\
spec_version: 1
name: drawn
title: Random directions
kind: random
task: tiny
dictionary: {features: 12, k: 3}
tokens: 1024
"""


def test_random_dictionaries_stand_beside_trained_ones(specs: Path) -> None:
    (specs / "specs/dictionaries/drawn.yaml").write_text(RANDOM)
    assert "--train trains" in harness("dictionary", "drawn").output
    report = reported("dictionary", "drawn", "--train", "--pairs", "20")
    trained = reported("dictionary", "small", "--train", "--pairs", "20")
    for one, other in zip(report["sites"], trained["sites"], strict=True):
        assert one["features"] == other["features"]
        assert one["l0"] == pytest.approx(3, abs=0.5)
        assert one["ev"] < other["ev"]
    (specs / "specs/dictionaries/drawn.yaml").write_text(
        RANDOM.replace("features: 12, k: 3", "features: 12, activation: relu_l1")
    )
    refused = harness("validate", "drawn")
    assert refused.exit_code == 2
    assert "a random dictionary is topk or batchtopk, and needs k" in refused.output


def test_circuits_of_features_are_judged(specs: Path) -> None:
    """From a file that names its dictionaries, or with --dictionary, on a task of features."""
    evaluation = ", ".join(f"{name}: {value}" for name, value in FEATURES.items())
    text = TASK.replace("{ablation: interchange", f"{{{evaluation}, ablation: interchange")
    (specs / "tasks/features.yaml").write_text(text.replace("name: tiny", "name: features"))
    assert harness("dictionary", "small", "--train", "--pairs", "4").exit_code == 0
    task = api.load_task("features")
    found = api.discover(task, api.load_model(task), "random", size=0.5)
    save_circuit(replace(found, source={"dictionary": "small"}), specs / "half.json")
    asked = ("judge", "half.json", "--task", "features", "--tests", "necessity,interchange")
    report = reported(*asked, "--pairs", "8")
    assert (report["unit"], report["size"], report["total"]) == ("features", 12, 24)
    assert report["necessity"]["sets"] == 10
    assert report["interchange"]["sets"] == 10
    again = reported(*asked, "--pairs", "8", "--dictionary", "small")
    assert again == report
    save_circuit(replace(found, source={"dictionary": "gone"}), specs / "half.json")
    assert "unknown dictionary 'gone'" in harness(*asked).output
    save_circuit(replace(found, kept=~found.kept), specs / "other.json")
    shared = harness("overlap", "half.json", "other.json")
    assert shared.exit_code == 0, shared.output
    assert "features" in shared.output


@pytest.mark.slow  # a run of two cells
def test_a_cell_of_features_is_judged_with_its_dictionaries(specs: Path) -> None:
    text = TASK.replace("sizes: [0.1, 0.5, 1.0]", "sizes: [0.5]").replace("24", "8")
    (specs / "tasks/tiny.yaml").write_text(text)
    suite = SUITE.replace("  - {granularity: edge}\n", "").replace(
        ", component: features_and_e", "#"
    )
    (specs / "specs/suites/both.yaml").write_text(suite[: suite.rindex("  - ")])
    done = harness("run", "both", "--methods", "mask_gradient_ig")
    assert done.exit_code == 0, done.output
    rows = json.loads(harness("table", "both", "--full", "--format", "json").stdout)
    cell = next(row["cell"] for row in rows if row["method"] == "mask_gradient_ig")
    asked = ("judge", cell[:12], "--tests", "equivalence", "--size", "0.5")
    report = reported(*asked)
    assert report["unit"] == "features"
    assert report["as_stored"]["apart"] < 1e-6
    path = specs / "specs/dictionaries/small.yaml"
    path.write_text(path.read_text().replace("k: 3", "k: 4"))
    refused = harness(*asked)
    assert refused.exit_code == 2
    assert "small is now [" in refused.output


def test_an_export_that_cannot_be_whole_writes_nothing(specs: Path) -> None:
    sites = DICTIONARY.replace("task: tiny", "task: tiny\nsites: [embed, final]")
    (specs / "specs/dictionaries/small.yaml").write_text(sites)
    refused = harness("dictionary", "small", "--train", "--pairs", "4", "--export", "out")
    assert refused.exit_code == 2
    assert "site 'final' is no hook that SAELens knows" in refused.output
    assert not (specs / "out").exists()


def test_training_dictionaries_leaves_the_precision_of_the_model(specs: Path) -> None:
    planned = plan_dictionaries(Library().dictionary("small"), Runtime(dtype="float64"))
    models = model_store(specs / "results")
    model = obtain_model(planned.cell, open_data(planned.cell.task), models, str)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    trained = obtain_dictionaries(planned, model, models, str)
    assert {weight.dtype for weight in model.parameters()} == {torch.float64}
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    assert trained["a0.out"].decoder.dtype == torch.float64


@pytest.mark.slow  # 15 s: a run of six cells
def test_feature_circuits_stand_beside_edge_circuits(specs: Path) -> None:
    done = harness("run", "both")
    assert done.exit_code == 0, done.output
    rows = json.loads(harness("table", "both", "--full", "--format", "json").stdout)
    by_unit = {row["unit"]: row for row in rows if row["method"] == "random"}
    assert set(by_unit) == {"edges", "features"}
    totals = {row["total"] for row in rows if row["unit"] == "features"}
    assert totals == {24, 26}
    assert harness("verify").exit_code == 0
    whole = [row for row in rows if row["unit"] == "features" and row["size"] == row["total"]]
    assert whole
    assert all(row["kl"] == pytest.approx(0, abs=1e-6) for row in whole)


def test_a_plan_says_which_dictionaries_are_to_be_trained(specs: Path) -> None:
    planned = plan_dictionaries(Library().dictionary("small"), Runtime())
    (entry,) = reported("plan", "both")[0]["dictionaries_to_train"]
    assert (entry["dictionary"], entry["dictionary_id"]) == ("small", planned.id)
    assert 0 < entry["seconds"] < 10
    text = " ".join(harness("plan", "both").output.split())
    assert "models to train: tiny; dictionaries to train: small (about " in text
    assert harness("dictionary", "small", "--train", "--pairs", "4").exit_code == 0
    assert reported("plan", "both")[0]["dictionaries_to_train"] == []
    assert "dictionaries" not in harness("plan", "both").output


def test_a_cell_holds_the_identity_of_its_dictionaries(specs: Path) -> None:
    cells = {cell["cell"] for cell in reported("plan", "both")[0]["cells"]}
    text = (specs / "specs/dictionaries/small.yaml").read_text()
    (specs / "specs/dictionaries/small.yaml").write_text(text.replace("k: 3", "k: 4"))
    other = {cell["cell"] for cell in reported("plan", "both")[0]["cells"]}
    assert len(cells & other) == 2  # those of edges
    why = harness("why", next(iter(other - cells))[:12], "--spec", "both").stdout
    assert "dictionary (" in why
    assert "dictionary.dictionary.k = 4" in why or "dictionary.k = 4" in why


def test_a_dictionary_of_another_model_is_refused(specs: Path) -> None:
    suite = SUITE.replace("controls: [random]", "models: [small-4l-64]")
    (specs / "specs/suites/both.yaml").write_text(suite)
    refused = harness("plan", "both")
    assert refused.exit_code == 2
    assert "dictionaries 'small' are of model 'tiny'" in refused.output
    assert "their features are no parts of it" in refused.output


def test_the_threads_of_a_training_are_no_part_of_the_id(specs: Path) -> None:
    loaded = Library().dictionary("small")
    one, other = (plan_dictionaries(loaded, Runtime(threads=n)) for n in (1, 2))
    assert one.id == other.id


def test_the_corruption_counts_where_held_out_pairs_say_when_to_stop(specs: Path) -> None:
    ids = []
    for corruption in ("swap", "fixed"):
        text = TEMPLATE.replace("corruption: swap", f"corruption: {corruption}")
        (specs / "tasks/tiny.yaml").write_text(text)
        for target in ("", "target: {value: 0.1}\n"):
            (specs / "specs/dictionaries/small.yaml").write_text(DICTIONARY + target)
            planned = plan_dictionaries(Library().dictionary("small"), Runtime())
            ids.append((planned.id, planned.cell.model_id))
    (plain, model), (stopped, _), (same, of_same), (other, of_other) = ids
    assert model == of_same == of_other
    assert plain == same
    assert len({plain, stopped, other}) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("k: 3", "k: 13"), "dictionary.k: 13 of 12 features cannot be active"),
        ((", k: 3", ""), "k is needed by topk and batchtopk"),
        (("k: 3", "k: 3, activation: relu_l1"), "k is for topk and batchtopk"),
        (("task: tiny", "task: tiny\nsites: [a1]"), "sites.0: a1 is not in the model's 1 layers"),
        (("task: tiny", "task: tiny\nsites: [heads]"), "must be attention, mlp, embed, or a site"),
        (("task: tiny", "task: tini"), "unknown task 'tini'; did you mean 'tiny'?"),
    ],
)
def test_mistakes_in_dictionaries_are_named(
    specs: Path, change: tuple[str, str], message: str
) -> None:
    (specs / "specs/dictionaries/small.yaml").write_text(DICTIONARY.replace(*change))
    result = harness("validate", "small")
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ("{granularity: feature, ablation: zero", "granularity 'feature' needs `dictionary`"),
        ("{dictionary: small, ablation: zero", "granularity 'edge' has no features"),
        ("{granularity: feature, dictionary: smal, ablation: zero", "unknown dictionary 'smal'"),
    ],
)
def test_evaluations_name_dictionaries_that_there_are(
    specs: Path, evaluation: str, message: str
) -> None:
    text = TASK.replace("{ablation: interchange", evaluation)
    (specs / "tasks/tiny.yaml").write_text(text)
    result = harness("validate", "tiny")
    assert result.exit_code == 2
    assert message in result.output


def test_a_suite_must_allow_all_of_another_granularity(specs: Path) -> None:
    suite = SUITE.replace("dictionary: small, ablation: mean_positional", "ablation: zero")
    (specs / "specs/suites/both.yaml").write_text(suite)
    result = harness("plan", "both")
    assert "needs `dictionary`" in result.output
