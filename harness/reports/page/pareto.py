"""Faithfulness against what finding the circuits cost, and the methods that no other dominates."""

from __future__ import annotations

from harness.circuits.drawing.palette import COLOURS
from harness.reports.figures.pareto import LEAST, front
from harness.reports.leaderboard import Board
from harness.reports.page.charts import Chart, Series, chart
from harness.reports.page.measure_curves import HIGHEST, LOWEST
from harness.reports.records import record

FRONT = "Pareto front"
COST = "cost in forward+backwards"

Point = tuple[str, str, float, float]
"""Kind of the line, method, cost, faithfulness."""


def pareto_chart(board: Board) -> Chart | None:
    """A point for each method and control of a board; None with fewer than two methods.

    Faithfulness is that of the table's size. The front joins the methods of which none is both
    cheaper and more faithful; controls are no part of it.
    """
    points = _points(board)
    methods = [(cost, value) for kind, _, cost, value in points if kind == "method"]
    if len(methods) < 2:
        return None
    best = front(methods)
    nothing = [None] * len(best)
    series = [
        Series(method, at % len(COLOURS), kind == "control", [cost], [value], [None], [None])
        for at, (kind, method, cost, value) in enumerate(points)
    ]
    ends = [cost for cost, _ in best], [value for _, value in best]
    line = Series(FRONT, len(COLOURS) - 1, False, *ends, nothing, nothing, unmarked=True)
    return chart(
        "Faithfulness against cost",
        COST,
        "faithfulness",
        [*series, line],
        [(1.0, "whole model")],
        (LOWEST, HIGHEST),
    )


def _points(board: Board) -> list[Point]:
    points = []
    for line in board.lines:
        values = record(board, line)
        cost, value = values.get("cost_fb"), values.get("faithfulness")
        if line.kind in ("method", "control") and cost is not None and value is not None:
            points.append((line.kind, line.method, max(LEAST, float(cost)), float(value)))
    return sorted(points, key=lambda one: (one[0] == "control", one[1]))
