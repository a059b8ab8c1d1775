"""The leaderboard as plain data: one record per line, every digit and interval kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from harness.reports.columns import times_own
from harness.reports.ground_truth import record_of
from harness.reports.leaderboard import LEVELS, Board, Leaderboard, Line
from harness.reports.resample import Estimate
from harness.reports.results import total_of, unit_of

AREAS = ("cmd", "cpr", "cmd_log", "cpr_log")


def record(board: Board, line: Line) -> dict[str, Any]:
    """One line with its table's names."""
    columns: dict[str, Any] = {
        "task": board.task,
        "variant": board.variant,
        "model": board.model,
        "limit": board.limit,
        "kind": line.kind,
        "method": line.method,
        "rank": line.rank,
        "tied": line.tied,
    }
    estimates = {key: None if line.areas is None else line.areas[key] for key in AREAS}
    for name, estimate in estimates.items():
        columns |= _ends(name, estimate)
    for level in LEVELS:
        columns[f"size_at_{level}"] = None if line.reach is None else line.reach[level]
    columns["size_at"] = line.reach_from
    columns["unit"] = None if board.facts is None else unit_of(board.facts)
    columns["total"] = None if board.facts is None else total_of(board.facts)
    columns |= {"at_size": board.at_size, "size": line.size, "bits": line.bits}
    columns["weights"] = line.weights
    columns["held"] = line.held
    columns["times_own"] = times_own(board, line)
    for name, estimate in (
        ("faithfulness", line.faithfulness),
        ("kl", line.kl),
        ("accuracy", line.accuracy),
    ):
        columns |= _ends(name, estimate)
    for name in board.chosen:
        columns |= _ends(name, line.chosen.get(name))
    return columns | {
        **record_of(line.recovery),
        "seconds": line.seconds,
        "cost_fb": line.cost_fb,
        "cost_fb_wall": line.cost_fb_wall,
        "settled": line.settled,
        "peak_mib": line.peak_mib,
        "seeds_done": line.seeds_done,
        "seeds_all": line.seeds_all,
        "notes": "; ".join(line.notes),
    }


def _ends(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    shown = estimate or Estimate(None)
    return {name: shown.value, f"{name}_low": shown.low, f"{name}_high": shown.high}


def as_data(board: Leaderboard) -> dict[str, Any]:
    """The leaderboard as plain JSON data, every digit kept."""
    return {
        "schema_version": 2,
        "boards": [
            {
                "task": one.task,
                "variant": one.variant,
                "model": one.model,
                "limit": one.limit,
                "caption": _facts(one.facts),
                "verdict": None if one.verdict is None else _finite(asdict(one.verdict)),
                "remarks": list(one.remarks),
                "lines": [record(one, line) for line in one.lines],
            }
            for one in board.boards
        ],
        "mean_ranks": [
            {"unit": of_unit.unit, "method": method, "mean_rank": mean, "tasks": tasks}
            for of_unit in board.mean_ranks
            for method, mean, tasks in of_unit.methods
        ],
    }


def _finite(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The same with null for what is not finite, which JSON cannot hold."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in fields.items()
    }


def _facts(facts: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if facts is None:
        return None
    return {
        "choices": facts["choices"],
        "metric": facts["metric"],
        "n_examples": facts["n_examples"],
        "total": total_of(facts),
        "model_quality": facts["model_quality"],
    }
