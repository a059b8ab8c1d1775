"""Circuits in files for people and other tools; the ending says in which form."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.circuits.circuit import Circuit
from harness.circuits.drawing.draw import draw
from harness.circuits.graphs.text import dot, graphml
from harness.errors import HarnessError
from harness.reports.exports.circuit_tracer import circuit_document
from harness.spec.printable import shown_path


def drawn(path: Path, circuits: Sequence[Circuit], true: Sequence[str] | None = None) -> str:
    """SVG of one circuit, beside the true elements if they are given, or of two in one.

    Raises `HarnessError` for another ending.
    """
    if path.suffix != ".svg":
        raise HarnessError(
            f"cannot draw {shown_path(path)}: a drawing is an .svg; "
            "`harness plot circuit` writes .png and .pdf too"
        )
    return draw(circuits[0], circuits[1] if len(circuits) > 1 else None, true=true)


def exported(path: Path, circuit: Circuit) -> str:
    """The graph of a circuit. Raises `HarnessError` for an unknown ending."""
    if path.suffix not in _FORMS:
        raise HarnessError(
            f"cannot export {shown_path(path)}: use one of {', '.join(_FORMS)} (circuit-tracer)"
        )
    return _FORMS[path.suffix](circuit, path.stem)


def _circuit_tracer(circuit: Circuit, slug: str) -> str:
    return json.dumps(circuit_document(circuit, slug), indent=1, allow_nan=False) + "\n"


_FORMS: Mapping[str, Callable[[Circuit, str], str]] = {
    ".dot": lambda circuit, _: dot(circuit),
    ".graphml": lambda circuit, _: graphml(circuit),
    ".json": _circuit_tracer,
}
