"""Facts of a stored result: the keys of `result.json` that may be renamed are read here alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Result = Mapping[str, Any]


def total_of(result: Result) -> int:
    """E: elements of the whole space."""
    total: int = result["total"]
    return total


def ground_truth_of(result: Result) -> Result | None:
    """Agreement with the true circuit; None where there is none to compare with."""
    agreement: Result | None = result["ground_truth"]
    return agreement


def sizes_of(result: Result) -> list[float]:
    """The size grid, as requested shares of the whole space."""
    return [point["size_requested"] for point in result["curve"]]
