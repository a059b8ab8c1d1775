"""Exported files of a model whose heads share keys and values, read by MIB's rules alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support import mib_curve
from support.mib_curve import MibFile, Prompts
from support.slow_reference import SlowModel

import harness as api
from harness.models.checkpoint import load_model

EDGES = {"per_head": 198, "grouped": 126}
AT_MOST = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


SHAPE = "{n_layers: 2, n_heads: 6, n_key_value_heads: 2, d_model: 12, d_head: 4, d_mlp: 16}"


@pytest.fixture
def shared(measuring: Any) -> Any:
    """A task on a model of 2 layers and 6 heads in 2 groups, at MIB's sizes; 12 pairs."""
    text = measuring.task("toy").read_text()
    for old, new in (
        ("{n_layers: 1, n_heads: 2, d_model: 8}", SHAPE),
        ("steps: 10", "steps: 20"),
        ("  sizes: [0.01, 0.1, 0.5, 1.0]\n", ""),
        ("test_pairs: 40", "test_pairs: 12"),
    ):
        assert old in text
        text = text.replace(old, new)
    measuring.write("tasks/toy.yaml", text)
    return measuring


def run(harness: Any, edges: str, *methods: str) -> None:
    """A run called as its kind of edges, in double precision."""
    path = harness.folder / "tasks/toy.yaml"
    text = path.read_text()
    path.write_text(text.replace("  set:", f"  key_value_edges: {edges}\n  set:"))
    suite = harness.suite(edges, ["toy"], list(methods))
    spec = suite.read_text().replace("controls: [paths]", "controls: []")
    suite.write_text(spec + "runtime: {dtype: float64, threads: 1}\n")
    harness("run", edges)
    path.write_text(text)


def prompts() -> Prompts:
    """The test pairs of the task, and the model that the run trained."""
    (folder,) = (path.parent for path in Path("results/models").glob("*/config.json"))
    pairs = api.prompt_pairs(api.load_task("toy"))
    rows = [
        (
            torch.from_numpy(pairs.clean[i, :length].astype(int)),
            torch.from_numpy(pairs.corrupted[i, :length].astype(int)),
            int(pairs.good[i, 0, 0]),
            int(pairs.bad[i, 0, 0]),
        )
        for i, length in enumerate(pairs.lengths.tolist())
    ]
    return Prompts(SlowModel(load_model(folder), per_head=True), rows)


def test_cpr_and_cmd_of_exported_files_are_those_of_the_table(shared: Any) -> None:
    run(shared, "per_head", "eap", "eap_signed")
    table = json.loads(shared("table", "per_head", "--full", "--format", "json").stdout)
    measured_on = prompts()
    for method, absolute in (("eap", True), ("eap_signed", False)):
        shared("export", "per_head", "--method", method, "--file", "json", "--to", method)
        (path,) = Path(method).glob("*/importances.json")
        file = MibFile(path)
        assert len(file.scores) == EDGES["per_head"]
        circuits = [file.top(share, absolute) for share in mib_curve.SHARES]
        curve = mib_curve.curve(file, measured_on, circuits)
        rows = [row for row in table if row["method"] == method]
        assert rows
        for row in rows:
            assert row["total"] == EDGES["per_head"]
            assert row["cpr"] == pytest.approx(mib_curve.cpr(curve), abs=5e-7)
            assert row["cmd"] == pytest.approx(mib_curve.cmd(curve), abs=5e-7)

    # Nine circuits: their sizes are counted in the same graph, and their areas are the table's.
    shared("export", "per_head", "--method", "eap", "--file", "json", "--to", "nine", "--circuits")
    (folder,) = Path("nine").iterdir()
    files = [MibFile(folder / f"circuit_{100 * limit:g}.json") for limit in AT_MOST]
    points = stored("per_head", "eap")["curve"][:-1]
    assert [len(file.in_graph) for file in files] == [point["size"] for point in points]
    for limit, file in zip(AT_MOST, files, strict=True):
        assert len(file.in_graph) <= limit * EDGES["per_head"]
    curve = [*mib_curve.curve(files[0], measured_on, [file.in_graph for file in files]), 1.0]
    assert row_of(table, "eap")["cpr"] == pytest.approx(mib_curve.cpr(curve), abs=5e-7)
    assert row_of(table, "eap")["cmd"] == pytest.approx(mib_curve.cmd(curve), abs=5e-7)


def stored(name: str, method: str) -> Any:
    results = [
        json.loads(path.read_text()) for path in Path(f"results/{name}").rglob("result.json")
    ]
    return next(one for one in results if one["method"] == method)


def row_of(table: Any, method: str) -> Any:
    return next(row for row in table if row["method"] == method)


def test_the_choice_is_recorded_where_it_is_made(shared: Any) -> None:
    """And the two are never compared."""
    cells = {}
    for name, edges in EDGES.items():
        run(shared, name, "eap")
        result = stored(name, "eap")
        cells[name] = result["cell"]
        assert result["total"] == edges
        assert result["choices"].get("key_value_edges") == (None if name == "grouped" else name)
    assert cells["grouped"] != cells["per_head"]
    assert "key_value_edges per_head" in shared("table", "per_head").stdout
    refused = shared("compare", "per_head:eap", "grouped:eap", code=2).stderr
    assert "the choice of key_value_edges (per_head and grouped)" in refused
