"""`tokenizer: {kind: model}`: one task file, the vocabulary of whichever model it is run with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.word_tokenizer import BOS, write_tokenizer

from harness.cli.check import check_suite, issues_of
from harness.datasets.check import check_task, needed_files
from harness.datasets.locate import VARIABLE
from harness.datasets.open import content_digests, open_data
from harness.errors import HarnessError, NotFound, SpecError
from harness.models.loading.tokenizer import on_model
from harness.runs.plan.identities import task_identity
from harness.spec.load import Library, Loaded
from harness.spec.types import CompileModel, LoadModel, Task

TASK = """spec_version: 1
name: toy
title: Toy
tokenizer: {kind: model, bos: auto}
data:
  kind: template
  templates:
    - text: "{X} met {Y} . {S2} smiled at"
  aliases:
    - {X: IO, Y: S}
    - {X: S, Y: IO}
  slots: {IO: names, S: names, S2: S, C: names}
  lists:
    names: {words: [Ann, Bob, Cy, Dan, Eve, Flo, Gus, Hal]}
  constraints:
    - distinct(IO, S, C)
  good: {slot: IO}
  bad: {slot: S}
  corruptions:
    abc: {S2: C}
  corruption: abc
evaluation: {granularity: edge, component: heads_qkv_mlps, ablation: interchange, positions: all,
  direction: noising, set: complement, discovery_pairs: 4, test_pairs: 4}
model: {kind: load, path: models/one}
"""
TRAINED = """{kind: train, architecture: {n_layers: 1, n_heads: 1, d_model: 8},
  training: {objective: answer, steps: 1}}"""
WORDS = ["Ann", "Bob", "Cy", "Dan", "Eve", "Flo", "Gus", "Hal", "met", "smiled", "at"]
ONE, TWO = LoadModel(path="models/one"), LoadModel(path="models/two")


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loaded[Task]:
    """A task whose models are nowhere yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    return load(tmp_path, TASK)


def load(folder: Path, text: str) -> Loaded[Task]:
    path = folder / "toy.yaml"
    path.write_text(text, encoding="utf-8")
    return Library().task(str(path))


