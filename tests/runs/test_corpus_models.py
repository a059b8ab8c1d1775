"""Models that are trained on a corpus: what their ids hold, their tokenizer, and their log."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cli.check import issues_of
from harness.datasets.open import open_data
from harness.errors import HarnessError
from harness.models.loading.tokenizer import on_model
from harness.runs.compute.obtain import obtain_model, training_data
from harness.runs.plan import Cell, ModelSource, check_files, make_cell
from harness.runs.plan.shipped import recipe, refuse_other_spec
from harness.runs.services.shipping.models import ship, train
from harness.runs.store.models import ModelStore
from harness.spec.load import Library
from harness.spec.shipped import shipped_root
from harness.spec.types import Method, Runtime, TrainModel

TOKENIZER = shipped_root() / "specs" / "tokenizers" / "python_2k" / "tokenizer.json"
METHOD = Method(name="random", title="Random", kind="random")
TASK = """
spec_version: 1
name: {cue}
title: A question about Python
tokenizer: {{kind: model, bos: true}}
data:
  kind: generator
  generator: python_code
  params: {{cue: {cue}, statements: [0, 0], longest: 32}}
  shares: {{train: 0.5, validation: 0.25, test: 0.25}}
evaluation: {{ablation: interchange, positions: all, discovery_pairs: 4, test_pairs: 4}}
model:
  kind: train
  corpus: {{{corpus}, tokenizer: {tokenizer}, context: 64}}
  architecture: {{n_layers: 1, n_heads: 1, d_model: 8, d_mlp: 8}}
  training: {{objective: {objective}, steps: 3, batch_size: 2, evaluate_every: 2}}
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    for number in range(60):
        (folder / f"part{number}.py").write_text(f"x{number} = {number}\n" * 20)
    return folder


Write = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.setattr("harness.datasets.corpus.data.HELD_OUT_WINDOWS", 4)
    monkeypatch.setattr("harness.runs.compute.obtain.QUESTION_PAIRS", 2)

    def write(corpus: str = "kind: python_idioms", cue: str = "for_while", **other: str) -> Path:
        words = {"objective": "next_token", "tokenizer": str(TOKENIZER), **other}
        path = tmp_path / f"{cue}.yaml"
        path.write_text(TASK.format(corpus=corpus, cue=cue, **words))
        return path

    return write


def cell_of(path: Path) -> Cell:
    task = Library().task(str(path))
    return make_cell(task, ModelSource.of(task), METHOD, "method", 0, Runtime())


def test_a_model_is_trained_on_its_corpus(written: Write, tmp_path: Path) -> None:
    cell = cell_of(written("kind: python_idioms, questions: true"))
    models = ModelStore(tmp_path / "models")
    data = open_data(cell.task)
    model = obtain_model(cell, data, models, lambda text: None)
    assert (model.config.n_ctx, model.config.d_vocab) == (64, 2048)
    history = models.read(cell.model_id).json("training.json")["history"]
    assert [one["step"] for one in history] == [2, 3]
    last = history[-1]
    assert last["loss"] == pytest.approx(math.log(2048), abs=1)
    assert 1 < last["entropy"] < 2
    asked = [value for name, value in last.items() if name.startswith("choices_")]
    assert len(asked) == 20
    assert last["choices"] == pytest.approx(sum(asked) / 20)
    assert all(share in (0, 0.25, 0.5, 0.75, 1) for share in asked)


def test_tasks_share_the_model_and_take_its_tokenizer(written: Write) -> None:
    one, other = cell_of(written()), cell_of(written(cue="var_if"))
    assert one.model_id == other.model_id
    assert one.id != other.id
    assert one.task.spec.tokenizer.path == str(TOKENIZER)
    assert open_data(one.task).tokenizer.size == 2048


def test_the_id_holds_what_the_texts_are_made_of(written: Write, code: Path) -> None:
    corpus = f"kind: python_source, folders: [{code}]"
    one = cell_of(written(corpus))
    assert cell_of(written(f"{corpus}, questions: true")).model_id == one.model_id
    check_files(one)
    (code / "part7.py").write_text("changed = True\n")
    assert cell_of(written(corpus)).model_id != one.model_id
    with pytest.raises(HarnessError, match="changed since"):
        check_files(one)


