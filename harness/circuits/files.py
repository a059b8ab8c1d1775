"""Circuits as files: our JSON and safetensors, and the EAP-IG / MIB JSON and pt forms.

    *.safetensors   ours: `kept`, `scores`, one metadata entry; lossless
    *.json          ours, or EAP-IG/MIB's `importances.json`, told apart when read
    *.json.gz       either, compressed
    *.pt            EAP-IG/MIB's `importances.pt`; read with `weights_only=True`

Everything a foreign file says is checked against the graph it declares: an unknown edge, a
missing field or a score that is no number is an error, not a silent zero.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from harness.circuits.circuit import Circuit
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.positions import Positions
from harness.errors import HarnessError

OUR_FORMAT = "circuit-harness/circuit/1"
GRANULARITY = "edge"

# What reading something that is no circuit raises; a missing key is reported on its own.
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,
    RecursionError,
    SafetensorError,
    zlib.error,
)


def save_circuit(circuit: Circuit, path: Path, *, mib: bool = False) -> None:
    """Write by suffix; `mib` chooses the EAP-IG/MIB form of JSON (pt always is)."""
    if path.suffix == ".safetensors":
        path.write_bytes(to_safetensors(circuit))
    elif path.suffix == ".pt":
        torch.save(to_mib_tensors(circuit), path)
    elif path.name.endswith((".json", ".json.gz")):
        text = json.dumps(to_mib(circuit) if mib else to_json(circuit), allow_nan=False)
        data = text.encode()
        path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    else:
        raise _unknown_suffix(path)


def load_circuit(path: Path) -> Circuit:
    """Read any of the forms above. Raises `HarnessError` that names the file and the fault."""
    try:
        if path.suffix == ".safetensors":
            return _load_safetensors(path)
        if path.suffix == ".pt":
            return from_mib_tensors(_load_pt(path))
        if path.name.endswith((".json", ".json.gz")):
            raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            data = json.loads(raw)
            read: Callable[[Any], Circuit] = from_mib if "cfg" in data else from_json
            return read(data)
    except HarnessError as error:
        raise HarnessError(f"{path}: {error}") from error
    except KeyError as error:
        raise HarnessError(f"{path}: not a circuit: {error} is missing") from error
    except _UNREADABLE as error:
        raise HarnessError(f"{path}: cannot be read as a circuit: {error}") from error
    raise _unknown_suffix(path)


def _load_pt(path: Path) -> dict[str, Any]:
    try:
        data: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # the unpickler raises anything at all on a broken file
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise HarnessError(f"not a file of tensors: {first}") from error
    return data


def _unknown_suffix(path: Path) -> HarnessError:
    return HarnessError(f"{path}: circuits are .safetensors, .json, .json.gz or .pt files")


# ---------------------------------------------------------------- ours
def to_json(circuit: Circuit) -> dict[str, Any]:
    """Every scored or kept edge as [name, score or null, kept]."""
    scores = None if circuit.scores is None else circuit.scores.numpy()
    kept = circuit.kept.numpy()
    edges = []
    for edge in circuit.graph.edges():
        score = None if scores is None else float(scores[edge])
        if kept[edge] or score is not None:
            edges.append([circuit.graph.edge_name(*edge), score, bool(kept[edge])])
    return {"format": OUR_FORMAT, **_header(circuit), "edges": edges}


def from_json(data: dict[str, Any]) -> Circuit:
    """Inverse of `to_json`."""
    _check_header(data)
    rows = [(name, score, kept) for name, score, kept in data["edges"]]
    scored = any(score is not None for _, score, _ in rows)
    graph = graph_of(data["graph"])
    kept, scores = _fill(graph, rows)
    return Circuit(graph, kept, scores if scored else None, data["d_model"], data["source"])


def _header(circuit: Circuit) -> dict[str, Any]:
    return {
        "granularity": GRANULARITY,
        "graph": graph_fields(circuit.graph),
        "d_model": circuit.d_model,
        "source": dict(circuit.source),
    }


def graph_fields(graph: Graph) -> dict[str, Any]:
    """The graph as plain data; files of shared edges do not speak of positions."""
    fields = asdict(graph)
    if graph.positions is None:
        del fields["positions"]
    return fields


def graph_of(fields: dict[str, Any]) -> Graph:
    """Inverse of `graph_fields`."""
    positions = fields.get("positions")
    if positions is None:
        return Graph(**fields)
    read = tuple(positions["read"])
    return Graph(**{**fields, "positions": Positions(**{**positions, "read": read})})


def _check_header(header: dict[str, Any]) -> None:
    for name, known in (("format", OUR_FORMAT), ("granularity", GRANULARITY)):
        if header[name] != known:
            raise HarnessError(f"{name} is {header[name]!r}, this version reads {known!r}")


def to_safetensors(circuit: Circuit) -> bytes:
    """The bytes of our safetensors form; equal circuits give equal bytes."""
    tensors = {"kept": circuit.kept.to(torch.uint8).contiguous()}
    if circuit.scores is not None:
        tensors["scores"] = circuit.scores.contiguous()
    note = json.dumps({"format": OUR_FORMAT, **_header(circuit)}, sort_keys=True)
    data: bytes = save(tensors, metadata={"circuit": note})  # one key keeps the bytes stable
    return data


def _load_safetensors(path: Path) -> Circuit:
    with safe_open(path, framework="pt") as file:
        header = json.loads((file.metadata() or {})["circuit"])
        kept = torch.as_tensor(file.get_tensor("kept")).bool()
        scores = torch.as_tensor(file.get_tensor("scores")) if "scores" in file.keys() else None  # noqa: SIM118
    _check_header(header)
    graph = graph_of(header["graph"])
    _check_shape(graph, "kept", kept)
    if scores is not None:
        _check_shape(graph, "scores", scores)
    return Circuit(graph, kept, scores, header["d_model"], header["source"])


# ---------------------------------------------------------------- EAP-IG / MIB
def mib_config(circuit: Circuit) -> dict[str, Any]:
    """The `cfg` of a file. Raises `HarnessError` for a graph that the form cannot say."""
    if circuit.graph.positions is not None:
        raise HarnessError(
            "the MIB form knows edges that all token positions share; this circuit has edges of "
            f"its own at each of {circuit.graph.n_places} positions (`positions: per_token`); save "
            "it as .json or .safetensors of this harness instead"
        )
    if circuit.graph.inputs != "token" or circuit.graph.n_groups is not None:
        raise HarnessError(
            "the MIB form knows one writer 'input', the token embedding, and keys and values of "
            f"each head; this circuit's graph has inputs {circuit.graph.inputs!r}"
            + (f" and {circuit.graph.n_groups} key/value groups" if circuit.graph.n_groups else "")
            + "; save it as .json or .safetensors of this harness instead"
        )
    return {
        "n_layers": circuit.graph.n_layers,
        "n_heads": circuit.graph.n_heads,
        "parallel_attn_mlp": circuit.graph.parallel,
        "d_model": circuit.d_model,
    }


def _graph(config: dict[str, Any]) -> Graph:
    return Graph(config["n_layers"], config["n_heads"], bool(config["parallel_attn_mlp"]))


def to_mib(circuit: Circuit) -> dict[str, Any]:
    """`importances.json`: every edge has `score` and `in_graph`; without scores, 1 or 0."""
    scores = (circuit.kept.float() if circuit.scores is None else circuit.scores).tolist()
    kept = circuit.kept.tolist()
    return {
        "cfg": mib_config(circuit),
        "nodes": {name: {"in_graph": inside} for name, inside in circuit.nodes().items()},
        "edges": {
            circuit.graph.edge_name(row, column): {
                "score": scores[row][column],
                "in_graph": kept[row][column],
            }
            for row, column in circuit.graph.edges()
        },
    }


def from_mib(data: dict[str, Any]) -> Circuit:
    """Read `importances.json`; edges it leaves out have score 0 and are not kept."""
    graph = _graph(data["cfg"])
    rows = [(name, edge["score"], edge["in_graph"]) for name, edge in data["edges"].items()]
    for name, score, _ in rows:
        if score is None:
            raise HarnessError(f"the score of {name} is null")
    kept, scores = _fill(graph, rows)
    return Circuit(graph, kept, scores, data["cfg"]["d_model"], {"format": "mib"})


def to_mib_tensors(circuit: Circuit) -> dict[str, Any]:
    """The dictionary of `importances.pt`."""
    graph = circuit.graph
    nodes = list(circuit.nodes().values())
    scores = circuit.kept.float() if circuit.scores is None else circuit.scores.float()
    return {
        "cfg": mib_config(circuit),
        "src_nodes": list(graph.writers),
        "dst_nodes": list(graph.readers),
        "edges_scores": scores.masked_fill(~graph.allowed, 0.0),
        "edges_in_graph": circuit.kept & graph.allowed,
        "nodes_in_graph": torch.tensor(nodes[:-1]),
    }


def from_mib_tensors(data: dict[str, Any]) -> Circuit:
    """Read the dictionary of `importances.pt`.

    Edges that the model cannot have are dropped: node-level files mark whole rows.
    """
    graph = _graph(data["cfg"])
    for name, wanted in (("src_nodes", graph.writers), ("dst_nodes", graph.readers)):
        if tuple(data[name]) != wanted:
            raise HarnessError(f"{name} are not the nodes of its cfg, in their order")
    kept, scores = data["edges_in_graph"].bool(), data["edges_scores"].float()
    _check_shape(graph, "edges_in_graph", kept)
    _check_shape(graph, "edges_scores", scores)
    scores = scores.masked_fill(~graph.allowed, 0.0)
    if not torch.isfinite(scores).all():
        raise HarnessError("edges_scores hold values that are not numbers")
    return Circuit(graph, kept & graph.allowed, scores, data["cfg"]["d_model"], {"format": "mib"})


def _fill(graph: Graph, rows: list[tuple[str, float | None, bool]]) -> tuple[Tensor, Tensor]:
    """Matrices `kept` and `scores` from named edges."""
    kept = np.zeros(graph.allowed.shape, np.bool_)
    scores = np.zeros(graph.allowed.shape, np.float32)
    for name, score, inside in rows:
        edge = graph.edge_index(name)
        if score is not None and not math.isfinite(score):
            raise HarnessError(f"the score of {name} is {score}, not a number")
        if not isinstance(inside, bool):
            raise HarnessError(f"{name} must be in the graph or not, not {inside!r}")
        kept[edge], scores[edge] = inside, score or 0.0
    return torch.from_numpy(kept), torch.from_numpy(scores)


def _check_shape(graph: Graph, name: str, values: Tensor) -> None:
    wanted = tuple(graph.allowed.shape)
    if tuple(values.shape) != wanted:
        raise HarnessError(f"{name} has shape {tuple(values.shape)}, the graph needs {wanted}")
