"""Read results of earlier format versions as the current one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def upgraded(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """A result of format version 1 as version 2; any other one as it is.

    Version 1 supported edges alone, called the ground truth `known`, did not measure the plain
    model apart from the model with all edges, and read `size_at` off the measured sizes.
    """
    if result.get("schema_version") != 1:
        return result
    renamed = {"edges_total": "total", "known": "ground_truth"}
    upgraded = {renamed.get(name, name): value for name, value in result.items()}
    return {
        **upgraded,
        "schema_version": 2,
        "unit": "edges",
        "plain": None,
        "curve": [_point(point) for point in result["curve"]],
        "summary": {**result["summary"], "size_at": "grid"},
    }


def _point(point: Mapping[str, Any]) -> dict[str, Any]:
    fields = {
        "requested" if name == "edges_requested" else name: value for name, value in point.items()
    }
    return {**fields, "counts": {"edges": point["size"]}, "target": None}
