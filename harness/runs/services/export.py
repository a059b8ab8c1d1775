"""Export circuits of a run in the format of the MIB leaderboard.

One folder per task and model, `{task}_{model}` with hyphens inside names, with files in the form of
EAP-IG, pt or JSON. What a folder holds is one of:

- `importances.pt`: the scores that the stored circuit was cut from; `cut_from` states if
  circuits of other sizes were not cut from them.
- `importances.pt`: the circuit that was measured at one size, with scores 1 and 0.
- `circuit_0.1.pt` … `circuit_50.pt`: nine circuits, the form of the leaderboard for methods that
  have no single ranking. Each has at most that percentage of the edges, scores 1 and 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.circuits.circuit import Circuit
from harness.circuits.edges.mib import mib_config
from harness.circuits.edges.ungroup import ungrouped
from harness.circuits.files import save_circuit
from harness.errors import HarnessError
from harness.runs.store.circuits import ADDITIVE, stored_circuit
from harness.runs.store.record import StoredCell

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

BOARD_NAMES: Mapping[str, str] = {
    "ioi_pretrained": "ioi",
    "mib_ioi": "ioi",
    "mib_mcqa": "mcqa",
    "mib_addition": "arithmetic_addition",
    "mib_subtraction": "arithmetic_subtraction",
    "gpt2-small": "gpt2",
    "qwen2_5-0_5b": "qwen2.5",
    "gemma2-2b": "gemma2",
    "llama3_1-8b": "llama3",
}
"""Shipped tasks and models that the leaderboard calls otherwise."""

MIB_LIMITS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""At most these shares of the edges have the nine circuits of a submission without scores."""


@dataclass(frozen=True)
class Exported:
    """One written file, whether the leaderboard knows its folder's name, and what the scores are.

    `cut_from`: `scores` where circuits of all sizes are cut from the written ones. `edges`: those
    that the file marks as kept, of `edges_total`.
    """

    path: Path
    cell: str
    on_board: bool
    cut_from: str
    edges: int
    edges_total: int


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
    named = _by_folder(cells, method, seed)
    files = [
        (f"{name}/importances{suffix}", cell, _circuit(cell, size)) for name, cell in named.items()
    ]
    return _written(files, target, scored=size is None)


def export_mib_circuits(
    cells: Sequence[StoredCell], method: str, seed: int, target: Path, suffix: str = ".pt"
) -> list[Exported]:
    """Write nine circuits of one method and seed for each task and model, without their scores.

    Each is the largest measured circuit within its limit, or an empty one if all are larger: an
    edge into shared keys or values is one for each head there, so a circuit may have a larger
    share of the leaderboard's edges than of ours. Raises `HarnessError` as `export_mib` does.
    """
    files = [
        (f"{name}/circuit_{100 * limit:g}{suffix}", cell, circuit)
        for name, cell in _by_folder(cells, method, seed).items()
        for limit, circuit in _within_limits(cell)
    ]
    return _written(files, target, scored=False)


def _by_folder(cells: Sequence[StoredCell], method: str, seed: int) -> dict[str, StoredCell]:
    """The finished cells of a method and seed by the name of their folder."""
    chosen = [
        cell
        for cell in cells
        if cell.entry.method == method and cell.entry.seed == seed and cell.status == "ok"
    ]
    if not chosen:
        raise HarnessError(_missing(cells, method, seed))
    named: dict[str, StoredCell] = {}
    for cell in chosen:
        name = folder_name(cell.entry.task, cell.entry.model)
        if name in named:
            raise HarnessError(
                f"two cells would be written to {name!r}, one of them {cell.entry.id[:12]} "
                f"({cell.entry.variant or 'no change of evaluation'}); export one run at a time"
            )
        named[name] = cell
    return named


def _circuit(cell: StoredCell, size: float | None) -> Circuit:
    circuit = stored_circuit(cell.store, cell.entry.id, size)
    return ungrouped(circuit, additive=circuit.source.get("scores") == ADDITIVE)


def _within_limits(cell: StoredCell) -> list[tuple[float, Circuit]]:
    """For each limit the largest measured circuit within it."""
    shares = [point["size_requested"] for point in (cell.result or {})["curve"]]
    measured = sorted((_circuit(cell, share) for share in shares), key=lambda one: one.size)
    empty = replace(measured[0], kept=measured[0].kept & False)
    circuits = []
    for limit in MIB_LIMITS:
        fitting = [one for one in measured if one.size <= limit * len(one.space)]
        circuits.append((limit, fitting[-1] if fitting else empty))
    return circuits


def _written(
    files: Sequence[tuple[str, StoredCell, Circuit]], target: Path, *, scored: bool
) -> list[Exported]:
    """Write circuits to paths below `target`, after checking that all of them have a MIB form."""
    for _, _, circuit in files:
        mib_config(circuit)
    written = []
    for name, cell, circuit in files:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_circuit(circuit, path, mib=True)
        cut_from = circuit.source.get("cut_from", "scores") if scored else "scores"
        on_board = path.parent.name in MIB_FOLDERS
        total = len(circuit.space)
        written.append(Exported(path, cell.entry.id, on_board, cut_from, circuit.size, total))
    return written


def too_few(written: Sequence[Exported]) -> bool:
    """Whether the files are too few to submit: the board asks for two tasks and two models."""
    names = {one.path.parent.name for one in written if one.on_board}
    tasks, models = ({name.split("_")[part] for name in names} for part in (0, 1))
    return len(tasks) < 2 or len(models) < 2


def folder_name(task: str, model: str) -> str:
    """`arithmetic_addition`, `llama3` → `arithmetic-addition_llama3`."""
    names = (BOARD_NAMES.get(name, name) for name in (task, model))
    return "_".join(name.replace("_", "-") for name in names)


def _missing(cells: Sequence[StoredCell], method: str, seed: int) -> str:
    """Why there is nothing to write of a method and seed, and what there is."""
    wanted = f"method {method!r} with seed {seed}"
    if any(
        (one.entry.method, one.entry.seed, one.status) == (method, seed, "smoke") for one in cells
    ):
        return (
            f"the cells of {wanted} are of a smoke run (--limit), whose circuits are not exported; "
            "run again without --limit"
        )
    finished = sorted({f"{c.entry.method} seed {c.entry.seed}" for c in cells if c.status == "ok"})
    has = f"there are: {', '.join(finished)}" if finished else "the run has none of any method"
    return f"no finished cell of {wanted}; {has}"
