"""Many circuits of one graph in one small file: one bit per edge and circuit.

A safetensors file with `kept` uint8 [K, ⌈edges/8⌉], the bits of allowed edges by row, then column
(by position before these where each has its own), and one metadata entry. GPT-2's 32,491 edges are
4 KiB per circuit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save
from torch import Tensor

from harness.circuits.edges.graph import Graph
from harness.circuits.files import graph_fields, graph_of
from harness.errors import HarnessError

FORMAT = "circuit-harness/circuits/1"


def pack(circuits: Sequence[Tensor], graph: Graph) -> bytes:
    """The bytes of a file with circuits (bool like the graph's); equal circuits, equal bytes."""
    bits = torch.stack([kept.cpu()[graph.allowed] for kept in circuits]).numpy()
    note = json.dumps({"format": FORMAT, "graph": graph_fields(graph)}, sort_keys=True)
    data: bytes = save({"kept": np.packbits(bits, axis=1)}, metadata={"circuits": note})
    return data


def unpack(path: Path) -> tuple[Graph, list[Tensor]]:
    """The graph and the circuits of a file. Raises `HarnessError` for a file of another form."""
    with safe_open(path, framework="numpy") as file:
        note = json.loads((file.metadata() or {}).get("circuits", "{}"))
        packed = file.get_tensor("kept")
    if note.get("format") != FORMAT:
        known = f"this version reads {FORMAT!r}"
        raise HarnessError(f"{path}: not circuits; its form is {note.get('format')!r}, {known}")
    graph = graph_of(note["graph"])
    found = []
    for row in np.unpackbits(packed, axis=1, count=graph.n_edges).astype(bool):
        kept = torch.zeros_like(graph.allowed)
        kept[graph.allowed] = torch.from_numpy(row)
        found.append(kept)
    return graph, found
