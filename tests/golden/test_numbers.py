"""Ids and numbers of stored cells do not move.

The numbers are those of some cells of the suite known_circuits, whose models are compiled: nothing
is trained, so machines agree to rounding. They were stored before circuits were subsets of spaces.
A change that moves numbers has to change ids (`SEMANTICS_VERSION`), and then what is stored here.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load

from harness.runs.compute.cell import compute_cell
from harness.runs.plan import cells as planning
from harness.runs.plan import expand
from harness.runs.store import ModelStore
from harness.spec.identity import digest
from harness.spec.load import Library

STORED = json.loads((Path(__file__).parent / "known_circuits.json").read_text())


SUITES = {
    "quickstart": "0eeab5d16678503e5772294df3276a5d1bd318dbed7590e3e4971a7a8ec9b450",
    "edge_pruning": "95655b32c156a677fbc90ef325a5e4db0cbcf4d56b9fa57836f60a3f2a59e766",
    "edge_pruning_prompts": "d0dca7453470bd19ad70f579ca1ffeec48745e01c10dd8ca939c58d6cc08d0fc",
    "known_circuits": "7f4659cb828a1c75f561804064811b7c5f30825d86cc3c33c8d542c7b0f1d93a",
}
"""Digest of the ids of all cells of a suite's own grid, with torch and numpy taken to be 2.0.

Further grids are of shipped sparse models and dictionaries, whose weights are in their ids.
"""


@pytest.mark.parametrize("suite", SUITES)
def test_ids_of_the_shipped_suites_are_those_they_had(suite, monkeypatch):
    monkeypatch.setattr(planning, "minor_version", lambda package: "2.0")
    library = Library()
    whole = library.suite(suite)
    plan = expand(replace(whole, spec=whole.spec.grids[0]), library)
    assert digest([cell.id for cell in plan.cells]) == SUITES[suite]


@pytest.fixture(scope="module")
def cells():
    library = Library()
    plan = expand(library.suite("known_circuits"), library)
    return {
        f"{cell.task.spec.name} {cell.task.spec.evaluation.ablation} {cell.method.name}": cell
        for cell in plan.cells
    }


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return ModelStore(tmp_path_factory.mktemp("models"))


def settled(scores, n):
    """Whether it is more than rounding that decides which n elements score highest.

    Edges of compiled models that are alike have equal scores. Which of them come first depends on
    the processor, and so does how many of these are left without those that lead nowhere.
    """
    ranked = scores.double().abs().sort(descending=True).values
    if not 0 < n < len(ranked):
        return True
    return bool(ranked[n - 1] - ranked[n] > 1e-5 * ranked[n - 1])


@pytest.mark.matrix
@pytest.mark.parametrize(("place", "method"), [name.rsplit(" ", 1) for name in STORED])
def test_a_cell_has_the_numbers_it_had(place, method, cells, models):
    name = f"{place} {method}"
    stored = STORED[name]
    output = compute_cell(cells[name], models, lambda text: None)
    result, curve = output.result, output.result["curve"]
    scores = load(output.tensors["circuit.safetensors"])["scores"]
    for point, size in zip(curve, stored["size"], strict=True):
        assert point["size"] == size or not settled(scores, point["requested"])
    assert curve[-1]["size"] == stored["size"][-1]
    for measure in ("faithfulness", "kl", "metric"):
        values = [point[measure]["value"] for point in curve]
        assert values == pytest.approx(stored[measure], rel=1e-4, abs=1e-5), measure
    assert result["summary"]["cmd"]["value"] == pytest.approx(stored["cmd"], rel=1e-4)
    assert result["summary"]["cpr"]["low"] == pytest.approx(stored["cpr_low"], rel=1e-4)
    assert (result["ground_truth"] or {}).get("auroc") == pytest.approx(stored["auroc"], rel=1e-6)
    assert result["data_digest"] == stored["data_digest"]
