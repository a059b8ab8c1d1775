"""Circuits of a run as files of other tools: a folder that the MIB leaderboard takes.

One folder per task and model, `{task}_{model}` with hyphens inside names, with one file in the form
of EAP-IG, `importances.pt` or `importances.json`. Without a size it holds the scores that the
stored circuit was cut from, and `cut_from` says so where circuits of other sizes were not; with a
size, the circuit that was measured there, with scores 1 and 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.circuits.circuit import Circuit
from harness.circuits.formats import mib_config, save_circuit
from harness.circuits.ungroup import ungrouped
from harness.errors import HarnessError
from harness.runs.circuits import ADDITIVE, stored_circuit
from harness.runs.record import StoredCell

MIB_FOLDERS = frozenset(
    {
        *(f"ioi_{model}" for model in ("gpt2", "qwen2.5", "gemma2", "llama3", "interpbench")),
        *(f"mcqa_{model}" for model in ("qwen2.5", "gemma2", "llama3")),
        "arithmetic-addition_llama3",
        "arithmetic-subtraction_llama3",
        "arc-easy_gemma2",
        "arc-easy_llama3",
        "arc-challenge_llama3",
    }
)
"""What the leaderboard has tasks and models for."""

BOARD_NAMES = {"ioi_gpt2": "ioi", "gpt2-small": "gpt2"}
"""Shipped tasks and models that the leaderboard calls otherwise."""


@dataclass(frozen=True)
class Exported:
    """One written file, whether the leaderboard knows its folder's name, and what the scores are.

    `cut_from`: `scores` where circuits of all sizes are cut from the written ones.
    """

    path: Path
    cell: str
    known: bool
    cut_from: str


def export_mib(
    cells: Sequence[StoredCell],
    method: str,
    seed: int,
    target: Path,
    suffix: str = ".pt",
    size: float | None = None,
) -> list[Exported]:
    """Write the scores of one method and seed, a folder for each task and model.

    With `size`, a share of the edges on the cells' curves, the circuit of that size instead.
    Raises `HarnessError` if there is nothing to write, if two cells would have one folder, if no
    circuit of that size was measured, or if a circuit's graph has no MIB form. Nothing is written
    then.
    """
    chosen = [
        cell
        for cell in cells
        if cell.entry.method == method and cell.entry.seed == seed and cell.status == "ok"
    ]
    if not chosen:
        raise HarnessError(f"no finished cell of method {method!r} with seed {seed}; {_has(cells)}")
    names = [folder_name(cell.entry.task, cell.entry.model) for cell in chosen]
    for name, cell in zip(names, chosen, strict=True):
        if names.count(name) > 1:
            raise HarnessError(
                f"two cells would be written to {name!r}, one of them {cell.entry.id[:12]} "
                f"({cell.entry.variant or 'no change of evaluation'}); export one run at a time"
            )
    circuits = [_circuit(cell, size) for cell in chosen]
    for circuit in circuits:
        mib_config(circuit)
    written = []
    for name, cell, circuit in zip(names, chosen, circuits, strict=True):
        path = target / name / f"importances{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_circuit(circuit, path, mib=True)
        cut_from = "scores" if size is not None else circuit.source.get("cut_from", "scores")
        written.append(Exported(path, cell.entry.id, name in MIB_FOLDERS, cut_from))
    return written


def _circuit(cell: StoredCell, size: float | None) -> Circuit:
    circuit = stored_circuit(cell.store, cell.entry.id, size)
    return ungrouped(circuit, additive=circuit.source.get("scores") == ADDITIVE)


def folder_name(task: str, model: str) -> str:
    """`arithmetic_addition`, `llama3` → `arithmetic-addition_llama3`."""
    names = (BOARD_NAMES.get(name, name) for name in (task, model))
    return "_".join(name.replace("_", "-") for name in names)


def _has(cells: Sequence[StoredCell]) -> str:
    found = sorted({f"{c.entry.method} seed {c.entry.seed}" for c in cells if c.status == "ok"})
    return f"there are: {', '.join(found)}" if found else "the run has no finished cell"
