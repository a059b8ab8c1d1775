"""What `harness judge` shows of attention in a circuit, and of rounds of exclusion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.reports.text import plus_minus

Data = Mapping[str, Any]
Row = tuple[str, str, str]


def attention_rows(report: Data) -> list[Row]:
    """Whether kept heads attend as in the model; nothing where that was not measured."""
    if (match := report.get("attention")) is None:
        return []
    worst = max(match["heads"], key=lambda one: one["kl"])
    note = f"of {len(match['heads'])} kept heads; all ablated {_estimate(match['empty_kl'])}; "
    note += f"most {worst['kl']:.3f}, {worst['name']}"
    return [
        ("KL of attention to the model's", _estimate(match["kl"]), note),
        ("correlation of attention", _number(match["correlation"]), "mean of these heads"),
    ]


def exclusion_rows(report: Data) -> list[Row]:
    """How many circuits there are without a common part, and the core."""
    if (excluded := report.get("exclusion")) is None:
        return []
    goal = excluded["target"]
    sizes = ", ".join(str(one["size"]) for one in excluded["rounds"] if one["reached"])
    last = excluded["rounds"][-1]
    if excluded["stopped"] == "exhausted":
        end = f"the next search got down to {last['loss']:.3g} of {goal['value']:g}"
    else:
        end = "stopped by --rounds: there may be more"
    rows = [("circuits without a common part", str(excluded["circuits"]), f"of {sizes}; {end}")]
    without = f"{excluded['without_excluded']:.3f}"
    note = f"{excluded['excluded']} elements; 0.693 is chance"
    rows.append(("calibrated task loss without all of them", without, note))
    core = excluded["core"]
    if core is None:
        rows.append(("core", "none", "the model reaches the target without all of them"))
    else:
        note = f"without it {core['without']:.3f}; {excluded['critical']} elements critical alone"
        rows.append(("core", f"{core['size']} elements", note))
    return rows


def _estimate(estimate: Data) -> str:
    half = None if estimate["low"] is None else (estimate["high"] - estimate["low"]) / 2
    return plus_minus(estimate["value"], half)


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"
