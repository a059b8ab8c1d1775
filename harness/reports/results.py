"""Accessors of stored results: the only place that reads keys of `result.json` that may change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

Result = Mapping[str, Any]
SizeAt = Literal["ranking", "grid"]
"""How the smallest faithful circuit was found: along the method's one ranking, or among the
measured circuits, of which it is the smallest: then the size is an upper bound."""


def unit_of(result: Result) -> str:
    """What elements are counted in, plural."""
    unit: str = result["unit"]
    return unit


def total_of(result: Result) -> int:
    """E: elements of the whole space."""
    total: int = result["total"]
    return total


def ground_truth_of(result: Result) -> Result | None:
    """Agreement with the true circuit; None where there is none to compare with."""
    agreement: Result | None = result["ground_truth"]
    return agreement


def size_at_of(results: Sequence[Result]) -> SizeAt:
    """How the sizes of all of them were found: along rankings only if every one was."""
    exact = all(result["summary"]["size_at"] == "ranking" for result in results)
    return "ranking" if exact else "grid"


def sizes_of(result: Result) -> list[float]:
    """The size grid, as requested shares of the whole space."""
    return [point["size_requested"] for point in result["curve"]]
