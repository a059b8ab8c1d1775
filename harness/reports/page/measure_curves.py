"""Charts of stored cells: measures against circuit size, and against bits, for any granularity."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, median_low
from typing import Any

import numpy as np

from harness.circuits.drawing.palette import COLOURS
from harness.metrics import MEASURES
from harness.metrics.sparsity import bits
from harness.reports.curves import band, levels
from harness.reports.leaderboard import Board
from harness.reports.page.charts import Chart, Series, chart
from harness.reports.results import has_targets, total_of, unit_of
from harness.runs.store.record import StoredCell

LOWEST, HIGHEST = -0.25, 1.25
"""Faithfulness beyond these is drawn at the edge: there circuits do something else."""

FLOOR = 1e-4
"""Nats of KL below which circuits do the same as the model."""

Groups = Sequence[tuple[Board, Mapping[tuple[str, str], list[StoredCell]]]]
"""Boards with their finished cells by role and method."""


def size_charts(board: Board, methods: Mapping[tuple[str, str], list[StoredCell]]) -> list[Chart]:
    """Faithfulness and KL of one board against the share of elements."""
    if board.facts is None:
        return []
    share = f"share of {unit_of(board.facts)} kept"
    results = [one.result for cells in methods.values() for one in cells if one.result is not None]
    searched = any(map(has_targets, results))
    ends = {} if searched else {m: levels(dict(methods), m) for m in ("faithfulness", "kl")}
    named = [(value, "empty circuit") for value in ends.get("kl", [])[:1]]
    drawn = [
        chart(
            "Faithfulness against circuit size",
            share,
            "faithfulness",
            _series(methods, lambda cells: _by_share(cells, "faithfulness")),
            [(0.0, "empty circuit"), (1.0, "whole model")],
            (LOWEST, HIGHEST),
        ),
        chart(
            "KL against circuit size",
            share,
            f"{MEASURES['kl'].title} (nats)",
            _series(methods, lambda cells: _by_share(cells, "kl")),
            named,
            floor=FLOOR,
        ),
    ]
    return [one for one in drawn if one is not None]


def bits_chart(groups: Groups) -> Chart | None:
    """Faithfulness against bits, of all boards of one task and model: which is shortest?"""
    series: list[Series] = []
    several = len(groups) > 1
    for board, methods in groups:
        names = {method: f"{method}, {_variant(board)}" for _, method in methods}
        own = _series(methods, _by_bits, len(series))
        series += [
            Series(names[one.name], *_rest(one)) if several and board.variant else one
            for one in own
        ]
    return chart(
        "Faithfulness against the bits that name the circuit",
        "bits",
        "faithfulness",
        series,
        [(0.0, "empty circuit"), (1.0, "whole model")],
        (LOWEST, HIGHEST),
    )


def _variant(board: Board) -> str:
    """A board's variant in few words: `feature, dictionary othello6-k32`."""
    return board.variant.removeprefix("granularity ")


def _rest(one: Series) -> tuple[Any, ...]:
    return one.style, one.control, one.x, one.y, one.low, one.high


Points = tuple[
    Sequence[float], Sequence[float | None], Sequence[float | None], Sequence[float | None]
]


def _series(
    methods: Mapping[tuple[str, str], list[StoredCell]],
    points: Callable[[list[StoredCell]], Points],
    first: int = 0,
) -> list[Series]:
    ordered = sorted(methods.items(), key=lambda one: (one[0][0] == "control", one[0][1]))
    return [
        Series(method, (first + at) % len(COLOURS), role == "control", *points(cells))
        for at, ((role, method), cells) in enumerate(ordered)
    ]


def _by_share(cells: list[StoredCell], measure: str) -> Points:
    """Requested shares with means and intervals over seeds; sizes reached where searched for."""
    results = _results(cells)
    if any(map(has_targets, results)):
        return _of_points(cells, measure, lambda size, total: size / total)
    sizes, mean, low, high = band(cells, measure)
    return sizes, _defined(mean), _defined(low), _defined(high)


def _by_bits(cells: list[StoredCell]) -> Points:
    """Bits of the median size that remains, without sizes that leave nothing or everything."""
    return _of_points(cells, "faithfulness", bits)


def _of_points(cells: list[StoredCell], measure: str, place: Callable[[int, int], float]) -> Points:
    """Every size of the curve by its median size over seeds, the smallest first."""
    results = _results(cells)
    places = []
    for points in zip(*(result["curve"] for result in results), strict=False):
        values = [point[measure]["value"] for point in points]
        if None in values:
            continue
        size = median_low([point["size"] for point in points])
        places.append((place(size, total_of(results[0])), fmean(values)))
    places.sort()
    nothing = [None] * len(places)
    return [x for x, _ in places], [y for _, y in places], nothing, nothing


def _results(cells: Iterable[StoredCell]) -> list[Mapping[str, Any]]:
    return [cell.result for cell in cells if cell.result is not None]


def _defined(values: Iterable[float]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
