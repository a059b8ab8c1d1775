"""Pictures and exports of circuits, read back by other people's readers; names are text."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import networkx
import pytest
import torch
from support.channels import gated, random_kept, thinned
from support.slow_reference import small_model
from support.stored_pages import circuit_of

from harness.circuits.circuit import Circuit
from harness.circuits.drawing.difference import difference
from harness.circuits.drawing.draw import draw
from harness.circuits.drawing.layout import drawing
from harness.circuits.drawing.palette import MISSED, TRUE, UNTRUE
from harness.circuits.gates.space import GatedSpace
from harness.circuits.gates.whiteboard import draw_circuit, ties_of
from harness.circuits.graphs.network import network
from harness.circuits.graphs.text import dot, graphml
from harness.circuits.space import NamedElements
from harness.errors import HarnessError
from harness.reports.exports.circuit_tracer import circuit_document

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "</svg><script>alert(1)</script>\"'&\x1b[31m\u202e\ufffe\\"


def channels() -> Circuit:
    patchable = gated(thinned(small_model("gpt2-like"), 0.3))
    kept = random_kept(patchable.space, 0.3)
    return Circuit(patchable.space, kept, None, 8, {"task": "toy"})


def evil() -> Circuit:
    space = NamedElements("node", "nodes", (EVIL, "m0.post.1", "m0.post.2"))
    kept = torch.tensor([True, True, False])
    return Circuit(space, kept, torch.tensor([1.0, -2.0, 3.0]), 8, {"task": EVIL, "method": EVIL})


def tips(picture: str, tag: str) -> list[str]:
    root = ElementTree.fromstring(picture)
    return [str(one.findtext(f"{SVG}title")) for one in root.iter(f"{SVG}{tag}")]


def test_a_picture_has_every_kept_edge_and_the_sign_of_its_score() -> None:
    circuit = circuit_of()
    assert circuit.scores is not None
    picture = draw(circuit)
    curves = tips(picture, "path")
    names = [one.rpartition(" ")[0] for one in curves]
    assert sorted(names) == sorted(circuit.elements())
    dashed = ["dasharray" in line for line in picture.splitlines() if line.startswith("<path")]
    for one, dashes in zip(curves, dashed, strict=True):
        name, _, score = one.rpartition(" ")
        assert float(score) == pytest.approx(
            float(circuit.scores[circuit.space.index(name)]), rel=1e-3
        )
        assert dashes == (float(score) < 0)


def test_a_difference_says_whose_each_element_is() -> None:
    one, other = circuit_of(0), circuit_of(1, scored=False)
    picture = draw(one, other)
    strokes = re.findall(r'<path .*?stroke="(.*?)".*?<title>(.*?)</title>', picture)
    sides: dict[str, set[str]] = {}
    for colour, name in strokes:
        sides.setdefault(colour, set()).add(name.replace("&gt;", ">").replace("&lt;", "<"))
    a, b = set(one.elements()), set(other.elements())
    assert sorted(map(sorted, sides.values())) == sorted(map(sorted, (a & b, a - b, b - a)))


def test_no_difference_of_other_spaces() -> None:
    with pytest.raises(HarnessError, match="different spaces"):
        circuit_of().draw(channels())


# ---------------------------------------------------------------- channels
def wired() -> tuple[Circuit, dict[tuple[str, str], float | None]]:
    """Channels of a model of few weights, and these weights, read off its matrices one by one."""
    model = thinned(small_model("gpt2-like"), 0.3)
    space = gated(model).space
    circuit = Circuit(space, random_kept(space, 0.3), None, 8)
    weights: dict[tuple[str, str], float | None] = {}
    names = list(circuit.elements())
    width = model.config.d_model
    for layer, block in enumerate(model.blocks):
        a, m = f"a{layer}", f"m{layer}"
        read = dict(zip("qkv", block.qkv_map.weight.split(width), strict=True))
        matrices = {(f"{a}.in", f"{a}.{one}"): weight for one, weight in read.items()} | {
            (f"{a}.v", f"{a}.out"): block.out_map.weight,
            (f"{m}.in", f"{m}.hidden"): block.mlp_in.weight,
            (f"{m}.hidden", f"{m}.out"): block.mlp_out.weight,
        }
        for (source, target), matrix in matrices.items():
            for row, values in enumerate(matrix.tolist()):
                for column, value in enumerate(values):
                    ends = f"{source}.{column}", f"{target}.{row}"
                    if value and set(ends) <= set(names):
                        weights[ends] = value
    order = [gates.name for gates in space.gates]
    for writer in names:
        for reader in names:
            (site, one), (other, two) = (name.rsplit(".", 1) for name in (writer, reader))
            later = order.index(other) > order.index(site)
            hears = other.endswith(".in") or other == "final"
            if one == two and site.endswith(".out") and hears and later:
                weights[writer, reader] = None
    return circuit, weights


def test_channels_are_drawn_with_the_weights_between_them() -> None:
    circuit, weights = wired()
    ties = ties_of(
        draw_circuit(thinned(small_model("gpt2-like"), 0.3), circuit.space, circuit.kept)
    )
    assert ties == weights
    drawn = drawing(replace(circuit, ties=ties))
    assert {(one.source, one.target): one.weight for one in drawn.ties} == weights
    nodes = {node.name: node for node in drawn.nodes}
    assert set(nodes) == set(circuit.elements())
    strengths = sorted((abs(one.weight), one.width) for one in drawn.ties if one.weight is not None)
    assert [width for _, width in strengths] == sorted(width for _, width in strengths)
    for one in drawn.ties:
        assert (one.kind == "stream") == (one.weight is None)
        x, y, *_, to_x, to_y = (float(number) for number in re.findall(r"[\d.]+", one.path))
        source, target = nodes[one.source], nodes[one.target]
        assert y == source.y >= to_y - 1e-6
        assert to_y == target.y + 22
        assert source.x < x < source.x + source.width
        assert target.x < to_x < target.x + target.width
    for one, other in combinations(drawn.nodes, 2):  # nothing lies on anything else
        apart = abs(one.y - other.y) >= 22 or abs(one.x - other.x) >= min(one.width, other.width)
        assert apart, (one.name, other.name)
    picture = draw(replace(circuit, ties=ties))
    dashed = [line for line in picture.splitlines() if 'dasharray="7 3"' in line]
    assert len(dashed) == sum(weight is not None and weight < 0 for weight in weights.values())


def test_rows_of_channels_follow_the_computation() -> None:
    circuit, _ = wired()
    drawn = drawing(circuit)
    height = {node.name.rpartition(".")[0]: node.y for node in drawn.nodes}
    assert isinstance(circuit.space, GatedSpace)
    sites = [gates.name for gates in circuit.space.gates if gates.name in height]
    heads = [{"q": "k", "v": "k"}.get(site[-1], site[-1]) + site[:-1] for site in sites]
    for (one, a), (other, b) in pairwise(zip(sites, heads, strict=True)):
        assert height[one] > height[other] or a == b
    assert len(drawn.rows) == len(set(heads))


def test_channels_of_a_file_are_drawn_with_weights_of_unknown_size(tmp_path: Path) -> None:
    circuit, weights = wired()
    circuit.save(tmp_path / "c.safetensors")
    drawn = drawing(Circuit.load(tmp_path / "c.safetensors"))
    assert {one.kind for one in drawn.ties} == {"unknown"}
    ends = {(one.source, one.target) for one in drawn.ties}
    assert ends == {ends for ends, weight in weights.items() if weight is not None}
    assert "does not come with" in draw(circuit)


def test_channels_of_two_circuits_are_told_apart() -> None:
    one, _ = wired()
    other = replace(one, kept=random_kept(one.space, 0.3, seed=1))
    drawn = difference(one, other)
    a, b = set(one.elements()), set(other.elements())
    sides = {node.name: node.element.side for node in drawn.nodes if node.element is not None}
    assert sides == {
        name: "both" if name in a & b else "one" if name in a else "other" for name in a | b
    }


# ---------------------------------------------------------------- the true circuit
@pytest.mark.parametrize("scored", [True, False])
def test_true_edges_are_told_from_others_and_missed_ones_are_drawn(scored: bool) -> None:
    circuit = circuit_of(scored=scored)
    names = [circuit.space.name(element) for element in range(len(circuit.space))]
    true = names[::5]
    kept = set(circuit.elements())
    picture = draw(circuit, true=true)
    lines = re.findall(r"<path [^>]*?stroke=\"(.*?)\"[^>]*?>", picture)
    drawn = [one.partition(" ")[0] for one in tips(picture, "path")]
    assert set(drawn) == kept | set(true)
    styles = ["1" if '"2 3"' in line else "7" if '"7 3"' in line else "" for line in
              picture.splitlines() if line.startswith("<path")]  # fmt: skip
    for name, colour, style in zip(drawn, lines, styles, strict=True):
        wanted = (TRUE, "") if name in kept else (MISSED, "7")
        assert (colour, style) == (wanted if name in true else (UNTRUE, "1"))


def test_a_picture_shows_itself_in_notebooks() -> None:
    circuit = channels()
    assert circuit.draw()._repr_svg_() == circuit._repr_html_() == draw(circuit)
    boxes = tips(draw(circuit), "rect")
    assert {name for name in boxes if name != "None"} == set(circuit.elements())


@pytest.mark.parametrize("text", [draw, graphml])
def test_names_are_text_in_xml(text: Any) -> None:
    written = text(evil())
    root = ElementTree.fromstring(written)
    assert not [one for one in root.iter() if one.tag.endswith("script")]
    attributes = [value for one in root.iter() for value in one.attrib.values()]
    assert "\\x1b[31m\\u202e" in "".join([*root.itertext(), *attributes])
    assert not {"\x1b", "\u202e", "\ufffe"} & set(written)


def read_dot(text: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Quoted names of nodes, and pairs of the ends of edges: a reader of its own."""
    quoted = r'"((?:[^"\\]|\\.)*)"'
    plain = re.sub(r"\s\[.*\];$", ";", text, flags=re.MULTILINE)
    edges = re.findall(rf"^  {quoted} -> {quoted};$", plain, re.MULTILINE)
    nodes = re.findall(rf"^  {quoted};$", plain, re.MULTILINE)
    assert len(text.splitlines()) == len(edges) + len(nodes) + 4
    return nodes, edges