def test_a_mix_has_an_entropy_for_its_idioms_alone(
    written: Write, code: Path, tmp_path: Path
) -> None:
    shares = "{python_idioms: 0.1, python_source: 0.9}"
    cell = cell_of(written(f"kind: mix, folders: [{code}], shares: {shares}"))
    models = ModelStore(tmp_path / "models")
    obtain_model(cell, open_data(cell.task), models, lambda text: None)
    last = models.read(cell.model_id).json("training.json")["history"][-1]
    assert "entropy" not in last
    assert 1 < last["entropy_python_idioms"] < 2
    parts = 0.1 * last["loss_python_idioms"] + 0.9 * last["loss_python_source"]
    assert last["loss"] == pytest.approx(parts)
    assert list((tmp_path / "models" / "corpora").iterdir())


@pytest.mark.parametrize(
    ("corpus", "other", "message"),
    [
        ("kind: python_idioms", {"objective": "answer"}, "must be next_token"),
        ("kind: python_idioms, folders: [x]", {}, "`folders` are read for python_source"),
        ("kind: mix, shares: {python_idioms: 0.5, python_source: 0.4}", {}, "add up to 0.9"),
        ("kind: mix", {}, "shares"),
        ("kind: python_idioms, shares: {python_idioms: 0.5, python_source: 0.5}", {}, "shares"),
    ],
)
def test_mistakes_are_seen_before_training(
    written: Write, corpus: str, other: dict[str, str], message: str
) -> None:
    issues = issues_of(Library(), written(corpus, **other))
    assert any(message in str(one) for one in issues), [str(one) for one in issues]


def test_a_corpus_excludes_a_task(written: Write) -> None:
    path = written()
    path.write_text(path.read_text().replace("  kind: train\n", "  kind: train\n  task: ioi\n"))
    assert any("only one of task, corpus" in str(one) for one in issues_of(Library(), path))


def test_prompts_longer_than_a_window_are_refused(written: Write) -> None:
    path = written()
    path.write_text(path.read_text().replace("longest: 32", "longest: 65"))
    (issue,) = issues_of(Library(), path)
    assert "prompts have up to 65 tokens" in issue.message


def test_a_task_with_other_tokens_is_refused(written: Write) -> None:
    cell = cell_of(written())
    other = Library().task("ioi")
    assert on_model(other, cell.model, cell.model_folder) is other
    with pytest.raises(HarnessError, match="tokens are those of its corpus"):
        training_data(cell, open_data(other))


def test_a_suite_gives_a_task_the_tokens_of_each_model(written: Write, tmp_path: Path) -> None:
    path = written()
    own = path.read_text().partition("\nmodel:")[2]
    model = f"spec_version: 1\nname: words\ntitle: Words\n{own}"
    model = model.replace("\n  ", "\n").replace("python_2k", "python_idioms")
    (tmp_path / "words.yaml").write_text(model)
    (tmp_path / "both.yaml").write_text(
        "spec_version: 1\nname: both\ntitle: Both\ntasks: [./for_while.yaml]\n"
        "models: [./words.yaml]\nmethods: [random]\n"
    )
    assert issues_of(Library(), tmp_path / "both.yaml", "suite") == []
    longer = path.read_text().replace("longest: 32", "longest: 65")
    path.write_text(longer.replace("context: 64", "context: 128"))  # not that of the suite's model
    (issue,) = issues_of(Library(), tmp_path / "both.yaml", "suite")
    assert "prompts have up to 65 tokens" in issue.message


def test_shipped_weights_outlive_another_standard_library(
    written: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: Path
) -> None:
    monkeypatch.setattr(
        "harness.datasets.corpus.source.sysconfig.get_paths", lambda: {"stdlib": str(code)}
    )
    # A question with many prompts: the quality of shipped weights is measured on a thousand.
    path = written("kind: python_source", cue="single_double_quote")
    task = Library().task(str(path))
    trained = train(
        task, ModelSource.of(task), Runtime(), ModelStore(tmp_path / "models"), lambda text: None
    )
    ship(trained, tmp_path / "weights")
    assert isinstance(task.spec.model, TrainModel)
    spec = replace(task.spec.model, weights=str(tmp_path / "weights"))

    def check() -> None:
        part: dict[str, Any] = dict(cell_of(path).identity["model"])
        own = recipe(part, part["trained_on"])
        part = {**own["model"], "weights": {}}
        refuse_other_spec(spec, tmp_path, part, own["trained_on"])

    check()
    (code / "part3.py").write_text("another = 'Python'\n")
    check()
    path.write_text(path.read_text().replace("context: 64", "context: 128"))
    with pytest.raises(HarnessError, match="context was 64, and is 128"):
        check()
