"""`validate` and `plan` say what a model's files tell, before anything is computed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.tiny_folder import FILES, write_model
from support.word_tokenizer import write_tokenizer

from harness.models.loading import location

MODEL = "kind: load\nname: brought\ntitle: Brought\npath: ../../brought/one\nspec_version: 1\n"
WORDS = ["red", "blue", "green", "is", "not", "so"]


@pytest.fixture
def one(harness: Any) -> Any:
    """A task on a model that is there and fits, in a suite."""
    harness.brought("one")
    harness.bring("one", *FILES)
    harness.suite("mine", ["one"], ["eap"])
    harness("validate", "tasks/one.yaml", "specs/suites/mine.yaml")
    return harness


def refused(harness: Any, text: str, *, task: str = "tasks/one.yaml") -> str:
    """What `validate` says of the task; `plan` and `run` of its suite refuse it too."""
    said: str = harness("validate", task, code=2).stdout
    assert text in said
    for verb in ("plan", "run"):
        assert text in harness(verb, "mine", code=2).stderr
    return said


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"model_type": "opt"}, "model_type is 'opt', not one of gpt2, gpt_neox"),
        ({"model_type": "llama", "hidden_size": 4}, "num_attention_heads is missing"),
        ({"n_layers": 100_000}, "n_layers is 100000, not at most 4096"),
        ({"norm_eps": -1.0}, "norm_eps is -1.0, not a number from 0 to 1"),
        ({"d_mlp": 3}, "blocks.0.mlp_in.weight has shape (2, 2), the configuration says (3, 2)"),
        ({"tied": True}, "unknown unembedding (64, 2)"),
    ],
)
def test_a_folder_that_cannot_be_loaded(one: Any, change: dict[str, Any], text: str) -> None:
    path = one.folder / "brought/one/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert "tasks/one.yaml:22:44: error: model.path: " in refused(one, text)


def test_a_configuration_that_nests_without_end(one: Any) -> None:
    one.write("brought/one/config.json", "[" * 100_000)
    refused(one, "config.json: not a configuration: nested too deeply")


def test_prompts_that_are_longer_than_the_context(one: Any) -> None:
    one.bring("one", *FILES, n_ctx=9)
    refused(one, "the task's longest prompt has 10 tokens, and the model takes 9")
    one.bring("one", *FILES, n_ctx=10)
    one("validate", "tasks/one.yaml")


def test_tokens_that_the_embedding_has_no_rows_for(one: Any) -> None:
    one.bring("one", *FILES, d_vocab=4)
    said = refused(one, "and the model knows 4 tokens, the rows of its embedding")
    assert "a prompt or answer uses token 4 (']')" in said
    one.bring("one", *FILES, d_vocab=5)
    one("validate", "tasks/one.yaml")


def test_a_pickle_is_said_to_be_one_with_two_lines(one: Any) -> None:
    (one.folder / "brought/one/model.safetensors").rename(one.folder / "brought/one/weights.pt")
    said = one("validate", "tasks/one.yaml").stderr
    assert "weights.pt is a pickle" in said
    assert len([line for line in said.splitlines() if line.startswith("    ")]) == 2


def test_a_path_with_a_typo(one: Any) -> None:
    (one.folder / "brought/one").rename(one.folder / "brought/one-layer")
    text = (one.folder / "tasks/one.yaml").read_text()
    one.write("tasks/one.yaml", text.replace("path: brought/one", "path: brought/one-leyer"))
    said = one("validate", "tasks/one.yaml").stderr
    assert "needs brought/one-leyer" in said
    assert "(did you mean brought/one-layer?)" in said


@pytest.mark.parametrize(("shape", "text"), [({"n_ctx": 9}, "longest prompt has 10"), ({}, "")])
def test_a_suites_model_is_tried_with_each_of_its_tasks(
    harness: Any, shape: dict[str, int], text: str
) -> None:
    harness.bring("one", *FILES, **shape)
    harness.write("specs/models/brought.yaml", MODEL)
    suite = harness.suite("mine", ["toy"], ["eap"])
    suite.write_text(suite.read_text() + "models: [brought]\n")
    for words in (("validate", str(suite)), ("plan", "mine")):
        said = harness(*words, code=2 if text else 0)
        assert text in said.stdout + said.stderr
        assert not text or "models.0: task 'toy': the task's longest" in said.stdout + said.stderr


def test_a_model_file_is_checked_too(harness: Any) -> None:
    harness.write("specs/models/brought.yaml", MODEL)
    harness("validate", "specs/models/brought.yaml")  # the folder may come later
    harness.bring("one", *FILES)
    harness("validate", "specs/models/brought.yaml")
    harness.write("brought/one/config.json", '{"model_type": "mamba"}')
    said = harness("validate", "specs/models/brought.yaml", code=2).stdout
    assert "brought.yaml:4:7: error: path: " in said
    assert "model_type is 'mamba'" in said


@pytest.mark.parametrize("where", ["task", "suite"])
def test_an_ablation_that_needs_two_prompts_of_each_length(harness: Any, where: str) -> None:
    """Refused before the search, by `validate` and by `plan`; it was after it."""
    text = (harness.folder / "tasks/toy.yaml").read_text()
    text = text.replace("test_pairs: 40", "test_pairs: 2")  # one of each length
    own = "resample" if where == "task" else "interchange"
    harness.write("tasks/toy.yaml", text.replace("interchange", own))
    suite = harness.suite("mine", ["toy"], ["eap"])
    if where == "suite":
        suite.write_text(suite.read_text() + "evaluations: [{}, {ablation: resample}]\n")
    path = "tasks/toy.yaml" if where == "task" else str(suite)
    for words in (("validate", path), ("plan", "mine")):
        said = harness(*words, code=2)
        text = "'resample' needs two prompts of each length, and of the test prompts only one has"
        assert f"{text} 8, 10 tokens" in said.stdout + said.stderr


@pytest.mark.parametrize(
    ("shape", "text"),
    [({}, ""), ({"n_ctx": 9}, "longest prompt has 10"), ({"d_vocab": 4}, "uses token 4 (']')")],
)
def test_a_model_of_the_hub_is_tried_once_it_is_fetched(
    harness: Any, monkeypatch: pytest.MonkeyPatch, shape: dict[str, int], text: str
) -> None:
    """Validation fetches nothing; a plan does, and then knows."""
    task = harness.brought("one")
    task.write_text(task.read_text().replace("path: brought/one", "hub: someone/one"))
    suite = harness.suite("mine", ["one"], ["eap"])
    monkeypatch.setattr(location, "_downloaded", lambda *_: pytest.fail("network"))
    harness("validate", str(task), str(suite))
    folder = harness.folder / "fetched"
    write_model(folder, **shape)
    monkeypatch.setattr(location, "_downloaded", lambda *_: folder)
    said = harness("plan", "mine", code=2 if text else 0)
    assert text in said.stderr
    assert not text or "one on model-one: " in said.stderr


def test_nothing_of_this_imports_torch(tmp_path: Path, harness: Any) -> None:
    harness.brought("one")
    harness.bring("one", *FILES)
    suite = harness.suite("mine", ["one"], ["eap"])
    suite.write_text(suite.read_text().replace("controls: [paths]\n", ""))
    code = (
        "import sys; from harness.cli.main import main\n"
        "for words in (['validate', 'tasks/one.yaml'], ['plan', 'mine']):\n"
        "    try: main(words)\n"
        "    except SystemExit as error: assert not error.code, error.code\n"
        "assert not {'torch', 'polars'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=harness.folder)


# ---------------------------------------------------------------- more ids than rows
ROWS = [
    {"clean": f"{c} {a} is", "corrupted": f"{c} {b} is", "good": f" {a}", "bad": f" {b}"}
    for a, b in zip(WORDS, [*WORDS[1:], WORDS[0]], strict=True)
    for c in WORDS
]
TASK = """spec_version: 1
name: colours
title: Colours
tokenizer: {kind: model}
data: {kind: file, path: rows.jsonl, columns: {clean: clean, corrupted: corrupted, good: good,
  bad: bad}, shares: {train: 0.4, validation: 0.2, test: 0.4}}
