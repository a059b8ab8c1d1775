"""The table of built-in methods in the documentation, made from their infos."""

from __future__ import annotations

from collections.abc import Iterable

from harness.discovery.info import MethodInfo
from harness.discovery.registry import built_in

_COLUMNS = (
    *("kind", "what it does", "elements"),
    *("per token", "post-norms", "processes", "objective", "cost"),
)


def markdown() -> str:
    """One row per kind of method; `tests/discovery/test_infos.py` compares the page with it."""
    rows = [_COLUMNS, ("---",) * len(_COLUMNS), *map(_row, built_in().values())]
    return "".join(f"|{'|'.join(_cells(row))}|\n" for row in rows)


def _row(info: MethodInfo) -> tuple[str, ...]:
    return (
        f"`{info.kind}`",
        info.title,
        info.elements,
        "yes" if info.per_token else "no",
        "yes" if info.post_norms else "no",
        "yes" if info.processes else "no",
        info.objective or "–",
        info.cost,
    )


def _cells(row: Iterable[str]) -> Iterable[str]:
    return (cell if cell == "---" else f" {cell} " for cell in row)
