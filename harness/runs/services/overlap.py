"""Overlap of circuits as plain JSON data: with other circuits, within and between groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from math import isfinite
from typing import Any

from harness.circuits.circuit import Circuit
from harness.evaluation.overlap import (
    components,
    element_between,
    element_consistency,
    element_overlap,
    node_between,
    node_consistency,
    node_overlap,
)
from harness.runs.services.lookup import NamedCircuit


def overlap_with(named: NamedCircuit, others: Sequence[NamedCircuit]) -> dict[str, Any] | None:
    """Overlap with each other circuit, and pairwise consistency of all; None without others."""
    if not others:
        return None
    circuits = [named.circuit, *(other.circuit for other in others)]
    return {
        "with": [
            {
                "name": other.name,
                "elements": _plain(element_overlap(named.circuit, other.circuit)),
                "nodes": _plain(node_overlap(named.circuit, other.circuit)),
            }
            for other in others
        ],
        "consistency": _plain(element_consistency(circuits)),
    }


def overlap_of(groups: Mapping[str, Sequence[NamedCircuit]]) -> dict[str, Any]:
    """Circuits of each group, consistency within those of several, and overlap between groups.

    Where every group is one circuit, `together` is the consistency of all of them; else their mean
    would mix two things, and it is null. Raises `HarnessError` if their spaces differ.
    """
    circuits = {name: [one.circuit for one in group] for name, group in groups.items()}
    single = all(len(group) == 1 for group in circuits.values())
    return {
        "schema_version": 2,
        "unit": next(iter(circuits.values()))[0].space.unit,
        "groups": [
            {
                "name": name,
                "circuits": [_described(one) for one in group],
                **_consistency(circuits[name]),
            }
            for name, group in groups.items()
        ],
        "together": _consistency([group[0] for group in circuits.values()] if single else []),
        "between": [
            {
                "a": a,
                "b": b,
                "elements": _plain(element_between(circuits[a], circuits[b])),
                "nodes": _plain(node_between(circuits[a], circuits[b])),
            }
            for a, b in combinations(circuits, 2)
        ],
    }


def _described(named: NamedCircuit) -> dict[str, Any]:
    circuit = named.circuit
    return {
        "name": named.name,
        "source": dict(circuit.source),
        "seed": None if named.entry is None else named.entry.seed,
        "size": circuit.size,
        "total": len(circuit.space),
        "nodes": int(components(circuit).sum()),
    }


def _consistency(circuits: Sequence[Circuit]) -> dict[str, Any]:
    if len(circuits) < 2:
        return {"elements": None, "nodes": None}
    return {
        "elements": _plain(element_consistency(circuits)),
        "nodes": _plain(node_consistency(circuits)),
    }


def _plain(statistics: Any) -> dict[str, Any]:
    """A dataclass as JSON data; undefined values are null."""
    return {
        name: None if isinstance(value, float) and not isfinite(value) else value
        for name, value in asdict(statistics).items()
    }
