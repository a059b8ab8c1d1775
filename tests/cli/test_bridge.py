"""`harness bridge`: trained once into a folder, which is then used, and steered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from harness.circuits.circuit import Circuit
from harness.circuits.files import save_circuit
from harness.circuits.gates.space import GatedSpace, Gates
from harness.cli.main import main
from harness.models.checkpoint import load_model

SPECS = Path(__file__).parents[2] / "specs"

TASK = """
spec_version: 1
name: opener
title: Which opener
tokenizer: {kind: words}
data:
  kind: template
  lists: {openers: [ah, oh], words: [one, two, six, ten]}
  slots: {A: openers, B: openers, X: words, Y: words}
  constraints: [A != B]
  templates: ["{A} {X} {Y} says"]
  good: A
  bad: B
  corruptions: {swap: {A: B}}
  corruption: swap
  shares: {train: 0.5, validation: 0.25, test: 0.25}
evaluation: {ablation: interchange, positions: all, discovery_pairs: 8, test_pairs: 8}
model:
  kind: train
  architecture: {n_layers: 1, n_heads: 2, d_model: 16}
  training: {objective: answer, steps: 5}
"""
DENSE = """
spec_version: 1
name: dense
title: Dense
kind: train
architecture: {n_layers: 1, n_heads: 2, d_model: 16}
training: {objective: answer, steps: 4, batch_size: 16, learning_rate: 0.01, warmup_steps: 2}
"""
SPARSE = """
spec_version: 1
name: sparse
title: Sparse
kind: train
architecture:
  {n_layers: 1, n_heads: 2, d_model: 32, norm: rmsnorm, attention_sink: true, bigram_table: true,
   activation_sparsity: {keep: 0.25}}
training: {objective: answer, steps: 4, batch_size: 16, warmup_steps: 2, evaluate_every: 2,
  learning_rate: 0.03, epsilon: 0.1, gradient: divide_by_rms}
sparsity: {nonzero_fraction: 0.125, embedding_fraction: 0.5}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("opener", TASK), ("dense", DENSE), ("sparse", SPARSE)):
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def run(folder: Path, *more: str, dense: str = "dense", sparse: str = "sparse") -> Result:
    models = [str(folder / f"{name}.yaml") for name in (dense, sparse)]
    words = ["bridge", *models, str(folder / "out"), "--task", str(folder / "opener.yaml")]
    return CliRunner().invoke(main, [*words, "--results", str(folder / "results"), *more])


def circuit(folder: Path, *kept: str) -> str:
    """A file of a circuit that keeps these channels of the sparse model."""
    space = GatedSpace.of("channel", "channels", [Gates("a0.q", 16), Gates("m0.in", 32)])
    chosen = torch.tensor([space.name(one) in kept for one in range(len(space))])
    path = folder / "circuit.json"
    save_circuit(Circuit(space, chosen), path)
    return str(path)


def test_a_bridge_is_trained_once_and_steered_by_any_channel(folder):
    first = run(folder, "--json")
    assert first.exit_code == 0, first.output
    report = json.loads(first.stdout)
    assert [one["step"] for one in report["history"]] == [1, 2, 4]
    assert {"nmse_encode", "nmse_decode", "kl_encode", "kl_decode"} <= report["history"][0].keys()
    steered = report["transfer"]
    assert steered["strengths"] == [0, 0.05, 0.1, 0.25, 0.5, 1]
    for kind in ("steered", "random_channel", "random_direction"):
        assert steered[kind]["partner"][0] == steered["steered"]["partner"][0]
        assert all(0 <= one <= 1 for one in steered[kind]["partner"])
    assert load_model(folder / "out").config.attention_sink

    again = run(folder, "--channel", "m0.in.3", "--strengths", "0,1")
    assert again.exit_code == 0, again.output
    assert "the bridge is in" in again.stderr
    assert "by m0.in.3" in again.stdout
    assert "by m0.in.5" in run(folder, "--circuit", circuit(folder, "m0.in.5", "a0.q.1")).stdout
    refused = run(folder, "--circuit", circuit(folder, "a0.q.1"))
    assert "keeps no channel that reads the stream" in refused.stderr
    other = run(folder, "--kl", "0")
    assert other.exit_code == 2
    assert "holds a bridge between other models, or of other prices" in other.stderr
    (folder / "out" / "bridge.json").write_text("{}")
    assert "not the note of a bridge" in run(folder).stderr


CORPUS = f"""
corpus:
  kind: python_idioms
  tokenizer: {SPECS / "tokenizers/python_2k/tokenizer.json"}
  context: CONTEXT
"""


def on_code(folder: Path, text: str, context: int) -> None:
    """Write a model's spec, its training one on code in windows of so many tokens."""
    (name,) = (line[6:] for line in text.splitlines() if line.startswith("name: "))
    text = text.replace("objective: answer, steps: 4", "objective: next_token, steps: 2")
    text = text.replace("batch_size: 16", "batch_size: 2")
    (folder / f"{name}.yaml").write_text(text + CORPUS.replace("CONTEXT", str(context)))


def test_the_sparse_model_is_trained_on_what_its_spec_says(folder):
    on_code(folder, DENSE, 128)
    on_code(folder, SPARSE, 128)
    task = TASK[: TASK.index("tokenizer")] + (
        "tokenizer: {kind: model, bos: true}\n"
        "data: {kind: generator, generator: python_code, params: {cue: for_while},\n"
        "  shares: {train: 0.5, validation: 0.25, test: 0.25}}\n"
        "evaluation: {ablation: interchange, positions: all, discovery_pairs: 8, test_pairs: 8}\n"
        "model: python-2l-64\n"
    )
    (folder / "opener.yaml").write_text(task)
    trained = run(folder, "--json")
    assert trained.exit_code == 0, trained.output
    history = json.loads(trained.stdout)["history"]
    assert all(0 < one["entropy"] < one["loss"] for one in history)  # of code, not of prompts
    assert load_model(folder / "out").config.n_ctx == 128

    # The folder is a model with all that a task needs.
    loads = task.replace("model: python-2l-64", "model: {kind: load, path: out}")
    loads = loads.replace("name: opener", "name: bridged")
    channels = "{granularity: channel, ablation: mean, sizes: [1.0]"
    loads = loads.replace("{ablation: interchange", channels)
    (folder / "bridged.yaml").write_text(loads)
    words = ["run", str(folder / "bridged.yaml"), "--methods", "eap", "--seeds", "0"]
    asked = CliRunner().invoke(main, [*words, "--results", str(folder / "results")])
    assert asked.exit_code == 0, asked.output

    on_code(folder, SPARSE, 192)
    (folder / "out" / "bridge.json").unlink()
    refused = run(folder)
    assert refused.exit_code == 2
    assert "up to 192 tokens, and the dense one takes 128" in refused.stderr


def test_what_no_bridge_can_be_made_of_is_refused(folder):
    deeper = DENSE.replace("name: dense", "name: two").replace("n_layers: 1", "n_layers: 2")
    (folder / "two.yaml").write_text(deeper)
    refused = run(folder, sparse="two")
    assert refused.exit_code == 2
    assert "equal n_layers" in refused.stderr
    assert "--strengths wants numbers" in run(folder, "--strengths", "0,x").stderr
