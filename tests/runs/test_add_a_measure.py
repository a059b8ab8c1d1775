"""A measure is one entry: it is listed, measured, stored, and shown in rows and tables."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from support.fake_cells import a_method, a_model, a_task, loaded

from harness.cli.main import main
from harness.metrics import MEASURES, Measure
from harness.metrics.logits import over_positions
from harness.reports.leaderboard import leaderboard
from harness.reports.rows import columns_of, rows
from harness.reports.table import render, render_rows
from harness.runs.compute.cell import compute_cell
from harness.runs.plan import ModelSource, Plan, make_cell
from harness.runs.store import CellStore
from harness.runs.store.models import ModelStore
from harness.runs.store.record import StoredCell, load_cells, record
from harness.spec.types import Runtime


def entropy(logits, batch):
    log_p = logits.double().log_softmax(-1)
    return over_positions(-(log_p.exp() * log_p).sum(-1), batch)


ENTROPY = Measure(
    "entropy",
    "entropy",
    "none",
    "-Σ p·log p over the vocabulary",
    "Shannon 1948",
    "logits",
    entropy,
    unit="nats",
    roles=frozenset({"extra"}),
)


@pytest.fixture(autouse=True)
def _entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MEASURES, "entropy", ENTROPY)


@pytest.fixture
def cells(tmp_path: Path) -> list[StoredCell]:
    """One computed cell of a task that chose the measure."""
    task = a_task()
    changed = {"measures": ("entropy",), "sizes": (0.5, 1.0), "discovery_pairs": 8}
    task = replace(task, evaluation=replace(task.evaluation, **changed, test_pairs=16))
    model = replace(a_model(), training=replace(a_model().training, steps=2, warmup_steps=1))
    source = ModelSource(model, "toy-model", loaded(task).folder)
    cell = make_cell(loaded(task), source, a_method("eap"), "method", 0, Runtime(threads=1), None)
    output = compute_cell(cell, ModelStore(tmp_path / "models"), lambda text: None)
    folder = tmp_path / "run"
    record(folder, Plan("run", (cell,)))
    CellStore(folder).publish(cell.id, output, output.timing)
    return load_cells(folder)


def test_it_is_listed_and_shown() -> None:
    listed = CliRunner().invoke(main, ["list", "metrics"]).stdout
    assert "-Σ p·log p over the vocabulary (Shannon 1948)" in listed
    data = json.loads(CliRunner().invoke(main, ["list", "metrics", "--json"]).stdout)
    assert data[-1] == ENTROPY.record()
    shown = CliRunner().invoke(main, ["show", "entropy"]).stdout
    assert shown.splitlines()[0] == "entropy, in nats"


def test_it_is_measured_of_every_prompt_pair(cells: list[StoredCell]) -> None:
    (cell,) = cells
    values = cell.store.tensors(cell.entry.id, "examples.safetensors")["curve/entropy"]
    assert values.shape == (2, 16)
    assert (values > 0).all()
    assert cell.result is not None
    means = [point["entropy"]["value"] for point in cell.result["curve"]]
    np.testing.assert_allclose(values.mean(1), means, rtol=1e-12)
    assert cell.result["whole"]["entropy"]["value"] == pytest.approx(means[-1])


def test_it_is_in_rows_and_tables(cells: list[StoredCell]) -> None:
    (cell,) = cells
    assert cell.result is not None
    means = [point["entropy"]["value"] for point in cell.result["curve"]]
    assert list(columns_of(cells))[-1] == "entropy"
    assert [row["entropy"] for row in rows(cells)] == means
    lines = list(csv.DictReader(io.StringIO(render_rows(cells, "csv"))))
    assert [float(line["entropy"]) for line in lines] == means
    board = leaderboard(cells)
    assert "| entropy @50% |" in " ".join(render(board, "github").split())
    (line, *_) = csv.DictReader(io.StringIO(render(board, "csv")))
    assert float(line["entropy"]) == means[0]
