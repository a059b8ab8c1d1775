"""Names that would do harm if they were shown as they are, and a folder full of them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import torch

from harness.circuits.circuit import Circuit
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.files import save_circuit, to_safetensors
from harness.runs.plan import Plan
from harness.runs.store import CellStore
from harness.runs.store.record import record
from support.fake_cells import a_cell, a_method, a_task, output
from support.stored_pages import PROVENANCE, circuit_of

FORGED = "forged line"
EVIL = (
    "<svg onload=hit=1>\"'|`*_$\\&{{7*7}}"  # HTML, Markdown, LaTeX, templates
    "\x1b[6n\x1b]8;;x:y\x07\x9b6n\x7f"  # asks the terminal to type, a link, a bell, a C1 CSI
    "\u202e\u2066\u061c\u200b\r"  # marks of writing direction, what is not seen
    f"\n{FORGED}"
)
CALM = re.sub(r"[\x00-\x1f\x7f-\x9f]|forged line", "", EVIL)
"""Without control characters, which specs refuse."""

UNSAFE = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
)

ROW = {"clean": f"a{EVIL}{{}}", "corrupted": f"b{EVIL}{{}}", "good": "a", "bad": "\u202e"}
TASK = f"""\
spec_version: 1
name: evil
title: {json.dumps(CALM)}
description: {json.dumps(CALM)}
version: {json.dumps(CALM[-20:])}
tags: [evil]
tokenizer: {{kind: characters}}
data: {{kind: file, path: {json.dumps(CALM + ".jsonl")}, columns: {{good: good, bad: bad}}}}
evaluation:
  granularity: edge
  component: heads_qkv_mlps
  ablation: interchange
  positions: all
  direction: noising
  set: complement
  sizes: [0.1, 1.0]
  discovery_pairs: 4
  test_pairs: 8
model:
  kind: train
  name: evil-model
  architecture: {{n_layers: 1, n_heads: 1, d_model: 8}}
  training: {{objective: answer, steps: 1}}
"""


def write_specs(folder: Path) -> None:
    """The task `evil`, its rows, and files that are no specs, all below `folder/tasks`."""
    tasks = folder / "tasks"
    tasks.mkdir(parents=True, exist_ok=True)
    (tasks / "evil.yaml").write_text(TASK)
    rows = [{name: text.replace("{}", f"{n}") for name, text in ROW.items()} for n in range(200)]
    (tasks / f"{CALM}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tasks / f"{EVIL}.yaml").write_text(f"{json.dumps(EVIL)}: {json.dumps(EVIL)}\n")
    (tasks / "wrong.yaml").write_text(TASK.replace("kind: characters", f"kind: {json.dumps(EVIL)}"))


def write_results(results: Path) -> None:
    """A run with finished, failed, missing and damaged cells; its folder has an evil name too."""
    folder, task = results / EVIL, replace(a_task(EVIL), title=EVIL)
    cells = [a_cell(task, a_method(name, good=0.9)) for name in (EVIL, f"{EVIL} 2", "damaged")]
    cells = [replace(cell, model_name=EVIL, variant=EVIL) for cell in cells]
    failed, missing = (a_cell(task, a_method(f"{EVIL}{n}")) for n in (3, 4))
    record(folder, Plan(EVIL, (*cells, failed, missing)))
    store = CellStore(folder)
    for cell in cells:
        shown = output(cell)
        circuit = to_safetensors(replace(circuit_of(), source={"task": EVIL, "method": EVIL}))
        tensors = {**shown.tensors, "circuit.safetensors": circuit}
        provenance = {**PROVENANCE, "device": EVIL, "cpu": EVIL}
        store.publish(cell.id, replace(shown, tensors=tensors), provenance)
    (folder / "cells" / cells[-1].id / "result.json").write_text(EVIL)
    store.fail(failed.id, failed.labels(), EVIL)
    (folder / "run.log").write_text(f"2026-01-01T00:00:00 {EVIL}\n")


def write_circuit(path: Path) -> None:
    """A circuit file whose origin, and whose elements' names, are evil."""
    space = EdgeSpace(Graph(2, 2))
    scores = torch.randn(len(space), generator=torch.Generator().manual_seed(0)).double()
    source = {"task": EVIL, "model": EVIL, "method": EVIL, EVIL: EVIL}
    save_circuit(Circuit(space, scores.abs() > 1, scores, 8, source), path)
