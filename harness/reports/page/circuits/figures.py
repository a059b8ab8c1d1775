"""The circuits that a page draws, and the differences between those of one board."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from harness.circuits.circuit import Circuit
from harness.circuits.drawing.difference import difference
from harness.circuits.drawing.layout import drawing
from harness.circuits.drawing.parts import Drawing
from harness.circuits.drawing.shapes import tie_legend
from harness.errors import HarnessError
from harness.reports.page.circuits.nodes import NodesShown, nodes_shown
from harness.reports.page.circuits.traces import ShownTrace, shown_trace
from harness.runs.store.circuits import circuit_with_nodes
from harness.runs.store.record import StoredCell

NO_NODES = (
    "Computed before what nodes do was stored with cells: weights between channels, ablations, "
    "attention and true edges are not shown; run in a new folder to see them."
)


@dataclass(frozen=True)
class DrawnCircuit:
    """A cell's stored circuit; `problem` says why there is no drawing.

    `nodes`: what its nodes do; `older`: why that is not known. `truth`: of the elements of the true
    circuit, how many it has, misses, and has besides.
    """

    method: str
    seed: int
    cell: str
    circuit: Circuit | None = None
    drawing: Drawing | None = None
    problem: str = ""
    nodes: NodesShown | None = None
    trace: ShownTrace | None = None
    older: str = ""
    truth: tuple[int, int, int] | None = None

    @property
    def ties(self) -> str:
        """What lines between channels say, if there are any."""
        return tie_legend(self.drawing) if self.drawing and self.drawing.ties else ""


@dataclass(frozen=True)
class DrawnDifference:
    """Two circuits of one board in one drawing, and how many elements are whose."""

    one: str
    other: str
    drawing: Drawing
    both: int
    only_one: int
    only_other: int


def drawn_circuit(cell: StoredCell) -> DrawnCircuit:
    """The stored circuit of a cell, or why it cannot be read."""
    entry = cell.entry
    about = (entry.method, entry.seed, entry.id)
    try:
        circuit, stored = circuit_with_nodes(cell.store, entry.id)
        true = None if stored is None else stored["true"]
        return DrawnCircuit(
            *about,
            circuit,
            drawing(circuit, true),
            nodes=None if stored is None else nodes_shown(circuit, stored),
            trace=shown_trace(stored),
            older=NO_NODES if stored is None else "",
            truth=None if true is None else _compared(circuit, true),
        )
    except HarnessError as error:
        return DrawnCircuit(*about, problem=str(error))


def _compared(circuit: Circuit, true: Sequence[str]) -> tuple[int, int, int]:
    hit = sum(bool(circuit.kept[circuit.space.index(name)]) for name in true)
    return hit, len(true) - hit, circuit.size - hit


def differences(circuits: Sequence[DrawnCircuit]) -> list[DrawnDifference]:
    """Of every two circuits of one space that differ, in the board's order."""
    drawn = []
    for one, other in combinations(circuits, 2):
        a, b = one.circuit, other.circuit
        if a is None or b is None or a.space != b.space or bool((a.kept == b.kept).all()):
            continue
        both = int((a.kept & b.kept).sum())
        drawn.append(
            DrawnDifference(
                one.method, other.method, difference(a, b), both, a.size - both, b.size - both
            )
        )
    return drawn
