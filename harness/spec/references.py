"""Which keys of a spec name other specs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from harness.spec.schema import SpecKind

_SUITE_KEYS: dict[str, SpecKind] = {
    "tasks": "task",
    "methods": "method",
    "models": "model",
    "controls": "method",
}


class SpecReference(NamedTuple):
    """A name or path at a place of a file. `deep`: mistakes in that spec are mistakes here too."""

    place: tuple[str | int, ...]
    kind: SpecKind
    deep: bool


def references_of(data: Mapping[str, Any], kind: SpecKind) -> Iterator[SpecReference]:
    """All references of a spec of this kind that are texts and not empty, in the order of checks.

    Tasks, models and dictionaries may name each other in a circle; in each circle one reference is
    not deep.
    """
    wanted: list[SpecReference] = []
    if kind == "task":
        wanted = [
            SpecReference(("model",), "model", True),
            SpecReference(("model", "task"), "task", False),
            SpecReference(("evaluation", "dictionary"), "dictionary", True),
        ]
    elif kind == "model":
        wanted = [SpecReference(("task",), "task", False)]
    elif kind == "dictionary":
        wanted = [SpecReference(("task",), "task", False), SpecReference(("model",), "model", True)]
    elif kind == "suite":
        further = data.get("also")
        grids = enumerate(further) if isinstance(further, list) else ()
        wanted = [
            *_of_grid(data, ()),
            *(one for index, grid in grids for one in _of_grid(grid, ("also", index))),
        ]
    yield from (one for one in wanted if _is_text(data, one.place))


def _of_grid(data: Any, place: tuple[str | int, ...]) -> Iterator[SpecReference]:
    """Those of a suite's grid at a place of its file."""
    if not isinstance(data, Mapping):
        return
    for key, target in _SUITE_KEYS.items():
        items = data.get(key)
        for index in range(len(items)) if isinstance(items, list) else ():
            yield SpecReference((*place, key, index), target, False)
    changes = data.get("evaluations")
    for index in range(len(changes)) if isinstance(changes, list) else ():
        yield SpecReference((*place, "evaluations", index, "dictionary"), "dictionary", False)


def _is_text(data: Any, place: tuple[str | int, ...]) -> bool:
    """Whether there is a text; the schema says that it must not be empty."""
    for step in place:
        if isinstance(step, int):
            data = data[step]  # of a list that is there
        else:
            data = data.get(step) if isinstance(data, dict) else None
    return isinstance(data, str) and data != ""
