"""A task of a data file over a loaded model: all that a cell of it reads lies in one folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from harness.models.checkpoint import save_model
from harness.models.config import TransformerConfig
from harness.models.transformer import Transformer

LETTERS, LENGTH = "abcde", 5
TASK = """\
spec_version: 1
name: first_letter
title: The letter that a prompt begins with
tokenizer: {kind: words, bos: true}
data: {kind: file, path: data/prompts.jsonl, columns: {good: good, bad: bad}}
evaluation:
  ablation: interchange
  positions: all
  counts: [1, 4]
  discovery_pairs: 12
  test_pairs: 12
model: {kind: load, path: ../models/small}
"""


def write_file_task(folder: Path) -> Path:
    """Write the task, its data and its model below `folder`; the file of a suite over it."""
    (folder / "tasks" / "data").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(240):
        clean = rng.choice(list(LETTERS), LENGTH)
        other = clean.copy()
        other[0] = rng.choice([one for one in LETTERS if one != clean[0]])
        row = {"clean": " ".join(clean), "corrupted": " ".join(other)}
        rows.append(json.dumps(row | {"good": str(clean[0]), "bad": str(other[0])}))
    (folder / "tasks" / "data" / "prompts.jsonl").write_text("\n".join(rows))
    (folder / "tasks" / "first_letter.yaml").write_text(TASK)
    config = TransformerConfig(
        n_layers=2, n_heads=2, d_model=8, d_head=4, d_mlp=16, d_vocab=len(LETTERS) + 1, n_ctx=8
    )
    model = Transformer(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.5, generator=generator)
    (folder / "models" / "small").mkdir(parents=True)
    save_model(model, folder / "models" / "small")
    suite = {
        "spec_version": 1,
        "name": "letters",
        "title": "First letters",
        "tasks": [str(folder / "tasks" / "first_letter.yaml")],
        "methods": ["eap", "activation_patching"],
        "controls": [],
        "seeds": [0, 1],
        "runtime": {"threads": 1},
    }
    (folder / "letters.yaml").write_text(json.dumps(suite))
    return folder / "letters.yaml"
