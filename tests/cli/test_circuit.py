"""`harness circuit`: what is in a circuit, and what two differ in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.circuits.circuit import Circuit
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.files import save_circuit
from harness.reports.screens.columns import cells
from harness.runs.services.describe import layers_of

SPACE = EdgeSpace(Graph(2, 3))


def drawn(seed: int, share: float = 0.3) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randn(len(SPACE), generator=draw)
    return torch.rand(len(SPACE), generator=draw) < share, scores


def saved(name: str, kept: Tensor, scores: Tensor | None = None, **source: str) -> Circuit:
    circuit = Circuit(SPACE, kept, scores, 8, source)
    save_circuit(circuit, Path(name))
    return circuit


def shown(harness: Any, *arguments: str) -> Any:
    return json.loads(harness("circuit", *arguments, "--json").stdout)


def by_strength(circuit: Circuit, chosen: Tensor) -> list[str]:
    """Slowly: the chosen elements from the largest |score| on."""
    assert circuit.scores is not None
    picked = [e for e in range(len(SPACE)) if chosen[e]]
    picked.sort(key=lambda e: -abs(float(circuit.scores[e])))  # type: ignore[index]
    return [SPACE.name(e) for e in picked]


def names(elements: Any) -> list[str]:
    return [one["element"] for one in elements]


@pytest.mark.parametrize("top", [1, 7, 10_000])
def test_the_strongest_edges_and_all_nodes(harness: Any, top: int) -> None:
    circuit = saved("one.safetensors", *drawn(0), task="ioi", method="eap")
    report = shown(harness, "one.safetensors", "--top", str(top))
    (one,) = report["circuits"]
    assert (report["total"], one["size"]) == (len(SPACE), circuit.size)
    assert names(one["strongest"]) == by_strength(circuit, circuit.kept)[:top]
    for listed in one["strongest"]:
        assert listed["score"] == pytest.approx(
            float(circuit.scores[SPACE.index(listed["element"])])  # type: ignore[index]
        )
    used = set(circuit.nodes())
    assert one["nodes"] == len(used)
    for layer in one["layers"]:
        heads = {f"a{layer['layer']}.{head}" for head in layer["heads"]}
        mlp = {f"m{layer['layer']}"} if layer["others"] == ["MLP"] else set()
        assert heads | mlp == {name for name in used if name[1] == str(layer["layer"])}
        assert layer["heads_total"] == 3
    text = harness("circuit", "one.safetensors", "--top", str(top)).stdout
    assert "one.safetensors: method eap, task ioi" in text
    assert f"{circuit.size} of {len(SPACE)} edges" in text
    assert all(name in text for name in names(one["strongest"]))


def test_without_scores_the_edges_come_in_the_order_of_files(harness: Any) -> None:
    circuit = saved("plain.json", drawn(1)[0])
    (one,) = shown(harness, "plain.json")["circuits"]
    assert names(one["strongest"]) == list(circuit.elements())[:10]
    assert "first (it has no scores) 10 of" in harness("circuit", "plain.json").stdout


def test_what_two_differ_in(harness: Any) -> None:
    a, b = saved("a.safetensors", *drawn(2)), saved("b.safetensors", *drawn(3, 0.5))
    report = shown(harness, "a.safetensors", "b.safetensors", "--top", "5")
    difference = report["difference"]
    assert difference["both"] == int((a.kept & b.kept).sum())
    assert difference["iou"] == pytest.approx(
        difference["both"] / int((a.kept | b.kept).sum()), abs=1e-12
    )
    for one, mine, other in zip(difference["only"], (a, b), (b, a), strict=True):
        apart = mine.kept & ~other.kept
        assert one["size"] == int(apart.sum())
        assert names(one["strongest"]) == by_strength(mine, apart)[:5]
        assert set(one["nodes"]) == set(mine.nodes()) - set(other.nodes())
    text = harness("circuit", "a.safetensors", "b.safetensors").stdout
    assert "only in a.safetensors" in text
    same = shown(harness, "a.safetensors", "a.safetensors")["difference"]
    assert (same["both"], same["iou"]) == (a.size, 1.0)
    assert [one["size"] for one in same["only"]] == [0, 0]


def test_known_edges_are_marked(harness: Any) -> None:
    circuit, known = saved("one.safetensors", *drawn(4)), saved("known.json", drawn(5)[0])
    report = shown(harness, "one.safetensors", "--known", "known.json", "--top", "6")
    (one,) = report["circuits"]
    assert report["known"] == {"name": "known.json", "size": known.size}
    assert one["known"]["kept"] == int((circuit.kept & known.kept).sum())
    assert one["known"]["n_missing"] == known.size - one["known"]["kept"]
    missing = by_strength(circuit, known.kept & ~circuit.kept)
    assert names(one["known"]["missing"]) == missing[:6]
    for listed in one["strongest"]:
        assert listed["known"] == bool(known.kept[SPACE.index(listed["element"])])
    text = harness("circuit", "one.safetensors", "--known", "known.json").stdout
    marked = [line.split()[1] for line in text.splitlines() if line.endswith("●")]
    assert marked == [e for e in by_strength(circuit, circuit.kept)[:10] if known_of(known, e)]


def known_of(known: Circuit, element: str) -> bool:
    return bool(known.kept[SPACE.index(element)])


def test_true_edges_of_a_compiled_program_are_marked(measuring: Any) -> None:
    harness = measuring
    harness(
        "run", "known/copy_previous", "--methods", "activation_patching", "--seeds", "0",
        "--limit", "8",
    )  # fmt: skip
    results = map(json.loads, (path.read_text() for path in Path("results").rglob("result.json")))
    (cell,) = (one["cell"] for one in results if one["method"] == "activation_patching")
    report = shown(harness, cell[:10])
    (one,) = report["circuits"]
    (truth,) = Path("results/models/truths").glob("*/truth.safetensors")
    assert (report["known"]["size"], report["total"]) == (8, 32)  # as published
    assert one["known"] == {"kept": 8, "missing": [], "n_missing": 0}
    shutil.rmtree(truth.parent)
    assert shown(harness, cell[:10]) == report  # verified anew


def test_circuits_of_two_graphs_have_no_difference(harness: Any) -> None:
    saved("a.json", drawn(0)[0])
    other = EdgeSpace(Graph(1, 2))
    save_circuit(Circuit(other, torch.ones(len(other), dtype=torch.bool)), Path("b.json"))
    for arguments in (("a.json", "b.json"), ("a.json", "--known", "b.json")):
        refused = harness("circuit", *arguments, code=2).stderr
        assert "a.json and b.json are circuits of different spaces" in refused
    assert "one circuit is shown, or two" in harness("circuit", *["a.json"] * 3, code=2).stderr


@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_line_is_wider_than_the_window(
    harness: Any, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr("harness.cli.options.window", lambda: width)
    space = EdgeSpace(Graph(3, 40))
    kept = torch.ones(len(space), dtype=torch.bool)
    save_circuit(Circuit(space, kept, torch.rand(len(space))), Path("wide.safetensors"))
    save_circuit(Circuit(space, ~kept, None), Path("none.safetensors"))
    text = harness("circuit", "wide.safetensors", "none.safetensors").stdout
    assert max(map(cells, text.splitlines())) <= width
    assert "h39" in text


def test_control_characters_do_not_reach_the_terminal(harness: Any) -> None:
    saved("odd.safetensors", *drawn(0), task="a\x1b[2J")
    text = harness("circuit", "odd.safetensors").stdout
    assert "\x1b" not in text
    assert "\\x1b" in text


def test_components_without_a_layer_stand_last() -> None:
    layers = layers_of({"m1": True, "site": True, "a0.h0": False, "a0.h1": True, "other": False})
    assert [one["layer"] for one in layers] == [0, 1, None]
    assert layers[0] == {"layer": 0, "heads": ["h1"], "heads_total": 2, "others": []}
    assert layers[1]["others"] == ["MLP"]
    assert layers[2]["others"] == ["site"]
    whole = layers_of({"a0": True, "m0": True, "a1": False})
    assert [one["others"] for one in whole] == [["attention", "MLP"], []]


@pytest.mark.parametrize("way", [["two.safetensors"], ["--diff", "two.safetensors"]])
def test_a_difference_is_printed_and_drawn(harness: Any, way: list[str]) -> None:
    for name, seed in (("one", 0), ("two", 1)):
        saved(f"{name}.safetensors", *drawn(seed))
    shown(harness, "one.safetensors", *way, "--draw", "d.svg")
    assert "only in the other" in Path("d.svg").read_text()
    assert shown(harness, "one.safetensors", *way)["difference"]["both"] > 0


@pytest.mark.parametrize("ending", [".dot", ".graphml", ".json"])
def test_graphs_for_other_tools(harness: Any, ending: str) -> None:
    saved("one.safetensors", *drawn(0))
    harness("circuit", "one.safetensors", "--export", f"c{ending}", "--draw", "c.svg")
    assert "input" in Path(f"c{ending}").read_text()
    assert Path("c.svg").read_text().startswith("<svg")


def test_endings_that_are_no_form(harness: Any) -> None:
    saved("one.safetensors", *drawn(0))
    for option in ("--draw", "--export"):
        result = harness("circuit", "one.safetensors", option, "c.docx", code=2)
        assert "c.docx" in result.stderr
