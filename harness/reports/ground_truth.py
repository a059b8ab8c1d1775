"""How well a method recovers the true circuit of a model, where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.reports.results import Result, ground_truth_of

COLUMNS = ("AUROC ↑", "AP ↑", "F1 ↑", "exact ↑")
NAMES = ("auroc", "average_precision", "f1", "exact")


@dataclass(frozen=True)
class Recovery:
    """Means over the seeds of one method; `exact` counts the seeds that were exact."""

    true_edges: int
    auroc: float | None
    average_precision: float | None
    f1: float | None
    exact: int
    seeds: int

    def fields(self) -> list[str]:
        """As the columns of a table."""
        shown = (self.auroc, self.average_precision, self.f1)
        return [*("" if x is None else f"{x:.3f}" for x in shown), f"{self.exact}/{self.seeds}"]


def recovery_of(results: Sequence[Result]) -> Recovery | None:
    """Recovery of one method from its results; None without a true circuit."""
    agreements = [one for result in results if (one := ground_truth_of(result)) is not None]
    if not agreements:
        return None

    def mean(name: str) -> float | None:
        return mean_or_none([one[name] for one in agreements if one[name] is not None])

    return Recovery(
        agreements[0]["size"],
        mean("auroc"),
        mean("average_precision"),
        mean("f1"),
        sum(one["exact"] for one in agreements),
        len(agreements),
    )


def record_of(recovery: Recovery | None) -> dict[str, float | int | None]:
    """For CSV and JSON; all null without a true circuit."""
    return {name: None if recovery is None else getattr(recovery, name) for name in NAMES}


def mean_or_none(values: Sequence[float]) -> float | None:
    """The mean; None of no values."""
    return fmean(values) if values else None
