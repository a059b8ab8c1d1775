"""`harness train`, and specs whose weights lie beside them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.models.checkpoint import load_model

SPEC = """\
spec_version: 1
name: small
title: A small model
kind: train
{more}architecture: {{n_layers: 1, n_heads: 2, d_model: 8}}
training: {{objective: answer, steps: {steps}, evaluate_every: 5}}
"""


@pytest.fixture
def shipped(measuring: Any) -> Any:
    """The spec `small` with its weights beside it, and a task that uses it."""
    model = measuring.write("specs/models/small.yaml", SPEC.format(more="task: toy\n", steps=6))
    measuring("train", "small", "--output", "specs/models/small", "--threads", "1")
    model.write_text(SPEC.format(more="task: toy\nweights: small\n", steps=6))
    text = measuring.task("user").read_text()
    task = f"{text[: text.index('model:')]}model: small\n"
    measuring.write("tasks/user.yaml", task)
    return measuring


def test_a_shipped_model_is_used_without_training(shipped: Any) -> None:
    shipped("validate", "user", "small")
    plan = json.loads(shipped("plan", "user", "--json", "--methods", "good").stdout)
    assert plan[0]["models_to_train"] == []
    looked = shipped("look", "user", "--pairs", "1", "--json", "-o", "elsewhere")
    report = json.loads(looked.stdout)
    assert report["pairs"][0]["reads"][0]["clean"]["top"]
    assert not (shipped.folder / "elsewhere").exists()
    # Its weights are those that the store has from the training.
    trained = json.loads(shipped("train", "small", "--json", "--threads", "1").stdout)
    ours = load_model(shipped.folder / "specs/models/small")
    stored = load_model(shipped.folder / trained["folder"])
    assert all((a == b).all() for a, b in zip(ours.parameters(), stored.parameters(), strict=True))
    assert report["model_id"] != trained["model_id"]


def test_what_is_shipped_says_how_it_was_trained(shipped: Any) -> None:
    folder = shipped.folder / "specs/models/small"
    note = json.loads((folder / "training.json").read_text())
    assert [entry["step"] for entry in note["history"]] == [5, 6]
    assert note["model"]["training"]["steps"] == 6
    assert note["seconds"] > 0
    assert note["trained_on"]["data"]["generator"] == "brackets"
    assert 20 < note["quality"]["accuracy"]["n"] <= 1000
    text = (folder / "README.md").read_text()
    assert f"| accuracy | {note['quality']['accuracy']['value']:.4f} ±" in text
    assert "  steps: 6" in text


@pytest.mark.parametrize(
    ("more", "steps", "text"),
    [
        ("task: toy\nweights: small\n", 7, "training.steps was 6, and is 7 here"),
        ("task: twin\nweights: small\n", 6, "trained_on.data.seed was 0, and is 1 here"),
    ],
)
def test_weights_of_another_spec_are_refused(
    shipped: Any, more: str, steps: int, text: str
) -> None:
    twin = shipped.task("twin")
    twin.write_text(twin.read_text().replace("seed: 0", "seed: 1"))
    shipped.write("specs/models/small.yaml", SPEC.format(more=more, steps=steps))
    assert text in shipped("validate", "small", code=2).stdout
    assert text in shipped("plan", "user", code=2).stderr
    # Training anew is possible: the weights are not looked at.
    shipped("train", "small", "--output", "other", "--threads", "1")


def test_damaged_weights_are_not_used(shipped: Any) -> None:
    folder = shipped.folder / "specs/models/small"
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    assert "is not what was published" in shipped("plan", "user", code=2).stderr
    shipped("run", "trial", "--methods", "weak", "--limit", "2", code=1)  # a record to verify
    assert "model.safetensors is not what was" in shipped("verify", code=3).stderr


def test_missing_weights_are_missing_files(shipped: Any) -> None:
    (shipped.folder / "specs/models/small").rename(shipped.folder / "gone")
    assert "needs ../specs/models/small, which is not below" in shipped("validate", "user").stderr
    assert "`harness train MODEL --output" in shipped("plan", "user", code=2).stderr


def test_a_folder_is_never_overwritten(shipped: Any) -> None:
    said = shipped("train", "small", "--output", "specs/models/small", code=2).stderr
    assert "is there already" in said


def test_a_model_without_a_task_needs_one(measuring: Any) -> None:
    measuring.write("specs/models/small.yaml", SPEC.format(more="", steps=2))
    assert (
        "names no task to train on or to be measured on"
        in measuring("train", "small", code=2).stderr
    )
    measuring("train", "small", "--task", "toy", "--threads", "1")


def test_a_precision_that_torch_has_not_got_is_said(
    measuring: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*_: Any) -> None:
        raise RuntimeError('"baddbmm" not implemented for this type')

    text = SPEC.format(more="task: toy\n", steps=2).replace("steps", "precision: bfloat16, steps")
    measuring.write("specs/models/small.yaml", text)
    with monkeypatch.context() as here:
        here.setattr("torch.baddbmm", lacking)
        said = measuring("train", "small", "--threads", "1", code=2).stderr
    assert "training.precision is bfloat16, but torch cannot compute in it on cpu here" in said
    measuring("train", "small", "--threads", "1")
