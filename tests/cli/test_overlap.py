"""`harness overlap`: circuits from files, cells, and all seeds of a method."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.fake_cells import SIZES, a_cell, a_method, a_task, output

from harness.circuits.circuit import Circuit
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.files import save_circuit, to_safetensors
from harness.circuits.packed import pack
from harness.evaluation.overlap import element_consistency, node_consistency
from harness.runs.plan import Cell, Plan
from harness.runs.store import CellStore
from harness.runs.store.record import record

SPACE = EdgeSpace(Graph(2, 2))


def random_circuit(seed: int, share: float) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return SPACE.uniform(draw, torch.float32) < share


def whole(space: EdgeSpace) -> Circuit:
    return Circuit(space, torch.ones(len(space), dtype=torch.bool))


def stored(cells: list[Cell], folder: str = "results/run") -> dict[str, list[Circuit]]:
    """A run with random circuits; by cell id those of every size, the stored one last."""
    record(Path(folder), Plan("run", tuple(cells)))
    store, made = CellStore(Path(folder)), {}
    for place, cell in enumerate(cells):
        sizes = [random_circuit(place, share) for share in SIZES]
        one = Circuit(SPACE, random_circuit(place + 50, 0.4))
        made[cell.id] = [*(Circuit(SPACE, kept) for kept in sizes), one]
        tensors = {
            **output(cell).tensors,
            "circuit.safetensors": to_safetensors(one),
            "circuits.safetensors": pack(sizes, SPACE),
        }
        store.publish(cell.id, replace(output(cell), tensors=tensors), {})
    return made


def overlap(harness: Any, *arguments: str) -> Any:
    return json.loads(harness("overlap", *arguments, "--json").stdout)


def seeds(method: str, n: int, task: str = "toy", **changes: Any) -> list[Cell]:
    return [a_cell(a_task(task), a_method(method), seed=seed, **changes) for seed in range(n)]


def test_consistency_over_twelve_seeds(harness: Any) -> None:
    made = stored(seeds("eap", 12))
    found = overlap(harness, "run:eap")
    (group,) = found["groups"]
    assert [one["seed"] for one in group["circuits"]] == list(range(12))
    wanted = element_consistency([circuits[-1] for circuits in made.values()])
    assert group["elements"]["mean"] == pytest.approx(wanted.mean)
    assert (group["elements"]["low"], group["elements"]["high"]) == (wanted.low, wanted.high)
    assert group["elements"]["low"] < group["elements"]["mean"] < group["elements"]["high"]
    nodes = node_consistency([circuits[-1] for circuits in made.values()])
    assert group["nodes"]["mean"] == pytest.approx(nodes.mean)
    text = harness("overlap", "run:eap").stdout
    assert f"| edges, 12 of run:eap | {wanted.mean:.3f} ±" in text
    sized = overlap(harness, "run:eap", "--size", "0.5")["groups"][0]["elements"]
    at_half = element_consistency([circuits[SIZES.index(0.5)] for circuits in made.values()])
    assert sized["mean"] == pytest.approx(at_half.mean)


def test_two_methods_within_and_between(harness: Any) -> None:
    made = list(stored([*seeds("eap", 2), *seeds("acdc", 3)]).values())
    found = overlap(harness, "run:eap", "run:acdc")
    assert [group["elements"]["n"] for group in found["groups"]] == [2, 3]
    assert found["groups"][0]["elements"]["low"] is None  # two seeds have no interval
    (between,) = found["between"]
    ious = [
        float((a[-1].kept & b[-1].kept).sum() / (a[-1].kept | b[-1].kept).sum())
        for a in made[:2]
        for b in made[2:]
    ]
    assert between["elements"]["pairs"] == 6
    assert between["elements"]["mean"] == pytest.approx(sum(ious) / 6)
    assert (between["elements"]["least"], between["elements"]["most"]) == pytest.approx(
        (min(ious), max(ious))
    )
    assert found["together"] == {"elements": None, "nodes": None}


def test_files_and_cells_of_two_tasks(harness: Any) -> None:
    made = stored([*seeds("eap", 1, "one"), *seeds("eap", 1, "two")])
    save_circuit(whole(SPACE), Path("whole.json"))
    (one, circuits), (two, others) = made.items()
    found = overlap(harness, one[:8], f"run:{two[:8]}", "whole.json")
    assert [group["elements"] for group in found["groups"]] == [None] * 3
    assert [pair["elements"]["pairs"] for pair in found["between"]] == [1] * 3
    assert found["together"]["elements"]["n"] == 3
    kept = circuits[-1].kept, others[-1].kept
    shared, smaller = int((kept[0] & kept[1]).sum()), min(int(one.sum()) for one in kept)
    assert found["between"][0]["elements"]["of_smaller"] == pytest.approx(shared / smaller)
    assert found["between"][1]["elements"]["of_smaller"] == 1
    assert "| edges, all 3 " in harness("overlap", one[:8], two[:8], "whole.json").stdout
    text = harness("overlap", one[:8], "whole.json").stdout
    assert f"edges, {one[:8]} with whole.json" in text
    assert "1.000 of the smaller" in text


def test_cells_that_measure_different_things_are_not_mixed(harness: Any) -> None:
    zero = a_task(evaluation=replace(a_task().evaluation, ablation="zero"))
    cells = [a_cell(zero, a_method("eap"), seed, variant="ablation zero") for seed in range(3)]
    stored([*seeds("eap", 2), *seeds("eap", 2, "other"), *cells])
    said = harness("overlap", "run:eap", code=2).stderr
    assert "circuits of 3 tasks, models or evaluations" in said
    assert "toy on toy ablation zero" in said
    assert "--variant" in said
    found = overlap(harness, "run:eap", "--task", "toy", "--variant", "ablation zero")
    assert found["groups"][0]["elements"]["n"] == 3
    assert overlap(harness, "run:eap", "--task", "other")["groups"][0]["elements"]["n"] == 2


def test_smoke_cells_stand_in_only_where_there_is_nothing_better(harness: Any) -> None:
    stored([*seeds("eap", 2), *seeds("eap", 3, limit=4), *seeds("acdc", 2, limit=4)])
    found = overlap(harness, "run:eap", "run:acdc")
    assert [group["elements"]["n"] for group in found["groups"]] == [2, 2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run:eap",), "one circuit alone"),
        (
            ("run:nothing", "run:eap"),
            "run 'run' has neither a method called 'nothing' nor a finished cell whose id begins "
            "so; it has finished cells of eap",
        ),
        (("run:eap", "run:eap", "--task", "tyo"), "called 'eap' with --task tyo"),
        (("gone.pt", "run:eap"), "there is no circuit file gone.pt"),
        (("walk:eap", "run:eap"), "no run 'walk'"),
        (("deep.json", "run:eap"), "different spaces"),
        (("run:eap", "whole.json", "--size", "0.3"), "no circuit of size 0.3"),
    ],
)
def test_mistakes(harness: Any, arguments: tuple[str, ...], said: str) -> None:
    stored(seeds("eap", 1))
    save_circuit(whole(EdgeSpace(Graph(3, 2))), Path("deep.json"))
    save_circuit(whole(SPACE), Path("whole.json"))
    assert said in harness("overlap", *arguments, code=2).stderr
