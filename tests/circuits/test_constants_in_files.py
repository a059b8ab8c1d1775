"""Files keep what dropped channels carry, so that a circuit needs no corpus to be run again."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.slow_reference import small_model
from support.toy_task import CHOICES, FirstToken

import harness
from harness.circuits.baseline import Baseline
from harness.circuits.circuit import Circuit
from harness.circuits.files import to_safetensors
from harness.circuits.patchable import make_patchable
from harness.errors import HarnessError
from harness.models.checkpoint import save_model
from harness.models.config import TransformerConfig
from harness.models.transformer import random_model

FORMS = pytest.mark.parametrize("form", ["safetensors", "json", "json.gz"])


def circuit_with(values: torch.Tensor, **changes) -> Circuit:
    choices = replace(CHOICES, granularity="channel", component="channels", ablation="zero")
    model = small_model("gpt2-like", d_vocab=6)
    space = make_patchable(model, choices, [FirstToken().pairs("train", 4, 0)]).space
    kept = torch.rand(len(space), generator=torch.Generator().manual_seed(0)) < 0.3
    if values.shape[-1] == 0:
        values = torch.randn(len(values), len(space), generator=torch.Generator().manual_seed(1))
    baseline = Baseline(
        "mean_training", values.to(changes.pop("dtype", torch.float32)), {"of": "x"}
    )
    circuit = Circuit(space, kept, None, 12, {"task": "t"}, baseline, {"kl": 0.1 + 0.2})
    return replace(circuit, **changes)


@FORMS
@pytest.mark.parametrize("positions", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_constants_and_what_was_measured_come_back_bit_by_bit(tmp_path, form, positions, dtype):
    circuit = circuit_with(torch.zeros(positions, 0), dtype=dtype)
    path = tmp_path / f"c.{form}"
    circuit.save(path)
    again = Circuit.load(path)
    assert again.space == circuit.space
    assert torch.equal(again.kept, circuit.kept)
    assert torch.equal(again.baseline.values, circuit.baseline.values.to(again.baseline.values))
    assert torch.equal(again.baseline.values.to(dtype), circuit.baseline.values)
    assert again.baseline.ablation == "mean_training"
    assert dict(again.baseline.over) == {"of": "x"}
    assert dict(again.measured) == {"kl": 0.1 + 0.2}
    if form == "safetensors":  # JSON has no types
        assert to_safetensors(again) == to_safetensors(circuit)


def test_circuits_without_constants_have_the_form_that_they_had():
    circuit = replace(circuit_with(torch.zeros(1, 0)), baseline=None)
    data = to_safetensors(circuit)
    assert b"circuit-harness/circuit/2" in data
    assert b"measured" not in data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["values"][0].pop(), "baseline has shape .* the space needs 220"),
        (lambda d: d.update(values=[]), "baseline has shape"),
        (lambda d: d["values"][0].__setitem__(3, 1e999), "holds numbers|not numbers|not a number"),
        (lambda d: d.pop("values"), "'values' is missing"),
        (lambda d: d["baseline"].update(over={"of": 3}), "not told in texts"),
        (lambda d: d["measured"].update(kl="low"), "not a mapping of numbers"),
        (lambda d: d["space"]["gates"][0].update(size=0), "no elements"),
        (lambda d: d["space"]["gates"][1].update(heads=5), "do not divide"),
        (lambda d: d["space"]["gates"].append(d["space"]["gates"][0]), "listed twice"),
        (lambda d: d["space"]["gates"][0].update(size=1 << 40), "more than"),
        (lambda d: d["space"]["wiring"]["links"][0].__setitem__(2, [3, 3]), "have shape"),
        (lambda d: d["space"]["wiring"]["links"][0].__setitem__(0, "b0.in"), "no such sites"),
        (lambda d: d["space"]["wiring"]["links"][0].__setitem__(3, "eJw="), "does not hold"),
        (lambda d: d["space"]["wiring"]["links"][0].__setitem__(3, 7), "is not text"),
        (lambda d: d["space"]["wiring"].update(mixed=["b0"]), "no site"),
    ],
)
def test_faulty_files_are_named(tmp_path, change, message):
    path = tmp_path / "c.json"
    circuit_with(torch.zeros(1, 0)).save(path)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(HarnessError, match=rf"c\.json.*({message})"):
        Circuit.load(path)


# ---------------------------------------------------------------- run again from the file alone
TASK = """\
spec_version: 1
name: brackets_here
title: Close the innermost bracket, in a loaded model
tokenizer: {kind: characters, bos: true}
data:
  kind: generator
  generator: brackets
  params: {kinds: ["()", "[]"], lengths: [7], max_depth: 3, min_distance: 2}
evaluation:
  granularity: channel
  ablation: mean_training
  positions: all
  test_pairs: 20
  discovery_pairs: 8
model: {kind: load, path: model, format: harness}
"""

AGAIN = """
import json, sys
import harness
task = harness.load_task(sys.argv[1])
circuit = harness.Circuit.load(sys.argv[2])
measured = harness.evaluate(circuit, task, harness.load_model(task))
print(json.dumps({name: one.value for name, one in measured.items()}))
"""


def test_a_file_gives_its_numbers_in_a_fresh_process_without_the_training_data(tmp_path: Path):
    (tmp_path / "brackets_here.yaml").write_text(TASK, encoding="utf-8")
    task = harness.load_task(str(tmp_path / "brackets_here.yaml"))
    config = TransformerConfig(
        n_layers=1,
        n_heads=2,
        d_model=8,
        d_head=4,
        d_mlp=16,
        d_vocab=task.data.tokenizer.size,
        n_ctx=task.data.longest,
    )
    (tmp_path / "model").mkdir()
    save_model(random_model(config, 0), tmp_path / "model")
    model = harness.load_model(task)
    with pytest.raises(HarnessError, match=r"mean_training.*not known"):
        harness.discover(task, model, "random", size=0.4)
    # Found under another ablation, given means that only the file has.
    other = task.with_evaluation(ablation="mean")
    circuit = harness.discover(other, model, "random", size=0.4)
    assert circuit.baseline.ablation == "mean"
    baseline = Baseline("mean_training", circuit.baseline.values + 0.1, {"sha256": "ab"})
    circuit = replace(circuit, baseline=baseline)
    numbers = {name: one.value for name, one in harness.evaluate(circuit, task, model).items()}
    of_means = harness.evaluate(replace(circuit, baseline=None), other, model)
    assert abs(of_means["logit_diff"].value - numbers["logit_diff"]) > 1e-4
    for form in ("safetensors", "json"):
        file = tmp_path / f"circuit.{form}"
        replace(circuit, measured=numbers).save(file)
        assert dict(Circuit.load(file).measured) == numbers
    told = subprocess.run(
        [sys.executable, "-c", AGAIN, str(tmp_path / "brackets_here.yaml"), str(file)],
        capture_output=True,
        check=True,
        text=True,
    )
    again = json.loads(told.stdout)
    assert again == pytest.approx(numbers, abs=1e-6)
