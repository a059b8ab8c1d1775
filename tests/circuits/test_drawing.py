"""Pictures and exports of circuits, read back by other people's readers; names are text."""

from __future__ import annotations

import json
import re
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
from harness.circuits.drawing.draw import draw
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
