"""`harness judge`: a circuit file and a stored cell, judged in a small trained model."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.circuits.circuit import Circuit
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.optimal import learn_constants
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.files import save_circuit
from harness.cli.judge import _tests_rows
from harness.evaluation import judge as evaluation
from harness.evaluation.completeness import Learner
from harness.runs.store import CellStore

SPACE = EdgeSpace(Graph(1, 2))  # of the task in conftest
EDGES = len(SPACE)


@pytest.fixture(autouse=True)
def little_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    little = evaluation.Effort(
        subsets=3, greedy_steps=1, greedy_width=3, contexts=1, references=5, permutations=20
    )
    monkeypatch.setattr(evaluation, "Effort", partial(replace, little))
    monkeypatch.setattr("harness.runs.services.judge.Learner", lambda: Learner(steps=2))


def saved(name: str = "circuit.json", space: EdgeSpace = SPACE, drop: str = "", **more: Any) -> str:
    kept = torch.ones(len(space), dtype=torch.bool)
    if drop:
        kept[space.index(drop)] = False
    save_circuit(Circuit(space, kept, **more), Path(name))
    return name


def judged(harness: Any, *arguments: str) -> Any:
    return json.loads(harness("judge", *arguments, "--json").stdout)


def test_a_circuit_file(harness: Any) -> None:
    path = saved(drop="m0->logits")
    found = judged(harness, path, "--task", "toy")
    assert (found["size"], found["total"]) == (EDGES - 1, EDGES)
    assert (found["task"], found["split"], found["n_examples"]) == ("toy", "test", 40)
    assert found["same_model"] is None
    assert found["overlap"] is None
    assert set(found["completeness"]) >= {"nothing", "random", "nodes", "worst_elements", "learned"}
    assert found["completeness"]["searched_on_other_pairs"]
    again = harness("judge", path, "--task", "toy")
    assert "is in the cache" in again.stderr
    for word in ("faithfulness", "incompleteness", "median effect of edges", "IoU"):
        assert (word in again.stdout) == (word != "IoU")
    for test in ("equivalence", "independence", "minimality"):
        assert f"| {test} test" in again.stdout


def test_random_sets_beside_the_circuit_are_as_many_as_asked_for(harness: Any) -> None:
    asked = (saved(drop="m0->logits"), "--task", "toy", "--tests", "necessity")
    assert judged(harness, *asked)["necessity"]["sets"] == 10
    more = judged(harness, *asked, "--random-sets", "3")["necessity"]
    assert more["sets"] == 3
    low, mean, largest = (more["task_loss"][f"random_{x}"] for x in ("low", "mean", "largest"))
    assert low <= mean
    assert mean <= largest or mean == pytest.approx(largest, rel=1e-12)  # equal sets: rounding
    assert "3 random sets of this size" in harness("judge", *asked, "--random-sets", "3").stdout


def test_overlap_with_other_circuits(harness: Any) -> None:
    whole, fewer = saved("whole.pt"), saved("fewer.safetensors", drop="m0->logits")
    arguments = (whole, "--task", "toy", "--tests", "none", "--against", fewer, "--against", whole)
    found = judged(harness, *arguments)
    assert "completeness" not in found
    assert found["overlap"]["with"][0]["elements"]["iou"] == pytest.approx((EDGES - 1) / EDGES)
    assert found["overlap"]["with"][1]["elements"]["iou"] == 1
    assert found["overlap"]["consistency"]["n"] == 3
    text = harness("judge", *arguments).stdout
    assert "IoU of edges with fewer.safetensors" in text
    assert "pairwise IoU of 3 circuits" in text


@pytest.mark.parametrize(
    ("ablation", "pairs"),
    [
        ("interchange", "16"),
        pytest.param("optimal", "16", marks=pytest.mark.slow),
        pytest.param("mean", "1500\n  discovery_repeats: true", marks=pytest.mark.slow),
    ],
)
def test_a_stored_cell_has_the_numbers_of_its_cell(
    ablation: str, pairs: str, measuring: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = partial(learn_constants, steps=20)
    monkeypatch.setattr("harness.circuits.edges.patchable.learn_constants", few)
    harness = measuring
    path = harness.task("toy")
    text = path.read_text().replace("ablation: interchange", f"ablation: {ablation}")
    path.write_text(text.replace("discovery_pairs: 16", f"discovery_pairs: {pairs}"))
    harness.suite("real", ["toy"], ["eap"])
    harness("run", "real", "--seeds", "1")
    store = CellStore(Path("results/real"))
    results = {cell: store.result(cell) for cell in store.ids()}
    cell = next(name for name, result in results.items() if result["method"] == "eap")
    again = results[cell]["n_discovery"] > results[cell]["n_discovery_prompts"]
    assert again == ("repeats" in pairs)
    found = judged(harness, f"real:{cell[:8]}", "--tests", "equivalence")
    assert found["same_model"] is True
    assert found["seed"] == 1
    assert found["whole"] == results[cell]["whole"]
    matching = [point for point in results[cell]["curve"] if point["size"] == found["size"]]
    wanted = matching[-1]["faithfulness"]["value"]
    assert found["circuit"]["faithfulness"]["value"] == pytest.approx(wanted, abs=1e-6)
    assert (
        judged(harness, cell, "--tests", "none", "--split", "validation")["split"] == "validation"
    )


def test_a_cell_in_another_model_is_said(measuring: Any) -> None:
    harness = measuring
    harness("run", "toy", "--methods", "eap", "--limit", "8")
    cell = CellStore(Path("results/toy")).ids()[0]
    path = harness.task("other")
    path.write_text(path.read_text().replace("steps: 10", "steps: 11"))
    result = harness("judge", cell, "--task", "other", "--tests", "none", "--json")
    assert json.loads(result.stdout)["same_model"] is False
    assert "the circuit was found in model" in result.stderr
    harness.task("toy").write_text(path.read_text().replace("name: other", "name: toy"))
    changed = harness("judge", cell, "--task", "toy", "--tests", "none", code=2)
    assert "now has model" in changed.stderr


def test_transfer_to_another_task_in_the_same_model(measuring: Any) -> None:
    """Other prompts of the same tokens; the model is the one the circuit was found in."""
    harness = measuring
    harness("run", "toy", "--methods", "eap", "--limit", "8")
    store = CellStore(Path("results/toy"))
    cell = next(one for one in store.ids() if store.result(one)["method"] == "eap")
    path = harness.task("longer")
    path.write_text(path.read_text().replace("lengths: [7, 9]", "lengths: [9]"))
    result = harness("judge", cell, "--on", "longer", "--tests", "none", "--json")
    found, home = json.loads(result.stdout), judged(harness, cell, "--tests", "none")
    assert (found["task"], found["same_model"]) == ("longer", True)
    assert found["model_id"] == home["model_id"] == store.result(cell)["model_id"]
    assert found["whole"] != home["whole"]  # other prompts
    assert "training" not in result.stderr
    other = judged(harness, cell, "--task", "longer", "--tests", "none")  # its own model
    assert other["model_id"] != home["model_id"]
    path.write_text(path.read_text().replace('"[]"', '"{}"'))
    said = harness("judge", cell, "--on", "longer", "--tests", "none", code=2).stderr
    assert "task 'longer' has other tokens than task 'toy', whose model this is" in said


def test_the_circuit_of_a_size(measuring: Any) -> None:
    harness = measuring
    harness("run", "toy", "--methods", "eap", "--limit", "8")
    store = CellStore(Path("results/toy"))
    cell = next(one for one in store.ids() if store.result(one)["method"] == "eap")
    point = store.result(cell)["curve"][2]
    assert point["size_requested"] == 0.5
    found = judged(harness, cell, "--size", "0.5", "--tests", "none")
    assert found["size"] == point["size"]
    wanted = point["faithfulness"]["value"]
    assert found["circuit"]["faithfulness"]["value"] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nothing.json", "--task", "toy"), "there is no circuit file nothing.json"),
        (("feed", "--task", "toy"), "'feed' is neither a circuit file nor the beginning of"),
        (("circuit.json",), "does not say which task"),
        (("circuit.json", "--task", "tyo"), "did you mean 'toy'"),
        (("circuit.json", "--task", "toy", "--split", "tset"), "did you mean 'test'"),
        (("circuit.json", "--task", "toy", "--tests", "minimal"), "--tests knows completeness"),
        (("circuit.json", "--task", "toy", "--against", "deep.json"), "different spaces"),
        (("deep.json", "--task", "toy"), "it is a circuit of another model"),
        (("wide.json", "--task", "toy"), "d_model 99, this one has 8"),
        (("broken.json", "--task", "toy"), "cannot be read as a circuit"),
        (("norun:abc", "--task", "toy"), "no run 'norun'"),
    ],
)
def test_mistakes(harness: Any, arguments: tuple[str, ...], said: str) -> None:
    saved()
    saved("deep.json", EdgeSpace(Graph(2, 2)))
    saved("wide.json", d_model=99)
    Path("broken.json").write_text("{")
    assert said in harness("judge", *arguments, code=2).stderr


def test_an_empty_circuit_is_refused(harness: Any) -> None:
    save_circuit(Circuit(SPACE, torch.zeros(EDGES, dtype=torch.bool)), Path("empty.json"))
    assert "keeps nothing" in harness("judge", "empty.json", "--task", "toy", code=2).stderr


@pytest.mark.parametrize("rejected", [False, True])
def test_verdicts_say_what_they_mean(rejected: bool) -> None:
    """Not the null hypothesis beside the word that denies it."""
    test = {"null": "never shown", "p": 0.01, "rejected": rejected}
    report = {"equivalence": test, "independence": test, "minimality": {"test": test}}
    shown = {name: text for name, _, text in _tests_rows(report)}
    assert set(shown) == {"equivalence test", "independence test", "minimality test"}
    assert all(text.startswith("failed: " if rejected else "passed: ") for text in shown.values())
    wanted = "still follows the model's scores" if rejected else "no sign that what is outside"
    assert wanted in shown["independence test"]
    assert "never shown" not in str(shown)
