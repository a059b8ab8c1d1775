"""Circuit files of other people: bounded before they are expanded, parsed, or believed."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.circuits.edges.graph import Graph
from harness.errors import HarnessError
from harness.spec.build import build
from harness.spec.yaml.strict_json import read_json

if TYPE_CHECKING:
    from harness.circuits.circuit import Circuit

MOST_BYTES = 1 << 28
"""Of JSON, once expanded."""
MOST_VALUES = 8_000_000
"""Values of a JSON text: commas, and brackets that open. An edge in MIB's form has three."""
MOST_TENSOR_BYTES = 1 << 29
"""Of all parts of a `.pt` file, once expanded."""
MOST_CELLS = 40_000_000
"""Writers × readers × positions of a graph whose edges a file need not list.

Llama 3 of 70B has 34 million with `positions: all`.
"""
_WIDEST_MODEL = 1 << 31


def read_circuit_json(path: Path) -> dict[str, Any]:
    """The object in a `.json` or `.json.gz` file.

    Raises `HarnessError` if it is too large, `ValueError` if it is no JSON, and what reading a
    broken gzip file raises.
    """
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise HarnessError(f"holds more than {MOST_BYTES >> 20} MiB of JSON; use .safetensors")
    values = sum(raw.count(one) for one in (b",", b"[", b"{"))
    if values > MOST_VALUES:
        raise HarnessError(f"holds more than {MOST_VALUES:,} values of JSON; use .safetensors")
    data = read_json(raw)
    if not isinstance(data, dict):
        raise HarnessError("not a circuit: its JSON is no object")
    return data


def check_expansion(path: Path) -> None:
    """Refuse a `.pt` file (`HarnessError`) whose parts expand to more than is read."""
    if not zipfile.is_zipfile(path):
        return  # the old form, which has no compressed parts
    with zipfile.ZipFile(path) as parts:
        size = sum(part.file_size for part in parts.infolist())
    if size > MOST_TENSOR_BYTES:
        raise HarnessError(f"holds more than {MOST_TENSOR_BYTES >> 20} MiB of tensors")


def check_notes(circuit: Circuit) -> Circuit:
    """The circuit, whose `d_model` and `source` come from a file. Raises `HarnessError`."""
    width, source = circuit.d_model, circuit.source
    if not isinstance(width, int) or isinstance(width, bool) or not 0 <= width < _WIDEST_MODEL:
        raise HarnessError(f"d_model is {width!r}, not a whole number from 0")
    if not isinstance(source, dict) or not all(isinstance(one, str) for one in source.values()):
        raise HarnessError("source is not a mapping of texts")
    return circuit


# ---------------------------------------------------------------- the graph of a file
def read_graph(header: Mapping[str, Any]) -> Graph:
    """The graph of plain data. Raises `HarnessError`, or `TypeError` naming fields that misfit."""
    graph = build(Graph, header)
    counts = {"n_layers": graph.n_layers, "n_heads": graph.n_heads, "n_groups": graph.n_groups}
    if graph.positions is not None:
        counts["positions.count"] = graph.positions.count
    for name, count in counts.items():
        if count is not None and count < 1:
            raise HarnessError(f"{name} is {count}, not at least 1")
    if graph.n_heads % graph.groups:
        raise HarnessError(f"n_groups = {graph.n_groups} does not divide n_heads = {graph.n_heads}")
    read = () if graph.positions is None else graph.positions.read
    if outside := [one for one in read if not 0 <= one < graph.n_places]:
        raise HarnessError(f"positions.read has {outside[0]}, and there are {graph.n_places}")
    return graph


def check_graph_size(graph: Graph, held: int = 0) -> None:
    """Refuse a graph (`HarnessError`) far larger than the `held` values that its file has."""
    cells = graph.n_writers * graph.n_readers * graph.n_places
    if cells > max(MOST_CELLS, 4 * held):
        raise HarnessError(
            f"a graph of {graph.n_layers:,} layers with {graph.n_heads:,} heads"
            + (f" at {graph.n_places:,} positions" if graph.positions else "")
            + f" is too large to be read from this form ({cells:,} pairs of nodes, at most "
            f"{MOST_CELLS:,}); is the file damaged?"
        )