@pytest.mark.parametrize("make", [circuit_of, channels])
def test_graphs_are_read_back(make: Any, tmp_path: Path) -> None:
    circuit = make()
    graph = network(circuit)
    ends = sorted((one.source, one.target) for one in graph.links)
    assert ends
    path = tmp_path / "c.graphml"
    path.write_text(circuit.to_graphml())
    back = networkx.read_graphml(path, force_multigraph=True)
    assert set(back.nodes) == {node.name for node in graph.nodes}
    assert sorted((a, b) for a, b, _ in back.edges) == ends
    scores = {data["name"]: data.get("score") for *_, data in back.edges(data=True)}
    assert scores == {one.name: one.score for one in graph.links}
    nodes, edges = read_dot(circuit.to_dot())
    assert (set(nodes), sorted(edges)) == (set(back.nodes), ends)
    document = json.loads(json.dumps(circuit_document(circuit, "toy"), allow_nan=False))
    names = {one["node_id"]: one["clerp"] for one in document["nodes"]}
    assert len(names) == len(document["nodes"]) == len(graph.nodes)
    assert sorted((names[one["source"]], names[one["target"]]) for one in document["links"]) == ends
    layers = [one["layer"] for one in document["nodes"]]
    assert {"E"} & set(layers) or make is channels
    for one in document["nodes"]:
        if match := re.match(r"([am])(\d+)", one["clerp"]):
            assert int(one["layer"]) == 2 * int(match[2]) + (match[1] == "m")


def test_channels_are_linked_by_the_weights_that_the_space_counts() -> None:
    circuit = channels()
    assert len(network(circuit).links) == circuit.space.counts(circuit.kept)["weights"]


def test_names_in_dot_end_where_they_end() -> None:
    nodes, edges = read_dot(dot(evil()))
    assert (len(nodes), edges) == (2, [])
