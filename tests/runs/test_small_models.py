"""Attention alone, a classifier, and one that is read at the first token: from folder to table.

All three say whether a prompt has a `b`: head 0 of one layer attends to all tokens alike and counts
it. So the circuit is known: `input->a0.h0<v>` and what leads from a0.h0 to the logits.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from support.lens_in_numpy import Weights, logits

import harness
from harness.circuits.files import load_circuit
from harness.models.checkpoint import load_model
from harness.reports.leaderboard import leaderboard
from harness.reports.rows import rows
from harness.reports.table import render
from harness.runs.store.record import load_cells

LETTERS, LENGTH = "abcde", 6
METHODS = ("eap", "activation_patching", "acdc")
TASKS = ("attention_alone", "classifier", "read_at_first")
TRUE = {
    "attention_alone": ["a0.h0->logits", "input->a0.h0<v>"],
    "classifier": ["a0.h0->m0", "input->a0.h0<v>", "m0->logits"],
    "read_at_first": ["a0.h0->logits", "input->a0.h0<v>"],
}


def counting(task: str) -> tuple[Weights, dict[str, object]]:
    """TransformerLens' weights by hand: <bos> a b c d e (no yes), one count in the stream."""
    in_tokens, mlp = task == "attention_alone", task == "classifier"
    vocabulary = 8 if in_tokens else 6
    d_model, count, said = vocabulary + 2, vocabulary, vocabulary + 1
    rng = np.random.default_rng(3)
    w = {
        "embed.W_E": np.eye(vocabulary, d_model),
        "pos_embed.W_pos": np.zeros((LENGTH + 1, d_model)),
        "unembed.W_U": np.zeros((d_model, vocabulary if in_tokens else 2)),
        "unembed.b_U": np.zeros(vocabulary if in_tokens else 2),
        "blocks.0.attn.b_O": np.zeros(d_model),
    }
    heads = {"Q": 2, "K": 2, "V": 2}
    for letter in heads:
        w[f"blocks.0.attn.W_{letter}"] = np.zeros((2, d_model, 4))
        w[f"blocks.0.attn.b_{letter}"] = np.zeros((2, 4))
    w["blocks.0.attn.W_V"][0, 2, 0] = LENGTH + 1  # b, times the tokens over which it is averaged
    w["blocks.0.attn.W_O"] = np.zeros((2, 4, d_model))
    w["blocks.0.attn.W_O"][0, 0, count] = 1
    for letter in heads:  # another head that nobody reads, in the letters' own directions
        w[f"blocks.0.attn.W_{letter}"][1] = rng.standard_normal((d_model, 4))
    w["blocks.0.attn.W_O"][1, :, 0] = 1e-3
    no, yes = (6, 7) if in_tokens else (0, 1)
    if in_tokens:
        w["unembed.b_U"][:6] = -50
    if mlp:
        w |= {"blocks.0.mlp.W_in": np.zeros((d_model, 4)), "blocks.0.mlp.b_in": np.zeros(4)}
        w |= {"blocks.0.mlp.W_out": np.zeros((4, d_model)), "blocks.0.mlp.b_out": np.zeros(d_model)}
        w["blocks.0.mlp.W_in"][count, 0] = w["blocks.0.mlp.W_out"][0, said] = 1
    w["unembed.W_U"][said if mlp else count, yes] = 8
    w["unembed.b_U"][no] = 4
    config = {
        "n_layers": 1,
        "n_heads": 2,
        "d_model": d_model,
        "d_head": 4,
        "d_mlp": 4 if mlp else None,
        "d_vocab": vocabulary,
        "d_vocab_out": len(w["unembed.b_U"]),
        "n_ctx": LENGTH + 1,
        "act_fn": "relu" if mlp else None,
        "attn_only": not mlp,
        "attention_dir": "bidirectional" if task == "read_at_first" else "causal",
        "normalization_type": None,
        "positional_embedding_type": "standard",
        "attn_scale": 2.0,
    }
    return w, config


