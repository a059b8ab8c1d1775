"""Size of the smallest circuits against the loss that they may have, a line for each arm."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from pathlib import Path
from statistics import fmean

from harness.circuits.drawing.palette import COLOURS, RULE
from harness.errors import HarnessError
from harness.reports.figures.paper import lettering, save, sheet
from harness.reports.frontier.smallest import Frontier, frontier
from harness.runs.store.models import ModelStore
from harness.runs.store.record import StoredCell

LOSSES = (0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5)
"""Nats at which circuits are asked for."""

PANEL = (5.2, 3.6)


def plot_frontier(
    cells: Sequence[StoredCell], models: ModelStore, path: Path, losses: Sequence[float] = LOSSES
) -> None:
    """A panel for each method: geometric means over the tasks and seeds that reach a loss.

    A point stands only where every cell of an arm reaches the loss, so that lines compare the same
    cells. Raises as `harness.reports.frontier`, and where no arm reaches any loss.
    """
    reached = [frontier(cells, models, at) for at in losses]
    first = reached[0]
    figure = sheet(PANEL[0] * len(first.methods), PANEL[1])
    drawn = 0
    for number, method in enumerate(first.methods, 1):
        axes = figure.add_subplot(1, len(first.methods), number)
        axes.set_title(lettering(method), fontsize="medium", loc="left", parse_math=False)
        for at, arm in enumerate(first.arms):
            points = [
                (one.at, size)
                for one in reached
                if (size := _size(one, method, arm.name)) is not None
            ]
            if not points:
                continue
            drawn += 1
            colour = COLOURS[at % len(COLOURS)]
            x, y = zip(*points, strict=True)
            axes.plot(x, y, color=colour, marker="osD^vPX"[at % 7], markersize=4)
            axes.annotate(
                lettering(arm.name),
                points[-1],
                xytext=(6, 0),
                textcoords="offset points",
                color=colour,
                fontsize="small",
                va="center",
                parse_math=False,
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(losses[0] / 1.1, losses[-1] * 1.1)
        axes.set_xticks(losses, [f"{at:g}" for at in losses], fontsize="small")
        axes.set_xticks([], minor=True)
        axes.set_xlabel("most task loss of a circuit (nats)")
        axes.set_ylabel(f"{first.unit} of the smallest circuits")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=RULE, linewidth=0.5)
    if not drawn:
        raise HarnessError("in no arm do all cells reach any of the losses; nothing to draw")
    save(figure, path)


def _size(reached: Frontier, method: str, arm: str) -> float | None:
    """The geometric mean; None where a cell does not reach the loss, or needs nothing."""
    sizes = [one.size for one in reached.of(method, arm).values()]
    if not sizes or not all(sizes):
        return None
    return exp(fmean(log(size) for size in sizes if size))