def write(folder: Path, words: list[str], *, begins: bool = False) -> Path:
    """A model's tokenizer that puts BOS before every text, or does not."""
    path = folder / "tokenizer.json"
    write_tokenizer(path, words)
    if begins:
        document = json.loads(path.read_text())
        index = document["model"]["vocab"][BOS]
        text = [
            {"SpecialToken": {"id": BOS, "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ]
        document["post_processor"] = {
            "type": "TemplateProcessing",
            "single": text,
            "pair": [*text, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {BOS: {"id": BOS, "ids": [index], "tokens": [BOS]}},
        }
        path.write_text(json.dumps(document))
    return path


def test_each_model_gives_its_vocabulary_and_its_bos(task: Loaded[Task], tmp_path: Path) -> None:
    write(tmp_path / "models" / "one", WORDS)
    write(tmp_path / "models" / "two", [*WORDS, "more"], begins=True)
    one, two = (open_data(on_model(task, model, tmp_path)) for model in (ONE, TWO))
    assert two.tokenizer.size == one.tokenizer.size + 2  # "more" with and without a space
    assert one.tokenizer.bos is None
    bos = two.tokenizer.bos
    assert bos is not None
    assert two.tokenizer.tokens[bos] == BOS
    pairs = two.pairs("train", 4, 0)
    assert (pairs.clean[:, 0] == bos).all()
    assert pairs.clean.shape[1] == one.pairs("train", 4, 0).clean.shape[1] + 1


def test_the_content_of_the_file_counts_and_not_its_place(
    task: Loaded[Task], tmp_path: Path
) -> None:
    first = write(tmp_path / "models" / "one", WORDS)
    second = write(tmp_path / "models" / "two", WORDS)
    one, two = (on_model(task, model, tmp_path) for model in (ONE, TWO))
    assert one.spec.tokenizer.path == str(first)
    assert two.spec.tokenizer.path == str(second)
    assert list(content_digests(one)) == ["tokenizer.json"]
    assert task_identity(one) == task_identity(two)
    write(tmp_path / "models" / "two", [*WORDS, "more"])
    assert task_identity(one) != task_identity(two)


def test_without_a_model_nothing_is_opened_and_no_identity_is_made(task: Loaded[Task]) -> None:
    with pytest.raises(HarnessError, match="is that of the model, and no model is chosen"):
        open_data(task)
    with pytest.raises(HarnessError, match="no model is chosen"):
        task_identity(task)


def test_the_file_that_is_wanted_is_named(task: Loaded[Task], tmp_path: Path) -> None:
    assert check_task(task) == []
    (text,) = needed_files(task)
    assert text.startswith("needs models/one/tokenizer.json, which is not below ")
    (tmp_path / "models" / "one").mkdir(parents=True)
    (text,) = needed_files(task)
    assert "one has no tokenizer.json, which the task needs" in text
    with pytest.raises(NotFound, match=r"one has no tokenizer\.json"):
        on_model(task, ONE, tmp_path)
    write(tmp_path / "models" / "one", WORDS)
    assert needed_files(task) == []


def test_a_model_of_the_hub_brings_its_tokenizer(
    task: Loaded[Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fetched when a cell is planned; checking fetches nothing and calls nothing missing."""
    path = write(tmp_path / "cache", WORDS)
    fetched: list[str] = []

    def fetch(name: str, revision: str | None) -> Path:
        fetched.append(name)
        return path.parent

    monkeypatch.setattr("harness.models.loading.location._downloaded", fetch)
    remote = LoadModel(hub="somebody/model")
    text = TASK.replace("path: models/one", "hub: somebody/model")
    loaded = load(tmp_path, text)
    assert check_task(loaded) == []
    assert needed_files(loaded) == []
    assert fetched == []
    assert on_model(task, remote, tmp_path).spec.tokenizer.path == str(path)
    assert fetched == ["somebody/model"]


def test_mistakes_of_tokens_are_those_of_the_tasks_own_model(
    task: Loaded[Task], tmp_path: Path
) -> None:
    path = write(tmp_path / "models" / "one", WORDS)
    assert check_task(task) == []
    path.write_text(path.read_text().replace("| ?[A-Za-z]+|", "|[A-Za-z]+|").replace(" ?[A", "[A"))
    assert "' Ann' must be exactly one token" in str(check_task(task)[0])


@pytest.mark.parametrize("model", [TRAINED, "{kind: compile}"])
def test_a_model_that_is_not_loaded_is_refused_by_place(
    task: Loaded[Task], tmp_path: Path, model: str
) -> None:
    text = TASK.replace("{kind: load, path: models/one}", model)
    path = load(tmp_path, text).path
    issue = issues_of(Library(), path)[0]
    assert (issue.where, issue.line) == ("tokenizer.kind", 4)
    assert "needs the tokenizer of a loaded model" in issue.message
    with pytest.raises(HarnessError, match="needs the tokenizer of a loaded model"):
        on_model(task, CompileModel(), tmp_path)


def test_a_suite_checks_each_of_its_models(task: Loaded[Task], tmp_path: Path) -> None:
    (tmp_path / "two.yaml").write_text(
        "# $schema=x/model.schema.json\nspec_version: 1\ntitle: x\n"
        "name: two\nkind: load\npath: models/two\n"
    )
    path = tmp_path / "pairs.yaml"
    path.write_text(
        "# $schema=x/suite.schema.json\nspec_version: 1\nname: pairs\ntitle: x\n"
        "tasks: [./toy.yaml]\nmodels: [./two.yaml, small-4l-64]\nmethods: [eap]\n"
    )
    (issue,) = issues_of(Library(), path)
    assert issue.where == "models.1"
    assert "task 'toy': tokenizer: kind 'model' needs" in issue.message
    path.write_text(f"{path.read_text()}exclude: [{{model: small-4l-64}}]\n")
    assert issues_of(Library(), path) == []
    # The names are there, but " Ann" is not one token.
    file = write(tmp_path / "models" / "two", WORDS)
    assert issues_of(Library(), path) == []
    file.write_text(file.read_text().replace(" ?[A-Za-z]+", "[A-Za-z]+"))
    issues = issues_of(Library(), path)
    assert {issue.where for issue in issues} == {"models.0"}
    assert issues[0].message.startswith("task 'toy': data.good: answer ' Ann' must be exactly one")
    with pytest.raises(SpecError, match="' Ann' must be exactly one token"):
        check_suite(Library().suite(str(path)), Library())


def test_an_exclusion_names_a_model_of_the_suite(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(
        "# $schema=x/suite.schema.json\nspec_version: 1\nname: s\ntitle: x\ntasks: [ioi]\n"
        "models: [small-4l-64]\nmethods: [eap]\nexclude: [{model: small-4l}]\n"
    )
    (issue,) = issues_of(Library(), path)
    assert issue.where == "exclude.0.model"
    assert "did you mean 'small-4l-64'?" in issue.message


def test_bos_of_the_file_is_no_choice_for_built_vocabularies(tmp_path: Path) -> None:
    text = TASK.replace("{kind: model, bos: auto}", "{kind: words, bos: auto}")
    text = text.replace("{kind: load, path: models/one}", TRAINED)
    (issue,) = issues_of(Library(), load(tmp_path, text).path)
    assert issue.where == "tokenizer.bos"
    assert "'auto' is what a tokenizer.json does" in issue.message