def prompts(n: int) -> list[dict[str, object]]:
    """One in eight has a `b` at a random place; its twin has another letter there."""
    rng, letters = np.random.default_rng(1), np.array(list("acde"))
    found = []
    for number in range(n):
        without = letters[rng.integers(4, size=LENGTH)]
        with_b = without.copy()
        with_b[rng.integers(LENGTH)] = "b"
        clean, other = (with_b, without) if number % 8 == 0 else (without, with_b)
        says = ("yes", "no") if number % 8 == 0 else ("no", "yes")
        found.append(
            {
                "clean": " ".join(clean),
                "corrupted": " ".join(other),
                "good": says[0],
                "bad": says[1],
                "at": 0,
            }
        )
    return found


TASK = """\
spec_version: 1
name: {name}
title: Whether there is a b
tokenizer: {{kind: words, bos: true}}
{answers}
data: {{kind: file, path: prompts.jsonl, columns: {{good: good, bad: bad{position}}}}}
evaluation:
  ablation: interchange
  positions: all
  counts: [1, 2, 3, 8]
  discovery_pairs: 24
  test_pairs: 16
model: {{kind: load, path: ../models/{name}}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    (folder / "tasks").mkdir()
    lines = [json.dumps(row) for row in prompts(240)]
    (folder / "tasks" / "prompts.jsonl").write_text("\n".join(lines))
    for name in TASKS:
        text = TASK.format(
            name=name,
            answers="" if name == "attention_alone" else "answers: [no, yes]".replace("no", '"no"'),
            position=", position: at" if name == "read_at_first" else "",
        )
        (folder / "tasks" / f"{name}.yaml").write_text(text.replace("yes]", '"yes"]'))
        model = folder / "models" / name
        model.mkdir(parents=True)
        w, config = counting(name)
        save_file(
            {key: np.ascontiguousarray(x) for key, x in w.items()}, model / "model.safetensors"
        )
        (model / "config.json").write_text(json.dumps(config))
    suite = {
        "spec_version": 1,
        "name": "counting",
        "title": "Counting a letter",
        "tasks": [str(folder / "tasks" / f"{name}.yaml") for name in TASKS],
        "methods": [*METHODS],
        "controls": [],
        "seeds": [0],
    }
    (folder / "counting.yaml").write_text(json.dumps(suite))
    return folder


@pytest.fixture(scope="module")
def cells(place):
    summary = harness.run(str(place / "counting.yaml"), results=place / "results")
    assert summary.failed == ()
    return load_cells(place / "results" / "counting")


@pytest.mark.parametrize("name", TASKS)
def test_the_folder_is_the_model(name, place):
    """In float64, against an implementation of its own; and it does the task."""
    w, config = counting(name)
    task = harness.load_task(str(place / "tasks" / f"{name}.yaml"))
    pairs = task.data.pairs("test", 16, 0)
    tokens = pairs.clean.astype(np.int64)
    found = load_model(place / "models" / name)(torch.from_numpy(tokens)).numpy()
    wanted = logits(w, config, tokens)
    assert found.dtype == np.float64
    assert np.abs(found - wanted).max() < 1e-12
    rows = np.arange(16)
    read = wanted[rows, pairs.positions[:, 0]]
    assert (pairs.positions == (0 if name == "read_at_first" else LENGTH)).all()
    assert np.array_equal(read.argmax(-1), pairs.good[:, 0, 0])


def test_every_method_traces_the_circuit(cells):
    assert [cell.status for cell in cells] == ["ok"] * len(TASKS) * len(METHODS)
    for cell in cells:
        result, wanted = cell.result, TRUE[cell.entry.task]
        circuit = load_circuit(cell.store.folder / "cells" / cell.entry.id / "circuit.safetensors")
        kept = [circuit.space.name(i) for i in circuit.kept.nonzero().flatten().tolist()]
        assert sorted(kept) == wanted, (cell.entry.task, cell.entry.method)
        assert result["summary"]["size_at_0.95"] == len(wanted)
        mlps = [name for name in circuit.space.nodes if name.startswith("m")]
        assert mlps == (["m0"] if cell.entry.task == "classifier" else [])


def test_tables_and_rows_have_accuracy_by_class(cells):
    """Fourteen of sixteen prompts say no: the empty circuit's classes are exactly wrong."""
    boards = {board.task: board for board in leaderboard(cells).boards}
    assert set(boards) == set(TASKS)
    for name, board in boards.items():
        named = name != "attention_alone"
        lines = {line.method: line for line in board.lines}
        assert board.chosen == (("class_accuracy",) if named else ())
        if named:
            assert lines["whole model"].chosen["class_accuracy"].value == 1
            assert lines["empty circuit"].chosen["class_accuracy"].value == 0
            assert lines["eap"].chosen["class_accuracy"].low is not None
    assert "class accuracy" in render(leaderboard(cells), "markdown")
    for row in rows(cells):
        if row["task"] == "attention_alone":
            assert row["accuracy[yes]"] is None
        else:
            share = np.mean([row["accuracy[no]"], row["accuracy[yes]"]])
            assert row["class_accuracy"] == pytest.approx(share)


