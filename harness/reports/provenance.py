"""What stands below a table about where its numbers were computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from shlex import quote
from typing import Any

from harness.reports.text import grid
from harness.runs.store.record import StoredCell
from harness.spec.printable import printable


def provenance_line(cells: Sequence[StoredCell], escape: Callable[[str], str] = printable) -> str:
    """Days, commits, versions and machines of all finished ones of these cells, as a paragraph.

    The command that repeats their runs comes first. `escape`: for where the paragraph stands.
    """
    stored = _provenances(cells)
    runs = dict.fromkeys(cell.store.folder for cell in cells)
    commands = "; ".join(f"harness run {_argument(folder.name)}" for folder in runs)
    days = sorted({day for one in stored if (day := _text(one, "created")[:10])})
    parts = [
        f"Made by `{commands}`",
        f"{len(stored)} cells",
        " to ".join(dict.fromkeys([*days[:1], *days[-1:]])),
        *map(escape, _origins(stored)),
    ]
    return "\n" + ", ".join(part for part in parts if part) + ".\n"


def _argument(name: str) -> str:
    """A name as a shell takes it, between backticks."""
    return quote(printable(name).replace("`", r"\x60"))


def _origins(stored: Sequence[Mapping[str, Any]]) -> list[str]:
    commits = _listed("commit", (_commit(one) for one in stored))
    machines_here = _listed("on", (_machine(one) for one in stored))
    return [commits, _versions(stored), machines_here]


def machines(cells: Sequence[StoredCell]) -> str:
    """Which machine computed which cells, as a Markdown table; empty where there was only one."""
    rows: dict[tuple[str, str, str], dict[str, list[int]]] = {}
    for cell in cells:
        if cell.result is not None:
            where = _processor(cell.store.provenance(cell.entry.id))
            row = rows.setdefault((where, cell.entry.task, cell.entry.model), {})
            row.setdefault(cell.entry.method, []).append(cell.entry.seed)
    if len({where for where, _, _ in rows}) < 2:
        return ""
    lines = [
        (*key, ", ".join(f"{name} ({_seeds(seeds)})" for name, seeds in methods.items()))
        for key, methods in sorted(rows.items())
    ]
    return "\n" + grid(("machine", "task", "model", "methods (seeds)"), lines, "github") + "\n"


def _seeds(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(set(seeds))))


def _provenances(cells: Sequence[StoredCell]) -> list[dict[str, Any]]:
    finished = {
        (cell.store.folder, cell.entry.id): cell for cell in cells if cell.result is not None
    }
    return [cell.store.provenance(cell.entry.id) for cell in finished.values()]


def _text(one: Mapping[str, Any], *names: str) -> str:
    """What stands at this place of a provenance; empty where it does not say."""
    value: Any = one
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return "" if value is None else str(value)


def _commit(one: Mapping[str, Any]) -> str:
    commit = _text(one, "git", "commit")[:7]
    return commit and commit + (" with changes" if _text(one, "git", "dirty") == "True" else "")


def _versions(stored: Sequence[Mapping[str, Any]]) -> str:
    names = ("harness", "torch", "numpy", "python")
    listed = [_listed(name, (_text(one, "versions", name) for one in stored)) for name in names]
    return ", ".join(filter(None, listed))


def _machine(one: Mapping[str, Any]) -> str:
    if not (device := _text(one, "device")):
        return ""
    threads, cores, cpu = (_text(one, name) for name in ("threads", "cores", "cpu"))
    shared = _text(one, "processes")
    by = f"{shared} processes with {threads}" if shared else f"with {threads}"
    return f"{device} {by} of {cores} cores ({cpu})"


def _processor(one: Mapping[str, Any]) -> str:
    return f"{_text(one, 'cpu') or 'unknown'}, {_text(one, 'cores') or 'unknown'} cores"


def _listed(label: str, values: Iterable[Any]) -> str:
    distinct = [str(value) for value in dict.fromkeys(values) if value]
    return f"{label} {' and '.join(distinct)}" if distinct else ""
