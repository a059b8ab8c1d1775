"""The EAP-IG / MIB forms of a circuit of edges: `importances.json` and `importances.pt`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.circuits.circuit import Circuit
from harness.circuits.edges.flow import touched_nodes
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.rows import check_scores, check_shape, filled
from harness.circuits.untrusted import check_graph_size, read_graph
from harness.errors import HarnessError


def edges_of(circuit: Circuit) -> EdgeSpace:
    """The circuit's space of edges. Raises `HarnessError` if it is made of anything else."""
    if not isinstance(circuit.space, EdgeSpace):
        raise HarnessError(
            f"the MIB form knows edges alone; this circuit is made of {circuit.space.unit}: save "
            "it as .json or .safetensors of this harness instead"
        )
    return circuit.space


def mib_config(circuit: Circuit) -> dict[str, Any]:
    """The `cfg` of a file. Raises `HarnessError` for a circuit that the form cannot say."""
    graph = edges_of(circuit).graph
    if graph.positions is not None:
        raise HarnessError(
            "the MIB form knows edges that all token positions share; this circuit has edges of "
            f"its own at each of {graph.n_places} positions (`positions: per_token`); save "
            "it as .json or .safetensors of this harness instead"
        )
    if not graph.mlps:
        raise HarnessError(
            "the MIB form has an MLP in every layer, and this circuit's model is attention alone; "
            "save it as .json or .safetensors of this harness instead"
        )
    if graph.inputs != "token" or graph.n_groups is not None:
        raise HarnessError(
            "the MIB form knows one writer 'input', the token embedding, and keys and values of "
            f"each head; this circuit's graph has inputs {graph.inputs!r}"
            + (f" and {graph.n_groups} key/value groups" if graph.n_groups else "")
            + "; save it as .json or .safetensors of this harness instead, or find it with "
            "`inputs: token` and `key_value_edges: per_head`"
        )
    return {
        "n_layers": graph.n_layers,
        "n_heads": graph.n_heads,
        "parallel_attn_mlp": graph.parallel,
        "d_model": circuit.d_model,
    }


def _space(config: dict[str, Any]) -> EdgeSpace:
    keys = {"n_layers": "n_layers", "n_heads": "n_heads", "parallel": "parallel_attn_mlp"}
    graph = read_graph({ours: config[theirs] for ours, theirs in keys.items()})
    check_graph_size(graph)
    return EdgeSpace(graph)


def to_mib(circuit: Circuit) -> dict[str, Any]:
    """`importances.json`: every edge has `score` and `in_graph`; without scores, 1 or 0."""
    config, space = mib_config(circuit), edges_of(circuit)
    scores = (circuit.kept.float() if circuit.scores is None else circuit.scores).tolist()
    kept = circuit.kept.tolist()
    touched = touched_nodes(space.matrix(circuit.kept), space.graph).tolist()
    nodes = zip((*space.graph.writers, "logits"), touched, strict=True)
    return {
        "cfg": config,
        "nodes": {name: {"in_graph": inside} for name, inside in nodes},
        "edges": {
            space.name(edge): {"score": scores[edge], "in_graph": kept[edge]}
            for edge in space.listing()
        },
    }


def from_mib(data: dict[str, Any]) -> Circuit:
    """Read `importances.json`; edges it leaves out have score 0 and are not kept."""
    space = _space(_mapping("cfg", data["cfg"]))
    edges = _mapping("edges", data["edges"])
    rows = [(name, edge["score"], edge["in_graph"]) for name, edge in edges.items()]
    for name, score, _ in rows:
        if score is None:
            raise HarnessError(f"the score of {name} is null")
    kept, scores = filled(space, rows)
    return Circuit(space, kept, scores, data["cfg"]["d_model"], {"format": "mib"})


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise HarnessError(f"{name} is not a mapping")
    return value


def to_mib_tensors(circuit: Circuit) -> dict[str, Any]:
    """The dictionary of `importances.pt`."""
    config, space = mib_config(circuit), edges_of(circuit)
    scores = circuit.kept.float() if circuit.scores is None else circuit.scores.float()
    kept = space.matrix(circuit.kept)
    return {
        "cfg": config,
        "src_nodes": list(space.graph.writers),
        "dst_nodes": list(space.graph.readers),
        "edges_scores": space.matrix(scores),
        "edges_in_graph": kept,
        "nodes_in_graph": touched_nodes(kept, space.graph)[:-1],
    }


def _matrix(data: dict[str, Any], name: str, graph: Graph) -> Tensor:
    values = data[name]
    if not isinstance(values, Tensor) or values.layout != torch.strided:
        raise HarnessError(f"{name} is not a dense tensor")
    check_shape(name, values, tuple(graph.allowed.shape))
    return values


def from_mib_tensors(data: dict[str, Any]) -> Circuit:
    """Read the dictionary of `importances.pt`.

    Edges that the model cannot have are dropped: node-level files mark whole rows.
    """
    space = _space(_mapping("cfg", data["cfg"]))
    graph = space.graph
    for name, wanted in (("src_nodes", graph.writers), ("dst_nodes", graph.readers)):
        if tuple(data[name]) != wanted:
            raise HarnessError(f"{name} are not the nodes of its cfg, in their order")
    kept, scores = (_matrix(data, name, graph) for name in ("edges_in_graph", "edges_scores"))
    flat = check_scores("edges_scores", space.flat(scores.float()))
    kept = kept.bool()
    return Circuit(space, space.flat(kept), flat, data["cfg"]["d_model"], {"format": "mib"})
