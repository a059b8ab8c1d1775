"""Where the numbers of a page come from: every cell, its state, and how to compute it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from harness.reports.provenance import provenance_line
from harness.reports.text import elided
from harness.runs.store.record import StoredCell

LONGEST = 2_000
"""Characters of a failure that are shown."""


@dataclass(frozen=True)
class Origin:
    """A cell with its state; `failure`: why it has no result."""

    cell: str
    task: str
    variant: str
    model: str
    method: str
    seed: int
    status: str
    failure: str


@dataclass(frozen=True)
class RunOrigin:
    """A run: the commands that repeat and explain it, where it was computed, and its cells."""

    name: str
    repeat: str
    explain: str
    provenance: str
    cells: tuple[Origin, ...]


def origins(cells: Sequence[StoredCell]) -> list[RunOrigin]:
    """The runs of cells in order of first appearance; two folders of one name are two runs."""
    runs: dict[Path, list[StoredCell]] = {}
    for cell in cells:
        runs.setdefault(cell.store.folder, []).append(cell)
    return [
        RunOrigin(
            folder.name,
            f"harness run {quote(folder.name)}",
            f"harness why {own[0].entry.id[:12]}",
            provenance_line(own).strip() if any(cell.result for cell in own) else "",
            tuple(map(_origin, own)),
        )
        for folder, own in runs.items()
    ]


def _origin(cell: StoredCell) -> Origin:
    entry = cell.entry
    error = {} if cell.failure is None else cell.failure.get("error", {})
    failure = str(error.get("message", "")) if isinstance(error, dict) else str(error)
    return Origin(
        entry.id,
        entry.task,
        entry.variant,
        entry.model,
        entry.method,
        entry.seed,
        cell.status,
        elided(failure, LONGEST),
    )
