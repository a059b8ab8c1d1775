"""Dictionaries that lie beside their spec, and several specs in one table."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

MODEL = """\
spec_version: 1
name: small
title: A small model
kind: train
task: toy
{more}architecture: {{n_layers: 1, n_heads: 2, d_model: 8}}
training: {{objective: answer, steps: 6, evaluate_every: 5}}
"""
CODES = """\
spec_version: 1
name: {name}
title: Small dictionaries
kind: train
task: user
{more}dictionary: {{features: 12, {form}}}
training: {{tokens: {tokens}, batch_tokens: 128, buffer_tokens: 512}}
"""
SUITE = """\
spec_version: 1
name: features
title: Features alone
tasks: [user]
methods: [good]
controls: [random]
evaluations: [{granularity: feature, dictionary: codes}]
"""


def codes(more: str = "", tokens: int = 1280, name: str = "codes", form: str = "k: 3") -> str:
    return CODES.format(more=more, tokens=tokens, name=name, form=form)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first test leaves the weights that it trained for all others."""
    return tmp_path_factory.mktemp("written")


@pytest.fixture
def shipped(measuring: Any, written: Path) -> Any:
    """The dictionaries `codes` with weights beside their spec, of models with such weights."""
    for name, steps in (("small", 6), ("other", 7)):
        model = MODEL.replace("steps: 6", f"steps: {steps}").replace("name: small", f"name: {name}")
        spec = measuring.write(f"specs/models/{name}.yaml", model.format(more=""))
        weights = f"specs/models/{name}"
        if not (written / weights).is_dir():
            measuring("train", name, "--output", str(written / weights), "--threads", "1")
        copytree(written / weights, measuring.folder / weights)
        spec.write_text(model.format(more=f"weights: {name}\n"))
    untrained = MODEL.format(more="").replace("name: small", "name: untrained")
    measuring.write("specs/models/untrained.yaml", untrained)
    text = measuring.task("user").read_text()
    measuring.write("tasks/user.yaml", f"{text[: text.index('model:')]}model: small\n")
    spec, weights = measuring.write("specs/dictionaries/codes.yaml", codes()), "specs/dictionaries"
    if not (written / weights).is_dir():
        output = ("--output", str(written / weights / "codes"))
        measuring("dictionary", "codes", "--train", "--pairs", "8", *output)
    copytree(written / weights / "codes", measuring.folder / weights / "codes")
    spec.write_text(codes("weights: codes\n"))
    measuring.write("specs/suites/features.yaml", SUITE)
    return measuring


def test_shipped_dictionaries_are_used_without_training(shipped: Any) -> None:
    shipped("validate", "codes")
    elsewhere = shipped("dictionary", "codes", "--pairs", "8", "--json", "-o", "elsewhere")
    assert not (shipped.folder / "elsewhere").exists()
    report = json.loads(elsewhere.stdout)
    note = json.loads((shipped.folder / "specs/dictionaries/codes/training.json").read_text())
    same = ("sites", "spliced", "model_behaviour", "l0", "prompts")
    assert {name: report[name] for name in same} == {name: note["quality"][name] for name in same}
    assert report["dictionary_id"] != note["quality"]["dictionary_id"]
    plan = json.loads(shipped("plan", "features", "--json").stdout)[0]
    assert plan["dictionaries_to_train"] == []
    assert plan["models_to_train"] == []
    shipped("verify", code=2)  # no run yet
    card = (shipped.folder / "specs/dictionaries/codes/README.md").read_text()
    assert f"| all at once | {report['l0']:.1f} |" in card
    assert "tokens: 1280" in card


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (
            codes("weights: codes\n", tokens=1408),
            "dictionary.training.tokens was 1280, and is 1408",
        ),
        (codes("weights: codes\nsites: [mlp]\n"), "dictionary.sites was"),
        (codes("weights: codes\nmodel: other\n"), "model.model.safetensors was"),
        (
            codes("weights: codes\nmodel: untrained\n"),
            "'untrained' is trained anew on every machine",
        ),
    ],
)
def test_weights_of_another_spec_or_model_are_refused(shipped: Any, spec: str, text: str) -> None:
    shipped.write("specs/dictionaries/codes.yaml", spec)
    assert text in " ".join(shipped("validate", "codes", code=2).stdout.split())
    assert "codes" in shipped("dictionary", "codes", code=2).stderr


def test_damaged_and_missing_weights_are_not_used(shipped: Any) -> None:
    folder = shipped.folder / "specs/dictionaries/codes"
    content = bytearray((folder / "dictionaries.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "dictionaries.safetensors").write_bytes(content)
    assert "is not what was published" in shipped("plan", "features", code=3).stderr
    shipped("run", "trial", "--methods", "weak", "--limit", "2", code=1)  # a record to verify
    assert "dictionaries.safetensors is not what was" in shipped("verify", code=3).stderr
    folder.rename(shipped.folder / "gone")
    said = shipped("dictionary", "codes", code=2).stderr
    assert "`harness dictionary NAME --output codes` trains these weights" in said


def test_what_cannot_be_shipped_is_refused(shipped: Any) -> None:
    taken = ("--output", "specs/dictionaries/codes")
    assert "is there already" in shipped("dictionary", "codes", *taken, code=2).stderr
    two = shipped("dictionary", "codes", "codes", "--output", "new", code=2).stderr
    assert "--output writes the dictionaries of one spec" in two
    loaded = "kind: load\npath: codes\ntask: user\nspec_version: 1\ntitle: L\nname: loaded\n"
    shipped.write("specs/dictionaries/loaded.yaml", loaded)
    said = shipped("dictionary", "loaded", "--output", "new", code=2).stderr
    assert "are not trained: nothing to ship" in said
    assert not (shipped.folder / "new").exists()


def test_several_specs_stand_in_one_table(shipped: Any) -> None:
    relu = codes(name="relu", form="activation: relu_l1, price: 0.1")
    shipped.write("specs/dictionaries/relu.yaml", relu)
    both = ("dictionary", "codes", "relu", "--train", "--pairs", "8")
    reports = json.loads(shipped(*both, "--json").stdout)
    assert [one["dictionary"] for one in reports] == ["codes", "relu"]
    lines = shipped(*both).stdout.splitlines()
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if line.startswith("|")]
    assert [row[1] for row in rows[2:]] == [*["codes"] * 3, *["relu"] * 3, "model small"]
    assert rows[7][2:4] == ["all at once", f"{reports[1]['l0']:.1f}"]
    accuracy = rows[0].index("accuracy")
    assert rows[7][accuracy] == f"{reports[1]['spliced']['accuracy']:.4f}"
    assert rows[8][accuracy] == f"{reports[1]['model_behaviour']['accuracy']:.4f}"