evaluation: {granularity: edge, component: heads_qkv_mlps, ablation: interchange, positions: all,
  direction: noising, set: complement, sizes: [0.1, 1.0], discovery_pairs: 4, test_pairs: 4}
model: {kind: load, path: ../brought/one}
"""


def test_a_tokenizer_may_have_ids_that_no_prompt_uses(measuring: Any) -> None:
    """A vocabulary with tokens that came later: the model runs as long as none of them is used."""
    folder = measuring.folder / "brought/one"
    size = write_tokenizer(folder / "tokenizer.json", WORDS)
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text())
    document["model"]["vocab"] |= {" late": size, "late": size + 1, "never": size + 500}
    path.write_text(json.dumps(document))
    write_model(folder, d_vocab=size)
    measuring.write("tasks/colours.yaml", TASK)
    measuring.write("tasks/rows.jsonl", "\n".join(map(json.dumps, ROWS)))
    suite = measuring.suite("mine", ["colours"], ["eap"])
    suite.write_text(suite.read_text().replace("controls: [paths]\n", ""))
    measuring("validate", "tasks/colours.yaml")
    measuring("run", "mine", "--seeds", "0")
    late = [{**row, "good": " late"} for row in ROWS]
    measuring.write("tasks/rows.jsonl", "\n".join(map(json.dumps, late)))
    text = f"a prompt or answer uses token {size} (' late'), and the model knows {size} tokens"
    assert text in measuring("validate", "tasks/colours.yaml", code=2).stdout
