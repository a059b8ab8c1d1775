"""Circuits of a finished cell: the one stored with its scores, or that of a measured size.

`circuit.safetensors` holds the smallest measured circuit that is faithful, and the scores that
circuits of its size are cut from. Not every method cuts all sizes from one ranking: learned masks
have one for each target, a search settles on circuits. `circuits.safetensors` holds the circuit of
every size of the curve, as it was measured. In `source` of the former, `cut_from` says what its
size is cut from (`scores`: all sizes are), and `scores` whether they are sums
(`Discovery.additive`) or ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isclose
from typing import Any

from harness.circuits.circuit import Circuit
from harness.circuits.files import load_circuit
from harness.circuits.packed import unpack
from harness.errors import HarnessError, StoreCorrupt
from harness.runs.store import CellStore

NODES, NODES_VERSION = "nodes.json", 1

ADDITIVE, RANKS = "additive", "ranks"
"""What `source["scores"]` of a stored circuit says."""


def stored_circuit(store: CellStore, cell_id: str, size: float | None = None) -> Circuit:
    """A finished cell's stored circuit, or without scores the one measured at a share of elements.

    Raises `HarnessError` if no circuit was measured at `size`, `StoreCorrupt` for a broken file.
    """
    if size is None:
        return circuit_with_nodes(store, cell_id)[0]
    circuit = load_circuit(store.artifact(cell_id, "circuit.safetensors"))
    result = store.result(cell_id)
    shares = [point["size_requested"] for point in result["curve"]]
    place = next((i for i, share in enumerate(shares) if isclose(share, size, rel_tol=1e-4)), None)
    if place is None:
        raise HarnessError(
            f"cell {cell_id[:12]} has no circuit of size {size:g}; its sizes, in shares of all "
            f"{result['unit']}, are {', '.join(f'{share:g}' for share in shares)}"
        )
    if "circuits.safetensors" not in result["artifacts"]:
        raise HarnessError(
            f"cell {cell_id[:12]} was computed before circuits of every size were stored; delete "
            "its folder and run again, or leave out the size"
        )
    _, kept = unpack(store.artifact(cell_id, "circuits.safetensors"))
    measured = {} if circuit.baseline is None else values_of(result["curve"][place])
    return replace(circuit, kept=kept[place], scores=None, measured=measured)


def nodes_stored(store: CellStore, cell_id: str) -> dict[str, Any] | None:
    """What is stored of the nodes of a finished cell's circuit (`harness.runs.nodes.file`).

    None for cells computed before it was. Raises `StoreCorrupt` for a broken file.
    """
    folder = store.read(cell_id)
    if NODES not in folder.digests:
        return None
    content: dict[str, Any] = folder.json(NODES)
    if (version := content.get("schema_version")) != NODES_VERSION:
        raise StoreCorrupt(
            f"{folder.folder / NODES} has version {version!r}, and this program reads "
            f"{NODES_VERSION}"
        )
    return content


def circuit_with_nodes(store: CellStore, cell_id: str) -> tuple[Circuit, dict[str, Any] | None]:
    """The stored circuit, and what is stored of its nodes (`nodes_stored`), each read once."""
    circuit = load_circuit(store.artifact(cell_id, "circuit.safetensors"))
    nodes = nodes_stored(store, cell_id)
    return _with_ties(circuit, nodes), nodes


def _with_ties(circuit: Circuit, stored: Mapping[str, Any] | None) -> Circuit:
    """The circuit with the weights between its channels, for drawings."""
    ties = (stored and stored["ties"]) or ()
    return replace(circuit, ties={(source, target): weight for source, target, weight in ties})


def values_of(point: Mapping[str, Any]) -> dict[str, float]:
    """The estimates of a point, without their intervals."""
    estimates = {name: one for name, one in point.items() if isinstance(one, dict) and "se" in one}
    return {n: float(one["value"]) for n, one in estimates.items() if one["value"] is not None}