def test_models_and_tasks_of_other_outputs_are_refused(place):
    def run(model: str, task: str) -> str:
        path = place / "tasks" / f"{task}_{model}.yaml"
        text = (place / "tasks" / f"{task}.yaml").read_text()
        text = text.replace(f"name: {task}", f"name: {path.stem}")
        path.write_text(text.replace(f"models/{task}", f"models/{model}"))
        with pytest.raises(harness.HarnessError) as told:
            harness.load_model(harness.load_task(str(path)))
        path.unlink()
        return str(told.value)

    assert "names 2 classes in `answers`, and the model has 8 outputs" in run(
        "attention_alone", "classifier"
    )
    assert "answers in 2 classes, not in its 6 tokens" in run("classifier", "attention_alone")


TRAINED = """\
spec_version: 1
name: which
title: Which letter stands second
tokenizer: {kind: words, bos: true}
answers: [d, c, b, a]
data:
  kind: template
  lists: {letters: [a, b, c, d]}
  slots: {X: letters, Y: letters, Z: letters, OTHER: letters}
  constraints: ["Y != OTHER", "X != OTHER"]
  templates: ["{X} {Y} {Z}"]
  read: first
  also_read: [{read: Y, good: X, bad: OTHER}]
  good: Y
  bad: OTHER
  corruptions: {swap: {Y: OTHER}}
  corruption: swap
  shares: {train: 0.6, validation: 0.2, test: 0.2}
evaluation: {ablation: interchange, positions: all, discovery_pairs: 8, test_pairs: 4}
model:
  kind: train
  architecture: {n_layers: 1, n_heads: 2, d_model: 16, d_mlp: 0, causal: false}
  training: {objective: answer, steps: 120, learning_rate: 0.02, batch_size: 32, warmup_steps: 5}
"""


def test_a_classifier_is_trained_where_it_is_read(tmp_path):
    """Attention alone, looking both ways: Y is said at BOS, X at Y, in classes of another order."""
    (tmp_path / "which.yaml").write_text(TRAINED)
    task = harness.load_task(str(tmp_path / "which.yaml"))
    model = harness.load_model(task, results=tmp_path / "results")
    assert (model.config.n_outputs, model.config.d_vocab) == (4, 5)
    assert not model.config.has_mlp
    pairs = task.data.pairs("train", 30, 0, at_most=True)
    tokens = torch.from_numpy(pairs.clean.astype(np.int64))
    said = model(tokens).argmax(-1).numpy()
    names = np.array(["d", "c", "b", "a"])
    words = np.array(task.data.tokenizer.tokens)
    right = [
        (names[said[:, 0]] == words[pairs.clean[:, 2]]).mean(),
        (names[said[:, 2]] == words[pairs.clean[:, 1]]).mean(),
    ]
    assert min(right) > 0.9, right
    measured = harness.evaluate(harness.discover(task, model, "eap", size=1.0), task, model)
    shown = {name.removeprefix("accuracy[").rstrip("]") for name in measured if "accuracy[" in name}
    assert set("abcd") >= shown != set()
    assert measured["class_accuracy"].value is not None
    assert measured["faithfulness"].value == pytest.approx(1)
