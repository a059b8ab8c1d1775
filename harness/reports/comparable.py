"""Which cells belong into one table: those that differ in nothing but method and seed.

Of several versions of one task and model the one that was asked for last counts (that of the last
run, where there are several runs); the others are shown beside it and say what differs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.runs.store.record import PlannedCell, StoredCell, method_of

_SHOWN = 4  # differences in a sentence


def comparable_groups(cells: Sequence[StoredCell]) -> list[list[StoredCell]]:
    """Groups of cells that differ only in method and seed, in order of first appearance.

    Equal ids (of two runs) count once. A method that is a control anywhere in a group is one.
    """
    best: dict[str, StoredCell] = {}
    for cell in cells:  # of two runs that hold a cell, the one that has its result counts
        if cell.entry.id not in best or best[cell.entry.id].result is None:
            best[cell.entry.id] = cell
    controls = {
        (cell.entry.conditions, cell.entry.method) for cell in cells if cell.entry.role == "control"
    }
    groups: dict[str, list[StoredCell]] = {}
    for cell in best.values():
        entry = cell.entry
        role = "control" if (entry.conditions, entry.method) in controls else "method"
        one = cell if entry.role == role else replace(cell, entry=replace(entry, role=role))
        groups.setdefault(entry.conditions, []).append(one)
    return list(groups.values())


def current(cells: Iterable[StoredCell]) -> dict[tuple[Any, ...], PlannedCell]:
    """By task, variant, model and limit: an entry of the version that was asked for last."""
    return {cell.entry.place: cell.entry for cell in cells}


def by_method(cells: Iterable[StoredCell]) -> dict[str, list[StoredCell]]:
    """Cells of one table by method."""
    methods: dict[str, list[StoredCell]] = {}
    for cell in cells:
        methods.setdefault(cell.entry.method, []).append(cell)
    return methods


def of_one_version(cells: Sequence[StoredCell]) -> list[StoredCell]:
    """Of one method's cells those that were made with its spec as it was asked for last."""
    version = method_of(cells[-1].entry)
    return [cell for cell in cells if method_of(cell.entry) == version]


@dataclass(frozen=True)
class Seeds:
    """The seeds that methods are ranked on: `common` to all; None if every method has the same.

    `extra`: of methods with more seeds those that are left out.
    """

    common: frozenset[int] | None
    extra: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, methods: Mapping[str, Sequence[StoredCell]]) -> Seeds:
        """Those of methods that have all results that were asked for."""
        sets = {
            name: {cell.entry.seed for cell in cells}
            for name, cells in methods.items()
            if cells and all(cell.result is not None for cell in cells)
        }
        if len({frozenset(seeds) for seeds in sets.values()}) < 2:
            return cls(None, {})
        common = frozenset.intersection(*map(frozenset, sets.values()))
        extra = {name: tuple(sorted(seeds - common)) for name, seeds in sets.items()}
        return cls(common, {name: seeds for name, seeds in extra.items() if seeds})

    def of_these(self, cells: Sequence[StoredCell]) -> list[StoredCell]:
        """The cells with common seeds; all where there are none."""
        if not self.common:
            return list(cells)
        return [cell for cell in cells if cell.entry.seed in self.common] or list(cells)

    def remark(self) -> str:
        """What is left out, as a sentence; empty if nothing is."""
        if self.common is None:
            return ""
        extra = "; ".join(f"{name} {_listed(seeds)}" for name, seeds in self.extra.items())
        if not self.common:
            return f"Not ranked: methods have no seed in common ({extra})."
        word = "seed" if len(self.common) == 1 else "seeds"
        return f"All rows are of {word} {_listed(sorted(self.common))}; left out: {extra}."


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, seeds))


def differences(entry: PlannedCell, other: PlannedCell) -> str:
    """What differs between two versions of a task and model, in words: `runtime.threads 1 / 2`."""
    one, two = (dict(_leaves(_shared(x))) for x in (entry, other))
    names = [name for name in {**one, **two} if one.get(name) != two.get(name)]
    shown = [_difference(name, one.get(name), two.get(name)) for name in names[:_SHOWN]]
    more = [f"{len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return ", ".join(shown + more) or "the model"


def _shared(entry: PlannedCell) -> dict[str, Any]:
    return {key: x for key, x in entry.identity.items() if key not in ("method", "seed")}


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _difference(name: str, one: Any, two: Any) -> str:
    values = f"{one} / {two}"
    return f"{name} {values}" if len(values) <= 24 else name
