"""A line below a table that says where its numbers were computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.runs.store import CellStore
from harness.runs.store.record import entries_of


def provenance_line(folders: Sequence[Path]) -> str:
    """Days, commits, versions and machines of all stored cells of these runs, as a paragraph.

    The command that repeats the runs comes first. Cells without a result are left out.
    """
    stored = [one for folder in folders for one in _provenances(folder)]
    commands = "; ".join(f"harness run {folder.name}" for folder in folders)
    days = sorted({str(one["created"])[:10] for one in stored})
    parts = [
        f"Made by `{commands}`",
        f"{len(stored)} cells",
        " to ".join(dict.fromkeys([*days[:1], *days[-1:]])),
        _listed("commit", (_commit(one["git"]) for one in stored)),
        _versions(stored),
        _listed("on", (_machine(one) for one in stored)),
    ]
    return "\n" + ", ".join(part for part in parts if part) + ".\n"


def _provenances(folder: Path) -> list[dict[str, Any]]:
    store = CellStore(folder)
    ids = dict.fromkeys(entry.id for entry in entries_of(folder))
    return [store.provenance(cell) for cell in ids if store.has(cell)]


def _commit(git: Mapping[str, Any] | None) -> str:
    if git is None:
        return ""
    return str(git["commit"])[:7] + (" with changes" if git["dirty"] else "")


def _versions(stored: Sequence[Mapping[str, Any]]) -> str:
    names = ("harness", "torch", "numpy", "python")
    return ", ".join(_listed(name, (one["versions"][name] for one in stored)) for name in names)


def _machine(one: Mapping[str, Any]) -> str:
    return f"{one['device']} with {one['threads']} of {one['cores']} cores ({one['cpu']})"


def _listed(label: str, values: Iterable[Any]) -> str:
    distinct = [str(value) for value in dict.fromkeys(values) if value]
    return f"{label} {' and '.join(distinct)}" if distinct else ""
